/* One message to everybody who wants it (rules R1, R3, R5, R8, R9).
 *
 * A publish is decided before anything is delivered: the route, the shard picked for each queue
 * group, the room in every mail lane and the memory for local output. Only then are deliveries
 * written, so a publish that has to wait waits whole (M2). */
#include "core/base/must.h"
#include "core/shard/jet.h"

enum {
    FOOTPRINT_PER_TARGET = 512,
    WIDE_TARGETS = 8, /* here: makes output faster than it comes in */
};

/* What all deliveries of one message share. */
struct frame {
    const struct message *m;
    struct bytes line;     /* with the header size, if there is one; data NULL: not built yet */
    struct bytes stripped; /* for receivers without headers */
};

/* The lines lie in the shard, not on the stack: probing pages of stack for each message, most of
 * which need no line, cost 3 ns. */
static struct bytes build_line(struct shard *s, const struct message *m, bool with_headers)
{
    struct writer w;
    writer_init(&w, s->fanout_lines[with_headers], SHARD_FANOUT_LINE_BYTES);
    if (m->reply.len > 0) {
        writer_bytes(&w, m->reply);
        writer_char(&w, ' ');
    }
    if (with_headers) {
        writer_u64(&w, m->header_bytes);
        writer_char(&w, ' ');
    }
    writer_u64(&w, with_headers ? m->total_bytes : m->total_bytes - m->header_bytes);
    writer_text(&w, "\r\n");
    must(!w.is_full);
    return writer_written(&w);
}

/* Bytes go behind one another; the caller reserved room for all. */
static inline char *put(char *to, const char *from, size_t len)
{
    memcpy(to, from, len);
    return to + len;
}

/* "MSG subject sid [reply ]size\r\n" payload "\r\n" into c's output. */
static enum err write_message(struct shard *s, struct client *c, struct bytes sid, struct frame *f)
{
    const struct message *m = f->m;
    bool strip = m->header_bytes > 0 && !client_has(c, CLIENT_HEADERS);
    bool is_hmsg = m->header_bytes > 0 && !strip;
    uint32_t head = (is_hmsg ? 5u : 4u) + (uint32_t)m->subject.len + 1 + (uint32_t)sid.len + 1;

    /* The publisher's own words fit as they are: verb and sid are all that differs. */
    bool is_whole = m->tail.data != NULL && !strip && m->block == NULL &&
                    (m->header_bytes > 0) == m->has_headers;
    struct bytes line = bytes_of(NULL, 0);
    uint32_t skip = strip ? m->header_bytes : 0;
    uint32_t body = m->total_bytes - skip;
    if (!is_whole && is_hmsg) {
        if (f->line.data == NULL) f->line = build_line(s, m, true);
        line = f->line;
    } else if (!is_whole) {
        if (f->stripped.data == NULL) f->stripped = build_line(s, m, false);
        line = f->stripped;
    }
    bool by_reference = m->block != NULL && body >= OUTPUT_REFERENCE_MIN;
    uint32_t bytes = head + (is_whole ? (uint32_t)m->tail.len
                                      : (uint32_t)line.len + (by_reference ? 0 : body + 2));
    char *to = output_reserve(&s->outputs, &c->output, bytes);
    if (UNLIKELY(to == NULL)) return ERR_MEMORY;
    to = is_hmsg ? put(to, "HMSG ", 5) : put(to, "MSG ", 4);
    to = put(to, m->subject.data, m->subject.len);
    *to++ = ' ';
    to = put(to, sid.data, sid.len);
    *to++ = ' ';
    if (is_whole) {
        put(to, m->tail.data, m->tail.len);
    } else {
        to = put(to, line.data, line.len);
        if (!by_reference) {
            to = put(to, m->payload + skip, body);
            to[0] = '\r';
            to[1] = '\n';
        }
    }
    output_commit(&s->outputs, &c->output, bytes);
    if (!by_reference) return ERR_OK;
    return output_append_block(&s->outputs, &c->output, m->block, m->payload + skip, body + 2);
}

/* Out of line: its room on the stack must cost nothing where nobody traces. */
static NOINLINE void trace_message(struct shard *s, const struct client *c, const struct sub *sub,
                                   const struct message *m)
{
    char room[OUTBOX_LINE_MAX];
    struct writer w;
    bool is_hmsg = m->header_bytes > 0 && client_has(c, CLIENT_HEADERS);
    uint32_t skip = is_hmsg ? 0 : m->header_bytes;
    uint32_t bytes = m->total_bytes - skip;
    writer_init(&w, room, sizeof room);
    writer_text(&w, is_hmsg ? "HMSG " : "MSG ");
    writer_bytes(&w, m->subject);
    writer_char(&w, ' ');
    writer_bytes(&w, sub_sid(sub));
    if (m->reply.len > 0) writer_char(&w, ' ');
    writer_bytes(&w, m->reply);
    writer_char(&w, ' ');
    if (is_hmsg) {
        writer_u64(&w, m->header_bytes);
        writer_char(&w, ' ');
    }
    writer_u64(&w, bytes);
    session_trace(s, c, writer_written(&w));
    session_trace_payload(s, c, bytes_of(m->payload + skip, bytes), is_hmsg ? m->header_bytes : 0,
                          true);
}

