#include "core/monitor/varz.h"
#include "core/monitor/jsz.h"

static double seconds_of(int64_t ns)
{
    return (double)ns / 1e9;
}

static void write_empty(struct json_write *w, const char *key)
{
    json_write_object(w, key);
    json_write_end(w);
}

void varz_write_kinds(struct json_write *w, const char *key, const struct conn_kind_counts *c)
{
    json_write_object(w, key);
    json_write_u64(w, "clients", c->clients);
    json_write_u64(w, "routes", c->routes);
    json_write_u64(w, "gateways", c->gateways);
    json_write_u64(w, "leafs", c->leafs);
    json_write_end(w);
}

static void write_server(struct json_write *w, const struct server_snapshot *s)
{
    const struct options *o = s->options;
    json_write_text(w, "server_id", s->id);
    json_write_text(w, "server_name", s->name);
    json_write_text(w, "version", s->version);
    json_write_u64(w, "proto", 1);
    json_write_text_if(w, "git_commit", s->git_commit);
    json_write_text(w, "go", s->go_version);
    json_write_text(w, "host", s->host);
    json_write_i64(w, "port", s->port);
    json_write_bool_if(w, "auth_required", s->is_auth_required);
    json_write_bool_if(w, "tls_required", s->is_tls_required);
    json_write_bool_if(w, "tls_verify", s->is_tls_verify);
    json_write_text_if(w, "ip", s->ip);
    json_write_texts_if(w, "connect_urls", s->connect_urls, s->connect_url_count);
    json_write_texts_if(w, "ws_connect_urls", s->ws_connect_urls, s->ws_connect_url_count);
    json_write_i64(w, "max_connections", o->max_connections);
    json_write_i64_if(w, "max_subscriptions", o->max_subscriptions);
    json_write_i64(w, "ping_interval", o->ping_interval_ns);
    json_write_i64(w, "ping_max", o->ping_max);
    json_write_text(w, "http_host", o->http_host);
    json_write_i64(w, "http_port", s->http_port);
    /* The options name the root as "/"; nats-server shows what was configured: nothing. */
    json_write_text(w, "http_base_path",
                    o->http_base_path.len == 1 ? BYTES_LITERAL("") : o->http_base_path);
    json_write_i64(w, "https_port", s->https_port);
    json_write_float(w, "auth_timeout", seconds_of(o->auth_timeout_ns));
    json_write_i64(w, "max_control_line", o->max_control_line);
    json_write_i64(w, "max_payload", o->max_payload);
    json_write_i64(w, "max_pending", o->max_pending);
}

static void write_blocks(const struct page_input *in, struct json_write *w)
{
    const struct server_snapshot *s = in->server;
    const struct options *o = s->options;
    json_write_object(w, "cluster");
    json_write_text_if(w, "name", s->cluster);
    json_write_end(w);
    write_empty(w, "gateway");
    write_empty(w, "leaf");
    write_empty(w, "mqtt");
    write_empty(w, "websocket");
    jsz_write_server(in, w, true);
    json_write_float(w, "tls_timeout",
                     o->tls.timeout_ns == 0 ? 2.0 : seconds_of(o->tls.timeout_ns));
    json_write_i64(w, "write_deadline", o->write_deadline_ns);
    if (o->write_timeout == OPTIONS_WRITE_TIMEOUT_CLOSE)
        json_write_text(w, "write_timeout", BYTES_LITERAL("close"));
    if (o->write_timeout == OPTIONS_WRITE_TIMEOUT_RETRY)
        json_write_text(w, "write_timeout", BYTES_LITERAL("retry"));
}

static void write_process(struct json_write *w, const struct server_snapshot *s)
{
    json_write_time(w, "start", s->start_ns);
    json_write_time(w, "now", s->now_ns);
    json_write_uptime(w, "uptime", s->now_ns - s->start_ns);
    json_write_u64(w, "mem", s->process.resident_bytes);
    json_write_u64(w, "cores", s->cores);
    json_write_u64(w, "gomaxprocs", s->shards);
    json_write_i64_if(w, "gomemlimit", s->memory_limit_bytes);
    json_write_float(w, "cpu", s->process.cpu_percent);
}

