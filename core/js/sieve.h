/* Which messages of a stream some filters select, read in the order of sequences and a piece at a
 * time, so that no step is long however large the stream is.
 *
 * A subject's number has a verdict (two bits); a message of which that is known costs a nanosecond
 * or two. The first subjects are compared as they come; where more are met than SIEVE_COMPARE_MAX,
 * the index is walked once for all. Numbers that went from one subject to another in between make
 * the sieve forget what it knows. Without memory it compares every time.
 *
 * The unit of a piece is a message whose verdict is known. Owned by whoever reads; pure. */
#ifndef CORE_JS_SIEVE_H
#define CORE_JS_SIEVE_H
#include "core/js/subject_index_walk.h"

enum {
    SIEVE_COMPARE = 512, /* units, of a comparison: the subject is seldom in a cache */
    SIEVE_WALK = 128,    /* of a step in the index, and of one backwards */
    SIEVE_COMPARE_MAX = 2048,
    SIEVE_STEP = 1 << 19, /* a piece: half a millisecond to one */
};

struct sieve {
    struct mem *mem;
    const struct msgs *msgs;
    const struct subject_index *subjects;
    const struct bytes *filters; /* borrowed; valid */
    uint32_t filter_count;
    uint32_t renewals; /* of the index, when the verdicts were made */
    struct msgs_verdicts verdicts;
    /* While the index is asked for all subjects that are selected: a filter and a subject of it,
     * and the numbers that it knew when that began. */
    bool is_seeding, is_seeded, is_lazy;
    uint32_t seed_filter, seed_end;
    uint32_t compared;
    struct subject_index_rest seed_rest;
};

/* Takes no memory yet. */
void sieve_init(struct sieve *s, struct mem *mem, const struct msgs *msgs,
                const struct subject_index *subjects, const struct bytes *filters,
                uint32_t filter_count);
void sieve_deinit(struct sieve *s);
/* seq > 0. The first message in [seq, to] that is selected. 0: there is none, or *left is used up
 * and *resume is where to go on. */
uint64_t sieve_next(struct sieve *s, uint64_t seq, uint64_t to, uint32_t *left, uint64_t *resume);
/* The last message at or below seq that is selected. As sieve_next. */
uint64_t sieve_prev(struct sieve *s, uint64_t seq, uint32_t *left, uint64_t *resume);
/* Adds those in [seq, to] to *count. Returns where to go on when *left is used up; 0: done. */
uint64_t sieve_count(struct sieve *s, uint64_t seq, uint64_t to, uint32_t *left, uint64_t *count);

#endif
