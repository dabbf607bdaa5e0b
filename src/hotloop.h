/* The internal header that all files include: the object structs, then each file's functions.  What only
   a few share is in a header of theirs.

   Conventions: int functions return 0, or -1 with an exception set; object functions return a
   new reference, or NULL with an exception set, unless their line says otherwise. */
#ifndef HL_HOTLOOP_H
#define HL_HOTLOOP_H

#define PY_SSIZE_T_CLEAN
#include "compat.h"
#include "inbox.h"
#include "ready.h"
#include "state.h"
#include "ticks.h"
#include "timerheap.h"

typedef struct HLWatch HLWatch;
typedef struct HLStream HLStream;
typedef struct HLPipe HLPipe;
typedef struct HLPool HLPool;

/* ---- None ---- */

/* Borrowed. */
static inline PyObject *
hl_or_none(PyObject *value)
{
    return value != NULL ? value : Py_None;
}

/* What a method returns that has nothing to tell, of a function that returns 0 or -1. */
static inline PyObject *
hl_none_or_error(int rc)
{
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- Handle and TimerHandle: payload behind asyncio's own fields, which stay empty ---- */

#define HL_INLINE_ARGS 3

typedef struct {
    HLState *st;                           /* borrowed: lives as long as our types */
    PyObject *loop;                        /* owned */
    PyObject *callback;                    /* owned, NULL once cancelled */
    PyObject *context;                     /* owned, or NULL for an empty one */
    PyObject *inline_args[HL_INLINE_ARGS]; /* owned, the first nargs of them */
    PyObject *args_tuple;                  /* owned: the arguments where there are more */
    PyObject *source_traceback;            /* owned, in debug mode */
    PyObject *repr;         /* owned: the repr from before cancel(), in debug mode */
    HLInboxLink inbox_link; /* in the loop's inbox, which then owns the handle */
    size_t heap_index;      /* TimerHandle: HL_NOT_IN_HEAP if not scheduled */
    PyObject *when;         /* owned, TimerHandle only */
    signed char nargs;
    bool cancelled;
    bool threadsafe; /* made by call_soon_threadsafe */
} HLHandle;

/* ---- Future and Task: payload behind _asyncio's own fields, which stay empty ---- */

typedef enum { HL_PENDING, HL_CANCELLED, HL_FINISHED } HLFutureState;

typedef struct {
    HLState *st;                /* borrowed: lives as long as our types */
    PyObject *loop;             /* owned; NULL until __init__ ran */
    PyObject *callback0;        /* owned: the first done-callback, or a waiting Task of ours */
    PyObject *context0;         /* owned; NULL where callback0 is a waiting task, None if empty */
    PyObject *callbacks;        /* owned: list of (callback, context) and waiting tasks, or NULL */
    PyObject *result;           /* owned */
    PyObject *exception;        /* owned */
    PyObject *exception_tb;     /* owned */
    PyObject *cancel_message;   /* owned */
    PyObject *cancelled_exc;    /* owned: the CancelledError a task ended with, till raised */
    PyObject *source_traceback; /* owned, in debug mode */
    unsigned char state;        /* HLFutureState */
    bool blocking;
    bool log_traceback;
    bool is_task;
    bool native_loop; /* loop is an HLLoop */
} HLFuture;

typedef struct {
    HLFuture future;
    PyObject *coro;         /* owned */
    PyObject *context;      /* owned, or NULL for an empty one: use hl_task_context() */
    PyObject *fut_waiter;   /* owned: what the task waits for */
    PyObject *name;         /* owned: a str, or the int N of "Task-N" */
    PyObject *registration; /* owned: our weak reference in asyncio's set of tasks */
    int num_cancels_requested;
    bool must_cancel;
    bool log_destroy_pending;
} HLTask;

/* ---- Loop ---- */

/* See context.c. */
typedef struct {
    PyObject *entered; /* owned, or NULL: the context that the last entry ran in, not left yet */
    PyObject *blank;   /* owned, or NULL: an empty context nobody else refers to */
    Py_ssize_t blank_references; /* how many references to it there are while it is entered */
    PyObject *borrower;          /* borrowed: the handle that runs in the blank one now */
} HLContexts;

/* How long a poll may take: so many seconds, or */
#define HL_POLL_BY_TIMERS 0.0 /* until the first deadline */
#define HL_POLL_NO_LIMIT 1e9  /* until something happens */

/* Methods that a subclass or a test has put its own in place of. */
#define HL_PATCHED_TIME 1
#define HL_PATCHED_CALL_SOON 2
#define HL_PATCHED_CALL_AT 4
#define HL_PATCHED_GET_DEBUG 8
#define HL_PATCHED_RUN 16 /* asyncio.Handle._run(), by monitors of slow callbacks */

struct HLLoop {
    PyObject_HEAD
    HLState *st; /* borrowed: lives as long as our types */
    HLReady ready;
    HLTimerHeap timers;
    HLInbox inbox;
    PyObject *current_task; /* owned: as asyncio has it from us; NULL between tasks */
    PyObject *task_factory; /* owned, or NULL */
    HLContexts contexts;
    PyObject *blank_task;         /* borrowed: the task that steps in a context not its own, */
    PyObject *blank_running;      /* borrowed: and that context */
    PyObject *old_asyncgen_hooks; /* owned, while running */
    PyThreadState *detached;      /* saved while the poll is without the GIL */
    bool polling;                 /* without the GIL: nobody else may touch libuv */
    unsigned long thread_id;      /* 0 when not running; programs assign to it */
    unsigned long claimed_by;     /* the thread that is in a run or turn, whatever they assign; */
    int claims;                   /* how often, one inside the other */
    uint64_t last_poll_ticks;
    uint64_t poll_interval_ticks; /* HL_POLL_INTERVAL_NS in ticks; 0 until measured */
    uint64_t opened_ticks;        /* the two clocks when the loop was opened */
    int64_t opened_ns;
    int turns_since_poll;
    uint64_t polls;    /* how many there were */
    bool waited;       /* for what came last: there is little to do */
    PyObject *poller;  /* owned, or NULL: see select.c */
    bool in_poller;    /* the loop waits for it */
    double poll_limit; /* seconds, or one of HL_POLL_* */
    pid_t pid;
    int patched;                 /* HL_PATCHED_*: ask hl_loop_patched() */
    unsigned int type_version;   /* of the loop's class when that was found */
    unsigned int handle_version; /* of asyncio.TimerHandle then */
    int assigned;                /* those of them that the loop has itself, not its class */
    bool debug, closed, stopping, uv_open;

    /* Waking up, see wakeup.c and poll.c. */
    uv_loop_t uv;
    uv_async_t async;
    uv_timer_t far_timer; /* deadlines that milliseconds are fine enough for */
    uv_poll_t near_poll;  /* a timerfd for the others, Linux only */
    int near_fd;          /* -1 where there is none */
    double near_armed;    /* the deadline near_fd is set to, or 0 */
    double near_early;    /* the last deadline that a long wait ended a little before */
    uv_poll_t wake_poll;  /* an eventfd in place of async, where that is slow */
    int wake_fd;          /* -1 where there is none */
    atomic_int sleeping;  /* in the poll, or about to be */
    atomic_int wake_sent;
    uv_poll_t signal_poll;
    int signal_fds[2]; /* a pipe for signal.set_wakeup_fd, or -1 */
    int old_wakeup_fd;
    bool signals_unwatched; /* the pipe is new, and libuv was not to be touched */
    bool owns_wakeup_fd;
    bool asked_for_wakeup_fd; /* by add_signal_handler(), in this run */
    unsigned char signal_numbers[64];
    int signal_count; /* how many of them came and were not delivered yet */

    /* Watched descriptors, see watch.c and watchpoll.c. */
    HLWatch **watches; /* owned, by descriptor */
    int watches_size;
    int watches_parked;  /* how many of them wait for another socket by their number */
    HLWatch *unverified; /* to be looked at before the next poll */
    HLWatch *disposed;   /* to be closed before the next poll */
    HLWatch *resting;    /* armed, though nobody waits */

    /* Streams, see streamread.c and streamsend.c. */
    HLStream *unflushed;      /* a list that owns what is in it */
    HLStream *last_unflushed; /* its end, unless it is empty */
    uint64_t unflushed_ticks; /* since when it is not empty */
    uint64_t looked_ticks;    /* when it was last asked whether to flush, or polled */
    char *read_buffer;        /* owned, or NULL until needed */
    PyObject *spare;          /* owned bytes, or NULL: see spare.h */

    HLPipe *pipes; /* borrowed: the open pipe transports, a list; see pipe.c */

    void *datagram_scratch; /* owned, or NULL: where datagrams are received, see datagram.c */

    /* Calls in other threads, see executor.c. */
    PyObject *default_executor; /* owned, or NULL for None */
    HLPool *pool;               /* owned: the default executor's if it is of our kind, or NULL */
    atomic_int senders;         /* threads that use the loop without the GIL */
    bool executor_shutdown_called;

    /* The handle of call_soon_threadsafe that runs now; cancel() elsewhere waits for it. */
    PyObject *running_threadsafe;    /* borrowed */
    unsigned long threadsafe_thread; /* that runs it, and has the lock */
    uv_mutex_t threadsafe_lock;
};

/* Where our payload lies in a handle, and in a future or task: behind the larger of the two
   stock types, rounded up.  Facts of the process, the same in every interpreter; written at
   each import, always with the same value. */
extern Py_ssize_t hl_handle_offset;
extern Py_ssize_t hl_future_offset;

static inline HLHandle *
hl_handle(PyObject *self)
{
    return (HLHandle *)((char *)self + hl_handle_offset);
}

static inline PyObject *
hl_handle_object(HLHandle *handle)
{
    return (PyObject *)((char *)handle - hl_handle_offset);
}

static inline HLFuture *
hl_future(PyObject *self)
{
    return (HLFuture *)((char *)self + hl_future_offset);
}

static inline HLTask *
hl_task(PyObject *self)
{
    return (HLTask *)((char *)self + hl_future_offset);
}

/* ---- From process.c ---- */

extern _Atomic(atomic_int *) hl_process_page; /* holds the process's id, or 0 after a fork */
int hl_process_ask(void);
void hl_process_setup(void);
/* getpid(), without a system call. */
static inline pid_t
hl_process_id(void)
{
    atomic_int *page = atomic_load_explicit(&hl_process_page, memory_order_relaxed);
    int pid = page != NULL ? atomic_load_explicit(page, memory_order_relaxed) : 0;
    return pid != 0 ? pid : hl_process_ask();
}

/* os.fork() is about to be called, in the thread of the running loop, if it is one of ours: no file of
   a socket is surely gone from now on when the socket is closed. */
PyObject *hl_process_before_fork(PyObject *module, PyObject *running);

/* ---- From args.c ---- */

typedef struct {
    const char *function;     /* for messages */
    const char *const *names; /* parameters in order, NULL-terminated; positional ones first */
    int positional;           /* how many may be given by position */
    int required;             /* how many of those must be given */
} HLParameters;

/* Fill values (borrowed; NULL where not given) from a FASTCALL|KEYWORDS call. */
int hl_parse(const HLParameters *parameters, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames, PyObject **values);
/* The same from a tp_init call. */
int hl_parse_init(const HLParameters *parameters, PyObject *args, PyObject *kwargs,
                  PyObject **values);
/* The one argument of a method, by position or name; borrowed, or NULL with an exception. */
PyObject *hl_parse_one(const char *function, const char *name, PyObject *const *args,
                       Py_ssize_t nargs, PyObject *kwnames);
/* The keyword argument context=, given or not (borrowed; NULL for None or not given), of a call
   that takes no other keyword but one for its first required parameters.  Returns -1 on others. */
int hl_parse_context(HLState *st, const char *function, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames, PyObject **context);

/* A call of method(callback, *args, context=None), or with one parameter more before these. */
typedef struct {
    PyObject *first;       /* that one: delay, when, fd; borrowed */
    PyObject *callback;    /* borrowed */
    PyObject *const *args; /* borrowed */
    Py_ssize_t nargs;
    PyObject *context; /* borrowed, or NULL */
} HLCallArguments;

/* Fill call.  The parameters may be given by keyword too, as Python functions allow; first_name is
   the additional one's, or NULL.  false, with no exception set, for what is no such call: then
   hl_loop_call_inherited() raises asyncio's own. */
bool hl_parse_call(HLState *st, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                   PyObject *first_name, HLCallArguments *call);

/* ---- From errors.c ---- */

/* Raise the OSError for a libuv error code.  Always NULL. */
PyObject *hl_set_uv_error(int code);
/* PyErr_SetFromErrno(PyExc_OSError), at a third of the price where an error comes repeatedly: the
   text need not be decoded again.  Always NULL. */
PyObject *hl_set_errno(HLState *st);
/* From one to the other exc is being handled, as in an except clause: sys.exc_info() tells of it, and
   it is the context of what is raised.  The first returns what the second needs. */
PyObject *hl_enter_except(PyObject *exc);
void hl_leave_except(PyObject *outer);
/* Call loop.call_exception_handler with {message, exception, key: value, source_traceback}; exc
   and source_traceback may be NULL, and key with value.  -1 with what that raised. */
int hl_report(HLState *st, PyObject *loop, PyObject *message, PyObject *exc, const char *key,
              PyObject *value, PyObject *source_traceback);
/* The same in a finalizer, which can pass nothing on; message NULL if it could not be made. */
void hl_report_in_finalizer(HLState *st, PyObject *loop, PyObject *message, PyObject *exc,
                            const char *key, PyObject *value, PyObject *source_traceback);
/* What is written to a connection that is lost is counted, and told of in the log from asyncio's
   threshold on. */
int hl_drop_write(HLState *st, Py_ssize_t *dropped, const char *warning);
/* In an attribute's setter: AttributeError if it is to be deleted. */
int hl_check_assigned(PyObject *value);
/* The truth of the value that is assigned: 1, 0 or -1. */
int hl_assigned_truth(PyObject *value);
/* Whether the exception that is set must end run_forever. */
bool hl_is_fatal(void);
/* What extract returns for _source_traceback, if loop is in debug mode; otherwise *stack stays NULL. */
int hl_capture_stack(HLState *st, PyObject *loop, PyObject *extract, PyObject **stack);
/* loop.get_debug(): 1, 0 or -1. */
int hl_loop_is_debug(HLState *st, PyObject *loop);

/* ---- From handle.c and handletype.c ---- */

/* A handle for callback(*args); context NULL means a copy of the current one. */
PyObject *hl_handle_new(HLLoop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *context);
PyObject *hl_timer_handle_new(HLLoop *loop, PyObject *when, PyObject *callback,
                              PyObject *const *args, Py_ssize_t nargs, PyObject *context);
/* Call the callback.  Exceptions go to the exception handler; -1 only for fatal ones.  A loop
   given may be left in the handle's context. */
int hl_handle_run(PyObject *self, HLLoop *loop);
/* Call callback(future) in an empty context, as a handle would. */
int hl_handle_run_done(HLLoop *loop, PyObject *callback, PyObject *future);
/* The callback raised what is set: tell the exception handler.  -1 if it was a fatal exception. */
int hl_handle_report_failure(PyObject *self);
/* The same, with the handle that asyncio would have made: for object.method, or object if it has none,
   in that context (NULL: the current one). */
int hl_handle_report_method(HLLoop *loop, PyObject *object, const char *method, PyObject *context);
/* Run what is in the place of object.method, in that context (NULL: an empty one, kept there if
   somebody else keeps it), and report what it raises.  -1 only for what has to leave the loop. */
int hl_handle_run_method(HLLoop *loop, PyObject *object, HLOnReady run, const char *method,
                         PyObject **context);
/* A step of a task failed, which woken_by led to, if that is a future (else NULL or an exception). */
int hl_task_report_failure(HLLoop *loop, PyObject *task, PyObject *woken_by);
/* The handle that asyncio would have made for that; context NULL means an empty one. */
PyObject *hl_handle_new_done(HLLoop *loop, PyObject *callback, PyObject *future,
                             PyObject *context);
int hl_handle_cancel(PyObject *self);
/* Fill in a handle for any loop; context NULL means a copy of the current one. */
int hl_handle_fill(HLState *st, PyObject *self, PyObject *loop, PyObject *callback,
                   PyObject *const *args, Py_ssize_t nargs, PyObject *context, bool debug);
/* The arguments as a tuple. */
PyObject *hl_handle_args(HLHandle *handle);
void hl_handle_clear_args(HLHandle *handle);
/* The handle's context, from now on its own.  Borrowed, or NULL. */
PyObject *hl_handle_context(HLHandle *handle);
/* Wait until a call_soon_threadsafe callback in progress in the loop's thread returns (3.14). */
void hl_handle_wait(PyObject *self);
static inline bool
hl_is_handle(HLState *st, PyObject *object)
{
    return PyObject_TypeCheck(object, st->HandleType)
           || PyObject_TypeCheck(object, st->TimerHandleType);
}
/* Let the garbage collector see a handle that may outlive its place in a running loop. */
void hl_handle_track(PyObject *self);
/* Drop the loop's reference to a handle that has run or was taken out. */
void hl_handle_release(PyObject *self);
/* Put a handle that only the caller refers to on the free list, without dealloc; false if it must
   be deallocated. */
bool hl_handle_recycle(PyObject *self);
int hl_handle_setup(PyObject *module, HLState *st);

/* ---- From context.c ---- */

/* A copy of the current context, or NULL in *context if it is empty. */
int hl_capture_context(PyObject **context);
/* Be in this context for the next entry. */
int hl_context_switch(HLLoop *loop, PyObject *context);
void hl_context_leave_now(HLLoop *loop);
/* Leave the last entry's context.  Keeps an exception that is set. */
static inline void
hl_context_leave(HLLoop *loop)
{
    if (loop->contexts.entered != NULL) {
        hl_context_leave_now(loop);
    }
}
/* Be in an empty context, for an entry that has none of its own (borrowed); afterwards see who
   keeps it.  *keep (may be NULL) gets a context that is empty no more, or that others refer to,
   unless it has one. */
PyObject *hl_blank_enter(HLLoop *loop);
void hl_blank_return(HLLoop *loop, PyObject **keep);
/* Around what may run inside an entry and has contexts of its own: a run of the loop. */
HLContexts hl_contexts_push(HLLoop *loop);
void hl_contexts_pop(HLLoop *loop, HLContexts outer);
/* hl_context_switch(), or hl_blank_enter() for NULL: then hl_blank_return() is due as well. */
int hl_context_enter(HLLoop *loop, PyObject *context);

/* ---- From future.c, callbacks.c and awaiting.c ---- */

PyObject *hl_future_new(HLLoop *loop);
int hl_future_init(PyObject *self, PyObject *loop);
int hl_future_set_result(PyObject *self, PyObject *result);
int hl_future_set_exception(PyObject *self, PyObject *exception);
/* Mark as cancelled.  Returns 1, 0 if it was done already, or -1. */
int hl_future_cancel(PyObject *self, PyObject *message);
/* How the future ended: *exc is a new reference to what result() raises, or NULL.  -1 with
   InvalidStateError if it is pending. */
int hl_future_outcome(PyObject *self, PyObject **exc);
/* The result, or NULL with the exception raised as result() does. */
PyObject *hl_future_get_result(PyObject *self);
int hl_future_ensure_alive(HLFuture *future);
PyObject *hl_future_make_cancelled_error(HLFuture *future);
int hl_future_traverse_payload(PyObject *self, visitproc visit, void *arg);
void hl_future_clear_payload(PyObject *self);
void hl_future_finalize(PyObject *self);
/* In dealloc, of what was not kept: finalize it, have let_go() drop what it holds, and free it as
   the type stock does. */
void hl_future_destroy(PyObject *self, PyObject *stock, void (*let_go)(PyObject *));
PyObject *hl_future_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);
PyObject *hl_future_repr(PyObject *self);
int hl_future_setup(PyObject *module, HLState *st);
extern PyMethodDef hl_future_methods[];
extern PyGetSetDef hl_future_getset[];

