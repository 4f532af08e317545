#include "core/monitor/js_snapshot.h"
#include "core/base/must.h"
#include "core/base/sort.h"
#include "core/js/consumer_pack.h"

/* --- one shard ------------------------------------------------------------------------------- */

static struct js_counts *counts_of(struct shard_snapshot *out, uint32_t account)
{
    struct js_snapshot *s = out->js;
    if (account >= s->account_count) {
        uint32_t count = s->account_count * 2 > account ? s->account_count * 2 : account + 1;
        struct js_counts *grown = snapshot_alloc(out, count * sizeof *grown);
        if (grown == NULL) return NULL;
        if (s->account_count > 0) memcpy(grown, s->accounts, s->account_count * sizeof *grown);
        s->accounts = grown;
        s->account_count = count;
    }
    return &s->accounts[account];
}

static void count_stream(struct shard_snapshot *out, const struct js_stream *s)
{
    struct js_counts *c = counts_of(out, s->stream.account);
    if (c == NULL) return;
    c->messages += s->stream.msgs.live_count;
    c->messages_lost += s->messages_lost;
}

static void count_account(struct shard_snapshot *out, const struct quota *q)
{
    struct js_counts *c = counts_of(out, q->account);
    if (c == NULL) return;
    c->memory += q->memory.used;
    c->storage += q->storage.used;
    c->reserved_memory += q->memory.reserved;
    c->reserved_storage += q->storage.reserved;
    c->streams += q->streams;
    c->consumers += q->consumers;
    c->api_total += q->api_total;
    c->api_errors += q->api_errors;
}

static int64_t time_of(const struct stream *m, uint64_t seq)
{
    struct msgs_entry entry;
    if (seq == 0 || msgs_get(&m->msgs, seq, &entry) != ERR_OK) return 0;
    return entry.time_ns;
}

/* Its first pending delivery is the one above its ack floor, else the one that comes next. */
static int64_t oldest_of(const struct stream *m, const struct consumer *c, uint64_t pending)
{
    if (c->live->window.pending_count > 0) return time_of(m, msgs_next(&m->msgs, c->floor_seq + 1));
    return pending == 0 ? 0 : time_of(m, msgs_next(&m->msgs, c->next_seq));
}

static enum err copy_config(struct arena *arena, const struct consumer *c,
                            struct consumer_config *config)
{
    struct bytes packed;
    enum err e = arena_text(arena, bytes_of(c->packed, c->packed_bytes), &packed);
    return e == ERR_OK ? consumer_pack_read(arena, packed, config) : e;
}

static void add_consumer(struct shard_snapshot *out, struct js_stream_snapshot *to,
                         const struct stream *m, struct consumer *c, const struct page_query *q)
{
    struct consumer_config config;
    if (c->is_hidden) return;
    if (copy_config(&out->js->arena, c, &config) != ERR_OK) {
        out->is_short = true;
        return;
    }
    if (!q->js_ephemeral && !consumer_config_is_durable(&config)) return;
    struct js_consumer_snapshot *x = snapshot_alloc(out, sizeof *x);
    if (x == NULL) return;
    x->config = config;
    x->name = snapshot_text(out, c->name);
    x->created_ns = c->created_ns;
    x->delivered_cseq = c->delivered_cseq;
    x->delivered_seq = c->delivered_seq;
    x->floor_cseq = c->floor_cseq;
    x->floor_seq = c->floor_seq;
    x->last_delivered_ns = c->last_delivered_ns;
    x->last_ack_ns = c->last_ack_ns;
    x->ack_pending = c->live->window.pending_count;
    if (c->max_deliver != 1)
        x->redelivered = c->live->window.redelivered_count + c->live->window.given_up_count;
    x->waiting = c->live->pulls.count;
    x->pending = consumer_left(c);
    x->is_push_bound = c->push != NULL && c->is_bound;
    x->pause_until_ns = c->pause_until_ns;
    x->oldest_ns = oldest_of(m, c, x->pending);
    x->next = to->consumers;
    to->consumers = x;
}

