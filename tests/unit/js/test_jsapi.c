#include <criterion/criterion.h>
#include <stdio.h>
#include "core/js/jsapi.h"
#include "tests/support/mem_heap.h"

/* Replies are those of nats-server 2.15.2 to the same requests, at a fixed time. */
#define T "\"2026-11-21T12:25:37.5Z\""
#define CONFIG                                                                                     \
    "\"config\":{\"name\":\"S\",\"subjects\":[\"s.*\"],\"retention\":\"limits\","                  \
    "\"max_consumers\":-1,\"max_msgs\":-1,\"max_bytes\":-1,\"max_age\":0,"                         \
    "\"max_msgs_per_subject\":-1,\"max_msg_size\":-1,\"discard\":\"old\",\"storage\":\"%s\","      \
    "\"num_replicas\":1,\"duplicate_window\":120000000000,\"compression\":\"none\","               \
    "\"allow_direct\":false,\"mirror_direct\":false,\"sealed\":false,\"deny_delete\":false,"       \
    "\"deny_purge\":false,\"allow_rollup_hdrs\":false,\"consumer_limits\":{},"                     \
    "\"allow_msg_ttl\":false,\"metadata\":{\"_nats.level\":\"5\",\"_nats.req.level\":\"0\","       \
    "\"_nats.ver\":\"2.15.2\"}},\"created\":" T
#define EMPTY                                                                                      \
    "\"state\":{\"messages\":0,\"bytes\":0,\"first_seq\":0,\"first_ts\":\"0001-01-01T00:00:00Z\""  \
    ",\"last_seq\":0,\"last_ts\":\"0001-01-01T00:00:00Z\",\"consumer_count\":0}"

struct rig {
    struct mem_heap heap;
    struct memstore file; /* stands in for the log */
    struct js js;
    struct text out;
    uint64_t ticket; /* of the last request that waited */
};

static const int64_t now_ns = INT64_C(1795263937500000000);

static void rig_init(struct rig *r)
{
    memset(r, 0, sizeof *r);
    mem_heap_init(&r->heap);
    memstore_init(&r->file, &r->heap.mem, 1 << 20);
    js_init(&r->js, &r->heap.mem, &r->file.store, 5, 1 << 20);
    r->js.leader = BYTES_LITERAL("me");
    text_init(&r->out, &r->heap.mem, MEM_JETSTREAM, 1 << 20);
}

static void rig_deinit(struct rig *r)
{
    js_deinit(&r->js);
    memstore_deinit(&r->file);
    text_deinit(&r->out);
    cr_assert_eq(r->heap.live_count, 0);
}

static struct js_request request(struct rig *r, const char *subject, const char *body)
{
    return (struct js_request){.account_name = BYTES_LITERAL("$G"),
                               .subject = bytes_from_text(subject),
                               .body = bytes_from_text(body),
                               .out = &r->out,
                               .now_ns = now_ns};
}

/* Whatever the request waits for comes at once, or fails with result. */
static void call(struct rig *r, enum err result, const char *subject, const char *body,
                 const char *reply)
{
    struct js_request q = request(r, subject, body);
    enum js_step step = jsapi_run(&r->js, &q);
    if (step == JS_WAIT_STORED) step = jsapi_stored(&r->js, &q, result);
    cr_assert_eq(step, JS_REPLY);
    cr_assert(bytes_equal(text_written(&r->out), bytes_from_text(reply)), "%s:\n%.*s\n%s", subject,
              (int)r->out.len, r->out.data, reply);
    jsapi_end(&q);
}

static void publish(struct rig *r, const char *subject, const char *body, const char *ack)
{
    char scratch[PUBLISH_SCRATCH_EXTRA + 256];
    struct js_stream *s = js_find(&r->js, 0, BYTES_LITERAL("S"), false);
    struct stream_outcome o;
    struct store_stub stub;
    struct writer w;
    writer_init(&w, scratch, sizeof scratch);
    publish_check(&s->stream, bytes_from_text(subject), BYTES_LITERAL(""), bytes_from_text(body),
                  now_ns, &w, &o);
    if (o.verdict == STREAM_STORE) {
        cr_assert_eq(store_append(js_store_of(&r->js, s), &o.record, &stub), ERR_OK);
        stream_stage(&s->stream, &o, stub.ticket, stub.place);
        cr_assert_eq(stream_settle(&s->stream, stub.ticket), ERR_OK);
    }
    text_clear(&r->out);
    publish_write_ack(&s->stream, &o, r->js.domain, &r->out);
    cr_assert(bytes_equal(text_written(&r->out), bytes_from_text(ack)), "%.*s", (int)r->out.len,
              r->out.data);
}

/* Memory that others hold, and give back when they are made to, is no reason to refuse. */
Test(jsapi, when_memory_is_short_who_has_more_than_its_share_takes_nothing_new)
{
    struct rig r;
    rig_init(&r);
    struct js_request q =
        request(&r, "$JS.API.STREAM.CREATE.F", "{\"name\":\"F\",\"storage\":\"memory\"}");
    enum js_step step = jsapi_run(&r.js, &q);
    if (step == JS_WAIT_STORED) step = jsapi_stored(&r.js, &q, ERR_OK);
    cr_assert_eq(step, JS_REPLY);
    jsapi_end(&q);
    text_clear(&r.out);
    uint64_t own = r.heap.mem.used_bytes[MEM_JETSTREAM] + r.heap.mem.used_bytes[MEM_STORE];
    cr_assert_gt(own, 0);
    cr_assert_not(js_is_short(&r.js));
    r.heap.percent = 90;
    cr_assert_not(js_is_short(&r.js), "it has no share to keep to");
    r.js.share_bytes = own;
    cr_assert_not(js_is_short(&r.js), "it has not more than its share");
    r.js.share_bytes = own - 1;
    cr_assert(js_is_short(&r.js));
    call(&r, ERR_OK, "$JS.API.STREAM.CREATE.S", "{\"name\":\"S\"}",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_create_response\",\"error\":{\"code\":503,"
         "\"err_code\":10023,\"description\":\"insufficient resources\"}}");
    r.heap.percent = JS_SHORT_PERCENT - 1;
    cr_assert_not(js_is_short(&r.js));
    rig_deinit(&r);
}

