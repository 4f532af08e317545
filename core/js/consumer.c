#include "core/js/consumer.h"
#include "core/base/must.h"
#include "core/js/consumer_pack.h"
#include "core/js/consumer_state.h"
#include "core/js/subject_index_walk.h"
#include "core/route/subject.h"

enum {
    SCAN_PLAIN_MAX = 256,  /* messages whose subjects are looked at before a sieve is made */
    QUICK_STEPS = 4096,    /* of the index, to count what a filter selects */
    QUICK_FILTERS_MAX = 8, /* that are compared with each other */
    SCAN_BACK_MAX = 1024,  /* messages from the end on, looked at for the last one */
    LEAST_DELAY_NS = 1000000,
};

/* --- the configuration ----------------------------------------------------------------------- */

struct parts {
    char *packed;
    uint32_t packed_bytes;
    struct bytes *filters;
    uint32_t filter_count;
    int64_t *backoff;
    uint32_t backoff_count;
};

static void free_parts(struct mem *mem, const struct parts *p)
{
    mem_free(mem, MEM_JETSTREAM, p->packed, p->packed_bytes);
    mem_free(mem, MEM_JETSTREAM, p->filters, p->filter_count * sizeof *p->filters);
    mem_free(mem, MEM_JETSTREAM, p->backoff, p->backoff_count * sizeof *p->backoff);
}

static struct parts parts_of(const struct consumer *c)
{
    return (struct parts){.packed = c->packed,
                          .packed_bytes = c->packed_bytes,
                          .filters = c->filters,
                          .filter_count = c->filter_count,
                          .backoff = (int64_t *)(uintptr_t)(const void *)c->waits.backoff_ns,
                          .backoff_count = c->waits.backoff_count};
}

static enum err copy_texts(struct consumer *c, struct parts *p, const struct consumer_config *read)
{
    p->filter_count = consumer_config_filter_count(read);
    p->backoff_count = read->backoff.count;
    if (p->filter_count > 0) {
        p->filters = mem_alloc(c->mem, MEM_JETSTREAM, p->filter_count * sizeof *p->filters);
        if (p->filters == NULL) return ERR_MEMORY;
        for (uint32_t i = 0; i < p->filter_count; i++)
            p->filters[i] = consumer_config_filter(read, i);
    }
    if (p->backoff_count > 0) {
        p->backoff = mem_alloc(c->mem, MEM_JETSTREAM, p->backoff_count * sizeof *p->backoff);
        if (p->backoff == NULL) return ERR_MEMORY;
        memcpy(p->backoff, read->backoff.items, p->backoff_count * sizeof *p->backoff);
    }
    c->name = read->name;
    struct bytes deliver = read->deliver_subject;
    c->deliver_at = deliver.len > 0 ? (uint32_t)(deliver.data - p->packed) : 0;
    c->deliver_bytes = (uint32_t)deliver.len;
    return ERR_OK;
}

/* Takes the configuration into c, which keeps none of the old one; the old parts stay. */
static enum err set_config(struct consumer *c, const struct consumer_config *config)
{
    struct parts p = {.packed_bytes = (uint32_t)consumer_pack_bytes(config)};
    struct consumer_config read;
    struct arena arena;
    p.packed = mem_alloc(c->mem, MEM_JETSTREAM, p.packed_bytes);
    if (p.packed == NULL) return ERR_MEMORY;
    consumer_pack(config, p.packed);
    arena_init(&arena, c->mem, MEM_JETSTREAM);
    enum err e = consumer_pack_read(&arena, bytes_of(p.packed, p.packed_bytes), &read);
    if (e == ERR_OK) e = copy_texts(c, &p, &read);
    arena_deinit(&arena);
    if (e != ERR_OK) {
        if (p.filters == NULL) p.filter_count = 0;
        if (p.backoff == NULL) p.backoff_count = 0;
        free_parts(c->mem, &p);
        return e;
    }
    if (c->feed->changes != NULL) ++*c->feed->changes;
    c->packed = p.packed;
    c->packed_bytes = p.packed_bytes;
    c->filters = p.filters;
    c->filter_count = p.filter_count;
    c->waits = (struct ackwin_waits){.ack_wait_ns = config->ack_wait_ns,
                                     .backoff_ns = p.backoff,
                                     .backoff_count = p.backoff_count};
    c->max_deliver = config->max_deliver;
    c->max_ack_pending = config->max_ack_pending;
    c->inactive_ns = config->inactive_threshold_ns;
    c->was_paused = false;
    c->pause_until_ns = time_stamp_is_real(&config->pause_until) ? config->pause_until.wall_ns : 0;
    c->limits = (struct pullq_limits){.max_waiting = config->max_waiting,
                                      .max_batch = config->max_batch,
                                      .max_expires_ns = config->max_expires_ns,
                                      .max_bytes = config->max_bytes};
    c->ack_policy = (uint8_t)config->ack_policy;
    c->sample_percent = (uint8_t)consumer_config_sample_percent(config);
    c->headers_only = config->headers_only;
    c->is_in_memory = config->mem_storage;
    return ERR_OK;
}

