/* Pipe transports: what loop.connect_read_pipe() and connect_write_pipe() give for pipes, FIFOs,
   terminals and sockets.  This file is their life and what the two have in common; reading is in
   readpipe.c, writing in writepipe.c.  What is seldom called is written in Python
   (hotloop/_pipes.py), in the subclasses that users get.

   States: open, closing (nothing is read or taken any more, what a write pipe has buffered is
   still written), losing (connection_lost() is scheduled), closed (pipe, protocol and loop are
   NULL).

   Owners: user code and protocols; the loop's watch while it waits for the descriptor; the ready
   ring.  A transport that all of them drop while it is open warns and closes its pipe.  The
   descriptor belongs to the Python pipe object, which is closed once.  Threads: the loop's.

   A read and a write transport may share one descriptor (a terminal), so they do not claim it
   but wait on it as add_reader() does.

   The blocking mode belongs to the open file, which other descriptors and other processes may
   share: what was blocking is put back at the end.  Where another transport of the loop shares
   the file (stdin and stdout, if both are the terminal), the last one puts it back. */

#include "pipe.h"

/* ---- Waiting ---- */

/* What waited for a descriptor does not any more.  Steals waiting, which may be NULL. */
static int
give_up(HLPipe *self, PyObject *waiting)
{
    int rc = waiting != NULL ? hl_reader_replaced(self->st, waiting) : 0;
    Py_XDECREF(waiting);
    return rc;
}

int
hl_pipe_watch(HLPipe *self, HLSide side, HLOnReady on_ready)
{
    PyObject *previous, *context;
    PyObject **kept = side == HL_READ ? &self->context : &self->write_context;
    if (hl_loop_check_closed(self->loop) < 0 || hl_loop_check_process(self->loop) < 0
        || hl_capture_context(&context) < 0) {
        return -1;
    }
    if (hl_watch_start(self->loop, self->fd, side, (PyObject *)self, on_ready, &previous) < 0) {
        Py_XDECREF(context);
        return -1;
    }
    Py_XSETREF(*kept, context);
    return give_up(self, previous);
}

int
hl_pipe_unwatch(HLPipe *self, HLSide side)
{
    HLLoop *loop = self->loop;
    if (loop == NULL || loop->pid != hl_process_id()) {
        return 0; /* a forked child must not touch the parent's epoll */
    }
    PyObject *waiting = hl_watch_waiting(loop, self->fd, side);
    /* As in asyncio, a reader that was added beside us goes as well; another transport does not. */
    if (waiting == NULL || (waiting != (PyObject *)self && !hl_is_handle(self->st, waiting))) {
        return 0;
    }
    return give_up(self, hl_watch_stop(loop, self->fd, side));
}

int
hl_pipe_on_ready(HLLoop *loop, PyObject *op, HLSide side, HLOnReady on_ready)
{
    HLPipe *self = (HLPipe *)op;
    PyObject **context = side == HL_READ ? &self->context : &self->write_context;
    if (self->loop != loop || hl_watch_waiting(loop, self->fd, side) != op) {
        return 0; /* stopped between the poll and now */
    }
    const char *method = side == HL_READ ? "_read_ready" : "_write_ready";
    return hl_handle_run_method(loop, op, on_ready, method, context);
}

/* ---- Trouble ---- */

