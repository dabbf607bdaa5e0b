/* The datagram transport: sending and flow control.  See datagram.c for the whole.

   Each datagram is tried at once, unless others wait already; what the kernel does not take is
   queued, and goes out in batches when the descriptor is writable. */

#include "datagram.h"
#include <sys/uio.h>

#define BATCH_MAX 32 /* datagrams in one system call */

static int on_writable(HLLoop *loop, PyObject *self);

/* ---- Flow control ---- */

/* pause_writing() or resume_writing(), which must not fail. */
static int
call_flow_control(PyObject *self, PyObject *method, const char *complaint)
{
    if (hl_datagram_call(hl_datagram(self), method, NULL, NULL) == 0) {
        return 0;
    }
    if (hl_is_fatal()) {
        return -1;
    }
    PyObject *exc = hl_take_exception();
    int rc = hl_datagram_complain(self, complaint, exc);
    Py_DECREF(exc);
    return rc;
}

int
hl_datagram_check_pause(PyObject *self)
{
    HLDatagramTransport *t = hl_datagram(self);
    if ((double)t->buffer_size <= t->high_water || t->protocol_paused) {
        return 0;
    }
    t->protocol_paused = true;
    return call_flow_control(self, t->st->name.pause_writing, "protocol.pause_writing() failed");
}

static int
check_resume(PyObject *self)
{
    HLDatagramTransport *t = hl_datagram(self);
    if (!t->protocol_paused || (double)t->buffer_size > t->low_water) {
        return 0;
    }
    t->protocol_paused = false;
    return call_flow_control(self, t->st->name.resume_writing, "protocol.resume_writing() failed");
}

/* ---- Sending ---- */

static int
start_writing(PyObject *self)
{
    HLDatagramTransport *t = hl_datagram(self);
    if (hl_datagram_watch(self, HL_WRITE, on_writable, &t->write_context) < 0) {
        return -1;
    }
    t->writing = true;
    return 0;
}

void
hl_datagram_stop_writing(PyObject *self)
{
    HLDatagramTransport *t = hl_datagram(self);
    if (t->writing) {
        t->writing = false;
        hl_watch_unset(t->watch, HL_WRITE);
    }
}

/* Where to in the kernel's terms; NULL if only the socket module can tell. */
static const HLAddress *
destination(HLDatagramTransport *t, PyObject *addr, HLAddress *parsed)
{
    if (addr == t->target.object) {
        return &t->target.address;
    }
    if (addr == t->peer.object) {
        return &t->peer.address;
    }
    return hl_address_parse(t->family, addr, parsed) ? parsed : NULL;
}

/* The three results of an attempt to send: 1 sent, 0 not now, -1 with an exception set. */

static int
send_by_method(HLDatagramTransport *t, PyObject *data, PyObject *addr)
{
    PyObject *sock = Py_NewRef(t->sock);
    PyObject *sent = t->connected
                         ? PyObject_CallMethodOneArg(sock, t->st->name.send, data)
                         : PyObject_CallMethodObjArgs(sock, t->st->name.sendto, data, addr, NULL);
    Py_DECREF(sock);
    if (sent != NULL) {
        Py_DECREF(sent);
        return 1;
    }
    if (PyErr_ExceptionMatches(PyExc_BlockingIOError)
        || PyErr_ExceptionMatches(PyExc_InterruptedError)) {
        PyErr_Clear();
        return 0;
    }
    return -1;
}

