#include "persist/recovery.h"
#include <string.h>
#include "core/base/must.h"
#include "persist/names.h"
#include "persist/orphans.h"
#include "persist/pack_file.h"
#include "persist/pair.h"
#include "persist/replay.h"
#include "persist/wire.h"

enum {
    LIST_BYTES = 4096,
    TAIL_PART = 8, /* of a segment: less is not worth a look */
};

/* --- small files -------------------------------------------------------------------------- */

/* The whole file, at most bytes_max of it. ERR_UNKNOWN: there is none. */
static enum err read_file(const struct recovery *r, const char *path, char *out, uint32_t bytes_max,
                          uint32_t *bytes)
{
    struct vfs_op op = {.kind = VFS_OPEN, .path = path, .flags = VFS_READ_ONLY};
    enum err e = blocking_run(r->options.blocking, &op);
    if (e != ERR_OK) return e;
    struct vfs_op read = {.kind = VFS_READ, .file = op.file, .data = out, .bytes = bytes_max};
    e = blocking_run(r->options.blocking, &read);
    *bytes = read.bytes_done;
    struct vfs_op close = {.kind = VFS_CLOSE, .file = op.file};
    enum err closed = blocking_run(r->options.blocking, &close);
    return closed == ERR_CLOSED ? closed : e;
}

static enum err file_bytes(const struct recovery *r, const char *path, uint64_t *bytes)
{
    struct vfs_op op = {.kind = VFS_OPEN, .path = path, .flags = VFS_READ_ONLY};
    enum err e = blocking_run(r->options.blocking, &op);
    if (e != ERR_OK) return e;
    struct vfs_op size = {.kind = VFS_SIZE, .file = op.file};
    e = blocking_run(r->options.blocking, &size);
    *bytes = size.size;
    struct vfs_op close = {.kind = VFS_CLOSE, .file = op.file};
    enum err closed = blocking_run(r->options.blocking, &close);
    return closed == ERR_CLOSED ? closed : e;
}

/* Creates the files whose names are missing. */
static enum err make_names(const struct blocking *b, const struct names_text names[2])
{
    for (uint32_t i = 0; i < 2; i++) {
        struct vfs_op op = {.kind = VFS_OPEN, .path = names[i].text, .flags = VFS_CREATE};
        enum err e = blocking_run(b, &op);
        if (e != ERR_OK) return e;
        struct vfs_op close = {.kind = VFS_CLOSE, .file = op.file};
        e = blocking_run(b, &close);
        if (e != ERR_OK) return e;
    }
    return blocking_flush_folder(b);
}

/* Writes both copies. Where a name may be missing both are made durable first: while the second
 * copy is being written the first one is all there is. */
static enum err write_pair(const struct recovery *r, struct names_text copy_0,
                           struct names_text copy_1, uint32_t first, bool is_new, char *data,
                           uint32_t bytes)
{
    struct pair p;
    const struct blocking *b = r->options.blocking;
    enum err e = is_new ? make_names(b, (struct names_text[]){copy_0, copy_1}) : ERR_OK;
    if (e != ERR_OK) return e;
    pair_init(&p, b->vfs, copy_0, copy_1, first);
    e = pair_write(&p, data, bytes);
    if (e != ERR_OK) return e;
    while (p.state != PAIR_IDLE && p.state != PAIR_BROKEN)
        if (!b->pump(b->context)) return ERR_CLOSED;
    e = p.result;
    pair_close(&p);
    while (p.state == PAIR_CLOSING)
        if (!b->pump(b->context)) return ERR_CLOSED;
    return e;
}

/* found: there is a file that only a store has. log_end: behind the last log of which there is a
 * manifest's name. */
