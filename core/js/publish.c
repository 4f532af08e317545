#include "core/js/publish.h"
#include "core/base/must.h"
#include "core/base/time_text.h"
#include "core/proto/headers.h"
#include "core/route/subject.h"

enum {
    FILE_RECORD_BYTES_MAX = 32 * 1024 * 1024, /* nats-server's bound of a stored message */
    LOOK_BACK = 64, /* messages, before all subjects are looked at: 50 ms with a million of them */
};

struct check {
    struct stream *s;
    struct bytes subject, headers, body;
    int64_t now_ns;
    struct bytes id;
    bool is_rollup;
    bool is_marker; /* of the server's own: it takes the place of a message, wanted or not */
    struct stream_outcome *out;
};

static bool refuse(struct check *c, enum jsapi_id id)
{
    return jsapi_error_refuse(&c->out->error, id);
}

static bool refuse_text(struct check *c, enum jsapi_id id, const char *why)
{
    return jsapi_error_refuse_text(&c->out->error, id, bytes_from_text(why));
}

static bool refuse_seq(struct check *c, uint64_t seq)
{
    jsapi_error_set_u64(&c->out->error, JSAPI_STREAM_WRONG_LAST_SEQUENCE, seq);
    return false;
}

/* The value of a header, empty when there is none. */
static struct bytes header(const struct check *c, const char *key)
{
    struct bytes value = BYTES_LITERAL("");
    (void)headers_find(c->headers, bytes_from_text(key), &value);
    return value;
}

/* What is no number never equals a sequence. */
static uint64_t expected_seq(struct bytes value)
{
    uint64_t seq;
    return bytes_to_u64(value, BYTES_U64_TEXT_MAX, &seq) == ERR_OK ? seq : UINT64_MAX;
}

/* --- in order -------------------------------------------------------------------------------- */

/* With what is in flight, and so much more. */
static bool may_use(const struct check *c, const struct quota_bytes *q, uint64_t more)
{
    const struct stream *s = c->s;
    if (s->staged.bytes > s->bytes) more += s->staged.bytes - s->bytes;
    return quota_bytes_may_use(q, more);
}

static bool check_size(struct check *c)
{
    const struct stream_config *config = &c->s->config;
    size_t data = c->headers.len + c->body.len;
    if (config->storage == STREAM_FILE &&
        stream_message_bytes(STREAM_FILE, c->subject.len, c->headers.len, c->body.len) >
            FILE_RECORD_BYTES_MAX)
        return refuse_text(c, JSAPI_STREAM_STORE_FAILED, "message too large");
    if (config->sealed) return refuse(c, JSAPI_STREAM_SEALED);
    if (config->max_msg_size >= 0 && data > (size_t)config->max_msg_size)
        return refuse(c, JSAPI_STREAM_MESSAGE_EXCEEDS_MAXIMUM);
    if (c->headers.len > STREAM_HEADERS_BYTES_MAX)
        return refuse(c, JSAPI_STREAM_HEADER_EXCEEDS_MAXIMUM);
    if (!may_use(c, c->s->server_bytes, 0)) return refuse(c, JSAPI_INSUFFICIENT_RESOURCES);
    return true;
}

static bool is_signed_number(struct bytes b)
{
    size_t i = b.len > 0 && (b.data[0] == '+' || b.data[0] == '-') ? 1 : 0;
    if (i == b.len) return false;
    for (; i < b.len; i++)
        if (b.data[i] < '0' || b.data[i] > '9') return false;
    return true;
}

/* Headers of what streams cannot do yet: refused as by a stream that does not allow it. */
static bool check_disabled(struct check *c)
{
    struct bytes incr = header(c, "Nats-Incr");
    if (incr.len > 0)
        return refuse(c, is_signed_number(incr) ? JSAPI_MESSAGE_INCR_DISABLED
                                                : JSAPI_MESSAGE_INCR_INVALID);
    return true;
}

/* Of the last few stored messages the newest that matches; 0: none of these. A filter that selects
 * much mostly finds one here. */
