/* A longjmp to another stack is meant: the check of it would end the process. */
#undef _FORTIFY_SOURCE
#include "tests/sim/server.h"
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/auth/login.h"
#include "core/base/must.h"
#include "core/config/flags.h"
#include "core/route/interest_account.h"
#include "tests/support/conf_world.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define FIBER_START(save, bottom, size) __sanitizer_start_switch_fiber(save, bottom, size)
#define FIBER_FINISH(save, bottom, size) __sanitizer_finish_switch_fiber(save, bottom, size)
#else
#define FIBER_START(save, bottom, size) ((void)(save), (void)(bottom), (void)(size))
#define FIBER_FINISH(save, bottom, size) ((void)(save), (void)(bottom), (void)(size))
#endif

enum {
    SENDER_MAIN = 0, /* behind the shards */
    SENDER_CRYPTO = 1,
    SENDERS_EXTRA = 2,
    ORDER_RETRY_NS = 50000,
    QUIET_NS_MAX = 2000000000,
    FEW_FLUSH_BYTES = 16 * 1024, /* that a shard of every third world sends in a turn */
};
static const uint64_t HASH_PRIME = 1099511628211u;
/* The longest that a world may take to come to rest after its last connection. */
static const uint64_t REST_NS_MAX = 20ull * 1000000000ull;

void server_note(struct server *s, uint64_t a, uint64_t b)
{
    s->hash = (s->hash ^ a) * HASH_PRIME;
    s->hash = (s->hash ^ b) * HASH_PRIME;
    s->hash ^= s->hash >> 29;
}

void server_note_bytes(struct server *s, const void *data, size_t bytes)
{
    const unsigned char *p = data;
    uint64_t h = s->hash;
    size_t i = 0;
    for (; i + 8 <= bytes; i += 8) {
        uint64_t word;
        memcpy(&word, p + i, 8);
        h = (h ^ word) * HASH_PRIME;
        h ^= h >> 31;
    }
    for (; i < bytes; i++) h = (h ^ p[i]) * HASH_PRIME;
    s->hash = h;
}

/* --- switching stacks --------------------------------------------------------------------- */

/* swapcontext asks the kernel for the signal mask each time, which took a fifth of a seed's time;
 * so it is for the first step onto a stack only. Sanitizers know no jump to another stack. */
static void change_stack(struct server_stack *from, struct server_stack *to)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    swapcontext(&from->context, &to->context);
#else
    if (_setjmp(from->jump) != 0) return;
    if (to->is_begun) _longjmp(to->jump, 1);
    to->is_begun = true;
    setcontext(&to->context);
#endif
}

static void yield(struct server_shard *x)
{
    struct server *s = x->server;
    must(s->current == x);
    s->current = NULL;
    FIBER_START(x->is_ended ? NULL : &x->fake_stack, s->asan_stack, s->asan_bytes);
    change_stack(&x->stack, &s->main_stack);
    FIBER_FINISH(x->fake_stack, &s->asan_stack, &s->asan_bytes);
}

static void run_shard(struct server_shard *x)
{
    struct server *s = x->server;
    must(s->current == NULL && !x->is_ended);
    s->current = x;
    FIBER_START(&s->main_fake_stack, x->stack.bytes, SERVER_STACK_BYTES);
    change_stack(&s->main_stack, &x->stack);
    FIBER_FINISH(s->main_fake_stack, NULL, NULL);
}

/* A thread may lose its processor at any moment; these are ours. */
static void maybe_preempt(struct server_shard *x, uint32_t one_in)
{
    struct server *s = x->server;
    if (s->current != x || !x->can_yield || !s->config.is_hostile) return;
    if (rng_below(&s->rng, one_in) != 0) return;
    s->preemptions++;
    x->is_sleeping = false;
    yield(x);
}

/* --- memory ------------------------------------------------------------------------------- */

