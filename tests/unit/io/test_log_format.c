#include "io/log_format.h"
#include <criterion/criterion.h>
#include <string.h>

static char out[512];

static struct log_format_line line_of(struct bytes text)
{
    return (struct log_format_line){
        .level = "WRN", .pid = 7, .time_ns = UINT64_C(1795252211123456789), .text = text};
}

static const char *json(struct bytes text, size_t room)
{
    struct log_format_line l = line_of(text);
    size_t n = log_format_json(&l, out, room);
    cr_assert_leq(n, room);
    out[n] = 0;
    return out;
}

Test(log_format, json_is_one_object_a_line)
{
    cr_assert_str_eq(json(BYTES_LITERAL("Server is ready"), 500),
                     "{\"time\":\"2026-11-21T09:10:11.123456Z\",\"level\":\"WRN\",\"pid\":7,"
                     "\"msg\":\"Server is ready\"}\n");
}

Test(log_format, logfmt_is_pairs)
{
    struct log_format_line l = line_of(BYTES_LITERAL("say \"x\" = 3"));
    out[log_format_logfmt(&l, out, sizeof out)] = 0;
    cr_assert_str_eq(out, "time=2026-11-21T09:10:11.123456Z level=WRN pid=7 "
                          "msg=\"say \\\"x\\\" = 3\"\n");
}

Test(log_format, time_and_pid_may_be_left_out)
{
    struct log_format_line l = {.level = "INF", .text = BYTES_LITERAL("x")};
    out[log_format_json(&l, out, sizeof out)] = 0;
    cr_assert_str_eq(out, "{\"level\":\"INF\",\"msg\":\"x\"}\n");
    out[log_format_logfmt(&l, out, sizeof out)] = 0;
    cr_assert_str_eq(out, "level=INF msg=\"x\"\n");
}

Test(log_format, nothing_in_a_text_ends_its_value_or_its_line)
{
    static const char text[] = "a\"b\\c\nd\te\x01\x7f\x80\xc3\xa9";
    const char *msg = strstr(json(bytes_of(text, sizeof text - 1), 500), "\"msg\":");
    cr_assert_str_eq(msg, "\"msg\":\"a\\\"b\\\\c\\nd\\te\\u0001\\u007f\\ufffd\xc3\xa9\"}\n");
}

Test(log_format, a_text_without_room_is_cut_between_characters)
{
    char text[400];
    for (size_t i = 0; i + 1 < sizeof text; i += 2) memcpy(text + i, "\xc3\xa9", 2);
    for (size_t room = 150; room < 180; room++) {
        const char *line = json(bytes_of(text, sizeof text), room);
        size_t len = strlen(line);
        cr_assert_str_eq(line + len - 6, "...\"}\n");
        cr_assert_eq((unsigned char)line[len - 7], 0xa9);
    }
}
