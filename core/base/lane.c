#include "core/base/lane.h"
#include <stddef.h>
#include "core/base/must.h"

bool lane_has_room(struct lane *l, uint64_t records_bytes, uint32_t largest_bytes)
{
    must(l->tail - l->head <= l->ring_bytes);
    uint64_t need = records_bytes + largest_bytes;
    if (l->ring_bytes - (l->tail - l->head) >= need) return true;
    l->refresh(l);
    must(l->tail - l->head <= l->ring_bytes);
    return l->ring_bytes - (l->tail - l->head) >= need;
}

void *lane_append(struct lane *l, uint16_t kind, uint16_t flags, uint32_t body_bytes)
{
    must(kind != LANE_PADDING);
    uint32_t bytes = lane_record_bytes(body_bytes);
    uint32_t at = (uint32_t)(l->tail & (l->ring_bytes - 1));
    uint32_t to_end = l->ring_bytes - at;
    if (bytes > to_end) {
        struct lane_record *padding = (struct lane_record *)(void *)(l->ring + at);
        *padding = (struct lane_record){.bytes = to_end, .kind = LANE_PADDING};
        l->tail += to_end;
        at = 0;
    }
    must(l->tail + bytes - l->head <= l->ring_bytes);
    struct lane_record *r = (struct lane_record *)(void *)(l->ring + at);
    *r = (struct lane_record){.bytes = bytes, .kind = kind, .flags = flags};
    l->tail += bytes;
    return r + 1;
}

const struct lane_record *lane_next(const uint8_t *ring, uint32_t ring_bytes, uint64_t *at,
                                    uint64_t end)
{
    while (*at < end) {
        const struct lane_record *r =
            (const struct lane_record *)(const void *)(ring + (*at & (ring_bytes - 1)));
        must(r->bytes >= sizeof *r && *at + r->bytes <= end);
        *at += r->bytes;
        if (r->kind != LANE_PADDING) return r;
    }
    return NULL;
}
