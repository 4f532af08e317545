#include <criterion/criterion.h>
#include "persist/record.h"
#include "persist/wire.h"

static const struct place_key KEY = {.secret = 99, .log = 2, .segment = 5, .incarnation = 3};
static const struct record MESSAGE = {.kind = RECORD_MESSAGE,
                                      .flags = 0,
                                      .stream = 7,
                                      .seq = 8,
                                      .prev_seq = 6,
                                      .time_ns = 1700000000000000001,
                                      .subject = {"a.b", 3},
                                      .headers = {"NATS/1.0\r\n\r\n", 12},
                                      .body = {"hello", 5}};
enum { OFFSET = 4160, BYTES = 80 }; /* 56 + 3 + 12 + 5, rounded up */

static char data[256];

static void encode(void)
{
    memset(data, 0x55, sizeof data);
    record_encode(&MESSAGE, &KEY, OFFSET, data);
}

static enum err decode(size_t len, uint64_t offset, struct record *r, uint32_t *bytes)
{
    return record_decode(data, len, &KEY, offset, r, bytes);
}

TestSuite(record, .init = encode);

Test(record, lies_as_the_page_says)
{
    cr_assert_eq(record_bytes(&MESSAGE), BYTES);
    cr_assert_eq(wire_u32(data), BYTES);
    cr_assert_eq(data[4], 1);
    cr_assert_eq(data[5], 0);
    cr_assert_eq(wire_u16(data + 6), 3);
    cr_assert_eq(wire_u64(data + 8), 7);
    cr_assert_eq(wire_u64(data + 16), 8);
    cr_assert_eq(wire_u64(data + 24), 6);
    cr_assert_eq(wire_u64(data + 32), 1700000000000000001u);
    cr_assert_eq(wire_u32(data + 40), 12);
    cr_assert_eq(wire_u32(data + 44), 5);
    cr_assert_arr_eq(data + 48, "a.bNATS/1.0\r\n\r\nhello\0\0\0\0", 24);
    cr_assert_eq(data[BYTES], 0x55);
}

Test(record, decodes_to_what_it_was)
{
    struct record r;
    uint32_t bytes;
    cr_assert_eq(decode(BYTES, OFFSET, &r, &bytes), ERR_OK);
    cr_assert_eq(bytes, BYTES);
    cr_assert_eq(r.kind, RECORD_MESSAGE);
    cr_assert_eq(r.seq, 8);
    cr_assert_eq(r.time_ns, MESSAGE.time_ns);
    cr_assert(bytes_equal(r.subject, MESSAGE.subject));
    cr_assert(bytes_equal(r.headers, MESSAGE.headers));
    cr_assert(bytes_equal(r.body, MESSAGE.body));
}

Test(record, says_how_many_bytes_it_needs)
{
    struct record r;
    uint32_t bytes = 0;
    cr_assert_eq(decode(47, OFFSET, &r, &bytes), ERR_INCOMPLETE);
    cr_assert_eq(bytes, RECORD_BYTES_MIN);
    cr_assert_eq(decode(BYTES - 1, OFFSET, &r, &bytes), ERR_INCOMPLETE);
    cr_assert_eq(bytes, BYTES);
}

Test(record, no_flipped_bit_passes)
{
    struct record r;
    uint32_t bytes;
    for (int bit = 0; bit < BYTES * 8; bit++) {
        data[bit / 8] ^= (char)(1 << bit % 8);
        cr_assert_neq(decode(BYTES, OFFSET, &r, &bytes), ERR_OK, "bit %d", bit);
        data[bit / 8] ^= (char)(1 << bit % 8);
    }
}

Test(record, is_bound_to_its_place)
{
    struct record r;
    uint32_t bytes;
    struct place_key other[] = {KEY, KEY, KEY, KEY};
    other[0].secret++;
    other[1].log++;
    other[2].segment++;
    other[3].incarnation++;
    for (int i = 0; i < 4; i++)
        cr_assert_eq(record_decode(data, BYTES, &other[i], OFFSET, &r, &bytes), ERR_CORRUPT);
    cr_assert_eq(decode(BYTES, OFFSET + 8, &r, &bytes), ERR_CORRUPT);
}

Test(record, one_that_is_too_large_has_no_length)
{
    struct record r = MESSAGE;
    r.body.len = RECORD_DATA_BYTES_MAX;
    cr_assert_eq(record_bytes(&r), 0);
    r.headers.len = 0;
    cr_assert_neq(record_bytes(&r), 0);
    r.subject.len = RECORD_SUBJECT_BYTES_MAX + 1;
    cr_assert_eq(record_bytes(&r), 0);
}
