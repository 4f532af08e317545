/* The reading side of the interest index: from a literal subject to a route. */
#include "core/base/must.h"
#include "core/route/interest_account.h"
#include "core/route/interest_table.h"

enum {
    FOUND_NEAR = 32,                               /* nodes found without asking for memory */
    DEPTH_MAX = INTEREST_FILTER_BYTES_MAX / 2 + 2, /* of the trie: one byte and one dot a token */
};

/* A node found by a walk. The content is read once: what other shards do meanwhile must not make
 * the two passes over it differ. */
struct hit {
    uint64_t content;
    uint32_t group; /* node of the queue group, 0: plain */
    struct bytes queue;
};

struct found {
    struct mem *mem; /* NULL: the caller asks only whether there is anything */
    struct hit *hits;
    uint32_t count, room;
    uint32_t looked_to;
    bool is_last_free;
    enum err err;
    struct hit near[FOUND_NEAR];
};

static void found_init(struct found *f, struct mem *mem)
{
    f->mem = mem;
    f->hits = f->near;
    f->count = 0;
    f->room = FOUND_NEAR;
    f->looked_to = 0;
    f->is_last_free = true;
    f->err = ERR_OK;
}

static void found_deinit(struct found *f)
{
    if (f->hits != f->near) mem_free(f->mem, MEM_ROUTE, f->hits, f->room * sizeof *f->hits);
}

static void found_add(struct found *f, struct hit hit)
{
    if (f->mem == NULL) {
        f->count = 1;
        return;
    }
    if (f->count == f->room) {
        struct hit *more = mem_alloc(f->mem, MEM_ROUTE, 2 * f->room * sizeof *more);
        if (more == NULL) {
            f->err = ERR_MEMORY;
            return;
        }
        memcpy(more, f->hits, f->count * sizeof *more);
        found_deinit(f);
        f->hits = more;
        f->room *= 2;
    }
    f->hits[f->count++] = hit;
}

/* --- the walk ---------------------------------------------------------------------------- */

/* Takes down who subscribed exactly at this node, plain and in groups. */
static void visit(const struct interest_memory *m, uint32_t ref, struct found *f)
{
    const struct interest_node *n = interest_memory_node_at(m, ref);
    uint64_t content = atomic_load_explicit(&n->content, memory_order_acquire);
    if (content != 0) found_add(f, (struct hit){.content = content});
    uint32_t branch = atomic_load_explicit(&n->branch, memory_order_acquire);
    if (branch == 0) return;
    struct interest_table_each each;
    interest_table_each_init(&each, &interest_memory_branch_at(m, branch)->groups);
    for (uint32_t g; (g = interest_table_each_next(&each)) != 0;) {
        const struct interest_node *group = interest_memory_node_at(m, g);
        content = atomic_load_explicit(&group->content, memory_order_acquire);
        if (content == 0) continue; /* its last member just left */
        found_add(f, (struct hit){content, g, interest_token_of(group)});
    }
}

/* Depth first. Where both * and the token itself lead on, the * waits on a stack of one entry per
 * level of the trie; each node is visited at most once, so the work is bounded by the trie too. */
