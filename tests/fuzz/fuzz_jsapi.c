/* JetStream as clients reach it: a script of API requests, publishes, pulls, acks and direct gets
 * against one shard's streams over a log in memory. Every answer is one JSON object; nothing leaks;
 * and at the end the records of the log, replayed, give the same streams and consumers.
 *
 *   A<subject behind $JS.API.> <body>     P<subject> <body>     H<subject> <header: value>
 *   L<consumer> <body> (pull)             K<payload> (ack of the last delivery)
 *   G<key> <body> (direct get)            T<ms> (time passes)   F (the next record fails) */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"
#include "core/js/deliver.h"
#include "core/js/direct.h"
#include "core/js/jsapi.h"
#include "core/route/subject.h"
#include "tests/support/mem_heap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RECORDS_MAX = 4096, REPLY_BYTES = 256, SUBJECT_BYTES = 4096, STEPS_MAX = 512 };

struct world {
    struct store store;
    struct outlet outlet;
    struct mem_heap heap;
    struct js js;
    struct deliver deliver;
    struct text out;
    struct shard_time now;
    struct record records[RECORDS_MAX]; /* copies; the slices are one block each */
    uint32_t record_count;
    bool fails;
    char last_ack[REPLY_BYTES];
    size_t last_ack_len;
};

static struct bytes stream_name(void)
{
    return BYTES_LITERAL("S");
}

/* --- the log --------------------------------------------------------------------------------- */

static char *copy_to(char *to, struct bytes from, struct bytes *slice)
{
    if (from.len > 0) memcpy(to, from.data, from.len);
    *slice = bytes_of(to, from.len);
    return to + from.len;
}

static enum err append(struct store *s, const struct record *r, struct store_stub *out)
{
    struct world *w = (struct world *)(void *)s;
    if (w->record_count == RECORDS_MAX) return ERR_NO_SPACE;
    char *block = malloc(r->subject.len + r->headers.len + r->body.len + 1);
    must(block != NULL);
    struct record *kept = &w->records[w->record_count++];
    *kept = *r;
    char *at = copy_to(block, r->subject, &kept->subject);
    at = copy_to(at, r->headers, &kept->headers);
    copy_to(at, r->body, &kept->body);
    *out = (struct store_stub){.ticket = w->record_count, .place = w->record_count, .bytes = 1};
    return ERR_OK;
}

static enum err read_record(struct store *s, struct store_read *q, struct record *out)
{
    const struct world *w = (struct world *)(void *)s;
    must(q->place > 0);
    must(q->place <= w->record_count);
    *out = w->records[q->place - 1];
    must(out->stream == q->stream);
    must(out->seq == q->seq);
    return ERR_OK;
}

static uint32_t staged_percent(const struct store *s)
{
    return 0;
}

static const struct store_ops log_ops = {append, read_record, staged_percent, NULL};

/* The newest record never was: as after a failed write. */
static void take_back(struct world *w)
{
    must(w->record_count > 0);
    free((char *)(uintptr_t)w->records[--w->record_count].subject.data);
}

/* --- whom it serves -------------------------------------------------------------------------- */

static void on_send(struct outlet *o, struct bytes subject, struct bytes reply,
                    struct bytes headers)
{
    must(subject.len > 0);
}

static bool has_interest(struct outlet *o, struct bytes subject)
{
    return true;
}

static bool is_heard(struct outlet *o, struct bytes subject, struct bytes group)
{
    return true;
}

static void on_event(struct outlet *o, const struct outlet_event *e)
{
    must(e->consumer.len > 0);
}

static bool may_send(void *context)
{
    return true;
}

static bool on_message(void *context, struct js_stream *s, struct bytes target,
                       struct bytes subject, struct bytes reply, struct bytes headers,
                       struct bytes body)
{
    struct world *w = context;
    must(target.len > 0);
    if (reply.len == 0 || reply.len > REPLY_BYTES) return true;
    memcpy(w->last_ack, reply.data, reply.len);
    w->last_ack_len = reply.len;
    return true;
}

static const struct deliver_port port = {may_send, on_message, NULL, NULL};

static void opened(void *context, struct js_stream *s)
{
    struct world *w = context;
    s->outlet = &w->outlet;
}

