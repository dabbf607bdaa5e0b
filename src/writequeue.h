/* Chunks of bytes on their way to the kernel, first in first out.

   The queue owns its chunks, bytes objects that are never empty; the transport that it is part
   of frees the array.  Threads: those of the transport. */
#ifndef HL_WRITEQUEUE_H
#define HL_WRITEQUEUE_H

#include "spare.h"
#include <sys/uio.h>

#define HL_IOVECS 64

typedef struct {
    PyObject **chunks; /* owned bytes objects, chunks[first..end); owned memory, or NULL */
    uint32_t first, end, capacity;
    size_t offset; /* how much of the first chunk is sent */
    size_t size;   /* what is still to send */
} HLWriteQueue;

static inline int
hl_queue_make_room(HLWriteQueue *queue)
{
    uint32_t length = queue->end - queue->first;
    if (queue->first > 0 && length < queue->capacity / 2) {
        memmove(queue->chunks, queue->chunks + queue->first, length * sizeof(PyObject *));
    }
    else {
        uint32_t capacity = queue->capacity > 0 ? queue->capacity * 2 : 4;
        PyObject **chunks = PyMem_Malloc(capacity * sizeof(PyObject *));
        if (chunks == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        if (length > 0) {
            memcpy(chunks, queue->chunks + queue->first, length * sizeof(PyObject *));
        }
        PyMem_Free(queue->chunks);
        queue->chunks = chunks;
        queue->capacity = capacity;
    }
    queue->first = 0;
    queue->end = length;
    return 0;
}

/* Steals chunk. */
static inline int
hl_queue_append(HLWriteQueue *queue, PyObject *chunk)
{
    if (queue->end == queue->capacity && hl_queue_make_room(queue) < 0) {
        Py_DECREF(chunk);
        return -1;
    }
    queue->chunks[queue->end++] = chunk;
    queue->size += (size_t)PyBytes_GET_SIZE(chunk);
    return 0;
}

/* spare: where to leave a chunk that nobody needs any more, or NULL. */
static inline void
hl_queue_consume(HLWriteQueue *queue, size_t sent, PyObject **spare)
{
    queue->size -= sent;
    sent += queue->offset;
    while (queue->first < queue->end) {
        PyObject *chunk = queue->chunks[queue->first];
        size_t length = (size_t)PyBytes_GET_SIZE(chunk);
        if (sent < length) {
            break;
        }
        sent -= length;
        queue->first++;
        if (spare != NULL) {
            hl_spare_release(spare, chunk);
        }
        else {
            Py_DECREF(chunk);
        }
    }
    queue->offset = sent;
    if (queue->first == queue->end) {
        queue->first = queue->end = 0;
    }
}

static inline int
hl_queue_iovecs(const HLWriteQueue *queue, struct iovec *iovecs)
{
    int count = 0;
    size_t offset = queue->offset;
    for (uint32_t i = queue->first; i < queue->end && count < HL_IOVECS; i++) {
        char *data = PyBytes_AS_STRING(queue->chunks[i]);
        iovecs[count].iov_base = data + offset;
        iovecs[count++].iov_len = (size_t)PyBytes_GET_SIZE(queue->chunks[i]) - offset;
        offset = 0;
    }
    return count;
}

#endif
