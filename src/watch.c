/* add_reader and add_writer: one uv_poll_t for each watched descriptor.

   A watch is made with the first reader or writer of a descriptor and closed with the last; it is
   plain memory, owned by the loop's table until uv_close(), then freed in the close callback.
   The descriptor stays its owner's: its blocking mode is left as it was (uvloop#712).

   libuv registers descriptors with epoll only at the next poll, and aborts the process if that
   fails.  So a registration is tried here at once, where it can raise; and watches armed since
   the last poll are looked at again just before it, in case their owner closed the descriptor. */

#include "hotloop.h"
#include <fcntl.h>
#include <unistd.h>

struct HLWatch {
    uv_poll_t poll;
    HLLoop *loop;     /* borrowed: the loop closes its watches before it goes */
    PyObject *reader; /* owned Handle, or NULL */
    PyObject *writer; /* owned Handle, or NULL */
    HLWatch *next_unverified;
    int fd;
    bool unverified;
};

enum { READER, WRITER };

static PyObject **
side_of(HLWatch *watch, int side)
{
    return side == READER ? &watch->reader : &watch->writer;
}

static HLWatch *
find_watch(HLLoop *loop, int fd)
{
    return fd >= 0 && fd < loop->watches_size ? loop->watches[fd] : NULL;
}

/* ---- libuv callbacks ---- */

static void
on_watch_close(uv_handle_t *handle)
{
    PyMem_RawFree(handle->data);
}

static void
push_side(HLLoop *loop, PyObject *handle)
{
    if (handle != NULL && hl_ready_push(&loop->ready, handle, NULL, HL_RUN_HANDLE) < 0) {
        PyErr_WriteUnraisable((PyObject *)loop);
    }
}

static void mark_unverified(HLWatch *watch);

static void
on_watch(uv_poll_t *poll, int status, int events)
{
    HLWatch *watch = poll->data;
    HLLoop *loop = watch->loop;
    hl_loop_attach(loop);
    if (status < 0) {
        /* An error condition stops a uv_poll_t; selectors report it as ready both ways. */
        events = UV_READABLE | UV_WRITABLE;
        mark_unverified(watch);
    }
    if (events & (UV_READABLE | UV_DISCONNECT)) {
        push_side(loop, watch->reader);
    }
    if (events & UV_WRITABLE) {
        push_side(loop, watch->writer);
    }
}

/* ---- Arming ---- */

static void
mark_unverified(HLWatch *watch)
{
    if (!watch->unverified) {
        watch->unverified = true;
        watch->next_unverified = watch->loop->unverified;
        watch->loop->unverified = watch;
    }
}

static void
unmark_unverified(HLWatch *watch)
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

static void
start_poll(HLWatch *watch)
{
    int events = (watch->reader != NULL ? UV_READABLE : 0)
                 | (watch->writer != NULL ? UV_WRITABLE : 0);
    uv_poll_start(&watch->poll, events, on_watch);
}

static void
arm(HLWatch *watch)
{
    start_poll(watch);
    mark_unverified(watch);
}

void
hl_watch_verify(HLLoop *loop)
{
    while (loop->unverified != NULL) {
        HLWatch *watch = loop->unverified;
        loop->unverified = watch->next_unverified;
        watch->unverified = false;
        if (fcntl(watch->fd, F_GETFD) < 0) {
            uv_poll_stop(&watch->poll);
        }
        else if (!uv_is_active((uv_handle_t *)&watch->poll)) {
            start_poll(watch);
        }
    }
}

/* ---- Making and closing ---- */

