/* The store of memory streams: append and read of core/base/store.h, in memory.
 *
 * Nothing waits: a record is "stored" when memstore_append (through store_append) returns, there
 * are no events, and the caller applies it at once. A read always answers at once. Messages are
 * kept, each in a block of its own; all other kinds only take a ticket, since a memory stream does
 * not outlive the process (their place is MEMSTORE_NO_PLACE). The stream says when a message has
 * gone: memstore_release. A place is a slot and its generation, so a place that has gone is
 * ERR_UNKNOWN and never somebody else's message.
 *
 * Bounded: bytes_max over all blocks (ERR_NO_SPACE, as a full disk). One per shard; its thread
 * only. */
#ifndef CORE_JS_MEMSTORE_H
#define CORE_JS_MEMSTORE_H
#include "core/base/mem.h"
#include "core/base/store.h"

#define MEMSTORE_NO_PLACE UINT64_MAX

struct memstore_slot {
    struct memstore_block *block; /* NULL: free */
    uint32_t generation;          /* counts the blocks that were here; not 0 once used */
    uint32_t next_free;
};

struct memstore {
    struct store store; /* hand this out; first */
    struct mem *mem;
    struct memstore_slot **runs;
    uint32_t run_count, run_room;
    uint32_t slot_end;  /* slots from here on were never used */
    uint32_t slot_free; /* head of the free ones; UINT32_MAX none */
    uint32_t live_count;
    uint64_t ticket; /* the last one given */
    uint64_t bytes_used, bytes_max;
};

/* Empty, no memory yet. */
void memstore_init(struct memstore *s, struct mem *mem, uint64_t bytes_max);
/* Frees all, messages that were not released included. */
void memstore_deinit(struct memstore *s);
/* Somebody else needs the message at this place too: one more release is wanted. */
void memstore_retain(struct memstore *s, uint64_t place);
/* The message at this place is not needed any more. A place that has gone is ignored. */
void memstore_release(struct memstore *s, uint64_t place);

#endif
