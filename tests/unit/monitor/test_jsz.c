#include "core/monitor/jsz.h"
#include "core/monitor/healthz.h"
#include "core/monitor/metrics.h"
#include "core/monitor/sysevents.h"
#include "core/monitor/sysreq.h"
#include "tests/unit/monitor/js_rig.h"

/* Shapes, orders and values are those of nats-server 2.15.2 for the same streams. */

#define START "\"2026-11-21T09:16:06.0000005Z\""
#define STORED "\"2026-11-21T09:16:07.0000005Z\""
#define NOW "\"2026-11-21T09:16:40.0000005Z\""
#define CONFIG                                                                                     \
    "\"config\":{\"max_memory\":1073741824,\"max_storage\":10737418240,"                           \
    "\"store_dir\":\"/d/jetstream\",\"sync_interval\":120000000000,\"sync_always\":true,"          \
    "\"compress_ok\":true,\"strict\":true}"
#define LIMITS "\"limits\":{\"max_ack_pending\":5000,\"default_max_consumers\":1000}"
#define HEAD                                                                                       \
    "{\"memory\":31,\"storage\":96,\"reserved_memory\":100000,\"reserved_storage\":0,"             \
    "\"accounts\":2,\"ha_assets\":0,\"api\":{\"level\":5,\"total\":5,\"errors\":0},"               \
    "\"server_id\":\"NAQZHTZPDAL6U23JWP4R4MZJWNBTYBOXZJLYACHK4L7C5T6VHXBTS4M6\",\"now\":" NOW      \
    "," CONFIG "," LIMITS
#define SUMS "\"streams\":2,\"consumers\":2,\"messages\":3,\"bytes\":127"
#define NO_LIMIT "18446744073709551615"
#define USAGE_A                                                                                    \
    "\"memory\":0,\"storage\":96,\"reserved_memory\":" NO_LIMIT ",\"reserved_storage\":1048576,"   \
    "\"accounts\":0,\"ha_assets\":0,\"api\":{\"level\":0,\"total\":4,\"errors\":0}"
#define USAGE_G                                                                                    \
    "\"memory\":31,\"storage\":0,\"reserved_memory\":" NO_LIMIT ",\"reserved_storage\":" NO_LIMIT  \
    ",\"accounts\":0,\"ha_assets\":0,\"api\":{\"level\":0,\"total\":1,\"errors\":0}"
#define ORDERS "\"name\":\"ORDERS\",\"created\":" START ",\"cluster\":{\"leader\":\"one\"}"
#define ORDERS_STATE                                                                               \
    "\"state\":{\"messages\":2,\"bytes\":96,\"first_seq\":1,\"first_ts\":" STORED                  \
    ",\"last_seq\":3,\"last_ts\":" STORED ",\"num_subjects\":1,\"num_deleted\":1,"                 \
    "\"consumer_count\":2}"
#define COUNTS                                                                                     \
    "\"delivered\":{\"consumer_seq\":0,\"stream_seq\":0},\"ack_floor\":{\"consumer_seq\":0,"       \
    "\"stream_seq\":0},\"num_ack_pending\":0,\"num_redelivered\":0,\"num_waiting\":0,"             \
    "\"num_pending\":2,\"ts\":" NOW "}"

static void expect_page(struct js_rig *r, const char *query, const char *text)
{
    struct json_write w;
    struct fixture *f = &r->f;
    cr_assert_eq(fixture_query(f, PAGE_JSZ, query), ERR_OK);
    js_rig_collect(r);
    text_clear(&f->body);
    text_clear(&f->error);
    json_write_init(&w, &f->body, 0);
    cr_assert_eq(jsz_write(&f->in, &w, &f->error), ERR_OK);
    text_char(&f->body, 0);
    cr_expect_str_eq(f->body.data, text, "%s\n%s\n%s", query, f->body.data, text);
}

Test(jsz, sums_of_the_server)
{
    struct js_rig r;
    js_rig_open(&r);
    expect_page(&r, "", HEAD "," SUMS ",\"total\":2}");
    expect_page(&r, "leader-only=1&acc=nope", HEAD "," SUMS ",\"total\":2}");
    js_rig_close(&r);
}

