#include <criterion/criterion.h>
#include "io/spin.h"

static void sleep_often(struct spin *s, uint32_t times, uint64_t slept_ns)
{
    for (uint32_t i = 0; i < times; i++) spin_slept(s, true, slept_ns);
}

Test(spin, a_new_shard_sleeps)
{
    struct spin s;
    spin_init(&s, 8);
    cr_assert_eq(spin_budget_ns(&s, 1), 0);
}

Test(spin, short_sleeps_teach_to_spin)
{
    struct spin s;
    spin_init(&s, 2);
    sleep_often(&s, 12, 40000);
    cr_assert_geq(spin_budget_ns(&s, 1), SPIN_NS_MIN);
    cr_assert_leq(spin_budget_ns(&s, 1), SPIN_NS_MAX);
    sleep_often(&s, 6, 5000000);
    cr_assert_eq(spin_budget_ns(&s, 1), 0);
}

/* Two wake-ups of idle processors are most of such a sleep, and a spin needs none of them. */
Test(spin, a_sleep_of_two_slow_wake_ups_is_short)
{
    struct spin s;
    spin_init(&s, 2);
    sleep_often(&s, 12, 120000);
    cr_assert_geq(spin_budget_ns(&s, 1), SPIN_NS_MIN);
}

Test(spin, a_sleep_that_timed_out_teaches_nothing_good)
{
    struct spin s;
    spin_init(&s, 2);
    for (int i = 0; i < 50; i++) spin_slept(&s, false, 1000);
    cr_assert_eq(spin_budget_ns(&s, 1), 0);
}

Test(spin, a_single_core_never_spins)
{
    struct spin s;
    spin_init(&s, 1);
    sleep_often(&s, 100, 1000);
    cr_assert_eq(spin_budget_ns(&s, 1), 0);
}

Test(spin, a_stream_of_messages_needs_no_spin)
{
    struct spin s;
    spin_init(&s, 2);
    sleep_often(&s, 100, 1000);
    cr_assert_gt(spin_budget_ns(&s, SPIN_BATCH_MAX), 0);
    cr_assert_eq(spin_budget_ns(&s, SPIN_BATCH_MAX + 1), 0);
}

Test(spin, five_spins_in_vain_end_it)
{
    struct spin s;
    spin_init(&s, 2);
    sleep_often(&s, 100, 1000);
    uint32_t spent_count = 0;
    while (spin_budget_ns(&s, 1) != 0) {
        spin_ended(&s, false, spin_budget_ns(&s, 1), 500);
        spent_count++;
        cr_assert_lt(spent_count, 6);
    }
    sleep_often(&s, SPIN_HOLDOFF_FIRST - 1, 1000);
    cr_assert_eq(spin_budget_ns(&s, 1), 0, "sleeps promised too much: they are believed later");
    sleep_often(&s, 1, 1000);
    cr_assert_gt(spin_budget_ns(&s, 1), 0, "sleeps bring it back");
}

Test(spin, the_budget_follows_what_was_needed)
{
    struct spin s;
    spin_init(&s, 2);
    sleep_often(&s, 100, 1000);
    for (int i = 0; i < 100; i++) spin_ended(&s, true, 3000, 500);
    cr_assert_eq(spin_budget_ns(&s, 1), SPIN_NS_MIN);
    for (int i = 0; i < 100; i++) spin_ended(&s, true, 25000, 500);
    uint32_t budget_ns = spin_budget_ns(&s, 1);
    cr_assert_gt(budget_ns, 45000);
    cr_assert_leq(budget_ns, 50000);
    for (int i = 0; i < 100; i++) spin_ended(&s, true, 59000, 500);
    cr_assert_eq(spin_budget_ns(&s, 1), SPIN_NS_MAX);
}

Test(spin, who_is_preempted_holds_off_longer_each_time)
{
    struct spin s;
    spin_init(&s, 2);
    sleep_often(&s, 100, 1000);
    for (uint32_t length = SPIN_HOLDOFF_FIRST; length <= 4 * SPIN_HOLDOFF_FIRST; length *= 2) {
        cr_assert_gt(spin_budget_ns(&s, 1), 0);
        spin_ended(&s, true, 30000, SPIN_GAP_NS_MAX + 1);
        for (uint32_t i = 0; i < length; i++) {
            cr_assert_eq(spin_budget_ns(&s, 1), 0);
            spin_slept(&s, true, 1000);
        }
    }
    cr_assert_gt(spin_budget_ns(&s, 1), 0);
    cr_assert_eq(s.spins, 3);
    cr_assert_eq(s.found, 3);
}
