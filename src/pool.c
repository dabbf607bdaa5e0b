/* Pool: the queue of calls and the threads that make them.

   The threads are Python's own: start(pool), in _executor.py, starts a threading.Thread that calls
   pool.work() and so becomes a worker.  A worker takes calls while there are any, then waits
   without the GIL on a semaphore of its own.

   Everything in the pool is guarded by the GIL, so a call is begun by one worker only, in the
   order of the queue, and a fork finds no lock held.  Workers are woken one at a time: who takes
   a call wakes the next one if more calls wait, before it begins, since it may block.  That a
   woken worker is still on its way (coming) is known, and so a burst of short calls wakes
   one more thread, not all of them.  (Queue and waking are in workqueue.h.)

   A call's result is sent to the loop after the GIL was let go of, where nothing else is to do:
   a loop woken earlier would only wait for the GIL.  The worker counts as idle by then, so
   the next call finds it.

   States: open, then refusing new calls (refusal set); queued ones are still made, and
   workers end when there are none.  Owners: the default executor (_executor.py), the loop that
   has it, and every worker's thread.  The pool knows neither executor nor loops. */

#include "executor.h"

/* The queue's links are calls'. */
static HLCall *
call_of(HLInboxLink *link)
{
    return link != NULL ? (HLCall *)((char *)link - offsetof(HLCall, link)) : NULL;
}

/* The caller takes over the reference; NULL if there is none. */
static HLCall *
take_call(HLPool *pool)
{
    return call_of(hl_work_take(&pool->queue));
}

static const char after_shutdown[] = "cannot schedule new futures after shutdown";
static const char after_exit[] = "cannot schedule new futures after interpreter shutdown";

static int
check_open(HLPool *pool)
{
    if (pool->refusal != NULL) {
        PyErr_SetString(PyExc_RuntimeError, pool->refusal);
        return -1;
    }
    return 0;
}

int
hl_pool_prepare(HLPool *pool)
{
    if (check_open(pool) < 0) {
        return -1;
    }
    if (!hl_work_needs_worker(&pool->queue) || pool->workers >= pool->max_workers) {
        return 0;
    }
    pool->workers++;
    pool->queue.coming++;
    PyObject *started = PyObject_CallOneArg(pool->start, (PyObject *)pool);
    if (started == NULL) {
        pool->workers--;
        hl_worker_arrive(&pool->queue);
        return -1;
    }
    Py_DECREF(started);
    return check_open(pool);
}

int
hl_pool_submit(HLPool *pool, PyObject *future, PyObject *func, PyObject *const *args,
               Py_ssize_t nargs)
{
    HLCall *call = hl_call_new(pool->st, future, func, args, nargs);
    if (call == NULL) {
        return -1;
    }
    hl_work_put(&pool->queue, &call->link);
    hl_worker_wake_next(&pool->queue);
    return 0;
}

/* ---- Working ---- */

static HLWorker *
worker_new(void)
{
    HLWorker *worker = PyMem_RawCalloc(1, sizeof(HLWorker));
    if (worker == NULL || uv_sem_init(&worker->wake, 0) < 0) {
        PyMem_RawFree(worker);
        PyErr_NoMemory();
        return NULL;
    }
    return worker;
}

static void
worker_free(HLWorker *worker)
{
    uv_sem_destroy(&worker->wake);
    PyMem_RawFree(worker);
}

/* Let threads that wait for the GIL have it between two calls.  An exception that another
   thread sent to this one has missed the call it was meant for. */
static void
yield_if_asked(HLPool *pool)
{
    PyObject *done = PyObject_CallNoArgs(pool->st->do_nothing);
    if (done == NULL) {
        PyErr_WriteUnraisable((PyObject *)pool);
    }
    Py_XDECREF(done);
}

/* Send the last call's result (finished may be NULL) and wait until woken. */
static void
wait_idle(HLPool *pool, HLWorker *worker, HLCall *finished)
{
    HLLoop *loop = finished != NULL ? hl_call_begin_delivery(finished) : NULL;
    if (pool->queue.first != NULL
        || pool->refusal != NULL) { /* to drop a call may run Python code */
        if (loop != NULL) {
            hl_call_send(loop, finished);
        }
        return;
    }
    hl_worker_rest(&pool->queue, worker);
    PyThreadState *state = PyEval_SaveThread();
    if (loop != NULL) {
        hl_call_send(loop, finished);
    }
    uv_sem_wait(&worker->wake);
    atomic_fetch_add(&pool->wanting, 1);
    PyEval_RestoreThread(state);
    atomic_fetch_sub(&pool->wanting, 1);
    hl_worker_arrive(&pool->queue);
}

/* Take calls until the pool has ended, or until this turns out to be a forked child: its queue
   is a copy, and the thread that forked has no business with it. */
