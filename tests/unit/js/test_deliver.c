#include <criterion/criterion.h>
#include <stdio.h>
#include "core/base/must.h"
#include "core/js/deliver.h"
#include "core/js/jsapi.h"
#include "tests/support/mem_heap.h"

/* A log in memory whose reads may have to wait or fail. */
struct log {
    struct store store;
    struct memstore inner;
    bool is_busy, fails_gone; /* appends of CONSUMER_GONE */
    enum err fails;           /* reads, or appends of PROGRESS */
    struct store_read *waiting;
    uint32_t progress_count, gone_count;
    uint64_t ticket;
    uint64_t settled; /* by the newest PROGRESS: a bit for each sequence */
};

struct sent {
    char target[64], subject[64], reply[128], headers[256], body[64];
};

static struct {
    struct outlet outlet;
    struct mem_heap heap;
    struct log log;
    struct js js;
    struct deliver d;
    struct text out;
    struct shard_time now;
    struct sent sent[256]; /* messages, and what the outlet sent (no body) */
    uint32_t sent_count, gone_count;
    bool is_full, is_slow, listens, is_short;
} r;

static void note_settled(struct bytes body)
{
    struct consumer_releases releases;
    uint64_t seq = 0;
    r.log.settled = 0;
    consumer_releases_begin(&releases, body);
    while ((seq = consumer_releases_next(&releases, seq)) != 0 && seq < 64)
        r.log.settled |= UINT64_C(1) << seq++;
}

static enum err log_append(struct store *s, const struct record *record, struct store_stub *out)
{
    if (record->kind == RECORD_PROGRESS && r.log.fails != ERR_OK) return r.log.fails;
    if (record->kind == RECORD_CONSUMER_GONE && r.log.fails_gone) return ERR_FULL;
    r.log.progress_count += record->kind == RECORD_PROGRESS;
    r.log.gone_count += record->kind == RECORD_CONSUMER_GONE;
    if (record->kind == RECORD_PROGRESS) note_settled(record->body);
    enum err e = store_append(&r.log.inner.store, record, out);
    r.log.ticket = out->ticket;
    return e;
}

static enum err log_read(struct store *s, struct store_read *q, struct record *out)
{
    if (r.log.is_busy) {
        r.log.waiting = q;
        return ERR_BUSY;
    }
    if (r.log.fails != ERR_OK) return r.log.fails;
    return store_read(&r.log.inner.store, q, out);
}

static uint32_t log_percent(const struct store *s)
{
    return 0;
}

static const struct store_ops log_ops = {log_append, log_read, log_percent, NULL};

static void copy(char *to, size_t room, struct bytes from)
{
    snprintf(to, room, "%.*s", (int)from.len, from.data);
}

static struct sent *record_sent(struct bytes target, struct bytes reply, struct bytes headers)
{
    struct sent *m = &r.sent[r.sent_count++];
    cr_assert_leq(r.sent_count, 256);
    *m = (struct sent){.target = ""};
    copy(m->target, sizeof m->target, target);
    copy(m->reply, sizeof m->reply, reply);
    copy(m->headers, sizeof m->headers, headers);
    return m;
}

static void on_send(struct outlet *o, struct bytes subject, struct bytes reply,
                    struct bytes headers)
{
    (void)record_sent(subject, reply, headers);
}

static bool has_interest(struct outlet *o, struct bytes subject)
{
    return r.listens;
}

static bool is_heard(struct outlet *o, struct bytes subject, struct bytes group)
{
    return r.listens;
}

static void on_event(struct outlet *o, const struct outlet_event *e)
{
}

static bool may_send(void *context)
{
    return !r.is_full;
}

static bool on_message(void *context, struct js_stream *s, struct bytes target,
                       struct bytes subject, struct bytes reply, struct bytes headers,
                       struct bytes body)
{
    struct sent *m = record_sent(target, reply, headers);
    copy(m->subject, sizeof m->subject, subject);
    copy(m->body, sizeof m->body, body);
    return !r.is_slow;
}

static void on_gone(void *context, struct js_stream *s, struct consumer *c)
{
    r.gone_count++;
}

static bool has_room(void *context, size_t bytes)
{
    return !r.is_short;
}

static const struct deliver_port port = {may_send, on_message, on_gone, has_room};

static void stream_opened(void *context, struct js_stream *s)
{
    s->outlet = &r.outlet;
}

static void stored(void *context, struct js_stream *s, uint64_t seq, uint32_t node)
{
    deliver_stored(&r.d, s, seq, node);
}

static void opened(void *context, struct js_stream *s, struct consumer *c)
{
    deliver_opened(&r.d, s, c, r.now);
}

static void updated(void *context, struct js_stream *s, struct consumer *c)
{
    deliver_updated(&r.d, s, c, r.now);
}

static void closing(void *context, struct js_stream *s, struct consumer *c)
{
    deliver_closing(&r.d, s, c);
}

static enum err settling(void *context, struct js_stream *s, struct consumer *c)
{
    return deliver_settling(&r.d, s, c, r.now);
}

static void room(void *context, struct js_stream *s)
{
    deliver_room(&r.d, s);
}

static void ending(void *context, struct js_stream *s, struct consumer *c)
{
    deliver_ending(&r.d, s, c, r.now);
}

static enum err saving(void *context, struct js_stream *s)
{
    return deliver_saving(&r.d, s, r.now);
}

static bool is_settled_behind(void *context, const struct js_stream *s, uint64_t seq,
                              struct bytes subject, uint64_t ticket)
{
    return deliver_is_settled_behind(&r.d, s, seq, subject, ticket);
}

static const struct js_hooks hooks = {.opened = stream_opened,
                                      .stored = stored,
                                      .consumer_opened = opened,
                                      .consumer_updated = updated,
                                      .consumer_closing = closing,
                                      .consumer_settling = settling,
                                      .consumer_room = room,
                                      .consumer_ending = ending,
                                      .consumers_saving = saving,
                                      .is_settled_behind = is_settled_behind};

static void setup(void)
{
    memset(&r, 0, sizeof r);
    r.outlet = (struct outlet){on_send, has_interest, is_heard, on_event};
    r.listens = true;
    r.now = (struct shard_time){.mono_ns = 1000000000, .wall_ns = INT64_C(1795263937500000000)};
    mem_heap_init(&r.heap);
    r.log.store.ops = &log_ops;
    memstore_init(&r.log.inner, &r.heap.mem, 1 << 24);
    js_init(&r.js, &r.heap.mem, &r.log.store, 5, 1 << 20);
    r.js.hooks = &hooks;
    deliver_init(&r.d, &r.js, &port, &r, r.now);
    text_init(&r.out, &r.heap.mem, MEM_JETSTREAM, 1 << 20);
}

static void teardown(void)
{
    deliver_deinit(&r.d);
    js_deinit(&r.js);
    memstore_deinit(&r.log.inner);
    text_deinit(&r.out);
    must(r.heap.live_count == 0);
}

TestSuite(deliver, .init = setup, .fini = teardown);

static struct js_request request(const char *subject, const char *body)
{
    return (struct js_request){.account_name = BYTES_LITERAL("$G"),
                               .subject = bytes_from_text(subject),
                               .body = bytes_from_text(body),
                               .out = &r.out,
                               .mono_ns = r.now.mono_ns,
                               .now_ns = r.now.wall_ns};
}

static struct js_request begin_reset(const char *body)
{
    struct js_request q = request("$JS.API.CONSUMER.RESET.S.c", body);
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    return q;
}

static void fail_order(struct js_request *q)
{
    cr_assert_eq(jsapi_stored(&r.js, q, ERR_IO), JS_REPLY);
    jsapi_end(q);
}

static bool is_taken(const char *subject, const char *body)
{
    struct js_request q = request(subject, body);
    enum js_step step = jsapi_run(&r.js, &q);
    if (step == JS_WAIT_STORED) step = jsapi_stored(&r.js, &q, ERR_OK);
    cr_assert_eq(step, JS_REPLY);
    bool is_error = q.is_error;
    jsapi_end(&q);
    return !is_error;
}

static void call(const char *subject, const char *body)
{
    cr_assert(is_taken(subject, body), "%.*s", (int)r.out.len, r.out.data);
}

static struct js_stream *stream(void)
{
    return js_find(&r.js, 0, BYTES_LITERAL("S"), false);
}

static struct consumer *named(const char *name)
{
    return consumer_set_find(&stream()->consumers, bytes_from_text(name));
}

/* The ticket of its record. */
static uint64_t stage(const char *subject, const char *body)
{
    char scratch[PUBLISH_SCRATCH_EXTRA + 256];
    struct js_stream *s = stream();
    struct stream_outcome o;
    struct store_stub stub;
    struct writer w;
    writer_init(&w, scratch, sizeof scratch);
    publish_check(&s->stream, bytes_from_text(subject), BYTES_LITERAL(""), bytes_from_text(body),
                  r.now.wall_ns, &w, &o);
    cr_assert_eq(o.verdict, STREAM_STORE);
    cr_assert_eq(store_append(js_store_of(&r.js, s), &o.record, &stub), ERR_OK);
    stream_stage(&s->stream, &o, stub.ticket, stub.place);
    return stub.ticket;
}

static void publish(const char *subject, const char *body)
{
    cr_assert_eq(stream_settle(&stream()->stream, stage(subject, body)), ERR_OK);
}

