#include <criterion/criterion.h>
#include "core/js/jsapi_error.h"
#include "tests/support/mem_heap.h"

static void expect_text(const struct jsapi_error *e, const char *text)
{
    cr_assert(bytes_equal(jsapi_error_description(e), bytes_from_text(text)), "got %.*s",
              (int)e->text_len, e->text);
}

Test(jsapi_error, fills_placeholders_in_order)
{
    struct jsapi_error e;
    jsapi_error_set(&e, JSAPI_STREAM_NOT_FOUND);
    expect_text(&e, "stream not found");
    jsapi_error_set_u64(&e, JSAPI_STREAM_WRONG_LAST_SEQUENCE, UINT64_MAX);
    expect_text(&e, "wrong last sequence: 18446744073709551615");
    jsapi_error_set_text(&e, JSAPI_INVALID_JSON, BYTES_LITERAL("json: {x}"));
    expect_text(&e, "invalid JSON: json: {x}");
    jsapi_error_set_two(&e, JSAPI_STREAM_EXTERNAL_API_OVERLAP, BYTES_LITERAL("a"),
                        BYTES_LITERAL("b"));
    expect_text(&e, "stream external api prefix a must not overlap with b");
    jsapi_error_set_text(&e, JSAPI_STREAM_CREATE, BYTES_LITERAL(""));
    expect_text(&e, "");
}

Test(jsapi_error, codes_rise_and_are_those_of_the_protocol)
{
    cr_assert_eq(jsapi_error_err_code(JSAPI_STREAM_INVALID_CONFIG), 10052);
    cr_assert_eq(jsapi_error_code(JSAPI_STREAM_INVALID_CONFIG), 500);
    cr_assert_eq(jsapi_error_err_code(JSAPI_STREAM_TOO_MANY_REQUESTS), 10167);
    cr_assert_eq(jsapi_error_code(JSAPI_STREAM_TOO_MANY_REQUESTS), 429);
    cr_assert_eq(JSAPI_COUNT - 1, 227);
    for (enum jsapi_id id = JSAPI_NONE + 1; id + 1 < JSAPI_COUNT; id++)
        cr_assert_lt(jsapi_error_err_code(id), jsapi_error_err_code(id + 1));
}

Test(jsapi_error, a_long_value_is_cut_between_characters)
{
    char value[2 * JSAPI_ERROR_TEXT_BYTES];
    for (size_t i = 0; i < sizeof value; i += 2) memcpy(value + i, "\xc3\xa4", 2);
    struct jsapi_error e;
    jsapi_error_set_text(&e, JSAPI_PEDANTIC, bytes_of(value, sizeof value));
    cr_assert_eq(e.text_len, JSAPI_ERROR_TEXT_BYTES - 1); /* 15 bytes before it: an odd room */
    cr_assert_eq((unsigned char)e.text[e.text_len - 1], 0xa4);
}

Test(jsapi_error, writes_the_member_of_a_reply)
{
    struct mem_heap heap;
    mem_heap_init(&heap);
    struct text t;
    text_init(&t, &heap.mem, MEM_JETSTREAM, 4096);
    struct json_write w;
    json_write_init(&w, &t, 0);
    json_write_object(&w, NULL);
    struct jsapi_error e;
    jsapi_error_set(&e, JSAPI_NO_MESSAGE_FOUND);
    jsapi_error_write(&e, &w);
    json_write_end(&w);
    cr_assert(
        bytes_equal(text_written(&t), BYTES_LITERAL("{\"error\":{\"code\":404,\"err_code\":10037,"
                                                    "\"description\":\"no message found\"}}")));
    text_deinit(&t);
    cr_assert_eq(heap.live_count, 0);
}
