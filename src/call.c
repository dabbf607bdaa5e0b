/* Call: one call of run_in_executor(), from the pool's queue through a thread to the loop's inbox.

   States: queued (func set), being called, called (result set, or an exception: raised), given up
   (result NULL).  Owners: the pool's queue, then the worker that calls, then the loop's inbox and
   ready queue; nobody else ever sees a call, so it has one owner at any time.  It owns the loop to
   which it returns: that lives at least as long as the calls made for it.

   Threads: everything needs the GIL but hl_call_send().  Between hl_call_begin_delivery() and its
   end the loop counts its sender and does not close. */

#include "executor.h"
#include <sched.h>

HLCall *
hl_call_new(HLState *st, PyObject *future, PyObject *func, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *arguments = NULL;
    if (nargs > 0) {
        arguments = PyTuple_New(nargs);
        if (arguments == NULL) {
            return NULL;
        }
        for (Py_ssize_t i = 0; i < nargs; i++) {
            PyTuple_SET_ITEM(arguments, i, Py_NewRef(args[i]));
        }
    }
    HLCall *call = (HLCall *)hl_free_list_take(&st->free_calls);
    if (call == NULL) {
        call = PyObject_GC_New(HLCall, st->CallType);
        if (call == NULL) {
            Py_XDECREF(arguments);
            return NULL;
        }
    }
    call->st = st;
    call->link.next = 0;
    call->future = Py_XNewRef(future);
    call->loop = future != NULL ? (HLLoop *)Py_NewRef(hl_future(future)->loop) : NULL;
    call->func = Py_NewRef(func);
    call->args = arguments;
    call->result = NULL;
    call->raised = false;
    PyObject_GC_Track((PyObject *)call);
    return call;
}

void
hl_call_run(HLCall *call)
{
    PyObject *func = call->func;
    PyObject *args = call->args;
    call->func = call->args = NULL;
    if (call->future == NULL || hl_future(call->future)->state != HL_CANCELLED) {
        PyObject *result = args != NULL ? PyObject_Call(func, args, NULL)
                                        : PyObject_CallNoArgs(func);
        call->raised = result == NULL;
        call->result = result != NULL ? result : hl_take_exception();
    }
    Py_XDECREF(args);
    Py_DECREF(func);
}

/* ---- To the loop ---- */

HLLoop *
hl_call_begin_delivery(HLCall *call)
{
    HLLoop *loop = call->loop;
    if (loop == NULL || loop->closed) {
        Py_DECREF(call);
        return NULL;
    }
    atomic_fetch_add(&loop->senders, 1);
    return loop;
}

void
hl_call_send(HLLoop *loop, HLCall *call)
{
    hl_inbox_push(&loop->inbox, &call->link, HL_INBOX_CALL);
    hl_loop_wake(loop);
    atomic_fetch_sub(&loop->senders, 1);
}

void
hl_call_deliver(HLCall *call)
{
    HLLoop *loop = call != NULL ? hl_call_begin_delivery(call) : NULL;
    if (loop != NULL) {
        hl_call_send(loop, call);
    }
}

/* A sender has a few instructions and perhaps one system call before it, and needs no GIL.  In
   a child process there are no senders, whatever the copied count says. */
void
hl_loop_await_senders(HLLoop *loop)
{
    while (atomic_load(&loop->senders) > 0 && loop->pid == hl_process_id()) {
        sched_yield();
    }
}

/* As asyncio.futures._copy_future_state(). */
int
hl_call_finish(HLLoop *loop, PyObject *self)
{
    HLCall *call = (HLCall *)self;
    PyObject *future = call->future;
    if (hl_future(future)->state == HL_CANCELLED) {
        return 0;
    }
    if (hl_future(future)->state != HL_PENDING && loop->st->asserts) {
        PyErr_SetNone(PyExc_AssertionError);
        return -1;
    }
    if (call->result == NULL) {
        return hl_future_cancel(future, NULL) < 0 ? -1 : 0;
    }
    if (!call->raised) {
        return hl_future_set_result(future, call->result);
    }
    PyObject *exc = PyObject_CallOneArg(call->st->convert_future_exc, call->result);
    int rc = exc != NULL ? hl_future_set_exception(future, exc) : -1;
    Py_XDECREF(exc);
    return rc;
}

/* ---- Life ---- */

static int
call_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    HLCall *call = (HLCall *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(call->future);
    Py_VISIT(call->loop);
    Py_VISIT(call->func);
    Py_VISIT(call->args);
    Py_VISIT(call->result);
    return 0;
}

static int
call_tp_clear(PyObject *self)
{
    HLCall *call = (HLCall *)self;
    Py_CLEAR(call->result);
    Py_CLEAR(call->args);
    Py_CLEAR(call->func);
    Py_CLEAR(call->future);
    Py_CLEAR(call->loop);
    return 0;
}

static void
call_tp_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    call_tp_clear(self);
    if (hl_free_list_keep(&((HLCall *)self)->st->free_calls, self)) {
        return;
    }
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

/* Shown where its outcome could not be set. */
static PyObject *
call_tp_repr(PyObject *self)
{
    PyObject *future = ((HLCall *)self)->future;
    return PyUnicode_FromFormat("<call of run_in_executor() for %R>", hl_or_none(future));
}

static PyType_Slot call_slots[] = {
    {Py_tp_doc, "One call of run_in_executor()."},
    {Py_tp_repr, call_tp_repr},
    {Py_tp_traverse, call_tp_traverse},
    {Py_tp_clear, call_tp_clear},
    {Py_tp_dealloc, call_tp_dealloc},
    {0, NULL},
};

static PyType_Spec call_spec = {
    "hotloop._core._Call",
    sizeof(HLCall),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
        | Py_TPFLAGS_IMMUTABLETYPE,
    call_slots,
};

int
hl_call_setup(PyObject *module, HLState *st)
{
    st->CallType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &call_spec, NULL);
    return st->CallType != NULL ? 0 : -1;
}
