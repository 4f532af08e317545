#include <criterion/criterion.h>
#include <ctype.h>
#include "core/base/rng.h"

enum { DRAWS = 20000 };

Test(rng, equal_seeds_give_equal_sequences)
{
    struct rng a, b, c;
    rng_init(&a, 7);
    rng_init(&b, 7);
    rng_init(&c, 8);
    bool is_other = false;
    for (int i = 0; i < 100; i++) {
        uint64_t value = rng_next(&a);
        cr_assert_eq(value, rng_next(&b));
        is_other = is_other || value != rng_next(&c);
    }
    cr_assert(is_other);
}

Test(rng, below_stays_below_and_favours_nobody)
{
    struct rng r;
    uint32_t counts[10] = {0};
    rng_init(&r, 1);
    for (int i = 0; i < DRAWS; i++) {
        uint32_t value = rng_below(&r, 10);
        cr_assert_lt(value, 10);
        counts[value]++;
    }
    for (int i = 0; i < 10; i++) {
        cr_assert_gt(counts[i], DRAWS / 10 * 9 / 10);
        cr_assert_lt(counts[i], DRAWS / 10 * 11 / 10);
    }
    cr_assert_eq(rng_below(&r, 1), 0);
}

Test(rng, text_is_all_letters_and_digits_and_ends_where_it_should)
{
    struct rng r;
    char text[DRAWS + 1];
    bool is_met[256] = {false};
    int met = 0;
    rng_init(&r, 1);
    text[DRAWS] = '!';
    rng_text(&r, text, DRAWS);
    cr_assert_eq(text[DRAWS], '!');
    for (int i = 0; i < DRAWS; i++) {
        cr_assert(isalnum((unsigned char)text[i]));
        met += !is_met[(unsigned char)text[i]];
        is_met[(unsigned char)text[i]] = true;
    }
    cr_assert_eq(met, 62);
}
