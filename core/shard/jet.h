/* JetStream of one log: how core/js meets clients, mail and the durable log. What the files
 * core/shard/jet*.c tell each other; not for anybody else, but for pages that show streams.
 *
 * A stream lives in one log, a log is served by one shard, and a shard serves one log: more than
 * one only after the number of shards became smaller. s->jet is the one that is at work.
 *
 * A stream's subjects, $JS.API.>, $JS.ACK.> and direct gets are subscriptions like any other, of an
 * owner that is no connection: sub->owner is `inside` and CLIENT_SUB_FLAG_INTERNAL is set, the sid
 * says what it is for (struct jet_sub). So a message reaches a stream by the ordinary route, from
 * any shard, and costs nothing where no such subscription is. $JS.API.> is shard 0's, which knows
 * where each stream lives (core/js/directory) and hands requests on by mail (core/shard/jet_mail).
 *
 *   jet_take, inside a fan-out: a publish is checked and appended there and then; everything else
 *       is copied into `inbox` and looked at in jet_step, since its answer needs a fan-out.
 *   jet_events, at the start of a step: what became durable is answered.
 *   jet_step, at its end: requests, deliveries, timers.
 *
 * J1 An answer that says "stored" is made from STORED events only.
 * J2 Answers leave in the order of tickets.
 * J3 What finds no room on its way to a client waits in `out`, in order; while something waits
 *    there no stream delivers. The server does not park.
 * J4 Who asked is answered. What finds no memory waits for it, or says so (10023, or a status); if
 *    not even that finds any, the connection that asked is closed. */
#ifndef CORE_SHARD_JET_H
#define CORE_SHARD_JET_H
#include "core/base/store.h"
#include "core/js/deliver.h"
#include "core/js/direct.h"
#include "core/js/jsapi.h"
#include "core/shard/internal.h"

enum {
    JET_RETRY_NS = 1000000,            /* a busy index, a full mail ring, no memory: look again */
    JET_HELD_BYTES_MAX = 16 << 20,     /* publishes of one stream that wait for an order of it, or
                                          for room in the log */
    JET_FORWARDS_MAX = 10000,          /* API requests that wait for room in another shard's ring */
    JET_FORWARDS_BYTES_MAX = 64 << 20, /* and what they take: each may be as large as a message */
    JET_INBOX_BYTES_MAX = 64 << 20,    /* of requests that were not looked at yet */
    JET_OUT_BYTES_MAX = 1 << 20, /* while more waits to leave, nothing is begun that is answered */
    JET_LOG_ANY = UINT16_MAX,    /* the directory is to say which */
    JET_DIRECTORY_SHARD = 0,
    JET_ACK_BODY_MAX =
        4096,            /* of the answer to a publish: an error with its description, escaped */
    JET_ACK_DIGITS = 21, /* of a sequence, and the brace behind it */
};

/* An answer for which there is no memory. */
#define JET_NO_MEMORY                                                                              \
    "{\"type\":\"io.nats.jetstream.api.v1.system_response\",\"error\":{\"code\":503,"              \
    "\"err_code\":10023,\"description\":\"insufficient resources\"}}"
#define JET_DIRECT_NO_MEMORY "NATS/1.0 503 Insufficient Resources\r\n\r\n"
#define JET_DIRECT_GET "$JS.API.DIRECT.GET."
#define JET_MSG_NEXT "$JS.API.CONSUMER.MSG.NEXT."

enum jet_sub_kind {
    JET_SUB_PUBLISH = 1, /* a subject of the stream */
    JET_SUB_API,         /* $JS.API.>, no stream; of the shard with the directory */
    JET_SUB_DIRECT,      /* $JS.API.DIRECT.GET.<stream>[.>] */
    JET_SUB_NEXT,        /* $JS.API.CONSUMER.MSG.NEXT.<stream>.* */
    JET_SUB_ACK,         /* $JS.ACK.<stream>.> and its longer form */
    JET_SUB_FLOW,        /* $JS.FC.<stream>.> */
    JET_SUB_ROUTED,      /* no subscription: a request on the API that was handed on to this log */
};

