#include "core/base/arena.h"
#include "core/base/must.h"

struct arena_chunk {
    struct arena_chunk *older;
    size_t bytes; /* of the whole chunk, head included */
    size_t used;  /* head included; a multiple of ARENA_ALIGN */
};

enum { HEAD_BYTES = (sizeof(struct arena_chunk) + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN };

void arena_init(struct arena *a, struct mem *mem, enum mem_class class)
{
    must(mem != NULL);
    *a = (struct arena){.mem = mem, .class = class};
}

void arena_deinit(struct arena *a)
{
    struct arena_chunk *chunk = a->chunks;
    while (chunk != NULL) {
        struct arena_chunk *older = chunk->older;
        mem_free(a->mem, a->class, chunk, chunk->bytes);
        chunk = older;
    }
    a->chunks = NULL;
    a->used_bytes = 0;
}

static struct arena_chunk *chunk_of(struct arena *a, size_t bytes)
{
    struct arena_chunk *chunk = mem_alloc(a->mem, a->class, bytes);
    if (chunk == NULL) return NULL;
    *chunk = (struct arena_chunk){.older = a->chunks, .bytes = bytes, .used = HEAD_BYTES};
    a->chunks = chunk;
    return chunk;
}

/* Chunks double, so that a small object costs one page and a large one few chunks. */
static struct arena_chunk *chunk_new(struct arena *a, size_t need)
{
    size_t bytes = a->chunks == NULL ? ARENA_CHUNK_BYTES_MIN : a->chunks->bytes * 2;
    if (bytes > ARENA_CHUNK_BYTES_MAX) bytes = ARENA_CHUNK_BYTES_MAX;
    if (bytes < need + HEAD_BYTES) bytes = need + HEAD_BYTES;
    return chunk_of(a, bytes);
}

enum err arena_reserve(struct arena *a, size_t bytes)
{
    const struct arena_chunk *chunk = a->chunks;
    if (bytes == 0 || (chunk != NULL && chunk->bytes - chunk->used >= bytes)) return ERR_OK;
    if (bytes > SIZE_MAX / 2) return ERR_MEMORY;
    return chunk_of(a, bytes + HEAD_BYTES) == NULL ? ERR_MEMORY : ERR_OK;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    if (bytes > SIZE_MAX / 2) return NULL;
    size_t need = bytes == 0 ? ARENA_ALIGN : (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    struct arena_chunk *chunk = a->chunks;
    if (chunk == NULL || chunk->bytes - chunk->used < need) chunk = chunk_new(a, need);
    if (chunk == NULL) return NULL;

    void *p = (char *)chunk + chunk->used;
    chunk->used += need;
    must(chunk->used <= chunk->bytes);
    a->used_bytes += need;
    memset(p, 0, need);
    return p;
}

enum err arena_text(struct arena *a, struct bytes text, struct bytes *copy)
{
    if (text.len == SIZE_MAX) return ERR_MEMORY;
    char *data = arena_alloc(a, text.len + 1);
    if (data == NULL) return ERR_MEMORY;
    if (text.len > 0) memcpy(data, text.data, text.len);
    *copy = bytes_of(data, text.len);
    return ERR_OK;
}
