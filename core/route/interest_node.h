/* What the interest index is made of. Private to core/route/interest*.
 *
 *   node "foo" --branch--> literals: table { "bar" -> node }   star -> node "*"   rest -> node ">"
 *                          groups:   table { "workers" -> node of that queue group }
 *
 * A node is one token of a filter, or one queue group of the filter that ends at its parent.
 * Nodes and branches live in the arena of their account and are named by 32-bit references, so
 * that a slot of a child table holds a reference and 32 bits of hash in one atomic word.
 *
 * A node never moves while anything hangs on it. Parent, kind and token never change; content and
 * branch change under the account's lock by one release store each, which pairs with the acquire
 * load of readers. */
#ifndef CORE_ROUTE_INTEREST_NODE_H
#define CORE_ROUTE_INTEREST_NODE_H
#include <stdatomic.h>
#include "core/base/bytes.h"

enum interest_kind {
    INTEREST_LITERAL,
    INTEREST_STAR,
    INTEREST_REST,
    INTEREST_GROUP,
};

enum {
    INTEREST_TOKEN_BITS = 14, /* kind_len: the kind above, the length of the token below */
    INTEREST_SHARD_BITS = 6,
    INTEREST_COUNT_BITS = 25,
    INTEREST_NEAR_COUNT_MAX = (1 << INTEREST_COUNT_BITS) - 1,
};

struct interest_node {
    _Atomic uint64_t content; /* who subscribed exactly here, see below */
    uint32_t parent;          /* 0 in the root; links retired nodes */
    _Atomic uint32_t branch;  /* 0: nothing below */
    uint16_t kind_len;
    char token[];
};

struct interest_branch {
    _Atomic uintptr_t literals; /* interest_table: 0 when empty */
    _Atomic uintptr_t groups;
    _Atomic uint32_t star, rest; /* nodes, 0 none */
    uint32_t link;               /* of retired branches */
};

/* Head of everything that readers may follow by pointer; comes from the memory port. */
struct interest_block {
    struct interest_block *link; /* of retired blocks */
    uint32_t bytes;              /* of the allocation */
};

/* The content of a node is one word:
 *   0                          nobody
 *   bit 0 set ("near")         all subscriptions are of one shard: shard (6 bits), count (25),
 *                              index of the first sub (32); a node of one sub costs nothing more
 *   otherwise                  pointer to struct interest_lists
 * The list itself goes through the subs and is followed by its own shard only. */
struct interest_lists {
    struct interest_block block;
    _Atomic uint64_t marks; /* bit s: of[s].count > 0 */
    struct {
        _Atomic uint32_t count;
        uint32_t first; /* read and written by shard s alone, once the lists are published */
    } of[]; /* [shard_count] */
};

static inline uint64_t interest_near(uint32_t shard, uint32_t count, uint32_t first)
{
    return 1 | (uint64_t)shard << 1 | (uint64_t)count << (1 + INTEREST_SHARD_BITS) |
           (uint64_t)first << 32;
}

static inline bool interest_is_near(uint64_t content)
{
    return (content & 1) != 0;
}

static inline uint32_t interest_near_shard(uint64_t content)
{
    return (uint32_t)(content >> 1) & ((1u << INTEREST_SHARD_BITS) - 1);
}

static inline uint32_t interest_near_count(uint64_t content)
{
    return (uint32_t)content >> (1 + INTEREST_SHARD_BITS);
}

static inline uint32_t interest_near_first(uint64_t content)
{
    return (uint32_t)(content >> 32);
}

static inline struct interest_lists *interest_far(uint64_t content)
{
    return (struct interest_lists *)(uintptr_t)content;
}

static inline enum interest_kind interest_kind_of(const struct interest_node *n)
{
    return (enum interest_kind)(n->kind_len >> INTEREST_TOKEN_BITS);
}

static inline struct bytes interest_token_of(const struct interest_node *n)
{
    return bytes_of(n->token, n->kind_len & ((1u << INTEREST_TOKEN_BITS) - 1));
}

#endif
