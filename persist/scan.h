/* Reading one segment file from front to back through a window of memory, by blocking calls.
 *
 * With VFS_AHEAD the next parts of the file are on their way meanwhile. What was asked for last and
 * lies across the end of the window is copied in front of the next part, which becomes the window:
 *
 *    window            [ ............ head|              ahead[n] [ slack  |rest ............... ]
 *    becomes                                                      [    head|rest ............... ]
 *
 * What the file does not have (it is shorter, or gone) and what the disk cannot read shows as
 * zeros, which never validate; the latter is counted, since bytes that cannot be read today must
 * not be taken for bytes that were never written. */
#ifndef PERSIST_SCAN_H
#define PERSIST_SCAN_H
#include "core/base/mem.h"
#include "persist/blocking.h"
#include "persist/group.h"
#include "persist/manifest.h"

enum {
    SCAN_WINDOW_BYTES = 1024 * 1024,
    SCAN_AHEAD_MAX = 3,            /* parts on their way */
    SCAN_SLACK_BYTES = 256 * 1024, /* a group, but for large records */
};

struct scan_ahead {
    struct vfs_op op;
    char *memory; /* as allocated; NULL: not yet */
    char *data;   /* aligned, with slack in front */
    uint64_t offset;
    uint32_t bytes;
    bool is_done;
};

struct scan {
    const struct blocking *blocking;
    struct mem *mem;
    struct vfs_file file;
    struct place_key key;
    bool is_open;
    bool is_missing;                             /* there is no such file */
    uint64_t size;                               /* as the manifest says */
    uint64_t file_bytes;                         /* as it is */
    char *memory;                                /* as allocated */
    char *own;                                   /* the same, aligned for direct reads */
    uint64_t room;                               /* there */
    char *window;                                /* own, or in the part before the first of ahead */
    uint64_t at, bytes;                          /* what of the segment the window holds */
    struct scan_ahead ahead[SCAN_AHEAD_MAX + 1]; /* a ring; each begins where the one before ends */
    uint32_t ahead_first, ahead_count;
    bool reads_ahead;
    uint64_t window_bytes; /* to be read at once: SCAN_WINDOW_BYTES, or less from the start on */
    uint64_t error_count;  /* blocks that could not be read */
    uint64_t read_bytes;
};

/* Opens the segment's file; one that is missing reads as zeros. flags: VFS_DIRECT, VFS_AHEAD. *s
 * may not move then. ERR_MEMORY, ERR_CLOSED, ERR_FULL, ERR_DENIED, ERR_IO: nothing to close. */
NODISCARD enum err scan_open(struct scan *s, const struct blocking *b, struct mem *mem,
                             const struct place_key *key, uint64_t size, uint32_t flags);
void scan_close(struct scan *s);

/* bytes at offset (both inside the size), valid until the next call. ERR_MEMORY, ERR_CLOSED. */
NODISCARD enum err scan_at(struct scan *s, uint64_t offset, uint64_t bytes, const char **out);
/* The header at offset, a multiple of 4096. ERR_CORRUPT: none is valid there. */
NODISCARD enum err scan_head(struct scan *s, uint64_t offset, struct group_head *out);
/* The first valid header at or behind offset and before end. ERR_UNKNOWN: none. */
NODISCARD enum err scan_find(struct scan *s, uint64_t offset, uint64_t end, struct group_head *out,
                             uint64_t *found);

#endif
