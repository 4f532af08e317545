/* The clients' and the stream's side of struct consumer: acks, time, removals, resets. */
#include "core/base/must.h"
#include "core/js/consumer_state.h"
#include "core/route/subject.h"

static bool is_sampled(const struct consumer *c, struct rng *rng)
{
    return c->sample_percent > 0 && rng_below(rng, 100) < c->sample_percent;
}

static void sample(const struct consumer *c, struct shard_time now, const struct ack_subject *a,
                   const struct ackwin_entry *e, struct rng *rng, struct outlet *o)
{
    if (!is_sampled(c, rng)) return;
    struct outlet_event event = {.kind = OUTLET_ACK_SAMPLE,
                                 .stream_seq = a->stream_seq,
                                 .consumer_seq = a->consumer_seq,
                                 .deliveries = a->deliveries,
                                 .ack_ns = (int64_t)now.mono_ns - e->since_ns};
    consumer_state_tell(c, &event, o);
}

/* An ack that comes after a reset passed over the message: its work is done all the same, so a work
 * queue drops it. In an interest stream the reset settles it, if it does not fail: told once more
 * it would stay for who comes between. ERR_MEMORY: without memory for a record of that it stays;
 * and elsewhere no record tells of it, so the message comes again if the reset should fail. */
static enum err settle_passed(struct consumer *c, uint64_t seq)
{
    struct msgs_entry entry;
    if (!c->feed->is_released || seq > c->delivered_seq) return c->is_reset ? ERR_UNKNOWN : ERR_OK;
    if (c->feed->is_shared && !c->is_reset) return ERR_OK;
    if (msgs_get(c->feed->msgs, seq, &entry) != ERR_OK) return ERR_OK;
    if (!consumer_matches(c, subject_index_subject(c->feed->subjects, entry.node))) return ERR_OK;
    if (consumer_state_wake(c) != ERR_OK) return ERR_MEMORY;
    if (ackwin_settle_again(&c->live->window, seq) != ERR_OK) return ERR_MEMORY;
    c->is_changed = true;
    return ERR_OK;
}

/* ERR_OK: the ack counts, or is one of something done long ago. ERR_UNKNOWN: it does not.
 * ERR_MEMORY. */
static enum err settle(struct consumer *c, struct shard_time now, const struct ack_subject *a,
                       bool may_sample, struct rng *rng, struct outlet *o)
{
    uint64_t seq = a->stream_seq;
    if (seq >= c->next_seq && seq > c->delivered_seq) return ERR_UNKNOWN;
    if (c->ack_policy == CONSUMER_ACK_EXPLICIT) {
        struct ackwin_entry *e = ackwin_find(&c->live->window, seq);
        if (e == NULL) return settle_passed(c, seq);
        bool was_pending = e->state == ACKWIN_PENDING;
        if (was_pending && may_sample) sample(c, now, a, e, rng, o);
        ackwin_settle(&c->live->window, e);
        if (was_pending) consumer_state_move_floor(c, seq);
    } else if (c->ack_policy == CONSUMER_ACK_ALL) {
        if (a->consumer_seq <= c->floor_cseq || seq <= c->floor_seq)
            return c->is_reset ? ERR_UNKNOWN : ERR_OK;
        if (seq > c->delivered_seq) return ERR_UNKNOWN;
        ackwin_settle_to(&c->live->window, seq);
        /* A client may say any consumer sequence; the floor stays below what was delivered. */
        c->floor_cseq = a->consumer_seq < c->delivered_cseq ? a->consumer_seq : c->delivered_cseq;
        c->floor_seq = seq;
        const struct ackwin_entry *low = ackwin_lowest(&c->live->window);
        if (low != NULL && c->floor_cseq >= low->cseq) c->floor_cseq = low->cseq - 1;
    } else {
        return ERR_OK;
    }
    c->last_ack_ns = now.wall_ns;
    c->is_changed = true;
    return ERR_OK;
}

static void nak(struct consumer *c, struct shard_time now, const struct ack_subject *a,
                const struct ack_payload *p, struct outlet *o)
{
    struct ackwin_entry *e = ackwin_find(&c->live->window, a->stream_seq);
    int64_t now_ns = (int64_t)now.mono_ns;
    if (e == NULL || e->state != ACKWIN_PENDING) return;
    if (a->consumer_seq <= c->floor_cseq || a->consumer_seq > c->delivered_cseq) return;
    struct outlet_event event = {.kind = OUTLET_NAK,
                                 .stream_seq = a->stream_seq,
                                 .consumer_seq = a->consumer_seq,
                                 .deliveries = a->deliveries};
    consumer_state_tell(c, &event, o);
    if (!p->has_delay) {
        if (ackwin_queue(&c->live->window, e) != ERR_OK) c->expire_ns = now_ns;
        return;
    }
    /* The wait of this delivery ends when the delay does. */
    int64_t delay_ns = p->delay_ns < 0 ? 0 : p->delay_ns, end_ns;
    if (__builtin_add_overflow(now_ns, delay_ns, &end_ns)) end_ns = INT64_MAX;
    ackwin_wait_from(&c->live->window, e, end_ns - ackwin_wait_ns(&c->waits, e->deliveries), true);
    if (end_ns < c->expire_ns) c->expire_ns = end_ns;
    c->is_changed = true;
}

