#include "core/js/msgs.h"
#include <string.h>
#include "core/base/must.h"
#include "core/js/column.h"

enum {
    ROOM_MIN = 8,        /* of the first block: an idle stream is small */
    SPARE_ROOM_MAX = 64, /* a block emptied by acks is kept for the next message up to this size */
    SLOTS_MIN = 4,
    SCAN_STEP = 32, /* entries compared before the result is looked at: lets it be vectors */
    /* Three quarters: below, a sealed block is packed again; two that fit within are joined. */
    LIVE_SHARE_NUMERATOR = 3,
    LIVE_SHARE_DENOMINATOR = 4,
    JOIN_MAX = MSGS_BLOCK_MAX * LIVE_SHARE_NUMERATOR / LIVE_SHARE_DENOMINATOR,
};

/* A block that may change: columns of room entries behind the head, places (u64), times (u64),
 * nodes, bytes, offsets (u32). A sealed one instead is struct msgs_sealed, and what follows that.
 */
struct msgs_block {
    struct msgs_block *next; /* among the spares */
    uint32_t room;
    uint32_t bytes;          /* of all of it */
    bool is_open, is_sealed; /* neither: its places change, or there was no memory to seal it */
};

enum which { PLACES, TIMES, SIZES, OFFSETS, COLUMNS };

/* Behind it a node for each entry, or, when all have the same, a bit for each that is removed; then
 * the data of the columns. */
struct msgs_sealed {
    struct msgs_block head;
    uint32_t node; /* of all; MSGS_NODE_NONE: they differ */
    uint32_t marks_bytes;
    struct column columns[COLUMNS];
    uint32_t data_at[COLUMNS]; /* from the block's begin */
};

enum { PLAIN_ENTRY_BYTES = 2 * sizeof(uint64_t) + 3 * sizeof(uint32_t) };

_Static_assert(MSGS_BLOCK_MAX % 2 == 0, "room stays even");
_Static_assert(sizeof(struct msgs_block) % 8 == 0, "the first column is aligned");
_Static_assert(sizeof(struct msgs_sealed) % 8 == 0, "likewise");
_Static_assert((int)MSGS_BLOCK_MAX <= (int)COLUMN_COUNT_MAX, "a block is a column");

static size_t plain_bytes(uint32_t room)
{
    return sizeof(struct msgs_block) + (size_t)room * PLAIN_ENTRY_BYTES;
}

static struct msgs_sealed *sealed_of(const struct msgs_block *b)
{
    return (struct msgs_sealed *)(uintptr_t)(const void *)b;
}

static uint64_t *places_of(const struct msgs_block *b)
{
    return (uint64_t *)(uintptr_t)(const void *)(b + 1);
}

static int64_t *times_of(const struct msgs_block *b)
{
    return (int64_t *)(void *)(places_of(b) + b->room);
}

static uint32_t *plain_nodes_of(const struct msgs_block *b)
{
    return (uint32_t *)(void *)(times_of(b) + b->room);
}

static uint32_t *sizes_of(const struct msgs_block *b)
{
    return plain_nodes_of(b) + b->room;
}

static uint32_t *offsets_of(const struct msgs_block *b)
{
    return plain_nodes_of(b) + (size_t)2 * b->room;
}

static char *marks_of(const struct msgs_sealed *s)
{
    return (char *)(uintptr_t)(const void *)(s + 1);
}

/* Nodes, MSGS_NODE_NONE where an entry is removed; NULL: all have one, see is_dead. */
static uint32_t *nodes_of(const struct msgs_block *b)
{
    if (!b->is_sealed) return plain_nodes_of(b);
    const struct msgs_sealed *s = sealed_of(b);
    return s->node != MSGS_NODE_NONE ? NULL : (uint32_t *)(void *)marks_of(s);
}

/* A bit per entry that is removed, where nodes_of is NULL. */
static uint64_t *dead_of(const struct msgs_block *b)
{
    return (uint64_t *)(void *)marks_of(sealed_of(b));
}

static bool is_dead(const struct msgs_block *b, uint32_t at)
{
    const uint32_t *nodes = nodes_of(b);
    if (nodes != NULL) return nodes[at] == MSGS_NODE_NONE;
    return (dead_of(b)[at / 64] >> at % 64 & 1) != 0;
}

static void set_dead(struct msgs_block *b, uint32_t at)
{
    uint32_t *nodes = nodes_of(b);
    if (nodes != NULL)
        nodes[at] = MSGS_NODE_NONE;
    else
        dead_of(b)[at / 64] |= UINT64_C(1) << at % 64;
}

static uint32_t block_node(const struct msgs_block *b, uint32_t at)
{
    const uint32_t *nodes = nodes_of(b);
    return nodes != NULL ? nodes[at] : is_dead(b, at) ? MSGS_NODE_NONE : sealed_of(b)->node;
}

static uint64_t sealed_get(const struct msgs_sealed *s, enum which which, uint32_t at)
{
    const char *data = (const char *)s + s->data_at[which];
    return column_get(&s->columns[which], (const uint64_t *)(const void *)data, at);
}

