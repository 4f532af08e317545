/* A shard: its connections, its view of the accounts, its route cache and its mail, and the step
 * that drives them. Everything here belongs to one thread; what shards share is the interest
 * index, the options object and the mail rings.
 *
 * shard_step takes events and answers with effects and with a list of connections that have
 * output. A turn of io (io/turn) is: reap completions, step, carry out effects, flush outputs,
 * publish mail, wait. Rules R1 to R9 and M1 to M4 of docs/ARCHITECTURE.md are kept here:
 * fanout (R1, R3, R5, R8, R9), verbs (R2), fence (R2b), relay (M1, M2, forwards). */
#ifndef CORE_SHARD_SHARD_H
#define CORE_SHARD_SHARD_H
#include "core/base/effect.h"
#include "core/base/rng.h"
#include "core/client/client.h"
#include "core/config/options.h"
#include "core/monitor/snapshot.h"
#include "core/route/route_cache.h"

/* What is the same for the life of the process; shared and read-only. */
struct server_facts {
    struct bytes id;      /* public nkey, N... */
    struct bytes name;    /* of the options or the id */
    struct bytes version; /* of the protocol that we speak: "2.15.2" */
    struct bytes go;      /* INFO's "go" */
    struct bytes xkey;
    struct bytes host; /* as INFO says */
    int port;          /* the real one */
    int64_t start_wall_ns;
};

/* Orders of the operator (reload, lame duck, snapshots, internal messages). io hands one object
 * to every shard it concerns and waits until all are done with it. */
enum order_kind {
    ORDER_OPTIONS,    /* from now on these options */
    ORDER_LAME_DUCK,  /* tell every client; no more are accepted */
    ORDER_CLOSE_SOME, /* lame duck: close up to count clients */
    ORDER_STOPPING,   /* the shutdown comes: pull requests that wait are told */
    ORDER_SHUTDOWN,   /* close everything */
    ORDER_SNAPSHOT,   /* fill snapshot[shard] as query asks */
    ORDER_SNAPSHOT_FREE,
    ORDER_PUBLISH, /* an internal message of the server (events, answers to $SYS requests) */
    ORDER_KICK,    /* close connection cid */
    ORDER_LDM_ONE, /* tell connection cid alone that the server is in lame duck mode */
};

struct order {
    enum order_kind kind;
    const struct options *options;
    const struct page_query *query;
    struct shard_snapshot **snapshots; /* [shards]; each shard writes its own entry */
    uint32_t account;
    struct bytes subject, payload;      /* CRLF lies behind the payload */
    uint32_t header_bytes;              /* of the payload */
    uint64_t cid;
    bool tells_info;                    /* OPTIONS: clients get a new INFO */
    bool checks_pins; /* OPTIONS: who shows no pinned certificate any more is closed */
    enum closed_reason reason;          /* CLOSE_SOME: CLOSED_NONE is the shutdown */
    uint32_t count;                     /* CLOSE_SOME: how many; set to how many are left */
    uint32_t left[INTEREST_SHARDS_MAX]; /* CLOSE_SOME: clients left, per shard */
    bool found;                         /* KICK, LDM_ONE: by the shard that has it */
    uint32_t waiting;                   /* of io: shards not done yet */
    struct options *replaced;           /* of io: OPTIONS: go when all shards are done */
    struct order *next;                 /* of io: given up, not done (io/server) */
    struct order *behind[INTEREST_SHARDS_MAX]; /* of io: the next one in each shard's queue */
};

/* One account as this shard sees it. Never freed while the shard lives. */
struct shard_account {
    uint32_t number;
    const struct account *conf; /* of the current options; NULL: it is gone from them */
    struct interest_account *trie;
    struct account_snapshot counts; /* live */
    uint64_t permits_owed; /* to shard 0, which has no room for the mail */
    uint64_t interest_owed; /* shards with streams that are to be told that anything changed */
    uint32_t push_count;    /* push consumers here */
};

/* A message to the server itself, on $SYS.REQ.> or because an account's connections changed.
 * One block of memory; io answers, if at all, with ORDER_PUBLISH and gives it back with
 * shard_system_done in the same turn. */
struct system_request {
    bool is_change;   /* connections of account changed; no subject */
    uint32_t account; /* of the requester */
    uint64_t cid;
    struct bytes subject, reply, body;
    struct bytes user; /* raw name of the requester */
    size_t bytes;      /* of this block */
};

