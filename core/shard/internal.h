/* What the files of core/shard tell each other. Not for anybody else. */
#ifndef CORE_SHARD_INTERNAL_H
#define CORE_SHARD_INTERNAL_H
#include "core/proto/nats_write.h"
#include "core/shard/shard.h"

enum {
    OUTBOX_LINE_MAX = 3 * 4096 + 128, /* a traced MSG line */
    STALL_NS = 2000000, /* R5b: a publisher waits for a receiver above 75 % of max_pending */
    STALL_FULL_NS = 5000000,
    STALL_PASS_NS = 10000000,  /* at most so much per read pass, for receivers */
    STUCK_NS = 1000000000,     /* who took no byte for so long is not waited for */
    VERBS_MAPPED_MAX = 8192,   /* a mapped subject */
    RELAY_JET_BYTES_MAX = 160, /* of a mail without texts: the sums of an account with their head.
                                  mail.c keeps so much free for each answer that is owed */
    RELAY_GROUPS_MAX = 128,    /* groups of one subject that are picked at random over shards, or
                                  fewer if their names are long (R3); the others go to this shard
                                  or to the first that has members */
};

struct message {
    struct shard_account *account;
    struct bytes subject;
    struct bytes reply;
    uint32_t header_bytes, total_bytes;
    bool has_headers;      /* was an HPUB: tail has two sizes */
    bool is_no_echo;       /* its publisher does not want its own messages */
    const char *payload;   /* headers, payload, CRLF */
    struct bytes tail;     /* as nats_op.tail; data NULL: must be built */
    struct block *block;   /* payload lies in it; NULL: copy */
    struct conn_id origin; /* its publisher on origin_shard; bits 0: the server itself */
    uint32_t origin_shard;
    struct bytes target; /* of a delivery of a stream: whose subscriptions get it; empty: subject */
};

/* The origin of deliveries of streams. */
#define MESSAGE_OF_STREAM ((struct conn_id){UINT64_MAX})

/* --- session: life and death of connections --- */
struct client *session_open(struct shard *s, const struct event *e); /* NULL: no memory */
void session_close(struct shard *s, struct client *c, enum closed_reason reason, bool flush);
/* io has let go of the slot. */
void session_gone(struct shard *s, struct client *c);
/* Sends line in order behind held PONGs; line is "-ERR '...'\r\n" or "+OK\r\n". */
void session_reply(struct shard *s, struct client *c, struct bytes line);
void session_error(struct shard *s, struct client *c, struct bytes line);
/* Sends at once, past held PONGs. */
void session_write(struct shard *s, struct client *c, struct bytes b);
/* Closes, as a slow consumer, who is owed an answer for which there is no memory: it would wait in
 * vain. */
void session_end_unanswered(struct shard *s, struct client *c);
void session_mark_dirty(struct shard *s, struct client *c);
void session_park(struct shard *s, struct client *c, enum park_reason reason);
void session_resume(struct shard *s, struct client *c);
void session_resume_all(struct shard *s, enum park_reason reason);
void session_reap(struct shard *s);
/* The next effect, to be filled in. Who makes many asks session_has_room first. */
struct effect *session_effect(struct shard *s, enum effect_kind kind, struct conn_id id);
/* False: what can wait waits for the next step, so that what cannot finds the reserve. */
bool session_has_room(const struct shard *s);
/* Tells io of closed connections for which an earlier step had no room. */
void session_tell_closed(struct shard *s);
void session_trace(struct shard *s, const struct client *c, struct bytes line);
/* What came in with a publish (c NULL: from the server itself), or went out with a delivery. */
void session_trace_payload(struct shard *s, const struct client *c, struct bytes payload,
                           uint32_t header_bytes, bool is_out);
