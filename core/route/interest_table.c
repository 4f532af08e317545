#include "core/route/interest_table.h"
#include "core/base/must.h"

enum {
    SPLIT_SLOTS = 256, /* a segment of this capacity splits instead of growing: 2 KiB to copy */
    DEPTH_MAX = 20,    /* 8 MiB of directory; deeper segments grow instead */
    COLLAPSE = 48,     /* children below which a directory gives way to one segment */
    SLOTS_LIMIT = 1 << 15,
};

struct segment {
    struct interest_block block;
    uint16_t capacity;    /* fixed for its life */
    uint16_t used, tombs; /* of the writer */
    uint8_t depth;        /* bits of the hash that all its children share */
    _Atomic uint64_t slots[];
};

struct directory {
    struct interest_block block;
    uint32_t depth; /* fixed for its life */
    uint32_t count; /* children of the table; of the writer */
    _Atomic(struct segment *) at[];
};

static const uint64_t TOMB = (uint64_t)1 << 32; /* reference 1 names nothing */

static bool is_directory(uintptr_t root)
{
    return (root & 1) != 0;
}

static struct directory *directory_of(uintptr_t root)
{
    return (struct directory *)(root & ~(uintptr_t)1);
}

static uint32_t slot_ref(uint64_t slot)
{
    return (uint32_t)(slot >> 32);
}

static uint64_t slot_of(uint32_t ref, uint32_t hash)
{
    return (uint64_t)ref << 32 | hash;
}

static uint32_t entry_of(const struct directory *d, uint32_t hash)
{
    return d->depth == 0 ? 0 : hash >> (32 - d->depth);
}

static struct segment *segment_of(uintptr_t root, uint32_t hash)
{
    if (!is_directory(root)) return (struct segment *)root;
    struct directory *d = directory_of(root);
    return atomic_load_explicit(&d->at[entry_of(d, hash)], memory_order_acquire);
}

/* The low half of the hash, scaled to the capacity: no division, any capacity. */
static uint32_t home_of(const struct segment *s, uint32_t hash)
{
    return ((hash & 0xffff) * (uint32_t)s->capacity) >> 16;
}

uint32_t interest_table_find(const struct interest_memory *m, const _Atomic uintptr_t *table,
                             uint32_t hash, struct bytes token)
{
    uintptr_t root = atomic_load_explicit(table, memory_order_acquire);
    if (root == 0) return 0;
    const struct segment *s = segment_of(root, hash);
    uint32_t i = home_of(s, hash);
    for (uint32_t n = s->capacity; n > 0; n--) {
        uint64_t slot = atomic_load_explicit(&s->slots[i], memory_order_acquire);
        if (slot == 0) return 0;
        if ((uint32_t)slot == hash && slot != TOMB) {
            uint32_t ref = slot_ref(slot);
            if (bytes_equal(interest_token_of(interest_memory_node_at(m, ref)), token)) return ref;
        }
        if (++i == s->capacity) i = 0;
    }
    return 0;
}

/* --- writing ----------------------------------------------------------------------------- */

/* Slots in use, tombstones included, that a segment may have: 13/16 of the capacity keeps an
 * unsuccessful search near 14 slots, two cache lines. Tiny ones may be full. */
static uint32_t limit_of(uint32_t capacity)
{
    return capacity < 8 ? capacity : capacity * 13 / 16;
}

/* The smallest capacity of the ladder 2, 4, 6, 8, 12, 16, 24 ... with room for count. Two steps per
 * doubling keep the slots two thirds full on average; all segments of a table grow at nearly the
 * same time, so with one step half the memory would be empty at times. */
static uint32_t capacity_for(uint32_t count)
{
    uint32_t capacity = 2;
    while (limit_of(capacity) < count)
        capacity = capacity == 2 ? 4 : (capacity & (capacity - 1)) == 0 ? capacity * 3 / 2
                                                                        : capacity * 4 / 3;
    must(capacity < SLOTS_LIMIT);
    return capacity;
}

