#include <criterion/criterion.h>
#include <stdio.h>
#include "core/base/must.h"
#include "core/js/checkpoint.h"
#include "core/js/jsapi.h"
#include "tests/support/mem_heap.h"

/* Replies are those of nats-server 2.15.2 to the same requests, at a fixed time. */
#define T "\"2026-11-21T12:25:37.5Z\""
#define TYPE(name) "{\"type\":\"io.nats.jetstream.api.v1.consumer_" name "_response\","
#define META(more, level)                                                                          \
    "\"metadata\":{\"_nats.level\":\"5\",\"_nats.req.level\":\"" level                             \
    "\",\"_nats.ver\":\"2.15.2\"" more "}"
#define C1_CONFIG(metadata)                                                                        \
    "\"stream_name\":\"S\",\"name\":\"c1\",\"created\":" T                                         \
    ",\"config\":{\"durable_name\":\"c1\",\"name\":\"c1\",\"deliver_policy\":\"all\","             \
    "\"ack_policy\":\"explicit\",\"ack_wait\":30000000000,\"max_deliver\":-1,"                     \
    "\"filter_subject\":\"s.1\",\"replay_policy\":\"instant\",\"max_waiting\":512,"                \
    "\"max_ack_pending\":1000,\"num_replicas\":0," metadata "}"
#define STATE(seq, pending)                                                                        \
    ",\"delivered\":{\"consumer_seq\":0,\"stream_seq\":" seq                                       \
    "},\"ack_floor\":{\"consumer_seq\":0,\"stream_seq\":" seq                                      \
    "},\"num_ack_pending\":0,\"num_redelivered\":0,\"num_waiting\":0,\"num_pending\":" pending
#define C1_CREATE                                                                                  \
    "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"c1\",\"filter_subject\":\"s.1\","       \
    "\"ack_policy\":\"explicit\",\"metadata\":{\"a\":\"b\"}}}"
#define C1 C1_CONFIG(META(",\"a\":\"b\"", "0"))
#define ERROR(code, err_code, text)                                                                \
    "\"error\":{\"code\":" code ",\"err_code\":" err_code ",\"description\":\"" text "\"}"

struct rig {
    struct mem_heap heap;
    struct memstore file; /* stands in for the log */
    struct js js;
    struct text out;
    struct js_hooks hooks;
    int opened, updated, closing;
};

static struct rig r;
static const int64_t now_ns = INT64_C(1795263937500000000);

static void on_opened(void *context, struct js_stream *s, struct consumer *c)
{
    r.opened++;
}

static void on_updated(void *context, struct js_stream *s, struct consumer *c)
{
    r.updated++;
}

static void on_closing(void *context, struct js_stream *s, struct consumer *c)
{
    r.closing++;
}

static struct js_request request(const char *subject, const char *body)
{
    return (struct js_request){.account_name = BYTES_LITERAL("$G"),
                               .subject = bytes_from_text(subject),
                               .body = bytes_from_text(body),
                               .out = &r.out,
                               .mono_ns = 1,
                               .now_ns = now_ns};
}

/* What the request waits for comes at once, or fails with result. */
static struct bytes call(enum err result, const char *subject, const char *body)
{
    struct js_request q = request(subject, body);
    enum js_step step = jsapi_run(&r.js, &q);
    if (step == JS_WAIT_STORED) step = jsapi_stored(&r.js, &q, result);
    cr_assert_eq(step, JS_REPLY);
    jsapi_end(&q);
    return text_written(&r.out);
}

static void expect(const char *subject, const char *body, const char *reply)
{
    struct bytes got = call(ERR_OK, subject, body);
    cr_assert(bytes_equal(got, bytes_from_text(reply)), "%s:\n%.*s\n%s", subject, (int)got.len,
              got.data, reply);
}

/* In flight; its ticket. */
static uint64_t send_message(const char *subject)
{
    char scratch[PUBLISH_SCRATCH_EXTRA + 256];
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    struct stream_outcome o;
    struct store_stub stub;
    struct writer w;
    writer_init(&w, scratch, sizeof scratch);
    publish_check(&s->stream, bytes_from_text(subject), BYTES_LITERAL(""), BYTES_LITERAL("x"),
                  now_ns, &w, &o);
    cr_assert_eq(o.verdict, STREAM_STORE);
    cr_assert_eq(store_append(js_store_of(&r.js, s), &o.record, &stub), ERR_OK);
    stream_stage(&s->stream, &o, stub.ticket, stub.place);
    return stub.ticket;
}

static void publish(const char *subject)
{
    uint64_t ticket = send_message(subject);
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    cr_assert_eq(stream_settle(&s->stream, ticket), ERR_OK);
}

static void open_stream(const char *config)
{
    (void)call(ERR_OK, "$JS.API.STREAM.CREATE.S", config);
}

static void setup(void)
{
    memset(&r, 0, sizeof r);
    mem_heap_init(&r.heap);
    memstore_init(&r.file, &r.heap.mem, 1 << 20);
    js_init(&r.js, &r.heap.mem, &r.file.store, 5, 1 << 20);
    r.hooks = (struct js_hooks){.consumer_opened = on_opened,
                                .consumer_updated = on_updated,
                                .consumer_closing = on_closing};
    r.js.hooks = &r.hooks;
    text_init(&r.out, &r.heap.mem, MEM_JETSTREAM, 1 << 20);
}

static void teardown(void)
{
    js_deinit(&r.js);
    memstore_deinit(&r.file);
    text_deinit(&r.out);
    must(r.heap.live_count == 0);
}

TestSuite(jsapi_consumer, .init = setup, .fini = teardown);

static void open_three(void)
{
    open_stream("{\"name\":\"S\",\"subjects\":[\"s.*\"]}");
    publish("s.0");
    publish("s.1");
    publish("s.2");
}

Test(jsapi_consumer, a_durable_one_is_made_shown_paused_reset_and_deleted)
{
    open_three();
    expect("$JS.API.CONSUMER.CREATE.S.c1.s.1", C1_CREATE,
           TYPE("create") C1 STATE("0", "1") ",\"ts\":" T "}");
    cr_assert_eq(r.opened, 1);
    expect("$JS.API.CONSUMER.INFO.S.c1", "", TYPE("info") C1 STATE("0", "1") ",\"ts\":" T "}");
    expect("$JS.API.CONSUMER.PAUSE.S.c1", "{\"pause_until\":\"2035-01-01T00:00:00+02:00\"}",
           TYPE("pause") "\"paused\":true,\"pause_until\":\"2034-12-31T22:00:00Z\","
                         "\"pause_remaining\":255951262500000000}");
    expect("$JS.API.CONSUMER.INFO.S.c1", "",
           TYPE("info")
               C1_CONFIG(META(",\"a\":\"b\"", "1") ",\"pause_until\":\"2034-12-31T22:00:00Z\"")
                   STATE("0", "1") ",\"paused\":true,\"pause_remaining\":255951262500000000"
                                   ",\"ts\":" T "}");
    /* A create says nothing about that. */
    expect("$JS.API.CONSUMER.CREATE.S.c1.s.1", C1_CREATE,
           TYPE("create")
               C1_CONFIG(META(",\"a\":\"b\"", "1") ",\"pause_until\":\"2034-12-31T22:00:00Z\"")
                   STATE("0", "1") ",\"paused\":true,\"pause_remaining\":255951262500000000"
                                   ",\"ts\":" T "}");
    expect("$JS.API.CONSUMER.PAUSE.S.c1", "",
           TYPE("pause") "\"paused\":false,\"pause_until\":\"0001-01-01T00:00:00Z\"}");
    expect("$JS.API.CONSUMER.RESET.S.c1", "{\"seq\":2}",
           TYPE("reset") C1 STATE("1", "1") ",\"ts\":" T ",\"reset_seq\":2}");
    expect("$JS.API.CONSUMER.DELETE.S.c1", "x",
           TYPE("delete") ERROR("400", "10038", "expected an empty request payload") "}");
    cr_assert_eq(r.closing, 0);
    expect("$JS.API.CONSUMER.DELETE.S.c1", "", TYPE("delete") "\"success\":true}");
    cr_assert_eq(r.closing, 1);
    expect("$JS.API.CONSUMER.INFO.S.c1", "",
           TYPE("info") ERROR("404", "10014", "consumer not found") "}");
}

