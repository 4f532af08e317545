#include "core/config/conf_value.h"
#include "core/config/conf_fault.h"

enum err conf_value_count(struct conf_scan *s, uint64_t more)
{
    s->p->value_count += more;
    if (s->p->value_count > CONF_VALUES_MAX)
        return conf_fault_syntax(s, "more values than this server reads");
    return ERR_OK;
}

enum err conf_value_new(struct conf_scan *s, enum conf_kind kind, struct conf_value **value)
{
    enum err e = conf_value_count(s, 1);
    if (e != ERR_OK) return e;
    struct conf_value *v = arena_alloc(s->p->arena, sizeof(*v));
    if (v == NULL) return conf_fault_memory(s);
    *v = (struct conf_value){.kind = kind, .weight = 1, .place = conf_scan_place(s)};
    v->depth = kind == CONF_ARRAY || kind == CONF_MAP;
    *value = v;
    return ERR_OK;
}

/* --- texts ---------------------------------------------------------------------------------- */

static int hex_digit(int c)
{
    if (conf_scan_is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* After the backslash: moves past one escape. */
static enum err skip_escape(struct conf_scan *s)
{
    int c = conf_scan_peek(s);
    if (c == 't' || c == 'n' || c == 'r' || c == '"' || c == '\\') {
        conf_scan_advance(s);
        return ERR_OK;
    }
    if (c != 'x')
        return conf_fault_syntax_about(s, "Unknown escape \\", conf_scan_character(s),
                                       ", known are \\xXX \\t \\n \\r \\\" \\\\");
    if (s->end - s->at < 3 || hex_digit((unsigned char)s->at[1]) < 0 ||
        hex_digit((unsigned char)s->at[2]) < 0)
        return conf_fault_syntax(s, "Two hexadecimal digits must follow \\x");
    for (int i = 0; i < 3; i++) conf_scan_advance(s);
    return ERR_OK;
}

/* raw was checked by skip_escape, so every backslash begins a known escape. */
static enum err unescape(struct conf_scan *s, struct bytes raw, struct bytes *text)
{
    char *out = arena_alloc(s->p->arena, raw.len);
    if (out == NULL) return conf_fault_memory(s);
    size_t len = 0;
    for (size_t i = 0; i < raw.len; i++) {
        if (raw.data[i] != '\\') {
            out[len++] = raw.data[i];
            continue;
        }
        char c = raw.data[++i];
        if (c == 'x') {
            must(i + 2 < raw.len);
            out[len++] = (char)(hex_digit((unsigned char)raw.data[i + 1]) * 16 +
                                hex_digit((unsigned char)raw.data[i + 2]));
            i += 2;
        } else {
            out[len++] = c == 't' ? '\t' : c == 'n' ? '\n' : c == 'r' ? '\r' : c;
        }
    }
    *text = bytes_of(out, len);
    return ERR_OK;
}

enum err conf_value_quoted(struct conf_scan *s, bool has_escapes, struct bytes *text)
{
    char quote = *s->at;
    bool is_escaped = false;
    struct conf_scan opening = *s;
    conf_scan_advance(s);
    const char *start = s->at;
    while (conf_scan_peek(s) != quote) {
        if (conf_scan_peek(s) == CONF_SCAN_END) return conf_fault_unclosed(s, "quote", &opening);
        bool is_escape = has_escapes && conf_scan_peek(s) == '\\';
        conf_scan_advance(s);
        enum err e = is_escape ? skip_escape(s) : ERR_OK;
        if (e != ERR_OK) return e;
        is_escaped |= is_escape;
    }
    struct bytes raw = bytes_of(start, (size_t)(s->at - start));
    conf_scan_advance(s);
    if (is_escaped) return unescape(s, raw, text);
    *text = raw;
    return ERR_OK;
}

enum err conf_value_text(struct conf_scan *s, struct bytes text, struct conf_value **value)
{
    enum err e = conf_value_new(s, CONF_TEXT, value);
    if (e == ERR_OK) (*value)->text = text;
    return e;
}

enum err conf_value_parse_quoted(struct conf_scan *s, struct conf_value **value)
{
    struct conf_place place = conf_scan_place(s);
    struct bytes text;
    enum err e = conf_value_quoted(s, conf_scan_peek(s) == '"', &text);
    if (e == ERR_OK) e = conf_value_text(s, text, value);
    if (e == ERR_OK) (*value)->place = place;
    return e;
}

/* The closing ) has a line of its own and starts it; a CR before the newline does not count as
 * nothing, as in the reference. */
enum err conf_value_parse_block(struct conf_scan *s, struct conf_value **value)
{
    struct conf_scan opening = *s;
    conf_scan_advance(s);
    const char *start = s->at;
    for (;;) {
        int c = conf_scan_peek(s);
        if (c == CONF_SCAN_END) return conf_fault_unclosed(s, "block", &opening);
        bool is_alone =
            c == ')' && s->at == s->line_start && s->at > start &&
            (conf_scan_peek_second(s) == '\n' || conf_scan_peek_second(s) == CONF_SCAN_END);
        if (is_alone) break;
        conf_scan_advance(s);
    }
    enum err e = conf_value_text(&opening, bytes_of(start, (size_t)(s->at - start)), value);
    conf_scan_advance(s);
    return e;
}

static bool ends_bare(int c)
{
    return c == CONF_SCAN_END || conf_scan_is_newline(c) || conf_scan_is_blank(c) || c == ';' ||
           c == ',' || c == ']' || c == '}';
}

static bool is_word(struct bytes text, const char *a, const char *b, const char *c)
{
    return bytes_equal_nocase(text, bytes_from_text(a)) ||
           bytes_equal_nocase(text, bytes_from_text(b)) ||
           bytes_equal_nocase(text, bytes_from_text(c));
}

static enum err bool_value(struct conf_scan *s, bool boolean, struct conf_value **value)
{
    enum err e = conf_value_new(s, CONF_BOOL, value);
    if (e == ERR_OK) (*value)->boolean = boolean;
    return e;
}

/* A bare word from start on; the cursor may stand behind its first bytes already. A single quote
 * ends it too and is swallowed (nats-server does so). */
static enum err parse_bare(struct conf_scan *s, const char *start, struct conf_value **value,
                           struct bytes *variable)
{
    struct conf_scan opening = *s;
    opening.at = start;
    bool is_escaped = false;
    *variable = bytes_of("", 0);
    while (!ends_bare(conf_scan_peek(s)) && conf_scan_peek(s) != '\'') {
        bool is_escape = conf_scan_peek(s) == '\\';
        conf_scan_advance(s);
        enum err e = is_escape ? skip_escape(s) : ERR_OK;
        if (e != ERR_OK) return e;
        is_escaped |= is_escape;
    }
    struct bytes word = bytes_of(start, (size_t)(s->at - start));
    bool is_quote = conf_scan_peek(s) == '\'';
    if (is_quote) conf_scan_advance(s);

    if (is_escaped) {
        struct bytes text;
        enum err e = unescape(&opening, word, &text);
        return e == ERR_OK ? conf_value_text(&opening, text, value) : e;
    }
    if (is_quote) return conf_value_text(&opening, word, value);
    if (is_word(word, "true", "yes", "on")) return bool_value(&opening, true, value);
    if (is_word(word, "false", "no", "off")) return bool_value(&opening, false, value);
    if (word.len > 0 && word.data[0] == '$') {
        *variable = word;
        return ERR_OK;
    }
    return conf_value_text(&opening, word, value);
}

enum err conf_value_parse_bare(struct conf_scan *s, struct conf_value **value,
                               struct bytes *variable)
{
    return parse_bare(s, s->at, value, variable);
}

/* --- numbers and times ---------------------------------------------------------------------- */

static bool is_unit(int c)
{
    return c != CONF_SCAN_END && c != 0 && strchr("kKmMgGtTpPeE", c) != NULL;
}

static bool is_unit_tail(int c)
{
    return c == 'b' || c == 'B' || c == 'i' || c == 'I';
}

/* "", k, kb, ki, kib: the factor. false: no such unit. */
static bool unit_factor(struct bytes unit, int64_t *factor)
{
    static const char letters[] = "kmgtpe";
    *factor = 1;
    if (unit.len == 0) return true;
    bool is_binary = unit.len > 1;
    if (unit.len > 3) return false;
    if (unit.len == 3 && !bytes_equal_nocase(bytes_of(unit.data + 1, 2), BYTES_LITERAL("ib")))
        return false;
    const char *letter = strchr(letters, unit.data[0] | 0x20);
    must(letter != NULL);
    for (int i = 0; i <= (int)(letter - letters); i++) *factor *= is_binary ? 1024 : 1000;
    return true;
}

static enum err integer_value(struct conf_scan *s, struct bytes digits, struct bytes unit,
                              struct conf_value **value)
{
    int64_t number, factor, product;
    struct bytes whole = bytes_of(digits.data, digits.len + unit.len);
    if (!unit_factor(unit, &factor))
        return conf_fault_syntax_about(s, "'", whole, "' has a unit that does not exist");
    if (bytes_to_i64(digits, &number) != ERR_OK || __builtin_mul_overflow(number, factor, &product))
        return conf_fault_syntax_about(s, "integer '", whole, "' is out of the range");
    enum err e = conf_value_new(s, CONF_INTEGER, value);
    if (e == ERR_OK) (*value)->integer = product;
    return e;
}

/* Exact up to 2^53 and 22 decimals, where a double division rounds once; beyond that as near as
 * long double gets. Configuration holds numbers like 0.5. */
static double decimal(struct bytes text)
{
    long double sum = 0, scale = 1;
    bool is_negative = text.len > 0 && text.data[0] == '-', is_fraction = false;
    for (size_t i = is_negative ? 1 : 0; i < text.len; i++) {
        if (text.data[i] == '.') {
            is_fraction = true;
            continue;
        }
        sum = sum * 10 + (text.data[i] - '0');
        if (is_fraction) scale *= 10;
    }
    return (double)((is_negative ? -sum : sum) / scale);
}

static enum err float_value(struct conf_scan *s, struct bytes text, struct conf_value **value)
{
    enum { FLOAT_BYTES_MAX = 300 };
    if (text.len > FLOAT_BYTES_MAX) return conf_fault_syntax(s, "a number of too many digits");
    enum err e = conf_value_new(s, CONF_FLOAT, value);
    if (e != ERR_OK) return e;
    (*value)->number = decimal(text);
    return ERR_OK;
}

static unsigned two_digits(const char *at)
{
    return (unsigned)(at[0] - '0') * 10 + (unsigned)(at[1] - '0');
}

static bool time_is_valid(const char *t)
{
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    unsigned year = two_digits(t) * 100 + two_digits(t + 2);
    unsigned month = two_digits(t + 5), day = two_digits(t + 8);
    if (month < 1 || month > 12 || day < 1) return false;
    bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (day > days[month - 1] + (unsigned)(month == 2 && is_leap)) return false;
    return two_digits(t + 11) < 24 && two_digits(t + 14) < 60 && two_digits(t + 17) < 60;
}

static enum err parse_time(struct conf_scan *s, struct conf_scan *opening,
                           struct conf_value **value)
{
    static const char form[] = "0000-00-00T00:00:00Z";
    for (size_t i = 4; i < sizeof(form) - 1; i++) {
        int c = conf_scan_peek(s);
        bool is_right = form[i] == '0' ? conf_scan_is_digit(c) : c == form[i];
        if (!is_right) return conf_fault_syntax(s, "A time must look like 2006-01-02T15:04:05Z");
        conf_scan_advance(s);
    }
    if (!time_is_valid(opening->at))
        return conf_fault_syntax_about(opening, "'", bytes_of(opening->at, sizeof(form) - 1),
                                       "' is not a time that exists");
    enum err e = conf_value_new(opening, CONF_TIME, value);
    if (e == ERR_OK) (*value)->text = bytes_of(opening->at, sizeof(form) - 1);
    return e;
}

/* After "digits.": a float, or an address when more dots follow. */
static enum err parse_fraction(struct conf_scan *s, struct conf_scan *opening,
                               struct conf_value **value)
{
    conf_scan_advance(s);
    if (!conf_scan_is_digit(conf_scan_peek(s)))
        return conf_fault_syntax_about(s, "A digit must follow the dot of a number, not '",
                                       conf_scan_character(s), "'");
    while (conf_scan_is_digit(conf_scan_peek(s))) conf_scan_advance(s);
    if (conf_scan_peek(s) != '.')
        return float_value(opening, bytes_of(opening->at, (size_t)(s->at - opening->at)), value);
    while (conf_scan_is_digit(conf_scan_peek(s)) || conf_scan_peek(s) == '.' ||
           conf_scan_peek(s) == ':' || conf_scan_peek(s) == '-')
        conf_scan_advance(s);
    return conf_value_text(opening, bytes_of(opening->at, (size_t)(s->at - opening->at)), value);
}

enum err conf_value_parse_number(struct conf_scan *s, struct conf_value **value)
{
    struct conf_scan opening = *s;
    bool is_negative = conf_scan_peek(s) == '-';
    if (is_negative) conf_scan_advance(s);
    if (!conf_scan_is_digit(conf_scan_peek(s)))
        return conf_fault_syntax_about(s, "A digit must follow the minus, not '",
                                       conf_scan_character(s), "'");
    while (conf_scan_is_digit(conf_scan_peek(s))) conf_scan_advance(s);

    struct bytes digits = bytes_of(opening.at, (size_t)(s->at - opening.at));
    if (conf_scan_peek(s) == '.') return parse_fraction(s, &opening, value);
    if (conf_scan_peek(s) == '-' && !is_negative) {
        if (digits.len != 4)
            return conf_fault_syntax(s, "A time must look like 2006-01-02T15:04:05Z");
        return parse_time(s, &opening, value);
    }
    const char *unit = s->at;
    if (is_unit(conf_scan_peek(s))) {
        conf_scan_advance(s);
        while (is_unit_tail(conf_scan_peek(s))) conf_scan_advance(s);
    }
    if (ends_bare(conf_scan_peek(s)) || (is_negative && unit == s->at))
        return integer_value(&opening, digits, bytes_of(unit, (size_t)(s->at - unit)), value);
    /* Not a number after all: 2s, 1h30m, 5e7bcd. A byte directly behind plain digits belongs to
     * the word whatever it is. */
    if (unit == s->at && conf_scan_peek(s) != '\\') conf_scan_advance(s);
    struct bytes variable;
    enum err e = parse_bare(s, opening.at, value, &variable);
    must(variable.len == 0);
    return e;
}