static void *mem_take(struct mem *m, enum mem_class class, size_t bytes)
{
    struct server_mem *x = m->context;
    struct server *s = x->server;
    bool is_shard = x->shard < SERVER_SHARDS_MAX;
    s->allocs++;
    bool is_squeezed = is_shard && s->clock.now_ns < s->squeeze_until_ns &&
                       (class == MEM_OUTPUT || class == MEM_ROUTE) && rng_below(&s->rng, 3) == 0;
    if (s->allocs == s->config.fail_alloc_at || is_squeezed) {
        s->failed_allocs++;
        return NULL;
    }
    struct server_block *b = malloc(sizeof *b + bytes);
    must(b != NULL);
    *b = (struct server_block){.next = s->blocks, .place = &s->blocks};
    if (b->next != NULL) b->next->place = &b->next;
    s->blocks = b;
    void *p = b->data;
    memset(p, 0xa5, bytes < 256 ? bytes : 256);
    s->live_blocks++;
    /* Not while JSON is read: its parser has state of the thread, and here is only one. */
    if (is_shard && (class == MEM_OUTPUT || class == MEM_ROUTE || class == MEM_MAIL))
        maybe_preempt(&s->shards[x->shard], 64);
    return p;
}

static void mem_release(struct mem *m, enum mem_class class, void *p, size_t bytes)
{
    struct server_mem *x = m->context;
    (void)class;
    struct server_block *b = (void *)((char *)p - offsetof(struct server_block, data));
    memset(p, 0x5a, bytes < 256 ? bytes : 256);
    *b->place = b->next;
    if (b->next != NULL) b->next->place = b->place;
    free(b);
    x->server->live_blocks--;
}

static void mem_init(struct server_mem *x, struct server *s, uint32_t shard)
{
    *x = (struct server_mem){
        .mem = {.alloc = mem_take, .release = mem_release}, .server = s, .shard = shard};
    x->mem.context = x;
}

/* --- hooks of the turns ------------------------------------------------------------------- */

static struct shard_time time_now(struct server *s)
{
    return (struct shard_time){.mono_ns = s->clock.now_ns,
                               .wall_ns = CLOCK_WALL_START_S * INT64_C(1000000000) +
                                          (int64_t)s->clock.now_ns};
}

static struct shard_time hook_now(void *context)
{
    struct server *s = context;
    if (s->current != NULL) maybe_preempt(s->current, 16);
    return time_now(s);
}

static void hook_log(void *context, enum log_level level, struct bytes text)
{
    struct server *s = context;
    if (level == LOG_LEVEL_ERR) s->log.errors++;
    if (level == LOG_LEVEL_WRN && bytes_ends_with(text, BYTES_LITERAL("too many at once")))
        s->lines_lost++;
    server_note_bytes(s, text.data, text.len);
    if (s->is_verbose)
        fprintf(stderr, "%12.6f log: %.*s\n", (double)s->clock.now_ns / 1e9, (int)text.len,
                text.data);
}

static bool mail(struct server *s, uint32_t sender, uint32_t shard, uint16_t kind, const void *body,
                 uint32_t bytes)
{
    struct lane *l = mailbox_lane(s->mail, s->shard_count + sender, shard);
    uint32_t need = lane_record_bytes(bytes);
    if (!lane_has_room(l, need, need)) return false;
    memcpy(lane_append(l, kind, 0, bytes), body, bytes);
    mailbox_publish(s->mail, s->shard_count + sender);
    return true;
}

static void crypto_answer(void *context, uint64_t unused)
{
    struct server_crypto *w = context;
    struct server *s = w->server;
    (void)unused;
    if (!mail(s, SENDER_CRYPTO, w->shard, TURN_MAIL_CRYPTO, &w->answer, sizeof w->answer)) {
        clock_set(&s->clock, ORDER_RETRY_NS, crypto_answer, w, 0);
        return;
    }
    free(w);
}

/* A helper thread's bcrypt: the right password of every user here is "good". */
static void hook_crypto(void *context, uint32_t shard, struct conn_id conn, void *job,
                        uint64_t ticket)
{
    struct server *s = context;
    const struct login_job *j = job;
    struct server_crypto *w = calloc(1, sizeof *w);
    must(w != NULL && j->work == LOGIN_BCRYPT);
    w->server = s;
    w->shard = shard;
    w->answer = (struct turn_crypto){.conn = conn.bits,
                                     .ticket = ticket,
                                     .is_valid = j->password_len == 4 &&
                                                 memcmp(j->password, "good", 4) == 0};
    clock_set(&s->clock, rng_below(&s->rng, 3000000), crypto_answer, w, 0);
}

