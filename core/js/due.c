#include "core/js/due.h"
#include "core/base/must.h"
#include <string.h>

enum {
    ROOM_MIN = 64,
    ROOM_MAX = 1 << 30,
    GONE_MAX = 4096, /* passed over in a call */
};

void due_init(struct due *d, struct mem *mem)
{
    *d = (struct due){.mem = mem};
}

void due_clear(struct due *d)
{
    mem_free(d->mem, MEM_JETSTREAM, d->entries, d->room * sizeof *d->entries);
    due_init(d, d->mem);
}

enum err due_reserve(struct due *d)
{
    if (LIKELY(d->end < d->room)) return ERR_OK;
    if (d->first > d->room / 2) {
        memmove(d->entries, d->entries + d->first, due_count(d) * sizeof *d->entries);
        d->at -= d->first;
        d->end -= d->first;
        d->first = 0;
        return ERR_OK;
    }
    if (d->room == ROOM_MAX) return ERR_FULL;
    uint32_t room = d->room == 0 ? ROOM_MIN : d->room * 2;
    struct msg_ttl_entry *entries = mem_resize(d->mem, MEM_JETSTREAM, d->entries,
                                               d->room * sizeof *entries, room * sizeof *entries);
    if (entries == NULL) return ERR_MEMORY;
    d->entries = entries;
    d->room = room;
    return ERR_OK;
}

void due_add(struct due *d, uint64_t seq, int64_t deadline_ns)
{
    must(d->end < d->room);
    d->entries[d->end++] = (struct msg_ttl_entry){.deadline_ns = deadline_ns, .seq = seq};
}

uint64_t due_next(struct due *d, const struct msgs *msgs)
{
    uint32_t left = GONE_MAX;
    while (d->first < d->end && !msgs_has(msgs, d->entries[d->first].seq)) {
        if (left-- == 0) return 0;
        d->first++;
    }
    if (d->at < d->first) d->at = d->first;
    if (d->first == d->end) {
        if (d->room > ROOM_MIN) due_clear(d);
        d->first = d->at = d->end = 0;
        return 0;
    }
    return d->at < d->end ? d->entries[d->at++].seq : 0;
}