Test(jsapi_consumer, an_ephemeral_one_gets_a_name_that_its_configuration_does_not_show)
{
    open_three();
    struct bytes got = call(ERR_OK, "$JS.API.CONSUMER.CREATE.S",
                            "{\"stream_name\":\"S\",\"config\":{\"mem_storage\":true}}");
    char name[9] = {0};
    cr_assert_eq(
        sscanf(got.data, TYPE("create") "\"stream_name\":\"S\",\"name\":\"%8[0-9A-Za-z]\"", name),
        1);
    char reply[1000];
    snprintf(reply, sizeof reply,
             TYPE("create") "\"stream_name\":\"S\",\"name\":\"%s\",\"created\":" T
                            ",\"config\":{\"deliver_policy\":\"all\",\"ack_policy\":\"none\","
                            "\"max_deliver\":-1,\"replay_policy\":\"instant\",\"max_waiting\":512,"
                            "\"inactive_threshold\":5000000000,\"num_replicas\":0,"
                            "\"mem_storage\":true," META("", "0") "}" STATE("0", "3") ",\"ts\":" T
                                                                                      "}",
             name);
    cr_assert(bytes_equal(got, bytes_from_text(reply)), "%.*s\n%s", (int)got.len, got.data, reply);
}

/* Once, and not as it is staged too: of a million subjects it takes long. */
Test(jsapi_consumer, the_last_of_each_subject_are_looked_for_when_the_consumer_is_durable)
{
    open_three();
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    struct js_request q = request("$JS.API.CONSUMER.CREATE.S.l",
                                  "{\"stream_name\":\"S\",\"config\":{\"name\":\"l\",\"deliver_"
                                  "policy\":\"last_per_subject\",\"filter_subject\":\"s.*\"}}");
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    const struct consumer *c = consumer_set_find(&s->consumers, BYTES_LITERAL("l"));
    cr_assert_null(c->latest);
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_REPLY);
    jsapi_end(&q);
    cr_assert_not_null(c->latest);
    cr_assert_eq(c->left, subject_index_total(&s->stream.subjects, BYTES_LITERAL(">")).keys);
}

/* Behind its record it would wait for memory, and the client for an answer. */
Test(jsapi_consumer, without_memory_for_the_last_of_each_subject_it_is_refused)
{
    char subject[16];
    open_stream("{\"name\":\"S\",\"subjects\":[\"s.*\"]}");
    for (int i = 0; i < 3000; i++) {
        snprintf(subject, sizeof subject, "s.%d", i);
        publish(subject);
    }
    r.heap.bytes_max = 20000;
    struct js_request q = request("$JS.API.CONSUMER.CREATE.S.l",
                                  "{\"stream_name\":\"S\",\"config\":{\"name\":\"l\",\"deliver_"
                                  "policy\":\"last_per_subject\",\"filter_subject\":\"s.*\"}}");
    cr_assert_eq(jsapi_run(&r.js, &q), JS_REPLY);
    cr_assert(q.is_error);
    jsapi_end(&q);
    r.heap.bytes_max = 0;
}

/* The pieces that a page of names took. */
static int names_page(uint32_t offset, uint32_t total, const char *first)
{
    char body[64], head[160];
    snprintf(body, sizeof body, "{\"offset\":%u}", offset);
    struct js_request q = request("$JS.API.CONSUMER.NAMES.S", body);
    enum js_step step = jsapi_run(&r.js, &q);
    int pieces = 1;
    for (; step == JS_MORE; pieces++) step = jsapi_stored(&r.js, &q, ERR_OK);
    cr_assert_eq(step, JS_REPLY);
    jsapi_end(&q);
    snprintf(head, sizeof head,
             TYPE("names") "\"total\":%u,\"offset\":%u,\"limit\":1024,\"consumers\":[\"%s\"", total,
             offset, first);
    struct bytes got = text_written(&r.out);
    cr_assert(bytes_starts_with(got, bytes_from_text(head)), "%.200s\n%s", got.data, head);
    return pieces;
}

/* Somebody else's consumers come and go meanwhile, and later. */
Test(jsapi_consumer, names_of_many_are_put_in_order_by_pieces_and_once)
{
    enum { COUNT = 3000, STRIDE = 1009 };
    struct consumer_set *set;
    struct consumer *c;
    char name[32];
    open_three();
    set = &js_find(&r.js, 0, BYTES_LITERAL("S"), false)->consumers;
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "c%04d", i * STRIDE % COUNT);
        struct consumer_config config = {.name = bytes_from_text(name)};
        cr_assert_eq(consumer_set_add(set, &config, 0, now_ns, (struct shard_time){1, now_ns}, &c),
                     ERR_OK);
    }
    uint32_t left = 700 * CONSUMER_SET_ORDER_COST;
    enum err e;
    cr_assert(consumer_set_order(set, &left, &e));
    cr_assert_eq(left, 0);
    cr_assert_eq(set->order->count, 700);
    consumer_set_drop(set, consumer_set_find(set, BYTES_LITERAL("c0000")));
    c = set->numbers[COUNT - 2];
    c->is_hidden = true;
    set->hidden_count++;
    cr_assert_eq(names_page(0, COUNT - 2, "c0001"),
                 (COUNT - 701) * CONSUMER_SET_ORDER_COST / SIEVE_STEP + 1);
    cr_assert_eq(names_page(2995, COUNT - 2, "c2997"), 1);
    consumer_set_show(set, c);
    cr_assert_eq(names_page(2995, COUNT - 1, "c2996"), 1);
    for (int i = 0; i < COUNT - 1; i++) { /* backwards, and all places are right */
        snprintf(name, sizeof name, "c%04d", COUNT - 1 - i);
        c = consumer_order_at(set->order, set->order->count - 1);
        cr_assert(bytes_equal(c->name, bytes_from_text(name)));
        consumer_set_drop(set, c);
    }
    cr_assert_eq(set->order->count, 0);
    cr_assert_eq(set->order->chunk_count, 0);
    consumer_set_order_done(set);
    cr_assert_null(set->order);
}

Test(jsapi_consumer, lists_come_in_order_of_names_and_in_pages)
{
    open_three();
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c2",
               "{\"stream_name\":\"S\",\"config\":{\"deliver_subject\":\"d\"}}");
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c1.s.1", C1_CREATE);
    expect("$JS.API.CONSUMER.NAMES.S", "",
           TYPE("names") "\"total\":2,\"offset\":0,\"limit\":1024,\"consumers\":[\"c1\",\"c2\"]}");
    expect("$JS.API.CONSUMER.NAMES.S", "{\"offset\":9}",
           TYPE("names") "\"total\":2,\"offset\":2,\"limit\":1024,\"consumers\":[]}");
    expect("$JS.API.CONSUMER.LIST.S", "{\"offset\":1}",
           TYPE("list") "\"total\":2,\"offset\":1,\"limit\":256,\"consumers\":[{\"stream_name\":"
                        "\"S\",\"name\":\"c2\",\"created\":" T ",\"config\":{\"name\":\"c2\","
                        "\"deliver_policy\":\"all\",\"ack_policy\":\"none\",\"max_deliver\":-1,"
                        "\"replay_policy\":\"instant\",\"deliver_subject\":\"d\","
                        "\"inactive_threshold\":5000000000,\"num_replicas\":0,\"metadata\":{"
                        "\"_nats.req.level\":\"0\"}}" STATE("0", "3") ",\"ts\":" T "}]}");
    expect("$JS.API.CONSUMER.NAMES.S", "{\"x\":1}",
           TYPE("names") ERROR(
               "400", "10025",
               "invalid JSON: json: unknown field \\\"x\\\"") ",\"total\":0,\"offset\":0,\"limit\":"
                                                              "0,\"consumers\":[]}");
}

