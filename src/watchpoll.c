/* Polling for a watch: its uv_poll_t.

   libuv registers descriptors with epoll only at the next poll, and aborts the process if that
   fails.  So a registration is tried here at once, where it can raise; and watches armed since
   the last poll are looked at again just before it, in case their owner closed the descriptor
   and the number is nobody's by now, or that of a file that epoll does not take.  Where other threads
   could close it as soon as the poll lets go of the GIL, libuv registers it before that.

   Threads: the loop's.  But programs call add_reader() from others, and the garbage collector
   runs in any: while the loop polls, without the GIL, nothing here may touch libuv.  What would
   is postponed, and the loop woken to do it. */

#include "watchpoll.h"
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/epoll.h>
#endif

static const int side_events[2] = {UV_READABLE, UV_WRITABLE};

static void
mark_unverified(HLWatch *watch)
{
    if (!watch->unverified) {
        watch->unverified = true;
        watch->next_unverified = watch->loop->unverified;
        watch->loop->unverified = watch;
    }
}

void
hl_watch_unmark(HLWatch *watch)
{
    HLWatch **link = &watch->loop->unverified;
    while (watch->unverified && *link != NULL) {
        if (*link == watch) {
            *link = watch->next_unverified;
            watch->unverified = false;
            return;
        }
        link = &(*link)->next_unverified;
    }
}

/* ---- libuv's side ---- */

static int open_poll(HLWatch *watch);
static void start_poll(HLWatch *watch);

static void
push_side(HLLoop *loop, const HLWatchSide *side)
{
    int rc = side->on_ready == NULL ? hl_loop_push(loop, side->object, NULL, HL_RUN_HANDLE)
                                    : hl_loop_push_io(loop, side->object, side->on_ready);
    if (rc < 0) {
        PyErr_WriteUnraisable((PyObject *)loop);
    }
}

/* Who calls loop._add_reader() gets the Handle, and may cancel it: that is as good as removed. */
static bool
remove_cancelled(HLLoop *loop, int fd)
{
    bool removed = false;
    for (HLSide side = HL_READ; side <= HL_WRITE; side++) {
        PyObject *waiting = hl_watch_waiting(loop, fd, side);
        if (waiting != NULL && hl_is_handle(loop->st, waiting) && hl_handle(waiting)->cancelled) {
            Py_XDECREF(hl_watch_stop(loop, fd, side));
            removed = true;
        }
    }
    return removed;
}

/* libuv asks epoll up to 48 times in a poll, as long as it is told of 1,024 descriptors. */
static bool
is_told_again(HLWatch *watch)
{
    uint64_t before = watch->told;
    watch->told = watch->loop->polls + 1;
    return before == watch->told;
}

static void
on_watch(uv_poll_t *poll, int status, int events)
{
    HLWatch *watch = poll->data;
    HLLoop *loop = watch->loop;
    hl_loop_attach(loop);
    if (is_told_again(watch)) {
        hl_watch_disarm(watch); /* until the next poll, so that this one ends */
        mark_unverified(watch);
        return;
    }
    if (remove_cancelled(loop, watch->fd)) {
        return; /* the watch may be gone; if not, the next poll tells of it */
    }
    if (status < 0) {
        /* An error condition stops a uv_poll_t; selectors report it as ready both ways. */
        events = UV_READABLE | UV_WRITABLE;
        mark_unverified(watch);
    }
    else if (events & ~hl_watch_wanted(watch)) {
        hl_watch_arm(watch); /* a side was left, see hl_watch_leave() */
    }
    for (int side = HL_READ; side <= HL_WRITE; side++) {
        if ((events & side_events[side]) && watch->sides[side].object != NULL) {
            push_side(loop, &watch->sides[side]);
        }
    }
}

/* ---- Arming ---- */

static void
postpone(HLWatch *watch)
{
    watch->armed = 0;
    watch->postponed = true;
    mark_unverified(watch);
    hl_loop_wake(watch->loop);
}

static void
start_poll(HLWatch *watch)
{
    int wanted = hl_watch_wanted(watch);
    if (wanted == 0) {
        hl_watch_disarm(watch);
        return;
    }
    if (watch->loop->polling) {
        postpone(watch);
        return;
    }
    if (!watch->open && open_poll(watch) < 0) {
        return; /* it could be polled for when it was made */
    }
    watch->armed = wanted;
    watch->registered = true;
    uv_poll_start(&watch->poll, wanted, on_watch);
}

void
hl_watch_disarm(HLWatch *watch)
{
    watch->armed = 0;
    if (!watch->registered) {
        return;
    }
    if (watch->loop->polling) {
        postpone(watch);
        return;
    }
    watch->registered = false;
    uv_poll_stop(&watch->poll);
}