static enum err term(struct consumer *c, struct shard_time now, const struct ack_subject *a,
                     const struct ack_payload *p, struct rng *rng, struct outlet *o)
{
    enum err e = settle(c, now, a, false, rng, o);
    struct outlet_event event = {.kind = OUTLET_TERMINATED,
                                 .stream_seq = a->stream_seq,
                                 .consumer_seq = a->consumer_seq,
                                 .deliveries = a->deliveries,
                                 .reason = p->reason};
    consumer_state_tell(c, &event, o);
    return e;
}

enum err consumer_ack(struct consumer *c, struct shard_time now, const struct ack_subject *a,
                      const struct ack_payload *p, struct rng *rng, struct outlet *o)
{
    if (c->inactive_ns > 0) c->live->pulls.last_active_ns = (int64_t)now.mono_ns;
    switch (p->kind) {
    case ACK_DONE: {
        enum err e = settle(c, now, a, true, rng, o);
        return e == ERR_OK && a->stream_seq == 0 ? ERR_UNKNOWN : e;
    }
    case ACK_NEXT: (void)settle(c, now, a, true, rng, o); return ERR_UNKNOWN;
    case ACK_TERM: return term(c, now, a, p, rng, o);
    case ACK_NAK: nak(c, now, a, p, o); break;
    case ACK_PROGRESS: {
        struct ackwin_entry *e = ackwin_find(&c->live->window, a->stream_seq);
        if (e == NULL || e->state != ACKWIN_PENDING) break;
        ackwin_wait_from(&c->live->window, e, (int64_t)now.mono_ns, false);
        c->is_changed = true;
        break;
    }
    case ACK_UNKNOWN: break;
    }
    return a->stream_seq != 0 ? ERR_OK : ERR_UNKNOWN;
}

/* --- time ------------------------------------------------------------------------------------ */

static int64_t sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* When it will have been inactive for too long; INT64_MAX: it is active, or may be idle for ever.
 */
static int64_t inactive_ns(const struct consumer *c)
{
    if (c->inactive_ns <= 0) return INT64_MAX;
    int64_t since_ns = c->live->pulls.last_active_ns, end_ns;
    if (c->push != NULL && c->is_bound) return INT64_MAX;
    if (c->push == NULL && c->live->pulls.count > 0) return INT64_MAX;
    /* Somebody may still work on what waits for an ack. */
    if (c->push == NULL && c->live->window.pending_count > 0 && c->expire_ns != INT64_MAX &&
        c->expire_ns > since_ns)
        since_ns = c->expire_ns;
    return __builtin_add_overflow(since_ns, c->inactive_ns, &end_ns) ? INT64_MAX : end_ns;
}

/* Expired deliveries that have had all their deliveries do not wait for somebody to ask. */
static void give_up_expired(struct consumer *c, struct outlet *o)
{
    if (c->max_deliver <= 0) return;
    struct ackwin_entry *e;
    for (uint32_t at = 0; (e = ackwin_each_queued(&c->live->window, &at)) != NULL;) {
        if (e->deliveries < c->max_deliver) continue;
        struct outlet_event event = {
            .kind = OUTLET_MAX_DELIVERIES, .stream_seq = e->seq, .deliveries = e->deliveries};
        ackwin_give_up(&c->live->window, e);
        c->is_changed = true;
        consumer_state_tell(c, &event, o);
    }
}

