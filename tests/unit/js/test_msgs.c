#include <criterion/criterion.h>
#include "core/js/msgs.h"
#include "tests/support/mem_heap.h"

static void put(struct msgs *m, uint64_t seq)
{
    struct msgs_entry e = {.place = seq * 100, .time_ns = (int64_t)seq, .bytes = 7, .node = 1};
    cr_assert_eq(msgs_append(m, seq, &e), ERR_OK);
}

Test(msgs, a_message_in_a_stream_without_holes_takes_at_most_24_bytes)
{
    struct mem_heap heap;
    struct msgs m;
    mem_heap_init(&heap);
    msgs_init(&m, &heap.mem);
    for (uint64_t seq = 1; seq <= 200000; seq++) {
        /* Far apart in place and time, so that no column can be narrow. */
        struct msgs_entry e = {
            .place = seq << 40, .time_ns = (int64_t)(seq << 33), .bytes = 7, .node = 1};
        cr_assert_eq(msgs_append(&m, seq, &e), ERR_OK);
    }
    cr_assert_leq(m.bytes_taken, (size_t)(200000 * 24.5), "heads, directory, the open block");
    msgs_clear(&m);
    cr_assert_eq(heap.live_count, 0);
}

Test(msgs, one_survivor_in_a_hundred_does_not_hold_the_memory_of_the_others)
{
    struct mem_heap heap;
    struct msgs m;
    mem_heap_init(&heap);
    msgs_init(&m, &heap.mem);
    for (uint64_t seq = 1; seq <= 200000; seq++) put(&m, seq);
    for (uint64_t seq = 1; seq <= 200000; seq++)
        if (seq % 100 != 0) cr_assert_eq(msgs_remove(&m, seq, NULL), ERR_OK);
    cr_assert_eq(m.live_count, 2000);
    cr_assert_lt(m.bytes_taken, 2000 * 48 + 64 * 1024);
    cr_assert_eq(msgs_first(&m), 100);
    cr_assert_eq(msgs_next(&m, 101), 200);
    uint64_t first = 101, last;
    cr_assert(msgs_gap(&m, 200000, &first, &last));
    cr_assert_eq(first, 101);
    cr_assert_eq(last, 199);
    msgs_clear(&m);
}

Test(msgs, gaps_of_any_size_cost_nothing)
{
    struct mem_heap heap;
    struct msgs m;
    uint64_t far = UINT64_C(1000000000000000000);
    mem_heap_init(&heap);
    msgs_init(&m, &heap.mem);
    put(&m, 5);
    put(&m, far);
    put(&m, far + (UINT64_C(1) << 32));
    cr_assert_lt(m.bytes_taken, 64 * 1024);
    cr_assert_eq(msgs_next(&m, 6), far);
    cr_assert_eq(msgs_prev(&m, far - 1), 5);
    cr_assert_eq(msgs_count(&m, 6, UINT64_MAX), 2);
    cr_assert_eq(msgs_last(&m), far + (UINT64_C(1) << 32));
    msgs_clear(&m);
    cr_assert_eq(m.seq_end, far + (UINT64_C(1) << 32) + 1, "sequences are not used again");
}

Test(msgs, what_is_reserved_is_appended_without_memory)
{
    struct mem_heap heap;
    struct msgs m;
    mem_heap_init(&heap);
    msgs_init(&m, &heap.mem);
    uint64_t seq = 1;
    for (uint32_t round = 0; round < 30; round++) {
        cr_assert_eq(msgs_reserve(&m, 700), ERR_OK);
        heap.fail_at = heap.alloc_count + 1;
        heap.fail_from = 1;
        for (uint32_t i = 0; i < 700; i++, seq += 1 + i % 3) put(&m, seq);
        heap.fail_at = 0;
        heap.fail_from = 0;
    }
    cr_assert_eq(m.live_count, 30 * 700);
    cr_assert_eq(msgs_reserve(&m, 0), ERR_OK);
    cr_assert_eq(m.spare_count, 0);
    msgs_clear(&m);
    cr_assert_eq(heap.live_count, 0);
}

Test(msgs, a_work_queue_that_runs_empty_each_time_takes_no_new_memory)
{
    struct mem_heap heap;
    struct msgs m;
    mem_heap_init(&heap);
    msgs_init(&m, &heap.mem);
    put(&m, 1);
    uint64_t allocs = heap.alloc_count;
    for (uint64_t seq = 2; seq < 5000; seq++) {
        cr_assert_eq(msgs_remove(&m, seq - 1, NULL), ERR_OK);
        put(&m, seq);
    }
    cr_assert_eq(heap.alloc_count, allocs);
    cr_assert_lt(m.bytes_taken, 1024);
    msgs_clear(&m);
}
