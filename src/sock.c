/* sock_recv() and its relatives: the system call first, a wait only where it would block.

   loop._start_...(sock, ...) returns the result; or a SocketWait, to be awaited; or
   NotImplemented where asyncio's own coroutine has to do it: in debug mode, for objects that
   are not exactly socket.socket (which do as they like in recv()), for sockets with a timeout,
   for arguments that need Python's checks.  The coroutines around them are in _sock.py: they
   are coroutines in every respect, as asyncio's are.

   A SocketWait is its own iterator, owned by the awaiting coroutine and, while it waits, by the
   descriptor's watch.  States: waiting (in the watch; the future is pending); over (result or
   exception set, the future is done); given up (the future was cancelled, or it was thrown
   into: nothing more is read or written).  Only the wait that the watch still knows may act:
   whoever waits on the same side of a descriptor takes the place of who did before, and that
   one waits for ever, as in asyncio.  Threads: the loop's only. */

#include "sock.h"

typedef struct {
    PyObject_HEAD
    HLSocketCall call;
    int watched_fd;
    PyObject *future;    /* owned, NULL once the result was given or it was thrown into */
    PyObject *result;    /* owned */
    PyObject *exception; /* owned */
} SocketWait;

/* ---- Which sockets ---- */

/* Is sock exactly a socket.socket, without timeout, on a loop without debug mode?  1, 0 or -1. */
static int
is_plain_socket(HLLoop *loop, PyObject *sock)
{
    HLState *st = loop->st;
    if (loop->debug || (PyObject *)Py_TYPE(sock) != st->StockSocket) {
        return 0;
    }
    int original = hl_socket_is_original(st);
    if (original <= 0) {
        return original;
    }
    PyObject *timeout = st->socket_gettimeout(sock, NULL);
    if (timeout == NULL) {
        return -1;
    }
    int plain = PyFloat_CheckExact(timeout) && PyFloat_AS_DOUBLE(timeout) == 0.0;
    Py_DECREF(timeout);
    return plain;
}

/* ---- Waiting ---- */

static bool
is_waiting(SocketWait *wait)
{
    const HLSocketCall *call = &wait->call;
    return hl_watch_waiting(call->loop, wait->watched_fd, call->operation->side)
           == (PyObject *)wait;
}

static void
stop_waiting(SocketWait *wait)
{
    if (is_waiting(wait) && wait->call.loop->pid == hl_process_id()) {
        Py_XDECREF(hl_watch_stop(wait->call.loop, wait->watched_fd, wait->call.operation->side));
    }
}

static void
drop_arguments(SocketWait *wait)
{
    Py_CLEAR(wait->call.args[0]);
    Py_CLEAR(wait->call.args[1]);
}

/* The methods of the socket may be Python's, and end the wait under our hands. */
static PyObject *
attempt_again(SocketWait *wait, bool *blocked)
{
    HLSocketCall *call = &wait->call;
    PyObject *sock = Py_NewRef(call->sock);
    PyObject *first = Py_XNewRef(call->args[0]), *second = Py_XNewRef(call->args[1]);
    PyObject *result = NULL;
    call->again = true;
    if (hl_socket_find_fd(call) == 0) {
        result = call->operation->attempt(call, blocked);
    }
    Py_DECREF(sock);
    Py_XDECREF(first);
    Py_XDECREF(second);
    return result;
}

/* The descriptor is ready. */
static int
on_ready(HLLoop *loop, PyObject *object)
{
    SocketWait *wait = (SocketWait *)object;
    bool blocked = false;
    if (!is_waiting(wait) || wait->future == NULL
        || hl_future(wait->future)->state != HL_PENDING) {
        return 0; /* cancelled: the task has yet to hear of it */
    }
    PyObject *result = attempt_again(wait, &blocked);
    if (result == NULL && (blocked || hl_is_fatal())) {
        return blocked ? 0 : -1;
    }
    if (wait->future == NULL || hl_future(wait->future)->state != HL_PENDING) {
        PyErr_Clear(); /* a method of the socket has cancelled us */
        Py_XDECREF(result);
        return 0;
    }
    wait->exception = result == NULL ? hl_take_exception() : NULL;
    wait->result = result;
    if (is_waiting(wait)) {
        Py_DECREF(hl_watch_leave(loop, wait->watched_fd, wait->call.operation->side));
    }
    drop_arguments(wait);
    return hl_future_set_result(wait->future, Py_None);
}

