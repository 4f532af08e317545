#include "tests/support/vfs_bytes.h"
#include <string.h>
#include "core/base/must.h"

static enum err open_file(struct vfs_bytes *v, struct vfs_op *op)
{
    for (int i = 0; i < v->file_count; i++) {
        if (strcmp(v->files[i].name, op->path) != 0) continue;
        op->file.handle = i;
        return ERR_OK;
    }
    return ERR_UNKNOWN;
}

static enum err read_file(const struct vfs_bytes *v, struct vfs_op *op)
{
    const struct vfs_bytes_file *f = &v->files[op->file.handle];
    op->bytes_done = 0;
    if (op->offset < v->fail_from + v->fail_bytes && op->offset + op->bytes > v->fail_from)
        return ERR_IO;
    if (op->offset >= f->bytes) return ERR_OK;
    size_t left = f->bytes - op->offset;
    op->bytes_done = left < op->bytes ? (uint32_t)left : op->bytes;
    memcpy(op->data, f->data + op->offset, op->bytes_done);
    return ERR_OK;
}

/* One name at a time. */
static enum err list(const struct vfs_bytes *v, struct vfs_op *op)
{
    op->bytes_done = 0;
    if (op->offset >= (uint64_t)v->file_count) return ERR_OK;
    const char *name = v->files[op->offset].name;
    op->bytes_done = (uint32_t)strlen(name) + 1;
    must(op->bytes_done <= op->bytes);
    memcpy(op->data, name, op->bytes_done);
    return ERR_OK;
}

static enum err run(struct vfs_bytes *v, struct vfs_op *op)
{
    switch (op->kind) {
    case VFS_OPEN:
        if ((op->flags & VFS_READ_ONLY) != 0) return open_file(v, op);
        v->write_count++;
        return ERR_DENIED;
    case VFS_CLOSE: return ERR_OK;
    case VFS_READ: return read_file(v, op);
    case VFS_SIZE: op->size = v->files[op->file.handle].bytes; return ERR_OK;
    case VFS_LIST: return list(v, op);
    default: v->write_count++; return ERR_DENIED;
    }
}

static enum err submit(struct vfs *vfs, struct vfs_op *op)
{
    struct vfs_bytes *v = (struct vfs_bytes *)(void *)vfs;
    must(v->flying_count < VFS_BYTES_FLYING_MAX);
    v->flying[v->flying_count++] = op;
    if (v->flying_count > v->flying_most) v->flying_most = v->flying_count;
    return ERR_OK;
}

static const struct vfs_ops OPS = {.submit = submit};

static bool pump(void *context)
{
    struct vfs_bytes *v = context;
    if (v->flying_count == 0) return false;
    struct vfs_op *op = v->flying[--v->flying_count];
    op->result = run(v, op);
    op->done(op);
    return true;
}

void vfs_bytes_init(struct vfs_bytes *v)
{
    *v = (struct vfs_bytes){.vfs.ops = &OPS};
    v->blocking = (struct blocking){.vfs = &v->vfs, .pump = pump, .context = v};
}

void vfs_bytes_add(struct vfs_bytes *v, const char *name, const char *data, size_t bytes)
{
    must(v->file_count < VFS_BYTES_FILES_MAX);
    v->files[v->file_count++] = (struct vfs_bytes_file){.name = name, .data = data, .bytes = bytes};
}
