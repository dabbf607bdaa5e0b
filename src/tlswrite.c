/* What goes out over TLS: encrypted by OpenSSL and written to the transport below, as asyncio's
   _SSLProtocolTransport.write(), _do_write() and _process_outgoing() do. */

#include "tls.h"

/* ---- Encrypting and sending ---- */

static int
send_outgoing(HLTLS *self)
{
    PyObject *data = hl_tls_call(self->outgoing, self->st->name.read, NULL);
    Py_ssize_t size = data != NULL ? PyObject_Size(data) : -1;
    int rc = size < 0 ? -1 : 0;
    if (size > 0) {
        rc = hl_tls_done(hl_tls_call(self->transport, self->st->name.write, data));
    }
    Py_XDECREF(data);
    return rc;
}

static int
control_app_writing(HLTLS *self)
{
    Py_ssize_t size = hl_tls_pending(self, self->outgoing);
    if (size < 0) {
        return -1;
    }
    if (!hl_tls_limit_passed(size + self->write_buffer_size, self->outgoing_low_water,
                             self->outgoing_high_water, self->app_writing_paused)) {
        return 0;
    }
    return hl_tls_call_own(self, self->st->name._control_app_writing);
}

int
hl_tls_process_outgoing(HLTLS *self)
{
    if (!self->ssl_writing_paused && send_outgoing(self) < 0) {
        return -1;
    }
    return control_app_writing(self);
}

/* Encrypt data, of that size, from *taken on; *taken is less than size if OpenSSL must wait. */
static int
encrypt(HLTLS *self, PyObject *data, Py_ssize_t size, Py_ssize_t *taken)
{
    PyObject *rest = Py_NewRef(data), *view = NULL;
    while (rest != NULL) {
        Py_ssize_t count = hl_tls_count(hl_tls_call(self->engine, self->st->name.write, rest));
        Py_CLEAR(rest);
        if (count <= 0) {
            Py_XDECREF(view);
            return count == 0 || hl_tls_must_wait(self) ? 0 : -1;
        }
        *taken += count;
        if (*taken >= size) {
            Py_XDECREF(view);
            return 0;
        }
        if (view == NULL) {
            view = PyMemoryView_FromObject(data);
        }
        rest = view != NULL ? PySequence_GetSlice(view, *taken, size) : NULL;
    }
    Py_XDECREF(view);
    return -1;
}

static int
keep_rest(HLTLS *self, PyObject *data, Py_ssize_t taken, Py_ssize_t size)
{
    PyObject *rest = PySequence_GetSlice(data, taken, size);
    int rc = rest != NULL
                 ? hl_tls_done(hl_tls_call(self->write_backlog, self->st->name.append, rest))
                 : -1;
    if (rc == 0) {
        self->write_buffer_size += size - taken;
    }
    Py_XDECREF(rest);
    return rc;
}

/* Encrypt data, or keep it for later if what was before it waits. */
static int
add_app_data(HLTLS *self, PyObject *data, Py_ssize_t size, bool *waits)
{
    Py_ssize_t taken = 0;
    if (!*waits && encrypt(self, data, size, &taken) < 0) {
        return -1;
    }
    *waits = taken < size;
    return *waits ? keep_rest(self, data, taken, size) : 0;
}

/* How many bytes, or -1 for what is no bytes, bytearray or simple memoryview. */
static Py_ssize_t
plain_size(PyObject *data)
{
    HLBytes bytes;
    if (PyBytes_CheckExact(data)) {
        return PyBytes_GET_SIZE(data);
    }
    return hl_borrow_bytes(data, &bytes) ? bytes.size : -1;
}

/* Pieces of which none is empty. */
static int
write_app_data(HLTLS *self, PyObject *const *pieces, Py_ssize_t count)
{
    bool waits = false;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (add_app_data(self, pieces[i], plain_size(pieces[i]), &waits) < 0) {
            return hl_tls_fail(self);
        }
    }
    return hl_tls_process_outgoing(self) < 0 ? hl_tls_fail(self) : 0;
}

