/* Putting work into a loop: call_soon and its relatives, timers, futures and tasks. */

#include "hotloop.h"
#include "executor.h"
#include <math.h>

/* ---- Checks of debug mode ---- */

static int
check_thread(HLLoop *loop)
{
    if (loop->thread_id == 0 || loop->thread_id == PyThread_get_thread_ident()) {
        return 0;
    }
    PyErr_SetString(
        PyExc_RuntimeError,
        "Non-thread-safe operation invoked on an event loop other than the current one");
    return -1;
}

int
hl_loop_check_callback(HLLoop *loop, PyObject *callback, const char *method)
{
    PyObject *name = PyUnicode_FromString(method);
    PyObject *args[3] = {(PyObject *)loop, callback, name};
    PyObject *checked = name == NULL ? NULL
                                     : PyObject_VectorcallMethod(loop->st->name._check_callback,
                                                                 args, 3, NULL);
    Py_XDECREF(name);
    Py_XDECREF(checked);
    return checked != NULL ? 0 : -1;
}

static int
check_call(HLLoop *loop, PyObject *callback, const char *method, bool same_thread)
{
    if (hl_loop_check_closed(loop) < 0) {
        return -1;
    }
    if (!loop->debug) {
        return 0;
    }
    return (same_thread && check_thread(loop) < 0)
                   || hl_loop_check_callback(loop, callback, method) < 0
               ? -1
               : 0;
}

/* ---- call_soon, call_soon_threadsafe ---- */

static PyObject *
loop_call_soon(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    HLLoop *loop = (HLLoop *)self;
    HLCallArguments call;
    if (kwnames == NULL && nargs > 0 && !loop->debug && !loop->closed) {
        call = (HLCallArguments){NULL, args[0], args + 1, nargs - 1, NULL};
    }
    else if (!hl_parse_call(loop->st, args, nargs, kwnames, NULL, &call)) {
        return hl_loop_call_inherited(loop, "call_soon", args, nargs, kwnames);
    }
    else if (check_call(loop, call.callback, "call_soon", true) < 0) {
        return NULL;
    }
    PyObject *handle = hl_handle_new(loop, call.callback, call.args, call.nargs, call.context);
    if (handle != NULL && hl_loop_push(loop, handle, NULL, HL_RUN_HANDLE) < 0) {
        Py_CLEAR(handle);
    }
    return handle;
}

static PyObject *
call_soon_by_name(HLLoop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *context)
{
    PyObject *all[5] = {(PyObject *)loop, callback};
    for (Py_ssize_t i = 0; i < nargs; i++) {
        all[2 + i] = args[i];
    }
    all[2 + nargs] = context;
    return PyObject_VectorcallMethod(loop->st->name.call_soon, all, (size_t)nargs + 2,
                                     context != NULL ? loop->st->context_kwname : NULL);
}

int
hl_loop_schedule(HLLoop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *context)
{
    if (!hl_loop_is_plain(loop)) {
        PyObject *handle = call_soon_by_name(loop, callback, args, nargs, context);
        Py_XDECREF(handle);
        return handle != NULL ? 0 : -1;
    }
    PyObject *captured = NULL;
    if (nargs == 1 && context == NULL) {
        if (hl_capture_context(&captured) < 0) {
            return -1;
        }
        if (captured == NULL) {
            return hl_loop_push(loop, callback, args[0], HL_RUN_CALLBACK);
        }
        context = captured;
    }
    PyObject *handle = hl_handle_new(loop, callback, args, nargs, context);
    int rc = handle != NULL ? hl_loop_push(loop, handle, NULL, HL_RUN_HANDLE) : -1;
    Py_XDECREF(handle);
    Py_XDECREF(captured);
    return rc;
}