static int
send_bytes(HLDatagramTransport *t, const void *data, size_t size, const HLAddress *to)
{
    ssize_t sent;
    do {
        sent = sendto(t->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL, to != NULL ? &to->any : NULL,
                      to != NULL ? to->length : 0);
    } while (sent < 0 && errno == EINTR && PyErr_CheckSignals() == 0);
    if (sent >= 0) {
        return 1;
    }
    if (PyErr_Occurred()) {
        return -1;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
        return 0;
    }
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/* socket.sendto() raises an auditing event; what bypasses it does so too. */
static int
audit(HLDatagramTransport *t, PyObject *addr)
{
    return t->connected ? 0 : PySys_Audit("socket.sendto", "OO", t->sock, addr);
}

static int
send_one(HLDatagramTransport *t, PyObject *data, PyObject *addr)
{
    HLAddress parsed;
    const HLAddress *to = NULL;
    if (!hl_datagram_owns_descriptor(t)
        || (!t->connected && (to = destination(t, addr, &parsed)) == NULL)) {
        return send_by_method(t, data, addr);
    }
    if (audit(t, addr) < 0) {
        return -1;
    }
    if (t->sock == NULL
        || !hl_datagram_owns_descriptor(t)) { /* by now, a hook may have closed it */
        return t->sock == NULL ? 0 : send_by_method(t, data, addr);
    }
    if (PyBytes_CheckExact(data)) {
        return send_bytes(t, PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data), to);
    }
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    int rc = send_bytes(t, view.buf, (size_t)view.len, to);
    PyBuffer_Release(&view);
    return rc;
}

static int
enqueue(PyObject *self, PyObject *data, PyObject *addr)
{
    HLDatagramTransport *t = hl_datagram(self);
    PyObject *copy = PyBytes_FromObject(data);
    size_t size = copy != NULL ? (size_t)PyBytes_GET_SIZE(copy) : 0;
    if (hl_datagram_append(&t->sending, copy, Py_NewRef(addr)) < 0) {
        return -1;
    }
    t->buffer_size += size + HL_DATAGRAM_HEADER;
    return hl_datagram_check_pause(self);
}

/* Is addr where everything goes?  0, or -1 with an exception set. */
static int
check_address(PyObject *addr, PyObject *everything)
{
    if (addr == Py_None || addr == everything) {
        return 0;
    }
    int equal = PyObject_RichCompareBool(addr, everything, Py_EQ);
    if (equal == 0) {
        PyErr_Format(PyExc_ValueError, "Invalid address: must be None or %S", everything);
    }
    return equal > 0 ? 0 : -1;
}

/* Asked to send what can reach nobody any more. */
static int
count_lost(HLDatagramTransport *t)
{
    return hl_drop_write(t->st, &t->conn_lost, "socket.send() raised exception.");
}

static int
send_to(PyObject *self, PyObject *data, PyObject *addr)
{
    HLDatagramTransport *t = hl_datagram(self);
    if (t->sock == NULL || (t->conn_lost && t->has_address)) {
        return count_lost(t);
    }
    if (t->sending.length == 0) {
        int sent = send_one(t, data, addr);
        if (sent < 0) {
            return hl_datagram_handle_error(self, "Fatal write error on datagram transport");
        }
        if (sent > 0) {
            return 0;
        }
        if (t->sock == NULL || start_writing(self) < 0) {
            return t->sock == NULL ? 0 : -1;
        }
    }
    return enqueue(self, data, addr);
}

int
hl_datagram_send(PyObject *self, PyObject *data, PyObject *addr)
{
    HLDatagramTransport *t = hl_datagram(self);
    if (!t->has_address) {
        return send_to(self, data, addr);
    }
    PyObject *everything = Py_NewRef(t->address); /* _address can be set meanwhile */
    int rc = check_address(addr, everything) == 0 ? send_to(self, data, everything) : -1;
    Py_DECREF(everything);
    return rc;
}

/* ---- Sending what had to wait ---- */

static HLDatagram
pop_sending(HLDatagramTransport *t)
{
    HLDatagram item = hl_datagram_pop(&t->sending);
    t->buffer_size -= (size_t)PyBytes_GET_SIZE(item.data) + HL_DATAGRAM_HEADER;
    return item;
}

