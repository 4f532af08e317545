#include <criterion/criterion.h>
#include <string.h>
#include "core/config/conf.h"
#include "tests/support/conf_world.h"
#include "tests/support/mem_heap.h"

struct fixture {
    struct mem_heap heap;
    struct arena arena;
    struct text out;
    struct conf_error error;
    struct conf_value *map;
};

static void setup(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    mem_heap_init(&f->heap);
    arena_init(&f->arena, &f->heap.mem, MEM_CONFIG);
    text_init(&f->out, &f->heap.mem, MEM_CONFIG, 1 << 20);
}

static void teardown(struct fixture *f)
{
    arena_deinit(&f->arena);
    text_deinit(&f->out);
    cr_assert_eq(f->heap.live_count, 0);
}

static enum err parse(struct fixture *f, struct world *w, const char *content)
{
    return conf_parse_text(&f->arena, world_init(w), BYTES_LITERAL("dir/f.conf"),
                           bytes_from_text(content), &f->map, &f->error);
}

/* The parsed content, or the error with its place. */
static const char *result(struct fixture *f, struct world *w, const char *content)
{
    f->out.len = 0;
    if (parse(f, w, content) == ERR_OK)
        cr_assert_eq(conf_canonical(f->map, &f->arena, &f->out), ERR_OK);
    else
        conf_error_print(&f->error, &f->out);
    if (f->out.len > 0 && f->out.data[f->out.len - 1] == '\n') f->out.len--;
    text_char(&f->out, 0);
    return f->out.data;
}

static void expect_in(struct world w, const char *content, const char *expected)
{
    struct fixture f;
    setup(&f);
    cr_expect_str_eq(result(&f, &w, content), expected, "%s\n gives %s\n not   %s", content,
                     f.out.data, expected);
    teardown(&f);
}

static void expect(const char *content, const char *expected)
{
    expect_in((struct world){0}, content, expected);
}

static const struct vector {
    const char *text, *json;
} vectors[] = {
#define VECTOR(text, json) {text, json},
#include "tests/unit/config/conf_reference.def"
#undef VECTOR
};

Test(conf, accepts_and_refuses_as_the_reference_does)
{
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        struct fixture f;
        struct world w = {0};
        setup(&f);
        enum err e = parse(&f, &w, vectors[i].text);
        if (vectors[i].json == NULL)
            cr_expect_eq(e, ERR_SYNTAX, "accepted: %s", vectors[i].text);
        else
            cr_expect_str_eq(result(&f, &w, vectors[i].text), vectors[i].json, "%s",
                             vectors[i].text);
        teardown(&f);
    }
}

Test(conf, errors_say_file_line_and_column)
{
    expect("a: 1\n  b: {c 2\n",
           "dir/f.conf:3:1: Parse error on line 3: 'The map that opens on line 2 is never closed'");
    expect("a: [\n 1,\n ,",
           "dir/f.conf:3:2: Parse error on line 3: 'A value must stand here, not ',''");
    expect("\n\na: \"x\\q\"", "dir/f.conf:3:7: Parse error on line 3: "
                              "'Unknown escape \\q, known are \\xXX \\t \\n \\r \\\" \\\\'");
    expect("a: 'x", "dir/f.conf:1:6: Parse error on line 1: "
                    "'The quote that opens on line 1 is never closed'");
    expect("a: 1 2", "dir/f.conf:1:6: Parse error on line 1: "
                     "'The line must end after the value, but '2' follows'");
    expect("a", "dir/f.conf:1:2: Parse error on line 1: 'The key 'a' has no value'");
    expect("m {a: }", "dir/f.conf:1:7: Parse error on line 1: 'The key 'a' has no value'");
    expect("a: 5kbb", "dir/f.conf:1:4: Parse error on line 1: "
                      "''5kbb' has a unit that does not exist'");
    expect("a: 99999999999eb", "dir/f.conf:1:4: Parse error on line 1: "
                               "'integer '99999999999eb' is out of the range'");
}

Test(conf, differs_from_the_reference_where_that_loses_content)
{
    /* There a bracket directly behind a number belongs to it, as a string. */
    expect("a: [1]", "{\"a\":[1]}");
    expect("a: [1, 2kb]", "{\"a\":[1,2048]}");
}

Test(conf, values_know_the_place_of_their_key)
{
    struct fixture f;
    struct world w = {0};
    setup(&f);
    cr_assert_eq(parse(&f, &w, "a: 1\n  bb {\n\tc = [ x, y ]\n}"), ERR_OK);
    struct conf_value *b = conf_get(f.map, BYTES_LITERAL("bb"));
    cr_assert_not_null(b);
    cr_expect_eq(b->place.line, 2);
    cr_expect_eq(b->place.column, 3);
    struct conf_value *c = conf_get(b, BYTES_LITERAL("c"));
    cr_expect_eq(c->place.line, 3);
    cr_expect_eq(c->place.column, 2);
    cr_expect_eq(c->array.last->value->place.column, 11);
    cr_expect(bytes_equal(c->place.file, BYTES_LITERAL("dir/f.conf")));
    teardown(&f);
}

