/* struct consumer as others see it: PROGRESS records and ConsumerInfo.
 *
 * Body of a record; numbers are varints, signed ones folded (0, -1, 1, -2, ...):
 *
 *   version 1 · flags (1: whole: what came before is void) · from (delivered stream sequence of the
 *   record before) · delivered consumer, stream · floor consumer, stream · resume (of a list of
 * last messages that is not through, else 0) · count of entries · entries, ascending entry:
 * sequence - the one before · deliveries << 2 | state (0 settled, 1 pending, 2 given up) · unless
 * settled: consumer sequence (signed, - the one before) · age in ms (signed)
 *
 * Settled are the entries that say so and, of what the consumer's filters select, all in (from,
 * delivered] that is not listed. */
#include "core/base/must.h"
#include "core/base/varint.h"
#include "core/js/consumer_state.h"

enum { RECORD_VERSION = 1, FLAG_WHOLE = 1, NS_PER_MS = 1000000 };

/* --- writing --------------------------------------------------------------------------------- */

/* A whole record tells of what was settled too: streams release by it. */
static struct ackwin_entry *next_entry(const struct consumer *c, uint64_t seq, bool is_whole)
{
    const struct ackwin *w = &c->live->window;
    return is_whole ? ackwin_next_told(w, seq) : ackwin_next_dirty(w, seq);
}

static void write_record(const struct consumer *c, struct shard_time now, bool is_whole,
                         struct text *out)
{
    varint_put(out, RECORD_VERSION);
    varint_put(out, is_whole ? FLAG_WHOLE : 0);
    varint_put(out, c->saved_seq < c->delivered_seq ? c->saved_seq : c->delivered_seq);
    varint_put(out, c->delivered_cseq);
    varint_put(out, c->delivered_seq);
    varint_put(out, c->floor_cseq);
    varint_put(out, c->floor_seq);
    varint_put(out, c->latest == NULL ? 0 : c->latest->resume);
    uint64_t count = 0, seq = 0, cseq = 0;
    const struct ackwin_entry *e;
    for (uint64_t at = 0; (e = next_entry(c, at, is_whole)) != NULL; at = e->seq + 1) count++;
    varint_put(out, count);
    for (uint64_t at = 0; (e = next_entry(c, at, is_whole)) != NULL; at = e->seq + 1) {
        varint_put(out, e->seq - seq);
        varint_put(out, (uint64_t)e->deliveries << 2 | e->state);
        seq = e->seq;
        if (e->state == ACKWIN_HOLE) continue;
        varint_put_signed(out, (int64_t)(e->cseq - cseq));
        varint_put_signed(out, ((int64_t)now.mono_ns - e->since_ns) / NS_PER_MS);
        cseq = e->cseq;
    }
}

void consumer_encode_copy(const struct consumer *c, struct shard_time now, struct text *out)
{
    write_record(c, now, true, out);
}

void consumer_encode(struct consumer *c, struct shard_time now, bool is_whole, struct text *out)
{
    is_whole |= c->is_all_unsaved;
    write_record(c, now, is_whole, out);
    ackwin_set_saved(&c->live->window);
    if (is_whole) {
        struct ackwin_entry *live;
        for (uint64_t at = 0; (live = ackwin_next(&c->live->window, at)) != NULL;
             at = live->seq + 1)
            live->is_saved = 1;
    }
    ackwin_trim(&c->live->window);
    c->saved_seq = c->delivered_seq;
    c->is_changed = c->is_all_unsaved = c->is_undone = false;
}

void consumer_encode_reset(uint64_t seq, bool settles, struct text *out)
{
    const uint64_t fields[] = {
        RECORD_VERSION, FLAG_WHOLE, settles ? 0 : seq - 1, 0, seq - 1, 0, seq - 1, 0, 0};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) varint_put(out, fields[i]);
}