int hl_future_schedule_callbacks(PyObject *self);
/* context as callbacks.c keeps it: NULL only where callback is a waiting Task of ours on a loop of
   ours; None for an empty context. */
int hl_future_add_callback(PyObject *self, PyObject *callback, PyObject *context);
PyObject *hl_future_add_done_callback(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                      PyObject *kwnames);
PyObject *hl_future_remove_done_callback(PyObject *self, PyObject *callback);
PyObject *hl_future_get_callbacks(PyObject *self, void *closure);

PyObject *hl_future_await(PyObject *self);
/* Raise what throw(*args) of a coroutine was given; false if that is refused. */
bool hl_raise_thrown(PyObject *const *args, Py_ssize_t nargs);
int hl_awaiting_setup(PyObject *module, HLState *st);

/* ---- From recycle.c ---- */

/* A future or task of that type, exactly ours, with nothing in it. */
PyObject *hl_future_take(PyTypeObject *type, HLFreeList *list);
/* In dealloc: put a dead one on its free list.  Returns false if it is of another type, or there is
   something about it that only the stock type's dealloc can undo. */
bool hl_future_keep(PyObject *self, HLFreeList *list, void (*clear_payload)(PyObject *));
/* Before the first object of the type is made. */
int hl_future_shrink_room(PyTypeObject *type, HLFreeList *list);

