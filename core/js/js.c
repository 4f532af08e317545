#include "core/js/js.h"
#include "core/base/must.h"
#include "core/base/table.h"
#include "core/js/checkpoint.h"

static void drop_send(struct outlet *o, struct bytes subject, struct bytes reply,
                      struct bytes headers)
{
}

static bool has_no_interest(struct outlet *o, struct bytes subject)
{
    return false;
}

static bool is_not_heard(struct outlet *o, struct bytes subject, struct bytes group)
{
    return false;
}

static void drop_event(struct outlet *o, const struct outlet_event *e)
{
}

void js_init(struct js *js, struct mem *mem, struct store *file, uint64_t seed,
             uint64_t memory_bytes_max)
{
    *js = (struct js){.mem = mem,
                      .file = file,
                      .seed = seed,
                      .id_next = 1,
                      .id_step = 1,
                      .share_bytes = UINT64_MAX,
                      .checkpoint_step = JS_CHECKPOINT_STEP,
                      .consumers_default_max = JS_CONSUMERS_DEFAULT_MAX,
                      .silent = {drop_send, has_no_interest, is_not_heard, drop_event}};
    rng_init(&js->rng, seed);
    list_init(&js->rolling);
    list_init(&js->ends);
    list_init(&js->ends_lost);
    memstore_init(&js->memory, mem, memory_bytes_max);
    consumer_idle_init(&js->idle, mem);
    damage_init(&js->damage, mem);
    table_init(&js->streams, mem, MEM_JETSTREAM);
    table_init(&js->ids, mem, MEM_JETSTREAM);
    table_init(&js->quotas, mem, MEM_JETSTREAM);
    directory_init(&js->own, mem, seed);
    js->directory = &js->own;
    js->total.memory.max = js->total.storage.max = -1;
}

uint32_t js_place(struct bytes account_name, struct bytes name, uint32_t log_count)
{
    must(log_count > 0);
    uint64_t of_account = hash_bytes(account_name.data, account_name.len, 0);
    return (uint32_t)(hash_bytes(name.data, name.len, of_account) % log_count);
}

enum directory_verdict js_claim(struct js *js, const struct directory_ask *a)
{
    struct js_limits l;
    js_limits_of(js, a->account, &l);
    must(js->directory != NULL);
    struct directory_limits limits = {.streams = l.max_streams,
                                      .memory = l.max_memory,
                                      .storage = l.max_storage,
                                      .server_memory = js->total.memory.max,
                                      .server_storage = js->total.storage.max};
    return directory_claim(js->directory, a, &limits);
}

enum err js_enter(struct js *js, struct directory *d, uint32_t *refused)
{
    uint32_t at = 0;
    struct js_stream *s;
    while ((s = js_each(js, &at)) != NULL) {
        const struct stream_config *c = &s->stream.config;
        struct directory_ask a = {.account = s->stream.account,
                                  .log = js->log,
                                  .stream = s->stream.id,
                                  .name = c->name,
                                  .is_memory = c->storage == STREAM_MEMORY,
                                  .max_bytes = c->max_bytes,
                                  .subjects = c->subjects};
        if (directory_find_id(d, a.stream) != NULL) continue;
        enum err e = directory_enter(d, &a);
        if (e == ERR_OK) continue;
        if (e != ERR_EXISTS) return e;
        js_drop(js, s); /* from memory only: its records stay */
        ++*refused;
        at--; /* another one may have moved into its slot */
    }
    return ERR_OK;
}

/* No id at or below id is given again. */
static void use_id(struct js *js, uint64_t id)
{
    if (id < js->id_next) return;
    js->id_next += (id - js->id_next) / js->id_step * js->id_step + js->id_step;
}

void js_reserve_ids(struct js *js, uint64_t id)
{
    use_id(js, id);
}

static uint64_t key_of(const struct js *js, uint32_t account, struct bytes name)
{
    return hash_bytes(name.data, name.len, js->seed + account);
}

bool js_is_short(const struct js *js)
{
    if (LIKELY(mem_percent(js->mem) < JS_SHORT_PERCENT)) return false;
    return mem_jetstream_bytes(js->mem) > js->share_bytes;
}

/* --- what is held and may be held ------------------------------------------------------------ */

void js_limits_of(const struct js *js, uint32_t account, struct js_limits *limits)
{
    *limits = (struct js_limits){-1, -1, -1, -1, -1, -1, -1, false};
    if (js->limits_of != NULL) js->limits_of(js->context, account, limits);
}

struct quota *js_quota_of(const struct js *js, uint32_t account)
{
    uint32_t at;
    for (struct quota *q = table_first(&js->quotas, hash_number(account), &at); q != NULL;
         q = table_next(&js->quotas, hash_number(account), &at))
        if (q->account == account) return q;
    return NULL;
}

static void set_limits(struct js *js, struct quota *q)
{
    struct js_limits limits;
    js_limits_of(js, q->account, &limits);
    q->memory.max = limits.max_memory;
    q->storage.max = limits.max_storage;
}

struct quota *js_quota_make(struct js *js, uint32_t account)
{
    struct quota *q = js_quota_of(js, account);
    if (q != NULL) return q;
    q = mem_alloc_zero(js->mem, MEM_JETSTREAM, sizeof *q);
    if (q == NULL) return NULL;
    q->account = account;
    if (table_insert(&js->quotas, hash_number(account), q) != ERR_OK) {
        mem_free(js->mem, MEM_JETSTREAM, q, sizeof *q);
        return NULL;
    }
    set_limits(js, q);
    return q;
}

void js_limits_changed(struct js *js)
{
    uint32_t at = 0;
    struct quota *q;
    while ((q = table_each(&js->quotas, &at)) != NULL) set_limits(js, q);
}

static struct quota_bytes *bytes_in(struct quota *q, const struct stream_config *c)
{
    return c->storage == STREAM_MEMORY ? &q->memory : &q->storage;
}

