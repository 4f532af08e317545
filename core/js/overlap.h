/* Which streams of an account have subjects in common with a filter, without asking every stream.
 *
 * A claim (a subject of a stream) is found by its literal tokens before the first wildcard. A
 * filter meets claims whose literal tokens begin its own, found token by token; and, when it ends
 * in a wildcard, claims with longer ones: a count per run of tokens says whether there are any, and
 * only then all claims are gone through. Claims with the same literal tokens at the front are told
 * apart by a literal last one (their tail), and by the first literal one between a wildcard and
 * that (their middle), so that thousands like `a.*.x`, `a.*.x.*` or `a.*.x.*.z` do not meet each
 * other.
 *
 * Owned by the shard; pure. */
#ifndef CORE_JS_OVERLAP_H
#define CORE_JS_OVERLAP_H
#include "core/base/bytes.h"
#include "core/base/list.h"
#include "core/base/table.h"

struct overlap_claim {
    uint32_t account;
    uint32_t filter_bytes, prefix_bytes;
    uint32_t runs;                                  /* of literal tokens that are counted */
    uint32_t tail_bytes;                            /* 0: none */
    uint32_t middle_at, middle_bytes, middle_token; /* bytes 0: none; the token's number, from 0 */
    const void *owner;
    struct list same_front, same_ends; /* a ring in tailed, one in middled */
    char filter[];
};

/* Does this claim count? */
typedef bool overlap_counts_fn(const void *context, const struct overlap_claim *c);

struct overlap {
    struct mem *mem;
    struct table claims;  /* by account, literal tokens, and tail or middle */
    struct table tailed;  /* rings of those with a tail, by account and literal tokens */
    struct table middled; /* rings of those with a middle, by account, literal tokens and tail */
    struct table
        longer; /* counts of claims that go on behind these tokens, or with a middle there */
    uint64_t seed;
};

void overlap_init(struct overlap *o, struct mem *mem, uint64_t seed);
/* No claim is left. */
void overlap_deinit(struct overlap *o);
/* ERR_MEMORY, ERR_FULL: nothing changed. */
NODISCARD enum err overlap_claim(struct overlap *o, uint32_t account, struct bytes filter,
                                 const void *owner, struct overlap_claim **claim);
void overlap_release(struct overlap *o, struct overlap_claim *claim);
/* Whether some owner but this one claims subjects that the filter matches. */
bool overlap_meets(const struct overlap *o, uint32_t account, struct bytes filter,
                   const void *owner);
/* The same of all claims but those that counts says no of. It is asked, perhaps twice, about each
 * one that may meet the filter, until one does. */
bool overlap_meets_any(const struct overlap *o, uint32_t account, struct bytes filter,
                       overlap_counts_fn *counts, const void *context);

/* A list of filters (valid or not) that are asked about each other: each is a claim of its item. */
struct overlap_list {
    struct overlap overlap;
    struct overlap_claim **claims;
    uint32_t count, room;
};

/* The items stay where they are until the list is closed. ERR_MEMORY: nothing is held. */
NODISCARD enum err overlap_list_open(struct overlap_list *l, struct mem *mem,
                                     const struct bytes *items, uint32_t count);
void overlap_list_close(struct overlap_list *l);
/* self: an item that does not count, or NULL. */
static inline bool overlap_list_meets(const struct overlap_list *l, struct bytes filter,
                                      const struct bytes *self)
{
    return overlap_meets(&l->overlap, 0, filter, self);
}
/* As overlap_meets_any of each item, at the price of one look at each claim: for many items that
 * have wildcards, for which that would go through all claims again and again. */
bool overlap_list_meets_claims(const struct overlap_list *l, const struct overlap *o,
                               uint32_t account, overlap_counts_fn *counts, const void *context);

#endif
