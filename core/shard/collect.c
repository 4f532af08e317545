/* Fills a shard's snapshot for the monitoring pages, and keeps the records of closed connections
 * that /connz shows (max_closed_clients over all shards, the latest). */
#include "core/base/must.h"
#include "core/route/subject.h"
#include "core/monitor/js_snapshot.h"
#include "core/shard/jet.h"

/* A closed connection: what a page may ask, texts in one block. */
struct closed_conn {
    struct conn_snapshot conn; /* slices point into text */
    char *text;
    uint32_t text_bytes;
};

struct closed_ring {
    struct closed_conn *items; /* [capacity], the oldest is overwritten; grown as needed */
    uint32_t capacity, capacity_max, count, next;
};

enum { CLOSED_FIRST = 64 };

enum err collect_open(struct shard *s)
{
    s->closed = mem_alloc_zero(s->mem, MEM_MONITOR, sizeof *s->closed);
    if (s->closed == NULL) return ERR_MEMORY;
    /* Not a share of it: those that closed last may all have been here. Who asks for a page leaves
     * out what is too old over all shards (closed_from). */
    int64_t max = s->options->max_closed_clients;
    s->closed->capacity_max = max < 0 ? 0 : max > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)max;
    return ERR_OK;
}

static void free_item(struct shard *s, struct closed_conn *item)
{
    mem_free(s->mem, MEM_MONITOR, item->text, item->text_bytes);
    *item = (struct closed_conn){0};
}

void collect_close(struct shard *s)
{
    struct closed_ring *r = s->closed;
    if (r == NULL) return;
    for (uint32_t i = 0; i < r->count; i++) free_item(s, &r->items[i]);
    mem_free(s->mem, MEM_MONITOR, r->items, r->capacity * sizeof *r->items);
    mem_free(s->mem, MEM_MONITOR, r, sizeof *r);
    s->closed = NULL;
}

static int64_t wall_of(const struct shard *s, uint64_t mono_ns)
{
    return s->now.wall_ns - (int64_t)(s->now.mono_ns - mono_ns);
}

static struct bytes account_name(const struct client *c)
{
    return c->account == NULL || c->account->conf == NULL ? bytes_of(NULL, 0)
                                                          : c->account->conf->name;
}

void collect_describe(const struct shard *s, const struct client *c, struct conn_snapshot *out)
{
    out->cid = c->cid;
    out->kind = CONN_KIND_CLIENT;
    out->type = CONN_TYPE_NATS;
    out->ip = bytes_of(c->ip, c->ip_len);
    out->port = c->port;
    out->peer = c->peer;
    out->account = c->account == NULL ? 0 : c->account->number;
    out->start_ns = c->opened_wall_ns;
    out->last_activity_ns = wall_of(s, c->active_ns);
    out->rtt_ns = (int64_t)c->rtt_ns;
    out->pending_bytes = c->output.pending_bytes;
    out->in = c->in;
    out->out = c->out;
    out->stalls = c->stalls;
    out->subscriptions = c->sub_count;
    out->name = c->connect.name;
    out->lang = c->connect.lang;
    out->version = c->connect.version;
    out->tls_version = c->tls.version;
    out->tls_cipher = c->tls.cipher;
    out->tls_subject = c->tls.subject;
    out->tls_spki_sha256 = c->tls.spki_sha256;
    out->tls_cert_sha256 = c->tls.cert_sha256;
    out->is_tls_first = client_has(c, CLIENT_TLS_FIRST);
    out->user = c->user_name;
    out->account_name = account_name(c);
    out->account_tag = account_name(c);
}

static void facts_from(const struct shard *s, const struct conn_snapshot *d, struct conn_facts *f)
{
    *f = (struct conn_facts){.cid = d->cid,
                             .account = d->account,
                             .user = d->user,
                             .start_ns = d->start_ns,
                             .last_activity_ns = d->last_activity_ns,
                             .stop_ns = d->stop_ns,
                             .rtt_ns = d->rtt_ns,
                             .now_ns = s->now.wall_ns,
                             .reason = d->reason,
                             .pending_bytes = d->pending_bytes,
                             .in = d->in,
                             .out = d->out,
                             .subscriptions = d->subscriptions};
}

/* --- closed connections ------------------------------------------------------------------------
 */

static struct bytes *const *texts_of(struct conn_snapshot *d, struct bytes **out)
{
    out[0] = &d->ip;
    out[1] = &d->name;
    out[2] = &d->lang;
    out[3] = &d->version;
    out[4] = &d->tls_version;
    out[5] = &d->tls_cipher;
    out[6] = &d->tls_subject;
    out[7] = &d->tls_spki_sha256;
    out[8] = &d->tls_cert_sha256;
    out[9] = &d->user;
    out[10] = &d->account_name;
    out[11] = &d->account_tag;
    return out;
}

enum { TEXTS = 12 };

