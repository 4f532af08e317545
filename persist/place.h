/* Places of a store, and the checksums that bind bytes to them (docs/FORMAT.md, "Checksums"). */
#ifndef PERSIST_PLACE_H
#define PERSIST_PLACE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/must.h"

enum {
    PLACE_BLOCK_BYTES = 4096, /* groups start and end at multiples of it */
    PLACE_UNIT_BYTES = 8,     /* records do */
    PLACE_OFFSET_BITS = 23,
    PLACE_SEGMENT_BITS = 32,
    PLACE_LOGS_MAX = 256,
    PLACE_SEGMENT_BYTES_MAX = 64 * 1024 * 1024, /* 2^23 units of 8 bytes */
};

/* What a checksum in a segment depends on, beside the offset. */
struct place_key {
    uint64_t secret; /* of the store */
    uint32_t log, segment, incarnation;
};

static inline uint64_t place_of(uint32_t log, uint32_t segment, uint64_t offset)
{
    must(log < PLACE_LOGS_MAX);
    must(segment > 0);
    must(offset < PLACE_SEGMENT_BYTES_MAX && offset % PLACE_UNIT_BYTES == 0);
    return (uint64_t)log << (PLACE_OFFSET_BITS + PLACE_SEGMENT_BITS) |
           (uint64_t)segment << PLACE_OFFSET_BITS | offset / PLACE_UNIT_BYTES;
}

/* Of a record in a pack: offset among all its records. */
static inline uint64_t place_packed(uint32_t log, uint32_t pack, uint64_t offset)
{
    return UINT64_C(1) << 63 | place_of(log, pack, offset);
}

static inline uint32_t place_log(uint64_t place)
{
    return (uint32_t)(place >> (PLACE_OFFSET_BITS + PLACE_SEGMENT_BITS)) & (PLACE_LOGS_MAX - 1);
}

static inline uint32_t place_segment(uint64_t place)
{
    return (uint32_t)(place >> PLACE_OFFSET_BITS);
}

static inline uint64_t place_offset(uint64_t place)
{
    return (place & ((1u << PLACE_OFFSET_BITS) - 1)) * PLACE_UNIT_BYTES;
}

static inline bool place_is_packed(uint64_t place)
{
    return place >> 63 != 0;
}

/* The checksum of bytes that lie at offset. */
uint64_t place_checksum(const struct place_key *k, uint64_t offset, const void *data, size_t bytes);

/* The same for bytes of a pack file; the key names the pack as its segment. */
uint64_t place_checksum_packed(const struct place_key *k, uint64_t offset, const void *data,
                               size_t bytes);

static inline uint64_t place_block_up(uint64_t bytes)
{
    return (bytes + PLACE_BLOCK_BYTES - 1) / PLACE_BLOCK_BYTES * PLACE_BLOCK_BYTES;
}

static inline uint64_t place_block_down(uint64_t bytes)
{
    return bytes / PLACE_BLOCK_BYTES * PLACE_BLOCK_BYTES;
}

#endif
