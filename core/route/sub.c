#include "core/route/sub.h"
#include "core/base/must.h"

enum {
    CHUNK_SHIFT = 12, /* 4096 subs of 56 bytes: 224 KiB */
    CHUNK_SUBS = 1 << CHUNK_SHIFT,
    FAR_SID = UINT8_MAX, /* sid_len of a sid that does not fit inline */
    SUBS_MAX = 1 << 30,
};

_Static_assert(sizeof(struct sub) == 56, "a million subscriptions: each word counts");
_Static_assert((int)SUB_SID_INLINE_MAX < (int)FAR_SID, "the inline lengths and the mark differ");

/* Index i is sub i % 4096 of chunk i / 4096; index 0 is never handed out. Empty chunks are given
 * back by trim, but for one, so that a single sub does not come and go with 224 KiB. Chunks with
 * room form a list; those without memory another, whose numbers are used again first. */
struct chunk {
    struct sub *subs;    /* NULL: vacant */
    uint32_t free_first; /* chain through sub.next; 0 ends it */
    uint32_t unused;     /* subs of the chunk from here on were never handed out */
    uint32_t live;
    uint32_t next, prev; /* chunk number + 1; 0 ends the list */
};

struct sub_pool {
    struct mem *mem;
    struct chunk *chunks; /* chunk_room of them, chunk_count used */
    uint32_t chunk_room, chunk_count;
    uint32_t with_room; /* heads of the two lists: chunk number + 1 */
    uint32_t vacant;
    uint32_t empty_count; /* chunks that have memory and no live sub */
    uint32_t count;
};

/* A long sid: its length, then its bytes. */
struct far_sid {
    uint32_t len;
    char bytes[];
};

enum err sub_pool_open(struct mem *mem, struct sub_pool **out)
{
    struct sub_pool *p = mem_alloc_zero(mem, MEM_INTEREST, sizeof *p);
    if (p == NULL) return ERR_MEMORY;
    p->mem = mem;
    *out = p;
    return ERR_OK;
}

static void chunk_free(struct sub_pool *p, struct chunk *c)
{
    mem_free(p->mem, MEM_INTEREST, c->subs, CHUNK_SUBS * sizeof(struct sub));
    c->subs = NULL;
}

void sub_pool_close(struct sub_pool *p)
{
    must(p->count == 0);
    for (uint32_t i = 0; i < p->chunk_count; i++) chunk_free(p, &p->chunks[i]);
    mem_free(p->mem, MEM_INTEREST, p->chunks, p->chunk_room * sizeof *p->chunks);
    mem_free(p->mem, MEM_INTEREST, p, sizeof *p);
}

static void list_push(struct sub_pool *p, uint32_t *head, uint32_t number)
{
    struct chunk *c = &p->chunks[number];
    c->next = *head;
    c->prev = 0;
    if (*head != 0) p->chunks[*head - 1].prev = number + 1;
    *head = number + 1;
}

static void list_remove(struct sub_pool *p, uint32_t *head, uint32_t number)
{
    const struct chunk *c = &p->chunks[number];
    if (c->prev != 0)
        p->chunks[c->prev - 1].next = c->next;
    else
        *head = c->next;
    if (c->next != 0) p->chunks[c->next - 1].prev = c->prev;
}

/* A record for one more chunk, in the list of vacant ones. */
static enum err add_number(struct sub_pool *p)
{
    if (p->chunk_count == SUBS_MAX / CHUNK_SUBS) return ERR_MEMORY;
    if (p->chunk_count == p->chunk_room) {
        uint32_t room = p->chunk_room == 0 ? 8 : p->chunk_room * 2;
        struct chunk *chunks = mem_resize(p->mem, MEM_INTEREST, p->chunks,
                                          p->chunk_room * sizeof *chunks, room * sizeof *chunks);
        if (chunks == NULL) return ERR_MEMORY;
        p->chunks = chunks;
        p->chunk_room = room;
    }
    p->chunks[p->chunk_count] = (struct chunk){0};
    list_push(p, &p->vacant, p->chunk_count++);
    return ERR_OK;
}

