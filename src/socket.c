/* What we know of Python's socket.socket, and do in its place.

   The class is written in Python, around _socket.socket: making and closing a socket runs some
   lines of it each, which cost more than the rest.  Here its base is called directly and its two
   attributes are kept, on condition that the class is as known: its methods are what they were at
   import, and those were such lines.  Otherwise the class itself is called.

   State: in the module's, written at import and whenever the class has changed.  Threads: any
   that has the GIL. */

#include "hotloop.h"

/* The methods of socket.socket that are called without being looked up, or stood in for. */
static const struct {
    size_t name;     /* an offset in HLNames */
    size_t function; /* an offset in HLState, where it is called directly */
} stood_in_for[] = {
    {offsetof(HLNames, recv), 0},
    {offsetof(HLNames, recv_into), 0},
    {offsetof(HLNames, recvfrom), 0},
    {offsetof(HLNames, send), 0},
    {offsetof(HLNames, sendto), 0},
    {offsetof(HLNames, connect), 0},
    {offsetof(HLNames, getsockname), 0},
    {offsetof(HLNames, getpeername), 0},
    {offsetof(HLNames, __init__), 0},
    {offsetof(HLNames, close), 0},
    {offsetof(HLNames, _real_close), 0},
    {offsetof(HLNames, fileno), offsetof(HLState, socket_fileno)},
    {offsetof(HLNames, gettimeout), offsetof(HLState, socket_gettimeout)},
};

/* Tests and tools put their own in their place; the type has another version then. */
int
hl_socket_is_original(HLState *st)
{
    PyTypeObject *type = (PyTypeObject *)st->StockSocket;
    if (type->tp_version_tag != 0 && type->tp_version_tag == st->socket_version) {
        return st->socket_original;
    }
    st->socket_original = st->socket_fileno != NULL && st->socket_gettimeout != NULL;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(stood_in_for); i++) {
        PyObject *name = hl_name_at(st, stood_in_for[i].name);
        PyObject *method = PyObject_GetAttr(st->StockSocket, name);
        if (method == NULL && !PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
        if (PyDict_GetItemWithError(st->socket_methods, name) != method) {
            st->socket_original = false;
        }
        Py_XDECREF(method);
    }
    st->socket_version = type->tp_version_tag;
    return st->socket_original;
}

bool
hl_socket_is_known(HLState *st)
{
    PyObject *raised = hl_take_exception();
    bool known = st->socket_known && hl_socket_is_original(st) > 0;
    PyErr_Clear();
    hl_give_exception(raised);
    return known;
}

static int
set_attribute(PyObject *descriptor, PyObject *sock, PyObject *value)
{
    return Py_TYPE(descriptor)->tp_descr_set(descriptor, sock, value);
}

int
hl_socket_fileno(HLState *st, PyObject *sock)
{
    if ((PyObject *)Py_TYPE(sock) != st->StockSocket || hl_socket_is_original(st) <= 0) {
        PyErr_Clear();
        return PyObject_AsFileDescriptor(sock);
    }
    PyObject *number = st->socket_fileno(sock, NULL);
    int fd = number != NULL ? (int)PyLong_AsLong(number) : -1;
    Py_XDECREF(number);
    return fd >= 0 ? fd : PyObject_AsFileDescriptor(sock); /* which raises */
}

/* ---- Making ---- */

/* As socket.__init__() does it. */
static PyObject *
make_directly(HLState *st, PyObject *const *args, Py_ssize_t nargs)
{
    PyTypeObject *type = (PyTypeObject *)st->StockSocket;
    PyObject *all = PyTuple_New(nargs), *zero = PyLong_FromLong(0), *sock = NULL;
    if (all == NULL || zero == NULL) {
        goto done;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        PyTuple_SET_ITEM(all, i, Py_NewRef(args[i]));
    }
    sock = type->tp_new(type, all, NULL);
    if (sock != NULL
        && (type->tp_base->tp_init(sock, all, NULL) < 0
            || set_attribute(st->socket_io_refs, sock, zero) < 0
            || set_attribute(st->socket_closed, sock, Py_False) < 0)) {
        Py_CLEAR(sock);
    }
done:
    Py_XDECREF(all);
    Py_XDECREF(zero);
    return sock;
}

PyObject *
hl_socket_make(HLState *st, PyObject *const *args, Py_ssize_t nargs)
{
    return hl_socket_is_known(st)
               ? make_directly(st, args, nargs)
               : PyObject_Vectorcall(st->StockSocket, args, (size_t)nargs, NULL);
}

PyObject *
hl_socket_unblock(HLState *st, PyObject *sock)
{
    if (HL_SOCK_NONBLOCK != 0 || sock == NULL) {
        return sock;
    }
    PyObject *done = PyObject_CallMethodOneArg(sock, st->name.setblocking, Py_False);
    if (done == NULL) {
        hl_socket_close_quietly(st, sock);
        Py_CLEAR(sock);
    }
    Py_XDECREF(done);
    return sock;
}

/* ---- Closing ---- */

