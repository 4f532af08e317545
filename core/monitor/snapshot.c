#include "core/monitor/snapshot.h"
#include "core/base/must.h"
#include "core/base/sort.h"
#include "core/monitor/js_snapshot.h"

enum {
    /* A connection with its texts takes about 1 KiB, so a page of 1024 connections over a few
     * shards is some dozen blocks. */
    SNAPSHOT_BLOCK_BYTES = 32 * 1024,
    SNAPSHOT_ALIGN = 16,
    SNAPSHOT_PICK_FIRST = 64,
};

/* Blocks in the order of their age, the newest first; only the newest is filled further. */
struct snapshot_block {
    struct snapshot_block *next;
    size_t bytes; /* of the allocation, head included */
    size_t used;  /* head included */
};

static size_t round_up(size_t bytes)
{
    return (bytes + SNAPSHOT_ALIGN - 1) & ~(size_t)(SNAPSHOT_ALIGN - 1);
}

static struct snapshot_block *block_open(struct mem *mem, size_t payload_bytes)
{
    size_t head = round_up(sizeof(struct snapshot_block));
    size_t bytes = head + payload_bytes;
    if (bytes < SNAPSHOT_BLOCK_BYTES) bytes = SNAPSHOT_BLOCK_BYTES;
    struct snapshot_block *b = mem_alloc_zero(mem, MEM_MONITOR, bytes);
    if (b == NULL) return NULL;
    b->bytes = bytes;
    b->used = head;
    return b;
}

static void *block_take(struct snapshot_block *b, size_t bytes)
{
    must(b->used + bytes <= b->bytes);
    void *p = (char *)b + b->used;
    b->used += bytes;
    return p;
}

enum err snapshot_open(struct mem *mem, uint32_t shard, struct shard_snapshot **out)
{
    struct snapshot_block *b = block_open(mem, round_up(sizeof(struct shard_snapshot)));
    if (b == NULL) return ERR_MEMORY;
    struct shard_snapshot *s = block_take(b, round_up(sizeof *s));
    s->shard = shard;
    s->mem = mem;
    s->blocks = b;
    s->conns_end = &s->conns;
    s->closed_end = &s->closed;
    s->subs_end = &s->subs;
    *out = s;
    return ERR_OK;
}

void snapshot_close(struct shard_snapshot *s)
{
    if (s == NULL) return;
    struct mem *mem = s->mem;
    if (s->js != NULL) js_snapshot_end(s->js);
    /* The snapshot itself lies in the oldest block, so nothing of it is read from here on. */
    struct snapshot_block *b = s->blocks;
    while (b != NULL) {
        struct snapshot_block *next = b->next;
        mem_free(mem, MEM_MONITOR, b, b->bytes);
        b = next;
    }
}

void *snapshot_alloc(struct shard_snapshot *s, size_t bytes)
{
    must(bytes > 0);
    bytes = round_up(bytes);
    struct snapshot_block *b = s->blocks;
    if (b->bytes - b->used < bytes) {
        b = block_open(s->mem, bytes);
        if (b == NULL) {
            s->is_short = true;
            return NULL;
        }
        b->next = s->blocks;
        s->blocks = b;
    }
    return block_take(b, bytes);
}

struct bytes snapshot_text(struct shard_snapshot *s, struct bytes text)
{
    if (text.len == 0) return (struct bytes){NULL, 0};
    char *copy = snapshot_alloc(s, text.len);
    if (copy == NULL) return (struct bytes){NULL, 0};
    memcpy(copy, text.data, text.len);
    return bytes_of(copy, text.len);
}

static struct conn_snapshot *add_conn(struct shard_snapshot *s, struct conn_snapshot ***end)
{
    struct conn_snapshot *c = snapshot_alloc(s, sizeof *c);
    if (c == NULL) return NULL;
    **end = c;
    *end = &c->next;
    return c;
}

struct conn_snapshot *snapshot_add_conn(struct shard_snapshot *s)
{
    return add_conn(s, &s->conns_end);
}

struct conn_snapshot *snapshot_add_closed(struct shard_snapshot *s)
{
    return add_conn(s, &s->closed_end);
}

