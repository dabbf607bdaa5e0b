/* Calls of socket methods: what sock.c waits for and sockcalls.c does. */
#ifndef HL_SOCK_H
#define HL_SOCK_H

#include "hotloop.h"

typedef struct HLSocketCall HLSocketCall;

typedef struct {
    size_t method; /* the offset in HLNames of the method of socket.socket that is meant */
    HLSide side;
    /* May attempt() have these arguments?  NULL if it leaves them to Python's method. */
    bool (*takes)(const HLSocketCall *call);
    /* The result; or NULL with *blocked set, or with an exception set. */
    PyObject *(*attempt)(HLSocketCall *call, bool *blocked);
} HLSocketOperation;

/* The references are borrowed from the caller, or owned by the SocketWait. */
struct HLSocketCall {
    const HLSocketOperation *operation;
    HLLoop *loop;
    HLState *st;
    PyObject *sock;
    PyObject *args[2];
    Py_ssize_t sent;
    int fd;     /* sock's, at each attempt: it may have been closed meanwhile */
    bool again; /* not the first attempt */
};

/* ---- From sockcalls.c ---- */

/* Set call->fd to sock.fileno(), which is -1 once it was closed.  -1 with an exception set. */
int hl_socket_find_fd(HLSocketCall *call);

extern const HLSocketOperation hl_recv_operation, hl_recv_into_operation, hl_recvfrom_operation,
    hl_recvfrom_into_operation, hl_sendall_operation, hl_sendto_operation, hl_accept_operation,
    hl_connect_operation;
/* The name of the method of socket.socket that is called, or that a system call stands for. */
static inline PyObject *
hl_socket_method(const HLSocketCall *call)
{
    return hl_name_at(call->st, call->operation->method);
}

#endif
