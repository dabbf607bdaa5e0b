/* Accepting connections: a Listener waits on a listening socket and makes a transport of each
   connection, with what asyncio's accept task does done on the spot.  TLS servers accept with
   asyncio's own code.

   The loop's watch owns the Listener until remove_reader() or Server.close().  Whatever goes
   wrong with one connection closes that and leaves the listener be; when descriptors or memory
   run out it rests for asyncio's ACCEPT_RETRY_DELAY. */

#include "stream.h"
#include "address.h"

#define HL_ACCEPTS_PER_TURN 64 /* so that connections get their turn */
#define HL_PATIENCE_MAX 16

typedef struct {
    PyObject_HEAD
    PyObject *protocol_factory; /* owned */
    PyObject *sock;             /* owned */
    PyObject *server;           /* owned, may be None */
    PyObject *context;          /* owned, or NULL for an empty one */
    PyObject *family, *proto;   /* owned ints */
    PyObject *type;             /* owned int: SOCK_STREAM | HL_SOCK_NONBLOCK */
    PyObject *backlog;          /* owned int */
    HLCommon common;
    int accepts;      /* how many connections a turn, at most */
    int batch;        /* how many the next time */
    int filled;       /* so many batches in a row were full */
    int patience;     /* how many must have been before more are asked for */
    uint64_t poll;    /* of the last connection: which poll of the loop's */
    bool own_context; /* given: each connection runs in a copy of it (3.15) */
} Listener;

/* ---- The server's set of connections ---- */