static void life_of_a_stream(const char *storage)
{
    struct rig r;
    char config[200], reply[2000];
    rig_init(&r);
    snprintf(config, sizeof config, "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"storage\":\"%s\"}",
             storage);
    snprintf(reply, sizeof reply,
             "{\"type\":\"io.nats.jetstream.api.v1.stream_create_response\"," CONFIG "," EMPTY
             ",\"ts\":" T ",\"did_create\":true}",
             storage);
    call(&r, ERR_OK, "$JS.API.STREAM.CREATE.S", config, reply);
    call(&r, ERR_OK, "$JS.API.STREAM.CREATE.S", config, reply); /* the same again */
    call(&r, ERR_OK, "$JS.API.STREAM.CREATE.S", "{\"name\":\"S\"}",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_create_response\",\"error\":{\"code\":400,"
         "\"err_code\":10058,\"description\":\"stream name already in use with a different "
         "configuration\"}}");
    call(&r, ERR_OK, "$JS.API.STREAM.CREATE.T", "{\"name\":\"T\",\"subjects\":[\"s.1\"]}",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_create_response\",\"error\":{\"code\":400,"
         "\"err_code\":10065,\"description\":\"subjects overlap with an existing stream\"}}");
    snprintf(reply, sizeof reply,
             "{\"type\":\"io.nats.jetstream.api.v1.stream_info_response\",\"total\":0,\"offset\":0,"
             "\"limit\":0," CONFIG "," EMPTY ",\"cluster\":{\"leader\":\"me\"},\"ts\":" T "}",
             storage);
    call(&r, ERR_OK, "$JS.API.STREAM.INFO.S", "", reply);
    call(&r, ERR_OK, "$JS.API.STREAM.NAMES", "",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_names_response\",\"total\":1,\"offset\":0,"
         "\"limit\":1024,\"streams\":[\"S\"]}");
    call(&r, ERR_OK, "$JS.API.STREAM.NAMES", "{\"subject\":\"q\"}",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_names_response\",\"total\":0,\"offset\":0,"
         "\"limit\":1024,\"streams\":null}");

    publish(&r, "s.0", "x0", "{\"stream\":\"S\",\"seq\":1}");
    publish(&r, "s.1", "x1", "{\"stream\":\"S\",\"seq\":2}");
    publish(&r, "s.0", "x2", "{\"stream\":\"S\",\"seq\":3}");
    call(&r, ERR_OK, "$JS.API.STREAM.MSG.GET.S", "{\"last_by_subj\":\"s.0\"}",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_msg_get_response\",\"message\":{\"subject\":"
         "\"s.0\",\"seq\":3,\"data\":\"eDI=\",\"time\":" T "}}");
    call(&r, ERR_OK, "$JS.API.STREAM.MSG.DELETE.S", "{\"seq\":2}",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_msg_delete_response\",\"success\":true}");
    call(&r, ERR_OK, "$JS.API.STREAM.MSG.DELETE.S", "{\"seq\":2}",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_msg_delete_response\",\"error\":{\"code\":"
         "400,\"err_code\":10043,\"description\":\"sequence 2 not found\"}}");
    call(&r, ERR_OK, "$JS.API.STREAM.MSG.DELETE.S", "{\"seq\":99}",
         strcmp(storage, "file") == 0
             ? "{\"type\":\"io.nats.jetstream.api.v1.stream_msg_delete_response\",\"error\":{"
               "\"code\":500,\"err_code\":10057,\"description\":\"stream store EOF\"}}"
             : "{\"type\":\"io.nats.jetstream.api.v1.stream_msg_delete_response\",\"error\":{"
               "\"code\":400,\"err_code\":10043,\"description\":\"sequence 99 not found\"}}");
    call(&r, ERR_OK, "$JS.API.STREAM.MSG.GET.S", "{\"seq\":2}",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_msg_get_response\",\"error\":{\"code\":404,"
         "\"err_code\":10037,\"description\":\"no message found\"}}");
    call(&r, ERR_OK, "$JS.API.STREAM.PURGE.S", "{\"seq\":1,\"keep\":2}",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_purge_response\",\"error\":{\"code\":400,"
         "\"err_code\":10003,\"description\":\"bad request\"},\"purged\":0}");
    call(&r, ERR_OK, "$JS.API.STREAM.PURGE.S", "",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_purge_response\",\"success\":true,"
         "\"purged\":2}");
    call(&r, ERR_OK, "$JS.API.STREAM.DELETE.S", "",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_delete_response\",\"success\":true}");
    call(&r, ERR_OK, "$JS.API.STREAM.DELETE.S", "",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_delete_response\",\"error\":{\"code\":404,"
         "\"err_code\":10059,\"description\":\"stream not found\"}}");
    rig_deinit(&r);
}

Test(jsapi, a_file_stream_lives_and_goes)
{
    life_of_a_stream("file");
}

Test(jsapi, a_memory_stream_lives_and_goes)
{
    life_of_a_stream("memory");
}

Test(jsapi, what_was_not_stored_has_not_happened)
{
    struct rig r;
    rig_init(&r);
    call(&r, ERR_NO_SPACE, "$JS.API.STREAM.CREATE.S", "{\"name\":\"S\"}",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_create_response\",\"error\":{\"code\":500,"
         "\"err_code\":10047,\"description\":\"insufficient storage resources available\"}}");
    cr_assert_null(js_find(&r.js, 0, BYTES_LITERAL("S"), true));

    struct js_request q = request(&r, "$JS.API.STREAM.CREATE.S", "{\"name\":\"S\"}");
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    cr_assert_null(js_find(&r.js, 0, BYTES_LITERAL("S"), false)); /* not before it is durable */
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_REPLY);
    cr_assert_eq(q.action, JS_ACTION_CREATED);
    jsapi_end(&q);
    call(&r, ERR_IO, "$JS.API.STREAM.DELETE.S", "",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_delete_response\",\"error\":{\"code\":503,"
         "\"err_code\":10077,\"description\":\"input/output error\"}}");
    cr_assert_not_null(js_find(&r.js, 0, BYTES_LITERAL("S"), false));
    rig_deinit(&r);
}

Test(jsapi, unknown_subjects_and_higher_levels_are_refused)
{
    struct rig r;
    rig_init(&r);
    call(&r, ERR_OK, "$JS.API.FOO", "",
         "{\"type\":\"io.nats.jetstream.api.v1.system_response\",\"error\":{\"code\":400,"
         "\"err_code\":10003,\"description\":\"bad request\"}}");
    call(&r, ERR_OK, "$JS.API.STREAM.PEER.REMOVE.S", "{",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_remove_peer_response\",\"error\":{\"code\":"
         "503,"
         "\"err_code\":10010,\"description\":\"JetStream clustering support required\"}}");
    call(&r, ERR_OK, "$JS.API.STREAM.SNAPSHOT.S", "{\"deliver_subject\":\"d\"}",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_snapshot_response\",\"error\":{\"code\":404,"
         "\"err_code\":10059,\"description\":\"stream not found\"}}");
    call(&r, ERR_OK, "$JS.API.STREAM.SNAPSHOT.S", "",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_snapshot_response\",\"error\":{\"code\":400,"
         "\"err_code\":10003,\"description\":\"bad request\"}}");
    struct js_request q = request(&r, "$JS.API.INFO", "");
    q.headers = BYTES_LITERAL("NATS/1.0\r\nNats-Required-Api-Level: 6\r\n\r\n");
    cr_assert_eq(jsapi_run(&r.js, &q), JS_REPLY);
    cr_assert(q.is_error);
    jsapi_end(&q);
    rig_deinit(&r);
}

