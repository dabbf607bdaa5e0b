/* run_in_executor(): the short way for the default executor, asyncio's own way for all others.

   loop._default_executor is None until it is first needed, then an executor made by
   hotloop/_executor.py: a ThreadPoolExecutor for programs that look, with the pool (pool.c) that
   the loop uses past it.  Whatever else is put there (set_default_executor(), an assignment)
   leaves the loop without pool, and asyncio's method does all the work. */

#include "executor.h"

PyObject *
hl_loop_get_default_executor(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *executor = ((HLLoop *)self)->default_executor;
    return Py_NewRef(hl_or_none(executor));
}

int
hl_loop_set_default_executor(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    HLLoop *loop = (HLLoop *)self;
    PyObject *executor = value != Py_None ? Py_XNewRef(value) : NULL;
    PyObject *pool = executor != NULL ? PyObject_GetAttrString(executor, "_pool") : NULL;
    PyErr_Clear();
    if (pool != NULL && !PyObject_TypeCheck(pool, loop->st->PoolType)) {
        Py_CLEAR(pool);
    }
    PyObject *old_executor = loop->default_executor;
    HLPool *old_pool = loop->pool;
    loop->default_executor = executor;
    loop->pool = (HLPool *)pool;
    Py_XDECREF(old_pool);
    Py_XDECREF(old_executor);
    return 0;
}

static int
make_default_executor(HLLoop *loop)
{
    PyObject *executor = PyObject_CallMethod((PyObject *)loop, "_new_default_executor", NULL);
    if (executor == NULL) {
        return -1;
    }
    if (loop->default_executor == NULL) { /* another thread may have been faster */
        hl_loop_set_default_executor((PyObject *)loop, executor, NULL);
    }
    Py_DECREF(executor);
    return 0;
}

/* What asyncio checks, in its order. */
static int
check_default_executor(HLLoop *loop, PyObject *func)
{
    if (hl_loop_check_closed(loop) < 0 || hl_loop_check_process(loop) < 0
        || (loop->debug && hl_loop_check_callback(loop, func, "run_in_executor") < 0)) {
        return -1;
    }
    if (loop->executor_shutdown_called) {
        PyErr_SetString(PyExc_RuntimeError, "Executor shutdown has been called");
        return -1;
    }
    return loop->default_executor == NULL ? make_default_executor(loop) : 0;
}

static PyObject *
run_in_pool(HLLoop *loop, PyObject *func, PyObject *const *args, Py_ssize_t nargs)
{
    HLPool *pool = (HLPool *)Py_NewRef(loop->pool);
    PyObject *executor = Py_XNewRef(loop->default_executor); /* the pool ends with it */
    PyObject *future = NULL;
    if (hl_pool_prepare(pool) == 0) {
        future = hl_future_new(loop);
    }
    if (future != NULL && hl_pool_submit(pool, future, func, args, nargs) < 0) {
        Py_CLEAR(future);
    }
    hl_poll_soon(loop); /* where a busy loop lets the thread begin */
    Py_XDECREF(executor);
    Py_DECREF(pool);
    return future;
}

static PyObject *
loop_run_in_executor(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    HLLoop *loop = (HLLoop *)self;
    bool is_default = nargs >= 2 && args[0] == Py_None && kwnames == NULL;
    if (is_default && (loop->pool != NULL || loop->default_executor == NULL)) {
        if (check_default_executor(loop, args[1]) < 0) {
            return NULL;
        }
        if (loop->pool != NULL) {
            return run_in_pool(loop, args[1], args + 2, nargs - 2);
        }
    }
    return hl_loop_call_inherited(loop, "run_in_executor", args, nargs, kwnames);
}

PyMethodDef hl_executor_methods[] = {
    {"run_in_executor", (PyCFunction)(void (*)(void))loop_run_in_executor,
     METH_FASTCALL | METH_KEYWORDS,
     "run_in_executor($self, executor, func, *args)\n--\n\n"
     "Call func(*args) in a thread, or as the executor does; return a Future of its result."},
    {NULL, NULL, 0, NULL},
};
