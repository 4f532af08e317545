#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/js/request.h"
#include "tests/support/mem_heap.h"

/* The texts that are expected here are those of nats-server 2.15.2 for STREAM.CREATE and
 * STREAM.MSG.GET, whose types these mimic. */

enum keep { KEEP_LIMITS, KEEP_INTEREST };
enum pack { PACK_NONE, PACK_S2 };

struct republish {
    struct bytes src;
    bool headers_only;
};

struct limits {
    int64_t inactive_threshold;
    int64_t max_ack_pending;
};

struct config {
    struct bytes name;
    struct request_texts subjects;
    enum keep retention;
    enum pack compression;
    int64_t max_msgs;
    int32_t max_msg_size;
    int64_t max_age;
    bool no_ack;
    uint64_t first_seq;
    struct time_stamp start_time;
    struct republish *republish;
    struct request_objects sources, transforms;
    struct limits limits;
    struct request_map metadata;
    struct request_durations backoff;
    bool pedantic;
};

static const struct request_enum keep_values = {
    {{"limits", KEEP_LIMITS}, {"interest", KEEP_INTEREST}}, NULL, false};
static const struct request_enum pack_values = {
    {{"none", PACK_NONE}, {"s2", PACK_S2}}, "unknown compression algorithm", true};

static const struct request_field republish_fields[] = {
    REQUEST_FIELD(struct republish, src, "src", REQUEST_TEXT),
    REQUEST_FIELD(struct republish, headers_only, "headers_only", REQUEST_BOOL),
};
static const struct request_type republish_type = {"RePublish", republish_fields, 2,
                                                   sizeof(struct republish)};
static const struct request_type source_type = {"StreamSource", republish_fields, 2,
                                                sizeof(struct republish)};
static const struct request_field limits_fields[] = {
    REQUEST_FIELD(struct limits, inactive_threshold, "inactive_threshold", REQUEST_DURATION),
    REQUEST_FIELD(struct limits, max_ack_pending, "max_ack_pending", REQUEST_INT),
};
static const struct request_type limits_type = {"StreamConsumerLimits", limits_fields, 2,
                                                sizeof(struct limits)};
#define FIELD(text, member, kind, ...)                                                             \
    {                                                                                              \
        text, offsetof(struct config, member), kind, .embedded = "StreamConfig", __VA_ARGS__       \
    }
static const struct request_field config_fields[] = {
    FIELD("name", name, REQUEST_TEXT),
    FIELD("subjects", subjects, REQUEST_TEXTS),
    FIELD("retention", retention, REQUEST_ENUM, .values = &keep_values),
    FIELD("compression", compression, REQUEST_ENUM, .values = &pack_values),
    FIELD("max_msgs", max_msgs, REQUEST_INT64),
    FIELD("max_msg_size", max_msg_size, REQUEST_INT32),
    FIELD("max_age", max_age, REQUEST_DURATION),
    FIELD("no_ack", no_ack, REQUEST_BOOL),
    FIELD("first_seq", first_seq, REQUEST_UINT64),
    FIELD("start_time", start_time, REQUEST_TIME),
    FIELD("republish", republish, REQUEST_POINTER, .type = &republish_type),
    FIELD("sources", sources, REQUEST_POINTERS, .type = &source_type),
    FIELD("transforms", transforms, REQUEST_OBJECTS, .type = &source_type),
    FIELD("consumer_limits", limits, REQUEST_OBJECT, .type = &limits_type),
    FIELD("metadata", metadata, REQUEST_MAP),
    FIELD("backoff", backoff, REQUEST_DURATIONS),
    REQUEST_FIELD(struct config, pedantic, "pedantic", REQUEST_BOOL),
};
static const struct request_type config_type = {"StreamConfigRequest", config_fields,
                                                sizeof config_fields / sizeof config_fields[0],
                                                sizeof(struct config)};

struct rig {
    struct mem_heap heap;
    struct arena arena;
    struct config config;
    char text[JSAPI_ERROR_TEXT_BYTES];
    struct writer why;
};

static void rig_init(struct rig *r)
{
    memset(r, 0, sizeof *r);
    mem_heap_init(&r->heap);
    arena_init(&r->arena, &r->heap.mem, MEM_JETSTREAM);
}

