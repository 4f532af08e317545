#include "core/js/directory.h"
#include "core/base/must.h"
#include "core/base/sort.h"
#include "core/route/subject.h"

enum {
    COMPARISONS_MAX = 1 << 18, /* of subjects one by one; more are compared the other way */
    ORDER_CHANGES_MAX = 4096,  /* while nobody asks; then it is made again for who does */
    ORDER_SPARE = 64,          /* entries that come before it grows */
    FEW_MAX = 256,             /* streams with some subject; of more all are looked at */
};

void directory_init(struct directory *d, struct mem *mem, uint64_t seed)
{
    *d = (struct directory){.mem = mem, .seed = seed, .memory_machine = -1, .storage_machine = -1};
    overlap_init(&d->overlap, mem, seed);
    table_init(&d->names, mem, MEM_JETSTREAM);
    table_init(&d->ids, mem, MEM_JETSTREAM);
    table_init(&d->quotas, mem, MEM_JETSTREAM);
    list_init(&d->ending);
}

/* --- finding --------------------------------------------------------------------------------- */

static uint64_t name_key(const struct directory *d, uint32_t account, struct bytes name)
{
    return hash_bytes(name.data, name.len, d->seed + account);
}

static uint64_t number_key(uint64_t number)
{
    return hash_bytes(&number, sizeof number, 0);
}

static struct directory_entry *find(const struct directory *d, uint32_t account, struct bytes name)
{
    uint32_t at;
    uint64_t hash = name_key(d, account, name);
    for (struct directory_entry *e = table_first(&d->names, hash, &at); e != NULL;
         e = table_next(&d->names, hash, &at))
        if (e->account == account && bytes_equal(directory_name(e), name)) return e;
    return NULL;
}

static struct directory_entry *find_id(const struct directory *d, uint64_t stream)
{
    uint32_t at;
    uint64_t hash = number_key(stream);
    for (struct directory_entry *e = table_first(&d->ids, hash, &at); e != NULL;
         e = table_next(&d->ids, hash, &at))
        if (e->stream == stream) return e;
    return NULL;
}

const struct directory_entry *directory_find(const struct directory *d, uint32_t account,
                                             struct bytes name)
{
    return find(d, account, name);
}

const struct directory_entry *directory_find_id(const struct directory *d, uint64_t stream)
{
    return find_id(d, stream);
}

const struct directory_entry *directory_each(const struct directory *d, uint32_t *at)
{
    return table_each(&d->ids, at);
}

bool directory_is_listed(const struct directory_entry *e, uint32_t account, struct bytes filter)
{
    if (e->is_new || e->account != account) return false;
    if (filter.len == 0) return true;
    for (uint32_t i = 0; i < e->subjects.count; i++) {
        const struct overlap_claim *c = e->subjects.claims[i];
        if (subject_collides(bytes_of(c->filter, c->filter_bytes), filter)) return true;
    }
    return false;
}

/* NULL: out of memory. */
static struct quota *quota_of(struct directory *d, uint32_t account)
{
    uint32_t at;
    uint64_t hash = number_key(account);
    for (struct quota *q = table_first(&d->quotas, hash, &at); q != NULL;
         q = table_next(&d->quotas, hash, &at))
        if (q->account == account) return q;
    struct quota *q = mem_alloc_zero(d->mem, MEM_JETSTREAM, sizeof *q);
    if (q == NULL) return NULL;
    q->account = account;
    q->memory.max = q->storage.max = -1;
    if (table_insert(&d->quotas, hash, q) == ERR_OK) return q;
    mem_free(d->mem, MEM_JETSTREAM, q, sizeof *q);
    return NULL;
}

