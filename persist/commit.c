#include "persist/commit.h"
#include <string.h>
#include "core/base/must.h"
#include "persist/record.h"

static struct commit_group *group_at(const struct commit *c, uint64_t number)
{
    return &c->groups[number & (c->group_room - 1)];
}

static struct commit_group *open_group(const struct commit *c)
{
    if (c->newest == c->oldest) return NULL;
    struct commit_group *g = group_at(c, c->newest - 1);
    return g->state == COMMIT_OPEN ? g : NULL;
}

static void commit_check(const struct commit *c)
{
    must(c->oldest <= c->unsent && c->unsent <= c->newest);
    must(c->written < c->newest);
    must(c->durable <= c->written);
    must(c->newest - c->oldest <= c->group_room);
    must(c->written_ticket <= c->ticket);
}

enum err commit_init(struct commit *c, struct mem *mem, uint32_t group_bytes, uint64_t ring_bytes,
                     uint64_t next_group)
{
    must(group_bytes % PLACE_BLOCK_BYTES == 0 && ring_bytes % PLACE_BLOCK_BYTES == 0);
    must(ring_bytes >= (uint64_t)COMMIT_RING_GROUPS_MIN * group_bytes);
    must(next_group > 0);
    *c = (struct commit){.mem = mem,
                         .group_bytes = group_bytes,
                         .ring_bytes = ring_bytes,
                         .oldest = next_group,
                         .newest = next_group,
                         .unsent = next_group,
                         .written = next_group - 1,
                         .durable = next_group - 1};
    c->group_room = 64;
    while (c->group_room < ring_bytes / PLACE_BLOCK_BYTES) c->group_room *= 2;
    c->ring_memory = mem_alloc(mem, MEM_STORE, ring_bytes + PLACE_BLOCK_BYTES);
    c->groups = mem_alloc(mem, MEM_STORE, c->group_room * sizeof *c->groups);
    if (c->ring_memory == NULL || c->groups == NULL) {
        commit_deinit(c);
        return ERR_MEMORY;
    }
    c->ring = (char *)place_block_up((uint64_t)(uintptr_t)c->ring_memory);
    return ERR_OK;
}

static void forget_memory(struct commit *c, struct commit_group *g)
{
    if (!g->is_big) return;
    c->big_bytes -= g->room;
    mem_free(c->mem, MEM_STORE, g->data - g->ring_at, g->room + PLACE_BLOCK_BYTES);
}

void commit_deinit(struct commit *c)
{
    for (uint64_t n = c->oldest; n < c->newest; n++) forget_memory(c, group_at(c, n));
    mem_free(c->mem, MEM_STORE, c->ring_memory, c->ring_bytes + PLACE_BLOCK_BYTES);
    mem_free(c->mem, MEM_STORE, c->groups, c->group_room * sizeof *c->groups);
    c->ring_memory = NULL;
    c->groups = NULL;
    c->oldest = c->newest;
}

void commit_move(struct commit *c, const struct place_key *key, uint64_t segment_bytes)
{
    must(open_group(c) == NULL);
    c->key = *key;
    c->offset = 0;
    c->segment_bytes = segment_bytes;
}

/* --- memory ------------------------------------------------------------------------------- */

/* The oldest group that lies in the ring; NULL: none does. */
static const struct commit_group *oldest_in_ring(const struct commit *c)
{
    for (uint64_t n = c->oldest; n < c->newest; n++)
        if (!group_at(c, n)->is_big) return group_at(c, n);
    return NULL;
}

static bool evict_oldest(struct commit *c)
{
    if (c->oldest == c->newest || group_at(c, c->oldest)->state != COMMIT_WRITTEN) return false;
    forget_memory(c, group_at(c, c->oldest));
    c->oldest++;
    return true;
}

/* Finds bytes in one piece behind the newest group; what is in the ring is [tail, head), round. */
static bool ring_fits(struct commit *c, uint64_t bytes)
{
    const struct commit_group *first = oldest_in_ring(c);
    if (first == NULL) {
        c->ring_head = 0;
        return true;
    }
    uint64_t tail = first->ring_at;
    if (c->ring_head <= tail) return tail - c->ring_head >= bytes;
    if (c->ring_bytes - c->ring_head >= bytes) return true;
    if (tail < bytes) return false;
    c->ring_head = 0;
    return true;
}

