/* What a stream transport tells of its connection: get_extra_info().

   Both addresses are asked for when the transport is made, as asyncio does; after a reset nobody
   could tell them any more.  Connections of one listener mostly have the same address on our
   side, and then share one object; the peer's becomes an object when somebody asks for it.
   asyncio's dict, with its TransportSocket, is made when somebody asks for what lies in it, and from
   then on has everything. */

#include "stream.h"
#include "address.h"

/* ---- Addresses ---- */

/* A socket.socket keeps its descriptor right behind the object head, on every CPython so far.
   True if it is found there. */
static bool
knows_socket_layout(HLState *st, PyObject *sock, int fd)
{
    return fd >= 0 && PyObject_TypeCheck(sock, (PyTypeObject *)st->StockSocket)
           && *(const int *)((const char *)sock + sizeof(PyObject)) == fd;
}

/* sock.method(), or None if the socket has no such address. */
static PyObject *
ask_socket(PyObject *sock, PyObject *method)
{
    PyObject *address = PyObject_CallMethodNoArgs(sock, method);
    if (address == NULL && PyErr_ExceptionMatches(PyExc_OSError)) {
        PyErr_Clear();
        address = Py_NewRef(Py_None);
    }
    return address;
}

static bool
is_known_family(int family)
{
    return family == AF_INET || family == AF_INET6 || family == AF_UNIX;
}

static PyObject *
share_name(HLCommon *common, struct sockaddr_storage *address, socklen_t length)
{
    if (common->name != NULL && common->length == length
        && memcmp(&common->address, address, length) == 0) {
        return Py_NewRef(common->name);
    }
    memcpy(&common->address, address, length); /* before unix_object() puts an end to it */
    common->length = length;
    Py_XSETREF(common->name, hl_address_object((struct sockaddr *)address, length));
    return Py_XNewRef(common->name);
}

/* getsockname(); *family is the address's.  common may be NULL. */
static PyObject *
ask_sockname(HLStream *self, HLCommon *common, int *family)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof(address) - 1;
    address.ss_family = AF_UNSPEC;
    if (getsockname(self->fd, (struct sockaddr *)&address, &length) < 0) {
        return Py_NewRef(Py_None);
    }
    *family = address.ss_family;
    if (!is_known_family(*family) || length >= sizeof(address)) {
        return ask_socket(self->sock, self->st->name.getsockname);
    }
    return common != NULL ? share_name(common, &address, length)
                          : hl_address_object((struct sockaddr *)&address, length);
}

PyObject *
hl_stream_peer_object(HLPeer *peer)
{
    bool known = is_known_family(peer->address.ss_family) && peer->length < sizeof(peer->address);
    return known ? hl_address_object((struct sockaddr *)&peer->address, peer->length) : NULL;
}

static int
keep_peer(HLStream *self, HLPeer *peer)
{
    int family = peer->address.ss_family;
    if ((family == AF_INET || family == AF_INET6)
        && peer->length <= sizeof(self->peer.address.in6)) {
        memcpy(&self->peer.address.in6, &peer->address, peer->length);
        self->peer.address.length = peer->length;
        return 0;
    }
    self->peer.object = hl_stream_peer_object(peer);
    if (self->peer.object == NULL && !PyErr_Occurred()) {
        self->peer.object = ask_socket(self->sock, self->st->name.getpeername);
    }
    return self->peer.object != NULL ? 0 : -1;
}

static int
ask_peer(HLStream *self)
{
    HLPeer peer = {.length = sizeof(peer.address) - 1};
    if (getpeername(self->fd, (struct sockaddr *)&peer.address, &peer.length) < 0) {
        self->peer.object = Py_NewRef(Py_None);
        return 0;
    }
    return keep_peer(self, &peer);
}

/* Borrowed, or NULL, with an exception if that is for want of memory. */
static PyObject *
get_peername(HLStream *self)
{
    if (self->peer.object == NULL && self->peer.address.length > 0) {
        PyObject *object = hl_address_object(&self->peer.address.any, self->peer.address.length);
        Py_XSETREF(self->peer.object, object); /* a finalizer may have asked, too */
    }
    return self->peer.object;
}

/* ---- When the transport is made ---- */

static int
family_of(int fd)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    address.ss_family = AF_UNSPEC;
    return getsockname(fd, (struct sockaddr *)&address, &length) == 0 ? address.ss_family
                                                                      : AF_UNSPEC;
}

int
hl_stream_ask_names(HLStream *self, HLPeer *peer, HLCommon *common, int *family)
{
    HLNames *names = &self->st->name;
    bool layout = knows_socket_layout(self->st, self->sock, self->fd);
    self->sock_fd = layout ? (const int *)((char *)self->sock + sizeof(PyObject)) : &self->fd;
    bool plain = layout && (PyObject *)Py_TYPE(self->sock) == self->st->StockSocket
                 && hl_socket_is_original(self->st) > 0;
    PyErr_Clear();
    *family = plain ? AF_UNSPEC : family_of(self->fd);
    self->sockname = plain ? ask_sockname(self, common, family)
                           : ask_socket(self->sock, names->getsockname);
    if (self->sockname == NULL) {
        return -1;
    }
    if (peer != NULL || plain) {
        return peer != NULL ? keep_peer(self, peer) : ask_peer(self);
    }
    self->peer.object = ask_socket(self->sock, names->getpeername);
    return self->peer.object != NULL ? 0 : -1;
}

