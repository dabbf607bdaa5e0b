/* Signals: libuv's poll retries EINTR, so a signal alone does not end it.  While the main thread
   runs a loop, the loop owns signal.set_wakeup_fd: a pipe, made when first needed, to which
   CPython's C-level handler writes the signal's number.  The previous descriptor is put back
   when the run ends, and told of signals meanwhile: asyncio leaves it in place (Twisted's reactor
   learns from it that a child has ended).

   asyncio's add_signal_handler() sets the wake-up descriptor to self._csock, which is this pipe as
   well, and leaves it set until the last handler is removed or one is refused, or another loop has
   set its own.  A loop that runs takes it back then, whatever loop that was called on (_loop.py).

   A program may set a descriptor of its own while the loop runs (trio's guest mode does).  From 3.14
   on it is seen before the loop sleeps (poll.c), and treated as the one that was there in the
   beginning: told of signals, and put back in the end. */

#include "hotloop.h"
#include <fcntl.h>
#include <unistd.h>

static void
read_numbers(HLLoop *loop)
{
    unsigned char *numbers = loop->signal_numbers + loop->signal_count;
    size_t room = sizeof(loop->signal_numbers) - (size_t)loop->signal_count;
    ssize_t n = room > 0 ? read(loop->signal_fds[0], numbers, room) : 0;
    if (n <= 0) {
        return;
    }
    loop->signal_count += (int)n;
    if (loop->owns_wakeup_fd && loop->old_wakeup_fd >= 0) {
        /* It may be full or closed. */
        (void)!write(loop->old_wakeup_fd, numbers, (size_t)n);
    }
}

static void
on_signal(uv_poll_t *poll, int Py_UNUSED(status), int Py_UNUSED(events))
{
    hl_loop_attach(poll->data); /* other threads may call hl_wakeup_take() */
    read_numbers(poll->data);
}

static int
open_pipe(HLLoop *loop)
{
    int fds[2];
    int rc = uv_pipe(fds, UV_NONBLOCK_PIPE, UV_NONBLOCK_PIPE);
    if (rc < 0) {
        hl_set_uv_error(rc);
        return -1;
    }
    fcntl(fds[0], F_SETFD, FD_CLOEXEC);
    fcntl(fds[1], F_SETFD, FD_CLOEXEC);
    hl_watch_close(loop, fds[0]); /* as in poll.c */
    loop->signal_fds[0] = fds[0];
    loop->signal_fds[1] = fds[1];
    return 0;
}

static void
close_pipe(HLLoop *loop)
{
    close(loop->signal_fds[0]);
    close(loop->signal_fds[1]);
    loop->signal_fds[0] = loop->signal_fds[1] = -1;
    loop->signals_unwatched = false;
}

int
hl_wakeup_watch(HLLoop *loop)
{
    int rc = uv_poll_init(&loop->uv, &loop->signal_poll, loop->signal_fds[0]);
    if (rc < 0) {
        close_pipe(loop);
        hl_set_uv_error(rc);
        return -1;
    }
    loop->signals_unwatched = false;
    loop->signal_poll.data = loop;
    uv_poll_start(&loop->signal_poll, UV_READABLE, on_signal);
    return 0;
}

int
hl_wakeup_fileno(HLLoop *loop)
{
    if (loop->signal_fds[1] >= 0) {
        return loop->signal_fds[1];
    }
    if (hl_poll_open(loop) < 0 || open_pipe(loop) < 0) {
        return -1;
    }
    if (loop->polling) { /* in another thread, to which libuv belongs until it is awake */
        loop->signals_unwatched = true;
        hl_loop_wake(loop);
    }
    else if (hl_wakeup_watch(loop) < 0) {
        return -1;
    }
    return loop->signal_fds[1];
}

/* Run Python's handlers.  Those of add_signal_handler() are found by _read_from_self(), in an entry of
   its own, as by asyncio's: what was queued before may still remove one.  If a handler of Python's
   raises, the others are left to the next poll, which may be that of the next run. */
int
hl_wakeup_deliver(HLLoop *loop)
{
    if (PyErr_CheckSignals() < 0) {
        return -1;
    }
    PyObject *read_from_self = PyObject_GetAttr((PyObject *)loop, loop->st->name._read_from_self);
    PyObject *handle = NULL;
    if (read_from_self != NULL) {
        handle = hl_handle_new(loop, read_from_self, NULL, 0, NULL);
        Py_DECREF(read_from_self);
    }
    int rc = handle != NULL ? hl_loop_push(loop, handle, NULL, HL_RUN_HANDLE) : -1;
    Py_XDECREF(handle);
    return rc;
}

