/* A stream: a deterministic machine fed by records (P2).
 *
 *   publish_check   (core/js/publish) looks at a publish in the light of everything in flight:
 *                   store this record, a duplicate, a refusal, or wait. Nothing visible changes.
 *   stream_stage    the record got a ticket: it is in flight (stream_cancel: the append failed).
 *   stream_settle   everything up to a ticket is durable: it happens now, evictions with it.
 *   stream_unstage  from a ticket on nothing was stored.
 *   stream_replay   a record that the store gives back at start: it happens at once.
 *
 * Purges, erasures and new configurations are staged by stream_stage_order: they happen when they
 * are durable, and until then publishes wait (STREAM_WAIT), since what they leave is not known.
 * What a limit or a life time removes is derived, never a record: it happens as its cause is
 * applied. T1 Time does not go back: publish_check gives each record a time at or after every "now"
 * that the stream has seen, and what is too old after the time of a record waits for that, so a
 * replay removes what the first run removed. T2 Sequences are
 * contiguous over records and never reused. T3 Reads see the durable state only.
 *
 * Bytes are counted as nats-server counts them, since limits are set in them. An entry of msgs
 * keeps two flags above the count: STREAM_ENTRY_NEVER (Nats-TTL: never) and STREAM_ENTRY_MARKER.
 *
 * Owned by the stream's shard; pure. */
#ifndef CORE_JS_STREAM_H
#define CORE_JS_STREAM_H
#include "core/base/record.h"
#include "core/base/rng.h"
#include "core/js/dedupe.h"
#include "core/js/due.h"
#include "core/js/lost.h"
#include "core/js/msg_ttl.h"
#include "core/js/quota.h"
#include "core/js/sieve.h"
#include "core/js/staged.h"
#include "core/js/stream_config.h"
#include "core/js/subject_index_walk.h"
#include "core/route/transform.h"

/* Above the count of msgs_entry.bytes. */
#define STREAM_ENTRY_NEVER (UINT32_C(1) << 31)
#define STREAM_ENTRY_MARKER (UINT32_C(1) << 30)

enum {
    STREAM_HEADERS_BYTES_MAX = 65535,
    STREAM_SUBJECTS_PAGE = 100000,
#ifdef MILLRACE_SMALL_PIECES
    STREAM_EXPIRE_BATCH = 2, /* of the simulator, whose streams have some twenty messages */
    STREAM_PURGE_BATCH = 2,
#else
    STREAM_EXPIRE_BATCH = 1024, /* messages a call of stream_expire looks at at most */
    STREAM_PURGE_BATCH = 1024,  /* and a call of stream_purge_step */
#endif
    STREAM_LAST_ID_BYTES = STREAM_HEADERS_BYTES_MAX, /* no header is longer */
    STREAM_PARTIAL_MORE = 65536, /* messages beyond those of a checkpoint, while limits wait */
    /* Of that batch: so many consumers that are told of a removal take as long as the removal. */
    STREAM_BATCH_CONSUMERS = 64,
    /* What waits for an order that left no record waits for this ticket: it is durable in any
     * process that has stored anything. */
    STREAM_TICKET_FIRST = 1,
};

enum stream_verdict {
    STREAM_STORE,     /* append outcome.record, then stream_stage or stream_cancel */
    STREAM_DUPLICATE, /* the message is stored already as outcome.seq */
    STREAM_REFUSED,   /* outcome.error */
    STREAM_WAIT,      /* ask again when something was settled */
};

struct stream_outcome {
    enum stream_verdict verdict;
    struct record record;
    uint64_t seq;    /* of the original, or of the message to be stored */
    uint64_t ticket; /* the answer may leave when this is durable; 0: at once */
    struct jsapi_error error;
    struct staged_op op; /* of STREAM_STORE, for stream_stage */
};

/* Who has to know what goes. Called when it happens, before the subject's number may be free. */
struct stream_watch {
    void (*stored)(void *context, uint64_t seq, uint32_t node);
    void (*removed)(void *context, uint64_t seq, const struct msgs_entry *entry);
    /* All of them went at once, instead of removed for each. NULL: removed is called. */
    void (*cleared)(void *context);
    /* Interest retention: does a consumer want this subject? NULL: nobody does. */
    bool (*has_interest)(void *context, struct bytes subject);
    /* A rollup has much to remove: stream_rollup_step is to be called until it is through. NULL: it
     * is done at once. */
    void (*rolling)(void *context);
};

struct stream_rollup;

struct stream {
    struct mem *mem;
    uint64_t id; /* never reused */
    int64_t created_ns;
    struct arena arena; /* of the configuration */
    struct stream_config config;
    struct transform *transform; /* of incoming subjects; NULL none */
    struct transform *republish;
    const struct stream_watch *watch; /* never NULL */
    void *watch_context;
    struct quota_bytes *account_bytes, *server_bytes; /* its messages count there; may be NULL */
    struct rng rng;                                   /* {{random()}} in transforms */
    struct lost *lost;                                /* NULL: nothing */

