#include "core/js/lost.h"
#include <string.h>
#include "core/base/must.h"

enum { RANGES_AT_FIRST = 4 };

static size_t bytes_for(uint32_t capacity)
{
    return sizeof(struct lost) + capacity * sizeof(struct lost_range);
}

static bool make_room(struct lost **l, struct mem *mem)
{
    struct lost *old = *l;
    if (old != NULL && old->count < old->capacity) return true;
    uint32_t capacity = old == NULL ? RANGES_AT_FIRST : old->capacity * 2;
    if (capacity > LOST_RANGES_MAX) return false;
    struct lost *x = mem_alloc(mem, MEM_JETSTREAM, bytes_for(capacity));
    if (x == NULL) return false;
    *x = (struct lost){.mem = mem};
    if (old != NULL) memcpy(x, old, bytes_for(old->count));
    x->capacity = capacity;
    lost_free(old);
    *l = x;
    return true;
}

/* Nothing lies between what ends at last and what begins at first. */
static bool is_joined(uint64_t last, uint64_t first)
{
    return first <= last || first - last == 1;
}

void lost_add(struct lost **l, struct mem *mem, uint64_t first, uint64_t last, uint64_t bytes)
{
    must(first <= last);
    struct lost *x = *l;
    uint32_t at = x == NULL ? 0 : x->count, end;
    while (at > 0 && is_joined(x->ranges[at - 1].last, first)) at--; /* those before at stay */
    for (end = at; x != NULL && end < x->count && is_joined(last, x->ranges[end].first); end++) {
        struct lost_range *r = &x->ranges[end];
        if (r->first <= first && r->last >= last) return;
        if (r->first < first) first = r->first;
        if (r->last > last) last = r->last;
    }
    if (end == at && !make_room(l, mem)) return;
    x = *l;
    memmove(&x->ranges[at + 1], &x->ranges[end], (x->count - end) * sizeof *x->ranges);
    x->ranges[at] = (struct lost_range){first, last};
    x->count = x->count - (end - at) + 1;
    x->bytes += bytes;
}

void lost_free(struct lost *l)
{
    if (l != NULL) mem_free(l->mem, MEM_JETSTREAM, l, bytes_for(l->capacity));
}

void lost_forget(struct lost *l, uint64_t from)
{
    uint32_t gone = 0;
    if (l == NULL) return;
    while (gone < l->count && l->ranges[gone].last < from) gone++;
    l->count -= gone;
    memmove(l->ranges, l->ranges + gone, l->count * sizeof *l->ranges);
    if (l->count > 0 && l->ranges[0].first < from) l->ranges[0].first = from;
}

void lost_write(const struct lost *l, struct json_write *w)
{
    uint32_t shown = 0;
    if (l == NULL || l->count == 0) return;
    json_write_object(w, "lost");
    json_write_array(w, "msgs");
    for (uint32_t i = 0; i < l->count; i++) {
        uint64_t seq = l->ranges[i].first;
        for (; seq <= l->ranges[i].last && shown < LOST_SHOWN_MAX; seq++, shown++)
            json_write_u64(w, NULL, seq);
    }
    json_write_end(w);
    json_write_u64(w, "bytes", l->bytes);
    json_write_end(w);
}
