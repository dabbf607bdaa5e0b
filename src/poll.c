/* Polling: the uv_loop_t, waiting in it without the GIL, and the timers that end the wait.

   Deadlines within HL_NEAR_SECONDS are kept by a timerfd, which is exact to microseconds;
   farther ones by a uv_timer_t, in milliseconds rounded up.  Both only end the wait: which
   timers are due is decided by the heap and loop.time(), so that none fires early.

   The GIL is detached only around a poll that may block; hl_loop_attach() takes it back in the
   first libuv callback that needs it.  A busy loop hands it over as busy Python code does, when
   a thread has waited for it for a switch interval.  To detach for a moment in each poll would
   not do: the waiting thread wakes too late to take the GIL, and its wait starts again.  For the
   default executor's threads, which say that they want it, a busy loop does better: it detaches
   and lets them wake. */

#include "hotloop.h"
#include "executor.h"
#include <math.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>
#ifdef HL_LINUX
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#endif

#define HL_POLL_INTERVAL_NS 50000
#define HL_POLL_MAX_TURNS 1024        /* in case the processor's counter is not to be trusted */
#define HL_WAIT_SHARE 4               /* of the interval: a poll that took longer had to wait */
#define HL_CALIBRATION_NS 1000000     /* how far apart the clocks are compared, at least */
#define HL_NEAR_SECONDS 0.020
#define HL_DEEP_SLEEP_SECONDS 0.003   /* a processor that idles longer than this ... */
#define HL_WAKE_UP_SECONDS 0.000250   /* ... takes up to this long to wake, */
#define HL_SPIN_SECONDS 0.000040      /* and finds its caches cold */
#define HL_FAR_LIMIT 86400.0
#define HL_UV_ASYNC_WITHOUT_SPINNING 0x012D00
#define HL_HAND_OVER_NS 200000 /* how long a thread that wants the GIL may take to wake */

int64_t
hl_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

bool
hl_clock_is_replaced(HLState *st)
{
    return PyDict_GetItemWithError(st->time_names, st->name.monotonic) != st->monotonic;
}

/* Is loop.time() not ours, or its clock moved by somebody? */
static bool
clock_is_virtual(HLLoop *loop)
{
    return (hl_loop_patched(loop) & HL_PATCHED_TIME) || hl_clock_is_replaced(loop->st);
}

static int
to_seconds(PyObject *number, double *seconds)
{
    *seconds = number != NULL ? PyFloat_AsDouble(number) : -1.0;
    Py_XDECREF(number);
    return *seconds == -1.0 && PyErr_Occurred() ? -1 : 0;
}

static int
read_clock(HLLoop *loop, bool is_virtual, double *now)
{
    if (HL_UNLIKELY(is_virtual)) {
        return to_seconds(PyObject_CallMethodNoArgs((PyObject *)loop, loop->st->name.time), now);
    }
    *now = (double)hl_monotonic_ns() / 1e9;
    return 0;
}

int
hl_loop_time(HLLoop *loop, double *now)
{
    return read_clock(loop, clock_is_virtual(loop), now);
}

int
hl_loop_time_for_timers(HLLoop *loop, double *now, double *early)
{
    bool is_virtual = clock_is_virtual(loop);
    if (is_virtual) {
        hl_context_leave(loop);
    }
    *early = 0.0;
    if (read_clock(loop, is_virtual, now) < 0) {
        return -1;
    }
    if (HL_LIKELY(!is_virtual && loop->poller == NULL)) {
        return 0;
    }
    return to_seconds(PyObject_GetAttrString((PyObject *)loop, "_clock_resolution"), early);
}

/* ---- libuv callbacks ---- */

void
hl_loop_attach(HLLoop *loop)
{
    if (loop->detached != NULL) {
        PyThreadState *state = loop->detached;
        loop->detached = NULL;
        PyEval_RestoreThread(state);
        loop->polling = false;
    }
}

static void
detach(HLLoop *loop)
{
    loop->polling = true; /* before another thread can look */
    loop->detached = PyEval_SaveThread();
}

/* The wake-up has done its work by ending the poll. */
static void
on_async(uv_async_t *Py_UNUSED(async))
{
}

