#include "tests/sim/workload.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"

enum {
    CONF_BYTES = 4096,
    TX_WAITING_MAX = 600000,
    HOARD_SUBS = 2600, /* more than a shard takes out of the index in one step */
    SUBS_PER_PEER = 14,
    STORM_REQUESTS = 1600, /* a shard has 1024 tokens */
    CROWDED_ONE_IN = 4,    /* seeds */
};
static const uint64_t MS = 1000000;
static const uint64_t DRAIN_NS_MAX = 30ull * 1000000000ull;

struct plan { /* what this seed is about */
    uint32_t shards, ring_bytes, peers;
    uint32_t small_bytes, large_one_in; /* payloads: usual size, one in n is lent */
    uint32_t slow_one_in, vanish_one_in;
    int64_t max_pending;
    uint32_t write_deadline_ms;
    bool no_stall_drop, is_hostile;
    bool has_reload, has_lame_duck, has_hoarder, has_squeeze, has_request_storm;
    bool is_ping_storm;
    bool is_crowded; /* and the log says much, so that lines find no room either */
};

struct workload {
    struct server server;
    struct ledger ledger;
    struct rng rng;
    struct plan plan;
    struct workload_config config;
    struct peer *peers[LEDGER_PEERS_MAX];
    uint32_t peer_count, alive;
    uint32_t ops;
    bool is_draining;
    bool is_quiet; /* no more operations */
    struct order reload_order, duck_order, close_order;
    uint32_t reload_state, duck_state; /* 0 not yet, 1 under way, 2 done */
    uint64_t vanished, reloads, ducks;
};

static uint32_t below(struct workload *w, uint32_t bound)
{
    return rng_below(&w->rng, bound);
}

static bool one_in(struct workload *w, uint32_t n)
{
    return n > 0 && below(w, n) == 0;
}

static void write_conf(const struct plan *p, bool is_reloaded, char *room)
{
    /* The password of user bcrypt is checked by the simulator's own helper. */
    snprintf(room, CONF_BYTES,
             "port: 4222\nmax_payload: 262144\nmax_pending: %lld\nwrite_deadline: \"%ums\"\n"
             "no_fast_producer_stall: %s\ndebug: %s\nauthorization { timeout: 5 }\n"
             "accounts {\n A { users [\n"
             "  {user: all, password: good}\n"
             "  {user: restricted, password: good, permissions {"
             "publish {deny: \"deny.>\"}, subscribe {deny: [\"secret.>\", \"hush.q\"]}}}\n"
             "  {user: narrowed, password: good%s}\n"
             "%s"
             "  {user: bcrypt, "
             "password: \"$2a$04$0123456789012345678901uJ3dOUi2vN2p1i0mP8kB5q5uZk0f2Ku\"}\n"
             " ] }\n B { users [ {user: other, password: good} ] }\n}\n",
             (long long)p->max_pending, p->write_deadline_ms, p->no_stall_drop ? "true" : "false",
             p->is_crowded ? "true" : "false",
             is_reloaded ? ", permissions {subscribe {deny: \"b.>\"}}" : "",
             is_reloaded ? "" : "  {user: victim, password: good}\n");
}

static void make_plan(struct workload *w)
{
    struct plan *p = &w->plan;
    static const uint32_t rings[] = {2048, 4096, 8192, 16384, 65536, 1 << 18};
    p->shards = 3 + (one_in(w, 4) ? 1 + below(w, 2) : 0);
    p->ring_bytes = rings[below(w, 6)];
    /* A record and the padding before it must fit at all. */
    p->small_bytes = p->ring_bytes / 8 > 12000 ? 12000 : p->ring_bytes / 8;
    if (one_in(w, 2) && p->small_bytes > 300) p->small_bytes = 300;
    p->peers = 10 + below(w, 16);
    p->large_one_in = one_in(w, 3) ? 20 + below(w, 60) : one_in(w, 2) ? 300 : 0;
    p->slow_one_in = one_in(w, 2) ? 60 : 400;
    p->vanish_one_in = one_in(w, 2) ? 300 : 2000;
    p->max_pending = one_in(w, 2) ? 64 << 20 : 280000 + below(w, 400000);
    p->write_deadline_ms = one_in(w, 3) ? 40 + below(w, 200) : 10000;
    p->no_stall_drop = one_in(w, 8);
    p->is_hostile = !one_in(w, 5);
    p->has_reload = one_in(w, 3);
    p->has_lame_duck = one_in(w, 6);
    p->has_hoarder = one_in(w, 8);
    p->has_squeeze = one_in(w, 6);
    p->has_request_storm = one_in(w, 8);
    p->is_ping_storm = one_in(w, 6);
    p->is_crowded = w->config.seed % CROWDED_ONE_IN == 0;
    if (p->has_request_storm) p->ring_bytes = 1 << 19; /* the tokens run out first */
}