/* Is there surely no transport of that descriptor, neither one of ours nor one of asyncio's? */
static bool
has_no_transport(HLLoop *loop, PyObject *number)
{
    HLNames *names = &loop->st->name;
    PyObject *transports = PyObject_GetAttr((PyObject *)loop, names->_transports);
    PyObject *data = transports != NULL ? PyObject_GetAttr(transports, names->data) : NULL;
    bool none = data != NULL && PyDict_CheckExact(data)
                && PyDict_GetItemWithError(data, number) == NULL
                && hl_watch_transport(loop, (int)PyLong_AsLong(number)) == NULL;
    PyErr_Clear();
    Py_XDECREF(transports);
    Py_XDECREF(data);
    return none;
}

static PyObject *
loop_may_have_transport(PyObject *self, PyObject *sock)
{
    HLLoop *loop = (HLLoop *)self;
    PyObject *number = (PyObject *)Py_TYPE(sock) == loop->st->StockSocket
                               && loop->st->socket_fileno != NULL
                           ? loop->st->socket_fileno(sock, NULL)
                           : NULL;
    bool none = number != NULL && has_no_transport(loop, number);
    Py_XDECREF(number);
    PyErr_Clear();
    return PyBool_FromLong(!none);
}

/* loop._ensure_fd_no_transport(fd), asked only where there may be one. */
static int
ensure_no_transport(HLLoop *loop, int fd)
{
    HLNames *names = &loop->st->name;
    PyObject *number = PyLong_FromLong(fd);
    bool none = number != NULL && has_no_transport(loop, number);
    PyObject *checked = NULL;
    if (!none && number != NULL) {
        checked = PyObject_CallMethodOneArg((PyObject *)loop, names->_ensure_fd_no_transport,
                                            number);
        Py_XDECREF(checked);
    }
    Py_XDECREF(number);
    return none || checked != NULL ? 0 : -1;
}

static SocketWait *
allocate_wait(HLState *st)
{
    SocketWait *wait = (SocketWait *)hl_free_list_take(&st->free_socket_waits);
    return wait != NULL ? wait : PyObject_GC_New(SocketWait, st->SocketWaitType);
}

static SocketWait *
make_wait(HLLoop *loop, const HLSocketCall *call)
{
    SocketWait *wait = allocate_wait(loop->st);
    if (wait == NULL) {
        return NULL;
    }
    wait->call = *call;
    wait->watched_fd = call->fd;
    Py_INCREF((PyObject *)loop);
    Py_INCREF(call->sock);
    Py_XINCREF(call->args[0]);
    Py_XINCREF(call->args[1]);
    wait->future = wait->result = wait->exception = NULL;
    PyObject_GC_Track((PyObject *)wait);
    if (call->operation == &hl_sendall_operation) {
        /* What is sent must stay as large as it is. */
        Py_SETREF(wait->call.args[0], PyMemoryView_FromObject(call->args[0]));
    }
    if (call->operation != &hl_sendall_operation || wait->call.args[0] != NULL) {
        wait->future = hl_future_new(loop);
    }
    if (wait->future == NULL) {
        Py_CLEAR(wait);
    }
    return wait;
}

static PyObject *
start_waiting(HLLoop *loop, const HLSocketCall *call)
{
    PyObject *previous = NULL;
    if (ensure_no_transport(loop, call->fd) < 0 || hl_loop_check_closed(loop) < 0) {
        return NULL;
    }
    PyObject *socket_ref = PyWeakref_NewRef(call->sock, NULL);
    SocketWait *wait = socket_ref != NULL ? make_wait(loop, call) : NULL;
    if (wait != NULL
        && hl_watch_start_socket(loop, call->fd, call->operation->side, (PyObject *)wait, on_ready,
                                 socket_ref, &previous)
               < 0) {
        Py_CLEAR(wait);
    }
    Py_XDECREF(socket_ref);
    if (previous != NULL && hl_reader_replaced(loop->st, previous) < 0) {
        stop_waiting(wait);
        Py_CLEAR(wait);
    }
    Py_XDECREF(previous);
    return (PyObject *)wait;
}

/* ---- Methods of the loop ---- */

static PyObject *
start(PyObject *self, const HLSocketOperation *operation, const char *function, Py_ssize_t wanted,
      PyObject *const *args, Py_ssize_t nargs)
{
    HLLoop *loop = (HLLoop *)self;
    if (nargs != wanted) {
        return PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments, got %zd", function, wanted,
                            nargs);
    }
    HLSocketCall call = {operation, loop, loop->st, args[0]};
    for (Py_ssize_t i = 1; i < nargs; i++) {
        call.args[i - 1] = args[i];
    }
    int usable = is_plain_socket(loop, call.sock);
    if (usable > 0 && operation->takes != NULL) {
        usable = operation->takes(&call);
    }
    if (usable <= 0) {
        return usable < 0 ? NULL : Py_NewRef(Py_NotImplemented);
    }
    bool blocked = false;
    if (hl_socket_find_fd(&call) < 0) {
        return NULL;
    }
    PyObject *result = operation->attempt(&call, &blocked);
    return blocked ? start_waiting(loop, &call) : result;
}

