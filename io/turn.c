#include "io/turn.h"
#include <string.h>
#include "core/base/must.h"

/* --- open, close ------------------------------------------------------------------------------ */

static void free_turn(struct turn *t)
{
    while (t->held_free != NULL) {
        struct turn_held *h = t->held_free;
        t->held_free = h->next;
        mem_free(t->mem, MEM_CONNECTION, h, sizeof *h);
    }
    mem_free(t->mem, MEM_CONNECTION, t->conns, t->slots_max * sizeof *t->conns);
    mem_free(t->mem, MEM_CONNECTION, t->free_slots, t->slots_max * sizeof *t->free_slots);
    mem_free(t->mem, MEM_CONNECTION, t->resumes, t->slots_max * sizeof *t->resumes);
    mem_free(t->mem, MEM_CONNECTION, t->outbox.effects,
             OUTBOX_EFFECTS_MAX * sizeof *t->outbox.effects);
    mem_free(t->mem, MEM_CONNECTION, t->outbox.text.data, OUTBOX_TEXT_BYTES);
    mem_free(t->mem, MEM_CONNECTION, t->outbox.lanes, t->shard_count * sizeof *t->outbox.lanes);
    mem_free(t->mem, MEM_CONNECTION, t->cryptos, t->crypto_capacity * sizeof *t->cryptos);
    mem_free(t->mem, MEM_CONNECTION, t, sizeof *t);
}

enum err turn_open(const struct turn_config *config, struct turn **out)
{
    struct turn *t = mem_alloc_zero(config->mem, MEM_CONNECTION, sizeof *t);
    if (t == NULL) return ERR_MEMORY;
    t->shard = config->shard;
    t->driver = config->driver;
    t->mail = config->mail;
    t->mem = config->mem;
    t->hooks = config->hooks;
    t->on_done = config->on_done;
    t->on_done_context = config->on_done_context;
    t->index = config->shard->index;
    t->shard_count = config->shard->shard_count;
    t->slots_max = config->slots_max;
    t->conns = mem_alloc_zero(t->mem, MEM_CONNECTION, t->slots_max * sizeof *t->conns);
    t->free_slots = mem_alloc(t->mem, MEM_CONNECTION, t->slots_max * sizeof *t->free_slots);
    t->resumes = mem_alloc(t->mem, MEM_CONNECTION, t->slots_max * sizeof *t->resumes);
    t->outbox.effects =
        mem_alloc(t->mem, MEM_CONNECTION, OUTBOX_EFFECTS_MAX * sizeof *t->outbox.effects);
    t->outbox.lanes =
        mem_alloc_zero(t->mem, MEM_CONNECTION, t->shard_count * sizeof *t->outbox.lanes);
    char *text = mem_alloc(t->mem, MEM_CONNECTION, OUTBOX_TEXT_BYTES);
    writer_init(&t->outbox.text, text, OUTBOX_TEXT_BYTES);
    list_init(&t->flushed);
    if (t->conns == NULL || t->free_slots == NULL || t->resumes == NULL ||
        t->outbox.effects == NULL || t->outbox.lanes == NULL || text == NULL) {
        free_turn(t);
        return ERR_MEMORY;
    }
    t->outbox.lane_count = t->shard_count;
    for (uint32_t i = 0; i < t->shard_count; i++)
        if (i != t->index) t->outbox.lanes[i] = mailbox_lane(t->mail, t->index, i);
    t->now = t->hooks.now(t->hooks.context);
    wheel_init(&t->wheel, t->now.mono_ns);
    t->shard->outbox = &t->outbox;
    *out = t;
    return ERR_OK;
}

void turn_close(struct turn *t)
{
    must(turn_conn_count(t) == 0);
    free_turn(t);
}

uint32_t turn_conn_count(const struct turn *t)
{
    return t->slots_used - t->free_count;
}

/* --- events ------------------------------------------------------------------------------------
 */

static struct conn_id id_of(const struct turn *t, uint32_t slot)
{
    return conn_id_of(slot, t->conns[slot].generation);
}

static struct event *add_event(struct turn *t, uint32_t *count, enum event_kind kind, uint32_t slot)
{
    must(*count < TURN_EVENTS_MAX);
    struct event *e = &t->events[*count];
    t->event_slots[*count] = slot;
    (*count)++;
    *e = (struct event){.kind = kind};
    if (slot != UINT32_MAX) e->conn = id_of(t, slot);
    return e;
}

/* False: no memory. */
static bool hold(struct turn *t, struct turn_conn *c, const char *data, size_t len, uint32_t buffer)
{
    struct turn_held *h = t->held_free;
    if (h != NULL)
        t->held_free = h->next;
    else
        h = mem_alloc(t->mem, MEM_CONNECTION, sizeof *h);
    if (h == NULL) return false;
    *h = (struct turn_held){.data = data, .len = len, .buffer = buffer};
    if (c->held_last == NULL)
        c->held_first = h;
    else
        c->held_last->next = h;
    c->held_last = h;
    c->held_count++;
    if (c->held_count <= TURN_HELD_MAX) return true;
    /* A sender of more than a turn consumes would fill every buffer of the shard, and nobody else
     * could be heard for as many turns as that takes. */
    h->copy = mem_alloc(t->mem, MEM_OUTPUT, len);
    if (h->copy == NULL) return true; /* then the buffer has to do */
    memcpy(h->copy, data, len);
    h->data = h->copy;
    h->copy_bytes = len;
    t->driver->ops->recv_release(t->driver, buffer);
    return true;
}

