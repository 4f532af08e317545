/* The stream machine against a list of messages: random publishes with every header that decides,
 * limits of every kind, removals, purges, time steps, records that become durable late or never;
 * at the end a replay of the durable records gives the same stream.
 * links: js
 * usage: model_stream [rounds] [seed] */
#include <stdio.h>
#include <stdlib.h>
#include "core/base/must.h"
#include "core/base/rng.h"
#include "core/js/publish.h"
#include "core/js/search.h"
#include "tests/support/mem_heap.h"

/* The last subject has a wildcard: a rollup of it purges what it matches. */
enum { MESSAGES_MAX = 4096, SUBJECTS = 6, WILD = 5, LOG_MAX = 4096, TEXT = 256 };

struct message {
    uint64_t seq;
    uint32_t subject, bytes;
    int64_t time_ns, deadline_ns;
    bool is_never;
    int rollup; /* 1 subject, 2 all */
    char id[16];
};

struct view {
    struct message list[MESSAGES_MAX];
    uint32_t count;
    uint64_t first, last;
    char last_id[16];
};

struct logged {
    struct record record;
    char subject[32], headers[TEXT + 16], body[32];
    uint64_t ticket;
};

struct world {
    struct mem_heap heap;
    struct rng rng;
    struct stream stream;
    struct stream_config config;
    struct view durable, staged;
    struct message queue[MESSAGES_MAX];
    uint64_t queue_ticket[MESSAGES_MAX];
    uint32_t queue_count;
    struct logged log[LOG_MAX];
    uint32_t log_count;
    uint64_t ticket;
    int64_t now_ns;
    uint64_t stored, refused, duplicates, failed;
};

static uint32_t below(struct world *w, uint32_t bound)
{
    return rng_below(&w->rng, bound);
}

static const char *subject_name(uint32_t i)
{
    static const char *const names[SUBJECTS] = {"a.1", "a.2", "a.1.x", "b.1", "b", "a.*"};
    return names[i];
}

/* --- the oracle ------------------------------------------------------------------------------ */

static void view_drop(struct view *v, uint32_t i)
{
    memmove(&v->list[i], &v->list[i + 1], (v->count - i - 1) * sizeof v->list[0]);
    v->count--;
}

static void view_settle(struct view *v)
{
    v->first = v->count > 0 ? v->list[0].seq : v->last + 1;
}

static uint64_t view_bytes(const struct view *v)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < v->count; i++) bytes += v->list[i].bytes;
    return bytes;
}

static uint32_t view_count(const struct view *v, uint32_t subject)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < v->count; i++) count += v->list[i].subject == subject;
    return count;
}

static void view_expire(struct world *w, struct view *v, int64_t now)
{
    for (uint32_t i = 0; i < v->count;) {
        const struct message *m = &v->list[i];
        bool is_old =
            w->config.max_age > 0 && !m->is_never && m->time_ns <= now - w->config.max_age;
        if (is_old || (m->deadline_ns != 0 && m->deadline_ns <= now))
            view_drop(v, i);
        else
            i++;
    }
    if (v->count == 0 && v->last > 0 && v->first <= v->last) v->first = v->last + 1;
    if (v->count > 0) v->first = v->list[0].seq;
}

static void view_trim(struct view *v, uint32_t subject, uint32_t keep)
{
    while (view_count(v, subject) > keep)
        for (uint32_t i = 0; i < v->count; i++)
            if (v->list[i].subject == subject) {
                view_drop(v, i);
                break;
            }
}

static bool is_matched_by_wild(uint32_t subject)
{
    return subject < 2 || subject == WILD;
}

static bool is_wild_rollup(const struct message *m)
{
    return m->rollup == 1 && m->subject == WILD;
}

static void view_trim_matching(struct view *v, uint64_t seq_kept)
{
    for (uint32_t i = 0; i < v->count;) {
        if (is_matched_by_wild(v->list[i].subject) && v->list[i].seq != seq_kept)
            view_drop(v, i);
        else
            i++;
    }
}

