#include "tests/sim/simstore.h"
#include <stdlib.h>
#include <string.h>
#include "core/auth/account.h"
#include "core/base/must.h"
#include "core/js/checkpoint.h"
#include "persist/place.h"

enum {
    STAGING_BYTES = 512 * 1024,
    MEMORY_BYTES_MAX = 16 << 20,
    QUICK_NS = 20000,   /* an operation takes so long at least */
    USUAL_NS = 400000,  /* and up to so much more */
    SLOW_NS = 30000000, /* or that */
    SYNC_INTERVAL_NS = 1000000000,
    PIECE = 3, /* of a checkpoint, in messages, gaps or ids */
    SCRUB_WAIT_NS = 50000000,
    STREAM_IDS_STEP = 8, /* as io/storage: ids of two shards never meet */
};

/* Of the store; checkpoints hold hashes of message ids that depend on it. */
static const uint64_t SECRET = 0x7777777712345678;

void simstore_init(struct simstore *x, uint64_t seed)
{
    memset(x, 0, sizeof *x);
    disk_init(&x->disk, seed ^ UINT64_C(0xd15c));
    rng_init(&x->rng, seed ^ UINT64_C(0x5708e));
    x->segment_bytes = 64 * 1024u << rng_below(&x->rng, 3);
    x->group_bytes = 16 * 1024u << rng_below(&x->rng, 2);
    x->slow = 20 + rng_below(&x->rng, 200);
}

void simstore_deinit(struct simstore *x)
{
    disk_deinit(&x->disk);
}

/* --- the disk as a shard sees it ---------------------------------------------------------- */

static void on_op_done(struct vfs_op *op)
{
    struct simstore_op *o = op->context;
    net_driver_file_done(o->shard->driver, o);
}

static void on_time(void *disk, uint64_t unused)
{
    (void)unused;
    (void)disk_step(disk);
}

static uint64_t latency(struct simstore *x)
{
    if (rng_below(&x->rng, x->slow) == 0) return SLOW_NS;
    return QUICK_NS + rng_below(&x->rng, USUAL_NS);
}

static enum err on_submit(struct vfs *v, struct vfs_op *op)
{
    struct simstore_shard *s = (struct simstore_shard *)v;
    struct simstore *x = s->store;
    struct simstore_op *o = malloc(sizeof *o);
    must(o != NULL);
    *o = (struct simstore_op){.op = *op, .of = op, .shard = s, .next = s->ops, .place = &s->ops};
    o->op.done = on_op_done;
    o->op.context = o;
    enum err e = x->disk.vfs.ops->submit(&x->disk.vfs, &o->op);
    if (e != ERR_OK) {
        free(o);
        return e;
    }
    if (o->next != NULL) o->next->place = &o->next;
    s->ops = o;
    clock_set(x->life.clock, latency(x), on_time, &x->disk, 0);
    return ERR_OK;
}

static enum err on_write_now(struct vfs *v, struct vfs_op *op)
{
    struct simstore *x = ((struct simstore_shard *)v)->store;
    if (latency(x) == SLOW_NS) return ERR_BUSY; /* the page cache has no room at hand */
    return vfs_write_now(&x->disk.vfs, op);
}

static const struct vfs_ops OPS = {.submit = on_submit, .write_now = on_write_now};

static void crash(struct simstore *x)
{
    if (x->is_relaxed)
        disk_kill(&x->disk);
    else
        disk_crash(&x->disk);
}

static void forget(struct simstore_op *o)
{
    *o->place = o->next;
    if (o->next != NULL) o->next->place = o->place;
    free(o);
}

void simstore_done(struct simstore *x, void *user)
{
    struct simstore_op *o = user;
    struct vfs_op *of = o->of;
    must(o->shard->store == x);
    of->result = o->op.result;
    of->bytes_done = o->op.bytes_done;
    of->size = o->op.size;
    of->file = o->op.file;
    forget(o);
    of->done(of);
}

/* --- recovery ----------------------------------------------------------------------------- */

static bool pump(void *context)
{
    struct simstore *x = context;
    if (x->steps_left > 0 && --x->steps_left == 0) {
        x->is_off = true;
        crash(x);
    }
    return !x->is_off && disk_step(&x->disk);
}

/* Of a replay: the manifest that is written at its end says it. */
static void scrub_later(void *context, uint64_t place)
{
    struct simstore *x = context;
    manifest_scrub(&x->recovery.logs[place_log(place)], place);
}

static void scrub(void *context, uint64_t place)
{
    slog_scrub(context, place);
}

