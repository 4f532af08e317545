#include "core/js/consumer_order.h"
#include "core/base/must.h"

enum { CHUNK_ROOM_MIN = 4 };

void consumer_order_init(struct consumer_order *o, struct mem *mem)
{
    *o = (struct consumer_order){.mem = mem};
}

void consumer_order_deinit(struct consumer_order *o)
{
    for (uint32_t i = 0; i < o->chunk_count; i++)
        mem_free(o->mem, MEM_JETSTREAM, o->chunks[i], sizeof *o->chunks[i]);
    mem_free(o->mem, MEM_JETSTREAM, o->chunks, o->chunk_room * sizeof *o->chunks);
}

/* The chunk that begins with the last name that is not above, or the first one. */
static uint32_t chunk_for(const struct consumer_order *o, struct bytes name)
{
    uint32_t low = 0, high = o->chunk_count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (bytes_compare(o->chunks[middle]->items[0]->name, name) <= 0)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The first name that is not below, or count. */
static uint64_t place_in(const struct consumer_order_chunk *k, struct bytes name)
{
    uint64_t low = 0, high = k->count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (bytes_compare(k->items[middle]->name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* A new and empty one. NULL: no memory. */
static struct consumer_order_chunk *open_chunk(struct consumer_order *o, uint32_t at)
{
    if (o->chunk_count == o->chunk_room) {
        uint32_t room = o->chunk_room == 0 ? CHUNK_ROOM_MIN : o->chunk_room * 2;
        struct consumer_order_chunk **grown =
            mem_resize(o->mem, MEM_JETSTREAM, o->chunks, o->chunk_room * sizeof *o->chunks,
                       room * sizeof *o->chunks);
        if (grown == NULL) return NULL;
        o->chunks = grown;
        o->chunk_room = room;
    }
    struct consumer_order_chunk *k = mem_alloc(o->mem, MEM_JETSTREAM, sizeof *k);
    if (k == NULL) return NULL;
    k->count = 0;
    memmove(o->chunks + at + 1, o->chunks + at, (o->chunk_count - at) * sizeof *o->chunks);
    o->chunks[at] = k;
    o->chunk_count++;
    return k;
}

enum err consumer_order_add(struct consumer_order *o, struct consumer *c)
{
    uint32_t at = chunk_for(o, c->name);
    struct consumer_order_chunk *k = o->chunk_count > 0 ? o->chunks[at] : open_chunk(o, 0);
    if (k == NULL) return ERR_MEMORY;
    uint64_t place = place_in(k, c->name);
    if (k->count == CONSUMER_ORDER_CHUNK) {
        struct consumer_order_chunk *next = open_chunk(o, at + 1);
        if (next == NULL) return ERR_MEMORY;
        /* Names often come in order: chunks are full then. */
        uint64_t kept = place == k->count ? place : k->count / 2;
        next->count = k->count - kept;
        memcpy(next->items, k->items + kept, next->count * sizeof(struct consumer *));
        k->count = kept;
        if (place >= kept) {
            place -= kept;
            k = next;
        }
    }
    memmove(k->items + place + 1, k->items + place, (k->count - place) * sizeof(struct consumer *));
    k->items[place] = c;
    k->count++;
    o->count++;
    return ERR_OK;
}

void consumer_order_remove(struct consumer_order *o, const struct consumer *c)
{
    if (o->count == 0) return;
    uint32_t at = chunk_for(o, c->name);
    struct consumer_order_chunk *k = o->chunks[at];
    uint64_t place = place_in(k, c->name);
    if (place == k->count || k->items[place] != c) return;
    k->count--;
    o->count--;
    memmove(k->items + place, k->items + place + 1, (k->count - place) * sizeof(struct consumer *));
    if (k->count > 0) return;
    mem_free(o->mem, MEM_JETSTREAM, k, sizeof *k);
    o->chunk_count--;
    memmove(o->chunks + at, o->chunks + at + 1, (o->chunk_count - at) * sizeof *o->chunks);
}

struct consumer *consumer_order_at(const struct consumer_order *o, size_t place)
{
    must(place < o->count);
    uint32_t at = 0;
    for (; place >= o->chunks[at]->count; at++) place -= o->chunks[at]->count;
    return o->chunks[at]->items[place];
}
