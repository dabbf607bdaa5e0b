/* Watched descriptors: one uv_poll_t each, shared by all that wait for the same one.

   A watch has two sides, to read and to write.  What waits on a side is a Handle (add_reader(),
   add_writer()) or an object of the core with a function to call; the watch holds a reference to
   it.  Readiness only queues it: callbacks keep their turn, as in asyncio.

   A watch is plain memory, owned by the loop's table until uv_close(), then freed in the close
   callback.  It goes with the last side that is stopped, or when the descriptor's owner says
   so.  The descriptor stays its owner's: its blocking mode is left as it was (uvloop#712).

   A side that is left rather than stopped lets the watch rest for two polls more, because what
   waits on a socket mostly does so again at once.  Who does so time and again finds it armed.
   Its owner may close the descriptor meanwhile and never tell, and the number may come back as
   another socket: so only the socket object that armed a watch finds it armed.  What cannot be
   told is that a closed descriptor lives on in another process, where epoll goes on to watch it:
   those who pass a socket on do so after a wait or two, and until then nothing stays armed.

   The watch of a socket that is done with is parked: it stays in the table, out of everybody's
   sight, for the next socket by that number.  That spares the registration on trial and the
   mode's change that uv_poll_init() makes of each new one.

   libuv registers descriptors with epoll only at the next poll, and aborts the process if that
   fails.  So a registration is tried here at once, where it can raise; and watches armed since
   the last poll are looked at again just before it, in case their owner closed the descriptor
   and the number is nobody's by now, or that of a file that epoll does not take. */

#include "hotloop.h"
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/epoll.h>
#endif

typedef struct {
    PyObject *object;   /* owned, or NULL: nobody waits */
    HLOnReady on_ready; /* NULL where object is a Handle */
} Side;

struct HLWatch {
    uv_poll_t poll;
    HLLoop *loop; /* borrowed: the loop closes its watches before it goes */
    Side sides[2];
    PyObject *transport; /* borrowed: the one that owns the descriptor, or NULL */
    HLWatch **claim;     /* where that keeps its pointer to us; cleared when we go */
    PyObject *armed_by;  /* owned: a weak reference to the socket that armed it, or NULL */
    PyObject *file;      /* owned: what add_reader() was given instead of a number, or NULL */
    HLWatch *next_unverified;
    HLWatch *next_resting;
    int fd;
    int armed;        /* the events libuv looks for */
    int polls_rested; /* since it was left */
    int rests;        /* how often the socket came back from one, up to HL_RESTS_DISARMED */
    uint64_t told;    /* 1 + the number of the poll that last told of it, or 0 */
    bool unverified;
    bool resting;
    bool registered; /* epoll may know of it: libuv was not told to stop since it was to start */
    bool parked;     /* nobody's: see find_watch() */
};

#define HL_RESTING_POLLS 2
#define HL_RESTS_DISARMED 4 /* so many rests of a socket are without events */
#define HL_PARKED_MAX 256   /* in a loop; the memory of more is given back */

static const int side_events[2] = {UV_READABLE, UV_WRITABLE};

static HLWatch *
watch_at(HLLoop *loop, int fd)
{
    return fd >= 0 && fd < loop->watches_size ? loop->watches[fd] : NULL;
}

static HLWatch *
find_watch(HLLoop *loop, int fd)
{
    HLWatch *watch = watch_at(loop, fd);
    return watch == NULL || watch->parked ? NULL : watch;
}

static int
wanted_events(const HLWatch *watch)
{
    return (watch->sides[HL_READ].object != NULL ? UV_READABLE : 0)
           | (watch->sides[HL_WRITE].object != NULL ? UV_WRITABLE : 0);
}

/* ---- libuv callbacks ---- */

static void
on_watch_close(uv_handle_t *handle)
{
    PyMem_RawFree(handle->data);
}

static void
push_side(HLLoop *loop, const Side *side)
{
    int rc = side->on_ready == NULL ? hl_loop_push(loop, side->object, NULL, HL_RUN_HANDLE)
                                    : hl_loop_push_io(loop, side->object, side->on_ready);
    if (rc < 0) {
        PyErr_WriteUnraisable((PyObject *)loop);
    }
}

