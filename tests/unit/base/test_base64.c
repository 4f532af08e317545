#include <criterion/criterion.h>
#include "core/base/base64.h"

static bool encodes(enum base64_kind kind, const char *from, const char *to)
{
    char out[64];
    size_t len = base64_encode(kind, from, strlen(from), out);
    return bytes_equal(bytes_of(out, len), bytes_from_text(to)) &&
           len == base64_encoded_len(kind, strlen(from));
}

static enum err decodes(enum base64_kind kind, const char *from, const char *to)
{
    uint8_t out[64];
    size_t len;
    enum err e = base64_decode(kind, bytes_from_text(from), out, sizeof out, &len);
    if (e == ERR_OK) cr_assert(bytes_equal(bytes_of((char *)out, len), bytes_from_text(to)));
    return e;
}

Test(base64, the_vectors_of_the_standard_hold_both_ways)
{
    static const char *const plain[] = {"", "f", "fo", "foo", "foob", "fooba", "foobar"};
    static const char *const std[] = {"",         "Zg==",     "Zm8=",    "Zm9v",
                                      "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
    static const char *const url[] = {"", "Zg", "Zm8", "Zm9v", "Zm9vYg", "Zm9vYmE", "Zm9vYmFy"};
    for (size_t i = 0; i < 7; i++) {
        cr_assert(encodes(BASE64_STD, plain[i], std[i]));
        cr_assert(encodes(BASE64_URL, plain[i], url[i]));
        cr_assert_eq(decodes(BASE64_STD, std[i], plain[i]), ERR_OK);
        cr_assert_eq(decodes(BASE64_URL, url[i], plain[i]), ERR_OK);
    }
    cr_assert(encodes(BASE64_STD, "\xfb\xff", "+/8="));
    cr_assert(encodes(BASE64_URL, "\xfb\xff", "-_8"));
}

Test(base64, each_alphabet_refuses_the_other_and_wrong_lengths)
{
    cr_assert_eq(decodes(BASE64_URL, "+/8", ""), ERR_SYNTAX);
    cr_assert_eq(decodes(BASE64_STD, "-_8=", ""), ERR_SYNTAX);
    cr_assert_eq(decodes(BASE64_URL, "Zg==", ""), ERR_SYNTAX);
    cr_assert_eq(decodes(BASE64_STD, "Zg", ""), ERR_SYNTAX);
    cr_assert_eq(decodes(BASE64_STD, "Zg=", ""), ERR_SYNTAX);
    cr_assert_eq(decodes(BASE64_STD, "Z===", ""), ERR_SYNTAX);
    cr_assert_eq(decodes(BASE64_STD, "Zg==Zg==", ""), ERR_SYNTAX);
    cr_assert_eq(decodes(BASE64_URL, "Z", ""), ERR_SYNTAX);
    cr_assert_eq(decodes(BASE64_URL, "Zm9v!", ""), ERR_SYNTAX);
}

Test(base64, line_ends_and_loose_bits_pass_as_in_go)
{
    cr_assert_eq(decodes(BASE64_STD, "Zm9v\r\nYg==\n", "foob"), ERR_OK);
    cr_assert_eq(decodes(BASE64_URL, "Zh", "f"), ERR_OK);
}

Test(base64, no_byte_goes_beyond_the_room)
{
    uint8_t out[4] = {9, 9, 9, 9};
    size_t len = 77;
    cr_assert_eq(base64_decode(BASE64_URL, BYTES_LITERAL("Zm9vYg"), out, 3, &len), ERR_FULL);
    cr_assert_eq(out[3], 9);
    cr_assert_eq(len, 77);
}
