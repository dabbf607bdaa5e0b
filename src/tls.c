/* What asyncio.sslproto does for each message, in C.  hotloop/_tls.py's SSLProtocol has the
   type TLSProtocol before asyncio's class, whose methods do everything else (handshake, shutdown,
   flow control where there is something to control) on the attributes that are kept here.

   States: asyncio's, in state; data goes in and out while it is WRAPPED, and in until it is no
   longer FLUSHING.  Owners: the transport below and the one the program has.  Any attribute may be
   deleted or replaced by Python code that is called, so each call holds what it calls.
   Threads: the loop's. */

#include "hotloop.h"
#include "borrow.h"
#include "spare.h"

#define RECORD_MAX 16384 /* all that OpenSSL gives at a time */

typedef struct {
    PyObject_HEAD
    HLState *st;             /* borrowed: lives as long as our types */
    PyObject *loop;          /* owned, as all that follow, which are NULL until assigned */
    PyObject *transport;     /* the one below */
    PyObject *app_protocol;  /* the program's */
    PyObject *state;         /* an SSLProtocolState */
    PyObject *sslobj;        /* ssl.SSLObject */
    PyObject *engine;        /* the object in C behind it, or None: then all is left to asyncio */
    PyObject *incoming;      /* ssl.MemoryBIO */
    PyObject *outgoing;      /* another one */
    PyObject *buffer_view;   /* a memoryview: what the transport below receives into */
    PyObject *write_backlog; /* a deque: what could not be encrypted yet */
    PyObject *incoming_low_water, *incoming_high_water;
    PyObject *outgoing_low_water, *outgoing_high_water;
    Py_ssize_t write_buffer_size; /* of the backlog */
    char app_protocol_is_buffer;
    char app_reading_paused, app_writing_paused;
    char ssl_reading_paused, ssl_writing_paused;
} TLSProtocol;

/* object.name() or object.name(arg). */
static PyObject *
call(PyObject *object, PyObject *name, PyObject *arg)
{
    if (object == NULL) {
        PyErr_SetObject(PyExc_AttributeError, name);
        return NULL;
    }
    Py_INCREF(object);
    PyObject *result = arg != NULL ? PyObject_CallMethodOneArg(object, name, arg)
                                   : PyObject_CallMethodNoArgs(object, name);
    Py_DECREF(object);
    return result;
}

static int
done(PyObject *result)
{
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

/* Of one of asyncio's methods. */
static int
call_own(TLSProtocol *self, PyObject *name)
{
    return done(call((PyObject *)self, name, NULL));
}

/* How much a method said, or -1. */
static Py_ssize_t
as_count(PyObject *number)
{
    Py_ssize_t count = number != NULL ? PyLong_AsSsize_t(number) : -1;
    Py_XDECREF(number);
    if (count < 0 && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_ValueError, "a count of bytes is negative");
    }
    return count;
}

/* How much is in a MemoryBIO. */
static Py_ssize_t
pending(TLSProtocol *self, PyObject *bio)
{
    if (bio == NULL) {
        PyErr_SetObject(PyExc_AttributeError, self->st->name.pending);
        return -1;
    }
    return as_count(PyObject_GetAttr(bio, self->st->name.pending));
}

/* OpenSSL has nothing to give, or no room, for now: the exception is cleared. */
static bool
must_wait(TLSProtocol *self)
{
    PyObject *errors = self->st->SSLAgainErrors;
    bool again = errors != NULL && PyErr_ExceptionMatches(errors);
    if (again) {
        PyErr_Clear();
    }
    return again;
}

/* asyncio's `except Exception as ex: self._fatal_error(ex, ...)`. */
static int
fail(TLSProtocol *self)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyObject *exc = hl_take_exception();
    PyObject *handled = PyErr_GetHandledException();
    PyErr_SetHandledException(exc);
    PyObject *told = PyObject_CallMethod((PyObject *)self, "_fatal_error", "Os", exc,
                                         "Fatal error on SSL protocol");
    PyErr_SetHandledException(handled);
    Py_XDECREF(handled);
    Py_DECREF(exc);
    return done(told);
}

/* ---- Flow control: asyncio's methods are called only if they have something to do ---- */

