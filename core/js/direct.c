#include "core/js/direct.h"
#include "core/base/time_text.h"
#include "core/base/must.h"
#include "core/js/pending.h"
#include "core/proto/headers.h"
#include "core/route/subject.h"

struct body {
    uint64_t seq, up_to_seq;
    struct bytes last_by_subj, next_by_subj;
    int64_t batch, max_bytes;
    struct time_stamp start_time, up_to_time;
    struct request_texts multi_last;
    bool no_hdr;
};

static const struct request_field fields[] = {
    REQUEST_FIELD(struct body, seq, "seq", REQUEST_UINT64),
    REQUEST_FIELD(struct body, last_by_subj, "last_by_subj", REQUEST_TEXT),
    REQUEST_FIELD(struct body, next_by_subj, "next_by_subj", REQUEST_TEXT),
    REQUEST_FIELD(struct body, batch, "batch", REQUEST_INT),
    REQUEST_FIELD(struct body, max_bytes, "max_bytes", REQUEST_INT),
    REQUEST_FIELD(struct body, start_time, "start_time", REQUEST_TIME),
    REQUEST_FIELD(struct body, multi_last, "multi_last", REQUEST_TEXTS),
    REQUEST_FIELD(struct body, up_to_seq, "up_to_seq", REQUEST_UINT64),
    REQUEST_FIELD(struct body, up_to_time, "up_to_time", REQUEST_TIME),
    REQUEST_FIELD(struct body, no_hdr, "no_hdr", REQUEST_BOOL),
};
static const struct request_type type = {"JSApiMsgGetRequest", fields,
                                         sizeof fields / sizeof fields[0], sizeof(struct body)};

#define BAD_REQUEST "NATS/1.0 408 Bad Request\r\n\r\n"

static bool needs_higher_level(struct bytes headers)
{
    struct bytes value;
    uint64_t level;
    if (!headers_find(headers, BYTES_LITERAL("Nats-Required-Api-Level"), &value)) return false;
    if (value.len == 0) return false;
    return bytes_to_u64(value, BYTES_U64_TEXT_MAX, &level) != ERR_OK || level > JS_API_LEVEL;
}

static const char *conflict(const struct body *b, bool has_key)
{
    bool has_last = b->last_by_subj.len > 0, has_next = b->next_by_subj.len > 0;
    bool has_time = b->start_time.is_set, has_multi = b->multi_last.count > 0;
    if (has_key)
        return has_last || has_next || has_multi || has_time || b->seq != 0 || b->batch != 0 ||
                       b->up_to_seq != 0 || b->up_to_time.is_set
                   ? BAD_REQUEST
                   : NULL;
    if (b->seq == 0 && !has_last && !has_next && !has_multi && !has_time)
        return "NATS/1.0 408 Empty Request\r\n\r\n";
    if ((b->seq > 0 && (has_last || has_time)) ||
        (has_last && (has_time || has_next || has_multi || b->batch > 0)) ||
        (has_next && has_multi) || (b->up_to_seq > 0 && b->up_to_time.is_set))
        return BAD_REQUEST;
    return NULL;
}

/* --- multi_last ------------------------------------------------------------------------------ */

enum { GATHER_ROOM = 2 * DIRECT_MULTI_MAX };

struct gather {
    struct stream *s;
    uint64_t up_to;
    uint64_t *seqs;
    uint32_t count;
};

static void sift_down(uint64_t *seqs, uint32_t at, uint32_t count)
{
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= count) return;
        if (child + 1 < count && seqs[child + 1] > seqs[child]) child++;
        if (seqs[at] >= seqs[child]) return;
        uint64_t swap = seqs[at];
        seqs[at] = seqs[child];
        seqs[child] = swap;
        at = child;
    }
}

/* In order, each once: overlapping filters select a subject twice. */
static void tidy_up(struct gather *g)
{
    for (uint32_t i = g->count / 2; i > 0; i--) sift_down(g->seqs, i - 1, g->count);
    for (uint32_t left = g->count; left > 1; left--) {
        uint64_t largest = g->seqs[0];
        g->seqs[0] = g->seqs[left - 1];
        g->seqs[left - 1] = largest;
        sift_down(g->seqs, 0, left - 1);
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < g->count; i++)
        if (kept == 0 || g->seqs[i] != g->seqs[kept - 1]) g->seqs[kept++] = g->seqs[i];
    g->count = kept;
}

