#include "core/monitor/metrics.h"
#include "core/base/json_write.h"
#include "core/base/must.h"
#include "core/monitor/healthz.h"
#include "core/monitor/metrics_js.h"
#include "core/monitor/metrics_own.h"
#include "core/monitor/page.h"
#include "core/monitor/prometheus.h"
#include "core/monitor/subsz.h"
#include "core/monitor/varz.h"

enum {
    METRICS_NAME_MAX = 256, /* a metric's name without prefix; ours are far shorter */
    METRICS_PATH_DEPTH_MAX = 8,
};

/* --- writing -------------------------------------------------------------------------------- */

struct metrics {
    struct text *out;
    const struct page_input *in;
    struct bytes prefix;    /* "gnatsd" */
    struct bytes js_prefix; /* "jetstream" in the default spelling, else the same as prefix */
    struct bytes server_id; /* value of the label of that name */
};

/* A family with one sample that has the server as its only label: most of what the exporter has. */
static void server_u64(struct metrics *m, const char *name, const char *type, uint64_t value)
{
    struct prometheus_label label = {"server_id", m->server_id};
    prometheus_family(m->out, m->prefix, name, type, NULL);
    prometheus_u64(m->out, m->prefix, name, &label, 1, value);
}

/* An info gauge: 1, with the text as label value. */
static void server_info(struct metrics *m, const char *name, const char *help, struct bytes value)
{
    struct prometheus_label labels[] = {{"server_id", m->server_id}, {"value", value}};
    prometheus_family(m->out, m->prefix, name, "gauge", help);
    prometheus_u64(m->out, m->prefix, name, labels, 2, 1);
}

/* --- every number of a page --------------------------------------------------------------------
 * The exporter's rule for /varz and /subsz: each JSON number, under its path joined by "_". So the
 * page itself is rendered, compact, and walked: what it shows and what is here cannot differ. The
 * text is our own, thus well-formed; arrays hold no numbers worth a series and are skipped. */

static const char *skip_string(const char *at)
{
    must(*at == '"');
    for (at++; *at != '"'; at++)
        if (*at == '\\') at++;
    return at + 1;
}

/* Appends "_" and the letters, digits and underscores of key; "/varz" becomes "varz". */
static size_t join_key(char *name, size_t len, const char *key, const char *end)
{
    must(len + 2 + (size_t)(end - key) + 4 < METRICS_NAME_MAX);
    if (len > 0) name[len++] = '_';
    size_t start = len;
    for (; key < end; key++) {
        char c = *key;
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_')
            name[len++] = c;
    }
    if (len == start) { /* the page "/" */
        memcpy(name + len, "root", 4);
        len += 4;
    }
    return len;
}

static const char *skip_array(const char *at)
{
    uint32_t depth = 0;
    do {
        if (*at == '"') {
            at = skip_string(at);
            continue;
        }
        if (*at == '[') depth++;
        if (*at == ']') depth--;
        at++;
    } while (depth > 0);
    return at;
}

/* page: text of one JSON object with a zero at its end. */
static void write_numbers(struct metrics *m, const char *family, const char *page)
{
    char name[METRICS_NAME_MAX];
    size_t lens[METRICS_PATH_DEPTH_MAX];
    uint32_t depth = 0;
    size_t len = join_key(name, 0, family, family + strlen(family));
    struct prometheus_label label = {"server_id", m->server_id};

    const char *at = page;
    while (*at != '\0') {
        if (*at == '{') {
            must(depth < METRICS_PATH_DEPTH_MAX);
            lens[depth++] = len;
            at++;
            continue;
        }
        if (*at == '}') {
            must(depth > 0);
            depth--;
            if (depth > 0) len = lens[depth - 1];
            at++;
            continue;
        }
        if (*at == ',') {
            at++;
            continue;
        }
        const char *key = at + 1;
        at = skip_string(at);
        const char *key_end = at - 1;
        must(*at == ':');
        at++;
        if (*at == '{') {
            len = join_key(name, lens[depth - 1], key, key_end);
            continue;
        }
        if (*at == '"') {
            at = skip_string(at);
            continue;
        }
        if (*at == '[') {
            at = skip_array(at);
            continue;
        }
        const char *value = at;
        while (*at != ',' && *at != '}') at++;
        if (*value != '-' && (*value < '0' || *value > '9')) continue; /* true, false, null */
        /* Only here, since keys of texts may be foreign and of any length. */
        len = join_key(name, lens[depth - 1], key, key_end);
        name[len] = '\0';
        prometheus_family(m->out, m->prefix, name, "gauge", NULL);
        prometheus_sample(m->out, m->prefix, name, &label, 1);
        text_bytes(m->out, bytes_of(value, (size_t)(at - value)));
        text_char(m->out, '\n');
    }
}

