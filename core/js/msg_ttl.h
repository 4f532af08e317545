/* When messages with a life of their own (Nats-TTL) end: a heap of (deadline, sequence), 16 bytes
 * each. A message that goes earlier by another way leaves its entry behind; before the heap grows
 * it is swept against msgs, so the heap has at most about twice the live entries of its last sweep.
 * A popped sequence may be gone already: the caller looks. Wall clock. Owned by the stream's shard.
 */
#ifndef CORE_JS_MSG_TTL_H
#define CORE_JS_MSG_TTL_H
#include "core/base/mem.h"
#include "core/js/msgs.h"

enum { MSG_TTL_DUE_MAX = 1024 };

struct msg_ttl_entry {
    int64_t deadline_ns;
    uint64_t seq;
};

struct msg_ttl {
    struct mem *mem;
    struct msg_ttl_entry *entries; /* a 4-ary heap: the earliest first */
    uint32_t count, room;
};

/* Empty, no memory yet. */
void msg_ttl_init(struct msg_ttl *t, struct mem *mem);
/* Gives all memory back; empty and usable. */
void msg_ttl_clear(struct msg_ttl *t);
/* Room for count more adds, which then cannot fail; sweeps first. ERR_MEMORY, ERR_FULL (2^31
 * entries): nothing is lost. */
NODISCARD enum err msg_ttl_reserve(struct msg_ttl *t, const struct msgs *msgs, uint32_t count);
/* Message seq is in msgs (else a sweep takes the entry out). Errors as above. */
NODISCARD enum err msg_ttl_add(struct msg_ttl *t, const struct msgs *msgs, uint64_t seq,
                               int64_t deadline_ns);
/* One sequence whose deadline is at or before now_ns; equal deadlines by sequence. 0: none. */
uint64_t msg_ttl_pop(struct msg_ttl *t, int64_t now_ns);
/* The earliest deadline; INT64_MAX when empty. Arm a timer for the next full second, so that many
 * deadlines share one. */
int64_t msg_ttl_next_ns(const struct msg_ttl *t);
/* Are so many deadlines (at most MSG_TTL_DUE_MAX) at or before now_ns? */
bool msg_ttl_is_due(const struct msg_ttl *t, int64_t now_ns, uint32_t count);

#endif
