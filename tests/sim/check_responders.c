/* R9: a request hears 503 exactly when nobody got it. */
#include "tests/sim/ledger.h"

/* 0: nobody can have taken it; 1: perhaps somebody did; 2: somebody surely did. */
static int takers(const struct ledger *l, const struct ledger_pub *p, uint32_t id)
{
    int most = 0;
    for (uint32_t i = 0; i < l->sub_count; i++) {
        const struct ledger_sub *s = l->subs[i];
        const struct ledger_peer *peer = &l->peers[s->peer];
        if (peer->account != p->account || s->is_denied || !ledger_matches(s, p)) continue;
        if (!ledger_may_receive(peer->user, p->subject)) continue;
        if (p->is_no_echo && s->peer == p->peer) continue;
        if (peer->closed_ns != LEDGER_NEVER && peer->gone_ns < p->sent_ns) continue;
        if (s->unsub_acked_ns < p->sent_ns || s->sent_ns > p->acked_ns) continue;
        if (s->max > 0 && s->max_acked_ns < p->sent_ns && s->got >= s->max && p->got == 0 &&
            s->queue < 0) {
            most = most > 1 ? most : 1;
            continue;
        }
        bool is_sure = (s->acked_ns < p->sent_ns || (s->peer == p->peer && s->first_pub <= id)) &&
                       s->unsub_sent_ns == LEDGER_NEVER && s->max == 0 &&
                       peer->closed_ns == LEDGER_NEVER && !ledger_is_narrowed(peer, p->subject);
        most = is_sure ? 2 : most > 1 ? most : 1;
    }
    return most;
}

void check_responders(struct ledger *l)
{
    uint64_t wrong = 0;
    for (uint32_t id = 0; id < l->pub_count; id++) {
        const struct ledger_pub *p = &l->pubs[id];
        if (!p->wants_503) {
            if (p->got_503 > 0) ledger_fail(l, "R9", "%08x did not ask for a 503", id);
            continue;
        }
        if (p->got_503 > 1) ledger_fail(l, "R9", "%08x heard 503 %u times", id, p->got_503);
        if (p->got_503 > 0 && p->got > 0)
            ledger_fail(l, "R9", "%08x heard 503 though %u got it", id, p->got);
        if (p->got > 0 || p->acked_ns == LEDGER_NEVER) continue;
        if (l->peers[p->peer].closed_ns != LEDGER_NEVER) continue;
        int most = takers(l, p, id);
        if (most == 0 && p->got_503 == 0 && wrong++ >= l->dropped_max)
            ledger_fail(l, "R9", "nobody got %08x of peer %u subject %u, and no 503 came", id,
                        p->peer, p->subject);
        if (most == 2 && p->got_503 > 0 && wrong++ >= l->dropped_max)
            ledger_fail(l, "R9", "%08x of peer %u heard 503 though somebody wants subject %u", id,
                        p->peer, p->subject);
    }
}