static uint64_t block_place(const struct msgs_block *b, uint32_t at)
{
    return b->is_sealed ? sealed_get(sealed_of(b), PLACES, at) : places_of(b)[at];
}

static int64_t block_time(const struct msgs_block *b, uint32_t at)
{
    return b->is_sealed ? (int64_t)sealed_get(sealed_of(b), TIMES, at) : times_of(b)[at];
}

static uint32_t block_size(const struct msgs_block *b, uint32_t at)
{
    return b->is_sealed ? (uint32_t)sealed_get(sealed_of(b), SIZES, at) : sizes_of(b)[at];
}

static uint32_t block_offset(const struct msgs_block *b, uint32_t at)
{
    return b->is_sealed ? (uint32_t)sealed_get(sealed_of(b), OFFSETS, at) : offsets_of(b)[at];
}

/* Sequences follow each other. */
static bool is_dense(const struct msgs_block *b)
{
    if (!b->is_sealed) return false;
    const struct column *c = &sealed_of(b)->columns[OFFSETS];
    return c->bytes == 0 && c->step == 1;
}

static uint64_t block_seq(const struct msgs_slot *s, uint32_t at)
{
    return s->base + block_offset(s->block, at);
}

static void block_get(const struct msgs_block *b, uint32_t at, struct msgs_entry *entry)
{
    if (!b->is_sealed) {
        *entry = (struct msgs_entry){.place = places_of(b)[at],
                                     .time_ns = times_of(b)[at],
                                     .bytes = sizes_of(b)[at],
                                     .node = plain_nodes_of(b)[at]};
        return;
    }
    const struct msgs_sealed *s = sealed_of(b);
    *entry = (struct msgs_entry){.place = sealed_get(s, PLACES, at),
                                 .time_ns = (int64_t)sealed_get(s, TIMES, at),
                                 .bytes = (uint32_t)sealed_get(s, SIZES, at),
                                 .node = block_node(b, at)};
}

/* Into one that is not sealed. */
static void block_put(struct msgs_block *b, uint32_t at, uint32_t offset,
                      const struct msgs_entry *entry)
{
    places_of(b)[at] = entry->place;
    times_of(b)[at] = entry->time_ns;
    plain_nodes_of(b)[at] = entry->node;
    sizes_of(b)[at] = entry->bytes;
    offsets_of(b)[at] = offset;
}

/* The first entry with a sequence >= seq; used when there is none. */
static uint32_t block_lower_bound(const struct msgs_slot *s, uint64_t seq)
{
    if (seq <= s->base) return 0;
    uint64_t offset = seq - s->base;
    if (is_dense(s->block)) return offset < s->used ? (uint32_t)offset : s->used;
    uint32_t low = 0, high = s->used;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (block_offset(s->block, middle) < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The first live entry at or behind at; used when there is none. */
static uint32_t block_next_live(const struct msgs_slot *s, uint32_t at)
{
    const uint32_t *nodes = nodes_of(s->block);
    if (nodes == NULL) {
        const uint64_t *dead = dead_of(s->block);
        while (at < s->used && (dead[at / 64] >> at % 64 & 1) != 0)
            at = dead[at / 64] >> at % 64 == UINT64_MAX >> at % 64 ? (at | 63) + 1 : at + 1;
        return at < s->used ? at : s->used;
    }
    while (at < s->used && nodes[at] == MSGS_NODE_NONE) at++;
    return at;
}

/* The last live entry before at; UINT32_MAX when there is none. */
static uint32_t block_prev_live(const struct msgs_slot *s, uint32_t at)
{
    while (at > 0 && is_dead(s->block, at - 1)) at--;
    return at - 1;
}

/* Those that are removed, where all have one node. */
static uint32_t dead_count(const struct msgs_block *b, uint32_t from, uint32_t to)
{
    const uint64_t *dead = dead_of(b);
    uint32_t count = 0;
    while (from < to) {
        uint32_t end = (from | 63) + 1 < to ? (from | 63) + 1 : to;
        uint64_t word = dead[from / 64] >> from % 64;
        if (end - from < 64) word &= (UINT64_C(1) << (end - from)) - 1;
        count += (uint32_t)__builtin_popcountll(word);
        from = end;
    }
    return count;
}

static uint32_t block_count_of(const struct msgs_slot *s, uint32_t from, uint32_t to, uint32_t node)
{
    const uint32_t *nodes = nodes_of(s->block);
    uint32_t count = 0;
    if (nodes == NULL) {
        uint32_t dead = dead_count(s->block, from, to);
        if (node == MSGS_NODE_NONE) return dead;
        return node == sealed_of(s->block)->node ? to - from - dead : 0;
    }
    /* In steps of a fixed size, which the compiler makes vectors of. */
    for (; to - from >= SCAN_STEP; from += SCAN_STEP)
        for (uint32_t i = 0; i < SCAN_STEP; i++) count += nodes[from + i] == node;
    for (; from < to; from++) count += nodes[from] == node;
    return count;
}

static bool step_has(const uint32_t *nodes, uint32_t node)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < SCAN_STEP; i++) found |= nodes[i] == node;
    return found != 0;
}

