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

enum err blocking_flush_folder(const struct blocking *b)
{
#ifdef MILLRACE_BREAK_DIRECTORY_FLUSH_SKIPPED
    (void)b;
    return ERR_OK;
#else
    struct vfs_op op = {.kind = VFS_FLUSH_DIR, .path = ""};
    return blocking_run(b, &op);
#endif
}
