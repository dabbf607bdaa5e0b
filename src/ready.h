/* The ready queue: a growing ring of tagged entries, first in first out.

   An entry owns its object (and its argument, which only a wake-up and a callback have).  The tag lies in
   the low bits of the object's address, so that an entry is two words. */
#ifndef HL_READY_H
#define HL_READY_H

#include <Python.h>
#include <stdint.h>

typedef struct HLLoop HLLoop;

typedef enum {
    HL_RUN_HANDLE = 0,   /* a Handle or TimerHandle of ours */
    HL_STEP_TASK = 1,    /* a Task of ours, to be stepped */
    HL_WAKE_TASK = 2,    /* a Task of ours; the argument is the future it waited for */
    HL_RUN_FOREIGN = 3,  /* a stock asyncio.Handle */
    HL_RUN_IO = 4,       /* an object of the core whose descriptor is ready */
    HL_RUN_CALLBACK = 5, /* a callback, in an empty context, with its one argument */
    HL_START_TASK = 6,   /* one that create_task() has just made */
} HLEntryKind;

/* What an HL_RUN_IO entry calls.  -1 only with an exception that has to leave the loop. */
typedef int (*HLOnReady)(HLLoop *loop, PyObject *object);

#define HL_ENTRY_TAGS ((uintptr_t)7)

typedef struct {
    uintptr_t tagged; /* owned object | HLEntryKind */
    union {
        PyObject *arg; /* owned, or NULL; not of HL_RUN_IO */
        HLOnReady on_ready;
    };
} HLEntry;

typedef struct {
    HLEntry *entries;
    size_t capacity; /* a power of two, or 0 */
    size_t head;
    size_t length;
} HLReady;

static inline PyObject *
hl_entry_object(const HLEntry *entry)
{
    return (PyObject *)(entry->tagged & ~HL_ENTRY_TAGS);
}

static inline HLEntryKind
hl_entry_kind(const HLEntry *entry)
{
    return (HLEntryKind)(entry->tagged & HL_ENTRY_TAGS);
}

static inline HLEntry *
hl_ready_at(const HLReady *ready, size_t index)
{
    return &ready->entries[(ready->head + index) & (ready->capacity - 1)];
}

/* Returns 0, or -1 with MemoryError set. */
static inline int
hl_ready_grow(HLReady *ready)
{
    size_t capacity = ready->capacity ? ready->capacity * 2 : 64;
    HLEntry *entries = PyMem_RawMalloc(capacity * sizeof(HLEntry));
    if (entries == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < ready->length; i++) {
        entries[i] = *hl_ready_at(ready, i);
    }
    PyMem_RawFree(ready->entries);
    ready->entries = entries;
    ready->capacity = capacity;
    ready->head = 0;
    return 0;
}

/* Takes new references to object and arg.  Returns 0, or -1 with MemoryError set. */
static inline int
hl_ready_push(HLReady *ready, PyObject *object, PyObject *arg, HLEntryKind kind)
{
    if (HL_UNLIKELY(ready->length == ready->capacity) && hl_ready_grow(ready) < 0) {
        return -1;
    }
    HLEntry *entry = hl_ready_at(ready, ready->length);
    entry->tagged = (uintptr_t)Py_NewRef(object) | kind;
    entry->arg = Py_XNewRef(arg);
    ready->length++;
    return 0;
}

/* The same for HL_RUN_IO. */
static inline int
hl_ready_push_io(HLReady *ready, PyObject *object, HLOnReady on_ready)
{
    if (hl_ready_push(ready, object, NULL, HL_RUN_IO) < 0) {
        return -1;
    }
    hl_ready_at(ready, ready->length - 1)->on_ready = on_ready;
    return 0;
}

/* Turn round what was pushed since there were so many. */
static inline void
hl_ready_reverse(HLReady *ready, size_t first)
{
    for (size_t i = first, j = ready->length; i + 1 < j; i++) {
        HLEntry *left = hl_ready_at(ready, i), *right = hl_ready_at(ready, --j), entry = *left;
        *left = *right;
        *right = entry;
    }
}

/* The argument that the entry owns, or NULL. */
static inline PyObject *
hl_entry_arg(const HLEntry *entry)
{
    return hl_entry_kind(entry) != HL_RUN_IO ? entry->arg : NULL;
}

/* The caller takes over the entry's references. */
static inline HLEntry
hl_ready_pop(HLReady *ready)
{
    HLEntry entry = ready->entries[ready->head];
    ready->head = (ready->head + 1) & (ready->capacity - 1);
    ready->length--;
    return entry;
}

#endif