static void drop_first_held(struct turn *t, struct turn_conn *c)
{
    struct turn_held *h = c->held_first;
    c->held_first = h->next;
    if (h->next == NULL) c->held_last = NULL;
    c->held_count--;
    if (h->copy != NULL)
        mem_free(t->mem, MEM_OUTPUT, h->copy, h->copy_bytes);
    else
        t->driver->ops->recv_release(t->driver, h->buffer);
    h->next = t->held_free;
    t->held_free = h;
}

static void suspend(struct turn *t, uint32_t slot)
{
    struct turn_conn *c = &t->conns[slot];
    if (c->is_suspended || c->is_ended) return;
    c->is_suspended = true;
    t->driver->ops->recv_suspend(t->driver, slot);
}

static void resume_receiving(struct turn *t, uint32_t slot)
{
    if (!t->conns[slot].is_suspended) return;
    t->conns[slot].is_suspended = false;
    t->driver->ops->recv_resume(t->driver, slot);
}

static void set_deadline(struct turn *t, struct turn_conn *c, uint64_t after_ns)
{
    wheel_arm(&t->wheel, &c->timer, t->now.mono_ns + after_ns);
}

static void look_when_sent(struct turn *t, struct turn_conn *c)
{
    if (c->state == TURN_FLUSHING && list_is_empty(&c->flushed))
        list_push(&t->flushed, &c->flushed);
}

static void close_socket(struct turn *t, uint32_t slot)
{
    struct turn_conn *c = &t->conns[slot];
    if (c->state == TURN_CLOSING) return;
    c->state = TURN_CLOSING;
    wheel_cancel(&c->timer);
    list_remove(&c->flushed);
    while (c->held_first != NULL) drop_first_held(t, c);
    t->driver->ops->socket_close(t->driver, slot);
}

/* A slot is in the list once at most, so there is room for all. */
static void add_resume(struct turn *t, uint32_t slot)
{
    struct turn_conn *c = &t->conns[slot];
    if (c->is_resuming) return;
    must(t->resume_count < t->slots_max);
    c->is_resuming = true;
    t->resumes[t->resume_count++] = slot;
}

static void resume_later(struct turn *t, uint32_t slot)
{
    if (t->conns[slot].state == TURN_OPEN) add_resume(t, slot);
}

static void opened_event(struct turn *t, uint32_t *count, uint32_t slot, bool is_tls_first)
{
    struct turn_conn *c = &t->conns[slot];
    struct event *e = add_event(t, count, EVENT_OPENED, slot);
    const struct turn_socket *s = c->socket;
    e->opened = (struct conn_opened){.ip = bytes_of(s->ip, s->ip_len),
                                     .port = s->port,
                                     .cid = s->cid,
                                     .is_unix = s->is_unix,
                                     .peer = s->peer,
                                     .refusal = s->refusal,
                                     .is_tls_first = is_tls_first};
    memcpy(e->opened.nonce, s->nonce, sizeof e->opened.nonce);
    c->state = TURN_OPEN;
    c->was_opened = true;
}

enum err turn_take(struct turn *t, const struct turn_socket *s)
{
    bool is_fresh = t->free_count == 0;
    if (is_fresh && t->slots_used == t->slots_max) return ERR_FULL;
    uint32_t slot = is_fresh ? t->slots_used : t->free_slots[t->free_count - 1];
    struct turn_conn *c = &t->conns[slot];
    struct turn_socket *copy = mem_alloc(t->mem, MEM_CONNECTION, sizeof *copy);
    if (copy == NULL) return ERR_MEMORY;
    *copy = *s;
    uint32_t generation = c->generation + 1;
    enum err e = t->driver->ops->socket_add(t->driver, slot, generation, s->fd);
    if (e != ERR_OK) {
        mem_free(t->mem, MEM_CONNECTION, copy, sizeof *copy);
        return e;
    }
    if (is_fresh)
        t->slots_used++;
    else
        t->free_count--;
    /* Where many are to be offered again, who had the slot before may still be in the list. */
    *c = (struct turn_conn){.generation = generation,
                            .state = TURN_PEEK,
                            .is_resuming = c->is_resuming,
                            .socket = copy,
                            .is_unix = s->is_unix};
    list_init(&c->flushed);
    wheel_timer_init(&c->timer);
    uint64_t wait_ns;
    c->peeks =
        t->hooks.tls != NULL && !s->is_unix && t->hooks.tls->wants_peek(t->hooks.context, &wait_ns);
    if (c->peeks)
        set_deadline(t, c, wait_ns);
    else
        wheel_arm(&t->wheel, &c->timer, 0); /* opened at the start of the next turn */
    t->has_more = true;
    return ERR_OK;
}

/* --- TLS -----------------------------------------------------------------------------------------
 */