static enum err write_page_numbers(struct metrics *m, const char *family,
                                   void (*write)(const struct page_input *in, struct json_write *w))
{
    struct text page;
    struct json_write w;
    text_init(&page, m->in->mem, MEM_MONITOR, PAGE_BYTES_MAX);
    json_write_init(&w, &page, 0);
    write(m->in, &w);
    text_char(&page, '\0');
    enum err e = page.is_failed ? ERR_MEMORY : ERR_OK;
    if (e == ERR_OK) write_numbers(m, family, page.data);
    text_deinit(&page);
    return e;
}

static uint64_t milliseconds(int64_t wall_ns)
{
    return wall_ns < 0 ? 0 : (uint64_t)wall_ns / 1000000;
}

static enum err write_varz(struct metrics *m)
{
    const struct server_snapshot *s = m->in->server;
    if (write_page_numbers(m, "varz", varz_write) != ERR_OK) return ERR_MEMORY;
    server_u64(m, "varz_start", "gauge", milliseconds(s->start_ns));
    server_u64(m, "varz_config_load_time", "gauge", milliseconds(s->config_load_ns));
    server_info(m, "varz_server_id", NULL, s->id);
    server_info(m, "varz_server_name", NULL, s->name);
    server_info(m, "varz_version", NULL, s->version);
    if (s->cluster.len != 0) server_info(m, "varz_cluster_name", NULL, s->cluster);
    return ERR_OK;
}

static enum err write_subsz(struct metrics *m)
{
    if (write_page_numbers(m, "subsz", subsz_write) != ERR_OK) return ERR_MEMORY;
    server_info(m, "subsz_server_id", NULL, m->in->server->id);
    return ERR_OK;
}

static void write_small_pages(struct metrics *m)
{
    server_u64(m, "routez_num_routes", "gauge", 0);
    server_info(m, "routez_server_id", NULL, m->in->server->id);
    server_info(m, "routez_server_name", NULL, m->in->server->name);

    struct prometheus_label label = {"server_id", m->server_id};
    prometheus_family(m->out, m->prefix, "leafz_conn_nodes_total", "gauge", "nodes_total");
    prometheus_u64(m->out, m->prefix, "leafz_conn_nodes_total", &label, 1, 0);

    /* 0 is healthy, unlike everywhere else; dashboards rely on it. */
    static const char *const health[][2] = {
        {"healthz_status", "healthz_status_value"},
        {"healthz_js_enabled_only_status", "healthz_js_enabled_only_status_value"},
        {"healthz_js_server_only_status", "healthz_js_server_only_status_value"},
    };
    for (size_t i = 0; i < sizeof health / sizeof health[0]; i++) {
        struct bytes status = healthz_status(m->in, i == 1, i == 2);
        bool is_ok = bytes_equal(status, BYTES_LITERAL("ok"));
        struct prometheus_label labels[] = {label, {"value", status}};
        prometheus_family(m->out, m->prefix, health[i][0], "gauge", "status");
        prometheus_u64(m->out, m->prefix, health[i][0], &label, 1, is_ok ? 0 : 1);
        prometheus_family(m->out, m->prefix, health[i][1], "gauge", "status");
        prometheus_u64(m->out, m->prefix, health[i][1], labels, 2, is_ok ? 1 : 0);
    }
}

