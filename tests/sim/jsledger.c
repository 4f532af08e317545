#include "tests/sim/jsledger.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "core/base/must.h"

enum { ERRORS_TOLD = 5 };
/* A delivery may be on its way for so long after what forbids it. */
static const uint64_t ON_ITS_WAY_NS = 1000000000;

void jsledger_init(struct jsledger *l, uint64_t seed)
{
    memset(l, 0, sizeof *l);
    l->seed = seed;
    l->next_msg_id = 1;
    memset(l->stored_of, 0xff, sizeof l->stored_of);
    for (uint32_t i = 0; i < JSLEDGER_SLOTS; i++) jsledger_renew(l, i);
}

void jsledger_wrong(struct jsledger *l, const char *what, ...)
{
    va_list list;
    if (l->errors++ >= ERRORS_TOLD) return;
    fprintf(stderr, "WRONG: seed %llu life %u %.6f: ", (unsigned long long)l->seed, l->life,
            (double)l->now_ns / 1e9);
    va_start(list, what);
    vfprintf(stderr, what, list);
    va_end(list);
    fputc('\n', stderr);
}

static void wrong_entry(struct jsledger *l, const struct jsledger_entry *e, const char *what)
{
    uint64_t earliest = jslives_earliest_ns(l, e), latest = jslives_latest_ns(l, e);
    jsledger_wrong(l,
                   "%s: stream S%u, message %u of %.6f, sequence %llu, outcome %u, acks %x/%x, "
                   "life until %.6f to %.6f, ttl %.1f",
                   what, e->slot, (unsigned)(e - l->entries), (double)e->sent_ns / 1e9,
                   (unsigned long long)e->seq, e->outcome, e->ack_sent, e->ack_confirmed,
                   (double)earliest / 1e9, (double)latest / 1e9, (double)e->ttl_ns / 1e9);
}

void jsledger_renew(struct jsledger *l, uint32_t slot)
{
    struct jsledger_slot *s = &l->slots[slot];
    for (uint32_t i = 0; i < l->entry_count; i++) {
        const struct jsledger_entry *e = &l->entries[i];
        if (e->slot == slot && e->outcome == JSL_STORED)
            s->late_acks[e->seq] |= e->ack_sent & (uint8_t)~e->ack_confirmed;
    }
    s->incarnation++;
    s->renewed[s->incarnation % JSLEDGER_INCARNATIONS].life = l->life;
    s->renewed[s->incarnation % JSLEDGER_INCARNATIONS].ns = l->now_ns;
    s->seen_last = 0;
    s->is_purging = false;
    s->was_reset = 0;
    s->max_msgs = UINT64_MAX;
    jslives_renew(&s->lives);
    memset(s->owner, 0xff, sizeof s->owner);
    memset(s->client_last, 0, sizeof s->client_last);
}

/* --- publishes ---------------------------------------------------------------------------- */

uint32_t jsledger_publish(struct jsledger *l, const struct jsledger_publish *p)
{
    must(l->entry_count < JSLEDGER_ENTRIES_MAX);
    uint32_t id = l->entry_count++;
    l->entries[id] = (struct jsledger_entry){.slot = (uint8_t)p->slot,
                                             .subject = (uint8_t)p->subject,
                                             .client = (uint8_t)p->client,
                                             .connection = p->connection,
                                             .incarnation = l->slots[p->slot].incarnation,
                                             .bytes = p->bytes,
                                             .msg_id = p->msg_id,
                                             .expected = p->expected,
                                             .ttl_ns = p->ttl_ns,
                                             .counted = p->counted,
                                             .sent_ns = l->now_ns,
                                             .maybe_gone = l->slots[p->slot].is_purging};
    return id;
}

