#include "bench/load_fake.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/must.h"

enum { READ_BYTES = 64 * 1024, POLL_MS = 20, LINE_BYTES = 512 };

static void append(struct load_bytes *bytes, const void *data, size_t count)
{
    if (bytes->begin == bytes->end) bytes->begin = bytes->end = 0;
    if (bytes->begin > 0 && bytes->size - bytes->end < count) {
        memmove(bytes->data, bytes->data + bytes->begin, bytes->end - bytes->begin);
        bytes->end -= bytes->begin;
        bytes->begin = 0;
    }
    while (bytes->size - bytes->end < count) {
        bytes->size = bytes->size ? bytes->size * 2 : READ_BYTES;
        bytes->data = realloc(bytes->data, bytes->size);
        must(bytes->data != NULL);
    }
    memcpy(bytes->data + bytes->end, data, count);
    bytes->end += count;
}

static void append_text(struct load_bytes *bytes, const char *text)
{
    append(bytes, text, strlen(text));
}

static void hang_up(struct load_fake *fake, uint32_t index)
{
    struct load_fake_conn *conn = &fake->conns[index];
    close(conn->fd);
    conn->fd = -1;
    conn->in.begin = conn->in.end = conn->out.begin = conn->out.end = 0;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < fake->sub_count; i++) {
        if (fake->subs[i].conn != index) fake->subs[kept++] = fake->subs[i];
    }
    fake->sub_count = kept;
}

/* --- delivering ----------------------------------------------------------------------------- */

struct message {
    const char *subject;
    const char *reply; /* "" without */
    const uint8_t *payload;
    size_t payload_bytes;
};

static void deliver_plain(struct load_fake *fake, const struct load_fake_sub *sub,
                          const struct message *m)
{
    char head[LINE_BYTES];
    struct load_bytes *out = &fake->conns[sub->conn].out;
    snprintf(head, sizeof(head), "MSG %s %llu %s%s%zu\r\n", m->subject,
             (unsigned long long)sub->sid, m->reply, m->reply[0] ? " " : "", m->payload_bytes);
    append_text(out, head);
    append(out, m->payload, m->payload_bytes);
    append_text(out, "\r\n");
}

/* The delivery that breaks the rule. */
static void deliver_broken(struct load_fake *fake, const struct load_fake_sub *sub,
                           const struct message *m)
{
    struct load_bytes *out = &fake->conns[sub->conn].out;
    struct load_fake_sub wrong = *sub;
    struct message other = *m;
    char subject[LINE_BYTES];
    switch (fake->breakage) {
    case LOAD_FAKE_DROP: return;
    case LOAD_FAKE_TWICE:
        deliver_plain(fake, sub, m);
        deliver_plain(fake, sub, m);
        return;
    case LOAD_FAKE_SWAP: append(&fake->held, m->payload, m->payload_bytes); return;
    case LOAD_FAKE_DROP_AND_COPY: return;
    case LOAD_FAKE_CONTENT:
        deliver_plain(fake, sub, m);
        out->data[out->end - 3] ^= 1;
        return;
    case LOAD_FAKE_SID:
        wrong.sid = 9;
        deliver_plain(fake, &wrong, m);
        return;
    case LOAD_FAKE_SUBJECT:
        snprintf(subject, sizeof(subject), "%s", m->subject);
        subject[strlen(subject) - 1] = '!';
        other.subject = subject;
        deliver_plain(fake, sub, &other);
        return;
    default: hang_up(fake, sub->conn); return;
    }
}

static void deliver(struct load_fake *fake, const struct load_fake_sub *sub,
                    const struct message *m)
{
    uint64_t number = fake->deliveries++;
    if (fake->breakage != LOAD_FAKE_HONEST && number == LOAD_FAKE_BREAK_AT) {
        struct load_fake_sub copy = *sub;
        deliver_broken(fake, &copy, m);
        return;
    }
    deliver_plain(fake, sub, m);
    if (number != LOAD_FAKE_BREAK_AT + 1) return;
    struct message held = {m->subject, m->reply, fake->held.data, fake->held.end};
    if (fake->breakage == LOAD_FAKE_SWAP) deliver_plain(fake, sub, &held);
    if (fake->breakage == LOAD_FAKE_DROP_AND_COPY) deliver_plain(fake, sub, m);
}