static PyObject *
loop_start_recv(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return start(self, &hl_recv_operation, "_start_recv", 2, args, nargs);
}

static PyObject *
loop_start_recv_into(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return start(self, &hl_recv_into_operation, "_start_recv_into", 2, args, nargs);
}

static PyObject *
loop_start_recvfrom(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return start(self, &hl_recvfrom_operation, "_start_recvfrom", 2, args, nargs);
}

static PyObject *
loop_start_recvfrom_into(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return start(self, &hl_recvfrom_into_operation, "_start_recvfrom_into", 3, args, nargs);
}

static PyObject *
loop_start_sendall(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return start(self, &hl_sendall_operation, "_start_sendall", 2, args, nargs);
}

static PyObject *
loop_start_sendto(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return start(self, &hl_sendto_operation, "_start_sendto", 3, args, nargs);
}

static PyObject *
loop_start_accept(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return start(self, &hl_accept_operation, "_start_accept", 1, args, nargs);
}

static PyObject *
loop_start_connect(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    return start(self, &hl_connect_operation, "_start_connect", 2, args, nargs);
}

PyObject *
hl_sock_start_connect(HLLoop *loop, PyObject *sock, PyObject *address)
{
    PyObject *args[2] = {sock, address};
    return start((PyObject *)loop, &hl_connect_operation, "_start_connect", 2, args, 2);
}

static PyObject *
loop_takes_socket(PyObject *self, PyObject *sock)
{
    int plain = is_plain_socket((HLLoop *)self, sock);
    return plain < 0 ? NULL : PyBool_FromLong(plain);
}

/* ---- The iterator ---- */

/* Leaves what result() returns, or raises. */
static int
end_wait(SocketWait *wait)
{
    PyObject *future = wait->future;
    wait->future = NULL;
    stop_waiting(wait); /* somebody else has ended the future */
    if (wait->exception != NULL) {
        hl_give_exception(wait->exception);
        wait->exception = NULL;
    }
    else if (wait->result == NULL) {
        wait->result = hl_future_get_result(future);
    }
    Py_DECREF(future);
    return wait->result != NULL ? 0 : -1;
}

