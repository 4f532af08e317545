#include <criterion/criterion.h>
#include "core/base/histogram.h"
#include "core/base/rng.h"

Test(histogram, steps_cover_the_range_without_gap_or_overlap)
{
    cr_assert_eq(histogram_step_first(0), 0);
    for (uint32_t step = 0; step + 1 < HISTOGRAM_STEPS; step++) {
        cr_assert_eq(histogram_step_last(step) + 1, histogram_step_first(step + 1));
        cr_assert_eq(histogram_step_of(histogram_step_first(step)), step);
        cr_assert_eq(histogram_step_of(histogram_step_last(step)), step);
    }
    cr_assert_eq(histogram_step_last(HISTOGRAM_STEPS - 1), HISTOGRAM_NS_MAX);
    cr_assert_eq(histogram_step_of(HISTOGRAM_NS_MAX), HISTOGRAM_STEPS - 1);
    cr_assert_eq(histogram_step_of(UINT64_MAX), HISTOGRAM_STEPS - 1);
    cr_assert_gt(HISTOGRAM_NS_MAX, UINT64_C(60000000000));
}

Test(histogram, a_step_is_at_most_a_thirtysecond_wide)
{
    for (uint32_t step = 64; step < HISTOGRAM_STEPS; step++) {
        uint64_t first = histogram_step_first(step);
        cr_assert_leq(histogram_step_last(step) - first + 1, first / 32);
    }
}

Test(histogram, quantiles_are_right_to_a_step)
{
    struct histogram h;
    histogram_init(&h);
    cr_assert_eq(histogram_quantile(&h, 0.5), 0);
    for (uint64_t v = 1; v <= 100000; v++) histogram_add(&h, v * 1000);
    const double parts[] = {0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        double exact = parts[i] * 1e8 < 1000 ? 1000 : parts[i] * 1e8;
        double found = (double)histogram_quantile(&h, parts[i]);
        cr_assert_geq(found, exact * 0.9999);
        cr_assert_leq(found, exact * 1.04);
    }
    cr_assert_eq(histogram_quantile(&h, 1.0), 100000000);
}

Test(histogram, one_beyond_the_range_shows_as_the_maximum)
{
    struct histogram h;
    histogram_init(&h);
    histogram_add(&h, 500);
    histogram_add(&h, UINT64_C(120000000000));
    cr_assert_eq(histogram_quantile(&h, 1.0), UINT64_C(120000000000));
    cr_assert_eq(histogram_count_to(&h, HISTOGRAM_NS_MAX), 1, "the large one is not below");
}

Test(histogram, merging_equals_counting_into_one)
{
    static struct histogram parts[3], all, merged;
    histogram_init(&all);
    histogram_init(&merged);
    for (int i = 0; i < 3; i++) histogram_init(&parts[i]);
    struct rng r;
    rng_init(&r, 11);
    for (int i = 0; i < 30000; i++) {
        uint64_t value = rng_next(&r) >> (rng_below(&r, 50) + 14);
        histogram_add(&parts[i % 3], value);
        histogram_add(&all, value);
    }
    for (int i = 0; i < 3; i++) histogram_merge(&merged, &parts[i]);
    cr_assert_eq(memcmp(&merged, &all, sizeof all), 0);
    uint64_t total = 0;
    for (uint32_t step = 0; step < HISTOGRAM_STEPS; step++) total += all.steps[step];
    cr_assert_eq(total, all.count);
}