Test(jsapi, a_stream_comes_back_from_its_records)
{
    struct rig r;
    struct text body;
    rig_init(&r);
    struct js_request q = request(&r, "$JS.API.STREAM.CREATE.S",
                                  "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"metadata\":{\"a\":"
                                  "\"b\"},\"republish\":{\"src\":\"s.*\",\"dest\":\"r.$1\"}}");
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_REPLY);
    jsapi_end(&q);
    const struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    text_init(&body, &r.heap.mem, MEM_JETSTREAM, 1 << 20);
    cr_assert(js_config_record(&s->stream.config, s->stream.created_ns, &body));

    struct js again;
    js_init(&again, &r.heap.mem, &r.file.store, 5, 1 << 20);
    struct record record = {.kind = RECORD_STREAM, .stream = s->stream.id};
    record.subject = BYTES_LITERAL("$G S");
    record.body = text_written(&body);
    cr_assert_eq(js_replay(&again, 0, &record, 1), ERR_OK);
    const struct js_stream *t = js_find(&again, 0, BYTES_LITERAL("S"), false);
    cr_assert_not_null(t);
    cr_assert(stream_config_equal(&s->stream.config, &t->stream.config));
    cr_assert_eq(t->stream.created_ns, now_ns);
    cr_assert_gt(again.id_next, s->stream.id); /* ids are never reused */
    record.body = BYTES_LITERAL("{");
    cr_assert_eq(js_replay(&again, 0, &record, 1), ERR_CORRUPT);
    record.kind = RECORD_STREAM_GONE;
    cr_assert_eq(js_replay(&again, 0, &record, 1), ERR_OK);
    cr_assert_null(js_find(&again, 0, BYTES_LITERAL("S"), true));
    js_deinit(&again);
    text_deinit(&body);
    rig_deinit(&r);
}

static void limit_storage(void *context, uint32_t account, struct js_limits *limits)
{
    limits->max_storage = *(const int64_t *)context;
}

#define REFUSED(code, err_code, text)                                                              \
    "{\"error\":{\"code\":" code ",\"err_code\":" err_code ",\"description\":\"" text              \
    "\"},\"stream\":\"S\",\"seq\":0}"

static void make_stream(struct rig *r, const char *config, bool is_fine)
{
    struct js_request q = request(r, "$JS.API.STREAM.CREATE.S", config);
    enum js_step step = jsapi_run(&r->js, &q);
    if (step == JS_WAIT_STORED) step = jsapi_stored(&r->js, &q, ERR_OK);
    cr_assert_eq(step, JS_REPLY);
    cr_assert_eq(q.is_error, !is_fine, "%.*s", (int)r->out.len, r->out.data);
    jsapi_end(&q);
}

Test(jsapi, an_account_stores_as_much_as_it_may)
{
    struct rig r;
    int64_t max = 70; /* 30 a message, its subject and its body */
    rig_init(&r);
    r.js.context = &max;
    r.js.limits_of = limit_storage;
    make_stream(&r, "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"max_msgs\":2}", true);
    publish(&r, "s.0", "x0", "{\"stream\":\"S\",\"seq\":1}");
    publish(&r, "s.0", "x1", "{\"stream\":\"S\",\"seq\":2}");
    publish(&r, "s.0", "x2", REFUSED("400", "10002", "resource limits exceeded for account"));
    max = 1000;
    js_limits_changed(&r.js);
    publish(&r, "s.0", "x2", "{\"stream\":\"S\",\"seq\":3}");
    cr_assert_eq(js_quota_of(&r.js, 0)->storage.used, 70); /* what was evicted is given back */
    cr_assert_eq(r.js.total.storage.used, 70);
    r.js.total.storage.max = 69;
    publish(&r, "s.0", "x2", REFUSED("503", "10023", "insufficient resources"));
    call(&r, ERR_OK, "$JS.API.STREAM.DELETE.S", "",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_delete_response\",\"success\":true}");
    cr_assert_eq(js_quota_of(&r.js, 0)->storage.used, 0);
    cr_assert_eq(js_quota_of(&r.js, 0)->streams, 0);
    rig_deinit(&r);
}

Test(jsapi, max_bytes_are_promised_within_the_limits)
{
    struct rig r;
    int64_t max = 1000;
    rig_init(&r);
    r.js.context = &max;
    r.js.limits_of = limit_storage;
    make_stream(&r, "{\"name\":\"S\",\"max_bytes\":1001}", false);
    make_stream(&r, "{\"name\":\"S\",\"max_bytes\":1000}", true);
    cr_assert_eq(js_quota_of(&r.js, 0)->storage.reserved, 1000);
    call(&r, ERR_OK, "$JS.API.STREAM.CREATE.T", "{\"name\":\"T\"}",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_create_response\",\"error\":{\"code\":500,"
         "\"err_code\":10047,\"description\":\"insufficient storage resources available\"}}");
    rig_deinit(&r);
}

Test(jsapi, limits_for_consumers_do_not_fall_below_theirs)
{
    struct rig r;
    rig_init(&r);
    make_stream(&r, "{\"name\":\"S\"}", true);
    struct js_request q = request(&r, "$JS.API.CONSUMER.CREATE.S.c",
                                  "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"c\","
                                  "\"ack_policy\":\"explicit\",\"max_ack_pending\":100}}");
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_REPLY);
    jsapi_end(&q);
    call(&r, ERR_OK, "$JS.API.STREAM.UPDATE.S",
         "{\"name\":\"S\",\"consumer_limits\":{\"max_ack_pending\":99}}",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_update_response\",\"error\":{\"code\":500,"
         "\"err_code\":10069,\"description\":\"change to limits violates consumers: c\"}}");
    rig_deinit(&r);
}

Test(jsapi, limits_hold_for_requests_in_flight_together)
{
    struct rig r;
    int64_t max = 1000;
    rig_init(&r);
    r.js.context = &max;
    r.js.limits_of = limit_storage;
    struct js_request q =
        request(&r, "$JS.API.STREAM.CREATE.S", "{\"name\":\"S\",\"max_bytes\":600}");
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    call(&r, ERR_OK, "$JS.API.STREAM.CREATE.T", "{\"name\":\"T\",\"max_bytes\":600}",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_create_response\",\"error\":{\"code\":500,"
         "\"err_code\":10047,\"description\":\"insufficient storage resources available\"}}");
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_IO), JS_REPLY);
    cr_assert_eq(js_quota_of(&r.js, 0)->storage.reserved, 0);
    cr_assert_eq(js_quota_of(&r.js, 0)->streams, 0);
    jsapi_end(&q);
    rig_deinit(&r);
}

