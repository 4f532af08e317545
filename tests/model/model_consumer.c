/* Random publishes, deletes, deliveries, acks of all kinds, time and replays against a naive
 * oracle. links: js
 *
 * The oracle is an array of messages with what the consumer may still do with each. After every
 * step the window, the floor's bound, the count of what is left and the next delivery must agree.
 * Records build a twin now and then, which must be the same and takes the place of the original.
 * Usage: model_consumer [seed [rounds]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"
#include "core/base/rng.h"
#include "core/js/consumer.h"
#include "core/route/subject.h"
#include "tests/support/mem_heap.h"

enum { SEQS_MAX = 1500, STEPS = 2500, MS = 1000000 };

enum fate { NEW, PENDING, DONE, GIVEN_UP };

struct oracle {
    bool is_there, is_released;
    char subject[16];
    enum fate fate;
    uint32_t deliveries;
    uint64_t cseq;
};

struct model {
    struct outlet outlet;
    struct mem_heap heap;
    struct rng rng;
    struct msgs msgs;
    struct subject_index subjects;
    struct consumer_feed feed;
    struct consumer_live idle;
    uint64_t first_seq;
    struct consumer consumer;
    struct consumer_config config;
    struct shard_time now;
    struct arena arena;
    struct oracle seqs[SEQS_MAX + 1];
    uint64_t last_seq, cursor, cseq;
    uint64_t deliveries, given_up, twins;
};

static void ignore_send(struct outlet *o, struct bytes subject, struct bytes reply,
                        struct bytes headers)
{
}

static bool listens(struct outlet *o, struct bytes subject)
{
    return true;
}

static bool is_heard(struct outlet *o, struct bytes subject, struct bytes group)
{
    return true;
}

static void on_event(struct outlet *o, const struct outlet_event *e)
{
    struct model *m = (struct model *)(void *)o;
    if (e->kind != OUTLET_MAX_DELIVERIES) return;
    struct oracle *s = &m->seqs[e->stream_seq];
    must(s->fate == PENDING);
    must(s->deliveries >= (uint32_t)m->config.max_deliver);
    must(e->deliveries == s->deliveries);
    s->fate = GIVEN_UP;
    m->given_up++;
}

static uint32_t below(struct model *m, uint32_t bound)
{
    return rng_below(&m->rng, bound);
}

static bool matches(const struct model *m, const struct oracle *s)
{
    uint32_t count = consumer_config_filter_count(&m->config);
    for (uint32_t i = 0; i < count; i++)
        if (subject_matches(bytes_from_text(s->subject), consumer_config_filter(&m->config, i)))
            return true;
    return count == 0;
}

static void publish(struct model *m)
{
    static const char *const subjects[] = {"a.b", "a.c", "b.b", "b.c", "c"};
    if (m->last_seq == SEQS_MAX) return;
    struct oracle *s = &m->seqs[++m->last_seq];
    *s = (struct oracle){.is_there = true};
    strcpy(s->subject, subjects[below(m, 5)]);
    uint32_t node;
    bool is_new;
    must(subject_index_intern(&m->subjects, bytes_from_text(s->subject), &node, &is_new) == ERR_OK);
    struct msgs_entry entry = {
        .place = m->last_seq, .time_ns = m->now.wall_ns, .bytes = 10, .node = node};
    must(msgs_append(&m->msgs, m->last_seq, &entry) == ERR_OK);
    subject_index_add(&m->subjects, node, m->last_seq);
    m->first_seq = msgs_first(&m->msgs);
}

static void take_out(struct model *m, uint64_t seq)
{
    struct msgs_entry entry;
    must(msgs_remove(&m->msgs, seq, &entry) == ERR_OK);
    (void)subject_index_remove(&m->subjects, entry.node, seq);
    m->first_seq = m->msgs.live_count == 0 ? m->last_seq + 1 : msgs_first(&m->msgs);
    m->seqs[seq].is_there = false;
    if (m->seqs[seq].fate != NEW) m->seqs[seq].fate = DONE;
}

static void remove_one(struct model *m)
{
    if (m->last_seq == 0) return;
    uint64_t seq = 1 + below(m, (uint32_t)m->last_seq);
    if (!m->seqs[seq].is_there) return;
    consumer_removed(&m->consumer, seq, bytes_from_text(m->seqs[seq].subject), &m->outlet);
    take_out(m, seq);
}

static void purge(struct model *m)
{
    bool is_all = below(m, 2) == 0;
    for (uint64_t seq = 1; seq <= m->last_seq; seq++)
        if (m->seqs[seq].is_there && (is_all || strcmp(m->seqs[seq].subject, "a.b") == 0))
            take_out(m, seq);
    consumer_purged(&m->consumer, is_all ? bytes_of("", 0) : BYTES_LITERAL("a.b"), m->last_seq + 1);
}

static uint64_t oracle_next(const struct model *m)
{
    for (uint64_t seq = m->cursor; seq <= m->last_seq; seq++)
        if (m->seqs[seq].is_there && matches(m, &m->seqs[seq])) return seq;
    return 0;
}

static uint64_t oracle_pending(const struct model *m)
{
    uint64_t count = 0;
    for (uint64_t seq = 1; seq <= m->last_seq; seq++) count += m->seqs[seq].fate == PENDING;
    return count;
}

static void deliver(struct model *m)
{
    struct consumer_pick pick;
    struct consumer_delivery d = {0};
    if (m->consumer.push == NULL && m->consumer.live->pulls.count == 0)
        consumer_pull(&m->consumer, m->now, &m->arena, BYTES_LITERAL("5"), BYTES_LITERAL("r"),
                      &m->outlet);
    enum consumer_verdict v = consumer_next(&m->consumer, m->now, &m->outlet, &pick);
    if (v == CONSUMER_FULL) {
        must(oracle_pending(m) >= (uint64_t)m->config.max_ack_pending);
        return;
    }
    if (v == CONSUMER_IDLE) {
        must(oracle_next(m) == 0);
        return;
    }
    must(v == CONSUMER_DELIVER);
    struct oracle *s = &m->seqs[pick.seq];
    must(s->is_there);
    must(pick.is_redelivery == (s->fate == PENDING));
    must(pick.is_redelivery || pick.seq == oracle_next(m));
    struct consumer_message message = {.subject = 3, .body = 7};
    must(consumer_deliver(&m->consumer, m->now, &pick, &message, &m->outlet, &d));
    consumer_delivered_done(&m->consumer, m->now, &d, &m->rng, &m->outlet);
    must(d.consumer_seq == ++m->cseq);
    if (pick.is_redelivery) {
        s->deliveries++;
    } else {
        s->deliveries = 1;
        s->cseq = m->cseq;
        s->fate = m->config.ack_policy == CONSUMER_ACK_NONE ? DONE : PENDING;
        m->cursor = pick.seq + 1;
    }
    must(d.deliveries == s->deliveries);
    m->deliveries++;
}

static void ack(struct model *m)
{
    static const char *const payloads[] = {"",     "+ACK",      "-NAK", "-NAK 5ms",
                                           "+WPI", "+TERM why", "huh"};
    if (m->last_seq == 0) return;
    struct ack_payload p;
    uint64_t seq = 1 + below(m, (uint32_t)m->last_seq);
    struct oracle *s = &m->seqs[seq];
    const char *text = payloads[below(m, 7)];
    ack_parse_payload(&m->arena, bytes_from_text(text), &p);
    struct ack_subject a = {
        .deliveries = s->deliveries, .stream_seq = seq, .consumer_seq = s->cseq};
    bool is_above = seq > m->consumer.floor_seq && s->cseq > m->consumer.floor_cseq &&
                    seq <= m->consumer.delivered_seq;
    (void)consumer_ack(&m->consumer, m->now, &a, &p, &m->rng, &m->outlet);
    if (p.kind != ACK_DONE && p.kind != ACK_TERM) return;
    if (m->config.ack_policy == CONSUMER_ACK_EXPLICIT && s->fate != NEW) s->fate = DONE;
    if (m->config.ack_policy == CONSUMER_ACK_ALL && is_above)
        for (uint64_t i = 1; i <= seq; i++)
            if (m->seqs[i].fate != NEW) m->seqs[i].fate = DONE;
}

/* A record is written; the twin that replays it is the same and goes on instead. */
static void save(struct model *m, bool is_twin)
{
    struct text body;
    text_init(&body, &m->heap.mem, MEM_JETSTREAM, 1 << 20);
    if (below(m, 10) == 0) consumer_encode_lost(&m->consumer, BYTES_LITERAL(""));
    consumer_encode(&m->consumer, m->now, is_twin, &body);
    must(!body.is_failed);
    must(!consumer_is_unsaved(&m->consumer));
    struct consumer_releases releases;
    uint64_t at = 0, before = 0;
    consumer_releases_begin(&releases, text_written(&body));
    while ((at = consumer_releases_next(&releases, before + 1)) != 0) {
        must(at > before);
        before = at;
        must(at <= m->last_seq);
        must(!m->seqs[at].is_there || m->seqs[at].fate == DONE || !matches(m, &m->seqs[at]) ||
             m->seqs[at].fate == NEW);
        m->seqs[at].is_released = true;
    }
    for (uint64_t seq = 1; seq <= m->last_seq; seq++)
        if (m->seqs[seq].fate == DONE && m->seqs[seq].is_there) must(m->seqs[seq].is_released);
    if (is_twin) {
        struct consumer *c = malloc(sizeof *c), old = m->consumer;
        must(c != NULL);
        must(consumer_open(c, &m->heap.mem, &m->feed, 1, &m->config, 1, m->now) == ERR_OK);
        must(consumer_apply(c, text_written(&body), m->now.wall_ns, m->now) == ERR_OK);
        must(c->delivered_seq == old.delivered_seq && c->delivered_cseq == old.delivered_cseq);
        must(c->floor_seq == old.floor_seq && c->floor_cseq == old.floor_cseq);
        must(c->live->window.pending_count == old.live->window.pending_count);
        must(c->live->window.given_up_count == old.live->window.given_up_count);
        must(consumer_left(c) == consumer_left(&m->consumer));
        consumer_set_bound(c, true, m->now);
        consumer_close(&m->consumer);
        m->consumer = *c;
        free(c);
        m->twins++;
    }
    text_deinit(&body);
}

