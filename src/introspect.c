/* What lets others find and watch our tasks: asyncio's registry of tasks, and the fields of a
   stock Task that outside debuggers (python -m asyncio ps PID) and the call graph (3.14) read.

   Until 3.13 the registry is a WeakSet in Python; its callbacks would cost more than the rest of
   a task's life, so a task puts a plain weak reference into the set behind it and takes it out
   itself when it is done.  Since 3.14 it is a linked list through the tasks.

   The fields are found at import by looking at one stock task, never assumed: where its
   coroutine and name lie, which byte tells it from a future, and where awaited_by is.  What is
   not found is not kept up, and only the outside view suffers. */

#include "hotloop.h"

/* ---- The registry ---- */

int
hl_task_register(PyObject *self)
{
    HLTask *t = hl_task(self);
    HLState *st = t->future.st;
    if (t->future.state != HL_PENDING) {
        return 0; /* an overridden call_soon() has run it */
    }
    if (st->registry == NULL || t->registration != NULL) {
        PyObject *done = hl_call_builtin(st->register_task, &self, 1);
        Py_XDECREF(done);
        return done != NULL ? 0 : -1;
    }
    PyObject *reference = PyWeakref_NewRef(self, NULL);
    if (reference == NULL || PySet_Add(st->registry, reference) < 0) {
        Py_XDECREF(reference);
        return -1;
    }
    t->registration = reference;
    return 0;
}

