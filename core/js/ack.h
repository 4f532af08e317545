/* What clients say about deliveries: ack subjects, the payloads on them, and the bodies of pull
 * requests. Foreign bytes: nothing is asserted about them.
 *
 *   v1  $JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time>.<pending>
 *   v2  $JS.ACK.<domain>.<account hash>.<stream>.<consumer>. ... .<pending>[.<more>]
 *
 * v1 is what deliveries carry; both are understood. A v2 subject is taken whatever its domain and
 * hash: the account is the one the connection belongs to. */
#ifndef CORE_JS_ACK_H
#define CORE_JS_ACK_H
#include "core/js/request.h"

/* A number that is none reads as ACK_NUMBER_BAD: it is above every sequence, so such an ack settles
 * nothing. */
#define ACK_NUMBER_BAD UINT64_MAX

struct ack_subject {
    struct bytes stream, consumer;
    uint64_t deliveries, stream_seq, consumer_seq;
    uint64_t time_ns, pending;
};

/* ERR_SYNTAX: no ack subject. */
NODISCARD enum err ack_parse_subject(struct bytes subject, struct ack_subject *a);
/* Appends the v1 form. */
void ack_write_subject(struct writer *w, const struct ack_subject *a);

enum { ACK_SUBJECT_BYTES_MAX = 8 + 2 * 256 + 5 * 21 };

/* The subject of one delivery after the other. In a run of messages most numbers go up or down by
 * one: those digits are changed where they stand. */
struct ack_text {
    char text[ACK_SUBJECT_BYTES_MAX];
    uint32_t len;
    bool is_known;           /* text is that of last; false: written anew */
    struct ack_subject last; /* names are borrowed: whoever changes them says is_known = false */
    uint16_t at[5];          /* where the numbers begin */
};
void ack_text_write(struct ack_text *t, const struct ack_subject *a);

/* $JS.FC.<stream>.<consumer>.<id> and its v2 form. ERR_SYNTAX: none. */
NODISCARD enum err ack_parse_flow(struct bytes subject, struct bytes *stream,
                                  struct bytes *consumer);

enum ack_kind {
    ACK_DONE,     /* empty, +ACK, +OK */
    ACK_NAK,      /* -NAK, perhaps with a delay */
    ACK_PROGRESS, /* +WPI */
    ACK_NEXT,     /* +NXT: done, and the rest is a pull request */
    ACK_TERM,     /* +TERM, perhaps with a reason */
    ACK_UNKNOWN,  /* settles nothing; a reply is still answered */
};

struct ack_payload {
    enum ack_kind kind;
    bool has_delay;      /* NAK */
    bool is_delay_bad;   /* NAK: what followed is no delay; treated as if nothing followed */
    int64_t delay_ns;    /* NAK: may be negative, which is none */
    struct bytes reason; /* TERM, without blanks around it */
    struct bytes next;   /* NEXT: the body of the pull request */
};

/* payload without headers. The arena is for a delay in JSON with escapes, so hardly ever used; out
 * of memory makes the delay bad. */
void ack_parse_payload(struct arena *arena, struct bytes payload, struct ack_payload *p);

/* A pull request as the client wrote it. */
struct ack_pull {
    int64_t batch; /* 0 and below are served like 1 */
    int64_t expires_ns, max_bytes, heartbeat_ns;
    bool no_wait;
    /* Priority groups: for refusals, since no consumer has any. */
    int64_t min_pending, min_ack_pending, priority;
    struct bytes group, id; /* of the body, or of the arena */
};

/* Empty is a batch of 1, digits are a batch, an object is the whole request; anything else counts
 * as 1. ERR_SYNTAX: why is what follows "Bad Request - ". ERR_MEMORY. */
NODISCARD enum err ack_parse_pull(struct arena *arena, struct bytes body, struct ack_pull *p,
                                  struct writer *why);

#endif