Test(jsapi_consumer, refusals_are_those_of_nats_server)
{
    open_three();
    expect("$JS.API.CONSUMER.LIST.X", "",
           TYPE("list")
               ERROR("404", "10059",
                     "stream not found") ",\"total\":0,\"offset\":0,\"limit\":0,\"consumers\":[]}");
    expect("$JS.API.CONSUMER.PAUSE.S.y", "",
           TYPE("pause") ERROR(
               "404", "10014",
               "consumer not found") ",\"paused\":false,\"pause_until\":\"0001-01-01T00:00:00Z\"}");
    expect("$JS.API.CONSUMER.CREATE.S", "",
           TYPE("create")
               ERROR("400", "10056", "stream name in subject does not match request") "}");
    expect("$JS.API.CONSUMER.FOO", "",
           "{\"type\":\"io.nats.jetstream.api.v1.system_response\"," ERROR("400", "10003",
                                                                           "bad request") "}");
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c1.s.1", C1_CREATE);
    expect("$JS.API.CONSUMER.CREATE.S.c1.s.2",
           "{\"stream_name\":\"S\",\"action\":\"create\",\"config\":{\"filter_subject\":\"s.2\"}}",
           TYPE("create") ERROR("400", "10148", "consumer already exists") "}");
    expect("$JS.API.CONSUMER.RESET.S.c1", "x",
           TYPE("reset") ERROR("400", "10025",
                               "invalid JSON: invalid character 'x' looking for beginning of "
                               "value") ",\"reset_seq\":0}");
    expect("$JS.API.CONSUMER.RESET.S.c1", " ",
           TYPE("reset") ERROR("400", "10025",
                               "invalid JSON: unexpected end of JSON input") ",\"reset_seq\":0}");
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c5",
               "{\"stream_name\":\"S\",\"config\":{\"deliver_policy\":\"last\"}}");
    expect("$JS.API.CONSUMER.RESET.S.c5", "{\"seq\":2}",
           TYPE("reset") ERROR("400", "10204", "invalid reset: not allowed") ",\"reset_seq\":0}");
    struct js_request q = request("$JS.API.CONSUMER.RESET.S.nix", "");
    cr_assert_eq(jsapi_run(&r.js, &q), JS_SILENT);
    jsapi_end(&q);
}

Test(jsapi_consumer, nobody_sees_it_before_it_is_durable)
{
    open_three();
    struct js_request q = request("$JS.API.CONSUMER.CREATE.S.c1.s.1", C1_CREATE);
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    expect("$JS.API.CONSUMER.NAMES.S", "",
           TYPE("names") "\"total\":0,\"offset\":0,\"limit\":1024,\"consumers\":[]}");
    expect("$JS.API.CONSUMER.INFO.S.c1", "",
           TYPE("info") ERROR("404", "10014", "consumer not found") "}");
    text_clear(&r.out);
    /* A delete, and a twin, wait for it. */
    struct js_request twin = request("$JS.API.CONSUMER.CREATE.S.c1.s.1", C1_CREATE);
    struct js_request gone = request("$JS.API.CONSUMER.DELETE.S.c1", "");
    cr_assert_eq(jsapi_run(&r.js, &twin), JS_WAIT_STORED);
    cr_assert_eq(jsapi_run(&r.js, &gone), JS_WAIT_STORED);
    cr_assert_eq(twin.ticket, q.ticket);
    cr_assert_eq(gone.ticket, q.ticket);
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_REPLY);
    cr_assert_eq(q.action, JS_ACTION_CONSUMER_CREATED);
    cr_assert(bytes_equal(q.consumer_name, BYTES_LITERAL("c1")));
    cr_assert_eq(jsapi_stored(&r.js, &gone, ERR_OK), JS_WAIT_STORED);
    cr_assert_gt(gone.ticket, q.ticket);
    cr_assert_eq(jsapi_stored(&r.js, &twin, ERR_OK), JS_WAIT_STORED);
    cr_assert_eq(jsapi_stored(&r.js, &gone, ERR_OK), JS_REPLY);
    cr_assert_not(gone.is_error);
    cr_assert_eq(jsapi_stored(&r.js, &twin, ERR_OK), JS_WAIT_STORED); /* creates it anew */
    cr_assert_eq(jsapi_stored(&r.js, &twin, ERR_IO), JS_REPLY);
    cr_assert(twin.is_error);
    cr_assert_eq(r.closing, 1); /* what failed was never open */
    jsapi_end(&q);
    jsapi_end(&twin);
    jsapi_end(&gone);
}

Test(jsapi_consumer, what_it_sees_starts_where_its_record_lies)
{
    open_three();
    struct js_request q =
        request("$JS.API.CONSUMER.CREATE.S.n",
                "{\"stream_name\":\"S\",\"config\":{\"deliver_policy\":\"new\"}}");
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    char scratch[PUBLISH_SCRATCH_EXTRA + 256];
    struct stream_outcome o;
    struct store_stub stub;
    struct writer w;
    writer_init(&w, scratch, sizeof scratch);
    /* In flight before the consumer: durable with it. */
    publish_check(&s->stream, BYTES_LITERAL("s.9"), BYTES_LITERAL(""), BYTES_LITERAL("x"), now_ns,
                  &w, &o);
    cr_assert_eq(store_append(&r.file.store, &o.record, &stub), ERR_OK);
    stream_stage(&s->stream, &o, stub.ticket, stub.place);
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_REPLY);
    const struct consumer *c = consumer_set_find(&s->consumers, BYTES_LITERAL("n"));
    cr_assert_eq(s->stream.seq_last, 4);
    cr_assert_eq(c->next_seq, 5);
    cr_assert_eq(c->left, 0);
    jsapi_end(&q);
}

Test(jsapi_consumer, it_comes_back_from_its_records)
{
    open_three();
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c1.s.1", C1_CREATE);
    const struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    struct consumer *c = consumer_set_find(&s->consumers, BYTES_LITERAL("c1"));
    struct consumer_config config;
    struct arena arena;
    struct text body;
    arena_init(&arena, &r.heap.mem, MEM_JETSTREAM);
    text_init(&body, &r.heap.mem, MEM_JETSTREAM, 1 << 20);
    cr_assert_eq(consumer_config_of(c, &arena, &config), ERR_OK);
    cr_assert(js_config_record(&s->stream.config, s->stream.created_ns, &body));

    struct js again;
    js_init(&again, &r.heap.mem, &r.file.store, 5, 1 << 20);
    struct record record = {.kind = RECORD_STREAM, .stream = s->stream.id};
    record.subject = BYTES_LITERAL("$G S");
    record.body = text_written(&body);
    cr_assert_eq(js_replay(&again, 0, &record, 1), ERR_OK);
    record = (struct record){.kind = RECORD_CONSUMER, .stream = s->stream.id, .seq = c->number};
    text_clear(&body);
    record.subject = c->name;
    cr_assert(js_consumer_record(&config, c->created_ns, &body));
    record.body = text_written(&body);
    cr_assert_eq(js_replay(&again, 0, &record, 1), ERR_OK);
    const struct js_stream *t = js_find(&again, 0, BYTES_LITERAL("S"), false);
    const struct consumer *d = consumer_set_find(&t->consumers, BYTES_LITERAL("c1"));
    cr_assert_not_null(d);
    cr_assert_eq(t->stream.consumer_count, 1);
    cr_assert(
        bytes_equal(bytes_of(c->packed, c->packed_bytes), bytes_of(d->packed, d->packed_bytes)));
    cr_assert_eq(d->created_ns, now_ns);

    /* The record of its end failed, and another one was made with its name. */
    record.seq = c->number + 1;
    cr_assert_eq(js_replay(&again, 0, &record, 1), ERR_OK);
    cr_assert_eq(t->stream.consumer_count, 1);
    d = consumer_set_find(&t->consumers, BYTES_LITERAL("c1"));
    cr_assert_eq(d->number, record.seq);

    record.kind = RECORD_PROGRESS;
    text_clear(&body);
    c->delivered_cseq = c->floor_cseq = 1;
    c->delivered_seq = c->floor_seq = 2;
    consumer_encode(c, (struct shard_time){.mono_ns = 1}, false, &body);
    record.body = text_written(&body);
    cr_assert_eq(js_replay(&again, 0, &record, 1), ERR_OK);
    cr_assert_eq(d->floor_seq, 2);
    record.body = BYTES_LITERAL("\x07");
    cr_assert_eq(js_replay(&again, 0, &record, 1), ERR_CORRUPT);
    record.kind = RECORD_CONSUMER;
    record.subject = BYTES_LITERAL("a.b");
    record.body = BYTES_LITERAL("{}");
    record.seq = 77;
    cr_assert_eq(js_replay(&again, 0, &record, 1), ERR_CORRUPT);
    record.seq = d->number;
    record.kind = RECORD_CONSUMER_GONE;
    cr_assert_eq(js_replay(&again, 0, &record, 1), ERR_OK);
    cr_assert_eq(t->stream.consumer_count, 0);
    cr_assert_eq(js_replay(&again, 0, &record, 1), ERR_UNKNOWN);
    js_deinit(&again);
    text_deinit(&body);
    arena_deinit(&arena);
}