struct sub_snapshot *snapshot_add_sub(struct shard_snapshot *s)
{
    struct sub_snapshot *sub = snapshot_alloc(s, sizeof *sub);
    if (sub == NULL) return NULL;
    *s->subs_end = sub;
    s->subs_end = &sub->next;
    return sub;
}

struct sub_snapshot *snapshot_add_conn_sub(struct shard_snapshot *s, struct conn_snapshot *conn)
{
    struct sub_snapshot *sub = snapshot_alloc(s, sizeof *sub);
    if (sub == NULL) return NULL;
    sub->next = conn->subs;
    conn->subs = sub;
    return sub;
}

void snapshot_add_histogram(struct shard_snapshot *s, enum shard_histogram kind,
                            const struct histogram *h)
{
    must(kind < SHARD_HISTOGRAM_COUNT);
    struct histogram *copy = snapshot_alloc(s, sizeof *copy);
    if (copy == NULL) return;
    *copy = *h;
    s->histograms[kind] = copy;
}

/* --- choosing ------------------------------------------------------------------------------ */

void snapshot_pick_init(struct snapshot_pick *p, struct shard_snapshot *s,
                        const struct page_query *q)
{
    *p = (struct snapshot_pick){.snapshot = s, .count_max = query_window(q)};
}

/* Does a come before b on the page? */
static bool choice_is_better(const struct snapshot_choice *a, const struct snapshot_choice *b)
{
    if (a->key != b->key) return a->key > b->key;
    return a->cid < b->cid;
}

static void choice_swap(struct snapshot_choice *a, struct snapshot_choice *b)
{
    struct snapshot_choice t = *a;
    *a = *b;
    *b = t;
}

/* The heap heap[0 .. count) has its worst on top; only the place at may break that. */
static void sift_down(struct snapshot_choice *heap, uint64_t count, uint64_t at)
{
    for (;;) {
        uint64_t child = 2 * at + 1;
        if (child >= count) return;
        if (child + 1 < count && choice_is_better(&heap[child], &heap[child + 1])) child++;
        if (!choice_is_better(&heap[at], &heap[child])) return;
        choice_swap(&heap[at], &heap[child]);
        at = child;
    }
}

static void pick_sift_up(struct snapshot_pick *p)
{
    uint64_t at = p->count - 1;
    while (at > 0) {
        uint64_t parent = (at - 1) / 2;
        if (!choice_is_better(&p->best[parent], &p->best[at])) return;
        choice_swap(&p->best[at], &p->best[parent]);
        at = parent;
    }
}

static bool pick_grow(struct snapshot_pick *p)
{
    uint64_t capacity = p->capacity == 0 ? SNAPSHOT_PICK_FIRST : p->capacity * 2;
    struct snapshot_choice *best = snapshot_alloc(p->snapshot, capacity * sizeof *best);
    if (best == NULL) return false;
    if (p->count > 0) memcpy(best, p->best, p->count * sizeof *best);
    p->best = best;
    p->capacity = capacity;
    return true;
}

void snapshot_pick_offer(struct snapshot_pick *p, int64_t key, uint64_t cid, void *conn)
{
    struct snapshot_choice c = {key, cid, conn};
    p->offered++;
    if (p->count < p->count_max) {
        if (p->count == p->capacity && !pick_grow(p)) return;
        p->best[p->count++] = c;
        pick_sift_up(p);
        return;
    }
    if (p->count == 0 || !choice_is_better(&c, &p->best[0])) return;
    p->best[0] = c;
    sift_down(p->best, p->count, 0);
}

void snapshot_sort(struct snapshot_choice *choices, uint64_t count)
{
    for (uint64_t at = count / 2; at-- > 0;) sift_down(choices, count, at);
    while (count > 1) {
        count--;
        choice_swap(&choices[0], &choices[count]);
        sift_down(choices, count, 0);
    }
}

/* --- merging ------------------------------------------------------------------------------- */

static void add_traffic(struct traffic *into, const struct traffic *from)
{
    into->msgs += from->msgs;
    into->bytes += from->bytes;
}