/* Each is sent without waiting for the answer to the one before: as if it had waited. */
Test(jsapi, requests_about_one_name_take_effect_in_their_order)
{
    enum { COUNT = 9 };
    static const char *const sent[COUNT][3] = {
        {"STREAM.CREATE.S", "{\"name\":\"S\",\"max_msgs\":1}", "\"did_create\":true"},
        {"STREAM.INFO.S", "", "\"max_msgs\":1,"},
        {"STREAM.UPDATE.S", "{\"name\":\"S\",\"max_msgs\":2}", "\"max_msgs\":2,"},
        {"CONSUMER.CREATE.S.c", "{\"stream_name\":\"S\",\"config\":{\"name\":\"c\"}}",
         "\"num_pending\":0"},
        {"STREAM.DELETE.S", "", "\"success\":true"},
        {"STREAM.UPDATE.S", "{\"name\":\"S\",\"max_msgs\":3}", "\"err_code\":10059"},
        {"STREAM.CREATE.S", "{\"name\":\"S\",\"max_msgs\":4}", "\"did_create\":true"},
        {"CONSUMER.DELETE.S.c", "", "\"err_code\":10014"},
        {"STREAM.CREATE.S", "{\"name\":\"S\",\"max_msgs\":5}", "\"err_code\":10058"},
    };
    struct rig r;
    struct text out[COUNT];
    struct js_request q[COUNT];
    enum js_step step[COUNT];
    char subjects[COUNT][64];
    int waiting = 0;
    rig_init(&r);
    for (int i = 0; i < COUNT; i++) {
        text_init(&out[i], &r.heap.mem, MEM_JETSTREAM, 1 << 16);
        snprintf(subjects[i], sizeof subjects[i], "$JS.API.%s", sent[i][0]);
        q[i] = request(&r, subjects[i], sent[i][1]);
        q[i].out = &out[i];
        step[i] = jsapi_run(&r.js, &q[i]);
        waiting += step[i] == JS_WAIT_STORED;
    }
    while (waiting > 0) { /* the lowest ticket, and of one ticket the one that came first */
        int next = -1;
        for (int i = 0; i < COUNT; i++)
            if (step[i] == JS_WAIT_STORED && (next < 0 || q[i].ticket < q[next].ticket)) next = i;
        step[next] = jsapi_stored(&r.js, &q[next], ERR_OK);
        waiting -= step[next] != JS_WAIT_STORED;
    }
    for (int i = 0; i < COUNT; i++) {
        text_char(&out[i], 0);
        cr_assert_not_null(strstr(out[i].data, sent[i][2]), "%d %s: %s", i, sent[i][0],
                           out[i].data);
        jsapi_end(&q[i]);
        text_deinit(&out[i]);
    }
    rig_deinit(&r);
}

static void say(struct rig *r, struct js_request *q, const char *reply)
{
    cr_assert(bytes_equal(text_written(&r->out), bytes_from_text(reply)), "%.*s", (int)r->out.len,
              r->out.data);
    jsapi_end(q);
}

/* Of a stream with more messages than a piece takes; requests that change it wait meanwhile. */
static void purge_by_pieces(const char *config, const char *purge)
{
    enum { COUNT = 3 * STREAM_PURGE_BATCH };
    struct rig r;
    char ack[64];
    rig_init(&r);
    make_stream(&r, config, true);
    for (int i = 1; i <= COUNT; i++) {
        snprintf(ack, sizeof ack, "{\"stream\":\"S\",\"seq\":%d}", i);
        publish(&r, "s.1.a", "", ack);
    }
    struct js_request q = request(&r, "$JS.API.STREAM.PURGE.S", purge);
    struct js_request later = request(&r, "$JS.API.STREAM.DELETE.S", "");
    enum js_step step = jsapi_run(&r.js, &q);
    if (step == JS_WAIT_STORED) step = jsapi_stored(&r.js, &q, ERR_OK);
    cr_assert_eq(step, JS_MORE);
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    cr_assert_eq(s->stream.msgs.live_count, COUNT - STREAM_PURGE_BATCH);
    cr_assert_eq(jsapi_run(&r.js, &later), JS_WAIT_STORED);
    cr_assert_eq(later.order, JS_ORDER_AGAIN);
    cr_assert_eq(jsapi_stored(&r.js, &later, ERR_OK), JS_WAIT_STORED);
    jsapi_end(&later);
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_MORE);
    cr_assert_neq(s->stream.order_ticket, 0);
    while ((step = jsapi_stored(&r.js, &q, ERR_OK)) == JS_MORE) continue;
    cr_assert_eq(step, JS_REPLY);
    cr_assert_eq(s->stream.order_ticket, 0);
    cr_assert_eq(s->stream.msgs.live_count, 0);
    say(&r, &q,
        "{\"type\":\"io.nats.jetstream.api.v1.stream_purge_response\",\"success\":true,"
        "\"purged\":3072}");
    rig_deinit(&r);
}

Test(jsapi, a_large_purge_goes_by_pieces)
{
    purge_by_pieces("{\"name\":\"S\",\"subjects\":[\"s.>\"],\"storage\":\"memory\"}", "");
    purge_by_pieces("{\"name\":\"S\",\"subjects\":[\"s.>\"]}", "{\"filter\":\"s.*.a\"}");
}

/* Streams of another log, which says what they are; a list is whole or it is none. */
Test(jsapi, a_list_whose_parts_found_no_memory_is_refused)
{
    struct rig r;
    struct bytes other = BYTES_LITERAL("other");
    struct directory_ask a = {
        .log = 1, .stream = 2, .name = BYTES_LITERAL("T"), .subjects = {&other, 1}};
    rig_init(&r);
    cr_assert_eq(directory_enter(&r.js.own, &a), ERR_OK);
    struct js_request q = request(&r, "$JS.API.STREAM.LIST", "");
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_PAGE);
    cr_assert_eq(q.page.count, 1);
    q.page.is_failed = true;
    cr_assert_eq(jsapi_paged(&r.js, &q), JS_REPLY);
    say(&r, &q,
        "{\"type\":\"io.nats.jetstream.api.v1.stream_list_response\",\"error\":{\"code\":503,"
        "\"err_code\":10023,\"description\":\"insufficient resources\"},\"total\":0,"
        "\"offset\":0,\"limit\":0,\"streams\":[]}");
    rig_deinit(&r);
}

Test(jsapi, a_smaller_limit_trims_by_pieces)
{
    struct rig r;
    char ack[64];
    rig_init(&r);
    make_stream(&r, "{\"name\":\"S\",\"subjects\":[\"s.>\"]}", true);
    for (int i = 1; i <= 3000; i++) {
        snprintf(ack, sizeof ack, "{\"stream\":\"S\",\"seq\":%d}", i);
        publish(&r, "s.1", "", ack);
    }
    struct js_request q =
        request(&r, "$JS.API.STREAM.UPDATE.S",
                "{\"name\":\"S\",\"subjects\":[\"s.>\"],\"max_msgs_per_subject\":900,"
                "\"max_msgs\":500}");
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_MORE);
    cr_assert_eq(s->stream.msgs.live_count, 3000 - STREAM_PURGE_BATCH);
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_MORE);
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_REPLY);
    cr_assert_eq(s->stream.msgs.live_count, 500);
    cr_assert_eq(s->stream.seq_first, 2501);
    jsapi_end(&q);
    rig_deinit(&r);
}

