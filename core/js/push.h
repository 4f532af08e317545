/* What a push consumer adds to deliveries: flow control, idle heartbeats, a rate.
 *
 * Flow control: a window of bytes that may be out, 2 MiB at first. When half of it is out, a
 * request with a reply subject of its own goes to the client ($JS.FC.<stream>.<consumer>.<4
 * characters>); its answer says that everything before it was handled: those bytes are in again,
 * and the window doubles up to 32 MiB. A window that is full stalls deliveries; heartbeats then
 * name the request (Nats-Consumer-Stalled), so that a client which lost it can answer all the same.
 *
 * Rate: a bucket of bytes that fills at rate_limit_bps / 8 a second, of the size of the largest
 * message; it may go below zero by one message. Times are monotonic. Pure. */
#ifndef CORE_JS_PUSH_H
#define CORE_JS_PUSH_H
#include "core/base/rng.h"
#include "core/js/outlet.h"

enum {
    PUSH_WINDOW_BYTES_MAX = 32 * 1024 * 1024,
    PUSH_WINDOW_BYTES_MIN = PUSH_WINDOW_BYTES_MAX / 16,
    PUSH_FLOW_ID_BYTES = 4,
};

struct push {
    int64_t heartbeat_ns; /* 0: none */
    int64_t next_heartbeat_ns;
    uint64_t rate;  /* bytes a second, 0: no limit */
    int64_t bucket; /* bytes that may go at once */
    int64_t bucket_max;
    int64_t filled_ns; /* when the bucket was filled last */
    bool has_flow;     /* flow control is on */
    uint32_t window, out_bytes;
    uint32_t asked_bytes;             /* out when the open request was sent */
    char flow_id[PUSH_FLOW_ID_BYTES]; /* of the open request; [0] is 0: none is open */
};

struct push_setup {
    int64_t heartbeat_ns;
    bool has_flow;
    uint64_t rate_limit_bps;
    uint64_t message_bytes_max; /* of the stream, or of the server */
};

/* Who it is, for the texts that it sends. */
struct push_names {
    struct bytes stream, consumer, deliver_subject;
};

void push_init(struct push *p, const struct push_setup *setup, int64_t now_ns);
/* The rate changed by an update; the rest cannot. */
void push_set_rate(struct push *p, const struct push_setup *setup, int64_t now_ns);

/* The window is full: no delivery until the request is answered. */
bool push_is_stalled(const struct push *p);
/* When the next message may go; now_ns or earlier: at once. */
int64_t push_ready_ns(const struct push *p, int64_t now_ns);
/* A message of so many bytes was delivered; a request may follow it. */
void push_delivered(struct push *p, const struct push_names *names, uint64_t bytes, int64_t now_ns,
                    struct rng *rng, struct outlet *o);
/* The answer to a request arrived on subject. True: deliveries may go on. */
bool push_answered(struct push *p, struct bytes subject);
/* Sends a heartbeat when it is time and somebody listens. Returns the time of the next. */
int64_t push_beat(struct push *p, const struct push_names *names, uint64_t consumer_seq,
                  uint64_t stream_seq, bool is_bound, int64_t now_ns, struct outlet *o);

#endif