/* What max_bytes promises counts from when the stream is made, though hidden, until it goes. */
static void reserve(struct js *js, struct js_stream *s, bool is_back)
{
    const struct stream_config *c = &s->stream.config;
    uint64_t bytes = c->max_bytes > 0 ? (uint64_t)c->max_bytes : 0;
    if (is_back) bytes = 0 - bytes;
    bytes_in(s->quota, c)->reserved += bytes;
    bytes_in(&js->total, c)->reserved += bytes;
}

void js_show(struct js *js, struct js_stream *s)
{
    must(s->is_hidden);
    must(s->js == js);
    s->is_hidden = false;
}

static void count_consumers(struct js_stream *s, int64_t change)
{
    s->stream.consumer_count += (uint32_t)change;
    s->quota->consumers += (uint64_t)change;
    s->js->total.consumers += (uint64_t)change;
}

void js_consumer_show(struct js_stream *s, struct consumer *c)
{
    consumer_set_show(&s->consumers, c);
    count_consumers(s, 1);
}

/* --- streams --------------------------------------------------------------------------------- */

struct js_stream *js_each(const struct js *js, uint32_t *at)
{
    return table_each(&js->streams, at);
}

static void free_stream(struct js *js, struct js_stream *s)
{
    mem_free(js->mem, MEM_JETSTREAM, (char *)s->account_name.data, s->account_name.len);
    checkpoint_drop(s);
    list_remove(&s->rolling);
    mem_free(js->mem, MEM_JETSTREAM, s->ending, sizeof *s->ending);
    consumer_set_deinit(&s->consumers);
    wake_deinit(&s->wake);
    stream_deinit(&s->stream);
    mem_free(js->mem, MEM_JETSTREAM, s, sizeof *s);
}

/* A consumer that ended by itself, until the record that says so is durable. */
struct end {
    struct list link; /* in js->ends or js->ends_lost */
    uint64_t stream, number, ticket;
    int64_t time_ns;
};

static void free_ends(struct js *js, struct list *ends)
{
    struct list *link;
    while ((link = list_pop(ends)) != NULL)
        mem_free(js->mem, MEM_JETSTREAM, LIST_OWNER(link, struct end, link), sizeof(struct end));
}

void js_deinit(struct js *js)
{
    uint32_t at = 0;
    struct js_stream *s;
    checkpoint_stop_writing(js, NULL);
    free_ends(js, &js->ends);
    free_ends(js, &js->ends_lost);
    while ((s = js_each(js, &at)) != NULL) free_stream(js, s);
    struct quota *q;
    at = 0;
    while ((q = table_each(&js->quotas, &at)) != NULL)
        mem_free(js->mem, MEM_JETSTREAM, q, sizeof *q);
    table_deinit(&js->quotas);
    directory_deinit(&js->own);
    table_deinit(&js->ids);
    table_deinit(&js->streams);
    damage_deinit(&js->damage);
    memstore_deinit(&js->memory);
}

struct js_stream *js_find(struct js *js, uint32_t account, struct bytes name, bool hidden)
{
    uint32_t at;
    uint64_t hash = key_of(js, account, name);
    for (struct js_stream *s = table_first(&js->streams, hash, &at); s != NULL;
         s = table_next(&js->streams, hash, &at))
        if (s->stream.account == account && bytes_equal(s->stream.config.name, name))
            return s->is_hidden && !hidden ? NULL : s;
    return NULL;
}

struct js_stream *js_find_id(const struct js *js, uint64_t id)
{
    uint32_t at;
    return table_first(&js->ids, hash_number(id), &at); /* no two ids have the same hash */
}

void js_expect(const struct js *js, uint64_t id, enum store_nearness nearness)
{
    if (nearness == STORE_FAR) {
        table_expect(&js->ids, hash_number(id));
        return;
    }
    const struct js_stream *s = js_find_id(js, id);
    if (s == NULL) return;
    if (nearness == STORE_NEAR) {
        __builtin_prefetch(&s->restore);
        stream_expect(&s->stream, false);
    } else {
        if (s->restore != NULL) checkpoint_expect(s);
        stream_expect(&s->stream, true);
    }
}

/* Pullers learn that nothing comes any more. */
static void close_consumer(struct js *js, struct js_stream *s, struct consumer *c)
{
    if (c->live->pulls.count > 0) pullq_close(&c->live->pulls, s->outlet, "409 Consumer Deleted");
    if (!c->is_hidden && js->hooks != NULL && js->hooks->consumer_closing != NULL)
        js->hooks->consumer_closing(js->hooks_context, s, c);
}

void js_drop(struct js *js, struct js_stream *s)
{
    struct stream *m = &s->stream;
    uint32_t at = 0;
    struct consumer *consumer;
    checkpoint_stop_writing(js, s);
    while ((consumer = consumer_set_each(&s->consumers, &at)) != NULL)
        close_consumer(js, s, consumer);
    if (!s->is_hidden && js->hooks != NULL && js->hooks->closing != NULL)
        js->hooks->closing(js->hooks_context, s);
    if (m->config.storage == STREAM_MEMORY) {
        struct msgs_cursor c;
        struct msgs_entry entry;
        msgs_cursor_init(&c, &m->msgs, 0);
        while (msgs_cursor_next(&c, &entry) != 0) memstore_release(&js->memory, entry.place);
        /* And what found no memory to become one of them. */
        struct staged_op op;
        while (staged_pop(&m->staged, &op)) memstore_release(&js->memory, op.place);
    }
    s->quota->streams--;
    js->total.streams--;
    reserve(js, s, true);
    count_consumers(s, -(int64_t)m->consumer_count);
    must(table_remove(&js->ids, hash_number(m->id), s) == ERR_OK);
    must(table_remove(&js->streams, key_of(js, m->account, m->config.name), s) == ERR_OK);
    free_stream(js, s);
}

static void follow_config(struct js_stream *s)
{
    const struct stream_config *c = &s->stream.config;
    s->feed.name = c->name;
    s->feed.is_latest_only = c->max_msgs_per_subject == 1;
    s->feed.is_released = c->retention != STREAM_LIMITS;
    s->feed.is_shared = c->retention == STREAM_INTEREST;
    s->feed.message_bytes_max =
        c->max_msg_size > 0 ? (uint64_t)c->max_msg_size : s->js->message_bytes_max;
}