static enum err rig_decode(struct rig *r, enum request_mode mode, const char *text)
{
    memset(&r->config, 0, sizeof r->config);
    writer_init(&r->why, r->text, sizeof r->text - 1);
    /* Exactly as long as the text: a read beyond its end is one that asan sees. */
    size_t len = strlen(text);
    char *copy = arena_alloc(&r->arena, len);
    memcpy(copy, text, len);
    enum err e =
        request_decode(&r->arena, bytes_of(copy, len), &config_type, mode, &r->config, &r->why);
    r->text[r->why.len] = 0;
    return e;
}

static void rig_deinit(struct rig *r)
{
    arena_deinit(&r->arena);
    cr_assert_eq(r->heap.live_count, 0);
}

Test(request, refuses_with_go_s_texts)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"x", "invalid character 'x' looking for beginning of value at offset 1"},
        {"{", "unexpected EOF"},
        {"[]", "json: cannot unmarshal array into Go value of type server.StreamConfigRequest"},
        {"1", "json: cannot unmarshal number into Go value of type server.StreamConfigRequest"},
        {"\"a\"", "json: cannot unmarshal string into Go value of type server.StreamConfigRequest"},
        {"{\"name\":1}", "json: cannot unmarshal number into Go struct field "
                         "StreamConfigRequest.StreamConfig.name of type string"},
        {"{\"foo\":1}", "json: unknown field \"foo\""},
        {"{\"max_msgs\":\"1\"}", "json: cannot unmarshal string into Go struct field "
                                 "StreamConfigRequest.StreamConfig.max_msgs of type int64"},
        {"{\"max_msgs\":1.0}", "json: cannot unmarshal number 1.0 into Go struct field "
                               "StreamConfigRequest.StreamConfig.max_msgs of type int64"},
        {"{\"max_msgs\":9223372036854775808}",
         "json: cannot unmarshal number 9223372036854775808 into Go struct field "
         "StreamConfigRequest.StreamConfig.max_msgs of type int64"},
        {"{\"max_msg_size\":2147483648}",
         "json: cannot unmarshal number 2147483648 into Go struct field "
         "StreamConfigRequest.StreamConfig.max_msg_size of type int32"},
        {"{\"max_age\":\"1s\"}", "json: cannot unmarshal string into Go struct field "
                                 "StreamConfigRequest.StreamConfig.max_age of type time.Duration"},
        {"{\"first_seq\":-1}", "json: cannot unmarshal number -1 into Go struct field "
                               "StreamConfigRequest.StreamConfig.first_seq of type uint64"},
        {"{\"first_seq\":-0}", "json: cannot unmarshal number -0 into Go struct field "
                               "StreamConfigRequest.StreamConfig.first_seq of type uint64"},
        {"{\"first_seq\":18446744073709551616}",
         "json: cannot unmarshal number 18446744073709551616 into Go struct field "
         "StreamConfigRequest.StreamConfig.first_seq of type uint64"},
        {"{\"retention\":\"x\"}", "can not unmarshal \"\\\"x\\\"\""},
        {"{\"retention\":null}", "can not unmarshal \"null\""},
        {"{\"retention\":{\"a\":\"b\"}}", "can not unmarshal \"{\\\"a\\\":\\\"b\\\"}\""},
        {"{\"foo\":1,\"retention\":\"x\"}", "can not unmarshal \"\\\"x\\\"\""},
        {"{\"compression\":\"zstd\"}", "unknown compression algorithm"},
        {"{\"compression\":null}", "unknown compression algorithm"},
        {"{\"compression\":{}}", "json: cannot unmarshal object into Go struct field "
                                 "StreamConfigRequest.StreamConfig.compression of type string"},
        {"{\"subjects\":\"a\"}", "json: cannot unmarshal string into Go struct field "
                                 "StreamConfigRequest.StreamConfig.subjects of type []string"},
        {"{\"subjects\":[\"a\",2]}", "json: cannot unmarshal number into Go struct field "
                                     "StreamConfigRequest.StreamConfig.subjects of type string"},
        {"{\"metadata\":{\"a\":1}}", "json: cannot unmarshal number into Go struct field "
                                     "StreamConfigRequest.StreamConfig.metadata of type string"},
        {"{\"metadata\":[]}",
         "json: cannot unmarshal array into Go struct field "
         "StreamConfigRequest.StreamConfig.metadata of type map[string]string"},
        {"{\"republish\":[]}", "json: cannot unmarshal array into Go struct field "
                               "StreamConfigRequest.StreamConfig.republish of type "
                               "server.RePublish"},
        {"{\"republish\":{\"x\":1}}", "json: unknown field \"x\""},
        {"{\"sources\":{}}", "json: cannot unmarshal object into Go struct field "
                             "StreamConfigRequest.StreamConfig.sources of type "
                             "[]*server.StreamSource"},
        {"{\"sources\":[1]}", "json: cannot unmarshal number into Go struct field "
                              "StreamConfigRequest.StreamConfig.sources of type "
                              "server.StreamSource"},
        {"{\"sources\":[{\"src\":1}]}", "json: cannot unmarshal number into Go struct field "
                                        "StreamSource.StreamConfig.sources.src of type string"},
        {"{\"consumer_limits\":{\"max_ack_pending\":\"a\"}}",
         "json: cannot unmarshal string into Go struct field "
         "StreamConsumerLimits.StreamConfig.consumer_limits.max_ack_pending of type int"},
        {"{\"pedantic\":1}", "json: cannot unmarshal number into Go struct field "
                             "StreamConfigRequest.pedantic of type bool"},
        {"{\"no_ack\":\"true\"}", "json: cannot unmarshal string into Go struct field "
                                  "StreamConfigRequest.StreamConfig.no_ack of type bool"},
        {"{\"start_time\":1}", "Time.UnmarshalJSON: input is not a JSON string"},
        {"{\"start_time\":\"2026-01-01\"}",
         "parsing time \"2026-01-01\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as "
         "\"T\""},
        {"{\"name\":\"S\"} x", "invalid character 'x' looking for beginning of value at offset 14"},
        {"{\"name\":\"S\"}{\"foo\":1}", "json: unknown field \"foo\""},
        {"{\"name\":\"S\",}",
         "invalid character '}' looking for beginning of object key string at offset 13"},
        {"{\"name\":\"S\" \"a\"}",
         "invalid character '\"' after object key:value pair at offset 13"},
        {"{\"name\" 1}", "invalid character '1' after object key at offset 9"},
        {"{\"a\":[1 2]}", "invalid character '2' after array element at offset 9"},
        {"{'a':1}",
         "invalid character '\\'' looking for beginning of object key string at offset 2"},
        {"{\"name\":\"S\\x\"}", "invalid character 'x' in string escape code at offset 12"},
        {"{\"name\":\"\\u00g0\"}",
         "invalid character 'g' in \\u hexadecimal character escape at offset 14"},
        {"{\"name\":\"a\nb\"}", "invalid character '\\n' in string literal at offset 11"},
        {"{\"max_msgs\":01}", "invalid character '1' after object key:value pair at offset 14"},
        {"{\"max_msgs\":-}", "invalid character '}' in numeric literal at offset 14"},
        {"{\"max_msgs\":1.}",
         "invalid character '}' after decimal point in numeric literal at offset 15"},
        {"{\"max_msgs\":1e}", "invalid character '}' in exponent of numeric literal at offset 15"},
        {"{\"max_msgs\":tru}",
         "invalid character '}' in literal true (expecting 'e') at offset 16"},
        {"nul", "unexpected EOF"},
        {"\xc3", "invalid character '\xc3\x83' looking for beginning of value at offset 1"},
        {"{\"\\ud800\":1}", "json: unknown field \"\xef\xbf\xbd\""},
    };
    struct rig r;
    rig_init(&r);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cr_assert_eq(rig_decode(&r, REQUEST_STRICT, rows[i].text), ERR_SYNTAX, "%s", rows[i].text);
        cr_assert_str_eq(r.text, rows[i].why, "%s: %s", rows[i].text, r.text);
    }
    rig_deinit(&r);
}

