#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include "core/base/must.h"
#include "core/js/consumer_config.h"
#include "tests/support/mem_heap.h"

static struct mem_heap heap;
static struct arena arena;
static const struct bytes stream_subjects[] = {{"s.>", 3}};
static struct consumer_rules rules;

static void setup(void)
{
    mem_heap_init(&heap);
    arena_init(&arena, &heap.mem, MEM_JETSTREAM);
    rules = (struct consumer_rules){.subjects = stream_subjects, .subject_count = 1, .replicas = 1};
}

static void teardown(void)
{
    arena_deinit(&arena);
    must(heap.live_count == 0);
}

TestSuite(consumer_config, .init = setup, .fini = teardown);

static void write_config(const struct consumer_config *c, bool is_reply, char *out, size_t room)
{
    struct text text;
    struct json_write w;
    text_init(&text, &heap.mem, MEM_JETSTREAM, 1 << 20);
    json_write_init(&w, &text, 0);
    consumer_config_write(c, &w, NULL, is_reply);
    cr_assert(!text.is_failed && text.len < room);
    memcpy(out, text.data, text.len);
    out[text.len] = 0;
    text_deinit(&text);
}

/* As the API does it for CONSUMER.CREATE.S.c; out is what a client would see. */
static void create(const char *json, bool is_pedantic, struct consumer_config *c, char *out,
                   size_t room)
{
    struct jsapi_error error;
    *c = (struct consumer_config){.deliver_policy = 0};
    jsapi_error_clear(&error);
    bool is_fine = request_read(&arena, bytes_from_text(json), &consumer_config_type,
                                REQUEST_STRICT, c, &error);
    c->name = BYTES_LITERAL("c");
    is_fine = is_fine && consumer_config_set_defaults(c, &rules, is_pedantic, &error) &&
              consumer_config_check(&heap.mem, c, &rules, &error);
    if (!is_fine) {
        cr_assert_neq(error.id, JSAPI_NONE);
        snprintf(out, room, "%u %.*s", jsapi_error_err_code(error.id), (int)error.text_len,
                 error.text);
        return;
    }
    consumer_config_settle(c);
    write_config(c, true, out, room);
}

struct row {
    const char *request, *reply;
};

static const struct row reference[] = {
#define ROW(request, reply) {request, reply},
#include "tests/unit/js/consumer_config_reference.def"
#undef ROW
};

/* Errors of the decoder name the type around: there it is the whole request. */
static bool is_decoder_text(const char *text)
{
    return strstr(text, "Go struct field") != NULL;
}

Test(consumer_config, answers_are_those_of_nats_server)
{
    static char out[16384];
    struct consumer_config c;
    for (size_t i = 0; i < sizeof reference / sizeof reference[0]; i++) {
        create(reference[i].request, false, &c, out, sizeof out);
        if (is_decoder_text(reference[i].reply))
            cr_assert(strncmp(out, "10025 invalid JSON: json: cannot", 32) == 0, "%s", out);
        else
            cr_assert_str_eq(out, reference[i].reply, "%s: got %s, want %s", reference[i].request,
                             out, reference[i].reply);
    }
}

Test(consumer_config, a_record_reads_back)
{
    char first[2048], second[2048];
    struct consumer_config c, d = {.deliver_policy = 0};
    struct jsapi_error error;
    create("{\"ack_policy\":\"explicit\",\"backoff\":[1,2],\"metadata\":{\"a\":\"b\"},"
           "\"pause_until\":\"2030-01-01T00:00:00Z\"}",
           false, &c, first, sizeof first);
    write_config(&c, false, first, sizeof first);
    cr_assert_not_null(strstr(first, "\"metadata\":{\"_nats.req.level\":\"1\",\"a\":\"b\"}"));
    cr_assert(request_read(&arena, bytes_from_text(first), &consumer_config_type, REQUEST_STRICT,
                           &d, &error));
    cr_assert(consumer_config_set_defaults(&d, &rules, false, &error));
    write_config(&d, false, second, sizeof second);
    cr_assert_str_eq(first, second);
}

Test(consumer_config, pedantic_refuses_what_would_be_changed)
{
    static const struct row rows[] = {
        {"{\"max_deliver\":-5}", "10157 pedantic mode: max_deliver must be set to -1"},
        {"{\"max_waiting\":-5}", "10157 pedantic mode: max_waiting must not be negative"},
        {"{\"max_ack_pending\":-5}", "10157 pedantic mode: max_ack_pending must be set to -1"},
        {"{\"max_batch\":-1}", "10157 pedantic mode: max_batch must not be negative"},
        {"{\"priority_timeout\":-1}", "10157 pedantic mode: priority_timeout must not be negative"},
        {"{\"backoff\":[5]}",
         "10157 pedantic mode: first backoff value has to equal batch AckWait"},
        {"{\"ack_wait\":-1}", "10183 consumer ack wait needs to be positive"},
    };
    char out[2048];
    struct consumer_config c;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        create(rows[i].request, true, &c, out, sizeof out);
        cr_assert_str_eq(out, rows[i].reply);
    }
}

