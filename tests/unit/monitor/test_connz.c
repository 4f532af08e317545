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

/* Cids 1..20 on shard 0, 21..40 on shard 1; as many closed ones from 101 on. */
static const char *connz(const char *query)
{
    fixture_reset(&f);
    cr_assert_eq(fixture_query(&f, PAGE_CONNZ, query), ERR_OK, "%s", query);
    for (uint32_t shard = 0; shard < 2; shard++) {
        uint64_t first = 1 + shard * 20;
        if (f.query.collect & COLLECT_CONNECTIONS)
            fixture_collect(&f, shard, first, first + 19, false);
        if (f.query.collect & COLLECT_CLOSED)
            fixture_collect(&f, shard, first + 100, first + 119, true);
    }
    return fixture_render(&f);
}

TestSuite(connz, .init = setup, .fini = teardown);

Test(connz, an_answer_looks_exactly_like_that_of_nats_server)
{
    fixture_query(&f, PAGE_CONNZ, "auth=1&subs=detail");
    struct shard_snapshot *s = f.shards[1];
    struct conn_snapshot *c = snapshot_add_conn(s);
    cr_assert_not_null(c);
    *c = fixture_conn(7);
    c->next = NULL;
    c->rtt_ns = 475123;
    c->tls_version = BYTES_LITERAL("1.3");
    c->tls_cipher = BYTES_LITERAL("TLS_AES_128_GCM_SHA256");
    s->conns_total = 1;
    struct sub_snapshot *sub = snapshot_add_conn_sub(s, c);
    cr_assert_not_null(sub);
    sub->subject = BYTES_LITERAL("foo.>");
    sub->sid = BYTES_LITERAL("2");
    sub->queue = BYTES_LITERAL("q");
    sub->cid = 7;
    sub->msgs = 3;
    sub->max = 10;
    sub->account_name = BYTES_LITERAL("A");
    cr_assert_str_eq(fixture_render(&f),
                     "{\n"
                     "  \"server_id\": "
                     "\"NAQZHTZPDAL6U23JWP4R4MZJWNBTYBOXZJLYACHK4L7C5T6VHXBTS4M6\",\n"
                     "  \"now\": \"2026-11-21T09:16:40.0000005Z\",\n"
                     "  \"num_connections\": 1,\n"
                     "  \"total\": 1,\n"
                     "  \"offset\": 0,\n"
                     "  \"limit\": 1024,\n"
                     "  \"connections\": [\n"
                     "    {\n"
                     "      \"cid\": 7,\n"
                     "      \"kind\": \"Client\",\n"
                     "      \"type\": \"nats\",\n"
                     "      \"ip\": \"127.0.0.1\",\n"
                     "      \"port\": 50007,\n"
                     "      \"start\": \"2026-11-21T09:16:13.0000005Z\",\n"
                     "      \"last_activity\": \"2026-11-21T09:16:36.000000493Z\",\n"
                     "      \"rtt\": \"475µs\",\n"
                     "      \"uptime\": \"27s\",\n"
                     "      \"idle\": \"4s\",\n"
                     "      \"pending_bytes\": 0,\n"
                     "      \"in_msgs\": 10,\n"
                     "      \"out_msgs\": 9,\n"
                     "      \"in_bytes\": 100,\n"
                     "      \"out_bytes\": 90,\n"
                     "      \"subscriptions\": 4,\n"
                     "      \"name\": \"client\",\n"
                     "      \"lang\": \"c\",\n"
                     "      \"version\": \"1.0\",\n"
                     "      \"tls_version\": \"1.3\",\n"
                     "      \"tls_cipher_suite\": \"TLS_AES_128_GCM_SHA256\",\n"
                     "      \"authorized_user\": \"u\",\n"
                     "      \"account\": \"A\",\n"
                     "      \"subscriptions_list_detail\": [\n"
                     "        {\n"
                     "          \"subject\": \"foo.\\u003e\",\n"
                     "          \"qgroup\": \"q\",\n"
                     "          \"sid\": \"2\",\n"
                     "          \"msgs\": 3,\n"
                     "          \"max\": 10,\n"
                     "          \"cid\": 7\n"
                     "        }\n"
                     "      ],\n"
                     "      \"name_tag\": \"A\"\n"
                     "    }\n"
                     "  ]\n"
                     "}");
    cr_assert_eq(f.answer.status, 200);
    cr_assert_str_eq(f.answer.content_type, "application/json");
    cr_assert(f.answer.is_cors);
}

Test(connz, pages_are_cut_out_of_all_shards)
{
    const char *page = connz("offset=18&limit=4");
    fixture_expect(page, "num_connections", "4");
    fixture_expect(page, "total", "40");
    fixture_expect(page, "offset", "18");
    fixture_expect(page, "limit", "4");
    fixture_expect(page, "connections.0.cid", "19");
    fixture_expect(page, "connections.3.cid", "22");
}

Test(connz, offsets_beyond_the_end_and_huge_limits_are_harmless)
{
    const char *page = connz("offset=9223372036854775807&limit=9223372036854775807");
    fixture_expect(page, "num_connections", "0");
    fixture_expect(page, "connections", "[]");
    page = connz("offset=39&limit=9223372036854775807");
    fixture_expect(page, "num_connections", "1");
    fixture_expect(page, "connections.0.cid", "40");
}

