/* Start and stop of the process's threads, and orders to the shards. */
#include "io/server.h"
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "core/base/must.h"
#include "io/conn_tls.h"
#include "io/crypto.h"
#include "io/listener.h"
#include "io/loop.h"
#include "io/sysinfo.h"
#include "io/system_port.h"

enum {
    MAIL_RETRY_NS = 200000,
    OPEN_POLL_NS = 100000,      /* at first; doubles */
    OPEN_POLL_NS_MAX = 3000000, /* a start with 100,000 streams takes a second */
    END_POLL_NS = 500000,
    HELPER_JOBS_MAX = 65536,
    SLOTS_MAX = 1 << 20,
};

uint32_t server_sender_main(const struct server *s)
{
    return s->shard_count;
}

uint32_t server_sender_monitor(const struct server *s)
{
    return s->shard_count + 1;
}

uint32_t server_sender_system(const struct server *s)
{
    return s->shard_count + 2;
}

uint32_t server_sender_helper(const struct server *s, uint32_t helper)
{
    return s->shard_count + 3 + helper;
}

/* --- mail and orders
 * -------------------------------------------------------------------------------- */

void server_mail(struct server *s, uint32_t sender, uint32_t shard, uint16_t kind, const void *body,
                 uint32_t bytes)
{
    struct lane *l = mailbox_lane(s->mail, sender, shard);
    uint32_t need = lane_record_bytes(bytes);
    struct timespec pause = {.tv_nsec = MAIL_RETRY_NS};
    while (!lane_has_room(l, need, need)) nanosleep(&pause, NULL);
    memcpy(lane_append(l, kind, 0, bytes), body, bytes);
    mailbox_publish(s->mail, sender);
}

static void order_done(void *context, struct order *o, uint32_t shard)
{
    struct server *s = context;
    (void)shard;
    pthread_mutex_lock(&s->order_lock);
    must(o->waiting > 0);
    o->waiting--;
    if (o->waiting == 0) pthread_cond_broadcast(&s->order_done);
    pthread_mutex_unlock(&s->order_lock);
}

static bool wait_for(struct server *s, struct order *o, uint64_t timeout_ns)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(timeout_ns / 1000000000u);
    until.tv_nsec += (long)(timeout_ns % 1000000000u);
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    int e = 0;
    pthread_mutex_lock(&s->order_lock);
    while (o->waiting > 0 && e != ETIMEDOUT)
        e = pthread_cond_timedwait(&s->order_done, &s->order_lock, &until);
    bool is_done = o->waiting == 0;
    pthread_mutex_unlock(&s->order_lock);
    return is_done;
}

bool server_order(struct server *s, struct order *o, uint32_t sender, uint64_t timeout_ns)
{
    o->waiting = s->shard_count;
    for (uint32_t i = 0; i < s->shard_count; i++)
        server_mail(s, sender, i, TURN_MAIL_ORDER, &o, sizeof o);
    return wait_for(s, o, timeout_ns);
}

bool server_order_one(struct server *s, struct order *o, uint32_t shard, uint32_t sender,
                      uint64_t timeout_ns)
{
    o->waiting = 1;
    server_mail(s, sender, shard, TURN_MAIL_ORDER, &o, sizeof o);
    return wait_for(s, o, timeout_ns);
}

/* --- orders that nobody waits for any more
 * ------------------------------------------------------------------------------ */

void server_abandon(struct server *s, struct order *o)
{
    pthread_mutex_lock(&s->order_lock);
    o->next = s->abandoned;
    s->abandoned = o;
    pthread_mutex_unlock(&s->order_lock);
}

/* Snapshots are memory of the shards: a second order has each shard free its own. */
static void finish_abandoned(struct server *s, struct order *o, uint32_t sender)
{
    if (o->kind == ORDER_SNAPSHOT) {
        o->kind = ORDER_SNAPSHOT_FREE;
        if (!server_order(s, o, sender, ORDER_WAIT_NS)) {
            server_abandon(s, o);
            return;
        }
    }
    options_free(o->replaced);
    free((void *)o->query);
    free(o->snapshots);
    free(o);
}

/* With is_all also those that shards still work on. Options are main's memory. */
static struct order *take_abandoned(struct server *s, uint32_t sender, bool is_all)
{
    bool is_main = sender == server_sender_main(s);
    pthread_mutex_lock(&s->order_lock);
    struct order **link = &s->abandoned, *o;
    while ((o = *link) != NULL &&
           ((o->waiting > 0 && !is_all) || (o->replaced != NULL && !is_main)))
        link = &o->next;
    if (o != NULL) *link = o->next;
    pthread_mutex_unlock(&s->order_lock);
    return o;
}

