/* Small blocks behind 32-bit numbers: the memory of one index, taken from the port in larger
 * pieces, so that a block costs no header and a link to it four bytes.
 *
 * Blocks are multiples of 8 bytes. The pieces ("runs") begin at 512 bytes and double up to 256 KiB,
 * so a small stream pays little. Freed blocks wait in a list per size class and are split when a
 * smaller one is wanted; they are not joined again. Everything goes back at once, in cells_clear.
 * Owner: the index that holds it. Contents are undefined after cells_alloc. */
#ifndef CORE_JS_CELLS_H
#define CORE_JS_CELLS_H
#include <stddef.h>
#include <stdint.h>
#include "core/base/mem.h"

enum {
    CELLS_UNIT = 8,       /* bytes */
    CELLS_RUN_SHIFT = 15, /* units of a full run: 256 KiB */
    CELLS_RUN_UNITS = 1 << CELLS_RUN_SHIFT,
    CELLS_RUNS_MAX = 0xffff,      /* 16 GiB: a number stays below 2^31 - 1, an index may tag it */
    CELLS_BYTES_MAX = 128 * 1024, /* of one block */
    CELLS_CLASSES = 56,
};

struct cells_run {
    char *data;
    uint32_t units;
};

struct cells {
    struct mem *mem;
    struct cells_run *runs; /* run_count of run_room */
    uint32_t run_count, run_room;
    uint32_t run_at;       /* units given out of the last run */
    uint32_t *free;        /* [CELLS_CLASSES]: first freed block of each class, 0 none; each
                              holds the next. There with the first run */
    uint64_t free_classes; /* a bit per class that has any */
    size_t bytes_taken;    /* from the port */
    size_t bytes_used;     /* in blocks that are out */
};

/* Empty, no memory yet. */
void cells_init(struct cells *c, struct mem *mem);
/* Gives all memory back and is empty again; every number is void. */
void cells_clear(struct cells *c);
/* bytes from 1 to CELLS_BYTES_MAX. The number is never 0 and below 2^31.
 * 0: out of memory or of numbers, nothing changed. */
uint32_t cells_alloc(struct cells *c, size_t bytes);
/* bytes is what was asked for; 0 is ignored. */
void cells_free(struct cells *c, uint32_t cell, size_t bytes);

/* What a block of this size really holds. */
size_t cells_room(size_t bytes);

/* Where the block lies; it never moves. */
static inline void *cells_at(const struct cells *c, uint32_t cell)
{
    size_t unit = cell & (CELLS_RUN_UNITS - 1);
    return c->runs[cell >> CELLS_RUN_SHIFT].data + unit * CELLS_UNIT;
}

#endif
