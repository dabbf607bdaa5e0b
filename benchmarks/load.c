/* A closed-loop load generator: every connection sends a request, waits for as many bytes in
   answer, and sends the next.

     load echo     tcp|unix ADDRESS CONNECTIONS SIZE seconds|requests NUMBER
     load connect  tcp      ADDRESS CONNECTIONS SIZE ...   a connection for each request
     load datagram udp      ADDRESS CONNECTIONS SIZE ...

   ADDRESS is a port of 127.0.0.1 or a path.  Prints one JSON object: requests, seconds, and the
   latency's p50, p99, p999 in microseconds.  Exits 1 with a message if an answer is wrong. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_SAMPLES 4000000
#define ANSWER_TIMEOUT_MS 10000

typedef struct {
    int fd;
    int unsent; /* of the request */
    int unread; /* of the answer */
    double began;
} Connection;

static enum { ECHO, CONNECT, DATAGRAM } mode;
static union {
    struct sockaddr any;
    struct sockaddr_in inet;
    struct sockaddr_un unix_;
} address;
static socklen_t address_length;
static int socket_type = SOCK_STREAM;
static int size, count, epoll_fd;
static char *request, *buffer;
static Connection *connections;
static float *samples;
static long done, wanted = -1;
static double duration, deadline;

static void
fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    exit(1);
}

static double
now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static bool
is_over(void)
{
    return wanted >= 0 ? done >= wanted : done >= count && now() >= deadline;
}

static void
watch(Connection *c, int operation, int events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, operation, c->fd, &event) < 0) {
        fail("epoll_ctl: %s", strerror(errno));
    }
}

static void
open_connection(Connection *c)
{
    int on = 1;
    c->fd = socket(address.any.sa_family, socket_type, 0);
    if (c->fd < 0 || connect(c->fd, &address.any, address_length) < 0) {
        fail("connect: %s", strerror(errno));
    }
    if (address.any.sa_family == AF_INET && socket_type == SOCK_STREAM) {
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

static void
close_connection(Connection *c)
{
    struct linger at_once = {1, 0}; /* no TIME_WAIT: ports would run out */
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close(c->fd);
}

static void
send_more(Connection *c)
{
    while (c->unsent > 0) {
        ssize_t n = send(c->fd, request + size - c->unsent, c->unsent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            return;
        }
        if (n < 0) {
            fail("send: %s", strerror(errno));
        }
        c->unsent -= (int)n;
    }
}

static void
begin_request(Connection *c)
{
    c->began = now();
    c->unsent = c->unread = size;
    send_more(c);
}

static void
finish_request(Connection *c)
{
    if (done < MAX_SAMPLES) {
        samples[done] = (float)((now() - c->began) * 1e6);
    }
    done++;
    if (mode == CONNECT) {
        close_connection(c);
        open_connection(c);
    }
    begin_request(c);
}

static void
on_event(Connection *c, int events)
{
    if (events & EPOLLOUT) {
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
        send_more(c);
    }
    if (!(events & ~EPOLLOUT)) {
        return;
    }
    ssize_t n = recv(c->fd, buffer, (size_t)size, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) {
        return;
    }
    if (n <= 0) {
        fail("the server closed a connection: %s", n < 0 ? strerror(errno) : "end of file");
    }
    if (memcmp(buffer, request + size - c->unread, (size_t)n) != 0) {
        fail("an answer is not what was sent");
    }
    c->unread -= (int)n;
    if (c->unread <= 0) {
        finish_request(c);
    }
}

static void
parse(char **argv)
{
    mode = !strcmp(argv[1], "connect") ? CONNECT : !strcmp(argv[1], "datagram") ? DATAGRAM : ECHO;
    socket_type = mode == DATAGRAM ? SOCK_DGRAM : SOCK_STREAM;
    if (!strcmp(argv[2], "unix")) {
        address.unix_.sun_family = AF_UNIX;
        strncpy(address.unix_.sun_path, argv[3], sizeof(address.unix_.sun_path) - 1);
        address_length = sizeof(address.unix_);
    }
    else {
        address.inet.sin_family = AF_INET;
        address.inet.sin_port = htons((uint16_t)atoi(argv[3]));
        address.inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address_length = sizeof(address.inet);
    }
    count = atoi(argv[4]);
    size = atoi(argv[5]);
    if (!strcmp(argv[6], "requests")) {
        wanted = atol(argv[7]);
    }
    else {
        duration = atof(argv[7]);
    }
}

static int
compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void
report(double seconds)
{
    long n = done < MAX_SAMPLES ? done : MAX_SAMPLES;
    qsort(samples, (size_t)n, sizeof(float), compare);
    printf("{\"requests\": %ld, \"seconds\": %.6f, \"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f}\n",
           done, seconds, samples[n / 2], samples[n * 99 / 100], samples[n * 999 / 1000]);
}

int
main(int argc, char **argv)
{
    if (argc != 8) {
        fail("usage: load echo|connect|datagram tcp|unix|udp ADDRESS CONNECTIONS SIZE "
             "seconds|requests NUMBER");
    }
    parse(argv);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    request = malloc((size_t)size);
    buffer = malloc((size_t)size);
    samples = malloc(MAX_SAMPLES * sizeof(float));
    connections = calloc((size_t)count, sizeof(Connection));
    epoll_fd = epoll_create1(0);
    for (int i = 0; i < size; i++) {
        request[i] = (char)('a' + i % 26);
    }
    for (int i = 0; i < count; i++) {
        open_connection(&connections[i]);
    }
    double began = now();
    deadline = began + duration;
    for (int i = 0; i < count; i++) {
        begin_request(&connections[i]);
    }
    struct epoll_event events[128];
    while (!is_over()) {
        int n = epoll_wait(epoll_fd, events, 128, ANSWER_TIMEOUT_MS);
        if (n == 0) {
            fail("no answer for %d ms", ANSWER_TIMEOUT_MS);
        }
        for (int i = 0; i < n && !is_over(); i++) {
            on_event(events[i].data.ptr, (int)events[i].events);
        }
    }
    report(now() - began);
    return 0;
}