void jsledger_body(const struct jsledger *l, uint32_t id, char *out)
{
    char head[16];
    uint32_t bytes = l->entries[id].bytes;
    snprintf(head, sizeof head, "m%08u.", id);
    must(bytes >= 10 && bytes <= JSLEDGER_BODY_MAX);
    memcpy(out, head, 10);
    for (uint32_t i = 10; i < bytes; i++) out[i] = (char)(id * 31 + i * 7);
}

/* Another write of this subject won with the same expectation, or came between. */
static void check_set(struct jsledger *l, const struct jsledger_entry *e)
{
    const struct jsledger_slot *s = &l->slots[e->slot];
    if (e->expected == UINT64_MAX || s->retention != JSL_KEYS) return;
    if (e->expected >= e->seq) wrong_entry(l, e, "stored before what it expects");
    for (uint64_t seq = e->expected + 1; seq < e->seq && seq < JSLEDGER_SEQS_MAX; seq++) {
        uint32_t other = s->owner[seq];
        if (other != JSLEDGER_NONE && l->entries[other].subject == e->subject)
            wrong_entry(l, e, "compare-and-set passed another write");
    }
}

static void mark_stored(struct jsledger *l, uint32_t id, uint64_t seq)
{
    struct jsledger_entry *e = &l->entries[id];
    struct jsledger_slot *s = &l->slots[e->slot];
    if (e->incarnation != s->incarnation) {
        wrong_entry(l, e, "a message of a stream that was deleted");
        return;
    }
    if (seq == 0 || seq >= JSLEDGER_SEQS_MAX) {
        wrong_entry(l, e, "a strange sequence");
        return;
    }
    if (e->outcome == JSL_STORED) {
        if (e->seq != seq) wrong_entry(l, e, "one message has two sequences");
        return;
    }
    if (e->outcome == JSL_REFUSED) wrong_entry(l, e, "a refused message was stored");
    if (e->outcome == JSL_DUPLICATE) wrong_entry(l, e, "a duplicate was stored");
    if (e->outcome == JSL_ABSENT) wrong_entry(l, e, "a message came back");
    if (s->owner[seq] != JSLEDGER_NONE && s->owner[seq] != id)
        wrong_entry(l, &l->entries[s->owner[seq]], "two messages have one sequence");
    e->outcome = JSL_STORED;
    e->seq = seq;
    e->known_ns = l->now_ns;
    s->owner[seq] = id;
    if (seq > s->seen_last) s->seen_last = seq;
    if (e->msg_id != 0) {
        uint32_t *other = &l->stored_of[e->msg_id];
        const struct jsledger_entry *o = *other == JSLEDGER_NONE ? e : &l->entries[*other];
        if (o != e && !jslives_may_repeat(l, o, e, JSLIVES_WINDOW_NS))
            wrong_entry(l, e, "one message id was stored twice");
        if (o->seq <= seq) *other = id;
    }
    check_set(l, e);
}

void jsledger_stored(struct jsledger *l, uint32_t id, uint64_t seq, bool is_duplicate)
{
    struct jsledger_entry *e = &l->entries[id];
    struct jsledger_slot *s = &l->slots[e->slot];
    if (!is_duplicate) {
        mark_stored(l, id, seq);
        if (s->client_connection[e->client] == e->connection && s->client_last[e->client] >= seq)
            wrong_entry(l, e, "stored out of order");
        s->client_connection[e->client] = e->connection;
        s->client_last[e->client] = seq;
        return;
    }
    if (e->msg_id == 0) wrong_entry(l, e, "a duplicate without a message id");
    if (e->outcome == JSL_STORED) wrong_entry(l, e, "stored, and a duplicate");
    e->outcome = JSL_DUPLICATE;
    uint32_t owner = seq < JSLEDGER_SEQS_MAX ? s->owner[seq] : JSLEDGER_NONE;
    if (owner != JSLEDGER_NONE && l->entries[owner].msg_id != e->msg_id)
        wrong_entry(l, e, "a duplicate of another message");
    /* With short windows it may be stored again, and the answer to that be lost. */
    uint32_t known = l->stored_of[e->msg_id];
    bool may_repeat = s->lives.is_on && s->lives.least.max_age_ns < JSLIVES_WINDOW_NS;
    /* Or between two lives the window ended. */
    if (s->lives.is_on && known != JSLEDGER_NONE)
        may_repeat = may_repeat || l->now_ns >= l->entries[known].sent_ns + JSLIVES_WINDOW_NS;
    if (owner == JSLEDGER_NONE && !may_repeat && known != JSLEDGER_NONE)
        wrong_entry(l, e, "a duplicate of another sequence");
}