/* The sid of an internal subscription. */
struct jet_sub {
    uint8_t kind;
    struct jet_stream *stream; /* NULL: of no stream */
} __attribute__((packed));

/* A message of the server itself, borrowed in pieces; each may be empty but the subject. */
struct jet_parts {
    uint32_t account;
    struct bytes target; /* of a delivery: whose subscriptions get it; empty: the subject's */
    struct bytes subject, reply;
    struct bytes headers; /* a whole block */
    struct bytes body;
};

/* Entries one behind the other in chunks, each a multiple of 8 bytes that starts with its size. */
struct jet_queue {
    struct jet_chunk *first, *last; /* NULL: it has no memory */
    uint64_t count, bytes;          /* of entries that wait */
};

/* A publish that was answered or will be. */
struct jet_ack {
    uint32_t bytes; /* of this entry; first */
    uint32_t account;
    uint64_t ticket;
    uint64_t seq;
    struct jet_stream *stream; /* NULL: it has gone */
    uint16_t reply_len;
    bool is_success; /* the body is the stream's head and seq; else body_len bytes of it follow */
    uint32_t header_len, body_len;
    /* reply, headers, body */
};

/* A message that waits: in the inbox, in a stream's held queue, or in out. */
struct jet_message {
    uint32_t bytes; /* first */
    uint32_t account;
    struct jet_stream *stream; /* NULL: none, or it has gone */
    uint8_t kind;
    bool is_no_echo;
    uint16_t subject_len, reply_len, target_len; /* target: of a delivery */
    uint32_t header_len, total_len;
    uint32_t origin_shard; /* of what came from a client: whose it is */
    struct conn_id origin;
    /* target, subject, reply, headers and payload, CRLF */
};

struct jet_stream {
    struct outlet outlet; /* of its consumers; first */
    struct js_stream *s;
    struct jet *jet;
    struct list all;    /* of the jet */
    struct list staged; /* in jet->staged while records of it are in flight */
    struct list held_link;
    struct list unsubscribed; /* some of its subscriptions are not in the index yet */
    struct wheel_timer timer; /* expiry */
    uint64_t marker_ns;       /* no delete marker is stored before: the last one was refused */
    struct jet_queue held;    /* publishes that wait for an order, or for room in the log */
    uint32_t *subs;           /* [sub_count] */
    uint32_t sub_count, sub_room;
    /* It had a consumer, or one with flow control, in this run: from then on it hears what is sent
     * to them. */
    bool has_consumers, has_flow;
    char *ack_head; /* {"stream":"..","seq": */
    uint32_t ack_head_len;
};

/* Who waits for a read of the store. */
struct jet_reader {
    void (*done)(struct shard *s, struct jet_reader *r, enum err e, const struct record *record);
};

/* A request on the API. */
struct jet_request {
    struct jet_reader reader; /* first */
    struct list link;
    struct js_request r;
    struct text out;
    struct bytes reply;
    struct conn_id origin;
    uint32_t origin_shard;
    size_t bytes; /* of this block, texts included */
    /* While it waits for other shards. */
    uint64_t token;
    uint32_t owed; /* answers */
    enum directory_verdict verdict;
    enum js_step wait;
    struct quota usage; /* the sum so far */
    size_t page_bytes;
    uint64_t done_ns;    /* it waits only for the stream's subscriptions, since then; 0: not */
    bool is_told;        /* its notice is sent */
    uint64_t told_until; /* and is read when the directory's shard has come to here; 0: not yet */
    /* Others of the stream come behind it. */
    uint64_t about; /* hash of the account and the stream */
    bool is_first;
    bool is_reading; /* STREAM.INFO and the like */
};