/* server.name(transport), where asyncio has passed it since 3.13. */
static int
tell_server(HLState *st, PyObject *server, PyObject *name, PyObject *stream)
{
    PyObject *done = st->server_knows_transports ? PyObject_CallMethodOneArg(server, name, stream)
                                                 : PyObject_CallMethodNoArgs(server, name);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

bool
hl_is_method(PyObject *object, PyObject *name, PyObject *function)
{
    PyObject *method = PyObject_GetAttr(object, name);
    bool same = method != NULL && PyMethod_Check(method)
                && PyMethod_GET_FUNCTION(method) == function;
    Py_XDECREF(method);
    PyErr_Clear();
    return same;
}

/* The set behind server._clients, a WeakSet; or NULL, without an exception. */
static PyObject *
clients_of(HLState *st, PyObject *server)
{
    PyObject *weakset = PyObject_GetAttr(server, st->name._clients);
    PyObject *data = weakset != NULL ? PyObject_GetAttr(weakset, st->name.data) : NULL;
    Py_XDECREF(weakset);
    if (data != NULL && !PySet_CheckExact(data)) {
        Py_CLEAR(data);
    }
    PyErr_Clear();
    return data;
}

/* server._sockets is None; or -1. */
static int
is_closed(HLState *st, PyObject *server)
{
    PyObject *sockets = PyObject_GetAttr(server, st->name._sockets);
    Py_XDECREF(sockets);
    return sockets == NULL ? -1 : sockets == Py_None;
}

/* Only while the server's methods are asyncio's, otherwise they are to be called.  A WeakSet's
   callbacks, written in Python, cost more than the rest of a connection's
   bookkeeping.  A transport takes itself out of the set, also when it is dropped open. */
int
hl_server_attach(HLState *st, PyObject *server, PyObject *stream, PyObject **registration)
{
    PyObject *clients = NULL;
    if (st->server_knows_transports && hl_is_method(server, st->name._attach, st->server_attach)
        && is_closed(st, server) == 0) {
        clients = clients_of(st, server);
    }
    if (clients == NULL) {
        return PyErr_Occurred() ? -1 : tell_server(st, server, st->name._attach, stream);
    }
    *registration = PyWeakref_NewRef(stream, NULL);
    int rc = *registration != NULL ? PySet_Add(clients, *registration) : -1;
    Py_DECREF(clients);
    return rc;
}

int
hl_server_detach(HLState *st, PyObject *server, PyObject *stream, PyObject *registration)
{
    PyObject *clients = NULL;
    if (registration != NULL && hl_is_method(server, st->name._detach, st->server_detach)) {
        clients = clients_of(st, server);
    }
    if (clients == NULL) {
        return PyErr_Occurred() ? -1 : tell_server(st, server, st->name._detach, stream);
    }
    int rc = PySet_Discard(clients, registration);
    Py_DECREF(clients);
    int last = rc < 0 ? -1 : is_closed(st, server);
    if (last > 0) {
        PyObject *weakset = PyObject_GetAttr(server, st->name._clients);
        Py_ssize_t length = weakset != NULL ? PyObject_Size(weakset) : -1;
        Py_XDECREF(weakset);
        last = length < 0 ? -1 : length == 0;
    }
    if (last <= 0) {
        return last;
    }
    PyObject *done = PyObject_CallMethodNoArgs(server, st->name._wakeup);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* ---- One connection ---- */

static int
accept_nonblocking(int fd, HLPeer *peer)
{
    struct sockaddr *address = (struct sockaddr *)&peer->address;
    peer->address.ss_family = AF_UNSPEC;
    peer->length = sizeof(peer->address) - 1;
#ifdef HL_LINUX
    return accept4(fd, address, &peer->length, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
    int conn = accept(fd, address, &peer->length);
    if (conn >= 0) {
        fcntl(conn, F_SETFL, fcntl(conn, F_GETFL) | O_NONBLOCK);
        fcntl(conn, F_SETFD, FD_CLOEXEC);
    }
    return conn;
#endif
}

/* The Python socket that owns conn from now on. */
static PyObject *
make_socket(HLLoop *loop, Listener *self, int conn)
{
    PyObject *fileno = PyLong_FromLong(conn);
    PyObject *args[4] = {self->family, self->type, self->proto, fileno};
    PyObject *sock = fileno != NULL ? hl_socket_make(loop->st, args, 4) : NULL;
    Py_XDECREF(fileno);
    if (sock == NULL && hl_socket_is_known(loop->st)) {
        close(conn); /* else the class may have done so */
    }
    return hl_socket_unblock(loop->st, sock);
}

/* asyncio says so in debug mode only. */
static int
report_failure(HLLoop *loop, PyObject *protocol)
{
    if (hl_is_fatal()) {
        return -1;
    }
    PyObject *exc = hl_take_exception();
    int rc = 0;
    if (loop->debug) {
        PyObject *message = PyUnicode_FromString(
            "Error on transport creation for incoming connection");
        bool made = protocol != NULL && protocol != Py_None;
        PyObject *outer = hl_enter_except(exc);
        rc = message == NULL ? -1
                             : hl_report(loop->st, (PyObject *)loop, message, exc,
                                         made ? "protocol" : NULL, protocol, NULL);
        hl_leave_except(outer);
        Py_XDECREF(message);
    }
    Py_DECREF(exc);
    return rc;
}

static PyObject *
make_transport(HLLoop *loop, Listener *self, PyObject *sock, PyObject *protocol, HLPeer *peer,
               PyObject *context)
{
    PyObject *type = PyObject_GetAttr((PyObject *)loop, loop->st->name._socket_transport);
    if (type == NULL) {
        return NULL;
    }
    PyObject *values[7] = {(PyObject *)loop,
                           sock,
                           protocol,
                           NULL,
                           NULL,
                           self->server,
                           self->own_context ? context : NULL};
    PyObject *transport = hl_stream_accept(loop->st, type, values, peer, &self->common);
    Py_DECREF(type);
    return transport;
}

static int
connect_protocol(HLLoop *loop, Listener *self, PyObject *sock, HLPeer *peer, PyObject *context)
{
    PyObject *protocol = PyObject_CallNoArgs(self->protocol_factory);
    PyObject *transport = NULL;
    if (protocol != NULL) {
        transport = make_transport(loop, self, sock, protocol, peer, context);
    }
    int rc = 0;
    if (transport == NULL) {
        hl_socket_close_quietly(loop->st, sock);
        rc = report_failure(loop, protocol);
    }
    Py_XDECREF(protocol);
    Py_XDECREF(transport);
    return rc;
}

static int
log_connection(HLLoop *loop, Listener *self, PyObject *sock)
{
    PyObject *peer = PyObject_CallMethod(sock, "getpeername", NULL);
    if (peer == NULL) {
        PyErr_Clear();
        peer = Py_NewRef(Py_None);
    }
    PyObject *done = PyObject_CallMethod(loop->st->logger, "debug", "sOOO",
                                         "%r got a new connection from %r: %r", self->server, peer,
                                         sock);
    Py_DECREF(peer);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

static int
begin_connection(HLLoop *loop, Listener *self, int conn, HLPeer *peer)
{
    PyObject *sock = make_socket(loop, self, conn);
    if (sock == NULL) {
        return report_failure(loop, NULL);
    }
    PyObject *context = self->context != NULL ? PyContext_Copy(self->context) : NULL;
    int rc = -1;
    if ((self->context == NULL || context != NULL) && hl_context_enter(loop, context) == 0) {
        rc = loop->debug ? log_connection(loop, self, sock) : 0;
        if (rc == 0) {
            rc = connect_protocol(loop, self, sock, peer, context);
        }
        if (context == NULL) {
            hl_blank_return(loop, NULL);
        }
        hl_context_leave(loop);
    }
    Py_XDECREF(context);
    Py_DECREF(sock);
    return rc;
}

/* ---- The listening socket is readable ---- */

static int
say_and_rest(HLLoop *loop, Listener *self, int fd, PyObject *exc)
{
    PyObject *message = PyUnicode_FromString("socket.accept() out of system resource");
    PyObject *shown = message != NULL ? PyObject_CallOneArg(loop->st->TransportSocket, self->sock)
                                      : NULL;
    PyObject *outer = hl_enter_except(exc);
    int rc = message != NULL && shown != NULL
                 ? hl_report(loop->st, (PyObject *)loop, message, exc, "socket", shown, NULL)
                 : -1;
    hl_leave_except(outer);
    Py_XDECREF(message);
    Py_XDECREF(shown);
    if (rc < 0) {
        return -1;
    }
    if (hl_watch_waiting(loop, fd, HL_READ) != (PyObject *)self) {
        return 0; /* the exception handler has closed the server */
    }
    Py_XDECREF(hl_watch_stop(loop, fd, HL_READ));
    PyObject *again = PyObject_CallMethod(
        (PyObject *)loop, "_listen_later", "OOOOO", self->protocol_factory, self->sock,
        self->server, self->backlog, self->own_context ? self->context : Py_None);
    Py_XDECREF(again);
    return again != NULL ? 0 : -1;
}

/* Out of descriptors or memory: say so, and try again in a while, with the context that all has here. */
static int
rest(HLLoop *loop, Listener *self, int fd)
{
    PyObject *exc = hl_take_exception();
    int rc = hl_context_enter(loop, self->context);
    if (rc == 0) {
        rc = say_and_rest(loop, self, fd, exc);
        if (self->context == NULL) {
            hl_blank_return(loop, NULL);
        }
        hl_context_leave(loop);
    }
    Py_DECREF(exc);
    return rc;
}

static bool
is_out_of_resources(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

/* An accept4() that finds nobody costs as much as one that does: the kernel makes the socket
   first.  So one connection is taken at a time, unless poll after poll tells of more. */
static int
begin_batch(HLLoop *loop, Listener *self)
{
    if (loop->polls - self->poll > 1) {
        self->batch = 1;
        self->filled = 0;
    }
    else if (self->filled >= self->patience) {
        self->batch = self->batch * 2 < self->accepts ? self->batch * 2 : self->accepts;
        self->filled = 0;
    }
    self->poll = loop->polls;
    return self->batch;
}

static void
end_batch(Listener *self, int accepted)
{
    if (accepted == self->batch) {
        self->filled++;
        self->patience = self->batch > 1 ? 1 : self->patience;
    }
    else if (self->batch > 1) {
        self->batch = 1;
        self->filled = 0;
        self->patience = self->patience * 2 < HL_PATIENCE_MAX ? self->patience * 2
                                                              : HL_PATIENCE_MAX;
    }
}

/* -1 once the socket is closed, or nobody is to be accepted any more: a factory may do that. */
static int
listening_fd(HLLoop *loop, Listener *self)
{
    int fd = hl_socket_fileno(loop->st, self->sock);
    if (fd < 0) {
        PyErr_Clear();
        return -1;
    }
    return hl_watch_waiting(loop, fd, HL_READ) == (PyObject *)self ? fd : -1;
}

static int
accept_failed(HLLoop *loop, Listener *self, int fd)
{
    int error = errno;
    PyErr_SetFromErrno(PyExc_OSError);
    return is_out_of_resources(error) ? rest(loop, self, fd) : -1;
}

/* As many connections as a batch has. */
static int
accept_batch(HLLoop *loop, Listener *self)
{
    int fd, accepted = 0, accepts = begin_batch(loop, self);
    while (accepted < accepts && (fd = listening_fd(loop, self)) >= 0) {
        HLPeer peer;
        int conn = accept_nonblocking(fd, &peer);
        if (conn < 0 && errno == ECONNABORTED) {
            accepted++;
            continue;
        }
        if (conn < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
            break;
        }
        if (conn < 0) {
            return accept_failed(loop, self, fd);
        }
        accepted++;
        if (begin_connection(loop, self, conn, &peer) < 0) {
            return -1;
        }
    }
    end_batch(self, accepted);
    return 0;
}

static int
on_acceptable(HLLoop *loop, PyObject *op)
{
    Listener *self = (Listener *)op;
    hl_context_leave(loop);
    if (accept_batch(loop, self) == 0) {
        return 0;
    }
    return hl_handle_report_method(loop, (PyObject *)loop, "_accept_connection", self->context);
}

/* ---- Making ---- */

static int
listener_fill(Listener *self)
{
    PyObject *type = PyObject_GetAttrString(self->sock, "type");
    long number = type != NULL ? PyLong_AsLong(type) : -1;
    Py_XDECREF(type);
    if (number == -1) {
        return -1;
    }
    if ((self->type = PyLong_FromLong(number | HL_SOCK_NONBLOCK)) == NULL
        || (self->family = PyObject_GetAttrString(self->sock, "family")) == NULL
        || (self->proto = PyObject_GetAttrString(self->sock, "proto")) == NULL) {
        return -1;
    }
    return 0;
}

/* What a listening socket of TCP is set to, its connections are as well: one system call for all
   of them.  Others than Linux' differ in that. */
static bool
set_nodelay(PyObject *sock)
{
#if defined(HL_LINUX) && defined(SO_PROTOCOL)
    int protocol = 0, on = 1, fd = PyObject_AsFileDescriptor(sock);
    socklen_t length = sizeof(protocol);
    PyErr_Clear();
    return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0
           && protocol == IPPROTO_TCP
           && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0;
#else
    (void)sock;
    return false;
#endif
}

static PyObject *
listener_new(HLLoop *loop, PyObject **values)
{
    PyTypeObject *type = loop->st->ListenerType;
    long backlog = PyLong_AsLong(values[3]);
    Listener *self = backlog == -1 && PyErr_Occurred() ? NULL
                                                       : (Listener *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->protocol_factory = Py_NewRef(values[0]);
    self->sock = Py_NewRef(values[1]);
    self->server = Py_NewRef(values[2]);
    self->backlog = Py_NewRef(values[3]);
    self->accepts = backlog < 1                     ? 1
                    : backlog < HL_ACCEPTS_PER_TURN ? (int)backlog
                                                    : HL_ACCEPTS_PER_TURN;
    self->batch = self->patience = 1;
    self->common.nodelay = set_nodelay(self->sock);
    self->own_context = values[4] != Py_None;
    int rc = 0;
    if (self->own_context) {
        self->context = Py_NewRef(values[4]);
    }
    else {
        rc = hl_capture_context(&self->context);
    }
    if (rc < 0 || listener_fill(self) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static PyObject *
loop_listen(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"protocol_factory", "sock",    "server",
                                        "backlog",          "context", NULL};
    static const HLParameters parameters = {"_listen", names, 5, 5};
    HLLoop *loop = (HLLoop *)op;
    PyObject *values[5], *previous;
    if (hl_parse(&parameters, args, nargs, kwnames, values) < 0 || hl_loop_check_closed(loop) < 0
        || hl_loop_check_process(loop) < 0) {
        return NULL;
    }
    int fd = PyObject_AsFileDescriptor(values[1]);
    PyObject *listener = fd >= 0 ? listener_new(loop, values) : NULL;
    if (listener == NULL) {
        return NULL;
    }
    int rc = hl_watch_start(loop, fd, HL_READ, listener, on_acceptable, &previous);
    Py_DECREF(listener);
    if (rc < 0) {
        return NULL;
    }
    Py_XDECREF(previous);
    Py_RETURN_NONE;
}

/* ---- Life ---- */

static int
listener_tp_traverse(PyObject *op, visitproc visit, void *arg)
{
    Listener *self = (Listener *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->protocol_factory);
    Py_VISIT(self->sock);
    Py_VISIT(self->server);
    Py_VISIT(self->context);
    return 0;
}

static int
listener_tp_clear(PyObject *op)
{
    Listener *self = (Listener *)op;
    Py_CLEAR(self->protocol_factory);
    Py_CLEAR(self->sock);
    Py_CLEAR(self->server);
    Py_CLEAR(self->context);
    return 0;
}

static void
listener_tp_dealloc(PyObject *op)
{
    Listener *self = (Listener *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    listener_tp_clear(op);
    Py_CLEAR(self->family);
    Py_CLEAR(self->type);
    Py_CLEAR(self->proto);
    Py_CLEAR(self->backlog);
    Py_CLEAR(self->common.name);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef server_methods[] = {
    {"_listen", (PyCFunction)(void (*)(void))loop_listen, METH_FASTCALL | METH_KEYWORDS,
     "_listen($self, protocol_factory, sock, server, backlog, context)\n--\n\n"
     "Accept connections of a listening socket, with a new protocol for each."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot listener_slots[] = {
    {Py_tp_doc, "A listening socket and what to make of its connections."},
    {Py_tp_traverse, listener_tp_traverse},
    {Py_tp_clear, listener_tp_clear},
    {Py_tp_dealloc, listener_tp_dealloc},
    {0, NULL},
};

static PyType_Spec listener_spec = {
    "hotloop._core.Listener",
    sizeof(Listener),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    listener_slots,
};

int
hl_server_setup(PyObject *module, HLState *st)
{
    st->ListenerType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &listener_spec, NULL);
    if (st->ListenerType == NULL) {
        return -1;
    }
    return hl_type_add_methods(st->LoopType, server_methods);
}