static void walk(const struct interest *x, const struct interest_account *a, struct bytes subject,
                 struct found *f)
{
    struct fork {
        uint32_t node;
        uint32_t at; /* offset of the next token; beyond the subject: none is left */
    } forks[DEPTH_MAX];
    const struct interest_memory *m = &x->memory;
    uint32_t fork_count = 0;
    struct fork here = {a->root, 0};
    if (subject_has_empty_token(subject)) {
        f->looked_to = (uint32_t)subject.len;
        f->is_last_free = false;
        return;
    }
    for (;;) {
        uint32_t literal = 0, star = 0, next = 0;
        if (here.at > subject.len) {
            visit(m, here.node, f);
        } else {
            const struct interest_node *n = interest_memory_node_at(m, here.node);
            uint32_t branch = atomic_load_explicit(&n->branch, memory_order_acquire);
            if (branch != 0) {
                const struct interest_branch *b = interest_memory_branch_at(m, branch);
                uint32_t rest = atomic_load_explicit(&b->rest, memory_order_acquire);
                if (rest != 0) visit(m, rest, f);
                uint32_t end = here.at;
                while (end < subject.len && subject.data[end] != '.') end++;
                next = end + 1;
                star = atomic_load_explicit(&b->star, memory_order_acquire);
                bool has_literals = atomic_load_explicit(&b->literals, memory_order_relaxed) != 0;
                if ((has_literals || star != 0) && here.at > f->looked_to) f->looked_to = here.at;
                if (has_literals && end == subject.len) f->is_last_free = false;
                if (has_literals) {
                    struct bytes token = bytes_of(subject.data + here.at, end - here.at);
                    literal = interest_table_find(
                        m, &b->literals, (uint32_t)interest_account_hash(a->seed, token), token);
                }
            }
        }
        if (literal != 0 && star != 0) {
            must(fork_count < DEPTH_MAX);
            forks[fork_count++] = (struct fork){star, next};
            star = 0;
        }
        if (literal != 0 || star != 0) {
            here = (struct fork){literal != 0 ? literal : star, next};
            continue;
        }
        if (fork_count == 0 || (f->mem == NULL && f->count > 0)) return;
        here = forks[--fork_count];
    }
}

bool interest_exists(struct interest *x, struct interest_account *a, struct bytes subject)
{
    struct found f;
    found_init(&f, NULL);
    walk(x, a, subject, &f);
    return f.count > 0;
}

/* 0: none. */
static uint32_t child_of(const struct interest *x, const struct interest_account *a, uint32_t node,
                         struct bytes token, bool is_group)
{
    const struct interest_memory *m = &x->memory;
    const struct interest_node *n = interest_memory_node_at(m, node);
    uint32_t branch = atomic_load_explicit(&n->branch, memory_order_acquire);
    if (branch == 0) return 0;
    const struct interest_branch *b = interest_memory_branch_at(m, branch);
    return interest_table_find(m, is_group ? &b->groups : &b->literals,
                               (uint32_t)interest_account_hash(a->seed, token), token);
}

bool interest_has(const struct interest *x, const struct interest_account *a, struct bytes filter,
                  struct bytes queue)
{
    uint32_t node = a->root;
    if (subject_has_empty_token(filter)) return false;
    for (size_t at = 0; at <= filter.len && node != 0;) {
        size_t end = at;
        while (end < filter.len && filter.data[end] != '.') end++;
        node = child_of(x, a, node, bytes_of(filter.data + at, end - at), false);
        at = end + 1;
    }
    if (node != 0 && queue.len > 0) node = child_of(x, a, node, queue, true);
    if (node == 0) return false;
    const struct interest_node *n = interest_memory_node_at(&x->memory, node);
    return atomic_load_explicit(&n->content, memory_order_acquire) != 0;
}

/* --- building the route ------------------------------------------------------------------ */

/* By queue name, plain ones (no name) first; the node breaks the tie, so that one that the walk met
 * twice stands beside itself. */
static int hit_compare(const struct hit *a, const struct hit *b)
{
    int order = bytes_compare(a->queue, b->queue);
    if (order != 0) return order;
    return a->group < b->group ? -1 : a->group > b->group;
}

static void hit_swap(struct hit *a, struct hit *b)
{
    struct hit kept = *a;
    *a = *b;
    *b = kept;
}

static void sift(struct hit *hits, uint32_t root, uint32_t size)
{
    for (uint32_t child; (child = 2 * root + 1) < size; root = child) {
        if (child + 1 < size && hit_compare(&hits[child], &hits[child + 1]) < 0) child++;
        if (hit_compare(&hits[root], &hits[child]) >= 0) return;
        hit_swap(&hits[root], &hits[child]);
    }
}

/* Heap sort: no memory, and no bad case for a client to find. */
static void found_sort(struct found *f)
{
    for (uint32_t i = f->count / 2; i > 0; i--) sift(f->hits, i - 1, f->count);
    for (uint32_t end = f->count; end > 1; end--) {
        hit_swap(&f->hits[0], &f->hits[end - 1]);
        sift(f->hits, 0, end - 1);
    }
}

