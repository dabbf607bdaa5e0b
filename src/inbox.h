/* The cross-thread inbox: handles and finished calls that other threads hand to the loop.

   Any thread pushes, with or without the GIL; only the thread that runs the loop takes.
   It is a lock-free stack linked through the objects themselves, so the newest is the first.  A
   pointer to a link says in its lowest bit what kind of object the link lies in. */
#ifndef HL_INBOX_H
#define HL_INBOX_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    HL_INBOX_HANDLE = 0, /* of call_soon_threadsafe() */
    HL_INBOX_CALL = 1,   /* of run_in_executor(), done */
} HLInboxKind;

/* The address of a link, plus its kind; 0 for none. */
typedef uintptr_t HLInboxEntry;

typedef struct {
    HLInboxEntry next;
} HLInboxLink;

typedef struct {
    _Atomic(HLInboxEntry) top;
} HLInbox;

static inline HLInboxLink *
hl_inbox_link(HLInboxEntry entry)
{
    return (HLInboxLink *)(entry & ~(HLInboxEntry)1);
}

static inline HLInboxKind
hl_inbox_kind(HLInboxEntry entry)
{
    return (HLInboxKind)(entry & 1);
}

/* In one order with all other atomic operations: who is about to sleep says so and then looks here,
   who sends pushes and then looks whether anybody sleeps. */
static inline int
hl_inbox_is_empty(HLInbox *inbox)
{
    return atomic_load(&inbox->top) == 0;
}

static inline void
hl_inbox_push(HLInbox *inbox, HLInboxLink *link, HLInboxKind kind)
{
    link->next = atomic_load_explicit(&inbox->top, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(&inbox->top, &link->next, (HLInboxEntry)link | kind)) {
    }
}

/* All entries, newest first, chained by next. */
static inline HLInboxEntry
hl_inbox_take(HLInbox *inbox)
{
    return atomic_exchange(&inbox->top, 0);
}

#endif
