/* What the files of the load generator share: one connection, the options, and the two ways in
   which bytes travel (plain, or through OpenSSL in tls.c).

   A process is one run: load.c owns every connection and the one epoll descriptor, nothing is
   freed before exit, and whatever goes wrong ends in fail(). */

#ifndef LOAD_H
#define LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

typedef struct {
    int fd;
    bool handshaking; /* TLS: not yet allowed to send a request */
    bool answered;    /* at least once: the server has accepted it */
    int unsent;       /* of the request */
    int unread;       /* of the answer; HTTP: of its body, -1 while in the head */
    int head_length;  /* HTTP: bytes of `head` that have come */
    char *head;       /* HTTP: the answer's head so far */
    double began;     /* the request, in seconds of CLOCK_MONOTONIC */
    struct ssl_st *tls;
} Connection;

/* What a transfer returns besides a number of bytes, 0 being the end of file. */
#define WAIT_TO_READ (-1)
#define WAIT_TO_WRITE (-2)

_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* tls.c.  Without OpenSSL's headers all of them fail() with a message. */
void tls_setup(void);
void tls_open(Connection *c);     /* fd is connected */
void tls_close(Connection *c);    /* before fd is closed */
int tls_handshake(Connection *c); /* 1 once done, or WAIT_... */
ssize_t tls_receive(Connection *c, void *data, size_t length);
ssize_t tls_send(Connection *c, const void *data, size_t length);
void tls_make_certificate(const char *path); /* key and self-signed certificate, PEM */

/* http.c.  How many of these bytes belong to the answer; *complete once it is whole. */
extern const char http_request[];
size_t http_answer(Connection *c, const char *data, size_t length, bool *complete);

#endif
