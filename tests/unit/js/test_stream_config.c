#include <criterion/criterion.h>
#include <stdio.h>
#include "core/js/stream_config.h"
#include "tests/support/mem_heap.h"

struct rig {
    struct mem_heap heap;
    struct arena arena;
    struct jsapi_error error;
    struct text out;
};

static void rig_init(struct rig *r)
{
    memset(r, 0, sizeof *r);
    mem_heap_init(&r->heap);
    arena_init(&r->arena, &r->heap.mem, MEM_JETSTREAM);
    text_init(&r->out, &r->heap.mem, MEM_JETSTREAM, 1 << 20);
}

static void rig_deinit(struct rig *r)
{
    arena_deinit(&r->arena);
    text_deinit(&r->out);
    cr_assert_eq(r->heap.live_count, 0);
}

static bool read_request(struct rig *r, const char *text, struct stream_config_request *request)
{
    *request = (struct stream_config_request){0};
    return request_read(&r->arena, bytes_from_text(text), &stream_config_request_type,
                        REQUEST_STRICT, request, &r->error);
}

/* The checks of a create that concern the configuration alone, in the order of the API. */
static bool create(struct rig *r, const char *text, struct stream_config_request *request)
{
    static const struct stream_config_bounds bounds = {0};
    if (!read_request(r, text, request)) return false;
    cr_assert_eq(stream_config_set_level(&r->arena, &request->config), ERR_OK);
    return stream_config_check_create(&r->arena, &request->config, BYTES_LITERAL("S"), &bounds,
                                      request->pedantic, &r->error);
}

static bool update(struct rig *r, const struct stream_config *old, const char *text,
                   struct stream_config_request *request)
{
    static const struct stream_config_bounds bounds = {0};
    struct stream_config *c = &request->config;
    if (!read_request(r, text, request)) return false;
    if (!stream_config_check(&r->arena, c, &bounds, request->pedantic, &r->error)) return false;
    cr_assert_eq(stream_config_set_level(&r->arena, c), ERR_OK);
    return stream_config_check_update(old, c, &r->error);
}

static void expect_refusal(struct rig *r, const char *request, uint32_t err_code,
                           const char *description)
{
    cr_assert_eq(jsapi_error_err_code(r->error.id), err_code, "%s: %u", request,
                 jsapi_error_err_code(r->error.id));
    cr_assert(bytes_equal(jsapi_error_description(&r->error), bytes_from_text(description)),
              "%s: %.*s", request, (int)r->error.text_len, r->error.text);
}

static void expect_text(struct rig *r, const char *request, const struct stream_config *c,
                        const char *text)
{
    struct json_write w;
    text_clear(&r->out);
    json_write_init(&w, &r->out, 0);
    stream_config_write(c, &w, NULL, true);
    cr_assert(bytes_equal(text_written(&r->out), bytes_from_text(text)), "%s:\n%.*s\n%s", request,
              (int)r->out.len, r->out.data, text);
}

/* Every row is a fact about nats-server 2.15.2. */
Test(stream_config, creates_and_refuses_as_nats_server_does)
{
    static const struct {
        const char *request;
        uint32_t err_code;
        const char *text;
    } rows[] = {
#define CREATED(request, config) {request, 0, config},
#define REFUSED(request, err_code, description) {request, err_code, description},
#define UPDATED(before, request, config)
#define NOT_UPDATED(before, request, err_code, description)
#include "tests/unit/js/stream_config_reference.def"
#undef CREATED
#undef REFUSED
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rig r;
        rig_init(&r);
        struct stream_config_request request;
        bool is_fine = create(&r, rows[i].request, &request);
        if (rows[i].err_code == 0) {
            cr_assert(is_fine, "%s: %.*s", rows[i].request, (int)r.error.text_len, r.error.text);
            expect_text(&r, rows[i].request, &request.config, rows[i].text);
        } else {
            cr_assert_not(is_fine, "%s", rows[i].request);
            expect_refusal(&r, rows[i].request, rows[i].err_code, rows[i].text);
        }
        rig_deinit(&r);
    }
}

Test(stream_config, updates_and_refuses_as_nats_server_does)
{
    static const struct {
        const char *before, *request;
        uint32_t err_code;
        const char *text;
    } rows[] = {
#define CREATED(request, config)
#define REFUSED(request, err_code, description)
#undef UPDATED
#undef NOT_UPDATED
#define UPDATED(before, request, config) {before, request, 0, config},
#define NOT_UPDATED(before, request, err_code, description)                                        \
    {before, request, err_code, description},
#include "tests/unit/js/stream_config_reference.def"
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rig r;
        rig_init(&r);
        struct stream_config_request before, request;
        cr_assert(create(&r, rows[i].before, &before));
        bool is_fine = update(&r, &before.config, rows[i].request, &request);
        if (rows[i].err_code == 0) {
            cr_assert(is_fine, "%s: %.*s", rows[i].request, (int)r.error.text_len, r.error.text);
            expect_text(&r, rows[i].request, &request.config, rows[i].text);
        } else {
            cr_assert_not(is_fine, "%s", rows[i].request);
            expect_refusal(&r, rows[i].request, rows[i].err_code, rows[i].text);
        }
        rig_deinit(&r);
    }
}