static uint64_t last_of_newest(struct stream *s, struct bytes filter)
{
    uint64_t seq = msgs_last(&s->msgs);
    for (uint32_t i = 0; i < LOOK_BACK && seq != 0; i++, seq = msgs_prev(&s->msgs, seq - 1)) {
        struct msgs_entry entry;
        must(msgs_get(&s->msgs, seq, &entry) == ERR_OK);
        if (subject_matches(subject_index_subject(&s->subjects, entry.node), filter) &&
            staged_last(&s->staged, &s->subjects, &s->msgs, entry.node) == seq)
            return seq;
    }
    return 0;
}

static uint64_t last_of_filter(struct check *c, struct bytes filter)
{
    struct stream *s = c->s;
    if (!subject_has_wildcard(filter)) {
        uint32_t node = subject_index_find(&s->subjects, filter);
#ifdef MILLRACE_BREAK_STAGED_IGNORED
        return node == MSGS_NODE_NONE ? 0 : subject_index_node(&s->subjects, node)->last;
#endif
        return node == MSGS_NODE_NONE ? 0 : staged_last(&s->staged, &s->subjects, &s->msgs, node);
    }
    /* The newest that matches is in flight, or among the subjects that are stored. */
    for (uint32_t i = s->staged.op_count; i > 0; i--) {
        const struct staged_op *op =
            &s->staged.ops[(s->staged.op_head + i - 1) & (s->staged.op_room - 1)];
        if ((op->flags & STAGED_SKIP) == 0 &&
            subject_matches(subject_index_subject(&s->subjects, op->node), filter) &&
            staged_last(&s->staged, &s->subjects, &s->msgs, op->node) != 0)
            return op->seq;
    }
    uint64_t last = last_of_newest(s, filter);
    if (last != 0) return last;
    struct subject_index_walk w;
    subject_index_walk_begin(&w, &s->subjects, filter, BYTES_LITERAL(""));
    for (uint32_t node = subject_index_walk_next(&w); node != MSGS_NODE_NONE;
         node = subject_index_walk_next(&w)) {
        uint64_t seq = staged_last(&s->staged, &s->subjects, &s->msgs, node);
        if (seq > last) last = seq;
    }
    return last;
}

static bool check_expectations(struct check *c)
{
    struct stream *s = c->s;
    struct bytes value = header(c, "Nats-Expected-Stream");
    if (value.len > 0 && !bytes_equal(value, s->config.name))
        return refuse(c, JSAPI_STREAM_NOT_MATCH);

    int64_t ttl = 0;
    bool is_valid = stream_parse_ttl(header(c, "Nats-TTL"), &ttl);
    if (is_valid && ttl != 0 && !s->config.allow_msg_ttl)
        return refuse(c, JSAPI_MESSAGE_TTL_DISABLED);

    value = header(c, "Nats-Expected-Last-Subject-Sequence");
    struct bytes other = header(c, "Nats-Expected-Last-Subject-Sequence-Subject");
    if (value.len > 0) {
        uint64_t last = last_of_filter(c, other.len > 0 ? other : c->subject);
        if (last != expected_seq(value)) return refuse_seq(c, last);
    } else if (other.len > 0) {
        return refuse(c, JSAPI_STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID);
    }
    value = header(c, "Nats-Expected-Last-Sequence");
    if (value.len > 0 && expected_seq(value) != s->staged.seq_last)
        return refuse_seq(c, s->staged.seq_last);
    return true;
}

static bool check_schedule(struct check *c)
{
    if (header(c, "Nats-Schedule").len > 0) return refuse(c, JSAPI_MESSAGE_SCHEDULES_DISABLED);
    struct bytes next = header(c, "Nats-Schedule-Next");
    struct bytes scheduler = header(c, "Nats-Scheduler");
    if (next.len > 0) {
        if (!bytes_equal(next, BYTES_LITERAL("purge")) || !subject_is_literal(scheduler) ||
            bytes_equal(scheduler, c->subject))
            return refuse(c, JSAPI_MESSAGE_SCHEDULES_SCHEDULER_INVALID);
        return refuse(c, JSAPI_MESSAGE_SCHEDULES_DISABLED);
    }
    if (scheduler.len > 0) return refuse(c, JSAPI_MESSAGE_SCHEDULES_SCHEDULER_INVALID);
    if (header(c, "Nats-Stream-Source").len > 0)
        return refuse(c, JSAPI_MESSAGE_SOURCE_HDR_NOT_ALLOWED);
    return true;
}

