/* Handles: making them, calling their callbacks, cancelling them.  Their Python face, the types
   Handle and TimerHandle, is in handletype.c.

   States: scheduled (callback set), cancelled (callback and arguments dropped).  A handle that
   ran keeps its callback, as asyncio's does, because reader and writer handles run many times.

   The context is captured as asyncio does, but an empty one is not kept (context NULL): on a loop
   of ours such handles run in the loop's blank context, see context.c.

   Owners: the ready ring, the timer heap, the inbox and watched descriptors hold a reference
   each; user code may hold more.  A handle made while its loop runs is not tracked by the garbage
   collector, to which the bursts of them would be pure cost: a running loop is no garbage, nor is
   what it holds.  It becomes tracked if it survives its callback (hl_handle_release) or the run
   (hl_loop_track_handles).  Threads: everything needs the GIL; cancel() and cancelled()
   of a call_soon_threadsafe handle wait for a callback in progress in the loop's thread (3.14). */

#include "hotloop.h"

/* ---- Making ---- */

static PyObject *
handle_alloc(PyTypeObject *type, HLFreeList *list)
{
    PyObject *self = hl_free_list_take(list);
    if (self == NULL) {
        self = type->tp_alloc(type, 0);
        if (self != NULL) {
            PyObject_GC_UnTrack(self);
        }
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
    else if (hl_handle_recycle(self)) {
        return;
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

PyObject *
hl_handle_context(HLHandle *h)
{
    if (h->context == NULL && hl_is_loop(h->st, h->loop)) {
        HLContexts *contexts = &((HLLoop *)h->loop)->contexts;
        if (contexts->borrower == hl_handle_object(h)) {
            h->context = Py_XNewRef(contexts->blank); /* it is being run in it */
        }
    }
    if (h->context == NULL) {
        PyObject *context = PyContext_New();
        if (h->context == NULL) {
            h->context = context;
        }
        else {
            Py_XDECREF(context); /* a finalizer has asked for it, too */
        }
    }
    return h->context;
}

int
hl_handle_fill(HLState *st, PyObject *self, PyObject *loop, PyObject *callback,
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
    else if (hl_capture_context(&h->context) < 0) {
        return -1;
    }
    if (handle_set_args(h, args, nargs) < 0) {
        return -1;
    }
    return debug ? hl_capture_stack(st, loop, st->extract_short_stack, &h->source_traceback) : 0;
}

/* The last step of making a handle for a loop: NULL if an earlier one failed. */
static PyObject *
handle_finish(HLLoop *loop, PyObject *self, PyObject *callback, PyObject *const *args,
              Py_ssize_t nargs, PyObject *context)
{
    if (hl_handle_fill(loop->st, self, (PyObject *)loop, callback, args, nargs, context,
                       hl_loop_may_debug(loop))
        < 0) {
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
handle_call(HLHandle *h, HLLoop *loop)
{
    if (h->callback == NULL) {
        return Py_NewRef(Py_None); /* cancelled by what entering its context has run */
    }
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
    if (h->callback == NULL && loop != NULL) {
        hl_context_leave(loop); /* it has cancelled itself: these are the last references */
    }
    for (int i = 0; i < nargs; i++) {
        Py_DECREF(stack[2 + i]);
    }
    Py_DECREF(stack[1]);
    return result;
}

PyObject *
hl_handle_args(HLHandle *h)
{
    if (h->args_tuple != NULL) {
        return Py_NewRef(h->args_tuple);
    }
    PyObject *args = PyTuple_New(h->nargs);
    if (args != NULL && PyTuple_GET_SIZE(args) != h->nargs) {
        Py_DECREF(args); /* a finalizer has cancelled the handle meanwhile */
        return hl_handle_args(h);
    }
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
    PyObject *callback = Py_NewRef(hl_or_none(h->callback));
    PyObject *shown_args = hl_handle_args(h);
    PyObject *args = shown_args != NULL ? PyTuple_Pack(2, callback, shown_args) : NULL;
    if (args == NULL) {
        goto done;
    }
    if (st->format_takes_debug) {
        int debug = hl_loop_is_debug(st, h->loop);
        kwargs = debug < 0 ? NULL
                           : Py_BuildValue("{OO}", st->name.debug, debug ? Py_True : Py_False);
        if (kwargs == NULL) {
            goto done;
        }
    }
    source = PyObject_Call(st->format_callback_source, args, kwargs);
    if (source != NULL) {
        message = PyUnicode_FromFormat("Exception in callback %U", source);
    }
done:
    Py_DECREF(callback);
    Py_XDECREF(shown_args);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    Py_XDECREF(source);
    return message;
}

int
hl_handle_report_failure(PyObject *self)
{
    HLHandle *h = hl_handle(self);
    if (hl_is_fatal()) {
        return -1;
    }
    PyObject *exc = hl_take_exception(), *outer = hl_enter_except(exc);
    PyObject *message = handle_failure_message(h);
    if (message == NULL) {
        PyErr_Clear();
        message = PyUnicode_FromString("Exception in callback");
    }
    int rc = message == NULL
                 ? -1
                 : hl_report(h->st, h->loop, message, exc, "handle", self, h->source_traceback);
    hl_leave_except(outer);
    Py_XDECREF(message);
    Py_DECREF(exc);
    return rc;
}

/* What was raised came out of a callback that had no handle: report it with this one, which asyncio
   would have made; NULL if it could not be made.  Steals both. */
static int
report_with(PyObject *handle, PyObject *raised)
{
    if (handle == NULL) {
        Py_DECREF(raised);
        return -1;
    }
    hl_give_exception(raised);
    int rc = hl_handle_report_failure(handle);
    hl_handle_release(handle);
    return rc;
}

int
hl_handle_report_method(HLLoop *loop, PyObject *object, const char *method, PyObject *context)
{
    PyObject *raised = hl_take_exception();
    PyObject *callback = PyObject_GetAttrString(object, method);
    if (callback == NULL) {
        PyErr_Clear();
        callback = Py_NewRef(object);
    }
    PyObject *handle = hl_handle_new(loop, callback, NULL, 0, context);
    Py_DECREF(callback);
    return report_with(handle, raised);
}

int
hl_handle_run_method(HLLoop *loop, PyObject *object, HLOnReady run, const char *method,
                     PyObject **context)
{
    bool blank = *context == NULL;
    if (hl_context_enter(loop, *context) < 0) {
        return -1;
    }
    PyObject *own = Py_XNewRef(*context); /* the object may begin to wait in another one */
    int rc = run(loop, object);
    if (blank) {
        own = rc < 0 ? Py_NewRef(loop->contexts.blank) : NULL;
        hl_blank_return(loop, context);
    }
    if (rc < 0) {
        hl_context_leave(loop);
        rc = hl_handle_report_method(loop, object, method, own);
    }
    Py_XDECREF(own);
    return rc;
}

int
hl_task_report_failure(HLLoop *loop, PyObject *task, PyObject *woken_by)
{
    PyObject *raised = hl_take_exception();
    bool wakes = woken_by != NULL && !PyExceptionInstance_Check(woken_by);
    PyObject *callback = wakes ? hl_task_wakeup_callable(task) : hl_task_step_callable(task);
    PyObject *handle = callback != NULL
                           ? hl_handle_new(loop, callback, &woken_by, wakes, hl_task_context(task))
                           : NULL;
    Py_XDECREF(callback);
    if (handle != NULL) {
        Py_CLEAR(hl_handle(handle)->source_traceback); /* the loop had no debug mode then */
    }
    return report_with(handle, raised);
}

/* context.run(callback, *args), for anything but a contextvars.Context that has a run(). */
static PyObject *
handle_call_through(HLHandle *h, PyObject *context)
{
    PyObject *callback = PyTuple_Pack(1, h->callback);
    PyObject *args = callback != NULL ? hl_handle_args(h) : NULL;
    PyObject *all = args != NULL ? PySequence_Concat(callback, args) : NULL;
    PyObject *run = all != NULL ? PyObject_GetAttr(context, h->st->name.run) : NULL;
    PyObject *result = run != NULL ? PyObject_Call(run, all, NULL) : NULL;
    Py_XDECREF(run);
    Py_XDECREF(all);
    Py_XDECREF(args);
    Py_XDECREF(callback);
    return result;
}

/* In a context entered and left here. */
static PyObject *
handle_call_in_context(HLHandle *h)
{
    PyObject *context = Py_XNewRef(hl_handle_context(h));
    PyObject *result = NULL;
    if (context == NULL) {
        return NULL;
    }
    if (h->callback == NULL) {
        result = Py_NewRef(Py_None); /* cancelled by a finalizer */
    }
    else if (!PyContext_CheckExact(context)) {
        result = handle_call_through(h, context);
    }
    else if (PyContext_Enter(context) == 0) {
        result = handle_call(h, NULL);
        if (PyContext_Exit(context) < 0) {
            Py_CLEAR(result);
        }
    }
    Py_DECREF(context);
    return result;
}

/* In a context that the loop is left in. */
static PyObject *
handle_call_on_loop(HLHandle *h, HLLoop *loop)
{
    PyObject *result = NULL;
    if (h->context == NULL) {
        if (hl_blank_enter(loop) != NULL) {
            loop->contexts.borrower = hl_handle_object(h);
            result = handle_call(h, NULL);
            loop->contexts.borrower = NULL;
            hl_blank_return(loop, &h->context);
        }
        return result;
    }
    if (!PyContext_CheckExact(h->context)) {
        hl_context_leave(loop);
        return handle_call_in_context(h);
    }
    return hl_context_switch(loop, h->context) < 0 ? NULL : handle_call(h, loop);
}

/* By the function that a monitor has put in the place of asyncio's, which it calls in its turn. */
static int
handle_run_patched(PyObject *self, HLLoop *loop)
{
    HLState *st = loop->st;
    PyObject *type = hl_handle(self)->when != NULL ? st->StockTimerHandle : st->StockHandle;
    hl_context_leave(loop);
    PyObject *run = PyObject_GetAttrString(type, "_run");
    PyObject *done = run != NULL ? PyObject_CallOneArg(run, self) : NULL;
    Py_XDECREF(run);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

static int
handle_run_in_context(PyObject *self, HLLoop *loop)
{
    HLHandle *h = hl_handle(self);
    if (loop != NULL && loop->patched & HL_PATCHED_RUN) {
        return handle_run_patched(self, loop);
    }
    PyObject *result = loop != NULL ? handle_call_on_loop(h, loop) : handle_call_in_context(h);
    if (result == Py_None) {
        Py_DECREF(result);
        return 0;
    }
    if (loop != NULL) {
        hl_context_leave(loop); /* whatever the result's destructor does, or a handler */
    }
    if (result == NULL) {
        return hl_handle_report_failure(self);
    }
    Py_DECREF(result);
    return 0;
}

#if PY_VERSION_HEX >= 0x030E0000
static int
handle_run_threadsafe(PyObject *self, HLLoop *context_loop)
{
    HLLoop *loop = (HLLoop *)hl_handle(self)->loop;
    PyObject *outer = loop->running_threadsafe;
    unsigned long thread = PyThread_get_thread_ident();
    if (outer != NULL && loop->threadsafe_thread != thread) {
        return handle_run_in_context(self, context_loop); /* _run() by hand, beside the loop */
    }
    Py_INCREF(loop); /* the callback may initialise the handle again */
    if (outer == NULL) {
        uv_mutex_lock(&loop->threadsafe_lock);
        loop->threadsafe_thread = thread;
    }
    loop->running_threadsafe = self;
    int rc = handle_run_in_context(self, context_loop);
    loop->running_threadsafe = outer;
    if (outer == NULL) {
        uv_mutex_unlock(&loop->threadsafe_lock);
    }
    Py_DECREF(loop);
    return rc;
}

void
hl_handle_wait(PyObject *self)
{
    HLHandle *h = hl_handle(self);
    HLLoop *loop = (HLLoop *)h->loop;
    while (h->threadsafe && loop->running_threadsafe == self
           && loop->threadsafe_thread != PyThread_get_thread_ident()) {
        Py_BEGIN_ALLOW_THREADS
        uv_mutex_lock(&loop->threadsafe_lock);
        uv_mutex_unlock(&loop->threadsafe_lock);
        Py_END_ALLOW_THREADS
    }
}
#else
void
hl_handle_wait(PyObject *Py_UNUSED(self))
{
}
#endif

int
hl_handle_run(PyObject *self, HLLoop *loop)
{
    HLHandle *h = hl_handle(self);
    if (h->cancelled || h->callback == NULL) {
        return 0;
    }
#if PY_VERSION_HEX >= 0x030E0000
    if (h->threadsafe) {
        return handle_run_threadsafe(self, loop);
    }
#endif
    return handle_run_in_context(self, loop);
}

PyObject *
hl_handle_new_done(HLLoop *loop, PyObject *callback, PyObject *future, PyObject *context)
{
    PyObject *own = context != NULL ? Py_NewRef(context) : PyContext_New();
    PyObject *handle = own != NULL ? hl_handle_new(loop, callback, &future, 1, own) : NULL;
    Py_XDECREF(own);
    return handle;
}

/* The handle that asyncio would have made exists only where somebody sees it. */
static int
report_done_failure(HLLoop *loop, PyObject *callback, PyObject *future, PyObject *kept)
{
    PyObject *raised = hl_take_exception();
    return report_with(hl_handle_new_done(loop, callback, future, kept), raised);
}

int
hl_handle_run_done(HLLoop *loop, PyObject *callback, PyObject *future)
{
    PyObject *kept = NULL;
    if (hl_blank_enter(loop) == NULL) {
        return report_done_failure(loop, callback, future, NULL);
    }
    PyObject *stack[2] = {NULL, future};
    PyObject *result = PyObject_Vectorcall(callback, stack + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                           NULL);
    hl_blank_return(loop, &kept);
    int rc = 0;
    if (result != Py_None) {
        hl_context_leave(loop);
    }
    if (result == NULL) {
        rc = report_done_failure(loop, callback, future, kept);
    }
    Py_XDECREF(kept);
    Py_XDECREF(result);
    return rc;
}

/* ---- Cancelling ---- */

void
hl_handle_clear_args(HLHandle *h)
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
    hl_handle_wait(self);
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
            PyObject *told = PyObject_CallMethodOneArg(h->loop,
                                                       h->st->name._timer_handle_cancelled, self);
            rc = told != NULL ? 0 : -1;
            Py_XDECREF(told);
        }
    }
    int debug = rc == 0 ? hl_loop_is_debug(h->st, h->loop) : -1;
    if (debug > 0) {
        Py_XSETREF(h->repr, PyObject_Repr(self));
        debug = h->repr != NULL ? 1 : -1;
    }
    if (debug < 0) { /* asyncio's keeps callback and arguments then */
        Py_DECREF(self);
        return -1;
    }
    Py_CLEAR(h->callback);
    hl_handle_clear_args(h);
    Py_DECREF(self);
    return rc;
}