static struct push_setup push_setup_of(const struct consumer *c,
                                       const struct consumer_config *config)
{
    return (struct push_setup){.heartbeat_ns = config->heartbeat_ns,
                               .has_flow = config->flow_control,
                               .rate_limit_bps = config->rate_limit_bps,
                               .message_bytes_max = c->feed->message_bytes_max};
}

enum err consumer_config_of(const struct consumer *c, struct arena *arena,
                            struct consumer_config *config)
{
    return consumer_pack_read(arena, bytes_of(c->packed, c->packed_bytes), config);
}

bool consumer_matches(const struct consumer *c, struct bytes subject)
{
    for (uint32_t i = 0; i < c->filter_count; i++)
        if (subject_matches(subject, c->filters[i])) return true;
    return c->filter_count == 0;
}

/* --- what is left ---------------------------------------------------------------------------- */

static enum err collect(const struct consumer *c, struct node_set *set)
{
    struct subject_index *x = c->feed->subjects;
    enum err e = node_set_init(set, c->mem, x->node_end);
    if (e != ERR_OK) return e;
    for (uint32_t i = 0; i < c->filter_count; i++)
        subject_index_walk_collect(x, c->filters[i], set);
    return ERR_OK;
}

/* NULL: out of memory. */
static struct consumer_rare *rare_of(struct consumer *c)
{
    if (c->rare == NULL) c->rare = mem_alloc_zero(c->mem, MEM_JETSTREAM, sizeof *c->rare);
    return c->rare;
}

static void close_rare(struct consumer *c)
{
    if (c->rare == NULL || c->rare->is_replay || c->rare->has_sieve) return;
    mem_free(c->mem, MEM_JETSTREAM, c->rare, sizeof *c->rare);
    c->rare = NULL;
}

static bool has_sieve(const struct consumer *c)
{
    return c->rare != NULL && c->rare->has_sieve;
}

/* NULL: out of memory. */
static struct sieve *sieve_of(struct consumer *c)
{
    const struct consumer_feed *f = c->feed;
    struct consumer_rare *r = rare_of(c);
    if (r == NULL) return NULL;
    if (!r->has_sieve)
        sieve_init(&r->sieve, c->mem, f->msgs, f->subjects, c->filters, c->filter_count);
    r->has_sieve = true;
    return &r->sieve;
}

static void close_sieve(struct consumer *c)
{
    if (!has_sieve(c)) return;
    sieve_deinit(&c->rare->sieve);
    c->rare->has_sieve = false;
    close_rare(c);
}

/* NULL: none. */
static struct consumer_pace *replay_of(const struct consumer *c)
{
    return c->rare != NULL && c->rare->is_replay ? &c->rare->pace : NULL;
}

static void end_replay(struct consumer *c)
{
    if (replay_of(c) == NULL) return;
    c->rare->is_replay = false;
    close_rare(c);
}

/* Filters none of which contains another may still have subjects in common: a.* and *.b. */
static bool do_filters_meet(const struct consumer *c)
{
    for (uint32_t i = 0; i < c->filter_count; i++)
        for (uint32_t j = i + 1; j < c->filter_count; j++)
            if (subject_collides(c->filters[i], c->filters[j])) return true;
    return false;
}

/* From the index alone, where it says it in a few steps. */
static bool count_quickly(const struct consumer *c, uint64_t from, uint64_t *count)
{
    const struct consumer_feed *f = c->feed;
    struct subject_total total;
    uint64_t all = 0;
    if (c->filter_count > QUICK_FILTERS_MAX || do_filters_meet(c)) return false;
    for (uint32_t i = 0; i < c->filter_count; i++) {
        if (!subject_index_total_within(f->subjects, c->filters[i], QUICK_STEPS, &total))
            return false;
        all += total.msgs;
    }
    bool is_all = all == f->msgs->live_count;
    if (from <= msgs_first(f->msgs) || all == 0) {
        *count = all;
    } else if (is_all) {
        *count = msgs_count(f->msgs, from, UINT64_MAX);
    } else if (c->filter_count == 1 && !subject_has_wildcard(c->filters[0])) {
        uint32_t node = subject_index_find(f->subjects, c->filters[0]);
        *count = subject_index_count_from(f->subjects, f->msgs, node, from);
    } else {
        return false;
    }
    return true;
}

void consumer_state_recount(struct consumer *c)
{
    uint64_t from = c->latest != NULL ? c->latest->resume + 1 : c->next_seq;
    c->left = c->latest != NULL ? c->latest->live : 0;
    c->counted_to = from > 0 ? from - 1 : 0;
}

/* False: the few that it looks at are not all. */
static bool count_next(struct consumer *c)
{
    const struct consumer_feed *f = c->feed;
    uint64_t seq = c->counted_to + 1;
    for (uint32_t i = 0; i < SCAN_PLAIN_MAX; i++) {
        struct msgs_entry entry;
        seq = msgs_next(f->msgs, seq);
        if (seq == 0) {
            c->counted_to = *f->last_seq;
            return true;
        }
        if (msgs_get(f->msgs, seq, &entry) == ERR_OK &&
            consumer_matches(c, subject_index_subject(f->subjects, entry.node)))
            c->left++;
        c->counted_to = seq++;
    }
    return c->counted_to >= *f->last_seq;
}

