/* Task: a subtype of _asyncio.Task that drives a coroutine; see step.c for the driving.

   The payload (HLTask) begins with a future's, and lies at the same offset, so that Task shares
   Future's methods.  States: as a future's; a pending task is either queued (the ready ring or a
   Handle owns a reference), waiting (fut_waiter set; the future's callback slot owns the
   reference), or running.  Threads: everything needs the GIL.

   asyncio.all_tasks() finds a task through its registration, see introspect.c. */

#include "hotloop.h"

/* ---- Making ---- */

static int
check_coroutine(HLState *st, PyObject *coro)
{
    if (HL_LIKELY(PyCoro_CheckExact(coro))) {
        return 0;
    }
    PyObject *answer = PyObject_CallOneArg(st->iscoroutine, coro);
    int is_coroutine = answer != NULL ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    if (is_coroutine == 0) {
        PyErr_Format(PyExc_TypeError, "a coroutine was expected, got %R", coro);
    }
    return is_coroutine > 0 ? 0 : -1;
}

static PyObject *
make_name(HLState *st, PyObject *name)
{
    if (HL_LIKELY(name == NULL || name == Py_None)) {
        return PyLong_FromUnsignedLongLong(++st->last_task_number);
    }
    return PyUnicode_CheckExact(name) ? Py_NewRef(name) : PyObject_Str(name);
}

static int
set_context(HLTask *t, PyObject *context)
{
    Py_CLEAR(t->context);
    if (HL_LIKELY(context == NULL || context == Py_None)) {
        return hl_capture_context(&t->context);
    }
    if (!PyContext_CheckExact(context)) {
        PyErr_Format(PyExc_TypeError, "a contextvars.Context was expected, got %s",
                     Py_TYPE(context)->tp_name);
        return -1;
    }
    t->context = Py_NewRef(context);
    return 0;
}

PyObject *
hl_task_context(PyObject *self)
{
    HLTask *t = hl_task(self);
    HLLoop *loop = (HLLoop *)t->future.loop;
    if (t->context == NULL && t->future.native_loop && loop->blank_task == self) {
        t->context = Py_NewRef(loop->blank_running);
    }
    else if (t->context == NULL) {
        PyObject *context = PyContext_New();
        if (t->context == NULL) {
            t->context = context;
        }
        else {
            Py_XDECREF(context); /* a finalizer has asked for it, too */
        }
    }
    return t->context;
}

/* Everything but the context and scheduling. */
static int
task_fill(PyObject *self, PyObject *coro, PyObject *name)
{
    HLTask *t = hl_task(self);
    HLState *st = t->future.st;
    PyObject *new_name = check_coroutine(st, coro) == 0 ? make_name(st, name) : NULL;
    if (new_name == NULL) {
        return -1;
    }
    Py_XSETREF(t->name, new_name);
    Py_XSETREF(t->coro, Py_NewRef(coro));
    Py_CLEAR(t->fut_waiter);
    t->must_cancel = false;
    t->num_cancels_requested = 0;
    t->log_destroy_pending = true;
    hl_task_show_coro(self);
    hl_task_show_name(self);
    return 0;
}

PyObject *
hl_task_new(HLLoop *loop, PyObject *coro, PyObject *name, PyObject *context)
{
    HLState *st = loop->st;
    PyObject *self = hl_future_take(st->TaskType, &st->free_tasks);
    if (self == NULL) {
        return NULL;
    }
    HLTask *t = hl_task(self);
    t->future.st = st;
    t->future.is_task = true;
    t->future.native_loop = true;
    t->log_destroy_pending = false;
    t->future.loop = Py_NewRef((PyObject *)loop);
    if ((hl_loop_may_debug(loop)
         && hl_capture_stack(st, t->future.loop, st->extract_stack, &t->future.source_traceback)
                < 0)
        || task_fill(self, coro, name) < 0 || set_context(t, context) < 0) {
        t->log_destroy_pending = false;
        Py_CLEAR(self);
    }
    return self;
}

#if PY_VERSION_HEX >= 0x030C0000
static const char *const init_names[] = {"coro", "loop", "name", "context", "eager_start", NULL};
#else
static const char *const init_names[] = {"coro", "loop", "name", "context", NULL};
#endif
static const HLParameters init_parameters = {"Task", init_names, 1, 1};

