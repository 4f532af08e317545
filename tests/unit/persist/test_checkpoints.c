#include <criterion/criterion.h>
#include "core/base/must.h"
#include "persist/checkpoints.h"
#include "tests/support/mem_heap.h"

static struct mem_heap heap;
static struct checkpoints c;

static void setup(void)
{
    mem_heap_init(&heap);
    checkpoints_init(&c, &heap.mem);
}

static void teardown(void)
{
    checkpoints_deinit(&c);
    must(heap.live_count == 0);
}

TestSuite(checkpoints, .init = setup, .fini = teardown);

static void take(uint64_t stream, uint64_t part, uint64_t group, const char *body, bool is_last)
{
    struct record r = {.kind = RECORD_CHECKPOINT,
                       .flags = is_last ? RECORD_LAST : 0,
                       .stream = stream,
                       .seq = part,
                       .prev_seq = group,
                       .body = bytes_from_text(body)};
    cr_assert_eq(checkpoints_take(&c, &r, 3, 0), ERR_OK);
}

static bool is_body(uint64_t stream, const char *body)
{
    const struct checkpoints_entry *e = NULL;
    while ((e = checkpoints_next(&c, e)) != NULL)
        if (e->stream == stream) return bytes_equal(text_written(&e->body), bytes_from_text(body));
    return false;
}

Test(checkpoints, parts_between_those_of_others_make_one_body)
{
    take(1, 0, 9, "ab", false);
    take(2, 0, 9, "x", true);
    take(1, 1, 9, "cd", true);
    cr_assert(is_body(1, "abcd"));
    cr_assert(is_body(2, "x"));
}

Test(checkpoints, one_with_a_hole_or_without_an_end_leaves_the_older_one)
{
    take(1, 0, 9, "old", true);
    take(1, 0, 12, "n", false);
    take(1, 2, 12, "w", true);
    cr_assert(is_body(1, "old"));
    take(1, 0, 13, "n", false);
    cr_assert(is_body(1, "old"));
    take(1, 0, 14, "new", true);
    cr_assert(is_body(1, "new"));
}

Test(checkpoints, it_stands_for_records_up_to_its_group_and_of_earlier_starts)
{
    take(1, 0, 9, "a", true);
    cr_assert(checkpoints_contain(&c, 1, 3, 0, 9));
    cr_assert_not(checkpoints_contain(&c, 1, 3, 0, 10));
    cr_assert(checkpoints_contain(&c, 1, 2, 0, 100));
    cr_assert(checkpoints_contain(&c, 1, 2, 1, 100));
    cr_assert_not(checkpoints_contain(&c, 1, 4, 0, 1));
    cr_assert_not(checkpoints_contain(&c, 2, 3, 0, 1));
}

Test(checkpoints, nothing_of_a_stream_that_is_gone_counts)
{
    take(1, 0, 9, "a", true);
    cr_assert_eq(checkpoints_end(&c, 1), ERR_OK);
    cr_assert_not(is_body(1, "a"));
    cr_assert(checkpoints_is_gone(&c, 1));
    take(1, 0, 9, "b", true);
    cr_assert_not(is_body(1, "b"));
    cr_assert_eq(checkpoints_end(&c, 2), ERR_OK);
    cr_assert(checkpoints_is_gone(&c, 2));
}

Test(checkpoints, a_newer_one_in_one_part_takes_the_place_of_the_older_one)
{
    take(1, 0, 9, "a state", true);
    uint64_t allocations = heap.alloc_count;
    take(1, 0, 10, "another", true);
    cr_assert_eq(heap.alloc_count, allocations, "a start has one of each of 100,000 streams");
    cr_assert(is_body(1, "another"));
    cr_assert(checkpoints_contain(&c, 1, 3, 0, 10));
}

Test(checkpoints, they_are_given_in_the_order_in_which_streams_were_seen)
{
    for (uint64_t stream = 1; stream < 100; stream++) take(stream * 64, 0, 9, "x", true);
    cr_assert_eq(checkpoints_end(&c, 64), ERR_OK);
    take(64 * 3, 0, 10, "y", true);
    uint64_t stream = 1;
    for (const struct checkpoints_entry *e = NULL; (e = checkpoints_next(&c, e)) != NULL;)
        cr_assert_eq(e->stream, ++stream * 64);
    cr_assert_eq(stream, 99);
}
