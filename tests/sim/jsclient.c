#include "tests/sim/jsclient.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"

enum { LATENCY_NS = 50000, WINDOW_BYTES = 1 << 20, READ_BYTES = 65536 };

void jsclient_init(struct jsclient *c, uint32_t index,
                   void (*message)(void *context, struct jsclient *c, const struct jsmessage *m),
                   void *context)
{
    *c = (struct jsclient){.index = index, .message = message, .context = context};
    c->rx = malloc(JSCLIENT_BYTES_MAX);
    c->tx = malloc(JSCLIENT_BYTES_MAX);
    must(c->rx != NULL && c->tx != NULL);
}

void jsclient_deinit(struct jsclient *c)
{
    free(c->rx);
    free(c->tx);
}

static void put(struct jsclient *c, const void *data, size_t bytes)
{
    must(c->tx_len + bytes <= JSCLIENT_BYTES_MAX);
    memcpy(c->tx + c->tx_len, data, bytes);
    c->tx_len += bytes;
}

static void __attribute__((format(printf, 2, 3))) say(struct jsclient *c, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int n = vsnprintf(c->tx + c->tx_len, JSCLIENT_BYTES_MAX - c->tx_len, format, list);
    va_end(list);
    must(n >= 0 && c->tx_len + (size_t)n < JSCLIENT_BYTES_MAX);
    c->tx_len += (size_t)n;
}

bool jsclient_connect(struct jsclient *c, struct server *s, uint64_t connection)
{
    c->link = server_connect(s, LATENCY_NS * (1 + c->index % 3), WINDOW_BYTES);
    c->connection = connection;
    c->is_ready = c->is_over = false;
    c->rx_len = c->tx_len = 0;
    if (c->link == NULL) return false;
    say(c,
        "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n"
        "SUB _I%u.> %u\r\n",
        c->index, JSCLIENT_INBOX_SID);
    return true;
}

void jsclient_forget(struct jsclient *c)
{
    c->link = NULL;
    c->is_ready = false;
}

void jsclient_subscribe(struct jsclient *c, const char *subject, uint32_t sid)
{
    say(c, "SUB %s %u\r\n", subject, sid);
}

void jsclient_publish(struct jsclient *c, const char *subject, uint32_t inbox, const char *headers,
                      const char *body, size_t bytes)
{
    char reply[32] = "";
    if (inbox != UINT32_MAX) snprintf(reply, sizeof reply, " _I%u.%u", c->index, inbox);
    size_t head = headers[0] == 0 ? 0 : strlen("NATS/1.0\r\n\r\n") + strlen(headers);
    if (head > 0)
        say(c, "HPUB %s%s %zu %zu\r\nNATS/1.0\r\n%s\r\n", subject, reply, head, head + bytes,
            headers);
    else
        say(c, "PUB %s%s %zu\r\n", subject, reply, bytes);
    put(c, body, bytes);
    put(c, "\r\n", 2);
}

void jsclient_flush(struct jsclient *c)
{
    if (c->tx_len == 0 || c->link == NULL) return;
    net_write(c->link, c->tx, c->tx_len);
    c->tx_len = 0;
}

uint64_t jsclient_number(struct bytes text, const char *name)
{
    const char *at = memmem(text.data, text.len, name, strlen(name));
    if (at == NULL) return UINT64_MAX;
    uint64_t n = 0;
    for (at += strlen(name); at < text.data + text.len && *at >= '0' && *at <= '9'; at++)
        n = n * 10 + (uint64_t)(*at - '0');
    return n;
}

bool jsclient_has(struct bytes text, const char *part)
{
    return memmem(text.data, text.len, part, strlen(part)) != NULL;
}

/* Words of a line; the last ones of a message are its sizes. */
static uint32_t split(struct bytes line, struct bytes *words, uint32_t max)
{
    uint32_t count = 0;
    for (size_t i = 0; i < line.len && count < max;) {
        size_t end = i;
        while (end < line.len && line.data[end] != ' ') end++;
        words[count++] = bytes_of(line.data + i, end - i);
        i = end + 1;
    }
    return count;
}

static uint64_t number(struct bytes word)
{
    return jsclient_number(word, "");
}

/* Bytes of the message with its line; 0: not all there. */
static size_t take_message(struct jsclient *c, struct bytes line, const char *behind, size_t left)
{
    struct bytes words[6];
    bool has_headers = line.data[0] == 'H';
    uint32_t count = split(line, words, 6), sizes = has_headers ? 2 : 1;
    must(count >= 3 + sizes);
    uint64_t total = number(words[count - 1]);
    uint64_t head = has_headers ? number(words[count - 2]) : 0;
    if (left < total + 2) return 0;
    struct jsmessage m = {.subject = words[1],
                          .sid = (uint32_t)number(words[2]),
                          .reply = count == 4 + sizes ? words[3] : bytes_of(NULL, 0),
                          .headers = bytes_of(behind, head),
                          .body = bytes_of(behind + head, total - head)};
    if (head > 12 && behind[8] == ' ') m.status = atoi(behind + 9);
    c->message(c->context, c, &m);
    return line.len + 2 + total + 2;
}

static size_t take(struct jsclient *c, const char *at, size_t left)
{
    const char *end = memmem(at, left, "\r\n", 2);
    if (end == NULL) return 0;
    struct bytes line = bytes_of(at, (size_t)(end - at));
    left -= line.len + 2;
    if (bytes_starts_with(line, BYTES_LITERAL("INFO "))) {
        say(c, "PING\r\n");
        jsclient_flush(c);
    } else if (bytes_starts_with(line, BYTES_LITERAL("PING"))) {
        say(c, "PONG\r\n");
        jsclient_flush(c);
    } else if (bytes_starts_with(line, BYTES_LITERAL("PONG"))) {
        c->is_ready = true;
    } else if (line.len > 4 && (line.data[0] == 'M' || line.data[0] == 'H')) {
        return take_message(c, line, end + 2, left);
    } else {
        fprintf(stderr, "client %u is told: %.*s\n", c->index, (int)line.len, line.data);
        c->is_over = true;
    }
    return line.len + 2;
}

void jsclient_read(struct jsclient *c)
{
    if (c->link == NULL) return;
    size_t n = net_read(c->link, c->rx + c->rx_len, JSCLIENT_BYTES_MAX - c->rx_len), at = 0, used;
    if (n == 0) {
        if (net_is_ended(c->link)) c->is_over = true;
        return;
    }
    c->rx_len += n;
    while ((used = take(c, c->rx + at, c->rx_len - at)) > 0) at += used;
    memmove(c->rx, c->rx + at, c->rx_len - at);
    c->rx_len -= at;
    must(c->rx_len < JSCLIENT_BYTES_MAX);
}
