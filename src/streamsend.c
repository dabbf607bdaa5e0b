/* Sending what a stream was given to write.

   write() only queues (streamwrite.c); the transport is flushed when the entry of the ready queue
   that wrote returns, so that a response written in pieces leaves in one sendmsg().  If the next
   entry is a transport's or a task's that was woken, it waits for that one too, HL_FLUSH_INTERVALS
   at most: a peer on the same machine is woken once for many responses (run.c).  But not after an
   entry that took as long, for the next one may, too; and a loop that has nothing else to do sends
   at once what is likely to be all, for the peer works meanwhile.

   Nobody can tell: what could observe the queue (its size, limits, closing, pause_writing())
   flushes first, and so does a write from outside the running loop, or to a socket that somebody
   else refers to.  What the kernel does not take waits until the descriptor is writable; only that
   counts as buffered, as in asyncio. */

#include "stream.h"

#define HL_FLUSH_INTERVALS 10 /* of polling, 500 us */

/* ---- Sending ---- */

void
hl_stream_drop_queue(HLStream *self)
{
    hl_queue_consume(&self->queue, self->queue.size, NULL);
    Py_CLEAR(self->write_context);
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
            if (hl_would_block()) {
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

/* What the writer's context refers to is not to live on with us. */
static void
forget_context(HLStream *self)
{
    if (self->queue.size == 0) {
        Py_CLEAR(self->write_context);
    }
}

static int
send_queue(HLStream *self)
{
    int rc = send_some(self);
    forget_context(self);
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

int
hl_stream_maybe_pause(HLStream *self)
{
    if (self->queue.size <= self->high_water || self->protocol_paused || self->protocol == NULL) {
        return 0;
    }
    self->protocol_paused = true;
    return tell_protocol(self, self->st->name.pause_writing, "protocol.pause_writing() failed");
}

int
hl_stream_maybe_resume(HLStream *self)
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
    PyObject *waiter = Py_NewRef(self->empty_waiter);
    PyObject *done = PyObject_CallMethod(waiter, "set_exception", "(O)", exc);
    Py_DECREF(waiter);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

static int
complete_waiter(HLStream *self)
{
    PyObject *waiter = Py_NewRef(self->empty_waiter);
    PyObject *done = PyObject_CallMethod(waiter, "set_result", "(O)", Py_None);
    Py_DECREF(waiter);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

int
hl_stream_shut_down(HLStream *self)
{
    if (shutdown(hl_stream_fd(self), SHUT_WR) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

int
hl_stream_sending_failed(HLStream *self)
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
    if (self->empty_waiter != NULL && complete_waiter(self) < 0) {
        return -1;
    }
    if (self->closing && !self->conn_lost) {
        self->conn_lost++;
        return hl_stream_lose(self, NULL);
    }
    return self->eof && !self->conn_lost ? hl_stream_shut_down(self) : 0;
}

int
hl_stream_write_ready(HLLoop *Py_UNUSED(loop), PyObject *op)
{
    HLStream *self = (HLStream *)op;
    if (self->conn_lost || self->queue.size == 0) {
        return 0;
    }
    if (send_queue(self) < 0) {
        return hl_stream_sending_failed(self);
    }
    if (self->queue.size == 0) {
        hl_watch_unset(self->watch, HL_WRITE); /* what resume_writing() writes goes out at once */
    }
    if (hl_stream_maybe_resume(self) < 0 || hl_stream_flush(self) < 0) {
        return -1;
    }
    return self->queue.size == 0 ? all_is_sent(self) : 0;
}

/* What is in it is NULL for an empty one. */
static PyObject **
context_of_writes(HLStream *self)
{
    return self->own_context ? &self->context : &self->write_context;
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
    int rc = hl_handle_run_method(loop, op, hl_stream_write_ready, "_write_ready",
                                  context_of_writes(self));
    forget_context(self);
    return rc;
}

/* ---- Flushing ---- */

/* Nothing to do, or the kernel takes no more, or took no more when the loop was closed? */
static bool
is_flushed(const HLStream *self)
{
    return self->queue.size == 0 || self->conn_lost || hl_watch_is_set(self->watch, HL_WRITE)
           || self->loop->closed;
}

/* What follows upon send_queue() if that failed, or left something. */
static int
not_all_sent(HLStream *self, int sent)
{
    if (sent < 0) {
        return hl_stream_sending_failed(self);
    }
    hl_watch_set(self->watch, HL_WRITE, (PyObject *)self, on_writable);
    return hl_stream_maybe_pause(self);
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
    PyObject *context = *context_of_writes(self);
    bool blank = context == NULL;
    if (hl_context_enter(loop, context) < 0) {
        PyErr_Clear(); /* a transport's own is entered already, in the middle of an entry */
        blank = false;
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
hl_flush_is_due(HLLoop *loop)
{
    uint64_t now = hl_ticks(), limit = HL_FLUSH_INTERVALS * loop->poll_interval_ticks;
    uint64_t waited = now - loop->unflushed_ticks, entry_took = now - loop->looked_ticks;
    loop->looked_ticks = now;
    return waited >= limit || entry_took >= limit;
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

int
hl_loop_flush_now(HLLoop *loop)
{
    HLContexts outer = hl_contexts_push(loop);
    int rc = hl_loop_flush(loop);
    hl_contexts_pop(loop, outer);
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

static void
flush_later(HLLoop *loop, HLStream *self)
{
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
}

/* As asyncio does it: all goes out at once, or the write fails. */
static int
flush_after_close(HLStream *self)
{
    if (send_queue(self) < 0) {
        return hl_stream_sending_failed(self);
    }
    if (self->queue.size == 0) {
        return 0;
    }
    hl_stream_drop_queue(self);
    return hl_loop_check_closed(self->loop);
}

/* Will no more be written before the next poll?  We say: as many pieces as the last time. */
static bool
is_likely_all(HLStream *self)
{
    if (self->last_write != self->loop->polls) {
        self->last_write = self->loop->polls;
        self->expected_writes = self->writes;
        self->writes = 0;
    }
    return ++self->writes == self->expected_writes;
}

static bool
has_nothing_else_to_do(const HLLoop *loop, const HLStream *self)
{
    bool nothing_unflushed = loop->unflushed == NULL
                             || (loop->unflushed == self && self->next_unflushed == NULL);
    return loop->waited && loop->ready.length == 0 && nothing_unflushed;
}

/* Flush now, or when the entry that runs now is done? */
int
hl_stream_flush_in_time(HLStream *self)
{
    HLLoop *loop = self->loop;
    if (hl_watch_is_set(self->watch, HL_WRITE)) {
        return hl_stream_maybe_pause(self);
    }
    if (self->queue.size >= HL_FLUSH_SIZE || self->queue.size > self->high_water
        || loop->thread_id != PyThread_get_thread_ident()
        || (is_likely_all(self) && has_nothing_else_to_do(loop, self))) {
        if (loop->closed) {
            return flush_after_close(self);
        }
        return capture_context_of_writes(self) < 0 ? -1 : hl_stream_flush(self);
    }
    if (!self->unflushed) {
        flush_later(loop, self);
    }
    if (self->write_context == NULL && capture_context_of_writes(self) < 0) {
        return -1;
    }
    return hl_stream_is_shared(self) ? hl_loop_flush_now(loop) : 0;
}
