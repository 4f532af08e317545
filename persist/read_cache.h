/* A bounded cache of blocks of segments, filled by the caller: which block is where, who waits for
 * it, which one may go.
 *
 *   EMPTY -- take --> LOADING -- loaded --> VALID -- take (when no pin holds it) --> LOADING
 *                        \-- failed --> EMPTY
 *
 * A block of a segment that is still written to is valid up to the end that was durable when its
 * read was submitted; asked for more, it counts as not there. One thread; does no I/O. */
#ifndef PERSIST_READ_CACHE_H
#define PERSIST_READ_CACHE_H
#include <stdbool.h>
#include "core/base/mem.h"

enum { READ_CACHE_BLOCK_BYTES = 128 * 1024 };

enum read_cache_state { READ_CACHE_EMPTY, READ_CACHE_LOADING, READ_CACHE_VALID };

struct read_cache_block {
    char *data; /* READ_CACHE_BLOCK_BYTES, aligned; NULL before the first use */
    char *memory;
    uint64_t key; /* place of the block's first byte, log and segment included; 0: none */
    uint32_t valid_bytes;
    uint32_t pin_count;
    uint64_t used_at; /* counts look-ups: the lowest goes first */
    enum read_cache_state state;
    bool has_failed; /* VALID in part only: the disk could not read the rest */
};

struct read_cache {
    struct mem *mem;
    struct read_cache_block *blocks;
    uint32_t block_count;
    uint32_t last; /* block of the last hit */
    uint64_t clock;
    uint64_t hits, misses;
};

/* bytes: of all blocks; at least four of them are kept. Blocks get memory when first used.
 * ERR_MEMORY: nothing to end. */
NODISCARD enum err read_cache_init(struct read_cache *c, struct mem *mem, uint64_t bytes);
void read_cache_deinit(struct read_cache *c);
/* The block, LOADING or VALID. NULL: it is not there. */
struct read_cache_block *read_cache_find(struct read_cache *c, uint64_t key);
/* A block for key, LOADING now; without memory for one more, of those that have some. NULL: all
 * that might be taken are pinned or loading, or there is no memory and none has any. */
struct read_cache_block *read_cache_take(struct read_cache *c, uint64_t key);
void read_cache_loaded(struct read_cache_block *b, uint32_t valid_bytes);
/* Forgets it; it must not be pinned. */
void read_cache_drop(struct read_cache_block *b);

#endif
