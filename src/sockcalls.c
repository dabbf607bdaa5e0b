/* One attempt at each sock_ operation, by a system call of ours or by the socket's own method.

   An attempt gives the result, an exception, or says that it would block; sock.c then waits and
   has it made again.  Nothing here keeps anything between two attempts but the count of bytes
   sent, in the call itself. */

#include "sock.h"
#include "address.h"
#include <sys/socket.h>

#define HL_SMALL HL_READ_MAX /* bytes that are moved without letting go of the GIL */

int
hl_socket_find_fd(HLSocketCall *call)
{
    PyObject *number = call->st->socket_fileno(call->sock, NULL);
    call->fd = number != NULL ? (int)PyLong_AsLong(number) : -1;
    Py_XDECREF(number);
    return call->fd == -1 && PyErr_Occurred() ? -1 : 0;
}

/* ---- Attempts by system calls of our own: what Python's make of them, without exceptions
   where they would block.  MSG_DONTWAIT, because another process that shares the socket may have
   made it blocking. ---- */

/* The value of recv() or send() that failed. */
static PyObject *
failed(bool *blocked)
{
    *blocked = errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    return *blocked ? NULL : PyErr_SetFromErrno(PyExc_OSError);
}

static ssize_t
receive(int fd, void *buffer, size_t size)
{
    if (size <= HL_SMALL) {
        return recv(fd, buffer, size, MSG_DONTWAIT);
    }
    ssize_t n;
    Py_BEGIN_ALLOW_THREADS
    n = recv(fd, buffer, size, MSG_DONTWAIT);
    Py_END_ALLOW_THREADS
    return n;
}

static PyObject *
attempt_large_recv(HLSocketCall *call, Py_ssize_t size, bool *blocked)
{
    PyObject *data = PyBytes_FromStringAndSize(NULL, size);
    if (data == NULL) {
        return NULL;
    }
    ssize_t n = receive(call->fd, PyBytes_AS_STRING(data), (size_t)size);
    if (n < 0) {
        int error = errno;
        Py_DECREF(data);
        errno = error;
        return failed(blocked);
    }
    hl_shrink_bytes(&data, n);
    return data;
}

static PyObject *
attempt_recv(HLSocketCall *call, bool *blocked)
{
    Py_ssize_t size = PyLong_AsSsize_t(call->args[0]);
    if (size > HL_SMALL) {
        return attempt_large_recv(call, size, blocked);
    }
    char *buffer = hl_loop_read_buffer(call->loop, HL_READ_MAX);
    if (buffer == NULL) {
        return NULL;
    }
    ssize_t n = receive(call->fd, buffer, (size_t)size);
    return n < 0 ? failed(blocked) : PyBytes_FromStringAndSize(buffer, n);
}

/* Python's recv(0) asks the kernel for nothing, so it may have that. */
static bool
takes_recv(const HLSocketCall *call)
{
    int overflow = 0;
    return PyLong_CheckExact(call->args[0])
           && PyLong_AsLongAndOverflow(call->args[0], &overflow) > 0 && overflow == 0;
}

static PyObject *
attempt_recv_into(HLSocketCall *call, bool *blocked)
{
    Py_buffer view;
    if (PyObject_GetBuffer(call->args[0], &view, PyBUF_WRITABLE) < 0) {
        PyErr_Clear(); /* released since: Python has its own words for it */
        return PyObject_CallMethodOneArg(call->sock, call->st->name.recv_into, call->args[0]);
    }
    ssize_t n = view.len > 0 ? receive(call->fd, view.buf, (size_t)view.len) : 0;
    PyObject *result = n < 0 ? failed(blocked) : PyLong_FromSsize_t(n);
    PyBuffer_Release(&view);
    return result;
}

/* bytearray and memoryview items are counted as asyncio counts them: by len(). */
static bool
is_bytes_like(PyObject *data)
{
    return PyByteArray_CheckExact(data)
           || (PyMemoryView_Check(data) && PyMemoryView_GET_BUFFER(data)->ndim == 1
               && PyMemoryView_GET_BUFFER(data)->itemsize == 1);
}

static bool
takes_recv_into(const HLSocketCall *call)
{
    Py_buffer view;
    if (!is_bytes_like(call->args[0])) {
        return false;
    }
    if (PyObject_GetBuffer(call->args[0], &view, PyBUF_WRITABLE) < 0) {
        PyErr_Clear();
        return false;
    }
    PyBuffer_Release(&view);
    return true;
}