/* How often the request was gone on with; its answer is in r->out. */
static int turns_of(struct rig *r, const char *subject, const char *body)
{
    struct js_request q = request(r, subject, body);
    enum js_step step = jsapi_run(&r->js, &q);
    int turns = 0;
    for (; step == JS_MORE; turns++) step = jsapi_stored(&r->js, &q, ERR_OK);
    cr_assert_eq(step, JS_REPLY);
    jsapi_end(&q);
    return turns;
}

static bool has_text(const struct rig *r, const char *text)
{
    return memmem(r->out.data, r->out.len, text, strlen(text)) != NULL;
}

static void replay_message(struct js_stream *s, uint64_t seq, const char *subject)
{
    struct record record = {.kind = RECORD_MESSAGE,
                            .seq = seq,
                            .time_ns = now_ns,
                            .subject = bytes_from_text(subject)};
    cr_assert_eq(stream_replay(&s->stream, &record, seq), ERR_OK);
}

/* One request of one client: the others do not wait for it. */
Test(jsapi, what_reads_much_of_a_stream_goes_by_pieces)
{
    enum { COUNT = 12000 };
    struct rig r;
    rig_init(&r);
    r.file.bytes_max = 1 << 24;
    make_stream(&r, "{\"name\":\"S\",\"subjects\":[\"s.>\"]}", true);
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    for (uint64_t i = 1; i <= COUNT; i++) {
        char subject[32];
        snprintf(subject, sizeof subject, "s.%d.%c", (int)i, i == 7 ? 'a' : 'b');
        replay_message(s, i, subject);
    }
    cr_assert_eq(turns_of(&r, "$JS.API.STREAM.INFO.S", ""), 0);
    cr_assert_geq(turns_of(&r, "$JS.API.STREAM.INFO.S", "{\"subjects_filter\":\"s.*.b\"}"), 5);
    cr_assert(has_text(&r, "\"total\":11999,\"offset\":0,\"limit\":100000,\"config\""));
    cr_assert(has_text(&r, "\"num_subjects\":12000,\"subjects\":{\"s.1.b\":1,"));
    cr_assert(has_text(&r, "\"s.9999.b\":1},\"consumer_count\":0}"));
    cr_assert_geq(
        turns_of(&r, "$JS.API.STREAM.INFO.S", "{\"subjects_filter\":\"s.*.b\",\"offset\":11997}"),
        2);
    cr_assert(has_text(&r, "\"subjects\":{\"s.9998.b\":1,\"s.9999.b\":1},"));
    cr_assert_geq(turns_of(&r, "$JS.API.STREAM.MSG.GET.S", "{\"last_by_subj\":\"s.*.a\"}"), 1);
    cr_assert(!has_text(&r, "error") || has_text(&r, "no message found")); /* no record of it */
    for (uint64_t i = 2; i < COUNT; i += 2) cr_assert(stream_remove(&s->stream, i));
    cr_assert_geq(turns_of(&r, "$JS.API.STREAM.INFO.S", "{\"deleted_details\":true}"), 1);
    cr_assert(has_text(&r, "\"num_deleted\":5999,\"deleted\":[2,4,6,"));
    cr_assert(has_text(&r, ",11996,11998],\"consumer_count\":0}"));
    rig_deinit(&r);
}

static void fill(struct rig *r, int from, int to)
{
    char ack[64], subject[32];
    for (int i = from; i <= to; i++) {
        snprintf(ack, sizeof ack, "{\"stream\":\"S\",\"seq\":%d}", i);
        snprintf(subject, sizeof subject, "s.%d", i % 100);
        publish(r, subject, "", ack);
    }
}

Test(jsapi, a_rollup_of_a_large_stream_is_one_short_step_and_publishes_wait_for_it)
{
    enum { COUNT = 2 * STREAM_PURGE_BATCH };
    struct rig r;
    char scratch[PUBLISH_SCRATCH_EXTRA + 256];
    struct stream_outcome o, later;
    struct store_stub stub;
    struct writer w;
    struct bytes all = BYTES_LITERAL("NATS/1.0\r\nNats-Rollup: all\r\n\r\n");
    rig_init(&r);
    make_stream(&r, "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"allow_rollup_hdrs\":true}", true);
    fill(&r, 1, COUNT);
    cr_assert_eq(turns_of(&r, "$JS.API.CONSUMER.CREATE.S.c",
                          "{\"stream_name\":\"S\",\"config\":{\"name\":\"c\",\"mem_storage\":true,"
                          "\"filter_subject\":\"s.7\"}}"),
                 0);
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    struct stream *m = &s->stream;
    writer_init(&w, scratch, sizeof scratch);
    publish_check(m, BYTES_LITERAL("s.7"), all, BYTES_LITERAL(""), now_ns, &w, &o);
    cr_assert_eq(o.verdict, STREAM_STORE);
    cr_assert_eq(store_append(r.js.file, &o.record, &stub), ERR_OK);
    stream_stage(m, &o, stub.ticket, stub.place);
    writer_init(&w, scratch, sizeof scratch);
    publish_check(m, BYTES_LITERAL("s.8"), BYTES_LITERAL(""), BYTES_LITERAL(""), now_ns, &w,
                  &later);
    cr_assert_eq(later.verdict, STREAM_WAIT);
    cr_assert_eq(stream_settle(m, stub.ticket), ERR_OK);
    cr_assert_eq(m->msgs.live_count, 1);
    cr_assert_eq(m->seq_first, COUNT + 1);
    cr_assert_eq(m->bytes, stream_message_bytes(STREAM_FILE, 3, all.len, 0));
    cr_assert_eq(js_quota_of(&r.js, 0)->storage.used, m->bytes);
    fill(&r, COUNT + 2, COUNT + 107);
    cr_assert_eq(turns_of(&r, "$JS.API.CONSUMER.INFO.S.c", ""), 0);
    cr_assert(has_text(&r, "\"num_pending\":2,"), "%.*s", (int)r.out.len, r.out.data);
    cr_assert_eq(turns_of(&r, "$JS.API.STREAM.INFO.S", "{\"subjects_filter\":\"s.7\"}"), 0);
    cr_assert(has_text(&r, "\"num_subjects\":100,\"subjects\":{\"s.7\":2}"), "%.*s", (int)r.out.len,
              r.out.data);
    rig_deinit(&r);
}

