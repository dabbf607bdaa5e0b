/* What a StreamReader has received and not yet given: the inside of hotloop/_streams.py's reader,
   whose coroutines ask here and wait for the future that wait() makes.

   States: the bytes are in chunk, the very object that the protocol was given, of which the first
   `taken` bytes are gone; or in buffer, a bytearray, once there is more than that or somebody
   asked for it; or there are none, and both are NULL.  Never in both.  A buffer that others hold
   stays, as asyncio's reader has one for life.

   Owners: the reader, and its protocol, whose data_received() is our receive().  We know the reader
   by a weak reference, as asyncio's protocol does: data for one that is gone is dropped.
   Threads: the loop's. */

#include "hotloop.h"

typedef struct {
    PyObject_HEAD
    HLState *st;                              /* borrowed: lives as long as our types */
    PyObject *loop;                           /* owned */
    PyObject *reader;                         /* owned: a weak reference */
    PyObject *chunk;                          /* owned, or NULL: exactly bytes, never empty */
    Py_ssize_t taken;                         /* fewer than chunk has */
    PyObject *buffer;                         /* owned, or NULL */
    PyObject *waiter, *exception, *transport; /* owned; None or what asyncio's reader has there */
    Py_ssize_t limit;
    char eof, paused;
} StreamBuffer;

/* Python code may delete what it may set. */
static bool
is_none(PyObject *value)
{
    return value == NULL || value == Py_None;
}

/* ---- The bytes ---- */

static Py_ssize_t
available(const StreamBuffer *self)
{
    if (self->chunk != NULL) {
        return PyBytes_GET_SIZE(self->chunk) - self->taken;
    }
    return self->buffer != NULL ? PyByteArray_GET_SIZE(self->buffer) : 0;
}

static const char *
first_byte(const StreamBuffer *self)
{
    if (self->chunk != NULL) {
        return PyBytes_AS_STRING(self->chunk) + self->taken;
    }
    return self->buffer != NULL ? PyByteArray_AS_STRING(self->buffer) : "";
}

/* Have everything in a bytearray.  Borrowed. */
static PyObject *
as_bytearray(StreamBuffer *self)
{
    if (self->buffer == NULL) {
        self->buffer = PyByteArray_FromStringAndSize(first_byte(self), available(self));
        if (self->buffer != NULL) {
            Py_CLEAR(self->chunk);
        }
    }
    return self->buffer;
}

static PyObject *
take_from_chunk(StreamBuffer *self, Py_ssize_t size)
{
    if (size == PyBytes_GET_SIZE(self->chunk)) {
        PyObject *whole = self->chunk;
        self->chunk = NULL;
        return whole;
    }
    PyObject *part = PyBytes_FromStringAndSize(first_byte(self), size);
    if (part != NULL) {
        self->taken += size;
        if (self->taken == PyBytes_GET_SIZE(self->chunk)) {
            Py_CLEAR(self->chunk);
        }
    }
    return part;
}

static PyObject *
take_from_buffer(StreamBuffer *self, Py_ssize_t size)
{
    PyObject *part = PyBytes_FromStringAndSize(first_byte(self), size);
    if (part != NULL && size == available(self) && Py_REFCNT(self->buffer) == 1) {
        Py_CLEAR(self->buffer);
    }
    else if (part != NULL && PySequence_DelSlice(self->buffer, 0, size) < 0) {
        Py_CLEAR(part);
    }
    return part;
}

/* Remove that many bytes, of which there are as many, and return them. */
static PyObject *
take(StreamBuffer *self, Py_ssize_t size)
{
    if (self->chunk != NULL && size > 0) {
        return take_from_chunk(self, size);
    }
    if (self->buffer != NULL && size > 0) {
        return take_from_buffer(self, size);
    }
    return PyBytes_FromStringAndSize(NULL, 0);
}

