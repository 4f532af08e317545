#include "core/js/ack.h"
#include "core/base/duration.h"
#include "core/base/must.h"
#include "core/route/subject.h"

enum {
    TOKENS_V1 = 9,
    TOKENS_V2_MIN = 11,
    FLOW_TOKENS_V1 = 5,
    FLOW_TOKENS_V2 = 7,
};

static uint64_t number_of(struct bytes token)
{
    uint64_t value;
    return bytes_to_u64(token, BYTES_U64_TEXT_MAX, &value) == ERR_OK ? value : ACK_NUMBER_BAD;
}

/* The first count tokens; returns how many there are. */
static uint32_t split(struct bytes subject, struct bytes *tokens, uint32_t count)
{
    struct subject_walk walk;
    struct bytes token;
    uint32_t n = 0;
    subject_walk_init(&walk, subject);
    for (; subject_walk_next(&walk, &token); n++)
        if (n < count) tokens[n] = token;
    return n;
}

static bool has_head(const struct bytes *tokens, const char *word)
{
    return bytes_equal(tokens[0], BYTES_LITERAL("$JS")) &&
           bytes_equal(tokens[1], bytes_from_text(word));
}

enum err ack_parse_subject(struct bytes subject, struct ack_subject *a)
{
    struct bytes tokens[TOKENS_V2_MIN];
    uint32_t count = split(subject, tokens, TOKENS_V2_MIN);
    if (count != TOKENS_V1 && count < TOKENS_V2_MIN) return ERR_SYNTAX;
    if (!has_head(tokens, "ACK")) return ERR_SYNTAX;
    const struct bytes *t = tokens + (count == TOKENS_V1 ? 2 : 4);
    *a = (struct ack_subject){.stream = t[0],
                              .consumer = t[1],
                              .deliveries = number_of(t[2]),
                              .stream_seq = number_of(t[3]),
                              .consumer_seq = number_of(t[4]),
                              .time_ns = number_of(t[5]),
                              .pending = number_of(t[6])};
    return ERR_OK;
}

void ack_write_subject(struct writer *w, const struct ack_subject *a)
{
    writer_text(w, "$JS.ACK.");
    writer_bytes(w, a->stream);
    writer_char(w, '.');
    writer_bytes(w, a->consumer);
    writer_char(w, '.');
    writer_u64(w, a->deliveries);
    writer_char(w, '.');
    writer_u64(w, a->stream_seq);
    writer_char(w, '.');
    writer_u64(w, a->consumer_seq);
    writer_char(w, '.');
    writer_u64(w, a->time_ns);
    writer_char(w, '.');
    writer_u64(w, a->pending);
}

enum { TIME_DIGITS = 19, SECOND_DIGITS = 9 }; /* of nanoseconds since 1970, from 2001 to 2286 */
#define NS_PER_SECOND UINT64_C(1000000000)

static void write_anew(struct ack_text *t, const struct ack_subject *a)
{
    const uint64_t numbers[] = {a->deliveries, a->stream_seq, a->consumer_seq, a->time_ns,
                                a->pending};
    struct writer w;
    writer_init(&w, t->text, sizeof t->text);
    writer_text(&w, "$JS.ACK.");
    writer_bytes(&w, a->stream);
    writer_char(&w, '.');
    writer_bytes(&w, a->consumer);
    for (int i = 0; i < 5; i++) {
        writer_char(&w, '.');
        t->at[i] = (uint16_t)w.len;
        writer_u64(&w, numbers[i]);
    }
    must(!w.is_full);
    t->len = (uint32_t)w.len;
    t->last = *a;
    t->is_known = true;
}

/* False: it would take another digit; what is there is void. */
static bool count_up(char *from, char *end)
{
    while (end > from) {
        if (*--end != '9') {
            ++*end;
            return true;
        }
        *end = '0';
    }
    return false;
}

/* False: it would take a digit less. */
static bool count_down(char *from, char *end)
{
    while (end > from) {
        if (*--end != '0') {
            --*end;
            return *from != '0';
        }
        *end = '9';
    }
    return false;
}

static bool write_time(struct ack_text *t, uint64_t time_ns)
{
    char *to = t->text + t->at[3];
    if (t->at[4] - t->at[3] != TIME_DIGITS + 1) return false;
    if (time_ns / NS_PER_SECOND != t->last.time_ns / NS_PER_SECOND) return false;
    bytes_u32_digits(to + TIME_DIGITS - SECOND_DIGITS, SECOND_DIGITS,
                     (uint32_t)(time_ns % NS_PER_SECOND));
    return true;
}

void ack_text_write(struct ack_text *t, const struct ack_subject *a)
{
    const struct ack_subject *b = &t->last;
    char *text = t->text;
    bool is_next = t->is_known && a->deliveries == b->deliveries &&
                   a->stream_seq == b->stream_seq + 1 && a->consumer_seq == b->consumer_seq + 1 &&
                   a->pending + 1 == b->pending && a->pending > 0 &&
                   count_up(text + t->at[1], text + t->at[2] - 1) &&
                   count_up(text + t->at[2], text + t->at[3] - 1) && write_time(t, a->time_ns) &&
                   count_down(text + t->at[4], text + t->len);
    if (is_next)
        t->last = *a;
    else
        write_anew(t, a);
}

