#include <criterion/criterion.h>
#include "core/js/lost.h"
#include "tests/support/mem_heap.h"

static struct mem_heap heap;
static struct lost *lost;
static struct text out;

static void setup(void)
{
    mem_heap_init(&heap);
    lost = NULL;
    text_init(&out, &heap.mem, MEM_JETSTREAM, 1 << 20);
}

static void teardown(void)
{
    lost_free(lost);
    text_deinit(&out);
    cr_assert_eq(heap.live_count, 0);
}

TestSuite(lost, .init = setup, .fini = teardown);

static void add(uint64_t first, uint64_t last)
{
    lost_add(&lost, &heap.mem, first, last, 10);
}

static const char *written(void)
{
    struct json_write w;
    text_clear(&out);
    json_write_init(&w, &out, 0);
    json_write_object(&w, NULL);
    lost_write(lost, &w);
    json_write_end(&w);
    text_fill(&out, 0, 1);
    return out.data;
}

Test(lost, ranges_are_sorted_and_grow_together)
{
    cr_assert_str_eq(written(), "{}");
    add(20, 21);
    add(5, 5);
    add(9, 10);
    cr_assert_str_eq(written(), "{\"lost\":{\"msgs\":[5,9,10,20,21],\"bytes\":30}}");
    add(6, 8);
    add(21, 22);
    cr_assert_eq(lost->count, 2);
    cr_assert_str_eq(written(), "{\"lost\":{\"msgs\":[5,6,7,8,9,10,20,21,22],\"bytes\":50}}");
    add(6, 9);
    cr_assert_eq(lost->bytes, 50, "known already");
    add(1, 30);
    cr_assert_eq(lost->count, 1);
}

Test(lost, what_may_have_gone_without_damage_is_forgotten)
{
    lost_forget(lost, 5); /* there is nothing */
    add(1, 1);
    add(3, 6);
    lost_forget(lost, 5);
    cr_assert_str_eq(written(), "{\"lost\":{\"msgs\":[5,6],\"bytes\":20}}");
    lost_forget(lost, 7);
    cr_assert_str_eq(written(), "{}");
}

Test(lost, it_has_a_bound)
{
    for (uint64_t i = 1; i <= 3 * LOST_RANGES_MAX; i++) add(i * 3, i * 3);
    cr_assert_eq(lost->count, LOST_RANGES_MAX);
    add(1 << 20, 1 << 30);
    add(4, 5); /* what lies between two of them, or is in one, needs no room */
    cr_assert_eq(lost->count, LOST_RANGES_MAX - 1);
    add(8, 8);
    cr_assert_eq(lost->count, LOST_RANGES_MAX - 1);
    add(7, 8);
    cr_assert_eq(lost->count, LOST_RANGES_MAX - 2);
    cr_assert_eq(lost->ranges[0].last, 9);
    lost_free(lost);
    lost = NULL;
    add(1, 1 << 30);
    uint32_t commas = 0;
    for (const char *c = written(); *c != 0; c++) commas += *c == ',';
    cr_assert_eq(commas, LOST_SHOWN_MAX);
}

Test(lost, without_memory_it_is_left_out)
{
    add(1, 1);
    heap.fail_at = heap.alloc_count + 1;
    heap.fail_from = true;
    for (uint64_t i = 2; i <= 8; i++) add(i * 3, i * 3);
    cr_assert_lt(lost->count, 8);
    cr_assert_geq(lost->count, 4);
}

Test(lost, the_first_and_the_last_number_have_no_neighbour)
{
    add(0, 3);
    add(7, UINT64_MAX);
    add(9, 9);
    cr_assert_eq(lost->count, 2);
    add(UINT64_MAX, UINT64_MAX);
    add(0, 0);
    cr_assert_eq(lost->count, 2);
    cr_assert_eq(lost->bytes, 20);
    add(4, 6);
    cr_assert_eq(lost->count, 1);
}
