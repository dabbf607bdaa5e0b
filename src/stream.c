/* Stream transports: sockets of any family that carry a stream of bytes.  This file is their life
   and their face; reading is in streamread.c, writing in streamwrite.c and streamsend.c.  What is
   seldom called is written in Python (hotloop/_transports.py), in the subclass that users get.

   States: open, closing (close() was called, or the connection failed: nothing is read any more,
   what is queued is still written), lost (conn_lost > 0: connection_lost() is scheduled, nothing
   is written any more), closed (sock, protocol and loop are NULL).

   Owners: user code and protocols; the loop's watch while it waits for the descriptor; the ready
   ring; the loop's list of transports to flush.  A transport that all of them drop while it is
   open warns and closes its socket.  The descriptor belongs to the Python socket object, which
   is closed once, after the watch is released.  Threads: the loop's. */

#include "stream.h"

const int hl_stream_no_fd = -1;

/* ---- Ending a connection ---- */

int
hl_stream_log(HLStream *self, const char *format)
{
    if (!hl_stream_debug(self)) {
        return 0;
    }
    PyObject *done = PyObject_CallMethod(self->st->logger, "debug", "sO", format, self);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

int
hl_stream_report(HLStream *self, const char *message)
{
    if (hl_is_fatal()) {
        return -1;
    }
    PyObject *exc = hl_take_exception();
    PyObject *done = NULL;
    PyObject *context = Py_BuildValue("{sssOsOsO}", "message", message, "exception", exc,
                                      "transport", self, "protocol", hl_or_none(self->protocol));
    if (context != NULL && self->loop != NULL) {
        PyObject *outer = hl_enter_except(exc);
        done = PyObject_CallMethodOneArg((PyObject *)self->loop,
                                         self->st->name.call_exception_handler, context);
        hl_leave_except(outer);
    }
    Py_XDECREF(context);
    Py_XDECREF(done);
    Py_XDECREF(exc);
    return done != NULL || !PyErr_Occurred() ? 0 : -1;
}

int
hl_stream_fatal(HLStream *self, const char *message)
{
    if (hl_is_fatal()) {
        return -1;
    }
    PyObject *exc = hl_take_exception(), *outer = hl_enter_except(exc);
    PyObject *text = PyUnicode_FromString(message);
    PyObject *args[3] = {(PyObject *)self, exc, text};
    PyObject *done = text == NULL
                         ? NULL
                         : PyObject_VectorcallMethod(self->st->name._fatal_error, args, 3, NULL);
    hl_leave_except(outer);
    Py_DECREF(exc);
    Py_XDECREF(text);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* The context that every callback of the protocol runs in, or NULL: each in the current one. */
static PyObject *
given_context(HLStream *self)
{
    return self->own_context ? self->context : NULL;
}

static int
schedule_connection_lost(HLStream *self, PyObject *exc)
{
    PyObject *method = PyObject_GetAttr((PyObject *)self, self->st->name._call_connection_lost);
    if (method == NULL) {
        return -1;
    }
    PyObject *arg = hl_or_none(exc);
    int rc = hl_loop_schedule(self->loop, method, &arg, 1, given_context(self));
    Py_DECREF(method);
    return rc;
}

int
hl_stream_force_close(HLStream *self, PyObject *exc)
{
    if (self->conn_lost) {
        return 0;
    }
    if (hl_stream_flush(self) < 0) {
        return -1;
    }
    if (self->conn_lost) {
        return 0; /* the flush failed */
    }
    hl_stream_drop_queue(self);
    hl_watch_unset_both(self->watch);
    self->closing = true;
    self->conn_lost++;
    return schedule_connection_lost(self, exc);
}

int
hl_stream_close(HLStream *self)
{
    if (self->closing) {
        return 0;
    }
    if (hl_stream_flush(self) < 0) {
        return -1;
    }
    if (self->closing) {
        return 0; /* the flush failed */
    }
    self->closing = true;
    if (self->queue.size > 0) {
        hl_watch_unset(self->watch, HL_READ);
        return 0;
    }
    self->conn_lost++;
    hl_watch_unset_both(self->watch);
    return schedule_connection_lost(self, NULL);
}

static int
detach_from_server(HLStream *self)
{
    PyObject *server = self->server, *registration = self->registration;
    if (server == NULL) {
        return 0;
    }
    self->server = self->registration = NULL;
    int rc = hl_server_detach(self->st, server, (PyObject *)self, registration);
    Py_DECREF(server);
    Py_XDECREF(registration);
    return rc;
}

static int
close_socket(HLStream *self)
{
    PyObject *sock = self->sock;
    hl_watch_release(self->watch);
    if (sock == NULL) {
        return 0;
    }
    self->sock = NULL;
    self->sock_fd = &hl_stream_no_fd;
    int rc = hl_socket_close(self->st, sock);
    if (self->extra == NULL) {
        Py_XSETREF(self->closed_sock, Py_NewRef(sock)); /* get_extra_info() still shows it */
    }
    Py_DECREF(sock);
    return rc;
}

/* After a step that must not keep the next ones from being done: the first exception counts. */
static void
keep_first(PyObject **raised, int rc)
{
    PyObject *exc = rc < 0 ? hl_take_exception() : NULL;
    if (*raised == NULL) {
        *raised = exc;
    }
    else {
        Py_XDECREF(exc);
    }
}

static int
fail_sendfile(HLStream *self)
{
    if (self->empty_waiter == NULL) {
        return 0;
    }
    PyObject *error = PyObject_CallFunction(PyExc_ConnectionError, "s",
                                            "Connection is closed by peer");
    int rc = error != NULL ? hl_stream_fail_waiter(self, error) : -1;
    Py_XDECREF(error);
    return rc;
}

int
hl_stream_lose(HLStream *self, PyObject *exc)
{
    int rc = 0;
    self->closing = true;
    self->conn_lost += self->conn_lost == 0;
    if (self->protocol_connected && self->protocol != NULL) {
        PyObject *protocol = Py_NewRef(self->protocol);
        PyObject *done = PyObject_CallMethodOneArg(protocol, self->st->name.connection_lost,
                                                   hl_or_none(exc));
        rc = done != NULL ? 0 : -1;
        Py_DECREF(protocol);
        Py_XDECREF(done);
    }
    PyObject *raised = hl_take_exception();
    keep_first(&raised, close_socket(self));
    hl_stream_drop_queue(self);
    Py_CLEAR(self->protocol);
    keep_first(&raised, detach_from_server(self));
    keep_first(&raised, fail_sendfile(self));
    Py_CLEAR(self->loop);
    if (raised != NULL) {
        hl_give_exception(raised);
        rc = -1;
    }
    return rc;
}

/* ---- Making ---- */

/* asyncio's _set_result_unless_cancelled(waiter, None) as an entry without a Handle, which is made
   only to tell of somebody who has set a result before us. */
static int
on_made(HLLoop *loop, PyObject *waiter)
{
    HLFutureState state = hl_future(waiter)->state;
    if (state != HL_FINISHED) {
        return state == HL_CANCELLED ? 0 : hl_future_set_result(waiter, Py_None);
    }
    PyObject *args[2] = {waiter, Py_None};
    PyObject *handle = hl_handle_new(loop, loop->st->set_result_unless_cancelled, args, 2, NULL);
    int rc = handle != NULL ? hl_handle_run(handle, loop) : -1;
    Py_XDECREF(handle);
    return rc;
}

static int
schedule_waiter(HLStream *self, PyObject *waiter)
{
    HLLoop *loop = self->loop;
    if (hl_loop_is_plain(loop) && Py_IS_TYPE(waiter, self->st->FutureType)
        && hl_future(waiter)->loop == (PyObject *)loop) {
        return hl_loop_push_io(loop, waiter, on_made);
    }
    PyObject *set_result[2] = {waiter, Py_None};
    return hl_loop_schedule(loop, self->st->set_result_unless_cancelled, set_result, 2,
                            given_context(self));
}

/* connection_made() first, then reading, then the waiter: each in its turn. */
static int
schedule_start(HLStream *self, PyObject *waiter)
{
    PyObject *made = PyObject_GetAttr(self->protocol, self->st->name.connection_made);
    if (made == NULL) {
        return -1;
    }
    PyObject *op = (PyObject *)self;
    int rc = hl_loop_schedule(self->loop, made, &op, 1, given_context(self));
    Py_DECREF(made);
    if (rc < 0 || (!self->own_context && hl_capture_context(&self->context) < 0)
        || hl_loop_push_io(self->loop, (PyObject *)self, hl_stream_start_reading) < 0) {
        return -1;
    }
    self->made = true;
    return waiter == NULL || waiter == Py_None ? 0 : schedule_waiter(self, waiter);
}

static PyObject *
not_none(PyObject *value)
{
    return value == Py_None ? NULL : Py_XNewRef(value);
}

int
hl_stream_init(HLStream *self, PyObject **values, HLPeer *peer, HLCommon *common)
{
    int family;
    self->loop = (HLLoop *)Py_NewRef(values[0]);
    self->sock = Py_NewRef(values[1]);
    self->context = not_none(values[6]);
    self->own_context = self->context != NULL;
    self->fd = hl_socket_fileno(self->st, self->sock);
    if (self->fd < 0 || hl_stream_ask_names(self, peer, common, &family) < 0) {
        return -1;
    }
    if (values[4] != NULL && PyDict_Check(values[4]) && hl_stream_use_extra(self, values[4]) < 0) {
        return -1;
    }
    if (hl_adopt_reader(self->loop, values[2]) < 0
        || hl_stream_set_protocol(self, values[2]) < 0) {
        return -1;
    }
    if (hl_watch_claim(self->loop, self->fd, family != AF_UNSPEC, (PyObject *)self, &self->watch)
        < 0) {
        return -1;
    }
    self->server = not_none(values[5]);
    if (self->server != NULL
        && hl_server_attach(self->st, self->server, (PyObject *)self, &self->registration) < 0) {
        Py_CLEAR(self->server);
        return -1;
    }
    if (common == NULL || !common->nodelay) {
        hl_stream_set_nodelay(self, family);
    }
    self->closing = false;
    self->conn_lost = 0;
    return schedule_start(self, values[3]);
}

static int stream_tp_clear(PyObject *op);

/* After hl_stream_init() failed: the socket stays the caller's. */
static void
undo_init(HLStream *self)
{
    PyObject *raised = hl_take_exception();
    if (detach_from_server(self) < 0) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    stream_tp_clear((PyObject *)self);
    hl_give_exception(raised);
}

static int
stream_tp_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"loop",  "sock",   "protocol", "waiter",
                                        "extra", "server", "context",  NULL};
    static const HLParameters parameters = {"SocketTransport", names, 7, 3};
    HLStream *self = (HLStream *)op;
    PyObject *values[7];
    if (hl_parse_init(&parameters, args, kwargs, values) < 0) {
        return -1;
    }
    if (self->loop != NULL || self->sock != NULL || self->extra != NULL || self->sockname != NULL
        || !hl_is_loop(self->st, values[0])) {
        PyErr_SetString(PyExc_TypeError, "a new transport of a hotloop loop was expected");
        return -1;
    }
    if (values[6] != NULL && values[6] != Py_None && !PyContext_CheckExact(values[6])) {
        PyErr_Format(PyExc_TypeError, "a Context was expected, not %R", values[6]);
        return -1;
    }
    if (hl_loop_check_closed((HLLoop *)values[0]) < 0
        || hl_loop_check_process((HLLoop *)values[0]) < 0) {
        return -1;
    }
    if (hl_stream_init(self, values, NULL, NULL) < 0) {
        undo_init(self);
        return -1;
    }
    return 0;
}

