/* At rest the index says what the clients asked for: each shard's route of a subject names every
 * shard that has a live subscription to it. */
#include <string.h>
#include "tests/sim/workload.h"

static uint32_t shard_of(const struct server *s, const struct net_link *l)
{
    for (uint32_t i = 0; i < s->shard_count; i++)
        if (l->driver == &s->shards[i].driver) return i;
    return UINT32_MAX;
}

static bool is_named(struct server *s, uint32_t viewer, uint32_t home, uint32_t account,
                     const char *subject)
{
    struct server_shard *x = &s->shards[viewer];
    const struct shard_account *a = x->shard->accounts[account];
    struct route *r;
    bool is_found = false;
    if (a == NULL) return true;
    interest_online(s->interest, viewer);
    if (interest_resolve(s->interest, a->trie, viewer, &x->mem.mem, bytes_from_text(subject), &r) ==
        ERR_OK) {
        is_found = viewer == home ? r->plain_count > 0 : (r->remote_plain >> home & 1) != 0;
        route_free(&x->mem.mem, r);
    }
    interest_offline(s->interest, viewer);
    return is_found;
}

void check_index(struct server *s, struct ledger *l, struct peer *const *peers)
{
    for (uint32_t i = 0; i < l->sub_count; i++) {
        const struct ledger_sub *sub = l->subs[i];
        const struct peer *p = peers[sub->peer];
        if (sub->queue >= 0 || sub->is_denied || sub->unsub_sent_ns != LEDGER_NEVER ||
            sub->max > 0 || sub->acked_ns == LEDGER_NEVER || p->is_over || p->is_leaving ||
            sub->filter == LEDGER_FILTER_INBOX || p->record->user == USER_NARROWED)
            continue;
        uint32_t home = shard_of(s, p->link);
        const struct shard *owner = home == UINT32_MAX ? NULL : s->shards[home].shard;
        if (owner == NULL || owner->clients[p->link->slot] == NULL) continue;
        uint32_t account = owner->clients[p->link->slot]->account->number;
        for (uint8_t subject = 0; subject < LEDGER_SUBJECTS; subject++) {
            struct ledger_pub probe = {.subject = subject};
            if (!ledger_matches(sub, &probe)) continue;
            for (uint32_t viewer = 0; viewer < s->shard_count; viewer++)
                if (!is_named(s, viewer, home, account, ledger_subject(subject)))
                    ledger_fail(l, "R2",
                                "shard %u's route of %s does not name shard %u, where sub %u is",
                                viewer, ledger_subject(subject), home, i);
        }
    }
}