int64_t consumer_timer(struct consumer *c, struct shard_time now, struct outlet *o, bool *is_gone)
{
    int64_t now_ns = (int64_t)now.mono_ns, next_ns = INT64_MAX;
    if (c->live->window.pending_count == 0) {
        c->expire_ns = INT64_MAX;
    } else if (now_ns >= c->expire_ns) {
        c->expire_ns = ackwin_expire(&c->live->window, &c->waits, now_ns);
        give_up_expired(c, o);
    }
    next_ns = sooner(next_ns, c->expire_ns);
    bool is_paused = c->pause_until_ns > now.wall_ns;
    if (c->was_paused && !is_paused) {
        struct outlet_event over = {.kind = OUTLET_PAUSE_OVER, .until_ns = c->pause_until_ns};
        consumer_state_tell(c, &over, o);
    }
    c->was_paused = is_paused;
    if (is_paused) {
        int64_t end_ns;
        if (!__builtin_add_overflow(now_ns, c->pause_until_ns - now.wall_ns, &end_ns))
            next_ns = sooner(next_ns, end_ns);
    }
    if (c->push != NULL) {
        struct push_names names = {c->feed->name, c->name, consumer_deliver_subject(c)};
        next_ns = sooner(next_ns, push_beat(c->push, &names, c->delivered_cseq, c->next_seq - 1,
                                            c->is_bound, now_ns, o));
    } else if (c->live->pulls.count > 0) {
        struct pullq_facts facts = {
            .now_ns = now_ns, .stream_seq = c->next_seq - 1, .consumer_seq = c->delivered_cseq};
        facts.is_stalled = c->ack_policy != CONSUMER_ACK_NONE && c->max_ack_pending > 0 &&
                           c->live->window.pending_count >= c->max_ack_pending;
        next_ns = sooner(next_ns, pullq_sweep(&c->live->pulls, &facts, false, o, NULL));
    }
    int64_t end_ns = inactive_ns(c);
    *is_gone = end_ns <= now_ns;
    return sooner(next_ns, end_ns);
}

/* --- the stream ------------------------------------------------------------------------------ */

static void remove_latest(struct consumer *c, uint64_t seq)
{
    struct consumer_latest *l = c->latest;
    uint32_t low = l->at, high = l->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((l->seqs[middle] & ~CONSUMER_LATEST_GONE) < seq)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == l->count || l->seqs[low] != seq) return;
    l->seqs[low] |= CONSUMER_LATEST_GONE;
    l->live--;
    c->left--;
}

bool consumer_removed(struct consumer *c, uint64_t seq, struct bytes subject, struct outlet *o)
{
    bool is_listed = c->latest != NULL && seq <= c->latest->resume;
    if (is_listed)
        remove_latest(c, seq);
    else if (seq >= c->next_seq && seq <= c->counted_to && consumer_matches(c, subject))
        c->left--;
    if (c->live->window.count == 0) return false;
    struct ackwin_entry *e = ackwin_find(&c->live->window, seq);
    if (e == NULL) return false;
    c->is_changed = true;
    if (e->state == ACKWIN_GIVEN_UP) {
        ackwin_settle(&c->live->window, e);
        consumer_state_move_floor(c, seq); /* as a start does */
        return false;
    }
    bool was_full = c->max_ack_pending > 0 && c->live->window.pending_count >= c->max_ack_pending;
    struct outlet_event event = {.kind = OUTLET_TERMINATED,
                                 .stream_seq = seq,
                                 .consumer_seq = e->cseq,
                                 .deliveries = e->deliveries,
                                 .reason = BYTES_LITERAL("Unacknowledged message was deleted")};
    ackwin_settle(&c->live->window, e);
    consumer_state_move_floor(c, seq);
    consumer_state_tell(c, &event, o);
    return was_full;
}

uint64_t consumer_first_of_interest(const struct consumer *c)
{
    const struct ackwin_entry *e =
        c->live->window.count == 0 ? NULL : ackwin_next(&c->live->window, 0);
    return e != NULL && e->seq < c->next_seq ? e->seq : c->next_seq;
}

/* The filter of the purge covers all that the consumer would get. */
static bool is_covered(const struct consumer *c, struct bytes filter)
{
    if (filter.len == 0) return true;
    for (uint32_t i = 0; i < c->filter_count; i++)
        if (!subject_is_subset(c->filters[i], filter)) return false;
    return c->filter_count > 0;
}

/* Or is covered by what the consumer would get. */
static bool is_concerned(const struct consumer *c, struct bytes filter)
{
    if (filter.len == 0 || c->filter_count == 0) return true;
    for (uint32_t i = 0; i < c->filter_count; i++)
        if (subject_is_subset(c->filters[i], filter) || subject_is_subset(filter, c->filters[i]))
            return true;
    return false;
}

/* Deliveries of messages that are gone. True: there were some. */
static bool settle_missing(struct consumer *c)
{
    bool has_settled = false;
    struct ackwin_entry *e;
    for (uint64_t at = 0; (e = ackwin_next(&c->live->window, at)) != NULL;) {
        at = e->seq + 1;
        if (msgs_has(c->feed->msgs, e->seq)) continue;
        ackwin_settle(&c->live->window, e);
        has_settled = true;
    }
    return has_settled;
}

