#include "core/shard/shard.h"
#include "core/base/base64.h"
#include "core/base/must.h"
#include "core/shard/internal.h"

enum {
    ROUTE_CACHE_ENTRIES = 131072, /* 50 k live subjects fill windows of 8 to less than half */
    ROUTE_CACHE_BYTES = 64 << 20,
    RETRY_NS = 1000000,      /* parked for memory, or a busy index: look again */
    SMALL_FLUSH_PART = 1024, /* of what may be sent in a turn: 32 KiB */
    SUBS_PER_STEP = 500, /* SUBs and UNSUBs of all clients: 1 to 5 ms, since each is several cache
                            misses; what one turn reads of a client may be 20 times as many */
};

static void init_lists(struct shard *s)
{
    list_init(&s->all);
    list_init(&s->dirty);
    list_init(&s->late);
    list_init(&s->sending);
    list_init(&s->fenced);
    list_init(&s->reaping);
    for (int i = 0; i < PARK_REASON_COUNT; i++) list_init(&s->parked[i]);
    for (int i = 0; i < CLIENT_STALL_COUNT; i++) list_init(&s->stalled[i]);
}

static void free_all(struct shard *s)
{
    collect_close(s);
    system_drop(s);
    relay_close(s);
    if (s->routes != NULL) route_cache_close(s->routes);
    if (s->subs != NULL) sub_pool_close(s->subs);
    output_pool_deinit(&s->outputs);
    for (uint32_t i = 0; i < s->account_count; i++)
        mem_free(s->mem, MEM_CONNECTION, s->accounts[i], sizeof *s->accounts[i]);
    mem_free(s->mem, MEM_CONNECTION, s->accounts, s->account_count * sizeof *s->accounts);
    for (int i = 0; i < SHARD_HISTOGRAM_COUNT; i++)
        mem_free(s->mem, MEM_MONITOR, s->histograms[i], sizeof *s->histograms[i]);
    mem_free(s->mem, MEM_CONNECTION, s->clients, s->slots_max * sizeof *s->clients);
    mem_free(s->mem, MEM_CONNECTION, s, sizeof *s);
}

enum err shard_open(const struct shard_config *config, struct shard **out)
{
    must(config->index < config->shard_count && config->shard_count <= INTEREST_SHARDS_MAX);
    struct shard *s = mem_alloc_zero(config->mem, MEM_CONNECTION, sizeof *s);
    if (s == NULL) return ERR_MEMORY;
    s->config = *config;
    s->index = config->index;
    s->shard_count = config->shard_count;
    s->mem = config->mem;
    s->interest = config->interest;
    s->server = config->server;
    s->slots_max = config->slots_max;
    s->flush_bytes_max =
        config->flush_bytes_max == 0 ? SHARD_FLUSH_BYTES_MAX : config->flush_bytes_max;
    s->now = config->now;
    rng_init(&s->rng, config->seed);
    init_lists(s);
    wheel_init(&s->wheel, config->now.mono_ns);
    output_pool_init(&s->outputs, s->mem, s->index);
    orders_use_options(s, config->options);
    s->clients = mem_alloc_zero(s->mem, MEM_CONNECTION, s->slots_max * sizeof *s->clients);
    bool is_good = s->clients != NULL && sub_pool_open(s->mem, &s->subs) == ERR_OK &&
                   route_cache_open(s->mem, s->interest, s->index, ROUTE_CACHE_ENTRIES,
                                    ROUTE_CACHE_BYTES, &s->routes) == ERR_OK &&
                   relay_open(s) == ERR_OK && collect_open(s) == ERR_OK;
    for (int i = 0; is_good && i < SHARD_HISTOGRAM_COUNT; i++) {
        s->histograms[i] = mem_alloc(s->mem, MEM_MONITOR, sizeof *s->histograms[i]);
        if (s->histograms[i] == NULL)
            is_good = false;
        else
            histogram_init(s->histograms[i]);
    }
    if (!is_good) {
        free_all(s);
        return ERR_MEMORY;
    }
    interest_attach(s->interest, s->index, s->subs);
    /* Push consumers look at once whether somebody listens. */
    interest_online(s->interest, s->index);
    enum err e = jet_open(s, config);
    interest_offline(s->interest, s->index);
    if (e != ERR_OK) {
        jet_close(s);
        free_all(s);
        return ERR_MEMORY;
    }
    *out = s;
    return ERR_OK;
}