static void view_apply(struct world *w, struct view *v, const struct message *m)
{
    view_expire(w, v, m->time_ns);
    must(v->count < MESSAGES_MAX);
    v->list[v->count++] = *m;
    v->last = m->seq;
    memcpy(v->last_id, m->id, sizeof v->last_id);
    const struct stream_config *c = &w->config;
    if (c->max_msgs_per_subject > 0) view_trim(v, m->subject, (uint32_t)c->max_msgs_per_subject);
    if (m->rollup == 1) view_trim(v, m->subject, 1);
    if (is_wild_rollup(m)) view_trim_matching(v, m->seq);
    while (m->rollup == 2 && v->count > 1) view_drop(v, 0);
    if (c->discard == STREAM_DISCARD_OLD) {
        while (c->max_msgs > 0 && v->count > c->max_msgs) view_drop(v, 0);
        while (c->max_bytes > 0 && v->count > 0 && view_bytes(v) > (uint64_t)c->max_bytes)
            view_drop(v, 0);
    }
    view_settle(v);
}

static void view_restage(struct world *w)
{
    w->staged = w->durable;
    for (uint32_t i = 0; i < w->queue_count; i++) view_apply(w, &w->staged, &w->queue[i]);
}

static uint64_t view_last_of(const struct view *v, uint32_t subject)
{
    uint64_t last = 0;
    for (uint32_t i = 0; i < v->count; i++)
        if (v->list[i].subject == subject) last = v->list[i].seq;
    return last;
}

/* What the answer has to be: 0 stored, -1 duplicate, else the error. */
static int decide(struct world *w, const struct message *m, int64_t expect_subject,
                  int64_t expect_last, uint64_t *dup)
{
    const struct view *v = &w->staged;
    const struct stream_config *c = &w->config;
    if (expect_subject >= 0 && (uint64_t)expect_subject != view_last_of(v, m->subject))
        return JSAPI_STREAM_WRONG_LAST_SEQUENCE;
    if (expect_last >= 0 && (uint64_t)expect_last != v->last)
        return JSAPI_STREAM_WRONG_LAST_SEQUENCE;
    if (m->id[0] != 0) {
        for (uint32_t i = w->log_count; i > 0; i--) {
            const struct logged *l = &w->log[i - 1];
            struct bytes id = {0};
            char line[TEXT];
            if (l->record.kind != RECORD_MESSAGE) continue;
            snprintf(line, sizeof line, "Nats-Msg-Id: %s\r\n", m->id);
            if (strstr(l->headers, line) == NULL) continue;
            (void)id;
            if (w->now_ns - l->record.time_ns >= c->duplicate_window) continue;
            *dup = l->record.seq;
            return -1;
        }
    }
    if (c->discard == STREAM_DISCARD_NEW) {
        bool is_full =
            c->max_msgs_per_subject > 0 && view_count(v, m->subject) >= c->max_msgs_per_subject;
        if (is_full && c->discard_new_per_subject && m->rollup == 0)
            return JSAPI_STREAM_STORE_FAILED;
        if (c->max_msgs > 0 && v->count >= c->max_msgs && !is_full)
            return JSAPI_STREAM_STORE_FAILED;
        if (c->max_bytes > 0 && view_bytes(v) + m->bytes > (uint64_t)c->max_bytes) {
            uint32_t first = 0;
            for (uint32_t i = v->count; i > 0; i--)
                if (v->list[i - 1].subject == m->subject) first = v->list[i - 1].bytes;
            if (!is_full || first < m->bytes) return JSAPI_STREAM_STORE_FAILED;
        }
    }
    return 0;
}

/* --- steps ----------------------------------------------------------------------------------- */

/* What a rollup with wildcards leaves is known when it is durable. */
static void must_wait(struct world *w)
{
    char scratch[PUBLISH_SCRATCH_EXTRA];
    struct writer writer;
    struct stream_outcome o;
    writer_init(&writer, scratch, sizeof scratch);
    publish_check(&w->stream, BYTES_LITERAL("b"), BYTES_LITERAL(""), BYTES_LITERAL(""), w->now_ns,
                  &writer, &o);
    must(o.verdict == STREAM_WAIT);
}