static PySendResult
wait_am_send(PyObject *self, PyObject *Py_UNUSED(value), PyObject **result)
{
    SocketWait *wait = (SocketWait *)self;
    *result = NULL;
    if (wait->future == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
    HLFuture *f = hl_future(wait->future);
    if (f->state != HL_PENDING) {
        if (end_wait(wait) < 0) {
            return PYGEN_ERROR;
        }
        *result = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    if (!f->blocking) {
        f->blocking = true;
        *result = Py_NewRef(wait->future);
        return PYGEN_NEXT;
    }
    PyErr_SetString(PyExc_RuntimeError, "await wasn't used with future");
    return PYGEN_ERROR;
}

static PyObject *
wait_next(PyObject *self)
{
    PyObject *result;
    if (wait_am_send(self, Py_None, &result) == PYGEN_RETURN) {
        Py_CLEAR(result); /* the end of an iterator without exception is None */
    }
    return result;
}

static PyObject *
wait_send(PyObject *self, PyObject *Py_UNUSED(value))
{
    PyObject *yielded = wait_next(self);
    if (yielded == NULL && !PyErr_Occurred()) {
        PyErr_SetNone(PyExc_StopIteration);
    }
    return yielded;
}

/* After the await, which itself gives None: then it needs no StopIteration. */
static PyObject *
wait_result(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    SocketWait *wait = (SocketWait *)self;
    if (wait->result == NULL) {
        PyErr_SetString(wait->call.st->InvalidStateError, "Result is not ready.");
        return NULL;
    }
    return Py_NewRef(wait->result);
}

static void
give_up(SocketWait *wait)
{
    stop_waiting(wait);
    drop_arguments(wait);
    Py_CLEAR(wait->future);
    Py_CLEAR(wait->result);
    Py_CLEAR(wait->exception);
}

static PyObject *
wait_throw(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    give_up((SocketWait *)self);
    hl_raise_thrown(args, nargs);
    return NULL;
}

static PyObject *
wait_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    give_up((SocketWait *)self);
    Py_RETURN_NONE;
}

/* ---- Life ---- */

static int
wait_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    SocketWait *wait = (SocketWait *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(wait->call.sock);
    Py_VISIT(wait->call.args[0]);
    Py_VISIT(wait->call.args[1]);
    Py_VISIT(wait->call.loop);
    Py_VISIT(wait->future);
    Py_VISIT(wait->result);
    Py_VISIT(wait->exception);
    return 0;
}

/* The loop and the operation stay: they are needed as long as there are methods to call. */
static int
wait_tp_clear(PyObject *self)
{
    SocketWait *wait = (SocketWait *)self;
    Py_CLEAR(wait->call.sock);
    drop_arguments(wait);
    Py_CLEAR(wait->future);
    Py_CLEAR(wait->result);
    Py_CLEAR(wait->exception);
    return 0;
}

static void
wait_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    HLFreeList *list = &((SocketWait *)self)->call.st->free_socket_waits;
    PyObject_GC_UnTrack(self);
    wait_tp_clear(self);
    Py_CLEAR(((SocketWait *)self)->call.loop);
    if (hl_free_list_keep(list, self)) {
        return;
    }
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

/* ---- Tables ---- */

#define FAST_METHOD(function) (PyCFunction)(void (*)(void))function, METH_FASTCALL

PyMethodDef hl_sock_methods[] = {
    {"_start_recv", FAST_METHOD(loop_start_recv),
     "_start_recv($self, sock, n, /)\n--\n\nBegin sock_recv()."},
    {"_start_recv_into", FAST_METHOD(loop_start_recv_into),
     "_start_recv_into($self, sock, buf, /)\n--\n\nBegin sock_recv_into()."},
    {"_start_recvfrom", FAST_METHOD(loop_start_recvfrom),
     "_start_recvfrom($self, sock, bufsize, /)\n--\n\nBegin sock_recvfrom()."},
    {"_start_recvfrom_into", FAST_METHOD(loop_start_recvfrom_into),
     "_start_recvfrom_into($self, sock, buf, nbytes, /)\n--\n\nBegin sock_recvfrom_into()."},
    {"_start_sendall", FAST_METHOD(loop_start_sendall),
     "_start_sendall($self, sock, data, /)\n--\n\nBegin sock_sendall()."},
    {"_start_sendto", FAST_METHOD(loop_start_sendto),
     "_start_sendto($self, sock, data, address, /)\n--\n\nBegin sock_sendto()."},
    {"_start_accept", FAST_METHOD(loop_start_accept),
     "_start_accept($self, sock, /)\n--\n\nBegin sock_accept()."},
    {"_start_connect", FAST_METHOD(loop_start_connect),
     "_start_connect($self, sock, address, /)\n--\n\nBegin sock_connect(), its address resolved."},
    {"_may_have_transport", loop_may_have_transport, METH_O,
     "_may_have_transport($self, sock, /)\n--\n\n"
     "Return whether _ensure_fd_no_transport() is to be asked."},
    {"_takes_socket", loop_takes_socket, METH_O,
     "_takes_socket($self, sock, /)\n--\n\nReturn whether _start_...() may do more than decline."},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef wait_methods[] = {
    {"send", wait_send, METH_O, "send($self, value, /)\n--\n\nResume the wait."},
    {"throw", FAST_METHOD(wait_throw),
     "throw(type, value=None, traceback=None, /)\n\nEnd the wait with an exception."},
    {"result", wait_result, METH_NOARGS,
     "result($self, /)\n--\n\nReturn the result; to be called after the await."},
    {"close", wait_close, METH_NOARGS, "close($self, /)\n--\n\nGive up the wait."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot wait_slots[] = {
    {Py_tp_doc, "The wait for a socket to be ready."},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, wait_next},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, wait_am_send},
    {Py_tp_traverse, wait_tp_traverse},
    {Py_tp_clear, wait_tp_clear},
    {Py_tp_dealloc, wait_tp_dealloc},
    {Py_tp_methods, wait_methods},
    {0, NULL},
};

static PyType_Spec wait_spec = {
    "hotloop._core.SocketWait",
    sizeof(SocketWait),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
        | Py_TPFLAGS_IMMUTABLETYPE,
    wait_slots,
};

/* ---- Setup ---- */

int
hl_sock_setup(PyObject *module, HLState *st)
{
    if (hl_socket_setup(st) < 0) {
        return -1;
    }
    st->SocketWaitType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &wait_spec, NULL);
    return st->SocketWaitType != NULL ? PyModule_AddType(module, st->SocketWaitType) : -1;
}
