#include <criterion/criterion.h>
#include <stdio.h>
#include "core/base/json.h"
#include "core/base/must.h"
#include "tests/support/mem_heap.h"

static struct mem_heap heap;
static struct json_fault fault;

static void start(void)
{
    mem_heap_init(&heap);
    json_init(7);
}

static void no_leak(void)
{
    must(heap.live_count == 0);
    must(heap.mem.used_bytes[MEM_CONFIG] == 0);
}

TestSuite(json, .init = start, .fini = no_leak);

static enum err open_text(const char *text, struct json_doc **doc)
{
    memset(&fault, 0, sizeof fault);
    return json_open(&heap.mem, MEM_CONFIG, bytes_from_text(text), NULL, doc, &fault);
}

static struct json_doc *must_open(const char *text)
{
    struct json_doc *doc = NULL;
    enum err e = open_text(text, &doc);
    cr_assert_eq(e, ERR_OK, "%s: %s", text, fault.text);
    return doc;
}

Test(json, a_getter_names_the_field_of_a_wrong_type)
{
    struct json_doc *doc = must_open("{\"max_msgs\":\"ten\",\"ok\":3}");
    int64_t value = 5;
    cr_assert_eq(json_get_i64(json_root(doc), "max_msgs", &value, &fault), ERR_INVALID);
    cr_assert_str_eq(fault.text, "field \"max_msgs\" is a string, not an integer");
    cr_assert_eq(value, 5);
    cr_assert_eq(json_get_i64(json_root(doc), "ok", &value, &fault), ERR_OK);
    cr_assert_eq(value, 3);
    json_close(doc);
}

Test(json, absence_and_null_leave_the_value_alone)
{
    struct json_doc *doc = must_open("{\"a\":null}");
    bool flag = true;
    struct bytes text = BYTES_LITERAL("kept");
    cr_assert_eq(json_get_bool(json_root(doc), "a", &flag, &fault), ERR_OK);
    cr_assert_eq(json_get_text(json_root(doc), "b", &text, &fault), ERR_OK);
    cr_assert(flag);
    cr_assert(bytes_equal(text, BYTES_LITERAL("kept")));
    json_close(doc);
}

Test(json, names_match_without_case_and_the_last_wins)
{
    struct json_doc *doc = must_open("{\"USER\":\"c\",\"user\":\"b\"}");
    struct bytes text = {0};
    cr_assert_eq(json_get_text(json_root(doc), "user", &text, &fault), ERR_OK);
    cr_assert(bytes_equal(text, BYTES_LITERAL("b")));
    json_close(doc);
    doc = must_open("{\"user\":\"b\",\"USER\":\"c\"}");
    cr_assert_eq(json_get_text(json_root(doc), "user", &text, &fault), ERR_OK);
    cr_assert(bytes_equal(text, BYTES_LITERAL("c")));
    json_close(doc);
}

Test(json, integers_stay_integers_and_say_when_they_do_not_fit)
{
    struct json_doc *doc = must_open("{\"big\":9223372036854775807,\"low\":-9223372036854775808,"
                                     "\"real\":1.0,\"less\":-1}");
    int64_t value = 0;
    uint64_t size = 4;
    cr_assert_eq(json_get_i64(json_root(doc), "big", &value, &fault), ERR_OK);
    cr_assert_eq(value, INT64_MAX);
    cr_assert_eq(json_get_i64(json_root(doc), "low", &value, &fault), ERR_OK);
    cr_assert_eq(value, INT64_MIN);
    cr_assert_eq(json_get_i64(json_root(doc), "real", &value, &fault), ERR_INVALID);
    cr_assert_eq(json_get_u64(json_root(doc), "less", &size, &fault), ERR_RANGE);
    cr_assert_str_eq(fault.text, "field \"less\" is negative");
    cr_assert_eq(json_get_i64_in(json_root(doc), "big", 0, 9, &value, &fault), ERR_RANGE);
    cr_assert_str_eq(fault.text, "field \"big\" is out of range");
    json_close(doc);
    cr_assert_eq(open_text("{\"x\":9223372036854775808}", &doc), ERR_RANGE);
    cr_assert_str_eq(fault.text, "JSON text has a number out of range");
}

Test(json, depth_is_bounded_before_anything_is_built)
{
    char text[4000];
    struct json_doc *doc;
    memset(text, '[', sizeof text);
    text[JSON_DEPTH_DEFAULT] = 0;
    cr_assert_eq(open_text(text, &doc), ERR_SYNTAX);
    memset(text, '[', sizeof text - 1);
    text[sizeof text - 1] = 0;
    uint64_t calls = heap.alloc_count;
    cr_assert_eq(open_text(text, &doc), ERR_TOO_LONG);
    cr_assert_eq(heap.alloc_count, calls);
    text[0] = text[200] = '"';
    text[201] = 0;
    json_close(must_open(text)); /* brackets inside a string do not count */
}

Test(json, memory_is_bounded_per_document)
{
    char text[3001];
    struct json_doc *doc;
    struct json_limits limits = {.bytes_max = 20000};
    for (size_t i = 0; i < 3000; i += 3) memcpy(text + i, "[],", 3);
    text[0] = '[';
    text[1] = '1';
    text[2999] = ']';
    text[3000] = 0;
    cr_assert_eq(json_open(&heap.mem, MEM_CONFIG, bytes_from_text(text), &limits, &doc, &fault),
                 ERR_TOO_LONG);
    json_close(must_open(text));
}

