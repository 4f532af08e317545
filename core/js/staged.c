#include "core/js/staged.h"
#include "core/base/must.h"

#define NODE_BIT (UINT64_C(1) << 63)

enum {
    ROOM_MIN = 16,
    ROOM_KEPT = 256, /* by a stream that has nothing in flight */
};

/* --- the map --------------------------------------------------------------------------------- */

static uint32_t slot_of(const struct staged *s, uint64_t key)
{
    return (uint32_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (s->cell_room - 1);
}

static struct staged_cell *find_cell(const struct staged *s, uint64_t key)
{
    if (s->cell_count == 0) return NULL;
    for (uint32_t i = slot_of(s, key);; i = (i + 1) & (s->cell_room - 1)) {
        if (s->cells[i].key == key) return &s->cells[i];
        if (s->cells[i].key == 0) return NULL;
    }
}

static struct staged_cell *put_cell(struct staged *s, uint64_t key)
{
    must(s->cell_count < s->cell_room);
    uint32_t i = slot_of(s, key);
    while (s->cells[i].key != 0) i = (i + 1) & (s->cell_room - 1);
    s->cells[i] = (struct staged_cell){.key = key};
    s->cell_count++;
    return &s->cells[i];
}

static void take_cell(struct staged *s, struct staged_cell *cell)
{
    uint32_t mask = s->cell_room - 1;
    uint32_t hole = (uint32_t)(cell - s->cells);
    for (uint32_t i = (hole + 1) & mask; s->cells[i].key != 0; i = (i + 1) & mask) {
        uint32_t home = slot_of(s, s->cells[i].key);
        /* Moves back only over what lies between its home and where it is. */
        if (((i - home) & mask) < ((i - hole) & mask)) continue;
        s->cells[hole] = s->cells[i];
        hole = i;
    }
    s->cells[hole].key = 0;
    s->cell_count--;
}

static enum err grow_cells(struct staged *s, uint32_t more)
{
    uint32_t room = s->cell_room == 0 ? ROOM_MIN : s->cell_room;
    while (room / 4 * 3 < s->cell_count + more) {
        if (room > UINT32_MAX / 4) return ERR_MEMORY;
        room *= 2;
    }
    if (room == s->cell_room) return ERR_OK;
    struct staged_cell *cells = mem_alloc_zero(s->mem, MEM_JETSTREAM, room * sizeof *cells);
    if (cells == NULL) return ERR_MEMORY;
    struct staged_cell *old = s->cells;
    uint32_t old_room = s->cell_room;
    s->cells = cells;
    s->cell_room = room;
    s->cell_count = 0;
    for (uint32_t i = 0; i < old_room; i++) {
        if (old[i].key == 0) continue;
        struct staged_cell cell = old[i];
        *put_cell(s, cell.key) = cell;
    }
    mem_free(s->mem, MEM_JETSTREAM, old, old_room * sizeof *old);
    return ERR_OK;
}

static bool is_dead(const struct staged *s, uint64_t seq)
{
    return find_cell(s, seq) != NULL;
}

static struct staged_cell *node_cell(struct staged *s, uint32_t node)
{
    struct staged_cell *cell = find_cell(s, NODE_BIT | node);
    return cell != NULL ? cell : put_cell(s, NODE_BIT | node);
}

static void settle_node(struct staged *s, struct staged_cell *cell)
{
    if (cell->added == 0 && cell->dead == 0) take_cell(s, cell);
}

/* --- the queue ------------------------------------------------------------------------------- */

static struct staged_op *op_at(const struct staged *s, uint32_t i)
{
    return &s->ops[(s->op_head + i) & (s->op_room - 1)];
}

static enum err grow_ops(struct staged *s)
{
    if (s->op_count < s->op_room) return ERR_OK;
    uint32_t room = s->op_room == 0 ? ROOM_MIN : 2 * s->op_room;
    struct staged_op *ops = mem_alloc(s->mem, MEM_JETSTREAM, room * sizeof *ops);
    if (ops == NULL) return ERR_MEMORY;
    for (uint32_t i = 0; i < s->op_count; i++) ops[i] = *op_at(s, i);
    mem_free(s->mem, MEM_JETSTREAM, s->ops, s->op_room * sizeof *ops);
    s->ops = ops;
    s->op_room = room;
    s->op_head = 0;
    return ERR_OK;
}

const struct staged_op *staged_find(const struct staged *s, uint64_t seq)
{
    uint32_t low = 0, high = s->op_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (op_at(s, middle)->seq < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->op_count && op_at(s, low)->seq == seq ? op_at(s, low) : NULL;
}

void staged_move(struct staged *s, uint64_t seq, uint64_t from, uint64_t to)
{
    for (uint32_t i = 0; i < s->op_count; i++) {
        struct staged_op *op = &s->ops[(s->op_head + i) & (s->op_room - 1)];
        if (op->seq > seq) return;
        if (op->seq == seq && op->place == from) op->place = to;
    }
}

/* The first message in flight at or above seq; 0 none. */
static uint64_t op_from(const struct staged *s, uint64_t seq)
{
    uint32_t low = 0, high = s->op_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (op_at(s, middle)->seq < seq)
            low = middle + 1;
        else
            high = middle;
    }
    while (low < s->op_count && (op_at(s, low)->flags & STAGED_SKIP) != 0) low++;
    return low < s->op_count ? op_at(s, low)->seq : 0;
}

const struct staged_op *staged_newest(const struct staged *s)
{
    return s->op_count == 0 ? NULL : op_at(s, s->op_count - 1);
}

/* --- life ------------------------------------------------------------------------------------ */

void staged_init(struct staged *s, struct mem *mem)
{
    *s = (struct staged){.mem = mem};
}

void staged_deinit(struct staged *s)
{
    mem_free(s->mem, MEM_JETSTREAM, s->ops, s->op_room * sizeof *s->ops);
    mem_free(s->mem, MEM_JETSTREAM, s->cells, s->cell_room * sizeof *s->cells);
    staged_init(s, s->mem);
}

static void forget_cells(struct staged *s)
{
    if (s->cell_count > 0) memset(s->cells, 0, s->cell_room * sizeof *s->cells);
    s->cell_count = 0;
}

void staged_reset(struct staged *s, uint64_t msgs, uint64_t bytes, uint64_t seq_last)
{
    must(s->op_count == 0);
    forget_cells(s);
    s->msgs = msgs;
    s->bytes = bytes;
    s->bytes_waiting = 0;
    s->seq_last = seq_last;
    s->floor = 0;
}

void staged_shrink(struct staged *s)
{
    must(s->op_count == 0 && s->cell_count == 0);
    if (s->op_room > ROOM_KEPT) {
        mem_free(s->mem, MEM_JETSTREAM, s->ops, s->op_room * sizeof *s->ops);
        s->ops = NULL;
        s->op_room = s->op_head = 0;
    }
    if (s->cell_room > ROOM_KEPT) {
        mem_free(s->mem, MEM_JETSTREAM, s->cells, s->cell_room * sizeof *s->cells);
        s->cells = NULL;
        s->cell_room = 0;
    }
}

enum err staged_reserve(struct staged *s, uint32_t evict_max)
{
    enum err e = grow_ops(s);
    /* Each evicted message takes a cell and one of its subject; the new one's subject another. */
    if (e == ERR_OK) e = grow_cells(s, 2 * evict_max + 1);
    return e;
}

/* --- looking --------------------------------------------------------------------------------- */

uint64_t staged_count(const struct staged *s, const struct subject_index *x, uint32_t node)
{
    uint64_t count = subject_index_node(x, node)->count;
    const struct staged_cell *cell = find_cell(s, NODE_BIT | node);
    if (cell == NULL) return count;
    count += cell->added;
    must(count >= cell->dead);
    return count - cell->dead;
}

uint64_t staged_first(const struct staged *s, struct subject_index *x, const struct msgs *m,
                      uint32_t node)
{
    if (subject_index_node(x, node)->count > 0) {
        uint64_t seq = subject_index_first(x, m, node);
        while (seq != 0 && is_dead(s, seq)) seq = subject_index_next(x, m, node, seq + 1);
        if (seq != 0) return seq;
    }
    const struct staged_cell *cell = find_cell(s, NODE_BIT | node);
    uint64_t seq = cell == NULL ? 0 : cell->first;
    while (seq != 0 && is_dead(s, seq)) seq = staged_find(s, seq)->next_of_node;
    return seq;
}

uint64_t staged_last(const struct staged *s, struct subject_index *x, const struct msgs *m,
                     uint32_t node)
{
    const struct staged_cell *cell = find_cell(s, NODE_BIT | node);
    /* What is evicted is older than what stays: when the newest is dead, all are. */
    if (cell != NULL && cell->added > 0) return is_dead(s, cell->last) ? 0 : cell->last;
    if (subject_index_node(x, node)->count == 0) return 0;
    uint64_t seq = subject_index_last(x, m, node);
    return is_dead(s, seq) ? 0 : seq;
}

/* The first live message of the whole stream; 0 none. */
static uint64_t first_live(struct staged *s, const struct msgs *m)
{
    for (;;) {
        uint64_t seq = msgs_next(m, s->floor);
        if (seq == 0) seq = op_from(s, s->floor);
        if (seq == 0) return 0;
        if (!is_dead(s, seq)) return seq;
        s->floor = seq + 1;
    }
}

/* --- changing -------------------------------------------------------------------------------- */

static void kill(struct staged *s, const struct msgs *m, uint64_t seq)
{
    struct msgs_entry entry;
    if (msgs_get(m, seq, &entry) != ERR_OK) {
        const struct staged_op *op = staged_find(s, seq);
        must(op != NULL);
        entry.node = op->node;
        entry.bytes = op->bytes;
    }
    (void)put_cell(s, seq);
    node_cell(s, entry.node)->dead++;
    must(s->msgs > 0);
    s->msgs--;
    s->bytes -= entry.bytes & STAGED_BYTES_MASK;
}

static void evict(struct staged *s, const struct staged_op *op, struct subject_index *x,
                  const struct msgs *m, const struct staged_limits *l)
{
    uint64_t per_subject = (op->flags & STAGED_ROLLUP) != 0 ? 1 : l->max_msgs_per_subject;
    bool is_large = (op->flags & STAGED_ROLLUP_LARGE) != 0;
    const struct subject_node *n = subject_index_node(x, op->node);
    if (n->waits && n->last < op->seq && !is_dead(s, subject_index_last(x, m, op->node)) &&
        grow_cells(s, 2) == ERR_OK)
        kill(s, m, subject_index_last(x, m, op->node));
    if (per_subject != 0 && !is_large)
        while (staged_count(s, x, op->node) > per_subject && grow_cells(s, 2) == ERR_OK)
            kill(s, m, staged_first(s, x, m, op->node));
    bool is_alone = (op->flags & STAGED_ROLLUP_ALL) != 0 && !is_large;
    uint64_t max_msgs = is_alone ? 1 : l->max_msgs;
    while (
        ((max_msgs != 0 && s->msgs > max_msgs) || (l->max_bytes != 0 && s->bytes > l->max_bytes)) &&
        s->msgs > 0 && grow_cells(s, 2) == ERR_OK)
        kill(s, m, first_live(s, m));
}

void staged_push(struct staged *s, const struct staged_op *op, struct subject_index *x,
                 const struct msgs *m, const struct staged_limits *limits)
{
    must(op->seq > s->seq_last);
    must(s->op_count < s->op_room);
    struct staged_op *slot = op_at(s, s->op_count++);
    *slot = *op;
    slot->next_of_node = 0;
    s->seq_last = op->seq;
    if ((op->flags & STAGED_SKIP) != 0) return;
    struct staged_cell *cell = node_cell(s, op->node);
    if (cell->added++ == 0) {
        cell->first = op->seq;
    } else {
        const struct staged_op *before = staged_find(s, cell->last);
        must(before != NULL);
        ((struct staged_op *)before)->next_of_node = op->seq;
    }
    cell->last = op->seq;
    s->msgs++;
    s->bytes += op->bytes & STAGED_BYTES_MASK;
    s->bytes_waiting += op->bytes & STAGED_BYTES_MASK;
    evict(s, op, x, m, limits);
}

bool staged_pop(struct staged *s, struct staged_op *op)
{
    if (s->op_count == 0) return false;
    *op = *op_at(s, 0);
    s->op_head = (s->op_head + 1) & (s->op_room - 1);
    s->op_count--;
    if ((op->flags & STAGED_SKIP) != 0) return true;
    s->bytes_waiting -= op->bytes & STAGED_BYTES_MASK;
    struct staged_cell *cell = find_cell(s, NODE_BIT | op->node);
    must(cell != NULL);
    must(cell->first == op->seq);
    cell->added--;
    cell->first = op->next_of_node;
    if (cell->added == 0) cell->last = 0;
    settle_node(s, cell);
    return true;
}

void staged_removed(struct staged *s, uint64_t seq, uint32_t node, uint32_t bytes)
{
    struct staged_cell *cell = find_cell(s, seq);
    if (cell == NULL) {
        must(s->msgs > 0);
        s->msgs--;
        s->bytes -= bytes & STAGED_BYTES_MASK;
        return;
    }
    take_cell(s, cell);
    cell = find_cell(s, NODE_BIT | node);
    must(cell != NULL);
    must(cell->dead > 0);
    cell->dead--;
    settle_node(s, cell);
}

void staged_unstage(struct staged *s, uint64_t ticket, struct subject_index *x,
                    const struct msgs *m, uint64_t bytes, const struct staged_limits *limits,
                    uint64_t *seq_dropped)
{
    uint32_t kept = 0;
    while (kept < s->op_count && op_at(s, kept)->ticket < ticket) kept++;
    *seq_dropped = kept < s->op_count ? op_at(s, kept)->seq : 0;
    if (kept == s->op_count) return;
    uint32_t count = s->op_count;
    uint64_t seq_last = op_at(s, 0)->seq - 1;
    s->op_count = 0;
    staged_reset(s, m->live_count, bytes, seq_last);
    /* The kept ones go in again at their own places: a push writes where it has just read. */
    for (uint32_t i = 0; i < kept; i++) {
        struct staged_op op = *op_at(s, i);
        staged_push(s, &op, x, m, limits);
    }
    for (uint32_t i = kept; i < count; i++) {
        const struct staged_op *op = op_at(s, i);
        if ((op->flags & STAGED_SKIP) == 0) subject_index_drop(x, op->node);
    }
}
