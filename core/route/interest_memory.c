#include "core/route/interest_memory.h"
#include "core/base/must.h"

enum {
    LOCK_TRIES = 100,      /* some 100 ns: the holder is in one call of the port */
    EXACT_GRAINS = 16,     /* up to here a class per grain, then four per doubling */
    GRAINS_MAX = 640,      /* the largest class: a node with a token of 4096 bytes fits */
    CHUNK_GRAINS_MIN = 32, /* 256 bytes */
    CHUNK_GRAINS_MAX = 1 << INTEREST_CHUNK_SHIFT,
};

static bool lock(struct interest_memory *m)
{
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (atomic_load_explicit(&m->is_locked, memory_order_relaxed) != 0) continue;
        if (atomic_exchange_explicit(&m->is_locked, 1, memory_order_acquire) == 0) return true;
    }
    return false;
}

static void unlock(struct interest_memory *m)
{
    atomic_store_explicit(&m->is_locked, 0, memory_order_release);
}

/* Under the lock. */
static void *port_alloc(struct interest_memory *m, size_t bytes)
{
    void *p = mem_alloc_zero(m->mem, MEM_INTEREST, bytes);
    if (p == NULL) return NULL;
    uint64_t now = atomic_load_explicit(&m->bytes, memory_order_relaxed);
    atomic_store_explicit(&m->bytes, now + bytes, memory_order_relaxed);
    return p;
}

static void port_free(struct interest_memory *m, void *p, size_t bytes)
{
    mem_free(m->mem, MEM_INTEREST, p, bytes);
    uint64_t now = atomic_load_explicit(&m->bytes, memory_order_relaxed);
    atomic_store_explicit(&m->bytes, now - bytes, memory_order_relaxed);
}

void interest_memory_init(struct interest_memory *m, struct mem *mem, uint32_t shard_count)
{
    must(shard_count > 0 && shard_count <= INTEREST_SHARDS_MAX);
    memset(m, 0, sizeof *m);
    m->mem = mem;
    m->shard_count = shard_count;
    m->chunk_count = 1;
    atomic_init(&m->epoch, 1);
}

/* The first grains of a chunk, so no reference names them. Free pieces are chained through their
 * first words. */
struct chunk_head {
    uint32_t next, prev; /* chunks of the class with room, by number */
    uint32_t free_first; /* a reference, 0: none */
    uint16_t grains;     /* of the chunk */
    uint16_t unused;     /* grains from here on were never given out */
    uint16_t live;       /* pieces given out */
    uint16_t piece;      /* grains of each */
};

enum { HEAD_GRAINS = (sizeof(struct chunk_head) + INTEREST_GRAIN - 1) / INTEREST_GRAIN };

static struct chunk_head *chunk_at(const struct interest_memory *m, uint32_t number)
{
    return interest_memory_at(m, number << INTEREST_CHUNK_SHIFT);
}

static char **directory_entry(struct interest_memory *m, uint32_t number)
{
    return &m->pages[number >> INTEREST_PAGE_SHIFT][number & ((1u << INTEREST_PAGE_SHIFT) - 1)];
}

/* A number without a chunk keeps the next such number in its directory entry, marked by bit 0 so
 * that it is no pointer. Under the lock. */
static char *vacant_mark(uint32_t next)
{
    return (char *)((uintptr_t)next << 1 | 1);
}

static bool is_vacant(const char *entry)
{
    return ((uintptr_t)entry & 1) != 0;
}

void interest_memory_deinit(struct interest_memory *m)
{
    for (uint32_t i = 1; i < m->chunk_count; i++) {
        if (is_vacant(*directory_entry(m, i))) continue;
        struct chunk_head *chunk = chunk_at(m, i);
        port_free(m, chunk, (size_t)chunk->grains * INTEREST_GRAIN);
    }
    for (uint32_t i = 0; i < INTEREST_PAGES; i++)
        if (m->pages[i] != NULL)
            port_free(m, m->pages[i], sizeof(char *) << INTEREST_PAGE_SHIFT);
}

