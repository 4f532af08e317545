/* JetStream of one shard: its streams by account and name, where their records go, and requests on
 * them. A request that needs a record on disk, or a message from there, waits and is gone on with:
 *
 *   jsapi_run ──────> JS_REPLY: out holds the answer (jsapi_end is next in any case)
 *        │         └─> JS_SILENT: nobody is answered
 *        ├─> JS_WAIT_STORED: until request.ticket is durable or failed ──> jsapi_stored
 *        └─> JS_WAIT_READ: until STORE_READ names request.read         ──> jsapi_read
 *
 * The caller keeps the request and its slices at their addresses until it ends. Stream and
 * configuration records go to the file store, those of memory streams too: a memory stream
 * comes back empty after a restart, as in nats-server. Owned by the shard; pure. */
#ifndef CORE_JS_JS_H
#define CORE_JS_JS_H
#include "core/base/store.h"
#include "core/base/table.h"
#include "core/js/memstore.h"
#include "core/js/publish.h"

enum {
    JS_REPLY_BYTES_MAX = 64 * 1024 * 1024,
    JS_NAMES_PAGE = 1024,
    JS_LIST_PAGE = 256,
};

struct js_stream {
    struct stream stream; /* first */
    struct js *js;
    struct bytes account_name; /* in the stream's own memory */
    bool is_hidden;            /* its record is not durable yet */
    uint64_t messages_lost;
    void *owner; /* of whoever set js->hooks */
};

/* What the owner of js wants to hear, each NULL or called when it happens. */
struct js_hooks {
    void (*opened)(void *context, struct js_stream *s);  /* visible from now on; not at replay */
    void (*updated)(void *context, struct js_stream *s); /* its configuration is another one */
    void (*closing)(void *context, struct js_stream *s); /* about to be freed */
};

/* Limits of an account; -1: none. */
struct js_limits {
    int64_t max_memory, max_storage, max_streams, max_consumers, max_ack_pending;
    int64_t memory_max_stream_bytes, storage_max_stream_bytes;
    bool max_bytes_required;
};

struct js {
    struct mem *mem;
    struct store *file;
    struct memstore memory;
    struct table streams; /* of struct js_stream, by account and name */
    struct table ids;     /* the same by id */
    uint64_t id_next;
    uint64_t seed;               /* of the store */
    struct bytes domain, leader; /* may be empty; the server's name */
    int64_t duplicate_window_max;
    bool is_lenient; /* strict: false */
    uint64_t api_total, api_errors;
    /* Account limits; context is the caller's. NULL: no limits. */
    void (*limits_of)(void *context, uint32_t account, struct js_limits *limits);
    void *context;
    const struct js_hooks *hooks; /* NULL: nobody listens */
    void *hooks_context;
};

enum js_step { JS_REPLY, JS_SILENT, JS_WAIT_STORED, JS_WAIT_READ };
enum js_order {
    JS_ORDER_NONE,
    JS_ORDER_CREATE,
    JS_ORDER_UPDATE,
    JS_ORDER_DELETE,
    JS_ORDER_PURGE,
    JS_ORDER_ERASE,
};
enum js_action { JS_ACTION_NONE, JS_ACTION_CREATED, JS_ACTION_UPDATED, JS_ACTION_DELETED };

struct js_request {
    /* Of the caller. */
    uint32_t account;
    struct bytes account_name, subject, headers, body;
    struct text *out;
    int64_t now_ns;
    /* Of js. */
    struct arena arena;
    enum js_order order;
    enum js_action action; /* an advisory to send with the reply, of the stream named below */
    bool is_error;
    struct bytes stream_name;
    uint64_t stream_id;
    uint64_t ticket;
    struct store_read read;
    struct stream_config_request config;
    uint64_t seq, keep;
    struct bytes filter;
    bool is_secure, no_headers;
};

void js_init(struct js *js, struct mem *mem, struct store *file, uint64_t seed,
             uint64_t memory_bytes_max);
void js_deinit(struct js *js);

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
/* The store of the stream's messages. */
struct store *js_store_of(struct js *js, const struct js_stream *s);
/* Bytes held and reserved by max_bytes, and counts, of an account. */
struct js_usage {
    uint64_t memory, storage, reserved_memory, reserved_storage, streams, consumers;
};
void js_usage_of(const struct js *js, uint32_t account, struct js_usage *usage);
void js_limits_of(const struct js *js, uint32_t account, struct js_limits *limits);

/* The record that makes or changes a stream; the text holds its body. False: out of memory. */
NODISCARD bool js_config_record(const struct stream_config *c, int64_t created_ns,
                                struct text *body);
/* A record of the log at start. account: the number of the name in RECORD_STREAM (callers look
 * it up before). ERR_CORRUPT: it makes no sense; the rest can still be replayed. */
NODISCARD enum err js_replay(struct js *js, uint32_t account, const struct record *r,
                             uint64_t place);
/* By its id; NULL none. */
struct js_stream *js_find_id(const struct js *js, uint64_t id);

#endif