static void stored(void *context, uint64_t seq, uint32_t node)
{
    struct js_stream *s = context;
    const struct js_hooks *hooks = s->js->hooks;
    if (hooks != NULL && hooks->stored != NULL) hooks->stored(s->js->hooks_context, s, seq, node);
}

static void tell_room(struct js_stream *s)
{
    const struct js_hooks *hooks = s->js->hooks;
    if (hooks != NULL && hooks->consumer_room != NULL)
        hooks->consumer_room(s->js->hooks_context, s);
}

/* A file stream's, in one go: its consumers are told in the end where it was asked for. */
static void cleared(void *context)
{
    struct js_stream *s = context;
    checkpoint_cleared(s->js, s);
    if (s->is_purging || consumer_set_count(&s->consumers) == 0) return;
    consumer_set_purged(&s->consumers, BYTES_LITERAL(""), s->stream.seq_first);
    tell_room(s);
}

static void rolling(void *context)
{
    struct js_stream *s = context;
    if (list_is_empty(&s->rolling)) list_push(&s->js->rolling, &s->rolling);
}

static bool has_interest(void *context, struct bytes subject)
{
    struct js_stream *s = context;
    return consumer_set_matches(&s->consumers, subject);
}

/* Memory is given back as messages go. */
static void removed(void *context, uint64_t seq, const struct msgs_entry *entry)
{
    struct js_stream *s = context;
    if (s->js->writer != NULL) checkpoint_removed(s->js, s, seq, entry->bytes & ~STAGED_BYTES_MASK);
    s->feed.name = s->stream.config.name; /* an update removes before follow_config */
    if (!s->is_purging && consumer_set_count(&s->consumers) > 0 &&
        consumer_set_removed(&s->consumers, seq,
                             subject_index_subject(&s->stream.subjects, entry->node), s->outlet))
        tell_room(s);
    if (s->stream.config.storage == STREAM_MEMORY) memstore_release(&s->js->memory, entry->place);
}

static const struct stream_watch memory_watch = {
    .stored = stored, .removed = removed, .has_interest = has_interest, .rolling = rolling};
static const struct stream_watch file_watch = {.stored = stored,
                                               .removed = removed,
                                               .cleared = cleared,
                                               .has_interest = has_interest,
                                               .rolling = rolling};

enum err js_add(struct js *js, uint32_t account, struct bytes account_name,
                const struct stream_config *c, uint64_t id, int64_t created_ns,
                struct js_stream **out)
{
    must(js_find(js, account, c->name, true) == NULL);
    if (table_reserve(&js->streams, js->streams.count + 1) != ERR_OK) return ERR_MEMORY;
    if (table_reserve(&js->ids, js->ids.count + 1) != ERR_OK) return ERR_MEMORY;
    struct quota *quota = js_quota_make(js, account);
    if (quota == NULL) return ERR_MEMORY;
    struct js_stream *s = mem_alloc_zero(js->mem, MEM_JETSTREAM, sizeof *s);
    if (s == NULL) return ERR_MEMORY;
    enum err e = stream_init(&s->stream, js->mem, id, account, c, created_ns, js->seed);
    if (e != ERR_OK) goto free;
    char *name = account_name.len == 0 ? NULL : mem_alloc(js->mem, MEM_JETSTREAM, account_name.len);
    e = ERR_MEMORY;
    if (name == NULL && account_name.len > 0) goto deinit;
    if (name != NULL) memcpy(name, account_name.data, account_name.len);
    s->account_name = bytes_of(name, account_name.len);
    s->js = js;
    s->passed = js->damage.count;
    s->is_hidden = true;
    s->quota = quota;
    s->stream.account_bytes = bytes_in(quota, c);
    s->stream.server_bytes = bytes_in(&js->total, c);
    s->outlet = &js->silent;
    s->stream.watch = c->storage == STREAM_FILE ? &file_watch : &memory_watch;
    s->stream.watch_context = s;
    list_init(&s->rolling);
    s->feed = (struct consumer_feed){.msgs = &s->stream.msgs,
                                     .subjects = &s->stream.subjects,
                                     .first_seq = &s->stream.seq_first,
                                     .last_seq = &s->stream.seq_last,
                                     .idle = &js->idle};
    follow_config(s);
    consumer_set_init(&s->consumers, js->mem, &s->feed);
    s->feed.changes = &s->consumers.changes;
    wake_init(&s->wake, js->mem);
    e = table_insert(&js->streams, key_of(js, account, c->name), s);
    must(e == ERR_OK);
    e = table_insert(&js->ids, hash_number(id), s);
    must(e == ERR_OK);
    use_id(js, id);
    /* From now on, so that requests in flight together stay within the limits together. */
    quota->streams++;
    js->total.streams++;
    reserve(js, s, false);
    *out = s;
    return ERR_OK;
deinit:
    stream_deinit(&s->stream);
free:
    mem_free(js->mem, MEM_JETSTREAM, s, sizeof *s);
    return e;
}

struct store *js_store_of(struct js *js, const struct js_stream *s)
{
    return s->stream.config.storage == STREAM_MEMORY ? &js->memory.store : js->file;
}

/* --- changes --------------------------------------------------------------------------------- */

/* The state of consumers is ahead of their records: what the last one of them settles by a record
 * behind this goes with that, when at a start it does. */
static bool is_needed(const struct js_stream *s, uint64_t seq, struct bytes subject,
                      uint64_t ticket)
{
    const struct js_hooks *hooks = s->js->hooks;
    if (consumer_set_needs(&s->consumers, seq, subject, ticket)) return true;
    return s->stream.config.retention == STREAM_INTEREST && hooks != NULL &&
           hooks->is_settled_behind != NULL &&
           hooks->is_settled_behind(s->js->hooks_context, s, seq, subject, ticket);
}

/* Nobody needs it any more. */
static void drop_unneeded(struct js_stream *s, uint64_t seq, uint64_t ticket)
{
    struct msgs_entry entry;
    if (msgs_get(&s->stream.msgs, seq, &entry) != ERR_OK) return;
    struct bytes subject = subject_index_subject(&s->stream.subjects, entry.node);
    if (!is_needed(s, seq, subject, ticket)) (void)stream_remove(&s->stream, seq);
}

