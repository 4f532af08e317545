/* Which subjects a stream holds: for each one its message count and its first and last sequence,
 * found by subject, by filter, or by a stable 32-bit node number (which core/js/msgs keeps per
 * message instead of the subject).
 *
 * A Patricia trie over the bytes of the subjects. A leaf is a record of 32 bytes in a dense array,
 * and its number is the node number; the whole subject lies beside it, so a number gives its
 * subject without a walk. A branch says at which byte (depth) the keys below it part, and holds
 * how many keys and messages lie below and one of its leaves as witness: the bytes that all keys
 * below have in common are read there.
 *
 *            branch depth 7, keys 3, msgs 9
 *            /  '1'                    \  '2'
 *    orders.1 (msgs 2)           branch depth 8, keys 2, msgs 7
 *                                 / end           \  '.'
 *                        orders.2 (msgs 4)     orders.2.eu (msgs 3)
 *
 * I1 A branch has at least two children; its depth is greater than its parent's.
 * I2 Children are in byte order, "end" (a key of exactly depth bytes) first: a walk from left to
 *    right is the byte order of the subjects.
 * I3 msgs of a branch is the sum over its leaves, keys the number of those that have messages.
 * I4 A number belongs to its subject from subject_index_intern until it has neither a message nor
 *    a claim. Then it may be given to another subject: intern says is_new, and whoever caches
 *    verdicts by number forgets the one for this number.
 * I5 first and last of a leaf are exact, or bounds on the safe side (first too small, last too
 *    large) that subject_index_first and subject_index_last make exact: see there for the cost.
 *
 * Bytes per key: 32 for the record, the subject and 2 bytes rounded up to 8, and its share of the
 * branches (32 + 5 per child; on average some 15 to 25). A sequence list costs 8 bytes per message
 * of subjects with three or more. Memory of removed subjects is used again; all of it goes back
 * when the last subject goes. Owned by the stream's shard; pure, no time, no I/O. */
#ifndef CORE_JS_SUBJECT_INDEX_H
#define CORE_JS_SUBJECT_INDEX_H
#include "core/base/bytes.h"
#include "core/js/cells.h"
#include "core/js/msgs.h"

enum {
    SUBJECT_INDEX_BYTES_MAX = 65535, /* of a subject; a control line is shorter by default */
    SUBJECT_INDEX_LIST_MAX = 64,     /* max_msgs_per_subject up to here keeps sequence lists */
};

struct subject_node {
    uint64_t first, last;     /* see I5; meaningless while count is 0 */
    uint64_t count : 41;      /* live messages */
    uint64_t waits : 1;       /* see subject_index_set_waits */
    uint64_t claims : 20;     /* staged messages: keep the number while count is 0 */
    uint64_t first_stale : 1; /* first is a lower bound */
    uint64_t last_stale : 1;  /* last is an upper bound */
    uint32_t key;             /* cell of the subject; 0: the record is free */
    uint32_t list;            /* cell of the sequence list; 0: none. Free: the next free record */
};

struct subject_index {
    struct mem *mem;
    struct cells cells;         /* branches, subjects, lists */
    struct subject_node **runs; /* of the records; the first grows up to full size */
    uint32_t run_count, run_room;
    uint32_t node_end;   /* numbers from here on have never been used */
    uint32_t node_room;  /* records there are */
    uint32_t node_free;  /* head of the free records, or MSGS_NODE_NONE */
    uint32_t root;       /* tagged: a leaf, a branch, or nothing */
    uint32_t leaf_count; /* subjects, those with claims alone included */
    uint32_t key_count;  /* subjects with messages */
    uint64_t msg_count;  /* sum over all */
    uint32_t claim_count;
    uint32_t guess;    /* in bulk: the number behind the last one */
    uint32_t renewals; /* numbers that were given to another subject; verdicts by number are void */
    uint8_t list_max;  /* 0: no lists */
    bool is_bulk;      /* between bulk_begin and bulk_end: what branches count waits */
    bool is_in_order;  /* the last one was what had been guessed */
    bool is_listing;   /* lists are being made or dropped, and nobody looks at them */
};

/* Empty, no memory yet. list_max is max_msgs_per_subject when that is 1 to
 * SUBJECT_INDEX_LIST_MAX, else 0. */
void subject_index_init(struct subject_index *x, struct mem *mem, uint32_t list_max);
/* A subject comes soon: what stands first on the way to it is fetched from memory. */
static inline void subject_index_expect(const struct subject_index *x)
{
    if (x->run_count > 0) __builtin_prefetch(x->runs[0]);
}
/* Gives all memory back, whatever was claimed. Empty and usable afterwards. */
void subject_index_clear(struct subject_index *x);
/* All messages are gone (a purge of everything): O(1) when nothing is claimed, else some 300 ns a
 * subject, and claimed numbers stay. */
void subject_index_purge(struct subject_index *x);
/* All memory it holds now. */
size_t subject_index_bytes(const struct subject_index *x);

/* The number of a literal subject (1 to SUBJECT_INDEX_BYTES_MAX bytes), made when it is not there,
 * and a claim on it. Do it when a message is staged, since it is the only step that can fail; the
 * claim is given back by subject_index_add or subject_index_drop, and until then the number stays.
 * ERR_MEMORY, ERR_TOO_LONG, ERR_FULL (2^20 claims on one subject): nothing changed. */
