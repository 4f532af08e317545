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

enum { FAMILIES_MAX = 400, SAMPLES_MAX = 8000 };

struct family {
    struct bytes name;
    struct bytes type;
    bool is_closed; /* another family came after it */
    uint32_t samples;
};

static struct family families[FAMILIES_MAX];
static uint32_t family_count;
static struct bytes samples[SAMPLES_MAX]; /* name and labels */
static uint32_t sample_count;

static bool is_name_char(char c, bool is_first, bool is_label)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_') return true;
    if (c == ':') return !is_label;
    return !is_first && c >= '0' && c <= '9';
}

static struct family *family_of(struct bytes name)
{
    for (uint32_t i = 0; i < family_count; i++)
        if (bytes_equal(families[i].name, name)) return &families[i];
    return NULL;
}

static struct bytes take_name(const char **at, bool is_label)
{
    const char *start = *at;
    while (is_name_char(**at, *at == start, is_label)) (*at)++;
    cr_assert_neq(*at, start, "a name at %.40s", start);
    return bytes_of(start, (size_t)(*at - start));
}

/* The family a sample belongs to: its own name, or without the suffix of a histogram. */
static struct family *family_of_sample(struct bytes name)
{
    struct family *own = family_of(name);
    if (own != NULL) return own;
    const char *suffixes[] = {"_bucket", "_sum", "_count"};
    for (int i = 0; i < 3; i++) {
        struct bytes suffix = bytes_from_text(suffixes[i]);
        if (!bytes_ends_with(name, suffix)) continue;
        own = family_of(bytes_of(name.data, name.len - suffix.len));
        if (own != NULL && bytes_equal(own->type, BYTES_LITERAL("histogram"))) return own;
    }
    return NULL;
}

static void read_comment(const char *line, const char *end)
{
    const char *at = line + 7;
    bool is_help = strncmp(line, "# HELP ", 7) == 0;
    cr_assert(is_help || strncmp(line, "# TYPE ", 7) == 0, "%.60s", line);
    struct bytes name = take_name(&at, false);
    cr_assert_eq(*at, ' ');
    at++;
    struct bytes rest = bytes_of(at, (size_t)(end - at));
    cr_assert_gt(rest.len, 0);
    struct family *known = family_of(name);
    if (is_help) {
        cr_assert_null(known, "HELP of %.*s twice", (int)name.len, name.data);
        cr_assert_lt(family_count, FAMILIES_MAX);
        if (family_count > 0) families[family_count - 1].is_closed = true;
        families[family_count++] = (struct family){.name = name};
        return;
    }
    cr_assert_not_null(known);
    cr_assert_eq(known->type.len, 0, "TYPE twice");
    cr_assert_eq(known->samples, 0, "TYPE comes before samples");
    cr_assert(bytes_equal(rest, BYTES_LITERAL("gauge")) ||
              bytes_equal(rest, BYTES_LITERAL("counter")) ||
              bytes_equal(rest, BYTES_LITERAL("untyped")) ||
              bytes_equal(rest, BYTES_LITERAL("histogram")));
    known->type = rest;
}

static const char *read_labels(const char *at)
{
    cr_assert_eq(*at, '{');
    do {
        at++;
        take_name(&at, true);
        cr_assert_eq(*at, '=');
        at++;
        cr_assert_eq(*at, '"');
        for (at++; *at != '"'; at++) {
            cr_assert_neq(*at, '\n');
            cr_assert_neq(*at, '\0');
            if (*at != '\\') continue;
            at++;
            cr_assert(*at == '\\' || *at == '"' || *at == 'n');
        }
        at++;
    } while (*at == ',');
    cr_assert_eq(*at, '}');
    return at + 1;
}

