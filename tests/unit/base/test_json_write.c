#include <criterion/criterion.h>
#include "core/base/json_write.h"
#include "tests/support/mem_heap.h"

static struct mem_heap heap;
static struct text t;
static struct json_write w;

static void setup(void)
{
    mem_heap_init(&heap);
    text_init(&t, &heap.mem, MEM_MONITOR, 1 << 20);
}

static const char *result(void)
{
    text_char(&t, '\0');
    return t.data;
}

static const char *quoted(struct bytes b)
{
    text_clear(&t);
    json_write_quote(&t, b);
    return result();
}

static void write_sample(uint32_t indent)
{
    text_clear(&t);
    json_write_init(&w, &t, indent);
    json_write_object(&w, NULL);
    json_write_text(&w, "a", BYTES_LITERAL("x"));
    json_write_array(&w, "list");
    json_write_u64(&w, NULL, 1);
    json_write_object(&w, NULL);
    json_write_end(&w);
    json_write_end(&w);
    json_write_array(&w, "none");
    json_write_end(&w);
    json_write_text_if(&w, "left_out", BYTES_LITERAL(""));
    json_write_key(&w, BYTES_LITERAL("/varz"));
    json_write_bool(&w, NULL, true);
    json_write_null(&w, "n");
    json_write_end(&w);
}

TestSuite(json_write, .init = setup);

Test(json_write, indented_form_is_that_of_go)
{
    write_sample(2);
    cr_assert_str_eq(result(), "{\n  \"a\": \"x\",\n  \"list\": [\n    1,\n    {}\n  ],\n"
                               "  \"none\": [],\n  \"/varz\": true,\n  \"n\": null\n}");
    text_deinit(&t);
}

Test(json_write, compact_form_has_no_blank)
{
    write_sample(0);
    cr_assert_str_eq(result(),
                     "{\"a\":\"x\",\"list\":[1,{}],\"none\":[],\"/varz\":true,\"n\":null}");
    text_deinit(&t);
}

Test(json_write, escapes_are_those_of_go)
{
    cr_expect_str_eq(quoted(BYTES_LITERAL("a\"b\\c\n\r\t\b\f\x01")),
                     "\"a\\\"b\\\\c\\n\\r\\t\\b\\f\\u0001\"");
    cr_expect_str_eq(quoted(BYTES_LITERAL("<&>")), "\"\\u003c\\u0026\\u003e\"");
    cr_expect_str_eq(quoted(BYTES_LITERAL("µ € 𝄞 \x7f")), "\"µ € 𝄞 \x7f\"");
    cr_expect_str_eq(quoted(BYTES_LITERAL("\xe2\x80\xa8\xe2\x80\xa9")), "\"\\u2028\\u2029\"");
    text_deinit(&t);
}

Test(json_write, foreign_bytes_never_make_it_invalid)
{
    cr_expect_str_eq(quoted(BYTES_LITERAL("\xff")), "\"\\ufffd\"");
    cr_expect_str_eq(quoted(BYTES_LITERAL("\xc3")), "\"\\ufffd\"", "cut short");
    cr_expect_str_eq(quoted(BYTES_LITERAL("\xc0\x80")), "\"\\ufffd\\ufffd\"", "overlong");
    cr_expect_str_eq(quoted(BYTES_LITERAL("\xed\xa0\x80")), "\"\\ufffd\\ufffd\\ufffd\"",
                     "surrogate");
    cr_expect_str_eq(quoted(BYTES_LITERAL("\xf5\x80\x80\x80")),
                     "\"\\ufffd\\ufffd\\ufffd\\ufffd\"", "beyond the last code point");
    text_deinit(&t);
}
