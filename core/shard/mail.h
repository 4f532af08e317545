/* Sending mail to other shards, and what waits where a ring has no room for it.
 *
 * M1 What is sent while mail is consumed never needs ring space: it spills when the ring is full,
 * and the spill of a target drains before anything new, so order is kept. Each spill keeps room of
 *    its own for what the consumer of one mail owes, so that only a full ring and a full spill
 *    besides keep such mail unread (mail_may_answer).
 *
 * What a record says is a matter of who sends it: core/shard/relay, permit, jet_interest, jet_mail.
 */
#ifndef CORE_SHARD_MAIL_H
#define CORE_SHARD_MAIL_H
#include "core/base/err.h"
#include <stdbool.h>
#include <stdint.h>

struct shard;

enum mail_kind {
    MAIL_MESSAGE = 1,
    MAIL_ANSWER,
    MAIL_BLOCK_BACK,
    MAIL_CONGESTED,
    MAIL_PERMIT_ASK,
    MAIL_PERMIT,
    MAIL_PERMIT_FREE,
    MAIL_INTEREST,
    MAIL_JET,         /* to the JetStream of the shard: a struct jet_mail */
    MAIL_JET_MESSAGE, /* as MAIL_MESSAGE; the target is a struct jet_mail */
    MAIL_CLOSE,       /* a connection: it is owed an answer that there is no memory for */
};

/* Body of the three about permits, and of MAIL_CONGESTED. */
struct mail_permit {
    uint64_t conn;
    uint64_t ticket; /* of the login that asked: a reload may have begun another since */
    uint32_t account;
    uint16_t is_granted, stall; /* enum client_stall */
};

/* Opens the spills. ERR_MEMORY: mail_close is to be called. */
NODISCARD enum err mail_open(struct shard *s);
void mail_close(struct shard *s);
/* May be called while mail is consumed: never fails for want of ring space (M1). False: there is no
 * memory either. */
bool mail_post(struct shard *s, uint32_t target, enum mail_kind kind, const void *body,
               uint32_t bytes);
/* What the consumer of a mail owes: mail_may_answer made sure of its room. */
void mail_post_owed(struct shard *s, uint32_t target, enum mail_kind kind, const void *body,
                    uint32_t bytes);
/* Room in memory for all that the consumer of one mail owes to target, whatever the ring says. */
bool mail_may_answer(struct shard *s, uint32_t target);
/* Moves what waits into the ring. False: it found no room for all of it. */
bool mail_is_clear(struct shard *s, uint32_t target);
/* Bytes that wait for room in the ring. */
uint32_t mail_waiting_bytes(const struct shard *s, uint32_t target);

#endif