/* False: too many. */
static bool gather_node(struct gather *g, uint32_t node)
{
    struct stream *s = g->s;
    if (subject_index_node(&s->subjects, node)->count == 0) return true;
    uint64_t seq = subject_index_last(&s->subjects, &s->msgs, node);
    if (seq > g->up_to) seq = msgs_prev_of_node(&s->msgs, g->up_to, node);
    if (seq == 0) return true;
    if (g->count == GATHER_ROOM) {
        tidy_up(g);
        if (g->count > DIRECT_MULTI_MAX) return false;
    }
    g->seqs[g->count++] = seq;
    return true;
}

static bool gather_filter(struct gather *g, struct bytes filter)
{
    struct subject_index *x = &g->s->subjects;
    uint32_t node;
    if (!subject_is_valid(filter)) return true;
    if (!subject_has_wildcard(filter)) {
        node = subject_index_find(x, filter);
        return node == MSGS_NODE_NONE || gather_node(g, node);
    }
    struct subject_index_walk w;
    subject_index_walk_begin(&w, x, filter, BYTES_LITERAL(""));
    while ((node = subject_index_walk_next(&w)) != MSGS_NODE_NONE)
        if (!gather_node(g, node)) return false;
    return true;
}

static const char *begin_multi(struct direct *d, struct stream *s, struct arena *arena,
                               const struct body *b, uint64_t bytes_max)
{
    static const char *const no_results = "NATS/1.0 404 No Results\r\n\r\n";
    static const char *const too_many = "NATS/1.0 413 Too Many Results\r\n\r\n";
    struct gather g = {.s = s, .up_to = b->up_to_seq};
    if (b->up_to_time.is_set) {
        uint64_t seq = stream_seq_at_time(s, b->up_to_time.wall_ns);
        if (seq <= s->seq_first) return no_results;
        g.up_to = seq - 1;
    }
    if (g.up_to == 0) g.up_to = s->seq_last;
    g.seqs = arena_alloc(arena, GATHER_ROOM * sizeof *g.seqs);
    if (g.seqs == NULL) return "NATS/1.0 500 insufficient resources\r\n\r\n";
    for (uint32_t i = 0; i < b->multi_last.count; i++)
        if (!gather_filter(&g, b->multi_last.items[i])) return too_many;
    tidy_up(&g);
    if (g.count > DIRECT_MULTI_MAX) return too_many;
    if (g.count == 0) return no_results;
    *d = (struct direct){.seq = b->seq,
                         .is_batch = true,
                         .left = b->batch > 0 ? (uint64_t)b->batch : UINT64_MAX,
                         .pending = g.count,
                         .bytes_max = b->max_bytes != 0 ? (uint64_t)b->max_bytes : bytes_max,
                         .multi = g.seqs,
                         .multi_count = g.count,
                         .up_to_seq = g.up_to};
    return NULL;
}

/* Those below d->seq are counted, and not sent. */
static uint64_t next_of_multi(struct direct *d, const struct stream *s, struct msgs_entry *entry)
{
    while (d->multi_at < d->multi_count) {
        uint64_t seq = d->multi[d->multi_at++];
        d->pending = d->multi_count - d->multi_at;
        if (seq < d->seq || msgs_get(&s->msgs, seq, entry) != ERR_OK) continue;
        d->pending++; /* until it is written */
        return seq;
    }
    return 0;
}

/* --- a request ------------------------------------------------------------------------------- */

const char *direct_begin(struct direct *d, struct stream *s, struct arena *arena, struct bytes key,
                         struct bytes headers, struct bytes body, uint64_t bytes_max)
{
    struct body b = {0};
    char text[JSAPI_ERROR_TEXT_BYTES];
    struct writer why;
    writer_init(&why, text, sizeof text);
    if (needs_higher_level(headers)) return "NATS/1.0 412 Required Api Level\r\n\r\n";
    if (body.len == 0 && key.len == 0) return "NATS/1.0 408 Empty Request\r\n\r\n";
    if (request_decode(arena, body, &type, REQUEST_LENIENT, &b, &why) != ERR_OK)
        return "NATS/1.0 408 Malformed Request\r\n\r\n";
    const char *status = conflict(&b, key.len > 0);
    if (status != NULL) return status;
    if (b.multi_last.count > 0) return begin_multi(d, s, arena, &b, bytes_max);