static void send_handshake(struct turn *t, uint32_t slot)
{
    struct turn_conn *c = &t->conns[slot];
    if (c->is_sending || c->tls == NULL) return;
    struct bytes out = t->hooks.tls->handshake_out(c->tls);
    if (out.len == 0) return;
    struct iovec iov = {.iov_base = (void *)out.data, .iov_len = out.len};
    c->is_sending = true;
    c->is_handshake_send = true;
    t->driver->ops->send(t->driver, slot, &iov, 1);
}

/* What the peer said before its end is not all with the shard yet. */
static bool has_unread(const struct turn *t, const struct turn_conn *c)
{
    const struct turn_tls_ops *ops = t->hooks.tls;
    return c->held_first != NULL ||
           (c->tls != NULL && (ops->is_busy(c->tls) || ops->plain(c->tls).len > 0));
}

/* The peer ended and the shard has taken all that it said before. */
static bool tell_end(struct turn *t, uint32_t slot, uint32_t *count)
{
    struct turn_conn *c = &t->conns[slot];
    if (!c->is_ended || c->is_told || c->state != TURN_OPEN) return false;
    if (!c->is_error && has_unread(t, c)) return false;
    c->is_told = true;
    add_event(t, count, EVENT_ENDED, slot)->ended.reason =
        c->is_error ? ENDED_READ_ERROR : ENDED_EOF;
    return true;
}

/* Feeds held ciphertext in, and tells the shard what came of it. */
static void pump_tls(struct turn *t, uint32_t slot, uint32_t *count)
{
    struct turn_conn *c = &t->conns[slot];
    const struct turn_tls_ops *ops = t->hooks.tls;
    while (c->held_first != NULL &&
           ops->feed(c->tls, bytes_of(c->held_first->data, c->held_first->len)))
        drop_first_held(t, c);
    send_handshake(t, slot);
    /* What it said before the end comes first, also when both came in one read. */
    struct bytes plain = ops->plain(c->tls);
    if (ops->failed(c->tls) && plain.len == 0) {
        if (!c->is_told) {
            c->is_told = true;
            if (c->state == TURN_PEEK) {
                close_socket(t, slot);
                return;
            }
            add_event(t, count, EVENT_ENDED, slot)->ended.reason =
                ops->has_ended(c->tls)       ? ENDED_EOF
                : ops->facts(c->tls) != NULL ? ENDED_READ_ERROR
                                             : ENDED_TLS_FAILED;
        }
        return;
    }
    const struct conn_tls *facts = ops->facts(c->tls);
    if (facts != NULL && c->in_handshake) {
        c->in_handshake = false;
        wheel_cancel(&c->timer);
        if (c->state == TURN_PEEK) opened_event(t, count, slot, true);
        add_event(t, count, EVENT_TLS, slot)->tls = *facts;
    }
    if (facts == NULL) return;
    if (plain.len > 0 && c->offered == 0) {
        struct event *e = add_event(t, count, EVENT_BYTES, slot);
        e->bytes.data = plain.data;
        e->bytes.len = plain.len;
        c->offered++;
    } else if (c->offered == 0) {
        /* All that came is taken, and what is left is no whole record: nothing else resumes it. */
        if (c->held_first == NULL && c->state == TURN_OPEN) resume_receiving(t, slot);
        tell_end(t, slot, count);
    }
}

static void start_tls(struct turn *t, uint32_t slot, bool is_first)
{
    struct turn_conn *c = &t->conns[slot];
    c->awaits_tls = false;
    c->in_handshake = true;
    c->tls = t->hooks.tls->open(t->hooks.context, t, id_of(t, slot), is_first);
    set_deadline(t, c, t->hooks.tls->handshake_ns(t->hooks.context));
}

void turn_tls_ready(struct turn *t, struct conn_id conn)
{
    uint32_t slot = conn_id_slot(conn);
    struct turn_conn *c = &t->conns[slot];
    if (c->generation != conn_id_generation(conn) || c->state == TURN_FREE ||
        c->state == TURN_CLOSING)
        return;
    add_resume(t, slot);
}

/* --- completions to events -----------------------------------------------------------------------
 */

/* The first bytes decide whether this client speaks TLS. */
static void on_first_bytes(struct turn *t, uint32_t slot, uint32_t *count)
{
    struct turn_conn *c = &t->conns[slot];
    bool is_tls = (unsigned char)c->held_first->data[0] == 0x16;
    if (c->state == TURN_PEEK) {
        if (!is_tls && !t->hooks.tls->allows_plaintext(t->hooks.context)) {
            close_socket(t, slot);
            return;
        }
        if (!is_tls) {
            wheel_cancel(&c->timer);
            opened_event(t, count, slot, false);
            resume_later(t, slot);
            return;
        }
        if (!t->hooks.tls->may_begin(t->hooks.context)) {
            close_socket(t, slot);
            return;
        }
        start_tls(t, slot, true);
    } else {
        if (!is_tls && t->hooks.tls->allows_plaintext(t->hooks.context)) {
            c->awaits_tls = false;
            wheel_cancel(&c->timer);
            add_event(t, count, EVENT_TLS, slot);
            resume_later(t, slot);
            return;
        }
        if (!t->hooks.tls->may_begin(t->hooks.context)) {
            c->awaits_tls = false;
            c->is_told = true;
            add_event(t, count, EVENT_ENDED, slot)->ended.reason = ENDED_TLS_THROTTLED;
            return;
        }
        start_tls(t, slot, false);
    }
    if (c->tls == NULL) {
        close_socket(t, slot);
        return;
    }
    pump_tls(t, slot, count);
}

