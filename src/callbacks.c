/* A future's done-callbacks: one inline slot, then a list, in the order they were added.

   A waiting Task of ours on a loop of ours is stored as itself, without context; its wake-up
   is then an entry of the ready ring and needs no Handle, nor does a callback in an empty context
   (stored as None).  Everything else goes through loop.call_soon(callback, future,
   context=context). */

#include "hotloop.h"

/* In the place of a callback's context: what is current when it is scheduled, since context=None was
   given. */
#define HL_CONTEXT_LATER Py_False

/* Does this slot hold a task to be woken, rather than a callable? */
static inline bool
is_waiting_task(PyObject *callback, PyObject *context)
{
    (void)callback;
    return context == NULL;
}

/* What lies at an index of the list.  Borrowed. */
static void
get_slot(PyObject *callbacks, Py_ssize_t i, PyObject **callback, PyObject **context)
{
    PyObject *item = PyList_GET_ITEM(callbacks, i);
    bool pair = PyTuple_CheckExact(item);
    *callback = pair ? PyTuple_GET_ITEM(item, 0) : item;
    *context = pair ? PyTuple_GET_ITEM(item, 1) : NULL;
}

static int
call_soon_by_name(PyObject *self, PyObject *callback, PyObject *context)
{
    HLFuture *f = hl_future(self);
    if (hl_future_ensure_alive(f) < 0) {
        return -1; /* __init__() failed in an earlier callback's call_soon() */
    }
    PyObject *own = context == Py_None            ? PyContext_New()
                    : context == HL_CONTEXT_LATER ? Py_NewRef(Py_None)
                                                  : Py_NewRef(context);
    PyObject *args[4] = {f->loop, callback, self, own};
    PyObject *handle = own == NULL ? NULL
                                   : PyObject_VectorcallMethod(f->st->name.call_soon, args, 3,
                                                               f->st->context_kwname);
    Py_XDECREF(own);
    Py_XDECREF(handle);
    return handle != NULL ? 0 : -1;
}

static int
wake_by_name(PyObject *self, PyObject *task)
{
    PyObject *wakeup = hl_task_wakeup_callable(task);
    if (wakeup == NULL) {
        return -1;
    }
    PyObject *context = hl_task_context(task);
    int rc = context != NULL ? call_soon_by_name(self, wakeup, context) : -1;
    Py_DECREF(wakeup);
    return rc;
}

/* Push one done-callback to the loop: a waiting task, or callback(future). */
static int
future_call_soon(PyObject *self, PyObject *callback, PyObject *context)
{
    HLFuture *f = hl_future(self);
    HLLoop *loop = (HLLoop *)f->loop;
    bool plain = f->native_loop && hl_loop_is_plain(loop);
    if (HL_LIKELY(is_waiting_task(callback, context))) {
        return plain ? hl_loop_push(loop, callback, self, HL_WAKE_TASK)
                     : wake_by_name(self, callback);
    }
    if (!plain) {
        return call_soon_by_name(self, callback, context);
    }
    if (context == Py_None) {
        return hl_loop_push(loop, callback, self, HL_RUN_CALLBACK);
    }
    if (context == HL_CONTEXT_LATER) {
        return hl_loop_schedule(loop, callback, &self, 1, NULL);
    }
    PyObject *handle = hl_handle_new(loop, callback, &self, 1, context);
    if (handle == NULL) {
        return -1;
    }
    int rc = hl_loop_push(loop, handle, NULL, HL_RUN_HANDLE);
    Py_DECREF(handle);
    return rc;
}

int
hl_future_schedule_callbacks(PyObject *self)
{
    HLFuture *f = hl_future(self);
    PyObject *callback0 = f->callback0;
    PyObject *context0 = f->context0;
    PyObject *callbacks = f->callbacks;
    f->callback0 = f->context0 = f->callbacks = NULL;
    int rc = 0;
    if (callback0 != NULL) {
        rc = future_call_soon(self, callback0, context0);
        Py_DECREF(callback0);
        Py_XDECREF(context0);
    }
    for (Py_ssize_t i = 0;
         rc == 0 && HL_UNLIKELY(callbacks != NULL) && i < PyList_GET_SIZE(callbacks); i++) {
        PyObject *callback, *context;
        get_slot(callbacks, i, &callback, &context);
        rc = future_call_soon(self, callback, context);
    }
    Py_XDECREF(callbacks);
    return rc;
}

