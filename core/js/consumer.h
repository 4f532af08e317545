/* The delivery state of one consumer: which message comes next and who gets it, what waits for an
 * ack, what has to come again, what is left. Pure: time is an argument, messages are read by the
 * caller, own messages leave through the outlet.
 *
 *   consumer_next --> DELIVER seq --> caller reads it --> consumer_deliver --> caller sends it
 *                 '-> why not now (and when)
 *   consumer_ack, consumer_pull, consumer_flow: clients.  consumer_timer: time.
 *   consumer_removed, consumer_purged: the stream.  (New messages need no call: consumer_next sees
 *   them; the caller wakes consumers whose filter matches and who wait.)
 *
 * C1 delivered is the last delivery (consumer and stream sequence); next_seq is the cursor, which
 *    may have passed further messages that the filter leaves out.
 * C2 No pending delivery lies at or below the ack floor; the floor moves when the lowest pending
 *    one is settled: to just below the next pending one, or to delivered when none is left.
 * C3 left counts matching messages in [next_seq, counted_to]; later ones are counted when somebody
 *    asks. So a publish costs nothing per consumer.
 *
 * Durable: deltas in PROGRESS records (consumer_encode, consumer_apply), up to 250 ms behind; what
 * a crash loses is delivered again. A record tells the state, never the way to it, so applying is
 * idempotent in what it sets. Which messages an interest or work queue stream may drop follows from
 * the records alone: struct consumer_releases. To be below the ack floor is not to be settled: a
 * reset passes over messages that stay.
 *
 * Owned by the stream's shard. */
#ifndef CORE_JS_CONSUMER_H
#define CORE_JS_CONSUMER_H
#include "core/base/effect.h"
#include "core/js/ack.h"
#include "core/js/ackwin.h"
#include "core/js/consumer_config.h"
#include "core/js/pullq.h"
#include "core/js/push.h"
#include "core/js/subject_index.h"

/* What consumers see of their stream. */
struct consumer_feed {
    struct msgs *msgs;
    struct subject_index *subjects;
    const uint64_t *first_seq, *last_seq; /* as STREAM.INFO has them */
    uint64_t message_bytes_max;           /* of the stream or server */
    bool is_latest_only;                  /* max_msgs_per_subject is 1 */
    bool is_released;                     /* what is settled goes: no limits stream */
    bool is_shared;                       /* once all have settled it: an interest stream */
    uint32_t *changes;                    /* counts those of filters; NULL: nobody asks */
    struct bytes name;                    /* of the stream; lives as long */
    struct consumer_live *idle;           /* shared by all that have nothing; NULL: there is none */
};

/* What a consumer that nobody uses has nothing in. */
struct consumer_live {
    struct ackwin window;
    struct pullq pulls; /* of a push consumer only last_active_ns is used */
};

struct consumer_latest; /* the list of deliver policy last_per_subject */
struct consumer_rare;