static void hook_order_done(void *context, struct order *o, uint32_t shard)
{
    struct server *s = context;
    must(o->waiting > 0);
    o->waiting--;
    server_note(s, 7, shard);
}

static void hook_gone(void *context, uint32_t shard, struct turn_conn *c)
{
    struct server *s = context;
    (void)c;
    must(s->shards[shard].conns > 0);
    s->shards[shard].conns--;
}

static void hook_refused(void *context, uint32_t shard, const struct turn_socket *socket)
{
    struct server *s = context;
    s->shards[shard].conns--;
    net_refuse(&s->net, socket->fd);
}

static void hook_logged_in(void *context, struct turn_conn *c)
{
    (void)context;
    c->is_logged_in = true;
}

static void hook_wake(void *context, uint32_t who)
{
    struct server *s = context;
    if (who >= s->shard_count) return;
    struct driver *d = &s->shards[who].driver.driver;
    if (d->ops != NULL) d->ops->wake(d);
}

/* As io/listener: from shard 0 to the target, by its own lane. */
static void on_done(void *context, struct turn *t, const struct done *d)
{
    struct server *s = context;
    if (d->kind == DONE_FILE) {
        simstore_done(s->config.store, d->user);
        t->file_count++;
        return;
    }
    if (d->kind != DONE_ACCEPT || d->result < 0) return;
    struct turn_socket socket = {
        .fd = d->fd, .port = (uint16_t)(20000 + d->fd), .cid = s->next_cid++};
    memcpy(socket.ip, "127.0.0.1", 9);
    socket.ip_len = 9;
    /* Beside the world's own generator, whose sequence decides what happens. */
    struct rng rng;
    rng_init(&rng, s->config.seed + socket.cid);
    uint64_t random[2] = {rng_next(&rng), rng_next(&rng)};
    memcpy(socket.nonce, random, sizeof socket.nonce);
    uint32_t target = s->next_target++ % s->shard_count;
    if (target != 0) {
        struct lane *l = t->outbox.lanes[target];
        uint32_t bytes = lane_record_bytes(sizeof socket);
        if (lane_has_room(l, bytes, bytes)) {
            memcpy(lane_append(l, TURN_MAIL_SOCKET, 0, sizeof socket), &socket, sizeof socket);
            s->shards[target].conns++;
            return;
        }
    }
    s->shards[0].conns++;
    if (turn_take(t, &socket) != ERR_OK) hook_refused(s, 0, &socket);
}

/* --- shards ------------------------------------------------------------------------------- */

/* What a step finds in its way when thousands of connections go at once, or one event closes them
 * all: most of the outbox is taken. Between two turns, so that a whole step sees the same. */
static void crowd_outbox(struct server_shard *x)
{
    enum { FEW = 4 };
    struct server *s = x->server;
    struct outbox *o = &x->turn->outbox;
    s->outbox_full += x->shard->is_cut_short;
    s->close_owed += x->shard->close_owed_count > 0;
    o->withheld = 0;
    if (!s->config.is_crowded || rng_below(&s->crowd, 3) != 0) return;
    o->withheld = OUTBOX_EFFECTS_MAX - OUTBOX_RESERVE - 1 - rng_below(&s->crowd, FEW);
}

static void shard_sleep(void *context, uint64_t timeout_ns)
{
    struct server_shard *x = context;
    struct server *s = x->server;
    if (!x->can_yield) return;
    crowd_outbox(x);
    x->is_sleeping = timeout_ns > 0;
    x->wake_ns =
        timeout_ns > UINT64_MAX - s->clock.now_ns ? UINT64_MAX : s->clock.now_ns + timeout_ns;
    yield(x);
    x->is_sleeping = false;
}

