#include "persist/checkpoints.h"
#include "core/base/must.h"

static uint64_t hash_of(uint64_t stream)
{
    return hash_bytes(&stream, sizeof stream, 0);
}

void checkpoints_init(struct checkpoints *c, struct mem *mem)
{
    *c = (struct checkpoints){.mem = mem};
    table_init(&c->entries, mem, MEM_STORE);
}

void checkpoints_deinit(struct checkpoints *c)
{
    uint32_t at = 0;
    struct checkpoints_entry *e;
    while ((e = table_each(&c->entries, &at)) != NULL) {
        text_deinit(&e->body);
        text_deinit(&e->parts);
        mem_free(c->mem, MEM_STORE, e, sizeof *e);
    }
    table_deinit(&c->entries);
}

static struct checkpoints_entry *find(const struct checkpoints *c, uint64_t stream)
{
    uint64_t hash = hash_of(stream);
    uint32_t at;
    struct checkpoints_entry *e = table_first(&c->entries, hash, &at);
    while (e != NULL && e->stream != stream) e = table_next(&c->entries, hash, &at);
    return e;
}

static struct checkpoints_entry *add(struct checkpoints *c, uint64_t stream)
{
    struct checkpoints_entry *e = mem_alloc_zero(c->mem, MEM_STORE, sizeof *e);
    if (e == NULL) return NULL;
    e->stream = stream;
    text_init(&e->body, c->mem, MEM_STORE, SIZE_MAX / 4);
    text_init(&e->parts, c->mem, MEM_STORE, SIZE_MAX / 4);
    if (table_insert(&c->entries, hash_of(stream), e) == ERR_OK) return e;
    mem_free(c->mem, MEM_STORE, e, sizeof *e);
    return NULL;
}

static void take_whole(struct checkpoints_entry *e, uint32_t incarnation, uint32_t log)
{
    struct text old = e->body;
    e->body = e->parts;
    e->parts = old;
    text_deinit(&e->parts);
    e->is_collecting = false;
    e->is_whole = true;
    e->incarnation = incarnation;
    e->log = log;
    e->group = e->part_group;
}

enum err checkpoints_take(struct checkpoints *c, const struct record *r, uint32_t incarnation,
                          uint32_t log)
{
    must(r->kind == RECORD_CHECKPOINT);
    struct checkpoints_entry *e = find(c, r->stream);
    if (e == NULL) e = add(c, r->stream);
    if (e == NULL) return ERR_MEMORY;
    if (e->is_gone) return ERR_OK;
    if (r->seq == 0) {
        text_clear(&e->parts);
        e->is_collecting = true;
        e->part_next = 0;
        e->part_group = r->prev_seq;
    }
    if (!e->is_collecting || r->seq != e->part_next || r->prev_seq != e->part_group) {
        e->is_collecting = false;
        return ERR_OK;
    }
    text_bytes(&e->parts, r->body);
    if (e->parts.is_failed) return ERR_MEMORY;
    e->part_next++;
    if ((r->flags & RECORD_LAST) != 0) take_whole(e, incarnation, log);
    return ERR_OK;
}

enum err checkpoints_end(struct checkpoints *c, uint64_t stream)
{
    struct checkpoints_entry *e = find(c, stream);
    if (e == NULL) e = add(c, stream);
    if (e == NULL) return ERR_MEMORY;
    text_deinit(&e->body);
    text_deinit(&e->parts);
    e->is_whole = e->is_collecting = false;
    e->is_gone = true;
    return ERR_OK;
}

bool checkpoints_is_gone(const struct checkpoints *c, uint64_t stream)
{
    const struct checkpoints_entry *e = find(c, stream);
    return e != NULL && e->is_gone;
}

bool checkpoints_contain(const struct checkpoints *c, uint64_t stream, uint32_t incarnation,
                         uint32_t log, uint64_t group)
{
    const struct checkpoints_entry *e = find(c, stream);
    if (e == NULL || !e->is_whole) return false;
    /* A stream lies in one log per incarnation. */
    if (incarnation != e->incarnation || log != e->log) return incarnation < e->incarnation;
    return group <= e->group;
}

struct checkpoints_entry *checkpoints_each(const struct checkpoints *c, uint32_t *at)
{
    struct checkpoints_entry *e;
    while ((e = table_each(&c->entries, at)) != NULL)
        if (e->is_whole) return e;
    return NULL;
}
