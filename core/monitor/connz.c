#include "core/monitor/connz.h"
#include "core/base/must.h"
#include "core/base/time_text.h"

struct bytes connz_kind_text(enum conn_kind kind)
{
    switch (kind) {
    case CONN_KIND_CLIENT:
        return BYTES_LITERAL("Client");
    case CONN_KIND_ROUTER:
        return BYTES_LITERAL("Router");
    case CONN_KIND_GATEWAY:
        return BYTES_LITERAL("Gateway");
    case CONN_KIND_LEAF:
        return BYTES_LITERAL("Leafnode");
    case CONN_KIND_JETSTREAM:
        return BYTES_LITERAL("JetStream");
    case CONN_KIND_ACCOUNT:
        return BYTES_LITERAL("Account");
    case CONN_KIND_SYSTEM:
        return BYTES_LITERAL("System");
    }
    return BYTES_LITERAL("Unknown Type");
}

struct bytes connz_type_text(enum conn_type type)
{
    switch (type) {
    case CONN_TYPE_NONE:
        return BYTES_LITERAL("");
    case CONN_TYPE_NATS:
        return BYTES_LITERAL("nats");
    case CONN_TYPE_WEBSOCKET:
        return BYTES_LITERAL("websocket");
    case CONN_TYPE_MQTT:
        return BYTES_LITERAL("mqtt");
    }
    return BYTES_LITERAL("");
}

void connz_write_sub(struct json_write *w, const struct sub_snapshot *sub, bool with_account)
{
    json_write_object(w, NULL);
    if (with_account) {
        json_write_text_if(w, "account", sub->account_name);
        json_write_text_if(w, "account_tag", sub->account_tag);
    }
    json_write_text(w, "subject", sub->subject);
    json_write_text_if(w, "qgroup", sub->queue);
    json_write_text(w, "sid", sub->sid);
    json_write_u64(w, "msgs", sub->msgs);
    json_write_u64_if(w, "max", sub->max);
    json_write_u64(w, "cid", sub->cid);
    json_write_end(w);
}

static void write_subs(struct json_write *w, const struct conn_snapshot *c,
                       const struct page_query *q)
{
    if (c->subs == NULL) return;
    bool is_closed = c->reason != CLOSED_NONE;
    if (q->subs_detail) {
        json_write_array(w, "subscriptions_list_detail");
        for (const struct sub_snapshot *s = c->subs; s != NULL; s = s->next)
            connz_write_sub(w, s, is_closed);
        json_write_end(w);
    } else if (q->subs) {
        json_write_array(w, "subscriptions_list");
        for (const struct sub_snapshot *s = c->subs; s != NULL; s = s->next)
            json_write_text(w, NULL, s->subject);
        json_write_end(w);
    }
}

static void write_counts(struct json_write *w, const struct conn_snapshot *c, int64_t now_ns)
{
    int64_t end_ns = c->stop_ns != 0 ? c->stop_ns : now_ns;
    json_write_duration(w, "rtt", time_text_round_trip(c->rtt_ns));
    json_write_uptime(w, "uptime", end_ns - c->start_ns);
    json_write_uptime(w, "idle", end_ns - c->last_activity_ns);
    json_write_u64(w, "pending_bytes", c->pending_bytes);
    json_write_u64(w, "in_msgs", c->in.msgs);
    json_write_u64(w, "out_msgs", c->out.msgs);
    json_write_u64(w, "in_bytes", c->in.bytes);
    json_write_u64(w, "out_bytes", c->out.bytes);
    json_write_u64_if(w, "stalls", c->stalls);
    json_write_u64(w, "subscriptions", c->subscriptions);
}

static void write_tls(struct json_write *w, const struct conn_snapshot *c, bool auth)
{
    json_write_text_if(w, "tls_version", c->tls_version);
    json_write_text_if(w, "tls_cipher_suite", c->tls_cipher);
    if (auth && c->tls_cert_sha256.len != 0) {
        json_write_array(w, "tls_peer_certs");
        json_write_object(w, NULL);
        json_write_text_if(w, "subject", c->tls_subject);
        json_write_text_if(w, "spki_sha256", c->tls_spki_sha256);
        json_write_text(w, "cert_sha256", c->tls_cert_sha256);
        json_write_end(w);
        json_write_end(w);
    }
    json_write_bool_if(w, "tls_first", c->is_tls_first);
}

/* Ours: nats-server has no such listener. */
static void write_peer(struct json_write *w, const struct conn_peer *p)
{
    if (!p->is_known) return;
    json_write_u64(w, "peer_uid", p->uid);
    json_write_u64(w, "peer_gid", p->gid);
    json_write_i64(w, "peer_pid", p->pid);
}

