/* What the threads of a pool share: the queue of work, and the workers that wait for some.

   Everything here is guarded by the GIL; the semaphore of a worker is what it waits on without.
   Work is whatever a link lies in, the queue owns it.  A worker is linked by the thread that it
   belongs to and unlinked by whoever wakes it. */
#ifndef HL_WORKQUEUE_H
#define HL_WORKQUEUE_H

#include "inbox.h"
#include <uv.h>

typedef struct HLWorker {
    uv_sem_t wake;         /* posted by whoever takes the worker off the idle list */
    struct HLWorker *next; /* borrowed: the idle list */
} HLWorker;

typedef struct {
    HLInboxLink *first; /* owned: the queue, linked through next */
    HLInboxLink *last;  /* borrowed */
    ptrdiff_t queued;
    HLWorker *idle; /* borrowed: the workers that wait, the last to become idle first */
    int idle_count;
    int coming; /* workers that were started or woken and do not have the GIL yet */
} HLWorkQueue;

static inline HLInboxLink *
hl_work_next(HLInboxLink *link)
{
    return (HLInboxLink *)link->next;
}

static inline void
hl_work_put(HLWorkQueue *queue, HLInboxLink *link)
{
    link->next = 0;
    if (queue->last != NULL) {
        queue->last->next = (HLInboxEntry)link;
    }
    else {
        queue->first = link;
    }
    queue->last = link;
    queue->queued++;
}

/* NULL if there is no work. */
static inline HLInboxLink *
hl_work_take(HLWorkQueue *queue)
{
    HLInboxLink *link = queue->first;
    if (link != NULL) {
        queue->first = hl_work_next(link);
        if (queue->first == NULL) {
            queue->last = NULL;
        }
        queue->queued--;
    }
    return link;
}

/* Is there more work, with one more piece, than workers that are free to do it? */
static inline int
hl_work_needs_worker(const HLWorkQueue *queue)
{
    return queue->queued >= queue->idle_count + queue->coming;
}

/* The worker is about to let go of the GIL and to wait. */
static inline void
hl_worker_rest(HLWorkQueue *queue, HLWorker *worker)
{
    worker->next = queue->idle;
    queue->idle = worker;
    queue->idle_count++;
}

/* There must be an idle worker. */
static inline void
hl_worker_wake(HLWorkQueue *queue)
{
    HLWorker *worker = queue->idle;
    queue->idle = worker->next;
    queue->idle_count--;
    queue->coming++;
    uv_sem_post(&worker->wake);
}

/* See that somebody comes for the first piece of work. */
static inline void
hl_worker_wake_next(HLWorkQueue *queue)
{
    if (queue->first != NULL && queue->coming == 0 && queue->idle != NULL) {
        hl_worker_wake(queue);
    }
}

/* A worker that was started or woken has the GIL now. */
static inline void
hl_worker_arrive(HLWorkQueue *queue)
{
    if (queue->coming > 0) { /* start() may have failed after it had started the thread */
        queue->coming--;
    }
}

#endif
