#include "core/js/jsapi_consumer.h"
#include <string.h>
#include "core/base/must.h"
#include "core/js/jsapi_reply.h"
#include "core/route/subject.h"

#define PREFIX "$JS.API.CONSUMER."
enum { API_BYTES = sizeof "$JS.API." - 1 };

/* --- what is meant --------------------------------------------------------------------------- */

enum endpoint {
    ENDPOINT_CREATE,
    ENDPOINT_DURABLE,
    ENDPOINT_INFO,
    ENDPOINT_NAMES,
    ENDPOINT_LIST,
    ENDPOINT_DELETE,
    ENDPOINT_PAUSE,
    ENDPOINT_RESET,
    ENDPOINT_COUNT
};

/* tokens: that follow the word, at least and at most. */
static const struct {
    const char *word, *type;
    uint32_t tokens_min, tokens_max;
    enum jsapi_reply_tail tail;
} endpoints[ENDPOINT_COUNT] = {
    [ENDPOINT_CREATE] = {"CREATE", "consumer_create", 1, UINT32_MAX, JSAPI_REPLY_PLAIN},
    [ENDPOINT_DURABLE] = {"DURABLE", "consumer_create", 3, 3, JSAPI_REPLY_PLAIN},
    [ENDPOINT_INFO] = {"INFO", "consumer_info", 2, 2, JSAPI_REPLY_PLAIN},
    [ENDPOINT_NAMES] = {"NAMES", "consumer_names", 1, 1, JSAPI_REPLY_CONSUMERS},
    [ENDPOINT_LIST] = {"LIST", "consumer_list", 1, 1, JSAPI_REPLY_CONSUMERS},
    [ENDPOINT_DELETE] = {"DELETE", "consumer_delete", 2, 2, JSAPI_REPLY_PLAIN},
    [ENDPOINT_PAUSE] = {"PAUSE", "consumer_pause", 2, 2, JSAPI_REPLY_PAUSE},
    [ENDPOINT_RESET] = {"RESET", "consumer_reset", 2, 2, JSAPI_REPLY_RESET},
};

bool jsapi_consumer_is_for(struct bytes subject)
{
    return bytes_starts_with(subject, BYTES_LITERAL(PREFIX));
}

/* rest: behind $JS.API. */
static enum endpoint endpoint_of(struct bytes rest, struct js_request *r)
{
    struct bytes word = subject_token(rest, 1);
    uint32_t tokens = subject_token_count(rest) - 2;
    for (enum endpoint i = 0; i < ENDPOINT_COUNT; i++) {
        if (!bytes_equal(word, bytes_from_text(endpoints[i].word))) continue;
        if (tokens < endpoints[i].tokens_min || tokens > endpoints[i].tokens_max) break;
        bool is_durable = i == ENDPOINT_DURABLE;
        if (is_durable && !bytes_equal(subject_token(rest, 2), BYTES_LITERAL("CREATE"))) break;
        r->stream_name = subject_token(rest, is_durable ? 3 : 2);
        if (tokens > 1) r->consumer_name = subject_token(rest, is_durable ? 4 : 3);
        return i;
    }
    return ENDPOINT_COUNT;
}

static struct js_stream *stream_of(struct jsapi_reply *p)
{
    return js_find(p->js, p->r->account, p->r->stream_name, false);
}

/* Hidden ones are found too: their order comes first. */
static struct consumer *consumer_of(struct jsapi_reply *p, const struct js_stream *s)
{
    return consumer_set_find(&s->consumers, p->r->consumer_name);
}

static struct shard_time now_of(const struct jsapi_reply *p)
{
    return (struct shard_time){.mono_ns = p->r->mono_ns, .wall_ns = p->r->now_ns};
}

static void tell(struct js *js, struct js_stream *s, struct consumer *c, bool is_new)
{
    const struct js_hooks *hooks = js->hooks;
    if (hooks == NULL) return;
    if (is_new && hooks->consumer_opened != NULL)
        hooks->consumer_opened(js->hooks_context, s, c);
    else if (!is_new && hooks->consumer_updated != NULL)
        hooks->consumer_updated(js->hooks_context, s, c);
}

/* --- answers --------------------------------------------------------------------------------- */

static enum js_step write_info(struct jsapi_reply *p, struct js_stream *s, struct consumer *c)
{
    if (consumer_write_info(c, &p->r->arena, now_of(p), s->outlet, false, &p->w) != ERR_OK)
        return jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    return jsapi_reply_finish(p);
}

static enum js_step created(struct jsapi_reply *p, struct js_stream *s, struct consumer *c)
{
    if (c->pause_until_ns > p->r->now_ns) p->r->pause_until_ns = c->pause_until_ns;
    jsapi_reply_begin(p);
    return write_info(p, s, c);
}

