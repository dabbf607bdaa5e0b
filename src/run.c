/* Running: run_forever() and the turn.

   A turn polls the kernel if it is time to, moves what other threads sent and the timers that
   are due to the ready ring, and then runs the entries that are ready now; what they add waits
   for the next turn.  Polling is skipped while there is work and less than HL_POLL_INTERVAL_NS
   has passed since the last poll, so I/O, signals and other processes are at most that long
   (and the length of one turn) behind.  stop(), timers and the inbox are looked at in every turn.
   What entries write to transports is sent before the next callback, at the latest when the turn
   ends or after HL_FLUSH_INTERVALS.

   Exceptions of callbacks go to the exception handler; SystemExit and KeyboardInterrupt end
   run_forever(), and what was not run stays queued. */

#include "hotloop.h"

/* ---- One entry ---- */

static int
run_foreign(HLLoop *loop, PyObject *handle)
{
    PyObject *cancelled = PyObject_GetAttrString(handle, "_cancelled");
    int skip = cancelled != NULL ? PyObject_IsTrue(cancelled) : -1;
    Py_XDECREF(cancelled);
    if (skip != 0) {
        return skip < 0 ? -1 : 0;
    }
    PyObject *result = PyObject_CallMethod(handle, "_run", NULL);
    Py_XDECREF(result);
    (void)loop;
    return result != NULL ? 0 : -1;
}

static int
dispatch(HLLoop *loop, const HLEntry *entry)
{
    PyObject *object = hl_entry_object(entry);
    switch (hl_entry_kind(entry)) {
    case HL_START_TASK:
    case HL_STEP_TASK:
        return hl_task_step(object, entry->arg, true);
    case HL_WAKE_TASK:
        return hl_task_wake(object, entry->arg, true);
    case HL_RUN_HANDLE:
        return hl_loop_set_current_task(loop, NULL) < 0 ? -1 : hl_handle_run(object, loop);
    case HL_RUN_FOREIGN:
        hl_context_leave(loop);
        return hl_loop_set_current_task(loop, NULL) < 0 ? -1 : run_foreign(loop, object);
    case HL_RUN_CALLBACK:
        return hl_loop_set_current_task(loop, NULL) < 0
                   ? -1
                   : hl_handle_run_done(loop, object, entry->arg);
    case HL_RUN_IO: /* enters a context of its own, if it calls anybody */
        return hl_loop_set_current_task(loop, NULL) < 0 ? -1 : entry->on_ready(loop, object);
    }
    Py_UNREACHABLE();
}

/* ---- What goes wrong in an entry ---- */

/* The current task stays set between turns, for the next entry is most often a step again; a
   plain callback, a poll and the end of the run reset it.  A turn inside a task's step gives that
   task back. */
static void
leave_current_task(HLLoop *loop, PyObject *outer)
{
    PyObject *raised = hl_take_exception();
    if (hl_loop_set_current_task(loop, outer) < 0) {
        PyErr_WriteUnraisable((PyObject *)loop);
    }
    hl_give_exception(raised);
}

void
hl_loop_leave_entry(HLLoop *loop)
{
    if (loop->current_task != NULL) {
        leave_current_task(loop, NULL);
    }
    hl_context_leave(loop);
}

/* An exception that came out of an entry.  -1 if the loop must end: for a fatal one, and for what the
   report of a callback's exception raised. */
static int
handle_entry_error(HLLoop *loop, const HLEntry *entry)
{
    PyObject *object = hl_entry_object(entry);
    hl_loop_leave_entry(loop);
    switch (hl_entry_kind(entry)) {
    case HL_START_TASK:
    case HL_STEP_TASK:
    case HL_WAKE_TASK:
        return hl_is_fatal() ? -1 : hl_task_report_failure(loop, object, entry->arg);
    case HL_RUN_IO:
        return hl_handle_report_method(loop, object, "_read_ready", NULL);
    default:
        return -1;
    }
}

/* ---- Debug mode: who is slow? ---- */

