#include <criterion/criterion.h>
#include "core/js/time_parse.h"
#include "tests/support/mem_heap.h"

/* What comes back when it is printed again. */
static void expect_time(const char *in, const char *out)
{
    struct mem_heap heap;
    struct text text;
    struct time_stamp t;
    char why[200];
    struct writer w;
    mem_heap_init(&heap);
    text_init(&text, &heap.mem, MEM_JETSTREAM, 100);
    writer_init(&w, why, sizeof why);
    cr_assert_eq(time_parse_rfc3339(bytes_from_text(in), &t, &w), ERR_OK, "%s", in);
    time_parse_write(&text, &t);
    cr_assert(bytes_equal(text_written(&text), bytes_from_text(out)), "%s: %.*s", in, (int)text.len,
              text.data);
    text_deinit(&text);
}

static void expect_refusal(const char *in, const char *text)
{
    struct time_stamp t;
    char why[200];
    struct writer w;
    writer_init(&w, why, sizeof why);
    cr_assert_eq(time_parse_rfc3339(bytes_from_text(in), &t, &w), ERR_SYNTAX, "%s", in);
    cr_assert(bytes_equal(writer_written(&w), bytes_from_text(text)), "%.*s", (int)w.len, w.data);
}

Test(time_parse, offsets_and_fractions_come_back)
{
    expect_time("2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z");
    expect_time("2020-02-29T23:59:59.1234567891Z", "2020-02-29T23:59:59.123456789Z");
    expect_time("2020-01-01T00:00:00,5+02:00", "2020-01-01T00:00:00.5+02:00");
    expect_time("1969-12-31T23:59:59.5-11:30", "1969-12-31T23:59:59.5-11:30");
    expect_time("2020-01-01T0:00:00-00:00", "2020-01-01T00:00:00Z");
    expect_time("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z");
}

Test(time_parse, seconds_are_counted_from_1970)
{
    struct time_stamp t;
    struct writer w = {0};
    cr_assert_eq(time_parse_rfc3339(BYTES_LITERAL("1970-01-01T01:00:00+01:00"), &t, &w), ERR_OK);
    cr_assert_eq(t.wall_ns, 0);
    cr_assert_eq(time_parse_rfc3339(BYTES_LITERAL("2000-03-01T00:00:00Z"), &t, &w), ERR_OK);
    cr_assert_eq(t.wall_ns, INT64_C(951868800000000000));
    cr_assert_eq(time_parse_rfc3339(BYTES_LITERAL("9999-12-31T23:59:59Z"), &t, &w), ERR_OK);
    cr_assert_eq(t.wall_ns, INT64_MAX);
    cr_assert_eq(time_parse_rfc3339(BYTES_LITERAL("0000-01-01T00:00:00Z"), &t, &w), ERR_OK);
    cr_assert_eq(t.wall_ns, INT64_MIN);
    cr_assert(!t.is_zero);
}

Test(time_parse, refusals_are_those_of_go)
{
#define AS " as \"2006-01-02T15:04:05Z07:00\": cannot parse "
    expect_refusal("x", "parsing time \"x\"" AS "\"x\" as \"2006\"");
    expect_refusal("2020-1", "parsing time \"2020-1\"" AS "\"1\" as \"01\"");
    expect_refusal("2020-01-01", "parsing time \"2020-01-01\"" AS "\"\" as \"T\"");
    expect_refusal("2020-01-01T00:00Z", "parsing time \"2020-01-01T00:00Z\"" AS "\"Z\" as \":\"");
    expect_refusal("2020-01-01T00:00:00.Z",
                   "parsing time \"2020-01-01T00:00:00.Z\"" AS "\".Z\" as \"Z07:00\"");
    expect_refusal("2020-01-01T00:00:00+1",
                   "parsing time \"2020-01-01T00:00:00+1\"" AS "\"+1\" as \"Z07:00\"");
    expect_refusal("2020-13-01T00:00:00Z",
                   "parsing time \"2020-13-01T00:00:00Z\": month out of range");
    expect_refusal("2021-02-29T00:00:00Z",
                   "parsing time \"2021-02-29T00:00:00Z\": day out of range");
    expect_refusal("2020-01-01T24:00:00Z",
                   "parsing time \"2020-01-01T24:00:00Z\": hour out of range");
    expect_refusal("2020-01-01T00:00:00+25:00", "parsing time \"2020-01-01T00:00:00+25:00\": "
                                                "time zone offset hour out of range");
    expect_refusal("2020-01-01T00:00:00Zx",
                   "parsing time \"2020-01-01T00:00:00Zx\": extra text: \"x\"");
#undef AS
}
