#include <criterion/criterion.h>
#include <stdlib.h>
#include "core/base/rng.h"
#include "core/js/column.h"

enum { COUNT = 1000 };

static uint64_t values[COUNT];

/* Bytes that they take, once each has been found again. */
static uint32_t bytes_of_column(uint32_t count)
{
    struct column c;
    column_plan(&c, values, count);
    cr_assert_eq(c.bytes % 8, 0);
    uint64_t *data = malloc(c.bytes + 1); /* no more, for the sanitizer */
    cr_assert_not_null(data);
    column_write(&c, data, values, count);
    for (uint32_t i = 0; i < count; i++) cr_assert_eq(column_get(&c, data, i), values[i], "%u", i);
    free(data);
    return c.bytes;
}

Test(column, equal_numbers_and_lines_take_nothing)
{
    for (uint32_t i = 0; i < COUNT; i++) values[i] = 77;
    cr_assert_eq(bytes_of_column(COUNT), 0);
    for (uint32_t i = 0; i < COUNT; i++) values[i] = UINT64_MAX - 500 + i; /* wraps */
    cr_assert_eq(bytes_of_column(COUNT), 0);
    for (uint32_t i = 0; i < COUNT; i++) values[i] = (UINT64_C(1) << 63) - i * 22;
    cr_assert_eq(bytes_of_column(COUNT), 0);
    cr_assert_eq(bytes_of_column(1), 0);
    cr_assert_eq(bytes_of_column(2), 0);
}

Test(column, runs_cost_by_the_run)
{
    /* Times of turns, each with 50 messages. */
    for (uint32_t i = 0; i < COUNT; i++)
        values[i] = UINT64_C(1700000000000000000) + i / 50 * 777777;
    cr_assert_leq(bytes_of_column(COUNT), 20 * 6);
    /* Records of 176 bytes in groups that begin at blocks. */
    for (uint32_t i = 0; i < COUNT; i++) values[i] = i / 40 * 1024 + i % 40 * 22 + 4;
    cr_assert_leq(bytes_of_column(COUNT), 25 * 5);
}

Test(column, what_is_near_a_line_takes_what_it_is_off)
{
    struct rng rng;
    rng_init(&rng, 3);
    for (uint32_t i = 0; i < COUNT; i++) values[i] = 1000000 * (uint64_t)i + rng_below(&rng, 256);
    cr_assert_leq(bytes_of_column(COUNT), COUNT * 11 / 8 + 8, "the slope is a whole number");
}

Test(column, any_numbers_come_back)
{
    struct rng rng;
    rng_init(&rng, 5);
    for (uint32_t round = 0; round < 200; round++) {
        uint32_t count = 1 + (uint32_t)rng_below(&rng, COUNT), bits = (uint32_t)rng_below(&rng, 65);
        uint64_t step = rng_below(&rng, 3) == 0 ? rng_next(&rng) : rng_below(&rng, 100);
        uint64_t now = rng_next(&rng);
        for (uint32_t i = 0; i < count; i++) {
            now += step;
            uint64_t noise = bits == 0 ? 0 : rng_next(&rng) >> (64 - bits);
            values[i] = now + (rng_below(&rng, 4) == 0 ? noise : 0);
        }
        cr_assert_leq(bytes_of_column(count), count * 8 + 8);
    }
}