static struct msgs_slot *slot_at(const struct msgs *m, uint32_t i)
{
    must(i < m->slot_count);
    return &m->slots[m->slot_first + i];
}

/* The last slot whose base is <= seq; UINT32_MAX when seq lies before all. */
static uint32_t slot_find(const struct msgs *m, uint64_t seq)
{
    uint32_t count = m->slot_count;
    if (count == 0) return UINT32_MAX;
    const struct msgs_slot *slots = m->slots + m->slot_first;
    if (seq < slots[0].base) return UINT32_MAX;
    if (seq >= slots[count - 1].base) return count - 1;
    /* Where it lies in a stream without holes; the last slot is out already. */
    uint64_t guess = (seq - slots[0].base) / MSGS_BLOCK_MAX;
    if (guess < count - 1 && slots[guess].base <= seq && seq < slots[guess + 1].base)
        return (uint32_t)guess;
    uint32_t low = 0, high = count - 1; /* low is at or before, high behind */
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (slots[middle].base <= seq)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The slot and entry of a live message where that takes no search: the slot is the last one or lies
 * where it does in a stream without holes, and in it nothing is missing before the message. So it
 * is for nearly all that consumers ask for. NULL: perhaps there is none, perhaps it takes a search.
 */
static inline const struct msgs_slot *find_quickly(const struct msgs *m, uint64_t seq, uint32_t *at)
{
    uint32_t count = m->slot_count;
    if (count == 0) return NULL;
    const struct msgs_slot *slots = m->slots + m->slot_first, *s = slots + count - 1;
    if (seq < s->base) {
        /* Before the first slot it is far too large. */
        uint64_t guess = (seq - slots->base) / MSGS_BLOCK_MAX;
        if (guess >= count - 1) return NULL;
        s = slots + guess;
        if (seq < s->base || seq >= s[1].base) return NULL;
    }
    uint64_t offset = seq - s->base;
    /* Offsets go up by one at least: where entry n has n, all before it have theirs. */
    if (offset >= s->used || block_offset(s->block, (uint32_t)offset) != offset) return NULL;
    *at = (uint32_t)offset;
    return is_dead(s->block, *at) ? NULL : s;
}

/* The first slot that can hold a sequence >= seq, and the first such entry in it. */
static uint32_t slot_from(const struct msgs *m, uint64_t seq, uint32_t *at)
{
    uint32_t i = slot_find(m, seq);
    *at = 0;
    if (i == UINT32_MAX) return 0;
    *at = block_lower_bound(slot_at(m, i), seq);
    if (*at < slot_at(m, i)->used) return i;
    *at = 0;
    return i + 1;
}

void msgs_init(struct msgs *m, struct mem *mem)
{
    *m = (struct msgs){.mem = mem, .seq_end = 1};
}

static void *block_new(struct msgs *m, size_t bytes, uint32_t room)
{
    struct msgs_block *b = mem_alloc(m->mem, MEM_JETSTREAM, bytes);
    if (b == NULL) return NULL;
    *b = (struct msgs_block){.room = room, .bytes = (uint32_t)bytes};
    m->bytes_taken += bytes;
    return b;
}

static void block_release(struct msgs *m, struct msgs_block *b)
{
    m->bytes_taken -= b->bytes;
    mem_free(m->mem, MEM_JETSTREAM, b, b->bytes);
}

static struct msgs_block *block_new_open(struct msgs *m, uint32_t room)
{
    struct msgs_block *b = block_new(m, plain_bytes(room), room);
    if (b != NULL) b->is_open = true;
    return b;
}

void msgs_clear(struct msgs *m)
{
    for (uint32_t i = 0; i < m->slot_count; i++) block_release(m, slot_at(m, i)->block);
    while (m->spares != NULL) {
        struct msgs_block *b = m->spares;
        m->spares = b->next;
        block_release(m, b);
    }
    mem_free(m->mem, MEM_JETSTREAM, m->slots, m->slot_room * sizeof *m->slots);
    m->bytes_taken -= m->slot_room * sizeof *m->slots;
    must(m->bytes_taken == 0);
    *m = (struct msgs){.mem = m->mem, .seq_end = m->seq_end};
}

/* --- sealing --------------------------------------------------------------------------------- */

/* The live entries of count (1 or 2) neighbouring slots, and their sequences' first. */
struct seal_source {
    const struct msgs_slot *from;
    uint32_t count;
    uint64_t first;
};

/* The same where there is nothing to be left out or unpacked: what is appended is sealed so. */
static void gather_plain(const struct msgs_slot *s, uint64_t first, enum which which,
                         uint64_t *values)
{
    const struct msgs_block *b = s->block;
    switch (which) {
    case PLACES: memcpy(values, places_of(b), s->used * sizeof *values); break;
    case TIMES: memcpy(values, times_of(b), s->used * sizeof *values); break;
    case SIZES:
        for (uint32_t i = 0; i < s->used; i++) values[i] = sizes_of(b)[i];
        break;
    default:
        for (uint32_t i = 0; i < s->used; i++) values[i] = s->base + offsets_of(b)[i] - first;
        break;
    }
}

/* One of their columns. */
static void gather(const struct seal_source *x, enum which which, uint64_t *values)
{
    if (x->count == 1 && !x->from->block->is_sealed && x->from->live == x->from->used) {
        gather_plain(x->from, x->first, which, values);
        return;
    }
    for (uint32_t k = 0; k < x->count; k++) {
        const struct msgs_slot *s = &x->from[k];
        for (uint32_t i = 0; i < s->used; i++) {
            if (is_dead(s->block, i)) continue;
            switch (which) {
            case PLACES: *values++ = block_place(s->block, i); break;
            case TIMES: *values++ = (uint64_t)block_time(s->block, i); break;
            case SIZES: *values++ = block_size(s->block, i); break;
            default: *values++ = block_seq(s, i) - x->first; break;
            }
        }
    }
}

/* How many there are, and the node of all of them; MSGS_NODE_NONE: they differ. */
static uint32_t survey(struct seal_source *x, uint32_t *node)
{
    uint32_t live = 0;
    for (uint32_t k = 0; k < x->count; k++) {
        const struct msgs_slot *s = &x->from[k];
        for (uint32_t i = 0; i < s->used; i++) {
            if (is_dead(s->block, i)) continue;
            uint32_t own = block_node(s->block, i);
            if (live++ == 0) {
                x->first = block_seq(s, i);
                *node = own;
            } else if (own != *node) {
                *node = MSGS_NODE_NONE;
            }
        }
    }
    return live;
}

static void put_nodes(const struct seal_source *x, uint32_t *nodes)
{
    for (uint32_t k = 0; k < x->count; k++)
        for (uint32_t i = 0; i < x->from[k].used; i++)
            if (!is_dead(x->from[k].block, i)) *nodes++ = block_node(x->from[k].block, i);
}

/* The live entries of count (1 or 2) neighbouring slots in one sealed block. Tells its slot.
 * False: no memory. */
static bool pack(struct msgs *m, const struct msgs_slot *from, uint32_t count,
                 struct msgs_slot *packed)
{
    struct seal_source x = {.from = from, .count = count};
    uint64_t values[MSGS_BLOCK_MAX];
    struct msgs_sealed head = {.node = MSGS_NODE_NONE};
    uint32_t live = survey(&x, &head.node);
    must(live > 0);
    must(live <= MSGS_BLOCK_MAX);
    head.marks_bytes = head.node == MSGS_NODE_NONE ? (live + 1) / 2 * 8 : (live + 63) / 64 * 8;
    size_t bytes = sizeof head + head.marks_bytes;
    for (enum which i = PLACES; i < COLUMNS; i++) {
        gather(&x, i, values);
        column_plan(&head.columns[i], values, live);
        head.data_at[i] = (uint32_t)bytes;
        bytes += head.columns[i].bytes;
    }
    struct msgs_sealed *b = block_new(m, bytes, live);
    if (b == NULL) return false;
    head.head = b->head;
    head.head.is_sealed = true;
    *b = head;
    memset(marks_of(b), 0, b->marks_bytes);
    if (b->node == MSGS_NODE_NONE) put_nodes(&x, nodes_of(&b->head));
    for (enum which i = PLACES; i < COLUMNS; i++) {
        if (b->columns[i].bytes == 0) continue;
        gather(&x, i, values);
        column_write(&b->columns[i], (uint64_t *)(void *)((char *)b + b->data_at[i]), values, live);
    }
    *packed = (struct msgs_slot){.base = x.first, .block = &b->head, .live = live, .used = live};
    return true;
}

/* So that entries can be changed; it is sealed again when another one is opened up. */
static enum err open_up(struct msgs *m, struct msgs_slot *s)
{
    struct msgs_block *b = block_new(m, plain_bytes(s->used), s->used);
    if (b == NULL) return ERR_MEMORY;
    for (uint32_t i = 0; i < s->used; i++) {
        struct msgs_entry entry;
        block_get(s->block, i, &entry);
        block_put(b, i, block_offset(s->block, i), &entry);
    }
    block_release(m, s->block);
    s->block = b;
    return ERR_OK;
}

/* What was opened up, if it is still there. Without memory it stays so. */
static void seal_again(struct msgs *m)
{
    uint32_t i = m->opened_up == 0 ? UINT32_MAX : slot_find(m, m->opened_up);
    m->opened_up = 0;
    if (i == UINT32_MAX) return;
    struct msgs_slot *s = slot_at(m, i), packed;
    if (s->block->is_open || s->block->is_sealed || !pack(m, s, 1, &packed)) return;
    block_release(m, s->block);
    *s = packed;
}

static void slot_take_out(struct msgs *m, uint32_t i)
{
    struct msgs_slot *slots = m->slots + m->slot_first;
    if (i == 0)
        m->slot_first++;
    else
        memmove(&slots[i], &slots[i + 1], (m->slot_count - i - 1) * sizeof *slots);
    m->slot_count--;
    if (m->slot_count == 0) m->slot_first = 0;
}

static bool may_join(const struct msgs *m, uint32_t left)
{
    if (left + 1 >= m->slot_count) return false;
    const struct msgs_slot *a = slot_at(m, left), *b = a + 1;
    if (b->block->is_open || a->live + b->live > JOIN_MAX) return false;
    return block_seq(b, b->used - 1) - a->base <= UINT32_MAX;
}

/* A sealed slot that has lost a quarter is packed again, with a neighbour if both fit into one.
 * Without memory it stays as it is until the next removal. */
static void repack(struct msgs *m, uint32_t i)
{
    uint32_t left = i, count = 1;
    if (may_join(m, i)) {
        count = 2;
    } else if (i > 0 && may_join(m, i - 1)) {
        left = i - 1;
        count = 2;
    }
    struct msgs_slot *from = slot_at(m, left), packed;
    if (!pack(m, from, count, &packed)) return;
    for (uint32_t k = 0; k < count; k++) block_release(m, from[k].block);
    *from = packed;
    if (count == 2) slot_take_out(m, left + 1);
}

/* --- appending --------------------------------------------------------------------------- */

/* Room for count more slots behind the last one. */
static enum err directory_reserve(struct msgs *m, uint32_t count)
{
    if (m->slot_first + m->slot_count + count <= m->slot_room) return ERR_OK;
    if (m->slot_first >= m->slot_count + count) { /* half of it is free in front */
        memmove(m->slots, m->slots + m->slot_first, m->slot_count * sizeof *m->slots);
        m->slot_first = 0;
        return ERR_OK;
    }
    uint32_t room = SLOTS_MIN;
    while (room < 2 * (m->slot_count + count)) room *= 2;
    struct msgs_slot *slots = mem_alloc(m->mem, MEM_JETSTREAM, room * sizeof *slots);
    if (slots == NULL) return ERR_MEMORY;
    if (m->slot_count > 0) memcpy(slots, m->slots + m->slot_first, m->slot_count * sizeof *slots);
    mem_free(m->mem, MEM_JETSTREAM, m->slots, m->slot_room * sizeof *slots);
    m->bytes_taken += (room - (size_t)m->slot_room) * sizeof *slots;
    m->slots = slots;
    m->slot_room = room;
    m->slot_first = 0;
    return ERR_OK;
}

/* The open slot; NULL when the last one is sealed or there is none. */
static struct msgs_slot *open_slot(const struct msgs *m)
{
    if (m->slot_count == 0) return NULL;
    struct msgs_slot *s = slot_at(m, m->slot_count - 1);
    return s->block->is_open ? s : NULL;
}

static uint32_t room_for(uint32_t count)
{
    uint32_t room = ROOM_MIN;
    while (room < count && room < MSGS_BLOCK_MAX) room *= 2;
    return room < MSGS_BLOCK_MAX ? room : MSGS_BLOCK_MAX;
}

static enum err open_grow(struct msgs *m, struct msgs_slot *s, uint32_t room)
{
    struct msgs_block *old = s->block, *b = block_new_open(m, room);
    if (b == NULL) return ERR_MEMORY;
    memcpy(places_of(b), places_of(old), s->used * sizeof(uint64_t));
    memcpy(times_of(b), times_of(old), s->used * sizeof(uint64_t));
    memcpy(plain_nodes_of(b), plain_nodes_of(old), s->used * sizeof(uint32_t));
    memcpy(sizes_of(b), sizes_of(old), s->used * sizeof(uint32_t));
    memcpy(offsets_of(b), offsets_of(old), s->used * sizeof(uint32_t));
    block_release(m, old);
    s->block = b;
    return ERR_OK;
}

static void spare_push(struct msgs *m, struct msgs_block *b)
{
    b->next = m->spares;
    m->spares = b;
    m->spare_count++;
}

static struct msgs_block *spare_pop(struct msgs *m)
{
    struct msgs_block *b = m->spares;
    m->spares = b->next;
    m->spare_count--;
    return b;
}

enum err msgs_reserve(struct msgs *m, uint32_t count)
{
    struct msgs_slot *s = open_slot(m);
    uint32_t left = s == NULL ? 0 : s->block->room - s->used;
    if (s != NULL && count > left && s->block->room < MSGS_BLOCK_MAX) {
        if (open_grow(m, s, room_for(s->used + count)) != ERR_OK) return ERR_MEMORY;
        left = s->block->room - s->used;
    }
    uint32_t wanted = count > left ? count - left : 0;
    uint32_t blocks = (wanted + MSGS_BLOCK_MAX - 1) / MSGS_BLOCK_MAX;
    /* A small spare serves a small need only; what is too much goes back. */
    while (m->spare_count > blocks || (m->spare_count > 0 && m->spares->room < room_for(wanted)))
        block_release(m, spare_pop(m));
    while (m->spare_count < blocks) {
        struct msgs_block *b = block_new_open(m, blocks > 1 ? MSGS_BLOCK_MAX : room_for(wanted));
        if (b == NULL) return ERR_MEMORY;
        spare_push(m, b);
    }
    return directory_reserve(m, blocks);
}

/* The open slot is full or out of reach: it becomes a sealed one. */
static void seal(struct msgs *m)
{
    seal_again(m);
    struct msgs_slot *s = open_slot(m), packed;
    if (s == NULL) return;
    if (pack(m, s, 1, &packed)) {
        block_release(m, s->block);
        *s = packed;
    } else {
        s->block->is_open = false; /* as it is until there is memory */
    }
}

/* A new open slot that begins with seq. */
static enum err open_new(struct msgs *m, uint64_t seq)
{
    enum err e = directory_reserve(m, 1);
    if (e != ERR_OK) return e;
    struct msgs_block *b = m->spare_count > 0  ? spare_pop(m)
                           : m->slot_count > 0 ? block_new_open(m, MSGS_BLOCK_MAX)
                                               : block_new_open(m, ROOM_MIN);
    if (b == NULL) return ERR_MEMORY;
    seal(m);
    m->slots[m->slot_first + m->slot_count++] = (struct msgs_slot){.base = seq, .block = b};
    return ERR_OK;
}

enum err msgs_append(struct msgs *m, uint64_t seq, const struct msgs_entry *entry)
{
    must(seq >= m->seq_end);
    must(seq < UINT64_MAX);
    must(entry->node != MSGS_NODE_NONE);
    struct msgs_slot *s = open_slot(m);
    bool is_full = s != NULL && s->used == s->block->room;
    enum err e = ERR_OK;
    if (s == NULL || seq - s->base > UINT32_MAX || (is_full && s->used == MSGS_BLOCK_MAX))
        e = open_new(m, seq);
    else if (is_full)
        e = open_grow(m, s, room_for(s->used + 1));
    if (e != ERR_OK) return e;
    s = open_slot(m);
    block_put(s->block, s->used, (uint32_t)(seq - s->base), entry);
    s->used++;
    s->live++;
    m->live_count++;
    m->seq_end = seq + 1;
    return ERR_OK;
}

/* --- one message ------------------------------------------------------------------------- */

/* The slot and entry of a live message; NULL when there is none. */
static struct msgs_slot *find(const struct msgs *m, uint64_t seq, uint32_t *slot, uint32_t *at)
{
    *slot = slot_find(m, seq);
    if (*slot == UINT32_MAX) return NULL;
    struct msgs_slot *s = slot_at(m, *slot);
    *at = block_lower_bound(s, seq);
    if (*at == s->used || block_seq(s, *at) != seq) return NULL;
    return is_dead(s->block, *at) ? NULL : s;
}

enum err msgs_remove(struct msgs *m, uint64_t seq, struct msgs_entry *entry)
{
    uint32_t i, at;
    struct msgs_slot *s = find(m, seq, &i, &at);
    if (s == NULL) return ERR_UNKNOWN;
    if (entry != NULL) block_get(s->block, at, entry);
    set_dead(s->block, at);
    s->live--;
    m->live_count--;
    if (s->live == 0) {
        struct msgs_block *b = s->block;
        slot_take_out(m, i);
        if (b->is_open && b->room <= SPARE_ROOM_MAX && m->spare_count == 0)
            spare_push(m, b);
        else
            block_release(m, b);
    } else if (i > 0 && !s->block->is_open &&
               s->live * LIVE_SHARE_DENOMINATOR < s->used * LIVE_SHARE_NUMERATOR) {
        /* The first block stays: limits and acks empty it from the front, and it goes whole. */
        repack(m, i);
    }
    return ERR_OK;
}

enum err msgs_get(const struct msgs *m, uint64_t seq, struct msgs_entry *entry)
{
    uint32_t i, at;
    const struct msgs_slot *s = find_quickly(m, seq, &at);
    if (s == NULL) s = find(m, seq, &i, &at);
    if (s == NULL) return ERR_UNKNOWN;
    block_get(s->block, at, entry);
    return ERR_OK;
}

bool msgs_has(const struct msgs *m, uint64_t seq)
{
    uint32_t i, at;
    return find(m, seq, &i, &at) != NULL;
}

enum err msgs_set_place(struct msgs *m, uint64_t seq, uint64_t place)
{
    uint32_t i, at;
    struct msgs_slot *s = find(m, seq, &i, &at);
    if (s == NULL) return ERR_UNKNOWN;
    if (s->block->is_sealed) {
        if (block_place(s->block, at) == place) return ERR_OK;
        /* Of the same one it would be for nothing: removals have sealed it meanwhile. */
        if (m->opened_up != s->base) seal_again(m);
        enum err e = open_up(m, s);
        if (e != ERR_OK) return e;
        m->opened_up = s->base;
    }
    places_of(s->block)[at] = place;
    return ERR_OK;
}

/* --- order, counts, time ----------------------------------------------------------------- */

uint64_t msgs_first(const struct msgs *m)
{
    return msgs_next(m, 0);
}

uint64_t msgs_last(const struct msgs *m)
{
    return msgs_prev(m, UINT64_MAX);
}

uint64_t msgs_next(const struct msgs *m, uint64_t seq)
{
    uint32_t at;
    /* A slot has a live entry (M1), so the second round ends it. */
    for (uint32_t i = slot_from(m, seq, &at); i < m->slot_count; i++, at = 0) {
        const struct msgs_slot *s = slot_at(m, i);
        at = block_next_live(s, at);
        if (at < s->used) return block_seq(s, at);
    }
    return 0;
}

uint64_t msgs_next_entry(const struct msgs *m, uint64_t seq, struct msgs_entry *entry)
{
    uint32_t at;
    const struct msgs_slot *quick = find_quickly(m, seq, &at);
    if (LIKELY(quick != NULL)) {
        block_get(quick->block, at, entry);
        return seq;
    }
    for (uint32_t i = slot_from(m, seq, &at); i < m->slot_count; i++, at = 0) {
        const struct msgs_slot *s = slot_at(m, i);
        at = block_next_live(s, at);
        if (at == s->used) continue;
        block_get(s->block, at, entry);
        return block_seq(s, at);
    }
    return 0;
}

uint64_t msgs_prev(const struct msgs *m, uint64_t seq)
{
    uint32_t i = slot_find(m, seq);
    if (i == UINT32_MAX) return 0;
    const struct msgs_slot *s = slot_at(m, i);
    uint32_t end = seq == UINT64_MAX ? s->used : block_lower_bound(s, seq + 1);
    uint32_t at = block_prev_live(s, end);
    while (at == UINT32_MAX) {
        if (i == 0) return 0;
        s = slot_at(m, --i);
        at = block_prev_live(s, s->used);
    }
    return block_seq(s, at);
}

/* The entries of slot i that lie in [from, to]. False: the slot begins behind to. */
static bool slot_range(const struct msgs *m, uint32_t i, uint64_t from, uint64_t to,
                       uint32_t *first, uint32_t *end)
{
    const struct msgs_slot *s = slot_at(m, i);
    if (s->base > to) return false;
    bool is_inner = i + 1 < m->slot_count && slot_at(m, i + 1)->base <= to;
    *first = block_lower_bound(s, from);
    *end = is_inner || to == UINT64_MAX ? s->used : block_lower_bound(s, to + 1);
    return true;
}

static uint32_t slot_start(const struct msgs *m, uint64_t seq)
{
    uint32_t i = slot_find(m, seq);
    return i == UINT32_MAX ? 0 : i;
}

uint64_t msgs_count(const struct msgs *m, uint64_t from, uint64_t to)
{
    uint64_t count = 0;
    uint32_t first, end;
    for (uint32_t i = slot_start(m, from); i < m->slot_count; i++) {
        if (!slot_range(m, i, from, to, &first, &end)) break;
        const struct msgs_slot *s = slot_at(m, i);
        if (first == 0 && end == s->used)
            count += s->live;
        else if (first < end)
            count += end - first - block_count_of(s, first, end, MSGS_NODE_NONE);
    }
    return count;
}

uint64_t msgs_seq_at_time(const struct msgs *m, int64_t time_ns)
{
    uint32_t low = 0, high = m->slot_count; /* the first slot that begins at or after the time */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (block_time(slot_at(m, middle)->block, 0) < time_ns)
            low = middle + 1;
        else
            high = middle;
    }
    if (low > 0) { /* the time may lie inside the slot before */
        const struct msgs_slot *s = slot_at(m, low - 1);
        uint32_t at = 0, end = s->used;
        while (at < end) {
            uint32_t middle = (at + end) / 2;
            if (block_time(s->block, middle) < time_ns)
                at = middle + 1;
            else
                end = middle;
        }
        at = block_next_live(s, at);
        if (at < s->used) return block_seq(s, at);
    }
    return low < m->slot_count ? msgs_next(m, slot_at(m, low)->base) : 0;
}