enum err interest_memory_alloc(struct interest_memory *m, size_t bytes, void **out)
{
    if (!lock(m)) return ERR_BUSY;
    void *p = port_alloc(m, bytes);
    unlock(m);
    if (p == NULL) return ERR_MEMORY;
    *out = p;
    return ERR_OK;
}

enum err interest_memory_block(struct interest_memory *m, size_t bytes, void **out)
{
    must(bytes >= sizeof(struct interest_block) && bytes <= UINT32_MAX);
    enum err e = interest_memory_alloc(m, bytes, out);
    if (e == ERR_OK) ((struct interest_block *)*out)->bytes = (uint32_t)bytes;
    return e;
}

/* --- arenas ------------------------------------------------------------------------------ */

/* The class that holds grains, and in *class_grains how many it gives. */
static uint32_t class_of(uint32_t grains, uint32_t *class_grains)
{
    must(grains > 0 && grains <= GRAINS_MAX);
    if (grains <= EXACT_GRAINS) {
        *class_grains = grains;
        return grains - 1;
    }
    uint32_t class = EXACT_GRAINS, step = EXACT_GRAINS / 4, size = EXACT_GRAINS + step;
    for (uint32_t i = 1; size < grains; i++, class++) {
        if (i % 4 == 0) step *= 2;
        size += step;
    }
    must(class < INTEREST_CLASSES);
    *class_grains = size;
    return class;
}

/* A number for a chunk. Under the lock. */
static enum err next_number(struct interest_memory *m, uint32_t *number)
{
    *number = m->vacant != 0 ? m->vacant : m->chunk_count;
    if (m->vacant != 0) return ERR_OK;
    if (*number >> INTEREST_PAGE_SHIFT == INTEREST_PAGES) return ERR_MEMORY;
    char ***page = &m->pages[*number >> INTEREST_PAGE_SHIFT];
    if (*page == NULL) *page = port_alloc(m, sizeof(char *) << INTEREST_PAGE_SHIFT);
    return *page == NULL ? ERR_MEMORY : ERR_OK;
}

static void room_push(struct interest_memory *m, uint32_t *head, uint32_t number)
{
    struct chunk_head *chunk = chunk_at(m, number);
    chunk->next = *head;
    chunk->prev = 0;
    if (*head != 0) chunk_at(m, *head)->prev = number;
    *head = number;
}

static void room_remove(struct interest_memory *m, uint32_t *head, uint32_t number)
{
    const struct chunk_head *chunk = chunk_at(m, number);
    if (chunk->prev != 0)
        chunk_at(m, chunk->prev)->next = chunk->next;
    else
        *head = chunk->next;
    if (chunk->next != 0) chunk_at(m, chunk->next)->prev = chunk->prev;
}

static bool has_room(const struct chunk_head *chunk)
{
    return chunk->free_first != 0 || chunk->grains - chunk->unused >= chunk->piece;
}

/* A chunk for the class, of pieces of that many grains. The first is small, for many accounts have
 * a handful of filters. */
static enum err add_chunk(struct interest_memory *m, struct interest_arena *a, uint32_t class,
                          uint32_t piece)
{
    uint32_t grains = a->classes[class].grains, number;
    if (grains == 0) grains = CHUNK_GRAINS_MIN;
    while (grains < HEAD_GRAINS + 4 * piece) grains *= 2;
    must(grains <= CHUNK_GRAINS_MAX);
    if (!lock(m)) return ERR_BUSY;
    enum err e = next_number(m, &number);
    if (e != ERR_OK) goto done;
    struct chunk_head *chunk = port_alloc(m, grains * INTEREST_GRAIN);
    if (chunk == NULL) {
        e = ERR_MEMORY;
        goto done;
    }
    *chunk = (struct chunk_head){
        .grains = (uint16_t)grains, .unused = HEAD_GRAINS, .piece = (uint16_t)piece};
    if (number == m->vacant)
        m->vacant = (uint32_t)((uintptr_t)*directory_entry(m, number) >> 1);
    else
        m->chunk_count++;
    *directory_entry(m, number) = (char *)chunk;
    room_push(m, &a->classes[class].with_room, number);
    a->classes[class].grains = grains < CHUNK_GRAINS_MAX ? grains * 2 : grains;
done:
    unlock(m);
    return e;
}

