/* The datagram transport: making one, watching, telling the protocol, and the end.  Receiving is in
   datagramread.c, sending in datagramwrite.c, the Python type in datagramtype.c.

   A twin of asyncio's _SelectorDatagramTransport.  States: made, open (connection_made() was
   called; reading unless paused), closing (what is queued is still sent), lost (sock, protocol and
   loop are gone).

   Owners: user code, queued handles, and the loop's watch while the descriptor is watched.  The
   Python socket owns the descriptor; it is closed once, right after connection_lost().  Before
   each system call it is asked whether it still has that descriptor: a user may have closed it,
   and the number may be another's by now.  Threads: the loop's. */

#include "datagram.h"

/* ---- The queues ---- */

static int
grow(HLDatagramQueue *queue)
{
    size_t capacity = queue->capacity ? queue->capacity * 2 : 8;
    HLDatagram *items = PyMem_Malloc(capacity * sizeof(HLDatagram));
    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < queue->length; i++) {
        items[i] = *hl_datagram_at(queue, i);
    }
    PyMem_Free(queue->items);
    *queue = (HLDatagramQueue){items, capacity, 0, queue->length};
    return 0;
}

int
hl_datagram_append(HLDatagramQueue *queue, PyObject *data, PyObject *addr)
{
    if (data == NULL || addr == NULL || (queue->length == queue->capacity && grow(queue) < 0)) {
        Py_XDECREF(data);
        Py_XDECREF(addr);
        return -1;
    }
    *hl_datagram_at(queue, queue->length) = (HLDatagram){data, addr};
    queue->length++;
    return 0;
}

int
hl_datagram_push_front(HLDatagramQueue *queue, HLDatagram *item)
{
    if (queue->length == queue->capacity && grow(queue) < 0) {
        hl_datagram_release(item);
        return -1;
    }
    queue->head = (queue->head + queue->capacity - 1) & (queue->capacity - 1);
    queue->length++;
    *hl_datagram_at(queue, 0) = *item;
    return 0;
}

HLDatagram
hl_datagram_pop(HLDatagramQueue *queue)
{
    HLDatagram item = *hl_datagram_at(queue, 0);
    queue->head = (queue->head + 1) & (queue->capacity - 1);
    queue->length--;
    return item;
}

void
hl_datagram_release(HLDatagram *item)
{
    Py_DECREF(item->data);
    Py_DECREF(item->addr);
}

void
hl_datagram_clear_queue(HLDatagramQueue *queue)
{
    HLDatagramQueue old = *queue;
    *queue = (HLDatagramQueue){NULL, 0, 0, 0};
    while (old.length > 0) {
        HLDatagram item = hl_datagram_pop(&old);
        hl_datagram_release(&item);
    }
    PyMem_Free(old.items);
}

/* ---- Calls into Python ---- */

