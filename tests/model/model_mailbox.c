/* Mail between real threads, on tiny rings so that each wait and wake happens often.
// links: io
 * Three shards and one helper send numbered records of random sizes; every receiver checks that
 * each sender's arrive whole, once and in order. A bell that is not rung shows as a sleep that
 * ends by its timeout while work was there. Usage: model_mailbox [records per pair] */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "core/base/must.h"
#include "io/mailbox.h"
#include "tests/support/mem_heap.h"

enum { SHARDS = 3, SENDERS = 4, RING = 1024, BODY_MAX = 200, SLEEP_SECONDS_MAX = 20 };

struct bell {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_rung;
};

struct world {
    struct mailbox_net *n;
    struct bell bells[SENDERS];
    uint32_t records; /* per pair */
};

struct party {
    struct world *w;
    uint32_t self;
    uint64_t sent[SHARDS], received[SENDERS];
    uint64_t publish_count;    /* from 1; serves as the time that is stamped */
    uint64_t written[SENDERS]; /* that of the last record read */
    uint64_t stamp[SENDERS];   /* the last one taken */
    uint64_t stamp_count;
    uint64_t sleep_count, park_count;
    unsigned seed;
    pthread_t thread;
};

static void bell_ring(void *context, uint32_t who)
{
    struct bell *b = &((struct world *)context)->bells[who];
    pthread_mutex_lock(&b->lock);
    b->is_rung = true;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

static void bell_wait(struct bell *b)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += SLEEP_SECONDS_MAX;
    pthread_mutex_lock(&b->lock);
    while (!b->is_rung) must(pthread_cond_timedwait(&b->changed, &b->lock, &until) != ETIMEDOUT);
    b->is_rung = false;
    pthread_mutex_unlock(&b->lock);
}

static void record_check(struct party *p, uint32_t sender, const struct lane_record *r)
{
    uint64_t number;
    const uint8_t *body = (const uint8_t *)(r + 1);
    memcpy(&number, body, sizeof number);
    memcpy(&p->written[sender], body + sizeof number, sizeof number);
    must(number == p->received[sender]);
    must(r->kind == 1 + sender);
    must(r->flags == (uint16_t)number);
    for (uint32_t i = 2 * sizeof number; i < r->bytes - sizeof *r - 7; i++)
        must(body[i] == (uint8_t)(number + i));
    p->received[sender]++;
}

/* A stamp comes with mail that was read, and none comes twice. */
static void stamp_check(struct party *p, uint32_t sender, uint64_t at)
{
    uint64_t stamp = mailbox_stamped(p->w->n, p->self, sender, at);
    if (stamp == 0) return;
    must(stamp <= p->written[sender]);
    must(stamp > p->stamp[sender]);
    p->stamp[sender] = stamp;
    p->stamp_count++;
}

static bool receive(struct party *p)
{
    struct mailbox_batch b;
    bool did_any = false;
    for (uint32_t i = 0; i < 2 * SENDERS && mailbox_next(p->w->n, p->self, &b); i++) {
        const struct lane_record *r;
        uint32_t most = rand_r(&p->seed) % 4 == 0 ? 1 : UINT32_MAX;
        while (most-- > 0 && (r = lane_next(b.ring, b.ring_bytes, &b.at, b.end)) != NULL)
            record_check(p, b.sender, r);
        stamp_check(p, b.sender, b.at);
        mailbox_consumed(p->w->n, p->self, b.sender, b.at);
        did_any = true;
    }
    return did_any;
}

static void publish(struct party *p)
{
    mailbox_publish_at(p->w->n, p->self, p->publish_count++);
}

/* False when this lane is full and its bell was asked for. */
static bool send_one(struct party *p, uint32_t receiver)
{
    struct lane *l = mailbox_lane(p->w->n, p->self, receiver);
    uint32_t body_bytes = 16 + (uint32_t)rand_r(&p->seed) % (BODY_MAX - 16);
    uint32_t bytes = lane_record_bytes(body_bytes);
    if (!lane_has_room(l, bytes, bytes)) {
        publish(p);
        p->park_count++;
        uint64_t position = l->tail + 2 * (uint64_t)bytes - RING;
        /* Both ways of waiting: for the space needed, and for the last position (R2b). */
        if (rand_r(&p->seed) % 4 == 0) position = l->tail;
        return mailbox_await(p->w->n, p->self, receiver, position);
    }
    uint64_t number = p->sent[receiver]++;
    uint8_t *body = lane_append(l, (uint16_t)(1 + p->self), (uint16_t)number, body_bytes);
    memcpy(body, &number, sizeof number);
    memcpy(body + sizeof number, &p->publish_count, sizeof number);
    for (uint32_t i = 2 * sizeof number; i < body_bytes; i++) body[i] = (uint8_t)(number + i);
    return true;
}

/* True when something was sent. */
static bool send_some(struct party *p)
{
    bool did_any = false;
    for (uint32_t receiver = 0; receiver < SHARDS; receiver++) {
        uint32_t most = (uint32_t)rand_r(&p->seed) % 6 + 1;
        while (most-- > 0 && p->sent[receiver] < p->w->records && send_one(p, receiver))
            did_any = true;
    }
    publish(p);
    return did_any;
}

static bool is_finished(const struct party *p)
{
    for (uint32_t i = 0; i < SHARDS; i++)
        if (p->sent[i] < p->w->records) return false;
    for (uint32_t i = 0; i < SENDERS && p->self < SHARDS; i++)
        if (p->received[i] < p->w->records) return false;
    return true;
}

static void *party_main(void *argument)
{
    struct party *p = argument;
    while (!is_finished(p)) {
        bool is_busy = p->self < SHARDS && receive(p);
        is_busy |= send_some(p);
        if (is_busy || is_finished(p)) continue;
        if (p->self >= SHARDS || mailbox_may_sleep(p->w->n, p->self)) {
            p->sleep_count++;
            bell_wait(&p->w->bells[p->self]);
        }
        if (p->self < SHARDS) mailbox_awake(p->w->n, p->self);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct world w = {.records = 20000};
    if (argc > 1) w.records = (uint32_t)strtoul(argv[1], NULL, 10);
    struct mem_heap heap;
    mem_heap_init(&heap);
    must(mailbox_open(&heap.mem, SHARDS, SENDERS, RING, bell_ring, &w, &w.n) == ERR_OK);
    struct party parties[SENDERS] = {0};
    for (uint32_t i = 0; i < SENDERS; i++) {
        pthread_mutex_init(&w.bells[i].lock, NULL);
        pthread_cond_init(&w.bells[i].changed, NULL);
        parties[i].w = &w;
        parties[i].self = i;
        parties[i].seed = i + 1;
        parties[i].publish_count = 1;
    }
    for (uint32_t i = 0; i < SENDERS; i++)
        must(pthread_create(&parties[i].thread, NULL, party_main, &parties[i]) == 0);
    for (uint32_t i = 0; i < SENDERS; i++) pthread_join(parties[i].thread, NULL);
    uint64_t sleep_count = 0, park_count = 0, stamp_count = 0;
    for (uint32_t i = 0; i < SENDERS; i++) {
        sleep_count += parties[i].sleep_count;
        park_count += parties[i].park_count;
        stamp_count += parties[i].stamp_count;
    }
    printf("%u records per pair, %llu sleeps, %llu parks, %llu stamps\n", w.records,
           (unsigned long long)sleep_count, (unsigned long long)park_count,
           (unsigned long long)stamp_count);
    must(sleep_count > 0);
    must(park_count > 0);
    must(stamp_count > 0);
    mailbox_close(w.n);
    must(heap.live_count == 0);
    return 0;
}