static inline void count_delivery(struct shard *s, struct client *c, uint64_t bytes)
{
    c->out.msgs++;
    c->out.bytes += bytes;
    c->account->counts.sent.msgs++;
    c->account->counts.sent.bytes += bytes;
    s->counts.out.msgs++;
    s->counts.out.bytes += bytes;
    session_mark_dirty(s, c);
}

/* R5b: the publisher is to wait for this receiver. That helps who reads, if slowly. Who has not
 * taken a byte for a second gets max_pending full or ends by its deadline, and nobody waits for it.
 */
static void congested(struct shard *s, struct client *c, const struct message *m, uint64_t pending)
{
    bool is_self = m->origin_shard == s->index && c->id.bits == m->origin.bits;
    bool is_stuck = client_has(c, CLIENT_SENDING) && s->now.mono_ns - c->send_began_ns >= STUCK_NS;
    if (is_self || is_stuck) return;
    enum client_stall stall = pending >= (uint64_t)s->options->max_pending
                                  ? CLIENT_STALL_RECEIVER_FULL
                                  : CLIENT_STALL_RECEIVER;
    if (m->origin_shard != s->index) {
        relay_congested(s, m->origin_shard, m->origin, stall);
        return;
    }
    if (s->stall < stall) s->stall = (uint8_t)stall;
    c->stalls++;
}

enum delivery { TAKEN, UNABLE };

/* Hands the message to one subscription. UNABLE: it must not or cannot take it, and another
 * member of its group may. */
static enum delivery deliver(struct shard *s, struct sub *sub, struct frame *f)
{
    const struct message *m = f->m;
    if (UNLIKELY(sub->flags & (CLIENT_SUB_FLAG_DEAD | CLIENT_SUB_FLAG_INTERNAL))) {
        bool is_live = (sub->flags & CLIENT_SUB_FLAG_DEAD) == 0;
        return is_live && jet_take(s, sub, m) ? TAKEN : UNABLE;
    }
    struct client *c = sub->owner;
    if (UNLIKELY(c->state == CLIENT_CLOSING)) return UNABLE;
    if (UNLIKELY(m->is_no_echo && c->id.bits == m->origin.bits && m->origin_shard == s->index))
        return UNABLE;
    if (UNLIKELY(client_has(c, CLIENT_SUB_FILTERED)) && !verbs_may_deliver(s, c, sub, m->subject))
        return UNABLE;

    uint64_t pending = c->output.pending_bytes;
    if (UNLIKELY(pending > s->stall_bytes)) {
        if (s->options->no_fast_producer_stall) {
            s->counts.dropped_msgs++;
            return UNABLE;
        }
        congested(s, c, m, pending);
    }
    if (UNLIKELY(pending + m->total_bytes > (uint64_t)s->options->max_pending) ||
        UNLIKELY(write_message(s, c, sub_sid(sub), f) != ERR_OK)) {
        s->counts.slow_consumers.clients++;
        c->account->counts.slow_consumers++;
        struct writer *w = session_log_open(s, c);
        writer_text(w, "Slow Consumer Detected: MaxPending of ");
        writer_i64(w, s->options->max_pending);
        writer_text(w, " Exceeded");
        session_log_close(s, LOG_LEVEL_INF);
        session_close(s, c, CLOSED_SLOW_PENDING, false);
        return UNABLE;
    }
    count_delivery(s, c, m->total_bytes); /* stripped headers count, as in nats-server */
    if (UNLIKELY(s->options->trace)) trace_message(s, c, sub, m);
    if (UNLIKELY(c->replies != NULL) && m->reply.len > 0) verbs_allow_reply(s, c, m->reply);
    sub->delivered++;
    if (UNLIKELY(sub->max != 0) && sub->delivered >= sub->max)
        session_drop_sub(s, c, sub_index(s->subs, sub));
    return TAKEN;
}

