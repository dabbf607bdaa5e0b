/* The contextvars.Context that each entry of the ready ring runs in.

   A loop of ours stays in an entry's context until an entry needs another one, or something else
   that could tell is about to run: an exception handler, the poll, a destructor.  Most programs
   run many entries in a row in one context, and leaving it to enter it again costs more than the
   rest of a turn.

   Most callbacks and tasks run in a context without variables.  Such a context is not kept for
   each of them (their context is NULL) but lent by the loop, the "blank" one; whoever sets a
   variable in it or holds on to it gets to keep it, so nobody can tell: a task as its own, while
   that of a callback would not be used again.

   Owners: the loop owns the context it is in (entered) and the blank one; often they are the
   same.  A loop that is run inside one of its own callbacks starts with neither (hl_contexts_push)
   and gives both back.  Threads: everything needs the GIL and belongs to the loop's thread. */

#include "hotloop.h"

static inline bool
is_empty(PyObject *context)
{
    return Py_TYPE(context)->tp_as_mapping->mp_length(context) == 0;
}

int
hl_capture_context(PyObject **context)
{
    PyObject *current = hl_current_context();
    *context = NULL;
    if (current == NULL || is_empty(current)) {
        return 0;
    }
    *context = PyContext_CopyCurrent();
    return *context != NULL ? 0 : -1;
}

static void
leave(HLLoop *loop)
{
    PyObject *context = loop->contexts.entered;
    if (context == NULL) {
        return;
    }
    loop->contexts.entered = NULL;
    if (PyContext_Exit(context) < 0) {
        PyErr_WriteUnraisable((PyObject *)loop);
    }
    Py_DECREF(context);
}

void
hl_context_leave_now(HLLoop *loop)
{
    PyObject *raised = hl_take_exception();
    leave(loop);
    hl_give_exception(raised);
}

int
hl_context_switch(HLLoop *loop, PyObject *context)
{
    if (loop->contexts.entered == context) {
        return 0;
    }
    leave(loop);
    if (PyContext_Enter(context) < 0) {
        return -1;
    }
    loop->contexts.entered = Py_NewRef(context);
    return 0;
}

PyObject *
hl_blank_enter(HLLoop *loop)
{
    HLContexts *contexts = &loop->contexts;
    if (contexts->blank != NULL && contexts->entered == contexts->blank) {
        return contexts->blank;
    }
    leave(loop);
    if (contexts->blank == NULL) {
        contexts->blank = PyContext_New();
    }
    if (contexts->blank == NULL || hl_context_switch(loop, contexts->blank) < 0) {
        return NULL;
    }
    contexts->blank_references = Py_REFCNT(contexts->blank);
    return contexts->blank;
}

void
hl_blank_return(HLLoop *loop, PyObject **keep)
{
    HLContexts *contexts = &loop->contexts;
    PyObject *context = contexts->blank;
    if (Py_REFCNT(context) == contexts->blank_references && is_empty(context)) {
        return;
    }
    contexts->blank = NULL;
    if (keep != NULL && *keep == NULL) {
        *keep = context;
    }
    else {
        Py_DECREF(context); /* not the last: the loop is in it */
    }
}

HLContexts
hl_contexts_push(HLLoop *loop)
{
    HLContexts outer = loop->contexts;
    loop->contexts = (HLContexts){NULL};
    return outer;
}

void
hl_contexts_pop(HLLoop *loop, HLContexts outer)
{
    hl_context_leave(loop);
    PyObject *blank = loop->contexts.blank;
    if (outer.blank == NULL) {
        outer.blank = blank;
        blank = NULL;
    }
    loop->contexts = outer;
    Py_XDECREF(blank);
}

int
hl_context_enter(HLLoop *loop, PyObject *context)
{
    if (context != NULL) {
        return hl_context_switch(loop, context);
    }
    return hl_blank_enter(loop) != NULL ? 0 : -1;
}