NODISCARD enum err subject_index_intern(struct subject_index *x, struct bytes subject,
                                        uint32_t *node, bool *is_new);
/* MSGS_NODE_NONE when the subject is not there. It may have count 0 (only claims). */
uint32_t subject_index_find(const struct subject_index *x, struct bytes subject);
/* One more message of a claimed node: seq is above every sequence it had. Never fails: a list that
 * cannot grow is given up, and first and last are searched from then on. */
void subject_index_add(struct subject_index *x, uint32_t node, uint64_t seq);
/* Between these two (the index is empty at first) messages are only interned and added, many of
 * them: a start. A message whose subject follows that of the one before, in the order in which
 * subjects were first met, is found without a walk, and branches count at the end: totals, filters
 * and walks wait for that. */
void subject_index_bulk_begin(struct subject_index *x);
void subject_index_bulk_end(struct subject_index *x);
/* A claim is given back without a message. */
void subject_index_drop(struct subject_index *x, uint32_t node);
/* Message seq of the node is gone. True: it was the last one; unless somebody holds a claim the
 * subject is out and the number free. Call it after msgs_remove. */
bool subject_index_remove(struct subject_index *x, uint32_t node, uint64_t seq);

/* Numbers go up to node_end, with gaps. */
bool subject_index_is_used(const struct subject_index *x, uint32_t node);
/* The record, valid until the next intern, remove or drop. node is in use. */
const struct subject_node *subject_index_node(const struct subject_index *x, uint32_t node);
/* Of the only message of a node; the removal of that message sets it back. */
void subject_index_set_waits(struct subject_index *x, uint32_t node, bool waits);
/* Its subject, valid as long as the number is. */
struct bytes subject_index_subject(const struct subject_index *x, uint32_t node);

/* Exact first and last sequence of a node with count > 0. O(1) unless the first (last) one has
 * been removed and no list is kept; then msgs is searched from the bound towards the next message
 * of the node, once: the answer is remembered. The search reads 4 bytes a message that lies in
 * between (about 0.6 ns), so 10 M messages between two of one subject take some 6 ms. Limits
 * (max_msgs, max_age ...) remove from the front and need no exact first at all; streams with
 * max_msgs_per_subject up to SUBJECT_INDEX_LIST_MAX have lists. */
uint64_t subject_index_first(struct subject_index *x, const struct msgs *msgs, uint32_t node);
uint64_t subject_index_last(struct subject_index *x, const struct msgs *msgs, uint32_t node);
/* First sequence >= seq of the node, 0 when there is none. With a list a binary search, else a
 * search as above. */
uint64_t subject_index_next(struct subject_index *x, const struct msgs *msgs, uint32_t node,
                            uint64_t seq);

/* First sequence >= seq, and last one <= to, with a search as msgs_next_of_node_within; what it
 * finds is not remembered. */
uint64_t subject_index_next_within(const struct subject_index *x, const struct msgs *msgs,
                                   uint32_t node, uint64_t seq, uint32_t *left, uint64_t *resume);
uint64_t subject_index_last_within(const struct subject_index *x, const struct msgs *msgs,
                                   uint32_t node, uint64_t to, uint32_t *left, uint64_t *resume);

/* How many messages of the node have a sequence >= seq: with a list a binary search, else up to
 * 0.6 ns for each message of the stream that lies between seq and the nearer end of the node. */
uint64_t subject_index_count_from(const struct subject_index *x, const struct msgs *msgs,
                                  uint32_t node, uint64_t seq);

/* The limit per subject changed and what is over it has gone: makes or drops the lists, with one
 * pass over msgs. Out of memory only
 * leaves subjects without list: first and last are searched then. */
void subject_index_set_list_max(struct subject_index *x, const struct msgs *msgs,
                                uint32_t list_max);
/* The same by pieces: until the last one there are no lists for those who look. A subject or a
 * message costs SUBJECT_INDEX_LIST_COST of *left. True: there is more. */
enum { SUBJECT_INDEX_LIST_COST = 64 };
struct subject_index_listing { /* all zero at first */
    uint32_t node;             /* the next subject, and then */
    uint64_t seq;              /* the next message */
};
void subject_index_list_begin(struct subject_index *x, uint32_t list_max);
NODISCARD bool subject_index_list_step(struct subject_index *x, const struct msgs *msgs,
                                       struct subject_index_listing *at, uint32_t *left);

/* How many subjects and messages a valid filter selects. Literal, a.>, > and filters that end in
 * stars where all subjects below have as many tokens: O(depth). Otherwise a walk over what the
 * literal tokens leave. Subjects with count 0 are not counted in keys. */
struct subject_total {
    uint64_t keys, msgs;
};
struct subject_total subject_index_total(const struct subject_index *x, struct bytes filter);
/* False: it takes more than so many steps of the walk (some 100 ns each). */
bool subject_index_total_within(const struct subject_index *x, struct bytes filter, uint32_t steps,
                                struct subject_total *total);

#endif