/* --- connections ---------------------------------------------------------------------------- */

struct conn_value {
    const char *name, *type, *help;
    bool is_server_wide; /* has a sample without connection labels */
};

enum { CONN_VALUE_COUNT = 12 };
static const struct conn_value conn_values[CONN_VALUE_COUNT] = {
    {"connz_num_connections", "gauge", NULL, true},
    {"connz_pending_bytes", "gauge", NULL, true},
    {"connz_subscriptions", "gauge", NULL, true},
    {"connz_in_bytes", "counter", NULL, true},
    {"connz_out_bytes", "counter", NULL, true},
    {"connz_in_msgs", "counter", NULL, true},
    {"connz_out_msgs", "counter", NULL, true},
    {"connz_start", "untyped", "epoch time in milliseconds of the start of the connection", false},
    {"connz_last_activity", "untyped", "epoch time in milliseconds of the last activity", false},
    {"connz_rtt", "gauge", "round trip time in microseconds", false},
    {"connz_uptime", "untyped", "uptime in milliseconds", false},
    {"connz_idle", "gauge", "idle time in milliseconds", false},
};

static uint64_t server_value(size_t row, const struct shard_counts *c)
{
    const uint64_t values[] = {c->connections,      c->pending_bytes,     c->subscriptions,
                               c->in_clients.bytes, c->out_clients.bytes, c->in_clients.msgs,
                               c->out_clients.msgs};
    must(row < sizeof values / sizeof values[0]);
    return values[row];
}

static uint64_t conn_value_of(size_t row, const struct conn_snapshot *c, int64_t now_ns)
{
    const uint64_t values[CONN_VALUE_COUNT] = {
        1,
        c->pending_bytes,
        c->subscriptions,
        c->in.bytes,
        c->out.bytes,
        c->in.msgs,
        c->out.msgs,
        milliseconds(c->start_ns),
        milliseconds(c->last_activity_ns),
        c->rtt_ns > 0 ? (uint64_t)c->rtt_ns / 1000 : 0,
        milliseconds(now_ns - c->start_ns),
        milliseconds(now_ns - c->last_activity_ns),
    };
    return values[row];
}

static struct bytes number_text(char *room, uint64_t value)
{
    return bytes_of(room, bytes_u64_text(room, value));
}

static void write_conn_sample(struct metrics *m, size_t row, const struct conn_snapshot *c)
{
    char cid[BYTES_U64_TEXT_MAX], port[BYTES_U64_TEXT_MAX];
    struct prometheus_label labels[] = {
        {"server_id", m->server_id},
        {"cid", number_text(cid, c->cid)},
        {"kind", BYTES_LITERAL("Client")},
        {"type", c->type == CONN_TYPE_WEBSOCKET ? BYTES_LITERAL("websocket")
                 : c->type == CONN_TYPE_MQTT    ? BYTES_LITERAL("mqtt")
                                                : BYTES_LITERAL("nats")},
        {"ip", c->ip},
        {"port", number_text(port, c->port)},
        {"name", c->name},
        {"name_tag", c->account_tag},
        {"account", c->account_name},
        {"account_id", c->account_name},
        {"lang", c->lang},
        {"version", c->version},
        {"tls_version", c->tls_version},
        {"tls_cipher_suite", c->tls_cipher},
    };
    prometheus_u64(m->out, m->prefix, conn_values[row].name, labels,
                   sizeof labels / sizeof labels[0], conn_value_of(row, c, m->in->server->now_ns));
}

