#include "core/js/subject_index.h"
#include <string.h>
#include "core/js/subject_index_branch.h"

enum {
    LIST_ROOM_MIN = 4,
    /* A limit that is lowered leaves more than LIST_MAX for a moment; beyond, the list is given
     * up. */
    LIST_ROOM_MAX = 2 * SUBJECT_INDEX_LIST_MAX,
    RUN_NODES_MIN = 4,
    BYTES_KEPT_MAX = 4096, /* an index that runs empty keeps memory up to here */
};

/* The sequences of one subject in order, at seqs[0 .. count). */
struct list {
    uint32_t count, room;
    uint64_t seqs[];
};

static struct list *list_of(const struct subject_index *x, const struct subject_node *n)
{
    return n->list == 0 ? NULL : cells_at(&x->cells, n->list);
}

static bool has_list(const struct subject_index *x, const struct subject_node *n)
{
    return n->list != 0 && !x->is_listing;
}

static size_t list_bytes(uint32_t room)
{
    return sizeof(struct list) + room * sizeof(uint64_t);
}

static size_t key_bytes(size_t len)
{
    return sizeof(struct subject_index_key) + len;
}

static size_t branch_bytes(uint32_t room)
{
    return sizeof(struct subject_index_branch) + (size_t)room * 5;
}

/* As many children as the block for at least child_count of them holds. */
static uint32_t branch_room(uint32_t child_count)
{
    return (
        uint32_t)((cells_room(branch_bytes(child_count)) - sizeof(struct subject_index_branch)) /
                  5);
}

void subject_index_init(struct subject_index *x, struct mem *mem, uint32_t list_max)
{
    must(list_max <= SUBJECT_INDEX_LIST_MAX);
    *x = (struct subject_index){.mem = mem,
                                .node_free = MSGS_NODE_NONE,
                                .root = MSGS_NODE_NONE,
                                .list_max = (uint8_t)list_max};
    cells_init(&x->cells, mem);
}

static uint32_t run_nodes(const struct subject_index *x, uint32_t run)
{
    return run + 1 < x->run_count ? SUBJECT_INDEX_RUN_NODES
                                  : x->node_room - run * SUBJECT_INDEX_RUN_NODES;
}

void subject_index_clear(struct subject_index *x)
{
    for (uint32_t i = 0; i < x->run_count; i++)
        mem_free(x->mem, MEM_JETSTREAM, x->runs[i], run_nodes(x, i) * sizeof *x->runs[i]);
    mem_free(x->mem, MEM_JETSTREAM, x->runs, x->run_room * sizeof *x->runs);
    cells_clear(&x->cells);
    uint32_t renewals = x->renewals;
    subject_index_init(x, x->mem, x->list_max);
    x->renewals = renewals + 1;
}

size_t subject_index_bytes(const struct subject_index *x)
{
    return x->cells.bytes_taken + x->node_room * sizeof(struct subject_node) +
           x->run_room * sizeof *x->runs;
}

/* --- records ----------------------------------------------------------------------------- */

