#include "core/js/overlap.h"
#include <stdbool.h>
#include "core/base/must.h"
#include "core/route/subject.h"

enum { MIDDLE_TOKEN_MAX = 16 }; /* claims whose middle is further back have none */

struct overlap_count {
    uint64_t hash;
    uint32_t count;
};

void overlap_init(struct overlap *o, struct mem *mem, uint64_t seed)
{
    *o = (struct overlap){.mem = mem, .seed = seed};
    table_init(&o->claims, mem, MEM_JETSTREAM);
    table_init(&o->tailed, mem, MEM_JETSTREAM);
    table_init(&o->middled, mem, MEM_JETSTREAM);
    table_init(&o->longer, mem, MEM_JETSTREAM);
}

void overlap_deinit(struct overlap *o)
{
    must(o->claims.count == 0);
    must(o->tailed.count == 0);
    must(o->middled.count == 0);
    must(o->longer.count == 0);
    table_deinit(&o->claims);
    table_deinit(&o->tailed);
    table_deinit(&o->middled);
    table_deinit(&o->longer);
}

static uint64_t hash_of(const struct overlap *o, uint32_t account, struct bytes tokens)
{
    return hash_bytes(tokens.data, tokens.len, o->seed + account);
}

/* The last token of a filter with wildcards before it, if it is literal: filters without `>` whose
 * last tokens differ have nothing in common. Empty: none. */
static struct bytes tail_of(struct bytes filter)
{
    struct subject_walk walk;
    struct bytes token, tail = bytes_of(NULL, 0);
    bool is_wild = false;
    subject_walk_init(&walk, filter);
    while (subject_walk_next(&walk, &token)) {
        if (subject_token_is_rest(token)) return bytes_of(NULL, 0);
        bool is_star = subject_token_is_star(token);
        is_wild |= is_star;
        tail = is_star ? bytes_of(NULL, 0) : token;
    }
    return is_wild ? tail : bytes_of(NULL, 0);
}

/* Of claims with these literal tokens at the front, and this tail. */
static uint64_t key_of(uint64_t prefix, struct bytes tail)
{
    return tail.len == 0 ? prefix : hash_bytes(tail.data, tail.len, prefix);
}

/* The first literal token behind a wildcard, other than the tail: filters that have other literal
 * tokens in its place have nothing in common. */
static void set_middle(struct overlap_claim *c)
{
    struct subject_walk walk;
    struct bytes token;
    bool is_wild = false;
    subject_walk_init(&walk, bytes_of(c->filter, c->filter_bytes));
    for (uint32_t i = 0; i < MIDDLE_TOKEN_MAX && subject_walk_next(&walk, &token); i++) {
        if (subject_token_is_rest(token)) return;
        bool is_star = subject_token_is_star(token);
        is_wild |= is_star;
        if (is_star || !is_wild || token.len == 0) continue;
        if (token.data + token.len == c->filter + c->filter_bytes) return;
        c->middle_at = (uint32_t)(token.data - c->filter);
        c->middle_bytes = (uint32_t)token.len;
        c->middle_token = i;
        return;
    }
}

/* Of claims with these literal tokens at the front and a middle at that place, and of those with
 * this middle there. */
static uint64_t place_of_middle(uint64_t prefix, uint32_t token)
{
    return hash_number(prefix + token + 1);
}

static uint64_t key_of_middle(uint64_t prefix, uint32_t token, struct bytes middle)
{
    return hash_bytes(middle.data, middle.len, place_of_middle(prefix, token));
}

/* Of its literal tokens at the front and its tail. */
static uint64_t key_of_ends(const struct overlap_claim *c, uint64_t prefix)
{
    return key_of(prefix, bytes_of(c->filter + c->filter_bytes - c->tail_bytes, c->tail_bytes));
}

