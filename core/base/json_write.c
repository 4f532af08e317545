#include "core/base/json_write.h"
#include "core/base/float_text.h"
#include "core/base/must.h"
#include "core/base/time_text.h"
#include "core/base/utf8.h"

void json_write_init(struct json_write *w, struct text *out, uint32_t indent)
{
    *w = (struct json_write){.out = out, .indent = indent};
}

static void write_line(struct json_write *w)
{
    if (w->indent == 0) return;
    text_char(w->out, '\n');
    text_fill(w->out, ' ', (size_t)w->indent * w->depth);
}

static void write_colon(struct json_write *w)
{
    text_string(w->out, w->indent == 0 ? ":" : ": ");
}

/* Everything before a value: comma, line, key. After json_write_key the key stands already. */
static void before_value(struct json_write *w, const char *key)
{
    if (w->depth == 0) {
        must(key == NULL);
        return;
    }
    uint32_t level = w->depth - 1;
    if (!w->is_array[level] && key == NULL) return;
    must(w->is_array[level] == (key == NULL));
    if (w->has_member[level]) text_char(w->out, ',');
    w->has_member[level] = true;
    write_line(w);
    if (key == NULL) return;
    text_char(w->out, '"');
    text_string(w->out, key);
    text_char(w->out, '"');
    write_colon(w);
}

void json_write_key(struct json_write *w, struct bytes key)
{
    must(w->depth > 0);
    uint32_t level = w->depth - 1;
    must(!w->is_array[level]);
    if (w->has_member[level]) text_char(w->out, ',');
    w->has_member[level] = true;
    write_line(w);
    json_write_quote(w->out, key);
    write_colon(w);
}

static void open_level(struct json_write *w, const char *key, bool is_array)
{
    before_value(w, key);
    must(w->depth < JSON_WRITE_DEPTH_MAX);
    w->is_array[w->depth] = is_array;
    w->has_member[w->depth] = false;
    w->depth++;
    text_char(w->out, is_array ? '[' : '{');
}

void json_write_object(struct json_write *w, const char *key)
{
    open_level(w, key, false);
}

void json_write_array(struct json_write *w, const char *key)
{
    open_level(w, key, true);
}

void json_write_end(struct json_write *w)
{
    must(w->depth > 0);
    w->depth--;
    if (w->has_member[w->depth]) write_line(w);
    text_char(w->out, w->is_array[w->depth] ? ']' : '}');
}

static void write_escape(struct text *out, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    switch (c) {
    case '"':
        text_string(out, "\\\"");
        return;
    case '\\':
        text_string(out, "\\\\");
        return;
    case '\b':
        text_string(out, "\\b");
        return;
    case '\f':
        text_string(out, "\\f");
        return;
    case '\n':
        text_string(out, "\\n");
        return;
    case '\r':
        text_string(out, "\\r");
        return;
    case '\t':
        text_string(out, "\\t");
        return;
    default:
        text_string(out, "\\u00");
        text_char(out, hex[c >> 4]);
        text_char(out, hex[c & 15]);
    }
}

/* Bytes that stand for themselves. Go also escapes what HTML would see. */
static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&';
}

void json_write_quote(struct text *out, struct bytes value)
{
    text_char(out, '"');
    size_t at = 0;
    while (at < value.len) {
        size_t end = at;
        while (end < value.len && is_plain((unsigned char)value.data[end])) end++;
        text_bytes(out, bytes_of(value.data + at, end - at));
        at = end;
        if (at == value.len) break;
        struct bytes rest = bytes_of(value.data + at, value.len - at);
        unsigned char c = (unsigned char)rest.data[0];
        if (c < 0x80) {
            write_escape(out, c);
            at++;
            continue;
        }
        size_t len = utf8_length(rest);
        if (len == 0) {
            text_string(out, "\\ufffd");
            at++;
            continue;
        }
        /* Line and paragraph separator end a line in JavaScript. */
        if (len == 3 && memcmp(rest.data, "\xe2\x80\xa8", 3) == 0)
            text_string(out, "\\u2028");
        else if (len == 3 && memcmp(rest.data, "\xe2\x80\xa9", 3) == 0)
            text_string(out, "\\u2029");
        else
            text_bytes(out, bytes_of(rest.data, len));
        at += len;
    }
    text_char(out, '"');
}

void json_write_text(struct json_write *w, const char *key, struct bytes value)
{
    before_value(w, key);
    json_write_quote(w->out, value);
}

void json_write_u64(struct json_write *w, const char *key, uint64_t value)
{
    before_value(w, key);
    text_u64(w->out, value);
}

void json_write_i64(struct json_write *w, const char *key, int64_t value)
{
    before_value(w, key);
    text_i64(w->out, value);
}

void json_write_float(struct json_write *w, const char *key, double value)
{
    before_value(w, key);
    float_text_json(w->out, value);
}

void json_write_bool(struct json_write *w, const char *key, bool value)
{
    before_value(w, key);
    text_string(w->out, value ? "true" : "false");
}

void json_write_null(struct json_write *w, const char *key)
{
    before_value(w, key);
    text_string(w->out, "null");
}

void json_write_raw(struct json_write *w, const char *key, struct bytes json)
{
    before_value(w, key);
    text_bytes(w->out, json);
}

void json_write_time(struct json_write *w, const char *key, int64_t wall_ns)
{
    before_value(w, key);
    text_char(w->out, '"');
    time_text_rfc3339_or_zero(w->out, wall_ns);
    text_char(w->out, '"');
}

void json_write_duration(struct json_write *w, const char *key, int64_t ns)
{
    before_value(w, key);
    text_char(w->out, '"');
    time_text_duration(w->out, ns);
    text_char(w->out, '"');
}

void json_write_uptime(struct json_write *w, const char *key, int64_t ns)
{
    before_value(w, key);
    text_char(w->out, '"');
    time_text_uptime(w->out, ns);
    text_char(w->out, '"');
}

void json_write_text_if(struct json_write *w, const char *key, struct bytes value)
{
    if (value.len != 0) json_write_text(w, key, value);
}

void json_write_u64_if(struct json_write *w, const char *key, uint64_t value)
{
    if (value != 0) json_write_u64(w, key, value);
}

void json_write_i64_if(struct json_write *w, const char *key, int64_t value)
{
    if (value != 0) json_write_i64(w, key, value);
}

void json_write_bool_if(struct json_write *w, const char *key, bool value)
{
    if (value) json_write_bool(w, key, value);
}

void json_write_time_if(struct json_write *w, const char *key, int64_t wall_ns)
{
    if (wall_ns != 0) json_write_time(w, key, wall_ns);
}

void json_write_texts_if(struct json_write *w, const char *key, const struct bytes *values,
                         size_t count)
{
    if (count == 0) return;
    json_write_array(w, key);
    for (size_t i = 0; i < count; i++) json_write_text(w, NULL, values[i]);
    json_write_end(w);
}
