#include "core/monitor/jsz.h"

/* What nats-server writes where it flushes after each message: the default interval. */
#define SYNC_DEFAULT_NS INT64_C(120000000000)

/* --- the server ------------------------------------------------------------------------------ */

static void write_config(const struct server_snapshot *s, struct json_write *w, bool with_store_dir)
{
    const struct options_jetstream *o = &s->options->jetstream;
    json_write_object(w, "config");
    json_write_i64(w, "max_memory", s->jetstream.memory_max);
    json_write_i64(w, "max_storage", s->jetstream.storage_max);
    if (s->jetstream.is_on) {
        if (with_store_dir) json_write_text_if(w, "store_dir", s->jetstream.store_dir);
        int64_t interval_ns = s->jetstream.sync_interval_ns;
        json_write_i64(w, "sync_interval", interval_ns > 0 ? interval_ns : SYNC_DEFAULT_NS);
        json_write_bool_if(w, "sync_always", interval_ns == 0);
        json_write_text_if(w, "domain", o->domain);
        bool has_limits = o->memory_bytes_max > 0 && o->storage_bytes_max > 0;
        json_write_bool_if(w, "compress_ok", has_limits); /* where nats-server has it */
        json_write_text_if(w, "unique_tag", o->unique_tag);
        json_write_bool_if(w, "strict", o->is_strict);
    }
    json_write_end(w);
}

static void write_limits(const struct server_snapshot *s, struct json_write *w)
{
    const struct options_jetstream *o = &s->options->jetstream;
    json_write_object(w, "limits");
    json_write_i64_if(w, "max_request_batch", o->max_request_batch);
    json_write_i64_if(w, "max_ack_pending", o->max_ack_pending);
    json_write_i64_if(w, "max_ha_assets", o->max_ha_assets);
    json_write_i64_if(w, "max_duplicate_window", o->duplicate_window_ns);
    json_write_i64_if(w, "max_batch_inflight_per_stream", o->batch_stream_max);
    json_write_i64_if(w, "max_batch_inflight_total", o->batch_total_max);
    json_write_i64_if(w, "max_batch_size", o->batch_messages_max);
    json_write_i64_if(w, "max_batch_timeout", o->batch_timeout_ns);
    json_write_i64_if(w, "default_max_consumers", o->default_max_consumers);
    json_write_end(w);
}

struct usage {
    struct js_counts counts;
    uint64_t reserved_memory, reserved_storage, accounts, api_level;
};

static void write_usage(struct json_write *w, const struct usage *u)
{
    json_write_u64(w, "memory", u->counts.memory);
    json_write_u64(w, "storage", u->counts.storage);
    json_write_u64(w, "reserved_memory", u->reserved_memory);
    json_write_u64(w, "reserved_storage", u->reserved_storage);
    json_write_u64(w, "accounts", u->accounts);
    json_write_u64(w, "ha_assets", 0);
    json_write_object(w, "api");
    json_write_u64(w, "level", u->api_level);
    json_write_u64(w, "total", u->counts.api_total);
    json_write_u64(w, "errors", u->counts.api_errors);
    json_write_end(w);
}

static void usage_of_server(const struct page_input *in, struct usage *u)
{
    *u = (struct usage){.accounts = js_snapshot_account_count(in->server)};
    js_snapshot_merge(in, UINT32_MAX, &u->counts);
    u->reserved_memory = u->counts.reserved_memory;
    u->reserved_storage = u->counts.reserved_storage;
    if (in->server->jetstream.is_on) u->api_level = JS_API_LEVEL;
}

void jsz_write_server(const struct page_input *in, struct json_write *w, bool with_store_dir)
{
    struct usage u;
    json_write_object(w, "jetstream");
    if (in->server->jetstream.is_on) {
        usage_of_server(in, &u);
        write_config(in->server, w, with_store_dir);
        json_write_object(w, "stats");
        write_usage(w, &u);
        json_write_end(w);
        write_limits(in->server, w);
    }
    json_write_end(w);
}

/* --- a stream -------------------------------------------------------------------------------- */

/* 0: Go's zero time. */
static void write_time(struct json_write *w, const char *key, int64_t wall_ns)
{
    if (wall_ns != 0)
        json_write_time(w, key, wall_ns);
    else
        json_write_text(w, key, BYTES_LITERAL("0001-01-01T00:00:00Z"));
}