static uint64_t key_of_claim(const struct overlap_claim *c, uint64_t prefix)
{
    uint64_t ends = key_of_ends(c, prefix);
    if (c->middle_bytes == 0) return ends;
    return key_of_middle(ends, c->middle_token,
                         bytes_of(c->filter + c->middle_at, c->middle_bytes));
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

/* Those with the same key are a ring, of which one is in the table: thousands of them would be in
 * each other's way there. */
static enum err enter_ring(struct table *t, uint64_t key, struct list *link)
{
    uint32_t at;
    struct list *ring = table_first(t, key, &at);
    if (ring == NULL) return table_insert(t, key, link);
    list_push(ring, link);
    return ERR_OK;
}

static void leave_ring(struct table *t, uint64_t key, struct list *link)
{
    struct list *next = link->next;
    list_remove(link);
    if (table_remove(t, key, link) != ERR_OK || next == link) return;
    must(table_insert(t, key, next) == ERR_OK); /* where there was room */
}

/* Where it stands besides: by its literal tokens alone if it has a tail, by these and the tail if
 * it has a middle. */
static enum err place_apart(struct overlap *o, struct overlap_claim *c, uint64_t prefix)
{
    uint64_t ends = key_of_ends(c, prefix), place = place_of_middle(ends, c->middle_token);
    enum err e = c->tail_bytes > 0 ? enter_ring(&o->tailed, prefix, &c->same_front) : ERR_OK;
    if (e != ERR_OK || c->middle_bytes == 0) return e;
    e = count_up(o, place);
    if (e != ERR_OK) goto untail;
    e = enter_ring(&o->middled, ends, &c->same_ends);
    if (e == ERR_OK) return e;
    count_down(o, place);
untail:
    if (c->tail_bytes > 0) leave_ring(&o->tailed, prefix, &c->same_front);
    return e;
}

static void unplace(struct overlap *o, struct overlap_claim *c, uint64_t prefix)
{
    uint64_t ends = key_of_ends(c, prefix);
    if (c->tail_bytes > 0) leave_ring(&o->tailed, prefix, &c->same_front);
    if (c->middle_bytes == 0) return;
    leave_ring(&o->middled, ends, &c->same_ends);
    count_down(o, place_of_middle(ends, c->middle_token));
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
    list_init(&c->same_front);
    list_init(&c->same_ends);
    enum err e = ERR_OK;
    size_t before = 0;
    runs_init(&r, filter);
    while (before = r.bytes, runs_next(&r)) {
        e = count_up(o, hash_of(o, account, bytes_of(filter.data, before)));
        if (e != ERR_OK) goto uncount;
        c->runs++;
    }
    c->prefix_bytes = (uint32_t)r.bytes;
    struct bytes tail = tail_of(filter_of(c));
    uint64_t hash = hash_of(o, account, bytes_of(filter.data, r.bytes));
    c->tail_bytes = (uint32_t)tail.len;
    set_middle(c);
    e = place_apart(o, c, hash);
    if (e != ERR_OK) goto uncount;
    e = table_insert(&o->claims, key_of_claim(c, hash), c);
    if (e != ERR_OK) goto unplace;
    *claim = c;
    return ERR_OK;

unplace:
    unplace(o, c, hash);
uncount:
    uncount(o, account, filter, c->runs);
    mem_free(o->mem, MEM_JETSTREAM, c, sizeof *c + filter.len);
    return e;
}

void overlap_release(struct overlap *o, struct overlap_claim *c)
{
    uint64_t hash = hash_of(o, c->account, bytes_of(c->filter, c->prefix_bytes));
    must(table_remove(&o->claims, key_of_claim(c, hash), c) == ERR_OK);
    unplace(o, c, hash);
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
    return c->account == a->account && a->counts(a->context, c) &&
           subject_collides(filter_of(c), a->filter);
}

static bool is_other(const void *context, const struct overlap_claim *c)
{
    return context != c->owner;
}

bool overlap_meets(const struct overlap *o, uint32_t account, struct bytes filter,
                   const void *owner)
{
    return overlap_meets_any(o, account, filter, is_other, owner);
}

static bool meets_in(const struct overlap *o, uint64_t hash, const struct asker *a)
{
    uint32_t at;
    for (const struct overlap_claim *c = table_first(&o->claims, hash, &at); c != NULL;
         c = table_next(&o->claims, hash, &at))
        if (is_hit(c, a)) return true;
    return false;
}

static bool meets_tailed(const struct overlap *o, uint64_t prefix, const struct asker *a)
{
    uint32_t at;
    const struct list *ring = table_first(&o->tailed, prefix, &at), *link = ring;
    if (ring == NULL) return false;
    do {
        if (is_hit(LIST_OWNER(link, struct overlap_claim, same_front), a)) return true;
        link = link->next;
    } while (link != ring);
    return false;
}

static bool meets_middled(const struct overlap *o, uint64_t ends, const struct asker *a)
{
    uint32_t at;
    const struct list *ring = table_first(&o->middled, ends, &at), *link = ring;
    if (ring == NULL) return false;
    do {
        if (is_hit(LIST_OWNER(link, struct overlap_claim, same_ends), a)) return true;
        link = link->next;
    } while (link != ring);
    return false;
}

/* What a filter may end with, to meet claims with a tail. */
static bool last_token(struct bytes filter, struct bytes *last)
{
    struct subject_walk walk;
    struct bytes token;
    *last = bytes_of(NULL, 0);
    subject_walk_init(&walk, filter);
    while (subject_walk_next(&walk, &token)) {
        if (subject_token_is_rest(token)) return false;
        *last = token;
    }
    return last->len > 0 && !subject_token_is_star(*last);
}

/* Is there a claim with these ends and a middle in [from, to]? */
static bool has_middle(const struct overlap *o, uint64_t hash, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i <= to; i++)
        if (find_count(o, place_of_middle(hash, i)) != NULL) return true;
    return false;
}

