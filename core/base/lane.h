/* A lane: one sender's view of one mail ring towards one shard, as plain memory.
 *
 * io/mailbox owns the ring's memory and every atomic of it; core writes records through the lane
 * and never sees an atomic. A record is contiguous; one that would cross the end of the ring is
 * preceded by padding. Positions are 64-bit byte counts since the ring was made, never wrapped.
 *
 *   head <= published <= tail <= head + bytes
 *            (what the consumer may see)   (what this sender has written)
 *
 * Only the sending shard touches its lane. Rule M2: reserve all lanes of a publish, then write.
 * Record layout, 8-byte aligned: struct lane_record, then its body. */
#ifndef CORE_BASE_LANE_H
#define CORE_BASE_LANE_H
#include <stdbool.h>
#include <stdint.h>
#include "core/base/err.h"

struct lane_record {
    uint32_t bytes; /* head and body, rounded up to 8 */
    uint16_t kind;  /* LANE_PADDING or a kind of the user */
    uint16_t flags; /* of the user */
};

enum {
    LANE_PADDING = 0,
    LANE_IO_KINDS = 0x100, /* kinds from here on are io's; below, core's */
};

struct lane {
    uint8_t *ring;       /* ring_bytes, 64-byte aligned; owned by the mailbox */
    uint32_t ring_bytes; /* a power of two */
    uint64_t tail;       /* next byte this sender writes; the mailbox publishes it once per turn */
    uint64_t head;       /* the consumer's position as last read; never ahead of the truth */
    /* Reads the consumer's position anew into head (acquire). Called when head looks too old. */
    void (*refresh)(struct lane *l);
    void *mailbox;   /* of the mailbox */
    uint32_t target; /* shard that reads this ring */
};

/* Bytes that a record with a body of body_bytes takes, padding not included. */
static inline uint32_t lane_record_bytes(uint32_t body_bytes)
{
    return ((uint32_t)sizeof(struct lane_record) + body_bytes + 7u) & ~7u;
}

/* True when records_bytes more (each record counted with lane_record_bytes) surely fit,
 * whatever padding the end of the ring asks for: at most one record crosses it, so
 * largest_bytes more are counted. Refreshes head when the old one says no. */
bool lane_has_room(struct lane *l, uint64_t records_bytes, uint32_t largest_bytes);

/* Starts a record with body_bytes of body and returns the body's place. There must be room. */
void *lane_append(struct lane *l, uint16_t kind, uint16_t flags, uint32_t body_bytes);

/* One record at position *at of a ring, for its reader; skips padding and moves *at past it.
 * NULL when *at reached end. The body follows the head; it is valid until the reader's position
 * is published. */
const struct lane_record *lane_next(const uint8_t *ring, uint32_t ring_bytes, uint64_t *at,
                                    uint64_t end);

#endif