int
hl_pipe_log(HLPipe *self, const char *method, const char *format)
{
    if (self->loop == NULL || !self->loop->debug) {
        return 0;
    }
    PyObject *done = PyObject_CallMethod(self->st->logger, method, "sO", format, self);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

int
hl_pipe_fatal(HLPipe *self, const char *message)
{
    if (hl_is_fatal()) {
        return -1;
    }
    PyObject *exc = hl_take_exception(), *outer = hl_enter_except(exc);
    PyObject *done = PyObject_CallMethod((PyObject *)self, "_fatal_error", "Os", exc, message);
    hl_leave_except(outer);
    Py_DECREF(exc);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* ---- The blocking mode ---- */

static int
set_nonblocking(HLPipe *self)
{
    int flags = fcntl(self->fd, F_GETFL);
    if (flags < 0 || (!(flags & O_NONBLOCK) && fcntl(self->fd, F_SETFL, flags | O_NONBLOCK) < 0)) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    self->was_blocking = !(flags & O_NONBLOCK);
    return 0;
}

/* The pipe's own descriptor, or -1 if it was closed behind our back. */
static int
fileno_of(PyObject *pipe)
{
    PyObject *number = PyObject_CallMethod(pipe, "fileno", NULL);
    long fd = number != NULL ? PyLong_AsLong(number) : -1;
    Py_XDECREF(number);
    if ((fd < 0 || fd > INT_MAX) && !PyErr_Occurred()) { /* a closed socket has -1 */
        errno = EBADF;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return (int)fd;
}

/* Another transport of the loop that uses the same open file, as is seen by its blocking mode:
   it was non-blocking, and now is not. */
static HLPipe *
find_sharer(HLPipe *self, HLLoop *loop)
{
    for (HLPipe *other = loop->pipes; other != NULL; other = other->next_open) {
        if (other != self && other->device == self->device && other->inode == self->inode) {
            int flags = fcntl(other->fd, F_GETFL);
            if (flags >= 0 && !(flags & O_NONBLOCK)) {
                return other;
            }
        }
    }
    return NULL;
}

static void
put_blocking_mode_back(HLPipe *self, PyObject *pipe)
{
    /* A forked child must not change what its parent still uses. */
    if (!self->was_blocking || self->loop == NULL || self->loop->pid != hl_process_id()) {
        return;
    }
    self->was_blocking = false;
    HLLoop *loop = (HLLoop *)Py_NewRef(self->loop);
    int flags = fileno_of(pipe) == self->fd ? fcntl(self->fd, F_GETFL) : -1;
    PyErr_Clear();
    if (flags >= 0 && fcntl(self->fd, F_SETFL, flags & ~O_NONBLOCK) == 0) {
        HLPipe *sharer = find_sharer(self, loop);
        if (sharer != NULL) {
            fcntl(sharer->fd, F_SETFL, flags | O_NONBLOCK);
            sharer->was_blocking = true;
        }
    }
    Py_DECREF(loop);
}

static void
link_open(HLPipe *self)
{
    HLPipe **link = &self->loop->pipes;
    self->next_open = *link;
    if (*link != NULL) {
        (*link)->link = &self->next_open;
    }
    *link = self;
    self->link = link;
}

static void
unlink_open(HLPipe *self)
{
    if (self->link != NULL) {
        *self->link = self->next_open;
        if (self->next_open != NULL) {
            self->next_open->link = self->link;
        }
        self->link = NULL;
    }
}

/* ---- The end ---- */

int
hl_pipe_schedule(HLPipe *self, PyObject *object, const char *name, PyObject *arg)
{
    HLLoop *loop = (HLLoop *)Py_NewRef(self->loop);
    PyObject *method = PyObject_GetAttrString(object, name);
    int rc = method != NULL ? hl_loop_schedule(loop, method, &arg, arg != NULL, NULL) : -1;
    Py_XDECREF(method);
    Py_DECREF(loop);
    return rc;
}

int
hl_pipe_end(HLPipe *self, PyObject *exc)
{
    self->closing = true;
    if (hl_pipe_unwatch(self, HL_READ) < 0) {
        return -1;
    }
    if (self->losing || self->loop == NULL) {
        return 0;
    }
    int rc = hl_pipe_schedule(self, (PyObject *)self, "_call_connection_lost", hl_or_none(exc));
    self->losing = rc == 0;
    return rc;
}

static int
close_pipe(HLPipe *self)
{
    PyObject *pipe = self->pipe;
    self->pipe = NULL;
    int rc = hl_pipe_unwatch(self, HL_READ) < 0 || hl_pipe_unwatch(self, HL_WRITE) < 0 ? -1 : 0;
    if (pipe == NULL) {
        return rc;
    }
    PyObject *raised = hl_take_exception();
    put_blocking_mode_back(self, pipe);
    unlink_open(self);
    PyObject *done = PyObject_CallMethodNoArgs(pipe, self->st->name.close);
    Py_DECREF(pipe);
    Py_XDECREF(done);
    if (raised != NULL) {
        hl_give_exception(raised);
    }
    return done != NULL ? rc : -1;
}

int
hl_pipe_lose(HLPipe *self, PyObject *exc)
{
    if (self->pipe == NULL || self->protocol == NULL) {
        return 0;
    }
    self->closing = self->losing = true;
    PyObject *protocol = Py_NewRef(self->protocol);
    PyObject *done = PyObject_CallMethodOneArg(protocol, self->st->name.connection_lost,
                                               hl_or_none(exc));
    Py_DECREF(protocol);
    Py_XDECREF(done);
    PyObject *raised = hl_take_exception();
    int rc = close_pipe(self);
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->loop);
    if (raised != NULL) {
        hl_give_exception(raised);
        rc = -1;
    }
    return rc;
}

/* ---- Making ---- */

/* Look what descriptor it is.  -1 if none that a pipe transport is for. */
static int
open_descriptor(HLPipe *self, struct stat *status)
{
    self->fd = fileno_of(self->pipe);
    if (self->fd < 0) {
        return -1;
    }
    if (fstat(self->fd, status) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    if (!S_ISFIFO(status->st_mode) && !S_ISSOCK(status->st_mode) && !S_ISCHR(status->st_mode)) {
        PyErr_SetString(PyExc_ValueError, self->kind->refusal);
        return -1;
    }
    self->device = status->st_dev;
    self->inode = status->st_ino;
    return set_nonblocking(self);
}

/* What a strange pipe does in __init__() may even end the connection. */
static int
check_open(HLPipe *self)
{
    if (self->loop != NULL) {
        return 0;
    }
    PyErr_SetString(PyExc_RuntimeError, "the connection was lost while its transport was made");
    return -1;
}

/* connection_made() first, then reading, then the waiter: each in its turn. */
static int
schedule_start(HLPipe *self, const struct stat *status, PyObject *waiter)
{
    PyObject *op = (PyObject *)self;
    if (hl_pipe_schedule(self, self->protocol, "connection_made", op) < 0 || check_open(self) < 0
        || (self->kind->watches(status)
            && hl_pipe_schedule(self, op, "_start_watching", NULL) < 0)) {
        return -1;
    }
    if (waiter == NULL || waiter == Py_None || check_open(self) < 0) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *set_result[2] = {waiter, Py_None};
    return hl_loop_schedule(self->loop, self->st->set_result_unless_cancelled, set_result, 2,
                            NULL);
}

/* values: as hl_pipe_init() names them. */
static int
pipe_open(HLPipe *self, PyObject **values)
{
    struct stat status;
    bool given = values[4] != NULL && values[4] != Py_None;
    PyObject *extra = given ? Py_NewRef(values[4]) : PyDict_New();
    Py_XSETREF(self->extra, extra);
    if (extra == NULL || PyObject_SetItem(extra, self->st->name.pipe, values[1]) < 0) {
        return -1;
    }
    self->loop = (HLLoop *)Py_NewRef(values[0]);
    self->pipe = Py_NewRef(values[1]);
    self->protocol = Py_NewRef(values[2]);
    if (hl_adopt_reader(self->loop, self->protocol) < 0 || check_open(self) < 0
        || open_descriptor(self, &status) < 0 || check_open(self) < 0) {
        return -1;
    }
    self->closing = self->losing = false;
    link_open(self);
    return schedule_start(self, &status, values[3]);
}

/* What could not be opened stays the caller's. */
static void
pipe_abandon(HLPipe *self)
{
    PyObject *raised = hl_take_exception();
    self->closing = self->losing = true;
    if (self->pipe != NULL) {
        put_blocking_mode_back(self, self->pipe);
    }
    unlink_open(self);
    Py_CLEAR(self->pipe);
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->loop);
    hl_give_exception(raised);
}

int
hl_pipe_init(HLPipe *self, const HLPipeKind *kind, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"loop", "pipe", "protocol", "waiter", "extra", NULL};
    HLParameters parameters = {kind->name, names, 5, 3};
    PyObject *values[5];
    if (hl_parse_init(&parameters, args, kwargs, values) < 0) {
        return -1;
    }
    if (self->kind != NULL || !hl_is_loop(self->st, values[0])) {
        PyErr_SetString(PyExc_TypeError, "a new transport of a hotloop loop was expected");
        return -1;
    }
    if (hl_loop_check_closed((HLLoop *)values[0]) < 0
        || hl_loop_check_process((HLLoop *)values[0]) < 0) {
        return -1;
    }
    self->kind = kind;
    if (pipe_open(self, values) < 0) {
        pipe_abandon(self);
        return -1;
    }
    return 0;
}

static PyObject *
pipe_tp_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    HLState *st = hl_state_of_type(type);
    HLPipe *self = st != NULL ? (HLPipe *)type->tp_alloc(type, 0) : NULL;
    if (self != NULL) {
        self->st = st;
        self->fd = -1;
        self->closing = self->losing = true; /* until __init__() */
        self->high_water = 64 * 1024;
        self->low_water = 16 * 1024;
        self->max_size = HL_READ_MAX;
    }
    return (PyObject *)self;
}