Test(stream_config, names_what_is_not_supported_yet)
{
    static const struct {
        const char *request, *why;
    } rows[] = {
        {"{\"name\":\"S\",\"mirror\":{\"name\":\"M\"}}", "mirror is not supported yet"},
        {"{\"name\":\"S\",\"sources\":[{\"name\":\"M\"}]}", "sources is not supported yet"},
        {"{\"name\":\"S\",\"allow_msg_counter\":true}", "allow_msg_counter is not supported yet"},
        {"{\"name\":\"S\",\"allow_atomic\":true}", "allow_atomic is not supported yet"},
        {"{\"name\":\"S\",\"allow_msg_schedules\":true}",
         "allow_msg_schedules is not supported yet"},
        {"{\"name\":\"S\",\"allow_batched\":true}", "allow_batched is not supported yet"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rig r;
        rig_init(&r);
        struct stream_config_request request;
        cr_assert_not(create(&r, rows[i].request, &request));
        expect_refusal(&r, rows[i].request, 10052, rows[i].why);
        rig_deinit(&r);
    }
}

Test(stream_config, bounds_of_server_and_account_are_kept)
{
    struct rig r;
    rig_init(&r);
    struct stream_config_request request;
    struct stream_config_bounds bounds = {.duplicate_window_max = 90 * JS_SECOND};
    cr_assert(read_request(&r, "{\"name\":\"S\"}", &request));
    cr_assert(stream_config_check(&r.arena, &request.config, &bounds, false, &r.error));
    cr_assert_eq(request.config.duplicate_window, 90 * JS_SECOND);
    cr_assert(read_request(&r, "{\"name\":\"S\",\"duplicate_window\":91000000000}", &request));
    cr_assert_not(stream_config_check(&r.arena, &request.config, &bounds, false, &r.error));
    expect_refusal(&r, "window", 10052,
                   "duplicates window can not be larger then server limit of 1m30s");

    bounds = (struct stream_config_bounds){.is_max_bytes_required = true,
                                           .file_stream_bytes_max = 100,
                                           .memory_stream_bytes_max = 1000};
    cr_assert(read_request(&r, "{\"name\":\"S\"}", &request));
    cr_assert_not(stream_config_check(&r.arena, &request.config, &bounds, false, &r.error));
    cr_assert_eq(r.error.id, JSAPI_STREAM_MAX_BYTES_REQUIRED);
    cr_assert(read_request(&r, "{\"name\":\"S\",\"max_bytes\":101}", &request));
    cr_assert_not(stream_config_check(&r.arena, &request.config, &bounds, false, &r.error));
    cr_assert_eq(r.error.id, JSAPI_STREAM_MAX_STREAM_BYTES_EXCEEDED);
    cr_assert(
        read_request(&r, "{\"name\":\"S\",\"max_bytes\":101,\"storage\":\"memory\"}", &request));
    cr_assert(stream_config_check(&r.arena, &request.config, &bounds, false, &r.error));
    rig_deinit(&r);
}

Test(stream_config, a_copy_is_equal_and_lives_alone)
{
    struct rig r;
    rig_init(&r);
    struct arena own;
    arena_init(&own, &r.heap.mem, MEM_JETSTREAM);
    struct stream_config_request request, other;
    const char *text = "{\"name\":\"S\",\"description\":\"d\",\"subjects\":[\"a\",\"b.*\"],"
                       "\"placement\":{\"cluster\":\"c\",\"tags\":[\"t\"]},"
                       "\"subject_transform\":{\"src\":\"a\",\"dest\":\"z\"},"
                       "\"republish\":{\"src\":\"a\",\"dest\":\"r\",\"headers_only\":true},"
                       "\"metadata\":{\"x\":\"y\"}}";
    cr_assert(create(&r, text, &request));
    struct stream_config copy;
    cr_assert_eq(stream_config_copy(&own, &request.config, &copy), ERR_OK);
    arena_deinit(&r.arena);
    cr_assert(create(&r, text, &other));
    cr_assert(stream_config_equal(&copy, &other.config));
    other.config.metadata.items[1].value = BYTES_LITERAL("n");
    cr_assert_not(stream_config_equal(&copy, &other.config));
    arena_deinit(&own);
    rig_deinit(&r);
}

/* nats-server takes it, and its next sequence is 0: here no sequence may follow the last one. */
Test(stream_config, a_first_sequence_leaves_room_for_those_behind_it)
{
    struct rig r;
    struct stream_config_request request;
    const char *text = "{\"name\": \"S\", \"first_seq\": 4611686018427387905}";
    rig_init(&r);
    cr_assert_not(create(&r, text, &request));
    expect_refusal(&r, text, 10052, "first sequence is too large");
    rig_deinit(&r);
}

Test(stream_config, a_subject_is_no_longer_than_the_interest_index_takes)
{
    struct rig r;
    struct stream_config_request request;
    char text[2 * JS_SUBJECT_BYTES_MAX];
    rig_init(&r);
    for (int more = 0; more < 2; more++) {
        int length = JS_SUBJECT_BYTES_MAX + more;
        snprintf(text, sizeof text, "{\"name\":\"S\",\"subjects\":[\"%0*d\"]}", length, 0);
        cr_assert_eq(create(&r, text, &request), more == 0);
    }
    expect_refusal(&r, "a subject", 10052, "subject is too long, maximum allowed is 4096");
    rig_deinit(&r);
}
