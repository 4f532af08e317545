#include "core/js/jsapi.h"
#include "core/base/base64.h"
#include "core/base/must.h"
#include "core/js/get_request.h"
#include "core/js/jsapi_consumer.h"
#include "core/js/jsapi_reply.h"
#include "core/proto/headers.h"
#include "core/route/subject.h"

#define API "$JS.API."

static struct js_stream *target(struct jsapi_reply *p)
{
    return js_find(p->js, p->r->account, p->r->stream_name, false);
}

/* --- STREAM.CREATE, UPDATE, DELETE, INFO ----------------------------------------------------- */

/* What stands before the state. */
static void write_config(struct jsapi_reply *p, const struct stream *s, bool is_reply)
{
    stream_config_write(&s->config, &p->w, "config", is_reply);
    json_write_time(&p->w, "created", s->created_ns);
}

/* And in an answer to UPDATE or CREATE, or in a list, the rest. */
static void write_info(struct jsapi_reply *p, const struct stream *s, bool is_reply)
{
    if (p->w.is_array[p->w.depth - 1]) json_write_object(&p->w, NULL);
    write_config(p, s, is_reply);
    stream_write_state(s, &p->w);
    json_write_text_if(&p->w, "domain", p->js->domain);
    json_write_time(&p->w, "ts", p->r->now_ns);
}

static void bounds_of(const struct jsapi_reply *p, const struct js_limits *l,
                      struct stream_config_bounds *b)
{
    *b = (struct stream_config_bounds){
        .duplicate_window_max = p->js->duplicate_window_max,
        .is_max_bytes_required = l->max_bytes_required,
        .memory_stream_bytes_max = l->memory_max_stream_bytes,
        .file_stream_bytes_max = l->storage_max_stream_bytes,
    };
}

static bool check_account(struct jsapi_reply *p, const struct js_limits *l,
                          const struct stream_config *c)
{
    if (c->max_consumers > 0 && l->max_consumers > 0 && c->max_consumers > l->max_consumers)
        return jsapi_error_refuse(&p->error, JSAPI_MAXIMUM_CONSUMERS_LIMIT);
    return true;
}

static bool refuse_claim(struct jsapi_reply *p, enum directory_verdict v)
{
    switch (v) {
    case DIRECTORY_STREAMS: return jsapi_error_refuse(&p->error, JSAPI_MAXIMUM_STREAMS_LIMIT);
    case DIRECTORY_OVERLAP: return jsapi_error_refuse(&p->error, JSAPI_STREAM_SUBJECT_OVERLAP);
    case DIRECTORY_BYTES:
        return jsapi_error_refuse(&p->error, p->r->config.config.storage == STREAM_MEMORY
                                                 ? JSAPI_MEMORY_RESOURCES_EXCEEDED
                                                 : JSAPI_STORAGE_RESOURCES_EXCEEDED);
    default: return jsapi_error_refuse(&p->error, JSAPI_INSUFFICIENT_RESOURCES);
    }
}

/* What spans all logs is the directory's to say, behind everything else. before: NULL: a new
 * stream. True: it is granted; else *step is how the request goes on. */
static bool claim(struct jsapi_reply *p, const struct js_stream *before, enum js_step *step)
{
    struct js_request *r = p->r;
    const struct stream_config *c = &r->config.config;
    if (r->claim == DIRECTORY_GRANTED) return true;
    if (r->claim == DIRECTORY_UNASKED) {
        if (before == NULL && r->stream_id == 0) {
            r->stream_id = p->js->id_next;
            js_reserve_ids(p->js, r->stream_id);
        } else if (before != NULL) {
            r->stream_id = before->stream.id;
        }
        r->ask = (struct directory_ask){.account = r->account,
                                        .log = p->js->log,
                                        .stream = r->stream_id,
                                        .name = r->stream_name,
                                        .is_new = before == NULL,
                                        .is_memory = c->storage == STREAM_MEMORY,
                                        .max_bytes = c->max_bytes,
                                        .subjects = c->subjects,
                                        .now_ns = p->js->clock.mono_ns};
        if (p->js->directory == NULL) {
            *step = JS_WAIT_CLAIM;
            return false;
        }
        r->claim = js_claim(p->js, &r->ask);
        if (r->claim == DIRECTORY_GRANTED) return true;
    }
    enum directory_verdict v = r->claim;
    r->claim = DIRECTORY_UNASKED;
    if (v == DIRECTORY_AGAIN) {
        *step = jsapi_reply_wait(p, 0);
    } else if (v == DIRECTORY_ELSEWHERE) {
        *step = JS_ELSEWHERE;
    } else {
        (void)!refuse_claim(p, v);
        *step = jsapi_reply_fail(p);
    }
    return false;
}

/* Limits of the stream for its consumers may not fall below what some of them have. */
static bool check_consumers(struct jsapi_reply *p, const struct js_stream *s,
                            const struct stream_config *c)
{
    const struct stream_consumer_limits *old = &s->stream.config.consumer_limits;
    const struct stream_consumer_limits *new = &c->consumer_limits;
    if ((new->inactive_threshold <= 0 || new->inactive_threshold == old->inactive_threshold) &&
        (new->max_ack_pending <= 0 || new->max_ack_pending == old->max_ack_pending))
        return true;
    char text[JSAPI_ERROR_TEXT_BYTES];
    struct writer w;
    uint32_t at = 0, count = 0;
    const struct consumer *consumer;
    writer_init(&w, text, sizeof text);
    writer_text(&w, "change to limits violates consumers: ");
    while ((consumer = consumer_set_each(&s->consumers, &at)) != NULL) {
        bool is_fine =
            (new->inactive_threshold <= 0 || consumer->inactive_ns <= new->inactive_threshold) &&
            (new->max_ack_pending <= 0 || consumer->max_ack_pending <= new->max_ack_pending);
        if (is_fine) continue;
        if (count++ > 0) writer_text(&w, ", ");
        writer_bytes(&w, consumer->name);
    }
    if (count == 0) return true;
    return jsapi_error_refuse_text(&p->error, JSAPI_STREAM_UPDATE, writer_written(&w));
}

/* A STREAM record, and the texts that it borrows. */
struct config_record {
    struct text name, body;
    struct record record;
};

