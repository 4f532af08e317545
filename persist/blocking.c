#include "persist/blocking.h"

static void on_done(struct vfs_op *op)
{
    *(bool *)op->context = true;
}

enum err blocking_run(const struct blocking *b, struct vfs_op *op)
{
    bool is_done = false;
    op->done = on_done;
    op->context = &is_done;
    enum err e = vfs_submit(b->vfs, op);
    if (e != ERR_OK) return e;
    while (!is_done)
        if (!b->pump(b->context)) return ERR_CLOSED;
    return op->result;
}