/* ---- From task.c, step.c and introspect.c ---- */

int hl_task_setup(PyObject *module, HLState *st);
/* The first half of create_task() for a loop of ours; any of name, context may be NULL. */
PyObject *hl_task_new(HLLoop *loop, PyObject *coro, PyObject *name, PyObject *context);
/* Cancel what the task waits for.  1, 0 (also if it waits for nothing) or -1. */
int hl_task_cancel_waiter(PyObject *self, PyObject *message);
/* The context the task runs in, from now on its own.  Borrowed, or NULL. */
PyObject *hl_task_context(PyObject *self);

/* Run the coroutine up to its next await; exc is thrown into it if not NULL.  -1 only with an
   exception that has to leave the loop. */
int hl_task_step(PyObject *self, PyObject *exc, bool enter_context);
/* The step that follows upon the end of fut, which the task waited for. */
int hl_task_wake(PyObject *self, PyObject *fut, bool enter_context);
/* The bound callables behind a step and a wake-up, for loops that are not ours. */
PyObject *hl_task_step_callable(PyObject *self);
PyObject *hl_task_wakeup_callable(PyObject *self);
/* Queue the first step, or the next one. */
int hl_task_schedule_step(PyObject *self, PyObject *exc);
int hl_task_start_eagerly(PyObject *self);
/* Make self (or none, for NULL) asyncio's current task of the loop. */
int hl_loop_set_current_task(HLLoop *loop, PyObject *task);