/* Which messages are kept is looked for by pieces as well, from the end on. */
Test(jsapi, a_purge_that_keeps_some_of_a_filter_goes_by_pieces)
{
    enum { COUNT = 12000, KEEP = 9000, LOOKS = SIEVE_STEP / SIEVE_WALK };
    static const char *const filters[] = {"s.*", "s.one"};
    for (int i = 0; i < 2; i++) {
        struct rig r;
        char body[64], ack[64];
        rig_init(&r);
        r.file.bytes_max = 1 << 24;
        make_stream(&r, "{\"name\":\"S\",\"subjects\":[\"s.*\",\"t\"]}", true);
        struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
        for (int k = 1; k <= COUNT; k++) {
            snprintf(ack, sizeof ack, "{\"stream\":\"S\",\"seq\":%d}", k);
            publish(&r, k % 2 == 0 ? "t" : "s.one", "", ack);
        }
        snprintf(body, sizeof body, "{\"filter\":\"%s\",\"keep\":%d}", filters[i], KEEP / 2);
        struct js_request q = request(&r, "$JS.API.STREAM.PURGE.S", body);
        enum js_step step;
        int looking = 0;
        for (step = jsapi_run(&r.js, &q); step == JS_MORE; looking++)
            step = jsapi_stored(&r.js, &q, ERR_OK);
        cr_assert_eq(step, JS_WAIT_STORED);
        cr_assert_eq(s->stream.msgs.live_count, COUNT);
        while ((step = jsapi_stored(&r.js, &q, ERR_OK)) == JS_MORE) continue;
        cr_assert_eq(step, JS_REPLY);
        cr_assert(has_text(&r, "\"purged\":1500}"), "%.*s", (int)r.out.len, r.out.data);
        cr_assert_geq(looking, KEEP / LOOKS / 2, "%d", looking);
        cr_assert_eq(msgs_first(&s->stream.msgs), 2);
        cr_assert_not(msgs_has(&s->stream.msgs, 2999));
        cr_assert(msgs_has(&s->stream.msgs, 3001));
        jsapi_end(&q);
        /* More than there are: nothing goes. */
        snprintf(body, sizeof body, "{\"filter\":\"%s\",\"keep\":%d}", filters[i], COUNT);
        q = request(&r, "$JS.API.STREAM.PURGE.S", body);
        for (step = jsapi_run(&r.js, &q); step != JS_REPLY;) step = jsapi_stored(&r.js, &q, ERR_OK);
        say(&r, &q,
            "{\"type\":\"io.nats.jetstream.api.v1.stream_purge_response\",\"success\":true,"
            "\"purged\":0}");
        rig_deinit(&r);
    }
}

/* Sequences by subject are gathered then, or given up. */
Test(jsapi, another_limit_per_subject_goes_by_pieces)
{
    enum { COUNT = 24000, SUBJECTS = 6000 };
    struct rig r;
    rig_init(&r);
    r.file.bytes_max = 1 << 24;
    make_stream(&r, "{\"name\":\"S\",\"subjects\":[\"s.*\"]}", true);
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    for (uint64_t i = 1; i <= COUNT; i++) {
        char subject[32];
        snprintf(subject, sizeof subject, "s.%d", (int)(i % SUBJECTS));
        replay_message(s, i, subject);
    }
    struct js_request q =
        request(&r, "$JS.API.STREAM.UPDATE.S",
                "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"max_msgs_per_subject\":64}");
    enum js_step step = jsapi_run(&r.js, &q);
    cr_assert_eq(step, JS_WAIT_STORED);
    int pieces = 0;
    while ((step = jsapi_stored(&r.js, &q, ERR_OK)) == JS_MORE) pieces++;
    cr_assert_eq(step, JS_REPLY);
    cr_assert_geq(pieces, (COUNT + SUBJECTS) / (SIEVE_STEP / SUBJECT_INDEX_LIST_COST));
    jsapi_end(&q);
    uint32_t node = subject_index_find(&s->stream.subjects, BYTES_LITERAL("s.7"));
    cr_assert_neq(subject_index_node(&s->stream.subjects, node)->list, 0);
    rig_deinit(&r);
}

/* What is acked before the purge's record is durable, and on record behind it, was among those that
 * the purge keeps: as at a start. */
Test(jsapi, a_purge_keeps_what_was_newest_when_its_record_was_made)
{
    static const char *const bodies[] = {"{\"filter\":\"s.*\",\"keep\":2}",
                                         "{\"filter\":\"s.one\",\"keep\":2}", "{\"keep\":2}"};
    for (int i = 0; i < 3; i++) {
        struct rig r;
        char ack[64];
        rig_init(&r);
        make_stream(&r, "{\"name\":\"S\",\"subjects\":[\"s.*\"]}", true);
        struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
        for (int k = 1; k <= 5; k++) {
            snprintf(ack, sizeof ack, "{\"stream\":\"S\",\"seq\":%d}", k);
            publish(&r, "s.one", "", ack);
        }
        struct js_request q = request(&r, "$JS.API.STREAM.PURGE.S", bodies[i]);
        cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
        cr_assert(stream_remove(&s->stream, 5));
        cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_REPLY);
        cr_assert_eq(s->stream.msgs.live_count, 1);
        cr_assert(msgs_has(&s->stream.msgs, 4), "%s", bodies[i]);
        jsapi_end(&q);
        rig_deinit(&r);
    }
}

static uint64_t stage(struct rig *r)
{
    char scratch[PUBLISH_SCRATCH_EXTRA + 256];
    struct js_stream *s = js_find(&r->js, 0, BYTES_LITERAL("S"), false);
    struct stream_outcome o;
    struct store_stub stub;
    struct writer w;
    writer_init(&w, scratch, sizeof scratch);
    publish_check(&s->stream, BYTES_LITERAL("s.one"), BYTES_LITERAL(""), BYTES_LITERAL(""), now_ns,
                  &w, &o);
    if (o.verdict == STREAM_WAIT) return 0;
    cr_assert_eq(o.verdict, STREAM_STORE);
    cr_assert_eq(store_append(js_store_of(&r->js, s), &o.record, &stub), ERR_OK);
    stream_stage(&s->stream, &o, stub.ticket, stub.place);
    return stub.ticket;
}

Test(jsapi, a_purge_that_keeps_some_comes_behind_what_is_in_flight)
{
    for (int i = 0; i < 2; i++) {
        struct rig r;
        rig_init(&r);
        make_stream(&r, "{\"name\":\"S\",\"subjects\":[\"s.*\"]}", true);
        struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
        uint64_t first = stage(&r), last = stage(&r);
        struct js_request q = request(&r, "$JS.API.STREAM.PURGE.S", "{\"keep\":1}");
        cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
        cr_assert_eq(q.ticket, last);
        cr_assert_eq(stage(&r), 0, "publishes wait");
        if (i == 0) {
            cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_WAIT_STORED);
            cr_assert_gt(q.ticket, last);
            cr_assert_eq(stage(&r), 0, "publishes wait");
            cr_assert_eq(s->stream.msgs.live_count, 2);
        } else {
            cr_assert_eq(stream_settle(&s->stream, first), ERR_OK);
            stream_unstage(&s->stream, last);
        }
        cr_assert_eq(jsapi_stored(&r.js, &q, i == 0 ? ERR_OK : ERR_IO), JS_REPLY);
        cr_assert_eq(q.is_error, i == 1);
        cr_assert_eq(s->stream.msgs.live_count, 1);
        cr_assert_eq(s->stream.seq_first, i == 0 ? 2 : 1);
        cr_assert_neq(stage(&r), 0);
        jsapi_end(&q);
        rig_deinit(&r);
    }
}