void jsledger_refused(struct jsledger *l, uint32_t id)
{
    struct jsledger_entry *e = &l->entries[id];
    if (e->outcome != JSL_SENT) wrong_entry(l, e, "refused, and seen before");
    e->outcome = JSL_REFUSED;
}

void jsledger_lost(struct jsledger *l, uint32_t id)
{
    if (l->entries[id].outcome == JSL_SENT) l->entries[id].outcome = JSL_LOST;
}

/* --- what streams show -------------------------------------------------------------------- */

static bool is_body(const struct jsledger *l, uint32_t id, struct bytes body)
{
    char want[JSLEDGER_BODY_MAX];
    if (body.len != l->entries[id].bytes) return false;
    jsledger_body(l, id, want);
    return memcmp(want, body.data, body.len) == 0;
}

/* Its stream has been deleted, but not for long: a slow connection still had the message. */
static bool is_on_its_way(const struct jsledger *l, const struct jsledger_entry *e)
{
    const struct jsledger_slot *s = &l->slots[e->slot];
    uint32_t ago = s->incarnation - e->incarnation;
    if (ago == 0 || ago > JSLEDGER_INCARNATIONS) return false;
    uint32_t next = (e->incarnation + 1) % JSLEDGER_INCARNATIONS;
    return s->renewed[next].life == l->life && l->now_ns < s->renewed[next].ns + ON_ITS_WAY_NS;
}

uint32_t jsledger_seen(struct jsledger *l, uint32_t slot, uint64_t seq, struct bytes subject,
                       struct bytes body)
{
    char text[16] = "", want[16];
    unsigned id = JSLEDGER_NONE;
    if (body.len >= 10) memcpy(text, body.data, 10);
    if (sscanf(text, "m%8u.", &id) != 1 || id >= l->entry_count || !is_body(l, id, body)) {
        jsledger_wrong(l, "never published: stream S%u, sequence %llu, %zu bytes", slot,
                       (unsigned long long)seq, body.len);
        return JSLEDGER_NONE;
    }
    struct jsledger_entry *e = &l->entries[id];
    snprintf(want, sizeof want, "s%u.%u", e->slot, e->subject);
    if (e->slot != slot || !bytes_equal(subject, bytes_from_text(want)))
        wrong_entry(l, e, "under another subject");
    if (is_on_its_way(l, e)) return JSLEDGER_NONE;
    if (e->outcome == JSL_LOST) l->found_again++;
    mark_stored(l, id, seq);
    /* What was erased behind it since, and has no place any more, is not there when a start counts:
     * the limit leaves it then. */
    if (e->is_evicted) e->is_gone = e->is_evicted = false;
    if (e->is_gone && (e->gone_life < l->life || e->gone_ns + ON_ITS_WAY_NS < l->now_ns))
        wrong_entry(l, e, "shown after its removal was confirmed");
    return id;
}

void jsledger_delivered(struct jsledger *l, uint32_t slot, uint32_t consumer, uint32_t id,
                        uint64_t deliveries)
{
    const struct jsledger_entry *e = &l->entries[id];
    if (deliveries > 1) l->redeliveries++;
    /* A work queue has forgotten it, wherever its consumer begins. */
    if (l->slots[slot].retention != JSL_WORK_QUEUE && (l->slots[slot].was_reset >> consumer & 1))
        return;
    if ((e->ack_confirmed >> consumer & 1) == 0) return;
    if (e->gone_life < l->life || e->gone_ns + ON_ITS_WAY_NS < l->now_ns)
        wrong_entry(l, e, "delivered after its ack was confirmed");
}