static void read_sample(const char *line, const char *end)
{
    const char *at = line;
    struct bytes name = take_name(&at, false);
    struct family *family = family_of_sample(name);
    cr_assert_not_null(family, "no family for %.60s", line);
    cr_assert_not(family->is_closed, "samples of %.60s are not in a row", line);
    cr_assert_gt(family->type.len, 0);
    family->samples++;
    if (*at == '{') at = read_labels(at);
    struct bytes identity = bytes_of(line, (size_t)(at - line));
    for (uint32_t i = 0; i < sample_count; i++)
        cr_assert_not(bytes_equal(samples[i], identity), "twice: %.*s", (int)identity.len, line);
    cr_assert_lt(sample_count, SAMPLES_MAX);
    samples[sample_count++] = identity;
    cr_assert_eq(*at, ' ');
    char number[64];
    size_t len = (size_t)(end - at - 1);
    cr_assert_lt(len, sizeof number);
    memcpy(number, at + 1, len);
    number[len] = '\0';
    char *stop;
    (void)strtod(number, &stop);
    cr_assert(stop != number && *stop == '\0', "a value: %.80s", line);
}

/* Reads a whole exposition and asserts every rule of the format. */
static void read_all(const char *text)
{
    family_count = sample_count = 0;
    while (*text != '\0') {
        const char *end = strchr(text, '\n');
        cr_assert_not_null(end, "the last line ends with a newline");
        if (*text == '#')
            read_comment(text, end);
        else
            read_sample(text, end);
        text = end + 1;
    }
    for (uint32_t i = 0; i < family_count; i++)
        cr_assert_gt(families[i].samples, 0, "%.*s is empty", (int)families[i].name.len,
                     families[i].name.data);
}

static const char *metrics(const char *query)
{
    cr_assert_eq(fixture_query(&f, PAGE_METRICS, query), ERR_OK);
    const char *text = fixture_render(&f);
    cr_assert_eq(f.answer.status, 200);
    read_all(text);
    return text;
}

static void expect_line(const char *text, const char *line)
{
    char wanted[512];
    snprintf(wanted, sizeof wanted, "\n%s\n", line);
    cr_expect_not_null(strstr(text, wanted), "%s", line);
}

TestSuite(metrics, .init = setup, .fini = teardown);

Test(metrics, the_default_spelling_is_that_of_the_exporter)
{
    f.shards[0]->counts.connections = 3;
    f.shards[1]->counts.in = (struct traffic){7, 70};
    f.shards[1]->counts.in_clients = (struct traffic){5, 50};
    f.pages.requests[PAGE_VARZ] = 4;
    f.pages.requests[PAGE_ROOT] = 1;
    const char *t = metrics("");
    cr_assert_str_eq(f.answer.content_type, "text/plain; version=0.0.4; charset=utf-8");
    expect_line(t, "gnatsd_varz_connections{server_id=\"http://0.0.0.0:8222\"} 3");
    expect_line(t, "# TYPE gnatsd_varz_connections gauge");
    expect_line(t, "# HELP gnatsd_varz_in_msgs in_msgs");
    expect_line(t, "gnatsd_varz_in_msgs{server_id=\"http://0.0.0.0:8222\"} 7");
    expect_line(t, "gnatsd_varz_cpu{server_id=\"http://0.0.0.0:8222\"} 1.5");
    expect_line(t, "gnatsd_varz_slow_consumer_stats_clients{server_id=\"http://0.0.0.0:8222\"} 0");
    expect_line(t, "gnatsd_varz_http_req_stats_varz{server_id=\"http://0.0.0.0:8222\"} 4");
    expect_line(t, "gnatsd_varz_http_req_stats_root{server_id=\"http://0.0.0.0:8222\"} 1");
    expect_line(t, "gnatsd_varz_start{server_id=\"http://0.0.0.0:8222\"} 1795252566000");
    expect_line(t,
                "gnatsd_varz_version{server_id=\"http://0.0.0.0:8222\",value=\"2.15.2\"} 1");
    expect_line(t, "gnatsd_connz_in_bytes{server_id=\"http://0.0.0.0:8222\"} 50");
    expect_line(t, "# TYPE gnatsd_connz_in_bytes counter");
    expect_line(t, "gnatsd_healthz_status{server_id=\"http://0.0.0.0:8222\"} 0");
    expect_line(t, "gnatsd_healthz_status_value{server_id=\"http://0.0.0.0:8222\",value=\"ok\"} 1");
    expect_line(t, "gnatsd_subsz_cache_hit_rate{server_id=\"http://0.0.0.0:8222\"} 0");
    expect_line(t, "gnatsd_routez_num_routes{server_id=\"http://0.0.0.0:8222\"} 0");
    expect_line(t, "gnatsd_leafz_conn_nodes_total{server_id=\"http://0.0.0.0:8222\"} 0");
    expect_line(t, "gnatsd_accstatz_current_connections{account=\"A\",account_id=\"A\","
                   "account_name=\"A\",server_id=\"http://0.0.0.0:8222\"} 0");
    expect_line(t, "gnatsd_accountz_is_system{account_id=\"$SYS\",account_name=\"$SYS\","
                   "server_id=\"http://0.0.0.0:8222\"} 1");
    expect_line(t, "gnatsd_accountz_limit_conn{account_id=\"A\",account_name=\"A\","
                   "server_id=\"http://0.0.0.0:8222\"} -1");
    expect_line(t, "process_open_fds 12");
    expect_line(t, "process_resident_memory_bytes 16236544");
    cr_assert_not_null(strstr(t, "\njetstream_server_jetstream_disabled{"));
}