static NOINLINE bool count_on(struct consumer *c)
{
    const struct consumer_feed *f = c->feed;
    uint64_t last = *f->last_seq, count, resume;
    uint32_t left = SIEVE_STEP;
    if (c->filter_count == 0) {
        c->left += msgs_count(f->msgs, c->counted_to + 1, UINT64_MAX);
        c->counted_to = last;
        return true;
    }
    bool is_near = last - c->counted_to <= SCAN_PLAIN_MAX;
    if (is_near && !has_sieve(c) && count_next(c)) return true;
    if (!has_sieve(c) && count_quickly(c, c->counted_to + 1, &count)) {
        c->left += count;
        c->counted_to = last;
        return true;
    }
    struct sieve *sieve = sieve_of(c);
    if (sieve == NULL) return count_next(c); /* until memory comes back a few at a time */
    resume = sieve_count(sieve, c->counted_to + 1, UINT64_MAX, &left, &c->left);
    c->counted_to = resume != 0 ? resume - 1 : last;
    return c->counted_to >= last;
}

/* Asked three times for each message of a pull, and hardly ever is there something to count. */
bool consumer_count(struct consumer *c)
{
    return LIKELY(c->counted_to >= *c->feed->last_seq) || count_on(c);
}

uint64_t consumer_left(struct consumer *c)
{
    while (!consumer_count(c)) continue;
    return c->left;
}

/* --- start ----------------------------------------------------------------------------------- */

/* By bytes from the lowest on; spare is as large as seqs. */
static void sort_seqs(uint64_t *seqs, uint64_t *spare, uint32_t count)
{
    uint64_t all = 0;
    for (uint32_t i = 0; i < count; i++) all |= seqs[i];
    for (unsigned shift = 0; shift < 64; shift += 8) {
        uint32_t starts[257] = {0};
        if (all >> shift == 0) break;
        for (uint32_t i = 0; i < count; i++) starts[(seqs[i] >> shift & 255) + 1]++;
        for (uint32_t i = 1; i < 257; i++) starts[i] += starts[i - 1];
        for (uint32_t i = 0; i < count; i++) spare[starts[seqs[i] >> shift & 255]++] = seqs[i];
        memcpy(seqs, spare, count * sizeof *seqs);
    }
}

static uint32_t fill_latest(struct consumer *c, const struct node_set *set, uint64_t *out,
                            uint64_t from, uint64_t to)
{
    struct subject_index *x = c->feed->subjects;
    uint32_t count = 0;
    for (uint32_t node = 0; node < set->node_count; node++) {
        if (!node_set_has(set, node) || subject_index_node(x, node)->count == 0) continue;
        uint64_t last = subject_index_last(x, c->feed->msgs, node);
        if (last >= from && last <= to) out[count++] = last;
    }
    return count;
}

enum err consumer_state_open_latest(struct consumer *c, uint64_t from, uint64_t to)
{
    struct node_set set;
    uint32_t room = 0;
    enum err e = collect(c, &set);
    if (e != ERR_OK) return e;
    for (uint32_t node = 0; node < set.node_count; node++) room += node_set_has(&set, node);
    uint64_t *spare = mem_alloc(c->mem, MEM_JETSTREAM, (room + 1) * sizeof *spare);
    struct consumer_latest *l =
        mem_alloc(c->mem, MEM_JETSTREAM, sizeof *l + room * sizeof l->seqs[0]);
    if (spare == NULL || l == NULL) {
        e = ERR_MEMORY;
        mem_free(c->mem, MEM_JETSTREAM, l, sizeof *l + room * sizeof l->seqs[0]);
        goto free_spare;
    }
    *l = (struct consumer_latest){.room = room, .resume = to};
    l->count = fill_latest(c, &set, l->seqs, from, to);
    l->live = l->count;
    sort_seqs(l->seqs, spare, l->count);
    c->latest = l;
free_spare:
    mem_free(c->mem, MEM_JETSTREAM, spare, (room + 1) * sizeof *spare);
    node_set_deinit(&set, c->mem);
    return e;
}

void consumer_state_close_latest(struct consumer *c)
{
    struct consumer_latest *l = c->latest;
    if (l == NULL) return;
    mem_free(c->mem, MEM_JETSTREAM, l, sizeof *l + l->room * sizeof l->seqs[0]);
    c->latest = NULL;
}

/* The sequence of the last message that matches, 0 when there is none. */
static uint64_t last_match(const struct consumer *c)
{
    struct subject_index *x = c->feed->subjects;
    uint64_t last = 0, seq = UINT64_MAX;
    if (c->filter_count == 0) return *c->feed->last_seq;
    /* A filter that selects much has it near, one that selects little is found by the index. */
    for (uint32_t i = 0; i < SCAN_BACK_MAX; i++) {
        struct msgs_entry entry;
        seq = msgs_prev(c->feed->msgs, seq);
        if (seq == 0 || msgs_get(c->feed->msgs, seq, &entry) != ERR_OK) return 0;
        if (consumer_matches(c, subject_index_subject(x, entry.node))) return seq;
        seq--;
    }
    for (uint32_t i = 0; i < c->filter_count; i++) {
        struct subject_index_walk w;
        uint32_t node;
        subject_index_walk_begin(&w, x, c->filters[i], bytes_of(NULL, 0));
        while ((node = subject_index_walk_next(&w)) != MSGS_NODE_NONE) {
            if (subject_index_node(x, node)->last <= last) continue;
            uint64_t latest = subject_index_last(x, c->feed->msgs, node);
            if (latest > last) last = latest;
        }
    }
    return last;
}

