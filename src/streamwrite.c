/* Writing to a stream.

   write() only queues; the transport is flushed when the entry of the ready queue that wrote
   returns, so that a response written in pieces leaves in one sendmsg().  If the next entry is a
   transport's or a task's that was woken, it waits for that one too, HL_FLUSH_INTERVALS at most:
   a peer on the same machine is woken once for many responses (run.c).  Nobody can tell: what
   could observe the queue (its size, limits, closing, pause_writing()) flushes first, and so does
   a write from outside the running loop.  What the kernel does not take waits until the
   descriptor is writable; only that counts as buffered, as in asyncio.

   Chunks are bytes objects: mutable data is copied when it is queued, except that large data is
   first offered to the kernel where it lies. */

#include "stream.h"

#define HL_FLUSH_SIZE (64 * 1024) /* queued data that is sent at once */
#define HL_FLUSH_INTERVALS 2      /* of polling, 100 us */
/* Not blocking whatever the mode: it is the open file's, which other processes may share. */
#define HL_SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)
#define HL_DROPPED_WRITES 5 /* asyncio's LOG_THRESHOLD_FOR_CONNLOST_WRITES */

/* ---- Sending ---- */

void
hl_stream_drop_queue(HLStream *self)
{
    hl_queue_consume(&self->queue, self->queue.size, NULL);
    Py_CLEAR(self->write_context);
}

static bool
would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static ssize_t
send_once(HLStream *self, size_t *offered)
{
    HLWriteQueue *queue = &self->queue;
    if (queue->end - queue->first == 1) {
        *offered = queue->size;
        return send(hl_stream_fd(self),
                    PyBytes_AS_STRING(queue->chunks[queue->first]) + queue->offset, queue->size,
                    HL_SEND_FLAGS);
    }
    struct iovec iovecs[HL_IOVECS];
    struct msghdr message = {.msg_iov = iovecs};
    int count = hl_queue_iovecs(queue, iovecs);
    message.msg_iovlen = (size_t)count; /* an int on macOS */
    *offered = 0;
    for (int i = 0; i < count; i++) {
        *offered += iovecs[i].iov_len;
    }
    return sendmsg(hl_stream_fd(self), &message, HL_SEND_FLAGS);
}