static void write_connz(struct metrics *m)
{
    const struct page_query *q = m->in->query;
    struct shard_counts counts;
    snapshot_merge_counts(m->in, &counts);
    server_u64(m, "connz_total", "gauge", counts.connections);
    server_u64(m, "connz_offset", "gauge", 0);
    server_u64(m, "connz_limit", "gauge", (uint64_t)q->limit);

    struct prometheus_label label = {"server_id", m->server_id};
    for (size_t row = 0; row < CONN_VALUE_COUNT; row++) {
        const struct conn_value *v = &conn_values[row];
        if (!v->is_server_wide && !q->connz_detailed) continue;
        prometheus_family(m->out, m->prefix, v->name, v->type, v->help);
        if (v->is_server_wide)
            prometheus_u64(m->out, m->prefix, v->name, &label, 1, server_value(row, &counts));
        if (!q->connz_detailed) continue;
        int64_t left = q->limit;
        for (uint32_t i = 0; i < m->in->shard_count; i++)
            for (const struct conn_snapshot *c = m->in->shards[i]->conns; c != NULL && left > 0;
                 c = c->next, left--)
                write_conn_sample(m, row, c);
    }
}

/* --- accounts ------------------------------------------------------------------------------- */

enum account_value {
    ACCSTATZ_CURRENT_CONNECTIONS,
    ACCSTATZ_TOTAL_CONNECTIONS,
    ACCSTATZ_SUBSCRIPTIONS,
    ACCSTATZ_LEAF_NODES,
    ACCSTATZ_SENT_MESSAGES,
    ACCSTATZ_SENT_BYTES,
    ACCSTATZ_RECEIVED_MESSAGES,
    ACCSTATZ_RECEIVED_BYTES,
    ACCSTATZ_SLOW_CONSUMERS,
    ACCOUNTZ_FIRST, /* from here on the labels of accountz */
    ACCOUNTZ_CLIENT_CONNECTIONS = ACCOUNTZ_FIRST,
    ACCOUNTZ_LEAFNODE_CONNECTIONS,
    ACCOUNTZ_SUBSCRIPTIONS,
    ACCOUNTZ_IS_SYSTEM,
    ACCOUNTZ_EXPIRED,
    ACCOUNTZ_COMPLETE,
    ACCOUNTZ_JETSTREAM_ENABLED,
    ACCOUNTZ_LIMIT_SUBS,
    ACCOUNTZ_LIMIT_DATA,
    ACCOUNTZ_LIMIT_PAYLOAD,
    ACCOUNTZ_LIMIT_IMPORTS,
    ACCOUNTZ_LIMIT_EXPORTS,
    ACCOUNTZ_LIMIT_WILDCARDS,
    ACCOUNTZ_LIMIT_CONN,
    ACCOUNTZ_LIMIT_LEAF,
    ACCOUNT_VALUE_COUNT
};