/* Gives an empty chunk back, unless it is the only one of its class with room, or the port is
 * busy: then it stays for later pieces. */
static void drop_chunk(struct interest_memory *m, struct interest_arena *a, uint32_t class,
                       uint32_t number)
{
    struct chunk_head *chunk = chunk_at(m, number);
    must(chunk->live == 0);
    if ((chunk->next == 0 && chunk->prev == 0) || !lock(m)) return;
    room_remove(m, &a->classes[class].with_room, number);
    port_free(m, chunk, (size_t)chunk->grains * INTEREST_GRAIN);
    *directory_entry(m, number) = vacant_mark(m->vacant);
    m->vacant = number;
    unlock(m);
}

static uint32_t grains_of(size_t bytes)
{
    return (uint32_t)((bytes + INTEREST_GRAIN - 1) / INTEREST_GRAIN);
}

static enum err take(struct interest_memory *m, struct interest_arena *a, size_t bytes,
                     uint32_t *ref)
{
    uint32_t piece, class = class_of(grains_of(bytes), &piece);
    if (a->classes[class].with_room == 0) {
        enum err e = add_chunk(m, a, class, piece);
        if (e != ERR_OK) return e;
    }
    uint32_t number = a->classes[class].with_room;
    struct chunk_head *chunk = chunk_at(m, number);
    if (chunk->free_first != 0) {
        *ref = chunk->free_first;
        chunk->free_first = *(uint32_t *)interest_memory_at(m, *ref);
    } else {
        *ref = (number << INTEREST_CHUNK_SHIFT) + chunk->unused;
        chunk->unused = (uint16_t)(chunk->unused + piece);
    }
    chunk->live++;
    if (!has_room(chunk)) room_remove(m, &a->classes[class].with_room, number);
    return ERR_OK;
}

static void give(struct interest_memory *m, struct interest_arena *a, size_t bytes, uint32_t ref)
{
    uint32_t piece, class = class_of(grains_of(bytes), &piece);
    uint32_t number = ref >> INTEREST_CHUNK_SHIFT;
    struct chunk_head *chunk = chunk_at(m, number);
    must(chunk->live > 0 && chunk->piece == piece);
    if (!has_room(chunk)) room_push(m, &a->classes[class].with_room, number);
    *(uint32_t *)interest_memory_at(m, ref) = chunk->free_first;
    chunk->free_first = ref;
    if (--chunk->live == 0) drop_chunk(m, a, class, number);
}

static size_t node_bytes(size_t token_bytes)
{
    return offsetof(struct interest_node, token) + token_bytes;
}

enum err interest_memory_node(struct interest_memory *m, struct interest_arena *a,
                              enum interest_kind kind, struct bytes token, uint32_t *ref)
{
    must(token.len < 1u << INTEREST_TOKEN_BITS);
    enum err e = take(m, a, node_bytes(token.len), ref);
    if (e != ERR_OK) return e;
    struct interest_node *n = interest_memory_node_at(m, *ref);
    atomic_init(&n->content, 0);
    atomic_init(&n->branch, 0);
    n->parent = 0;
    n->kind_len = (uint16_t)((unsigned)kind << INTEREST_TOKEN_BITS | token.len);
    if (token.len > 0) memcpy(n->token, token.data, token.len);
    return ERR_OK;
}

enum err interest_memory_branch(struct interest_memory *m, struct interest_arena *a, uint32_t *ref)
{
    enum err e = take(m, a, sizeof(struct interest_branch), ref);
    if (e != ERR_OK) return e;
    struct interest_branch *b = interest_memory_branch_at(m, *ref);
    atomic_init(&b->literals, 0);
    atomic_init(&b->groups, 0);
    atomic_init(&b->star, 0);
    atomic_init(&b->rest, 0);
    b->link = 0;
    return ERR_OK;
}

void interest_memory_free_node(struct interest_memory *m, struct interest_arena *a, uint32_t ref)
{
    give(m, a, node_bytes(interest_token_of(interest_memory_node_at(m, ref)).len), ref);
}

void interest_memory_free_branch(struct interest_memory *m, struct interest_arena *a, uint32_t ref)
{
    give(m, a, sizeof(struct interest_branch), ref);
}