static PyObject *
stream_tp_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    HLState *st = hl_state_of_type(type);
    HLStream *self = st != NULL ? (HLStream *)type->tp_alloc(type, 0) : NULL;
    if (self != NULL) {
        self->st = st;
        self->fd = -1;
        self->sock_fd = &hl_stream_no_fd;
        self->closing = true; /* until __init__() */
        self->conn_lost = 1;
        self->high_water = 64 * 1024;
        self->low_water = 16 * 1024;
        self->max_size = HL_READ_MAX;
    }
    return (PyObject *)self;
}

/* A type with a mind of its own is called, as it would be by loop._make_socket_transport(). */
static PyObject *
call_type(HLState *st, PyObject *type, PyObject **values, HLPeer *peer)
{
    PyObject *args[7], *transport = NULL, *extra = PyDict_New();
    PyObject *peername = extra != NULL ? hl_stream_peer_object(peer) : NULL;
    if (peername != NULL ? PyDict_SetItem(extra, st->name.peername, peername) == 0
                         : !PyErr_Occurred()) {
        for (int i = 0; i < 7; i++) {
            args[i] = values[i] != NULL ? values[i] : Py_None;
        }
        args[4] = extra;
        transport = PyObject_Vectorcall(type, args, 7, NULL);
    }
    Py_XDECREF(extra);
    Py_XDECREF(peername);
    return transport;
}

