/* Resolved routes of one shard by (account, subject): open addressing, a bounded number of entries,
 * second-chance eviction. An entry is valid while the generation of its bucket is the one that it
 * was built under. A route enters at its second miss: unique reply subjects do not flush it.
 * Subjects that differ only where nothing in the index looks (the numbers behind an inbox, those of
 * an acknowledgement) share one entry, by what they have in common.
 * Rule R4: a hit takes no lock and writes no shared line. Used by the shard's own thread only. */
#ifndef CORE_ROUTE_ROUTE_CACHE_H
#define CORE_ROUTE_ROUTE_CACHE_H
#include "core/route/interest.h"

struct route_cache;

struct route_cache_counts {
    uint64_t hits, misses, evictions, stale, entries, bytes;
};

/* entries_max: a power of two (default 65536). bytes_max bounds the routes kept. */
NODISCARD enum err route_cache_open(struct mem *mem, struct interest *x, uint32_t shard,
                                    uint32_t entries_max, uint64_t bytes_max,
                                    struct route_cache **out);
void route_cache_close(struct route_cache *c);

/* The route of subject now. It stays valid until the next call on this cache that may evict or
 * until the caller changes the index, whichever is first: use it at once, within one message.
 * ERR_MEMORY: the caller parks the publisher. */
NODISCARD enum err route_cache_find(struct route_cache *c, uint32_t account,
                                    struct interest_account *a,
                                    struct bytes subject, const struct route **out);
/* Hint: the subject of a message to come soon. */
void route_cache_prefetch(const struct route_cache *c, uint32_t account, struct bytes subject);
/* Drops up to bytes of cached routes (memory pressure); returns what it freed. */
uint64_t route_cache_shrink(struct route_cache *c, uint64_t bytes);
void route_cache_count(const struct route_cache *c, struct route_cache_counts *out);

#endif