static void on_recv(struct turn *t, const struct done *d, uint32_t *count)
{
    struct turn_conn *c = &t->conns[d->slot];
    if (c->state == TURN_CLOSING || c->state == TURN_FLUSHING) {
        t->driver->ops->recv_release(t->driver, d->buffer);
        return;
    }
    t->is_answered = t->is_answered || (c->sent_round == t->round && c->sent_round != 0);
    bool waits = c->held_first != NULL;
    if (!hold(t, c, d->data, d->len, d->buffer)) {
        /* Not even 40 bytes: what it sent is lost, so the connection is. */
        t->driver->ops->recv_release(t->driver, d->buffer);
        c->is_ended = c->is_error = true;
        if (c->state == TURN_PEEK)
            close_socket(t, d->slot);
        else
            tell_end(t, d->slot, count);
        return;
    }
    if (c->held_count > TURN_HELD_MAX) suspend(t, d->slot);
    if (c->tls != NULL) {
        pump_tls(t, d->slot, count);
        return;
    }
    /* Behind what the shard has not taken yet, unless all of that is offered in this turn too. */
    if (waits && (c->offered + 1u != c->held_count || c->offered >= TURN_OFFERS_MAX)) return;
    if (c->awaits_tls || c->state == TURN_PEEK) {
        on_first_bytes(t, d->slot, count);
        return;
    }
    struct event *e = add_event(t, count, EVENT_BYTES, d->slot);
    e->bytes.data = c->held_last->data;
    e->bytes.len = d->len;
    c->offered++;
}

static void on_sent(struct turn *t, const struct done *d, uint32_t *count)
{
    struct turn_conn *c = &t->conns[d->slot];
    c->is_sending = false;
    look_when_sent(t, c);
    uint64_t bytes = c->send_bytes;
    bool was_handshake = c->is_handshake_send;
    c->is_handshake_send = false;
    c->send_bytes = 0;
    if (was_handshake) {
        t->hooks.tls->handshake_sent(c->tls);
        bytes = 0;
    }
    if (c->was_opened && (!was_handshake || c->wants_flush))
        add_event(t, count, EVENT_SENT, d->slot)->sent.bytes = d->result < 0 ? 0 : bytes;
    c->wants_flush = false;
    if (d->result < 0) {
        bool is_open = c->state == TURN_OPEN;
        if (!is_open) close_socket(t, d->slot);
        if (is_open) add_event(t, count, EVENT_ENDED, d->slot)->ended.reason = ENDED_WRITE_ERROR;
    } else if (c->tls != NULL) {
        turn_tls_ready(t, id_of(t, d->slot));
    }
}

static void on_end(struct turn *t, const struct done *d, uint32_t *count)
{
    struct turn_conn *c = &t->conns[d->slot];
    c->is_ended = true;
    c->is_error = d->kind == DONE_ERROR;
    /* Last words still go out to a peer that only has no more to say; the deadline ends that. */
    bool is_over = c->state == TURN_PEEK ? c->is_error || !has_unread(t, c)
                                         : c->state == TURN_FLUSHING && c->is_error;
    if (is_over)
        close_socket(t, d->slot);
    else
        tell_end(t, d->slot, count);
}

static void on_closed(struct turn *t, uint32_t slot, uint32_t *count)
{
    struct turn_conn *c = &t->conns[slot];
    must(c->state == TURN_CLOSING);
    if (c->tls != NULL) t->hooks.tls->close(c->tls);
    c->tls = NULL;
    if (c->was_opened) add_event(t, count, EVENT_GONE, slot);
    t->hooks.gone(t->hooks.context, t->index, c);
    mem_free(t->mem, MEM_CONNECTION, c->socket, sizeof *c->socket);
    c->socket = NULL;
    c->state = TURN_FREE;
    t->freed[t->freed_count++] = slot; /* free for others after the step */
}

static void on_done(struct turn *t, const struct done *d, uint32_t *count)
{
    bool is_conn = d->slot < t->slots_max && t->conns[d->slot].state != TURN_FREE &&
                   t->conns[d->slot].generation == d->tag;
    switch (d->kind) {
    case DONE_RECV:
        if (is_conn)
            on_recv(t, d, count);
        else
            t->driver->ops->recv_release(t->driver, d->buffer);
        return;
    case DONE_EOF:
    case DONE_ERROR:
        if (is_conn) on_end(t, d, count);
        return;
    case DONE_SENT:
        if (is_conn) on_sent(t, d, count);
        return;
    case DONE_CLOSED:
        if (is_conn) on_closed(t, d->slot, count);
        return;
    default: break;
    }
    if (t->on_done != NULL) t->on_done(t->on_done_context, t, d);
}

/* --- effects -------------------------------------------------------------------------------------
 */