/* Makes node_room larger: the first run doubles until it is full size, then whole runs follow. */
static enum err records_grow(struct subject_index *x)
{
    if (x->node_room < SUBJECT_INDEX_RUN_NODES) {
        uint32_t room = x->node_room == 0 ? RUN_NODES_MIN : x->node_room * 2;
        if (x->run_room == 0) {
            x->runs = mem_alloc(x->mem, MEM_JETSTREAM, sizeof *x->runs);
            if (x->runs == NULL) return ERR_MEMORY;
            x->run_room = 1;
        }
        struct subject_node *grown =
            mem_resize(x->mem, MEM_JETSTREAM, x->run_count == 0 ? NULL : x->runs[0],
                       x->node_room * sizeof *grown, room * sizeof *grown);
        if (grown == NULL) return ERR_MEMORY;
        x->runs[0] = grown;
        x->run_count = 1;
        x->node_room = room;
        return ERR_OK;
    }
    if (x->node_room >= SUBJECT_INDEX_BRANCH_BIT - SUBJECT_INDEX_RUN_NODES) return ERR_FULL;
    if (x->run_count == x->run_room) {
        struct subject_node **runs =
            mem_resize(x->mem, MEM_JETSTREAM, x->runs, x->run_room * sizeof *runs,
                       2 * x->run_room * sizeof *runs);
        if (runs == NULL) return ERR_MEMORY;
        x->runs = runs;
        x->run_room *= 2;
    }
    struct subject_node *run =
        mem_alloc(x->mem, MEM_JETSTREAM, SUBJECT_INDEX_RUN_NODES * sizeof *run);
    if (run == NULL) return ERR_MEMORY;
    x->runs[x->run_count++] = run;
    x->node_room += SUBJECT_INDEX_RUN_NODES;
    return ERR_OK;
}

/* A record with its key and one claim, in no branch yet. ERR_MEMORY, ERR_FULL: nothing changed. */
static enum err leaf_make(struct subject_index *x, struct bytes subject, uint32_t *node)
{
    if (x->node_free == MSGS_NODE_NONE && x->node_end == x->node_room) {
        enum err e = records_grow(x);
        if (e != ERR_OK) return e;
    }
    uint32_t cell = cells_alloc(&x->cells, key_bytes(subject.len));
    if (cell == 0) return ERR_MEMORY;
    struct subject_index_key *key = cells_at(&x->cells, cell);
    key->len = (uint16_t)subject.len;
    memcpy(key->text, subject.data, subject.len);
    if (x->node_free != MSGS_NODE_NONE) {
        *node = x->node_free;
        x->node_free = subject_index_record(x, *node)->list;
        x->renewals++;
    } else {
        *node = x->node_end++;
    }
    *subject_index_record(x, *node) = (struct subject_node){.claims = 1, .key = cell};
    return ERR_OK;
}

static void leaf_free(struct subject_index *x, uint32_t node)
{
    struct subject_node *n = subject_index_record(x, node);
    must(n->count == 0);
    must(n->claims == 0);
    must(n->list == 0);
    cells_free(&x->cells, n->key, key_bytes(subject_index_key_of(x, node).len));
    *n = (struct subject_node){.list = x->node_free};
    x->node_free = node;
}

/* --- the trie ---------------------------------------------------------------------------- */

/* The leaf that has the most in common with the subject, among others perhaps; the trie is not
 * empty. */
static uint32_t nearest(const struct subject_index *x, struct bytes subject)
{
    uint32_t link = x->root;
    while (subject_index_is_branch(link)) {
        struct subject_index_branch *b = subject_index_branch_at(x, link);
        const uint32_t *next = subject_index_step(b, subject);
        if (next == NULL) return b->witness;
        link = *next;
    }
    return link;
}

static uint32_t common_bytes(struct bytes a, struct bytes b)
{
    size_t end = a.len < b.len ? a.len : b.len, i = 0;
    while (i + sizeof(uint64_t) <= end && memcmp(a.data + i, b.data + i, sizeof(uint64_t)) == 0)
        i += sizeof(uint64_t);
    while (i < end && a.data[i] == b.data[i]) i++;
    return (uint32_t)i;
}

uint32_t subject_index_find(const struct subject_index *x, struct bytes subject)
{
    uint32_t link = x->root;
    while (subject_index_is_branch(link)) {
        const uint32_t *next = subject_index_step(subject_index_branch_at(x, link), subject);
        if (next == NULL) return MSGS_NODE_NONE;
        link = *next;
    }
    if (link == MSGS_NODE_NONE) return link;
    return bytes_equal(subject_index_key_of(x, link), subject) ? link : MSGS_NODE_NONE;
}