/* Of the configuration asked for; to be ended whatever the result. False: out of memory. */
static bool begin_record(struct config_record *x, const struct jsapi_reply *p, uint64_t id,
                         int64_t created_ns)
{
    text_init(&x->body, p->js->mem, MEM_JETSTREAM, JS_REPLY_BYTES_MAX);
    text_init(&x->name, p->js->mem, MEM_JETSTREAM, RECORD_SUBJECT_BYTES_MAX);
    text_bytes(&x->name, p->r->account_name);
    text_char(&x->name, ' ');
    text_bytes(&x->name, p->r->stream_name);
    if (!js_config_record(&p->r->config.config, created_ns, &x->body) || x->name.is_failed)
        return false;
    x->record = (struct record){.kind = RECORD_STREAM,
                                .stream = id,
                                .time_ns = p->r->now_ns,
                                .subject = text_written(&x->name),
                                .body = text_written(&x->body)};
    return true;
}

static void end_record(struct config_record *x)
{
    text_deinit(&x->body);
    text_deinit(&x->name);
}

/* The time of the record of an order, and of what it then finds: none of its stream is later. */
static int64_t begin_order(struct jsapi_reply *p, const struct js_stream *s)
{
    if (s->stream.clock_ns > p->r->now_ns) p->r->now_ns = s->stream.clock_ns;
    return p->r->now_ns;
}

static enum js_step append_config(struct jsapi_reply *p, uint64_t id, int64_t created_ns,
                                  enum js_order order)
{
    struct config_record x;
    enum js_step step = begin_record(&x, p, id, created_ns)
                            ? jsapi_reply_append(p, p->js->file, &x.record, order)
                            : jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    end_record(&x);
    return step;
}

/* The first one is durable, so this one lies in another block: what is damaged must not take the
 * configuration, and with it all messages of the stream. Where there is no room one has to do. */
static void append_again(const struct jsapi_reply *p, const struct js_stream *s)
{
    struct config_record x;
    struct store_stub stub;
    if (s->stream.config.storage == STREAM_MEMORY) return;
    if (begin_record(&x, p, s->stream.id, s->stream.created_ns)) {
        x.record.flags = RECORD_AGAIN;
        if (s->stream.clock_ns > x.record.time_ns) x.record.time_ns = s->stream.clock_ns;
        (void)!store_append(p->js->file, &x.record, &stub);
    }
    end_record(&x);
}

/* Without the domain, as in nats-server. */
static enum js_step created(struct jsapi_reply *p, const struct js_stream *s)
{
    jsapi_reply_begin(p);
    write_config(p, &s->stream, true);
    stream_write_state(&s->stream, &p->w);
    json_write_time(&p->w, "ts", p->r->now_ns);
    json_write_bool(&p->w, "did_create", true);
    return jsapi_reply_finish(p);
}

static enum js_step stream_create(struct jsapi_reply *p)
{
    struct stream_config *c = &p->r->config.config;
    struct js_limits limits;
    struct stream_config_bounds bounds;
    if (!jsapi_reply_read_body(p, &stream_config_request_type, &p->r->config))
        return jsapi_reply_fail(p);
    if (stream_config_set_level(&p->r->arena, c) != ERR_OK)
        return jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    js_limits_of(p->js, p->r->account, &limits);
    bounds_of(p, &limits, &bounds);
    struct js_stream *s = js_find(p->js, p->r->account, p->r->stream_name, true);
    if (!stream_config_check_create(&p->r->arena, c, p->r->stream_name, &bounds,
                                    p->r->config.pedantic, &p->error))
        return jsapi_reply_fail(p);
    if (s != NULL) {
        if (!stream_config_equal(c, &s->stream.config))
            return jsapi_reply_refuse(p, JSAPI_STREAM_NAME_EXIST);
        return created(p, s);
    }
    enum js_step step;
    if (js_is_short(p->js)) return jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    if (!check_account(p, &limits, c)) return jsapi_reply_fail(p);
    if (!claim(p, NULL, &step)) return step;
    uint64_t id = p->r->stream_id;
    enum err e = js_add(p->js, p->r->account, p->r->account_name, c, id, p->r->now_ns, &s);
    if (e == ERR_INVALID)
        return jsapi_reply_refuse_text(p, JSAPI_STREAM_CREATE, "subject transform is not valid");
    if (e != ERR_OK) return jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    step = append_config(p, id, p->r->now_ns, JS_ORDER_CREATE);
    if (step != JS_WAIT_STORED) js_drop(p->js, s);
    if (step == JS_WAIT_STORED) s->create_ticket = p->r->ticket;
    return step;
}

static enum js_step stream_update_request(struct jsapi_reply *p)
{
    struct stream_config *c = &p->r->config.config;
    struct js_limits limits;
    struct stream_config_bounds bounds;
    if (!jsapi_reply_read_body(p, &stream_config_request_type, &p->r->config))
        return jsapi_reply_fail(p);
    js_limits_of(p->js, p->r->account, &limits);
    bounds_of(p, &limits, &bounds);
    if (!stream_config_check(&p->r->arena, c, &bounds, p->r->config.pedantic, &p->error))
        return jsapi_reply_fail(p);
    if (!bytes_equal(c->name, p->r->stream_name))
        return jsapi_reply_refuse(p, JSAPI_STREAM_MISMATCH);
    struct js_stream *s = target(p);
    if (s == NULL) return jsapi_reply_refuse(p, JSAPI_STREAM_NOT_FOUND);
    if (stream_config_set_level(&p->r->arena, c) != ERR_OK)
        return jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    if (!stream_config_check_update(&s->stream.config, c, &p->error)) return jsapi_reply_fail(p);
    enum js_step step;
    if (!check_account(p, &limits, c)) return jsapi_reply_fail(p);
    if (!check_consumers(p, s, c)) return jsapi_reply_fail(p);
    /* Another stream of the name since it was asked: the claim is of the one that has gone. */
    if (p->r->claim == DIRECTORY_GRANTED && p->r->stream_id != s->stream.id)
        return jsapi_reply_refuse(p, JSAPI_STREAM_NOT_FOUND);
    if (!claim(p, s, &step)) return step;
    (void)begin_order(p, s);
    step = append_config(p, s->stream.id, s->stream.created_ns, JS_ORDER_UPDATE);
    if (step == JS_WAIT_STORED) stream_stage_order(&s->stream, p->r->ticket);
    return step;
}