Test(jsz, accounts_by_name_with_offset_and_limit)
{
    struct js_rig r;
    js_rig_open(&r);
    const char *global = "{\"name\":\"$G\",\"id\":\"$G\"," USAGE_G "}";
    const char *a = "{\"name\":\"A\",\"id\":\"A\"," USAGE_A "}";
    char text[4096];
    snprintf(text, sizeof text, "%s,\"account_details\":[%s,%s],\"total\":2}", HEAD "," SUMS,
             global, a);
    expect_page(&r, "accounts=1", text);
    expect_page(&r, "accounts=1&offset=1&limit=-1", text);
    snprintf(text, sizeof text, "%s,\"account_details\":[%s],\"total\":2}", HEAD "," SUMS, a);
    expect_page(&r, "accounts=1&offset=1", text);
    expect_page(&r, "acc=A", text);
    snprintf(text, sizeof text, "%s,\"account_details\":[%s],\"total\":2}", HEAD "," SUMS, global);
    expect_page(&r, "accounts=1&limit=1", text);
    expect_page(&r, "accounts=1&offset=2", HEAD "," SUMS ",\"total\":2}");
    js_rig_close(&r);
}

Test(jsz, streams_and_consumers)
{
    struct js_rig r;
    js_rig_open(&r);
    expect_page(&r, "acc=A&streams=1&raft=1&stream-leader-only=1",
                HEAD ",\"streams\":2,\"streams_leader\":2,\"consumers\":2,\"consumers_leader\":2,"
                     "\"messages\":3,\"bytes\":127,\"account_details\":[{\"name\":\"A\",\"id\":"
                     "\"A\"," USAGE_A ",\"stream_detail\":[{" ORDERS "," ORDERS_STATE
                     "}]}],\"total\":2}");
    expect_page(&r, "acc=A&consumers=1",
                HEAD "," SUMS ",\"account_details\":[{\"name\":\"A\",\"id\":\"A\"," USAGE_A
                     ",\"stream_detail\":[{" ORDERS "," ORDERS_STATE ",\"consumer_detail\":["
                     "{\"stream_name\":\"ORDERS\",\"name\":\"A\",\"created\":" START "," COUNTS
                     ",{\"stream_name\":\"ORDERS\",\"name\":\"D\",\"created\":" START "," COUNTS
                     "]}]}],\"total\":2}");
    js_rig_close(&r);
}

Test(jsz, configurations_show_the_metadata_that_does_not_depend_on_the_server)
{
    struct js_rig r;
    struct fixture *f = &r.f;
    struct json_write w;
    js_rig_open(&r);
    cr_assert_eq(fixture_query(f, PAGE_JSZ, "acc=A&consumers=1&config=1"), ERR_OK);
    js_rig_collect(&r);
    text_clear(&f->body);
    json_write_init(&w, &f->body, 0);
    cr_assert_eq(jsz_write(&f->in, &w, &f->error), ERR_OK);
    text_char(&f->body, 0);
    cr_expect_not_null(strstr(f->body.data, "\"config\":{\"name\":\"ORDERS\",\"subjects\":["));
    cr_expect_not_null(strstr(f->body.data, "\"allow_msg_ttl\":false,\"metadata\":{"
                                            "\"_nats.req.level\":\"0\"}},\"state\""));
    cr_expect_not_null(strstr(f->body.data,
                              "\"config\":{\"durable_name\":\"D\",\"name\":\"D\",\"description\":"
                              "\"desc\",\"deliver_policy\":\"all\",\"ack_policy\":\"explicit\","));
    cr_expect_not_null(strstr(f->body.data, "\"metadata\":{\"_nats.req.level\":\"0\",\"team\":"
                                            "\"x\"}},\"delivered\""));
    js_rig_close(&r);
}