/* --- one client's life -------------------------------------------------------------------- */

static void tick(void *context, uint64_t unused);

static struct peer *add_peer(struct workload *w)
{
    if (w->peer_count == LEDGER_PEERS_MAX || w->server.is_deaf) return NULL;
    static const uint8_t users[] = {USER_ALL,      USER_ALL,        USER_ALL,    USER_ALL,
                                    USER_NARROWED, USER_RESTRICTED, USER_BCRYPT, USER_OTHER,
                                    USER_OTHER,    USER_VICTIM};
    uint8_t user = users[below(w, sizeof users)];
    bool is_late = w->reload_state > 0;
    if (is_late && (user == USER_VICTIM || user == USER_NARROWED)) user = USER_ALL;
    struct peer *p = malloc(sizeof *p);
    must(p != NULL);
    uint32_t index = w->peer_count++;
    w->peers[index] = p;
    peer_init(p, &w->server, &w->ledger, index, user);
    p->w = w;
    p->is_verbose = one_in(w, 5);
    p->is_pedantic = one_in(w, 5);
    p->is_echo = !one_in(w, 5);
    p->is_headers = !one_in(w, 4);
    p->is_no_responders = p->is_headers && one_in(w, 2);
    p->is_bad_login = one_in(w, 25);
    p->answers = one_in(w, 3);
    p->tick_ns = 20000 + below(w, one_in(w, 3) ? 4000000 : 400000);
    uint64_t latency = 5000 + below(w, one_in(w, 4) ? 3000000 : 100000);
    size_t window = one_in(w, 3) ? 2000 + below(w, 10000) : 20000 + below(w, 400000);
    if (!peer_start(p, latency, window)) {
        p->is_over = true;
        p->record->closed_ns = p->record->gone_ns = 0;
        return NULL;
    }
    w->alive++;
    clock_set(&w->server.clock, below(w, 2000000), tick, p, 0);
    return p;
}

/* The login, and what it always wants: its inbox. */
static void begin(struct peer *p)
{
    struct workload *w = p->w;
    peer_connect(p);
    if (p->is_bad_login) {
        if (one_in(w, 2)) peer_raw(p, "PING\r\n", 6); /* never answered */
        peer_flush(p);
        return;
    }
    if (one_in(w, 2)) peer_ping(p);
    p->inbox_sid = 1 + peer_sub(p, LEDGER_FILTER_INBOX, -1);
    peer_flush(p);
    p->ops += 2;
}

static void some_sub(struct peer *p)
{
    struct workload *w = p->w;
    uint8_t filter = (uint8_t)below(w, LEDGER_FILTERS);
    if (p->record->user == USER_NARROWED && w->reload_state > 0) return;
    /* Few want everything, or nothing would be rare. */
    if (ledger_filter(filter)[0] == '>' && !one_in(w, 8)) return;
    /* In the larger account only those want it who must not get it: requests find interest on
     * other shards and nobody able, which the shards' answers alone can tell (R9). */
    bool is_hush = strcmp(ledger_filter(filter), "hush.*") == 0;
    if (is_hush && p->record->user != USER_RESTRICTED) return;
    int8_t queue = one_in(w, 2) ? (int8_t)below(w, LEDGER_QUEUES) : -1;
    uint32_t sub = peer_sub(p, filter, queue);
    if (one_in(w, 6)) peer_unsub(p, sub, 1 + below(w, 40));
}

static void some_unsub(struct peer *p)
{
    struct workload *w = p->w;
    if (p->next_sid < 4) return;
    uint32_t sid = 2 + below(w, p->next_sid - 2); /* the inbox stays */
    struct ledger_sub *s = w->ledger.subs[p->sub_of_sid[sid] - 1];
    if (s->unsub_sent_ns != LEDGER_NEVER || s->filter == LEDGER_FILTER_INBOX) return;
    if (one_in(w, 4) && s->max == 0 && !s->is_denied)
        peer_unsub(p, p->sub_of_sid[sid] - 1, s->got + 1 + below(w, 30));
    else if (s->max == 0)
        peer_unsub(p, p->sub_of_sid[sid] - 1, 0);
}

