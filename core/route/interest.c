#include "core/route/interest.h"
#include "core/base/must.h"
#include "core/route/interest_account.h"
#include "core/route/interest_table.h"

_Static_assert(INTEREST_SHARDS_MAX == 1 << INTEREST_SHARD_BITS, "a shard fits the near form");
_Static_assert((int)INTEREST_FILTER_BYTES_MAX < 1 << INTEREST_TOKEN_BITS, "a token fits a node");
_Static_assert((INTEREST_BUCKETS & (INTEREST_BUCKETS - 1)) == 0, "buckets are picked by mask");

/* --- the index and its accounts ---------------------------------------------------------- */

/* The port aligns to 16 bytes; what shards share wants lines of its own. */
static void *aligned(void *allocation)
{
    uintptr_t at = (uintptr_t)allocation + INTEREST_LINE - 1;
    return (void *)(at & ~(uintptr_t)(INTEREST_LINE - 1));
}

enum err interest_open(struct mem *mem, uint32_t shard_count, uint64_t seed, struct interest **out)
{
    void *allocation = mem_alloc_zero(mem, MEM_INTEREST, sizeof(struct interest) + INTEREST_LINE);
    if (allocation == NULL) return ERR_MEMORY;
    struct interest *x = aligned(allocation);
    x->seed = seed;
    x->allocation = allocation;
    interest_memory_init(&x->memory, mem, shard_count);
    *out = x;
    return ERR_OK;
}

uint64_t interest_seed(const struct interest *x)
{
    return x->seed;
}

static void account_close(struct interest *x, struct interest_account *a)
{
    struct interest_memory *m = &x->memory;
    must(atomic_load(&a->subscriptions) == 0 && atomic_load(&a->nodes) == 0);
    must(atomic_load(&interest_memory_node_at(m, a->root)->branch) == 0);
    interest_memory_arena_deinit(m, &a->arena);
    mem_free(m->mem, MEM_INTEREST, a->allocation, sizeof *a + INTEREST_LINE);
}

void interest_close(struct interest *x)
{
    struct mem *mem = x->memory.mem;
    for (uint32_t s = 0; s < x->memory.shard_count; s++)
        must(atomic_load(&x->memory.seats[s].epoch) == 0);
    for (uint32_t p = 0; p < INTEREST_ACCOUNT_PAGES; p++) {
        _Atomic(struct interest_account *) *page = atomic_load(&x->accounts[p]);
        if (page == NULL) continue;
        for (uint32_t i = 0; i < 1u << INTEREST_ACCOUNT_SHIFT; i++) {
            struct interest_account *a = atomic_load(&page[i]);
            if (a != NULL) account_close(x, a);
        }
        mem_free(mem, MEM_INTEREST, (void *)page, sizeof *page << INTEREST_ACCOUNT_SHIFT);
    }
    if (x->spare != NULL)
        mem_free(mem, MEM_INTEREST, x->spare->allocation, sizeof *x->spare + INTEREST_LINE);
    interest_memory_deinit(&x->memory);
    mem_free(mem, MEM_INTEREST, x->allocation, sizeof *x + INTEREST_LINE);
}

void interest_attach(struct interest *x, uint32_t shard, struct sub_pool *subs)
{
    must(shard < x->memory.shard_count);
    x->memory.seats[shard].subs = subs;
}

static bool try_lock(_Atomic uint32_t *lock)
{
    return atomic_load_explicit(lock, memory_order_relaxed) == 0 &&
           atomic_exchange_explicit(lock, 1, memory_order_acquire) == 0;
}

static void unlock(_Atomic uint32_t *lock)
{
    atomic_store_explicit(lock, 0, memory_order_release);
}

static struct interest_account *account_find(const struct interest *x, uint32_t account)
{
    uint32_t page_index = account >> INTEREST_ACCOUNT_SHIFT;
    if (page_index >= INTEREST_ACCOUNT_PAGES) return NULL;
    _Atomic(struct interest_account *) *page =
        atomic_load_explicit(&x->accounts[page_index], memory_order_acquire);
    if (page == NULL) return NULL;
    return atomic_load_explicit(&page[account & ((1u << INTEREST_ACCOUNT_SHIFT) - 1)],
                                memory_order_acquire);
}

