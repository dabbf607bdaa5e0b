/* Future: a subtype of _asyncio.Future whose fields are ours.

   The payload (HLFuture) lies behind the base's struct.  The base's fields stay zero, except
   awaited_by, which asyncio's own functions and outside debuggers use; every method and
   attribute of the base is overridden here, and Task shares the tables.

   States: not initialised (loop NULL, whatever state says), pending, then cancelled or finished,
   until __init__() is called again.
   Owners: whoever refers to it; a pending future is kept alive by nobody else.  Done-callbacks
   are kept in callbacks.c, awaiting in awaiting.c.  Threads: everything needs the GIL.

   Before any call into Python fields are moved to locals: a callback may change them. */

#include "hotloop.h"

Py_ssize_t hl_future_offset;

static const char not_initialized[] = "Future object is not initialized.";

int
hl_future_ensure_alive(HLFuture *f)
{
    if (f->loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError, not_initialized);
        return -1;
    }
    return 0;
}

static int
ensure_pending(HLFuture *f)
{
    if (hl_future_ensure_alive(f) < 0) {
        return -1;
    }
    if (f->state != HL_PENDING) {
        PyErr_SetString(f->st->InvalidStateError, "invalid state");
        return -1;
    }
    return 0;
}

/* ---- Making ---- */

PyObject *
hl_future_new(HLLoop *loop)
{
    HLState *st = loop->st;
    PyObject *self = hl_future_take(st->FutureType, &st->free_futures);
    if (self == NULL) {
        return NULL;
    }
    HLFuture *f = hl_future(self);
    f->st = st;
    f->native_loop = true;
    f->loop = Py_NewRef((PyObject *)loop);
    if (hl_loop_may_debug(loop)
        && hl_capture_stack(st, f->loop, st->extract_stack, &f->source_traceback) < 0) {
        Py_CLEAR(self);
    }
    return self;
}

static PyObject *
future_default_loop(HLState *st)
{
    PyObject *get = st->get_event_loop != NULL ? st->get_event_loop : st->get_event_loop_312;
    return PyObject_CallNoArgs(get);
}

int
hl_future_init(PyObject *self, PyObject *loop)
{
    HLFuture *f = hl_future(self);
    HLState *st = f->st;
    hl_future_clear_payload(self);
    f->state = HL_PENDING;
    f->blocking = false;
    f->log_traceback = false;
    PyObject *owned = loop == NULL || loop == Py_None ? future_default_loop(st) : Py_NewRef(loop);
    if (owned == NULL) {
        return -1;
    }
    f->native_loop = hl_is_loop(st, owned);
    Py_XSETREF(f->loop, owned); /* a destructor may have initialised it, too */
    return hl_capture_stack(st, owned, st->extract_stack, &f->source_traceback);
}

PyObject *
hl_future_tp_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    HLState *st = hl_state_of_type(type);
    PyObject *self = st != NULL ? type->tp_alloc(type, 0) : NULL;
    if (self != NULL) {
        hl_future(self)->st = st;
        hl_future(self)->is_task = PyType_IsSubtype(type, (PyTypeObject *)st->StockTask);
    }
    return self;
}

static const char *const init_names[] = {"loop", NULL};
static const HLParameters init_parameters = {"Future", init_names, 0, 0};

static int
future_tp_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject *loop;
    if (hl_parse_init(&init_parameters, args, kwargs, &loop) < 0) {
        return -1;
    }
#if PY_VERSION_HEX >= 0x030F0000
    if (hl_future(self)->loop != NULL) {
        PyErr_Format(PyExc_RuntimeError, "%s object is already initialized",
                     Py_TYPE(self)->tp_name);
        return -1;
    }
#endif
    return hl_future_init(self, loop);
}

/* ---- Becoming done ---- */

int
hl_future_set_result(PyObject *self, PyObject *result)
{
    HLFuture *f = hl_future(self);
    if (ensure_pending(f) < 0) {
        return -1;
    }
    f->result = Py_NewRef(result);
    f->state = HL_FINISHED;
    return hl_future_schedule_callbacks(self);
}

/* StopIteration would end the generator that awaits (PEP 479), so asyncio refuses it, or, since
   3.11.8 and 3.12.2, wraps it.  Steals exc. */
