/* Writing to a stream: what write() and writelines() queue; streamsend.c sends it.

   Chunks are bytes objects: mutable data is copied when it is queued, except that large data is
   first offered to the kernel where it lies. */

#include "stream.h"

/* ---- write, writelines ---- */

static int
check_writable(HLStream *self, const char *method)
{
    if (self->eof) {
        PyErr_Format(PyExc_RuntimeError, "Cannot call %s() after write_eof()", method);
        return -1;
    }
    if (self->empty_waiter != NULL) {
        PyErr_Format(PyExc_RuntimeError, "unable to %s; sendfile is in progress", method);
        return -1;
    }
    return 0;
}

static int
drop_write(HLStream *self)
{
    return hl_drop_write(self->st, &self->conn_lost, "socket.send() raised exception.");
}

/* Offer data to the kernel where it lies; return what is left of it as bytes. */
static PyObject *
send_directly(HLStream *self, const char *data, Py_ssize_t length)
{
    ssize_t sent = send(hl_stream_fd(self), data, (size_t)length, HL_SEND_FLAGS);
    if (sent < 0 && !hl_would_block()) {
        PyErr_SetFromErrno(PyExc_OSError);
        return hl_stream_sending_failed(self) < 0 ? NULL : PyBytes_FromStringAndSize(NULL, 0);
    }
    sent = sent < 0 ? 0 : sent;
    return PyBytes_FromStringAndSize(data + sent, length - sent);
}

/* The bytes to queue for data; empty if there is nothing left to send. */
static PyObject *
to_chunk(HLStream *self, PyObject *data)
{
    if (PyBytes_CheckExact(data)) {
        return Py_NewRef(data);
    }
    HLBytes bytes;
    if (hl_borrow_bytes(data, &bytes) && bytes.size < HL_FLUSH_SIZE) {
        return hl_spare_fill(&self->loop->spare, bytes.data, bytes.size);
    }
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    if (self->conn_lost) { /* by a strange __buffer__() */
        PyBuffer_Release(&view);
        return PyBytes_FromStringAndSize(NULL, 0);
    }
    bool direct = view.len >= HL_FLUSH_SIZE && self->queue.size == 0;
    PyObject *chunk = direct ? send_directly(self, view.buf, view.len)
                             : hl_spare_fill(&self->loop->spare, view.buf, view.len);
    PyBuffer_Release(&view);
    return chunk;
}

static int
enqueue(HLStream *self, PyObject *data)
{
    PyObject *chunk = to_chunk(self, data);
    if (chunk == NULL) {
        return -1;
    }
    if (PyBytes_GET_SIZE(chunk) == 0 || self->conn_lost) { /* by a strange buffer */
        Py_DECREF(chunk);
        return 0;
    }
    return hl_queue_append(&self->queue, chunk);
}

static PyObject *
refuse_data(HLStream *self, PyObject *data)
{
    PyObject *name = PyType_GetName(Py_TYPE(data));
    if (name != NULL) {
        PyErr_Format(PyExc_TypeError,
                     self->st->write_names_types
                         ? "data argument must be a bytes, bytearray, or memoryview object, not %R"
                         : "data argument must be a bytes-like object, not %R",
                     name);
        Py_DECREF(name);
    }
    return NULL;
}