static enum js_step was_reset(struct jsapi_reply *p, struct js_stream *s, struct consumer *c)
{
    c->is_reset = false;
    jsapi_reply_begin(p);
    if (consumer_write_info(c, &p->r->arena, now_of(p), s->outlet, false, &p->w) != ERR_OK)
        return jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    json_write_u64(&p->w, "reset_seq", p->r->seq);
    return jsapi_reply_finish(p);
}

static enum js_step paused(struct jsapi_reply *p)
{
    struct js_request *r = p->r;
    bool is_paused = r->pause_until_ns > r->now_ns;
    r->action = JS_ACTION_CONSUMER_PAUSED;
    jsapi_reply_begin(p);
    json_write_bool(&p->w, "paused", is_paused);
    if (time_stamp_is_real(&r->consumer->config.pause_until))
        json_write_time(&p->w, "pause_until", r->pause_until_ns);
    else
        json_write_text(&p->w, "pause_until", BYTES_LITERAL("0001-01-01T00:00:00Z"));
    if (is_paused) json_write_i64(&p->w, "pause_remaining", r->pause_until_ns - r->now_ns);
    return jsapi_reply_finish(p);
}

/* --- CREATE ---------------------------------------------------------------------------------- */

static void bounds_of(const struct jsapi_reply *p, const struct js_stream *s,
                      struct consumer_set_bounds *b)
{
    const struct stream_config *c = &s->stream.config;
    struct js_limits limits;
    js_limits_of(p->js, p->r->account, &limits);
    int64_t max = c->max_consumers;
    if (max <= 0 || (limits.max_consumers > 0 && limits.max_consumers < max))
        max = limits.max_consumers;
    *b = (struct consumer_set_bounds){
        .rules = {.subjects = c->subjects.items,
                  .subject_count = c->subjects.count,
                  .is_interest = c->retention == STREAM_INTEREST,
                  .is_workqueue = c->retention == STREAM_WORK_QUEUE,
                  .replicas = c->num_replicas,
                  .stream_max_ack_pending = c->consumer_limits.max_ack_pending,
                  .stream_inactive_threshold_ns = c->consumer_limits.inactive_threshold,
                  .account_max_ack_pending = limits.max_ack_pending,
                  .server_max_ack_pending = p->js->max_ack_pending,
                  .server_max_batch = p->js->max_batch},
        .max_consumers = max,
        .max_consumers_default = p->js->consumers_default_max,
    };
}

/* The record that makes or changes the consumer with this number. */
static enum js_step append_config(struct jsapi_reply *p, const struct js_stream *s, uint64_t number,
                                  int64_t created_ns, enum js_order order)
{
    struct text body;
    enum js_step step;
    text_init(&body, p->js->mem, MEM_JETSTREAM, JS_REPLY_BYTES_MAX);
    struct record record = {.kind = RECORD_CONSUMER, .stream = s->stream.id, .seq = number};
    record.time_ns = p->r->now_ns;
    if (js_consumer_record(&p->r->consumer->config, created_ns, &body)) {
        record.subject = p->r->consumer->config.name;
        record.body = text_written(&body);
        step = jsapi_reply_append(p, p->js->file, &record, order);
    } else {
        step = jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    }
    text_deinit(&body);
    return step;
}

static enum js_step change(struct jsapi_reply *p, struct js_stream *s, struct consumer *c,
                           enum js_order order)
{
    p->r->stream_id = s->stream.id;
    p->r->consumer_number = c->number;
    p->r->order = order;
    if (order == JS_ORDER_CONSUMER_UPDATE) p->r->seq = s->stream.staged.seq_last + 1;
    if (!js_consumer_is_kept(s, c)) return jsapi_consumer_stored(p->js, p->r, ERR_OK);
    const struct js_hooks *hooks = p->js->hooks;
    if (s->stream.config.retention == STREAM_INTEREST && hooks != NULL &&
        hooks->consumers_saving != NULL) {
        enum err e = hooks->consumers_saving(p->js->hooks_context, s);
        if (e != ERR_OK) return jsapi_reply_refuse_store(p, e);
    }
    enum js_step step = append_config(p, s, c->number, c->created_ns, order);
    if (step != JS_WAIT_STORED) return step;
    c->order_ticket = p->r->ticket;
    if (c->is_hidden) c->created_ticket = p->r->ticket;
    bool is_queue = s->stream.config.retention == STREAM_WORK_QUEUE;
    if (is_queue && order == JS_ORDER_CONSUMER_UPDATE) s->consumers.change_ticket = p->r->ticket;
    return step;
}

