/* A subscription: one SUB of one connection, known to its own shard only.
 *
 * Subs live in a pool of their shard and have a 32-bit index (0 is none), so that the lists in
 * the interest index and in the sid table of a connection cost four bytes a link. A sub belongs
 * to core/client (allocation, sid, counters) and, while inserted, to one list of the interest
 * index (place, next, prev). Goal: index, sub and sid table together cost at most 120 bytes per
 * subscription beyond the subject's own bytes. */
#ifndef CORE_ROUTE_SUB_H
#define CORE_ROUTE_SUB_H
#include "core/base/bytes.h"
#include "core/base/mem.h"

struct client; /* core/client; the index never looks inside */

enum {
    SUB_SID_INLINE_MAX = 10,
    SUB_SID_BYTES_MAX = 4096, /* a sid is part of a control line */
};

struct sub {
    struct client *owner;
    uint64_t delivered;  /* messages handed to the owner's output so far */
    uint64_t max;        /* auto-unsubscribe when delivered reaches it; 0 none */
    uint32_t place;      /* of route/interest: filter node or queue group; 0 while not inserted */
    uint32_t next, prev; /* of route/interest: list of this shard at the same filter and group */
    uint32_t sid_next;   /* of core/client: chain in the owner's sid table */
    uint32_t index;      /* its own; never changes */
    uint8_t flags;       /* of core/client */
    uint8_t sid_len;     /* above SUB_SID_INLINE_MAX the bytes are behind sid.far: see sub_sid */
    union {
        char near[SUB_SID_INLINE_MAX];
        char *far __attribute__((packed, aligned(2)));
    } sid;
};

struct sub_pool; /* of one shard */

NODISCARD enum err sub_pool_open(struct mem *mem, struct sub_pool **out);
/* Every sub must have been released. */
void sub_pool_close(struct sub_pool *p);
/* A sub with sid copied, owner and index set, and everything else zero. ERR_MEMORY: nothing
 * changed. sid.len <= SUB_SID_BYTES_MAX. */
NODISCARD enum err sub_acquire(struct sub_pool *p, struct client *owner, struct bytes sid,
                               uint32_t *index);
/* place must be 0: interest_remove came first. The sub reads as zeroes (no owner) until the pool is
 * trimmed or the index is used again: a route in use may still name it. */
void sub_release(struct sub_pool *p, uint32_t index);
/* Gives memory without live subs back. interest_quiesce calls it: no route is in use then. */
void sub_pool_trim(struct sub_pool *p);
/* index is live, or was released since the last trim. The address stays until then. */
struct sub *sub_at(const struct sub_pool *p, uint32_t index);
uint32_t sub_index(const struct sub_pool *p, const struct sub *s);
uint32_t sub_pool_count(const struct sub_pool *p);
struct bytes sub_sid(const struct sub *s);

#endif