static struct js *js_of(struct simstore *x, uint32_t log)
{
    must(log < SIMSTORE_LOGS_MAX);
    struct js *js = &x->shards[log].js;
    if (x->shards[log].has_js) return js;
    js_init(js, x->life.shard_mem[log % x->life.shard_count], NULL, SECRET, MEMORY_BYTES_MAX);
    js->log = log;
    js->id_next = log + 1;
    js->id_step = STREAM_IDS_STEP;
    js->directory = log % x->life.shard_count == 0 ? &x->directory : NULL;
    js->message_bytes_max = x->life.message_bytes_max;
    js->now = x->life.now;
    js->total.memory.max = -1;
    js->total.storage.max = -1;
    rng_init(&js->rng, rng_next(&x->rng));
    js->scrub = scrub_later;
    js->scrub_context = x;
    x->shards[log].has_js = true;
    return js;
}

/* As io/storage: a stream lies in one log for ever. */
static enum err on_record(void *context, const struct record *r, const struct store_stub *stub)
{
    struct simstore *x = context;
    uint32_t account = 0;
    struct js *js = js_of(x, place_log(stub->place));
    if (r->kind == RECORD_STREAM || r->kind == RECORD_CHECKPOINT) {
        struct bytes of = r->subject;
        if (r->kind == RECORD_CHECKPOINT && checkpoint_name(r->body, &of) != ERR_OK) {
            x->skipped++;
            return ERR_OK;
        }
        struct bytes name = bytes_of(of.data, bytes_find(of, ' '));
        enum err e = account_numbers_of(x->life.numbers, name, &account);
        if (e != ERR_OK) return e;
    }
    enum err e = js_replay(js, account, r, stub->place);
    if (e == ERR_UNKNOWN) return ERR_OK; /* of something that is gone */
    if (e == ERR_OK || e == ERR_MEMORY) return e;
    x->skipped++;
    return ERR_OK;
}

static void on_expected(void *context, uint32_t log, uint64_t stream, enum store_nearness nearness)
{
    struct simstore *x = context;
    js_expect(js_of(x, log), stream, nearness);
}

static void on_lost(void *context, const struct store_lost *lost)
{
    struct simstore *x = context;
    js_replay_lost(js_of(x, lost->log), lost);
    if (lost->kind == STORE_LOST_DAMAGED)
        x->damaged++;
    else
        x->cuts++;
}

uint32_t simstore_log_count(const struct simstore *x)
{
    return x->recovery.log_count;
}

static enum err fill_directory(struct simstore *x)
{
    directory_init(&x->directory, x->life.shard_mem[0], SECRET);
    x->has_directory = true;
    for (uint32_t i = 0; i < simstore_log_count(x); i++) {
        struct js *js = js_of(x, i);
        js_replay_end(js);
        js_reserve_ids(js, x->recovery.stream_max);
        enum err e = js_enter(js, &x->directory, &x->twins);
        if (e != ERR_OK) return e;
    }
    return ERR_OK;
}

enum err simstore_open(struct simstore *x, const struct simstore_life *life)
{
    x->life = *life;
    x->steps_left = life->steps;
    x->is_off = false;
    memset(x->disk.handles, 0, sizeof x->disk.handles); /* a new process */
    x->blocking = (struct blocking){.vfs = &x->disk.vfs, .pump = pump, .context = x};
    struct recovery_options o = {
        .blocking = &x->blocking,
        .mem = life->mem,
        .log_count = life->shard_count,
        .new_store = 7,
        .new_secret = SECRET,
        .is_direct = true,
        .replay = {.context = x, .record = on_record, .lost = on_lost, .expect = on_expected}};
    enum err e = recovery_open(&x->recovery, &o);
    if (e == ERR_OK && x->is_off) {
        recovery_close(&x->recovery);
        e = ERR_CLOSED;
    }
    if (x->is_off) x->disk.op_count = 0; /* asked of a machine without power */
    if (e != ERR_OK) return e;
    x->is_recovered = true;
    x->cut_groups += x->recovery.counts.cut_groups;
    return fill_directory(x);
}

/* --- the logs ----------------------------------------------------------------------------- */

static enum store_fate fate(void *context, uint64_t stream, uint64_t seq, uint64_t place)
{
    const struct simstore_shard *s = context;
    return checkpoint_fate(&s->js, false, stream, seq, place);
}

static uint64_t count_live(void *context, uint64_t stream, uint64_t seq_first, uint64_t seq_last)
{
    const struct simstore_shard *s = context;
    return checkpoint_count(&s->js, false, stream, seq_first, seq_last);
}

static enum err moved(void *context, uint64_t stream, uint64_t seq, uint64_t from, uint64_t to,
                      uint32_t bytes)
{
    struct simstore_shard *s = context;
    s->store->moves++;
    return checkpoint_moved(&s->js, stream, seq, from, to);
}