void server_reap(struct server *s, uint32_t sender)
{
    struct order *o;
    while ((o = take_abandoned(s, sender, false)) != NULL) finish_abandoned(s, o, sender);
}

/* The shards still run; nobody else gives orders any more. */
static void reap_all(struct server *s)
{
    struct order *o;
    while ((o = take_abandoned(s, server_sender_main(s), true)) != NULL) {
        (void)wait_for(s, o, ORDER_WAIT_FOR_EVER);
        finish_abandoned(s, o, server_sender_main(s));
    }
}

/* --- hooks of the shards
 * ------------------------------------------------------------------------------ */

static void wake(void *context, uint32_t who)
{
    struct server *s = context;
    if (who >= s->shard_count) return; /* helpers and main do not wait for ring positions */
    struct driver *d = s->shards[who].driver;
    d->ops->wake(d);
}

static void on_log(void *context, enum log_level level, struct bytes text)
{
    struct server *s = context;
    static const enum log_label labels[] = {
        [LOG_LEVEL_INF] = LOG_LABEL_INF, [LOG_LEVEL_DBG] = LOG_LABEL_DBG,
        [LOG_LEVEL_WRN] = LOG_LABEL_WRN, [LOG_LEVEL_ERR] = LOG_LABEL_ERR,
        [LOG_LEVEL_FTL] = LOG_LABEL_FTL, [LOG_LEVEL_TRC] = LOG_LABEL_TRC};
    log_text(s->log, labels[level], text);
}

/* A password or signature for a helper: the job is copied, so the shard's may change meanwhile. */
struct crypto_work {
    struct helper_job job;
    struct server *server;
    uint32_t shard;
    struct turn_crypto answer;
    struct login_job work;
};

static void run_crypto(struct helper_job *job, uint32_t helper)
{
    struct crypto_work *w = (struct crypto_work *)job;
    const struct login_job *j = &w->work;
    (void)helper;
    if (j->work == LOGIN_BCRYPT)
        w->answer.is_valid = crypto_bcrypt_matches(bytes_of(j->hash, j->hash_len),
                                                   bytes_of(j->password, j->password_len));
    else
        w->answer.is_valid =
            crypto_ed25519_verify(j->key, bytes_of(j->nonce, j->nonce_len), j->signature);
}

static void crypto_done(struct helper_job *job, uint32_t helper, bool is_cancelled)
{
    struct crypto_work *w = (struct crypto_work *)job;
    struct server *s = w->server;
    if (!is_cancelled)
        server_mail(s, server_sender_helper(s, helper), w->shard, TURN_MAIL_CRYPTO, &w->answer,
                    sizeof w->answer);
    crypto_wipe(&w->work, sizeof w->work);
    free(w);
}

static void on_crypto(void *context, uint32_t shard, struct conn_id conn, void *job,
                      uint64_t ticket)
{
    struct server *s = context;
    struct crypto_work *w = calloc(1, sizeof *w);
    if (w == NULL) return; /* the login runs into its deadline */
    w->job.run = run_crypto;
    w->job.done = crypto_done;
    w->server = s;
    w->shard = shard;
    w->answer = (struct turn_crypto){.conn = conn.bits, .ticket = ticket};
    memcpy(&w->work, job, sizeof w->work);
    if (helper_submit(s->helpers, &w->job) == ERR_OK) return;
    log_error(s->log, "Too many logins wait for their check");
    crypto_wipe(&w->work, sizeof w->work);
    free(w);
}

/* --- start
 * -----------------------------------------------------------------------------------------------
 */

static void choose_driver(struct server *s)
{
    const struct options *o = atomic_load(&s->options);
    if (o->io == OPTIONS_IO_POLL) {
        log_info(s->log, "I/O driver: epoll (asked for by --io poll)");
        return;
    }
    struct driver_options probe = {.slots_max = 16, .recv_buffer_bytes = 256 * 1024};
    struct driver *d;
    const char *reason = "";
    if (driver_ring_open(&probe, &d, &reason) == ERR_OK) {
        d->ops->close(d);
        s->use_ring = true;
        log_info(s->log, "I/O driver: io_uring");
        return;
    }
    log_warn(s->log, "I/O driver: epoll, since io_uring is not to be had: %s", reason);
}