void consumer_replayed(struct consumer *c)
{
    (void)settle_missing(c);
    if (c->live->window.dirty_count == 0) return;
    c->is_changed = true;
    /* Also what went before a record whose floor did not know of it. */
    const struct ackwin_entry *e = ackwin_next_dirty(&c->live->window, c->floor_seq + 1);
    if (e != NULL) consumer_state_move_floor(c, e->seq);
}

/* Delivered and settled is what lies before `first` of those that it would get. */
static void move_past_purged(struct consumer *c, struct bytes filter, uint64_t first)
{
    /* Whatever it would get besides, it is not before the stream's first message. */
    if (!is_covered(c, filter)) first = *c->feed->first_seq;
    /* By what was delivered, not by the cursor, which a restart forgets. */
    if (c->latest == NULL && c->delivered_seq + 1 < first) {
        if (c->next_seq < first) c->next_seq = first;
        c->delivered_seq = first - 1;
    }
    first = *c->feed->first_seq;
    const struct ackwin_entry *low = ackwin_lowest(&c->live->window);
    if (low == NULL) {
        c->floor_cseq = c->delivered_cseq;
        c->floor_seq = c->delivered_seq;
    } else if (c->floor_seq < first && first - 1 < low->seq) {
        c->floor_seq = first > 0 ? first - 1 : 0;
        c->floor_cseq = low->cseq - 1;
    }
    c->is_changed = true;
}

void consumer_purged(struct consumer *c, struct bytes filter, uint64_t first)
{
    struct msgs *msgs = c->feed->msgs;
    bool has_settled = settle_missing(c);
    if (c->latest != NULL)
        for (uint32_t i = c->latest->at; i < c->latest->count; i++)
            if ((c->latest->seqs[i] & CONSUMER_LATEST_GONE) == 0 &&
                !msgs_has(msgs, c->latest->seqs[i])) {
                c->latest->seqs[i] |= CONSUMER_LATEST_GONE;
                c->latest->live--;
            }
    if (has_settled || is_concerned(c, filter)) move_past_purged(c, filter, first);
    consumer_state_recount(c);
}

bool consumer_needs(const struct consumer *c, uint64_t seq, struct bytes subject)
{
    if (!consumer_matches(c, subject)) return false;
    const struct ackwin_entry *e = ackwin_find(&c->live->window, seq);
    if (e != NULL) return true; /* pending, or given up: kept for whoever looks after those */
    return seq > c->delivered_seq;
}

bool consumer_is_settled_unsaved(const struct consumer *c, uint64_t seq, struct bytes subject)
{
    const struct ackwin *w = &c->live->window;
    if (ackwin_is_hole(w, seq)) return true;
    return seq > c->saved_seq && seq <= c->delivered_seq && ackwin_find(w, seq) == NULL &&
           consumer_matches(c, subject);
}

/* --- reset ----------------------------------------------------------------------------------- */

static enum err refuse_reset(struct writer *why, const char *text)
{
    writer_text(why, text);
    return ERR_DENIED;
}

enum err consumer_reset_seq(const struct consumer *c, uint64_t seq, uint64_t *reset_seq,
                            struct arena *arena, struct writer *why)
{
    struct consumer_config config;
    enum err e = consumer_config_of(c, arena, &config);
    if (e != ERR_OK) return e;
    if (seq == 0) {
        seq = c->floor_seq + 1;
    } else if (config.deliver_policy == CONSUMER_DELIVER_BY_START_SEQUENCE) {
        if (seq < config.opt_start_seq) return refuse_reset(why, "below start seq");
    } else if (config.deliver_policy == CONSUMER_DELIVER_BY_START_TIME) {
        uint64_t start = msgs_seq_at_time(c->feed->msgs, config.opt_start_time.wall_ns);
        if (start == 0) start = *c->feed->last_seq + 1;
        if (seq < start) return refuse_reset(why, "below start time");
    } else if (config.deliver_policy != CONSUMER_DELIVER_ALL) {
        return refuse_reset(why, "not allowed");
    }
    *reset_seq = seq;
    return ERR_OK;
}

void consumer_reset(struct consumer *c, uint64_t seq, bool settles)
{
    consumer_state_close_latest(c);
    ackwin_clear(&c->live->window);
    c->next_seq = seq;
    c->delivered_seq = c->floor_seq = seq - 1;
    c->saved_seq = settles ? 0 : seq - 1;
    c->delivered_cseq = c->floor_cseq = 0;
    c->last_delivered_ns = c->last_ack_ns = 0;
    c->expire_ns = INT64_MAX;
    c->is_changed = c->is_all_unsaved = c->is_moved = c->is_reset = true;
    consumer_state_recount(c);
}
