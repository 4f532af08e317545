#include <criterion/criterion.h>
#include "persist/group.h"
#include "persist/record.h"
#include "persist/wire.h"

static const struct place_key KEY = {.secret = 99, .log = 2, .segment = 5, .incarnation = 3};
enum { OFFSET = 8192, SEGMENT_BYTES = 65536 };

static char data[PLACE_BLOCK_BYTES];
static struct group_head head;

/* Two records, the second without a body. */
static void encode(void)
{
    struct record r = {.kind = RECORD_MESSAGE, .stream = 1, .seq = 1, .body = {"x", 1}};
    memset(data, 0, sizeof data);
    uint32_t at = GROUP_HEAD_BYTES;
    record_encode(&r, &KEY, OFFSET + at, data + at);
    at += record_bytes(&r);
    r.kind = RECORD_ERASE;
    r.body.len = 0;
    record_encode(&r, &KEY, OFFSET + at, data + at);
    at += record_bytes(&r);
    head = (struct group_head){.number = 12,
                               .durable = 9,
                               .bytes = PLACE_BLOCK_BYTES,
                               .record_bytes = at - GROUP_HEAD_BYTES,
                               .record_count = 2};
    group_encode_head(&head, &KEY, OFFSET, data);
}

static enum err decode(uint64_t offset, uint64_t segment_bytes, struct group_head *h)
{
    return group_decode_head(data, &KEY, offset, segment_bytes, h);
}

TestSuite(group, .init = encode);

Test(group, lies_as_the_page_says)
{
    cr_assert_eq(wire_u32(data), 0x3147524D);
    cr_assert_eq(wire_u16(data + 4), 2);
    cr_assert_eq(wire_u32(data + 8), 5);
    cr_assert_eq(wire_u32(data + 12), 3);
    cr_assert_eq(wire_u64(data + 16), 12);
    cr_assert_eq(wire_u64(data + 24), 9);
    cr_assert_eq(wire_u32(data + 32), 4096);
    cr_assert_eq(wire_u32(data + 36), 64 + 56);
    cr_assert_eq(wire_u32(data + 40), 2);
}

Test(group, decodes_to_what_it_was)
{
    struct group_head h;
    cr_assert_eq(decode(OFFSET, SEGMENT_BYTES, &h), ERR_OK);
    cr_assert_eq(h.number, head.number);
    cr_assert_eq(h.durable, head.durable);
    cr_assert_eq(h.bytes, head.bytes);
    cr_assert_eq(h.record_bytes, head.record_bytes);
    cr_assert_eq(h.record_count, head.record_count);
    cr_assert(group_is_whole(&h, data, &KEY, OFFSET));
}

Test(group, is_not_whole_with_a_damaged_record)
{
    data[GROUP_HEAD_BYTES + 50] ^= 1;
    cr_assert_not(group_is_whole(&head, data, &KEY, OFFSET));
}

Test(group, is_not_whole_with_another_count)
{
    head.record_count = 3;
    cr_assert_not(group_is_whole(&head, data, &KEY, OFFSET));
}

Test(group, no_flipped_bit_of_the_header_passes)
{
    struct group_head h;
    for (int bit = 0; bit < GROUP_HEAD_BYTES * 8; bit++) {
        data[bit / 8] ^= (char)(1 << bit % 8);
        cr_assert_eq(decode(OFFSET, SEGMENT_BYTES, &h), ERR_CORRUPT, "bit %d", bit);
        data[bit / 8] ^= (char)(1 << bit % 8);
    }
}

Test(group, is_bound_to_its_place_and_ends_in_its_segment)
{
    struct group_head h;
    cr_assert_eq(decode(OFFSET + PLACE_BLOCK_BYTES, SEGMENT_BYTES, &h), ERR_CORRUPT);
    cr_assert_eq(decode(OFFSET, OFFSET + PLACE_BLOCK_BYTES, &h), ERR_OK);
    cr_assert_eq(decode(OFFSET, OFFSET, &h), ERR_CORRUPT);
}