static void some_publish(struct peer *p)
{
    struct workload *w = p->w;
    struct peer_publish m = {.subject = (uint8_t)below(w, LEDGER_SUBJECTS)};
    if (one_in(w, 3)) m.subject = 6; /* the hot one */
    m.has_headers = one_in(w, 3);
    m.wants_reply = one_in(w, w->plan.has_request_storm ? 2 : 6);
    m.bytes = one_in(w, 3) ? 8 + below(w, 40) : 8 + below(w, w->plan.small_bytes);
    if (w->plan.large_one_in > 0 && one_in(w, w->plan.large_one_in))
        m.bytes = 16500 + below(w, one_in(w, 4) ? 183000 : 30000);
    peer_publish(p, &m);
}

static void answer_one(struct peer *p)
{
    struct peer_publish m = {.subject = LEDGER_SUBJECT_INBOX, .bytes = 8 + below(p->w, 100)};
    p->to_answer_count--;
    m.inbox_peer = p->to_answer[p->to_answer_count][0];
    m.inbox_number = p->to_answer[p->to_answer_count][1];
    peer_publish(p, &m);
}

static void leave(struct peer *p)
{
    struct workload *w = p->w;
    peer_flush(p);
    peer_leave(p, one_in(w, 2));
    w->vanished++;
    if (w->peer_count < LEDGER_PEERS_MAX - 2) add_peer(w);
}

static void act(struct peer *p)
{
    struct workload *w = p->w;
    uint32_t kind = below(w, 100);
    w->ops++;
    p->ops++;
    if (p->to_answer_count > 0 && kind < 40)
        answer_one(p);
    else if (kind < 8 && p->next_sid < SUBS_PER_PEER)
        some_sub(p);
    else if (kind < 12)
        some_unsub(p);
    else if (kind < 20)
        peer_ping(p);
    else
        some_publish(p);
    if (one_in(w, w->plan.slow_one_in))
        peer_read_slowly(p, 1 + below(w, 8000), 20000 + below(w, 3000000), below(w, 400) * MS);
}

static void tick(void *context, uint64_t unused)
{
    struct peer *p = context;
    struct workload *w = p->w;
    (void)unused;
    if (p->is_over || p->is_leaving || w->is_quiet) return;
    if (p->is_ready && p->ops == 0 && !p->is_condemned) begin(p);
    bool may_write = p->ops > 0 && net_unsent(p->link) < TX_WAITING_MAX && !p->is_condemned;
    if (may_write) {
        uint32_t burst = one_in(w, 12) ? 1 + below(w, 60) : 1 + below(w, 4);
        for (uint32_t i = 0; i < burst && w->ops < w->config.ops; i++) {
            act(p);
            if (one_in(w, 3)) peer_flush(p);
        }
        if (w->plan.is_ping_storm && one_in(w, 10))
            for (uint32_t i = 0; i < 24; i++) peer_ping(p);
        peer_flush(p);
        if (one_in(w, w->plan.vanish_one_in)) {
            leave(p);
            return;
        }
    }
    clock_set(&w->server.clock, p->tick_ns / 2 + below(w, (uint32_t)p->tick_ns), tick, p, 0);
}

/* Slow consumers and others that were closed are replaced: clients connect again. */
static void step_population(struct workload *w)
{
    uint32_t able = 0;
    if (w->server.steps % 512 != 0 || w->server.is_deaf) return;
    for (uint32_t i = 0; i < w->peer_count; i++)
        able += !w->peers[i]->is_over && !w->peers[i]->is_leaving && !w->peers[i]->is_condemned;
    if (able < w->plan.peers / 2) add_peer(w);
}

/* Nothing moves any more. That is no fault when everybody was closed or left before the population
 * was looked at again: somebody new comes. False: the server forgot those who are still there. */
static bool repopulate(struct workload *w)
{
    if (w->server.is_deaf) return false;
    for (uint32_t i = 0; i < w->peer_count; i++)
        if (!w->peers[i]->is_over) return false;
    return add_peer(w) != NULL;
}

