/* The timer heap: four children a node, earliest deadline first, ties in order of creation.

   Deadlines are the very doubles that callers gave (seconds of loop.time()), so that no
   rounding can make a timer early.  A node carries its key, which spares the comparisons a
   look at the handle.  The handle knows its index, so that a cancelled timer leaves at once. */
#ifndef HL_TIMERHEAP_H
#define HL_TIMERHEAP_H

#include <Python.h>
#include <stdint.h>

typedef struct {
    double when; /* never NaN */
    uint64_t sequence;
    PyObject *handle; /* owned */
    size_t *index;    /* borrowed: lies in the handle */
} HLTimer;

typedef struct {
    HLTimer *timers;
    size_t length;
    size_t capacity;
    uint64_t next_sequence;
} HLTimerHeap;

#define HL_NOT_IN_HEAP ((size_t)-1)

static inline int
hl_timer_before(const HLTimer *a, const HLTimer *b)
{
    return a->when < b->when || (a->when == b->when && a->sequence < b->sequence);
}

static inline void
hl_heap_place(HLTimerHeap *heap, size_t i, HLTimer timer)
{
    heap->timers[i] = timer;
    *timer.index = i;
}

static inline void
hl_heap_sift_up(HLTimerHeap *heap, size_t i, HLTimer timer)
{
    while (i > 0) {
        size_t parent = (i - 1) / 4;
        if (!hl_timer_before(&timer, &heap->timers[parent])) {
            break;
        }
        hl_heap_place(heap, i, heap->timers[parent]);
        i = parent;
    }
    hl_heap_place(heap, i, timer);
}

static inline void
hl_heap_sift_down(HLTimerHeap *heap, size_t i, HLTimer timer)
{
    for (;;) {
        size_t first = i * 4 + 1;
        if (first >= heap->length) {
            break;
        }
        size_t end = first + 4 < heap->length ? first + 4 : heap->length;
        size_t best = first;
        for (size_t child = first + 1; child < end; child++) {
            if (hl_timer_before(&heap->timers[child], &heap->timers[best])) {
                best = child;
            }
        }
        if (!hl_timer_before(&heap->timers[best], &timer)) {
            break;
        }
        hl_heap_place(heap, i, heap->timers[best]);
        i = best;
    }
    hl_heap_place(heap, i, timer);
}

/* Takes a new reference to handle.  Returns 0, or -1 with MemoryError set. */
static inline int
hl_heap_push(HLTimerHeap *heap, double when, PyObject *handle, size_t *index)
{
    if (heap->length == heap->capacity) {
        size_t capacity = heap->capacity ? heap->capacity * 2 : 64;
        HLTimer *timers = PyMem_RawRealloc(heap->timers, capacity * sizeof(HLTimer));
        if (timers == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        heap->timers = timers;
        heap->capacity = capacity;
    }
    HLTimer timer = {when, heap->next_sequence++, Py_NewRef(handle), index};
    hl_heap_sift_up(heap, heap->length++, timer);
    return 0;
}

/* Returns the reference that the heap held. */
static inline PyObject *
hl_heap_remove(HLTimerHeap *heap, size_t i)
{
    HLTimer removed = heap->timers[i];
    HLTimer last = heap->timers[--heap->length];
    *removed.index = HL_NOT_IN_HEAP;
    if (i < heap->length) {
        if (hl_timer_before(&last, &removed)) {
            hl_heap_sift_up(heap, i, last);
        }
        else {
            hl_heap_sift_down(heap, i, last);
        }
    }
    return removed.handle;
}

#endif
