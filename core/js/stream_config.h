/* The configuration of a stream: decoded from a request, completed with defaults, checked with
 * nats-server's refusals in its order, compared, and written in its field order. Plain data over an
 * arena: who holds a configuration holds the arena that its slices point into.
 *
 * What this server does not do yet (mirrors, sources, counters, atomic and fast batches, schedules)
 * is decoded, so that its fields are known ones, and then refused by name: 10052 with
 * "<setting> is not supported yet". */
#ifndef CORE_JS_STREAM_CONFIG_H
#define CORE_JS_STREAM_CONFIG_H
#include "core/js/request.h"

enum {
    JS_NAME_BYTES_MAX = 255, /* of a stream or consumer */
    JS_DESCRIPTION_BYTES_MAX = 4096,
    /* Subjects of a stream, filters of a consumer: each is compared with all that are like it, so
     * a request of a million bytes could hold the shard for minutes. */
    JS_SUBJECTS_MAX = 4096,
    /* Of one of these, and of a deliver_subject: what the interest index takes. The work on it
     * grows with the square of its tokens, too. */
    JS_SUBJECT_BYTES_MAX = 4096,
    JS_METADATA_BYTES_MAX = 128 * 1024,
    JS_API_LEVEL = 5,
    STREAM_REPLICAS_MAX = 5,
};

#define JS_VERSION "2.15.2" /* that metadata and pages report */
#define JS_SECOND INT64_C(1000000000)
/* No stream is told to begin above this: no count of messages gets from there to the end. */
#define STREAM_SEQ_MAX (UINT64_C(1) << 62)

enum stream_retention { STREAM_LIMITS, STREAM_INTEREST, STREAM_WORK_QUEUE };
enum stream_discard { STREAM_DISCARD_OLD, STREAM_DISCARD_NEW };
enum stream_storage { STREAM_STORAGE_UNSET, STREAM_MEMORY, STREAM_FILE };
enum stream_compression { STREAM_COMPRESSION_NONE, STREAM_COMPRESSION_S2 };
enum stream_persist { STREAM_PERSIST_DEFAULT, STREAM_PERSIST_ASYNC };

struct stream_transform {
    struct bytes src, dest;
};

struct stream_republish {
    struct bytes src, dest;
    bool headers_only;
};

struct stream_placement {
    struct bytes cluster;
    struct request_texts tags;
    struct bytes preferred;
};

struct stream_external {
    struct bytes api, deliver;
};

struct stream_source_consumer {
    struct bytes name, deliver_subject;
};

struct stream_source {
    struct bytes name;
    uint64_t opt_start_seq;
    struct time_stamp opt_start_time;
    struct bytes filter_subject;
    struct request_objects subject_transforms; /* struct stream_transform */
    struct stream_external *external;
    struct stream_source_consumer *consumer;
};

/* Defaults and bounds for consumers of the stream; 0: none. */
struct stream_consumer_limits {
    int64_t inactive_threshold;
    int64_t max_ack_pending;
};

/* After stream_config_check: every max_* is -1 (no limit) or above 0, storage is set, durations
 * are nanoseconds. */
struct stream_config {
    struct bytes name, description;
    struct request_texts subjects;
    int64_t max_consumers, max_msgs, max_bytes;
    int64_t max_age; /* 0: for ever */
    int64_t max_msgs_per_subject;
    int64_t num_replicas;
    int64_t duplicate_window;
    struct stream_placement *placement;
    struct stream_source *mirror;
    struct request_objects sources; /* pointers to struct stream_source */
    uint64_t first_seq;
    struct stream_transform *subject_transform;
    struct stream_republish *republish;
    struct stream_consumer_limits consumer_limits;
    int64_t subject_delete_marker_ttl;
    struct request_map metadata;
    /* Small ones side by side: each stream keeps all of this. */
    int32_t max_msg_size;
    enum stream_retention retention;
    enum stream_discard discard;
    enum stream_storage storage;
    enum stream_compression compression;
    enum stream_persist persist_mode;
    bool no_ack;
    bool allow_direct, mirror_direct;
    bool discard_new_per_subject;
    bool sealed, deny_delete, deny_purge, allow_rollup_hdrs;
    bool allow_msg_ttl, allow_msg_counter, allow_atomic, allow_msg_schedules, allow_batched;
};

/* The body of STREAM.CREATE and STREAM.UPDATE. */
struct stream_config_request {
    struct stream_config config;
    bool pedantic;
};

/* What the server and the account allow. */
struct stream_config_bounds {
    int64_t duplicate_window_max; /* of the server; 0: none */
    bool is_max_bytes_required;
    int64_t memory_stream_bytes_max, file_stream_bytes_max; /* of the account; 0 or -1: none */
};

/* Of struct stream_config_request; stored configurations are one too. */
extern const struct request_type stream_config_request_type;

/* A name that a stream or consumer may have: not empty, nothing that subjects or paths use. */
bool stream_config_is_name(struct bytes name);

/* Completes c and checks it. scratch (that c lives in) gets what defaults need.
 * False: error is set; c may be changed. */
NODISCARD bool stream_config_check(struct arena *scratch, struct stream_config *c,
                                   const struct stream_config_bounds *bounds, bool is_pedantic,
                                   struct jsapi_error *error);
/* All of a create that concerns the configuration alone, name being the one in the subject. */
NODISCARD bool stream_config_check_create(struct arena *scratch, struct stream_config *c,
                                          struct bytes name,
                                          const struct stream_config_bounds *bounds,
                                          bool is_pedantic, struct jsapi_error *error);
/* What may not change: c has passed stream_config_check. A sealed one becomes read-only here. */
NODISCARD bool stream_config_check_update(const struct stream_config *old, struct stream_config *c,
                                          struct jsapi_error *error);

/* Metadata that the server keeps: sets the level that the configuration needs and drops what is
 * added to replies only. ERR_MEMORY. */
NODISCARD enum err stream_config_set_level(struct arena *scratch, struct stream_config *c);
/* Some other stream's or an unchanged configuration? Subjects and so on in the same order. The
 * needed level in the metadata does not count. */
bool stream_config_equal(const struct stream_config *a, const struct stream_config *b);
/* A deep copy in the arena. ERR_MEMORY: *out is void. */
NODISCARD enum err stream_config_copy(struct arena *arena, const struct stream_config *c,
                                      struct stream_config *out);
/* As nats-server writes it. is_reply: with the metadata that only replies carry. */
void stream_config_write(const struct stream_config *c, struct json_write *w, const char *key,
                         bool is_reply);

#endif
