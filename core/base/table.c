#define XXH_INLINE_ALL
#include <xxhash.h>
#include "core/base/table.h"
#include <string.h>
#include "core/base/must.h"

enum {
    SLOTS_MIN = 2, /* many streams have one consumer */
    SLOTS_MAX = 1 << 30,
};

uint64_t hash_bytes(const void *data, size_t bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, bytes, seed);
}

struct hash128 hash_bytes128(const void *data, size_t bytes, uint64_t seed)
{
    XXH128_hash_t h = XXH3_128bits_withSeed(data, bytes, seed);
    return (struct hash128){.low = h.low64, .high = h.high64};
}

/* At most three quarters full: an unsuccessful search then looks at some eight slots. */
static uint32_t slots_for(uint32_t count)
{
    uint64_t slots = SLOTS_MIN;
    while (slots * 3 / 4 < count) slots *= 2;
    return slots > SLOTS_MAX ? 0 : (uint32_t)slots;
}

void table_init(struct table *t, struct mem *mem, enum mem_class class)
{
    *t = (struct table){.mem = mem, .class = class};
}

void table_deinit(struct table *t)
{
    mem_free(t->mem, t->class, t->slots, t->slot_count * sizeof *t->slots);
    t->slots = NULL;
    t->slot_count = t->count = 0;
}

/* There is a free slot. */
static void put(struct table *t, uint64_t hash, void *value)
{
    uint32_t mask = t->slot_count - 1;
    uint32_t i = (uint32_t)hash & mask;
    while (t->slots[i].value != NULL) i = (i + 1) & mask;
    t->slots[i] = (struct table_slot){hash, value};
}

static enum err resize(struct table *t, uint32_t slot_count)
{
    must(slot_count > t->count);
    struct table_slot *grown = mem_alloc_zero(t->mem, t->class, slot_count * sizeof *grown);
    if (grown == NULL) return ERR_MEMORY;
    struct table old = *t;
    t->slots = grown;
    t->slot_count = slot_count;
    for (uint32_t i = 0; i < old.slot_count; i++)
        if (old.slots[i].value != NULL) put(t, old.slots[i].hash, old.slots[i].value);
    mem_free(t->mem, t->class, old.slots, old.slot_count * sizeof *old.slots);
    return ERR_OK;
}

enum err table_reserve(struct table *t, uint32_t count)
{
    uint32_t slots = slots_for(count);
    if (slots == 0) return ERR_FULL;
    return slots <= t->slot_count ? ERR_OK : resize(t, slots);
}

enum err table_insert(struct table *t, uint64_t hash, void *value)
{
    must(value != NULL);
    enum err e = table_reserve(t, t->count + 1);
    if (e != ERR_OK) return e;
    put(t, hash, value);
    t->count++;
    return ERR_OK;
}

enum err table_remove(struct table *t, uint64_t hash, const void *value)
{
    must(value != NULL);
    if (t->slot_count == 0) return ERR_UNKNOWN;
    uint32_t mask = t->slot_count - 1;
    uint32_t hole = (uint32_t)hash & mask;
    while (t->slots[hole].value != value) {
        if (t->slots[hole].value == NULL) return ERR_UNKNOWN;
        hole = (hole + 1) & mask;
    }
    /* Each later pair of the cluster whose home is not between the hole and itself moves into
     * the hole, so that no search stops short of it. */
    for (uint32_t i = (hole + 1) & mask; t->slots[i].value != NULL; i = (i + 1) & mask) {
        uint32_t home = (uint32_t)t->slots[i].hash & mask;
        if (((i - home) & mask) < ((i - hole) & mask)) continue;
        t->slots[hole] = t->slots[i];
        hole = i;
    }
    t->slots[hole] = (struct table_slot){0, NULL};
    must(t->count > 0);
    t->count--;
    return ERR_OK;
}

static void *scan(const struct table *t, uint64_t hash, uint32_t *at)
{
    uint32_t mask = t->slot_count - 1;
    for (uint32_t i = *at;; i++) {
        const struct table_slot *s = &t->slots[i & mask];
        if (s->value == NULL) return NULL;
        if (s->hash != hash) continue;
        *at = (i + 1) & mask;
        return s->value;
    }
}

void *table_first(const struct table *t, uint64_t hash, uint32_t *at)
{
    if (t->slot_count == 0) return NULL;
    *at = (uint32_t)hash & (t->slot_count - 1);
    return scan(t, hash, at);
}

void *table_next(const struct table *t, uint64_t hash, uint32_t *at)
{
    return scan(t, hash, at);
}

void *table_each(const struct table *t, uint32_t *at)
{
    while (*at < t->slot_count) {
        void *value = t->slots[(*at)++].value;
        if (value != NULL) return value;
    }
    return NULL;
}