/* --- the order of names ---------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    const struct directory_entry *x = a, *y = b;
    if (x->account != y->account) return x->account < y->account ? -1 : 1;
    return bytes_compare(directory_name(x), directory_name(y));
}

/* Of the first entry that is not below. */
static uint32_t place_of(const struct directory *d, uint64_t account, struct bytes name)
{
    uint32_t low = 0, high = d->order_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct directory_entry *e = d->order[middle];
        if (e->account < account ||
            (e->account == account && bytes_compare(directory_name(e), name) < 0))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void forget_order(struct directory *d)
{
    mem_free(d->mem, MEM_JETSTREAM, d->order, d->order_room * sizeof *d->order);
    d->order = NULL;
    d->order_count = d->order_room = d->order_changes = 0;
}

/* What nearly all comparisons need, side by side: entries lie all over the memory. */
struct sort_item {
    const struct directory_entry *e;
    uint64_t key; /* of the name, behind what all names begin with */
    uint32_t account;
};

static int by_key(const void *a, const void *b)
{
    const struct sort_item *x = a, *y = b;
    if (x->account == y->account && x->key != y->key) return x->key < y->key ? -1 : 1;
    return by_name(x->e, y->e);
}

static uint64_t key_of_name(struct bytes name, uint32_t from)
{
    uint64_t key = 0;
    for (uint32_t i = from; i < from + sizeof key; i++)
        key = key << 8 | (i < name.len ? (unsigned char)name.data[i] : 0);
    return key;
}

static void sort_order(struct directory *d, struct sort_item *items)
{
    uint32_t common = UINT32_MAX;
    for (uint32_t i = 0; i < d->order_count; i++) {
        const struct directory_entry *e = d->order[i], *first = d->order[0];
        uint32_t at = 0;
        if (e->name_bytes < common) common = e->name_bytes;
        while (at < common && e->name[at] == first->name[at]) at++;
        common = at;
        items[i] = (struct sort_item){.e = e, .account = e->account};
    }
    for (uint32_t i = 0; i < d->order_count; i++) {
        items[i].key = key_of_name(directory_name(items[i].e), common);
        d->order[i] = &items[i];
    }
    sort_pointers(d->order, d->order_count, by_key);
    for (uint32_t i = 0; i < d->order_count; i++)
        d->order[i] = ((const struct sort_item *)d->order[i])->e;
}

/* ERR_MEMORY: there is none. */
static enum err make_order(struct directory *d)
{
    uint32_t at = 0;
    const struct directory_entry *e;
    if (d->order != NULL) return ERR_OK;
    uint32_t room = d->ids.count + ORDER_SPARE;
    struct sort_item *items = mem_alloc(d->mem, MEM_JETSTREAM, room * sizeof *items);
    if (items == NULL) return ERR_MEMORY;
    d->order = mem_alloc(d->mem, MEM_JETSTREAM, room * sizeof *d->order);
    if (d->order != NULL) {
        d->order_room = room;
        while ((e = directory_each(d, &at)) != NULL)
            if (!e->is_new) d->order[d->order_count++] = e;
        sort_order(d, items);
    }
    mem_free(d->mem, MEM_JETSTREAM, items, room * sizeof *items);
    return d->order == NULL ? ERR_MEMORY : ERR_OK;
}

/* True: it goes on. */
static bool follow_change(struct directory *d)
{
    if (d->order == NULL) return false;
    if (++d->order_changes <= ORDER_CHANGES_MAX) return true;
    forget_order(d);
    return false;
}

static void show(struct directory *d, struct directory_entry *e)
{
    if (!e->is_new) return;
    e->is_new = false;
    if (!follow_change(d)) return;
    if (d->order_count == d->order_room) { /* made again with more room */
        forget_order(d);
        return;
    }
    uint32_t at = place_of(d, e->account, directory_name(e));
    memmove(&d->order[at + 1], &d->order[at], (d->order_count - at) * sizeof *d->order);
    d->order[at] = e;
    d->order_count++;
}

static void hide(struct directory *d, const struct directory_entry *e)
{
    if (e->is_new || !follow_change(d)) return;
    uint32_t at = place_of(d, e->account, directory_name(e));
    must(at < d->order_count && d->order[at] == e);
    d->order_count--;
    memmove(&d->order[at], &d->order[at + 1], (d->order_count - at) * sizeof *d->order);
}

/* Those that have a subject, as long as they are few. */
struct few {
    struct bytes filter;
    const void *entries[FEW_MAX];
    uint32_t count;
    bool is_full;
};

static bool is_one_too_many(const void *context, const struct overlap_claim *c)
{
    struct few *f = *(struct few *const *)context;
    if (f->count > 0 && f->entries[f->count - 1] == c->owner) return false;
    if (!subject_collides(bytes_of(c->filter, c->filter_bytes), f->filter)) return false;
    f->is_full = f->count == FEW_MAX;
    if (!f->is_full) f->entries[f->count++] = c->owner;
    return f->is_full;
}

/* Of count entries in order those that are listed, once. */
static uint32_t keep_listed(const void *const *from, uint32_t count, const void **to,
                            uint32_t account, struct bytes filter)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++)
        if ((i == 0 || from[i] != from[i - 1]) && directory_is_listed(from[i], account, filter))
            to[kept++] = from[i];
    return kept;
}

