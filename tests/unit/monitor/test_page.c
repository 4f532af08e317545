#include "core/monitor/healthz.h"
#include "core/route/mapping.h"
#include "tests/unit/monitor/fixture.h"

static struct fixture f;

static void setup(void)
{
    fixture_open(&f);
}

static void teardown(void)
{
    fixture_close(&f);
}

static const char *page(enum page which, const char *query)
{
    enum err e = fixture_query(&f, which, query);
    cr_assert_eq(e, ERR_OK, "%s", query);
    return fixture_render(&f);
}

/* Field lists of nats-server 2.15; ? marks what may be left out. */
static const char varz_fields[] =
    "server_id server_name version proto git_commit? go host port auth_required? tls_required? "
    "tls_verify? tls_ocsp_peer_verify? ip? connect_urls? ws_connect_urls? max_connections "
    "max_subscriptions? ping_interval ping_max http_host http_port http_base_path https_port "
    "auth_timeout max_control_line max_payload max_pending cluster gateway leaf mqtt websocket "
    "jetstream tls_timeout write_deadline write_timeout? start now uptime mem cores gomaxprocs "
    "gomemlimit? cpu connections total_connections routes remotes leafnodes in_msgs in_bytes "
    "in_client_msgs in_client_bytes out_msgs out_bytes out_client_msgs out_client_bytes "
    "slow_consumers stale_connections stalled_clients subscriptions http_req_stats "
    "config_load_time config_digest tags? metadata? feature_flags? trusted_operators_jwt? "
    "trusted_operators_claim? system_account? pinned_account_fails? ocsp_peer_cache? "
    "slow_consumer_stats stale_connection_stats? disk_io_wait_stats proxies? tls_cert_not_after?";

TestSuite(page, .init = setup, .fini = teardown);

Test(page, varz_has_the_fields_of_nats_server_in_their_order)
{
    const char *v = page(PAGE_VARZ, "");
    fixture_expect_fields(v, varz_fields);
    fixture_expect_fields(fixture_at(v, "slow_consumer_stats"), "clients routes gateways leafs");
    fixture_expect_fields(fixture_at(v, "disk_io_wait_stats"),
                          "waiters waits wait_time max_wait_time");
    fixture_expect(v, "jetstream", "{}");
    fixture_expect(v, "http_base_path", "\"\"");
    fixture_expect(v, "uptime", "\"34s\"");
    fixture_expect(v, "cpu", "1.5");
    fixture_expect(v, "max_payload", "1048576");
    fixture_expect(v, "max_connections", "65536");
    fixture_expect(v, "ping_interval", "120000000000");
    fixture_expect(v, "write_deadline", "10000000000");
    fixture_expect(v, "auth_timeout", "2");
    fixture_expect(v, "tls_timeout", "2");
    fixture_expect(v, "system_account", "\"$SYS\"");
    cr_assert_null(fixture_at(v, "auth_required"));
    cr_assert_null(fixture_at(v, "tls_cert_not_after"));
}

Test(page, varz_with_everything_set_keeps_the_order)
{
    const struct bytes urls[] = {BYTES_LITERAL("10.0.0.1:4222"), BYTES_LITERAL("10.0.0.2:4222")};
    const struct options_pair metadata[] = {{BYTES_LITERAL("zone"), BYTES_LITERAL("1")},
                                            {BYTES_LITERAL("a"), BYTES_LITERAL("<x>")}};
    f.server.connect_urls = urls;
    f.server.connect_url_count = 2;
    f.server.ws_connect_urls = urls;
    f.server.ws_connect_url_count = 1;
    f.server.git_commit = BYTES_LITERAL("abc");
    f.server.ip = BYTES_LITERAL("10.0.0.1");
    f.server.is_auth_required = f.server.is_tls_required = f.server.is_tls_verify = true;
    f.server.tls_not_after_ns = FIXTURE_START_NS - 500;
    f.server.memory_limit_bytes = 1 << 30;
    f.server.cluster = BYTES_LITERAL("c1");
    f.options.max_subscriptions = 10;
    f.options.write_timeout = OPTIONS_WRITE_TIMEOUT_RETRY;
    f.options.server_tags = (struct options_texts){urls, 2};
    f.options.server_metadata = (struct options_pairs){metadata, 2};
    f.options.http_base_path = BYTES_LITERAL("/nats");
    const char *v = page(PAGE_VARZ, "");
    fixture_expect_fields(v, varz_fields);
    fixture_expect(v, "cluster.name", "\"c1\"");
    fixture_expect(v, "http_base_path", "\"/nats\"");
    fixture_expect(v, "connect_urls.1", "\"10.0.0.2:4222\"");
    fixture_expect(v, "metadata.a", "\"\\u003cx\\u003e\"");
    fixture_expect_fields(fixture_at(v, "metadata"), "a zone");
    fixture_expect(v, "write_timeout", "\"retry\"");
    fixture_expect(v, "tls_cert_not_after", "\"2026-11-21T09:16:06Z\"");
}

