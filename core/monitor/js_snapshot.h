/* JetStream's part of a shard's snapshot: what its streams hold, and as many of them one by one as
 * the query asks for. Copies only, as everything in a snapshot; configurations lie in an arena of
 * their own, which ends with the snapshot.
 *
 * A stream and its consumers live on one shard; an account's streams may be spread over all. */
#ifndef CORE_MONITOR_JS_SNAPSHOT_H
#define CORE_MONITOR_JS_SNAPSHOT_H
#include "core/js/js.h"
#include "core/monitor/snapshot.h"

struct js_counts {
    uint64_t memory, storage;                   /* bytes of messages */
    uint64_t reserved_memory, reserved_storage; /* sums of max_bytes */
    uint64_t streams, consumers;
    uint64_t api_total, api_errors;
    /* COLLECT_JS_MESSAGES. */
    uint64_t messages;
    uint64_t messages_lost; /* to damage, since the start */
};

struct js_consumer_snapshot {
    struct js_consumer_snapshot *next;
    struct bytes name;
    int64_t created_ns;
    struct consumer_config config;
    uint64_t delivered_cseq, delivered_seq, floor_cseq, floor_seq;
    int64_t last_delivered_ns, last_ack_ns; /* 0: never */
    uint64_t ack_pending, redelivered, waiting, pending;
    bool is_push_bound;
    int64_t pause_until_ns;
    /* When the first message was stored that it has not settled (with ack policy none: not been
     * sent); 0: there is none. With a filter another message before may be taken for it. */
    int64_t oldest_ns;
};

struct js_stream_snapshot {
    struct js_stream_snapshot *next;
    uint32_t account;
    struct bytes name;
    int64_t created_ns;
    struct stream_config config;
    uint64_t messages, bytes, seq_first, seq_last, subjects, deleted, consumer_count;
    int64_t first_ns, last_ns; /* 0: no message */
    uint64_t messages_lost;
    struct js_consumer_snapshot
        *consumers; /* COLLECT_JS_CONSUMERS; js_snapshot_streams sorts them */
};

enum js_store_state {
    JS_STORE_OK,
    JS_STORE_FULL,      /* the disk is; it passes */
    JS_STORE_READ_ONLY, /* until a restart */
};

/* What the shard's log says of itself; the shard's io fills it in. Counts since the start. */
struct js_store_counts {
    enum js_store_state state;
    uint64_t records, groups;
    uint64_t published_bytes; /* of the records, as they were given to the log */
    uint64_t written_bytes;   /* to the disk, packing included */
    uint64_t flushes;         /* of groups, with a sync interval */
    uint64_t failures;
    uint64_t staged_percent;                /* now */
    int64_t recovery_ns;                    /* how long opening the log took */
    uint64_t damaged_ranges, damaged_bytes; /* found by that */
};

struct js_snapshot {
    struct arena arena;
    struct js_counts *accounts; /* by account number, [account_count] */
    uint32_t account_count;
    struct js_stream_snapshot *streams; /* COLLECT_JS_STREAMS; in no order */
    /* More than the query wants one by one, in a log: none of that log is. */
    uint64_t streams_left_out, consumers_left_out;
    uint32_t collect; /* the query's, less that, for the log that is being looked at */
    struct js_store_counts store;
    /* COLLECT_JS_ASSET: what /healthz asks for. */
    bool has_stream, has_consumer;
    uint64_t asset_messages_lost;
};

/* Fills out->js for a query, or adds another log to it. store may be NULL. Memory that runs out
 * sets out->is_short. */
void js_snapshot_take(struct shard_snapshot *out, struct js *js, const struct page_query *q,
                      const struct js_store_counts *store);
/* For snapshot_close. */
void js_snapshot_end(struct js_snapshot *s);

/* --- over all shards --- */

/* The account with JetStream that a page shows, or NULL. */
bool js_snapshot_has_account(const struct server_snapshot *server, const struct account *a);
/* How many accounts have JetStream. */
uint32_t js_snapshot_account_count(const struct server_snapshot *server);
/* Sums of one account, or of all (account UINT32_MAX). */
void js_snapshot_merge(const struct page_input *in, uint32_t account, struct js_counts *out);
void js_snapshot_merge_store(const struct page_input *in, struct js_store_counts *out);

/* All streams of the snapshots by account and name, in in->mem. ERR_MEMORY. */
struct js_stream_list {
    const struct js_stream_snapshot **list;
    uint32_t count;
};
NODISCARD enum err js_snapshot_streams(const struct page_input *in, struct js_stream_list *out);
void js_snapshot_streams_free(const struct page_input *in, struct js_stream_list *l);
/* Those of one account: list[*first .. *first + result). */
uint32_t js_snapshot_streams_of(const struct js_stream_list *l, uint32_t account, uint32_t *first);

#endif
