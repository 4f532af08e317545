/* Parameters of a monitoring page: from an HTTP query string or from the JSON body of a $SYS
 * request, strictly parsed, with nats-server's error texts. A query is built once, outside the
 * shards, and is read-only while shards collect; it owns all text that it points to, so it must
 * not be copied.
 *
 * Numbers are 64-bit signed, as in nats-server. Nothing here overflows: an offset or limit of
 * INT64_MAX is legal and means "beyond the end" and "all" (query_window). */
#ifndef CORE_MONITOR_QUERY_H
#define CORE_MONITOR_QUERY_H
#include <stdbool.h>
#include <stdint.h>
#include "core/base/text.h"
#include "core/monitor/closed.h"

enum page {
    PAGE_NONE, /* an unknown path: 404 */
    PAGE_ROOT,
    PAGE_VARZ,
    PAGE_CONNZ,
    PAGE_ROUTEZ,
    PAGE_GATEWAYZ,
    PAGE_LEAFZ,
    PAGE_SUBSZ,
    PAGE_ACCOUNTZ,
    PAGE_ACCSTATZ,
    PAGE_JSZ,
    PAGE_HEALTHZ,
    PAGE_IPQUEUESZ,
    PAGE_RAFTZ,
    PAGE_STACKSZ,
    PAGE_EXPVARZ,
    PAGE_METRICS,
    /* The rest exists only as $SYS requests. */
    PAGE_IDZ,
    PAGE_STATSZ,
    PAGE_PROFILEZ,
    PAGE_ACCOUNT_INFO,
    PAGE_ACCOUNT_CONNS,
    PAGE_ACCOUNT_NSUBS,
    PAGE_USER_INFO,
    PAGE_COUNT
};

/* What a shard has to put into its snapshot beyond its counts (which always go in). */
enum {
    COLLECT_ACCOUNTS = 1 << 0,        /* counters per account */
    COLLECT_CONNECTIONS = 1 << 1,     /* open connections that match */
    COLLECT_CLOSED = 1 << 2,          /* closed connections that match */
    COLLECT_CONNECTION_SUBS = 1 << 3, /* with each connection its subscriptions */
    COLLECT_SUBS = 1 << 4,            /* subscriptions of the shard that match */
    COLLECT_HISTOGRAMS = 1 << 5,
    COLLECT_JETSTREAM = 1 << 6,    /* its counts; without it none of the next */
    COLLECT_JS_STREAMS = 1 << 7,   /* streams one by one, of the query's account or of all */
    COLLECT_JS_CONSUMERS = 1 << 8, /* with each stream its consumers */
    COLLECT_JS_ASSET = 1 << 9,     /* whether the query's stream and consumer are there */
    COLLECT_JS_MESSAGES = 1 << 10, /* counts of messages, which take a look at every stream */
};

enum conn_sort {
    CONN_SORT_CID,
    CONN_SORT_START,
    CONN_SORT_SUBS,
    CONN_SORT_PENDING,
    CONN_SORT_MSGS_TO,
    CONN_SORT_MSGS_FROM,
    CONN_SORT_BYTES_TO,
    CONN_SORT_BYTES_FROM,
    CONN_SORT_LAST,
    CONN_SORT_IDLE,
    CONN_SORT_UPTIME,
    CONN_SORT_STOP,
    CONN_SORT_REASON,
    CONN_SORT_RTT,
};

enum conn_state { CONN_STATE_OPEN, CONN_STATE_CLOSED, CONN_STATE_ALL };

enum {
    QUERY_TEXT_MAX = 8192,       /* all text values of one query together */
    QUERY_LIST_DEFAULT = 1024,   /* limit of connz, subsz and jsz when none is given */
    QUERY_ACCOUNTS_MAX = 64,     /* account names in one request for account statistics */
    /* Streams, and consumers, that a log shows one by one in /metrics unattended: of 10 000
     * consumers that is a page of some 60 MB. */
    QUERY_METRICS_SINGLES = 10000,
    QUERY_NO_ACCOUNT = UINT32_MAX,
};

/* Filter of $SYS requests: servers that do not match stay silent. */
struct query_filter {
    struct bytes server_name, cluster, host, domain;
    struct bytes tags[16];
    uint32_t tag_count;
    bool is_exact;
};

/* When a connection closed; cid tells those apart that closed in the same step. */
struct query_end {
    int64_t stop_ns;
    uint64_t cid;
};

static inline bool query_end_is_before(struct query_end a, struct query_end b)
{
    return a.stop_ns != b.stop_ns ? a.stop_ns < b.stop_ns : a.cid < b.cid;
}