Test(page, varz_adds_up_the_shards)
{
    for (int i = 0; i < 2; i++) {
        struct shard_counts *c = &f.shards[i]->counts;
        c->connections = 3;
        c->in = (struct traffic){10, 100};
        c->out_clients = (struct traffic){7, 70};
        c->slow_consumers.clients = 1;
        c->slow_consumers.routes = 2;
        c->subscriptions = 5;
    }
    const char *v = page(PAGE_VARZ, "");
    fixture_expect(v, "connections", "6");
    fixture_expect(v, "in_msgs", "20");
    fixture_expect(v, "in_bytes", "200");
    fixture_expect(v, "out_client_bytes", "140");
    fixture_expect(v, "slow_consumers", "6");
    fixture_expect(v, "slow_consumer_stats.routes", "4");
    fixture_expect(v, "subscriptions", "10");
}

Test(page, requests_are_counted_by_path_in_the_order_of_the_paths)
{
    f.pages.requests[PAGE_VARZ] = 2;
    f.pages.requests[PAGE_ROOT] = 1;
    f.pages.requests[PAGE_HEALTHZ] = 9;
    const char *v = page(PAGE_VARZ, "");
    fixture_expect_fields(fixture_at(v, "http_req_stats"), "/ /healthz /varz");
    fixture_expect(v, "http_req_stats./varz", "2");
}

Test(page, subsz_pages_over_the_shards)
{
    fixture_query(&f, PAGE_SUBSZ, "subs=1&offset=3&limit=2");
    for (uint32_t i = 0; i < 2; i++) {
        for (uint64_t k = 0; k < 4; k++) {
            f.shards[i]->subs_matched++;
            struct sub_snapshot *s = snapshot_add_sub(f.shards[i]);
            cr_assert_not_null(s);
            s->subject = BYTES_LITERAL("foo");
            s->sid = BYTES_LITERAL("1");
            s->account_name = s->account_tag = BYTES_LITERAL("A");
            s->cid = i * 10 + k;
        }
    }
    f.server.interest = (struct interest_counts){
        .subscriptions = 8, .inserts = 9, .removes = 1, .matches = 30, .max_fanout = 4};
    f.shards[0]->counts.route_cache.hits = 10;
    f.shards[1]->counts.route_cache.entries = 3;
    const char *p = fixture_render(&f);
    fixture_expect_fields(p, "server_id now num_subscriptions num_cache num_inserts num_removes "
                             "num_matches cache_hit_rate max_fanout avg_fanout total offset limit "
                             "subscriptions_list");
    fixture_expect(p, "total", "8");
    fixture_expect(p, "num_matches", "40");
    fixture_expect(p, "cache_hit_rate", "0.25");
    fixture_expect(p, "num_cache", "3");
    fixture_expect_fields(fixture_at(p, "subscriptions_list.0"),
                          "account? account_tag? subject qgroup? sid msgs max? cid");
    fixture_expect(p, "subscriptions_list.0.cid", "3");
    fixture_expect(p, "subscriptions_list.1.cid", "10");
    cr_assert_null(fixture_at(p, "subscriptions_list.2"));
    cr_assert_null(fixture_at(page(PAGE_SUBSZ, ""), "subscriptions_list"));
}

Test(page, a_subscription_belongs_when_the_test_subject_matches)
{
    cr_assert_eq(fixture_query(&f, PAGE_SUBSZ, "test=foo.bar&acc=A&subs=1"), ERR_OK);
    cr_assert(query_wants_sub(&f.query, 5, BYTES_LITERAL("foo.*")));
    cr_assert_not(query_wants_sub(&f.query, 5, BYTES_LITERAL("foo")));
    cr_assert_not(query_wants_sub(&f.query, 0, BYTES_LITERAL("foo.*")));
}

