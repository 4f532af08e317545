#include <criterion/criterion.h>
#include "core/base/bytes.h"

Test(bytes, numbers_beyond_sixty_four_bits_are_out_of_range)
{
    uint64_t value = 7;
    cr_assert_eq(bytes_to_u64(BYTES_LITERAL("18446744073709551615"), 20, &value), ERR_OK);
    cr_assert_eq(value, UINT64_MAX);
    cr_assert_eq(bytes_to_u64(BYTES_LITERAL("18446744073709551616"), 20, &value), ERR_RANGE);
    cr_assert_eq(bytes_to_u64(BYTES_LITERAL("1234567890"), 9, &value), ERR_RANGE);
    cr_assert_eq(bytes_to_u64(BYTES_LITERAL("-1"), 9, &value), ERR_SYNTAX);
    cr_assert_eq(bytes_to_u64(BYTES_LITERAL(""), 9, &value), ERR_SYNTAX);
    cr_assert_eq(value, UINT64_MAX, "a failure writes nothing");
}

Test(bytes, signed_numbers_reach_both_ends)
{
    int64_t value;
    cr_assert_eq(bytes_to_i64(BYTES_LITERAL("-9223372036854775808"), &value), ERR_OK);
    cr_assert_eq(value, INT64_MIN);
    cr_assert_eq(bytes_to_i64(BYTES_LITERAL("9223372036854775808"), &value), ERR_RANGE);
}

Test(bytes, a_full_writer_keeps_what_it_has_and_says_so)
{
    char room[8];
    struct writer w;
    writer_init(&w, room, sizeof room);
    writer_text(&w, "abc");
    writer_u64(&w, 1234567);
    cr_assert(w.is_full);
    cr_assert_eq(w.len, 3);
}

Test(bytes, quoting_is_that_of_go)
{
    char room[64];
    struct writer w;
    writer_init(&w, room, sizeof room);
    writer_quoted(&w, BYTES_LITERAL("a\"b\\\n\x01z"));
    cr_assert(bytes_equal(writer_written(&w), BYTES_LITERAL("\"a\\\"b\\\\\\n\\x01z\"")));
}