Test(metrics, another_prefix_names_servers_by_their_id)
{
    const char *t = metrics("prefix=nats");
    expect_line(t, "nats_varz_connections{server_id="
                   "\"NAQZHTZPDAL6U23JWP4R4MZJWNBTYBOXZJLYACHK4L7C5T6VHXBTS4M6\"} 0");
    cr_assert_not_null(strstr(t, "\nnats_server_total_streams{"));
    cr_assert_null(strstr(t, "gnatsd_"));
    f.options.metrics_prefix = BYTES_LITERAL("nats");
    t = metrics("");
    cr_assert_not_null(strstr(t, "\nnats_varz_connections{"));
}

/* What the exporter shows of /varz of a server without JetStream, routes and cluster. */
Test(metrics, every_number_of_varz_is_there)
{
    static const char *const names[] = {
        "auth_timeout", "config_load_time", "connections", "cores", "cpu",
        "disk_io_wait_stats_max_wait_time", "disk_io_wait_stats_wait_time",
        "disk_io_wait_stats_waiters", "disk_io_wait_stats_waits", "gomaxprocs", "http_port",
        "https_port", "in_bytes", "in_client_bytes", "in_client_msgs", "in_msgs", "leafnodes",
        "max_connections", "max_control_line", "max_payload", "max_pending", "mem", "out_bytes",
        "out_client_bytes", "out_client_msgs", "out_msgs", "ping_interval", "ping_max", "port",
        "proto", "remotes", "routes", "server_id", "server_name", "slow_consumer_stats_clients",
        "slow_consumer_stats_gateways", "slow_consumer_stats_leafs", "slow_consumer_stats_routes",
        "slow_consumers", "stale_connection_stats_clients", "stale_connection_stats_gateways",
        "stale_connection_stats_leafs", "stale_connection_stats_routes", "stale_connections",
        "stalled_clients", "start", "subscriptions", "tls_timeout", "total_connections",
        "version", "write_deadline"};
    metrics("");
    uint32_t varz = 0;
    for (uint32_t i = 0; i < family_count; i++)
        if (bytes_starts_with(families[i].name, BYTES_LITERAL("gnatsd_varz_"))) varz++;
    cr_assert_eq(varz, sizeof names / sizeof names[0]);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char name[128];
        snprintf(name, sizeof name, "gnatsd_varz_%s", names[i]);
        cr_expect_not_null(family_of(bytes_from_text(name)), "%s", name);
    }
}