static enum err select_start(struct consumer *c, const struct consumer_config *config)
{
    const struct consumer_feed *f = c->feed;
    uint64_t seq = *f->first_seq;
    switch ((enum consumer_deliver)config->deliver_policy) {
    case CONSUMER_DELIVER_ALL: break;
    case CONSUMER_DELIVER_LAST: seq = last_match(c); break;
    case CONSUMER_DELIVER_NEW: seq = *f->last_seq + 1; break;
    case CONSUMER_DELIVER_BY_START_SEQUENCE: seq = config->opt_start_seq; break;
    case CONSUMER_DELIVER_BY_START_TIME:
        seq = msgs_seq_at_time(f->msgs, time_stamp_is_real(&config->opt_start_time)
                                            ? config->opt_start_time.wall_ns
                                            : INT64_MIN);
        if (seq == 0) seq = *f->last_seq + 1;
        break;
    case CONSUMER_DELIVER_LAST_PER_SUBJECT:
        if (f->is_latest_only) break;
        enum err e = consumer_state_open_latest(c, 1, *f->last_seq);
        if (e != ERR_OK) return e;
        seq = *f->last_seq + 1;
        if (c->latest->count > 0)
            seq = c->latest->seqs[0];
        else
            consumer_state_close_latest(c);
        break;
    }
    if (config->deliver_policy != CONSUMER_DELIVER_BY_START_SEQUENCE && seq > *f->last_seq)
        seq = *f->last_seq + 1;
    if (seq < *f->first_seq) seq = *f->first_seq;
    if (seq == 0) seq = 1;
    c->next_seq = seq;
    c->delivered_seq = c->floor_seq = c->saved_seq = seq - 1;
    return ERR_OK;
}

static enum err start(struct consumer *c, const struct consumer_config *config)
{
    enum err e = select_start(c, config);
    if (e != ERR_OK) return e;
    consumer_state_recount(c);
    if (config->replay_policy == CONSUMER_REPLAY_ORIGINAL) {
        if (rare_of(c) == NULL) return ERR_MEMORY;
        c->rare->is_replay = true;
        c->rare->pace = (struct consumer_pace){.end = *c->feed->last_seq};
    }
    return ERR_OK;
}

enum err consumer_start(struct consumer *c)
{
    struct consumer_config config;
    struct arena arena;
    must(c->delivered_cseq == 0);
    arena_init(&arena, c->mem, MEM_JETSTREAM);
    enum err e = consumer_config_of(c, &arena, &config);
    if (e == ERR_OK) {
        consumer_state_close_latest(c);
        e = start(c, &config);
    }
    arena_deinit(&arena);
    return e;
}

void consumer_idle_init(struct consumer_live *idle, struct mem *mem)
{
    ackwin_init(&idle->window, mem);
    pullq_init(&idle->pulls, mem);
}

enum err consumer_state_wake(struct consumer *c)
{
    if (c->live != c->feed->idle) return ERR_OK;
    struct consumer_live *live = mem_alloc(c->mem, MEM_JETSTREAM, sizeof *live);
    if (live == NULL) return ERR_MEMORY;
    consumer_idle_init(live, c->mem);
    c->live = live;
    return ERR_OK;
}

static void close_live(struct consumer *c)
{
    if (c->live == c->feed->idle) return;
    ackwin_clear(&c->live->window);
    pullq_clear(&c->live->pulls);
    mem_free(c->mem, MEM_JETSTREAM, c->live, sizeof *c->live);
    c->live = c->feed->idle;
}

void consumer_rest(struct consumer *c)
{
    /* Since when it is inactive stands there. */
    if (c->feed->idle == NULL || c->inactive_ns > 0 || c->live->pulls.count > 0) return;
    if (c->live->window.count == 0) close_live(c);
}

/* Those that end when they are inactive know since when. */
static enum err follow_config(struct consumer *c, struct shard_time now)
{
    enum err e = ERR_OK;
    if (c->inactive_ns > 0 || c->feed->idle == NULL) e = consumer_state_wake(c);
    if (e == ERR_OK) c->live->pulls.last_active_ns = (int64_t)now.mono_ns;
    return e;
}

static enum err open(struct consumer *c, struct mem *mem, const struct consumer_feed *feed,
                     uint64_t number, const struct consumer_config *config, int64_t created_ns,
                     struct shard_time now)
{
    *c = (struct consumer){.mem = mem,
                           .feed = feed,
                           .number = number,
                           .created_ns = created_ns,
                           .expire_ns = INT64_MAX,
                           .is_changed = true};
    c->live = feed->idle;
    enum err e = set_config(c, config);
    if (e != ERR_OK) return e;
    e = follow_config(c, now);
    if (e != ERR_OK) goto close;
    if (consumer_config_is_push(config)) {
        struct push_setup setup = push_setup_of(c, config);
        c->push = mem_alloc(mem, MEM_JETSTREAM, sizeof *c->push);
        e = ERR_MEMORY;
        if (c->push == NULL) goto close;
        push_init(c->push, &setup, (int64_t)now.mono_ns);
    }
    return ERR_OK;

close:
    consumer_close(c);
    return e;
}