/* ---- Methods ---- */

static PyObject *
pipe_start_watching(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    HLPipe *self = (HLPipe *)op;
    if (self->losing || self->paused) { /* a closing one with data to write goes on */
        Py_RETURN_NONE;
    }
    /* What is there already comes in the next turn, as in asyncio: the transport that this one takes
       over from may be closed in the turn after it (asyncssh's redirect_stdin()). */
    hl_poll_soon(self->loop);
    return hl_none_or_error(hl_pipe_watch(self, HL_READ, self->kind->on_readable));
}

static PyObject *
pipe_call_connection_lost(PyObject *op, PyObject *exc)
{
    return hl_none_or_error(hl_pipe_lose((HLPipe *)op, exc));
}

static PyObject *
pipe_is_closing(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((HLPipe *)op)->closing);
}

static PyObject *
pipe_set_protocol(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *protocol = hl_parse_one("set_protocol", "protocol", args, nargs, kwnames);
    if (protocol == NULL) {
        return NULL;
    }
    Py_XSETREF(((HLPipe *)op)->protocol, Py_NewRef(protocol));
    Py_RETURN_NONE;
}

static PyObject *
pipe_get_protocol(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    PyObject *protocol = ((HLPipe *)op)->protocol;
    return Py_NewRef(hl_or_none(protocol));
}