static enum js_step stream_delete(struct jsapi_reply *p)
{
    if (!request_is_empty(p->r->body)) return jsapi_reply_refuse(p, JSAPI_NOT_EMPTY_REQUEST);
    struct js_stream *s = target(p);
    if (s == NULL) return jsapi_reply_refuse(p, JSAPI_STREAM_NOT_FOUND);
    struct record record = {.kind = RECORD_STREAM_GONE, .stream = s->stream.id};
    record.time_ns = p->r->now_ns;
    p->r->stream_id = s->stream.id;
    enum js_step step = jsapi_reply_append(p, p->js->file, &record, JS_ORDER_DELETE);
    if (step == JS_WAIT_STORED) stream_stage_order(&s->stream, p->r->ticket);
    return step;
}

struct info_body {
    int64_t offset;
    bool deleted_details;
    struct bytes subjects_filter;
};
static const struct request_field info_fields[] = {
    REQUEST_FIELD(struct info_body, offset, "offset", REQUEST_INT, .embedded = "ApiPagedRequest"),
    REQUEST_FIELD(struct info_body, deleted_details, "deleted_details", REQUEST_BOOL),
    REQUEST_FIELD(struct info_body, subjects_filter, "subjects_filter", REQUEST_TEXT),
};
static const struct request_type info_type = {"JSApiStreamInfoRequest", info_fields, 3,
                                              sizeof(struct info_body)};

/* The next piece of what the request reads. */
static enum js_step more_to_read(struct jsapi_reply *p)
{
    p->r->order = JS_ORDER_READ;
    p->r->ticket = 0;
    return JS_MORE;
}

/* False: out of memory. */
static bool begin_reading(struct jsapi_reply *p, const struct js_stream *s)
{
    p->r->stream_id = s->stream.id;
    p->r->reading = arena_alloc(&p->r->arena, sizeof *p->r->reading);
    return p->r->reading != NULL;
}

static enum js_step write_whole_info(struct jsapi_reply *p, const struct js_stream *s)
{
    struct js_reading *reading = p->r->reading;
    struct stream_report *state = &reading->state;
    uint32_t left = SIEVE_STEP;
    enum err e;
    if (!reading->is_begun) {
        if (stream_report_count(&s->stream, state, &left, &e)) return more_to_read(p);
        if (e != ERR_OK) return jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
        uint64_t total = state->total.keys;
        jsapi_reply_begin(p);
        json_write_u64(&p->w, "total", total);
        json_write_u64(&p->w, "offset", total > 0 ? state->offset : 0);
        json_write_u64(&p->w, "limit", total > 0 ? STREAM_SUBJECTS_PAGE : 0);
        write_config(p, &s->stream, true);
        reading->is_begun = true;
    } else {
        p->w = reading->writer;
    }
    bool has_more = stream_report_write(&s->stream, state, &p->w, &left);
    reading->writer = p->w;
    if (has_more) return more_to_read(p);
    json_write_text_if(&p->w, "domain", p->js->domain);
    if (p->js->leader.len > 0) {
        json_write_object(&p->w, "cluster");
        json_write_text(&p->w, "leader", p->js->leader);
        json_write_end(&p->w);
    }
    json_write_time(&p->w, "ts", p->r->now_ns);
    return jsapi_reply_finish(p);
}

static enum js_step stream_info(struct jsapi_reply *p)
{
    struct info_body body = {0};
    if (request_is_container(p->r->body) && !jsapi_reply_read_body(p, &info_type, &body))
        return jsapi_reply_fail(p);
    struct js_stream *s = target(p);
    if (s == NULL) return jsapi_reply_refuse(p, JSAPI_STREAM_NOT_FOUND);
    bool has_filter = body.subjects_filter.len > 0 && subject_is_valid(body.subjects_filter);
    if (!begin_reading(p, s)) return jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    struct stream_report *state = &p->r->reading->state;
    p->r->reading->is_info = true;
    stream_report_init(state, p->js->mem);
    state->offset = body.offset > 0 ? (uint64_t)body.offset : 0;
    state->has_deleted = body.deleted_details;
    if (has_filter) state->subjects_filter = body.subjects_filter;
    return write_whole_info(p, s);
}

/* --- STREAM.NAMES, LIST ---------------------------------------------------------------------- */

struct list_body {
    int64_t offset;
    struct bytes subject;
};
static const struct request_field list_fields[] = {
    REQUEST_FIELD(struct list_body, offset, "offset", REQUEST_INT, .embedded = "ApiPagedRequest"),
    REQUEST_FIELD(struct list_body, subject, "subject", REQUEST_TEXT),
};
static const struct request_type names_type = {"JSApiStreamNamesRequest", list_fields, 2,
                                               sizeof(struct list_body)};
static const struct request_type list_type = {"JSApiStreamListRequest", list_fields, 2,
                                              sizeof(struct list_body)};

void jsapi_write_item(struct js *js, int64_t now_ns, uint64_t stream, struct text *out)
{
    struct js_request r = {.out = out, .now_ns = now_ns};
    struct jsapi_reply p = {.js = js, .r = &r};
    const struct js_stream *s = js_find_id(js, stream);
    if (s == NULL || s->is_hidden) return;
    json_write_init(&p.w, out, 0);
    json_write_object(&p.w, NULL);
    write_info(&p, &s->stream, false);
    json_write_end(&p.w);
}

/* All that is known here is written as it is now. */
static enum js_step write_page(struct jsapi_reply *p)
{
    const struct js_page *page = &p->r->page;
    jsapi_reply_begin(p);
    json_write_u64(&p->w, "total", page->total);
    json_write_u64(&p->w, "offset", page->offset);
    json_write_u64(&p->w, "limit", JS_LIST_PAGE);
    json_write_array(&p->w, "streams");
    for (uint32_t i = 0; i < page->count; i++) {
        const struct js_page_item *item = &page->items[i];
        const struct js_stream *s = js_find_id(p->js, item->stream);
        if (item->text.len > 0) {
            json_write_raw(&p->w, NULL, item->text);
        } else if (s != NULL && !s->is_hidden) {
            write_info(p, &s->stream, false);
            json_write_end(&p->w);
        }
    }
    json_write_end(&p->w);
    return jsapi_reply_finish(p);
}

static enum js_step list_page(struct jsapi_reply *p, const struct directory_list *found,
                              size_t offset)
{
    struct js_page *page = &p->r->page;
    bool is_here = true;
    size_t count = found->count - offset;
    *page = (struct js_page){.total = found->count, .offset = offset};
    page->count = (uint32_t)(count < JS_LIST_PAGE ? count : JS_LIST_PAGE);
    page->items = arena_alloc(&p->r->arena, (page->count + 1) * sizeof *page->items);
    if (page->items == NULL) return jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    for (uint32_t i = 0; i < page->count; i++) {
        const struct directory_entry *e = found->entries[offset + i];
        page->items[i] = (struct js_page_item){.stream = e->stream, .log = e->log};
        is_here = is_here && e->log == p->js->log;
    }
    return is_here ? write_page(p) : JS_WAIT_PAGE;
}