static void mark_unverified(HLWatch *watch);
static void stop_poll(HLWatch *watch);
static void start_poll(HLWatch *watch);

/* libuv asks epoll up to 48 times in a poll, as long as it is told of 1,024 descriptors. */
static bool
is_told_again(HLWatch *watch)
{
    uint64_t before = watch->told;
    watch->told = watch->loop->polls + 1;
    return before == watch->told;
}

static void
on_watch(uv_poll_t *poll, int status, int events)
{
    HLWatch *watch = poll->data;
    HLLoop *loop = watch->loop;
    hl_loop_attach(loop);
    if (is_told_again(watch)) {
        stop_poll(watch); /* until the next poll, so that this one ends */
        mark_unverified(watch);
        return;
    }
    if (status < 0) {
        /* An error condition stops a uv_poll_t; selectors report it as ready both ways. */
        events = UV_READABLE | UV_WRITABLE;
        mark_unverified(watch);
    }
    else if (events & ~wanted_events(watch)) {
        start_poll(watch); /* a side was left, see hl_watch_leave() */
    }
    for (int side = HL_READ; side <= HL_WRITE; side++) {
        if ((events & side_events[side]) && watch->sides[side].object != NULL) {
            push_side(loop, &watch->sides[side]);
        }
    }
}

/* ---- Arming ---- */

static void
mark_unverified(HLWatch *watch)
{
    if (!watch->unverified) {
        watch->unverified = true;
        watch->next_unverified = watch->loop->unverified;
        watch->loop->unverified = watch;
    }
}

static void
unmark_unverified(HLWatch *watch)
{
    HLWatch **link = &watch->loop->unverified;
    while (watch->unverified && *link != NULL) {
        if (*link == watch) {
            *link = watch->next_unverified;
            watch->unverified = false;
            return;
        }
        link = &(*link)->next_unverified;
    }
}

static void
stop_poll(HLWatch *watch)
{
    watch->armed = 0;
    if (watch->registered) {
        watch->registered = false;
        uv_poll_stop(&watch->poll);
    }
}

static void
start_poll(HLWatch *watch)
{
    int wanted = wanted_events(watch);
    if (wanted == 0) {
        stop_poll(watch);
        return;
    }
    watch->armed = wanted;
    watch->registered = true;
    uv_poll_start(&watch->poll, wanted, on_watch);
}

static void
arm(HLWatch *watch)
{
    start_poll(watch);
    mark_unverified(watch);
}

/* ---- Resting ---- */

static void
rest(HLWatch *watch)
{
    if (watch->rests < HL_RESTS_DISARMED) {
        watch->rests++;
        stop_poll(watch);
    }
    watch->polls_rested = 0;
    if (!watch->resting) {
        watch->resting = true;
        watch->next_resting = watch->loop->resting;
        watch->loop->resting = watch;
    }
}

static void
unlink_resting(HLWatch *watch)
{
    HLWatch **link = &watch->loop->resting;
    while (watch->resting && *link != NULL) {
        if (*link == watch) {
            *link = watch->next_resting;
            watch->resting = false;
            return;
        }
        link = &(*link)->next_resting;
    }
}

static void detach_watch(HLWatch *watch, bool may_park, PyObject *objects[3]);

/* Before a poll: let go of what has rested for long enough. */
static void
end_rests(HLLoop *loop)
{
    HLWatch **link = &loop->resting;
    while (*link != NULL) {
        HLWatch *watch = *link;
        bool idle = wanted_events(watch) == 0 && watch->transport == NULL;
        if (idle && watch->polls_rested++ < HL_RESTING_POLLS) {
            link = &watch->next_resting;
            continue;
        }
        *link = watch->next_resting;
        watch->resting = false;
        if (idle) {
            PyObject *none[3];
            detach_watch(watch, true, none);
        }
    }
}

static bool
is_socket(int fd)
{
    int type;
    socklen_t length = sizeof(type);
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0;
}

/* Will epoll take it?  Every socket; of other things only epoll itself can tell. */
static bool
is_pollable(HLLoop *loop, int fd)
{
    if (is_socket(fd)) {
        return true;
    }
#ifdef __linux__
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = uv_backend_fd(&loop->uv);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        return errno == EEXIST;
    }
    epoll_ctl(epoll, EPOLL_CTL_DEL, fd, &event);
    return true;