/* Item is what stands for callback and context; list is new, if there was none yet.  They are made
   by now, and a finalizer may have seen to it that the future is done, or has a list. */
static int
append_callback(PyObject *self, PyObject *list, PyObject *item, PyObject *callback,
                PyObject *context)
{
    HLFuture *f = hl_future(self);
    if (f->state != HL_PENDING) {
        return future_call_soon(self, callback, context);
    }
    if (f->callbacks == NULL) {
        f->callbacks = Py_NewRef(list);
    }
    return PyList_Append(f->callbacks, item);
}

int
hl_future_add_callback(PyObject *self, PyObject *callback, PyObject *context)
{
    HLFuture *f = hl_future(self);
    if (HL_UNLIKELY(f->state != HL_PENDING)) {
        return future_call_soon(self, callback, context);
    }
    if (HL_LIKELY(f->callback0 == NULL && f->callbacks == NULL)) {
        f->callback0 = Py_NewRef(callback);
        f->context0 = Py_XNewRef(context);
        return 0;
    }
    PyObject *item = context != NULL ? PyTuple_Pack(2, callback, context) : Py_NewRef(callback);
    PyObject *list = f->callbacks == NULL ? PyList_New(0) : Py_NewRef(f->callbacks);
    int rc = item != NULL && list != NULL ? 0 : -1;
    if (rc == 0) {
        rc = append_callback(self, list, item, callback, context);
    }
    Py_XDECREF(list);
    Py_XDECREF(item);
    return rc;
}

PyObject *
hl_future_add_done_callback(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames)
{
    HLFuture *f = hl_future(self);
    PyObject *context;
    if (nargs != 1) {
        return PyErr_Format(PyExc_TypeError,
                            "add_done_callback() takes exactly 1 positional argument (%zd given)",
                            nargs);
    }
    if (f->loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "uninitialized Future object"); /* asyncio's words */
        return NULL;
    }
    if (hl_parse_context(f->st, "add_done_callback", args, nargs, kwnames, &context) < 0) {
        return NULL;
    }
    if (context == NULL && kwnames != NULL && PyTuple_GET_SIZE(kwnames) > 0) {
        context = HL_CONTEXT_LATER;
    }
    if (context != NULL) {
        Py_INCREF(context);
    }
    else if (hl_capture_context(&context) < 0) {
        return NULL;
    }
    int rc = hl_future_add_callback(self, args[0], hl_or_none(context));
    Py_XDECREF(context);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* What asyncio would have stored for this slot. */
static PyObject *
shown_callback(PyObject *callback, PyObject *context)
{
    return is_waiting_task(callback, context) ? hl_task_wakeup_callable(callback)
                                              : Py_NewRef(callback);
}

static int
slot_equals(PyObject *callback, PyObject *context, PyObject *wanted)
{
    PyObject *shown = shown_callback(callback, context);
    if (shown == NULL) {
        return -1;
    }
    int equal = PyObject_RichCompareBool(shown, wanted, Py_EQ);
    Py_DECREF(shown);
    return equal;
}

/* Drops callback0 if it equals wanted.  1, 0 or -1. */
static int
remove_callback0(HLFuture *f, PyObject *wanted)
{
    if (f->callback0 == NULL) {
        return 0;
    }
    PyObject *callback = Py_NewRef(f->callback0);
    PyObject *context = Py_XNewRef(f->context0);
    int equal = slot_equals(callback, context, wanted);
    if (equal > 0 && f->callback0 == callback) {
        Py_CLEAR(f->callback0);
        Py_CLEAR(f->context0);
    }
    Py_DECREF(callback);
    Py_XDECREF(context);
    return equal;
}

/* The comparison may run Python code that changes the list, so it works on a copy: only what
   is still there and was found equal is taken out.  Returns how many, or -1. */
static Py_ssize_t
remove_from_list(HLFuture *f, PyObject *wanted)
{
    if (f->callbacks == NULL) {
        return 0;
    }
    Py_ssize_t removed = 0;
    PyObject *copy = PyList_GetSlice(f->callbacks, 0, PyList_GET_SIZE(f->callbacks));
    for (Py_ssize_t i = 0; copy != NULL && i < PyList_GET_SIZE(copy); i++) {
        PyObject *item = PyList_GET_ITEM(copy, i);
        PyObject *callback, *context;
        get_slot(copy, i, &callback, &context);
        int equal = slot_equals(callback, context, wanted);
        if (equal < 0) {
            Py_CLEAR(copy);
            return -1;
        }
        for (Py_ssize_t j = 0; equal && f->callbacks != NULL && j < PyList_GET_SIZE(f->callbacks);
             j++) {
            if (PyList_GET_ITEM(f->callbacks, j) == item) {
                if (PyList_SetSlice(f->callbacks, j, j + 1, NULL) < 0) {
                    Py_CLEAR(copy);
                    return -1;
                }
                removed++;
                break;
            }
        }
    }
    if (f->callbacks != NULL && PyList_GET_SIZE(f->callbacks) == 0) {
        Py_CLEAR(f->callbacks);
    }
    Py_XDECREF(copy);
    return copy != NULL ? removed : -1;
}