Test(metrics, own_figures_have_a_sample_per_shard)
{
    f.shards[1]->counts.turns = 9;
    f.shards[1]->counts.busy_ns = 1500000000;
    f.shards[0]->counts.parks[PARK_INDEX] = 2;
    f.shards[0]->counts.memory_bytes[MEM_ROUTE] = 77;
    f.server.system_dropped = 3;
    f.shards[0]->counts.driver.wakes = 5;
    const char *t = metrics("");
    expect_line(t, "millrace_shard_turns_total{shard=\"0\"} 0");
    expect_line(t, "millrace_shard_turns_total{shard=\"1\"} 9");
    expect_line(t, "millrace_shard_busy_seconds_total{shard=\"1\"} 1.5");
    expect_line(t, "millrace_parks_total{shard=\"0\",reason=\"index\"} 2");
    expect_line(t, "millrace_memory_bytes{shard=\"0\",class=\"route\"} 77");
    expect_line(t, "millrace_memory_bytes{shard=\"0\",class=\"store\"} 0");
    expect_line(t, "millrace_system_requests_dropped_total 3");
    expect_line(t, "millrace_driver_wakes_total{shard=\"0\"} 5");
    expect_line(t, "millrace_shards 2");
}

Test(metrics, histograms_of_the_shards_are_one)
{
    static struct histogram h;
    histogram_init(&h);
    histogram_add(&h, 1000000);
    histogram_add(&h, 900);
    snapshot_add_histogram(f.shards[0], SHARD_HISTOGRAM_DELIVER, &h);
    histogram_add(&h, UINT64_C(70000000000));
    snapshot_add_histogram(f.shards[1], SHARD_HISTOGRAM_DELIVER, &h);
    const char *t = metrics("");
    expect_line(t, "# TYPE millrace_deliver_seconds histogram");
    expect_line(t, "millrace_deliver_seconds_bucket{le=\"1e-06\"} 2");
    expect_line(t, "millrace_deliver_seconds_bucket{le=\"0.0005\"} 2");
    expect_line(t, "millrace_deliver_seconds_bucket{le=\"0.001\"} 4");
    expect_line(t, "millrace_deliver_seconds_bucket{le=\"50\"} 4");
    expect_line(t, "millrace_deliver_seconds_bucket{le=\"+Inf\"} 5");
    expect_line(t, "millrace_deliver_seconds_count 5");
    cr_assert_null(strstr(t, "millrace_turn_seconds"), "nobody keeps that one");
}

Test(metrics, connections_one_by_one_are_bounded)
{
    cr_assert_eq(fixture_query(&f, PAGE_METRICS, "connz_detailed=1&limit=3"), ERR_OK);
    cr_assert(f.query.collect & COLLECT_CONNECTIONS);
    fixture_collect(&f, 0, 1, 10, false);
    fixture_collect(&f, 1, 11, 20, false);
    const char *t = metrics("connz_detailed=1&limit=3");
    uint32_t count = 0;
    for (const char *at = t; (at = strstr(at, "gnatsd_connz_rtt{")) != NULL; at++) count++;
    cr_assert_eq(count, 3);
}

Test(metrics, foreign_text_cannot_break_the_format)
{
    f.server.name = BYTES_LITERAL("a\"b\\c\nd\xff");
    const struct options_pair metadata[] = {
        {BYTES_LITERAL("a key with \"quotes\" and {braces}: that is long, long, long, long, long, "
                       "long, long, long, long, long, long, long, long, long, long, long, long, "
                       "long, long, long, long, long, long, long, long, long, long, long, long"),
         BYTES_LITERAL("}, \"connections\": 5")}};
    f.options.server_metadata = (struct options_pairs){metadata, 1};
    const char *t = metrics("");
    cr_assert_not_null(strstr(t, "value=\"a\\\"b\\\\c\\nd\xef\xbf\xbd\"} 1"));
}
