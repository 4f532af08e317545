/* Every publish against every subscription: what had to arrive did, once; nothing else did.
 * R2: a subscription answered before the publish was sent sees it. R5: nothing is lost. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"
#include "tests/sim/ledger.h"

static bool is_own_silence(const struct ledger_sub *s, const struct ledger_pub *p)
{
    return p->is_no_echo && s->peer == p->peer;
}

/* Surely subscribed during the whole of p, and surely served. */
static bool had_to_arrive(const struct ledger *l, const struct ledger_sub *s,
                          const struct ledger_pub *p, uint32_t id)
{
    const struct ledger_peer *peer = &l->peers[s->peer];
    if (s->is_denied || p->is_denied || p->acked_ns == LEDGER_NEVER) return false;
    if (peer->closed_ns != LEDGER_NEVER) return false;
    if (ledger_is_narrowed(peer, p->subject)) return false;
    bool is_before = s->acked_ns < p->sent_ns || (s->peer == p->peer && s->first_pub <= id);
    if (!is_before) return false;
    if (s->peer == p->peer) {
        if (s->unsub_sent_ns != LEDGER_NEVER && s->unsub_sent_ns <= p->sent_ns) return false;
        if (s->unsub_sent_ns < p->acked_ns) return false;
    } else if (s->unsub_sent_ns <= p->acked_ns) {
        return false;
    }
    if (s->max > 0 && s->got >= s->max) return false;
    return ledger_may_receive(peer->user, p->subject) && !is_own_silence(s, p) &&
           ledger_matches(s, p);
}

static bool could_arrive(const struct ledger *l, const struct ledger_sub *s,
                         const struct ledger_pub *p)
{
    const struct ledger_peer *peer = &l->peers[s->peer];
    if (s->is_denied || p->is_denied || peer->account != p->account) return false;
    if (s->unsub_acked_ns != LEDGER_NEVER && p->sent_ns > s->unsub_acked_ns) return false;
    /* A flush of the publisher means delivered: later subscriptions see nothing of it. Queue
     * forwards are the exception. */
    if (s->queue < 0 && p->acked_ns < s->sent_ns) return false;
    return ledger_may_receive(peer->user, p->subject) && !is_own_silence(s, p) &&
           ledger_matches(s, p);
}

void check_delivery(struct ledger *l)
{
    uint32_t *seen = calloc(l->pub_count + 1, sizeof *seen);
    uint64_t missing = 0;
    char first[256] = "";
    must(seen != NULL);
    for (uint32_t i = 0; i < l->sub_count; i++) {
        const struct ledger_sub *s = l->subs[i];
        for (uint32_t k = 0; k < s->got; k++) {
            uint32_t id = s->ids[k];
            if (seen[id] == i + 1)
                ledger_fail(l, "R5", "sub %u (peer %u sid %u) got %08x twice", i, s->peer, s->sid,
                            id);
            seen[id] = i + 1;
            if (!could_arrive(l, s, &l->pubs[id]))
                ledger_fail(l, "R2",
                            "sub %u (peer %u sid %u filter %u queue %d) must not get %08x of peer "
                            "%u subject %u",
                            i, s->peer, s->sid, s->filter, s->queue, id, l->pubs[id].peer,
                            l->pubs[id].subject);
        }
        if (s->queue >= 0) continue;
        uint8_t account = l->peers[s->peer].account;
        for (uint32_t id = 0; id < l->pub_count; id++) {
            const struct ledger_pub *p = &l->pubs[id];
            if (p->account != account || seen[id] == i + 1) continue;
            if (!had_to_arrive(l, s, p, id)) continue;
            if (missing++ == 0)
                snprintf(first, sizeof first,
                         "sub %u (peer %u sid %u filter %u) lacks %08x of peer %u subject %u, "
                         "%u bytes, sent %.6f acked %.6f, sub acked %.6f",
                         i, s->peer, s->sid, s->filter, id, p->peer, p->subject, p->bytes,
                         (double)p->sent_ns / 1e9, (double)p->acked_ns / 1e9,
                         (double)s->acked_ns / 1e9);
        }
    }
    if (missing > l->dropped_max)
        ledger_fail(l, "R2/R5", "%llu deliveries are missing (%llu may be): %s",
                    (unsigned long long)missing, (unsigned long long)l->dropped_max, first);
    free(seen);
}
