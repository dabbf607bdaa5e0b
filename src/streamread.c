/* Reading from a stream: one recv() for each time the descriptor is ready, and one call of the
   protocol.  Reads go through a buffer that all transports of the loop share: a bytes object made
   for as much as may come is fresh memory of the kernel's each time, which costs more than to copy
   what came.  But after a read of much the next first asks how much there is, for an object of just
   that size: a system call is cheaper than the copy.

   MSG_DONTWAIT, as a process that shares the socket may have made it blocking.

   The protocol is called in the context that was current when the transport was made or reading
   was resumed, as asyncio's reader handles are. */

#include "stream.h"
#include <sys/ioctl.h>

#define HL_READ_MUCH (32 * 1024) /* from here on a copy costs more than to ask */

/* ---- What came ---- */

static int
received_eof(HLStream *self)
{
    if (hl_stream_log(self, "%r received EOF") < 0) {
        return -1;
    }
    if (self->protocol == NULL) {
        return 0; /* ended by a strange log handler */
    }
    PyObject *protocol = Py_NewRef(self->protocol);
    PyObject *answer = PyObject_CallMethodNoArgs(protocol, self->st->name.eof_received);
    Py_DECREF(protocol);
    if (answer == NULL) {
        return hl_stream_fatal(self, "Fatal error: protocol.eof_received() call failed.");
    }
    int keep_open = PyObject_IsTrue(answer);
    Py_DECREF(answer);
    if (keep_open < 0) {
        return -1;
    }
    if (!keep_open) {
        PyObject *closed = PyObject_CallMethodNoArgs((PyObject *)self, self->st->name.close);
        Py_XDECREF(closed);
        return closed != NULL ? 0 : -1;
    }
    hl_watch_unset(self->watch, HL_READ);
    return 0;
}

static int
read_failed(HLStream *self)
{
    if (hl_would_block()) {
        return 0;
    }
    hl_set_errno(self->st);
    return hl_stream_fatal(self, "Fatal read error on socket transport");
}

/* ---- asyncio.Protocol ---- */

/* What one read asks for: max_size, or as much as there is room for. */
static size_t
read_size(const HLStream *self)
{
    return self->max_size < HL_READ_MAX ? self->max_size : HL_READ_MAX;
}

/* All there is, straight into an object of just that size.  NULL as receive(), or without either if
   there is little. */
static PyObject *
receive_much(HLStream *self)
{
    int there = 0;
    if (self->max_size < HL_READ_MUCH || ioctl(hl_stream_fd(self), FIONREAD, &there) < 0
        || there < HL_READ_MUCH) {
        self->reads_much = false;
        return NULL;
    }
    PyObject **spare = &self->loop->spare;
    Py_ssize_t most = (Py_ssize_t)read_size(self), size = there < most ? there : most;
    PyObject *data = hl_spare_take(spare, size);
    if (data == NULL) {
        return NULL;
    }
    ssize_t n = recv(hl_stream_fd(self), PyBytes_AS_STRING(data), (size_t)size, MSG_DONTWAIT);
    if (n == size) {
        return data;
    }
    int error = errno;
    PyObject *part = n < 0 ? NULL : PyBytes_FromStringAndSize(PyBytes_AS_STRING(data), n);
    hl_spare_release(spare, data);
    errno = error;
    return part;
}

/* A bytes object with what can be read now: empty at the end, NULL with errno set on failure or
   an exception. */
static PyObject *
receive(HLStream *self)
{
    if (self->reads_much) {
        PyObject *data = receive_much(self);
        if (data != NULL || self->reads_much) {
            return data;
        }
    }
    char *buffer = hl_loop_read_buffer(self->loop, HL_READ_MAX);
    if (buffer == NULL) {
        return NULL;
    }
    ssize_t n = recv(hl_stream_fd(self), buffer, read_size(self), MSG_DONTWAIT);
    self->reads_much = n >= HL_READ_MUCH;
    return n < 0 ? NULL : hl_spare_fill(&self->loop->spare, buffer, n);
}