Test(request, fills_in_every_kind)
{
    struct rig r;
    rig_init(&r);
    cr_assert_eq(
        rig_decode(&r, REQUEST_STRICT,
                   "{\"name\":\"S\\u00e9\\ud83d\\ude00\\n\", \"NAME\":\"S\\/\\\"\","
                   "\"subjects\":[\"a\",null,\"b\"],\"retention\":\"interest\",\"compression\":"
                   "\"s2\",\"Max_Msgs\":-9223372036854775808,\"max_msg_size\":-2147483648,"
                   "\"max_age\":100,\"no_ack\":true,\"first_seq\":18446744073709551615,"
                   "\"start_time\":\"2026-11-21T12:25:37.5+01:00\",\"republish\":{\"src\":\"x\"},"
                   "\"republish\":{\"headers_only\":true},\"sources\":[{\"src\":\"q\"},null],"
                   "\"transforms\":[{\"src\":\"t\"}],\"consumer_limits\":{\"max_ack_pending\":7},"
                   "\"metadata\":{\"b\":\"1\",\"a\":null,\"b\":\"2\"},\"backoff\":[1,2],"
                   "\"pedantic\":true} "),
        ERR_OK, "%s", r.text);
    const struct config *c = &r.config;
    cr_assert(bytes_equal(c->name, BYTES_LITERAL("S/\"")));
    cr_assert_eq(c->subjects.count, 3);
    cr_assert_eq(c->subjects.items[1].len, 0);
    cr_assert(bytes_equal(c->subjects.items[2], BYTES_LITERAL("b")));
    cr_assert_eq(c->retention, KEEP_INTEREST);
    cr_assert_eq(c->compression, PACK_S2);
    cr_assert_eq(c->max_msgs, INT64_MIN);
    cr_assert_eq(c->max_msg_size, INT32_MIN);
    cr_assert_eq(c->max_age, 100);
    cr_assert(c->no_ack);
    cr_assert_eq(c->first_seq, UINT64_MAX);
    cr_assert(c->start_time.is_set);
    cr_assert_eq(c->start_time.wall_ns, INT64_C(1795260337500000000));
    cr_assert(bytes_equal(c->republish->src, BYTES_LITERAL("x"))); /* merged, as in Go */
    cr_assert(c->republish->headers_only);
    cr_assert_eq(c->sources.count, 2);
    struct republish **sources = c->sources.items;
    cr_assert(bytes_equal(sources[0]->src, BYTES_LITERAL("q")));
    cr_assert_null(sources[1]);
    cr_assert_eq(c->transforms.count, 1);
    cr_assert_eq(c->limits.max_ack_pending, 7);
    cr_assert_eq(c->metadata.count, 2);
    cr_assert(bytes_equal(c->metadata.items[0].key, BYTES_LITERAL("a")));
    cr_assert(bytes_equal(c->metadata.items[1].value, BYTES_LITERAL("2")));
    cr_assert_eq(c->backoff.count, 2);
    cr_assert_eq(c->backoff.items[1], 2);
    cr_assert(c->pedantic);
    cr_assert_eq(rig_decode(&r, REQUEST_STRICT, "{\"name\":\"S\\u00e9\\ud83d\\ude00\\n\"}"),
                 ERR_OK);
    cr_assert(bytes_equal(c->name, BYTES_LITERAL("S\xc3\xa9\xf0\x9f\x98\x80\n")));
    cr_assert_eq(rig_decode(&r, REQUEST_STRICT, "{\"name\":\"S\x80\"}"), ERR_OK);
    cr_assert(bytes_equal(c->name, BYTES_LITERAL("S\xef\xbf\xbd")));
    rig_deinit(&r);
}

