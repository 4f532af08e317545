/* The messages of a stream by sequence: where each one lies, how large, of which subject, when.
 *
 * Sequences go up and are never reused; messages go in any order. Blocks of up to MSGS_BLOCK_MAX
 * messages, in a directory ordered by sequence. A block is a head and columns:
 *
 *   open (the last one)   offset u32, node u32, bytes u32, place u64, time u64: 28 bytes a message
 *   sealed                each column by core/js/column: messages of one size that were stored
 *                         together and lie one behind the other take 0.4 bytes, those that came
 *                         one by one and of any size some 6. Nodes: a bit, when all are of one
 *                         subject, else u32, since searches read them
 *   opened up             as open, at most one: places of a sealed block change (a pack)
 *
 * M1 Bases ascend in the directory; no block is without a live message.
 * M2 node == MSGS_NODE_NONE marks a removed message; its entries stay in the columns until the
 *    block is packed again.
 * M3 A sealed block that is not the first is at least three quarters live: below that it is packed
 *    again, and joined with a neighbour when both fit into one. So memory per live message is
 *    bounded, whatever the order of removals; gaps of any size cost nothing (first_seq may be
 *    10^18).
 * M4 Times do not go down with the sequence. If a caller breaks that, only msgs_seq_at_time is
 * wrong.
 *
 * Owned by the stream's shard; pure. */
#ifndef CORE_JS_MSGS_H
#define CORE_JS_MSGS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/mem.h"

/* No subject: the number of a node that does not exist. */
#define MSGS_NODE_NONE UINT32_MAX
/* Columns and head fill size classes of the allocator (multiples of 4 KiB) almost exactly. */
enum { MSGS_BLOCK_MAX = 1016 };

struct msgs_entry {
    uint64_t place;  /* of the record, opaque */
    int64_t time_ns; /* wall clock */
    uint32_t bytes;  /* what the stream counts for it */
    uint32_t node;   /* of its subject, not MSGS_NODE_NONE */
};

struct msgs_block;
struct msgs_slot {
    uint64_t base; /* first sequence of the block, live or not */
    struct msgs_block *block;
    uint32_t live;
    uint32_t used; /* entries of its columns */
};

struct msgs {
    struct mem *mem;
    struct msgs_slot *slots; /* the directory: slot_count from slot_first on, of slot_room */
    uint32_t slot_first, slot_count, slot_room;
    uint32_t spare_count;
    struct msgs_block *spares; /* empty blocks for the appends that msgs_reserve promised */
    uint64_t live_count;
    uint64_t seq_end;   /* appends must be at or above */
    uint64_t opened_up; /* the base of that block; 0: none */
    size_t bytes_taken; /* memory of all blocks and the directory */
};

/* Empty, no memory yet. */
void msgs_init(struct msgs *m, struct mem *mem);
/* Gives all memory back; also "purge everything". seq_end stays: sequences are not reused. */
void msgs_clear(struct msgs *m);

/* Room for count appends, which then cannot fail (except one that lies 2^32 sequences or more
 * behind the one before). For the moment of staging: count is all that is staged and not yet
 * appended. ERR_MEMORY: as much as there was is kept. */
NODISCARD enum err msgs_reserve(struct msgs *m, uint32_t count);
/* seq >= seq_end, > 0. ERR_MEMORY: nothing changed. */
NODISCARD enum err msgs_append(struct msgs *m, uint64_t seq, const struct msgs_entry *entry);
/* An append comes soon: the directory is fetched from memory. */
static inline void msgs_expect(const struct msgs *m)
{
    if (m->slot_count > 0) __builtin_prefetch(&m->slots[m->slot_first + m->slot_count - 1]);
}
/* Takes message seq out and tells what it was (entry may be NULL). ERR_UNKNOWN: not there.
 * Never needs memory: packing again waits when there is none. */