Test(conf, variables_come_from_enclosing_maps_then_the_environment)
{
    struct world w = {.variables = {{"NUMBER", "1kb"}, {"LIST", "[1 , $NUMBER]"}, {"EMPTY", ""}}};
    expect_in(w, "a: $NUMBER", "{\"a\":1024}");
    expect_in(w, "a: $LIST", "{\"a\":[1,1024]}");
    expect_in(w, "a: $EMPTY", "{\"a\":\"\"}");
    expect_in(w, "NUMBER: 1\na: $NUMBER", "{\"NUMBER\":1,\"a\":1}");
    expect_in(w, "NUMBER: 1\nm {NUMBER: 2\n n {a: $NUMBER}}",
              "{\"NUMBER\":1,\"m\":{\"NUMBER\":2,\"n\":{\"a\":2}}}");
    expect_in(w, "a: $NOPE",
              "dir/f.conf:1:4: variable reference for 'NOPE' on line 1 "
              "can not be found");
}

Test(conf, a_key_used_as_variable_is_marked)
{
    struct fixture f;
    struct world w = {0};
    setup(&f);
    cr_assert_eq(parse(&f, &w, "p: {x: 1}\nq: 2\nr: $p"), ERR_OK);
    cr_expect(conf_get(f.map, BYTES_LITERAL("p"))->is_used);
    cr_expect(!conf_get(f.map, BYTES_LITERAL("q"))->is_used);
    cr_expect(!conf_get(f.map, BYTES_LITERAL("r"))->is_used);
    cr_expect_eq(conf_get(f.map, BYTES_LITERAL("r"))->place.line, 3);
    teardown(&f);
}

Test(conf, broken_text_in_the_environment_is_reported_with_its_variable)
{
    struct world w = {.variables = {{"BAD", "["}, {"ONE", "$TWO"}, {"TWO", "$ONE"}}};
    expect_in(w, "a: $BAD",
              "dir/f.conf:1:4: variable reference for 'BAD' on line 1 could not be parsed: "
              "Parse error on line 1: 'The array that opens on line 1 is never closed'");
    struct fixture f;
    setup(&f);
    cr_expect_eq(parse(&f, &w, "a: $ONE"), ERR_SYNTAX);
    cr_expect_not_null(strstr(f.error.text, "cycle"));
    teardown(&f);
}

Test(conf, included_files_merge_into_the_map_around)
{
    struct world w = {.files = {{"dir/x.conf", "a: 1\nm {b: 2}"},
                                {"dir/s/y.conf", "include z"},
                                {"dir/s/z", "c: 3"}}};
    expect_in(w, "include x.conf", "{\"a\":1,\"m\":{\"b\":2}}");
    expect_in(w, "include 'x.conf'\na: 2", "{\"a\":2,\"m\":{\"b\":2}}");
    expect_in(w, "n { include \"s/y.conf\" }", "{\"n\":{\"c\":3}}");
    expect_in(w, "include /x.conf", "{\"a\":1,\"m\":{\"b\":2}}");
    expect_in(w, "q: 1\ninclude nope\n",
              "dir/f.conf:2:9: open dir/nope: no such file or directory");
}

Test(conf, an_error_in_an_included_file_names_that_file)
{
    struct world w = {.files = {{"dir/x.conf", "a: 1\nb [\n"}}};
    expect_in(
        w, "include x.conf",
        "dir/x.conf:3:1: Parse error on line 3: 'The array that opens on line 2 is never closed'");
}

Test(conf, a_file_that_includes_itself_is_refused)
{
    struct world w = {.files = {{"dir/x.conf", "include x.conf\n"}}};
    struct fixture f;
    setup(&f);
    cr_expect_eq(parse(&f, &w, "include x.conf"), ERR_SYNTAX);
    cr_expect_not_null(strstr(f.error.text, "through too many files"));
    teardown(&f);
}

Test(conf, files_that_include_each_other_twice_end_soon)
{
    struct world w = {.files = {{"dir/x.conf", "include x.conf\ninclude x.conf\n"},
                                {"dir/y.conf", "# nothing\n"}}};
    struct fixture f;
    setup(&f);
    cr_expect_eq(parse(&f, &w, "include x.conf"), ERR_SYNTAX);
    struct text many;
    text_init(&many, &f.heap.mem, MEM_CONFIG, 1 << 20);
    for (int i = 0; i <= CONF_INCLUDES_MAX; i++) text_string(&many, "include y.conf\n");
    text_char(&many, 0);
    cr_expect_eq(parse(&f, &w, many.data), ERR_SYNTAX);
    cr_expect_not_null(strstr(f.error.text, "through too many files"));
    text_deinit(&many);
    teardown(&f);
}

