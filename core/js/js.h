/* JetStream of one log: its streams by account and name, where their records go, and requests on
 * them. A request that needs a record on disk, or a message from there, waits and is gone on with:
 *
 *   jsapi_run ──────> JS_REPLY: out holds the answer (jsapi_end is next in any case)
 *        │         └─> JS_SILENT: nobody is answered
 *        ├─> JS_WAIT_STORED: until request.ticket is durable or failed ──> jsapi_stored
 *        ├─> JS_WAIT_READ: until STORE_READ names request.read         ──> jsapi_read
 *        ├─> JS_WAIT_CLAIM: the directory is elsewhere, and is to be asked request.ask
 *        │                                                             ──> jsapi_claimed
 *        ├─> JS_WAIT_PAGE: other logs have streams of request.page     ──> jsapi_paged
 *        ├─> JS_ELSEWHERE: the stream lives in another log, which the directory names
 *        └─> JS_MORE: a long piece of work is not done: in another turn ──> jsapi_stored
 *
 * Requests that wait for tickets are gone on with in ticket order, and those with one ticket in the
 * order in which they came. jsapi_stored may say JS_WAIT_STORED again, perhaps with another ticket:
 * call it when that one is durable; if it is already, in the next turn.
 *
 * The caller keeps the request and its slices at their addresses until it ends. Stream and
 * configuration records go to the file store, those of memory streams too, though these end with
 * the process, as in nats-server. Consumers of memory streams, and those with mem_storage on limits
 * streams, leave no records at all.
 *
 * What spans the streams of all logs is in a directory: one's own where there is no other log, else
 * that of the server, which is NULL here where it belongs to another shard. request.notice then
 * says what it is to be told before the answer leaves. Owned by the shard; pure. */
#ifndef CORE_JS_JS_H
#define CORE_JS_JS_H
#include "core/base/list.h"
#include "core/base/store.h"
#include "core/base/table.h"
#include "core/js/consumer_set.h"
#include "core/js/damage.h"
#include "core/js/directory.h"
#include "core/js/memstore.h"
#include "core/js/publish.h"
#include "core/js/search.h"
#include "core/js/wake.h"

enum {
    JS_REPLY_BYTES_MAX = 64 * 1024 * 1024,
    JS_NAMES_PAGE = 1024,
    JS_LIST_PAGE = 256,
    JS_CONSUMERS_DEFAULT_MAX = 1000, /* of a stream, where nothing else is said */
    /* Of the budget, for what has more than its share: below MEM_SHORT_PERCENT, since what is in
     * flight comes on top, and who subscribes must find something left. */
    JS_SHORT_PERCENT = 70,
};

struct checkpoint_restore;
struct js_work;

struct js_stream {
    struct stream stream; /* first */
    struct js *js;
    struct bytes account_name; /* in the stream's own memory */
    struct quota *quota;       /* of its account */
    bool is_hidden;            /* its record is not durable yet */
    bool is_purging;           /* consumers are told of it all at once */
    uint32_t passed;           /* during a replay: number of the damage before its newest message */
    uint64_t create_ticket;    /* of its record, while it is hidden */
    struct consumer_feed feed;
    struct consumer_set consumers;
    struct wake wake;       /* of the consumers that wait for messages, see core/js/deliver */
    struct outlet *outlet;  /* of the consumers; at first one that drops what it gets */
    uint64_t messages_lost; /* during a replay: not found, for whichever reason */
    uint64_t config_hash;   /* during a replay: of the body of its newest STREAM record */
    struct checkpoint_restore *restore; /* while a checkpoint is loaded; NULL: none */
    void *owner;                        /* of whoever set js->hooks */
    struct list rolling;                /* in js->rolling, while a rollup or an ending goes on */
    struct js_work *ending;             /* of one that ends by itself or is about to; NULL: none */
    uint64_t ending_number;             /* of that one, while it waits to; 0: it does not */
    uint32_t sweeps;                    /* orders of consumers that go by pieces */
};

