/* The iterator behind "await future": yields the future once, then gives its result.

   It owns the future until it is exhausted, closed or thrown into.  Dead iterators are kept
   for reuse, because every await makes one. */

#include "hotloop.h"

typedef struct {
    PyObject_HEAD
    HLState *st;      /* borrowed */
    PyObject *future; /* owned, NULL once exhausted */
} AwaitIterator;

PyObject *
hl_future_await(PyObject *self)
{
    HLFuture *f = hl_future(self);
    if (hl_future_ensure_alive(f) < 0) {
        return NULL;
    }
    HLState *st = f->st;
    AwaitIterator *it = (AwaitIterator *)hl_free_list_take(&st->free_iterators);
    if (it == NULL) {
        it = PyObject_GC_New(AwaitIterator, st->AwaitIteratorType);
        if (it == NULL) {
            return NULL;
        }
    }
    it->st = st;
    it->future = Py_NewRef(self);
    PyObject_GC_Track((PyObject *)it);
    return (PyObject *)it;
}

static PySendResult
iterator_am_send(PyObject *self, PyObject *Py_UNUSED(value), PyObject **result)
{
    AwaitIterator *it = (AwaitIterator *)self;
    PyObject *future = it->future;
    *result = NULL;
    if (HL_UNLIKELY(future == NULL)) {
        PyErr_SetNone(PyExc_StopIteration);
        return PYGEN_ERROR;
    }
    HLFuture *f = hl_future(future);
    if (f->state == HL_PENDING) {
        if (HL_LIKELY(!f->blocking)) {
            f->blocking = true;
            *result = Py_NewRef(future);
            return PYGEN_NEXT;
        }
        PyErr_SetString(PyExc_RuntimeError, "await wasn't used with future");
        return PYGEN_ERROR;
    }
    it->future = NULL;
    *result = hl_future_get_result(future);
    Py_DECREF(future);
    return *result != NULL ? PYGEN_RETURN : PYGEN_ERROR;
}

/* The interpreter awaits through tp_iternext: an end without exception is StopIteration(None),
   and a value that cannot be mistaken for arguments or an exception needs no instance of ours. */
static PyObject *
iterator_next(PyObject *self)
{
    PyObject *result;
    PySendResult outcome = iterator_am_send(self, Py_None, &result);
    if (outcome != PYGEN_RETURN) {
        return result;
    }
    if (result != Py_None) {
        hl_set_stop_value(result);
    }
    Py_DECREF(result);
    return NULL;
}

static PyObject *
iterator_send(PyObject *self, PyObject *Py_UNUSED(value))
{
    PyObject *yielded = iterator_next(self);
    if (yielded == NULL && !PyErr_Occurred()) {
        PyErr_SetNone(PyExc_StopIteration);
    }
    return yielded;
}

/* type(*value), as an exception class is called by generator.throw(). */
static PyObject *
make_exception(PyObject *type, PyObject *value)
{
    if (value == NULL) {
        return PyObject_CallNoArgs(type);
    }
    int fits = PyExceptionInstance_Check(value) ? PyObject_IsInstance(value, type) : 0;
    if (fits != 0) {
        return fits > 0 ? Py_NewRef(value) : NULL;
    }
    return PyTuple_Check(value) ? PyObject_Call(type, value, NULL)
                                : PyObject_CallOneArg(type, value);
}

/* The exception that throw(type, value) is about. */
static PyObject *
exception_to_throw(PyObject *type, PyObject *value)
{
    if (PyExceptionClass_Check(type)) {
        return make_exception(type, value);
    }
    if (!PyExceptionInstance_Check(type)) {
        PyErr_SetString(
            PyExc_TypeError,
            "exceptions must be classes deriving BaseException or instances of such a class");
        return NULL;
    }
    if (value != NULL) {
        PyErr_SetString(PyExc_TypeError, "instance exception may not have a separate value");
        return NULL;
    }
    return Py_NewRef(type);
}

/* Raise throw()'s arguments, with the checks of generator.throw(); false if they are refused. */
static bool
raise_thrown(PyObject *type, PyObject *value, PyObject *tb)
{
    if (tb != NULL && !PyTraceBack_Check(tb)) {
        PyErr_SetString(PyExc_TypeError, "throw() third argument must be a traceback");
        return false;
    }
    PyObject *exc = exception_to_throw(type, value);
    if (exc == NULL) {
        return PyExceptionClass_Check(type); /* its constructor raised something else */
    }
    if (!PyExceptionInstance_Check(exc)) {
        PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
    }
    else if (tb == NULL || PyException_SetTraceback(exc, tb) == 0) {
        hl_give_exception(Py_NewRef(exc)); /* as it is, without a __context__ */
    }
    Py_DECREF(exc);
    return true;
}

bool
hl_raise_thrown(PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1 || nargs > 3) {
        PyErr_Format(PyExc_TypeError, "throw expected 1 to 3 arguments, got %zd", nargs);
        return false;
    }
#if PY_VERSION_HEX >= 0x030C0000
    if (nargs > 1
        && PyErr_WarnEx(PyExc_DeprecationWarning,
                        "the (type, exc, tb) signature of throw() is deprecated, "
                        "use the single-arg signature instead.",
                        1)
               < 0) {
        return false;
    }
#endif
    PyObject *value = nargs > 1 && args[1] != Py_None ? args[1] : NULL;
    PyObject *tb = nargs > 2 && args[2] != Py_None ? args[2] : NULL;
    return raise_thrown(args[0], value, tb);
}

static PyObject *
iterator_throw(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (hl_raise_thrown(args, nargs)) {
        PyObject *raised = hl_take_exception();
        Py_CLEAR(((AwaitIterator *)self)->future);
        hl_give_exception(raised);
    }
    return NULL;
}

static PyObject *
iterator_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_CLEAR(((AwaitIterator *)self)->future);
    Py_RETURN_NONE;
}

static int
iterator_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((AwaitIterator *)self)->future);
    return 0;
}

static int
iterator_tp_clear(PyObject *self)
{
    Py_CLEAR(((AwaitIterator *)self)->future);
    return 0;
}

static void
iterator_tp_dealloc(PyObject *self)
{
    AwaitIterator *it = (AwaitIterator *)self;
    PyObject_GC_UnTrack(self);
    Py_CLEAR(it->future);
    if (hl_free_list_keep(&it->st->free_iterators, self)) {
        return;
    }
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyMethodDef iterator_methods[] = {
    {"send", iterator_send, METH_O, "send($self, value, /)\n--\n\nResume the wait."},
    {"throw", (PyCFunction)(void (*)(void))iterator_throw, METH_FASTCALL,
     "throw(type, value=None, traceback=None, /)\n\nEnd the wait with an exception."},
    {"close", iterator_close, METH_NOARGS, "close($self, /)\n--\n\nGive up the wait."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot iterator_slots[] = {
    {Py_tp_doc, "The wait for a future."},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, iterator_next},
    {Py_am_send, iterator_am_send},
    {Py_tp_traverse, iterator_tp_traverse},
    {Py_tp_clear, iterator_tp_clear},
    {Py_tp_dealloc, iterator_tp_dealloc},
    {Py_tp_methods, iterator_methods},
    {0, NULL},
};

static PyType_Spec iterator_spec = {
    "hotloop._core.FutureIter",
    sizeof(AwaitIterator),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    iterator_slots,
};

int
hl_awaiting_setup(PyObject *module, HLState *st)
{
    st->AwaitIteratorType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &iterator_spec, NULL);
    return st->AwaitIteratorType != NULL ? 0 : -1;
}