static struct closed_conn *next_item(struct shard *s, struct closed_ring *r)
{
    if (r->count == r->capacity && r->capacity < r->capacity_max) {
        uint32_t capacity = r->capacity == 0 ? CLOSED_FIRST : r->capacity * 2;
        if (capacity > r->capacity_max) capacity = r->capacity_max;
        struct closed_conn *grown = mem_resize(
            s->mem, MEM_MONITOR, r->items, r->capacity * sizeof *grown, capacity * sizeof *grown);
        if (grown == NULL) return NULL;
        r->items = grown;
        r->capacity = capacity;
        r->next = r->count;
    }
    if (r->capacity == 0) return NULL;
    struct closed_conn *item = &r->items[r->next];
    r->next = (r->next + 1) % r->capacity;
    if (r->count < r->capacity)
        r->count++;
    else
        free_item(s, item);
    *item = (struct closed_conn){0};
    return item;
}

void collect_closed(struct shard *s, const struct client *c)
{
    struct closed_conn *item = next_item(s, s->closed);
    if (item == NULL) return;
    struct conn_snapshot *d = &item->conn;
    collect_describe(s, c, d);
    d->stop_ns = s->now.wall_ns;
    d->reason = (enum closed_reason)c->reason;
    struct bytes *slots[TEXTS];
    struct bytes *const *texts = texts_of(d, slots);
    size_t bytes = 0;
    for (int i = 0; i < TEXTS; i++) bytes += texts[i]->len;
    item->text = bytes == 0 ? NULL : mem_alloc(s->mem, MEM_MONITOR, bytes);
    item->text_bytes = item->text == NULL ? 0 : (uint32_t)bytes;
    char *to = item->text;
    for (int i = 0; i < TEXTS; i++) {
        if (to == NULL || texts[i]->len == 0) {
            *texts[i] = bytes_of(NULL, 0);
            continue;
        }
        memcpy(to, texts[i]->data, texts[i]->len);
        texts[i]->data = to;
        to += texts[i]->len;
    }
}

/* --- snapshots ----------------------------------------------------------------------------------
 */

static void copy_conn(struct shard_snapshot *out, struct conn_snapshot *to,
                      const struct conn_snapshot *from)
{
    struct conn_snapshot *next = to->next;
    *to = *from;
    to->next = next;
    struct bytes *slots[TEXTS];
    struct bytes *const *texts = texts_of(to, slots);
    for (int i = 0; i < TEXTS; i++) *texts[i] = snapshot_text(out, *texts[i]);
}

static bool fill_sub(struct shard *s, struct shard_snapshot *out, struct sub_snapshot *to,
                     const struct sub *sub)
{
    char room[2 * 4096 + 64];
    struct bytes filter, queue;
    if (interest_filter_of(s->interest, sub, room, sizeof room, &filter, &queue) != ERR_OK)
        return false;
    to->account = sub->owner->account->number;
    to->account_name = snapshot_text(out, account_name(sub->owner));
    to->account_tag = to->account_name;
    to->subject = snapshot_text(out, filter);
    to->queue = snapshot_text(out, queue);
    to->sid = snapshot_text(out, sub_sid(sub));
    to->msgs = sub->delivered;
    to->max = sub->max;
    to->cid = sub->owner->cid;
    return true;
}

/* Calls visit for each sub of c until it answers false. */
static void each_sub(struct shard *s, const struct client *c,
                     bool (*visit)(struct shard *s, const struct sub *sub, void *context),
                     void *context)
{
    if (c->sids == NULL) return;
    for (uint32_t b = 0; b <= c->sid_mask; b++)
        for (uint32_t i = c->sids[b]; i != 0; i = sub_at(s->subs, i)->sid_next)
            if (!visit(s, sub_at(s->subs, i), context)) return;
}

struct collecting {
    struct shard_snapshot *out;
    const struct page_query *query;
    struct conn_snapshot *conn;
    bool is_found;
};

static bool add_conn_sub(struct shard *s, const struct sub *sub, void *context)
{
    struct collecting *x = context;
    struct sub_snapshot *to = snapshot_add_conn_sub(x->out, x->conn);
    return to != NULL && fill_sub(s, x->out, to, sub);
}

static bool collides(struct shard *s, const struct sub *sub, void *context)
{
    struct collecting *x = context;
    char room[2 * 4096 + 64];
    struct bytes filter, queue;
    if (interest_filter_of(s->interest, sub, room, sizeof room, &filter, &queue) == ERR_OK &&
        subject_collides(filter, x->query->filter_subject))
        x->is_found = true;
    return !x->is_found;
}

static bool add_page_sub(struct shard *s, const struct sub *sub, void *context)
{
    struct collecting *x = context;
    char room[2 * 4096 + 64];
    struct bytes filter, queue;
    if (interest_filter_of(s->interest, sub, room, sizeof room, &filter, &queue) != ERR_OK)
        return true;
    if (!query_wants_sub(x->query, sub->owner->account->number, filter)) return true;
    if (x->out->subs_matched++ >= query_window(x->query)) return true;
    struct sub_snapshot *to = snapshot_add_sub(x->out);
    return to != NULL && fill_sub(s, x->out, to, sub);
}

static bool is_of_account(const struct page_query *q, uint32_t account)
{
    return q->account.len == 0 || q->account_number == account;
}