#ifdef HL_LINUX
static bool
fill_message(HLDatagramTransport *t, HLDatagram *item, struct mmsghdr *message, struct iovec *part,
             HLAddress *parsed)
{
    const HLAddress *to = t->connected ? NULL : destination(t, item->addr, parsed);
    if (to == NULL && !t->connected) {
        return false;
    }
    *part = (struct iovec){PyBytes_AS_STRING(item->data), (size_t)PyBytes_GET_SIZE(item->data)};
    *message = (struct mmsghdr){.msg_hdr = {.msg_iov = part, .msg_iovlen = 1}};
    if (to != NULL) {
        message->msg_hdr.msg_name = (void *)&to->any;
        message->msg_hdr.msg_namelen = to->length;
    }
    return true;
}

/* The first of the queue is gone, though it was not sent.  Always -1, with an exception set. */
static int
batch_failed(HLDatagramTransport *t)
{
    int error = errno;
    HLDatagram item = pop_sending(t);
    hl_datagram_release(&item);
    errno = error;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/* Send the first of the queue, as many as one system call takes.  Returns how many went out; 0
   if that has to be found out by sending the first one alone; -1 if sending it failed. */
static int
send_batch(HLDatagramTransport *t)
{
    struct mmsghdr messages[BATCH_MAX];
    struct iovec parts[BATCH_MAX];
    HLAddress parsed[BATCH_MAX];
    int count = 0;
    while (count < BATCH_MAX && (size_t)count < t->sending.length
           && fill_message(t, hl_datagram_at(&t->sending, (size_t)count), &messages[count],
                           &parts[count], &parsed[count])) {
        count++;
    }
    if (count < 2 || !hl_datagram_owns_descriptor(t)) {
        return 0;
    }
    int sent = sendmmsg(t->fd, messages, (unsigned)count, MSG_DONTWAIT | MSG_NOSIGNAL);
    bool failed = sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR;
    return failed ? batch_failed(t) : sent > 0 ? sent : 0;
}
#else
static int
send_batch(HLDatagramTransport *Py_UNUSED(t))
{
    return 0;
}
#endif

static int
push_back(HLDatagramTransport *t, HLDatagram *item)
{
    t->buffer_size += (size_t)PyBytes_GET_SIZE(item->data) + HL_DATAGRAM_HEADER;
    return hl_datagram_push_front(&t->sending, item);
}

/* As send_one(), for the first of the queue; it is gone if it was sent or will never be. */
static int
send_first(HLDatagramTransport *t)
{
    HLDatagram item = pop_sending(t);
    int sent = send_one(t, item.data, item.addr);
    if (sent == 0) {
        return push_back(t, &item);
    }
    hl_datagram_release(&item);
    return sent;
}

int
hl_datagram_write(HLLoop *Py_UNUSED(loop), PyObject *self)
{
    HLDatagramTransport *t = hl_datagram(self);
    while (t->sending.length > 0 && t->sock != NULL) {
        int sent = send_batch(t);
        for (int i = 0; i < sent && t->sending.length > 0; i++) {
            HLDatagram item = pop_sending(t);
            hl_datagram_release(&item);
        }
        if (sent > 0) {
            continue;
        }
        sent = sent == 0 ? send_first(t) : -1;
        if (sent < 0) {
            return hl_datagram_handle_error(self, "Fatal write error on datagram transport");
        }
        if (sent == 0) {
            break;
        }
    }
    if (check_resume(self) < 0) {
        return -1;
    }
    if (t->sending.length > 0 || t->sock == NULL) {
        return 0;
    }
    hl_datagram_stop_writing(self);
    return t->closing ? hl_datagram_connection_lost(self, Py_None) : 0;
}

static int
on_writable(HLLoop *loop, PyObject *self)
{
    HLDatagramTransport *t = hl_datagram(self);
    return t->writing ? hl_handle_run_method(loop, self, hl_datagram_write, "_sendto_ready",
                                             &t->write_context)
                      : 0;
}