Test(jsz, one_account_by_its_name)
{
    struct js_rig r;
    struct fixture *f = &r.f;
    struct json_write w;
    js_rig_open(&r);
    cr_assert_eq(fixture_query(f, PAGE_JSZ, "acc=A"), ERR_OK);
    js_rig_collect(&r);
    json_write_init(&w, &f->body, 0);
    cr_assert_eq(jsz_write_account(&f->in, &w, &f->error), ERR_OK);
    text_char(&f->body, 0);
    cr_expect_str_eq(f->body.data, "{\"name\":\"A\",\"id\":\"A\"," USAGE_A "}");
    static const char *const refused[][2] = {
        {"acc=$SYS", "account \"$SYS\" not jetstream enabled"},
        {"acc=B", "account \"B\" not found"},
    };
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(fixture_query(f, PAGE_JSZ, refused[i][0]), ERR_OK);
        text_clear(&f->error);
        cr_assert_eq(jsz_write_account(&f->in, &w, &f->error), ERR_INVALID);
        text_char(&f->error, 0);
        cr_expect_str_eq(f->error.data, refused[i][1]);
    }
    js_rig_close(&r);
}

Test(jsz, varz_and_statsz_show_what_is_configured_and_held)
{
    struct js_rig r;
    struct fixture *f = &r.f;
    struct json_write w;
    js_rig_open(&r);
    cr_assert_eq(fixture_query(f, PAGE_VARZ, ""), ERR_OK);
    js_rig_collect(&r);
    json_write_init(&w, &f->body, 0);
    json_write_object(&w, NULL);
    jsz_write_server(&f->in, &w, true);
    json_write_end(&w);
    text_char(&f->body, 0);
    cr_expect_str_eq(f->body.data,
                     "{\"jetstream\":{" CONFIG ",\"stats\":{\"memory\":31,\"storage\":96,"
                     "\"reserved_memory\":100000,\"reserved_storage\":0,\"accounts\":2,"
                     "\"ha_assets\":0,\"api\":{\"level\":5,\"total\":5,\"errors\":0}}," LIMITS
                     "}}");
    text_clear(&f->body);
    query_init(&f->query, PAGE_STATSZ);
    cr_assert_eq(query_finish(&f->query, BYTES_LITERAL(""), &f->error), ERR_OK);
    js_rig_collect(&r);
    cr_assert_eq(sysevents_write_statsz(&f->in, &f->body), ERR_OK);
    text_char(&f->body, 0);
    cr_expect_not_null(strstr(f->body.data, "\"jetstream\":true,\"flags\":1,"));
    cr_expect_not_null(strstr(f->body.data, "\"active_servers\":1,\"jetstream\":{\"config\":{"
                                            "\"max_memory\":1073741824,\"max_storage\":"
                                            "10737418240,\"sync_interval\":120000000000,"));
    js_rig_close(&r);
}

Test(jsz, snapshots_survive_running_out_of_memory)
{
    struct js_rig r;
    struct fixture *f = &r.f;
    js_rig_open(&r);
    cr_assert_eq(fixture_query(f, PAGE_JSZ, "consumers=1"), ERR_OK);
    bool is_short = true;
    for (uint64_t allowed = 0; is_short && allowed < 100; allowed++) {
        fixture_reset(f);
        f->heap.fail_at = f->heap.alloc_count + allowed + 1;
        js_snapshot_take(f->shards[0], &r.js[0], &f->query, NULL);
        f->heap.fail_at = 0;
        is_short = f->shards[0]->is_short;
    }
    cr_expect(!is_short);
    js_rig_close(&r);
}

/* nats-server has the member only where it made up neither limit. */
Test(jsz, compression_is_named_where_both_limits_are_given)
{
    struct js_rig r;
    js_rig_open(&r);
    r.f.options.jetstream.memory_bytes_max = -1;
    js_rig_collect(&r);
    struct json_write w;
    text_clear(&r.f.body);
    json_write_init(&w, &r.f.body, 0);
    cr_assert_eq(fixture_query(&r.f, PAGE_JSZ, ""), ERR_OK);
    cr_assert_eq(jsz_write(&r.f.in, &w, &r.f.error), ERR_OK);
    text_char(&r.f.body, 0);
    cr_assert_null(strstr(r.f.body.data, "compress_ok"));
    js_rig_close(&r);
}

/* --- healthz --- */