static enum js_step add(struct jsapi_reply *p, struct js_stream *s)
{
    struct js_request *r = p->r;
    struct consumer *c;
    if (js_is_short(p->js)) return jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    enum err e = consumer_set_add(&s->consumers, &r->consumer->config, 0, r->now_ns, now_of(p), &c);
    if (e != ERR_OK) return jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    c->is_hidden = true;
    s->consumers.hidden_count++;
    enum js_step step = change(p, s, c, JS_ORDER_CONSUMER_CREATE);
    if (!c->is_hidden || (step == JS_WAIT_STORED && r->ticket != 0) || step == JS_MORE) return step;
    /* Since it was there nothing happened: no message stayed for it. */
    struct js_work nothing;
    js_consumer_end(p->js, s, c, 0, 0, &nothing);
    /* Without a record there is nothing to wait for: memory was short. */
    if (step == JS_WAIT_STORED) return jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    return step;
}

/* Who deletes a consumer and makes another one right behind it finds the place free, and what the
 * first one had of a work queue. The last record of those that end; 0: none does. */
static uint64_t last_end(const struct js_stream *s)
{
    uint32_t at = 0;
    uint64_t ticket = 0;
    const struct consumer *c;
    while ((c = consumer_set_each(&s->consumers, &at)) != NULL)
        if (c->is_ending && c->order_ticket > ticket) ticket = c->order_ticket;
    return ticket;
}

static bool is_in_the_way(enum jsapi_id id)
{
    return id == JSAPI_MAXIMUM_CONSUMERS_LIMIT || id == JSAPI_CONSUMER_WQ_MULTIPLE_UNFILTERED ||
           id == JSAPI_CONSUMER_WQ_CONSUMER_NOT_UNIQUE;
}

static enum js_step consumer_create(struct jsapi_reply *p)
{
    struct js_request *r = p->r;
    struct bytes rest = bytes_of(r->subject.data + API_BYTES, r->subject.len - API_BYTES);
    r->consumer = arena_alloc(&r->arena, sizeof *r->consumer);
    if (r->consumer == NULL) return jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    if (!consumer_request_read(&r->arena, rest, r->body,
                               p->js->is_lenient ? REQUEST_LENIENT : REQUEST_STRICT, r->consumer,
                               &p->error))
        return jsapi_reply_fail(p);
    struct js_stream *s = stream_of(p);
    if (s == NULL) return jsapi_reply_refuse(p, JSAPI_STREAM_NOT_FOUND);
    r->consumer_name = r->consumer->config.name;
    struct consumer *old = consumer_of(p, s);
    if (old != NULL && old->order_ticket != 0) return jsapi_reply_wait(p, old->order_ticket);
    /* Two consumers of a work queue may not select the same, and one selects nobody knows what. */
    if (s->consumers.change_ticket != 0) return jsapi_reply_wait(p, s->consumers.change_ticket);
    struct consumer_set_bounds bounds;
    bounds_of(p, s, &bounds);
    if (!consumer_set_check(&s->consumers, &r->arena, &bounds, r->consumer, &p->js->rng, &old,
                            &p->error)) {
        uint64_t ticket = is_in_the_way(p->error.id) ? last_end(s) : 0;
        return ticket != 0 ? jsapi_reply_wait(p, ticket) : jsapi_reply_fail(p);
    }
    r->consumer_name = r->consumer->config.name;
    return old != NULL ? change(p, s, old, JS_ORDER_CONSUMER_UPDATE) : add(p, s);
}

/* --- INFO, NAMES, LIST ----------------------------------------------------------------------- */

static enum js_step consumer_info(struct jsapi_reply *p)
{
    if (!request_is_empty(p->r->body)) return jsapi_reply_refuse(p, JSAPI_NOT_EMPTY_REQUEST);
    struct js_stream *s = stream_of(p);
    if (s == NULL) return jsapi_reply_refuse(p, JSAPI_STREAM_NOT_FOUND);
    struct consumer *c = consumer_of(p, s);
    if (c == NULL || c->is_hidden) return jsapi_reply_refuse(p, JSAPI_CONSUMER_NOT_FOUND);
    if (!consumer_count(c)) return jsapi_reply_more(p);
    jsapi_reply_begin(p);
    return write_info(p, s, c);
}

struct list_body {
    int64_t offset;
};
static const struct request_field list_fields[] = {
    REQUEST_FIELD(struct list_body, offset, "offset", REQUEST_INT, .embedded = "ApiPagedRequest"),
};
static const struct request_type list_type = {"JSApiConsumersRequest", list_fields, 1,
                                              sizeof(struct list_body)};

static bool write_listed(struct jsapi_reply *p, struct js_stream *s, struct consumer *c,
                         bool has_details)
{
    if (!has_details) {
        json_write_text(&p->w, NULL, c->name);
        return true;
    }
    json_write_object(&p->w, NULL);
    enum err e = consumer_write_info(c, &p->r->arena, now_of(p), s->outlet, true, &p->w);
    json_write_end(&p->w);
    return e == ERR_OK;
}

