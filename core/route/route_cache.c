#include "core/route/route_cache.h"
#include "core/base/must.h"
#include "core/base/table.h"
#include "core/route/subject.h"

enum {
    SLOTS_MIN = 1024,  /* 64 KiB: what an idle shard pays */
    WINDOW = 8,        /* slots from its home on where an entry may be */
    SUBJECT_NEAR = 32, /* longer subjects cost an allocation at entry, and a cache miss at a hit */
    RECENT = 32768,    /* misses remembered, a power of two */
    LARGE_SHARE = 4,   /* a route above bytes_max / LARGE_SHARE is not kept */
    SHARED = 256,      /* routes at hand for subjects that resolve alike, a power of two */
    SHARED_SUBS = 64,  /* a route of more is not shared */
    TAIL_BITS = 6,
    TAILS = 1 << TAIL_BITS,
};

/* What an entry's subject is, beside its account. A subject may be cut where nothing looks further:
 * behind its last dot, when its last token is free, or behind the third token, when none of those
 * behind it is looked at and none is empty. Accounts are below a million. */
static const uint32_t CUT_LAST = UINT32_C(1) << 31, CUT_THIRD = UINT32_C(1) << 30;

/* One cache line, and all that a hit needs but the route itself. */
struct entry {
    uint64_t hash; /* of account and subject; 0: the slot is empty */
    struct route *route;
    uint64_t generation; /* the route's */
    uint32_t account;
    uint16_t subject_bytes;
    uint8_t bucket;  /* of the subject's first token */
    uint8_t is_used; /* since the hand passed last */
    union {
        char near[SUBJECT_NEAR];
        char *far;
    } subject;
};

_Static_assert(sizeof(struct entry) == 64, "one line per entry");
_Static_assert(INTEREST_BUCKETS <= 256, "a bucket fits a byte");

struct route_cache {
    struct mem *mem;
    struct interest *index;
    struct entry *slots; /* slot_count of them, 64-byte aligned inside allocation */
    void *allocation;
    uint32_t slot_count; /* a power of two; doubles up to slots_max */
    uint32_t slots_max;
    uint32_t shard;
    uint32_t hand;
    uint64_t seed;         /* of the hashes: the index's */
    uint32_t last;         /* slot of the last look-up's home; below slot_count, which only grows */
    uint32_t last_cut;     /* slot of the last cut subject that was of use */
    uint64_t tails[TAILS]; /* ends of subjects that cuts served: a second time, they are kept */
    uint64_t bytes_max;
    struct route *scratch; /* resolved last without being kept, or NULL */
    /* By what they resolve to. Subjects under one wildcard have the same route then: it stays in
     * the processor's cache, where 50 k equal ones were a miss at each message. */
    struct route *shared[SHARED];
    struct route_cache_counts counts;
    uint32_t recent[RECENT]; /* high halves of the hashes missed last, by the low half */
};

static size_t slots_bytes(uint32_t slot_count)
{
    return (size_t)slot_count * sizeof(struct entry) + sizeof(struct entry);
}

static enum err slots_make(struct mem *mem, uint32_t slot_count, void **allocation,
                           struct entry **slots)
{
    void *p = mem_alloc_zero(mem, MEM_ROUTE, slots_bytes(slot_count));
    if (p == NULL) return ERR_MEMORY;
    uintptr_t line = sizeof(struct entry);
    *allocation = p;
    *slots = (struct entry *)(((uintptr_t)p + line - 1) & ~(line - 1));
    return ERR_OK;
}

enum err route_cache_open(struct mem *mem, struct interest *x, uint32_t shard, uint32_t entries_max,
                          uint64_t bytes_max, struct route_cache **out)
{
    must(entries_max >= WINDOW && (entries_max & (entries_max - 1)) == 0);
    struct route_cache *c = mem_alloc_zero(mem, MEM_ROUTE, sizeof *c);
    if (c == NULL) return ERR_MEMORY;
    c->mem = mem;
    c->index = x;
    c->seed = interest_seed(x);
    c->shard = shard;
    c->bytes_max = bytes_max;
    c->slots_max = entries_max;
    c->slot_count = entries_max < SLOTS_MIN ? entries_max : SLOTS_MIN;
    enum err e = slots_make(mem, c->slot_count, &c->allocation, &c->slots);
    if (e != ERR_OK) {
        mem_free(mem, MEM_ROUTE, c, sizeof *c);
        return e;
    }
    *out = c;
    return ERR_OK;
}

