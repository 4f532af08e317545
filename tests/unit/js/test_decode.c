#include <criterion/criterion.h>
#include "core/js/decode.h"
#include "tests/support/mem_heap.h"

struct inner {
    struct bytes name;
    int64_t wait_ns, count;
    uint64_t rate;
    struct decode_list filters, backoff, metadata;
    struct time_stamp until;
    uint8_t policy;
};

struct outer {
    struct bytes stream;
    struct inner config;
    bool is_pedantic;
};

static const char *const policy_words[] = {"none", "all", "undefined"};
static const struct decode_words policies = {policy_words, 3, true, "can not unmarshal "};
static const struct decode_field inner_fields[] = {
    {"name", DECODE_TEXT, offsetof(struct inner, name), {NULL}},
    {"ack_wait", DECODE_DURATION, offsetof(struct inner, wait_ns), {NULL}},
    {"max", DECODE_INT, offsetof(struct inner, count), {NULL}},
    {"rate", DECODE_U64, offsetof(struct inner, rate), {NULL}},
    {"filters", DECODE_TEXTS, offsetof(struct inner, filters), {NULL}},
    {"backoff", DECODE_DURATIONS, offsetof(struct inner, backoff), {NULL}},
    {"metadata", DECODE_MAP, offsetof(struct inner, metadata), {NULL}},
    {"until", DECODE_TIME, offsetof(struct inner, until), {NULL}},
    {"policy", DECODE_ENUM, offsetof(struct inner, policy), {.words = &policies}},
};
static const struct decode_shape inner_shape = {"server.Config", "Config.config.", inner_fields, 9,
                                                false};
static const struct decode_field outer_fields[] = {
    {"stream_name", DECODE_TEXT, offsetof(struct outer, stream), {NULL}},
    {"config", DECODE_OBJECT, offsetof(struct outer, config), {.shape = &inner_shape}},
    {"pedantic", DECODE_BOOL, offsetof(struct outer, is_pedantic), {NULL}},
};
static const struct decode_shape outer_shape = {"server.Request", "Request.", outer_fields, 3,
                                                false};

static struct mem_heap heap;

static void setup(void)
{
    json_init(1);
    mem_heap_init(&heap);
}

static void expect_fault(const char *text, const char *fault_text)
{
    struct outer out = {.is_pedantic = false};
    struct decode_fault fault;
    struct json_doc *doc;
    cr_assert_neq(decode_text(&heap.mem, bytes_from_text(text), &outer_shape, &out, &doc, &fault),
                  ERR_OK, "%s", text);
    cr_assert_null(doc);
    cr_assert(bytes_equal(decode_fault_text(&fault), bytes_from_text(fault_text)), "%s: %.*s", text,
              (int)fault.len, fault.text);
    cr_assert_eq(heap.live_count, 0);
}

TestSuite(decode, .init = setup);

Test(decode, fields_of_every_kind_are_written)
{
    struct outer out = {.config = {.count = 7}};
    struct decode_fault fault;
    struct json_doc *doc;
    const char *text = "{\"STREAM_name\":\"S\",\"config\":{\"name\":null,\"ack_wait\":-5,"
                       "\"rate\":9,\"filters\":[\"a\",null],\"backoff\":[1,2],"
                       "\"metadata\":{\"k\":\"v\",\"n\":null},\"until\":\"1970-01-01T00:00:01Z\","
                       "\"policy\":\"all\"},\"pedantic\":true}";
    cr_assert_eq(decode_text(&heap.mem, bytes_from_text(text), &outer_shape, &out, &doc, &fault),
                 ERR_OK);
    cr_assert(bytes_equal(out.stream, BYTES_LITERAL("S")));
    cr_assert(out.is_pedantic);
    cr_assert_eq(out.config.name.len, 0);
    cr_assert_eq(out.config.wait_ns, -5);
    cr_assert_eq(out.config.count, 7);
    cr_assert_eq(out.config.rate, 9);
    cr_assert_eq(out.config.policy, 1);
    cr_assert_eq(out.config.until.wall_ns, 1000000000);
    cr_assert_eq(decode_count(out.config.filters), 2);
    cr_assert(bytes_equal(decode_text_at(out.config.filters, 0), BYTES_LITERAL("a")));
    cr_assert_eq(decode_text_at(out.config.filters, 1).len, 0);
    cr_assert_eq(decode_i64_at(out.config.backoff, 1), 2);
    const void *at = NULL;
    struct bytes key, value;
    cr_assert(decode_each(out.config.metadata, &at, &key, &value));
    cr_assert(bytes_equal(key, BYTES_LITERAL("k")) && bytes_equal(value, BYTES_LITERAL("v")));
    cr_assert(decode_each(out.config.metadata, &at, &key, &value));
    cr_assert(bytes_equal(key, BYTES_LITERAL("n")) && value.len == 0);
    cr_assert(!decode_each(out.config.metadata, &at, &key, &value));
    json_close(doc);
    cr_assert_eq(heap.live_count, 0);
}

