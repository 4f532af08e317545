#include "core/base/json.h"
#include "core/monitor/sysreq.h"
#include "tests/unit/monitor/fixture.h"

#define ID "NAQZHTZPDAL6U23JWP4R4MZJWNBTYBOXZJLYACHK4L7C5T6VHXBTS4M6"

static struct fixture f;
static struct sysreq r;
static const struct sysreq_from operator = {{"$SYS", 4}, true};
static const struct sysreq_from tenant = {{"A", 1}, false};

static void setup(void)
{
    json_init(1);
    fixture_open(&f);
    f.server.seq = 41;
}

static void teardown(void)
{
    fixture_close(&f);
}

static enum sysreq_verdict parse(const struct sysreq_from *from, const char *subject,
                                 const char *body)
{
    text_clear(&f.error);
    return sysreq_parse(&f.heap.mem, &f.server, from, bytes_from_text(subject),
                        bytes_from_text(body), &f.query, &r, &f.error);
}

/* The reply with a zero behind it; NULL when there is none. */
static const char *reply(const struct sysreq_from *from, const char *subject, const char *body)
{
    enum sysreq_verdict verdict = parse(from, subject, body);
    text_clear(&f.body);
    if (verdict == SYSREQ_SILENT) return NULL;
    if (verdict == SYSREQ_REFUSED) {
        sysreq_write_error(&f.body, &f.server, 400, text_written(&f.error));
    } else {
        cr_assert_eq(verdict, SYSREQ_COLLECT, "%s", subject);
        enum err e = sysreq_write_reply(&f.in, &r, BYTES_LITERAL("abcdefghijklmnopqrstuv"),
                                        &f.error, &f.body);
        if (e == ERR_CLOSED) return NULL;
        cr_assert_eq(e, ERR_OK);
    }
    text_char(&f.body, '\0');
    return f.body.data;
}

static void add_account(uint32_t account, uint32_t connections)
{
    struct shard_snapshot *s = f.shards[0];
    s->accounts = snapshot_alloc(s, sizeof *s->accounts);
    cr_assert_not_null(s->accounts);
    s->account_count = 1;
    s->accounts[0] = (struct account_snapshot){.account = account, .connections = connections};
}

TestSuite(sysreq, .init = setup, .fini = teardown);

Test(sysreq, replies_are_wrapped_with_the_server)
{
    const char *a = reply(&operator, "$SYS.REQ.SERVER." ID ".HEALTHZ", "");
    cr_assert_str_eq(a, "{\"server\":{\"name\":\"one\",\"host\":\"0.0.0.0\",\"id\":\"" ID
                        "\",\"ver\":\"2.15.2\",\"feature_flags\":{\"js_ack_fc_v2\":false,"
               "\"js_api_reply_v2\":false,\"js_raft_delete_range\":true,"
               "\"js_snapshot_sources\":false},\"jetstream\":false,\"flags\":0,\"seq\":41,"
                        "\"time\":\"2026-11-21T09:16:40.0000005Z\"},"
                        "\"data\":{\"status\":\"ok\",\"status_code\":200}}");
    a = reply(&operator, "$SYS.REQ.SERVER.PING.VARZ", "");
    fixture_expect_fields(a, "server data");
    fixture_expect(a, "data.server_name", "\"one\"");
}

Test(sysreq, id_and_statsz_have_their_own_form)
{
    const char *a = reply(&operator, "$SYS.REQ.SERVER.PING.IDZ", "{\"server_name\":\"zzz\"}");
    cr_assert_str_eq(a, "{\"name\":\"one\",\"host\":\"0.0.0.0\",\"id\":\"" ID "\"}");
    add_account(5, 2);
    a = reply(&operator, "$SYS.REQ.SERVER.PING", "");
    fixture_expect_fields(a, "server statsz");
    fixture_expect_fields(fixture_at(a, "statsz"),
                          "start mem cores cpu connections total_connections active_accounts "
                          "subscriptions sent sent_to_clients received received_from_clients "
                          "slow_consumers slow_consumer_stats? stale_connections? "
                          "stale_connection_stats? stalled_clients? routes? gateways? "
                          "active_servers? jetstream? gomemlimit? gomaxprocs?");
    fixture_expect(a, "statsz.active_accounts", "1");
    fixture_expect_fields(fixture_at(a, "statsz.sent"), "msgs bytes");
}