static enum js_step consumer_list(struct jsapi_reply *p, bool has_details)
{
    struct list_body body = {0};
    if (request_is_container(p->r->body) && !jsapi_reply_read_body(p, &list_type, &body))
        return jsapi_reply_fail(p);
    struct js_stream *s = stream_of(p);
    if (s == NULL) return jsapi_reply_refuse(p, JSAPI_STREAM_NOT_FOUND);
    uint32_t left = SIEVE_STEP;
    enum err e;
    if (consumer_set_order(&s->consumers, &left, &e)) return jsapi_reply_more(p);
    if (e != ERR_OK) return jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    const struct consumer_order *order = s->consumers.order;
    size_t count = order->count, limit = has_details ? JS_LIST_PAGE : JS_NAMES_PAGE;
    size_t offset = body.offset > 0 ? (size_t)body.offset : 0;
    if (offset > count) offset = count;
    size_t end = count - offset < limit ? count : offset + limit;
    for (size_t i = offset; has_details && i < end; i++)
        if (!consumer_count(consumer_order_at(order, i))) return jsapi_reply_more(p);
    jsapi_reply_begin(p);
    json_write_u64(&p->w, "total", count);
    json_write_u64(&p->w, "offset", offset);
    json_write_u64(&p->w, "limit", limit);
    json_write_array(&p->w, "consumers");
    bool is_written = true;
    for (size_t i = offset; is_written && i < end; i++)
        is_written = write_listed(p, s, consumer_order_at(order, i), has_details);
    consumer_set_order_done(&s->consumers);
    if (!is_written) return jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    json_write_end(&p->w);
    return jsapi_reply_finish(p);
}

/* --- DELETE ---------------------------------------------------------------------------------- */

static enum js_step consumer_delete(struct jsapi_reply *p)
{
    struct js_request *r = p->r;
    if (!request_is_empty(r->body)) return jsapi_reply_refuse(p, JSAPI_NOT_EMPTY_REQUEST);
    struct js_stream *s = stream_of(p);
    if (s == NULL) return jsapi_reply_refuse(p, JSAPI_STREAM_NOT_FOUND);
    struct consumer *c = consumer_of(p, s);
    if (c == NULL) return jsapi_reply_refuse(p, JSAPI_CONSUMER_NOT_FOUND);
    if (c->order_ticket != 0) return jsapi_reply_wait(p, c->order_ticket);
    r->stream_id = s->stream.id;
    r->consumer_number = c->number;
    r->order = JS_ORDER_CONSUMER_DELETE;
    r->seq = s->stream.staged.seq_last + 1; /* the first behind it */
    if (!js_consumer_is_kept(s, c)) return jsapi_consumer_stored(p->js, r, ERR_OK);
    if (p->js->hooks != NULL && p->js->hooks->consumer_ending != NULL)
        p->js->hooks->consumer_ending(p->js->hooks_context, s, c);
    struct record record = {.kind = RECORD_CONSUMER_GONE, .stream = s->stream.id};
    record.seq = c->number;
    record.time_ns = r->now_ns;
    enum js_step step = jsapi_reply_append(p, p->js->file, &record, JS_ORDER_CONSUMER_DELETE);
    if (step != JS_WAIT_STORED) return step;
    c->order_ticket = r->ticket;
    consumer_set_end(&s->consumers, c, true);
    return step;
}

/* --- PAUSE ----------------------------------------------------------------------------------- */

struct pause_body {
    struct time_stamp pause_until;
};
static const struct request_field pause_fields[] = {
    REQUEST_FIELD(struct pause_body, pause_until, "pause_until", REQUEST_TIME),
};
static const struct request_type pause_type = {"JSApiConsumerPauseRequest", pause_fields, 1,
                                               sizeof(struct pause_body)};

static enum js_step consumer_pause(struct jsapi_reply *p)
{
    struct js_request *r = p->r;
    struct pause_body body = {.pause_until = {.is_set = false}};
    if (request_is_container(r->body) && !jsapi_reply_read_body(p, &pause_type, &body))
        return jsapi_reply_fail(p);
    struct js_stream *s = stream_of(p);
    if (s == NULL) return jsapi_reply_refuse(p, JSAPI_STREAM_NOT_FOUND);
    struct consumer *c = consumer_of(p, s);
    if (c == NULL) return jsapi_reply_refuse(p, JSAPI_CONSUMER_NOT_FOUND);
    if (c->order_ticket != 0) return jsapi_reply_wait(p, c->order_ticket);
    r->consumer = arena_alloc(&r->arena, sizeof *r->consumer);
    if (r->consumer == NULL || consumer_config_of(c, &r->arena, &r->consumer->config) != ERR_OK)
        return jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    struct time_stamp *until = &r->consumer->config.pause_until;
    *until = body.pause_until;
    until->offset_minutes = 0;
    until->is_set = time_stamp_is_real(until);
    r->pause_until_ns = until->is_set ? until->wall_ns : 0;
    return change(p, s, c, JS_ORDER_CONSUMER_PAUSE);
}

