#include "persist/pair.h"
#include <string.h>
#include "core/base/must.h"
#include "persist/place.h"

static void advance(struct pair *p);

static void finish(struct pair *p, enum err e)
{
    p->state = e == ERR_OK ? PAIR_IDLE : PAIR_BROKEN;
    p->result = e;
    p->data = NULL;
    if (p->done != NULL) p->done(p);
}

static void on_done(struct vfs_op *op)
{
    struct pair *p = op->context;
    if (p->state == PAIR_CLOSING) {
        p->step++;
        if (p->step == p->open_count) {
            p->open_count = 0;
            p->state = PAIR_IDLE;
        } else {
            advance(p);
        }
        return;
    }
    if (op->result != ERR_OK && p->state != PAIR_RESERVING) {
        finish(p, op->result);
        return;
    }
    p->step++;
    if (p->state == PAIR_OPENING) {
        p->files[p->open_count++] = op->file;
        if (p->open_count == 2) {
            p->reserving_bytes = p->reserve_bytes;
            p->state = p->reserve_bytes > p->bytes ? PAIR_RESERVING : PAIR_WRITING;
            p->step = 0;
        }
    } else if (p->state == PAIR_RESERVING && (p->step == 2 || op->result != ERR_OK)) {
        if (op->result == ERR_OK) p->reserved_bytes = p->reserving_bytes;
        p->state = PAIR_WRITING;
        p->step = 0;
    } else if (p->state == PAIR_WRITING && p->step == 2) {
        finish(p, ERR_OK);
        return;
    }
    advance(p);
}

static enum err start(struct pair *p)
{
    uint32_t copy = p->state == PAIR_WRITING ? p->first ^ p->step : p->open_count;
    p->op = (struct vfs_op){.done = on_done, .context = p};
    switch (p->state) {
    case PAIR_OPENING:
        p->op.kind = VFS_OPEN;
        p->op.flags = VFS_CREATE;
        p->op.path = p->names[copy].text;
        break;
    case PAIR_RESERVING:
        p->op.kind = VFS_ALLOCATE;
        p->op.file = p->files[p->step];
        p->op.flags = VFS_KEEP_SIZE;
        p->op.size = p->reserving_bytes;
        break;
    case PAIR_WRITING:
        p->op.kind = VFS_WRITE;
        p->op.file = p->files[copy];
        p->op.data = p->data;
        p->op.bytes = p->bytes;
        p->op.is_durable = true;
        break;
    default:
        p->op.kind = VFS_CLOSE;
        p->op.file = p->files[p->step];
        break;
    }
    return vfs_submit(p->vfs, &p->op);
}

static void advance(struct pair *p)
{
    enum err e = start(p);
    if (e == ERR_OK) return;
    if (p->state == PAIR_CLOSING) {
        p->state = PAIR_IDLE; /* the handles end with the process */
        return;
    }
    finish(p, e);
}

void pair_init(struct pair *p, struct vfs *vfs, struct names_text copy_0, struct names_text copy_1,
               uint32_t first)
{
    must(first < 2);
    *p = (struct pair){.vfs = vfs, .names = {copy_0, copy_1}, .first = first};
}

/* Where more than half of the room is taken it is to be twice as much. It is asked for with each
 * write until it is there: the disk may have been full. */
static uint64_t room_wanted(const struct pair *p)
{
    uint64_t least = p->reserve_bytes;
    if (least < PLACE_BLOCK_BYTES) return 0;
    return 2 * (uint64_t)p->bytes > least ? 2 * (uint64_t)p->bytes : least;
}

enum err pair_write(struct pair *p, char *data, uint32_t bytes)
{
    must(p->state == PAIR_IDLE || p->state == PAIR_BROKEN);
    if (p->state == PAIR_BROKEN) return ERR_IO;
    p->data = data;
    p->bytes = bytes;
    p->step = 0;
    p->state = p->open_count == 2 ? PAIR_WRITING : PAIR_OPENING;
    if (p->open_count == 2 && room_wanted(p) > p->reserved_bytes) {
        p->reserving_bytes = room_wanted(p);
        p->state = PAIR_RESERVING;
    }
    enum err e = start(p);
    if (e != ERR_OK) {
        p->state = PAIR_IDLE;
        p->data = NULL;
    }
    return e;
}

void pair_close(struct pair *p)
{
    must(p->state == PAIR_IDLE || p->state == PAIR_BROKEN);
    if (p->open_count == 0) return;
    p->state = PAIR_CLOSING;
    p->step = 0;
    advance(p);
}