/* TCP_NODELAY; what is not TCP refuses. */
void
hl_stream_set_nodelay(HLStream *self, int family)
{
    int on = 1;
    if (family == AF_INET || family == AF_INET6) {
        setsockopt(self->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
}

bool
hl_stream_is_shared(const HLStream *self)
{
    PyObject *shown = NULL;
    if (self->extra != NULL) {
        shown = PyDict_GetItemWithError(self->extra, self->st->name.socket);
    }
    return Py_REFCNT(self->sock) > (shown != NULL ? 2 : 1)
           || (shown != NULL && Py_REFCNT(shown) > 1);
}

/* ---- asyncio's dict ---- */

static int
fill_extra(HLStream *self, PyObject *extra)
{
    HLNames *names = &self->st->name;
    PyObject *sock = self->sock != NULL ? self->sock : self->closed_sock;
    PyObject *type = self->loop == NULL
                         ? Py_NewRef(self->st->TransportSocket)
                         : PyObject_GetAttr((PyObject *)self->loop, names->_transport_socket_type);
    PyObject *shown = type != NULL ? PyObject_CallOneArg(type, hl_or_none(sock)) : NULL;
    Py_XDECREF(type);
    int rc = shown != NULL ? PyDict_SetItem(extra, names->socket, shown) : -1;
    Py_XDECREF(shown);
    if (rc < 0 || PyDict_SetItem(extra, names->sockname, self->sockname) < 0) {
        return -1;
    }
    int known = PyDict_Contains(extra, names->peername);
    if (known != 0) {
        return known < 0 ? -1 : 0;
    }
    PyObject *peername = get_peername(self);
    return peername != NULL ? PyDict_SetItem(extra, names->peername, peername) : -1;
}

static void
drop_names(HLStream *self)
{
    Py_CLEAR(self->sockname);
    Py_CLEAR(self->peer.object);
    self->peer.address.length = 0;
    Py_CLEAR(self->closed_sock);
}

int
hl_stream_use_extra(HLStream *self, PyObject *extra)
{
    if (self->sockname != NULL && fill_extra(self, extra) < 0) {
        return -1;
    }
    drop_names(self);
    Py_XSETREF(self->extra, Py_NewRef(extra));
    return 0;
}

/* Borrowed; NULL, maybe without an exception, if there is none. */
static PyObject *
get_dict(HLStream *self)
{
    if (self->extra == NULL && self->sockname != NULL) {
        PyObject *extra = PyDict_New();
        if (extra != NULL) {
            hl_stream_use_extra(self, extra);
            Py_DECREF(extra);
        }
    }
    return self->extra;
}

/* ---- Methods ---- */

/* The addresses need no dict.  Borrowed, or NULL, maybe with an exception. */
static PyObject *
find_address(HLStream *self, PyObject *name)
{
    if (self->extra != NULL) {
        return NULL;
    }
    return hl_is_name(name, self->st->name.peername)   ? get_peername(self)
           : hl_is_name(name, self->st->name.sockname) ? self->sockname
                                                       : NULL;
}

/* Would the dict, if there were one, not have that name?  Every server asks for "sslcontext". */
static bool
is_unheard_of(HLStream *self, PyObject *name)
{
    return self->extra == NULL && PyUnicode_CheckExact(name)
           && !hl_is_name(name, self->st->name.socket);
}

static PyObject *
stream_get_extra_info(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"name", "default", NULL};
    static const HLParameters parameters = {"get_extra_info", names, 2, 1};
    HLStream *self = (HLStream *)op;
    PyObject *values[2];
    if (hl_parse(&parameters, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    PyObject *value = find_address(self, values[0]);
    if (value != NULL || PyErr_Occurred()) {
        return Py_XNewRef(value);
    }
    if (hl_is_name(values[0], self->st->name.socket) && hl_stream_flush(self) < 0) {
        return NULL; /* who asks for the socket may shut it down */
    }
    PyObject *extra = is_unheard_of(self, values[0]) ? NULL : get_dict(self);
    value = extra != NULL ? PyDict_GetItemWithError(extra, values[0]) : NULL;
    if (value == NULL) {
        if (PyErr_Occurred()) {
            return NULL;
        }
        value = hl_or_none(values[1]);
    }
    return Py_NewRef(value);
}

PyObject *
hl_stream_get_extra(PyObject *op, void *Py_UNUSED(closure))
{
    PyObject *extra = get_dict((HLStream *)op);
    return extra == NULL && PyErr_Occurred() ? NULL : Py_NewRef(hl_or_none(extra));
}

int
hl_stream_set_extra(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL || !PyDict_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "_extra must be a dict");
        return -1;
    }
    drop_names((HLStream *)op);
    Py_XSETREF(((HLStream *)op)->extra, Py_NewRef(value));
    return 0;
}

PyMethodDef hl_stream_info_methods[] = {
    {"get_extra_info", (PyCFunction)(void (*)(void))stream_get_extra_info,
     METH_FASTCALL | METH_KEYWORDS,
     "get_extra_info($self, /, name, default=None)\n--\n\n"
     "Return 'socket', 'sockname', 'peername' or what else is known by that name."},
    {NULL, NULL, 0, NULL},
};