void shard_close(struct shard *s)
{
    s->is_closing = true;
    must(list_is_empty(&s->all));
    while (!list_is_empty(&s->reaping)) session_reap(s);
    jet_close(s);
    /* Other shards may still write in the index: what was put off has to leave it now. */
    while (s->doomed_count > 0) session_retry_doomed(s);
    free_all(s);
}

/* --- events ----------------------------------------------------------------------------------- */

static void make_nonce(struct shard *s, struct client *c, const uint8_t random[CONN_NONCE_BYTES])
{
    if (!s->options->accounts->nonce_required) return;
    c->nonce[base64_encode(BASE64_URL, random, CONN_NONCE_BYTES, c->nonce)] = 0;
}

static void greet(struct shard *s, struct client *c)
{
    verbs_send_info(s, c, false);
    if (c->state == CLIENT_CLOSING) return;
    if (s->options->accounts->auth_required) {
        c->state = CLIENT_GREETED;
        wheel_arm(&s->wheel, &c->timer, c->login_deadline_ns);
        return;
    }
    if (entry_implicit(s, c) == LOGIN_DONE) verbs_arm_ping(s, c, true);
}

static void on_opened(struct shard *s, struct event *e)
{
    struct client *c = session_open(s, e);
    if (c == NULL) {
        session_effect(s, EFFECT_CLOSE, e->conn)->close.flush = false;
        return;
    }
    c->login_deadline_ns = s->now.mono_ns + (uint64_t)s->options->auth_timeout_ns;
    if (!entry_open_without_login(s, c)) {
        session_close(s, c, CLOSED_WRITE_ERROR, false);
        return;
    }
    make_nonce(s, c, e->opened.nonce);
    session_log(s, c, LOG_LEVEL_DBG, "Client connection created");
    if (s->is_stopping) {
        session_close(s, c, CLOSED_SHUTDOWN, false);
        return;
    }
    if (e->opened.refusal != 0) {
        verbs_send_info(s, c, false);
        session_error(s, c, NATS_ERR_LINE("maximum connections exceeded"));
        session_close(s, c, (enum closed_reason)e->opened.refusal, true);
        return;
    }
    if (e->opened.is_tls_first) {
        c->state = CLIENT_HANDSHAKE;
        return;
    }
    bool has_tls = s->options->tls.is_on && !client_has(c, CLIENT_IS_UNIX);
    if (!has_tls) {
        greet(s, c);
        return;
    }
    /* INFO goes out in the clear; io then starts the handshake, or finds plaintext where
     * allow_non_tls permits it and answers with EVENT_TLS without facts. */
    verbs_send_info(s, c, false);
    if (c->state == CLIENT_CLOSING) return;
    c->flags |= CLIENT_TLS_PENDING;
    c->state = CLIENT_HANDSHAKE;
    session_effect(s, EFFECT_TLS, c->id);
}

static void on_tls(struct shard *s, struct client *c, const struct event *e)
{
    if (c->state != CLIENT_HANDSHAKE) return;
    c->tls = e->tls;
    if (e->tls.version.len > 0) c->flags |= CLIENT_IS_TLS;
    c->state = CLIENT_GREETED;
    if (!client_has(c, CLIENT_TLS_PENDING)) {
        c->flags |= e->tls.is_first ? CLIENT_TLS_FIRST : 0u;
        greet(s, c);
        return;
    }
    c->flags &= ~(uint32_t)CLIENT_TLS_PENDING;
    if (s->options->accounts->auth_required)
        wheel_arm(&s->wheel, &c->timer, c->login_deadline_ns);
    else if (entry_implicit(s, c) == LOGIN_DONE)
        verbs_arm_ping(s, c, true);
}

