/* The Python face of datagram transports: the type, its attributes, and dropping one.
   What a transport does is in datagram.c, datagramread.c and datagramwrite.c.

   The type is asyncio's own two abstract classes with all fields in C.  Every attribute that
   programs read of stock transports is there; instances have a __dict__ and can be weakly referenced, so
   that methods can be replaced on them.  A transport that is dropped open warns and closes its
   socket, as asyncio's __del__ does. */

#include "datagram.h"

Py_ssize_t hl_datagram_offset;

/* ---- Methods ---- */

static const char *const sendto_names[] = {"data", "addr", NULL};
static const HLParameters sendto_parameters = {"sendto", sendto_names, 2, 1};

static PyObject *
datagram_sendto(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *values[2];
    if (hl_parse(&sendto_parameters, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    PyObject *data = values[0];
    if (!PyBytes_Check(data) && !PyByteArray_Check(data) && !PyMemoryView_Check(data)) {
        PyObject *name = PyType_GetName(Py_TYPE(data));
        if (name != NULL) {
            PyErr_Format(PyExc_TypeError, "data argument must be a bytes-like object, not %R",
                         name);
            Py_DECREF(name);
        }
        return NULL;
    }
#if PY_VERSION_HEX < 0x030D0000
    int truth = PyObject_IsTrue(data); /* only later asyncio sends empty datagrams */
    if (truth <= 0) {
        return hl_none_or_error(truth);
    }
#endif
    return hl_none_or_error(hl_datagram_send(self, data, hl_or_none(values[1])));
}

static PyObject *
datagram_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return hl_none_or_error(hl_datagram_close(self));
}

static PyObject *
datagram_abort(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return hl_none_or_error(hl_datagram_abort(self, Py_None));
}

static PyObject *
datagram_call_connection_lost(PyObject *self, PyObject *exc)
{
    return hl_none_or_error(hl_datagram_connection_lost(self, exc));
}

static PyObject *
datagram_add_reader(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return hl_none_or_error(hl_datagram(self)->loop != NULL ? hl_datagram_start_reading(self) : 0);
}

static PyObject *
datagram_read_ready(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    HLLoop *loop = hl_datagram(self)->loop;
    Py_XINCREF(loop); /* the protocol may drop everything */
    int rc = hl_datagram_read(loop, self);
    Py_XDECREF(loop);
    return hl_none_or_error(rc);
}

static PyObject *
datagram_sendto_ready(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    HLLoop *loop = hl_datagram(self)->loop;
    Py_XINCREF(loop);
    int rc = hl_datagram_write(loop, self);
    Py_XDECREF(loop);
    return hl_none_or_error(rc);
}

static PyObject *
datagram_is_closing(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(hl_datagram(self)->closing);
}

static PyObject *
datagram_is_reading(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    HLDatagramTransport *t = hl_datagram(self);
    return PyBool_FromLong(!t->closing && !t->paused);
}

/* logger.debug("%r pauses reading", self), in debug mode. */
static int
log_debug(PyObject *self, const char *message)
{
    HLDatagramTransport *t = hl_datagram(self);
    if (t->loop == NULL || !t->loop->debug) {
        return 0;
    }
    PyObject *logged = PyObject_CallMethod(t->st->logger, "debug", "sO", message, self);
    Py_XDECREF(logged);
    return logged != NULL ? 0 : -1;
}

static PyObject *
datagram_pause_reading(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    HLDatagramTransport *t = hl_datagram(self);
    if (t->closing || t->paused) {
        Py_RETURN_NONE;
    }
    t->paused = true;
    hl_datagram_stop_reading(self);
    return hl_none_or_error(log_debug(self, "%r pauses reading"));
}

static PyObject *
datagram_resume_reading(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    HLDatagramTransport *t = hl_datagram(self);
    if (t->closing || !t->paused) {
        Py_RETURN_NONE;
    }
    t->paused = false;
    return hl_none_or_error(
        hl_datagram_start_reading(self) < 0 ? -1 : log_debug(self, "%r resumes reading"));
}

static PyObject *
datagram_set_protocol(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *protocol = hl_parse_one("set_protocol", "protocol", args, nargs, kwnames);
    if (protocol == NULL) {
        return NULL;
    }
    Py_XSETREF(hl_datagram(self)->protocol, Py_NewRef(protocol));
    Py_RETURN_NONE;
}

/* ---- Flow control ---- */

static PyObject *
datagram_get_write_buffer_size(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromSize_t(hl_datagram(self)->buffer_size);
}

static PyObject *
datagram_get_write_buffer_limits(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    HLDatagramTransport *t = hl_datagram(self);
    return PyTuple_Pack(2, t->low, t->high);
}

/* The limits that None stands for, as asyncio works them out.  *high and *low are owned by the
   caller, also after a failure. */
static int
fill_limits(PyObject **high, PyObject **low)
{
    PyObject *four = PyLong_FromLong(4);
    if (four != NULL && *high == NULL) {
        *high = *low == NULL ? PyLong_FromLong(64 * 1024) : PyNumber_Multiply(four, *low);
    }
    if (four != NULL && *high != NULL && *low == NULL) {
        *low = PyNumber_FloorDivide(*high, four);
    }
    Py_XDECREF(four);
    return *high != NULL && *low != NULL ? 0 : -1;
}

/* high >= low >= 0 */
static int
check_limits(PyObject *high, PyObject *low)
{
    PyObject *zero = PyLong_FromLong(0);
    int valid = zero != NULL ? PyObject_RichCompareBool(high, low, Py_GE) : -1;
    if (valid > 0) {
        valid = PyObject_RichCompareBool(low, zero, Py_GE);
    }
    Py_XDECREF(zero);
    if (valid == 0) {
        PyErr_Format(PyExc_ValueError, "high (%R) must be >= low (%R) must be >= 0", high, low);
    }
    return valid > 0 ? 0 : -1;
}

/* Numbers too large for a double are as good as infinite. */
static int
to_double(PyObject *number, double *value)
{
    *value = PyFloat_AsDouble(number);
    if (*value == -1.0 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return -1;
        }
        PyErr_Clear();
        *value = Py_HUGE_VAL;
    }
    return 0;
}

