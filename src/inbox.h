/* The cross-thread inbox: handles that other threads hand to the loop.

   Any thread pushes, with or without the GIL; only the thread that runs the loop takes.
   It is a lock-free stack linked through the handles themselves; hl_inbox_take() reverses it,
   so that each sender's handles come out in the order in which they went in. */
#ifndef HL_INBOX_H
#define HL_INBOX_H

#include <stdatomic.h>
#include <stddef.h>

typedef struct HLInboxLink {
    struct HLInboxLink *next;
} HLInboxLink;

typedef struct {
    _Atomic(HLInboxLink *) top;
} HLInbox;

static inline int
hl_inbox_is_empty(HLInbox *inbox)
{
    return atomic_load_explicit(&inbox->top, memory_order_acquire) == NULL;
}

static inline void
hl_inbox_push(HLInbox *inbox, HLInboxLink *link)
{
    link->next = atomic_load_explicit(&inbox->top, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(&inbox->top, &link->next, link)) {
    }
}

/* All links, oldest first, chained by next. */
static inline HLInboxLink *
hl_inbox_take(HLInbox *inbox)
{
    HLInboxLink *newest = atomic_exchange(&inbox->top, NULL);
    HLInboxLink *oldest = NULL;
    while (newest != NULL) {
        HLInboxLink *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

#endif