static PyObject *
refuse_stop_iteration(PyObject *exc)
{
    const char *text =
        "StopIteration interacts badly with generators and cannot be raised into a Future";
    PyObject *wrapper = NULL;
    if (Py_Version < 0x030B0800 || (Py_Version >= 0x030C0000 && Py_Version < 0x030C0200)) {
        PyErr_SetString(PyExc_TypeError, text);
    }
    else {
        wrapper = PyObject_CallFunction(PyExc_RuntimeError, "s", text);
        if (wrapper != NULL) {
            PyException_SetCause(wrapper, Py_NewRef(exc));
            PyException_SetContext(wrapper, Py_NewRef(exc));
        }
    }
    Py_DECREF(exc);
    return wrapper;
}

int
hl_future_set_exception(PyObject *self, PyObject *exception)
{
    HLFuture *f = hl_future(self);
    if (ensure_pending(f) < 0) {
        return -1;
    }
    PyObject *exc = PyExceptionClass_Check(exception) ? PyObject_CallNoArgs(exception)
                                                      : Py_NewRef(exception);
    if (exc == NULL || ensure_pending(f) < 0) {
        Py_XDECREF(exc);
        return -1;
    }
    if (!PyExceptionInstance_Check(exc)) {
        Py_DECREF(exc);
        PyErr_SetString(PyExc_TypeError, "invalid exception object");
        return -1;
    }
    if (PyErr_GivenExceptionMatches(exc, PyExc_StopIteration)) {
        exc = refuse_stop_iteration(exc);
        if (exc == NULL) {
            return -1;
        }
    }
    f->exception = exc;
    f->exception_tb = PyException_GetTraceback(exc);
    f->state = HL_FINISHED;
    if (hl_future_schedule_callbacks(self) < 0) {
        return -1;
    }
    f->log_traceback = true;
    return 0;
}

int
hl_future_cancel(PyObject *self, PyObject *message)
{
    HLFuture *f = hl_future(self);
    f->log_traceback = false;
    if (f->state != HL_PENDING) {
        return 0;
    }
    f->state = HL_CANCELLED;
    Py_XSETREF(f->cancel_message, message == Py_None ? NULL : Py_XNewRef(message));
    return hl_future_schedule_callbacks(self) < 0 ? -1 : 1;
}

PyObject *
hl_future_make_cancelled_error(HLFuture *f)
{
    if (f->cancelled_exc != NULL) {
        PyObject *exc = f->cancelled_exc;
        f->cancelled_exc = NULL;
        return exc;
    }
    if (f->cancel_message == NULL || f->cancel_message == Py_None) {
        return PyObject_CallNoArgs(f->st->CancelledError);
    }
    return PyObject_CallOneArg(f->st->CancelledError, f->cancel_message);
}

int
hl_future_outcome(PyObject *self, PyObject **exc)
{
    HLFuture *f = hl_future(self);
    *exc = NULL;
    if (HL_UNLIKELY(f->loop == NULL || f->state == HL_PENDING)) {
        PyErr_SetString(f->st->InvalidStateError,
                        f->loop != NULL ? "Result is not set." : not_initialized);
        return -1;
    }
    if (HL_UNLIKELY(f->state == HL_CANCELLED)) {
        *exc = hl_future_make_cancelled_error(f);
        return *exc != NULL ? 0 : -1;
    }
    f->log_traceback = false;
    if (HL_LIKELY(f->exception == NULL)) {
        return 0;
    }
    PyObject *tb = f->exception_tb;
    f->exception_tb = NULL;
    *exc = Py_NewRef(f->exception); /* before the traceback that it had goes, and runs anything */
    int rc = PyException_SetTraceback(*exc, hl_or_none(tb));
    Py_XDECREF(tb);
    return rc;
}

PyObject *
hl_future_get_result(PyObject *self)
{
    PyObject *exc;
    if (hl_future_outcome(self, &exc) < 0) {
        return NULL;
    }
    if (HL_LIKELY(exc == NULL)) {
        return Py_NewRef(hl_future(self)->result);
    }
    PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    Py_DECREF(exc);
    return NULL;
}

/* ---- Methods ---- */

