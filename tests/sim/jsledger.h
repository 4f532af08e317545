/* What JetStream's clients of the simulator published, and what became of it: the model that
 * recovered streams and deliveries are held against.
 *
 *   SENT -> STORED (an answer says so, or it was seen) | REFUSED | DUPLICATE (of another)
 *   SENT -> LOST (the power failed before its answer) -> STORED (seen) | ABSENT (an audit missed
 * it) An audit is a full reading of a stream at rest, after each start and at the end. */
#ifndef TESTS_SIM_JSLEDGER_H
#define TESTS_SIM_JSLEDGER_H
#include <stdbool.h>
#include <stdint.h>
#include "core/base/bytes.h"
#include "tests/sim/jslives.h"

enum {
    JSLEDGER_SLOTS = 4,
    JSLEDGER_SUBJECTS = 8,
    JSLEDGER_ENTRIES_MAX = 32768,
    JSLEDGER_SEQS_MAX = 32768,
    JSLEDGER_CLIENTS = 8,
    JSLEDGER_INCARNATIONS = 16, /* remembered */
    JSLEDGER_BODY_MAX = 4096,
    JSLEDGER_HEAD_BYTES = 60, /* and more is what a message counts beside its body */
    JSLEDGER_NONE = UINT32_MAX,
};

enum jsledger_outcome { JSL_SENT, JSL_STORED, JSL_REFUSED, JSL_DUPLICATE, JSL_LOST, JSL_ABSENT };

enum jsledger_retention { JSL_LIMITS, JSL_WORK_QUEUE, JSL_INTEREST, JSL_KEYS };

struct jsledger_entry {
    uint8_t slot, subject, outcome, client;
    uint32_t incarnation, bytes;
    uint32_t msg_id;   /* 0: none */
    uint64_t expected; /* last sequence of the subject; UINT64_MAX: not said */
    uint64_t seq;
    uint64_t connection;
    uint64_t ttl_ns;       /* 0: none of its own; UINT64_MAX: for ever */
    uint32_t counted;      /* bytes that a limit counts, or some more */
    uint64_t sent_ns;      /* stored at or after that, and at or before known_ns */
    uint64_t known_ns;     /* an answer came, or it was seen */
    bool maybe_gone;       /* somebody asked for its removal */
    bool is_gone;          /* its removal was confirmed, or an audit missed it */
    bool is_evicted;       /* by a limit: it may come back, see jsledger_seen */
    bool is_present;       /* of the audit */
    bool is_doomed;        /* was stored when the purge was asked for */
    uint8_t ack_sent;      /* by consumer */
    uint8_t ack_confirmed; /* likewise */
    uint32_t gone_life;    /* when the newest of both was confirmed */
    uint64_t gone_ns;
};

struct jsledger_slot { /* a stream's name and what lives under it */
    enum jsledger_retention retention;
    uint32_t incarnation; /* the newest that was asked for */
    struct {
        uint32_t life;
        uint64_t ns;
    } renewed[JSLEDGER_INCARNATIONS]; /* when the newest ones began: [incarnation % that] */
    uint32_t consumers;
    uint8_t was_reset; /* by consumer: what it passed over, or wants again, is not known */
    bool is_kept;      /* what all of these acked another consumer may still want */
    uint64_t max_msgs; /* the lowest limit that was asked for; UINT64_MAX none */
    uint64_t seen_last;
    uint32_t owner[JSLEDGER_SEQS_MAX]; /* entry by sequence */
    /* By sequence, the consumers that an ack for the streams before may still be on its way to: it
     * names stream, consumer and sequence, and is as good an ack of this one's. */
    uint8_t late_acks[JSLEDGER_SEQS_MAX];
    uint64_t client_last[JSLEDGER_CLIENTS], client_connection[JSLEDGER_CLIENTS];
    bool is_purging;
    struct jslives lives;
    uint64_t markers, new_markers; /* of the audit; those behind all that was seen before it */
    uint64_t audit_last;
    uint64_t audit_ns;
};

struct jsledger {
    uint64_t seed, errors;
    uint32_t life;
    uint64_t now_ns;
    struct jsledger_entry entries[JSLEDGER_ENTRIES_MAX];
    uint32_t entry_count;
    uint32_t stored_of[JSLEDGER_ENTRIES_MAX]; /* by message id: the entry that was stored */
    uint32_t next_msg_id;
    struct jsledger_slot slots[JSLEDGER_SLOTS];
    uint64_t found_again, never_found, redeliveries, expired, evicted, markers;
};

void jsledger_init(struct jsledger *l, uint64_t seed);
void __attribute__((format(printf, 2, 3)))
jsledger_wrong(struct jsledger *l, const char *what, ...);
/* Another stream under this name. */
void jsledger_renew(struct jsledger *l, uint32_t slot);
struct jsledger_publish {
    uint32_t slot, subject, client, bytes, msg_id, counted;
    uint64_t expected, connection, ttl_ns;
};
uint32_t jsledger_publish(struct jsledger *l, const struct jsledger_publish *p);
/* Its body; the same each time. */
void jsledger_body(const struct jsledger *l, uint32_t id, char *out);
void jsledger_stored(struct jsledger *l, uint32_t id, uint64_t seq, bool is_duplicate);
void jsledger_refused(struct jsledger *l, uint32_t id);
void jsledger_lost(struct jsledger *l, uint32_t id);
/* A stream showed a message; the entry, or NONE: it was never published, or is the last of a
 * stream that was deleted, on its way since. */
uint32_t jsledger_seen(struct jsledger *l, uint32_t slot, uint64_t seq, struct bytes subject,
                       struct bytes body);
void jsledger_delivered(struct jsledger *l, uint32_t slot, uint32_t consumer, uint32_t id,
                        uint64_t deliveries);
/* An audit found a delete marker. */
void jsledger_marker(struct jsledger *l, uint32_t slot, uint64_t seq);
/* Removal: of one, or of all that may be there now. */
void jsledger_erase_sent(struct jsledger *l, uint32_t id);
void jsledger_erased(struct jsledger *l, uint32_t id);
void jsledger_purge_sent(struct jsledger *l, uint32_t slot);
/* What was stored then is gone; or nobody knows. */
void jsledger_purged(struct jsledger *l, uint32_t slot, bool is_sure);
void jsledger_ack_sent(struct jsledger *l, uint32_t id, uint32_t consumer);
void jsledger_ack_confirmed(struct jsledger *l, uint32_t id, uint32_t consumer);

/* The position of a consumer is set, some time from now on. */
void jsledger_reset_sent(struct jsledger *l, uint32_t slot, uint32_t consumer);

void jsledger_audit_begin(struct jsledger *l, uint32_t slot);
void jsledger_audit_end(struct jsledger *l, uint32_t slot, uint64_t last, uint64_t messages);

#endif
