/* Runs the consumers of one shard: which of them has something to do now, reading what they
 * deliver, handing it on, and their PROGRESS records. What a consumer does is core/js/consumer; how
 * messages reach clients is the caller's.
 *
 *          pull, ack, flow, interest, update                    store_read is busy
 *   idle ----------------------------------> ready --> run ---------------------> reading
 *     ^  '--- a message that it waits for ----^  ^        |                          |
 *     |       (core/js/wake), its timer          '--------|--------------------------'
 *     '---------------------------------------------------'
 *
 * An idle consumer costs nothing, whatever is published, and one that nobody uses (nothing asked
 * for, pending, unsaved, or to be timed) no memory here. A run delivers up to DELIVER_RUN_MAX
 * messages, then it is the turn of the next one.
 *
 * What a consumer did is unsaved until its record is durable. Records are written 250 ms after the
 * first change; at the end of the turn when somebody waits for the answer to an ack, and for work
 * queue and interest streams, whose messages go only then. Consumers without records (see
 * js_consumer_is_kept) settle at that moment.
 *
 * What streams republish leaves here too, before deliveries.
 *
 * Owned by the shard; pure. consumer.owner is this module's. */
#ifndef CORE_JS_DELIVER_H
#define CORE_JS_DELIVER_H
#include "core/base/wheel.h"
#include "core/js/republish.h"

enum {
    DELIVER_RUN_MAX = 64, /* messages of one consumer before others get their turn */
    DELIVER_SAVE_MS = 250,
    /* How long a consumer whose receiver is slow is left alone: twice as long each time in a row.
     */
    DELIVER_CONGESTED_MS = 2,
    DELIVER_CONGESTED_MS_MAX = 64,
};

/* To whoever wants an ack confirmed that was not taken, or may not be durable: any other answer
 * would say yes. As if nobody listened. */
#define DELIVER_NO_ANSWER "NATS/1.0 503\r\n\r\n"

struct deliver_port {
    /* There is room for one more message. False: deliver_run stops; call it again when there is. */
    bool (*may_send)(void *context);
    /* To the subscriptions of target, which see subject as its subject. headers is a whole block or
     * empty. Slices may lie in the store's memory: copied before it is touched again. False: it was
     * taken, but a receiver is slow. */
    bool (*message)(void *context, struct js_stream *s, struct bytes target, struct bytes subject,
                    struct bytes reply, struct bytes headers, struct bytes body);
    /* It was inactive for too long and is about to be deleted. May be NULL. */
    void (*gone)(void *context, struct js_stream *s, struct consumer *c);
    /* A message of so many bytes can be kept if it cannot leave at once. False: memory is short,
     * and it is tried again a little later. NULL: always. */
    bool (*has_room)(void *context, size_t bytes);
};

struct deliver {
    struct js *js;
    const struct deliver_port *port;
    void *context;
    struct wheel wheel;
    struct list ready, unsaved; /* struct deliver_consumer */
    struct list flights;        /* records that are not durable, by ticket */
    struct list readings;
    struct deliver_reading *spare;
    struct table pushes; /* struct deliver_consumer by account and deliver subject */
    struct republish republish;
    struct text body;                  /* of the record, or headers, being put together */
    struct consumer_delivery delivery; /* the one being made */
    uint64_t short_ns; /* there was no memory for some that are used, or to republish: tried again
                          then; 0: no */
    bool has_early;    /* a record that failed was one of what was let go of ahead of it */
    bool is_bind_owed; /* there was none to see who listens to push consumers */
    uint64_t delivered, saved; /* messages, records; since the start */
};

/* context is handed to the port. js->hooks have to lead to the functions below that are called
 * hooks of js; consumers that exist already: deliver_opened each. */
void deliver_init(struct deliver *d, struct js *js, const struct deliver_port *port, void *context,
                  struct shard_time now);
/* Before js_deinit; hooks may be called no more. */
void deliver_deinit(struct deliver *d);

/* --- hooks of js, of which struct js_hooks says when --- */
void deliver_opened(struct deliver *d, struct js_stream *s, struct consumer *c,
                    struct shard_time now);
void deliver_updated(struct deliver *d, struct js_stream *s, struct consumer *c,
                     struct shard_time now);
void deliver_closing(struct deliver *d, struct js_stream *s, struct consumer *c);
NODISCARD enum err deliver_settling(struct deliver *d, struct js_stream *s, struct consumer *c,
                                    struct shard_time now);
/* What consumers of the stream did is on record. Anything but ERR_OK: not all of it. */
NODISCARD enum err deliver_saving(struct deliver *d, struct js_stream *s, struct shard_time now);
/* A record behind this one, or none yet, tells that some consumer settled the message. */
NODISCARD bool deliver_is_settled_behind(const struct deliver *d, const struct js_stream *s,
                                         uint64_t seq, struct bytes subject, uint64_t ticket);
/* The record of its end is about to be made: what it settled comes before, if there is room. */
void deliver_ending(struct deliver *d, struct js_stream *s, struct consumer *c,
                    struct shard_time now);
void deliver_stored(struct deliver *d, struct js_stream *s, uint64_t seq, uint32_t node);
void deliver_room(struct deliver *d, struct js_stream *s);

/* --- clients --- */
/* A pull request. False: there is no such consumer. */
NODISCARD bool deliver_pull(struct deliver *d, struct js_stream *s, struct bytes name,
                            struct bytes body, struct bytes reply, struct shard_time now);
/* An ack; payload without headers. ERR_UNKNOWN: nobody listens to this subject. ERR_MEMORY: reply
 * is not answered; a consumer that was in use has taken the ack all the same. */
NODISCARD enum err deliver_ack(struct deliver *d, struct js_stream *s, struct bytes subject,
                               struct bytes payload, struct bytes reply, struct shard_time now);
/* The answer to a flow control request. */
void deliver_flow(struct deliver *d, struct js_stream *s, struct bytes subject);
/* Subscriptions with this filter came or went in the account. */
void deliver_interest(struct deliver *d, uint32_t account, struct bytes filter,
                      struct shard_time now);
/* Subscriptions came or went, which ones is not known any more. */
void deliver_interest_all(struct deliver *d, struct shard_time now);

/* --- the store --- */
/* Everything up to ticket is durable (again, when a change of a stream that went by pieces is over:
 * acks behind it wait for that); or nothing from it on was stored. */
void deliver_store_stored(struct deliver *d, uint64_t ticket);
void deliver_store_failed(struct deliver *d, uint64_t ticket, struct shard_time now);
/* What was let go of ahead of a record that failed is written again: before clients publish
 * anything behind, else a limit would find at a start what has gone here. While the log tells of a
 * failure it takes no record. */
void deliver_save_early(struct deliver *d, struct shard_time now);
/* The read is one of ours: read->context is d. */
static inline bool deliver_is_read(const struct deliver *d, const struct store_read *read)
{
    return read->context == d;
}
/* It ended; record is void after an error. May deliver the message right away. */
void deliver_read(struct deliver *d, struct store_read *read, enum err result,
                  const struct record *record, struct shard_time now);

/* --- turns --- */
/* Timers, deliveries, records; at most so many messages. True: there is more to do now. */
NODISCARD bool deliver_run(struct deliver *d, struct shard_time now, uint32_t messages_max);
/* Writes the records of everything that is unsaved, at the end. */
void deliver_flush(struct deliver *d, struct shard_time now);
/* When to call it next (monotonic); UINT64_MAX: never, unless something happens. */
uint64_t deliver_next_ns(const struct deliver *d);

#endif