PyObject *
hl_stream_accept(HLState *st, PyObject *type, PyObject **values, HLPeer *peer, HLCommon *common)
{
    PyTypeObject *known = (PyTypeObject *)type;
    if (!PyType_Check(type) || known->tp_new != stream_tp_new || known->tp_init != stream_tp_init
        || Py_TYPE(type)->tp_call != PyType_Type.tp_call) {
        return call_type(st, type, values, peer);
    }
    HLStream *self = (HLStream *)stream_tp_new(known, NULL, NULL);
    if (self != NULL && hl_stream_init(self, values, peer, common) < 0) {
        undo_init(self);
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

/* ---- Methods ---- */

static PyObject *
stream_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return hl_none_or_error(hl_stream_close((HLStream *)op));
}

static PyObject *
stream_abort(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return hl_none_or_error(hl_stream_force_close((HLStream *)op, NULL));
}

static PyObject *
stream_force_close(PyObject *op, PyObject *exc)
{
    return hl_none_or_error(hl_stream_force_close((HLStream *)op, exc));
}

/* A connection that breaks is no news outside debug mode; anything else is reported. */
static PyObject *
stream_fatal_error(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"exc", "message", NULL};
    static const HLParameters parameters = {"_fatal_error", names, 2, 1};
    HLStream *self = (HLStream *)op;
    PyObject *values[2];
    if (hl_parse(&parameters, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    if (!PyObject_TypeCheck(values[0], (PyTypeObject *)PyExc_OSError) || hl_stream_debug(self)) {
        PyObject *done = PyObject_CallMethodObjArgs(op, self->st->name._report_fatal_error,
                                                    values[0], values[1], NULL);
        if (done == NULL) {
            return NULL;
        }
        Py_DECREF(done);
    }
    return PyObject_CallMethodOneArg(op, self->st->name._force_close, values[0]);
}

static PyObject *
stream_call_connection_lost(PyObject *op, PyObject *exc)
{
    HLStream *self = (HLStream *)op;
    return hl_none_or_error(self->made ? hl_stream_lose(self, exc) : 0);
}

static PyObject *
stream_is_closing(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((HLStream *)op)->closing);
}

/* ---- Attributes that programs read of asyncio's transports ---- */

#define FIELD(name) (void *)offsetof(HLStream, name)

static PyObject *
get_object(PyObject *op, void *closure)
{
    PyObject *value = *(PyObject **)((char *)op + (size_t)closure);
    return Py_NewRef(hl_or_none(value));
}

/* Who asks for the socket may use it: what was written before goes first. */
static PyObject *
get_socket(PyObject *op, void *closure)
{
    return hl_stream_flush((HLStream *)op) < 0 ? NULL : get_object(op, closure);
}

static int
set_object(PyObject *op, PyObject *value, void *closure)
{
    PyObject **field = (PyObject **)((char *)op + (size_t)closure);
    Py_XSETREF(*field, value == Py_None ? NULL : Py_XNewRef(value));
    return 0;
}

static PyObject *
get_bool(PyObject *op, void *closure)
{
    return PyBool_FromLong(*(bool *)((char *)op + (size_t)closure));
}

static PyObject *
get_size(PyObject *op, void *closure)
{
    return PyLong_FromSize_t(*(size_t *)((char *)op + (size_t)closure));
}

static int
set_size(PyObject *op, PyObject *value, void *closure)
{
    size_t size = value != NULL ? PyLong_AsSize_t(value) : (size_t)-1;
    if (size == (size_t)-1) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        }
        return -1;
    }
    *(size_t *)((char *)op + (size_t)closure) = size;
    return 0;
}

