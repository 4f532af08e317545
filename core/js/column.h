/* A column of numbers that do not change any more, in few bytes: numbers that lie on a line take
 * nothing, and those that nearly do take little.
 *
 *   line     number i is base + i * step + a remainder of `width` bits
 *   pieces   runs that go up by step each, from a first number (base + `width` bits) of their own;
 *            which run has number i is a binary search
 *
 * column_plan finds out which of the two is smaller, column_write makes the bytes. All arithmetic
 * is modulo 2^64, so any numbers do. The bytes belong to whoever holds the column. Pure. */
#ifndef CORE_JS_COLUMN_H
#define CORE_JS_COLUMN_H
#include <stdint.h>

enum { COLUMN_COUNT_MAX = 1 << 15 };

struct column {
    uint64_t base, step;
    uint32_t bytes;  /* of its data, a multiple of 8 */
    uint16_t pieces; /* 0: a line */
    uint8_t width;
};

/* count from 1 to COLUMN_COUNT_MAX. */
void column_plan(struct column *c, const uint64_t *values, uint32_t count);
/* The same values; data has c->bytes bytes and is aligned to 8. */
void column_write(const struct column *c, uint64_t *data, const uint64_t *values, uint32_t count);
/* Of a column with data. */
uint64_t column_look(const struct column *c, const uint64_t *data, uint32_t at);

static inline uint64_t column_get(const struct column *c, const uint64_t *data, uint32_t at)
{
    return c->bytes == 0 ? c->base + c->step * at : column_look(c, data, at);
}

#endif
