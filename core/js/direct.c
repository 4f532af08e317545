#include "core/js/direct.h"
#include "core/base/must.h"
#include "core/js/get_request.h"
#include "core/js/msg_headers.h"
#include "core/route/subject.h"

enum { DIRECT_MESSAGE_COST = 2048 }; /* units, of a message that is sent, beside its bytes */

#define BAD_REQUEST "NATS/1.0 408 Bad Request\r\n\r\n"

static const char *conflict(const struct get_request *b, bool has_key)
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

enum {
    GATHER_ROOM = 2 * DIRECT_MULTI_MAX,
    COMPARE_MAX = 16, /* filters that a subject is compared with once more */
};

#define NO_RESULTS "NATS/1.0 404 No Results\r\n\r\n"
#define TOO_MANY "NATS/1.0 413 Too Many Results\r\n\r\n"
#define NO_MEMORY "NATS/1.0 500 insufficient resources\r\n\r\n"

static void sift_down(struct direct_found *f, uint32_t at, uint32_t count)
{
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= count) return;
        if (child + 1 < count && f[child + 1].seq > f[child].seq) child++;
        if (f[at].seq >= f[child].seq) return;
        struct direct_found swap = f[at];
        f[at] = f[child];
        f[child] = swap;
        at = child;
    }
}

/* In order, each once: overlapping filters select a subject twice. */
static void tidy_up(struct direct *d)
{
    struct direct_found *f = d->multi;
    for (uint32_t i = d->multi_count / 2; i > 0; i--) sift_down(f, i - 1, d->multi_count);
    for (uint32_t left = d->multi_count; left > 1; left--) {
        struct direct_found largest = f[0];
        f[0] = f[left - 1];
        f[left - 1] = largest;
        sift_down(f, 0, left - 1);
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < d->multi_count; i++)
        if (kept == 0 || f[i].seq != f[kept - 1].seq) f[kept++] = f[i];
    d->multi_count = kept;
}

/* The last message of the subject up to a sequence. False: to be gone on with, or too many. */
static bool gather_node(struct direct *d, const struct stream *s, uint32_t node, uint64_t to,
                        uint32_t *left)
{
    const struct subject_index *x = &s->subjects;
    struct direct_gather *g = &d->gather;
    *left -= *left < SIEVE_WALK ? *left : SIEVE_WALK;
    uint64_t seq = subject_index_last_within(x, &s->msgs, node, to, left, &g->cut_seq);
    g->cut_node = node;
    if (g->cut_seq != 0) return false;
    const struct subject_node *n = subject_index_node(x, node);
    /* It is there, but all that was there at the first piece has gone. */
    if (seq == 0 && n->count > 0 && !g->has_bound && !n->last_stale) seq = n->last;
    if (seq == 0) return true;
    if (d->multi_count == GATHER_ROOM) {
        tidy_up(d);
        if (d->multi_count > DIRECT_MULTI_MAX) d->status = TOO_MANY;
        if (d->status != NULL) return false;
    }
    d->multi[d->multi_count++] = (struct direct_found){.seq = seq, .node = node};
    return true;
}

/* The rest of one filter; it is the next one's turn then. */
static void gather_filter(struct direct *d, const struct stream *s, uint32_t *left)
{
    const struct subject_index *x = &s->subjects;
    struct direct_gather *g = &d->gather;
    struct bytes filter = g->filters[g->at];
    struct subject_index_walk w;
    uint32_t node, steps = *left / SIEVE_WALK;
    enum err e = ERR_OK;
    if (!subject_is_valid(filter)) {
        g->at++;
        *left -= *left < SIEVE_WALK ? *left : SIEVE_WALK;
        return;
    }
    if (!subject_has_wildcard(filter)) {
        node = subject_index_find(x, filter);
        g->at++;
        *left -= *left < SIEVE_WALK ? *left : SIEVE_WALK;
        if (node != MSGS_NODE_NONE) (void)gather_node(d, s, node, d->up_to_seq, left);
        return;
    }
    if (steps == 0) {
        *left = 0;
        return;
    }
    subject_index_rest_begin(&g->rest, &w, x, filter);
    w.left = steps;
    while ((node = subject_index_walk_next(&w)) != MSGS_NODE_NONE)
        if (!gather_node(d, s, node, d->up_to_seq, left)) break;
    steps = (steps - w.left) * SIEVE_WALK;
    *left -= *left < steps ? *left : steps;
    if (!subject_index_rest_end(&g->rest, &w, &e)) g->at++;
    if (e != ERR_OK) d->status = NO_MEMORY;
}