Test(sysreq, every_request_of_the_table_is_known)
{
    const char *server[] = {"IDZ",   "STATSZ",   "VARZ", "SUBSZ",   "CONNZ",   "ROUTEZ",
                            "LEAFZ", "ACCOUNTZ", "JSZ",  "HEALTHZ", "EXPVARZ", "IPQUEUESZ",
                            "RAFTZ", "PROFILEZ", "GATEWAYZ"};
    char subject[128];
    for (size_t i = 0; i < sizeof server / sizeof server[0]; i++) {
        snprintf(subject, sizeof subject, "$SYS.REQ.SERVER." ID ".%s", server[i]);
        cr_expect_not_null(reply(&operator, subject, ""), "%s", subject);
        snprintf(subject, sizeof subject, "$SYS.REQ.SERVER.PING.%s", server[i]);
        cr_expect_not_null(reply(&operator, subject, "{}"), "%s", subject);
        snprintf(subject, sizeof subject, "$SYS.REQ.SERVER.NOTME.%s", server[i]);
        cr_expect_null(reply(&operator, subject, ""), "%s", subject);
    }
    add_account(5, 1);
    const char *account[] = {"SUBSZ", "CONNZ", "LEAFZ", "JSZ", "INFO", "STATZ", "CONNS"};
    for (size_t i = 0; i < sizeof account / sizeof account[0]; i++) {
        snprintf(subject, sizeof subject, "$SYS.REQ.ACCOUNT.A.%s", account[i]);
        cr_expect_not_null(reply(&operator, subject, ""), "%s", subject);
    }
}

Test(sysreq, unknown_subjects_stay_without_answer)
{
    const char *subjects[] = {"$SYS.REQ.SERVER.PING.NOPE", "$SYS.REQ.SERVER",
                              ("$SYS.REQ.SERVER." ID),     "$SYS.REQ.ACCOUNT.A.NOPE",
                              "$SYS.REQ.ACCOUNT.A.B.CONNZ", "$SYS.REQ.SERVER.PING.RELOAD",
                              "$SYS.REQ.SERVER.PING.KICK", "foo", ""};
    for (size_t i = 0; i < sizeof subjects / sizeof subjects[0]; i++)
        cr_expect_eq(parse(&operator, subjects[i], ""), SYSREQ_SILENT, "%s", subjects[i]);
}

Test(sysreq, normal_accounts_see_only_themselves)
{
    cr_assert_eq(parse(&tenant, "$SYS.REQ.SERVER.PING.VARZ", ""), SYSREQ_SILENT);
    cr_assert_eq(parse(&tenant, "$SYS.REQ.SERVER." ID ".CONNZ", ""), SYSREQ_SILENT);
    cr_assert_eq(parse(&tenant, "$SYS.REQ.ACCOUNT.B.CONNZ", ""), SYSREQ_SILENT);
    cr_assert_eq(parse(&tenant, "$SYS.REQ.SERVER." ID ".RELOAD", ""), SYSREQ_SILENT);
    const char *open[] = {"$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.ACCOUNT.PING.CONNZ"};
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(parse(&tenant, open[i], "{\"acc\":\"$SYS\"}"), SYSREQ_COLLECT);
        cr_assert(bytes_equal(f.query.account, BYTES_LITERAL("A")));
        cr_assert_eq(f.query.account_number, 5);
    }
    cr_assert_eq(parse(&tenant, "$SYS.REQ.ACCOUNT.PING.STATZ", "{\"accounts\":[\"$SYS\",\"$G\"]}"),
                 SYSREQ_COLLECT);
    cr_assert_eq(f.query.name_count, 1);
    cr_assert(bytes_equal(f.query.names[0], BYTES_LITERAL("A")));
    cr_assert_eq(parse(&tenant, "$SYS.REQ.USER.INFO", ""), SYSREQ_USER);
}

