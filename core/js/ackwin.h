/* Deliveries of one consumer that still wait for their ack, and those that were given up after
 * max_deliver: entries ordered by stream sequence, and the queue of those to be delivered again.
 *
 *              ackwin_add                       ackwin_settle, ackwin_settle_to
 *   (nothing) ------------> PENDING ------------------------------------------> gone
 *                            |   ^ ackwin_delivered                              ^
 *             ackwin_expire, |   |                                               |
 *             ackwin_queue   v   |                                               |
 *                           PENDING + queued --- ackwin_give_up --> GIVEN_UP ----+
 *
 * A1 Sequences ascend from head to tail: a new delivery is above every earlier one; a redelivery
 *    keeps its entry. So look-up is a binary search and the ack floor is beside the head.
 * A2 An entry counts in pending_count or given_up_count, or it is a hole.
 * A3 An entry that a durable record knows (is_saved) and that is gone since stays as a hole until
 *    the next record tells of it (is_dirty).
 * A4 A queued entry has the ticket of its place in the queue; a place whose ticket differs is void.
 *
 * 32 bytes an entry. Looking for expired ones reads all entries, not more than once a millisecond:
 * about 1 us for 1000. Times are monotonic. Owned by the consumer's shard; pure. */
#ifndef CORE_JS_ACKWIN_H
#define CORE_JS_ACKWIN_H
#include <stdbool.h>
#include "core/base/mem.h"

enum {
    ACKWIN_ENTRIES_MAX = 1 << 22, /* deliveries stop there, whatever max_ack_pending says */
    ACKWIN_DELIVERIES_MAX = 0xffffff,
};

enum ackwin_state { ACKWIN_HOLE, ACKWIN_PENDING, ACKWIN_GIVEN_UP };

struct ackwin_entry {
    uint64_t seq;
    uint64_t cseq;    /* consumer sequence of its first delivery */
    int64_t since_ns; /* from when the ack wait runs: last delivery or sign of progress */
    uint32_t ticket;  /* of its place in the queue; 0: not queued */
    uint32_t deliveries : 24;
    uint32_t state : 2; /* enum ackwin_state */
    uint32_t is_saved : 1;
    uint32_t is_dirty : 1;
};

struct ackwin_place {
    uint64_t seq;
    uint32_t ticket;
};

struct ackwin {
    struct mem *mem;
    struct ackwin_entry *entries; /* ring of room, a power of two, and one for `low`; or NULL */
    uint32_t head, count, room;   /* head is an index; count includes holes */
    uint32_t pending_count, given_up_count;
    uint32_t redelivered_count; /* pending ones with more than one delivery */
    struct ackwin_place *queue; /* ring of queue_room places */
    uint32_t queue_head, queue_count, queue_room;
    uint32_t queued_count; /* places that are not void */
    uint32_t ticket_last;
    uint32_t dirty_count;
};

/* How long to wait for an ack. */
struct ackwin_waits {
    int64_t ack_wait_ns;
    const int64_t *backoff_ns; /* by deliveries, the last one for all further; borrowed */
    uint32_t backoff_count;
};

void ackwin_init(struct ackwin *w, struct mem *mem);
/* Gives all memory back: empty and usable again. */
void ackwin_clear(struct ackwin *w);
/* The same when there is nothing in it, not even a hole to be told of. */
void ackwin_trim(struct ackwin *w);

/* A first delivery; seq is above every one before. ERR_FULL, ERR_MEMORY: nothing changed. */
NODISCARD enum err ackwin_add(struct ackwin *w, uint64_t seq, uint64_t cseq, int64_t now_ns);
/* The entry of seq, or NULL. Valid until the next add, settle or clear. */
struct ackwin_entry *ackwin_find(const struct ackwin *w, uint64_t seq);
/* A record knows seq as waiting, and the next one tells that it does not any more. */
bool ackwin_is_hole(const struct ackwin *w, uint64_t seq);
/* The lowest pending entry, and any entry at or above seq; NULL: none. */
struct ackwin_entry *ackwin_lowest(const struct ackwin *w);
struct ackwin_entry *ackwin_next(const struct ackwin *w, uint64_t seq);

/* It is done with. */
void ackwin_settle(struct ackwin *w, struct ackwin_entry *e);
/* All up to seq are. */
void ackwin_settle_to(struct ackwin *w, uint64_t seq);
/* No further delivery, but it is remembered. */
void ackwin_give_up(struct ackwin *w, struct ackwin_entry *e);
/* It was delivered again. */
void ackwin_delivered(struct ackwin *w, struct ackwin_entry *e, int64_t now_ns);
/* Its wait runs from since_ns on; it leaves the queue if leave_queue. */
void ackwin_wait_from(struct ackwin *w, struct ackwin_entry *e, int64_t since_ns, bool leave_queue);

/* To be delivered again, at the end of the queue; nothing happens when it is queued already.
 * ERR_MEMORY: it is not queued, and its wait goes on. */
NODISCARD enum err ackwin_queue(struct ackwin *w, struct ackwin_entry *e);
/* First of the queue, or NULL. ackwin_delivered, ackwin_settle and ackwin_give_up take it out. */
struct ackwin_entry *ackwin_queue_first(struct ackwin *w);
/* Each queued one in order of sequences: *at starts at 0; NULL at the end. Only ackwin_give_up may
 * come between. */
struct ackwin_entry *ackwin_each_queued(const struct ackwin *w, uint32_t *at);
/* All pending ones into the queue, in order of their sequences. */
void ackwin_queue_all(struct ackwin *w);
/* Queues what has expired, in order of sequences. Returns when to look again; INT64_MAX: never. */
int64_t ackwin_expire(struct ackwin *w, const struct ackwin_waits *waits, int64_t now_ns);
int64_t ackwin_wait_ns(const struct ackwin_waits *waits, uint32_t deliveries);

/* For records: dirty entries from seq on (holes included); NULL at the end. */
struct ackwin_entry *ackwin_next_dirty(const struct ackwin *w, uint64_t seq);
/* For records of the whole state: those and all others that are there. */
struct ackwin_entry *ackwin_next_told(const struct ackwin *w, uint64_t seq);
/* All that was dirty is told of now: holes go. */
void ackwin_set_saved(struct ackwin *w);
/* The next record has to tell that seq is settled, though nothing of it is known here (any more),
 * and it is not above all that was delivered. One that waits goes on waiting.
 * ERR_MEMORY, ERR_FULL: nothing changed. */
NODISCARD enum err ackwin_settle_again(struct ackwin *w, uint64_t seq);
/* From a record: the entry is so. Sequences may come in any order, but rarely do.
 * ERR_MEMORY, ERR_FULL: nothing changed. */
NODISCARD enum err ackwin_restore(struct ackwin *w, const struct ackwin_entry *entry);

/* Whole-structure check, for tests. */
void ackwin_verify(const struct ackwin *w);

#endif
