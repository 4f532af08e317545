#include <criterion/criterion.h>
#include <xxhash.h>
#include "core/base/must.h"
#include "persist/manifest.h"
#include "persist/place.h"
#include "persist/wire.h"
#include "tests/support/mem_heap.h"

static struct mem_heap heap;
static struct manifest m;
static char data[PLACE_BLOCK_BYTES];

static void add(uint32_t number, bool is_closed, uint64_t first, uint64_t last)
{
    struct manifest_segment s = {.number = number,
                                 .incarnation = 2,
                                 .is_closed = is_closed,
                                 .size = 65536,
                                 .end = is_closed ? 8192 : 0,
                                 .last_group = last,
                                 .first_group = first};
    cr_assert_eq(manifest_add(&m, &s), ERR_OK);
}

static void setup(void)
{
    mem_heap_init(&heap);
    manifest_init(&m, &heap.mem, 3, 11, 12);
    m.next_segment = 9;
    m.durable_group = 40;
    m.next_group = 41;
    m.stream_max = 77;
    m.is_clean = true;
    struct manifest_pack p = {
        .number = 2, .incarnation = 1, .size = 12288, .message_count = 5, .record_bytes = 800};
    cr_assert_eq(manifest_add_pack(&m, &p), ERR_OK);
    add(4, true, 10, 30);
    add(6, true, 31, 40);
    add(7, false, 0, 0);
    manifest_encode(&m, data);
}

static void teardown(void)
{
    manifest_deinit(&m);
    must(heap.live_count == 0);
}

static void seal(void)
{
    wire_put_u64(data + 4088, XXH3_64bits_withSeed(data, 4088, 0x4D414E49 ^ 3));
}

static enum err decode(void)
{
    struct manifest out;
    enum err e = manifest_decode(data, sizeof data, 3, &heap.mem, &out);
    if (e == ERR_OK) manifest_deinit(&out);
    return e;
}

TestSuite(manifest, .init = setup, .fini = teardown);

Test(manifest, lies_as_the_page_says)
{
    cr_assert_eq(manifest_bytes(&m), 4096);
    cr_assert_arr_eq(data, "MILLMAN1", 8);
    cr_assert_eq(wire_u32(data + 12), 3);
    cr_assert_eq(wire_u64(data + 40), 40);
    cr_assert_eq(wire_u64(data + 48), 41);
    cr_assert_eq(wire_u32(data + 60), 4096);
    cr_assert_eq(wire_u32(data + 64), 4);
    cr_assert_eq(wire_u32(data + 68), 9);
    cr_assert_eq(wire_u32(data + 72), 1);
    cr_assert_eq(wire_u64(data + 80), 77);
    cr_assert_eq(wire_u32(data + 128), 2, "packs come first");
    cr_assert_eq(wire_u32(data + 192), 1);
    cr_assert_eq(wire_u32(data + 192 + 4), 4);
    cr_assert_eq(wire_u64(data + 192 + 32), 30);
}

Test(manifest, decodes_to_what_it_was)
{
    struct manifest out;
    cr_assert_eq(manifest_decode(data, sizeof data, 3, &heap.mem, &out), ERR_OK);
    cr_assert_eq(out.count, 3);
    cr_assert_eq(out.pack_count, 1);
    cr_assert_eq(out.packs[0].message_count, 5);
    cr_assert_eq(out.segments[1].number, 6);
    cr_assert_eq(out.segments[1].first_group, 31);
    cr_assert(out.is_clean);
    cr_assert_eq(out.stream_max, 77);
    manifest_deinit(&out);
}

Test(manifest, no_flipped_byte_passes)
{
    for (size_t at = 0; at < sizeof data; at++) {
        data[at] ^= 0x10;
        cr_assert_eq(decode(), ERR_CORRUPT, "byte %zu", at);
        data[at] ^= 0x10;
    }
}

Test(manifest, is_of_one_log)
{
    struct manifest out;
    cr_assert_eq(manifest_decode(data, sizeof data, 2, &heap.mem, &out), ERR_CORRUPT);
}