enum err js_update(struct js_stream *s, const struct stream_config *c, struct js_work *w)
{
    enum stream_retention before = s->stream.config.retention;
    struct js *js = s->js;
    reserve(js, s, true);
    enum err e = stream_update(&s->stream, c);
    reserve(js, s, false);
    if (e != ERR_OK) return e;
    follow_config(s);
    *w = (struct js_work){.is_begun = true};
    w->is_sweep = before != STREAM_INTEREST && c->retention == STREAM_INTEREST;
    if (w->is_sweep && s->stream.consumer_count == 0)
        stream_purge_begin(&s->stream, &w->purge, BYTES_LITERAL(""), 0, 0);
    return ERR_OK;
}

void js_purge(struct js_stream *s, struct bytes filter, uint64_t seq, uint64_t keep,
              struct js_work *w)
{
    *w = (struct js_work){.is_begun = true, .is_purge = true};
    stream_purge_begin(&s->stream, &w->purge, filter, seq, keep);
    w->purge.is_quiet = true;
}

static bool update_step(struct js_stream *s, struct js_work *w)
{
    uint32_t batch = STREAM_PURGE_BATCH;
    if (stream_trim(&s->stream, &w->trim)) return true;
    if (!w->is_sweep) return false;
    if (w->purge.end > 0) return stream_purge_step(&s->stream, &w->purge);
    while ((w->seq = msgs_next(&s->stream.msgs, w->seq)) != 0) {
        if (batch == 0) return true;
        stream_batch_spend(&s->stream, &batch);
        drop_unneeded(s, w->seq++, w->ticket);
    }
    return false;
}

bool js_work_step(struct js_stream *s, struct js_work *w)
{
    const struct js_hooks *hooks = s->js->hooks;
    must(w->is_begun);
    if (!w->is_purge) return update_step(s, w);
    if (!w->purge.is_done) {
        s->is_purging = true;
        bool has_more = stream_purge_step(&s->stream, &w->purge);
        s->is_purging = false;
        if (has_more) return true;
    }
    if (consumer_set_count(&s->consumers) == 0) return false;
    uint64_t first;
    if (stream_purge_left(&s->stream, &w->purge, &first)) return true;
    consumer_set_purged(&s->consumers, w->purge.filter, first);
    if (hooks == NULL || hooks->consumer_updated == NULL) return false;
    uint32_t at = 0;
    struct consumer *c;
    while ((c = consumer_set_each(&s->consumers, &at)) != NULL)
        if (c->owner != NULL) hooks->consumer_updated(s->js->hooks_context, s, c);
    return false;
}

void js_work_end(struct js_work *w)
{
    if (w->purge.sieve.mem != NULL) stream_purge_end(&w->purge);
    *w = (struct js_work){.is_begun = false};
}

/* --- consumers ------------------------------------------------------------------------------- */

bool js_consumer_is_kept(const struct js_stream *s, const struct consumer *c)
{
    if (s->stream.config.storage == STREAM_MEMORY) return false;
    /* What the consumers of these settle is gone for good, so it has to be on record. */
    return !c->is_in_memory || s->stream.config.retention != STREAM_LIMITS;
}

/* It may have been settled; a filter of the consumer has to select it. */
static void release(struct js_stream *s, const struct consumer *c, uint64_t seq, bool is_named,
                    uint64_t ticket)
{
    struct msgs_entry entry;
    if (msgs_get(&s->stream.msgs, seq, &entry) != ERR_OK) return;
    struct bytes subject = subject_index_subject(&s->stream.subjects, entry.node);
    if (!is_named && !consumer_matches(c, subject)) return;
    if (!is_needed(s, seq, subject, ticket)) (void)stream_remove(&s->stream, seq);
}

void js_progress_stored(struct js *js, struct js_stream *s, const struct consumer *c,
                        struct bytes body, uint64_t ticket)
{
    struct consumer_releases r;
    uint64_t seq = 0;
    must(s->js == js);
    if (s->stream.config.retention == STREAM_LIMITS) return;
    consumer_releases_begin(&r, body);
    while ((seq = consumer_releases_next(&r, seq)) != 0) {
        /* A purge can leave any number of sequences without a message. */
        uint64_t live = msgs_next(&s->stream.msgs, seq);
        if (live == 0) return;
        if (live == seq)
            release(s, c, seq++, r.is_named, ticket);
        else
            seq = live;
    }
}

bool js_reset_step(struct js_stream *s, const struct consumer *c, struct js_work *w)
{
    uint32_t batch = STREAM_PURGE_BATCH;
    while ((w->seq = msgs_next(&s->stream.msgs, w->seq)) != 0 && w->seq < w->end) {
        if (batch == 0) return true;
        stream_batch_spend(&s->stream, &batch);
        release(s, c, w->seq++, false, w->ticket);
    }
    return false;
}

/* Of what this consumer may be the only one to want. */
static void begin_sweep(const struct js_stream *s, const struct consumer *c, uint64_t ticket,
                        uint64_t behind, struct js_work *w)
{
    const struct ackwin_entry *low = ackwin_next(&c->live->window, 0);
    const struct ackwin_entry *acked = ackwin_next_dirty(&c->live->window, 0);
    *w = (struct js_work){.is_begun = true, .is_sweep = true, .ticket = ticket, .behind = behind};
    /* Deliveries that were given up lie below the floor, and acks whose record never comes. */
    w->seq = c->floor_seq < c->saved_seq ? c->floor_seq + 1 : c->saved_seq + 1;
    if (low != NULL && low->seq < w->seq) w->seq = low->seq;
    if (acked != NULL && acked->seq < w->seq) w->seq = acked->seq;
    if (c->is_all_unsaved) w->seq = 0;
    w->end = s->stream.config.retention == STREAM_INTEREST ? s->stream.seq_last + 1 : 0;
}