static bool matches(const char *filter, const char *subject)
{
    size_t length = strlen(filter);
    if (length > 2 && strcmp(filter + length - 2, ".*") == 0) {
        return strncmp(filter, subject, length - 1) == 0 && !strchr(subject + length - 1, '.');
    }
    return strcmp(filter, subject) == 0;
}

/* A queue subscription is picked when it is the first of its group in the list: then its group is
 * counted and the turn decides. */
static void deliver_group(struct load_fake *fake, uint32_t first, const struct message *m)
{
    uint32_t members[LOAD_FAKE_SUBS_MAX];
    uint32_t count = 0;
    const char *queue = fake->subs[first].queue;
    for (uint32_t i = 0; i < fake->sub_count; i++) {
        const struct load_fake_sub *sub = &fake->subs[i];
        if (strcmp(sub->queue, queue) != 0 || !matches(sub->filter, m->subject)) continue;
        if (i < first) return;
        members[count++] = i;
    }
    deliver(fake, &fake->subs[members[fake->turn++ % count]], m);
}

static void route(struct load_fake *fake, const struct message *m)
{
    for (uint32_t i = 0; i < fake->sub_count; i++) {
        const struct load_fake_sub *sub = &fake->subs[i];
        if (!matches(sub->filter, m->subject)) continue;
        if (sub->queue[0] == '\0')
            deliver(fake, sub, m);
        else
            deliver_group(fake, i, m);
    }
}

/* --- the protocol --------------------------------------------------------------------------- */

static void handle_sub(struct load_fake *fake, uint32_t index, const char *line)
{
    struct load_fake_sub sub = {.conn = index};
    char second[32] = "";
    char third[32] = "";
    must(fake->sub_count < LOAD_FAKE_SUBS_MAX);
    int got = sscanf(line, "SUB %63s %31s %31s", sub.filter, second, third);
    must(got >= 2);
    if (got == 3) memcpy(sub.queue, second, sizeof(sub.queue));
    sub.sid = strtoull(got == 3 ? third : second, NULL, 10);
    fake->subs[fake->sub_count++] = sub;
}

static void handle_unsub(struct load_fake *fake, uint32_t index, const char *line)
{
    uint64_t sid = strtoull(line + strlen("UNSUB "), NULL, 10);
    for (uint32_t i = 0; i < fake->sub_count; i++) {
        if (fake->subs[i].conn != index || fake->subs[i].sid != sid) continue;
        fake->subs[i] = fake->subs[--fake->sub_count];
        return;
    }
}

/* One line, with its payload if it has one. Returns the bytes it took, 0 if it is not whole. */
static size_t handle(struct load_fake *fake, uint32_t index, const uint8_t *at, size_t count)
{
    struct load_fake_conn *conn = &fake->conns[index];
    char line[LINE_BYTES];
    const uint8_t *newline = memchr(at, '\n', count);
    if (!newline) return 0;
    size_t head = (size_t)(newline - at) + 1;
    must(head < sizeof(line));
    memcpy(line, at, head);
    line[head] = '\0';
    if (strncmp(line, "PING", 4) == 0) append_text(&conn->out, "PONG\r\n");
    if (strncmp(line, "PONG", 4) == 0) fake->pongs++;
    /* A PING of its own behind each login: the client has to answer it. */
    if (strncmp(line, "CONNECT", 7) == 0) append_text(&conn->out, "PING\r\n");
    if (strncmp(line, "UNSUB", 5) == 0) handle_unsub(fake, index, line);
    if (strncmp(line, "SUB", 3) == 0) handle_sub(fake, index, line);
    if (strncmp(line, "PUB", 3) != 0) return head;

    char subject[64];
    char second[64];
    char third[32];
    int got = sscanf(line, "PUB %63s %63s %31s", subject, second, third);
    must(got >= 2);
    size_t bytes = strtoull(got == 3 ? third : second, NULL, 10);
    if (count - head < bytes + 2) return 0;
    route(fake, &(struct message){subject, got == 3 ? second : "", at + head, bytes});
    return head + bytes + 2;
}

