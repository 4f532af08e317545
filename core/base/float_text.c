/* The digits come from the free-format algorithm of Steele & White as refined by Burger & Dybvig:
 * the number is the fraction r/s, m_plus/s and m_minus/s are the distances to the middle of its
 * neighbours, and digits are produced until the rest lies within them. All four are big integers.
 *
 *   largest: 2^1024 * 10, so BIG_WORDS * 32 bits must hold 1024 + 53 + a few */
#include "core/base/float_text.h"
#include "core/base/must.h"

enum { BIG_WORDS = 38 };

struct big {
    uint32_t words[BIG_WORDS]; /* least first */
    uint32_t count;            /* no zero word at the top; 0 is zero */
};

static void big_set(struct big *b, uint64_t value)
{
    memset(b, 0, sizeof *b);
    b->words[0] = (uint32_t)value;
    b->words[1] = (uint32_t)(value >> 32);
    b->count = b->words[1] != 0 ? 2 : b->words[0] != 0 ? 1 : 0;
}

static void big_multiply(struct big *b, uint32_t factor)
{
    uint64_t carry = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        carry += (uint64_t)b->words[i] * factor;
        b->words[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry == 0) return;
    must(b->count < BIG_WORDS);
    b->words[b->count++] = (uint32_t)carry;
}

static void big_shift(struct big *b, uint32_t bits)
{
    for (; bits >= 31; bits -= 31) big_multiply(b, UINT32_C(1) << 31);
    big_multiply(b, UINT32_C(1) << bits);
}

static int big_compare(const struct big *a, const struct big *b)
{
    if (a->count != b->count) return a->count < b->count ? -1 : 1;
    for (uint32_t i = a->count; i-- > 0;)
        if (a->words[i] != b->words[i]) return a->words[i] < b->words[i] ? -1 : 1;
    return 0;
}

/* a + b against c. */
static int big_compare_sum(const struct big *a, const struct big *b, const struct big *c)
{
    struct big sum = {.count = 0};
    uint32_t count = a->count > b->count ? a->count : b->count;
    uint64_t carry = 0;
    for (uint32_t i = 0; i < count; i++) {
        carry += (uint64_t)(i < a->count ? a->words[i] : 0) + (i < b->count ? b->words[i] : 0);
        sum.words[i] = (uint32_t)carry;
        carry >>= 32;
    }
    sum.count = count;
    if (carry != 0) {
        must(count < BIG_WORDS);
        sum.words[sum.count++] = (uint32_t)carry;
    }
    return big_compare(&sum, c);
}

/* a -= b; a >= b. */
static void big_subtract(struct big *a, const struct big *b)
{
    int64_t borrow = 0;
    for (uint32_t i = 0; i < a->count; i++) {
        borrow += (int64_t)a->words[i] - (i < b->count ? b->words[i] : 0);
        a->words[i] = (uint32_t)borrow;
        borrow >>= 32;
    }
    must(borrow == 0);
    while (a->count > 0 && a->words[a->count - 1] == 0) a->count--;
}