/* More requests than a shard has tokens, while those who could answer get no processor. */
static bool storm(struct workload *w)
{
    for (uint32_t i = 0; i < w->peer_count; i++) {
        struct peer *p = w->peers[i];
        if (p->is_over || p->is_leaving || p->ops == 0 || p->is_condemned || !p->is_no_responders)
            continue;
        for (uint32_t n = 0; n < STORM_REQUESTS; n++) {
            struct peer_publish m = {.subject = 6, .wants_reply = true, .bytes = 8 + below(w, 16)};
            peer_publish(p, &m);
        }
        peer_flush(p);
        for (uint32_t k = 0; k < w->server.shard_count; k++)
            if (p->link->driver != &w->server.shards[k].driver)
                w->server.shards[k].stall_ns = w->server.clock.now_ns + 30 * MS;
        return true;
    }
    return false;
}

/* --- the run ------------------------------------------------------------------------------ */

static void step_reload(struct workload *w)
{
    if (!w->plan.has_reload) return;
    if (w->reload_state == 0 && w->ops > w->config.ops / 2) {
        char conf[CONF_BYTES];
        write_conf(&w->plan, true, conf);
        w->ledger.narrowed_ns = w->server.clock.now_ns;
        for (uint32_t i = 0; i < w->peer_count; i++)
            if (w->peers[i]->record->user == USER_VICTIM) w->peers[i]->is_condemned = true;
        w->reload_state = server_reload(&w->server, conf, &w->reload_order) ? 1 : 2;
        w->reloads++;
    }
    if (w->reload_state == 1 && w->reload_order.waiting == 0) {
        server_reloaded(&w->server);
        w->reload_state = 2;
    }
}

/* As io/lame_duck: all are told, then a few at a time are closed. */
static void step_lame_duck(struct workload *w)
{
    if (!w->plan.has_lame_duck || w->ops < w->config.ops / 4 * 3) return;
    if (w->duck_state == 0) {
        w->server.is_deaf = true;
        w->duck_order = (struct order){.kind = ORDER_LAME_DUCK};
        server_order(&w->server, &w->duck_order);
        w->duck_state = 1;
        w->ducks++;
    } else if (w->duck_state == 1 && w->duck_order.waiting == 0 && w->ops > w->config.ops / 8 * 7) {
        /* Some go; the run goes on with the rest. */
        w->close_order = (struct order){.kind = ORDER_CLOSE_SOME, .count = 1 + below(w, 3)};
        server_order_one(&w->server, &w->close_order, below(w, w->plan.shards));
        w->duck_state = 2;
    }
}

static void step_faults(struct workload *w)
{
    if (w->plan.has_squeeze && one_in(w, 20000) && !w->is_quiet) {
        w->server.squeeze_until_ns = w->server.clock.now_ns + below(w, 20) * MS;
        w->server.was_squeezed = true;
    }
}

static bool is_injected(const struct workload_config *c)
{
    return c->fail_alloc_at + c->fail_accept_at + c->fail_recv_at + c->fail_send_at +
               c->fail_add_at >
           0;
}

static bool is_settled(const struct workload *w)
{
    for (uint32_t i = 0; i < w->peer_count; i++) {
        const struct peer *p = w->peers[i];
        if (!p->is_over && !p->is_condemned &&
            (p->pings_out > 0 || p->expect_first < p->expect_end))
            return false;
        if (!p->is_over && p->is_leaving) return false;
    }
    return w->reload_state != 1 && w->duck_order.waiting == 0 && w->close_order.waiting == 0;
}

/* Everything that was made for a client reached it. */
static bool is_dry(struct workload *w)
{
    if (SERVER_SUM(&w->server, outputs.pending_bytes) > 0) return false;
    for (uint32_t i = 0; i < w->peer_count; i++) {
        const struct peer *p = w->peers[i];
        if (!p->is_over && p->link != NULL && p->link->down.end > p->link->down.first) return false;
    }
    return true;
}