static enum err add_chunk(struct sub_pool *p)
{
    if (p->vacant == 0 && add_number(p) != ERR_OK) return ERR_MEMORY;
    uint32_t number = p->vacant - 1;
    struct sub *subs = mem_alloc(p->mem, MEM_INTEREST, CHUNK_SUBS * sizeof *subs);
    if (subs == NULL) return ERR_MEMORY;
    list_remove(p, &p->vacant, number);
    p->chunks[number] = (struct chunk){.subs = subs, .unused = number == 0};
    list_push(p, &p->with_room, number);
    p->empty_count++;
    return ERR_OK;
}

static struct sub *slot(const struct sub_pool *p, uint32_t index)
{
    uint32_t number = index >> CHUNK_SHIFT;
    must(index != 0 && number < p->chunk_count);
    return &p->chunks[number].subs[index & (CHUNK_SUBS - 1)];
}

/* From the chunk at the head of those with room. */
static uint32_t take(struct sub_pool *p)
{
    uint32_t number = p->with_room - 1, i;
    struct chunk *c = &p->chunks[number];
    if (c->free_first != 0) {
        i = c->free_first;
        c->free_first = slot(p, i)->next;
    } else {
        must(c->unused < CHUNK_SUBS);
        i = number << CHUNK_SHIFT | c->unused++;
    }
    if (c->live++ == 0) p->empty_count--;
    if (c->free_first == 0 && c->unused == CHUNK_SUBS) list_remove(p, &p->with_room, number);
    return i;
}

enum err sub_acquire(struct sub_pool *p, struct client *owner, struct bytes sid, uint32_t *index)
{
    must(sid.len <= SUB_SID_BYTES_MAX);
    struct far_sid *far = NULL;
    if (sid.len > SUB_SID_INLINE_MAX) {
        far = mem_alloc(p->mem, MEM_INTEREST, sizeof *far + sid.len);
        if (far == NULL) return ERR_MEMORY;
        far->len = (uint32_t)sid.len;
        memcpy(far->bytes, sid.data, sid.len);
    }
    if (p->with_room == 0 && add_chunk(p) != ERR_OK) {
        if (far != NULL) mem_free(p->mem, MEM_INTEREST, far, sizeof *far + far->len);
        return ERR_MEMORY;
    }
    uint32_t i = take(p);
    struct sub *s = slot(p, i);
    *s = (struct sub){.owner = owner, .index = i};
    if (far != NULL) {
        s->sid_len = FAR_SID;
        s->sid.far = (char *)far;
    } else {
        s->sid_len = (uint8_t)sid.len;
        if (sid.len > 0) memcpy(s->sid.near, sid.data, sid.len);
    }
    p->count++;
    *index = i;
    return ERR_OK;
}

void sub_release(struct sub_pool *p, uint32_t index)
{
    struct sub *s = slot(p, index);
    must(s->index == index); /* 0 in a free sub: released twice */
    must(s->place == 0);
    if (s->sid_len == FAR_SID) {
        struct far_sid *far = (struct far_sid *)(void *)s->sid.far;
        mem_free(p->mem, MEM_INTEREST, far, sizeof *far + far->len);
    }
    uint32_t number = index >> CHUNK_SHIFT;
    struct chunk *c = &p->chunks[number];
    if (c->free_first == 0 && c->unused == CHUNK_SUBS) list_push(p, &p->with_room, number);
    *s = (struct sub){.next = c->free_first};
    c->free_first = index;
    must(p->count > 0 && c->live > 0);
    p->count--;
    if (--c->live == 0) p->empty_count++;
}

void sub_pool_trim(struct sub_pool *p)
{
    for (uint32_t at = p->with_room; at != 0 && p->empty_count > 1;) {
        uint32_t number = at - 1;
        struct chunk *c = &p->chunks[number];
        at = c->next;
        if (c->live > 0) continue;
        list_remove(p, &p->with_room, number);
        chunk_free(p, c);
        list_push(p, &p->vacant, number);
        p->empty_count--;
    }
}

struct sub *sub_at(const struct sub_pool *p, uint32_t index)
{
    return slot(p, index);
}

uint32_t sub_index(const struct sub_pool *p, const struct sub *s)
{
    verify(slot(p, s->index) == s);
    return s->index;
}

uint32_t sub_pool_count(const struct sub_pool *p)
{
    return p->count;
}

struct bytes sub_sid(const struct sub *s)
{
    if (s->sid_len != FAR_SID) return bytes_of(s->sid.near, s->sid_len);
    const struct far_sid *far = (const struct far_sid *)(const void *)s->sid.far;
    return bytes_of(far->bytes, far->len);
}
