/* What all answers of the JetStream API have in common: how they begin, fail and end, and the
 * record that an answer waits for. For the files jsapi*.c only. */
#ifndef CORE_JS_JSAPI_REPLY_H
#define CORE_JS_JSAPI_REPLY_H
#include "core/js/js.h"

/* Members that an answer of this type has even where it only tells an error. */
enum jsapi_reply_tail {
    JSAPI_REPLY_PLAIN,
    JSAPI_REPLY_PAGED,     /* total, offset, limit */
    JSAPI_REPLY_NAMES,     /* and streams, null */
    JSAPI_REPLY_STREAMS,   /* and streams, empty */
    JSAPI_REPLY_CONSUMERS, /* and consumers, empty */
    JSAPI_REPLY_PURGE,
    JSAPI_REPLY_PAUSE,
    JSAPI_REPLY_RESET,
};

/* A reply that is being written. */
struct jsapi_reply {
    struct js *js;
    struct js_request *r;
    const char *type;
    enum jsapi_reply_tail tail;
    struct json_write w;
    struct jsapi_error error;
};

/* Opens the answer with its type. */
void jsapi_reply_begin(struct jsapi_reply *p);
NODISCARD enum js_step jsapi_reply_finish(struct jsapi_reply *p);
/* The whole answer is p->error, or this error. */
NODISCARD enum js_step jsapi_reply_fail(struct jsapi_reply *p);
NODISCARD enum js_step jsapi_reply_refuse(struct jsapi_reply *p, enum jsapi_id id);
NODISCARD enum js_step jsapi_reply_refuse_text(struct jsapi_reply *p, enum jsapi_id id,
                                               const char *text);
/* What the store said to a record of ours. */
NODISCARD enum js_step jsapi_reply_refuse_store(struct jsapi_reply *p, enum err e);
/* The whole answer is a success. */
NODISCARD enum js_step jsapi_reply_succeed(struct jsapi_reply *p);

/* The body of the request into out; false: p->error says why not. */
NODISCARD bool jsapi_reply_read_body(struct jsapi_reply *p, const struct request_type *type,
                                     void *out);
/* Appends the record of an order; the answer waits for it. */
NODISCARD enum js_step jsapi_reply_append(struct jsapi_reply *p, struct store *store,
                                          const struct record *record, enum js_order order);
/* The request is run again when the order with this ticket is done: what it asks for depends on
 * that. */
NODISCARD enum js_step jsapi_reply_wait(struct jsapi_reply *p, uint64_t ticket);
/* The same in another turn: it has come a piece nearer to its answer. */
NODISCARD enum js_step jsapi_reply_more(struct jsapi_reply *p);
/* Requests about a stream take effect in the order in which they came, so that one that was sent
 * for an older stream of this name does not find a younger one: true, it has to wait
 * (JS_WAIT_STORED) for the stream's creation, and one that changes it for the change in flight. */
NODISCARD bool jsapi_reply_is_behind(struct jsapi_reply *p, bool is_change);
/* The request asks for a higher API level than ours. */
bool jsapi_reply_needs_more(const struct jsapi_reply *p);

#endif