Test(conf, nesting_is_bounded)
{
    struct fixture f;
    struct world w = {0};
    char deep[4 * CONF_DEPTH_MAX];
    setup(&f);
    memset(deep, '[', CONF_DEPTH_MAX);
    memset(deep + CONF_DEPTH_MAX, ']', CONF_DEPTH_MAX);
    struct bytes text = bytes_of(deep, (size_t)2 * CONF_DEPTH_MAX);
    cr_expect_eq(
        conf_parse_value(&f.arena, world_init(&w), BYTES_LITERAL("t"), text, &f.map, &f.error),
        ERR_OK);
    memset(deep, '[', CONF_DEPTH_MAX + 1);
    cr_expect_eq(
        conf_parse_value(&f.arena, world_init(&w), BYTES_LITERAL("t"), text, &f.map, &f.error),
        ERR_SYNTAX);
    teardown(&f);
}

Test(conf, variables_cannot_multiply_without_bound)
{
    struct fixture f;
    struct world w = {0};
    struct text content;
    setup(&f);
    text_init(&content, &f.heap.mem, MEM_CONFIG, 1 << 20);
    text_string(&content, "a0: [x,x,x,x,x,x,x,x,x,x]\n");
    for (char i = '1'; i <= '9'; i++) {
        text_char(&content, 'a');
        text_char(&content, i);
        text_string(&content, ": [");
        for (int j = 0; j < 10; j++) {
            text_string(&content, "$a");
            text_char(&content, (char)(i - 1));
            text_char(&content, ',');
        }
        text_string(&content, "]\n");
    }
    cr_expect_eq(conf_parse_text(&f.arena, world_init(&w), BYTES_LITERAL("t"),
                                 text_written(&content), &f.map, &f.error),
                 ERR_SYNTAX);
    cr_expect_not_null(strstr(f.error.text, "more values"));
    text_deinit(&content);
    teardown(&f);
}

Test(conf, a_zero_byte_is_refused)
{
    struct fixture f;
    struct world w = {0};
    setup(&f);
    cr_expect_eq(conf_parse_text(&f.arena, world_init(&w), BYTES_LITERAL("t"),
                                 BYTES_LITERAL("a: 1\nb\0: 2"), &f.map, &f.error),
                 ERR_SYNTAX);
    cr_expect_eq(f.error.place.line, 2);
    cr_expect_eq(f.error.place.column, 2);
    teardown(&f);
}

Test(conf, large_maps_keep_their_order_and_the_last_duplicate)
{
    struct fixture f;
    struct world w = {0};
    struct text content;
    setup(&f);
    text_init(&content, &f.heap.mem, MEM_CONFIG, 1 << 20);
    for (uint64_t round = 0; round < 2; round++)
        for (uint64_t i = 0; i < 500; i++) {
            text_char(&content, 'k');
            text_u64(&content, i);
            text_string(&content, ": ");
            text_u64(&content, i * 10 + round);
            text_char(&content, '\n');
        }
    cr_assert_eq(conf_parse_text(&f.arena, world_init(&w), BYTES_LITERAL("t"),
                                 text_written(&content), &f.map, &f.error),
                 ERR_OK);
    cr_expect_eq(f.map->map.count, 500);
    int64_t i = 0;
    for (struct conf_entry *e = f.map->map.first; e != NULL; e = e->next, i++) {
        cr_expect_eq(e->value->integer, i * 10 + 1);
        cr_expect_eq(conf_get(f.map, e->key), e->value);
    }
    text_deinit(&content);
    teardown(&f);
}

Test(conf, a_file_that_cannot_be_read_says_so)
{
    struct fixture f;
    struct world w = {0};
    setup(&f);
    cr_expect_eq(
        conf_parse_file(&f.arena, world_init(&w), BYTES_LITERAL("nope.conf"), &f.map, &f.error),
        ERR_IO);
    conf_error_print(&f.error, &f.out);
    cr_expect(bytes_equal(text_written(&f.out),
                          BYTES_LITERAL("open nope.conf: no such file or directory")));
    teardown(&f);
}

Test(conf, running_out_of_memory_leaks_nothing)
{
    static const char content[] = "a: {b: [1, 2k, \"x\\ty\"], c: $V}\ninclude x.conf\nd: $a\n";
    struct world w = {.files = {{"dir/x.conf", "e: [1.5, on]"}}, .variables = {{"V", "{q: 1}"}}};
    for (uint64_t n = 1;; n++) {
        struct fixture f;
        setup(&f);
        f.heap.fail_at = n;
        enum err e = parse(&f, &w, content);
        bool was_reached = f.heap.alloc_count >= n;
        cr_expect_eq(e, was_reached ? ERR_MEMORY : ERR_OK);
        teardown(&f);
        if (!was_reached) break;
    }
}