/* How many messages a step of a rollup takes out at most; 0: they do not go by pieces. */
static uint64_t roll(struct rig *r, struct js_stream *s, const char *subject, const char *headers)
{
    char scratch[PUBLISH_SCRATCH_EXTRA + 256];
    struct stream_outcome o;
    struct store_stub stub;
    struct writer w;
    struct store *store = js_store_of(&r->js, s);
    writer_init(&w, scratch, sizeof scratch);
    publish_check(&s->stream, bytes_from_text(subject), bytes_from_text(headers), BYTES_LITERAL(""),
                  now_ns, &w, &o);
    cr_assert_eq(o.verdict, STREAM_STORE);
    cr_assert_eq(store_append(store, &o.record, &stub), ERR_OK);
    stream_stage(&s->stream, &o, stub.ticket, stub.place);
    cr_assert_eq(stream_settle(&s->stream, stub.ticket), ERR_OK);
    uint64_t most = 0;
    while (js_is_rolling(&r->js)) {
        uint64_t before = s->stream.msgs.live_count;
        cr_assert_neq(s->stream.order_ticket, 0);
        writer_init(&w, scratch, sizeof scratch);
        publish_check(&s->stream, bytes_from_text(subject), BYTES_LITERAL(""), BYTES_LITERAL(""),
                      now_ns, &w, &o);
        cr_assert_eq(o.verdict, STREAM_WAIT);
        js_roll(&r->js);
        uint64_t gone = before - s->stream.msgs.live_count;
        if (gone > most) most = gone;
    }
    cr_assert_eq(s->stream.order_ticket, 0);
    return most;
}

Test(jsapi, large_rollups_go_by_pieces_and_publishes_wait_for_them)
{
    static const char *const kinds[] = {"memory", "file"};
    for (int i = 0; i < 2; i++) {
        enum { COUNT = 3 * STREAM_PURGE_BATCH };
        struct rig r;
        char config[128];
        rig_init(&r);
        snprintf(config, sizeof config,
                 "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"allow_rollup_hdrs\":true,"
                 "\"storage\":\"%s\"}",
                 kinds[i]);
        make_stream(&r, config, true);
        struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
        struct stream *m = &s->stream;
        fill(&r, 1, COUNT);
        cr_assert_eq(roll(&r, s, "s.*", "NATS/1.0\r\nNats-Rollup: sub\r\n\r\n"),
                     STREAM_PURGE_BATCH);
        cr_assert_eq(m->msgs.live_count, 1);
        for (int k = COUNT + 2; k <= 2 * COUNT; k++) {
            char ack[64];
            snprintf(ack, sizeof ack, "{\"stream\":\"S\",\"seq\":%d}", k);
            publish(&r, "s.one", "", ack);
        }
        publish(&r, "s.two", "", "{\"stream\":\"S\",\"seq\":6145}");
        cr_assert_eq(roll(&r, s, "s.one", "NATS/1.0\r\nNats-Rollup: sub\r\n\r\n"),
                     STREAM_PURGE_BATCH);
        cr_assert_eq(m->msgs.live_count, 3); /* of s.*, s.two and s.one */
        fill(&r, 2 * COUNT + 3, 3 * COUNT);
        uint64_t most = roll(&r, s, "s.x", "NATS/1.0\r\nNats-Rollup: all\r\n\r\n");
        /* A file stream lets go of all at once, without a look at any. */
        cr_assert_eq(most, i == 0 ? STREAM_PURGE_BATCH : 0);
        cr_assert_eq(m->msgs.live_count, 1);
        cr_assert_eq(m->staged.msgs, 1);
        if (i == 0) cr_assert_eq(r.js.memory.live_count, 1);
        rig_deinit(&r);
    }
}

Test(jsapi, a_stream_can_go_in_the_middle_of_a_rollup)
{
    struct rig r;
    char scratch[PUBLISH_SCRATCH_EXTRA + 256];
    struct stream_outcome o;
    struct store_stub stub;
    struct writer w;
    rig_init(&r);
    make_stream(&r,
                "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"allow_rollup_hdrs\":true,"
                "\"storage\":\"memory\"}",
                true);
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    fill(&r, 1, 3 * STREAM_PURGE_BATCH);
    writer_init(&w, scratch, sizeof scratch);
    publish_check(&s->stream, BYTES_LITERAL("s.1"),
                  BYTES_LITERAL("NATS/1.0\r\nNats-Rollup: all\r\n\r\n"), BYTES_LITERAL(""), now_ns,
                  &w, &o);
    cr_assert_eq(store_append(js_store_of(&r.js, s), &o.record, &stub), ERR_OK);
    stream_stage(&s->stream, &o, stub.ticket, stub.place);
    cr_assert_eq(stream_settle(&s->stream, stub.ticket), ERR_OK);
    js_roll(&r.js);
    cr_assert(js_is_rolling(&r.js));
    struct js_request q = request(&r, "$JS.API.STREAM.PURGE.S", "");
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    cr_assert_eq(q.ticket, STREAM_TICKET_FIRST);
    jsapi_end(&q);
    js_drop(&r.js, s);
    cr_assert_not(js_is_rolling(&r.js));
    cr_assert_eq(r.js.memory.live_count, 0);
    rig_deinit(&r);
}

Test(jsapi, a_large_stream_in_memory_is_deleted_by_pieces)
{
    struct rig r;
    rig_init(&r);
    make_stream(&r, "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"storage\":\"memory\"}", true);
    fill(&r, 1, 2 * STREAM_PURGE_BATCH);
    struct js_request q = request(&r, "$JS.API.STREAM.DELETE.S", "");
    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_MORE);
    cr_assert_eq(r.js.memory.live_count, STREAM_PURGE_BATCH);
    enum js_step step;
    while ((step = jsapi_stored(&r.js, &q, ERR_OK)) == JS_MORE) continue;
    say(&r, &q, "{\"type\":\"io.nats.jetstream.api.v1.stream_delete_response\",\"success\":true}");
    cr_assert_eq(r.js.memory.live_count, 0);
    rig_deinit(&r);
}

Test(jsapi, many_subjects_are_checked_in_a_moment_and_too_many_refused)
{
    struct rig r;
    struct text body;
    rig_init(&r);
    text_init(&body, &r.heap.mem, MEM_JETSTREAM, 1 << 20);
    for (int extra = 0; extra < 2; extra++) {
        text_clear(&body);
        text_string(&body, "{\"name\":\"S\",\"subjects\":[\"s.0\"");
        for (uint64_t i = 1; i < JS_SUBJECTS_MAX + (uint64_t)extra; i++) {
            text_string(&body, ",\"s.");
            text_u64(&body, i);
            text_string(&body, "\"");
        }
        text_string(&body, "]}");
        struct js_request q = request(&r, "$JS.API.STREAM.CREATE.S", "");
        q.body = text_written(&body);
        enum js_step step = jsapi_run(&r.js, &q);
        cr_assert_eq(step, extra == 0 ? JS_WAIT_STORED : JS_REPLY);
        if (step == JS_WAIT_STORED) cr_assert_eq(jsapi_stored(&r.js, &q, ERR_IO), JS_REPLY);
        jsapi_end(&q);
    }
    text_deinit(&body);
    rig_deinit(&r);
}