/* Into room of the server, with a zero byte behind it; cut where it does not fit. */
static struct bytes text_copy(char *room, size_t room_bytes, struct bytes text)
{
    snprintf(room, room_bytes, "%.*s", (int)text.len, text.data);
    return bytes_from_text(room);
}

enum err server_identify(struct server *s)
{
    const struct options *o = atomic_load(&s->options);
    uint8_t seed[CRYPTO_KEY_BYTES], key[CRYPTO_KEY_BYTES];
    crypto_random(seed, sizeof seed);
    crypto_ed25519_public(seed, key);
    nkey_encode(NKEY_SERVER, key, s->id_text);
    crypto_random(seed, sizeof seed);
    crypto_x25519_public(seed, key);
    nkey_encode(NKEY_CURVE, key, s->xkey_text);
    crypto_wipe(seed, sizeof seed);
    s->facts.id = bytes_of(s->id_text, NKEY_TEXT_BYTES);
    s->facts.xkey = bytes_of(s->xkey_text, NKEY_TEXT_BYTES);
    /* Copies: the options that these texts come from go with the first reload. */
    s->facts.name = s->facts.id;
    if (o->server_name.len > 0) {
        s->name_text = strndup(o->server_name.data, o->server_name.len);
        if (s->name_text == NULL) return ERR_MEMORY;
        s->facts.name = bytes_from_text(s->name_text);
    }
    s->facts.version = BYTES_LITERAL(SERVER_NATS_VERSION);
    s->facts.go = BYTES_LITERAL("c17");
    s->facts.host = text_copy(s->host_text, sizeof s->host_text, o->host);
    s->facts.start_wall_ns = server_now(NULL).wall_ns;
    return ERR_OK;
}

static void list_cpus(struct server *s)
{
    const struct options *o = atomic_load(&s->options);
    cpu_set_t allowed;
    for (uint32_t i = 0; i < s->shard_count; i++) s->shards[i].cpu = -1;
    if (!o->pin && o->cpus.len == 0) return;
    int list[CPU_SETSIZE], count = 0;
    if (o->cpus.len > 0) {
        count = sysinfo_parse_cpus(o->cpus.data, list, CPU_SETSIZE);
    } else if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
        for (int c = 0; c < CPU_SETSIZE; c++)
            if (CPU_ISSET(c, &allowed)) list[count++] = c;
    }
    for (uint32_t i = 0; i < s->shard_count && count > 0; i++)
        s->shards[i].cpu = list[i % (uint32_t)count];
}

void server_init(struct server *s)
{
    memset(s, 0, sizeof *s);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->order_done, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&s->order_lock, NULL);
    pthread_mutex_init(&s->tls_lock, NULL);
    pthread_mutex_init(&s->figures_lock, NULL);
    pthread_rwlock_init(&s->options_lock, NULL);
}

/* All accounts enter the index before a shard needs one of them. Otherwise the first connections of
 * an account, when they come to two shards at once, meet in its creation, and the one that finds
 * it locked is refused. */
enum err server_open_accounts(struct server *s, const struct options *o)
{
    struct timespec pause = {.tv_nsec = MAIL_RETRY_NS};
    for (uint32_t i = 0; i < o->accounts->account_count; i++) {
        struct interest_account *a;
        enum err e;
        while ((e = interest_account_of(s->interest, o->accounts->accounts[i]->number, &a)) ==
               ERR_BUSY)
            nanosleep(&pause, NULL);
        if (e != ERR_OK) return e;
    }
    return ERR_OK;
}

/* Says what to do about it where the limit is ours. */
static enum err no_memory(struct server *s, char *reason, size_t reason_bytes)
{
    unsigned long long mib = s->budget.process_bytes_max >> 20;
    if (atomic_load(&s->budget.refused) == 0)
        snprintf(reason, reason_bytes, "out of memory");
    else
        snprintf(reason, reason_bytes,
                 "out of memory: max_process_memory (%llu MiB) is too little for %u shards; "
                 "raise it, or lower --shards",
                 mib, s->shard_count);
    return ERR_MEMORY;
}

uint32_t server_clients_of(const struct server_files *f, uint64_t *least)
{
    *least = SERVER_FILES_BASE + (uint64_t)f->shard_count * SERVER_FILES_SHARD +
             (uint64_t)f->log_count * SERVER_FILES_LOG_LEAST;
    uint64_t kept = *least + (uint64_t)f->log_count * (SERVER_FILES_LOG - SERVER_FILES_LOG_LEAST) +
                    (f->has_pages ? SERVER_FILES_PAGES : 0);
    if (kept > f->limit / 2) kept = f->limit / 2;
    if (kept < *least) kept = *least;
    if (f->limit <= kept) return 0;
    return f->limit - kept > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)(f->limit - kept);
}