static PyObject *
get_fd(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(((HLStream *)op)->fd);
}

static PyGetSetDef stream_getset[] = {
    {"_loop", get_object, NULL, NULL, FIELD(loop)},
    {"_sock", get_socket, NULL, NULL, FIELD(sock)},
    {"_sock_fd", get_fd, NULL, NULL, NULL},
    {"_protocol", get_object, NULL, NULL, FIELD(protocol)},
    {"_server", get_object, NULL, NULL, FIELD(server)},
    {"_extra", hl_stream_get_extra, hl_stream_set_extra, NULL, NULL},
    {"_empty_waiter", get_object, set_object, NULL, FIELD(empty_waiter)},
    {"_conn_lost", get_size, NULL, NULL, FIELD(conn_lost)},
    {"_closing", get_bool, NULL, NULL, FIELD(closing)},
    {"_paused", get_bool, NULL, NULL, FIELD(paused)},
    {"_eof", get_bool, NULL, NULL, FIELD(eof)},
    {"_protocol_paused", get_bool, NULL, NULL, FIELD(protocol_paused)},
    {"_protocol_connected", get_bool, NULL, NULL, FIELD(protocol_connected)},
    {"_high_water", get_size, set_size, NULL, FIELD(high_water)},
    {"_low_water", get_size, set_size, NULL, FIELD(low_water)},
    {"max_size", get_size, set_size, NULL, FIELD(max_size)},
    {NULL, NULL, NULL, NULL, NULL},
};