static int
leave_registry(HLTask *t, PyObject *self)
{
    HLState *st = t->future.st;
    if (t->registration != NULL) {
        int rc = PySet_Discard(st->registry, t->registration);
        Py_CLEAR(t->registration);
        return rc;
    }
    if (st->registry != NULL || t->future.state == HL_PENDING) {
        return 0; /* the stock dealloc takes a pending task out of the linked list */
    }
    PyObject *done = hl_call_builtin(st->unregister_task, &self, 1);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

void
hl_task_unregister(PyObject *self)
{
    PyObject *pending = hl_take_exception();
    if (leave_registry(hl_task(self), self) < 0) {
        PyErr_WriteUnraisable(self);
    }
    hl_give_exception(pending);
}

/* The set inside the WeakSet, borrowed for as long as the WeakSet lives: for ever. */
static void
find_registry(HLState *st)
{
    PyObject *weakset = st->scheduled_tasks != NULL ? st->scheduled_tasks : st->all_tasks_weakset;
    if (weakset == NULL) {
        return;
    }
    st->registry = PyObject_GetAttrString(weakset, "data");
    if (st->registry == NULL) {
        PyErr_Clear();
    }
    else if (!PySet_CheckExact(st->registry)) {
        Py_CLEAR(st->registry);
    }
}

/* ---- The stock fields ---- */

static PyObject **
stock_field(PyObject *self, Py_ssize_t offset)
{
    return (PyObject **)((char *)self + offset);
}

void
hl_task_show_coro(PyObject *self)
{
    HLTask *t = hl_task(self);
    HLTaskLayout *layout = &t->future.st->layout;
    if (layout->coro != 0) {
        Py_XSETREF(*stock_field(self, layout->coro), Py_XNewRef(t->coro));
    }
    if (layout->flags != 0) {
        *((unsigned char *)self + layout->flags) = layout->flags_value;
    }
}

void
hl_task_show_name(PyObject *self)
{
    HLTask *t = hl_task(self);
    HLTaskLayout *layout = &t->future.st->layout;
    if (layout->name != 0) {
        Py_XSETREF(*stock_field(self, layout->name), Py_XNewRef(t->name));
    }
}

static bool
is_ours(HLState *st, PyObject *fut)
{
    return HL_LIKELY(Py_IS_TYPE(fut, st->TaskType)) || PyObject_TypeCheck(fut, st->FutureType)
           || PyObject_TypeCheck(fut, st->TaskType);
}

/* With one waiter the field is that waiter; asyncio's own functions turn it into a set and
   back, so they take over as soon as it is anything else. */
int
hl_awaited_by_add(HLState *st, PyObject *fut, PyObject *waiter)
{
    if (st->add_to_awaited_by == NULL) {
        return 0;
    }
    if (st->layout.awaited_by != 0 && is_ours(st, fut)) {
        PyObject **field = stock_field(fut, st->layout.awaited_by);
        if (HL_LIKELY(*field == NULL)) {
            *field = Py_NewRef(waiter);
            return 0;
        }
    }
    PyObject *added = PyObject_CallFunctionObjArgs(st->add_to_awaited_by, fut, waiter, NULL);
    Py_XDECREF(added);
    return added != NULL ? 0 : -1;
}

void
hl_awaited_by_discard(HLState *st, PyObject *fut, PyObject *waiter)
{
    if (st->discard_from_awaited_by == NULL) {
        return;
    }
    if (st->layout.awaited_by != 0 && is_ours(st, fut)) {
        PyObject **field = stock_field(fut, st->layout.awaited_by);
        if (HL_LIKELY(*field == waiter || *field == NULL)) {
            Py_CLEAR(*field);
            return;
        }
    }
    PyObject *done = PyObject_CallFunctionObjArgs(st->discard_from_awaited_by, fut, waiter, NULL);
    if (done == NULL) {
        PyErr_Clear();
    }
    Py_XDECREF(done);
}

bool
hl_awaited_by_any(HLState *st, PyObject *fut)
{
    return st->layout.awaited_by != 0 && *stock_field(fut, st->layout.awaited_by) != NULL;
}

/* ---- The probe ---- */

/* The offset of the one word of the object that equals value, or 0. */
static Py_ssize_t
find_word(PyObject *object, Py_ssize_t size, PyObject *value)
{
    Py_ssize_t found = 0;
    for (Py_ssize_t offset = sizeof(PyObject); offset + (Py_ssize_t)sizeof(PyObject *) <= size;
         offset += sizeof(PyObject *)) {
        if (*stock_field(object, offset) == value) {
            if (found != 0) {
                return 0;
            }
            found = offset;
        }
    }
    return found;
}

/* The offset of the one byte that is 1 in every task and 0 in every future, or 0. */
static Py_ssize_t
find_task_flag(PyObject *task, PyObject *future, Py_ssize_t size)
{
    const unsigned char *task_bytes = (const unsigned char *)task;
    const unsigned char *future_bytes = (const unsigned char *)future;
    Py_ssize_t found = 0;
    for (Py_ssize_t offset = sizeof(PyObject); offset < size; offset++) {
        if (task_bytes[offset] == 1 && future_bytes[offset] == 0) {
            if (found != 0) {
                return 0;
            }
            found = offset;
        }
    }
    return found;
}

static int
find_awaited_by(HLState *st, PyObject *future, PyObject *task)
{
    Py_ssize_t size = ((PyTypeObject *)st->StockFuture)->tp_basicsize;
    PyObject *done = PyObject_CallFunctionObjArgs(st->add_to_awaited_by, future, task, NULL);
    if (done == NULL) {
        return -1;
    }
    st->layout.awaited_by = find_word(future, size, task);
    Py_DECREF(done);
    done = PyObject_CallFunctionObjArgs(st->discard_from_awaited_by, future, task, NULL);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

static PyObject *
learn_task_layout(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    HLState *st = PyModule_GetState(module);
    if (nargs != 4 || !Py_IS_TYPE(args[0], (PyTypeObject *)st->StockTask)
        || !Py_IS_TYPE(args[3], (PyTypeObject *)st->StockFuture)) {
        PyErr_SetString(PyExc_TypeError,
                        "a stock task, its coroutine, its name and a stock future "
                        "were expected");
        return NULL;
    }
    PyObject *task = args[0], *future = args[3];
    Py_ssize_t task_size = ((PyTypeObject *)st->StockTask)->tp_basicsize;
    st->layout.coro = find_word(task, task_size, args[1]);
    st->layout.name = find_word(task, task_size, args[2]);
    st->layout.flags = find_task_flag(task, future,
                                      ((PyTypeObject *)st->StockFuture)->tp_basicsize);
    st->layout.flags_value = 1;
    if (st->add_to_awaited_by != NULL && find_awaited_by(st, future, task) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Where a stock future keeps its loop: NULL there, all its other fields are unset.  It is made with
   what has nothing of a loop but get_debug(), which returns False. */
static int
find_loop(HLState *st)
{
    PyObject *types = PyImport_ImportModule("types");
    PyObject *space = types != NULL ? PyObject_GetAttrString(types, "SimpleNamespace") : NULL;
    PyObject *none = PyTuple_New(0), *future = NULL;
    PyObject *methods = Py_BuildValue("{sO}", "get_debug", (PyObject *)&PyBool_Type);
    PyObject *loop = space != NULL && none != NULL && methods != NULL
                         ? PyObject_Call(space, none, methods)
                         : NULL;
    PyObject *kwargs = loop != NULL ? Py_BuildValue("{OO}", st->name.loop, loop) : NULL;
    if (kwargs != NULL) {
        future = PyObject_Call(st->StockFuture, none, kwargs);
    }
    if (future != NULL) {
        Py_ssize_t size = ((PyTypeObject *)st->StockFuture)->tp_basicsize;
        st->layout.loop = find_word(future, size, loop);
    }
    Py_XDECREF(types);
    Py_XDECREF(space);
    Py_XDECREF(none);
    Py_XDECREF(methods);
    Py_XDECREF(loop);
    Py_XDECREF(kwargs);
    Py_XDECREF(future);
    return future != NULL ? 0 : -1;
}

static PyMethodDef introspect_methods[] = {
    {"_learn_task_layout", (PyCFunction)(void (*)(void))learn_task_layout, METH_FASTCALL,
     "_learn_task_layout($module, task, coro, name, future, /)\n--\n\n"
     "Find where a stock task keeps what outside debuggers read (3.14)."},
    {NULL, NULL, 0, NULL},
};

int
hl_introspect_setup(PyObject *module, HLState *st)
{
    find_registry(st);
    if (PY_VERSION_HEX >= 0x030D0000 && find_loop(st) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, introspect_methods);
}
