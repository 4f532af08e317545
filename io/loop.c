#include "io/loop.h"
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "core/base/must.h"
#include "io/crypto.h"
#include "io/listener.h"
#include "io/server.h"
#include "io/signals.h"
#include "io/spin.h"
#include "io/sysinfo.h"

enum { QUIET_TURNS = 3, QUIET_NS = 5000000 };
#define LOG_NONE UINT32_MAX
static const uint64_t STOP_NS = 10000000000u;  /* for a log to write its end */
static const uint64_t START_NS = 20000000000u; /* for its first segment */

struct shard_time server_now(void *unused)
{
    struct timespec mono, wall;
    (void)unused;
    clock_gettime(CLOCK_MONOTONIC, &mono);
    clock_gettime(CLOCK_REALTIME, &wall);
    return (struct shard_time){.mono_ns =
                                   (uint64_t)mono.tv_sec * 1000000000u + (uint64_t)mono.tv_nsec,
                               .wall_ns = (int64_t)wall.tv_sec * 1000000000 + wall.tv_nsec};
}

static void pin(const struct server_shard *s)
{
    cpu_set_t set;
    if (s->cpu < 0) return;
    CPU_ZERO(&set);
    CPU_SET(s->cpu, &set);
    if (pthread_setaffinity_np(pthread_self(), sizeof set, &set) != 0)
        log_warn(s->server->log, "Cannot pin shard %u to cpu %d: %s", s->index, s->cpu,
                 strerror(errno));
}

static enum err open_driver(struct server_shard *x)
{
    struct server *s = x->server;
    struct driver_options o = {.slots_max = s->slots_max + TURN_SLOTS_EXTRA,
                               .recv_buffer_bytes = SERVER_RECV_BYTES,
                               .use_io_features = atomic_load(&s->options)->io_features !=
                                                  OPTIONS_IO_FEATURES_NONE};
    const char *reason = "";
    enum err e = s->use_ring ? driver_ring_open(&o, &x->driver, &reason)
                             : driver_poll_open(&o, &x->driver, &reason);
    if (e != ERR_OK)
        log_fatal(s->log, "Shard %u cannot open its %s driver: %s", x->index,
                  s->use_ring ? "io_uring" : "epoll", reason);
    return e;
}

static bool has_log(const struct server_shard *x)
{
    return x->server->has_storage;
}

/* The logs of the shard are its own and every shard_count-th behind it. */
static bool next_log(const struct server_shard *x, uint32_t *log)
{
    const struct server *s = x->server;
    if (!has_log(x)) return false;
    *log = *log == LOG_NONE ? x->index : *log + s->shard_count;
    return *log < s->storage.log_count;
}

/* Completions that are of no connection. */
static void on_done(void *server_shard, struct turn *t, const struct done *d)
{
    struct server_shard *x = server_shard;
    struct server *s = x->server;
    if (d->kind == DONE_FILE) {
        must(has_log(x));
        vfs_driver_done(&s->storage.files[x->index].vfs, d);
        t->file_count++;
    } else if (x->index == 0) {
        listener_on_done(s, t, d);
    }
}

