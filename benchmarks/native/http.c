/* As much of HTTP/1.1 as a load generator needs: one GET, answers of status 200 that state their
   Content-Length. */

#define _GNU_SOURCE
#include "load.h"

#include <stdlib.h>
#include <string.h>

#define HEAD_LIMIT 4096

const char http_request[] = "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";

static int
body_length(const char *head)
{
    static const char name[] = "\r\nContent-Length:";
    if (strncmp(head, "HTTP/1.1 200", 12) != 0) {
        fail("an answer that is not 200: %.60s", head);
    }
    const char *found = strcasestr(head, name);
    if (found == NULL) {
        fail("an answer without Content-Length");
    }
    return atoi(found + sizeof(name) - 1);
}

/* Takes bytes into the head until it is complete: how many. */
static size_t
take_head(Connection *c, const char *data, size_t length)
{
    size_t before = (size_t)c->head_length;
    if (c->head == NULL && (c->head = malloc(HEAD_LIMIT + 1)) == NULL) {
        fail("out of memory");
    }
    if (length > HEAD_LIMIT - before) {
        length = HEAD_LIMIT - before;
    }
    memcpy(c->head + before, data, length);
    c->head[before + length] = '\0';
    char *end = strstr(c->head, "\r\n\r\n");
    if (end == NULL) {
        if (before + length == HEAD_LIMIT) {
            fail("an answer with a head of more than %d bytes", HEAD_LIMIT);
        }
        c->head_length += (int)length;
        return length;
    }
    end[2] = '\0';
    c->unread = body_length(c->head);
    c->head_length = 0;
    return (size_t)(end + 4 - c->head) - before;
}

size_t
http_answer(Connection *c, const char *data, size_t length, bool *complete)
{
    size_t taken = 0;
    if (c->unread < 0) {
        taken = take_head(c, data, length);
    }
    if (c->unread >= 0) {
        size_t body = length - taken < (size_t)c->unread ? length - taken : (size_t)c->unread;
        c->unread -= (int)body;
        taken += body;
    }
    *complete = c->unread == 0;
    return taken;
}
