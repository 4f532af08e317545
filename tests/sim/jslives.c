#include "tests/sim/jslives.h"
#include <stdio.h>
#include "tests/sim/jsledger.h"

/* Timers go off at full seconds, and what is due goes by pieces. */
static const uint64_t SLACK_NS = 2000000000;
static const uint64_t HOUR_NS = 3600000000000, SECOND_NS = 1000000000;
enum { GAP_BYTES = JSLEDGER_BODY_MAX + 400, MARKER_LIFE_S = 1 };

/* --- what is asked for ---------------------------------------------------------------------- */

void jslives_renew(struct jslives *v)
{
    v->least = (struct jslimits){UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, true};
    v->evicts = false;
    v->age_most_ns = 0;
}

static void lower(uint64_t *least, uint64_t to)
{
    if (to < *least) *least = to;
}

static uint64_t choose_age(struct rng *rng)
{
    switch (rng_below(rng, 6)) {
    case 0: return 100000000 + rng_below(rng, 800) * UINT64_C(1000000);
    case 1: return SECOND_NS + rng_below(rng, 2) * SECOND_NS;
    case 2: return HOUR_NS;
    default: return UINT64_MAX;
    }
}

void jslives_change(struct jslives *v, struct rng *rng)
{
    struct jslimits *n = &v->now;
    n->max_msgs = rng_below(rng, 3) == 0 ? UINT64_MAX : 20 + rng_below(rng, 100);
    n->max_bytes = rng_below(rng, 3) != 0 ? UINT64_MAX : 8000 + rng_below(rng, 30000);
    n->per_subject = rng_below(rng, 3) != 0 ? UINT64_MAX : 2 + rng_below(rng, 20);
    n->max_age_ns = choose_age(rng);
    n->is_new = rng_below(rng, 4) == 0;
    lower(&v->least.max_msgs, n->max_msgs);
    lower(&v->least.max_bytes, n->max_bytes);
    lower(&v->least.per_subject, n->per_subject);
    lower(&v->least.max_age_ns, n->max_age_ns);
    v->evicts = v->evicts || !n->is_new;
    if (n->max_age_ns > v->age_most_ns) v->age_most_ns = n->max_age_ns;
}

static long long said(uint64_t limit, long long none)
{
    return limit == UINT64_MAX ? none : (long long)limit;
}

void jslives_write(const struct jslives *v, uint64_t window_ns, char *out, size_t bytes)
{
    const struct jslimits *n = &v->now;
    if (n->max_age_ns < window_ns) window_ns = n->max_age_ns;
    snprintf(out, bytes,
             ",\"max_msgs\":%lld,\"max_msgs_per_subject\":%lld,\"max_bytes\":%lld,\"max_age\":%lld,"
             "\"discard\":\"%s\",\"allow_msg_ttl\":true,\"subject_delete_marker_ttl\":%lld,"
             "\"duplicate_window\":%llu",
             said(n->max_msgs, -1), said(n->per_subject, -1), said(n->max_bytes, -1),
             said(n->max_age_ns, 0), n->is_new ? "new" : "old",
             v->has_markers ? MARKER_LIFE_S * (long long)SECOND_NS : 0,
             (unsigned long long)window_ns);
}

void jslives_write_ttl(struct rng *rng, char *out, size_t bytes, uint64_t *ttl_ns)
{
    static const struct {
        const char *text;
        uint64_t ns;
    } lives[] = {{"1", 1000000000},
                 {"1s", 1000000000},
                 {"2s", 2000000000},
                 {"1h", HOUR_NS},
                 {"never", UINT64_MAX}};
    uint32_t n = rng_below(rng, 3 * sizeof lives / sizeof *lives);
    *ttl_ns = 0;
    out[0] = 0;
    if (n >= sizeof lives / sizeof *lives) return;
    *ttl_ns = lives[n].ns;
    snprintf(out, bytes, "Nats-TTL: %s\r\n", lives[n].text);
}

/* --- what it may have taken ----------------------------------------------------------------- */

static uint64_t end_of(const struct jsledger_entry *e, uint64_t from_ns, uint64_t age_ns)
{
    if (e->ttl_ns == UINT64_MAX) return UINT64_MAX;
    uint64_t life = e->ttl_ns != 0 && e->ttl_ns < age_ns ? e->ttl_ns : age_ns;
    return life == UINT64_MAX ? UINT64_MAX : from_ns + life;
}

