#include "io/storage.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
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
#include "io/signals.h"
#include "io/sysinfo.h"
#include "io/vfs_blocking.h"
#include "persist/place.h"

enum {
    BUFFER_BYTES_MIN = COMMIT_RING_GROUPS_MIN * COMMIT_GROUP_BYTES,
    BUFFER_BYTES_MAX = 16 << 20,
    BUFFER_PART = 8,        /* of the memory budget, for one kind of buffer of all logs */
    JETSTREAM_PERCENT = 40, /* of it: others do not get that back from JetStream when memory is
                               short; of the smallest budgets a third is for rings and buffers */
    SEALED_WAIT = 2, /* full segments that are left as they are: much in them may go by itself */
    FOLDER_MODE = 0750,
    FILE_MODE = 0640,
    STOP_RECORDS = 1024, /* are replayed between two looks at whether the server is to end */
};
static const uint64_t PROGRESS_NS = 5000000000u, SCARCE_NS = 1000000000u;

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

/* The name of a folder that was made outlives a power cut. Where its parent cannot be flushed,
 * since nobody may read it or the file system has no such thing, that is left to the file system.
 */
static bool flush_parent(const char *path)
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno == EACCES;
    bool is_flushed = fsync(fd) == 0 || errno == EINVAL;
    int reason = errno;
    close(fd);
    errno = reason;
    return is_flushed;
}

/* A folder above that cannot be made may be there all the same: on a disk that is read-only, in a
 * folder that is not ours. Where it is not, why it could not be made is the reason to tell, and not
 * the ENOENT of those below. */
static bool make_folders(char *path)
{
    int first = 0;
    for (char *at = path + 1; *at != 0; at++) {
        if (*at != '/') continue;
        *at = 0;
        bool is_made = mkdir(path, FOLDER_MODE) == 0;
        if (!is_made && errno != EEXIST && first == 0) first = errno;
        if (is_made && !flush_parent(path)) return false;
        *at = '/';
    }
    if (mkdir(path, FOLDER_MODE) == 0) return flush_parent(path);
    if (errno == EEXIST) return true;
    if (errno == ENOENT && first != 0) errno = first;
    return false;
}

static void leave_folder(struct storage *x)
{
    if (x->folder_fd >= 0) close(x->folder_fd);
    if (x->lock_fd >= 0) close(x->lock_fd);
    x->folder_fd = x->lock_fd = -1;
}

/* The folder is locked beside its file `lock`: if somebody removes that, a second server must not
 * get in. On file systems that cannot lock a folder the file has to do. */
