/* Where the bytes of a bytearray or a memoryview lie, without exporting its buffer.

   An export is two calls and a count of each owner, more than a kilobyte takes to copy.  It is not
   needed for what is over before anything else can run: a system call with the GIL held, a copy.
   Nothing is kept here; the bytes are the object's, which the caller refers to meanwhile. */
#ifndef HL_BORROW_H
#define HL_BORROW_H

#include <Python.h>
#include <stdbool.h>

typedef struct {
    char *data; /* borrowed */
    Py_ssize_t size;
    bool readonly;
} HLBytes;

/* One that was released, or lent to __release_buffer__(), has Python's exceptions to raise. */
static inline bool
hl_is_usable_view(const PyMemoryViewObject *view)
{
    int unusable = _Py_MEMORYVIEW_RELEASED;
#ifdef _Py_MEMORYVIEW_RESTRICTED
    unusable |= _Py_MEMORYVIEW_RESTRICTED;
#endif
    return !(view->flags & unusable) && !(view->mbuf->flags & _Py_MANAGED_BUFFER_RELEASED);
}

/* False, without exception, for all but an exact bytearray and a view of bytes in a row. */
static inline bool
hl_borrow_bytes(PyObject *object, HLBytes *bytes)
{
    if (PyByteArray_CheckExact(object)) {
        *bytes = (HLBytes){PyByteArray_AS_STRING(object), PyByteArray_GET_SIZE(object), false};
        return true;
    }
    if (!PyMemoryView_Check(object) || !hl_is_usable_view((PyMemoryViewObject *)object)) {
        return false;
    }
    const Py_buffer *view = PyMemoryView_GET_BUFFER(object);
    *bytes = (HLBytes){view->buf, view->len, view->readonly};
    return view->ndim == 1 && view->itemsize == 1 && view->suboffsets == NULL
           && view->strides != NULL && view->strides[0] == 1;
}

#endif
