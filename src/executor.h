/* The default executor: calls, and the pool of threads that make them.  Shared by executor.c, pool.c,
   call.c and what of the loop knows of them. */
#ifndef HL_EXECUTOR_H
#define HL_EXECUTOR_H

#include "hotloop.h"
#include "workqueue.h"

typedef struct {
    PyObject_HEAD
    HLState *st;      /* borrowed: lives as long as our types */
    HLInboxLink link; /* in the pool's queue, then in the loop's inbox; either owns the call */
    PyObject *future; /* owned; NULL where nobody is told how the call ended */
    HLLoop *loop;   /* owned: the future's when the call was made, to which it returns; or NULL */
    PyObject *func; /* owned, until it was called */
    PyObject *args; /* owned: a tuple, or NULL for none */
    PyObject *result; /* owned: what func returned or raised, or NULL if it was not called */
    bool raised;
} HLCall;

struct HLPool {
    PyObject_HEAD
    HLState *st;       /* borrowed */
    PyObject *start;   /* owned: start(pool) starts a thread that calls pool.work() */
    HLWorkQueue queue; /* owns its calls, which lie in it by HLCall.link */
    int workers;       /* how many there are */
    int max_workers;
    atomic_int wanting;  /* workers that wait for the GIL to begin a call */
    const char *refusal; /* why there are no new calls, or NULL */
    pid_t pid;
};

extern PyMethodDef hl_executor_methods[];
PyObject *hl_loop_get_default_executor(PyObject *self, void *closure);
int hl_loop_set_default_executor(PyObject *self, PyObject *value, void *closure);

int hl_pool_setup(PyObject *module, HLState *st);
/* Have func(*args) called in a thread; its outcome goes to future, which may be NULL. */
int hl_pool_submit(HLPool *pool, PyObject *future, PyObject *func, PyObject *const *args,
                   Py_ssize_t nargs);
/* RuntimeError if the pool takes no calls any more; starts a thread if the next call needs one. */
int hl_pool_prepare(HLPool *pool);

HLCall *hl_call_new(HLState *st, PyObject *future, PyObject *func, PyObject *const *args,
                    Py_ssize_t nargs);
/* Call func, unless the future was cancelled, and keep how it ended. */
void hl_call_run(HLCall *call);
/* Hand a call to its future's loop.  Steals call, which may be NULL.  With the GIL. */
void hl_call_deliver(HLCall *call);
/* The same in two halves, the second without the GIL: the loop to send it to, or NULL. */
HLLoop *hl_call_begin_delivery(HLCall *call);
void hl_call_send(HLLoop *loop, HLCall *call);
/* In the loop's thread: make the call's future done. */
int hl_call_finish(HLLoop *loop, PyObject *call);
/* Before a loop is closed: wait for threads that are sending to it. */
void hl_loop_await_senders(HLLoop *loop);
int hl_call_setup(PyObject *module, HLState *st);

#endif
