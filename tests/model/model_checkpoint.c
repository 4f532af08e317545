/* A checkpoint of a stream and the records behind it make the same stream as all of its records:
 * random publishes with ids, lives of their own and flags, removals, purges, consumers that deliver
 * and ack; a checkpoint at a random point, taken while PROGRESS records are still in flight; places
 * from the messages alone, of which some are dead by then.
 * links: js
 * usage: model_checkpoint [rounds] [seed] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"
#include "core/js/checkpoint.h"
#include "tests/support/mem_heap.h"

enum { LOG_MAX = 600, TEXT_MAX = 600, CONSUMERS = 3, UNUSED_ONE_IN = 16 };
#define SECOND INT64_C(1000000000)
#define START (INT64_C(1700000000) * SECOND)

struct logged {
    struct record record;
    char subject[32], headers[128], body[TEXT_MAX];
    uint64_t place;
};

static struct {
    struct mem_heap heap;
    struct rng rng;
    struct outlet outlet;
    struct shard_time now;
    struct logged log[LOG_MAX];
    uint32_t count;
    struct js live;
    uint64_t orphans;
    bool was_reset; /* a work queue keeps what a reset passes over */
    uint64_t seq, acks, pendings, placed, resets, pieces, busy;
    const char *retention, *limits;
} w;

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

static void ignore_event(struct outlet *o, const struct outlet_event *e)
{
}

static void open_js(struct js *js)
{
    js_init(js, &w.heap.mem, NULL, 7, 1 << 20);
    js->now = js->clock = w.now;
}

static struct bytes keep(char *to, struct bytes from)
{
    must(from.len <= TEXT_MAX);
    if (from.len > 0) memcpy(to, from.data, from.len);
    return bytes_of(to, from.len);
}

/* Into the log, and not yet into any stream. */
static const struct logged *append(struct record r)
{
    must(w.count < LOG_MAX);
    struct logged *l = &w.log[w.count++];
    r.stream = 5;
    r.time_ns = w.now.wall_ns;
    r.subject = keep(l->subject, r.subject);
    r.headers = keep(l->headers, r.headers);
    r.body = keep(l->body, r.body);
    l->record = r;
    l->place = 1000 + w.count;
    return l;
}

static void run(struct record r)
{
    const struct logged *l = append(r);
    enum err e = js_replay(&w.live, 0, &l->record, l->place);
    must(e == ERR_OK || e == ERR_UNKNOWN);
}

static void make_stream(void)
{
    static char body[TEXT_MAX];
    snprintf(body, sizeof body,
             "{\"config\":{\"name\":\"S\",\"subjects\":[\"s.>\"],\"storage\":\"file\","
             "\"num_replicas\":1,\"retention\":\"%s\",\"discard\":\"old\",\"allow_msg_ttl\":true,"
             "\"duplicate_window\":60000000000,%s},\"created_ns\":1700000000000000000}",
             w.retention, w.limits);
    run((struct record){
        .kind = RECORD_STREAM, .subject = BYTES_LITERAL("$G S"), .body = bytes_from_text(body)});
    for (uint64_t i = 1; i <= CONSUMERS; i++) {
        char name[8];
        snprintf(name, sizeof name, "c%u", (unsigned)i);
        snprintf(body, sizeof body,
                 "{\"config\":{\"durable_name\":\"%s\",\"ack_policy\":\"explicit\","
                 "\"deliver_policy\":\"all\",\"ack_wait\":30000000000,\"max_deliver\":-1,"
                 "\"max_ack_pending\":1000,\"max_waiting\":512,\"filter_subject\":\"s.%c\","
                 "\"replay_policy\":\"instant\"},\"created_ns\":1700000000000000000}",
                 name, w.retention[0] == 'w' || i > 2 ? (char)('0' + i) : '>');
        run((struct record){.kind = RECORD_CONSUMER,
                            .seq = i,
                            .subject = bytes_from_text(name),
                            .body = bytes_from_text(body)});
    }
}

