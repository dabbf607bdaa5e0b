/* Dead futures and tasks, kept on a free list to be used again.

   Only objects of exactly our types are kept, and only such that nothing but their payload and what
   introspect.c writes has to be cleared.  On the list they are no objects: no reference, unknown to the
   garbage collector, but for the reference to their type.  The garbage collector's mark
   "finalized" never comes off, so whatever has it is not kept.  Threads: everything needs the GIL. */

#include "hotloop.h"

/* ---- Taking ---- */

PyObject *
hl_future_take(PyTypeObject *type, HLFreeList *list)
{
    PyObject *self = hl_free_list_take(list);
    if (self == NULL) {
        return type->tp_alloc(type, 0);
    }
    PyObject_GC_Track(self);
    return self;
}

/* ---- Keeping ---- */

#if PY_VERSION_HEX >= 0x030D0000
/* From 3.13 on, to clear the attributes of an object, even if it has none, spoils it: the
   interpreter then finds no method of it by its inline caches.  So nothing but what introspect.c
   puts into the stock fields is cleared, and what has attributes is not kept, nor what somebody
   has called asyncio.Future.__init__() with. */
static bool
clear_stock_fields(PyObject *self)
{
    Py_ssize_t loop = hl_future(self)->st->layout.loop;
    if (HL_UNLIKELY(hl_has_attributes(self)
                    || (loop > 0 && *(PyObject **)((char *)self + loop) != NULL))) {
        return false;
    }
    if (hl_future(self)->is_task) {
        hl_task_show_coro(self);
        hl_task_show_name(self);
    }
    return true;
}
#else
static bool
clear_stock_fields(PyObject *self)
{
    HLState *st = hl_future(self)->st;
    ((PyTypeObject *)(hl_future(self)->is_task ? st->StockTask : st->StockFuture))->tp_clear(self);
    return true;
}
#endif

bool
hl_future_keep(PyObject *self, HLFreeList *list, void (*clear_payload)(PyObject *))
{
    HLFuture *f = hl_future(self);
    HLState *st = f->st;
    if (HL_UNLIKELY(Py_TYPE(self) != (f->is_task ? st->TaskType : st->FutureType)
                    || list->length >= HL_FREE_MAX || f->log_traceback
                    || (f->is_task && f->state == HL_PENDING) || PyObject_GC_IsFinalized(self)
                    || hl_awaited_by_any(st, self))) {
        return false;
    }
    PyObject_ClearWeakRefs(self);
    clear_payload(self);
    if (HL_UNLIKELY(!clear_stock_fields(self) || !hl_free_list_keep(list, self))) {
        return false; /* the list was filled by what this one kept alive */
    }
    f->state = HL_PENDING;
    f->blocking = false;
    return true;
}

/* ---- Setup ---- */

/* From 3.13 on an object has room for attributes in itself: the first of a type for ROOM_AT_FIRST, each
   after it for one less, down to one.  All of it is looked through whenever an object comes to the
   list, so those that are used again and again should not be the first ones. */
#define ROOM_AT_FIRST 30

int
hl_future_shrink_room(PyTypeObject *type, HLFreeList *list)
{
    if (PY_VERSION_HEX < 0x030D0000) {
        return 0;
    }
    int rc = 0;
    list->length = HL_FREE_MAX; /* so that none of them is kept */
    for (int i = 0; i < ROOM_AT_FIRST && rc == 0; i++) {
        PyObject *first = type->tp_new(type, NULL, NULL);
        rc = first != NULL ? 0 : -1;
        Py_XDECREF(first);
    }
    list->length = 0;
    return rc;
}