/* Under accounts_locked, so that two shards do not make it twice. A failure half way leaves what
 * was allocated to the next attempt. */
static enum err account_make(struct interest *x, uint32_t account)
{
    enum err e;
    void *p;
    _Atomic(_Atomic(struct interest_account *) *) *entry =
        &x->accounts[account >> INTEREST_ACCOUNT_SHIFT];
    _Atomic(struct interest_account *) *page = atomic_load(entry);
    if (page == NULL) {
        e = interest_memory_alloc(&x->memory, sizeof *page << INTEREST_ACCOUNT_SHIFT, &p);
        if (e != ERR_OK) return e;
        page = p;
        atomic_store_explicit(entry, page, memory_order_release);
    }
    if (x->spare == NULL) {
        e = interest_memory_alloc(&x->memory, sizeof *x->spare + INTEREST_LINE, &p);
        if (e != ERR_OK) return e;
        x->spare = aligned(p);
        x->spare->allocation = p;
        x->spare->seed = x->seed;
        interest_memory_arena_init(&x->spare->arena);
    }
    e = interest_memory_node(&x->memory, &x->spare->arena, INTEREST_LITERAL, bytes_of(NULL, 0),
                             &x->spare->root);
    if (e != ERR_OK) return e;
    atomic_store_explicit(&page[account & ((1u << INTEREST_ACCOUNT_SHIFT) - 1)], x->spare,
                          memory_order_release);
    x->spare = NULL;
    return ERR_OK;
}

enum err interest_account_of(struct interest *x, uint32_t account, struct interest_account **out)
{
    if (account >> INTEREST_ACCOUNT_SHIFT >= INTEREST_ACCOUNT_PAGES) return ERR_RANGE;
    struct interest_account *a = account_find(x, account);
    if (a == NULL) {
        if (!try_lock(&x->accounts_locked)) return ERR_BUSY;
        enum err e = account_find(x, account) != NULL ? ERR_OK : account_make(x, account);
        unlock(&x->accounts_locked);
        if (e != ERR_OK) return e;
        a = account_find(x, account);
    }
    *out = a;
    return ERR_OK;
}

/* --- generations and epochs -------------------------------------------------------------- */

/* Counters have one writer at a time, so a locked read-modify-write is not needed. */
static void count(_Atomic uint64_t *counter, int64_t by)
{
    uint64_t now = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, now + (uint64_t)by, memory_order_relaxed);
}

/* After the structure changed. The release pairs with the acquire in interest_generation_at: who
 * samples the new value before a walk sees the change in that walk. */
static void bump(struct interest_account *a, enum interest_kind kind, struct bytes first_token)
{
    _Atomic uint64_t *cell = &a->all;
    if (kind == INTEREST_LITERAL)
        cell = &a->buckets[interest_account_bucket(interest_account_hash(a->seed, first_token))];
    uint64_t now = atomic_load_explicit(cell, memory_order_relaxed);
    atomic_store_explicit(cell, now + 1, memory_order_release);
}

void interest_watch(struct interest_account *a, uint32_t shard, bool is_on)
{
    /* seq_cst, as the fence below: pairs with it (store, then load, on both sides). */
    if (is_on)
        atomic_fetch_or(&a->watchers, UINT64_C(1) << shard);
    else
        atomic_fetch_and(&a->watchers, ~(UINT64_C(1) << shard));
    atomic_thread_fence(memory_order_seq_cst);
}

uint64_t interest_watchers(const struct interest_account *a)
{
    atomic_thread_fence(memory_order_seq_cst);
    return atomic_load_explicit(&a->watchers, memory_order_relaxed);
}

uint32_t interest_bucket(const struct interest *x, struct bytes subject)
{
    struct bytes first = bytes_of(subject.data, bytes_find(subject, '.'));
    return interest_account_bucket(interest_account_hash(x->seed, first));
}