void jsledger_marker(struct jsledger *l, uint32_t slot, uint64_t seq)
{
    struct jsledger_slot *s = &l->slots[slot];
    if (seq == 0 || seq >= JSLEDGER_SEQS_MAX || !s->lives.has_markers) {
        jsledger_wrong(l, "S%u: a strange marker, sequence %llu", slot, (unsigned long long)seq);
        return;
    }
    if (s->owner[seq] != JSLEDGER_NONE)
        wrong_entry(l, &l->entries[s->owner[seq]], "a marker has its sequence");
    if (seq > s->seen_last) s->seen_last = seq;
    s->markers++;
    s->new_markers += seq > s->audit_last;
    l->markers++;
}

/* --- removal ------------------------------------------------------------------------------ */

void jsledger_erase_sent(struct jsledger *l, uint32_t id)
{
    l->entries[id].maybe_gone = true;
}

static void set_gone(const struct jsledger *l, struct jsledger_entry *e)
{
    e->gone_life = l->life;
    e->gone_ns = l->now_ns;
}

void jsledger_erased(struct jsledger *l, uint32_t id)
{
    l->entries[id].is_gone = true;
    set_gone(l, &l->entries[id]);
}

void jsledger_purge_sent(struct jsledger *l, uint32_t slot)
{
    l->slots[slot].is_purging = true;
    for (uint32_t i = 0; i < l->entry_count; i++) {
        struct jsledger_entry *e = &l->entries[i];
        if (e->slot != slot || e->incarnation != l->slots[slot].incarnation) continue;
        e->maybe_gone = true;
        e->is_doomed = e->outcome == JSL_STORED;
    }
}

void jsledger_purged(struct jsledger *l, uint32_t slot, bool is_sure)
{
    l->slots[slot].is_purging = false;
    for (uint32_t i = 0; i < l->entry_count; i++) {
        struct jsledger_entry *e = &l->entries[i];
        if (e->slot != slot || !e->is_doomed) continue;
        e->is_doomed = false;
        if (!is_sure || e->is_gone) continue;
        e->is_gone = true;
        set_gone(l, e);
    }
}

void jsledger_ack_sent(struct jsledger *l, uint32_t id, uint32_t consumer)
{
    l->entries[id].ack_sent |= (uint8_t)(1 << consumer);
}

void jsledger_ack_confirmed(struct jsledger *l, uint32_t id, uint32_t consumer)
{
    l->entries[id].ack_confirmed |= (uint8_t)(1 << consumer);
    set_gone(l, &l->entries[id]);
}

void jsledger_reset_sent(struct jsledger *l, uint32_t slot, uint32_t consumer)
{
    l->slots[slot].was_reset |= (uint8_t)(1 << consumer);
}

/* --- audits ------------------------------------------------------------------------------- */

void jsledger_audit_begin(struct jsledger *l, uint32_t slot)
{
    struct jsledger_slot *s = &l->slots[slot];
    s->markers = s->new_markers = 0;
    s->audit_last = s->seen_last;
    s->audit_ns = l->now_ns;
    for (uint32_t i = 0; i < l->entry_count; i++)
        if (l->entries[i].slot == slot) l->entries[i].is_present = false;
}

/* A younger message of its subject took its place, or may have. */
static bool is_replaced(const struct jsledger *l, const struct jsledger_entry *e)
{
    for (uint32_t i = 0; i < l->entry_count; i++) {
        const struct jsledger_entry *o = &l->entries[i];
        if (o->slot == e->slot && o->incarnation == e->incarnation && o->subject == e->subject &&
            o->outcome == JSL_STORED && o->seq > e->seq)
            return true;
    }
    return false;
}