enum err directory_list(struct directory *d, struct arena *arena, uint32_t account,
                        struct bytes filter, struct directory_list *out)
{
    struct few few = {.filter = filter}, *asking = &few;
    const void *const *from = few.entries;
    if (filter.len > 0)
        (void)overlap_meets_any(&d->overlap, account, filter, is_one_too_many, &asking);
    if (filter.len == 0 || few.is_full) {
        if (make_order(d) != ERR_OK) return ERR_MEMORY;
        d->order_changes = 0;
        uint32_t first = place_of(d, account, BYTES_LITERAL(""));
        uint32_t end = place_of(d, (uint64_t)account + 1, BYTES_LITERAL(""));
        from = &d->order[first];
        *out = (struct directory_list){from, end - first};
        if (filter.len == 0) return ERR_OK;
    } else {
        sort_pointers(few.entries, few.count, by_name);
        out->count = few.count;
    }
    const void **kept = arena_alloc(arena, (out->count + 1) * sizeof *kept);
    if (kept == NULL) return ERR_MEMORY;
    *out = (struct directory_list){kept, keep_listed(from, out->count, kept, account, filter)};
    return ERR_OK;
}

/* --- subjects -------------------------------------------------------------------------------- */

static void release(struct directory *d, struct directory_subjects *s, uint32_t taken)
{
    for (uint32_t i = 0; i < taken; i++) overlap_release(&d->overlap, s->claims[i]);
    mem_free(d->mem, MEM_JETSTREAM, s->claims, s->count * sizeof *s->claims);
    *s = (struct directory_subjects){0};
}

static enum err take(struct directory *d, const struct directory_entry *e,
                     const struct request_texts *subjects, struct directory_subjects *out)
{
    *out = (struct directory_subjects){.count = subjects->count};
    if (subjects->count == 0) return ERR_OK;
    out->claims = mem_alloc(d->mem, MEM_JETSTREAM, subjects->count * sizeof *out->claims);
    if (out->claims == NULL) {
        out->count = 0;
        return ERR_MEMORY;
    }
    for (uint32_t i = 0; i < subjects->count; i++) {
        enum err result =
            overlap_claim(&d->overlap, e->account, subjects->items[i], e, &out->claims[i]);
        if (result == ERR_OK) continue;
        release(d, out, i);
        return result;
    }
    return ERR_OK;
}

/* A claim, and the entry of the stream itself, if there is one. */
struct claimer {
    const struct directory_ask *ask;
    const struct directory_entry *self;
};

static bool is_other(const void *context, const struct overlap_claim *claim)
{
    const struct claimer *c = context;
    return claim->owner != c->self;
}

static bool is_staying(const void *context, const struct overlap_claim *claim)
{
    const struct claimer *c = context;
    const struct directory_entry *e = claim->owner;
    return e != c->self && e->ending_until_ns <= c->ask->now_ns;
}

/* Subjects with wildcards, each of which may have to go through all claims, are compared the other
 * way where they are many. False: they are to be asked about one by one. */
static bool compare_many(const struct directory *d, const struct claimer *c,
                         overlap_counts_fn *counts, bool *is_met)
{
    const struct request_texts *subjects = &c->ask->subjects;
    uint32_t count = 0, room = subjects->count;
    struct overlap_list list;
    for (uint32_t i = 0; i < room; i++) count += subject_has_wildcard(subjects->items[i]);
    if ((uint64_t)count * d->overlap.claims.count <= COMPARISONS_MAX) return false;
    struct bytes *wild = mem_alloc(d->mem, MEM_JETSTREAM, room * sizeof *wild);
    if (wild == NULL) return false;
    count = 0;
    for (uint32_t i = 0; i < room; i++)
        if (subject_has_wildcard(subjects->items[i])) wild[count++] = subjects->items[i];
    bool is_open = overlap_list_open(&list, d->mem, wild, count) == ERR_OK;
    if (is_open) {
        *is_met = overlap_list_meets_claims(&list, &d->overlap, c->ask->account, counts, c);
        overlap_list_close(&list);
    }
    mem_free(d->mem, MEM_JETSTREAM, wild, room * sizeof *wild);
    return is_open;
}

static bool overlaps(const struct directory *d, const struct claimer *c, overlap_counts_fn *counts)
{
    const struct directory_ask *a = c->ask;
    bool is_met = false, is_compared = compare_many(d, c, counts, &is_met);
    for (uint32_t i = 0; !is_met && i < a->subjects.count; i++)
        if (!is_compared || !subject_has_wildcard(a->subjects.items[i]))
            is_met = overlap_meets_any(&d->overlap, a->account, a->subjects.items[i], counts, c);
    return is_met;
}

/* --- entries --------------------------------------------------------------------------------- */

static struct quota_bytes *bytes_in(struct quota *q, const struct directory_entry *e)
{
    return e->is_memory ? &q->memory : &q->storage;
}

