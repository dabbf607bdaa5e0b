/* The TLS protocol, shared by tls.c, tlsread.c and tlswrite.c. */
#ifndef HL_TLS_H
#define HL_TLS_H

#include "hotloop.h"
#include "borrow.h"
#include "spare.h"

typedef struct {
    PyObject_HEAD
    HLState *st;             /* borrowed: lives as long as our types */
    PyObject *loop;          /* owned, as are all to outgoing_high_water; NULL until assigned */
    PyObject *transport;     /* the one below */
    PyObject *app_protocol;  /* the program's */
    PyObject *state;         /* an SSLProtocolState */
    PyObject *engine;        /* the object in C behind _sslobj, or None: all is left to asyncio */
    PyObject *incoming;      /* ssl.MemoryBIO */
    PyObject *outgoing;      /* another one */
    PyObject *buffer_view;   /* a memoryview: what the transport below receives into */
    PyObject *write_backlog; /* a deque: what could not be encrypted yet */
    PyObject *incoming_low_water;
    PyObject *incoming_high_water;
    PyObject *outgoing_low_water;
    PyObject *outgoing_high_water;
    Py_ssize_t write_buffer_size; /* of the backlog */
    char app_protocol_is_buffer;
    char app_reading_paused, app_writing_paused;
    char ssl_reading_paused, ssl_writing_paused;
} HLTLS;

/* ---- From tls.c ---- */

/* object.name() or object.name(arg).  The object may be NULL: Python code can delete an attribute. */
PyObject *hl_tls_call(PyObject *object, PyObject *name, PyObject *arg);
/* The same for one of asyncio's own methods, whose result does not matter. */
int hl_tls_call_own(HLTLS *self, PyObject *name);
/* Whether a call that had this result succeeded.  Steals it. */
int hl_tls_done(PyObject *result);
/* How many bytes a call said, or -1.  Steals it. */
Py_ssize_t hl_tls_count(PyObject *number);
/* How much is in a MemoryBIO, or -1. */
Py_ssize_t hl_tls_pending(HLTLS *self, PyObject *bio);
/* OpenSSL has nothing to give, or no room, for now: the exception is cleared. */
bool hl_tls_must_wait(HLTLS *self);
/* asyncio's `except Exception as ex: self._fatal_error(ex, ...)`. */
int hl_tls_fail(HLTLS *self);
/* Does flow control have something to do: size >= high and not paused, or size <= low and paused?
   Yes if the limit is no int: that is left to asyncio. */
bool hl_tls_limit_passed(Py_ssize_t size, PyObject *low, PyObject *high, bool paused);

/* ---- From tlsread.c ---- */

extern PyMethodDef hl_tls_read_methods[];

/* ---- From tlswrite.c ---- */

int hl_tls_process_outgoing(HLTLS *self);
extern PyMethodDef hl_tls_write_methods[];
extern PyType_Spec hl_tls_writer_spec;

#endif