static enum err share_files(struct server *s, uint32_t log_count, char *reason, size_t reason_bytes)
{
    const struct options *o = atomic_load(&s->options);
    uint64_t least;
    struct server_files f = {.limit = s->files_max,
                             .shard_count = s->shard_count,
                             .log_count = log_count,
                             .has_pages = o->http_port != 0 || o->https_port != 0};
    s->clients_max = server_clients_of(&f, &least);
    if (s->clients_max > 0) return ERR_OK;
    snprintf(reason, reason_bytes,
             "too many open files: the limit is %llu (LimitNOFILE, ulimit -n); with shards: %u the "
             "server needs %llu, and one more for each client",
             (unsigned long long)s->files_max, s->shard_count, (unsigned long long)least);
    return ERR_FULL;
}

enum err server_check_files(struct server *s, char *reason, size_t reason_bytes)
{
    const struct options *o = atomic_load(&s->options);
    s->shard_count = o->shards > 0 ? o->shards : server_default_shards();
    if (s->shard_count > INTEREST_SHARDS_MAX) s->shard_count = INTEREST_SHARDS_MAX;
    s->files_max = sysinfo_raise_files();
    return share_files(s, o->jetstream.is_on ? s->shard_count : 0, reason, reason_bytes);
}

enum err server_start(struct server *s, char *reason, size_t reason_bytes)
{
    const struct options *o = atomic_load(&s->options);
    reason[0] = 0;
    uint64_t slots = o->max_connections > 0 ? (uint64_t)o->max_connections + 64 : 1024;
    if (slots > s->clients_max + SERVER_REFUSED_MAX) slots = s->clients_max + SERVER_REFUSED_MAX;
    if (slots > SLOTS_MAX) slots = SLOTS_MAX;
    s->slots_max = (uint32_t)slots;

    mem_jemalloc_init(&s->shared_mem, &s->budget);
    mem_jemalloc_init(&s->main_mem, &s->budget);
    choose_driver(s);
    if (o->io == OPTIONS_IO_RING && !s->use_ring) {
        snprintf(reason, reason_bytes, "--io ring was asked for, but io_uring is not to be had");
        return ERR_UNSUPPORTED;
    }
    uint64_t seed;
    crypto_random(&seed, sizeof seed);
    if (interest_open(&s->shared_mem.mem, s->shard_count, seed, &s->interest) != ERR_OK)
        return no_memory(s, reason, reason_bytes);
    if (server_open_accounts(s, o) != ERR_OK) return no_memory(s, reason, reason_bytes);
    if (mailbox_open(&s->shared_mem.mem, s->shard_count, s->shard_count + 3 + SERVER_HELPERS,
                     SERVER_RING_BYTES, wake, s, &s->mail) != ERR_OK)
        return no_memory(s, reason, reason_bytes);
    if (helper_open(SERVER_HELPERS, HELPER_JOBS_MAX, &s->helpers) != ERR_OK)
        return no_memory(s, reason, reason_bytes);
    s->shards = calloc(s->shard_count, sizeof *s->shards);
    if (s->shards == NULL) return no_memory(s, reason, reason_bytes);
    enum err e = listener_open(s, reason, reason_bytes);
    if (e != ERR_OK) return e;
    s->hooks = (struct turn_hooks){.now = server_now,
                                   .log = on_log,
                                   .crypto = on_crypto,
                                   .order_done = order_done,
                                   .gone = listener_gone,
                                   .refused = listener_refused,
                                   .system = system_port_take,
                                   .logged_in = listener_logged_in,
                                   .tls = conn_tls_ops(s),
                                   .context = s};
    list_cpus(s);
    for (uint32_t i = 0; i < s->shard_count; i++) {
        struct server_shard *x = &s->shards[i];
        x->server = s;
        x->index = i;
        mem_jemalloc_init(&x->mem, &s->budget);
    }
    if (o->jetstream.is_on) {
        for (uint32_t i = 0; i < s->shard_count; i++) s->shard_mem[i] = &s->shards[i].mem.mem;
        struct storage_options storage = {.log = s->log,
                                          .mem = &s->main_mem.mem,
                                          .numbers = s->numbers,
                                          .options = o,
                                          .shard_count = s->shard_count,
                                          .shard_mem = s->shard_mem,
                                          .budget = &s->budget,
                                          .now = server_now(NULL)};
        e = storage_open(&s->storage, &storage, reason, reason_bytes);
        if (e != ERR_OK) return e;
        for (uint32_t i = 0; i < s->storage.log_count; i++)
            s->storage.logs[i].js.leader = s->facts.name;
        s->has_storage = true;
        /* A store that once had more shards has more logs. */
        e = share_files(s, s->storage.log_count, reason, reason_bytes);
        if (e != ERR_OK) return e;
    }
    if ((int64_t)s->clients_max < o->max_connections)
        log_info(s->log, "Clients: at most %u, by the limit of open files (%llu)", s->clients_max,
                 (unsigned long long)s->files_max);
    for (uint32_t i = s->shard_count; i-- > 0;) {
        struct server_shard *x = &s->shards[i];
        if (mem_jemalloc_thread(&x->thread, loop_run, x) != ERR_OK) {
            snprintf(reason, reason_bytes, "cannot start a thread");
            return ERR_IO;
        }
        x->is_started = true;
        struct timespec pause = {.tv_nsec = OPEN_POLL_NS};
        while (!atomic_load(&x->is_open)) {
            nanosleep(&pause, NULL);
            if (pause.tv_nsec < OPEN_POLL_NS_MAX) pause.tv_nsec *= 2;
        }
        if (x->failure == ERR_MEMORY) return no_memory(s, reason, reason_bytes);
        if (x->failure != ERR_OK) {
            snprintf(reason, reason_bytes, "a shard could not start");
            return x->failure;
        }
    }
    return listener_listen(s, reason, reason_bytes);
}