static void publish(void)
{
    char subject[32], headers[128] = "", body[32];
    int at = 0;
    uint32_t kind = rng_below(&w.rng, 8);
    snprintf(subject, sizeof subject, "s.%u", rng_below(&w.rng, 5));
    if (kind < 4) at = snprintf(headers, sizeof headers, "NATS/1.0\r\n");
    if (kind == 0)
        at += snprintf(headers + at, sizeof headers - (size_t)at, "Nats-TTL: %u\r\n",
                       1 + rng_below(&w.rng, 100));
    if (kind == 1) at += snprintf(headers + at, sizeof headers - (size_t)at, "Nats-TTL: never\r\n");
    if (kind == 2 || kind == 3)
        at += snprintf(headers + at, sizeof headers - (size_t)at, "Nats-Msg-Id: i%u\r\n", w.count);
    if (kind < 4) (void)snprintf(headers + at, sizeof headers - (size_t)at, "\r\n");
    snprintf(body, sizeof body, "%u", w.count);
    run((struct record){.kind = rng_below(&w.rng, 20) == 0 ? RECORD_SKIP : RECORD_MESSAGE,
                        .seq = ++w.seq,
                        .subject = bytes_from_text(subject),
                        .headers = bytes_from_text(headers),
                        .body = bytes_from_text(body)});
}

static struct js_stream *stream_of(struct js *js)
{
    struct js_stream *s = js_find_id(js, 5);
    must(s != NULL);
    return s;
}

/* A consumer delivers and gets acks. */
static struct consumer *deliver(void)
{
    struct js_stream *s = stream_of(&w.live);
    struct consumer *c = consumer_set_find_number(&s->consumers, 1 + rng_below(&w.rng, CONSUMERS));
    struct arena arena;
    struct consumer_pick pick;
    struct consumer_delivery d = {0};
    struct consumer_message m = {.subject = 3, .body = 5};
    arena_init(&arena, &w.heap.mem, MEM_JETSTREAM);
    for (uint32_t i = rng_below(&w.rng, 6); i > 0; i--) {
        consumer_pull(c, w.now, &arena, BYTES_LITERAL("1"), BYTES_LITERAL("r"), &w.outlet);
        if (consumer_next(c, w.now, &w.outlet, &pick) != CONSUMER_DELIVER) break;
        if (!consumer_deliver(c, w.now, &pick, &m, &w.outlet, &d)) break;
        consumer_delivered_done(c, w.now, &d, &w.rng, &w.outlet);
        if (rng_below(&w.rng, 3) == 0) continue;
        /* Or of one that came before a reset. */
        uint64_t acked = rng_below(&w.rng, 8) == 0 ? 1 + rng_below(&w.rng, (uint32_t)d.seq) : d.seq;
        struct ack_subject a = {
            .deliveries = d.deliveries, .stream_seq = acked, .consumer_seq = d.consumer_seq};
        struct ack_payload p;
        ack_parse_payload(&arena, BYTES_LITERAL("+ACK"), &p);
        (void)consumer_ack(c, w.now, &a, &p, &w.rng, &w.outlet);
        w.acks++;
    }
    arena_deinit(&arena);
    return c;
}

/* Its record, which may be told as stored later. */
static const struct logged *save(struct consumer *c)
{
    if (!consumer_is_unsaved(c)) return NULL;
    struct text body;
    text_init(&body, &w.heap.mem, MEM_JETSTREAM, TEXT_MAX);
    consumer_encode(c, w.now, false, &body);
    must(!body.is_failed);
    const struct logged *l = append((struct record){.kind = RECORD_PROGRESS,
                                                    .seq = c->number,
                                                    .prev_seq = ++c->progress,
                                                    .body = text_written(&body)});
    text_deinit(&body);
    return l;
}

static const struct logged *consume(void)
{
    return save(deliver());
}

static void told(const struct logged *l)
{
    if (l != NULL) {
        struct js_stream *s = stream_of(&w.live);
        const struct consumer *c = consumer_set_find_number(&s->consumers, l->record.seq);
        js_progress_stored(&w.live, s, c, l->record.body, 0);
    }
}

/* As CONSUMER.RESET does it: what was settled is told of first, then the whole new state. In an
 * interest stream all that lies before goes, by the record and here. */
