#include "core/monitor/sysevents.h"
#include "tests/unit/monitor/fixture.h"

static struct fixture f;
static const struct sysevents_head head = {{"abcdefghijklmnopqrstuv", 22},
                                           FIXTURE_START_NS + FIXTURE_SECOND_NS};

#define SERVER_FIELDS                                                                              \
    "name host id cluster? domain? ver tags? metadata? feature_flags? jetstream flags seq time"

static void setup(void)
{
    fixture_open(&f);
    f.server.seq = 7;
}

static void teardown(void)
{
    fixture_close(&f);
}

static const char *body(void)
{
    text_char(&f.body, '\0');
    return f.body.data;
}

TestSuite(sysevents, .init = setup, .fini = teardown);

Test(sysevents, subjects_are_those_of_nats_server)
{
    const struct {
        enum sysevents_kind event;
        const char *subject;
    } cases[] = {
        {SYSEVENTS_CONNECT, "$SYS.ACCOUNT.X.CONNECT"},
        {SYSEVENTS_DISCONNECT, "$SYS.ACCOUNT.X.DISCONNECT"},
        {SYSEVENTS_ACCOUNT_CONNS, "$SYS.ACCOUNT.X.SERVER.CONNS"},
        {SYSEVENTS_ACCOUNT_CONNS_LEGACY, "$SYS.SERVER.ACCOUNT.X.CONNS"},
        {SYSEVENTS_STATSZ, "$SYS.SERVER.X.STATSZ"},
        {SYSEVENTS_LAMEDUCK, "$SYS.SERVER.X.LAMEDUCK"},
        {SYSEVENTS_SHUTDOWN, "$SYS.SERVER.X.SHUTDOWN"},
        {SYSEVENTS_AUTH_ERROR, "$SYS.SERVER.X.CLIENT.AUTH.ERR"},
        {SYSEVENTS_ACCOUNT_AUTH_ERROR, "$SYS.ACCOUNT.CLIENT.AUTH.ERR"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        text_clear(&f.body);
        sysevents_subject(&f.body, cases[i].event, BYTES_LITERAL("X"));
        cr_expect_str_eq(body(), cases[i].subject);
    }
}

Test(sysevents, a_login_is_told_with_the_client)
{
    struct conn_snapshot c = fixture_conn(7);
    sysevents_write_connect(&f.body, &f.server, &head, &c);
    const char *b = body();
    fixture_expect_fields(b, "type id timestamp server client");
    fixture_expect_fields(fixture_at(b, "server"), SERVER_FIELDS);
    fixture_expect(b, "type", "\"io.nats.server.advisory.v1.client_connect\"");
    fixture_expect(b, "timestamp", "\"2026-11-21T09:16:07.0000005Z\"");
    cr_assert_not_null(strstr(b, "\"client\":{\"start\":\"2026-11-21T09:16:13.0000005Z\","
                                 "\"host\":\"127.0.0.1\",\"id\":7,\"acc\":\"A\",\"user\":\"u\","
                                 "\"name\":\"client\",\"lang\":\"c\",\"ver\":\"1.0\","
                                 "\"name_tag\":\"A\",\"kind\":\"Client\","
                                 "\"client_type\":\"nats\"}}"));
}

Test(sysevents, the_end_is_told_with_traffic_and_reason)
{
    struct conn_snapshot c = fixture_conn(7);
    c.stop_ns = c.start_ns + FIXTURE_SECOND_NS;
    sysevents_write_disconnect(&f.body, &f.server, &head, &c, closed_reason_text(CLOSED_STALE));
    const char *b = body();
    fixture_expect_fields(b, "type id timestamp server client sent received reason");
    fixture_expect_fields(fixture_at(b, "client"),
                          "start? host? id? acc? svc? user? name? lang? ver? rtt? server? cluster? "
                          "alts? stop? jwt? issuer_key? name_tag? tags? kind? client_type? "
                          "client_id? nonce? reply?");
    fixture_expect(b, "sent.msgs", "10");
    fixture_expect(b, "received.msgs", "9");
    fixture_expect(b, "client.rtt", "149000");
    fixture_expect(b, "client.stop", "\"2026-11-21T09:16:14.0000005Z\"");
    fixture_expect(b, "reason", "\"Stale Connection\"");
}

Test(sysevents, a_client_without_account_is_named_so)
{
    struct conn_snapshot c = {.cid = 3, .kind = CONN_KIND_CLIENT, .stop_ns = FIXTURE_START_NS};
    sysevents_write_disconnect(&f.body, &f.server, &head, &c,
                               closed_reason_text(CLOSED_AUTH_FAILURE));
    fixture_expect(body(), "client.acc", "\"N/A\"");
}

Test(sysevents, account_counts_carry_their_statistics)
{
    struct account_snapshot sums = {.account = 5, .connections = 2, .leafs = 1};
    sysevents_write_account(&f.body, &f.server, &head, &f.a, &sums);
    const char *b = body();
    fixture_expect_fields(b, "type id timestamp server acc name conns leafnodes total_conns "
                             "num_subscriptions sent received slow_consumers");
    fixture_expect(b, "type", "\"io.nats.server.advisory.v1.account_connections\"");
    fixture_expect(b, "total_conns", "3");
}

Test(sysevents, a_farewell_is_the_server_alone)
{
    sysevents_write_farewell(&f.body, &f.server);
    fixture_expect_fields(body(), SERVER_FIELDS);
}

Test(sysevents, statistics_show_troubles_only_when_there_are_some)
{
    f.shards[0]->counts.slow_consumers.clients = 2;
    f.shards[1]->counts.stalled_clients = 3;
    f.server.memory_limit_bytes = 1 << 30;
    cr_assert_eq(sysevents_write_statsz(&f.in, &f.body), ERR_OK);
    const char *b = body();
    fixture_expect(b, "statsz.slow_consumer_stats.clients", "2");
    fixture_expect(b, "statsz.stalled_clients", "3");
    fixture_expect(b, "statsz.gomemlimit", "1073741824");
    cr_assert_null(fixture_at(b, "statsz.stale_connection_stats"));
}