/* asyncio.all_tasks() finds registered tasks only. */
int hl_task_register(PyObject *self);
void hl_task_unregister(PyObject *self);
/* Keep what outside debuggers read in the stock fields up to date. */
void hl_task_show_coro(PyObject *self);
void hl_task_show_name(PyObject *self);
int hl_awaited_by_add(HLState *st, PyObject *fut, PyObject *waiter);
void hl_awaited_by_discard(HLState *st, PyObject *fut, PyObject *waiter);
/* Is anybody noted as waiting for fut? */
bool hl_awaited_by_any(HLState *st, PyObject *fut);
int hl_introspect_setup(PyObject *module, HLState *st);

/* ---- From loop.c, schedule.c and run.c ---- */

int hl_loop_setup(PyObject *module, HLState *st);
/* See which methods somebody has put their own in place of. */
int hl_loop_find_patches(HLLoop *loop);
/* The same, if asyncio's handles have changed since: programs put theirs there while the loop runs. */
int hl_loop_find_run(HLLoop *loop);
void hl_loop_find_class_patches(HLLoop *loop);
/* HL_PATCHED_*, of now: programs patch the class of a loop that runs. */
static inline int
hl_loop_patched(HLLoop *loop)
{
    if (HL_UNLIKELY(Py_TYPE(loop)->tp_version_tag != loop->type_version)) {
        hl_loop_find_class_patches(loop);
    }
    return loop->patched;
}
/* May get_debug() be true? */
static inline bool
hl_loop_may_debug(HLLoop *loop)
{
    return HL_UNLIKELY(loop->debug || (hl_loop_patched(loop) & HL_PATCHED_GET_DEBUG));
}
/* What ends with an entry is destroyed where asyncio destroys it, and what it raised is reported
   there: in no task and no context.  Keeps an exception that is set. */