static enum js_step stream_list(struct jsapi_reply *p, bool has_details)
{
    struct list_body body = {0};
    if (request_is_container(p->r->body) &&
        !jsapi_reply_read_body(p, has_details ? &list_type : &names_type, &body))
        return jsapi_reply_fail(p);
    struct directory_list found;
    struct directory *d = p->js->directory;
    if (d == NULL || directory_list(d, &p->r->arena, p->r->account, body.subject, &found) != ERR_OK)
        return jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    size_t count = found.count;
    size_t offset = body.offset > 0 ? (size_t)body.offset : 0;
    if (offset > count) offset = count;
    if (has_details) return list_page(p, &found, offset);
    jsapi_reply_begin(p);
    json_write_u64(&p->w, "total", count);
    json_write_u64(&p->w, "offset", offset);
    json_write_u64(&p->w, "limit", JS_NAMES_PAGE);
    if (offset == count) {
        json_write_null(&p->w, "streams"); /* as Go writes an empty slice that is nil */
        return jsapi_reply_finish(p);
    }
    json_write_array(&p->w, "streams");
    for (size_t i = offset; i < count && i < offset + JS_NAMES_PAGE; i++)
        json_write_text(&p->w, NULL, directory_name(found.entries[i]));
    json_write_end(&p->w);
    return jsapi_reply_finish(p);
}

/* --- STREAM.PURGE, MSG.DELETE, MSG.GET ------------------------------------------------------- */

struct purge_body {
    uint64_t seq, keep;
    struct bytes filter;
};
static const struct request_field purge_fields[] = {
    REQUEST_FIELD(struct purge_body, seq, "seq", REQUEST_UINT64),
    REQUEST_FIELD(struct purge_body, filter, "filter", REQUEST_TEXT),
    REQUEST_FIELD(struct purge_body, keep, "keep", REQUEST_UINT64),
};
static const struct request_type purge_type = {"JSApiStreamPurgeRequest", purge_fields, 3,
                                               sizeof(struct purge_body)};

static enum js_step append_purge(struct jsapi_reply *p, struct js_stream *s)
{
    struct record record = {.kind = RECORD_PURGE, .stream = s->stream.id, .seq = p->r->seq};
    record.time_ns = begin_order(p, s);
    record.subject = p->r->filter;
    enum js_step step = jsapi_reply_append(p, js_store_of(p->js, s), &record, JS_ORDER_PURGE);
    s->stream.order_ticket = 0;
    if (step == JS_WAIT_STORED) stream_stage_order(&s->stream, p->r->ticket);
    if (step == JS_WAIT_STORED && s->stream.config.storage == STREAM_MEMORY)
        return jsapi_stored(p->js, p->r, ERR_OK);
    return step;
}

/* Which are kept is found before there is a record, and that says where they begin: what is acked
 * or expires by then would make a count another one at a start than it was here. */
static enum js_step find_kept(struct jsapi_reply *p, struct js_stream *s)
{
    struct js_request *r = p->r;
    if (!r->work.is_begun) js_purge(s, r->filter, 0, r->keep, &r->work);
    if (stream_purge_find_end(&s->stream, &r->work.purge)) return JS_MORE;
    r->seq = r->work.purge.end > 0 ? r->work.purge.end : 1;
    r->keep = 0;
    js_work_end(&r->work);
    return append_purge(p, s);
}

/* Behind all that is in flight, and nothing is published until the purge is through. */
static enum js_step begin_keep(struct jsapi_reply *p, struct js_stream *s)
{
    const struct staged_op *last = staged_newest(&s->stream.staged);
    p->r->order = JS_ORDER_KEEP;
    p->r->ticket = last == NULL ? STREAM_TICKET_FIRST : last->ticket;
    stream_stage_order(&s->stream, p->r->ticket);
    return last == NULL ? find_kept(p, s) : JS_WAIT_STORED;
}

static enum js_step stream_purge_request(struct jsapi_reply *p)
{
    struct purge_body body = {0};
    if (request_is_container(p->r->body) && !jsapi_reply_read_body(p, &purge_type, &body))
        return jsapi_reply_fail(p);
    if ((body.seq > 0 && body.keep > 0) || body.seq > STREAM_SEQ_MAX)
        return jsapi_reply_refuse(p, JSAPI_BAD_REQUEST);
    struct js_stream *s = target(p);
    if (s == NULL) return jsapi_reply_refuse(p, JSAPI_STREAM_NOT_FOUND);
    if (s->stream.config.sealed) return jsapi_reply_refuse(p, JSAPI_STREAM_SEALED);
    if (s->stream.config.deny_purge) {
        jsapi_error_set_text(&p->error, JSAPI_STREAM_PURGE_FAILED,
                             BYTES_LITERAL("stream purge not permitted"));
        return jsapi_reply_fail(p);
    }
    p->r->seq = body.seq;
    p->r->keep = body.keep;
    p->r->filter = body.filter;
    p->r->stream_id = s->stream.id;
    bool is_file = s->stream.config.storage == STREAM_FILE;
    return is_file && body.keep > 0 ? begin_keep(p, s) : append_purge(p, s);
}

struct delete_body {
    uint64_t seq;
    bool no_erase;
};
static const struct request_field delete_fields[] = {
    REQUEST_FIELD(struct delete_body, seq, "seq", REQUEST_UINT64),
    REQUEST_FIELD(struct delete_body, no_erase, "no_erase", REQUEST_BOOL),
};
static const struct request_type delete_type = {"JSApiMsgDeleteRequest", delete_fields, 2,
                                                sizeof(struct delete_body)};