static void shard_main(unsigned low, unsigned high)
{
    struct server_shard *x =
        (struct server_shard *)(uintptr_t)((uint64_t)high << 32 | (uint64_t)low);
    struct server *s = x->server;
    FIBER_FINISH(NULL, &s->asan_stack, &s->asan_bytes);
    interest_online(s->interest, x->index);
    while (!s->is_stopping) {
        turn_run(x->turn, UINT64_MAX);
        x->turns++;
    }
    interest_offline(s->interest, x->index);
    x->is_ended = true;
    yield(x);
    must(false);
}

static bool open_shard(struct server *s, uint32_t index)
{
    struct server_shard *x = &s->shards[index];
    struct shard_config config = {.index = index,
                                  .shard_count = s->shard_count,
                                  .mem = &x->mem.mem,
                                  .interest = s->interest,
                                  .options = s->options,
                                  .server = &s->facts,
                                  .seed = rng_next(&s->rng),
                                  .slots_max = NET_SLOTS_MAX - TURN_SLOTS_EXTRA,
                                  .flush_bytes_max = s->config.seed % 3 == 0 ? FEW_FLUSH_BYTES : 0,
                                  .now = time_now(s)};
    struct simstore *store = s->config.store;
    struct shard_log logs[SIMSTORE_LOGS_MAX];
    uint32_t log_total = store == NULL ? 0 : simstore_log_count(store);
    for (uint32_t log = index; log < log_total; log += s->shard_count) {
        if (simstore_open_log(store, log, &x->driver) != ERR_OK) return false;
        logs[config.log_count++] = (struct shard_log){
            .number = log, .js = simstore_js(store, log), .store = simstore_port(store, log)};
    }
    config.logs = logs;
    config.log_total = log_total;
    if (store != NULL && index == 0) config.directory = &store->directory;
    if (shard_open(&config, &x->shard) != ERR_OK) return false;
    struct turn_config turn = {.shard = x->shard,
                               .driver = &x->driver.driver,
                               .mail = s->mail,
                               .mem = &x->mem.mem,
                               .hooks = {.now = hook_now,
                                         .log = hook_log,
                                         .crypto = hook_crypto,
                                         .order_done = hook_order_done,
                                         .gone = hook_gone,
                                         .refused = hook_refused,
                                         .logged_in = hook_logged_in,
                                         .context = s},
                               .slots_max = config.slots_max,
                               .on_done = on_done,
                               .on_done_context = s};
    if (turn_open(&turn, &x->turn) != ERR_OK) return false;
    for (uint32_t log = index; log < log_total; log += s->shard_count)
        x->turn->logs[x->turn->log_count++] = simstore_log(store, log);
    return true;
}

static void start_shard(struct server *s, uint32_t index)
{
    struct server_shard *x = &s->shards[index];
    struct server_stack *own = &x->stack;
    *own = (struct server_stack){.bytes = malloc(SERVER_STACK_BYTES)};
    must(own->bytes != NULL);
    getcontext(&own->context);
    own->context.uc_stack.ss_sp = own->bytes;
    own->context.uc_stack.ss_size = SERVER_STACK_BYTES;
    own->context.uc_link = NULL;
    uint64_t at = (uint64_t)(uintptr_t)x;
    makecontext(&own->context, (void (*)(void))(void *)shard_main, 2, (unsigned)at,
                (unsigned)(at >> 32));
    x->can_yield = true;
}

static struct options *load_options(struct server *s, const char *conf)
{
    struct world w = {.files = {{"sim.conf", conf}}};
    struct options *o = NULL;
    struct options_report report;
    struct flags flags;
    char *argv[] = {"sim", "-c", "sim.conf"};
    options_report_init(&report, &s->main_mem.mem);
    if (flags_parse(&flags, &s->main_mem.mem, 3, argv) != ERR_OK) {
        options_report_deinit(&report);
        return NULL;
    }
    struct options_input in = {
        .source = world_init(&w), .flags = &flags, .numbers = s->numbers, .seed = s->config.seed};
    enum err e = options_load(&s->main_mem.mem, &in, &o, &report);
    if (e != ERR_OK && s->config.fail_alloc_at == 0)
        fprintf(stderr, "options: %.*s\n", (int)report.errors.len, report.errors.data);
    flags_deinit(&flags);
    options_report_deinit(&report);
    return e == ERR_OK ? o : NULL;
}

