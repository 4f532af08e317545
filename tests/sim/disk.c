#include "tests/sim/disk.h"
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"
#include "core/base/table.h"

enum { FOLDER = -1, UNLINKED = -2, FIRST_BYTES = 65536 };

/* --- files -------------------------------------------------------------------------------- */

static void file_room(struct disk_file *f, uint64_t bytes)
{
    if (bytes <= f->capacity) return;
    uint64_t capacity = f->capacity == 0 ? FIRST_BYTES : f->capacity;
    while (capacity < bytes) capacity *= 2;
    f->now = realloc(f->now, capacity);
    f->stable = realloc(f->stable, capacity);
    f->is_dirty = realloc(f->is_dirty, capacity / DISK_SECTOR_BYTES * sizeof *f->is_dirty);
    must(f->now != NULL && f->stable != NULL && f->is_dirty != NULL);
    memset(f->now + f->capacity, 0, capacity - f->capacity);
    memset(f->stable + f->capacity, 0, capacity - f->capacity);
    memset(f->is_dirty + f->capacity / DISK_SECTOR_BYTES, 0,
           (capacity - f->capacity) / DISK_SECTOR_BYTES * sizeof *f->is_dirty);
    f->capacity = capacity;
}

static int32_t file_new(struct disk *d)
{
    must(d->file_count < DISK_FILES_MAX);
    return (int32_t)d->file_count++;
}

static uint64_t sectors(uint64_t bytes)
{
    return (bytes + DISK_SECTOR_BYTES - 1) / DISK_SECTOR_BYTES;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void use_to(struct disk_file *f, uint64_t end)
{
    if (end > f->used) f->used = end;
}

/* Changed by the operation that ends now; a sector remembers its first change. */
static void soil(const struct disk *d, struct disk_file *f, uint64_t offset, uint64_t bytes)
{
    uint64_t first = offset / DISK_SECTOR_BYTES, end = sectors(offset + bytes);
    for (uint64_t s = first; s < end; s++)
        if (f->is_dirty[s] == 0) f->is_dirty[s] = d->ended + 1;
    if (f->dirty_first == f->dirty_end) f->dirty_first = first;
    f->dirty_first = least(f->dirty_first, first);
    if (end > f->dirty_end) f->dirty_end = end;
    f->is_touched = true;
}

static void set_size(struct disk_file *f, uint64_t bytes)
{
    f->now_bytes = bytes;
    f->is_touched = true;
}

static bool is_zero(const char *data, uint64_t bytes)
{
    return data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0;
}

static void put(const struct disk *d, struct disk_file *f, uint64_t offset, const char *data,
                uint64_t bytes)
{
    if (bytes == 0) return;
    file_room(f, offset + bytes);
    /* Most of what is written are the zeros of new segments, where nothing else has been. */
    if (offset < f->used || !is_zero(data, bytes)) {
        memcpy(f->now + offset, data, bytes);
        use_to(f, offset + bytes);
    }
    soil(d, f, offset, bytes);
}

static void sectors_settle(struct disk_file *f, uint64_t offset, uint64_t bytes)
{
    if (bytes == 0) return;
    f->is_hashed = false;
    uint64_t first = offset / DISK_SECTOR_BYTES, end = sectors(offset + bytes);
    uint64_t copied = least(end, sectors(f->used));
    memset(f->is_dirty + first, 0, (end - first) * sizeof *f->is_dirty);
    if (copied > first)
        memcpy(f->stable + first * DISK_SECTOR_BYTES, f->now + first * DISK_SECTOR_BYTES,
               (copied - first) * DISK_SECTOR_BYTES);
}

static void dirty_none(struct disk_file *f)
{
    if (f->dirty_first < f->dirty_end)
        memset(f->is_dirty + f->dirty_first, 0,
               (f->dirty_end - f->dirty_first) * sizeof *f->is_dirty);
    f->dirty_first = f->dirty_end = 0;
}

/* After a crash: what is stable is all there is. */
static void forget_now(struct disk_file *f)
{
    f->is_hashed = false;
    dirty_none(f);
    /* Behind its end a file has nothing. */
    if (f->used > f->stable_bytes)
        memset(f->stable + f->stable_bytes, 0, f->used - f->stable_bytes);
    if (f->used > 0) memcpy(f->now, f->stable, f->used);
    f->used = least(f->used, f->stable_bytes);
    f->now_bytes = f->stable_bytes;
    f->is_touched = false;
}

static uint64_t held_by(const struct disk_file *f)
{
    return f->now_bytes > f->reserved ? f->now_bytes : f->reserved;
}

uint64_t disk_used_bytes(const struct disk *d)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < DISK_NAMES_MAX; i++)
        if (d->names[i].path[0] != 0 && d->names[i].file >= 0)
            sum += held_by(&d->files[d->names[i].file]);
    return sum;
}