static int
wants_eager_start(HLState *st, PyObject *loop, PyObject *eager_start)
{
    int eager = eager_start != NULL ? PyObject_IsTrue(eager_start) : 0;
    if (eager <= 0) {
        return eager;
    }
    PyObject *running = PyObject_CallMethodNoArgs(loop, st->name.is_running);
    eager = running != NULL ? PyObject_IsTrue(running) : -1;
    Py_XDECREF(running);
    return eager;
}

static int
task_tp_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject *values[5] = {NULL};
    HLTask *t = hl_task(self);
    if (hl_parse_init(&init_parameters, args, kwargs, values) < 0) {
        return -1;
    }
    if (t->future.loop != NULL) {
        PyErr_Format(PyExc_RuntimeError, "%s object is already initialized",
                     Py_TYPE(self)->tp_name);
        return -1;
    }
    if (hl_future_init(self, values[1]) < 0 || task_fill(self, values[0], values[2]) < 0) {
        return -1;
    }
    if (set_context(t, values[3]) < 0) {
        t->log_destroy_pending = false;
        return -1;
    }
    int eager = wants_eager_start(t->future.st, t->future.loop, values[4]);
    if (eager > 0) {
        return hl_task_start_eagerly(self);
    }
    if (eager < 0 || hl_task_schedule_step(self, NULL) < 0) {
        return -1;
    }
    return hl_task_register(self);
}

/* ---- Cancelling ---- */

/* fut.cancel(message) for whatever the task waits for.  1, 0 or -1.  Always by its name: programs put
   a method of their own on a task (aiotools.ShieldScope), and stock tasks call that. */
static int
cancel_waiter(HLState *st, PyObject *waiter, PyObject *message)
{
    PyObject *answer = PyObject_CallMethodOneArg(waiter, st->name.cancel, hl_or_none(message));
    int cancelled = answer != NULL ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return cancelled;
}

int
hl_task_cancel_waiter(PyObject *self, PyObject *message)
{
    HLTask *t = hl_task(self);
    if (t->fut_waiter == NULL) {
        return 0;
    }
    PyObject *waiter = Py_NewRef(t->fut_waiter);
    int cancelled = cancel_waiter(t->future.st, waiter, message);
    Py_DECREF(waiter);
    return cancelled;
}

static int
task_request_cancel(PyObject *self, PyObject *message)
{
    HLTask *t = hl_task(self);
    t->future.log_traceback = false;
    if (t->future.state != HL_PENDING) {
        return 0;
    }
    t->num_cancels_requested++;
    int cancelled = hl_task_cancel_waiter(self, message);
    if (cancelled != 0) {
        return cancelled;
    }
    t->must_cancel = true;
    Py_XSETREF(t->future.cancel_message, message == Py_None ? NULL : Py_XNewRef(message));
    return 1;
}

static const char *const cancel_names[] = {"msg", NULL};
static const HLParameters cancel_parameters = {"cancel", cancel_names, 1, 0};

static PyObject *
task_cancel(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *message;
    if (hl_future_ensure_alive(hl_future(self)) < 0
        || hl_parse(&cancel_parameters, args, nargs, kwnames, &message) < 0) {
        return NULL;
    }
    int cancelled = task_request_cancel(self, message);
    return cancelled < 0 ? NULL : PyBool_FromLong(cancelled);
}

static PyObject *
task_cancelling(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(hl_task(self)->num_cancels_requested);
}

static PyObject *
task_uncancel(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    HLTask *t = hl_task(self);
    if (t->num_cancels_requested > 0) {
        t->num_cancels_requested--;
#if PY_VERSION_HEX >= 0x030D0000
        if (t->num_cancels_requested == 0) {
            t->must_cancel = false;
        }
#endif
    }
    return PyLong_FromLong(t->num_cancels_requested);
}

/* ---- Other methods ---- */

static PyObject *
task_name(HLTask *t)
{
    if (t->name == NULL) {
        return Py_NewRef(Py_None);
    }
    return PyLong_CheckExact(t->name) ? PyUnicode_FromFormat("Task-%S", t->name)
                                      : Py_NewRef(t->name);
}

static PyObject *
task_get_name(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return task_name(hl_task(self));
}