static enum err look_at_names(const struct recovery *r, bool *found, uint32_t *log_end)
{
    char *names = mem_alloc(r->options.mem, MEM_STORE, LIST_BYTES);
    if (names == NULL) return ERR_MEMORY;
    struct vfs_op op = {.kind = VFS_LIST, .path = "", .data = names, .bytes = LIST_BYTES};
    enum err e;
    uint32_t log;
    *found = false;
    *log_end = 0;
    do {
        e = blocking_run(r->options.blocking, &op);
        for (uint32_t at = 0; e == ERR_OK && at < op.bytes_done;
             at += (uint32_t)strlen(names + at) + 1) {
            *found = *found || names_is_of_store(names + at);
            if (names_is_manifest(names + at, &log) && log >= *log_end && log < PLACE_LOGS_MAX)
                *log_end = log + 1;
            op.offset++;
        }
    } while (e == ERR_OK && op.bytes_done > 0);
    mem_free(r->options.mem, MEM_STORE, names, LIST_BYTES);
    return e;
}

/* --- the root ----------------------------------------------------------------------------- */

/* What the two copies of something say, and which of them is to be written first. */
struct copies {
    uint32_t valid_count, missing_count;
    uint32_t first;
    bool is_newer_format, has_read_error;
    uint64_t generation; /* of the newest valid one */
};

static void saw_copy(struct copies *c, uint32_t copy, enum err e, uint64_t generation,
                     bool *is_newest)
{
    *is_newest = false;
    if (e == ERR_UNKNOWN) c->missing_count++;
    if (e == ERR_UNSUPPORTED) c->is_newer_format = true;
    if (e == ERR_IO) c->has_read_error = true;
    if (e != ERR_OK) {
        c->first = copy;
        return;
    }
    c->valid_count++;
    if (c->valid_count == 1) {
        *is_newest = true;
    } else if (generation > c->generation) {
        *is_newest = true;
        c->first = 0;
    } else if (generation < c->generation) {
        c->first = 1;
    }
    if (*is_newest) c->generation = generation;
}

static bool is_fatal(enum err e)
{
    return e != ERR_OK && e != ERR_UNKNOWN && e != ERR_CORRUPT && e != ERR_UNSUPPORTED &&
           e != ERR_IO;
}

static enum err read_root(struct recovery *r, struct copies *c, char *buffer)
{
    *c = (struct copies){0};
    for (uint32_t copy = 0; copy < 2; copy++) {
        struct names_text name = names_root(copy);
        struct root root = {0};
        uint32_t bytes;
        bool is_newest;
        enum err e = read_file(r, name.text, buffer, ROOT_BYTES, &bytes);
        if (e == ERR_OK && bytes < ROOT_BYTES) e = ERR_CORRUPT;
        if (e == ERR_OK) e = root_decode(buffer, &root);
        if (is_fatal(e)) return e;
        saw_copy(c, copy, e, root.generation, &is_newest);
        if (is_newest) r->root = root;
    }
    if (c->is_newer_format) return ERR_UNSUPPORTED;
    if (c->valid_count > 0) return ERR_OK;
    if (c->has_read_error) return ERR_IO;
    bool found;
    uint32_t log_end;
    enum err e = look_at_names(r, &found, &log_end);
    if (e != ERR_OK) return e;
    return found ? ERR_CORRUPT : ERR_UNKNOWN;
}

static enum err write_root(struct recovery *r, const struct copies *c, char *buffer)
{
    r->root.generation++;
    root_encode(&r->root, buffer);
    return write_pair(r, names_root(0), names_root(1), c->first, c->valid_count < 2, buffer,
                      ROOT_BYTES);
}

/* Gives the root as it was found, or a new one that is on disk already. */
static enum err open_root(struct recovery *r, struct copies *c, char *buffer)
{
    enum err e = read_root(r, c, buffer);
    if (e != ERR_UNKNOWN || r->options.is_read_only) return e;
    r->is_new = true;
    r->root = (struct root){.store = r->options.new_store, .secret = r->options.new_secret};
    e = write_root(r, c, buffer);
    if (e == ERR_OK) *c = (struct copies){.valid_count = 2};
    return e;
}

/* --- manifests ---------------------------------------------------------------------------- */

