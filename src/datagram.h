/* The datagram transport's object and what its four files share. */
#ifndef HL_DATAGRAM_H
#define HL_DATAGRAM_H

#include "hotloop.h"
#include "address.h"

/* Since 3.13 a queued datagram counts 8 bytes more than its data, and may be empty. */
#if PY_VERSION_HEX >= 0x030D0000
#define HL_DATAGRAM_HEADER 8
#else
#define HL_DATAGRAM_HEADER 0
#endif
/* What asyncio hands to recvfrom(): what is longer is cut off. */
#define HL_DATAGRAM_MAX (256 * 1024)

typedef struct {
    PyObject *data; /* owned: exact bytes */
    PyObject *addr; /* owned */
} HLDatagram;

/* A ring, first in first out. */
typedef struct {
    HLDatagram *items; /* owned */
    size_t capacity;   /* a power of two, or 0 */
    size_t head;
    size_t length;
} HLDatagramQueue;

typedef struct {
    HLState *st;             /* borrowed: lives as long as our types */
    HLLoop *loop;            /* owned; NULL after connection_lost() */
    PyObject *sock;          /* owned: the descriptor's one owner; NULL after connection_lost() */
    PyObject *protocol;      /* owned; NULL after connection_lost() */
    PyObject *extra;         /* owned */
    PyObject *address;       /* owned: where everything goes, or None */
    PyObject *read_context;  /* owned: where datagram_received() runs, while reading */
    PyObject *write_context; /* owned: where resume_writing() runs, while writing */
    PyObject *high, *low;    /* owned: the limits as they were given */
    double high_water, low_water;
    HLDatagramQueue received; /* taken from the kernel, not yet given to the protocol */
    HLDatagramQueue sending;
    size_t buffer_size;    /* of what is being sent, with headers */
    HLKnownAddress target; /* address, if it is numeric */
    HLKnownAddress peer;   /* who sent the last datagram */
    PyObject *dict;        /* owned, or NULL */
    PyObject *weakrefs;
    Py_ssize_t max_size; /* of what is received; the rest of a datagram is lost */
    HLWatch *watch;      /* NULL if the loop or another transport took it */
    int fd;
    int family;
    Py_ssize_t conn_lost; /* connection_lost() is due; counts what is sent nevertheless */
    unsigned char batch;  /* how many datagrams to ask for at once */
    unsigned char single; /* how many times in a row just one had come */
    bool has_address;
    bool connected; /* has a peer name */
    bool native;    /* a plain socket of a family we know */
    bool closing;
    bool paused;
    bool protocol_paused;
    bool reading;   /* watched, and the protocol wants datagrams */
    bool writing;   /* watched for sending */
    bool continues; /* queued in the ready ring for what is in received */
} HLDatagramTransport;

/* Where the payload lies: behind the stock type's fields, which stay empty.  A fact of the
   process; written at each import, always with the same value. */
extern Py_ssize_t hl_datagram_offset;

static inline HLDatagramTransport *
hl_datagram(PyObject *self)
{
    return (HLDatagramTransport *)((char *)self + hl_datagram_offset);
}

static inline HLDatagram *
hl_datagram_at(const HLDatagramQueue *queue, size_t index)
{
    return &queue->items[(queue->head + index) & (queue->capacity - 1)];
}

/* ---- From datagram.c ---- */

/* Steals both references, also if it fails; one that is NULL is a failure. */
int hl_datagram_append(HLDatagramQueue *queue, PyObject *data, PyObject *addr);
/* Put it in front of all others.  Steals the references, also if it fails. */
int hl_datagram_push_front(HLDatagramQueue *queue, HLDatagram *item);
/* The caller takes over the references. */
HLDatagram hl_datagram_pop(HLDatagramQueue *queue);
void hl_datagram_release(HLDatagram *item);
void hl_datagram_clear_queue(HLDatagramQueue *queue);

/* Call the protocol's method; first and second may be NULL. */
int hl_datagram_call(HLDatagramTransport *t, PyObject *method, PyObject *first, PyObject *second);
/* Tell the loop's exception handler.  -1 if that raised. */
int hl_datagram_complain(PyObject *self, const char *message, PyObject *exc);
/* A system call or a method of the socket raised what is set: an OSError is the protocol's to
   know, anything else ends the transport.  -1 with an exception for the caller. */
int hl_datagram_handle_error(PyObject *self, const char *message);

/* From now on queue self when the descriptor is ready; *context: a copy of the current one. */
int hl_datagram_watch(PyObject *self, HLSide side, HLOnReady on_ready, PyObject **context);
/* Give up the descriptor's watch. */
void hl_datagram_unwatch(PyObject *self);
/* Is the descriptor still the one that our socket has? */
bool hl_datagram_owns_descriptor(HLDatagramTransport *t);

/* Where everything goes from now on, if address is true. */
int hl_datagram_set_address(HLDatagramTransport *t, PyObject *address);
int hl_datagram_close(PyObject *self);
int hl_datagram_abort(PyObject *self, PyObject *exc);
/* Tell the protocol of the end and close the socket. */
int hl_datagram_connection_lost(PyObject *self, PyObject *exc);

/* ---- From datagramread.c ---- */

/* Have the protocol get datagrams, unless paused or closing. */
int hl_datagram_start_reading(PyObject *self);
void hl_datagram_stop_reading(PyObject *self);
/* One round of receiving, in the context for it. */
int hl_datagram_read(HLLoop *loop, PyObject *self);

/* ---- From datagramwrite.c ---- */

int hl_datagram_send(PyObject *self, PyObject *data, PyObject *addr);
/* Send what is queued, as far as the kernel takes it. */
int hl_datagram_write(HLLoop *loop, PyObject *self);
void hl_datagram_stop_writing(PyObject *self);
/* Tell the protocol to pause if too much is queued. */
int hl_datagram_check_pause(PyObject *self);

/* ---- From datagramtype.c ---- */

/* Either may be NULL. */
int hl_datagram_set_limits(HLDatagramTransport *t, PyObject *high, PyObject *low);

#endif