Test(request, null_and_nothing_change_nothing)
{
    struct rig r;
    rig_init(&r);
    cr_assert_eq(rig_decode(&r, REQUEST_STRICT, ""), ERR_OK);
    cr_assert_eq(rig_decode(&r, REQUEST_STRICT, " \n"), ERR_OK);
    cr_assert_eq(rig_decode(&r, REQUEST_STRICT, "null"), ERR_OK);
    cr_assert_eq(rig_decode(&r, REQUEST_STRICT,
                            "{\"max_msgs\":5,\"max_msgs\":null,\"republish\":{},\"republish\":null,"
                            "\"subjects\":[\"a\"],\"subjects\":null,\"consumer_limits\":null}"),
                 ERR_OK);
    cr_assert_eq(r.config.max_msgs, 5);
    cr_assert_null(r.config.republish);
    cr_assert_eq(r.config.subjects.count, 0);
    rig_deinit(&r);
}

Test(request, lenient_mode_skips_what_it_does_not_know)
{
    struct rig r;
    rig_init(&r);
    cr_assert_eq(
        rig_decode(&r, REQUEST_LENIENT, "{\"foo\":{\"a\":[1,\"}\",-2.5e3]},\"max_msgs\":1}"),
        ERR_OK);
    cr_assert_eq(r.config.max_msgs, 1);
    cr_assert_eq(rig_decode(&r, REQUEST_LENIENT, "{} x"), ERR_SYNTAX);
    cr_assert_str_eq(r.text, "invalid character 'x' after top-level value");
    cr_assert_eq(rig_decode(&r, REQUEST_LENIENT, "{"), ERR_SYNTAX);
    cr_assert_str_eq(r.text, "unexpected end of JSON input");
    rig_deinit(&r);
}