static void run(void)
{
    for (int i = 0; i < 100 && deliver_run(&r.d, r.now, 1000); i++) cr_assert_lt(i, 99);
}

static void pass(uint64_t ms)
{
    r.now.mono_ns += ms * 1000000;
    r.now.wall_ns += (int64_t)ms * 1000000;
    run();
}

static void pull(const char *name, const char *body)
{
    cr_assert(deliver_pull(&r.d, stream(), bytes_from_text(name), bytes_from_text(body),
                           BYTES_LITERAL("in"), r.now));
    run();
}

static bool ack(const char *subject, const char *payload, const char *reply)
{
    enum err e = deliver_ack(&r.d, stream(), bytes_from_text(subject), bytes_from_text(payload),
                             bytes_from_text(reply), r.now);
    run();
    return e == ERR_OK;
}

static void open_limits(void)
{
    call("$JS.API.STREAM.CREATE.S", "{\"name\":\"S\",\"subjects\":[\"s.*\"]}");
}

static void open_work_queue(void)
{
    call("$JS.API.STREAM.CREATE.S",
         "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"retention\":\"workqueue\"}");
}

static void open_interest(void)
{
    call("$JS.API.STREAM.CREATE.S",
         "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"retention\":\"interest\"}");
}

static void open_consumer(const char *name, const char *more)
{
    char subject[100], body[400];
    snprintf(subject, sizeof subject, "$JS.API.CONSUMER.CREATE.S.%s", name);
    snprintf(body, sizeof body, "{\"stream_name\":\"S\",\"config\":{%s}}", more);
    call(subject, body);
}

/* To the reply of an ack. */
static void expect_refused_once(const char *target)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < r.sent_count; i++) {
        if (strcmp(r.sent[i].target, target) != 0) continue;
        cr_assert_str_eq(r.sent[i].headers, DELIVER_NO_ANSWER);
        count++;
    }
    cr_assert_eq(count, 1);
}

#define DURABLE "\"durable_name\":\"c\",\"ack_policy\":\"explicit\""

Test(deliver, a_pull_gets_what_is_there_and_then_what_comes)
{
    open_limits();
    publish("s.1", "a");
    open_consumer("c", DURABLE);
    run();
    cr_assert_eq(r.sent_count, 0);
    pull("c", "3");
    cr_assert_eq(r.sent_count, 1);
    cr_assert_str_eq(r.sent[0].target, "in");
    cr_assert_str_eq(r.sent[0].subject, "s.1");
    cr_assert_str_eq(r.sent[0].body, "a");
    cr_assert_str_eq(r.sent[0].reply, "$JS.ACK.S.c.1.1.1.1795263937500000000.0");
    publish("s.2", "b");
    publish("s.3", "c");
    run();
    cr_assert_eq(r.sent_count, 3);
    publish("s.4", "d");
    run();
    cr_assert_eq(r.sent_count, 3);
    cr_assert_not(
        deliver_pull(&r.d, stream(), BYTES_LITERAL("no"), bytes_of("", 0), bytes_of("", 0), r.now));
}

/* The pending ones need more room than there is: nothing is read again and again meanwhile. */
Test(deliver, without_memory_for_what_is_pending_a_consumer_rests)
{
    open_limits();
    for (int i = 0; i < 20; i++) publish("s.1", "a");
    open_consumer("c", DURABLE);
    pull("c", "10");
    cr_assert_eq(r.sent_count, 10);
    cr_assert(deliver_pull(&r.d, stream(), BYTES_LITERAL("c"), BYTES_LITERAL("10"),
                           BYTES_LITERAL("in"), r.now));
    r.heap.bytes_max = 1;
    run();
    cr_assert_eq(r.sent_count, 16);
    cr_assert_leq(deliver_next_ns(&r.d), r.now.mono_ns + 20000000);
    r.heap.bytes_max = 0;
    pass(10);
    cr_assert_eq(r.sent_count, 20);
}

static void fail_store(uint64_t ticket)
{
    deliver_store_failed(&r.d, ticket, r.now);
    deliver_save_early(&r.d, r.now);
}

/* Its record is in flight while memory is short for what runs the consumer. */
Test(deliver, a_record_that_fails_is_written_again_though_the_consumer_was_closed_meanwhile)
{
    open_work_queue();
    publish("s.1", "a");
    open_consumer("c", DURABLE);
    pull("c", "1");
    cr_assert(ack(r.sent[0].reply, "", ""));
    uint32_t records = r.log.progress_count;
    r.heap.fail_at = r.heap.alloc_count + 1;
    deliver_updated(&r.d, stream(), named("c"), r.now);
    cr_assert_null(named("c")->owner);
    fail_store(r.log.ticket);
    pass(300);
    cr_assert_eq(r.log.progress_count, records + 1);
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_eq(stream()->stream.msgs.live_count, 0);
}

/* At a start the other one needs it when the first record is read. */
Test(deliver, what_one_acked_last_stays_until_its_record_though_it_was_closed_meanwhile)
{
    open_interest();
    open_consumer("c", DURABLE ",\"filter_subject\":\"s.1\"");
    open_consumer("d", "\"durable_name\":\"d\",\"ack_policy\":\"explicit\"");
    publish("s.1", "a");
    pull("c", "1");
    pull("d", "1");
    cr_assert(ack(r.sent[1].reply, "", ""));
    deliver_flush(&r.d, r.now);
    uint64_t first = r.log.ticket;
    cr_assert(ack(r.sent[0].reply, "", ""));
    deliver_flush(&r.d, r.now);
    r.heap.fail_at = r.heap.alloc_count + 1;
    deliver_updated(&r.d, stream(), named("c"), r.now);
    r.heap.fail_at = 0;
    cr_assert_null(named("c")->owner);
    deliver_store_stored(&r.d, first);
    cr_assert_eq(stream()->stream.msgs.live_count, 1);
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_eq(stream()->stream.msgs.live_count, 0);
}

/* What says that it is acked is not on disk yet. */
Test(deliver, a_second_ack_waits_for_the_record_though_the_consumer_was_closed_meanwhile)
{
    open_limits();
    publish("s.1", "a");
    open_consumer("c", DURABLE);
    pull("c", "1");
    cr_assert(ack(r.sent[0].reply, "", "first"));
    r.heap.fail_at = r.heap.alloc_count + 1;
    deliver_updated(&r.d, stream(), named("c"), r.now);
    cr_assert_null(named("c")->owner);
    uint32_t sent = r.sent_count;
    cr_assert(ack(r.sent[0].reply, "", "again"));
    cr_assert_eq(r.sent_count, sent);
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_eq(r.sent_count, sent + 2);
    cr_assert_str_eq(r.sent[sent].target, "first");
    cr_assert_str_eq(r.sent[sent + 1].target, "again");
}

/* What was acked before a reset goes before it, however short memory was in between. */
Test(deliver, a_reset_of_a_consumer_that_was_closed_unsaved_loses_no_ack)
{
    open_work_queue();
    publish("s.1", "a");
    publish("s.1", "b");
    open_consumer("c", DURABLE);
    pull("c", "2");
    cr_assert_eq(deliver_ack(&r.d, stream(), bytes_from_text(r.sent[0].reply), BYTES_LITERAL(""),
                             BYTES_LITERAL(""), r.now),
                 ERR_OK);
    r.heap.fail_at = r.heap.alloc_count + 1;
    deliver_updated(&r.d, stream(), named("c"), r.now);
    cr_assert_null(named("c")->owner);
    cr_assert(consumer_is_unsaved(named("c")));
    call("$JS.API.CONSUMER.RESET.S.c", "");
    deliver_store_stored(&r.d, r.log.ticket);
    pass(300);
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_eq(stream()->stream.msgs.live_count, 1);
}

/* A start would find it, and the stream keeps it for this consumer. */
Test(deliver, what_was_passed_over_by_the_filters_before_comes_by_those_that_select_it)
{
    open_work_queue();
    open_consumer("c", DURABLE ",\"filter_subject\":\"s.1\"");
    publish("s.2", "a");
    publish("s.1", "b");
    publish("s.2", "c");
    pull("c", "{\"batch\":5,\"no_wait\":true}");
    cr_assert_eq(r.sent_count, 2);
    cr_assert_str_eq(r.sent[0].body, "b");
    open_consumer("c", DURABLE ",\"filter_subject\":\"s.*\"");
    cr_assert_eq(consumer_left(named("c")), 1);
    pull("c", "{\"batch\":5,\"no_wait\":true}");
    cr_assert_str_eq(r.sent[2].body, "c");
}

/* As nats-server has it: it is as if the message had been acked. */
Test(deliver, what_goes_unacked_makes_room_for_the_next_one)
{
    call("$JS.API.STREAM.CREATE.S", "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"max_msgs\":3}");
    publish("s.1", "a");
    publish("s.2", "b");
    publish("s.3", "c");
    open_consumer("c", DURABLE ",\"max_ack_pending\":1");
    pull("c", "5");
    cr_assert_eq(r.sent_count, 1);
    call("$JS.API.STREAM.MSG.DELETE.S", "{\"seq\":1}");
    run();
    cr_assert_eq(r.sent_count, 2);
    cr_assert_str_eq(r.sent[1].body, "b");
    publish("s.4", "d");
    publish("s.5", "e"); /* by max_msgs */
    run();
    cr_assert_eq(r.sent_count, 3);
    cr_assert_str_eq(r.sent[2].body, "c");
}