static void reset(void)
{
    struct js_stream *s = stream_of(&w.live);
    struct consumer *c = consumer_set_find_number(&s->consumers, 1 + rng_below(&w.rng, CONSUMERS));
    char text[64];
    struct writer why;
    struct arena arena;
    struct js_work work = {.end = s->stream.seq_last + 1};
    uint64_t seq = rng_below(&w.rng, 4) == 0 ? 0 : 1 + rng_below(&w.rng, (uint32_t)w.seq + 3);
    bool settles = s->stream.config.retention == STREAM_INTEREST;
    if (rng_below(&w.rng, 3) != 0) return;
    for (uint64_t i = 1; i <= CONSUMERS; i++)
        told(save(consumer_set_find_number(&s->consumers, i)));
    arena_init(&arena, &w.heap.mem, MEM_JETSTREAM);
    writer_init(&why, text, sizeof text);
    must(consumer_reset_seq(c, seq, &seq, &arena, &why) == ERR_OK);
    consumer_reset(c, seq, settles);
    arena_deinit(&arena);
    must(save(c) != NULL);
    if (seq < work.end) work.end = seq;
    while (settles && js_reset_step(s, c, &work)) continue;
    w.resets++;
    w.was_reset = true;
}

static void step(void)
{
    struct js_stream *s = stream_of(&w.live);
    uint64_t span = s->stream.seq_last - s->stream.seq_first + 2;
    w.now.wall_ns += rng_below(&w.rng, 3000) * 1000000;
    w.now.mono_ns += 1000000000;
    switch (rng_below(&w.rng, 14)) {
    case 0:
        run((struct record){.kind = RECORD_ERASE,
                            .seq = s->stream.seq_first + rng_below(&w.rng, (uint32_t)span)});
        break;
    case 1:
        if (rng_below(&w.rng, 4) != 0) break;
        run((struct record){.kind = RECORD_PURGE,
                            .subject = rng_below(&w.rng, 2) == 0 ? BYTES_LITERAL("s.3")
                                                                 : BYTES_LITERAL(""),
                            .seq = rng_below(&w.rng, 2) == 0 ? s->stream.seq_last : 0});
        if (stream_of(&w.live)->stream.seq_last > w.seq) w.seq = s->stream.seq_last;
        break;
    case 2:
    case 3:
    case 4: told(consume()); break;
    case 5: reset(); break;
    default: publish(); break;
    }
}

/* --- comparing ------------------------------------------------------------------------------ */

static void describe(struct js *js, struct text *out)
{
    struct js_stream *s = stream_of(js);
    struct json_write j;
    struct msgs_cursor cursor;
    struct msgs_entry e;
    struct stream_report state;
    enum err e_count;
    uint32_t left = UINT32_MAX;
    uint64_t seq;
    text_clear(out);
    json_write_init(&j, out, 0);
    json_write_object(&j, NULL);
    stream_config_write(&s->stream.config, &j, "config", false);
    stream_report_init(&state, s->stream.mem);
    state.has_deleted = true;
    state.subjects_filter = BYTES_LITERAL(">");
    must(!stream_report_count(&s->stream, &state, &left, &e_count) && e_count == ERR_OK);
    must(!stream_report_write(&s->stream, &state, &j, &left));
    stream_report_deinit(&state);
    json_write_u64(&j, "number_next", s->consumers.number_next);
    json_write_text(&j, "last_id", bytes_of(s->stream.last_id, s->stream.last_id_len));
    /* Of messages that went, entries may be left behind. */
    uint64_t lives = 0;
    for (uint32_t i = 0; i < s->stream.ttl.count; i++) {
        const struct msg_ttl_entry *l = &s->stream.ttl.entries[i];
        if (msgs_has(&s->stream.msgs, l->seq)) lives += l->seq * 31 ^ (uint64_t)l->deadline_ns;
    }
    json_write_u64(&j, "lives", lives);
    json_write_u64(&j, "used", s->quota->storage.used);
    for (uint32_t i = 0; i < w.count; i++) {
        char id[16];
        snprintf(id, sizeof id, "i%u", i);
        struct hash128 hash = dedupe_hash(&s->stream.dedupe, bytes_from_text(id));
        json_write_u64_if(&j, "id", dedupe_find(&s->stream.dedupe, hash, w.now.wall_ns));
    }
    msgs_cursor_init(&cursor, &s->stream.msgs, 0);
    while ((seq = msgs_cursor_next(&cursor, &e)) != 0) {
        json_write_u64(&j, "seq", seq);
        json_write_u64(&j, "place", e.place);
        json_write_u64(&j, "bytes", e.bytes);
        json_write_text(&j, "subject", subject_index_subject(&s->stream.subjects, e.node));
    }
    for (uint64_t i = 1; i <= CONSUMERS; i++) {
        struct consumer *c = consumer_set_find_number(&s->consumers, i);
        must(c != NULL);
        json_write_u64(&j, "delivered", c->delivered_seq);
        json_write_u64(&j, "delivered_cseq", c->delivered_cseq);
        json_write_u64(&j, "floor", c->floor_seq);
        json_write_u64(&j, "left", consumer_left(c));
        json_write_u64(&j, "progress", c->progress);
        struct ackwin_entry *p = NULL;
        for (uint64_t at = 0; (p = ackwin_next(&c->live->window, at)) != NULL; at = p->seq + 1) {
            if (p->state == ACKWIN_HOLE) continue;
            json_write_u64(&j, "pending", p->seq);
            json_write_u64(&j, "cseq", p->cseq);
            json_write_u64(&j, "deliveries", p->deliveries);
            w.pendings++;
        }
    }
    json_write_end(&j);
    must(!out->is_failed);
}

