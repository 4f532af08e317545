/* persist's file port by blocking calls, for jobs on helper threads (packing, checking a store). */
#ifndef IO_VFS_BLOCKING_H
#define IO_VFS_BLOCKING_H
#include "persist/vfs.h"

struct vfs_blocking {
    struct vfs vfs; /* hand this out */
    int folder_fd;
    struct vfs_op *first; /* submitted, not carried out */
    struct vfs_op *last;
    char file[64]; /* that an operation named last */
};

/* As vfs_driver_open. */
NODISCARD enum err vfs_blocking_open(struct vfs_blocking *v, const char *folder);
/* Nothing may be waiting. */
void vfs_blocking_close(struct vfs_blocking *v);

/* Carries out the oldest operation that was submitted and calls its done. False: there was none. */
bool vfs_blocking_step(struct vfs_blocking *v);

#endif