static void stored(void *context, struct js_stream *s, uint64_t seq, uint32_t node)
{
    struct world *w = context;
    deliver_stored(&w->deliver, s, seq, node);
}

static void consumer_opened(void *context, struct js_stream *s, struct consumer *c)
{
    struct world *w = context;
    deliver_opened(&w->deliver, s, c, w->now);
}

static void consumer_updated(void *context, struct js_stream *s, struct consumer *c)
{
    struct world *w = context;
    deliver_updated(&w->deliver, s, c, w->now);
}

static void consumer_closing(void *context, struct js_stream *s, struct consumer *c)
{
    struct world *w = context;
    deliver_closing(&w->deliver, s, c);
}

static enum err consumer_settling(void *context, struct js_stream *s, struct consumer *c)
{
    struct world *w = context;
    return deliver_settling(&w->deliver, s, c, w->now);
}

static void consumer_room(void *context, struct js_stream *s)
{
    struct world *w = context;
    deliver_room(&w->deliver, s);
}

static void consumer_ending(void *context, struct js_stream *s, struct consumer *c)
{
    struct world *w = context;
    deliver_ending(&w->deliver, s, c, w->now);
}

static enum err consumers_saving(void *context, struct js_stream *s)
{
    struct world *w = context;
    return deliver_saving(&w->deliver, s, w->now);
}

static bool is_settled_behind(void *context, const struct js_stream *s, uint64_t seq,
                              struct bytes subject, uint64_t ticket)
{
    const struct world *w = context;
    return deliver_is_settled_behind(&w->deliver, s, seq, subject, ticket);
}

static const struct js_hooks hooks = {.opened = opened,
                                      .stored = stored,
                                      .consumer_opened = consumer_opened,
                                      .consumer_updated = consumer_updated,
                                      .consumer_closing = consumer_closing,
                                      .consumer_settling = consumer_settling,
                                      .consumer_room = consumer_room,
                                      .consumer_ending = consumer_ending,
                                      .consumers_saving = consumers_saving,
                                      .is_settled_behind = is_settled_behind};

/* --- JSON ------------------------------------------------------------------------------------ */

static const char *skip_text(const char *at, const char *end)
{
    for (; at < end && *at != '"'; at++) {
        must((unsigned char)*at >= 0x20);
        if (*at == '\\') at++;
    }
    must(at < end);
    return at + 1;
}

/* Brackets and texts are closed, and nothing follows. */
static void check_json(struct bytes text)
{
    char open[64];
    uint32_t depth = 0;
    const char *end = text.data + text.len;
    must(text.len > 1);
    must(text.data[0] == '{');
    for (const char *at = text.data; at < end;) {
        char c = *at++;
        if (c == '"') {
            at = skip_text(at, end);
        } else if (c == '{' || c == '[') {
            must(depth < sizeof open);
            open[depth++] = c == '{' ? '}' : ']';
        } else if (c == '}' || c == ']') {
            must(depth > 0);
            must(open[--depth] == c);
            must(depth > 0 || at == end);
        }
    }
    must(depth == 0);
}

/* --- steps ----------------------------------------------------------------------------------- */

static void request(struct world *w, struct bytes subject, struct bytes body)
{
    char text[SUBJECT_BYTES];
    struct writer s;
    writer_init(&s, text, sizeof text);
    writer_text(&s, "$JS.API.");
    writer_bytes(&s, subject);
    if (s.is_full) return;
    text_clear(&w->out);
    struct js_request q = {.account_name = BYTES_LITERAL("$G"),
                           .subject = writer_written(&s),
                           .body = body,
                           .out = &w->out,
                           .mono_ns = w->now.mono_ns,
                           .now_ns = w->now.wall_ns};
    enum js_step step = jsapi_run(&w->js, &q);
    for (int i = 0; step == JS_WAIT_STORED; i++) {
        must(i < 4);
        bool fails = w->fails;
        w->fails = false;
        if (fails) take_back(w);
        step = jsapi_stored(&w->js, &q, fails ? ERR_IO : ERR_OK);
    }
    must(step != JS_WAIT_READ);
    if (step == JS_REPLY) check_json(text_written(&w->out));
    jsapi_end(&q);
}

