/* Mail between shards: one single-producer ring per (sender, receiver) pair and a doorbell bitmap
 * per receiver. Lock-free, bounded; published once per turn; a sleeping receiver is rung once.
 * Senders are the shards and a few numbered helper threads (monitor, crypto).
 *
 * Memory orders. Sender: records, then published tail (release), then the doorbell bit (seq_cst),
 * then the receiver's sleeping flag (seq_cst); receiver: sleeping flag (seq_cst), then the
 * doorbell (seq_cst), then sleeps. One of the two sees the other, so no mail waits unread.
 * Rule M4: a sender that waits for a position writes `awaited` (seq_cst), then re-reads the head;
 * the receiver publishes its head, then reads `awaited` once per turn. */
#ifndef IO_MAILBOX_H
#define IO_MAILBOX_H
#include "core/base/lane.h"
#include "core/base/mem.h"

struct mailbox_net; /* all rings of the process */

/* senders >= shards: shard s is sender s, helper threads have the numbers above.
 * ring_bytes: a power of two, per pair. wake(context, receiver) is called by the sender's thread
 * to ring a sleeping receiver; for a sender that waited (M4) wake(context, sender). */
NODISCARD enum err mailbox_open(struct mem *mem, uint32_t shards, uint32_t senders,
                                uint32_t ring_bytes, void (*wake)(void *context, uint32_t who),
                                void *context, struct mailbox_net **out);
void mailbox_close(struct mailbox_net *n);

/* The sender's lane towards receiver; the same pointer each time. Owned by the net. */
struct lane *mailbox_lane(struct mailbox_net *n, uint32_t sender, uint32_t receiver);

/* Publishes the tails of all lanes of sender that moved, rings each such receiver that sleeps.
 * Once per turn (shards) or per batch (helpers). */
void mailbox_publish(struct mailbox_net *n, uint32_t sender);
/* The same, and how long mail waits is measured by samples: some of what is published carries
 * now_ns (not 0), one stamp at a time for each pair. */
void mailbox_publish_at(struct mailbox_net *n, uint32_t sender, uint64_t now_ns);

/* Unread mail of one sender for receiver: positions [*at, *end) of *ring, to be walked by
 * lane_next. Returns false when no sender has unread mail. Walks the senders in turn. */
struct mailbox_batch {
    uint32_t sender;
    const uint8_t *ring;
    uint32_t ring_bytes;
    uint64_t at, end;
};
bool mailbox_next(struct mailbox_net *n, uint32_t receiver, struct mailbox_batch *b);
/* The receiver has read the sender's ring up to position at: its space is free again.
 * Rings the sender when it awaits a position that is now reached. */
void mailbox_consumed(struct mailbox_net *n, uint32_t receiver, uint32_t sender, uint64_t at);

/* Before sleeping: returns true when it is safe to sleep (no mail); then the sender rings.
 * After waking, and whenever it returned false, mailbox_awake must be called. */
bool mailbox_may_sleep(struct mailbox_net *n, uint32_t receiver);
void mailbox_awake(struct mailbox_net *n, uint32_t receiver);

/* The receiver, which has read the sender's ring up to position at: takes the stamp of mail before
 * it. 0: there is none. */
uint64_t mailbox_stamped(struct mailbox_net *n, uint32_t receiver, uint32_t sender, uint64_t at);

/* M4: sender asks to be woken when receiver's head reaches position. Returns true when it is
 * reached already (nothing was asked). One position per pair; a later call replaces it with the
 * smaller of the two. */
bool mailbox_await(struct mailbox_net *n, uint32_t sender, uint32_t receiver, uint64_t position);

#endif