/* ---- Life ---- */

static int
stream_tp_traverse(PyObject *op, visitproc visit, void *arg)
{
    HLStream *self = (HLStream *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->loop);
    Py_VISIT(self->sock);
    Py_VISIT(self->protocol);
    Py_VISIT(self->server);
    Py_VISIT(self->extra);
    Py_VISIT(self->sockname);
    Py_VISIT(self->peer.object);
    Py_VISIT(self->closed_sock);
    Py_VISIT(self->context);
    Py_VISIT(self->write_context);
    Py_VISIT(self->empty_waiter);
    return 0;
}

static int
stream_tp_clear(PyObject *op)
{
    HLStream *self = (HLStream *)op;
    hl_watch_release(self->watch);
    hl_stream_drop_queue(self);
    self->sock_fd = &hl_stream_no_fd;
    self->closing = true;
    self->conn_lost += self->conn_lost == 0;
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->server);
    Py_CLEAR(self->registration);
    Py_CLEAR(self->extra);
    Py_CLEAR(self->sockname);
    Py_CLEAR(self->peer.object);
    Py_CLEAR(self->closed_sock);
    Py_CLEAR(self->context);
    Py_CLEAR(self->write_context);
    Py_CLEAR(self->empty_waiter);
    Py_CLEAR(self->sock);
    Py_CLEAR(self->loop);
    return 0;
}