/* --- RESET ----------------------------------------------------------------------------------- */

struct reset_body {
    uint64_t seq;
};
static const struct request_field reset_fields[] = {
    REQUEST_FIELD(struct reset_body, seq, "seq", REQUEST_UINT64),
};
static const struct request_type reset_type = {"JSApiConsumerResetRequest", reset_fields, 1,
                                               sizeof(struct reset_body)};

static bool keep_state(struct jsapi_reply *p, const struct consumer *c)
{
    struct text body;
    text_init(&body, p->js->mem, MEM_JETSTREAM, JS_REPLY_BYTES_MAX);
    consumer_encode_copy(c, now_of(p), &body);
    char *copy = body.is_failed ? NULL : arena_alloc(&p->r->arena, body.len);
    if (copy != NULL) memcpy(copy, body.data, body.len);
    p->r->before = bytes_of(copy, body.len);
    text_deinit(&body);
    return copy != NULL;
}

/* The new state in a record, then at once: what later records tell must not be older than it. Where
 * that is refused, or fails, nothing has happened. */
static enum js_step append_reset(struct jsapi_reply *p, struct js_stream *s, struct consumer *c,
                                 bool settles)
{
    struct text body;
    enum js_step step;
    text_init(&body, p->js->mem, MEM_JETSTREAM, JS_REPLY_BYTES_MAX);
    consumer_encode_reset(p->r->seq, settles, &body);
    struct record record = {.kind = RECORD_PROGRESS, .stream = s->stream.id, .seq = c->number};
    record.prev_seq = c->progress + 1u;
    record.time_ns = p->r->now_ns;
    record.body = text_written(&body);
    if (body.is_failed || !keep_state(p, c))
        step = jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    else
        step = jsapi_reply_append(p, p->js->file, &record, JS_ORDER_CONSUMER_RESET);
    if (step == JS_WAIT_STORED) {
        consumer_reset(c, p->r->seq, settles);
        consumer_reset_saved(c);
        consumer_set_moved_back(&s->consumers);
        c->order_ticket = p->r->ticket;
        c->progress++;
    }
    text_deinit(&body);
    return step;
}

/* What was acked before the reset goes before it: afterwards the consumer may want it again. What
 * others acked too, since a message goes with the last one that needed it. */
static enum err settle_before(struct js *js, struct js_stream *s, struct consumer *c)
{
    uint32_t at = 0;
    struct consumer *other;
    enum err e = ERR_OK;
    if (js->hooks == NULL || js->hooks->consumer_settling == NULL) return ERR_OK;
    if (s->stream.config.retention == STREAM_LIMITS) return ERR_OK;
    while (e == ERR_OK && (other = consumer_set_each(&s->consumers, &at)) != NULL)
        if (other == c || s->stream.config.retention == STREAM_INTEREST)
            e = js->hooks->consumer_settling(js->hooks_context, s, other);
    return e;
}

/* The state changes at once: what lies before it in the log has to have happened, or it would keep
 * what the deletion of another consumer is to drop, and a start would not. 0: nothing. */
static uint64_t order_before(struct js_stream *s, const struct consumer *c)
{
    uint32_t at = 0;
    uint64_t ticket = 0;
    const struct consumer *other;
    if (c->order_ticket != 0) return c->order_ticket;
    if (s->stream.config.retention != STREAM_INTEREST || !js_consumer_is_kept(s, c)) return 0;
    while ((other = consumer_set_each(&s->consumers, &at)) != NULL)
        if (!other->is_hidden && other->order_ticket > ticket) ticket = other->order_ticket;
    return ticket;
}

static enum js_step reset(struct jsapi_reply *p, struct js_stream *s, struct consumer *c)
{
    struct js_request *r = p->r;
    char text[JSAPI_ERROR_TEXT_BYTES];
    struct writer why;
    uint64_t before = order_before(s, c);
    if (before != 0) return jsapi_reply_wait(p, before);
    writer_init(&why, text, sizeof text);
    bool settles = s->stream.config.retention == STREAM_INTEREST;
    enum err e = settle_before(p->js, s, c);
    if (e == ERR_MEMORY) return jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    if (e != ERR_OK) return jsapi_reply_refuse_store(p, e);
    e = consumer_reset_seq(c, r->seq, &r->seq, &r->arena, &why);
    if (e == ERR_DENIED) {
        jsapi_error_set_text(&p->error, JSAPI_CONSUMER_INVALID_RESET, writer_written(&why));
        return jsapi_reply_fail(p);
    }
    if (e != ERR_OK) return jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    r->order = JS_ORDER_CONSUMER_RESET;
    /* What is published behind it stays, as a start has it, however far it goes. */
    r->work.end = s->stream.staged.seq_last + 1;
    if (r->seq < r->work.end) r->work.end = r->seq;
    if (js_consumer_is_kept(s, c)) return append_reset(p, s, c, settles);
    r->ticket = 0;
    consumer_reset(c, r->seq, settles);
    consumer_set_moved_back(&s->consumers);
    return jsapi_consumer_stored(p->js, r, ERR_OK);
}