/* What the owner of js wants to hear, each NULL or called when it happens. */
struct js_hooks {
    void (*opened)(void *context, struct js_stream *s);  /* visible from now on; not at replay */
    void (*updated)(void *context, struct js_stream *s); /* its configuration is another one */
    void (*closing)(void *context, struct js_stream *s); /* about to be freed */
    /* A message is visible. */
    void (*stored)(void *context, struct js_stream *s, uint64_t seq, uint32_t node);
    /* The same of consumers. updated: anything that may let deliveries go on. closing comes for
     * those of a stream that goes, too, before the stream's own. */
    void (*consumer_opened)(void *context, struct js_stream *s, struct consumer *c);
    void (*consumer_updated)(void *context, struct js_stream *s, struct consumer *c);
    void (*consumer_closing)(void *context, struct js_stream *s, struct consumer *c);
    /* A message went that waited for its ack: consumers of the stream at max_ack_pending may have
     * room. */
    void (*consumer_room)(void *context, struct js_stream *s);
    /* It, or another one of its stream, is about to be reset: what it settled before is to be on
     * record, and to go. Anything but ERR_OK: it is not, and there is no reset. */
    enum err (*consumer_settling)(void *context, struct js_stream *s, struct consumer *c);
    /* It is about to be deleted: what it settled before is to be on record, if that can be. */
    void (*consumer_ending)(void *context, struct js_stream *s, struct consumer *c);
    /* A change of a consumer is about to be recorded: what all of its stream settled comes before
     * that. Anything but ERR_OK: it does not, and there is no change. */
    enum err (*consumers_saving)(void *context, struct js_stream *s);
    /* Some consumer settled this message by a record behind this one, or by none yet. */
    bool (*is_settled_behind)(void *context, const struct js_stream *s, uint64_t seq,
                              struct bytes subject, uint64_t ticket);
};

/* Limits of an account; -1: none. */
struct js_limits {
    int64_t max_memory, max_storage, max_streams, max_consumers, max_ack_pending;
    int64_t memory_max_stream_bytes, storage_max_stream_bytes;
    bool max_bytes_required;
};

enum { JS_CHECKPOINT_STEP = 16384 }; /* of core/js/checkpoint: a millisecond, or two */
struct checkpoint_writer;

struct js {
    struct mem *mem;
    struct store *file;
    struct memstore memory;
    struct consumer_live idle; /* of consumers that nobody uses */
    struct table streams;      /* of struct js_stream, by account and name */
    struct table ids;          /* the same by id */
    uint64_t id_next, id_step; /* ids of this log are id_next modulo id_step */
    uint64_t share_bytes; /* of the memory budget, for all of JetStream on all shards: beyond it
                             others come first when memory is short */
    uint32_t log;         /* its number */
    struct directory *directory; /* NULL: another shard has it */
    struct directory own;        /* of a log that is alone */
    uint64_t seed;               /* of the store */
    struct bytes domain, leader; /* may be empty; the server's name */
    int64_t duplicate_window_max;
    bool is_lenient;     /* strict: false */
    struct table quotas; /* struct quota, by account */
    struct quota total;  /* of all; the limits are the server's, set by the owner */
    uint64_t api_total, api_errors;
    uint64_t message_bytes_max;       /* max_payload; set before streams are added */
    struct rng rng;                   /* names of consumers */
    struct shard_time now;            /* of the start: what was replayed waits from here on */
    struct shard_time clock;          /* now, as the owner sets it at times: in each step, and
                                         before the store asks */
    bool is_damaged;                  /* the replay passed over something; set by the owner */
    struct damage damage;             /* of the replay so far, in the log itself */
    uint64_t told_ticket;             /* everything up to it was told as stored; of the owner */
    struct checkpoint_writer *writer; /* of the state that is being written; NULL: none */
    uint32_t checkpoint_step;         /* messages, gaps and ids of a piece; the owner may set it */
    uint32_t checkpoint_shift;        /* so often doubled, since too much went between two pieces */
    struct list rolling;   /* of struct js_stream: what nobody asked for goes by pieces */
    struct list ends;      /* of consumers, by the tickets of their records, which are in flight */
    struct list ends_lost; /* those whose records failed, and found no room again */
    /* Of the server, for consumers; 0: none. */
    int64_t max_ack_pending, max_batch, consumers_default_max;
    struct outlet silent;
    /* Account limits; context is the caller's. NULL: no limits. */
    void (*limits_of)(void *context, uint32_t account, struct js_limits *limits);
    bool (*is_on)(void *context, uint32_t account); /* NULL: in every account */
    void *context;
    /* What lies at this place was erased for good (file streams). NULL: nobody minds. */
    void (*scrub)(void *scrub_context, uint64_t place);
    void *scrub_context;
    const struct js_hooks *hooks; /* NULL: nobody listens */
    void *hooks_context;
};

