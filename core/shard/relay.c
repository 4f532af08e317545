/* Mail between shards: messages for other shards' subscriptions, lent payloads, answers to
 * requests (R9), queue forwards (R3), congestion (R5b), and what the JetStream of one shard has to
 * say to that of another (core/shard/jet_mail). Sending is core/shard/mail; permits of account
 * limits are core/shard/permit.
 *
 * M1 Consuming mail never needs ring space: what it sends goes through mail_post(), which spills
 *    when the ring is full. Each kind that is sent while consuming has its bound: BLOCK_BACK <=
 *    loans received, ANSWER and forwards <= messages received, CONGESTED <= messages received,
 *    PERMIT <= requests received; JET: one answer to each, and JS_LIST_PAGE parts to an ask for a
 *    page, of which a shard has no more under way than requests (info_queue_limit).
 *    Without memory for a spill, what others count on is not lost: mail that will be answered stays
 *    unread until there is room for the answer (may_consume), proxies and permits wait where they
 *    are until they can go home. A forward is dropped and counted, as any message is that finds no
 *    memory; a word about congestion is not repeated.
 * M2 A publish makes sure of room in every lane (relay_plan) before anything is delivered.
 * M3 A lent block stays the lender's: targets see it through proxies and send it home. */
#include "core/base/must.h"
#include "core/shard/internal.h"
#include "core/shard/jet_interest.h"
#include "core/shard/mail.h"
#include "core/shard/permit.h"
#include "core/shard/token.h"

enum {
    INLINE_BYTES_MAX = 16384, /* payloads above are lent */
};

enum {
    MESSAGE_PLAIN = 1,
    MESSAGE_NO_ECHO = 2,
    MESSAGE_HEADERS = 4,
    MESSAGE_TAIL = 8,
    MESSAGE_TARGET = 16,
};

/* Body of MAIL_MESSAGE; then the group names (16-bit length, bytes), with MESSAGE_TARGET the target
 * in the same form, the subject, and
 *   with MESSAGE_TAIL: the tail (which begins with the reply);
 *   else: the reply, then headers, payload and CRLF unless block lends them. */
struct mail_message {
    uint64_t origin, tried;
    struct block *block; /* lent: of shard lender */
    char *payload;
    uint32_t account, token, weight, total_bytes, header_bytes, tail_len;
    uint16_t subject_len, reply_len, group_count;
    uint8_t flags, origin_shard, lender, unused;
};

struct mail_answer {
    uint32_t token, weight;
    uint32_t is_delivered;
};

struct relay {
    struct token_table tokens;
    struct block *homebound; /* proxies nobody refers to, whose blocks go home with the next mail */
    uint64_t full; /* targets whose ring had no room for a publish, until half of it is free */
};

/* --- blocks that go home ---------------------------------------------------------------------- */

static void send_home(struct shard *s)
{
    struct relay *x = s->relay;
    while (x->homebound != NULL) {
        struct block *b = x->homebound;
        if (!mail_post(s, b->owner, MAIL_BLOCK_BACK, &b->origin, sizeof b->origin)) return;
        x->homebound = b->next;
        mem_free(s->mem, MEM_MAIL, b, sizeof *b);
    }
}

static void return_block(void *shard, struct block *proxy)
{
    struct shard *s = shard;
    proxy->next = s->relay->homebound;
    s->relay->homebound = proxy;
    /* A receiver closed by a fan-out: the room in the rings is promised to the message (M2). */
    if (LIKELY(!s->is_fanning_out)) send_home(s);
}

/* --- answers to requests (R9) ------------------------------------------------------------------
 */

void relay_drop_tokens(struct shard *s, struct client *c)
{
    token_free_of(&s->relay->tokens, s->mem, c->id);
}

static void answered(struct shard *s, const struct mail_answer *a)
{
    struct token *t = token_at(&s->relay->tokens, a->token);
    if (t == NULL) return; /* answered before, or its client is gone */
    must(a->weight <= t->weight);
    t->weight -= a->weight;
    if (!a->is_delivered && t->weight > 0) return;
    struct client *c = shard_client(s, t->conn);
#ifdef MILLRACE_BREAK_TOKEN_DROPPED
    c = NULL;
#endif
    if (!a->is_delivered && c != NULL) fanout_no_responders(s, c, token_subject(t), token_reply(t));
    /* Without memory for its 503 the client was closed, and its tokens with it. */
    if (token_at(&s->relay->tokens, a->token) == t) token_free(&s->relay->tokens, s->mem, t);
}