static void reserve(struct directory *d, const struct directory_entry *e, uint64_t more)
{
    struct quota *q = quota_of(d, e->account);
    must(q != NULL); /* there since the entry was made */
    bytes_in(q, e)->reserved += more;
    bytes_in(&d->total, e)->reserved += more;
}

static void count(struct directory *d, const struct directory_entry *e, uint64_t more)
{
    struct quota *q = quota_of(d, e->account);
    must(q != NULL);
    q->streams += more;
    d->total.streams += more;
}

/* What it keeps from others: while it changes, the larger of both. */
static uint64_t bytes_held(const struct directory_entry *e)
{
    return e->is_claimed && e->bytes_wanted > e->bytes ? e->bytes_wanted : e->bytes;
}

static void drop(struct directory *d, struct directory_entry *e)
{
    hide(d, e);
    list_remove(&e->ending);
    reserve(d, e, 0 - bytes_held(e));
    count(d, e, UINT64_MAX);
    release(d, &e->subjects, e->subjects.count);
    release(d, &e->wanted, e->wanted.count);
    must(table_remove(&d->names, name_key(d, e->account, directory_name(e)), e) == ERR_OK);
    must(table_remove(&d->ids, number_key(e->stream), e) == ERR_OK);
    mem_free(d->mem, MEM_JETSTREAM, e, sizeof *e + e->name_bytes);
}

/* New, and without subjects. */
static struct directory_entry *make(struct directory *d, const struct directory_ask *a)
{
    if (quota_of(d, a->account) == NULL) return NULL;
    if (table_reserve(&d->names, d->names.count + 1) != ERR_OK) return NULL;
    if (table_reserve(&d->ids, d->ids.count + 1) != ERR_OK) return NULL;
    struct directory_entry *e = mem_alloc_zero(d->mem, MEM_JETSTREAM, sizeof *e + a->name.len);
    if (e == NULL) return NULL;
    e->stream = a->stream;
    e->account = a->account;
    e->log = a->log;
    e->is_memory = a->is_memory;
    e->is_new = true;
    list_init(&e->ending);
    e->name_bytes = (uint32_t)a->name.len;
    memcpy(e->name, a->name.data, a->name.len);
    must(table_insert(&d->names, name_key(d, a->account, a->name), e) == ERR_OK);
    must(table_insert(&d->ids, number_key(a->stream), e) == ERR_OK);
    count(d, e, 1);
    return e;
}

void directory_deinit(struct directory *d)
{
    uint32_t at = 0;
    struct directory_entry *e;
    forget_order(d);
    while ((e = table_each(&d->ids, &at)) != NULL) {
        drop(d, e);
        at--; /* another one may have moved into its slot */
    }
    struct quota *q;
    at = 0;
    while ((q = table_each(&d->quotas, &at)) != NULL) mem_free(d->mem, MEM_JETSTREAM, q, sizeof *q);
    table_deinit(&d->quotas);
    table_deinit(&d->ids);
    table_deinit(&d->names);
    overlap_deinit(&d->overlap);
}

/* --- claims ---------------------------------------------------------------------------------- */

static uint64_t promised(const struct directory_ask *a)
{
    return a->max_bytes > 0 ? (uint64_t)a->max_bytes : 0;
}

/* What comes back when the deletions that are under way are done. */
struct leaving {
    uint64_t streams, account_bytes, server_bytes;
};

static struct leaving leaving_of(struct directory *d, const struct directory_ask *a,
                                 const struct directory_entry *self)
{
    struct leaving sum = {0};
    struct list *link = d->ending.next;
    while (link != &d->ending) {
        struct directory_entry *e = LIST_OWNER(link, struct directory_entry, ending);
        link = link->next;
        if (e->ending_until_ns <= a->now_ns) {
            list_remove(&e->ending);
        } else if (e != self) {
            uint64_t bytes = e->is_memory == a->is_memory ? bytes_held(e) : 0;
            bool is_own = e->account == a->account;
            sum.streams += is_own;
            sum.account_bytes += is_own ? bytes : 0;
            sum.server_bytes += bytes;
        }
    }
    return sum;
}