static size_t segment_bytes(uint32_t capacity)
{
    return sizeof(struct segment) + capacity * sizeof(uint64_t);
}

static enum err segment_make(struct interest_memory *m, uint32_t count, uint8_t depth,
                             struct segment **out)
{
    uint32_t capacity = capacity_for(count);
    void *p;
    enum err e = interest_memory_block(m, segment_bytes(capacity), &p);
    if (e != ERR_OK) return e;
    struct segment *s = p; /* zeroed */
    s->capacity = (uint16_t)capacity;
    s->depth = depth;
    *out = s;
    return ERR_OK;
}

/* There is room. */
static void segment_put(struct segment *s, uint64_t slot)
{
    uint32_t i = home_of(s, (uint32_t)slot);
    for (;;) {
        uint64_t old = atomic_load_explicit(&s->slots[i], memory_order_relaxed);
        if (old == 0 || old == TOMB) {
            if (old == TOMB) s->tombs--;
            s->used++;
            /* Pairs with the load in find: who sees the slot sees the node. */
            atomic_store_explicit(&s->slots[i], slot, memory_order_release);
            return;
        }
        if (++i == s->capacity) i = 0;
    }
}

/* Live slot number *i or a later one; 0 at the end. */
static uint64_t segment_live(const struct segment *s, uint32_t *i)
{
    while (*i < s->capacity) {
        uint64_t slot = atomic_load_explicit(&s->slots[(*i)++], memory_order_acquire);
        if (slot != 0 && slot != TOMB) return slot;
    }
    return 0;
}

static void segment_copy(struct segment *to, const struct segment *from)
{
    uint32_t i = 0;
    for (uint64_t slot; (slot = segment_live(from, &i)) != 0;) segment_put(to, slot);
}

static void root_store(_Atomic uintptr_t *table, uintptr_t root)
{
    atomic_store_explicit(table, root, memory_order_release);
}

/* Puts with[0] and with[1] where old is: the halves of its range, or both the same. */
static void publish(_Atomic uintptr_t *table, const struct segment *old, uint32_t hash,
                    struct segment *const with[2])
{
    uintptr_t root = atomic_load_explicit(table, memory_order_relaxed);
    if (!is_directory(root)) {
        must(with[0] == with[1]);
        root_store(table, (uintptr_t)with[0]);
        return;
    }
    struct directory *d = directory_of(root);
    uint32_t span = 1u << (d->depth - old->depth);
    uint32_t first = entry_of(d, hash) & ~(span - 1);
    for (uint32_t i = 0; i < span; i++)
        atomic_store_explicit(&d->at[first + i], with[i >= span / 2 && span > 1],
                              memory_order_release);
}

/* Makes room in the segment by replacing it with one for count children. */
static enum err resize(struct interest_memory *m, struct interest_arena *a,
                       _Atomic uintptr_t *table, struct segment *old, uint32_t hash, uint32_t count)
{
    struct segment *s;
    enum err e = segment_make(m, count, old->depth, &s);
    if (e != ERR_OK) return e;
    segment_copy(s, old);
    publish(table, old, hash, (struct segment *const[2]){s, s});
    interest_memory_retire_block(a, &old->block);
    return ERR_OK;
}

/* A directory of one more bit than the table has now, each segment named twice; not published. */
static enum err directory_double(struct interest_memory *m, uintptr_t root, struct directory **out)
{
    const struct directory *old = is_directory(root) ? directory_of(root) : NULL;
    uint32_t depth = old == NULL ? 1 : old->depth + 1;
    void *p;
    enum err e = interest_memory_block(
        m, sizeof(struct directory) + ((size_t)1 << depth) * sizeof(struct segment *), &p);
    if (e != ERR_OK) return e;
    struct directory *d = p;
    d->depth = depth;
    d->count = old == NULL ? ((struct segment *)root)->used : old->count;
    for (uint32_t i = 0; i < 1u << depth; i++) {
        struct segment *s = (struct segment *)root;
        if (old != NULL) s = atomic_load_explicit(&old->at[i / 2], memory_order_relaxed);
        atomic_init(&d->at[i], s);
    }
    *out = d;
    return ERR_OK;
}

