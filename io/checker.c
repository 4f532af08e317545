#include "io/checker.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "core/base/base64.h"
#include "core/base/json_write.h"
#include "core/js/checkpoint.h"
#include "io/vfs_blocking.h"
#include "persist/check.h"

enum { LINE_BYTES_MAX = 256 * 1024 * 1024 };
static const uint64_t PROGRESS_NS = 200000000u;

static const char *const KINDS[RECORD_KIND_COUNT] = {
    [RECORD_MESSAGE] = "MESSAGE",   [RECORD_SKIP] = "SKIP",
    [RECORD_ERASE] = "ERASE",       [RECORD_PURGE] = "PURGE",
    [RECORD_STREAM] = "STREAM",     [RECORD_STREAM_GONE] = "STREAM_GONE",
    [RECORD_CONSUMER] = "CONSUMER", [RECORD_CONSUMER_GONE] = "CONSUMER_GONE",
    [RECORD_PROGRESS] = "PROGRESS", [RECORD_CHECKPOINT] = "CHECKPOINT",
};

struct checker {
    const struct checker_options *options;
    char folder[PATH_MAX];
    int lock_fd, folder_fd; /* -1: there is none */
    struct vfs_blocking vfs;
    struct blocking blocking;
    struct check check;
    struct text line, base64;
    FILE *report; /* standard output is the dump's, if there is one */
    uint64_t began_ns, told_ns;
    bool has_progress;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int refuse(const struct checker *c, const char *why, const char *more)
{
    fprintf(stderr, "%s: check: %s: %s%s\n", c->options->program,
            c->folder[0] != 0 ? c->folder : c->options->store, why, more);
    return CHECKER_UNREADABLE;
}

/* --- the folder --------------------------------------------------------------------------- */

static bool has_file(const char *folder, const char *name)
{
    char path[PATH_MAX + 64];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return stat(path, &st) == 0;
}

static bool is_store(const char *folder)
{
    return has_file(folder, "root-0") || has_file(folder, "root-1") ||
           has_file(folder, "0000-manifest-0") || has_file(folder, "0000-manifest-1");
}

/* Operators know the folder of their configuration; the store lies one further down. */
static void find_folder(struct checker *c)
{
    const char *given = c->options->store;
    char inside[PATH_MAX];
    int len = snprintf(inside, sizeof inside, "%s/jetstream", given);
    bool is_inside = len > 0 && (size_t)len < sizeof inside && !is_store(given) && is_store(inside);
    snprintf(c->folder, sizeof c->folder, "%s", is_inside ? inside : given);
}

/* Held to the end, so that no server starts meanwhile. A server locks the file and the folder. */
static int take_lock(struct checker *c)
{
    char path[PATH_MAX + 8];
    c->folder_fd = open(c->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (c->folder_fd >= 0 && flock(c->folder_fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return refuse(c, "a server uses this store; stop it first", "");
    snprintf(path, sizeof path, "%s/lock", c->folder);
    c->lock_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (c->lock_fd < 0 && errno == ENOENT) return CHECKER_CLEAN;
    if (c->lock_fd < 0) return refuse(c, "cannot open its lock: ", strerror(errno));
    if (flock(c->lock_fd, LOCK_SH | LOCK_NB) == 0) return CHECKER_CLEAN;
    if (errno == EWOULDBLOCK) return refuse(c, "a server uses this store; stop it first", "");
    return refuse(c, "cannot lock it: ", strerror(errno));
}

/* --- while it runs ------------------------------------------------------------------------ */

static bool pump(void *context)
{
    return vfs_blocking_step(context);
}

static void end_progress(struct checker *c)
{
    if (c->has_progress) fprintf(stderr, "\r\033[K");
    c->has_progress = false;
}

static void on_progress(void *context, uint64_t done, uint64_t total)
{
    struct checker *c = context;
    uint64_t now = now_ns();
    if (now - c->told_ns < PROGRESS_NS || isatty(STDERR_FILENO) == 0) return;
    c->told_ns = now;
    c->has_progress = true;
    fprintf(stderr, "\rchecking: %" PRIu64 " of %" PRIu64 " MiB", done >> 20, total >> 20);
    fflush(stderr);
}

static void write_base64(struct checker *c, struct json_write *w, const char *key, struct bytes b)
{
    size_t len = base64_encoded_len(BASE64_STD, b.len);
    text_clear(&c->base64);
    text_fill(&c->base64, ' ', len);
    if (c->base64.is_failed) return;
    if (len > 0) (void)base64_encode(BASE64_STD, b.data, b.len, c->base64.data);
    json_write_text(w, key, text_written(&c->base64));
}

static enum err on_record(void *context, const struct record *r, const struct check_place *place)
{
    struct checker *c = context;
    struct json_write w;
    text_clear(&c->line);
    json_write_init(&w, &c->line, 0);
    json_write_object(&w, NULL);
    json_write_text(&w, "file", bytes_from_text(place->file.text));
    json_write_u64(&w, "offset", place->offset);
    json_write_text(&w, "kind", bytes_from_text(KINDS[r->kind]));
    json_write_u64(&w, "flags", r->flags);
    json_write_u64(&w, "stream", r->stream);
    json_write_u64(&w, "seq", r->seq);
    json_write_u64(&w, "prev_seq", r->prev_seq);
    json_write_i64(&w, "time_ns", r->time_ns);
    json_write_text(&w, "subject", r->subject);
    write_base64(c, &w, "headers", r->headers);
    write_base64(c, &w, "body", r->body);
    json_write_end(&w);
    text_char(&c->line, '\n');
    if (c->line.is_failed || c->base64.is_failed) return ERR_MEMORY;
    return fwrite(c->line.data, 1, c->line.len, stdout) == c->line.len ? ERR_OK : ERR_CLOSED;
}

/* --- what it says ------------------------------------------------------------------------- */

static void say_numbers(FILE *f, const char *one, const char *many, uint64_t first, uint64_t last)
{
    if (first == last)
        fprintf(f, "%s %" PRIu64, one, first);
    else
        fprintf(f, "%s %" PRIu64 " to %" PRIu64, many, first, last);
}

static void say_gap(const struct checker *c, const struct check_gap *g)
{
    struct bytes name = check_stream_name(&c->check, g->stream);
    size_t blank = name.len == 0 ? 0 : bytes_find(name, ' ');
    fprintf(c->report, "  stream %" PRIu64, g->stream);
    if (blank < name.len)
        fprintf(c->report, " (%.*s of account %.*s)", (int)(name.len - blank - 1),
                name.data + blank + 1, (int)blank, name.data);
    fprintf(c->report, ": ");
    switch (g->kind) {
    case CHECK_MESSAGES: say_numbers(c->report, "message", "messages", g->first, g->last); break;
    case CHECK_PROGRESS:
        fprintf(c->report, "of consumer %" PRIu64 ", ", g->consumer);
        say_numbers(c->report, "record", "records", g->first, g->last);
        fprintf(c->report, " of its deliveries and acks");
        break;
    default:
        fprintf(c->report, "of a checkpoint, ");
        say_numbers(c->report, "part", "parts", g->first, g->last);
    }
    if (g->range_end - g->range_first > 1)
        fprintf(c->report, " (in one or more of the ranges %" PRIu32 " to %" PRIu32 ")",
                g->range_first + 1, g->range_end);
    fprintf(c->report, "\n");
}

static void say_range(const struct checker *c, uint32_t index)
{
    struct check_range r = check_range_at(&c->check, index);
    FILE *f = c->report;
    if (r.kind == CHECK_CUT) {
        fprintf(f,
                "%" PRIu32 ". cut: %s from %" PRIu64 " on, %" PRIu64
                " bytes: on their way when the server ended\n",
                index + 1, r.file.text, r.offset, r.bytes);
        return;
    }
    fprintf(f, "%" PRIu32 ". damaged: %s, %" PRIu64 " bytes at %" PRIu64, index + 1, r.file.text,
            r.bytes, r.offset);
    if (r.group != 0) fprintf(f, " (group %" PRIu64 ")", r.group);
    fprintf(f, ": %s", r.what);
    if (r.kind == CHECK_COPY)
        fprintf(f, "; nothing is lost\n");
    else if (r.has_count)
        fprintf(f, "; %" PRIu32 " %s lost\n", r.record_count,
                r.record_count == 1 ? "record is" : "records are");
    else
        fprintf(f, "; what was in it is lost\n");
    for (uint32_t i = 0; i < check_gap_count(&c->check); i++) {
        struct check_gap g = check_gap_at(&c->check, i);
        if (g.range_end == index + 1) say_gap(c, &g);
    }
}

static void say_sums(const struct checker *c)
{
    const struct check_counts *n = &c->check.counts;
    FILE *f = c->report;
    fprintf(f,
            "store %016" PRIx64 ": starts %" PRIu32 ", logs %" PRIu32 ", segments %" PRIu64
            ", packs %" PRIu64 "; %" PRIu64 " MiB read in %.1f s\n",
            c->check.root.store, c->check.root.incarnation, c->check.log_count, n->segments,
            n->packs, n->read.bytes_read >> 20, (double)(now_ns() - c->began_ns) / 1e9);
    fprintf(f, "records:");
    for (int kind = 1; kind < RECORD_KIND_COUNT; kind++)
        if (n->kinds[kind] > 0) fprintf(f, " %" PRIu64 " %s", n->kinds[kind], KINDS[kind]);
    fprintf(f, " (%" PRIu64 " of them packed); whole checkpoints: %" PRIu64 "\n",
            n->packed_messages, n->checkpoints);
    if (n->orphans > 0)
        fprintf(f,
                "%" PRIu64 " files that no manifest names; the next start removes them, or keeps "
                "them as FILE.kept if they are newer than the manifest\n",
                n->orphans);
    if (n->kept > 0)
        fprintf(f, "%" PRIu64 " files FILE.kept, which a start found outside the store: not read\n",
                n->kept);
    if (n->ranges_left_out > 0)
        fprintf(f, "%" PRIu64 " findings more than are listed\n", n->ranges_left_out);
    if (n->read.read_errors > 0)
        fprintf(f, "%" PRIu64 " blocks could not be read by the disk\n", n->read.read_errors);
}

static int say_all(const struct checker *c)
{
    const struct check_counts *n = &c->check.counts;
    for (uint32_t i = 0; i < check_range_count(&c->check); i++) say_range(c, i);
    say_sums(c);
    if (n->lost_ranges == 0 && n->copy_ranges == 0 && n->read.read_errors == 0) {
        fprintf(c->report, "clean\n");
        return CHECKER_CLEAN;
    }
    fprintf(c->report,
            "damaged: %" PRIu64 " ranges with %" PRIu64 " bytes are lost, %" PRIu64
            " more have a whole copy\n",
            n->lost_ranges, n->lost_bytes, n->copy_ranges);
    return CHECKER_DAMAGED;
}

static int say_newer(const struct checker *c)
{
    char why[128];
    if (c->check.newer_version != 0)
        snprintf(why, sizeof why, " has format version %" PRIu32 ", this program knows %d",
                 c->check.newer_version, ROOT_VERSION);
    else
        snprintf(why, sizeof why, " has parts of a newer version");
    return refuse(c, c->check.newer.text, why);
}

static int look(struct checker *c)
{
    struct check_options o = {.blocking = &c->blocking,
                              .mem = c->options->mem,
                              .context = c,
                              .record = c->options->is_dump ? on_record : NULL,
                              .progress = on_progress,
                              .name = checkpoint_name};
    enum err e = check_run(&c->check, &o);
    end_progress(c);
    if (fflush(stdout) != 0 && e == ERR_OK) e = ERR_CLOSED;
    switch (e) {
    case ERR_OK: return say_all(c);
    case ERR_UNKNOWN: return refuse(c, "there is no store", "");
    case ERR_UNSUPPORTED: return say_newer(c);
    case ERR_CORRUPT: return refuse(c, "neither its root nor any manifest is valid", "");
    case ERR_CLOSED: return refuse(c, "the dump cannot be written", "");
    default: return refuse(c, "cannot be read: ", err_text(e));
    }
}

int checker_run(const struct checker_options *o)
{
    struct checker *c = calloc(1, sizeof *c);
    if (c == NULL) return CHECKER_UNREADABLE;
    c->options = o;
    c->lock_fd = c->folder_fd = -1;
    c->report = o->is_dump ? stderr : stdout;
    c->began_ns = c->told_ns = now_ns();
    text_init(&c->line, o->mem, MEM_STORE, LINE_BYTES_MAX);
    text_init(&c->base64, o->mem, MEM_STORE, LINE_BYTES_MAX);
    find_folder(c);
    int status = is_store(c->folder) ? take_lock(c) : refuse(c, "there is no store", "");
    if (status == CHECKER_CLEAN) {
        enum err e = vfs_blocking_open(&c->vfs, c->folder);
        c->blocking = (struct blocking){.vfs = &c->vfs.vfs, .pump = pump, .context = &c->vfs};
        if (e != ERR_OK) {
            status = refuse(c, "cannot be opened: ", err_text(e));
        } else {
            status = look(c);
            check_close(&c->check);
            vfs_blocking_close(&c->vfs);
        }
    }
    if (c->lock_fd >= 0) close(c->lock_fd);
    if (c->folder_fd >= 0) close(c->folder_fd);
    text_deinit(&c->line);
    text_deinit(&c->base64);
    free(c);
    return status;
}