static void expect_health(struct js_rig *r, const char *query, unsigned status, const char *text)
{
    struct json_write w;
    struct fixture *f = &r->f;
    cr_assert_eq(fixture_query(f, PAGE_HEALTHZ, query), ERR_OK);
    js_rig_collect(r);
    text_clear(&f->body);
    json_write_init(&w, &f->body, 0);
    cr_expect_eq(healthz_write(&f->in, &w, false), status, "%s", query);
    text_char(&f->body, 0);
    cr_expect_str_eq(f->body.data, text, "%s: %s", query, f->body.data);
}

Test(jsz, health_of_accounts_streams_and_consumers)
{
    struct js_rig r;
    js_rig_open(&r);
    expect_health(&r, "", 200, "{\"status\":\"ok\"}");
    expect_health(&r, "account=A&stream=ORDERS&consumer=D", 200, "{\"status\":\"ok\"}");
    expect_health(&r, "account=$G&stream=MEM", 200, "{\"status\":\"ok\"}");
    expect_health(&r, "account=A&stream=NO", 404,
                  "{\"status\":\"unavailable\",\"error\":\"JetStream stream \\\"NO\\\" not found "
                  "on account \\\"A\\\"\"}");
    expect_health(&r, "account=NO", 404,
                  "{\"status\":\"unavailable\",\"error\":\"JetStream account \\\"NO\\\" not "
                  "found\"}");
    expect_health(&r, "account=A&stream=ORDERS&consumer=NO", 404,
                  "{\"status\":\"unavailable\",\"error\":\"JetStream consumer \\\"NO\\\" not found "
                  "for stream \\\"ORDERS\\\" on account \\\"A\\\"\"}");
    expect_health(&r, "account=A&stream=NO&details=1", 404,
                  "{\"status\":\"error\",\"errors\":[{\"type\":\"STREAM\",\"account\":\"A\","
                  "\"stream\":\"NO\",\"error\":\"JetStream stream \\\"NO\\\" not found on account "
                  "\\\"A\\\"\"}]}");
    expect_health(&r, "account=NO&stream=NO&consumer=NO&details=1", 404,
                  "{\"status\":\"error\",\"errors\":[{\"type\":\"ACCOUNT\",\"account\":\"NO\","
                  "\"error\":\"JetStream account \\\"NO\\\" not found\"}]}");
    expect_health(&r, "account=A&stream=NO&consumer=NO&details=1", 404,
                  "{\"status\":\"error\",\"errors\":[{\"type\":\"STREAM\",\"account\":\"A\","
                  "\"stream\":\"NO\",\"error\":\"JetStream stream \\\"NO\\\" not found on account "
                  "\\\"A\\\"\"}]}");
    expect_health(&r, "account=A&stream=NO&js-enabled-only=1", 200, "{\"status\":\"ok\"}");
    expect_health(&r, "account=A&stream=NO&js-server-only=1", 200, "{\"status\":\"ok\"}");
    js_rig_close(&r);
}

Test(jsz, health_of_the_store)
{
    struct js_rig r;
    js_rig_open(&r);
    r.store.state = JS_STORE_FULL;
    expect_health(&r, "", 200, "{\"status\":\"ok\"}");
    r.store.state = JS_STORE_READ_ONLY;
    expect_health(&r, "js-enabled-only=1", 200, "{\"status\":\"ok\"}");
    expect_health(&r, "", 503,
                  "{\"status\":\"unavailable\",\"error\":\"JetStream store is read-only until a "
                  "restart: a write failed\"}");
    r.store.state = JS_STORE_OK;
    r.store.damaged_ranges = 1; /* of each of its two shards */
    expect_health(&r, "", 200, "{\"status\":\"ok\"}");
    expect_health(&r, "details=1", 503,
                  "{\"status\":\"error\",\"errors\":[{\"type\":\"STREAM\",\"error\":\"2 damaged "
                  "ranges in the JetStream store\"}]}");
    js_find(&r.js[0], 5, BYTES_LITERAL("ORDERS"), false)->messages_lost = 3;
    expect_health(&r, "", 200, "{\"status\":\"ok\"}");
    expect_health(&r, "account=A&stream=ORDERS", 503,
                  "{\"status\":\"unavailable\",\"error\":\"3 messages were lost to damage of the "
                  "JetStream store\"}");
    expect_health(&r, "details=1", 503,
                  "{\"status\":\"error\",\"errors\":[{\"type\":\"STREAM\",\"error\":\"3 messages "
                  "were lost to damage of the JetStream store\"}]}");
    r.f.server.jetstream.is_on = false;
    expect_health(&r, "js-server-only=1", 200, "{\"status\":\"ok\"}");
    expect_health(&r, "js-enabled-only=1", 503,
                  "{\"status\":\"unavailable\",\"error\":\"JetStream not enabled (10076)\"}");
    js_rig_close(&r);
}

