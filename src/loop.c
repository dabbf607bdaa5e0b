/* Loop: the object, its state and its end.  Scheduling is in schedule.c, running in run.c.

   The public class is hotloop.EventLoop(_core.Loop, asyncio.SelectorEventLoop); the attributes
   that asyncio's __init__ and methods assign (_closed, _debug, _thread_id, ...) are ours here.

   States: open and idle, running (thread_id set), closed.  The uv_loop_t is open from the first run
   or watched descriptor to close() or dealloc.  Owners: user code; a loop owns what is queued in
   it.  Threads: the thread that runs the loop, and under the GIL any thread while none runs it;
   call_soon_threadsafe() and hl_loop_wake() from everywhere.  A run or a turn claims the loop, so that
   no second thread enters libuv, whatever programs assign to _thread_id.  Processes: only the one
   that made it. */

#include "hotloop.h"
#include "executor.h"

bool
hl_is_loop(HLState *st, PyObject *object)
{
    return PyObject_TypeCheck(object, st->LoopType);
}

int
hl_loop_check_closed(HLLoop *loop)
{
    if (loop->closed) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return -1;
    }
    return 0;
}

int
hl_loop_check_process(HLLoop *loop)
{
    if (loop->pid != hl_process_id()) {
        PyErr_Format(PyExc_RuntimeError,
                     "Event loop of process %d cannot be used in process %d, forked from it; "
                     "create a new loop there",
                     (int)loop->pid, (int)hl_process_id());
        return -1;
    }
    return 0;
}

bool
hl_loop_is_elsewhere(HLLoop *loop)
{
    return loop->claimed_by != 0 && loop->claimed_by != PyThread_get_thread_ident()
           && loop->pid == hl_process_id();
}

bool
hl_loop_is_running(HLLoop *loop)
{
    return loop->thread_id != 0 || hl_loop_is_elsewhere(loop);
}

/* ---- Methods put in place of ours ---- */

static const struct {
    size_t name; /* its place in HLNames */
    int flag;
} patchable[] = {
    {offsetof(HLNames, time), HL_PATCHED_TIME},
    {offsetof(HLNames, call_soon), HL_PATCHED_CALL_SOON},
    {offsetof(HLNames, call_at), HL_PATCHED_CALL_AT},
    {offsetof(HLNames, get_debug), HL_PATCHED_GET_DEBUG},
};

/* Are both descriptors of one function in C, if of several types? */
static bool
is_same_method(PyObject *a, PyObject *b)
{
    return a != NULL && b != NULL && Py_IS_TYPE(a, &PyMethodDescr_Type)
           && Py_IS_TYPE(b, &PyMethodDescr_Type)
           && ((PyMethodDescrObject *)a)->d_method == ((PyMethodDescrObject *)b)->d_method;
}

/* A type that was changed too often has none any more (3.14): then a number that no type has, so that
   it counts as changed. */
static unsigned int
version_of(PyTypeObject *type)
{
    return type->tp_version_tag != 0 ? type->tp_version_tag : UINT_MAX;
}

/* Is what asyncio runs a handle by a function of its own?  *version: of the type that was asked. */
static int
is_run_original(HLState *st, unsigned int *version)
{
    PyObject *run = PyObject_GetAttr(st->StockTimerHandle, st->name._run);
    if (run == NULL) {
        return -1;
    }
    *version = version_of((PyTypeObject *)st->StockTimerHandle);
    int original = PyFunction_Check(run) && PyFunction_GET_GLOBALS(run) == st->events_names;
    Py_DECREF(run);
    return original;
}

int
hl_loop_find_patches(HLLoop *loop)
{
    int original = is_run_original(loop->st, &loop->handle_version);
    if (original < 0) {
        return -1;
    }
    int patched = loop->assigned | (original ? 0 : HL_PATCHED_RUN);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(patchable); i++) {
        PyObject *name = hl_name_at(loop->st, patchable[i].name);
        PyObject *ours = PyObject_GetAttr((PyObject *)loop->st->LoopType, name);
        PyObject *theirs = ours != NULL ? PyObject_GetAttr((PyObject *)Py_TYPE(loop), name) : NULL;
        if (ours != theirs && !is_same_method(ours, theirs)) {
            patched |= patchable[i].flag;
        }
        Py_XDECREF(ours);
        Py_XDECREF(theirs);
        if (theirs == NULL) {
            return -1;
        }
    }
    loop->type_version = version_of(Py_TYPE(loop));
    loop->patched = patched;
    return 0;
}