static void collect_open_conns(struct shard *s, struct collecting *x)
{
    struct snapshot_pick pick;
    struct conn_facts facts;
    snapshot_pick_init(&pick, x->out, x->query);
    for (struct list *link = s->all.next; link != &s->all; link = link->next) {
        struct client *c = LIST_OWNER(link, struct client, all);
        struct conn_snapshot d = {0};
        collect_describe(s, c, &d);
        if (!is_of_account(x->query, d.account)) continue;
        x->out->conns_total++;
        facts_from(s, &d, &facts);
        if (!query_wants_conn(x->query, &facts)) continue;
        x->is_found = x->query->filter_subject.len == 0;
        if (!x->is_found) each_sub(s, c, collides, x);
        if (x->is_found) snapshot_pick_offer(&pick, query_conn_key(x->query, &facts), c->cid, c);
    }
    for (uint64_t i = 0; i < pick.count; i++) {
        struct client *c = pick.best[i].conn;
        struct conn_snapshot d = {0};
        x->conn = snapshot_add_conn(x->out);
        if (x->conn == NULL) break;
        collect_describe(s, c, &d);
        copy_conn(x->out, x->conn, &d);
        if (x->query->collect & COLLECT_CONNECTION_SUBS) each_sub(s, c, add_conn_sub, x);
    }
    x->out->conns_matched = pick.offered;
}

static void collect_closed_conns(struct shard *s, struct collecting *x)
{
    struct snapshot_pick pick;
    struct conn_facts facts;
    snapshot_pick_init(&pick, x->out, x->query);
    if (s->shard_count > 1 && s->closed->count > 0)
        x->out->closed_ends =
            snapshot_alloc(x->out, s->closed->count * sizeof *x->out->closed_ends);
    for (uint32_t i = 0; i < s->closed->count; i++) {
        struct closed_conn *item = &s->closed->items[i];
        struct query_end end = {item->conn.stop_ns, item->conn.cid};
        if (x->out->closed_ends != NULL) x->out->closed_ends[x->out->closed_kept++] = end;
        if (query_end_is_before(end, x->query->closed_from)) continue;
        if (!is_of_account(x->query, item->conn.account)) continue;
        x->out->closed_total++;
        facts_from(s, &item->conn, &facts);
        if (query_wants_conn(x->query, &facts))
            snapshot_pick_offer(&pick, query_conn_key(x->query, &facts), item->conn.cid, item);
    }
    for (uint64_t i = 0; i < pick.count; i++) {
        struct conn_snapshot *to = snapshot_add_closed(x->out);
        if (to == NULL) break;
        copy_conn(x->out, to, &((struct closed_conn *)pick.best[i].conn)->conn);
    }
    x->out->closed_matched = pick.offered;
}

static void collect_accounts(struct shard *s, struct shard_snapshot *out)
{
    out->accounts = s->account_count == 0
                        ? NULL
                        : snapshot_alloc(out, s->account_count * sizeof *out->accounts);
    for (uint32_t i = 0; out->accounts != NULL && i < s->account_count; i++)
        if (s->accounts[i] != NULL) out->accounts[out->account_count++] = s->accounts[i]->counts;
}

static void collect_jetstream(struct shard *s, struct shard_snapshot *out,
                              const struct page_query *q)
{
    for (uint32_t i = 0; i < s->jet_count; i++) {
        struct js_store_counts counts = {.state = JS_STORE_OK};
        const struct shard_store *port = &s->jets[i]->port;
        if (port->count != NULL) port->count(port->store, &counts);
        js_snapshot_take(out, s->jets[i]->js, q, &counts);
    }
}

void collect_snapshot(struct shard *s, const struct order *o)
{
    struct shard_snapshot *out;
    o->snapshots[s->index] = NULL;
    if (snapshot_open(s->mem, s->index, &out) != ERR_OK) return;
    out->taken_ns = s->now.wall_ns;
    s->counts.in_clients = s->counts.in;
    s->counts.out_clients = s->counts.out;
    route_cache_count(s->routes, &s->counts.route_cache);
    memcpy(s->counts.memory_bytes, s->mem->used_bytes, sizeof s->counts.memory_bytes);
    out->counts = s->counts;
    uint32_t what = o->query->collect;
    struct collecting x = {.out = out, .query = o->query};
    if (what & COLLECT_JETSTREAM) collect_jetstream(s, out, o->query);
    if (what & COLLECT_ACCOUNTS) collect_accounts(s, out);
    if (what & COLLECT_CONNECTIONS) collect_open_conns(s, &x);
    if (what & COLLECT_CLOSED) collect_closed_conns(s, &x);
    for (struct list *link = s->all.next; (what & COLLECT_SUBS) && link != &s->all;
         link = link->next)
        each_sub(s, LIST_OWNER(link, struct client, all), add_page_sub, &x);
    for (int i = 0; (what & COLLECT_HISTOGRAMS) && i < SHARD_HISTOGRAM_COUNT; i++)
        snapshot_add_histogram(out, (enum shard_histogram)i, s->histograms[i]);
    o->snapshots[s->index] = out;
}