static PyObject *
attempt_sendall(HLSocketCall *call, bool *blocked)
{
    Py_buffer view;
    if (PyObject_GetBuffer(call->args[0], &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    const char *rest = (const char *)view.buf + call->sent;
    size_t size = (size_t)(view.len - call->sent);
    ssize_t n;
    if (size <= HL_SMALL) {
        n = send(call->fd, rest, size, MSG_DONTWAIT);
    }
    else {
        Py_BEGIN_ALLOW_THREADS
        n = send(call->fd, rest, size, MSG_DONTWAIT);
        Py_END_ALLOW_THREADS
    }
    PyObject *result = NULL;
    if (n < 0) {
        failed(blocked);
    }
    else {
        call->sent += n;
        *blocked = (size_t)n < size;
        result = *blocked ? NULL : Py_NewRef(Py_None);
    }
    PyBuffer_Release(&view);
    return result;
}

static bool
takes_sendall(const HLSocketCall *call)
{
    return PyBytes_CheckExact(call->args[0]) || is_bytes_like(call->args[0]);
}

/* ---- Attempts by the socket's own methods, which know about all kinds of addresses ---- */

static PyObject *
call_method(HLSocketCall *call, bool *blocked, PyObject *name, PyObject *const *args, size_t nargs)
{
    PyObject *result = PyObject_VectorcallMethod(name, args, nargs, NULL);
    if (result == NULL
        && (PyErr_ExceptionMatches(PyExc_BlockingIOError)
            || PyErr_ExceptionMatches(PyExc_InterruptedError))) {
        PyErr_Clear();
        *blocked = true;
    }
    return result;
}

static int
family_of(HLState *st, PyObject *sock)
{
    PyObject *descriptor = st->socket_family;
    PyObject *number = Py_TYPE(descriptor)->tp_descr_get(descriptor, sock, NULL);
    int family = number != NULL ? (int)PyLong_AsLong(number) : -1;
    Py_XDECREF(number);
    PyErr_Clear();
    return family;
}

/* As Python's methods raise it; hooks may close the socket. */
static int
audit(HLSocketCall *call, const char *event, PyObject *address)
{
    return PySys_Audit(event, "OO", call->sock, address) < 0 ? -1 : hl_socket_find_fd(call);
}

static PyObject *
recvfrom_directly(HLSocketCall *call, size_t size, bool *blocked)
{
    char *buffer = hl_loop_read_buffer(call->loop, HL_READ_MAX);
    if (buffer == NULL) {
        return NULL;
    }
    struct sockaddr_storage from;
    socklen_t length = sizeof(from);
    ssize_t n = recvfrom(call->fd, buffer, size, MSG_DONTWAIT, (struct sockaddr *)&from, &length);
    if (n < 0) {
        return failed(blocked);
    }
    PyObject *data = PyBytes_FromStringAndSize(buffer, n);
    PyObject *address = hl_address_object((struct sockaddr *)&from, length);
    PyObject *pair = data != NULL && address != NULL ? PyTuple_Pack(2, data, address) : NULL;
    Py_XDECREF(data);
    Py_XDECREF(address);
    return pair;
}

static PyObject *
attempt_recvfrom(HLSocketCall *call, bool *blocked)
{
    int family = family_of(call->st, call->sock);
    if ((family == AF_INET || family == AF_INET6) && takes_recv(call)
        && PyLong_AsSsize_t(call->args[0]) <= HL_SMALL) {
        return recvfrom_directly(call, PyLong_AsSize_t(call->args[0]), blocked);
    }
    PyObject *args[2] = {call->sock, call->args[0]};
    return call_method(call, blocked, call->st->name.recvfrom, args, 2);
}

static PyObject *
attempt_recvfrom_into(HLSocketCall *call, bool *blocked)
{
    PyObject *args[3] = {call->sock, call->args[0], call->args[1]};
    return call_method(call, blocked, call->st->name.recvfrom_into, args, 3);
}

static PyObject *
sendto_directly(HLSocketCall *call, const HLAddress *to, bool *blocked)
{
    PyObject *data = call->args[0];
    if (audit(call, "socket.sendto", call->args[1]) < 0) {
        return NULL;
    }
    ssize_t n = sendto(call->fd, PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data),
                       MSG_DONTWAIT | MSG_NOSIGNAL, &to->any, to->length);
    return n < 0 ? failed(blocked) : PyLong_FromSsize_t(n);
}

static PyObject *
attempt_sendto(HLSocketCall *call, bool *blocked)
{
    PyObject *name = call->st->name.sendto;
    HLAddress to;
    if (PyBytes_CheckExact(call->args[0])
        && hl_address_parse(family_of(call->st, call->sock), call->args[1], &to)) {
        return sendto_directly(call, &to, blocked);
    }
    if (!call->again) {
        PyObject *args[3] = {call->sock, call->args[0], call->args[1]};
        return call_method(call, blocked, name, args, 3);
    }
    PyObject *no_flags = PyLong_FromLong(0);
    PyObject *args[4] = {call->sock, call->args[0], no_flags, call->args[1]};
    PyObject *result = no_flags != NULL ? call_method(call, blocked, name, args, 4) : NULL;
    Py_XDECREF(no_flags);
    return result;
}

static PyObject *
attempt_accept(HLSocketCall *call, bool *blocked)
{
    PyObject *pair = call_method(call, blocked, call->st->name.accept, &call->sock, 1);
    if (pair == NULL) {
        return NULL;
    }
    PyObject *conn = PySequence_GetItem(pair, 0);
    PyObject *args[2] = {conn, Py_False};
    PyObject *done = conn != NULL ? call_method(call, blocked, call->st->name.setblocking, args, 2)
                                  : NULL;
    Py_XDECREF(conn);
    Py_XDECREF(done);
    if (done == NULL) {
        Py_CLEAR(pair);
    }
    return pair;
}

/* How a connect() that took its time has ended: SO_ERROR says. */
static PyObject *
connect_outcome(HLSocketCall *call)
{
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(call->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    if (error == 0) {
        return Py_NewRef(Py_None);
    }
    PyObject *message = PyUnicode_FromFormat("Connect call failed %S", call->args[0]);
    PyObject *exc = message != NULL ? PyObject_CallFunction(PyExc_OSError, "iO", error, message)
                                    : NULL;
    if (exc != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    }
    Py_XDECREF(message);
    Py_XDECREF(exc);
    return NULL;
}

/* Python's connect() to a numeric address, without the exception where it takes its time. */
static PyObject *
connect_directly(HLSocketCall *call, const HLAddress *address, bool *blocked)
{
    if (audit(call, "socket.connect", call->args[0]) < 0) {
        return NULL;
    }
    if (connect(call->fd, &address->any, address->length) == 0) {
        Py_RETURN_NONE;
    }
    *blocked = errno == EINPROGRESS || errno == EALREADY || errno == EAGAIN || errno == EWOULDBLOCK
               || errno == EINTR;
    return *blocked ? NULL : PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *
attempt_connect(HLSocketCall *call, bool *blocked)
{
    HLAddress address;
    if (call->again) {
        return connect_outcome(call);
    }
    if (hl_address_parse(family_of(call->st, call->sock), call->args[0], &address)) {
        return connect_directly(call, &address, blocked);
    }
    PyObject *args[2] = {call->sock, call->args[0]};
    PyObject *done = call_method(call, blocked, call->st->name.connect, args, 2);
    Py_XDECREF(done);
    return done != NULL ? Py_NewRef(Py_None) : NULL;
}

/* ---- The operations ---- */

const HLSocketOperation hl_recv_operation = {offsetof(HLNames, recv), HL_READ, takes_recv,
                                             attempt_recv};
const HLSocketOperation hl_recv_into_operation = {offsetof(HLNames, recv_into), HL_READ,
                                                  takes_recv_into, attempt_recv_into};
const HLSocketOperation hl_recvfrom_operation = {offsetof(HLNames, recvfrom), HL_READ, NULL,
                                                 attempt_recvfrom};
const HLSocketOperation hl_recvfrom_into_operation = {offsetof(HLNames, recvfrom_into), HL_READ,
                                                      NULL, attempt_recvfrom_into};
const HLSocketOperation hl_sendall_operation = {offsetof(HLNames, send), HL_WRITE, takes_sendall,
                                                attempt_sendall};
const HLSocketOperation hl_sendto_operation = {offsetof(HLNames, sendto), HL_WRITE, NULL,
                                               attempt_sendto};
const HLSocketOperation hl_accept_operation = {offsetof(HLNames, accept), HL_READ, NULL,
                                               attempt_accept};
const HLSocketOperation hl_connect_operation = {offsetof(HLNames, connect), HL_WRITE, NULL,
                                                attempt_connect};
