/* What the monitoring pages are made of: one snapshot per shard, filled by the shard itself, and
 * one of the server, filled by whoever renders.
 *
 * The way of a page: the monitor thread parses a query, mails it to each shard; the shard opens a
 * snapshot, copies its counts and as much of its lists as the query asks for, and mails it back;
 * the pages of this folder merge the snapshots and write text; the snapshot goes home by mail and
 * its shard frees it as a whole. A snapshot holds copies only: it names no memory of the shard
 * but its own blocks and texts with static lifetime.
 *
 * All times are wall clock nanoseconds since 1970 (0: none), durations nanoseconds. */
#ifndef CORE_MONITOR_SNAPSHOT_H
#define CORE_MONITOR_SNAPSHOT_H
#include "core/auth/account.h"
#include "core/base/bytes.h"
#include "core/base/effect.h"
#include "core/base/histogram.h"
#include "core/base/mem.h"
#include "core/config/options.h"
#include "core/monitor/closed.h"
#include "core/monitor/query.h"
#include "core/route/interest.h"
#include "core/route/route_cache.h"

/* --- counts of a shard ------------------------------------------------------------------- */

struct conn_kind_counts {
    uint64_t clients, routes, gateways, leafs;
};

enum park_reason {
#define PARK_REASON(name, label) PARK_##name,
#include "core/monitor/park_reasons.def"
#undef PARK_REASON
    PARK_REASON_COUNT
};

enum shard_histogram {
#define SHARD_HISTOGRAM(name, metric, help) SHARD_HISTOGRAM_##name,
#include "core/monitor/shard_histograms.def"
#undef SHARD_HISTOGRAM
    SHARD_HISTOGRAM_COUNT
};

/* A shard may keep this struct as its live counters: filling a snapshot is then one copy.
 * Unless a comment says "now", a count only grows. */
struct shard_counts {
    uint64_t connections;       /* now: clients (not routes, gateways, leafs) */
    uint64_t leafs;             /* now */
    uint64_t total_connections; /* clients ever accepted */
    uint64_t subscriptions;     /* now, of all connections */
    struct traffic in, out;     /* all kinds of connection */
    struct traffic in_clients, out_clients;
    struct conn_kind_counts slow_consumers;
    struct conn_kind_counts stale_connections;
    uint64_t stalled_clients;   /* how often a publisher was held back for a slow receiver */
    uint64_t auth_failures, auth_timeouts;
    uint64_t dropped_msgs;      /* for one receiver, with no_fast_producer_stall (R5) */
    uint64_t no_responders;     /* 503 answers */
    uint64_t queue_forwards;    /* R3: mail passed on because no member was able here */

    uint64_t turns, turns_idle; /* turns that found nothing to do */
    uint64_t busy_ns;           /* in turns that had work */
    uint64_t parked;            /* now */
    uint64_t parks[PARK_REASON_COUNT];
    uint64_t pending_bytes;     /* now: output of all connections not yet with the kernel */

    struct {
        uint64_t sent, received, sent_bytes, received_bytes;
        uint64_t ring_full;     /* publishes that did not fit and parked (M2) */
        uint64_t spills, spilled_bytes;         /* M1 */
        uint64_t spill_bytes_now, spill_bytes_most;
    } mail;

    struct route_cache_counts route_cache;

    /* As io/driver.h counts them. */
    struct {
        uint64_t polls, syscalls, completions, recvs, recv_bytes, sends, sent_bytes;
        uint64_t recv_rearms, recv_no_buffers, cq_overflows, wakes;
    } driver;

    uint64_t memory_bytes[MEM_CLASS_COUNT]; /* now: mem.used_bytes */
};

/* One account on one shard. Sum over shards is the server's. */
struct account_snapshot {
    uint32_t account;
    uint32_t connections;       /* now: clients */
    uint32_t leafs;             /* now */
    uint64_t total_connections;
    uint64_t subscriptions;     /* now */
    struct traffic sent, received;
    uint64_t slow_consumers;
};

/* --- lists -------------------------------------------------------------------------------- */

enum conn_kind {
    CONN_KIND_CLIENT,
    CONN_KIND_ROUTER,
    CONN_KIND_GATEWAY,
    CONN_KIND_LEAF,
    CONN_KIND_JETSTREAM,
    CONN_KIND_ACCOUNT,
    CONN_KIND_SYSTEM,
};

enum conn_type { CONN_TYPE_NONE, CONN_TYPE_NATS, CONN_TYPE_WEBSOCKET, CONN_TYPE_MQTT };

struct sub_snapshot {
    struct sub_snapshot *next;
    uint32_t account;
    struct bytes account_name;  /* with COLLECT_SUBS, and of closed connections */
    struct bytes account_tag;   /* name tag of the account, or its name */
    struct bytes subject, queue, sid;
    uint64_t msgs, max, cid;
};