static void write_state(struct json_write *w, const struct js_stream_snapshot *s)
{
    json_write_object(w, "state");
    json_write_u64(w, "messages", s->messages);
    json_write_u64(w, "bytes", s->bytes);
    json_write_u64(w, "first_seq", s->seq_first);
    write_time(w, "first_ts", s->first_ns);
    json_write_u64(w, "last_seq", s->seq_last);
    write_time(w, "last_ts", s->last_ns);
    json_write_u64_if(w, "num_subjects", s->subjects);
    json_write_u64_if(w, "num_deleted", s->deleted);
    json_write_u64(w, "consumer_count", s->consumer_count);
    json_write_end(w);
}

static void write_pair(struct json_write *w, const char *key, uint64_t cseq, uint64_t seq,
                       int64_t last_ns)
{
    json_write_object(w, key);
    json_write_u64(w, "consumer_seq", cseq);
    json_write_u64(w, "stream_seq", seq);
    json_write_time_if(w, "last_active", last_ns);
    json_write_end(w);
}

static void write_consumer(const struct page_input *in, struct json_write *w,
                           const struct js_stream_snapshot *s, const struct js_consumer_snapshot *c)
{
    int64_t now_ns = in->server->now_ns;
    bool is_paused = c->pause_until_ns > now_ns;
    json_write_object(w, NULL);
    json_write_text(w, "stream_name", s->name);
    json_write_text(w, "name", c->name);
    json_write_time(w, "created", c->created_ns);
    if (in->query->js_config) consumer_config_write(&c->config, w, "config", false);
    write_pair(w, "delivered", c->delivered_cseq, c->delivered_seq, c->last_delivered_ns);
    write_pair(w, "ack_floor", c->floor_cseq, c->floor_seq, c->last_ack_ns);
    json_write_u64(w, "num_ack_pending", c->ack_pending);
    json_write_u64(w, "num_redelivered", c->redelivered);
    json_write_u64(w, "num_waiting", c->waiting);
    json_write_u64(w, "num_pending", c->pending);
    json_write_bool_if(w, "push_bound", c->is_push_bound);
    json_write_bool_if(w, "paused", is_paused);
    if (is_paused) json_write_i64(w, "pause_remaining", c->pause_until_ns - now_ns);
    json_write_time(w, "ts", now_ns);
    json_write_end(w);
}

/* Those of ordered consumers and the like, which nats-server calls direct, are not listed. */
static void write_consumers(const struct page_input *in, struct json_write *w,
                            const struct js_stream_snapshot *s, const char *key, bool is_direct)
{
    bool has_any = false;
    for (const struct js_consumer_snapshot *c = s->consumers; c != NULL; c = c->next) {
        if (c->config.direct != is_direct) continue;
        if (!has_any) json_write_array(w, key);
        has_any = true;
        write_consumer(in, w, s, c);
    }
    if (has_any) json_write_end(w);
}

static void write_stream(const struct page_input *in, struct json_write *w,
                         const struct js_stream_snapshot *s)
{
    const struct page_query *q = in->query;
    json_write_object(w, NULL);
    json_write_text(w, "name", s->name);
    json_write_time(w, "created", s->created_ns);
    json_write_object(w, "cluster");
    json_write_text(w, "leader", in->server->name);
    json_write_end(w);
    if (q->js_config) stream_config_write(&s->config, w, "config", false);
    write_state(w, s);
    if (q->js_consumers) write_consumers(in, w, s, "consumer_detail", false);
    if (q->js_consumers && q->js_direct_consumers)
        write_consumers(in, w, s, "direct_consumer_detail", true);
    json_write_end(w);
}

/* --- an account ------------------------------------------------------------------------------ */

static void write_account(const struct page_input *in, struct json_write *w,
                          const struct account *a, const struct js_stream_list *streams)
{
    struct usage u = {.accounts = 0};
    uint32_t first, count = js_snapshot_streams_of(streams, a->number, &first);
    js_snapshot_merge(in, a->number, &u.counts);
    /* What the account may have; -1 for no limit reads as the largest number, as in nats-server. */
    u.reserved_memory = (uint64_t)a->jetstream.max_memory;
    u.reserved_storage = (uint64_t)a->jetstream.max_storage;
    json_write_object(w, NULL);
    json_write_text(w, "name", a->name);
    json_write_text(w, "id", a->name);
    write_usage(w, &u);
    if (count > 0) {
        json_write_array(w, "stream_detail");
        for (uint32_t i = 0; i < count; i++) write_stream(in, w, streams->list[first + i]);
        json_write_end(w);
    }
    json_write_end(w);
}