    uint64_t seq_first, seq_last;
    int64_t time_last_ns; /* of the last message */
    int64_t clock_ns;     /* no record's time is below */
    uint64_t bytes;
    uint64_t age_floor; /* those below are over by age, or none of them ever is, or gone */
    struct msgs msgs;
    struct subject_index subjects;
    struct dedupe dedupe;
    struct msg_ttl ttl;
    struct staged staged;
    struct due due;        /* messages that wait for their delete markers */
    uint64_t order_ticket; /* of the order in flight; 0 none */
    uint64_t sweep_ticket; /* of the first consumer's order by pieces, else start_ticket; 0 none */
    uint64_t start_ticket; /* of the first consumer that starts when those are over; 0 none */
    struct stream_rollup *rollup; /* what that one removes, by pieces; NULL: nothing */
    uint32_t account, consumer_count;

    /* The id of the last message in staged order: Nats-Expected-Last-Msg-Id. */
    uint32_t last_id_len, last_id_room;
    bool is_order_message; /* the order in flight is a message, and over when that is settled */
    bool is_short;         /* there was no memory for the oldest in flight, which is durable */
    bool is_partial;       /* of a start: messages of its checkpoint are missing, gone since */
    bool is_crowded;       /* at the end of a start, while messages are missing: above its limits */
    uint64_t partial_most; /* live messages up to which limits may wait for the last record */
    char *last_id;
};

/* A new stream with this configuration (checked before), which is copied. seed is the store's, for
 * message ids. ERR_MEMORY: nothing is held. */
NODISCARD enum err stream_init(struct stream *s, struct mem *mem, uint64_t id, uint32_t account,
                               const struct stream_config *c, int64_t created_ns, uint64_t seed);
void stream_deinit(struct stream *s);

/* Messages are about to come: fetches from memory what they need, at first the stream itself, then
 * what it points to. */
void stream_expect(const struct stream *s, bool is_next);
/* Room for the id of a message that may be the last one, before it is stored. ERR_MEMORY. */
NODISCARD enum err stream_hold_id(struct stream *s, size_t id_bytes);
/* o: STREAM_STORE, its record was appended. */
void stream_stage(struct stream *s, const struct stream_outcome *o, uint64_t ticket,
                  uint64_t place);
/* o: STREAM_STORE, its record could not be appended. */
void stream_cancel(struct stream *s, const struct stream_outcome *o);
/* A purge, erasure, configuration or large rollup is in flight, or a reset or the end of a consumer
 * waits for publishes: only one at a time (must). Who staged it sets order_ticket to 0 when it has
 * happened. */
void stream_stage_order(struct stream *s, uint64_t ticket);

/* Everything up to ticket is durable: messages become visible. ERR_MEMORY, ERR_BUSY (the limits
 * find behind sweep_ticket what is there when that is over, and so does a consumer what lies before
 * start_ticket): some of it has not happened yet; call again. */
NODISCARD enum err stream_settle(struct stream *s, uint64_t ticket);
/* The order in flight is durable. For RECORD_PURGE, RECORD_ERASE, RECORD_STREAM (config is the
 * decoded one).
 *
 * A purge goes by pieces: what it removes is settled as it begins (so what goes by another way in
 * between changes nothing), and the order stays in flight until its end. */
struct stream_purge {
    struct bytes filter; /* borrowed; empty: all */
    uint64_t end;        /* sequences below it go */
    uint64_t at, count;  /* to be looked at next; messages that went */
    uint64_t seq_next;   /* the next message shall have this sequence at least; 0: no matter */
    bool is_quiet;       /* set by who tells consumers in the end */
    bool is_done;        /* stream_purge_left looks at what is left */
    /* With a filter: so many of the last ones are to be looked for below `before`, where what goes
     * ends. */
    uint64_t keep, before;
    struct sieve sieve;
};
void stream_purge_begin(struct stream *s, struct stream_purge *p, struct bytes filter, uint64_t seq,
                        uint64_t keep);
/* Only looks where what goes ends, and puts that into p->end. True: there is more; call again. */
NODISCARD bool stream_purge_find_end(struct stream *s, struct stream_purge *p);
/* True: there is more; call again. */
NODISCARD bool stream_purge_step(struct stream *s, struct stream_purge *p);
/* Behind the last step, by pieces too: of the messages that the filter selects the first one that
 * is left, or the one behind the last sequence. True: there is more; call again. */
NODISCARD bool stream_purge_left(struct stream *s, struct stream_purge *p, uint64_t *first);
void stream_purge_end(struct stream_purge *p);
/* All of it at once. count: of messages that went. */
void stream_purge(struct stream *s, struct bytes filter, uint64_t seq, uint64_t keep,
                  uint64_t *count);
/* False: there is no such message. Also for what consumers have settled. */
bool stream_remove(struct stream *s, uint64_t seq);
/* ERR_MEMORY: the old configuration stands. What is over its limits goes by stream_trim: call it
 * until it says false, with *t all zero at first, before anything is published. */
struct stream_trim {
    struct subject_index_listing listing;
    uint32_t node;
};
NODISCARD enum err stream_update(struct stream *s, const struct stream_config *c);
NODISCARD bool stream_trim(struct stream *s, struct stream_trim *t);
/* The next piece of what a rollup removes; its order is in flight until the end. True: there is
 * more, in another turn. */