struct jet {
    struct shard *shard;
    struct js *js;
    uint32_t log;
    struct shard_store port;
    struct client inside; /* owner of the internal subscriptions */
    struct wheel wheel;   /* of streams and consumers */
    struct list streams, staged, held, unsubscribed;
    struct jet_queue acks;  /* of publishes, in the order of tickets */
    struct jet_queue ready; /* those that wait for nothing */
    struct jet_queue inbox;
    struct jet_queue out;
    struct jet_queue interest; /* filters of subscriptions that came or went */
    struct deliver deliver;
    struct list requests;    /* wait for a ticket, in its order */
    struct list reading;     /* wait for a read */
    struct list working;     /* take more than one turn */
    struct list directs;     /* direct gets that wait for a read */
    struct list direct_work; /* and those that wait for another turn */
    struct list direct_rest; /* or for a receiver that reads slowly */
    struct list direct_dry;  /* or for memory */
    struct list asking;      /* requests that wait for other shards' answers */
    struct list answered;    /* and have them */
    struct list behind;      /* requests about a stream of which another one asks first */
    struct table firsts;     /* those others, by stream */
    struct list telling;     /* their answers wait until the directory was told */
    uint64_t last_token;
    bool has_released;            /* a first one has gone on: others may */
    struct jet_queue forwards;    /* requests for other shards whose rings are full */
    uint32_t request_count[2];    /* that are not answered; of those that only read: [1] */
    uint64_t requests_dropped[2]; /* nobody was told of them yet */
    uint64_t dropped_told_ns;
    uint64_t stored_ticket; /* everything up to it is durable */
    uint64_t timed_ticket;  /* a record in flight whose way to the disk is timed; 0 none */
    uint64_t timed_ns;      /* since when */
    uint32_t *api_subs;     /* [api_count] by account number; 0 none */
    uint32_t api_count;
    bool is_unsettled;   /* what is stored has no memory yet, or has to wait for an order */
    bool is_read_only;   /* said once in the log */
    bool waits_for_room; /* held publishes do, until the store tells what became of a record */
    bool has_more;       /* something was left for the next step */
    bool wants_accounts; /* an account may have no subscription of the API yet */
    bool is_from_store;  /* a message that lies in the store's memory is being sent */
    uint64_t full_logged_ns, lost_logged_ns, account_full_logged_ns, server_full_logged_ns;
    uint64_t rests_until_ns; /* a receiver on another shard is congested: no deliveries before */
    bool is_interest_lost;   /* of a change nobody knows which: all are to be looked at */
    bool is_congested;       /* a receiver of the last message is (R5b) */
    char *scratch;           /* of one message that is put together */
    size_t scratch_bytes;
    struct writer work; /* of publish_check */
    struct stream_outcome outcome;
};

/* --- queues --- */
/* Room for an entry of so many bytes, which are set in it; NULL: no memory. Not counted before
 * jet_queue_add. An entry stays where it is until it is popped. */
void *jet_queue_room(struct shard *s, struct jet_queue *q, size_t bytes);
/* A message whose texts have so many bytes will find room. False: no memory. */
bool jet_queue_reserve(struct shard *s, struct jet_queue *q, size_t bytes);
void jet_queue_add(struct jet_queue *q);
void *jet_queue_first(const struct jet_queue *q);
void jet_queue_pop(struct shard *s, struct jet_queue *q);
/* Each entry, first to last. */
void jet_queue_each(const struct jet_queue *q, void (*look)(void *entry, const void *context),
                    const void *context);
void jet_queue_free(struct shard *s, struct jet_queue *q);
/* Copies a message of the server itself; of head only what parts does not say is looked at. headers
 * may be the beginning of a body in one piece (head->header_len). ERR_MEMORY. */
NODISCARD enum err jet_queue_parts(struct shard *s, struct jet_queue *q,
                                   const struct jet_message *head, const struct jet_parts *parts);
/* Copies a message. ERR_MEMORY. */
NODISCARD enum err jet_queue_message(struct shard *s, struct jet_queue *q, uint8_t kind,
                                     struct jet_stream *stream, const struct message *m);
/* It as a message of the fan-out. */
bool jet_queue_read(struct shard *s, const struct jet_message *e, struct message *m);