static struct consumer *named(const char *name)
{
    const struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    return consumer_set_find(&s->consumers, bytes_from_text(name));
}

static uint64_t live(void)
{
    return js_find(&r.js, 0, BYTES_LITERAL("S"), false)->stream.msgs.live_count;
}

Test(jsapi_consumer, an_interest_stream_keeps_what_somebody_waits_for)
{
    open_stream("{\"name\":\"S\",\"subjects\":[\"s.*\"],\"retention\":\"interest\"}");
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    publish("s.0");
    cr_assert_eq(live(), 0);
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.all",
               "{\"stream_name\":\"S\",\"config\":{\"ack_policy\":\"explicit\","
               "\"durable_name\":\"all\"}}");
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c1.s.1", C1_CREATE);
    publish("s.0");
    publish("s.1");
    cr_assert_eq(live(), 2);
    /* The first consumer takes both and settles them: one has to stay for the other. */
    struct consumer *c = named("all");
    struct text body;
    text_init(&body, &r.heap.mem, MEM_JETSTREAM, 1 << 20);
    c->delivered_cseq = c->floor_cseq = 2;
    c->delivered_seq = c->floor_seq = 3;
    c->next_seq = 4;
    consumer_encode(c, (struct shard_time){.mono_ns = 1}, false, &body);
    js_progress_stored(&r.js, s, c, text_written(&body), 0);
    text_deinit(&body);
    cr_assert_eq(live(), 1);
    (void)call(ERR_OK, "$JS.API.CONSUMER.DELETE.S.c1", "");
    cr_assert_eq(live(), 0);
}

Test(jsapi_consumer, what_a_deleted_one_alone_waited_for_goes_by_pieces)
{
    const uint64_t count = 3 * STREAM_PURGE_BATCH;
    open_stream("{\"name\":\"S\",\"subjects\":[\"s.*\"],\"retention\":\"interest\"}");
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c1.s.1", C1_CREATE);
    for (uint64_t i = 0; i < count; i++) publish("s.1");
    struct js_request q = request("$JS.API.CONSUMER.DELETE.S.c1", "");
    enum js_step step = jsapi_run(&r.js, &q);
    cr_assert_eq(step, JS_WAIT_STORED);
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_MORE);
    cr_assert_null(named("c1"));
    cr_assert_eq(live(), count - STREAM_PURGE_BATCH);
    /* Another one that is created now comes behind that. */
    struct js_request after = request("$JS.API.CONSUMER.CREATE.S.c1.s.1", C1_CREATE);
    cr_assert_eq(jsapi_run(&r.js, &after), JS_WAIT_STORED);
    cr_assert_eq(after.order, JS_ORDER_AGAIN);
    jsapi_end(&after);
    do step = jsapi_stored(&r.js, &q, ERR_OK);
    while (step == JS_MORE);
    cr_assert_eq(step, JS_REPLY);
    cr_assert_not(q.is_error);
    cr_assert_eq(q.action, JS_ACTION_CONSUMER_DELETED);
    jsapi_end(&q);
    cr_assert_eq(live(), 0);
    cr_assert_eq(s->stream.order_ticket, 0);
}

/* Runs it; its record is not durable yet. */
static struct js_request send_order(const char *subject, const char *body)
{
    struct js_request q = request(subject, body);
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    return q;
}

static void end_order(struct js_request *q)
{
    cr_assert_eq(jsapi_stored(&r.js, q, ERR_OK), JS_REPLY);
    cr_assert_not(q->is_error);
    jsapi_end(q);
}

static void open_interest(void)
{
    open_stream("{\"name\":\"S\",\"subjects\":[\"s.*\"],\"retention\":\"interest\"}");
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c1.s.1", C1_CREATE);
    for (int i = 0; i < 3; i++) publish("s.1");
}

#define C2_CREATE                                                                                  \
    "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"c2\",\"ack_policy\":\"explicit\"}}"

/* A start reads their records in this order: the newer one kept here what was gone there. */
Test(jsapi_consumer, who_is_created_behind_a_deletion_keeps_nothing_of_it)
{
    open_interest();
    struct js_request deletion = send_order("$JS.API.CONSUMER.DELETE.S.c1", "");
    struct js_request creation = send_order("$JS.API.CONSUMER.CREATE.S.c2", C2_CREATE);
    end_order(&deletion);
    cr_assert_eq(live(), 0);
    end_order(&creation);
    cr_assert_eq(named("c2")->next_seq, 4);
}

/* It would stay for good: when the consumer goes, it is in flight. */
Test(jsapi_consumer, what_is_published_behind_a_deletion_is_not_kept_for_it)
{
    open_interest();
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    struct js_request deletion = send_order("$JS.API.CONSUMER.DELETE.S.c1", "");
    uint64_t ticket = send_message("s.1");
    end_order(&deletion);
    cr_assert_eq(stream_settle(&s->stream, ticket), ERR_OK);
    cr_assert_eq(live(), 0);
    cr_assert_eq(s->stream.seq_last, 4);
}

Test(jsapi_consumer, behind_a_deletion_that_failed_it_is_wanted_again)
{
    open_interest();
    (void)call(ERR_IO, "$JS.API.CONSUMER.DELETE.S.c1", "");
    publish("s.1");
    cr_assert_eq(live(), 4);
}

/* What was in flight before the deletion finds no memory, so that waits, and what lies behind it in
 * the log has happened by then. */
Test(jsapi_consumer, a_deletion_that_waited_for_memory_takes_nothing_from_who_came_behind_it)
{
    const uint64_t count = 8; /* as many have room */
    open_interest();
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    while (live() < count) publish("s.1");
    (void)send_message("s.1");
    struct js_request deletion = send_order("$JS.API.CONSUMER.DELETE.S.c1", "");
    struct js_request creation = send_order("$JS.API.CONSUMER.CREATE.S.c2", C2_CREATE);
    uint64_t ticket = send_message("s.2");
    r.heap.fail_at = r.heap.alloc_count + 1;
    r.heap.fail_from = 1;
    cr_assert_eq(jsapi_stored(&r.js, &deletion, ERR_OK), JS_WAIT_STORED);
    r.heap.fail_at = 0;
    end_order(&creation);
    cr_assert_eq(stream_settle(&s->stream, ticket), ERR_OK);
    end_order(&deletion);
    cr_assert(msgs_has(&s->stream.msgs, count + 2));
    cr_assert_eq(live(), 1);
}

static const char *c2_of(const char *filter)
{
    static char body[256];
    snprintf(body, sizeof body,
             "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"c2\",\"ack_policy\":"
             "\"explicit\",\"filter_subject\":\"%s\"}}",
             filter);
    return body;
}

/* As at a start, where all of it has gone before the filters are others. */
Test(jsapi_consumer, who_gets_other_filters_behind_a_deletion_keeps_nothing_of_it)
{
    open_interest();
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c2.s.2", c2_of("s.2"));
    while (live() < 3 * STREAM_PURGE_BATCH) publish("s.1");
    struct js_request deletion = send_order("$JS.API.CONSUMER.DELETE.S.c1", "");
    struct js_request update = send_order("$JS.API.CONSUMER.CREATE.S.c2.s.1", c2_of("s.1"));
    cr_assert_eq(jsapi_stored(&r.js, &deletion, ERR_OK), JS_MORE);
    enum js_step step = jsapi_stored(&r.js, &update, ERR_OK);
    while (jsapi_stored(&r.js, &deletion, ERR_OK) == JS_MORE) continue;
    jsapi_end(&deletion);
    cr_assert_eq(live(), 0);
    if (step != JS_REPLY) step = jsapi_stored(&r.js, &update, ERR_OK);
    cr_assert_eq(step, JS_REPLY);
    jsapi_end(&update);
    cr_assert_eq(s->stream.order_ticket, 0);
}