enum err jsz_write_account(const struct page_input *in, struct json_write *w, struct text *error)
{
    struct js_stream_list streams;
    const struct account *a = snapshot_account_by_name(in->server, in->query->account);
    if (!in->server->jetstream.is_on) {
        text_string(error, "jetstream not enabled");
        return ERR_INVALID;
    }
    if (a == NULL || !a->jetstream.is_on) {
        text_string(error, "account ");
        json_write_quote(error, in->query->account);
        text_string(error, a == NULL ? " not found" : " not jetstream enabled");
        return ERR_INVALID;
    }
    if (js_snapshot_streams(in, &streams) != ERR_OK) return ERR_MEMORY;
    write_account(in, w, a, &streams);
    js_snapshot_streams_free(in, &streams);
    return ERR_OK;
}

/* The one that was asked for, else the page of those that have JetStream, by name. */
static void write_details(const struct page_input *in, struct json_write *w,
                          const struct account_list *accounts, const struct js_stream_list *streams)
{
    const struct page_query *q = in->query;
    const struct account *one = snapshot_account_by_name(in->server, q->account);
    if (one != NULL && !one->jetstream.is_on) one = NULL;
    if (one == NULL && !q->js_accounts) return;
    /* A limit below 0 means all of them, from the first on. */
    int64_t skip = q->limit > 0 ? q->offset : 0, left = q->limit > 0 ? q->limit : INT64_MAX;
    bool has_any = false;
    for (uint32_t i = 0; i < accounts->count; i++) {
        const struct account *a = accounts->list[i];
        if (!a->jetstream.is_on || (one != NULL && a != one)) continue;
        if (one == NULL && skip-- > 0) continue;
        if (one == NULL && left-- <= 0) break;
        if (!has_any) json_write_array(w, "account_details");
        has_any = true;
        write_account(in, w, a, streams);
    }
    if (has_any) json_write_end(w);
}

enum err jsz_write(const struct page_input *in, struct json_write *w, struct text *error)
{
    const struct server_snapshot *s = in->server;
    struct usage u;
    if (in->query->js_leader_only && !s->jetstream.is_on) {
        text_string(error, "filtered response: not leader");
        return ERR_INVALID;
    }
    struct js_stream_list streams = {NULL, 0};
    struct account_list accounts = {NULL, 0};
    if (s->jetstream.is_on) {
        if (js_snapshot_streams(in, &streams) != ERR_OK) return ERR_MEMORY;
        if (snapshot_accounts_by_name(in, &accounts) != ERR_OK) {
            js_snapshot_streams_free(in, &streams);
            return ERR_MEMORY;
        }
    }
    usage_of_server(in, &u);
    json_write_object(w, NULL);
    write_usage(w, &u);
    json_write_text(w, "server_id", s->id);
    json_write_time(w, "now", s->now_ns);
    json_write_bool_if(w, "disabled", !s->jetstream.is_on);
    write_config(s, w, true);
    if (s->jetstream.is_on) write_limits(s, w);
    bool with_leaders = s->jetstream.is_on && in->query->js_raft;
    json_write_u64(w, "streams", u.counts.streams);
    if (with_leaders) json_write_u64_if(w, "streams_leader", u.counts.streams);
    json_write_u64(w, "consumers", u.counts.consumers);
    if (with_leaders) json_write_u64_if(w, "consumers_leader", u.counts.consumers);
    json_write_u64(w, "messages", u.counts.messages);
    json_write_u64(w, "bytes", u.counts.memory + u.counts.storage);
    if (s->jetstream.is_on) write_details(in, w, &accounts, &streams);
    json_write_u64(w, "total", u.accounts);
    json_write_end(w);
    snapshot_accounts_free(in, &accounts);
    js_snapshot_streams_free(in, &streams);
    return ERR_OK;
}