enum err consumer_open(struct consumer *c, struct mem *mem, const struct consumer_feed *feed,
                       uint64_t number, const struct consumer_config *config, int64_t created_ns,
                       struct shard_time now)
{
    enum err e = open(c, mem, feed, number, config, created_ns, now);
    if (e != ERR_OK) return e;
    e = start(c, config);
    if (e != ERR_OK) consumer_close(c);
    return e;
}

/* As much as they will take, where that is known at once. */
static bool has_memory_for_latest(const struct consumer *c)
{
    const size_t each = sizeof c->latest->seqs[0];
    struct subject_total total;
    uint64_t count = 1;
    for (uint32_t i = 0; i < c->filter_count; i++) {
        if (!subject_index_total_within(c->feed->subjects, c->filters[i], QUICK_STEPS, &total))
            return true;
        count += total.keys;
    }
    void *spare = mem_alloc(c->mem, MEM_JETSTREAM, count * each);
    void *latest = mem_alloc(c->mem, MEM_JETSTREAM, sizeof *c->latest + count * each);
    bool has_memory = spare != NULL && latest != NULL;
    mem_free(c->mem, MEM_JETSTREAM, spare, count * each);
    mem_free(c->mem, MEM_JETSTREAM, latest, sizeof *c->latest + count * each);
    return has_memory;
}

enum err consumer_open_hidden(struct consumer *c, struct mem *mem, const struct consumer_feed *feed,
                              uint64_t number, const struct consumer_config *config,
                              int64_t created_ns, struct shard_time now)
{
    struct consumer_config first = *config;
    enum err e = open(c, mem, feed, number, config, created_ns, now);
    if (e != ERR_OK) return e;
    if (!feed->is_released && !feed->is_latest_only &&
        first.deliver_policy == CONSUMER_DELIVER_LAST_PER_SUBJECT) {
        first.deliver_policy = CONSUMER_DELIVER_NEW;
        /* When its record is durable it is too late to refuse it, and it would wait for memory. */
        if (!has_memory_for_latest(c)) e = ERR_MEMORY;
    }
    if (e == ERR_OK) e = start(c, &first);
    if (e != ERR_OK) consumer_close(c);
    return e;
}

void consumer_close(struct consumer *c)
{
    struct parts p = parts_of(c);
    if (c->feed->changes != NULL) ++*c->feed->changes;
    consumer_state_close_latest(c);
    close_sieve(c);
    close_live(c);
    mem_free(c->mem, MEM_JETSTREAM, c->push, sizeof *c->push);
    end_replay(c);
    free_parts(c->mem, &p);
    c->packed = NULL;
    c->push = NULL;
}

static bool has_same_filters(const struct consumer *c, const struct parts *old)
{
    if (c->filter_count != old->filter_count) return false;
    for (uint32_t i = 0; i < c->filter_count; i++)
        if (!bytes_equal(c->filters[i], old->filters[i])) return false;
    return true;
}

enum err consumer_update(struct consumer *c, const struct consumer_config *config,
                         struct shard_time now, bool *has_other_filters)
{
    struct parts old = parts_of(c);
    struct bytes old_deliver = consumer_deliver_subject(c);
    enum err e = config->inactive_threshold_ns > 0 ? consumer_state_wake(c) : ERR_OK;
    if (e == ERR_OK) e = set_config(c, config);
    if (e != ERR_OK) return e;
    if (!bytes_equal(old_deliver, consumer_deliver_subject(c))) ackwin_queue_all(&c->live->window);
    if (c->push != NULL) {
        struct push_setup setup = push_setup_of(c, config);
        push_set_rate(c->push, &setup, (int64_t)now.mono_ns);
    }
    close_sieve(c); /* it borrows the filters */
    bool is_other = !has_same_filters(c, &old);
    if (is_other) {
        /* What the cursor passed by the filters before is neither delivered nor settled: streams
         * keep it for those that select it now, and a start would find it. */
        if (c->latest == NULL) c->next_seq = c->delivered_seq + 1;
        consumer_state_recount(c);
        c->is_moved = true;
    }
    if (has_other_filters != NULL) *has_other_filters = is_other;
    c->expire_ns = (int64_t)now.mono_ns; /* waits may have become shorter */
    if (c->live->pulls.last_active_ns < (int64_t)now.mono_ns)
        c->live->pulls.last_active_ns = (int64_t)now.mono_ns; /* the order may have waited */
    free_parts(c->mem, &old);
    return ERR_OK;
}

/* --- what comes next ------------------------------------------------------------------------- */

void consumer_state_move_floor(struct consumer *c, uint64_t settled_seq)
{
    const struct ackwin_entry *low = ackwin_lowest(&c->live->window);
    if (low == NULL) {
        c->floor_cseq = c->delivered_cseq;
        c->floor_seq = c->delivered_seq;
    } else if (settled_seq < low->seq) {
        c->floor_cseq = low->cseq - 1;
        c->floor_seq = low->seq - 1;
    }
}

void consumer_state_tell(const struct consumer *c, struct outlet_event *e, struct outlet *o)
{
    e->stream = c->feed->name;
    e->consumer = c->name;
    o->event(o, e);
}