struct relay;       /* core/shard/relay: open requests (R9), blocks on their way home */
struct mail_spill;  /* core/shard/mail: mail that found its ring full (M1) */
struct closed_ring; /* core/shard/collect: records of closed connections for /connz */
struct js_store_counts; /* core/monitor/js_snapshot */
struct jet;             /* core/shard/jet: the streams of one log */
struct js;          /* core/js/js */
struct directory;   /* core/js/directory */
struct store;       /* core/base/store */
struct store_event;

/* The durable log of this shard and what became of its records. */
struct shard_store {
    struct store *store;
    /* The next event, valid until the next call on the store. False: none now. */
    bool (*next)(struct store *store, struct store_event *out);
    /* What the log says of itself, for the monitoring pages; NULL: nothing. */
    void (*count)(struct store *store, struct js_store_counts *out);
};

/* A log that a shard serves, and its streams; the caller's, replayed. */
struct shard_log {
    uint32_t number; /* log n is of shard n modulo shard_count */
    struct js *js;
    struct shard_store store;
};

struct shard;

/* How often paths were taken that a test must not miss (tests/sim); nobody else reads it. */
struct shard_rare {
    uint64_t congested_mail, loans, fences_held, tokens, doomed, sliced_reaping, slow_deadline,
        rechecks, crypto_logins, late_flushes, log_stalls, log_stalls_mailed;
};

struct shard_config {
    uint32_t index, shard_count;
    struct mem *mem;
    struct interest *interest;
    const struct options *options;
    const struct server_facts *server;
    uint64_t seed;
    uint32_t slots_max; /* connections of this shard */
    uint64_t flush_bytes_max; /* to be sent in one turn; 0: SHARD_FLUSH_BYTES_MAX */
    struct shard_time now;
    const struct shard_log *logs; /* [log_count]; 0: no JetStream */
    uint32_t log_count;
    uint32_t log_total;          /* of the server */
    struct directory *directory; /* of all streams, on shard 0; else NULL */
};

enum {
    /* A hundred receivers get all that was read of a publisher in one turn; beyond that, sending
     * is tens of milliseconds in which nobody is heard. */
    SHARD_FLUSH_BYTES_MAX = 32 << 20,
    SHARD_FANOUT_LINE_BYTES = 4096 + 64, /* "[reply ][header ]total\r\n" */
};

struct shard {
    uint32_t index, shard_count;
    struct mem *mem;
    struct interest *interest;
    const struct options *options;
    const struct server_facts *server;
    struct shard_config config;
    struct rng rng;
    struct shard_time now; /* of this step */
    struct outbox *outbox; /* of this step */

    struct client **clients; /* by slot */
    uint32_t slots_max;
    struct sub_pool *subs;
    struct route_cache *routes;
    struct output_pool outputs;
    struct wheel wheel;
    struct shard_account **accounts; /* by number */
    uint32_t account_count;

    struct list all;     /* every client that io has */
    struct list fenced;  /* those with held replies (R2b) */
    struct list dirty;   /* outputs to flush */
    struct list late;    /* large ones: behind the others, as far as this turn has bytes */
    struct list sending; /* sends in flight, oldest first */
    struct list parked[PARK_REASON_COUNT];
    struct list stalled[CLIENT_STALL_COUNT]; /* PARK_CONGESTED: the first goes on first */
    struct list reaping; /* closed ones whose subscriptions still leave the index */
    uint32_t close_owed_count; /* of those: io has not been told yet */
    uint32_t login_owed_count; /* of all: CLIENT_LOGIN_OWED */
    bool is_cut_short; /* the last step filled the outbox: what it left goes on at once */
    /* Dead subscriptions that could not leave the index yet (auto-unsubscribed in a fan-out, or
     * UNSUB while the writer was busy): a chain through sid_next. */
    uint32_t doomed_first, doomed_count;
    uint32_t pre_login_count; /* connections that have not logged in yet */
    uint32_t open_count;      /* clients not CLOSING, internal ones apart */

    struct shard_counts counts;
    struct shard_rare rare;
    struct histogram *histograms[SHARD_HISTOGRAM_COUNT];
    uint64_t oldest_send_ns; /* began to wait: the oldest output sent in this turn; 0 none */