static PyObject *
loop_call_soon_threadsafe(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                          PyObject *kwnames)
{
    HLLoop *loop = (HLLoop *)self;
    HLCallArguments call;
    if (!hl_parse_call(loop->st, args, nargs, kwnames, NULL, &call)) {
        return hl_loop_call_inherited(loop, "call_soon_threadsafe", args, nargs, kwnames);
    }
    if (check_call(loop, call.callback, "call_soon_threadsafe", false) < 0) {
        return NULL;
    }
    PyObject *handle = hl_handle_new(loop, call.callback, call.args, call.nargs, call.context);
    if (handle == NULL) {
        return NULL;
    }
    HLHandle *h = hl_handle(handle);
    h->threadsafe = true;
    if (loop->thread_id == 0 || loop->thread_id == PyThread_get_thread_ident()) {
        if (hl_loop_push(loop, handle, NULL, HL_RUN_HANDLE) < 0) {
            Py_CLEAR(handle);
        }
        hl_loop_wake(loop); /* a turn of another thread, without a run around it */
        return handle;
    }
    Py_INCREF(handle); /* the inbox's */
    hl_inbox_push(&loop->inbox, &h->inbox_link, HL_INBOX_HANDLE);
    hl_loop_wake(loop);
    return handle;
}

PyObject *
hl_inbox_object(HLInboxEntry entry)
{
    char *link = (char *)hl_inbox_link(entry);
    if (hl_inbox_kind(entry) == HL_INBOX_CALL) {
        return (PyObject *)(link - offsetof(HLCall, link));
    }
    return hl_handle_object((HLHandle *)(link - offsetof(HLHandle, inbox_link)));
}

int
hl_loop_take_inbox(HLLoop *loop)
{
    HLInboxEntry entry = hl_inbox_take(&loop->inbox);
    size_t before = loop->ready.length;
    int rc = 0;
    while (entry != 0) {
        HLInboxEntry next = hl_inbox_link(entry)->next;
        PyObject *object = hl_inbox_object(entry);
        if (rc == 0) {
            rc = hl_inbox_kind(entry) == HL_INBOX_CALL
                     ? hl_ready_push_io(&loop->ready, object, hl_call_finish)
                     : hl_ready_push(&loop->ready, object, NULL, HL_RUN_HANDLE);
        }
        Py_DECREF(object);
        entry = next;
    }
    hl_ready_reverse(&loop->ready, before); /* the newest was the first */
    return rc;
}

