/* Virtual clocks that put a method of their own in the place of loop._selector.select, beside
   loop.time: looptime, aiotools.VirtualClock.  The loop then asks it, in every turn and with the
   timeout that asyncio computes, instead of polling; it calls the method it replaced, which is
   loop._select() here, and that polls.

   loop->poller: NULL, or what took select's place (owned by the loop).
   loop->in_poller: the loop waits for it; only then may loop._select() poll.  A poll inside a
   poll would enter libuv twice, and one in a callback would ask for what the next turn asks.
   All this belongs to the thread that runs the loop. */

#include "hotloop.h"
#include <math.h>

#define MAXIMUM_SELECT_TIMEOUT (24.0 * 3600.0)

PyObject *
hl_loop_get_poller(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *poller = ((HLLoop *)self)->poller;
    return Py_NewRef(hl_or_none(poller));
}

int
hl_loop_set_poller(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    HLLoop *loop = (HLLoop *)self;
    hl_poll_soon(loop);
    Py_XSETREF(loop->poller, value == Py_None ? NULL : Py_XNewRef(value));
    return 0;
}

/* How long the loop has nothing to do, as asyncio tells select(). */
static PyObject *
timeout_of(HLLoop *loop, bool idle)
{
    double now;
    if (!idle || !hl_inbox_is_empty(&loop->inbox)) {
        return PyLong_FromLong(0);
    }
    if (loop->timers.length == 0) {
        return Py_NewRef(Py_None);
    }
    double deadline = loop->timers.timers[0].when;
    if (hl_loop_time(loop, &now) < 0) {
        return NULL;
    }
    double delay = deadline - now;
    return delay > 0.0 ? PyFloat_FromDouble(fmin(delay, MAXIMUM_SELECT_TIMEOUT))
                       : PyLong_FromLong(0);
}

int
hl_poll_by_poller(HLLoop *loop, bool idle)
{
    PyObject *timeout = timeout_of(loop, idle);
    if (timeout == NULL || hl_loop_check_process(loop) < 0) {
        Py_XDECREF(timeout);
        return -1;
    }
    PyObject *poller = Py_NewRef(loop->poller); /* it may put back what it replaced */
    loop->in_poller = true;
    PyObject *events = PyObject_CallOneArg(poller, timeout);
    loop->in_poller = false;
    hl_poll_soon(loop);
    Py_DECREF(poller);
    Py_DECREF(timeout);
    Py_XDECREF(events); /* what polling found is in the ready ring already */
    return events != NULL ? 0 : -1;
}

/* One None for each event: callers can tell how many there were. */
static PyObject *
events_since(HLLoop *loop, size_t before)
{
    size_t after = loop->ready.length + (hl_inbox_is_empty(&loop->inbox) ? 0 : 1);
    Py_ssize_t count = after > before ? (Py_ssize_t)(after - before) : 0;
    PyObject *events = PyList_New(count);
    for (Py_ssize_t i = 0; events != NULL && i < count; i++) {
        PyList_SET_ITEM(events, i, Py_NewRef(Py_None));
    }
    return events;
}

static PyObject *
loop_select(PyObject *self, PyObject *timeout)
{
    HLLoop *loop = (HLLoop *)self;
    double limit = timeout == Py_None ? HL_POLL_NO_LIMIT : PyFloat_AsDouble(timeout);
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (!loop->in_poller || loop->claimed_by != PyThread_get_thread_ident()) {
        PyErr_SetString(
            PyExc_RuntimeError,
            "select() can only be called by what was put in its place, when the loop does");
        return NULL;
    }
    size_t before = loop->ready.length;
    loop->in_poller = false; /* finalizers and signals' handlers may run now */
    loop->poll_limit = isnan(limit) ? 0.0 : limit;
    int rc = hl_poll(loop, timeout == Py_None || limit > 0.0);
    loop->poll_limit = HL_POLL_BY_TIMERS;
    loop->in_poller = true;
    return rc < 0 ? NULL : events_since(loop, before);
}

PyMethodDef hl_select_methods[] = {
    {"_select", loop_select, METH_O,
     "_select($self, timeout, /)\n--\n\n"
     "Poll for what replaced the selector's select(); return a None for each event."},
    {NULL, NULL, 0, NULL},
};