uint32_t float_text_digits(double value, char digits[FLOAT_TEXT_DIGITS_MAX], int *point)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint64_t fraction = bits & ((UINT64_C(1) << 52) - 1);
    int exponent = (int)(bits >> 52 & 0x7ff);
    must(bits >> 63 == 0);
    must(exponent != 0x7ff);
    must(bits != 0);

    /* value = mantissa * 2^power; its lower neighbour is half as far at a power of two. */
    bool is_uneven = fraction == 0 && exponent > 1;
    bool is_even = (fraction & 1) == 0; /* then a tie rounds to value, so the bounds belong to it */
    uint64_t mantissa = exponent == 0 ? fraction : fraction | UINT64_C(1) << 52;
    int power = (exponent == 0 ? 1 : exponent) - 1075;

    struct big r, s, m_plus, m_minus;
    big_set(&r, mantissa);
    big_set(&s, 1);
    big_set(&m_plus, 1);
    big_set(&m_minus, 1);
    uint32_t uneven = is_uneven ? 1 : 0;
    if (power >= 0) {
        big_shift(&r, (uint32_t)power + 1 + uneven);
        big_shift(&s, 1 + uneven);
        big_shift(&m_plus, (uint32_t)power + uneven);
        big_shift(&m_minus, (uint32_t)power);
    } else {
        big_shift(&r, 1 + uneven);
        big_shift(&s, (uint32_t)-power + 1 + uneven);
        big_shift(&m_plus, uneven);
    }

    /* Scale by 10 until r/s (with its upper bound) lies in [0.1, 1). At most 324 steps. */
    *point = 0;
    for (;;) {
        int above = big_compare_sum(&r, &m_plus, &s);
        if (above < 0 || (above == 0 && !is_even)) break;
        big_multiply(&s, 10);
        (*point)++;
    }
    for (;;) {
        struct big r10 = r, m10 = m_plus;
        big_multiply(&r10, 10);
        big_multiply(&m10, 10);
        int above = big_compare_sum(&r10, &m10, &s);
        if (above > 0 || (above == 0 && is_even)) break;
        r = r10;
        m_plus = m10;
        big_multiply(&m_minus, 10);
        (*point)--;
    }

    uint32_t count = 0;
    for (;;) {
        big_multiply(&r, 10);
        big_multiply(&m_plus, 10);
        big_multiply(&m_minus, 10);
        int digit = 0;
        while (big_compare(&r, &s) >= 0) {
            big_subtract(&r, &s);
            digit++;
        }
        must(digit <= 9);
        must(count < FLOAT_TEXT_DIGITS_MAX);
        int low = big_compare(&r, &m_minus);
        int high = big_compare_sum(&r, &m_plus, &s);
        bool is_low = low < 0 || (low == 0 && is_even);
        bool is_high = high > 0 || (high == 0 && is_even);
        if (!is_low && !is_high) {
            digits[count++] = (char)('0' + digit);
            continue;
        }
        if (is_low && is_high) is_high = big_compare_sum(&r, &r, &s) >= 0;
        digits[count++] = (char)('0' + digit + (is_high ? 1 : 0));
        return count;
    }
}

static void write_plain(struct text *t, struct bytes digits, int point)
{
    if (point <= 0) {
        text_string(t, "0.");
        text_fill(t, '0', (size_t)-point);
        text_bytes(t, digits);
        return;
    }
    size_t whole = (size_t)point;
    if (whole >= digits.len) {
        text_bytes(t, digits);
        text_fill(t, '0', whole - digits.len);
        return;
    }
    text_bytes(t, bytes_of(digits.data, whole));
    text_char(t, '.');
    text_bytes(t, bytes_of(digits.data + whole, digits.len - whole));
}

static void write_exponent(struct text *t, struct bytes digits, int point, unsigned exponent_digits)
{
    text_char(t, digits.data[0]);
    if (digits.len > 1) {
        text_char(t, '.');
        text_bytes(t, bytes_of(digits.data + 1, digits.len - 1));
    }
    int exponent = point - 1;
    text_char(t, 'e');
    text_char(t, exponent < 0 ? '-' : '+');
    text_u64_padded(t, (uint64_t)(exponent < 0 ? -exponent : exponent), exponent_digits);
}

/* Plain while exponent_low <= decimal exponent < 21. */
static void write_float(struct text *t, double value, int exponent_low, unsigned exponent_digits)
{
    if (value == 0.0) { /* also -0 */
        text_char(t, '0');
        return;
    }
    if (value < 0.0) {
        text_char(t, '-');
        value = -value;
    }
    char room[FLOAT_TEXT_DIGITS_MAX];
    int point;
    struct bytes digits = bytes_of(room, float_text_digits(value, room, &point));
    if (point - 1 < exponent_low || point - 1 >= 21)
        write_exponent(t, digits, point, exponent_digits);
    else
        write_plain(t, digits, point);
}

void float_text_json(struct text *t, double value)
{
    if (!__builtin_isfinite(value)) value = 0.0;
    write_float(t, value, -6, 1);
}

void float_text_metric(struct text *t, double value)
{
    if (__builtin_isnan(value))
        text_string(t, "NaN");
    else if (!__builtin_isfinite(value))
        text_string(t, value > 0 ? "+Inf" : "-Inf");
    else
        write_float(t, value, -4, 2);
}
