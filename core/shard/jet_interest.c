#include "core/shard/jet_interest.h"
#include "core/base/must.h"
#include "core/shard/internal.h"
#include "core/shard/mail.h"

enum { INTEREST_SPILL_MAX = 65536 }; /* more changes than that are told as one */

/* Many at once become one word that anything may have changed; so does what finds no memory. */
static void owe_interest(struct shard *s, uint32_t target, uint32_t account)
{
    struct shard_account *a = session_account(s, account);
    if (a == NULL || (a->interest_owed & 1ull << target) != 0) return;
    a->interest_owed |= 1ull << target;
    s->interest_owed++;
}

static bool post_interest(struct shard *s, uint32_t target, uint32_t account, struct bytes filter)
{
    char body[sizeof account + INTEREST_FILTER_BYTES_MAX + 1];
    must(filter.len <= INTEREST_FILTER_BYTES_MAX);
    memcpy(body, &account, sizeof account);
    if (filter.len > 0) memcpy(body + sizeof account, filter.data, filter.len);
    body[sizeof account + filter.len] = 0;
    return mail_post(s, target, MAIL_INTEREST, body, (uint32_t)(sizeof account + filter.len + 1));
}

void jet_interest_tell(struct shard *s, uint64_t shards, uint32_t account, struct bytes filter)
{
    if (s->is_closing) return; /* there is no mail any more */
    for (uint64_t left = shards & ~(1ull << s->index); left != 0; left &= left - 1) {
        uint32_t target = (uint32_t)__builtin_ctzll(left);
        if (mail_waiting_bytes(s, target) > INTEREST_SPILL_MAX ||
            !post_interest(s, target, account, filter))
            owe_interest(s, target, account);
    }
}

void jet_interest_step(struct shard *s)
{
    for (uint32_t i = 0; s->interest_owed > 0 && i < s->account_count; i++) {
        struct shard_account *a = s->accounts[i];
        for (uint64_t left = a == NULL ? 0 : a->interest_owed; left != 0; left &= left - 1) {
            uint32_t target = (uint32_t)__builtin_ctzll(left);
            if (!mail_is_clear(s, target) || !post_interest(s, target, i, bytes_of(NULL, 0)))
                continue;
            a->interest_owed &= ~(1ull << target);
            s->interest_owed--;
        }
    }
}

void jet_interest_came(struct shard *s, const char *body, uint32_t bytes)
{
    uint32_t account;
    memcpy(&account, body, sizeof account);
    struct bytes filter = bytes_of(body + sizeof account, bytes - sizeof account);
    /* A zero ends it, since records are rounded up. */
    filter.len = bytes_find(filter, 0);
    if (s->jet != NULL) jet_consumer_interest(s, account, filter);
}
