/* Reading from a pipe: one read() for each time the descriptor is ready, and one call of the
   protocol, through the buffer that all transports of the loop share.

   As in asyncio, what data_received() raises goes to the loop's exception handler, and the
   transport goes on. */

#include "pipe.h"

/* ---- What came ---- */

/* A bytes object with what can be read now: empty at the end, NULL with errno set on failure or
   an exception. */
static PyObject *
read_some(HLPipe *self, HLLoop *loop)
{
    char *buffer = hl_loop_read_buffer(loop, HL_READ_MAX);
    if (buffer == NULL) {
        return NULL;
    }
    if (self->max_size < 0) {
        errno = EINVAL; /* as in os.read() */
        return NULL;
    }
    size_t size = self->max_size < HL_READ_MAX ? (size_t)self->max_size : HL_READ_MAX;
    PyThreadState *saved = hl_pipe_detach(self);
    ssize_t n = read(self->fd, buffer, size);
    hl_pipe_attach(saved);
    return n < 0 ? NULL : hl_spare_fill(&loop->spare, buffer, n);
}

static int
reading_failed(HLPipe *self)
{
    if (!PyErr_Occurred()) {
        if (hl_pipe_would_block()) {
            return 0;
        }
        PyErr_SetFromErrno(PyExc_OSError);
    }
    else if (!PyErr_ExceptionMatches(PyExc_OSError)) {
        return -1;
    }
    return hl_pipe_fatal(self, "Fatal read error on pipe transport");
}

static int
received_eof(HLPipe *self)
{
    if (hl_pipe_log(self, "info", "%r was closed by peer") < 0) {
        return -1;
    }
    self->closing = true;
    if (hl_pipe_unwatch(self, HL_READ) < 0) {
        return -1;
    }
    if (self->losing || self->protocol == NULL) {
        return 0; /* whoever read the log closed us */
    }
    PyObject *protocol = Py_NewRef(self->protocol);
    int rc = hl_pipe_schedule(self, protocol, "eof_received", NULL);
    Py_DECREF(protocol);
    return rc < 0 ? -1 : hl_pipe_end(self, NULL);
}

static int
read_ready(HLLoop *loop, PyObject *op)
{
    HLPipe *self = (HLPipe *)op;
    if (self->losing || self->protocol == NULL) {
        return 0;
    }
    PyObject *data = read_some(self, loop);
    if (data == NULL) {
        return reading_failed(self);
    }
    if (PyBytes_GET_SIZE(data) == 0) {
        Py_DECREF(data);
        return received_eof(self);
    }
    PyObject *protocol = Py_NewRef(hl_or_none(self->protocol));
    PyObject *done = PyObject_CallMethodOneArg(protocol, self->st->name.data_received, data);
    Py_DECREF(protocol);
    hl_spare_release(&loop->spare, data);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

static int
on_readable(HLLoop *loop, PyObject *op)
{
    return hl_pipe_on_ready(loop, op, HL_READ, read_ready);
}

/* ---- Methods ---- */

static PyObject *
pipe_read_ready(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    HLPipe *self = (HLPipe *)op;
    HLLoop *loop = (HLLoop *)Py_XNewRef(self->loop);
    int rc = loop != NULL ? read_ready(loop, op) : 0;
    Py_XDECREF(loop);
    return hl_none_or_error(rc);
}

static PyObject *
pipe_is_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    HLPipe *self = (HLPipe *)op;
    return PyBool_FromLong(!self->paused && !self->closing);
}

static PyObject *
pipe_pause_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    HLPipe *self = (HLPipe *)op;
    if (self->closing || self->paused) {
        Py_RETURN_NONE;
    }
    self->paused = true;
    if (hl_pipe_unwatch(self, HL_READ) < 0) {
        return NULL;
    }
    return hl_none_or_error(hl_pipe_log(self, "debug", "%r pauses reading"));
}

static PyObject *
pipe_resume_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    HLPipe *self = (HLPipe *)op;
    if (self->closing || !self->paused) {
        Py_RETURN_NONE;
    }
    self->paused = false;
    if (hl_pipe_watch(self, HL_READ, on_readable) < 0) {
        return NULL;
    }
    return hl_none_or_error(hl_pipe_log(self, "debug", "%r resumes reading"));
}

static PyObject *
pipe_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    HLPipe *self = (HLPipe *)op;
    return hl_none_or_error(self->closing ? 0 : hl_pipe_end(self, NULL));
}

static PyObject *
pipe_close_for(PyObject *op, PyObject *exc)
{
    return hl_none_or_error(hl_pipe_end((HLPipe *)op, exc));
}

PyMethodDef hl_read_pipe_methods[] = {
    {"is_reading", pipe_is_reading, METH_NOARGS,
     "is_reading($self, /)\n--\n\nReturn True if the transport is receiving."},
    {"pause_reading", pipe_pause_reading, METH_NOARGS,
     "pause_reading($self, /)\n--\n\nReceive nothing until resume_reading()."},
    {"resume_reading", pipe_resume_reading, METH_NOARGS,
     "resume_reading($self, /)\n--\n\nReceive again after pause_reading()."},
    {"close", pipe_close, METH_NOARGS, "close($self, /)\n--\n\nRead no more; close the pipe."},
    {"_close", pipe_close_for, METH_O,
     "_close($self, exc, /)\n--\n\nClose the pipe for the reason exc (or None)."},
    {"_read_ready", pipe_read_ready, METH_NOARGS,
     "_read_ready($self, /)\n--\n\nRead once and call the protocol."},
    {NULL, NULL, 0, NULL},
};

/* ---- Making ---- */

static bool
always(const struct stat *Py_UNUSED(status))
{
    return true;
}

int
hl_read_pipe_tp_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static const HLPipeKind kind = {
        "ReadPipeTransport", "Pipe transport is for pipes/sockets only.", always, on_readable};
    return hl_pipe_init((HLPipe *)op, &kind, args, kwargs);
}