static uint16_t count_tokens(struct bytes subject)
{
    uint32_t tokens = 1;
    for (size_t i = 0; i < subject.len; i++) tokens += subject.data[i] == '.';
    return (uint16_t)(tokens < UINT16_MAX ? tokens : UINT16_MAX);
}

static void widen_tokens(struct subject_index_branch *b, uint16_t tokens)
{
    if (tokens < b->tokens_min) b->tokens_min = tokens;
    if (tokens > b->tokens_max) b->tokens_max = tokens;
}

/* A branch of another size with the same contents. NULL: no memory. The old one stays. */
static struct subject_index_branch *branch_copy(struct subject_index *x, uint32_t link,
                                                uint32_t room, uint32_t *copy_link)
{
    uint32_t cell = cells_alloc(&x->cells, branch_bytes(room));
    if (cell == 0) return NULL;
    struct subject_index_branch *old = subject_index_branch_at(x, link);
    struct subject_index_branch *b = cells_at(&x->cells, cell);
    *b = *old;
    b->room = (uint16_t)room;
    memcpy(b->links, old->links, old->child_count * sizeof *b->links);
    memcpy(subject_index_bytes_of(b), subject_index_bytes_of(old), old->child_count);
    *copy_link = cell | SUBJECT_INDEX_BRANCH_BIT;
    return b;
}

static void branch_free(struct subject_index *x, uint32_t link)
{
    cells_free(&x->cells, link & ~SUBJECT_INDEX_BRANCH_BIT,
               branch_bytes(subject_index_branch_at(x, link)->room));
}

/* Hangs link below the branch for subjects that go on as subject does; there is room. */
static void branch_put(struct subject_index_branch *b, struct bytes subject, uint32_t link)
{
    if (subject.len == b->depth) {
        must(b->end == MSGS_NODE_NONE);
        b->end = link;
        return;
    }
    must(b->child_count < b->room);
    unsigned char byte = (unsigned char)subject.data[b->depth];
    unsigned char *bytes = subject_index_bytes_of(b);
    uint32_t i = subject_index_child_from(b, byte), behind = b->child_count - i;
    memmove(&bytes[i + 1], &bytes[i], behind);
    memmove(&b->links[i + 1], &b->links[i], behind * sizeof *b->links);
    bytes[i] = byte;
    b->links[i] = link;
    b->child_count++;
}

/* Puts the leaf where its subject parts from its nearest one, at byte `parting`. ERR_MEMORY:
 * nothing changed. */
static enum err leaf_insert(struct subject_index *x, uint32_t leaf, uint32_t parting)
{
    struct bytes subject = subject_index_key_of(x, leaf);
    uint16_t tokens = count_tokens(subject);
    uint32_t *place = &x->root;
    while (subject_index_is_branch(*place)) {
        struct subject_index_branch *b = subject_index_branch_at(x, *place);
        if (b->depth >= parting) break;
        place = subject_index_step(b, subject);
        must(place != NULL);
    }

    uint32_t old = *place, link;
    if (subject_index_is_branch(old) && subject_index_branch_at(x, old)->depth == parting) {
        struct subject_index_branch *b = subject_index_branch_at(x, old);
        if (subject.len > parting && b->child_count == b->room) {
            b = branch_copy(x, old, branch_room(b->child_count + 1u), &link);
            if (b == NULL) return ERR_MEMORY;
            branch_free(x, old);
            *place = link;
        }
        branch_put(b, subject, leaf);
    } else {
        uint32_t room = branch_room(2), cell = cells_alloc(&x->cells, branch_bytes(room));
        if (cell == 0) return ERR_MEMORY;
        struct subject_index_branch *b = cells_at(&x->cells, cell);
        uint32_t witness = subject_index_leaf_of(x, old);
        struct bytes other = subject_index_key_of(x, witness);
        *b = (struct subject_index_branch){.end = MSGS_NODE_NONE,
                                           .witness = witness,
                                           .depth = (uint16_t)parting,
                                           .room = (uint16_t)room};
        if (subject_index_is_branch(old)) {
            const struct subject_index_branch *below = subject_index_branch_at(x, old);
            b->msgs = below->msgs;
            b->keys = below->keys;
            b->tokens_min = below->tokens_min;
            b->tokens_max = below->tokens_max;
        } else {
            b->msgs = x->is_bulk ? 0 : subject_index_record(x, old)->count;
            b->keys = b->msgs > 0;
            b->tokens_min = b->tokens_max = count_tokens(other);
        }
        branch_put(b, other, old);
        branch_put(b, subject, leaf);
        *place = cell | SUBJECT_INDEX_BRANCH_BIT;
    }