static void add_stream(struct shard_snapshot *out, struct js_stream *s, const struct page_query *q)
{
    const struct stream *m = &s->stream;
    struct js_stream_snapshot *x = snapshot_alloc(out, sizeof *x);
    if (x == NULL) return;
    if (stream_config_copy(&out->js->arena, &m->config, &x->config) != ERR_OK) {
        out->is_short = true;
        return;
    }
    bool is_empty = m->msgs.live_count == 0;
    x->account = m->account;
    x->name = x->config.name;
    x->created_ns = m->created_ns;
    x->messages = m->msgs.live_count;
    x->bytes = m->bytes;
    x->seq_first = m->seq_first;
    x->seq_last = m->seq_last;
    x->first_ns = is_empty ? 0 : time_of(m, m->seq_first);
    x->last_ns = m->time_last_ns;
    x->subjects = subject_index_total(&m->subjects, BYTES_LITERAL(">")).keys;
    x->deleted = is_empty ? 0 : m->seq_last - m->seq_first + 1 - m->msgs.live_count;
    x->consumer_count = m->consumer_count;
    x->messages_lost = s->messages_lost;
    x->next = out->js->streams;
    out->js->streams = x;
    struct consumer *c;
    uint32_t at = 0;
    if (!(out->js->collect & COLLECT_JS_CONSUMERS)) return;
    while ((c = consumer_set_each(&s->consumers, &at)) != NULL && !out->is_short)
        add_consumer(out, x, m, c, q);
}

static void add_store(struct js_store_counts *out, const struct js_store_counts *c)
{
    if (c->state > out->state) out->state = c->state;
    out->records += c->records;
    out->groups += c->groups;
    out->published_bytes += c->published_bytes;
    out->written_bytes += c->written_bytes;
    out->flushes += c->flushes;
    out->failures += c->failures;
    if (c->staged_percent > out->staged_percent) out->staged_percent = c->staged_percent;
    if (c->recovery_ns > out->recovery_ns) out->recovery_ns = c->recovery_ns;
    out->damaged_ranges += c->damaged_ranges;
    out->damaged_bytes += c->damaged_bytes;
}

static void look_for_asset(struct js_snapshot *out, struct js *js, const struct page_query *q)
{
    struct js_stream *s = js_find(js, q->account_number, q->stream, false);
    if (s == NULL) return;
    out->has_stream = true;
    out->asset_messages_lost = s->messages_lost;
    const struct consumer *c = consumer_set_find(&s->consumers, q->consumer);
    out->has_consumer = c != NULL && !c->is_hidden;
}

/* What of this log is copied one by one: nothing of a kind that there is too much of. */
static void choose_singles(struct js_snapshot *x, const struct js *js, const struct page_query *q)
{
    uint64_t streams = js->total.streams, consumers = js->total.consumers;
    x->collect = q->collect;
    if (q->js_streams_max > 0 && streams > q->js_streams_max) {
        if (q->collect & COLLECT_JS_STREAMS) x->streams_left_out += streams;
        x->collect &= ~(uint32_t)(COLLECT_JS_STREAMS | COLLECT_JS_CONSUMERS);
    }
    if (q->js_consumers_max > 0 && consumers > q->js_consumers_max)
        x->collect &= ~(uint32_t)COLLECT_JS_CONSUMERS;
    if ((q->collect & COLLECT_JS_CONSUMERS) && !(x->collect & COLLECT_JS_CONSUMERS))
        x->consumers_left_out += consumers;
}

void js_snapshot_take(struct shard_snapshot *out, struct js *js, const struct page_query *q,
                      const struct js_store_counts *store)
{
    uint32_t at = 0;
    struct js_stream *s;
    struct js_snapshot *x = out->js;
    if (x == NULL) x = snapshot_alloc(out, sizeof *x);
    if (x == NULL) return;
    if (out->js == NULL) arena_init(&x->arena, out->mem, MEM_MONITOR);
    out->js = x;
    if (store != NULL) add_store(&x->store, store);
    const struct quota *quota;
    while ((quota = table_each(&js->quotas, &at)) != NULL) count_account(out, quota);
    choose_singles(x, js, q);
    at = 0;
    const uint32_t needs_streams = COLLECT_JS_MESSAGES | COLLECT_JS_STREAMS;
    while ((x->collect & needs_streams) && (s = js_each(js, &at)) != NULL && !out->is_short) {
        if (s->is_hidden) continue;
        count_stream(out, s);
        bool is_of_account = q->account.len == 0 || q->account_number == QUERY_NO_ACCOUNT ||
                             q->account_number == s->stream.account;
        if ((x->collect & COLLECT_JS_STREAMS) && is_of_account) add_stream(out, s, q);
    }
    if (q->collect & COLLECT_JS_ASSET) look_for_asset(x, js, q);
}

void js_snapshot_end(struct js_snapshot *s)
{
    arena_deinit(&s->arena);
}

/* --- all shards ------------------------------------------------------------------------------ */

bool js_snapshot_has_account(const struct server_snapshot *server, const struct account *a)
{
    return server->jetstream.is_on && a->jetstream.is_on;
}

uint32_t js_snapshot_account_count(const struct server_snapshot *server)
{
    const struct account_set *set = server->options->accounts;
    uint32_t count = 0;
    for (uint32_t i = 0; set != NULL && i < set->account_count; i++)
        count += js_snapshot_has_account(server, set->accounts[i]);
    return count;
}