static void publish(struct world *w, struct bytes subject, struct bytes headers, struct bytes body)
{
    static char scratch[PUBLISH_SCRATCH_EXTRA + 2 * SUBJECT_BYTES];
    struct stream_outcome o;
    struct store_stub stub;
    struct writer s;
    struct js_stream *x = js_find(&w->js, 0, stream_name(), false);
    if (x == NULL || subject.len > SUBJECT_BYTES || headers.len > SUBJECT_BYTES) return;
    if (!subject_is_literal(subject)) return;
    bool is_ours = false;
    for (uint32_t i = 0; i < x->stream.config.subjects.count; i++)
        is_ours |= subject_matches(subject, x->stream.config.subjects.items[i]);
    if (!is_ours) return;
    writer_init(&s, scratch, sizeof scratch);
    publish_check(&x->stream, subject, headers, body, w->now.wall_ns, &s, &o);
    must(o.verdict != STREAM_WAIT);
    if (o.verdict == STREAM_STORE) {
        if (store_append(js_store_of(&w->js, x), &o.record, &stub) != ERR_OK) {
            stream_cancel(&x->stream, &o);
            return;
        }
        stream_stage(&x->stream, &o, stub.ticket, stub.place);
        if (w->fails && x->stream.config.storage == STREAM_FILE) {
            w->fails = false;
            take_back(w);
            stream_unstage(&x->stream, stub.ticket);
            return;
        }
        must(stream_settle(&x->stream, stub.ticket) == ERR_OK);
    }
    text_clear(&w->out);
    publish_write_ack(&x->stream, &o, w->js.domain, &w->out);
    check_json(text_written(&w->out));
}

static void direct_get(struct world *w, struct bytes key, struct bytes body)
{
    struct direct d;
    struct arena arena;
    struct msgs_entry entry;
    struct js_stream *x = js_find(&w->js, 0, stream_name(), false);
    if (x == NULL) return;
    arena_init(&arena, &w->heap.mem, MEM_JETSTREAM);
    if (direct_begin(&d, &x->stream, &arena, key, BYTES_LITERAL(""), body, 1 << 16) == NULL) {
        uint64_t seq;
        uint32_t left = 1 << 12;
        enum direct_step step;
        while ((step = direct_next(&d, &x->stream, &left, &seq, &entry)) != DIRECT_OVER) {
            left = 1 << 12;
            if (step == DIRECT_AGAIN) continue;
            struct store_read q = {.place = entry.place, .stream = x->stream.id, .seq = seq};
            struct record record;
            must(store_read(js_store_of(&w->js, x), &q, &record) == ERR_OK);
            text_clear(&w->out);
            direct_write(&d, &x->stream, &record, &w->out);
        }
        text_clear(&w->out);
        (void)direct_write_end(&d, &w->out);
        direct_end(&d);
    }
    arena_deinit(&arena);
}

/* All that is in flight is durable. */
static void turn(struct world *w)
{
    for (int i = 0; i < 8; i++)
        if (!deliver_run(&w->deliver, w->now, 64)) break;
    deliver_store_stored(&w->deliver, w->record_count);
    uint32_t at = 0;
    struct js_stream *s;
    while ((s = js_each(&w->js, &at)) != NULL)
        while (stream_expire(&s->stream, w->now.wall_ns)) {
        }
}

static void step(struct world *w, char kind, struct bytes first, struct bytes rest)
{
    struct js_stream *s = js_find(&w->js, 0, stream_name(), false);
    struct bytes ack = bytes_of(w->last_ack, w->last_ack_len);
    uint64_t ms;
    switch (kind) {
    case 'A': request(w, first, rest); break;
    case 'P': publish(w, first, BYTES_LITERAL(""), rest); break;
    case 'H': {
        char headers[SUBJECT_BYTES];
        struct writer h;
        writer_init(&h, headers, sizeof headers);
        writer_text(&h, "NATS/1.0\r\n");
        writer_bytes(&h, rest);
        writer_text(&h, "\r\n\r\n");
        if (!h.is_full) publish(w, first, writer_written(&h), BYTES_LITERAL("x"));
        break;
    }
    case 'L':
        if (s != NULL)
            (void)!deliver_pull(&w->deliver, s, first, rest, BYTES_LITERAL("inbox"), w->now);
        break;
    case 'K':
        if (s != NULL && ack.len > 0)
            (void)!deliver_ack(&w->deliver, s, ack, first, BYTES_LITERAL("r"), w->now);
        break;
    case 'G': direct_get(w, first, rest); break;
    case 'T':
        if (bytes_to_u64(first, 9, &ms) != ERR_OK) break;
        w->now.mono_ns += ms * 1000000;
        w->now.wall_ns += (int64_t)(ms * 1000000);
        break;
    case 'F': w->fails = true; break;
    default: break;
    }
    turn(w);
}