enum err js_consumer_update(struct js_stream *s, struct consumer *c,
                            const struct consumer_config *config, struct shard_time now,
                            uint64_t ticket, uint64_t behind, struct js_work *w)
{
    bool has_other_filters;
    enum err e = consumer_update(c, config, now, &has_other_filters);
    *w = (struct js_work){.ticket = ticket};
    if (e != ERR_OK || !has_other_filters) return e;
    consumer_set_moved_back(&s->consumers);
    begin_sweep(s, c, ticket, behind, w);
    /* A start does not look behind the record. */
    if (behind != 0 && behind < w->end) w->end = behind;
    return ERR_OK;
}

void js_consumer_end(struct js *js, struct js_stream *s, struct consumer *c, uint64_t ticket,
                     uint64_t behind, struct js_work *w)
{
    begin_sweep(s, c, ticket, behind, w);
    bool was_hidden = c->is_hidden;
    close_consumer(js, s, c);
    if (was_hidden)
        s->consumers.hidden_count--;
    else
        count_consumers(s, -1);
    consumer_set_drop(&s->consumers, c);
}

bool js_consumer_end_step(struct js_stream *s, struct js_work *w)
{
    uint32_t batch = STREAM_PURGE_BATCH;
    while ((w->seq = msgs_next(&s->stream.msgs, w->seq)) != 0 && w->seq < w->end) {
        if (batch == 0) return true;
        stream_batch_spend(&s->stream, &batch);
        drop_unneeded(s, w->seq, w->seq < w->behind ? w->ticket : 0);
        w->seq++;
    }
    w->end = 0; /* it may be asked again, and does not begin again */
    return false;
}

void js_consumer_drop(struct js *js, struct js_stream *s, struct consumer *c)
{
    struct js_work work;
    js_consumer_end(js, s, c, 0, 0, &work);
    while (js_consumer_end_step(s, &work)) continue;
}

/* Whoever comes to be interested before it is through does not find half of what is to go. */
static void end_by_pieces(struct js_stream *s, const struct js_work *w)
{
    *s->ending = *w;
    if (s->ending->ticket == 0) s->ending->ticket = STREAM_TICKET_FIRST;
    /* The record's own may fail, and then nobody is told of it again. */
    stream_stage_order(&s->stream, STREAM_TICKET_FIRST);
    rolling(s);
}

/* In memory nothing is for longer, but where there is no more of that. */
static bool has_flights(const struct js_stream *s)
{
    return s->stream.config.storage == STREAM_FILE && s->stream.staged.op_count > 0;
}

bool js_may_delete(const struct js_stream *s)
{
    if (s->stream.config.retention != STREAM_INTEREST) return true;
    if (s->ending != NULL || s->sweeps > 0 || s->stream.order_ticket != 0) return false;
    bool is_empty = s->stream.msgs.live_count == 0 && s->stream.staged.op_count == 0;
    return is_empty || !consumer_set_has_order(&s->consumers);
}

static enum err append_end(struct js *js, struct end *x)
{
    struct store_stub stub;
    struct record record = {.kind = RECORD_CONSUMER_GONE, .stream = x->stream, .seq = x->number};
    record.time_ns = x->time_ns;
    enum err e = store_append(js->file, &record, &stub);
    if (e != ERR_OK) return e;
    x->ticket = stub.ticket;
    list_push(&js->ends, &x->link);
    return ERR_OK;
}

/* Nobody waits for the record: should it fail it has to come again, or the consumer comes back at a
 * start, beside whoever has its place by then. */
static enum err record_end(struct js *js, const struct js_stream *s, const struct consumer *c,
                           int64_t now_ns, uint64_t *ticket)
{
    struct end *x = mem_alloc(js->mem, MEM_JETSTREAM, sizeof *x);
    if (x == NULL) return ERR_MEMORY;
    *x = (struct end){.stream = s->stream.id, .number = c->number, .time_ns = now_ns};
    enum err e = append_end(js, x);
    if (e == ERR_OK)
        *ticket = x->ticket;
    else
        mem_free(js->mem, MEM_JETSTREAM, x, sizeof *x);
    return e;
}

void js_ends_stored(struct js *js, uint64_t ticket)
{
    while (!list_is_empty(&js->ends)) {
        struct end *x = LIST_OWNER(js->ends.next, struct end, link);
        if (x->ticket > ticket) return;
        list_remove(&x->link);
        mem_free(js->mem, MEM_JETSTREAM, x, sizeof *x);
    }
}

void js_ends_failed(struct js *js, uint64_t ticket)
{
    while (!list_is_empty(&js->ends)) {
        struct end *x = LIST_OWNER(js->ends.prev, struct end, link);
        if (x->ticket < ticket) break;
        list_remove(&x->link);
        list_push(js->ends_lost.next, &x->link); /* the first one */
    }
}

void js_ends_again(struct js *js)
{
    struct list *link;
    while ((link = list_pop(&js->ends_lost)) != NULL) {
        struct end *x = LIST_OWNER(link, struct end, link);
        enum err e = js_find_id(js, x->stream) == NULL ? ERR_UNKNOWN : append_end(js, x);
        if (e == ERR_OK) continue;
        if (e != ERR_UNKNOWN && e != ERR_DENIED) {
            list_push(js->ends_lost.next, link);
            return;
        }
        mem_free(js->mem, MEM_JETSTREAM, x, sizeof *x);
    }
}

static enum err end_now(struct js *js, struct js_stream *s, struct consumer *c, int64_t now_ns,
                        uint64_t *ticket)
{
    struct js_work work;
    bool may_sweep = s->stream.config.retention == STREAM_INTEREST;
    struct js_work *ending = may_sweep ? mem_alloc(js->mem, MEM_JETSTREAM, sizeof *ending) : NULL;
    if (may_sweep && ending == NULL) return ERR_MEMORY;
    *ticket = 0;
    enum err e = js_consumer_is_kept(s, c) ? record_end(js, s, c, now_ns, ticket) : ERR_OK;
    if (e != ERR_OK) {
        mem_free(js->mem, MEM_JETSTREAM, ending, sizeof *ending);
        return e;
    }
    uint64_t behind = s->stream.staged.seq_last + 1;
    js_consumer_end(js, s, c, *ticket, behind, &work);
    if (may_sweep) work.end = behind;
    if (!js_consumer_end_step(s, &work)) {
        mem_free(js->mem, MEM_JETSTREAM, ending, sizeof *ending);
        return ERR_OK;
    }
    s->ending = ending;
    end_by_pieces(s, &work);
    return ERR_OK;
}