/* A change of a stream that may touch millions of messages: by pieces, so that no other client has
 * to wait for it. The stream's order stays in flight meanwhile. All zero: none. */
struct js_work {
    bool is_begun, is_purge;
    bool is_sweep;   /* what no consumer needs goes, from seq on */
    bool has_order;  /* the stream's order in flight is this: a ticket may be that of others, too */
    bool is_counted; /* in the stream's sweeps */
    struct stream_trim trim;
    uint64_t seq, end; /* end: of js_consumer_end, or the reset of a consumer */
    uint64_t ticket;   /* of the end or the reset of a consumer: see consumer_set_needs */
    uint64_t behind;   /* what lies from here on came behind that: there all consumers count */
    struct stream_purge purge;
};

enum js_step {
    JS_REPLY,
    JS_SILENT,
    JS_WAIT_STORED,
    JS_WAIT_READ,
    JS_WAIT_CLAIM,
    JS_WAIT_PAGE,
    JS_ELSEWHERE,
    JS_MORE,
};
/* What the directory is told of request.stream_id. */
enum js_notice { JS_NOTICE_NONE, JS_NOTICE_DONE, JS_NOTICE_UNDONE, JS_NOTICE_GONE };

/* A page of a list of streams, by name: of other logs the texts are filled in by the owner. */
struct js_page_item {
    uint64_t stream;
    uint32_t log;
    struct bytes text; /* JSON; empty: it has gone */
};
struct js_page {
    uint64_t total, offset;
    uint32_t count;
    struct js_page_item *items; /* in the request's arena */
    bool is_failed;             /* there was no memory for some texts */
};

enum js_order {
    JS_ORDER_NONE,
    JS_ORDER_CREATE,
    JS_ORDER_UPDATE,
    JS_ORDER_DELETE,
    JS_ORDER_KEEP, /* none yet: what a purge keeps is looked for, and then it becomes one */
    JS_ORDER_PURGE,
    JS_ORDER_ERASE,
    JS_ORDER_READ,  /* none: a reading that is not done */
    JS_ORDER_AGAIN, /* another order comes first; then the request is run again */
    JS_ORDER_CONSUMER_CREATE,
    JS_ORDER_CONSUMER_UPDATE,
    JS_ORDER_CONSUMER_DELETE,
    JS_ORDER_CONSUMER_PAUSE,
    JS_ORDER_CONSUMER_HOLD, /* none yet: publishes in flight come before the reset */
    JS_ORDER_CONSUMER_RESET,
};
enum js_action {
    JS_ACTION_NONE,
    JS_ACTION_CREATED,
    JS_ACTION_UPDATED,
    JS_ACTION_DELETED,
    JS_ACTION_CONSUMER_CREATED,
    JS_ACTION_CONSUMER_DELETED,
    JS_ACTION_CONSUMER_PAUSED, /* or resumed: pause_until_ns says it */
};

/* A request that only reads, and goes by pieces: STREAM.INFO, or STREAM.MSG.GET. */
struct js_reading {
    bool is_info, is_last; /* is_last: the last message of a subject is searched */
    bool is_begun;         /* INFO: writer holds the first part */
    struct json_write writer;
    struct stream_report state;
    struct search search;
    uint64_t seq; /* where the search goes on */
};