/* R3: one member of this shard, uniformly; the others in turn when it cannot. */
static bool deliver_group(struct shard *s, const struct route *r, const struct route_group *g,
                          struct frame *f)
{
    if (g->local_count == 0) return false;
    uint32_t start = g->local_count == 1 ? 0 : rng_below(&s->rng, g->local_count);
    for (uint32_t i = 0; i < g->local_count; i++) {
        uint32_t at = start + i < g->local_count ? start + i : start + i - g->local_count;
        if (deliver(s, r->subs[g->local_first + at], f) == TAKEN) return true;
    }
    return false;
}

static bool ensure_memory(struct shard *s, const struct route *r, const struct message *m)
{
    uint64_t targets = (uint64_t)r->plain_count + r->group_count;
    uint64_t bytes =
        m->block != NULL ? FOOTPRINT_PER_TARGET : m->total_bytes + FOOTPRINT_PER_TARGET;
    if (LIKELY(output_pool_ensure(&s->outputs, targets * bytes))) return true;
    return pressure_shed(s) && output_pool_ensure(&s->outputs, targets * bytes);
}

static inline enum fanout_result publish_to(struct shard *s, const struct message *m,
                                            struct bytes target, struct client *token_for,
                                            enum park_reason *reason)
{
    const struct route *r;
    if (UNLIKELY(route_cache_find(s->routes, m->account->number, m->account->trie, target, &r) !=
                 ERR_OK)) {
        *reason = PARK_MEMORY;
        return FANOUT_PARK;
    }
    if (r->plain_count + r->group_count == 0 && r->remote_plain == 0) return FANOUT_NOBODY;
    /* Not what the server itself sends: that cannot park. */
    if (UNLIKELY(s->is_late) && r->plain_count >= WIDE_TARGETS && m->origin.bits != 0) {
        *reason = PARK_TURN;
        return FANOUT_PARK;
    }
    if (UNLIKELY(!ensure_memory(s, r, m))) {
        *reason = PARK_MEMORY;
        return FANOUT_PARK;
    }
    struct relay_plan plan = {0};
    bool is_mailed = s->shard_count > 1 && (r->remote_plain != 0 || r->group_count > 0);
    if (is_mailed && !relay_plan(s, m, r, token_for, &plan, reason)) return FANOUT_PARK;

    struct frame f = {.m = m};
    bool is_delivered = false;
    s->is_fanning_out = true;
    for (uint32_t i = 0; i < r->plain_count; i++)
        if (deliver(s, r->subs[i], &f) == TAKEN) is_delivered = true;
    for (uint32_t g = 0; g < r->group_count; g++) {
        uint32_t picked = is_mailed ? relay_picked(&plan, g) : s->index;
        if (picked != s->index && picked != UINT32_MAX) continue;
        if (deliver_group(s, r, &r->groups[g], &f))
            is_delivered = true;
        else if (is_mailed)
            relay_plan_failed(&plan, g);
    }
    s->is_fanning_out = false;
    if (is_mailed) is_delivered = relay_send(s, m, r, &plan, is_delivered) || is_delivered;
    if (UNLIKELY(s->doomed_count > 0)) session_retry_doomed(s);
    if (is_delivered) return FANOUT_DELIVERED;
    return plan.token != 0 || plan.is_sent ? FANOUT_PENDING : FANOUT_NOBODY;
}

enum fanout_result fanout_publish(struct shard *s, const struct message *m,
                                  struct client *token_for, enum park_reason *reason)
{
    return publish_to(s, m, m->subject, token_for, reason);
}

NOINLINE enum fanout_result fanout_publish_to(struct shard *s, const struct message *m,
                                              enum park_reason *reason)
{
    return publish_to(s, m, m->target, NULL, reason);
}

/* The only one who gets it, if nothing about it has to be looked at; or NULL. */
static struct sub *sole_taker(const struct shard *s, const struct route *r,
                              const struct jet_parts *d, size_t bytes)
{
    if (r->plain_count != 1 || r->group_count > 0 || r->remote_plain != 0) return NULL;
    struct sub *sub = r->subs[0];
    if (sub->flags != 0 || sub->max != 0) return NULL;
    const struct client *c = sub->owner;
    if (c->state == CLIENT_CLOSING || client_has(c, CLIENT_SUB_FILTERED)) return NULL;
    if (d->headers.len > 0 && !client_has(c, CLIENT_HEADERS)) return NULL;
    uint64_t pending = c->output.pending_bytes + bytes;
    bool is_usual = pending <= s->stall_bytes && pending <= (uint64_t)s->options->max_pending;
    return is_usual && c->replies == NULL && !s->options->trace ? sub : NULL;
}

static char *put_number(char *to, uint64_t value)
{
    return to + bytes_u64_text(to, value);
}

