/* Writing to a pipe: each write() goes to the kernel at once, so that messages of up to PIPE_BUF
   bytes stay whole among several writers; what the kernel does not take is buffered until the
   descriptor is writable.

   The reading side of a pipe or socket is watched too: it becomes ready when the reader is gone.
   (Sockets that bring data are taken for closed as well, as in asyncio.) */

#include "pipe.h"

/* ---- The buffer ---- */

static Py_ssize_t
buffered(const HLPipe *self)
{
    return self->buffer != NULL ? PyByteArray_GET_SIZE(self->buffer) : 0;
}

static void
drop_buffer(HLPipe *self)
{
    Py_CLEAR(self->buffer);
}

static int
append(HLPipe *self, const char *data, Py_ssize_t length)
{
    if (self->buffer == NULL) {
        self->buffer = PyByteArray_FromStringAndSize(data, length);
        return self->buffer != NULL ? 0 : -1;
    }
    Py_ssize_t before = PyByteArray_GET_SIZE(self->buffer);
    if (length > PY_SSIZE_T_MAX - before) {
        PyErr_NoMemory();
        return -1;
    }
    if (PyByteArray_Resize(self->buffer, before + length) < 0) {
        return -1;
    }
    memcpy(PyByteArray_AS_STRING(self->buffer) + before, data, (size_t)length);
    return 0;
}

static int
consume(HLPipe *self, Py_ssize_t sent)
{
    if (sent == buffered(self)) {
        drop_buffer(self);
        return 0;
    }
    /* Cheap: a bytearray moves its start. */
    return sent > 0 ? PySequence_DelSlice(self->buffer, 0, sent) : 0;
}

/* ---- Flow control ---- */