/* --- names -------------------------------------------------------------------------------- */

static struct disk_name *name_find(struct disk_name *names, const char *path)
{
    for (uint32_t i = 0; i < DISK_NAMES_MAX; i++)
        if (names[i].path[0] != 0 && strcmp(names[i].path, path) == 0) return &names[i];
    return NULL;
}

static void name_copy(char *to, const char *path)
{
    must(strlen(path) < DISK_PATH_BYTES);
    memcpy(to, path, strlen(path) + 1);
}

static void name_set(struct disk_name *names, const char *path, int32_t file)
{
    struct disk_name *n = name_find(names, path);
    if (file == UNLINKED) {
        if (n != NULL) n->path[0] = 0;
        return;
    }
    for (uint32_t i = 0; n == NULL && i < DISK_NAMES_MAX; i++)
        if (names[i].path[0] == 0) n = &names[i];
    must(n != NULL);
    name_copy(n->path, path);
    n->file = file;
}

static bool is_in(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    if (n > 0 && (strncmp(path, folder, n) != 0 || path[n] != '/')) return false;
    return strchr(path + (n > 0 ? n + 1 : 0), '/') == NULL;
}

static void apply(struct disk_name *names, const struct disk_change *c)
{
    if (c->path_from[0] != 0) name_set(names, c->path_from, UNLINKED);
    name_set(names, c->path, c->file);
}

static void change(struct disk *d, const char *path, const char *from, int32_t file)
{
    must(d->change_count < DISK_CHANGES_MAX);
    struct disk_change *c = &d->changes[d->change_count++];
    *c = (struct disk_change){.file = file};
    name_copy(c->path, path);
    if (from != NULL) name_copy(c->path_from, from);
    apply(d->names, c);
}

/* A rename between folders is durable with a flush of either: the tests of the store flush both. */
static void flush_names(struct disk *d, const char *folder)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < d->change_count; i++) {
        struct disk_change *c = &d->changes[i];
        if (is_in(c->path, folder) || (c->path_from[0] != 0 && is_in(c->path_from, folder)))
            apply(d->stable_names, c);
        else
            d->changes[kept++] = *c;
    }
    d->change_count = kept;
}

/* --- operations --------------------------------------------------------------------------- */

static bool is_nth(uint64_t count, uint64_t at)
{
    return at != 0 && count == at;
}

static struct disk_file *file_of(struct disk *d, const struct vfs_op *op)
{
    must(op->file.handle >= 0 && op->file.handle < DISK_HANDLES_MAX);
    must(d->handles[op->file.handle] > 0);
    return &d->files[d->handles[op->file.handle] - 1];
}

static enum err run_open(struct disk *d, struct vfs_op *op)
{
    struct disk_name *n = name_find(d->names, op->path);
    int32_t handle = 0;
    if (n != NULL && n->file == FOLDER) return ERR_INVALID;
    if (n == NULL && (op->flags & VFS_CREATE) == 0) return ERR_UNKNOWN;
    if (n != NULL && (op->flags & VFS_EXCLUSIVE) != 0) return ERR_EXISTS;
    while (handle < DISK_HANDLES_MAX && d->handles[handle] != 0) handle++;
    if (handle == DISK_HANDLES_MAX) return ERR_FULL;
    int32_t file = n != NULL ? n->file : file_new(d);
    if (n == NULL) change(d, op->path, NULL, file);
    d->handles[handle] = file + 1;
    op->file.handle = handle;
    return ERR_OK;
}