static bool is_beyond(const struct jsledger *l, const struct jsledger_entry *e, uint64_t last)
{
    const struct jsledger_slot *s = &l->slots[e->slot];
    if (s->lives.is_on) return jslives_may_take(l, e, last);
    return s->max_msgs != UINT64_MAX && last - e->seq >= s->max_msgs;
}

static bool may_be_gone(const struct jsledger *l, const struct jsledger_entry *e, uint64_t last)
{
    const struct jsledger_slot *s = &l->slots[e->slot];
    uint8_t all = (uint8_t)((1u << s->consumers) - 1);
    uint8_t acked = e->ack_sent | s->late_acks[e->seq];
    if (e->maybe_gone || e->is_gone) return true;
    if (jslives_earliest_ns(l, e) <= l->now_ns) return true;
    if (is_beyond(l, e, last)) return true;
    switch (s->retention) {
    case JSL_WORK_QUEUE: return (acked & all) == all; /* what was passed over stays */
    case JSL_INTEREST: return ((acked | s->was_reset) & all) == all;
    case JSL_KEYS: return is_replaced(l, e);
    default: return false;
    }
}

static bool must_be_gone(const struct jsledger *l, const struct jsledger_entry *e)
{
    const struct jsledger_slot *s = &l->slots[e->slot];
    uint8_t all = (uint8_t)((1u << s->consumers) - 1);
    if (s->retention == JSL_KEYS && is_replaced(l, e)) return true;
    if (jslives_is_over(l, e, s->audit_ns)) return true;
    bool is_consumed = s->retention == JSL_WORK_QUEUE ||
                       (s->retention == JSL_INTEREST && s->was_reset == 0 && !s->is_kept);
    return e->is_gone || (is_consumed && (e->ack_confirmed & all) == all);
}

void jsledger_audit_end(struct jsledger *l, uint32_t slot, uint64_t last, uint64_t messages)
{
    const struct jsledger_slot *s = &l->slots[slot];
    uint64_t present = s->markers, passing = s->lives.has_markers ? JSLEDGER_SUBJECTS : 0;
    if (last < s->seen_last)
        jsledger_wrong(l, "S%u ends at %llu, and %llu was given to a message before", slot,
                       (unsigned long long)last, (unsigned long long)s->seen_last);
    for (uint32_t i = 0; i < l->entry_count; i++) {
        struct jsledger_entry *e = &l->entries[i];
        if (e->slot != slot || e->incarnation != s->incarnation) continue;
        present += e->is_present;
        if (e->is_present && must_be_gone(l, e)) wrong_entry(l, e, "it should be gone");
        if (e->is_present) continue;
        uint64_t end = jslives_earliest_ns(l, e);
        passing += end <= l->now_ns && !jslives_is_over(l, e, s->audit_ns);
        if (e->outcome == JSL_LOST) {
            l->never_found++;
            e->outcome = JSL_ABSENT;
        }
        if (e->outcome != JSL_STORED || e->is_gone) continue;
        if (!may_be_gone(l, e, last)) wrong_entry(l, e, "an acknowledged message is gone");
        bool is_over = end <= l->now_ns;
        l->expired += is_over;
        /* With markers one that is over may be back, too, until its marker takes its place. */
        e->is_evicted =
            (s->lives.has_markers || jslives_latest_ns(l, e) > l->now_ns) && is_beyond(l, e, last);
        l->evicted += e->is_evicted && !is_over && s->lives.is_on;
        e->is_gone = true;
        set_gone(l, e);
    }
    /* Some may have gone between the answer and the reading. */
    if (present > messages || messages - present > passing)
        jsledger_wrong(l, "S%u says that it has %llu messages, and shows %llu", slot,
                       (unsigned long long)messages, (unsigned long long)present);
}