enum err ack_parse_flow(struct bytes subject, struct bytes *stream, struct bytes *consumer)
{
    struct bytes tokens[FLOW_TOKENS_V2];
    uint32_t count = split(subject, tokens, FLOW_TOKENS_V2);
    if (count != FLOW_TOKENS_V1 && count != FLOW_TOKENS_V2) return ERR_SYNTAX;
    if (!has_head(tokens, "FC")) return ERR_SYNTAX;
    const struct bytes *t = tokens + (count == FLOW_TOKENS_V1 ? 2 : 4);
    *stream = t[0];
    *consumer = t[1];
    return ERR_OK;
}

/* --- payloads --- */

struct nak_options {
    int64_t delay_ns;
};

static const struct request_field nak_fields[] = {
    REQUEST_FIELD(struct nak_options, delay_ns, "delay", REQUEST_DURATION),
};

static const struct request_type nak_type = {.go_name = "ConsumerNakOptions",
                                             .fields = nak_fields,
                                             .field_count = 1,
                                             .bytes = sizeof(struct nak_options)};

static void parse_delay(struct arena *arena, struct bytes text, struct ack_payload *p)
{
    struct nak_options options = {0};
    struct writer why = {.is_full = true}; /* nobody asks */
    enum err e;
    if (text.len == 0) return;
    if (text.data[0] == '{')
        e = request_decode(arena, text, &nak_type, REQUEST_LENIENT, &options, &why);
    else
        e = duration_parse(text, &options.delay_ns, NULL);
    p->is_delay_bad = e != ERR_OK;
    p->has_delay = e == ERR_OK;
    p->delay_ns = options.delay_ns;
}

static struct bytes behind(struct bytes payload, size_t count)
{
    return bytes_of(payload.data + count, payload.len - count);
}

void ack_parse_payload(struct arena *arena, struct bytes payload, struct ack_payload *p)
{
    *p = (struct ack_payload){.kind = ACK_UNKNOWN};
    if (payload.len == 0 || bytes_equal(payload, BYTES_LITERAL("+ACK")) ||
        bytes_equal(payload, BYTES_LITERAL("+OK"))) {
        p->kind = ACK_DONE;
    } else if (bytes_starts_with(payload, BYTES_LITERAL("+NXT"))) {
        p->kind = ACK_NEXT;
        p->next = behind(payload, 4);
    } else if (bytes_starts_with(payload, BYTES_LITERAL("-NAK"))) {
        p->kind = ACK_NAK;
        parse_delay(arena, bytes_trim(behind(payload, 4)), p);
    } else if (bytes_equal(payload, BYTES_LITERAL("+WPI"))) {
        p->kind = ACK_PROGRESS;
    } else if (bytes_starts_with(payload, BYTES_LITERAL("+TERM"))) {
        p->kind = ACK_TERM;
        p->reason = bytes_trim(behind(payload, 5));
    }
}

/* --- pull requests --- */

#define PULL_FIELD(member, text, kind) REQUEST_FIELD(struct ack_pull, member, text, kind)
#define GROUP_FIELD(member, text, kind)                                                            \
    REQUEST_FIELD(struct ack_pull, member, text, kind, .embedded = "PriorityGroup")

static const struct request_field pull_fields[] = {
    PULL_FIELD(expires_ns, "expires", REQUEST_DURATION),
    PULL_FIELD(batch, "batch", REQUEST_INT),
    PULL_FIELD(max_bytes, "max_bytes", REQUEST_INT),
    PULL_FIELD(no_wait, "no_wait", REQUEST_BOOL),
    PULL_FIELD(heartbeat_ns, "idle_heartbeat", REQUEST_DURATION),
    GROUP_FIELD(group, "group", REQUEST_TEXT),
    GROUP_FIELD(min_pending, "min_pending", REQUEST_INT64),
    GROUP_FIELD(min_ack_pending, "min_ack_pending", REQUEST_INT64),
    GROUP_FIELD(id, "id", REQUEST_TEXT),
    GROUP_FIELD(priority, "priority", REQUEST_INT),
};

static const struct request_type pull_type = {
    .go_name = "JSApiConsumerGetNextRequest",
    .fields = pull_fields,
    .field_count = sizeof pull_fields / sizeof pull_fields[0],
    .bytes = sizeof(struct ack_pull),
};

enum err ack_parse_pull(struct arena *arena, struct bytes body, struct ack_pull *p,
                        struct writer *why)
{
    struct bytes text = bytes_trim(body);
    *p = (struct ack_pull){.batch = 1};
    if (text.len == 0) return ERR_OK;
    if (text.data[0] != '{') {
        int64_t batch;
        if (bytes_to_i64(text, &batch) == ERR_OK) p->batch = batch;
        return ERR_OK;
    }
    p->batch = 0;
    enum err e = request_decode(arena, text, &pull_type, REQUEST_LENIENT, p, why);
    if (e != ERR_OK) return e;
    /* Compared without doubling, which might not fit. */
    if (p->heartbeat_ns > 0 && p->heartbeat_ns > p->expires_ns / 2) {
        writer_text(why, "heartbeat value too large");
        return ERR_SYNTAX;
    }
    return ERR_OK;
}
