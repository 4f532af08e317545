/* Borrowed byte slices, a bounded writer, and integers as text.
 * A slice never owns its bytes; its holder must not outlive them. No terminating zero. */
#ifndef CORE_BASE_BYTES_H
#define CORE_BASE_BYTES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "core/base/err.h"

struct bytes {
    const char *data; /* may be NULL when len is 0 */
    size_t len;
};

#define BYTES_LITERAL(text) ((struct bytes){(text), sizeof(text) - 1})

static inline struct bytes bytes_of(const char *data, size_t len)
{
    return (struct bytes){data, len};
}

/* text ends with a zero; NULL gives the empty slice. */
static inline struct bytes bytes_from_text(const char *text)
{
    return (struct bytes){text, text == NULL ? 0 : strlen(text)};
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* ASCII letters compare without case; all other bytes exactly. */
/* 8 to 32 bytes at each, as most subjects have, by words that may overlap: a call of memcmp costs
 * more than the comparison. */
static inline bool bytes_same_words(const char *a, const char *b, size_t len)
{
    uint64_t x[4], y[4];
    size_t at = len > 16 ? 8 : 0; /* up to 16 bytes the middle is the ends again */
    memcpy(&x[0], a, 8);
    memcpy(&y[0], b, 8);
    memcpy(&x[1], a + len - 8, 8);
    memcpy(&y[1], b + len - 8, 8);
    memcpy(&x[2], a + at, 8);
    memcpy(&y[2], b + at, 8);
    memcpy(&x[3], a + len - 8 - at, 8);
    memcpy(&y[3], b + len - 8 - at, 8);
    return ((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3])) == 0;
}

/* bytes_equal for what is mostly of such a length. */
static inline bool bytes_equal_short(struct bytes a, struct bytes b)
{
    if (a.len != b.len) return false;
    return a.len - 8 <= 24 ? bytes_same_words(a.data, b.data, a.len) : bytes_equal(a, b);
}
bool bytes_equal_nocase(struct bytes a, struct bytes b);
bool bytes_starts_with(struct bytes a, struct bytes prefix);
bool bytes_ends_with(struct bytes a, struct bytes suffix);
/* Index of the first byte c, or a.len. */
size_t bytes_find(struct bytes a, char c);
/* Without spaces, tabs, CR and LF at both ends. */
struct bytes bytes_trim(struct bytes a);
/* <0, 0, >0 as memcmp, a shorter prefix first. */
int bytes_compare(struct bytes a, struct bytes b);

/* Decimal digits only, the whole slice, at most digits_max of them.
 * ERR_SYNTAX: empty or another byte. ERR_RANGE: too many digits or above UINT64_MAX. */
NODISCARD enum err bytes_to_u64(struct bytes a, unsigned digits_max, uint64_t *value);
/* The same with an optional leading '-' or '+'. */
NODISCARD enum err bytes_to_i64(struct bytes a, int64_t *value);

enum { BYTES_U64_TEXT_MAX = 20 };
/* Writes value in decimal at out (room for BYTES_U64_TEXT_MAX), no terminator; gives the length. */
size_t bytes_u64_text(char *out, uint64_t value);
/* The last count digits of value, zeroes in front included. */
void bytes_u32_digits(char *out, size_t count, uint32_t value);

/* Copies b and gives the place behind it. For texts that mostly are short: a call of memcpy costs
 * more than such a copy. */
static inline char *bytes_put(char *to, struct bytes b)
{
    const char *from = b.data;
    size_t len = b.len;
    if (len > 64) {
        memcpy(to, from, len);
    } else if (len >= 32) {
        memcpy(to, from, 32);
        memcpy(to + len - 32, from + len - 32, 32);
    } else if (len >= 16) {
        memcpy(to, from, 16);
        memcpy(to + len - 16, from + len - 16, 16);
    } else if (len >= 8) {
        memcpy(to, from, 8);
        memcpy(to + len - 8, from + len - 8, 8);
    } else if (len >= 4) {
        memcpy(to, from, 4);
        memcpy(to + len - 4, from + len - 4, 4);
    } else {
        for (size_t i = 0; i < len; i++) to[i] = from[i];
    }
    return to + len;
}

/* Appends into a fixed buffer. What does not fit is dropped whole and is_full is set for good,
 * so a caller may append many times and check once. */
struct writer {
    char *data;
    size_t len;
    size_t capacity;
    bool is_full;
};

void writer_init(struct writer *w, char *data, size_t capacity);
void writer_bytes(struct writer *w, struct bytes b);
void writer_text(struct writer *w, const char *text);
void writer_char(struct writer *w, char c);
void writer_u64(struct writer *w, uint64_t value);
void writer_i64(struct writer *w, int64_t value);
/* Two small digits for each byte, without a zero behind them: to has room for 2 * count. */
void bytes_to_hex(const uint8_t *from, size_t count, char *to);
/* "%q" of Go: double quotes, with escapes for quote, backslash and control bytes. */
void writer_quoted(struct writer *w, struct bytes b);
static inline struct bytes writer_written(const struct writer *w)
{
    return (struct bytes){w->data, w->len};
}

#endif
