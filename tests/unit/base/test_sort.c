#include <criterion/criterion.h>
#include "core/base/rng.h"
#include "core/base/sort.h"

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

Test(sort, smallest_comes_first_for_every_count)
{
    static uint32_t values[300];
    static const void *items[300];
    struct rng r;
    rng_init(&r, 2);
    for (uint32_t count = 0; count <= 300; count++) {
        uint64_t sum = 0, sorted_sum = 0;
        for (uint32_t i = 0; i < count; i++) {
            values[i] = rng_below(&r, 100);
            sum += values[i];
            items[i] = &values[i];
        }
        sort_pointers(items, count, compare);
        for (uint32_t i = 0; i < count; i++) {
            sorted_sum += *(const uint32_t *)items[i];
            if (i > 0) cr_assert_leq(compare(items[i - 1], items[i]), 0);
        }
        cr_assert_eq(sum, sorted_sum);
    }
}