/* How far the messages follow each other without a gap from seq on, which is live. */
static uint64_t run_end(const struct msgs *m, uint64_t seq)
{
    for (uint32_t i = slot_find(m, seq); i < m->slot_count; i++) {
        const struct msgs_slot *s = slot_at(m, i);
        if (seq < s->base) return seq;
        if (is_dense(s->block) && s->live == s->used) {
            seq = s->base + s->used;
            continue;
        }
        for (uint32_t at = block_lower_bound(s, seq); at < s->used; at++, seq++)
            if (is_dead(s->block, at) || block_seq(s, at) != seq) return seq;
    }
    return seq;
}

bool msgs_gap(const struct msgs *m, uint64_t last_seq, uint64_t *first, uint64_t *last)
{
    uint64_t seq = *first;
    if (msgs_has(m, seq)) seq = run_end(m, seq);
    if (seq > last_seq) return false;
    uint64_t next = msgs_next(m, seq);
    *first = seq;
    *last = next == 0 || next > last_seq ? last_seq : next - 1;
    return true;
}

/* --- by subject -------------------------------------------------------------------------- */

/* The entries of a slot are looked at; false: that was all that may be. */
static bool spend(uint32_t *left, uint32_t count)
{
    *left = count < *left ? *left - count : 0;
    return *left > 0;
}

