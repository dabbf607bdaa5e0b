/* Shims over the differences between CPython 3.11 to 3.15, libuv 1.44 and later, and systems.
   Every private CPython function we call is named here and nowhere else. */
#ifndef HL_COMPAT_H
#define HL_COMPAT_H

#include <Python.h>
#include <stdbool.h>
#include <structmember.h>
#include <sys/socket.h>
#include <uv.h>

/* For the hottest paths only, where the compiler would put what is rare between what is not. */
#define HL_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define HL_UNLIKELY(condition) __builtin_expect(!!(condition), 0)

#if PY_VERSION_HEX < 0x030B0000
#error "hotloop needs CPython 3.11 or later"
#endif
#if UV_VERSION_HEX < 0x012C00
#error "hotloop needs libuv 1.44 or later"
#endif

/* What only Linux has is behind HL_LINUX.  Built with HOTLOOP_PORTABLE=1, Linux does without as
   well, so that what other systems get can be tested here. */
#if defined(__linux__) && !defined(HL_PORTABLE)
#define HL_LINUX 1
#endif
/* In the type of a socket that does not block, if that can be said there; see hl_socket_unblock(). */
#if defined(SOCK_NONBLOCK) && !defined(HL_PORTABLE)
#define HL_SOCK_NONBLOCK SOCK_NONBLOCK
#else
#define HL_SOCK_NONBLOCK 0
#endif

/* Not every macOS has it; there, Python's ignoring SIGPIPE has to do. */
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

/* PyErr_Fetch and its relatives gave way to a single object in 3.12. */
static inline PyObject *
hl_take_exception(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (type == NULL) {
        return NULL;
    }
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(value, traceback);
        Py_DECREF(traceback);
    }
    Py_DECREF(type);
    return value;
#endif
}

/* Steals exc. */
static inline void
hl_give_exception(PyObject *exc)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(exc);
#else
    if (exc == NULL) {
        PyErr_Clear();
        return;
    }
    PyObject *type = Py_NewRef((PyObject *)Py_TYPE(exc));
    PyErr_Restore(type, exc, PyException_GetTraceback(exc));
#endif
}

/* The running thread's current contextvars.Context, borrowed, or NULL for an empty one that was
   never asked for.  The API has only a function that copies it. */
static inline PyObject *
hl_current_context(void)
{
    return PyThreadState_Get()->context;
}

/* Call a built-in function that nobody but the standard library wrote.  The checks that
   PyObject_Vectorcall makes of the caller and of the result are half of what a small one costs. */
static inline PyObject *
hl_call_builtin(PyObject *function, PyObject *const *args, Py_ssize_t nargs)
{
    typedef PyObject *(*Direct)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);
    if (HL_UNLIKELY(!PyCFunction_CheckExact(function)
                    || PyCFunction_GET_FLAGS(function) != (METH_FASTCALL | METH_KEYWORDS))) {
        return PyObject_Vectorcall(function, args, nargs, NULL);
    }
    Direct direct = (Direct)(void (*)(void))PyCFunction_GET_FUNCTION(function);
    return direct(PyCFunction_GET_SELF(function), args, nargs, NULL);
}

/* What a weak reference refers to, or NULL.  Never fails otherwise. */
static inline PyObject *
hl_weakref_get(PyObject *reference)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *object;
    return PyWeakref_GetRef(reference, &object) > 0 ? object : NULL;
#else
    PyObject *object = PyWeakref_GET_OBJECT(reference);
    return object != Py_None ? Py_NewRef(object) : NULL;
#endif
}

/* Bring an object of a free list back to life with one reference.  Its type kept the
   reference that the object holds on it. */
static inline void
hl_revive(PyObject *op)
{
    _Py_NewReference(op);
}

#if PY_VERSION_HEX >= 0x030D0000
static inline int
hl_note_attribute(PyObject *Py_UNUSED(value), void *found)
{
    *(bool *)found = true;
    return 1;
}

/* Did anybody set attributes of an object whose dict the interpreter manages? */
static inline bool
hl_has_attributes(PyObject *object)
{
    bool found = false;
    PyObject_VisitManagedDict(object, hl_note_attribute, &found);
    return found;
}
#endif

/* Documented, for all its name.  *bytes becomes NULL with MemoryError set if it fails. */
static inline void
hl_shrink_bytes(PyObject **bytes, Py_ssize_t size)
{
    (void)_PyBytes_Resize(bytes, size);
}

/* Of a bytes object that nobody else refers to, for new content. */
static inline void
hl_forget_hash(PyObject *bytes)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    ((PyBytesObject *)bytes)->ob_shash = -1;
#pragma GCC diagnostic pop
}

static inline int
hl_is_finalizing(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    return Py_IsFinalizing();
#else
    return _Py_IsFinalizing();
#endif
}

/* Set StopIteration(value) as an await of a result does, in half the time of PyErr_SetObject. */
static inline void
hl_set_stop_value(PyObject *value)
{
    PyTypeObject *type = (PyTypeObject *)PyExc_StopIteration;
    PyObject *args = PyTuple_Pack(1, value);
    PyObject *exc = args != NULL ? type->tp_new(type, args, NULL) : NULL;
    Py_XDECREF(args);
    if (exc != NULL) {
        Py_XSETREF(((PyStopIterationObject *)exc)->value, Py_NewRef(value));
        hl_give_exception(exc);
    }
}

/* The value of the StopIteration that is set, or of none at all.  Returns 0 with a new
   reference in *value and the exception cleared, or -1 with any other exception left set. */
static inline int
hl_fetch_stop_value(PyObject **value)
{
    if (!PyErr_Occurred()) {
        *value = Py_NewRef(Py_None);
        return 0;
    }
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        *value = NULL;
        return -1;
    }
    PyObject *exc = hl_take_exception();
    /* Before 3.12 it may only now turn out that there is no memory for it. */
    if (!PyErr_GivenExceptionMatches(exc, PyExc_StopIteration)) {
        *value = NULL;
        hl_give_exception(exc);
        return -1;
    }
    /* NULL if a subclass has not called its __init__(). */
    PyObject *found = ((PyStopIterationObject *)exc)->value;
    *value = Py_NewRef(found != NULL ? found : Py_None);
    Py_DECREF(exc);
    return 0;
}

/* signal.set_wakeup_fd(fd), at no cost; it was not exported before. */
static inline int
hl_replace_wakeup_fd(int fd)
{
#if PY_VERSION_HEX >= 0x030E0000
    return PySignal_SetWakeupFd(fd);
#else
    return fd;
#endif
}

#endif