static void add_kinds(struct conn_kind_counts *into, const struct conn_kind_counts *from)
{
    into->clients += from->clients;
    into->routes += from->routes;
    into->gateways += from->gateways;
    into->leafs += from->leafs;
}

static void add_counts(struct shard_counts *into, const struct shard_counts *c)
{
    into->connections += c->connections;
    into->leafs += c->leafs;
    into->total_connections += c->total_connections;
    into->subscriptions += c->subscriptions;
    add_traffic(&into->in, &c->in);
    add_traffic(&into->out, &c->out);
    add_traffic(&into->in_clients, &c->in_clients);
    add_traffic(&into->out_clients, &c->out_clients);
    add_kinds(&into->slow_consumers, &c->slow_consumers);
    add_kinds(&into->stale_connections, &c->stale_connections);
    into->stalled_clients += c->stalled_clients;
    into->auth_failures += c->auth_failures;
    into->auth_timeouts += c->auth_timeouts;
    into->dropped_msgs += c->dropped_msgs;
    into->no_responders += c->no_responders;
    into->queue_forwards += c->queue_forwards;
    into->turns += c->turns;
    into->turns_idle += c->turns_idle;
    into->busy_ns += c->busy_ns;
    into->parked += c->parked;
    for (int i = 0; i < PARK_REASON_COUNT; i++) into->parks[i] += c->parks[i];
    into->pending_bytes += c->pending_bytes;
    into->mail.sent += c->mail.sent;
    into->mail.received += c->mail.received;
    into->mail.sent_bytes += c->mail.sent_bytes;
    into->mail.received_bytes += c->mail.received_bytes;
    into->mail.ring_full += c->mail.ring_full;
    into->mail.spills += c->mail.spills;
    into->mail.spilled_bytes += c->mail.spilled_bytes;
    into->mail.spill_bytes_now += c->mail.spill_bytes_now;
    if (c->mail.spill_bytes_most > into->mail.spill_bytes_most)
        into->mail.spill_bytes_most = c->mail.spill_bytes_most;
    into->route_cache.hits += c->route_cache.hits;
    into->route_cache.misses += c->route_cache.misses;
    into->route_cache.evictions += c->route_cache.evictions;
    into->route_cache.stale += c->route_cache.stale;
    into->route_cache.entries += c->route_cache.entries;
    into->route_cache.bytes += c->route_cache.bytes;
    into->driver.polls += c->driver.polls;
    into->driver.syscalls += c->driver.syscalls;
    into->driver.completions += c->driver.completions;
    into->driver.recvs += c->driver.recvs;
    into->driver.recv_bytes += c->driver.recv_bytes;
    into->driver.sends += c->driver.sends;
    into->driver.sent_bytes += c->driver.sent_bytes;
    into->driver.recv_rearms += c->driver.recv_rearms;
    into->driver.recv_no_buffers += c->driver.recv_no_buffers;
    into->driver.cq_overflows += c->driver.cq_overflows;
    into->driver.wakes += c->driver.wakes;
    for (int i = 0; i < MEM_CLASS_COUNT; i++) into->memory_bytes[i] += c->memory_bytes[i];
}

void snapshot_merge_counts(const struct page_input *in, struct shard_counts *out)
{
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < in->shard_count; i++) add_counts(out, &in->shards[i]->counts);
}

static void add_account(struct account_snapshot *into, const struct account_snapshot *a)
{
    into->connections += a->connections;
    into->leafs += a->leafs;
    into->total_connections += a->total_connections;
    into->subscriptions += a->subscriptions;
    add_traffic(&into->sent, &a->sent);
    add_traffic(&into->received, &a->received);
    into->slow_consumers += a->slow_consumers;
}

void snapshot_merge_account(const struct page_input *in, uint32_t account,
                            struct account_snapshot *out)
{
    *out = (struct account_snapshot){.account = account};
    for (uint32_t i = 0; i < in->shard_count; i++) {
        const struct shard_snapshot *s = in->shards[i];
        for (uint32_t k = 0; k < s->account_count; k++)
            if (s->accounts[k].account == account) add_account(out, &s->accounts[k]);
    }
}

