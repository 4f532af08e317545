#include "core/js/jsapi_reply.h"

void jsapi_reply_begin(struct jsapi_reply *p)
{
    text_clear(p->r->out);
    json_write_init(&p->w, p->r->out, 0);
    json_write_object(&p->w, NULL);
    struct text *out = p->r->out;
    text_string(out, "\"type\":\"io.nats.jetstream.api.v1.");
    text_string(out, p->type);
    text_string(out, "_response\"");
    p->w.has_member[p->w.depth - 1] = true;
}

enum js_step jsapi_reply_finish(struct jsapi_reply *p)
{
    json_write_end(&p->w);
    struct quota *q = js_quota_make(p->js, p->r->account);
    p->js->api_total++;
    p->js->api_errors += p->r->is_error;
    if (q != NULL) {
        q->api_total++;
        q->api_errors += p->r->is_error;
    }
    return JS_REPLY;
}

static void write_tail(struct jsapi_reply *p)
{
    struct json_write *w = &p->w;
    switch (p->tail) {
    case JSAPI_REPLY_PLAIN: return;
    case JSAPI_REPLY_PURGE: json_write_u64(w, "purged", 0); return;
    case JSAPI_REPLY_RESET: json_write_u64(w, "reset_seq", 0); return;
    case JSAPI_REPLY_PAUSE:
        json_write_bool(w, "paused", false);
        json_write_text(w, "pause_until", BYTES_LITERAL("0001-01-01T00:00:00Z"));
        return;
    default: break;
    }
    json_write_u64(w, "total", 0);
    json_write_u64(w, "offset", 0);
    json_write_u64(w, "limit", 0);
    if (p->tail == JSAPI_REPLY_NAMES) {
        json_write_null(w, "streams");
    } else if (p->tail != JSAPI_REPLY_PAGED) {
        json_write_array(w, p->tail == JSAPI_REPLY_STREAMS ? "streams" : "consumers");
        json_write_end(w);
    }
}

enum js_step jsapi_reply_fail(struct jsapi_reply *p)
{
    jsapi_reply_begin(p);
    jsapi_error_write(&p->error, &p->w);
    write_tail(p);
    p->r->is_error = true;
    return jsapi_reply_finish(p);
}

enum js_step jsapi_reply_refuse(struct jsapi_reply *p, enum jsapi_id id)
{
    jsapi_error_set(&p->error, id);
    return jsapi_reply_fail(p);
}

enum js_step jsapi_reply_refuse_text(struct jsapi_reply *p, enum jsapi_id id, const char *text)
{
    jsapi_error_set_text(&p->error, id, bytes_from_text(text));
    return jsapi_reply_fail(p);
}

enum js_step jsapi_reply_succeed(struct jsapi_reply *p)
{
    jsapi_reply_begin(p);
    json_write_bool(&p->w, "success", true);
    return jsapi_reply_finish(p);
}

enum js_step jsapi_reply_refuse_store(struct jsapi_reply *p, enum err e)
{
    if (e == ERR_FULL) return jsapi_reply_refuse(p, JSAPI_STREAM_TOO_MANY_REQUESTS);
    if (e == ERR_NO_SPACE) return jsapi_reply_refuse(p, JSAPI_STORAGE_RESOURCES_EXCEEDED);
    return jsapi_reply_refuse_text(p, JSAPI_STREAM_STORE_FAILED, err_text(e));
}

bool jsapi_reply_read_body(struct jsapi_reply *p, const struct request_type *type, void *out)
{
    return request_read(&p->r->arena, p->r->body, type,
                        p->js->is_lenient ? REQUEST_LENIENT : REQUEST_STRICT, out, &p->error);
}

enum js_step jsapi_reply_append(struct jsapi_reply *p, struct store *store,
                                const struct record *record, enum js_order order)
{
    struct store_stub stub;
    enum err e = store_append(store, record, &stub);
    if (e != ERR_OK) return jsapi_reply_refuse_store(p, e);
    p->r->order = order;
    p->r->ticket = stub.ticket;
    return JS_WAIT_STORED;
}

enum js_step jsapi_reply_wait(struct jsapi_reply *p, uint64_t ticket)
{
    p->r->order = JS_ORDER_AGAIN;
    p->r->ticket = ticket;
    return JS_WAIT_STORED;
}

enum js_step jsapi_reply_more(struct jsapi_reply *p)
{
    p->r->order = JS_ORDER_AGAIN;
    p->r->ticket = 0;
    return JS_MORE;
}

bool jsapi_reply_is_behind(struct jsapi_reply *p, bool is_change)
{
    if (p->r->stream_name.len == 0) return false;
    const struct js_stream *s = js_find(p->js, p->r->account, p->r->stream_name, true);
    if (s == NULL) return false;
    uint64_t ticket = s->is_hidden ? s->create_ticket : is_change ? s->stream.order_ticket : 0;
    /* What a consumer's order lets go, by pieces, goes first, also where another order ended. */
    if (ticket == 0 && is_change) ticket = s->stream.sweep_ticket;
    if (ticket == 0) return false;
    return jsapi_reply_wait(p, ticket) == JS_WAIT_STORED;
}

bool jsapi_reply_needs_more(const struct jsapi_reply *p)
{
    return request_needs_higher_level(p->r->headers);
}