static PyObject *
task_set_name(PyObject *self, PyObject *value)
{
    PyObject *name = PyUnicode_CheckExact(value) ? Py_NewRef(value) : PyObject_Str(value);
    if (name == NULL) {
        return NULL;
    }
    Py_XSETREF(hl_task(self)->name, name);
    hl_task_show_name(self);
    Py_RETURN_NONE;
}

static PyObject *
task_get_coro(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *coro = hl_task(self)->coro;
    return Py_NewRef(hl_or_none(coro));
}

#if PY_VERSION_HEX >= 0x030C0000
static PyObject *
task_get_context(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (hl_task(self)->coro == NULL && hl_task(self)->context == NULL) {
        Py_RETURN_NONE; /* not initialised */
    }
    return Py_XNewRef(hl_task_context(self));
}
#endif

static PyObject *
task_refuse(PyObject *Py_UNUSED(self), const char *operation)
{
    return PyErr_Format(PyExc_RuntimeError, "Task does not support %s operation", operation);
}

static PyObject *
task_set_result(PyObject *self, PyObject *Py_UNUSED(value))
{
    return task_refuse(self, "set_result");
}

static PyObject *
task_set_exception(PyObject *self, PyObject *Py_UNUSED(value))
{
    return task_refuse(self, "set_exception");
}

static const char *const get_stack_names[] = {"limit", NULL};
static const HLParameters get_stack_parameters = {"get_stack", get_stack_names, 0, 0};
static const char *const print_stack_names[] = {"limit", "file", NULL};
static const HLParameters print_stack_parameters = {"print_stack", print_stack_names, 0, 0};

static PyObject *
task_get_stack(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *limit;
    if (hl_parse(&get_stack_parameters, args, nargs, kwnames, &limit) < 0) {
        return NULL;
    }
    return PyObject_CallFunctionObjArgs(hl_future(self)->st->task_get_stack, self,
                                        hl_or_none(limit), NULL);
}

static PyObject *
task_print_stack(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *values[2];
    if (hl_parse(&print_stack_parameters, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    return PyObject_CallFunctionObjArgs(hl_future(self)->st->task_print_stack, self,
                                        hl_or_none(values[0]), hl_or_none(values[1]), NULL);
}

/* ---- Attributes ---- */

/* The owned field at this offset of HLTask, or None. */
static PyObject *
task_get_field(PyObject *self, void *closure)
{
    PyObject *value = *(PyObject **)((char *)hl_task(self) + (size_t)closure);
    return Py_NewRef(hl_or_none(value));
}

static PyObject *
task_get_must_cancel(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(hl_task(self)->must_cancel);
}

static PyObject *
task_get_log_destroy_pending(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(hl_task(self)->log_destroy_pending);
}

static int
task_set_log_destroy_pending(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    int truth = hl_assigned_truth(value);
    if (truth < 0) {
        return -1;
    }
    hl_task(self)->log_destroy_pending = truth;
    return 0;
}

/* ---- Life ---- */

static int
task_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    HLTask *t = hl_task(self);
    if (t->future.st == NULL) {
        return 0;
    }
    int rc = hl_future_traverse_payload(self, visit, arg);
    if (rc != 0) {
        return rc;
    }
    Py_VISIT(t->coro);
    Py_VISIT(t->context);
    Py_VISIT(t->fut_waiter);
    Py_VISIT(t->name);
    return ((PyTypeObject *)t->future.st->StockTask)->tp_traverse(self, visit, arg);
}

static void
task_clear_payload(PyObject *self)
{
    HLTask *t = hl_task(self);
    Py_CLEAR(t->coro);
    Py_CLEAR(t->context);
    Py_CLEAR(t->fut_waiter);
    Py_CLEAR(t->name);
    hl_future_clear_payload(self);
}

static int
task_tp_clear(PyObject *self)
{
    HLState *st = hl_future(self)->st;
    task_clear_payload(self);
    return st != NULL ? ((PyTypeObject *)st->StockTask)->tp_clear(self) : 0;
}

static void
task_finalize(PyObject *self)
{
    HLTask *t = hl_task(self);
    if (t->future.state == HL_PENDING && t->log_destroy_pending && t->future.loop != NULL) {
        PyObject *pending = hl_take_exception();
        PyObject *message = PyUnicode_FromString("Task was destroyed but it is pending!");
        hl_report_in_finalizer(t->future.st, t->future.loop, message, NULL, "task", self,
                               t->future.source_traceback);
        Py_XDECREF(message);
        hl_give_exception(pending);
    }
    hl_future_finalize(self);
}

static void
task_let_go(PyObject *self)
{
    hl_task_unregister(self);
    task_clear_payload(self);
}

static void
task_free(PyObject *self)
{
    HLState *st = hl_future(self)->st;
    if (!hl_future_keep(self, &st->free_tasks, task_clear_payload)) {
        hl_future_destroy(self, st->StockTask, task_let_go);
    }
}

static void
task_tp_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, task_tp_dealloc);
    task_free(self);
    Py_TRASHCAN_END;
}