/* Distributes old over two segments by its next bit of hash. */
static enum err split(struct interest_memory *m, struct interest_arena *a, _Atomic uintptr_t *table,
                      struct segment *old, uint32_t hash)
{
    uint32_t bit = 1u << (31 - old->depth), counts[2] = {1, 1}; /* one to come */
    uint32_t i = 0;
    for (uint64_t slot; (slot = segment_live(old, &i)) != 0;) counts[(slot & bit) != 0]++;

    struct segment *halves[2] = {NULL, NULL};
    struct directory *d = NULL;
    uintptr_t root = atomic_load_explicit(table, memory_order_relaxed);
    enum err e = segment_make(m, counts[0], (uint8_t)(old->depth + 1), &halves[0]);
    if (e != ERR_OK) return e;
    e = segment_make(m, counts[1], (uint8_t)(old->depth + 1), &halves[1]);
    if (e != ERR_OK) goto drop_first;
    if (!is_directory(root) || directory_of(root)->depth == old->depth) {
        e = directory_double(m, root, &d);
        if (e != ERR_OK) goto drop_both;
    }
    i = 0;
    for (uint64_t slot; (slot = segment_live(old, &i)) != 0;)
        segment_put(halves[(slot & bit) != 0], slot);
    if (d != NULL) {
        root_store(table, (uintptr_t)d | 1);
        if (is_directory(root)) interest_memory_retire_block(a, &directory_of(root)->block);
    }
    publish(table, old, hash, halves);
    interest_memory_retire_block(a, &old->block);
    return ERR_OK;
drop_both:
    interest_memory_retire_block(a, &halves[1]->block);
drop_first:
    interest_memory_retire_block(a, &halves[0]->block);
    return e;
}

enum err interest_table_insert(struct interest_memory *m, struct interest_arena *a,
                               _Atomic uintptr_t *table, uint32_t hash, uint32_t ref)
{
    uintptr_t root = atomic_load_explicit(table, memory_order_relaxed);
    enum err e;
    if (root == 0) {
        struct segment *s;
        e = segment_make(m, 1, 0, &s);
        if (e != ERR_OK) return e;
        segment_put(s, slot_of(ref, hash));
        root_store(table, (uintptr_t)s);
        return ERR_OK;
    }
    /* Each split may leave all children on one side: then the next one is tried, down to the
     * last bit of depth, where the segment grows. */
    for (;;) {
        struct segment *s = segment_of(root, hash);
        uint32_t limit = limit_of(s->capacity), taken = (uint32_t)s->used + s->tombs;
        if (taken < limit || (taken == s->capacity && s->tombs > 0)) break;
        /* An eighth of slack: where tombstones filled it up, it must not fill up at once again. */
        uint32_t want = s->used + 1u + s->used / 8u;
        if (want <= limit || s->capacity < SPLIT_SLOTS || s->depth == DEPTH_MAX)
            e = resize(m, a, table, s, hash, want);
        else
            e = split(m, a, table, s, hash);
        if (e != ERR_OK) return e;
        root = atomic_load_explicit(table, memory_order_relaxed);
    }
    segment_put(segment_of(root, hash), slot_of(ref, hash));
    if (is_directory(root)) directory_of(root)->count++;
    return ERR_OK;
}

/* Takes the slot out; where a free slot follows, it and tombstones before it become free. */
static void segment_take(struct segment *s, uint64_t slot)
{
    uint32_t i = home_of(s, (uint32_t)slot), n = 0;
    while (atomic_load_explicit(&s->slots[i], memory_order_relaxed) != slot) {
        must(++n < s->capacity);
        if (++i == s->capacity) i = 0;
    }
    must(s->used > 0);
    s->used--;
    s->tombs++;
    atomic_store_explicit(&s->slots[i], TOMB, memory_order_release);
    uint32_t next = i + 1 == s->capacity ? 0 : i + 1;
    if (atomic_load_explicit(&s->slots[next], memory_order_relaxed) != 0) return;
    while (atomic_load_explicit(&s->slots[i], memory_order_relaxed) == TOMB) {
        atomic_store_explicit(&s->slots[i], 0, memory_order_release);
        s->tombs--;
        i = i == 0 ? s->capacity - 1u : i - 1u;
    }
}