void consumer_reset_saved(struct consumer *c)
{
    c->saved_seq = c->delivered_seq;
    c->is_changed = c->is_all_unsaved = false;
}

/* --- reading --------------------------------------------------------------------------------- */

struct head {
    uint64_t flags, from, delivered_cseq, delivered_seq, floor_cseq, floor_seq, resume, count;
};

static bool get_head(struct bytes *rest, struct head *h)
{
    uint64_t version;
    return varint_get(rest, &version) && version == RECORD_VERSION && varint_get(rest, &h->flags) &&
           varint_get(rest, &h->from) && varint_get(rest, &h->delivered_cseq) &&
           varint_get(rest, &h->delivered_seq) && varint_get(rest, &h->floor_cseq) &&
           varint_get(rest, &h->floor_seq) && varint_get(rest, &h->resume) &&
           varint_get(rest, &h->count) && h->floor_seq <= h->delivered_seq &&
           h->from <= h->delivered_seq;
}

/* The next entry; *entry holds the one before (all 0 at first). */
static bool get_entry(struct bytes *rest, struct ackwin_entry *entry, int64_t *age_ms)
{
    uint64_t step, word;
    int64_t cseq_step;
    if (!varint_get(rest, &step) || step == 0 || !varint_get(rest, &word)) return false;
    if (__builtin_add_overflow(entry->seq, step, &entry->seq)) return false;
    if (word >> 2 > ACKWIN_DELIVERIES_MAX || (word & 3) > ACKWIN_GIVEN_UP) return false;
    entry->deliveries = (uint32_t)(word >> 2) & ACKWIN_DELIVERIES_MAX;
    entry->state = (uint32_t)word & 3;
    if (entry->state == ACKWIN_HOLE) return true;
    if (!varint_get_signed(rest, &cseq_step) || !varint_get_signed(rest, age_ms)) return false;
    entry->cseq += (uint64_t)cseq_step;
    return entry->deliveries > 0;
}

static enum err apply_entries(struct consumer *c, struct bytes rest, const struct head *h,
                              int64_t time_ns, struct shard_time now)
{
    struct ackwin_entry entry = {.seq = 0};
    for (uint64_t i = 0; i < h->count; i++) {
        int64_t age_ms = 0, since_ns;
        if (!get_entry(&rest, &entry, &age_ms)) return ERR_CORRUPT;
        struct ackwin_entry copy = entry;
        /* Back on this start's clock; a clock that was set back makes it wait no longer. */
        int64_t passed_ns = now.wall_ns > time_ns ? now.wall_ns - time_ns : 0;
        if (__builtin_mul_overflow(age_ms, NS_PER_MS, &since_ns) ||
            __builtin_add_overflow(since_ns, passed_ns, &since_ns) ||
            __builtin_sub_overflow((int64_t)now.mono_ns, since_ns, &since_ns))
            since_ns = (int64_t)now.mono_ns;
        copy.since_ns = since_ns;
        enum err e = consumer_state_wake(c);
        if (e == ERR_OK) e = ackwin_restore(&c->live->window, &copy);
        if (e != ERR_OK) return e;
    }
    return rest.len == 0 ? ERR_OK : ERR_CORRUPT;
}

/* A checkpoint may know deliveries that the records behind it do not tell of: they were settled
 * before the next record was made. So what became of them here is told. */
static void settle_unlisted(struct consumer *c, uint64_t from, uint64_t delivered_seq)
{
    struct ackwin *w = &c->live->window;
    struct ackwin_entry gone = {.seq = from, .state = ACKWIN_HOLE};
    const struct ackwin_entry *e;
    while ((e = ackwin_next_told(w, gone.seq + 1)) != NULL && e->seq <= delivered_seq) {
        gone.seq = e->seq;
        must(ackwin_restore(w, &gone) == ERR_OK);
    }
}

