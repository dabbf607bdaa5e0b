/* The datagram transport: receiving.  See datagram.c for the whole.

   Many datagrams are taken from the kernel at once, but handed out one by one: as soon as the
   program has anything else to do, the rest waits at the end of the ready ring, so that what a
   protocol schedules runs before its next datagram, as if each had been waited for. */

#include "datagram.h"
#include <sys/uio.h>

#define BATCH_MAX 32         /* datagrams in one system call */
#define BATCH_PROBE 8        /* how often to see if more than one has come */
#define INTERNET_MAX 0x10000 /* no UDP datagram is longer */
#define UNIX_BATCH_MAX 8

static int on_continue(HLLoop *loop, PyObject *self);
static int on_readable(HLLoop *loop, PyObject *self);

/* ---- Taking from the kernel ---- */

typedef struct {
    struct sockaddr_storage addrs[BATCH_MAX];
    size_t lengths[BATCH_MAX];
    socklen_t addr_lengths[BATCH_MAX];
    char data[BATCH_MAX * INTERNET_MAX]; /* touched only as far as datagrams are that long */
} Scratch;

_Static_assert(UNIX_BATCH_MAX *HL_DATAGRAM_MAX <= BATCH_MAX * INTERNET_MAX, "scratch too small");

/* The scratch is lent out while it is in use: what is called meanwhile may run the loop. */
static Scratch *
take_scratch(HLLoop *loop)
{
    Scratch *scratch = loop->datagram_scratch;
    loop->datagram_scratch = NULL;
    if (scratch == NULL && (scratch = PyMem_RawMalloc(sizeof(Scratch))) == NULL) {
        PyErr_NoMemory();
    }
    return scratch;
}

static void
give_scratch(HLLoop *loop, Scratch *scratch)
{
    PyMem_RawFree(loop->datagram_scratch);
    loop->datagram_scratch = scratch;
}

static int
receive_one(HLDatagramTransport *t, Scratch *scratch, size_t size, int i)
{
    scratch->addr_lengths[i] = sizeof(scratch->addrs[i]);
    ssize_t n = recvfrom(t->fd, scratch->data + (size_t)i * size, size, MSG_DONTWAIT,
                         (struct sockaddr *)&scratch->addrs[i], &scratch->addr_lengths[i]);
    scratch->lengths[i] = (size_t)n;
    return n >= 0 ? 1 : -1;
}