static bool may_reserve(struct directory *d, const struct directory_ask *a,
                        const struct directory_entry *e, const struct directory_limits *l,
                        const struct leaving *leaving)
{
    const struct quota nothing = {.account = a->account};
    const struct quota *of_account = quota_of(d, a->account);
    if (of_account == NULL) of_account = &nothing;
    struct quota_bytes account = a->is_memory ? of_account->memory : of_account->storage;
    struct quota_bytes server = a->is_memory ? d->total.memory : d->total.storage;
    account.reserved -= leaving->account_bytes;
    server.reserved -= leaving->server_bytes;
    account.max = a->is_memory ? l->memory : l->storage;
    server.max = a->is_memory ? l->server_memory : l->server_storage;
    if (server.max < 0) server.max = a->is_memory ? d->memory_machine : d->storage_machine;
    uint64_t more = promised(a), before = e == NULL ? 0 : e->bytes;
    /* A new stream without a limit of its own wants a byte at least. */
    if (e == NULL && more == 0) more = 1;
    more = more > before ? more - before : 0;
    return quota_bytes_may_reserve(&account, more) && quota_bytes_may_reserve(&server, more);
}

/* As if what is leaving had gone. */
static enum directory_verdict check_limits(struct directory *d, const struct directory_ask *a,
                                           const struct directory_entry *e,
                                           const struct directory_limits *l,
                                           const struct leaving *leaving)
{
    const struct quota *q = quota_of(d, a->account);
    if (q == NULL) return DIRECTORY_MEMORY;
    if (a->is_new && l->streams > 0 && q->streams - leaving->streams >= (uint64_t)l->streams)
        return DIRECTORY_STREAMS;
    return may_reserve(d, a, e, l, leaving) ? DIRECTORY_GRANTED : DIRECTORY_BYTES;
}

enum directory_verdict directory_claim(struct directory *d, const struct directory_ask *a,
                                       const struct directory_limits *l)
{
    struct directory_entry *e = find(d, a->account, a->name);
    if (e != NULL && e->log != a->log) return DIRECTORY_ELSEWHERE;
    if (e != NULL && e->is_claimed) return DIRECTORY_AGAIN;
    if (e != NULL && a->is_new) {
        drop(d, e); /* its own log knows of none */
        e = NULL;
    }
    if (e == NULL && !a->is_new) return DIRECTORY_MEMORY; /* there was none to enter it */
    struct leaving leaving = {0};
    enum directory_verdict v = check_limits(d, a, e, l, &leaving);
    if (v != DIRECTORY_GRANTED) {
        leaving = leaving_of(d, a, e);
        return check_limits(d, a, e, l, &leaving) == DIRECTORY_GRANTED ? DIRECTORY_AGAIN : v;
    }
    struct claimer c = {a, e};
    if (overlaps(d, &c, is_other))
        return overlaps(d, &c, is_staying) ? DIRECTORY_OVERLAP : DIRECTORY_AGAIN;
    if (e == NULL) e = make(d, a);
    if (e == NULL) return DIRECTORY_MEMORY;
    if (take(d, e, &a->subjects, &e->wanted) != ERR_OK) {
        if (e->is_new) drop(d, e);
        return DIRECTORY_MEMORY;
    }
    e->is_claimed = true;
    e->bytes_wanted = promised(a);
    if (e->bytes_wanted > e->bytes) reserve(d, e, e->bytes_wanted - e->bytes);
    return DIRECTORY_GRANTED;
}

void directory_settle(struct directory *d, uint64_t stream, bool is_done)
{
    struct directory_entry *e = find_id(d, stream);
    if (e == NULL || !e->is_claimed) return;
    if (!is_done && e->is_new) {
        drop(d, e);
        return;
    }
    uint64_t held = e->bytes_wanted > e->bytes ? e->bytes_wanted : e->bytes;
    if (is_done) {
        struct directory_subjects old = e->subjects;
        e->subjects = e->wanted;
        e->wanted = old;
        e->bytes = e->bytes_wanted;
    }
    reserve(d, e, e->bytes - held);
    release(d, &e->wanted, e->wanted.count);
    e->is_claimed = false;
    show(d, e);
}

void directory_end_soon(struct directory *d, uint32_t account, struct bytes name, uint64_t until_ns)
{
    struct directory_entry *e = find(d, account, name);
    if (e == NULL) return;
    e->ending_until_ns = until_ns;
    list_remove(&e->ending);
    list_push(&d->ending, &e->ending);
}

void directory_drop(struct directory *d, uint64_t stream)
{
    struct directory_entry *e = find_id(d, stream);
    if (e != NULL) drop(d, e);
}

enum err directory_enter(struct directory *d, const struct directory_ask *a)
{
    if (find(d, a->account, a->name) != NULL) return ERR_EXISTS;
    struct directory_entry *e = make(d, a);
    if (e == NULL) return ERR_MEMORY;
    enum err result = take(d, e, &a->subjects, &e->subjects);
    if (result != ERR_OK) {
        drop(d, e);
        return result;
    }
    show(d, e);
    e->bytes = promised(a);
    reserve(d, e, e->bytes);
    return ERR_OK;
}