static enum err add_group(struct commit *c, uint64_t bytes, bool is_big)
{
    while (c->newest - c->oldest == c->group_room)
        if (!evict_oldest(c)) return ERR_FULL;
    struct commit_group g = {.number = c->newest,
                             .ticket_last = c->ticket,
                             .offset = c->offset,
                             .key = c->key,
                             .room = bytes,
                             .state = COMMIT_OPEN,
                             .is_big = is_big};
    if (is_big) {
        while (c->big_bytes > 0 && c->big_bytes + bytes > c->ring_bytes)
            if (!evict_oldest(c)) return ERR_FULL;
        char *memory = mem_alloc(c->mem, MEM_STORE, bytes + PLACE_BLOCK_BYTES);
        if (memory == NULL) return ERR_MEMORY;
        g.data = (char *)place_block_up((uint64_t)(uintptr_t)memory);
        g.ring_at = (uint64_t)(g.data - memory);
        c->big_bytes += bytes;
    } else {
        while (!ring_fits(c, bytes))
            if (!evict_oldest(c)) return ERR_FULL;
        g.data = c->ring + c->ring_head;
        g.ring_at = c->ring_head;
    }
    *group_at(c, c->newest) = g;
    c->newest++;
    return ERR_OK;
}

/* --- appending ---------------------------------------------------------------------------- */

static uint64_t room_of_new_group(const struct commit *c)
{
    uint64_t left = c->segment_bytes - c->offset;
    return left < c->group_bytes ? left : c->group_bytes;
}

static bool fits_open(const struct commit_group *g, uint32_t bytes)
{
    return GROUP_HEAD_BYTES + (uint64_t)g->record_bytes + bytes <= g->room;
}

/* Where the group behind the open one starts. */
static uint64_t offset_after_open(const struct commit *c)
{
    const struct commit_group *g = open_group(c);
    return c->offset + (g == NULL ? 0 : place_block_up(GROUP_HEAD_BYTES + g->record_bytes));
}

bool commit_has_room(const struct commit *c, uint32_t bytes)
{
    const struct commit_group *g = open_group(c);
    if (g != NULL && fits_open(g, bytes)) return true;
    return offset_after_open(c) + GROUP_HEAD_BYTES + bytes <= c->segment_bytes;
}

enum err commit_append(struct commit *c, const struct record *r, uint32_t bytes,
                       struct store_stub *out)
{
    commit_check(c);
    must(bytes > 0);
    must(commit_has_room(c, bytes));
    struct commit_group *g = open_group(c);
    if (g != NULL && !fits_open(g, bytes)) {
        commit_close(c);
        g = NULL;
    }
    if (g == NULL) {
        uint64_t room = room_of_new_group(c);
        bool is_big = GROUP_HEAD_BYTES + (uint64_t)bytes > room;
        if (is_big) room = place_block_up(GROUP_HEAD_BYTES + (uint64_t)bytes);
        enum err e = add_group(c, room, is_big);
        if (e != ERR_OK) return e;
        g = open_group(c);
    }
    uint32_t at = GROUP_HEAD_BYTES + g->record_bytes;
    record_encode(r, &g->key, g->offset + at, g->data + at);
    g->record_bytes += bytes;
    g->record_count++;
    g->has_checkpoints =
        g->has_checkpoints || r->kind == RECORD_CHECKPOINT || r->kind == RECORD_STREAM_GONE;
    c->staged_bytes += bytes;
    g->ticket_last = ++c->ticket;
    *out = (struct store_stub){.ticket = c->ticket,
                               .place = place_of(g->key.log, g->key.segment, g->offset + at),
                               .bytes = bytes};
    if (g->is_big) commit_close(c);
    return ERR_OK;
}

void commit_close(struct commit *c)
{
    struct commit_group *g = open_group(c);
    if (g == NULL) return;
    uint32_t used = GROUP_HEAD_BYTES + g->record_bytes;
    g->bytes = (uint32_t)place_block_up(used);
    must(g->bytes <= g->room);
    memset(g->data + used, 0, g->bytes - used);
    g->state = COMMIT_CLOSED;
    c->offset += g->bytes;
    must(c->offset <= c->segment_bytes);
    if (!g->is_big) c->ring_head = g->ring_at + g->bytes;
    commit_check(c);
}

enum err commit_add_empty(struct commit *c)
{
    must(open_group(c) == NULL);
    must(c->offset + PLACE_BLOCK_BYTES <= c->segment_bytes);
    enum err e = add_group(c, PLACE_BLOCK_BYTES, false);
    if (e == ERR_OK) commit_close(c);
    return e;
}