static void publish(struct world *w)
{
    struct message m = {.subject = below(w, SUBJECTS)};
    char headers[TEXT] = "", scratch[TEXT * 2 + PUBLISH_SCRATCH_EXTRA], line[64];
    int64_t expect_subject = -1, expect_last = -1;
    if (w->queue_count > 0 && is_wild_rollup(&w->queue[w->queue_count - 1])) {
        must_wait(w);
        return;
    }
    if (w->log_count >= LOG_MAX || w->queue_count >= MESSAGES_MAX) return;
    if (below(w, 3) == 0) snprintf(m.id, sizeof m.id, "id%u", below(w, 40));
    if (below(w, 4) == 0 && m.subject != WILD)
        expect_subject =
            below(w, 3) == 0 ? (int64_t)below(w, 20) : (int64_t)view_last_of(&w->staged, m.subject);
    if (below(w, 8) == 0)
        expect_last = below(w, 3) == 0 ? (int64_t)below(w, 20) : (int64_t)w->staged.last;
    if (below(w, 12) == 0 || m.subject == WILD) m.rollup = below(w, 4) == 0 ? 2 : 1;
    int64_t ttl = below(w, 6) == 0 ? 1 + below(w, 5) : 0;
    m.is_never = ttl == 0 && below(w, 10) == 0;
#define ADD(...) (snprintf(line, sizeof line, __VA_ARGS__), strcat(headers, line))
    if (m.id[0] != 0) ADD("Nats-Msg-Id: %s\r\n", m.id);
    if (expect_subject >= 0)
        ADD("Nats-Expected-Last-Subject-Sequence: %lld\r\n", (long long)expect_subject);
    if (expect_last >= 0) ADD("Nats-Expected-Last-Sequence: %lld\r\n", (long long)expect_last);
    if (m.rollup != 0) ADD("Nats-Rollup: %s\r\n", m.rollup == 1 ? "sub" : "ALL");
    if (ttl != 0) ADD("Nats-TTL: %lld%s\r\n", (long long)ttl, below(w, 2) == 0 ? "s" : "");
    if (m.is_never) ADD("Nats-TTL: Never\r\n");
    char block[TEXT + 16] = "", body[32];
    if (headers[0] != 0) snprintf(block, sizeof block, "NATS/1.0\r\n%s\r\n", headers);
    uint32_t body_len = below(w, 30);
    memset(body, 'x', sizeof body);
    m.bytes = stream_message_bytes(w->config.storage, strlen(subject_name(m.subject)),
                                   strlen(block), body_len);

    view_expire(w, &w->durable, w->now_ns);
    view_restage(w);
    uint64_t dup = 0;
    int verdict = decide(w, &m, expect_subject, expect_last, &dup);

    struct writer writer;
    struct stream_outcome o;
    writer_init(&writer, scratch, sizeof scratch);
    publish_check(&w->stream, bytes_from_text(subject_name(m.subject)), bytes_from_text(block),
                  bytes_of(body, body_len), w->now_ns, &writer, &o);
    if (verdict == -1) {
        must(o.verdict == STREAM_DUPLICATE);
        must(o.seq == dup);
        w->duplicates++;
        return;
    }
    if (verdict != 0) {
        must(o.verdict == STREAM_REFUSED);
        must((int)o.error.id == verdict);
        w->refused++;
        return;
    }
    must(o.verdict == STREAM_STORE);
    must(o.seq == w->staged.last + 1);
    must(o.record.prev_seq == view_last_of(&w->staged, m.subject));
    if (below(w, 20) == 0) {
        stream_cancel(&w->stream, &o);
        return;
    }
    m.seq = o.seq;
    m.time_ns = o.record.time_ns;
    m.deadline_ns = ttl == 0 ? 0 : m.time_ns + ttl * JS_SECOND;
    struct logged *l = &w->log[w->log_count++];
    *l = (struct logged){.record = o.record, .ticket = ++w->ticket};
    snprintf(l->subject, sizeof l->subject, "%s", subject_name(m.subject));
    snprintf(l->headers, sizeof l->headers, "%s", block);
    memcpy(l->body, body, sizeof body);
    l->record.subject = bytes_from_text(l->subject);
    l->record.headers = bytes_from_text(l->headers);
    l->record.body = bytes_of(l->body, body_len);
    stream_stage(&w->stream, &o, l->ticket, 1000 + l->ticket);
    w->queue_ticket[w->queue_count] = l->ticket;
    w->queue[w->queue_count++] = m;
    view_apply(w, &w->staged, &m);
    w->stored++;
    if (is_wild_rollup(&m)) return;
    must(w->stream.staged.msgs == w->staged.count);
    must(w->stream.staged.bytes == view_bytes(&w->staged));
}

