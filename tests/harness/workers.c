/* The default executor's queue and its workers, for ThreadSanitizer: test_executor_load.py builds and runs it.

   Workers do what work() and wait_idle() of pool.c do, on the queue that the pool has
   (workqueue.h), submitters what hl_pool_prepare() and hl_pool_submit() do, and the main thread is
   the loop that takes results from its inbox; a mutex stands for the GIL.  Half of the work is
   "blocking": done without the GIL.  Checks that all work is begun once, in the order of the
   queue, that its result arrives, that there are never more workers than allowed, and that they
   all end when they are told to. */

#define _GNU_SOURCE
#include "../../src/workqueue.h"
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { SUBMITTERS = 3, WORKERS = 4, PIECES = 10000, ROUNDS = 20 };

typedef struct {
    HLInboxLink link;
    int submitter, number;
    int result; /* written without the GIL if blocking */
} Piece;

static pthread_mutex_t gil = PTHREAD_MUTEX_INITIALIZER;
static HLInbox inbox;
static uv_sem_t loop_wake; /* stands for the wake-up of the loop */

/* With the GIL. */
static HLWorkQueue queue;
static bool refusing;
static int workers;
static pthread_t threads[WORKERS];
static int last_begun[SUBMITTERS];

static void
check(bool truth, const char *what)
{
    if (!truth) {
        fprintf(stderr, "failed: %s\n", what);
        exit(1);
    }
}

/* ---- Workers ---- */

static Piece *
take(void)
{
    return (Piece *)hl_work_take(&queue); /* link is first */
}

static void
do_piece(Piece *piece)
{
    check(piece->number == last_begun[piece->submitter] + 1, "work is begun in its order, once");
    last_begun[piece->submitter] = piece->number;
    bool blocking = piece->number & 1;
    if (blocking) {
        pthread_mutex_unlock(&gil);
    }
    piece->result = piece->number * 2;
    if (blocking) {
        pthread_mutex_lock(&gil);
    }
}

static void
deliver(Piece *piece)
{
    hl_inbox_push(&inbox, &piece->link, HL_INBOX_CALL);
    uv_sem_post(&loop_wake);
}

static void
wait_idle(HLWorker *worker, Piece *done)
{
    if (queue.first != NULL || refusing) {
        if (done != NULL) {
            deliver(done);
        }
        return;
    }
    hl_worker_rest(&queue, worker);
    pthread_mutex_unlock(&gil);
    if (done != NULL) {
        deliver(done);
    }
    uv_sem_wait(&worker->wake);
    pthread_mutex_lock(&gil);
    hl_worker_arrive(&queue);
}

static void *
work(void *arg)
{
    HLWorker worker;
    check(uv_sem_init(&worker.wake, 0) == 0, "semaphore");
    pthread_mutex_lock(&gil);
    hl_worker_arrive(&queue);
    while (!refusing || queue.first != NULL) {
        Piece *piece = take();
        if (piece != NULL) {
            hl_worker_wake_next(&queue);
            do_piece(piece);
        }
        if (queue.first == NULL) {
            wait_idle(&worker, piece);
        }
        else if (piece != NULL) {
            deliver(piece);
            pthread_mutex_unlock(&gil);
            sched_yield();
            pthread_mutex_lock(&gil);
        }
    }
    pthread_mutex_unlock(&gil);
    uv_sem_destroy(&worker.wake);
    return arg;
}

/* ---- Submitters, and the loop ---- */

static void
submit(int submitter, int number)
{
    Piece *piece = malloc(sizeof(Piece));
    check(piece != NULL, "memory");
    *piece = (Piece){{0}, submitter, number, 0};
    pthread_mutex_lock(&gil);
    if (hl_work_needs_worker(&queue) && workers < WORKERS) {
        queue.coming++;
        check(pthread_create(&threads[workers], NULL, work, NULL) == 0, "thread");
        workers++;
    }
    hl_work_put(&queue, &piece->link);
    hl_worker_wake_next(&queue);
    pthread_mutex_unlock(&gil);
}

static void *
submit_all(void *arg)
{
    for (int number = 1; number <= PIECES / ROUNDS; number++) {
        submit((int)(long)arg, number);
        if (number % 50 == 0) {
            sched_yield(); /* workers may become idle */
        }
    }
    return NULL;
}

static int
receive(void)
{
    int count = 0;
    uv_sem_wait(&loop_wake);
    HLInboxEntry entry = hl_inbox_take(&inbox);
    while (entry != 0) {
        Piece *piece = (Piece *)hl_inbox_link(entry);
        check(piece->result == piece->number * 2, "the result arrives");
        entry = piece->link.next;
        free(piece);
        count++;
    }
    return count;
}

static void
stop(void)
{
    pthread_mutex_lock(&gil);
    refusing = true;
    while (queue.idle != NULL) {
        hl_worker_wake(&queue);
    }
    pthread_mutex_unlock(&gil);
    for (int i = 0; i < workers; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void
run_round(void)
{
    pthread_t submitters[SUBMITTERS];
    queue = (HLWorkQueue){0};
    refusing = false;
    workers = 0;
    for (long i = 0; i < SUBMITTERS; i++) {
        last_begun[i] = 0;
        check(pthread_create(&submitters[i], NULL, submit_all, (void *)i) == 0, "thread");
    }
    for (int left = SUBMITTERS * (PIECES / ROUNDS); left > 0;) {
        left -= receive();
    }
    for (int i = 0; i < SUBMITTERS; i++) {
        pthread_join(submitters[i], NULL);
    }
    check(queue.queued == 0 && queue.first == NULL && queue.last == NULL, "the queue is empty");
    stop();
    check(queue.idle_count == 0 && queue.coming == 0, "nobody waits or is on the way");
}

int
main(void)
{
    check(uv_sem_init(&loop_wake, 0) == 0, "semaphore");
    for (int i = 0; i < ROUNDS; i++) {
        run_round();
    }
    uv_sem_destroy(&loop_wake);
    puts("fine");
    return 0;
}