struct js_request {
    /* Of the caller. */
    uint32_t account;
    struct bytes account_name, subject, headers, body;
    struct text *out;
    int64_t now_ns;            /* wall */
    uint64_t mono_ns;          /* the same moment */
    void *context;             /* becomes that of read */
    const struct quota *usage; /* INFO: of the account in all logs; NULL: there is only this one */
    /* Of js. */
    struct arena arena;
    enum js_order order;
    enum js_action action; /* an advisory to send with the reply, of what is named below */
    bool is_error;
    struct bytes stream_name, consumer_name;
    int64_t pause_until_ns; /* 0: resumed */
    uint64_t stream_id, consumer_number;
    struct consumer_request *consumer;
    uint64_t ticket;
    struct store_read read;
    struct stream_config_request config;
    struct directory_ask ask; /* slices are the request's own */
    enum directory_verdict claim;
    bool is_claim_done;
    enum js_notice notice;
    struct js_page page;
    uint64_t seq, keep;
    struct bytes filter;
    bool is_secure, no_headers;
    struct js_work work;
    enum err failure; /* of the record of a consumer that was to be made, while work goes on */
    struct js_reading *reading; /* in the arena; NULL: none */
    struct bytes before;        /* of a reset: what the consumer was; in the arena */
};

/* The message of a request that erases it for good: where it lies now is told. */
void js_scrub(const struct js_stream *s, uint64_t seq);
void js_init(struct js *js, struct mem *mem, struct store *file, uint64_t seed,
             uint64_t memory_bytes_max);
void js_deinit(struct js *js);

/* Nothing that stays may grow now (10023): the memory budget is nearly full, and JetStream has more
 * than its share. Who has no part in it must be served on, and what makes room
 * again must work. */
bool js_is_short(const struct js *js);

/* The log that a new stream goes to, of so many. */
uint32_t js_place(struct bytes account_name, struct bytes name, uint32_t log_count);
/* What the directory here says to a claim, of whichever log. */
enum directory_verdict js_claim(struct js *js, const struct directory_ask *a);
/* Its streams into a directory, at a start. What has the name of one that is there already is not
 * served, and counted in *refused. ERR_MEMORY, ERR_FULL. */
NODISCARD enum err js_enter(struct js *js, struct directory *d, uint32_t *refused);
/* NULL: there is none (or its creation is not durable yet and hidden is false). */
struct js_stream *js_find(struct js *js, uint32_t account, struct bytes name, bool hidden);
/* Every stream, in no order: *at starts at 0. NULL at the end. */
struct js_stream *js_each(const struct js *js, uint32_t *at);
/* Takes the stream out and frees it. */
void js_drop(struct js *js, struct js_stream *s);
/* A new hidden stream. ERR_MEMORY. */
NODISCARD enum err js_add(struct js *js, uint32_t account, struct bytes account_name,
                          const struct stream_config *c, uint64_t id, int64_t created_ns,
                          struct js_stream **out);
/* Its configuration becomes this one. ERR_MEMORY: the old one stands. Then js_work_step. */
NODISCARD enum err js_update(struct js_stream *s, const struct stream_config *c, struct js_work *w);
/* As stream_purge_begin, and consumers know of it in the end. Then js_work_step. */
void js_purge(struct js_stream *s, struct bytes filter, uint64_t seq, uint64_t keep,
              struct js_work *w);
/* The next piece of what was begun. True: there is more, in another turn. */
NODISCARD bool js_work_step(struct js_stream *s, struct js_work *w);
/* Gives its memory back, done or not. */
void js_work_end(struct js_work *w);
/* The store of the stream's messages. */
struct store *js_store_of(struct js *js, const struct js_stream *s);
/* Of an account that JetStream was asked about before; NULL: none. */
struct quota *js_quota_of(const struct js *js, uint32_t account);
/* The same, made if there is none. NULL: out of memory. */
struct quota *js_quota_make(struct js *js, uint32_t account);
/* What limits_of says is another thing now. */
void js_limits_changed(struct js *js);
/* The stream that was hidden is there. */
void js_show(struct js *js, struct js_stream *s);
void js_limits_of(const struct js *js, uint32_t account, struct js_limits *limits);

/* The record that makes or changes a stream; the text holds its body. False: out of memory. */
NODISCARD bool js_config_record(const struct stream_config *c, int64_t created_ns,
                                struct text *body);
/* A record of the log at start. account: the number of the name in RECORD_STREAM (callers look
 * it up before). ERR_CORRUPT: it makes no sense; the rest can still be replayed. */
NODISCARD enum err js_replay(struct js *js, uint32_t account, const struct record *r,
                             uint64_t place);