enum err js_consumer_delete(struct js *js, struct js_stream *s, struct consumer *c, int64_t now_ns,
                            uint64_t *ticket)
{
    if (!js_may_delete(s)) return ERR_BUSY;
    if (s->stream.config.retention != STREAM_INTEREST || !has_flights(s))
        return end_now(js, s, c, now_ns, ticket);
    /* Its record lies behind what is in flight: of that a limit takes the place of what is there
     * while the consumer is. */
    struct js_work work = {.ticket = staged_newest(&s->stream.staged)->ticket};
    s->ending = mem_alloc(js->mem, MEM_JETSTREAM, sizeof *s->ending);
    if (s->ending == NULL) return ERR_MEMORY;
    s->ending_number = c->number;
    end_by_pieces(s, &work);
    *ticket = 0;
    return ERR_OK;
}

static void drop_ending(struct js_stream *s)
{
    s->stream.order_ticket = 0;
    mem_free(s->js->mem, MEM_JETSTREAM, s->ending, sizeof *s->ending);
    s->ending = NULL;
    s->ending_number = 0;
}

/* Nothing is in flight any more. */
static void end_waiting(struct js_stream *s)
{
    struct js *js = s->js;
    const struct js_hooks *hooks = js->hooks;
    struct consumer *c = consumer_set_find_number(&s->consumers, s->ending_number);
    uint64_t ticket;
    drop_ending(s);
    if (c == NULL) return;
    if (hooks != NULL && hooks->consumer_ending != NULL)
        hooks->consumer_ending(js->hooks_context, s, c);
    if (end_now(js, s, c, js->clock.wall_ns, &ticket) == ERR_OK) return;
    /* Its timer tries again. */
    if (hooks != NULL && hooks->consumer_updated != NULL)
        hooks->consumer_updated(js->hooks_context, s, c);
}

static bool ending_step(struct js_stream *s)
{
    if (s->ending == NULL) return false;
    if (s->ending_number != 0) {
        end_waiting(s);
        return false;
    }
    if (js_consumer_end_step(s, s->ending)) return true;
    drop_ending(s);
    return false;
}

/* The first whose next piece can be done now: an end that waits for what is in flight goes on when
 * something is stored, or fails, and behind requests' pieces, which let be what it still wants.
 * NULL: none. */
static struct js_stream *first_rolling(const struct js *js)
{
    for (struct list *link = js->rolling.next; link != &js->rolling; link = link->next) {
        struct js_stream *s = LIST_OWNER(link, struct js_stream, rolling);
        if (s->ending == NULL || (!has_flights(s) && s->sweeps == 0)) return s;
    }
    return NULL;
}

bool js_is_rolling(const struct js *js)
{
    return first_rolling(js) != NULL;
}

void js_roll(struct js *js)
{
    struct js_stream *s = first_rolling(js);
    if (s == NULL) return;
    list_remove(&s->rolling);
    if (stream_rollup_step(&s->stream) || ending_step(s)) list_push(&js->rolling, &s->rolling);
}

/* --- records --------------------------------------------------------------------------------- */

struct stored {
    struct stream_config_request request;
    int64_t created_ns;
};

static const struct request_field stored_fields[] = {
    REQUEST_FIELD(struct stored, request, "config", REQUEST_OBJECT,
                  .type = &stream_config_request_type),
    REQUEST_FIELD(struct stored, created_ns, "created_ns", REQUEST_INT64),
};
static const struct request_type stored_type = {"StoredStream", stored_fields, 2,
                                                sizeof(struct stored)};

bool js_config_record(const struct stream_config *c, int64_t created_ns, struct text *body)
{
    struct json_write w;
    json_write_init(&w, body, 0);
    json_write_object(&w, NULL);
    stream_config_write(c, &w, "config", false);
    json_write_i64(&w, "created_ns", created_ns);
    json_write_end(&w);
    return !body->is_failed;
}

/* A stream in memory ended with its process; what has its name now is another one. */
static bool twin_of(struct js *js, uint32_t account, struct bytes name, uint64_t id)
{
    struct js_stream *twin = js_find(js, account, name, true);
    if (twin == NULL) return false;
    /* Checkpoints come before the record that says that the older one is gone. */
    if (twin->stream.config.storage != STREAM_MEMORY && twin->stream.id > id) return true;
    js_drop(js, twin);
    return false;
}

/* A checkpoint holds consumers as they were in memory, with acks whose record a power cut may have
 * taken since: nobody else releases what those settled. It stays unsaved, since a record that comes
 * before the next checkpoint has to tell of it. ERR_MEMORY: that record releases it. */
static enum err release_unsaved(struct js_stream *s)
{
    uint32_t at = 0;
    struct consumer *c;
    struct text body;
    if (s->stream.config.retention == STREAM_LIMITS) return ERR_OK;
    text_init(&body, s->js->mem, MEM_JETSTREAM, JS_REPLY_BYTES_MAX);
    enum err e = ERR_OK;
    while (e == ERR_OK && (c = consumer_set_each(&s->consumers, &at)) != NULL) {
        if (!consumer_is_unsaved(c)) continue;
        text_clear(&body);
        consumer_encode_copy(c, s->js->now, &body);
        e = body.is_failed ? ERR_MEMORY : ERR_OK;
        if (e == ERR_OK) js_progress_stored(s->js, s, c, text_written(&body), 0);
    }
    text_deinit(&body);
    return e;
}

/* --- damage ---------------------------------------------------------------------------------- */

void js_replay_lost(struct js *js, const struct store_lost *lost)
{
    struct store_lost x = *lost;
    if (x.kind != STORE_LOST_DAMAGED) return;
    if (js_find_id(js, x.stream_hint) == NULL) x.kind_hint = RECORD_NONE;
    damage_add(&js->damage, &x);
}

void js_read_lost(struct js_stream *s, uint64_t seq, uint64_t bytes)
{
    s->messages_lost++;
    lost_add(&s->stream.lost, s->js->mem, seq, seq, bytes);
}

