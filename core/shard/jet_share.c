/* Used bytes over all shards: what streams of one shard hold counts against the limits of accounts
 * and of the server on the others. Each shard tells its sums where there is a limit, at the end of
 * the step that changed them; a publish is checked against one's own and what was told last, so all
 * shards together may go beyond a limit by what is published while such mail is on its way. */
#include "core/base/must.h"
#include "core/shard/jet.h"

enum { SHARES_STEP = 64 }; /* accounts looked at in a step */

struct jet_share_sum {
    uint64_t memory, storage;
};

/* Of an account, or JET_SHARE_OF_SERVER. */
struct jet_share {
    uint32_t account;
    struct jet_share_sum told;
    struct jet_share_sum of[]; /* [shard_count], as they told it */
};

static uint64_t key_of(uint32_t account)
{
    return hash_bytes(&account, sizeof account, 0);
}

static size_t bytes_of_share(const struct shard *s)
{
    return sizeof(struct jet_share) + s->shard_count * sizeof(struct jet_share_sum);
}

/* NULL: no memory. */
static struct jet_share *share_of(struct shard *s, uint32_t account)
{
    uint32_t at;
    for (struct jet_share *x = table_first(&s->jet_shares, key_of(account), &at); x != NULL;
         x = table_next(&s->jet_shares, key_of(account), &at))
        if (x->account == account) return x;
    struct jet_share *x = mem_alloc_zero(s->mem, MEM_JETSTREAM, bytes_of_share(s));
    if (x == NULL) return NULL;
    x->account = account;
    if (table_insert(&s->jet_shares, key_of(account), x) == ERR_OK) return x;
    mem_free(s->mem, MEM_JETSTREAM, x, bytes_of_share(s));
    return NULL;
}

static struct quota *quota_of(const struct jet *j, uint32_t account)
{
    return account == JET_SHARE_OF_SERVER ? &j->js->total : js_quota_of(j->js, account);
}

static struct jet_share_sum sum_here(const struct shard *s, uint32_t account)
{
    struct jet_share_sum sum = {0, 0};
    for (uint32_t i = 0; i < s->jet_count; i++) {
        const struct quota *q = quota_of(s->jets[i], account);
        if (q == NULL) continue;
        sum.memory += q->memory.used;
        sum.storage += q->storage.used;
    }
    return sum;
}

/* What the streams of one log may count on is less by what all others hold. */
static void apply(struct shard *s, const struct jet_share *x)
{
    struct jet_share_sum all = sum_here(s, x->account);
    for (uint32_t i = 0; i < s->shard_count; i++) {
        all.memory += x->of[i].memory;
        all.storage += x->of[i].storage;
    }
    for (uint32_t i = 0; i < s->jet_count; i++) {
        struct quota *q = quota_of(s->jets[i], x->account);
        if (q == NULL) continue;
        q->memory.others = all.memory - q->memory.used;
        q->storage.others = all.storage - q->storage.used;
    }
}

static bool may_tell(struct shard *s)
{
    for (uint32_t i = 0; i < s->shard_count; i++)
        if (!relay_is_clear(s, i)) return false;
    return true;
}

/* False: later. */
static bool look_at(struct shard *s, uint32_t account)
{
    struct jet_share *x = share_of(s, account);
    if (x == NULL) return false;
    struct jet_share_sum now = sum_here(s, account);
    if (s->jet_count > 1) apply(s, x);
    if (now.memory == x->told.memory && now.storage == x->told.storage) return true;
    if (!may_tell(s)) return false;
    for (uint32_t i = 0; i < s->shard_count; i++)
        if (i != s->index && !jet_mail_used(s, i, account, now.memory, now.storage)) return false;
    x->told = now;
    return true;
}

static bool is_limited(const struct quota *q)
{
    return q->memory.max >= 0 || q->storage.max >= 0;
}

void jet_share_look_again(struct shard *s)
{
    s->share.left = 0;
    for (uint32_t i = 0; i < s->jet_count; i++) s->share.left += s->jets[i]->js->quotas.count;
    s->share.is_due = s->config.log_total > 1;
}

void jet_share_step(struct shard *s)
{
    const struct js *first = s->jets[0]->js;
    if (s->config.log_total < 2) return;
    uint64_t changes = 0;
    for (uint32_t i = 0; i < s->jet_count; i++) {
        const struct quota *q = &s->jets[i]->js->total;
        changes += q->memory.changes + q->storage.changes;
    }
    if (changes != s->share.seen) {
        s->share.seen = changes;
        jet_share_look_again(s);
    }
    if (!s->share.is_due) return;
    if (is_limited(&first->total) && !look_at(s, JET_SHARE_OF_SERVER)) return;
    for (uint32_t n = 0; n < SHARES_STEP && s->share.left > 0; n++) {
        if (s->share.jet >= s->jet_count) s->share.jet = 0;
        const struct quota *q = table_each(&s->jets[s->share.jet]->js->quotas, &s->share.at);
        if (q == NULL) {
            s->share.jet++;
            s->share.at = 0;
            continue;
        }
        if (is_limited(q) && !look_at(s, q->account)) {
            s->share.at--; /* the same one again */
            return;
        }
        s->share.left--;
    }
    s->share.is_due = s->share.left > 0;
}

void jet_share_told(struct shard *s, uint32_t sender, uint32_t account, uint64_t memory,
                    uint64_t storage)
{
    must(sender < s->shard_count);
    struct jet_share *x = share_of(s, account);
    if (x == NULL) return; /* it is told again when it changes */
    x->of[sender] = (struct jet_share_sum){memory, storage};
    apply(s, x);
}

void jet_share_apply(struct shard *s, uint32_t account)
{
    struct jet_share *x = s->jet_shares.count == 0 ? NULL : share_of(s, account);
    if (x != NULL) apply(s, x);
}

void jet_share_close(struct shard *s)
{
    uint32_t at = 0;
    struct jet_share *x;
    while ((x = table_each(&s->jet_shares, &at)) != NULL)
        mem_free(s->mem, MEM_JETSTREAM, x, bytes_of_share(s));
    table_deinit(&s->jet_shares);
}