/* This shard's part of a hit: how many subs, and the first. Stable: only this thread changes it. */
static uint32_t local_part(const struct hit *h, uint32_t shard, uint32_t *first)
{
    if (interest_is_near(h->content)) {
        *first = interest_near_first(h->content);
        return interest_near_shard(h->content) == shard ? interest_near_count(h->content) : 0;
    }
    const struct interest_lists *l = interest_far(h->content);
    *first = l->of[shard].first;
    return atomic_load_explicit(&l->of[shard].count, memory_order_relaxed);
}

/* Oldest first: the list has the youngest in front. */
static void copy_list(const struct sub_pool *subs, uint32_t first, uint32_t size, struct sub **out)
{
    while (size > 0) {
        struct sub *s = sub_at(subs, first);
        out[--size] = s;
        first = s->next;
    }
    must(first == 0);
}

static uint64_t marks_of(const struct hit *h)
{
    if (interest_is_near(h->content)) return (uint64_t)1 << interest_near_shard(h->content);
    return atomic_load_explicit(&interest_far(h->content)->marks, memory_order_acquire);
}

static void add_members(const struct hit *h, uint32_t shard_count, uint32_t *by_shard)
{
    if (interest_is_near(h->content)) {
        by_shard[interest_near_shard(h->content)] += interest_near_count(h->content);
        return;
    }
    const struct interest_lists *l = interest_far(h->content);
    for (uint32_t s = 0; s < shard_count; s++)
        by_shard[s] += atomic_load_explicit(&l->of[s].count, memory_order_acquire);
}

/* What a route needs room for, and where its parts are once it is allocated. */
struct layout {
    uint32_t subs, groups, plain_hits;
    uint64_t names;
    struct route_group *group_at;
    struct sub **sub_at;
    uint32_t *count_at;
    char *name_at;
};

/* Is hit i the first of a queue group? (Sorted.) */
static bool opens_group(const struct found *f, uint32_t i)
{
    return f->hits[i].group != 0 && (i == 0 || f->hits[i - 1].group == 0 ||
                                     !bytes_equal(f->hits[i].queue, f->hits[i - 1].queue));
}

/* Drops hits that came twice and adds up the rest. */
static enum err measure(struct found *f, uint32_t shard, struct layout *l)
{
    uint32_t kept = 0;
    uint64_t subs = 0;
    *l = (struct layout){0};
    for (uint32_t i = 0; i < f->count; i++) {
        const struct hit *h = &f->hits[i];
        if (h->group != 0 && kept > 0 && f->hits[kept - 1].group == h->group) continue;
        f->hits[kept++] = *h;
    }
    f->count = kept;
    for (uint32_t i = 0; i < kept; i++) {
        uint32_t first;
        subs += local_part(&f->hits[i], shard, &first);
        if (f->hits[i].group == 0) l->plain_hits++;
        if (!opens_group(f, i)) continue;
        l->groups++;
        l->names += f->hits[i].queue.len;
    }
    if (subs > UINT32_MAX) return ERR_MEMORY;
    l->subs = (uint32_t)subs;
    return ERR_OK;
}

static enum err route_make(struct mem *mem, uint32_t shard, uint32_t shard_count, struct layout *l,
                           struct route **out)
{
    size_t groups = sizeof(struct route), subs = groups + l->groups * sizeof(struct route_group),
           counts = subs + l->subs * sizeof(struct sub *),
           names = counts + (size_t)l->groups * shard_count * sizeof(uint32_t),
           bytes = names + l->names;
    if (bytes > UINT32_MAX) return ERR_MEMORY;
    char *p = mem_alloc(mem, MEM_ROUTE, bytes);
    if (p == NULL) return ERR_MEMORY;
    l->group_at = (struct route_group *)(void *)(p + groups);
    l->sub_at = (struct sub **)(void *)(p + subs);
    l->count_at = (uint32_t *)(void *)(p + counts);
    l->name_at = p + names;
    struct route *r = (struct route *)(void *)p;
    *r = (struct route){
        .bytes = (uint32_t)bytes, .shard = shard, .subs = l->sub_at, .groups = l->group_at};
    *out = r;
    return ERR_OK;
}

/* One queue group: hits [from, to) of the same name. A group that everybody left between the walk
 * and now is left out. */