Test(deliver, an_ack_is_answered_when_it_is_durable)
{
    open_limits();
    publish("s.1", "a");
    open_consumer("c", DURABLE);
    pull("c", "1");
    uint32_t records = r.log.progress_count;
    cr_assert(ack(r.sent[0].reply, "", ""));
    cr_assert_eq(r.log.progress_count, records); /* nobody waits */
    cr_assert(ack(r.sent[0].reply, "", "r"));
    cr_assert_eq(r.log.progress_count, records + 1);
    cr_assert_eq(r.sent_count, 1);
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_eq(r.sent_count, 2);
    cr_assert_str_eq(r.sent[1].target, "r");
    cr_assert(ack(r.sent[0].reply, "", "again")); /* nothing to be saved any more */
    cr_assert_eq(r.sent_count, 3);
    cr_assert_not(ack("$JS.ACK.S.other.1.1.1.1.0", "", "r"));
    cr_assert_not(ack("$JS.ACK.S", "", "r"));
}

Test(deliver, a_failed_record_is_written_again_and_answered_then)
{
    open_limits();
    publish("s.1", "a");
    open_consumer("c", DURABLE);
    pull("c", "1");
    cr_assert(ack(r.sent[0].reply, "", "r"));
    uint32_t records = r.log.progress_count;
    fail_store(r.log.ticket);
    cr_assert_eq(r.sent_count, 1);
    r.log.fails = ERR_FULL;
    pass(300);
    r.log.fails = ERR_OK;
    cr_assert_eq(r.log.progress_count, records);
    pass(300);
    cr_assert_eq(r.log.progress_count, records + 1);
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_eq(r.sent_count, 2);
}

Test(deliver, a_work_queue_forgets_what_was_acked_durably)
{
    open_work_queue();
    open_consumer("c", DURABLE);
    publish("s.1", "a");
    publish("s.2", "b");
    pull("c", "2");
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert(ack(r.sent[0].reply, "", ""));
    cr_assert_eq(stream()->stream.msgs.live_count, 2);
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_eq(stream()->stream.msgs.live_count, 1);
}

/* A limit takes the first message where there is no room yet, as it does at a start. */
static void ack_beside_publish(bool is_ack_first, uint64_t first_left, uint64_t left)
{
    open_work_queue();
    stream()->stream.config.max_msgs = 2;
    open_consumer("c", DURABLE ",\"filter_subject\":\"s.2\"");
    publish("s.1", "a");
    publish("s.2", "b");
    pull("c", "1");
    deliver_store_stored(&r.d, r.log.ticket);
    if (!is_ack_first) (void)stage("s.3", "c");
    cr_assert(ack(r.sent[0].reply, "", ""));
    if (is_ack_first) (void)stage("s.3", "c");
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_eq(stream_settle(&stream()->stream, r.log.ticket), ERR_OK);
    cr_assert_eq(stream()->stream.seq_first, first_left);
    cr_assert_eq(stream()->stream.msgs.live_count, left);
}

Test(deliver, what_an_ack_behind_a_publish_takes_away_left_no_room_for_that)
{
    ack_beside_publish(false, 3, 1);
}

Test(deliver, what_an_ack_before_a_publish_takes_away_left_room_for_that)
{
    ack_beside_publish(true, 1, 2);
}

/* Until it is durable it stands behind the last message. */
Test(deliver, a_consumer_of_the_last_of_subjects_hears_of_what_goes_behind_its_creation)
{
    open_limits();
    publish("s.1", "a");
    publish("s.2", "b");
    publish("s.3", "c");
    struct js_request q =
        request("$JS.API.CONSUMER.CREATE.S.c",
                "{\"stream_name\":\"S\",\"config\":{" DURABLE
                ",\"deliver_policy\":\"last_per_subject\",\"filter_subject\":\"s.*\"}}");
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    cr_assert(stream_remove(&stream()->stream, 1));
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_REPLY);
    jsapi_end(&q);
    pull("c", "2");
    cr_assert_eq(r.sent_count, 2);
    cr_assert_eq(named("c")->live->window.pending_count, 2);
    cr_assert(stream_remove(&stream()->stream, 2));
    cr_assert_eq(named("c")->live->window.pending_count, 1);
}

/* A start knows no consumer by then. */
Test(deliver, an_ack_behind_the_record_of_the_consumers_end_does_not_count)
{
    open_work_queue();
    open_consumer("c", DURABLE);
    publish("s.1", "a");
    pull("c", "1");
    struct js_request q = request("$JS.API.CONSUMER.DELETE.S.c", "");
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    uint32_t records = r.log.progress_count;
    cr_assert(ack(r.sent[0].reply, "", "late"));
    cr_assert_eq(r.log.progress_count, records);
    deliver_store_stored(&r.d, q.ticket);
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_REPLY);
    jsapi_end(&q);
    cr_assert_null(named("c"));
    cr_assert_eq(stream()->stream.msgs.live_count, 1);
    expect_refused_once("late");
}

Test(deliver, an_ack_behind_an_end_that_fails_is_recorded_then)
{
    open_work_queue();
    open_consumer("c", DURABLE);
    publish("s.1", "a");
    pull("c", "1");
    struct js_request q = request("$JS.API.CONSUMER.DELETE.S.c", "");
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    deliver_store_stored(&r.d, q.ticket - 1);
    cr_assert(ack(r.sent[0].reply, "", ""));
    fail_order(&q);
    fail_store(q.ticket);
    pass(DELIVER_SAVE_MS);
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_eq(stream()->stream.msgs.live_count, 0);
}

/* They may come in one turn, and records of acks are written at its end. */
Test(deliver, an_ack_right_before_the_end_of_its_consumer_is_recorded_before_that)
{
    open_work_queue();
    open_consumer("c", DURABLE);
    publish("s.1", "a");
    pull("c", "1");
    cr_assert_eq(deliver_ack(&r.d, stream(), bytes_from_text(r.sent[0].reply), BYTES_LITERAL(""),
                             BYTES_LITERAL("in"), r.now),
                 ERR_OK);
    struct js_request q = request("$JS.API.CONSUMER.DELETE.S.c", "");
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    cr_assert_eq(r.log.settled, 1 << 1);
    deliver_store_stored(&r.d, q.ticket - 1);
    cr_assert_eq(stream()->stream.msgs.live_count, 0);
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_REPLY);
    jsapi_end(&q);
}

Test(deliver, what_was_acked_behind_the_end_of_the_only_one_interested_goes_with_it)
{
    call("$JS.API.STREAM.CREATE.S",
         "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"retention\":\"interest\"}");
    open_consumer("c", DURABLE);
    publish("s.1", "a");
    pull("c", "1");
    struct js_request q = request("$JS.API.CONSUMER.DELETE.S.c", "");
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    cr_assert(ack(r.sent[0].reply, "", ""));
    deliver_store_stored(&r.d, q.ticket);
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_REPLY);
    jsapi_end(&q);
    cr_assert_eq(stream()->stream.msgs.live_count, 0);
}

Test(deliver, who_acks_a_message_once_more_has_settled_it_by_the_first_record)
{
    call("$JS.API.STREAM.CREATE.S",
         "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"retention\":\"interest\"}");
    open_consumer("c", DURABLE);
    publish("s.1", "a");
    pull("c", "1");
    cr_assert(ack(r.sent[0].reply, "", ""));
    deliver_flush(&r.d, r.now);
    uint64_t first = r.log.ticket;
    cr_assert(ack(r.sent[0].reply, "", ""));
    deliver_flush(&r.d, r.now);
    cr_assert_eq(r.log.ticket, first); /* nothing is new */
    cr_assert(deliver_is_settled_behind(&r.d, stream(), 1, BYTES_LITERAL("s.1"), first - 1));
    cr_assert_not(deliver_is_settled_behind(&r.d, stream(), 1, BYTES_LITERAL("s.1"), first));
}

/* At a start it is gone by then. */
Test(deliver, what_filters_select_no_more_does_not_wait_for_the_ack_that_comes_all_the_same)
{
    open_interest();
    open_consumer("c", DURABLE ",\"filter_subject\":\"s.1\"");
    open_consumer("d", "\"durable_name\":\"d\",\"ack_policy\":\"explicit\"");
    publish("s.1", "a");
    pull("c", "1");
    pull("d", "1");
    open_consumer("c", DURABLE ",\"filter_subject\":\"s.2\"");
    cr_assert(ack(r.sent[1].reply, "", ""));
    deliver_flush(&r.d, r.now);
    uint64_t last = r.log.ticket;
    cr_assert(ack(r.sent[0].reply, "", ""));
    deliver_store_stored(&r.d, last);
    cr_assert_eq(stream()->stream.msgs.live_count, 0);
}

/* A limit takes the first message by the publish before, as at a start. */
Test(deliver, an_inactive_consumer_does_not_end_before_its_acks_are_durable)
{
    open_work_queue();
    stream()->stream.config.max_msgs = 2;
    open_consumer("c", DURABLE ",\"filter_subject\":\"s.2\",\"inactive_threshold\":1000000000");
    publish("s.1", "a");
    publish("s.2", "b");
    pull("c", "1");
    deliver_store_stored(&r.d, r.log.ticket);
    (void)stage("s.3", "c");
    cr_assert(ack(r.sent[0].reply, "", ""));
    pass(5000);
    cr_assert_not_null(named("c"));
    cr_assert_eq(stream()->stream.msgs.live_count, 2);
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_eq(stream()->stream.seq_first, 3);
    cr_assert_eq(stream()->stream.msgs.live_count, 1);
    pass(1000);
    cr_assert_null(named("c"));
}