/* Searched by pieces of any size. */
static uint64_t last_of(struct world *w, const struct stream *s, struct bytes filter)
{
    struct search q;
    uint64_t seq;
    uint32_t left;
    enum err e;
    search_init(&q, s->mem, &s->msgs, &s->subjects, filter);
    do left = 1 + (uint32_t)rng_below(&w->rng, 2000);
    while (search_last(&q, &left, &seq, &e));
    must(e == ERR_OK);
    search_deinit(&q);
    return seq;
}

static void compare(struct world *w, struct stream *s)
{
    const struct view *v = &w->durable;
    must(s->msgs.live_count == v->count);
    must(s->seq_last == v->last);
    must(s->seq_first == v->first);
    must(s->bytes == view_bytes(v));
    must(s->subjects.claim_count == w->queue_count); /* else numbers are never free again */
    for (uint32_t i = 0; i < v->count; i++) must(msgs_has(&s->msgs, v->list[i].seq));
    for (uint32_t i = 0; i < WILD; i++)
        must(last_of(w, s, bytes_from_text(subject_name(i))) == view_last_of(v, i));
    uint64_t last_a = 0;
    for (uint32_t i = 0; i < v->count; i++)
        if (is_matched_by_wild(v->list[i].subject)) last_a = v->list[i].seq;
    must(last_of(w, s, BYTES_LITERAL("a.*")) == last_a);
}

static void settle(struct world *w, uint64_t ticket)
{
    uint32_t count = 0;
    while (count < w->queue_count && w->queue_ticket[count] <= ticket)
        view_apply(w, &w->durable, &w->queue[count++]);
    memmove(w->queue, w->queue + count, (w->queue_count - count) * sizeof w->queue[0]);
    memmove(w->queue_ticket, w->queue_ticket + count,
            (w->queue_count - count) * sizeof w->queue_ticket[0]);
    w->queue_count -= count;
    must(stream_settle(&w->stream, ticket) == ERR_OK);
    compare(w, &w->stream);
    view_restage(w);
}

static void fail(struct world *w)
{
    if (w->queue_count == 0) return;
    uint32_t kept = below(w, w->queue_count);
    uint64_t ticket = w->queue_ticket[kept];
    w->queue_count = kept;
    while (w->log_count > 0 && w->log[w->log_count - 1].ticket >= ticket) w->log_count--;
    stream_unstage(&w->stream, ticket);
    compare(w, &w->stream);
    view_restage(w);
    must(w->stream.staged.msgs == w->staged.count);
    w->failed++;
}

static struct logged *log_order(struct world *w, enum record_kind kind, uint64_t seq)
{
    struct logged *l = &w->log[w->log_count++];
    *l = (struct logged){.record = {.kind = kind, .seq = seq, .time_ns = w->stream.clock_ns}};
    l->ticket = ++w->ticket;
    return l;
}

static void order(struct world *w)
{
    if (w->log_count >= LOG_MAX) return;
    settle(w, w->ticket);
    (void)stream_expire(&w->stream, w->now_ns);
    view_expire(w, &w->durable, w->now_ns);
    uint64_t seq = 1 + below(w, (uint32_t)w->durable.last + 3);
    if (below(w, 2) == 0) {
        log_order(w, RECORD_ERASE, seq);
        bool is_there = stream_remove(&w->stream, seq), was_there = false;
        for (uint32_t i = 0; i < w->durable.count; i++)
            if (w->durable.list[i].seq == seq) {
                view_drop(&w->durable, i);
                view_settle(&w->durable);
                was_there = true;
                break;
            }
        must(is_there == was_there);
        must(stream_settle(&w->stream, w->ticket) == ERR_OK);
    } else {
        uint32_t subject = below(w, WILD);
        uint64_t keep = below(w, 3), count, purged = 0;
        struct logged *l = log_order(w, RECORD_PURGE, 0);
        snprintf(l->subject, sizeof l->subject, "%s", subject_name(subject));
        snprintf(l->body, sizeof l->body, "%llu", (unsigned long long)keep);
        l->record.subject = bytes_from_text(l->subject);
        l->record.body = bytes_from_text(l->body);
        stream_purge(&w->stream, l->record.subject, 0, keep, &count);
        uint32_t before = w->durable.count;
        view_trim(&w->durable, subject, (uint32_t)keep);
        purged = before - w->durable.count;
        if (purged > 0) view_settle(&w->durable);
        must(count == purged);
    }
    compare(w, &w->stream);
    view_restage(w);
}