static void give_up(struct consumer *c, struct ackwin_entry *e, struct outlet *o)
{
    struct outlet_event event = {
        .kind = OUTLET_MAX_DELIVERIES, .stream_seq = e->seq, .deliveries = e->deliveries};
    ackwin_give_up(&c->live->window, e);
    c->is_changed = true;
    consumer_state_tell(c, &event, o);
}

static void terminate(struct consumer *c, struct ackwin_entry *e, const char *reason,
                      struct outlet *o)
{
    struct outlet_event event = {.kind = OUTLET_TERMINATED,
                                 .stream_seq = e->seq,
                                 .consumer_seq = e->cseq,
                                 .deliveries = e->deliveries,
                                 .reason = bytes_from_text(reason)};
    ackwin_settle(&c->live->window, e);
    consumer_state_move_floor(c, event.stream_seq);
    c->is_changed = true;
    consumer_state_tell(c, &event, o);
}

/* The first of the queue that may go out again. */
static struct ackwin_entry *next_redelivery(struct consumer *c, struct outlet *o,
                                            struct msgs_entry *entry)
{
    struct ackwin_entry *e;
    while ((e = ackwin_queue_first(&c->live->window)) != NULL) {
        if (msgs_get(c->feed->msgs, e->seq, entry) != ERR_OK)
            terminate(c, e, "Unacknowledged message was deleted", o);
        else if (c->max_deliver > 0 && e->deliveries >= c->max_deliver)
            give_up(c, e, o);
        else
            return e;
    }
    entry->node = MSGS_NODE_NONE; /* it was of one that is given up */
    return NULL;
}

static uint64_t next_latest(struct consumer *c)
{
    struct consumer_latest *l = c->latest;
    for (; l->at < l->count; l->at++) {
        if ((l->seqs[l->at] & CONSUMER_LATEST_GONE) != 0) continue;
        if (msgs_has(c->feed->msgs, l->seqs[l->at])) return l->seqs[l->at];
        /* By a purge that goes by pieces: consumers are told at its end. */
        l->live--;
        c->left--;
    }
    c->next_seq = l->resume + 1;
    consumer_state_close_latest(c);
    return 0;
}

/* All filters are literal: a look-up each. */
static bool is_literal(const struct consumer *c)
{
    for (uint32_t i = 0; i < c->filter_count; i++)
        if (subject_has_wildcard(c->filters[i])) return false;
    return c->filter_count <= 4;
}

static uint64_t next_literal(const struct consumer *c, uint64_t from)
{
    uint64_t best = 0;
    for (uint32_t i = 0; i < c->filter_count; i++) {
        uint32_t node = subject_index_find(c->feed->subjects, c->filters[i]);
        if (node == MSGS_NODE_NONE || subject_index_node(c->feed->subjects, node)->count == 0)
            continue;
        uint64_t seq = subject_index_next(c->feed->subjects, c->feed->msgs, node, from);
        if (seq != 0 && (best == 0 || seq < best)) best = seq;
    }
    return best;
}

/* The next matching message at or above next_seq; 0: none, or none yet with *is_more. Moves the
 * cursor over what does not match. entry is filled only where that costs nothing; its node says. */
static uint64_t find_next(struct consumer *c, struct msgs_entry *entry, bool *is_more)
{
    const struct consumer_feed *f = c->feed;
    *is_more = false;
    if (c->next_seq > *f->last_seq) return 0;
    uint64_t seq = 0, resume = 0;
    if (c->filter_count == 0) {
        seq = msgs_next_entry(f->msgs, c->next_seq, entry);
    } else if (is_literal(c)) {
        seq = next_literal(c, c->next_seq);
    } else {
        uint64_t from = c->next_seq;
        uint32_t plain = has_sieve(c) ? 0 : SCAN_PLAIN_MAX;
        for (uint32_t i = 0; i < plain; i++) {
            from = msgs_next_entry(f->msgs, from, entry);
            if (from == 0) break;
            if (consumer_matches(c, subject_index_subject(f->subjects, entry->node))) return from;
            entry->node = MSGS_NODE_NONE;
            c->next_seq = ++from;
        }
        struct sieve *sieve = from != 0 ? sieve_of(c) : NULL;
        uint32_t left = SIEVE_STEP;
        if (from != 0 && sieve == NULL) {
            *is_more = true; /* memory comes back */
            return 0;
        }
        if (from != 0) seq = sieve_next(sieve, from, UINT64_MAX, &left, &resume);
    }
    if (seq == 0 && resume != 0) {
        c->next_seq = resume;
        *is_more = true;
    } else if (seq == 0) {
        c->next_seq = *f->last_seq + 1;
    }
    return seq;
}

static struct pullq_facts facts_of(struct consumer *c, struct shard_time now)
{
    /* What takes more than a piece to count is taken for much: should there be nothing, a request
     * that does not wait hears of it when it is counted. */
    uint64_t left = consumer_count(c) ? c->left : UINT32_MAX;
    return (struct pullq_facts){.now_ns = (int64_t)now.mono_ns,
                                .pending = left + c->live->window.queued_count,
                                .stream_seq = c->next_seq - 1,
                                .consumer_seq = c->delivered_cseq};
}

static bool is_paused(const struct consumer *c, struct shard_time now)
{
    return c->pause_until_ns > now.wall_ns;
}

