#include <criterion/criterion.h>
#include "core/base/must.h"
#include "persist/pack.h"
#include "persist/pack_table.h"
#include "persist/wire.h"
#include "tests/support/mem_heap.h"

static const struct place_key KEY = {.secret = 99, .log = 2, .segment = 5, .incarnation = 3};
enum { OFFSET = 64, RAW_BYTES = 4000 };

static struct mem_heap heap;
static struct pack_zstd packer, unpacker;
static char raw[RAW_BYTES], back[RAW_BYTES], out[2 * RAW_BYTES];
static struct pack_piece piece;

static void setup(void)
{
    mem_heap_init(&heap);
    cr_assert_eq(pack_zstd_init(&packer, &heap.mem, true), ERR_OK);
    cr_assert_eq(pack_zstd_init(&unpacker, &heap.mem, false), ERR_OK);
    for (int i = 0; i < RAW_BYTES; i++) raw[i] = (char)(i / 100);
    piece = (struct pack_piece){.kind = PACK_BLOCK, .raw_bytes = RAW_BYTES, .at = 7, .count = 3};
}

static void teardown(void)
{
    pack_zstd_deinit(&packer);
    pack_zstd_deinit(&unpacker);
    must(heap.live_count == 0);
}

TestSuite(pack, .init = setup, .fini = teardown);

static size_t length(void)
{
    return PACK_PIECE_BYTES + (size_t)piece.held_bytes;
}

Test(pack, a_piece_unpacks_to_what_it_was)
{
    struct pack_piece p;
    pack_encode_piece(&piece, &KEY, OFFSET, raw, &packer, out);
    cr_assert(piece.is_compressed);
    cr_assert_lt(piece.held_bytes, RAW_BYTES / 4);
    cr_assert_eq(pack_decode_piece(out, length(), &KEY, OFFSET, PACK_BLOCK, &p), ERR_OK);
    cr_assert_eq(p.at, 7);
    cr_assert_eq(p.count, 3);
    cr_assert_eq(pack_unpack(&p, out, &unpacker, back), ERR_OK);
    cr_assert_arr_eq(back, raw, RAW_BYTES);
}

Test(pack, what_does_not_become_smaller_is_kept_as_it_is)
{
    uint64_t x = 1;
    for (int i = 0; i < RAW_BYTES; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        raw[i] = (char)(x >> 56);
    }
    pack_encode_piece(&piece, &KEY, OFFSET, raw, &packer, out);
    cr_assert_not(piece.is_compressed);
    cr_assert_eq(piece.held_bytes, RAW_BYTES);
    cr_assert_eq(wire_u32(out + 20), 0);
    cr_assert_arr_eq(out + PACK_PIECE_BYTES, raw, RAW_BYTES);
}

Test(pack, no_flipped_byte_of_a_piece_passes)
{
    struct pack_piece p;
    pack_encode_piece(&piece, &KEY, OFFSET, raw, &packer, out);
    for (size_t at = 0; at < length(); at++) {
        out[at] ^= 0x10;
        cr_assert_eq(pack_decode_piece(out, length(), &KEY, OFFSET, PACK_BLOCK, &p), ERR_CORRUPT);
        out[at] ^= 0x10;
    }
}

Test(pack, a_piece_is_bound_to_its_place_and_kind)
{
    struct pack_piece p;
    pack_encode_piece(&piece, &KEY, OFFSET, raw, &packer, out);
    cr_assert_eq(pack_decode_piece(out, length(), &KEY, OFFSET + 8, PACK_BLOCK, &p), ERR_CORRUPT);
    cr_assert_eq(pack_decode_piece(out, length(), &KEY, OFFSET, PACK_INDEX, &p), ERR_CORRUPT);
    cr_assert_eq(pack_decode_piece(out, length() - 1, &KEY, OFFSET, PACK_BLOCK, &p), ERR_CORRUPT);
}

Test(pack, a_record_has_no_checksum_of_its_own)
{
    struct record r = {.kind = RECORD_MESSAGE, .seq = 9, .subject = {"ab", 2}, .body = {"xyz", 3}};
    struct record again;
    uint32_t bytes;
    cr_assert_eq(pack_record_bytes(&r), 56);
    pack_encode_record(&r, out);
    cr_assert_eq(pack_decode_record(out, 56, &again, &bytes), ERR_OK);
    cr_assert_eq(bytes, 56);
    cr_assert_eq(again.seq, 9);
    cr_assert(bytes_equal(again.body, r.body));
    cr_assert_eq(pack_decode_record(out, 55, &again, &bytes), ERR_CORRUPT);
}

Test(pack, a_foot_says_where_the_table_is)
{
    static char file[3 * PLACE_BLOCK_BYTES];
    struct pack_foot foot = {.block_count = 1,
                             .index_count = 1,
                             .table_offset = 256,
                             .directory_offset = 512,
                             .message_count = 3,
                             .record_bytes = RAW_BYTES,
                             .file_bytes = sizeof file};
    uint64_t at = sizeof file - 2 * PACK_FOOT_BYTES, offset;
    uint32_t bytes;
    pack_encode_foot(&foot, &KEY, at, file + at);
    pack_encode_foot(&foot, &KEY, at + PACK_FOOT_BYTES, file + at + PACK_FOOT_BYTES);
    for (uint32_t copy = 0; copy < 2; copy++) {
        cr_assert_eq(pack_table_locate(file + at, &KEY, sizeof file, copy, &offset, &bytes),
                     ERR_OK);
        cr_assert_eq(offset, 256);
        cr_assert_eq(bytes, PACK_PIECE_BYTES + PACK_TABLE_BYTES);
    }
    file[at + 100] ^= 1;
    cr_assert_eq(pack_table_locate(file + at, &KEY, sizeof file, 0, &offset, &bytes), ERR_CORRUPT);
    cr_assert_eq(pack_table_locate(file + at, &KEY, sizeof file, 1, &offset, &bytes), ERR_OK);
}

Test(pack, the_table_finds_the_block_of_a_record)
{
    struct pack_table_entry entries[] = {{.offset = 0, .at = 0, .raw_bytes = 800},
                                         {.offset = 400, .at = 800, .raw_bytes = 80},
                                         {.offset = 500, .at = 880, .raw_bytes = 8}};
    struct pack_table t = {0};
    for (int i = 0; i < 3; i++) pack_encode_table_entry(&entries[i], raw + i * PACK_TABLE_BYTES);
    piece = (struct pack_piece){.kind = PACK_TABLE, .raw_bytes = 3 * PACK_TABLE_BYTES, .count = 3};
    pack_encode_piece(&piece, &KEY, OFFSET, raw, NULL, out);
    cr_assert_eq(pack_table_take(&t, &heap.mem, out, (uint32_t)length(), &KEY, OFFSET), ERR_OK);
    cr_assert_eq(pack_table_find(&t, 0)->offset, 0);
    cr_assert_eq(pack_table_find(&t, 799)->offset, 0);
    cr_assert_eq(pack_table_find(&t, 800)->offset, 400);
    cr_assert_eq(pack_table_find(&t, 887)->offset, 500);
    cr_assert_null(pack_table_find(&t, 888));
    pack_table_free(&t, &heap.mem);
    cr_assert_null(pack_table_find(&t, 0));
}
