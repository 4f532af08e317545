#include "core/config/duration.h"

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

static bool take_unit(struct bytes *rest, int64_t *ns)
{
    size_t len = 0;
    while (len < rest->len && rest->data[len] != '.' && !is_digit(rest->data[len])) len++;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (!bytes_equal(bytes_of(rest->data, len), bytes_from_text(units[i].name))) continue;
        *ns = units[i].ns;
        skip(rest, len);
        return true;
    }
    return false;
}

/* "1.5h" off the front of rest, added to sum. */
static enum err take_part(struct bytes *rest, int64_t *sum)
{
    enum { FRACTION_DIGITS_MAX = 18 };
    int64_t whole = 0, fraction = 0, scale = 1, ns;
    size_t digit_count = 0;
    while (rest->len > 0 && is_digit(rest->data[0])) {
        if (__builtin_mul_overflow(whole, 10, &whole)) return ERR_RANGE;
        if (__builtin_add_overflow(whole, rest->data[0] - '0', &whole)) return ERR_RANGE;
        digit_count++;
        skip(rest, 1);
    }
    if (rest->len > 0 && rest->data[0] == '.') {
        skip(rest, 1);
        for (int i = 0; rest->len > 0 && is_digit(rest->data[0]); i++, skip(rest, 1)) {
            digit_count++;
            if (i >= FRACTION_DIGITS_MAX) continue;
            fraction = fraction * 10 + (rest->data[0] - '0');
            scale *= 10;
        }
    }
    if (digit_count == 0 || rest->len == 0 || !take_unit(rest, &ns)) return ERR_SYNTAX;
    if (__builtin_mul_overflow(whole, ns, &whole)) return ERR_RANGE;
    int64_t part = (int64_t)((double)fraction * ((double)ns / (double)scale));
    if (__builtin_add_overflow(whole, part, &whole)) return ERR_RANGE;
    return __builtin_add_overflow(*sum, whole, sum) ? ERR_RANGE : ERR_OK;
}

enum err duration_parse(struct bytes text, int64_t *ns)
{
    int64_t sum = 0;
    bool is_negative = text.len > 0 && text.data[0] == '-';
    if (is_negative || (text.len > 0 && text.data[0] == '+')) skip(&text, 1);
    if (text.len == 0) return ERR_SYNTAX;
    if (!bytes_equal(text, BYTES_LITERAL("0")))
        while (text.len > 0) {
            enum err e = take_part(&text, &sum);
            if (e != ERR_OK) return e;
        }
    *ns = is_negative ? -sum : sum;
    return ERR_OK;
}
