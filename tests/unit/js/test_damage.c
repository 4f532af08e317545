#include <criterion/criterion.h>
#include "core/js/damage.h"
#include "tests/support/mem_heap.h"

static struct mem_heap heap;
static struct damage damage;
static struct damage_sum sum;
static const struct damage_asker SEVEN = {7, 100, 110}, EIGHT = {8, 200, 210};

static void setup(void)
{
    mem_heap_init(&heap);
    damage_init(&damage, &heap.mem);
}

static void teardown(void)
{
    damage_deinit(&damage);
    cr_assert_eq(heap.live_count, 0);
}

TestSuite(damage, .init = setup, .fini = teardown);

static void add(uint32_t incarnation, uint64_t group, uint64_t records)
{
    struct store_lost lost = {
        .end = {incarnation, group}, .bytes = 100, .record_max = records, .stream_hint = 7};
    damage_add(&damage, &lost);
}

static uint64_t records_since(uint32_t passed)
{
    damage_since(&damage, passed, &SEVEN, &sum);
    return sum.records;
}

Test(damage, what_lies_behind_a_point_is_summed_up)
{
    add(1, 10, 2);
    add(1, 20, 0); /* no record was in it */
    add(1, 30, 3);
    add(2, 5, 4);
    cr_assert_eq(records_since(0), 9);
    cr_assert_eq(sum.bytes, 300);
    cr_assert_eq(records_since(damage_before(&damage, (struct store_point){1, 9})), 9);
    cr_assert_eq(records_since(damage_before(&damage, (struct store_point){1, 10})), 7);
    cr_assert_eq(records_since(damage_before(&damage, (struct store_point){1, 99})), 4);
    cr_assert_eq(records_since(damage_before(&damage, (struct store_point){2, 4})), 4);
    cr_assert_eq(records_since(damage_before(&damage, (struct store_point){2, 5})), 0);
}

Test(damage, where_no_group_is_known_nothing_is_behind_it)
{
    add(1, 0, 2);
    add(1, 30, 3);
    cr_assert_eq(damage_before(&damage, (struct store_point){1, 99}), 0);
    cr_assert_eq(damage_before(&damage, (struct store_point){2, 1}), 2);
}

Test(damage, hints_say_what_others_lost)
{
    struct store_lost lost = {
        .end = {1, 1}, .record_max = 1, .stream_hint = 7, .kind_hint = RECORD_MESSAGE};
    damage_add(&damage, &lost);
    lost.kind_hint = RECORD_PROGRESS;
    damage_add(&damage, &lost);
    damage_since(&damage, 0, &SEVEN, &sum);
    cr_assert_eq(sum.others, 1);
    damage_since(&damage, 0, &EIGHT, &sum);
    cr_assert_eq(sum.others, 2);
    /* One of the two that say whose it was may be what is damaged. */
    lost.seq_hint = 205;
    damage_add(&damage, &lost);
    damage_since(&damage, 2, &EIGHT, &sum);
    cr_assert_eq(sum.others, 0);
    damage_since(&damage, 2, &SEVEN, &sum);
    cr_assert_eq(sum.others, 1);
    lost.record_max = 2;
    damage_add(&damage, &lost);
    damage_since(&damage, 3, &SEVEN, &sum);
    cr_assert_eq(sum.others, 0);
}

/* Nothing is forgotten: too much is counted at most. */
Test(damage, beyond_its_bound_or_without_memory_several_are_one)
{
    for (uint32_t i = 1; i <= DAMAGE_RANGES_MAX + 10; i++) add(1, i, 1);
    cr_assert_eq(records_since(0), DAMAGE_RANGES_MAX + 10);
    cr_assert_eq(records_since(DAMAGE_RANGES_MAX - 5), 15);
    cr_assert_eq(records_since(DAMAGE_RANGES_MAX + 9), 10);
    cr_assert_eq(records_since(DAMAGE_RANGES_MAX + 10), 0);
    damage_deinit(&damage);
    heap.fail_at = heap.alloc_count + 1;
    heap.fail_from = true;
    add(1, 1, 2);
    add(1, 2, 3);
    cr_assert_eq(records_since(1), 5);
    cr_assert_eq(records_since(2), 0);
    cr_assert_eq(damage_before(&damage, (struct store_point){1, 1}), 0);
}

Test(damage, how_much_a_checkpoint_can_have_lost_has_a_bound)
{
    struct store_lost in_one = {.end = {1, 10}, .group = 10, .record_max = 2},
                      in_many = {.end = {1, 20}, .record_max = 3},
                      packed = {.is_packed = true, .has_count = true, .record_count = 4};
    cr_assert_eq(damage_most(&damage, (struct store_point){9, 9}, &SEVEN), 0);
    damage_add(&damage, &in_one);
    cr_assert_eq(damage_most(&damage, (struct store_point){1, 10}, &SEVEN), 2);
    cr_assert_eq(damage_most(&damage, (struct store_point){1, 9}, &SEVEN), 0);
    damage_add(&damage, &in_many);
    damage_add(&damage, &packed);
    cr_assert_eq(damage_most(&damage, (struct store_point){1, 10}, &SEVEN), 9);
    cr_assert_eq(damage_most(&damage, (struct store_point){1, 9}, &SEVEN), 7);
    cr_assert_eq(damage.count, 2);
    packed.has_count = false;
    damage_add(&damage, &packed);
    damage_add(&damage, &packed);
    cr_assert_eq(damage_most(&damage, (struct store_point){1, 9}, &SEVEN), UINT64_MAX);
}