uint64_t jslives_earliest_ns(const struct jsledger *l, const struct jsledger_entry *e)
{
    const struct jslives *v = &l->slots[e->slot].lives;
    return v->is_on ? end_of(e, e->sent_ns, v->least.max_age_ns) : UINT64_MAX;
}

uint64_t jslives_latest_ns(const struct jsledger *l, const struct jsledger_entry *e)
{
    const struct jslives *v = &l->slots[e->slot].lives;
    return v->is_on ? end_of(e, e->known_ns, v->age_most_ns) : UINT64_MAX;
}

bool jslives_is_over(const struct jsledger *l, const struct jsledger_entry *e, uint64_t now_ns)
{
    uint64_t end = jslives_latest_ns(l, e);
    /* The last one of its subject stays until there is room for its marker. */
    if (l->slots[e->slot].lives.has_markers) return false;
    return end != UINT64_MAX && now_ns > end + SLACK_NS;
}

/* Nothing of it is there when a record of that time is stored. */
static bool is_gone_by(const struct jsledger *l, const struct jsledger_entry *e, uint64_t ns)
{
    const struct jsledger_slot *s = &l->slots[e->slot];
    uint8_t all = (uint8_t)((1u << s->consumers) - 1);
    bool is_last = s->lives.has_markers; /* or may be, and stays */
    if (!is_last && jslives_latest_ns(l, e) <= ns) return true;
    if (e->is_gone && !e->is_evicted && e->gone_ns <= ns) return true;
    return s->retention == JSL_WORK_QUEUE && (e->ack_confirmed & all) == all && e->gone_ns <= ns;
}

struct behind {
    uint64_t messages, bytes, of_subject;
};

static bool is_enough(const struct jslives *v, const struct behind *b, uint64_t own_bytes)
{
    if (b->of_subject >= v->least.per_subject) return true;
    if (!v->evicts) return false;
    return b->messages >= v->least.max_msgs || b->bytes + own_bytes > v->least.max_bytes;
}

/* What can be there behind e when the message at seq is stored. */
static struct behind count_behind(const struct jsledger *l, const struct jsledger_entry *e,
                                  uint64_t seq, uint64_t ns)
{
    const struct jsledger_slot *s = &l->slots[e->slot];
    struct behind b = {0};
    for (uint64_t at = e->seq + 1; at <= seq; at++) {
        bool is_known = s->owner[at] != JSLEDGER_NONE;
        const struct jsledger_entry *o = is_known ? &l->entries[s->owner[at]] : NULL;
        if (is_known && is_gone_by(l, o, ns)) continue;
        b.messages++;
        b.bytes += is_known ? o->counted : GAP_BYTES;
        b.of_subject += !is_known || o->subject == e->subject;
    }
    return b;
}

bool jslives_may_take(const struct jsledger *l, const struct jsledger_entry *e, uint64_t last)
{
    const struct jsledger_slot *s = &l->slots[e->slot];
    struct behind all = {0};
    uint64_t ns = e->sent_ns;
    for (uint64_t seq = e->seq + 1; seq <= last && seq < JSLEDGER_SEQS_MAX; seq++) {
        bool is_known = s->owner[seq] != JSLEDGER_NONE;
        const struct jsledger_entry *o = is_known ? &l->entries[s->owner[seq]] : NULL;
        /* Times of records do not go back. */
        if (is_known && o->sent_ns > ns) ns = o->sent_ns;
        all.messages++;
        all.bytes += is_known ? o->counted : GAP_BYTES;
        all.of_subject += !is_known || o->subject == e->subject;
        if (!is_enough(&s->lives, &all, e->counted)) continue;
        struct behind there = count_behind(l, e, seq, ns);
        if (is_enough(&s->lives, &there, e->counted)) return true;
    }
    return false;
}

bool jslives_may_repeat(const struct jsledger *l, const struct jsledger_entry *a,
                        const struct jsledger_entry *b, uint64_t window_ns)
{
    const struct jslives *v = &l->slots[a->slot].lives;
    const struct jsledger_entry *older = a->seq < b->seq ? a : b, *younger = older == a ? b : a;
    if (!v->is_on) return false;
    if (v->least.max_age_ns < window_ns) window_ns = v->least.max_age_ns;
    return younger->known_ns >= older->sent_ns + window_ns;
}
