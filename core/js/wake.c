#include "core/js/wake.h"
#include "core/base/must.h"
#include "core/route/subject.h"

enum { COUNTS_BYTES = (WAKE_PREFIX_TOKENS_MAX + 1) * sizeof(uint32_t) };

void wake_init(struct wake *w, struct mem *mem)
{
    *w = (struct wake){0};
    table_init(&w->leaves, mem, MEM_JETSTREAM);
}

void wake_deinit(struct wake *w)
{
    must(w->leaves.count == 0);
    table_deinit(&w->leaves);
}

/* The literal tokens that a filter begins with. */
static void measure_prefix(struct bytes filter, uint32_t *bytes, uint32_t *tokens)
{
    struct subject_walk walk;
    struct bytes token;
    *bytes = *tokens = 0;
    subject_walk_init(&walk, filter);
    while (*tokens < WAKE_PREFIX_TOKENS_MAX && subject_walk_next(&walk, &token)) {
        if (subject_token_is_star(token) || subject_token_is_rest(token)) return;
        *bytes = (uint32_t)(token.data + token.len - filter.data);
        (*tokens)++;
    }
}

static uint64_t hash_of(struct bytes prefix)
{
    return hash_bytes(prefix.data, prefix.len, 0);
}

static struct bytes filter_of(const struct wake_leaf *l)
{
    return bytes_of(l->filter, l->filter_bytes);
}

static struct bytes prefix_of(const struct wake_leaf *l)
{
    return bytes_of(l->filter, l->prefix_bytes);
}

static struct wake_leaf *find(const struct wake *w, struct bytes filter, uint64_t hash)
{
    uint32_t at;
    for (struct wake_leaf *l = table_first(&w->leaves, hash, &at); l != NULL;
         l = table_next(&w->leaves, hash, &at))
        if (bytes_equal(filter_of(l), filter)) return l;
    return NULL;
}

static size_t leaf_bytes(size_t filter_bytes)
{
    return sizeof(struct wake_leaf) + filter_bytes;
}

/* A stream whose consumers nobody uses holds nothing here. */
static void drop_empty(struct wake *w)
{
    if (w->leaves.count > 0) return;
    table_deinit(&w->leaves);
    mem_free(w->leaves.mem, MEM_JETSTREAM, w->leaf_counts, COUNTS_BYTES);
    w->leaf_counts = NULL;
}

static enum err add_leaf(struct wake *w, struct bytes filter, uint32_t bytes, uint32_t tokens,
                         struct wake_leaf **out)
{
    if (w->leaf_counts == NULL)
        w->leaf_counts = mem_alloc_zero(w->leaves.mem, MEM_JETSTREAM, COUNTS_BYTES);
    if (w->leaf_counts == NULL) return ERR_MEMORY;
    enum err e = ERR_MEMORY;
    struct wake_leaf *l = mem_alloc(w->leaves.mem, MEM_JETSTREAM, leaf_bytes(filter.len));
    if (l == NULL) goto drop;
    *l = (struct wake_leaf){
        .prefix_bytes = bytes, .prefix_tokens = tokens, .filter_bytes = (uint32_t)filter.len};
    list_init(&l->waiting);
    memcpy(l->filter, filter.data, filter.len);
    e = table_insert(&w->leaves, hash_of(prefix_of(l)), l);
    if (e != ERR_OK) goto free;
    w->leaf_counts[tokens]++;
    *out = l;
    return ERR_OK;
free:
    mem_free(w->leaves.mem, MEM_JETSTREAM, l, leaf_bytes(filter.len));
drop:
    drop_empty(w);
    return e;
}

enum err wake_join(struct wake *w, struct bytes filter, struct wake_entry *e, void *owner)
{
    uint32_t bytes, tokens;
    if (filter.len == 0) filter = BYTES_LITERAL(">");
    measure_prefix(filter, &bytes, &tokens);
    struct wake_leaf *l = find(w, filter, hash_of(bytes_of(filter.data, bytes)));
    if (l == NULL) {
        enum err err = add_leaf(w, filter, bytes, tokens, &l);
        if (err != ERR_OK) return err;
    }
    l->member_count++;
    *e = (struct wake_entry){.leaf = l, .owner = owner};
    list_init(&e->link);
    return ERR_OK;
}

void wake_leave(struct wake *w, struct wake_entry *e)
{
    struct wake_leaf *l = e->leaf;
    wake_stop(w, e);
    must(l->member_count > 0);
    if (--l->member_count > 0) return;
    must(table_remove(&w->leaves, hash_of(prefix_of(l)), l) == ERR_OK);
    w->leaf_counts[l->prefix_tokens]--;
    mem_free(w->leaves.mem, MEM_JETSTREAM, l, leaf_bytes(l->filter_bytes));
    drop_empty(w);
}

void wake_wait(struct wake *w, struct wake_entry *e)
{
    if (e->is_waiting) return;
    e->is_waiting = true;
    list_push(&e->leaf->waiting, &e->link);
    w->waiting_count++;
}

void wake_stop(struct wake *w, struct wake_entry *e)
{
    list_remove(&e->link);
    if (!e->is_waiting) return;
    e->is_waiting = false;
    w->waiting_count--;
}

static void take(struct wake *w, struct wake_leaf *l, struct list *out)
{
    struct list *link;
    while ((link = list_pop(&l->waiting)) != NULL) {
        LIST_OWNER(link, struct wake_entry, link)->is_waiting = false;
        w->waiting_count--;
        list_push(out, link);
    }
}

/* Leaves whose prefix is the first bytes of the subject. */
static void look(struct wake *w, struct bytes subject, size_t bytes, struct list *out)
{
    uint32_t at;
    struct bytes prefix = bytes_of(subject.data, bytes);
    uint64_t hash = hash_of(prefix);
    for (struct wake_leaf *l = table_first(&w->leaves, hash, &at); l != NULL;
         l = table_next(&w->leaves, hash, &at))
        if (!list_is_empty(&l->waiting) && bytes_equal(prefix_of(l), prefix) &&
            subject_matches(subject, filter_of(l)))
            take(w, l, out);
}

void wake_stored(struct wake *w, struct bytes subject, struct list *out)
{
    struct subject_walk walk;
    struct bytes token;
    if (w->waiting_count == 0) return;
    if (w->leaf_counts[0] > 0) look(w, subject, 0, out);
    subject_walk_init(&walk, subject);
    for (uint32_t tokens = 1; tokens <= WAKE_PREFIX_TOKENS_MAX && subject_walk_next(&walk, &token);
         tokens++)
        if (w->leaf_counts[tokens] > 0)
            look(w, subject, (size_t)(token.data + token.len - subject.data), out);
}