/* And what was published behind the order is not looked at: a start does not, either. */
Test(jsapi_consumer, what_only_the_earlier_filters_wanted_goes_by_pieces)
{
    open_interest();
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c2.s.2", c2_of("s.2"));
    while (live() < 3 * STREAM_PURGE_BATCH) publish("s.2");
    struct js_request update = send_order("$JS.API.CONSUMER.CREATE.S.c2.s.1", c2_of("s.1"));
    publish("s.2");
    cr_assert_eq(jsapi_stored(&r.js, &update, ERR_OK), JS_MORE);
    cr_assert_neq(s->stream.order_ticket, 0);
    while (jsapi_stored(&r.js, &update, ERR_OK) == JS_MORE) continue;
    cr_assert_eq(live(), 3 + 1);
    cr_assert_eq(s->stream.order_ticket, 0);
    cr_assert_eq(named("c2")->order_ticket, 0);
    jsapi_end(&update);
}

/* A start changes its filters first, and keeps what they select. */
Test(jsapi_consumer, who_gets_other_filters_before_an_inactive_one_ends_keeps_what_it_wants)
{
    open_interest();
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c2.s.2", c2_of("s.2"));
    struct js_request update = send_order("$JS.API.CONSUMER.CREATE.S.c2.s.1", c2_of("s.1"));
    uint64_t ticket;
    cr_assert_eq(js_consumer_delete(&r.js, s, named("c1"), now_ns, &ticket), ERR_BUSY);
    end_order(&update);
    cr_assert_eq(js_consumer_delete(&r.js, s, named("c1"), now_ns, &ticket), ERR_OK);
    cr_assert_eq(live(), 3);
}

Test(jsapi_consumer, who_is_created_before_a_deletion_keeps_what_it_wants)
{
    open_interest();
    struct js_request creation = send_order("$JS.API.CONSUMER.CREATE.S.c2", C2_CREATE);
    struct js_request deletion = send_order("$JS.API.CONSUMER.DELETE.S.c1", "");
    end_order(&creation);
    end_order(&deletion);
    cr_assert_eq(live(), 3);
    cr_assert_eq(named("c2")->next_seq, 1);
}

Test(jsapi_consumer, who_is_created_behind_a_reset_keeps_nothing_of_what_it_passed_over)
{
    open_interest();
    struct js_request reset = send_order("$JS.API.CONSUMER.RESET.S.c1", "{\"seq\":3}");
    struct js_request creation = send_order("$JS.API.CONSUMER.CREATE.S.c2", C2_CREATE);
    end_order(&reset);
    cr_assert_eq(live(), 1);
    end_order(&creation);
    cr_assert_eq(named("c2")->next_seq, 3);
}

/* c1 takes all three and settles them; the body of its record. */
static struct bytes settle_three(struct text *body)
{
    struct consumer *c = named("c1");
    text_init(body, &r.heap.mem, MEM_JETSTREAM, 1 << 20);
    c->delivered_cseq = c->floor_cseq = 3;
    c->delivered_seq = c->floor_seq = 3;
    c->next_seq = 4;
    consumer_encode(c, (struct shard_time){.mono_ns = 1}, false, body);
    return text_written(body);
}

Test(jsapi_consumer, who_is_created_behind_acks_keeps_nothing_that_they_settled)
{
    struct text body;
    open_interest();
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    struct bytes record = settle_three(&body);
    uint64_t ticket = r.file.ticket; /* as if the record had it */
    struct js_request creation = send_order("$JS.API.CONSUMER.CREATE.S.c2", C2_CREATE);
    js_progress_stored(&r.js, s, named("c1"), record, ticket);
    cr_assert_eq(live(), 0);
    end_order(&creation);
    cr_assert_eq(named("c2")->next_seq, 4);
    text_deinit(&body);
}

static void expect_settled_three(void)
{
    const struct consumer *c = named("c1");
    cr_assert_eq(c->next_seq, 4);
    cr_assert_eq(c->delivered_seq, 3);
    cr_assert_eq(c->floor_cseq, 3);
    cr_assert_eq(c->order_ticket, 0);
}

static enum err refuse(struct store *s, const struct record *record, struct store_stub *out)
{
    return ERR_FULL;
}

Test(jsapi_consumer, a_reset_that_is_refused_has_not_happened)
{
    struct text body;
    open_interest();
    (void)settle_three(&body);
    text_deinit(&body);
    struct js_request reset = request("$JS.API.CONSUMER.RESET.S.c1", "{\"seq\":1}");
    const struct store_ops *ops = r.file.store.ops, refusing = {.append = refuse};
    r.file.store.ops = &refusing;
    cr_assert_eq(jsapi_run(&r.js, &reset), JS_REPLY);
    cr_assert(reset.is_error);
    jsapi_end(&reset);
    r.file.store.ops = ops;
    expect_settled_three();
    cr_assert_not(consumer_is_unsaved(named("c1")));
}

Test(jsapi_consumer, a_reset_whose_record_fails_has_not_happened)
{
    struct text body;
    open_interest();
    (void)settle_three(&body);
    text_deinit(&body);
    struct js_request reset = send_order("$JS.API.CONSUMER.RESET.S.c1", "{\"seq\":1}");
    cr_assert_eq(named("c1")->next_seq, 1);
    cr_assert_eq(jsapi_stored(&r.js, &reset, ERR_IO), JS_REPLY);
    cr_assert(reset.is_error);
    jsapi_end(&reset);
    expect_settled_three();
    cr_assert(consumer_is_unsaved(named("c1")));
}

/* A start reads their records behind that of the reset, which drops nothing of them. */
Test(jsapi_consumer, what_is_published_behind_a_reset_stays_however_far_it_goes)
{
    open_interest();
    struct js_request reset = send_order("$JS.API.CONSUMER.RESET.S.c1", "{\"seq\":1000}");
    publish("s.1");
    publish("s.1");
    end_order(&reset);
    cr_assert_eq(live(), 2);
    cr_assert_eq(named("c1")->next_seq, 1000);
}

/* It changes the consumer at once, and would take back what the deletion drops at a start. */
Test(jsapi_consumer, a_reset_waits_for_the_deletion_of_another_one)
{
    struct text body;
    open_interest();
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c2", C2_CREATE);
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    js_progress_stored(&r.js, s, named("c1"), settle_three(&body), 0);
    text_deinit(&body);
    cr_assert_eq(live(), 3);
    struct js_request deletion = send_order("$JS.API.CONSUMER.DELETE.S.c2", "");
    struct js_request reset = send_order("$JS.API.CONSUMER.RESET.S.c1", "{\"seq\":1}");
    cr_assert_eq(reset.order, JS_ORDER_AGAIN);
    cr_assert_eq(reset.ticket, deletion.ticket);
    end_order(&deletion);
    cr_assert_eq(live(), 0);
    cr_assert_eq(jsapi_stored(&r.js, &reset, ERR_OK), JS_WAIT_STORED);
    end_order(&reset);
    cr_assert_eq(named("c1")->next_seq, 1);
}

/* Nothing happened since it was there: a look at each message would take a second of the shard for
 * ten million. This one, which nobody wants, such a look would take away. */
Test(jsapi_consumer, one_whose_creation_the_log_refuses_goes_without_a_look_at_the_stream)
{
    open_interest();
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    struct record record = {.kind = RECORD_MESSAGE, .seq = 4, .time_ns = now_ns};
    record.subject = BYTES_LITERAL("s.2");
    cr_assert_eq(stream_replay(&s->stream, &record, 4), ERR_OK);
    const struct store_ops *ops = r.file.store.ops, refusing = {.append = refuse};
    r.file.store.ops = &refusing;
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c2", C2_CREATE);
    r.file.store.ops = ops;
    cr_assert_null(named("c2"));
    cr_assert_eq(live(), 4);
}

