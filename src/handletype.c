/* The Python face of handles: the types Handle and TimerHandle, subtypes of asyncio's classes with
   their fields in C.  What a handle does is in handle.c.

   The stock slots (_callback, _args, ...) are hidden by getters of the same names, and stay empty;
   repr, comparison and hash are inherited and read those getters. */

#include "hotloop.h"

Py_ssize_t hl_handle_offset;

/* ---- Methods ---- */

static PyObject *
handle_cancel(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (hl_handle_cancel(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
handle_cancelled(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    hl_handle_wait(self);
    return PyBool_FromLong(hl_handle(self)->cancelled);
}

static PyObject *
handle_run(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (hl_handle_run(self, NULL) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
handle_get_context_attr(PyObject *self, void *Py_UNUSED(closure))
{
    HLHandle *h = hl_handle(self);
    return h->loop != NULL ? Py_XNewRef(hl_handle_context(h)) : Py_NewRef(Py_None);
}

#if PY_VERSION_HEX >= 0x030C0000
static PyObject *
handle_get_context(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return handle_get_context_attr(self, NULL);
}
#endif

static PyObject *
timer_handle_when(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(hl_or_none(hl_handle(self)->when));
}

/* ---- Attributes ---- */

static PyObject *
handle_get_callback(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(hl_or_none(hl_handle(self)->callback));
}

static PyObject *
handle_get_args(PyObject *self, void *Py_UNUSED(closure))
{
    HLHandle *h = hl_handle(self);
    return h->callback != NULL ? hl_handle_args(h) : Py_NewRef(Py_None);
}

static PyObject *
handle_get_loop(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(hl_or_none(hl_handle(self)->loop));
}

static PyObject *
handle_get_cancelled(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(hl_handle(self)->cancelled);
}

static PyObject *
handle_get_repr(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(hl_or_none(hl_handle(self)->repr));
}

static PyObject *
handle_get_source_traceback(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(hl_or_none(hl_handle(self)->source_traceback));
}

static int
handle_set_source_traceback(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    HLHandle *h = hl_handle(self);
    Py_XSETREF(h->source_traceback, value == Py_None ? NULL : Py_XNewRef(value));
    return 0;
}

static PyObject *
timer_handle_get_when(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(hl_or_none(hl_handle(self)->when));
}

static PyObject *
timer_handle_get_scheduled(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(hl_handle(self)->heap_index != HL_NOT_IN_HEAP);
}

/* ---- Life ---- */

static const char *const handle_parameter_names[] = {"callback", "args", "loop", "context", NULL};
static const HLParameters handle_parameters = {"Handle", handle_parameter_names, 4, 3};
static const char *const timer_parameter_names[] = {"when", "callback", "args",
                                                    "loop", "context",  NULL};
static const HLParameters timer_parameters = {"TimerHandle", timer_parameter_names, 5, 4};

static int handle_tp_clear(PyObject *self);

/* values: callback, args, loop, context */
static int
handle_init(PyObject *self, PyObject **values)
{
    HLState *st = hl_state_of_type(Py_TYPE(self));
    PyObject *args = PySequence_Tuple(values[1]);
    if (st == NULL || args == NULL) {
        Py_XDECREF(args);
        return -1;
    }
    PyObject *when = Py_XNewRef(hl_handle(self)->when);
    handle_tp_clear(self);
    hl_handle(self)->when = when;
    PyObject *context = values[3] == Py_None ? NULL : values[3];
    int rc = hl_handle_fill(st, self, values[2], values[0], ((PyTupleObject *)args)->ob_item,
                            PyTuple_GET_SIZE(args), context, true);
    Py_DECREF(args);
    return rc;
}

static int
handle_tp_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject *values[4];
    if (hl_parse_init(&handle_parameters, args, kwargs, values) < 0) {
        return -1;
    }
    return handle_init(self, values);
}

static int
timer_handle_tp_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject *values[5];
    if (hl_parse_init(&timer_parameters, args, kwargs, values) < 0) {
        return -1;
    }
    if (hl_handle(self)->heap_index != HL_NOT_IN_HEAP && hl_handle(self)->when != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "TimerHandle is scheduled already");
        return -1;
    }
    Py_XSETREF(hl_handle(self)->when, Py_NewRef(values[0]));
    return handle_init(self, values + 1);
}

static int
handle_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    HLHandle *h = hl_handle(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(h->loop);
    Py_VISIT(h->callback);
    Py_VISIT(h->context);
    for (int i = 0; i < h->nargs; i++) {
        Py_VISIT(h->inline_args[i]);
    }
    Py_VISIT(h->args_tuple);
    Py_VISIT(h->source_traceback);
    Py_VISIT(h->repr);
    Py_VISIT(h->when);
    return 0;
}

static int
handle_tp_clear(PyObject *self)
{
    HLHandle *h = hl_handle(self);
    hl_handle_clear_args(h);
    Py_CLEAR(h->callback);
    Py_CLEAR(h->context);
    Py_CLEAR(h->source_traceback);
    Py_CLEAR(h->repr);
    Py_CLEAR(h->when);
    Py_CLEAR(h->loop);
    h->cancelled = false;
    h->threadsafe = false;
    return 0;
}

static void
handle_free(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    HLState *st = hl_handle(self)->st;
    PyObject_ClearWeakRefs(self);
    handle_tp_clear(self);
    if (st != NULL) {
        HLFreeList *list = type == st->HandleType        ? &st->free_handles
                           : type == st->TimerHandleType ? &st->free_timer_handles
                                                         : NULL;
        if (list != NULL && hl_free_list_keep(list, self)) {
            return;
        }
    }
    type->tp_free(self);
    Py_DECREF(type);
}

#if defined(Py_REF_DEBUG) || defined(Py_TRACE_REFS)
bool
hl_handle_recycle(PyObject *Py_UNUSED(self))
{
    return false; /* dealloc keeps these builds' books */
}
#else
bool
hl_handle_recycle(PyObject *self)
{
    HLState *st = hl_handle(self)->st;
    PyTypeObject *type = Py_TYPE(self);
    if (st == NULL || type != st->HandleType || PyObject_GC_IsTracked(self)
        || *(PyObject **)((char *)self + type->tp_weaklistoffset) != NULL) {
        return false;
    }
    handle_tp_clear(self);
    return hl_free_list_keep(&st->free_handles, self);
}
#endif

static void
handle_tp_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, handle_tp_dealloc);
    handle_free(self);
    Py_TRASHCAN_END;
}