/* --- sending --- */
/* Publishes it now if it can; what has to wait is copied into `out`. A message for which that finds
 * no memory, also when nobody has much output left to be closed for, is lost: that is counted and
 * logged (false). */
bool jet_send(struct shard *s, const struct jet_parts *p);
/* As jet_send, without copying where possible: headers and body lie in the store's memory. */
bool jet_send_stored(struct shard *s, const struct jet_parts *p);
/* From inside a change of streams or consumers, which no message may meet half done: it leaves with
 * the next jet_send_waiting. False: as above. */
bool jet_send_later(struct shard *s, const struct jet_parts *p);
/* What waits in `out`, in order, until one finds no room. */
void jet_send_waiting(struct shard *s);
/* So much waits there that nothing is to be begun that is answered. */
bool jet_send_is_full(const struct jet *j);
/* There is no memory for what was sent to a subscription of this kind, or none is to be used, or
 * the stream has gone meanwhile: who sent it is told (J4). */
void jet_send_refusal(struct shard *s, enum jet_sub_kind kind, const struct message *m);

/* --- consumers --- */
void jet_consumer_open(struct shard *s);
void jet_consumer_init_outlet(struct jet_stream *x);
/* Is there a consumer of that name, at the end of subject? */
bool jet_consumer_exists(const struct jet_stream *x, struct bytes subject);
/* Or does the ack subject name none that is not there, or takes no acks? */
bool jet_consumer_takes_ack(const struct jet_stream *x, struct bytes subject);
void jet_consumer_pull(struct shard *s, struct jet_stream *x, const struct message *m);
void jet_consumer_ack(struct shard *s, struct jet_stream *x, const struct message *m);
void jet_consumer_flow(struct shard *s, struct jet_stream *x, const struct message *m);
void jet_consumer_step(struct shard *s);

/* --- advisories --- */
void jet_advisory_event(struct jet_stream *x, const struct outlet_event *e);
/* About to be freed. */
void jet_advisory_consumer_gone(struct shard *s, const struct js_stream *stream,
                                const struct consumer *c);
/* So many requests of one queue were dropped. */
void jet_advisory_dropped(struct shard *s, uint64_t count);
/* A request that was answered. */
struct jet_audit {
    uint32_t account;
    struct bytes subject, request, response;
    struct conn_id origin; /* as of its message */
    uint32_t origin_shard;
};
void jet_advisory_audit(struct shard *s, const struct jet_audit *audit);
/* The request was answered; origin: as of its message. */
void jet_advisory_request(struct shard *s, const struct js_request *r, struct conn_id origin,
                          uint32_t origin_shard);

/* --- subscriptions --- */
/* What the internal subscription is for. */
struct jet_sub jet_subs_what(const struct sub *sub);
/* Puts what is owed into the index. A stream that is new or was changed is in `unsubscribed`. */
void jet_subs_step(struct shard *s);
bool jet_subs_is_due(const struct jet *j); /* something is owed */
/* From its first consumer on, or the first with flow control; they are owed until jet_subs_step. */
void jet_subs_for_consumer(struct shard *s, struct jet_stream *x, const struct consumer *c);
/* Accounts may have come. */
void jet_subs_look_again(struct jet *j);
/* The stream goes: its subscriptions are dead at once. */
void jet_subs_forget(struct shard *s, struct jet_stream *x);
void jet_subs_free(struct shard *s, struct jet_stream *x);
/* Those of accounts. */
void jet_subs_close(struct shard *s);

/* --- publishes --- */
/* A publish that reached the stream. */
void jet_publish_take(struct shard *s, struct jet_stream *x, const struct message *m);
void jet_publish_stored(struct shard *s, uint64_t ticket);
/* Makes what is durable visible; behind the requests, which may need the state between. */
void jet_publish_settle(struct shard *s, uint64_t ticket);
/* The same for what found no memory then. */
void jet_publish_settle_again(struct shard *s);
void jet_publish_failed(struct shard *s, uint64_t ticket, enum err e);
/* Its publisher waits a little before it sends more (R5b). */
void jet_publish_slow_down(struct shard *s, const struct message *m);
/* Publishes that waited for an order, delete markers that are due. */
void jet_publish_step(struct shard *s);
/* Some could go on: jet_publish_step again. */
bool jet_publish_is_due(const struct jet *j);
/* Records of it are in flight. */
void jet_publish_staged(struct jet_stream *x);
/* Its timer went off. */
void jet_publish_expire(struct shard *s, struct jet_stream *x);
void jet_publish_arm(struct shard *s, struct jet_stream *x);
void jet_publish_forget(struct shard *s, struct jet_stream *x);

