/* Manifests that no server wrote, though every checksum in them is right. */
#include "persist/manifest.h"
#include <criterion/criterion.h>
#include "tests/support/mem_heap.h"

static enum err decoded(const struct manifest *m)
{
    struct manifest out;
    char *data = malloc(manifest_bytes(m));
    manifest_encode(m, data);
    enum err e = manifest_decode(data, manifest_bytes(m), m->log, m->mem, &out);
    if (e == ERR_OK) manifest_deinit(&out);
    free(data);
    return e;
}

Test(manifest_bounds, numbers_that_nobody_counted_to_are_refused)
{
    struct mem_heap heap;
    struct manifest m;
    mem_heap_init(&heap);
    manifest_init(&m, &heap.mem, 0, 1, 2);
    cr_expect_eq(decoded(&m), ERR_OK);
    m.next_segment = 0;
    cr_expect_eq(decoded(&m), ERR_CORRUPT);
    m.next_segment = UINT32_MAX;
    cr_expect_eq(decoded(&m), ERR_CORRUPT);
    m.next_segment = 9;
    m.next_group = 0;
    cr_expect_eq(decoded(&m), ERR_CORRUPT);
    m.next_group = UINT64_MAX;
    cr_expect_eq(decoded(&m), ERR_CORRUPT);
    m.next_group = 1;
    struct manifest_segment s = {.number = 3, .incarnation = 1, .size = 4096};
    struct manifest_pack p = {.number = 2, .incarnation = 1, .size = 8192};
    cr_assert_eq(manifest_add(&m, &s), ERR_OK);
    cr_assert_eq(manifest_add_pack(&m, &p), ERR_OK);
    cr_expect_eq(decoded(&m), ERR_OK);
    m.packs[0].number = 3; /* its segment is there */
    cr_expect_eq(decoded(&m), ERR_CORRUPT);
    m.packs[0].number = 5; /* written out of an earlier one, while that segment was there */
    cr_expect_eq(decoded(&m), ERR_OK);
    p.number = 7;
    cr_assert_eq(manifest_add_pack(&m, &p), ERR_OK);
    p.number = 2;
    cr_assert_eq(manifest_add_pack(&m, &p), ERR_OK);
    cr_expect_eq(decoded(&m), ERR_OK);
    m.packs[2].number = 5;
    cr_expect_eq(decoded(&m), ERR_CORRUPT, "two of one name");
    m.packs[2].number = 2;
    m.packs[0].incarnation = 2;
    cr_expect_eq(decoded(&m), ERR_CORRUPT, "not in the order of the log");
    m.packs[0].incarnation = 1;
    m.segments[0].is_closed = true;
    m.segments[0].last_group = UINT64_MAX;
    cr_expect_eq(decoded(&m), ERR_CORRUPT);
    manifest_deinit(&m);
    cr_expect_eq(heap.live_count, 0);
}

Test(manifest_bounds, the_first_segment_may_hold_nothing)
{
    struct mem_heap heap;
    struct manifest m;
    mem_heap_init(&heap);
    manifest_init(&m, &heap.mem, 0, 1, 2);
    m.next_segment = 5;
    m.replay_segment = 3;
    for (uint32_t number = 3; number < 5; number++) {
        struct manifest_segment s = {
            .number = number, .incarnation = 1, .size = 4096, .is_closed = number == 3};
        cr_assert_eq(manifest_add(&m, &s), ERR_OK);
    }
    manifest_remove_first(&m); /* its first group failed, and it was closed so */
    cr_expect_eq(m.replay_segment, 4);
    manifest_deinit(&m);
}