/* What was acked goes with the reset, and goes behind what was published before: as in the log,
 * where a limit takes what there is then. So publishes in flight come first, and none is made until
 * they are stored. */
static enum js_step hold_publishes(struct jsapi_reply *p, struct js_stream *s)
{
    p->r->order = JS_ORDER_CONSUMER_HOLD;
    p->r->ticket = staged_newest(&s->stream.staged)->ticket;
    stream_stage_order(&s->stream, p->r->ticket);
    return JS_WAIT_STORED;
}

static enum js_step held(struct jsapi_reply *p, struct js_stream *s, struct consumer *c,
                         enum err result)
{
    if (result == ERR_OK && stream_settle(&s->stream, p->r->ticket) != ERR_OK)
        return JS_WAIT_STORED;
    /* What an earlier deletion lets go, by pieces, it would keep. */
    if (result == ERR_OK && s->sweeps > 0) return JS_WAIT_STORED;
    s->stream.order_ticket = 0;
    if (result != ERR_OK) return jsapi_reply_refuse_store(p, result);
    return c == NULL ? jsapi_reply_refuse(p, JSAPI_CONSUMER_NOT_FOUND) : reset(p, s, c);
}

static enum js_step consumer_reset_request(struct jsapi_reply *p)
{
    struct js_request *r = p->r;
    struct reset_body body = {0};
    struct js_stream *s = stream_of(p);
    struct consumer *c = s == NULL ? NULL : consumer_of(p, s);
    /* The consumer itself listens to this subject, so nobody answers for one that is not there. */
    if (c == NULL) return JS_SILENT;
    if (jsapi_reply_needs_more(p)) return jsapi_reply_refuse(p, JSAPI_REQUIRED_API_LEVEL);
    if (r->body.len > 0 && bytes_trim(r->body).len == 0) {
        jsapi_error_set_text(&p->error, JSAPI_INVALID_JSON,
                             BYTES_LITERAL("unexpected end of JSON input"));
        return jsapi_reply_fail(p);
    }
    if (!request_read(&r->arena, r->body, &reset_type, REQUEST_LENIENT, &body, &p->error))
        return jsapi_reply_fail(p);
    r->stream_id = s->stream.id;
    r->consumer_number = c->number;
    r->seq = body.seq;
    /* In memory nobody tells of tickets, and no start has another order. */
    bool is_first = s->stream.config.retention == STREAM_LIMITS ||
                    s->stream.config.storage == STREAM_MEMORY || s->stream.staged.op_count == 0;
    return is_first ? reset(p, s, c) : hold_publishes(p, s);
}

/* --- dispatch -------------------------------------------------------------------------------- */

static enum endpoint begin(struct js *js, struct js_request *r, struct jsapi_reply *p)
{
    *p = (struct jsapi_reply){.js = js, .r = r, .type = "system"};
    struct bytes rest = bytes_of(r->subject.data + API_BYTES, r->subject.len - API_BYTES);
    enum endpoint endpoint = endpoint_of(rest, r);
    if (endpoint == ENDPOINT_COUNT) return endpoint;
    p->type = endpoints[endpoint].type;
    p->tail = endpoints[endpoint].tail;
    return endpoint;
}

enum js_step jsapi_consumer_refuse(struct js *js, struct js_request *r, enum jsapi_id id)
{
    struct jsapi_reply p;
    (void)begin(js, r, &p);
    return jsapi_reply_refuse(&p, id);
}

enum js_step jsapi_consumer_run(struct js *js, struct js_request *r)
{
    struct jsapi_reply p;
    enum endpoint endpoint = begin(js, r, &p);
    if (endpoint == ENDPOINT_COUNT) return jsapi_reply_refuse(&p, JSAPI_BAD_REQUEST);
    bool is_change =
        endpoint != ENDPOINT_INFO && endpoint != ENDPOINT_NAMES && endpoint != ENDPOINT_LIST;
    if (jsapi_reply_is_behind(&p, is_change)) return JS_WAIT_STORED;
    if (endpoint == ENDPOINT_RESET) return consumer_reset_request(&p);
    if (jsapi_reply_needs_more(&p)) return jsapi_reply_refuse(&p, JSAPI_REQUIRED_API_LEVEL);
    switch (endpoint) {
    case ENDPOINT_CREATE:
    case ENDPOINT_DURABLE: return consumer_create(&p);
    case ENDPOINT_INFO: return consumer_info(&p);
    case ENDPOINT_NAMES: return consumer_list(&p, false);
    case ENDPOINT_LIST: return consumer_list(&p, true);
    case ENDPOINT_DELETE: return consumer_delete(&p);
    case ENDPOINT_PAUSE: return consumer_pause(&p);
    default: must(false); return JS_SILENT;
    }
}