static const char *entry_subject(const struct entry *e)
{
    return e->subject_bytes > SUBJECT_NEAR ? e->subject.far : e->subject.near;
}

static void route_hold(struct route_cache *c, struct route *r)
{
    if (r->users++ == 0) c->counts.bytes += r->bytes;
}

static void route_drop(struct route_cache *c, struct route *r)
{
    if (r == NULL) return;
    must(r->users > 0);
    if (--r->users > 0) return;
    must(c->counts.bytes >= r->bytes);
    c->counts.bytes -= r->bytes;
    route_free(c->mem, r);
}

static bool is_alike(const struct route *a, const struct route *b)
{
    return a->plain_count == b->plain_count && a->remote_plain == b->remote_plain &&
           memcmp(a->subs, b->subs, a->plain_count * sizeof(struct sub *)) == 0;
}

/* r, or the route at hand that resolves alike: then r is gone. */
static struct route *share(struct route_cache *c, struct route *r)
{
    if (r->group_count > 0 || r->plain_count > SHARED_SUBS) return r;
    uint64_t hash =
        hash_bytes(r->subs, r->plain_count * sizeof(struct sub *), c->seed ^ r->remote_plain);
    struct route **cell = &c->shared[hash & (SHARED - 1)];
    if (*cell != NULL && is_alike(*cell, r)) {
        route_free(c->mem, r);
        return *cell;
    }
    route_drop(c, *cell);
    *cell = r;
    route_hold(c, r);
    return r;
}

static void share_nothing(struct route_cache *c)
{
    for (uint32_t i = 0; i < SHARED; i++) {
        route_drop(c, c->shared[i]);
        c->shared[i] = NULL;
    }
}

static void entry_clear(struct route_cache *c, struct entry *e)
{
    must(e->hash != 0);
    must(c->counts.entries > 0);
    c->counts.entries--;
    if (e->subject_bytes > SUBJECT_NEAR) {
        must(c->counts.bytes >= e->subject_bytes);
        c->counts.bytes -= e->subject_bytes;
        mem_free(c->mem, MEM_ROUTE, e->subject.far, e->subject_bytes);
    }
    route_drop(c, e->route);
    *e = (struct entry){0};
}

void route_cache_close(struct route_cache *c)
{
    for (uint32_t i = 0; i < c->slot_count; i++)
        if (c->slots[i].hash != 0) entry_clear(c, &c->slots[i]);
    share_nothing(c);
    route_free(c->mem, c->scratch);
    must(c->counts.bytes == 0);
    mem_free(c->mem, MEM_ROUTE, c->allocation, slots_bytes(c->slot_count));
    mem_free(c->mem, MEM_ROUTE, c, sizeof *c);
}

static bool is_of(const struct entry *e, uint64_t hash, uint32_t account, struct bytes subject)
{
    return e->hash == hash && e->account == account && e->subject_bytes == subject.len &&
           memcmp(entry_subject(e), subject.data, subject.len) == 0;
}

/* The entry of this very subject, fresh or stale, or NULL. An empty slot ends the search; where an
 * entry behind it was missed because one before it went, that entry is only made anew. */
static struct entry *lookup(const struct route_cache *c, uint64_t hash, uint32_t account,
                            struct bytes subject)
{
    for (uint32_t i = 0; i < WINDOW; i++) {
        struct entry *e = &c->slots[(hash + i) & (c->slot_count - 1)];
        if (is_of(e, hash, account, subject)) return e;
        if (e->hash == 0) break;
    }
    return NULL;
}

/* Twice as many slots. Entries that find no place in their new window go: a cache may forget. */
static enum err grow(struct route_cache *c)
{
    struct entry *slots, *old = c->slots;
    void *allocation, *old_allocation = c->allocation;
    uint32_t old_count = c->slot_count;
    enum err e = slots_make(c->mem, old_count * 2, &allocation, &slots);
    if (e != ERR_OK) return e;
    c->slots = slots;
    c->allocation = allocation;
    c->slot_count = old_count * 2;
    for (uint32_t i = 0; i < old_count; i++) {
        if (old[i].hash == 0) continue;
        uint32_t n = 0;
        struct entry *to;
        do to = &c->slots[(old[i].hash + n) & (c->slot_count - 1)];
        while (to->hash != 0 && ++n < WINDOW);
        if (to->hash == 0)
            *to = old[i];
        else
            entry_clear(c, &old[i]);
    }
    mem_free(c->mem, MEM_ROUTE, old_allocation, slots_bytes(old_count));
    return ERR_OK;
}