static bool has_space(const struct disk *d, const struct disk_file *f, uint64_t size)
{
    if (d->capacity_bytes == 0 || size <= held_by(f)) return true;
    return disk_used_bytes(d) + (size - held_by(f)) <= d->capacity_bytes;
}

static void put_some(const struct disk *d, struct disk_file *f, const struct vfs_op *op,
                     uint32_t some)
{
    put(d, f, op->offset, op->data, some);
    if (op->offset + some > f->now_bytes) set_size(f, op->offset + some);
}

static enum err run_write(struct disk *d, struct vfs_op *op)
{
    struct disk_file *f = file_of(d, op);
    uint64_t n = ++d->faults.writes;
    if (is_nth(n, d->faults.space_error_at) || !has_space(d, f, op->offset + op->bytes)) {
        if (is_nth(n, d->faults.space_error_at) && d->faults.is_space_late)
            put_some(d, f, op, op->bytes / 2);
        return ERR_NO_SPACE;
    }
    if (f->is_bad) return ERR_IO;
    if (is_nth(n, d->faults.write_error_at)) {
        if (d->faults.write_errors > 1) {
            d->faults.write_errors--;
            d->faults.write_error_at++;
        }
        /* Nobody knows how much of it is there. */
        put_some(d, f, op, rng_below(&d->rng, op->bytes + 1));
        return ERR_IO;
    }
    uint64_t offset = op->offset, bytes = op->bytes;
    if (is_nth(n, d->faults.write_torn_at)) bytes = bytes / 2;
    if (is_nth(n, d->faults.write_misdirected_at) && f->now_bytes > bytes)
        offset = rng_below(&d->rng, (uint32_t)((f->now_bytes - bytes) / DISK_SECTOR_BYTES + 1)) *
                 (uint64_t)DISK_SECTOR_BYTES;
    if (!is_nth(n, d->faults.write_lost_at)) {
        put(d, f, offset, op->data, bytes);
        if (op->is_durable) sectors_settle(f, offset, bytes);
    }
    file_room(f, op->offset + op->bytes);
    if (op->offset + op->bytes > f->now_bytes) set_size(f, op->offset + op->bytes);
    if (op->is_durable && op->offset + op->bytes > f->stable_bytes) {
        f->stable_bytes = op->offset + op->bytes;
        f->is_hashed = false;
    }
    op->bytes_done = op->bytes;
    return ERR_OK;
}

static enum err run_read(struct disk *d, struct vfs_op *op)
{
    struct disk_file *f = file_of(d, op);
    uint64_t n = ++d->faults.reads;
    op->bytes_done = 0;
    if (d->is_bad_sector || is_nth(n, d->faults.read_error_at)) return ERR_IO;
    if (op->offset >= f->now_bytes) return ERR_OK;
    uint64_t left = f->now_bytes - op->offset;
    op->bytes_done = left < op->bytes ? (uint32_t)left : op->bytes;
    if (is_nth(n, d->faults.short_read_at)) op->bytes_done /= 2;
    const char *from = is_nth(n, d->faults.read_stale_at) ? f->stable : f->now;
    memcpy(op->data, from + op->offset, op->bytes_done);
    if (is_nth(n, d->faults.read_flip_at))
        ((char *)op->data)[rng_below(&d->rng, op->bytes_done)] ^=
            (char)(1 << rng_below(&d->rng, 8));
    return ERR_OK;
}