uint64_t interest_generation_at(const struct interest_account *a, uint32_t bucket)
{
    return atomic_load_explicit(&a->buckets[bucket], memory_order_acquire) +
           atomic_load_explicit(&a->all, memory_order_acquire);
}

uint64_t interest_generation(const struct interest_account *a, struct bytes subject)
{
    struct bytes first = bytes_of(subject.data, bytes_find(subject, '.'));
    return interest_generation_at(a,
                                  interest_account_bucket(interest_account_hash(a->seed, first)));
}

/* Gives retired memory of the account that this shard wrote last back, if nobody writes there
 * now. Otherwise it stays for the next turn, or for the account's next writer. */
static void reclaim(struct interest *x, uint32_t shard)
{
    struct interest_seat *seat = &x->memory.seats[shard];
    struct interest_account *a = seat->to_reclaim;
    if (a == NULL || !try_lock(&a->is_locked)) return;
    if (interest_memory_reclaim(&x->memory, &a->arena)) seat->to_reclaim = NULL;
    unlock(&a->is_locked);
}

void interest_online(struct interest *x, uint32_t shard)
{
    interest_memory_online(&x->memory, shard);
}

void interest_offline(struct interest *x, uint32_t shard)
{
    interest_memory_offline(&x->memory, shard);
    reclaim(x, shard);
}

void interest_quiesce(struct interest *x, uint32_t shard)
{
    must(atomic_load_explicit(&x->memory.seats[shard].epoch, memory_order_relaxed) != 0);
    interest_memory_quiesce(&x->memory, shard);
    reclaim(x, shard);
    if (x->memory.seats[shard].subs != NULL) sub_pool_trim(x->memory.seats[shard].subs);
}

/* --- edges of the trie ------------------------------------------------------------------- */

/* The way to a filter: its tokens, then its queue group. */
struct edge {
    enum interest_kind kind;
    struct bytes token;
    uint32_t hash;
};

struct path {
    struct subject_walk tokens;
    struct bytes queue;
    uint64_t seed;
};

static void path_init(struct path *p, uint64_t seed, struct bytes filter, struct bytes queue)
{
    subject_walk_init(&p->tokens, filter);
    p->queue = queue;
    p->seed = seed;
}

static enum interest_kind kind_of(struct bytes token)
{
    return subject_token_is_star(token)   ? INTEREST_STAR
           : subject_token_is_rest(token) ? INTEREST_REST
                                          : INTEREST_LITERAL;
}

static bool path_next(struct path *p, struct edge *e)
{
    if (subject_walk_next(&p->tokens, &e->token)) {
        e->kind = kind_of(e->token);
    } else {
        if (p->queue.len == 0) return false;
        e->kind = INTEREST_GROUP;
        e->token = p->queue;
        p->queue.len = 0;
    }
    e->hash = (uint32_t)interest_account_hash(p->seed, e->token);
    return true;
}

static uint32_t child_find(const struct interest_memory *m, uint32_t parent, const struct edge *e)
{
    uint32_t ref = atomic_load(&interest_memory_node_at(m, parent)->branch);
    if (ref == 0) return 0;
    const struct interest_branch *b = interest_memory_branch_at(m, ref);
    if (e->kind == INTEREST_STAR) return atomic_load(&b->star);
    if (e->kind == INTEREST_REST) return atomic_load(&b->rest);
    return interest_table_find(m, e->kind == INTEREST_GROUP ? &b->groups : &b->literals, e->hash,
                               e->token);
}

static enum err branch_add(struct interest_memory *m, struct interest_arena *arena,
                           struct interest_branch *b, const struct edge *e, uint32_t child)
{
    if (e->kind == INTEREST_STAR || e->kind == INTEREST_REST) {
        atomic_store_explicit(e->kind == INTEREST_STAR ? &b->star : &b->rest, child,
                              memory_order_release);
        return ERR_OK;
    }
    return interest_table_insert(m, arena, e->kind == INTEREST_GROUP ? &b->groups : &b->literals,
                                 e->hash, child);
}