/* For handles that asyncio's Python code made, such as those of signal handlers. */
static PyObject *
loop_add_callback(PyObject *self, PyObject *handle)
{
    HLLoop *loop = (HLLoop *)self;
    bool ours = Py_TYPE(handle) == loop->st->HandleType
                || Py_TYPE(handle) == loop->st->TimerHandleType;
    if (!ours && !PyObject_TypeCheck(handle, (PyTypeObject *)loop->st->StockHandle)) {
        PyErr_Format(PyExc_TypeError, "an asyncio.Handle was expected, got %R", handle);
        return NULL;
    }
    if (hl_loop_push(loop, handle, NULL, ours ? HL_RUN_HANDLE : HL_RUN_FOREIGN) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
loop_write_to_self(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    hl_loop_wake((HLLoop *)self);
    Py_RETURN_NONE;
}

/* ---- Timers ---- */

static PyObject *
schedule_timer(HLLoop *loop, PyObject *when, const HLCallArguments *call)
{
    double deadline = PyFloat_AsDouble(when);
    if (deadline == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    PyObject *handle = hl_timer_handle_new(loop, when, call->callback, call->args, call->nargs,
                                           call->context);
    if (handle == NULL) {
        return NULL;
    }
    /* asyncio's comparisons make NaN due at once. */
    if (hl_heap_push(&loop->timers, isnan(deadline) ? -INFINITY : deadline, handle,
                     &hl_handle(handle)->heap_index)
        < 0) {
        Py_CLEAR(handle);
    }
    return handle;
}

static PyObject *
deadline_after(HLLoop *loop, PyObject *delay)
{
    double now;
    if (hl_loop_time(loop, &now) < 0) {
        return NULL;
    }
    if (PyFloat_CheckExact(delay)) {
        return PyFloat_FromDouble(now + PyFloat_AS_DOUBLE(delay));
    }
    PyObject *time = PyFloat_FromDouble(now);
    PyObject *when = time != NULL ? PyNumber_Add(time, delay) : NULL;
    Py_XDECREF(time);
    return when;
}

/* self.call_at(when, callback, *args, context=context), where somebody has put their own. */
static PyObject *
call_at_by_name(HLLoop *loop, PyObject *when, const HLCallArguments *call)
{
    PyObject *handle = NULL;
    PyObject *method = PyObject_GetAttrString((PyObject *)loop, "call_at");
    PyObject *args = PyTuple_New(call->nargs + 2);
    PyObject *kwargs = Py_BuildValue("{OO}", loop->st->name.context, hl_or_none(call->context));
    if (method != NULL && args != NULL && kwargs != NULL) {
        PyTuple_SET_ITEM(args, 0, Py_NewRef(when));
        PyTuple_SET_ITEM(args, 1, Py_NewRef(call->callback));
        for (Py_ssize_t i = 0; i < call->nargs; i++) {
            PyTuple_SET_ITEM(args, i + 2, Py_NewRef(call->args[i]));
        }
        handle = PyObject_Call(method, args, kwargs);
    }
    Py_XDECREF(method);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return handle;
}

static PyObject *
loop_call_later(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    HLLoop *loop = (HLLoop *)self;
    HLCallArguments call;
    if (!hl_parse_call(loop->st, args, nargs, kwnames, loop->st->name.delay, &call)) {
        return hl_loop_call_inherited(loop, "call_later", args, nargs, kwnames);
    }
    if (call.first == Py_None) {
        PyErr_SetString(PyExc_TypeError, "delay must not be None");
        return NULL;
    }
    PyObject *when = deadline_after(loop, call.first);
    PyObject *handle = NULL;
    if (when != NULL && hl_loop_patched(loop) & HL_PATCHED_CALL_AT) {
        handle = call_at_by_name(loop, when, &call);
    }
    else if (when != NULL && check_call(loop, call.callback, "call_at", true) == 0) {
        handle = schedule_timer(loop, when, &call);
    }
    Py_XDECREF(when);
    return handle;
}

static PyObject *
loop_call_at(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    HLLoop *loop = (HLLoop *)self;
    HLCallArguments call;
    if (!hl_parse_call(loop->st, args, nargs, kwnames, loop->st->name.when, &call)) {
        return hl_loop_call_inherited(loop, "call_at", args, nargs, kwnames);
    }
    if (call.first == Py_None) {
        PyErr_SetString(PyExc_TypeError, "when cannot be None");
        return NULL;
    }
    return check_call(loop, call.callback, "call_at", true) < 0
               ? NULL
               : schedule_timer(loop, call.first, &call);
}

void
hl_loop_forget_timer(HLLoop *loop, PyObject *handle)
{
    size_t i = hl_handle(handle)->heap_index;
    if (i < loop->timers.length && loop->timers.timers[i].handle == handle) {
        hl_handle_release(hl_heap_remove(&loop->timers, i));
    }
}

/* asyncio.TimerHandle.cancel() tells its loop. */
static PyObject *
loop_timer_handle_cancelled(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(handle))
{
    Py_RETURN_NONE;
}

void
hl_loop_release_entry(const HLEntry *entry)
{
    Py_XDECREF(hl_entry_arg(entry));
    if (hl_entry_kind(entry) == HL_RUN_HANDLE) {
        hl_handle_release(hl_entry_object(entry));
    }
    else {
        Py_DECREF(hl_entry_object(entry));
    }
}

void
hl_loop_track_handles(HLLoop *loop)
{
    for (size_t i = 0; i < loop->ready.length; i++) {
        HLEntry *entry = hl_ready_at(&loop->ready, i);
        if (hl_entry_kind(entry) == HL_RUN_HANDLE) {
            hl_handle_track(hl_entry_object(entry));
        }
    }
    for (size_t i = 0; i < loop->timers.length; i++) {
        hl_handle_track(loop->timers.timers[i].handle);
    }
}

void
hl_loop_clear_queues(HLLoop *loop)
{
    hl_loop_drain_inbox(loop);
    PyErr_Clear();
    while (loop->ready.length > 0) {
        HLEntry entry = hl_ready_pop(&loop->ready);
        hl_loop_release_entry(&entry);
    }
    while (loop->timers.length > 0) {
        hl_handle_release(hl_heap_remove(&loop->timers, loop->timers.length - 1));
    }
}

/* ---- Futures and tasks ---- */

static PyObject *
loop_create_future(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return hl_future_new((HLLoop *)self);
}

PyObject *
hl_loop_call_inherited(HLLoop *loop, const char *name, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames)
{
    PyObject *method = PyObject_GetAttrString(loop->st->SelectorEventLoop, name);
    Py_ssize_t total = nargs + (kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0);
    PyObject **stack = PyMem_Malloc((size_t)(total + 1) * sizeof(PyObject *));
    PyObject *result = NULL;
    if (stack == NULL) {
        PyErr_NoMemory();
    }
    else if (method != NULL) {
        stack[0] = (PyObject *)loop;
        if (total > 0) {
            memcpy(stack + 1, args, (size_t)total * sizeof(PyObject *));
        }
        result = PyObject_Vectorcall(method, stack, (size_t)nargs + 1, kwnames);
    }
    PyMem_Free(stack);
    Py_XDECREF(method);
    return result;
}

/* Begin a new task: in the next turn, or, if it is to be eager and the loop runs, at once. */
static int
start_task(HLLoop *loop, PyObject *task, bool eager)
{
    if (HL_UNLIKELY(eager) && loop->thread_id != 0) {
        return hl_task_start_eagerly(task);
    }
    if (hl_task_register(task) < 0) {
        return -1;
    }
    return hl_loop_push(loop, task, NULL, HL_START_TASK);
}

/* Task(coro, loop=self, **keywords), for what the short way does not do. */
static PyObject *
create_task_by_type(HLLoop *loop, PyObject *coro, PyObject *name, PyObject *context,
                    PyObject *eager)
{
    PyObject *args = PyTuple_Pack(1, coro);
    PyObject *kwargs = PyDict_New();
    PyObject *task = NULL;
    HLNames *names = &loop->st->name;
    if (args != NULL && kwargs != NULL
        && PyDict_SetItem(kwargs, names->loop, (PyObject *)loop) == 0
        && (name == NULL || PyDict_SetItem(kwargs, names->name, name) == 0)
        && (context == NULL || PyDict_SetItem(kwargs, names->context, context) == 0)
        && (eager == NULL || PyDict_SetItem(kwargs, names->eager_start, eager) == 0)) {
        task = PyObject_Call((PyObject *)loop->st->TaskType, args, kwargs);
    }
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return task;
}

static PyObject *
make_task(HLLoop *loop, PyObject *coro, PyObject *name, PyObject *context, PyObject *eager)
{
    if (HL_UNLIKELY(eager != NULL && !PyBool_Check(eager)) || !hl_loop_is_plain(loop)) {
        return create_task_by_type(loop, coro, name, context, eager);
    }
    PyObject *task = hl_task_new(loop, coro, name, context);
    if (task != NULL && start_task(loop, task, eager == Py_True) < 0) {
        Py_CLEAR(task);
    }
    return task;
}

/* Until create_task() took **kwargs, a factory's task got its name when it was made, and so an
   eager one after its first step; in 3.13 even if that is None. */
static PyObject *
make_task_and_name_it(HLLoop *loop, PyObject *coro, PyObject *name, PyObject *context)
{
    PyObject *task = make_task(loop, coro, NULL, context, Py_True);
    bool named = name != NULL && name != Py_None;
    if (task != NULL && (named || PY_VERSION_HEX >= 0x030D0000)) {
        PyObject *done = PyObject_CallMethod(task, "set_name", "(O)", named ? name : Py_None);
        if (done == NULL) {
            Py_CLEAR(task);
        }
        Py_XDECREF(done);
    }
    return task;
}

static const char *const create_task_names[] = {"coro", "name", "context", NULL};
static const HLParameters create_task_parameters = {"create_task", create_task_names, 1, 1};
static const char *const create_task_eager_names[] = {"coro", "name", "context", "eager_start",
                                                      NULL};
static const HLParameters create_task_eager_parameters = {"create_task", create_task_eager_names,
                                                          1, 1};

static PyObject *
loop_create_task(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    HLLoop *loop = (HLLoop *)self;
    HLState *st = loop->st;
    bool eager = loop->task_factory != NULL && loop->task_factory == st->eager_task_factory;
    if (HL_UNLIKELY(loop->task_factory != NULL
                    && !eager)) { /* how it is called differs by version */
        return hl_loop_call_inherited(loop, "create_task", args, nargs, kwnames);
    }
    PyObject *values[4] = {NULL};
    const HLParameters *parameters = st->create_task_takes_kwargs ? &create_task_eager_parameters
                                                                  : &create_task_parameters;
    if (HL_LIKELY(kwnames == NULL && nargs == 1)) {
        values[0] = args[0];
    }
    else if (hl_parse(parameters, args, nargs, kwnames, values) < 0) {
        PyErr_Clear();
        return hl_loop_call_inherited(loop, "create_task", args, nargs, kwnames);
    }
    if (hl_loop_check_closed(loop) < 0) {
        return NULL;
    }
    if (eager && !st->create_task_takes_kwargs) {
        return make_task_and_name_it(loop, values[0], values[1], values[2]);
    }
    if (values[3] == NULL && eager) {
        values[3] = Py_True;
    }
    return make_task(loop, values[0], values[1], values[2], values[3]);
}

/* ---- Table ---- */

#define KEYWORD_METHOD(function) \
    (PyCFunction)(void (*)(void))function, METH_FASTCALL | METH_KEYWORDS

#if PY_VERSION_HEX >= 0x030E0000
#define CREATE_TASK_SIGNATURE "create_task($self, coro, **kwargs)\n--\n\n"
#else
#define CREATE_TASK_SIGNATURE "create_task($self, coro, *, name=None, context=None)\n--\n\n"
#endif

PyMethodDef hl_schedule_methods[] = {
    {"call_soon", KEYWORD_METHOD(loop_call_soon),
     "call_soon($self, callback, *args, context=None)\n--\n\n"
     "Call callback(*args) in the next turn; return its Handle."},
    {"call_soon_threadsafe", KEYWORD_METHOD(loop_call_soon_threadsafe),
     "call_soon_threadsafe($self, callback, *args, context=None)\n--\n\n"
     "As call_soon(), from any thread."},
    {"call_later", KEYWORD_METHOD(loop_call_later),
     "call_later($self, delay, callback, *args, context=None)\n--\n\n"
     "Call callback(*args) in delay seconds, never early; return its TimerHandle."},
    {"call_at", KEYWORD_METHOD(loop_call_at),
     "call_at($self, when, callback, *args, context=None)\n--\n\n"
     "As call_later(), at a time of loop.time()."},
    {"create_future", loop_create_future, METH_NOARGS,
     "create_future($self, /)\n--\n\nReturn a new Future of this loop."},
    {"create_task", KEYWORD_METHOD(loop_create_task),
     CREATE_TASK_SIGNATURE "Wrap a coroutine in a Task and schedule it; return the task."},
    {"_add_callback", loop_add_callback, METH_O,
     "_add_callback($self, handle, /)\n--\n\nQueue an asyncio.Handle."},
    {"_write_to_self", loop_write_to_self, METH_NOARGS,
     "_write_to_self($self, /)\n--\n\nWake the loop."},
    {"_timer_handle_cancelled", loop_timer_handle_cancelled, METH_O,
     "_timer_handle_cancelled($self, handle, /)\n--\n\nDo nothing: our timers leave at once."},
    {NULL, NULL, 0, NULL},
};
