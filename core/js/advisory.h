/* Advisories and metrics of JetStream: what each of them is published on, and its JSON. Pure; the
 * caller finds out whether somebody listens to the subject in the account, and builds the body only
 * then. Every slice is borrowed for the call. */
#ifndef CORE_JS_ADVISORY_H
#define CORE_JS_ADVISORY_H
#include "core/js/outlet.h"
#include "core/js/time_parse.h"

enum advisory_kind {
    ADVISORY_API, /* every request on $JS.API that was answered */
    ADVISORY_LIMIT_REACHED, /* requests were dropped; of the system account */
    ADVISORY_STREAM_CREATED,
    ADVISORY_STREAM_UPDATED,
    ADVISORY_STREAM_DELETED,
    ADVISORY_CONSUMER_CREATED,
    ADVISORY_CONSUMER_DELETED,
    ADVISORY_CONSUMER_PAUSE, /* paused, or resumed */
    ADVISORY_MAX_DELIVERIES,
    ADVISORY_MSG_NAKED,
    ADVISORY_MSG_TERMINATED,
    ADVISORY_ACK_METRIC,
    ADVISORY_KIND_COUNT
};

/* A subject: the longest prefix, stream and consumer with their dots. */
enum { ADVISORY_SUBJECT_BYTES_MAX = 48 + 2 * 256 };

/* Who sent an API request; empty and 0 are left out. */
struct advisory_client {
    int64_t start_ns;
    struct bytes host;
    uint64_t id;
    struct bytes account, user, name, lang, version;
    int64_t rtt_ns;
    struct bytes issuer_key, name_tag;
    struct bytes kind; /* "Client" */
    struct bytes type; /* "nats" */
};

struct advisory {
    enum advisory_kind kind;
    struct bytes id;     /* a nuid */
    int64_t time_ns;     /* wall */
    struct bytes domain; /* or empty */
    /* All but API. */
    struct bytes stream, consumer;
    /* PAUSE. */
    bool is_paused;
    struct time_stamp pause_until; /* not set: Go's zero time */
    /* Of a delivery. */
    uint64_t stream_seq, consumer_seq, deliveries;
    int64_t ack_ns;      /* ACK_METRIC */
    struct bytes reason; /* MSG_TERMINATED; or empty */
    /* API. */
    struct bytes server; /* its name */
    struct advisory_client client;
    struct bytes subject, request, response;
    uint64_t dropped; /* LIMIT_REACHED, which has the server's name too */
};

/* What became of a delivery, as an advisory; stream and consumer name it. id, time_ns and domain
 * are left to the caller. */
struct advisory advisory_of_event(const struct outlet_event *e, struct bytes stream,
                                  struct bytes consumer);
/* Appends its subject; ADVISORY_SUBJECT_BYTES_MAX are enough for valid names. */
void advisory_subject(const struct advisory *a, struct writer *out);
/* Appends its body. */
void advisory_write(const struct advisory *a, struct text *out);

#endif