static PyObject *
tls_process_outgoing(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return hl_none_or_error(hl_tls_process_outgoing((HLTLS *)op));
}

PyMethodDef hl_tls_write_methods[] = {
    {"_process_outgoing", tls_process_outgoing, METH_NOARGS,
     "_process_outgoing($self, /)\n--\n\nSend what is encrypted."},
    {NULL, NULL, 0, NULL},
};

/* ---- The program's transport: asyncio's, but for writing ---- */

/* The protocol, if it is one of ours that has such pieces encrypted at once; else NULL, maybe with an
   exception. */
static HLTLS *
writable(HLState *st, PyObject *op, PyObject *const *pieces, Py_ssize_t count)
{
    PyObject *protocol = PyObject_GetAttr(op, st->name._ssl_protocol);
    if (protocol == NULL) {
        return NULL;
    }
    HLTLS *self = (HLTLS *)protocol;
    bool able = PyObject_TypeCheck(protocol, st->TLSProtocolType) && self->state == st->tls_wrapped
                && self->engine != Py_None && self->write_backlog != NULL
                && PyObject_Size(self->write_backlog) == 0;
    for (Py_ssize_t i = 0; able && i < count; i++) {
        able = plain_size(pieces[i]) > 0;
    }
    if (!able) {
        Py_DECREF(protocol);
        return NULL;
    }
    return self;
}

/* asyncio's method does what our protocol cannot do at once. */
static PyObject *
write_pieces(HLState *st, PyObject *op, PyObject *const *pieces, Py_ssize_t count,
             PyObject *asyncios, PyObject *arg)
{
    HLTLS *self = writable(st, op, pieces, count);
    if (self == NULL) {
        return PyErr_Occurred() ? NULL : PyObject_CallMethodOneArg(op, asyncios, arg);
    }
    int rc = write_app_data(self, pieces, count);
    Py_DECREF(self);
    return hl_none_or_error(rc);
}

static PyObject *
writer_write(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    HLState *st = hl_state_of_type(Py_TYPE(op));
    PyObject *data = st != NULL ? hl_parse_one("write", "data", args, nargs, kwnames) : NULL;
    if (data == NULL) {
        return NULL;
    }
    return write_pieces(st, op, &data, 1, st->name._write_as_asyncio, data);
}

static PyObject *
writer_writelines(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    HLState *st = hl_state_of_type(Py_TYPE(op));
    PyObject *lines = st != NULL ? hl_parse_one("writelines", "list_of_data", args, nargs, kwnames)
                                 : NULL;
    if (lines != NULL && !PyList_CheckExact(lines) && !PyTuple_CheckExact(lines)) {
        return PyObject_CallMethodOneArg(op, st->name._writelines_as_asyncio, lines);
    }
    PyObject *pieces = lines != NULL ? PySequence_Tuple(lines) : NULL;
    if (pieces == NULL) {
        return NULL;
    }
    PyObject *result = write_pieces(st, op, &PyTuple_GET_ITEM(pieces, 0), PyTuple_GET_SIZE(pieces),
                                    st->name._writelines_as_asyncio, lines);
    Py_DECREF(pieces);
    return result;
}

static PyMethodDef writer_methods[] = {
    {"write", (PyCFunction)(void (*)(void))writer_write, METH_FASTCALL | METH_KEYWORDS,
     "write($self, /, data)\n--\n\nEncrypt and send bytes, bytearray or memoryview data; never blocks."},
    {"writelines", (PyCFunction)(void (*)(void))writer_writelines, METH_FASTCALL | METH_KEYWORDS,
     "writelines($self, /, list_of_data)\n--\n\nEncrypt and send all the pieces."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot writer_slots[] = {
    {Py_tp_doc, "The write() and writelines() of a transport over TLS."},
    {Py_tp_methods, writer_methods},
    {0, NULL},
};

PyType_Spec hl_tls_writer_spec = {
    "hotloop._core.TLSWriter",
    sizeof(PyObject),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    writer_slots,
};