int
hl_datagram_set_limits(HLDatagramTransport *t, PyObject *high, PyObject *low)
{
    double high_water, low_water;
    Py_XINCREF(high);
    Py_XINCREF(low);
    if (fill_limits(&high, &low) < 0 || check_limits(high, low) < 0
        || to_double(high, &high_water) < 0 || to_double(low, &low_water) < 0) {
        Py_XDECREF(high);
        Py_XDECREF(low);
        return -1;
    }
    t->high_water = high_water;
    t->low_water = low_water;
    Py_XSETREF(t->high, high);
    Py_XSETREF(t->low, low);
    return 0;
}

static const char *const limit_names[] = {"high", "low", NULL};
static const HLParameters limit_parameters = {"set_write_buffer_limits", limit_names, 2, 0};

static PyObject *
datagram_set_write_buffer_limits(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames)
{
    PyObject *values[2];
    if (hl_parse(&limit_parameters, args, nargs, kwnames, values) < 0
        || hl_datagram_set_limits(hl_datagram(self), values[0] == Py_None ? NULL : values[0],
                                  values[1] == Py_None ? NULL : values[1])
               < 0) {
        return NULL;
    }
    return hl_none_or_error(hl_datagram_check_pause(self));
}

/* ---- Attributes ---- */

#define FIELD(name) (void *)offsetof(HLDatagramTransport, name)

static PyObject *
datagram_get_object(PyObject *self, void *field)
{
    PyObject *value = *(PyObject **)((char *)hl_datagram(self) + (size_t)field);
    return Py_NewRef(hl_or_none(value));
}

static int
datagram_set_object(PyObject *self, PyObject *value, void *field)
{
    if (hl_check_assigned(value) < 0) {
        return -1;
    }
    PyObject **place = (PyObject **)((char *)hl_datagram(self) + (size_t)field);
    Py_XSETREF(*place, Py_NewRef(value));
    return 0;
}