static PyObject *
future_set_result(PyObject *self, PyObject *result)
{
    if (hl_future_set_result(self, result) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
future_set_exception(PyObject *self, PyObject *exception)
{
    if (hl_future_set_exception(self, exception) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
future_result(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return hl_future_get_result(self);
}

static PyObject *
future_exception(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    HLFuture *f = hl_future(self);
    if (f->loop != NULL && f->state == HL_CANCELLED) {
        return hl_future_get_result(self);
    }
    if (f->loop == NULL || f->state == HL_PENDING) {
        PyErr_SetString(f->st->InvalidStateError,
                        f->loop != NULL ? "Exception is not set." : not_initialized);
        return NULL;
    }
    f->log_traceback = false;
    return Py_NewRef(hl_or_none(f->exception));
}

static const char *const cancel_names[] = {"msg", NULL};
static const HLParameters cancel_parameters = {"cancel", cancel_names, 1, 0};

static PyObject *
future_cancel(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *message;
    if (hl_future_ensure_alive(hl_future(self)) < 0
        || hl_parse(&cancel_parameters, args, nargs, kwnames, &message) < 0) {
        return NULL;
    }
    int cancelled = hl_future_cancel(self, message);
    return cancelled < 0 ? NULL : PyBool_FromLong(cancelled);
}

static PyObject *
future_cancelled(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    HLFuture *f = hl_future(self);
    return PyBool_FromLong(f->loop != NULL && f->state == HL_CANCELLED);
}

static PyObject *
future_done(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    HLFuture *f = hl_future(self);
    return PyBool_FromLong(f->loop != NULL && f->state != HL_PENDING);
}

static PyObject *
future_get_loop(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    HLFuture *f = hl_future(self);
    return hl_future_ensure_alive(f) < 0 ? NULL : Py_NewRef(f->loop);
}

static PyObject *
future_make_cancelled_error(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return hl_future_make_cancelled_error(hl_future(self));
}

static PyObject *
future_class_getitem(PyObject *cls, PyObject *item)
{
    HLState *st = hl_state_of_type((PyTypeObject *)cls);
    return st != NULL ? PyObject_CallFunctionObjArgs(st->GenericAlias, cls, item, NULL) : NULL;
}

PyObject *
hl_future_repr(PyObject *self)
{
    HLFuture *f = hl_future(self);
    if (hl_future_ensure_alive(f) < 0) {
        return NULL;
    }
    return PyObject_CallOneArg(f->is_task ? f->st->task_repr : f->st->future_repr, self);
}

/* ---- Attributes that asyncio and its users read ---- */

static PyObject *
future_get_state(PyObject *self, void *Py_UNUSED(closure))
{
    HLFuture *f = hl_future(self);
    if (hl_future_ensure_alive(f) < 0) {
        return NULL;
    }
    return PyUnicode_InternFromString(f->state == HL_PENDING     ? "PENDING"
                                      : f->state == HL_CANCELLED ? "CANCELLED"
                                                                 : "FINISHED");
}

static PyObject *
future_get_blocking(PyObject *self, void *Py_UNUSED(closure))
{
    HLFuture *f = hl_future(self);
    return PyBool_FromLong(f->loop != NULL && f->blocking);
}

static int
future_set_blocking(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    HLFuture *f = hl_future(self);
    if (hl_future_ensure_alive(f) < 0) {
        return -1;
    }
    int truth = hl_assigned_truth(value);
    if (truth < 0) {
        return -1;
    }
    f->blocking = truth;
    return 0;
}

static PyObject *
future_get_log_traceback(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(hl_future(self)->log_traceback);
}

static int
future_set_log_traceback(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    int truth = hl_assigned_truth(value);
    if (truth < 0) {
        return -1;
    }
    if (truth) {
        PyErr_SetString(PyExc_ValueError, "_log_traceback can only be set to False");
        return -1;
    }
    hl_future(self)->log_traceback = false;
    return 0;
}

/* The owned field at this offset of HLFuture, or None. */
static PyObject *
future_get_field(PyObject *self, void *closure)
{
    HLFuture *f = hl_future(self);
    PyObject *value = *(PyObject **)((char *)f + (size_t)closure);
    return Py_NewRef(hl_or_none(value));
}

static int
future_set_cancel_message(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (hl_check_assigned(value) < 0) {
        return -1;
    }
    Py_XSETREF(hl_future(self)->cancel_message, Py_NewRef(value));
    return 0;
}

/* ---- Life ---- */

int
hl_future_traverse_payload(PyObject *self, visitproc visit, void *arg)
{
    HLFuture *f = hl_future(self);
#if PY_VERSION_HEX < 0x030C0000
    Py_VISIT(Py_TYPE(self)); /* the static base type of 3.11 leaves that to its subtypes */
#endif
    Py_VISIT(f->loop);
    Py_VISIT(f->callback0);
    Py_VISIT(f->context0);
    Py_VISIT(f->callbacks);
    Py_VISIT(f->result);
    Py_VISIT(f->exception);
    Py_VISIT(f->exception_tb);
    Py_VISIT(f->cancel_message);
    Py_VISIT(f->cancelled_exc);
    Py_VISIT(f->source_traceback);
    return 0;
}

void
hl_future_clear_payload(PyObject *self)
{
    HLFuture *f = hl_future(self);
    /* First: a future that is initialised again is not alive while what it held is destroyed. */
    Py_CLEAR(f->loop);
    f->native_loop = false;
    Py_CLEAR(f->callback0);
    Py_CLEAR(f->context0);
    Py_CLEAR(f->callbacks);
    Py_CLEAR(f->result);
    Py_CLEAR(f->exception);
    Py_CLEAR(f->exception_tb);
    Py_CLEAR(f->cancel_message);
    Py_CLEAR(f->cancelled_exc);
    Py_CLEAR(f->source_traceback);
}

static int
future_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    HLFuture *f = hl_future(self);
    if (f->st == NULL) {
        return 0; /* between tp_alloc and the first assignment */
    }
    int rc = hl_future_traverse_payload(self, visit, arg);
    return rc != 0 ? rc : ((PyTypeObject *)f->st->StockFuture)->tp_traverse(self, visit, arg);
}

static int
future_tp_clear(PyObject *self)
{
    HLFuture *f = hl_future(self);
    hl_future_clear_payload(self);
    return f->st != NULL ? ((PyTypeObject *)f->st->StockFuture)->tp_clear(self) : 0;
}

void
hl_future_finalize(PyObject *self)
{
    HLFuture *f = hl_future(self);
    if (!f->log_traceback || f->exception == NULL || f->loop == NULL) {
        return;
    }
    f->log_traceback = false;
    PyObject *pending = hl_take_exception();
    PyObject *exc = Py_NewRef(f->exception);
    PyObject *name = PyType_GetName(Py_TYPE(self));
    PyObject *message = name != NULL
                            ? PyUnicode_FromFormat("%U exception was never retrieved", name)
                            : NULL;
    hl_report_in_finalizer(f->st, f->loop, message, exc, "future", self, f->source_traceback);
    Py_XDECREF(message);
    Py_XDECREF(name);
    Py_DECREF(exc);
    hl_give_exception(pending);
}

void
hl_future_destroy(PyObject *self, PyObject *stock, void (*let_go)(PyObject *))
{
    PyObject_GC_Track(self);
    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return;
    }
#if PY_VERSION_HEX < 0x030C0000
    PyTypeObject *type = Py_TYPE(self);
#endif
    PyObject_GC_UnTrack(self);
    let_go(self);
    PyObject_GC_Track(self);
    ((PyTypeObject *)stock)->tp_dealloc(self);
#if PY_VERSION_HEX < 0x030C0000
    Py_DECREF(type); /* the static base type of 3.11 leaves that to its subtypes */
#endif
}

static void
future_free(PyObject *self)
{
    HLState *st = hl_future(self)->st;
    if (!hl_future_keep(self, &st->free_futures, hl_future_clear_payload)) {
        hl_future_destroy(self, st->StockFuture, hl_future_clear_payload);
    }
}

/* Futures can be chained by the hundred thousand, as each other's results. */
static void
future_tp_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, future_tp_dealloc);
    future_free(self);
    Py_TRASHCAN_END;
}

