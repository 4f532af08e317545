#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "core/base/float_text.h"
#include "core/base/rng.h"
#include "tests/support/mem_heap.h"

static struct mem_heap heap;
static struct text t;

static void setup(void)
{
    mem_heap_init(&heap);
    text_init(&t, &heap.mem, MEM_MONITOR, 1 << 20);
}

static const char *json(double value)
{
    text_clear(&t);
    float_text_json(&t, value);
    text_char(&t, '\0');
    return t.data;
}

static const char *metric(double value)
{
    text_clear(&t);
    float_text_metric(&t, value);
    text_char(&t, '\0');
    return t.data;
}

TestSuite(float_text, .init = setup);

Test(float_text, json_is_what_go_marshals)
{
    cr_expect_str_eq(json(0), "0");
    cr_expect_str_eq(json(2), "2");
    cr_expect_str_eq(json(0.1), "0.1");
    cr_expect_str_eq(json(-1.5), "-1.5");
    cr_expect_str_eq(json(1e20), "100000000000000000000");
    cr_expect_str_eq(json(1e21), "1e+21");
    cr_expect_str_eq(json(1e-6), "0.000001");
    cr_expect_str_eq(json(1.5e-7), "1.5e-7");
    cr_expect_str_eq(json(123456789.125), "123456789.125");
    cr_expect_str_eq(json(2.0 / 3), "0.6666666666666666");
    cr_expect_str_eq(json(5e-324), "5e-324");
    cr_expect_str_eq(json(DBL_MAX), "1.7976931348623157e+308");
    cr_expect_str_eq(json(9007199254740993.0), "9007199254740992");
    cr_expect_str_eq(json(INFINITY), "0");
    text_deinit(&t);
}

Test(float_text, metrics_have_two_exponent_digits_and_infinities)
{
    cr_expect_str_eq(metric(0.00025), "0.00025");
    cr_expect_str_eq(metric(0.000025), "2.5e-05");
    cr_expect_str_eq(metric(INFINITY), "+Inf");
    cr_expect_str_eq(metric(-INFINITY), "-Inf");
    cr_expect_str_eq(metric(NAN), "NaN");
    text_deinit(&t);
}

Test(float_text, reads_back_as_the_same_number_and_no_shorter_text_does)
{
    struct rng r;
    rng_init(&r, 7);
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = rng_next(&r) >> 1;
        double value;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value) || value == 0.0) continue;
        if (i % 2 == 0) value = (double)(bits % 100000000) / 1000.0 + 0.001;
        char digits[FLOAT_TEXT_DIGITS_MAX];
        int point;
        uint32_t count = float_text_digits(value, digits, &point);
        char room[64], shorter[64];
        snprintf(room, sizeof room, "0.%.*se%d", (int)count, digits, point);
        cr_assert_eq(strtod(room, NULL), value, "%s is not %.17g", room, value);
        if (count == 1) continue;
        snprintf(shorter, sizeof shorter, "%.*e", (int)count - 2, value);
        cr_assert_neq(strtod(shorter, NULL), value, "%s is shorter than %s", shorter, room);
    }
    text_deinit(&t);
}