static void check(struct model *m)
{
    uint64_t pending = 0, given_up = 0, left = 0;
    for (uint64_t seq = 1; seq <= m->last_seq; seq++) {
        const struct oracle *s = &m->seqs[seq];
        const struct ackwin_entry *e = ackwin_find(&m->consumer.live->window, seq);
        must((e != NULL) == (s->fate == PENDING || s->fate == GIVEN_UP));
        must(e == NULL || (e->deliveries == s->deliveries && e->cseq == s->cseq));
        must(e == NULL || e->state != ACKWIN_PENDING || seq > m->consumer.floor_seq);
        pending += s->fate == PENDING;
        given_up += s->fate == GIVEN_UP;
        left += seq >= m->cursor && s->is_there && matches(m, s);
        if (s->is_there && matches(m, s) && (s->fate == PENDING || s->fate == GIVEN_UP))
            must(consumer_needs(&m->consumer, seq, bytes_from_text(s->subject)));
        if (s->is_there && m->config.ack_policy == CONSUMER_ACK_EXPLICIT && s->fate == DONE)
            must(!consumer_needs(&m->consumer, seq, bytes_from_text(s->subject)));
    }
    must(m->consumer.live->window.pending_count == pending);
    must(m->consumer.live->window.given_up_count == given_up);
    must(consumer_left(&m->consumer) == left);
    must(m->consumer.floor_seq <= m->consumer.delivered_seq);
    ackwin_verify(&m->consumer.live->window);
    must(m->idle.window.count == 0 && m->idle.window.entries == NULL);
    must(m->idle.pulls.count == 0 && list_is_empty(&m->idle.pulls.requests));
    if (below(m, 4) == 0) consumer_rest(&m->consumer);
}