/* ---- Tables ---- */

#define FASTCALL_KEYWORDS (METH_FASTCALL | METH_KEYWORDS)
#define FIELD(name) (void *)offsetof(HLFuture, name)

PyMethodDef hl_future_methods[] = {
    {"result", future_result, METH_NOARGS,
     "result($self, /)\n--\n\nReturn the result; raise the exception, CancelledError, or\n"
     "InvalidStateError if the future is not done."},
    {"exception", future_exception, METH_NOARGS,
     "exception($self, /)\n--\n\nReturn the exception that was set, or None."},
    {"set_result", future_set_result, METH_O,
     "set_result($self, result, /)\n--\n\nMark the future done with a result.\n\n"
     "Raises InvalidStateError if it is done already."},
    {"set_exception", future_set_exception, METH_O,
     "set_exception($self, exception, /)\n--\n\nMark the future done with an exception.\n\n"
     "Raises InvalidStateError if it is done already."},
    {"add_done_callback", (PyCFunction)(void (*)(void))hl_future_add_done_callback,
     FASTCALL_KEYWORDS,
     "add_done_callback($self, fn, /, *, context=<unrepresentable>)\n--\n\n"
     "Call fn(future) through the loop's call_soon() once the future is done."},
    {"remove_done_callback", hl_future_remove_done_callback, METH_O,
     "remove_done_callback($self, fn, /)\n--\n\nRemove all instances of fn; return how many."},
    {"cancel", (PyCFunction)(void (*)(void))future_cancel, FASTCALL_KEYWORDS,
     "cancel($self, /, msg=None)\n--\n\nCancel the future and schedule its callbacks.\n\n"
     "Returns False if it was done already."},
    {"cancelled", future_cancelled, METH_NOARGS,
     "cancelled($self, /)\n--\n\nReturn True if the future was cancelled."},
    {"done", future_done, METH_NOARGS,
     "done($self, /)\n--\n\nReturn True if the future has a result or was cancelled."},
    {"get_loop", future_get_loop, METH_NOARGS,
     "get_loop($self, /)\n--\n\nReturn the loop that the future belongs to."},
    {"_make_cancelled_error", future_make_cancelled_error, METH_NOARGS,
     "_make_cancelled_error($self, /)\n--\n\nReturn the CancelledError that result() raises."},
    {"__class_getitem__", future_class_getitem, METH_O | METH_CLASS,
     "Return a generic alias, as in Future[int]."},
    {NULL, NULL, 0, NULL},
};