/* Hangs child below parent: one store makes it and all below it visible. */
static enum err child_add(struct interest_memory *m, struct interest_arena *arena, uint32_t parent,
                          const struct edge *e, uint32_t child)
{
    struct interest_node *p = interest_memory_node_at(m, parent);
    uint32_t branch = atomic_load(&p->branch);
    if (branch != 0)
        return branch_add(m, arena, interest_memory_branch_at(m, branch), e, child);
    enum err err = interest_memory_branch(m, arena, &branch);
    if (err != ERR_OK) return err;
    err = branch_add(m, arena, interest_memory_branch_at(m, branch), e, child);
    if (err != ERR_OK) {
        interest_memory_free_branch(m, arena, branch);
        return err;
    }
    atomic_store_explicit(&p->branch, branch, memory_order_release);
    return ERR_OK;
}

/* Unlinks node from its parent, and the parent's branch when that was its last child. */
static void child_remove(struct interest_memory *m, struct interest_account *a, uint32_t ref)
{
    const struct interest_node *n = interest_memory_node_at(m, ref);
    struct interest_node *p = interest_memory_node_at(m, n->parent);
    uint32_t branch = atomic_load(&p->branch);
    struct interest_branch *b = interest_memory_branch_at(m, branch);
    enum interest_kind kind = interest_kind_of(n);
    if (kind == INTEREST_STAR || kind == INTEREST_REST)
        atomic_store_explicit(kind == INTEREST_STAR ? &b->star : &b->rest, 0,
                              memory_order_release);
    else
        interest_table_remove(m, &a->arena, kind == INTEREST_GROUP ? &b->groups : &b->literals,
                              (uint32_t)interest_account_hash(a->seed, interest_token_of(n)), ref);
    if (atomic_load(&b->star) != 0 || atomic_load(&b->rest) != 0 ||
        atomic_load(&b->literals) != 0 || atomic_load(&b->groups) != 0)
        return;
    atomic_store_explicit(&p->branch, 0, memory_order_release);
    interest_memory_retire_branch(m, &a->arena, branch);
}

/* --- the list of one shard at one node --------------------------------------------------- */

static void list_push(struct sub_pool *subs, struct sub *s, uint32_t first)
{
    s->prev = 0;
    s->next = first;
    if (first != 0) sub_at(subs, first)->prev = s->index;
}

static void list_unlink(struct sub_pool *subs, const struct sub *s, uint32_t *first)
{
    if (s->prev != 0)
        sub_at(subs, s->prev)->next = s->next;
    else
        *first = s->next;
    if (s->next != 0) sub_at(subs, s->next)->prev = s->prev;
}

static void content_store(struct interest_node *n, uint64_t content)
{
    atomic_store_explicit(&n->content, content, memory_order_release);
}

/* From the near form to lists; the content is the same after as before. */
static enum err content_spread(struct interest_memory *m, struct interest_node *n)
{
    uint64_t content = atomic_load(&n->content);
    void *p;
    size_t bytes = sizeof(struct interest_lists) +
                   m->shard_count * sizeof(((struct interest_lists *)NULL)->of[0]);
    enum err e = interest_memory_block(m, bytes, &p);
    if (e != ERR_OK) return e;
    struct interest_lists *l = p; /* zeroed */
    uint32_t shard = interest_near_shard(content);
    atomic_init(&l->marks, (uint64_t)1 << shard);
    atomic_init(&l->of[shard].count, interest_near_count(content));
    l->of[shard].first = interest_near_first(content);
    content_store(n, (uint64_t)(uintptr_t)l);
    return ERR_OK;
}

