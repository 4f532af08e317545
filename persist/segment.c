#include "persist/segment.h"
#include <string.h>
#include "core/base/must.h"
#include "persist/place.h"

static void on_done(struct vfs_op *op);

void segment_init(struct segment *s, struct vfs *vfs, struct mem *mem, uint32_t flags,
                  uint32_t use_flags, void (*done)(struct segment *s), void *context)
{
    *s = (struct segment){.vfs = vfs,
                          .mem = mem,
                          .flags = flags,
                          .use_flags = use_flags,
                          .done = done,
                          .context = context};
}

void segment_abandon(struct segment *s)
{
    mem_free(s->mem, MEM_STORE, s->memory, s->zero_bytes + PLACE_BLOCK_BYTES);
    s->memory = s->zeros = NULL;
    s->state = SEGMENT_IDLE;
}

static enum err start(struct segment *s)
{
    uint64_t left = s->size - s->zeroed;
    s->op = (struct vfs_op){.done = on_done, .context = s, .file = s->file};
    switch (s->state) {
    case SEGMENT_OPENING:
        s->op.kind = VFS_OPEN;
        s->op.path = s->name.text;
        s->op.flags = VFS_CREATE | s->flags;
        break;
    case SEGMENT_REOPENING:
        s->op.kind = VFS_OPEN;
        s->op.path = s->name.text;
        s->op.flags = s->use_flags;
        break;
    case SEGMENT_ALLOCATING:
        s->op.kind = VFS_ALLOCATE;
        s->op.size = s->size;
        break;
    case SEGMENT_ZEROING:
        s->op.kind = VFS_WRITE;
        s->op.data = s->zeros;
        s->op.bytes = left < s->zero_bytes ? (uint32_t)left : s->zero_bytes;
        s->op.offset = s->zeroed;
        break;
    case SEGMENT_FLUSHING: s->op.kind = VFS_FLUSH; break;
    case SEGMENT_NAMING:
        s->op.kind = VFS_FLUSH_DIR;
        s->op.path = "";
        break;
    case SEGMENT_EMPTYING: s->op.kind = VFS_TRUNCATE; break;
    default: s->op.kind = VFS_CLOSE; break;
    }
    return vfs_submit(s->vfs, &s->op);
}

static void finish(struct segment *s, enum err e)
{
    segment_abandon(s);
    s->result = e;
    s->done(s);
}

/* The handle goes before the error is told, unless even that cannot be asked for. */
static void fail(struct segment *s, enum err e)
{
    bool is_open =
        s->state != SEGMENT_OPENING && s->state != SEGMENT_LEAVING && s->state != SEGMENT_REOPENING;
    s->result = e;
    s->state = SEGMENT_EMPTYING;
    if (!is_open || start(s) != ERR_OK) finish(s, e);
}

static void on_done(struct vfs_op *op)
{
    struct segment *s = op->context;
    if (s->state == SEGMENT_CLOSING) {
        finish(s, s->result);
        return;
    }
    if (s->state == SEGMENT_EMPTYING) { /* whatever came of it */
        s->state = SEGMENT_CLOSING;
        if (start(s) != ERR_OK) finish(s, s->result);
        return;
    }
    if (op->result != ERR_OK) {
        fail(s, op->result);
        return;
    }
    switch (s->state) {
    case SEGMENT_OPENING:
        s->file = op->file;
        s->state = SEGMENT_ALLOCATING;
        break;
    case SEGMENT_ALLOCATING: s->state = SEGMENT_ZEROING; break;
    case SEGMENT_ZEROING:
        s->zeroed += op->bytes;
        s->written_bytes += op->bytes;
        if (s->zeroed == s->size)
            s->state = s->use_flags == s->flags ? SEGMENT_FLUSHING : SEGMENT_LEAVING;
        break;
    case SEGMENT_LEAVING: s->state = SEGMENT_REOPENING; break;
    case SEGMENT_REOPENING:
        s->file = op->file;
        s->state = SEGMENT_FLUSHING;
        break;
    case SEGMENT_FLUSHING: s->state = SEGMENT_NAMING;
#ifdef MILLRACE_BREAK_DIRECTORY_FLUSH_SKIPPED
        finish(s, ERR_OK);
        return;
#endif
        break;
    default: finish(s, ERR_OK); return;
    }
    enum err e = start(s);
    if (e != ERR_OK) fail(s, e);
}

enum err segment_prepare(struct segment *s, uint32_t log, uint32_t number, uint64_t size)
{
    must(s->state == SEGMENT_IDLE);
    must(size > 0 && size % PLACE_BLOCK_BYTES == 0 && size <= PLACE_SEGMENT_BYTES_MAX);
    s->zero_bytes = size < SEGMENT_ZERO_BYTES ? (uint32_t)size : SEGMENT_ZERO_BYTES;
    s->memory = mem_alloc(s->mem, MEM_STORE, s->zero_bytes + PLACE_BLOCK_BYTES);
    if (s->memory == NULL) return ERR_MEMORY;
    s->zeros = (char *)place_block_up((uint64_t)(uintptr_t)s->memory);
    memset(s->zeros, 0, s->zero_bytes);
    s->name = names_segment(log, number);
    s->size = size;
    s->zeroed = 0;
    s->state = SEGMENT_OPENING;
    enum err e = start(s);
    if (e != ERR_OK) segment_abandon(s);
    return e;
}