/* asyncio lets socket.send() take the data, or end the connection: a memoryview with gaps. */
static PyObject *
refused_by_send(HLStream *self)
{
    if (!PyErr_ExceptionMatches(PyExc_BufferError)
        || hl_stream_fatal(self, "Fatal write error on socket transport") < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
stream_write(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *data = hl_parse_one("write", "data", args, nargs, kwnames);
    if (data == NULL) {
        return NULL;
    }
    HLStream *self = (HLStream *)op;
    if (!PyBytes_Check(data) && !PyMemoryView_Check(data) && !PyByteArray_Check(data)) {
        return refuse_data(self, data);
    }
    if (check_writable(self, "write") < 0) {
        return NULL;
    }
    HLBytes bytes;
    Py_ssize_t length = PyBytes_Check(data)             ? PyBytes_GET_SIZE(data)
                        : hl_borrow_bytes(data, &bytes) ? bytes.size
                                                        : PyObject_Size(data);
    if (length <= 0) {
        return hl_none_or_error(length);
    }
    if (self->conn_lost) {
        return hl_none_or_error(drop_write(self));
    }
    if (enqueue(self, data) < 0) {
        return refused_by_send(self);
    }
    if (self->queue.size > 0 && hl_stream_flush_in_time(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

#if PY_VERSION_HEX >= 0x030C0000 /* asyncio's was write(b"".join(lines)) until then */

static PyObject *
check_lines(PyObject *lines)
{
    PyObject *list = PySequence_List(lines);
    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list); i++) {
        if (!PyBytes_CheckExact(PyList_GET_ITEM(list, i))) {
            PyObject *view = PyMemoryView_FromObject(PyList_GET_ITEM(list, i));
            if (view == NULL) {
                Py_CLEAR(list);
            }
            Py_XDECREF(view);
        }
    }
    return list;
}

/* The pieces to send as a list; NULL, maybe without an exception, if there is nothing to do. */
static PyObject *
take_lines(HLStream *self, PyObject *lines)
{
    if (PyObject_IsTrue(lines) <= 0) {
        return NULL;
    }
    if (self->conn_lost) {
        drop_write(self);
        return NULL;
    }
    return check_lines(lines);
}

static PyObject *
stream_writelines(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *lines = hl_parse_one("writelines", "list_of_data", args, nargs, kwnames);
    if (lines == NULL) {
        return NULL;
    }
    HLStream *self = (HLStream *)op;
    if (check_writable(self, "writelines") < 0) {
        return NULL;
    }
    PyObject *list = take_lines(self, lines);
    if (list == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    Py_ssize_t count = PyList_GET_SIZE(list);
    int rc = 0;
    for (Py_ssize_t i = 0; i < count && rc == 0 && !self->conn_lost; i++) {
        rc = enqueue(self, PyList_GET_ITEM(list, i));
    }
    Py_DECREF(list);
    PyObject *raised = rc < 0 ? hl_take_exception() : NULL;
    if (self->queue.size > 0 && hl_stream_flush_in_time(self) < 0) {
        Py_XDECREF(raised);
        return NULL;
    }
    if (raised != NULL) {
        hl_give_exception(raised);
        return refused_by_send(self);
    }
    Py_RETURN_NONE;
}

#endif

/* ---- Other methods ---- */

static PyObject *
stream_write_eof(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    HLStream *self = (HLStream *)op;
    if (self->closing || self->eof) {
        Py_RETURN_NONE;
    }
    if (hl_stream_flush(self) < 0) {
        return NULL;
    }
    if (self->closing) {
        Py_RETURN_NONE; /* the flush failed */
    }
    self->eof = true;
    if (self->queue.size == 0 && hl_stream_shut_down(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
stream_can_write_eof(PyObject *Py_UNUSED(op), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_TRUE;
}

static PyObject *
stream_get_write_buffer_size(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    HLStream *self = (HLStream *)op;
    return hl_stream_flush(self) < 0 ? NULL : PyLong_FromSize_t(self->queue.size);
}

static PyObject *
stream_maybe_pause_protocol(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    HLStream *self = (HLStream *)op;
    if (hl_stream_flush(self) < 0 || hl_stream_maybe_pause(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
stream_maybe_resume_protocol(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return hl_none_or_error(hl_stream_maybe_resume((HLStream *)op));
}

static PyObject *
stream_write_ready(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return hl_none_or_error(hl_stream_write_ready(NULL, op));
}

PyMethodDef hl_stream_write_methods[] = {
    {"write", (PyCFunction)(void (*)(void))stream_write, METH_FASTCALL | METH_KEYWORDS,
     "write($self, /, data)\n--\n\nSend bytes, bytearray or memoryview data; never blocks."},
#if PY_VERSION_HEX >= 0x030C0000
    {"writelines", (PyCFunction)(void (*)(void))stream_writelines, METH_FASTCALL | METH_KEYWORDS,
     "writelines($self, /, list_of_data)\n--\n\nSend all the pieces, in one system call if possible."},
#endif
    {"write_eof", stream_write_eof, METH_NOARGS,
     "write_eof($self, /)\n--\n\nShut the sending side down when all is sent."},
    {"can_write_eof", stream_can_write_eof, METH_NOARGS,
     "can_write_eof($self, /)\n--\n\nReturn True: sockets can be half closed."},
    {"get_write_buffer_size", stream_get_write_buffer_size, METH_NOARGS,
     "get_write_buffer_size($self, /)\n--\n\nReturn how many bytes the kernel has not taken yet."},
    {"_maybe_pause_protocol", stream_maybe_pause_protocol, METH_NOARGS,
     "_maybe_pause_protocol($self, /)\n--\n\nCall pause_writing() if too much is buffered."},
    {"_maybe_resume_protocol", stream_maybe_resume_protocol, METH_NOARGS,
     "_maybe_resume_protocol($self, /)\n--\n\nCall resume_writing() if little is buffered now."},
    {"_write_ready", stream_write_ready, METH_NOARGS,
     "_write_ready($self, /)\n--\n\nSend what is buffered."},
    {NULL, NULL, 0, NULL},
};
