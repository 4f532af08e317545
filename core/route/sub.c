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

/* Free subs are chained through next, lowest last. Index i is sub i % 4096 of chunk i / 4096;
 * index 0 is never handed out. */
struct sub_pool {
    struct mem *mem;
    struct sub **chunks; /* chunk_room of them, chunk_count used */
    uint32_t chunk_room, chunk_count;
    uint32_t next_unused; /* subs from here on were never handed out */
    uint32_t free_first;
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
    p->next_unused = 1;
    *out = p;
    return ERR_OK;
}

void sub_pool_close(struct sub_pool *p)
{
    must(p->count == 0);
    for (uint32_t i = 0; i < p->chunk_count; i++)
        mem_free(p->mem, MEM_INTEREST, p->chunks[i], CHUNK_SUBS * sizeof(struct sub));
    mem_free(p->mem, MEM_INTEREST, p->chunks, p->chunk_room * sizeof *p->chunks);
    mem_free(p->mem, MEM_INTEREST, p, sizeof *p);
}

static enum err add_chunk(struct sub_pool *p)
{
    if (p->chunk_count == SUBS_MAX / CHUNK_SUBS) return ERR_MEMORY;
    if (p->chunk_count == p->chunk_room) {
        uint32_t room = p->chunk_room == 0 ? 8 : p->chunk_room * 2;
        struct sub **chunks = mem_resize(p->mem, MEM_INTEREST, p->chunks,
                                         p->chunk_room * sizeof *chunks, room * sizeof *chunks);
        if (chunks == NULL) return ERR_MEMORY;
        p->chunks = chunks;
        p->chunk_room = room;
    }
    struct sub *chunk = mem_alloc(p->mem, MEM_INTEREST, CHUNK_SUBS * sizeof *chunk);
    if (chunk == NULL) return ERR_MEMORY;
    p->chunks[p->chunk_count++] = chunk;
    return ERR_OK;
}

static struct sub *slot(const struct sub_pool *p, uint32_t index)
{
    must(index != 0 && index < p->next_unused);
    return &p->chunks[index >> CHUNK_SHIFT][index & (CHUNK_SUBS - 1)];
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
    uint32_t i = p->free_first;
    if (i != 0) {
        p->free_first = slot(p, i)->next;
    } else {
        if (p->next_unused >> CHUNK_SHIFT == p->chunk_count && add_chunk(p) != ERR_OK) {
            if (far != NULL) mem_free(p->mem, MEM_INTEREST, far, sizeof *far + far->len);
            return ERR_MEMORY;
        }
        i = p->next_unused++;
    }
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
    *s = (struct sub){.next = p->free_first};
    p->free_first = index;
    must(p->count > 0);
    p->count--;
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
