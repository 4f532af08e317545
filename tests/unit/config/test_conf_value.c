#include <criterion/criterion.h>
#include <string.h>
#include "core/config/conf_value.h"
#include "tests/support/mem_heap.h"

static struct mem_heap heap;
static struct arena arena;
static struct conf_error error;
static struct conf_parse parse = {.arena = &arena, .error = &error};

static void setup(void)
{
    mem_heap_init(&heap);
    arena_init(&arena, &heap.mem, MEM_CONFIG);
}

static void teardown(void)
{
    arena_deinit(&arena);
    cr_assert_eq(heap.live_count, 0);
}

TestSuite(conf_value, .init = setup, .fini = teardown);

static struct conf_scan scan_of(const char *text)
{
    return (struct conf_scan){
        .p = &parse, .at = text, .end = text + strlen(text), .line_start = text, .line = 1};
}

Test(conf_value, a_bare_variable_is_handed_back)
{
    struct conf_value *value = NULL;
    struct bytes variable;
    struct conf_scan s = scan_of("$NAME, x");
    cr_assert_eq(conf_value_parse_bare(&s, &value, &variable), ERR_OK);
    cr_expect(bytes_equal(variable, BYTES_LITERAL("$NAME")));
    cr_expect_null(value);
    cr_expect_eq(conf_scan_peek(&s), ',');
    s = scan_of("NAME");
    cr_assert_eq(conf_value_parse_bare(&s, &value, &variable), ERR_OK);
    cr_expect_eq(variable.len, 0);
    cr_expect(bytes_equal(value->text, BYTES_LITERAL("NAME")));
}

Test(conf_value, what_starts_with_a_digit_is_a_number_a_time_or_a_word)
{
    static const struct {
        const char *text;
        enum conf_kind kind;
    } cases[] = {{"12kb", CONF_INTEGER}, {"-3", CONF_INTEGER},
                 {"0.5", CONF_FLOAT},    {"1.2.3.4:5", CONF_TEXT},
                 {"1h30m", CONF_TEXT},   {"2006-01-02T15:04:05Z", CONF_TIME}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct conf_value *value;
        struct conf_scan s = scan_of(cases[i].text);
        cr_assert_eq(conf_value_parse_number(&s, &value), ERR_OK, "%s", cases[i].text);
        cr_expect_eq(value->kind, cases[i].kind, "%s", cases[i].text);
        cr_expect_eq(conf_scan_peek(&s), CONF_SCAN_END);
    }
    struct conf_value *value;
    struct conf_scan s = scan_of("2006-02-29T00:00:00Z");
    cr_expect_eq(conf_value_parse_number(&s, &value), ERR_SYNTAX);
}

Test(conf_value, values_are_counted_also_those_that_a_variable_stands_for)
{
    struct conf_value *value;
    struct conf_scan s = scan_of("");
    parse.value_count = 0;
    cr_assert_eq(conf_value_count(&s, CONF_VALUES_MAX - 1), ERR_OK);
    cr_assert_eq(conf_value_new(&s, CONF_MAP, &value), ERR_OK);
    cr_expect_eq(value->depth, 1);
    cr_expect_eq(conf_value_new(&s, CONF_BOOL, &value), ERR_SYNTAX);
}