static bool lock_both(struct storage *x)
{
    x->folder_fd = open(x->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return flock(x->lock_fd, LOCK_EX | LOCK_NB) == 0 &&
           (x->folder_fd < 0 || flock(x->folder_fd, LOCK_EX | LOCK_NB) == 0 ||
            errno != EWOULDBLOCK);
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
    if (!lock_both(x)) {
        if (errno == EWOULDBLOCK)
            snprintf(reason, reason_bytes,
                     "another server uses the storage directory %s (%s is locked)", x->folder,
                     path);
        else
            snprintf(reason, reason_bytes, "cannot lock %s: %s", path, strerror(errno));
        leave_folder(x);
        return ERR_DENIED;
    }
    return ERR_OK;
}

/* nats-server keeps each account's streams in <account>/streams. Whoever comes from it with the
 * store_dir that he had would otherwise find no streams, and nothing that says why. */
static void tell_foreign(const struct storage *x)
{
    char path[PATH_MAX];
    struct stat is;
    DIR *dir = opendir(x->folder);
    if (dir == NULL) return;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (e->d_name[0] == '.') continue;
        int len = snprintf(path, sizeof path, "%s/%s/streams", x->folder, e->d_name);
        if (len >= (int)sizeof path || stat(path, &is) != 0 || !S_ISDIR(is.st_mode)) continue;
        log_warn(x->log,
                 "JetStream: %s is of nats-server: its streams are neither read nor changed", path);
    }
    closedir(dir);
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

/* Of a replay: the manifest that is written at its end says it. */
static void scrub_later(void *context, uint64_t place)
{
    struct storage *x = context;
    manifest_scrub(&x->recovery.logs[place_log(place)], place);
}

static void scrub(void *context, uint64_t place)
{
    slog_scrub(context, place);
}

static uint64_t budget_bytes(const struct storage *x)
{
    return (uint64_t)x->budget->slice_count * x->budget->slice_bytes;
}

/* The streams of a log, from its first record on. */
static struct js *js_of(struct storage *x, uint32_t log)
{
    struct storage_log *l = &x->logs[log];
    const struct options_jetstream *j = &x->options->jetstream;
    struct js *js = &l->js;
    if (l->has_js) return js;
    js_init(js, x->shard_mem[log % x->shard_count], NULL, x->recovery.root.secret, x->memory_bytes);
    rng_init(&js->rng, js->seed + x->recovery.root.incarnation * PLACE_LOGS_MAX + log);
    js->log = log;
    js->id_next = log + 1;
    js->id_step = PLACE_LOGS_MAX;
    js->share_bytes = budget_bytes(x) / 100 * JETSTREAM_PERCENT;
    /* Names and subjects are one directory's, which shard 0 has. */
    js->directory = log % x->shard_count == 0 ? &x->directory : NULL;
    js->domain = bytes_from_text(x->domain);
    js->is_lenient = !j->is_strict;
    js->duplicate_window_max = j->duplicate_window_ns;
    js->max_ack_pending = j->max_ack_pending;
    js->max_batch = j->max_request_batch;
    js->consumers_default_max = j->default_max_consumers > 0 ? j->default_max_consumers : 0;
    js->message_bytes_max = (uint64_t)x->options->max_payload;
    js->now = x->now;
    js->total.memory.max = j->memory_bytes_max;
    js->total.storage.max = j->storage_bytes_max;
    js->is_damaged = x->damaged_count > 0;
    js->scrub = scrub_later;
    js->scrub_context = x;
    l->number = log;
    l->storage = x;
    l->has_js = true;
    return js;
}

/* A stream's records lie in one log for ever, wherever the log's shard is. */
static enum err on_record(void *context, const struct record *r, const struct store_stub *stub)
{
    struct storage *x = context;
    uint32_t account = 0;
    /* Of a pack all records come without progress between them. */
    if (++x->record_count % STOP_RECORDS == 0 && signals_end_waits()) return ERR_CLOSED;
    struct js *js = js_of(x, place_log(stub->place));
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
    }
    enum err e = js_replay(js, account, r, stub->place);
    if (e == ERR_UNKNOWN) { /* of something that is gone */
        x->homeless += r->kind == RECORD_MESSAGE;
        return ERR_OK;
    }
    if (e == ERR_OK || e == ERR_MEMORY) return e;
    if (r->kind == RECORD_STREAM || r->kind == RECORD_CHECKPOINT) x->has_refused = true;
    x->skipped_count++;
    return ERR_OK;
}

static void on_expected(void *context, uint32_t log, uint64_t stream, enum store_nearness nearness)
{
    struct storage *x = context;
    if (x->logs[log].has_js) js_expect(&x->logs[log].js, stream, nearness);
}

static void on_lost(void *context, const struct store_lost *lost)
{
    struct storage *x = context;
    if (lost->kind == STORE_LOST_CUT) {
        x->cut_count++;
        return;
    }
    x->damaged_count++;
    js_replay_lost(js_of(x, lost->log), lost);
    for (uint32_t i = 0; i < PLACE_LOGS_MAX; i++) x->logs[i].js.is_damaged = true;
    log_error(x->log, "JetStream: damaged in the store: log %u, %s %u, %llu bytes at %llu%s",
              lost->log, lost->is_packed ? "pack" : "segment", lost->segment,
              (unsigned long long)lost->bytes, (unsigned long long)lost->offset,
              lost->has_count ? "" : " (records not counted)");
}

