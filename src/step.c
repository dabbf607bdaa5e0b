/* Driving a task's coroutine: a step runs it to its next await, and a wake-up is the step that
   follows when the awaited future is done.

   On a loop of ours a step is an entry of the ready ring; there the task's context is entered
   here, and the current task is swapped lazily, once between two tasks in a row.  On any other
   loop, and in debug mode, a step is a callable given to loop.call_soon(), whose Handle enters
   the context; task_wakeup is named as in _asyncio, because repr() shows it. */

#include "hotloop.h"

/* ---- The current task ---- */

#if PY_VERSION_HEX < 0x030E0000
/* Until 3.13 asyncio keeps the current tasks in a dict by loop. */
static int
set_in_dict(HLState *st, PyObject *loop, PyObject *task)
{
    if (task != NULL) {
        return PyDict_SetItem(st->current_tasks, loop, task);
    }
    if (PyDict_DelItem(st->current_tasks, loop) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_KeyError)) {
            return -1;
        }
        PyErr_Clear();
    }
    return 0;
}
#endif

int
hl_loop_set_current_task(HLLoop *loop, PyObject *task)
{
    HLState *st = loop->st;
    if (loop->current_task == task) {
        return 0;
    }
    /* It must not end in the middle of this: a destructor may run a turn of the loop. */
    PyObject *before = loop->current_task;
    loop->current_task = Py_XNewRef(task);
#if PY_VERSION_HEX >= 0x030E0000
    PyObject *args[2] = {(PyObject *)loop, hl_or_none(task)};
    PyObject *previous = hl_call_builtin(st->swap_current_task, args, 2);
    int rc = previous != NULL ? 0 : -1;
    Py_XDECREF(previous);
#else
    int rc = set_in_dict(st, (PyObject *)loop, task);
#endif
    if (rc < 0) {
        Py_CLEAR(loop->current_task);
    }
    Py_XDECREF(before);
    return rc;
}