Test(deliver, a_work_queue_keeps_what_no_filter_of_the_consumer_selects)
{
    open_work_queue();
    open_consumer("c", DURABLE ",\"filter_subject\":\"s.1\"");
    publish("s.2", "a");
    publish("s.1", "b");
    pull("c", "1");
    cr_assert(ack(r.sent[0].reply, "", ""));
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_eq(stream()->stream.msgs.live_count, 1);
    cr_assert_eq(stream()->stream.seq_first, 1);
}

/* Four messages, of which two are delivered; a reset to the fourth passes over both and another. */
static void reset_over_three(const char *retention)
{
    char config[128];
    snprintf(config, sizeof config, "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"retention\":\"%s\"}",
             retention);
    call("$JS.API.STREAM.CREATE.S", config);
    open_consumer("c", DURABLE);
    for (int i = 0; i < 4; i++) publish("s.1", "a");
    pull("c", "2");
    call("$JS.API.CONSUMER.RESET.S.c", "{\"seq\":4}");
    deliver_store_stored(&r.d, r.log.ticket);
}

Test(deliver, a_work_queue_keeps_what_a_reset_passes_over_until_it_is_acked)
{
    reset_over_three("workqueue");
    cr_assert_eq(stream()->stream.msgs.live_count, 4);
    /* A record that is lost is no reason to take them for settled. */
    pull("c", "1");
    fail_store(r.log.ticket);
    pass(300);
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_eq(stream()->stream.msgs.live_count, 4);
    cr_assert(ack(r.sent[1].reply, "", "r"));
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_eq(stream()->stream.msgs.live_count, 3);
    cr_assert_eq(stream()->stream.seq_first, 1);
    cr_assert_str_eq(r.sent[r.sent_count - 1].target, "r");
}

Test(deliver, a_lost_record_is_made_good_by_the_next_one)
{
    reset_over_three("workqueue");
    pull("c", "1");
    pass(300);
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert(ack(r.sent[2].reply, "", ""));
    fail_store(r.log.ticket);
    pass(300);
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_eq(stream()->stream.msgs.live_count, 3);
    cr_assert_eq(msgs_next(&stream()->stream.msgs, 4), 0);
}

Test(deliver, an_interest_stream_drops_what_a_reset_passes_over)
{
    reset_over_three("interest");
    cr_assert_eq(stream()->stream.msgs.live_count, 1);
}

Test(deliver, what_was_acked_before_a_reset_back_does_not_come_again)
{
    open_work_queue();
    open_consumer("c", DURABLE);
    publish("s.1", "a");
    publish("s.2", "b");
    pull("c", "1");
    cr_assert(ack(r.sent[0].reply, "", ""));
    call("$JS.API.CONSUMER.RESET.S.c", "{\"seq\":1}");
    deliver_store_stored(&r.d, r.log.ticket);
    pull("c", "1");
    cr_assert_str_eq(r.sent[r.sent_count - 1].body, "b");
}

/* It forgot acks that could not be saved, and their messages came again though they were answered.
 */
Test(deliver, a_reset_that_finds_acks_it_cannot_save_is_refused)
{
    open_work_queue();
    open_consumer("c", DURABLE);
    publish("s.1", "a");
    publish("s.2", "b");
    pull("c", "1");
    r.log.fails = ERR_FULL;
    cr_assert(ack(r.sent[0].reply, "", "r"));
    cr_assert_not(is_taken("$JS.API.CONSUMER.RESET.S.c", "{\"seq\":1}"));
    r.log.fails = ERR_OK;
    pass(300);
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_str_eq(r.sent[1].target, "r");
    cr_assert_eq(stream()->stream.msgs.live_count, 1);
    call("$JS.API.CONSUMER.RESET.S.c", "{\"seq\":1}");
    pull("c", "1");
    cr_assert_str_eq(r.sent[r.sent_count - 1].body, "b");
}

/* A client that is told no goes on with what it has. */
Test(deliver, a_reset_that_is_refused_or_fails_leaves_what_is_pending)
{
    open_work_queue();
    open_consumer("c", DURABLE);
    for (int i = 0; i < 3; i++) publish("s.1", "a");
    pull("c", "2");
    pass(300);
    deliver_store_stored(&r.d, r.log.ticket);
    const struct consumer *c = named("c");
    r.log.fails = ERR_FULL;
    cr_assert_not(is_taken("$JS.API.CONSUMER.RESET.S.c", "{\"seq\":1}"));
    r.log.fails = ERR_OK;
    cr_assert_eq(c->live->window.pending_count, 2);
    struct js_request q = begin_reset("{\"seq\":3}");
    cr_assert_eq(c->live->window.pending_count, 0);
    cr_assert(ack(r.sent[0].reply, "", "r"), "passed over by it");
    fail_order(&q);
    fail_store(r.log.ticket);
    cr_assert_eq(c->live->window.pending_count, 1);
    cr_assert_eq(c->next_seq, 3);
    pass(300);
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_str_eq(r.sent[r.sent_count - 1].target, "r");
    cr_assert_eq(stream()->stream.msgs.live_count, 2);
    cr_assert_eq(msgs_next(&stream()->stream.msgs, 1), 2);
}

static void open_two_at_most(void)
{
    call("$JS.API.STREAM.CREATE.S", "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"max_msgs\":2,"
                                    "\"retention\":\"workqueue\"}");
    open_consumer("c", DURABLE);
    publish("s.1", "a");
    publish("s.2", "b");
    pull("c", "2");
}

/* In the log the third message comes before the ack, and takes the first one. */
Test(deliver, what_a_reset_settles_goes_behind_publishes_in_flight)
{
    open_two_at_most();
    uint64_t third = stage("s.3", "c");
    cr_assert(ack(r.sent[1].reply, "", ""));
    struct js_request q = begin_reset("{\"seq\":2}");
    cr_assert_eq(q.ticket, third);
    cr_assert_eq(stream()->stream.order_ticket, third); /* no more of them before the reset */
    cr_assert_eq(stream()->stream.msgs.live_count, 2);
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_WAIT_STORED);
    cr_assert_eq(stream()->stream.order_ticket, 0);
    cr_assert_eq(stream()->stream.msgs.live_count, 1);
    cr_assert_eq(msgs_next(&stream()->stream.msgs, 1), 3);
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_REPLY);
    cr_assert_not(q.is_error);
    jsapi_end(&q);
}

Test(deliver, a_reset_behind_a_publish_that_fails_leaves_the_stream_open)
{
    open_two_at_most();
    uint64_t third = stage("s.3", "c");
    struct js_request q = begin_reset("{\"seq\":2}");
    stream_unstage(&stream()->stream, third);
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_IO), JS_REPLY);
    cr_assert(q.is_error);
    jsapi_end(&q);
    cr_assert_eq(stream()->stream.order_ticket, 0);
    cr_assert_eq(named("c")->next_seq, 3);
}

/* Its message went with the record, and is back at a start: nobody may be told that it is acked. */
Test(deliver, an_ack_before_a_reset_whose_records_fail_is_never_confirmed)
{
    open_work_queue();
    open_consumer("c", DURABLE);
    publish("s.1", "a");
    publish("s.2", "b");
    pull("c", "1");
    cr_assert(ack(r.sent[0].reply, "", "r"));
    call("$JS.API.CONSUMER.RESET.S.c", "{\"seq\":1}");
    fail_store(0);
    pass(300);
    deliver_store_stored(&r.d, r.log.ticket);
    expect_refused_once("r");
}

/* The message is gone here, and nobody else lets it go at a start. */
Test(deliver, what_an_ack_before_a_reset_settled_is_told_by_the_next_record_if_theirs_fail)
{
    open_work_queue();
    open_consumer("c", DURABLE);
    for (int i = 0; i < 4; i++) publish("s.1", "a");
    pull("c", "2");
    cr_assert(ack(r.sent[1].reply, "", ""));
    struct js_request q = begin_reset("{\"seq\":4}");
    cr_assert_eq(stream()->stream.msgs.live_count, 3);
    fail_order(&q);
    r.log.settled = 0;
    fail_store(0);
    pass(300);
    cr_assert_eq(r.log.settled, UINT64_C(1) << 2, "%lx", r.log.settled);
}

/* The work queue keeps what the first reset passed over: nobody has acked it. */
Test(deliver, a_reset_that_fails_settles_nothing_that_an_earlier_one_passed_over)
{
    open_work_queue();
    open_consumer("c", DURABLE);
    for (int i = 0; i < 4; i++) publish("s.1", "a");
    call("$JS.API.CONSUMER.RESET.S.c", "{\"seq\":3}");
    pull("c", "1");
    pass(300);
    deliver_store_stored(&r.d, r.log.ticket);
    struct js_request q = begin_reset("{\"seq\":1}");
    fail_order(&q);
    fail_store(r.log.ticket);
    uint32_t before = r.log.progress_count;
    cr_assert(ack(r.sent[0].reply, "", ""));
    pass(300);
    cr_assert_gt(r.log.progress_count, before);
    cr_assert_eq(r.log.settled, UINT64_C(1) << 3, "%lx", r.log.settled);
}

