#include <criterion/criterion.h>
#include "persist/place.h"

static const struct place_key KEY = {
    .secret = 0x1122334455667788, .log = 3, .segment = 9, .incarnation = 4};

/* Worked out once by the formula of docs/FORMAT.md, with another implementation. */
Test(place, checksums_are_those_of_the_page)
{
    cr_assert_eq(place_checksum(&KEY, 4160, "hello", 5), 0xcd92b012ee58e926);
    cr_assert_eq(place_checksum_packed(&KEY, 1 << 27, "hello", 5), 0xc3a3f499870b65da);
}

Test(place, says_what_it_was_made_of)
{
    uint64_t p = place_of(255, UINT32_MAX, PLACE_SEGMENT_BYTES_MAX - 8);
    cr_assert_eq(place_log(p), 255);
    cr_assert_eq(place_segment(p), UINT32_MAX);
    cr_assert_eq(place_offset(p), PLACE_SEGMENT_BYTES_MAX - 8);
    cr_assert_not(place_is_packed(p));
    p = place_packed(1, 2, 64);
    cr_assert(place_is_packed(p));
    cr_assert_eq(place_log(p), 1);
    cr_assert_eq(place_segment(p), 2);
    cr_assert_eq(place_offset(p), 64);
}

Test(place, follows_the_order_of_a_log)
{
    cr_assert_lt(place_of(0, 1, 4096), place_of(0, 1, 4104));
    cr_assert_lt(place_of(0, 1, 4104), place_of(0, 2, 0));
}

Test(place, blocks_are_rounded_both_ways)
{
    cr_assert_eq(place_block_up(0), 0);
    cr_assert_eq(place_block_up(1), 4096);
    cr_assert_eq(place_block_down(8191), 4096);
}