static enum err content_add(struct interest *x, uint32_t shard, uint32_t ref, struct sub *s)
{
    struct interest_node *n = interest_memory_node_at(&x->memory, ref);
    struct sub_pool *subs = x->memory.seats[shard].subs;
    uint64_t content = atomic_load(&n->content);
    if (content == 0) {
        list_push(subs, s, 0);
        content_store(n, interest_near(shard, 1, s->index));
        return ERR_OK;
    }
    if (interest_is_near(content)) {
        uint32_t size = interest_near_count(content);
        if (interest_near_shard(content) == shard && size < INTEREST_NEAR_COUNT_MAX) {
            list_push(subs, s, interest_near_first(content));
            content_store(n, interest_near(shard, size + 1, s->index));
            return ERR_OK;
        }
        enum err e = content_spread(&x->memory, n);
        if (e != ERR_OK) return e;
        content = atomic_load(&n->content);
    }
    struct interest_lists *l = interest_far(content);
    list_push(subs, s, l->of[shard].first);
    l->of[shard].first = s->index;
    uint32_t size = atomic_load_explicit(&l->of[shard].count, memory_order_relaxed) + 1;
    atomic_store_explicit(&l->of[shard].count, size, memory_order_release);
    uint64_t marks = atomic_load_explicit(&l->marks, memory_order_relaxed);
    if (size == 1)
        atomic_store_explicit(&l->marks, marks | (uint64_t)1 << shard, memory_order_release);
    return ERR_OK;
}

static void content_remove(struct interest *x, struct interest_account *a, uint32_t shard,
                           struct sub *s)
{
    struct interest_node *n = interest_memory_node_at(&x->memory, s->place);
    struct sub_pool *subs = x->memory.seats[shard].subs;
    uint64_t content = atomic_load(&n->content);
    if (interest_is_near(content)) {
        uint32_t first = interest_near_first(content), size = interest_near_count(content);
        must(interest_near_shard(content) == shard && size > 0);
        list_unlink(subs, s, &first);
        content_store(n, size == 1 ? 0 : interest_near(shard, size - 1, first));
        return;
    }
    struct interest_lists *l = interest_far(content);
    list_unlink(subs, s, &l->of[shard].first);
    uint32_t size = atomic_load_explicit(&l->of[shard].count, memory_order_relaxed);
    must(size > 0);
    atomic_store_explicit(&l->of[shard].count, size - 1, memory_order_release);
    if (size > 1) return;
    uint64_t marks = atomic_load_explicit(&l->marks, memory_order_relaxed);
    marks &= ~((uint64_t)1 << shard);
    atomic_store_explicit(&l->marks, marks, memory_order_release);
    if (marks != 0) return;
    content_store(n, 0);
    interest_memory_retire_block(&a->arena, &l->block);
}

/* --- insert ------------------------------------------------------------------------------ */

/* Frees a chain that was never published, from its deepest node up to, without, end. */
static void chain_free(struct interest_memory *m, struct interest_account *a, uint32_t deepest,
                       uint32_t end)
{
    while (deepest != end) {
        struct interest_node *n = interest_memory_node_at(m, deepest);
        uint32_t parent = n->parent, branch = atomic_load(&n->branch);
        if (branch != 0) {
            struct interest_branch *b = interest_memory_branch_at(m, branch);
            interest_table_drop(&a->arena, &b->literals);
            interest_table_drop(&a->arena, &b->groups);
            interest_memory_free_branch(m, &a->arena, branch);
        }
        interest_memory_free_node(m, &a->arena, deepest);
        count(&a->nodes, -1);
        deepest = parent;
    }
}

static enum err node_make(struct interest_memory *m, struct interest_account *a,
                          const struct edge *e, uint32_t parent, uint32_t *ref)
{
    enum err err = interest_memory_node(m, &a->arena, e->kind, e->token, ref);
    if (err != ERR_OK) return err;
    interest_memory_node_at(m, *ref)->parent = parent;
    count(&a->nodes, 1);
    return ERR_OK;
}

/* The nodes from edge e on do not exist yet: builds them aside, with the sub in the last one, and
 * hangs the first below parent at the end, so that a failure leaves no trace and readers see all
 * of it or nothing. */
