#include "persist/place.h"
#include <xxhash.h>

static uint64_t seed_of(const struct place_key *k, uint64_t place)
{
    uint64_t x = k->secret ^ place * 0x9E3779B97F4A7C15u;
#ifndef MILLRACE_BREAK_INCARNATION_LEFT_OUT
    x ^= k->incarnation * 0xC2B2AE3D27D4EB4Fu;
#endif
    x = (x ^ x >> 32) * 0xD6E8FEB86659FD93u;
    return x ^ x >> 32;
}

uint64_t place_checksum(const struct place_key *k, uint64_t offset, const void *data, size_t bytes)
{
    return XXH3_64bits_withSeed(data, bytes, seed_of(k, place_of(k->log, k->segment, offset)));
}

uint64_t place_checksum_packed(const struct place_key *k, uint64_t offset, const void *data,
                               size_t bytes)
{
    must(offset % PLACE_UNIT_BYTES == 0);
    uint64_t place = place_packed(k->log, k->segment, 0) + offset / PLACE_UNIT_BYTES;
    return XXH3_64bits_withSeed(data, bytes, seed_of(k, place));
}
