/* Messages that ended and stay until a delete marker takes their place, in the order in which they
 * ended: a queue of (sequence, deadline), 16 bytes each. One is in it until it is gone, asked for
 * or not, since a marker may fail; twice, if it ended by age and by its own life. Wall clock. Owned
 * by the stream's shard. */
#ifndef CORE_JS_DUE_H
#define CORE_JS_DUE_H
#include "core/js/msg_ttl.h"

struct due {
    struct mem *mem;
    struct msg_ttl_entry *entries; /* deadline_ns: when its own life ended; 0: it ended by age */
    uint32_t first, at, end, room; /* those in [first, at) were asked for */
};

/* Empty, no memory yet. */
void due_init(struct due *d, struct mem *mem);
/* Gives all memory back; empty and usable. */
void due_clear(struct due *d);
/* Room for one more. ERR_MEMORY, ERR_FULL (2^30 entries): nothing is lost. */
NODISCARD enum err due_reserve(struct due *d);
/* Behind due_reserve. */
void due_add(struct due *d, uint64_t seq, int64_t deadline_ns);
/* The next one to be asked for, gone or not; 0: all were, or so many have gone that the rest is for
 * another call. */
uint64_t due_next(struct due *d, const struct msgs *msgs);
/* That one was not asked for: it is the next one again. */
static inline void due_put_back(struct due *d)
{
    if (d->at > d->first) d->at--;
}
/* Nothing that was asked for is in flight: when all were, those that are there are asked for
 * again. */
static inline void due_again(struct due *d)
{
    if (d->at == d->end) d->at = d->first;
}
static inline uint32_t due_count(const struct due *d)
{
    return d->end - d->first;
}

#endif