uint64_t msgs_next_of_node_within(const struct msgs *m, uint64_t seq, uint32_t node, uint32_t *left,
                                  uint64_t *resume)
{
    must(node != MSGS_NODE_NONE);
    uint32_t at;
    *resume = 0;
    for (uint32_t i = slot_from(m, seq, &at); i < m->slot_count; i++, at = 0) {
        const struct msgs_slot *s = slot_at(m, i);
        const uint32_t *nodes = nodes_of(s->block);
        if (nodes == NULL) {
            at = sealed_of(s->block)->node == node ? block_next_live(s, at) : s->used;
            if (at < s->used) return block_seq(s, at);
            continue;
        }
        while (at + SCAN_STEP <= s->used && !step_has(nodes + at, node)) at += SCAN_STEP;
        for (; at < s->used; at++)
            if (nodes[at] == node) return block_seq(s, at);
        if (spend(left, s->used) || i + 1 == m->slot_count) continue;
        *resume = slot_at(m, i + 1)->base;
        break;
    }
    return 0;
}

uint64_t msgs_next_of_node(const struct msgs *m, uint64_t seq, uint32_t node)
{
    uint64_t found, resume = seq;
    uint32_t left;
    do {
        left = UINT32_MAX;
        found = msgs_next_of_node_within(m, resume, node, &left, &resume);
    } while (found == 0 && resume != 0);
    return found;
}

