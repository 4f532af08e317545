#include "persist/blocking.h"

static void on_done(struct vfs_op *op)
{
    *(bool *)op->context = true;
}

enum err blocking_begin(const struct blocking *b, struct vfs_op *op, bool *is_done)
{
    *is_done = false;
    op->done = on_done;
    op->context = is_done;
    return vfs_submit(b->vfs, op);
}

enum err blocking_end(const struct blocking *b, const struct vfs_op *op)
{
    const bool *is_done = op->context;
    while (!*is_done)
        if (!b->pump(b->context)) return ERR_CLOSED;
    return op->result;
}

enum err blocking_run(const struct blocking *b, struct vfs_op *op)
{
    bool is_done;
    enum err e = blocking_begin(b, op, &is_done);
    return e == ERR_OK ? blocking_end(b, op) : e;
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
