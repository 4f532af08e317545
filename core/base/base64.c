#include "core/base/base64.h"
#include "core/base/must.h"

static const char digits_url[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
static const char digits_std[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* -1: no digit of this alphabet. */
static int digit_value(enum base64_kind kind, char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == (kind == BASE64_URL ? '-' : '+')) return 62;
    if (c == (kind == BASE64_URL ? '_' : '/')) return 63;
    return -1;
}

size_t base64_encoded_len(enum base64_kind kind, size_t byte_count)
{
    size_t rest = byte_count % 3;
    size_t tail = rest == 0 ? 0 : kind == BASE64_STD ? 4 : rest + 1;
    return byte_count / 3 * 4 + tail;
}

size_t base64_encode(enum base64_kind kind, const void *data, size_t byte_count, char *out)
{
    const char *digits = kind == BASE64_URL ? digits_url : digits_std;
    const uint8_t *in = data;
    size_t len = 0;
    must(byte_count == 0 || data != NULL);
    for (size_t at = 0; at < byte_count; at += 3) {
        size_t rest = byte_count - at;
        uint32_t group = (uint32_t)in[at] << 16;
        if (rest > 1) group |= (uint32_t)in[at + 1] << 8;
        if (rest > 2) group |= in[at + 2];
        out[len++] = digits[group >> 18];
        out[len++] = digits[group >> 12 & 63];
        if (rest > 1)
            out[len++] = digits[group >> 6 & 63];
        else if (kind == BASE64_STD)
            out[len++] = '=';
        if (rest > 2)
            out[len++] = digits[group & 63];
        else if (kind == BASE64_STD)
            out[len++] = '=';
    }
    must(len == base64_encoded_len(kind, byte_count));
    return len;
}

enum err base64_decode(enum base64_kind kind, struct bytes text, uint8_t *out, size_t room,
                       size_t *byte_count)
{
    uint32_t group = 0;
    unsigned digit_count = 0, padding = 0; /* of the open group of four */
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        if (c == '\r' || c == '\n') continue;
        if (padding > 0 && digit_count == 0) return ERR_SYNTAX; /* beyond a padded group */
        if (c == '=' && kind == BASE64_STD) {
            if (digit_count + padding < 2) return ERR_SYNTAX;
            padding++;
        } else {
            int value = digit_value(kind, c);
            if (value < 0 || padding > 0) return ERR_SYNTAX;
            group = group << 6 | (uint32_t)value;
            digit_count++;
        }
        if (digit_count + padding < 4) continue;
        for (unsigned k = digit_count; k < 4; k++) group <<= 6;
        for (unsigned k = 0; k + 1 < digit_count; k++) {
            if (len == room) return ERR_FULL;
            out[len++] = (uint8_t)(group >> (16 - 8 * k));
        }
        group = 0;
        digit_count = 0;
    }
    if (digit_count > 0) {
        if (kind == BASE64_STD || digit_count == 1) return ERR_SYNTAX;
        for (unsigned k = digit_count; k < 4; k++) group <<= 6;
        for (unsigned k = 0; k + 1 < digit_count; k++) {
            if (len == room) return ERR_FULL;
            out[len++] = (uint8_t)(group >> (16 - 8 * k));
        }
    }
    *byte_count = len;
    return ERR_OK;
}
