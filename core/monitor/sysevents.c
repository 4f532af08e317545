#include "core/monitor/sysevents.h"
#include "core/base/must.h"
#include "core/base/time_text.h"
#include "core/monitor/accstatz.h"
#include "core/monitor/connz.h"
#include "core/monitor/jsz.h"
#include "core/monitor/varz.h"

/* Bits of what a server is able to do; the others are of streams' snapshots and of clusters. */
enum { SYSEVENTS_FLAG_JETSTREAM = 1 };

void sysevents_subject(struct text *out, enum sysevents_kind event, struct bytes name)
{
    static const struct {
        const char *before, *after;
    } parts[] = {
        [SYSEVENTS_CONNECT] = {"$SYS.ACCOUNT.", ".CONNECT"},
        [SYSEVENTS_DISCONNECT] = {"$SYS.ACCOUNT.", ".DISCONNECT"},
        [SYSEVENTS_ACCOUNT_CONNS] = {"$SYS.ACCOUNT.", ".SERVER.CONNS"},
        [SYSEVENTS_ACCOUNT_CONNS_LEGACY] = {"$SYS.SERVER.ACCOUNT.", ".CONNS"},
        [SYSEVENTS_STATSZ] = {"$SYS.SERVER.", ".STATSZ"},
        [SYSEVENTS_LAMEDUCK] = {"$SYS.SERVER.", ".LAMEDUCK"},
        [SYSEVENTS_SHUTDOWN] = {"$SYS.SERVER.", ".SHUTDOWN"},
        [SYSEVENTS_AUTH_ERROR] = {"$SYS.SERVER.", ".CLIENT.AUTH.ERR"},
        [SYSEVENTS_ACCOUNT_AUTH_ERROR] = {"$SYS.ACCOUNT.CLIENT.AUTH.ERR", NULL},
    };
    must(event <= SYSEVENTS_ACCOUNT_AUTH_ERROR);
    text_string(out, parts[event].before);
    if (parts[event].after == NULL) return;
    text_bytes(out, name);
    text_string(out, parts[event].after);
}

void sysevents_write_server(struct json_write *w, const char *key,
                            const struct server_snapshot *server)
{
    const struct options *o = server->options;
    json_write_object(w, key);
    json_write_text(w, "name", server->name);
    json_write_text(w, "host", server->host);
    json_write_text(w, "id", server->id);
    json_write_text_if(w, "cluster", server->cluster);
    json_write_text_if(w, "domain", server->domain);
    json_write_text(w, "ver", server->version);
    json_write_texts_if(w, "tags", o->server_tags.items, o->server_tags.count);
    varz_write_metadata(w, o);
    varz_write_features(w);
    bool is_on = server->jetstream.is_on;
    json_write_bool(w, "jetstream", is_on);
    json_write_u64(w, "flags", is_on ? SYSEVENTS_FLAG_JETSTREAM : 0);
    json_write_u64(w, "seq", server->seq);
    json_write_time(w, "time", server->now_ns);
    json_write_end(w);
}

static void write_head(struct json_write *w, const char *type, const struct sysevents_head *head,
                       const struct server_snapshot *server)
{
    json_write_text(w, "type", bytes_from_text(type));
    json_write_text(w, "id", head->id);
    json_write_time(w, "timestamp", head->time_ns);
    sysevents_write_server(w, "server", server);
}

static void write_client(struct json_write *w, const struct conn_snapshot *c)
{
    json_write_object(w, "client");
    json_write_time(w, "start", c->start_ns);
    json_write_text_if(w, "host", c->ip);
    json_write_u64_if(w, "id", c->cid);
    json_write_text(w, "acc", c->account_name.len != 0 ? c->account_name : BYTES_LITERAL("N/A"));
    json_write_text_if(w, "user", c->user);
    json_write_text_if(w, "name", c->name);
    json_write_text_if(w, "lang", c->lang);
    json_write_text_if(w, "ver", c->version);
    if (c->stop_ns != 0) json_write_i64_if(w, "rtt", time_text_round_trip(c->rtt_ns));
    json_write_time_if(w, "stop", c->stop_ns);
    json_write_text_if(w, "jwt", c->jwt);
    json_write_text_if(w, "issuer_key", c->issuer_key);
    json_write_text_if(w, "name_tag", c->account_tag);
    json_write_texts_if(w, "tags", c->tags, c->tag_count);
    json_write_text(w, "kind", connz_kind_text(c->kind));
    json_write_text_if(w, "client_type", connz_type_text(c->type));
    json_write_text_if(w, "client_id", c->mqtt_client);
    json_write_end(w);
}