static enum err run_flush(struct disk *d, struct vfs_op *op)
{
    struct disk_file *f = file_of(d, op);
    if (is_nth(++d->faults.flushes, d->faults.flush_error_at)) {
        /* As Linux does: what could not be written counts as clean from now on. */
        for (uint64_t s = f->dirty_first; s < f->dirty_end; s++)
            if (f->is_dirty[s] != 0 && rng_below(&d->rng, 2) == 0) f->is_dirty[s] = 0;
        return ERR_IO;
    }
    uint64_t first = f->dirty_end, end = f->dirty_first; /* of what stays dirty */
    for (uint64_t s = f->dirty_first; s < f->dirty_end; s++) {
        if (f->is_dirty[s] == 0) continue;
        if (f->is_dirty[s] <= op->port[0]) {
            sectors_settle(f, s * DISK_SECTOR_BYTES, DISK_SECTOR_BYTES);
            continue;
        }
        first = least(first, s);
        end = s + 1;
    }
    f->dirty_first = first < end ? first : 0;
    f->dirty_end = first < end ? end : 0;
    f->stable_bytes = f->now_bytes;
    f->is_hashed = false;
    return ERR_OK;
}

static enum err run_allocate(struct disk *d, struct vfs_op *op)
{
    struct disk_file *f = file_of(d, op);
    uint64_t end = op->offset + op->size;
    ++d->faults.allocations;
    if (!has_space(d, f, end)) return ERR_NO_SPACE;
    if ((op->flags & VFS_KEEP_SIZE) != 0) {
        f->reserved = end;
        return ERR_OK;
    }
    file_room(f, end);
    if (end > f->now_bytes) set_size(f, end);
    return ERR_OK;
}

static enum err run_truncate(struct disk *d, struct vfs_op *op)
{
    struct disk_file *f = file_of(d, op);
    file_room(f, op->size);
    if (op->size < f->now_bytes) {
        uint64_t from = op->size, count = f->now_bytes - op->size;
        memset(f->now + from, 0, count);
        soil(d, f, from, count);
    }
    set_size(f, op->size);
    return ERR_OK;
}

static enum err run_rename(struct disk *d, struct vfs_op *op)
{
    struct disk_name *n = name_find(d->names, op->path);
    if (n == NULL) return ERR_UNKNOWN;
    if (strcmp(op->path, op->path_to) == 0) return ERR_OK;
    change(d, op->path_to, op->path, n->file);
    return ERR_OK;
}

static enum err run_list(struct disk *d, struct vfs_op *op)
{
    uint64_t skip = op->offset;
    op->bytes_done = 0;
    for (uint32_t i = 0; i < DISK_NAMES_MAX; i++) {
        const struct disk_name *n = &d->names[i];
        if (n->path[0] == 0 || !is_in(n->path, op->path)) continue;
        if (skip > 0) {
            skip--;
            continue;
        }
        const char *base = strrchr(n->path, '/');
        base = base == NULL ? n->path : base + 1;
        size_t len = strlen(base) + 1;
        if (op->bytes_done + len > op->bytes) break;
        memcpy((char *)op->data + op->bytes_done, base, len);
        op->bytes_done += (uint32_t)len;
    }
    return ERR_OK;
}

static bool is_other(const struct vfs_op *op)
{
    return op->kind != VFS_WRITE && op->kind != VFS_READ && op->kind != VFS_FLUSH &&
           op->kind != VFS_FLUSH_DIR && op->kind != VFS_CLOSE;
}

static enum err run(struct disk *d, struct vfs_op *op)
{
    struct disk_name *n;
    if (is_other(op) && is_nth(++d->faults.calls, d->faults.call_error_at)) return ERR_IO;
    switch (op->kind) {
    case VFS_OPEN: return run_open(d, op);
    case VFS_CLOSE:
        (void)file_of(d, op);
        d->handles[op->file.handle] = 0;
        return ERR_OK;
    case VFS_WRITE: return run_write(d, op);
    case VFS_READ: return run_read(d, op);
    case VFS_FLUSH: return run_flush(d, op);
    case VFS_ALLOCATE: return run_allocate(d, op);
    case VFS_TRUNCATE: return run_truncate(d, op);
    case VFS_SIZE: op->size = file_of(d, op)->now_bytes; return ERR_OK;
    case VFS_RENAME: return run_rename(d, op);
    case VFS_UNLINK:
        n = name_find(d->names, op->path);
        if (n == NULL) return ERR_UNKNOWN;
        change(d, op->path, NULL, UNLINKED);
        return ERR_OK;
    case VFS_MAKE_DIR:
        n = name_find(d->names, op->path);
        if (n != NULL) return n->file == FOLDER ? ERR_OK : ERR_EXISTS;
        change(d, op->path, NULL, FOLDER);
        return ERR_OK;
    case VFS_FLUSH_DIR:
        if (is_nth(++d->faults.flushes, d->faults.flush_error_at)) return ERR_IO;
        flush_names(d, op->path);
        return ERR_OK;
    case VFS_LIST: return run_list(d, op);
    }
    must(false);
    return ERR_INVALID;
}