static void
work(HLPool *pool, HLWorker *worker)
{
    while (pool->refusal == NULL || pool->queue.first != NULL) {
        HLCall *call = take_call(pool);
        if (call != NULL) {
            hl_worker_wake_next(&pool->queue);
            hl_call_run(call);
            if (pool->pid != hl_process_id()) {
                Py_DECREF(call);
                return;
            }
        }
        if (pool->queue.first == NULL) {
            wait_idle(pool, worker, call);
        }
        else {
            hl_call_deliver(call);
            yield_if_asked(pool);
        }
    }
}

static PyObject *
pool_work(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    HLPool *pool = (HLPool *)self;
    hl_worker_arrive(&pool->queue);
    HLWorker *worker = worker_new();
    if (worker == NULL) {
        pool->workers--;
        return NULL;
    }
    work(pool, worker);
    pool->refusal = after_shutdown; /* as asyncio's, whatever ended it */
    worker_free(worker);
    Py_RETURN_NONE;
}

/* ---- Methods ---- */

static PyObject *
pool_submit(PyObject *self, PyObject *func)
{
    HLPool *pool = (HLPool *)self;
    if (hl_pool_prepare(pool) < 0 || hl_pool_submit(pool, NULL, func, NULL, 0) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
pool_stop(PyObject *self, PyObject *exiting)
{
    HLPool *pool = (HLPool *)self;
    if (pool->refusal == NULL) {
        pool->refusal = exiting == Py_True ? after_exit : after_shutdown;
    }
    while (pool->queue.idle != NULL) {
        hl_worker_wake(&pool->queue);
    }
    Py_RETURN_NONE;
}

static PyObject *
pool_cancel_queued(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    HLPool *pool = (HLPool *)self;
    HLCall *call;
    while ((call = take_call(pool)) != NULL) {
        if (pool->pid != hl_process_id()) { /* the calls are the parent's */
            Py_DECREF(call);
            continue;
        }
        if (call->future != NULL) {
            hl_call_deliver(call);
            continue;
        }
        PyObject *done = PyObject_CallMethodNoArgs(call->func, pool->st->name.cancel);
        Py_DECREF(call);
        if (done == NULL) {
            return NULL;
        }
        Py_DECREF(done);
    }
    Py_RETURN_NONE;
}

static PyObject *
pool_qsize(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromSsize_t(((HLPool *)self)->queue.queued);
}

/* ---- Life ---- */

static const char *const new_names[] = {"max_workers", "start", NULL};
static const HLParameters new_parameters = {"Pool", new_names, 2, 2};

static PyObject *
pool_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *values[2] = {NULL};
    if (hl_parse_init(&new_parameters, args, kwargs, values) < 0) {
        return NULL;
    }
    long max_workers = PyLong_AsLong(values[0]);
    if (max_workers == -1 && PyErr_Occurred()) {
        return NULL;
    }
    HLPool *pool = (HLPool *)type->tp_alloc(type, 0);
    if (pool != NULL) {
        pool->st = hl_state_of_type(type);
        pool->start = Py_NewRef(values[1]);
        pool->max_workers = max_workers < INT_MAX ? (int)max_workers : INT_MAX;
        pool->pid = hl_process_id();
    }
    return (PyObject *)pool;
}

static int
pool_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    HLPool *pool = (HLPool *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(pool->start);
    for (HLInboxLink *link = pool->queue.first; link != NULL; link = hl_work_next(link)) {
        Py_VISIT(call_of(link));
    }
    return 0;
}

static int
pool_tp_clear(PyObject *self)
{
    HLPool *pool = (HLPool *)self;
    HLCall *call;
    Py_CLEAR(pool->start);
    while ((call = take_call(pool)) != NULL) {
        Py_DECREF(call);
    }
    return 0;
}

static void
pool_tp_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    pool_tp_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef pool_methods[] = {
    {"work", pool_work, METH_NOARGS, "work($self, /)\n--\n\nMake calls until the pool has ended."},
    {"submit", pool_submit, METH_O,
     "submit($self, func, /)\n--\n\nHave func() called in a thread."},
    {"stop", pool_stop, METH_O,
     "stop($self, exiting, /)\n--\n\nTake no more calls; workers end when the queue is empty."},
    {"cancel_queued", pool_cancel_queued, METH_NOARGS,
     "cancel_queued($self, /)\n--\n\nCancel the calls that have not begun."},
    {"qsize", pool_qsize, METH_NOARGS,
     "qsize($self, /)\n--\n\nReturn how many calls have not begun."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot pool_slots[] = {
    {Py_tp_doc,
     "Pool(max_workers, start)\n--\n\nThe queue and the threads of a default executor."},
    {Py_tp_new, pool_tp_new},
    {Py_tp_traverse, pool_tp_traverse},
    {Py_tp_clear, pool_tp_clear},
    {Py_tp_dealloc, pool_tp_dealloc},
    {Py_tp_methods, pool_methods},
    {0, NULL},
};

static PyType_Spec pool_spec = {
    "hotloop._core.Pool",
    sizeof(HLPool),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    pool_slots,
};

int
hl_pool_setup(PyObject *module, HLState *st)
{
    st->PoolType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &pool_spec, NULL);
    return st->PoolType != NULL ? PyModule_AddType(module, st->PoolType) : -1;
}
