#include <criterion/criterion.h>
#include <time.h>
#include "core/base/rng.h"
#include "core/base/time_text.h"
#include "tests/support/mem_heap.h"

static struct mem_heap heap;
static struct text t;

static void setup(void)
{
    mem_heap_init(&heap);
    text_init(&t, &heap.mem, MEM_MONITOR, 4096);
}

static const char *result(void)
{
    text_char(&t, '\0');
    return t.data;
}

static const char *rfc3339(int64_t ns)
{
    text_clear(&t);
    time_text_rfc3339(&t, ns);
    return result();
}

static const char *duration(int64_t ns)
{
    text_clear(&t);
    time_text_duration(&t, ns);
    return result();
}

static const char *uptime(int64_t seconds)
{
    text_clear(&t);
    time_text_uptime(&t, seconds * 1000000000);
    return result();
}

TestSuite(time_text, .init = setup);

Test(time_text, fractions_have_as_many_digits_as_needed)
{
    cr_expect_str_eq(rfc3339(0), "1970-01-01T00:00:00Z");
    cr_expect_str_eq(rfc3339(1), "1970-01-01T00:00:00.000000001Z");
    cr_expect_str_eq(rfc3339(120000000), "1970-01-01T00:00:00.12Z");
    cr_expect_str_eq(rfc3339(1795252566000000500), "2026-11-21T09:16:06.0000005Z");
    cr_expect_str_eq(rfc3339(-1), "1969-12-31T23:59:59.999999999Z");
    cr_expect_str_eq(rfc3339(951782400000000000), "2000-02-29T00:00:00Z");
    text_clear(&t);
    time_text_rfc3339_or_zero(&t, 0);
    cr_expect_str_eq(result(), "0001-01-01T00:00:00Z");
    text_deinit(&t);
}

Test(time_text, the_calendar_is_that_of_libc)
{
    struct rng r;
    rng_init(&r, 3);
    for (int i = 0; i < 50000; i++) {
        int64_t ns = (int64_t)rng_next(&r);
        struct time_text_civil c = time_text_civil(ns);
        time_t seconds = (time_t)(ns / 1000000000 - (ns % 1000000000 < 0 ? 1 : 0));
        struct tm tm;
        gmtime_r(&seconds, &tm);
        cr_assert_eq(c.year, tm.tm_year + 1900);
        cr_assert_eq(c.month, (uint32_t)tm.tm_mon + 1);
        cr_assert_eq(c.day, (uint32_t)tm.tm_mday);
        cr_assert_eq(c.hour, (uint32_t)tm.tm_hour);
        cr_assert_eq(c.minute, (uint32_t)tm.tm_min);
        cr_assert_eq(c.second, (uint32_t)tm.tm_sec);
    }
    text_deinit(&t);
}

Test(time_text, durations_are_those_of_go)
{
    cr_expect_str_eq(duration(0), "0s");
    cr_expect_str_eq(duration(1), "1ns");
    cr_expect_str_eq(duration(1100), "1.1µs");
    cr_expect_str_eq(duration(152000), "152µs");
    cr_expect_str_eq(duration(1200000), "1.2ms");
    cr_expect_str_eq(duration(2000000000), "2s");
    cr_expect_str_eq(duration(61500000000), "1m1.5s");
    cr_expect_str_eq(duration(3600500000000), "1h0m0.5s");
    cr_expect_str_eq(duration(-1500000), "-1.5ms");
    cr_expect_str_eq(duration(INT64_MAX), "2562047h47m16.854775807s");
    cr_expect_str_eq(duration(INT64_MIN), "-2562047h47m16.854775808s");
    text_deinit(&t);
}

Test(time_text, uptime_drops_leading_units_only)
{
    cr_expect_str_eq(uptime(0), "0s");
    cr_expect_str_eq(uptime(59), "59s");
    cr_expect_str_eq(uptime(60), "1m0s");
    cr_expect_str_eq(uptime(86400), "1d0h0m0s");
    cr_expect_str_eq(uptime(365 * 86400 + 2 * 86400 + 3 * 3600 + 4 * 60 + 5), "1y2d3h4m5s");
    cr_expect_str_eq(uptime(-5), "0s");
    text_deinit(&t);
}

Test(time_text, round_trips_are_cut_to_microseconds_below_a_millisecond)
{
    cr_expect_eq(time_text_round_trip(999), 999);
    cr_expect_eq(time_text_round_trip(152345), 152000);
    cr_expect_eq(time_text_round_trip(1234567), 1234567);
}