static enum err disk_submit(struct vfs *v, struct vfs_op *op)
{
    struct disk *d = (struct disk *)v;
    if (d->op_count == DISK_OPS_MAX) return ERR_MEMORY;
    if ((op->kind == VFS_WRITE || op->kind == VFS_READ) && (op->flags & VFS_DIRECT) != 0)
        must((op->bytes | op->offset) % VFS_DIRECT_ALIGN == 0);
    op->port[0] = d->ended; /* a flush covers what had ended by now, no more */
    d->ops[d->op_count++] = op;
    return ERR_OK;
}

static enum err disk_write_now(struct vfs *v, struct vfs_op *op)
{
    struct disk *d = (struct disk *)v;
    must(op->kind == VFS_WRITE && !op->is_durable && (op->flags & VFS_DIRECT) == 0);
    if (d->handles[op->file.handle] == 0) return ERR_IO; /* asked of a machine without power */
    op->result = run(d, op);
    d->ended++;
    return op->result;
}

static const struct vfs_ops OPS = {.submit = disk_submit, .write_now = disk_write_now};

bool disk_step(struct disk *d)
{
    if (d->op_count == 0) return false;
    uint32_t i = d->is_in_order ? 0 : rng_below(&d->rng, d->op_count);
    struct vfs_op *op = d->ops[i];
    d->op_count--;
    memmove(&d->ops[i], &d->ops[i + 1], (d->op_count - i) * sizeof *d->ops);
    op->result = run(d, op);
    d->ended++;
    op->done(op);
    return true;
}

/* --- the crash ---------------------------------------------------------------------------- */

static void crash_file(struct disk *d, struct disk_file *f)
{
    if (!f->is_touched) return;
    for (uint64_t s = f->dirty_first; s < f->dirty_end; s++) {
        if (f->is_dirty[s] == 0) continue;
        char *stable = f->stable + s * DISK_SECTOR_BYTES, *now = f->now + s * DISK_SECTOR_BYTES;
        uint32_t cut = rng_below(&d->rng, DISK_SECTOR_BYTES);
        switch (rng_below(&d->rng, 3)) {
        case 0: break;
        case 1: memcpy(stable, now, DISK_SECTOR_BYTES); break;
        default: memcpy(stable, now, cut); break;
        }
    }
    if (f->now_bytes != f->stable_bytes && rng_below(&d->rng, 2) == 0)
        f->stable_bytes = f->now_bytes;
    forget_now(f);
}

static bool is_dirty_file(const struct disk_file *f)
{
    if (f->now_bytes != f->stable_bytes) return true;
    for (uint64_t s = f->dirty_first; s < f->dirty_end; s++)
        if (f->is_dirty[s] != 0) return true;
    return false;
}

uint32_t disk_volatile_count(const struct disk *d)
{
    uint32_t count = d->change_count;
    for (uint32_t i = 0; i < d->file_count; i++) count += is_dirty_file(&d->files[i]);
    for (uint32_t i = 0; i < d->op_count; i++) count += d->ops[i]->kind == VFS_WRITE;
    return count;
}

enum chosen { LOST, PART, WHOLE };

static enum chosen chosen(struct disk_fate fate, uint32_t index)
{
    switch (fate.kind) {
    case DISK_FATE_NONE: return LOST;
    case DISK_FATE_PREFIX: return index < fate.index ? WHOLE : LOST;
    case DISK_FATE_MISSING: return index == fate.index ? LOST : WHOLE;
    case DISK_FATE_TORN: return index == fate.index ? PART : WHOLE;
    case DISK_FATE_TORN_ALONE: return index == fate.index ? PART : LOST;
    case DISK_FATE_EACH:
        for (; index > 0; index--) fate.index /= 3;
        return (enum chosen)(fate.index % 3);
    default: return WHOLE;
    }
}