PyObject *
hl_wakeup_take(HLLoop *loop)
{
    if (loop->signal_fds[0] >= 0 && loop->pid == hl_process_id()) {
        read_numbers(loop); /* some have come since the poll */
    }
    PyObject *numbers = PyBytes_FromStringAndSize((const char *)loop->signal_numbers,
                                                  loop->signal_count);
    if (numbers != NULL) {
        loop->signal_count = 0;
    }
    return numbers;
}

/* signal.set_wakeup_fd(fd, warn_on_full_buffer=False).  Returns 0 with the previous descriptor
   in *old, 1 where this thread or interpreter may not have one, or -1. */
static int
set_wakeup_fd(HLLoop *loop, int fd, int *old)
{
    PyObject *args = Py_BuildValue("(i)", fd);
    PyObject *kwargs = Py_BuildValue("{sO}", "warn_on_full_buffer", Py_False);
    PyObject *previous = NULL;
    if (args != NULL && kwargs != NULL) {
        previous = PyObject_Call(loop->st->set_wakeup_fd, args, kwargs);
    }
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    if (previous == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_ValueError)) {
            return -1;
        }
        PyErr_Clear();
        return 1;
    }
    *old = (int)PyLong_AsLong(previous);
    Py_DECREF(previous);
    return 0;
}

static int
in_main_thread(HLLoop *loop)
{
    PyObject *thread = PyObject_CallNoArgs(loop->st->main_thread);
    PyObject *ident = thread != NULL ? PyObject_GetAttrString(thread, "ident") : NULL;
    unsigned long main_ident = 0;
    if (ident != NULL && ident != Py_None) {
        main_ident = PyLong_AsUnsignedLong(ident);
    }
    Py_XDECREF(thread);
    Py_XDECREF(ident);
    return PyErr_Occurred() ? -1 : main_ident == loop->thread_id;
}

int
hl_wakeup_begin(HLLoop *loop)
{
    int is_main = in_main_thread(loop);
    if (is_main <= 0) {
        return is_main;
    }
    int fd = hl_wakeup_fileno(loop);
    if (fd < 0) {
        return -1;
    }
    int rc = set_wakeup_fd(loop, fd, &loop->old_wakeup_fd);
    if (loop->old_wakeup_fd == fd) {
        loop->old_wakeup_fd = -1; /* ours, left by add_signal_handler() */
    }
    loop->owns_wakeup_fd = rc == 0;
    loop->asked_for_wakeup_fd = false;
    return rc < 0 ? -1 : 0;
}

static bool
has_signal_handlers(HLLoop *loop)
{
    PyObject *handlers = PyObject_GetAttr((PyObject *)loop, loop->st->name._signal_handlers);
    Py_ssize_t size = handlers != NULL ? PyObject_Size(handlers) : 0;
    Py_XDECREF(handlers);
    PyErr_Clear();
    return size > 0;
}

void
hl_wakeup_renew(HLLoop *loop)
{
    int fd = loop->signal_fds[1], before = hl_replace_wakeup_fd(fd);
    if (before != fd) {
        loop->old_wakeup_fd = before;
    }
}

int
hl_wakeup_take_back(HLLoop *loop)
{
    int fd = loop->signal_fds[1], before = fd;
    bool ours = loop->owns_wakeup_fd && loop->pid == hl_process_id();
    if (ours && set_wakeup_fd(loop, fd, &before) < 0) {
        return -1;
    }
    if (before != fd) {
        loop->old_wakeup_fd = before;
    }
    return 0;
}

void
hl_wakeup_end(HLLoop *loop)
{
    if (!loop->owns_wakeup_fd) {
        return;
    }
    loop->owns_wakeup_fd = false;
    int ignored, fd = -1;
    int rc = set_wakeup_fd(loop, -1, &fd);
    bool leave = loop->asked_for_wakeup_fd || loop->old_wakeup_fd < 0;
    if (rc == 0 && fd == loop->signal_fds[1] && !(leave && has_signal_handlers(loop))) {
        fd = loop->old_wakeup_fd;
    }
    if (rc < 0 || (fd >= 0 && set_wakeup_fd(loop, fd, &ignored) < 0)) {
        PyErr_Clear(); /* the program has closed it */
    }
}

void
hl_wakeup_close(HLLoop *loop)
{
    if (loop->signal_fds[0] < 0) {
        return;
    }
    if (loop->pid == hl_process_id() && !loop->signals_unwatched) {
        uv_close((uv_handle_t *)&loop->signal_poll, NULL);
    }
    close_pipe(loop);
}
