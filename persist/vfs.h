/* The file port of persist: submit an operation, be told when it ended. Implementations: on a
 * shard's driver (io/vfs_driver), by blocking calls for helper threads (io/vfs_blocking), and the
 * simulated disk of the tests.
 *
 * 1. Operations in flight together end, and reach the disk, in any order.
 * 2. Nothing is durable but what was asked to be: bytes by a durable write, or by a flush that was
 *    submitted after the write ended; names (create, rename, unlink) by a flush of their directory.
 *    A file's size travels with a flush of the file, and with a durable write.
 * 3. After a failed write or flush nobody knows what the file holds: it is not to be trusted and
 *    the flush not to be repeated.
 * 4. All paths are relative to the store's folder, zero-terminated, without "..".
 * One instance belongs to one thread. */
#ifndef PERSIST_VFS_H
#define PERSIST_VFS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/err.h"

enum vfs_kind {
    VFS_OPEN,      /* path, flags -> file */
    VFS_CLOSE,     /* file; flushes nothing. The handle is gone even on an error */
    VFS_WRITE,     /* file, data, bytes, offset, is_durable: all of it or an error */
    VFS_READ,      /* file, data, bytes, offset -> bytes_done; fewer than bytes: the end of file */
    VFS_FLUSH,     /* file: its bytes and size */
    VFS_ALLOCATE,  /* file, offset, size: space is reserved, the file grows; contents are zero, but
                      only a write makes its blocks initialised */
    VFS_TRUNCATE,  /* file, size */
    VFS_SIZE,      /* file -> size */
    VFS_RENAME,    /* path to path_to, which is replaced if it exists */
    VFS_UNLINK,    /* path */
    VFS_MAKE_DIR,  /* path; one that exists is no error */
    VFS_FLUSH_DIR, /* path, "" for the store's folder: its names */
    VFS_LIST,      /* path as above, offset: entries to skip -> data: names with their zeros,
                      bytes_done; 0 bytes: no more. In any order; a name may be missed while the
                      folder changes */
};

enum vfs_flags {
    VFS_CREATE = 1,    /* create if it is not there */
    VFS_EXCLUSIVE = 2, /* with VFS_CREATE: it must not be there */
    VFS_READ_ONLY = 4,
    VFS_DIRECT = 8,     /* past the page cache: data, bytes and offset in multiples of 4096 */
    VFS_KEEP_SIZE = 16, /* VFS_ALLOCATE: the space is behind the file's end, until it grows */
    VFS_AHEAD = 32,     /* VFS_READ: a port by blocking calls reads it beside what else is asked */
};

enum { VFS_DIRECT_ALIGN = 4096, VFS_PORT_WORDS = 24 };

struct vfs_file {
    int32_t handle;
};

/* The caller keeps the operation, and what it points to, untouched until done is called. */
struct vfs_op {
    enum vfs_kind kind;
    uint32_t flags; /* enum vfs_flags */
    struct vfs_file file;
    bool is_durable; /* VFS_WRITE: ends only once on stable storage */
    const char *path;
    const char *path_to;
    void *data;
    uint32_t bytes;
    uint64_t offset;
    uint64_t size;
    /* Called once, never from inside submit; may submit again, this operation too. */
    void (*done)(struct vfs_op *op);
    void *context; /* of the caller */
    /* ERR_OK. ERR_UNKNOWN: no such file. ERR_EXISTS. ERR_NO_SPACE. ERR_FULL: no descriptor free.
     * ERR_DENIED, ERR_MEMORY, ERR_INVALID, ERR_IO: everything else, a short write included. */
    enum err result;
    uint32_t bytes_done;
    uint64_t port[VFS_PORT_WORDS]; /* of the implementation */
};

struct vfs;

struct vfs_ops {
    /* ERR_MEMORY: nothing was started and done is not called. */
    enum err (*submit)(struct vfs *v, struct vfs_op *op);
    /* See vfs_write_now. NULL: there is none. */
    enum err (*write_now)(struct vfs *v, struct vfs_op *op);
};

struct vfs { /* an implementation embeds it first */
    const struct vfs_ops *ops;
};

NODISCARD static inline enum err vfs_submit(struct vfs *v, struct vfs_op *op)
{
    return v->ops->submit(v, op);
}

/* A VFS_WRITE that is not durable, into a file that is open without VFS_DIRECT, by the calling
 * thread: a copy into the page cache. It has ended when this returns, and done is not called: the
 * result, or ERR_BUSY: nothing happened, it is to be submitted. */
NODISCARD static inline enum err vfs_write_now(struct vfs *v, struct vfs_op *op)
{
    return v->ops->write_now == NULL ? ERR_BUSY : v->ops->write_now(v, op);
}

#endif