void sysevents_write_connect(struct text *out, const struct server_snapshot *server,
                             const struct sysevents_head *head, const struct conn_snapshot *client)
{
    struct json_write w;
    json_write_init(&w, out, 0);
    json_write_object(&w, NULL);
    write_head(&w, "io.nats.server.advisory.v1.client_connect", head, server);
    write_client(&w, client);
    json_write_end(&w);
}

void sysevents_write_disconnect(struct text *out, const struct server_snapshot *server,
                                const struct sysevents_head *head,
                                const struct conn_snapshot *client, struct bytes reason)
{
    struct json_write w;
    must(client->stop_ns != 0);
    json_write_init(&w, out, 0);
    json_write_object(&w, NULL);
    write_head(&w, "io.nats.server.advisory.v1.client_disconnect", head, server);
    write_client(&w, client);
    /* Seen from the client: what it sent came in here. */
    accstatz_write_traffic(&w, "sent", &client->in);
    accstatz_write_traffic(&w, "received", &client->out);
    json_write_text(&w, "reason", reason);
    json_write_end(&w);
}

void sysevents_write_account(struct text *out, const struct server_snapshot *server,
                             const struct sysevents_head *head, const struct account *a,
                             const struct account_snapshot *sums)
{
    struct json_write w;
    json_write_init(&w, out, 0);
    json_write_object(&w, NULL);
    write_head(&w, "io.nats.server.advisory.v1.account_connections", head, server);
    accstatz_write_account(&w, a, sums);
    json_write_end(&w);
}

static uint64_t kinds_total(const struct conn_kind_counts *c)
{
    return c->clients + c->routes + c->gateways + c->leafs;
}

static void write_stats(struct json_write *w, const struct page_input *in,
                        const struct shard_counts *c, uint32_t active_accounts)
{
    const struct server_snapshot *s = in->server;
    json_write_object(w, "statsz");
    json_write_time(w, "start", s->start_ns);
    json_write_u64(w, "mem", s->process.resident_bytes);
    json_write_u64(w, "cores", s->cores);
    json_write_float(w, "cpu", s->process.cpu_percent);
    json_write_u64(w, "connections", c->connections);
    json_write_u64(w, "total_connections", c->total_connections);
    json_write_u64(w, "active_accounts", active_accounts);
    json_write_u64(w, "subscriptions", c->subscriptions);
    accstatz_write_traffic(w, "sent", &c->out);
    accstatz_write_traffic(w, "sent_to_clients", &c->out_clients);
    accstatz_write_traffic(w, "received", &c->in);
    accstatz_write_traffic(w, "received_from_clients", &c->in_clients);
    json_write_u64(w, "slow_consumers", kinds_total(&c->slow_consumers));
    if (kinds_total(&c->slow_consumers) != 0)
        varz_write_kinds(w, "slow_consumer_stats", &c->slow_consumers);
    json_write_u64_if(w, "stale_connections", kinds_total(&c->stale_connections));
    if (kinds_total(&c->stale_connections) != 0)
        varz_write_kinds(w, "stale_connection_stats", &c->stale_connections);
    json_write_u64_if(w, "stalled_clients", c->stalled_clients);
    json_write_u64(w, "active_servers", 1);
    if (s->jetstream.is_on) jsz_write_server(in, w, false);
    json_write_i64_if(w, "gomemlimit", s->memory_limit_bytes);
    json_write_u64_if(w, "gomaxprocs", s->shards);
    json_write_end(w);
}

enum err sysevents_write_statsz(const struct page_input *in, struct text *out)
{
    struct shard_counts counts;
    struct account_totals totals;
    snapshot_merge_counts(in, &counts);
    if (snapshot_merge_accounts(in, &totals) != ERR_OK) return ERR_MEMORY;
    uint32_t active = 0;
    for (uint32_t i = 0; i < totals.count; i++)
        if (totals.by_number[i].connections != 0 || totals.by_number[i].leafs != 0) active++;
    snapshot_totals_free(in, &totals);

    struct json_write w;
    json_write_init(&w, out, 0);
    json_write_object(&w, NULL);
    sysevents_write_server(&w, "server", in->server);
    write_stats(&w, in, &counts, active);
    json_write_end(&w);
    return ERR_OK;
}

void sysevents_write_farewell(struct text *out, const struct server_snapshot *server)
{
    struct json_write w;
    json_write_init(&w, out, 0);
    sysevents_write_server(&w, NULL, server);
}
