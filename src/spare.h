/* A spare bytes object: of what went through a loop, one that nobody refers to any more, kept to
   be filled again.  Messages of some hundred bytes or more would otherwise each go through
   malloc() and free(), which cost a fifth of all instructions of an echo server.

   Bytes objects are immutable to those who see them: only one that has a single reference, ours,
   is ever written to. */
#ifndef HL_SPARE_H
#define HL_SPARE_H

#include "compat.h"

#define HL_SPARE_MIN 480        /* below, CPython's own allocator is as fast */
#define HL_SPARE_MAX (256 * 1024) /* HL_READ_MAX */

/* A bytes object of that size, *spare if it fits well, with any content: to be filled before anybody
   sees it. */
static inline PyObject *
hl_spare_take(PyObject **spare, Py_ssize_t size)
{
    PyObject *bytes = *spare;
    if (bytes == NULL || size < HL_SPARE_MIN || PyBytes_GET_SIZE(bytes) < size
        || PyBytes_GET_SIZE(bytes) > 2 * size) {
        return PyBytes_FromStringAndSize(NULL, size);
    }
    *spare = NULL;
    if (PyBytes_GET_SIZE(bytes) == size) {
        hl_forget_hash(bytes);
    }
    else {
        hl_shrink_bytes(&bytes, size); /* gives the rest back: who gets it may keep it for long */
    }
    return bytes;
}

/* A bytes object with that content. */
static inline PyObject *
hl_spare_fill(PyObject **spare, const char *data, Py_ssize_t size)
{
    if (size < HL_SPARE_MIN) {
        return PyBytes_FromStringAndSize(data, size); /* one of those that CPython keeps, maybe */
    }
    PyObject *bytes = hl_spare_take(spare, size);
    if (bytes != NULL) {
        memcpy(PyBytes_AS_STRING(bytes), data, (size_t)size);
    }
    return bytes;
}

/* Give up a reference to bytes; they become the spare if it was the last one.  The latest are kept:
   what follows is most likely of their size. */
static inline void
hl_spare_release(PyObject **spare, PyObject *bytes)
{
#ifndef Py_GIL_DISABLED
    if (Py_REFCNT(bytes) == 1 && PyBytes_CheckExact(bytes)
        && PyBytes_GET_SIZE(bytes) >= HL_SPARE_MIN && PyBytes_GET_SIZE(bytes) <= HL_SPARE_MAX) {
        Py_XSETREF(*spare, bytes);
        return;
    }
#endif
    Py_DECREF(bytes);
}

#endif