struct consumer {
    struct mem *mem;
    const struct consumer_feed *feed;
    uint64_t number;       /* inside the stream, of its records */
    uint64_t order_ticket; /* of its record in flight; 0 none */
    /* Of its first record; 0: it is there since the start, or leaves none. */
    uint64_t created_ticket;
    int64_t created_ns;
    void *owner;  /* of whoever set js->hooks */
    char *packed; /* configuration */
    uint32_t packed_bytes;
    uint32_t filter_count;
    struct bytes *filters; /* texts in packed */
    struct bytes name;
    uint32_t deliver_at, deliver_bytes; /* the deliver subject, in packed */
    struct ackwin_waits waits;
    int64_t max_deliver, max_ack_pending, inactive_ns, pause_until_ns; /* <= 0: no limit, none */
    struct pullq_limits limits;
    uint8_t ack_policy, sample_percent;
    bool headers_only : 1, is_bound : 1, is_changed : 1, is_all_unsaved : 1;
    bool is_in_memory : 1; /* mem_storage */
    bool is_hidden : 1;    /* its first record is not durable yet: only publishes see it */
    bool is_ending : 1;    /* the record in flight is that of its end */
    bool was_paused : 1;   /* when its timer ran last, by the configuration as it is */
    bool is_moved : 1;     /* by a reset or other filters since the last pick, which is void */
    bool is_reset : 1;     /* by an order that has not happened yet, or could not be undone */
    bool is_undone : 1;    /* a reset was, since the last record */
    bool has_flights : 1;  /* records of it were in flight when its owner was closed */
    uint32_t progress;     /* number of the newest PROGRESS record (its prev_seq), from 1; wraps */
    uint64_t delivered_cseq, delivered_seq, floor_cseq, floor_seq, next_seq;
    uint64_t saved_seq; /* delivered_seq of the last record */
    uint64_t left, counted_to;
    int64_t last_delivered_ns, last_ack_ns; /* wall; 0: never */
    int64_t expire_ns;                      /* when to look for expired deliveries */
    struct consumer_latest *latest;         /* NULL: none, or done */
    struct consumer_rare *rare;             /* what few have; NULL: none of it */
    struct consumer_live *live;             /* its own, or feed->idle, where nothing may be put */
    struct push *push;                      /* NULL: pull */
};

enum { CONSUMER_LINE = 64 }; /* bytes that memory gives at once */

enum consumer_verdict {
    CONSUMER_DELIVER, /* pick: read this message, then consumer_deliver */
    CONSUMER_IDLE,    /* nothing left */
    CONSUMER_ALONE,   /* nobody asks for messages or listens */
    CONSUMER_FULL,    /* max_ack_pending */
    CONSUMER_STALLED, /* flow control */
    CONSUMER_PAUSED,
    CONSUMER_LATER, /* pick.at_ns: rate limit, or the pace of replay original */
    CONSUMER_AGAIN, /* a long search: call again, at the next turn */
};

struct consumer_pick {
    uint64_t seq;
    struct msgs_entry entry;
    bool is_redelivery;
    bool is_fresh; /* nothing can have happened since; who waits for a read says that it may */
    int64_t at_ns;
};

/* Sizes in bytes. */
struct consumer_message {
    uint64_t subject, headers, body;
};

/* Large: who delivers many keeps one, for ack to be cheap. */
struct consumer_delivery {
    uint64_t seq, consumer_seq, deliveries;
    uint64_t left; /* after it */
    uint64_t bytes;
    bool headers_only;
    bool is_short; /* of memory, or of entries for what waits: try again later */
    struct ack_text
        ack; /* the reply of the message; is_known = false before one of another consumer */
    struct bytes target; /* deliver subject, or in taker */
    struct pullq_taker taker;
};

/* A new consumer: starts where its deliver policy says. c is the caller's memory; config may borrow
 * from anywhere. ERR_MEMORY: c is void. */
NODISCARD enum err consumer_open(struct consumer *c, struct mem *mem,
                                 const struct consumer_feed *feed, uint64_t number,
                                 const struct consumer_config *config, int64_t created_ns,
                                 struct shard_time now);
/* The same for one that consumer_start is called for when its record is durable: what that finds
 * out by a look at every subject is not found out twice, where nothing depends on it before. */
NODISCARD enum err consumer_open_hidden(struct consumer *c, struct mem *mem,
                                        const struct consumer_feed *feed, uint64_t number,
                                        const struct consumer_config *config, int64_t created_ns,
                                        struct shard_time now);
void consumer_close(struct consumer *c);
/* One of those that are shared, for feeds. */
void consumer_idle_init(struct consumer_live *idle, struct mem *mem);
/* Gives back what it has nothing in any more. */
void consumer_rest(struct consumer *c);
/* It starts now: where it was opened, its record was not durable yet, and the stream went on since.
 * Nothing was delivered. consumer_count is next. ERR_MEMORY: call again. */
NODISCARD enum err consumer_start(struct consumer *c);
/* Its configuration becomes this one, which may. *has_other_filters: they were others before; NULL
 * where nobody asks. ERR_MEMORY: nothing changed. */