/* What was found before stays where a class does not let itself be looked at. */
void
hl_loop_find_class_patches(HLLoop *loop)
{
    PyObject *raised = hl_take_exception();
    loop->type_version = Py_TYPE(loop)->tp_version_tag; /* a metaclass may call the loop */
    if (hl_loop_find_patches(loop) < 0) {
        PyErr_Clear();
    }
    hl_give_exception(raised);
}

int
hl_loop_find_run(HLLoop *loop)
{
    PyTypeObject *type = (PyTypeObject *)loop->st->StockTimerHandle;
    return type->tp_version_tag == loop->handle_version ? 0 : hl_loop_find_patches(loop);
}

/* Tests and virtual clocks assign to loop.time and loop.call_soon, or give the loop another class. */
static int
loop_tp_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    if (PyObject_GenericSetAttr(self, name, value) < 0) {
        return -1;
    }
    HLLoop *loop = (HLLoop *)self;
    bool matters = hl_is_name(name, loop->st->name.__class__);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(patchable); i++) {
        if (hl_is_name(name, hl_name_at(loop->st, patchable[i].name))) {
            loop->assigned &= ~patchable[i].flag;
            loop->assigned |= value != NULL ? patchable[i].flag : 0;
            matters = true;
        }
    }
    return matters ? hl_loop_find_patches(loop) : 0;
}

/* ---- Methods ---- */

static PyObject *
loop_time(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    HLLoop *loop = (HLLoop *)self;
    if (hl_clock_is_replaced(loop->st)) {
        return hl_loop_call_inherited(loop, "time", NULL, 0, NULL);
    }
    return PyFloat_FromDouble((double)hl_monotonic_ns() / 1e9);
}

static PyObject *
loop_is_running(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(hl_loop_is_running((HLLoop *)self));
}

static PyObject *
loop_is_closed(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((HLLoop *)self)->closed);
}

static PyObject *
loop_get_debug(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((HLLoop *)self)->debug);
}

static PyObject *
loop_stop(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ((HLLoop *)self)->stopping = true;
    Py_RETURN_NONE;
}

static void
loop_release(HLLoop *loop)
{
    PyObject *pending = hl_take_exception();
    loop->closed = true;
    hl_loop_drop_unflushed(loop);
    hl_loop_await_senders(loop);
    hl_loop_clear_queues(loop);
    if (loop->uv_open) {
        loop->uv_open = false;
        hl_poll_close(loop);
    }
    hl_give_exception(pending);
}

static PyObject *
loop_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    HLLoop *loop = (HLLoop *)self;
    if (hl_loop_is_running(loop)) {
        PyErr_SetString(PyExc_RuntimeError, "Cannot close a running event loop");
        return NULL;
    }
    loop_release(loop);
    Py_RETURN_NONE;
}

/* ---- Attributes that asyncio's Python code assigns ---- */

static int
set_flag(bool *flag, PyObject *value)
{
    int truth = hl_assigned_truth(value);
    if (truth < 0) {
        return -1;
    }
    *flag = truth;
    return 0;
}

static PyObject *
loop_get_flag(PyObject *self, void *closure)
{
    return PyBool_FromLong(*(bool *)((char *)self + (size_t)closure));
}

static int
loop_set_flag(PyObject *self, PyObject *value, void *closure)
{
    return set_flag((bool *)((char *)self + (size_t)closure), value);
}

static PyObject *
loop_get_thread_id(PyObject *self, void *Py_UNUSED(closure))
{
    HLLoop *loop = (HLLoop *)self;
    return loop->thread_id != 0 ? PyLong_FromUnsignedLong(loop->thread_id) : Py_NewRef(Py_None);
}

static int
loop_set_thread_id(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    unsigned long ident = value == NULL || value == Py_None ? 0 : PyLong_AsUnsignedLong(value);
    if (ident == (unsigned long)-1 && PyErr_Occurred()) {
        return -1;
    }
    ((HLLoop *)self)->thread_id = ident;
    return 0;
}