static enum err chain_add(struct interest *x, struct interest_account *a, uint32_t shard,
                          uint32_t parent, struct path *path, struct edge e, struct sub *s)
{
    struct interest_memory *m = &x->memory;
    struct edge top_edge = e;
    uint32_t top, deepest;
    enum err err = node_make(m, a, &e, parent, &top);
    if (err != ERR_OK) return err;
    deepest = top;
    while (path_next(path, &e)) {
        uint32_t child;
        err = node_make(m, a, &e, deepest, &child);
        if (err != ERR_OK) goto undo;
        err = child_add(m, &a->arena, deepest, &e, child);
        if (err != ERR_OK) {
            chain_free(m, a, child, deepest);
            goto undo;
        }
        deepest = child;
    }
    err = content_add(x, shard, deepest, s);
    must(err == ERR_OK); /* the first sub of a node needs no memory */
    err = child_add(m, &a->arena, parent, &top_edge, top);
    if (err != ERR_OK) goto undo;
    s->place = deepest;
    return ERR_OK;
undo:
    chain_free(m, a, deepest, parent);
    s->next = s->prev = 0;
    return err;
}

static enum err insert(struct interest *x, struct interest_account *a, uint32_t shard,
                       struct bytes filter, struct bytes queue, struct sub *s)
{
    struct path path;
    struct edge e;
    uint32_t at = a->root;
    path_init(&path, a->seed, filter, queue);
    while (path_next(&path, &e)) {
        uint32_t child = child_find(&x->memory, at, &e);
        if (child == 0) return chain_add(x, a, shard, at, &path, e, s);
        at = child;
    }
    enum err err = content_add(x, shard, at, s);
    if (err == ERR_OK) s->place = at;
    return err;
}

/* The end of each write, under the lock. */
static void settle(struct interest *x, struct interest_account *a, uint32_t shard)
{
    if (a->arena.retired_count == 0) return;
    if (a->arena.retired_count < INTEREST_RECLAIM_EVERY ||
        !interest_memory_reclaim(&x->memory, &a->arena))
        x->memory.seats[shard].to_reclaim = a;
}

static struct bytes first_token(struct bytes filter)
{
    return bytes_of(filter.data, bytes_find(filter, '.'));
}

enum err interest_insert(struct interest *x, struct interest_account *a, uint32_t shard,
                         struct bytes filter, struct bytes queue, uint32_t sub)
{
    must(filter.len > 0);
    if (filter.len > INTEREST_FILTER_BYTES_MAX || queue.len > INTEREST_FILTER_BYTES_MAX)
        return ERR_TOO_LONG;
    must(shard < x->memory.shard_count);
    struct sub *s = sub_at(x->memory.seats[shard].subs, sub);
    must(s->place == 0);
    if (!try_lock(&a->is_locked)) return ERR_BUSY;
    struct bytes first = first_token(filter);
#ifdef MILLRACE_BREAK_GENERATION_BEFORE_STRUCTURE
    bump(a, kind_of(first), first);
#endif
    enum err e = insert(x, a, shard, filter, queue, s);
    if (e == ERR_OK) {
        count(&a->subscriptions, 1);
        count(&a->inserts, 1);
#ifndef MILLRACE_BREAK_GENERATION_BEFORE_STRUCTURE
        bump(a, kind_of(first), first);
#endif
    }
    settle(x, a, shard);
    unlock(&a->is_locked);
    return e;
}

/* --- remove ------------------------------------------------------------------------------ */

/* Unlinks and retires nodes that hold nothing any more, from ref up. */
static void prune(struct interest *x, struct interest_account *a, uint32_t ref)
{
    struct interest_memory *m = &x->memory;
    while (ref != a->root) {
        const struct interest_node *n = interest_memory_node_at(m, ref);
        if (atomic_load(&n->content) != 0 || atomic_load(&n->branch) != 0) return;
        uint32_t parent = n->parent;
        child_remove(m, a, ref);
        interest_memory_retire_node(m, &a->arena, ref);
        count(&a->nodes, -1);
        ref = parent;
    }
}