/* ---- Tables ---- */

#define HANDLE_METHODS                                                                           \
    {"cancel", handle_cancel, METH_NOARGS,                                                       \
     "cancel($self, /)\n--\n\nCancel the callback; does nothing if it ran or was cancelled."},   \
    {"cancelled", handle_cancelled, METH_NOARGS,                                                 \
     "cancelled($self, /)\n--\n\nReturn True if the callback was cancelled."},                   \
    {"_run", handle_run, METH_NOARGS,                                                            \
     "_run($self, /)\n--\n\nCall the callback in its context."}

#define HANDLE_GETSET                                                                            \
    {"_callback", handle_get_callback, NULL, NULL, NULL},                                        \
    {"_args", handle_get_args, NULL, NULL, NULL},                                                \
    {"_context", handle_get_context_attr, NULL, NULL, NULL},                                     \
    {"_loop", handle_get_loop, NULL, NULL, NULL},                                                \
    {"_cancelled", handle_get_cancelled, NULL, NULL, NULL},                                      \
    {"_repr", handle_get_repr, NULL, NULL, NULL},                                                \
    {"_source_traceback", handle_get_source_traceback, handle_set_source_traceback, NULL, NULL}

#if PY_VERSION_HEX >= 0x030C0000
#define HANDLE_GET_CONTEXT                                                                       \
    {"get_context", handle_get_context, METH_NOARGS,                                             \
     "get_context($self, /)\n--\n\nReturn the contextvars.Context the callback runs in."},
#else
#define HANDLE_GET_CONTEXT
#endif

static PyMethodDef handle_methods[] = {
    HANDLE_METHODS,
    HANDLE_GET_CONTEXT{NULL, NULL, 0, NULL},
};

static PyMethodDef timer_handle_methods[] = {
    HANDLE_METHODS,
    HANDLE_GET_CONTEXT{
        "when", timer_handle_when, METH_NOARGS,
        "when($self, /)\n--\n\nReturn the scheduled time, in seconds of loop.time()."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef handle_getset[] = {HANDLE_GETSET, {NULL, NULL, NULL, NULL, NULL}};

static PyGetSetDef timer_handle_getset[] = {
    HANDLE_GETSET,
    {"_when", timer_handle_get_when, NULL, NULL, NULL},
    {"_scheduled", timer_handle_get_scheduled, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot handle_slots[] = {
    {Py_tp_doc, "Handle(callback, args, loop, context=None)\n--\n\n"
                "A callback to be called by the loop; see asyncio.Handle."},
    {Py_tp_init, handle_tp_init},
    {Py_tp_traverse, handle_tp_traverse},
    {Py_tp_clear, handle_tp_clear},
    {Py_tp_dealloc, handle_tp_dealloc},
    {Py_tp_methods, handle_methods},
    {Py_tp_getset, handle_getset},
    {0, NULL},
};

static PyType_Slot timer_handle_slots[] = {
    {Py_tp_doc, "TimerHandle(when, callback, args, loop, context=None)\n--\n\n"
                "A callback to be called at a time of the loop's clock; see asyncio.TimerHandle."},
    {Py_tp_init, timer_handle_tp_init},
    {Py_tp_traverse, handle_tp_traverse},
    {Py_tp_clear, handle_tp_clear},
    {Py_tp_dealloc, handle_tp_dealloc},
    {Py_tp_methods, timer_handle_methods},
    {Py_tp_getset, timer_handle_getset},
    {0, NULL},
};

int
hl_handle_setup(PyObject *module, HLState *st)
{
    Py_ssize_t base = ((PyTypeObject *)st->StockTimerHandle)->tp_basicsize;
    hl_handle_offset = (base + 15) & ~(Py_ssize_t)15;
    int size = (int)(hl_handle_offset + (Py_ssize_t)sizeof(HLHandle));
    unsigned int flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC;
    PyType_Spec handle_spec = {"hotloop.Handle", size, 0, flags, handle_slots};
    PyType_Spec timer_spec = {"hotloop.TimerHandle", size, 0, flags, timer_handle_slots};

    st->HandleType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &handle_spec,
                                                              st->StockHandle);
    if (st->HandleType == NULL) {
        return -1;
    }
    st->TimerHandleType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &timer_spec,
                                                                   st->StockTimerHandle);
    if (st->TimerHandleType == NULL || PyModule_AddType(module, st->HandleType) < 0) {
        return -1;
    }
    return PyModule_AddType(module, st->TimerHandleType);
}