static PyMethodDef pipe_methods[] = {
    {"is_closing", pipe_is_closing, METH_NOARGS,
     "is_closing($self, /)\n--\n\nReturn True once the transport is closing or closed."},
    {"set_protocol", (PyCFunction)(void (*)(void))pipe_set_protocol, METH_FASTCALL | METH_KEYWORDS,
     "set_protocol($self, /, protocol)\n--\n\nHave another protocol called."},
    {"get_protocol", pipe_get_protocol, METH_NOARGS,
     "get_protocol($self, /)\n--\n\nReturn the protocol that is called now."},
    {"_start_watching", pipe_start_watching, METH_NOARGS,
     "_start_watching($self, /)\n--\n\nWait for data, or for the reader to go."},
    {"_call_connection_lost", pipe_call_connection_lost, METH_O,
     "_call_connection_lost($self, exc, /)\n--\n\nTell the protocol, and close the pipe."},
    {NULL, NULL, 0, NULL},
};

/* Attributes that programs read of asyncio's transports. */
#define COMMON_MEMBERS                                                                           \
    {"_loop", T_OBJECT, offsetof(HLPipe, loop), READONLY, NULL},                                 \
        {"_pipe", T_OBJECT, offsetof(HLPipe, pipe), READONLY, NULL},                             \
        {"_protocol", T_OBJECT, offsetof(HLPipe, protocol), READONLY, NULL},                     \
        {"_fileno", T_INT, offsetof(HLPipe, fd), READONLY, NULL},                                \
        {"_closing", T_BOOL, offsetof(HLPipe, closing), READONLY, NULL}