void hl_loop_leave_entry(HLLoop *loop);
int hl_type_add_methods(PyTypeObject *type, PyMethodDef *methods);
/* call_soon(callback, *args, context=context), of at most two arguments; context may be NULL. */
int hl_loop_schedule(HLLoop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *context);
/* Memory for one read, which the next read overwrites; NULL with MemoryError set.  Whoever needs
   it first decides its size, so size is HL_READ_MAX everywhere. */
#define HL_READ_MAX (256 * 1024) /* asyncio's max_size */
char *hl_loop_read_buffer(HLLoop *loop, size_t size);
bool hl_is_loop(HLState *st, PyObject *object);
int hl_loop_check_closed(HLLoop *loop);
/* RuntimeError in a child process of the one that made the loop. */
int hl_loop_check_process(HLLoop *loop);
/* Is another thread in a run or a turn of it? */
bool hl_loop_is_elsewhere(HLLoop *loop);
bool hl_loop_is_running(HLLoop *loop);
/* May entries be pushed to the ready ring without going through call_soon()? */
static inline bool
hl_loop_is_plain(HLLoop *loop)
{
    return HL_LIKELY(!loop->debug
                     && !(hl_loop_patched(loop) & (HL_PATCHED_CALL_SOON | HL_PATCHED_RUN))
                     && !loop->closed);
}
int hl_loop_take_inbox(HLLoop *loop);
/* Move what other threads left in the inbox to the ready ring. */
static inline int
hl_loop_drain_inbox(HLLoop *loop)
{
    return HL_LIKELY(hl_inbox_is_empty(&loop->inbox)) ? 0 : hl_loop_take_inbox(loop);
}
/* hl_ready_push() and hl_ready_push_io(), behind whatever other threads have sent before. */
static inline int
hl_loop_push(HLLoop *loop, PyObject *object, PyObject *arg, HLEntryKind kind)
{
    return hl_loop_drain_inbox(loop) < 0 ? -1 : hl_ready_push(&loop->ready, object, arg, kind);
}

