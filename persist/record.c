#include "persist/record.h"
#include "persist/wire.h"

static uint64_t round_up(uint64_t bytes)
{
    return (bytes + PLACE_UNIT_BYTES - 1) / PLACE_UNIT_BYTES * PLACE_UNIT_BYTES;
}

uint32_t record_bytes(const struct record *r)
{
    if (r->subject.len > RECORD_SUBJECT_BYTES_MAX || r->headers.len > RECORD_DATA_BYTES_MAX ||
        r->body.len > RECORD_DATA_BYTES_MAX || r->headers.len + r->body.len > RECORD_DATA_BYTES_MAX)
        return 0;
    return (uint32_t)round_up(RECORD_BYTES_MIN + r->subject.len + r->headers.len + r->body.len);
}

static char *put(char *to, struct bytes b)
{
    if (b.len > 0) memcpy(to, b.data, b.len);
    return to + b.len;
}

static char *encode_parts(const struct record *r, uint32_t bytes, char *out)
{
    must(r->kind > RECORD_NONE && r->kind < RECORD_KIND_COUNT);
    must(r->flags <= UINT8_MAX);
    wire_put_u32(out, bytes);
    out[4] = (char)r->kind;
    out[5] = (char)r->flags;
    wire_put_u16(out + 6, (uint16_t)r->subject.len);
    wire_put_u64(out + 8, r->stream);
    wire_put_u64(out + 16, r->seq);
    wire_put_u64(out + 24, r->prev_seq);
    wire_put_u64(out + 32, (uint64_t)r->time_ns);
    wire_put_u32(out + 40, (uint32_t)r->headers.len);
    wire_put_u32(out + 44, (uint32_t)r->body.len);
    return put(put(put(out + RECORD_HEAD_BYTES, r->subject), r->headers), r->body);
}

void record_encode_parts(const struct record *r, uint32_t bytes, char *out)
{
    must(encode_parts(r, bytes, out) <= out + bytes);
}

void record_encode(const struct record *r, const struct place_key *k, uint64_t offset, char *out)
{
    uint32_t bytes = record_bytes(r);
    must(bytes > 0);
    char *end = encode_parts(r, bytes, out);
    char *checksum = out + bytes - RECORD_CHECKSUM_BYTES;
    must(end <= checksum);
    memset(end, 0, (size_t)(checksum - end));
    wire_put_u64(checksum, place_checksum(k, offset, out, bytes - RECORD_CHECKSUM_BYTES));
}

void record_decode_parts(const char *data, struct record *out)
{
    struct bytes subject = {data + RECORD_HEAD_BYTES, wire_u16(data + 6)};
    struct bytes headers = {subject.data + subject.len, wire_u32(data + 40)};
    struct bytes body = {headers.data + headers.len, wire_u32(data + 44)};
    *out = (struct record){.kind = (enum record_kind)(uint8_t)data[4],
                           .flags = (uint8_t)data[5],
                           .stream = wire_u64(data + 8),
                           .seq = wire_u64(data + 16),
                           .prev_seq = wire_u64(data + 24),
                           .time_ns = (int64_t)wire_u64(data + 32),
                           .subject = subject,
                           .headers = headers,
                           .body = body};
}

enum err record_decode(const char *data, size_t len, const struct place_key *k, uint64_t offset,
                       struct record *out, uint32_t *bytes)
{
    if (len < RECORD_HEAD_BYTES) {
        *bytes = RECORD_BYTES_MIN;
        return ERR_INCOMPLETE;
    }
    uint32_t length = wire_u32(data);
    uint64_t sum =
        RECORD_BYTES_MIN + (uint64_t)wire_u16(data + 6) + wire_u32(data + 40) + wire_u32(data + 44);
    uint8_t kind = (uint8_t)data[4];
    /* These few comparisons throw out nearly all that is no record, before any hashing. */
    if (length != round_up(sum)) return ERR_CORRUPT;
    if (kind == RECORD_NONE || kind >= RECORD_KIND_COUNT) return ERR_CORRUPT;
    if (length > PLACE_SEGMENT_BYTES_MAX) return ERR_CORRUPT;
    if (len < length) {
        *bytes = length;
        return ERR_INCOMPLETE;
    }
#ifndef MILLRACE_BREAK_CHECKSUM_SKIPPED
    if (wire_u64(data + length - RECORD_CHECKSUM_BYTES) !=
        place_checksum(k, offset, data, length - RECORD_CHECKSUM_BYTES))
        return ERR_CORRUPT;
#endif
    record_decode_parts(data, out);
    *bytes = length;
    return ERR_OK;
}

void record_decode_checked(const char *data, struct record *out, uint32_t *bytes)
{
    record_decode_parts(data, out);
    *bytes = wire_u32(data);
    must(*bytes >= RECORD_BYTES_MIN + out->subject.len + out->headers.len + out->body.len);
}