static bool check_last_id(struct check *c)
{
    struct bytes expected = header(c, "Nats-Expected-Last-Msg-Id");
    struct bytes last = bytes_of(c->s->last_id, c->s->last_id_len);
    if (expected.len == 0 || bytes_equal(expected, last)) return true;
    return jsapi_error_refuse_text(&c->out->error, JSAPI_STREAM_WRONG_LAST_MSG_ID, last);
}

static bool check_rollup(struct check *c)
{
    struct bytes value = header(c, "Nats-Rollup");
    if (value.len == 0) return true;
    const struct stream_config *config = &c->s->config;
    if (!config->allow_rollup_hdrs || config->deny_purge)
        return refuse_text(c, JSAPI_STREAM_ROLLUP_FAILED, "rollup not permitted");
    c->is_rollup = true;
    if (bytes_equal_nocase(value, BYTES_LITERAL("sub")) ||
        bytes_equal_nocase(value, BYTES_LITERAL("all")))
        return true;
    char text[JSAPI_ERROR_TEXT_BYTES];
    struct writer w;
    writer_init(&w, text, sizeof text);
    writer_text(&w, "rollup value invalid: ");
    char lower[256];
    size_t len = value.len < sizeof lower ? value.len : sizeof lower;
    for (size_t i = 0; i < len; i++)
        lower[i] = value.data[i] >= 'A' && value.data[i] <= 'Z' ? (char)(value.data[i] | 0x20)
                                                                : value.data[i];
    writer_quoted(&w, bytes_of(lower, len));
    return jsapi_error_refuse_text(&c->out->error, JSAPI_STREAM_ROLLUP_FAILED, writer_written(&w));
}

/* Discard new: what does not fit is refused, unless it takes the place of one of its subject. That
 * goes for delete markers whatever their size: else a full stream would be full for good. */
static bool check_room(struct check *c, uint32_t node, uint32_t bytes)
{
    struct stream *s = c->s;
    const struct stream_config *config = &s->config;
    if (config->discard != STREAM_DISCARD_NEW || c->is_marker) return true;
    bytes &= STAGED_BYTES_MASK;
    bool is_full =
        config->max_msgs_per_subject > 0 &&
        staged_count(&s->staged, &s->subjects, node) >= (uint64_t)config->max_msgs_per_subject;
    if (is_full && config->discard_new_per_subject && !c->is_rollup)
        return refuse_text(c, JSAPI_STREAM_STORE_FAILED, "maximum messages per subject exceeded");
    if (config->max_msgs > 0 && s->staged.msgs >= (uint64_t)config->max_msgs && !is_full)
        return refuse_text(c, JSAPI_STREAM_STORE_FAILED, "maximum messages exceeded");
    if (config->max_bytes <= 0 || s->staged.bytes + bytes <= (uint64_t)config->max_bytes)
        return true;
    if (is_full) {
        uint64_t first = staged_first(&s->staged, &s->subjects, &s->msgs, node);
        const struct staged_op *op = staged_find(&s->staged, first);
        struct msgs_entry entry = {.bytes = op != NULL ? op->bytes : 0};
        if (op == NULL) must(msgs_get(&s->msgs, first, &entry) == ERR_OK);
        if ((entry.bytes & STAGED_BYTES_MASK) >= bytes) return true;
    }
    return refuse_text(c, JSAPI_STREAM_STORE_FAILED, "maximum bytes exceeded");
}

/* --- what is stored -------------------------------------------------------------------------- */

/* A status in the first line of the headers is the sender's; messages have none. */
static struct bytes without_status(struct bytes headers, struct writer *scratch)
{
    size_t line = bytes_find(headers, '\r');
    size_t head = sizeof "NATS/1.0" - 1;
    if (!bytes_starts_with(headers, BYTES_LITERAL("NATS/1.0")) || line <= head) return headers;
    size_t rest = headers.len - line;
    if (rest <= 4) return BYTES_LITERAL("");
    size_t start = scratch->len;
    writer_text(scratch, "NATS/1.0");
    writer_bytes(scratch, bytes_of(headers.data + line, rest));
    return bytes_of(scratch->data + start, scratch->len - start);
}

/* A life shorter than that of delete markers would let a marker outlive the message that follows.
 */