/* Does the number, met in an earlier piece, still belong to a subject that is asked for? */
static bool is_same(const struct direct *d, const struct stream *s, uint32_t node)
{
    const struct direct_gather *g = &d->gather;
    const struct subject_index *x = &s->subjects;
    if (!subject_index_is_used(x, node)) return false;
    if (x->renewals == g->renewals) return true;
    if (g->filter_count > COMPARE_MAX) return false;
    for (uint32_t i = 0; i < g->filter_count; i++)
        if (subject_matches(subject_index_subject(x, node), g->filters[i])) return true;
    return false;
}

/* Messages that went while others were looked for: the newer one of the subject, if there is. */
static void replace_gone(struct direct *d, const struct stream *s)
{
    for (uint32_t i = 0; i < d->multi_count; i++) {
        struct direct_found *f = &d->multi[i];
        if (msgs_has(&s->msgs, f->seq) || !is_same(d, s, f->node)) continue;
        const struct subject_node *n = subject_index_node(&s->subjects, f->node);
        if (n->count > 0 && !n->last_stale) f->seq = n->last;
    }
}

static enum direct_step gather(struct direct *d, const struct stream *s, uint32_t *left)
{
    struct direct_gather *g = &d->gather;
    while (d->status == NULL && (g->at < g->filter_count || g->cut_seq != 0)) {
        if (*left == 0) return DIRECT_AGAIN;
        if (g->cut_seq == 0)
            gather_filter(d, s, left);
        else if (is_same(d, s, g->cut_node))
            (void)gather_node(d, s, g->cut_node, g->cut_seq, left);
        else
            g->cut_seq = 0;
    }
    if (d->status != NULL) return DIRECT_OVER;
    if (!g->has_bound) replace_gone(d, s);
    g->filters = NULL;
    tidy_up(d);
    d->pending = d->multi_count;
    if (d->multi_count > DIRECT_MULTI_MAX) d->status = TOO_MANY;
    if (d->multi_count == 0) d->status = NO_RESULTS;
    return d->status == NULL ? DIRECT_MESSAGE : DIRECT_OVER;
}

static const char *begin_multi(struct direct *d, struct stream *s, struct arena *arena,
                               const struct get_request *b)
{
    d->up_to_seq = b->up_to_seq;
    if (b->up_to_time.is_set) {
        uint64_t seq = stream_seq_at_time(s, b->up_to_time.wall_ns);
        if (seq <= s->seq_first) return NO_RESULTS;
        d->up_to_seq = seq - 1;
    }
    d->gather = (struct direct_gather){.filters = b->multi_last.items,
                                       .filter_count = b->multi_last.count,
                                       .has_bound = d->up_to_seq != 0,
                                       .renewals = s->subjects.renewals};
    if (d->up_to_seq == 0) d->up_to_seq = s->seq_last;
    d->multi = arena_alloc(arena, GATHER_ROOM * sizeof *d->multi);
    if (d->multi == NULL) return NO_MEMORY;
    d->is_batch = true;
    d->left = b->batch > 0 ? (uint64_t)b->batch : UINT64_MAX;
    subject_index_rest_init(&d->gather.rest, s->mem);
    return NULL;
}

