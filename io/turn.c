#include "io/turn.h"
#include <string.h>
#include "core/base/must.h"
#include "io/turn_conn.h"

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
        turn_conn_event(t, count, EVENT_ORDER, UINT32_MAX)->order = t->orders_first;
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
        struct turn_conn *c = turn_conn_find(t, e->conn);
        switch (e->kind) {
        case EFFECT_CLOSE: turn_conn_close(t, e); break;
        case EFFECT_RESUME:
            if (c != NULL) turn_conn_resume(t, conn_id_slot(e->conn));
            break;
        case EFFECT_TLS:
            if (c != NULL) turn_conn_await_tls(t, conn_id_slot(e->conn));
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

/* --- the turn
 * ------------------------------------------------------------------------------------- */

/* Answers of helpers, as many as leave room for orders and mail. */
static void add_cryptos(struct turn *t, uint32_t *count)
{
    uint32_t taken = 0;
    for (; taken < t->crypto_count && *count + TURN_ORDERS_MAX + 8 < TURN_EVENTS_MAX; taken++) {
        const struct turn_crypto *c = &t->cryptos[taken];
        struct event *e = turn_conn_event(t, count, EVENT_CRYPTO, UINT32_MAX);
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
        struct event *e = turn_conn_event(t, count, EVENT_MAIL, UINT32_MAX);
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
    turn_conn_run_deadlines(t, &count);
    turn_conn_offer(t, &count);
    uint32_t i = 0;
    /* Each completion becomes at most three events; the arrays are sized so that all fit. */
    for (; i < n; i++) turn_conn_done(t, &t->done[i], &count);
    add_cryptos(t, &count);
    take_orders(t, &count);
    uint32_t first_mail = count;
    uint32_t batches = take_mail(t, &count);

    uint32_t at = 0;
    do {
        uint32_t used = shard_step(t->shard, t->events + at, count - at, t->now, &t->outbox);
        turn_conn_settle(t, at, at + used, count);
        run_effects(t);
        at += used;
    } while (at < count);
    turn_logs(t);
    tell_stored(t);
    turn_conn_flush(t);
    if (t->shard->is_late) t->has_more = true;
    turn_conn_close_flushed(t);
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