static struct bytes raise_ttl(struct check *c, struct writer *scratch, int64_t seconds)
{
    int64_t least = c->s->config.subject_delete_marker_ttl / JS_SECOND;
    if (seconds <= 0 || least == 0 || c->s->config.max_msgs_per_subject == 1 || seconds >= least)
        return c->headers;
    size_t start = scratch->len;
    struct bytes rest = c->headers;
    while (rest.len > 2) {
        size_t line = bytes_find(rest, '\n');
        line = line < rest.len ? line + 1 : rest.len;
        if (!bytes_starts_with(rest, BYTES_LITERAL("Nats-TTL:")))
            writer_bytes(scratch, bytes_of(rest.data, line));
        rest = bytes_of(rest.data + line, rest.len - line);
    }
    writer_text(scratch, "Nats-TTL: ");
    writer_i64(scratch, least);
    writer_text(scratch, "\r\n\r\n");
    return bytes_of(scratch->data + start, scratch->len - start);
}

static bool no_memory(struct check *c)
{
    return refuse(c, JSAPI_INSUFFICIENT_RESOURCES);
}

/* Everything that may fail before the record is appended. */
static bool prepare(struct check *c, struct writer *scratch)
{
    struct stream *s = c->s;
    struct stream_outcome *o = c->out;
    bool is_new;
    uint32_t node = 0;
    bool is_kept =
        s->config.retention != STREAM_INTEREST || c->is_marker ||
        (s->watch->has_interest != NULL && s->watch->has_interest(s->watch_context, c->subject));
    int64_t ttl = 0;
    if (is_kept) {
        uint64_t more =
            stream_message_bytes(s->config.storage, c->subject.len, c->headers.len, c->body.len);
        bool may = c->is_marker || may_use(c, s->account_bytes, more); /* as in check_room */
        if (!may) return refuse(c, JSAPI_ACCOUNT_RESOURCES_EXCEEDED);
        if (!stream_parse_ttl(header(c, "Nats-TTL"), &ttl))
            return refuse(c, JSAPI_MESSAGE_TTL_INVALID);
        c->headers = raise_ttl(c, scratch, ttl);
        if (subject_index_intern(&s->subjects, c->subject, &node, &is_new) != ERR_OK)
            return no_memory(c);
    }
    o->record = (struct record){.kind = is_kept ? RECORD_MESSAGE : RECORD_SKIP, .stream = s->id};
    o->record.seq = o->seq = s->staged.seq_last + 1;
    o->record.time_ns = c->now_ns > s->clock_ns ? c->now_ns : s->clock_ns;
    o->record.headers = c->headers;
    if (is_kept) {
        o->record.subject = c->subject;
        o->record.body = c->body;
        o->record.prev_seq = staged_last(&s->staged, &s->subjects, &s->msgs, node);
    }
    stream_describe(s, &o->record, &o->op);
    o->op.node = node;
    bool is_fine = !is_kept || check_room(c, node, o->op.bytes);
    uint64_t evicts = 2;
    if (is_kept && (o->op.flags & STAGED_ROLLUP) != 0)
        evicts = staged_count(&s->staged, &s->subjects, node);
    if ((o->op.flags & STAGED_ROLLUP_ALL) != 0) evicts = s->staged.msgs;
    if (evicts > STREAM_PURGE_BATCH &&
        (s->watch->rolling != NULL || stream_keeps_last(s, &o->op))) {
        o->op.flags |= STAGED_ROLLUP_LARGE;
        evicts = 2;
    }
    if (is_fine &&
        (evicts > UINT32_MAX / 8 || staged_reserve(&s->staged, (uint32_t)evicts + 1) != ERR_OK))
        is_fine = no_memory(c);
    if (is_fine && c->id.len > 0) {
        (void)dedupe_expire(&s->dedupe, c->now_ns, 16);
        if (stream_hold_id(s, c->id.len) != ERR_OK ||
            dedupe_add(&s->dedupe, dedupe_hash(&s->dedupe, c->id), o->seq, o->record.time_ns) !=
                ERR_OK)
            is_fine = no_memory(c);
    }
    if (!is_fine && is_kept) subject_index_drop(&s->subjects, node);
    return is_fine;
}

/* What decided lies in flight: the answer has to wait for it. */
static void depend(struct check *c)
{
    const struct staged_op *newest = staged_newest(&c->s->staged);
    c->out->ticket = newest == NULL ? 0 : newest->ticket;
}