/* A slot of the window of hash, emptied if need be: second chance within the window. */
static struct entry *make_room(struct route_cache *c, uint64_t hash)
{
    if (c->counts.entries >= c->slot_count / 2 && c->slot_count < c->slots_max && grow(c) != ERR_OK)
        c->slots_max = c->slot_count; /* memory is short: stay as large as this */
    uint32_t mask = c->slot_count - 1;
    for (uint32_t i = 0; i < WINDOW; i++) {
        struct entry *e = &c->slots[(hash + i) & mask];
        if (e->hash == 0) return e;
    }
    /* Where the look starts moves on, so that the first slots do not go more often than others. */
    struct entry *victim = NULL;
    c->hand++;
    for (uint32_t i = 0; i < WINDOW; i++) {
        struct entry *e = &c->slots[(hash + (c->hand + i) % WINDOW) & mask];
        if (!e->is_used && victim == NULL) victim = e;
        e->is_used = 0;
    }
    if (victim == NULL) victim = &c->slots[(hash + c->hand % WINDOW) & mask];
    c->counts.evictions++;
    entry_clear(c, victim);
    return victim;
}

/* Frees entries from the hand on, sparing those used since it passed, until at least bytes are
 * free or there is none. At most two rounds. */
static uint64_t sweep(struct route_cache *c, uint64_t bytes, const struct entry *spare)
{
    uint64_t before = c->counts.bytes;
    for (uint64_t n = 0; n < 2 * (uint64_t)c->slot_count; n++) {
        if (before - c->counts.bytes >= bytes || c->counts.entries == 0) break;
        struct entry *e = &c->slots[c->hand++ & (c->slot_count - 1)];
        if (e->hash == 0 || e == spare) continue;
        if (e->is_used) {
            e->is_used = 0;
            continue;
        }
        c->counts.evictions++;
        entry_clear(c, e);
    }
    return before - c->counts.bytes;
}

static void set_scratch(struct route_cache *c, struct route *r)
{
    route_free(c->mem, c->scratch);
    c->scratch = r;
}

/* True when the subject was missed a short while ago too. A newcomer takes over its cell every
 * other time, as if by a coin: of more subjects in rotation than there are cells, those that share
 * one would else push each other out in every round, for ever. */
static bool missed_before(struct route_cache *c, uint64_t hash)
{
    uint32_t *cell = &c->recent[hash & (RECENT - 1)], mark = (uint32_t)(hash >> 32) | 1;
    if (*cell == mark) return true;
    bool is_taken_over = (c->counts.misses * 0x9e3779b97f4a7c15u >> 63) != 0;
    if (*cell == 0 || is_taken_over) *cell = mark;
    return false;
}

/* False: no memory, or the subject is too long. The entry holds r. */
static bool enter(struct route_cache *c, uint64_t hash, uint32_t account, struct bytes subject,
                  struct route *r, uint64_t generation)
{
    char *far = NULL;
    if (subject.len > UINT16_MAX) return false;
    if (subject.len > SUBJECT_NEAR) {
        far = mem_alloc(c->mem, MEM_ROUTE, subject.len);
        if (far == NULL) return false;
        memcpy(far, subject.data, subject.len);
    }
    route_hold(c, r); /* first: what has to make room may be its other holder */
    struct entry *e = make_room(c, hash);
    *e = (struct entry){.hash = hash,
                        .route = r,
                        .generation = generation,
                        .account = account,
                        .subject_bytes = (uint16_t)subject.len,
                        .bucket = (uint8_t)interest_bucket(c->index, subject),
                        .is_used = 1};
    if (far != NULL)
        e->subject.far = far;
    else if (subject.len > 0)
        memcpy(e->subject.near, subject.data, subject.len);
    c->counts.entries++;
    if (far != NULL) c->counts.bytes += subject.len;
    if (c->counts.bytes > c->bytes_max) sweep(c, c->counts.bytes - c->bytes_max, e);
    return true;
}

/* Keeps r, or hands it to the scratch slot where that does not work. Returns it, or the route that
 * is kept in its place. */
static const struct route *keep(struct route_cache *c, uint64_t hash, uint32_t account,
                                struct bytes subject, struct route *r)
{
    uint64_t generation = r->generation;
    bool is_short = mem_percent(c->mem) >= MEM_SHORT_PERCENT;
    if (r->bytes > c->bytes_max / LARGE_SHARE || subject.len > UINT16_MAX || is_short) {
        set_scratch(c, r);
        return r;
    }
    r = share(c, r);
    if (enter(c, hash, account, subject, r, generation)) return r;
    if (r->users == 0) set_scratch(c, r);
    return r;
}

