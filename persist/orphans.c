#include "persist/orphans.h"
#include <string.h>
#include "core/base/must.h"
#include "persist/group.h"
#include "persist/names.h"
#include "persist/wipe.h"
#include "persist/wire.h"

enum {
    LIST_BYTES = 4096,
    PIECE_BYTES = 256 * 1024, /* of a segment that is looked through */
    NUMBER_MAX = UINT32_MAX / 2,
};

struct orphan {
    struct names_text name;
    uint32_t log, number;
    bool is_pack;
};

static bool is_orphan(const struct recovery *r, const char *name, struct orphan *o)
{
    o->is_pack = false;
    if (names_is_segment(name, &o->log, &o->number))
        return o->log < r->log_count && manifest_find(&r->logs[o->log], o->number) == NULL;
    o->is_pack = true;
    return names_is_pack(name, &o->log, &o->number) && o->log < r->log_count &&
           manifest_find_pack(&r->logs[o->log], o->number) == NULL;
}

/* The first one behind so many: an orphan, or a file that was kept. ERR_UNKNOWN: there is none. */
static enum err find(const struct recovery *r, bool is_kept, uint64_t skipped, struct orphan *o)
{
    char *names = mem_alloc(r->options.mem, MEM_STORE, LIST_BYTES);
    if (names == NULL) return ERR_MEMORY;
    struct vfs_op op = {.kind = VFS_LIST, .path = "", .data = names, .bytes = LIST_BYTES};
    enum err e;
    bool is_found = false;
    do {
        e = blocking_run(r->options.blocking, &op);
        for (uint32_t at = 0; e == ERR_OK && at < op.bytes_done && !is_found;
             at += (uint32_t)strlen(names + at) + 1) {
            op.offset++;
            if (is_kept ? !names_is_kept(names + at) : !is_orphan(r, names + at, o)) continue;
            is_found = skipped == 0;
            if (is_found) memcpy(o->name.text, names + at, strlen(names + at) + 1);
            skipped -= skipped > 0;
        }
    } while (e == ERR_OK && op.bytes_done > 0 && !is_found);
    mem_free(r->options.mem, MEM_STORE, names, LIST_BYTES);
    return e == ERR_OK && !is_found ? ERR_UNKNOWN : e;
}

/* A group at the place where it was written, of whichever start. */
static bool has_group(const struct manifest *m, uint32_t number, const char *data, uint32_t bytes,
                      uint64_t offset)
{
    struct place_key key = {.secret = m->secret, .log = m->log, .segment = number};
    struct group_head h;
    for (uint32_t at = 0; at + GROUP_HEAD_BYTES <= bytes; at += PLACE_BLOCK_BYTES) {
        key.incarnation = wire_u32(data + at + GROUP_INCARNATION_AT);
        if (group_decode_head(data + at, &key, offset + at, PLACE_SEGMENT_BYTES_MAX, &h) == ERR_OK)
            return true;
    }
    return false;
}

/* Also when it cannot be read. What is no file holds nothing. */
static enum err holds_groups(const struct recovery *r, const struct manifest *m, uint32_t number,
                             bool *holds)
{
    const struct blocking *b = r->options.blocking;
    struct names_text name = names_segment(m->log, number);
    *holds = false;
    struct vfs_op op = {.kind = VFS_OPEN, .path = name.text, .flags = VFS_READ_ONLY};
    enum err e = blocking_run(b, &op);
    if (e == ERR_UNKNOWN || e == ERR_INVALID) return ERR_OK;
    if (e != ERR_OK) return e;
    char *data = mem_alloc(r->options.mem, MEM_STORE, PIECE_BYTES);
    struct vfs_op read = {.kind = VFS_READ, .file = op.file, .data = data, .bytes = PIECE_BYTES};
    e = data == NULL ? ERR_MEMORY : ERR_OK;
    while (e == ERR_OK && !*holds && read.offset < PLACE_SEGMENT_BYTES_MAX) {
        e = blocking_run(b, &read);
        if (e == ERR_OK && read.bytes_done == 0) break;
        *holds = e == ERR_IO ||
                 (e == ERR_OK && has_group(m, number, data, read.bytes_done, read.offset));
        if (e == ERR_IO) e = ERR_OK;
        read.offset += PIECE_BYTES;
    }
    mem_free(r->options.mem, MEM_STORE, data, PIECE_BYTES);
    struct vfs_op close = {.kind = VFS_CLOSE, .file = op.file};
    enum err closed = blocking_run(b, &close);
    return closed == ERR_CLOSED ? closed : e;
}

enum err orphans_is_newer(const struct recovery *r, const struct manifest *m, uint32_t number,
                          bool *is_newer)
{
    *is_newer = false;
    if (number < m->next_segment || number > NUMBER_MAX) return ERR_OK;
    return holds_groups(r, m, number, is_newer);
}

static void tell(struct recovery *r, const struct orphan *o)
{
    r->counts.kept++;
    if (r->options.kept != NULL) r->options.kept(r->options.replay.context, o->name.text);
}

