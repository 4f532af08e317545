/* Makes a segment file ready for groups, in the background (P5, P7): its blocks are written once,
 * so that a commit never waits for the file system to find or initialise any, and its name is
 * durable.
 *
 *   IDLE -- segment_prepare --> OPENING -> ALLOCATING -> ZEROING (a write after the other)
 *        -> FLUSHING -> NAMING (flush of the folder) -> IDLE, done(ERR_OK), the file is open
 *        \-- to be used through the page cache, which the zeros need not fill: LEAVING (close)
 *            -> REOPENING -> FLUSHING
 *   any error: EMPTYING -> CLOSING -> IDLE, done(err); the name stays, the next attempt takes
 *   it over, but not the space: on a full disk there may be a better use of it
 *
 * A file of this name that is there already is of an attempt that did not get into the manifest:
 * it holds nothing. */
#ifndef PERSIST_SEGMENT_H
#define PERSIST_SEGMENT_H
#include "core/base/mem.h"
#include "persist/names.h"
#include "persist/vfs.h"

enum { SEGMENT_ZERO_BYTES = 1024 * 1024 };

enum segment_state {
    SEGMENT_IDLE,
    SEGMENT_OPENING,
    SEGMENT_ALLOCATING,
    SEGMENT_ZEROING,
    SEGMENT_LEAVING,
    SEGMENT_REOPENING,
    SEGMENT_FLUSHING,
    SEGMENT_NAMING,
    SEGMENT_EMPTYING,
    SEGMENT_CLOSING
};

struct segment {
    struct vfs *vfs;
    struct mem *mem;
    enum segment_state state;
    struct names_text name;
    uint64_t size, zeroed;
    uint32_t flags;       /* VFS_DIRECT or 0: for the zeros */
    uint32_t use_flags;   /* likewise, of the file that is handed out */
    struct vfs_file file; /* open when done says ERR_OK: from then on the caller's */
    struct vfs_op op;
    char *memory, *zeros; /* while it is not IDLE */
    uint32_t zero_bytes;
    enum err result;
    void (*done)(struct segment *s); /* never from inside segment_prepare */
    void *context;
    uint64_t written_bytes; /* of zeros, in all */
};

void segment_init(struct segment *s, struct vfs *vfs, struct mem *mem, uint32_t flags,
                  uint32_t use_flags, void (*done)(struct segment *s), void *context);
/* IDLE only. ERR_MEMORY: not started. */
NODISCARD enum err segment_prepare(struct segment *s, uint32_t log, uint32_t number, uint64_t size);
/* Frees the memory of a preparation that will never end (the port is gone). */
void segment_abandon(struct segment *s);

#endif