static int
append(StreamBuffer *self, PyObject *data)
{
    if (self->buffer == NULL && self->chunk == NULL && PyBytes_CheckExact(data)) {
        self->chunk = Py_NewRef(data);
        self->taken = 0;
        return 0;
    }
    PyObject *buffer = Py_XNewRef(as_bytearray(self));
    if (buffer == NULL) {
        return -1;
    }
    PyObject *done = PyObject_CallMethodOneArg(buffer, self->st->name.extend, data);
    Py_DECREF(buffer);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* ---- The transport and who waits ---- */

static int
wake_up(StreamBuffer *self)
{
    PyObject *waiter = self->waiter;
    if (is_none(waiter)) {
        return 0;
    }
    self->waiter = Py_NewRef(Py_None);
    int rc = 0;
    if (Py_IS_TYPE(waiter, self->st->FutureType)) {
        if (hl_future(waiter)->state != HL_CANCELLED) {
            rc = hl_future_set_result(waiter, Py_None);
        }
    }
    else {
        PyObject *done = PyObject_CallFunctionObjArgs(self->st->set_result_unless_cancelled,
                                                      waiter, Py_None, NULL);
        rc = done != NULL ? 0 : -1;
        Py_XDECREF(done);
    }
    Py_DECREF(waiter);
    return rc;
}

static int
call_transport(StreamBuffer *self, PyObject *method)
{
    PyObject *transport = Py_NewRef(hl_or_none(self->transport));
    PyObject *done = PyObject_CallMethodNoArgs(transport, method);
    Py_DECREF(transport);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* Transports that cannot pause are not asked again: all that comes is kept. */
static int
pause_if_full(StreamBuffer *self)
{
    if (is_none(self->transport) || self->paused
        || (self->limit >= 0 && available(self) - self->limit <= self->limit)) {
        return 0;
    }
    if (call_transport(self, self->st->name.pause_reading) == 0) {
        self->paused = true;
        return 0;
    }
    if (!PyErr_ExceptionMatches(PyExc_NotImplementedError)) {
        return -1;
    }
    PyErr_Clear();
    Py_XSETREF(self->transport, Py_NewRef(Py_None));
    return 0;
}

static int
resume(StreamBuffer *self)
{
    self->paused = false;
    return call_transport(self, self->st->name.resume_reading);
}

/* What was taken, once the transport may go on; NULL if it was not taken. */
static PyObject *
taken(StreamBuffer *self, PyObject *bytes)
{
    if (bytes != NULL && self->paused && available(self) <= self->limit && resume(self) < 0) {
        Py_CLEAR(bytes);
    }
    return bytes;
}

/* ---- For the protocol ---- */

static PyObject *
buffer_feed(PyObject *op, PyObject *data)
{
    StreamBuffer *self = (StreamBuffer *)op;
    if (self->eof && self->st->asserts) {
        PyErr_SetString(PyExc_AssertionError, "feed_data after feed_eof");
        return NULL;
    }
    int some = PyObject_IsTrue(data);
    if (some < 0
        || (some && (append(self, data) < 0 || wake_up(self) < 0 || pause_if_full(self) < 0))) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
buffer_feed_eof(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    StreamBuffer *self = (StreamBuffer *)op;
    self->eof = true;
    return hl_none_or_error(wake_up(self));
}

/* Call what the reader itself has under that name, if anything.  NULL without an exception: it has
   the method of its class, which is ours. */
static PyObject *
call_own_method(PyObject *reader, PyObject *name, PyObject *data)
{
    PyObject *attributes = PyObject_GenericGetDict(reader, NULL);
    if (attributes == NULL) {
        return NULL;
    }
    PyObject *method = Py_XNewRef(PyDict_GetItemWithError(attributes, name));
    PyObject *done = method != NULL ? PyObject_CallOneArg(method, data) : NULL;
    Py_XDECREF(method);
    Py_DECREF(attributes);
    return done;
}

static PyObject *
buffer_receive(PyObject *op, PyObject *data)
{
    StreamBuffer *self = (StreamBuffer *)op;
    PyObject *reader = hl_weakref_get(self->reader);
    if (reader == NULL) {
        Py_RETURN_NONE;
    }
    PyObject *done = call_own_method(reader, self->st->name.feed_data, data);
    if (done == NULL && !PyErr_Occurred()) {
        done = buffer_feed(op, data);
    }
    Py_DECREF(reader);
    return done;
}

/* ---- For the reader ---- */

static PyObject *
buffer_wait(PyObject *op, PyObject *caller)
{
    StreamBuffer *self = (StreamBuffer *)op;
    if (!is_none(self->waiter)) {
        return PyErr_Format(PyExc_RuntimeError,
                            "%S() called while another coroutine is "
                            "already waiting for incoming data",
                            caller);
    }
    if (self->eof && self->st->asserts) {
        PyErr_SetString(PyExc_AssertionError, "_wait_for_data after EOF");
        return NULL;
    }
    if (self->paused && resume(self) < 0) {
        return NULL;
    }
    PyObject *waiter = PyObject_CallMethodNoArgs(self->loop, self->st->name.create_future);
    if (waiter != NULL) {
        Py_XSETREF(self->waiter, Py_NewRef(waiter));
    }
    return waiter;
}

static PyObject *
buffer_take(PyObject *op, PyObject *most)
{
    StreamBuffer *self = (StreamBuffer *)op;
    Py_ssize_t size = PyNumber_AsSsize_t(most, NULL), there = available(self);
    if (size == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (there == 0 && !self->eof) {
        Py_RETURN_NONE;
    }
    return taken(self, take(self, size < there ? size : there));
}

/* Raise type(*args).  Takes args, which is NULL with an exception set if it could not be made. */
static PyObject *
raise_error(PyObject *type, PyObject *args)
{
    if (args != NULL) {
        PyErr_SetObject(type, args);
        Py_DECREF(args);
    }
    return NULL;
}

/* Everything, as the IncompleteReadError of somebody who expected more. */
static PyObject *
raise_incomplete(StreamBuffer *self, PyObject *expected)
{
    PyObject *partial = take(self, available(self));
    return raise_error(self->st->IncompleteReadError, Py_BuildValue("(NO)", partial, expected));
}

static PyObject *
buffer_take_exactly(PyObject *op, PyObject *count)
{
    StreamBuffer *self = (StreamBuffer *)op;
    Py_ssize_t size = PyNumber_AsSsize_t(count, NULL);
    if (size == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (size <= 0) {
        return PyBytes_FromStringAndSize(NULL, 0);
    }
    if (available(self) >= size) {
        return taken(self, take(self, size));
    }
    return self->eof ? raise_incomplete(self, count) : Py_NewRef(Py_None);
}

/* Where the separator begins, looking from offset on; or -1. */
static Py_ssize_t
find(const StreamBuffer *self, const char *separator, Py_ssize_t length, Py_ssize_t offset)
{
    Py_ssize_t size = available(self);
    if (size - offset < length) {
        return -1;
    }
    const char *data = first_byte(self);
    const char *found = length == 1 ? memchr(data + offset, separator[0], (size_t)(size - offset))
                                    : memmem(data + offset, (size_t)(size - offset), separator,
                                             (size_t)length);
    return found != NULL ? found - data : -1;
}

static PyObject *
raise_overrun(StreamBuffer *self, const char *message, Py_ssize_t consumed)
{
    return raise_error(self->st->LimitOverrunError, Py_BuildValue("(sn)", message, consumed));
}

static PyObject *
buffer_take_until(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    StreamBuffer *self = (StreamBuffer *)op;
    if (nargs != 2 || !PyBytes_Check(args[0]) || PyBytes_GET_SIZE(args[0]) == 0) {
        PyErr_SetString(PyExc_TypeError, "take_until() takes a separator in bytes and an offset");
        return NULL;
    }
    Py_ssize_t length = PyBytes_GET_SIZE(args[0]), offset = PyNumber_AsSsize_t(args[1], NULL);
    if (offset < 0) {
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "negative offset");
    }
    Py_ssize_t at = find(self, PyBytes_AS_STRING(args[0]), length, offset);
    if (at > self->limit) {
        return raise_overrun(self, "Separator is found, but chunk is longer than limit", at);
    }
    if (at >= 0) {
        return taken(self, take(self, at + length));
    }
    if (available(self) - offset >= length) {
        offset = available(self) + 1 - length; /* its beginning may be there */
        if (offset > self->limit) {
            return raise_overrun(self, "Separator is not found, and chunk exceed the limit",
                                 offset);
        }
    }
    return self->eof ? raise_incomplete(self, Py_None) : PyLong_FromSsize_t(offset);
}

static PyObject *
buffer_at_eof(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    StreamBuffer *self = (StreamBuffer *)op;
    return PyBool_FromLong(self->eof && available(self) == 0);
}

static PyObject *
buffer_get_buffer(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_XNewRef(as_bytearray((StreamBuffer *)op));
}

static int
buffer_set_buffer(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    StreamBuffer *self = (StreamBuffer *)op;
    if (value == NULL || !PyByteArray_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "a reader's buffer is a bytearray");
        return -1;
    }
    Py_CLEAR(self->chunk);
    Py_XSETREF(self->buffer, Py_NewRef(value));
    return 0;
}

/* ---- Life ---- */

static PyObject *
make_buffer(PyTypeObject *type, PyObject *loop, PyObject *reader, Py_ssize_t limit)
{
    PyObject *reference = PyWeakref_NewRef(reader, NULL);
    StreamBuffer *self = reference != NULL ? (StreamBuffer *)type->tp_alloc(type, 0) : NULL;
    if (self == NULL) {
        Py_XDECREF(reference);
        return NULL;
    }
    self->st = hl_state_of_type(type);
    self->loop = Py_NewRef(loop);
    self->reader = reference;
    self->waiter = Py_NewRef(Py_None);
    self->exception = Py_NewRef(Py_None);
    self->transport = Py_NewRef(Py_None);
    self->limit = limit;
    return (PyObject *)self;
}

PyObject *
hl_streambuffer_new(HLLoop *loop, PyObject *reader, Py_ssize_t limit)
{
    return make_buffer(loop->st->StreamBufferType, (PyObject *)loop, reader, limit);
}

static PyObject *
buffer_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *loop, *reader;
    Py_ssize_t limit;
    static char *names[] = {"loop", "reader", "limit", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOn:StreamBuffer", names, &loop, &reader,
                                     &limit)) {
        return NULL;
    }
    return make_buffer(type, loop, reader, limit);
}

static int
buffer_tp_traverse(PyObject *op, visitproc visit, void *arg)
{
    StreamBuffer *self = (StreamBuffer *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->loop);
    Py_VISIT(self->reader);
    Py_VISIT(self->buffer);
    Py_VISIT(self->waiter);
    Py_VISIT(self->exception);
    Py_VISIT(self->transport);
    return 0;
}

/* But for loop and reader, without which nobody may call us. */
static int
buffer_tp_clear(PyObject *op)
{
    StreamBuffer *self = (StreamBuffer *)op;
    Py_CLEAR(self->buffer);
    Py_CLEAR(self->waiter);
    Py_CLEAR(self->exception);
    Py_CLEAR(self->transport);
    return 0;
}

static void
buffer_tp_dealloc(PyObject *op)
{
    StreamBuffer *self = (StreamBuffer *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    buffer_tp_clear(op);
    Py_XDECREF(self->chunk);
    Py_XDECREF(self->reader);
    Py_XDECREF(self->loop);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef buffer_methods[] = {
    {"feed", buffer_feed, METH_O, "feed($self, data, /)\n--\n\nAs StreamReader.feed_data()."},
    {"feed_eof", buffer_feed_eof, METH_NOARGS,
     "feed_eof($self, /)\n--\n\nAs StreamReader.feed_eof()."},
    {"receive", buffer_receive, METH_O,
     "receive($self, data, /)\n--\n\nAs StreamReaderProtocol.data_received()."},
    {"wait", buffer_wait, METH_O,
     "wait($self, caller, /)\n--\n\nReturn the future of what comes next, for the method caller."},
    {"take", buffer_take, METH_O,
     "take($self, size, /)\n--\n\nReturn at most size bytes; None if there are none yet."},
    {"take_exactly", buffer_take_exactly, METH_O,
     "take_exactly($self, size, /)\n--\n\nReturn size bytes; None if there are not yet as many."},
    {"take_until", (PyCFunction)(void (*)(void))buffer_take_until, METH_FASTCALL,
     "take_until($self, separator, offset, /)\n--\n\n"
     "Return what ends with the separator, which does not begin before offset; or an int, the\n"
     "offset to go on from when there is more."},
    {"at_eof", buffer_at_eof, METH_NOARGS, "at_eof($self, /)\n--\n\nAs StreamReader.at_eof()."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef buffer_members[] = {
    {"waiter", T_OBJECT_EX, offsetof(StreamBuffer, waiter), 0, NULL},
    {"exception", T_OBJECT_EX, offsetof(StreamBuffer, exception), 0, NULL},
    {"transport", T_OBJECT_EX, offsetof(StreamBuffer, transport), 0, NULL},
    {"limit", T_PYSSIZET, offsetof(StreamBuffer, limit), 0, NULL},
    {"eof", T_BOOL, offsetof(StreamBuffer, eof), 0, NULL},
    {"paused", T_BOOL, offsetof(StreamBuffer, paused), 0, NULL},
    {NULL},
};

static PyGetSetDef buffer_getset[] = {
    {"buffer", buffer_get_buffer, buffer_set_buffer, "What was received, as a bytearray.", NULL},
    {NULL},
};

static PyType_Slot buffer_slots[] = {
    {Py_tp_doc, "StreamBuffer(loop, reader, limit)\n--\n\n"
                "What a StreamReader has received and not yet given."},
    {Py_tp_new, buffer_tp_new},
    {Py_tp_traverse, buffer_tp_traverse},
    {Py_tp_clear, buffer_tp_clear},
    {Py_tp_dealloc, buffer_tp_dealloc},
    {Py_tp_methods, buffer_methods},
    {Py_tp_members, buffer_members},
    {Py_tp_getset, buffer_getset},
    {0, NULL},
};

static PyType_Spec buffer_spec = {
    "hotloop._core.StreamBuffer",
    sizeof(StreamBuffer),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    buffer_slots,
};

int
hl_streambuffer_setup(PyObject *module, HLState *st)
{
    st->StreamBufferType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &buffer_spec, NULL);
    return st->StreamBufferType != NULL ? PyModule_AddType(module, st->StreamBufferType) : -1;
}