/* asyncio-dgram names the peer of a socket that it was given, connected, so. */
static int
datagram_set_address(PyObject *self, PyObject *value, void *Py_UNUSED(field))
{
    return hl_check_assigned(value) < 0 ? -1 : hl_datagram_set_address(hl_datagram(self), value);
}

static PyObject *
datagram_get_protocol(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return datagram_get_object(self, FIELD(protocol));
}

static PyObject *
datagram_get_flag(PyObject *self, void *field)
{
    return PyBool_FromLong(*(bool *)((char *)hl_datagram(self) + (size_t)field));
}

static PyObject *
datagram_get_int(PyObject *self, void *field)
{
    return PyLong_FromLong(*(int *)((char *)hl_datagram(self) + (size_t)field));
}

static PyObject *
datagram_get_buffer_size(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(hl_datagram(self)->buffer_size);
}

static PyObject *
datagram_get_protocol_connected(PyObject *self, void *Py_UNUSED(closure))
{
    (void)self;
    Py_RETURN_TRUE;
}

static PyObject *
datagram_get_server(PyObject *self, void *Py_UNUSED(closure))
{
    (void)self;
    Py_RETURN_NONE;
}

/* A snapshot of what waits to be sent. */
static PyObject *
datagram_get_buffer(PyObject *self, void *Py_UNUSED(closure))
{
    HLDatagramQueue *queue = &hl_datagram(self)->sending;
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < queue->length; i++) {
        HLDatagram *item = hl_datagram_at(queue, i);
        /* Owned: the tuple may start the collector, and that finalizers, which clear the queue. */
        PyObject *data = Py_NewRef(item->data), *addr = Py_NewRef(item->addr);
        PyObject *pair = PyTuple_Pack(2, data, addr);
        Py_DECREF(data);
        Py_DECREF(addr);
        if (pair == NULL || PyList_Append(list, pair) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(pair);
    }
    return list;
}

static PyObject *
datagram_tp_repr(PyObject *self)
{
    HLDatagramTransport *t = hl_datagram(self);
    PyObject *name = PyType_GetName(Py_TYPE(self));
    PyObject *repr = NULL;
    const char *state = t->sock == NULL ? " closed" : t->closing ? " closing" : "";
    if (name != NULL && t->loop != NULL && !t->loop->closed) {
        repr = PyUnicode_FromFormat("<%U%s fd=%d read=%s write=<%s, bufsize=%zu>>", name, state,
                                    t->fd, t->reading ? "polling" : "idle",
                                    t->writing ? "polling" : "idle", t->buffer_size);
    }
    else if (name != NULL) {
        repr = PyUnicode_FromFormat("<%U%s fd=%d>", name, state, t->fd);
    }
    Py_XDECREF(name);
    return repr;
}

/* ---- Life ---- */

static int
datagram_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    HLDatagramTransport *t = hl_datagram(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(t->loop);
    Py_VISIT(t->sock);
    Py_VISIT(t->protocol);
    Py_VISIT(t->extra);
    Py_VISIT(t->address);
    Py_VISIT(t->target.object);
    Py_VISIT(t->peer.object);
    Py_VISIT(t->read_context);
    Py_VISIT(t->write_context);
    Py_VISIT(t->high);
    Py_VISIT(t->low);
    Py_VISIT(t->dict);
    for (size_t i = 0; i < t->sending.length; i++) {
        Py_VISIT(hl_datagram_at(&t->sending, i)->addr);
    }
    for (size_t i = 0; i < t->received.length; i++) {
        Py_VISIT(hl_datagram_at(&t->received, i)->data);
        Py_VISIT(hl_datagram_at(&t->received, i)->addr);
    }
    return 0;
}

static int
datagram_tp_clear(PyObject *self)
{
    HLDatagramTransport *t = hl_datagram(self);
    t->closing = true; /* nothing starts any more */
    t->has_address = false;
    hl_datagram_unwatch(self);
    hl_datagram_clear_queue(&t->sending);
    hl_datagram_clear_queue(&t->received);
    Py_CLEAR(t->sock);
    Py_CLEAR(t->protocol);
    Py_CLEAR(t->extra);
    Py_CLEAR(t->address);
    Py_CLEAR(t->target.object);
    Py_CLEAR(t->peer.object);
    Py_CLEAR(t->read_context);
    Py_CLEAR(t->write_context);
    Py_CLEAR(t->dict);
    Py_CLEAR(t->loop);
    return 0;
}