static void add(struct js_counts *to, const struct js_counts *c)
{
    to->memory += c->memory;
    to->storage += c->storage;
    to->reserved_memory += c->reserved_memory;
    to->reserved_storage += c->reserved_storage;
    to->streams += c->streams;
    to->consumers += c->consumers;
    to->api_total += c->api_total;
    to->api_errors += c->api_errors;
    to->messages += c->messages;
    to->messages_lost += c->messages_lost;
}

void js_snapshot_merge(const struct page_input *in, uint32_t account, struct js_counts *out)
{
    *out = (struct js_counts){0};
    for (uint32_t i = 0; i < in->shard_count; i++) {
        const struct js_snapshot *s = in->shards[i]->js;
        for (uint32_t k = 0; s != NULL && k < s->account_count; k++)
            if (account == UINT32_MAX || account == k) add(out, &s->accounts[k]);
    }
}

void js_snapshot_merge_store(const struct page_input *in, struct js_store_counts *out)
{
    *out = (struct js_store_counts){.state = JS_STORE_OK};
    for (uint32_t i = 0; i < in->shard_count; i++) {
        if (in->shards[i]->js != NULL) add_store(out, &in->shards[i]->js->store);
    }
}

static int compare_streams(const void *a, const void *b)
{
    const struct js_stream_snapshot *x = a, *y = b;
    if (x->account != y->account) return x->account < y->account ? -1 : 1;
    return bytes_compare(x->name, y->name);
}

static int compare_consumers(const void *a, const void *b)
{
    return bytes_compare(((const struct js_consumer_snapshot *)a)->name,
                         ((const struct js_consumer_snapshot *)b)->name);
}

/* The list in the order of the names. Here, and not where it was copied: a shard has clients. */
static enum err sort_consumers(struct mem *mem, struct js_stream_snapshot *s)
{
    uint32_t count = 0;
    for (struct js_consumer_snapshot *c = s->consumers; c != NULL; c = c->next) count++;
    if (count < 2) return ERR_OK;
    const void **all = mem_alloc(mem, MEM_MONITOR, count * sizeof *all);
    if (all == NULL) return ERR_MEMORY;
    uint32_t at = 0;
    for (struct js_consumer_snapshot *c = s->consumers; c != NULL; c = c->next) all[at++] = c;
    sort_pointers(all, count, compare_consumers);
    struct js_consumer_snapshot *next = NULL;
    while (at-- > 0) {
        struct js_consumer_snapshot *c = (struct js_consumer_snapshot *)all[at];
        c->next = next;
        next = c;
    }
    s->consumers = next;
    mem_free(mem, MEM_MONITOR, all, count * sizeof *all);
    return ERR_OK;
}

enum err js_snapshot_streams(const struct page_input *in, struct js_stream_list *out)
{
    uint32_t count = 0;
    *out = (struct js_stream_list){NULL, 0};
    for (uint32_t i = 0; i < in->shard_count; i++) {
        const struct js_snapshot *s = in->shards[i]->js;
        if (s == NULL) continue;
        for (struct js_stream_snapshot *x = s->streams; x != NULL; x = x->next, count++)
            if (sort_consumers(in->mem, x) != ERR_OK) return ERR_MEMORY;
    }
    if (count == 0) return ERR_OK;
    const void **all = mem_alloc(in->mem, MEM_MONITOR, count * sizeof *all);
    if (all == NULL) return ERR_MEMORY;
    uint32_t at = 0;
    for (uint32_t i = 0; i < in->shard_count; i++) {
        const struct js_snapshot *s = in->shards[i]->js;
        if (s == NULL) continue;
        for (const struct js_stream_snapshot *x = s->streams; x != NULL; x = x->next) all[at++] = x;
    }
    must(at == count);
    sort_pointers(all, count, compare_streams);
    *out = (struct js_stream_list){(const struct js_stream_snapshot **)all, count};
    return ERR_OK;
}

void js_snapshot_streams_free(const struct page_input *in, struct js_stream_list *l)
{
    mem_free(in->mem, MEM_MONITOR, l->list, l->count * sizeof *l->list);
    *l = (struct js_stream_list){NULL, 0};
}

uint32_t js_snapshot_streams_of(const struct js_stream_list *l, uint32_t account, uint32_t *first)
{
    uint32_t low = 0, high = l->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (l->list[middle]->account < account)
            low = middle + 1;
        else
            high = middle;
    }
    *first = low;
    while (high < l->count && l->list[high]->account == account) high++;
    return high - low;
}