static enum js_step message_delete(struct jsapi_reply *p)
{
    struct delete_body body = {0};
    if (request_is_empty(p->r->body)) return jsapi_reply_refuse(p, JSAPI_BAD_REQUEST);
    if (!jsapi_reply_read_body(p, &delete_type, &body)) return jsapi_reply_fail(p);
    struct js_stream *s = target(p);
    if (s == NULL) return jsapi_reply_refuse(p, JSAPI_STREAM_NOT_FOUND);
    const struct stream *m = &s->stream;
    if (m->config.sealed) return jsapi_reply_refuse(p, JSAPI_STREAM_SEALED);
    if (m->config.deny_delete)
        return jsapi_reply_refuse_text(p, JSAPI_STREAM_MSG_DELETE_FAILED,
                                       "message delete not permitted");
    /* Only a file store tells why there is none. */
    bool is_file = m->config.storage == STREAM_FILE;
    if (is_file && body.seq > m->seq_last)
        return jsapi_reply_refuse_text(p, JSAPI_STREAM_MSG_DELETE_FAILED, "stream store EOF");
    if (is_file && body.seq < m->seq_first)
        return jsapi_reply_refuse_text(p, JSAPI_STREAM_MSG_DELETE_FAILED, "no message found");
    if (!msgs_has(&m->msgs, body.seq)) {
        jsapi_error_set_u64(&p->error, JSAPI_SEQUENCE_NOT_FOUND, body.seq);
        return jsapi_reply_fail(p);
    }
    struct record record = {.kind = RECORD_ERASE, .stream = m->id, .seq = body.seq};
    record.flags = body.no_erase ? 0 : RECORD_SECURE;
    record.time_ns = begin_order(p, s);
    p->r->seq = body.seq;
    p->r->stream_id = m->id;
    enum js_step step = jsapi_reply_append(p, js_store_of(p->js, s), &record, JS_ORDER_ERASE);
    /* If a limit takes it before the record is stored, this is known of it. */
    p->r->is_secure = !body.no_erase;
    if (step == JS_WAIT_STORED && !body.no_erase) js_scrub(s, body.seq);
    if (step == JS_WAIT_STORED) stream_stage_order(&s->stream, p->r->ticket);
    if (step == JS_WAIT_STORED && m->config.storage == STREAM_MEMORY)
        return jsapi_stored(p->js, p->r, ERR_OK);
    return step;
}

static void write_base64(struct jsapi_reply *p, const char *key, struct bytes data)
{
    if (data.len == 0) return;
    size_t len = base64_encoded_len(BASE64_STD, data.len);
    char *text = arena_alloc(&p->r->arena, len);
    if (text == NULL) {
        p->r->out->is_failed = true;
        return;
    }
    (void)base64_encode(BASE64_STD, data.data, data.len, text);
    json_write_text(&p->w, key, bytes_of(text, len));
}

static enum js_step message_found(struct jsapi_reply *p, const struct record *m)
{
    jsapi_reply_begin(p);
    json_write_object(&p->w, "message");
    json_write_text(&p->w, "subject", m->subject);
    json_write_u64(&p->w, "seq", m->seq);
    if (!p->r->no_headers) write_base64(p, "hdrs", m->headers);
    write_base64(p, "data", m->body);
    json_write_time(&p->w, "time", m->time_ns);
    json_write_end(&p->w);
    json_write_end(&p->w);
    return JS_REPLY; /* not counted among the API's requests, as in nats-server */
}

/* Without memory or a descriptor that passes: the message is there. */
static enum js_step refuse_read(struct jsapi_reply *p, enum err e)
{
    bool passes = e == ERR_MEMORY || e == ERR_IO;
    return jsapi_reply_refuse(p, passes ? JSAPI_INSUFFICIENT_RESOURCES : JSAPI_NO_MESSAGE_FOUND);
}

static enum js_step read_message(struct jsapi_reply *p, struct js_stream *s, uint64_t seq)
{
    struct stream *m = &s->stream;
    struct msgs_entry entry;
    struct record record;
    if (seq == 0 || msgs_get(&m->msgs, seq, &entry) != ERR_OK)
        return jsapi_reply_refuse(p, JSAPI_NO_MESSAGE_FOUND);
    p->r->read = (struct store_read){.place = entry.place, .stream = m->id, .seq = seq};
    p->r->read.context = p->r->context;
    enum err e = store_read(js_store_of(p->js, s), &p->r->read, &record);
    if (e == ERR_BUSY) return JS_WAIT_READ;
    return e == ERR_OK ? message_found(p, &record) : refuse_read(p, e);
}

static enum js_step search_message(struct jsapi_reply *p, struct js_stream *s)
{
    struct js_reading *reading = p->r->reading;
    uint32_t left = SIEVE_STEP;
    uint64_t seq, resume = 0;
    enum err e = ERR_OK;
    if (reading->is_last) {
        if (search_last(&reading->search, &left, &seq, &e)) resume = 1;
    } else {
        seq = search_next(&reading->search, reading->seq, &left, &resume);
        reading->seq = resume;
    }
    if (e != ERR_OK) return jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    return seq == 0 && resume != 0 ? more_to_read(p) : read_message(p, s, seq);
}

static enum js_step message_get(struct jsapi_reply *p)
{
    struct get_request b = {0};
    if (request_is_empty(p->r->body)) return jsapi_reply_refuse(p, JSAPI_BAD_REQUEST);
    if (!jsapi_reply_read_body(p, &get_request_type, &b)) return jsapi_reply_fail(p);
    bool has_last = b.last_by_subj.len > 0, has_next = b.next_by_subj.len > 0;
    bool has_time = b.start_time.is_set;
    if (b.batch > 0 || b.max_bytes > 0 || (b.seq > 0 && (has_last || has_time)) ||
        (b.seq == 0 && !has_last && !has_next && !has_time) || (has_time && has_last) ||
        (has_last && has_next))
        return jsapi_reply_refuse(p, JSAPI_BAD_REQUEST);
    struct js_stream *s = target(p);
    if (s == NULL) return jsapi_reply_refuse(p, JSAPI_STREAM_NOT_FOUND);
    struct stream *m = &s->stream;
    uint64_t seq = has_time ? stream_seq_at_time(m, b.start_time.wall_ns) : b.seq;
    p->r->no_headers = b.no_hdr;
    if (!has_next && !has_last) return read_message(p, s, seq);
    if (!begin_reading(p, s)) return jsapi_reply_refuse(p, JSAPI_INSUFFICIENT_RESOURCES);
    struct js_reading *reading = p->r->reading;
    search_init(&reading->search, p->js->mem, &m->msgs, &m->subjects,
                has_next ? b.next_by_subj : b.last_by_subj);
    reading->is_last = !has_next;
    reading->seq = seq > 0 ? seq : 1;
    return search_message(p, s);
}

/* --- INFO ------------------------------------------------------------------------------------ */