struct conn_snapshot {
    struct conn_snapshot *next;
    uint64_t cid;
    enum conn_kind kind;
    enum conn_type type;
    struct bytes ip;
    uint16_t port;
    struct conn_peer peer;      /* of the Unix socket */
    uint32_t account;
    enum closed_reason reason;  /* CLOSED_NONE: open */
    int64_t start_ns, last_activity_ns;
    int64_t stop_ns;            /* 0 while open */
    int64_t rtt_ns;             /* 0 not known yet */
    uint64_t pending_bytes;
    struct traffic in, out;
    uint64_t stalls;
    uint32_t subscriptions;
    struct bytes name, lang, version;
    struct bytes tls_version, tls_cipher; /* "1.3", "TLS_AES_128_GCM_SHA256"; empty: plaintext */
    struct bytes tls_subject, tls_spki_sha256, tls_cert_sha256; /* hex; of the peer's certificate */
    bool is_tls_first;
    struct bytes user;          /* raw: name, nkey, or "[REDACTED]" for a token */
    struct bytes account_name;
    struct bytes account_tag;   /* name tag of the account, or its name */
    struct bytes issuer_key, jwt, mqtt_client;
    struct bytes tags[8];
    uint32_t tag_count;
    struct sub_snapshot *subs;  /* with COLLECT_CONNECTION_SUBS */
};

/* --- a shard's snapshot --------------------------------------------------------------------- */

struct snapshot_block; /* memory of a snapshot */
struct js_snapshot;

struct shard_snapshot {
    uint32_t shard;
    int64_t taken_ns;
    struct shard_counts counts;

    struct account_snapshot *accounts; /* COLLECT_ACCOUNTS: those with any non-zero count */
    uint32_t account_count;

    struct conn_snapshot *conns;    /* open ones, the page's best of this shard */
    struct conn_snapshot *closed;
    uint64_t conns_total;           /* open ones of the query's account (all without one) */
    uint64_t conns_matched;         /* of these, those that pass every filter */
    uint64_t closed_total, closed_matched;
    /* Of each record of a closed connection that this shard has, in no order; NULL: one shard, or
     * no memory. */
    struct query_end *closed_ends;
    uint64_t closed_kept;

    struct sub_snapshot *subs;      /* COLLECT_SUBS: the first offset + limit that match */
    uint64_t subs_matched;

    /* COLLECT_HISTOGRAMS; NULL: this shard does not keep it. */
    struct histogram *histograms[SHARD_HISTOGRAM_COUNT];

    struct js_snapshot *js; /* COLLECT_JETSTREAM; NULL: there is no JetStream */

    bool is_short; /* memory ran out: lists may lack entries; pages answer 503 */

    struct mem *mem; /* of the shard; all of the following belongs to snapshot.c */
    struct snapshot_block *blocks;
    struct conn_snapshot **conns_end, **closed_end;
    struct sub_snapshot **subs_end;
};

/* An empty snapshot in new memory (MEM_MONITOR). ERR_MEMORY. */
NODISCARD enum err snapshot_open(struct mem *mem, uint32_t shard, struct shard_snapshot **out);
/* Frees everything. Thread: the shard's own. NULL is harmless. */
void snapshot_close(struct shard_snapshot *s);

/* Memory that lives as long as the snapshot, zeroed. NULL sets is_short. */
NODISCARD void *snapshot_alloc(struct shard_snapshot *s, size_t bytes);
/* A copy of text inside the snapshot; empty when memory is short. */
struct bytes snapshot_text(struct shard_snapshot *s, struct bytes text);
/* Appends a zeroed entry to a list and returns it; NULL sets is_short and appends nothing. */
NODISCARD struct conn_snapshot *snapshot_add_conn(struct shard_snapshot *s);
NODISCARD struct conn_snapshot *snapshot_add_closed(struct shard_snapshot *s);
NODISCARD struct sub_snapshot *snapshot_add_sub(struct shard_snapshot *s);
/* Prepends to the subscriptions of one connection. */
NODISCARD struct sub_snapshot *snapshot_add_conn_sub(struct shard_snapshot *s,
                                                     struct conn_snapshot *conn);
/* A copy of h as histogram kind. */
void snapshot_add_histogram(struct shard_snapshot *s, enum shard_histogram kind,
                            const struct histogram *h);

/* --- choosing connections ---------------------------------------------------------------------
 * A page shows offset + limit connections at most, so a shard keeps only its best so many: it
 * offers each connection that passes query_wants_conn and then fills only the picked ones.
 *
 *   snapshot_pick_init(&pick, s, query);
 *   for each open connection c of the query's account:
 *       s->conns_total++; if (query_wants_conn(...)) snapshot_pick_offer(&pick, key, cid, c);
 *   for (i = 0; i < pick.count; i++) fill(snapshot_add_conn(s), pick.best[i].conn);
 *   s->conns_matched = pick.offered;
 *
 * Closed connections the same way, into a pick of their own. */

struct snapshot_choice {
    int64_t key; /* larger is better, from query_conn_key */
    uint64_t cid;
    void *conn;
};

struct snapshot_pick {
    struct shard_snapshot *snapshot;
    struct snapshot_choice *best; /* a heap, the worst first; in no useful order otherwise */
    uint64_t count, capacity, count_max;
    uint64_t offered;
};