int
hl_datagram_call(HLDatagramTransport *t, PyObject *name, PyObject *first, PyObject *second)
{
    PyObject *protocol = Py_NewRef(hl_or_none(t->protocol));
    PyObject *args[4] = {NULL, protocol, first, second};
    size_t nargs = 1 + (first != NULL) + (second != NULL);
    PyObject *result = PyObject_VectorcallMethod(name, args + 1,
                                                 nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(protocol);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

/* error_received() runs as in an except clause: what it logs or raises shows the error. */
static int
error_received(HLDatagramTransport *t, PyObject *exc)
{
    PyObject *outer = hl_enter_except(exc);
    int rc = hl_datagram_call(t, t->st->name.error_received, exc, NULL);
    hl_leave_except(outer);
    return rc;
}

int
hl_datagram_complain(PyObject *self, const char *message, PyObject *exc)
{
    HLDatagramTransport *t = hl_datagram(self);
    HLNames *names = &t->st->name;
    PyObject *context = Py_BuildValue("{OsOOOOOO}", names->message, message, names->exception, exc,
                                      names->transport, self, names->protocol,
                                      hl_or_none(t->protocol));
    PyObject *loop = Py_NewRef(t->loop != NULL ? (PyObject *)t->loop : Py_None);
    PyObject *outer = hl_enter_except(exc);
    PyObject *done = context == NULL
                         ? NULL
                         : PyObject_CallMethodOneArg(loop, names->call_exception_handler, context);
    hl_leave_except(outer);
    Py_DECREF(loop);
    Py_XDECREF(context);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* The exception that is set ends the transport.  -1 if the report of it raised. */
static int
fatal_error(PyObject *self, PyObject *exc, const char *message)
{
    return hl_datagram_complain(self, message, exc) < 0 ? -1 : hl_datagram_abort(self, exc);
}

int
hl_datagram_handle_error(PyObject *self, const char *message)
{
    if (hl_is_fatal()) {
        return -1;
    }
    PyObject *exc = hl_take_exception();
    int rc = PyErr_GivenExceptionMatches(exc, PyExc_OSError)
                 ? error_received(hl_datagram(self), exc)
                 : fatal_error(self, exc, message);
    Py_DECREF(exc);
    return rc;
}

/* loop.call_soon(function, first, second), where either may be NULL */
static int
call_soon(HLDatagramTransport *t, PyObject *function, PyObject *first, PyObject *second)
{
    PyObject *args[5] = {NULL, (PyObject *)t->loop, function, first, second};
    size_t nargs = 2 + (first != NULL) + (second != NULL);
    PyObject *handle = PyObject_VectorcallMethod(t->st->name.call_soon, args + 1,
                                                 nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_XDECREF(handle);
    return handle != NULL ? 0 : -1;
}

static int
call_connection_lost_soon(PyObject *self, PyObject *exc)
{
    HLDatagramTransport *t = hl_datagram(self);
    PyObject *method = PyObject_GetAttr(self, t->st->name._call_connection_lost);
    int rc = method != NULL ? call_soon(t, method, exc, NULL) : -1;
    Py_XDECREF(method);
    return rc;
}

/* ---- Watching ---- */

int
hl_datagram_watch(PyObject *self, HLSide side, HLOnReady on_ready, PyObject **context)
{
    HLDatagramTransport *t = hl_datagram(self);
    if (hl_loop_check_closed(t->loop) < 0 || hl_loop_check_process(t->loop) < 0) {
        return -1;
    }
    PyObject *current = PyContext_CopyCurrent();
    if (current == NULL) {
        return -1;
    }
    Py_XSETREF(*context, current);
    hl_watch_set(t->watch, side, self, on_ready);
    return 0;
}

void
hl_datagram_unwatch(PyObject *self)
{
    HLDatagramTransport *t = hl_datagram(self);
    t->reading = t->writing = false;
    hl_watch_release(t->watch);
}

bool
hl_datagram_owns_descriptor(HLDatagramTransport *t)
{
    if (!t->native || t->st->socket_fileno == NULL) {
        return false;
    }
    PyObject *number = t->st->socket_fileno(t->sock, NULL);
    if (number == NULL) {
        PyErr_Clear();
        return false;
    }
    int fd = (int)PyLong_AsLong(number);
    Py_DECREF(number);
    return fd == t->fd;
}

/* ---- Making ---- */

/* extra[key] = sock.method(), or None if that raises OSError. */
static int
set_name(HLDatagramTransport *t, PyObject *sock, PyObject *key, PyObject *method)
{
    PyObject *value = PyObject_CallMethodNoArgs(sock, method);
    if (value == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_OSError)) {
            return -1;
        }
        PyErr_Clear();
        value = Py_NewRef(Py_None);
    }
    int rc = PyObject_SetItem(t->extra, key, value);
    Py_DECREF(value);
    return rc;
}

static int
init_extra(HLDatagramTransport *t, PyObject *sock, PyObject *extra)
{
    HLNames *names = &t->st->name;
    t->extra = extra != NULL && extra != Py_None ? Py_NewRef(extra) : PyDict_New();
    PyObject *wrapped = t->extra != NULL ? PyObject_CallOneArg(t->st->TransportSocket, sock)
                                         : NULL;
    int rc = wrapped != NULL ? PyObject_SetItem(t->extra, names->socket, wrapped) : -1;
    Py_XDECREF(wrapped);
    if (rc < 0 || set_name(t, sock, names->sockname, names->getsockname) < 0) {
        return -1;
    }
    int given = PySequence_Contains(t->extra, names->peername);
    if (given == 0) {
        given = set_name(t, sock, names->peername, names->getpeername);
    }
    if (given < 0) {
        return -1;
    }
    PyObject *peername = PyObject_GetItem(t->extra, names->peername);
    int truth = peername != NULL ? PyObject_IsTrue(peername) : -1;
    Py_XDECREF(peername);
    t->connected = truth > 0;
    return truth < 0 ? -1 : 0;
}

int
hl_datagram_set_address(HLDatagramTransport *t, PyObject *address)
{
    int truth = PyObject_IsTrue(address);
    if (truth < 0) {
        return -1;
    }
    t->has_address = truth > 0;
    bool parsed = t->native && hl_address_parse(t->family, address, &t->target.address);
    Py_XSETREF(t->target.object, parsed ? Py_NewRef(address) : NULL);
    Py_XSETREF(t->address, Py_NewRef(address));
    return 0;
}

static int
init_address(HLDatagramTransport *t, PyObject *sock, PyObject *address)
{
    struct sockaddr_storage name;
    socklen_t length = sizeof(name);
    name.ss_family = AF_UNSPEC; /* a name may have no bytes */
    if (Py_TYPE(sock) == (PyTypeObject *)t->st->StockSocket
        && getsockname(t->fd, (struct sockaddr *)&name, &length) == 0) {
        t->family = name.ss_family;
        t->native = t->family == AF_INET || t->family == AF_INET6 || t->family == AF_UNIX;
    }
    return hl_datagram_set_address(t, hl_or_none(address));
}

static int
descriptor_of(HLState *st, PyObject *sock)
{
    PyObject *number = PyObject_CallMethodNoArgs(sock, st->name.fileno);
    long fd = number != NULL ? PyLong_AsLong(number) : -1;
    Py_XDECREF(number);
    if (fd < 0 || fd > INT_MAX) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %ld", fd);
        }
        return -1;
    }
    return (int)fd;
}