/* size >= high and not paused, or size <= low and paused; what is no int is left to asyncio. */
static bool
is_to_change(Py_ssize_t size, PyObject *low, PyObject *high, bool paused)
{
    PyObject *limit = paused ? low : high;
    if (limit == NULL || !PyLong_CheckExact(limit)) {
        return true;
    }
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(limit, &overflow);
    if (overflow != 0) {
        return true;
    }
    return paused ? size <= number : size >= number;
}

static int
control_app_writing(TLSProtocol *self)
{
    Py_ssize_t size = pending(self, self->outgoing);
    if (size < 0) {
        return -1;
    }
    if (!is_to_change(size + self->write_buffer_size, self->outgoing_low_water,
                      self->outgoing_high_water, self->app_writing_paused)) {
        return 0;
    }
    return call_own(self, self->st->name._control_app_writing);
}

static int
control_ssl_reading(TLSProtocol *self)
{
    Py_ssize_t size = pending(self, self->incoming);
    if (size < 0) {
        return -1;
    }
    if (!is_to_change(size, self->incoming_low_water, self->incoming_high_water,
                      self->ssl_reading_paused)) {
        return 0;
    }
    return call_own(self, self->st->name._control_ssl_reading);
}

/* ---- Out ---- */

static int
send_outgoing(TLSProtocol *self)
{
    PyObject *data = call(self->outgoing, self->st->name.read, NULL);
    Py_ssize_t size = data != NULL ? PyObject_Size(data) : -1;
    int rc = size < 0 ? -1 : 0;
    if (size > 0) {
        rc = done(call(self->transport, self->st->name.write, data));
    }
    Py_XDECREF(data);
    return rc;
}

static int
process_outgoing(TLSProtocol *self)
{
    if (!self->ssl_writing_paused && send_outgoing(self) < 0) {
        return -1;
    }
    return control_app_writing(self);
}

