#include "persist/read_cache.h"
#include "core/base/must.h"
#include "persist/place.h"

enum { BLOCKS_MIN = 4 };

enum err read_cache_init(struct read_cache *c, struct mem *mem, uint64_t bytes)
{
    uint64_t count = bytes / READ_CACHE_BLOCK_BYTES;
    if (count < BLOCKS_MIN) count = BLOCKS_MIN;
    must(count <= UINT32_MAX);
    *c = (struct read_cache){.mem = mem, .block_count = (uint32_t)count};
    c->blocks = mem_alloc_zero(mem, MEM_STORE, c->block_count * sizeof *c->blocks);
    return c->blocks == NULL ? ERR_MEMORY : ERR_OK;
}

void read_cache_deinit(struct read_cache *c)
{
    if (c->blocks == NULL) return;
    for (uint32_t i = 0; i < c->block_count; i++)
        mem_free(c->mem, MEM_STORE, c->blocks[i].memory,
                 READ_CACHE_BLOCK_BYTES + PLACE_BLOCK_BYTES);
    mem_free(c->mem, MEM_STORE, c->blocks, c->block_count * sizeof *c->blocks);
    c->blocks = NULL;
}

struct read_cache_block *read_cache_find(struct read_cache *c, uint64_t key)
{
    must(key != 0);
    uint32_t i = c->last;
    /* A reader stays in its block for hundreds of records: the search is per block. */
    if (c->blocks[i].key != key)
        for (i = 0; i < c->block_count && c->blocks[i].key != key; i++) continue;
    if (i == c->block_count) return NULL;
    c->last = i;
    c->blocks[i].used_at = ++c->clock;
    must(c->blocks[i].state != READ_CACHE_EMPTY);
    return &c->blocks[i];
}

/* Of those that may go the one used longest ago. */
static struct read_cache_block *oldest(struct read_cache *c, bool has_memory)
{
    struct read_cache_block *best = NULL;
    for (uint32_t i = 0; i < c->block_count; i++) {
        struct read_cache_block *b = &c->blocks[i];
        if (b->state == READ_CACHE_LOADING || b->pin_count > 0) continue;
        if (has_memory && b->memory == NULL) continue;
        if (best == NULL || b->used_at < best->used_at) best = b;
    }
    return best;
}

struct read_cache_block *read_cache_take(struct read_cache *c, uint64_t key)
{
    for (uint32_t i = 0; i < c->block_count; i++) must(c->blocks[i].key != key);
    struct read_cache_block *best = oldest(c, false);
    if (best != NULL && best->memory == NULL) {
        best->memory = mem_alloc(c->mem, MEM_STORE, READ_CACHE_BLOCK_BYTES + PLACE_BLOCK_BYTES);
        if (best->memory == NULL)
            best = oldest(c, true);
        else
            best->data = (char *)place_block_up((uint64_t)(uintptr_t)best->memory);
    }
    if (best == NULL) return NULL;
    best->key = key;
    best->state = READ_CACHE_LOADING;
    best->used_at = ++c->clock;
    best->valid_bytes = 0;
    return best;
}

void read_cache_loaded(struct read_cache_block *b, uint32_t valid_bytes)
{
    must(b->state == READ_CACHE_LOADING);
    b->state = READ_CACHE_VALID;
    b->valid_bytes = valid_bytes;
    b->has_failed = false;
}

void read_cache_drop(struct read_cache_block *b)
{
    must(b->pin_count == 0);
    b->state = READ_CACHE_EMPTY;
    b->key = 0;
    b->used_at = 0;
}
