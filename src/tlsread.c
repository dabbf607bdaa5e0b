/* What comes in over TLS: given to OpenSSL, decrypted, and given to the program's protocol, as
   asyncio's buffer_updated() and _do_read() do. */

#include "tls.h"

#define RECORD_MAX 16384 /* all that OpenSSL gives at a time */

/* ---- For a Protocol ---- */

/* One record; NULL without exception if there is none, empty at the peer's close_notify. */
static PyObject *
read_record(HLTLS *self)
{
    Py_ssize_t size = hl_tls_pending(self, self->incoming); /* more than will come of it */
    if (size < 0) {
        return NULL;
    }
    PyObject *most = PyLong_FromSsize_t(size == 0 || size > RECORD_MAX ? RECORD_MAX : size);
    PyObject *record = most != NULL ? hl_tls_call(self->engine, self->st->name.read, most) : NULL;
    Py_XDECREF(most);
    if (record == NULL) {
        (void)hl_tls_must_wait(self);
    }
    else if (!PyBytes_Check(record)) {
        PyErr_Format(PyExc_TypeError, "read() returned %.200s, not bytes",
                     Py_TYPE(record)->tp_name);
        Py_CLEAR(record);
    }
    return record;
}

/* asyncio reads until that raises SSLWantReadError, which costs more than to decrypt a kilobyte. */
static int
has_more(HLTLS *self)
{
    Py_ssize_t size = hl_tls_pending(self, self->incoming);
    if (size == 0) {
        size = hl_tls_count(hl_tls_call(self->engine, self->st->name.pending, NULL));
    }
    return size < 0 ? -1 : size > 0;
}

/* Append a record to data, which is NULL, bytes, or a list of them.  Steals record. */
static int
add_record(PyObject **data, PyObject *record)
{
    if (*data == NULL) {
        *data = record;
        return 0;
    }
    if (!PyList_CheckExact(*data)) {
        PyObject *list = PyList_New(1);
        if (list == NULL) {
            Py_DECREF(record);
            return -1;
        }
        PyList_SET_ITEM(list, 0, *data);
        *data = list;
    }
    int rc = PyList_Append(*data, record);
    Py_DECREF(record);
    return rc;
}

/* All the records that are complete; *ended after the peer's close_notify. */
static int
read_records(HLTLS *self, PyObject **data, bool *ended)
{
    int more = 1;
    while (more > 0) {
        PyObject *record = read_record(self);
        if (record == NULL) {
            return PyErr_Occurred() ? -1 : 0;
        }
        if (PyBytes_GET_SIZE(record) == 0) {
            Py_DECREF(record);
            *ended = true;
            return 0;
        }
        more = add_record(data, record) < 0 ? -1 : has_more(self);
    }
    return more;
}

/* Steals data. */
static int
give_to_app(HLTLS *self, PyObject *data)
{
    if (PyList_CheckExact(data)) {
        PyObject *nothing = PyBytes_FromStringAndSize(NULL, 0);
        Py_SETREF(data, nothing != NULL ? hl_tls_call(nothing, self->st->name.join, data) : NULL);
        Py_XDECREF(nothing);
    }
    int rc = data != NULL
                 ? hl_tls_done(hl_tls_call(self->app_protocol, self->st->name.data_received, data))
                 : -1;
    Py_XDECREF(data);
    return rc;
}

/* The peer has sent its close_notify. */
static int
end_of_app_data(HLTLS *self)
{
    return hl_tls_call_own(self, self->st->name._call_eof_received) < 0
               ? -1
               : hl_tls_call_own(self, self->st->name._start_shutdown);
}

/* asyncio's _do_read__copied(). */
static int
read_for_copying_app(HLTLS *self)
{
    PyObject *data = NULL;
    bool ended = false;
    if (read_records(self, &data, &ended) < 0) {
        Py_XDECREF(data);
        return -1;
    }
    if (data != NULL && give_to_app(self, data) < 0) {
        return -1;
    }
    return ended ? end_of_app_data(self) : 0;
}

/* ---- For a BufferedProtocol ---- */

