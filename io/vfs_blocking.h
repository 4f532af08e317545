/* persist's file port by blocking calls, for jobs that have a thread for themselves: recovery,
 * packing, checking a store. Reads ahead are carried out by threads of its own, which start with
 * the first of them. It may not move in memory. */
#ifndef IO_VFS_BLOCKING_H
#define IO_VFS_BLOCKING_H
#include <semaphore.h>
#include "io/vfs_driver.h"

struct file_threads;

struct vfs_blocking {
    struct vfs vfs; /* hand this out */
    int folder_fd;
    struct vfs_scarce scarce; /* set after the opening */
    struct vfs_op *first; /* submitted, not carried out */
    struct vfs_op *last;
    struct file_threads *threads; /* NULL: no read ahead yet */
    sem_t has_read;
    uint32_t flying_count; /* reads ahead */
    char file[64];         /* that an operation named last */
};

/* As vfs_driver_open. */
NODISCARD enum err vfs_blocking_open(struct vfs_blocking *v, const char *folder);
/* Nothing may be waiting. */
void vfs_blocking_close(struct vfs_blocking *v);

/* Carries out the oldest operation that was submitted and calls its done; where there is none,
 * waits for reads ahead. False: nothing is on its way. */
bool vfs_blocking_step(struct vfs_blocking *v);

#endif