Test(consumer_config, limits_of_stream_account_and_server_count)
{
    char out[2048];
    struct consumer_config c;
    rules.stream_max_ack_pending = 7;
    rules.stream_inactive_threshold_ns = 9;
    create("{\"ack_policy\":\"explicit\"}", false, &c, out, sizeof out);
    cr_assert_eq(c.max_ack_pending, 7);
    cr_assert_eq(c.inactive_threshold_ns, 9);
    create("{\"ack_policy\":\"explicit\",\"max_ack_pending\":8}", false, &c, out, sizeof out);
    cr_assert_str_eq(out, "10121 consumer max ack pending exceeds system limit of 7");
    rules.stream_max_ack_pending = 0;
    rules.stream_inactive_threshold_ns = 0;
    rules.server_max_ack_pending = 500;
    rules.account_max_ack_pending = 400;
    create("{\"ack_policy\":\"all\"}", false, &c, out, sizeof out);
    cr_assert_eq(c.max_ack_pending, 400);
    rules.server_max_batch = 10;
    create("{\"max_batch\":11}", false, &c, out, sizeof out);
    cr_assert_str_eq(out, "10125 consumer max request batch exceeds server limit of 10");
}

Test(consumer_config, a_deliver_subject_is_no_longer_than_one_can_subscribe_to)
{
    char out[4 * JS_SUBJECT_BYTES_MAX], text[2 * JS_SUBJECT_BYTES_MAX];
    struct consumer_config c;
    for (int more = 0; more < 2; more++) {
        int length = JS_SUBJECT_BYTES_MAX + more;
        snprintf(text, sizeof text, "{\"deliver_subject\":\"%0*d\"}", length, 0);
        create(text, false, &c, out, sizeof out);
        cr_assert_eq(strcmp(out, "10112 invalid push consumer deliver subject") == 0, more == 1);
    }
}

Test(consumer_config, a_filter_is_no_longer_than_a_subject_may_be)
{
    char out[4 * JS_SUBJECT_BYTES_MAX], text[2 * JS_SUBJECT_BYTES_MAX];
    struct consumer_config c;
    for (int i = 0; i < 4; i++) {
        int length = JS_SUBJECT_BYTES_MAX + i % 2;
        if (i < 2)
            snprintf(text, sizeof text, "{\"filter_subject\":\"%0*d\"}", length, 0);
        else
            snprintf(text, sizeof text, "{\"filter_subjects\":[\"a\",\"%0*d\"]}", length, 0);
        create(text, false, &c, out, sizeof out);
        bool is_refused =
            strcmp(out, "10052 filter subject is too long, maximum allowed is 4096") == 0;
        cr_assert_eq(is_refused, i % 2 == 1);
    }
}

Test(consumer_config, what_is_not_there_yet_is_refused_by_name)
{
    static const struct row rows[] = {
        {"{\"sourcing\":true}", "10052 sourcing is not supported yet"},
        {"{\"priority_policy\":\"overflow\",\"priority_groups\":[\"a\"]}",
         "10052 priority_policy is not supported yet"},
        {"{\"ack_policy\":\"flow_control\",\"deliver_subject\":\"d\",\"max_ack_pending\":5}",
         "10052 ack_policy flow_control is not supported yet"},
    };
    char out[2048];
    struct consumer_config c;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        create(rows[i].request, false, &c, out, sizeof out);
        cr_assert_str_eq(out, rows[i].reply);
    }
}

Test(consumer_config, updates_that_are_refused)
{
    static const struct row rows[] = {
        {"{\"ack_policy\":\"explicit\",\"deliver_policy\":\"new\"}",
         "deliver policy can not be updated"},
        {"{\"ack_policy\":\"explicit\",\"mem_storage\":true}", "storage type can not be updated"},
        {"{\"ack_policy\":\"all\"}", "ack policy can not be updated"},
        {"{\"ack_policy\":\"explicit\",\"replay_policy\":\"original\"}",
         "replay policy can not be updated"},
        {"{\"ack_policy\":\"explicit\",\"max_waiting\":7}", "max waiting can not be updated"},
        {"{\"ack_policy\":\"explicit\",\"deliver_subject\":\"d\"}",
         "can not update pull consumer to push based"},
    };
    char out[2048];
    struct consumer_config old, c;
    struct jsapi_error error;
    create("{\"ack_policy\":\"explicit\"}", false, &old, out, sizeof out);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        create(rows[i].request, false, &c, out, sizeof out);
        cr_assert(!consumer_config_check_update(&old, &c, false, &error));
        cr_assert_eq(jsapi_error_err_code(error.id), 10012);
        cr_assert(bytes_equal(jsapi_error_description(&error), bytes_from_text(rows[i].reply)));
    }
    create("{\"ack_policy\":\"explicit\",\"filter_subject\":\"s.a\",\"max_deliver\":2,"
           "\"description\":\"d\"}",
           false, &c, out, sizeof out);
    cr_assert(consumer_config_check_update(&old, &c, false, &error));
    create("{\"deliver_subject\":\"d\"}", false, &old, out, sizeof out);
    create("{\"deliver_subject\":\"e\"}", false, &c, out, sizeof out);
    cr_assert(consumer_config_check_update(&old, &c, false, &error));
    cr_assert(!consumer_config_check_update(&old, &c, true, &error));
    cr_assert_eq(jsapi_error_err_code(error.id), 10013);
}
