/* Pull requests of one consumer that wait for messages: served in turn, each message to the request
 * at the head, which then goes to the end if it wants more. Every status that a puller may see is
 * sent from here (texts of nats-server; most carry Nats-Pending-Messages and -Bytes, what the
 * request still had to get).
 *
 *   pullq_add --> waiting --> pullq_take: served; gone once its batch or bytes are used up
 *                    |------> pullq_sweep: expired (408), no_wait at the end (404), nobody listens
 *                    '------> pullq_close: the consumer went away (409)
 *
 * Times are monotonic. Owned by the consumer's shard; pure. */
#ifndef CORE_JS_PULLQ_H
#define CORE_JS_PULLQ_H
#include "core/base/list.h"
#include "core/base/mem.h"
#include "core/js/ack.h"
#include "core/js/outlet.h"

/* What is sent to whom there is no memory for a request. */
#define PULLQ_NO_MEMORY "NATS/1.0 409 Insufficient Resources\r\n\r\n"

struct pullq {
    struct mem *mem;
    struct list requests; /* struct pullq_request, the next one to serve first */
    uint32_t count;
    int64_t last_active_ns; /* of a request, or of one that ran out */
    int64_t swept_ns;
};

/* 0: no limit, except for waiting. */
struct pullq_limits {
    int64_t max_waiting, max_batch, max_expires_ns, max_bytes;
};

/* What the consumer has and did, for verdicts and heartbeats. */
struct pullq_facts {
    int64_t now_ns;
    uint64_t pending;                  /* messages it could deliver now, redeliveries included */
    uint64_t stream_seq, consumer_seq; /* of the last delivery */
    bool is_stalled; /* too much waits for acks: what does not wait ends when anything of any
                        request is due, its own or another's, as with nats-server */
};

/* As long as a line of the protocol, unless an option says otherwise. */
enum { PULLQ_REPLY_BYTES_MAX = 4096 };

/* What a message was taken for. */
struct pullq_taker {
    char reply[PULLQ_REPLY_BYTES_MAX]; /* reply_len bytes */
    uint32_t reply_len;
    bool is_done; /* no request of it is left; say so with pullq_finish after the message */
    int64_t batch_left, bytes_left;
};

void pullq_init(struct pullq *q, struct mem *mem);
/* Forgets all requests without a word. */
void pullq_clear(struct pullq *q);
/* The same with a status for each puller: "409 Consumer Deleted" and the like. */
void pullq_close(struct pullq *q, struct outlet *o, const char *status);

/* Every puller learns that the server stops, and what it still had to get. */
void pullq_shutdown(struct pullq *q, struct outlet *o);

/* A request arrives, and waits or is answered at once. The arena is for its text. Returns whether
 * it waits. */
bool pullq_add(struct pullq *q, const struct pullq_limits *limits, const struct pullq_facts *facts,
               struct arena *arena, struct bytes body, struct bytes reply, struct outlet *o);
/* Somebody to take a message of so many bytes (subject, ack subject, headers and payload).
 * False: nobody. */
NODISCARD bool pullq_take(struct pullq *q, const struct pullq_facts *facts, uint64_t bytes,
                          struct outlet *o, struct pullq_taker *taker);
/* After the message: a request whose batch is complete before its bytes are is told so. */
void pullq_finish(const struct pullq_taker *taker, struct outlet *o);
/* Expires, sends heartbeats, forgets requests that nobody listens for. is_end: nothing is left to
 * deliver, so requests that do not wait end. Returns when to come again; INT64_MAX: never.
 * batch (may be NULL): the sum of what waiting requests ask for. */
int64_t pullq_sweep(struct pullq *q, const struct pullq_facts *facts, bool is_end, struct outlet *o,
                    uint64_t *batch);

#endif