static enum consumer_verdict idle(struct consumer *c, struct shard_time now, struct outlet *o,
                                  bool is_end)
{
    struct pullq_facts facts = facts_of(c, now);
    if (is_end) close_sieve(c);
    if (replay_of(c) != NULL && c->next_seq > replay_of(c)->end) end_replay(c);
    if (c->push == NULL && c->live->pulls.count > 0)
        (void)pullq_sweep(&c->live->pulls, &facts, is_end, o, NULL);
    return is_end ? CONSUMER_IDLE : CONSUMER_FULL;
}

/* When the pace of its arrival lets the message go. */
static int64_t replay_ready_ns(const struct consumer *c, int64_t time_ns, int64_t now_ns)
{
    const struct consumer_pace *pace = replay_of(c);
    if (pace == NULL || pace->time_ns == 0) return now_ns;
    int64_t gap_ns = time_ns - pace->time_ns;
    return gap_ns <= LEAST_DELAY_NS ? now_ns : pace->mono_ns + gap_ns;
}

enum consumer_verdict consumer_next(struct consumer *c, struct shard_time now, struct outlet *o,
                                    struct consumer_pick *pick)
{
    int64_t now_ns = (int64_t)now.mono_ns;
    bool is_more = false;
    if (is_paused(c, now)) {
        (void)idle(c, now, o, true); /* a request that does not wait is answered */
        return CONSUMER_PAUSED;
    }
    if (c->push == NULL ? c->live->pulls.count == 0 : !c->is_bound) return CONSUMER_ALONE;
    if (c->push != NULL && push_is_stalled(c->push)) return CONSUMER_STALLED;
    if (!consumer_count(c)) return CONSUMER_AGAIN;
    c->is_moved = false;
    *pick = (struct consumer_pick){
        .at_ns = now_ns, .is_fresh = true, .entry = {.node = MSGS_NODE_NONE}};
    const struct ackwin_entry *e = next_redelivery(c, o, &pick->entry);
    if (e != NULL) {
        pick->seq = e->seq;
        pick->is_redelivery = true;
    } else {
        if (c->ack_policy != CONSUMER_ACK_NONE && c->max_ack_pending > 0 &&
            c->live->window.pending_count >= c->max_ack_pending)
            return idle(c, now, o, false);
        if (c->latest != NULL) pick->seq = next_latest(c);
        if (pick->seq == 0) pick->seq = find_next(c, &pick->entry, &is_more);
        if (pick->seq == 0 && is_more) return CONSUMER_AGAIN;
        if (pick->seq == 0) return idle(c, now, o, true);
        if (pick->entry.node == MSGS_NODE_NONE &&
            msgs_get(c->feed->msgs, pick->seq, &pick->entry) != ERR_OK)
            must(false);
        pick->at_ns = replay_ready_ns(c, pick->entry.time_ns, now_ns);
    }
    if (c->push != NULL) {
        int64_t ready_ns = push_ready_ns(c->push, now_ns);
        if (ready_ns > pick->at_ns) pick->at_ns = ready_ns;
    }
    return pick->at_ns > now_ns ? CONSUMER_LATER : CONSUMER_DELIVER;
}

/* --- delivery -------------------------------------------------------------------------------- */

/* Whether pick is what consumer_next would still say: acks, deletes and resets may have come
 * between. */
static bool is_current(struct consumer *c, const struct consumer_pick *pick)
{
    if (c->is_moved || !msgs_has(c->feed->msgs, pick->seq)) return false;
    if (pick->is_redelivery) {
        const struct ackwin_entry *e = ackwin_queue_first(&c->live->window);
        return e != NULL && e->seq == pick->seq;
    }
    if (c->live->window.queued_count > 0) return false;
    if (c->latest != NULL)
        return c->latest->at < c->latest->count && c->latest->seqs[c->latest->at] == pick->seq;
    return pick->seq >= c->next_seq && pick->seq > c->delivered_seq;
}

static void write_ack_subject(const struct consumer *c, const struct consumer_pick *pick,
                              struct consumer_delivery *d)
{
    struct ack_subject a = {.stream = c->feed->name,
                            .consumer = c->name,
                            .deliveries = d->deliveries,
                            .stream_seq = d->seq,
                            .consumer_seq = d->consumer_seq,
                            .time_ns = (uint64_t)pick->entry.time_ns,
                            .pending = d->left};
    ack_text_write(&d->ack, &a);
}

/* Room for the entry of a new delivery comes before anything that cannot be taken back. */
static bool track(struct consumer *c, const struct consumer_pick *pick, int64_t now_ns)
{
    if (pick->is_redelivery) {
        ackwin_delivered(&c->live->window, ackwin_find(&c->live->window, pick->seq), now_ns);
        return true;
    }
    if (c->ack_policy == CONSUMER_ACK_NONE) return true;
    if (consumer_state_wake(c) != ERR_OK) return false;
    return ackwin_add(&c->live->window, pick->seq, c->delivered_cseq + 1, now_ns) == ERR_OK;
}

static void untrack(struct consumer *c, const struct consumer_pick *pick)
{
    if (!pick->is_redelivery && c->ack_policy != CONSUMER_ACK_NONE)
        ackwin_settle(&c->live->window, ackwin_find(&c->live->window, pick->seq));
}

