#include <criterion/criterion.h>
#include "core/base/arena.h"
#include "tests/support/mem_heap.h"

Test(arena, pieces_are_aligned_zeroed_and_apart)
{
    struct mem_heap heap;
    struct arena a;
    mem_heap_init(&heap);
    arena_init(&a, &heap.mem, MEM_CONFIG);
    char *last = NULL;
    for (size_t bytes = 0; bytes < 3000; bytes += 7) {
        char *p = arena_alloc(&a, bytes);
        cr_assert_not_null(p);
        cr_assert_eq((uintptr_t)p % ARENA_ALIGN, 0);
        for (size_t i = 0; i < bytes; i++) cr_assert_eq(p[i], 0);
        memset(p, 0xff, bytes);
        cr_assert_neq(p, last);
        last = p;
    }
    arena_deinit(&a);
    cr_assert_eq(heap.live_count, 0);
    cr_assert_eq(heap.mem.used_bytes[MEM_CONFIG], 0);
}

Test(arena, a_piece_larger_than_any_chunk_is_fine)
{
    struct mem_heap heap;
    struct arena a;
    mem_heap_init(&heap);
    arena_init(&a, &heap.mem, MEM_CONFIG);
    char *large = arena_alloc(&a, 3 * ARENA_CHUNK_BYTES_MAX);
    cr_assert_not_null(large);
    large[3 * ARENA_CHUNK_BYTES_MAX - 1] = 1;
    cr_assert_not_null(arena_alloc(&a, 1));
    cr_assert_null(arena_alloc(&a, SIZE_MAX - 3));
    arena_deinit(&a);
    cr_assert_eq(heap.live_count, 0);
}

Test(arena, texts_end_with_a_zero_that_is_not_counted)
{
    struct mem_heap heap;
    struct arena a;
    struct bytes copy = {0};
    mem_heap_init(&heap);
    arena_init(&a, &heap.mem, MEM_CONFIG);
    cr_assert_eq(arena_text(&a, BYTES_LITERAL("abc"), &copy), ERR_OK);
    cr_assert_eq(copy.len, 3);
    cr_assert_str_eq(copy.data, "abc");
    arena_deinit(&a);
    heap.fail_at = heap.alloc_count + 1;
    cr_assert_eq(arena_text(&a, BYTES_LITERAL("q"), &copy), ERR_MEMORY);
    cr_assert_eq(copy.len, 3, "a failure writes nothing");
    cr_assert_eq(heap.live_count, 0);
}

Test(arena, what_was_measured_takes_no_more_than_that)
{
    struct mem_heap heap;
    struct arena a;
    mem_heap_init(&heap);
    arena_init(&a, &heap.mem, MEM_CONFIG);
    for (size_t bytes = 1; bytes < 100; bytes += 9) cr_assert_not_null(arena_alloc(&a, bytes));
    size_t measured = a.used_bytes;
    arena_deinit(&a);
    cr_assert_eq(arena_reserve(&a, measured), ERR_OK);
    for (size_t bytes = 1; bytes < 100; bytes += 9) cr_assert_not_null(arena_alloc(&a, bytes));
    cr_assert_eq(heap.live_count, 1);
    cr_assert_leq(heap.mem.used_bytes[MEM_CONFIG], measured + 64);
    cr_assert_eq(arena_reserve(&a, SIZE_MAX - 3), ERR_MEMORY);
    arena_deinit(&a);
    cr_assert_eq(heap.live_count, 0);
}