static enum js_step account_info(struct jsapi_reply *p)
{
    struct js_limits l;
    const struct quota nothing = {.account = 0};
    const struct quota *q = p->r->usage;
    if (q == NULL) q = js_quota_of(p->js, p->r->account);
    if (q == NULL) q = &nothing;
    js_limits_of(p->js, p->r->account, &l);
    jsapi_reply_begin(p);
    json_write_u64(&p->w, "memory", q->memory.used);
    json_write_u64(&p->w, "storage", q->storage.used);
    json_write_u64(&p->w, "reserved_memory", q->memory.reserved);
    json_write_u64(&p->w, "reserved_storage", q->storage.reserved);
    json_write_u64(&p->w, "streams", q->streams);
    json_write_u64(&p->w, "consumers", q->consumers);
    json_write_object(&p->w, "limits");
    json_write_i64(&p->w, "max_memory", l.max_memory);
    json_write_i64(&p->w, "max_storage", l.max_storage);
    json_write_i64(&p->w, "max_streams", l.max_streams);
    json_write_i64(&p->w, "max_consumers", l.max_consumers);
    json_write_i64(&p->w, "max_ack_pending", l.max_ack_pending);
    json_write_i64(&p->w, "memory_max_stream_bytes", l.memory_max_stream_bytes);
    json_write_i64(&p->w, "storage_max_stream_bytes", l.storage_max_stream_bytes);
    json_write_bool(&p->w, "max_bytes_required", l.max_bytes_required);
    json_write_end(&p->w);
    json_write_text_if(&p->w, "domain", p->js->domain);
    json_write_object(&p->w, "api");
    json_write_u64(&p->w, "level", JS_API_LEVEL);
    json_write_u64(&p->w, "total", q->api_total);
    json_write_u64(&p->w, "errors", q->api_errors);
    json_write_end(&p->w);
    return jsapi_reply_finish(p);
}

/* --- dispatch -------------------------------------------------------------------------------- */

enum endpoint {
    ENDPOINT_INFO,
    ENDPOINT_NAMES,
    ENDPOINT_LIST,
    ENDPOINT_CREATE,
    ENDPOINT_UPDATE,
    ENDPOINT_STREAM_INFO,
    ENDPOINT_DELETE,
    ENDPOINT_PURGE,
    ENDPOINT_MSG_GET,
    ENDPOINT_MSG_DELETE,
    ENDPOINT_COUNT
};

/* has_name: a stream's name is the next and last token. changes: the stream of that name. */
static const struct {
    const char *prefix, *type;
    bool has_name, changes;
    enum jsapi_reply_tail tail;
} endpoints[ENDPOINT_COUNT] = {
    [ENDPOINT_INFO] = {"INFO", "account_info", false, false, JSAPI_REPLY_PLAIN},
    [ENDPOINT_NAMES] = {"STREAM.NAMES", "stream_names", false, false, JSAPI_REPLY_NAMES},
    [ENDPOINT_LIST] = {"STREAM.LIST", "stream_list", false, false, JSAPI_REPLY_STREAMS},
    [ENDPOINT_CREATE] = {"STREAM.CREATE.", "stream_create", true, true, JSAPI_REPLY_PLAIN},
    [ENDPOINT_UPDATE] = {"STREAM.UPDATE.", "stream_update", true, true, JSAPI_REPLY_PLAIN},
    [ENDPOINT_STREAM_INFO] = {"STREAM.INFO.", "stream_info", true, false, JSAPI_REPLY_PAGED},
    [ENDPOINT_DELETE] = {"STREAM.DELETE.", "stream_delete", true, true, JSAPI_REPLY_PLAIN},
    [ENDPOINT_PURGE] = {"STREAM.PURGE.", "stream_purge", true, true, JSAPI_REPLY_PURGE},
    [ENDPOINT_MSG_GET] = {"STREAM.MSG.GET.", "stream_msg_get", true, false, JSAPI_REPLY_PLAIN},
    [ENDPOINT_MSG_DELETE] = {"STREAM.MSG.DELETE.", "stream_msg_delete", true, true,
                             JSAPI_REPLY_PLAIN},
};

static enum endpoint endpoint_of(struct bytes subject, struct bytes *name)
{
    if (!bytes_starts_with(subject, BYTES_LITERAL(API))) return ENDPOINT_COUNT;
    struct bytes rest = bytes_of(subject.data + sizeof API - 1, subject.len - sizeof API + 1);
    for (enum endpoint i = 0; i < ENDPOINT_COUNT; i++) {
        struct bytes prefix = bytes_from_text(endpoints[i].prefix);
        if (!bytes_starts_with(rest, prefix)) continue;
        *name = bytes_of(rest.data + prefix.len, rest.len - prefix.len);
        if (endpoints[i].has_name ? bytes_find(*name, '.') == name->len && name->len > 0
                                  : name->len == 0)
            return i;
    }
    return ENDPOINT_COUNT;
}

/* What is not done here, but has a name: requests of clusters, as a server alone answers them, and
 * what is not supported yet. tokens: behind the prefix. */
enum { UNSERVED_SNAPSHOT = 7 };
static const struct {
    const char *prefix, *type;
    uint32_t tokens;
    bool is_of_cluster;
} unserved[] = {
    {"STREAM.LEADER.STEPDOWN.", "stream_leader_stepdown", 1, true},
    {"STREAM.PEER.REMOVE.", "stream_remove_peer", 1, true},
    {"STREAM.PEER.EVACUATE.", "stream_evacuate_peer", 1, true},
    {"STREAM.CANCEL_MOVE.", "stream_cancel_move", 1, true},
    {"CONSUMER.LEADER.STEPDOWN.", "consumer_leader_stepdown", 2, true},
    {"CONSUMER.PEER.REMOVE.", "consumer_remove_peer", 2, true},
    {"CONSUMER.PEER.EVACUATE.", "consumer_evacuate_peer", 2, true},
    [UNSERVED_SNAPSHOT] = {"STREAM.SNAPSHOT.", "stream_snapshot", 1, false},
    {"STREAM.RESTORE.", "stream_restore", 1, false},
    {"CONSUMER.UNPIN.", "consumer_unpin", 2, false},
};

