/* Random operations of both ends of many connections, from one thread, by a seed, on each driver.
// links: io
 * Every byte must arrive once and in order, every send must end once, nothing may come after
 * DONE_CLOSED. Usage: [SEED=n] [STEPS=n] model_driver_chaos [poll|ring|plain] */
#include <stdlib.h>
#include "tests/support/driver_rig.h"

enum { CHAOS_SLOTS = 24, CHAOS_SEND_MAX = 300 * 1000, CHAOS_HELD_MAX = 64, CHAOS_STEPS = 1200 };

struct chaos_slot {
    enum { CHAOS_FREE, CHAOS_OPEN, CHAOS_CLOSING } state;
    int client;              /* -1: closed by the client */
    bool is_client_ended;    /* it wrote its last byte, and ended or reset its side */
    bool is_reset;
    bool is_ended;           /* DONE_EOF or DONE_ERROR was seen */
    bool is_suspended;
    uint32_t tag;
    uint64_t written, received; /* client to server */
    uint64_t sent, read;        /* server to client, sent as reported or begun */
    uint32_t send_bytes;        /* in flight */
    bool has_send_failed;
    char *out;
};

struct chaos {
    struct rig *r;
    unsigned seed;
    struct chaos_slot slots[CHAOS_SLOTS];
    uint32_t held[CHAOS_HELD_MAX], held_count;
    uint32_t tag_next;
    uint64_t whole_count; /* connections of which every byte arrived */
    char *scratch;
};

static uint32_t chaos_dice(struct chaos *c, uint32_t sides)
{
    return (uint32_t)rand_r(&c->seed) % sides;
}

