#include "io/log_format.h"
#include <stdio.h>
#include <time.h>
#include "core/base/must.h"
#include "core/base/utf8.h"

enum {
    STAMP_BYTES = 32,
    ESCAPE_BYTES_MAX = 6, /* backslash, u, four digits */
    TAIL_BYTES = 8,       /* the dots of a cut text, quote, brace, newline */
};

static size_t put(char *to, const char *text, size_t len)
{
    memcpy(to, text, len);
    return len;
}

/* The next character of text as it stands within quotes, and how many bytes of text it took. The
 * escapes are those that JSON and logfmt share. */
static size_t escape(struct bytes text, char out[ESCAPE_BYTES_MAX], size_t *taken)
{
    unsigned char c = (unsigned char)text.data[0];
    *taken = 1;
    switch (c) {
    case '"': return put(out, "\\\"", 2);
    case '\\': return put(out, "\\\\", 2);
    case '\n': return put(out, "\\n", 2);
    case '\r': return put(out, "\\r", 2);
    case '\t': return put(out, "\\t", 2);
    default: break;
    }
    if (c < 0x20 || c == 0x7f) {
        static const char digits[] = "0123456789abcdef";
        char code[ESCAPE_BYTES_MAX] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]};
        return put(out, code, sizeof code);
    }
    if (c < 0x80) return put(out, text.data, 1);
    size_t len = utf8_length(text);
    if (len == 0) return put(out, "\\ufffd", 6);
    *taken = len;
    return put(out, text.data, len);
}

static size_t put_quoted(char *out, size_t room, struct bytes text)
{
    size_t n = put(out, "\"", 1);
    while (text.len > 0) {
        char piece[ESCAPE_BYTES_MAX];
        size_t taken, len = escape(text, piece, &taken);
        if (n + len + TAIL_BYTES > room) {
            n += put(out + n, "...", 3);
            break;
        }
        n += put(out + n, piece, len);
        text = bytes_of(text.data + taken, text.len - taken);
    }
    return n + put(out + n, "\"", 1);
}

static void write_stamp(uint64_t time_ns, char stamp[STAMP_BYTES])
{
    time_t second = (time_t)(time_ns / 1000000000u);
    struct tm tm;
    gmtime_r(&second, &tm);
    size_t n = strftime(stamp, STAMP_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(stamp + n, STAMP_BYTES - n, ".%06uZ", (unsigned)(time_ns % 1000000000u / 1000u));
}

size_t log_format_json(const struct log_format_line *l, char *out, size_t room)
{
    char stamp[STAMP_BYTES];
    must(room > LOG_FORMAT_HEAD_BYTES);
    size_t n = put(out, "{", 1);
    if (l->time_ns > 0) {
        write_stamp(l->time_ns, stamp);
        n += (size_t)snprintf(out + n, room - n, "\"time\":\"%s\",", stamp);
    }
    n += (size_t)snprintf(out + n, room - n, "\"level\":\"%s\",", l->level);
    if (l->pid > 0) n += (size_t)snprintf(out + n, room - n, "\"pid\":%d,", l->pid);
    n += put(out + n, "\"msg\":", 6);
    must(n < LOG_FORMAT_HEAD_BYTES);
    n += put_quoted(out + n, room - n, l->text);
    return n + put(out + n, "}\n", 2);
}

size_t log_format_logfmt(const struct log_format_line *l, char *out, size_t room)
{
    char stamp[STAMP_BYTES];
    must(room > LOG_FORMAT_HEAD_BYTES);
    size_t n = 0;
    if (l->time_ns > 0) {
        write_stamp(l->time_ns, stamp);
        n += (size_t)snprintf(out + n, room - n, "time=%s ", stamp);
    }
    n += (size_t)snprintf(out + n, room - n, "level=%s ", l->level);
    if (l->pid > 0) n += (size_t)snprintf(out + n, room - n, "pid=%d ", l->pid);
    n += put(out + n, "msg=", 4);
    must(n < LOG_FORMAT_HEAD_BYTES);
    n += put_quoted(out + n, room - n, l->text);
    return n + put(out + n, "\n", 1);
}
