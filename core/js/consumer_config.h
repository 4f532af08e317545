/* The configuration of a consumer: JSON in and out, defaults, what is refused in which order with
 * which error, and what an update may change (client-visible rules of nats-server 2.15).
 *
 * A struct consumer_config only borrows: from the request, from an arena, or from its packed form
 * (core/js/consumer_pack), which is what a consumer keeps in memory. */
#ifndef CORE_JS_CONSUMER_CONFIG_H
#define CORE_JS_CONSUMER_CONFIG_H
#include "core/js/stream_config.h"

enum consumer_deliver {
    CONSUMER_DELIVER_ALL,
    CONSUMER_DELIVER_LAST,
    CONSUMER_DELIVER_NEW,
    CONSUMER_DELIVER_BY_START_SEQUENCE,
    CONSUMER_DELIVER_BY_START_TIME,
    CONSUMER_DELIVER_LAST_PER_SUBJECT,
};

enum consumer_ack { CONSUMER_ACK_NONE, CONSUMER_ACK_ALL, CONSUMER_ACK_EXPLICIT, CONSUMER_ACK_FLOW };
enum consumer_replay { CONSUMER_REPLAY_INSTANT, CONSUMER_REPLAY_ORIGINAL };

enum {
    CONSUMER_MAX_WAITING_DEFAULT = 512,
    CONSUMER_MAX_ACK_PENDING_DEFAULT = 1000,
};
#define CONSUMER_ACK_WAIT_DEFAULT_NS INT64_C(30000000000)
#define CONSUMER_INACTIVE_DEFAULT_NS INT64_C(5000000000)

struct consumer_config {
    struct bytes durable_name, name; /* equal where both are set */
    struct bytes description;
    uint32_t deliver_policy; /* enum consumer_deliver */
    uint64_t opt_start_seq;
    struct time_stamp opt_start_time;
    uint32_t ack_policy; /* enum consumer_ack */
    int64_t ack_wait_ns;
    int64_t max_deliver; /* -1: no limit */
    struct request_durations backoff;
    struct bytes filter_subject; /* one of these two at most */
    struct request_texts filter_subjects;
    uint32_t replay_policy; /* enum consumer_replay */
    uint64_t rate_limit_bps;
    struct bytes sample_freq; /* as it was written: "30%" */
    int64_t max_waiting, max_ack_pending;
    bool flow_control, headers_only;
    int64_t max_batch, max_expires_ns, max_bytes;
    struct bytes deliver_subject; /* empty: pull */
    struct bytes deliver_group;
    int64_t heartbeat_ns;
    int64_t inactive_threshold_ns;
    int64_t replicas;
    bool mem_storage, direct, sourcing;
    bool is_nameless;            /* the server picked the name: replies do not show it here */
    struct request_map metadata; /* without the server's own entries, once defaults are set */
    struct time_stamp pause_until;
    struct request_texts priority_groups;
    uint32_t priority_policy;
    int64_t priority_timeout_ns;
};

/* For requests that have a configuration inside, and for records. */
extern const struct request_type consumer_config_type;

/* What the stream, its account and the server say; 0 is no limit. */
struct consumer_rules {
    const struct bytes *subjects; /* of the stream */
    uint32_t subject_count;
    bool is_interest, is_workqueue; /* its retention */
    int64_t replicas;
    int64_t stream_max_ack_pending, stream_inactive_threshold_ns; /* its consumer_limits */
    int64_t account_max_ack_pending;
    int64_t server_max_ack_pending, server_max_batch;
};

bool consumer_config_is_push(const struct consumer_config *c);
bool consumer_config_is_durable(const struct consumer_config *c);
/* Filters, from whichever field; 0: everything. */
uint32_t consumer_config_filter_count(const struct consumer_config *c);
struct bytes consumer_config_filter(const struct consumer_config *c, uint32_t index);
/* sample_freq in percent, 0: none. The configuration was checked. */
uint32_t consumer_config_sample_percent(const struct consumer_config *c);

/* Fills in what is not set. False: pedantic, and a value would have to be changed. */
bool consumer_config_set_defaults(struct consumer_config *c, const struct consumer_rules *rules,
                                  bool is_pedantic, struct jsapi_error *error);
/* False: refused. c has its defaults. mem: for the moment only. */
bool consumer_config_check(struct mem *mem, const struct consumer_config *c,
                           const struct consumer_rules *rules, struct jsapi_error *error);
/* Whether old may become c. is_bound: somebody subscribes to the old deliver subject. */
bool consumer_config_check_update(const struct consumer_config *old,
                                  const struct consumer_config *c, bool is_bound,
                                  struct jsapi_error *error);
/* A stored one as it was before it was written: without what the server adds to metadata. */
void consumer_config_unwrap(struct consumer_config *c);
/* What an ephemeral one gets once it is created or updated: its inactive threshold. */
void consumer_config_settle(struct consumer_config *c);

/* The API level a server must have to run it. */
uint32_t consumer_config_level(const struct consumer_config *c);
/* The object, as member key. is_reply: with the versions in its metadata that replies show; else as
 * records keep it. */
void consumer_config_write(const struct consumer_config *c, struct json_write *w, const char *key,
                           bool is_reply);

#endif
