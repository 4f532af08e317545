/* The index and its accounts as seen by the files of core/route/interest*, and by nobody else. */
#ifndef CORE_ROUTE_INTEREST_ACCOUNT_H
#define CORE_ROUTE_INTEREST_ACCOUNT_H
#include "core/base/table.h"
#include "core/route/interest_memory.h"
#include "core/route/subject.h"

enum {
    INTEREST_ACCOUNT_SHIFT = 10, /* accounts of a page */
    INTEREST_ACCOUNT_PAGES = 1024,
};

struct interest_account {
    uint32_t root; /* a node without content */
    uint64_t seed; /* as in struct interest */
    void *allocation;

    /* Of the writer that holds the lock. The counters are read by others too. */
    _Alignas(INTEREST_LINE) _Atomic uint32_t is_locked;
    struct interest_arena arena;
    _Atomic uint64_t subscriptions, inserts, removes, nodes;
    _Atomic uint64_t watchers; /* see interest_watch */

    /* Read at each publish, so on lines that only SUB and UNSUB write. The generation of a subject
     * is the sum of its bucket and all: both only grow, so the sum is the same only if both are. */
    _Alignas(INTEREST_LINE) _Atomic uint64_t all;
    _Alignas(INTEREST_LINE) _Atomic uint64_t buckets[INTEREST_BUCKETS];
};

struct interest {
    uint64_t seed;
    void *allocation;
    struct interest_memory memory;
    _Atomic uint32_t accounts_locked;
    struct interest_account *spare; /* made, but not yet of a number: under accounts_locked */
    _Atomic(_Atomic(struct interest_account *) *) accounts[INTEREST_ACCOUNT_PAGES];
};

/* The low half is the hash of child tables, the high half picks the bucket of a first token. */
static inline uint64_t interest_account_hash(uint64_t seed, struct bytes token)
{
    return hash_bytes(token.data, token.len, seed);
}

static inline uint32_t interest_account_bucket(uint64_t hash)
{
    return (uint32_t)(hash >> 32) & (INTEREST_BUCKETS - 1);
}

#endif