static void write_counts(struct json_write *w, const struct shard_counts *c)
{
    json_write_u64(w, "connections", c->connections);
    json_write_u64(w, "total_connections", c->total_connections);
    json_write_u64(w, "routes", 0);
    json_write_u64(w, "remotes", 0);
    json_write_u64(w, "leafnodes", c->leafs);
    json_write_u64(w, "in_msgs", c->in.msgs);
    json_write_u64(w, "in_bytes", c->in.bytes);
    json_write_u64(w, "in_client_msgs", c->in_clients.msgs);
    json_write_u64(w, "in_client_bytes", c->in_clients.bytes);
    json_write_u64(w, "out_msgs", c->out.msgs);
    json_write_u64(w, "out_bytes", c->out.bytes);
    json_write_u64(w, "out_client_msgs", c->out_clients.msgs);
    json_write_u64(w, "out_client_bytes", c->out_clients.bytes);
    const struct conn_kind_counts *slow = &c->slow_consumers, *stale = &c->stale_connections;
    json_write_u64(w, "slow_consumers",
                   slow->clients + slow->routes + slow->gateways + slow->leafs);
    json_write_u64(w, "stale_connections",
                   stale->clients + stale->routes + stale->gateways + stale->leafs);
    json_write_u64(w, "stalled_clients", c->stalled_clients);
    json_write_u64(w, "subscriptions", c->subscriptions);
}

/* Go writes maps in the order of their keys; only pages that were asked for are in it. */
static void write_requests(struct json_write *w, const struct page_counts *pages)
{
    static const enum page sorted[] = {
        PAGE_ROOT,  PAGE_ACCOUNTZ, PAGE_ACCSTATZ, PAGE_CONNZ,  PAGE_GATEWAYZ, PAGE_HEALTHZ,
        PAGE_JSZ,   PAGE_LEAFZ,    PAGE_METRICS,  PAGE_ROUTEZ, PAGE_SUBSZ,    PAGE_VARZ,
    };
    json_write_object(w, "http_req_stats");
    for (size_t i = 0; pages != NULL && i < sizeof sorted / sizeof sorted[0]; i++)
        json_write_u64_if(w, query_path_of_page(sorted[i]), pages->requests[sorted[i]]);
    json_write_end(w);
}

void varz_write_metadata(struct json_write *w, const struct options *o)
{
    const struct options_pairs *pairs = &o->server_metadata;
    if (pairs->count == 0) return;
    json_write_object(w, "metadata");
    /* In the order of the keys; there are a few, so the next larger one is looked for each time. */
    const struct options_pair *last = NULL;
    for (;;) {
        const struct options_pair *next = NULL;
        for (uint32_t i = 0; i < pairs->count; i++) {
            const struct options_pair *pair = &pairs->items[i];
            if (last != NULL && bytes_compare(pair->key, last->key) <= 0) continue;
            if (next == NULL || bytes_compare(pair->key, next->key) < 0) next = pair;
        }
        if (next == NULL) break;
        json_write_key(w, next->key);
        json_write_text(w, NULL, next->value);
        last = next;
    }
    json_write_end(w);
}

/* The reference's flags are all JetStream's; clients and tools expect the object all the same. */
void varz_write_features(struct json_write *w)
{
    json_write_object(w, "feature_flags");
    json_write_bool(w, "js_ack_fc_v2", false);
    json_write_bool(w, "js_api_reply_v2", false);
    json_write_bool(w, "js_raft_delete_range", true);
    json_write_bool(w, "js_snapshot_sources", false);
    json_write_end(w);
}

static void write_config(struct json_write *w, const struct server_snapshot *s)
{
    const struct options *o = s->options;
    json_write_time(w, "config_load_time", s->config_load_ns);
    json_write_text(w, "config_digest", o->config_digest);
    json_write_texts_if(w, "tags", o->server_tags.items, o->server_tags.count);
    varz_write_metadata(w, o);
    varz_write_features(w);
    json_write_text_if(w, "system_account", snapshot_system_account(s));
}

void varz_write(const struct page_input *in, struct json_write *w)
{
    struct shard_counts counts;
    snapshot_merge_counts(in, &counts);
    const struct server_snapshot *s = in->server;

    json_write_object(w, NULL);
    write_server(w, s);
    write_blocks(in, w);
    write_process(w, s);
    write_counts(w, &counts);
    write_requests(w, s->pages);
    write_config(w, s);
    varz_write_kinds(w, "slow_consumer_stats", &counts.slow_consumers);
    varz_write_kinds(w, "stale_connection_stats", &counts.stale_connections);
    json_write_object(w, "disk_io_wait_stats");
    json_write_u64(w, "waiters", 0);
    json_write_u64(w, "waits", 0);
    json_write_u64(w, "wait_time", 0);
    json_write_u64(w, "max_wait_time", 0);
    json_write_end(w);
    json_write_time_if(w, "tls_cert_not_after", s->tls_not_after_ns);
    json_write_end(w);
}