struct page_query {
    enum page page;
    uint32_t collect; /* COLLECT_ bits */

    /* What selects connections and subscriptions. An empty text selects all. */
    uint64_t cid;
    struct bytes user;
    struct bytes account;        /* acc, account */
    uint32_t account_number;     /* set by snapshot_resolve; QUERY_NO_ACCOUNT: unknown or none */
    struct bytes mqtt_client;
    struct bytes filter_subject; /* connz by $SYS: connections with a subscription that collides */
    struct bytes test;           /* subsz: a literal subject; subscriptions that match it */
    enum conn_state state;
    enum conn_sort sort;
    int64_t offset;
    int64_t limit;               /* > 0 for connz and subsz; for jsz as given */
    struct query_end closed_from; /* records of connections that closed before count as forgotten */

    bool auth;
    bool subs;
    bool subs_detail;
    bool unused;                 /* accstatz: accounts without connections too */
    struct bytes names[QUERY_ACCOUNTS_MAX]; /* accstatz by $SYS: only these accounts */
    uint32_t name_count;

    struct bytes gateway_name;
    bool gateway_accounts;

    bool js_accounts, js_streams, js_consumers, js_direct_consumers, js_config, js_raft;
    bool js_leader_only, js_stream_leader_only;
    bool js_enabled, js_enabled_only, js_server_only, js_meta_only, details;
    struct bytes stream, consumer;
    uint32_t js_streams_max, js_consumers_max; /* of a log, one by one; 0: however many they are */
    bool js_ephemeral; /* with COLLECT_JS_CONSUMERS: those that go when nobody uses them, too */

    bool all;                    /* ipqueuesz */
    struct bytes queues;
    struct bytes group;          /* raftz */
    struct bytes profile_name;   /* profilez */
    int64_t profile_debug, profile_duration_ns;

    struct bytes prefix;         /* metrics: empty is the one of the options */
    bool connz_detailed;         /* metrics: connections one by one */
    struct query_filter filter;

    size_t text_bytes;
    char text[QUERY_TEXT_MAX];
};

/* --- making a query -------------------------------------------------------------------------- */

/* A parameter of an HTTP query, decoded. Of several with one name the first counts. */
struct query_param {
    struct bytes name, value;
};

/* Which page a path names ("/varz"; the base path is off already); PAGE_NONE: none. */
enum page query_page_of_path(struct bytes path);
/* The path of a page, the key of http_req_stats; NULL for pages that are no HTTP page. */
const char *query_path_of_page(enum page page);

/* All defaults of a page, no parameter. */
void query_init(struct page_query *q, enum page page);
/* From HTTP parameters; q is written in any case. ERR_INVALID: *error is what the client gets with
 * status 400. Unknown parameters are ignored, as in nats-server. */
NODISCARD enum err query_parse(struct page_query *q, enum page page,
                               const struct query_param *params, size_t param_count,
                               struct text *error);
/* The last step of each source of queries: checks what depends on several parameters, applies
 * defaults, sets collect. sort is the text of the sort order. Errors as above. */
NODISCARD enum err query_finish(struct page_query *q, struct bytes sort, struct text *error);
/* Keeps a copy of text in q. ERR_TOO_LONG: no room. */
NODISCARD enum err query_keep(struct page_query *q, struct bytes text, struct bytes *kept);

/* --- what shards ask ------------------------------------------------------------------------- */

struct traffic {
    uint64_t msgs, bytes;
};

/* What a filter and a sort order look at, borrowed from the connection. */
struct conn_facts {
    uint64_t cid;
    uint32_t account;
    struct bytes user, mqtt_client;
    int64_t start_ns, last_activity_ns, stop_ns, rtt_ns, now_ns;
    enum closed_reason reason;
    uint64_t pending_bytes;
    struct traffic in, out;
    uint32_t subscriptions;
};

/* filter_subject is not looked at: it needs the subscriptions (query.filter_subject, if not empty,
 * is for the shard to compare with subject_collides). */
bool query_wants_conn(const struct page_query *q, const struct conn_facts *facts);
/* The place in the query's order as one number, larger comes first; of equals the smaller cid. */
int64_t query_conn_key(const struct page_query *q, const struct conn_facts *facts);
/* Does the subscription belong on the page (account and test subject)? */
bool query_wants_sub(const struct page_query *q, uint32_t account, struct bytes subject);
/* offset + limit without overflow: how many entries of a list can be of use. */
uint64_t query_window(const struct page_query *q);

#endif