static void write_conn(struct json_write *w, const struct conn_snapshot *c,
                       const struct page_query *q, int64_t now_ns)
{
    bool is_closed = c->reason != CLOSED_NONE;
    json_write_object(w, NULL);
    json_write_u64(w, "cid", c->cid);
    json_write_text(w, "kind", connz_kind_text(c->kind));
    json_write_text_if(w, "type", connz_type_text(c->type));
    json_write_text(w, "ip", c->ip);
    json_write_u64(w, "port", c->port);
    json_write_time(w, "start", c->start_ns);
    json_write_time(w, "last_activity", c->last_activity_ns);
    json_write_time_if(w, "stop", c->stop_ns);
    json_write_text_if(w, "reason", closed_reason_text(c->reason));
    write_counts(w, c, now_ns);
    json_write_text_if(w, "name", c->name);
    json_write_text_if(w, "lang", c->lang);
    json_write_text_if(w, "version", c->version);
    write_tls(w, c, q->auth);
    if (q->auth) {
        json_write_text_if(w, "authorized_user", c->user);
        if (c->account != ACCOUNT_GLOBAL) json_write_text_if(w, "account", c->account_name);
    }
    write_subs(w, c, q);
    /* nats-server shows these of closed connections to everybody. */
    if (q->auth || is_closed) {
        json_write_text_if(w, "jwt", c->jwt);
        json_write_text_if(w, "issuer_key", c->issuer_key);
    }
    if (q->auth && (!is_closed || c->account != ACCOUNT_GLOBAL))
        json_write_text_if(w, "name_tag", c->account_tag);
    if (q->auth || is_closed) json_write_texts_if(w, "tags", c->tags, c->tag_count);
    json_write_text_if(w, "mqtt_client", c->mqtt_client);
    write_peer(w, &c->peer);
    json_write_end(w);
}

static uint64_t list_count(const struct conn_snapshot *c)
{
    uint64_t count = 0;
    for (; c != NULL; c = c->next) count++;
    return count;
}

static uint64_t gather(const struct page_input *in, struct conn_snapshot *c,
                       struct snapshot_choice *choices, uint64_t count)
{
    for (; c != NULL; c = c->next) {
        struct conn_facts facts = {
            .cid = c->cid,
            .account = c->account,
            .start_ns = c->start_ns,
            .last_activity_ns = c->last_activity_ns,
            .stop_ns = c->stop_ns,
            .rtt_ns = c->rtt_ns,
            .now_ns = in->server->now_ns,
            .reason = c->reason,
            .pending_bytes = c->pending_bytes,
            .in = c->in,
            .out = c->out,
            .subscriptions = c->subscriptions,
        };
        choices[count++] =
            (struct snapshot_choice){query_conn_key(in->query, &facts), c->cid, c};
    }
    return count;
}

static void write_head(const struct page_input *in, struct json_write *w, struct bytes id,
                       uint64_t shown, uint64_t total)
{
    json_write_text(w, "server_id", id);
    json_write_time(w, "now", in->server->now_ns);
    json_write_u64(w, "num_connections", shown);
    json_write_u64(w, "total", total);
    json_write_i64(w, "offset", in->query->offset);
    json_write_i64(w, "limit", in->query->limit);
}

enum err connz_write(const struct page_input *in, struct json_write *w)
{
    const struct page_query *q = in->query;
    if (q->account.len != 0 && q->account_number == QUERY_NO_ACCOUNT) {
        json_write_object(w, NULL);
        write_head(in, w, BYTES_LITERAL(""), 0, 0);
        json_write_null(w, "connections");
        json_write_end(w);
        return ERR_OK;
    }

    uint64_t total = 0, room = 0;
    for (uint32_t i = 0; i < in->shard_count; i++) {
        const struct shard_snapshot *s = in->shards[i];
        total += s->conns_total + s->closed_total;
        room += list_count(s->conns) + list_count(s->closed);
    }
    struct snapshot_choice *choices = NULL;
    uint64_t count = 0;
    if (room > 0) {
        choices = mem_alloc(in->mem, MEM_MONITOR, room * sizeof *choices);
        if (choices == NULL) return ERR_MEMORY;
    }
    for (uint32_t i = 0; i < in->shard_count; i++) {
        count = gather(in, in->shards[i]->conns, choices, count);
        count = gather(in, in->shards[i]->closed, choices, count);
    }
    must(count == room);
    snapshot_sort(choices, count);

    uint64_t first = (uint64_t)q->offset < count ? (uint64_t)q->offset : count;
    uint64_t shown = (uint64_t)q->limit < count - first ? (uint64_t)q->limit : count - first;
    json_write_object(w, NULL);
    write_head(in, w, in->server->id, shown, total);
    json_write_array(w, "connections");
    for (uint64_t i = first; i < first + shown; i++)
        write_conn(w, choices[i].conn, q, in->server->now_ns);
    json_write_end(w);
    json_write_end(w);
    mem_free(in->mem, MEM_MONITOR, choices, room * sizeof *choices);
    return ERR_OK;
}