/* What others settled meanwhile stayed for it. */
Test(jsapi_consumer, what_one_alone_wanted_whose_record_failed_goes_by_pieces)
{
    const uint64_t count = 3 * STREAM_PURGE_BATCH;
    open_interest();
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    while (live() < count) publish("s.1");
    struct js_request creation = send_order("$JS.API.CONSUMER.CREATE.S.c2", C2_CREATE);
    struct js_request deletion = send_order("$JS.API.CONSUMER.DELETE.S.c1", "");
    while (jsapi_stored(&r.js, &deletion, ERR_OK) == JS_MORE) continue;
    jsapi_end(&deletion);
    cr_assert_eq(live(), count);
    cr_assert_eq(jsapi_stored(&r.js, &creation, ERR_IO), JS_MORE);
    cr_assert_null(named("c2"));
    cr_assert_eq(live(), count - STREAM_PURGE_BATCH);
    cr_assert_neq(s->stream.order_ticket, 0);
    enum js_step step;
    while ((step = jsapi_stored(&r.js, &creation, ERR_OK)) == JS_MORE) continue;
    cr_assert_eq(step, JS_REPLY);
    cr_assert(creation.is_error);
    jsapi_end(&creation);
    cr_assert_eq(live(), 0);
    cr_assert_eq(s->stream.order_ticket, 0);
}

static void expect_place_behind_deletion(void)
{
    struct bytes no = call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c2", C2_CREATE);
    cr_assert(bytes_starts_with(no, BYTES_LITERAL("{\"type\":\"io.nats.jetstream.api.v1."
                                                  "consumer_create_response\",\"error\":")));
    struct js_request deletion = send_order("$JS.API.CONSUMER.DELETE.S.c1", "");
    struct js_request creation = send_order("$JS.API.CONSUMER.CREATE.S.c2", C2_CREATE);
    cr_assert_eq(creation.order, JS_ORDER_AGAIN);
    cr_assert_eq(creation.ticket, deletion.ticket);
    end_order(&deletion);
    cr_assert_eq(jsapi_stored(&r.js, &creation, ERR_OK), JS_WAIT_STORED);
    end_order(&creation);
}

Test(jsapi_consumer, the_place_of_a_deleted_one_is_free_for_who_comes_right_behind)
{
    open_stream("{\"name\":\"S\",\"subjects\":[\"s.*\"],\"max_consumers\":1}");
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c1.s.1", C1_CREATE);
    expect_place_behind_deletion();
}

Test(jsapi_consumer, what_a_deleted_one_had_of_a_work_queue_is_free_for_who_comes_right_behind)
{
    open_stream("{\"name\":\"S\",\"subjects\":[\"s.*\"],\"retention\":\"workqueue\"}");
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c1.s.1", C1_CREATE);
    expect_place_behind_deletion();
}

#define CREATE_OF(name, filter)                                                                    \
    "$JS.API.CONSUMER.CREATE.S." name "." filter,                                                  \
        "{\"stream_name\":\"S\",\"config\":{"                                                      \
        "\"durable_name\":\"" name "\",\"filter_subject\":\"" filter                               \
        "\",\"ack_policy\":\"explicit\"}}"

Test(jsapi_consumer, a_change_in_flight_of_what_one_has_of_a_work_queue_is_waited_for)
{
    open_stream("{\"name\":\"S\",\"subjects\":[\"s.*\"],\"retention\":\"workqueue\"}");
    (void)call(ERR_OK, CREATE_OF("c1", "s.1"));
    struct js_request change = send_order(CREATE_OF("c1", "s.2"));
    struct js_request same = send_order(CREATE_OF("c2", "s.2"));
    struct js_request other = send_order(CREATE_OF("c3", "s.1"));
    cr_assert_eq(same.ticket, change.ticket);
    end_order(&change);
    cr_assert_eq(jsapi_stored(&r.js, &same, ERR_OK), JS_REPLY);
    cr_assert(same.is_error, "both would get the same messages");
    jsapi_end(&same);
    cr_assert_eq(jsapi_stored(&r.js, &other, ERR_OK), JS_WAIT_STORED);
    end_order(&other);
    cr_assert_not_null(named("c3"));
}

Test(jsapi_consumer, behind_a_change_that_failed_what_it_was_to_have_is_free)
{
    open_stream("{\"name\":\"S\",\"subjects\":[\"s.*\"],\"retention\":\"workqueue\"}");
    (void)call(ERR_OK, CREATE_OF("c1", "s.1"));
    (void)call(ERR_IO, CREATE_OF("c1", "s.2"));
    (void)call(ERR_OK, CREATE_OF("c2", "s.2"));
    cr_assert_not_null(named("c2"));
}

Test(jsapi_consumer, a_deletion_that_fails_leaves_the_place_taken)
{
    open_stream("{\"name\":\"S\",\"subjects\":[\"s.*\"],\"max_consumers\":1}");
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c1.s.1", C1_CREATE);
    (void)call(ERR_IO, "$JS.API.CONSUMER.DELETE.S.c1", "");
    struct js_request creation = request("$JS.API.CONSUMER.CREATE.S.c2", C2_CREATE);
    cr_assert_eq(jsapi_run(&r.js, &creation), JS_REPLY);
    cr_assert(creation.is_error);
    jsapi_end(&creation);
}

Test(jsapi_consumer, an_inactive_one_goes_with_a_record_of_it)
{
    open_three();
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c1.s.1", C1_CREATE);
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    uint64_t before = r.file.ticket, ticket = 0;
    cr_assert_eq(js_consumer_delete(&r.js, s, named("c1"), now_ns, &ticket), ERR_OK);
    cr_assert_eq(ticket, before + 1);
    cr_assert_null(named("c1"));
    cr_assert_eq(r.closing, 1);
    cr_assert_eq(s->stream.consumer_count, 0);
}

Test(jsapi_consumer, what_an_inactive_one_alone_wanted_goes_by_pieces)
{
    open_interest();
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    for (int i = 0; i < 3 * STREAM_PURGE_BATCH; i++) publish("s.1");
    uint64_t before = live(), ticket = 0;
    cr_assert_gt(before, 3 * STREAM_PURGE_BATCH);
    cr_assert_eq(js_consumer_delete(&r.js, s, named("c1"), now_ns, &ticket), ERR_OK);
    cr_assert_eq(live(), before - STREAM_PURGE_BATCH);
    cr_assert(js_is_rolling(&r.js));
    cr_assert_not(js_may_delete(s)); /* another one waits its turn */
    /* Who comes to be interested meanwhile waits, and finds nothing. */
    struct js_request creation = send_order("$JS.API.CONSUMER.CREATE.S.c2", C2_CREATE);
    cr_assert_eq(creation.order, JS_ORDER_AGAIN);
    cr_assert_eq(creation.ticket, STREAM_TICKET_FIRST);
    /* Nor does a record that fails meanwhile let anybody in, be it the one of its end. */
    stream_unstage(&s->stream, ticket);
    cr_assert_eq(jsapi_stored(&r.js, &creation, ERR_OK), JS_WAIT_STORED);
    cr_assert_eq(creation.order, JS_ORDER_AGAIN);
    while (js_is_rolling(&r.js)) {
        before = live();
        js_roll(&r.js);
        cr_assert_leq(before - live(), STREAM_PURGE_BATCH);
    }
    cr_assert_eq(live(), 0);
    cr_assert_eq(s->stream.order_ticket, 0);
    cr_assert_eq(jsapi_stored(&r.js, &creation, ERR_OK), JS_WAIT_STORED);
    end_order(&creation);
    cr_assert_not_null(named("c2"));
}

/* Its record lies behind what was in flight, so a start lets that go as well. */
Test(jsapi_consumer, what_was_in_flight_goes_with_the_inactive_one_that_alone_wanted_it)
{
    open_interest();
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    uint64_t before = send_message("s.1"), ticket = 1;
    cr_assert_eq(js_consumer_delete(&r.js, s, named("c1"), now_ns, &ticket), ERR_OK);
    cr_assert_eq(ticket, 0);
    cr_assert_not_null(named("c1"));
    cr_assert_not(js_is_rolling(&r.js)); /* the shard sleeps until something is stored */
    js_roll(&r.js);
    cr_assert_neq(s->stream.order_ticket, 0);
    cr_assert_eq(stream_settle(&s->stream, before), ERR_OK);
    while (js_is_rolling(&r.js)) js_roll(&r.js);
    cr_assert_gt(r.file.ticket, before);
    cr_assert_null(named("c1"));
    cr_assert_eq(live(), 0);
    cr_assert_eq(s->stream.order_ticket, 0);
}

/* Whose end holds the stream the ticket alone does not say: the first one of a process means "no
 * record" elsewhere. */
