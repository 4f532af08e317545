#include "persist/checkpoints.h"
#include "core/base/must.h"

enum { BODY_BYTES_STEP = 64 }; /* room for a newer state that is a little larger */

void checkpoints_init(struct checkpoints *c, struct mem *mem)
{
    *c = (struct checkpoints){.mem = mem};
    table_init(&c->entries, mem, MEM_STORE);
    table_init(&c->gone, mem, MEM_STORE);
}

void checkpoints_deinit(struct checkpoints *c)
{
    struct checkpoints_entry *next;
    for (struct checkpoints_entry *e = c->first; e != NULL; e = next) {
        next = e->next;
        text_deinit(&e->body);
        text_deinit(&e->parts);
        mem_free(c->mem, MEM_STORE, e, sizeof *e);
    }
    table_deinit(&c->entries);
    table_deinit(&c->gone);
}

static struct checkpoints_entry *find(const struct checkpoints *c, uint64_t stream)
{
    uint32_t at;
    return table_first(&c->entries, hash_number(stream), &at);
}

static struct checkpoints_entry *add(struct checkpoints *c, uint64_t stream)
{
    struct checkpoints_entry *e = mem_alloc_zero(c->mem, MEM_STORE, sizeof *e);
    if (e == NULL) return NULL;
    e->stream = stream;
    text_init(&e->body, c->mem, MEM_STORE, SIZE_MAX / 4);
    text_init(&e->parts, c->mem, MEM_STORE, SIZE_MAX / 4);
    if (table_insert(&c->entries, hash_number(stream), e) == ERR_OK) {
        *(c->last == NULL ? &c->first : &c->last->next) = e;
        c->last = e;
        return e;
    }
    mem_free(c->mem, MEM_STORE, e, sizeof *e);
    return NULL;
}

static void became_whole(struct checkpoints_entry *e, uint32_t incarnation, uint32_t log,
                         uint64_t group)
{
    e->is_collecting = false;
    e->is_whole = true;
    e->incarnation = incarnation;
    e->log = log;
    e->group = group;
}

static void take_whole(struct checkpoints_entry *e, uint32_t incarnation, uint32_t log)
{
    struct text old = e->body;
    e->body = e->parts;
    e->parts = old;
    text_deinit(&e->parts);
    became_whole(e, incarnation, log, e->part_group);
}

/* Most streams are small: theirs takes the place of the one before, without a copy of either. */
static enum err take_only_part(struct checkpoints *c, struct checkpoints_entry *e,
                               const struct record *r, uint32_t incarnation, uint32_t log)
{
    size_t room = (r->body.len / BODY_BYTES_STEP + 1) * BODY_BYTES_STEP;
    text_deinit(&e->parts);
    text_clear(&e->body);
    if (e->body.capacity < r->body.len) {
        text_deinit(&e->body);
        e->body.data = mem_alloc(c->mem, MEM_STORE, room);
        if (e->body.data == NULL) return ERR_MEMORY;
        e->body.capacity = room;
    }
    text_bytes(&e->body, r->body);
    became_whole(e, incarnation, log, r->prev_seq);
    return ERR_OK;
}

enum err checkpoints_take(struct checkpoints *c, const struct record *r, uint32_t incarnation,
                          uint32_t log)
{
    must(r->kind == RECORD_CHECKPOINT);
    if (checkpoints_is_gone(c, r->stream)) return ERR_OK;
    struct checkpoints_entry *e = find(c, r->stream);
    if (e == NULL) e = add(c, r->stream);
    if (e == NULL) return ERR_MEMORY;
    if (r->seq == 0 && (r->flags & RECORD_LAST) != 0)
        return take_only_part(c, e, r, incarnation, log);
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
    if (e != NULL) {
        text_deinit(&e->body);
        text_deinit(&e->parts);
        e->is_whole = e->is_collecting = false;
    }
    if (checkpoints_is_gone(c, stream)) return ERR_OK;
    return table_insert(&c->gone, hash_number(stream), c);
}

bool checkpoints_is_gone(const struct checkpoints *c, uint64_t stream)
{
    uint32_t at;
    return c->gone.count > 0 && table_first(&c->gone, hash_number(stream), &at) != NULL;
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

struct checkpoints_entry *checkpoints_next(const struct checkpoints *c,
                                           const struct checkpoints_entry *e)
{
    struct checkpoints_entry *next = e == NULL ? c->first : e->next;
    while (next != NULL && !next->is_whole) next = next->next;
    return next;
}