Test(sysreq, the_filter_leaves_other_servers_silent)
{
    const struct bytes tags[] = {BYTES_LITERAL("a:b"), BYTES_LITERAL("zone:1")};
    f.options.server_tags = (struct options_texts){tags, 2};
    f.server.cluster = BYTES_LITERAL("east");
    const char *pass[] = {"{\"server_name\":\"on\"}", "{\"cluster\":\"eas\"}",
                          "{\"server_name\":\"one\",\"exact_match\":true,\"host\":\"0.0.0.0\"}",
                          "{\"tags\":[\"zone:1\",\"a:b\"]}", "{\"Server_Name\":\"one\"}", "null"};
    const char *fail[] = {"{\"server_name\":\"on\",\"exact_match\":true}", "{\"cluster\":\"x\"}",
                          "{\"tags\":[\"zone:1\",\"zone:2\"]}", "{\"domain\":\"x\"}",
                          "{\"host\":\"1\"}"};
    for (size_t i = 0; i < sizeof pass / sizeof pass[0]; i++)
        cr_expect_eq(parse(&operator, "$SYS.REQ.SERVER.PING.VARZ", pass[i]), SYSREQ_COLLECT, "%s",
                     pass[i]);
    for (size_t i = 0; i < sizeof fail / sizeof fail[0]; i++)
        cr_expect_eq(parse(&operator, "$SYS.REQ.SERVER.PING.VARZ", fail[i]), SYSREQ_SILENT, "%s",
                     fail[i]);
}

Test(sysreq, options_become_the_query)
{
    cr_assert_eq(parse(&operator, "$SYS.REQ.SERVER.PING.CONNZ",
                       "{\"sort\":\"bytes_to\",\"auth\":true,\"subscriptions\":true,\"offset\":3,"
                       "\"limit\":7,\"state\":2,\"user\":\"u\",\"acc\":\"A\","
                       "\"filter_subject\":\"foo.>\",\"unknown\":[1]}"),
                 SYSREQ_COLLECT);
    cr_assert_eq(f.query.sort, CONN_SORT_BYTES_TO);
    cr_assert(f.query.auth && f.query.subs);
    cr_assert_eq(f.query.offset, 3);
    cr_assert_eq(f.query.limit, 7);
    cr_assert_eq(f.query.state, CONN_STATE_ALL);
    cr_assert_eq(f.query.account_number, 5);
    cr_assert(bytes_equal(f.query.filter_subject, BYTES_LITERAL("foo.>")));
    cr_assert_eq(f.query.collect,
                 COLLECT_CONNECTIONS | COLLECT_CLOSED | COLLECT_CONNECTION_SUBS);
}

Test(sysreq, a_bad_body_is_told_with_400)
{
    const char *bodies[] = {"{bad", "[1]", "7", "{\"limit\":\"a\"}", "{\"state\":\"closed\"}",
                            "{\"tags\":\"x\"}", "{\"tags\":[1]}", "{\"state\":3}"};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        const char *a = reply(&operator, "$SYS.REQ.SERVER.PING.CONNZ", bodies[i]);
        cr_assert_not_null(a, "%s", bodies[i]);
        fixture_expect_fields(a, "server error");
        fixture_expect(a, "error.code", "400");
    }
}

