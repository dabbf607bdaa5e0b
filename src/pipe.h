/* The pipe transports, shared by pipe.c, readpipe.c and writepipe.c. */
#ifndef HL_PIPE_H
#define HL_PIPE_H

#include "hotloop.h"
#include "spare.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* What tells a read pipe from a write pipe. */
typedef struct {
    const char *name;    /* for messages */
    const char *refusal; /* what descriptors of other kinds are answered */
    /* Whether the reading side is watched from the start, and what is called then. */
    bool (*watches)(const struct stat *status);
    HLOnReady on_readable;
} HLPipeKind;

struct HLPipe {
    PyObject_HEAD
    PyObject *extra;         /* owned: the slot _extra of asyncio.BaseTransport */
    HLState *st;             /* borrowed: lives as long as our types */
    HLLoop *loop;            /* owned; NULL once the connection is lost, like pipe and protocol */
    PyObject *pipe;          /* owned: the one owner of the descriptor */
    PyObject *protocol;      /* owned */
    PyObject *context;       /* owned, or NULL for an empty one: what reads run in */
    PyObject *write_context; /* the same of what is done when the descriptor is writable */
    PyObject *buffer;        /* owned: a bytearray of what is still to write, or NULL */
    const HLPipeKind *kind;  /* NULL until __init__() */
    HLPipe *next_open, **link; /* in the loop's list of open ones, or link is NULL */
    dev_t device;              /* these two: */
    ino_t inode;               /* to find others that share the blocking mode */
    Py_ssize_t high_water, low_water;
    Py_ssize_t max_size;  /* of what is read at once */
    Py_ssize_t conn_lost; /* how many writes failed or were dropped */
    int fd;
    bool closing, paused;
    bool losing; /* connection_lost() is scheduled, or was called */
    bool protocol_paused;
    bool was_blocking; /* to be put back */
};

/* ---- From pipe.c ---- */

/* The two __init__(loop, pipe, protocol, waiter=None, extra=None). */
int hl_pipe_init(HLPipe *self, const HLPipeKind *kind, PyObject *args, PyObject *kwargs);
/* Wait on that side of the descriptor, or no more. */
int hl_pipe_watch(HLPipe *self, HLSide side, HLOnReady on_ready);
int hl_pipe_unwatch(HLPipe *self, HLSide side);
/* The descriptor is ready: call on_ready in the context that was current when waiting began, if
   the transport still waits. */
int hl_pipe_on_ready(HLLoop *loop, PyObject *op, HLSide side, HLOnReady on_ready);
/* call_soon(object.name, arg), or without the argument for NULL; the transport must not be closed. */
int hl_pipe_schedule(HLPipe *self, PyObject *object, const char *name, PyObject *arg);
/* Stop reading, and have connection_lost(exc) called soon; exc may be NULL. */
int hl_pipe_end(HLPipe *self, PyObject *exc);
/* Call connection_lost(exc) and let go of everything. */
int hl_pipe_lose(HLPipe *self, PyObject *exc);
/* Take the exception that is set to _fatal_error(exc, message).  -1 only if it, or what came of
   that, has to leave the callback. */
int hl_pipe_fatal(HLPipe *self, const char *message);
/* logger.<method>(format, self) in debug mode. */
int hl_pipe_log(HLPipe *self, const char *method, const char *format);

static inline bool
hl_pipe_would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* Around a read or write: without the GIL where it may block, for who shares the file may have made
   it blocking. */
static inline PyThreadState *
hl_pipe_detach(const HLPipe *self)
{
    int flags = fcntl(self->fd, F_GETFL);
    return flags < 0 || (flags & O_NONBLOCK) ? NULL : PyEval_SaveThread();
}

static inline void
hl_pipe_attach(PyThreadState *saved)
{
    if (saved != NULL) {
        PyEval_RestoreThread(saved);
    }
}

/* ---- From readpipe.c and writepipe.c ---- */

int hl_read_pipe_tp_init(PyObject *self, PyObject *args, PyObject *kwargs);
int hl_write_pipe_tp_init(PyObject *self, PyObject *args, PyObject *kwargs);
extern PyMethodDef hl_read_pipe_methods[];
extern PyMethodDef hl_write_pipe_methods[];

#endif