static void free_all(struct server *s)
{
    for (uint32_t i = 0; i < s->shard_count; i++) {
        struct server_shard *x = &s->shards[i];
        for (uint32_t log = i; s->config.store != NULL && log < SIMSTORE_LOGS_MAX;
             log += s->shard_count)
            simstore_close_log(s->config.store, log);
        if (x->turn != NULL) turn_close(x->turn);
        if (x->shard != NULL) shard_close(x->shard);
        net_driver_deinit(&x->driver);
        free(x->stack.bytes);
        x->turn = NULL;
        x->shard = NULL;
        x->stack.bytes = NULL;
    }
    if (s->config.store != NULL) simstore_close(s->config.store);
    if (s->mail != NULL) mailbox_close(s->mail);
    if (s->interest != NULL) interest_close(s->interest);
    options_free(s->options);
    options_free(s->options_next);
    if (s->numbers != NULL) account_numbers_close(s->numbers);
    net_deinit(&s->net);
    clock_deinit(&s->clock);
}

static bool recover(struct server *s)
{
    struct simstore_life life = {.clock = &s->clock,
                                 .mem = &s->main_mem.mem,
                                 .numbers = s->numbers,
                                 .shard_count = s->shard_count,
                                 .message_bytes_max = (uint64_t)s->options->max_payload,
                                 .now = time_now(s),
                                 .steps = s->config.recovery_steps};
    for (uint32_t i = 0; i < s->shard_count; i++) life.shard_mem[i] = &s->shards[i].mem.mem;
    return simstore_open(s->config.store, &life) == ERR_OK;
}

bool server_open(struct server *s, const struct server_config *config)
{
    memset(s, 0, sizeof *s);
    s->config = *config;
    s->shard_count = config->shard_count;
    s->hash = 14695981039346656037u;
    s->next_cid = 5;
    clock_init(&s->clock);
    if (config->start_ns > 0) s->clock.now_ns = config->start_ns;
    net_init(&s->net, &s->clock, config->net_seed);
    rng_init(&s->rng, config->seed ^ UINT64_C(0x5e7e7));
    rng_init(&s->crowd, config->seed ^ UINT64_C(0xc703d));
    mem_init(&s->shared_mem, s, SERVER_SHARDS_MAX);
    mem_init(&s->main_mem, s, SERVER_SHARDS_MAX);
    s->facts = (struct server_facts){.id = BYTES_LITERAL("NSIM"),
                                     .name = BYTES_LITERAL("sim"),
                                     .version = BYTES_LITERAL("2.15.2"),
                                     .go = BYTES_LITERAL("c17"),
                                     .xkey = BYTES_LITERAL("X"),
                                     .host = BYTES_LITERAL("0.0.0.0"),
                                     .port = 4222};
    for (uint32_t i = 0; i < s->shard_count; i++) {
        struct server_shard *x = &s->shards[i];
        x->server = s;
        x->index = i;
        mem_init(&x->mem, s, i);
        net_driver_init(&x->driver, &s->net);
        x->driver.sleep = shard_sleep;
        x->driver.context = x;
    }
    bool is_good =
        account_numbers_open(&s->main_mem.mem, &s->numbers) == ERR_OK &&
        (s->options = load_options(s, config->conf)) != NULL &&
        interest_open(&s->shared_mem.mem, s->shard_count, config->seed, &s->interest) == ERR_OK &&
        mailbox_open(&s->shared_mem.mem, s->shard_count, s->shard_count + SENDERS_EXTRA,
                     config->ring_bytes, hook_wake, s, &s->mail) == ERR_OK;
    if (is_good && config->store != NULL) is_good = recover(s);
    for (uint32_t i = 0; is_good && i < s->shard_count; i++) is_good = open_shard(s, i);
    if (!is_good) {
        s->has_failed_open = true;
        free_all(s);
        return false;
    }
    s->main_stack.is_begun = true;
    for (uint32_t i = 0; i < s->shard_count; i++) start_shard(s, i);
    return true;
}