static int
grow_table(HLLoop *loop, int fd)
{
    if (fd < loop->watches_size) {
        return 0;
    }
    int size = loop->watches_size > 0 ? loop->watches_size : 32;
    while (size <= fd) {
        size *= 2;
    }
    HLWatch **watches = PyMem_RawRealloc(loop->watches, (size_t)size * sizeof(HLWatch *));
    if (watches == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memset(watches + loop->watches_size, 0,
           (size_t)(size - loop->watches_size) * sizeof(HLWatch *));
    loop->watches = watches;
    loop->watches_size = size;
    return 0;
}

/* uv_poll_init() makes the descriptor non-blocking; flags are those to put back. */
static int
init_poll(HLLoop *loop, HLWatch *watch, int fd, int flags)
{
    int rc = uv_poll_init(&loop->uv, &watch->poll, fd);
    if (!(flags & O_NONBLOCK)) {
        fcntl(fd, F_SETFL, flags);
    }
    return rc;
}

static HLWatch *
make_watch(HLLoop *loop, int fd)
{
    int flags = fcntl(fd, F_GETFL); /* before libuv opens descriptors of its own */
    if (flags < 0) {
        return (HLWatch *)PyErr_SetFromErrno(PyExc_OSError);
    }
    if (hl_poll_open(loop) < 0 || grow_table(loop, fd) < 0) {
        return NULL;
    }
    HLWatch *watch = PyMem_RawCalloc(1, sizeof(HLWatch));
    if (watch == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    int rc = init_poll(loop, watch, fd, flags);
    if (rc < 0) {
        PyMem_RawFree(watch);
        hl_set_uv_error(rc);
        return NULL;
    }
    watch->poll.data = watch;
    watch->loop = loop;
    watch->fd = fd;
    loop->watches[fd] = watch;
    return watch;
}

static void
close_watch(HLWatch *watch)
{
    HLLoop *loop = watch->loop;
    loop->watches[watch->fd] = NULL;
    unmark_unverified(watch);
    uv_close((uv_handle_t *)&watch->poll, on_watch_close);
}

void
hl_watch_close_all(HLLoop *loop)
{
    bool ours = loop->pid == getpid();
    loop->unverified = NULL;
    for (int fd = 0; fd < loop->watches_size; fd++) {
        HLWatch *watch = loop->watches[fd];
        if (watch == NULL) {
            continue;
        }
        PyObject *reader = watch->reader, *writer = watch->writer;
        watch->reader = watch->writer = NULL;
        loop->watches[fd] = NULL;
        if (ours) {
            uv_close((uv_handle_t *)&watch->poll, on_watch_close);
        }
        else {
            PyMem_RawFree(watch);
        }
        Py_XDECREF(reader);
        Py_XDECREF(writer);
    }
    PyMem_RawFree(loop->watches);
    loop->watches = NULL;
    loop->watches_size = 0;
}

int
hl_watch_traverse(HLLoop *loop, visitproc visit, void *arg)
{
    for (int fd = 0; fd < loop->watches_size; fd++) {
        if (loop->watches[fd] != NULL) {
            Py_VISIT(loop->watches[fd]->reader);
            Py_VISIT(loop->watches[fd]->writer);
        }
    }
    return 0;
}

/* ---- Methods ---- */

/* As selectors._fileobj_to_fd(): an int or an object with fileno(). */
static int
to_descriptor(PyObject *fileobj)
{
    int fd = -1;
    if (PyLong_Check(fileobj)) {
        long value = PyLong_AsLong(fileobj);
        if (value == -1 && PyErr_Occurred()) {
            return -1;
        }
        fd = value >= 0 && value <= INT_MAX ? (int)value : -1;
    }
    else {
        fd = PyObject_AsFileDescriptor(fileobj);
        if (fd < 0) {
            PyErr_Clear();
            PyErr_Format(PyExc_ValueError, "Invalid file object: %R", fileobj);
            return -1;
        }
    }
    if (fd < 0) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %S", fileobj);
    }
    return fd;
}

static PyObject *
add_side(HLLoop *loop, int side, const char *method, PyObject *const *args, Py_ssize_t nargs,
         PyObject *kwnames)
{
    PyObject *context;
    if (hl_loop_check_closed(loop) < 0 || hl_loop_check_process(loop) < 0
        || hl_parse_context(loop->st, method, args, nargs, kwnames, &context) < 0) {
        return NULL;
    }
    if (nargs < 2) {
        return PyErr_Format(PyExc_TypeError, "%s() takes a descriptor and a callback", method);
    }
    int fd = to_descriptor(args[0]);
    if (fd < 0) {
        return NULL;
    }
    PyObject *handle = hl_handle_new(loop, args[1], args + 2, nargs - 2, context);
    if (handle == NULL) {
        return NULL;
    }
    hl_handle_track(handle);
    HLWatch *watch = find_watch(loop, fd);
    if (watch == NULL) {
        watch = make_watch(loop, fd);
        if (watch == NULL) {
            Py_DECREF(handle);
            return NULL;
        }
    }
    PyObject *previous = *side_of(watch, side);
    *side_of(watch, side) = Py_NewRef(handle);
    arm(watch); /* also if armed: the descriptor may be another one by that number */
    if (previous != NULL) {
        int rc = hl_handle_cancel(previous);
        Py_DECREF(previous);
        if (rc < 0) {
            Py_CLEAR(handle);
        }
    }
    return handle;
}

static PyObject *
remove_side(HLLoop *loop, int side, PyObject *fileobj)
{
    if (loop->closed) {
        Py_RETURN_FALSE;
    }
    int fd = to_descriptor(fileobj);
    if (fd < 0 || hl_loop_check_process(loop) < 0) {
        return NULL;
    }
    HLWatch *watch = find_watch(loop, fd);
    PyObject *handle = watch != NULL ? *side_of(watch, side) : NULL;
    if (handle == NULL) {
        Py_RETURN_FALSE;
    }
    *side_of(watch, side) = NULL;
    if (watch->reader == NULL && watch->writer == NULL) {
        close_watch(watch);
    }
    else {
        arm(watch);
    }
    int rc = hl_handle_cancel(handle);
    Py_DECREF(handle);
    return rc < 0 ? NULL : Py_NewRef(Py_True);
}

static PyObject *
loop_add_reader(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return add_side((HLLoop *)self, READER, "_add_reader", args, nargs, kwnames);
}

static PyObject *
loop_add_writer(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return add_side((HLLoop *)self, WRITER, "_add_writer", args, nargs, kwnames);
}

static PyObject *
loop_remove_reader(PyObject *self, PyObject *fileobj)
{
    return remove_side((HLLoop *)self, READER, fileobj);
}

static PyObject *
loop_remove_writer(PyObject *self, PyObject *fileobj)
{
    return remove_side((HLLoop *)self, WRITER, fileobj);
}

static PyObject *
loop_watched(PyObject *self, PyObject *fileobj)
{
    int fd = to_descriptor(fileobj);
    if (fd < 0) {
        return NULL;
    }
    HLWatch *watch = find_watch((HLLoop *)self, fd);
    PyObject *reader = watch != NULL && watch->reader != NULL ? watch->reader : Py_None;
    PyObject *writer = watch != NULL && watch->writer != NULL ? watch->writer : Py_None;
    return PyTuple_Pack(2, reader, writer);
}

static PyObject *
loop_wakeup_fileno(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    HLLoop *loop = (HLLoop *)self;
    if (hl_loop_check_closed(loop) < 0) {
        return NULL;
    }
    int fd = hl_wakeup_fileno(loop);
    return fd < 0 ? NULL : PyLong_FromLong(fd);
}

#define KEYWORD_METHOD(function) \
    (PyCFunction)(void (*)(void))function, METH_FASTCALL | METH_KEYWORDS

PyMethodDef hl_watch_methods[] = {
    {"_add_reader", KEYWORD_METHOD(loop_add_reader),
     "_add_reader($self, fd, callback, *args, context=None)\n--\n\n"
     "Call callback(*args) whenever fd is readable; return its Handle."},
    {"_add_writer", KEYWORD_METHOD(loop_add_writer),
     "_add_writer($self, fd, callback, *args, context=None)\n--\n\n"
     "Call callback(*args) whenever fd is writable; return its Handle."},
    {"_remove_reader", loop_remove_reader, METH_O,
     "_remove_reader($self, fd, /)\n--\n\nStop watching for reads; return whether there was a reader."},
    {"_remove_writer", loop_remove_writer, METH_O,
     "_remove_writer($self, fd, /)\n--\n\nStop watching for writes; return whether there was a writer."},
    {"_watched", loop_watched, METH_O,
     "_watched($self, fd, /)\n--\n\nReturn the Handles (reader, writer) of fd, None where there is none."},
    {"_wakeup_fileno", loop_wakeup_fileno, METH_NOARGS,
     "_wakeup_fileno($self, /)\n--\n\nReturn the descriptor for signal.set_wakeup_fd()."},
    {NULL, NULL, 0, NULL},
};