bool fanout_deliver(struct shard *s, const struct jet_parts *d)
{
    const struct route *r;
    size_t bytes = d->headers.len + d->body.len;
    const struct shard_account *a = session_account(s, d->account);
    if (bytes > OUTPUT_LARGE_BYTES || a == NULL) return false;
    if (route_cache_find(s->routes, a->number, a->trie, d->target, &r) != ERR_OK) return false;
    struct sub *sub = sole_taker(s, r, d, bytes);
    if (UNLIKELY(sub == NULL)) return false;
    struct client *c = sub->owner;
    struct bytes sid = sub_sid(sub);
    size_t most = d->subject.len + sid.len + d->reply.len + bytes + 16 + 2 * BYTES_U64_TEXT_MAX;
    char *start = output_reserve(&s->outputs, &c->output, (uint32_t)most), *to = start;
    if (UNLIKELY(start == NULL)) return false;
    if (d->headers.len > 0) *to++ = 'H';
    memcpy(to, "MSG ", 4);
    to = bytes_put(to + 4, d->subject);
    *to++ = ' ';
    to = bytes_put(to, sid);
    *to++ = ' ';
    if (d->reply.len > 0) {
        to = bytes_put(to, d->reply);
        *to++ = ' ';
    }
    if (d->headers.len > 0) {
        to = put_number(to, d->headers.len);
        *to++ = ' ';
    }
    to = put_number(to, bytes);
    memcpy(to, "\r\n", 2);
    to = bytes_put(to + 2, d->headers);
    to = bytes_put(to, d->body);
    memcpy(to, "\r\n", 2);
    output_commit(&s->outputs, &c->output, (uint32_t)(to + 2 - start));
    count_delivery(s, c, bytes);
    sub->delivered++;
    return true;
}

bool fanout_mailed(struct shard *s, const struct message *m, struct relay_order *o)
{
    const struct route *r;
    struct bytes target = m->target.len > 0 ? m->target : m->subject;
    while (route_cache_find(s->routes, m->account->number, m->account->trie, target, &r) !=
           ERR_OK) {
        if (pressure_shed(s)) continue;
        /* R5c: mail is never suspended; without memory for a route nobody can be served. */
        s->counts.dropped_msgs++;
        return false;
    }
    /* Who has the most output waiting goes before somebody who reads and finds no memory. */
    (void)!ensure_memory(s, r, m);
    struct frame f = {.m = m};
    bool is_delivered = false;
    s->is_fanning_out = true;
    if (o->wants_plain)
        for (uint32_t i = 0; i < r->plain_count; i++)
            if (deliver(s, r->subs[i], &f) == TAKEN) is_delivered = true;
    for (uint32_t n = 0; n < o->group_count; n++) {
        uint32_t g = 0;
        while (g < r->group_count && !bytes_equal(r->groups[g].queue, o->groups[n])) g++;
        if (g == r->group_count) continue;
        if (deliver_group(s, r, &r->groups[g], &f))
            is_delivered = true;
        else
            relay_forward(s, m, &r->groups[g], o);
    }
    s->is_fanning_out = false;
    if (s->doomed_count > 0) session_retry_doomed(s);
    return is_delivered;
}

/* R9: the request reached nobody, and its sender wants to know, on its own plain subscription. */
void fanout_no_responders(struct shard *s, struct client *c, struct bytes subject,
                          struct bytes reply)
{
    const struct route *r;
    if (c->state == CLIENT_CLOSING || !client_has(c, CLIENT_NO_RESPONDERS)) return;
    if (route_cache_find(s->routes, c->account->number, c->account->trie, reply, &r) != ERR_OK) {
        s->counts.dropped_msgs++;
        session_end_unanswered(s, c);
        return;
    }
    for (uint32_t i = 0; i < r->plain_count; i++) {
        struct sub *sub = r->subs[i];
        if ((sub->flags & CLIENT_SUB_FLAG_DEAD) != 0 || sub->owner != c) continue;
        char room[VERBS_MAPPED_MAX + 2 * NATS_ARG_BYTES_MAX + 128];
        struct writer w;
        writer_init(&w, room, sizeof room);
        writer_text(&w, "HMSG ");
        writer_bytes(&w, reply);
        writer_char(&w, ' ');
        writer_bytes(&w, sub_sid(sub));
        for (int twice = 0; twice < 2; twice++) {
            writer_char(&w, ' ');
            writer_u64(&w, 32 + subject.len);
        }
        writer_text(&w, "\r\nNATS/1.0 503\r\nNats-Subject: ");
        writer_bytes(&w, subject);
        writer_text(&w, "\r\n\r\n\r\n");
        must(!w.is_full);
        s->counts.no_responders++;
        session_write(s, c, writer_written(&w));
        return;
    }
}
