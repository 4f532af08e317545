/* What the clients of a run asked for and what they saw: every publish and every subscription
 * with the simulated times that order them. The checkers judge from this alone.
 *
 * Times: sent_ns is when the client wrote it; acked_ns when a PONG told it that everything before
 * was done (LEDGER_NEVER: no such word came). So whatever the server did with it happened in
 * [sent_ns, acked_ns]. */
#ifndef TESTS_SIM_LEDGER_H
#define TESTS_SIM_LEDGER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/bytes.h"

#define LEDGER_NEVER UINT64_MAX

enum {
    LEDGER_PEERS_MAX = 96,
    LEDGER_QUEUES = 3,
    LEDGER_PAYLOAD_MAX = 220000,
    LEDGER_ID_BYTES = 8,
    LEDGER_HEADER_BYTES = 10 + 14 + 2, /* NATS/1.0, one line with the id, the empty line */
    LEDGER_SUBJECTS = 15,
    LEDGER_FILTERS = 21,
    LEDGER_FILTER_INBOX = LEDGER_FILTERS,
    LEDGER_SUBJECT_INBOX = LEDGER_SUBJECTS,
    LEDGER_VOID_FIRST = 12, /* subjects from here on: only > matches */
};

enum ledger_user {
    USER_ALL,
    USER_RESTRICTED,
    USER_NARROWED,
    USER_VICTIM,
    USER_BCRYPT,
    USER_OTHER,
    USER_COUNT
};

struct ledger_pub {
    uint32_t peer;
    uint8_t account, subject; /* LEDGER_SUBJECT_INBOX: answer to inbox_peer, inbox_number */
    uint32_t inbox_peer, inbox_number;
    uint32_t reply_number; /* 0: no reply subject */
    uint32_t bytes;        /* payload with its id, without headers */
    bool has_headers, is_denied, is_no_echo, wants_503;
    uint64_t sent_ns, acked_ns;
    uint32_t got; /* deliveries of all kinds */
    uint8_t got_group[LEDGER_QUEUES];
    uint8_t got_503;
};

struct ledger_sub {
    uint32_t peer, sid;
    uint8_t filter; /* LEDGER_FILTER_INBOX: the peer's own */
    int8_t queue;   /* -1: plain */
    bool is_denied;
    uint64_t sent_ns, acked_ns, unsub_sent_ns, unsub_acked_ns;
    uint32_t first_pub;    /* number of publishes of all peers when SUB was sent */
    uint32_t max;          /* 0: none */
    uint64_t max_acked_ns; /* the UNSUB with max was done */
    uint32_t got;
    uint32_t last_by_peer[LEDGER_PEERS_MAX]; /* id + 1 of the last message of each publisher */
    uint32_t *ids;
    uint32_t id_capacity;
};

struct ledger_peer { /* what checkers need of a client */
    uint8_t user, account;
    bool is_echo, is_headers, is_no_responders;
    uint64_t closed_ns; /* by whom ever; LEDGER_NEVER: served to the end */
    uint64_t gone_ns;   /* the server let go */
};

struct ledger {
    struct ledger_pub *pubs;
    uint32_t pub_count, pub_capacity;
    struct ledger_sub **subs;
    uint32_t sub_count, sub_capacity;
    struct ledger_peer peers[LEDGER_PEERS_MAX];
    uint32_t peer_count;
    uint64_t narrowed_ns; /* when the reload that narrows USER_NARROWED began */
    uint64_t dropped_max; /* deliveries that the server says it dropped */
    uint64_t errors;
    uint64_t seed;
    char *pattern;
};

void ledger_init(struct ledger *l, uint64_t seed);
void ledger_deinit(struct ledger *l);
struct ledger_pub *ledger_add_pub(struct ledger *l, uint32_t *id);
struct ledger_sub *ledger_add_sub(struct ledger *l, uint32_t *index);
/* A rule is broken: printed with the seed; the run fails. */
void ledger_fail(struct ledger *l, const char *rule, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

const char *ledger_subject(uint32_t subject);
const char *ledger_filter(uint32_t filter);
const char *ledger_queue(uint32_t queue);
uint32_t ledger_subject_text(const struct ledger_pub *p, char *room, size_t room_bytes);
bool ledger_matches(const struct ledger_sub *s, const struct ledger_pub *p);
bool ledger_may_publish(uint8_t user, uint8_t subject);
bool ledger_may_subscribe(uint8_t user, uint8_t filter);
/* Whether a message on the subject may reach a subscription of the user, NARROWED apart. */
bool ledger_may_receive(uint8_t user, uint8_t subject);
bool ledger_is_narrowed(const struct ledger_peer *peer, uint8_t subject);
/* Headers and payload of id. */
uint32_t ledger_body(const struct ledger *l, uint32_t id, char *room);
void ledger_delivered(struct ledger *l, uint32_t sub, uint32_t id);

/* --- checkers, at the end of a run --- */
void check_delivery(struct ledger *l);   /* R1, R2, R5 */
void check_queue(struct ledger *l);      /* R3 */
void check_responders(struct ledger *l); /* R9 */

#endif
