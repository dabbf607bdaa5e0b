/* add_reader and add_writer: Handles that wait on watched descriptors (watch.c). */

#include "hotloop.h"

/* int(fileobj.fileno()), or NULL. */
static PyObject *
fileno_of(HLLoop *loop, PyObject *fileobj)
{
    PyObject *fileno = PyObject_CallMethodNoArgs(fileobj, loop->st->name.fileno);
    PyObject *number = fileno != NULL ? PyNumber_Long(fileno) : NULL;
    Py_XDECREF(fileno);
    if (number == NULL
        && (PyErr_ExceptionMatches(PyExc_AttributeError) || PyErr_ExceptionMatches(PyExc_TypeError)
            || PyErr_ExceptionMatches(PyExc_ValueError))) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "Invalid file object: %R", fileobj);
    }
    return number;
}

/* As selectors._fileobj_to_fd(): an int or an object with fileno(). */
static int
to_descriptor(HLLoop *loop, PyObject *fileobj)
{
    PyObject *number = PyLong_Check(fileobj) ? Py_NewRef(fileobj) : fileno_of(loop, fileobj);
    if (number == NULL) {
        return -1;
    }
    long value = PyLong_AsLong(number);
    int fd = value >= 0 && value <= INT_MAX ? (int)value : -1;
    if (fd < 0 && !PyErr_Occurred()) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %S", number);
    }
    Py_DECREF(number);
    return fd;
}

/* The same, also of a file that was closed while it is watched. */
static int
to_watched_descriptor(HLLoop *loop, PyObject *fileobj)
{
    int fd = to_descriptor(loop, fileobj);
    if (fd < 0 && !PyLong_Check(fileobj) && PyErr_ExceptionMatches(PyExc_ValueError)) {
        fd = hl_watch_of_file(loop, fileobj);
        if (fd >= 0) {
            PyErr_Clear();
        }
    }
    return fd;
}

int
hl_reader_replaced(HLState *st, PyObject *object)
{
    return hl_is_handle(st, object) ? hl_handle_cancel(object) : 0;
}

static PyObject *
add_side(HLLoop *loop, HLSide side, const char *method, PyObject *const *args, Py_ssize_t nargs,
         PyObject *kwnames)
{
    HLCallArguments call;
    if (!hl_parse_call(loop->st, args, nargs, kwnames, loop->st->name.fd, &call)) {
        return hl_loop_call_inherited(loop, method, args, nargs, kwnames);
    }
    if (hl_loop_check_closed(loop) < 0 || hl_loop_check_process(loop) < 0) {
        return NULL;
    }
    int fd = to_descriptor(loop, call.first);
    if (fd < 0) {
        return NULL;
    }
    PyObject *handle = hl_handle_new(loop, call.callback, call.args, call.nargs, call.context);
    if (handle == NULL) {
        return NULL;
    }
    hl_handle_track(handle);
    PyObject *previous;
    if (hl_watch_start(loop, fd, side, handle, NULL, &previous) < 0) {
        Py_DECREF(handle);
        return NULL;
    }
    if (!PyLong_Check(call.first)) {
        hl_watch_keep_file(loop, fd, call.first);
    }
    if (previous != NULL) {
        int rc = hl_reader_replaced(loop->st, previous);
        Py_DECREF(previous);
        if (rc < 0) {
            Py_CLEAR(handle);
        }
    }
    return handle;
}

static PyObject *
remove_side(HLLoop *loop, HLSide side, PyObject *fileobj)
{
    if (loop->closed) {
        Py_RETURN_FALSE;
    }
    int fd = to_watched_descriptor(loop, fileobj);
    if (fd < 0 || hl_loop_check_process(loop) < 0) {
        return NULL;
    }
    PyObject *handle = hl_watch_stop(loop, fd, side);
    if (handle == NULL) {
        Py_RETURN_FALSE;
    }
    int rc = hl_reader_replaced(loop->st, handle);
    Py_DECREF(handle);
    return rc < 0 ? NULL : Py_NewRef(Py_True);
}

static PyObject *
loop_add_reader(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return add_side((HLLoop *)self, HL_READ, "_add_reader", args, nargs, kwnames);
}

static PyObject *
loop_add_writer(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return add_side((HLLoop *)self, HL_WRITE, "_add_writer", args, nargs, kwnames);
}

static PyObject *
loop_remove_reader(PyObject *self, PyObject *fileobj)
{
    return remove_side((HLLoop *)self, HL_READ, fileobj);
}

static PyObject *
loop_remove_writer(PyObject *self, PyObject *fileobj)
{
    return remove_side((HLLoop *)self, HL_WRITE, fileobj);
}

static PyObject *
loop_watched(PyObject *self, PyObject *fileobj)
{
    int fd = to_descriptor((HLLoop *)self, fileobj);
    if (fd < 0) {
        return NULL;
    }
    /* Owned: the tuple may start the collector, and that finalizers, which remove them. */
    PyObject *reader = Py_NewRef(hl_or_none(hl_watch_waiting((HLLoop *)self, fd, HL_READ)));
    PyObject *writer = Py_NewRef(hl_or_none(hl_watch_waiting((HLLoop *)self, fd, HL_WRITE)));
    PyObject *both = PyTuple_Pack(2, reader, writer);
    Py_DECREF(reader);
    Py_DECREF(writer);
    return both;
}

static PyObject *
loop_transport_of(PyObject *self, PyObject *fileno)
{
    int overflow;
    long fd = PyLong_AsLongAndOverflow(fileno, &overflow);
    if (fd == -1 && PyErr_Occurred()) {
        return NULL;
    }
    PyObject *transport = overflow || fd > INT_MAX || fd < 0
                              ? NULL
                              : hl_watch_transport((HLLoop *)self, (int)fd);
    return Py_NewRef(hl_or_none(transport));
}

static PyObject *
loop_wakeup_fileno(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    HLLoop *loop = (HLLoop *)self;
    if (hl_loop_check_closed(loop) < 0) {
        return NULL;
    }
    int fd = hl_wakeup_fileno(loop);
    loop->asked_for_wakeup_fd = true;
    return fd < 0 ? NULL : PyLong_FromLong(fd);
}

static PyObject *
loop_take_wakeup_fd_back(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return hl_none_or_error(hl_wakeup_take_back((HLLoop *)self));
}

static PyObject *
loop_take_signals(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return hl_wakeup_take((HLLoop *)self);
}

#define KEYWORD_METHOD(function) \
    (PyCFunction)(void (*)(void))function, METH_FASTCALL | METH_KEYWORDS

PyMethodDef hl_reader_methods[] = {
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
    {"_transport_of", loop_transport_of, METH_O,
     "_transport_of($self, fd, /)\n--\n\nReturn the transport that owns fd, or None."},
    {"_wakeup_fileno", loop_wakeup_fileno, METH_NOARGS,
     "_wakeup_fileno($self, /)\n--\n\nReturn the descriptor for signal.set_wakeup_fd()."},
    {"_take_wakeup_fd_back", loop_take_wakeup_fd_back, METH_NOARGS,
     "_take_wakeup_fd_back($self, /)\n--\n\n"
     "Call signal.set_wakeup_fd() again, if the loop runs in the main thread."},
    {"_take_signals", loop_take_signals, METH_NOARGS,
     "_take_signals($self, /)\n--\n\nReturn the numbers of the signals that have come, as bytes."},
    {NULL, NULL, 0, NULL},
};