/* --- the scheduler ------------------------------------------------------------------------ */

static bool is_runnable(const struct server_shard *x)
{
    const struct server *s = x->server;
    if (x->is_ended || x->stall_ns > s->clock.now_ns) return false;
    if (!x->is_sleeping) return true;
    return net_driver_is_ready(&x->driver) || x->wake_ns <= s->clock.now_ns;
}

/* As if a thread were inside interest_insert: others find the lock taken. */
static void hold_index(struct server *s)
{
    if (s->held_lock != NULL) {
        if (s->clock.now_ns < s->held_until_ns) return;
        *s->held_lock = 0;
        s->held_lock = NULL;
        return;
    }
    if (!s->config.is_hostile || rng_below(&s->rng, 256) != 0) return;
    uint32_t shard = rng_below(&s->rng, s->shard_count);
    const struct shard *x = s->shards[shard].shard;
    if (x->account_count == 0) return;
    const struct shard_account *a = x->accounts[rng_below(&s->rng, x->account_count)];
    if (a == NULL || a->trie == NULL || a->trie->is_locked != 0) return;
    s->held_lock = &a->trie->is_locked;
    *s->held_lock = 1;
    s->held_until_ns = s->clock.now_ns + rng_below(&s->rng, 30000);
}

static void hand_orders(struct server *s)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->order_count; i++) {
        if (mail(s, SENDER_MAIN, s->order_target[i], TURN_MAIL_ORDER, &s->orders[i],
                 sizeof s->orders[i]))
            continue;
        s->orders[kept] = s->orders[i];
        s->order_target[kept++] = s->order_target[i];
    }
    s->order_count = kept;
}

bool server_step(struct server *s)
{
    s->steps++;
    if (s->order_count > 0) hand_orders(s);
    hold_index(s);
    uint32_t runnable[SERVER_SHARDS_MAX], count = 0;
    uint64_t next = clock_next_ns(&s->clock);
    for (uint32_t i = 0; i < s->shard_count; i++) {
        struct server_shard *x = &s->shards[i];
        if (is_runnable(x)) runnable[count++] = i;
        if (x->is_ended) continue;
        if (x->stall_ns > s->clock.now_ns && x->stall_ns < next) next = x->stall_ns;
        if (x->stall_ns <= s->clock.now_ns && x->is_sleeping && x->wake_ns < next)
            next = x->wake_ns;
    }
    if (s->held_lock != NULL && s->held_until_ns < next) next = s->held_until_ns;
    if (s->order_count > 0 && s->clock.now_ns + ORDER_RETRY_NS < next)
        next = s->clock.now_ns + ORDER_RETRY_NS;
    if (count == 0) {
        if (next == UINT64_MAX) return false;
        clock_advance(&s->clock, next > s->clock.now_ns ? next : s->clock.now_ns);
        return true;
    }
    struct server_shard *x = &s->shards[runnable[rng_below(&s->rng, count)]];
    server_note(s, s->clock.now_ns, x->index);
    run_shard(x);
    /* The others ran beside it: time passes for one shard's share of a turn. */
    uint64_t spent = 500 + rng_below(&s->rng, 8000);
    if (s->config.is_hostile && rng_below(&s->rng, 2000) == 0)
        x->stall_ns = s->clock.now_ns + rng_below(&s->rng, 20000000);
    clock_advance(&s->clock, s->clock.now_ns + spent / s->shard_count);
    return true;
}

void server_run_for(struct server *s, uint64_t ns)
{
    uint64_t until = s->clock.now_ns + ns;
    while (s->clock.now_ns < until && server_step(s)) continue;
}

/* --- orders ------------------------------------------------------------------------------- */

struct net_link *server_connect(struct server *s, uint64_t latency_ns, size_t window_bytes)
{
    if (s->is_deaf) return NULL;
    return net_connect(&s->net, &s->shards[0].driver, latency_ns, window_bytes);
}

static void add_order(struct server *s, struct order *o, uint32_t shard)
{
    must(s->order_count < SERVER_ORDERS_MAX);
    s->orders[s->order_count] = o;
    s->order_target[s->order_count++] = shard;
}