static PyMemberDef read_pipe_members[] = {
    COMMON_MEMBERS,
    {"_paused", T_BOOL, offsetof(HLPipe, paused), READONLY, NULL},
    {"max_size", T_PYSSIZET, offsetof(HLPipe, max_size), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMemberDef write_pipe_members[] = {
    COMMON_MEMBERS,
    {"_conn_lost", T_PYSSIZET, offsetof(HLPipe, conn_lost), READONLY, NULL},
    {"_protocol_paused", T_BOOL, offsetof(HLPipe, protocol_paused), READONLY, NULL},
    {"_high_water", T_PYSSIZET, offsetof(HLPipe, high_water), 0, NULL},
    {"_low_water", T_PYSSIZET, offsetof(HLPipe, low_water), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

/* ---- Life ---- */

static int
pipe_tp_traverse(PyObject *op, visitproc visit, void *arg)
{
    HLPipe *self = (HLPipe *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->extra);
    Py_VISIT(self->loop);
    Py_VISIT(self->pipe);
    Py_VISIT(self->protocol);
    Py_VISIT(self->context);
    Py_VISIT(self->write_context);
    return 0;
}

static int
pipe_tp_clear(PyObject *op)
{
    HLPipe *self = (HLPipe *)op;
    unlink_open(self);
    self->closing = self->losing = true;
    Py_CLEAR(self->extra);
    Py_CLEAR(self->pipe);
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->context);
    Py_CLEAR(self->write_context);
    Py_CLEAR(self->buffer);
    Py_CLEAR(self->loop);
    return 0;
}

static void
pipe_tp_finalize(PyObject *op)
{
    HLPipe *self = (HLPipe *)op;
    if (self->pipe == NULL) {
        return;
    }
    PyObject *pending = hl_take_exception();
    if (PyErr_ResourceWarning(op, 1, "unclosed transport %R", op) < 0) {
        PyErr_WriteUnraisable(op);
    }
    if (close_pipe(self) < 0) {
        PyErr_WriteUnraisable(op);
    }
    hl_give_exception(pending);
}

static void
pipe_tp_dealloc(PyObject *op)
{
    if (PyObject_CallFinalizerFromDealloc(op) < 0) {
        return;
    }
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    Py_TRASHCAN_BEGIN(op, pipe_tp_dealloc) pipe_tp_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
    Py_TRASHCAN_END
}

#define COMMON_SLOTS                                                                             \
    {Py_tp_new, pipe_tp_new}, {Py_tp_methods, pipe_methods},                                     \
        {Py_tp_traverse, pipe_tp_traverse}, {Py_tp_clear, pipe_tp_clear},                        \
        {Py_tp_finalize, pipe_tp_finalize}, {Py_tp_dealloc, pipe_tp_dealloc}

static PyType_Slot read_pipe_slots[] = {
    {Py_tp_doc, "The core of hotloop's transport for the reading end of a pipe."},
    {Py_tp_init, hl_read_pipe_tp_init},
    {Py_tp_members, read_pipe_members},
    COMMON_SLOTS,
    {0, NULL},
};

static PyType_Slot write_pipe_slots[] = {
    {Py_tp_doc, "The core of hotloop's transport for the writing end of a pipe."},
    {Py_tp_init, hl_write_pipe_tp_init},
    {Py_tp_members, write_pipe_members},
    COMMON_SLOTS,
    {0, NULL},
};

#define PIPE_FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC)

static PyType_Spec read_pipe_spec = {
    "hotloop._core.ReadPipe", sizeof(HLPipe), 0, PIPE_FLAGS, read_pipe_slots,
};

static PyType_Spec write_pipe_spec = {
    "hotloop._core.WritePipe", sizeof(HLPipe), 0, PIPE_FLAGS, write_pipe_slots,
};

static int
setup_type(PyObject *module, PyType_Spec *spec, PyObject *base, PyMethodDef *methods)
{
    if (((PyTypeObject *)base)->tp_basicsize != (Py_ssize_t)offsetof(HLPipe, st)) {
        PyErr_SetString(PyExc_ImportError, "asyncio's transports are not as hotloop knows them");
        return -1;
    }
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, base);
    int rc = type == NULL || hl_type_add_methods(type, methods) < 0
                     || PyModule_AddType(module, type) < 0
                 ? -1
                 : 0;
    Py_XDECREF(type);
    return rc;
}

int
hl_pipe_setup(PyObject *module, HLState *st)
{
    /* asyncio's write pipe is a Transport as well, by way of its flow control. */
    return setup_type(module, &read_pipe_spec, st->StockReadTransport, hl_read_pipe_methods) < 0
                   || setup_type(module, &write_pipe_spec, st->StockTransport,
                                 hl_write_pipe_methods)
                          < 0
               ? -1
               : 0;
}