static void add_crypto(struct turn *t, const struct turn_crypto *crypto)
{
    if (t->crypto_count == t->crypto_capacity) {
        uint32_t capacity = t->crypto_capacity == 0 ? 64 : t->crypto_capacity * 2;
        struct turn_crypto *grown =
            mem_resize(t->mem, MEM_CONNECTION, t->cryptos, t->crypto_capacity * sizeof *grown,
                       capacity * sizeof *grown);
        /* Lost: the login runs into its deadline. */
        if (grown == NULL) return;
        t->cryptos = grown;
        t->crypto_capacity = capacity;
    }
    t->cryptos[t->crypto_count++] = *crypto;
}

/* A shard that stood still finds many at once: senders go on when their patience ends. */
static void add_order(struct turn *t, struct order *o)
{
    o->behind[t->index] = NULL;
    if (t->orders_first == NULL)
        t->orders_first = o;
    else
        t->orders_last->behind[t->index] = o;
    t->orders_last = o;
    t->has_more = true;
}

/* The first ones, as many as the events have room for. An order may be gone once it is done. */
static void take_orders(struct turn *t, uint32_t *count)
{
    if (t->orders_first == NULL) return;
    /* A snapshot may be among them: the shard's counts are whole then. */
    _Static_assert(sizeof t->shard->counts.driver == sizeof t->driver->count, "the same fields");
    memcpy(&t->shard->counts.driver, &t->driver->count, sizeof t->driver->count);
    for (uint32_t i = 0; i < TURN_ORDERS_MAX && t->orders_first != NULL; i++) {
        add_event(t, count, EVENT_ORDER, UINT32_MAX)->order = t->orders_first;
        t->orders_first = t->orders_first->behind[t->index];
    }
    if (t->orders_first != NULL) t->has_more = true;
}

static void on_io_mail(struct turn *t, const struct effect *e)
{
    struct order *order;
    struct turn_socket socket;
    struct turn_crypto crypto;
    struct turn_call call;
    switch (e->io_mail.kind) {
    case TURN_MAIL_SOCKET:
        memcpy(&socket, e->io_mail.body, sizeof socket);
        if (turn_take(t, &socket) != ERR_OK && t->hooks.refused != NULL)
            t->hooks.refused(t->hooks.context, t->index, &socket);
        return;
    case TURN_MAIL_ORDER:
        memcpy(&order, e->io_mail.body, sizeof order);
        add_order(t, order);
        return;
    case TURN_MAIL_CRYPTO:
        memcpy(&crypto, e->io_mail.body, sizeof crypto);
        add_crypto(t, &crypto);
        t->has_more = true;
        return;
    case TURN_MAIL_CALL:
        memcpy(&call, e->io_mail.body, sizeof call);
        call.run(call.context, t);
        return;
    default: must(false);
    }
}

static void on_close(struct turn *t, const struct effect *e)
{
    uint32_t slot = conn_id_slot(e->conn);
    struct turn_conn *c = &t->conns[slot];
    if (c->generation != conn_id_generation(e->conn) || c->state != TURN_OPEN) return;
    if (!e->close.flush) {
        close_socket(t, slot);
        return;
    }
    c->state = TURN_FLUSHING;
    look_when_sent(t, c);
    while (c->held_first != NULL) drop_first_held(t, c);
    set_deadline(t, c, TURN_FLUSH_NS);
}

static struct turn_conn *conn_of(struct turn *t, struct conn_id id)
{
    uint32_t slot = conn_id_slot(id);
    if (slot >= t->slots_max || t->conns[slot].generation != conn_id_generation(id)) return NULL;
    return t->conns[slot].state == TURN_FREE ? NULL : &t->conns[slot];
}

/* A step that had more to log than its outbox holds. */
static void tell_lost_lines(struct turn *t)
{
    char room[64];
    struct writer w;
    if (LIKELY(t->outbox.lost_lines == 0)) return;
    writer_init(&w, room, sizeof room);
    writer_u64(&w, t->outbox.lost_lines);
    writer_text(&w, " log lines dropped, too many at once");
    t->outbox.lost_lines = 0;
    t->hooks.log(t->hooks.context, LOG_LEVEL_WRN, writer_written(&w));
}

static void run_effects(struct turn *t)
{
    for (uint32_t i = 0; i < t->outbox.count; i++) {
        const struct effect *e = &t->outbox.effects[i];
        struct turn_conn *c = conn_of(t, e->conn);
        switch (e->kind) {
        case EFFECT_CLOSE: on_close(t, e); break;
        case EFFECT_RESUME:
            if (c != NULL) resume_later(t, conn_id_slot(e->conn));
            break;
        case EFFECT_TLS:
            if (c == NULL) break;
            c->awaits_tls = true;
            set_deadline(t, c, t->hooks.tls->handshake_ns(t->hooks.context));
            if (c->held_first != NULL) resume_later(t, conn_id_slot(e->conn));
            break;
        case EFFECT_CRYPTO:
            if (shard_wants_crypto(t->shard, e))
                t->hooks.crypto(t->hooks.context, t->index, e->conn, e->crypto.job,
                                e->crypto.ticket);
            break;
        case EFFECT_LOG: t->hooks.log(t->hooks.context, e->log.level, e->log.text); break;
        case EFFECT_ORDER_DONE: t->hooks.order_done(t->hooks.context, e->order, t->index); break;
        case EFFECT_LOGGED_IN:
            if (c != NULL) t->hooks.logged_in(t->hooks.context, c);
            break;
        case EFFECT_SYSTEM:
            t->hooks.system(t->hooks.context, t->index, e->system.request);
            shard_system_done(t->shard, e->system.request);
            break;
        case EFFECT_IO_MAIL: on_io_mail(t, e); break;
        }
    }
    t->outbox.count = 0;
    t->outbox.text.len = 0;
    tell_lost_lines(t);
}