/* Claims with a middle and these literal tokens at the ends. */
static bool meets_middle(const struct overlap *o, uint64_t hash, const struct asker *a)
{
    struct subject_walk walk;
    struct bytes token;
    uint32_t at;
    if (table_first(&o->middled, hash, &at) == NULL) return false;
    subject_walk_init(&walk, a->filter);
    for (uint32_t i = 0; i < MIDDLE_TOKEN_MAX && subject_walk_next(&walk, &token); i++) {
        bool is_rest = subject_token_is_rest(token);
        if (is_rest || subject_token_is_star(token)) {
            if (has_middle(o, hash, i, is_rest ? MIDDLE_TOKEN_MAX - 1 : i))
                return meets_middled(o, hash, a);
            if (is_rest) return false;
        } else if (meets_in(o, key_of_middle(hash, i, token), a)) {
            return true;
        }
    }
    return false; /* a middle behind its last token is of a longer one */
}

/* Claims with these literal tokens at the ends. */
static bool meets_ends(const struct overlap *o, uint64_t hash, const struct asker *a)
{
    return meets_in(o, hash, a) || (o->middled.count > 0 && meets_middle(o, hash, a));
}

bool overlap_meets_any(const struct overlap *o, uint32_t account, struct bytes filter,
                       overlap_counts_fn *counts, const void *context)
{
    struct asker a = {account, filter, counts, context};
    struct runs r;
    struct bytes last;
    uint64_t hash;
    bool has_last = last_token(filter, &last);
    runs_init(&r, filter);
    do {
        hash = hash_of(o, account, bytes_of(filter.data, r.bytes));
        if (meets_ends(o, hash, &a)) return true;
        if (o->tailed.count > 0 &&
            (has_last ? meets_ends(o, key_of(hash, last), &a) : meets_tailed(o, hash, &a)))
            return true;
    } while (runs_next(&r));
    if (r.is_literal || find_count(o, hash) == NULL) return false;
    uint32_t at = 0;
    const struct overlap_claim *c;
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

bool overlap_list_meets_claims(const struct overlap_list *l, const struct overlap *o,
                               uint32_t account, overlap_counts_fn *counts, const void *context)
{
    uint32_t at = 0;
    const struct overlap_claim *c;
    while ((c = table_each(&o->claims, &at)) != NULL)
        if (c->account == account && counts(context, c) &&
            overlap_list_meets(l, filter_of(c), NULL))
            return true;
    return false;
}