bool session_logs(const struct shard *s, enum log_level level);
struct writer *session_log_open(struct shard *s, const struct client *c);
void session_log_close(struct shard *s, enum log_level level);
void session_log(struct shard *s, const struct client *c, enum log_level level, const char *text);
/* A sub entered the index. */
void session_added_sub(struct shard *s, struct client *c);
/* Dead at once; out of the index now, or soon when its writer is busy. */
void session_drop_sub(struct shard *s, struct client *c, uint32_t index);
void session_drop_all_subs(struct shard *s, struct client *c);
/* Tells whom it may concern that a subscription with this filter (empty: any) came or went. */
void session_interest_changed(struct shard *s, uint32_t account, struct bytes filter);
/* A sub that no connection has: dead at once, out of the index now or soon. */
void session_forget_sub(struct shard *s, uint32_t account, uint32_t index);
void session_retry_doomed(struct shard *s);
/* One that nobody of this shard has asked for yet. NULL: no memory, or the index is busy. */
struct shard_account *session_open_account(struct shard *s, uint32_t number);
static inline struct shard_account *session_account(struct shard *s, uint32_t number)
{
    struct shard_account *a = number < s->account_count ? s->accounts[number] : NULL;
    return a != NULL ? a : session_open_account(s, number);
}
void session_join_account(struct shard *s, struct client *c, struct shard_account *a);
void session_leave_account(struct shard *s, struct client *c);

/* Its login succeeded: it leaves the count of those that have not. */
void session_logged_in(struct shard *s, struct client *c);

/* --- entry: CONNECT to rights --- */
enum login_outcome { LOGIN_DONE, LOGIN_WAITS, LOGIN_CLOSED };
enum login_outcome entry_connect(struct shard *s, struct client *c, struct bytes json);
/* The first verb is no CONNECT though login is required: the no_auth_user, or nobody. */
enum login_outcome entry_implicit(struct shard *s, struct client *c);
void entry_crypto_done(struct shard *s, struct client *c, uint64_t ticket, bool is_valid);
void entry_permit(struct shard *s, struct client *c, bool is_granted);
void entry_abandon(struct shard *s, struct client *c);
/* After a reload: still allowed? Closes or narrows the connection. */
void entry_recheck(struct shard *s, struct client *c, const struct account_set *old);
/* Logins that a reload made stale and for which its step had no room. */
void entry_begin_owed(struct shard *s);
bool entry_open_without_login(struct shard *s, struct client *c);

/* --- verbs: the client protocol --- */
size_t verbs_bytes(struct shard *s, struct client *c, const char *data, size_t len);
void verbs_timer(struct shard *s, struct client *c);
void verbs_arm_ping(struct shard *s, struct client *c, bool is_first);
void verbs_send_info(struct shard *s, struct client *c, bool is_connect_info);
void verbs_pong(struct shard *s, struct client *c); /* PONG and, the first time, the second INFO */
bool verbs_may_deliver(struct shard *s, struct client *c, struct sub *sub, struct bytes subject);
void verbs_allow_reply(struct shard *s, struct client *c, struct bytes reply);
void verbs_recheck_subs(struct shard *s, struct client *c);

/* --- fanout: one message to everybody --- */
enum fanout_result {
    FANOUT_DELIVERED,
    FANOUT_NOBODY,
    FANOUT_PENDING, /* other shards will say (R9) */
    FANOUT_PARK,    /* nothing was delivered; park the publisher for *reason and try again */
};
/* token_for: the publisher, when it wants to hear of undelivered requests; else NULL. */
enum fanout_result fanout_publish(struct shard *s, const struct message *m,
                                  struct client *token_for, enum park_reason *reason);
/* The same for a message with a target. */
enum fanout_result fanout_publish_to(struct shard *s, const struct message *m,
                                     enum park_reason *reason);
struct jet_parts;
/* A delivery of a stream, where all is as usual: one plain subscriber of this shard who keeps up.
 * False: nothing happened, and it goes the way of other messages. */