enum err consumer_apply(struct consumer *c, struct bytes body, int64_t time_ns,
                        struct shard_time now)
{
    struct head h;
    if (!get_head(&body, &h)) return ERR_CORRUPT;
    if ((h.flags & FLAG_WHOLE) != 0)
        ackwin_clear(&c->live->window);
    else
        settle_unlisted(c, h.from, h.delivered_seq);
    enum err e = apply_entries(c, body, &h, time_ns, now);
    if (e != ERR_OK) return e;
    consumer_state_close_latest(c);
    if (h.resume > h.delivered_seq) {
        e = consumer_state_open_latest(c, h.delivered_seq + 1, h.resume);
        if (e != ERR_OK) return e;
    }
    c->delivered_cseq = h.delivered_cseq;
    c->delivered_seq = c->saved_seq = h.delivered_seq;
    c->floor_cseq = h.floor_cseq;
    c->floor_seq = h.floor_seq;
    c->next_seq = h.delivered_seq + 1;
    c->expire_ns = c->live->window.pending_count > 0 ? (int64_t)now.mono_ns : INT64_MAX;
    c->is_changed = c->is_all_unsaved = false;
    consumer_state_recount(c);
    return ERR_OK;
}

/* What the body settled is in no record. Without memory some of it stays in the stream. */
static void unsave(struct consumer *c, struct bytes body)
{
    struct head h;
    struct ackwin_entry entry = {.seq = 0};
    int64_t age_ms;
    must(get_head(&body, &h));
    for (uint64_t i = 0; i < h.count; i++) {
        must(get_entry(&body, &entry, &age_ms));
        /* Since a reset it may be to come again. */
        if (entry.state != ACKWIN_HOLE || entry.seq > c->delivered_seq) continue;
        if (consumer_state_wake(c) != ERR_OK) break;
        if (ackwin_settle_again(&c->live->window, entry.seq) != ERR_OK) break;
        c->is_changed = true;
    }
    if (h.from < c->saved_seq) c->saved_seq = h.from;
    if (c->saved_seq < c->delivered_seq) c->is_changed = true;
}

/* What is acked in this body is pending no more. */
static void settle_acked(struct consumer *c, struct bytes body)
{
    struct head h;
    struct ackwin_entry entry = {.seq = 0}, *e;
    int64_t age_ms;
    must(get_head(&body, &h));
    for (uint64_t i = 0; i < h.count; i++) {
        must(get_entry(&body, &entry, &age_ms));
        if (entry.state != ACKWIN_HOLE) continue;
        e = ackwin_find(&c->live->window, entry.seq);
        if (e == NULL || e->state != ACKWIN_PENDING) continue;
        ackwin_settle(&c->live->window, e);
        consumer_state_move_floor(c, entry.seq);
    }
}

void consumer_encode_lost(struct consumer *c, struct bytes body)
{
    if (body.len > 0) unsave(c, body);
    c->is_changed = c->is_all_unsaved = true;
}

void consumer_encode_undone(struct consumer *c, struct bytes body)
{
    uint64_t saved_seq = c->saved_seq;
    if (body.len > 0) settle_acked(c, body);
    consumer_encode_lost(c, body);
    c->saved_seq = saved_seq;
}

enum err consumer_apply_copy(struct consumer *c, struct bytes body, int64_t time_ns,
                             struct shard_time now)
{
    enum err e = consumer_apply(c, body, time_ns, now);
    if (e != ERR_OK) return e;
    unsave(c, body);
    /* The next record begins before deliveries that wait: it must list them. */
    if (c->saved_seq < c->delivered_seq) c->is_all_unsaved = true;
    return ERR_OK;
}