static enum err read_copy(struct recovery *r, uint32_t log, uint32_t copy, struct manifest *out)
{
    struct names_text name = names_manifest(log, copy);
    uint64_t size;
    uint32_t bytes;
    enum err e = file_bytes(r, name.text, &size);
    if (e != ERR_OK) return e;
    if (size < PLACE_BLOCK_BYTES || size > MANIFEST_BYTES_MAX) return ERR_CORRUPT;
    char *data = mem_alloc(r->options.mem, MEM_STORE, size);
    if (data == NULL) return ERR_MEMORY;
    e = read_file(r, name.text, data, (uint32_t)size, &bytes);
    if (e == ERR_OK) e = manifest_decode(data, bytes, log, r->options.mem, out);
    if (e == ERR_OK && out->store != r->root.store) {
        manifest_deinit(out);
        e = ERR_CORRUPT;
    }
    mem_free(r->options.mem, MEM_STORE, data, size);
    return e;
}

static enum err read_manifest(struct recovery *r, uint32_t log, struct copies *c,
                              struct manifest *out)
{
    *c = (struct copies){0};
    manifest_init(out, r->options.mem, log, r->root.store, r->root.secret);
    for (uint32_t copy = 0; copy < 2; copy++) {
        struct manifest m = {0};
        bool is_newest;
        enum err e = read_copy(r, log, copy, &m);
        if (is_fatal(e)) {
            manifest_deinit(out);
            return e;
        }
        saw_copy(c, copy, e, m.generation, &is_newest);
        if (is_newest) {
            manifest_deinit(out);
            *out = m;
        } else if (e == ERR_OK) {
            manifest_deinit(&m);
        }
    }
    if (c->valid_count > 0 && !c->is_newer_format) return ERR_OK;
    manifest_deinit(out);
    if (c->is_newer_format) return ERR_UNSUPPORTED;
    if (c->has_read_error) return ERR_IO;
    /* A log that the root does not count yet may have been made in part. */
    return log >= r->root.log_count ? ERR_UNKNOWN : ERR_CORRUPT;
}

/* A root that came back from a copy may be older than a log that it does not count. One that has a
 * valid manifest of this store is there all the same, and all before it are. */
static enum err count_logs(struct recovery *r)
{
    bool found;
    uint32_t log_end;
    r->log_room = r->root.log_count;
    /* Where it counts none, the first start did not get to its logs. */
    if (r->root.log_count == 0 || r->options.is_read_only) return ERR_OK;
    enum err e = look_at_names(r, &found, &log_end);
    for (uint32_t log = r->log_room; e == ERR_OK && log < log_end; log++) {
        struct copies copies;
        struct manifest m;
        e = read_manifest(r, log, &copies, &m);
        if (e == ERR_UNKNOWN) {
            e = ERR_OK; /* made in part */
        } else if (e == ERR_OK) {
            manifest_deinit(&m);
            r->log_room = log + 1;
        }
    }
    return e;
}

static enum err write_manifest(struct recovery *r, struct manifest *m, const struct copies *c)
{
    uint32_t bytes = manifest_bytes(m);
    char *data = mem_alloc(r->options.mem, MEM_STORE, bytes);
    if (data == NULL) return ERR_MEMORY;
    m->generation++;
    manifest_encode(m, data);
    enum err e = write_pair(r, names_manifest(m->log, 0), names_manifest(m->log, 1), c->first,
                            c->valid_count < 2, data, bytes);
    /* After ERR_CLOSED the write may still lie with the port, whose machine has no power. */
    mem_free(r->options.mem, MEM_STORE, data, bytes);
    return e;
}

static enum err open_manifests(struct recovery *r, struct copies *copies)
{
    for (uint32_t log = 0; log < r->log_room; log++) {
        enum err e = read_manifest(r, log, &copies[log], &r->logs[log]);
        if (e == ERR_UNKNOWN) {
            manifest_init(&r->logs[log], r->options.mem, log, r->root.store, r->root.secret);
            e = write_manifest(r, &r->logs[log], &copies[log]);
            copies[log] = (struct copies){.valid_count = 2};
            if (e != ERR_OK) manifest_deinit(&r->logs[log]);
        }
        if (e != ERR_OK) return e;
        r->log_count++;
    }
    return ERR_OK;
}

