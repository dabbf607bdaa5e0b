/* A watched descriptor, shared by watch.c and watchpoll.c. */
#ifndef HL_WATCHPOLL_H
#define HL_WATCHPOLL_H

#include "hotloop.h"

typedef struct {
    PyObject *object;   /* owned, or NULL: nobody waits */
    HLOnReady on_ready; /* NULL where object is a Handle */
} HLWatchSide;

struct HLWatch {
    uv_poll_t poll;
    HLLoop *loop; /* borrowed: the loop closes its watches before it goes */
    HLWatchSide sides[2];
    PyObject *transport; /* borrowed: the one that owns the descriptor, or NULL */
    HLWatch **claim;     /* where that keeps its pointer to us; cleared when we go */
    PyObject *armed_by;  /* owned: a weak reference to the socket that armed it, or NULL */
    PyObject *file;      /* owned: what add_reader() was given instead of a number, or NULL */
    HLWatch *next_unverified;
    HLWatch *next_resting;
    uint64_t told; /* 1 + the number of the poll that last told of it, or 0 */
    int fd;
    int armed;        /* the events libuv looks for */
    int polls_rested; /* since it was left */
    int rests;        /* how often the socket came back from one, up to HL_RESTS_DISARMED */
    bool open;        /* libuv knows of it */
    bool unverified;
    bool postponed; /* what libuv looks for is to be set before the next poll */
    bool resting;
    bool registered; /* epoll may know of it: libuv was not told to stop since it was to start */
    bool parked;     /* nobody's: see find_watch() */
};

static inline int
hl_watch_wanted(const HLWatch *watch)
{
    return (watch->sides[HL_READ].object != NULL ? UV_READABLE : 0)
           | (watch->sides[HL_WRITE].object != NULL ? UV_WRITABLE : 0);
}

/* ---- From watchpoll.c ---- */

/* Make libuv know of the descriptor; -1 with an exception if it cannot be polled for. */
int hl_watch_open(HLWatch *watch);
/* The opposite, and free it. */
void hl_watch_dispose(HLWatch *watch);
/* Look for what is wanted, and make sure of it before the next poll. */
void hl_watch_arm(HLWatch *watch);
/* Look for nothing. */
void hl_watch_disarm(HLWatch *watch);
/* Not to be looked at before the next poll. */
void hl_watch_unmark(HLWatch *watch);
bool hl_is_socket(int fd);

#endif