static PyObject *
loop_get_task_factory(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *factory = ((HLLoop *)self)->task_factory;
    return Py_NewRef(hl_or_none(factory));
}

static int
loop_set_task_factory(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    Py_XSETREF(((HLLoop *)self)->task_factory, value == Py_None ? NULL : Py_XNewRef(value));
    return 0;
}

/* Put a handle in the place of a callback and its future, if they are there still. */
static void
replace_done_callback(HLLoop *loop, size_t index, const HLEntry *shown, PyObject *handle)
{
    HLEntry *entry = index < loop->ready.length ? hl_ready_at(&loop->ready, index) : NULL;
    if (entry != NULL && entry->tagged == shown->tagged && entry->arg == shown->arg) {
        entry->tagged = (uintptr_t)Py_NewRef(handle) | HL_RUN_HANDLE;
        entry->arg = NULL;
        hl_loop_release_entry(shown);
    }
}

/* Make the handle that asyncio would hold for a callback in an empty context.  To make one may run
   finalizers, or a profiler, and these whatever moves the entries. */
static int
show_done_callback(HLLoop *loop, size_t index)
{
    HLEntry entry = *hl_ready_at(&loop->ready, index);
    if (hl_entry_kind(&entry) != HL_RUN_CALLBACK) {
        return 0;
    }
    PyObject *callback = Py_NewRef(hl_entry_object(&entry)), *future = Py_NewRef(entry.arg);
    PyObject *handle = hl_handle_new_done(loop, callback, future, NULL);
    if (handle != NULL) {
        replace_done_callback(loop, index, &entry, handle);
    }
    Py_DECREF(callback);
    Py_DECREF(future);
    Py_XDECREF(handle);
    return handle != NULL ? 0 : -1;
}