void server_order(struct server *s, struct order *o)
{
    o->waiting = s->shard_count;
    for (uint32_t i = 0; i < s->shard_count; i++) add_order(s, o, i);
}

void server_order_one(struct server *s, struct order *o, uint32_t shard)
{
    o->waiting = 1;
    add_order(s, o, shard);
}

bool server_reload(struct server *s, const char *conf, struct order *o)
{
    must(s->options_next == NULL);
    s->options_next = load_options(s, conf);
    if (s->options_next == NULL) return false;
    *o = (struct order){.kind = ORDER_OPTIONS, .options = s->options_next};
    server_order(s, o);
    return true;
}

void server_reloaded(struct server *s)
{
    options_free(s->options);
    s->options = s->options_next;
    s->options_next = NULL;
}

static uint32_t conn_count(const struct server *s)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->shard_count; i++) count += s->shards[i].conns;
    return count;
}

/* As io/loop. */
static bool stop_logs(struct server *s)
{
    struct simstore *store = s->config.store;
    uint32_t count = store == NULL ? 0 : simstore_log_count(store);
    uint64_t limit = s->clock.now_ns + REST_NS_MAX;
    for (uint32_t i = 0; store != NULL && i < s->shard_count; i++) {
        shard_flush(s->shards[i].shard, time_now(s));
        hook_wake(s, i);
    }
    for (uint32_t i = 0; i < count; i++) simstore_stop_log(store, i);
    for (uint32_t i = 0; i < count;) {
        if (simstore_is_stopped(store, i)) {
            i++;
        } else if (!server_step(s) || s->clock.now_ns >= limit) {
            fprintf(stderr, "log %u does not end\n", i);
            return false;
        }
    }
    for (uint32_t i = 0; i < s->shard_count; i++) s->shards[i].turn->log_count = 0;
    return true;
}

void server_crash(struct server *s)
{
    if (s->config.store != NULL) simstore_crash(s->config.store);
    while (s->blocks != NULL) {
        struct server_block *b = s->blocks;
        s->blocks = b->next;
        free(b);
    }
    for (uint32_t i = 0; i < s->shard_count; i++) {
        net_driver_deinit(&s->shards[i].driver);
        free(s->shards[i].stack.bytes);
    }
    net_deinit(&s->net);
    clock_deinit(&s->clock);
}

bool server_close(struct server *s)
{
    s->is_deaf = true;
    s->config.is_hostile = s->config.is_crowded = false;
    s->squeeze_until_ns = 0;
    if (s->held_lock != NULL) *s->held_lock = 0;
    s->held_lock = NULL;
    struct order shutdown = {.kind = ORDER_SHUTDOWN};
    uint64_t limit = s->clock.now_ns + REST_NS_MAX;
    do {
        if (shutdown.waiting == 0) server_order(s, &shutdown);
        if (!server_step(s)) break;
    } while ((conn_count(s) > 0 || shutdown.waiting > 0) && s->clock.now_ns < limit);
    if (conn_count(s) > 0 || shutdown.waiting > 0) {
        fprintf(stderr, "shutdown hangs: %u connections left\n", conn_count(s));
        return false;
    }
    server_run_for(s, QUIET_NS_MAX); /* loans go home */
    if (!stop_logs(s)) return false;
    s->is_stopping = true;
    for (uint32_t i = 0; i < s->shard_count; i++) hook_wake(s, i);
    for (uint32_t i = 0; i < s->shard_count; i++)
        while (!s->shards[i].is_ended) run_shard(&s->shards[i]);
    while (s->clock.count > 0) clock_advance(&s->clock, clock_next_ns(&s->clock));
    for (uint32_t i = 0; i < s->shard_count; i++)
        if (s->shards[i].driver.buffers_out != 0) {
            fprintf(stderr, "shard %u holds %u received buffers\n", i,
                    s->shards[i].driver.buffers_out);
            return false;
        }
    free_all(s);
    if (s->live_blocks != 0) {
        fprintf(stderr, "%llu blocks were never freed\n", (unsigned long long)s->live_blocks);
        return false;
    }
    return true;
}