    for (link = x->root; link != leaf;
         link = *subject_index_step(subject_index_branch_at(x, link), subject))
        widen_tokens(subject_index_branch_at(x, link), tokens);
    return ERR_OK;
}

static enum err claim(struct subject_index *x, uint32_t node)
{
    struct subject_node *n = subject_index_record(x, node);
    if (n->claims == (1u << 20) - 1) return ERR_FULL;
    n->claims++;
    x->claim_count++;
    return ERR_OK;
}

static enum err intern(struct subject_index *x, struct bytes subject, uint32_t *node, bool *is_new)
{
    uint32_t parting = 0, leaf;
    if (x->root != MSGS_NODE_NONE) {
        uint32_t near = nearest(x, subject);
        struct bytes other = subject_index_key_of(x, near);
        parting = common_bytes(subject, other);
        if (parting == subject.len && parting == other.len) {
            *node = near;
            *is_new = false;
            return claim(x, near);
        }
    }
    enum err e = leaf_make(x, subject, &leaf);
    if (e != ERR_OK) return e;
    if (x->root == MSGS_NODE_NONE) {
        x->root = leaf;
    } else {
        e = leaf_insert(x, leaf, parting);
        if (e != ERR_OK) {
            subject_index_record(x, leaf)->claims = 0;
            leaf_free(x, leaf);
            return e;
        }
    }
    x->leaf_count++;
    x->claim_count++;
    *node = leaf;
    *is_new = true;
    return ERR_OK;
}

static bool is_guess(const struct subject_index *x, struct bytes subject)
{
    return x->is_in_order && x->guess < x->node_end &&
           subject_index_record(x, x->guess)->key != 0 &&
           bytes_equal(subject_index_key_of(x, x->guess), subject);
}

enum err subject_index_intern(struct subject_index *x, struct bytes subject, uint32_t *node,
                              bool *is_new)
{
    must(subject.len > 0);
    if (subject.len > SUBJECT_INDEX_BYTES_MAX) return ERR_TOO_LONG;
    if (!x->is_bulk) return intern(x, subject, node, is_new);
    enum err e;
    if (is_guess(x, subject)) {
        *node = x->guess;
        *is_new = false;
        e = claim(x, *node);
    } else {
        e = intern(x, subject, node, is_new);
        if (e == ERR_OK) x->is_in_order = *node == x->guess;
    }
    if (e == ERR_OK) x->guess = *node + 1 < x->node_end ? *node + 1 : 0;
    return e;
}