static void on_sent(struct shard *s, struct client *c, uint64_t bytes)
{
    c->flags &= ~(uint32_t)CLIENT_SENDING;
    list_remove(&c->sending);
    output_sent(&s->outputs, &c->output, bytes);
    if (c->output.pending_bytes > 0) session_mark_dirty(s, c);
}

static void on_ended(struct shard *s, struct client *c, enum ended_reason reason)
{
    static const uint8_t reasons[] = {
        [ENDED_EOF] = CLOSED_CLIENT,
        [ENDED_READ_ERROR] = CLOSED_READ_ERROR,
        [ENDED_WRITE_ERROR] = CLOSED_WRITE_ERROR,
        [ENDED_TLS_FAILED] = CLOSED_TLS_HANDSHAKE,
        [ENDED_TLS_TIMEOUT] = CLOSED_TLS_HANDSHAKE,
    };
    if (reason == ENDED_TLS_THROTTLED) {
        session_error(s, c,
                      NATS_ERR_LINE("Connection throttling is active. Please try again later."));
        session_close(s, c, CLOSED_TLS_HANDSHAKE, true);
        return;
    }
    /* Who only has no more to say may still want to hear: its fence comes first (R2b). */
    if (reason == ENDED_EOF && c->held_first != NULL) {
        c->flags |= CLIENT_SAID_ALL;
        return;
    }
    if (reason == ENDED_TLS_TIMEOUT)
        session_error(s, c, NATS_ERR_LINE("Secure Connection - TLS Required"));
    session_close(s, c, reasons[reason], reason == ENDED_TLS_TIMEOUT || reason == ENDED_EOF);
}

static bool run_event(struct shard *s, struct event *e)
{
    struct client *c = shard_client(s, e->conn);
    switch (e->kind) {
    case EVENT_OPENED: on_opened(s, e); return true;
    case EVENT_MAIL: return relay_mail(s, e);
    case EVENT_ORDER: orders_run(s, e->order); return true;
    default: break;
    }
    if (c == NULL) {
        if (e->kind == EVENT_BYTES) e->bytes.used = e->bytes.len;
        return true;
    }
    switch (e->kind) {
    case EVENT_TLS: on_tls(s, c, e); break;
    case EVENT_BYTES: e->bytes.used = verbs_bytes(s, c, e->bytes.data, e->bytes.len); break;
    case EVENT_SENT: on_sent(s, c, e->sent.bytes); break;
    case EVENT_ENDED: on_ended(s, c, e->ended.reason); break;
    case EVENT_GONE: session_gone(s, c); break;
    case EVENT_CRYPTO: entry_crypto_done(s, c, e->crypto.ticket, e->crypto.is_valid); break;
    default: must(false);
    }
    return true;
}

/* --- time ----------------------------------------------------------------------------------------
 */

static void log_slow(struct shard *s, const struct client *c, uint64_t deadline_ns)
{
    uint64_t ms = deadline_ns / 1000000;
    uint32_t chunks = 0;
    for (const struct chunk *k = c->output.head; k != NULL; k = k->next) chunks++;
    struct writer *w = session_log_open(s, c);
    writer_text(w, "Slow Consumer Detected: WriteDeadline of ");
    writer_u64(w, ms % 1000 == 0 ? ms / 1000 : ms);
    writer_text(w, ms % 1000 == 0 ? "s" : "ms");
    writer_text(w, " exceeded with ");
    writer_u64(w, chunks);
    writer_text(w, " chunks of ");
    writer_u64(w, c->output.pending_bytes);
    writer_text(w, " total bytes.");
    session_log_close(s, LOG_LEVEL_INF);
}

/* When the first of a list of stalled publishers goes on; UINT64_MAX: there is none. */
static uint64_t stall_ends_ns(const struct list *stalled)
{
    if (list_is_empty(stalled)) return UINT64_MAX;
    return LIST_OWNER(stalled->next, struct client, parked)->resume_ns;
}