void interest_memory_arena_init(struct interest_arena *a)
{
    memset(a, 0, sizeof *a);
}

/* --- retired memory and epochs ----------------------------------------------------------- */

/* No reader looks at the parent of a node or the link of a branch, so they hold the chains. */
void interest_memory_retire_node(struct interest_memory *m, struct interest_arena *a, uint32_t ref)
{
    interest_memory_node_at(m, ref)->parent = a->filling.nodes;
    a->filling.nodes = ref;
    a->retired_count++;
}

void interest_memory_retire_branch(struct interest_memory *m, struct interest_arena *a,
                                   uint32_t ref)
{
    interest_memory_branch_at(m, ref)->link = a->filling.branches;
    a->filling.branches = ref;
    a->retired_count++;
}

void interest_memory_retire_block(struct interest_arena *a, struct interest_block *b)
{
    b->link = a->filling.blocks;
    a->filling.blocks = b;
    a->retired_count++;
}

static bool is_empty(const struct interest_retired *r)
{
    return r->nodes == 0 && r->branches == 0 && r->blocks == NULL;
}

static void free_retired(struct interest_memory *m, struct interest_arena *a,
                         struct interest_retired *r)
{
    while (r->nodes != 0) {
        uint32_t ref = r->nodes;
        r->nodes = interest_memory_node_at(m, ref)->parent;
        interest_memory_free_node(m, a, ref);
    }
    while (r->branches != 0) {
        uint32_t ref = r->branches;
        r->branches = interest_memory_branch_at(m, ref)->link;
        interest_memory_free_branch(m, a, ref);
    }
    if (r->blocks == NULL || !lock(m)) return; /* busy: the blocks go with the next look */
    while (r->blocks != NULL) {
        struct interest_block *b = r->blocks;
        r->blocks = b->link;
        port_free(m, b, b->bytes);
    }
    unlock(m);
}

static bool all_passed(const struct interest_memory *m, uint64_t epoch)
{
    for (uint32_t s = 0; s < m->shard_count; s++) {
        uint64_t seen = atomic_load_explicit(&m->seats[s].epoch, memory_order_seq_cst);
        if (seen != 0 && seen <= epoch) return false;
    }
    return true;
}

bool interest_memory_reclaim(struct interest_memory *m, struct interest_arena *a)
{
    a->retired_count = 0;
    for (int round = 0; round < 2; round++) {
        if (!is_empty(&a->waiting)) {
            if (!all_passed(m, a->waiting.epoch)) return false;
            free_retired(m, a, &a->waiting);
            if (!is_empty(&a->waiting)) return false;
        }
        if (is_empty(&a->filling)) return true;
        a->waiting = a->filling;
        a->filling = (struct interest_retired){0};
        a->waiting.epoch = atomic_fetch_add_explicit(&m->epoch, 1, memory_order_seq_cst);
    }
    return false;
}

void interest_memory_arena_deinit(struct interest_memory *m, struct interest_arena *a)
{
    while (!interest_memory_reclaim(m, a))
        must(all_passed(m, UINT64_MAX));
}

void interest_memory_online(struct interest_memory *m, uint32_t shard)
{
    struct interest_seat *seat = &m->seats[shard];
    uint64_t epoch = atomic_load_explicit(&m->epoch, memory_order_seq_cst);
    atomic_store_explicit(&seat->epoch, epoch, memory_order_seq_cst);
    /* This second load is the point, see the head of interest_memory.h; what it finds may as well
     * be kept. */
    epoch = atomic_load_explicit(&m->epoch, memory_order_seq_cst);
    atomic_store_explicit(&seat->epoch, epoch, memory_order_release);
}

void interest_memory_offline(struct interest_memory *m, uint32_t shard)
{
    atomic_store_explicit(&m->seats[shard].epoch, 0, memory_order_release);
}

void interest_memory_quiesce(struct interest_memory *m, uint32_t shard)
{
    uint64_t epoch = atomic_load_explicit(&m->epoch, memory_order_acquire);
    atomic_store_explicit(&m->seats[shard].epoch, epoch, memory_order_release);
}