/* --- sending -------------------------------------------------------------------------------------
 */

/* Nothing could be sealed. To try again at once would be for ever, and there is nothing to wait
 * for; so the connection is lost, unless its end is what failed: that is told by pump_tls, once
 * the shard has taken what came before it. */
static void give_up_sending(struct turn *t, uint32_t slot)
{
    struct turn_conn *c = &t->conns[slot];
    if (c->state == TURN_FLUSHING) {
        close_socket(t, slot);
        return;
    }
    if (!t->hooks.tls->failed(c->tls)) c->is_ended = c->is_error = true;
    turn_tls_ready(t, id_of(t, slot));
}

static void send_output(struct turn *t, struct client *client)
{
    uint32_t slot = conn_id_slot(client->id);
    struct turn_conn *c = &t->conns[slot];
    struct bytes runs[DRIVER_IOV_MAX];
    struct iovec iov[DRIVER_IOV_MAX];
    uint64_t bytes;
    uint32_t count =
        output_gather(&client->output, runs, DRIVER_IOV_MAX, TURN_SEND_BYTES_MAX, &bytes);
    must(count > 0 && c->send_bytes == 0);
    if (c->tls != NULL) {
        struct bytes cipher;
        bytes = t->hooks.tls->seal(c->tls, runs, count, &cipher);
        if (cipher.len == 0) {
            give_up_sending(t, slot);
            return;
        }
        runs[0] = cipher;
        count = 1;
    }
    for (uint32_t i = 0; i < count; i++)
        iov[i] = (struct iovec){.iov_base = (void *)runs[i].data, .iov_len = runs[i].len};
    c->send_bytes = bytes;
    c->is_sending = true;
    c->sent_round = t->round;
    t->driver->ops->send(t->driver, slot, iov, count);
}

static void flush_outputs(struct turn *t)
{
    struct client *client;
    bool is_first = true;
    while ((client = shard_next_dirty(t->shard)) != NULL) {
        t->round += is_first;
        is_first = false;
        struct turn_conn *c = &t->conns[conn_id_slot(client->id)];
        if (c->state == TURN_CLOSING || c->state == TURN_FREE) continue;
        /* Its TLS handshake uses the socket: EVENT_SENT brings it back. */
        c->wants_flush = c->is_sending;
        if (!c->is_sending) send_output(t, client);
    }
}

/* Connections whose last words are said. */
static void close_flushed(struct turn *t)
{
    for (struct list *link = t->flushed.next; link != &t->flushed;) {
        struct turn_conn *c = LIST_OWNER(link, struct turn_conn, flushed);
        uint32_t slot = (uint32_t)(c - t->conns);
        link = link->next;
        if (c->is_sending) {
            list_remove(&c->flushed); /* it comes again when that is sent */
            continue;
        }
        struct client *client = shard_client(t->shard, id_of(t, slot));
        if (client == NULL || client->output.pending_bytes == 0) close_socket(t, slot);
    }
}

/* New connections whose first bytes do not matter, last words that took too long, and handshakes.
 */
static void run_deadlines(struct turn *t, uint32_t *count)
{
    for (;;) {
        if (*count + TURN_DONE_MAX * TURN_EVENTS_PER_DONE + 256 > TURN_EVENTS_MAX) {
            t->has_more = true;
            return;
        }
        struct wheel_timer *timer = wheel_pop(&t->wheel, t->now.mono_ns);
        if (timer == NULL) return;
        struct turn_conn *c = LIST_OWNER(timer, struct turn_conn, timer);
        uint32_t slot = (uint32_t)(c - t->conns);
        bool is_late = c->peeks && t->hooks.tls->is_first_only(t->hooks.context);
        if (c->state == TURN_PEEK && c->tls == NULL && !is_late)
            opened_event(t, count, slot, false);
        else if (c->state == TURN_PEEK || c->state == TURN_FLUSHING)
            close_socket(t, slot);
        else if (c->state == TURN_OPEN && (c->awaits_tls || c->in_handshake))
            add_event(t, count, EVENT_ENDED, slot)->ended.reason = ENDED_TLS_TIMEOUT;
    }
}

void turn_drop_strangers(struct turn *t)
{
    for (uint32_t slot = 0; slot < t->slots_used; slot++)
        if (t->conns[slot].state == TURN_PEEK) close_socket(t, slot);
}

/* --- the turn
 * ------------------------------------------------------------------------------------- */

