/* Two shards with JetStream for the tests of the pages: account A (5) has stream ORDERS with a
 * durable and an ephemeral consumer on shard 0, $G (0) a memory stream MEM on shard 1. */
#ifndef TESTS_UNIT_MONITOR_JS_RIG_H
#define TESTS_UNIT_MONITOR_JS_RIG_H
#include "core/js/jsapi.h"
#include "core/monitor/js_snapshot.h"
#include "tests/unit/monitor/fixture.h"

struct js_rig {
    struct fixture f;
    struct memstore files[2]; /* stand in for the logs */
    struct js js[2];
    struct text out;
    struct js_store_counts store;
};

static inline void js_rig_call(struct js_rig *r, int shard, uint32_t account, const char *subject,
                               const char *body)
{
    struct js_request q = {.account = account,
                           .account_name = account == 0 ? BYTES_LITERAL("$G") : BYTES_LITERAL("A"),
                           .subject = bytes_from_text(subject),
                           .body = bytes_from_text(body),
                           .out = &r->out,
                           .now_ns = FIXTURE_START_NS};
    text_clear(&r->out);
    enum js_step step = jsapi_run(&r->js[shard], &q);
    if (step == JS_WAIT_STORED) step = jsapi_stored(&r->js[shard], &q, ERR_OK);
    cr_assert_eq(step, JS_REPLY);
    text_char(&r->out, 0);
    cr_assert_null(strstr(r->out.data, "\"error\""), "%s: %s", subject, r->out.data);
    jsapi_end(&q);
}

static inline void js_rig_publish(struct js_rig *r, int shard, uint32_t account, const char *stream,
                                  const char *subject)
{
    char scratch[PUBLISH_SCRATCH_EXTRA + 256];
    struct js_stream *s = js_find(&r->js[shard], account, bytes_from_text(stream), false);
    struct stream_outcome o;
    struct store_stub stub;
    struct writer w;
    cr_assert_not_null(s);
    writer_init(&w, scratch, sizeof scratch);
    publish_check(&s->stream, bytes_from_text(subject), BYTES_LITERAL(""),
                  BYTES_LITERAL("0123456789"), FIXTURE_START_NS + FIXTURE_SECOND_NS, &w, &o);
    cr_assert_eq(o.verdict, STREAM_STORE);
    cr_assert_eq(store_append(js_store_of(&r->js[shard], s), &o.record, &stub), ERR_OK);
    stream_stage(&s->stream, &o, stub.ticket, stub.place);
    cr_assert_eq(stream_settle(&s->stream, stub.ticket), ERR_OK);
}

static inline void js_rig_open(struct js_rig *r)
{
    struct fixture *f = &r->f;
    memset(r, 0, sizeof *r);
    fixture_open(f);
    f->options.jetstream.is_on = true;
    f->options.jetstream.memory_bytes_max = 1 << 30;
    f->options.jetstream.storage_bytes_max = INT64_C(10) << 30;
    f->options.jetstream.max_ack_pending = 5000;
    f->global.jetstream = account_jetstream_open(true);
    f->a.jetstream = account_jetstream_open(true);
    f->a.jetstream.max_storage = 1 << 20;
    f->server.jetstream = (struct server_jetstream){.is_on = true,
                                                    .store_dir = BYTES_LITERAL("/d/jetstream"),
                                                    .memory_max = 1 << 30,
                                                    .storage_max = INT64_C(10) << 30};
    text_init(&r->out, &f->heap.mem, MEM_JETSTREAM, 1 << 20);
    for (int i = 0; i < 2; i++) {
        memstore_init(&r->files[i], &f->heap.mem, 1 << 20);
        js_init(&r->js[i], &f->heap.mem, &r->files[i].store, 5, 1 << 20);
    }
    js_rig_call(r, 0, 5, "$JS.API.STREAM.CREATE.ORDERS",
                "{\"name\":\"ORDERS\",\"subjects\":[\"orders.*\"],\"max_msgs\":100}");
    js_rig_call(r, 1, 0, "$JS.API.STREAM.CREATE.MEM",
                "{\"name\":\"MEM\",\"subjects\":[\"mem.*\"],\"storage\":\"memory\","
                "\"max_bytes\":100000}");
    js_rig_publish(r, 0, 5, "ORDERS", "orders.1");
    js_rig_publish(r, 0, 5, "ORDERS", "orders.2");
    js_rig_publish(r, 0, 5, "ORDERS", "orders.1");
    js_rig_publish(r, 1, 0, "MEM", "mem.1");
    js_rig_call(r, 0, 5, "$JS.API.STREAM.MSG.DELETE.ORDERS", "{\"seq\":2}");
    js_rig_call(r, 0, 5, "$JS.API.CONSUMER.CREATE.ORDERS.D",
                "{\"stream_name\":\"ORDERS\",\"config\":{\"durable_name\":\"D\",\"name\":\"D\","
                "\"ack_policy\":\"explicit\",\"description\":\"desc\",\"metadata\":{\"team\":"
                "\"x\"}}}");
    js_rig_call(r, 0, 5, "$JS.API.CONSUMER.CREATE.ORDERS.A",
                "{\"stream_name\":\"ORDERS\",\"config\":{\"name\":\"A\",\"ack_policy\":"
                "\"none\"}}");
}

/* What the shards would do for the query. */
static inline void js_rig_collect(struct js_rig *r)
{
    fixture_reset(&r->f);
    for (int i = 0; i < 2; i++) js_snapshot_take(r->f.shards[i], &r->js[i], &r->f.query, &r->store);
}

static inline void js_rig_close(struct js_rig *r)
{
    for (int i = 0; i < 2; i++) {
        snapshot_close(r->f.shards[i]);
        r->f.shards[i] = NULL;
        js_deinit(&r->js[i]);
        memstore_deinit(&r->files[i]);
    }
    text_deinit(&r->out);
    fixture_close(&r->f);
}

#endif