/* So many sequences from this one on are missing. An earlier start passed as many as there were
 * records in what it could not read: what of these seems to be another stream's was not lost here.
 * Hints are not to be relied upon, but nothing better is known. */
static void count_missing(const struct js *js, struct js_stream *s, uint64_t first, uint64_t count)
{
    struct damage_sum sum;
    struct damage_asker asker = {s->stream.id, first, first + count - 1};
    if (count > 0) {
        damage_since(&js->damage, s->passed, &asker, &sum);
        uint64_t lost = count == sum.records ? count - sum.others : count;
        s->messages_lost += lost;
        if (lost > 0) lost_add(&s->stream.lost, js->mem, first, first + lost - 1, sum.bytes);
    }
    s->passed = js->damage.count;
}

/* No sequence is ever given twice (P10), and the last ones may have been lost. */
static void pass_lost(const struct js *js, struct js_stream *s)
{
    struct damage_sum sum;
    uint64_t last = s->stream.seq_last;
    struct damage_asker asker = {s->stream.id, 0, 0};
    damage_since(&js->damage, s->passed, &asker, &sum);
    uint64_t count = sum.records < STREAM_SEQ_MAX - last ? sum.records : STREAM_SEQ_MAX - last;
    if (count == 0) return;
    stream_pass(&s->stream, last + count);
    count_missing(js, s, last + 1, count);
}

void js_replay_end(struct js *js)
{
    uint32_t at = 0;
    struct js_stream *s;
    while ((s = js_each(js, &at)) != NULL) {
        /* What of its consumers made no sense, or found no memory, begins anew. */
        (void)!checkpoint_end(s);
        (void)!release_unsaved(s); /* without memory it goes a little later */
        stream_replayed(&s->stream, js->now.wall_ns);
        uint32_t next = 0;
        struct consumer *c;
        while ((c = consumer_set_each(&s->consumers, &next)) != NULL) consumer_replayed(c);
        pass_lost(js, s);
        /* In a store without damage a message that has no place died after the checkpoint. */
        if (!js->is_damaged) s->messages_lost = 0;
        if (s->stream.config.storage != STREAM_MEMORY) continue;
        js_drop(js, s);
        at--; /* another one may have moved into its slot */
    }
    damage_deinit(&js->damage);
    uint32_t refused = 0;
    if (js->directory != &js->own) return; /* the owner enters all logs in one */
    (void)!js_enter(js, &js->own, &refused);
}

static enum err replay_config(struct js *js, uint32_t account, const struct record *r)
{
    struct arena arena;
    struct stored stored = {0};
    char text[JSAPI_ERROR_TEXT_BYTES];
    struct writer why;
    struct js_stream *s = js_find_id(js, r->stream);
    uint64_t hash = hash_bytes(r->body.data, r->body.len, js->seed);
    bool is_again = (r->flags & RECORD_AGAIN) != 0;
    if (is_again && s != NULL && s->config_hash == hash) return ERR_OK;
    writer_init(&why, text, sizeof text);
    arena_init(&arena, js->mem, MEM_JETSTREAM);
    enum err e = request_decode(&arena, r->body, &stored_type, REQUEST_LENIENT, &stored, &why);
    struct stream_config *c = &stored.request.config;
    size_t blank = bytes_find(r->subject, ' ');
    if (e == ERR_SYNTAX || (e == ERR_OK && !stream_config_is_name(c->name)) ||
        blank == r->subject.len || c->first_seq > STREAM_SEQ_MAX) {
        e = ERR_CORRUPT;
    } else if (e == ERR_OK && s != NULL) {
        struct js_work work;
        /* By the configuration that was in force: what a later one lets live for longer was gone
         * by then. */
        while (stream_expire_until(&s->stream, r->time_ns)) continue;
        e = js_update(s, c, &work);
        while (e == ERR_OK && js_work_step(s, &work)) continue;
        if (e == ERR_OK) js_work_end(&work);
    } else if (e == ERR_OK && twin_of(js, account, c->name, r->stream)) {
        e = ERR_UNKNOWN;
    } else if (e == ERR_OK) {
        e = js_add(js, account, bytes_of(r->subject.data, blank), c, r->stream, stored.created_ns,
                   &s);
        if (e == ERR_OK) js_show(js, s);
    }
    if (e == ERR_OK) s->config_hash = hash;
    arena_deinit(&arena);
    return e;
}

struct stored_consumer {
    struct consumer_config config;
    int64_t created_ns;
};

static const struct request_field consumer_fields[] = {
    REQUEST_FIELD(struct stored_consumer, config, "config", REQUEST_OBJECT,
                  .type = &consumer_config_type),
    REQUEST_FIELD(struct stored_consumer, created_ns, "created_ns", REQUEST_INT64),
};
static const struct request_type stored_consumer_type = {"StoredConsumer", consumer_fields, 2,
                                                         sizeof(struct stored_consumer)};

bool js_consumer_record(const struct consumer_config *c, int64_t created_ns, struct text *body)
{
    struct json_write w;
    json_write_init(&w, body, 0);
    json_write_object(&w, NULL);
    consumer_config_write(c, &w, "config", false);
    json_write_i64(&w, "created_ns", created_ns);
    json_write_end(&w);
    return !body->is_failed;
}

/* A configuration that no request could have made would break what relies on it. */
static bool is_sound(const struct consumer_config *c)
{
    return stream_config_is_name(c->name) &&
           (c->durable_name.len == 0 || bytes_equal(c->durable_name, c->name));
}

static enum err replay_update(struct js_stream *s, struct consumer *c,
                              const struct consumer_config *config)
{
    struct js_work work;
    enum err e = js_consumer_update(s, c, config, s->js->now, 0, 0, &work);
    while (e == ERR_OK && js_consumer_end_step(s, &work)) continue;
    return e;
}