static void offer_again(struct turn *t, uint32_t *count)
{
    uint32_t taken = t->resume_count;
    t->resume_count = 0;
    for (uint32_t i = 0; i < taken; i++) {
        uint32_t slot = t->resumes[i];
        struct turn_conn *c = &t->conns[slot];
        must(t->resume_count <= i); /* what is put back was read */
        c->is_resuming = false;
        if (*count + TURN_DONE_MAX * TURN_EVENTS_PER_DONE + 256 + TURN_OFFERS_MAX >
            TURN_EVENTS_MAX) {
            add_resume(t, slot);
            t->has_more = true;
            continue;
        }
        if (c->state == TURN_CLOSING || c->state == TURN_FLUSHING || c->state == TURN_FREE)
            continue;
        if (c->awaits_tls && c->held_first != NULL) {
            on_first_bytes(t, slot, count);
            continue;
        }
        uint32_t before = *count;
        if (c->tls != NULL) pump_tls(t, slot, count);
        if (c->state == TURN_PEEK && c->is_ended && !has_unread(t, c)) close_socket(t, slot);
        if (*count > before || c->state != TURN_OPEN || c->awaits_tls) continue;
        if (c->offered > 0 || tell_end(t, slot, count) || c->in_handshake) continue;
        const struct turn_held *h = c->tls == NULL ? c->held_first : NULL;
        do {
            struct event *e = add_event(t, count, EVENT_BYTES, slot);
            if (h == NULL) break;
            e->bytes.data = h->data;
            e->bytes.len = h->len;
            c->offered++;
            h = h->next;
        } while (h != NULL && c->offered < TURN_OFFERS_MAX);
    }
}

/* Bytes that were offered behind some that the shard has left. In one step it leaves them too,
 * since the connection is parked; but at the end of a step that was cut short it may have been
 * resumed, and the next step would take them for what comes next. They are offered again. */
static void withdraw_offers(struct turn *t, uint32_t slot, uint32_t from, uint32_t count)
{
    for (uint32_t i = from; i < count; i++)
        if (t->events[i].kind == EVENT_BYTES && t->event_slots[i] == slot)
            t->events[i].bytes.len = 0;
}

/* After the step: what the shard took is released, what it left waits. */
static void settle(struct turn *t, uint32_t from, uint32_t to, uint32_t count)
{
    for (uint32_t i = from; i < to; i++) {
        const struct event *e = &t->events[i];
        uint32_t slot = t->event_slots[i];
        if (e->kind != EVENT_BYTES) continue;
        struct turn_conn *c = &t->conns[slot];
        if (c->generation != conn_id_generation(e->conn) || c->state == TURN_FREE) continue;
        c->offered = 0;
        bool is_taken = e->bytes.used == e->bytes.len;
        if (c->tls != NULL) {
            t->hooks.tls->plain_used(c->tls, e->bytes.used);
            if (is_taken && c->state == TURN_OPEN && e->bytes.len > 0)
                turn_tls_ready(t, id_of(t, slot));
        } else if (c->held_first != NULL && e->bytes.len > 0) {
            c->held_first->data += e->bytes.used;
            c->held_first->len -= e->bytes.used;
            if (c->held_first->len == 0) drop_first_held(t, c);
            if (is_taken && (c->held_first != NULL || c->is_ended)) resume_later(t, slot);
        }
        if (!is_taken) {
            suspend(t, slot);
            withdraw_offers(t, slot, to, count);
        } else if (c->held_first == NULL && c->state == TURN_OPEN) {
            resume_receiving(t, slot);
        }
    }
}

/* Answers of helpers, as many as leave room for orders and mail. */
static void add_cryptos(struct turn *t, uint32_t *count)
{
    uint32_t taken = 0;
    for (; taken < t->crypto_count && *count + TURN_ORDERS_MAX + 8 < TURN_EVENTS_MAX; taken++) {
        const struct turn_crypto *c = &t->cryptos[taken];
        struct event *e = add_event(t, count, EVENT_CRYPTO, UINT32_MAX);
        e->conn = (struct conn_id){c->conn};
        e->crypto.ticket = c->ticket;
        e->crypto.is_valid = c->is_valid;
    }
    t->crypto_count -= taken;
    if (t->crypto_count == 0) return;
    memmove(t->cryptos, t->cryptos + taken, t->crypto_count * sizeof *t->cryptos);
    t->has_more = true;
}

/* One batch of each sender: the mailbox goes round, and what is not consumed comes again. */
static uint32_t take_mail(struct turn *t, uint32_t *count)
{
    uint32_t batches = 0;
    while (batches < sizeof t->batches / sizeof t->batches[0] && *count + 8 < TURN_EVENTS_MAX &&
           mailbox_next(t->mail, t->index, &t->batches[batches]) &&
           (batches == 0 || t->batches[batches].sender != t->batches[0].sender)) {
        struct event *e = add_event(t, count, EVENT_MAIL, UINT32_MAX);
        const struct mailbox_batch *b = &t->batches[batches];
        e->mail.sender = b->sender;
        e->mail.ring = b->ring;
        e->mail.ring_bytes = b->ring_bytes;
        e->mail.at = b->at;
        e->mail.end = b->end;
        batches++;
    }
    return batches;
}