/* --- the replay --------------------------------------------------------------------------- */

/* The incarnation to be replayed next: the lowest above `after`. 0: none. */
static uint32_t next_incarnation(const struct recovery *r, uint32_t after)
{
    uint32_t next = 0;
    for (uint32_t log = 0; log < r->log_count; log++)
        for (uint32_t i = 0; i < r->logs[log].count; i++) {
            uint32_t n = r->logs[log].segments[i].incarnation;
            if (n > after && (next == 0 || n < next)) next = n;
        }
    for (uint32_t log = 0; log < r->log_count; log++)
        for (uint32_t i = 0; i < r->logs[log].pack_count; i++) {
            uint32_t n = r->logs[log].packs[i].incarnation;
            if (n > after && (next == 0 || n < next)) next = n;
        }
    return next;
}

static bool is_replayed(const struct manifest *m, const struct manifest_segment *s)
{
    if (s->number < m->replay_segment) return false;
    return s->is_closed || !m->is_clean;
}

/* What the passes together will read: twice what is not closed, or holds checkpoints. */
static uint64_t bytes_to_read(const struct recovery *r)
{
    uint64_t sum = 0;
    for (uint32_t log = 0; log < r->log_count; log++)
        for (uint32_t i = 0; i < r->logs[log].count; i++) {
            const struct manifest_segment *s = &r->logs[log].segments[i];
            if (!is_replayed(&r->logs[log], s)) continue;
            sum += s->is_closed ? s->end : s->size;
            if (s->has_checkpoints) sum += s->end;
        }
    return sum;
}

/* A pack stands where its segment stood: before the segments of its incarnation that are left. */
static enum err replay_packs(struct recovery *r, uint32_t log, uint32_t incarnation)
{
    const struct manifest *m = &r->logs[log];
    for (uint32_t i = 0; i < m->pack_count; i++) {
        struct pack_warm next = {0};
        if (m->packs[i].incarnation != incarnation) continue;
        if (i + 1 < m->pack_count) pack_file_warm_begin(&next, &r->options, m, &m->packs[i + 1]);
        enum err e =
            pack_file_read(&r->options, m, &m->packs[i], r->options.is_thorough, &r->counts);
        enum err ended = pack_file_warm_end(&next, r->options.blocking);
        if (e == ERR_OK) e = ended;
        if (e != ERR_OK) return e;
    }
    return ERR_OK;
}

static enum err replay_pass(struct recovery *r, struct replay_log *logs, enum replay_pass pass)
{
    for (uint32_t n = next_incarnation(r, 0); n != 0; n = next_incarnation(r, n))
        for (uint32_t log = 0; log < r->log_count; log++) {
            enum err e = pass == REPLAY_RECORDS ? replay_packs(r, log, n) : ERR_OK;
            if (e != ERR_OK) return e;
            for (uint32_t i = 0; i < r->logs[log].count; i++) {
                const struct manifest_segment *s = &r->logs[log].segments[i];
                if (s->incarnation != n || !is_replayed(&r->logs[log], s)) continue;
                e = replay_segment(&logs[log], i);
                if (e != ERR_OK) return e;
            }
        }
    return ERR_OK;
}

/* What stands for the oldest part of the log, in one piece for each stream. */
static enum err give_checkpoints(const struct recovery *r, const struct checkpoints *all)
{
    const struct store_replay *replay = &r->options.replay;
    struct checkpoints_entry *c = NULL;
    enum err e = ERR_OK;
    while (e == ERR_OK && (c = checkpoints_next(all, c)) != NULL) {
        struct record record = {.kind = RECORD_CHECKPOINT,
                                .flags = RECORD_LAST,
                                .stream = c->stream,
                                .seq = c->incarnation,
                                .prev_seq = c->group,
                                .body = text_written(&c->body)};
        struct store_stub stub = {.place = place_of(c->log, 1, 0)};
        if (replay->record != NULL) e = replay->record(replay->context, &record, &stub);
        text_deinit(&c->body);
    }
    return e;
}

