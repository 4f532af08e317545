#include <criterion/criterion.h>
#include <xxhash.h>
#include "persist/root.h"
#include "persist/wire.h"

static const struct root ROOT = {
    .incarnation = 3, .store = 11, .secret = 12, .log_count = 4, .generation = 9};
static char data[ROOT_BYTES];

static void encode(void)
{
    root_encode(&ROOT, data);
}

static void seal(void)
{
    wire_put_u64(data + 4088, XXH3_64bits_withSeed(data, 4088, 0x524F4F54));
}

TestSuite(root, .init = encode);

Test(root, lies_as_the_page_says)
{
    cr_assert_arr_eq(data, "MILROOT1", 8);
    cr_assert_eq(wire_u32(data + 8), 1);
    cr_assert_eq(wire_u32(data + 12), 3);
    cr_assert_eq(wire_u64(data + 16), 11);
    cr_assert_eq(wire_u64(data + 24), 12);
    cr_assert_eq(wire_u32(data + 32), 4);
    cr_assert_eq(wire_u64(data + 40), 9);
}

Test(root, decodes_to_what_it_was)
{
    struct root r;
    cr_assert_eq(root_decode(data, &r), ERR_OK);
    cr_assert_eq(r.incarnation, ROOT.incarnation);
    cr_assert_eq(r.secret, ROOT.secret);
    cr_assert_eq(r.log_count, ROOT.log_count);
    cr_assert_eq(r.generation, ROOT.generation);
}

Test(root, no_flipped_byte_passes)
{
    struct root r;
    for (int at = 0; at < ROOT_BYTES; at++) {
        data[at] ^= 0x10;
        cr_assert_eq(root_decode(data, &r), ERR_CORRUPT, "byte %d", at);
        data[at] ^= 0x10;
    }
}

Test(root, a_newer_version_is_no_damage)
{
    struct root r;
    wire_put_u32(data + 8, 2);
    seal();
    cr_assert_eq(root_decode(data, &r), ERR_UNSUPPORTED);
}

Test(root, more_logs_than_places_can_name_are_damage)
{
    struct root r;
    wire_put_u32(data + 32, 257);
    seal();
    cr_assert_eq(root_decode(data, &r), ERR_CORRUPT);
}
