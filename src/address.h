/* Socket addresses of the families that datagrams are sent to without Python's help. */
#ifndef HL_ADDRESS_H
#define HL_ADDRESS_H

#include <Python.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

typedef struct {
    socklen_t length;
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
    };
} HLAddress;

/* An address as Python sees it and as the kernel does. */
typedef struct {
    PyObject *object; /* owned, or NULL */
    HLAddress address;
} HLKnownAddress;

/* Parse the address of an AF_INET or AF_INET6 socket.  False, without exception, for any that is
   not an exact tuple of a numeric host and numbers in range: those are the socket module's. */
bool hl_address_parse(int family, PyObject *address, HLAddress *out);
/* What socket.recvfrom() returns for an AF_INET, AF_INET6 or AF_UNIX address; the last has to lie
   in a sockaddr_storage that has room for one byte more. */
PyObject *hl_address_object(struct sockaddr *address, socklen_t length);

#endif