/* What was dropped with the transport may yet write to it: the socket stays, closed, as asyncio's. */
static void
stream_tp_finalize(PyObject *op)
{
    HLStream *self = (HLStream *)op;
    if (self->sock == NULL || self->fd < 0) {
        return;
    }
    PyObject *pending = hl_take_exception();
    if (PyErr_ResourceWarning(op, 1, "unclosed transport %R", op) < 0) {
        PyErr_WriteUnraisable(op);
    }
    hl_watch_release(self->watch);
    self->sock_fd = &hl_stream_no_fd;
    if ((self->sock != NULL && hl_socket_close(self->st, self->sock) < 0)
        || (self->st->server_knows_transports && detach_from_server(self) < 0)) {
        PyErr_WriteUnraisable(op);
    }
    hl_give_exception(pending);
}

static void
stream_tp_dealloc(PyObject *op)
{
    if (PyObject_CallFinalizerFromDealloc(op) < 0) {
        return;
    }
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    Py_TRASHCAN_BEGIN(op, stream_tp_dealloc) stream_tp_clear(op);
    PyMem_Free(((HLStream *)op)->queue.chunks);
    type->tp_free(op);
    Py_DECREF(type);
    Py_TRASHCAN_END
}

static PyMethodDef stream_methods[] = {
    {"close", stream_close, METH_NOARGS,
     "close($self, /)\n--\n\nClose once everything written is sent; see asyncio's Transport."},
    {"abort", stream_abort, METH_NOARGS,
     "abort($self, /)\n--\n\nClose at once; what is not sent yet is lost."},
    {"is_closing", stream_is_closing, METH_NOARGS,
     "is_closing($self, /)\n--\n\nReturn True once the transport is closing or closed."},
    {"_force_close", stream_force_close, METH_O,
     "_force_close($self, exc, /)\n--\n\nClose at once, for the reason exc (or None)."},
    {"_fatal_error", (PyCFunction)(void (*)(void))stream_fatal_error,
     METH_FASTCALL | METH_KEYWORDS,
     "_fatal_error($self, /, exc, message='Fatal error on transport')\n--\n\n"
     "Report what is no OSError, and close at once."},
    {"_call_connection_lost", stream_call_connection_lost, METH_O,
     "_call_connection_lost($self, exc, /)\n--\n\nTell the protocol, and close the socket."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot stream_slots[] = {
    {Py_tp_doc, "The core of hotloop's transport for stream sockets."},
    {Py_tp_new, stream_tp_new},
    {Py_tp_init, stream_tp_init},
    {Py_tp_traverse, stream_tp_traverse},
    {Py_tp_clear, stream_tp_clear},
    {Py_tp_finalize, stream_tp_finalize},
    {Py_tp_dealloc, stream_tp_dealloc},
    {Py_tp_methods, stream_methods},
    {Py_tp_getset, stream_getset},
    {0, NULL},
};

static PyType_Spec stream_spec = {
    "hotloop._core.Stream",
    sizeof(HLStream),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    stream_slots,
};

int
hl_stream_setup(PyObject *module, HLState *st)
{
    PyTypeObject *base = (PyTypeObject *)st->StockTransport;
    if (base->tp_basicsize > (Py_ssize_t)offsetof(HLStream, st)) {
        PyErr_SetString(PyExc_ImportError, "asyncio.Transport is larger than hotloop knows it");
        return -1;
    }
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &stream_spec,
                                                                  st->StockTransport);
    st->StreamType = type;
    if (type == NULL || hl_type_add_methods(type, hl_stream_read_methods) < 0
        || hl_type_add_methods(type, hl_stream_info_methods) < 0
        || hl_type_add_methods(type, hl_stream_write_methods) < 0) {
        return -1;
    }
    return PyModule_AddType(module, type);
}
