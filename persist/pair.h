/* Two copies of a small file, written one after the other, so that at every moment one of them is
 * valid and the newest (docs/FORMAT.md, "Two copies").
 *
 *   IDLE -- pair_write --> OPENING 0, OPENING 1 (once) -> WRITING first -> WRITING second -> IDLE
 *                              any error: BROKEN for good, done is called with it
 *           with reserve_bytes: RESERVING 0, RESERVING 1 before that, which may fail; again from
 *           IDLE while they are not there, and when more than half of them is used
 *
 * The copy written first is the one that the caller says is older or invalid; after a completed
 * write both are equal and the order stays. */
#ifndef PERSIST_PAIR_H
#define PERSIST_PAIR_H
#include "persist/names.h"
#include "persist/vfs.h"

enum pair_state {
    PAIR_IDLE,
    PAIR_OPENING,
    PAIR_RESERVING,
    PAIR_WRITING,
    PAIR_CLOSING,
    PAIR_BROKEN
};

struct pair {
    struct vfs *vfs;
    struct names_text names[2];
    struct vfs_file files[2];
    uint32_t open_count;
    uint32_t first; /* copy that is written first */
    uint32_t step;  /* copies opened or written of the running operation */
    /* So far each copy may grow on a full disk; the caller sets it after pair_init. 0: not at all
     */
    uint64_t reserve_bytes;
    uint64_t reserving_bytes, reserved_bytes; /* that are asked for, that are there */
    enum pair_state state;
    enum err result; /* of the last write */
    struct vfs_op op;
    char *data; /* borrowed until done */
    uint32_t bytes;
    void (*done)(struct pair *p); /* never from inside pair_write; NULL: nobody waits */
    void *context;
};

void pair_init(struct pair *p, struct vfs *vfs, struct names_text copy_0, struct names_text copy_1,
               uint32_t first);
/* Writes bytes from offset 0 of both copies, creating them if they are not there; the folder is the
 * caller's to flush. IDLE only. data stays the caller's until done.
 * ERR_MEMORY: not started, done is not called. ERR_IO: it is broken. */
NODISCARD enum err pair_write(struct pair *p, char *data, uint32_t bytes);
/* Closes what is open, without telling anybody but by state IDLE. Nothing may be running. */
void pair_close(struct pair *p);

#endif