static enum err checkpoint(void *context, uint64_t stream, struct text *out)
{
    struct simstore_shard *s = context;
    uint64_t now_ns = s->store->life.clock->now_ns;
    s->store->checkpoints++;
    s->js.clock = (struct shard_time){
        .mono_ns = now_ns, .wall_ns = CLOCK_WALL_START_S * INT64_C(1000000000) + (int64_t)now_ns};
    s->js.told_ticket = s->log.told_ticket;
    s->js.checkpoint_step = PIECE; /* so that the power goes between two */
    enum err e = checkpoint_write(&s->js, stream, out);
    s->store->pieces += e == ERR_INCOMPLETE;
    return e;
}

/* The job of packing waits for the disk where it stands; others' operations may end meanwhile. */
static bool pump_files(void *disk)
{
    return disk_step(disk);
}

enum err simstore_open_log(struct simstore *x, uint32_t log, struct net_driver *d)
{
    struct simstore_shard *s = &x->shards[log];
    s->vfs.ops = &OPS;
    s->store = x;
    s->driver = d;
    s->hooks = (struct store_hooks){
        .context = s, .fate = fate, .moved = moved, .checkpoint = checkpoint, .count = count_live};
    x->files = (struct blocking){.vfs = &x->disk.vfs, .pump = pump_files, .context = &x->disk};
    struct slog_options o = {.vfs = &s->vfs,
                             .mem = s->js.mem,
                             .segment_bytes = x->segment_bytes,
                             .group_bytes = x->group_bytes,
                             .staging_bytes = STAGING_BYTES,
                             .cache_bytes = STAGING_BYTES,
                             .is_direct = true,
                             .sync_interval_ns = x->is_relaxed ? SYNC_INTERVAL_NS : 0,
                             .hooks = x->frees ? &s->hooks : NULL,
                             .files = &x->files,
                             .files_mem = s->js.mem,
                             .scrub_wait_ns = SCRUB_WAIT_NS,
                             .sealed_wait = 2};
    const struct manifest *own = &x->recovery.logs[log];
    enum err e = slog_open(&s->log, &o, own, own, 1);
    if (e != ERR_OK) return e;
    s->js.file = &s->log.store;
    s->js.scrub = scrub;
    s->js.scrub_context = &s->log;
    s->has_log = true;
    return ERR_OK;
}

struct js *simstore_js(struct simstore *x, uint32_t shard)
{
    return &x->shards[shard].js;
}

struct slog *simstore_log(struct simstore *x, uint32_t shard)
{
    return &x->shards[shard].log;
}

static bool next_event(struct store *store, struct store_event *out)
{
    return slog_next_event((struct slog *)(void *)store, out);
}

struct shard_store simstore_port(struct simstore *x, uint32_t shard)
{
    return (struct shard_store){.store = &x->shards[shard].log.store, .next = next_event};
}

bool simstore_is_ready(const struct simstore *x)
{
    for (uint32_t i = 0; i < simstore_log_count(x); i++)
        if (x->shards[i].log.state == SLOG_OPENING && !x->shards[i].log.has_no_space) return false;
    return true;
}

bool simstore_is_read_only(const struct simstore *x)
{
    for (uint32_t i = 0; i < simstore_log_count(x); i++)
        if (x->shards[i].has_log && x->shards[i].log.state == SLOG_READ_ONLY) return true;
    return false;
}

void simstore_stop_log(struct simstore *x, uint32_t shard)
{
    slog_stop(&x->shards[shard].log);
}

bool simstore_is_stopped(const struct simstore *x, uint32_t shard)
{
    const struct simstore_shard *s = &x->shards[shard];
    return s->log.state == SLOG_STOPPED || (s->log.state == SLOG_READ_ONLY && s->ops == NULL);
}

static void count(struct simstore *x, const struct slog *l)
{
    x->records += l->counts.records;
    x->failures += l->counts.failures;
    x->segments += l->counts.segments;
    x->dropped += l->compact.counts.dropped;
    x->rewritten += l->compact.counts.rewritten;
}

void simstore_close_log(struct simstore *x, uint32_t shard)
{
    struct simstore_shard *s = &x->shards[shard];
    if (!s->has_log) return;
    count(x, &s->log);
    slog_close(&s->log);
    s->has_log = false;
}

void simstore_close(struct simstore *x)
{
    if (x->is_recovered) recovery_close(&x->recovery);
    x->is_recovered = false;
    for (uint32_t i = 0; i < SIMSTORE_LOGS_MAX; i++) {
        if (x->shards[i].has_js) js_deinit(&x->shards[i].js);
        x->shards[i].has_js = false;
    }
    if (x->has_directory) directory_deinit(&x->directory);
    x->has_directory = false;
}

void simstore_crash(struct simstore *x)
{
    crash(x);
    for (uint32_t i = 0; i < SIMSTORE_LOGS_MAX; i++) {
        struct simstore_shard *s = &x->shards[i];
        if (s->has_log) count(x, &s->log);
        while (s->ops != NULL) forget(s->ops);
        s->has_log = s->has_js = false;
    }
    x->is_recovered = x->has_directory = false;
}
