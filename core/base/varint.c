#include "core/base/varint.h"

void varint_put(struct text *out, uint64_t value)
{
    for (; value >= 0x80; value >>= 7) text_char(out, (char)(value | 0x80));
    text_char(out, (char)value);
}

void varint_put_signed(struct text *out, int64_t value)
{
    varint_put(out, (uint64_t)value << 1 ^ (uint64_t)(value >> 63));
}

void varint_put_bytes(struct text *out, struct bytes b)
{
    varint_put(out, b.len);
    text_bytes(out, b);
}

bool varint_get(struct bytes *rest, uint64_t *value)
{
    uint64_t sum = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (rest->len == 0) return false;
        uint8_t byte = (uint8_t)rest->data[0];
        rest->data++;
        rest->len--;
        sum |= (uint64_t)(byte & 0x7f) << shift;
        if (byte >= 0x80) continue;
        *value = sum;
        return true;
    }
    return false;
}

bool varint_get_signed(struct bytes *rest, int64_t *value)
{
    uint64_t folded;
    if (!varint_get(rest, &folded)) return false;
    *value = (int64_t)(folded >> 1 ^ (0 - (folded & 1)));
    return true;
}

bool varint_get_bytes(struct bytes *rest, struct bytes *b)
{
    uint64_t len;
    if (!varint_get(rest, &len) || len > rest->len) return false;
    *b = bytes_of(rest->data, len);
    rest->data += len;
    rest->len -= len;
    return true;
}