/* Before 1.45, libuv calls timers before it waits: one that is due by then must end that wait too. */
static void
on_far_timer(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

#ifdef HL_LINUX
static void
on_near_timer(uv_poll_t *poll, int Py_UNUSED(status), int Py_UNUSED(events))
{
    HLLoop *loop = poll->data;
    uint64_t expirations;
    if (read(loop->near_fd, &expirations, sizeof(expirations)) < 0) {
        return; /* re-armed meanwhile */
    }
    loop->near_armed = 0.0;
}

static int
open_near_timer(HLLoop *loop)
{
    loop->near_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (loop->near_fd < 0) {
        return -1;
    }
    hl_watch_close(loop, loop->near_fd); /* of a descriptor by that number, closed since */
    loop->near_poll.data = loop;
    if (uv_poll_init(&loop->uv, &loop->near_poll, loop->near_fd) < 0) {
        close(loop->near_fd);
        loop->near_fd = -1;
        return -1;
    }
    uv_poll_start(&loop->near_poll, UV_READABLE, on_near_timer);
    uv_unref((uv_handle_t *)&loop->near_poll);
    return 0;
}

/* Returns -1, without exception, where there is no timerfd to be had.

   A long wait ends a little too early: what remains is then a short wait, which is exact, and the
   last of that is spent awake. */
static int
arm_near_timer(HLLoop *loop, double deadline, double delay)
{
    if (loop->near_fd < 0 && open_near_timer(loop) < 0) {
        return -1;
    }
    if (loop->near_armed == deadline) {
        return 0;
    }
    if (delay > HL_DEEP_SLEEP_SECONDS) {
        delay -= HL_WAKE_UP_SECONDS;
        loop->near_early = deadline;
    }
    else if (loop->near_early == deadline) {
        delay -= HL_SPIN_SECONDS;
    }
    int64_t at = hl_monotonic_ns() + (int64_t)ceil(delay * 1e9);
    struct itimerspec spec = {{0, 0}, {at / 1000000000, at % 1000000000}};
    if (timerfd_settime(loop->near_fd, TFD_TIMER_ABSTIME, &spec, NULL) < 0) {
        return -1;
    }
    loop->near_armed = deadline;
    return 0;
}
#else
static int
arm_near_timer(HLLoop *Py_UNUSED(loop), double Py_UNUSED(deadline), double Py_UNUSED(delay))
{
    return -1;
}
#endif

/* ---- Waiting ---- */

static void
start_far_timer(HLLoop *loop, double delay)
{
    double milliseconds = ceil((delay < HL_FAR_LIMIT ? delay : HL_FAR_LIMIT) * 1e3);
    uv_update_time(&loop->uv);
    uv_timer_start(&loop->far_timer, on_far_timer, (uint64_t)milliseconds, 0);
}

/* See that the poll ends at the first deadline.  *due: that has come already. */
static int
arm_timers(HLLoop *loop, bool *due)
{
    *due = false;
    if (loop->poll_limit != HL_POLL_BY_TIMERS) {
        start_far_timer(loop, loop->poll_limit);
        return 0;
    }
    if (loop->timers.length == 0) {
        uv_timer_stop(&loop->far_timer);
        return 0;
    }
    double now, early, deadline = loop->timers.timers[0].when;
    if (hl_loop_time_for_timers(loop, &now, &early) < 0) {
        return -1;
    }
    double delay = deadline - now;
    if (!(delay > early) || (delay <= HL_SPIN_SECONDS && deadline == loop->near_early)) {
        *due = true; /* or so soon that it is not worth going to sleep again */
        return 0;
    }
    if (delay <= HL_NEAR_SECONDS && arm_near_timer(loop, deadline, delay) == 0) {
        uv_timer_stop(&loop->far_timer);
        return 0;
    }
    start_far_timer(loop, delay);
    return 0;
}

/* Did it have to wait? */
static bool
run_detached(HLLoop *loop, uv_run_mode mode)
{
    uint64_t before = hl_ticks();
    detach(loop);
    uv_run(&loop->uv, mode);
    hl_loop_attach(loop);
    return hl_ticks() - before > loop->poll_interval_ticks / HL_WAIT_SHARE;
}

/* Let the interpreter do what it does between two lines of Python: give the GIL to a thread that
   waits for it, raise what another thread sent to this one.  Callbacks written in C never do. */
static int
yield_if_asked(HLLoop *loop)
{
    PyObject *done = PyObject_CallNoArgs(loop->st->do_nothing);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* Does a thread of the default executor wait for the GIL to begin a call, or will it soon? */
static bool
is_wanted(HLLoop *loop)
{
    HLPool *pool = loop->pool;
    return pool != NULL
           && (pool->queue.coming > 0
               || atomic_load_explicit(&pool->wanting, memory_order_relaxed) > 0);
}

/* Poll without the GIL, unless that is done, once a thread that wants it has taken it.  One that was
   woken but does not run yet may need just this processor. */
static void
hand_over(HLLoop *loop, bool polled)
{
    HLPool *pool = (HLPool *)Py_NewRef(loop->pool);
    int wanting = atomic_load(&pool->wanting);
    int64_t limit = hl_monotonic_ns() + HL_HAND_OVER_NS;
    detach(loop);
    do {
        sched_yield();
    } while (wanting > 0 && atomic_load(&pool->wanting) >= wanting && hl_monotonic_ns() < limit);
    if (!polled) {
        uv_run(&loop->uv, UV_RUN_NOWAIT);
    }
    hl_loop_attach(loop);
    Py_DECREF(pool);
}

/* ---- When to poll ---- */

bool
hl_poll_is_due(HLLoop *loop)
{
    return hl_ticks() - loop->last_poll_ticks >= loop->poll_interval_ticks
           || ++loop->turns_since_poll >= HL_POLL_MAX_TURNS;
}

void
hl_poll_soon(HLLoop *loop)
{
    loop->turns_since_poll = HL_POLL_MAX_TURNS;
}

static void
note_poll(HLLoop *loop)
{
    loop->last_poll_ticks = loop->looked_ticks = hl_ticks();
    loop->turns_since_poll = 0;
    loop->polls++;
    if (loop->poll_interval_ticks == 0) {
        int64_t passed = hl_monotonic_ns() - loop->opened_ns;
        if (passed >= HL_CALIBRATION_NS) {
            double rate = (double)(loop->last_poll_ticks - loop->opened_ticks) / (double)passed;
            loop->poll_interval_ticks = (uint64_t)(rate * HL_POLL_INTERVAL_NS) + 1;
        }
    }
}

/* ---- The poll ---- */

int
hl_poll(HLLoop *loop, bool may_block)
{
    bool due = false, waited = false;
    /* A child that was forked in a callback and returned to the loop must stop here. */
    if (hl_loop_check_process(loop) < 0) {
        return -1;
    }
    size_t before = loop->ready.length;
    hl_watch_end_rests(loop);
    bool polled = (may_block || is_wanted(loop)) && hl_watch_register(loop);
    may_block = may_block && !polled;
    if (may_block && arm_timers(loop, &due) < 0) {
        return -1;
    }
    if (may_block && loop->owns_wakeup_fd) {
        hl_wakeup_renew(loop);
    }
    if (!polled) {
        hl_watch_verify(loop);
    }
    if (loop->signals_unwatched && hl_wakeup_watch(loop) < 0) {
        return -1;
    }
    if (may_block && !due && loop->signal_count == 0) {
        atomic_store(&loop->wake_sent, 0); /* a late one's, of the last sleep */
        atomic_store(&loop->sleeping, 1);
        /* From here on senders wake us; what they sent before is seen now. */
        bool nothing = hl_inbox_is_empty(&loop->inbox) && loop->ready.length == 0;
        waited = run_detached(loop, nothing ? UV_RUN_ONCE : UV_RUN_NOWAIT);
        atomic_store(&loop->sleeping, 0);
    }
    else if (is_wanted(loop)) {
        hand_over(loop, polled);
    }
    else {
        if (!polled) {
            uv_run(&loop->uv, UV_RUN_NOWAIT);
        }
        if (yield_if_asked(loop) < 0) {
            return -1;
        }
    }
    if (waited || loop->ready.length > before) {
        loop->waited = waited;
    }
    note_poll(loop);
    return loop->signal_count > 0 ? hl_wakeup_deliver(loop) : 0;
}

void
hl_loop_wake(HLLoop *loop)
{
    if (!atomic_load(&loop->sleeping) || atomic_exchange(&loop->wake_sent, 1)) {
        return;
    }
    if (loop->wake_fd < 0) {
        uv_async_send(&loop->async);
        return;
    }
    uint64_t one = 1;
    ssize_t written;
    do {
        written = write(loop->wake_fd, &one, sizeof(one));
    } while (written < 0 && errno == EINTR);
}

/* ---- Opening and closing ---- */

#ifdef HL_LINUX
static void
on_wake(uv_poll_t *poll, int Py_UNUSED(status), int Py_UNUSED(events))
{
    uint64_t count;
    if (read(((HLLoop *)poll->data)->wake_fd, &count, sizeof(count)) < 0) {
        return; /* nothing there, after all */
    }
}

/* Before 1.45 (libuv#3879), libuv's loop spins while a thread is in uv_async_send(), and that thread is often
   interrupted there: by the very loop that it has woken.  Then, an eventfd of our own. */
static void
open_wake_fd(HLLoop *loop)
{
    if (uv_version() >= HL_UV_ASYNC_WITHOUT_SPINNING) {
        return;
    }
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0 || uv_poll_init(&loop->uv, &loop->wake_poll, fd) < 0) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    loop->wake_fd = fd;
    loop->wake_poll.data = loop;
    uv_poll_start(&loop->wake_poll, UV_READABLE, on_wake);
}
#else
static void
open_wake_fd(HLLoop *Py_UNUSED(loop))
{
}
#endif

/* Are there as many descriptors to be had as uv_loop_init() opens?  For want of one it loses others
   or, in the first loop of a process, aborts.  It also aborts when it closes the number of standard
   input, output or error, which a daemon may have closed: those that are free are taken here. */
static int
try_descriptors(bool taken[3])
{
    int fds[7], opened = 0, rc = 0;
    while (rc == 0 && opened < 6) {
        int pair[2];
        rc = uv_pipe(pair, 0, 0);
        for (int i = 0; rc == 0 && i < 2; i++) {
            if (pair[i] <= STDERR_FILENO) {
                taken[pair[i]] = true;
            }
            else {
                fds[opened++] = pair[i];
            }
        }
    }
    while (opened > 0) {
        close(fds[--opened]);
    }
    return rc;
}

static int
init_uv(uv_loop_t *uv)
{
    bool taken[3] = {false};
    int rc = try_descriptors(taken);
    if (rc == 0) {
        rc = uv_loop_init(uv);
    }
    for (int fd = 0; fd <= STDERR_FILENO; fd++) {
        if (taken[fd]) {
            close(fd);
        }
    }
    return rc;
}

int
hl_poll_open(HLLoop *loop)
{
    if (loop->uv_open) {
        return 0;
    }
    int rc = init_uv(&loop->uv);
    if (rc < 0) {
        hl_set_uv_error(rc);
        return -1;
    }
    rc = uv_async_init(&loop->uv, &loop->async, on_async);
    if (rc < 0) {
        uv_loop_close(&loop->uv);
        hl_set_uv_error(rc);
        return -1;
    }
    uv_timer_init(&loop->uv, &loop->far_timer);
    open_wake_fd(loop);
    loop->opened_ns = hl_monotonic_ns();
    loop->opened_ticks = hl_ticks();
    loop->uv_open = true;
    return 0;
}

/* A child process shares the kernel's epoll object with the loop's process: it must give up its
   copies of the descriptors without telling that object. */
static void
abandon(HLLoop *loop)
{
    int backend = uv_backend_fd(&loop->uv);
    if (backend >= 0) {
        close(backend);
    }
}

void
hl_poll_close(HLLoop *loop)
{
    bool ours = loop->pid == hl_process_id();
    hl_watch_close_all(loop);
    hl_wakeup_close(loop);
    if (!ours) {
        abandon(loop);
    }
    else {
        uv_close((uv_handle_t *)&loop->async, NULL);
        uv_close((uv_handle_t *)&loop->far_timer, NULL);
        if (loop->near_fd >= 0) {
            uv_close((uv_handle_t *)&loop->near_poll, NULL);
        }
        if (loop->wake_fd >= 0) {
            uv_close((uv_handle_t *)&loop->wake_poll, NULL);
        }
        while (uv_loop_close(&loop->uv) == UV_EBUSY) {
            uv_run(&loop->uv, UV_RUN_NOWAIT);
        }
    }
    if (loop->near_fd >= 0) {
        close(loop->near_fd);
        loop->near_fd = -1;
    }
    if (loop->wake_fd >= 0) {
        close(loop->wake_fd);
        loop->wake_fd = -1;
    }
}
