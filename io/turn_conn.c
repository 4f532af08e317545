#include "io/turn_conn.h"
#include <string.h>

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

void turn_conn_resume(struct turn *t, uint32_t slot)
{
    if (t->conns[slot].state == TURN_OPEN) add_resume(t, slot);
}

static void opened_event(struct turn *t, uint32_t *count, uint32_t slot, bool is_tls_first)
{
    struct turn_conn *c = &t->conns[slot];
    struct event *e = turn_conn_event(t, count, EVENT_OPENED, slot);
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
    turn_conn_event(t, count, EVENT_ENDED, slot)->ended.reason =
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
            turn_conn_event(t, count, EVENT_ENDED, slot)->ended.reason =
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
        turn_conn_event(t, count, EVENT_TLS, slot)->tls = *facts;
    }
    if (facts == NULL) return;
    if (plain.len > 0 && c->offered == 0) {
        struct event *e = turn_conn_event(t, count, EVENT_BYTES, slot);
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
    c->tls = t->hooks.tls->open(t->hooks.context, t, turn_conn_id(t, slot), is_first);
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
            turn_conn_resume(t, slot);
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
            turn_conn_event(t, count, EVENT_TLS, slot);
            turn_conn_resume(t, slot);
            return;
        }
        if (!t->hooks.tls->may_begin(t->hooks.context)) {
            c->awaits_tls = false;
            c->is_told = true;
            turn_conn_event(t, count, EVENT_ENDED, slot)->ended.reason = ENDED_TLS_THROTTLED;
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
    struct event *e = turn_conn_event(t, count, EVENT_BYTES, d->slot);
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
        turn_conn_event(t, count, EVENT_SENT, d->slot)->sent.bytes = d->result < 0 ? 0 : bytes;
    c->wants_flush = false;
    if (d->result < 0) {
        bool is_open = c->state == TURN_OPEN;
        if (!is_open) close_socket(t, d->slot);
        if (is_open)
            turn_conn_event(t, count, EVENT_ENDED, d->slot)->ended.reason = ENDED_WRITE_ERROR;
    } else if (c->tls != NULL) {
        turn_tls_ready(t, turn_conn_id(t, d->slot));
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
    if (c->was_opened) turn_conn_event(t, count, EVENT_GONE, slot);
    t->hooks.gone(t->hooks.context, t->index, c);
    mem_free(t->mem, MEM_CONNECTION, c->socket, sizeof *c->socket);
    c->socket = NULL;
    c->state = TURN_FREE;
    t->freed[t->freed_count++] = slot; /* free for others after the step */
}

void turn_conn_done(struct turn *t, const struct done *d, uint32_t *count)
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

void turn_conn_close(struct turn *t, const struct effect *e)
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

void turn_conn_await_tls(struct turn *t, uint32_t slot)
{
    struct turn_conn *c = &t->conns[slot];
    c->awaits_tls = true;
    set_deadline(t, c, t->hooks.tls->handshake_ns(t->hooks.context));
    if (c->held_first != NULL) turn_conn_resume(t, slot);
}

struct turn_conn *turn_conn_find(struct turn *t, struct conn_id id)
{
    uint32_t slot = conn_id_slot(id);
    if (slot >= t->slots_max || t->conns[slot].generation != conn_id_generation(id)) return NULL;
    return t->conns[slot].state == TURN_FREE ? NULL : &t->conns[slot];
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
    turn_tls_ready(t, turn_conn_id(t, slot));
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

void turn_conn_flush(struct turn *t)
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

void turn_conn_close_flushed(struct turn *t)
{
    for (struct list *link = t->flushed.next; link != &t->flushed;) {
        struct turn_conn *c = LIST_OWNER(link, struct turn_conn, flushed);
        uint32_t slot = (uint32_t)(c - t->conns);
        link = link->next;
        if (c->is_sending) {
            list_remove(&c->flushed); /* it comes again when that is sent */
            continue;
        }
        struct client *client = shard_client(t->shard, turn_conn_id(t, slot));
        if (client == NULL || client->output.pending_bytes == 0) close_socket(t, slot);
    }
}

void turn_conn_run_deadlines(struct turn *t, uint32_t *count)
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
            turn_conn_event(t, count, EVENT_ENDED, slot)->ended.reason = ENDED_TLS_TIMEOUT;
    }
}

void turn_drop_strangers(struct turn *t)
{
    for (uint32_t slot = 0; slot < t->slots_used; slot++)
        if (t->conns[slot].state == TURN_PEEK) close_socket(t, slot);
}

/* --- offering ------------------------------------------------------------------------------------
 */

void turn_conn_offer(struct turn *t, uint32_t *count)
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
            struct event *e = turn_conn_event(t, count, EVENT_BYTES, slot);
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

void turn_conn_settle(struct turn *t, uint32_t from, uint32_t to, uint32_t count)
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
                turn_tls_ready(t, turn_conn_id(t, slot));
        } else if (c->held_first != NULL && e->bytes.len > 0) {
            c->held_first->data += e->bytes.used;
            c->held_first->len -= e->bytes.used;
            if (c->held_first->len == 0) drop_first_held(t, c);
            if (is_taken && (c->held_first != NULL || c->is_ended)) turn_conn_resume(t, slot);
        }
        if (!is_taken) {
            suspend(t, slot);
            withdraw_offers(t, slot, to, count);
        } else if (c->held_first == NULL && c->state == TURN_OPEN) {
            resume_receiving(t, slot);
        }
    }
}

uint32_t turn_conn_count(const struct turn *t)
{
    return t->slots_used - t->free_count;
}