/* What of buf is behind offset.  asyncio slices it, which copies a bytearray: what was read into the
   copy is lost. */
static PyObject *
rest_of(PyObject *buf, Py_ssize_t offset, Py_ssize_t size)
{
    if (offset == 0 || !PyByteArray_Check(buf)) {
        return offset == 0 ? Py_NewRef(buf) : PySequence_GetSlice(buf, offset, size);
    }
    PyObject *view = PyMemoryView_FromObject(buf);
    PyObject *rest = view != NULL ? PySequence_GetSlice(view, offset, size) : NULL;
    Py_XDECREF(view);
    return rest;
}

/* engine.read(size - offset, buf[offset:]): how much came, 0 at the peer's close_notify; -1, maybe
   without exception if there is nothing. */
static Py_ssize_t
read_into(HLTLS *self, PyObject *buf, Py_ssize_t offset, Py_ssize_t size)
{
    PyObject *rest = rest_of(buf, offset, size);
    PyObject *most = rest != NULL ? PyLong_FromSsize_t(size - offset) : NULL;
    PyObject *engine = Py_XNewRef(self->engine);
    PyObject *came = NULL;
    if (most != NULL && engine != NULL) {
        came = PyObject_CallMethodObjArgs(engine, self->st->name.read, most, rest, NULL);
        if (came == NULL) {
            (void)hl_tls_must_wait(self);
        }
    }
    else if (engine == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_engine");
    }
    Py_XDECREF(engine);
    Py_XDECREF(most);
    Py_XDECREF(rest);
    return came != NULL ? hl_tls_count(came) : -1;
}

/* All the records that are complete, as far as there is room; *ended after the peer's
   close_notify.  Returns how much that is, or -1. */
static Py_ssize_t
read_until_full(HLTLS *self, PyObject *buf, Py_ssize_t size, bool *ended)
{
    Py_ssize_t offset = 0;
    int more;
    do {
        Py_ssize_t count = read_into(self, buf, offset, size);
        if (count <= 0) {
            *ended = count == 0;
            return PyErr_Occurred() ? -1 : offset;
        }
        offset += count;
        more = offset < size ? has_more(self) : 0;
    } while (more > 0);
    return more < 0 ? -1 : offset;
}

/* The program's buffer is full: the rest comes in a later turn. */
static int
read_on_soon(HLTLS *self)
{
    PyObject *read = PyObject_GetAttr((PyObject *)self, self->st->name._do_read);
    int rc = read != NULL ? hl_tls_done(hl_tls_call(self->loop, self->st->name.call_soon, read))
                          : -1;
    Py_XDECREF(read);
    return rc;
}

/* self.name(size), of a method of the program's protocol. */
static PyObject *
call_app(HLTLS *self, PyObject *name, Py_ssize_t size)
{
    PyObject *number = PyLong_FromSsize_t(size);
    PyObject *result = number != NULL ? hl_tls_call((PyObject *)self, name, number) : NULL;
    Py_XDECREF(number);
    return result;
}

/* asyncio's _do_read__buffered(). */
static int
read_for_buffered_app(HLTLS *self)
{
    HLNames *name = &self->st->name;
    bool ended = false;
    Py_ssize_t hint = hl_tls_pending(self, self->incoming);
    PyObject *buf = hint >= 0 ? call_app(self, name->_app_protocol_get_buffer, hint) : NULL;
    Py_ssize_t size = buf != NULL ? PyObject_Size(buf) : -1;
    Py_ssize_t count = size >= 0 ? read_until_full(self, buf, size, &ended) : -1;
    Py_XDECREF(buf);
    if (count < 0 || (count > 0 && count >= size && read_on_soon(self) < 0)
        || (count > 0
            && hl_tls_done(call_app(self, name->_app_protocol_buffer_updated, count)) < 0)) {
        return -1;
    }
    return ended ? end_of_app_data(self) : 0;
}

/* ---- For either ---- */

static int
read_for_app(HLTLS *self)
{
    HLNames *name = &self->st->name;
    bool buffered = self->app_protocol_is_buffer;
    if (self->engine == Py_None) {
        return hl_tls_call_own(self, buffered ? name->_do_read__buffered : name->_do_read__copied);
    }
    return buffered ? read_for_buffered_app(self) : read_for_copying_app(self);
}