static int
warn_if_slow(HLLoop *loop, PyObject *object, HLEntryKind kind, double took)
{
    HLState *st = loop->st;
    PyObject *limit = PyObject_GetAttr((PyObject *)loop, st->name.slow_callback_duration);
    double seconds = limit != NULL ? PyFloat_AsDouble(limit) : -1.0;
    Py_XDECREF(limit);
    if (PyErr_Occurred()) {
        return -1;
    }
    if (!(took >= seconds)) { /* nor is anything slow by a NaN */
        return 0;
    }
    bool is_handle = kind == HL_RUN_HANDLE || kind == HL_RUN_FOREIGN;
    PyObject *text = is_handle ? PyObject_CallOneArg(st->format_handle, object)
                               : PyObject_Repr(object);
    PyObject *logged = text == NULL
                           ? NULL
                           : PyObject_CallMethod(st->logger, "warning", "sOd",
                                                 "Executing %s took %.3f seconds", text, took);
    Py_XDECREF(text);
    Py_XDECREF(logged);
    return logged != NULL ? 0 : -1;
}

static int
dispatch_timed(HLLoop *loop, const HLEntry *entry)
{
    PyObject *object = hl_entry_object(entry);
    HLEntryKind kind = hl_entry_kind(entry);
    bool is_handle = kind == HL_RUN_HANDLE || kind == HL_RUN_FOREIGN;
    double before, after;
    if (hl_loop_time(loop, &before) < 0
        || PyObject_SetAttr((PyObject *)loop, loop->st->name._current_handle,
                            is_handle ? object : Py_None)
               < 0) {
        return -1;
    }
    int rc = dispatch(loop, entry);
    hl_context_leave(loop);
    if (rc == 0 && hl_loop_time(loop, &after) == 0) {
        rc = warn_if_slow(loop, object, kind, after - before);
    }
    PyObject *raised = hl_take_exception();
    if (PyObject_SetAttr((PyObject *)loop, loop->st->name._current_handle, Py_None) < 0) {
        PyErr_WriteUnraisable((PyObject *)loop);
    }
    if (raised != NULL) {
        hl_give_exception(raised);
        rc = -1;
    }
    return rc;
}

/* ---- The turn ---- */

static inline bool
is_last_reference(PyObject *object)
{
    return object != NULL && Py_REFCNT(object) == 1;
}

/* Does nobody but the loop refer to a handle's callback or arguments? */
static bool
holds_last_references(HLHandle *h)
{
    bool last = h->args_tuple != NULL || is_last_reference(h->callback);
    for (int i = 0; i < h->nargs; i++) {
        last = last || is_last_reference(h->inline_args[i]);
    }
    return last;
}

/* Is it a future that nobody notices the end of?  Most are: waking a task is the last of them. */
static bool
ends_quietly(HLLoop *loop, PyObject *object)
{
    if (!Py_IS_TYPE(object, loop->st->FutureType) && !Py_IS_TYPE(object, loop->st->TaskType)) {
        return false;
    }
    const HLFuture *f = hl_future(object);
    const HLTask *task = f->is_task ? hl_task(object) : NULL;
    return f->state == HL_FINISHED && f->exception == NULL
           && (f->result == Py_None || Py_REFCNT(f->result) > 1)
           && (task == NULL || task->context == NULL || Py_REFCNT(task->context) > 1);
}

/* Might giving up the entry's references run a destructor?  Then not in a context that asyncio
   would have left, nor in the task, which asyncio and the loop refer to until the next entry. */
static bool
may_destroy(HLLoop *loop, const HLEntry *entry)
{
    PyObject *object = hl_entry_object(entry);
    if (Py_REFCNT(object) > (object == loop->current_task ? 3 : 1)) {
        PyObject *arg = hl_entry_arg(entry);
        return is_last_reference(arg) && HL_UNLIKELY(!ends_quietly(loop, arg));
    }
    return hl_entry_kind(entry) != HL_RUN_HANDLE || holds_last_references(hl_handle(object));
}