bool fanout_deliver(struct shard *s, const struct jet_parts *d);
struct relay_order;
/* A message that came by mail. Returns whether somebody here took it. */
bool fanout_mailed(struct shard *s, const struct message *m, struct relay_order *o);
void fanout_no_responders(struct shard *s, struct client *c, struct bytes subject,
                          struct bytes reply);

/* --- relay: mail between shards --- */
/* What a message by mail asks of its target. */
struct relay_order {
    bool wants_plain;
    const struct bytes *groups; /* one member of each */
    uint32_t group_count;
    uint64_t tried;         /* shards that had no able member (R3) */
    uint32_t token, weight; /* R9: answers return the weight; each forward takes one of it along */
};

/* What a publish mails, decided before anything is delivered. */
struct relay_plan {
    uint64_t targets; /* shards that get mail */
    uint64_t sent_bytes;
    uint32_t token;
    struct block *copy; /* of a payload that is lent and lay in no block; NULL: none is needed */
    bool is_sent, has_failed;
    uint32_t group_count; /* picked for */
    uint64_t *failed;     /* bits of all groups of the route: no member here took it */
    uint64_t failed_few[RELAY_GROUPS_MAX / 64]; /* room for them, where there are no more */
    uint8_t pick[RELAY_GROUPS_MAX];
};

NODISCARD enum err relay_open(struct shard *s);
void relay_close(struct shard *s);
/* Picks shards for groups and makes sure of room in every lane, of a block for what is lent, of
 * bits for very many groups, and of a token. False: park; nothing is held. After true relay_send
 * must follow. */
bool relay_plan(struct shard *s, const struct message *m, const struct route *r,
                struct client *token_for, struct relay_plan *plan, enum park_reason *reason);
/* The shard that was picked for the group of this index in the route. UINT32_MAX: none was, and
 * this one takes it if it has members. */
uint32_t relay_picked(const struct relay_plan *plan, uint32_t group);
/* No member here took it: relay_send forwards it. */
void relay_plan_failed(struct relay_plan *plan, uint32_t group);
/* Writes the mails. Returns true when the publisher need not hear of the rest. */
bool relay_send(struct shard *s, const struct message *m, const struct route *r,
                struct relay_plan *plan, bool is_delivered);
/* No member here could take it: on to a shard that was not tried yet, if there is one. */
void relay_forward(struct shard *s, const struct message *m, const struct route_group *g,
                   struct relay_order *o);
void relay_congested(struct shard *s, uint32_t shard, struct conn_id publisher,
                     enum client_stall stall);
/* Closes a connection of any shard that is owed an answer for which there is no memory. */
void relay_end_client(struct shard *s, uint32_t shard, struct conn_id conn);
/* Consumes the mail of one sender; false: the outbox is nearly full, offer the rest again. */
bool relay_mail(struct shard *s, struct event *e);
/* Drains spilled mail, wakes publishers that wait for ring space or tokens. */
void relay_step(struct shard *s);
bool relay_is_due(const struct shard *s);       /* somebody could go on at once */
bool relay_wants_memory(const struct shard *s); /* to send what it owes: try again soon */
uint64_t relay_awaits(const struct shard *s, uint32_t target); /* a position in its lane; 0 none */
/* To the JetStream of another shard, jet_mail there. False: no memory. */
bool relay_jet(struct shard *s, uint32_t target, const void *body, uint32_t bytes);
/* The answer to a mail that is being consumed, of at most RELAY_JET_BYTES_MAX. */
void relay_jet_owed(struct shard *s, uint32_t target, const void *body, uint32_t bytes);
/* The same with texts: m->target is what jet_mail would get. */
bool relay_jet_message(struct shard *s, uint32_t target, const struct message *m);
/* It would go at once. */
bool relay_has_room(struct shard *s, uint32_t target, const struct message *m);
/* What was sent so far is on its way. */
bool relay_is_clear(struct shard *s, uint32_t target);
void relay_drop_tokens(struct shard *s, struct client *c);
uint64_t relay_position(const struct shard *s, uint32_t target); /* after all mail so far */
bool relay_is_reached(struct shard *s, uint32_t target, uint64_t position);

