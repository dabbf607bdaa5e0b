/* Handle and TimerHandle: subtypes of asyncio's classes with their fields in C.

   The stock slots (_callback, _args, ...) are hidden by getters of the same names, and stay
   empty; repr, comparison and hash are inherited and read those getters.

   States: scheduled (callback set), cancelled (callback and arguments dropped).  A handle that
   ran keeps its callback, as asyncio's does, because reader and writer handles run many times.

   The context is captured as asyncio does.  Where many handles are queued an empty one is not
   kept, to spare the allocator and the garbage collector: such handles (context NULL) run in the
   loop's blank context one after the other, and whoever sets a variable in it or holds on to it
   gets to keep it (hl_blank_enter, hl_blank_exit).

   Owners: the ready ring, the timer heap, the inbox and watched descriptors hold a reference
   each; user code may hold more.  A handle made while its loop runs is not tracked by the garbage
   collector, to which the bursts of them would be pure cost: a running loop is no garbage, nor is
   what it holds.  It becomes tracked if it survives its callback (hl_handle_release) or the run
   (hl_loop_track_handles).  Threads: everything needs the GIL; cancel() and cancelled()
   of a call_soon_threadsafe handle wait for a callback in progress in the loop's thread (3.14). */

#include "hotloop.h"

Py_ssize_t hl_handle_offset;

/* ---- Making ---- */

static PyObject *
handle_alloc(PyTypeObject *type, HLFreeList *list)
{
    if (list->length > 0) {
        PyObject *self = list->objects[--list->length];
        hl_revive(self);
        return self;
    }
    PyObject *self = type->tp_alloc(type, 0);
    if (self != NULL) {
        PyObject_GC_UnTrack(self);
    }
    return self;
}

void
hl_handle_track(PyObject *self)
{
    if (!PyObject_GC_IsTracked(self)) {
        PyObject_GC_Track(self);
    }
}

void
hl_handle_release(PyObject *self)
{
    if (Py_REFCNT(self) > 1) {
        hl_handle_track(self);
    }
    Py_DECREF(self);
}

static int
handle_set_args(HLHandle *h, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs <= HL_INLINE_ARGS) {
        for (Py_ssize_t i = 0; i < nargs; i++) {
            h->inline_args[i] = Py_NewRef(args[i]);
        }
        h->nargs = (signed char)nargs;
        return 0;
    }
    h->args_tuple = PyTuple_New(nargs);
    if (h->args_tuple == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        PyTuple_SET_ITEM(h->args_tuple, i, Py_NewRef(args[i]));
    }
    return 0;
}

int
hl_capture_context(PyObject **context)
{
    PyObject *copy = PyContext_CopyCurrent();
    if (copy != NULL && PyMapping_Size(copy) == 0) {
        Py_DECREF(copy);
        *context = NULL;
        return 0;
    }
    *context = copy;
    return copy != NULL ? 0 : -1;
}

/* Are so many handles queued that CPython's own free list of contexts does not last? */
static bool
is_crowded(PyObject *loop, HLState *st)
{
    HLLoop *ours = (HLLoop *)loop;
    return hl_is_loop(st, loop)
           && (ours->ready.length + ours->timers.length >= 128 || !hl_inbox_is_empty(&ours->inbox));
}

PyObject *
hl_blank_enter(HLLoop *loop)
{
    PyObject *context = loop->blank_context;
    loop->blank_context = NULL;
    if (context == NULL) {
        context = PyContext_New();
    }
    if (context != NULL && PyContext_Enter(context) < 0) {
        Py_CLEAR(context);
    }
    return context;
}

int
hl_blank_exit(HLLoop *loop, PyObject *context, PyObject **keep)
{
    int rc = PyContext_Exit(context);
    bool blank = !PyErr_Occurred() && Py_REFCNT(context) == 1 && PyMapping_Size(context) == 0;
    if (blank && loop->blank_context == NULL) {
        loop->blank_context = context;
    }
    else if (!blank && keep != NULL && *keep == NULL) {
        *keep = context;
    }
    else {
        Py_DECREF(context);
    }
    return rc;
}

/* A context that stays the handle's own.  Borrowed, or NULL. */
static PyObject *
handle_own_context(HLHandle *h)
{
    if (h->context == NULL) {
        h->context = PyContext_New();
    }
    return h->context;
}