/* Encrypt data, of that size, from *taken on; *taken is less than size if OpenSSL must wait. */
static int
encrypt(TLSProtocol *self, PyObject *data, Py_ssize_t size, Py_ssize_t *taken)
{
    PyObject *rest = Py_NewRef(data), *view = NULL;
    while (rest != NULL) {
        Py_ssize_t count = as_count(call(self->engine, self->st->name.write, rest));
        Py_CLEAR(rest);
        if (count <= 0) {
            Py_XDECREF(view);
            return count == 0 || must_wait(self) ? 0 : -1;
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
keep_rest(TLSProtocol *self, PyObject *data, Py_ssize_t taken, Py_ssize_t size)
{
    PyObject *rest = PySequence_GetSlice(data, taken, size);
    int rc = rest != NULL ? done(call(self->write_backlog, self->st->name.append, rest)) : -1;
    if (rc == 0) {
        self->write_buffer_size += size - taken;
    }
    Py_XDECREF(rest);
    return rc;
}

/* Encrypt data, or keep it for later if what was before it waits. */
static int
add_app_data(TLSProtocol *self, PyObject *data, Py_ssize_t size, bool *waits)
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
write_app_data(TLSProtocol *self, PyObject *const *pieces, Py_ssize_t count)
{
    bool waits = false;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (add_app_data(self, pieces[i], plain_size(pieces[i]), &waits) < 0) {
            return fail(self);
        }
    }
    return process_outgoing(self) < 0 ? fail(self) : 0;
}

/* ---- In ---- */

/* One record; NULL without exception if there is none, empty at the peer's close_notify. */
static PyObject *
read_record(TLSProtocol *self)
{
    Py_ssize_t size = pending(self, self->incoming); /* more than will come of them */
    if (size < 0) {
        return NULL;
    }
    PyObject *most = PyLong_FromSsize_t(size == 0 || size > RECORD_MAX ? RECORD_MAX : size);
    PyObject *record = most != NULL ? call(self->engine, self->st->name.read, most) : NULL;
    Py_XDECREF(most);
    if (record == NULL) {
        (void)must_wait(self);
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
has_more(TLSProtocol *self)
{
    Py_ssize_t size = pending(self, self->incoming);
    if (size == 0) {
        size = as_count(call(self->engine, self->st->name.pending, NULL));
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
read_records(TLSProtocol *self, PyObject **data, bool *ended)
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
give_to_app(TLSProtocol *self, PyObject *data)
{
    if (PyList_CheckExact(data)) {
        PyObject *nothing = PyBytes_FromStringAndSize(NULL, 0);
        Py_SETREF(data, nothing != NULL ? call(nothing, self->st->name.join, data) : NULL);
        Py_XDECREF(nothing);
    }
    int rc = data != NULL ? done(call(self->app_protocol, self->st->name.data_received, data))
                          : -1;
    Py_XDECREF(data);
    return rc;
}

/* asyncio's _do_read__copied(). */
static int
read_for_app(TLSProtocol *self)
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
    if (!ended) {
        return 0;
    }
    return call_own(self, self->st->name._call_eof_received) < 0
               ? -1
               : call_own(self, self->st->name._start_shutdown);
}

static int
read_and_answer(TLSProtocol *self)
{
    HLState *st = self->st;
    if (!self->app_reading_paused) {
        int rc = self->app_protocol_is_buffer ? call_own(self, st->name._do_read__buffered)
                 : self->engine == Py_None    ? call_own(self, st->name._do_read__copied)
                                              : read_for_app(self);
        int backlog = rc == 0 && self->write_backlog != NULL ? PyObject_IsTrue(self->write_backlog)
                                                             : rc;
        rc = backlog < 0   ? -1
             : backlog > 0 ? call_own(self, st->name._do_write)
                           : process_outgoing(self);
        if (rc < 0) {
            return -1;
        }
    }
    return control_ssl_reading(self);
}

static int
do_read(TLSProtocol *self)
{
    if (self->state != self->st->tls_wrapped && self->state != self->st->tls_flushing) {
        return 0;
    }
    return read_and_answer(self) < 0 ? fail(self) : 0;
}

/* What was received, as something to read from. */
static PyObject *
received(TLSProtocol *self, PyObject **spare, Py_ssize_t size)
{
    HLBytes bytes;
    if (self->buffer_view == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_ssl_buffer_view");
        return NULL;
    }
    if (spare != NULL && 0 <= size && size <= RECORD_MAX
        && hl_borrow_bytes(self->buffer_view, &bytes) && size <= bytes.size) {
        return hl_spare_fill(spare, bytes.data, size); /* less than a slice costs */
    }
    return PySequence_GetSlice(self->buffer_view, 0, size);
}

/* ---- Methods of the protocol ---- */

static PyObject *
tls_get_buffer(PyObject *op, PyObject *Py_UNUSED(size))
{
    TLSProtocol *self = (TLSProtocol *)op;
    if (self->buffer_view == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_ssl_buffer_view");
        return NULL;
    }
    return Py_NewRef(self->buffer_view);
}

static PyObject *
tls_buffer_updated(PyObject *op, PyObject *count)
{
    TLSProtocol *self = (TLSProtocol *)op;
    PyObject *loop = self->loop != NULL && hl_is_loop(self->st, self->loop) ? self->loop : NULL;
    PyObject **spare = loop != NULL ? &((HLLoop *)loop)->spare : NULL;
    Py_ssize_t size = PyLong_AsSsize_t(count);
    if (size < 0 && PyErr_Occurred()) {
        return NULL;
    }
    Py_XINCREF(loop);
    PyObject *data = received(self, spare, size);
    int rc = data != NULL ? done(call(self->incoming, self->st->name.write, data)) : -1;
    if (data != NULL && spare != NULL) {
        hl_spare_release(spare, data);
    }
    else {
        Py_XDECREF(data);
    }
    if (rc == 0) {
        rc = self->state == self->st->tls_wrapped ? do_read(self)
                                                  : call_own(self, self->st->name._advance);
    }
    Py_XDECREF(loop);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
tls_do_read(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return do_read((TLSProtocol *)op) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
tls_process_outgoing(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return process_outgoing((TLSProtocol *)op) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef tls_methods[] = {
    {"get_buffer", tls_get_buffer, METH_O,
     "get_buffer($self, n, /)\n--\n\nReturn what the transport is to receive into."},
    {"buffer_updated", tls_buffer_updated, METH_O,
     "buffer_updated($self, nbytes, /)\n--\n\nTake so many bytes that were received."},
    {"_do_read", tls_do_read, METH_NOARGS,
     "_do_read($self, /)\n--\n\nDecrypt what there is and give it to the program's protocol."},
    {"_process_outgoing", tls_process_outgoing, METH_NOARGS,
     "_process_outgoing($self, /)\n--\n\nSend what is encrypted."},
    {NULL, NULL, 0, NULL},
};

#define OBJECT(name) {"_" #name, T_OBJECT_EX, offsetof(TLSProtocol, name), 0, NULL}
#define FLAG(name) {"_" #name, T_BOOL, offsetof(TLSProtocol, name), 0, NULL}

static PyMemberDef tls_members[] = {
    OBJECT(loop),
    OBJECT(transport),
    OBJECT(app_protocol),
    OBJECT(state),
    OBJECT(sslobj),
    OBJECT(engine),
    OBJECT(incoming),
    OBJECT(outgoing),
    {"_ssl_buffer_view", T_OBJECT_EX, offsetof(TLSProtocol, buffer_view), 0, NULL},
    OBJECT(write_backlog),
    OBJECT(incoming_low_water),
    OBJECT(incoming_high_water),
    OBJECT(outgoing_low_water),
    OBJECT(outgoing_high_water),
    {"_write_buffer_size", T_PYSSIZET, offsetof(TLSProtocol, write_buffer_size), 0, NULL},
    FLAG(app_protocol_is_buffer),
    FLAG(app_reading_paused),
    FLAG(app_writing_paused),
    FLAG(ssl_reading_paused),
    FLAG(ssl_writing_paused),
    {NULL},
};

/* The objects, from first to last. */
#define FOR_EACH_OBJECT(self, object)                                                            \
    for (PyObject **object = &(self)->loop; object <= &(self)->outgoing_high_water; object++)

/* ---- Life ---- */

static PyObject *
tls_tp_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    HLState *st = hl_state_of_type(type);
    TLSProtocol *self = st != NULL ? (TLSProtocol *)type->tp_alloc(type, 0) : NULL;
    if (self != NULL) {
        self->st = st;
    }
    return (PyObject *)self;
}

static int
tls_tp_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    FOR_EACH_OBJECT((TLSProtocol *)op, object)
    {
        Py_VISIT(*object);
    }
    return 0;
}

static int
tls_tp_clear(PyObject *op)
{
    FOR_EACH_OBJECT((TLSProtocol *)op, object)
    {
        Py_CLEAR(*object);
    }
    return 0;
}

static void
tls_tp_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    tls_tp_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyType_Slot tls_slots[] = {
    {Py_tp_doc, "What asyncio.sslproto.SSLProtocol does for each message."},
    {Py_tp_new, tls_tp_new},
    {Py_tp_traverse, tls_tp_traverse},
    {Py_tp_clear, tls_tp_clear},
    {Py_tp_dealloc, tls_tp_dealloc},
    {Py_tp_methods, tls_methods},
    {Py_tp_members, tls_members},
    {0, NULL},
};

static PyType_Spec tls_spec = {
    "hotloop._core.TLSProtocol",
    sizeof(TLSProtocol),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    tls_slots,
};

/* ---- The program's transport: asyncio's, but for writing ---- */

/* The protocol, if it is one of ours that has such pieces encrypted at once; else NULL, maybe with an
   exception. */
static TLSProtocol *
writable(HLState *st, PyObject *op, PyObject *const *pieces, Py_ssize_t count)
{
    PyObject *protocol = PyObject_GetAttr(op, st->name._ssl_protocol);
    if (protocol == NULL) {
        return NULL;
    }
    TLSProtocol *self = (TLSProtocol *)protocol;
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
    TLSProtocol *self = writable(st, op, pieces, count);
    if (self == NULL) {
        return PyErr_Occurred() ? NULL : PyObject_CallMethodOneArg(op, asyncios, arg);
    }
    int rc = write_app_data(self, pieces, count);
    Py_DECREF(self);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
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

static PyType_Spec writer_spec = {
    "hotloop._core.TLSWriter",
    sizeof(PyObject),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    writer_slots,
};

int
hl_tls_setup(PyObject *module, HLState *st)
{
    st->tls_wrapped = PyObject_GetAttrString(st->SSLProtocolState, "WRAPPED");
    st->tls_flushing = PyObject_GetAttrString(st->SSLProtocolState, "FLUSHING");
    st->TLSProtocolType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &tls_spec, NULL);
    PyObject *writer = PyType_FromModuleAndSpec(module, &writer_spec, NULL);
    int rc = st->tls_wrapped == NULL || st->tls_flushing == NULL || st->TLSProtocolType == NULL
                     || writer == NULL || PyModule_AddType(module, st->TLSProtocolType) < 0
                     || PyModule_AddType(module, (PyTypeObject *)writer) < 0
                 ? -1
                 : 0;
    Py_XDECREF(writer);
    return rc;
}
