/* A few files in memory behind persist/vfs.h, to be read only: for tests that look at a store whose
 * bytes they made up. Files keep the caller's bytes; operations end when they are pumped. */
#ifndef TESTS_SUPPORT_VFS_BYTES_H
#define TESTS_SUPPORT_VFS_BYTES_H
#include <stddef.h>
#include "persist/blocking.h"

enum { VFS_BYTES_FILES_MAX = 8, VFS_BYTES_FLYING_MAX = 8 };

struct vfs_bytes_file {
    const char *name;
    const char *data;
    size_t bytes;
};

struct vfs_bytes {
    struct vfs vfs;           /* hand this out */
    struct blocking blocking; /* or this */
    struct vfs_bytes_file files[VFS_BYTES_FILES_MAX];
    int file_count;
    struct vfs_op *flying[VFS_BYTES_FLYING_MAX]; /* the newest ends first */
    int flying_count, flying_most;
    uint64_t fail_from, fail_bytes; /* no read that touches these succeeds; 0 bytes: all do */
    uint64_t write_count;           /* of operations that would change something: all refused */
};

void vfs_bytes_init(struct vfs_bytes *v);
void vfs_bytes_add(struct vfs_bytes *v, const char *name, const char *data, size_t bytes);

#endif