/* What is left of a file's bytes goes to out, which holds the stable ones; gives its size. Of a
 * part every second dirty sector survives. */
static uint64_t left_of(const struct disk_file *f, enum chosen how, char *out)
{
    bool is_odd = false;
    for (uint64_t s = f->dirty_first; s < f->dirty_end; s++) {
        if (f->is_dirty[s] == 0) continue;
        is_odd = !is_odd;
        if (how == WHOLE || (how == PART && is_odd))
            memcpy(out + s * DISK_SECTOR_BYTES, f->now + s * DISK_SECTOR_BYTES, DISK_SECTOR_BYTES);
    }
    return how == LOST ? f->stable_bytes : f->now_bytes;
}

/* So much of a write in flight lands: of a part the first half, and a bit more. */
static uint64_t landing_bytes(const struct vfs_op *op, enum chosen how)
{
    uint64_t bytes = how == WHOLE ? op->bytes : how == PART ? op->bytes / 2 + 100 : 0;
    return bytes > op->bytes ? op->bytes : bytes;
}

static void apply_chosen(const struct disk *d, struct disk_fate fate, struct disk_name *names)
{
    for (uint32_t i = 0; i < d->change_count && chosen(fate, i) == WHOLE; i++)
        apply(names, &d->changes[i]);
}

static void crash_chosen(struct disk *d)
{
    uint32_t index = d->change_count;
    apply_chosen(d, d->fate, d->stable_names);
    for (uint32_t i = 0; i < d->file_count; i++) {
        struct disk_file *f = &d->files[i];
        if (is_dirty_file(f)) f->stable_bytes = left_of(f, chosen(d->fate, index++), f->stable);
    }
    for (uint32_t i = 0; i < d->op_count; i++) {
        const struct vfs_op *op = d->ops[i];
        if (op->kind != VFS_WRITE) continue;
        struct disk_file *f = file_of(d, op);
        uint64_t bytes = landing_bytes(op, chosen(d->fate, index++));
        if (bytes == 0) continue;
        file_room(f, op->offset + bytes);
        memcpy(f->stable + op->offset, op->data, bytes);
        use_to(f, op->offset + bytes);
        f->is_touched = true;
        if (op->offset + bytes > f->stable_bytes) f->stable_bytes = op->offset + bytes;
    }
    for (uint32_t i = 0; i < d->file_count; i++)
        if (d->files[i].is_touched) forget_now(&d->files[i]);
    d->op_count = 0;
    d->change_count = 0;
    memset(d->handles, 0, sizeof d->handles);
    memcpy(d->names, d->stable_names, sizeof d->names);
}

/* A file as the crash would leave it: hashed, without touching it. */
static uint64_t hash_of_file(struct disk *d, int32_t number, struct disk_fate fate, uint32_t index,
                             uint32_t index_writes)
{
    struct disk_file *f = &d->files[number];
    uint64_t end = f->capacity, size = f->stable_bytes;
    bool is_same = !is_dirty_file(f);
    for (uint32_t i = 0; i < d->op_count; i++) {
        const struct vfs_op *op = d->ops[i];
        if (op->kind != VFS_WRITE || d->handles[op->file.handle] - 1 != number) continue;
        is_same = false;
        if (op->offset + op->bytes > end) end = op->offset + op->bytes;
    }
    if (is_same) {
        if (!f->is_hashed) f->stable_hash = hash_bytes(f->stable, f->stable_bytes, f->stable_bytes);
        f->is_hashed = true;
        return f->stable_hash;
    }
    char *out = calloc(1, end);
    must(out != NULL);
    if (f->capacity > 0) memcpy(out, f->stable, f->capacity);
    if (is_dirty_file(f)) size = left_of(f, chosen(fate, index), out);
    for (uint32_t i = 0; i < d->op_count; i++) {
        const struct vfs_op *op = d->ops[i];
        if (op->kind != VFS_WRITE) continue;
        uint64_t bytes = landing_bytes(op, chosen(fate, index_writes++));
        if (bytes == 0 || d->handles[op->file.handle] - 1 != number) continue;
        memcpy(out + op->offset, op->data, bytes);
        if (op->offset + bytes > size) size = op->offset + bytes;
    }
    uint64_t hash = hash_bytes(out, size, size);
    free(out);
    return hash;
}