static enum endpoint endpoint_of_order(enum js_order order)
{
    switch (order) {
    case JS_ORDER_CONSUMER_CREATE:
    case JS_ORDER_CONSUMER_UPDATE: return ENDPOINT_CREATE;
    case JS_ORDER_CONSUMER_DELETE: return ENDPOINT_DELETE;
    case JS_ORDER_CONSUMER_PAUSE: return ENDPOINT_PAUSE;
    case JS_ORDER_CONSUMER_HOLD:
    case JS_ORDER_CONSUMER_RESET: return ENDPOINT_RESET;
    default: must(false); return ENDPOINT_COUNT;
    }
}

/* Whoever comes to be interested meanwhile does not find half of what is to go. Where another order
 * is in flight, that waits (sweeps). */
static void hold_order(struct js_request *r, struct js_stream *s)
{
    if (!r->work.is_counted && s->sweeps++ == 0) s->stream.sweep_ticket = r->ticket;
    r->work.is_counted = true;
    if (s->stream.order_ticket != 0) return;
    s->stream.order_ticket = r->ticket;
    r->work.has_order = true;
}

static void end_order(struct js_request *r, struct js_stream *s)
{
    if (r->work.has_order) s->stream.order_ticket = 0;
    if (r->work.is_counted && --s->sweeps == 0) s->stream.sweep_ticket = s->stream.start_ticket;
    r->work.has_order = r->work.is_counted = false;
}

/* One whose place depends on the last message waits: what is published behind it comes behind. */
static void hold_start(const struct js_request *r, struct js_stream *s)
{
    bool is_at_first = r->order != JS_ORDER_CONSUMER_CREATE ||
                       r->consumer->config.deliver_policy == CONSUMER_DELIVER_ALL;
    if (!is_at_first && s->stream.start_ticket == 0) s->stream.start_ticket = r->ticket;
}

static void end_start(const struct js_request *r, struct js_stream *s)
{
    if (s->stream.start_ticket == 0 || s->stream.start_ticket != r->ticket) return;
    s->stream.start_ticket = 0;
    if (s->sweeps == 0) s->stream.sweep_ticket = 0;
}

static enum js_step answer_end(struct jsapi_reply *p)
{
    if (p->r->failure != ERR_OK) return jsapi_reply_refuse_store(p, p->r->failure);
    return jsapi_reply_succeed(p);
}

/* The consumer has gone; what it alone wanted goes now, and the stream waits for that. */
static enum js_step end_deletion(struct jsapi_reply *p, struct js_stream *s)
{
    struct js_request *r = p->r;
    if (s == NULL) return answer_end(p);
    if (js_consumer_end_step(s, &r->work)) {
        if (r->ticket == 0) r->ticket = STREAM_TICKET_FIRST;
        hold_order(r, s);
        return JS_MORE;
    }
    end_order(r, s);
    return answer_end(p);
}

static void end_change(const struct js_request *r, struct js_stream *s)
{
    if (s->consumers.change_ticket == r->ticket) s->consumers.change_ticket = 0;
}

static enum js_step failed(struct jsapi_reply *p, struct js_stream *s, struct consumer *c,
                           enum err result)
{
    c->order_ticket = 0;
    end_change(p->r, s);
    consumer_set_end(&s->consumers, c, false);
    if (p->r->order == JS_ORDER_CONSUMER_CREATE) {
        p->r->failure = result;
        p->r->ticket = 0;
        js_consumer_end(p->js, s, c, 0, 0, &p->r->work);
        return end_deletion(p, s);
    }
    if (p->r->order == JS_ORDER_CONSUMER_RESET) {
        enum err e = consumer_reset_undo(c, p->r->before, now_of(p));
        consumer_set_moved_back(&s->consumers);
        if (e != ERR_OK) consumer_encode_lost(c, BYTES_LITERAL(""));
        /* What the reset settled no record tells of: the next one begins at 0 again. */
        if (e != ERR_OK && s->stream.config.retention == STREAM_INTEREST) c->saved_seq = 0;
    }
    tell(p->js, s, c, false);
    return jsapi_reply_refuse_store(p, result);
}

/* ERR_MEMORY: not yet. */
static enum err carry_out(struct jsapi_reply *p, struct js_stream *s, struct consumer *c)
{
    enum err e = ERR_OK;
    switch (p->r->order) {
    case JS_ORDER_CONSUMER_CREATE:
        e = consumer_start(c);
        consumer_set_moved_back(&s->consumers); /* it may have stood at the end until now */
        break;
    case JS_ORDER_CONSUMER_UPDATE:
    case JS_ORDER_CONSUMER_PAUSE:
        e = js_consumer_update(s, c, &p->r->consumer->config, now_of(p), p->r->ticket, p->r->seq,
                               &p->r->work);
        /* The consumer is still there: what goes belongs to this order. */
        p->r->work.is_sweep = false;
        break;
    default: break;
    }
    return e;
}