/* newest[log]: the highest segment that is newer than its manifest; 0: none is. */
static enum err find_newest(const struct recovery *r, uint32_t *newest)
{
    struct orphan o;
    enum err e;
    for (uint64_t n = 0; (e = find(r, false, n, &o)) == ERR_OK; n++) {
        bool is_newer;
        if (o.is_pack) continue;
        e = orphans_is_newer(r, &r->logs[o.log], o.number, &is_newer);
        if (e != ERR_OK) return e;
        if (is_newer && o.number > newest[o.log]) newest[o.log] = o.number;
    }
    return e == ERR_UNKNOWN ? ERR_OK : e;
}

/* Never over another file. */
static enum err rename_kept(const struct recovery *r, const struct orphan *o)
{
    const struct blocking *b = r->options.blocking;
    struct names_text to = names_kept(o->name.text);
    struct vfs_op look = {.kind = VFS_OPEN, .path = to.text, .flags = VFS_READ_ONLY};
    enum err e = blocking_run(b, &look);
    if (e == ERR_OK) {
        struct vfs_op close = {.kind = VFS_CLOSE, .file = look.file};
        e = blocking_run(b, &close);
        return e == ERR_CLOSED ? e : ERR_EXISTS;
    }
    if (e != ERR_UNKNOWN) return e;
    struct vfs_op op = {.kind = VFS_RENAME, .path = o->name.text, .path_to = to.text};
    return blocking_run(b, &op);
}

/* newest[log]: is raised to all segments there. */
static enum err rename_all(struct recovery *r, uint32_t *newest)
{
    struct orphan o;
    enum err e;
    for (uint64_t n = 0; (e = find(r, false, n, &o)) == ERR_OK;) {
        bool is_older = newest[o.log] > 0;
        if (is_older && !o.is_pack && o.number > newest[o.log] && o.number <= NUMBER_MAX)
            newest[o.log] = o.number;
        e = is_older ? rename_kept(r, &o) : ERR_OK;
        if (e == ERR_CLOSED || e == ERR_MEMORY) return e;
        if (is_older && e == ERR_OK) continue;
        if (e != ERR_OK) { /* it stays by its name, and so do all others */
            r->keeps_all = true;
            tell(r, &o);
        }
        n++;
    }
    return e == ERR_UNKNOWN ? ERR_OK : e;
}

enum err orphans_keep(struct recovery *r)
{
    uint32_t newest[PLACE_LOGS_MAX] = {0};
    bool is_older = false;
    enum err e = find_newest(r, newest);
    for (uint32_t log = 0; log < r->log_count; log++) is_older = is_older || newest[log] > 0;
    if (e == ERR_OK && is_older) e = rename_all(r, newest);
    if (e == ERR_OK && is_older) e = blocking_flush_folder(r->options.blocking);
    /* These numbers were given. */
    for (uint32_t log = 0; e == ERR_OK && log < r->log_count; log++)
        if (newest[log] > 0) r->logs[log].next_segment = newest[log] + 1;
    struct orphan o;
    for (uint64_t n = 0; e == ERR_OK && (e = find(r, true, n, &o)) == ERR_OK; n++) tell(r, &o);
    return e == ERR_UNKNOWN ? ERR_OK : e;
}

static bool has_scrubs(const struct recovery *r)
{
    for (uint32_t log = 0; log < r->log_count; log++)
        if (r->logs[log].has_scrubs) return true;
    return false;
}

/* Rule 2. Of a pack nobody knows what is in it that cannot be read elsewhere. */
static enum err must_stay(const struct recovery *r, const struct orphan *o, bool *stays)
{
    *stays = r->counts.damaged_ranges > 0 || r->counts.read_errors > 0;
    if (!*stays || o->is_pack) return ERR_OK;
    return holds_groups(r, &r->logs[o->log], o->number, stays);
}

/* The store is served also when one of them takes no write, or does not go. */
enum err orphans_remove(struct recovery *r)
{
    struct orphan o;
    enum err e;
    uint64_t skipped = 0;
    bool has_removed = false, stays;
    if (r->keeps_all) return ERR_OK;
    while ((e = find(r, false, skipped, &o)) == ERR_OK) {
        e = must_stay(r, &o, &stays);
        if (e == ERR_CLOSED || e == ERR_MEMORY) return e;
        if (e != ERR_OK || stays) {
            tell(r, &o);
            skipped++;
            continue;
        }
        if (has_scrubs(r)) e = wipe_file(r->options.blocking, r->options.mem, o.name.text);
        if (e == ERR_CLOSED || e == ERR_MEMORY) return e;
        r->counts.unwiped += e != ERR_OK;
        struct vfs_op op = {.kind = VFS_UNLINK, .path = o.name.text};
        e = blocking_run(r->options.blocking, &op);
        if (e == ERR_CLOSED) return e;
        r->counts.left += e != ERR_OK;
        skipped += e != ERR_OK;
        has_removed = has_removed || e == ERR_OK;
    }
    if (e != ERR_UNKNOWN) return e;
    return has_removed ? blocking_flush_folder(r->options.blocking) : ERR_OK;
}
