#include "core/js/dedupe.h"
#include <string.h>
#include "core/base/must.h"

enum {
    RUN_SHIFT = 10,
    RUN_ENTRIES = 1 << RUN_SHIFT, /* 32 KiB */
    RUN_ENTRIES_MIN = 8,
    PAGE_ROOM_MIN = 16,
    PAGE_ROOM_MAX = 512,
    PAGE_BITS_MAX = 20,    /* 2^20 pages of 384 ids: six times DEDUPE_ENTRIES_MAX */
    BYTES_KEPT_MAX = 4096, /* a window that runs empty keeps memory up to here */
};

#define POSITION_MASK UINT32_C(0x7fffffff)

/* Open addressing with linear probing, at most three quarters full. slots[room] hold position + 1
 * (0: free), tags[room] behind them 16 bits of the hash, so that a probe seldom reads an entry that
 * it does not want. */
struct dedupe_page {
    uint32_t count, room;
    uint32_t bits; /* of the hash that its ids have in common */
    uint32_t slots[];
};

static size_t page_bytes(uint32_t room)
{
    return sizeof(struct dedupe_page) + room * (sizeof(uint32_t) + sizeof(uint16_t));
}

static uint16_t *tags_of(struct dedupe_page *p)
{
    return (uint16_t *)(void *)(p->slots + p->room);
}

/* The page is found by low bits, the slot by high ones, the tag by the other half. */
static uint32_t slot_of(const struct dedupe_page *p, struct hash128 h)
{
    return (uint32_t)(h.low >> 32) & (p->room - 1);
}

static uint16_t tag_of(struct hash128 h)
{
    return (uint16_t)h.high;
}

static struct dedupe_page *page_of(const struct dedupe *d, struct hash128 h)
{
    return d->pages[h.low & ((UINT64_C(1) << d->page_bits) - 1)];
}

static void *take(struct dedupe *d, size_t bytes)
{
    void *p = mem_alloc_zero(d->mem, MEM_JETSTREAM, bytes);
    if (p != NULL) d->bytes_taken += bytes;
    return p;
}

static void give(struct dedupe *d, void *p, size_t bytes)
{
    if (p != NULL) d->bytes_taken -= bytes;
    mem_free(d->mem, MEM_JETSTREAM, p, bytes);
}

void dedupe_init(struct dedupe *d, struct mem *mem, uint64_t seed, int64_t window_ns,
                 uint32_t entries_max)
{
    must(entries_max > 0);
    must(entries_max <= DEDUPE_ENTRIES_MAX);
    *d = (struct dedupe){
        .mem = mem, .seed = seed, .window_ns = window_ns, .entries_max = entries_max};
}

void dedupe_clear(struct dedupe *d)
{
    /* Downwards: a page that stands in several places is freed at the lowest, when no other place
     * is looked at any more. */
    uint32_t places = d->pages == NULL ? 0 : UINT32_C(1) << d->page_bits;
    for (uint32_t i = places; i-- > 0;) {
        struct dedupe_page *p = d->pages[i];
        if (i < UINT32_C(1) << p->bits) give(d, p, page_bytes(p->room));
    }
    give(d, d->pages, places * sizeof *d->pages);
    for (uint32_t i = 0; i < d->run_count; i++)
        give(d, d->runs[d->run_first + i], d->run_entries * sizeof **d->runs);
    give(d, d->runs, d->run_room * sizeof *d->runs);
    must(d->bytes_taken == 0);
    dedupe_init(d, d->mem, d->seed, d->window_ns, d->entries_max);
}

void dedupe_set_window(struct dedupe *d, int64_t window_ns, int64_t now_ns)
{
    int64_t before = now_ns - d->window_ns + 1;
    if (d->window_ns > 0 && before > d->forgotten_ns) d->forgotten_ns = before;
    d->window_ns = window_ns;
}

static bool is_known(const struct dedupe *d, const struct dedupe_entry *e, int64_t now_ns)
{
    return now_ns - e->time_ns < d->window_ns && e->time_ns >= d->forgotten_ns;
}

struct hash128 dedupe_hash(const struct dedupe *d, struct bytes id)
{
    return hash_bytes128(id.data, id.len, d->seed);
}

static struct dedupe_entry *entry_at(const struct dedupe *d, uint32_t index)
{
    uint32_t at = d->front + index;
    if (d->run_count == 1) return &d->runs[d->run_first][at];
    return &d->runs[d->run_first + (at >> RUN_SHIFT)][at & (RUN_ENTRIES - 1)];
}

const struct dedupe_entry *dedupe_at(const struct dedupe *d, uint32_t index)
{
    must(index < d->count);
    return entry_at(d, index);
}

static struct dedupe_entry *entry_in_slot(const struct dedupe *d, uint32_t slot)
{
    return entry_at(d, (slot - 1 - d->head) & POSITION_MASK);
}