/* --- requests --- */
/* From a client: to the log that it is about. Of the shard with the directory. */
void jet_api_route(struct shard *s, const struct message *m);
/* In this log. */
void jet_api_request(struct shard *s, const struct message *m);
/* Those that other shards answered, or that could not be handed on before. */
void jet_api_step(struct shard *s);
/* Tells of requests that were dropped, once in a while. */
void jet_api_tell_dropped(struct shard *s);
/* When to call it again: now, or later; UINT64_MAX: there is nothing to tell. */
uint64_t jet_api_tell_ns(const struct jet *j);
/* The next piece of a request, and of a direct get, that is done by pieces: one in a turn. */
void jet_api_work(struct shard *s);
/* What it takes of this turn's time is taken off *left (units of core/js/sieve). */
void jet_api_direct(struct shard *s, struct jet_stream *x, const struct message *m, uint32_t *left);
/* STORED (ERR_OK) up to the ticket, or FAILED from it on. */
void jet_api_stored(struct shard *s, uint64_t ticket);
/* One found no memory, or waits for another that has ended: jet_api_stored again. */
bool jet_api_is_due(const struct jet *j);
void jet_api_run_due(struct shard *s);
void jet_api_failed(struct shard *s, uint64_t ticket, enum err e);
/* Behind what consumers lost: those that waited for what failed are run again. */
void jet_api_go_on(struct shard *s);
/* The stream goes. */
void jet_api_forget(struct shard *s, const struct jet_stream *x);
void jet_api_close(struct shard *s);

/* --- between shards --- */
/* The JetStream of the log, if this shard serves it; NULL: it does not. */
struct jet *jet_of_log(struct shard *s, uint32_t log);
/* Asks, or tells the directory. False: no memory. */
NODISCARD bool jet_mail_claim(struct shard *s, struct jet_request *q);
NODISCARD bool jet_mail_notice(struct shard *s, const struct jet_request *q);
/* Other shards' sums of the account, or texts of the page: q->owed is the number of answers. */
NODISCARD bool jet_mail_usage(struct shard *s, struct jet_request *q);
NODISCARD bool jet_mail_page(struct shard *s, struct jet_request *q);
/* Sums of used bytes that changed. */
NODISCARD bool jet_mail_used(struct shard *s, uint32_t shard, uint32_t account, uint64_t memory,
                             uint64_t storage);
/* Has the client's own shard tell of its request. False: not now, or no memory. */
NODISCARD bool jet_mail_audit(struct shard *s, const struct jet_audit *audit);
/* Hands a request on. False: not now, or no memory. */
NODISCARD bool jet_mail_request(struct shard *s, uint32_t shard, uint32_t log,
                                const struct message *m);

/* --- used bytes over all shards --- */
#define JET_SHARE_OF_SERVER UINT32_MAX
/* At the end of a step: tells the others what changed, a piece of it. */
void jet_share_step(struct shard *s);
/* Other limits: what nobody wanted to know before may count now. */
void jet_share_look_again(struct shard *s);
/* Another shard's sums, or of all accounts of it (JET_SHARE_OF_SERVER). Without memory they do not
 * count until it tells them again. */
void jet_share_told(struct shard *s, uint32_t sender, uint32_t account, uint64_t memory,
                    uint64_t storage);
/* The account has a quota here now. */
void jet_share_apply(struct shard *s, uint32_t account);
/* Frees what was told. */
void jet_share_close(struct shard *s);

#endif