/* --- fence: PONGs behind the mail before them (R2b) --- */
void fence_ping(struct shard *s, struct client *c);
void fence_hold(struct shard *s, struct client *c, struct bytes line);
void fence_step(struct shard *s);
void fence_release_all(struct shard *s, struct client *c);
void fence_drop(struct shard *s, struct client *c);
bool fence_is_full(const struct client *c);
uint64_t fence_awaits(const struct shard *s, uint32_t target);

/* --- collect: snapshots for pages --- */
/* Everything but subscriptions; texts are borrowed from the connection. */
void collect_describe(const struct shard *s, const struct client *c, struct conn_snapshot *out);
NODISCARD enum err collect_open(struct shard *s);
void collect_close(struct shard *s);
void collect_closed(struct shard *s, const struct client *c);
void collect_snapshot(struct shard *s, const struct order *o);

/* --- jet: JetStream; core/shard/jet.h shows its parts --- */
/* Nothing without logs in config. ERR_MEMORY: jet_close is next. */
NODISCARD enum err jet_open(struct shard *s, const struct shard_config *config);
void jet_close(struct shard *s);
/* Accounts may have come. */
void jet_use_options(struct shard *s);
/* The server stops: whoever waits for messages asks again elsewhere, or later. */
void jet_tell_pullers(struct shard *s);
/* A message met a subscription of JetStream; inside a fan-out. False: it did not take it. */
bool jet_take(struct shard *s, const struct sub *sub, const struct message *m);
/* What became of records, at the start of a step; requests, deliveries, timers, at its end. Only
 * with JetStream. */
void jet_events(struct shard *s);
void jet_step(struct shard *s);
uint64_t jet_deadline_ns(const struct shard *s);
/* The position in the lane towards target that answers to requests wait for; 0 none (M4). */
uint64_t jet_api_awaits(const struct shard *s, uint32_t target);
/* A subscription with this filter came or went, on any shard. */
void jet_consumer_interest(struct shard *s, uint32_t account, struct bytes filter);
/* A receiver of a stream's deliveries on another shard is congested. */
void jet_congested(struct shard *s);
/* What another shard's JetStream sent. */
void jet_mail(struct shard *s, uint32_t sender, const char *body);
void jet_mail_message(struct shard *s, uint32_t sender, const struct message *m);

/* --- orders --- */
/* From now on these options. */
void orders_use_options(struct shard *s, const struct options *o);
void orders_run(struct shard *s, struct order *o);

/* --- pressure: what goes when the memory budget is short --- */
void pressure_step(struct shard *s);
/* Closes the connection with the most output waiting, to win memory (R5c). False: none has any. */
bool pressure_shed(struct shard *s);
/* Memory has been short for so long that waiting helps nobody: refuse what needs more. */
bool pressure_is_lasting(const struct shard *s);

/* --- system: the server's own messages --- */
/* A publish on $SYS.REQ.>: true when the server takes it for itself. */
bool system_takes(struct shard *s, struct client *c, const struct message *m);
/* Publishes the events of this step. */
void system_step(struct shard *s);
void system_drop(struct shard *s);
/* The account's mappings applied to *subject, into room. False: the message goes nowhere. */
bool system_map_subject(struct shard *s, const struct mapping_set *mappings, struct bytes *subject,
                        char *room, size_t room_bytes);
/* CRLF lies behind the payload, which begins with so many bytes of headers. */
void system_publish(struct shard *s, uint32_t account, struct bytes subject, struct bytes payload,
                    uint32_t header_bytes);
void system_connected(struct shard *s, struct client *c);
void system_disconnected(struct shard *s, struct client *c);
void system_auth_failed(struct shard *s, struct client *c, enum closed_reason reason);

#endif
