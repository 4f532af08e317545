#include <criterion/criterion.h>
#include <string.h>
#include "core/base/must.h"
#include "core/base/rng.h"
#include "persist/record.h"
#include "persist/scan.h"
#include "tests/support/mem_heap.h"
#include "tests/support/vfs_bytes.h"

static const struct place_key KEY = {.secret = 99, .log = 0, .segment = 5, .incarnation = 3};
enum { BLOCKS = 8, FILE_BYTES = BLOCKS * PLACE_BLOCK_BYTES, SEGMENT_BYTES = 2 * FILE_BYTES };

static char data[FILE_BYTES];
static struct mem_heap heap;
static struct vfs_bytes files;
static struct scan s;

/* Groups without records in the blocks 0, 1 and 4. */
static void setup(void)
{
    static const uint32_t AT[] = {0, 1, 4};
    for (uint32_t i = 0; i < 3; i++) {
        struct group_head h = {.number = i + 1, .bytes = PLACE_BLOCK_BYTES};
        uint64_t offset = (uint64_t)AT[i] * PLACE_BLOCK_BYTES;
        group_encode_head(&h, &KEY, offset, data + offset);
    }
    mem_heap_init(&heap);
    vfs_bytes_init(&files);
    vfs_bytes_add(&files, "0000-00000005.log", data, sizeof data);
    cr_assert_eq(scan_open(&s, &files.blocking, &heap.mem, &KEY, SEGMENT_BYTES, 0), ERR_OK);
}

static void teardown(void)
{
    scan_close(&s);
    must(heap.live_count == 0);
    must(files.write_count == 0);
}

TestSuite(scan, .init = setup, .fini = teardown);

Test(scan, finds_the_headers)
{
    struct group_head h;
    uint64_t at;
    cr_assert_eq(scan_head(&s, 0, &h), ERR_OK);
    cr_assert_eq(h.number, 1);
    cr_assert_eq(scan_head(&s, 2 * PLACE_BLOCK_BYTES, &h), ERR_CORRUPT);
    cr_assert_eq(scan_find(&s, 2 * PLACE_BLOCK_BYTES, SEGMENT_BYTES, &h, &at), ERR_OK);
    cr_assert_eq(at, 4 * PLACE_BLOCK_BYTES);
    cr_assert_eq(scan_find(&s, 5 * PLACE_BLOCK_BYTES, SEGMENT_BYTES, &h, &at), ERR_UNKNOWN);
    cr_assert_eq(scan_find(&s, 2 * PLACE_BLOCK_BYTES, 4 * PLACE_BLOCK_BYTES, &h, &at), ERR_UNKNOWN);
}

Test(scan, what_the_file_has_not_reads_as_zeros)
{
    const char *bytes;
    cr_assert_eq(s.file_bytes, FILE_BYTES);
    cr_assert_eq(scan_at(&s, FILE_BYTES, 64, &bytes), ERR_OK);
    for (int i = 0; i < 64; i++) cr_assert_eq(bytes[i], 0);
    cr_assert_eq(s.error_count, 0, "the end of a file is no error");
}

Test(scan, a_missing_file_reads_as_zeros)
{
    struct place_key key = KEY;
    struct group_head h;
    struct scan other;
    key.segment = 6;
    cr_assert_eq(scan_open(&other, &files.blocking, &heap.mem, &key, SEGMENT_BYTES, 0), ERR_OK);
    cr_assert(other.is_missing);
    cr_assert_eq(scan_head(&other, 0, &h), ERR_CORRUPT);
    scan_close(&other);
}

/* Whatever is asked for, and whatever cannot be read, is the same with parts read ahead. */
Test(scan, reading_ahead_gives_the_same_bytes)
{
    enum { BIG = 64 * PLACE_BLOCK_BYTES, ROUNDS = 400 };
    struct scan plain, ahead;
    struct rng rng;
    char *big = mem_alloc(&heap.mem, MEM_STORE, BIG);
    rng_init(&rng, 7);
    for (uint32_t i = 0; i < BIG; i++) big[i] = (char)rng_next(&rng);
    struct place_key key = KEY;
    key.segment = 7;
    vfs_bytes_add(&files, "0000-00000007.log", big, BIG - 5 * PLACE_BLOCK_BYTES);
    for (uint32_t damage = 0; damage < 2; damage++) {
        files.fail_from = 41 * PLACE_BLOCK_BYTES;
        files.fail_bytes = damage * PLACE_BLOCK_BYTES;
        cr_assert_eq(scan_open(&plain, &files.blocking, &heap.mem, &key, BIG, 0), ERR_OK);
        cr_assert_eq(scan_open(&ahead, &files.blocking, &heap.mem, &key, BIG, VFS_AHEAD), ERR_OK);
        plain.window_bytes = ahead.window_bytes = 4 * PLACE_BLOCK_BYTES;
        uint64_t at = 0;
        for (uint32_t i = 0; i < ROUNDS; i++) {
            const char *a, *b;
            uint64_t bytes = 1 + rng_below(&rng, i % 20 == 0 ? 40000 : 9000);
            if (at + bytes > BIG || rng_below(&rng, 60) == 0) at = rng_below(&rng, BIG - 40000);
            cr_assert_eq(scan_at(&plain, at, bytes, &a), ERR_OK);
            cr_assert_eq(scan_at(&ahead, at, bytes, &b), ERR_OK);
            cr_assert_eq(memcmp(a, b, bytes), 0);
            cr_assert_leq(ahead.ahead_count, (uint32_t)SCAN_AHEAD_MAX);
            at += bytes;
        }
        cr_assert(damage == 0 || ahead.error_count > 0);
        cr_assert_gt(files.flying_count, 0, "parts are on their way");
        scan_close(&plain);
        scan_close(&ahead);
        cr_assert_eq(files.flying_count, 0);
    }
    mem_free(&heap.mem, MEM_STORE, big, BIG);
}

/* The first part is waited for: those behind it are on their way by then. */
Test(scan, reading_ahead_begins_with_the_first_part)
{
    struct scan ahead;
    const char *bytes;
    cr_assert_eq(scan_open(&ahead, &files.blocking, &heap.mem, &KEY, FILE_BYTES, VFS_AHEAD),
                 ERR_OK);
    ahead.window_bytes = PLACE_BLOCK_BYTES;
    cr_assert_eq(scan_at(&ahead, 0, 1, &bytes), ERR_OK);
    cr_assert_eq(files.flying_most, SCAN_AHEAD_MAX + 1);
    scan_close(&ahead);
}