static inline int
hl_loop_push_io(HLLoop *loop, PyObject *object, HLOnReady on_ready)
{
    return hl_loop_drain_inbox(loop) < 0 ? -1 : hl_ready_push_io(&loop->ready, object, on_ready);
}
/* The handle or call that a link lies in.  Borrowed. */
PyObject *hl_inbox_object(HLInboxEntry entry);
/* loop._check_callback(callback, method). */
int hl_loop_check_callback(HLLoop *loop, PyObject *callback, const char *method);
/* asyncio's own method, for what ours does not do, and for what is wrong with the arguments. */
PyObject *hl_loop_call_inherited(HLLoop *loop, const char *name, PyObject *const *args,
                                 Py_ssize_t nargs, PyObject *kwnames);
/* Called when a timer handle is cancelled. */
void hl_loop_forget_timer(HLLoop *loop, PyObject *handle);
/* At the end of a run: see that the garbage collector knows every queued handle. */
void hl_loop_track_handles(HLLoop *loop);
/* Give up an entry's references. */
void hl_loop_release_entry(const HLEntry *entry);
/* Drop every queued entry. */
void hl_loop_clear_queues(HLLoop *loop);
extern PyMethodDef hl_schedule_methods[];
extern PyMethodDef hl_run_methods[];

/* ---- From poll.c and wakeup.c ---- */

