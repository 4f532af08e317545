/* A walk over the subjects with messages that match a filter, in byte order:
 *
 *   subject_index_walk_begin(&w, x, filter, after);
 *   while ((node = subject_index_walk_next(&w)) != MSGS_NODE_NONE) ...
 *
 * Branches whose common bytes cannot match are not entered. The index must not change during a
 * walk. To go on after a change (the next page of STREAM.INFO, the next slice of a purge) begin
 * again behind a copy of the last subject: that costs O(depth). */
#ifndef CORE_JS_SUBJECT_INDEX_WALK_H
#define CORE_JS_SUBJECT_INDEX_WALK_H
#include "core/js/node_set.h"
#include "core/js/subject_index.h"

/* Deeper paths (subjects that are prefixes of each other, dozens of times) lose their upper frames
 * and find them again from the last subject. */
enum { SUBJECT_INDEX_WALK_FRAMES = 48 };

/* How far the filter is through after some bytes of a subject. */
struct subject_index_match {
    uint32_t filter_at; /* offset of the filter byte that is wanted next */
    uint8_t mode;       /* enum in subject_index_walk.c */
};

struct subject_index_frame {
    struct subject_index_match match; /* after the bytes that the branch's keys share */
    uint32_t branch;
    uint32_t child; /* the next one to look at */
};

struct subject_index_walk {
    const struct subject_index *index;
    struct bytes filter;                                          /* borrowed */
    uint32_t tokens;                                              /* of the filter */
    struct subject_index_frame frames[SUBJECT_INDEX_WALK_FRAMES]; /* a ring of the deepest */
    uint32_t depth;                                               /* frames of the path */
    uint32_t lost;    /* so many of them, from the root on, have left the ring */
    uint32_t pending; /* a leaf that is the next one, or MSGS_NODE_NONE */
    uint32_t left;    /* branches and leaves it may still look at: UINT32_MAX at first */
    bool has_claimed; /* with subjects that have no message yet; false at first */
};

/* filter is valid. after: the empty slice, or the subject (there or not) behind which to begin. */
void subject_index_walk_begin(struct subject_index_walk *w, const struct subject_index *x,
                              struct bytes filter, struct bytes after);
/* MSGS_NODE_NONE at the end, or when w->left is 0. */
uint32_t subject_index_walk_next(struct subject_index_walk *w);

/* The walk stopped since left is 0: begin again behind this. Valid until the index changes. */
struct bytes subject_index_walk_position(const struct subject_index_walk *w);

/* A walk that goes by pieces, however the index changes between them: where the next one begins.
 *
 *   subject_index_rest_init(&rest, mem);
 *   subject_index_rest_begin(&rest, &w, x, filter); w.left = steps; ... next ...
 *   subject_index_rest_end(&rest, &w): is there more? Then begin again, in another turn. */
struct subject_index_rest {
    struct mem *mem;
    char *text; /* a copy of the position; NULL at first */
    uint32_t len, room;
};

void subject_index_rest_init(struct subject_index_rest *r, struct mem *mem);
void subject_index_rest_deinit(struct subject_index_rest *r);
void subject_index_rest_begin(const struct subject_index_rest *r, struct subject_index_walk *w,
                              const struct subject_index *x, struct bytes filter);
/* False: it is through, and the next one begins at the first subject. ERR_MEMORY in *e: the next
 * one begins where this one did. */
NODISCARD bool subject_index_rest_end(struct subject_index_rest *r,
                                      const struct subject_index_walk *w, enum err *e);
/* Adds a piece of subject_index_total to *total, of at most *left steps, which it takes off. As
 * subject_index_rest_end. */
NODISCARD bool subject_index_rest_total(struct subject_index_rest *r, const struct subject_index *x,
                                        struct bytes filter, uint32_t *left,
                                        struct subject_total *total, enum err *e);

/* Adds to the set the numbers of all subjects that the filter selects. The set has room for all
 * numbers of the index. Reads no leaf where a whole branch matches. */
void subject_index_walk_collect(const struct subject_index *x, struct bytes filter,
                                struct node_set *set);

#endif
