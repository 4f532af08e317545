#include "io/storage.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>
#include "core/auth/account.h"
#include "core/base/must.h"
#include "core/js/checkpoint.h"
#include "core/monitor/js_snapshot.h"
#include "core/route/interest.h"
#include "io/crypto.h"
#include "io/sysinfo.h"
#include "io/vfs_blocking.h"
#include "persist/place.h"

enum {
    STAGING_BYTES = 16 << 20, /* groups on their way, and the tail that stays readable */
    CACHE_BYTES = 16 << 20,
    SEALED_WAIT = 2, /* full segments that are left as they are: much in them may go by itself */
    FOLDER_MODE = 0750,
    FILE_MODE = 0640,
};
static const uint64_t PROGRESS_NS = 5000000000u;

/* --- the folder ------------------------------------------------------------------------------ */

/* Where streams are kept when nobody says where: a folder that outlives a restart of the machine.
 */
static void default_folder(char *out, size_t bytes)
{
    const char *state = getenv("STATE_DIRECTORY"); /* of systemd's StateDirectory= */
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    if (state != NULL && state[0] == '/')
        snprintf(out, bytes, "%.*s", (int)strcspn(state, ":"), state);
    else if (geteuid() == 0)
        snprintf(out, bytes, "/var/lib/millrace");
    else if (data != NULL && data[0] == '/')
        snprintf(out, bytes, "%s/millrace", data);
    else if (home != NULL && home[0] == '/')
        snprintf(out, bytes, "%s/.local/share/millrace", home);
    else
        snprintf(out, bytes, "/var/lib/millrace");
}

static bool make_folders(char *path)
{
    for (char *at = path + 1; *at != 0; at++) {
        if (*at != '/') continue;
        *at = 0;
        int result = mkdir(path, FOLDER_MODE);
        *at = '/';
        if (result != 0 && errno != EEXIST && errno != EROFS && errno != EACCES) return false;
    }
    return mkdir(path, FOLDER_MODE) == 0 || errno == EEXIST;
}

static enum err take_folder(struct storage *x, char *reason, size_t reason_bytes)
{
    char base[PATH_MAX - 32], path[PATH_MAX];
    struct bytes dir = x->options->store_dir;
    if (dir.len >= sizeof base) {
        snprintf(reason, reason_bytes, "the path of store_dir is too long");
        return ERR_TOO_LONG;
    }
    if (dir.len > 0)
        snprintf(base, sizeof base, "%.*s", (int)dir.len, dir.data);
    else
        default_folder(base, sizeof base);
    snprintf(x->folder, sizeof x->folder, "%s/jetstream", base);
    if (!make_folders(x->folder)) {
        snprintf(reason, reason_bytes, "could not create storage directory - %s: %s", x->folder,
                 strerror(errno));
        return ERR_DENIED;
    }
    snprintf(path, sizeof path, "%.*s/lock", (int)sizeof path - 8, x->folder);
    x->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, FILE_MODE);
    if (x->lock_fd < 0) {
        snprintf(reason, reason_bytes, "storage directory is not writable: %s: %s", path,
                 strerror(errno));
        return ERR_DENIED;
    }
    if (flock(x->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        snprintf(reason, reason_bytes,
                 "another server uses the storage directory %s (%s is locked)", x->folder, path);
        close(x->lock_fd);
        x->lock_fd = -1;
        return ERR_DENIED;
    }
    return ERR_OK;
}

/* Some file systems have no direct I/O; there each commit goes through the page cache and is
 * flushed, which is as safe and costs a copy. */
static bool probe_direct(const struct storage *x)
{
    char path[PATH_MAX];
    void *block;
    snprintf(path, sizeof path, "%.*s/probe", (int)sizeof path - 8, x->folder);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_DIRECT, FILE_MODE);
    if (fd < 0) return false;
    bool is_good = posix_memalign(&block, VFS_DIRECT_ALIGN, VFS_DIRECT_ALIGN) == 0;
    if (is_good) {
        memset(block, 0, VFS_DIRECT_ALIGN);
        is_good = pwrite(fd, block, VFS_DIRECT_ALIGN, 0) == VFS_DIRECT_ALIGN;
        free(block);
    }
    close(fd);
    unlink(path);
    return is_good;
}