/* --- cut subjects --------------------------------------------------------------------------- */

struct cut {
    struct bytes subject; /* empty: it cannot be cut so */
    uint32_t account;
    uint64_t hash;
};

/* Where the last token begins, and the fourth (0: there is none, or an empty token behind it). */
static void find_dots(struct bytes subject, uint32_t *last, uint32_t *fourth)
{
    uint32_t dots = 0;
    bool is_empty = false;
    *last = *fourth = 0;
    for (uint32_t i = 0; i < subject.len; i++) {
        if (subject.data[i] != '.') continue;
        if (dots >= 3 && i == *last) is_empty = true;
        *last = i + 1;
        if (++dots == 3) *fourth = i + 1;
    }
    if (*last == subject.len) *last = *fourth = 0;
    if (is_empty) *fourth = 0;
}

static struct cut cut_at(const struct route_cache *c, struct bytes subject, uint32_t at,
                         uint32_t account)
{
    struct bytes head = bytes_of(subject.data, at);
    return (struct cut){head, account, at == 0 ? 0 : subject_hash(c->seed, account, head)};
}

static uint64_t tail_of(struct bytes subject)
{
    uint64_t tail = 0;
    size_t len = subject.len < sizeof tail ? subject.len : sizeof tail;
    if (len > 0) memcpy(&tail, subject.data + subject.len - len, len);
    return tail ^ subject.len;
}

static uint64_t *tail_cell(struct route_cache *c, uint64_t tail)
{
    return &c->tails[tail * UINT64_C(0x9e3779b97f4a7c15) >> (64 - TAIL_BITS)];
}

/* A cut of this subject that is known and fresh, or NULL. A stale one goes. */
static struct entry *lookup_cut(struct route_cache *c, const struct interest_account *a,
                                const struct cut *cut)
{
    if (cut->subject.len == 0) return NULL;
    struct entry *e = lookup(c, cut->hash, cut->account, cut->subject);
    if (e == NULL) return NULL;
    if (e->generation == interest_generation_at(a, e->bucket)) return e;
    c->counts.stale++;
    entry_clear(c, e);
    return NULL;
}

/* Resolves anew. stale: the entry whose generation has passed, or NULL. */
static enum err miss(struct route_cache *c, uint64_t hash, uint32_t account,
                     struct interest_account *a, struct bytes subject, const struct cut cuts[2],
                     struct entry *stale, const struct route **out)
{
    struct route *r;
    enum err e = interest_resolve(c->index, a, c->shard, c->mem, subject, &r);
    if (e != ERR_OK) return e;
    c->counts.misses++;
    if (stale != NULL) {
        c->counts.stale++;
        entry_clear(c, stale);
        *out = keep(c, hash, account, subject, r);
        return ERR_OK;
    }
    struct cut here = {subject, account, hash};
    if (cuts[1].subject.len > 0 && r->looked_to < cuts[1].subject.len)
        here = cuts[1];
    else if (cuts[0].subject.len > 0 && r->is_last_free)
        here = cuts[0];
    if (missed_before(c, here.hash)) {
        *out = keep(c, here.hash, here.account, here.subject, r);
    } else {
        *out = r;
        set_scratch(c, r);
    }
    return ERR_OK;
}

/* All but the usual hit. A function of its own with the same arguments, so that the usual hit
 * saves no registers for it and jumps here. */
static __attribute__((noinline)) enum err find_slow(struct route_cache *c, uint32_t account,
                                                    struct interest_account *a,
                                                    struct bytes subject, const struct route **out)
{
    uint64_t hash = subject_hash(c->seed, account, subject);
    struct cut cuts[2] = {0};
    struct entry *e = lookup(c, hash, account, subject), *shared = NULL;
    if (e == NULL) {
        uint32_t last, fourth;
        find_dots(subject, &last, &fourth);
        cuts[0] = cut_at(c, subject, last, account | CUT_LAST);
        shared = lookup_cut(c, a, &cuts[0]);
        if (shared == NULL) {
            cuts[1] = cut_at(c, subject, fourth, account | CUT_THIRD);
            shared = lookup_cut(c, a, &cuts[1]);
        }
    }
    if (shared != NULL) {
        uint64_t tail = tail_of(subject), *seen = tail_cell(c, tail);
        c->counts.hits++;
        shared->is_used = 1;
        *out = shared->route;
        c->last_cut = (uint32_t)(shared - c->slots);
        /* One that comes again is found faster by itself. */
        if (*seen == tail)
            (void)enter(c, hash, account, subject, shared->route, shared->generation);
        *seen = tail;
        return ERR_OK;
    }
    if (e == NULL || e->generation != interest_generation_at(a, e->bucket))
        return miss(c, hash, account, a, subject, cuts, e, out);
    c->counts.hits++;
    e->is_used = 1;
    *out = e->route;
    return ERR_OK;
}

