#include "persist/wipe.h"

enum { CHUNK_BYTES = 1024 * 1024 };

static enum err overwrite(const struct blocking *b, struct vfs_file file, char *zeros)
{
    struct vfs_op size = {.kind = VFS_SIZE, .file = file};
    enum err e = blocking_run(b, &size);
    for (uint64_t at = 0; e == ERR_OK && at < size.size; at += CHUNK_BYTES) {
        uint64_t left = size.size - at;
        struct vfs_op write = {.kind = VFS_WRITE,
                               .file = file,
                               .data = zeros,
                               .bytes = left < CHUNK_BYTES ? (uint32_t)left : CHUNK_BYTES,
                               .offset = at};
        e = blocking_run(b, &write);
    }
    if (e != ERR_OK) return e;
    struct vfs_op flush = {.kind = VFS_FLUSH, .file = file};
    return blocking_run(b, &flush);
}

enum err wipe_file(const struct blocking *b, struct mem *mem, const char *path)
{
    struct vfs_op op = {.kind = VFS_OPEN, .path = path};
    enum err e = blocking_run(b, &op);
    if (e == ERR_UNKNOWN) return ERR_OK;
    if (e != ERR_OK) return e;
    char *zeros = mem_alloc_zero(mem, MEM_STORE, CHUNK_BYTES);
    e = zeros == NULL ? ERR_MEMORY : overwrite(b, op.file, zeros);
    mem_free(mem, MEM_STORE, zeros, CHUNK_BYTES);
    struct vfs_op close = {.kind = VFS_CLOSE, .file = op.file};
    enum err closed = blocking_run(b, &close);
    return closed == ERR_CLOSED ? closed : e;
}