/* Retires what a table word named; it names something else now. */
static void retire(struct interest_arena *a, uintptr_t root)
{
    if (root == 0) return;
    if (!is_directory(root)) {
        interest_memory_retire_block(a, &((struct segment *)root)->block);
        return;
    }
    struct directory *d = directory_of(root);
    struct segment *last = NULL;
    for (uint32_t i = 0; i < 1u << d->depth; i++) { /* entries of one segment are neighbours */
        struct segment *s = atomic_load_explicit(&d->at[i], memory_order_relaxed);
        if (s != last) interest_memory_retire_block(a, &s->block);
        last = s;
    }
    interest_memory_retire_block(a, &d->block);
}

/* All children into one segment, no directory. */
static void collapse(struct interest_memory *m, struct interest_arena *a, _Atomic uintptr_t *table)
{
    uintptr_t root = atomic_load_explicit(table, memory_order_relaxed);
    const struct directory *d = directory_of(root);
    const struct segment *last = NULL;
    struct segment *s;
    if (segment_make(m, d->count + 1, 0, &s) != ERR_OK) return;
    for (uint32_t i = 0; i < 1u << d->depth; i++) {
        const struct segment *old = atomic_load_explicit(&d->at[i], memory_order_relaxed);
        if (old != last) segment_copy(s, old);
        last = old;
    }
    must(s->used == d->count);
    root_store(table, (uintptr_t)s);
    retire(a, root);
}

void interest_table_remove(struct interest_memory *m, struct interest_arena *a,
                           _Atomic uintptr_t *table, uint32_t hash, uint32_t ref)
{
    uintptr_t root = atomic_load_explicit(table, memory_order_relaxed);
    must(root != 0);
    struct segment *s = segment_of(root, hash);
    segment_take(s, slot_of(ref, hash));
    if (is_directory(root)) {
        struct directory *d = directory_of(root);
        must(d->count > 0);
        d->count--;
        if (d->count == 0)
            interest_table_drop(a, table);
        else if (d->count < COLLAPSE)
            collapse(m, a, table);
    } else if (s->used == 0) {
        interest_table_drop(a, table);
        return;
    }
    /* The replaced segment may be gone already; look anew. */
    root = atomic_load_explicit(table, memory_order_relaxed);
    if (root == 0) return;
    s = segment_of(root, hash);
    if (s->capacity <= 8 || s->used >= s->capacity / 4u) return;
    if (resize(m, a, table, s, hash, s->used + s->used / 2u + 1) != ERR_OK) return;
}

void interest_table_drop(struct interest_arena *a, _Atomic uintptr_t *table)
{
    uintptr_t root = atomic_load_explicit(table, memory_order_relaxed);
    root_store(table, 0);
    retire(a, root);
}

/* --- all children ------------------------------------------------------------------------ */

void interest_table_each_init(struct interest_table_each *e, const _Atomic uintptr_t *table)
{
    *e = (struct interest_table_each){.root = atomic_load_explicit(table, memory_order_acquire)};
    if (e->root != 0) e->segment = segment_of(e->root, 0);
}

uint32_t interest_table_each_next(struct interest_table_each *e)
{
    while (e->segment != NULL) {
        const struct segment *s = e->segment;
        uint64_t slot = segment_live(s, &e->slot);
        if (slot != 0) return slot_ref(slot);
        e->slot = 0;
        e->segment = NULL;
        if (!is_directory(e->root)) break;
        struct directory *d = directory_of(e->root);
        while (++e->entry < 1u << d->depth) {
            const struct segment *next =
                atomic_load_explicit(&d->at[e->entry], memory_order_acquire);
            if (next == s) continue;
            e->segment = next;
            break;
        }
    }
    return 0;
}