/* A limit would find it at a start, by a message whose record comes before. */
Test(deliver, what_went_before_a_reset_that_fails_is_on_record_before_anything_is_published)
{
    open_work_queue();
    open_consumer("c", DURABLE);
    publish("s.1", "a");
    publish("s.1", "a");
    pull("c", "1");
    cr_assert(ack(r.sent[0].reply, "", ""));
    uint64_t first = r.log.ticket;
    struct js_request q = begin_reset("{\"seq\":2}");
    cr_assert_eq(stream()->stream.msgs.live_count, 1);
    fail_order(&q);
    r.log.settled = 0;
    fail_store(first);
    cr_assert_eq(r.log.settled, UINT64_C(1) << 1, "%lx", r.log.settled);
}

Test(deliver, what_went_behind_a_reset_that_fails_is_not_waited_for)
{
    open_limits();
    open_consumer("c", DURABLE);
    for (int i = 0; i < 3; i++) publish("s.1", "a");
    pull("c", "2");
    struct js_request q = begin_reset("{\"seq\":3}");
    cr_assert(stream_remove(&stream()->stream, 1));
    fail_order(&q);
    cr_assert_eq(named("c")->live->window.pending_count, 1);
    cr_assert_eq(named("c")->floor_seq, 1);
    cr_assert_eq(named("c")->next_seq, 3);
}

/* Nor does an ack that came since: its record begins where the reset was to begin. */
Test(deliver, an_ack_behind_a_reset_that_fails_settles_nothing_else)
{
    open_work_queue();
    open_consumer("c", DURABLE);
    for (int i = 0; i < 4; i++) publish("s.1", "a");
    pull("c", "2");
    call("$JS.API.CONSUMER.RESET.S.c", "{\"seq\":3}");
    pull("c", "1");
    pass(300);
    deliver_store_stored(&r.d, r.log.ticket);
    struct js_request q = begin_reset("{\"seq\":2}");
    uint32_t before = r.log.progress_count;
    cr_assert(ack(r.sent[0].reply, "", "r"));
    pass(300);
    cr_assert_gt(r.log.progress_count, before);
    fail_order(&q);
    fail_store(q.ticket);
    pass(300);
    cr_assert_eq(r.log.settled, UINT64_C(1) << 1, "%lx", r.log.settled);
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_str_eq(r.sent[r.sent_count - 1].target, "r");
    cr_assert_eq(stream()->stream.msgs.live_count, 3);
}

/* What it settled counts no more, and is nothing that a record behind its end could tell. */
Test(deliver, an_ack_of_one_that_ends_stands_in_the_way_of_nobody_who_comes)
{
    open_interest();
    open_consumer("c", DURABLE);
    publish("s.1", "a");
    pull("c", "1");
    struct js_request gone = request("$JS.API.CONSUMER.DELETE.S.c", "");
    cr_assert_eq(jsapi_run(&r.js, &gone), JS_WAIT_STORED);
    cr_assert(ack(r.sent[0].reply, "", ""));
    open_consumer("d", "\"durable_name\":\"d\",\"ack_policy\":\"explicit\"");
    cr_assert_eq(jsapi_stored(&r.js, &gone, ERR_OK), JS_REPLY);
    jsapi_end(&gone);
}

/* As at a start: whoever is created in between is not to get what all before had settled. */
Test(deliver, what_is_acked_twice_goes_with_the_first_ack)
{
    open_interest();
    open_consumer("c", DURABLE);
    open_consumer("e", "\"durable_name\":\"e\",\"ack_policy\":\"explicit\"");
    publish("s.1", "a");
    pull("c", "1");
    pull("e", "1");
    cr_assert(ack(r.sent[0].reply, "", ""));
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert(ack(r.sent[1].reply, "", ""));
    uint64_t last_ack = r.log.ticket;
    struct js_request q = request("$JS.API.CONSUMER.CREATE.S.d",
                                  "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"d\","
                                  "\"ack_policy\":\"explicit\"}}");
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    cr_assert(ack(r.sent[0].reply, "", ""));
    deliver_store_stored(&r.d, last_ack);
    cr_assert_eq(stream()->stream.msgs.live_count, 0);
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_REPLY);
    jsapi_end(&q);
}

/* By the state of its consumer the message goes with the change: at a start a record has to say so.
 */
Test(deliver, an_ack_whose_record_fails_beside_a_change_to_interest_is_told_by_the_next_one)
{
    open_limits();
    open_consumer("c", DURABLE);
    publish("s.1", "a");
    pull("c", "1");
    pass(300);
    struct js_request q =
        request("$JS.API.STREAM.UPDATE.S", "{\"name\":\"S\",\"subjects\":[\"s.*\"],"
                                           "\"retention\":\"interest\"}");
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    cr_assert(ack(r.sent[0].reply, "", "r"));
    fail_store(r.log.ticket);
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_REPLY);
    jsapi_end(&q);
    r.log.settled = 0;
    pass(300);
    cr_assert_eq(r.log.settled, UINT64_C(1) << 1, "%lx", r.log.settled);
}

/* It lies before what the consumer got, so it never comes. */
Test(deliver, what_other_filters_select_behind_a_delivery_is_not_kept_for_one_that_acks_all)
{
    open_interest();
    open_consumer("c", "\"durable_name\":\"c\",\"ack_policy\":\"all\",\"filter_subject\":\"s.1\"");
    open_consumer("d", "\"durable_name\":\"d\",\"ack_policy\":\"explicit\"");
    publish("s.2", "a");
    publish("s.1", "b");
    pull("c", "1");
    open_consumer("c", "\"durable_name\":\"c\",\"ack_policy\":\"all\",\"filter_subject\":\"s.2\"");
    pull("d", "1");
    cr_assert_str_eq(r.sent[1].body, "a");
    cr_assert(ack(r.sent[1].reply, "", ""));
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_eq(stream()->stream.msgs.live_count, 1);
}

/* A start would take one message more than the process did, which nobody had acked. */
Test(deliver, what_is_acked_behind_a_new_limit_goes_behind_what_that_takes)
{
    open_work_queue();
    open_consumer("c", DURABLE ",\"filter_subject\":\"s.2\"");
    for (int i = 0; i < 3000; i++) publish("s.1", "a");
    publish("s.2", "b");
    pull("c", "1");
    struct js_request q =
        request("$JS.API.STREAM.UPDATE.S", "{\"name\":\"S\",\"subjects\":[\"s.*\"],"
                                           "\"retention\":\"workqueue\",\"max_msgs\":100}");
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    cr_assert(ack(r.sent[0].reply, "", "r"));
    enum js_step step = jsapi_stored(&r.js, &q, ERR_OK);
    cr_assert_eq(step, JS_MORE);
    for (; step == JS_MORE; step = jsapi_stored(&r.js, &q, ERR_OK))
        deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_eq(step, JS_REPLY);
    jsapi_end(&q);
    cr_assert_str_eq(r.sent[1].target, "r");
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_eq(stream()->stream.msgs.live_count, 99);
}

/* The limit would take the first one, which has room when all of the deletion is done. */
Test(deliver, a_new_limit_looks_at_what_a_deletion_before_it_leaves)
{
    open_interest();
    open_consumer("c", DURABLE ",\"filter_subject\":\"s.1\"");
    open_consumer("d", "\"durable_name\":\"d\",\"filter_subject\":\"s.2\"");
    publish("s.1", "a");
    for (int i = 0; i < 3000; i++) publish("s.2", "b");
    struct js_request q = request("$JS.API.CONSUMER.DELETE.S.d", "");
    struct js_request u =
        request("$JS.API.STREAM.UPDATE.S", "{\"name\":\"S\",\"subjects\":[\"s.*\"],"
                                           "\"retention\":\"interest\",\"max_msgs\":100}");
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    cr_assert_eq(jsapi_run(&r.js, &u), JS_WAIT_STORED);
    enum js_step step = JS_MORE;
    for (; step == JS_MORE; step = jsapi_stored(&r.js, &q, ERR_OK))
        if (q.work.is_begun) cr_assert_eq(jsapi_stored(&r.js, &u, ERR_OK), JS_WAIT_STORED);
    cr_assert_eq(step, JS_REPLY);
    cr_assert_eq(jsapi_stored(&r.js, &u, ERR_OK), JS_REPLY);
    jsapi_end(&q);
    jsapi_end(&u);
    cr_assert_eq(stream()->stream.seq_first, 1);
    cr_assert_eq(stream()->stream.msgs.live_count, 1);
}

/* Each was checked beside the filters that the other one had before. */
Test(deliver, two_changes_at_a_time_do_not_share_a_work_queue)
{
    static const char body[] = "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"%s\","
                               "\"ack_policy\":\"explicit\",\"filter_subject\":\"s.3\"}}";
    char bodies[2][200];
    open_work_queue();
    open_consumer("c", DURABLE ",\"filter_subject\":\"s.1\"");
    open_consumer("d", "\"durable_name\":\"d\",\"ack_policy\":\"explicit\","
                       "\"filter_subject\":\"s.2\"");
    snprintf(bodies[0], sizeof bodies[0], body, "c");
    snprintf(bodies[1], sizeof bodies[1], body, "d");
    struct js_request q = request("$JS.API.CONSUMER.CREATE.S.c", bodies[0]);
    struct js_request u = request("$JS.API.CONSUMER.CREATE.S.d", bodies[1]);
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    cr_assert_eq(jsapi_run(&r.js, &u), JS_WAIT_STORED);
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_REPLY);
    cr_assert_eq(jsapi_stored(&r.js, &u, ERR_OK), JS_REPLY);
    cr_assert_not(q.is_error);
    cr_assert(u.is_error);
    jsapi_end(&q);
    jsapi_end(&u);
}