/* --- writing ------------------------------------------------------------------------------ */

struct commit_group *commit_next(struct commit *c)
{
    if (c->unsent == c->newest) return NULL;
    struct commit_group *g = group_at(c, c->unsent);
    if (g->state != COMMIT_CLOSED) return NULL;
    struct group_head h = {.number = g->number,
                           .durable = c->durable,
                           .bytes = g->bytes,
                           .record_bytes = g->record_bytes,
                           .record_count = g->record_count};
    group_encode_head(&h, &g->key, g->offset, g->data);
    g->state = COMMIT_FLYING;
    c->unsent++;
    return g;
}

bool commit_landed(struct commit *c, struct commit_group *g)
{
    uint64_t before = c->written;
    must(g->state == COMMIT_FLYING);
    g->state = COMMIT_LANDED;
    while (c->written + 1 < c->newest) {
        struct commit_group *next = group_at(c, c->written + 1);
        if (next->state != COMMIT_LANDED) break;
        next->state = COMMIT_WRITTEN;
        c->written++;
        c->written_ticket = next->ticket_last;
        c->staged_bytes -= next->record_bytes;
    }
    commit_check(c);
    return c->written > before;
}

void commit_gave_up(struct commit_group *g)
{
    must(g->state == COMMIT_FLYING);
    g->state = COMMIT_CLOSED;
}

struct commit_group *commit_group_at(const struct commit *c, uint64_t number)
{
    must(number >= c->oldest && number < c->newest);
    return group_at(c, number);
}

void commit_set_durable(struct commit *c, uint64_t number, uint64_t ticket)
{
    must(number >= c->durable && number <= c->written);
    must(ticket >= c->durable_ticket && ticket <= c->written_ticket);
    c->durable = number;
    c->durable_ticket = ticket;
}

uint64_t commit_fail(struct commit *c)
{
    uint64_t first = c->written_ticket + 1;
    for (uint64_t n = c->written + 1; n < c->newest; n++) {
        struct commit_group *g = group_at(c, n);
        must(g->state != COMMIT_FLYING);
        c->staged_bytes -= g->record_bytes;
        forget_memory(c, g);
    }
    c->newest = c->unsent = c->written + 1;
    must(c->staged_bytes == 0);
    /* The ring's head goes back to the end of what is kept. */
    const struct commit_group *last = NULL;
    for (uint64_t n = c->oldest; n < c->newest; n++)
        if (!group_at(c, n)->is_big) last = group_at(c, n);
    c->ring_head = last == NULL ? 0 : last->ring_at + last->bytes;
    c->written_ticket = c->ticket;
    commit_check(c);
    return first;
}

/* --- reading ------------------------------------------------------------------------------ */

const char *commit_find(const struct commit *c, uint64_t place, uint32_t *bytes)
{
    uint64_t low = c->oldest, high = c->newest;
    uint64_t offset = place_offset(place);
    if (low == high || place_is_packed(place) || place_log(place) != c->key.log) return NULL;
    const struct commit_group *oldest = group_at(c, low); /* most who read are far behind */
    if (place_segment(place) < oldest->key.segment) return NULL;
    if (place_segment(place) == oldest->key.segment && offset < oldest->offset) return NULL;
    /* The last group that starts at or before the place. */
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        const struct commit_group *g = group_at(c, middle);
        bool is_after = g->key.segment > place_segment(place) ||
                        (g->key.segment == place_segment(place) && g->offset > offset);
        if (is_after)
            high = middle;
        else
            low = middle;
    }
    const struct commit_group *g = group_at(c, low);
    if (g->key.segment != place_segment(place) || offset < g->offset + GROUP_HEAD_BYTES)
        return NULL;
    uint64_t end = g->offset + GROUP_HEAD_BYTES + g->record_bytes;
    if (offset >= end) return NULL;
    *bytes = (uint32_t)(end - offset);
    return g->data + (offset - g->offset);
}

uint32_t commit_staged_percent(const struct commit *c)
{
    /* What is open or flying lies in whole groups; two of them may stay unused at the ring's end.
     */
    uint64_t limit = c->ring_bytes - 2 * (uint64_t)c->group_bytes;
    uint64_t percent = c->staged_bytes * 100 / limit;
    return percent > 100 ? 100 : (uint32_t)percent;
}

bool commit_is_idle(const struct commit *c)
{
    return c->written + 1 == c->newest;
}
