#include "core/base/bytes.h"
#include "core/base/must.h"

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool bytes_equal_nocase(struct bytes a, struct bytes b)
{
    if (a.len != b.len) return false;
    for (size_t i = 0; i < a.len; i++)
        if (lower(a.data[i]) != lower(b.data[i])) return false;
    return true;
}

bool bytes_starts_with(struct bytes a, struct bytes prefix)
{
    return a.len >= prefix.len && bytes_equal(bytes_of(a.data, prefix.len), prefix);
}

bool bytes_ends_with(struct bytes a, struct bytes suffix)
{
    return a.len >= suffix.len &&
           bytes_equal(bytes_of(a.data + (a.len - suffix.len), suffix.len), suffix);
}

size_t bytes_find(struct bytes a, char c)
{
    if (a.len == 0) return 0;
    const char *at = memchr(a.data, c, a.len);
    return at == NULL ? a.len : (size_t)(at - a.data);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct bytes bytes_trim(struct bytes a)
{
    while (a.len > 0 && is_blank(a.data[0])) {
        a.data++;
        a.len--;
    }
    while (a.len > 0 && is_blank(a.data[a.len - 1])) a.len--;
    return a;
}

int bytes_compare(struct bytes a, struct bytes b)
{
    size_t shared = a.len < b.len ? a.len : b.len;
    int order = shared == 0 ? 0 : memcmp(a.data, b.data, shared);
    if (order != 0) return order;
    return a.len < b.len ? -1 : a.len > b.len ? 1 : 0;
}

enum err bytes_to_u64(struct bytes a, unsigned digits_max, uint64_t *value)
{
    uint64_t sum = 0;
    if (a.len == 0) return ERR_SYNTAX;
    for (size_t i = 0; i < a.len; i++)
        if (a.data[i] < '0' || a.data[i] > '9') return ERR_SYNTAX;
    if (a.len > digits_max) return ERR_RANGE;
    for (size_t i = 0; i < a.len; i++) {
        unsigned digit = (unsigned)(a.data[i] - '0');
        if (sum > (UINT64_MAX - digit) / 10) return ERR_RANGE;
        sum = sum * 10 + digit;
    }
    *value = sum;
    return ERR_OK;
}

enum err bytes_to_i64(struct bytes a, int64_t *value)
{
    bool is_negative = a.len > 0 && a.data[0] == '-';
    if (a.len > 0 && (a.data[0] == '-' || a.data[0] == '+')) {
        a.data++;
        a.len--;
    }
    uint64_t size;
    enum err e = bytes_to_u64(a, BYTES_U64_TEXT_MAX, &size);
    if (e != ERR_OK) return e;
    if (size > (uint64_t)INT64_MAX + (is_negative ? 1 : 0)) return ERR_RANGE;
    *value = is_negative ? (int64_t)(0 - size) : (int64_t)size;
    return ERR_OK;
}

static const char pairs[] = "0001020304050607080910111213141516171819202122232425262728293031323334"
                            "3536373839404142434445464748495051525354555657585960616263646566676869"
                            "707172737475767778798081828384858687888990919293949596979899";

void bytes_u32_digits(char *out, size_t count, uint32_t value)
{
    for (; count >= 2; value /= 100) {
        count -= 2;
        memcpy(out + count, pairs + value % 100 * 2, 2);
    }
    if (count > 0) out[0] = (char)('0' + value % 10);
}

size_t bytes_u64_text(char *out, uint64_t value)
{
    char digits[BYTES_U64_TEXT_MAX];
    size_t at = sizeof digits;
    /* Sizes of messages and of their headers mostly are that short: written where they go. */
    if (value < 10) {
        out[0] = (char)('0' + value);
        return 1;
    }
    if (value < 10000) {
        uint32_t high = (uint32_t)value / 100, low = (uint32_t)value % 100;
        size_t len = high >= 10 ? 2 : high > 0 ? 1 : 0;
        if (len == 2) memcpy(out, pairs + (size_t)high * 2, 2);
        if (len == 1) out[0] = (char)('0' + high);
        memcpy(out + len, pairs + (size_t)low * 2, 2);
        return len + 2;
    }
    /* Two at a time: a division is what a digit costs. */
    for (; value >= 100; value /= 100) {
        at -= 2;
        memcpy(digits + at, pairs + value % 100 * 2, 2);
    }
    if (value >= 10) {
        at -= 2;
        memcpy(digits + at, pairs + value * 2, 2);
    } else {
        digits[--at] = (char)('0' + value);
    }
    memcpy(out, digits + at, sizeof digits - at);
    return sizeof digits - at;
}

void writer_init(struct writer *w, char *data, size_t capacity)
{
    *w = (struct writer){.data = data, .capacity = capacity};
}

void writer_bytes(struct writer *w, struct bytes b)
{
    must(w->len <= w->capacity);
    if (w->is_full || b.len > w->capacity - w->len) {
        w->is_full = true;
        return;
    }
    if (b.len > 0) memcpy(w->data + w->len, b.data, b.len);
    w->len += b.len;
}

void writer_text(struct writer *w, const char *text)
{
    writer_bytes(w, bytes_from_text(text));
}

void writer_char(struct writer *w, char c)
{
    must(w->len <= w->capacity);
    if (w->is_full || w->len == w->capacity) {
        w->is_full = true;
        return;
    }
    w->data[w->len++] = c;
}

void writer_u64(struct writer *w, uint64_t value)
{
    char text[BYTES_U64_TEXT_MAX];
    if (LIKELY(!w->is_full && w->capacity - w->len >= BYTES_U64_TEXT_MAX)) {
        w->len += bytes_u64_text(w->data + w->len, value);
        return;
    }
    writer_bytes(w, bytes_of(text, bytes_u64_text(text, value)));
}

void writer_i64(struct writer *w, int64_t value)
{
    if (value < 0) writer_char(w, '-');
    writer_u64(w, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void bytes_to_hex(const uint8_t *from, size_t count, char *to)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < count; i++) {
        to[2 * i] = digits[from[i] >> 4];
        to[2 * i + 1] = digits[from[i] & 15];
    }
}

/* Go's %q escapes with a letter where one exists and as \xNN below space and at DEL. Bytes from
 * 0x80 up pass unchanged: they are valid UTF-8 in all that clients may name. */
void writer_quoted(struct writer *w, struct bytes b)
{
    static const char hex[] = "0123456789abcdef";
    writer_char(w, '"');
    for (size_t i = 0; i < b.len; i++) {
        unsigned char c = (unsigned char)b.data[i];
        static const char letters[] = "abtnvfr";
        if (c == '"' || c == '\\') {
            writer_char(w, '\\');
            writer_char(w, (char)c);
        } else if (c >= 7 && c <= 13) {
            writer_char(w, '\\');
            writer_char(w, letters[c - 7]);
        } else if (c < 32 || c == 127) {
            writer_text(w, "\\x");
            writer_char(w, hex[c >> 4]);
            writer_char(w, hex[c & 15]);
        } else {
            writer_char(w, (char)c);
        }
    }
    writer_char(w, '"');
}