/* Where no record tells of such an ack nobody is told yes: it comes again if the reset fails. */
Test(deliver, an_ack_that_a_reset_may_forget_is_not_confirmed)
{
    static const char *const kinds[] = {DURABLE, "\"durable_name\":\"c\",\"ack_policy\":\"all\""};
    for (int i = 0; i < 2; i++) {
        if (i > 0) call("$JS.API.STREAM.DELETE.S", "");
        open_limits();
        open_consumer("c", kinds[i]);
        publish("s.1", "a");
        publish("s.1", "b");
        uint32_t first = r.sent_count;
        pull("c", "1");
        pass(300);
        deliver_store_stored(&r.d, r.log.ticket);
        struct js_request q = request("$JS.API.CONSUMER.RESET.S.c", "{\"seq\":2}");
        cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
        uint32_t sent = r.sent_count;
        cr_assert(ack(r.sent[first].reply, "", "r"));
        cr_assert_eq(jsapi_stored(&r.js, &q, ERR_IO), JS_REPLY);
        jsapi_end(&q);
        fail_store(q.ticket);
        cr_assert_eq(named("c")->live->window.pending_count, 1);
        pass(300);
        deliver_store_stored(&r.d, r.log.ticket);
        cr_assert_eq(r.sent_count, sent);
    }
}

Test(deliver, an_ack_whose_consumer_ends_without_a_record_is_not_confirmed)
{
    open_limits();
    publish("s.1", "a");
    open_consumer("c", DURABLE);
    pull("c", "1");
    cr_assert_eq(deliver_ack(&r.d, stream(), bytes_from_text(r.sent[0].reply), BYTES_LITERAL(""),
                             BYTES_LITERAL("r"), r.now),
                 ERR_OK);
    deliver_closing(&r.d, stream(), named("c"));
    expect_refused_once("r");
}

Test(deliver, an_ack_is_taken_without_memory_for_its_answer)
{
    char subject[sizeof r.sent[0].reply];
    open_limits();
    publish("s.1", "a");
    open_consumer("c", DURABLE);
    pull("c", "1");
    memcpy(subject, r.sent[0].reply, sizeof subject);
    r.heap.fail_at = r.heap.alloc_count + 1;
    r.heap.fail_from = 1;
    enum err e = deliver_ack(&r.d, stream(), bytes_from_text(subject), BYTES_LITERAL(""),
                             BYTES_LITERAL("r"), r.now);
    r.heap.fail_at = 0;
    cr_assert_eq(e, ERR_MEMORY);
    cr_assert_eq(named("c")->floor_seq, 1);
    cr_assert(ack(subject, "", "r")); /* asked again */
}

Test(deliver, a_pull_without_memory_is_told_so)
{
    open_limits();
    open_consumer("c", DURABLE);
    for (int i = 0; i < 2; i++) { /* its part here is missing, and its own */
        r.heap.fail_at = r.heap.alloc_count + 1;
        r.heap.fail_from = 1;
        cr_assert(deliver_pull(&r.d, stream(), BYTES_LITERAL("c"), BYTES_LITERAL("1"),
                               BYTES_LITERAL("in"), r.now));
        r.heap.fail_at = 0;
        cr_assert_eq(r.sent_count, (uint32_t)i + 1);
        cr_assert_str_eq(r.sent[i].headers, PULLQ_NO_MEMORY);
        deliver_updated(&r.d, stream(), named("c"), r.now);
    }
}

Test(deliver, a_memory_stream_settles_at_once_and_writes_nothing)
{
    call("$JS.API.STREAM.CREATE.S", "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"storage\":\"memory\","
                                    "\"retention\":\"workqueue\"}");
    open_consumer("c", DURABLE);
    publish("s.1", "a");
    pull("c", "1");
    cr_assert(ack(r.sent[0].reply, "", "r"));
    cr_assert_eq(stream()->stream.msgs.live_count, 0);
    cr_assert_eq(r.sent_count, 2);
    cr_assert_eq(r.log.progress_count, 0);
}

Test(deliver, a_read_that_waits_goes_on_when_it_ends)
{
    struct record record;
    open_limits();
    publish("s.1", "a");
    publish("s.2", "b");
    open_consumer("c", DURABLE);
    r.log.is_busy = true;
    pull("c", "2");
    cr_assert_eq(r.sent_count, 0);
    cr_assert(deliver_is_read(&r.d, r.log.waiting));
    r.log.is_busy = false;
    run();
    cr_assert_eq(r.sent_count, 0); /* one at a time, in order */
    struct store_read *read = r.log.waiting;
    cr_assert_eq(store_read(&r.log.inner.store, read, &record), ERR_OK);
    deliver_read(&r.d, read, ERR_OK, &record, r.now);
    run();
    cr_assert_eq(r.sent_count, 2);
    cr_assert_str_eq(r.sent[1].body, "b");
}

static void end_read(struct store_read *read)
{
    struct record record;
    r.log.is_busy = false;
    cr_assert_eq(store_read(&r.log.inner.store, read, &record), ERR_OK);
    deliver_read(&r.d, read, ERR_OK, &record, r.now);
    run();
}

Test(deliver, a_reset_while_a_read_waits_skips_nothing)
{
    open_limits();
    for (int i = 0; i < 4; i++) publish("s.1", "a");
    open_consumer("c", DURABLE);
    pull("c", "3");
    cr_assert_eq(r.sent_count, 3);
    r.log.is_busy = true;
    pull("c", "1");
    call("$JS.API.CONSUMER.RESET.S.c", "{\"seq\":1}");
    end_read(r.log.waiting);
    cr_assert_eq(r.sent_count, 4);
    cr_assert_str_eq(strstr(r.sent[3].reply, ".1.1.1."), strstr(r.sent[0].reply, ".1.1.1."));
    cr_assert_eq(consumer_left(named("c")), 3);
}

Test(deliver, other_filters_while_a_read_waits_are_what_counts)
{
    open_limits();
    publish("s.1", "a");
    publish("s.2", "b");
    publish("s.3", "c");
    open_consumer("c", DURABLE ",\"filter_subject\":\"s.2\"");
    r.log.is_busy = true;
    pull("c", "5");
    struct store_read *read = r.log.waiting;
    open_consumer("c", DURABLE ",\"filter_subjects\":[\"s.1\",\"s.3\"]");
    end_read(read);
    cr_assert_eq(r.sent_count, 2);
    cr_assert_str_eq(r.sent[0].body, "a");
    cr_assert_str_eq(r.sent[1].body, "c");
    cr_assert_eq(consumer_left(named("c")), 0);
}

Test(deliver, a_consumer_may_go_while_its_read_waits)
{
    open_limits();
    publish("s.1", "a");
    open_consumer("c", DURABLE);
    r.log.is_busy = true;
    pull("c", "1");
    call("$JS.API.CONSUMER.DELETE.S.c", "");
    cr_assert_eq(r.sent_count, 1);
    cr_assert_str_eq(r.sent[0].headers, "NATS/1.0 409 Consumer Deleted\r\n\r\n");
    deliver_read(&r.d, r.log.waiting, ERR_IO, NULL, r.now);
    run();
    cr_assert_eq(r.sent_count, 1);
}

Test(deliver, what_is_damaged_is_passed_over_and_what_cannot_be_read_now_comes_later)
{
    open_limits();
    publish("s.1", "a");
    open_consumer("c", DURABLE);
    r.log.fails = ERR_IO;
    pull("c", "2");
    cr_assert_eq(r.sent_count, 0);
    r.log.fails = ERR_OK;
    pass(20);
    cr_assert_eq(r.sent_count, 1);
    publish("s.2", "b");
    r.log.fails = ERR_CORRUPT;
    run();
    r.log.fails = ERR_OK;
    publish("s.3", "c");
    run();
    cr_assert_eq(r.sent_count, 2);
    cr_assert_str_eq(r.sent[1].body, "c");
}

Test(deliver, nothing_is_delivered_without_room)
{
    open_limits();
    publish("s.1", "a");
    open_consumer("c", "\"ack_policy\":\"none\"");
    r.is_full = true;
    cr_assert(deliver_pull(&r.d, stream(), BYTES_LITERAL("c"), bytes_of("", 0), BYTES_LITERAL("in"),
                           r.now));
    cr_assert(deliver_run(&r.d, r.now, 10));
    cr_assert_eq(r.sent_count, 0);
    r.is_full = false;
    cr_assert_not(deliver_run(&r.d, r.now, 10));
    cr_assert_eq(r.sent_count, 1);
}

Test(deliver, what_there_is_no_memory_for_does_not_count_as_sent)
{
    open_limits();
    publish("s.1", "a");
    open_consumer("c", "\"durable_name\":\"c\",\"ack_policy\":\"none\"");
    r.is_short = true;
    pull("c", "1");
    cr_assert_eq(r.sent_count, 0);
    cr_assert_eq(named("c")->delivered_seq, 0);
    r.is_short = false;
    pass(20);
    cr_assert_eq(r.sent_count, 1);
    cr_assert_str_eq(r.sent[0].body, "a");
}

