#include "persist/scan.h"
#include <string.h>
#include "core/base/must.h"
#include "persist/names.h"

static enum err file_size(struct scan *s)
{
    struct vfs_op op = {.kind = VFS_SIZE, .file = s->file};
    enum err e = blocking_run(s->blocking, &op);
    if (e == ERR_OK) s->file_bytes = op.size;
    return e;
}

enum err scan_open(struct scan *s, const struct blocking *b, struct mem *mem,
                   const struct place_key *key, uint64_t size, uint32_t flags)
{
    *s = (struct scan){
        .blocking = b, .mem = mem, .key = *key, .size = size, .window_bytes = SCAN_WINDOW_BYTES};
    s->reads_ahead = (flags & VFS_AHEAD) != 0;
    struct names_text name = names_segment(key->log, key->segment);
    struct vfs_op op = {
        .kind = VFS_OPEN, .path = name.text, .flags = (flags & VFS_DIRECT) | VFS_READ_ONLY};
    enum err e = blocking_run(b, &op);
    if (e == ERR_UNKNOWN) {
        s->is_missing = true;
        return ERR_OK;
    }
    if (e != ERR_OK) return e;
    s->file = op.file;
    s->is_open = true;
    e = file_size(s);
    if (e != ERR_OK) scan_close(s);
    return e;
}

/* --- reading ahead --------------------------------------------------------------------------- */

static size_t ahead_room(void)
{
    return (size_t)SCAN_SLACK_BYTES + SCAN_WINDOW_BYTES + PLACE_BLOCK_BYTES;
}

static void on_ahead(struct vfs_op *op)
{
    *(bool *)op->context = true;
}

static struct scan_ahead *ahead_at(struct scan *s, uint32_t i)
{
    return &s->ahead[(s->ahead_first + i) % (SCAN_AHEAD_MAX + 1)];
}

/* The next part of the file begins. False: there is none, or no memory; it is read later. */
static bool begin_part(struct scan *s)
{
    const struct scan_ahead *last = ahead_at(s, s->ahead_count - 1);
    uint64_t offset = s->ahead_count == 0 ? s->at + s->bytes : last->offset + last->bytes;
    struct scan_ahead *a = ahead_at(s, s->ahead_count);
    if (s->ahead_count == SCAN_AHEAD_MAX || offset >= s->size || offset >= s->file_bytes)
        return false;
    if (a->memory == NULL) a->memory = mem_alloc(s->mem, MEM_STORE, ahead_room());
    if (a->memory == NULL) return false;
    uint64_t left = s->size - offset;
    a->data = (char *)place_block_up((uint64_t)(uintptr_t)a->memory + SCAN_SLACK_BYTES);
    a->offset = offset;
    a->bytes = left < s->window_bytes ? (uint32_t)left : (uint32_t)s->window_bytes;
    a->is_done = false;
    a->op = (struct vfs_op){.kind = VFS_READ,
                            .file = s->file,
                            .data = a->data,
                            .bytes = a->bytes,
                            .offset = offset,
                            .flags = VFS_DIRECT | VFS_AHEAD,
                            .done = on_ahead,
                            .context = &a->is_done};
    if (vfs_submit(s->blocking->vfs, &a->op) != ERR_OK) return false;
    s->ahead_count++;
    return true;
}

static void read_ahead(struct scan *s)
{
    if (!s->reads_ahead || !s->is_open || s->window_bytes > SCAN_WINDOW_BYTES) return;
    while (begin_part(s)) continue;
}

/* The first part is the caller's from now on. */
static enum err end_part(struct scan *s)
{
    const struct scan_ahead *a = ahead_at(s, 0);
    while (!a->is_done)
        if (!s->blocking->pump(s->blocking->context)) return ERR_CLOSED;
    s->ahead_first = (s->ahead_first + 1) % (SCAN_AHEAD_MAX + 1);
    s->ahead_count--;
    return ERR_OK;
}

static enum err drop_parts(struct scan *s)
{
    enum err e = ERR_OK;
    while (e == ERR_OK && s->ahead_count > 0) e = end_part(s);
    return e;
}

/* The first part becomes the window that holds [from, to). ERR_UNKNOWN: it does not fit. ERR_IO: it
 * was not read, or not all of it. */
static enum err take_part(struct scan *s, uint64_t from, uint64_t to)
{
    const struct scan_ahead *a = ahead_at(s, 0);
    uint64_t end = s->at + s->bytes;
    if (s->ahead_count == 0 || a->offset != end || from < s->at || from > end ||
        end - from > SCAN_SLACK_BYTES || to > end + a->bytes)
        return ERR_UNKNOWN;
    enum err e = end_part(s);
    if (e != ERR_OK) return e;
    if (a->op.result != ERR_OK ||
        (a->op.bytes_done < a->bytes && a->offset + a->op.bytes_done < s->file_bytes))
        return ERR_IO;
    memset(a->data + a->op.bytes_done, 0, a->bytes - a->op.bytes_done);
    memcpy(a->data - (end - from), s->window + (from - s->at), end - from);
    s->read_bytes += a->op.bytes_done;
    s->window = a->data - (end - from);
    s->at = from;
    s->bytes = end - from + a->bytes;
    return ERR_OK;
}

