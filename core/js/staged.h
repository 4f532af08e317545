/* What a stream will be once the records in flight are durable: the overlay of P2. Decisions look
 * here, readers look at the durable state.
 *
 * A queue of the messages in flight, in ticket order, and what they do to older ones: each message
 * that an eviction will remove is marked dead here until the removal really happens. Counts are
 * those after everything. When nothing is in flight the overlay is the durable state.
 *
 * S1 msgs and bytes are the durable ones plus what is added minus what is dead.
 * S2 A dead message is in msgs or in the queue. S3 Tickets and sequences ascend in the queue. */
#ifndef CORE_JS_STAGED_H
#define CORE_JS_STAGED_H
#include "core/js/subject_index.h"

enum staged_flags {
    STAGED_SKIP = 1,            /* only the sequence is consumed */
    STAGED_ROLLUP = 2,          /* older messages of the subject go */
    STAGED_ROLLUP_ALL = 4,      /* all older messages go */
    STAGED_ROLLUP_MATCHING = 8, /* older messages go whose subject this one's matches as a filter */
    STAGED_ROLLUP_LARGE = 16,   /* of so many that nobody works out ahead what goes */
};

struct staged_op {
    uint64_t ticket, seq, place;
    int64_t time_ns;
    int64_t deadline_ns;   /* of its own TTL; 0 none */
    uint64_t next_of_node; /* sequence of the next one in flight of the same subject; 0 none */
    uint32_t node;
    uint32_t bytes; /* as in msgs */
    uint32_t flags;
};

/* A cell of the map: of a subject with messages in flight or dead, or of a dead message. */
struct staged_cell {
    uint64_t key;         /* 0: free. Bit 63: node; else sequence of a dead message */
    uint32_t added, dead; /* of a node */
    uint64_t first, last; /* of a node: sequences in flight, 0 when added is 0 */
};

struct staged {
    struct mem *mem;
    struct staged_op *ops; /* a ring */
    uint32_t op_room, op_head, op_count;
    struct staged_cell *cells;
    uint32_t cell_room, cell_count;
    uint64_t msgs, bytes;
    uint64_t bytes_waiting; /* of those in flight */
    uint64_t seq_last;
    uint64_t floor; /* no live message below */
};

/* What may be removed, as the configuration says; 0: no limit. */
struct staged_limits {
    uint64_t max_msgs, max_bytes, max_msgs_per_subject; /* what is evicted when more */
};

#define STAGED_BYTES_MASK UINT32_C(0x3fffffff) /* of msgs_entry.bytes; flags lie above */

void staged_init(struct staged *s, struct mem *mem);
void staged_deinit(struct staged *s);
/* Nothing is in flight: the durable state. */
void staged_reset(struct staged *s, uint64_t msgs, uint64_t bytes, uint64_t seq_last);

/* Behind staged_reset: what a burst took goes back. */
void staged_shrink(struct staged *s);

/* Room for one more message that evicts up to evict_max others. ERR_MEMORY: nothing changed. */
NODISCARD enum err staged_reserve(struct staged *s, uint32_t evict_max);
/* One more in flight; room is there. Evicts beyond the limits. */
void staged_push(struct staged *s, const struct staged_op *op, struct subject_index *x,
                 const struct msgs *m, const struct staged_limits *limits);
/* The oldest in flight became durable: takes it out. False: the queue is empty. */
bool staged_pop(struct staged *s, struct staged_op *op);
/* A message was really removed. */
void staged_removed(struct staged *s, uint64_t seq, uint32_t node, uint32_t bytes);
/* Drops those with ticket >= ticket, with their claims on subject numbers, and works the effects
 * of the others out again. */
void staged_unstage(struct staged *s, uint64_t ticket, struct subject_index *x,
                    const struct msgs *m, uint64_t bytes, const struct staged_limits *limits,
                    uint64_t *seq_dropped);

/* The newest message in flight with this or a smaller ticket bound; NULL when none. */
const struct staged_op *staged_newest(const struct staged *s);
/* The time of the oldest; INT64_MAX when nothing is in flight. */
static inline int64_t staged_time_ns(const struct staged *s)
{
    return s->op_count == 0 ? INT64_MAX : s->ops[s->op_head].time_ns;
}
const struct staged_op *staged_find(const struct staged *s, uint64_t seq);
/* If it is in flight and lies at from, it lies elsewhere now. */
void staged_move(struct staged *s, uint64_t seq, uint64_t from, uint64_t to);
/* Of a subject, everything in flight counted: how many, first and last sequence (0 none). */
uint64_t staged_count(const struct staged *s, const struct subject_index *x, uint32_t node);
uint64_t staged_first(const struct staged *s, struct subject_index *x, const struct msgs *m,
                      uint32_t node);
uint64_t staged_last(const struct staged *s, struct subject_index *x, const struct msgs *m,
                     uint32_t node);

#endif