uint64_t disk_hash_after(struct disk *d, struct disk_fate fate)
{
    struct disk_name *names = malloc(sizeof d->stable_names);
    uint32_t *indexes = malloc((d->file_count + 1) * sizeof *indexes);
    uint32_t index = d->change_count;
    uint64_t hash = 0;
    must(names != NULL && indexes != NULL);
    memcpy(names, d->stable_names, sizeof d->stable_names);
    apply_chosen(d, fate, names);
    for (uint32_t i = 0; i < d->file_count; i++) {
        indexes[i] = index;
        index += is_dirty_file(&d->files[i]);
    }
    for (uint32_t i = 0; i < DISK_NAMES_MAX; i++) {
        int32_t file = names[i].file;
        if (names[i].path[0] == 0) continue;
        hash = hash_bytes(names[i].path, strlen(names[i].path), hash ^ i);
        if (file >= 0) hash += hash_of_file(d, file, fate, indexes[file], index);
    }
    free(names);
    free(indexes);
    return hash;
}

void disk_crash(struct disk *d)
{
    d->crashes++;
    if (d->fate.kind != DISK_FATE_RANDOM) {
        crash_chosen(d);
        return;
    }
    /* What was in flight: each may have been carried out; its bytes are volatile like others. */
    for (uint32_t i = 0; i < d->op_count; i++) {
        struct vfs_op *op = d->ops[i];
        if (op->kind != VFS_WRITE || rng_below(&d->rng, 2) == 0) continue;
        struct disk_file *f = file_of(d, op);
        put(d, f, op->offset, op->data, op->bytes);
        if (op->offset + op->bytes > f->now_bytes) set_size(f, op->offset + op->bytes);
    }
    d->op_count = 0;
    memset(d->handles, 0, sizeof d->handles);
    for (uint32_t i = 0; i < d->file_count; i++) crash_file(d, &d->files[i]);
    /* A journal keeps the order of names: a prefix of the changes survives. */
    uint32_t kept = d->change_count == 0 ? 0 : rng_below(&d->rng, d->change_count + 1);
    for (uint32_t i = 0; i < kept; i++) apply(d->stable_names, &d->changes[i]);
    d->change_count = 0;
    memcpy(d->names, d->stable_names, sizeof d->names);
}

void disk_kill(struct disk *d)
{
    for (uint32_t i = 0; i < d->op_count; i++) {
        struct vfs_op *op = d->ops[i];
        if (op->kind != VFS_WRITE || rng_below(&d->rng, 2) == 0) continue;
        (void)!run_write(d, op);
        d->ended++;
    }
    d->op_count = 0;
    memset(d->handles, 0, sizeof d->handles);
}

void disk_rot(struct disk *d, const char *path, uint64_t offset)
{
    struct disk_name *n = name_find(d->names, path);
    must(n != NULL && n->file >= 0);
    struct disk_file *f = &d->files[n->file];
    must(offset < f->now_bytes);
    char bit = (char)(1 << rng_below(&d->rng, 8));
    use_to(f, offset + 1);
    f->now[offset] ^= bit;
    f->stable[offset] ^= bit;
    f->is_hashed = false;
}

void disk_init(struct disk *d, uint64_t seed)
{
    memset(d, 0, sizeof *d);
    d->vfs.ops = &OPS;
    rng_init(&d->rng, seed);
}

void disk_deinit(struct disk *d)
{
    for (uint32_t i = 0; i < d->file_count; i++) {
        free(d->files[i].now);
        free(d->files[i].stable);
        free(d->files[i].is_dirty);
    }
}