void
hl_watch_arm(HLWatch *watch)
{
    start_poll(watch);
    mark_unverified(watch);
}

/* ---- Before a poll ---- */

bool
hl_is_socket(int fd)
{
    int type;
    socklen_t length = sizeof(type);
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0;
}

/* Will epoll take it?  Every socket; of other things only epoll itself can tell, by this object. */
static bool
is_pollable(int epoll, int fd)
{
    if (hl_is_socket(fd)) {
        return true;
    }
#ifdef __linux__
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        return errno == EEXIST;
    }
    epoll_ctl(epoll, EPOLL_CTL_DEL, fd, &event);
    return true;
#else
    (void)epoll;
    return fcntl(fd, F_GETFD) >= 0;
#endif
}

/* The same while libuv is at the loop's epoll object.  -1 with an exception if it will not. */
static int
check_pollable(int fd)
{
#ifdef __linux__
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    bool pollable = is_pollable(epoll, fd);
    int error = errno;
    if (epoll >= 0) {
        close(epoll);
    }
    errno = error;
#else
    bool pollable = is_pollable(-1, fd);
#endif
    if (!pollable) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

static void
verify(HLWatch *watch)
{
    bool postponed = watch->postponed;
    watch->postponed = false;
    bool active = watch->open && uv_is_active((uv_handle_t *)&watch->poll);
    int wanted = hl_watch_wanted(watch);
    if (wanted == 0 && postponed) {
        hl_watch_disarm(watch);
    }
    else if (wanted == 0 && !active) {
        watch->armed = 0; /* stopped by an error: libuv takes it from epoll by itself */
    }
    else if (!is_pollable(uv_backend_fd(&watch->loop->uv), watch->fd)) {
        hl_watch_disarm(watch);
    }
    else if (postponed || !active) {
        start_poll(watch);
    }
}

/* Also before another one is opened, which may be of the same descriptor. */
static void
close_disposed(HLLoop *loop)
{
    while (loop->disposed != NULL) {
        HLWatch *watch = loop->disposed;
        loop->disposed = watch->next_unverified;
        hl_watch_dispose(watch);
    }
}

void
hl_watch_verify(HLLoop *loop)
{
    close_disposed(loop);
    while (loop->unverified != NULL) {
        HLWatch *watch = loop->unverified;
        loop->unverified = watch->next_unverified;
        watch->unverified = false;
        verify(watch);
    }
}

static bool
has_other_threads(void)
{
    PyThreadState *first = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    return PyThreadState_Next(first) != NULL;
}

bool
hl_watch_register(HLLoop *loop)
{
    if (loop->unverified == NULL || !has_other_threads()) {
        return false;
    }
    size_t before = loop->ready.length;
    hl_watch_verify(loop);
    uv_run(&loop->uv, UV_RUN_NOWAIT);
    loop->polls++;
    return loop->ready.length > before || loop->signal_count > 0;
}

/* ---- Opening and closing ---- */

/* Returns libuv's error.  uv_poll_init() makes the descriptor non-blocking, which is taken back. */
static int
open_poll(HLWatch *watch)
{
    close_disposed(watch->loop);
    int flags = fcntl(watch->fd, F_GETFL);
    int rc = uv_poll_init(&watch->loop->uv, &watch->poll, watch->fd);
    if (flags >= 0 && !(flags & O_NONBLOCK)) {
        fcntl(watch->fd, F_SETFL, flags);
    }
    watch->poll.data = watch;
    watch->open = rc == 0;
    return rc;
}

int
hl_watch_open(HLWatch *watch)
{
    if (watch->loop->polling) {
        return check_pollable(watch->fd); /* opened when it is armed */
    }
    int rc = open_poll(watch);
    if (rc < 0) {
        hl_set_uv_error(rc);
        return -1;
    }
    return 0;
}

static void
on_close(uv_handle_t *handle)
{
    PyMem_RawFree(handle->data);
}

void
hl_watch_dispose(HLWatch *watch)
{
    if (!watch->open || watch->loop->pid != hl_process_id()) {
        PyMem_RawFree(watch); /* in a forked child, the parent's epoll must not hear of it */
    }
    else if (watch->loop->polling) {
        watch->unverified = true; /* so that it gets into no other list */
        watch->next_unverified = watch->loop->disposed;
        watch->loop->disposed = watch;
        hl_loop_wake(watch->loop);
    }
    else {
        uv_close((uv_handle_t *)&watch->poll, on_close);
    }
}