static enum err replay_consumer(struct js *js, struct js_stream *s, const struct record *r)
{
    struct arena arena;
    struct stored_consumer stored = {.created_ns = 0};
    char text[JSAPI_ERROR_TEXT_BYTES];
    struct writer why;
    writer_init(&why, text, sizeof text);
    arena_init(&arena, js->mem, MEM_JETSTREAM);
    enum err e =
        request_decode(&arena, r->body, &stored_consumer_type, REQUEST_LENIENT, &stored, &why);
    stored.config.is_nameless = stored.config.name.len == 0;
    stored.config.name = r->subject;
    consumer_config_unwrap(&stored.config);
    struct consumer *c = consumer_set_find_number(&s->consumers, r->seq);
    if (e == ERR_SYNTAX || r->seq == 0 || (e == ERR_OK && !is_sound(&stored.config))) {
        e = ERR_CORRUPT;
    } else if (e == ERR_OK && c != NULL) {
        e = bytes_equal(c->name, r->subject) ? replay_update(s, c, &stored.config) : ERR_CORRUPT;
    } else if (e == ERR_OK) {
        /* The record of an end that nobody waited for may have failed. */
        struct consumer *twin = consumer_set_find(&s->consumers, r->subject);
        if (twin != NULL && twin->number < r->seq) js_consumer_drop(js, s, twin);
        e = consumer_set_add(&s->consumers, &stored.config, r->seq, stored.created_ns, js->now, &c);
        if (e == ERR_EXISTS) e = ERR_CORRUPT;
        if (e == ERR_OK) js_consumer_show(s, c);
    }
    arena_deinit(&arena);
    return e;
}

static enum err replay_of_consumer(struct js *js, struct js_stream *s, const struct record *r)
{
    if (r->kind == RECORD_CONSUMER) return replay_consumer(js, s, r);
    struct consumer *c = consumer_set_find_number(&s->consumers, r->seq);
    if (c == NULL) return ERR_UNKNOWN;
    if (r->kind == RECORD_CONSUMER_GONE) {
        js_consumer_drop(js, s, c);
        return ERR_OK;
    }
    /* A checkpoint may be ahead of the records behind it. */
    uint32_t number = (uint32_t)r->prev_seq;
    bool is_known = number != 0 && c->progress != 0 && (int32_t)(number - c->progress) <= 0;
    enum err e = is_known ? ERR_OK : consumer_apply(c, r->body, r->time_ns, js->now);
    if (e != ERR_OK) return e;
    if (number != 0 && !is_known) c->progress = number;
    consumer_set_moved_back(&s->consumers);
    js_progress_stored(js, s, c, r->body, 0);
    return ERR_OK;
}

static enum err replay_purge(struct js_stream *s, const struct record *r)
{
    s->is_purging = true;
    enum err e = stream_replay(&s->stream, r, 0);
    s->is_purging = false;
    if (consumer_set_count(&s->consumers) == 0) return e;
    struct stream_purge p;
    uint64_t first;
    stream_purge_begin(&s->stream, &p, r->subject, 1, 0); /* nothing goes: what is left? */
    while (stream_purge_left(&s->stream, &p, &first)) continue;
    consumer_set_purged(&s->consumers, p.filter, first);
    stream_purge_end(&p);
    return e;
}

void js_scrub(const struct js_stream *s, uint64_t seq)
{
    const struct js *js = s->js;
    struct msgs_entry entry;
    if (js->scrub == NULL || s->stream.config.storage == STREAM_MEMORY) return;
    if (msgs_get(&s->stream.msgs, seq, &entry) == ERR_OK) js->scrub(js->scrub_context, entry.place);
}

/* The record itself, whatever a restore before it left out. */
static enum err replay_record(struct js *js, uint32_t account, struct js_stream *s,
                              const struct record *r, uint64_t place)
{
    if (r->kind == RECORD_STREAM) return replay_config(js, account, r);
    if (s == NULL) return ERR_UNKNOWN;
    /* Of a pack: nothing but a checkpoint can place it. */
    if (r->kind == RECORD_MESSAGE && ((r->body.data == NULL && r->body.len > 0) ||
                                      (r->headers.data == NULL && r->headers.len > 0)))
        return ERR_CORRUPT;
    if (r->kind == RECORD_STREAM_GONE) {
        js_drop(js, s);
        return ERR_OK;
    }
    if (r->kind == RECORD_CONSUMER || r->kind == RECORD_CONSUMER_GONE || r->kind == RECORD_PROGRESS)
        return replay_of_consumer(js, s, r);
    uint64_t next = s->stream.seq_last + 1;
    if (r->kind == RECORD_PURGE) {
        struct damage_asker asker = {s->stream.id, 0, 0};
        struct damage_sum sum;
        struct record purge = *r;
        damage_since(&js->damage, s->passed, &asker, &sum);
        /* It was among the sequences that were given, and is no more than what was lost? Then it
         * takes out all that is left, and does not say which one was to be given next. */
        if (purge.seq >= next && purge.seq - next < sum.records) purge.seq = 0;
        enum err e = replay_purge(s, &purge);
        if (s->stream.seq_last >= next) s->passed = js->damage.count;
        return e;
    }
    if (r->kind == RECORD_ERASE && (r->flags & RECORD_SECURE) != 0) js_scrub(s, r->seq);
    enum err e = stream_replay(&s->stream, r, place);
    /* Sequences of a log have no gaps: what is missing lay in what was damaged. */
    bool has_seq = r->kind == RECORD_MESSAGE || r->kind == RECORD_SKIP;
    if (e == ERR_OK && has_seq) count_missing(js, s, next, r->seq - next);
    return e;
}

enum err js_replay(struct js *js, uint32_t account, const struct record *r, uint64_t place)
{
    use_id(js, r->stream);
    struct js_stream *s = js_find_id(js, r->stream);
    if (r->kind == RECORD_CHECKPOINT) return checkpoint_load(js, account, r);
    enum err before = ERR_OK;
    if (s != NULL && s->restore != NULL) {
        if (checkpoint_knows(s, r)) {
            s->passed = js->damage.count;
            return checkpoint_place(s, r, place);
        }
        before = checkpoint_end(s);
        if (before != ERR_OK && before != ERR_CORRUPT) return before;
    }
    /* A checkpoint whose tail makes no sense does not take the record with it that ended it. */
    enum err e = replay_record(js, account, s, r, place);
    return e == ERR_OK ? before : e;
}