/* May what was written wait for the next entry?  Not if that is a callback or a sleep(0), which
   the program may have put there to look at the peer's end. */
static bool
flush_may_wait(HLLoop *loop)
{
    if (loop->ready.length == 0) {
        return false;
    }
    HLEntryKind next = hl_entry_kind(hl_ready_at(&loop->ready, 0));
    return (next == HL_START_TASK || next == HL_WAKE_TASK || next == HL_RUN_IO)
           && !hl_flush_is_due(loop);
}

static int
run_ready(HLLoop *loop)
{
    int rc = 0;
    for (size_t n = loop->ready.length; n > 0 && loop->ready.length > 0 && rc == 0; n--) {
        HLEntry entry = hl_ready_pop(&loop->ready);
        rc = HL_UNLIKELY(loop->debug) ? dispatch_timed(loop, &entry) : dispatch(loop, &entry);
        if (HL_UNLIKELY(rc < 0)) {
            rc = handle_entry_error(loop, &entry);
        }
        if ((loop->contexts.entered != NULL || loop->current_task != NULL)
            && HL_UNLIKELY(may_destroy(loop, &entry))) {
            hl_loop_leave_entry(loop);
        }
        hl_loop_release_entry(&entry);
        if (HL_UNLIKELY(loop->unflushed != NULL) && (rc < 0 || n == 1 || !flush_may_wait(loop))
            && hl_loop_flush(loop) < 0) {
            rc = -1;
        }
    }
    return rc;
}

