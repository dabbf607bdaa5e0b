/* The limit that the loops are measured against: servers on libuv alone, without Python.

     server echo|close|http tcp|unix:PATH      server echo udp

   Prints its port (or path), serves until standard input ends, one buffer for everything.  A
   connection frees itself when it is closed. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define BUFFER_SIZE (256 * 1024)

typedef struct {
    uv_write_t request;
    char data[];
} Rest;

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                             "Content-Length: 13\r\n\r\nHello, world!";
static char buffer[BUFFER_SIZE];
static enum { TO_ECHO, TO_CLOSE, TO_ANSWER } mode;

static void
check(int result, const char *doing)
{
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", doing, uv_strerror(result));
        exit(1);
    }
}

static void
give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)handle, (void)suggested;
    *buf = uv_buf_init(buffer, sizeof(buffer));
}

static void
on_closed(uv_handle_t *handle)
{
    free(handle);
}

static void
on_rest_written(uv_write_t *request, int status)
{
    (void)status;
    free(request);
}

/* What the kernel does not take at once is copied, as the buffer is needed for the next read. */
static void
write_all(uv_stream_t *stream, const char *data, size_t length)
{
    uv_buf_t buf = uv_buf_init((char *)data, (unsigned)length);
    int n = uv_try_write(stream, &buf, 1);
    size_t written = n > 0 ? (size_t)n : 0;
    if (written == length || (n < 0 && n != UV_EAGAIN)) {
        return;
    }
    Rest *rest = malloc(sizeof(Rest) + length - written);
    memcpy(rest->data, data + written, length - written);
    buf = uv_buf_init(rest->data, (unsigned)(length - written));
    if (uv_write(&rest->request, stream, &buf, 1, on_rest_written) < 0) {
        free(rest);
    }
}

static void
on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    if (n < 0) {
        uv_close((uv_handle_t *)stream, on_closed);
    }
    else if (n > 0 && mode == TO_ECHO) {
        write_all(stream, buf->base, (size_t)n);
    }
    else if (n >= 4 && !memcmp(buf->base + n - 4, "\r\n\r\n", 4)) {
        write_all(stream, answer, sizeof(answer) - 1);
    }
}

static void
on_connection(uv_stream_t *listener, int status)
{
    check(status, "listen");
    uv_stream_t *stream = malloc(sizeof(union uv_any_handle));
    if (listener->type == UV_TCP) {
        uv_tcp_init(listener->loop, (uv_tcp_t *)stream);
    }
    else {
        uv_pipe_init(listener->loop, (uv_pipe_t *)stream, 0);
    }
    check(uv_accept(listener, stream), "accept");
    if (mode == TO_CLOSE) {
        uv_close((uv_handle_t *)stream, on_closed);
        return;
    }
    if (listener->type == UV_TCP) {
        uv_tcp_nodelay((uv_tcp_t *)stream, 1);
    }
    check(uv_read_start(stream, give_buffer, on_read), "read");
}

static void
on_datagram(uv_udp_t *handle, ssize_t n, const uv_buf_t *buf, const struct sockaddr *from,
            unsigned flags)
{
    (void)flags;
    if (from != NULL) {
        uv_buf_t echo = uv_buf_init(buf->base, (unsigned)n);
        uv_udp_try_send(handle, &echo, 1, from);
    }
}

static void
serve_datagrams(uv_loop_t *loop, const struct sockaddr *any, struct sockaddr_storage *name)
{
    static uv_udp_t handle;
    int length = sizeof(*name);
    uv_udp_init(loop, &handle);
    check(uv_udp_bind(&handle, any, 0), "bind");
    check(uv_udp_recv_start(&handle, give_buffer, on_datagram), "recv");
    uv_udp_getsockname(&handle, (struct sockaddr *)name, &length);
}

static void
serve_tcp(uv_loop_t *loop, const struct sockaddr *any, struct sockaddr_storage *name)
{
    static uv_tcp_t listener;
    int length = sizeof(*name);
    uv_tcp_init(loop, &listener);
    check(uv_tcp_bind(&listener, any, 0), "bind");
    check(uv_listen((uv_stream_t *)&listener, 1000, on_connection), "listen");
    uv_tcp_getsockname(&listener, (struct sockaddr *)name, &length);
}

static void
serve_unix(uv_loop_t *loop, const char *path)
{
    static uv_pipe_t listener;
    uv_pipe_init(loop, &listener, 0);
    check(uv_pipe_bind(&listener, path), "bind");
    check(uv_listen((uv_stream_t *)&listener, 1000, on_connection), "listen");
}

static void
on_stdin(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events;
    uv_stop(poll->loop);
}

int
main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: server echo|close|http tcp|udp|unix:PATH\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN); /* clients may leave before their answer */
    mode = !strcmp(argv[1], "close") ? TO_CLOSE : !strcmp(argv[1], "http") ? TO_ANSWER : TO_ECHO;
    uv_loop_t *loop = uv_default_loop();
    struct sockaddr_in any;
    struct sockaddr_storage name;
    uv_ip4_addr("127.0.0.1", 0, &any);
    if (!strncmp(argv[2], "unix:", 5)) {
        serve_unix(loop, argv[2] + 5);
        puts(argv[2] + 5);
    }
    else {
        (!strcmp(argv[2], "udp") ? serve_datagrams : serve_tcp)(loop, (struct sockaddr *)&any,
                                                                &name);
        printf("%d\n", ntohs(((struct sockaddr_in *)&name)->sin_port));
    }
    fflush(stdout);
    uv_poll_t end;
    check(uv_poll_init(loop, &end, 0), "standard input");
    uv_poll_start(&end, UV_READABLE | UV_DISCONNECT, on_stdin);
    uv_run(loop, UV_RUN_DEFAULT);
    return 0;
}