static int
call_with_task(PyObject *function, PyObject *loop, PyObject *task)
{
    PyObject *args[2] = {loop, task};
    PyObject *result = PyObject_Vectorcall(function, args, 2, NULL);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

/* ---- Scheduling steps ---- */

static PyObject *
step_called(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs > 1) {
        return PyErr_Format(PyExc_TypeError, "task_step expected at most 1 argument, got %zd",
                            nargs);
    }
    if (hl_task_step(self, nargs == 1 && args[0] != Py_None ? args[0] : NULL, false) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
wakeup_called(PyObject *self, PyObject *fut)
{
    if (hl_task_wake(self, fut, false) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef step_def = {"task_step", (PyCFunction)(void (*)(void))step_called,
                               METH_FASTCALL, NULL};
static PyMethodDef wakeup_def = {"task_wakeup", wakeup_called, METH_O, NULL};

PyObject *
hl_task_step_callable(PyObject *self)
{
    return PyCFunction_New(&step_def, self);
}

PyObject *
hl_task_wakeup_callable(PyObject *self)
{
    return PyCFunction_New(&wakeup_def, self);
}

int
hl_task_schedule_step(PyObject *self, PyObject *exc)
{
    HLTask *t = hl_task(self);
    HLLoop *loop = (HLLoop *)t->future.loop;
    if (t->future.native_loop && hl_loop_is_plain(loop)) {
        return hl_loop_push(loop, self, exc, HL_STEP_TASK);
    }
    PyObject *context = hl_task_context(self);
    PyObject *step = context != NULL ? hl_task_step_callable(self) : NULL;
    if (step == NULL) {
        return -1;
    }
    PyObject *args[4] = {t->future.loop, step, exc != NULL ? exc : context, context};
    PyObject *handle = PyObject_VectorcallMethod(
        t->future.st->name.call_soon, args, exc != NULL ? 3 : 2, t->future.st->context_kwname);
    Py_DECREF(step);
    Py_XDECREF(handle);
    return handle != NULL ? 0 : -1;
}

/* Throw a RuntimeError with this message into the coroutine at its next step. */
static int
step_soon_with_error(PyObject *self, PyObject *message)
{
    PyObject *exc = message != NULL ? PyObject_CallOneArg(PyExc_RuntimeError, message) : NULL;
    int rc = exc != NULL ? hl_task_schedule_step(self, exc) : -1;
    Py_XDECREF(message);
    Py_XDECREF(exc);
    return rc;
}

/* ---- Waiting ---- */

static int
refuse_self(PyObject *self)
{
    return step_soon_with_error(self,
                                PyUnicode_FromFormat("Task cannot await on itself: %R", self));
}

static int
refuse_other_loop(PyObject *self, PyObject *fut)
{
    return step_soon_with_error(
        self,
        PyUnicode_FromFormat("Task %R got Future %R attached to a different loop", self, fut));
}

static int
refuse_plain_yield(PyObject *self, PyObject *fut)
{
    return step_soon_with_error(
        self, PyUnicode_FromFormat("yield was used instead of yield from in task %R with %R", self,
                                   fut));
}

/* A cancel() that came while the coroutine ran goes to what it waits for now. */
static int
pass_cancel_on(PyObject *self)
{
    HLTask *t = hl_task(self);
    if (HL_LIKELY(!t->must_cancel)) {
        return 0;
    }
    int cancelled = hl_task_cancel_waiter(self, t->future.cancel_message);
    if (cancelled > 0) {
        t->must_cancel = false;
    }
    return cancelled < 0 ? -1 : 0;
}

static int
wait_for_ours(PyObject *self, PyObject *fut)
{
    HLTask *t = hl_task(self);
    HLFuture *f = hl_future(fut);
    if (fut == self) {
        return refuse_self(self);
    }
    if (f->loop != t->future.loop) {
        return refuse_other_loop(self, fut);
    }
    if (!f->blocking) {
        return refuse_plain_yield(self, fut);
    }
    f->blocking = false;
    if (hl_future_add_callback(fut, self, NULL) < 0
        || hl_awaited_by_add(t->future.st, fut, self) < 0) {
        return -1;
    }
    Py_XSETREF(t->fut_waiter, Py_NewRef(fut));
    return pass_cancel_on(self);
}

/* What asyncio.futures._get_loop() does. */
static PyObject *
loop_of(HLState *st, PyObject *fut)
{
    PyObject *get_loop = PyObject_GetAttr(fut, st->name.get_loop);
    if (get_loop == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        return PyObject_GetAttr(fut, st->name._loop);
    }
    PyObject *loop = get_loop != NULL ? PyObject_CallNoArgs(get_loop) : NULL;
    Py_XDECREF(get_loop);
    return loop;
}

static int
add_wakeup(PyObject *self, PyObject *fut)
{
    HLTask *t = hl_task(self);
    PyObject *context = hl_task_context(self);
    PyObject *wakeup = context != NULL ? hl_task_wakeup_callable(self) : NULL;
    PyObject *args[3] = {fut, wakeup, context};
    PyObject *added = wakeup == NULL
                          ? NULL
                          : PyObject_VectorcallMethod(t->future.st->name.add_done_callback, args,
                                                      2, t->future.st->context_kwname);
    Py_XDECREF(wakeup);
    Py_XDECREF(added);
    return added != NULL ? 0 : -1;
}

/* fut has _asyncio_future_blocking: a stock future, or a user's. */
static int
wait_for_foreign(PyObject *self, PyObject *fut, bool blocking)
{
    HLTask *t = hl_task(self);
    HLState *st = t->future.st;
    if (fut == self) {
        return refuse_self(self);
    }
    PyObject *loop = loop_of(st, fut);
    if (loop == NULL) {
        return -1;
    }
    bool same = loop == t->future.loop;
    Py_DECREF(loop);
    if (!same) {
        return refuse_other_loop(self, fut);
    }
    if (!blocking) {
        return refuse_plain_yield(self, fut);
    }
    if (PyObject_SetAttr(fut, st->name._asyncio_future_blocking, Py_False) < 0
        || add_wakeup(self, fut) < 0 || hl_awaited_by_add(st, fut, self) < 0) {
        return -1;
    }
    Py_XSETREF(t->fut_waiter, Py_NewRef(fut));
    return pass_cancel_on(self);
}

static int
wait_for_unknown(PyObject *self, PyObject *yielded)
{
    HLState *st = hl_future(self)->st;
    PyObject *blocking = PyObject_GetAttr(yielded, st->name._asyncio_future_blocking);
    if (blocking == NULL && !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return -1;
    }
    PyErr_Clear();
    if (blocking != NULL && blocking != Py_None) {
        int truth = PyObject_IsTrue(blocking);
        Py_DECREF(blocking);
        return truth < 0 ? -1 : wait_for_foreign(self, yielded, truth);
    }
    Py_XDECREF(blocking);
    if (PyGen_CheckExact(yielded)) {
        return step_soon_with_error(
            self, PyUnicode_FromFormat("yield was used instead of yield from for generator in "
                                       "task %R with %R",
                                       self, yielded));
    }
    return step_soon_with_error(self, PyUnicode_FromFormat("Task got bad yield: %R", yielded));
}

static int
task_wait_for(PyObject *self, PyObject *yielded)
{
    HLState *st = hl_future(self)->st;
    if (HL_LIKELY(Py_TYPE(yielded) == st->FutureType || Py_TYPE(yielded) == st->TaskType)) {
        return wait_for_ours(self, yielded);
    }
    if (yielded == Py_None) {
        return hl_task_schedule_step(self, NULL);
    }
    return wait_for_unknown(self, yielded);
}

/* ---- Stepping ---- */

static int
task_return(PyObject *self, PyObject *result)
{
    HLTask *t = hl_task(self);
    int rc;
    if (HL_UNLIKELY(t->must_cancel)) {
        t->must_cancel = false;
        PyObject *message = Py_XNewRef(t->future.cancel_message);
        rc = hl_future_cancel(self, message) < 0 ? -1 : 0;
        Py_XDECREF(message);
    }
    else {
        rc = hl_future_set_result(self, result);
    }
    hl_task_unregister(self);
    return rc;
}

/* The coroutine raised: end the task with that exception.  -1 with it set again if the loop
   must end for it, too. */
static int
task_raise(PyObject *self)
{
    HLTask *t = hl_task(self);
    bool cancelled = PyErr_ExceptionMatches(t->future.st->CancelledError);
    bool fatal = hl_is_fatal();
    PyObject *exc = hl_take_exception();
    int rc;
    if (cancelled) {
        Py_XSETREF(t->future.cancelled_exc, exc);
        rc = hl_future_cancel(self, NULL) < 0 ? -1 : 0;
        hl_task_unregister(self);
        return rc;
    }
    rc = hl_future_set_exception(self, exc);
    hl_task_unregister(self);
    if (rc == 0 && fatal) {
        hl_give_exception(exc);
        return -1;
    }
    Py_DECREF(exc);
    return rc;
}

/* Not task_resume, which is one of macOS's system calls. */
static PySendResult
coro_resume(HLState *st, PyObject *coro, PyObject *exc, PyObject **result)
{
    if (HL_LIKELY(exc == NULL)) {
        PySendResult sent = PyIter_Send(coro, Py_None, result);
        /* Out of memory, the interpreter may forget to set one. */
        if (HL_UNLIKELY(sent == PYGEN_ERROR) && !PyErr_Occurred()) {
            PyErr_SetString(PyExc_SystemError, "error return without exception set");
        }
        return sent;
    }
    *result = PyObject_CallMethodOneArg(coro, st->name.throw, exc);
    if (*result != NULL) {
        return PYGEN_NEXT;
    }
    return hl_fetch_stop_value(result) == 0 ? PYGEN_RETURN : PYGEN_ERROR;
}

/* The step itself: current task and context are set. */
static int
task_run(PyObject *self, PyObject *exc)
{
    HLTask *t = hl_task(self);
    PyObject *cancel = NULL;
    PyObject *result;
    if (HL_UNLIKELY(t->must_cancel)) {
        if (exc == NULL || !PyErr_GivenExceptionMatches(exc, t->future.st->CancelledError)) {
            exc = cancel = hl_future_make_cancelled_error(&t->future);
            if (cancel == NULL) {
                return -1;
            }
        }
        t->must_cancel = false;
    }
    if (t->fut_waiter != NULL) {
        PyObject *waiter = t->fut_waiter;
        t->fut_waiter = NULL;
        hl_awaited_by_discard(t->future.st, waiter, self);
        Py_DECREF(waiter);
    }
    PyObject *coro = Py_NewRef(t->coro);
    PySendResult outcome = coro_resume(t->future.st, coro, exc, &result);
    Py_DECREF(coro);
    Py_XDECREF(cancel);
    if (HL_UNLIKELY(outcome == PYGEN_ERROR)) {
        return task_raise(self);
    }
    int rc = outcome == PYGEN_RETURN ? task_return(self, result) : task_wait_for(self, result);
    Py_DECREF(result);
    return rc;
}

static int
check_not_done(PyObject *self, PyObject *exc)
{
    HLTask *t = hl_task(self);
    if (HL_LIKELY(t->future.state == HL_PENDING && t->coro != NULL)) {
        return 0;
    }
    PyErr_Format(t->future.st->InvalidStateError, "__step(): already done: %R %R", self,
                 hl_or_none(exc));
    return -1;
}

static int
refuse_two_tasks(PyObject *self, PyObject *current)
{
    PyErr_Format(PyExc_RuntimeError,
                 "Cannot enter into task %R while another task %R is being executed.", self,
                 current);
    return -1;
}

/* A step of a task whose context is empty: most tasks have no other, and need no context of their
   own if they set no variable in the one they are lent. */
static int
step_in_blank(HLLoop *loop, PyObject *self, PyObject *exc)
{
    PyObject *outer_task = loop->blank_task, *outer_running = loop->blank_running;
    PyObject *context = hl_blank_enter(loop);
    if (context == NULL) {
        return -1;
    }
    loop->blank_task = self;
    loop->blank_running = context;
    int rc = task_run(self, exc);
    loop->blank_task = outer_task;
    loop->blank_running = outer_running;
    hl_blank_return(loop, &hl_task(self)->context);
    return rc;
}

static int
step_on_our_loop(PyObject *self, PyObject *exc, bool enter_context)
{
    HLLoop *loop = (HLLoop *)hl_future(self)->loop;
    PyObject *context = hl_task(self)->context;
    if (HL_UNLIKELY(!enter_context) && loop->current_task != NULL) {
        return refuse_two_tasks(self, loop->current_task);
    }
    if (hl_loop_set_current_task(loop, self) < 0) {
        return -1;
    }
    if (HL_UNLIKELY(!enter_context)) {
        int rc = task_run(self, exc);
        PyObject *raised = rc < 0 ? hl_take_exception() : NULL;
        hl_loop_set_current_task(loop, NULL);
        if (raised != NULL) {
            hl_give_exception(raised);
        }
        return rc;
    }
    if (HL_LIKELY(context == NULL)) {
        return step_in_blank(loop, self, exc);
    }
    return hl_context_switch(loop, context) < 0 ? -1 : task_run(self, exc);
}

int
hl_task_step(PyObject *self, PyObject *exc, bool enter_context)
{
    HLTask *t = hl_task(self);
    HLState *st = t->future.st;
    if (check_not_done(self, exc) < 0) {
        return -1;
    }
    Py_INCREF(self);
    int rc;
    if (HL_LIKELY(t->future.native_loop)) {
        rc = step_on_our_loop(self, exc, enter_context);
    }
    else {
        PyObject *loop = t->future.loop;
        rc = call_with_task(st->enter_task, loop, self);
        if (rc == 0) {
            rc = task_run(self, exc);
            PyObject *raised = rc < 0 ? hl_take_exception() : NULL;
            if (call_with_task(st->leave_task, loop, self) < 0) {
                Py_XDECREF(raised);
                rc = -1;
            }
            else if (raised != NULL) {
                hl_give_exception(raised);
            }
        }
    }
    Py_DECREF(self);
    return rc;
}

/* Give up what was thrown into a task.  Should that be its end, asyncio has left the task by then;
   the loop stays in it (entered) and its context. */
static void
drop_thrown(PyObject *self, PyObject *exc, bool entered)
{
    HLFuture *f = hl_future(self);
    if (entered && Py_REFCNT(exc) == 1 && f->native_loop) {
        hl_loop_leave_entry((HLLoop *)f->loop);
    }
    Py_DECREF(exc);
}

int
hl_task_wake(PyObject *self, PyObject *fut, bool enter_context)
{
    HLState *st = hl_future(self)->st;
    PyObject *exc = NULL;
    if (HL_LIKELY(Py_TYPE(fut) == st->FutureType || Py_TYPE(fut) == st->TaskType)) {
        if (hl_future_outcome(fut, &exc) < 0) {
            exc = hl_take_exception();
        }
        else if (exc != NULL && hl_future(fut)->state == HL_CANCELLED) {
            PyErr_SetObject((PyObject *)Py_TYPE(exc), exc); /* gives it a __context__ */
            Py_DECREF(exc);
            exc = hl_take_exception();
        }
    }
    else {
        PyObject *result = PyObject_CallMethodNoArgs(fut, st->name.result);
        if (result == NULL) {
            exc = hl_take_exception();
        }
        Py_XDECREF(result);
    }
    int rc = hl_task_step(self, exc, enter_context);
    if (exc != NULL) {
        drop_thrown(self, exc, enter_context);
    }
    return rc;
}

/* ---- Eager start (3.12) ---- */

#if PY_VERSION_HEX >= 0x030C0000

static PyObject *
swap_current(HLState *st, PyObject *loop, PyObject *task)
{
    PyObject *args[2] = {loop, task};
    return hl_call_builtin(st->swap_current_task, args, 2);
}

static int
call_one(PyObject *function, PyObject *arg)
{
    PyObject *result = hl_call_builtin(function, &arg, 1);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

static int
step_in_context(PyObject *self, PyObject *exc, PyObject *context)
{
    if (PyContext_Enter(context) < 0) {
        return -1;
    }
    int rc = task_run(self, exc);
    return PyContext_Exit(context) < 0 ? -1 : rc;
}

static int
run_eagerly(PyObject *self)
{
    HLTask *t = hl_task(self);
    if (call_one(t->future.st->register_eager_task, self) < 0) {
        return -1;
    }
    PyObject *context = hl_task_context(self);
    int rc = context != NULL ? step_in_context(self, NULL, context) : -1;
    PyObject *raised = rc < 0 ? hl_take_exception() : NULL;
    if (call_one(t->future.st->unregister_eager_task, self) < 0) {
        Py_XDECREF(raised);
        return -1;
    }
    if (raised != NULL) {
        hl_give_exception(raised);
    }
    return rc;
}

int
hl_task_start_eagerly(PyObject *self)
{
    HLTask *t = hl_task(self);
    HLState *st = t->future.st;
    PyObject *loop = Py_NewRef(t->future.loop);
    PyObject *previous = swap_current(st, loop, self);
    if (previous == NULL) {
        Py_DECREF(loop);
        return -1;
    }
    int rc = run_eagerly(self);
    PyObject *raised = rc < 0 ? hl_take_exception() : NULL;
    PyObject *swapped = swap_current(st, loop, previous);
    if (swapped == NULL) {
        rc = -1;
        Py_XSETREF(raised, hl_take_exception());
    }
    Py_XDECREF(swapped);
    Py_DECREF(previous);
    Py_DECREF(loop);
    if (t->future.state == HL_PENDING) {
        rc = hl_task_register(self) < 0 ? -1 : rc;
    }
    else {
        Py_CLEAR(t->coro);
        hl_task_show_coro(self);
    }
    if (raised != NULL) {
        PyErr_Clear();
        hl_give_exception(raised);
    }
    return rc;
}

#else

int
hl_task_start_eagerly(PyObject *self)
{
    return hl_task_schedule_step(self, NULL);
}

#endif