/* ---- Tables ---- */

#define FASTCALL_KEYWORDS (METH_FASTCALL | METH_KEYWORDS)
#define KEYWORD_METHOD(function) (PyCFunction)(void (*)(void))function, FASTCALL_KEYWORDS
#define FIELD(name) (void *)offsetof(HLTask, name)

static PyMethodDef task_methods[] = {
    {"cancel", KEYWORD_METHOD(task_cancel),
     "cancel($self, /, msg=None)\n--\n\nThrow CancelledError into the coroutine at its next step.\n\n"
     "Returns False if the task is done already."},
    {"cancelling", task_cancelling, METH_NOARGS,
     "cancelling($self, /)\n--\n\nReturn the number of cancel() calls less uncancel() calls."},
    {"uncancel", task_uncancel, METH_NOARGS,
     "uncancel($self, /)\n--\n\nTake one cancel() back; return how many remain."},
    {"get_name", task_get_name, METH_NOARGS, "get_name($self, /)\n--\n\nReturn the task's name."},
    {"set_name", task_set_name, METH_O,
     "set_name($self, value, /)\n--\n\nSet the task's name to str(value)."},
    {"get_coro", task_get_coro, METH_NOARGS,
     "get_coro($self, /)\n--\n\nReturn the coroutine that the task wraps."},
#if PY_VERSION_HEX >= 0x030C0000
    {"get_context", task_get_context, METH_NOARGS,
     "get_context($self, /)\n--\n\nReturn the contextvars.Context the coroutine runs in."},
#endif
    {"get_stack", KEYWORD_METHOD(task_get_stack),
     "get_stack($self, /, *, limit=None)\n--\n\n"
     "Return the frames of the suspended coroutine, or of the traceback of its exception."},
    {"print_stack", KEYWORD_METHOD(task_print_stack),
     "print_stack($self, /, *, limit=None, file=None)\n--\n\n"
     "Print what get_stack() returns, to stderr by default."},
    {"set_result", task_set_result, METH_O,
     "set_result($self, result, /)\n--\n\nRaise RuntimeError: only the coroutine ends a task."},
    {"set_exception", task_set_exception, METH_O,
     "set_exception($self, exception, /)\n--\n\nRaise RuntimeError: only the coroutine ends a task."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef task_getset[] = {
    {"_coro", task_get_field, NULL, NULL, FIELD(coro)},
    {"_fut_waiter", task_get_field, NULL, NULL, FIELD(fut_waiter)},
    {"_must_cancel", task_get_must_cancel, NULL, NULL, NULL},
    {"_log_destroy_pending", task_get_log_destroy_pending, task_set_log_destroy_pending, NULL,
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#if PY_VERSION_HEX >= 0x030C0000
#define TASK_EAGER_SIGNATURE ", eager_start=False"
#else
#define TASK_EAGER_SIGNATURE ""
#endif

static PyType_Slot task_slots[] = {
    {Py_tp_doc, "Task(coro, *, loop=None, name=None, context=None" TASK_EAGER_SIGNATURE ")\n--\n\n"
                "A coroutine driven by a loop; see asyncio.Task."},
    {Py_tp_new, hl_future_tp_new},
    {Py_tp_init, task_tp_init},
    {Py_tp_repr, hl_future_repr},
    {Py_tp_iter, hl_future_await},
    {Py_am_await, hl_future_await},
    {Py_tp_traverse, task_tp_traverse},
    {Py_tp_clear, task_tp_clear},
    {Py_tp_finalize, task_finalize},
    {Py_tp_dealloc, task_tp_dealloc},
    {Py_tp_methods, task_methods},
    {Py_tp_getset, task_getset},
    {0, NULL},
};

static int
add_member(PyTypeObject *type, const char *name, PyObject *descriptor)
{
    int rc = descriptor != NULL ? PyObject_SetAttrString((PyObject *)type, name, descriptor) : -1;
    Py_XDECREF(descriptor);
    return rc;
}

static bool
has_own_method(const char *name)
{
    for (PyMethodDef *method = task_methods; method->ml_name != NULL; method++) {
        if (strcmp(method->ml_name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Task derives from _asyncio.Task and so cannot derive from hotloop.Future as well; it gets
   Future's methods and attributes by hand. */
static int
add_future_members(PyTypeObject *type)
{
    for (PyMethodDef *method = hl_future_methods; method->ml_name != NULL; method++) {
        if (has_own_method(method->ml_name)) {
            continue;
        }
        PyObject *descriptor = method->ml_flags & METH_CLASS ? PyDescr_NewClassMethod(type, method)
                                                             : PyDescr_NewMethod(type, method);
        if (add_member(type, method->ml_name, descriptor) < 0) {
            return -1;
        }
    }
    for (PyGetSetDef *getset = hl_future_getset; getset->name != NULL; getset++) {
        if (add_member(type, getset->name, PyDescr_NewGetSet(type, getset)) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Future's metaclass: isinstance(task, Future) and issubclass(Task, Future) hold, as they do for
   asyncio's own pair. */

static PyObject *
meta_subclasscheck(PyObject *cls, PyObject *subclass)
{
    HLState *st = hl_state_of_type((PyTypeObject *)cls);
    if (st == NULL || !PyType_Check(subclass)) {
        PyErr_Clear();
        return PyObject_CallMethod((PyObject *)&PyType_Type, "__subclasscheck__", "OO", cls,
                                   subclass);
    }
    PyTypeObject *type = (PyTypeObject *)subclass;
    return PyBool_FromLong(
        PyType_IsSubtype(type, (PyTypeObject *)cls)
        || ((PyTypeObject *)cls == st->FutureType && PyType_IsSubtype(type, st->TaskType)));
}

static PyObject *
meta_instancecheck(PyObject *cls, PyObject *instance)
{
    PyObject *answer = meta_subclasscheck(cls, (PyObject *)Py_TYPE(instance));
    if (answer != Py_False) {
        return answer;
    }
    PyObject *type = PyObject_GetAttrString(instance, "__class__"); /* of a mock, or a proxy */
    if (type == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        return answer;
    }
    Py_DECREF(answer);
    answer = type != NULL ? meta_subclasscheck(cls, type) : NULL;
    Py_XDECREF(type);
    return answer;
}

static PyMethodDef meta_methods[] = {
    {"__instancecheck__", meta_instancecheck, METH_O,
     "Tell whether instance is a future or task."},
    {"__subclasscheck__", meta_subclasscheck, METH_O,
     "Tell whether subclass is a future or task."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot meta_slots[] = {{Py_tp_methods, meta_methods}, {0, NULL}};

static PyType_Spec meta_spec = {"hotloop._core.FutureMeta", 0, 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, meta_slots};

static int
make_tasks_futures(PyObject *module, HLState *st)
{
    PyObject *meta = PyType_FromModuleAndSpec(module, &meta_spec, (PyObject *)&PyType_Type);
    if (meta == NULL) {
        return -1;
    }
    /* It has the layout of type, which the new type object has too; 3.11 has no other way. */
    Py_SET_TYPE((PyObject *)st->FutureType, (PyTypeObject *)meta);
    return 0;
}

int
hl_task_setup(PyObject *module, HLState *st)
{
    PyType_Spec spec = {
        "hotloop.Task",
        (int)(hl_future_offset + (Py_ssize_t)sizeof(HLTask)),
        0,
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
        task_slots,
    };
    st->TaskType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, st->StockTask);
    if (st->TaskType == NULL || add_future_members(st->TaskType) < 0
        || hl_future_shrink_room(st->TaskType, &st->free_tasks) < 0
        || make_tasks_futures(module, st) < 0) {
        return -1;
    }
    return PyModule_AddType(module, st->TaskType);
}
