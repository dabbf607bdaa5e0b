/* Socket addresses: from Python objects and to them, exactly as the socket module does it.

   Only what needs no resolver is parsed here; for all else sock.sendto() is to be called, which
   knows every form and raises the right exceptions.  No state; the GIL is held. */

#include "address.h"
#include <arpa/inet.h>
#include <stddef.h>
#include <sys/un.h>

/* ---- From Python ---- */

static bool
parse_number(PyObject *object, long limit, uint32_t *number)
{
    int overflow;
    if (!PyLong_CheckExact(object)) {
        return false;
    }
    long value = PyLong_AsLongAndOverflow(object, &overflow);
    *number = (uint32_t)value;
    return !overflow && value >= 0 && value <= limit;
}

/* The text of an exact str, NULL for anything that cannot be a numeric host. */
static const char *
host_text(PyObject *host)
{
    if (!PyUnicode_CheckExact(host) || !PyUnicode_IS_ASCII(host)) {
        return NULL;
    }
    const char *text = (const char *)PyUnicode_1BYTE_DATA(host);
    return strlen(text) == (size_t)PyUnicode_GET_LENGTH(host) ? text : NULL;
}

static bool
parse_in4(PyObject *address, HLAddress *out)
{
    uint32_t port;
    const char *host = host_text(PyTuple_GET_ITEM(address, 0));
    if (PyTuple_GET_SIZE(address) != 2 || host == NULL
        || !parse_number(PyTuple_GET_ITEM(address, 1), 0xffff, &port)) {
        return false;
    }
    memset(&out->in4, 0, sizeof(out->in4));
    out->in4.sin_family = AF_INET;
    out->in4.sin_port = htons((uint16_t)port);
    out->length = sizeof(out->in4);
    return inet_pton(AF_INET, host, &out->in4.sin_addr) == 1;
}

static bool
parse_in6(PyObject *address, HLAddress *out)
{
    uint32_t port, flowinfo = 0, scope = 0;
    Py_ssize_t size = PyTuple_GET_SIZE(address);
    const char *host = host_text(PyTuple_GET_ITEM(address, 0));
    if (size > 4 || host == NULL || !parse_number(PyTuple_GET_ITEM(address, 1), 0xffff, &port)
        || (size > 2 && !parse_number(PyTuple_GET_ITEM(address, 2), 0xfffff, &flowinfo))
        || (size > 3 && !parse_number(PyTuple_GET_ITEM(address, 3), 0x7fffffff, &scope))) {
        return false;
    }
    memset(&out->in6, 0, sizeof(out->in6));
    out->in6.sin6_family = AF_INET6;
    out->in6.sin6_port = htons((uint16_t)port);
    out->in6.sin6_flowinfo = htonl(flowinfo);
    out->in6.sin6_scope_id = scope;
    out->length = sizeof(out->in6);
    return inet_pton(AF_INET6, host, &out->in6.sin6_addr) == 1;
}

bool
hl_address_parse(int family, PyObject *address, HLAddress *out)
{
    if (!PyTuple_CheckExact(address) || PyTuple_GET_SIZE(address) < 2) {
        return false;
    }
    return family == AF_INET    ? parse_in4(address, out)
           : family == AF_INET6 ? parse_in6(address, out)
                                : false;
}

/* ---- To Python ---- */

static PyObject *
ascii(const char *text, size_t length)
{
    PyObject *string = PyUnicode_New((Py_ssize_t)length, 127);
    if (string != NULL) {
        memcpy(PyUnicode_1BYTE_DATA(string), text, length);
    }
    return string;
}

/* inet_ntop() goes through printf(): five times the price. */
static PyObject *
in4_host(const struct in_addr *host)
{
    const unsigned char *bytes = (const unsigned char *)host;
    char text[INET_ADDRSTRLEN];
    char *end = text;
    for (int i = 0; i < 4; i++) {
        unsigned value = bytes[i];
        if (value >= 100) {
            *end++ = (char)('0' + value / 100);
        }
        if (value >= 10) {
            *end++ = (char)('0' + value / 10 % 10);
        }
        *end++ = (char)('0' + value % 10);
        *end++ = '.';
    }
    return ascii(text, (size_t)(end - text) - 1);
}

static PyObject *
in4_object(const struct sockaddr_in *address)
{
    PyObject *host = in4_host(&address->sin_addr);
    PyObject *port = PyLong_FromLong(ntohs(address->sin_port));
    PyObject *tuple = host != NULL && port != NULL ? PyTuple_New(2) : NULL;
    if (tuple == NULL) {
        Py_XDECREF(host);
        Py_XDECREF(port);
        return NULL;
    }
    PyTuple_SET_ITEM(tuple, 0, host);
    PyTuple_SET_ITEM(tuple, 1, port);
    return tuple;
}

static PyObject *
in6_object(const struct sockaddr_in6 *address)
{
    char host[INET6_ADDRSTRLEN];
    if (inet_ntop(AF_INET6, &address->sin6_addr, host, sizeof(host)) == NULL) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return Py_BuildValue("siII", host, (int)ntohs(address->sin6_port),
                         (unsigned int)ntohl(address->sin6_flowinfo),
                         (unsigned int)address->sin6_scope_id);
}

static PyObject *
unix_object(struct sockaddr_un *address, socklen_t length)
{
#ifdef __linux__
    size_t size = length - offsetof(struct sockaddr_un, sun_path);
    if (size > 0 && address->sun_path[0] == 0) {
        return PyBytes_FromStringAndSize(address->sun_path, (Py_ssize_t)size);
    }
#endif
    ((char *)address)[length] = 0; /* a path may fill sun_path */
    return PyUnicode_DecodeFSDefault(address->sun_path);
}

PyObject *
hl_address_object(struct sockaddr *address, socklen_t length)
{
    if (length == 0) {
        Py_RETURN_NONE;
    }
    switch (address->sa_family) {
    case AF_INET:
        return in4_object((struct sockaddr_in *)address);
    case AF_INET6:
        return in6_object((struct sockaddr_in6 *)address);
    default:
        return unix_object((struct sockaddr_un *)address, length);
    }
}
