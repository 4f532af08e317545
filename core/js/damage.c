#include "core/js/damage.h"

enum { ROOM_AT_FIRST = 16 };

void damage_init(struct damage *d, struct mem *mem)
{
    *d = (struct damage){.mem = mem};
}

void damage_deinit(struct damage *d)
{
    mem_free(d->mem, MEM_JETSTREAM, d->older, d->older_room * sizeof *d->older);
    damage_init(d, d->mem);
}

static bool make_room(struct damage *d)
{
    if (d->older_count < d->older_room) return true;
    uint32_t room = d->older_room == 0 ? ROOM_AT_FIRST : d->older_room * 2;
    if (room > DAMAGE_RANGES_MAX) return false;
    struct damage_range *grown = mem_resize(d->mem, MEM_JETSTREAM, d->older,
                                            d->older_room * sizeof *grown, room * sizeof *grown);
    if (grown == NULL) return false;
    d->older = grown;
    d->older_room = room;
    return true;
}

void damage_add(struct damage *d, const struct store_lost *lost)
{
    struct damage_range x = {.end = lost->end, .records = lost->record_max, .bytes = lost->bytes};
    if (lost->is_packed) {
        uint64_t count = lost->has_count ? lost->record_count : UINT64_MAX;
        d->packed = count > UINT64_MAX - d->packed ? UINT64_MAX : d->packed + count;
        return;
    }
    if (x.records == 0) return;
    if (x.end.group == 0) x.end.group = UINT64_MAX; /* not known */
    bool is_message = lost->kind_hint == RECORD_MESSAGE || lost->kind_hint == RECORD_SKIP;
    x.is_hinted =
        x.records == 1 && lost->kind_hint > RECORD_NONE && lost->kind_hint < RECORD_KIND_COUNT;
    x.stream = is_message ? lost->stream_hint : 0;
    x.seq = lost->seq_hint;
    x.is_wide = lost->group == 0 || lost->group != x.end.group;
    x.number = ++d->count;
    if (d->count > 1 && make_room(d)) {
        d->older[d->older_count++] = d->newest;
    } else if (d->count > 1) {
        x.is_hinted = false;
        x.is_wide = true;
        x.records += d->newest.records;
        x.bytes += d->newest.bytes;
    }
    d->newest = x;
}

static bool is_before(const struct damage_range *r, struct store_point p)
{
    if (r->end.incarnation != p.incarnation) return r->end.incarnation < p.incarnation;
    return r->end.group <= p.group;
}

uint32_t damage_before(const struct damage *d, struct store_point p)
{
    uint32_t i = 0;
    while (i < d->older_count && is_before(&d->older[i], p)) i++;
    if (i == d->older_count && d->count > 0 && is_before(&d->newest, p)) return d->count;
    return i == 0 ? 0 : d->older[i - 1].number;
}

static void add_to(struct damage_sum *sum, const struct damage_range *r,
                   const struct damage_asker *a)
{
    sum->records += r->records;
    sum->bytes += r->bytes;
    bool is_own = r->stream == a->stream || (a->first <= r->seq && r->seq <= a->last);
    sum->others += r->is_hinted && !is_own;
}

void damage_since(const struct damage *d, uint32_t passed, const struct damage_asker *a,
                  struct damage_sum *sum)
{
    *sum = (struct damage_sum){0};
    if (d->count <= passed) return;
    add_to(sum, &d->newest, a);
    for (uint32_t i = d->older_count; i > 0 && d->older[i - 1].number > passed; i--)
        add_to(sum, &d->older[i - 1], a);
}

uint64_t damage_most(const struct damage *d, struct store_point p, const struct damage_asker *a)
{
    struct damage_sum sum = {0};
    for (uint32_t i = 0; i < d->older_count; i++)
        if (d->older[i].is_wide || is_before(&d->older[i], p)) add_to(&sum, &d->older[i], a);
    if (d->newest.is_wide || is_before(&d->newest, p)) add_to(&sum, &d->newest, a);
    uint64_t count = sum.records - sum.others;
    return count > UINT64_MAX - d->packed ? UINT64_MAX : count + d->packed;
}