static void check_replay(struct world *w)
{
    struct stream again;
    settle(w, w->ticket);
    must(stream_init(&again, &w->heap.mem, 7, 0, &w->config, 1, 99) == ERR_OK);
    for (uint32_t i = 0; i < w->log_count; i++)
        must(stream_replay(&again, &w->log[i].record, 1000 + w->log[i].ticket) == ERR_OK);
    (void)stream_expire(&again, w->now_ns);
    (void)stream_expire(&w->stream, w->now_ns);
    view_expire(w, &w->durable, w->now_ns);
    compare(w, &w->stream);
    compare(w, &again);
    for (uint32_t i = 0; i < 40; i++) {
        char id[16];
        struct hash128 hash;
        snprintf(id, sizeof id, "id%u", i);
        hash = dedupe_hash(&again.dedupe, bytes_from_text(id));
        must(dedupe_find(&again.dedupe, hash, w->now_ns) ==
             dedupe_find(&w->stream.dedupe, hash, w->now_ns));
    }
    must(again.last_id_len == w->stream.last_id_len || w->failed > 0);
    stream_deinit(&again);
}

static void run(uint64_t seed, uint64_t *stored, uint64_t *refused)
{
    struct world *w = calloc(1, sizeof *w);
    must(w != NULL);
    mem_heap_init(&w->heap);
    rng_init(&w->rng, seed);
    struct bytes subject = BYTES_LITERAL(">");
    struct stream_config *c = &w->config;
    *c = (struct stream_config){.name = BYTES_LITERAL("S"), .subjects = {&subject, 1}};
    c->storage = below(w, 2) == 0 ? STREAM_FILE : STREAM_MEMORY;
    c->max_msgs = below(w, 2) == 0 ? -1 : 1 + (int64_t)below(w, 20);
    c->max_bytes = below(w, 2) == 0 ? -1 : 50 + (int64_t)below(w, 1000);
    c->max_msgs_per_subject = below(w, 2) == 0 ? -1 : 1 + (int64_t)below(w, 4);
    c->max_msg_size = -1;
    c->discard = below(w, 2) == 0 ? STREAM_DISCARD_OLD : STREAM_DISCARD_NEW;
    c->discard_new_per_subject =
        c->discard == STREAM_DISCARD_NEW && c->max_msgs_per_subject > 0 && below(w, 2) == 0;
    c->max_age = below(w, 2) == 0 ? 0 : (3 + below(w, 20)) * JS_SECOND;
    c->duplicate_window = (1 + below(w, 30)) * JS_SECOND;
    c->allow_rollup_hdrs = true;
    c->allow_msg_ttl = true;
    c->first_seq = below(w, 4) == 0 ? 5 : 0;
    w->now_ns = 1000 * JS_SECOND;
    must(stream_init(&w->stream, &w->heap.mem, 7, 0, c, 1, 99) == ERR_OK);
    if (c->first_seq > 0) {
        w->durable.first = 5;
        w->durable.last = 4;
    }
    view_restage(w);
    for (int i = 0; i < 1500; i++) {
        uint32_t step = below(w, 100);
        if (step < 75)
            publish(w);
        else if (step < 88)
            settle(w, w->queue_count > 0 ? w->queue_ticket[below(w, w->queue_count)] : w->ticket);
        else if (step < 90)
            fail(w);
        else if (step < 95)
            order(w);
        else if (w->queue_count == 0)
            w->now_ns += (int64_t)below(w, 4000) * 1000000;
        else
            w->now_ns += below(w, 1000);
    }
    check_replay(w);
    *stored += w->stored;
    *refused += w->refused + w->duplicates;
    stream_deinit(&w->stream);
    must(w->heap.live_count == 0);
    free(w);
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 150;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    uint64_t stored = 0, refused = 0;
    for (int i = 0; i < rounds; i++) {
        if (rounds < 10) fprintf(stderr, "\rseed %llu ", (unsigned long long)(seed + (uint64_t)i));
        run(seed + (uint64_t)i, &stored, &refused);
    }
    printf("%d worlds, %llu stored, %llu refused or duplicate\n", rounds,
           (unsigned long long)stored, (unsigned long long)refused);
    return stored > 0 && refused > 0 ? 0 : 1;
}