NODISCARD enum err consumer_update(struct consumer *c, const struct consumer_config *config,
                                   struct shard_time now, bool *has_other_filters);
/* ERR_MEMORY. config borrows from c and the arena. */
NODISCARD enum err consumer_config_of(const struct consumer *c, struct arena *arena,
                                      struct consumer_config *config);
static inline bool consumer_is_push(const struct consumer *c)
{
    return c->push != NULL;
}
static inline struct bytes consumer_deliver_subject(const struct consumer *c)
{
    return bytes_of(c->packed + c->deliver_at, c->deliver_bytes);
}
bool consumer_matches(const struct consumer *c, struct bytes subject);

/* What to deliver next, or why nothing. */
NODISCARD enum consumer_verdict consumer_next(struct consumer *c, struct shard_time now,
                                              struct outlet *o, struct consumer_pick *pick);
/* The message of pick was read: who gets it. False: nobody any more, or it is not the next one any
 * more; ask consumer_next again, unless d is_short. True: send it; then consumer_delivered_done. */
NODISCARD bool consumer_deliver(struct consumer *c, struct shard_time now,
                                const struct consumer_pick *pick, const struct consumer_message *m,
                                struct outlet *o, struct consumer_delivery *d);
/* What has to follow the message: the end of a request, a flow control request. */
void consumer_delivered_done(struct consumer *c, struct shard_time now,
                             const struct consumer_delivery *d, struct rng *rng, struct outlet *o);
/* The message of pick cannot be read: it counts as removed. */
void consumer_skip(struct consumer *c, const struct consumer_pick *pick, struct outlet *o);

/* An ack arrived. ERR_OK: a reply is to be answered (with nothing in it), once the next record of
 * this consumer is durable if is_changed. ERR_UNKNOWN: it is not. ERR_MEMORY: nothing is settled. A
 * NEXT is followed by consumer_pull by the caller. */
enum err consumer_ack(struct consumer *c, struct shard_time now, const struct ack_subject *a,
                      const struct ack_payload *p, struct rng *rng, struct outlet *o);
/* A pull request arrived. */
void consumer_pull(struct consumer *c, struct shard_time now, struct arena *arena,
                   struct bytes body, struct bytes reply, struct outlet *o);
/* An answer to flow control arrived. */
void consumer_flow(struct consumer *c, struct bytes subject);
/* Push: whether somebody listens to the deliver subject. */
void consumer_set_bound(struct consumer *c, bool is_bound, struct shard_time now);
/* Does what is due. Returns when to come again (monotonic), or INT64_MAX. *is_gone: inactive for
 * too long, so it is to be deleted. */
int64_t consumer_timer(struct consumer *c, struct shard_time now, struct outlet *o, bool *is_gone);

/* The stream dropped message seq (limits, age, a delete): call before the subject is taken out of
 * the index. True: it waited for its ack, which left no room for another. */
bool consumer_removed(struct consumer *c, uint64_t seq, struct bytes subject, struct outlet *o);
/* What happens to messages below it is nothing to the consumer; goes back only by a reset and by
 * other filters. */
uint64_t consumer_first_of_interest(const struct consumer *c);
/* A start has the whole stream: a record behind the removal of a message may have told that it
 * waits for its ack. An undone reset, too. */
void consumer_replayed(struct consumer *c);
/* The stream was purged; filter is empty for all of it. first: of the messages that the filter
 * selects, the first one that is left, or the one behind the last sequence. Call afterwards. */
void consumer_purged(struct consumer *c, struct bytes filter, uint64_t first);
/* No record tells yet that it settled message seq. */
bool consumer_is_settled_unsaved(const struct consumer *c, uint64_t seq, struct bytes subject);
/* Whether an interest or work queue stream must keep message seq for it. */
bool consumer_needs(const struct consumer *c, uint64_t seq, struct bytes subject);

/* Where a reset to seq (0: behind the ack floor) leads. ERR_DENIED: it may not; why holds the
 * reason. ERR_MEMORY. */
