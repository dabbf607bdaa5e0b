/* The inbox and the way threads send to a loop, for ThreadSanitizer: test_executor_load.py builds and runs it.

   Senders do what hl_call_begin_delivery() and hl_call_send() do, the loop's thread what hl_poll(),
   hl_loop_drain_inbox() and hl_loop_await_senders() do; a mutex stands for the GIL, and a pipe
   for the wake-up.  Checks that every sender's links arrive in order, none is lost while the loop
   is open, and no sender touches a loop that was closed and freed. */

#define _GNU_SOURCE
#include "../../src/inbox.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SENDERS = 4, LINKS = 20000, LOOPS = 200, LINKS_OF_A_LOOP = 20 };

typedef struct {
    HLInbox inbox;
    atomic_int sleeping, wake_sent, senders;
    bool closed; /* with the GIL */
    int pipe[2];
} Loop;

typedef struct {
    HLInboxLink link;
    int sender, number;
} Item;

static pthread_mutex_t gil = PTHREAD_MUTEX_INITIALIZER;
static Loop *shared; /* with the GIL */
static int last[SENDERS], received;

static void
check(bool truth, const char *what)
{
    if (!truth) {
        fprintf(stderr, "failed: %s\n", what);
        exit(1);
    }
}

static Loop *
loop_open(void)
{
    Loop *loop = calloc(1, sizeof(Loop));
    check(loop != NULL && pipe2(loop->pipe, O_NONBLOCK | O_CLOEXEC) == 0, "pipe");
    return loop;
}

static void
loop_wake(Loop *loop)
{
    if (atomic_load(&loop->sleeping) && !atomic_exchange(&loop->wake_sent, 1)) {
        check(write(loop->pipe[1], "", 1) == 1, "write to an open pipe");
    }
}

/* Returns whether the loop was open. */
static bool
send_item(int sender, int number)
{
    pthread_mutex_lock(&gil);
    Loop *loop = shared;
    bool open = loop != NULL && !loop->closed;
    Item *item = NULL;
    if (open) {
        item = malloc(sizeof(Item));
        *item = (Item){{0}, sender, number};
        atomic_fetch_add(&loop->senders, 1);
    }
    pthread_mutex_unlock(&gil);
    if (open) {
        hl_inbox_push(&loop->inbox, &item->link, (HLInboxKind)(number & 1));
        loop_wake(loop);
        atomic_fetch_sub(&loop->senders, 1);
    }
    return open;
}

/* Newest first: what a sender sent comes in falling order, and after all that was taken before. */
static void
drain(Loop *loop)
{
    int newest[SENDERS] = {0}, oldest[SENDERS] = {0};
    HLInboxEntry entry = hl_inbox_take(&loop->inbox);
    while (entry != 0) {
        Item *item = (Item *)hl_inbox_link(entry);
        int sender = item->sender, number = item->number;
        check((int)hl_inbox_kind(entry) == (number & 1), "the kind arrives");
        check(number > last[sender], "each sender's links arrive after those before");
        check(oldest[sender] == 0 || number < oldest[sender], "each sender's links arrive in order");
        newest[sender] = newest[sender] == 0 ? number : newest[sender];
        oldest[sender] = number;
        received++;
        entry = item->link.next;
        free(item);
    }
    for (int i = 0; i < SENDERS; i++) {
        last[i] = newest[i] == 0 ? last[i] : newest[i];
    }
}

static void
poll_once(Loop *loop)
{
    atomic_store(&loop->sleeping, 1);
    struct pollfd fd = {loop->pipe[0], POLLIN, 0};
    int ready = poll(&fd, 1, hl_inbox_is_empty(&loop->inbox) ? 10000 : 0);
    char bytes[16];
    check(ready >= 0, "poll");
    check(ready == 0 || read(loop->pipe[0], bytes, sizeof(bytes)) > 0, "read");
    check(ready > 0 || !hl_inbox_is_empty(&loop->inbox), "no wake-up is lost");
    atomic_store(&loop->sleeping, 0);
    atomic_store(&loop->wake_sent, 0);
    drain(loop);
}

static void
loop_close(Loop *loop)
{
    pthread_mutex_lock(&gil);
    loop->closed = true;
    while (atomic_load(&loop->senders) > 0) {
        sched_yield();
    }
    drain(loop);
    close(loop->pipe[0]);
    close(loop->pipe[1]);
    shared = NULL;
    free(loop);
    pthread_mutex_unlock(&gil);
}

static void *
send_all(void *arg)
{
    int sender = (int)(long)arg;
    for (int number = 1; number <= LINKS; number++) {
        check(send_item(sender, number), "the loop is open");
    }
    return NULL;
}

static atomic_int stop;

static void *
send_till_stopped(void *arg)
{
    int sender = (int)(long)arg;
    for (int number = LINKS + 1; !atomic_load(&stop); number++) {
        send_item(sender, number);
    }
    return NULL;
}

static void
start_all(pthread_t *threads, void *(*function)(void *))
{
    for (long i = 0; i < SENDERS; i++) {
        check(pthread_create(&threads[i], NULL, function, (void *)i) == 0, "thread");
    }
}

static void
join_all(pthread_t *threads)
{
    for (int i = 0; i < SENDERS; i++) {
        pthread_join(threads[i], NULL);
    }
}

int
main(void)
{
    pthread_t threads[SENDERS];
    Loop *loop = shared = loop_open();
    start_all(threads, send_all);
    while (received < SENDERS * LINKS) {
        poll_once(loop);
    }
    join_all(threads);
    loop_close(loop);

    start_all(threads, send_till_stopped);
    for (int i = 0; i < LOOPS; i++) {
        Loop *next = loop_open();
        pthread_mutex_lock(&gil);
        shared = next;
        pthread_mutex_unlock(&gil);
        for (int before = received; received < before + LINKS_OF_A_LOOP;) {
            poll_once(next);
        }
        loop_close(next);
    }
    atomic_store(&stop, 1);
    join_all(threads);
    puts("fine");
    return 0;
}