static const char *const account_value_names[ACCOUNT_VALUE_COUNT] = {
    [ACCSTATZ_CURRENT_CONNECTIONS] = "accstatz_current_connections",
    [ACCSTATZ_TOTAL_CONNECTIONS] = "accstatz_total_connections",
    [ACCSTATZ_SUBSCRIPTIONS] = "accstatz_subscriptions",
    [ACCSTATZ_LEAF_NODES] = "accstatz_leaf_nodes",
    [ACCSTATZ_SENT_MESSAGES] = "accstatz_sent_messages",
    [ACCSTATZ_SENT_BYTES] = "accstatz_sent_bytes",
    [ACCSTATZ_RECEIVED_MESSAGES] = "accstatz_received_messages",
    [ACCSTATZ_RECEIVED_BYTES] = "accstatz_received_bytes",
    [ACCSTATZ_SLOW_CONSUMERS] = "accstatz_slow_consumers",
    [ACCOUNTZ_CLIENT_CONNECTIONS] = "accountz_client_connections",
    [ACCOUNTZ_LEAFNODE_CONNECTIONS] = "accountz_leafnode_connections",
    [ACCOUNTZ_SUBSCRIPTIONS] = "accountz_subscriptions",
    [ACCOUNTZ_IS_SYSTEM] = "accountz_is_system",
    [ACCOUNTZ_EXPIRED] = "accountz_expired",
    [ACCOUNTZ_COMPLETE] = "accountz_complete",
    [ACCOUNTZ_JETSTREAM_ENABLED] = "accountz_jetstream_enabled",
    [ACCOUNTZ_LIMIT_SUBS] = "accountz_limit_subs",
    [ACCOUNTZ_LIMIT_DATA] = "accountz_limit_data",
    [ACCOUNTZ_LIMIT_PAYLOAD] = "accountz_limit_payload",
    [ACCOUNTZ_LIMIT_IMPORTS] = "accountz_limit_imports",
    [ACCOUNTZ_LIMIT_EXPORTS] = "accountz_limit_exports",
    [ACCOUNTZ_LIMIT_WILDCARDS] = "accountz_limit_wildcards",
    [ACCOUNTZ_LIMIT_CONN] = "accountz_limit_conn",
    [ACCOUNTZ_LIMIT_LEAF] = "accountz_limit_leaf",
};

static int64_t account_value_of(enum account_value v, const struct account *a,
                                const struct account_snapshot *s, bool is_on)
{
    const int64_t values[ACCOUNT_VALUE_COUNT] = {
        [ACCSTATZ_CURRENT_CONNECTIONS] = s->connections,
        [ACCSTATZ_TOTAL_CONNECTIONS] = (int64_t)s->connections + s->leafs,
        [ACCSTATZ_SUBSCRIPTIONS] = (int64_t)s->subscriptions,
        [ACCSTATZ_LEAF_NODES] = s->leafs,
        [ACCSTATZ_SENT_MESSAGES] = (int64_t)s->sent.msgs,
        [ACCSTATZ_SENT_BYTES] = (int64_t)s->sent.bytes,
        [ACCSTATZ_RECEIVED_MESSAGES] = (int64_t)s->received.msgs,
        [ACCSTATZ_RECEIVED_BYTES] = (int64_t)s->received.bytes,
        [ACCSTATZ_SLOW_CONSUMERS] = (int64_t)s->slow_consumers,
        [ACCOUNTZ_CLIENT_CONNECTIONS] = s->connections,
        [ACCOUNTZ_LEAFNODE_CONNECTIONS] = s->leafs,
        [ACCOUNTZ_SUBSCRIPTIONS] = (int64_t)s->subscriptions,
        [ACCOUNTZ_IS_SYSTEM] = a->is_system,
        [ACCOUNTZ_EXPIRED] = 0,
        [ACCOUNTZ_COMPLETE] = 1,
        [ACCOUNTZ_JETSTREAM_ENABLED] = is_on && a->jetstream.is_on,
        /* -1 is no limit; the exporter shows only limits of JWTs and 0 for others. */
        [ACCOUNTZ_LIMIT_SUBS] = a->limits.max_subscriptions,
        [ACCOUNTZ_LIMIT_DATA] = -1,
        [ACCOUNTZ_LIMIT_IMPORTS] = -1,
        [ACCOUNTZ_LIMIT_EXPORTS] = -1,
        [ACCOUNTZ_LIMIT_WILDCARDS] = 1,
        [ACCOUNTZ_LIMIT_PAYLOAD] = a->limits.max_payload,
        [ACCOUNTZ_LIMIT_CONN] = a->limits.max_connections,
        [ACCOUNTZ_LIMIT_LEAF] = a->limits.max_leafnodes,
    };
    return values[v];
}

