/* Watched descriptors, for whatever waits on them.  A part of hotloop.h. */
#ifndef HL_WATCH_H
#define HL_WATCH_H

typedef enum { HL_READ, HL_WRITE } HLSide;

/* Queue object whenever fd is ready on that side, from now until it is stopped; on_ready is then
   called with it (NULL: it is a Handle).  *previous: the reference to what waited there before,
   or NULL.  The descriptor is registered anew. */
int hl_watch_start(HLLoop *loop, int fd, HLSide side, PyObject *object, HLOnReady on_ready,
                   PyObject **previous);
/* The same as hl_watch_start() for a socket object: registered anew only if another socket, or
   nobody, armed the descriptor.  socket_ref: the socket's weak reference without callback, of
   which there is but one.  The caller has just seen that fd is a socket. */
int hl_watch_start_socket(HLLoop *loop, int fd, HLSide side, PyObject *object, HLOnReady on_ready,
                          PyObject *socket_ref, PyObject **previous);
/* Stop; the caller gets the watch's reference to what waited there, or NULL. */
PyObject *hl_watch_stop(HLLoop *loop, int fd, HLSide side);
/* The same, but the watch may rest for a while, see watch.c. */
PyObject *hl_watch_leave(HLLoop *loop, int fd, HLSide side);
/* What waits there.  Borrowed, or NULL. */
PyObject *hl_watch_waiting(HLLoop *loop, int fd, HLSide side);
/* Keep the file that fd is of while it is watched, as selectors do; and find the descriptor of one
   that was closed since, or -1. */
void hl_watch_keep_file(HLLoop *loop, int fd, PyObject *file);
int hl_watch_of_file(HLLoop *loop, PyObject *file);

/* A transport (borrowed) owns fd from now on: whatever was known of fd is forgotten, and *watch
   is its own watch until the transport releases it before it closes fd.  *watch becomes NULL
   when the loop closes or another transport claims fd; with NULL, the calls do nothing.
   known_socket: fd is sure to be a socket's. */
int hl_watch_claim(HLLoop *loop, int fd, bool known_socket, PyObject *transport, HLWatch **watch);
void hl_watch_release(HLWatch *watch);
/* Queue object whenever the descriptor is ready on that side, until it is unset. */
void hl_watch_set(HLWatch *watch, HLSide side, PyObject *object, HLOnReady on_ready);
/* The descriptor stays registered until it is ready with nobody waiting, so that reading can be
   paused and resumed at no cost. */
void hl_watch_unset(HLWatch *watch, HLSide side);
/* Both sides, and the descriptor is registered no more: its file may outlive it elsewhere. */
void hl_watch_unset_both(HLWatch *watch);
bool hl_watch_is_set(HLWatch *watch, HLSide side);
/* The transport that owns fd.  Borrowed, or NULL. */
PyObject *hl_watch_transport(HLLoop *loop, int fd);

/* Forget whatever was watched by that number. */
void hl_watch_close(HLLoop *loop, int fd);
void hl_watch_close_all(HLLoop *loop);
/* Before a poll: let go of what has rested for long enough. */
void hl_watch_end_rests(HLLoop *loop);
/* Before a fork: have nothing registered that nobody waits for. */
void hl_watch_end_all_rests(HLLoop *loop);
/* Just before uv_run(): do what was postponed, and see that no descriptor was closed behind our back
   since it was armed.  libuv would abort. */
void hl_watch_verify(HLLoop *loop);
/* Before a poll without the GIL, which another thread may use to close a descriptor: have what was
   armed registered.  Whether that was a poll already: it has found something ready. */
bool hl_watch_register(HLLoop *loop);
int hl_watch_traverse(HLLoop *loop, visitproc visit, void *arg);
extern PyMethodDef hl_reader_methods[];
extern PyMethodDef hl_select_methods[];
/* Something else waits in place of object now, or nothing: cancel it, if it is a Handle. */
int hl_reader_replaced(HLState *st, PyObject *object);

#endif
