/* create_connection() to a literal address, up to where it has to wait: the address is parsed, the
   socket made and its connect() begun, all in one call from the coroutine in _connect.py.

   What is not a plain connection to a numeric host and port is declined with None, and is asyncio's:
   in debug mode, where a method that asyncio would have called is not the one known here, where
   socket.socket was replaced.  The new socket belongs to the caller, or is closed if connect()
   fails.  No state of its own; threads: the loop's. */

#include "hotloop.h"
#include "address.h"

/* Is each self.name the method with that function?  steps: a tuple of (name, function). */
static bool
does_as_known(PyObject *self, PyObject *steps)
{
    bool known = PyTuple_CheckExact(steps);
    for (Py_ssize_t i = 0; known && i < PyTuple_GET_SIZE(steps); i++) {
        PyObject *step = PyTuple_GET_ITEM(steps, i);
        known = PyTuple_CheckExact(step) && PyTuple_GET_SIZE(step) == 2
                && hl_is_method(self, PyTuple_GET_ITEM(step, 0), PyTuple_GET_ITEM(step, 1));
    }
    return known;
}

/* A small int, of whatever subclass; -1 for others, which no family and no protocol is. */
static long
small_number(PyObject *object)
{
    int overflow;
    return PyLong_Check(object) ? PyLong_AsLongAndOverflow(object, &overflow) : -1;
}

static bool
is_known_protocol(PyObject *proto)
{
    long number = small_number(proto);
    return number == 0 || number == IPPROTO_TCP || number == IPPROTO_UDP; /* as asyncio has it */
}

static PyObject *
make_address(PyObject *host, PyObject *port, int family)
{
    PyObject *zero = family == AF_INET6 ? PyLong_FromLong(0) : NULL;
    PyObject *address = family != AF_INET6 ? PyTuple_Pack(2, host, port)
                        : zero != NULL     ? PyTuple_Pack(4, host, port, zero, zero)
                                           : NULL;
    Py_XDECREF(zero);
    return address;
}

/* The address, and its family; NULL, maybe without an exception, if it is not literal. */
static PyObject *
find_address(PyObject *host, PyObject *port, PyObject *wanted, int *family)
{
    static const int families[] = {AF_INET, AF_INET6};
    HLAddress parsed;
    long only = small_number(wanted);
    if (!PyUnicode_CheckExact(host) || !PyLong_CheckExact(port)) {
        return NULL;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(families); i++) {
        *family = families[i];
        if (only != AF_UNSPEC && only != *family) {
            continue;
        }
        PyObject *address = make_address(host, port, *family);
        if (address == NULL || hl_address_parse(*family, address, &parsed)) {
            return address;
        }
        Py_DECREF(address);
    }
    return NULL;
}

/* A socket that does not block. */
static PyObject *
make_socket(HLState *st, int family)
{
    PyObject *args[3] = {PyLong_FromLong(family), PyLong_FromLong(SOCK_STREAM | HL_SOCK_NONBLOCK),
                         PyLong_FromLong(IPPROTO_TCP)};
    PyObject *sock = NULL;
    if (args[0] != NULL && args[1] != NULL && args[2] != NULL) {
        sock = hl_socket_make(st, args, 3);
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(args); i++) {
        Py_XDECREF(args[i]);
    }
    return hl_socket_unblock(st, sock);
}

static PyObject *
begin(HLLoop *loop, int family, PyObject *address)
{
    PyObject *pair = NULL, *sock = make_socket(loop->st, family);
    PyObject *outcome = sock != NULL ? hl_sock_start_connect(loop, sock, address) : NULL;
    if (outcome == Py_NotImplemented) {
        pair = Py_NewRef(Py_None); /* something was replaced under our hands */
    }
    else if (outcome != NULL) {
        pair = PyTuple_Pack(2, sock, outcome);
    }
    if (sock != NULL && (pair == NULL || pair == Py_None)) {
        hl_socket_close_quietly(loop->st, sock);
    }
    Py_XDECREF(outcome);
    Py_XDECREF(sock);
    return pair;
}

static PyObject *
loop_begin_connection(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    HLLoop *loop = (HLLoop *)self;
    int family;
    if (nargs != 6) {
        return PyErr_Format(PyExc_TypeError, "_begin_connection() takes 6 arguments, got %zd",
                            nargs);
    }
    if (loop->debug || args[4] != loop->st->StockSocket || !is_known_protocol(args[3])
        || hl_socket_is_original(loop->st) <= 0 || !does_as_known(self, args[5])) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    PyObject *address = find_address(args[0], args[1], args[2], &family);
    if (address == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    PyObject *pair = begin(loop, family, address);
    Py_DECREF(address);
    return pair;
}

PyMethodDef hl_connect_methods[] = {
    {"_begin_connection", (PyCFunction)(void (*)(void))loop_begin_connection, METH_FASTCALL,
     "_begin_connection($self, host, port, family, proto, socket_type, steps, /)\n--\n\n"
     "Return a socket and what _start_connect() gives for it, or None for what is asyncio's."},
    {NULL, NULL, 0, NULL},
};
