/* R3: groups of one name over all filters that match are one; each gets a message at most once,
 * and once while an able member exists. */
#include "tests/sim/ledger.h"

enum member { NONE, MAYBE, SURELY };

/* Could this member take p (and perhaps die with it), or surely? */
static enum member member_of(const struct ledger *l, const struct ledger_sub *s,
                             const struct ledger_pub *p, uint32_t id)
{
    const struct ledger_peer *peer = &l->peers[s->peer];
    if (s->is_denied || !ledger_matches(s, p)) return NONE;
    if (!ledger_may_receive(peer->user, p->subject)) return NONE;
    if (p->is_no_echo && s->peer == p->peer) return NONE;
    if (peer->closed_ns != LEDGER_NEVER) return peer->gone_ns < p->sent_ns ? NONE : MAYBE;
    if (s->unsub_acked_ns < p->sent_ns) return NONE;
    bool is_before = s->acked_ns < p->sent_ns || (s->peer == p->peer && s->first_pub <= id);
    if (!is_before || s->unsub_sent_ns != LEDGER_NEVER) return MAYBE;
    if (ledger_is_narrowed(peer, p->subject) || s->max > 0) return MAYBE;
    return SURELY;
}

void check_queue(struct ledger *l)
{
    uint64_t missing = 0;
    uint32_t first_id = 0, first_queue = 0;
    for (uint32_t id = 0; id < l->pub_count; id++) {
        const struct ledger_pub *p = &l->pubs[id];
        for (uint32_t q = 0; q < LEDGER_QUEUES; q++) {
            if (p->got_group[q] > 1)
                ledger_fail(l, "R3", "%08x went to %u members of group %u", id, p->got_group[q], q);
            if (p->got_group[q] > 0 || p->is_denied || p->acked_ns == LEDGER_NEVER) continue;
            bool is_sure = false, is_swallowed = false;
            for (uint32_t i = 0; i < l->sub_count; i++) {
                const struct ledger_sub *s = l->subs[i];
                if (s->queue != (int8_t)q || l->peers[s->peer].account != p->account) continue;
                enum member m = member_of(l, s, p, id);
                if (m == SURELY) is_sure = true;
                /* It may lie in the output of a client that went away. */
                if (m == MAYBE && l->peers[s->peer].closed_ns != LEDGER_NEVER) is_swallowed = true;
            }
            if (!is_sure || is_swallowed) continue;
            if (missing++ == 0) {
                first_id = id;
                first_queue = q;
            }
        }
    }
    if (missing > l->dropped_max)
        ledger_fail(l, "R3", "%llu messages reached no member: %08x of peer %u, group %u",
                    (unsigned long long)missing, first_id, l->pubs[first_id].peer, first_queue);
}
