/* Consumers: what clients ask of them goes to core/js/deliver, what that delivers goes out. */
#include "core/shard/jet.h"

enum { RUN_MESSAGES_MAX = 1024 };

/* --- the outlet of a stream's consumers ------------------------------------------------------- */

static void outlet_send(struct outlet *o, struct bytes subject, struct bytes reply,
                        struct bytes headers)
{
    const struct jet_stream *x = (const struct jet_stream *)(void *)o;
    struct jet_parts parts = {
        .account = x->s->stream.account, .subject = subject, .reply = reply, .headers = headers};
    jet_send_later(x->jet->shard, &parts);
}

static bool outlet_has_interest(struct outlet *o, struct bytes subject)
{
    const struct jet_stream *x = (const struct jet_stream *)(void *)o;
    struct shard *s = x->jet->shard;
    struct shard_account *a = session_account(s, x->s->stream.account);
    const struct route *r;
    if (a == NULL) return false;
    /* Asked for each message of a pull, whose delivery takes the same route. Inside a fan-out the
     * cache must not let go of the one that is being followed. While streams are opened, before the
     * hooks are there, the shard has no place among the readers yet. */
    bool has_cache = !s->is_fanning_out && x->jet->js->hooks != NULL;
    if (!has_cache || route_cache_find(s->routes, a->number, a->trie, subject, &r) != ERR_OK)
        return interest_exists(s->interest, a->trie, subject);
    return r->plain_count + r->group_count > 0 || r->remote_plain != 0;
}

static bool outlet_is_heard(struct outlet *o, struct bytes subject, struct bytes group)
{
    const struct jet_stream *x = (const struct jet_stream *)(void *)o;
    const struct shard *s = x->jet->shard;
    const struct shard_account *a = session_account(x->jet->shard, x->s->stream.account);
    return a != NULL && interest_has(s->interest, a->trie, subject, group);
}

static void outlet_event(struct outlet *o, const struct outlet_event *e)
{
    jet_advisory_event((struct jet_stream *)(void *)o, e);
}

void jet_consumer_init_outlet(struct jet_stream *x)
{
    x->outlet = (struct outlet){.send = outlet_send,
                                .has_interest = outlet_has_interest,
                                .is_heard = outlet_is_heard,
                                .event = outlet_event};
}

/* --- the port of deliver ---------------------------------------------------------------------- */

static bool may_send(void *context)
{
    const struct shard *s = context;
    return s->jet->out.count == 0 && s->jet->rests_until_ns <= s->now.mono_ns;
}

void jet_congested(struct shard *s)
{
    for (uint32_t i = 0; i < s->jet_count; i++)
        s->jets[i]->rests_until_ns = s->now.mono_ns + STALL_NS;
}

static bool on_message(void *context, struct js_stream *stream, struct bytes target,
                       struct bytes subject, struct bytes reply, struct bytes headers,
                       struct bytes body)
{
    struct shard *s = context;
    struct jet_parts parts = {.account = stream->stream.account,
                              .target = target,
                              .subject = subject,
                              .reply = reply,
                              .headers = headers,
                              .body = body};
    bool is_first = s->jet->out.count == 0 && !s->is_fanning_out;
    if (LIKELY(is_first) && fanout_deliver(s, &parts)) return true;
    s->jet->is_congested = false;
    jet_send_stored(s, &parts);
    return !s->jet->is_congested;
}

/* What cannot leave waits in `out`: where memory is short, room for that comes first. */
static bool has_room(void *context, size_t bytes)
{
    struct shard *s = context;
    return LIKELY(mem_percent(s->mem) < MEM_SHORT_PERCENT) ||
           jet_queue_reserve(s, &s->jet->out, bytes);
}

static const struct deliver_port port = {
    .may_send = may_send, .message = on_message, .has_room = has_room};

void jet_consumer_open(struct shard *s)
{
    deliver_init(&s->jet->deliver, s->jet->js, &port, s, s->now);
}

/* --- clients ---------------------------------------------------------------------------------- */

static struct bytes last_token(struct bytes subject)
{
    size_t at = subject.len;
    while (at > 0 && subject.data[at - 1] != '.') at--;
    return bytes_of(subject.data + at, subject.len - at);
}

static struct bytes body_of(const struct message *m)
{
    return bytes_of(m->payload + m->header_bytes, m->total_bytes - m->header_bytes);
}

bool jet_consumer_exists(const struct jet_stream *x, struct bytes subject)
{
    return consumer_set_find(&x->s->consumers, last_token(subject)) != NULL;
}

bool jet_consumer_takes_ack(const struct jet_stream *x, struct bytes subject)
{
    struct ack_subject a;
    if (ack_parse_subject(subject, &a) != ERR_OK) return true;
    const struct consumer *c = consumer_set_find(&x->s->consumers, a.consumer);
    return c != NULL && c->ack_policy != CONSUMER_ACK_NONE;
}

void jet_consumer_pull(struct shard *s, struct jet_stream *x, const struct message *m)
{
    if (m->reply.len == 0) return;
    if (request_needs_higher_level(bytes_of(m->payload, m->header_bytes))) {
        struct jet_parts parts = {.account = m->account->number,
                                  .subject = m->reply,
                                  .headers =
                                      BYTES_LITERAL("NATS/1.0 412 Required Api Level\r\n\r\n")};
        jet_send(s, &parts);
        return;
    }
    /* Deleted since it was asked for: the client times out, as with nats-server. */
    (void)!deliver_pull(&s->jet->deliver, x->s, last_token(m->subject), body_of(m), m->reply,
                        s->now);
}

void jet_consumer_ack(struct shard *s, struct jet_stream *x, const struct message *m)
{
    enum err e = deliver_ack(&s->jet->deliver, x->s, m->subject, body_of(m), m->reply, s->now);
    if (UNLIKELY(e == ERR_MEMORY)) jet_send_refusal(s, JET_SUB_ACK, m);
}

void jet_consumer_flow(struct shard *s, struct jet_stream *x, const struct message *m)
{
    deliver_flow(&s->jet->deliver, x->s, m->subject);
}

/* --- interest --------------------------------------------------------------------------------- */

void jet_consumer_interest(struct shard *s, uint32_t account, struct bytes filter)
{
    struct shard_account *a = session_account(s, account);
    struct message m = {.account = a, .subject = filter, .payload = "\r\n"};
    for (uint32_t i = 0; i < s->jet_count; i++) {
        struct jet *j = s->jets[i];
        if (j->deliver.pushes.count == 0) continue;
        bool is_any = filter.len == 0;
        if (is_any || a == NULL || jet_queue_message(s, &j->interest, 0, NULL, &m) != ERR_OK)
            j->is_interest_lost = true;
    }
}

static void take_interest(struct shard *s)
{
    struct jet *j = s->jet;
    const struct jet_message *e;
    struct message m;
    while ((e = jet_queue_first(&j->interest)) != NULL) {
        if (jet_queue_read(s, e, &m)) deliver_interest(&j->deliver, e->account, m.subject, s->now);
        jet_queue_pop(s, &j->interest);
    }
    if (!j->is_interest_lost) return;
    j->is_interest_lost = false;
    deliver_interest_all(&j->deliver, s->now);
}

void jet_consumer_step(struct shard *s)
{
    struct jet *j = s->jet;
    take_interest(s);
    j->has_more = deliver_run(&j->deliver, s->now, RUN_MESSAGES_MAX);
    s->counts.dropped_msgs += j->deliver.republish.dropped;
    j->deliver.republish.dropped = 0;
}