/* connection_made() comes first, then reading begins, and then whoever waits learns of it. */
static int
schedule_start(PyObject *self, PyObject *waiter)
{
    HLDatagramTransport *t = hl_datagram(self);
    PyObject *made = PyObject_GetAttr(t->protocol, t->st->name.connection_made);
    PyObject *read = made != NULL ? PyObject_GetAttrString(self, "_add_reader") : NULL;
    int rc = -1;
    if (read != NULL && call_soon(t, made, self, NULL) == 0
        && call_soon(t, read, NULL, NULL) == 0) {
        rc = waiter == NULL || waiter == Py_None
                 ? 0
                 : call_soon(t, t->st->set_result_unless_cancelled, waiter, Py_None);
    }
    Py_XDECREF(made);
    Py_XDECREF(read);
    return rc;
}

static PyObject *
datagram_new(HLLoop *loop, int fd, PyObject *sock, PyObject *protocol)
{
    PyTypeObject *type = loop->st->DatagramTransportType;
    PyObject *self = type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    HLDatagramTransport *t = hl_datagram(self);
    t->st = loop->st;
    t->fd = fd;
    t->batch = 1;
    t->max_size = HL_DATAGRAM_MAX;
    t->loop = (HLLoop *)Py_NewRef(loop);
    t->protocol = Py_NewRef(protocol);
    if (hl_datagram_set_limits(t, NULL, NULL) < 0
        || hl_watch_claim(loop, fd, false, self, &t->watch) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    t->sock = Py_NewRef(sock); /* from now on to be closed by us */
    return self;
}

/* Before 3.12 asyncio lets two transports fight for a datagram socket. */
static int
ensure_unused(HLLoop *loop, PyObject *sock)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyObject *unused = PyObject_CallMethodOneArg((PyObject *)loop,
                                                 loop->st->name._ensure_fd_no_transport, sock);
    Py_XDECREF(unused);
    return unused != NULL ? 0 : -1;
#else
    (void)loop;
    (void)sock;
    return 0;
#endif
}

