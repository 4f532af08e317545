#include <criterion/criterion.h>
#include <stdio.h>
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

Test(bytes, numbers_of_any_length_are_written_as_printf_does)
{
    for (uint64_t n = 0, value = 0; value < UINT64_MAX / 3; value = n++ < 20000 ? n : value * 3) {
        char text[BYTES_U64_TEXT_MAX], expected[BYTES_U64_TEXT_MAX + 1];
        int len = snprintf(expected, sizeof expected, "%lu", (unsigned long)value);
        cr_assert_eq(bytes_u64_text(text, value), (size_t)len, "%s", expected);
        cr_assert_arr_eq(text, expected, (size_t)len);
    }
}

Test(bytes, quoting_is_that_of_go)
{
    char room[64];
    struct writer w;
    writer_init(&w, room, sizeof room);
    writer_quoted(&w, BYTES_LITERAL("a\"b\\\n\x01z"));
    cr_assert(bytes_equal(writer_written(&w), BYTES_LITERAL("\"a\\\"b\\\\\\n\\x01z\"")));
}

Test(bytes, short_texts_are_compared_to_their_last_byte)
{
    char a[48], b[48];
    for (size_t len = 0; len <= 40; len++) {
        for (size_t i = 0; i < sizeof a; i++) a[i] = b[i] = (char)('a' + i % 26);
        b[len] = '-'; /* behind the end */
        cr_assert(bytes_equal_short(bytes_of(a, len), bytes_of(b, len)), "length %zu", len);
        cr_assert_not(bytes_equal_short(bytes_of(a, len), bytes_of(b, len + 1)));
        for (size_t at = 0; at < len; at++) {
            char was = b[at];
            b[at] = '*';
            cr_assert_not(bytes_equal_short(bytes_of(a, len), bytes_of(b, len)),
                          "length %zu, byte %zu", len, at);
            b[at] = was;
        }
    }
}

Test(bytes, a_copy_of_any_length_is_whole_and_no_more)
{
    char from[100], to[104];
    for (size_t i = 0; i < sizeof from; i++) from[i] = (char)(i + 1);
    for (size_t len = 0; len <= sizeof from; len++) {
        memset(to, 0, sizeof to);
        cr_assert_eq(bytes_put(to + 2, bytes_of(from, len)), to + 2 + len);
        cr_assert_eq(memcmp(to + 2, from, len), 0);
        cr_assert(to[1] == 0 && to[2 + len] == 0);
    }
}

Test(bytes, digits_fill_their_place)
{
    char to[10] = "xxxxxxxxxx";
    bytes_u32_digits(to, 9, 1050709);
    cr_assert_eq(memcmp(to, "001050709x", 10), 0);
    bytes_u32_digits(to, 3, 1234);
    cr_assert_eq(memcmp(to, "234", 3), 0);
}