int64_t hl_monotonic_ns(void);
/* Is there another time.monotonic?  freezegun puts one there, and mocks. */
bool hl_clock_is_replaced(HLState *st);
/* loop.time(), or its override. */
int hl_loop_time(HLLoop *loop, double *now);
/* For between two entries: also how much too early timers may be, as asyncio has it, which is 0 by our
   clock and loop._clock_resolution by others. */
int hl_loop_time_for_timers(HLLoop *loop, double *now, double *early);
/* Open the uv_loop_t, if it is not open yet: a loop that never runs costs no descriptors. */
int hl_poll_open(HLLoop *loop);
void hl_poll_close(HLLoop *loop);
/* Ask the kernel for events; wait for them if nothing else is to do. */
int hl_poll(HLLoop *loop, bool may_block);
/* Has HL_POLL_INTERVAL_NS passed since the last poll? */
bool hl_poll_is_due(HLLoop *loop);
/* Have the next turn poll whatever the time. */
void hl_poll_soon(HLLoop *loop);
/* From select.c: ask loop->poller instead of polling; idle: it may wait. */
int hl_poll_by_poller(HLLoop *loop, bool idle);
PyObject *hl_loop_get_poller(PyObject *self, void *closure);
int hl_loop_set_poller(PyObject *self, PyObject *value, void *closure);
/* Take back the GIL, if the poll let go of it. */
void hl_loop_attach(HLLoop *loop);
/* Wake the loop from any thread. */
void hl_loop_wake(HLLoop *loop);
int hl_wakeup_begin(HLLoop *loop);
void hl_wakeup_end(HLLoop *loop);
/* Before a sleep of a loop that owns the wake-up descriptor: a program may have set its own. */
void hl_wakeup_renew(HLLoop *loop);
/* As that, on every Python. */
int hl_wakeup_take_back(HLLoop *loop);
int hl_wakeup_fileno(HLLoop *loop);
/* Before a poll, if signals_unwatched. */
int hl_wakeup_watch(HLLoop *loop);
int hl_wakeup_deliver(HLLoop *loop);
/* The numbers of the signals that came, as bytes; they count as delivered. */
PyObject *hl_wakeup_take(HLLoop *loop);
void hl_wakeup_close(HLLoop *loop);