/* Those below d->seq are counted, and not sent. */
static uint64_t next_of_multi(struct direct *d, const struct stream *s, struct msgs_entry *entry)
{
    while (d->multi_at < d->multi_count) {
        uint64_t seq = d->multi[d->multi_at++].seq;
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
    struct get_request b = {0};
    char text[JSAPI_ERROR_TEXT_BYTES];
    struct writer why;
    writer_init(&why, text, sizeof text);
    if (request_needs_higher_level(headers)) return "NATS/1.0 412 Required Api Level\r\n\r\n";
    if (body.len == 0 && key.len == 0) return "NATS/1.0 408 Empty Request\r\n\r\n";
    if (request_decode(arena, body, &get_request_type, REQUEST_LENIENT, &b, &why) != ERR_OK)
        return "NATS/1.0 408 Malformed Request\r\n\r\n";
    const char *status = conflict(&b, key.len > 0);
    if (status != NULL) return status;

    *d = (struct direct){.seq = b.seq, .last_by_subj = key.len > 0 ? key : b.last_by_subj};
    d->bytes_max = b.max_bytes != 0 ? (uint64_t)b.max_bytes : bytes_max;
    d->next_by_subj = b.next_by_subj;
    if (b.multi_last.count > 0) {
        status = begin_multi(d, s, arena, &b);
        if (status != NULL) return status;
    } else {
        d->no_headers = b.no_hdr;
        d->is_batch = d->is_counting = b.batch != 0;
        d->left = b.batch > 0 ? (uint64_t)b.batch : b.batch == 0 ? 1 : 0;
        if (b.start_time.is_set) d->seq = stream_seq_at_time(s, b.start_time.wall_ns);
    }
    search_init(&d->search, s->mem, &s->msgs, &s->subjects,
                d->next_by_subj.len > 0 ? d->next_by_subj : d->last_by_subj);
    subject_index_rest_init(&d->rest, s->mem);
    return NULL;
}

void direct_end(struct direct *d)
{
    if (d->multi != NULL) subject_index_rest_deinit(&d->gather.rest);
    subject_index_rest_deinit(&d->rest);
    search_deinit(&d->search);
}

/* Nats-Num-Pending of a batch. False: not yet. */
static bool count(struct direct *d, const struct stream *s, uint32_t *left)
{
    struct bytes filter = d->next_by_subj;
    uint64_t first = msgs_first(&s->msgs);
    enum err e;
    if (filter.len == 0) {
        d->pending = msgs_count(&s->msgs, d->seq, UINT64_MAX);
    } else if (d->seq <= first) {
        struct subject_total total = {.msgs = d->pending};
        uint32_t steps = *left / SIEVE_WALK, spent = steps;
        bool has_more =
            subject_index_rest_total(&d->rest, &s->subjects, filter, &steps, &total, &e);
        d->pending = total.msgs;
        spent = (spent - steps) * SIEVE_WALK;
        *left = has_more ? 0 : *left - spent;
        if (e != ERR_OK) d->status = NO_MEMORY;
        if (has_more && e == ERR_OK) return false;
    } else {
        d->search.sieve.filters = &d->search.filter;
        if (d->at == 0) d->at = d->seq;
        d->at = sieve_count(&d->search.sieve, d->at, UINT64_MAX, left, &d->pending);
        if (d->at != 0) return false;
    }
    d->is_counting = false;
    return true;
}

/* The sequence to be sent next; 0: none, or not yet. */
static uint64_t find(struct direct *d, uint32_t *left, bool *is_more)
{
    uint64_t seq, resume = 0;
    enum err e = ERR_OK;
    *is_more = false;
    if (d->next_by_subj.len > 0 || (d->last_by_subj.len == 0 && d->is_batch)) {
        if (d->at < d->seq) d->at = d->seq > 0 ? d->seq : 1;
        seq = search_next(&d->search, d->at, left, &resume);
        *is_more = seq == 0 && resume != 0;
        d->at = resume;
    } else if (d->last_by_subj.len > 0) {
        *is_more = search_last(&d->search, left, &seq, &e);
    } else {
        seq = d->seq;
    }
    if (e != ERR_OK) d->status = NO_MEMORY;
    return seq;
}

enum direct_step direct_next(struct direct *d, struct stream *s, uint32_t *left, uint64_t *seq,
                             struct msgs_entry *entry)
{
    bool is_more = false;
    if (*left == 0) return DIRECT_AGAIN;
    if (d->gather.filters != NULL) {
        enum direct_step step = gather(d, s, left);
        if (step != DIRECT_MESSAGE) return step;
    }
    if (d->is_counting && !count(d, s, left)) return DIRECT_AGAIN;
    if (d->status != NULL || d->left == 0) return DIRECT_OVER;
    if (d->sent > 0 && d->bytes_sent >= d->bytes_max) return DIRECT_OVER;
    *seq = d->multi != NULL ? next_of_multi(d, s, entry) : find(d, left, &is_more);
    if (d->status != NULL) return DIRECT_OVER;
    if (is_more) return DIRECT_AGAIN;
    if (*seq == 0 || msgs_get(&s->msgs, *seq, entry) != ERR_OK) return DIRECT_OVER;
    *left -= *left < DIRECT_MESSAGE_COST ? *left : DIRECT_MESSAGE_COST;
    d->left--;
    d->sent++;
    if (d->multi == NULL) d->seq = *seq + 1;
    return DIRECT_MESSAGE;
}

void direct_write(struct direct *d, const struct stream *s, const struct record *r,
                  struct text *out)
{
    uint64_t pending = d->pending > 0 ? d->pending - 1 : 0;
    if (!d->no_headers) {
        msg_headers_write(s, r, out);
        if (d->is_batch) {
            text_string(out, "\r\nNats-Num-Pending: ");
            text_u64(out, pending);
            text_string(out, "\r\nNats-Last-Sequence: ");
            text_u64(out, d->last_seq);
        }
        text_string(out, "\r\n\r\n");
    }
    if (out->is_failed) return;
    d->bytes_sent += r->subject.len + r->headers.len + r->body.len;
    d->pending = pending;
    d->last_seq = r->seq;
}

void direct_gone(struct direct *d)
{
    if (d->last_by_subj.len == 0 || d->multi != NULL) return;
    search_last_again(&d->search);
    d->left++;
    d->sent--;
}

bool direct_write_end(const struct direct *d, struct text *out)
{
    if (d->status != NULL) {
        text_string(out, d->status);
        return true;
    }
    bool is_nothing_wanted = d->is_batch && d->left == 0; /* "batch":-1 */
    if (d->sent == 0 && d->multi == NULL && !is_nothing_wanted) {
        text_string(out, DIRECT_NOT_FOUND);
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