static int
move_due_timers(HLLoop *loop)
{
    double now, early;
    if (HL_LIKELY(loop->timers.length == 0)) {
        return 0;
    }
    if (hl_loop_time_for_timers(loop, &now, &early) < 0) {
        return -1;
    }
    now += early;
    while (loop->timers.length > 0 && loop->timers.timers[0].when <= now) {
        PyObject *handle = hl_heap_remove(&loop->timers, 0);
        int rc = hl_loop_push(loop, handle, NULL, HL_RUN_HANDLE);
        Py_DECREF(handle);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

/* The last entry's context and task may end with that, and destructors write or call stop(). */
static int
leave_last_entry(HLLoop *loop)
{
    hl_context_leave(loop);
    if (hl_loop_set_current_task(loop, NULL) < 0) {
        return -1;
    }
    return loop->unflushed != NULL ? hl_loop_flush_now(loop) : 0;
}

/* Signals' Python handlers run here if they did not in the callbacks, as they do in any line of
   Python: only turns without one are left to wait for the poll. */
static int
poll(HLLoop *loop)
{
    /* It may have been closed in a callback, with its _thread_id reset. */
    if (leave_last_entry(loop) < 0 || hl_loop_check_closed(loop) < 0) {
        return -1;
    }
    bool may_block = loop->ready.length == 0 && !loop->stopping;
    if (loop->poller != NULL ? hl_poll_by_poller(loop, may_block) < 0
                             : hl_poll(loop, may_block) < 0) {
        return -1;
    }
    return PyErr_CheckSignals() < 0 ? -1 : hl_loop_find_run(loop);
}

static int
run_turn(HLLoop *loop)
{
    if (HL_UNLIKELY(loop->unflushed != NULL) && hl_loop_flush(loop) < 0) {
        return -1; /* a run inside an entry of another run */
    }
    bool idle = loop->ready.length == 0 && !loop->stopping;
    if (HL_UNLIKELY(idle || hl_poll_is_due(loop)) && poll(loop) < 0) {
        return -1;
    }
    if (hl_loop_drain_inbox(loop) < 0) {
        return -1;
    }
    return move_due_timers(loop) < 0 ? -1 : run_ready(loop);
}

/* One turn, or all until stop(). */
static int
run_turns(HLLoop *loop, bool all)
{
    HLContexts outer = hl_contexts_push(loop);
    int rc;
    do {
        rc = run_turn(loop);
    } while (all && rc == 0 && !loop->stopping);
    hl_context_leave(loop);
    if (loop->unflushed != NULL && hl_loop_flush_now(loop) < 0) {
        rc = -1;
    }
    hl_contexts_pop(loop, outer);
    return rc;
}

/* ---- run_forever ---- */

#define RUNNING "This event loop is already running"

static int
check_not_elsewhere(HLLoop *loop)
{
    if (hl_loop_is_elsewhere(loop)) {
        PyErr_SetString(PyExc_RuntimeError, RUNNING);
        return -1;
    }
    return 0;
}

/* From the checks on, no other thread may come in between. */
static void
claim(HLLoop *loop)
{
    loop->claims++;
    loop->claimed_by = PyThread_get_thread_ident();
}

static void
disclaim(HLLoop *loop)
{
    if (--loop->claims == 0) {
        loop->claimed_by = 0;
    }
}

static int
check_runnable(HLLoop *loop)
{
    if (hl_loop_check_closed(loop) < 0 || hl_loop_check_process(loop) < 0) {
        return -1;
    }
    if (hl_loop_is_running(loop)) {
        PyErr_SetString(PyExc_RuntimeError, RUNNING);
        return -1;
    }
    PyObject *running = PyObject_CallNoArgs(loop->st->get_running_loop);
    if (running == NULL) {
        return -1;
    }
    Py_DECREF(running);
    if (running != Py_None) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Cannot run the event loop while another loop is running");
        return -1;
    }
    return 0;
}

static int
track_coroutine_origins(HLLoop *loop, bool enabled)
{
    PyObject *done = PyObject_CallMethodOneArg((PyObject *)loop,
                                               loop->st->name._set_coroutine_origin_tracking,
                                               enabled ? Py_True : Py_False);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

static int
set_running_loop(HLLoop *loop, PyObject *value)
{
    PyObject *done = PyObject_CallOneArg(loop->st->set_running_loop, value);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

static int
install_asyncgen_hooks(HLLoop *loop)
{
    HLState *st = loop->st;
    PyObject *old = PyObject_CallNoArgs(st->get_asyncgen_hooks);
    if (old == NULL) {
        return -1;
    }
    Py_XSETREF(loop->old_asyncgen_hooks, old);
    PyObject *finalizer = NULL, *done = NULL;
    PyObject *firstiter = PyObject_GetAttr((PyObject *)loop, st->name._asyncgen_firstiter_hook);
    if (firstiter != NULL) {
        finalizer = PyObject_GetAttr((PyObject *)loop, st->name._asyncgen_finalizer_hook);
    }
    if (finalizer != NULL) {
        done = PyObject_CallFunctionObjArgs(st->set_asyncgen_hooks, firstiter, finalizer, NULL);
    }
    Py_XDECREF(firstiter);
    Py_XDECREF(finalizer);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

static int
restore_asyncgen_hooks(HLLoop *loop)
{
    PyObject *old = loop->old_asyncgen_hooks;
    if (old == NULL) {
        return 0;
    }
    loop->old_asyncgen_hooks = NULL;
    PyObject *args = PySequence_Tuple(old);
    PyObject *done = args != NULL ? PyObject_Call(loop->st->set_asyncgen_hooks, args, NULL) : NULL;
    Py_XDECREF(args);
    Py_XDECREF(done);
    Py_DECREF(old);
    return done != NULL ? 0 : -1;
}

static void
tell_failure(HLLoop *loop, int rc)
{
    if (rc < 0) {
        PyErr_WriteUnraisable((PyObject *)loop);
    }
}

static void
end_running(HLLoop *loop)
{
    PyObject *raised = hl_take_exception();
    loop->stopping = false;
    leave_current_task(loop, NULL);
    tell_failure(loop, hl_loop_drain_inbox(loop));
    hl_loop_track_handles(loop);
    hl_wakeup_end(loop);
    loop->thread_id = 0;
    tell_failure(loop, set_running_loop(loop, Py_None));
    tell_failure(loop, track_coroutine_origins(loop, false));
    tell_failure(loop, restore_asyncgen_hooks(loop));
    hl_give_exception(raised);
}

/* The loop is this thread's from the first line on: what follows may let go of the GIL, and another
   thread that would run the loop must be told.  Not if this fails. */
static int
begin_running(HLLoop *loop)
{
    loop->thread_id = PyThread_get_thread_ident();
    if (hl_poll_open(loop) < 0 || hl_loop_find_patches(loop) < 0
        || track_coroutine_origins(loop, loop->debug) < 0) {
        loop->thread_id = 0;
        return -1;
    }
    hl_poll_soon(loop); /* stop(); run_forever() is how programs poll once */
    if (install_asyncgen_hooks(loop) < 0 || set_running_loop(loop, (PyObject *)loop) < 0
        || hl_wakeup_begin(loop) < 0) {
        end_running(loop);
        return -1;
    }
    return 0;
}

static PyObject *
loop_run_forever(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    HLLoop *loop = (HLLoop *)self;
    if (check_runnable(loop) < 0) {
        return NULL;
    }
    Py_INCREF(self);
    claim(loop);
    int rc = begin_running(loop);
    if (rc == 0) {
        rc = run_turns(loop, true);
        end_running(loop);
    }
    disclaim(loop);
    Py_DECREF(self);
    return rc == 0 ? Py_NewRef(Py_None) : NULL;
}

static PyObject *
loop_check_running(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return hl_none_or_error(check_runnable((HLLoop *)self));
}

static PyObject *
loop_run_forever_setup(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    HLLoop *loop = (HLLoop *)self;
    if (check_runnable(loop) < 0) {
        return NULL;
    }
    claim(loop);
    int rc = begin_running(loop);
    disclaim(loop);
    return hl_none_or_error(rc);
}

static PyObject *
loop_run_forever_cleanup(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    HLLoop *loop = (HLLoop *)self;
    if (check_not_elsewhere(loop) < 0) {
        return NULL;
    }
    claim(loop);
    end_running(loop);
    disclaim(loop);
    Py_RETURN_NONE;
}

static PyObject *
loop_run_once(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    HLLoop *loop = (HLLoop *)self;
    if (hl_loop_check_closed(loop) < 0 || hl_loop_check_process(loop) < 0
        || check_not_elsewhere(loop) < 0 || hl_poll_open(loop) < 0) {
        return NULL;
    }
    hl_poll_soon(loop);
    claim(loop);
    PyObject *task = Py_XNewRef(loop->current_task);
    int rc = run_turns(loop, false);
    leave_current_task(loop, task);
    Py_XDECREF(task);
    disclaim(loop);
    return rc == 0 ? Py_NewRef(Py_None) : NULL;
}

static PyObject *
loop_flush(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return hl_none_or_error(hl_loop_flush_now((HLLoop *)self));
}

PyMethodDef hl_run_methods[] = {
    {"run_forever", loop_run_forever, METH_NOARGS,
     "run_forever($self, /)\n--\n\nRun until stop() is called."},
    {"_run_once", loop_run_once, METH_NOARGS,
     "_run_once($self, /)\n--\n\nRun one turn, waiting for events if nothing is ready.\n\n"
     "For other toolkits' run loops, between _run_forever_setup() and _run_forever_cleanup()."},
    {"_check_running", loop_check_running, METH_NOARGS,
     "_check_running($self, /)\n--\n\nRaise RuntimeError if the loop cannot be run now, or here."},
    {"_flush", loop_flush, METH_NOARGS,
     "_flush($self, /)\n--\n\nSend what transports were given to write."},
    {"_run_forever_setup", loop_run_forever_setup, METH_NOARGS,
     "_run_forever_setup($self, /)\n--\n\nDo what run_forever() does before its first turn."},
    {"_run_forever_cleanup", loop_run_forever_cleanup, METH_NOARGS,
     "_run_forever_cleanup($self, /)\n--\n\nDo what run_forever() does after its last turn."},
    {NULL, NULL, 0, NULL},
};