static void resume_stalled(struct shard *s, struct list *stalled)
{
    while (stall_ends_ns(stalled) <= s->now.mono_ns && session_has_room(s))
        session_resume(s, LIST_OWNER(stalled->next, struct client, parked));
}

static void run_timers(struct shard *s)
{
    struct wheel_timer *t;
    while (session_has_room(s) && (t = wheel_pop(&s->wheel, s->now.mono_ns)) != NULL)
        verbs_timer(s, LIST_OWNER(t, struct client, timer));

    for (int i = 0; i < CLIENT_STALL_COUNT; i++) resume_stalled(s, &s->stalled[i]);
    /* Oldest send first: a receiver that has not taken its bytes in time goes (R5c). */
    uint64_t deadline = (uint64_t)s->options->write_deadline_ns;
    while (!list_is_empty(&s->sending) && deadline > 0 && session_has_room(s)) {
        struct client *c = LIST_OWNER(s->sending.next, struct client, sending);
        if (s->now.mono_ns - c->send_began_ns < deadline) break;
        list_remove(&c->sending);
        if (c->state == CLIENT_CLOSING) continue;
        s->counts.slow_consumers.clients++;
        s->rare.slow_deadline++;
        c->account->counts.slow_consumers++;
        log_slow(s, c, deadline);
        if (s->options->write_timeout == OPTIONS_WRITE_TIMEOUT_RETRY) {
            c->send_began_ns = s->now.mono_ns;
            list_push(&s->sending, &c->sending);
            continue;
        }
        session_close(s, c, CLOSED_SLOW_DEADLINE, false);
    }
}

uint64_t shard_deadline_ns(const struct shard *s)
{
    uint64_t next = wheel_next_ns(&s->wheel);
    if (s->jet != NULL) {
        uint64_t of_jet = jet_deadline_ns(s);
        if (of_jet < next) next = of_jet;
    }
    if (s->is_cut_short) return 0;
    if (!list_is_empty(&s->reaping) || s->doomed_count > 0) {
        for (const struct list *l = s->reaping.next; l != &s->reaping; l = l->next)
            if (LIST_OWNER(l, struct client, all)->sub_count > 0) return 0;
        if (s->doomed_count > 0) return s->now.mono_ns + RETRY_NS;
    }
    if (!list_is_empty(&s->parked[PARK_INDEX]) || !list_is_empty(&s->parked[PARK_TURN]) ||
        relay_is_due(s))
        return 0;
    bool wants_memory = !list_is_empty(&s->parked[PARK_MEMORY]) || relay_wants_memory(s);
    if (wants_memory && s->now.mono_ns + RETRY_NS < next) next = s->now.mono_ns + RETRY_NS;
    for (int i = 0; i < CLIENT_STALL_COUNT; i++) {
        uint64_t stall_end = stall_ends_ns(&s->stalled[i]);
        if (stall_end < next) next = stall_end;
    }
    if (!list_is_empty(&s->sending)) {
        const struct client *c = LIST_OWNER(s->sending.next, struct client, sending);
        uint64_t at = c->send_began_ns + (uint64_t)s->options->write_deadline_ns;
        if (at < next) next = at;
    }
    return next;
}

uint64_t shard_awaits(const struct shard *s, uint32_t target)
{
    uint64_t position = fence_awaits(s, target);
    uint64_t half = relay_awaits(s, target);
    if (half != 0 && (position == 0 || half < position)) position = half;
    uint64_t told = s->jet == NULL ? 0 : jet_api_awaits(s, target);
    if (told != 0 && (position == 0 || told < position)) position = told;
    return position;
}

bool shard_wants_crypto(const struct shard *s, const struct effect *e)
{
    const struct client *c = shard_client(s, e->conn);
    return c != NULL && c->login != NULL && c->ticket == e->crypto.ticket;
}