/* Does no file of makefile() use the socket? */
static bool
is_unused(HLState *st, PyObject *sock)
{
    PyObject *descriptor = st->socket_io_refs;
    PyObject *number = Py_TYPE(descriptor)->tp_descr_get(descriptor, sock, NULL);
    bool unused = number != NULL && PyLong_CheckExact(number) && PyLong_AsLong(number) == 0;
    Py_XDECREF(number);
    PyErr_Clear();
    return unused;
}

int
hl_socket_close(HLState *st, PyObject *sock)
{
    PyObject *done = NULL;
    if ((PyObject *)Py_TYPE(sock) == st->StockSocket && hl_socket_is_known(st)
        && is_unused(st, sock)) {
        if (set_attribute(st->socket_closed, sock, Py_True) == 0) {
            done = st->socket_close(sock, NULL);
        }
    }
    else {
        done = PyObject_CallMethodNoArgs(sock, st->name.close);
    }
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

void
hl_socket_close_quietly(HLState *st, PyObject *sock)
{
    PyObject *raised = hl_take_exception();
    if (hl_socket_close(st, sock) < 0) {
        PyErr_Clear();
    }
    hl_give_exception(raised);
}

/* ---- Setup ---- */

/* The C function behind a method without arguments, or NULL. */
static PyCFunction
function_of(PyObject *method)
{
    if (!Py_IS_TYPE(method, &PyMethodDescr_Type)) {
        return NULL;
    }
    PyMethodDef *definition = ((PyMethodDescrObject *)method)->d_method;
    return definition->ml_flags == METH_NOARGS ? definition->ml_meth : NULL;
}

/* Does a method of the class, written in Python, use these names and no others? */
static bool
uses_names(HLState *st, const char *method, const char *names)
{
    PyObject *function = PyObject_GetAttrString(st->StockSocket, method);
    PyObject *code = function != NULL ? PyObject_GetAttrString(function, "__code__") : NULL;
    PyObject *used = code != NULL ? PyObject_GetAttrString(code, "co_names") : NULL;
    PyObject *space = used != NULL ? PyUnicode_FromString(" ") : NULL;
    PyObject *text = space != NULL ? PyUnicode_Join(space, used) : NULL;
    bool same = text != NULL && PyUnicode_CompareWithASCIIString(text, names) == 0;
    Py_XDECREF(function);
    Py_XDECREF(code);
    Py_XDECREF(used);
    Py_XDECREF(space);
    Py_XDECREF(text);
    PyErr_Clear();
    return same;
}

/* An attribute in a slot, or NULL. */
static PyObject *
slot(HLState *st, const char *name)
{
    PyObject *descriptor = PyObject_GetAttrString(st->StockSocket, name);
    PyErr_Clear();
    if (descriptor != NULL && !Py_IS_TYPE(descriptor, &PyMemberDescr_Type)) {
        Py_CLEAR(descriptor);
    }
    return descriptor;
}

/* Is the class what the head comment says? */
static bool
is_as_expected(HLState *st)
{
    PyTypeObject *type = (PyTypeObject *)st->StockSocket, *base = type->tp_base;
    PyObject *close = PyObject_GetAttrString((PyObject *)base, "close");
    st->socket_close = close != NULL ? function_of(close) : NULL;
    Py_XDECREF(close);
    PyErr_Clear();
    st->socket_io_refs = slot(st, "_io_refs");
    st->socket_closed = slot(st, "_closed");
    return st->socket_close != NULL && st->socket_io_refs != NULL && st->socket_closed != NULL
           && type->tp_new == base->tp_new
           && uses_names(st, "__init__",
                         "AF_INET SOCK_STREAM _socket socket __init__ _io_refs _closed")
           && uses_names(st, "close", "_closed _io_refs _real_close")
           && uses_names(st, "_real_close", "close");
}

int
hl_socket_setup(HLState *st)
{
    st->socket_methods = PyDict_New();
    for (size_t i = 0; st->socket_methods != NULL && i < Py_ARRAY_LENGTH(stood_in_for); i++) {
        PyObject *name = hl_name_at(st, stood_in_for[i].name);
        PyObject *method = PyObject_GetAttr(st->StockSocket, name);
        if (method == NULL || PyDict_SetItem(st->socket_methods, name, method) < 0) {
            Py_XDECREF(method);
            return -1;
        }
        if (stood_in_for[i].function != 0) {
            *(PyCFunction *)((char *)st + stood_in_for[i].function) = function_of(method);
        }
        Py_DECREF(method);
    }
    if (st->socket_methods == NULL) {
        return -1;
    }
    PyTypeObject *base = ((PyTypeObject *)st->StockSocket)->tp_base;
    st->socket_family = PyObject_GetAttrString((PyObject *)base, "family");
    if (st->socket_family == NULL || Py_TYPE(st->socket_family)->tp_descr_get == NULL) {
        PyErr_SetString(PyExc_ImportError, "socket.socket is not as hotloop knows it");
        return -1;
    }
    st->socket_known = is_as_expected(st);
    return 0;
}
