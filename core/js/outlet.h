/* Where a consumer's own messages go (statuses, heartbeats, flow control), and whom it asks whether
 * somebody listens. The shard implements it; tests record it. */
#ifndef CORE_JS_OUTLET_H
#define CORE_JS_OUTLET_H
#include <stdbool.h>
#include "core/base/bytes.h"

/* What happened to a delivery, or to the consumer, for advisories and metrics. */
enum outlet_event_kind {
    OUTLET_MAX_DELIVERIES, /* given up */
    OUTLET_NAK,
    OUTLET_TERMINATED,
    OUTLET_ACK_SAMPLE, /* sample_freq picked this ack */
    OUTLET_PAUSE_OVER, /* of no delivery: by itself, since its time has come */
};

struct outlet_event {
    enum outlet_event_kind kind;
    struct bytes stream, consumer;
    uint64_t stream_seq, consumer_seq, deliveries;
    int64_t ack_ns;      /* ACK_SAMPLE: from delivery to ack */
    struct bytes reason; /* TERMINATED, may be empty */
    int64_t until_ns;    /* PAUSE_OVER: wall */
};

struct outlet {
    /* Copies what it sends. reply may be empty; headers is a whole header block; no payload. */
    void (*send)(struct outlet *o, struct bytes subject, struct bytes reply, struct bytes headers);
    /* Whether a subscription of the consumer's account matches the literal subject now. */
    bool (*has_interest)(struct outlet *o, struct bytes subject);
    /* Whether a consumer that delivers to this subject and group (empty: none) is listened to: by a
     * subscription of just that subject and group, so that one of `>` takes nothing. */
    bool (*is_heard)(struct outlet *o, struct bytes subject, struct bytes group);
    /* The event lives only as long as the call. */
    void (*event)(struct outlet *o, const struct outlet_event *e);
};

#endif