static int
read_data(HLLoop *loop, HLStream *self)
{
    PyObject *data = receive(self);
    if (data == NULL) {
        return PyErr_Occurred() ? hl_stream_fatal(self, "Fatal read error on socket transport")
                                : read_failed(self);
    }
    if (PyBytes_GET_SIZE(data) == 0) {
        Py_DECREF(data);
        return received_eof(self);
    }
    PyObject *protocol = Py_NewRef(self->protocol);
    PyObject *done = PyObject_CallMethodOneArg(protocol, self->st->name.data_received, data);
    Py_DECREF(protocol);
    hl_spare_release(&loop->spare, data);
    if (done == NULL) {
        return hl_stream_fatal(self, "Fatal error: protocol.data_received() call failed.");
    }
    Py_DECREF(done);
    return 0;
}

/* ---- asyncio.BufferedProtocol ---- */

static PyObject *
get_buffer(HLStream *self)
{
    PyObject *hint = PyLong_FromLong(-1);
    if (hint == NULL) {
        return NULL;
    }
    PyObject *protocol = Py_NewRef(self->protocol);
    PyObject *buffer = PyObject_CallMethodOneArg(protocol, self->st->name.get_buffer, hint);
    Py_DECREF(protocol);
    Py_DECREF(hint);
    if (buffer == NULL) {
        return NULL;
    }
    HLBytes bytes;
    Py_ssize_t length = hl_borrow_bytes(buffer, &bytes) ? bytes.size : PyObject_Size(buffer);
    if (length == 0) {
        PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
    }
    if (length <= 0) {
        Py_CLEAR(buffer);
    }
    return buffer;
}

/* How many bytes came, or -1 with errno set or an exception. */
static ssize_t
receive_into(HLStream *self, PyObject *buffer)
{
    Py_buffer view;
    HLBytes bytes;
    if (hl_borrow_bytes(buffer, &bytes) && !bytes.readonly) {
        return recv(hl_stream_fd(self), bytes.data, (size_t)bytes.size, MSG_DONTWAIT);
    }
    if (PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) < 0) {
        PyErr_Format(PyExc_TypeError, /* as socket.recv_into() says it */
                     "recv_into() argument 1 must be read-write bytes-like object, not %.100s",
                     buffer == Py_None ? "None" : Py_TYPE(buffer)->tp_name);
        return -1;
    }
    ssize_t n = recv(hl_stream_fd(self), view.buf, (size_t)view.len, MSG_DONTWAIT);
    int error = errno;
    PyBuffer_Release(&view);
    errno = error;
    return n;
}

static int
read_into_buffer(HLStream *self)
{
    PyObject *buffer = get_buffer(self);
    if (buffer == NULL) {
        return hl_stream_fatal(self, "Fatal error: protocol.get_buffer() call failed.");
    }
    if (self->protocol == NULL) {
        Py_DECREF(buffer);
        return 0;
    }
    ssize_t n = receive_into(self, buffer);
    int error = errno;
    Py_DECREF(buffer);
    errno = error;
    if (self->protocol == NULL) {
        return 0; /* ended by a strange buffer, in letting go of it */
    }
    if (n < 0) {
        return PyErr_Occurred() ? hl_stream_fatal(self, "Fatal read error on socket transport")
                                : read_failed(self);
    }
    if (n == 0) {
        return received_eof(self);
    }
    PyObject *count = PyLong_FromSsize_t(n);
    PyObject *protocol = Py_NewRef(self->protocol);
    PyObject *done = count == NULL ? NULL
                                   : PyObject_CallMethodOneArg(
                                         protocol, self->st->name.buffer_updated, count);
    Py_DECREF(protocol);
    Py_XDECREF(count);
    if (done == NULL) {
        return hl_stream_fatal(self, "Fatal error: protocol.buffer_updated() call failed.");
    }
    Py_DECREF(done);
    return 0;
}

/* ---- The descriptor is readable ---- */

static int
read_ready(HLLoop *loop, PyObject *op)
{
    HLStream *self = (HLStream *)op;
    if (self->conn_lost || self->protocol == NULL) {
        return 0;
    }
    return self->buffered ? read_into_buffer(self) : read_data(loop, self);
}