    struct relay *relay;
    struct mail_spill *spills; /* [shard_count] */
    struct {                   /* core/shard/permit */
        uint32_t *account_conns; /* shard 0: permits out, by account */
        uint32_t account_capacity;
        uint64_t owed; /* in all accounts */
    } permits;
    uint32_t interest_owed; /* of accounts to shards: core/shard/jet_interest */
    /* JetStream, one for each log; none: it is off. jet is the one that is at work: set while it
     * steps or takes a message, else the first. */
    struct jet **jets, *jet;
    uint32_t jet_count;
    struct table jet_shares; /* core/shard/jet_share */
    struct {
        uint64_t seen;    /* changes of the streams here, when the sums were looked at last */
        uint32_t jet, at; /* the next account */
        uint32_t left;    /* accounts to look at */
        bool is_due;
    } share;
    uint64_t last_ticket;
    struct closed_ring *closed;
    bool is_lame_duck, is_stopping, is_closing;

    struct {
        uint64_t at_ns;          /* of the last look */
        uint64_t parks_seen;     /* PARK_MEMORY, at that time */
        uint64_t park_ns;        /* when that last changed */
        uint64_t short_since_ns; /* somebody waits for memory since then; 0 nobody */
        uint64_t shed_ns;        /* when a publisher was last closed for it */
    } pressure;

    struct bytes info_host; /* what INFO says: client_advertise or the real address */
    int info_port;
    uint64_t flush_bytes_max;
    uint64_t flush_left; /* bytes that this turn may still send */
    bool is_late;       /* the last turn left outputs that could have been sent: what makes more for
                           many receivers waits */
    uint32_t subs_left; /* SUBs and UNSUBs that this step may still run */
    uint64_t stall_bytes; /* 75 % of max_pending (R5b) */
    uint8_t stall; /* enum client_stall: by who took a message and is congested; read after each */
    bool is_fanning_out;  /* a route is being walked: nothing may leave the index */
    uint64_t relay_congested_turn, relay_congested_conn; /* the last `congested` mail */
    size_t log_from;                                     /* start of the log line being written */
    struct system_event *events_first, *events_last;     /* published at the end of the step */
    uint64_t event_seq;
    char fanout_lines[2][SHARD_FANOUT_LINE_BYTES]; /* of the message that is being delivered */
};

/* Opens a shard. ERR_MEMORY: nothing is left behind. The interest index knows the shard afterwards.
 */
NODISCARD enum err shard_open(const struct shard_config *config, struct shard **out);
/* Every connection is gone (EVENT_GONE). */
void shard_close(struct shard *s);

/* Between steps, before the log is stopped: records of what else would be lost are appended. */
void shard_flush(struct shard *s, struct shard_time now);

/* One step: consumes events in order (all of them; EVENT_BYTES may leave a rest, see effect.h),
 * runs timers, retries what waits. Returns the events consumed: fewer than count when the outbox
 * is nearly full; offer the others again. Goes through interest_quiesce at its end. */
uint32_t shard_step(struct shard *s, struct event *events, uint32_t count, struct shard_time now,
                    struct outbox *outbox);

/* Next connection with output to send and no send in flight, or NULL: there is no more, or only
 * large outputs for which the next turn has bytes again (s->is_late). Marks it as sending; io
 * takes the bytes with output_gather(&c->output, ...) and must answer with EVENT_SENT. */
struct client *shard_next_dirty(struct shard *s);
/* The turn is over that began with the last step's time: counts how long it took, and how long the
 * output that it sent had waited. For turns that had work; those that only looked are waiting. */
void shard_turn_ended(struct shard *s, uint64_t mono_ns);
/* Mail of another shard that was consumed in the last step had been written at written_ns. */
void shard_mail_waited(struct shard *s, uint64_t written_ns);
/* Monotonic time at which a step is due even without events; 0 at once; UINT64_MAX never. */
uint64_t shard_deadline_ns(const struct shard *s);
/* Rule M4: position in the lane towards target that something here waits for; 0 none. */
uint64_t shard_awaits(const struct shard *s, uint32_t target);
/* Is the job of this EFFECT_CRYPTO still there? Its connection may have been closed, or its login
 * begun anew, later in the same step. */
bool shard_wants_crypto(const struct shard *s, const struct effect *e);
/* io is done with an EFFECT_SYSTEM request. */
void shard_system_done(struct shard *s, struct system_request *r);
struct client *shard_client(const struct shard *s, struct conn_id id);

#endif