static int
control_ssl_reading(HLTLS *self)
{
    Py_ssize_t size = hl_tls_pending(self, self->incoming);
    if (size < 0) {
        return -1;
    }
    if (!hl_tls_limit_passed(size, self->incoming_low_water, self->incoming_high_water,
                             self->ssl_reading_paused)) {
        return 0;
    }
    return hl_tls_call_own(self, self->st->name._control_ssl_reading);
}

static int
read_and_answer(HLTLS *self)
{
    HLState *st = self->st;
    if (!self->app_reading_paused) {
        int rc = read_for_app(self);
        int backlog = rc == 0 && self->write_backlog != NULL ? PyObject_IsTrue(self->write_backlog)
                                                             : rc;
        rc = backlog < 0   ? -1
             : backlog > 0 ? hl_tls_call_own(self, st->name._do_write)
                           : hl_tls_process_outgoing(self);
        if (rc < 0) {
            return -1;
        }
    }
    return control_ssl_reading(self);
}

static int
do_read(HLTLS *self)
{
    if (self->state != self->st->tls_wrapped && self->state != self->st->tls_flushing) {
        return 0;
    }
    return read_and_answer(self) < 0 ? hl_tls_fail(self) : 0;
}

/* Borrowed. */
static PyObject *
buffer_view(HLTLS *self)
{
    if (self->buffer_view == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_ssl_buffer_view");
    }
    return self->buffer_view;
}

/* What was received, as something to read from. */
static PyObject *
received(HLTLS *self, PyObject **spare, Py_ssize_t size)
{
    HLBytes bytes;
    PyObject *view = buffer_view(self);
    if (view == NULL) {
        return NULL;
    }
    if (spare != NULL && 0 <= size && size <= RECORD_MAX && hl_borrow_bytes(view, &bytes)
        && size <= bytes.size) {
        return hl_spare_fill(spare, bytes.data, size); /* less than a slice costs */
    }
    return PySequence_GetSlice(view, 0, size);
}

/* ---- Methods ---- */

static PyObject *
tls_get_buffer(PyObject *op, PyObject *Py_UNUSED(size))
{
    return Py_XNewRef(buffer_view((HLTLS *)op));
}

static PyObject *
tls_buffer_updated(PyObject *op, PyObject *count)
{
    HLTLS *self = (HLTLS *)op;
    PyObject *loop = self->loop != NULL && hl_is_loop(self->st, self->loop) ? self->loop : NULL;
    PyObject **spare = loop != NULL ? &((HLLoop *)loop)->spare : NULL;
    Py_ssize_t size = PyLong_AsSsize_t(count);
    if (size < 0 && PyErr_Occurred()) {
        return NULL;
    }
    Py_XINCREF(loop);
    PyObject *data = received(self, spare, size);
    int rc = data != NULL ? hl_tls_done(hl_tls_call(self->incoming, self->st->name.write, data))
                          : -1;
    if (data != NULL && spare != NULL) {
        hl_spare_release(spare, data);
    }
    else {
        Py_XDECREF(data);
    }
    if (rc == 0) {
        rc = self->state == self->st->tls_wrapped ? do_read(self)
                                                  : hl_tls_call_own(self, self->st->name._advance);
    }
    Py_XDECREF(loop);
    return hl_none_or_error(rc);
}

static PyObject *
tls_do_read(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return hl_none_or_error(do_read((HLTLS *)op));
}

PyMethodDef hl_tls_read_methods[] = {
    {"get_buffer", tls_get_buffer, METH_O,
     "get_buffer($self, n, /)\n--\n\nReturn what the transport is to receive into."},
    {"buffer_updated", tls_buffer_updated, METH_O,
     "buffer_updated($self, nbytes, /)\n--\n\nTake so many bytes that were received."},
    {"_do_read", tls_do_read, METH_NOARGS,
     "_do_read($self, /)\n--\n\nDecrypt what there is and give it to the program's protocol."},
    {NULL, NULL, 0, NULL},
};