Test(manifest, what_is_newer_is_no_damage)
{
    wire_put_u32(data + 8, 2);
    seal();
    cr_assert_eq(decode(), ERR_UNSUPPORTED);
    wire_put_u32(data + 8, 1);
    wire_put_u32(data + 128, 3);
    seal();
    cr_assert_eq(decode(), ERR_UNSUPPORTED, "an entry of another kind");
}

Test(manifest, entries_out_of_order_are_damage)
{
    wire_put_u32(data + 192 + 64 + 4, 4);
    seal();
    cr_assert_eq(decode(), ERR_CORRUPT);
}

Test(manifest, finds_by_number)
{
    cr_assert_eq(manifest_find(&m, 6)->first_group, 31);
    cr_assert_null(manifest_find(&m, 5));
    cr_assert_eq(manifest_find_pack(&m, 2)->size, 12288);
    cr_assert_null(manifest_find_pack(&m, 4));
}

Test(manifest, the_first_segment_goes_and_the_reader_knows_where_to_begin)
{
    manifest_remove_first(&m);
    cr_assert_eq(m.count, 2);
    cr_assert_eq(m.replay_segment, 6);
    cr_assert_eq(m.segments[0].first_group, 31);
    manifest_remove_first(&m);
    cr_assert_eq(m.segments[0].first_group, 41, "it was not known before");
}

Test(manifest, what_is_to_be_overwritten_is_remembered)
{
    struct manifest out;
    cr_assert_not(manifest_is_scrubbed(&m));
    m.segments[1].is_fresh = true;
    manifest_scrub(&m, place_packed(3, 2, 0));
    cr_assert(m.packs[0].is_scrubbed && m.has_scrubs);
    cr_assert(m.segments[0].is_scrubbed, "it may have held the message once");
    cr_assert_not(m.segments[1].is_scrubbed, "it had no earlier life");
    manifest_scrub(&m, place_of(3, 6, 64));
    cr_assert(m.segments[1].is_scrubbed);
    manifest_scrub(&m, place_of(3, 5, 64)); /* has gone */
    manifest_encode(&m, data);
    cr_assert_eq(manifest_decode(data, sizeof data, 3, &heap.mem, &out), ERR_OK);
    cr_assert(out.has_scrubs && out.is_clean && manifest_is_scrubbed(&out));
    cr_assert(out.packs[0].is_scrubbed && out.segments[0].is_scrubbed);
    cr_assert_eq(out.segments[0].has_checkpoints, m.segments[0].has_checkpoints);
    manifest_deinit(&out);
}

Test(manifest, packs_make_room_for_one_in_their_place)
{
    for (uint32_t i = 0; i < 3; i++) {
        struct manifest_pack p = {.number = 20 + i, .incarnation = 1};
        cr_assert_eq(manifest_add_pack(&m, &p), ERR_OK);
    }
    struct manifest_pack of_two = {.number = 5, .incarnation = 1};
    manifest_replace_packs(&m, 20, 2, &of_two);
    cr_assert_eq(m.pack_count, 3);
    cr_assert_eq(m.packs[0].number, 2);
    cr_assert_eq(m.packs[1].number, 5);
    cr_assert_eq(m.packs[2].number, 22);
    manifest_replace_packs(&m, 5, 2, NULL);
    cr_assert_eq(m.pack_count, 1);
    manifest_replace_packs(&m, 2, 1, NULL);
    cr_assert_eq(m.pack_count, 0);
}

Test(manifest, without_memory_nothing_changes)
{
    struct manifest out, copy;
    for (uint64_t n = 1; n <= 2; n++) {
        heap.fail_at = heap.alloc_count + n;
        cr_assert_eq(manifest_decode(data, sizeof data, 3, &heap.mem, &out), ERR_MEMORY);
        heap.fail_at = heap.alloc_count + n;
        cr_assert_eq(manifest_copy(&copy, &m, &heap.mem), ERR_MEMORY);
    }
    heap.fail_at = 0;
    cr_assert_eq(manifest_copy(&copy, &m, &heap.mem), ERR_OK);
    cr_assert_eq(copy.count, 3);
    manifest_deinit(&copy);
}
