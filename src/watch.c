/* Watched descriptors: one uv_poll_t each, shared by all that wait for the same one.

   A watch has two sides, to read and to write.  What waits on a side is a Handle (add_reader(),
   add_writer()) or an object of the core with a function to call; the watch holds a reference to
   it.  Readiness only queues it: callbacks keep their turn, as in asyncio.

   A watch is plain memory, owned by the loop's table until uv_close(), then freed in the close
   callback.  It goes with the last side that is stopped, or when the descriptor's owner says
   so.  The descriptor stays its owner's: its blocking mode is left as it was (uvloop#712).

   A side that is left rather than stopped lets the watch rest for two polls more, because what
   waits on a socket mostly does so again at once.  Who does so time and again finds it armed.
   Its owner may close the descriptor meanwhile and never tell, and the number may come back as
   another socket: so only the socket object that armed a watch finds it armed.  What cannot be
   told is that a closed descriptor lives on in another process, where epoll goes on to watch it:
   in a process that forks nothing stays armed; those who pass a socket on otherwise do so after a
   wait or two, and until then nothing does either.

   The watch of a socket that is done with is parked: it stays in the table, out of everybody's
   sight, for the next socket by that number.  That spares the registration on trial and the
   mode's change that uv_poll_init() makes of each new one.

   What is done with the uv_poll_t is in watchpoll.c. */

#include "watchpoll.h"
#include <fcntl.h>

#define HL_RESTING_POLLS 2
#define HL_RESTS_DISARMED 4 /* so many rests of a socket are without events */
#define HL_PARKED_MAX 256   /* in a loop; the memory of more is given back */

static const int side_events[2] = {UV_READABLE, UV_WRITABLE};

static HLWatch *
watch_at(HLLoop *loop, int fd)
{
    return fd >= 0 && fd < loop->watches_size ? loop->watches[fd] : NULL;
}

static HLWatch *
find_watch(HLLoop *loop, int fd)
{
    HLWatch *watch = watch_at(loop, fd);
    return watch == NULL || watch->parked ? NULL : watch;
}

/* ---- Resting ---- */

static void
rest(HLWatch *watch)
{
    bool often = watch->rests >= HL_RESTS_DISARMED;
    watch->rests += !often;
    if (!often || watch->loop->st->has_forked) {
        hl_watch_disarm(watch);
    }
    watch->polls_rested = 0;
    if (!watch->resting) {
        watch->resting = true;
        watch->next_resting = watch->loop->resting;
        watch->loop->resting = watch;
    }
}

static void
unlink_resting(HLWatch *watch)
{
    HLWatch **link = &watch->loop->resting;
    while (watch->resting && *link != NULL) {
        if (*link == watch) {
            *link = watch->next_resting;
            watch->resting = false;
            return;
        }
        link = &(*link)->next_resting;
    }
}

void
hl_watch_end_all_rests(HLLoop *loop)
{
    for (HLWatch *watch = loop->resting; watch != NULL; watch = watch->next_resting) {
        if (hl_watch_wanted(watch) == 0 && watch->transport == NULL) {
            hl_watch_disarm(watch);
        }
    }
}

static void detach_watch(HLWatch *watch, bool may_park, PyObject *objects[3]);

void
hl_watch_end_rests(HLLoop *loop)
{
    HLWatch **link = &loop->resting;
    while (*link != NULL) {
        HLWatch *watch = *link;
        bool idle = hl_watch_wanted(watch) == 0 && watch->transport == NULL;
        if (idle && watch->polls_rested++ < HL_RESTING_POLLS) {
            link = &watch->next_resting;
            continue;
        }
        *link = watch->next_resting;
        watch->resting = false;
        if (idle) {
            PyObject *none[3];
            detach_watch(watch, true, none);
        }
    }
}

/* ---- Making and closing ---- */