#else
    (void)loop;
    return fcntl(fd, F_GETFD) >= 0;
#endif
}

void
hl_watch_verify(HLLoop *loop)
{
    end_rests(loop);
    while (loop->unverified != NULL) {
        HLWatch *watch = loop->unverified;
        loop->unverified = watch->next_unverified;
        watch->unverified = false;
        bool active = uv_is_active((uv_handle_t *)&watch->poll);
        if (!active && wanted_events(watch) == 0) {
            watch->armed = 0; /* stopped by an error: libuv takes it from epoll by itself */
        }
        else if (!is_pollable(loop, watch->fd)) {
            stop_poll(watch);
        }
        else if (!active) {
            start_poll(watch);
        }
    }
}

/* ---- Making and closing ---- */

static int
grow_table(HLLoop *loop, int fd)
{
    if (fd < loop->watches_size) {
        return 0;
    }
    int size = loop->watches_size > 0 ? loop->watches_size : 32;
    while (size <= fd) {
        size *= 2;
    }
    HLWatch **watches = PyMem_RawRealloc(loop->watches, (size_t)size * sizeof(HLWatch *));
    if (watches == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memset(watches + loop->watches_size, 0,
           (size_t)(size - loop->watches_size) * sizeof(HLWatch *));
    loop->watches = watches;
    loop->watches_size = size;
    return 0;
}

/* uv_poll_init() makes the descriptor non-blocking; flags are those to put back. */
static int
init_poll(HLLoop *loop, HLWatch *watch, int fd, int flags)
{
    int rc = uv_poll_init(&loop->uv, &watch->poll, fd);
    if (!(flags & O_NONBLOCK)) {
        fcntl(fd, F_SETFL, flags);
    }
    return rc;
}

static HLWatch *
make_watch(HLLoop *loop, int fd)
{
    int flags = fcntl(fd, F_GETFL); /* before libuv opens descriptors of its own */
    if (flags < 0) {
        return (HLWatch *)PyErr_SetFromErrno(PyExc_OSError);
    }
    if (hl_poll_open(loop) < 0 || grow_table(loop, fd) < 0) {
        return NULL;
    }
    HLWatch *watch = PyMem_RawCalloc(1, sizeof(HLWatch));
    if (watch == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    int rc = init_poll(loop, watch, fd, flags);
    if (rc < 0) {
        PyMem_RawFree(watch);
        hl_set_uv_error(rc);
        return NULL;
    }
    watch->poll.data = watch;
    watch->loop = loop;
    watch->fd = fd;
    loop->watches[fd] = watch;
    return watch;
}

static void
unpark(HLWatch *watch)
{
    if (watch->parked) {
        watch->parked = false;
        watch->loop->watches_parked--;
    }
}

static void close_watch(HLWatch *watch, bool may_park);

/* The watch of fd, made if there is none. */
static HLWatch *
get_watch(HLLoop *loop, int fd, bool known_socket)
{
    HLWatch *watch = watch_at(loop, fd);
    if (watch == NULL) {
        return make_watch(loop, fd);
    }
    if (watch->parked && !known_socket && !is_socket(fd)) {
        close_watch(watch, false); /* epoll takes every socket, but not every descriptor */
        return make_watch(loop, fd);
    }
    unpark(watch);
    return watch;
}

/* Keep the watch for another socket?  Not in a child: its parent's epoll must not hear of it. */
static bool
park(HLWatch *watch)
{
    HLLoop *loop = watch->loop;
    if (loop->watches_parked >= HL_PARKED_MAX || loop->pid != hl_process_id()) {
        return false;
    }
    stop_poll(watch);
    watch->transport = NULL;
    watch->claim = NULL;
    watch->rests = watch->polls_rested = 0;
    watch->parked = true;
    loop->watches_parked++;
    return true;
}

/* Take the watch out of the table, or park it.  The caller gives up what the sides hold, and the
   file, afterwards, when nothing of the watch is needed any more. */
static void
detach_watch(HLWatch *watch, bool may_park, PyObject *objects[3])
{
    HLLoop *loop = watch->loop;
    unpark(watch);
    for (int side = HL_READ; side <= HL_WRITE; side++) {
        objects[side] = watch->sides[side].object;
        watch->sides[side].object = NULL;
    }
    objects[2] = watch->file;
    watch->file = NULL;
    if (watch->claim != NULL) {
        *watch->claim = NULL;
    }
    unmark_unverified(watch);
    unlink_resting(watch);
    PyObject *armed_by = watch->armed_by;
    watch->armed_by = NULL;
    bool of_socket = watch->transport != NULL || armed_by != NULL;
    Py_XDECREF(armed_by); /* a weak reference: nothing runs */
    if (may_park && of_socket && park(watch)) {
        return;
    }
    loop->watches[watch->fd] = NULL;
    if (loop->pid == hl_process_id()) {
        uv_close((uv_handle_t *)&watch->poll, on_watch_close);
    }
    else {
        PyMem_RawFree(watch); /* the parent's epoll must not hear of it */
    }
}

static void
close_watch(HLWatch *watch, bool may_park)
{
    PyObject *objects[3];
    detach_watch(watch, may_park, objects);
    Py_XDECREF(objects[HL_READ]);
    Py_XDECREF(objects[HL_WRITE]);
    Py_XDECREF(objects[2]);
}

void
hl_watch_close(HLLoop *loop, int fd)
{
    HLWatch *watch = watch_at(loop, fd);
    if (watch != NULL) {
        close_watch(watch, false);
    }
}

void
hl_watch_close_all(HLLoop *loop)
{
    loop->watches_parked = HL_PARKED_MAX; /* whatever runs meanwhile, none is kept */
    for (int fd = 0; fd < loop->watches_size; fd++) {
        if (loop->watches[fd] != NULL) {
            close_watch(loop->watches[fd], false);
        }
    }
    loop->watches_parked = 0;
    PyMem_RawFree(loop->watches);
    loop->watches = NULL;
    loop->watches_size = 0;
}

int
hl_watch_traverse(HLLoop *loop, visitproc visit, void *arg)
{
    for (int fd = 0; fd < loop->watches_size; fd++) {
        if (loop->watches[fd] != NULL) {
            Py_VISIT(loop->watches[fd]->sides[HL_READ].object);
            Py_VISIT(loop->watches[fd]->sides[HL_WRITE].object);
            Py_VISIT(loop->watches[fd]->file);
        }
    }
    return 0;
}

/* ---- Waiting ---- */

int
hl_watch_start(HLLoop *loop, int fd, HLSide side, PyObject *object, HLOnReady on_ready,
               PyObject **previous)
{
    HLWatch *watch = get_watch(loop, fd, false);
    if (watch == NULL) {
        return -1;
    }
    *previous = watch->sides[side].object;
    watch->sides[side] = (Side){Py_NewRef(object), on_ready};
    Py_CLEAR(watch->armed_by);
    arm(watch); /* also if armed: the descriptor may be another one by that number */
    return 0;
}

int
hl_watch_start_socket(HLLoop *loop, int fd, HLSide side, PyObject *object, HLOnReady on_ready,
                      PyObject *socket_ref, PyObject **previous)
{
    HLWatch *watch = find_watch(loop, fd);
    bool same = watch != NULL && watch->armed_by == socket_ref;
    bool armed = same && (watch->armed & side_events[side]);
    if (!armed
        && (hl_loop_check_process(loop) < 0 || (watch = get_watch(loop, fd, true)) == NULL)) {
        return -1;
    }
    *previous = watch->sides[side].object;
    watch->sides[side] = (Side){Py_NewRef(object), on_ready};
    if (!same) {
        Py_XSETREF(watch->armed_by, Py_NewRef(socket_ref));
        watch->rests = 0;
    }
    if (!armed) {
        arm(watch);
    }
    return 0;
}

PyObject *
hl_watch_stop(HLLoop *loop, int fd, HLSide side)
{
    HLWatch *watch = find_watch(loop, fd);
    PyObject *object = watch != NULL ? watch->sides[side].object : NULL;
    if (object == NULL) {
        return NULL;
    }
    watch->sides[side].object = NULL;
    if (wanted_events(watch) != 0 || watch->transport != NULL) {
        arm(watch);
    }
    else {
        PyObject *objects[3]; /* of the sides nothing is left */
        detach_watch(watch, true, objects);
        Py_XDECREF(objects[2]);
    }
    return object;
}

PyObject *
hl_watch_leave(HLLoop *loop, int fd, HLSide side)
{
    HLWatch *watch = find_watch(loop, fd);
    PyObject *object = watch != NULL ? watch->sides[side].object : NULL;
    if (object != NULL) {
        watch->sides[side].object = NULL;
        if (wanted_events(watch) == 0 && watch->transport == NULL) {
            rest(watch);
            Py_CLEAR(watch->file);
        }
    }
    return object;
}

PyObject *
hl_watch_waiting(HLLoop *loop, int fd, HLSide side)
{
    HLWatch *watch = find_watch(loop, fd);
    return watch != NULL ? watch->sides[side].object : NULL;
}

void
hl_watch_keep_file(HLLoop *loop, int fd, PyObject *file)
{
    HLWatch *watch = find_watch(loop, fd);
    if (watch != NULL) {
        Py_XSETREF(watch->file, Py_NewRef(file));
    }
}

int
hl_watch_of_file(HLLoop *loop, PyObject *file)
{
    for (int fd = 0; fd < loop->watches_size; fd++) {
        if (loop->watches[fd] != NULL && loop->watches[fd]->file == file) {
            return fd;
        }
    }
    return -1;
}

/* ---- Watches that a transport claims ---- */

int
hl_watch_claim(HLLoop *loop, int fd, bool known_socket, PyObject *transport, HLWatch **claim)
{
    HLWatch *watch = find_watch(loop, fd);
    if (watch != NULL) {
        close_watch(watch, true); /* of another descriptor by this number, closed since */
    }
    watch = get_watch(loop, fd, known_socket);
    if (watch == NULL) {
        return -1;
    }
    watch->transport = transport;
    watch->claim = claim;
    *claim = watch;
    return 0;
}

/* Does anybody but the transport wait?  Then its socket was closed behind its back, and theirs has
   the number now. */
static bool
has_others(const HLWatch *watch)
{
    for (int side = HL_READ; side <= HL_WRITE; side++) {
        PyObject *object = watch->sides[side].object;
        if (object != NULL && object != watch->transport) {
            return true;
        }
    }
    return false;
}

void
hl_watch_release(HLWatch *watch)
{
    if (watch != NULL && has_others(watch)) {
        *watch->claim = NULL;
        hl_watch_unset_both(watch);
        watch->transport = NULL;
        watch->claim = NULL;
    }
    else if (watch != NULL) {
        close_watch(watch, true);
    }
}

void
hl_watch_set(HLWatch *watch, HLSide side, PyObject *object, HLOnReady on_ready)
{
    if (watch == NULL || watch->loop->pid != hl_process_id()) {
        return; /* the parent's epoll must not hear of it */
    }
    PyObject *previous = watch->sides[side].object;
    watch->sides[side] = (Side){Py_NewRef(object), on_ready};
    if (!(watch->armed & side_events[side])) {
        arm(watch);
    }
    Py_XDECREF(previous);
}

void
hl_watch_unset(HLWatch *watch, HLSide side)
{
    if (watch != NULL && watch->sides[side].object == watch->transport) {
        Py_CLEAR(watch->sides[side].object);
    }
}

void
hl_watch_unset_both(HLWatch *watch)
{
    hl_watch_unset(watch, HL_READ);
    hl_watch_unset(watch, HL_WRITE);
    if (watch != NULL && wanted_events(watch) == 0 && watch->loop->pid == hl_process_id()) {
        stop_poll(watch);
    }
}

bool
hl_watch_is_set(HLWatch *watch, HLSide side)
{
    return watch != NULL && watch->sides[side].object != NULL;
}

PyObject *
hl_watch_transport(HLLoop *loop, int fd)
{
    HLWatch *watch = find_watch(loop, fd);
    return watch != NULL ? watch->transport : NULL;
}