Test(page, empty_shapes_are_those_of_nats_server)
{
    fixture_expect_fields(page(PAGE_ROUTEZ, ""), "server_id server_name now num_routes routes");
    fixture_expect(f.body.data, "routes", "[]");
    fixture_expect_fields(page(PAGE_GATEWAYZ, ""),
                          "server_id now outbound_gateways inbound_gateways");
    fixture_expect(f.body.data, "outbound_gateways", "{}");
    fixture_expect_fields(page(PAGE_LEAFZ, ""), "server_id now leafnodes leafs");
    fixture_expect(f.body.data, "leafs", "[]");
    cr_assert_str_eq(page(PAGE_IPQUEUESZ, ""), "{}");
    fixture_expect_fields(page(PAGE_JSZ, "accounts=1&streams=1"),
                          "memory storage reserved_memory reserved_storage accounts ha_assets api "
                          "server_id now disabled config limits? streams consumers messages bytes "
                          "total");
    fixture_expect(f.body.data, "disabled", "true");
    fixture_expect_fields(fixture_at(f.body.data, "api"), "level total errors");
    fixture_expect_fields(fixture_at(f.body.data, "config"), "max_memory max_storage");
    cr_assert_str_eq(page(PAGE_JSZ, "leader-only=1"), "filtered response: not leader");
    cr_assert_eq(f.answer.status, 400);
}

static void add_account(uint32_t shard, uint32_t account, uint32_t connections)
{
    struct shard_snapshot *s = f.shards[shard];
    s->accounts = snapshot_alloc(s, sizeof *s->accounts);
    cr_assert_not_null(s->accounts);
    s->account_count = 1;
    s->accounts[0] = (struct account_snapshot){.account = account,
                                               .connections = connections,
                                               .subscriptions = 3,
                                               .sent = {2, 20},
                                               .received = {1, 10},
                                               .slow_consumers = 1};
}

Test(page, account_statistics_leave_out_the_unused)
{
    add_account(0, 5, 2);
    add_account(1, 5, 1);
    const char *p = page(PAGE_ACCSTATZ, "");
    fixture_expect_fields(p, "server_id now account_statz");
    fixture_expect_fields(fixture_at(p, "account_statz.0"),
                          "acc name conns leafnodes total_conns num_subscriptions sent received "
                          "slow_consumers");
    fixture_expect_fields(fixture_at(p, "account_statz.0.sent"),
                          "msgs bytes gateways routes leafs");
    fixture_expect(p, "account_statz.0.acc", "\"A\"");
    fixture_expect(p, "account_statz.0.conns", "3");
    fixture_expect(p, "account_statz.0.sent.bytes", "40");
    fixture_expect(p, "account_statz.0.slow_consumers", "2");
    cr_assert_null(fixture_at(p, "account_statz.1"));
    p = page(PAGE_ACCSTATZ, "unused=true");
    fixture_expect(p, "account_statz.0.acc", "\"$G\"");
    fixture_expect(p, "account_statz.2.acc", "\"A\"");
}

Test(page, accounts_are_listed_or_shown_in_detail)
{
    add_account(0, 5, 2);
    const char *p = page(PAGE_ACCOUNTZ, "");
    fixture_expect_fields(p, "server_id now system_account accounts");
    fixture_expect(p, "accounts.1", "\"$SYS\"");
    p = page(PAGE_ACCOUNTZ, "acc=A");
    fixture_expect_fields(p, "server_id now system_account account_detail");
    fixture_expect_fields(fixture_at(p, "account_detail"),
                          "account_name update_time is_system? expired complete jetstream_enabled "
                          "leafnode_connections client_connections subscriptions mappings? "
                          "exports? imports? jwt? issuer_key? name_tag? tags? decoded_jwt? "
                          "validation_result_jwt? revoked_user? sublist_stats responses?");
    fixture_expect(p, "account_detail.client_connections", "2");
    cr_assert_str_eq(page(PAGE_ACCOUNTZ, "acc=nix"), "Account nix does not exist");
    cr_assert_eq(f.answer.status, 400);
    cr_assert_not(f.answer.is_cors);
}

Test(page, mappings_are_shown_with_growing_weights)
{
    struct mapping_set *set;
    const struct mapping_destination w[] = {{BYTES_LITERAL("x"), 40, {NULL, 0}},
                                            {BYTES_LITERAL("y"), 60, {NULL, 0}}};
    const struct mapping_destination m[] = {{BYTES_LITERAL("n.$1"), 100, {NULL, 0}}};
    cr_assert_eq(mapping_set_open(&f.heap.mem, BYTES_LITERAL(""), &set), ERR_OK);
    cr_assert_eq(mapping_set_add(set, BYTES_LITERAL("w"), w, 2, NULL), ERR_OK);
    cr_assert_eq(mapping_set_add(set, BYTES_LITERAL("m.*"), m, 1, NULL), ERR_OK);
    f.a.mappings = set;
    const char *p = page(PAGE_ACCOUNTZ, "acc=A");
    const char *mappings = fixture_at(p, "account_detail.mappings");
    fixture_expect_fields(mappings, "m.* w");
    cr_assert_not_null(strstr(mappings, "\"subject\": \"n.$1\",\n          \"weight\": 100"));
    fixture_expect(mappings, "w.0.weight", "40");
    fixture_expect(mappings, "w.1.weight", "100");
    mapping_set_free(&f.heap.mem, set);
}