enum err msgs_remove(struct msgs *m, uint64_t seq, struct msgs_entry *entry);
/* ERR_UNKNOWN: no such message. */
NODISCARD enum err msgs_get(const struct msgs *m, uint64_t seq, struct msgs_entry *entry);
bool msgs_has(const struct msgs *m, uint64_t seq);
/* Its record lies elsewhere now. ERR_UNKNOWN: not there (any more). ERR_MEMORY: the columns had to
 * become wider; the old place still stands. */
NODISCARD enum err msgs_set_place(struct msgs *m, uint64_t seq, uint64_t place);

/* First and last live sequence; 0 when empty. */
uint64_t msgs_first(const struct msgs *m);
uint64_t msgs_last(const struct msgs *m);
/* The nearest live sequence >= seq, <= seq; 0 when there is none. */
uint64_t msgs_next(const struct msgs *m, uint64_t seq);
/* The same, and what it is. */
uint64_t msgs_next_entry(const struct msgs *m, uint64_t seq, struct msgs_entry *entry);
uint64_t msgs_prev(const struct msgs *m, uint64_t seq);
/* Live messages in [from, to]. Reads 24 bytes per block in between: 20 us at 10 M messages. */
uint64_t msgs_count(const struct msgs *m, uint64_t from, uint64_t to);
/* First live sequence with time >= time_ns; 0 when all are older. */
uint64_t msgs_seq_at_time(const struct msgs *m, int64_t time_ns);
/* The first range of sequences without a message at or behind *first that lies below last_seq + 1
 * (last_seq: of the stream, may be above msgs_last). False: there is none. For "deleted" of
 * STREAM.INFO: begin at the stream's first sequence, go on at *last + 1. */
bool msgs_gap(const struct msgs *m, uint64_t last_seq, uint64_t *first, uint64_t *last);

/* By subject. The searches read 4 bytes a message. */
uint64_t msgs_next_of_node(const struct msgs *m, uint64_t seq, uint32_t node);
uint64_t msgs_prev_of_node(const struct msgs *m, uint64_t seq, uint32_t node);
/* The same, with a look at about *left entries at most, which are taken off. 0: there is none, or
 * *resume (not 0) is where to go on. */
uint64_t msgs_next_of_node_within(const struct msgs *m, uint64_t seq, uint32_t node, uint32_t *left,
                                  uint64_t *resume);
uint64_t msgs_prev_of_node_within(const struct msgs *m, uint64_t seq, uint32_t node, uint32_t *left,
                                  uint64_t *resume);
uint64_t msgs_count_of_node(const struct msgs *m, uint64_t from, uint64_t to, uint32_t node);
/* What is known of nodes, two bits each; a number beyond node_count is MSGS_VERDICT_UNKNOWN. */
enum msgs_verdict { MSGS_VERDICT_UNKNOWN, MSGS_VERDICT_NO, MSGS_VERDICT_YES };
struct msgs_verdicts {
    uint64_t *words;
    uint32_t node_count;
};
static inline enum msgs_verdict msgs_verdict_of(const struct msgs_verdicts *v, uint32_t node)
{
    if (node >= v->node_count) return MSGS_VERDICT_UNKNOWN;
    return (enum msgs_verdict)(v->words[node >> 5] >> (node & 31) * 2 & 3);
}
/* The first live message in [seq, to] that is not MSGS_VERDICT_NO; with count, those that are YES
 * are counted there and passed, too. Looks at up to *left entries, and takes off what it looked at.
 * 0: there is none, or *left is 0 and *resume is where to go on. */
uint64_t msgs_sift(const struct msgs *m, uint64_t seq, uint64_t to, const struct msgs_verdicts *v,
                   uint64_t *count, uint32_t *left, uint64_t *resume);

/* All live messages in order from seq on: entry by entry, cheaper than next and get. */
struct msgs_cursor {
    const struct msgs *msgs;
    uint32_t slot, at;
};
void msgs_cursor_init(struct msgs_cursor *c, const struct msgs *m, uint64_t seq);
/* 0 at the end. m must not change in between. */
uint64_t msgs_cursor_next(struct msgs_cursor *c, struct msgs_entry *entry);

#endif