/* Send until the queue is empty or the kernel takes no more.  -1 with an OSError set. */
static int
send_some(HLStream *self)
{
    while (self->queue.size > 0) {
        size_t offered;
        ssize_t sent = send_once(self, &offered);
        if (sent < 0) {
            if (would_block()) {
                return 0;
            }
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        hl_queue_consume(&self->queue, (size_t)sent, &self->loop->spare);
        if ((size_t)sent < offered) {
            return 0;
        }
    }
    return 0;
}

static int
send_queue(HLStream *self)
{
    int rc = send_some(self);
    if (self->queue.size == 0 && self->write_context != NULL) {
        Py_CLEAR(self->write_context); /* what it refers to is not to live on with us */
    }
    return rc;
}

/* ---- Flow control ---- */

static int
tell_protocol(HLStream *self, PyObject *method, const char *failure)
{
    PyObject *protocol = Py_NewRef(self->protocol);
    PyObject *done = PyObject_CallMethodNoArgs(protocol, method);
    Py_DECREF(protocol);
    if (done == NULL) {
        return hl_stream_report(self, failure);
    }
    Py_DECREF(done);
    return 0;
}

static int
maybe_pause_protocol(HLStream *self)
{
    if (self->queue.size <= self->high_water || self->protocol_paused || self->protocol == NULL) {
        return 0;
    }
    self->protocol_paused = true;
    return tell_protocol(self, self->st->name.pause_writing, "protocol.pause_writing() failed");
}

static int
maybe_resume_protocol(HLStream *self)
{
    if (!self->protocol_paused || self->queue.size > self->low_water || self->protocol == NULL) {
        return 0;
    }
    self->protocol_paused = false;
    return tell_protocol(self, self->st->name.resume_writing, "protocol.resume_writing() failed");
}

/* ---- The descriptor is writable ---- */

int
hl_stream_fail_waiter(HLStream *self, PyObject *exc)
{
    PyObject *done = PyObject_CallMethod(self->empty_waiter, "set_exception", "(O)", exc);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

static int
shut_down(HLStream *self)
{
    if (shutdown(hl_stream_fd(self), SHUT_WR) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

static int
sending_failed(HLStream *self)
{
    if (hl_is_fatal()) {
        return -1;
    }
    PyObject *exc = hl_take_exception();
    hl_watch_unset(self->watch, HL_WRITE);
    hl_stream_drop_queue(self);
    hl_give_exception(Py_NewRef(exc));
    int rc = hl_stream_fatal(self, "Fatal write error on socket transport");
    if (rc == 0 && self->empty_waiter != NULL) {
        rc = hl_stream_fail_waiter(self, exc);
    }
    Py_DECREF(exc);
    return rc;
}

static int
all_is_sent(HLStream *self)
{
    hl_watch_unset(self->watch, HL_WRITE);
    if (self->empty_waiter != NULL) {
        PyObject *done = PyObject_CallMethod(self->empty_waiter, "set_result", "(O)", Py_None);
        Py_XDECREF(done);
        if (done == NULL) {
            return -1;
        }
    }
    if (self->closing && !self->conn_lost) {
        self->conn_lost++;
        return hl_stream_lose(self, NULL);
    }
    return self->eof && !self->conn_lost ? shut_down(self) : 0;
}

static int
write_ready(HLStream *self)
{
    if (self->conn_lost || self->queue.size == 0) {
        return 0;
    }
    if (send_queue(self) < 0) {
        return sending_failed(self);
    }
    if (maybe_resume_protocol(self) < 0) { /* may write */
        return -1;
    }
    return self->queue.size == 0 ? all_is_sent(self) : 0;
}

/* Borrowed, or NULL for an empty one. */
static PyObject *
context_of_writes(const HLStream *self)
{
    return self->own_context ? self->context : self->write_context;
}

/* Remember the context of the write() that runs now: what comes of it later runs in that. */
static int
capture_context_of_writes(HLStream *self)
{
    if (self->own_context) {
        return 0;
    }
    PyObject *context;
    if (hl_capture_context(&context) < 0) {
        return -1;
    }
    Py_XSETREF(self->write_context, context);
    return 0;
}

static int
on_writable(HLLoop *loop, PyObject *op)
{
    HLStream *self = (HLStream *)op;
    if (!hl_watch_is_set(self->watch, HL_WRITE)) {
        return 0; /* stopped between the poll and now */
    }
    PyObject *context = context_of_writes(self);
    bool blank = context == NULL;
    if (hl_context_enter(loop, context) < 0) {
        return -1;
    }
    int rc = write_ready(self);
    if (rc < 0) {
        rc = hl_handle_report_method(loop, op, "_write_ready");
    }
    if (blank) {
        hl_blank_return(loop, NULL);
    }
    return rc;
}

/* ---- Flushing ---- */

/* Nothing to do, or the kernel takes no more? */
static bool
is_flushed(const HLStream *self)
{
    return self->queue.size == 0 || self->conn_lost || hl_watch_is_set(self->watch, HL_WRITE);
}

/* What follows upon send_queue() if that failed, or left something. */
static int
not_all_sent(HLStream *self, int sent)
{
    if (sent < 0) {
        return sending_failed(self);
    }
    hl_watch_set(self->watch, HL_WRITE, (PyObject *)self, on_writable);
    return maybe_pause_protocol(self);
}

int
hl_stream_flush(HLStream *self)
{
    if (is_flushed(self)) {
        return 0;
    }
    int sent = send_queue(self);
    return sent == 0 && self->queue.size == 0 ? 0 : not_all_sent(self, sent);
}

/* The same after the entry that wrote: outside its context. */
static int
flush_after_entry(HLLoop *loop, HLStream *self)
{
    if (is_flushed(self)) {
        return 0;
    }
    int sent = send_queue(self);
    if (sent == 0 && self->queue.size == 0) {
        return 0;
    }
    PyObject *failure = hl_take_exception();
    PyObject *context = context_of_writes(self);
    bool blank = context == NULL;
    if (hl_context_enter(loop, context) < 0) {
        Py_XDECREF(failure);
        return -1;
    }
    if (failure != NULL) {
        hl_give_exception(failure);
    }
    int rc = not_all_sent(self, sent);
    if (blank) {
        hl_blank_return(loop, NULL);
    }
    return rc;
}

bool
hl_flush_is_due(const HLLoop *loop)
{
    return hl_ticks() - loop->unflushed_ticks >= HL_FLUSH_INTERVALS * loop->poll_interval_ticks;
}

int
hl_loop_flush(HLLoop *loop)
{
    PyObject *pending = PyErr_Occurred() ? hl_take_exception() : NULL;
    int rc = 0;
    while (loop->unflushed != NULL) {
        HLStream *self = loop->unflushed;
        loop->unflushed = self->next_unflushed;
        self->unflushed = false;
        if (flush_after_entry(loop, self) < 0) {
            rc = -1;
            Py_XSETREF(pending, hl_take_exception());
        }
        Py_DECREF(self);
    }
    if (pending != NULL) {
        hl_give_exception(pending);
    }
    return rc;
}

void
hl_loop_drop_unflushed(HLLoop *loop)
{
    while (loop->unflushed != NULL) {
        HLStream *self = loop->unflushed;
        loop->unflushed = self->next_unflushed;
        self->unflushed = false;
        Py_DECREF(self);
    }
}

/* Flush now, or when the entry that runs now is done? */
static int
flush_in_time(HLStream *self)
{
    HLLoop *loop = self->loop;
    if (hl_watch_is_set(self->watch, HL_WRITE)) {
        return maybe_pause_protocol(self);
    }
    if (self->queue.size >= HL_FLUSH_SIZE || self->queue.size > self->high_water
        || loop->thread_id != PyThread_get_thread_ident()) {
        return capture_context_of_writes(self) < 0 ? -1 : hl_stream_flush(self);
    }
    if (self->unflushed) {
        return 0;
    }
    self->unflushed = true;
    self->next_unflushed = NULL;
    Py_INCREF(self);
    if (loop->unflushed == NULL) {
        loop->unflushed_ticks = hl_ticks();
        loop->unflushed = self;
    }
    else {
        loop->last_unflushed->next_unflushed = self;
    }
    loop->last_unflushed = self;
    return capture_context_of_writes(self);
}

/* ---- write, writelines ---- */

/* 1 if writing goes on, 0 if the data is to be dropped, -1 with an exception. */
static int
check_writable(HLStream *self, const char *method, const char *verb)
{
    if (self->eof) {
        PyErr_Format(PyExc_RuntimeError, "Cannot call %s() after write_eof()", method);
        return -1;
    }
    if (self->empty_waiter != NULL) {
        PyErr_Format(PyExc_RuntimeError, "unable to %s; sendfile is in progress", verb);
        return -1;
    }
    return 1;
}

static int
drop_write(HLStream *self)
{
    if (self->conn_lost++ < HL_DROPPED_WRITES) {
        return 0;
    }
    PyObject *done = PyObject_CallMethod(self->st->logger, "warning", "s",
                                         "socket.send() raised exception.");
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* Offer data to the kernel where it lies; return what is left of it as bytes. */
static PyObject *
send_directly(HLStream *self, const char *data, Py_ssize_t length)
{
    ssize_t sent = send(hl_stream_fd(self), data, (size_t)length, HL_SEND_FLAGS);
    if (sent < 0 && !would_block()) {
        PyErr_SetFromErrno(PyExc_OSError);
        return sending_failed(self) < 0 ? NULL : PyBytes_FromStringAndSize(NULL, 0);
    }
    sent = sent < 0 ? 0 : sent;
    return PyBytes_FromStringAndSize(data + sent, length - sent);
}

/* The bytes to queue for data; empty if there is nothing left to send. */
static PyObject *
to_chunk(HLStream *self, PyObject *data)
{
    if (PyBytes_CheckExact(data)) {
        return Py_NewRef(data);
    }
    HLBytes bytes;
    if (hl_borrow_bytes(data, &bytes) && bytes.size < HL_FLUSH_SIZE) {
        return hl_spare_fill(&self->loop->spare, bytes.data, bytes.size);
    }
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    if (self->conn_lost) { /* by a strange __buffer__() */
        PyBuffer_Release(&view);
        return PyBytes_FromStringAndSize(NULL, 0);
    }
    bool direct = view.len >= HL_FLUSH_SIZE && self->queue.size == 0;
    PyObject *chunk = direct ? send_directly(self, view.buf, view.len)
                             : hl_spare_fill(&self->loop->spare, view.buf, view.len);
    PyBuffer_Release(&view);
    return chunk;
}

static int
enqueue(HLStream *self, PyObject *data)
{
    PyObject *chunk = to_chunk(self, data);
    if (chunk == NULL) {
        return -1;
    }
    if (PyBytes_GET_SIZE(chunk) == 0) {
        Py_DECREF(chunk);
        return 0;
    }
    return hl_queue_append(&self->queue, chunk);
}

static PyObject *
refuse_data(HLStream *self, PyObject *data)
{
    PyObject *name = PyType_GetName(Py_TYPE(data));
    if (name != NULL) {
        PyErr_Format(PyExc_TypeError,
                     self->st->write_names_types
                         ? "data argument must be a bytes, bytearray, or memoryview object, not %R"
                         : "data argument must be a bytes-like object, not %R",
                     name);
        Py_DECREF(name);
    }
    return NULL;
}

/* asyncio lets socket.send() take the data, or end the connection: a memoryview with gaps. */
static PyObject *
refused_by_send(HLStream *self)
{
    if (!PyErr_ExceptionMatches(PyExc_BufferError)
        || hl_stream_fatal(self, "Fatal write error on socket transport") < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
stream_write(PyObject *op, PyObject *data)
{
    HLStream *self = (HLStream *)op;
    if (!PyBytes_Check(data) && !PyMemoryView_Check(data) && !PyByteArray_Check(data)) {
        return refuse_data(self, data);
    }
    if (check_writable(self, "write", "write") < 0) {
        return NULL;
    }
    HLBytes bytes;
    Py_ssize_t length = PyBytes_Check(data)             ? PyBytes_GET_SIZE(data)
                        : hl_borrow_bytes(data, &bytes) ? bytes.size
                                                        : PyObject_Size(data);
    if (length <= 0) {
        return length < 0 ? NULL : Py_NewRef(Py_None);
    }
    if (self->conn_lost) {
        return drop_write(self) < 0 ? NULL : Py_NewRef(Py_None);
    }
    if (enqueue(self, data) < 0) {
        return refused_by_send(self);
    }
    if (self->queue.size > 0 && flush_in_time(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

#if PY_VERSION_HEX >= 0x030C0000
#define HL_LINES_BY "writelines"

static PyObject *
check_lines(PyObject *lines)
{
    PyObject *list = PySequence_List(lines);
    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list); i++) {
        if (!PyBytes_CheckExact(PyList_GET_ITEM(list, i))) {
            PyObject *view = PyMemoryView_FromObject(PyList_GET_ITEM(list, i));
            if (view == NULL) {
                Py_CLEAR(list);
            }
            Py_XDECREF(view);
        }
    }
    return list;
}

/* The pieces to send as a list; NULL, maybe without an exception, if there is nothing to do. */
static PyObject *
take_lines(HLStream *self, PyObject *lines)
{
    if (PyObject_IsTrue(lines) <= 0) {
        return NULL;
    }
    if (self->conn_lost) {
        drop_write(self);
        return NULL;
    }
    return check_lines(lines);
}
#else
/* asyncio's writelines() still was write(b"".join(lines)). */
#define HL_LINES_BY "write"

static PyObject *
take_lines(HLStream *self, PyObject *lines)
{
    PyObject *nothing = PyBytes_FromStringAndSize(NULL, 0);
    PyObject *all = nothing != NULL ? PyObject_CallMethod(nothing, "join", "(O)", lines) : NULL;
    PyObject *list = all != NULL && PyBytes_GET_SIZE(all) > 0 ? PyList_New(1) : NULL;
    Py_XDECREF(nothing);
    if (list == NULL || self->conn_lost) {
        if (list != NULL) {
            drop_write(self);
        }
        Py_XDECREF(all);
        Py_CLEAR(list);
        return NULL;
    }
    PyList_SET_ITEM(list, 0, all);
    return list;
}
#endif

static PyObject *
stream_writelines(PyObject *op, PyObject *lines)
{
    HLStream *self = (HLStream *)op;
    if (check_writable(self, HL_LINES_BY, HL_LINES_BY) < 0) {
        return NULL;
    }
    PyObject *list = take_lines(self, lines);
    if (list == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    Py_ssize_t count = PyList_GET_SIZE(list);
    int rc = 0;
    for (Py_ssize_t i = 0; i < count && rc == 0 && !self->conn_lost; i++) {
        rc = enqueue(self, PyList_GET_ITEM(list, i));
    }
    Py_DECREF(list);
    if (rc == 0 && self->queue.size > 0) {
        rc = flush_in_time(self);
    }
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- Other methods ---- */

static PyObject *
stream_write_eof(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    HLStream *self = (HLStream *)op;
    if (self->closing || self->eof) {
        Py_RETURN_NONE;
    }
    if (hl_stream_flush(self) < 0) {
        return NULL;
    }
    self->eof = true;
    if (self->queue.size == 0 && !self->conn_lost && shut_down(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
stream_can_write_eof(PyObject *Py_UNUSED(op), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_TRUE;
}

static PyObject *
stream_get_write_buffer_size(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    HLStream *self = (HLStream *)op;
    return hl_stream_flush(self) < 0 ? NULL : PyLong_FromSize_t(self->queue.size);
}

static PyObject *
stream_maybe_pause_protocol(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    HLStream *self = (HLStream *)op;
    if (hl_stream_flush(self) < 0 || maybe_pause_protocol(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
stream_maybe_resume_protocol(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return maybe_resume_protocol((HLStream *)op) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
stream_write_ready(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return write_ready((HLStream *)op) < 0 ? NULL : Py_NewRef(Py_None);
}

PyMethodDef hl_stream_write_methods[] = {
    {"write", stream_write, METH_O,
     "write($self, data, /)\n--\n\nSend bytes, bytearray or memoryview data; never blocks."},
    {"writelines", stream_writelines, METH_O,
     "writelines($self, list_of_data, /)\n--\n\nSend all the pieces, in one system call if possible."},
    {"write_eof", stream_write_eof, METH_NOARGS,
     "write_eof($self, /)\n--\n\nShut the sending side down when all is sent."},
    {"can_write_eof", stream_can_write_eof, METH_NOARGS,
     "can_write_eof($self, /)\n--\n\nReturn True: sockets can be half closed."},
    {"get_write_buffer_size", stream_get_write_buffer_size, METH_NOARGS,
     "get_write_buffer_size($self, /)\n--\n\nReturn how many bytes the kernel has not taken yet."},
    {"_maybe_pause_protocol", stream_maybe_pause_protocol, METH_NOARGS,
     "_maybe_pause_protocol($self, /)\n--\n\nCall pause_writing() if too much is buffered."},
    {"_maybe_resume_protocol", stream_maybe_resume_protocol, METH_NOARGS,
     "_maybe_resume_protocol($self, /)\n--\n\nCall resume_writing() if little is buffered now."},
    {"_write_ready", stream_write_ready, METH_NOARGS,
     "_write_ready($self, /)\n--\n\nSend what is buffered."},
    {NULL, NULL, 0, NULL},
};
