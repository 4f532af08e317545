#include "core/auth/nkey.h"
#include "core/base/must.h"

enum { NKEY_PACKED_BYTES = 1 + NKEY_RAW_BYTES + 2 };

_Static_assert(NKEY_PACKED_BYTES * 8 == NKEY_TEXT_BYTES * 5, "no unused bits, so one spelling");

/* CRC-16/XMODEM: polynomial 0x1021, start 0, not reflected. */
static uint16_t crc16(const uint8_t *data, size_t byte_count)
{
    uint16_t crc = 0;
    for (size_t i = 0; i < byte_count; i++) {
        crc ^= (uint16_t)(data[i] << 8);
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)(crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1);
    }
    return crc;
}

static bool is_public(uint8_t prefix)
{
    switch (prefix) {
    case NKEY_ACCOUNT:
    case NKEY_CURVE:
    case NKEY_CLUSTER:
    case NKEY_SERVER:
    case NKEY_OPERATOR:
    case NKEY_USER: return true;
    default: return false;
    }
}

/* Base32 of RFC 4648, upper case only, no padding. */
static bool unpack(struct bytes text, uint8_t packed[NKEY_PACKED_BYTES])
{
    uint32_t bits = 0;
    unsigned bit_count = 0;
    size_t len = 0;
    must(text.len == NKEY_TEXT_BYTES);
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        uint32_t value;
        if (c >= 'A' && c <= 'Z')
            value = (uint32_t)(c - 'A');
        else if (c >= '2' && c <= '7')
            value = (uint32_t)(c - '2' + 26);
        else
            return false;
        bits = (bits << 5 | value) & 0xfff;
        bit_count += 5;
        if (bit_count < 8) continue;
        bit_count -= 8;
        packed[len++] = (uint8_t)(bits >> bit_count);
    }
    must(len == NKEY_PACKED_BYTES && bit_count == 0);
    return true;
}

enum err nkey_decode(struct bytes text, enum nkey_kind *kind, uint8_t raw[NKEY_RAW_BYTES])
{
    uint8_t packed[NKEY_PACKED_BYTES];
    if (text.len != NKEY_TEXT_BYTES) return ERR_TOO_LONG;
    if (!unpack(text, packed)) return ERR_SYNTAX;
    uint16_t crc = (uint16_t)(packed[NKEY_PACKED_BYTES - 2] | packed[NKEY_PACKED_BYTES - 1] << 8);
    if (crc != crc16(packed, NKEY_PACKED_BYTES - 2)) return ERR_CORRUPT;
    if (!is_public(packed[0])) return ERR_UNKNOWN;

    *kind = (enum nkey_kind)packed[0];
    memcpy(raw, packed + 1, NKEY_RAW_BYTES);
    return ERR_OK;
}

enum err nkey_decode_as(enum nkey_kind kind, struct bytes text, uint8_t *raw)
{
    enum nkey_kind found;
    uint8_t key[NKEY_RAW_BYTES];
    enum err e = nkey_decode(text, &found, key);
    if (e != ERR_OK) return e;
    if (found != kind) return ERR_INVALID;
    if (raw != NULL) memcpy(raw, key, NKEY_RAW_BYTES);
    return ERR_OK;
}

bool nkey_is_valid(enum nkey_kind kind, struct bytes text)
{
    return nkey_decode_as(kind, text, NULL) == ERR_OK;
}

void nkey_encode(enum nkey_kind kind, const uint8_t raw[NKEY_RAW_BYTES], char *text)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    uint8_t packed[NKEY_PACKED_BYTES];
    must(is_public((uint8_t)kind));
    packed[0] = (uint8_t)kind;
    memcpy(packed + 1, raw, NKEY_RAW_BYTES);
    uint16_t crc = crc16(packed, NKEY_PACKED_BYTES - 2);
    packed[NKEY_PACKED_BYTES - 2] = (uint8_t)crc;
    packed[NKEY_PACKED_BYTES - 1] = (uint8_t)(crc >> 8);

    uint32_t bits = 0;
    unsigned bit_count = 0;
    size_t len = 0;
    for (size_t i = 0; i < NKEY_PACKED_BYTES; i++) {
        bits = (bits << 8 | packed[i]) & 0xffff;
        bit_count += 8;
        while (bit_count >= 5) {
            bit_count -= 5;
            text[len++] = digits[bits >> bit_count & 31];
        }
    }
    must(len == NKEY_TEXT_BYTES && bit_count == 0);
}