static void answer(struct shard *s, uint32_t origin, uint32_t token, uint32_t weight,
                   bool is_delivered)
{
    struct mail_answer a = {token, weight, is_delivered};
    /* A forward may have taken all weight along; that it was delivered is news all the same. */
    if (token == 0 || (weight == 0 && !is_delivered)) return;
    if (origin == s->index)
        answered(s, &a);
    else
        mail_post_owed(s, origin, MAIL_ANSWER, &a, sizeof a);
}

/* --- messages --------------------------------------------------------------------------------- */

/* Bytes of the mail's body for a target, the payload counted as it will travel. */
static uint32_t message_bytes(const struct message *m, uint32_t group_bytes, bool is_lent)
{
    uint32_t bytes = (uint32_t)sizeof(struct mail_message) + group_bytes + (uint32_t)m->subject.len;
    if (m->target.len > 0) bytes += (uint32_t)(sizeof(uint16_t) + m->target.len);
    if (is_lent) return bytes + (uint32_t)m->reply.len;
    if (m->tail.data != NULL) return bytes + (uint32_t)m->tail.len;
    return bytes + (uint32_t)m->reply.len + m->total_bytes + 2;
}

static bool is_lent(const struct message *m)
{
    return m->total_bytes > INLINE_BYTES_MAX;
}

static char *put(char *to, const void *from, size_t len)
{
    if (len > 0) memcpy(to, from, len);
    return to + len;
}

static char *put_group(char *to, struct bytes name)
{
    uint16_t len = (uint16_t)name.len;
    to = put(to, &len, sizeof len);
    return put(to, name.data, name.len);
}

/* Everything before the group names. */
static char *put_head(struct shard *s, char *to, const struct message *m,
                      const struct relay_order *o, uint8_t lender)
{
    struct mail_message h = {.origin = m->origin.bits,
                             .tried = o->tried,
                             .account = m->account->number,
                             .token = o->token,
                             .weight = o->weight,
                             .total_bytes = m->total_bytes,
                             .header_bytes = m->header_bytes,
                             .subject_len = (uint16_t)m->subject.len,
                             .reply_len = (uint16_t)m->reply.len,
                             .group_count = (uint16_t)o->group_count,
                             .origin_shard = (uint8_t)m->origin_shard,
                             .lender = lender};
    h.flags =
        (uint8_t)((o->wants_plain ? MESSAGE_PLAIN : 0) | (m->is_no_echo ? MESSAGE_NO_ECHO : 0) |
                  (m->has_headers ? MESSAGE_HEADERS : 0) |
                  (m->target.len > 0 ? MESSAGE_TARGET : 0));
#ifdef MILLRACE_BREAK_ECHO_ACROSS
    h.flags &= (uint8_t)~MESSAGE_NO_ECHO;
#endif
    if (is_lent(m)) {
        must(m->block != NULL && m->block->owner == s->index);
        h.block = m->block;
        h.payload = m->block->data + (m->payload - m->block->data);
        m->block->refs++;
        s->rare.loans++;
    } else if (m->tail.data != NULL) {
        h.flags |= MESSAGE_TAIL;
        h.tail_len = (uint32_t)m->tail.len;
    }
    return put(to, &h, sizeof h);
}

static void put_rest(char *to, const struct message *m)
{
    if (m->target.len > 0) to = put_group(to, m->target);
    to = put(to, m->subject.data, m->subject.len);
    if (!is_lent(m) && m->tail.data != NULL) {
        put(to, m->tail.data, m->tail.len);
        return;
    }
    to = put(to, m->reply.data, m->reply.len);
    if (!is_lent(m)) put(to, m->payload, (size_t)m->total_bytes + 2);
}

