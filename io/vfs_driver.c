#include "io/vfs_driver.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "core/base/must.h"
#include "io/file_threads.h"

_Static_assert(sizeof(struct file_op) <= VFS_PORT_WORDS * sizeof(uint64_t), "vfs_op.port");

static enum err err_of(int error)
{
    switch (error) {
    case 0: return ERR_OK;
    case ENOENT:
    case ENOTDIR: return ERR_UNKNOWN;
    case EEXIST: return ERR_EXISTS;
    case ENOSPC:
    case EFBIG: /* beyond a limit of the process */
    case EDQUOT: return ERR_NO_SPACE;
    case EMFILE:
    case ENFILE: return ERR_FULL;
    case EACCES:
    case EPERM:
    case EROFS: return ERR_DENIED;
    case ENOMEM: return ERR_MEMORY;
    case EINVAL:
    case ENAMETOOLONG:
    case EISDIR: return ERR_INVALID;
    default: return ERR_IO;
    }
}

static int open_flags_of(uint32_t flags)
{
    return ((flags & VFS_READ_ONLY) != 0 ? O_RDONLY : O_RDWR) |
           ((flags & VFS_CREATE) != 0 ? O_CREAT : 0) | ((flags & VFS_EXCLUSIVE) != 0 ? O_EXCL : 0) |
           ((flags & VFS_DIRECT) != 0 ? O_DIRECT : 0);
}

static enum file_op_kind kind_of(enum vfs_kind kind)
{
    switch (kind) {
    case VFS_OPEN: return FILE_OPEN;
    case VFS_CLOSE: return FILE_CLOSE;
    case VFS_WRITE: return FILE_WRITE;
    case VFS_READ: return FILE_READ;
    case VFS_FLUSH: return FILE_FLUSH;
    case VFS_ALLOCATE: return FILE_ALLOCATE;
    case VFS_TRUNCATE: return FILE_TRUNCATE;
    case VFS_SIZE: return FILE_SIZE;
    case VFS_RENAME: return FILE_RENAME;
    case VFS_UNLINK: return FILE_UNLINK;
    case VFS_MAKE_DIR: return FILE_MKDIR;
    case VFS_FLUSH_DIR: return FILE_FLUSH_DIR;
    case VFS_LIST: return FILE_LIST;
    }
    must(!"unknown kind");
    return FILE_READ;
}

static bool is_by_path(enum vfs_kind kind)
{
    return kind == VFS_OPEN || kind == VFS_RENAME || kind == VFS_UNLINK || kind == VFS_MAKE_DIR ||
           kind == VFS_FLUSH_DIR || kind == VFS_LIST;
}

void vfs_driver_to_file_op(const struct vfs_op *op, int folder_fd, struct file_op *out)
{
    must(op->done != NULL);
    must(!is_by_path(op->kind) || op->path != NULL);
    bool is_folder_itself = is_by_path(op->kind) && op->path[0] == '\0';
    *out = (struct file_op){.kind = kind_of(op->kind),
                            .fd = is_by_path(op->kind) ? folder_fd : op->file.handle,
                            .is_durable = op->is_durable,
                            .data = op->data,
                            .bytes = op->bytes,
                            .offset = op->kind == VFS_TRUNCATE ? op->size : op->offset,
                            .bytes_total = op->size,
                            .keeps_size = (op->flags & VFS_KEEP_SIZE) != 0,
                            .path = is_folder_itself ? "." : op->path,
                            .path_to = op->path_to,
                            .open_flags = open_flags_of(op->flags)};
}

void vfs_driver_set_result(struct vfs_op *op, const struct file_op *from, int32_t result,
                           const struct vfs_scarce *scarce)
{
    bool is_scarce = (result == -EMFILE || result == -ENFILE) && scarce->tell != NULL;
    if (is_scarce && is_by_path(op->kind)) scarce->tell(scarce->context, op->path, -result);
    op->result = err_of(result < 0 ? -result : 0);
    op->bytes_done = 0;
    if (result < 0) return;
    switch (op->kind) {
    case VFS_OPEN: op->file.handle = result; break;
    case VFS_SIZE: op->size = from->size_result; break;
    case VFS_WRITE:
        op->bytes_done = (uint32_t)result;
        /* The disk may be full or ill: a commit of which a part is missing failed. */
        if (op->bytes_done < op->bytes) op->result = ERR_IO;
        break;
    case VFS_READ:
    case VFS_LIST: op->bytes_done = (uint32_t)result; break;
    default: break;
    }
}

static enum err driver_submit(struct vfs *vfs, struct vfs_op *op)
{
    struct vfs_driver *v = (struct vfs_driver *)vfs;
    struct file_op *file_op = (struct file_op *)op->port;
    vfs_driver_to_file_op(op, v->folder_fd, file_op);
    file_op->user = op;
    enum err e = v->driver->ops->file_submit(v->driver, file_op);
    if (e == ERR_OK) v->flying_count++;
    return e;
}

static enum err driver_write_now(struct vfs *vfs, struct vfs_op *op)
{
    const struct vfs_driver *v = (struct vfs_driver *)vfs;
    struct file_op file_op = {0};
    must(op->kind == VFS_WRITE && !op->is_durable);
    vfs_driver_to_file_op(op, v->folder_fd, &file_op);
    vfs_driver_set_result(op, &file_op, file_threads_run(&file_op), &v->scarce);
    return op->result;
}

static const struct vfs_ops driver_vfs_ops = {.submit = driver_submit,
                                              .write_now = driver_write_now};

enum err vfs_driver_open(struct vfs_driver *v, struct driver *d, const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return err_of(errno);
    *v = (struct vfs_driver){.vfs.ops = &driver_vfs_ops, .driver = d, .folder_fd = fd};
    return ERR_OK;
}

void vfs_driver_close(struct vfs_driver *v)
{
    must(v->flying_count == 0);
    close(v->folder_fd);
}

void vfs_driver_done(struct vfs_driver *v, const struct done *d)
{
    must(d->kind == DONE_FILE);
    must(v->flying_count > 0);
    v->flying_count--;
    struct vfs_op *op = d->user;
    vfs_driver_set_result(op, (const struct file_op *)op->port, d->result, &v->scarce);
    op->done(op);
}