static enum err write_accounts(struct metrics *m)
{
    struct account_list accounts;
    struct account_totals totals;
    if (snapshot_accounts_by_name(m->in, &accounts) != ERR_OK) return ERR_MEMORY;
    if (snapshot_merge_accounts(m->in, &totals) != ERR_OK) {
        snapshot_accounts_free(m->in, &accounts);
        return ERR_MEMORY;
    }
    for (int v = 0; v < ACCOUNT_VALUE_COUNT && accounts.count > 0; v++) {
        const char *name = account_value_names[v];
        prometheus_family(m->out, m->prefix, name, "gauge", NULL);
        for (uint32_t i = 0; i < accounts.count; i++) {
            const struct account *a = accounts.list[i];
            struct prometheus_label labels[] = {{"account", a->name},
                                                {"account_id", a->name},
                                                {"account_name", a->name},
                                                {"server_id", m->server_id}};
            size_t skip = v >= ACCOUNTZ_FIRST ? 1 : 0; /* accountz has no label "account" */
            prometheus_sample(m->out, m->prefix, name, labels + skip, 4 - skip);
            text_i64(m->out,
                     account_value_of((enum account_value)v, a, &totals.by_number[a->number],
                                      m->in->server->jetstream.is_on));
            text_char(m->out, '\n');
        }
    }
    snapshot_totals_free(m->in, &totals);
    snapshot_accounts_free(m->in, &accounts);
    return ERR_OK;
}

/* --- the process ---------------------------------------------------------------------------- */

static void write_process(struct metrics *m)
{
    const struct process_counts *p = &m->in->server->process;
    struct bytes prefix = BYTES_LITERAL("process");
    const struct {
        const char *name, *type, *help;
        double value;
    } rows[] = {
        {"cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.",
         p->cpu_seconds},
        {"resident_memory_bytes", "gauge", "Resident memory size in bytes.",
         (double)p->resident_bytes},
        {"virtual_memory_bytes", "gauge", "Virtual memory size in bytes.",
         (double)p->virtual_bytes},
        {"open_fds", "gauge", "Number of open file descriptors.", (double)p->open_fds},
        {"max_fds", "gauge", "Maximum number of open file descriptors.", (double)p->max_fds},
        {"start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.",
         (double)p->start_ns / 1e9},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        prometheus_family(m->out, prefix, rows[i].name, rows[i].type, rows[i].help);
        prometheus_float(m->out, prefix, rows[i].name, NULL, 0, rows[i].value);
    }
}

enum err metrics_write(const struct page_input *in, struct text *out)
{
    const struct server_snapshot *s = in->server;
    struct bytes prefix = in->query->prefix;
    if (prefix.len == 0) prefix = s->options->metrics_prefix;
    if (prefix.len == 0) prefix = BYTES_LITERAL("gnatsd");
    bool is_default = bytes_equal(prefix, BYTES_LITERAL("gnatsd"));

    /* The default spelling names servers by their monitoring address, the other by their id. */
    char room[320];
    struct writer w;
    writer_init(&w, room, sizeof room);
    writer_text(&w, s->http_port != 0 ? "http://" : "https://");
    writer_bytes(&w, s->options->http_host);
    writer_char(&w, ':');
    writer_i64(&w, s->http_port != 0 ? s->http_port : s->https_port);

    struct metrics m = {
        .out = out,
        .in = in,
        .prefix = prefix,
        .js_prefix = is_default ? BYTES_LITERAL("jetstream") : prefix,
        .server_id = is_default ? writer_written(&w) : s->id,
    };
    if (write_varz(&m) != ERR_OK) return ERR_MEMORY;
    write_connz(&m);
    write_small_pages(&m);
    if (write_subsz(&m) != ERR_OK) return ERR_MEMORY;
    if (write_accounts(&m) != ERR_OK) return ERR_MEMORY;
    if (metrics_js_write(in, m.js_prefix, m.server_id, out) != ERR_OK) return ERR_MEMORY;
    write_process(&m);
    if (metrics_own_write(in, out) != ERR_OK) return ERR_MEMORY;
    return out->is_failed ? ERR_MEMORY : ERR_OK;
}