/* --- metrics --- */

#define ORDERS_LABELS                                                                              \
    ",account=\"A\",account_id=\"A\",account_name=\"A\",stream_name=\"ORDERS\","                   \
    "stream_leader=\"one\",is_stream_leader=\"true\",stream_raft_group=\"\""
#define D_LABELS                                                                                   \
    ORDERS_LABELS ",consumer_name=\"D\",consumer_leader=\"one\",is_consumer_leader=\"true\","      \
                  "consumer_desc=\"desc\""
#define BY_URL "http://0.0.0.0:8222"

/* consumers_max: in place of the query's. */
static void collect_metrics_of(struct js_rig *r, const char *query, uint32_t consumers_max)
{
    struct fixture *f = &r->f;
    cr_assert_eq(fixture_query(f, PAGE_METRICS, query), ERR_OK);
    f->query.js_consumers_max = consumers_max;
    js_rig_collect(r);
    text_clear(&f->body);
    cr_assert_eq(metrics_write(&f->in, &f->body), ERR_OK);
    text_char(&f->body, 0);
}

static void collect_metrics(struct js_rig *r, const char *query)
{
    collect_metrics_of(r, query, QUERY_METRICS_SINGLES);
}

/* labels: those behind the ones that name the server. */
static void expect_sample(struct js_rig *r, const char *name, const char *labels, const char *value,
                          const char *server_id)
{
    char line[1024];
    snprintf(line, sizeof line,
             "\n%s{cluster=\"\",domain=\"\",is_meta_leader=\"true\",meta_leader=\"\",server_id="
             "\"%s\",server_name=\"one\"%s} %s\n",
             name, server_id, labels, value);
    cr_expect_not_null(strstr(r->f.body.data, line), "%s", line);
}

Test(jsz, metrics_have_the_names_and_labels_of_the_exporter)
{
    struct js_rig r;
    js_rig_open(&r);
    collect_metrics(&r, "");
    expect_sample(&r, "jetstream_server_total_messages", "", "3", BY_URL);
    expect_sample(&r, "jetstream_server_jetstream_disabled", "", "0", BY_URL);
    expect_sample(&r, "jetstream_server_max_storage", "", "10737418240", BY_URL);
    expect_sample(&r, "jetstream_account_storage_used",
                  ",account=\"A\",account_id=\"A\",account_name=\"A\"", "96", BY_URL);
    expect_sample(&r, "jetstream_stream_total_bytes", ORDERS_LABELS, "96", BY_URL);
    expect_sample(&r, "jetstream_stream_limit_messages", ORDERS_LABELS, "100", BY_URL);
    expect_sample(&r, "jetstream_stream_limit_bytes", ORDERS_LABELS, "-1", BY_URL);
    expect_sample(&r, "jetstream_consumer_num_pending", D_LABELS, "2", BY_URL);
    cr_expect_null(strstr(r.f.body.data, "consumer_name=\"A\""), "ephemeral ones are not shown");
    cr_expect_not_null(strstr(r.f.body.data, "\ngnatsd_varz_jetstream_stats_api_total{"));
    cr_expect_not_null(strstr(r.f.body.data, "\ngnatsd_varz_jetstream_config_max_storage{"));
    collect_metrics(&r, "prefix=nats&consumers=all");
    const char *id = "NAQZHTZPDAL6U23JWP4R4MZJWNBTYBOXZJLYACHK4L7C5T6VHXBTS4M6";
    expect_sample(&r, "nats_stream_total_bytes", ORDERS_LABELS, "96", id);
    cr_expect_not_null(strstr(r.f.body.data, "consumer_name=\"A\""));
    collect_metrics(&r, "consumers=none");
    cr_expect_null(strstr(r.f.body.data, "consumer_name="));
    collect_metrics(&r, "streams=0");
    cr_expect_null(strstr(r.f.body.data, "stream_name="));
    cr_expect_eq(fixture_query(&r.f, PAGE_METRICS, "consumers=x"), ERR_INVALID);
    js_rig_close(&r);
}

