/* What the operator asks of a shard: new options, lame duck, snapshots, kicks, shutdown. */
#include "core/base/must.h"
#include "core/shard/internal.h"

enum { CLOSE_BATCH_MAX = 200 };

/* host:port, or a host alone with the listener's port. */
static void set_info_address(struct shard *s)
{
    struct bytes a = s->options->client_advertise;
    s->info_host = s->server->host;
    s->info_port = s->server->port;
    if (a.len == 0) return;
    size_t colon = a.len;
    while (colon > 0 && a.data[colon - 1] >= '0' && a.data[colon - 1] <= '9') colon--;
    uint64_t port;
    bool has_port = colon > 0 && colon < a.len && a.data[colon - 1] == ':' &&
                    bytes_to_u64(bytes_of(a.data + colon, a.len - colon), 5, &port) == ERR_OK;
    if (has_port) {
        a.len = colon - 1;
        s->info_port = (int)port;
    }
    if (a.len >= 2 && a.data[0] == '[' && a.data[a.len - 1] == ']')
        a = bytes_of(a.data + 1, a.len - 2);
    s->info_host = a;
}

void orders_use_options(struct shard *s, const struct options *o)
{
    s->options = o;
    s->stall_bytes = (uint64_t)o->max_pending / 4 * 3;
    set_info_address(s);
}

static void tell_info(struct shard *s)
{
    for (struct list *link = s->all.next; link != &s->all;) {
        struct client *c = LIST_OWNER(link, struct client, all);
        link = link->next;
        if (c->state == CLIENT_OPEN && client_has(c, CLIENT_PONGED) && c->connect.protocol >= 1)
            verbs_send_info(s, c, false);
    }
}

/* As in nats-server: a TCP client without a certificate, also one whose handshake is under way,
 * shows none of the pinned ones. */
static bool is_pinned(const struct options_tls *tls, const struct client *c)
{
    char hex[2 * OPTIONS_PIN_BYTES];
    if (tls->pinned_count == 0 || client_has(c, CLIENT_IS_UNIX)) return true;
    for (uint32_t i = 0; i < tls->pinned_count; i++) {
        bytes_to_hex(tls->pinned[i], OPTIONS_PIN_BYTES, hex);
        if (bytes_equal(c->tls.spki_sha256, bytes_of(hex, sizeof hex))) return true;
    }
    return false;
}

static void apply_options(struct shard *s, const struct order *order)
{
    const struct options *o = order->options;
    const struct account_set *old = s->options->accounts;
    orders_use_options(s, o);
    for (uint32_t i = 0; i < s->account_count; i++)
        if (s->accounts[i] != NULL) s->accounts[i]->conf = account_set_by_number(o->accounts, i);
    /* entry_recheck compares with the old users; the caller keeps the old options until every
     * shard is done with this order. */
    for (struct list *link = s->all.next; link != &s->all;) {
        struct client *c = LIST_OWNER(link, struct client, all);
        link = link->next;
        if (order->checks_pins && !is_pinned(&o->tls, c))
            session_close(s, c, CLOSED_TLS_HANDSHAKE, false);
        else
            entry_recheck(s, c, old);
    }
    jet_use_options(s);
    if (order->tells_info) tell_info(s);
}

static void lame_duck(struct shard *s)
{
    s->is_lame_duck = true;
    tell_info(s);
}

static void close_some(struct shard *s, uint32_t count, enum closed_reason reason)
{
    for (struct list *link = s->all.next; link != &s->all && count > 0;) {
        struct client *c = LIST_OWNER(link, struct client, all);
        link = link->next;
        if (reason == CLOSED_MAX_CONNECTIONS)
            session_error(s, c, NATS_ERR_LINE("maximum connections exceeded"));
        session_close(s, c, reason, true);
        count--;
    }
}

static struct client *find_cid(struct shard *s, uint64_t cid)
{
    for (struct list *link = s->all.next; link != &s->all; link = link->next) {
        struct client *c = LIST_OWNER(link, struct client, all);
        if (c->cid == cid) return c;
    }
    return NULL;
}

void orders_run(struct shard *s, struct order *o)
{
    struct client *c;
    switch (o->kind) {
    case ORDER_OPTIONS: apply_options(s, o); break;
    case ORDER_LAME_DUCK: lame_duck(s); break;
    case ORDER_CLOSE_SOME:
        close_some(s, o->count < CLOSE_BATCH_MAX ? o->count : CLOSE_BATCH_MAX,
                   o->reason == CLOSED_NONE ? CLOSED_SHUTDOWN : o->reason);
        o->left[s->index] = s->open_count;
        break;
    case ORDER_STOPPING:
        if (s->jet != NULL) jet_tell_pullers(s);
        break;
    case ORDER_SHUTDOWN:
        s->is_stopping = true;
        close_some(s, CLOSE_BATCH_MAX, CLOSED_SHUTDOWN);
        o->left[s->index] = s->open_count;
        break;
    case ORDER_SNAPSHOT: collect_snapshot(s, o); break;
    case ORDER_SNAPSHOT_FREE:
        snapshot_close(o->snapshots[s->index]);
        o->snapshots[s->index] = NULL;
        break;
    case ORDER_PUBLISH:
        system_publish(s, o->account, o->subject, o->payload, o->header_bytes);
        break;
    case ORDER_KICK:
        c = find_cid(s, o->cid);
        if (c == NULL) break;
        o->found = true;
        session_close(s, c, CLOSED_KICKED, true);
        break;
    case ORDER_LDM_ONE:
        c = find_cid(s, o->cid);
        if (c == NULL) break;
        o->found = true;
        bool was = s->is_lame_duck;
        s->is_lame_duck = true;
        verbs_send_info(s, c, false);
        s->is_lame_duck = was;
        break;
    }
    session_effect(s, EFFECT_ORDER_DONE, (struct conn_id){0})->order = o;
}