uint64_t msgs_prev_of_node_within(const struct msgs *m, uint64_t seq, uint32_t node, uint32_t *left,
                                  uint64_t *resume)
{
    must(node != MSGS_NODE_NONE);
    *resume = 0;
    uint32_t i = slot_find(m, seq);
    if (i == UINT32_MAX) return 0;
    const struct msgs_slot *s = slot_at(m, i);
    uint32_t at = seq == UINT64_MAX ? s->used : block_lower_bound(s, seq + 1);
    for (;;) {
        const uint32_t *nodes = nodes_of(s->block);
        if (nodes == NULL) {
            at = sealed_of(s->block)->node == node ? block_prev_live(s, at) : UINT32_MAX;
            if (at != UINT32_MAX) return block_seq(s, at);
            at = 0;
        }
        while (at >= SCAN_STEP && !step_has(nodes + at - SCAN_STEP, node)) at -= SCAN_STEP;
        for (; at > 0; at--)
            if (nodes[at - 1] == node) return block_seq(s, at - 1);
        if (i == 0) return 0;
        if (!spend(left, s->used)) {
            *resume = s->base - 1;
            return 0;
        }
        s = slot_at(m, --i);
        at = s->used;
    }
}

uint64_t msgs_prev_of_node(const struct msgs *m, uint64_t seq, uint32_t node)
{
    uint64_t found, resume = seq;
    uint32_t left;
    do {
        left = UINT32_MAX;
        found = msgs_prev_of_node_within(m, resume, node, &left, &resume);
    } while (found == 0 && resume != 0);
    return found;
}

