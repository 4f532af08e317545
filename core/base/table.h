/* Hashing of bytes, and a hash map from caller-kept keys to caller-owned objects.
 *
 * The map stores (64-bit hash, value) pairs in one array with linear probing; the key itself
 * stays in the object, so the caller compares it: table_first and table_next offer each value
 * whose whole hash is equal. Removal moves later pairs back, so there are no tombstones and a
 * map that churns for ever does not slow down. It grows at insert or table_reserve, never at a
 * look-up, and shrinks only when asked. One thread. */
#ifndef CORE_BASE_TABLE_H
#define CORE_BASE_TABLE_H
#include <stddef.h>
#include <stdint.h>
#include "core/base/mem.h"

/* XXH3 of the bytes under a seed: some 3 ns for 10 to 40 bytes. data may be NULL when bytes is 0.
 * Not for secrets; where foreign input picks the key, give a seed that comes from the rng. */
uint64_t hash_bytes(const void *data, size_t bytes, uint64_t seed);

/* 128 bits of it, where equal hashes have to mean equal bytes. */
struct hash128 {
    uint64_t low, high;
};
struct hash128 hash_bytes128(const void *data, size_t bytes, uint64_t seed);

/* Of a number that counts up, spread over the bits that a map looks at: the finalizer of
 * SplitMix64. Each step can be undone, so no two numbers have the same hash: whoever hashes by it
 * alone need not look into the object to know that it is the right one. */
static inline uint64_t hash_number(uint64_t n)
{
    n = (n ^ n >> 30) * 0xBF58476D1CE4E5B9u;
    n = (n ^ n >> 27) * 0x94D049BB133111EBu;
    return n ^ n >> 31;
}

struct table_slot {
    uint64_t hash;
    void *value; /* NULL: the slot is free */
};

struct table {
    struct mem *mem;
    struct table_slot *slots; /* slot_count of them; NULL before the first insert */
    uint32_t slot_count;      /* a power of two or 0 */
    uint32_t count;
    enum mem_class class;
};

/* Allocates nothing yet. */
void table_init(struct table *t, struct mem *mem, enum mem_class class);
/* Frees the array, not the values. */
void table_deinit(struct table *t);
/* Room for count values in all, so that inserts up to there cannot fail.
 * ERR_MEMORY, ERR_FULL (beyond 2^30): nothing changed. */
NODISCARD enum err table_reserve(struct table *t, uint32_t count);
/* value is not NULL; the caller has looked that its key is not there yet. Errors as above. */
NODISCARD enum err table_insert(struct table *t, uint64_t hash, void *value);
/* Takes out the pair with this very value. ERR_UNKNOWN: it is not there. */
NODISCARD enum err table_remove(struct table *t, uint64_t hash, const void *value);

/* Candidates for a key: for (v = table_first(t, h, &at); v != NULL; v = table_next(t, h, &at)).
 * The map must not change in between. */
void *table_first(const struct table *t, uint64_t hash, uint32_t *at);
void *table_next(const struct table *t, uint64_t hash, uint32_t *at);
/* Such a look-up comes soon: its slot is fetched from memory, since a large map lies far away. */
static inline void table_expect(const struct table *t, uint64_t hash)
{
    if (t->slot_count > 0) __builtin_prefetch(&t->slots[hash & (t->slot_count - 1)]);
}
/* Every value, in no order: *at starts at 0. NULL at the end. No change in between, but that the
 * value given last may be removed if *at is then taken down by one; one that was given before may
 * come again. */
void *table_each(const struct table *t, uint32_t *at);

#endif