Test(request, depth_is_bounded)
{
    struct rig r;
    rig_init(&r);
    static char text[10002];
    memset(text, '[', sizeof text - 1);
    cr_assert_eq(rig_decode(&r, REQUEST_STRICT, text), ERR_SYNTAX);
    cr_assert_str_eq(r.text, "invalid character '[' exceeded max depth at offset 10001");
    rig_deinit(&r);
}

static char *put_text(char *to, const char *text)
{
    size_t len = strlen(text);
    memcpy(to, text, len + 1);
    return to + len;
}

/* A map that is written in many pieces takes no more than its pairs do. */
Test(request, a_map_takes_memory_and_time_by_its_pairs)
{
    enum { PIECES = 20000 };
    struct rig r;
    char *text = malloc(PIECES * 32 + 64), *to = put_text(text, "{"), piece[48];
    rig_init(&r);
    for (int i = PIECES; i > 0; i--) {
        (void)snprintf(piece, sizeof piece, "\"metadata\":{\"k%05d\":\"%d\"},", i % 15000, i);
        to = put_text(to, piece);
    }
    put_text(to, "\"metadata\":{\"k00001\":\"last\"}}");
    cr_assert_eq(rig_decode(&r, REQUEST_STRICT, text), ERR_OK, "%s", r.text);
    cr_assert_eq(r.config.metadata.count, 15000);
    for (uint32_t i = 1; i < r.config.metadata.count; i++)
        cr_assert_lt(
            bytes_compare(r.config.metadata.items[i - 1].key, r.config.metadata.items[i].key), 0);
    cr_assert(bytes_equal(r.config.metadata.items[1].value, BYTES_LITERAL("last")));
    cr_assert(bytes_equal(r.config.metadata.items[2].value, BYTES_LITERAL("2")));
    cr_assert_lt(r.arena.used_bytes, 8u << 20);
    free(text);
    rig_deinit(&r);
}

Test(request, a_map_has_a_bound)
{
    struct rig r;
    char *text = malloc((REQUEST_PAIRS_MAX + 1) * 16 + 64), *to, piece[24];
    rig_init(&r);
    for (int more = 0; more < 2; more++) {
        to = put_text(text, "{\"metadata\":{");
        for (int i = REQUEST_PAIRS_MAX + more; i > 0; i--) {
            (void)snprintf(piece, sizeof piece, "\"%06d\":\"\"%s", i, i > 1 ? "," : "}}");
            to = put_text(to, piece);
        }
        cr_assert_eq(rig_decode(&r, REQUEST_STRICT, text), more == 0 ? ERR_OK : ERR_SYNTAX);
    }
    cr_assert_str_eq(r.text, "json: too many pairs in a map");
    free(text);
    rig_deinit(&r);
}

Test(request, tells_an_empty_request)
{
    cr_assert(request_is_empty(BYTES_LITERAL("")));
    cr_assert(request_is_empty(BYTES_LITERAL(" { } ")));
    cr_assert_not(request_is_empty(BYTES_LITERAL(" ")));
    cr_assert_not(request_is_empty(BYTES_LITERAL("null")));
    cr_assert_not(request_is_empty(BYTES_LITERAL("{")));
    cr_assert_not(request_is_empty(BYTES_LITERAL("{\"a\":1}")));
    cr_assert(request_is_container(BYTES_LITERAL(" [")));
    cr_assert_not(request_is_container(BYTES_LITERAL("5")));
    cr_assert_not(request_is_container(BYTES_LITERAL("  ")));
}

Test(request, every_failed_allocation_is_told)
{
    struct rig r;
    rig_init(&r);
    r.heap.fail_at = 1;
    memset(&r.config, 0, sizeof r.config);
    writer_init(&r.why, r.text, sizeof r.text);
    cr_assert_eq(request_decode(&r.arena, BYTES_LITERAL("{\"subjects\":[\"a\"]}"), &config_type,
                                REQUEST_STRICT, &r.config, &r.why),
                 ERR_MEMORY);
    for (uint64_t n = 1;; n++) {
        rig_deinit(&r);
        rig_init(&r);
        r.heap.fail_at = n;
        writer_init(&r.why, r.text, sizeof r.text);
        enum err e =
            request_decode(&r.arena, BYTES_LITERAL("{\"metadata\":{\"b\":\"1\",\"a\":\"2\"}}"),
                           &config_type, REQUEST_STRICT, &r.config, &r.why);
        if (e == ERR_OK) break;
        cr_assert_eq(e, ERR_MEMORY);
    }
    cr_assert(bytes_equal(r.config.metadata.items[0].key, BYTES_LITERAL("a")));
    rig_deinit(&r);
}