NODISCARD enum err consumer_reset_seq(const struct consumer *c, uint64_t seq, uint64_t *reset_seq,
                                      struct arena *arena, struct writer *why);
/* Delivery starts again there. What it passes over is settled by that (as interest streams have
 * it), or stays (a work queue). */
void consumer_reset(struct consumer *c, uint64_t seq, bool settles);

/* Counts what came since: a piece of it (core/js/sieve). False: call again, in another turn. */
NODISCARD bool consumer_count(struct consumer *c);
/* num_pending, exact: counts all at once. */
uint64_t consumer_left(struct consumer *c);
/* The members of ConsumerInfo, into an open object. is_listed: as lists show it. ERR_MEMORY. */
NODISCARD enum err consumer_write_info(struct consumer *c, struct arena *arena,
                                       struct shard_time now, struct outlet *o, bool is_listed,
                                       struct json_write *w);

/* --- records --- */

/* Something is not in a record yet. */
static inline bool consumer_is_unsaved(const struct consumer *c)
{
    return c->is_changed;
}
/* Appends the body of a PROGRESS record to out and takes everything as saved. is_whole: the whole
 * state. */
void consumer_encode(struct consumer *c, struct shard_time now, bool is_whole, struct text *out);
/* The same of what a reset will make of it; once that is done, consumer_reset_saved. */
void consumer_encode_reset(uint64_t seq, bool settles, struct text *out);
void consumer_reset_saved(struct consumer *c);
/* A reset did not come to be: the consumer is what consumer_encode_copy wrote before it, at that
 * time. ERR_MEMORY: it is in between. */
NODISCARD enum err consumer_reset_undo(struct consumer *c, struct bytes body,
                                       struct shard_time before);
/* As consumer_encode of the whole state, for checkpoints: nothing counts as saved by it. */
void consumer_encode_copy(const struct consumer *c, struct shard_time now, struct text *out);
/* Fetches from memory what consumer_encode_copy and a copy of the configuration need: first of
 * all c, then, once that is there, what it leads to. */
static inline void consumer_expect(const struct consumer *c)
{
    for (size_t at = 0; at < sizeof *c; at += CONSUMER_LINE)
        __builtin_prefetch((const char *)c + at);
}
static inline void consumer_expect_parts(const struct consumer *c)
{
    __builtin_prefetch(c->packed);
    __builtin_prefetch(c->live);
}
/* The record with this body failed: the next one tells everything. An empty body: one that nothing
 * was to be released by. */
void consumer_encode_lost(struct consumer *c, struct bytes body);
/* The same of one that was made behind a reset which was undone. Acks in it count: they are listed.
 * What is not listed and lies behind the reset's position is nothing that was settled: an earlier
 * reset may have passed over it. */
void consumer_encode_undone(struct consumer *c, struct bytes body);
/* Replay. time_ns is of the record. ERR_CORRUPT: no body of ours; ERR_MEMORY. */
NODISCARD enum err consumer_apply(struct consumer *c, struct bytes body, int64_t time_ns,
                                  struct shard_time now);
/* The same of a checkpoint, which may be ahead of the records: what none of them tells of yet is
 * unsaved, as it was when it was made. */
NODISCARD enum err consumer_apply_copy(struct consumer *c, struct bytes body, int64_t time_ns,
                                       struct shard_time now);
/* Sequences that the record settled, ascending. Of those that it does not name, in (from,
 * delivered], only what the filters of the consumer select. */
struct consumer_releases {
    struct bytes rest;
    uint64_t from, delivered, left;
    struct ackwin_entry entry; /* the first that is listed and not behind us */
    bool has_entry;
    bool is_named; /* the one returned last */
};
/* The body stays where it is. */
void consumer_releases_begin(struct consumer_releases *r, struct bytes body);
/* The first one at or above seq, which never goes back; 0: none. */
uint64_t consumer_releases_next(struct consumer_releases *r, uint64_t seq);

#endif