/* Faults stop, everybody reads: all that was asked for must be answered in time (liveness). */
static void drain(struct workload *w)
{
    struct server *s = &w->server;
    w->is_quiet = true;
    s->config.is_hostile = s->config.is_crowded = false;
    s->squeeze_until_ns = 0;
    memset(&s->net.faults, 0, sizeof s->net.faults);
    if (w->config.fail_alloc_at < s->allocs) s->config.fail_alloc_at = 0;
    for (uint32_t i = 0; i < w->peer_count; i++) {
        struct peer *p = w->peers[i];
        p->read_until_ns = 0;
        if (p->is_over || p->is_leaving || p->is_condemned) continue;
        if (p->ops == 0) {
            peer_leave(p, true);
            continue;
        }
        peer_ping(p);
        peer_flush(p);
    }
    uint64_t until = s->clock.now_ns + DRAIN_NS_MAX;
    while (!is_settled(w) && s->clock.now_ns < until && server_step(s)) step_reload(w);
    if (!is_settled(w))
        for (uint32_t i = 0; i < w->peer_count; i++) {
            struct peer *p = w->peers[i];
            if (p->is_over || (p->pings_out == 0 && !p->is_leaving)) continue;
            ledger_fail(&w->ledger, "liveness",
                        "peer %u (fd %u) has no answer to %u PINGs; %zu bytes unread by the server",
                        i, p->link->fd, p->pings_out, net_unsent(p->link));
        }
    while (!is_dry(w) && s->clock.now_ns < until && server_step(s)) continue;
    server_run_for(s, 100 * MS); /* 503s and forwards may still be on their way */
}

static void count(struct workload *w, struct workload_counts *c)
{
    struct server *s = &w->server;
    c->queue_forwards += SERVER_SUM(s, counts.queue_forwards);
    c->ring_full += SERVER_SUM(s, counts.mail.ring_full);
    c->park_mail += SERVER_SUM(s, counts.parks[PARK_MAIL]);
    c->park_memory += SERVER_SUM(s, counts.parks[PARK_MEMORY]);
    c->park_congested += SERVER_SUM(s, counts.parks[PARK_CONGESTED]);
    c->park_index += SERVER_SUM(s, counts.parks[PARK_INDEX]);
    c->park_pings += SERVER_SUM(s, counts.parks[PARK_PINGS]);
    c->park_tokens += SERVER_SUM(s, counts.parks[PARK_TOKENS]);
    c->spills += SERVER_SUM(s, counts.mail.spills);
    c->stalls += SERVER_SUM(s, counts.stalled_clients);
    c->no_responders += SERVER_SUM(s, counts.no_responders);
    c->dropped += SERVER_SUM(s, counts.dropped_msgs);
    c->congested_mail += SERVER_SUM(s, rare.congested_mail);
    c->loans += SERVER_SUM(s, rare.loans);
    c->fences_held += SERVER_SUM(s, rare.fences_held);
    c->tokens += SERVER_SUM(s, rare.tokens);
    c->doomed += SERVER_SUM(s, rare.doomed);
    c->sliced_reaping += SERVER_SUM(s, rare.sliced_reaping);
    c->late_flushes += SERVER_SUM(s, rare.late_flushes);
    c->slow_deadline += SERVER_SUM(s, rare.slow_deadline);
    c->rechecks += SERVER_SUM(s, rare.rechecks);
    c->crypto_logins += SERVER_SUM(s, rare.crypto_logins);
    c->slow_pending +=
        SERVER_SUM(s, counts.slow_consumers.clients) - SERVER_SUM(s, rare.slow_deadline);
    for (uint32_t i = 0; i < s->shard_count; i++) {
        struct route_cache_counts routes;
        route_cache_count(s->shards[i].shard->routes, &routes);
        c->route_stale += routes.stale;
        c->turns += s->shards[i].turns;
    }
    c->partial_pieces += s->net.short_pieces;
    c->reloads += w->reloads;
    c->lame_ducks += w->ducks;
    c->vanished += w->vanished;
    c->preemptions += s->preemptions;
    c->outbox_full += s->outbox_full;
    c->close_owed += s->close_owed;
    c->lines_lost += s->lines_lost;
    c->ops += w->ops;
    c->simulated_ns += s->clock.now_ns;
    for (uint32_t i = 0; i < w->ledger.pub_count; i++) c->deliveries += w->ledger.pubs[i].got;
}

/* Closings that nobody asked for must be the server's slow consumers. */
static void check_ends(struct workload *w)
{
    uint64_t unasked = 0, slow = SERVER_SUM(&w->server, counts.slow_consumers.clients);
    uint64_t asked_close = w->duck_state == 2 ? w->close_order.count : 0;
    for (uint32_t i = 0; i < w->peer_count; i++) {
        struct peer *p = w->peers[i];
        if (p->link != NULL)
            p->record->gone_ns = p->link->is_closed ? p->link->closed_ns : LEDGER_NEVER;
        if (p->is_over && !p->is_leaving && !p->is_condemned && p->link != NULL) unasked++;
    }
    if (unasked > slow + asked_close && !is_injected(&w->config))
        ledger_fail(&w->ledger, "R5", "%llu connections were closed, %llu slow consumers counted",
                    (unsigned long long)unasked, (unsigned long long)slow);
}