Test(page, health_is_compact_and_has_a_status)
{
    cr_assert_str_eq(page(PAGE_HEALTHZ, ""), "{\"status\":\"ok\"}");
    cr_assert_eq(f.answer.status, 200);
    cr_assert_str_eq(page(PAGE_HEALTHZ, "stream=x"),
                     "{\"status\":\"error\",\"error\":\"\\\"account\\\" must not be empty when "
                     "checking stream health\"}");
    cr_assert_eq(f.answer.status, 400);
    cr_assert_str_eq(page(PAGE_HEALTHZ, "consumer=x&details=1"),
                     "{\"status\":\"error\",\"errors\":[{\"type\":\"BAD_REQUEST\",\"error\":"
                     "\"\\\"stream\\\" must not be empty when checking consumer health\"}]}");
    f.server.is_ready = false;
    f.server.not_ready_reason = BYTES_LITERAL("not yet");
    cr_assert_str_eq(page(PAGE_HEALTHZ, "js-server-only=true"),
                     "{\"status\":\"error\",\"error\":\"not yet\"}");
    cr_assert_eq(f.answer.status, 500);
}

static void expect_failure(const char *query, const char *said)
{
    char room[8192];
    struct text line;
    text_init_in(&line, room, sizeof room);
    cr_assert_eq(fixture_query(&f, PAGE_HEALTHZ, query), ERR_OK);
    healthz_write_failure(&f.in, &line);
    cr_assert(bytes_equal(text_written(&line), bytes_from_text(said)), "%.*s", (int)line.len,
              line.data);
}

Test(page, a_failed_check_has_a_line_for_the_log)
{
    expect_failure("", "");
    expect_failure(
        "stream=S",
        "Healthcheck failed: \"\\\"account\\\" must not be empty when checking stream health\"");
    expect_failure("stream=S&details=1", "Healthcheck failed: 1 errors");
}

Test(page, other_pages_answer_something)
{
    cr_assert_not_null(strstr(page(PAGE_ROOT, ""), "href=\"/varz\""));
    cr_assert_not_null(strstr(page(PAGE_ROOT, ""), "<h1>Millrace 0.1.0 (nats-server 2.15.2)</h1>"));
    cr_assert_str_eq(f.answer.content_type, "text/html; charset=utf-8");
    cr_assert_str_eq(page(PAGE_NONE, ""), "404 page not found\n");
    cr_assert_eq(f.answer.status, 404);
    cr_assert_str_eq(page(PAGE_RAFTZ, ""), "No Raft nodes registered");
    cr_assert_eq(f.answer.status, 404);
    fixture_expect_fields(page(PAGE_EXPVARZ, ""), "cmdline memstats");
    cr_assert_not_null(strstr(page(PAGE_STACKSZ, ""), "shard 1: turns"));
}

Test(page, foreign_text_cannot_break_the_html)
{
    f.server.name = BYTES_LITERAL("<script>\"&");
    cr_assert_not_null(strstr(page(PAGE_ROOT, ""), "&lt;script&gt;&quot;&amp;"));
}

Test(page, a_snapshot_that_ran_short_is_no_answer)
{
    f.shards[1]->is_short = true;
    page(PAGE_VARZ, "");
    cr_assert_eq(f.answer.status, 503);
}

/* Every page under every failing allocation: an answer, and nothing leaks. */
Test(page, each_failed_allocation_is_survived)
{
    static const struct {
        enum page page;
        const char *query;
    } cases[] = {{PAGE_VARZ, ""},     {PAGE_CONNZ, ""},           {PAGE_SUBSZ, ""},
                 {PAGE_ACCSTATZ, ""}, {PAGE_ACCOUNTZ, ""},        {PAGE_ACCOUNTZ, "acc=A"},
                 {PAGE_METRICS, ""},  {PAGE_JSZ, "leader-only=1"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (uint64_t n = 1; n < 40; n++) {
            fixture_reset(&f);
            cr_assert_eq(fixture_query(&f, cases[i].page, cases[i].query), ERR_OK);
            text_deinit(&f.body);
            f.heap.alloc_count = 0;
            f.heap.fail_at = n;
            page_render(&f.in, &f.body, &f.answer);
            f.heap.fail_at = 0;
            cr_assert(f.answer.status == 200 || f.answer.status == 503 || f.answer.status == 400);
            if (f.answer.status == 200) cr_assert_gt(f.body.len, 0);
        }
    }
}