/* As a start does: the checkpoint; messages before it, head only; everything behind `told`. */
static void start(struct js *js, const struct text *checkpoint, uint32_t told_count)
{
    struct bytes name;
    struct record r = {.kind = RECORD_CHECKPOINT, .stream = 5, .body = text_written(checkpoint)};
    must(checkpoint_name(r.body, &name) == ERR_OK);
    must(bytes_equal(name, BYTES_LITERAL("$G S")));
    must(js_replay(js, 0, &r, 0) == ERR_OK);
    for (uint32_t i = 0; i < w.count; i++) {
        struct record copy = w.log[i].record;
        if (i < told_count) {
            if (copy.kind != RECORD_MESSAGE) continue;
            copy.headers.data = copy.body.data = NULL;
            w.placed++;
        }
        enum err e = js_replay(js, 0, &copy, w.log[i].place);
        must(e == ERR_OK || e == ERR_UNKNOWN);
    }
    js_replay_end(js);
}

/* The power takes every record behind the checkpoint, which knows of acks that are in none: nothing
 * may wait for ever for consumers that are done with it. */
static void cut(const struct text *checkpoint, uint32_t told_count)
{
    struct js js;
    open_js(&js);
    start(&js, checkpoint, told_count);
    struct js_stream *s = stream_of(&js);
    uint64_t seq = 0;
    struct msgs_entry entry;
    enum stream_retention retention = s->stream.config.retention;
    while (retention != STREAM_LIMITS && (seq = msgs_next(&s->stream.msgs, seq + 1)) != 0) {
        must(msgs_get(&s->stream.msgs, seq, &entry) == ERR_OK);
        struct bytes subject = subject_index_subject(&s->stream.subjects, entry.node);
        if (consumer_set_matches(&s->consumers, subject) &&
            !consumer_set_needs(&s->consumers, seq, subject, 0))
            w.orphans += retention == STREAM_INTEREST || !w.was_reset;
    }
    js_deinit(&js);
}