/* As asyncio's __del__: what is dropped open is closed, with a warning. */
static void
datagram_tp_finalize(PyObject *self)
{
    HLDatagramTransport *t = hl_datagram(self);
    if (t->sock == NULL) {
        return;
    }
    PyObject *pending = hl_take_exception();
    if (PyErr_ResourceWarning(self, 1, "unclosed transport %R", self) < 0) {
        PyErr_WriteUnraisable(self);
    }
    hl_datagram_unwatch(self);
    PyObject *sock = Py_XNewRef(t->sock);
    if (sock != NULL && hl_socket_close(t->st, sock) < 0) {
        PyErr_WriteUnraisable(self);
    }
    Py_XDECREF(sock);
    hl_give_exception(pending);
}

static void
datagram_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    HLDatagramTransport *t = hl_datagram(self);
    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return;
    }
    PyObject_GC_UnTrack(self);
    if (t->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    datagram_tp_clear(self);
    Py_CLEAR(t->high);
    Py_CLEAR(t->low);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- Tables ---- */

#define KEYWORD_METHOD(function) \
    (PyCFunction)(void (*)(void))function, METH_FASTCALL | METH_KEYWORDS

static PyMethodDef datagram_methods[] = {
    {"sendto", KEYWORD_METHOD(datagram_sendto),
     "sendto($self, data, addr=None)\n--\n\n"
     "Send data to addr, now or as soon as the kernel takes it; never blocks."},
    {"close", datagram_close, METH_NOARGS,
     "close($self, /)\n--\n\nReceive no more; close when all that is queued was sent."},
    {"abort", datagram_abort, METH_NOARGS,
     "abort($self, /)\n--\n\nClose at once; what is queued is lost."},
    {"is_closing", datagram_is_closing, METH_NOARGS,
     "is_closing($self, /)\n--\n\nReturn True if the transport is closing or closed."},
    {"is_reading", datagram_is_reading, METH_NOARGS,
     "is_reading($self, /)\n--\n\nReturn True if the transport is receiving."},
    {"pause_reading", datagram_pause_reading, METH_NOARGS,
     "pause_reading($self, /)\n--\n\nReceive nothing until resume_reading()."},
    {"resume_reading", datagram_resume_reading, METH_NOARGS,
     "resume_reading($self, /)\n--\n\nReceive again."},
    {"set_protocol", (PyCFunction)(void (*)(void))datagram_set_protocol,
     METH_FASTCALL | METH_KEYWORDS, "set_protocol($self, /, protocol)\n--\n\nSet a new protocol."},
    {"get_protocol", datagram_get_protocol, METH_NOARGS,
     "get_protocol($self, /)\n--\n\nReturn the current protocol."},
    {"get_write_buffer_size", datagram_get_write_buffer_size, METH_NOARGS,
     "get_write_buffer_size($self, /)\n--\n\nReturn how many bytes wait to be sent."},
    {"get_write_buffer_limits", datagram_get_write_buffer_limits, METH_NOARGS,
     "get_write_buffer_limits($self, /)\n--\n\nReturn (low, high)."},
    {"set_write_buffer_limits", KEYWORD_METHOD(datagram_set_write_buffer_limits),
     "set_write_buffer_limits($self, high=None, low=None)\n--\n\n"
     "Set when the protocol is asked to pause and to resume writing."},
    {"_add_reader", datagram_add_reader, METH_NOARGS,
     "_add_reader($self, /)\n--\n\nBegin to receive."},
    {"_read_ready", datagram_read_ready, METH_NOARGS,
     "_read_ready($self, /)\n--\n\nReceive what there is."},
    {"_sendto_ready", datagram_sendto_ready, METH_NOARGS,
     "_sendto_ready($self, /)\n--\n\nSend what waits."},
    {"_call_connection_lost", datagram_call_connection_lost, METH_O,
     "_call_connection_lost($self, exc, /)\n--\n\nTell the protocol of the end; close the socket."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef datagram_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"_sock", datagram_get_object, NULL, NULL, FIELD(sock)},
    {"_sock_fd", datagram_get_int, NULL, NULL, FIELD(fd)},
    {"_loop", datagram_get_object, NULL, NULL, FIELD(loop)},
    {"_protocol", datagram_get_object, datagram_set_object, NULL, FIELD(protocol)},
    {"_extra", datagram_get_object, datagram_set_object, NULL, FIELD(extra)},
    {"_address", datagram_get_object, datagram_set_address, NULL, FIELD(address)},
    {"_high_water", datagram_get_object, NULL, NULL, FIELD(high)},
    {"_low_water", datagram_get_object, NULL, NULL, FIELD(low)},
    {"_closing", datagram_get_flag, NULL, NULL, FIELD(closing)},
    {"_paused", datagram_get_flag, NULL, NULL, FIELD(paused)},
    {"_protocol_paused", datagram_get_flag, NULL, NULL, FIELD(protocol_paused)},
    {"_protocol_connected", datagram_get_protocol_connected, NULL, NULL, NULL},
    {"_buffer", datagram_get_buffer, NULL, NULL, NULL},
    {"_buffer_size", datagram_get_buffer_size, NULL, NULL, NULL},
    {"_server", datagram_get_server, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot datagram_slots[] = {
    {Py_tp_doc, "A datagram transport; see asyncio.DatagramTransport."},
    {Py_tp_repr, datagram_tp_repr},
    {Py_tp_traverse, datagram_tp_traverse},
    {Py_tp_clear, datagram_tp_clear},
    {Py_tp_finalize, datagram_tp_finalize},
    {Py_tp_dealloc, datagram_tp_dealloc},
    {Py_tp_methods, datagram_methods},
    {Py_tp_getset, datagram_getset},
    {Py_tp_members, NULL}, /* filled in by hl_datagram_setup() */
    {0, NULL},
};

int
hl_datagram_setup(PyObject *module, HLState *st)
{
    Py_ssize_t base = ((PyTypeObject *)st->StockDatagramTransport)->tp_basicsize;
    hl_datagram_offset = (base + 15) & ~(Py_ssize_t)15;
    PyMemberDef members[] = {
        {"_conn_lost", T_PYSSIZET,
         hl_datagram_offset + (Py_ssize_t)offsetof(HLDatagramTransport, conn_lost), READONLY,
         NULL},
        {"max_size", T_PYSSIZET,
         hl_datagram_offset + (Py_ssize_t)offsetof(HLDatagramTransport, max_size), 0, NULL},
        {"__dictoffset__", T_PYSSIZET,
         hl_datagram_offset + (Py_ssize_t)offsetof(HLDatagramTransport, dict), READONLY, NULL},
        {"__weaklistoffset__", T_PYSSIZET,
         hl_datagram_offset + (Py_ssize_t)offsetof(HLDatagramTransport, weakrefs), READONLY, NULL},
        {NULL, 0, 0, 0, NULL},
    };
    PyType_Slot slots[Py_ARRAY_LENGTH(datagram_slots)];
    memcpy(slots, datagram_slots, sizeof(slots));
    slots[Py_ARRAY_LENGTH(slots) - 2].pfunc = members;
    PyType_Spec spec = {
        "hotloop._core.DatagramTransport",
        (int)(hl_datagram_offset + (Py_ssize_t)sizeof(HLDatagramTransport)), 0,
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
    PyObject *bases = PyTuple_Pack(2, st->StockTransport, st->StockDatagramTransport);
    if (bases == NULL) {
        return -1;
    }
    st->DatagramTransportType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, bases);
    Py_DECREF(bases);
    if (st->DatagramTransportType == NULL) {
        return -1;
    }
    return PyObject_SetAttrString((PyObject *)st->DatagramTransportType, "_lent", Py_False);
}