Test(jsz, metrics_leave_single_ones_out_where_there_are_too_many)
{
    struct js_rig r;
    js_rig_open(&r);
    cr_assert_eq(fixture_query(&r.f, PAGE_METRICS, ""), ERR_OK);
    cr_expect_eq(r.f.query.js_consumers_max, QUERY_METRICS_SINGLES);
    cr_expect_eq(r.f.query.js_streams_max, QUERY_METRICS_SINGLES);
    cr_assert_eq(fixture_query(&r.f, PAGE_METRICS, "consumers=durable&streams=1"), ERR_OK);
    cr_expect_eq(r.f.query.js_consumers_max, 0, "who asks for them gets them");
    cr_expect_eq(r.f.query.js_streams_max, 0);

    collect_metrics(&r, "");
    cr_expect_not_null(strstr(r.f.body.data, "\nmillrace_jetstream_left_out_consumers 0\n"));
    collect_metrics_of(&r, "", 1);
    cr_expect_not_null(strstr(r.f.body.data, "\nmillrace_jetstream_left_out_consumers 2\n"));
    cr_expect_not_null(strstr(r.f.body.data, "\nmillrace_jetstream_left_out_streams 0\n"));
    cr_expect_null(strstr(r.f.body.data, "consumer_name="));
    cr_expect_not_null(strstr(r.f.body.data, "stream_name=\"ORDERS\""));
    js_rig_close(&r);
}

Test(jsz, metrics_of_our_own_about_the_store_and_the_lag)
{
    struct js_rig r;
    js_rig_open(&r);
    r.store = (struct js_store_counts){.records = 30,
                                       .groups = 3,
                                       .published_bytes = 1000,
                                       .written_bytes = 2500,
                                       .recovery_ns = 1500000000,
                                       .state = JS_STORE_FULL};
    collect_metrics(&r, "");
    const char *body = r.f.body.data;
    cr_expect_not_null(strstr(body, "\nmillrace_jetstream_group_records_mean 10\n"));
    cr_expect_not_null(strstr(body, "\nmillrace_jetstream_written_bytes_per_byte 2.5\n"));
    cr_expect_not_null(strstr(body, "\nmillrace_jetstream_recovery_seconds 1.5\n"));
    cr_expect_not_null(strstr(body, "\nmillrace_jetstream_sync_always 1\n"));
    cr_expect_not_null(strstr(body, "\nmillrace_jetstream_store_state{state=\"full\"} 1\n"));
    cr_expect_not_null(strstr(body, "\nmillrace_jetstream_store_state{state=\"ok\"} 0\n"));
    /* Stored at second 1, and it is second 34. */
    expect_sample(&r, "millrace_jetstream_consumer_lag_seconds", D_LABELS, "33",
                  "NAQZHTZPDAL6U23JWP4R4MZJWNBTYBOXZJLYACHK4L7C5T6VHXBTS4M6");
    cr_expect_not_null(strstr(body, "\ngnatsd_healthz_status{server_id=\"" BY_URL "\"} 0\n"));
    r.f.server.jetstream.is_on = false;
    collect_metrics(&r, "");
    cr_expect_not_null(
        strstr(r.f.body.data, "\ngnatsd_healthz_status{server_id=\"" BY_URL "\"} 1\n"));
    cr_expect_not_null(strstr(
        r.f.body.data, "\ngnatsd_healthz_js_server_only_status{server_id=\"" BY_URL "\"} 0\n"));
    cr_expect_null(strstr(r.f.body.data, "millrace_jetstream_sync"));
    js_rig_close(&r);
}