uint64_t dedupe_find(const struct dedupe *d, struct hash128 hash, int64_t now_ns)
{
    if (d->count == 0) return 0;
    struct dedupe_page *p = page_of(d, hash);
    const uint16_t *tags = tags_of(p);
    for (uint32_t i = slot_of(p, hash); p->slots[i] != 0; i = (i + 1) & (p->room - 1)) {
        if (tags[i] != tag_of(hash)) continue;
        const struct dedupe_entry *e = entry_in_slot(d, p->slots[i]);
        bool is_same = e->hash.low == hash.low && e->hash.high == hash.high;
        /* The same id may be here twice: outside the window, not yet expired, and again. */
        if (is_same && is_known(d, e, now_ns)) return e->seq;
    }
    return 0;
}

static void page_put(struct dedupe_page *p, struct hash128 hash, uint32_t slot)
{
    uint32_t i = slot_of(p, hash);
    while (p->slots[i] != 0) i = (i + 1) & (p->room - 1);
    p->slots[i] = slot;
    tags_of(p)[i] = tag_of(hash);
    p->count++;
}

static struct dedupe_page *page_new(struct dedupe *d, uint32_t room, uint32_t bits)
{
    struct dedupe_page *p = take(d, page_bytes(room));
    if (p == NULL) return NULL;
    p->room = room;
    p->bits = bits;
    return p;
}

/* A small page is the only one: the first split makes pages of full size. */
static enum err page_grow(struct dedupe *d, struct dedupe_page *old)
{
    must(d->page_bits == 0);
    struct dedupe_page *p = page_new(d, old->room * 2, 0);
    if (p == NULL) return ERR_MEMORY;
    for (uint32_t i = 0; i < old->room; i++)
        if (old->slots[i] != 0) page_put(p, entry_in_slot(d, old->slots[i])->hash, old->slots[i]);
    d->pages[0] = p;
    give(d, old, page_bytes(old->room));
    return ERR_OK;
}

static enum err pages_double(struct dedupe *d)
{
    if (d->page_bits == PAGE_BITS_MAX) return ERR_FULL;
    size_t bytes = sizeof *d->pages << d->page_bits;
    struct dedupe_page **pages = take(d, bytes * 2);
    if (pages == NULL) return ERR_MEMORY;
    memcpy(pages, d->pages, bytes);
    memcpy((char *)pages + bytes, d->pages, bytes);
    give(d, d->pages, bytes);
    d->pages = pages;
    d->page_bits++;
    return ERR_OK;
}

/* Ids of the page at index go to two, by one more bit of their hash. */
static enum err page_split(struct dedupe *d, uint32_t index)
{
    struct dedupe_page *old = d->pages[index];
    if (old->bits == d->page_bits) {
        enum err e = pages_double(d);
        if (e != ERR_OK) return e;
    }
    struct dedupe_page *halves[2];
    halves[0] = page_new(d, PAGE_ROOM_MAX, old->bits + 1);
    halves[1] = page_new(d, PAGE_ROOM_MAX, old->bits + 1);
    if (halves[0] == NULL || halves[1] == NULL) {
        give(d, halves[0], page_bytes(PAGE_ROOM_MAX));
        give(d, halves[1], page_bytes(PAGE_ROOM_MAX));
        return ERR_MEMORY;
    }
    for (uint32_t i = 0; i < old->room; i++) {
        if (old->slots[i] == 0) continue;
        struct hash128 hash = entry_in_slot(d, old->slots[i])->hash;
        page_put(halves[hash.low >> old->bits & 1], hash, old->slots[i]);
    }
    /* The places of a page lie 2^bits apart. */
    uint32_t step = UINT32_C(1) << old->bits, first = index & (step - 1);
    for (uint32_t i = first; i < UINT32_C(1) << d->page_bits; i += step)
        d->pages[i] = halves[i >> old->bits & 1];
    give(d, old, page_bytes(old->room));
    return ERR_OK;
}

/* The page of the hash gets room for one more. */
static enum err page_reserve(struct dedupe *d, struct hash128 hash)
{
    if (d->pages == NULL) {
        struct dedupe_page **pages = take(d, sizeof *pages);
        if (pages == NULL) return ERR_MEMORY;
        pages[0] = page_new(d, PAGE_ROOM_MIN, 0);
        if (pages[0] == NULL) {
            give(d, pages, sizeof *pages);
            return ERR_MEMORY;
        }
        d->pages = pages;
        d->page_bits = 0;
    }
    for (;;) {
        uint32_t index = (uint32_t)(hash.low & ((UINT64_C(1) << d->page_bits) - 1));
        struct dedupe_page *p = d->pages[index];
        if (p->count < p->room / 4 * 3) return ERR_OK;
        enum err e = p->room < PAGE_ROOM_MAX ? page_grow(d, p) : page_split(d, index);
        if (e != ERR_OK) return e;
    }
}