static void configure(struct model *m)
{
    static struct bytes two[] = {{"a.*", 3}, {"*.b", 3}};
    static struct bytes one[] = {{"a.>", 3}};
    static int64_t backoff[] = {10 * MS, 30 * MS};
    m->config = (struct consumer_config){.name = BYTES_LITERAL("c"),
                                         .durable_name = BYTES_LITERAL("c"),
                                         .ack_policy = below(m, 3),
                                         .ack_wait_ns = 20 * MS,
                                         .max_deliver = below(m, 2) == 0 ? -1 : 3,
                                         .max_ack_pending = below(m, 2) == 0 ? -1 : 20,
                                         .max_waiting = 512};
    if (below(m, 3) == 0) m->config.backoff = (struct request_durations){backoff, 2};
    switch (below(m, 4)) {
    case 0: m->config.filter_subject = BYTES_LITERAL("a.b"); break;
    case 1: m->config.filter_subjects = (struct request_texts){two, 2}; break;
    case 2: m->config.filter_subjects = (struct request_texts){one, 1}; break;
    default: break;
    }
    if (below(m, 2) == 0) m->config.deliver_subject = BYTES_LITERAL("d");
}

static void play(uint64_t seed, uint64_t *deliveries, uint64_t *given_up, uint64_t *twins)
{
    struct model *m = calloc(1, sizeof *m);
    must(m != NULL);
    m->outlet = (struct outlet){ignore_send, listens, is_heard, on_event};
    mem_heap_init(&m->heap);
    rng_init(&m->rng, seed);
    msgs_init(&m->msgs, &m->heap.mem);
    subject_index_init(&m->subjects, &m->heap.mem, 0);
    arena_init(&m->arena, &m->heap.mem, MEM_JETSTREAM);
    m->now = (struct shard_time){.mono_ns = UINT64_C(1000000000),
                                 .wall_ns = INT64_C(1700000000000000000)};
    m->feed = (struct consumer_feed){.msgs = &m->msgs,
                                     .subjects = &m->subjects,
                                     .first_seq = &m->first_seq,
                                     .last_seq = &m->last_seq,
                                     .name = BYTES_LITERAL("S"),
                                     .idle = &m->idle};
    consumer_idle_init(&m->idle, &m->heap.mem);
    configure(m);
    for (uint32_t i = below(m, 50); i > 0; i--) publish(m);
    must(consumer_open(&m->consumer, &m->heap.mem, &m->feed, 1, &m->config, 1, m->now) == ERR_OK);
    consumer_set_bound(&m->consumer, true, m->now);
    m->cursor = 1;
    for (int step = 0; step < STEPS; step++) {
        bool is_gone;
        switch (below(m, 12)) {
        case 0:
        case 1: publish(m); break;
        case 2: remove_one(m); break;
        case 3:
            if (below(m, 60) == 0) purge(m);
            break;
        case 4:
        case 5:
        case 6: deliver(m); break;
        case 7:
        case 8: ack(m); break;
        case 9:
            m->now.mono_ns += below(m, 8) * MS;
            m->now.wall_ns += 8 * MS;
            (void)consumer_timer(&m->consumer, m->now, &m->outlet, &is_gone);
            must(!is_gone);
            break;
        case 10: save(m, false); break;
        default:
            if (below(m, 10) == 0) save(m, true);
            break;
        }
        check(m);
    }
    *deliveries += m->deliveries;
    *given_up += m->given_up;
    *twins += m->twins;
    consumer_close(&m->consumer);
    msgs_clear(&m->msgs);
    subject_index_clear(&m->subjects);
    arena_deinit(&m->arena);
    must(m->heap.live_count == 0);
    free(m);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t rounds = argc > 2 ? strtoull(argv[2], NULL, 10) : 40;
    uint64_t deliveries = 0, given_up = 0, twins = 0;
    for (uint64_t i = 0; i < rounds; i++) {
        if (argc > 2) fprintf(stderr, "seed %llu\n", (unsigned long long)(seed + i));
        play(seed + i, &deliveries, &given_up, &twins);
    }
    printf("%llu deliveries, %llu given up, %llu replays\n", (unsigned long long)deliveries,
           (unsigned long long)given_up, (unsigned long long)twins);
    return deliveries > 0 && given_up > 0 && twins > 0 ? 0 : 1;
}
