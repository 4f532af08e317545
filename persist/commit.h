/* Group commit: collects records into groups in memory, hands out groups to be written, knows what
 * is durable, and keeps the newest groups as a cache of the log's tail (P1, P2).
 *
 *   OPEN -- commit_close --> CLOSED -- commit_next --> FLYING -- commit_landed --> LANDED
 *     LANDED and all before it landed: WRITTEN (counted in the prefix); it stays readable until its
 *     memory is needed for an open group. commit_fail drops every group that is not WRITTEN.
 *
 * 1. Group numbers and tickets follow each other without holes; at most the newest group is OPEN.
 * 2. Groups lie in the segment in the order of their numbers without gaps, so the place of a record
 *    is known when it is appended.
 * 3. Memory of a group does not move and is not reused before it is WRITTEN.
 * Does no I/O. Belongs to one shard's log. */
#ifndef PERSIST_COMMIT_H
#define PERSIST_COMMIT_H
#include "core/base/mem.h"
#include "core/base/store.h"
#include "persist/group.h"

enum {
    COMMIT_GROUP_BYTES = 256 * 1024, /* the usual limit of a group */
    /* The ring holds at least this many full groups: one open, four flying, three waiting. */
    COMMIT_RING_GROUPS_MIN = 8,
};

enum commit_state { COMMIT_OPEN, COMMIT_CLOSED, COMMIT_FLYING, COMMIT_LANDED, COMMIT_WRITTEN };

struct commit_group {
    char *data;
    uint64_t number;
    uint64_t ticket_last; /* of its records; that of its predecessor if it has none */
    uint64_t offset;      /* in its segment */
    struct place_key key;
    uint64_t ring_at; /* where data lies in the ring; not for a big one */
    uint64_t room;    /* OPEN: bytes it may grow to */
    uint32_t record_bytes, record_count;
    uint32_t bytes; /* from CLOSED on: header and padding included */
    enum commit_state state;
    bool is_big;          /* memory of its own: one record larger than a group */
    bool has_checkpoints; /* some of its records are CHECKPOINT or STREAM_GONE */
};

struct commit {
    struct mem *mem;
    uint32_t group_bytes;
    char *ring_memory, *ring; /* as allocated; aligned to a block */
    uint64_t ring_bytes, ring_head;
    uint64_t big_bytes;          /* memory of big groups */
    struct commit_group *groups; /* circular */
    uint32_t group_room;         /* a power of two */
    uint64_t oldest, newest;     /* numbers: groups [oldest, newest) are in memory */
    uint64_t unsent;             /* first that was not handed out by commit_next */
    uint64_t written;            /* every group up to it landed */
    uint64_t durable;            /* every group up to it survives a power cut */
    uint64_t ticket;             /* the newest handed out */
    uint64_t written_ticket, durable_ticket;
    uint64_t staged_bytes; /* of groups that are not WRITTEN */
    /* Where the next group goes. */
    struct place_key key;
    uint64_t offset, segment_bytes;
};

/* next_group: its number; everything before it is durable. group_bytes: COMMIT_GROUP_BYTES or, in
 * tests, less. ring_bytes: for staging and tail together. ERR_MEMORY: nothing to end. */
NODISCARD enum err commit_init(struct commit *c, struct mem *mem, uint32_t group_bytes,
                               uint64_t ring_bytes, uint64_t next_group);
void commit_deinit(struct commit *c);

/* From now on groups go to this segment, from its beginning. No group may be OPEN. */
void commit_move(struct commit *c, const struct place_key *key, uint64_t segment_bytes);
/* True if a record of so many bytes still fits into the segment, in the open group or a new one. */
bool commit_has_room(const struct commit *c, uint32_t bytes);
/* commit_has_room was true. ERR_FULL: too much is staged. ERR_MEMORY. Nothing happened then. */
NODISCARD enum err commit_append(struct commit *c, const struct record *r, uint32_t bytes,
                                 struct store_stub *out);
/* Closes the open group, if there is one. */
void commit_close(struct commit *c);
/* Adds a group without records. The segment must have a block left. ERR_FULL as above. */
NODISCARD enum err commit_add_empty(struct commit *c);

/* The next group to be written, with its header complete: it is FLYING now. NULL: none is CLOSED.
 */
struct commit_group *commit_next(struct commit *c);
/* Its write ended well. Gives true if the prefix grew. */
bool commit_landed(struct commit *c, struct commit_group *g);
/* Its write failed, or landed beside one that failed: it waits for commit_fail. */
void commit_gave_up(struct commit_group *g);
/* A group in memory: oldest <= number < newest. */
struct commit_group *commit_group_at(const struct commit *c, uint64_t number);
/* Everything up to this group, whose last ticket is given, is durable. For the level `always` that
 * is what is written. */
void commit_set_durable(struct commit *c, uint64_t number, uint64_t ticket);
/* Drops every group that is not WRITTEN; none may be FLYING. Numbers go on behind the written ones,
 * tickets behind the newest. A commit_move must follow. Gives the first ticket that is lost: the
 * newest plus one if none is. */
uint64_t commit_fail(struct commit *c);

/* The bytes at this place if its group is in memory; *bytes: how many follow in the group. */
const char *commit_find(const struct commit *c, uint64_t place, uint32_t *bytes);
uint32_t commit_staged_percent(const struct commit *c);
/* Nothing is staged: every group is WRITTEN. */
bool commit_is_idle(const struct commit *c);

#endif