PyObject *
hl_future_remove_done_callback(PyObject *self, PyObject *callback)
{
    HLFuture *f = hl_future(self);
    if (hl_future_ensure_alive(f) < 0) {
        return NULL;
    }
    int first = remove_callback0(f, callback);
    Py_ssize_t others = first < 0 ? -1 : remove_from_list(f, callback);
    return others < 0 ? NULL : PyLong_FromSsize_t(first + others);
}

static int
make_context0(HLFuture *f)
{
    PyObject *context = PyContext_New();
    if (context == NULL) {
        return -1;
    }
    if (f->context0 == Py_None) {
        f->context0 = Py_NewRef(context);
        Py_DECREF(Py_None);
    }
    Py_DECREF(context);
    return 0;
}

/* Steals callbacks and callback, which keeps them while this works. */
static int
make_context(PyObject *callbacks, Py_ssize_t i, PyObject *callback)
{
    PyObject *item = PyList_GET_ITEM(callbacks, i);
    PyObject *context = PyContext_New();
    PyObject *pair = context != NULL ? PyTuple_Pack(2, callback, context) : NULL;
    int rc = pair != NULL ? 0 : -1;
    if (rc == 0 && i < PyList_GET_SIZE(callbacks) && PyList_GET_ITEM(callbacks, i) == item) {
        rc = PyList_SetItem(callbacks, i, Py_NewRef(pair));
    }
    Py_XDECREF(context);
    Py_XDECREF(pair);
    Py_DECREF(callback);
    Py_DECREF(callbacks);
    return rc;
}

/* Give the callbacks that have none a context of their own, now that somebody looks.  Finalizers
   that run meanwhile may take them away. */
static int
make_contexts(HLFuture *f)
{
    if (f->context0 == Py_None && make_context0(f) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; f->callbacks != NULL && i < PyList_GET_SIZE(f->callbacks); i++) {
        PyObject *callback, *context;
        get_slot(f->callbacks, i, &callback, &context);
        if (context == Py_None
            && make_context(Py_NewRef(f->callbacks), i, Py_NewRef(callback)) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
append_shown(PyObject *list, PyObject *callback, PyObject *context)
{
    bool is_task = is_waiting_task(callback, context);
    if (context == HL_CONTEXT_LATER) {
        context = Py_None;
    }
    Py_INCREF(callback);
    Py_XINCREF(context);
    PyObject *shown = shown_callback(callback, context);
    if (is_task) {
        context = Py_XNewRef(hl_task_context(callback));
    }
    PyObject *pair = shown != NULL && context != NULL ? PyTuple_Pack(2, shown, context) : NULL;
    int rc = pair != NULL ? PyList_Append(list, pair) : -1;
    Py_XDECREF(pair);
    Py_XDECREF(shown);
    Py_XDECREF(context);
    Py_DECREF(callback);
    return rc;
}

PyObject *
hl_future_get_callbacks(PyObject *self, void *Py_UNUSED(closure))
{
    HLFuture *f = hl_future(self);
    if (hl_future_ensure_alive(f) < 0 || make_contexts(f) < 0) {
        return NULL;
    }
    if (f->callback0 == NULL && f->callbacks == NULL) {
        Py_RETURN_NONE;
    }
    PyObject *list = PyList_New(0);
    int rc = list != NULL ? 0 : -1;
    if (rc == 0 && f->callback0 != NULL) {
        rc = append_shown(list, f->callback0, f->context0);
    }
    for (Py_ssize_t i = 0; rc == 0 && f->callbacks != NULL && i < PyList_GET_SIZE(f->callbacks);
         i++) {
        PyObject *callback, *context;
        get_slot(f->callbacks, i, &callback, &context);
        rc = append_shown(list, callback, context);
    }
    if (rc < 0) {
        Py_CLEAR(list);
    }
    return list;
}