Test(deliver, those_who_read_take_turns_and_a_step_has_room_for_several)
{
    uint32_t runs = 0;
    open_limits();
    for (int i = 0; i < DELIVER_RUN_MAX + 10; i++) publish("s.1", "a");
    open_consumer("c", "\"ack_policy\":\"none\"");
    open_consumer("e", "\"ack_policy\":\"none\"");
    for (int i = 0; i < 2; i++)
        cr_assert(deliver_pull(&r.d, stream(), bytes_from_text(i == 0 ? "c" : "e"),
                               BYTES_LITERAL("1000"), bytes_from_text(i == 0 ? "in.c" : "in.e"),
                               r.now));
    cr_assert_not(deliver_run(&r.d, r.now, 1000));
    cr_assert_eq(r.sent_count, 2 * (DELIVER_RUN_MAX + 10));
    for (uint32_t i = 0; i < r.sent_count; i++)
        runs += i == 0 || strcmp(r.sent[i].target, r.sent[i - 1].target) != 0;
    cr_assert_eq(runs, 4);
    cr_assert_str_eq(r.sent[DELIVER_RUN_MAX - 1].reply,
                     "$JS.ACK.S.c.1.64.64.1795263937500000000.10");
    cr_assert_str_eq(r.sent[DELIVER_RUN_MAX].reply, "$JS.ACK.S.e.1.1.1.1795263937500000000.73");
    cr_assert_str_eq(r.sent[r.sent_count - 1].reply, "$JS.ACK.S.e.1.74.74.1795263937500000000.0");
}

Test(deliver, a_push_consumer_delivers_while_somebody_listens)
{
    open_limits();
    r.listens = false;
    publish("s.1", "a");
    open_consumer("c", "\"deliver_subject\":\"d.x\",\"durable_name\":\"c\",\"headers_only\":true");
    run();
    cr_assert_eq(r.sent_count, 0);
    r.listens = true;
    deliver_interest(&r.d, 0, BYTES_LITERAL("d.y"), r.now);
    deliver_interest(&r.d, 1, BYTES_LITERAL("d.x"), r.now);
    run();
    cr_assert_eq(r.sent_count, 0);
    deliver_interest(&r.d, 0, BYTES_LITERAL("d.*"), r.now);
    run();
    cr_assert_eq(r.sent_count, 0);
    deliver_interest(&r.d, 0, BYTES_LITERAL("d.x"), r.now);
    run();
    cr_assert_eq(r.sent_count, 1);
    cr_assert_str_eq(r.sent[0].target, "d.x");
    cr_assert_str_eq(r.sent[0].subject, "s.1");
    cr_assert_str_eq(r.sent[0].headers, "NATS/1.0\r\nNats-Msg-Size: 1\r\n\r\n");
    cr_assert_str_eq(r.sent[0].body, "");
    r.listens = false;
    deliver_interest(&r.d, 0, BYTES_LITERAL("d.x"), r.now);
    publish("s.2", "b");
    run();
    cr_assert_eq(r.sent_count, 1);
    r.listens = true;
    deliver_interest_all(&r.d, r.now);
    run();
    cr_assert_eq(r.sent_count, 2);
}

Test(deliver, a_push_consumer_without_memory_sees_later_who_listens)
{
    open_limits();
    r.listens = false;
    publish("s.1", "a");
    open_consumer(
        "c",
        "\"deliver_subject\":\"d.x\",\"durable_name\":\"c\",\"filter_subjects\":[\"s.1\",\"s.2\"]");
    run();
    r.listens = true;
    r.heap.fail_at = r.heap.alloc_count + 1;
    r.heap.fail_from = 1;
    deliver_interest(&r.d, 0, BYTES_LITERAL("d.x"), r.now);
    r.heap.fail_at = 0;
    r.heap.fail_from = 0;
    run();
    cr_assert_eq(r.sent_count, 0);
    cr_assert_neq(deliver_next_ns(&r.d), UINT64_MAX);
    pass(20);
    cr_assert_eq(r.sent_count, 1);
}

Test(deliver, without_memory_it_is_tried_again_later_and_for_those_that_are_used)
{
    open_limits();
    publish("s.1", "a");
    open_consumer("idle", "\"durable_name\":\"idle\",\"ack_policy\":\"explicit\"");
    open_consumer("c", "\"durable_name\":\"c\",\"deliver_subject\":\"to\"");
    pass(1000);
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_null(named("idle")->owner);
    deliver_closing(&r.d, stream(), named("c"));
    r.heap.fail_at = r.heap.alloc_count + 1;
    r.heap.fail_from = 1;
    deliver_opened(&r.d, stream(), named("c"), r.now);
    uint64_t tries = r.heap.alloc_count;
    run();
    cr_assert_eq(r.heap.alloc_count, tries);
    cr_assert_gt(deliver_next_ns(&r.d), r.now.mono_ns);
    r.heap.fail_at = 0;
    pass(20);
    cr_assert_not_null(named("c")->owner);
    cr_assert_null(named("idle")->owner);
}

Test(deliver, a_flow_control_request_follows_the_message)
{
    open_limits();
    open_consumer("c", "\"deliver_subject\":\"d\",\"flow_control\":true,"
                       "\"idle_heartbeat\":1000000000");
    named("c")->push->window = 1;
    publish("s.1", "a");
    run();
    cr_assert_eq(r.sent_count, 2);
    cr_assert_str_eq(r.sent[0].subject, "s.1");
    cr_assert_str_eq(r.sent[1].headers, "NATS/1.0 100 FlowControl Request\r\n\r\n");
    publish("s.2", "b");
    run();
    cr_assert_eq(r.sent_count, 2);
    deliver_flow(&r.d, stream(), bytes_from_text(r.sent[1].reply));
    run();
    cr_assert_geq(r.sent_count, 3);
}

Test(deliver, an_inactive_one_goes)
{
    open_limits();
    open_consumer("e", "\"inactive_threshold\":1000000000");
    pass(900);
    cr_assert_not_null(named("e"));
    pass(200);
    cr_assert_null(named("e"));
    cr_assert_eq(r.gone_count, 1);
    cr_assert_eq(r.log.gone_count, 1);
}

/* A start would have it again, beside whoever has its place by then. */
Test(deliver, an_inactive_one_whose_record_is_lost_has_another_before_anything_else)
{
    open_limits();
    open_consumer("e", "\"inactive_threshold\":1000000000");
    pass(1100);
    cr_assert_null(named("e"));
    uint64_t first = r.log.ticket;
    js_ends_failed(&r.js, first + 1);
    cr_assert_eq(r.log.gone_count, 1);
    js_ends_failed(&r.js, first);
    js_ends_again(&r.js);
    cr_assert_eq(r.log.gone_count, 2);
    cr_assert_gt(r.log.ticket, first);
    js_ends_stored(&r.js, r.log.ticket - 1);
    r.log.fails_gone = true;
    js_ends_failed(&r.js, r.log.ticket);
    js_ends_again(&r.js);
    cr_assert_eq(r.log.gone_count, 2);
    r.log.fails_gone = false;
    js_ends_again(&r.js);
    cr_assert_eq(r.log.gone_count, 3);
    js_ends_stored(&r.js, r.log.ticket);
    js_ends_failed(&r.js, first);
    js_ends_again(&r.js);
    cr_assert_eq(r.log.gone_count, 3);
}

Test(deliver, the_end_of_an_inactive_one_is_no_matter_where_its_stream_ended_too)
{
    open_limits();
    open_consumer("e", "\"inactive_threshold\":1000000000");
    pass(1100);
    cr_assert_eq(r.log.gone_count, 1);
    js_drop(&r.js, stream());
    js_ends_failed(&r.js, 1);
    js_ends_again(&r.js);
    cr_assert_eq(r.log.gone_count, 1);
    cr_assert(list_is_empty(&r.js.ends_lost));
}

Test(deliver, the_time_that_a_creation_waits_is_no_inactivity)
{
    open_limits();
    struct js_request q = request(
        "$JS.API.CONSUMER.CREATE.S.e",
        "{\"stream_name\":\"S\",\"config\":{\"name\":\"e\",\"inactive_threshold\":1000000000}}");
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    pass(2000);
    r.js.clock = r.now;
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_REPLY);
    jsapi_end(&q);
    pass(900);
    cr_assert_not_null(named("e"));
    pass(200);
    cr_assert_null(named("e"));
}

Test(deliver, what_expires_comes_again_and_a_purge_ends_it)
{
    open_limits();
    publish("s.1", "a");
    open_consumer("c", DURABLE ",\"ack_wait\":1000000000,\"max_ack_pending\":1");
    pull("c", "5");
    cr_assert_eq(r.sent_count, 1);
    pass(1100);
    cr_assert_eq(r.sent_count, 2);
    cr_assert_str_eq(r.sent[1].reply, "$JS.ACK.S.c.2.1.2.1795263937500000000.0");
    publish("s.2", "b");
    run();
    cr_assert_eq(r.sent_count, 2); /* one may be pending */
    call("$JS.API.STREAM.PURGE.S", "");
    publish("s.3", "c");
    run();
    cr_assert_eq(r.sent_count, 3);
}

Test(deliver, idle_consumers_cost_nothing_when_a_message_comes)
{
    char name[20], config[100];
    open_limits();
    r.js.consumers_default_max = 0;
    for (int i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "c%d", i);
        snprintf(config, sizeof config, "\"durable_name\":\"c%d\",\"filter_subject\":\"s.%d\"", i,
                 i);
        open_consumer(name, config);
    }
    pass(10);
    pass(300);
    deliver_store_stored(&r.d, r.log.ticket);
    for (int i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "c%d", i);
        cr_assert_null(named(name)->owner); /* nor memory */
    }
    for (int i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "c%d", i);
        cr_assert(deliver_pull(&r.d, stream(), bytes_from_text(name), bytes_of("", 0),
                               BYTES_LITERAL("in"), r.now));
    }
    pass(10);
    cr_assert_eq(stream()->wake.waiting_count, 2000);
    publish("s.77", "a");
    cr_assert_eq(stream()->wake.waiting_count, 1999);
    run();
    cr_assert_eq(r.sent_count, 1);
}

