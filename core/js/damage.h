/* Damage of a log that a replay has passed over, in the order of the log: what may a stream have
 * lost to it? There is none in a store that is whole, and nothing of it is kept beyond the replay.
 *
 * Everything that is told has a number, from 1 on. A stream keeps the number of the newest one that
 * lies before one of its sequences, or before its checkpoint: that one and all before it took
 * nothing behind these. Owned by the js of that log; pure. */
#ifndef CORE_JS_DAMAGE_H
#define CORE_JS_DAMAGE_H
#include "core/base/mem.h"
#include "core/base/store.h"

enum { DAMAGE_RANGES_MAX = 4096 }; /* beyond it several are one */

struct damage_range {
    struct store_point end; /* nothing in it lies behind this */
    uint32_t number;        /* of the newest of those that it is made of */
    bool is_wide;           /* it may begin in an earlier group */
    bool is_hinted;         /* it seems to be known whose its only record was */
    uint64_t stream;        /* then: this stream's, and of a sequence; 0: of none */
    uint64_t seq;           /* or of whom this sequence is missing */
    uint64_t records;       /* at most so many were in it */
    uint64_t bytes;
};

struct damage {
    struct mem *mem;
    uint32_t count;  /* that were told, of the log itself */
    uint64_t packed; /* messages of packs, at most; UINT64_MAX: not known */
    uint32_t older_count, older_room;
    struct damage_range newest, *older; /* ascending; without memory several are one, too */
};

/* A stream asks, of which these sequences may be missing. */
struct damage_asker {
    uint64_t stream, first, last;
};

/* Of what a stream has not passed. */
struct damage_sum {
    uint64_t records, bytes;
    uint64_t others; /* of the records: these seem to be none of the missing ones */
};

void damage_init(struct damage *d, struct mem *mem);
void damage_deinit(struct damage *d);
void damage_add(struct damage *d, const struct store_lost *lost);
/* The newest number up to which nothing lies behind p. */
uint32_t damage_before(const struct damage *d, struct store_point p);
/* Of the stream's messages up to p no more can have been in all that was told. */
uint64_t damage_most(const struct damage *d, struct store_point p, const struct damage_asker *a);
/* All behind the number `passed`. */
void damage_since(const struct damage *d, uint32_t passed, const struct damage_asker *a,
                  struct damage_sum *sum);

#endif