/* ---- From stream.c, streamsend.c and server.c; more in stream.h ---- */

/* Is object.name a method, and that function its own? */
bool hl_is_method(PyObject *object, PyObject *name, PyObject *function);
int hl_stream_setup(PyObject *module, HLState *st);
int hl_server_setup(PyObject *module, HLState *st);
/* Send what transports have queued since the last call. */
int hl_loop_flush(HLLoop *loop);
/* The same in the middle of an entry. */
int hl_loop_flush_now(HLLoop *loop);
/* Has the first of it waited long enough, or would it wait for long? */
bool hl_flush_is_due(HLLoop *loop);
void hl_loop_drop_unflushed(HLLoop *loop);

/* ---- From child.c ---- */

int hl_child_setup(PyObject *module, HLState *st);
extern PyMethodDef hl_child_methods[];

/* ---- From pipe.c; more in pipe.h ---- */

int hl_pipe_setup(PyObject *module, HLState *st);

/* ---- From watch.c and readers.c: watch.h ---- */

#include "watch.h"

/* ---- From socket.c ---- */

/* Are the methods of socket.socket that system calls of ours stand in for all what they were at
   import?  1, 0 or -1. */
int hl_socket_is_original(HLState *st);
/* May the class's own lines be left out?  Keeps an exception that is set. */
bool hl_socket_is_known(HLState *st);
/* PyObject_AsFileDescriptor(sock), of any object. */
int hl_socket_fileno(HLState *st, PyObject *sock);
/* socket.socket(family, type, proto[, fileno]). */
PyObject *hl_socket_make(HLState *st, PyObject *const *args, Py_ssize_t nargs);
/* sock after sock.setblocking(False), unless HL_SOCK_NONBLOCK in its type has said so; NULL if that
   fails or sock was NULL.  Steals sock, which is closed if it fails. */
PyObject *hl_socket_unblock(HLState *st, PyObject *sock);
/* sock.close(), of any object. */
int hl_socket_close(HLState *st, PyObject *sock);
/* The same for one that nobody gets to see.  Keeps an exception that is set. */
void hl_socket_close_quietly(HLState *st, PyObject *sock);
int hl_socket_setup(HLState *st);

/* ---- From sock.c and connect.c ---- */

/* loop._start_connect(sock, address). */
PyObject *hl_sock_start_connect(HLLoop *loop, PyObject *sock, PyObject *address);
int hl_sock_setup(PyObject *module, HLState *st);
extern PyMethodDef hl_sock_methods[];
extern PyMethodDef hl_connect_methods[];

/* ---- From streambuffer.c and streamreader.c ---- */

/* A new StreamBuffer. */
PyObject *hl_streambuffer_new(HLLoop *loop, PyObject *reader, Py_ssize_t limit);
int hl_streambuffer_setup(PyObject *module, HLState *st);
/* A new transport's protocol: if it is an asyncio.StreamReaderProtocol, see that its reader keeps
   what it receives in the core. */
int hl_adopt_reader(HLLoop *loop, PyObject *protocol);
extern PyMethodDef hl_streamreader_methods[];

/* ---- From tls.c and datagramtype.c ---- */

int hl_tls_setup(PyObject *module, HLState *st);
int hl_datagram_setup(PyObject *module, HLState *st);
extern PyMethodDef hl_datagram_methods[];

#endif
