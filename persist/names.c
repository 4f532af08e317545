#include "persist/names.h"
#include <string.h>
#include "core/base/must.h"

enum { LOG_DIGITS = 4, SEGMENT_DIGITS = 8 };

static const char KEPT[] = ".kept";
static const char DIGITS[] = "0123456789abcdef";

static void put_text(struct names_text *n, const char *text)
{
    size_t at = strlen(n->text), len = strlen(text);
    must(at + len < sizeof n->text);
    memcpy(n->text + at, text, len + 1);
}

static void put_hex(struct names_text *n, uint32_t value, int digits)
{
    char out[SEGMENT_DIGITS + 1] = {0};
    for (int i = digits - 1; i >= 0; i--) {
        out[i] = DIGITS[value & 15];
        value >>= 4;
    }
    must(value == 0);
    put_text(n, out);
}

static bool take_hex(const char **p, int digits, uint32_t *value)
{
    *value = 0;
    for (int i = 0; i < digits; i++, (*p)++) {
        const char *d = **p == 0 ? NULL : strchr(DIGITS, **p);
        if (d == NULL) return false;
        *value = *value << 4 | (uint32_t)(d - DIGITS);
    }
    return true;
}

struct names_text names_root(uint32_t copy)
{
    struct names_text n = {.text = "root-"};
    put_hex(&n, copy, 1);
    return n;
}

struct names_text names_manifest(uint32_t log, uint32_t copy)
{
    struct names_text n = {.text = ""};
    put_hex(&n, log, LOG_DIGITS);
    put_text(&n, "-manifest-");
    put_hex(&n, copy, 1);
    return n;
}

static struct names_text numbered(uint32_t log, uint32_t number, const char *end)
{
    struct names_text n = {.text = ""};
    put_hex(&n, log, LOG_DIGITS);
    put_text(&n, "-");
    put_hex(&n, number, SEGMENT_DIGITS);
    put_text(&n, end);
    return n;
}

struct names_text names_segment(uint32_t log, uint32_t segment)
{
    return numbered(log, segment, ".log");
}

struct names_text names_pack(uint32_t log, uint32_t pack)
{
    return numbered(log, pack, ".pack");
}

static bool is_numbered(const char *name, const char *end, uint32_t *log, uint32_t *number)
{
    if (!take_hex(&name, LOG_DIGITS, log) || *name++ != '-') return false;
    return take_hex(&name, SEGMENT_DIGITS, number) && strcmp(name, end) == 0;
}

bool names_is_segment(const char *name, uint32_t *log, uint32_t *segment)
{
    return is_numbered(name, ".log", log, segment);
}

bool names_is_pack(const char *name, uint32_t *log, uint32_t *pack)
{
    return is_numbered(name, ".pack", log, pack);
}

struct names_text names_kept(const char *name)
{
    struct names_text n = {.text = ""};
    put_text(&n, name);
    put_text(&n, KEPT);
    return n;
}

bool names_is_kept(const char *name)
{
    uint32_t log, number;
    struct names_text own = {.text = ""};
    size_t len = strlen(name), end = sizeof KEPT - 1;
    if (len <= end || len >= sizeof own.text || strcmp(name + len - end, KEPT) != 0) return false;
    memcpy(own.text, name, len - end);
    return names_is_segment(own.text, &log, &number) || names_is_pack(own.text, &log, &number);
}

bool names_is_manifest(const char *name, uint32_t *log)
{
    if (!take_hex(&name, LOG_DIGITS, log)) return false;
    return strcmp(name, "-manifest-0") == 0 || strcmp(name, "-manifest-1") == 0;
}

bool names_is_of_store(const char *name)
{
    uint32_t log, number;
    if (names_is_segment(name, &log, &number) || names_is_pack(name, &log, &number)) return true;
    return take_hex(&name, LOG_DIGITS, &log) && strncmp(name, "-manifest-", 10) == 0;
}
