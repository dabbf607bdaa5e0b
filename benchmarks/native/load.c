/* A closed-loop load generator: every connection sends a request, waits for the whole answer, and
   sends the next.  `load` without options says how it is called.

   Prints one JSON object: requests and seconds of the time measured, the latency's p50, p99, p999
   and worst in microseconds, and the processor seconds of the server and of this process.
   Exits 1 with a message if an answer is wrong or none comes. */

#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
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
#define LEAST_BUFFER 65536

static const char usage[] =
    "usage: load MODE tcp:PORT|unix:PATH|udp:PORT [option...]\n"
    "       load certificate FILE         a key and a certificate for servers, as PEM\n"
    "modes: echo      the answer is the request\n"
    "       connect   the same, with a connection for each request\n"
    "       close     connect, wait until the server closes\n"
    "       http      GET / on connections that are kept\n"
    "       idle      open connections, print a line, wait for the end of standard input\n"
    "  --connections N  1     --size BYTES  1024    --tls\n"
    "  --seconds S      how long to measure (longer if that is less than two answers a connection),\n"
    "                   from --warm-up S after each connection had an answer\n"
    "  --requests N     instead: so many, all measured\n"
    "  --pid PID        the server, to tell its processor time";

static enum { ECHO, CONNECT, CLOSE, HTTP, IDLE } mode;
static union {
    struct sockaddr any;
    struct sockaddr_in inet;
    struct sockaddr_un unix_;
} address;
static socklen_t address_length;
static int socket_type = SOCK_STREAM;
static int size = 1024, count = 1, epoll_fd, established, answered;
static bool use_tls, measuring;
static pid_t server;
static long wanted = -1;
static double duration, warm_up;

static const char *request;
static char *buffer;
static size_t buffer_size;
static Connection *connections;

static float *samples;
static long done;
static double latest; /* the clock, as last read */
static double ready;  /* when the last connection had its first answer */
static double measured_from, deadline;
static double server_cpu, client_cpu; /* when measuring began */

void
fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    exit(1);
}

/* ---- clocks ---- */

static double
read_clock(clockid_t clock)
{
    struct timespec t;
    return clock_gettime(clock, &t) < 0 ? 0 : (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double
now(void)
{
    return latest = read_clock(CLOCK_MONOTONIC);
}

static double
server_cpu_seconds(void)
{
    clockid_t clock;
    return server && clock_getcpuclockid(server, &clock) == 0 ? read_clock(clock) : 0;
}

static void
start_measuring(void)
{
    measuring = true;
    done = 0;
    server_cpu = server_cpu_seconds();
    client_cpu = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    measured_from = now();
    deadline = measured_from + duration;
}

static bool
is_over(void)
{
    /* Many connections are answered in waves: less than two of them would measure luck. */
    return measuring && (wanted >= 0 ? done >= wanted : done >= 2 * count && latest >= deadline);
}

/* ---- connections ---- */

static void
watch(Connection *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, operation, c->fd, &event) < 0) {
        fail("epoll_ctl: %s", strerror(errno));
    }
}

/* 0 at the end of file, WAIT_TO_READ when there is nothing. */
static ssize_t
receive(Connection *c)
{
    if (c->tls != NULL) {
        return tls_receive(c, buffer, buffer_size);
    }
    ssize_t n = recv(c->fd, buffer, buffer_size, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) {
        return WAIT_TO_READ;
    }
    if (n < 0) {
        fail("recv: %s", strerror(errno));
    }
    return n;
}

static ssize_t
transmit(Connection *c, const char *data, size_t length)
{
    if (c->tls != NULL) {
        return tls_send(c, data, length);
    }
    ssize_t n = send(c->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) {
        return WAIT_TO_WRITE;
    }
    if (n < 0) {
        fail("send: %s", strerror(errno));
    }
    return n;
}

static void
send_more(Connection *c)
{
    while (c->unsent > 0) {
        ssize_t n = transmit(c, request + size - c->unsent, (size_t)c->unsent);
        if (n == WAIT_TO_WRITE) {
            watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
        }
        if (n < 0) {
            return;
        }
        c->unsent -= (int)n;
    }
}