static struct client *sends_now(struct shard *s, struct client *c)
{
    uint64_t began_ns = c->waits_ns == 0 ? s->now.mono_ns : c->waits_ns;
    if (s->oldest_send_ns == 0 || began_ns < s->oldest_send_ns) s->oldest_send_ns = began_ns;
    c->waits_ns = 0;
    c->flags |= CLIENT_SENDING;
    c->send_began_ns = s->now.mono_ns;
    list_push(&s->sending, &c->sending);
    uint64_t bytes = c->output.pending_bytes;
    s->flush_left -= bytes < s->flush_left ? bytes : s->flush_left;
    return c;
}

/* What is small goes first and in any case: it does not wait for the large ones. */
struct client *shard_next_dirty(struct shard *s)
{
    struct list *link;
    while ((link = list_pop(&s->dirty)) != NULL) {
        struct client *c = LIST_OWNER(link, struct client, dirty);
        bool is_sending = client_has(c, CLIENT_SENDING) || c->output.pending_bytes == 0;
        bool is_large = c->output.pending_bytes > s->flush_bytes_max / SMALL_FLUSH_PART;
        if (LIKELY(!is_sending && !is_large)) return sends_now(s, c);
        if (c->waits_ns == 0) c->waits_ns = s->now.mono_ns;
        if (!is_sending) list_push(&s->late, &c->dirty);
    }
    if (s->flush_left > 0 && (link = list_pop(&s->late)) != NULL)
        return sends_now(s, LIST_OWNER(link, struct client, dirty));
    s->is_late = !list_is_empty(&s->late);
    if (UNLIKELY(s->is_late)) s->rare.late_flushes++;
    while ((link = list_pop(&s->late)) != NULL) list_push(&s->dirty, link);
    return NULL;
}

void shard_turn_ended(struct shard *s, uint64_t mono_ns)
{
    must(mono_ns >= s->now.mono_ns);
    uint64_t busy_ns = mono_ns - s->now.mono_ns;
    s->counts.busy_ns += busy_ns;
    histogram_add(s->histograms[SHARD_HISTOGRAM_TURN], busy_ns);
    if (s->oldest_send_ns == 0) return;
    histogram_add(s->histograms[SHARD_HISTOGRAM_DELIVER], mono_ns - s->oldest_send_ns);
    s->oldest_send_ns = 0;
}

void shard_mail_waited(struct shard *s, uint64_t written_ns)
{
    /* The clocks of two processors may differ by a little. */
    uint64_t waited_ns = s->now.mono_ns > written_ns ? s->now.mono_ns - written_ns : 0;
    histogram_add(s->histograms[SHARD_HISTOGRAM_MAIL], waited_ns);
}

uint32_t shard_step(struct shard *s, struct event *events, uint32_t count, struct shard_time now,
                    struct outbox *outbox)
{
    must(now.mono_ns >= s->now.mono_ns);
    s->now = now;
    s->outbox = outbox;
    s->counts.turns++;
    if (count == 0) s->counts.turns_idle++;
    if (s->close_owed_count > 0) session_tell_closed(s);
    if (s->login_owed_count > 0) entry_begin_owed(s);
    if (!list_is_empty(&s->parked[PARK_INDEX])) session_resume_all(s, PARK_INDEX);
    if (!list_is_empty(&s->parked[PARK_MEMORY])) session_resume_all(s, PARK_MEMORY);
    if (!list_is_empty(&s->parked[PARK_TURN]) && !s->is_late) session_resume_all(s, PARK_TURN);
    s->flush_left = s->flush_bytes_max;
    s->subs_left = SUBS_PER_STEP;

    if (s->jet != NULL) jet_events(s);
    uint32_t at = 0;
    while (at < count && session_has_room(s))
        if (!run_event(s, &events[at]))
            break;
        else
            at++;
    run_timers(s);
    if (s->jet != NULL) jet_step(s);
    system_step(s);
    fence_step(s);
    /* Behind the mail of this step, which freed tokens and spilled: nothing of it may sleep. */
    relay_step(s);
    session_retry_doomed(s);
    if (!list_is_empty(&s->reaping)) session_reap(s);
    pressure_step(s);
    s->counts.pending_bytes = s->outputs.pending_bytes;
    s->is_cut_short = !session_has_room(s);
    interest_quiesce(s->interest, s->index);
    return at;
}