/* Behind a cut: the last token, or any number of them that are not empty. */
static inline bool is_rest(struct bytes subject, uint32_t at, bool is_one)
{
    if (subject.len == at || subject.data[subject.len - 1] == '.') return false;
    for (uint32_t i = at; i < subject.len; i++)
        if (subject.data[i] == '.' && (is_one || subject.data[i - 1] == '.')) return false;
    return true;
}

/* The next reply or acknowledgement of the same kind: found without a hash. */
static inline bool is_cut_again(const struct route_cache *c, const struct entry *e,
                                uint32_t account, const struct interest_account *a,
                                struct bytes subject)
{
    uint32_t kind = e->account ^ account;
    return (kind == CUT_LAST || kind == CUT_THIRD) && e->hash != 0 &&
           subject.len > e->subject_bytes && e->subject_bytes - 8u <= SUBJECT_NEAR - 8 &&
           bytes_same_words(e->subject.near, subject.data, e->subject_bytes) &&
           is_rest(subject, e->subject_bytes, kind == CUT_LAST) &&
           e->generation == interest_generation_at(a, e->bucket);
}

/* All but a subject that repeats the one before: a function of its own, see find_slow. */
static NOINLINE enum err find_changed(struct route_cache *c, uint32_t account,
                                      struct interest_account *a, struct bytes subject,
                                      const struct route **out)
{
    struct entry *e = &c->slots[c->last_cut];
    if (is_cut_again(c, e, account, a, subject)) {
        uint64_t tail = tail_of(subject), *seen = tail_cell(c, tail);
        if (*seen != tail) {
            *seen = tail;
            c->counts.hits++;
            e->is_used = 1;
            *out = e->route;
            return ERR_OK;
        }
    }
    uint64_t hash = subject_hash(c->seed, account, subject);
    c->last = (uint32_t)(hash & (c->slot_count - 1));
    e = &c->slots[c->last];
    if (UNLIKELY(e->hash != hash || e->account != account || e->subject_bytes != subject.len ||
                 subject.len - 8 > SUBJECT_NEAR - 8 ||
                 !bytes_same_words(e->subject.near, subject.data, subject.len) ||
                 e->generation != interest_generation_at(a, e->bucket)))
        return find_slow(c, account, a, subject, out);
    c->counts.hits++;
    e->is_used = 1;
    *out = e->route;
    return ERR_OK;
}

/* The usual hit is that of a short subject in its first slot. */
enum err route_cache_find(struct route_cache *c, uint32_t account, struct interest_account *a,
                          struct bytes subject, const struct route **out)
{
    /* A publisher mostly repeats its subject: then not even the hash is needed. The entry holds all
     * that decides, so it does not matter what happened to its slot meanwhile. */
    struct entry *e = &c->slots[c->last];
    if (UNLIKELY(e->account != account || e->subject_bytes != subject.len || e->hash == 0 ||
                 subject.len - 8 > SUBJECT_NEAR - 8 ||
                 !bytes_same_words(e->subject.near, subject.data, subject.len) ||
                 e->generation != interest_generation_at(a, e->bucket)))
        return find_changed(c, account, a, subject, out);
    c->counts.hits++;
    e->is_used = 1;
    *out = e->route;
    return ERR_OK;
}

void route_cache_prefetch(const struct route_cache *c, uint32_t account, struct bytes subject)
{
    __builtin_prefetch(&c->slots[subject_hash(c->seed, account, subject) & (c->slot_count - 1)]);
}

uint64_t route_cache_shrink(struct route_cache *c, uint64_t bytes)
{
    uint64_t before = c->counts.bytes;
    share_nothing(c);
    uint64_t freed = before - c->counts.bytes;
    return freed < bytes ? freed + sweep(c, bytes - freed, NULL) : freed;
}

void route_cache_count(const struct route_cache *c, struct route_cache_counts *out)
{
    *out = c->counts;
}
