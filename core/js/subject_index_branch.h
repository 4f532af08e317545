/* The inner form of core/js/subject_index, for its two source files alone: links, branches and how
 * to step through them. */
#ifndef CORE_JS_SUBJECT_INDEX_BRANCH_H
#define CORE_JS_SUBJECT_INDEX_BRANCH_H
#include <stdbool.h>
#include "core/base/must.h"
#include "core/js/subject_index.h"

/* A link is the number of a leaf, or the cell of a branch with the top bit set, or
 * MSGS_NODE_NONE: cells stay below 2^31 - 1. */
#define SUBJECT_INDEX_BRANCH_BIT UINT32_C(0x80000000)

enum { SUBJECT_INDEX_RUN_SHIFT = 10, SUBJECT_INDEX_RUN_NODES = 1 << SUBJECT_INDEX_RUN_SHIFT };

/* child_count bytes in ascending order and one link each follow: links[room], then bytes[room]. */
struct subject_index_branch {
    uint64_t msgs;
    uint32_t keys;
    uint32_t witness; /* a leaf below */
    uint32_t end;     /* the leaf whose subject has exactly depth bytes, or MSGS_NODE_NONE */
    uint16_t depth;
    uint16_t child_count; /* without end: 0 to 256 */
    uint16_t room;
    uint16_t tokens_min, tokens_max; /* bounds for the tokens of all keys below; removals leave
                                        them wider than need be */
    uint16_t padding;
    uint32_t links[];
};

/* How the key begins in its cell. */
struct subject_index_key {
    uint16_t len;
    char text[];
};

static inline bool subject_index_is_branch(uint32_t link)
{
    return link != MSGS_NODE_NONE && (link & SUBJECT_INDEX_BRANCH_BIT) != 0;
}

static inline struct subject_index_branch *subject_index_branch_at(const struct subject_index *x,
                                                                   uint32_t link)
{
    return cells_at(&x->cells, link & ~SUBJECT_INDEX_BRANCH_BIT);
}

static inline unsigned char *subject_index_bytes_of(struct subject_index_branch *b)
{
    return (unsigned char *)(b->links + b->room);
}

static inline struct subject_node *subject_index_record(const struct subject_index *x,
                                                        uint32_t node)
{
    return &x->runs[node >> SUBJECT_INDEX_RUN_SHIFT][node & (SUBJECT_INDEX_RUN_NODES - 1)];
}

static inline struct bytes subject_index_key_of(const struct subject_index *x, uint32_t node)
{
    const struct subject_index_key *key = cells_at(&x->cells, subject_index_record(x, node)->key);
    return bytes_of(key->text, key->len);
}

/* A leaf at or below link: its subject shows what all subjects there begin with. */
static inline uint32_t subject_index_leaf_of(const struct subject_index *x, uint32_t link)
{
    return subject_index_is_branch(link) ? subject_index_branch_at(x, link)->witness : link;
}

/* The first child whose byte is >= byte: 0 to child_count. */
static inline uint32_t subject_index_child_from(struct subject_index_branch *b, unsigned char byte)
{
    const unsigned char *bytes = subject_index_bytes_of(b);
    uint32_t low = 0, high = b->child_count;
    while (high - low > 8) {
        uint32_t middle = (low + high) / 2;
        if (bytes[middle] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    while (low < high && bytes[low] < byte) low++;
    return low;
}

/* Where a subject goes on below the branch: the link's place, NULL when there is none. */
static inline uint32_t *subject_index_step(struct subject_index_branch *b, struct bytes subject)
{
    if (subject.len < b->depth) return NULL;
    if (subject.len == b->depth) return b->end == MSGS_NODE_NONE ? NULL : &b->end;
    unsigned char byte = (unsigned char)subject.data[b->depth];
    uint32_t i = subject_index_child_from(b, byte);
    if (i == b->child_count || subject_index_bytes_of(b)[i] != byte) return NULL;
    return &b->links[i];
}

#endif
