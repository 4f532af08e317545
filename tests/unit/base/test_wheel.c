#include <criterion/criterion.h>
#include "core/base/rng.h"
#include "core/base/wheel.h"

enum { COUNT = 500 };
static const uint64_t MS = 1000000;

Test(wheel, every_timer_fires_once_never_early_and_at_most_two_ticks_late)
{
    static struct wheel w;
    struct wheel_timer timers[COUNT];
    struct rng r;
    rng_init(&r, 1);
    uint64_t now = 123456789;
    wheel_init(&w, now);
    uint64_t last = 0;
    for (int i = 0; i < COUNT; i++) {
        wheel_timer_init(&timers[i]);
        uint64_t ahead = rng_next(&r) % (1ull << (10 + rng_below(&r, 35)));
        wheel_arm(&w, &timers[i], now + ahead);
        if (now + ahead > last) last = now + ahead;
    }
    int fired = 0;
    while (fired < COUNT && now < last + 1000 * MS) {
        uint64_t next = wheel_next_ns(&w);
        cr_assert_neq(next, UINT64_MAX);
        uint64_t step = 1 + rng_next(&r) % (3 * MS);
        now = next > now && rng_below(&r, 2) ? next : now + step;
        struct wheel_timer *t;
        while ((t = wheel_pop(&w, now)) != NULL) {
            cr_assert_leq(t->deadline_ns, now);
            cr_assert(!wheel_is_armed(t));
            fired++;
        }
        for (int i = 0; i < COUNT; i++)
            if (wheel_is_armed(&timers[i]))
                cr_assert_geq(timers[i].deadline_ns + (2ull << WHEEL_TICK_SHIFT), now);
        if (fired > COUNT / 2 && now < last / 2) now = last / 2;
    }
    cr_assert_eq(fired, COUNT);
    cr_assert_eq(wheel_next_ns(&w), UINT64_MAX);
}

Test(wheel, a_cancelled_timer_does_not_fire)
{
    static struct wheel w;
    struct wheel_timer t;
    wheel_init(&w, 0);
    wheel_timer_init(&t);
    wheel_arm(&w, &t, 5 * MS);
    wheel_cancel(&t);
    cr_assert_null(wheel_pop(&w, 100 * MS));
}
