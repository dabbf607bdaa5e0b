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

/* Without branches: which of two timers is the earlier one cannot be predicted. */
static inline int
hl_timer_before(const HLTimer *a, const HLTimer *b)
{
    return (a->when < b->when) | ((a->when == b->when) & (a->sequence < b->sequence));
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

/* The earliest of the children from first on; of four the two pairs are compared side by side. */
static inline size_t
hl_heap_earliest(const HLTimerHeap *heap, size_t first)
{
    const HLTimer *timers = heap->timers;
    if (first + 4 <= heap->length) {
        size_t left = first + hl_timer_before(&timers[first + 1], &timers[first]);
        size_t right = first + 2 + hl_timer_before(&timers[first + 3], &timers[first + 2]);
        return hl_timer_before(&timers[right], &timers[left]) ? right : left;
    }
    size_t earliest = first;
    for (size_t child = first + 1; child < heap->length; child++) {
        earliest = hl_timer_before(&timers[child], &timers[earliest]) ? child : earliest;
    }
    return earliest;
}

static inline void
hl_heap_sift_down(HLTimerHeap *heap, size_t i, HLTimer timer)
{
    size_t first;
    while ((first = i * 4 + 1) < heap->length) {
        size_t earliest = hl_heap_earliest(heap, first);
        if (!hl_timer_before(&heap->timers[earliest], &timer)) {
            break;
        }
        hl_heap_place(heap, i, heap->timers[earliest]);
        i = earliest;
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
