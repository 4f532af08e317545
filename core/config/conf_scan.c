#include "core/config/conf_scan.h"

unsigned conf_scan_space_bytes(const char *a, const char *end)
{
    if (a >= end) return 0;
    unsigned char c = (unsigned char)a[0];
    if (c == ' ' || (c >= '\t' && c <= '\r')) return 1;
    if (c < 0xc2 || end - a < 2) return 0;
    unsigned char d = (unsigned char)a[1];
    if (c == 0xc2) return d == 0x85 || d == 0xa0 ? 2 : 0;
    if (c < 0xe1 || c > 0xe3 || end - a < 3) return 0;
    unsigned code = (c & 0xfu) << 12 | (d & 0x3fu) << 6 | ((unsigned char)a[2] & 0x3fu);
    bool is_space = code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 ||
                    code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
    return is_space ? 3 : 0;
}

bool conf_scan_skip_space(struct conf_scan *s)
{
    unsigned width = conf_scan_space_bytes(s->at, s->end);
    for (unsigned i = 0; i < width; i++) conf_scan_advance(s);
    return width > 0;
}

void conf_scan_skip_spaces(struct conf_scan *s)
{
    while (conf_scan_skip_space(s)) {
    }
}

void conf_scan_skip_blanks(struct conf_scan *s)
{
    while (conf_scan_is_blank(conf_scan_peek(s))) conf_scan_advance(s);
}

bool conf_scan_skip_comment(struct conf_scan *s)
{
    if (conf_scan_peek(s) != '#' && !(conf_scan_peek(s) == '/' && conf_scan_peek_second(s) == '/'))
        return false;
    while (conf_scan_peek(s) != CONF_SCAN_END && !conf_scan_is_newline(conf_scan_peek(s)))
        conf_scan_advance(s);
    return true;
}

struct bytes conf_scan_character(const struct conf_scan *s)
{
    if (s->at == s->end) return BYTES_LITERAL("end of file");
    if (*s->at == '\n') return BYTES_LITERAL("newline");
    size_t len = 1;
    while (s->at + len < s->end && len < 4 && ((unsigned char)s->at[len] & 0xc0) == 0x80) len++;
    return bytes_of(s->at, (unsigned char)*s->at < 0x80 ? 1 : len);
}