static void chaos_open(struct chaos *c, uint32_t i)
{
    struct chaos_slot *s = &c->slots[i];
    char *out = s->out;
    int server;
    *s = (struct chaos_slot){.state = CHAOS_OPEN, .tag = ++c->tag_next, .out = out};
    pair_open(&s->client, &server);
    if (chaos_dice(c, 3) == 0) {
        int small = 32 * 1024;
        setsockopt(s->client, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        setsockopt(server, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    }
    must(c->r->d->ops->socket_add(c->r->d, i, s->tag, server) == ERR_OK);
}

static void chaos_client(struct chaos *c, struct chaos_slot *s)
{
    if (s->client < 0) return;
    uint32_t bytes = 1 + chaos_dice(c, CHAOS_SEND_MAX);
    switch (chaos_dice(c, 60)) {
    case 0: { /* reset */
        struct linger hard = {1, 0};
        setsockopt(s->client, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        close(s->client);
        s->client = -1;
        s->is_reset = s->is_client_ended = true;
        return;
    }
    case 1:
        shutdown(s->client, SHUT_WR);
        s->is_client_ended = true;
        return;
    default: break;
    }
    if (chaos_dice(c, 2) == 0 && !s->is_client_ended) {
        pattern_fill(s->tag, s->written, c->scratch, bytes);
        ssize_t n = send(s->client, c->scratch, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) s->written += (uint64_t)n;
    } else {
        ssize_t n = recv(s->client, c->scratch, bytes, MSG_DONTWAIT);
        if (n > 0) pattern_check(s->tag + 1, s->read, c->scratch, (size_t)n);
        if (n > 0) s->read += (uint64_t)n;
    }
}

static void chaos_send(struct chaos *c, uint32_t i)
{
    struct chaos_slot *s = &c->slots[i];
    if (s->send_bytes != 0 || s->has_send_failed) return;
    s->send_bytes = 64 + chaos_dice(c, chaos_dice(c, 4) == 0 ? CHAOS_SEND_MAX - 64 : 2000);
    pattern_fill(s->tag + 1, s->sent, s->out, s->send_bytes);
    struct iovec iov[DRIVER_IOV_MAX];
    uint32_t count = 1 + chaos_dice(c, DRIVER_IOV_MAX), at = 0;
    for (uint32_t k = 0; k < count; k++) {
        uint32_t len = k == count - 1 ? s->send_bytes - at : chaos_dice(c, s->send_bytes / count);
        iov[k] = (struct iovec){s->out + at, len};
        at += len;
    }
    c->r->d->ops->send(c->r->d, i, iov, count);
}

static void chaos_server(struct chaos *c, uint32_t i)
{
    struct chaos_slot *s = &c->slots[i];
    const struct driver_ops *ops = c->r->d->ops;
    switch (chaos_dice(c, 40)) {
    case 0:
        ops->socket_close(c->r->d, i);
        s->state = CHAOS_CLOSING;
        break;
    case 1:
    case 2:
    case 3:
        ops->recv_suspend(c->r->d, i);
        s->is_suspended = true;
        break;
    case 4:
    case 5:
    case 6:
    case 7:
        ops->recv_resume(c->r->d, i);
        s->is_suspended = false;
        break;
    default: chaos_send(c, i);
    }
}

static void chaos_release(struct chaos *c, uint32_t keep)
{
    while (c->held_count > keep) {
        uint32_t at = chaos_dice(c, c->held_count);
        c->r->d->ops->recv_release(c->r->d, c->held[at]);
        c->held[at] = c->held[--c->held_count];
    }
}

static void chaos_done(struct chaos *c, const struct done *d)
{
    struct chaos_slot *s = &c->slots[d->slot];
    must(s->state != CHAOS_FREE);
    must(d->tag == s->tag);
    switch (d->kind) {
    case DONE_RECV:
        must(s->state == CHAOS_OPEN && !s->is_ended);
        pattern_check(s->tag, s->received, d->data, d->len);
        s->received += d->len;
        if (c->held_count == CHAOS_HELD_MAX) chaos_release(c, CHAOS_HELD_MAX / 2);
        c->held[c->held_count++] = d->buffer;
        break;
    case DONE_EOF:
        must(s->state == CHAOS_OPEN && !s->is_ended && s->is_client_ended);
        /* The error of a reset is told once: if to a send, then receiving just ends. */
        must(s->received == s->written || s->is_reset);
        c->whole_count += s->received == s->written;
        s->is_ended = true;
        break;
    case DONE_ERROR:
        must(s->state == CHAOS_OPEN && !s->is_ended && s->is_reset);
        s->is_ended = true;
        break;
    case DONE_SENT:
        must(s->send_bytes != 0);
        must(d->result < 0 || d->result == (int32_t)s->send_bytes);
        must(d->result >= 0 || s->is_reset || s->state == CHAOS_CLOSING);
        s->has_send_failed = d->result < 0;
        if (d->result > 0) s->sent += s->send_bytes;
        s->send_bytes = 0;
        break;
    case DONE_CLOSED:
        must(s->state == CHAOS_CLOSING && s->send_bytes == 0);
        if (s->client >= 0) close(s->client);
        s->state = CHAOS_FREE;
        break;
    default: must(!"unexpected completion");
    }
}

static void chaos_poll(struct chaos *c, uint64_t timeout_ns)
{
    rig_poll(c->r, timeout_ns);
    for (uint32_t i = 0; i < c->r->count; i++) chaos_done(c, &c->r->done[i]);
}

/* Clients read on, so everything that was sent and nothing else must come out. */
static void chaos_drain(struct chaos *c)
{
    uint64_t until = now_ns() + 20000000000u;
    bool is_busy = true;
    for (uint32_t i = 0; i < CHAOS_SLOTS; i++) {
        struct chaos_slot *s = &c->slots[i];
        if (s->state != CHAOS_OPEN) continue;
        c->r->d->ops->recv_resume(c->r->d, i);
        if (!s->is_client_ended) shutdown(s->client, SHUT_WR);
        s->is_client_ended = true;
    }
    while (is_busy) {
        must(now_ns() < until);
        is_busy = false;
        chaos_release(c, 0);
        chaos_poll(c, 1000000);
        for (uint32_t i = 0; i < CHAOS_SLOTS; i++) {
            struct chaos_slot *s = &c->slots[i];
            if (s->state == CHAOS_FREE) continue;
            ssize_t n = 0;
            if (s->client >= 0) n = recv(s->client, c->scratch, CHAOS_SEND_MAX, MSG_DONTWAIT);
            if (n > 0) pattern_check(s->tag + 1, s->read, c->scratch, (size_t)n);
            if (n > 0) s->read += (uint64_t)n;
            bool is_read = s->client < 0 || s->read == s->sent;
            bool is_over = s->state == CHAOS_OPEN && s->is_ended && s->send_bytes == 0 && is_read;
            if (is_over) c->r->d->ops->socket_close(c->r->d, i);
            if (is_over) s->state = CHAOS_CLOSING;
            is_busy = true;
        }
    }
    chaos_release(c, 0);
}

static void test_chaos_keeps_every_byte_in_order(struct rig *r)
{
    const char *seed_text = getenv("SEED"), *steps_text = getenv("STEPS");
    unsigned seed = seed_text != NULL ? (unsigned)strtoul(seed_text, NULL, 10) : 1;
    uint32_t steps = steps_text != NULL ? (uint32_t)strtoul(steps_text, NULL, 10) : CHAOS_STEPS;
    rig_open_bytes(r, seed % 2 == 0 ? 256 * 1024 : 2 * 1024 * 1024);
    if (seed % 3 == 0) r->faults.send_bytes_max = 5000;
    struct chaos *c = calloc(1, sizeof *c);
    c->r = r;
    c->seed = seed;
    c->scratch = malloc(CHAOS_SEND_MAX);
    for (uint32_t i = 0; i < CHAOS_SLOTS; i++) c->slots[i].out = malloc(CHAOS_SEND_MAX);
    for (uint32_t step = 0; step < steps; step++) {
        uint32_t i = chaos_dice(c, CHAOS_SLOTS);
        if (c->slots[i].state == CHAOS_FREE) chaos_open(c, i);
        chaos_client(c, &c->slots[i]);
        if (c->slots[i].state == CHAOS_OPEN) chaos_server(c, i);
        if (chaos_dice(c, 4) == 0) chaos_poll(c, chaos_dice(c, 2) * 20000);
        if (chaos_dice(c, 3) == 0) chaos_release(c, chaos_dice(c, CHAOS_HELD_MAX));
    }
    chaos_drain(c);
    must(c->whole_count > 0);
    for (uint32_t i = 0; i < CHAOS_SLOTS; i++) free(c->slots[i].out);
    free(c->scratch);
    free(c);
    rig_close(r);
}

static const struct rig_test tests[] = {{"chaos", test_chaos_keeps_every_byte_in_order}};

int main(int argc, char **argv)
{
    return rig_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