static enum err replay_all(struct recovery *r, struct replay_log *logs, struct checkpoints *all)
{
    r->counts.bytes_total = bytes_to_read(r);
    for (uint32_t log = 0; log < r->log_count; log++)
        replay_init(&logs[log], &r->options, &r->counts, &r->logs[log], all);
    enum err e = replay_pass(r, logs, REPLAY_CHECKPOINTS);
    if (e != ERR_OK) return e;
    e = give_checkpoints(r, all);
    if (e != ERR_OK) return e;
    for (uint32_t log = 0; log < r->log_count; log++) replay_again(&logs[log]);
    return replay_pass(r, logs, REPLAY_RECORDS);
}

/* A process that was killed may have left bytes that only the memory of the machine holds. */
static enum err flush_segment(const struct recovery *r, uint32_t log, uint32_t number)
{
    struct names_text name = names_segment(log, number);
    struct vfs_op op = {.kind = VFS_OPEN, .path = name.text, .flags = VFS_READ_ONLY};
    enum err e = blocking_run(r->options.blocking, &op);
    if (e == ERR_UNKNOWN) return ERR_OK; /* told when it is to be read */
    if (e != ERR_OK) return e;
#ifndef MILLRACE_BREAK_READ_BEFORE_FLUSH
    struct vfs_op flush = {.kind = VFS_FLUSH, .file = op.file};
    e = blocking_run(r->options.blocking, &flush);
#endif
    struct vfs_op close = {.kind = VFS_CLOSE, .file = op.file};
    enum err closed = blocking_run(r->options.blocking, &close);
    return closed == ERR_CLOSED ? closed : e;
}

static enum err flush_open_segments(const struct recovery *r)
{
    for (uint32_t log = 0; log < r->log_count; log++)
        for (uint32_t i = 0; i < r->logs[log].count; i++) {
            const struct manifest *m = &r->logs[log];
            if (m->segments[i].is_closed || m->is_clean) continue;
            enum err e = flush_segment(r, log, m->segments[i].number);
            if (e != ERR_OK) return e;
        }
    return ERR_OK;
}

/* --- the end ------------------------------------------------------------------------------ */

/* Nothing is written to a segment that a start found: what is behind its end is given back, or a
 * disk that was full when the server went would have no room for the segment that takes the
 * deletes. After damage everything stays as it was. */
static bool has_tail(const struct recovery *r, const struct manifest_segment *s)
{
    return s->is_closed && s->end > 0 && s->size - s->end >= s->size / TAIL_PART &&
           r->counts.damaged_ranges == 0 && r->counts.read_errors == 0;
}

static enum err cut_tail(const struct recovery *r, const struct manifest *m,
                         const struct manifest_segment *s)
{
    struct names_text name = names_segment(m->log, s->number);
    struct vfs_op op = {.kind = VFS_OPEN, .path = name.text};
    enum err e = blocking_run(r->options.blocking, &op);
    if (e != ERR_OK) return e;
    struct vfs_op cut = {.kind = VFS_TRUNCATE, .file = op.file, .size = s->size};
    e = blocking_run(r->options.blocking, &cut);
    struct vfs_op close = {.kind = VFS_CLOSE, .file = op.file};
    enum err closed = blocking_run(r->options.blocking, &close);
    return closed == ERR_CLOSED ? closed : e;
}

/* A segment that holds nothing is not taken over: after a crash a write of the old process may
 * still be on its way into it, so a new file takes its place. */
static enum err close_log(struct recovery *r, struct manifest *m, const struct replay_log *l,
                          const struct copies *c)
{
    m->next_group = l->expected > 1 ? l->expected : m->next_group;
    if (m->next_group - 1 > m->durable_group) m->durable_group = m->next_group - 1;
    m->incarnation = r->root.incarnation;
    for (uint32_t i = m->count; i-- > 0;) {
        struct manifest_segment *s = &m->segments[i];
        s->is_cut = has_tail(r, s);
        if (s->is_cut) s->size = s->end;
        if (!s->is_closed) manifest_remove(m, s->number);
    }
    m->is_clean = false;
    enum err e = write_manifest(r, m, c);
    for (uint32_t i = 0; e == ERR_OK && i < m->count; i++)
        if (m->segments[i].is_cut) e = cut_tail(r, m, &m->segments[i]);
    return e;
}