static int
on_readable(HLLoop *loop, PyObject *op)
{
    HLStream *self = (HLStream *)op;
    if (!hl_watch_is_set(self->watch, HL_READ)) {
        return 0; /* stopped between the poll and now */
    }
    return hl_handle_run_method(loop, op, read_ready, "_read_ready", &self->context);
}

int
hl_stream_start_reading(HLLoop *Py_UNUSED(loop), PyObject *op)
{
    HLStream *self = (HLStream *)op;
    if (!self->closing && !self->paused) {
        hl_watch_set(self->watch, HL_READ, op, on_readable);
    }
    return 0;
}

/* ---- Methods ---- */

static PyObject *
stream_read_ready(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    HLLoop *loop = (HLLoop *)Py_XNewRef(((HLStream *)op)->loop);
    int rc = read_ready(loop, op);
    Py_XDECREF(loop);
    return hl_none_or_error(rc);
}

static PyObject *
stream_is_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    HLStream *self = (HLStream *)op;
    return PyBool_FromLong(!self->closing && !self->paused);
}

static PyObject *
stream_pause_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    HLStream *self = (HLStream *)op;
    if (self->closing || self->paused) {
        Py_RETURN_NONE;
    }
    self->paused = true;
    hl_watch_unset(self->watch, HL_READ);
    return hl_none_or_error(hl_stream_log(self, "%r pauses reading"));
}

static PyObject *
stream_resume_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    HLStream *self = (HLStream *)op;
    if (self->closing || !self->paused) {
        Py_RETURN_NONE;
    }
    self->paused = false;
    if (hl_loop_check_closed(self->loop) < 0) {
        return NULL;
    }
    if (!self->own_context) {
        PyObject *context;
        if (hl_capture_context(&context) < 0) {
            return NULL;
        }
        Py_XSETREF(self->context, context);
    }
    hl_watch_set(self->watch, HL_READ, op, on_readable);
    return hl_none_or_error(hl_stream_log(self, "%r resumes reading"));
}

int
hl_stream_set_protocol(HLStream *self, PyObject *protocol)
{
    int buffered = PyObject_IsInstance(protocol, self->st->BufferedProtocol);
    if (buffered < 0) {
        return -1;
    }
    self->buffered = buffered;
    Py_XSETREF(self->protocol, Py_NewRef(protocol));
    self->protocol_connected = true;
    return 0;
}

static PyObject *
stream_set_protocol(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *protocol = hl_parse_one("set_protocol", "protocol", args, nargs, kwnames);
    if (protocol == NULL) {
        return NULL;
    }
    return hl_none_or_error(hl_stream_set_protocol((HLStream *)op, protocol));
}

static PyObject *
stream_get_protocol(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    PyObject *protocol = ((HLStream *)op)->protocol;
    return Py_NewRef(hl_or_none(protocol));
}

PyMethodDef hl_stream_read_methods[] = {
    {"is_reading", stream_is_reading, METH_NOARGS,
     "is_reading($self, /)\n--\n\nReturn True if the transport is receiving."},
    {"pause_reading", stream_pause_reading, METH_NOARGS,
     "pause_reading($self, /)\n--\n\nReceive nothing until resume_reading()."},
    {"resume_reading", stream_resume_reading, METH_NOARGS,
     "resume_reading($self, /)\n--\n\nReceive again after pause_reading()."},
    {"set_protocol", (PyCFunction)(void (*)(void))stream_set_protocol,
     METH_FASTCALL | METH_KEYWORDS,
     "set_protocol($self, /, protocol)\n--\n\nHave another Protocol or BufferedProtocol called."},
    {"get_protocol", stream_get_protocol, METH_NOARGS,
     "get_protocol($self, /)\n--\n\nReturn the protocol that is called now."},
    {"_read_ready", stream_read_ready, METH_NOARGS,
     "_read_ready($self, /)\n--\n\nReceive once and call the protocol."},
    {NULL, NULL, 0, NULL},
};