static void on_kept(void *context, const char *name)
{
    const struct storage *x = context;
    log_error(x->log,
              "JetStream: %s is no part of the store, by the manifest that was found, but may hold "
              "messages: it is not read, and kept",
              name);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static enum err on_progress(void *context, uint64_t done, uint64_t total)
{
    struct storage *x = context;
    if (signals_end_waits()) return ERR_CLOSED;
    uint64_t now = now_ns();
    if (now - x->told_ns < PROGRESS_NS || total == 0) return ERR_OK;
    x->told_ns = now;
    log_info(x->log, "  Recovering: %llu of %llu MiB", (unsigned long long)(done >> 20),
             (unsigned long long)(total >> 20));
    return ERR_OK;
}

/* A second apart: a segment that is missing is tried for again and again. */
static void tell_scarce(void *context, const char *name, int error)
{
    struct storage_scarce *s = context;
    char text[SYSINFO_ERRNO_TEXT_BYTES];
    uint64_t now = now_ns();
    s->count++;
    if (s->told_ns != 0 && now - s->told_ns < SCARCE_NS) return;
    s->told_ns = now;
    log_error(
        s->storage->log, "JetStream: cannot open %s/%s: %s (LimitNOFILE, ulimit -n; %llu so far)",
        s->storage->folder, name, sysinfo_errno_text(error, text), (unsigned long long)s->count);
}

static struct vfs_scarce scarce_of(const struct storage *x, struct storage_scarce *s)
{
    *s = (struct storage_scarce){.storage = x};
    return (struct vfs_scarce){.tell = tell_scarce, .context = s};
}

static bool pump(void *context)
{
    return vfs_blocking_step(context);
}

/* file: that was used last; empty: none. */
static void explain(enum err e, const struct storage *x, const char *file, char *reason,
                    size_t reason_bytes)
{
    const char *why =
        e == ERR_UNSUPPORTED ? "it was written by a newer version; nothing was touched"
        : e == ERR_CORRUPT ? "its root or a manifest is damaged in both copies; nothing was touched"
        : e == ERR_INVALID ? "something else has the name of a file"
        : e == ERR_FULL    ? "too many open files"
                           : err_text(e);
    bool is_of_file = file[0] != 0 && e != ERR_UNSUPPORTED && e != ERR_CORRUPT && e != ERR_MEMORY;
    snprintf(reason, reason_bytes, "cannot open the store %s: %s%s%s", x->folder, why,
             is_of_file ? ": " : "", is_of_file ? file : "");
}

static enum err recover(struct storage *x, char *reason, size_t reason_bytes)
{
    struct vfs_blocking vfs;
    uint64_t random[2];
    enum err e = vfs_blocking_open(&vfs, x->folder);
    if (e != ERR_OK) {
        explain(e, x, "", reason, reason_bytes);
        return e;
    }
    struct storage_scarce scarce;
    vfs.scarce = scarce_of(x, &scarce);
    crypto_random(random, sizeof random);
    struct blocking blocking = {.vfs = &vfs.vfs, .pump = pump, .context = &vfs};
    struct recovery_options o = {.blocking = &blocking,
                                 .mem = x->mem,
                                 .log_count = x->shard_count,
                                 .new_store = random[0],
                                 .new_secret = random[1],
                                 .is_direct = x->is_direct,
                                 .replay = {.context = x,
                                            .record = on_record,
                                            .lost = on_lost,
                                            .progress = on_progress,
                                            .expect = on_expected},
                                 .kept = on_kept};
    x->told_ns = now_ns();
    e = recovery_open(&x->recovery, &o);
    if (e != ERR_OK && e != ERR_CLOSED) explain(e, x, vfs.file, reason, reason_bytes);
    vfs_blocking_close(&vfs);
    return e;
}

/* --- life ------------------------------------------------------------------------------------ */

static void tell_open(const struct storage *x, uint64_t began_ns)
{
    const struct recovery_counts *c = &x->recovery.counts;
    uint64_t streams = 0, messages = 0, consumers = 0;
    for (uint32_t i = 0; i < x->log_count; i++) {
        uint32_t at = 0;
        const struct js_stream *s;
        while ((s = js_each(&x->logs[i].js, &at)) != NULL) {
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
        log_warn(x->log, "JetStream: %llu damaged ranges in the store; what was in them is lost%s",
                 (unsigned long long)x->damaged_count,
                 x->homeless > 0 ? "" : ", everything else is served");
    if (x->damaged_count > 0 && x->homeless > 0)
        log_error(x->log,
                  "JetStream: %llu messages are of streams whose configuration is not in the "
                  "store: it was damaged, or they were deleted; they are kept and not served",
                  (unsigned long long)x->homeless);
    if (c->unwiped > 0)
        log_error(x->log,
                  "JetStream: %llu files with messages that were erased for good could not be "
                  "overwritten, and were removed as they were",
                  (unsigned long long)c->unwiped);
    if (c->left > 0)
        log_warn(x->log,
                 "JetStream: %llu entries of the folder have names of segments or packs that no "
                 "manifest knows, and cannot be removed: nothing is done with them",
                 (unsigned long long)c->left);
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
    for (uint32_t i = 0; i < x->log_count; i++) {
        uint32_t at = 0;
        const struct js_stream *s;
        while ((s = js_each(&x->logs[i].js, &at)) != NULL)
            if (s->stream.config.storage != STREAM_MEMORY) held += s->stream.bytes;
    }
    return (int64_t)((uint64_t)disk.f_bavail * disk.f_frsize / 4 * 3 + held / 4 * 3);
}

static void free_logs(struct storage *x)
{
    for (uint32_t i = 0; i < PLACE_LOGS_MAX; i++)
        if (x->logs[i].has_js) js_deinit(&x->logs[i].js);
    if (x->has_directory) directory_deinit(&x->directory);
    free(x->logs);
    free(x->files);
    x->logs = NULL;
    x->files = NULL;
}

/* What all logs hold. */
static enum err fill_directory(struct storage *x)
{
    uint32_t refused = 0;
    directory_init(&x->directory, x->shard_mem[0], x->recovery.root.secret);
    x->has_directory = true;
    for (uint32_t i = 0; i < x->log_count; i++) {
        struct js *js = js_of(x, i);
        js_replay_end(js);
        js_reserve_ids(js, x->recovery.stream_max);
        enum err e = js_enter(js, &x->directory, &refused);
        if (e != ERR_OK) return e;
    }
    if (refused == 0) return ERR_OK;
    x->has_refused = true; /* their messages stay */
    log_error(x->log,
              "JetStream: %u streams have the names of others in another log, and are not served",
              refused);
    return ERR_OK;
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
                          .folder_fd = -1,
                          .budget = o->budget,
                          .shard_count = o->shard_count,
                          .shard_mem = o->shard_mem,
                          .now = o->now};
    enum err e = take_folder(x, reason, reason_bytes);
    if (e != ERR_OK) return e;
    x->logs = calloc(PLACE_LOGS_MAX, sizeof *x->logs);
    x->files = calloc(o->shard_count, sizeof *x->files);
    if (x->logs == NULL || x->files == NULL) {
        free(x->logs);
        free(x->files);
        leave_folder(x);
        return ERR_MEMORY;
    }
    snprintf(x->domain, sizeof x->domain, "%.*s", (int)j->domain.len, j->domain.data);
    x->memory_max =
        j->memory_bytes_max >= 0 ? j->memory_bytes_max : (int64_t)(sysinfo_memory_limit() / 4 * 3);
    uint64_t memory = x->memory_bytes = (uint64_t)x->memory_max;
    x->is_direct = probe_direct(x);
    log_info(x->log, "Starting JetStream");
    log_info(x->log, "---------------- JETSTREAM ----------------");
    log_info(x->log, "  Strict:          %s", j->is_strict ? "true" : "false");
    log_info(x->log, "  Max Memory:      %llu MiB", (unsigned long long)(memory >> 20));
    log_info(x->log, "  Store Directory: \"%s\"", x->folder);
    tell_durability(x, j->sync_interval_ns);
    tell_foreign(x);
    if (j->domain.len > 0)
        log_info(x->log, "  Domain:          %.*s", (int)j->domain.len, j->domain.data);
    if (!x->is_direct)
        log_warn(x->log, "  The file system has no direct I/O: commits go through the page cache "
                         "and are flushed one by one, which is slower");
    e = recover(x, reason, reason_bytes);
    if (e == ERR_OK) {
        x->log_count = x->recovery.log_count;
        e = fill_directory(x);
        if (e != ERR_OK) {
            explain(e, x, "", reason, reason_bytes);
            recovery_close(&x->recovery);
        }
    }
    if (e != ERR_OK) {
        free_logs(x);
        leave_folder(x);
        return e;
    }
    if (x->damaged_count > 0 || x->recovery.counts.read_errors > 0 || x->recovery.counts.kept > 0 ||
        x->has_refused)
        /* A stream may be missing here whose messages are whole, or messages that can be read
         * tomorrow: nothing that was not understood is let go of (P6). */
        log_warn(x->log, "JetStream: parts of the store could not be read: until a start finds it "
                         "whole, space of messages that go is not freed");
    else if (helper_open(1, x->log_count, &x->packers) != ERR_OK)
        log_warn(x->log, "JetStream: no thread for packing: space of messages that go is not "
                         "freed");
    x->storage_max = j->storage_bytes_max >= 0 ? j->storage_bytes_max : free_disk(x);
    if (x->memory_max > 0) x->directory.memory_machine = x->memory_max;
    if (x->storage_max > 0) x->directory.storage_machine = x->storage_max;
    x->logs[0].recovery_ns = (int64_t)(now_ns() - began_ns);
    x->logs[0].damaged_ranges = x->recovery.counts.damaged_ranges;
    x->logs[0].damaged_bytes = x->recovery.counts.damaged_bytes;
    log_info(x->log, "  Max Storage:     %lld MiB", (long long)(x->storage_max >> 20));
    tell_open(x, began_ns);
    log_info(x->log, "-------------------------------------------");
    return ERR_OK;
}

void storage_close(struct storage *x)
{
    helper_close(x->packers);
    recovery_close(&x->recovery);
    free_logs(x);
    leave_folder(x);
}

/* Files that are removed can still be written to, and nobody would find what is in them. */
void storage_watch(struct storage *x)
{
    struct stat is;
    if (x->folder_fd < 0 || atomic_load_explicit(&x->is_removed, memory_order_relaxed)) return;
    if (fstatat(x->folder_fd, "root-0", &is, 0) == 0 || errno != ENOENT) return;
    if (fstatat(x->folder_fd, "root-1", &is, 0) == 0 || errno != ENOENT) return;
    log_error(x->log,
              "JetStream: the store in %s was removed: what is published now would be lost, and is "
              "refused",
              x->folder);
    atomic_store_explicit(&x->is_removed, true, memory_order_relaxed);
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
    struct storage_log *s = context;
    s->packing.packer = packer;
    s->packing.job = (struct helper_job){.run = run_job, .done = job_done};
    atomic_store_explicit(&s->packing.is_done, false, memory_order_relaxed);
    return helper_submit(s->storage->packers, &s->packing.job) == ERR_OK;
}

static bool job_is_done(void *context)
{
    struct storage_log *s = context;
    return atomic_load_explicit(&s->packing.is_done, memory_order_acquire);
}

static enum store_fate fate(void *context, uint64_t stream, uint64_t seq, uint64_t place)
{
    const struct storage_log *s = context;
    return checkpoint_fate(&s->js, s->storage->damaged_count > 0, stream, seq, place);
}

static uint64_t count_live(void *context, uint64_t stream, uint64_t seq_first, uint64_t seq_last)
{
    const struct storage_log *s = context;
    return checkpoint_count(&s->js, s->storage->damaged_count > 0, stream, seq_first, seq_last);
}

static enum err moved(void *context, uint64_t stream, uint64_t seq, uint64_t from, uint64_t to,
                      uint32_t bytes)
{
    struct storage_log *s = context;
    return checkpoint_moved(&s->js, stream, seq, from, to);
}

static enum err checkpoint(void *context, uint64_t stream, struct text *out)
{
    struct storage_log *s = context;
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    s->js.clock = (struct shard_time){.mono_ns = s->log.now_ns,
                                      .wall_ns = (int64_t)wall.tv_sec * 1000000000 + wall.tv_nsec};
    s->js.told_ticket = s->log.told_ticket;
    return checkpoint_write(&s->js, stream, out);
}

/* Without it the log works as well, and only grows. */
static void open_packing(struct storage *x, struct storage_log *s)
{
    struct storage_packing *p = &s->packing;
    if (x->packers == NULL || vfs_blocking_open(&p->vfs, x->folder) != ERR_OK) return;
    p->vfs.scarce = scarce_of(x, &p->scarce);
    p->files = (struct blocking){.vfs = &p->vfs.vfs, .pump = pump, .context = &p->vfs};
    p->hooks = (struct store_hooks){
        .context = s, .fate = fate, .moved = moved, .checkpoint = checkpoint, .count = count_live};
    p->helper = (struct slog_helper){.context = s, .start = start_job, .is_done = job_is_done};
    mem_jemalloc_init(&p->mem, x->budget);
    s->has_packing = true;
}

static void close_packing(struct storage_log *s)
{
    if (!s->has_packing) return;
    vfs_blocking_close(&s->packing.vfs);
    mem_jemalloc_deinit(&s->packing.mem);
    s->has_packing = false;
}

/* --- the log of a shard ---------------------------------------------------------------------- */

static struct storage_files *files_of(const struct storage *x, uint32_t log)
{
    return &x->files[log % x->shard_count];
}

static void close_files(struct storage_files *f)
{
    if (--f->log_count == 0) vfs_driver_close(&f->vfs);
}

/* Groups on their way and the tail that stays readable, the same of large records, and blocks read
 * back: each log may have so much of each. */
static uint64_t buffer_bytes(const struct storage *x)
{
    uint64_t bytes =
        budget_bytes(x) / BUFFER_PART / x->log_count / COMMIT_GROUP_BYTES * COMMIT_GROUP_BYTES;
    if (bytes < BUFFER_BYTES_MIN) return BUFFER_BYTES_MIN;
    return bytes < BUFFER_BYTES_MAX ? bytes : BUFFER_BYTES_MAX;
}

enum err storage_open_log(struct storage *x, uint32_t log, struct driver *d)
{
    struct storage_log *s = &x->logs[log];
    struct storage_files *f = files_of(x, log);
    enum err e = f->log_count > 0 ? ERR_OK : vfs_driver_open(&f->vfs, d, x->folder);
    if (e != ERR_OK) return e;
    if (f->log_count == 0) f->vfs.scarce = scarce_of(x, &f->scarce);
    f->log_count++;
    open_packing(x, s);
    struct slog_options o = {.vfs = &f->vfs.vfs,
                             .mem = s->js.mem,
                             .segment_bytes = PLACE_SEGMENT_BYTES_MAX,
                             .group_bytes = COMMIT_GROUP_BYTES,
                             .staging_bytes = buffer_bytes(x),
                             .cache_bytes = buffer_bytes(x),
                             .is_direct = x->is_direct,
                             .sync_interval_ns = x->sync_interval_ns,
                             .sealed_wait = SEALED_WAIT};
    if (s->has_packing) {
        o.hooks = &s->packing.hooks;
        o.files = &s->packing.files;
        o.files_mem = &s->packing.mem.mem;
        o.helper = &s->packing.helper;
    }
    const struct manifest *own = &x->recovery.logs[log]; /* no stream has records in another log */
    e = slog_open(&s->log, &o, own, own, 1);
    if (e != ERR_OK) {
        close_packing(s);
        close_files(f);
        return e;
    }
    s->js.file = &s->log.store;
    s->js.scrub = scrub;
    s->js.scrub_context = &s->log;
    s->has_log = true;
    return ERR_OK;
}

bool storage_is_ready(const struct storage *x, uint32_t log)
{
    const struct slog *l = &x->logs[log].log;
    /* On a full disk once a smaller segment was tried too. */
    return l->state != SLOG_OPENING || (l->has_no_space && !l->is_making && l->make_wanted == 0);
}

static struct storage_log *log_of_store(struct store *store)
{
    return (void *)((char *)store - offsetof(struct storage_log, log.store));
}

/* A message that was asked for cannot be read any more. The stream has lost it, and what else lay
 * in that range: nobody knows yet what was asked for of it. */
static void tell_damage(struct storage_log *s)
{
    struct reader_damage d;
    while (reader_next_damage(&s->log.reader, &d)) {
        const struct store_lost *lost = &d.range;
        struct js_stream *stream = js_find_id(&s->js, d.stream);
        if (stream != NULL) js_read_lost(stream, d.seq, lost->bytes);
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

static void tell_unwiped(struct storage_log *s)
{
    uint64_t count = s->log.compact.counts.unwiped;
    if (count == s->unwiped_told) return;
    s->unwiped_told = count;
    log_error(s->storage->log,
              "JetStream: log %u: a file with messages that were erased for good could not be "
              "overwritten (%llu so far), and was removed as it was",
              s->number, (unsigned long long)count);
}

static bool next_event(struct store *store, struct store_event *out)
{
    bool has_event = slog_next_event((struct slog *)(void *)store, out);
    if (atomic_load_explicit(&log_of_store(store)->storage->is_removed, memory_order_relaxed))
        slog_give_up((struct slog *)(void *)store);
    if (!has_event) {
        tell_damage(log_of_store(store));
        tell_unwiped(log_of_store(store));
    }
    return has_event;
}

static void count(struct store *store, struct js_store_counts *out)
{
    uint32_t staged = store_staged_percent(store), behind = store_behind_percent(store);
    const struct slog *l = (const struct slog *)(const void *)store;
    const struct storage_log *s = log_of_store(store);
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
        .staged_percent = staged > behind ? staged : behind,
        .recovery_ns = s->recovery_ns,
        .damaged_ranges = s->damaged_ranges + l->reader.counts.damaged_ranges,
        .damaged_bytes = s->damaged_bytes + l->reader.counts.damaged_bytes};
}

struct shard_store storage_port(struct storage *x, uint32_t log)
{
    return (struct shard_store){
        .store = &x->logs[log].log.store, .next = next_event, .count = count};
}

void storage_stop_log(struct storage *x, uint32_t log)
{
    slog_stop(&x->logs[log].log);
}

bool storage_is_written(const struct storage *x, uint32_t log)
{
    return x->logs[log].log.state == SLOG_STOPPED;
}

bool storage_is_stopped(const struct storage *x, uint32_t log)
{
    const struct storage_log *s = &x->logs[log];
    if (slog_is_helped(&s->log)) return false;
    /* One that cannot write any more has nothing to say at its end; only its operations end. */
    return s->log.state == SLOG_STOPPED ||
           (s->log.state == SLOG_READ_ONLY && files_of(x, log)->vfs.flying_count == 0);
}

void storage_close_log(struct storage *x, uint32_t log)
{
    struct storage_log *s = &x->logs[log];
    slog_close(&s->log);
    close_packing(s);
    close_files(files_of(x, log));
    s->has_log = false;
}