/* What an earlier order lets go, by pieces, goes first, as at a start: who is made behind it, or
 * gets other filters, does not find it, and what one that is deleted behind it wanted it lets be.
 * Who is to get only what comes finds nothing. */
static bool has_order_before(const struct js_request *r, const struct js_stream *s)
{
    uint64_t order = s->stream.order_ticket;
    bool is_new = r->order == JS_ORDER_CONSUMER_CREATE &&
                  r->consumer->config.deliver_policy == CONSUMER_DELIVER_NEW;
    if (s->stream.config.retention != STREAM_INTEREST || is_new) return false;
    return s->sweeps > 0 ||
           (r->order == JS_ORDER_CONSUMER_UPDATE && order != 0 && order < r->ticket);
}

/* Inactive since it is there, however long the order waited. */
static void begin_to_wait(const struct js *js, struct consumer *c)
{
    int64_t now_ns = (int64_t)js->clock.mono_ns;
    if (c->inactive_ns > 0 && c->live->pulls.last_active_ns < now_ns)
        c->live->pulls.last_active_ns = now_ns;
}

static enum js_step answer(struct jsapi_reply *p, struct js_stream *s, struct consumer *c)
{
    switch (p->r->order) {
    case JS_ORDER_CONSUMER_CREATE:
        js_consumer_show(s, c);
        begin_to_wait(p->js, c);
        p->r->action = JS_ACTION_CONSUMER_CREATED;
        tell(p->js, s, c, true);
        return created(p, s, c);
    case JS_ORDER_CONSUMER_DELETE:
        p->r->action = JS_ACTION_CONSUMER_DELETED;
        js_consumer_end(p->js, s, c, p->r->ticket, p->r->seq, &p->r->work);
        return end_deletion(p, s);
    case JS_ORDER_CONSUMER_PAUSE: tell(p->js, s, c, false); return paused(p);
    case JS_ORDER_CONSUMER_RESET: tell(p->js, s, c, false); return was_reset(p, s, c);
    default: tell(p->js, s, c, false); return created(p, s, c);
    }
}

/* What the order lets an interest stream forget goes by pieces. */
static bool release_step(struct js_request *r, struct js_stream *s, const struct consumer *c)
{
    if (s->stream.config.retention != STREAM_INTEREST) return false;
    switch (r->order) {
    case JS_ORDER_CONSUMER_RESET: return js_reset_step(s, c, &r->work);
    case JS_ORDER_CONSUMER_UPDATE: return js_consumer_end_step(s, &r->work);
    default: return false;
    }
}

enum js_step jsapi_consumer_stored(struct js *js, struct js_request *r, enum err result)
{
    enum endpoint endpoint = endpoint_of_order(r->order);
    struct jsapi_reply p = {
        .js = js, .r = r, .type = endpoints[endpoint].type, .tail = endpoints[endpoint].tail};
    struct js_stream *s = js_find_id(js, r->stream_id);
    if (r->work.is_sweep) return end_deletion(&p, s);
    if (s == NULL) return jsapi_reply_refuse(&p, JSAPI_STREAM_NOT_FOUND);
    struct consumer *c = consumer_set_find_number(&s->consumers, r->consumer_number);
    if (r->order == JS_ORDER_CONSUMER_HOLD) return held(&p, s, c, result);
    if (c == NULL) {
        end_change(r, s);
        end_start(r, s);
        return jsapi_reply_refuse(&p, JSAPI_CONSUMER_NOT_FOUND);
    }
    if (result != ERR_OK) return failed(&p, s, c, result);
    if (!r->work.is_begun) {
        /* What was published before the order comes before it, and what a consumer settled too. */
        if (r->ticket != 0 && stream_settle(&s->stream, r->ticket - 1) != ERR_OK)
            return JS_WAIT_STORED;
        if (has_order_before(r, s)) {
            hold_start(r, s);
            return JS_WAIT_STORED;
        }
        if (carry_out(&p, s, c) != ERR_OK) return JS_WAIT_STORED;
        end_start(r, s);
        r->work.is_begun = true;
        r->work.ticket = r->ticket;
    }
    bool is_counted = r->order != JS_ORDER_CONSUMER_DELETE && r->order != JS_ORDER_CONSUMER_PAUSE;
    bool has_more = release_step(r, s, c);
    if (has_more || (is_counted && !consumer_count(c))) {
        /* Of one that leaves no record, a ticket that is durable: others wait for it. */
        if (r->ticket == 0) c->order_ticket = r->ticket = STREAM_TICKET_FIRST;
        if (has_more) hold_order(r, s);
        return JS_MORE;
    }
    end_order(r, s);
    c->order_ticket = 0;
    end_change(r, s);
    return answer(&p, s, c);
}