uint64_t msgs_count_of_node(const struct msgs *m, uint64_t from, uint64_t to, uint32_t node)
{
    must(node != MSGS_NODE_NONE);
    uint64_t count = 0;
    uint32_t first, end;
    for (uint32_t i = slot_start(m, from); i < m->slot_count; i++) {
        if (!slot_range(m, i, from, to, &first, &end)) break;
        if (first < end) count += block_count_of(slot_at(m, i), first, end, node);
    }
    return count;
}

uint64_t msgs_sift(const struct msgs *m, uint64_t seq, uint64_t to, const struct msgs_verdicts *v,
                   uint64_t *count, uint32_t *left, uint64_t *resume)
{
    uint32_t first, end;
    *resume = 0;
    for (uint32_t i = slot_start(m, seq); i < m->slot_count; i++) {
        if (!slot_range(m, i, seq, to, &first, &end)) break;
        const struct msgs_slot *s = slot_at(m, i);
        if (first >= end) continue;
        uint32_t at = first;
        uint32_t stop = end - first > *left ? first + *left : end;
        uint64_t yes = 0;
        for (; at < stop; at++) {
            uint32_t node = block_node(s->block, at);
            enum msgs_verdict verdict = msgs_verdict_of(v, node);
            if (verdict == MSGS_VERDICT_NO || node == MSGS_NODE_NONE) continue;
            if (count == NULL || verdict == MSGS_VERDICT_UNKNOWN) break;
            yes++;
        }
        *left -= at - first;
        if (count != NULL) *count += yes;
        if (at < stop) return block_seq(s, at);
        if (at < end) {
            *resume = block_seq(s, at);
            return 0;
        }
    }
    return 0;
}

void msgs_cursor_init(struct msgs_cursor *c, const struct msgs *m, uint64_t seq)
{
    c->msgs = m;
    c->slot = slot_from(m, seq, &c->at);
}

uint64_t msgs_cursor_next(struct msgs_cursor *c, struct msgs_entry *entry)
{
    for (; c->slot < c->msgs->slot_count; c->slot++, c->at = 0) {
        const struct msgs_slot *s = slot_at(c->msgs, c->slot);
        c->at = block_next_live(s, c->at);
        if (c->at == s->used) continue;
        block_get(s->block, c->at, entry);
        return block_seq(s, c->at++);
    }
    return 0;
}