static enum err runs_reserve(struct dedupe *d)
{
    if (d->run_first + d->run_count < d->run_room) return ERR_OK;
    if (d->run_first > d->run_count) { /* more than half of it is free in front */
        memmove(d->runs, d->runs + d->run_first, d->run_count * sizeof *d->runs);
        d->run_first = 0;
        return ERR_OK;
    }
    uint32_t room = d->run_room == 0 ? 1 : d->run_room * 2;
    struct dedupe_entry **runs = take(d, room * sizeof *runs);
    if (runs == NULL) return ERR_MEMORY;
    if (d->run_count > 0) memcpy(runs, d->runs + d->run_first, d->run_count * sizeof *runs);
    give(d, d->runs, d->run_room * sizeof *runs);
    d->runs = runs;
    d->run_room = room;
    d->run_first = 0;
    return ERR_OK;
}

/* The ring gets room for one more entry. */
static enum err ring_reserve(struct dedupe *d)
{
    if (d->front + d->count < d->run_count * d->run_entries) return ERR_OK;
    if (d->run_count == 1 && d->run_entries < RUN_ENTRIES) {
        uint32_t entries = d->run_entries * 2;
        struct dedupe_entry *old = d->runs[d->run_first], *run = take(d, entries * sizeof *run);
        if (run == NULL) return ERR_MEMORY;
        memcpy(run, old + d->front, d->count * sizeof *run);
        give(d, old, d->run_entries * sizeof *run);
        d->runs[d->run_first] = run;
        d->run_entries = entries;
        d->front = 0;
        return ERR_OK;
    }
    enum err e = runs_reserve(d);
    if (e != ERR_OK) return e;
    if (d->run_count == 0) d->run_entries = RUN_ENTRIES_MIN;
    struct dedupe_entry *run = take(d, d->run_entries * sizeof *run);
    if (run == NULL) return ERR_MEMORY;
    d->runs[d->run_first + d->run_count++] = run;
    return ERR_OK;
}

enum err dedupe_add(struct dedupe *d, struct hash128 hash, uint64_t seq, int64_t time_ns)
{
    if (d->window_ns <= 0) return ERR_OK;
    if (d->count == d->entries_max) return ERR_FULL;
    if (d->count > 0) {
        const struct dedupe_entry *newest = entry_at(d, d->count - 1);
        must(seq > newest->seq);
        if (time_ns < newest->time_ns) time_ns = newest->time_ns;
    }
    enum err e = ring_reserve(d);
    if (e == ERR_OK) e = page_reserve(d, hash);
    if (e != ERR_OK) return e;
    *entry_at(d, d->count) = (struct dedupe_entry){hash, seq, time_ns};
    page_put(page_of(d, hash), hash, ((d->head + d->count) & POSITION_MASK) + 1);
    d->count++;
    return ERR_OK;
}

/* Takes entry number index out of its page; later slots of the cluster move back into the hole,
 * so that no search stops short of them. */
static void page_remove(struct dedupe *d, uint32_t index)
{
    struct hash128 hash = entry_at(d, index)->hash;
    struct dedupe_page *p = page_of(d, hash);
    uint16_t *tags = tags_of(p);
    uint32_t mask = p->room - 1, slot = ((d->head + index) & POSITION_MASK) + 1;
    uint32_t hole = slot_of(p, hash);
    while (p->slots[hole] != slot) {
        must(p->slots[hole] != 0);
        hole = (hole + 1) & mask;
    }
    for (uint32_t i = (hole + 1) & mask; p->slots[i] != 0; i = (i + 1) & mask) {
        uint32_t home = slot_of(p, entry_in_slot(d, p->slots[i])->hash);
        if (((i - home) & mask) < ((i - hole) & mask)) continue;
        p->slots[hole] = p->slots[i];
        tags[hole] = tags[i];
        hole = i;
    }
    p->slots[hole] = 0;
    p->count--;
}

static void shrink_if_empty(struct dedupe *d)
{
    if (d->count > 0) return;
    if (d->bytes_taken > BYTES_KEPT_MAX)
        dedupe_clear(d);
    else
        d->front = 0;
}

bool dedupe_expire(struct dedupe *d, int64_t now_ns, uint32_t batch_max)
{
    for (; d->count > 0; batch_max--) {
        if (is_known(d, entry_at(d, 0), now_ns)) return false;
        if (batch_max == 0) return true;
        page_remove(d, 0);
        d->head = (d->head + 1) & POSITION_MASK;
        d->front++;
        d->count--;
        if (d->run_count > 1 && d->front == RUN_ENTRIES) {
            give(d, d->runs[d->run_first], RUN_ENTRIES * sizeof **d->runs);
            d->run_first++;
            d->run_count--;
            d->front = 0;
        }
    }
    shrink_if_empty(d);
    return false;
}

int64_t dedupe_end_ns(const struct dedupe *d)
{
    if (d->count == 0) return INT64_MAX;
    int64_t time_ns = entry_at(d, d->count - 1)->time_ns;
    if (time_ns < d->forgotten_ns) return d->forgotten_ns;
    return time_ns > INT64_MAX - d->window_ns ? INT64_MAX : time_ns + d->window_ns;
}

void dedupe_drop_from(struct dedupe *d, uint64_t seq)
{
    while (d->count > 0 && entry_at(d, d->count - 1)->seq >= seq) {
        page_remove(d, d->count - 1);
        d->count--;
    }
    shrink_if_empty(d);
}