static enum err open_shard(struct server_shard *x)
{
    struct server *s = x->server;
    uint64_t seed;
    crypto_random(&seed, sizeof seed);
    struct shard_config config = {.index = x->index,
                                  .shard_count = s->shard_count,
                                  .mem = &x->mem.mem,
                                  .interest = s->interest,
                                  .options = atomic_load(&s->options),
                                  .server = &s->facts,
                                  .seed = seed,
                                  .slots_max = s->slots_max,
                                  .now = server_now(NULL)};
    struct shard_log logs[PLACE_LOGS_MAX];
    enum err e;
    for (uint32_t log = LOG_NONE; next_log(x, &log);) {
        e = storage_open_log(&s->storage, log, x->driver);
        if (e != ERR_OK) return e;
        logs[config.log_count++] = (struct shard_log){
            .number = log, .js = &s->storage.logs[log].js, .store = storage_port(&s->storage, log)};
    }
    if (has_log(x)) {
        config.logs = logs;
        config.log_total = s->storage.log_count;
        if (x->index == 0) config.directory = &s->storage.directory;
    }
    e = shard_open(&config, &x->shard);
    if (e != ERR_OK) return e;
    struct turn_config turn = {.shard = x->shard,
                               .driver = x->driver,
                               .mail = s->mail,
                               .mem = &x->mem.mem,
                               .hooks = s->hooks,
                               .slots_max = s->slots_max,
                               .on_done = on_done,
                               .on_done_context = x};
    e = turn_open(&turn, &x->turn);
    for (uint32_t log = LOG_NONE; e == ERR_OK && next_log(x, &log);)
        x->turn->logs[x->turn->log_count++] = &s->storage.logs[log].log;
    return e;
}

/* Its streams' subjects are in the index before anybody can publish, and its first segment is made:
 * until then every publish would be refused. */
static void start_log(struct server_shard *x)
{
    struct server *s = x->server;
    uint64_t now_ns = server_now(NULL).mono_ns, give_up_ns = now_ns + START_NS;
    bool is_ready, has_space;
    do {
        (void)turn_run(x->turn, now_ns + QUIET_NS);
        now_ns = server_now(NULL).mono_ns;
        is_ready = has_space = true;
        for (uint32_t log = LOG_NONE; next_log(x, &log);) {
            is_ready = is_ready && storage_is_ready(&s->storage, log);
            has_space = has_space && !s->storage.logs[log].log.has_no_space;
        }
    } while (!is_ready && now_ns < give_up_ns && !signals_end_waits());
    if (signals_end_waits()) return; /* main reads it once all shards are here */
    if (!is_ready || !has_space)
        log_warn(s->log, "JetStream: the store cannot take messages yet: the disk is %s",
                 has_space ? "slow" : "full");
}

static bool is_stopped(const struct server_shard *x)
{
    bool is_over = true;
    for (uint32_t log = LOG_NONE; next_log(x, &log);)
        is_over = is_over && storage_is_stopped(&x->server->storage, log);
    return is_over;
}

/* What is left is the job of a log that may as well end by itself. */
static bool is_written(const struct server_shard *x)
{
    bool is_over = true;
    for (uint32_t log = LOG_NONE; next_log(x, &log);)
        is_over = is_over && storage_is_written(&x->server->storage, log);
    return is_over;
}

/* All that was appended is written, and the manifest says that this is the end. */
static struct server_end stop_log(struct server_shard *x)
{
    struct server *s = x->server;
    if (!has_log(x)) return (struct server_end){0};
    uint64_t now_ns = server_now(NULL).mono_ns, give_up_ns = now_ns + STOP_NS;
    shard_flush(x->shard, server_now(NULL));
    for (uint32_t log = LOG_NONE; next_log(x, &log);) storage_stop_log(&s->storage, log);
    while (!is_stopped(x) && now_ns < give_up_ns) {
        (void)turn_run(x->turn, now_ns + QUIET_NS);
        now_ns = server_now(NULL).mono_ns;
    }
    x->turn->log_count = 0;
    struct server_end end = {.is_unclean = !is_written(x), .is_held = !is_stopped(x)};
    if (end.is_unclean) /* The next start recovers, as after a crash. */
        log_error(s->log, "Shard %u cannot end its log: %s", x->index,
                  end.is_held ? "the disk does not answer" : "it takes no writes");
    else if (end.is_held)
        /* Nothing of a job counts before the log says so; a start removes what it wrote. */
        log_warn(s->log, "Shard %u: the log has ended, but packing has not: the disk is slow",
                 x->index);
    return end;
}