/* --- recovery -------------------------------------------------------------------------------- */

/* Streams lie on the shard that the hash of their account and name says; which log their records
 * are in does not matter. */
static uint32_t shard_of(const struct storage *x, struct bytes account_and_name)
{
    return js_place(account_and_name, x->shard_count);
}

static void seed(struct storage *x)
{
    if (x->is_seeded) return;
    x->is_seeded = true;
    for (uint32_t i = 0; i < x->shard_count; i++) {
        struct js *js = &x->shards[i].js;
        js->seed = x->recovery.root.secret;
        rng_init(&js->rng, js->seed + x->recovery.root.incarnation * INTEREST_SHARDS_MAX + i);
    }
}

static enum err on_record(void *context, const struct record *r, const struct store_stub *stub)
{
    struct storage *x = context;
    uint32_t account = 0, shard = 0;
    seed(x);
    if (r->kind == RECORD_STREAM || r->kind == RECORD_CHECKPOINT) {
        struct bytes of = r->subject;
        if (r->kind == RECORD_CHECKPOINT && checkpoint_name(r->body, &of) != ERR_OK) {
            x->has_refused = true;
            x->skipped_count++;
            return ERR_OK;
        }
        enum err e =
            account_numbers_of(x->numbers, bytes_of(of.data, bytes_find(of, ' ')), &account);
        if (e != ERR_OK) return e;
        shard = shard_of(x, of);
    } else {
        while (shard < x->shard_count && js_find_id(&x->shards[shard].js, r->stream) == NULL)
            shard++;
        if (shard == x->shard_count) return ERR_OK; /* of a stream that is gone */
    }
    if (stub->place != 0 && place_log(stub->place) != shard) x->is_mixed = true;
    enum err e = js_replay(&x->shards[shard].js, account, r, stub->place);
    if (e == ERR_UNKNOWN) return ERR_OK; /* of something that is gone */
    if (e == ERR_OK || e == ERR_MEMORY) return e;
    if (r->kind == RECORD_STREAM || r->kind == RECORD_CHECKPOINT) x->has_refused = true;
    x->skipped_count++;
    return ERR_OK;
}