static void
begin_request(Connection *c)
{
    if (mode == IDLE || mode == CLOSE) {
        return;
    }
    if (mode != CONNECT) {
        c->began = now();
    }
    c->unsent = size;
    c->unread = mode == HTTP ? -1 : size;
    send_more(c);
}

static void
open_connection(Connection *c)
{
    int on = 1;
    c->began = now();
    c->fd = socket(address.any.sa_family, socket_type | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, &address.any, address_length) < 0) {
        fail("connect: %s", strerror(errno));
    }
    if (address.any.sa_family == AF_INET && socket_type == SOCK_STREAM) {
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
    if (use_tls) {
        tls_open(c);
    }
}

static void
go_on_with_handshake(Connection *c)
{
    int result = tls_handshake(c);
    if (result == 1) {
        established++;
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
        begin_request(c);
    }
    else {
        watch(c, EPOLL_CTL_MOD, EPOLLIN | (result == WAIT_TO_WRITE ? EPOLLOUT : 0));
    }
}

static void
start(Connection *c)
{
    open_connection(c);
    if (use_tls) {
        go_on_with_handshake(c);
    }
    else {
        established++;
        begin_request(c);
    }
}

static void
close_connection(Connection *c)
{
    struct linger at_once = {1, 0}; /* no TIME_WAIT: ports would run out */
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    if (c->tls != NULL) {
        tls_close(c);
    }
    close(c->fd);
}

/* ---- answers ---- */

static void
finish_request(Connection *c)
{
    double latency = now() - c->began;
    if (done < MAX_SAMPLES) {
        samples[done] = (float)(latency * 1e6);
    }
    done++;
    if (!c->answered) {
        c->answered = true;
        answered++;
    }
    if (mode == CONNECT || mode == CLOSE) {
        close_connection(c);
        start(c);
    }
    else {
        begin_request(c);
    }
}

/* Whether the answer is complete with these bytes. */
static bool
check_answer(Connection *c, size_t length)
{
    if (mode == HTTP) {
        bool complete;
        if (http_answer(c, buffer, length, &complete) != length) {
            fail("more bytes than the answer has");
        }
        return complete;
    }
    if (c->unread < (int)length || memcmp(buffer, request + size - c->unread, length) != 0) {
        fail("an answer is not what was sent");
    }
    c->unread -= (int)length;
    return c->unread == 0;
}

static void
on_readable(Connection *c)
{
    ssize_t n;
    do {
        n = receive(c);
        if (n == 0 && mode == CLOSE) {
            finish_request(c);
            return;
        }
        if (n == 0) {
            fail("the server closed a connection");
        }
        if (n > 0 && mode != IDLE && check_answer(c, (size_t)n)) {
            finish_request(c);
        }
    } while (n > 0 && c->tls != NULL && !is_over());
}

static void
on_event(Connection *c, uint32_t events)
{
    if (c->handshaking) {
        go_on_with_handshake(c);
        return;
    }
    if (events & EPOLLOUT) {
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
        send_more(c);
    }
    if (events & ~(uint32_t)EPOLLOUT) {
        on_readable(c);
    }
}

/* ---- the run ---- */

static void
handle_events(void)
{
    struct epoll_event events[128];
    int n = epoll_wait(epoll_fd, events, 128, ANSWER_TIMEOUT_MS);
    if (n == 0) {
        fail("no answer for %d ms", ANSWER_TIMEOUT_MS);
    }
    now();
    if (!measuring && answered >= count) {
        ready = ready > 0 ? ready : latest;
        if (latest >= ready + warm_up) {
            start_measuring();
        }
    }
    for (int i = 0; i < n && !is_over(); i++) {
        on_event(events[i].data.ptr, events[i].events);
    }
}