static void advance(struct consumer *c, const struct consumer_pick *pick)
{
    if (pick->is_redelivery) return;
    c->left--;
    if (c->latest != NULL) {
        c->latest->at++;
        c->latest->live--;
        (void)next_latest(c);
    } else {
        c->next_seq = pick->seq + 1;
    }
    if (c->next_seq <= pick->seq) c->next_seq = pick->seq + 1;
    c->delivered_seq = pick->seq;
}

bool consumer_deliver(struct consumer *c, struct shard_time now, const struct consumer_pick *pick,
                      const struct consumer_message *m, struct outlet *o,
                      struct consumer_delivery *d)
{
    int64_t now_ns = (int64_t)now.mono_ns;
    d->is_short = false;
    if (!pick->is_fresh && !is_current(c, pick)) return false;
    const struct ackwin_entry *e =
        pick->is_redelivery ? ackwin_find(&c->live->window, pick->seq) : NULL;
    d->seq = pick->seq;
    d->consumer_seq = c->delivered_cseq + 1;
    d->deliveries = e == NULL ? 1 : e->deliveries + 1u;
    d->headers_only = c->headers_only;
    d->left = consumer_left(c) - (pick->is_redelivery ? 0 : 1);
    write_ack_subject(c, pick, d);
    uint64_t bytes = m->subject + d->ack.len + m->headers;
    if (c->headers_only) {
        char digits[BYTES_U64_TEXT_MAX];
        bytes += (m->headers == 0 ? sizeof "NATS/1.0\r\n\r\n" - 1 : 0) + sizeof "Nats-Msg-Size: " -
                 1 + bytes_u64_text(digits, m->body) + 2;
    } else {
        bytes += m->body;
    }
    d->is_short = !pick->is_redelivery && !track(c, pick, now_ns);
    if (d->is_short) return false;
    if (c->push == NULL) {
        struct pullq_facts facts = facts_of(c, now);
        if (!pullq_take(&c->live->pulls, &facts, bytes, o, &d->taker)) {
            untrack(c, pick);
            return false;
        }
        d->target = bytes_of(d->taker.reply, d->taker.reply_len);
    } else {
        d->target = consumer_deliver_subject(c);
    }
    if (pick->is_redelivery) (void)track(c, pick, now_ns);
    c->delivered_cseq++;
    advance(c, pick);
    if (c->ack_policy == CONSUMER_ACK_NONE) {
        c->floor_cseq = c->delivered_cseq;
        c->floor_seq = c->delivered_seq;
    } else {
        int64_t wait_ns = ackwin_wait_ns(&c->waits, (uint32_t)d->deliveries);
        int64_t expire_ns;
        if (!__builtin_add_overflow(now_ns, wait_ns, &expire_ns) && expire_ns < c->expire_ns)
            c->expire_ns = expire_ns;
    }
    c->last_delivered_ns = now.wall_ns;
    struct consumer_pace *pace = replay_of(c);
    if (pace != NULL) {
        pace->time_ns = pick->entry.time_ns;
        pace->mono_ns = now_ns;
    }
    c->is_changed = true;
    d->bytes = bytes;
    return true;
}

void consumer_delivered_done(struct consumer *c, struct shard_time now,
                             const struct consumer_delivery *d, struct rng *rng, struct outlet *o)
{
    if (c->push != NULL) {
        struct push_names names = {c->feed->name, c->name, consumer_deliver_subject(c)};
        push_delivered(c->push, &names, d->bytes, (int64_t)now.mono_ns, rng, o);
    } else {
        pullq_finish(&d->taker, o);
    }
}

void consumer_skip(struct consumer *c, const struct consumer_pick *pick, struct outlet *o)
{
    struct ackwin_entry *e = ackwin_find(&c->live->window, pick->seq);
    if (e != NULL && e->state == ACKWIN_PENDING) {
        terminate(c, e, "Unacknowledged message was deleted", o);
        return;
    }
    if (!is_current(c, pick)) return;
    (void)consumer_left(c);
    uint64_t delivered = c->delivered_seq;
    advance(c, pick);
    c->delivered_seq = delivered;
}

void consumer_pull(struct consumer *c, struct shard_time now, struct arena *arena,
                   struct bytes body, struct bytes reply, struct outlet *o)
{
    if (c->push != NULL) {
        if (reply.len > 0)
            o->send(o, reply, bytes_of("", 0),
                    BYTES_LITERAL("NATS/1.0 409 Consumer is push based\r\n\r\n"));
        return;
    }
    struct pullq_facts facts = facts_of(c, now);
    if (consumer_state_wake(c) != ERR_OK) {
        if (reply.len > 0) o->send(o, reply, bytes_of("", 0), BYTES_LITERAL(PULLQ_NO_MEMORY));
        return;
    }
    (void)pullq_add(&c->live->pulls, &c->limits, &facts, arena, body, reply, o);
}

void consumer_flow(struct consumer *c, struct bytes subject)
{
    if (c->push != NULL) (void)push_answered(c->push, subject);
}

void consumer_set_bound(struct consumer *c, bool is_bound, struct shard_time now)
{
    if (c->is_bound && !is_bound) c->live->pulls.last_active_ns = (int64_t)now.mono_ns;
    c->is_bound = is_bound;
}