static void round_of(uint64_t seed)
{
    static const char *const RETENTION[] = {"limits", "interest", "workqueue"};
    static const char *const LIMITS[] = {"\"max_msgs\":-1", "\"max_msgs\":40",
                                         "\"max_msgs_per_subject\":3", "\"max_age\":60000000000",
                                         "\"first_seq\":1000"};
    struct text checkpoint, pieces, full, part;
    rng_init(&w.rng, seed);
    w.count = 0;
    w.was_reset = false;
    w.retention = RETENTION[rng_below(&w.rng, 3)];
    w.limits = LIMITS[rng_below(&w.rng, 5)];
    w.seq = strstr(w.limits, "first_seq") == NULL ? 0 : 999;
    w.now = (struct shard_time){.mono_ns = 1000000000, .wall_ns = START};
    text_init(&checkpoint, &w.heap.mem, MEM_JETSTREAM, 1 << 20);
    text_init(&pieces, &w.heap.mem, MEM_JETSTREAM, 1 << 20);
    text_init(&full, &w.heap.mem, MEM_JETSTREAM, 1 << 20);
    text_init(&part, &w.heap.mem, MEM_JETSTREAM, 1 << 20);
    open_js(&w.live);
    make_stream();
    bool is_unused = seed % UNUSED_ONE_IN == 0; /* nothing was ever published */
    for (uint32_t i = is_unused ? 0 : rng_below(&w.rng, 200); i > 0; i--) step();
    uint32_t told_count = w.count;
    /* Two records of consumers are in flight: the state knows of them, the stream does not yet. */
    const struct logged *first = consume(), *second = consume();
    /* And some of what they know is in no record yet. */
    (void)deliver();
    (void)deliver();
    w.live.clock = w.now;
    must(checkpoint_write(&w.live, 5, &checkpoint) == ERR_OK);
    cut(&checkpoint, told_count);
    /* The same by pieces, while the stream goes on: it is of the moment of the first one. */
    w.live.checkpoint_step = 1 + rng_below(&w.rng, 8);
    enum err e = checkpoint_write(&w.live, 5, &pieces);
    told(first);
    told(second);
    for (uint32_t i = is_unused ? 0 : rng_below(&w.rng, 100); i > 0; i--) {
        step();
        if (e == ERR_INCOMPLETE) e = checkpoint_write(&w.live, 5, &pieces);
        w.pieces += e == ERR_INCOMPLETE;
    }
    while (e == ERR_INCOMPLETE) e = checkpoint_write(&w.live, 5, &pieces);
    must(e == ERR_OK || e == ERR_BUSY); /* busy: all that it had went at once */
    w.busy += e == ERR_BUSY;
    for (uint64_t i = 1; i <= CONSUMERS; i++)
        told(save(consumer_set_find_number(&stream_of(&w.live)->consumers, i)));

    struct js again, other;
    open_js(&again);
    for (uint32_t i = 0; i < w.count; i++)
        (void)!js_replay(&again, 0, &w.log[i].record, w.log[i].place);
    js_replay_end(&again);
    open_js(&other);
    start(&other, e == ERR_OK ? &pieces : &checkpoint, told_count);
    describe(&again, &full);
    describe(&other, &part);
    if (!bytes_equal(text_written(&full), text_written(&part))) {
        printf("seed %llu: retention %s, %s\n%.*s\n\n%.*s\n", (unsigned long long)seed, w.retention,
               w.limits, (int)full.len, full.data, (int)part.len, part.data);
        exit(1);
    }
    if (w.orphans != 0) {
        printf("seed %llu: %llu messages that nobody needs\n", (unsigned long long)seed,
               (unsigned long long)w.orphans);
        exit(1);
    }
    if (stream_of(&other)->messages_lost != 0) {
        printf("seed %llu: messages without a place\n", (unsigned long long)seed);
        exit(1);
    }
    js_deinit(&other);
    js_deinit(&again);
    js_deinit(&w.live);
    text_deinit(&checkpoint);
    text_deinit(&pieces);
    text_deinit(&full);
    text_deinit(&part);
    must(w.heap.live_count == 0);
}

int main(int argc, char **argv)
{
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 120;
    unsigned long seed = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    mem_heap_init(&w.heap);
    w.outlet = (struct outlet){ignore_send, listens, is_heard, ignore_event};
    for (unsigned long i = 0; i < rounds; i++) round_of(seed + i);
    printf("%lu rounds: %llu acks, %llu deliveries pending, %llu messages offered a place\n",
           rounds, (unsigned long long)w.acks, (unsigned long long)w.pendings,
           (unsigned long long)w.placed);
    if (rounds >= 100 && (w.acks == 0 || w.pendings == 0 || w.placed == 0 || w.resets == 0 ||
                          w.pieces == 0 || w.busy * 2 > rounds)) {
        printf("blind: something never happened\n");
        return 1;
    }
    return 0;
}