static bool answer_unserved(struct jsapi_reply *p, enum js_step *step)
{
    struct bytes subject = p->r->subject;
    if (!bytes_starts_with(subject, BYTES_LITERAL(API))) return false;
    struct bytes rest = bytes_of(subject.data + sizeof API - 1, subject.len - sizeof API + 1);
    for (size_t i = 0; i < sizeof unserved / sizeof unserved[0]; i++) {
        struct bytes prefix = bytes_from_text(unserved[i].prefix);
        if (!bytes_starts_with(rest, prefix)) continue;
        rest = bytes_of(rest.data + prefix.len, rest.len - prefix.len);
        if (rest.len == 0 || subject_token_count(rest) != unserved[i].tokens) return false;
        p->type = unserved[i].type;
        p->r->stream_name = subject_token(rest, 0);
        if (i == UNSERVED_SNAPSHOT && !request_is_empty(p->r->body) && target(p) == NULL) {
            *step = jsapi_reply_refuse(p, JSAPI_STREAM_NOT_FOUND);
            return true;
        }
        *step = jsapi_reply_refuse(p, unserved[i].is_of_cluster ? JSAPI_CLUSTER_REQUIRED
                                                                : JSAPI_BAD_REQUEST);
        return true;
    }
    return false;
}

static enum js_step run(struct js *js, struct js_request *r)
{
    struct jsapi_reply p = {.js = js, .r = r, .type = "system"};
    arena_init(&r->arena, js->mem, MEM_JETSTREAM);
    if (js->is_on != NULL && !js->is_on(js->context, r->account)) {
        if (jsapi_consumer_is_for(r->subject))
            return jsapi_consumer_refuse(js, r, JSAPI_NOT_ENABLED_FOR_ACCOUNT);
        struct bytes name;
        enum endpoint asked = endpoint_of(r->subject, &name);
        if (asked != ENDPOINT_COUNT) {
            p.type = endpoints[asked].type;
            p.tail = endpoints[asked].tail;
        }
        return jsapi_reply_refuse(&p, JSAPI_NOT_ENABLED_FOR_ACCOUNT);
    }
    enum js_step step;
    if (answer_unserved(&p, &step)) return step;
    if (jsapi_consumer_is_for(r->subject)) return jsapi_consumer_run(js, r);
    enum endpoint endpoint = endpoint_of(r->subject, &r->stream_name);
    if (endpoint == ENDPOINT_COUNT) return jsapi_reply_refuse(&p, JSAPI_BAD_REQUEST);
    p.type = endpoints[endpoint].type;
    p.tail = endpoints[endpoint].tail;
    if (jsapi_reply_needs_more(&p)) return jsapi_reply_refuse(&p, JSAPI_REQUIRED_API_LEVEL);
    if (jsapi_reply_is_behind(&p, endpoints[endpoint].changes)) return JS_WAIT_STORED;
    switch (endpoint) {
    case ENDPOINT_INFO: return account_info(&p);
    case ENDPOINT_NAMES: return stream_list(&p, false);
    case ENDPOINT_LIST: return stream_list(&p, true);
    case ENDPOINT_CREATE: return stream_create(&p);
    case ENDPOINT_UPDATE: return stream_update_request(&p);
    case ENDPOINT_STREAM_INFO: return stream_info(&p);
    case ENDPOINT_DELETE: return stream_delete(&p);
    case ENDPOINT_PURGE: return stream_purge_request(&p);
    case ENDPOINT_MSG_GET: return message_get(&p);
    case ENDPOINT_MSG_DELETE: return message_delete(&p);
    case ENDPOINT_COUNT: break;
    }
    return JS_SILENT;
}

static enum endpoint endpoint_of_order(enum js_order order)
{
    switch (order) {
    case JS_ORDER_CREATE: return ENDPOINT_CREATE;
    case JS_ORDER_UPDATE: return ENDPOINT_UPDATE;
    case JS_ORDER_DELETE: return ENDPOINT_DELETE;
    case JS_ORDER_KEEP:
    case JS_ORDER_PURGE: return ENDPOINT_PURGE;
    case JS_ORDER_ERASE: return ENDPOINT_MSG_DELETE;
    case JS_ORDER_READ: return ENDPOINT_MSG_GET;
    default: must(false); return ENDPOINT_COUNT;
    }
}

static enum js_step run_again(struct js *js, struct js_request *r)
{
    arena_deinit(&r->arena);
    struct js_request again = {.account = r->account,
                               .account_name = r->account_name,
                               .subject = r->subject,
                               .headers = r->headers,
                               .body = r->body,
                               .out = r->out,
                               .context = r->context,
                               .usage = r->usage,
                               .now_ns = r->now_ns,
                               .mono_ns = r->mono_ns};
    /* What was claimed, and by which name, stays so. */
    again.claim = r->claim;
    if (r->claim != DIRECTORY_UNASKED) again.stream_id = r->stream_id;
    *r = again;
    return run(js, r);
}

/* A claim ends with its request. */
static enum js_step settle(struct js *js, struct js_request *r, enum js_step step)
{
    bool is_over = step == JS_REPLY || step == JS_SILENT || step == JS_ELSEWHERE;
    if (!is_over || r->claim != DIRECTORY_GRANTED) return step;
    r->claim = DIRECTORY_UNASKED;
    if (js->directory != NULL)
        directory_settle(js->directory, r->stream_id, r->is_claim_done);
    else
        r->notice = r->is_claim_done ? JS_NOTICE_DONE : JS_NOTICE_UNDONE;
    return step;
}

enum js_step jsapi_run(struct js *js, struct js_request *r)
{
    return settle(js, r, run(js, r));
}

static void tell_gone(struct js *js, struct js_request *r)
{
    if (js->directory != NULL)
        directory_drop(js->directory, r->stream_id);
    else
        r->notice = JS_NOTICE_GONE;
}