Test(jsapi, records_that_no_server_wrote_are_refused_at_a_start)
{
    struct rig r;
    rig_init(&r);
    make_stream(&r, "{\"name\":\"S\",\"subjects\":[\"s.*\"]}", true);
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    struct record record = {.kind = RECORD_MESSAGE, .stream = s->stream.id, .seq = UINT64_MAX};
    record.subject = BYTES_LITERAL("s.1");
    cr_assert_eq(js_replay(&r.js, 0, &record, 1), ERR_CORRUPT);
    record.kind = RECORD_SKIP;
    cr_assert_eq(js_replay(&r.js, 0, &record, 1), ERR_CORRUPT);
    record.kind = RECORD_PURGE;
    record.subject = BYTES_LITERAL("");
    cr_assert_eq(js_replay(&r.js, 0, &record, 1), ERR_CORRUPT);
    /* A message of a pack that no checkpoint knows. */
    record = (struct record){.kind = RECORD_MESSAGE, .stream = s->stream.id, .seq = 1};
    record.subject = BYTES_LITERAL("s.1");
    record.headers = bytes_of(NULL, 20);
    cr_assert_eq(js_replay(&r.js, 0, &record, 1), ERR_CORRUPT);
    record.stream = 77;
    record.kind = RECORD_STREAM;
    record.subject = BYTES_LITERAL("$G T");
    record.headers = BYTES_LITERAL("");
    record.body = BYTES_LITERAL("{\"config\":{\"name\":\"T\",\"first_seq\":18446744073709551615}}");
    cr_assert_eq(js_replay(&r.js, 0, &record, 1), ERR_CORRUPT);
    rig_deinit(&r);
}

/* Streams move in their table as others go. */
Test(jsapi, of_many_streams_those_of_memory_are_gone_after_a_start)
{
    enum { COUNT = 300 };
    struct rig r;
    char config[96];
    rig_init(&r);
    for (int i = 0; i < COUNT; i++) {
        snprintf(config, sizeof config, "{\"name\":\"S%d\",\"subjects\":[\"s.%d\"]%s}", i, i,
                 i % 3 == 0 ? "" : ",\"storage\":\"memory\"");
        char subject[48];
        snprintf(subject, sizeof subject, "$JS.API.STREAM.CREATE.S%d", i);
        struct js_request q = request(&r, subject, config);
        enum js_step step = jsapi_run(&r.js, &q);
        if (step == JS_WAIT_STORED) step = jsapi_stored(&r.js, &q, ERR_OK);
        cr_assert_eq(step, JS_REPLY);
        jsapi_end(&q);
        text_clear(&r.out);
    }
    js_replay_end(&r.js);
    for (int i = 0; i < COUNT; i++) {
        snprintf(config, sizeof config, "S%d", i);
        bool is_there = js_find(&r.js, 0, bytes_from_text(config), true) != NULL;
        cr_assert_eq(is_there, i % 3 == 0, "%s", config);
    }
    rig_deinit(&r);
}

/* A longer max_age is on its way when a message gets too old by the one in force. */
Test(jsapi, what_expires_beside_an_update_is_the_same_at_a_start)
{
    struct rig r, again;
    struct text body;
    static const char create[] = "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"max_age\":1000000000}";
    rig_init(&r);
    rig_init(&again);
    make_stream(&r, create, true);
    publish(&r, "s.0", "x", "{\"stream\":\"S\",\"seq\":1}");
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    struct js_request q = request(&r, "$JS.API.STREAM.UPDATE.S",
                                  "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"max_age\":9000000000}");
    q.now_ns = now_ns + JS_SECOND - 1;
    struct record record = {.stream = s->stream.id, .subject = BYTES_LITERAL("$G S")};
    text_init(&body, &r.heap.mem, MEM_JETSTREAM, 1 << 16);
    cr_assert(js_config_record(&s->stream.config, s->stream.created_ns, &body));
    record.kind = RECORD_STREAM;
    record.body = text_written(&body);
    cr_assert_eq(js_replay(&again.js, 0, &record, 0), ERR_OK);
    struct record message = {.kind = RECORD_MESSAGE, .stream = s->stream.id, .seq = 1};
    message.time_ns = now_ns;
    message.subject = BYTES_LITERAL("s.0");
    message.body = BYTES_LITERAL("x");
    cr_assert_eq(js_replay(&again.js, 0, &message, 1), ERR_OK);

    cr_assert_eq(jsapi_run(&r.js, &q), JS_WAIT_STORED);
    (void)stream_expire(&s->stream, now_ns + 2 * JS_SECOND);
    cr_assert_eq(jsapi_stored(&r.js, &q, ERR_OK), JS_REPLY);
    text_clear(&body);
    cr_assert(js_config_record(&s->stream.config, s->stream.created_ns, &body));
    record.body = text_written(&body);
    record.time_ns = q.now_ns;
    cr_assert_eq(js_replay(&again.js, 0, &record, 0), ERR_OK);
    struct js_stream *t = js_find(&again.js, 0, BYTES_LITERAL("S"), false);
    cr_assert_eq(t->stream.msgs.live_count, s->stream.msgs.live_count);
    jsapi_end(&q);
    text_deinit(&body);
    rig_deinit(&again);
    rig_deinit(&r);
}

Test(jsapi, what_found_no_memory_in_a_memory_stream_goes_with_it)
{
    struct rig r;
    char scratch[PUBLISH_SCRATCH_EXTRA + 256];
    struct stream_outcome o;
    struct store_stub stub;
    struct writer w;
    rig_init(&r);
    make_stream(&r, "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"storage\":\"memory\"}", true);
    struct js_stream *s = js_find(&r.js, 0, BYTES_LITERAL("S"), false);
    writer_init(&w, scratch, sizeof scratch);
    publish_check(&s->stream, BYTES_LITERAL("s.0"), BYTES_LITERAL(""), BYTES_LITERAL("x"), now_ns,
                  &w, &o);
    cr_assert_eq(o.verdict, STREAM_STORE);
    cr_assert_eq(store_append(js_store_of(&r.js, s), &o.record, &stub), ERR_OK);
    stream_stage(&s->stream, &o, stub.ticket, stub.place);
    r.heap.fail_at = r.heap.alloc_count + 1;
    cr_assert_eq(stream_settle(&s->stream, stub.ticket), ERR_MEMORY);
    cr_assert_gt(r.js.memory.bytes_used, 0);
    call(&r, ERR_OK, "$JS.API.STREAM.DELETE.S", "",
         "{\"type\":\"io.nats.jetstream.api.v1.stream_delete_response\",\"success\":true}");
    cr_assert_eq(r.js.memory.bytes_used, 0);
    rig_deinit(&r);
}