Test(json, damaged_text_inside_strings_reads_as_the_replacement_character)
{
    struct json_doc *doc = must_open("{\"a\":\"x\xff\xc3\",\"b\":\"\\ud800\","
                                     "\"c\":\"\\ud83d\\ude00\","
                                     "\"d\":\"\\udc00\\\\ud800\",\"e\":\"a\\u0000b\"}");
    struct bytes text = {0};
    cr_assert_eq(json_get_text(json_root(doc), "a", &text, &fault), ERR_OK);
    cr_assert(bytes_equal(text, BYTES_LITERAL("x\xef\xbf\xbd\xef\xbf\xbd")));
    cr_assert_eq(json_get_text(json_root(doc), "b", &text, &fault), ERR_OK);
    cr_assert(bytes_equal(text, BYTES_LITERAL("\xef\xbf\xbd")));
    cr_assert_eq(json_get_text(json_root(doc), "c", &text, &fault), ERR_OK);
    cr_assert(bytes_equal(text, BYTES_LITERAL("\xf0\x9f\x98\x80")));
    cr_assert_eq(json_get_text(json_root(doc), "d", &text, &fault), ERR_OK);
    cr_assert(bytes_equal(text, BYTES_LITERAL("\xef\xbf\xbd\\ud800")));
    cr_assert_eq(json_get_text(json_root(doc), "e", &text, &fault), ERR_OK);
    cr_assert(bytes_equal(text, BYTES_LITERAL("a\0b")));
    json_close(doc);
}

Test(json, a_fault_never_shows_what_was_sent)
{
    struct json_doc *doc;
    cr_assert_eq(open_text("{\"pass\":\"sesame\" oops}", &doc), ERR_SYNTAX);
    cr_assert(strstr(fault.text, "sesame") == NULL && strstr(fault.text, "oops") == NULL);
    cr_assert_eq(open_text("", &doc), ERR_SYNTAX);
    cr_assert_eq(open_text("{} x", &doc), ERR_SYNTAX);
    cr_assert_eq(open_text("\xff{}", &doc), ERR_SYNTAX);
    cr_assert_eq(open_text("\"\\u12", &doc), ERR_SYNTAX);
    cr_assert_eq(open_text("\"\\", &doc), ERR_SYNTAX);
}

Test(json, running_out_of_memory_anywhere_leaves_nothing_behind)
{
    static const char text[] = "{\"a\":[1,2.5,\"x\xff\",{\"b\":null}],\"c\":true}";
    for (uint64_t n = 1; n < 100; n++) {
        struct json_doc *doc = NULL;
        heap.alloc_count = 0;
        heap.fail_at = n;
        enum err e = open_text(text, &doc);
        heap.fail_at = 0;
        if (e == ERR_OK) {
            json_close(doc);
            cr_assert_gt(n, 5);
            return;
        }
        cr_assert_eq(e, ERR_MEMORY);
        cr_assert_eq(heap.live_count, 0);
    }
    cr_assert_fail("never enough memory");
}

/* Where the read buffer of the parser stops to grow, be it at the closing quote. */
Test(json, texts_of_any_length_survive_a_refusal_anywhere)
{
    char text[128];
    for (int len = 1; len < 100; len++) {
        snprintf(text, sizeof text, "{\"a\":\"%.*s\"}", len,
                 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
        struct json_doc *doc = NULL;
        enum err e = ERR_MEMORY;
        for (uint64_t n = 1; e != ERR_OK; n++) {
            heap.alloc_count = 0;
            heap.fail_at = n;
            heap.fail_from = n % 2 == 0;
            e = open_text(text, &doc);
            heap.fail_at = 0;
            heap.fail_from = 0;
            cr_assert(e == ERR_OK || e == ERR_MEMORY, "%d", (int)e);
        }
        json_close(doc);
        for (size_t most = 1;; most++) {
            struct json_limits limits = {.bytes_max = most};
            e = json_open(&heap.mem, MEM_CONFIG, bytes_from_text(text), &limits, &doc, &fault);
            if (e == ERR_OK) break;
            cr_assert_eq(e, ERR_TOO_LONG);
        }
        json_close(doc);
    }
}

Test(json, arrays_and_objects_are_walked_in_order)
{
    struct json_doc *doc = must_open("{\"z\":[10,20],\"a\":{\"k\":null}}");
    const struct json_node *array = NULL, *value;
    const void *at = NULL;
    struct bytes name;
    int64_t number = 0;
    cr_assert_eq(json_get_array(json_root(doc), "z", &array, &fault), ERR_OK);
    cr_assert_eq(json_count(array), 2);
    cr_assert_eq(json_as_i64(json_at(array, 1), "z", &number, &fault), ERR_OK);
    cr_assert_eq(number, 20);
    cr_assert_null(json_at(array, 2));
    cr_assert_eq(json_get_object(json_root(doc), "z", &value, &fault), ERR_INVALID);
    cr_assert(json_each(json_root(doc), &at, &name, &value));
    cr_assert(bytes_equal(name, BYTES_LITERAL("z")));
    cr_assert(json_each(json_root(doc), &at, &name, &value));
    cr_assert(bytes_equal(name, BYTES_LITERAL("a")));
    cr_assert(!json_each(json_root(doc), &at, &name, &value));
    json_close(doc);
}