enum err interest_remove(struct interest *x, struct interest_account *a, uint32_t shard,
                         uint32_t sub)
{
    must(shard < x->memory.shard_count);
    struct sub *s = sub_at(x->memory.seats[shard].subs, sub);
    must(s->place != 0);
    if (!try_lock(&a->is_locked)) return ERR_BUSY;
    const struct interest_node *first = interest_memory_node_at(&x->memory, s->place);
    while (first->parent != a->root) first = interest_memory_node_at(&x->memory, first->parent);
    /* The node may be pruned below, but stays readable until the lock is given back. */
#ifdef MILLRACE_BREAK_GENERATION_BEFORE_STRUCTURE
    bump(a, interest_kind_of(first), interest_token_of(first));
#endif
    content_remove(x, a, shard, s);
    prune(x, a, s->place);
#ifndef MILLRACE_BREAK_GENERATION_BEFORE_STRUCTURE
    bump(a, interest_kind_of(first), interest_token_of(first));
#endif
    s->place = s->next = s->prev = 0;
    count(&a->subscriptions, -1);
    count(&a->removes, 1);
    settle(x, a, shard);
    unlock(&a->is_locked);
    return ERR_OK;
}

/* --- reports ----------------------------------------------------------------------------- */

/* An inserted sub keeps its node and all above it alive, and what is read here never changes, so
 * no lock is needed. */
enum err interest_filter_of(const struct interest *x, const struct sub *s, char *room,
                            size_t room_bytes, struct bytes *filter, struct bytes *queue)
{
    const struct interest_memory *m = &x->memory;
    must(s->place != 0);
    const struct interest_node *last = interest_memory_node_at(m, s->place);
    struct bytes name = bytes_of(NULL, 0);
    if (interest_kind_of(last) == INTEREST_GROUP) {
        name = interest_token_of(last);
        last = interest_memory_node_at(m, last->parent);
    }
    size_t len = 0;
    for (const struct interest_node *n = last; n->parent != 0;
         n = interest_memory_node_at(m, n->parent))
        len += interest_token_of(n).len + 1;
    must(len > 0);
    len--; /* one dot less than tokens */
    if (len > room_bytes || name.len > room_bytes - len) return ERR_FULL;
    if (name.len > 0) memcpy(room + len, name.data, name.len);
    size_t at = len;
    for (const struct interest_node *n = last;;) {
        struct bytes token = interest_token_of(n);
        at -= token.len;
        memcpy(room + at, token.data, token.len);
        if (at == 0) break;
        room[--at] = '.';
        n = interest_memory_node_at(m, n->parent);
    }
    *filter = bytes_of(room, len);
    *queue = bytes_of(room + len, name.len);
    return ERR_OK;
}

static void add_account(const struct interest_account *a, struct interest_counts *out)
{
    out->subscriptions += atomic_load_explicit(&a->subscriptions, memory_order_relaxed);
    out->inserts += atomic_load_explicit(&a->inserts, memory_order_relaxed);
    out->removes += atomic_load_explicit(&a->removes, memory_order_relaxed);
    out->nodes += atomic_load_explicit(&a->nodes, memory_order_relaxed);
}

void interest_count(const struct interest *x, uint32_t account, struct interest_counts *out)
{
    const struct interest_account *a = account_find(x, account);
    *out = (struct interest_counts){0};
    if (a != NULL) add_account(a, out);
}

void interest_count_all(const struct interest *x, struct interest_counts *out)
{
    *out = (struct interest_counts){0};
    for (uint32_t p = 0; p < INTEREST_ACCOUNT_PAGES; p++) {
        _Atomic(struct interest_account *) *page =
            atomic_load_explicit(&x->accounts[p], memory_order_acquire);
        for (uint32_t i = 0; page != NULL && i < 1u << INTEREST_ACCOUNT_SHIFT; i++) {
            const struct interest_account *a =
                atomic_load_explicit(&page[i], memory_order_acquire);
            if (a != NULL) add_account(a, out);
        }
    }
    for (uint32_t s = 0; s < x->memory.shard_count; s++) {
        const struct interest_seat *seat = &x->memory.seats[s];
        uint32_t fanout = atomic_load_explicit(&seat->fanout_max, memory_order_relaxed);
        out->matches += atomic_load_explicit(&seat->matches, memory_order_relaxed);
        if (fanout > out->max_fanout) out->max_fanout = fanout;
    }
    out->bytes = atomic_load_explicit(&x->memory.bytes, memory_order_relaxed);
}