/* Checksums depend on it, so none is given twice: a root that came back from a copy may be older
 * than a manifest. */
static uint32_t newest_incarnation(const struct recovery *r)
{
    uint32_t newest = r->root.incarnation;
#ifndef MILLRACE_BREAK_INCARNATION_LEFT_OUT
    for (uint32_t log = 0; log < r->log_count; log++)
        if (r->logs[log].incarnation > newest) newest = r->logs[log].incarnation;
#endif
    return newest;
}

static enum err run(struct recovery *r, struct copies *root_copies, struct copies *copies,
                    char *buffer, struct replay_log *logs)
{
    enum err e = open_manifests(r, copies);
    if (e != ERR_OK) return e;
    if (!r->options.is_read_only) {
        r->root.log_count = r->log_room;
#ifdef MILLRACE_BREAK_INCARNATION_LEFT_OUT
        r->root.incarnation = 0;
#endif
        r->root.incarnation = newest_incarnation(r) + 1;
        e = write_root(r, root_copies, buffer);
        if (e == ERR_OK) e = flush_open_segments(r);
        if (e != ERR_OK) return e;
    }
    struct checkpoints all;
    checkpoints_init(&all, r->options.mem);
    e = replay_all(r, logs, &all);
    checkpoints_deinit(&all);
    for (uint32_t log = 0; log < r->log_count; log++)
        if (r->logs[log].stream_max > r->stream_max) r->stream_max = r->logs[log].stream_max;
    if (e != ERR_OK || r->options.is_read_only) return e;
    e = orphans_keep(r);
    for (uint32_t log = 0; e == ERR_OK && log < r->log_count; log++)
        e = close_log(r, &r->logs[log], &logs[log], &copies[log]);
    return e == ERR_OK ? orphans_remove(r) : e;
}

enum err recovery_open(struct recovery *r, const struct recovery_options *o)
{
    struct copies root_copies, *copies = NULL;
    struct replay_log *logs = NULL;
    struct mem *mem = o->mem;
    must(o->log_count <= PLACE_LOGS_MAX);
    *r = (struct recovery){.options = *o};
    char *buffer = mem_alloc(mem, MEM_STORE, ROOT_BYTES);
    if (buffer == NULL) return ERR_MEMORY;
    enum err e = open_root(r, &root_copies, buffer);
    if (e != ERR_OK) goto free_buffer;
    e = count_logs(r);
    if (e != ERR_OK) goto free_buffer;
    if (o->log_count > r->log_room && !o->is_read_only) r->log_room = o->log_count;
    e = ERR_MEMORY;
    if (r->log_room == 0) { /* `check` of a store that was made and never started */
        e = ERR_OK;
        goto free_buffer;
    }
    r->logs = mem_alloc_zero(mem, MEM_STORE, r->log_room * sizeof *r->logs);
    copies = mem_alloc_zero(mem, MEM_STORE, r->log_room * sizeof *copies);
    logs = mem_alloc_zero(mem, MEM_STORE, r->log_room * sizeof *logs);
    if (r->logs != NULL && copies != NULL && logs != NULL)
        e = run(r, &root_copies, copies, buffer, logs);
    mem_free(mem, MEM_STORE, copies, r->log_room * sizeof *copies);
    mem_free(mem, MEM_STORE, logs, r->log_room * sizeof *logs);
free_buffer:
    mem_free(mem, MEM_STORE, buffer, ROOT_BYTES);
    if (e != ERR_OK) recovery_close(r);
    return e;
}

void recovery_close(struct recovery *r)
{
    for (uint32_t log = 0; log < r->log_count; log++) manifest_deinit(&r->logs[log]);
    mem_free(r->options.mem, MEM_STORE, r->logs, r->log_room * sizeof *r->logs);
    r->logs = NULL;
    r->log_count = 0;
}
