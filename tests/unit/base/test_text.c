#include <criterion/criterion.h>
#include "core/base/text.h"
#include "tests/support/mem_heap.h"

Test(text, grows_and_keeps_everything)
{
    struct mem_heap heap;
    mem_heap_init(&heap);
    struct text t;
    text_init(&t, &heap.mem, MEM_MONITOR, 1 << 20);
    for (int i = 0; i < 10000; i++) text_char(&t, (char)('a' + i % 26));
    cr_assert_eq(t.len, 10000);
    cr_assert_not(t.is_failed);
    for (int i = 0; i < 10000; i++) cr_assert_eq(t.data[i], (char)('a' + i % 26));
    text_deinit(&t);
    cr_assert_eq(heap.live_count, 0);
    cr_assert_eq(heap.mem.used_bytes[MEM_MONITOR], 0);
}

Test(text, stops_at_its_bound_and_stays_failed)
{
    struct mem_heap heap;
    mem_heap_init(&heap);
    struct text t;
    text_init(&t, &heap.mem, MEM_MONITOR, 600);
    text_fill(&t, 'x', 600);
    cr_assert_not(t.is_failed);
    text_char(&t, 'y');
    cr_assert(t.is_failed);
    cr_assert_eq(t.len, 600);
    text_clear(&t);
    text_string(&t, "again");
    cr_assert(bytes_equal(text_written(&t), BYTES_LITERAL("again")));
    text_deinit(&t);
}

Test(text, out_of_memory_is_a_failure_not_a_crash)
{
    struct mem_heap heap;
    mem_heap_init(&heap);
    heap.fail_at = 2;
    struct text t;
    text_init(&t, &heap.mem, MEM_MONITOR, 1 << 20);
    text_string(&t, "first");
    text_fill(&t, 'x', 4096);
    cr_assert(t.is_failed);
    cr_assert(bytes_equal(text_written(&t), BYTES_LITERAL("first")));
    text_deinit(&t);
    cr_assert_eq(heap.live_count, 0);
}

Test(text, numbers_reach_both_ends)
{
    struct mem_heap heap;
    mem_heap_init(&heap);
    struct text t;
    text_init(&t, &heap.mem, MEM_MONITOR, 1 << 20);
    text_i64(&t, INT64_MIN);
    text_char(&t, ' ');
    text_u64(&t, UINT64_MAX);
    text_char(&t, ' ');
    text_u64_padded(&t, 42, 5);
    cr_assert(bytes_equal(text_written(&t),
                          BYTES_LITERAL("-9223372036854775808 18446744073709551615 00042")));
    text_deinit(&t);
}