static bool may_sleep(struct turn *t)
{
    if (t->has_more || t->resume_count > 0 || t->orders_first != NULL || t->crypto_count > 0)
        return false;
    for (uint32_t target = 0; target < t->shard_count; target++) {
        if (target == t->index) continue;
        uint64_t position = shard_awaits(t->shard, target);
        if (position > 0 && mailbox_await(t->mail, t->index, target, position)) return false;
    }
    return mailbox_may_sleep(t->mail, t->index);
}

static uint64_t earliest_deadline(const struct turn *t)
{
    uint64_t first = shard_deadline_ns(t->shard);
    for (uint32_t i = 0; i < t->log_count; i++) {
        uint64_t of_log = slog_deadline_ns(t->logs[i]);
        if (of_log < first) first = of_log;
    }
    uint64_t own = wheel_next_ns(&t->wheel);
    return own < first ? own : first;
}

/* Behind a turn with work. The clock is read once more only before a sleep, which costs a
 * hundred times as much; else the time of the next turn serves for both. */
static void end_turn(struct turn *t, uint64_t mono_ns)
{
    if (t->is_busy) shard_turn_ended(t->shard, mono_ns);
    t->is_busy = false;
}

static uint32_t wait_for_done(struct turn *t, uint64_t wait_until_ns)
{
    uint64_t timeout = 0;
    bool sleeps = false;
    if (wait_until_ns > t->now.mono_ns) {
        uint64_t until = earliest_deadline(t);
        if (until > wait_until_ns) until = wait_until_ns;
        if (until > t->now.mono_ns && may_sleep(t)) {
            timeout = until == UINT64_MAX ? UINT64_MAX : until - t->now.mono_ns;
            sleeps = true;
            if (t->is_busy) end_turn(t, t->hooks.now(t->hooks.context).mono_ns);
            interest_offline(t->shard->interest, t->index);
        }
    }
    uint32_t n = t->driver->ops->poll(t->driver, t->done, TURN_DONE_MAX, timeout);
    if (wait_until_ns > 0) mailbox_awake(t->mail, t->index);
    if (sleeps) interest_online(t->shard->interest, t->index);
    uint64_t before_ns = t->now.mono_ns;
    t->now = t->hooks.now(t->hooks.context);
    end_turn(t, t->now.mono_ns);
    t->done_count = n;
    t->slept_ns = sleeps ? t->now.mono_ns - before_ns : 0;
    return n;
}

static void turn_logs(struct turn *t)
{
    for (uint32_t i = 0; i < t->log_count; i++) slog_turn(t->logs[i], t->now.mono_ns);
}

/* With a sync interval a record is stored by the turn that took it: it is told and answered in the
 * same turn, or each publish that is waited for would take a turn and a system call more. */
static void tell_stored(struct turn *t)
{
    bool has_news = false;
    for (uint32_t i = 0; i < t->log_count; i++) has_news = has_news || slog_has_event(t->logs[i]);
    if (!has_news) return;
    (void)shard_step(t->shard, t->events, 0, t->now, &t->outbox);
    run_effects(t);
    turn_logs(t); /* what that step appended */
}

bool turn_run(struct turn *t, uint64_t wait_until_ns)
{
    uint32_t n = wait_for_done(t, wait_until_ns);
    t->has_more = false;
    t->is_answered = false;
    t->file_count = 0;
    uint32_t count = 0;
    run_deadlines(t, &count);
    offer_again(t, &count);
    uint32_t i = 0;
    /* Each completion becomes at most three events; the arrays are sized so that all fit. */
    for (; i < n; i++) on_done(t, &t->done[i], &count);
    add_cryptos(t, &count);
    take_orders(t, &count);
    uint32_t first_mail = count;
    uint32_t batches = take_mail(t, &count);

    uint32_t at = 0;
    do {
        uint32_t used = shard_step(t->shard, t->events + at, count - at, t->now, &t->outbox);
        settle(t, at, at + used, count);
        run_effects(t);
        at += used;
    } while (at < count);
    turn_logs(t);
    tell_stored(t);
    flush_outputs(t);
    if (t->shard->is_late) t->has_more = true;
    close_flushed(t);
    while (t->freed_count > 0) t->free_slots[t->free_count++] = t->freed[--t->freed_count];
    for (uint32_t b = 0; b < batches; b++) {
        uint32_t sender = t->batches[b].sender;
        uint64_t read = t->events[first_mail + b].mail.at;
        uint64_t written_ns = mailbox_stamped(t->mail, t->index, sender, read);
        if (written_ns > 0) shard_mail_waited(t->shard, written_ns);
        mailbox_consumed(t->mail, t->index, sender, read);
    }
    if (t->shard_count > 1) mailbox_publish_at(t->mail, t->index, t->now.mono_ns);
    t->is_busy = count + t->file_count > 0;
    t->has_news = t->file_count > 0;
    for (uint32_t e = 0; e < count && !t->has_news; e++)
        t->has_news = t->events[e].kind != EVENT_SENT;
    t->is_answered = t->is_answered || batches > 0;
    return t->is_busy;
}