/* --- the end --------------------------------------------------------------------------------- */

static void compare(const struct world *w, struct js *again)
{
    uint32_t at = 0;
    struct js_stream *s, *t;
    uint64_t count = 0;
    while ((s = js_each(&w->js, &at)) != NULL) {
        if (s->stream.config.storage == STREAM_MEMORY) continue;
        count++;
        t = js_find(again, s->stream.account, s->stream.config.name, false);
        must(t != NULL);
        while (stream_expire(&t->stream, w->now.wall_ns)) {
        }
        must(stream_config_equal(&s->stream.config, &t->stream.config));
        must(s->stream.seq_last == t->stream.seq_last);
        must(s->stream.msgs.live_count == t->stream.msgs.live_count);
        must(s->stream.bytes == t->stream.bytes);
        must(s->stream.seq_first == t->stream.seq_first);
        uint32_t at_consumer = 0;
        const struct consumer *c;
        while ((c = consumer_set_each(&s->consumers, &at_consumer)) != NULL) {
            if (!js_consumer_is_kept(s, c)) continue;
            const struct consumer *d = consumer_set_find(&t->consumers, c->name);
            must(d != NULL);
            must(d->number == c->number);
            must(bytes_equal(bytes_of(c->packed, c->packed_bytes),
                             bytes_of(d->packed, d->packed_bytes)));
            must(d->floor_seq == c->floor_seq);
            must(d->delivered_seq == c->delivered_seq);
            must(d->live->window.pending_count == c->live->window.pending_count);
        }
    }
    must(count == again->streams.count);
}

static void replay(struct world *w)
{
    struct js again;
    js_init(&again, &w->heap.mem, &w->store, 5, 1 << 20);
    again.now = w->now;
    for (uint32_t i = 0; i < w->record_count; i++) {
        enum err e = js_replay(&again, 0, &w->records[i], i + 1);
        must(e == ERR_OK || e == ERR_UNKNOWN);
    }
    js_replay_end(&again);
    compare(w, &again);
    js_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world *w = calloc(1, sizeof *w);
    char *input = malloc(size + 1);
    must(w != NULL);
    must(input != NULL);
    if (size > 0) memcpy(input, data, size);
    w->store.ops = &log_ops;
    w->outlet = (struct outlet){on_send, has_interest, is_heard, on_event};
    w->now = (struct shard_time){.mono_ns = 1, .wall_ns = INT64_C(1795263937500000000)};
    mem_heap_init(&w->heap);
    js_init(&w->js, &w->heap.mem, &w->store, 5, 1 << 20);
    w->js.hooks = &hooks;
    w->js.hooks_context = w;
    deliver_init(&w->deliver, &w->js, &port, w, w->now);
    text_init(&w->out, &w->heap.mem, MEM_JETSTREAM, JS_REPLY_BYTES_MAX);

    struct bytes rest = bytes_of(input, size);
    for (int i = 0; rest.len > 0 && i < STEPS_MAX; i++) {
        size_t end = bytes_find(rest, '\n');
        struct bytes line = bytes_of(rest.data, end);
        rest = bytes_of(rest.data + (end < rest.len ? end + 1 : end),
                        rest.len - (end < rest.len ? end + 1 : end));
        if (line.len == 0) continue;
        size_t blank = bytes_find(line, ' ');
        size_t body = blank < line.len ? blank + 1 : blank;
        step(w, line.data[0], bytes_of(line.data + 1, blank > 0 ? blank - 1 : 0),
             bytes_of(line.data + body, line.len - body));
    }
    deliver_flush(&w->deliver, w->now);
    turn(w);
    replay(w);
    deliver_deinit(&w->deliver);
    js_deinit(&w->js);
    text_deinit(&w->out);
    while (w->record_count > 0) take_back(w);
    must(w->heap.live_count == 0);
    free(input);
    free(w);
    return 0;
}