static void on_lost(void *context, const struct store_lost *lost)
{
    struct storage *x = context;
    if (lost->kind == STORE_LOST_CUT) {
        x->cut_count++;
        return;
    }
    x->damaged_count++;
    for (uint32_t i = 0; i < x->shard_count; i++) x->shards[i].js.is_damaged = true;
    log_error(x->log, "JetStream: damaged in the store: log %u, %s %u, %llu bytes at %llu%s",
              lost->log, lost->is_packed ? "pack" : "segment", lost->segment,
              (unsigned long long)lost->bytes, (unsigned long long)lost->offset,
              lost->has_count ? "" : " (records not counted)");
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void on_progress(void *context, uint64_t done, uint64_t total)
{
    struct storage *x = context;
    uint64_t now = now_ns();
    if (now - x->told_ns < PROGRESS_NS || total == 0) return;
    x->told_ns = now;
    log_info(x->log, "  Recovering: %llu of %llu MiB", (unsigned long long)(done >> 20),
             (unsigned long long)(total >> 20));
}

static bool pump(void *context)
{
    return vfs_blocking_step(context);
}

static void explain(enum err e, const struct storage *x, char *reason, size_t reason_bytes)
{
    const char *why =
        e == ERR_UNSUPPORTED ? "it was written by a newer version; nothing was touched"
        : e == ERR_CORRUPT ? "its root or a manifest is damaged in both copies; nothing was touched"
                           : err_text(e);
    snprintf(reason, reason_bytes, "cannot open the store %s: %s", x->folder, why);
}

static enum err recover(struct storage *x, char *reason, size_t reason_bytes)
{
    struct vfs_blocking vfs;
    uint64_t random[2];
    enum err e = vfs_blocking_open(&vfs, x->folder);
    if (e != ERR_OK) {
        explain(e, x, reason, reason_bytes);
        return e;
    }
    crypto_random(random, sizeof random);
    struct blocking blocking = {.vfs = &vfs.vfs, .pump = pump, .context = &vfs};
    struct recovery_options o = {
        .blocking = &blocking,
        .mem = x->mem,
        .log_count = x->shard_count,
        .new_store = random[0],
        .new_secret = random[1],
        .is_direct = x->is_direct,
        .replay = {.context = x, .record = on_record, .lost = on_lost, .progress = on_progress}};
    x->told_ns = now_ns();
    e = recovery_open(&x->recovery, &o);
    if (e == ERR_OK)
        seed(x);
    else
        explain(e, x, reason, reason_bytes);
    vfs_blocking_close(&vfs);
    return e;
}

/* --- life ------------------------------------------------------------------------------------ */

static void tell_open(const struct storage *x, uint64_t began_ns)
{
    const struct recovery_counts *c = &x->recovery.counts;
    uint64_t streams = 0, messages = 0, consumers = 0;
    for (uint32_t i = 0; i < x->shard_count; i++) {
        uint32_t at = 0;
        const struct js_stream *s;
        while ((s = js_each(&x->shards[i].js, &at)) != NULL) {
            streams++;
            messages += s->stream.msgs.live_count;
            consumers += s->stream.consumer_count;
        }
    }
    if (streams > 0)
        log_info(x->log,
                 "  Restored %llu streams with %llu messages and %llu consumers in %llu ms "
                 "(%llu MiB read)",
                 (unsigned long long)streams, (unsigned long long)messages,
                 (unsigned long long)consumers,
                 (unsigned long long)((now_ns() - began_ns) / 1000000),
                 (unsigned long long)(c->bytes_read >> 20));
    if (x->damaged_count > 0)
        log_warn(x->log,
                 "JetStream: %llu damaged ranges in the store; what was in them is lost, "
                 "everything else is served",
                 (unsigned long long)x->damaged_count);
    if (x->skipped_count > 0)
        log_warn(x->log, "JetStream: %llu records made no sense and were passed over",
                 (unsigned long long)x->skipped_count);
}

/* Three quarters of what is free, and of what streams hold already; 0 where nobody can tell. */
static int64_t free_disk(const struct storage *x)
{
    struct statvfs disk;
    uint64_t held = 0;
    if (statvfs(x->folder, &disk) != 0) return 0;
    for (uint32_t i = 0; i < x->shard_count; i++) {
        uint32_t at = 0;
        const struct js_stream *s;
        while ((s = js_each(&x->shards[i].js, &at)) != NULL)
            if (s->stream.config.storage != STREAM_MEMORY) held += s->stream.bytes;
    }
    return (int64_t)((uint64_t)disk.f_bavail * disk.f_frsize / 4 * 3 + held / 4 * 3);
}

static void free_shards(struct storage *x)
{
    for (uint32_t i = 0; i < x->shard_count; i++)
        if (x->shards[i].has_js) js_deinit(&x->shards[i].js);
    free(x->shards);
    x->shards = NULL;
}

/* As the file said it: reloads do not change it. */
static void tell_durability(struct storage *x, int64_t sync_interval_ns)
{
    x->sync_interval_ns = (uint64_t)sync_interval_ns;
    if (sync_interval_ns == 0)
        log_info(x->log, "  Durability:      always (acknowledged is on disk)");
    else
        log_info(x->log,
                 "  Durability:      sync_interval %lld ms (acknowledged survives the end of the "
                 "process; a power cut may take what was not flushed)",
                 (long long)((sync_interval_ns + 999999) / 1000000));
}

enum err storage_open(struct storage *x, const struct storage_options *o, char *reason,
                      size_t reason_bytes)
{
    uint64_t began_ns = now_ns();
    const struct options_jetstream *j = &o->options->jetstream;
    *x = (struct storage){.log = o->log,
                          .mem = o->mem,
                          .numbers = o->numbers,
                          .options = o->options,
                          .lock_fd = -1,
                          .budget = o->budget,
                          .shard_count = o->shard_count};
    enum err e = take_folder(x, reason, reason_bytes);
    if (e != ERR_OK) return e;
    x->shards = calloc(o->shard_count, sizeof *x->shards);
    if (x->shards == NULL) {
        close(x->lock_fd);
        return ERR_MEMORY;
    }
    snprintf(x->domain, sizeof x->domain, "%.*s", (int)j->domain.len, j->domain.data);
    x->memory_max =
        j->memory_bytes_max >= 0 ? j->memory_bytes_max : (int64_t)(sysinfo_memory_limit() / 4 * 3);
    uint64_t memory = (uint64_t)x->memory_max;
    for (uint32_t i = 0; i < o->shard_count; i++) {
        struct js *js = &x->shards[i].js;
        js_init(js, o->shard_mem[i], NULL, 0, memory);
        js->id_next = i + 1;
        js->id_step = INTEREST_SHARDS_MAX;
        js->domain = bytes_from_text(x->domain);
        js->is_lenient = !j->is_strict;
        js->duplicate_window_max = j->duplicate_window_ns;
        js->max_ack_pending = j->max_ack_pending;
        js->max_batch = j->max_request_batch;
        js->consumers_default_max = j->default_max_consumers > 0 ? j->default_max_consumers : 0;
        js->message_bytes_max = (uint64_t)o->options->max_payload;
        js->now = o->now;
        js->total.memory.max = j->memory_bytes_max;
        js->total.storage.max = j->storage_bytes_max;
        x->shards[i].has_js = true;
        x->shards[i].storage = x;
    }
    x->is_direct = probe_direct(x);
    log_info(x->log, "Starting JetStream");
    log_info(x->log, "---------------- JETSTREAM ----------------");
    log_info(x->log, "  Strict:          %s", j->is_strict ? "true" : "false");
    log_info(x->log, "  Max Memory:      %llu MiB", (unsigned long long)(memory >> 20));
    log_info(x->log, "  Store Directory: \"%s\"", x->folder);
    tell_durability(x, j->sync_interval_ns);
    if (j->domain.len > 0)
        log_info(x->log, "  Domain:          %.*s", (int)j->domain.len, j->domain.data);
    if (!x->is_direct)
        log_warn(x->log, "  The file system has no direct I/O: commits go through the page cache "
                         "and are flushed one by one, which is slower");
    e = recover(x, reason, reason_bytes);
    if (e != ERR_OK) {
        free_shards(x);
        close(x->lock_fd);
        return e;
    }
    for (uint32_t i = 0; i < x->shard_count; i++) {
        js_replay_end(&x->shards[i].js);
        js_reserve_ids(&x->shards[i].js, x->recovery.stream_max);
    }
    if (x->is_mixed)
        log_warn(x->log, "JetStream: the number of shards is another than before: space of "
                         "messages that go is not freed");
    else if (x->damaged_count > 0 || x->recovery.counts.read_errors > 0 || x->has_refused)
        /* A stream may be missing here whose messages are whole, or messages that can be read
         * tomorrow: nothing that was not understood is let go of (P6). */
        log_warn(x->log, "JetStream: parts of the store could not be read: until a start finds it "
                         "whole, space of messages that go is not freed");
    else if (helper_open(1, x->shard_count, &x->packers) != ERR_OK)
        log_warn(x->log, "JetStream: no thread for packing: space of messages that go is not "
                         "freed");
    x->storage_max = j->storage_bytes_max >= 0 ? j->storage_bytes_max : free_disk(x);
    x->shards[0].recovery_ns = (int64_t)(now_ns() - began_ns);
    x->shards[0].damaged_ranges = x->recovery.counts.damaged_ranges;
    x->shards[0].damaged_bytes = x->recovery.counts.damaged_bytes;
    log_info(x->log, "  Max Storage:     %lld MiB", (long long)(x->storage_max >> 20));
    tell_open(x, began_ns);
    log_info(x->log, "-------------------------------------------");
    return ERR_OK;
}

void storage_close(struct storage *x)
{
    helper_close(x->packers);
    recovery_close(&x->recovery);
    free_shards(x);
    close(x->lock_fd);
}

/* --- packing --------------------------------------------------------------------------------- */

static void run_job(struct helper_job *job, uint32_t helper)
{
    struct storage_packing *p = (void *)((char *)job - offsetof(struct storage_packing, job));
    while (packer_step(p->packer)) continue;
}

static void job_done(struct helper_job *job, uint32_t helper, bool is_cancelled)
{
    struct storage_packing *p = (void *)((char *)job - offsetof(struct storage_packing, job));
    /* The shard looks every few milliseconds. Nothing may follow: the log may end now. */
    atomic_store_explicit(&p->is_done, true, memory_order_release);
}

static bool start_job(void *context, struct packer *packer)
{
    struct storage_shard *s = context;
    s->packing.packer = packer;
    s->packing.job = (struct helper_job){.run = run_job, .done = job_done};
    atomic_store_explicit(&s->packing.is_done, false, memory_order_relaxed);
    return helper_submit(s->storage->packers, &s->packing.job) == ERR_OK;
}

static bool job_is_done(void *context)
{
    struct storage_shard *s = context;
    return atomic_load_explicit(&s->packing.is_done, memory_order_acquire);
}

static enum store_fate fate(void *context, uint64_t stream, uint64_t seq, uint64_t place)
{
    const struct storage_shard *s = context;
    return checkpoint_fate(&s->js, s->storage->damaged_count > 0, stream, seq, place);
}

static bool needs(void *context, uint64_t stream, uint64_t seq_first, uint64_t seq_last)
{
    const struct storage_shard *s = context;
    return checkpoint_needs(&s->js, s->storage->damaged_count > 0, stream, seq_first, seq_last);
}

static enum err moved(void *context, uint64_t stream, uint64_t seq, uint64_t from, uint64_t to,
                      uint32_t bytes)
{
    struct storage_shard *s = context;
    return checkpoint_moved(&s->js, stream, seq, from, to);
}

static enum err checkpoint(void *context, uint64_t stream, struct text *out)
{
    struct storage_shard *s = context;
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    s->js.clock = (struct shard_time){.mono_ns = s->log.now_ns,
                                      .wall_ns = (int64_t)wall.tv_sec * 1000000000 + wall.tv_nsec};
    s->js.told_ticket = s->log.told_ticket;
    return checkpoint_write(&s->js, stream, out);
}

/* Without it the log works as well, and only grows. */
static void open_packing(struct storage *x, struct storage_shard *s)
{
    struct storage_packing *p = &s->packing;
    if (x->packers == NULL || vfs_blocking_open(&p->vfs, x->folder) != ERR_OK) return;
    p->files = (struct blocking){.vfs = &p->vfs.vfs, .pump = pump, .context = &p->vfs};
    p->hooks = (struct store_hooks){
        .context = s, .fate = fate, .moved = moved, .checkpoint = checkpoint, .needs = needs};
    p->helper = (struct slog_helper){.context = s, .start = start_job, .is_done = job_is_done};
    mem_jemalloc_init(&p->mem, x->budget);
    s->has_packing = true;
}

static void close_packing(struct storage_shard *s)
{
    if (!s->has_packing) return;
    vfs_blocking_close(&s->packing.vfs);
    mem_jemalloc_deinit(&s->packing.mem);
    s->has_packing = false;
}

/* --- the log of a shard ---------------------------------------------------------------------- */

enum err storage_open_log(struct storage *x, uint32_t shard, struct driver *d)
{
    struct storage_shard *s = &x->shards[shard];
    enum err e = vfs_driver_open(&s->vfs, d, x->folder);
    if (e != ERR_OK) return e;
    open_packing(x, s);
    struct slog_options o = {.vfs = &s->vfs.vfs,
                             .mem = s->js.mem,
                             .segment_bytes = PLACE_SEGMENT_BYTES_MAX,
                             .group_bytes = COMMIT_GROUP_BYTES,
                             .staging_bytes = STAGING_BYTES,
                             .cache_bytes = CACHE_BYTES,
                             .is_direct = x->is_direct,
                             .sync_interval_ns = x->sync_interval_ns,
                             .sealed_wait = SEALED_WAIT};
    if (s->has_packing) {
        o.hooks = &s->packing.hooks;
        o.files = &s->packing.files;
        o.files_mem = &s->packing.mem.mem;
        o.helper = &s->packing.helper;
    }
    e = slog_open(&s->log, &o, &x->recovery.logs[shard], x->recovery.logs, x->recovery.log_count);
    if (e != ERR_OK) {
        close_packing(s);
        vfs_driver_close(&s->vfs);
        return e;
    }
    s->js.file = &s->log.store;
    s->has_log = true;
    return ERR_OK;
}

bool storage_is_ready(const struct storage *x, uint32_t shard)
{
    const struct slog *l = &x->shards[shard].log;
    return l->state != SLOG_OPENING || l->has_no_space;
}

static struct storage_shard *shard_of_store(struct store *store)
{
    return (void *)((char *)store - offsetof(struct storage_shard, log.store));
}

/* A message that was asked for cannot be read any more. The stream has lost it, and what else lay
 * in that range: nobody knows yet what was asked for of it. */
static void tell_damage(struct storage_shard *s)
{
    struct reader_damage d;
    while (reader_next_damage(&s->log.reader, &d)) {
        const struct store_lost *lost = &d.range;
        struct js_stream *stream = js_find_id(&s->js, d.stream);
        if (stream != NULL) stream->messages_lost++;
        log_error(s->storage->log,
                  "JetStream: damaged in the store: log %u, %s %u, %llu bytes at %llu: read for "
                  "message %llu of stream %.*s",
                  lost->log, lost->is_packed ? "pack" : "segment", lost->segment,
                  (unsigned long long)lost->bytes, (unsigned long long)lost->offset,
                  (unsigned long long)d.seq,
                  stream == NULL ? 0 : (int)stream->stream.config.name.len,
                  stream == NULL ? "" : stream->stream.config.name.data);
    }
}

static bool next_event(struct store *store, struct store_event *out)
{
    bool has_event = slog_next_event((struct slog *)(void *)store, out);
    if (!has_event) tell_damage(shard_of_store(store));
    return has_event;
}

static void count(struct store *store, struct js_store_counts *out)
{
    const struct slog *l = (const struct slog *)(const void *)store;
    const struct storage_shard *s = shard_of_store(store);
    *out = (struct js_store_counts){
        .state = l->state == SLOG_READ_ONLY ? JS_STORE_READ_ONLY
                 : l->has_no_space          ? JS_STORE_FULL
                                            : JS_STORE_OK,
        .records = l->counts.records,
        .groups = l->counts.groups,
        .published_bytes = l->counts.record_bytes,
        .written_bytes =
            l->counts.group_bytes + l->maker.written_bytes + l->compact.counts.pack_bytes,
        .flushes = l->counts.flushes,
        .failures = l->counts.failures,
        .staged_percent = store_staged_percent(store),
        .recovery_ns = s->recovery_ns,
        .damaged_ranges = s->damaged_ranges + l->reader.counts.damaged_ranges,
        .damaged_bytes = s->damaged_bytes + l->reader.counts.damaged_bytes};
}

struct shard_store storage_port(struct storage *x, uint32_t shard)
{
    return (struct shard_store){
        .store = &x->shards[shard].log.store, .next = next_event, .count = count};
}

void storage_stop_log(struct storage *x, uint32_t shard)
{
    slog_stop(&x->shards[shard].log);
}

bool storage_is_stopped(const struct storage *x, uint32_t shard)
{
    const struct storage_shard *s = &x->shards[shard];
    if (slog_is_helped(&s->log)) return false;
    /* One that cannot write any more has nothing to say at its end; only its operations end. */
    return s->log.state == SLOG_STOPPED ||
           (s->log.state == SLOG_READ_ONLY && s->vfs.flying_count == 0);
}

void storage_close_log(struct storage *x, uint32_t shard)
{
    struct storage_shard *s = &x->shards[shard];
    slog_close(&s->log);
    close_packing(s);
    vfs_driver_close(&s->vfs);
    s->has_log = false;
}
