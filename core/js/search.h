/* Which message of a stream a filter selects: the next one at or behind a sequence, or the last
 * one. By pieces, so that no step is long however large the stream is; what one piece has learnt
 * serves the next, and the next search. The unit of a piece is the sieve's.
 *
 * Owned by whoever reads; pure. */
#ifndef CORE_JS_SEARCH_H
#define CORE_JS_SEARCH_H
#include "core/js/sieve.h"

struct search {
    struct mem *mem;
    const struct msgs *msgs;
    const struct subject_index *subjects;
    struct bytes filter; /* borrowed */
    struct sieve sieve;
    /* The search for the last one. */
    bool is_walking;                /* it was not near */
    bool is_walked;                 /* all that is left is cut_node */
    struct subject_index_rest rest; /* of the walk */
    uint64_t last;                  /* found so far */
    uint32_t cut_node;              /* its messages are looked through below cut_seq; 0: none */
    uint64_t cut_seq;
};

/* Takes no memory yet. filter: empty or valid. */
void search_init(struct search *q, struct mem *mem, const struct msgs *msgs,
                 const struct subject_index *subjects, struct bytes filter);
void search_deinit(struct search *q);
/* seq > 0. 0: there is none, or *left is used up and *resume (not 0) is where to go on. */
uint64_t search_next(struct search *q, uint64_t seq, uint32_t *left, uint64_t *resume);
/* True: *left is used up, call again. False: *seq is the last one (0: there is none) as long as
 * nothing was stored in between. ERR_MEMORY in *e. */
NODISCARD bool search_last(struct search *q, uint32_t *left, uint64_t *seq, enum err *e);
/* From the beginning: what it found has gone. */
void search_last_again(struct search *q);

#endif