Test(deliver, a_consumer_whose_receiver_is_slow_rests)
{
    open_limits();
    publish("s.1", "a");
    publish("s.2", "b");
    open_consumer("c", DURABLE);
    r.is_slow = true;
    pull("c", "5");
    cr_assert_eq(r.sent_count, 1);
    run();
    cr_assert_eq(r.sent_count, 1);
    publish("s.3", "c");
    pass(4);
    cr_assert_eq(r.sent_count, 2);
    pass(3); /* twice as long now */
    cr_assert_eq(r.sent_count, 2);
    r.is_slow = false;
    pass(3);
    cr_assert_eq(r.sent_count, 3);
}

Test(deliver, a_flush_saves_everything)
{
    open_limits();
    publish("s.1", "a");
    open_consumer("c", DURABLE);
    pull("c", "1");
    r.log.fails = ERR_FULL;
    deliver_flush(&r.d, r.now);
    cr_assert_eq(r.log.progress_count, 0);
    r.log.fails = ERR_OK;
    deliver_flush(&r.d, r.now);
    deliver_flush(&r.d, r.now);
    cr_assert_eq(r.log.progress_count, 1);
}

#define STAMP "Nats-Time-Stamp: 2026-11-21T12:25:37.5Z\r\n"

static void republish_of(const char *storage)
{
    char config[300];
    snprintf(config, sizeof config,
             "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"storage\":\"%s\",\"max_msgs_per_subject\":1,"
             "\"republish\":{\"src\":\"s.*\",\"dest\":\"r.$1\"}}",
             storage);
    call("$JS.API.STREAM.CREATE.S", config);
    publish("s.1", "a");
    publish("s.1", "b"); /* evicts the first one, which is sent on all the same */
    run();
    cr_assert_eq(r.sent_count, 2);
    cr_assert_str_eq(r.sent[0].target, "r.1");
    cr_assert_str_eq(r.sent[0].subject, "r.1");
    cr_assert_str_eq(r.sent[0].body, "a");
    cr_assert_str_eq(r.sent[1].body, "b");
    cr_assert_str_eq(r.sent[1].reply, "");
}

Test(deliver, a_file_stream_republishes_what_it_stored)
{
    republish_of("file");
    cr_assert_str_eq(r.sent[1].headers,
                     "NATS/1.0\r\nNats-Stream: S\r\nNats-Subject: s.1\r\nNats-Sequence: 2\r\n" STAMP
                     "Nats-Last-Sequence: 1\r\n\r\n");
}

Test(deliver, a_memory_stream_republishes_what_it_stored)
{
    republish_of("memory");
    cr_assert_eq(r.js.memory.live_count, 1);
    publish("s.1", "c");
    call("$JS.API.STREAM.DELETE.S", ""); /* with one that waits */
    run();
    cr_assert_eq(r.sent_count, 2);
    cr_assert_eq(r.js.memory.live_count, 0);
}

Test(deliver, a_republished_message_may_have_to_be_read)
{
    struct record record;
    call("$JS.API.STREAM.CREATE.S", "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"republish\":{"
                                    "\"dest\":\"r.>\",\"headers_only\":true}}");
    r.log.is_busy = true;
    publish("s.1", "a");
    publish("s.2", "b");
    run();
    cr_assert_eq(r.sent_count, 0);
    cr_assert(deliver_is_read(&r.d, r.log.waiting));
    r.log.is_busy = false;
    cr_assert_eq(store_read(&r.log.inner.store, r.log.waiting, &record), ERR_OK);
    deliver_read(&r.d, r.log.waiting, ERR_OK, &record, r.now);
    run();
    cr_assert_eq(r.sent_count, 2);
    cr_assert_str_eq(r.sent[0].target, "r.s.1");
    cr_assert_str_eq(r.sent[0].body, "");
    cr_assert_not_null(strstr(r.sent[0].headers, "Nats-Msg-Size: 1\r\n"));
}

Test(deliver, a_message_to_republish_waits_for_memory)
{
    call("$JS.API.STREAM.CREATE.S",
         "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"republish\":{\"dest\":\"r.>\"}}");
    publish("s.1", "a");
    r.heap.fail_at = r.heap.alloc_count + 1;
    r.heap.fail_from = 1;
    run();
    r.heap.fail_at = 0;
    cr_assert_eq(r.sent_count, 0);
    cr_assert_leq(deliver_next_ns(&r.d), r.now.mono_ns + 10000000);
    pass(10);
    cr_assert_eq(r.sent_count, 1);
    cr_assert_eq(r.d.republish.dropped, 0);
}

Test(deliver,
     a_message_to_republish_that_moved_is_read_where_it_lies_and_one_that_is_lost_is_counted)
{
    struct msgs_entry entry;
    struct msgs *msgs = NULL;
    call("$JS.API.STREAM.CREATE.S",
         "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"republish\":{\"dest\":\"r.>\"}}");
    msgs = &stream()->stream.msgs;
    r.log.is_busy = true;
    publish("s.1", "a");
    run();
    cr_assert_eq(msgs_get(msgs, 1, &entry), ERR_OK);
    cr_assert_eq(msgs_set_place(msgs, 1, entry.place + 1), ERR_OK);
    deliver_read(&r.d, r.log.waiting, ERR_CORRUPT, NULL, r.now);
    cr_assert_eq(r.d.republish.count, 1);
    r.log.is_busy = false;
    cr_assert_eq(msgs_set_place(msgs, 1, entry.place), ERR_OK);
    pass(10);
    cr_assert_eq(r.sent_count, 1);
    r.log.is_busy = true;
    publish("s.2", "b");
    run();
    deliver_read(&r.d, r.log.waiting, ERR_CORRUPT, NULL, r.now);
    cr_assert_eq(r.d.republish.count, 0);
    cr_assert_eq(r.d.republish.dropped, 1);
}

/* c and e, which wants only what e_filter says, beside two messages, as many as may be: c acked the
 * second, and a third is in flight behind that, whose ticket this is. */
static uint64_t stage_behind_ack(const char *e_filter)
{
    char e[100];
    open_interest();
    stream()->stream.config.max_msgs = 2;
    open_consumer("c", DURABLE);
    snprintf(e, sizeof e, "\"durable_name\":\"e\",\"filter_subject\":\"%s\"", e_filter);
    open_consumer("e", e);
    publish("s.1", "a");
    publish("s.2", "b");
    pull("c", "2");
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert(ack(r.sent[1].reply, "", ""));
    return stage("s.3", "c");
}

/* In the log its ack makes room for what is published before the other one ends. */
Test(deliver, what_was_acked_before_an_inactive_one_ends_makes_room_before)
{
    uint64_t third = stage_behind_ack("s.9"), end;
    enum err e = js_consumer_delete(&r.js, stream(), named("e"), r.now.wall_ns, &end);
    deliver_store_stored(&r.d, r.log.ticket);
    (void)!stream_settle(&stream()->stream, third);
    while (js_is_rolling(&r.js)) js_roll(&r.js);
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert(msgs_has(&stream()->stream.msgs, 1), "err %d", (int)e);
    cr_assert_eq(stream()->stream.msgs.live_count, 2);
}

/* In the log what it wants is there when a limit looks for room. */
Test(deliver, an_inactive_one_ends_behind_what_was_published_before)
{
    uint64_t third = stage_behind_ack("s.2"), end;
    cr_assert_eq(js_consumer_delete(&r.js, stream(), named("e"), r.now.wall_ns, &end), ERR_OK);
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_eq(stream_settle(&stream()->stream, third), ERR_OK);
    while (js_is_rolling(&r.js)) js_roll(&r.js);
    deliver_store_stored(&r.d, r.log.ticket);
    cr_assert_null(named("e"));
    cr_assert_eq(stream()->stream.order_ticket, 0);
    cr_assert_eq(msgs_next(&stream()->stream.msgs, 1), 3);
    cr_assert_eq(stream()->stream.msgs.live_count, 1);
}

Test(deliver, an_inactive_one_whose_record_is_refused_ends_later)
{
    open_interest();
    open_consumer("e", "\"durable_name\":\"e\",\"inactive_threshold\":1000000000");
    pass(900);
    pass(200);
    deliver_store_stored(&r.d, r.log.ticket); /* what it was, on record once more */
    uint64_t first = stage("s.1", "a");
    pass(20);
    cr_assert_not_null(named("e"));
    cr_assert_neq(stream()->stream.order_ticket, 0);
    r.log.fails_gone = true;
    cr_assert_eq(stream_settle(&stream()->stream, first), ERR_OK);
    js_roll(&r.js);
    cr_assert_not_null(named("e"));
    cr_assert_eq(stream()->stream.order_ticket, 0);
    pass(1);
    cr_assert_not_null(named("e"));
    r.log.fails_gone = false;
    pass(1000);
    deliver_store_stored(&r.d, r.log.ticket);
    pass(1000);
    cr_assert_null(named("e"));
    cr_assert_eq(stream()->stream.msgs.live_count, 0);
}
