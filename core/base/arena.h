/* Memory that dies at once: allocations are cut from chunks and freed together. For objects that
 * are built in many small pieces and never change afterwards (options, accounts, parsed files).
 * Belongs to one thread while it grows; readers on other threads are fine once it is complete. */
#ifndef CORE_BASE_ARENA_H
#define CORE_BASE_ARENA_H
#include "core/base/bytes.h"
#include "core/base/mem.h"

enum {
    ARENA_CHUNK_BYTES_MIN = 4 << 10,
    ARENA_CHUNK_BYTES_MAX = 1 << 20,
    ARENA_ALIGN = 16,
};

struct arena_chunk;

struct arena {
    struct mem *mem;
    enum mem_class class;
    struct arena_chunk *chunks; /* newest first; the newest is the one being cut */
    size_t used_bytes;          /* handed out, for reports */
};

/* Takes no memory yet. mem must outlive the arena. */
void arena_init(struct arena *a, struct mem *mem, enum mem_class class);
/* Frees every chunk; the arena is empty and usable again. */
void arena_deinit(struct arena *a);
/* The next allocations, of so many bytes as used_bytes counts them, come out of one chunk that is
 * no larger: for what is measured first and kept long. ERR_MEMORY: nothing changed. */
NODISCARD enum err arena_reserve(struct arena *a, size_t bytes);
/* Zeroed, aligned to ARENA_ALIGN; NULL when mem has no more. bytes may be 0. */
NODISCARD void *arena_alloc(struct arena *a, size_t bytes);
/* A copy of text followed by a zero byte that is not counted. ERR_MEMORY: *copy is not written. */
NODISCARD enum err arena_text(struct arena *a, struct bytes text, struct bytes *copy);

#endif