/* Returns how many came, or -1 with errno set. */
#ifdef HL_LINUX
static int
receive_many(HLDatagramTransport *t, Scratch *scratch, size_t size, int count)
{
    struct mmsghdr messages[BATCH_MAX];
    struct iovec parts[BATCH_MAX];
    memset(messages, 0, (size_t)count * sizeof(messages[0]));
    for (int i = 0; i < count; i++) {
        parts[i] = (struct iovec){scratch->data + (size_t)i * size, size};
        messages[i].msg_hdr.msg_name = &scratch->addrs[i];
        messages[i].msg_hdr.msg_namelen = sizeof(scratch->addrs[i]);
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    int n = recvmmsg(t->fd, messages, (unsigned)count, MSG_DONTWAIT, NULL);
    for (int i = 0; i < n; i++) {
        scratch->lengths[i] = messages[i].msg_len;
        scratch->addr_lengths[i] = messages[i].msg_hdr.msg_namelen;
    }
    return n;
}
#else
static int
receive_many(HLDatagramTransport *t, Scratch *scratch, size_t size, int count)
{
    int n = 0;
    while (n < count && receive_one(t, scratch, size, n) > 0) {
        n++;
    }
    return n > 0 ? n : -1;
}
#endif

/* Who sent it; most often the same as last time, and then the same tuple. */
static PyObject *
sender(HLDatagramTransport *t, struct sockaddr_storage *address, socklen_t length)
{
    HLKnownAddress *peer = &t->peer;
    if (peer->object != NULL && length == peer->address.length
        && memcmp(address, &peer->address.any, length) == 0) {
        return Py_NewRef(peer->object);
    }
    PyObject *object = hl_address_object((struct sockaddr *)address, length);
    bool internet = address->ss_family == AF_INET || address->ss_family == AF_INET6;
    if (object != NULL && length > 0 && internet) {
        Py_XSETREF(peer->object, Py_NewRef(object));
        peer->address.length = length;
        memcpy(&peer->address.any, address, length);
    }
    return object;
}

static int
keep_received(HLDatagramTransport *t, Scratch *scratch, size_t size, int count)
{
    for (int i = 0; i < count; i++) {
        PyObject *addr = sender(t, &scratch->addrs[i], scratch->addr_lengths[i]);
        PyObject *data = addr == NULL ? NULL
                                      : PyBytes_FromStringAndSize(scratch->data + (size_t)i * size,
                                                                  (Py_ssize_t)scratch->lengths[i]);
        if (hl_datagram_append(&t->received, data, addr) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Ask for more at once the more there are, but do not ask for two when there is never one more:
   the kernel looks again in vain. */
static void
adapt_batch(HLDatagramTransport *t, int count, int limit)
{
    if (count > 1) {
        t->single = 0;
    }
    if (count == t->batch && count > 1) {
        t->batch = (unsigned char)(2 * count < limit ? 2 * count : limit);
    }
    else if (count <= t->batch / 2) {
        t->batch = (unsigned char)count;
    }
    if (count == 1 && ++t->single % BATCH_PROBE == 0) {
        t->batch = 2;
    }
}

/* Move what the kernel has to t->received: all of it, or as much as the batch allows.  Returns
   -1 with an exception set; to find nothing is no error. */
static int
receive(HLDatagramTransport *t)
{
    bool local = t->family == AF_UNIX;
    size_t size = local || t->batch == 1 ? HL_DATAGRAM_MAX : INTERNET_MAX;
    size = (size_t)t->max_size < size ? (size_t)t->max_size : size;
    HLLoop *loop = t->loop;
    Scratch *scratch = take_scratch(loop);
    if (scratch == NULL) {
        return -1;
    }
    int n;
    do {
        n = t->batch == 1 ? receive_one(t, scratch, size, 0)
                          : receive_many(t, scratch, size, t->batch);
    } while (n < 0 && errno == EINTR && PyErr_CheckSignals() == 0);
    int rc = 0;
    if (n > 0) {
        adapt_batch(t, n, local ? UNIX_BATCH_MAX : BATCH_MAX);
        rc = keep_received(t, scratch, size, n);
    }
    else if (PyErr_Occurred()) {
        rc = -1;
    }
    else if (errno != EAGAIN && errno != EWOULDBLOCK) {
        PyErr_SetFromErrno(PyExc_OSError);
        rc = -1;
    }
    give_scratch(loop, scratch);
    return rc;
}

/* ---- Handing out ---- */

/* Must the rest of the datagrams wait, because a program would see them come too early? */
static bool
has_other_work(HLLoop *loop)
{
    return loop->ready.length > 0 || loop->stopping || loop->debug || hl_poll_is_due(loop);
}

static int
deliver(HLDatagramTransport *t)
{
    HLLoop *loop = t->loop;
    while (t->received.length > 0 && t->reading) {
        HLDatagram item = hl_datagram_pop(&t->received);
        int rc = hl_datagram_call(t, t->st->name.datagram_received, item.data, item.addr);
        hl_datagram_release(&item);
        if (rc < 0) {
            return -1;
        }
        if (has_other_work(loop)) {
            break;
        }
    }
    return 0;
}

static bool
is_ours_to_receive(HLDatagramTransport *t)
{
    return hl_datagram_owns_descriptor(t) && (size_t)t->max_size <= HL_DATAGRAM_MAX;
}

/* data, addr = sock.recvfrom(max_size): for other kinds of sockets, and for their exceptions. */
static int
receive_by_method(HLDatagramTransport *t)
{
    PyObject *sock = Py_NewRef(t->sock);
    PyObject *pair = PyObject_CallMethod(sock, "recvfrom", "n", t->max_size);
    PyObject *both = pair != NULL ? PySequence_Tuple(pair) : NULL;
    Py_DECREF(sock);
    Py_XDECREF(pair);
    int rc = -1;
    if (both != NULL && PyTuple_GET_SIZE(both) != 2) {
        PyErr_SetString(PyExc_ValueError, "recvfrom() must return two values");
    }
    else if (both != NULL) {
        rc = hl_datagram_append(&t->received, Py_NewRef(PyTuple_GET_ITEM(both, 0)),
                                Py_NewRef(PyTuple_GET_ITEM(both, 1)));
    }
    else if (PyErr_ExceptionMatches(PyExc_BlockingIOError)
             || PyErr_ExceptionMatches(PyExc_InterruptedError)) {
        PyErr_Clear();
        rc = 0;
    }
    Py_XDECREF(both);
    return rc;
}

int
hl_datagram_read(HLLoop *Py_UNUSED(loop), PyObject *self)
{
    HLDatagramTransport *t = hl_datagram(self);
    if (t->conn_lost || t->sock == NULL) {
        return 0;
    }
    if (t->received.length == 0
        && (is_ours_to_receive(t) ? receive(t) : receive_by_method(t)) < 0) {
        return hl_datagram_handle_error(self, "Fatal read error on datagram transport");
    }
    return deliver(t);
}

static int
continue_soon(PyObject *self)
{
    HLDatagramTransport *t = hl_datagram(self);
    if (t->received.length == 0 || !t->reading || t->continues) {
        return 0;
    }
    t->continues = true;
    return hl_loop_push_io(t->loop, self, on_continue);
}

static int
on_readable(HLLoop *loop, PyObject *self)
{
    HLDatagramTransport *t = hl_datagram(self);
    if (!t->reading || t->continues) {
        return 0;
    }
    int rc = hl_handle_run_method(loop, self, hl_datagram_read, "_read_ready", &t->read_context);
    PyObject *raised = hl_take_exception();
    if (continue_soon(self) < 0) {
        PyErr_WriteUnraisable(self);
    }
    hl_give_exception(raised);
    return rc;
}

/* Comes once more than there is something to hand out: till then on_readable() does nothing, which
   may be next in the ready ring, and the program would get two datagrams in one turn. */
static int
on_continue(HLLoop *loop, PyObject *self)
{
    HLDatagramTransport *t = hl_datagram(self);
    if (!t->reading || t->received.length == 0) {
        t->continues = false;
        return 0;
    }
    int rc = hl_handle_run_method(loop, self, hl_datagram_read, "_read_ready", &t->read_context);
    t->continues = t->reading;
    PyObject *raised = hl_take_exception();
    if (t->continues && hl_loop_push_io(loop, self, on_continue) < 0) {
        t->continues = false;
        PyErr_WriteUnraisable(self);
    }
    hl_give_exception(raised);
    return rc;
}

int
hl_datagram_start_reading(PyObject *self)
{
    HLDatagramTransport *t = hl_datagram(self);
    if (t->closing || t->paused) {
        return 0;
    }
    if (hl_datagram_watch(self, HL_READ, on_readable, &t->read_context) < 0) {
        return -1;
    }
    t->reading = true;
    return continue_soon(self);
}

void
hl_datagram_stop_reading(PyObject *self)
{
    HLDatagramTransport *t = hl_datagram(self);
    if (t->reading) {
        t->reading = false;
        hl_watch_unset(t->watch, HL_READ);
    }
}