    *d = (struct direct){.seq = b.seq, .last_by_subj = key.len > 0 ? key : b.last_by_subj};
    d->next_by_subj = b.next_by_subj;
    d->no_headers = b.no_hdr;
    d->is_batch = b.batch != 0;
    d->left = b.batch > 0 ? (uint64_t)b.batch : b.batch == 0 ? 1 : 0;
    d->bytes_max = b.max_bytes != 0 ? (uint64_t)b.max_bytes : bytes_max;
    if (b.start_time.is_set) d->seq = stream_seq_at_time(s, b.start_time.wall_ns);
    if (d->is_batch &&
        pending_count(&s->subjects, &s->msgs, &d->next_by_subj, d->next_by_subj.len > 0 ? 1 : 0,
                      d->seq, &d->pending) != ERR_OK)
        return "NATS/1.0 500 insufficient resources\r\n\r\n";
    return NULL;
}

uint64_t direct_next(struct direct *d, struct stream *s, struct msgs_entry *entry)
{
    uint64_t seq;
    if (d->left == 0 || (d->sent > 0 && d->bytes_sent >= d->bytes_max)) return 0;
    if (d->multi != NULL) {
        seq = next_of_multi(d, s, entry);
        if (seq == 0) return 0;
        d->left--;
        d->sent++;
        return seq;
    }
    if (d->next_by_subj.len > 0)
        seq = stream_next_by_filter(s, d->next_by_subj, d->seq);
    else if (d->last_by_subj.len > 0)
        seq = stream_last_by_filter(s, d->last_by_subj);
    else
        seq = d->is_batch ? msgs_next(&s->msgs, d->seq) : d->seq;
    if (seq == 0 || msgs_get(&s->msgs, seq, entry) != ERR_OK) return 0;
    d->left--;
    d->sent++;
    d->seq = seq + 1;
    return seq;
}

void direct_write(struct direct *d, const struct stream *s, const struct record *r,
                  struct text *out)
{
    d->bytes_sent += r->subject.len + r->headers.len + r->body.len;
    if (d->pending > 0) d->pending--;
    if (d->no_headers) {
        d->last_seq = r->seq;
        return;
    }
    if (r->headers.len > 2)
        text_bytes(out, bytes_of(r->headers.data, r->headers.len - 2));
    else
        text_string(out, "NATS/1.0\r\n");
    text_string(out, "Nats-Stream: ");
    text_bytes(out, s->config.name);
    text_string(out, "\r\nNats-Subject: ");
    text_bytes(out, r->subject);
    text_string(out, "\r\nNats-Sequence: ");
    text_u64(out, r->seq);
    text_string(out, "\r\nNats-Time-Stamp: ");
    time_text_rfc3339(out, r->time_ns);
    if (d->is_batch) {
        text_string(out, "\r\nNats-Num-Pending: ");
        text_u64(out, d->pending);
        text_string(out, "\r\nNats-Last-Sequence: ");
        text_u64(out, d->last_seq);
    }
    text_string(out, "\r\n\r\n");
    d->last_seq = r->seq;
}

bool direct_write_end(const struct direct *d, struct text *out)
{
    if (d->sent == 0 && d->multi == NULL) {
        text_string(out, "NATS/1.0 404 Message Not Found\r\n\r\n");
        return true;
    }
    if (!d->is_batch) return false;
    text_string(out, "NATS/1.0 204 EOB\r\nNats-Num-Pending: ");
    text_u64(out, d->pending);
    text_string(out, "\r\nNats-Last-Sequence: ");
    text_u64(out, d->last_seq);
    if (d->multi != NULL) {
        text_string(out, "\r\nNats-UpTo-Sequence: ");
        text_u64(out, d->up_to_seq);
    }
    text_string(out, "\r\n\r\n");
    return true;
}