/* --- the window ------------------------------------------------------------------------------ */

void scan_close(struct scan *s)
{
    (void)!drop_parts(s); /* without power they do not end */
    for (uint32_t i = 0; i <= SCAN_AHEAD_MAX; i++)
        mem_free(s->mem, MEM_STORE, s->ahead[i].memory, ahead_room());
    mem_free(s->mem, MEM_STORE, s->memory, s->room + PLACE_BLOCK_BYTES);
    s->memory = s->own = s->window = NULL;
    s->room = s->bytes = 0;
    if (!s->is_open) return;
    struct vfs_op op = {.kind = VFS_CLOSE, .file = s->file};
    s->is_open = false;
    /* Nothing was written through it, and the handle is gone in any case. */
    (void)!blocking_run(s->blocking, &op);
}

static enum err make_room(struct scan *s, uint64_t bytes)
{
    if (bytes <= s->room) return ERR_OK;
    uint64_t room = s->size < s->window_bytes ? s->size : s->window_bytes;
    while (room < bytes) room *= 2;
    char *memory = mem_alloc(s->mem, MEM_STORE, room + PLACE_BLOCK_BYTES);
    if (memory == NULL) return ERR_MEMORY;
    mem_free(s->mem, MEM_STORE, s->memory, s->room + PLACE_BLOCK_BYTES);
    s->memory = memory;
    s->own = (char *)place_block_up((uint64_t)(uintptr_t)memory);
    s->room = room;
    s->bytes = 0;
    return ERR_OK;
}

static enum err read_some(struct scan *s, uint64_t offset, uint64_t bytes)
{
    struct vfs_op op = {.kind = VFS_READ,
                        .file = s->file,
                        .data = s->window + (offset - s->at),
                        .bytes = (uint32_t)bytes,
                        .offset = offset,
                        .flags = VFS_DIRECT};
    enum err e = blocking_run(s->blocking, &op);
    if (e == ERR_OK) s->read_bytes += op.bytes_done;
    /* Short of what the file has: the disk could not read the rest. */
    if (e == ERR_OK && op.bytes_done < bytes && offset + op.bytes_done < s->file_bytes)
        return ERR_IO;
    if (e == ERR_OK && op.bytes_done < bytes)
        memset((char *)op.data + op.bytes_done, 0, bytes - op.bytes_done);
    return e;
}

/* What cannot be read as a whole is read block by block, so that only what is bad is lost. */
static enum err load(struct scan *s, uint64_t offset)
{
    uint64_t left = s->size - offset;
    s->window = s->own;
    s->at = offset;
    s->bytes = left < s->room ? left : s->room;
    memset(s->window, 0, s->bytes);
    if (!s->is_open || offset >= s->file_bytes) return ERR_OK;
    read_ahead(s); /* beside this one, which is waited for */
    enum err e = read_some(s, offset, s->bytes);
    if (e == ERR_OK || e == ERR_CLOSED || e == ERR_MEMORY) return e;
    for (uint64_t b = 0; b < s->bytes; b += PLACE_BLOCK_BYTES) {
        e = read_some(s, offset + b, PLACE_BLOCK_BYTES);
        if (e == ERR_CLOSED || e == ERR_MEMORY) return e;
        if (e == ERR_OK) continue;
        memset(s->window + b, 0, PLACE_BLOCK_BYTES);
        s->error_count++;
    }
    return ERR_OK;
}

/* Another window, which holds the bytes at offset. */
static enum err move_window(struct scan *s, uint64_t offset, uint64_t bytes)
{
    uint64_t from = place_block_down(offset);
    enum err e = take_part(s, from, offset + bytes);
    if (e == ERR_UNKNOWN || e == ERR_IO) {
        e = drop_parts(s);
        if (e == ERR_OK) e = make_room(s, place_block_up(offset + bytes) - from);
        if (e == ERR_OK) e = load(s, from);
    }
    if (e == ERR_OK) read_ahead(s);
    return e;
}

enum err scan_at(struct scan *s, uint64_t offset, uint64_t bytes, const char **out)
{
    must(offset + bytes <= s->size);
    if (offset < s->at || offset + bytes > s->at + s->bytes) {
        enum err e = move_window(s, offset, bytes);
        if (e != ERR_OK) {
            s->bytes = 0;
            return e;
        }
    }
    *out = s->window + (offset - s->at);
    return ERR_OK;
}

enum err scan_head(struct scan *s, uint64_t offset, struct group_head *out)
{
    const char *data;
    enum err e = scan_at(s, offset, GROUP_HEAD_BYTES, &data);
    if (e != ERR_OK) return e;
    return group_decode_head(data, &s->key, offset, s->size, out);
}

enum err scan_find(struct scan *s, uint64_t offset, uint64_t end, struct group_head *out,
                   uint64_t *found)
{
    must(offset % PLACE_BLOCK_BYTES == 0 && end <= s->size);
    for (; offset < end; offset += PLACE_BLOCK_BYTES) {
        enum err e = scan_head(s, offset, out);
        if (e == ERR_CORRUPT) continue;
        if (e == ERR_OK) *found = offset;
        return e;
    }
    return ERR_UNKNOWN;
}