static int
compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void
report(void)
{
    double seconds = now() - measured_from;
    double server_used = server_cpu_seconds() - server_cpu;
    double client_used = read_clock(CLOCK_PROCESS_CPUTIME_ID) - client_cpu;
    long n = done < MAX_SAMPLES ? done : MAX_SAMPLES;
    qsort(samples, (size_t)n, sizeof(float), compare);
    printf("{\"requests\": %ld, \"seconds\": %.6f, \"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f, "
           "\"worst\": %.1f, \"server_cpu\": %.6f, \"client_cpu\": %.6f}\n",
           done, seconds, samples[n / 2], samples[n * 99 / 100], samples[n * 999 / 1000],
           samples[n - 1], server_used, client_used);
}

static void
wait_idly(void)
{
    char byte;
    while (established < count) {
        handle_events();
    }
    printf("{\"connections\": %d}\n", established);
    fflush(stdout);
    while (read(0, &byte, 1) > 0) {
    }
}

/* ---- the command line ---- */

static void
parse_mode(const char *name)
{
    static const char *const names[] = {"echo", "connect", "close", "http", "idle"};
    for (int i = 0; i < 5; i++) {
        if (!strcmp(name, names[i])) {
            mode = i;
            return;
        }
    }
    fail("%s", usage);
}

static void
parse_address(const char *where)
{
    const char *rest = strchr(where, ':');
    if (rest == NULL) {
        fail("%s", usage);
    }
    rest++;
    if (!strncmp(where, "unix:", 5)) {
        address.unix_.sun_family = AF_UNIX;
        strncpy(address.unix_.sun_path, rest, sizeof(address.unix_.sun_path) - 1);
        address_length = sizeof(address.unix_);
        return;
    }
    socket_type = !strncmp(where, "udp:", 4) ? SOCK_DGRAM : SOCK_STREAM;
    address.inet.sin_family = AF_INET;
    address.inet.sin_port = htons((uint16_t)atoi(rest));
    address.inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address_length = sizeof(address.inet);
}

static void
parse_options(int argc, char **argv)
{
    static const struct option options[] = {
        {"connections", required_argument, NULL, 'c'},
        {"size", required_argument, NULL, 's'},
        {"seconds", required_argument, NULL, 'd'},
        {"warm-up", required_argument, NULL, 'w'},
        {"requests", required_argument, NULL, 'r'},
        {"pid", required_argument, NULL, 'p'},
        {"tls", no_argument, NULL, 't'},
        {0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            count = atoi(optarg);
            break;
        case 's':
            size = atoi(optarg);
            break;
        case 'd':
            duration = atof(optarg);
            break;
        case 'w':
            warm_up = atof(optarg);
            break;
        case 'r':
            wanted = atol(optarg);
            break;
        case 'p':
            server = (pid_t)atol(optarg);
            break;
        case 't':
            use_tls = true;
            break;
        default:
            fail("%s", usage);
        }
    }
    if (count < 1 || size < 1 || wanted == 0 || (wanted < 0 && duration <= 0 && mode != IDLE)) {
        fail("%s", usage);
    }
}

static void
prepare(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    buffer_size = size > LEAST_BUFFER ? (size_t)size : LEAST_BUFFER;
    char *pattern = malloc((size_t)size);
    buffer = malloc(buffer_size);
    samples = malloc(MAX_SAMPLES * sizeof(float));
    connections = calloc((size_t)count, sizeof(Connection));
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!pattern || !buffer || !samples || !connections || epoll_fd < 0) {
        fail("out of memory");
    }
    for (int i = 0; i < size; i++) {
        pattern[i] = (char)('a' + i % 26);
    }
    request = pattern;
    if (mode == HTTP) {
        request = http_request;
        size = (int)strlen(http_request);
    }
    if (use_tls) {
        tls_setup();
    }
}

int
main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "certificate")) {
        tls_make_certificate(argv[2]);
        return 0;
    }
    if (argc < 3) {
        fail("%s", usage);
    }
    parse_mode(argv[1]);
    parse_address(argv[2]);
    parse_options(argc - 2, argv + 2);
    prepare();
    if (wanted >= 0) {
        start_measuring();
    }
    for (int i = 0; i < count; i++) {
        start(&connections[i]);
    }
    if (mode == IDLE) {
        wait_idly();
        return 0;
    }
    while (!is_over()) {
        handle_events();
    }
    report();
    return 0;
}