static void fill_group(const struct interest_memory *m, const struct found *f, uint32_t from,
                       uint32_t to, struct route *r, struct layout *l)
{
    const struct sub_pool *subs = m->seats[r->shard].subs;
    uint32_t *by_shard = l->count_at, local = 0, members = 0;
    memset(by_shard, 0, m->shard_count * sizeof *by_shard);
    uint32_t local_first = (uint32_t)(l->sub_at - r->subs);
    for (uint32_t i = from; i < to; i++) {
        uint32_t first, size = local_part(&f->hits[i], r->shard, &first);
        add_members(&f->hits[i], m->shard_count, by_shard);
        if (size > 0) copy_list(subs, first, size, l->sub_at);
        l->sub_at += size;
        local += size;
    }
    must(by_shard[r->shard] == local);
    for (uint32_t s = 0; s < m->shard_count; s++) members += by_shard[s];
    if (members == 0) return;
    struct bytes queue = f->hits[from].queue;
    if (queue.len > 0) memcpy(l->name_at, queue.data, queue.len);
    l->group_at[r->group_count++] = (struct route_group){
        .queue = bytes_of(l->name_at, queue.len),
        .members = members,
        .local_first = local_first,
        .local_count = local,
        .by_shard = by_shard,
    };
    l->count_at += m->shard_count;
    l->name_at += queue.len;
}

static void fill(const struct interest_memory *m, const struct found *f, struct route *r,
                 struct layout *l)
{
    const struct sub_pool *subs = m->seats[r->shard].subs;
    for (uint32_t i = 0; i < l->plain_hits; i++) {
        uint32_t first, size = local_part(&f->hits[i], r->shard, &first);
        if (size > 0) copy_list(subs, first, size, l->sub_at);
        l->sub_at += size;
        r->remote_plain |= marks_of(&f->hits[i]);
    }
    r->remote_plain &= ~((uint64_t)1 << r->shard);
    r->plain_count = (uint32_t)(l->sub_at - r->subs);
    for (uint32_t from = l->plain_hits, to; from < f->count; from = to) {
        to = from + 1;
        while (to < f->count && !opens_group(f, to)) to++;
        fill_group(m, f, from, to, r, l);
    }
    must((uint32_t)(l->sub_at - r->subs) == l->subs);
}

static void count_match(struct interest_seat *seat, const struct route *r)
{
    uint64_t matches = atomic_load_explicit(&seat->matches, memory_order_relaxed);
    atomic_store_explicit(&seat->matches, matches + 1, memory_order_relaxed);
    uint32_t fanout = r->plain_count;
    for (uint32_t i = 0; i < r->group_count; i++) fanout += r->groups[i].members;
    if (fanout > atomic_load_explicit(&seat->fanout_max, memory_order_relaxed))
        atomic_store_explicit(&seat->fanout_max, fanout, memory_order_relaxed);
}

enum err interest_resolve(struct interest *x, struct interest_account *a, uint32_t shard,
                          struct mem *mem, struct bytes subject, struct route **out)
{
    struct interest_memory *m = &x->memory;
    must(shard < m->shard_count);
    must(atomic_load_explicit(&m->seats[shard].epoch, memory_order_relaxed) != 0);
    struct found f;
    struct layout l;
    struct route *r;
    found_init(&f, mem);
    /* Before the walk: a change that comes after this makes the route stale, whether the walk
     * happens to see it or not. */
    uint64_t generation = interest_generation(a, subject);
    walk(x, a, subject, &f);
#ifdef MILLRACE_BREAK_GENERATION_AFTER_WALK
    generation = interest_generation(a, subject);
#endif
    enum err e = f.err;
    if (e != ERR_OK) goto done;
    if (f.count > 1) found_sort(&f);
    e = measure(&f, shard, &l);
    if (e != ERR_OK) goto done;
    e = route_make(mem, shard, m->shard_count, &l, &r);
    if (e != ERR_OK) goto done;
    r->generation = generation;
    r->looked_to = f.looked_to;
    r->is_last_free = f.is_last_free;
    fill(m, &f, r, &l);
    count_match(&m->seats[shard], r);
    *out = r;
done:
    found_deinit(&f);
    return e;
}

void route_free(struct mem *mem, struct route *r)
{
    if (r != NULL) mem_free(mem, MEM_ROUTE, r, r->bytes);
}
