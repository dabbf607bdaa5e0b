/* Readers that become ours.  asyncio.open_connection() and start_server() make a StreamReader and a
   protocol that knows it, and hand the protocol to the loop.  When a transport gets it, before
   anybody else sees the reader, the reader's class becomes that of _streams.py, and the protocol's
   data_received() that of the buffer in the core, which both of them own from then on.

   Only readers of exactly asyncio's class, as new, on a loop without debug mode, and while nobody
   has replaced methods of asyncio's classes.  Threads: the loop's. */

#include "hotloop.h"

/* Are the methods of asyncio's two classes those that asyncio wrote?  1, 0 or -1. */
static int
are_original(HLLoop *loop)
{
    HLState *st = loop->st;
    PyTypeObject *reader = (PyTypeObject *)st->StockStreamReader;
    PyTypeObject *protocol = (PyTypeObject *)st->StreamReaderProtocol;
    if (reader->tp_version_tag != 0 && reader->tp_version_tag == st->reader_versions[0]
        && protocol->tp_version_tag != 0 && protocol->tp_version_tag == st->reader_versions[1]) {
        return st->readers_original;
    }
    PyObject *answer = PyObject_CallMethodNoArgs((PyObject *)loop, st->name._readers_are_original);
    if (answer == NULL) {
        return -1;
    }
    st->readers_original = answer == Py_True;
    st->reader_versions[0] = reader->tp_version_tag;
    st->reader_versions[1] = protocol->tp_version_tag;
    Py_DECREF(answer);
    return st->readers_original;
}

/* Is a reader with these attributes as asyncio's __init__() left it?  *limit is its limit then. */
static bool
is_new(HLLoop *loop, PyObject *attributes, Py_ssize_t *limit)
{
    HLNames *name = &loop->st->name;
    const struct {
        PyObject *name, *value;
    } expected[] = {
        {name->_loop, (PyObject *)loop}, {name->_eof, Py_False},      {name->_paused, Py_False},
        {name->_waiter, Py_None},        {name->_exception, Py_None}, {name->_transport, Py_None},
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(expected); i++) {
        if (PyDict_GetItemWithError(attributes, expected[i].name) != expected[i].value) {
            return false;
        }
    }
    PyObject *buffer = PyDict_GetItemWithError(attributes, name->_buffer);
    PyObject *number = PyDict_GetItemWithError(attributes, name->_limit);
    if (buffer == NULL || !PyByteArray_CheckExact(buffer) || PyByteArray_GET_SIZE(buffer) != 0
        || number == NULL || !PyLong_CheckExact(number)) {
        return false;
    }
    *limit = PyLong_AsSsize_t(number);
    PyErr_Clear(); /* more than C can count to */
    return PyDict_GET_SIZE(attributes) == (Py_ssize_t)Py_ARRAY_LENGTH(expected) + 2 && *limit > 0;
}

static int
make_ours(HLLoop *loop, PyObject *protocol, PyObject *reader, PyObject *attributes,
          Py_ssize_t limit)
{
    HLNames *name = &loop->st->name;
    PyObject *core = hl_streambuffer_new(loop, reader, limit);
    PyObject *receive = core != NULL ? PyObject_GetAttr(core, name->receive) : NULL;
    PyObject *type = receive != NULL
                         ? PyObject_GetAttr((PyObject *)loop, name->_stream_reader_type)
                         : NULL;
    int rc = -1;
    if (type != NULL && PyObject_SetAttr(reader, name->__class__, type) == 0) {
        PyDict_Clear(attributes);
        rc = PyObject_SetAttr(reader, name->_loop, (PyObject *)loop) < 0
                     || PyObject_SetAttr(reader, name->_core, core) < 0
                     || PyObject_SetAttr(protocol, name->data_received, receive) < 0
                 ? -1
                 : 0;
    }
    Py_XDECREF(type);
    Py_XDECREF(receive);
    Py_XDECREF(core);
    return rc;
}

static int
adopt(HLLoop *loop, PyObject *protocol, PyObject *reader)
{
    Py_ssize_t limit;
    PyObject *attributes = PyObject_GenericGetDict(reader, NULL);
    if (attributes == NULL) {
        return -1;
    }
    int rc = is_new(loop, attributes, &limit)
                 ? make_ours(loop, protocol, reader, attributes, limit)
                 : 0;
    Py_DECREF(attributes);
    return rc;
}

/* The reader of a protocol that was given no data_received() of its own; or NULL, never with an
   exception. */
static PyObject *
get_reader(HLState *st, PyObject *protocol)
{
    PyObject *reader = NULL;
    PyObject *reference = PyObject_GetAttr(protocol, st->name._stream_reader_wr);
    PyObject *method = PyObject_GetAttr(protocol, st->name.data_received);
    if (reference != NULL && PyWeakref_CheckRef(reference) && method != NULL
        && PyMethod_Check(method) && PyMethod_GET_SELF(method) == protocol) {
        reader = hl_weakref_get(reference);
    }
    PyErr_Clear();
    Py_XDECREF(reference);
    Py_XDECREF(method);
    return reader;
}

int
hl_adopt_reader(HLLoop *loop, PyObject *protocol)
{
    HLState *st = loop->st;
    if ((PyObject *)Py_TYPE(protocol) != st->StreamReaderProtocol || loop->debug) {
        return 0;
    }
    int rc = are_original(loop);
    PyObject *reader = rc > 0 ? get_reader(st, protocol) : NULL;
    if (reader != NULL && (PyObject *)Py_TYPE(reader) == st->StockStreamReader) {
        rc = adopt(loop, protocol, reader);
    }
    Py_XDECREF(reader);
    return rc < 0 ? -1 : 0;
}

static PyObject *
loop_adopt_reader(PyObject *op, PyObject *protocol)
{
    return hl_none_or_error(hl_adopt_reader((HLLoop *)op, protocol));
}

PyMethodDef hl_streamreader_methods[] = {
    {"_adopt_reader", loop_adopt_reader, METH_O,
     "_adopt_reader($self, protocol, /)\n--\n\n"
     "Keep what an asyncio.StreamReaderProtocol's reader receives in C, if nothing is special\n"
     "about it (see _streams.py)."},
    {NULL, NULL, 0, NULL},
};