static bool open_world(struct workload *w)
{
    char conf[CONF_BYTES];
    write_conf(&w->plan, false, conf);
    struct server_config config = {.seed = w->config.seed,
                                   .net_seed = w->config.seed ^ 0xfeed,
                                   .shard_count = w->plan.shards,
                                   .ring_bytes = w->plan.ring_bytes,
                                   .conf = conf,
                                   .is_hostile = w->plan.is_hostile,
                                   .is_crowded = w->plan.is_crowded,
                                   .fail_alloc_at = w->config.fail_alloc_at};
    return server_open(&w->server, &config);
}

static void live(struct workload *w)
{
    struct server *s = &w->server;
    s->is_verbose = w->config.is_verbose;
    s->net.faults = (struct net_faults){.accept_at = w->config.fail_accept_at,
                                        .recv_at = w->config.fail_recv_at,
                                        .send_at = w->config.fail_send_at,
                                        .add_at = w->config.fail_add_at};
    if (one_in(w, 4)) s->net.piece_bytes_max = 40 + below(w, 400);
    for (uint32_t i = 0; i < w->plan.peers; i++) add_peer(w);
    bool has_hoarded = !w->plan.has_hoarder, has_stormed = !w->plan.has_request_storm;
    uint64_t limit = s->clock.now_ns + 2 * DRAIN_NS_MAX;
    while (w->ops < w->config.ops && s->clock.now_ns < limit && (server_step(s) || repopulate(w))) {
        step_reload(w);
        step_lame_duck(w);
        step_faults(w);
        step_population(w);
        if (!has_stormed && w->ops > w->config.ops / 2) has_stormed = storm(w);
        if (!has_hoarded && w->ops > w->config.ops / 3) {
            struct peer *p = w->peers[below(w, w->peer_count)];
            if (!p->is_over && !p->is_leaving && p->ops > 0 && !p->is_condemned) {
                peer_hoard(p, HOARD_SUBS);
                peer_flush(p);
                has_hoarded = true;
                /* Its end is the interesting part. */
                peer_ping(p);
                peer_flush(p);
                clock_set(&s->clock, 50 * MS, tick, p, 0);
            }
        }
    }
    if (w->ops < w->config.ops && !is_injected(&w->config) && w->alive > 0 && !s->is_deaf)
        ledger_fail(&w->ledger, "liveness", "only %u of %u operations were made", w->ops,
                    w->config.ops);
}

void workload_run(const struct workload_config *config, struct workload_counts *counts,
                  struct workload_result *result)
{
    struct workload *w = calloc(1, sizeof *w);
    must(w != NULL);
    w->config = *config;
    rng_init(&w->rng, config->seed);
    make_plan(w);
    ledger_init(&w->ledger, config->seed);
    if (!open_world(w)) {
        if (w->server.live_blocks != 0)
            ledger_fail(&w->ledger, "memory", "%llu blocks left by a failed start",
                        (unsigned long long)w->server.live_blocks);
        if (!is_injected(config)) ledger_fail(&w->ledger, "start", "the server does not start");
    } else {
        live(w);
        struct net_faults faults = w->server.net.faults;
        drain(w);
        result->faults = faults;
        check_ends(w);
        count(w, counts);
        if (w->plan.no_stall_drop || w->server.was_squeezed)
            w->ledger.dropped_max = SERVER_SUM(&w->server, counts.dropped_msgs);
        if (!is_injected(config)) {
            check_index(&w->server, &w->ledger, w->peers);
            check_delivery(&w->ledger);
            check_queue(&w->ledger);
            check_responders(&w->ledger);
        }
        if (!server_close(&w->server)) ledger_fail(&w->ledger, "memory", "no clean end");
    }
    result->hash = w->server.hash;
    result->errors = w->ledger.errors;
    result->allocs = w->server.allocs;
    result->failed_allocs = w->server.failed_allocs;
    for (uint32_t i = 0; i < w->peer_count; i++) {
        peer_deinit(w->peers[i]);
        free(w->peers[i]);
    }
    ledger_deinit(&w->ledger);
    free(w);
}