void snapshot_pick_init(struct snapshot_pick *p, struct shard_snapshot *s,
                        const struct page_query *q);
void snapshot_pick_offer(struct snapshot_pick *p, int64_t key, uint64_t cid, void *conn);
/* Best first; the array may be any, not only a pick's. */
void snapshot_sort(struct snapshot_choice *choices, uint64_t count);

/* --- what belongs to no shard ----------------------------------------------------------------- */

/* HTTP requests per page, for http_req_stats; kept by the monitor thread, which counts a request
 * before it renders the page. */
struct page_counts {
    uint64_t requests[PAGE_COUNT];
};

struct process_counts {
    double cpu_percent;          /* as top shows it, since the last look; one decimal */
    double cpu_seconds;
    uint64_t resident_bytes, virtual_bytes;
    uint64_t open_fds, max_fds;
    int64_t start_ns;
};

struct server_jetstream {
    bool is_on;             /* it is served */
    struct bytes failure;   /* it is configured, but why it is not */
    struct bytes store_dir; /* the folder in use */
    int64_t sync_interval_ns; /* 0: always */
    int64_t memory_max, storage_max; /* bytes, as in force */
};

struct server_snapshot {
    struct bytes id, name;
    struct bytes version;        /* of nats-server, whose protocol and pages these are */
    struct bytes own_version;    /* of Millrace */
    struct bytes go_version;     /* the "go" field; what the binary was built with */
    struct bytes git_commit;
    struct bytes host, ip;       /* listen host as configured; ip: client_advertise's, else empty */
    int port;                    /* the real ones, also for -1 */
    int http_port, https_port;
    struct bytes cluster, domain;
    const struct bytes *connect_urls;
    uint32_t connect_url_count;
    const struct bytes *ws_connect_urls;
    uint32_t ws_connect_url_count;
    bool is_auth_required, is_tls_required, is_tls_verify;
    const struct options *options; /* with its accounts */
    int64_t start_ns, now_ns;
    int64_t config_load_ns;
    struct bytes config_digest;  /* "sha256:..." or empty */
    int64_t tls_not_after_ns;    /* seconds precision; 0 none */
    struct process_counts process;
    uint32_t cores;
    uint32_t shards;             /* shown as gomaxprocs */
    int64_t memory_limit_bytes;  /* 0 none; shown as gomemlimit */
    const struct page_counts *pages;
    uint64_t system_dropped;     /* requests to the server itself that found no room */
    struct interest_counts interest;         /* the whole index */
    struct interest_counts interest_account; /* of query.account_number, when there is one */
    bool is_ready;               /* listeners are up; else healthz says 500 */
    struct bytes not_ready_reason;
    bool is_lame_duck;
    struct server_jetstream jetstream;
    uint64_t seq;                /* of $SYS messages: the caller counts before each of them */
};

/* --- what a page gets ------------------------------------------------------------------------- */

struct page_input {
    const struct page_query *query;
    const struct server_snapshot *server;
    const struct shard_snapshot *const *shards;
    uint32_t shard_count;
    struct mem *mem; /* scratch of the renderer, returned before it returns */
};

/* Sets the query's account number from its account name; unknown names stay QUERY_NO_ACCOUNT.
 * After parsing, before the query goes to the shards. */
void snapshot_resolve(const struct server_snapshot *server, struct page_query *q);
/* Adds up counts over all shards; gauges ("now") and counters alike, most-values by maximum. */
void snapshot_merge_counts(const struct page_input *in, struct shard_counts *out);
/* The sums of one account over all shards; account is set, the rest may be zero. */
void snapshot_merge_account(const struct page_input *in, uint32_t account,
                            struct account_snapshot *out);
/* The same for all accounts at once, by_number[0 .. count), from in->mem; also for numbers that no
 * shard knows. Give it back with snapshot_totals_free. ERR_MEMORY. */
struct account_totals {
    struct account_snapshot *by_number;
    uint32_t count;
};
NODISCARD enum err snapshot_merge_accounts(const struct page_input *in, struct account_totals *out);
void snapshot_totals_free(const struct page_input *in, struct account_totals *t);
/* The account of that number or name; NULL: this configuration does not know it. */
const struct account *snapshot_account_by_number(const struct server_snapshot *server,
                                                 uint32_t account);
const struct account *snapshot_account_by_name(const struct server_snapshot *server,
                                               struct bytes name);
/* Name of the system account; empty without one. */
struct bytes snapshot_system_account(const struct server_snapshot *server);
/* All accounts of the configuration ordered by name, list[0 .. count) in in->mem. Give it back
 * with snapshot_accounts_free. ERR_MEMORY. */
struct account_list {
    const struct account **list;
    uint32_t count;
};
NODISCARD enum err snapshot_accounts_by_name(const struct page_input *in, struct account_list *out);
void snapshot_accounts_free(const struct page_input *in, struct account_list *l);
/* Did any shard run out of memory while collecting? */
bool snapshot_is_short(const struct page_input *in);

#endif
