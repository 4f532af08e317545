#include "core/js/memstore.h"
#include <string.h>
#include "core/base/must.h"

enum { RUN_SHIFT = 8, RUN_SLOTS = 1 << RUN_SHIFT, RUNS_MIN = 4 };

struct memstore_block {
    struct record record; /* its slices point behind the block's head */
    size_t bytes;
    uint32_t extra; /* releases that are wanted beyond the first */
    char data[];
};

static struct memstore *memstore_of(struct store *store)
{
    return (struct memstore *)(void *)store; /* the store is its first field */
}

static struct memstore_slot *slot_at(const struct memstore *s, uint32_t i)
{
    return &s->runs[i >> RUN_SHIFT][i & (RUN_SLOTS - 1)];
}

/* The slot of a live place; NULL when it has gone or never was. */
static struct memstore_slot *slot_of(const struct memstore *s, uint64_t place)
{
    uint32_t i = (uint32_t)place;
    if (place == MEMSTORE_NO_PLACE || i >= s->slot_end) return NULL;
    struct memstore_slot *slot = slot_at(s, i);
    return slot->block != NULL && slot->generation == place >> 32 ? slot : NULL;
}

static enum err slot_take(struct memstore *s, uint32_t *i)
{
    if (s->slot_free != UINT32_MAX) {
        *i = s->slot_free;
        s->slot_free = slot_at(s, *i)->next_free;
        return ERR_OK;
    }
    if (s->slot_end == s->run_count << RUN_SHIFT) {
        if (s->run_count == UINT32_MAX >> RUN_SHIFT) return ERR_NO_SPACE;
        if (s->run_count == s->run_room) {
            uint32_t room = s->run_room == 0 ? RUNS_MIN : s->run_room * 2;
            struct memstore_slot **runs = mem_resize(
                s->mem, MEM_JETSTREAM, s->runs, s->run_room * sizeof *runs, room * sizeof *runs);
            if (runs == NULL) return ERR_NO_SPACE;
            s->runs = runs;
            s->run_room = room;
        }
        struct memstore_slot *run = mem_alloc_zero(s->mem, MEM_JETSTREAM, RUN_SLOTS * sizeof *run);
        if (run == NULL) return ERR_NO_SPACE;
        s->runs[s->run_count++] = run;
    }
    *i = s->slot_end++;
    return ERR_OK;
}

static void slot_give(struct memstore *s, uint32_t i)
{
    slot_at(s, i)->block = NULL;
    slot_at(s, i)->next_free = s->slot_free;
    s->slot_free = i;
}

static char *copy(char *to, struct bytes from, struct bytes *slice)
{
    if (from.len > 0) memcpy(to, from.data, from.len);
    *slice = bytes_of(to, from.len);
    return to + from.len;
}

static enum err append(struct store *store, const struct record *r, struct store_stub *out)
{
    struct memstore *s = memstore_of(store);
    if (r->headers.len > RECORD_DATA_BYTES_MAX ||
        r->body.len > RECORD_DATA_BYTES_MAX - r->headers.len ||
        r->subject.len > RECORD_SUBJECT_BYTES_MAX)
        return ERR_TOO_LONG;
    size_t bytes = sizeof(struct memstore_block) + r->subject.len + r->headers.len + r->body.len;
    if (r->kind != RECORD_MESSAGE) {
        *out = (struct store_stub){
            .ticket = ++s->ticket, .place = MEMSTORE_NO_PLACE, .bytes = (uint32_t)bytes};
        return ERR_OK;
    }
    if (bytes > s->bytes_max - s->bytes_used) return ERR_NO_SPACE;
    uint32_t i;
    enum err e = slot_take(s, &i);
    if (e != ERR_OK) return e;
    struct memstore_block *b = mem_alloc(s->mem, MEM_JETSTREAM, bytes);
    if (b == NULL) {
        slot_give(s, i);
        return ERR_NO_SPACE;
    }
    b->record = *r;
    b->bytes = bytes;
    b->extra = 0;
    char *at = copy(b->data, r->subject, &b->record.subject);
    at = copy(at, r->headers, &b->record.headers);
    copy(at, r->body, &b->record.body);
    struct memstore_slot *slot = slot_at(s, i);
    slot->block = b;
    slot->generation = slot->generation + 1 == UINT32_MAX ? 1 : slot->generation + 1;
    s->bytes_used += bytes;
    s->live_count++;
    *out = (struct store_stub){.ticket = ++s->ticket,
                               .place = (uint64_t)slot->generation << 32 | i,
                               .bytes = (uint32_t)bytes};
    return ERR_OK;
}

static enum err read_now(struct store *store, struct store_read *q, struct record *out)
{
    const struct memstore_slot *slot = slot_of(memstore_of(store), q->place);
    if (slot == NULL) return ERR_UNKNOWN;
    const struct record *r = &slot->block->record;
    if (r->stream != q->stream || r->seq != q->seq) return ERR_CORRUPT;
    *out = *r;
    return ERR_OK;
}

static uint32_t staged_percent(const struct store *store)
{
    return 0; /* nothing is ever staged */
}

static const struct store_ops memstore_ops = {
    .append = append, .read = read_now, .staged_percent = staged_percent};

void memstore_init(struct memstore *s, struct mem *mem, uint64_t bytes_max)
{
    *s = (struct memstore){.store = {.ops = &memstore_ops},
                           .mem = mem,
                           .slot_free = UINT32_MAX,
                           .bytes_max = bytes_max};
}

void memstore_retain(struct memstore *s, uint64_t place)
{
    const struct memstore_slot *slot = slot_of(s, place);
    must(slot != NULL);
    slot->block->extra++;
}

void memstore_release(struct memstore *s, uint64_t place)
{
    struct memstore_slot *slot = slot_of(s, place);
    if (slot == NULL) return;
    if (slot->block->extra > 0) {
        slot->block->extra--;
        return;
    }
    must(s->bytes_used >= slot->block->bytes);
    s->bytes_used -= slot->block->bytes;
    s->live_count--;
    mem_free(s->mem, MEM_JETSTREAM, slot->block, slot->block->bytes);
    slot_give(s, (uint32_t)place);
}

void memstore_deinit(struct memstore *s)
{
    for (uint32_t i = 0; i < s->slot_end; i++) {
        struct memstore_block *b = slot_at(s, i)->block;
        if (b != NULL) mem_free(s->mem, MEM_JETSTREAM, b, b->bytes);
    }
    for (uint32_t i = 0; i < s->run_count; i++)
        mem_free(s->mem, MEM_JETSTREAM, s->runs[i], RUN_SLOTS * sizeof *s->runs[i]);
    mem_free(s->mem, MEM_JETSTREAM, s->runs, s->run_room * sizeof *s->runs);
    memstore_init(s, s->mem, s->bytes_max);
}