/* Takes a leaf with neither message nor claim out of the trie and frees it. */
static void leaf_unlink(struct subject_index *x, uint32_t leaf)
{
    struct bytes subject = subject_index_key_of(x, leaf);
    uint32_t *place = &x->root, *above = NULL; /* above: the place of the last branch */
    while (*place != leaf) {
        above = place;
        place = subject_index_step(subject_index_branch_at(x, *place), subject);
        must(place != NULL);
    }
    if (above == NULL) {
        x->root = MSGS_NODE_NONE;
    } else {
        uint32_t link = *above;
        struct subject_index_branch *b = subject_index_branch_at(x, link);
        if (place == &b->end) {
            b->end = MSGS_NODE_NONE;
        } else {
            uint32_t i = (uint32_t)(place - b->links), behind = b->child_count - i - 1;
            unsigned char *bytes = subject_index_bytes_of(b);
            memmove(&bytes[i], &bytes[i + 1], behind);
            memmove(&b->links[i], &b->links[i + 1], behind * sizeof *b->links);
            b->child_count--;
        }
        /* Any other child: it lies below each branch of the path as well. */
        uint32_t other = b->child_count > 0 ? b->links[0] : b->end;
        uint32_t witness = subject_index_leaf_of(x, other), copy;
        if (b->child_count + (b->end != MSGS_NODE_NONE) == 1) {
            *above = other;
            branch_free(x, link);
        } else if (b->child_count * 2 < b->room && b->room > branch_room(2) &&
                   branch_copy(x, link, branch_room(b->child_count > 2 ? b->child_count : 2),
                               &copy) != NULL) {
            branch_free(x, link);
            *above = copy;
        }
        for (link = x->root; subject_index_is_branch(link);) {
            b = subject_index_branch_at(x, link);
            if (b->witness == leaf) b->witness = witness;
            const uint32_t *next = subject_index_step(b, subject);
            if (next == NULL) break;
            link = *next;
        }
    }
    leaf_free(x, leaf);
    x->leaf_count--;
    if (x->leaf_count == 0 && subject_index_bytes(x) > BYTES_KEPT_MAX) subject_index_clear(x);
}

/* Adds to the counts of all branches above the node; the differences may be negative. */
static void path_count(struct subject_index *x, uint32_t node, int64_t msgs, int32_t keys)
{
    struct bytes subject = subject_index_key_of(x, node);
    uint32_t link = x->root;
    while (link != node) {
        struct subject_index_branch *b = subject_index_branch_at(x, link);
        b->msgs += (uint64_t)msgs;
        b->keys += (uint32_t)keys;
        const uint32_t *next = subject_index_step(b, subject);
        must(next != NULL);
        link = *next;
    }
    x->msg_count += (uint64_t)msgs;
    x->key_count += (uint32_t)keys;
}

/* --- sequence lists ---------------------------------------------------------------------- */

static void list_drop(struct subject_index *x, struct subject_node *n)
{
    struct list *l = list_of(x, n);
    if (l == NULL) return;
    cells_free(&x->cells, n->list, list_bytes(l->room));
    n->list = 0;
}

/* A list with room, what n's list holds moved over. False: no memory, or too many. */
static bool list_resize(struct subject_index *x, struct subject_node *n, uint32_t room)
{
    if (room > LIST_ROOM_MAX) return false;
    uint32_t cell = cells_alloc(&x->cells, list_bytes(room));
    if (cell == 0) return false;
    struct list *grown = cells_at(&x->cells, cell), *old = list_of(x, n);
    *grown = (struct list){.room = room};
    if (old != NULL) {
        must(old->count <= room);
        grown->count = old->count;
        memcpy(grown->seqs, old->seqs, old->count * sizeof *old->seqs);
        list_drop(x, n);
    }
    n->list = cell;
    return true;
}

/* A third message makes the list; before, first and last are all there is. */
static void list_add(struct subject_index *x, struct subject_node *n, uint64_t seq)
{
    struct list *l = list_of(x, n);
    if (x->is_listing) return; /* it is met later */
    if (l == NULL) {
        if (n->count != 2 || n->first_stale || n->last_stale) return;
        if (!list_resize(x, n, LIST_ROOM_MIN)) return;
        l = list_of(x, n);
        l->seqs[0] = n->first;
        l->seqs[1] = n->last;
        l->count = 2;
    } else if (l->count == l->room) {
        if (!list_resize(x, n, l->room * 2)) {
            list_drop(x, n); /* searched from now on */
            return;
        }
        l = list_of(x, n);
    }
    l->seqs[l->count++] = seq;
}