Test(jsapi_consumer, a_deletion_does_not_end_what_another_end_holds)
{
    open_interest();
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    for (int i = 0; i < 3 * STREAM_PURGE_BATCH; i++) publish("s.1");
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c2", C2_CREATE);
    r.file.ticket = 0;
    struct js_request deletion = send_order("$JS.API.CONSUMER.DELETE.S.c2", "");
    cr_assert_eq(deletion.ticket, STREAM_TICKET_FIRST);
    uint64_t ticket;
    cr_assert_eq(js_consumer_delete(&r.js, s, named("c1"), now_ns, &ticket), ERR_OK);
    cr_assert(js_is_rolling(&r.js));
    enum js_step step;
    while ((step = jsapi_stored(&r.js, &deletion, ERR_OK)) == JS_MORE) continue;
    cr_assert_eq(step, JS_REPLY);
    jsapi_end(&deletion);
    cr_assert(js_is_rolling(&r.js));
    cr_assert_neq(s->stream.order_ticket, 0);
    while (js_is_rolling(&r.js)) js_roll(&r.js);
    cr_assert_eq(s->stream.order_ticket, 0);
}

Test(jsapi_consumer, a_purge_moves_consumers_on)
{
    open_three();
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c1.s.1", C1_CREATE);
    (void)call(ERR_OK, "$JS.API.STREAM.PURGE.S", "");
    expect("$JS.API.CONSUMER.INFO.S.c1", "", TYPE("info") C1 STATE("3", "0") ",\"ts\":" T "}");
}

Test(jsapi_consumer, a_purge_of_its_filter_moves_it_to_what_is_left)
{
    open_three();
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c1.s.1", C1_CREATE);
    publish("s.1"); /* 4 */
    publish("s.2");
    (void)call(ERR_OK, "$JS.API.STREAM.PURGE.S", "{\"filter\":\"s.1\",\"keep\":1}");
    expect("$JS.API.CONSUMER.INFO.S.c1", "", TYPE("info") C1 STATE("3", "1") ",\"ts\":" T "}");
    (void)call(ERR_OK, "$JS.API.STREAM.PURGE.S", "{\"filter\":\"s.1\"}");
    expect("$JS.API.CONSUMER.INFO.S.c1", "", TYPE("info") C1 STATE("5", "0") ",\"ts\":" T "}");
}

/* Its tickets are no file's, and nobody would tell of them. */
Test(jsapi_consumer, a_reset_in_memory_waits_for_nothing)
{
    open_stream("{\"name\":\"S\",\"subjects\":[\"s.*\"],\"retention\":\"workqueue\","
                "\"storage\":\"memory\"}");
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c1.s.1", C1_CREATE);
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    uint64_t ticket = send_message("s.1"); /* it found no memory yet */
    struct js_request reset = request("$JS.API.CONSUMER.RESET.S.c1", "");
    cr_assert_eq(jsapi_run(&r.js, &reset), JS_REPLY);
    cr_assert_not(reset.is_error);
    jsapi_end(&reset);
    cr_assert_eq(s->stream.order_ticket, 0);
    cr_assert_eq(stream_settle(&s->stream, ticket), ERR_OK);
}

/* c1 alone wants all but what c2 gets next. */
static struct js_request delete_by_pieces(void)
{
    open_interest();
    while (live() < 3 * STREAM_PURGE_BATCH) publish("s.1");
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c2", C2_CREATE);
    char body[64];
    snprintf(body, sizeof body, "{\"seq\":%d}", 3 * STREAM_PURGE_BATCH + 1);
    struct js_request reset = send_order("$JS.API.CONSUMER.RESET.S.c2", body);
    while (jsapi_stored(&r.js, &reset, ERR_OK) == JS_MORE) continue;
    jsapi_end(&reset);
    cr_assert_eq(live(), 3 * STREAM_PURGE_BATCH);
    return send_order("$JS.API.CONSUMER.DELETE.S.c1", "");
}

static void end_by_pieces(struct js_request *deletion)
{
    while (jsapi_stored(&r.js, deletion, ERR_OK) == JS_MORE) continue;
    jsapi_end(deletion);
}

/* To its reply, which is no error; only records are waited for. */
static void end_waiting(struct js_request *q)
{
    enum js_step step;
    while ((step = jsapi_stored(&r.js, q, ERR_OK)) != JS_REPLY) cr_assert_eq(step, JS_WAIT_STORED);
    cr_assert_not(q->is_error);
    jsapi_end(q);
}

/* At a start all of it is gone before. */
Test(jsapi_consumer, who_is_reset_behind_a_deletion_keeps_nothing_of_it)
{
    struct js_request deletion = delete_by_pieces();
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    (void)send_message("s.2");
    struct js_request reset = send_order("$JS.API.CONSUMER.RESET.S.c2", "{\"seq\":1}");
    cr_assert_eq(jsapi_stored(&r.js, &deletion, ERR_OK), JS_MORE);
    cr_assert_eq(jsapi_stored(&r.js, &reset, ERR_OK), JS_WAIT_STORED);
    end_by_pieces(&deletion);
    end_waiting(&reset);
    cr_assert_eq(live(), 1);
    cr_assert_eq(s->stream.order_ticket, 0);
}

/* The other order is over before the deletion is. */
Test(jsapi_consumer, what_a_deletion_lets_go_is_left_alone_behind_another_order)
{
    struct js_request deletion = delete_by_pieces();
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    struct js_request erasure = send_order("$JS.API.STREAM.MSG.DELETE.S", "{\"seq\":1}");
    struct js_request reset = send_order("$JS.API.CONSUMER.RESET.S.c2", "{\"seq\":1}");
    r.js.told_ticket = deletion.ticket;
    cr_assert_eq(jsapi_stored(&r.js, &deletion, ERR_OK), JS_MORE);
    text_clear(&r.out);
    cr_assert_eq(checkpoint_write(&r.js, s->stream.id, &r.out), ERR_BUSY);
    cr_assert_eq(jsapi_stored(&r.js, &erasure, ERR_OK), JS_REPLY);
    jsapi_end(&erasure);
    text_clear(&r.out);
    cr_assert_eq(checkpoint_write(&r.js, s->stream.id, &r.out), ERR_BUSY);
    cr_assert_eq(jsapi_stored(&r.js, &reset, ERR_OK), JS_WAIT_STORED);
    end_by_pieces(&deletion);
    end_waiting(&reset);
    cr_assert_eq(live(), 0);
    cr_assert_eq(s->stream.order_ticket, 0);
}

/* In the log it comes behind all that the deletion lets go, and there is room. */
Test(jsapi_consumer, what_is_published_behind_a_deletion_takes_the_place_of_nothing_wanted)
{
    const uint64_t wanted = STREAM_PURGE_BATCH + 10;
    open_stream("{\"name\":\"S\",\"subjects\":[\"s.*\"],\"retention\":\"interest\","
                "\"max_msgs\":3000}");
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c1.s.1", C1_CREATE);
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c2.s.2", c2_of("s.2"));
    while (live() < wanted) publish("s.2");
    while (live() < 3000) publish("s.1");
    struct js_request deletion = send_order("$JS.API.CONSUMER.DELETE.S.c1", "");
    uint64_t ticket = send_message("s.2");
    cr_assert_eq(jsapi_stored(&r.js, &deletion, ERR_OK), JS_MORE);
    enum err e = stream_settle(&s->stream, ticket);
    cr_assert(msgs_has(&s->stream.msgs, 1));
    end_by_pieces(&deletion);
    if (e != ERR_OK) e = stream_settle(&s->stream, ticket);
    cr_assert_eq(e, ERR_OK);
    cr_assert_eq(live(), wanted + 1);
}

/* What is looked through for what goes is not looked through again for each piece that is counted.
 */