uint32_t server_default_shards(void)
{
    uint32_t cores = sysinfo_cores_by_quota();
    /* Measured: on two cores one shard beats two, since the second core is the clients'
     * (docs/BENCHMARKS.md). */
    return cores <= 2 ? 1 : cores;
}

/* No shard ends the process: another one may still write, or have worse to tell. */
struct server_end server_join(struct server *s)
{
    struct server_end all = {0};
    struct timespec pause = {.tv_nsec = END_POLL_NS};
    for (uint32_t i = 0; i < s->shard_count; i++) {
        struct server_shard *x = &s->shards[i];
        if (!x->is_started) continue;
        while (!atomic_load(&x->is_ended)) nanosleep(&pause, NULL);
        all.is_unclean = all.is_unclean || x->end.is_unclean;
        all.is_held = all.is_held || x->end.is_held;
        if (!x->end.is_held) pthread_join(x->thread, NULL);
    }
    return all;
}

/* Ends all connections and threads. The caller has stopped accepting or does not care. */
struct server_end server_stop(struct server *s)
{
    struct order o = {.kind = ORDER_SHUTDOWN};
    listener_stop(s);
    /* While every connection is still there, whichever shard it is on. What a shard has to say to a
     * client of another leaves at the end of its turn, and that other one has had a turn behind it
     * when it has done two more orders. */
    for (int i = 0; i < 3; i++) {
        struct order tell = {.kind = ORDER_STOPPING};
        (void)server_order(s, &tell, server_sender_main(s), ORDER_WAIT_FOR_EVER);
    }
    /* However long a turn takes: a shard that was not told keeps its clients, and its loop waits
     * for them to go. */
    for (uint32_t left = 1; left > 0;) {
        (void)server_order(s, &o, server_sender_main(s), ORDER_WAIT_FOR_EVER);
        left = 0;
        for (uint32_t i = 0; i < s->shard_count; i++) left += o.left[i];
    }
    reap_all(s);
    atomic_store(&s->is_stopping, true);
    for (uint32_t i = 0; i < s->shard_count; i++) wake(s, i);
    struct server_end end = server_join(s);
    helper_close(s->helpers);
    return end;
}

void server_free(struct server *s)
{
    if (s->has_storage) storage_close(&s->storage);
    for (uint32_t i = 0; i < s->shard_count; i++) {
        mem_jemalloc_deinit(&s->shards[i].mem);
    }
    listener_close(s);
    mailbox_close(s->mail);
    interest_close(s->interest);
    mem_jemalloc_deinit(&s->shared_mem);
    mem_jemalloc_deinit(&s->main_mem);
    free(s->shards);
    s->shards = NULL;
    free(s->name_text);
}