Test(decode, nothing_and_null_are_an_empty_object)
{
    struct outer out = {.is_pedantic = true};
    struct decode_fault fault;
    struct json_doc *doc;
    cr_assert_eq(decode_text(&heap.mem, BYTES_LITERAL(" "), &outer_shape, &out, &doc, &fault),
                 ERR_OK);
    cr_assert_null(doc);
    cr_assert_eq(decode_text(&heap.mem, BYTES_LITERAL("null"), &outer_shape, &out, &doc, &fault),
                 ERR_OK);
    cr_assert(out.is_pedantic);
    json_close(doc);
}

Test(decode, faults_are_told_as_go_does)
{
    expect_fault("5", "json: cannot unmarshal number into Go value of type server.Request");
    expect_fault("[]", "json: cannot unmarshal array into Go value of type server.Request");
    expect_fault("{\"x\":1}", "json: unknown field \"x\"");
    expect_fault("{\"stream_name\":5}",
                 "json: cannot unmarshal number into Go struct field Request.stream_name of "
                 "type string");
    expect_fault("{\"config\":[]}", "json: cannot unmarshal array into Go struct field "
                                    "Request.config of type server.Config");
    expect_fault("{\"config\":{\"ack_wait\":1.5}}",
                 "json: cannot unmarshal number 1.5 into Go struct field "
                 "Config.config.ack_wait of type time.Duration");
    expect_fault("{\"config\":{\"max\":0.000125}}",
                 "json: cannot unmarshal number 0.000125 into Go struct field "
                 "Config.config.max of type int");
    expect_fault("{\"config\":{\"rate\":-1}}",
                 "json: cannot unmarshal number -1 into Go struct field Config.config.rate of "
                 "type uint64");
    expect_fault("{\"config\":{\"filters\":\"a\"}}",
                 "json: cannot unmarshal string into Go struct field Config.config.filters of "
                 "type []string");
    expect_fault("{\"config\":{\"filters\":[1]}}",
                 "json: cannot unmarshal number into Go struct field Config.config.filters of "
                 "type string");
    expect_fault("{\"config\":{\"backoff\":[1,\"x\"]}}",
                 "json: cannot unmarshal string into Go struct field Config.config.backoff of "
                 "type time.Duration");
    expect_fault("{\"config\":{\"metadata\":{\"a\":1}}}",
                 "json: cannot unmarshal number into Go struct field Config.config.metadata of "
                 "type string");
    expect_fault("{\"config\":{\"policy\":\"x\"}}", "can not unmarshal \"\\\"x\\\"\"");
    expect_fault("{\"config\":{\"policy\":null}}", "can not unmarshal \"null\"");
    expect_fault("{\"config\":{\"until\":5}}", "Time.UnmarshalJSON: input is not a JSON string");
    expect_fault("{\"stream_name\":\"S\"", "unexpected EOF");
}

Test(decode, the_first_fault_is_told_but_an_unknown_word_comes_before_it)
{
    expect_fault("{\"stream_name\":5,\"x\":1}",
                 "json: cannot unmarshal number into Go struct field Request.stream_name of "
                 "type string");
    expect_fault("{\"x\":1,\"stream_name\":5}", "json: unknown field \"x\"");
    expect_fault("{\"x\":1,\"config\":{\"policy\":7}}", "can not unmarshal \"7\"");
}