/* On the thread that opened it: a ring has one owner. */
static void close_all(struct server_shard *x)
{
    for (uint32_t log = LOG_NONE; next_log(x, &log);) storage_close_log(&x->server->storage, log);
    turn_close(x->turn);
    shard_close(x->shard);
    x->driver->ops->close(x->driver);
    x->turn = NULL;
    x->shard = NULL;
}

/* How often somebody else took the core from this thread. */
static uint64_t preemption_count(void)
{
    struct rusage u;
    return getrusage(RUSAGE_THREAD, &u) == 0 ? (uint64_t)u.ru_nivcsw : 0;
}

/* Looks again and again for a short while. True: there was work, and it is done. */
static bool spin_for_work(struct turn *t, struct spin *spin, uint32_t budget_ns)
{
    uint64_t preempted = preemption_count();
    /* The first look submits what the last turn sent: that takes its time, and is not the wait. */
    bool has_found = turn_run(t, 0) && t->has_news;
    uint64_t begin = t->now.mono_ns, last = begin, gap = 0;
    while (!has_found && last - begin < budget_ns) {
        has_found = turn_run(t, 0) && t->has_news;
        if (t->now.mono_ns - last > gap) gap = t->now.mono_ns - last;
        last = t->now.mono_ns;
    }
    /* Who took the core is most often the very client that our answer woke: it shares this core, so
     * looking keeps it from working. */
    if (preemption_count() != preempted) gap = SPIN_GAP_NS_MAX + 1;
    spin_ended(spin, has_found && t->is_answered, last - begin, gap);
    return has_found;
}

void loop_turn(struct turn *t, struct spin *spin, const _Atomic bool *is_stopping)
{
    uint32_t budget = spin_budget_ns(spin, t->done_count);
    if (budget > 0 && spin_for_work(t, spin, budget)) return;
    /* The bell that tells of the end may have been heard while we looked: it rings once. */
    if (atomic_load(is_stopping)) return;
    bool has_found = turn_run(t, UINT64_MAX);
    /* The end of a send of its own ends a sleep at once and says nothing about who comes next. */
    bool is_own = has_found && !t->has_news;
    if (budget == 0 && t->slept_ns > 0 && !is_own) spin_slept(spin, t->is_answered, t->slept_ns);
}

void *loop_run(void *server_shard)
{
    struct server_shard *x = server_shard;
    struct server *s = x->server;
    char name[16];
    snprintf(name, sizeof name, "shard-%u", x->index);
    pthread_setname_np(pthread_self(), name);
    pin(x);
    x->failure = open_driver(x);
    if (x->failure == ERR_OK) x->failure = open_shard(x);
    if (x->failure != ERR_OK) {
        log_fatal(s->log, "Shard %u cannot start", x->index);
        atomic_store(&x->is_open, true);
        return NULL;
    }
    interest_online(s->interest, x->index);
    if (has_log(x)) start_log(x);
    atomic_store(&x->is_open, true);
    struct spin spin;
    spin_init(&spin, sysinfo_cores());
    while (!atomic_load_explicit(&s->is_stopping, memory_order_relaxed)) {
        loop_turn(x->turn, &spin, &s->is_stopping);
        mem_jemalloc_budget_look(&s->budget, x->turn->now.mono_ns);
        mem_jemalloc_tell(&x->mem);
    }
    /* Lent payloads go home before anybody ends: until no shard has a connection and nothing comes.
     */
    int quiet = 0;
    while (atomic_load(&s->conn_count) > 0 || quiet < QUIET_TURNS) {
        turn_drop_strangers(x->turn);
        quiet = turn_run(x->turn, server_now(NULL).mono_ns + QUIET_NS) ? 0 : quiet + 1;
    }
    x->end = stop_log(x);
    interest_offline(s->interest, x->index);
    if (!x->end.is_held) close_all(x);
    bool is_held = x->end.is_held;
    atomic_store(&x->is_ended, true);
    /* Operations that are under way write to memory of this thread: all stays as it is. */
    while (is_held) pause();
    return NULL;
}