static int
grow_table(HLLoop *loop, int fd)
{
    if (fd < loop->watches_size) {
        return 0;
    }
    int size = loop->watches_size > 0 ? loop->watches_size : 32;
    while (size <= fd) {
        size *= 2;
    }
    HLWatch **watches = PyMem_RawRealloc(loop->watches, (size_t)size * sizeof(HLWatch *));
    if (watches == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memset(watches + loop->watches_size, 0,
           (size_t)(size - loop->watches_size) * sizeof(HLWatch *));
    loop->watches = watches;
    loop->watches_size = size;
    return 0;
}

static HLWatch *
make_watch(HLLoop *loop, int fd)
{
    if (fcntl(fd, F_GETFL) < 0) { /* before libuv opens descriptors of its own */
        return (HLWatch *)PyErr_SetFromErrno(PyExc_OSError);
    }
    if (hl_poll_open(loop) < 0 || grow_table(loop, fd) < 0) {
        return NULL;
    }
    HLWatch *watch = PyMem_RawCalloc(1, sizeof(HLWatch));
    if (watch == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    watch->loop = loop;
    watch->fd = fd;
    if (hl_watch_open(watch) < 0) {
        PyMem_RawFree(watch);
        return NULL;
    }
    loop->watches[fd] = watch;
    return watch;
}

static void
unpark(HLWatch *watch)
{
    if (watch->parked) {
        watch->parked = false;
        watch->loop->watches_parked--;
    }
}

static void close_watch(HLWatch *watch, bool may_park);

/* The watch of fd, made if there is none. */
static HLWatch *
get_watch(HLLoop *loop, int fd, bool known_socket)
{
    HLWatch *watch = watch_at(loop, fd);
    if (watch == NULL) {
        return make_watch(loop, fd);
    }
    if (watch->parked && !known_socket && !hl_is_socket(fd)) {
        close_watch(watch, false); /* epoll takes every socket, but not every descriptor */
        return make_watch(loop, fd);
    }
    unpark(watch);
    return watch;
}

/* Keep the watch for another socket?  Not in a child: its parent's epoll must not hear of it. */
static bool
park(HLWatch *watch)
{
    HLLoop *loop = watch->loop;
    if (loop->watches_parked >= HL_PARKED_MAX || loop->pid != hl_process_id()) {
        return false;
    }
    hl_watch_disarm(watch);
    watch->transport = NULL;
    watch->claim = NULL;
    watch->rests = watch->polls_rested = 0;
    watch->parked = true;
    loop->watches_parked++;
    return true;
}

/* Take the watch out of the table, or park it.  The caller gives up what the sides hold, and the
   file, afterwards, when nothing of the watch is needed any more. */
static void
detach_watch(HLWatch *watch, bool may_park, PyObject *objects[3])
{
    HLLoop *loop = watch->loop;
    unpark(watch);
    for (int side = HL_READ; side <= HL_WRITE; side++) {
        objects[side] = watch->sides[side].object;
        watch->sides[side].object = NULL;
    }
    objects[2] = watch->file;
    watch->file = NULL;
    if (watch->claim != NULL) {
        *watch->claim = NULL;
    }
    hl_watch_unmark(watch);
    unlink_resting(watch);
    PyObject *armed_by = watch->armed_by;
    watch->armed_by = NULL;
    bool of_socket = watch->transport != NULL || armed_by != NULL;
    Py_XDECREF(armed_by); /* a weak reference: nothing runs */
    if (may_park && of_socket && park(watch)) {
        return;
    }
    loop->watches[watch->fd] = NULL;
    hl_watch_dispose(watch);
}

static void
close_watch(HLWatch *watch, bool may_park)
{
    PyObject *objects[3];
    detach_watch(watch, may_park, objects);
    Py_XDECREF(objects[HL_READ]);
    Py_XDECREF(objects[HL_WRITE]);
    Py_XDECREF(objects[2]);
}

void
hl_watch_close(HLLoop *loop, int fd)
{
    HLWatch *watch = watch_at(loop, fd);
    if (watch != NULL) {
        close_watch(watch, false);
    }
}

void
hl_watch_close_all(HLLoop *loop)
{
    loop->watches_parked = HL_PARKED_MAX; /* whatever runs meanwhile, none is kept */
    for (int fd = 0; fd < loop->watches_size; fd++) {
        if (loop->watches[fd] != NULL) {
            close_watch(loop->watches[fd], false);
        }
    }
    hl_watch_verify(loop);
    loop->watches_parked = 0;
    PyMem_RawFree(loop->watches);
    loop->watches = NULL;
    loop->watches_size = 0;
}

int
hl_watch_traverse(HLLoop *loop, visitproc visit, void *arg)
{
    for (int fd = 0; fd < loop->watches_size; fd++) {
        if (loop->watches[fd] != NULL) {
            Py_VISIT(loop->watches[fd]->sides[HL_READ].object);
            Py_VISIT(loop->watches[fd]->sides[HL_WRITE].object);
            Py_VISIT(loop->watches[fd]->file);
        }
    }
    return 0;
}

/* ---- Waiting ---- */

int
hl_watch_start(HLLoop *loop, int fd, HLSide side, PyObject *object, HLOnReady on_ready,
               PyObject **previous)
{
    HLWatch *watch = get_watch(loop, fd, false);
    if (watch == NULL) {
        return -1;
    }
    *previous = watch->sides[side].object;
    watch->sides[side] = (HLWatchSide){Py_NewRef(object), on_ready};
    Py_CLEAR(watch->armed_by);
    hl_watch_arm(watch); /* also if armed: the descriptor may be another one by that number */
    return 0;
}

int
hl_watch_start_socket(HLLoop *loop, int fd, HLSide side, PyObject *object, HLOnReady on_ready,
                      PyObject *socket_ref, PyObject **previous)
{
    HLWatch *watch = find_watch(loop, fd);
    bool same = watch != NULL && watch->armed_by == socket_ref;
    bool armed = same && (watch->armed & side_events[side]);
    if (!armed
        && (hl_loop_check_process(loop) < 0 || (watch = get_watch(loop, fd, true)) == NULL)) {
        return -1;
    }
    *previous = watch->sides[side].object;
    watch->sides[side] = (HLWatchSide){Py_NewRef(object), on_ready};
    if (!same) {
        Py_XSETREF(watch->armed_by, Py_NewRef(socket_ref));
        watch->rests = 0;
    }
    if (!armed) {
        hl_watch_arm(watch);
    }
    return 0;
}

PyObject *
hl_watch_stop(HLLoop *loop, int fd, HLSide side)
{
    HLWatch *watch = find_watch(loop, fd);
    PyObject *object = watch != NULL ? watch->sides[side].object : NULL;
    if (object == NULL) {
        return NULL;
    }
    watch->sides[side].object = NULL;
    if (hl_watch_wanted(watch) != 0 || watch->transport != NULL) {
        hl_watch_arm(watch);
    }
    else {
        PyObject *objects[3]; /* of the sides nothing is left */
        detach_watch(watch, true, objects);
        Py_XDECREF(objects[2]);
    }
    return object;
}

PyObject *
hl_watch_leave(HLLoop *loop, int fd, HLSide side)
{
    HLWatch *watch = find_watch(loop, fd);
    PyObject *object = watch != NULL ? watch->sides[side].object : NULL;
    if (object != NULL) {
        watch->sides[side].object = NULL;
        if (hl_watch_wanted(watch) == 0 && watch->transport == NULL) {
            rest(watch);
            Py_CLEAR(watch->file);
        }
    }
    return object;
}

PyObject *
hl_watch_waiting(HLLoop *loop, int fd, HLSide side)
{
    HLWatch *watch = find_watch(loop, fd);
    return watch != NULL ? watch->sides[side].object : NULL;
}

void
hl_watch_keep_file(HLLoop *loop, int fd, PyObject *file)
{
    HLWatch *watch = find_watch(loop, fd);
    if (watch != NULL) {
        Py_XSETREF(watch->file, Py_NewRef(file));
    }
}

int
hl_watch_of_file(HLLoop *loop, PyObject *file)
{
    for (int fd = 0; fd < loop->watches_size; fd++) {
        if (loop->watches[fd] != NULL && loop->watches[fd]->file == file) {
            return fd;
        }
    }
    return -1;
}

/* ---- Watches that a transport claims ---- */

int
hl_watch_claim(HLLoop *loop, int fd, bool known_socket, PyObject *transport, HLWatch **claim)
{
    HLWatch *watch = find_watch(loop, fd);
    if (watch != NULL) {
        close_watch(watch, true); /* of another descriptor by this number, closed since */
    }
    watch = get_watch(loop, fd, known_socket);
    if (watch == NULL) {
        return -1;
    }
    watch->transport = transport;
    watch->claim = claim;
    *claim = watch;
    return 0;
}

/* Does anybody but the transport wait?  Then its socket was closed behind its back, and theirs has
   the number now. */
static bool
has_others(const HLWatch *watch)
{
    for (int side = HL_READ; side <= HL_WRITE; side++) {
        PyObject *object = watch->sides[side].object;
        if (object != NULL && object != watch->transport) {
            return true;
        }
    }
    return false;
}

void
hl_watch_release(HLWatch *watch)
{
    if (watch != NULL && has_others(watch)) {
        *watch->claim = NULL;
        hl_watch_unset_both(watch);
        watch->transport = NULL;
        watch->claim = NULL;
    }
    else if (watch != NULL) {
        close_watch(watch, true);
    }
}

void
hl_watch_set(HLWatch *watch, HLSide side, PyObject *object, HLOnReady on_ready)
{
    if (watch == NULL || watch->loop->pid != hl_process_id()) {
        return; /* the parent's epoll must not hear of it */
    }
    PyObject *previous = watch->sides[side].object;
    watch->sides[side] = (HLWatchSide){Py_NewRef(object), on_ready};
    if (!(watch->armed & side_events[side])) {
        hl_watch_arm(watch);
    }
    Py_XDECREF(previous);
}

void
hl_watch_unset(HLWatch *watch, HLSide side)
{
    if (watch != NULL && watch->sides[side].object == watch->transport) {
        Py_CLEAR(watch->sides[side].object);
    }
}

void
hl_watch_unset_both(HLWatch *watch)
{
    hl_watch_unset(watch, HL_READ);
    hl_watch_unset(watch, HL_WRITE);
    if (watch != NULL && hl_watch_wanted(watch) == 0 && watch->loop->pid == hl_process_id()) {
        hl_watch_disarm(watch);
    }
}

bool
hl_watch_is_set(HLWatch *watch, HLSide side)
{
    return watch != NULL && watch->sides[side].object != NULL;
}

PyObject *
hl_watch_transport(HLLoop *loop, int fd)
{
    HLWatch *watch = find_watch(loop, fd);
    return watch != NULL ? watch->transport : NULL;
}
