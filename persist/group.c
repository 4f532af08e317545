#include "persist/group.h"
#include "persist/record.h"
#include "persist/wire.h"

enum { MAGIC = 0x3147524D, CHECKED_BYTES = 56 };

void group_encode_head(const struct group_head *h, const struct place_key *k, uint64_t offset,
                       char *out)
{
    must(h->bytes % PLACE_BLOCK_BYTES == 0 && offset % PLACE_BLOCK_BYTES == 0);
    must(GROUP_HEAD_BYTES + (uint64_t)h->record_bytes <= h->bytes);
    must(h->durable < h->number);
    memset(out, 0, GROUP_HEAD_BYTES);
    wire_put_u32(out, MAGIC);
    wire_put_u16(out + 4, (uint16_t)k->log);
    wire_put_u32(out + 8, k->segment);
    wire_put_u32(out + GROUP_INCARNATION_AT, k->incarnation);
    wire_put_u64(out + 16, h->number);
    wire_put_u64(out + 24, h->durable);
    wire_put_u32(out + 32, h->bytes);
    wire_put_u32(out + 36, h->record_bytes);
    wire_put_u32(out + 40, h->record_count);
    wire_put_u64(out + CHECKED_BYTES, place_checksum(k, offset, out, CHECKED_BYTES));
}

enum err group_decode_head(const char *data, const struct place_key *k, uint64_t offset,
                           uint64_t segment_bytes, struct group_head *out)
{
    if (wire_u32(data) != MAGIC) return ERR_CORRUPT;
    if (wire_u64(data + CHECKED_BYTES) != place_checksum(k, offset, data, CHECKED_BYTES))
        return ERR_CORRUPT;
    if (wire_u16(data + 4) != k->log || wire_u32(data + 8) != k->segment) return ERR_CORRUPT;
#ifndef MILLRACE_BREAK_INCARNATION_LEFT_OUT
    if (wire_u32(data + GROUP_INCARNATION_AT) != k->incarnation) return ERR_CORRUPT;
#endif
    struct group_head h = {.number = wire_u64(data + 16),
                           .durable = wire_u64(data + 24),
                           .bytes = wire_u32(data + 32),
                           .record_bytes = wire_u32(data + 36),
                           .record_count = wire_u32(data + 40)};
    if (h.number == 0 || h.number > GROUP_NUMBER_MAX || h.durable >= h.number) return ERR_CORRUPT;
    if (h.bytes % PLACE_BLOCK_BYTES != 0 || offset + h.bytes > segment_bytes) return ERR_CORRUPT;
    if (GROUP_HEAD_BYTES + (uint64_t)h.record_bytes > h.bytes) return ERR_CORRUPT;
    *out = h;
    return ERR_OK;
}

bool group_is_whole(const struct group_head *h, const char *data, const struct place_key *k,
                    uint64_t offset)
{
    uint32_t at = GROUP_HEAD_BYTES, end = GROUP_HEAD_BYTES + h->record_bytes, count = 0, bytes;
    struct record r;
    while (at < end) {
        if (record_decode(data + at, end - at, k, offset + at, &r, &bytes) != ERR_OK) return false;
        at += bytes;
        count++;
    }
    must(at == end);
    return count == h->record_count;
}
