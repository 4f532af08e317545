/* Reading one segment file from front to back through a window of memory, by blocking calls.
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

enum { SCAN_WINDOW_BYTES = 1024 * 1024 };

struct scan {
    const struct blocking *blocking;
    struct mem *mem;
    struct vfs_file file;
    struct place_key key;
    bool is_open;
    bool is_missing;       /* there is no such file */
    uint64_t size;         /* as the manifest says */
    uint64_t file_bytes;   /* as it is */
    char *memory;          /* as allocated */
    char *window;          /* the same, aligned for direct reads */
    uint64_t at, bytes;    /* what of the segment the window holds */
    uint64_t room;         /* of the window */
    uint64_t window_bytes; /* to be read at once: SCAN_WINDOW_BYTES, or less from the start on */
    uint64_t error_count;  /* blocks that could not be read */
    uint64_t read_bytes;
};

/* Opens the segment's file; one that is missing reads as zeros. flags: VFS_DIRECT or 0.
 * ERR_MEMORY, ERR_CLOSED, ERR_FULL, ERR_DENIED, ERR_IO: nothing to close. */
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