PyGetSetDef hl_future_getset[] = {
    {"_state", future_get_state, NULL, NULL, NULL},
    {"_asyncio_future_blocking", future_get_blocking, future_set_blocking, NULL, NULL},
    {"_loop", future_get_field, NULL, NULL, FIELD(loop)},
    {"_callbacks", hl_future_get_callbacks, NULL, NULL, NULL},
    {"_result", future_get_field, NULL, NULL, FIELD(result)},
    {"_exception", future_get_field, NULL, NULL, FIELD(exception)},
    {"_log_traceback", future_get_log_traceback, future_set_log_traceback, NULL, NULL},
    {"_source_traceback", future_get_field, NULL, NULL, FIELD(source_traceback)},
    {"_cancel_message", future_get_field, future_set_cancel_message, NULL, FIELD(cancel_message)},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot future_slots[] = {
    {Py_tp_doc,
     "Future(*, loop=None)\n--\n\nThe result of something not yet done; see asyncio.Future."},
    {Py_tp_new, hl_future_tp_new},
    {Py_tp_init, future_tp_init},
    {Py_tp_repr, hl_future_repr},
    {Py_tp_iter, hl_future_await},
    {Py_am_await, hl_future_await},
    {Py_tp_traverse, future_tp_traverse},
    {Py_tp_clear, future_tp_clear},
    {Py_tp_finalize, hl_future_finalize},
    {Py_tp_dealloc, future_tp_dealloc},
    {Py_tp_methods, hl_future_methods},
    {Py_tp_getset, hl_future_getset},
    {0, NULL},
};

int
hl_future_setup(PyObject *module, HLState *st)
{
    Py_ssize_t base = ((PyTypeObject *)st->StockTask)->tp_basicsize;
    hl_future_offset = (base + 15) & ~(Py_ssize_t)15;
    PyType_Spec spec = {
        "hotloop.Future",
        (int)(hl_future_offset + (Py_ssize_t)sizeof(HLFuture)),
        0,
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
        future_slots,
    };
    st->FutureType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, st->StockFuture);
    if (st->FutureType == NULL || hl_future_shrink_room(st->FutureType, &st->free_futures) < 0) {
        return -1;
    }
    return PyModule_AddType(module, st->FutureType);
}
