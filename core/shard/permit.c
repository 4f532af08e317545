#include "core/shard/permit.h"
#include "core/base/must.h"
#include "core/shard/internal.h"
#include "core/shard/mail.h"

static bool grow_conns(struct shard *s, uint32_t account)
{
    if (account < s->permits.account_capacity) return true;
    uint32_t capacity = s->permits.account_capacity == 0 ? 16 : s->permits.account_capacity;
    while (capacity <= account) capacity *= 2;
    uint32_t *grown =
        mem_resize(s->mem, MEM_CONNECTION, s->permits.account_conns,
                   s->permits.account_capacity * sizeof *grown, capacity * sizeof *grown);
    if (grown == NULL) return false;
    memset(grown + s->permits.account_capacity, 0,
           (capacity - s->permits.account_capacity) * sizeof *grown);
    s->permits.account_conns = grown;
    s->permits.account_capacity = capacity;
    return true;
}

/* Shard 0 alone counts, so the limit holds exactly over all shards. */
static bool grant(struct shard *s, uint32_t account)
{
    must(s->index == 0);
    if (!grow_conns(s, account)) return false;
    struct shard_account *a = session_account(s, account);
    int64_t limit = a == NULL || a->conf == NULL ? -1 : a->conf->limits.max_connections;
    if (limit >= 0 && (int64_t)s->permits.account_conns[account] >= limit) return false;
    s->permits.account_conns[account]++;
    return true;
}

enum permit permit_ask(struct shard *s, struct client *c, uint32_t account)
{
    if (s->index == 0) return grant(s, account) ? PERMIT_GRANTED : PERMIT_REFUSED;
    c->ticket = ++s->last_ticket;
    struct mail_permit body = {.conn = c->id.bits, .ticket = c->ticket, .account = account};
    return mail_post(s, 0, MAIL_PERMIT_ASK, &body, sizeof body) ? PERMIT_ASKED : PERMIT_REFUSED;
}

void permit_step(struct shard *s)
{
    for (uint32_t i = 0; s->permits.owed > 0 && i < s->account_count; i++)
        while (s->accounts[i] != NULL && s->accounts[i]->permits_owed > 0) {
            struct mail_permit body = {.account = i};
            if (!mail_post(s, 0, MAIL_PERMIT_FREE, &body, sizeof body)) return;
            s->accounts[i]->permits_owed--;
            s->permits.owed--;
        }
}

void permit_free(struct shard *s, uint32_t account)
{
    struct mail_permit body = {.account = account};
    if (s->index != 0) {
        /* A fan-out has promised the room in the ring to its message (M2). */
        if (!s->is_fanning_out && mail_post(s, 0, MAIL_PERMIT_FREE, &body, sizeof body)) return;
        if (account >= s->account_count || s->accounts[account] == NULL) {
            /* A permit that came by this mail, for an account this shard does not have. */
            mail_post_owed(s, 0, MAIL_PERMIT_FREE, &body, sizeof body);
            return;
        }
        s->accounts[account]->permits_owed++;
        s->permits.owed++;
        return;
    }
    must(account < s->permits.account_capacity && s->permits.account_conns[account] > 0);
    s->permits.account_conns[account]--;
}

void permit_came(struct shard *s, const struct mail_permit *p)
{
    struct client *c = shard_client(s, (struct conn_id){p->conn});
    bool is_current = c != NULL && c->state == CLIENT_CHECKING && c->ticket == p->ticket;
#ifdef MILLRACE_BREAK_PERMIT_STALE
    is_current = c != NULL && c->state == CLIENT_CHECKING;
#endif
    if (is_current)
        entry_permit(s, c, p->is_granted);
    else if (p->is_granted)
        permit_free(s, p->account);
}

void permit_asked(struct shard *s, uint32_t sender, const struct mail_permit *asked)
{
    struct mail_permit body = *asked;
    body.is_granted = grant(s, body.account);
    mail_post_owed(s, sender, MAIL_PERMIT, &body, sizeof body);
}

void permit_close(struct shard *s)
{
    mem_free(s->mem, MEM_CONNECTION, s->permits.account_conns,
             s->permits.account_capacity * sizeof *s->permits.account_conns);
}