NODISCARD bool stream_rollup_step(struct stream *s);
/* What the removal of a message takes of a batch: all consumers are told. */
static inline void stream_batch_spend(const struct stream *s, uint32_t *batch)
{
    uint32_t cost = 1 + s->consumer_count / STREAM_BATCH_CONSUMERS;
    *batch -= *batch < cost ? *batch : cost;
}
/* Forgets what is in flight from this ticket on. */
void stream_unstage(struct stream *s, uint64_t ticket);
/* A record of the log at start, in order; place and counted bytes follow from it. Records of
 * consumers and of the stream's creation are not for this. ERR_MEMORY. */
NODISCARD enum err stream_replay(struct stream *s, const struct record *r, uint64_t place);

/* The state of a checkpoint: sequences and times first, then each message that was live, ascending,
 * with its flags; of headers and body only the lengths count. Then the end. ERR_MEMORY. */
NODISCARD enum err stream_restore_begin(struct stream *s, uint64_t seq_first, uint64_t seq_last,
                                        int64_t time_last_ns, int64_t clock_ns,
                                        struct bytes last_id);
NODISCARD enum err stream_restore_message(struct stream *s, const struct record *r, uint64_t place,
                                          uint32_t flags);
/* So many messages were not found. Until stream_replayed it is not known of which subjects these
 * are, and the limits of the whole may wait. */
void stream_restore_end(struct stream *s, uint64_t missing);
/* No more records come, and what they settled is gone. Of one with messages missing, what was over
 * at the last of them goes, without delete markers; beyond its limits what is over now as well, and
 * then what these take. */
void stream_replayed(struct stream *s, int64_t now_ns);
/* The sequences up to this one, not below the last, are used up. Nothing is in flight. */
void stream_pass(struct stream *s, uint64_t seq);

/* Removes what is too old at now, message ids as well. True: there is more; call again. Of a file
 * stream nothing goes before the records in flight whose time it is behind, nor before an order. */
bool stream_expire(struct stream *s, int64_t now_ns);
/* The same of messages, for the order in flight whose record has this time: in the order in which
 * they end, since which is the last of its subject, and waits for its marker, must come out the
 * same at a start. False as well when there is no memory for what waits: later. */
bool stream_expire_until(struct stream *s, int64_t time_ns);
/* So many messages' own life times are over that they are to go before anything is stored. */
bool stream_is_overdue(const struct stream *s, int64_t now_ns);
/* As stream_expire, for a message that is to be stored. False: it has to wait, there is more. */
NODISCARD bool stream_expire_ahead(struct stream *s, int64_t now_ns);
/* When stream_expire is to be called next; 0: a marker is due; INT64_MAX: no need. */
int64_t stream_expire_next_ns(const struct stream *s);
/* What nats-server counts for a message. */
uint32_t stream_message_bytes(enum stream_storage storage, size_t subject, size_t headers,
                              size_t body);
/* The rollup leaves nothing else, and all that goes can go without a look at it. */
bool stream_keeps_last(const struct stream *s, const struct staged_op *op);
/* What is kept of a message, but for its subject's number, place and ticket. r: as stored. */
void stream_describe(const struct stream *s, const struct record *r, struct staged_op *op);
/* The value of Nats-TTL. False: not valid. seconds: 0 none, -1 for ever. */
bool stream_parse_ttl(struct bytes value, int64_t *seconds);
/* The first sequence at or after that time, or the one behind the last. */
uint64_t stream_seq_at_time(const struct stream *s, int64_t time_ns);

/* The member "state" of STREAM.INFO, which may be long: by pieces (units of core/js/sieve). Numbers
 * are those of the first piece of stream_report_write; subjects and deleted sequences those that
 * are there as they are written. */
enum stream_report_part {
    STREAM_REPORT_HEAD,
    STREAM_REPORT_SUBJECTS,
    STREAM_REPORT_GAPS,
    STREAM_REPORT_DELETED,
    STREAM_REPORT_TAIL,
};
struct stream_report {
    /* Of the caller, behind stream_report_init. */
    bool has_deleted;             /* with the deleted and the lost sequences */
    struct bytes subjects_filter; /* empty, or which subjects to show; borrowed, valid */
    uint64_t offset;              /* from which on, at most STREAM_SUBJECTS_PAGE of them */
    /* Of its own. */
    enum stream_report_part part;
    struct subject_total total; /* what the filter selects */
    struct subject_index_rest rest;
    uint64_t at, deleted, seq_next, seq_last;
};
void stream_report_init(struct stream_report *q, struct mem *mem);
void stream_report_deinit(struct stream_report *q);
/* Fills total in; before the first stream_report_write. True: there is more, call again. */
NODISCARD bool stream_report_count(const struct stream *s, struct stream_report *q, uint32_t *left,
                                   enum err *e);
/* True: there is more, call again with the same w. */
NODISCARD bool stream_report_write(const struct stream *s, struct stream_report *q,
                                   struct json_write *w, uint32_t *left);
/* The plain one, at once. */
void stream_write_state(const struct stream *s, struct json_write *w);

#endif
