#include "core/js/column.h"
#include <stdbool.h>
#include <string.h>
#include "core/base/must.h"

enum { WORD_BITS = 64 };

_Static_assert((uint64_t)COLUMN_COUNT_MAX <= UINT32_MAX / WORD_BITS, "bits are counted in 32");

static uint8_t width_of(uint64_t max)
{
    return max == 0 ? 0 : (uint8_t)(WORD_BITS - __builtin_clzll(max));
}

static uint32_t words_for(uint32_t count, uint8_t width)
{
    return (uint32_t)(((uint64_t)count * width + WORD_BITS - 1) / WORD_BITS);
}

/* Read twice for each message that is delivered: inline, a call would be a third of it. */
static inline uint64_t bits_get(const uint64_t *data, uint8_t width, uint32_t at)
{
    if (width == 0) return 0;
    uint32_t bit = at * width, word = bit / WORD_BITS, shift = bit % WORD_BITS;
    uint64_t value = data[word] >> shift;
    if (shift + width > WORD_BITS) value |= data[word + 1] << (WORD_BITS - shift);
    return value & UINT64_MAX >> (WORD_BITS - width);
}

/* data was zero. */
static void bits_put(uint64_t *data, uint8_t width, uint32_t at, uint64_t value)
{
    if (width == 0) return;
    uint64_t bit = (uint64_t)at * width, word = bit / WORD_BITS;
    uint32_t shift = (uint32_t)(bit % WORD_BITS);
    data[word] |= value << shift;
    if (shift + width > WORD_BITS) data[word + 1] |= value >> (WORD_BITS - shift);
}

/* --- lines ----------------------------------------------------------------------------------- */

static struct column line_of(const uint64_t *values, uint32_t count, uint64_t step)
{
    int64_t min = 0, max = 0;
    for (uint32_t i = 1; i < count; i++) {
        int64_t off = (int64_t)(values[i] - values[0] - step * i);
        if (off < min) min = off;
        if (off > max) max = off;
    }
    struct column c = {.base = values[0] + (uint64_t)min, .step = step};
    c.width = width_of((uint64_t)max - (uint64_t)min);
    c.bytes = words_for(count, c.width) * 8;
    return c;
}

/* --- pieces ---------------------------------------------------------------------------------- */

/* Where pieces begin lies behind their first numbers. */
static uint32_t starts_words(uint32_t pieces)
{
    return (pieces + 3) / 4;
}

static const uint16_t *starts_of(const struct column *c, const uint64_t *data)
{
    return (const uint16_t *)(const void *)(data + words_for(c->pieces, c->width));
}

static bool is_start(const uint64_t *values, uint32_t i, uint64_t step)
{
    return i == 0 || values[i] - values[i - 1] != step;
}

/* False: there are more than it pays for. */
static bool pieces_of(const uint64_t *values, uint32_t count, uint64_t step, uint32_t bytes_max,
                      struct column *c)
{
    uint64_t min = UINT64_MAX, max = 0;
    uint32_t pieces = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!is_start(values, i, step)) continue;
        if (++pieces * sizeof(uint16_t) >= bytes_max) return false;
        if (values[i] < min) min = values[i];
        if (values[i] > max) max = values[i];
    }
    *c = (struct column){.base = min, .step = step, .pieces = (uint16_t)pieces};
    c->width = width_of(max - min);
    c->bytes = (words_for(pieces, c->width) + starts_words(pieces)) * 8;
    return c->bytes < bytes_max;
}

/* --- both ------------------------------------------------------------------------------------ */

void column_plan(struct column *c, const uint64_t *values, uint32_t count)
{
    must(count > 0);
    must(count <= COLUMN_COUNT_MAX);
    uint32_t middle = count / 2;
    uint64_t steps[] = {
        0,
        count > 1 ? values[1] - values[0] : 0,
        count > 2 ? values[middle] - values[middle - 1] : 0,
        count > 1 ? (values[count - 1] - values[0]) / (count - 1) : 0,
    };
    struct column other;
    *c = line_of(values, count, 0);
    for (uint32_t i = 1; i < 4 && c->bytes > 0; i++) {
        other = line_of(values, count, steps[i]);
        if (other.bytes < c->bytes) *c = other;
    }
    for (uint32_t i = 0; i < 3 && c->bytes > 0; i++)
        if (pieces_of(values, count, steps[i], c->bytes, &other)) *c = other;
}

void column_write(const struct column *c, uint64_t *data, const uint64_t *values, uint32_t count)
{
    if (c->bytes == 0) return;
    memset(data, 0, c->bytes);
    if (c->pieces == 0) {
        for (uint32_t i = 0; i < count; i++)
            bits_put(data, c->width, i, values[i] - c->base - c->step * i);
        return;
    }
    uint16_t *starts = (uint16_t *)(uintptr_t)(const void *)starts_of(c, data);
    uint32_t piece = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!is_start(values, i, c->step)) continue;
        bits_put(data, c->width, piece, values[i] - c->base);
        starts[piece++] = (uint16_t)i;
    }
    must(piece == c->pieces);
}

uint64_t column_look(const struct column *c, const uint64_t *data, uint32_t at)
{
    if (c->pieces == 0) return c->base + c->step * at + bits_get(data, c->width, at);
    const uint16_t *starts = starts_of(c, data);
    uint32_t low = 0, high = c->pieces; /* low is at or before, high behind */
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (starts[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    return c->base + bits_get(data, c->width, low) + c->step * (at - starts[low]);
}