static void decide(struct check *c, struct writer *scratch)
{
    struct stream *s = c->s;
    struct stream_outcome *o = c->out;
    o->verdict = STREAM_REFUSED;
    depend(c);
    if (header(c, "Nats-Batch-Id").len > 0) {
        (void)refuse(c, JSAPI_ATOMIC_PUBLISH_DISABLED);
        return;
    }
    if (!check_size(c) || !check_disabled(c) || !check_expectations(c) || !check_schedule(c))
        return;
    c->id = header(c, "Nats-Msg-Id");
    if (c->id.len > 0) {
        uint64_t seq = dedupe_find(&s->dedupe, dedupe_hash(&s->dedupe, c->id), c->now_ns);
        if (seq != 0) {
            o->verdict = STREAM_DUPLICATE;
            o->seq = seq;
            return;
        }
    }
    if (!check_last_id(c) || !check_rollup(c)) return;
    if (prepare(c, scratch)) o->verdict = STREAM_STORE;
}

void publish_check(struct stream *s, struct bytes subject, struct bytes headers, struct bytes body,
                   int64_t now_ns, struct writer *scratch, struct stream_outcome *out)
{
    *out = (struct stream_outcome){.verdict = STREAM_WAIT};
    if (s->order_ticket != 0) return;
    if (UNLIKELY(!stream_expire_ahead(s, now_ns))) return;
    struct check c = {.s = s, .subject = subject, .body = body, .now_ns = now_ns, .out = out};
    c.headers = without_status(headers, scratch);
    if (s->transform != NULL && transform_match(s->transform, subject) == ERR_OK) {
        size_t start = scratch->len;
        if (transform_apply(s->transform, subject, &s->rng, scratch) == ERR_OK)
            c.subject = bytes_of(scratch->data + start, scratch->len - start);
    }
    decide(&c, scratch);
}

void publish_check_marker(struct stream *s, int64_t now_ns, struct writer *scratch,
                          struct stream_outcome *out)
{
    *out = (struct stream_outcome){.verdict = STREAM_WAIT};
    if (s->order_ticket != 0 || stream_is_overdue(s, now_ns)) return;
    for (uint64_t seq; (seq = due_next(&s->due, &s->msgs)) != 0;) {
        struct msgs_entry entry;
        if (msgs_get(&s->msgs, seq, &entry) != ERR_OK) continue;
        if (staged_last(&s->staged, &s->subjects, &s->msgs, entry.node) != seq) continue;
        writer_text(scratch, "NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\nNats-TTL: ");
        size_t digits = scratch->len;
        struct text t = {.data = scratch->data + digits, .capacity = scratch->capacity - digits};
        t.bytes_max = t.capacity;
        time_text_duration(&t, s->config.subject_delete_marker_ttl / JS_SECOND * JS_SECOND);
        scratch->len += t.len;
        writer_text(scratch, "\r\nNats-Rollup: sub\r\n\r\n");
        size_t subject_at = scratch->len;
        writer_bytes(scratch, subject_index_subject(&s->subjects, entry.node));
        struct check c = {.s = s, .now_ns = now_ns, .out = out, .is_marker = true};
        c.headers = bytes_of(scratch->data, subject_at);
        c.subject = bytes_of(scratch->data + subject_at, scratch->len - subject_at);
        c.is_rollup = true;
        out->verdict = prepare(&c, scratch) ? STREAM_STORE : STREAM_REFUSED;
        return;
    }
    out->verdict = STREAM_DUPLICATE;
}

void publish_write_ack(const struct stream *s, const struct stream_outcome *o, struct bytes domain,
                       struct text *out)
{
    struct json_write w;
    json_write_init(&w, out, 0);
    json_write_object(&w, NULL);
    if (o->verdict == STREAM_REFUSED) {
        jsapi_error_write(&o->error, &w);
        json_write_text(&w, "stream", s->config.name);
        json_write_u64(&w, "seq", 0);
        json_write_end(&w);
        return;
    }
    json_write_text(&w, "stream", s->config.name);
    json_write_text_if(&w, "domain", domain);
    json_write_u64(&w, "seq", o->seq);
    if (o->verdict == STREAM_DUPLICATE)
        text_string(out, ",\"duplicate\": true"); /* with the blank of nats-server's template */
    json_write_end(&w);
}