enum err consumer_reset_undo(struct consumer *c, struct bytes body, struct shard_time before)
{
    struct text since;
    text_init(&since, c->mem, MEM_JETSTREAM, SIZE_MAX / 4);
    consumer_encode_copy(c, before, &since);
    enum err e =
        since.is_failed ? ERR_MEMORY : consumer_apply_copy(c, body, before.wall_ns, before);
    /* Acks that came since the reset count. */
    c->is_undone = e == ERR_OK;
    if (e == ERR_OK) c->is_reset = false;
    if (e == ERR_OK) consumer_encode_undone(c, text_written(&since));
    if (e == ERR_OK) consumer_replayed(c); /* messages that went since are waited for no more */
    c->is_moved = true;
    text_deinit(&since);
    return e;
}

static void advance_entry(struct consumer_releases *r)
{
    int64_t age_ms;
    r->has_entry = r->left > 0 && get_entry(&r->rest, &r->entry, &age_ms);
    if (r->has_entry) r->left--;
}

void consumer_releases_begin(struct consumer_releases *r, struct bytes body)
{
    struct head h;
    *r = (struct consumer_releases){.rest = body};
    if (!get_head(&r->rest, &h)) return;
    r->from = h.from;
    r->delivered = h.delivered_seq;
    r->left = h.count;
    advance_entry(r);
}

uint64_t consumer_releases_next(struct consumer_releases *r, uint64_t seq)
{
    for (;; advance_entry(r)) {
        uint64_t gap = seq > r->from ? seq : r->from + 1; /* not listed, in (from, delivered] */
        r->is_named = false;
        if (!r->has_entry) return gap <= r->delivered ? gap : 0;
        if (r->entry.seq < seq) continue;
        if (gap < r->entry.seq && gap <= r->delivered) return gap;
        r->is_named = r->entry.state == ACKWIN_HOLE;
        if (r->is_named) return r->entry.seq;
        seq = r->entry.seq + 1;
    }
}

/* --- ConsumerInfo ---------------------------------------------------------------------------- */

static void write_pair(struct json_write *w, const char *key, uint64_t cseq, uint64_t seq,
                       int64_t last_ns)
{
    json_write_object(w, key);
    json_write_u64(w, "consumer_seq", cseq);
    json_write_u64(w, "stream_seq", seq);
    json_write_time_if(w, "last_active", last_ns);
    json_write_end(w);
}

enum err consumer_write_info(struct consumer *c, struct arena *arena, struct shard_time now,
                             struct outlet *o, bool is_listed, struct json_write *w)
{
    struct consumer_config config;
    enum err e = consumer_config_of(c, arena, &config);
    if (e != ERR_OK) return e;
    struct pullq_facts facts = {.now_ns = (int64_t)now.mono_ns,
                                .pending = consumer_left(c),
                                .stream_seq = c->next_seq - 1,
                                .consumer_seq = c->delivered_cseq};
    if (c->live->pulls.count > 0) (void)pullq_sweep(&c->live->pulls, &facts, false, o, NULL);
    json_write_text(w, "stream_name", c->feed->name);
    json_write_text(w, "name", c->name);
    json_write_time(w, "created", c->created_ns);
    consumer_config_write(&config, w, "config", !is_listed);
    write_pair(w, "delivered", c->delivered_cseq, c->delivered_seq, c->last_delivered_ns);
    write_pair(w, "ack_floor", c->floor_cseq, c->floor_seq, c->last_ack_ns);
    json_write_u64(w, "num_ack_pending", c->live->window.pending_count);
    uint32_t redelivered = c->live->window.redelivered_count + c->live->window.given_up_count;
    json_write_u64(w, "num_redelivered", c->max_deliver == 1 ? 0 : redelivered);
    json_write_u64(w, "num_waiting", c->live->pulls.count);
    json_write_u64(w, "num_pending", facts.pending);
    json_write_bool_if(w, "push_bound", c->push != NULL && c->is_bound);
    bool is_paused = c->pause_until_ns > now.wall_ns;
    json_write_bool_if(w, "paused", is_paused);
    if (is_paused) json_write_i64(w, "pause_remaining", c->pause_until_ns - now.wall_ns);
    json_write_time(w, "ts", now.wall_ns);
    return ERR_OK;
}