Test(jsapi_consumer, what_is_counted_by_pieces_behind_a_change_of_filters_takes_no_more_looks)
{
    const uint64_t count = 4 * STREAM_PURGE_BATCH;
    open_interest();
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c2",
               "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"c2\",\"ack_policy\":"
               "\"explicit\",\"deliver_policy\":\"new\",\"filter_subjects\":[\"s.3\",\"s.2\"]}}");
    publish("s.3");
    while (live() < count) publish("s.1");
    struct js_request update = send_order(
        "$JS.API.CONSUMER.CREATE.S.c2",
        "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"c2\",\"ack_policy\":"
        "\"explicit\",\"deliver_policy\":\"new\",\"filter_subjects\":[\"s.3\",\"s.4\"]}}");
    uint64_t steps = 0;
    cr_assert_eq(jsapi_stored(&r.js, &update, ERR_OK), JS_MORE);
    r.heap.fail_at = r.heap.alloc_count + 1; /* it counts few at a time */
    r.heap.fail_from = 1;
    while (named("c2")->counted_to < count - 512) {
        cr_assert_eq(jsapi_stored(&r.js, &update, ERR_OK), JS_MORE);
        steps++;
    }
    r.heap.fail_at = 0;
    while (jsapi_stored(&r.js, &update, ERR_OK) == JS_MORE) steps++;
    jsapi_end(&update);
    cr_assert_leq(steps, count / 128, "%d steps", (int)steps);
}

/* Who was told that it is stored finds it. */
Test(jsapi_consumer, what_is_published_behind_a_deletion_is_there_where_no_limit_takes_anything)
{
    const uint64_t count = 3 * STREAM_PURGE_BATCH;
    open_stream("{\"name\":\"S\",\"subjects\":[\"s.*\"],\"retention\":\"interest\","
                "\"max_msgs\":4000,\"max_bytes\":1000000,\"max_msgs_per_subject\":4000}");
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c1.s.1", C1_CREATE);
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c2.s.2", c2_of("s.2"));
    while (live() < count) publish("s.1");
    struct js_request deletion = send_order("$JS.API.CONSUMER.DELETE.S.c1", "");
    uint64_t ticket = send_message("s.2");
    cr_assert_eq(jsapi_stored(&r.js, &deletion, ERR_OK), JS_MORE);
    cr_assert_eq(stream_settle(&s->stream, ticket), ERR_OK);
    cr_assert(msgs_has(&s->stream.msgs, count + 1));
    end_by_pieces(&deletion);
    cr_assert_eq(live(), 1);
}

/* The same with two messages of a subject, of which one is still to go. */
Test(jsapi_consumer, what_a_limit_per_subject_takes_behind_a_deletion_is_taken_when_that_is_over)
{
    const uint64_t others = 2 * STREAM_PURGE_BATCH;
    open_stream("{\"name\":\"S\",\"subjects\":[\"s.*\"],\"retention\":\"interest\","
                "\"max_msgs_per_subject\":2}");
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c1",
               "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"c1\",\"ack_policy\":"
               "\"explicit\"}}");
    publish("s.2");
    for (uint64_t i = 0; i < others; i++) {
        char subject[32];
        snprintf(subject, sizeof subject, "s.n%d", (int)i);
        publish(subject);
    }
    publish("s.2");
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c2.s.2", c2_of("s.2"));
    struct js_request deletion = send_order("$JS.API.CONSUMER.DELETE.S.c1", "");
    uint64_t ticket = send_message("s.2");
    cr_assert_eq(jsapi_stored(&r.js, &deletion, ERR_OK), JS_MORE);
    cr_assert_eq(stream_settle(&s->stream, ticket), ERR_BUSY);
    end_by_pieces(&deletion);
    cr_assert_eq(stream_settle(&s->stream, ticket), ERR_OK);
    cr_assert_eq(live(), 2);
}

/* In the log the one that is deleted last still wants it when the first one's goes, and then the
 * new one does. */
Test(jsapi_consumer, what_is_wanted_by_one_that_is_deleted_behind_a_deletion_is_let_be_by_that)
{
    const uint64_t count = 3 * STREAM_PURGE_BATCH;
    open_interest();
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c3.s.2",
               "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"c3\",\"ack_policy\":"
               "\"explicit\",\"filter_subject\":\"s.2\"}}");
    while (live() < count) publish("s.1");
    publish("s.2");
    struct js_request deletion = send_order("$JS.API.CONSUMER.DELETE.S.c1", "");
    struct js_request creation = send_order("$JS.API.CONSUMER.CREATE.S.c2", C2_CREATE);
    struct js_request other = send_order("$JS.API.CONSUMER.DELETE.S.c3", "");
    cr_assert_eq(jsapi_stored(&r.js, &deletion, ERR_OK), JS_MORE);
    enum js_step created = jsapi_stored(&r.js, &creation, ERR_OK);
    enum js_step deleted = jsapi_stored(&r.js, &other, ERR_OK);
    cr_assert_not(js_may_delete(s)); /* nor does one end by itself */
    end_by_pieces(&deletion);
    cr_assert(msgs_has(&s->stream.msgs, count + 1), "steps %d %d", (int)created, (int)deleted);
    end_order(&creation);
    end_order(&other);
    cr_assert_eq(live(), 1);
    cr_assert_eq(named("c2")->next_seq, count + 1);
    cr_assert_eq(s->stream.order_ticket, 0);
}

Test(jsapi_consumer, who_ends_behind_publishes_ends_behind_a_deletion_by_pieces_too)
{
    const uint64_t count = 3 * STREAM_PURGE_BATCH;
    open_interest();
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    (void)call(ERR_OK, "$JS.API.CONSUMER.CREATE.S.c2.s.2", c2_of("s.2"));
    while (live() < count) publish("s.1");
    publish("s.2");
    struct js_request deletion = send_order("$JS.API.CONSUMER.DELETE.S.c1", "");
    uint64_t flight = send_message("s.2"), ticket;
    cr_assert_eq(js_consumer_delete(&r.js, s, named("c2"), now_ns, &ticket), ERR_OK);
    cr_assert_eq(jsapi_stored(&r.js, &deletion, ERR_OK), JS_MORE);
    cr_assert_eq(stream_settle(&s->stream, flight), ERR_OK);
    cr_assert_not(js_is_rolling(&r.js));
    js_roll(&r.js);
    cr_assert_not_null(named("c2"));
    end_by_pieces(&deletion);
    cr_assert_eq(live(), 2);
    while (js_is_rolling(&r.js)) js_roll(&r.js);
    cr_assert_null(named("c2"));
    cr_assert_eq(live(), 0);
    cr_assert_eq(s->stream.order_ticket, 0);
}

#define C3_CREATE(policy)                                                                          \
    "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"c3\",\"ack_policy\":\"explicit\","      \
    "\"deliver_policy\":\"" policy "\"}}"

/* At a start it does: it would stay for good, since no record settles it. */
Test(jsapi_consumer, a_new_one_gets_what_is_published_behind_it_while_a_deletion_goes_by_pieces)
{
    struct js_request deletion = delete_by_pieces();
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    struct js_request creation = send_order("$JS.API.CONSUMER.CREATE.S.c3", C3_CREATE("new"));
    uint64_t ticket = send_message("s.2");
    cr_assert_eq(jsapi_stored(&r.js, &deletion, ERR_OK), JS_MORE);
    cr_assert_eq(jsapi_stored(&r.js, &creation, ERR_OK), JS_REPLY);
    jsapi_end(&creation);
    cr_assert_eq(stream_settle(&s->stream, ticket), ERR_OK);
    end_by_pieces(&deletion);
    cr_assert_eq(named("c3")->next_seq, 3 * STREAM_PURGE_BATCH + 1);
}

Test(jsapi_consumer, the_last_one_behind_a_deletion_by_pieces_is_that_of_the_creation)
{
    struct js_request deletion = delete_by_pieces();
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    publish("s.2");
    struct js_request creation = send_order("$JS.API.CONSUMER.CREATE.S.c3", C3_CREATE("last"));
    uint64_t ticket = send_message("s.2");
    cr_assert_eq(jsapi_stored(&r.js, &deletion, ERR_OK), JS_MORE);
    cr_assert_eq(jsapi_stored(&r.js, &creation, ERR_OK), JS_WAIT_STORED);
    cr_assert_eq(stream_settle(&s->stream, ticket), ERR_BUSY);
    end_by_pieces(&deletion);
    cr_assert_eq(stream_settle(&s->stream, ticket), ERR_BUSY);
    end_waiting(&creation);
    cr_assert_eq(named("c3")->next_seq, 3 * STREAM_PURGE_BATCH + 1);
    cr_assert_eq(stream_settle(&s->stream, ticket), ERR_OK);
    cr_assert_eq(s->stream.seq_last, 3 * STREAM_PURGE_BATCH + 2);
    cr_assert_eq(s->stream.sweep_ticket, 0);
}