/* Its record is durable: the next piece of what it asks for, or the answer. */
static enum js_step carry_out(struct jsapi_reply *p, struct js_stream *s)
{
    struct js_request *r = p->r;
    const struct js_hooks *hooks = p->js->hooks;
    bool is_memory = s->stream.config.storage == STREAM_MEMORY, is_keep = r->order == JS_ORDER_KEEP;
    /* What was published before the order comes before it. */
    if (!is_memory && !r->work.is_begun &&
        stream_settle(&s->stream, is_keep ? r->ticket : r->ticket - 1) != ERR_OK)
        return JS_WAIT_STORED;
    if (is_keep) return find_kept(p, s);
    if (r->order == JS_ORDER_ERASE && r->is_secure)
        js_scrub(s, r->seq); /* it may have moved since */
    /* As at a start: what a new limit takes depends on what is there, and so on what consumers'
     * orders before it let go. */
    if (!r->work.is_begun && r->order == JS_ORDER_UPDATE && s->sweeps > 0) return JS_WAIT_STORED;
    if (!is_memory && !r->work.is_begun && stream_expire_until(&s->stream, r->now_ns))
        return JS_MORE;
    if (r->order == JS_ORDER_ERASE) {
        (void)stream_remove(&s->stream, r->seq);
        s->stream.order_ticket = 0;
        return jsapi_reply_succeed(p);
    }
    if (!r->work.is_begun && r->order == JS_ORDER_PURGE)
        js_purge(s, r->filter, r->seq, r->keep, &r->work);
    else if (!r->work.is_begun && js_update(s, &r->config.config, &r->work) != ERR_OK)
        return JS_WAIT_STORED;
    if (js_work_step(s, &r->work)) {
        /* A ticket of memory says nothing to who waits for the file store: one long durable. */
        if (is_memory && r->order == JS_ORDER_PURGE)
            s->stream.order_ticket = r->ticket = STREAM_TICKET_FIRST;
        return JS_MORE;
    }
    s->stream.order_ticket = 0;
    jsapi_reply_begin(p);
    if (r->order == JS_ORDER_PURGE) {
        json_write_bool(&p->w, "success", true);
        json_write_u64(&p->w, "purged", r->work.purge.count);
        return jsapi_reply_finish(p);
    }
    r->is_claim_done = true;
    r->action = JS_ACTION_UPDATED;
    append_again(p, s);
    if (hooks != NULL && hooks->updated != NULL) hooks->updated(p->js->hooks_context, s);
    write_info(p, &s->stream, true);
    return jsapi_reply_finish(p);
}

static enum js_step stored(struct js *js, struct js_request *r, enum err result)
{
    if (r->order == JS_ORDER_AGAIN) return run_again(js, r);
    if (r->order >= JS_ORDER_CONSUMER_CREATE) return jsapi_consumer_stored(js, r, result);
    enum endpoint endpoint = endpoint_of_order(r->order);
    if (r->order == JS_ORDER_READ && r->reading->is_info) endpoint = ENDPOINT_STREAM_INFO;
    struct jsapi_reply p = {
        .js = js, .r = r, .type = endpoints[endpoint].type, .tail = endpoints[endpoint].tail};
    struct js_stream *s = js_find_id(js, r->stream_id);
    if (s == NULL) return jsapi_reply_refuse(&p, JSAPI_STREAM_NOT_FOUND);
    if (r->order == JS_ORDER_READ)
        return endpoint == ENDPOINT_STREAM_INFO ? write_whole_info(&p, s) : search_message(&p, s);
    if (result != ERR_OK) {
        if (r->order == JS_ORDER_CREATE)
            js_drop(js, s);
        else if (s->stream.order_ticket == r->ticket)
            s->stream.order_ticket = 0;
        return jsapi_reply_refuse_store(&p, result);
    }
    if (r->order == JS_ORDER_CREATE) {
        js_show(js, s);
        append_again(&p, s);
        r->is_claim_done = true;
        r->action = JS_ACTION_CREATED;
        if (js->hooks != NULL && js->hooks->opened != NULL) js->hooks->opened(js->hooks_context, s);
        return created(&p, s);
    }
    if (r->order == JS_ORDER_DELETE) {
        /* Of a stream in memory each message is freed: before it goes, by pieces. */
        bool is_memory = s->stream.config.storage == STREAM_MEMORY;
        if (is_memory && !r->work.is_begun) js_purge(s, BYTES_LITERAL(""), 0, 0, &r->work);
        if (is_memory && js_work_step(s, &r->work)) return JS_MORE;
        js_drop(js, s);
        tell_gone(js, r);
        r->action = JS_ACTION_DELETED;
        return jsapi_reply_succeed(&p);
    }
    return carry_out(&p, s);
}

enum js_step jsapi_stored(struct js *js, struct js_request *r, enum err result)
{
    return settle(js, r, stored(js, r, result));
}

enum js_step jsapi_claimed(struct js *js, struct js_request *r, enum directory_verdict v)
{
    must(v != DIRECTORY_UNASKED);
    r->claim = v;
    return settle(js, r, run_again(js, r));
}

enum js_step jsapi_paged(struct js *js, struct js_request *r)
{
    struct jsapi_reply p = {.js = js,
                            .r = r,
                            .type = endpoints[ENDPOINT_LIST].type,
                            .tail = endpoints[ENDPOINT_LIST].tail};
    if (r->page.is_failed) return jsapi_reply_refuse(&p, JSAPI_INSUFFICIENT_RESOURCES);
    return write_page(&p);
}

/* The token behind so many others, of those behind "$JS.API.". */
static struct bytes token_at(struct bytes rest, uint32_t n)
{
    while (n-- > 0) {
        size_t dot = bytes_find(rest, '.');
        if (dot == rest.len) return bytes_of(NULL, 0);
        rest = bytes_of(rest.data + dot + 1, rest.len - dot - 1);
    }
    return bytes_of(rest.data, bytes_find(rest, '.'));
}

struct bytes jsapi_stream_of(struct bytes subject)
{
    if (!bytes_starts_with(subject, BYTES_LITERAL(API))) return bytes_of(NULL, 0);
    struct bytes rest = bytes_of(subject.data + sizeof API - 1, subject.len - sizeof API + 1);
    struct bytes about = token_at(rest, 0), verb = token_at(rest, 1);
    if (bytes_equal(about, BYTES_LITERAL("STREAM")))
        return token_at(rest, bytes_equal(verb, BYTES_LITERAL("MSG")) ? 3 : 2);
    if (!bytes_equal(about, BYTES_LITERAL("CONSUMER"))) return bytes_of(NULL, 0);
    bool has_two =
        bytes_equal(verb, BYTES_LITERAL("DURABLE")) || bytes_equal(verb, BYTES_LITERAL("MSG"));
    return token_at(rest, has_two ? 3 : 2);
}

enum js_step jsapi_read(struct js *js, struct js_request *r, enum err result,
                        const struct record *record)
{
    struct jsapi_reply p = {.js = js, .r = r, .type = endpoints[ENDPOINT_MSG_GET].type};
    return result == ERR_OK ? message_found(&p, record) : refuse_read(&p, result);
}

static void end_reading(struct js_reading *reading)
{
    if (reading->is_info)
        stream_report_deinit(&reading->state);
    else
        search_deinit(&reading->search);
}

void jsapi_end(struct js_request *r)
{
    js_work_end(&r->work);
    if (r->reading != NULL) end_reading(r->reading);
    arena_deinit(&r->arena);
}