/* Every order, page by page, equals the order of all at once. */
Test(connz, each_order_is_total_and_pages_agree_with_it)
{
    const char *orders[] = {"cid",   "start",      "subs",     "pending", "msgs_to", "msgs_from",
                            "last",  "idle",       "uptime",   "rtt",     "bytes_to", "bytes_from",
                            "stop",  "reason"};
    char query[128], whole[64];
    for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
        const char *state = i >= 12 ? "closed" : "open";
        for (int offset = 0; offset < 40; offset += 9) {
            snprintf(query, sizeof query, "sort=%s&state=%s&offset=%d&limit=1", orders[i], state,
                     offset);
            const char *page = connz(query);
            const char *at = fixture_at(page, "connections.0.cid");
            cr_assert_not_null(at);
            snprintf(whole, sizeof whole, "%.*s", (int)strspn(at, "0123456789"), at);
            /* Offset 0 with that many more shows the same one in its place. */
            snprintf(query, sizeof query, "sort=%s&state=%s&limit=%d", orders[i], state,
                     offset + 1);
            page = connz(query);
            at = fixture_at(page, "connections");
            for (int skip = 0; skip <= offset; skip++) {
                at = strstr(at, "\"cid\": ");
                cr_assert_not_null(at);
                at += 7;
            }
            cr_assert_eq(strncmp(at, whole, strlen(whole)), 0, "%s at %d", orders[i], offset);
        }
    }
}

Test(connz, numbers_sort_downwards_and_ids_upwards)
{
    fixture_expect(connz("sort=cid&limit=1"), "connections.0.cid", "1");
    fixture_expect(connz("sort=msgs_to&limit=1"), "connections.0.out_msgs", "12");
    fixture_expect(connz("sort=bytes_from&limit=1"), "connections.0.in_bytes", "100");
    fixture_expect(connz("sort=subs&limit=1"), "connections.0.subscriptions", "4");
    fixture_expect(connz("sort=last&limit=1"), "connections.0.cid", "1");
    fixture_expect(connz("sort=idle&limit=1"), "connections.0.cid", "40");
    fixture_expect(connz("sort=uptime&limit=1"), "connections.0.cid", "40");
    fixture_expect(connz("sort=reason&state=closed&limit=1"), "connections.0.reason",
                   "\"Authentication Expired\"");
}

Test(connz, filters_choose_by_id_account_and_user)
{
    const char *page = connz("cid=33");
    fixture_expect(page, "num_connections", "1");
    fixture_expect(page, "total", "40");
    fixture_expect(page, "limit", "1");
    fixture_expect(page, "connections.0.cid", "33");
    fixture_expect(connz("cid=77"), "connections", "[]");
    page = connz("acc=A");
    fixture_expect(page, "total", "20");
    fixture_expect(page, "num_connections", "20");
    page = connz("user=u&limit=5");
    fixture_expect(page, "total", "40");
    fixture_expect(page, "num_connections", "5");
    fixture_expect(connz("user=nobody"), "num_connections", "0");
    fixture_expect(connz("state=any"), "total", "80");
    fixture_expect(connz("cid=133&state=any"), "connections.0.cid", "133");
}

Test(connz, an_unknown_account_has_no_connections_and_no_id)
{
    const char *page = connz("acc=nix");
    fixture_expect(page, "server_id", "\"\"");
    fixture_expect(page, "connections", "null");
}

Test(connz, fields_come_in_the_order_of_nats_server)
{
    const char *fields =
        "cid kind? type? ip port start last_activity stop? reason? rtt? uptime idle pending_bytes "
        "in_msgs out_msgs in_bytes out_bytes stalls? subscriptions name? lang? version? "
        "tls_version? tls_cipher_suite? tls_peer_certs? tls_first? authorized_user? account? "
        "subscriptions_list? subscriptions_list_detail? jwt? issuer_key? name_tag? tags? "
        "mqtt_client? proxy?";
    const char *page = connz("auth=1&state=any&sort=cid&limit=3");
    fixture_expect_fields(page, "server_id now num_connections total offset limit connections");
    fixture_expect_fields(fixture_at(page, "connections.0"), fields);
    page = connz("auth=1&state=closed");
    fixture_expect_fields(fixture_at(page, "connections.0"), fields);
    cr_assert_not_null(fixture_at(page, "connections.0.stop"));
    cr_assert_not_null(fixture_at(page, "connections.0.reason"));
}

Test(connz, users_are_shown_on_request_only)
{
    const char *page = connz("cid=1");
    cr_assert_null(fixture_at(page, "connections.0.authorized_user"));
    cr_assert_null(fixture_at(page, "connections.0.account"));
    page = connz("cid=1&auth=1");
    fixture_expect(page, "connections.0.authorized_user", "\"u\"");
    fixture_expect(page, "connections.0.account", "\"A\"");
    page = connz("cid=2&auth=1");
    cr_assert_null(fixture_at(page, "connections.0.account"), "$G is not named");
    fixture_expect(page, "connections.0.name_tag", "\"$G\"");
}

Test(connz, out_of_memory_is_said)
{
    fixture_query(&f, PAGE_CONNZ, "");
    fixture_collect(&f, 0, 1, 5, false);
    f.heap.fail_at = f.heap.alloc_count + 1;
    f.heap.fail_from = 1;
    page_render(&f.in, &f.body, &f.answer);
    cr_assert_eq(f.answer.status, 503);
    f.heap.fail_at = 0;
}