/* The first entry >= seq, or count. */
static uint32_t list_lower_bound(const struct list *l, uint64_t seq)
{
    uint32_t low = 0, high = l->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (l->seqs[middle] < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void list_take(struct list *l, uint64_t seq)
{
    uint32_t i = list_lower_bound(l, seq);
    must(i < l->count);
    must(l->seqs[i] == seq);
    memmove(&l->seqs[i], &l->seqs[i + 1], (l->count - i - 1) * sizeof *l->seqs);
    l->count--;
}

static void list_remove(struct subject_index *x, struct subject_node *n, uint64_t seq)
{
    struct list *l = list_of(x, n);
    list_take(l, seq);
    n->first = l->seqs[0];
    n->last = l->seqs[l->count - 1];
    n->first_stale = n->last_stale = 0;
    if (l->count <= 2)
        list_drop(x, n);
    else if (l->count * 4 <= l->room)
        (void)!list_resize(x, n, l->room / 2); /* stays as large as it is without memory */
}

/* Of one that is being made, or given up: it may not be in it yet. */
static void list_forget(struct list *l, uint64_t seq)
{
    uint32_t i = list_lower_bound(l, seq);
    if (i < l->count && l->seqs[i] == seq) list_take(l, seq);
}

/* --- messages ---------------------------------------------------------------------------- */

static struct subject_node *used_record(const struct subject_index *x, uint32_t node)
{
    must(node < x->node_end);
    struct subject_node *n = subject_index_record(x, node);
    must(n->key != 0);
    return n;
}

void subject_index_add(struct subject_index *x, uint32_t node, uint64_t seq)
{
    struct subject_node *n = used_record(x, node);
    must(n->claims > 0);
    n->claims--;
    x->claim_count--;
    if (n->count == 0) {
        n->first = seq;
        n->first_stale = 0;
    } else {
        must(seq > n->last);
        if (x->list_max > 0) list_add(x, n, seq);
    }
    n->last = seq;
    n->last_stale = 0;
    if (!x->is_bulk) path_count(x, node, 1, n->count == 0);
    n->count++;
}

void subject_index_bulk_begin(struct subject_index *x)
{
    must(x->root == MSGS_NODE_NONE);
    x->is_bulk = true;
}

void subject_index_bulk_end(struct subject_index *x)
{
    if (!x->is_bulk) return;
    x->is_bulk = false;
    for (uint32_t node = 0; node < x->node_end; node++) {
        const struct subject_node *n = subject_index_record(x, node);
        if (n->key != 0 && n->count > 0) path_count(x, node, (int64_t)n->count, 1);
    }
}

void subject_index_drop(struct subject_index *x, uint32_t node)
{
    struct subject_node *n = used_record(x, node);
    must(n->claims > 0);
    n->claims--;
    x->claim_count--;
    if (n->claims == 0 && n->count == 0) leaf_unlink(x, node);
}

/* first and last after the removal of seq without a list; count is what is left, not 0. */
static void bounds_after(struct subject_node *n, uint64_t seq)
{
    must(seq >= n->first);
    must(seq <= n->last);
    if (seq == n->first) {
        n->first = seq + 1;
        n->first_stale = 1;
    }
    if (seq == n->last) {
        n->last = seq - 1;
        n->last_stale = 1;
    }
    if (n->count == 1 && !n->first_stale) {
        n->last = n->first;
        n->last_stale = 0;
    } else if (n->count == 1 && !n->last_stale) {
        n->first = n->last;
        n->first_stale = 0;
    }
}

bool subject_index_remove(struct subject_index *x, uint32_t node, uint64_t seq)
{
    struct subject_node *n = used_record(x, node);
    must(!x->is_bulk);
    must(n->count > 0);
    path_count(x, node, -1, n->count == 1 ? -1 : 0);
    n->count--;
    n->waits = 0;
    if (n->count == 0) {
        list_drop(x, n);
        if (n->claims == 0) leaf_unlink(x, node);
        return true;
    }
    if (has_list(x, n)) {
        list_remove(x, n, seq);
        return false;
    }
    if (n->list != 0) list_forget(list_of(x, n), seq);
    bounds_after(n, seq);
    return false;
}

void subject_index_purge(struct subject_index *x)
{
    if (x->claim_count == 0) {
        subject_index_clear(x);
        return;
    }
    for (uint32_t node = 0; node < x->node_end; node++) {
        struct subject_node *n = subject_index_record(x, node);
        if (n->key == 0 || n->count == 0) continue;
        list_drop(x, n);
        path_count(x, node, -(int64_t)n->count, -1);
        n->count = n->waits = 0;
        if (n->claims == 0) leaf_unlink(x, node);
    }
}

bool subject_index_is_used(const struct subject_index *x, uint32_t node)
{
    return node < x->node_end && subject_index_record(x, node)->key != 0;
}

const struct subject_node *subject_index_node(const struct subject_index *x, uint32_t node)
{
    return used_record(x, node);
}

void subject_index_set_waits(struct subject_index *x, uint32_t node, bool waits)
{
    used_record(x, node)->waits = waits;
}

struct bytes subject_index_subject(const struct subject_index *x, uint32_t node)
{
    (void)used_record(x, node);
    return subject_index_key_of(x, node);
}

uint64_t subject_index_first(struct subject_index *x, const struct msgs *msgs, uint32_t node)
{
    struct subject_node *n = used_record(x, node);
    must(n->count > 0);
    if (n->first_stale) {
        n->first = msgs_next_of_node(msgs, n->first, node);
        must(n->first != 0);
        n->first_stale = 0;
    }
    return n->first;
}

uint64_t subject_index_last(struct subject_index *x, const struct msgs *msgs, uint32_t node)
{
    struct subject_node *n = used_record(x, node);
    must(n->count > 0);
    if (n->last_stale) {
        n->last = msgs_prev_of_node(msgs, n->last, node);
        must(n->last != 0);
        n->last_stale = 0;
    }
    return n->last;
}

/* Without a search, where that can be: *found is the answer. */
static bool next_at_once(const struct subject_index *x, uint32_t node, uint64_t seq,
                         uint64_t *found)
{
    const struct subject_node *n = used_record(x, node);
    *found = 0;
    if (n->count == 0 || seq > n->last) return true;
    if (seq <= n->first) {
        *found = n->first;
        return !n->first_stale;
    }
    if (has_list(x, n)) {
        const struct list *l = list_of(x, n);
        uint32_t i = list_lower_bound(l, seq);
        if (i < l->count) *found = l->seqs[i]; /* last may be a bound */
        return true;
    }
    *found = n->last;
    return n->count <= 2 && !n->first_stale && !n->last_stale;
}

uint64_t subject_index_next(struct subject_index *x, const struct msgs *msgs, uint32_t node,
                            uint64_t seq)
{
    uint64_t found;
    if (next_at_once(x, node, seq, &found)) return found;
    const struct subject_node *n = used_record(x, node);
    if (seq <= n->first) return subject_index_first(x, msgs, node);
    return msgs_next_of_node(msgs, seq, node);
}

uint64_t subject_index_next_within(const struct subject_index *x, const struct msgs *msgs,
                                   uint32_t node, uint64_t seq, uint32_t *left, uint64_t *resume)
{
    uint64_t found;
    *resume = 0;
    if (next_at_once(x, node, seq, &found)) return found;
    const struct subject_node *n = used_record(x, node);
    return msgs_next_of_node_within(msgs, seq > n->first ? seq : n->first, node, left, resume);
}

uint64_t subject_index_last_within(const struct subject_index *x, const struct msgs *msgs,
                                   uint32_t node, uint64_t to, uint32_t *left, uint64_t *resume)
{
    const struct subject_node *n = used_record(x, node);
    *resume = 0;
    if (n->count == 0 || to < n->first) return 0;
    if (n->last <= to && !n->last_stale) return n->last;
    if (to > n->last) to = n->last;
    if (has_list(x, n)) {
        const struct list *l = list_of(x, n);
        uint32_t end = list_lower_bound(l, to + 1);
        return end > 0 ? l->seqs[end - 1] : 0; /* first may be a bound */
    }
    if (n->count <= 2 && !n->first_stale && !n->last_stale) return n->first;
    return msgs_prev_of_node_within(msgs, to, node, left, resume);
}

uint64_t subject_index_count_from(const struct subject_index *x, const struct msgs *msgs,
                                  uint32_t node, uint64_t seq)
{
    const struct subject_node *n = used_record(x, node);
    if (n->count == 0 || seq > n->last) return 0;
    if (seq <= n->first) return n->count;
    if (has_list(x, n)) {
        const struct list *l = list_of(x, n);
        return l->count - list_lower_bound(l, seq);
    }
    if (n->count <= 2 && !n->first_stale && !n->last_stale) return 1;
    /* The shorter side of seq, by sequences. */
    if (seq - n->first < n->last - seq)
        return n->count - msgs_count_of_node(msgs, n->first, seq - 1, node);
    return msgs_count_of_node(msgs, seq, n->last, node);
}

void subject_index_list_begin(struct subject_index *x, uint32_t list_max)
{
    must(list_max <= SUBJECT_INDEX_LIST_MAX);
    bool is_other = (x->list_max == 0) != (list_max == 0);
    x->list_max = (uint8_t)list_max;
    if (!is_other) return;
    x->is_listing = true;
}

/* Of one subject: makes room, or gives it back. */
static void list_prepare(struct subject_index *x, struct subject_node *n)
{
    uint32_t room = LIST_ROOM_MIN;
    list_drop(x, n);
    if (x->list_max == 0 || n->count < 3) return;
    while (room < n->count && room <= LIST_ROOM_MAX) room *= 2;
    (void)!list_resize(x, n, room); /* too long or no memory: searched */
}

static void list_meet(struct subject_index *x, struct subject_node *n, uint64_t seq)
{
    struct list *l = list_of(x, n);
    if (l == NULL) return;
    if (l->count == l->room) {
        list_drop(x, n); /* more came meanwhile */
        return;
    }
    if (l->count == 0) {
        n->first = seq;
        n->first_stale = 0;
    }
    l->seqs[l->count++] = seq;
}

bool subject_index_list_step(struct subject_index *x, const struct msgs *msgs,
                             struct subject_index_listing *at, uint32_t *left)
{
    struct msgs_cursor cursor;
    struct msgs_entry entry;
    uint64_t seq;
    if (!x->is_listing) return false;
    for (; at->node < x->node_end; at->node++) {
        if (*left < SUBJECT_INDEX_LIST_COST) return true;
        *left -= SUBJECT_INDEX_LIST_COST;
        struct subject_node *n = subject_index_record(x, at->node);
        if (n->key != 0) list_prepare(x, n);
    }
    msgs_cursor_init(&cursor, msgs, at->seq);
    while (x->list_max > 0 && (seq = msgs_cursor_next(&cursor, &entry)) != 0) {
        if (*left < SUBJECT_INDEX_LIST_COST) return true;
        *left -= SUBJECT_INDEX_LIST_COST;
        list_meet(x, used_record(x, entry.node), seq);
        at->seq = seq + 1;
    }
    x->is_listing = false;
    return false;
}

void subject_index_set_list_max(struct subject_index *x, const struct msgs *msgs, uint32_t list_max)
{
    uint32_t left;
    struct subject_index_listing at = {0};
    subject_index_list_begin(x, list_max);
    do left = UINT32_MAX;
    while (subject_index_list_step(x, msgs, &at, &left));
}