static uint32_t first_shard_with(const struct route_group *g, uint64_t excluded,
                                 uint32_t shard_count)
{
    for (uint32_t i = 0; i < shard_count; i++)
        if (g->by_shard[i] > 0 && (excluded & 1ull << i) == 0) return i;
    return UINT32_MAX;
}

/* R3: the shard whose member takes it, by member count. */
static uint32_t pick_shard(struct shard *s, const struct route_group *g)
{
    if (g->local_count == g->members) return s->index;
    uint32_t nth = rng_below(&s->rng, g->members);
    for (uint32_t i = 0; i < s->shard_count; i++) {
        if (nth < g->by_shard[i]) return i;
        nth -= g->by_shard[i];
    }
    return s->index;
}

uint32_t relay_picked(const struct relay_plan *plan, uint32_t group)
{
    return group < plan->group_count ? plan->pick[group] : UINT32_MAX;
}

void relay_plan_failed(struct relay_plan *plan, uint32_t group)
{
    plan->failed[group / 64] |= 1ull << group % 64;
    plan->has_failed = true;
}

/* Those that are picked for: however long their names, the mail fits into half of a ring. */
static uint32_t groups_picked(const struct shard *s, const struct route *r)
{
    const struct lane *any = s->outbox->lanes[s->index == 0 ? 1 : 0];
    uint32_t count = 0, bytes = 0;
    for (; count < r->group_count && count < RELAY_GROUPS_MAX; count++) {
        bytes += (uint32_t)(sizeof(uint16_t) + r->groups[count].queue.len);
        if (bytes > any->ring_bytes / 4) break;
    }
    return count;
}

static size_t failed_bytes(const struct route *r)
{
    return (r->group_count + 63) / 64 * sizeof(uint64_t);
}

static bool make_failed(struct shard *s, const struct route *r, struct relay_plan *plan)
{
    plan->failed = plan->failed_few;
    if (LIKELY(failed_bytes(r) <= sizeof plan->failed_few)) return true;
    plan->failed = mem_alloc_zero(s->mem, MEM_MAIL, failed_bytes(r));
    return plan->failed != NULL;
}

static void release_plan(struct shard *s, const struct route *r, struct relay_plan *plan)
{
    if (plan->copy != NULL) block_release(&s->outputs, plan->copy);
    if (plan->failed != plan->failed_few) mem_free(s->mem, MEM_MAIL, plan->failed, failed_bytes(r));
}

/* The names for one target; count and bytes. */
static uint32_t groups_for(const struct route *r, const struct relay_plan *plan, uint32_t target,
                           uint32_t *group_bytes)
{
    uint32_t count = 0;
    *group_bytes = 0;
    for (uint32_t g = 0; g < plan->group_count; g++) {
        if (plan->pick[g] != target) continue;
        count++;
        *group_bytes += (uint32_t)(sizeof(uint16_t) + r->groups[g].queue.len);
    }
    return count;
}

static struct client *publisher_of(struct shard *s, const struct message *m)
{
    return m->origin_shard == s->index && m->origin.bits != 0 ? shard_client(s, m->origin) : NULL;
}

/* R2b: where the publisher's mail ends in each lane. Once per connection. */
static bool remember_room(struct shard *s, const struct message *m)
{
    struct client *c = publisher_of(s, m);
    if (c == NULL || c->mail_until != NULL) return true;
    c->mail_until = mem_alloc_zero(s->mem, MEM_CONNECTION, s->shard_count * sizeof *c->mail_until);
    return c->mail_until != NULL;
}

