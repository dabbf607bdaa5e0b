/* The stream transport, shared by stream.c, the files stream*.c and server.c. */
#ifndef HL_STREAM_H
#define HL_STREAM_H

#include "hotloop.h"
#include "address.h"
#include "borrow.h"
#include "spare.h"
#include "writequeue.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

/* Who connected: getpeername() does not tell any more once the connection was reset. */
typedef struct {
    struct sockaddr_storage address;
    socklen_t length;
} HLPeer;

/* What the connections of one listener have in common. */
typedef struct {
    bool nodelay; /* they inherit TCP_NODELAY */
    struct sockaddr_storage address;
    socklen_t length;
    PyObject *name; /* owned, or NULL: the address on our side, of the last one */
} HLCommon;

struct HLStream {
    PyObject_HEAD
    PyObject *unused;       /* the slot of asyncio.BaseTransport */
    HLState *st;            /* borrowed: lives as long as our types */
    HLLoop *loop;           /* owned; NULL once the connection is lost, like sock and protocol */
    PyObject *sock;         /* owned: the one owner of the descriptor */
    PyObject *protocol;     /* owned */
    PyObject *server;       /* owned, or NULL: told when the connection is lost */
    PyObject *registration; /* owned, or NULL: our weak reference in the server's set */
    PyObject *extra;        /* owned, or NULL: the dict behind get_extra_info(), or these: */
    PyObject *sockname;     /* owned, or NULL */
    HLKnownAddress peer;    /* its object is made when asked for: see streaminfo.c */
    PyObject *closed_sock;  /* owned, or NULL: what sock was */
    PyObject *context;      /* owned, or NULL for an empty one: what reads run in */
    PyObject
        *write_context; /* owned, or NULL for an empty one: that of the first write in the queue */
    PyObject *empty_waiter; /* owned, or NULL: the future of a sendfile() in progress */
    const int *sock_fd;     /* where sock keeps its descriptor, or &fd if that is not known */
    HLWatch *watch;         /* NULL if the loop or another transport took it */
    HLStream *next_unflushed;
    uint64_t last_write;                  /* after how many of the loop's polls it came */
    unsigned int writes, expected_writes; /* since that poll; after the one before */
    HLWriteQueue queue;
    size_t high_water, low_water;
    size_t max_size;      /* of what data_received() gets at once */
    Py_ssize_t conn_lost; /* 0, or 1 + how many writes were dropped */
    int fd;
    bool made; /* __init__() is over; until then nothing ends the connection */
    bool closing, paused, eof;
    bool own_context; /* context was given: every callback of the protocol runs in it (3.15) */
    bool reads_much;  /* the last read did: see streamread.c */
    bool buffered;    /* protocol is an asyncio.BufferedProtocol */
    bool protocol_connected, protocol_paused;
    bool unflushed; /* in the loop's list, which owns a reference */
};

extern const int hl_stream_no_fd; /* -1: what sock_fd points to while there is no socket */

/* The descriptor, or -1 once the socket is closed, be it behind our back: its number may be
   another connection's by now. */
static inline int
hl_stream_fd(const HLStream *self)
{
    return *self->sock_fd;
}

/* After a system call on the descriptor failed: is there just nothing to be done now? */
static inline bool
hl_would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* Has the loop's debug mode been asked for? */
static inline bool
hl_stream_debug(const HLStream *self)
{
    return self->loop != NULL && self->loop->debug;
}

/* ---- From stream.c ---- */

/* Take the exception that is set to _fatal_error(exc, message).  -1 only if it, or what came of
   that, has to leave the loop. */
int hl_stream_fatal(HLStream *self, const char *message);
/* End the connection now; exc (or NULL) is what connection_lost() gets. */
int hl_stream_force_close(HLStream *self, PyObject *exc);
int hl_stream_close(HLStream *self);
/* Call connection_lost(exc) and let go of everything. */
int hl_stream_lose(HLStream *self, PyObject *exc);
/* logger.debug(format, self) in debug mode. */
int hl_stream_log(HLStream *self, const char *format);
/* Report the exception that is set as loop.call_exception_handler() is told of it. */
int hl_stream_report(HLStream *self, const char *message);

/* values: loop, sock, protocol, waiter, extra, server, context, as _make_socket_transport() takes
   them.  peer (or NULL) is known already; common (or NULL) as in hl_stream_ask_names(). */
int hl_stream_init(HLStream *self, PyObject **values, HLPeer *peer, HLCommon *common);
/* A transport of that type for an accepted connection, with the same values. */
PyObject *hl_stream_accept(HLState *st, PyObject *type, PyObject **values, HLPeer *peer,
                           HLCommon *common);

/* ---- From streaminfo.c ---- */

/* Ask for both addresses, unless peer is given, and for the descriptor's place.  *family is
   the address family, or AF_UNSPEC if fd is not known to be a socket. */
int hl_stream_ask_names(HLStream *self, HLPeer *peer, HLCommon *common, int *family);
/* A new reference; NULL, without an exception, if only the socket module can tell. */
PyObject *hl_stream_peer_object(HLPeer *peer);
void hl_stream_set_nodelay(HLStream *self, int family);
/* Does anybody else have the socket, and so might use it without asking? */
bool hl_stream_is_shared(const HLStream *self);
/* Have the addresses in that dict from now on. */
int hl_stream_use_extra(HLStream *self, PyObject *extra);
PyObject *hl_stream_get_extra(PyObject *op, void *closure);
int hl_stream_set_extra(PyObject *op, PyObject *value, void *closure);
extern PyMethodDef hl_stream_info_methods[];

/* ---- From server.c ---- */

/* server._attach(self) and server._detach(self).  *registration: what detach needs, or NULL. */
int hl_server_attach(HLState *st, PyObject *server, PyObject *stream, PyObject **registration);
int hl_server_detach(HLState *st, PyObject *server, PyObject *stream, PyObject *registration);

/* ---- From streamread.c ---- */

int hl_stream_set_protocol(HLStream *self, PyObject *protocol);
int hl_stream_start_reading(HLLoop *loop, PyObject *self);
extern PyMethodDef hl_stream_read_methods[];

/* ---- From streamsend.c ---- */

#define HL_FLUSH_SIZE (64 * 1024) /* queued data that is sent at once */
/* Not blocking whatever the mode: it is the open file's, which other processes may share. */
#define HL_SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)

/* What all that follows return: -1 only with a fatal exception. */

/* Hand to the kernel what write() has queued. */
int hl_stream_flush(HLStream *self);
/* The same now, or when the entry that runs now is done. */
int hl_stream_flush_in_time(HLStream *self);
void hl_stream_drop_queue(HLStream *self);
/* The descriptor is writable. */
int hl_stream_write_ready(HLLoop *loop, PyObject *op);
/* The exception that is set ends the connection. */
int hl_stream_sending_failed(HLStream *self);
/* shutdown(SHUT_WR).  -1 with an OSError. */
int hl_stream_shut_down(HLStream *self);
/* Call pause_writing() if too much is queued; resume_writing() if little is. */
int hl_stream_maybe_pause(HLStream *self);
int hl_stream_maybe_resume(HLStream *self);
/* End the future of a sendfile() in progress. */
int hl_stream_fail_waiter(HLStream *self, PyObject *exc);

/* ---- From streamwrite.c ---- */

extern PyMethodDef hl_stream_write_methods[];

#endif