static void serve(struct load_fake *fake, uint32_t index)
{
    struct load_fake_conn *conn = &fake->conns[index];
    uint8_t buffer[READ_BYTES];
    ssize_t got = recv(conn->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (got <= 0) {
        hang_up(fake, index);
        return;
    }
    append(&conn->in, buffer, (size_t)got);
    while (conn->fd >= 0 && conn->in.begin < conn->in.end) {
        size_t taken =
            handle(fake, index, conn->in.data + conn->in.begin, conn->in.end - conn->in.begin);
        if (taken == 0) break;
        if (conn->fd >= 0) conn->in.begin += taken;
    }
}

static void flush_all(struct load_fake *fake)
{
    for (uint32_t i = 0; i < LOAD_FAKE_CONNS_MAX; i++) {
        struct load_fake_conn *conn = &fake->conns[i];
        if (conn->fd < 0 || conn->out.begin == conn->out.end) continue;
        ssize_t sent = send(conn->fd, conn->out.data + conn->out.begin,
                            conn->out.end - conn->out.begin, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) conn->out.begin += (size_t)sent;
    }
}

static void accept_one(struct load_fake *fake)
{
    int fd = accept(fake->listen_fd, NULL, NULL);
    if (fd < 0) return;
    for (uint32_t i = 0; i < LOAD_FAKE_CONNS_MAX; i++) {
        if (fake->conns[i].fd >= 0) continue;
        fake->conns[i].fd = fd;
        append_text(&fake->conns[i].out, "INFO {\"server_name\":\"fake\",\"version\":\"0\"}\r\n");
        return;
    }
    close(fd);
}

static void *fake_main(void *argument)
{
    struct load_fake *fake = argument;
    while (!atomic_load(&fake->stop)) {
        struct pollfd fds[LOAD_FAKE_CONNS_MAX + 1];
        for (uint32_t i = 0; i < LOAD_FAKE_CONNS_MAX; i++) {
            struct load_fake_conn *conn = &fake->conns[i];
            bool has_output = conn->out.begin < conn->out.end;
            fds[i] = (struct pollfd){.fd = conn->fd,
                                     .events = (short)(has_output ? POLLIN | POLLOUT : POLLIN)};
        }
        fds[LOAD_FAKE_CONNS_MAX] = (struct pollfd){.fd = fake->listen_fd, .events = POLLIN};
        (void)poll(fds, LOAD_FAKE_CONNS_MAX + 1, POLL_MS);
        for (uint32_t i = 0; i < LOAD_FAKE_CONNS_MAX; i++) {
            if (fake->conns[i].fd >= 0 && (fds[i].revents & (POLLIN | POLLHUP | POLLERR))) {
                serve(fake, i);
            }
        }
        if (fds[LOAD_FAKE_CONNS_MAX].revents & POLLIN) accept_one(fake);
        flush_all(fake);
    }
    return NULL;
}

void load_fake_start(struct load_fake *fake, enum load_fake_break breakage)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof(address);
    *fake = (struct load_fake){.breakage = breakage};
    for (uint32_t i = 0; i < LOAD_FAKE_CONNS_MAX; i++) fake->conns[i].fd = -1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fake->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(fake->listen_fd >= 0);
    must(bind(fake->listen_fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    must(listen(fake->listen_fd, LOAD_FAKE_CONNS_MAX) == 0);
    must(getsockname(fake->listen_fd, (struct sockaddr *)&address, &length) == 0);
    snprintf(fake->port, sizeof(fake->port), "%u", (unsigned)ntohs(address.sin_port));
    must(pthread_create(&fake->thread, NULL, fake_main, fake) == 0);
}

void load_fake_stop(struct load_fake *fake)
{
    atomic_store(&fake->stop, true);
    pthread_join(fake->thread, NULL);
    for (uint32_t i = 0; i < LOAD_FAKE_CONNS_MAX; i++) {
        if (fake->conns[i].fd >= 0) close(fake->conns[i].fd);
        free(fake->conns[i].in.data);
        free(fake->conns[i].out.data);
    }
    free(fake->held.data);
    close(fake->listen_fd);
}