bool relay_plan(struct shard *s, const struct message *m, const struct route *r,
                struct client *token_for, struct relay_plan *plan, enum park_reason *reason)
{
    plan->targets = r->remote_plain;
    plan->group_count = groups_picked(s, r);
    for (uint32_t g = 0; g < plan->group_count; g++) {
        plan->pick[g] = (uint8_t)pick_shard(s, &r->groups[g]);
        if (plan->pick[g] != s->index) plan->targets |= 1ull << plan->pick[g];
    }
    for (uint64_t left = plan->targets; left != 0; left &= left - 1) {
        uint32_t target = (uint32_t)__builtin_ctzll(left);
        uint32_t group_bytes;
        groups_for(r, plan, target, &group_bytes);
        uint32_t need = lane_record_bytes(message_bytes(m, group_bytes, is_lent(m)));
#ifdef MILLRACE_BREAK_FOOTPRINT_LATE
        (void)need; /* relay_send looks, when the local half is delivered already */
        if (!mail_is_clear(s, target)) {
#else
        if (!mail_is_clear(s, target) || !lane_has_room(s->outbox->lanes[target], need, need)) {
#endif
            s->counts.mail.ring_full++;
            s->relay->full |= 1ull << target;
            *reason = PARK_MAIL;
            return false;
        }
    }
    if (plan->targets != 0 && !remember_room(s, m)) {
        *reason = PARK_MEMORY;
        return false;
    }
    if (plan->targets != 0 && is_lent(m) && m->block == NULL) {
        plan->copy = block_make(&s->outputs, m->total_bytes + 2);
        if (plan->copy == NULL) {
            *reason = PARK_MEMORY;
            return false;
        }
        memcpy(plan->copy->data, m->payload, (size_t)m->total_bytes + 2);
    }
    if (!make_failed(s, r, plan)) {
        *reason = PARK_MEMORY;
        release_plan(s, r, plan);
        return false;
    }
    /* With plain subscriptions here too: none of them may be able to take it. */
    if (token_for == NULL) return true;
    plan->token = token_take(&s->relay->tokens, s->mem, token_for->id, m->subject, m->reply);
    if (plan->token != 0) {
        s->rare.tokens++;
        return true;
    }
    *reason = s->relay->tokens.count == TOKEN_COUNT_MAX ? PARK_TOKENS : PARK_MEMORY;
    release_plan(s, r, plan);
    return false;
}

bool relay_send(struct shard *s, const struct message *m, const struct route *r,
                struct relay_plan *plan, bool is_delivered)
{
    struct token *t = token_at(&s->relay->tokens, plan->token);
    if (t != NULL && is_delivered) {
        token_free(&s->relay->tokens, s->mem, t);
        t = NULL;
        plan->token = 0;
    }
    struct message lent = *m;
    if (plan->copy != NULL) {
        lent.block = plan->copy;
        lent.payload = plan->copy->data;
    }
    /* Weights are given out before the first mail: an answer of this shard itself (a forward that
     * finds nobody) must not find the token complete. */
    if (t != NULL) t->weight += 1;
    struct client *publisher = publisher_of(s, m);
    for (uint64_t left = plan->targets; left != 0; left &= left - 1) {
        uint32_t target = (uint32_t)__builtin_ctzll(left);
        uint32_t group_bytes;
        struct relay_order o = {.wants_plain = (r->remote_plain >> target & 1) != 0};
        o.group_count = groups_for(r, plan, target, &group_bytes);
        if (t != NULL) {
            o.token = plan->token;
            o.weight = 1 + o.group_count;
            t->weight += o.weight;
        }
        uint32_t bytes = message_bytes(&lent, group_bytes, is_lent(&lent));
#ifdef MILLRACE_BREAK_FOOTPRINT_LATE
        if (!lane_has_room(s->outbox->lanes[target], lane_record_bytes(bytes),
                           lane_record_bytes(bytes))) {
            s->relay->full |= 1ull << target;
            continue;
        }
#endif
        char *to = lane_append(s->outbox->lanes[target], MAIL_MESSAGE, 0, bytes);
        to = put_head(s, to, &lent, &o, (uint8_t)s->index);
        for (uint32_t g = 0; g < plan->group_count; g++)
            if (plan->pick[g] == target) to = put_group(to, r->groups[g].queue);
        put_rest(to, &lent);
        if (publisher != NULL) publisher->mail_until[target] = s->outbox->lanes[target]->tail;
        s->counts.mail.sent++;
        s->counts.mail.sent_bytes += bytes;
        plan->is_sent = true;
    }
    /* A group that nobody picked for failed here, too, if it has no members here. */
    for (uint32_t g = 0; plan->has_failed && g < r->group_count; g++) {
        if ((plan->failed[g / 64] >> g % 64 & 1) == 0) continue;
        struct relay_order o = {0};
        if (t != NULL) {
            o.token = plan->token;
            o.weight = 1;
            t->weight += 1;
        }
        relay_forward(s, &lent, &r->groups[g], &o);
        if (o.weight > 0) answer(s, s->index, plan->token, o.weight, false);
    }
    release_plan(s, r, plan);
    if (t != NULL) {
        struct mail_answer own = {plan->token, 1, false};
        bool is_pending = t->weight > 1;
        if (!is_pending) {
            /* Nobody else was asked: the caller tells the publisher itself. */
            token_free(&s->relay->tokens, s->mem, t);
            plan->token = 0;
        } else {
            answered(s, &own);
        }
    }
    return false;
}

void relay_forward(struct shard *s, const struct message *m, const struct route_group *g,
                   struct relay_order *o)
{
    uint64_t tried = o->tried | 1ull << s->index;
    uint32_t target = first_shard_with(g, tried, s->shard_count);
    if (target == UINT32_MAX) return;
    struct message copy = *m;
    struct block *own = NULL;
    /* A payload lent by another shard cannot be lent on: it is copied into a block of ours. */
    if (is_lent(m) && (m->block == NULL || m->block->owner != s->index)) {
        own = block_make(&s->outputs, m->total_bytes + 2);
        if (own == NULL) {
            s->counts.dropped_msgs++;
            return;
        }
        memcpy(own->data, m->payload, (size_t)m->total_bytes + 2);
        copy.block = own;
        copy.payload = own->data;
    }
    struct relay_order next = {.group_count = 1, .tried = tried, .token = o->token};
    /* Its mail has one unit for each of its groups, and each is forwarded at most once. */
    must(o->token == 0 || o->weight > 0);
    next.weight = o->token != 0;
    uint32_t bytes =
        message_bytes(&copy, (uint32_t)(sizeof(uint16_t) + g->queue.len), is_lent(&copy));
    char *body = mem_alloc(s->mem, MEM_MAIL, bytes);
    bool is_sent = false;
    if (body != NULL) {
        char *to = put_head(s, body, &copy, &next, (uint8_t)s->index);
        put_rest(put_group(to, g->queue), &copy);
        is_sent = mail_post(s, target, MAIL_MESSAGE, body, bytes);
        mem_free(s->mem, MEM_MAIL, body, bytes);
        if (!is_sent && is_lent(&copy)) block_release(&s->outputs, copy.block);
    }
    if (is_sent) {
        s->counts.queue_forwards++;
        o->weight -= next.weight;
    } else {
        s->counts.dropped_msgs++;
    }
    if (own != NULL) block_release(&s->outputs, own);
}

void relay_congested(struct shard *s, uint32_t shard, struct conn_id publisher,
                     enum client_stall stall)
{
    struct mail_permit body = {.conn = publisher.bits, .stall = stall};
    if (publisher.bits == 0) return;
    /* One word per turn and publisher is enough: it parks at the first. */
    if (s->relay_congested_turn == s->counts.turns && s->relay_congested_conn == publisher.bits)
        return;
    s->relay_congested_turn = s->counts.turns;
    s->relay_congested_conn = publisher.bits;
    /* Without memory the next message says it again. */
    (void)!mail_post(s, shard, MAIL_CONGESTED, &body, sizeof body);
}

static void close_unanswered(struct shard *s, struct conn_id conn)
{
    struct client *c = shard_client(s, conn);
    if (c != NULL) session_end_unanswered(s, c);
}

void relay_end_client(struct shard *s, uint32_t shard, struct conn_id conn)
{
    if (conn.bits == 0 || conn.bits == MESSAGE_OF_STREAM.bits) return;
    if (shard == s->index)
        close_unanswered(s, conn);
    else
        (void)!mail_post(s, shard, MAIL_CLOSE, &conn, sizeof conn); /* no memory for that either */
}

/* What a mail says; NULL or the proxy of a payload that was lent. Without memory for that
 * m->payload is NULL. */
static struct block *read_message(struct shard *s, const char *at, uint32_t bytes,
                                  struct mail_message *out, struct bytes *groups, struct message *m)
{
    struct mail_message h;
    memcpy(&h, at, sizeof h);
    *out = h;
    const char *text = at + sizeof h;
    must(h.group_count <= RELAY_GROUPS_MAX);
    for (uint32_t i = 0; i < h.group_count; i++) {
        uint16_t len;
        memcpy(&len, text, sizeof len);
        groups[i] = bytes_of(text + sizeof len, len);
        text += sizeof len + len;
    }
    struct bytes target = bytes_of(NULL, 0);
    if ((h.flags & MESSAGE_TARGET) != 0) {
        uint16_t len;
        memcpy(&len, text, sizeof len);
        target = bytes_of(text + sizeof len, len);
        text += sizeof len + len;
    }
    *m = (struct message){.account = session_account(s, h.account),
                          .target = target,
                          .subject = bytes_of(text, h.subject_len),
                          .total_bytes = h.total_bytes,
                          .header_bytes = h.header_bytes,
                          .has_headers = (h.flags & MESSAGE_HEADERS) != 0,
                          .is_no_echo = (h.flags & MESSAGE_NO_ECHO) != 0,
                          .origin = {h.origin},
                          .origin_shard = h.origin_shard};
    text += h.subject_len;
    m->reply = bytes_of(text, h.reply_len);
    if (h.block != NULL) {
        m->block = block_borrow(&s->outputs, h.lender, h.block, h.payload, h.total_bytes + 2);
        if (m->block != NULL)
            m->payload = h.payload;
        else
            mail_post_owed(s, h.lender, MAIL_BLOCK_BACK, &h.block, sizeof h.block);
        return m->block;
    }
    if ((h.flags & MESSAGE_TAIL) != 0) {
        m->tail = bytes_of(text, h.tail_len);
        m->payload = text + h.tail_len - h.total_bytes - 2;
    } else {
        m->payload = text + h.reply_len;
    }
    must(m->payload + h.total_bytes + 2 <= at + bytes);
    return NULL;
}

static void on_message(struct shard *s, const char *at, uint32_t bytes)
{
    struct mail_message h;
    struct message m;
    struct bytes groups[RELAY_GROUPS_MAX];
    struct block *proxy = read_message(s, at, bytes, &h, groups, &m);
    struct relay_order o = {.wants_plain = (h.flags & MESSAGE_PLAIN) != 0,
                            .groups = groups,
                            .group_count = h.group_count,
                            .tried = h.tried,
                            .token = h.token,
                            .weight = h.weight};
    bool is_delivered = false;
    if (m.account != NULL && m.payload != NULL)
        is_delivered = fanout_mailed(s, &m, &o);
    else
        s->counts.dropped_msgs++;
    if (proxy != NULL) block_release(&s->outputs, proxy);
    answer(s, h.origin_shard, o.token, o.weight, is_delivered);
}

static void on_congested(struct shard *s, const struct mail_permit *p)
{
    s->rare.congested_mail++;
    s->rare.log_stalls_mailed += p->stall >= CLIENT_STALL_LOG;
    if (p->conn == MESSAGE_OF_STREAM.bits) {
        jet_congested(s);
        return;
    }
    struct client *c = shard_client(s, (struct conn_id){p->conn});
    if (c == NULL || c->state == CLIENT_CLOSING) return;
    must(p->stall < CLIENT_STALL_COUNT);
    c->stall_asked = (uint8_t)p->stall;
}

/* --- JetStream -------------------------------------------------------------------------------- */

bool relay_jet(struct shard *s, uint32_t target, const void *body, uint32_t bytes)
{
    return mail_post(s, target, MAIL_JET, body, bytes);
}

void relay_jet_owed(struct shard *s, uint32_t target, const void *body, uint32_t bytes)
{
    mail_post_owed(s, target, MAIL_JET, body, bytes);
}

bool relay_jet_message(struct shard *s, uint32_t target, const struct message *m)
{
    struct relay_order o = {.group_count = 0};
    struct message copy = *m;
    struct block *own = NULL;
    copy.tail = bytes_of(NULL, 0);
    copy.block = NULL;
    if (is_lent(m)) {
        own = block_make(&s->outputs, m->total_bytes + 2);
        if (own == NULL) return false;
        memcpy(own->data, m->payload, m->total_bytes);
        memcpy(own->data + m->total_bytes, "\r\n", 2);
        copy.block = own;
        copy.payload = own->data;
    }
    uint32_t bytes = message_bytes(&copy, 0, is_lent(&copy));
    char *body = mem_alloc(s->mem, MEM_MAIL, bytes);
    bool is_sent = false;
    if (body != NULL) {
        put_rest(put_head(s, body, &copy, &o, (uint8_t)s->index), &copy);
        is_sent = mail_post(s, target, MAIL_JET_MESSAGE, body, bytes);
        mem_free(s->mem, MEM_MAIL, body, bytes);
        if (!is_sent && own != NULL) block_release(&s->outputs, own);
    }
    if (own != NULL) block_release(&s->outputs, own);
    return is_sent;
}

bool relay_is_clear(struct shard *s, uint32_t target)
{
    return target == s->index || mail_is_clear(s, target);
}

bool relay_has_room(struct shard *s, uint32_t target, const struct message *m)
{
    uint32_t need = lane_record_bytes(message_bytes(m, 0, is_lent(m)));
    return mail_is_clear(s, target) && lane_has_room(s->outbox->lanes[target], need, need);
}

static void on_jet_message(struct shard *s, uint32_t sender, const char *at, uint32_t bytes)
{
    struct mail_message h;
    struct message m;
    struct block *proxy = read_message(s, at, bytes, &h, NULL, &m);
    must(h.group_count == 0);
    jet_mail_message(s, sender, &m);
    if (proxy != NULL) block_release(&s->outputs, proxy);
}

/* --- the rest ------------------------------------------------------------------------------------
 */

static void on_record(struct shard *s, uint32_t sender, const struct lane_record *r)
{
    const char *body = (const char *)(r + 1);
    struct mail_permit permit;
    struct mail_answer a;
    struct block *block;
    struct conn_id conn;
    switch (r->kind) {
    case MAIL_MESSAGE: on_message(s, body, r->bytes - (uint32_t)sizeof *r); return;
    case MAIL_ANSWER:
        memcpy(&a, body, sizeof a);
        answered(s, &a);
        return;
    case MAIL_BLOCK_BACK:
        memcpy(&block, body, sizeof block);
        must(block->owner == s->index);
        block_release(&s->outputs, block);
        return;
    case MAIL_CONGESTED:
        memcpy(&permit, body, sizeof permit);
        on_congested(s, &permit);
        return;
    case MAIL_PERMIT_ASK:
        memcpy(&permit, body, sizeof permit);
        permit_asked(s, sender, &permit);
        return;
    case MAIL_PERMIT:
        memcpy(&permit, body, sizeof permit);
        permit_came(s, &permit);
        return;
    case MAIL_CLOSE:
        memcpy(&conn, body, sizeof conn);
        close_unanswered(s, conn);
        return;
    case MAIL_JET: jet_mail(s, sender, body); return;
    case MAIL_JET_MESSAGE: on_jet_message(s, sender, body, r->bytes - (uint32_t)sizeof *r); return;
    case MAIL_INTEREST: jet_interest_came(s, body, r->bytes - (uint32_t)sizeof *r); return;
    case MAIL_PERMIT_FREE:
        memcpy(&permit, body, sizeof permit);
        permit_free(s, permit.account);
        return;
    default: break;
    }
    must(r->kind >= LANE_IO_KINDS);
    struct effect *e = session_effect(s, EFFECT_IO_MAIL, (struct conn_id){0});
    e->io_mail.kind = r->kind;
    e->io_mail.sender = sender;
    e->io_mail.body = r + 1;
}

/* There is room for all that must be sent because of this record, and time. */
static bool may_consume(struct shard *s, uint32_t sender, const struct lane_record *r)
{
    struct mail_message h;
    switch (r->kind) {
    case MAIL_MESSAGE:
        /* It may be for thousands. Its publisher parks when the ring is full. */
        if (UNLIKELY(s->is_late)) return false;
        memcpy(&h, r + 1, sizeof h);
        return (h.token == 0 || mail_may_answer(s, h.origin_shard)) &&
               (h.block == NULL || mail_may_answer(s, h.lender));
    case MAIL_JET_MESSAGE:
        memcpy(&h, r + 1, sizeof h);
        return mail_may_answer(s, sender) && (h.block == NULL || mail_may_answer(s, h.lender));
    case MAIL_JET:
    case MAIL_PERMIT_ASK:
    case MAIL_PERMIT: return mail_may_answer(s, sender);
    default: return true;
    }
}

bool relay_mail(struct shard *s, struct event *e)
{
    const struct lane_record *r;
    while (session_has_room(s)) {
        uint64_t before = e->mail.at;
        r = lane_next(e->mail.ring, e->mail.ring_bytes, &e->mail.at, e->mail.end);
        if (r == NULL) return true;
        if (UNLIKELY(!may_consume(s, e->mail.sender, r))) {
            e->mail.at = before; /* the rest comes again in the next turn */
            return true;
        }
        s->counts.mail.received++;
        s->counts.mail.received_bytes += r->bytes;
        on_record(s, e->mail.sender, r);
    }
    return e->mail.at == e->mail.end;
}

static bool is_half_free(struct lane *l)
{
    if (l->ring_bytes - (l->tail - l->head) >= l->ring_bytes / 2) return true;
    l->refresh(l);
    return l->ring_bytes - (l->tail - l->head) >= l->ring_bytes / 2;
}

void relay_step(struct shard *s)
{
    struct relay *x = s->relay;
    if (UNLIKELY(x->homebound != NULL)) send_home(s);
    if (UNLIKELY(s->permits.owed > 0)) permit_step(s);
    if (UNLIKELY(s->interest_owed > 0)) jet_interest_step(s);
    uint64_t full_before = x->full;
    for (uint32_t t = 0; t < s->shard_count; t++)
        if (t != s->index && mail_is_clear(s, t) && (x->full >> t & 1) != 0 &&
            is_half_free(s->outbox->lanes[t]))
            x->full &= ~(1ull << t);
    /* Those that wait for another ring find it full again and park again. */
    if (x->full != full_before || x->full == 0) session_resume_all(s, PARK_MAIL);
    if (x->tokens.count < TOKEN_COUNT_MAX) session_resume_all(s, PARK_TOKENS);
}

bool relay_is_due(const struct shard *s)
{
    return (s->relay->full == 0 && !list_is_empty(&s->parked[PARK_MAIL])) ||
           (s->relay->tokens.count < TOKEN_COUNT_MAX && !list_is_empty(&s->parked[PARK_TOKENS]));
}

bool relay_wants_memory(const struct shard *s)
{
    return s->relay->homebound != NULL || s->permits.owed > 0 || s->interest_owed > 0;
}

/* Spilled mail and parked publishers go on when half of the ring is free (M1, M4). */
uint64_t relay_awaits(const struct shard *s, uint32_t target)
{
    const struct lane *l = s->outbox->lanes[target];
    bool waits = mail_waiting_bytes(s, target) > 0 ||
                 ((s->relay->full >> target & 1) != 0 && !list_is_empty(&s->parked[PARK_MAIL]));
    if (!waits || l->tail == 0) return 0;
    return l->tail > l->ring_bytes / 2 ? l->tail - l->ring_bytes / 2 : 1;
}

uint64_t relay_position(const struct shard *s, uint32_t target)
{
    return s->outbox->lanes[target]->tail;
}

bool relay_is_reached(struct shard *s, uint32_t target, uint64_t position)
{
    struct lane *l = s->outbox->lanes[target];
    if (l->head >= position) return true;
    l->refresh(l);
    return l->head >= position;
}

enum err relay_open(struct shard *s)
{
    struct relay *x = mem_alloc_zero(s->mem, MEM_MAIL, sizeof *x);
    if (x == NULL) return ERR_MEMORY;
    s->relay = x;
    if (mail_open(s) != ERR_OK) return ERR_MEMORY; /* shard_open calls relay_close */
    s->outputs.return_block = return_block;
    s->outputs.context = s;
    return ERR_OK;
}

void relay_close(struct shard *s)
{
    struct relay *x = s->relay;
    if (x == NULL) return;
    mail_close(s);
    token_deinit(&x->tokens, s->mem);
    permit_close(s);
    mem_free(s->mem, MEM_MAIL, x, sizeof *x);
    s->relay = NULL;
}