Test(sysreq, what_the_page_refuses_is_told_with_500_and_no_data)
{
    const struct {
        const char *subject, *body, *description;
    } cases[] = {
        {"$SYS.REQ.SERVER.PING.CONNZ", "{\"sort\":\"zz\"}", "\"invalid sorting option: zz\""},
        {"$SYS.REQ.SERVER.PING.CONNZ", "{\"filter_subject\":\"a\"}",
         "\"filter by subject only valid with account filtering\""},
        {"$SYS.REQ.SERVER.PING.ACCOUNTZ", "{\"account\":\"nope\"}",
         "\"Account nope does not exist\""},
        {"$SYS.REQ.ACCOUNT.nope.INFO", "", "\"Account nope does not exist\""},
        {"$SYS.REQ.ACCOUNT.A.JSZ", "", "\"jetstream not enabled\""},
        {"$SYS.REQ.SERVER.PING.SUBSZ", "{\"test\":\"a.*\"}",
         "\"invalid test subject, must be valid publish subject: a.*\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *a = reply(&operator, cases[i].subject, cases[i].body);
        cr_assert_not_null(a);
        fixture_expect_fields(a, "server data error");
        fixture_expect(a, "data", "null");
        fixture_expect(a, "error.code", "500");
        fixture_expect(a, "error.description", cases[i].description);
    }
}

Test(sysreq, statistics_of_an_idle_account_need_include_unused)
{
    cr_assert_null(reply(&operator, "$SYS.REQ.ACCOUNT.$G.STATZ", ""));
    const char *a = reply(&operator, "$SYS.REQ.ACCOUNT.$G.STATZ", "{\"include_unused\":true}");
    fixture_expect(a, "data.account_statz.0.acc", "\"$G\"");
    cr_assert_null(reply(&operator, "$SYS.REQ.ACCOUNT.PING.STATZ", ""));
    add_account(5, 1);
    a = reply(&operator, "$SYS.REQ.ACCOUNT.PING.STATZ", "");
    fixture_expect(a, "data.account_statz.0.acc", "\"A\"");
    cr_assert_null(reply(&operator, "$SYS.REQ.ACCOUNT.PING.STATZ", "{\"accounts\":[\"$G\"]}"));
}

Test(sysreq, counts_of_an_account_have_no_wrapper)
{
    cr_assert_null(reply(&operator, "$SYS.REQ.ACCOUNT.A.CONNS", ""));
    add_account(5, 2);
    const char *a = reply(&operator, "$SYS.REQ.ACCOUNT.A.CONNS", "");
    fixture_expect_fields(a, "type id timestamp server acc name conns leafnodes total_conns "
                             "num_subscriptions sent received slow_consumers");
    f.shards[0]->subs_matched = 3;
    f.shards[1]->subs_matched = 4;
    a = reply(&operator, "$SYS.REQ.ACCOUNT.NSUBS", "{\"acc\":\"A\",\"subj\":\"foo.a\"}");
    cr_assert_str_eq(a, "7");
    cr_assert_eq(query_window(&f.query), 0, "only counted");
    cr_assert_null(reply(&operator, "$SYS.REQ.ACCOUNT.NSUBS", ""));
}

Test(sysreq, account_requests_are_about_that_account)
{
    cr_assert_eq(parse(&operator, "$SYS.REQ.ACCOUNT.A.SUBSZ", "{\"account\":\"$G\"}"),
                 SYSREQ_COLLECT);
    cr_assert_eq(f.query.account_number, 5);
    cr_assert_eq(f.query.collect, COLLECT_SUBS);
    const char *a = reply(&operator, "$SYS.REQ.ACCOUNT.PING.CONNZ", "");
    fixture_expect(a, "data.server_id", "\"\"");
    fixture_expect(a, "data.connections", "null");
}

Test(sysreq, only_leaders_answer_when_asked_for_leaders)
{
    cr_assert_null(reply(&operator, "$SYS.REQ.SERVER.PING.JSZ", "{\"leader_only\":true}"));
    cr_assert_not_null(reply(&operator, "$SYS.REQ.SERVER.PING.JSZ", ""));
}

Test(sysreq, actions_name_their_connection)
{
    cr_assert_eq(parse(&operator, "$SYS.REQ.SERVER." ID ".RELOAD", ""), SYSREQ_RELOAD);
    cr_assert_eq(parse(&operator, "$SYS.REQ.SERVER." ID ".KICK", "{\"cid\":12}"), SYSREQ_KICK);
    cr_assert_eq(r.cid, 12);
    cr_assert_eq(parse(&operator, "$SYS.REQ.SERVER." ID ".LDM", "{\"cid\":13}"), SYSREQ_LDM);
    cr_assert_eq(r.cid, 13);
    cr_assert_eq(parse(&operator, "$SYS.REQ.SERVER." ID ".KICK", ""), SYSREQ_SILENT);
    cr_assert_eq(parse(&operator, "$SYS.REQ.SERVER." ID ".KICK", "{\"cid\":-1}"), SYSREQ_SILENT);
    text_clear(&f.body);
    sysreq_write_done(&f.body, &f.server, BYTES_LITERAL("no such client or leafnode id"));
    text_char(&f.body, '\0');
    fixture_expect_fields(f.body.data, "server error");
    text_clear(&f.body);
    sysreq_write_done(&f.body, &f.server, BYTES_LITERAL(""));
    text_char(&f.body, '\0');
    fixture_expect_fields(f.body.data, "server");
}

Test(sysreq, users_learn_who_they_are)
{
    const struct bytes allow[] = {BYTES_LITERAL("foo.>"), BYTES_LITERAL("bar q")};
    struct perms_spec spec = {.publish_allow = {allow, 1},
                              .subscribe_allow = {allow, 2},
                              .has_responses = true,
                              .responses_max = 1,
                              .responses_ttl_ns = 120000000000};
    struct sysreq_user user = {.user = BYTES_LITERAL("u"),
                               .account = BYTES_LITERAL("A"),
                               .account_name = BYTES_LITERAL("A"),
                               .permissions = &spec};
    sysreq_write_user(&f.body, &f.server, &user);
    text_char(&f.body, '\0');
    const char *data = fixture_at(f.body.data, "data");
    cr_assert_str_eq(data, "{\"user\":\"u\",\"account\":\"A\",\"account_name\":\"A\","
                           "\"permissions\":{\"publish\":{\"allow\":[\"foo.\\u003e\"]},"
                           "\"subscribe\":{\"allow\":[\"foo.\\u003e\",\"bar q\"]},"
                           "\"responses\":{\"max\":1,\"ttl\":120000000000}}}}");
}

Test(sysreq, hostile_bodies_are_survived)
{
    static char body[SYSREQ_BODY_MAX + 2];
    memset(body, '[', sizeof body - 1);
    fixture_expect(reply(&operator, "$SYS.REQ.SERVER.PING.VARZ", body), "error.code", "400");
    memset(body, ' ', sizeof body - 1);
    fixture_expect(reply(&operator, "$SYS.REQ.SERVER.PING.VARZ", body), "error.code", "400");
    memset(body, 'x', 9000);
    memcpy(body, "{\"user\":\"", 9);
    memcpy(body + 9000, "\"}", 3);
    fixture_expect(reply(&operator, "$SYS.REQ.SERVER.PING.CONNZ", body), "error.description",
                   "\"request too long\"");
}

Test(sysreq, each_failed_allocation_is_survived)
{
    for (uint64_t n = 1; n < 60; n++) {
        f.heap.alloc_count = 0;
        f.heap.fail_at = n;
        enum sysreq_verdict verdict =
            parse(&operator, "$SYS.REQ.SERVER.PING.CONNZ", "{\"limit\":3,\"tags\":[]}");
        text_deinit(&f.body);
        if (verdict == SYSREQ_COLLECT) {
            enum err e = sysreq_write_reply(&f.in, &r, BYTES_LITERAL("x"), &f.error, &f.body);
            cr_assert(e == ERR_OK || e == ERR_MEMORY);
        }
        f.heap.fail_at = 0;
    }
}
