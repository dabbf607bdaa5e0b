/* Children: the end of each process is awaited by a pidfd, which is readable from then on.

   States: open, so that the process is known whoever waits for it; waiting, from start() on; then
   over (pidfd is -1).  The loop's watch is the only owner while it waits, and the transport is told
   once.  The pidfd is ours: closed when the process has ended, or with us if the loop is closed
   before.  Threads: the loop's.

   Linux only; elsewhere, and for want of descriptors, _process.py takes asyncio's threads. */

#include "hotloop.h"
#include <errno.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(HL_LINUX) && defined(SYS_pidfd_open)
#define HL_PIDFDS 1
#endif

typedef struct {
    PyObject_HEAD
    HLState *st;         /* borrowed: lives as long as our types */
    PyObject *loop;      /* owned */
    PyObject *transport; /* owned: told of the end */
    PyObject *context;   /* owned, or NULL for an empty one: what it is told in */
    HLWatch *watch;      /* NULL if the loop closed it */
    int pidfd;
} HLChild;

static void
close_pidfd(HLChild *self)
{
    if (self->pidfd >= 0) {
        close(self->pidfd);
        self->pidfd = -1;
    }
}

/* ---- The end ---- */

#ifdef HL_PIDFDS

#define HL_P_PIDFD ((idtype_t)3) /* P_PIDFD, which glibc before 2.36 does not name */

typedef enum { RUNNING, ENDED, REAPED_BY_ANOTHER } Status;

static Status
reap(int pidfd, int *returncode)
{
    siginfo_t info = {0};
    int rc;
    do {
        rc = waitid(HL_P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG);
    } while (rc < 0 && errno == EINTR);
    if (rc < 0) {
        return REAPED_BY_ANOTHER;
    }
    *returncode = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
    return info.si_pid != 0 ? ENDED : RUNNING;
}

static int
tell(HLChild *self, PyObject *method, int value)
{
    PyObject *transport = Py_XNewRef(self->transport);
    PyObject *number = PyLong_FromLong(value);
    PyObject *done = transport != NULL && number != NULL
                         ? PyObject_CallMethodOneArg(transport, method, number)
                         : NULL;
    Py_XDECREF(number);
    Py_XDECREF(transport);
    Py_XDECREF(done);
    return done != NULL || !PyErr_Occurred() ? 0 : -1;
}

static int
on_ended(HLLoop *loop, PyObject *op)
{
    HLChild *self = (HLChild *)op;
    int returncode;
    Status status = self->pidfd >= 0 ? reap(self->pidfd, &returncode) : RUNNING;
    if (status == RUNNING) {
        return 0;
    }
    hl_watch_release(self->watch);
    if (hl_context_enter(loop, self->context) < 0) {
        return -1;
    }
    int rc = status == ENDED ? tell(self, self->st->name._process_ended, returncode)
                             : tell(self, self->st->name._process_reaped, self->pidfd);
    close_pidfd(self);
    if (self->context == NULL) {
        hl_blank_return(loop, NULL);
    }
    return rc;
}

/* ---- Making ---- */

static int
open_pidfd(int pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

static PyObject *
child_start(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    HLChild *self = (HLChild *)op;
    HLLoop *loop = (HLLoop *)self->loop;
    if (self->watch != NULL || self->pidfd < 0) {
        Py_RETURN_NONE;
    }
    if (hl_loop_check_closed(loop) < 0 || hl_loop_check_process(loop) < 0
        || hl_watch_claim(loop, self->pidfd, true, op, &self->watch) < 0) {
        return NULL;
    }
    hl_watch_set(self->watch, HL_READ, op, on_ended);
    Py_RETURN_NONE;
}

static PyMethodDef child_methods[] = {
    {"start", child_start, METH_NOARGS,
     "start($self, /)\n--\n\nWatch for the end of the process."},
    {NULL, NULL, 0, NULL},
};

#else

static int
open_pidfd(int Py_UNUSED(pid))
{
    errno = ENOSYS;
    return -1;
}

static PyMethodDef child_methods[] = {{NULL, NULL, 0, NULL}};

#endif

static PyObject *
loop_watch_child(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    HLLoop *loop = (HLLoop *)op;
    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "_watch_child() takes a pid and a transport");
        return NULL;
    }
    long pid = PyLong_AsLong(args[0]);
    if (pid != (int)pid) {
        PyErr_SetString(PyExc_OverflowError, "there are no such process ids");
    }
    if (PyErr_Occurred() || hl_loop_check_closed(loop) < 0 || hl_loop_check_process(loop) < 0) {
        return NULL;
    }
    HLChild *self = PyObject_GC_New(HLChild, loop->st->ChildType);
    if (self == NULL) {
        return NULL;
    }
    self->st = loop->st;
    self->loop = Py_NewRef(op);
    self->transport = Py_NewRef(args[1]);
    self->context = NULL;
    self->watch = NULL;
    self->pidfd = open_pidfd((int)pid);
    PyObject_GC_Track(self);
    if (self->pidfd < 0) {
        hl_set_errno(self->st);
    }
    if (self->pidfd < 0 || hl_capture_context(&self->context) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

PyMethodDef hl_child_methods[] = {
    {"_watch_child", (PyCFunction)(void (*)(void))loop_watch_child, METH_FASTCALL,
     "_watch_child($self, pid, transport, /)\n--\n\n"
     "Return an object that, once its start() was called, calls transport._process_ended(returncode)\n"
     "when the child process has ended, or transport._process_reaped(pidfd) if somebody else was\n"
     "first to wait for it."},
    {NULL, NULL, 0, NULL},
};

/* ---- Life ---- */

static int
child_tp_traverse(PyObject *op, visitproc visit, void *arg)
{
    HLChild *self = (HLChild *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->loop);
    Py_VISIT(self->transport);
    Py_VISIT(self->context);
    return 0;
}

static int
child_tp_clear(PyObject *op)
{
    HLChild *self = (HLChild *)op;
    Py_CLEAR(self->loop);
    Py_CLEAR(self->transport);
    Py_CLEAR(self->context);
    return 0;
}

static void
child_tp_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    hl_watch_release(((HLChild *)op)->watch);
    close_pidfd((HLChild *)op);
    child_tp_clear(op);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

static PyType_Slot child_slots[] = {
    {Py_tp_doc, "Somebody who waits for the end of a process."},
    {Py_tp_methods, child_methods},
    {Py_tp_traverse, child_tp_traverse},
    {Py_tp_clear, child_tp_clear},
    {Py_tp_dealloc, child_tp_dealloc},
    {0, NULL},
};

static PyType_Spec child_spec = {
    "hotloop._core._Child",
    sizeof(HLChild),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
        | Py_TPFLAGS_IMMUTABLETYPE,
    child_slots,
};

int
hl_child_setup(PyObject *module, HLState *st)
{
    st->ChildType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &child_spec, NULL);
    return st->ChildType != NULL ? 0 : -1;
}
