#include <criterion/criterion.h>
#include "core/base/must.h"
#include "persist/read_cache.h"
#include "tests/support/mem_heap.h"

enum { BLOCKS = 4 };

static struct mem_heap heap;
static struct read_cache c;

static void setup(void)
{
    mem_heap_init(&heap);
    cr_assert_eq(read_cache_init(&c, &heap.mem, BLOCKS * READ_CACHE_BLOCK_BYTES), ERR_OK);
}

static void teardown(void)
{
    read_cache_deinit(&c);
    must(heap.live_count == 0);
}

TestSuite(read_cache, .init = setup, .fini = teardown);

static struct read_cache_block *load(uint64_t key)
{
    struct read_cache_block *b = read_cache_take(&c, key);
    cr_assert_not_null(b);
    read_cache_loaded(b, READ_CACHE_BLOCK_BYTES);
    return b;
}

Test(read_cache, finds_what_was_loaded)
{
    cr_assert_null(read_cache_find(&c, 8));
    struct read_cache_block *b = read_cache_take(&c, 8);
    cr_assert_eq(b->state, READ_CACHE_LOADING);
    cr_assert_eq(read_cache_find(&c, 8), b);
    read_cache_loaded(b, 4096);
    cr_assert_eq(b->state, READ_CACHE_VALID);
    cr_assert_eq(b->valid_bytes, 4096);
    cr_assert_eq((uintptr_t)b->data % 4096, 0, "as direct reads want it");
}

Test(read_cache, lets_go_of_what_was_used_longest_ago)
{
    for (uint64_t key = 1; key <= BLOCKS; key++) load(key);
    cr_assert_not_null(read_cache_find(&c, 1));
    load(9);
    cr_assert_not_null(read_cache_find(&c, 1));
    cr_assert_null(read_cache_find(&c, 2));
}

Test(read_cache, never_gives_a_pinned_or_loading_block_away)
{
    for (uint64_t key = 1; key <= BLOCKS - 1; key++) load(key)->pin_count = 1;
    cr_assert_not_null(read_cache_take(&c, 8));
    cr_assert_null(read_cache_take(&c, 9));
    read_cache_find(&c, 2)->pin_count = 0;
    cr_assert_not_null(read_cache_take(&c, 9));
    cr_assert_null(read_cache_find(&c, 2));
    for (uint64_t key = 1; key <= BLOCKS - 1; key++)
        if (read_cache_find(&c, key) != NULL) read_cache_find(&c, key)->pin_count = 0;
}

Test(read_cache, forgets_what_is_dropped)
{
    struct read_cache_block *b = load(3);
    read_cache_drop(b);
    cr_assert_null(read_cache_find(&c, 3));
}

Test(read_cache, without_memory_there_is_no_block)
{
    heap.fail_at = heap.alloc_count + 1;
    cr_assert_null(read_cache_take(&c, 3));
    cr_assert_null(read_cache_find(&c, 3));
    cr_assert_not_null(read_cache_take(&c, 3));
}