static int
tell_protocol(HLPipe *self, PyObject *method, const char *failure)
{
    PyObject *protocol = Py_NewRef(self->protocol);
    PyObject *done = PyObject_CallMethodNoArgs(protocol, method);
    Py_DECREF(protocol);
    if (done != NULL) {
        Py_DECREF(done);
        return 0;
    }
    if (hl_is_fatal()) {
        return -1;
    }
    PyObject *exc = hl_take_exception();
    done = PyObject_CallMethod((PyObject *)self, "_report", "Os", exc, failure);
    Py_DECREF(exc);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

static int
maybe_pause_protocol(HLPipe *self)
{
    if (buffered(self) <= self->high_water || self->protocol_paused || self->protocol == NULL) {
        return 0;
    }
    self->protocol_paused = true;
    return tell_protocol(self, self->st->name.pause_writing, "protocol.pause_writing() failed");
}

static int
maybe_resume_protocol(HLPipe *self)
{
    if (!self->protocol_paused || buffered(self) > self->low_water || self->protocol == NULL) {
        return 0;
    }
    self->protocol_paused = false;
    return tell_protocol(self, self->st->name.resume_writing, "protocol.resume_writing() failed");
}

/* ---- The end ---- */

/* Close now; what is buffered is lost. */
static int
close_for(HLPipe *self, PyObject *exc)
{
    if (hl_pipe_unwatch(self, HL_WRITE) < 0) {
        return -1;
    }
    drop_buffer(self);
    return hl_pipe_end(self, exc);
}

/* Close when all is written. */
static int
close_gracefully(HLPipe *self)
{
    if (self->closing) {
        return 0;
    }
    self->closing = true;
    return buffered(self) == 0 ? hl_pipe_end(self, NULL) : 0;
}

static int
writing_failed(HLPipe *self)
{
    if (hl_is_fatal()) {
        return -1;
    }
    PyObject *exc = hl_take_exception();
    drop_buffer(self);
    self->conn_lost++;
    int rc = hl_pipe_unwatch(self, HL_WRITE);
    if (rc == 0) {
        hl_give_exception(exc);
        return hl_pipe_fatal(self, "Fatal write error on pipe transport");
    }
    Py_DECREF(exc);
    return -1;
}

static int
reader_is_gone(HLLoop *Py_UNUSED(loop), PyObject *op)
{
    HLPipe *self = (HLPipe *)op;
    if (self->losing) {
        return 0;
    }
    if (hl_pipe_log(self, "info", "%r was closed by peer") < 0) {
        return -1;
    }
    if (buffered(self) == 0) {
        return close_for(self, NULL);
    }
    PyObject *exc = PyObject_CallNoArgs(PyExc_BrokenPipeError);
    int rc = exc != NULL ? close_for(self, exc) : -1;
    Py_XDECREF(exc);
    return rc;
}

/* ---- The descriptor is ready ---- */

/* How much the kernel took, or -1 with an OSError set. */
static Py_ssize_t
write_some(HLPipe *self, const char *data, Py_ssize_t length)
{
    PyThreadState *saved = hl_pipe_detach(self);
    ssize_t sent = write(self->fd, data, (size_t)length);
    hl_pipe_attach(saved);
    if (sent < 0 && hl_pipe_would_block()) {
        return 0;
    }
    if (sent < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return sent;
}

static int
write_ready(HLLoop *Py_UNUSED(loop), PyObject *op)
{
    HLPipe *self = (HLPipe *)op;
    if (buffered(self) == 0) {
        return hl_pipe_unwatch(self, HL_WRITE);
    }
    Py_buffer view;
    if (PyObject_GetBuffer(self->buffer, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    Py_ssize_t sent = write_some(self, view.buf, view.len);
    PyBuffer_Release(&view);
    if (sent < 0) {
        return writing_failed(self);
    }
    if (consume(self, sent) < 0) {
        return -1;
    }
    if (buffered(self) > 0) {
        return 0;
    }
    if (hl_pipe_unwatch(self, HL_WRITE) < 0 || maybe_resume_protocol(self) < 0) { /* may write */
        return -1;
    }
    if (!self->closing || self->losing) {
        return 0;
    }
    return hl_pipe_unwatch(self, HL_READ) < 0 ? -1 : hl_pipe_lose(self, NULL);
}

static int
on_writable(HLLoop *loop, PyObject *op)
{
    return hl_pipe_on_ready(loop, op, HL_WRITE, write_ready);
}

static int
on_hangup(HLLoop *loop, PyObject *op)
{
    return hl_pipe_on_ready(loop, op, HL_READ, reader_is_gone);
}

/* ---- write ---- */

static int
drop_write(HLPipe *self)
{
    return hl_drop_write(self->st, &self->conn_lost,
                         "pipe closed by peer or os.write(pipe, data) raised exception.");
}

/* Keep what the kernel did not take until the descriptor is writable. */
static int
keep_rest(HLPipe *self, const char *data, Py_ssize_t length)
{
    if (buffered(self) == 0 && hl_pipe_watch(self, HL_WRITE, on_writable) < 0) {
        return -1;
    }
    return append(self, data, length);
}

static int
write_data(HLPipe *self, PyObject *data)
{
    Py_buffer view;
    bool idle = buffered(self) == 0;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return idle ? writing_failed(self) : -1; /* as os.write() fails */
    }
    if (self->conn_lost || self->closing) { /* by a strange __buffer__() */
        PyBuffer_Release(&view);
        return 0;
    }
    idle = buffered(self) == 0;
    Py_ssize_t sent = idle ? write_some(self, view.buf, view.len) : 0;
    int rc = sent < 0 || sent == view.len || self->loop == NULL
                 ? 0
                 : keep_rest(self, (const char *)view.buf + sent, view.len - sent);
    PyBuffer_Release(&view);
    if (sent < 0) {
        return writing_failed(self);
    }
    return rc < 0 ? -1 : maybe_pause_protocol(self);
}

static PyObject *
pipe_write(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *data = hl_parse_one("write", "data", args, nargs, kwnames);
    if (data == NULL) {
        return NULL;
    }
    HLPipe *self = (HLPipe *)op;
    if (!PyBytes_Check(data) && !PyByteArray_Check(data) && !PyMemoryView_Check(data)
        && self->st->asserts) {
        PyObject *shown = PyObject_Repr(data);
        if (shown != NULL) {
            PyErr_SetObject(PyExc_AssertionError, shown);
            Py_DECREF(shown);
        }
        return NULL;
    }
    Py_ssize_t length = PyObject_Size(data);
    if (length <= 0) {
        return hl_none_or_error((int)length);
    }
    return hl_none_or_error(self->conn_lost || self->closing ? drop_write(self)
                                                             : write_data(self, data));
}

/* ---- Other methods ---- */

static PyObject *
pipe_write_eof(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return hl_none_or_error(close_gracefully((HLPipe *)op));
}

static PyObject *
pipe_can_write_eof(PyObject *Py_UNUSED(op), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_TRUE;
}

static PyObject *
pipe_abort(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return hl_none_or_error(close_for((HLPipe *)op, NULL));
}

static PyObject *
pipe_close_for(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    return hl_none_or_error(close_for((HLPipe *)op, nargs > 0 ? args[0] : NULL));
}

static PyObject *
pipe_get_write_buffer_size(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromSsize_t(buffered((HLPipe *)op));
}

static PyObject *
pipe_maybe_pause_protocol(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return hl_none_or_error(maybe_pause_protocol((HLPipe *)op));
}

static PyObject *
pipe_maybe_resume_protocol(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return hl_none_or_error(maybe_resume_protocol((HLPipe *)op));
}

static PyObject *
pipe_write_ready(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return hl_none_or_error(write_ready(NULL, op));
}

static PyObject *
pipe_read_ready(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return hl_none_or_error(reader_is_gone(NULL, op));
}

PyMethodDef hl_write_pipe_methods[] = {
    {"write", (PyCFunction)(void (*)(void))pipe_write, METH_FASTCALL | METH_KEYWORDS,
     "write($self, /, data)\n--\n\nWrite bytes, bytearray or memoryview data; never blocks."},
    {"write_eof", pipe_write_eof, METH_NOARGS,
     "write_eof($self, /)\n--\n\nClose the pipe when all is written."},
    {"can_write_eof", pipe_can_write_eof, METH_NOARGS,
     "can_write_eof($self, /)\n--\n\nReturn True: closing a pipe is its end of file."},
    {"close", pipe_write_eof, METH_NOARGS,
     "close($self, /)\n--\n\nClose the pipe when all is written."},
    {"abort", pipe_abort, METH_NOARGS,
     "abort($self, /)\n--\n\nClose the pipe now; what is not written yet is lost."},
    {"get_write_buffer_size", pipe_get_write_buffer_size, METH_NOARGS,
     "get_write_buffer_size($self, /)\n--\n\nReturn how many bytes the kernel has not taken yet."},
    {"_close", (PyCFunction)(void (*)(void))pipe_close_for, METH_FASTCALL,
     "_close($self, exc=None, /)\n--\n\nClose the pipe now, for the reason exc."},
    {"_maybe_pause_protocol", pipe_maybe_pause_protocol, METH_NOARGS,
     "_maybe_pause_protocol($self, /)\n--\n\nCall pause_writing() if too much is buffered."},
    {"_maybe_resume_protocol", pipe_maybe_resume_protocol, METH_NOARGS,
     "_maybe_resume_protocol($self, /)\n--\n\nCall resume_writing() if little is buffered now."},
    {"_write_ready", pipe_write_ready, METH_NOARGS,
     "_write_ready($self, /)\n--\n\nWrite what is buffered."},
    {"_read_ready", pipe_read_ready, METH_NOARGS,
     "_read_ready($self, /)\n--\n\nClose the pipe, for its reader is gone."},
    {NULL, NULL, 0, NULL},
};

/* ---- Making ---- */

/* Can one see by the reading side that the reader is gone? */
static bool
tells_of_hangup(const struct stat *status)
{
#if defined(_AIX)
    return S_ISSOCK(status->st_mode);
#elif defined(__APPLE__) || defined(__sun)
    /* A FIFO with a name is readable there whenever it holds data (gh-145030). */
    return S_ISSOCK(status->st_mode) || (S_ISFIFO(status->st_mode) && status->st_nlink == 0);
#else
    return S_ISSOCK(status->st_mode) || S_ISFIFO(status->st_mode);
#endif
}

int
hl_write_pipe_tp_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static const HLPipeKind kind = {"WritePipeTransport",
                                    "Pipe transport is only for "
                                    "pipes, sockets and character devices",
                                    tells_of_hangup, on_hangup};
    return hl_pipe_init((HLPipe *)op, &kind, args, kwargs);
}