/* The replay passes over this range. */
void js_replay_lost(struct js *js, const struct store_lost *lost);
/* The message cannot be read any more, nor can what else lies in so many bytes. */
void js_read_lost(struct js_stream *s, uint64_t seq, uint64_t bytes);
/* Such a record comes soon. */
void js_expect(const struct js *js, uint64_t id, enum store_nearness nearness);
/* Its records are kept: it survives a restart. */
bool js_consumer_is_kept(const struct js_stream *s, const struct consumer *c);
/* The consumer, which may be hidden, is there. */
void js_consumer_show(struct js_stream *s, struct consumer *c);
/* The body of its record, whose subject is the name (not in the body: it may be any bytes).
 * False: out of memory. */
NODISCARD bool js_consumer_record(const struct consumer_config *c, int64_t created_ns,
                                  struct text *body);
/* The consumer ends, inactive for too long; ticket is that of the record which says so. Where
 * messages of an interest stream are in flight it ends behind them (js_roll), and ticket is 0. What
 * it alone wanted goes by pieces (js_roll). Should its record be refused then, it stays, and
 * consumer_updated is called. ERR_BUSY: not now, see js_may_delete. ERR_MEMORY. As store_append:
 * nothing has happened then. A record that fails is written again: see js_ends_failed. */
NODISCARD enum err js_consumer_delete(struct js *js, struct js_stream *s, struct consumer *c,
                                      int64_t now_ns, uint64_t *ticket);
/* The records of such ends are durable up to this ticket. */
void js_ends_stored(struct js *js, uint64_t ticket);
/* From this one on they failed, and wait for js_ends_again: while the log tells of a failure it
 * takes no record. */
void js_ends_failed(struct js *js, uint64_t ticket);
/* Writes those that wait, if there are any; to be called before clients publish anything: what
 * comes behind is not to find the consumers there at a start. */
void js_ends_again(struct js *js);
/* Takes it out and frees it; its record is durable. Whoever waits for messages is told so, and an
 * interest stream forgets what it alone wanted. */
void js_consumer_drop(struct js *js, struct js_stream *s, struct consumer *c);
/* The same, but what it alone wanted goes by pieces: js_consumer_end_step until that says false.
 * ticket: of its last record; 0 none. Who was created behind that wants nothing of it, but of what
 * lies from behind on: the first sequence that came after it. */
void js_consumer_end(struct js *js, struct js_stream *s, struct consumer *c, uint64_t ticket,
                     uint64_t behind, struct js_work *w);
NODISCARD bool js_consumer_end_step(struct js_stream *s, struct js_work *w);
/* Its configuration becomes this one, which may. What an interest stream kept for its filters alone
 * goes where they are others now: js_consumer_end_step, as above. ERR_MEMORY: nothing changed. */
NODISCARD enum err js_consumer_update(struct js_stream *s, struct consumer *c,
                                      const struct consumer_config *config, struct shard_time now,
                                      uint64_t ticket, uint64_t behind, struct js_work *w);
/* No: that of another one is not through, or an order of the stream is in flight, or one of a
 * consumer, which may come to want what is to go. */
bool js_may_delete(const struct js_stream *s);
/* What goes by pieces without a request: a piece can be done now. */
bool js_is_rolling(const struct js *js);
/* The next piece of it, of one stream. */
void js_roll(struct js *js);
/* This PROGRESS record of a consumer is durable: work queue and interest streams drop what it says
 * is settled and nobody else needs, of those that were there before it. ticket: its own; 0: all are
 * that. */
void js_progress_stored(struct js *js, struct js_stream *s, const struct consumer *c,
                        struct bytes body, uint64_t ticket);
/* The consumer of an interest stream was reset, durably: the next piece of what lies before w->end
 * goes, where nobody else needs it. True: there is more. w is all zero at first, but for end and
 * ticket. */
NODISCARD bool js_reset_step(struct js_stream *s, const struct consumer *c, struct js_work *w);
/* No stream gets this id or a lower one. */
void js_reserve_ids(struct js *js, uint64_t id);
/* The log is at its end: what lived in memory is gone. Behind what damage may have taken of a
 * stream's end, it goes on with sequences that nobody can have had. */
void js_replay_end(struct js *js);
/* By its id; NULL none. */
struct js_stream *js_find_id(const struct js *js, uint64_t id);

#endif
