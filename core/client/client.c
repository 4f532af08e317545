#include "core/client/client.h"
#include "core/base/must.h"
#include "core/base/table.h"

enum { SIDS_FIRST = 8 };

/* Head of the chain of a sid. Seeded: a client that could make its sids collide would hold its
 * shard for a walk over all of them at each SUB. A chain that is not in use yet shares with the one
 * half the table before it. */
static uint32_t *sid_chain(const struct client *c, struct bytes sid)
{
    uint32_t at = (uint32_t)hash_bytes(sid.data, sid.len, c->sid_seed) & c->sid_mask;
    return &c->sids[at < c->sid_chains ? at : at & (c->sid_mask >> 1)];
}

uint32_t client_find_sid(const struct client *c, const struct sub_pool *subs, struct bytes sid)
{
    if (c->sids == NULL) return 0;
    uint32_t index = *sid_chain(c, sid);
    while (index != 0) {
        const struct sub *s = sub_at(subs, index);
        if (bytes_equal(sub_sid(s), sid)) return index;
        index = s->sid_next;
    }
    return 0;
}

static void link_sid(struct client *c, const struct sub_pool *subs, uint32_t index)
{
    struct sub *s = sub_at(subs, index);
    uint32_t *head = sid_chain(c, sub_sid(s));
    s->sid_next = *head;
    *head = index;
}

/* Twice the room for heads, which are only copied. */
static enum err grow_sids(struct client *c, struct mem *mem)
{
    uint32_t old_count = c->sids == NULL ? 0 : c->sid_mask + 1;
    uint32_t count = old_count == 0 ? SIDS_FIRST : old_count * 2;
    uint32_t *sids = mem_alloc_zero(mem, MEM_CONNECTION, count * sizeof *sids);
    if (sids == NULL) return ERR_MEMORY;
    if (old_count > 0) memcpy(sids, c->sids, old_count * sizeof *sids);
    if (old_count == 0) c->sid_chains = SIDS_FIRST;
    mem_free(mem, MEM_CONNECTION, c->sids, old_count * sizeof *c->sids);
    c->sids = sids;
    c->sid_mask = count - 1;
    return ERR_OK;
}

/* Takes the next chain into use and gives it what is its own of the one that it shared. All at once
 * would be a walk over every subscription: a tenth of a second for half a million. */
static void split_chain(struct client *c, const struct sub_pool *subs)
{
    uint32_t *head = &c->sids[c->sid_chains & (c->sid_mask >> 1)];
    uint32_t index = *head;
    *head = 0;
    c->sid_chains++;
    while (index != 0) {
        uint32_t next = sub_at(subs, index)->sid_next;
        link_sid(c, subs, index);
        index = next;
    }
}

enum err client_add_sid(struct client *c, struct mem *mem, const struct sub_pool *subs,
                        uint32_t index)
{
    if (c->sids == NULL || c->sub_count >= c->sid_chains) {
        bool is_full = c->sids == NULL || c->sid_chains > c->sid_mask;
        if (is_full && grow_sids(c, mem) != ERR_OK) return ERR_MEMORY;
        if (c->sub_count >= c->sid_chains) split_chain(c, subs);
    }
    link_sid(c, subs, index);
    c->sub_count++;
    return ERR_OK;
}

void client_remove_sid(struct client *c, const struct sub_pool *subs, uint32_t index)
{
    struct sub *s = sub_at(subs, index);
    uint32_t *at = sid_chain(c, sub_sid(s));
    while (*at != index) {
        must(*at != 0);
        at = &sub_at(subs, *at)->sid_next;
    }
    *at = s->sid_next;
    s->sid_next = 0;
    c->sub_count--;
}

uint32_t client_any_sid(const struct client *c, uint32_t *bucket)
{
    if (c->sids == NULL) return 0;
    for (; *bucket <= c->sid_mask; (*bucket)++)
        if (c->sids[*bucket] != 0) return c->sids[*bucket];
    return 0;
}

void client_free_sids(struct client *c, struct mem *mem)
{
    must(c->sub_count == 0);
    if (c->sids != NULL)
        mem_free(mem, MEM_CONNECTION, c->sids, (c->sid_mask + 1u) * sizeof *c->sids);
    c->sids = NULL;
    c->sid_mask = c->sid_chains = 0;
}

enum err client_set_text(struct mem *mem, struct bytes *text, struct bytes value)
{
    char *copy = NULL;
    enum err e = ERR_OK;
    if (value.len > 0) {
        copy = mem_alloc(mem, MEM_CONNECTION, value.len);
        if (copy == NULL) e = ERR_MEMORY;
    }
    mem_free(mem, MEM_CONNECTION, (void *)text->data, text->len);
    *text = bytes_of(copy, copy == NULL ? 0 : value.len);
    if (copy != NULL) memcpy(copy, value.data, value.len);
    return e;
}
