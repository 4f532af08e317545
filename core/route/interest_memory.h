/* Memory of the interest index: arenas of nodes, retired memory, and the epochs that say when no
 * reader can see it any more. Private to core/route/interest*.
 *
 * Each account has an arena and two heaps of retired memory, all under the account's lock. The
 * memory port is behind a lock of its own, held for one call; who does not get it answers ERR_BUSY
 * (nobody waits for a thread that the kernel may have put aside).
 *
 * Epochs (QSBR). The epoch counts up. A seat per shard holds the epoch that the shard last saw
 * while it held no pointer into the index, or 0 while it is offline. Memory is unlinked first,
 * then stamped with the epoch as that moves on; it is free once every seat is 0 or above the
 * stamp.
 *   - A seat above the stamp was written after its shard read the moved epoch (acquire), which
 *     pairs with the move (release) after the unlinking: later walks of that shard miss it.
 *   - A seat that is 0 may turn online right then. Coming online stores the seat and then reads
 *     the epoch again, the writer moves the epoch and then reads the seat, all seq_cst: either
 *     the writer sees the seat, or the shard sees the moved epoch and with it the unlinking. */
#ifndef CORE_ROUTE_INTEREST_MEMORY_H
#define CORE_ROUTE_INTEREST_MEMORY_H
#include "core/base/mem.h"
#include "core/route/interest.h"
#include "core/route/interest_node.h"

enum {
    INTEREST_LINE = 128,          /* two lines: the prefetcher of x86 fetches pairs */
    INTEREST_GRAIN = 8,           /* bytes that a reference counts */
    INTEREST_CHUNK_SHIFT = 12,    /* grains of a chunk: 32 KiB */
    INTEREST_PAGE_SHIFT = 9,      /* chunks of a page of the chunk directory */
    INTEREST_PAGES = 1 << (32 - INTEREST_CHUNK_SHIFT - INTEREST_PAGE_SHIFT), /* 32 GiB in all */
    INTEREST_CLASSES = 40,
    INTEREST_RECLAIM_EVERY = 64,  /* retired pieces between two looks at the seats by writers */
};

/* One shard: written by it alone. */
struct interest_seat {
    _Alignas(INTEREST_LINE) _Atomic uint64_t epoch; /* 0: offline */
    _Atomic uint64_t matches;
    _Atomic uint32_t fanout_max;
    struct sub_pool *subs;
    struct interest_account *to_reclaim; /* written last and holds retired memory, or NULL */
};

struct interest_memory {
    struct mem *mem;
    uint32_t shard_count;
    uint32_t chunk_count; /* under the lock; no chunk 0, so no reference is below 4096 */
    uint32_t vacant;      /* under the lock: a number below chunk_count without a chunk, or 0 */
    _Atomic uint64_t bytes;
    char **pages[INTEREST_PAGES];
    _Alignas(INTEREST_LINE) _Atomic uint32_t is_locked;
    _Alignas(INTEREST_LINE) _Atomic uint64_t epoch;
    struct interest_seat seats[INTEREST_SHARDS_MAX];
};

struct interest_retired {
    uint32_t nodes, branches;     /* chains */
    struct interest_block *blocks;
    uint64_t epoch;               /* stamp */
};

/* Of one account, under its lock. A chunk holds pieces of one size class, so that an empty one can
 * be given back at once. */
struct interest_arena {
    struct {
        uint32_t with_room; /* number of the first chunk with room, 0 none */
        uint32_t grains;    /* of its next chunk: doubles up to 32 KiB */
    } classes[INTEREST_CLASSES];
    uint32_t retired_count; /* since the last look at the seats */
    struct interest_retired filling, waiting;
};

void interest_memory_init(struct interest_memory *m, struct mem *mem, uint32_t shard_count);
/* Every arena is closed. Frees the chunks. */
void interest_memory_deinit(struct interest_memory *m);

/* Zeroed memory from the port. ERR_MEMORY, or ERR_BUSY: another shard is in the port now. */
NODISCARD enum err interest_memory_alloc(struct interest_memory *m, size_t bytes, void **out);
/* The same with its head filled in, to be retired later. */
NODISCARD enum err interest_memory_block(struct interest_memory *m, size_t bytes, void **out);

void interest_memory_arena_init(struct interest_arena *a);
/* Frees what is retired; no shard is online. */
void interest_memory_arena_deinit(struct interest_memory *m, struct interest_arena *a);
/* A node with its token; content, branch and parent are 0. Errors as above. */
NODISCARD enum err interest_memory_node(struct interest_memory *m, struct interest_arena *a,
                                        enum interest_kind kind, struct bytes token, uint32_t *ref);
NODISCARD enum err interest_memory_branch(struct interest_memory *m, struct interest_arena *a,
                                          uint32_t *ref);
/* At once, for what was never published. */
void interest_memory_free_node(struct interest_memory *m, struct interest_arena *a, uint32_t ref);
void interest_memory_free_branch(struct interest_memory *m, struct interest_arena *a, uint32_t ref);
/* After unlinking: frees them when no reader can see them. */
void interest_memory_retire_node(struct interest_memory *m, struct interest_arena *a, uint32_t ref);
void interest_memory_retire_branch(struct interest_memory *m, struct interest_arena *a,
                                   uint32_t ref);
void interest_memory_retire_block(struct interest_arena *a, struct interest_block *b);
/* Frees what can be freed; true when nothing is retired any more. */
bool interest_memory_reclaim(struct interest_memory *m, struct interest_arena *a);

void interest_memory_online(struct interest_memory *m, uint32_t shard);
void interest_memory_offline(struct interest_memory *m, uint32_t shard);
void interest_memory_quiesce(struct interest_memory *m, uint32_t shard);

/* Nothing but two loads: on the way of each step of a walk. The directory's entries are plain
 * memory, written before the first reference into their chunk is published. */
static inline void *interest_memory_at(const struct interest_memory *m, uint32_t ref)
{
    uint32_t chunk = ref >> INTEREST_CHUNK_SHIFT;
    uint32_t grain = ref & ((1u << INTEREST_CHUNK_SHIFT) - 1);
    char **page = m->pages[chunk >> INTEREST_PAGE_SHIFT];
    return page[chunk & ((1u << INTEREST_PAGE_SHIFT) - 1)] + (size_t)grain * INTEREST_GRAIN;
}

static inline struct interest_node *interest_memory_node_at(const struct interest_memory *m,
                                                            uint32_t ref)
{
    return interest_memory_at(m, ref);
}

static inline struct interest_branch *interest_memory_branch_at(const struct interest_memory *m,
                                                                uint32_t ref)
{
    return interest_memory_at(m, ref);
}

#endif