static int
handle_fill(HLState *st, PyObject *self, PyObject *loop, PyObject *callback,
            PyObject *const *args, Py_ssize_t nargs, PyObject *context, bool debug)
{
    HLHandle *h = hl_handle(self);
    h->st = st;
    h->heap_index = HL_NOT_IN_HEAP;
    h->loop = Py_NewRef(loop);
    h->callback = Py_NewRef(callback);
    if (context != NULL) {
        h->context = Py_NewRef(context);
    }
    else if (is_crowded(loop, st)) {
        if (hl_capture_context(&h->context) < 0) {
            return -1;
        }
    }
    else if ((h->context = PyContext_CopyCurrent()) == NULL) {
        return -1;
    }
    if (handle_set_args(h, args, nargs) < 0) {
        return -1;
    }
    return debug ? hl_capture_stack(st, loop, &h->source_traceback) : 0;
}

/* The last step of making a handle for a loop: NULL if an earlier one failed. */
static PyObject *
handle_finish(HLLoop *loop, PyObject *self, PyObject *callback, PyObject *const *args,
              Py_ssize_t nargs, PyObject *context)
{
    if (handle_fill(loop->st, self, (PyObject *)loop, callback, args, nargs, context, loop->debug) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    if (loop->thread_id == 0) {
        hl_handle_track(self);
    }
    return self;
}

PyObject *
hl_handle_new(HLLoop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
              PyObject *context)
{
    HLState *st = loop->st;
    PyObject *self = handle_alloc(st->HandleType, &st->free_handles);
    return self != NULL ? handle_finish(loop, self, callback, args, nargs, context) : NULL;
}

PyObject *
hl_timer_handle_new(HLLoop *loop, PyObject *when, PyObject *callback, PyObject *const *args,
                    Py_ssize_t nargs, PyObject *context)
{
    HLState *st = loop->st;
    PyObject *self = handle_alloc(st->TimerHandleType, &st->free_timer_handles);
    if (self == NULL) {
        return NULL;
    }
    hl_handle(self)->when = Py_NewRef(when);
    return handle_finish(loop, self, callback, args, nargs, context);
}

/* ---- Running ---- */

static PyObject *
handle_call(HLHandle *h)
{
    if (h->args_tuple != NULL) {
        PyObject *callback = Py_NewRef(h->callback);
        PyObject *args = Py_NewRef(h->args_tuple);
        PyObject *result = PyObject_Call(callback, args, NULL);
        Py_DECREF(args);
        Py_DECREF(callback);
        return result;
    }
    /* The callback may cancel its own handle, so it runs on references of ours. */
    PyObject *stack[2 + HL_INLINE_ARGS];
    int nargs = h->nargs;
    stack[1] = Py_NewRef(h->callback);
    for (int i = 0; i < nargs; i++) {
        stack[2 + i] = Py_NewRef(h->inline_args[i]);
    }
    PyObject *result = PyObject_Vectorcall(stack[1], stack + 2,
                                           nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    for (int i = 0; i < nargs; i++) {
        Py_DECREF(stack[2 + i]);
    }
    Py_DECREF(stack[1]);
    return result;
}

static PyObject *
handle_args(HLHandle *h)
{
    if (h->args_tuple != NULL) {
        return Py_NewRef(h->args_tuple);
    }
    PyObject *args = PyTuple_New(h->nargs);
    for (int i = 0; args != NULL && i < h->nargs; i++) {
        PyTuple_SET_ITEM(args, i, Py_NewRef(h->inline_args[i]));
    }
    return args;
}

/* "Exception in callback f(1) at prog.py:3" */
static PyObject *
handle_failure_message(HLHandle *h)
{
    HLState *st = h->st;
    PyObject *message = NULL, *kwargs = NULL, *source = NULL;
    PyObject *shown_args = handle_args(h);
    PyObject *args = PyTuple_Pack(2, h->callback != NULL ? h->callback : Py_None,
                                  shown_args != NULL ? shown_args : Py_None);
    if (args == NULL) {
        goto done;
    }
    if (st->format_takes_debug) {
        int debug = hl_loop_is_debug(st, h->loop);
        kwargs = debug < 0 ? NULL : Py_BuildValue("{OO}", st->name.debug, debug ? Py_True : Py_False);
        if (kwargs == NULL) {
            goto done;
        }
    }
    source = PyObject_Call(st->format_callback_source, args, kwargs);
    if (source != NULL) {
        message = PyUnicode_FromFormat("Exception in callback %U", source);
    }
done:
    Py_XDECREF(shown_args);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    Py_XDECREF(source);
    return message;
}

static int
handle_report_failure(PyObject *self)
{
    HLHandle *h = hl_handle(self);
    if (hl_is_fatal()) {
        return -1;
    }
    PyObject *exc = hl_take_exception();
    PyObject *message = handle_failure_message(h);
    if (message == NULL) {
        PyErr_Clear();
        message = PyUnicode_FromString("Exception in callback");
    }
    int rc = message == NULL ? -1
                             : hl_report(h->st, h->loop, message, exc, "handle", self,
                                         h->source_traceback);
    Py_XDECREF(message);
    Py_DECREF(exc);
    return rc;
}

/* context.run(callback, *args), for anything but a contextvars.Context that has a run(). */
static PyObject *
handle_call_through(HLHandle *h, PyObject *context)
{
    PyObject *result = NULL;
    PyObject *run = PyObject_GetAttr(context, h->st->name.run);
    PyObject *args = handle_args(h);
    PyObject *callback = PyTuple_Pack(1, h->callback);
    PyObject *all = args != NULL && callback != NULL ? PySequence_Concat(callback, args) : NULL;
    if (run != NULL && all != NULL) {
        result = PyObject_Call(run, all, NULL);
    }
    Py_XDECREF(all);
    Py_XDECREF(callback);
    Py_XDECREF(args);
    Py_XDECREF(run);
    return result;
}

static PyObject *
handle_call_in_blank(HLHandle *h)
{
    HLLoop *loop = (HLLoop *)Py_NewRef(h->loop);
    PyObject *result = NULL;
    PyObject *context = hl_blank_enter(loop);
    if (context != NULL) {
        result = handle_call(h);
        if (hl_blank_exit(loop, context, NULL) < 0) {
            Py_CLEAR(result);
        }
    }
    Py_DECREF(loop);
    return result;
}

static PyObject *
handle_call_in_context(HLHandle *h)
{
    PyObject *context = Py_NewRef(h->context);
    PyObject *result = NULL;
    if (!PyContext_CheckExact(context)) {
        result = handle_call_through(h, context);
    }
    else if (PyContext_Enter(context) == 0) {
        result = handle_call(h);
        if (PyContext_Exit(context) < 0) {
            Py_CLEAR(result);
        }
    }
    Py_DECREF(context);
    return result;
}

static int
handle_run_in_context(PyObject *self)
{
    HLHandle *h = hl_handle(self);
    PyObject *result;
    if (h->context == NULL && hl_is_loop(h->st, h->loop)) {
        result = handle_call_in_blank(h);
    }
    else {
        result = handle_own_context(h) != NULL ? handle_call_in_context(h) : NULL;
    }
    if (result == NULL) {
        return handle_report_failure(self);
    }
    Py_DECREF(result);
    return 0;
}

#if PY_VERSION_HEX >= 0x030E0000
static int
handle_run_threadsafe(PyObject *self)
{
    HLLoop *loop = (HLLoop *)hl_handle(self)->loop;
    PyObject *outer = loop->running_threadsafe;
    if (outer == NULL) {
        uv_mutex_lock(&loop->threadsafe_lock);
    }
    loop->running_threadsafe = self;
    int rc = handle_run_in_context(self);
    loop->running_threadsafe = outer;
    if (outer == NULL) {
        uv_mutex_unlock(&loop->threadsafe_lock);
    }
    return rc;
}

/* Wait until the callback that runs in the loop's thread has returned. */
static void
handle_wait_for_callback(PyObject *self)
{
    HLHandle *h = hl_handle(self);
    HLLoop *loop = (HLLoop *)h->loop;
    while (h->threadsafe && loop->running_threadsafe == self
           && loop->thread_id != PyThread_get_thread_ident()) {
        Py_BEGIN_ALLOW_THREADS
        uv_mutex_lock(&loop->threadsafe_lock);
        uv_mutex_unlock(&loop->threadsafe_lock);
        Py_END_ALLOW_THREADS
    }
}
#endif

int
hl_handle_run(PyObject *self)
{
    HLHandle *h = hl_handle(self);
    if (h->cancelled || h->callback == NULL) {
        return 0;
    }
#if PY_VERSION_HEX >= 0x030E0000
    if (h->threadsafe) {
        return handle_run_threadsafe(self);
    }
#endif
    return handle_run_in_context(self);
}

/* ---- Methods ---- */

static void
handle_clear_args(HLHandle *h)
{
    int nargs = h->nargs;
    h->nargs = 0;
    for (int i = 0; i < nargs; i++) {
        Py_CLEAR(h->inline_args[i]);
    }
    Py_CLEAR(h->args_tuple);
}

int
hl_handle_cancel(PyObject *self)
{
    HLHandle *h = hl_handle(self);
#if PY_VERSION_HEX >= 0x030E0000
    handle_wait_for_callback(self);
#endif
    if (h->cancelled || h->loop == NULL) {
        return 0;
    }
    int rc = 0;
    Py_INCREF(self);
    h->cancelled = true;
    if (h->when != NULL) {
        if (hl_is_loop(h->st, h->loop)) {
            hl_loop_forget_timer((HLLoop *)h->loop, self);
        }
        else {
            PyObject *told = PyObject_CallMethodOneArg(h->loop, h->st->name._timer_handle_cancelled, self);
            rc = told != NULL ? 0 : -1;
            Py_XDECREF(told);
        }
    }
    if (rc == 0 && hl_loop_is_debug(h->st, h->loop) > 0) {
        Py_XSETREF(h->repr, PyObject_Repr(self));
        rc = h->repr != NULL ? 0 : -1;
    }
    Py_CLEAR(h->callback);
    handle_clear_args(h);
    Py_DECREF(self);
    return rc;
}

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
#if PY_VERSION_HEX >= 0x030E0000
    handle_wait_for_callback(self);
#endif
    return PyBool_FromLong(hl_handle(self)->cancelled);
}

static PyObject *
handle_run(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (hl_handle_run(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
or_none(PyObject *value)
{
    return Py_NewRef(value != NULL ? value : Py_None);
}

static PyObject *
handle_get_context_attr(PyObject *self, void *Py_UNUSED(closure))
{
    HLHandle *h = hl_handle(self);
    return h->loop != NULL ? Py_XNewRef(handle_own_context(h)) : Py_NewRef(Py_None);
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
    return or_none(hl_handle(self)->when);
}

/* ---- Attributes ---- */

static PyObject *
handle_get_callback(PyObject *self, void *Py_UNUSED(closure))
{
    return or_none(hl_handle(self)->callback);
}

static PyObject *
handle_get_args(PyObject *self, void *Py_UNUSED(closure))
{
    HLHandle *h = hl_handle(self);
    return h->callback != NULL ? handle_args(h) : Py_NewRef(Py_None);
}

static PyObject *
handle_get_loop(PyObject *self, void *Py_UNUSED(closure))
{
    return or_none(hl_handle(self)->loop);
}

static PyObject *
handle_get_cancelled(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(hl_handle(self)->cancelled);
}

static PyObject *
handle_get_repr(PyObject *self, void *Py_UNUSED(closure))
{
    return or_none(hl_handle(self)->repr);
}

static PyObject *
handle_get_source_traceback(PyObject *self, void *Py_UNUSED(closure))
{
    return or_none(hl_handle(self)->source_traceback);
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
    return or_none(hl_handle(self)->when);
}

static PyObject *
timer_handle_get_scheduled(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(hl_handle(self)->heap_index != HL_NOT_IN_HEAP);
}

/* ---- Life ---- */

static const char *const handle_parameter_names[] = {"callback", "args", "loop", "context", NULL};
static const HLParameters handle_parameters = {"Handle", handle_parameter_names, 4, 3};
static const char *const timer_parameter_names[] = {"when", "callback", "args", "loop", "context", NULL};
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
    int rc = handle_fill(st, self, values[2], values[0], ((PyTupleObject *)args)->ob_item,
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
    Py_VISIT(h->when);
    return 0;
}

static int
handle_tp_clear(PyObject *self)
{
    HLHandle *h = hl_handle(self);
    handle_clear_args(h);
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
handle_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    HLState *st = hl_handle(self)->st;
    PyObject_GC_UnTrack(self);
    PyObject_ClearWeakRefs(self);
    handle_tp_clear(self);
    if (st != NULL) {
        HLFreeList *list = type == st->HandleType        ? &st->free_handles
                           : type == st->TimerHandleType ? &st->free_timer_handles
                                                         : NULL;
        if (list != NULL && list->length < HL_FREE_MAX) {
            list->objects[list->length++] = self;
            return;
        }
    }
    type->tp_free(self);
    Py_DECREF(type);
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
    HANDLE_GET_CONTEXT
    {NULL, NULL, 0, NULL},
};

static PyMethodDef timer_handle_methods[] = {
    HANDLE_METHODS,
    HANDLE_GET_CONTEXT
    {"when", timer_handle_when, METH_NOARGS,
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

    st->HandleType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &handle_spec, st->StockHandle);
    if (st->HandleType == NULL) {
        return -1;
    }
    st->TimerHandleType =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &timer_spec, st->StockTimerHandle);
    if (st->TimerHandleType == NULL || PyModule_AddType(module, st->HandleType) < 0) {
        return -1;
    }
    return PyModule_AddType(module, st->TimerHandleType);
}