enum err snapshot_merge_accounts(const struct page_input *in, struct account_totals *out)
{
    uint32_t count = 0;
    const struct account_set *set = in->server->options->accounts;
    for (uint32_t i = 0; set != NULL && i < set->account_count; i++)
        if (set->accounts[i]->number >= count) count = set->accounts[i]->number + 1;
    for (uint32_t i = 0; i < in->shard_count; i++)
        for (uint32_t k = 0; k < in->shards[i]->account_count; k++)
            if (in->shards[i]->accounts[k].account >= count)
                count = in->shards[i]->accounts[k].account + 1;
    if (count == 0) {
        *out = (struct account_totals){NULL, 0};
        return ERR_OK;
    }

    struct account_snapshot *a = mem_alloc_zero(in->mem, MEM_MONITOR, count * sizeof *a);
    if (a == NULL) return ERR_MEMORY;
    for (uint32_t number = 0; number < count; number++) a[number].account = number;
    for (uint32_t i = 0; i < in->shard_count; i++)
        for (uint32_t k = 0; k < in->shards[i]->account_count; k++)
            add_account(&a[in->shards[i]->accounts[k].account], &in->shards[i]->accounts[k]);
    *out = (struct account_totals){a, count};
    return ERR_OK;
}

void snapshot_totals_free(const struct page_input *in, struct account_totals *t)
{
    mem_free(in->mem, MEM_MONITOR, t->by_number, t->count * sizeof *t->by_number);
    *t = (struct account_totals){NULL, 0};
}

void snapshot_resolve(const struct server_snapshot *server, struct page_query *q)
{
    q->account_number = QUERY_NO_ACCOUNT;
    if (q->account.len == 0) return;
    const struct account *a = snapshot_account_by_name(server, q->account);
    if (a != NULL) q->account_number = a->number;
}

const struct account *snapshot_account_by_number(const struct server_snapshot *server,
                                                 uint32_t account)
{
    const struct account_set *set = server->options->accounts;
    for (uint32_t i = 0; set != NULL && i < set->account_count; i++)
        if (set->accounts[i]->number == account) return set->accounts[i];
    return NULL;
}

const struct account *snapshot_account_by_name(const struct server_snapshot *server,
                                               struct bytes name)
{
    const struct account_set *set = server->options->accounts;
    for (uint32_t i = 0; set != NULL && i < set->account_count; i++)
        if (bytes_equal(set->accounts[i]->name, name)) return set->accounts[i];
    return NULL;
}

struct bytes snapshot_system_account(const struct server_snapshot *server)
{
    const struct account_set *set = server->options->accounts;
    if (set == NULL) return (struct bytes){NULL, 0};
    const struct account *a = snapshot_account_by_number(server, set->system);
    return a == NULL ? (struct bytes){NULL, 0} : a->name;
}

static int compare_names(const void *a, const void *b)
{
    const struct account *x = a, *y = b;
    return bytes_compare(x->name, y->name);
}

enum err snapshot_accounts_by_name(const struct page_input *in, struct account_list *out)
{
    const struct account_set *set = in->server->options->accounts;
    uint32_t count = set == NULL ? 0 : set->account_count;
    *out = (struct account_list){NULL, 0};
    if (count == 0) return ERR_OK;
    const void **sorted = mem_alloc(in->mem, MEM_MONITOR, count * sizeof *sorted);
    if (sorted == NULL) return ERR_MEMORY;
    for (uint32_t i = 0; i < count; i++) sorted[i] = set->accounts[i];
    sort_pointers(sorted, count, compare_names);
    *out = (struct account_list){(const struct account **)sorted, count};
    return ERR_OK;
}

void snapshot_accounts_free(const struct page_input *in, struct account_list *l)
{
    mem_free(in->mem, MEM_MONITOR, l->list, l->count * sizeof *l->list);
    *l = (struct account_list){NULL, 0};
}

bool snapshot_is_short(const struct page_input *in)
{
    for (uint32_t i = 0; i < in->shard_count; i++)
        if (in->shards[i]->is_short) return true;
    return false;
}
