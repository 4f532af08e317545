#include "core/base/duration.h"

struct unit {
    const char *name;
    int64_t ns;
};

/* The longer name first where one begins with the other. */
static const struct unit units[] = {
    {"ns", 1},
    {"us", 1000},
    {"\xc2\xb5s", 1000}, /* micro sign */
    {"\xce\xbcs", 1000}, /* Greek mu */
    {"ms", 1000000},
    {"s", INT64_C(1000000000)},
    {"m", INT64_C(60000000000)},
    {"h", INT64_C(3600000000000)},
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void skip(struct bytes *b, size_t count)
{
    b->data += count;
    b->len -= count;
}

static bool take_unit(struct bytes *rest, int64_t *ns, struct bytes *unit)
{
    size_t len = 0;
    while (len < rest->len && rest->data[len] != '.' && !is_digit(rest->data[len])) len++;
    *unit = bytes_of(rest->data, len);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (!bytes_equal(bytes_of(rest->data, len), bytes_from_text(units[i].name))) continue;
        *ns = units[i].ns;
        skip(rest, len);
        return true;
    }
    return false;
}

/* "1.5h" off the front of rest, added to sum. */
static enum err take_part(struct bytes *rest, int64_t *sum, struct bytes *unit)
{
    int64_t whole = 0, fraction = 0, ns;
    double scale = 1;
    size_t digit_count = 0;
    while (rest->len > 0 && is_digit(rest->data[0])) {
        if (__builtin_mul_overflow(whole, 10, &whole)) return ERR_RANGE;
        if (__builtin_add_overflow(whole, rest->data[0] - '0', &whole)) return ERR_RANGE;
        digit_count++;
        skip(rest, 1);
    }
    if (rest->len > 0 && rest->data[0] == '.') {
        skip(rest, 1);
        /* As many digits as 63 bits hold; the rest is below a nanosecond anyway. */
        bool is_full = false;
        for (; rest->len > 0 && is_digit(rest->data[0]); skip(rest, 1)) {
            digit_count++;
            is_full |= fraction > (INT64_MAX - 9) / 10;
            if (is_full) continue;
            fraction = fraction * 10 + (rest->data[0] - '0');
            scale *= 10;
        }
    }
    if (digit_count == 0) return ERR_SYNTAX;
    if (!take_unit(rest, &ns, unit)) return unit->len == 0 ? ERR_INCOMPLETE : ERR_UNKNOWN;
    if (__builtin_mul_overflow(whole, ns, &whole)) return ERR_RANGE;
    int64_t part = (int64_t)((double)fraction * ((double)ns / scale));
    if (__builtin_add_overflow(whole, part, &whole)) return ERR_RANGE;
    return __builtin_add_overflow(*sum, whole, sum) ? ERR_RANGE : ERR_OK;
}

enum err duration_parse(struct bytes text, int64_t *ns, struct bytes *unit)
{
    int64_t sum = 0;
    struct bytes unused;
    if (unit == NULL) unit = &unused;
    bool is_negative = text.len > 0 && text.data[0] == '-';
    if (is_negative || (text.len > 0 && text.data[0] == '+')) skip(&text, 1);
    if (text.len == 0) return ERR_SYNTAX;
    if (!bytes_equal(text, BYTES_LITERAL("0")))
        while (text.len > 0) {
            enum err e = take_part(&text, &sum, unit);
            if (e != ERR_OK) return e;
        }
    *ns = is_negative ? -sum : sum;
    return ERR_OK;
}