/* A snapshot: handles as themselves, and tasks where asyncio would hold handles for them. */
static PyObject *
loop_get_ready(PyObject *self, void *Py_UNUSED(closure))
{
    HLLoop *loop = (HLLoop *)self;
    if (hl_loop_drain_inbox(loop) < 0) {
        return NULL;
    }
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < loop->ready.length; i++) {
        if (show_done_callback(loop, i) < 0
            || (i < loop->ready.length
                && PyList_Append(list, hl_entry_object(hl_ready_at(&loop->ready, i))) < 0)) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static PyObject *
loop_get_scheduled(PyObject *self, void *Py_UNUSED(closure))
{
    HLLoop *loop = (HLLoop *)self;
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < loop->timers.length; i++) {
        if (PyList_Append(list, loop->timers.timers[i].handle) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

/* asyncio's __init__ assigns empty queues; nobody can put others in place of ours. */
static int
loop_set_queue(PyObject *Py_UNUSED(self), PyObject *value, void *Py_UNUSED(closure))
{
    Py_ssize_t size = value != NULL ? PyObject_Size(value) : -1;
    if (size != 0) {
        PyErr_Clear();
        PyErr_SetString(PyExc_AttributeError, "the queues of a hotloop loop cannot be replaced");
        return -1;
    }
    return 0;
}

char *
hl_loop_read_buffer(HLLoop *loop, size_t size)
{
    if (loop->read_buffer == NULL) {
        loop->read_buffer = PyMem_RawMalloc(size);
        if (loop->read_buffer == NULL) {
            PyErr_NoMemory();
        }
    }
    return loop->read_buffer;
}

/* ---- Life ---- */

static PyObject *
loop_tp_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    HLState *st = hl_state_of_type(type);
    HLLoop *loop = st != NULL ? (HLLoop *)type->tp_alloc(type, 0) : NULL;
    if (loop == NULL) {
        return NULL;
    }
    loop->st = st;
    loop->pid = hl_process_id();
    loop->wake_fd = loop->near_fd = loop->signal_fds[0] = loop->signal_fds[1] =
        loop->old_wakeup_fd = -1;
    if (uv_mutex_init(&loop->threadsafe_lock) < 0) {
        abort(); /* as libuv itself does in such a case */
    }
    if (hl_loop_find_patches(loop) < 0) {
        Py_DECREF(loop);
        return NULL;
    }
    return (PyObject *)loop;
}

static int
visit_inbox(HLLoop *loop, visitproc visit, void *arg)
{
    HLInboxEntry entry = atomic_load(&loop->inbox.top);
    for (; entry != 0; entry = hl_inbox_link(entry)->next) {
        Py_VISIT(hl_inbox_object(entry));
    }
    return 0;
}

static int
loop_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    HLLoop *loop = (HLLoop *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(loop->current_task);
    Py_VISIT(loop->task_factory);
    Py_VISIT(loop->poller);
    Py_VISIT(loop->contexts.entered);
    Py_VISIT(loop->contexts.blank);
    Py_VISIT(loop->old_asyncgen_hooks);
    Py_VISIT(loop->default_executor);
    Py_VISIT(loop->pool);
    for (size_t i = 0; i < loop->ready.length; i++) {
        HLEntry *entry = hl_ready_at(&loop->ready, i);
        Py_VISIT(hl_entry_object(entry));
        Py_VISIT(hl_entry_arg(entry));
    }
    for (size_t i = 0; i < loop->timers.length; i++) {
        Py_VISIT(loop->timers.timers[i].handle);
    }
    int rc = visit_inbox(loop, visit, arg);
    return rc != 0 ? rc : hl_watch_traverse(loop, visit, arg);
}

static int
loop_tp_clear(PyObject *self)
{
    HLLoop *loop = (HLLoop *)self;
    Py_CLEAR(loop->current_task);
    Py_CLEAR(loop->task_factory);
    Py_CLEAR(loop->poller);
    Py_CLEAR(loop->contexts.blank);
    Py_CLEAR(loop->spare);
    Py_CLEAR(loop->old_asyncgen_hooks);
    Py_CLEAR(loop->default_executor);
    Py_CLEAR(loop->pool);
    loop_release(loop);
    return 0;
}

static void
loop_tp_dealloc(PyObject *self)
{
    HLLoop *loop = (HLLoop *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    loop_tp_clear(self);
    uv_mutex_destroy(&loop->threadsafe_lock);
    PyMem_RawFree(loop->read_buffer);
    PyMem_RawFree(loop->ready.entries);
    PyMem_RawFree(loop->timers.timers);
    PyMem_RawFree(loop->datagram_scratch);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- Tables ---- */

static PyMethodDef loop_methods[] = {
    {"time", loop_time, METH_NOARGS,
     "time($self, /)\n--\n\nReturn time.monotonic(): the loop's clock, in seconds."},
    {"is_running", loop_is_running, METH_NOARGS,
     "is_running($self, /)\n--\n\nReturn True if the loop is running."},
    {"is_closed", loop_is_closed, METH_NOARGS,
     "is_closed($self, /)\n--\n\nReturn True if the loop was closed."},
    {"get_debug", loop_get_debug, METH_NOARGS,
     "get_debug($self, /)\n--\n\nReturn True in debug mode."},
    {"stop", loop_stop, METH_NOARGS,
     "stop($self, /)\n--\n\nEnd run_forever() when the callbacks of this turn have run."},
    {"close", loop_close, METH_NOARGS,
     "close($self, /)\n--\n\nDrop all callbacks and give the descriptors back.\n\n"
     "Raises RuntimeError if the loop is running."},
    {NULL, NULL, 0, NULL},
};

#define FLAG(name) loop_get_flag, loop_set_flag, NULL, (void *)offsetof(HLLoop, name)

static PyGetSetDef loop_getset[] = {
    {"_closed", FLAG(closed)},
    {"_debug", FLAG(debug)},
    {"_stopping", FLAG(stopping)},
    {"_executor_shutdown_called", FLAG(executor_shutdown_called)},
    {"_default_executor", hl_loop_get_default_executor, hl_loop_set_default_executor, NULL, NULL},
    {"_thread_id", loop_get_thread_id, loop_set_thread_id, NULL, NULL},
    {"_task_factory", loop_get_task_factory, loop_set_task_factory, NULL, NULL},
    {"_poller", hl_loop_get_poller, hl_loop_set_poller, NULL, NULL},
    {"_ready", loop_get_ready, loop_set_queue, NULL, NULL},
    {"_scheduled", loop_get_scheduled, loop_set_queue, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot loop_slots[] = {
    {Py_tp_doc, "The engine of hotloop.EventLoop: ready queue, timers, polling."},
    {Py_tp_new, loop_tp_new},
    {Py_tp_setattro, loop_tp_setattro},
    {Py_tp_traverse, loop_tp_traverse},
    {Py_tp_clear, loop_tp_clear},
    {Py_tp_dealloc, loop_tp_dealloc},
    {Py_tp_methods, loop_methods},
    {Py_tp_getset, loop_getset},
    {0, NULL},
};

static PyType_Spec loop_spec = {
    "hotloop._core.Loop",
    sizeof(HLLoop),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    loop_slots,
};

int
hl_type_add_methods(PyTypeObject *type, PyMethodDef *methods)
{
    for (PyMethodDef *method = methods; method->ml_name != NULL; method++) {
        PyObject *descriptor = PyDescr_NewMethod(type, method);
        if (descriptor == NULL
            || PyObject_SetAttrString((PyObject *)type, method->ml_name, descriptor) < 0) {
            Py_XDECREF(descriptor);
            return -1;
        }
        Py_DECREF(descriptor);
    }
    return 0;
}

/* Give type a descriptor of its own for a method that it inherits. */
static int
own_method(PyTypeObject *type, PyObject *name, PyObject *inherited)
{
    PyObject *found = PyObject_GetAttr((PyObject *)type, name);
    Py_XDECREF(found);
    if (found != inherited) {
        return found != NULL ? 0 : -1; /* overridden */
    }
    PyObject *own = PyDescr_NewMethod(type, ((PyMethodDescrObject *)inherited)->d_method);
    int rc = own != NULL ? PyObject_SetAttr((PyObject *)type, name, own) : -1;
    Py_XDECREF(own);
    return rc;
}

/* The nearest base of a type in Python that is ours; NULL if there is none. */
static PyTypeObject *
own_base(PyObject *module, PyObject *type)
{
    PyObject *mro = PyType_Check(type) ? ((PyTypeObject *)type)->tp_mro : NULL;
    for (Py_ssize_t i = 1; mro != NULL && i < PyTuple_GET_SIZE(mro); i++) {
        PyTypeObject *base = (PyTypeObject *)PyTuple_GET_ITEM(mro, i);
        if (PyType_HasFeature(base, Py_TPFLAGS_HEAPTYPE) && PyType_GetModule(base) == module) {
            return base;
        }
        PyErr_Clear();
    }
    return NULL;
}

/* The interpreter calls a method in C without detours only if its descriptor is of the very type
   of the object. */
static PyObject *
own_methods(PyObject *module, PyObject *type)
{
    PyTypeObject *base = own_base(module, type);
    if (base == NULL) {
        PyErr_SetString(PyExc_TypeError, "a type derived from one in C was expected");
        return NULL;
    }
    PyObject *name, *descriptor;
    Py_ssize_t position = 0;
    while (PyDict_Next(base->tp_dict, &position, &name, &descriptor)) {
        if (Py_IS_TYPE(descriptor, &PyMethodDescr_Type)
            && own_method((PyTypeObject *)type, name, descriptor) < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
    {"_own_methods", own_methods, METH_O,
     "_own_methods($module, type, /)\n--\n\n"
     "Give a type derived from one in C method descriptors of its own."},
    {NULL, NULL, 0, NULL},
};

int
hl_loop_setup(PyObject *module, HLState *st)
{
    st->LoopType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &loop_spec, NULL);
    if (st->LoopType == NULL || hl_type_add_methods(st->LoopType, hl_schedule_methods) < 0
        || hl_type_add_methods(st->LoopType, hl_run_methods) < 0
        || hl_type_add_methods(st->LoopType, hl_reader_methods) < 0
        || hl_type_add_methods(st->LoopType, hl_select_methods) < 0
        || hl_type_add_methods(st->LoopType, hl_sock_methods) < 0
        || hl_type_add_methods(st->LoopType, hl_connect_methods) < 0
        || hl_type_add_methods(st->LoopType, hl_child_methods) < 0
        || hl_type_add_methods(st->LoopType, hl_datagram_methods) < 0
        || hl_type_add_methods(st->LoopType, hl_streamreader_methods) < 0
        || hl_type_add_methods(st->LoopType, hl_executor_methods) < 0) {
        return -1;
    }
    return PyModule_AddType(module, st->LoopType) < 0
               ? -1
               : PyModule_AddFunctions(module, module_methods);
}
