/* persist's file port on a shard's driver: bytes through the ring or its file threads, names and
 * sizes always on a thread. */
#ifndef IO_VFS_DRIVER_H
#define IO_VFS_DRIVER_H
#include "io/driver.h"
#include "persist/vfs.h"

/* Who hears of a file that could not be opened for want of descriptors, which the error alone does
 * not say. On the thread of the port; name ends with it. No call: nobody. */
struct vfs_scarce {
    void (*tell)(void *context, const char *name, int error);
    void *context;
};

struct vfs_driver {
    struct vfs vfs; /* hand this out */
    struct driver *driver;
    struct vfs_scarce scarce; /* set after the opening */
    int folder_fd;
    uint64_t flying_count;
};

/* folder: the store's, which must exist. Of the driver's thread.
 * ERR_UNKNOWN, ERR_DENIED, ERR_FULL, ERR_IO as of VFS_OPEN. */
NODISCARD enum err vfs_driver_open(struct vfs_driver *v, struct driver *d, const char *folder);
/* No operation may be in flight. Files that are open stay open. */
void vfs_driver_close(struct vfs_driver *v);

/* For each DONE_FILE of the driver: calls the operation's done. */
void vfs_driver_done(struct vfs_driver *v, const struct done *d);

/* Shared with vfs_blocking: what the operation is to the driver, and its result from there. */
void vfs_driver_to_file_op(const struct vfs_op *op, int folder_fd, struct file_op *out);
void vfs_driver_set_result(struct vfs_op *op, const struct file_op *from, int32_t result,
                           const struct vfs_scarce *scarce);

#endif
