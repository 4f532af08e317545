#include "core/js/overlap.h"
#include <stdbool.h>
#include "core/base/must.h"
#include "core/route/subject.h"

struct overlap_count {
    uint64_t hash;
    uint32_t count;
};

void overlap_init(struct overlap *o, struct mem *mem, uint64_t seed)
{
    *o = (struct overlap){.mem = mem, .seed = seed};
    table_init(&o->claims, mem, MEM_JETSTREAM);
    table_init(&o->longer, mem, MEM_JETSTREAM);
}

void overlap_deinit(struct overlap *o)
{
    must(o->claims.count == 0);
    must(o->longer.count == 0);
    table_deinit(&o->claims);
    table_deinit(&o->longer);
}

static uint64_t hash_of(const struct overlap *o, uint32_t account, struct bytes tokens)
{
    return hash_bytes(tokens.data, tokens.len, o->seed + account);
}

static struct bytes filter_of(const struct overlap_claim *c)
{
    return bytes_of(c->filter, c->filter_bytes);
}

/* Steps through the runs of literal tokens that a filter begins with, from none on. */
struct runs {
    struct subject_walk walk;
    struct bytes filter;
    size_t bytes; /* of the present run */
    bool is_literal;
};

static void runs_init(struct runs *r, struct bytes filter)
{
    *r = (struct runs){.filter = filter, .is_literal = true};
    subject_walk_init(&r->walk, filter);
}

/* False: the present run is the longest. */
static bool runs_next(struct runs *r)
{
    struct bytes token;
    if (!r->is_literal || !subject_walk_next(&r->walk, &token)) return false;
    r->is_literal = !subject_token_is_star(token) && !subject_token_is_rest(token);
    if (!r->is_literal) return false;
    r->bytes = (size_t)(token.data + token.len - r->filter.data);
    return true;
}

static struct overlap_count *find_count(const struct overlap *o, uint64_t hash)
{
    uint32_t at;
    return table_first(&o->longer, hash, &at); /* equal hashes are counted together: harmless */
}

static enum err count_up(struct overlap *o, uint64_t hash)
{
    struct overlap_count *n = find_count(o, hash);
    if (n == NULL) {
        n = mem_alloc(o->mem, MEM_JETSTREAM, sizeof *n);
        if (n == NULL) return ERR_MEMORY;
        *n = (struct overlap_count){.hash = hash};
        enum err e = table_insert(&o->longer, hash, n);
        if (e != ERR_OK) {
            mem_free(o->mem, MEM_JETSTREAM, n, sizeof *n);
            return e;
        }
    }
    n->count++;
    return ERR_OK;
}

static void count_down(struct overlap *o, uint64_t hash)
{
    struct overlap_count *n = find_count(o, hash);
    must(n != NULL);
    if (--n->count > 0) return;
    must(table_remove(&o->longer, hash, n) == ERR_OK);
    mem_free(o->mem, MEM_JETSTREAM, n, sizeof *n);
}

/* Takes back the counts of so many runs, the shortest ones. (Empty tokens make some equally long.)
 */
static void uncount(struct overlap *o, uint32_t account, struct bytes filter, uint32_t runs)
{
    struct runs r;
    runs_init(&r, filter);
    for (; runs > 0; runs--) {
        count_down(o, hash_of(o, account, bytes_of(filter.data, r.bytes)));
        (void)runs_next(&r);
    }
}

enum err overlap_claim(struct overlap *o, uint32_t account, struct bytes filter, const void *owner,
                       struct overlap_claim **claim)
{
    struct runs r;
    struct overlap_claim *c = mem_alloc(o->mem, MEM_JETSTREAM, sizeof *c + filter.len);
    if (c == NULL) return ERR_MEMORY;
    *c = (struct overlap_claim){
        .account = account, .filter_bytes = (uint32_t)filter.len, .owner = owner};
    memcpy(c->filter, filter.data, filter.len);
    enum err e = ERR_OK;
    size_t before = 0;
    runs_init(&r, filter);
    while (before = r.bytes, runs_next(&r)) {
        e = count_up(o, hash_of(o, account, bytes_of(filter.data, before)));
        if (e != ERR_OK) goto uncount;
        c->runs++;
    }
    c->prefix_bytes = (uint32_t)r.bytes;
    e = table_insert(&o->claims, hash_of(o, account, bytes_of(filter.data, r.bytes)), c);
    if (e != ERR_OK) goto uncount;
    *claim = c;
    return ERR_OK;

uncount:
    uncount(o, account, filter, c->runs);
    mem_free(o->mem, MEM_JETSTREAM, c, sizeof *c + filter.len);
    return e;
}

void overlap_release(struct overlap *o, struct overlap_claim *c)
{
    struct bytes prefix = bytes_of(c->filter, c->prefix_bytes);
    must(table_remove(&o->claims, hash_of(o, c->account, prefix), c) == ERR_OK);
    uncount(o, c->account, filter_of(c), c->runs);
    mem_free(o->mem, MEM_JETSTREAM, c, sizeof *c + c->filter_bytes);
}

/* Who asks, and which owners count. */
struct asker {
    uint32_t account;
    struct bytes filter;
    overlap_counts_fn *counts;
    const void *context;
};

static bool is_hit(const struct overlap_claim *c, const struct asker *a)
{
    return c->account == a->account && a->counts(a->context, c->owner) &&
           subject_collides(filter_of(c), a->filter);
}

static bool is_other(const void *context, const void *owner)
{
    return context != owner;
}

bool overlap_meets(const struct overlap *o, uint32_t account, struct bytes filter,
                   const void *owner)
{
    return overlap_meets_any(o, account, filter, is_other, owner);
}

bool overlap_meets_any(const struct overlap *o, uint32_t account, struct bytes filter,
                       overlap_counts_fn *counts, const void *context)
{
    struct asker a = {account, filter, counts, context};
    struct runs r;
    uint32_t at;
    const struct overlap_claim *c;
    uint64_t hash;
    runs_init(&r, filter);
    do {
        hash = hash_of(o, account, bytes_of(filter.data, r.bytes));
        for (c = table_first(&o->claims, hash, &at); c != NULL;
             c = table_next(&o->claims, hash, &at))
            if (is_hit(c, &a)) return true;
    } while (runs_next(&r));
    if (r.is_literal || find_count(o, hash) == NULL) return false;
    at = 0;
    while ((c = table_each(&o->claims, &at)) != NULL)
        if (is_hit(c, &a)) return true;
    return false;
}

/* --- a list ---------------------------------------------------------------------------------- */

enum err overlap_list_open(struct overlap_list *l, struct mem *mem, const struct bytes *items,
                           uint32_t count)
{
    *l = (struct overlap_list){.room = count};
    overlap_init(&l->overlap, mem, 0);
    if (count == 0) return ERR_OK;
    l->claims = mem_alloc(mem, MEM_JETSTREAM, count * sizeof(struct overlap_claim *));
    if (l->claims == NULL) return ERR_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        enum err e = overlap_claim(&l->overlap, 0, items[i], &items[i], &l->claims[l->count]);
        if (e != ERR_OK) {
            overlap_list_close(l);
            return e;
        }
        l->count++;
    }
    return ERR_OK;
}

void overlap_list_close(struct overlap_list *l)
{
    for (uint32_t i = 0; i < l->count; i++) overlap_release(&l->overlap, l->claims[i]);
    mem_free(l->overlap.mem, MEM_JETSTREAM, l->claims, l->room * sizeof(struct overlap_claim *));
    overlap_deinit(&l->overlap);
}
