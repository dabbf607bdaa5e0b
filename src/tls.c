/* TLSProtocol: the part of asyncio.sslproto.SSLProtocol that is in C.  hotloop/_tls.py's SSLProtocol
   has this type before asyncio's class, whose methods do everything else (handshake, shutdown,
   flow control where there is something to control) on the attributes that are kept here.
   Data comes in by tlsread.c and goes out by tlswrite.c.

   States: asyncio's, in state; data goes in and out while it is WRAPPED, and in until it is no
   longer FLUSHING.  Owners: the transport below and the one the program has.  Any attribute may be
   deleted or replaced by Python code that is called, so each call holds what it calls.
   Threads: the loop's. */

#include "tls.h"

/* ---- What tlsread.c and tlswrite.c share ---- */

PyObject *
hl_tls_call(PyObject *object, PyObject *name, PyObject *arg)
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

int
hl_tls_done(PyObject *result)
{
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

int
hl_tls_call_own(HLTLS *self, PyObject *name)
{
    return hl_tls_done(hl_tls_call((PyObject *)self, name, NULL));
}

Py_ssize_t
hl_tls_count(PyObject *number)
{
    Py_ssize_t count = number != NULL ? PyLong_AsSsize_t(number) : -1;
    Py_XDECREF(number);
    if (count < 0 && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_ValueError, "a count of bytes is negative");
    }
    return count;
}

Py_ssize_t
hl_tls_pending(HLTLS *self, PyObject *bio)
{
    if (bio == NULL) {
        PyErr_SetObject(PyExc_AttributeError, self->st->name.pending);
        return -1;
    }
    return hl_tls_count(PyObject_GetAttr(bio, self->st->name.pending));
}

bool
hl_tls_must_wait(HLTLS *self)
{
    PyObject *errors = self->st->SSLAgainErrors;
    bool again = errors != NULL && PyErr_ExceptionMatches(errors);
    if (again) {
        PyErr_Clear();
    }
    return again;
}

int
hl_tls_fail(HLTLS *self)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyObject *exc = hl_take_exception();
    PyObject *outer = hl_enter_except(exc);
    PyObject *told = PyObject_CallMethod((PyObject *)self, "_fatal_error", "Os", exc,
                                         "Fatal error on SSL protocol");
    hl_leave_except(outer);
    Py_DECREF(exc);
    return hl_tls_done(told);
}

bool
hl_tls_limit_passed(Py_ssize_t size, PyObject *low, PyObject *high, bool paused)
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

/* ---- Attributes ---- */

#define OBJECT(name) {"_" #name, T_OBJECT_EX, offsetof(HLTLS, name), 0, NULL}
#define FLAG(name) {"_" #name, T_BOOL, offsetof(HLTLS, name), 0, NULL}

static PyMemberDef tls_members[] = {
    OBJECT(loop),
    OBJECT(transport),
    OBJECT(app_protocol),
    OBJECT(state),
    OBJECT(engine),
    OBJECT(incoming),
    OBJECT(outgoing),
    {"_ssl_buffer_view", T_OBJECT_EX, offsetof(HLTLS, buffer_view), 0, NULL},
    OBJECT(write_backlog),
    OBJECT(incoming_low_water),
    OBJECT(incoming_high_water),
    OBJECT(outgoing_low_water),
    OBJECT(outgoing_high_water),
    {"_write_buffer_size", T_PYSSIZET, offsetof(HLTLS, write_buffer_size), 0, NULL},
    FLAG(app_protocol_is_buffer),
    FLAG(app_reading_paused),
    FLAG(app_writing_paused),
    FLAG(ssl_reading_paused),
    FLAG(ssl_writing_paused),
    {NULL},
};

/* ---- Life ---- */

static PyObject *
tls_tp_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    HLState *st = hl_state_of_type(type);
    HLTLS *self = st != NULL ? (HLTLS *)type->tp_alloc(type, 0) : NULL;
    if (self != NULL) {
        self->st = st;
    }
    return (PyObject *)self;
}

static int
tls_tp_traverse(PyObject *op, visitproc visit, void *arg)
{
    HLTLS *self = (HLTLS *)op;
    Py_VISIT(Py_TYPE(op));
    for (PyObject **object = &self->loop; object <= &self->outgoing_high_water; object++) {
        Py_VISIT(*object);
    }
    return 0;
}

static int
tls_tp_clear(PyObject *op)
{
    HLTLS *self = (HLTLS *)op;
    for (PyObject **object = &self->loop; object <= &self->outgoing_high_water; object++) {
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
    {Py_tp_members, tls_members},
    {0, NULL},
};

static PyType_Spec tls_spec = {
    "hotloop._core.TLSProtocol",
    sizeof(HLTLS),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    tls_slots,
};

int
hl_tls_setup(PyObject *module, HLState *st)
{
    st->tls_wrapped = PyObject_GetAttrString(st->SSLProtocolState, "WRAPPED");
    st->tls_flushing = PyObject_GetAttrString(st->SSLProtocolState, "FLUSHING");
    st->TLSProtocolType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &tls_spec, NULL);
    PyObject *writer = PyType_FromModuleAndSpec(module, &hl_tls_writer_spec, NULL);
    int rc = st->tls_wrapped == NULL || st->tls_flushing == NULL || st->TLSProtocolType == NULL
                     || writer == NULL
                     || hl_type_add_methods(st->TLSProtocolType, hl_tls_read_methods) < 0
                     || hl_type_add_methods(st->TLSProtocolType, hl_tls_write_methods) < 0
                     || PyModule_AddType(module, st->TLSProtocolType) < 0
                     || PyModule_AddType(module, (PyTypeObject *)writer) < 0
                 ? -1
                 : 0;
    Py_XDECREF(writer);
    return rc;
}