static const char *const make_names[] = {"sock", "protocol", "address", "waiter", "extra", NULL};
static const HLParameters make_parameters = {"_make_datagram_transport", make_names, 5, 2};

static PyObject *
loop_make_datagram_transport(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames)
{
    HLLoop *loop = (HLLoop *)self;
    PyObject *values[5]; /* sock, protocol, address, waiter, extra */
    if (hl_parse(&make_parameters, args, nargs, kwnames, values) < 0
        || hl_loop_check_closed(loop) < 0 || hl_loop_check_process(loop) < 0) {
        return NULL;
    }
    int fd = ensure_unused(loop, values[0]) == 0 ? descriptor_of(loop->st, values[0]) : -1;
    PyObject *transport = fd >= 0 ? datagram_new(loop, fd, values[0], values[1]) : NULL;
    if (transport == NULL) {
        return NULL;
    }
    HLDatagramTransport *t = hl_datagram(transport);
    if (init_extra(t, values[0], values[4]) < 0 || init_address(t, values[0], values[2]) < 0
        || schedule_start(transport, values[3]) < 0) {
        Py_CLEAR(transport);
    }
    return transport;
}

/* ---- The end ---- */

static void
unset_both(HLDatagramTransport *t)
{
    t->reading = t->writing = false;
    hl_watch_unset_both(t->watch);
}

int
hl_datagram_close(PyObject *self)
{
    HLDatagramTransport *t = hl_datagram(self);
    if (t->closing) {
        return 0;
    }
    t->closing = true;
    hl_datagram_stop_reading(self);
    hl_datagram_clear_queue(&t->received);
    if (t->sending.length > 0) {
        return 0;
    }
    t->conn_lost++;
    unset_both(t);
    return call_connection_lost_soon(self, Py_None);
}

int
hl_datagram_abort(PyObject *self, PyObject *exc)
{
    HLDatagramTransport *t = hl_datagram(self);
    if (t->conn_lost || t->sock == NULL) {
        return 0;
    }
    t->conn_lost++;
    t->closing = true;
    unset_both(t);
    hl_datagram_clear_queue(&t->sending);
    hl_datagram_clear_queue(&t->received);
#if PY_VERSION_HEX >= 0x030F0000
    t->buffer_size = 0; /* before, asyncio goes on showing what was dropped */
#endif
    return call_connection_lost_soon(self, exc);
}

/* Close the socket; what it raises takes the place of what was raised before. */
static void
close_socket(HLDatagramTransport *t)
{
    PyObject *sock = t->sock;
    PyObject *raised = hl_take_exception();
    t->sock = NULL;
    int rc = hl_socket_close(t->st, sock);
    Py_DECREF(sock);
    if (rc < 0) {
        Py_XDECREF(raised);
        return;
    }
    hl_give_exception(raised);
}

int
hl_datagram_connection_lost(PyObject *self, PyObject *exc)
{
    HLDatagramTransport *t = hl_datagram(self);
    int rc = 0;
    if (t->sock == NULL) {
        return 0;
    }
    t->closing = true;
    t->conn_lost += t->conn_lost == 0;
    if (t->protocol != NULL) {
        rc = hl_datagram_call(t, t->st->name.connection_lost, exc, NULL);
    }
    if (t->sock == NULL) {
        return rc;
    }
    hl_datagram_unwatch(self);
    close_socket(t);
    Py_CLEAR(t->protocol);
    Py_CLEAR(t->read_context);
    Py_CLEAR(t->write_context);
    Py_CLEAR(t->loop);
    return PyErr_Occurred() ? -1 : rc;
}

/* ---- Table ---- */

PyMethodDef hl_datagram_methods[] = {
    {"_make_datagram_transport", (PyCFunction)(void (*)(void))loop_make_datagram_transport,
     METH_FASTCALL | METH_KEYWORDS,
     "_make_datagram_transport($self, sock, protocol, address=None, waiter=None, extra=None)\n"
     "--\n\nReturn a transport for a datagram socket, which it owns from now on."},
    {NULL, NULL, 0, NULL},
};
