/* The parser of conf.h: one pass over the text, no tokens. */
#include "core/config/conf.h"
#include "core/base/must.h"

/* Enclosing maps of one file, innermost first: where variables are looked up. */
struct frame {
    struct conf_value *map;
    const struct frame *outer;
};

/* Names of environment variables whose text is being parsed, to find cycles. */
struct env_link {
    struct bytes name;
    const struct env_link *outer;
};

/* What all files of one configuration share. */
struct parse {
    struct arena *arena;
    struct conf_source *source;
    struct conf_error *error;
    uint64_t value_count; /* with variables written out */
    uint32_t include_count;
};

/* One text being read. Positions are bytes; a column counts bytes from 1. */
struct scan {
    struct parse *p;
    struct bytes file;
    const char *at, *end, *line_start;
    uint32_t line;
    uint32_t depth;         /* maps and arrays that are open here */
    uint32_t include_depth; /* files that are open above this one */
    uint32_t env_depth;
    const struct env_link *env;
    bool may_include; /* the text of an environment variable may not */
};

enum { END = -1 };
enum level { LEVEL_TOP, LEVEL_MAP };

static enum err parse_value(struct scan *s, const struct frame *frame, struct conf_value **value);

/* --- places and errors ---------------------------------------------------------------------- */

static struct conf_place place_here(const struct scan *s)
{
    return (struct conf_place){s->file, s->line, (uint32_t)(s->at - s->line_start) + 1};
}

static void error_begin(struct scan *s, struct conf_place place, struct writer *w)
{
    s->p->error->place = place;
    /* One byte stays free for the terminating zero. */
    writer_init(w, s->p->error->text, CONF_ERROR_BYTES - 1);
}

static void error_end(struct scan *s, struct writer *w)
{
    s->p->error->text[w->len] = 0;
}

/* A name in a message: as much as stays readable. */
static struct bytes clipped(struct bytes b)
{
    enum { NAME_BYTES_MAX = 200 };
    return b.len <= NAME_BYTES_MAX ? b : bytes_of(b.data, NAME_BYTES_MAX);
}

/* The words "Parse error on line N" are what client suites look for. */
static enum err syntax_about(struct scan *s, const char *before, struct bytes about,
                             const char *after)
{
    struct writer w;
    error_begin(s, place_here(s), &w);
    writer_text(&w, "Parse error on line ");
    writer_u64(&w, s->line);
    writer_text(&w, ": '");
    writer_text(&w, before);
    writer_bytes(&w, clipped(about));
    writer_text(&w, after);
    writer_char(&w, '\'');
    error_end(s, &w);
    return ERR_SYNTAX;
}

static enum err syntax(struct scan *s, const char *what)
{
    return syntax_about(s, what, bytes_of("", 0), "");
}

/* At the end of the text, like the reference: what is open since the line of opening. */
static enum err unclosed(struct scan *s, const char *what, const struct scan *opening)
{
    struct writer w;
    char line[BYTES_U64_TEXT_MAX];
    size_t len = bytes_u64_text(line, opening->line);
    char room[64];
    writer_init(&w, room, sizeof(room));
    writer_text(&w, what);
    writer_text(&w, " that opens on line ");
    writer_bytes(&w, bytes_of(line, len));
    return syntax_about(s, "The ", writer_written(&w), " is never closed");
}

static enum err out_of_memory(struct scan *s)
{
    struct writer w;
    error_begin(s, place_here(s), &w);
    writer_text(&w, "out of memory");
    error_end(s, &w);
    return ERR_MEMORY;
}

/* --- bytes ---------------------------------------------------------------------------------- */

static int peek(const struct scan *s)
{
    return s->at < s->end ? (unsigned char)*s->at : END;
}

static int peek_second(const struct scan *s)
{
    return s->end - s->at > 1 ? (unsigned char)s->at[1] : END;
}

static void advance(struct scan *s)
{
    must(s->at < s->end);
    if (*s->at++ == '\n') {
        s->line++;
        s->line_start = s->at;
    }
}

static bool is_blank(int c)
{
    return c == ' ' || c == '\t';
}

static bool is_newline(int c)
{
    return c == '\n' || c == '\r';
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool is_separator(int c)
{
    return c == '=' || c == ':';
}

/* Bytes of the space that starts at a, 0 if none does: what Unicode counts as white space, since
 * the reference skips a no-break space pasted from a web page where it stands between entries. */
static unsigned space_bytes(const char *a, const char *end)
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

static bool skip_space(struct scan *s)
{
    unsigned width = space_bytes(s->at, s->end);
    for (unsigned i = 0; i < width; i++) advance(s);
    return width > 0;
}

static void skip_spaces(struct scan *s)
{
    while (skip_space(s)) {
    }
}

static void skip_blanks(struct scan *s)
{
    while (is_blank(peek(s))) advance(s);
}

/* Up to the newline, which stays. false: no comment starts here. */
static bool skip_comment(struct scan *s)
{
    if (peek(s) != '#' && !(peek(s) == '/' && peek_second(s) == '/')) return false;
    while (peek(s) != END && !is_newline(peek(s))) advance(s);
    return true;
}

/* The character at the cursor as a slice, for messages. */
static struct bytes character(const struct scan *s)
{
    if (s->at == s->end) return BYTES_LITERAL("end of file");
    if (*s->at == '\n') return BYTES_LITERAL("newline");
    size_t len = 1;
    while (s->at + len < s->end && len < 4 && ((unsigned char)s->at[len] & 0xc0) == 0x80) len++;
    return bytes_of(s->at, (unsigned char)*s->at < 0x80 ? 1 : len);
}

/* --- values ---------------------------------------------------------------------------------- */

static enum err count_values(struct scan *s, uint64_t more)
{
    s->p->value_count += more;
    if (s->p->value_count > CONF_VALUES_MAX) return syntax(s, "more values than this server reads");
    return ERR_OK;
}

static enum err new_value(struct scan *s, enum conf_kind kind, struct conf_value **value)
{
    enum err e = count_values(s, 1);
    if (e != ERR_OK) return e;
    struct conf_value *v = arena_alloc(s->p->arena, sizeof(*v));
    if (v == NULL) return out_of_memory(s);
    *v = (struct conf_value){.kind = kind, .weight = 1, .place = place_here(s)};
    v->depth = kind == CONF_ARRAY || kind == CONF_MAP;
    *value = v;
    return ERR_OK;
}

static enum err put_entry(struct scan *s, const struct frame *frame, struct bytes key,
                          struct conf_value *value)
{
    if (conf_set(s->p->arena, frame->map, key, value) != ERR_OK) return out_of_memory(s);
    return ERR_OK;
}

/* --- texts ---------------------------------------------------------------------------------- */

static int hex_digit(int c)
{
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* After the backslash: moves past one escape. */
static enum err skip_escape(struct scan *s)
{
    int c = peek(s);
    if (c == 't' || c == 'n' || c == 'r' || c == '"' || c == '\\') {
        advance(s);
        return ERR_OK;
    }
    if (c != 'x')
        return syntax_about(s, "Unknown escape \\", character(s),
                            ", known are \\xXX \\t \\n \\r \\\" \\\\");
    if (s->end - s->at < 3 || hex_digit((unsigned char)s->at[1]) < 0 ||
        hex_digit((unsigned char)s->at[2]) < 0)
        return syntax(s, "Two hexadecimal digits must follow \\x");
    for (int i = 0; i < 3; i++) advance(s);
    return ERR_OK;
}

/* raw was checked by skip_escape, so every backslash begins a known escape. */
static enum err unescape(struct scan *s, struct bytes raw, struct bytes *text)
{
    char *out = arena_alloc(s->p->arena, raw.len);
    if (out == NULL) return out_of_memory(s);
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

/* At the opening quote, which is any byte; moves past the closing one. */
static enum err quoted(struct scan *s, bool has_escapes, struct bytes *text)
{
    char quote = *s->at;
    bool is_escaped = false;
    struct scan opening = *s;
    advance(s);
    const char *start = s->at;
    while (peek(s) != quote) {
        if (peek(s) == END) return unclosed(s, "quote", &opening);
        bool is_escape = has_escapes && peek(s) == '\\';
        advance(s);
        enum err e = is_escape ? skip_escape(s) : ERR_OK;
        if (e != ERR_OK) return e;
        is_escaped |= is_escape;
    }
    struct bytes raw = bytes_of(start, (size_t)(s->at - start));
    advance(s);
    if (is_escaped) return unescape(s, raw, text);
    *text = raw;
    return ERR_OK;
}

static enum err text_value(struct scan *s, struct bytes text, struct conf_value **value)
{
    enum err e = new_value(s, CONF_TEXT, value);
    if (e == ERR_OK) (*value)->text = text;
    return e;
}

static enum err parse_quoted(struct scan *s, struct conf_value **value)
{
    struct conf_place place = place_here(s);
    struct bytes text;
    enum err e = quoted(s, peek(s) == '"', &text);
    if (e == ERR_OK) e = text_value(s, text, value);
    if (e == ERR_OK) (*value)->place = place;
    return e;
}

/* The closing ) has a line of its own and starts it; a CR before the newline does not count as
 * nothing, as in the reference. */
static enum err parse_block(struct scan *s, struct conf_value **value)
{
    struct scan opening = *s;
    advance(s);
    const char *start = s->at;
    for (;;) {
        int c = peek(s);
        if (c == END) return unclosed(s, "block", &opening);
        bool is_alone = c == ')' && s->at == s->line_start && s->at > start &&
                        (peek_second(s) == '\n' || peek_second(s) == END);
        if (is_alone) break;
        advance(s);
    }
    enum err e = text_value(&opening, bytes_of(start, (size_t)(s->at - start)), value);
    advance(s);
    return e;
}

static bool ends_bare(int c)
{
    return c == END || is_newline(c) || is_blank(c) || c == ';' || c == ',' || c == ']' || c == '}';
}

static bool is_word(struct bytes text, const char *a, const char *b, const char *c)
{
    return bytes_equal_nocase(text, bytes_from_text(a)) ||
           bytes_equal_nocase(text, bytes_from_text(b)) ||
           bytes_equal_nocase(text, bytes_from_text(c));
}

static enum err bool_value(struct scan *s, bool boolean, struct conf_value **value)
{
    enum err e = new_value(s, CONF_BOOL, value);
    if (e == ERR_OK) (*value)->boolean = boolean;
    return e;
}

/* --- variables ------------------------------------------------------------------------------ */

static enum err parse_document(struct scan *s, struct conf_value *map);

static enum err variable_error(struct scan *s, struct bytes name, const char *what,
                               struct bytes detail)
{
    char kept[CONF_ERROR_BYTES / 2];
    struct writer w;
    writer_init(&w, kept, sizeof(kept));
    writer_bytes(&w, clipped(detail));
    struct bytes kept_detail = writer_written(&w);
    error_begin(s, place_here(s), &w);
    writer_text(&w, "variable reference for '");
    writer_bytes(&w, clipped(name));
    writer_text(&w, "' on line ");
    writer_u64(&w, s->line);
    writer_text(&w, what);
    writer_bytes(&w, kept_detail);
    error_end(s, &w);
    return ERR_SYNTAX;
}

/* The text of the environment is parsed as what would stand after a key. */
static enum err env_value(struct scan *s, struct bytes name, struct bytes content,
                          struct conf_value **value)
{
    for (const struct env_link *l = s->env; l != NULL; l = l->outer)
        if (bytes_equal(l->name, name))
            return variable_error(s, name, " could not be parsed: variable reference cycle for ",
                                  name);
    if (s->env_depth == CONF_ENV_DEPTH_MAX)
        return variable_error(s, name, " could not be parsed: too many variables in variables",
                              bytes_of("", 0));

    static const char key[] = "value=";
    char *text = arena_alloc(s->p->arena, sizeof(key) - 1 + content.len);
    struct conf_value *map = conf_new_map(s->p->arena);
    if (text == NULL || map == NULL) return out_of_memory(s);
    memcpy(text, key, sizeof(key) - 1);
    if (content.len > 0) memcpy(text + sizeof(key) - 1, content.data, content.len);

    struct env_link link = {name, s->env};
    struct scan inner = {.p = s->p,
                         .file = BYTES_LITERAL("environment"),
                         .at = text,
                         .end = text + sizeof(key) - 1 + content.len,
                         .line_start = text,
                         .line = 1,
                         .depth = s->depth,
                         .include_depth = s->include_depth,
                         .env_depth = s->env_depth + 1,
                         .env = &link};
    enum err e = parse_document(&inner, map);
    if (e == ERR_MEMORY) return e;
    if (e != ERR_OK)
        return variable_error(s, name,
                              " could not be parsed: ", bytes_from_text(s->p->error->text));
    *value = conf_get(map, BYTES_LITERAL("value"));
    must(*value != NULL);
    return ERR_OK;
}

static struct conf_value *find_in_frames(const struct frame *frame, struct bytes name)
{
    for (; frame != NULL; frame = frame->outer) {
        struct conf_value *found = conf_get(frame->map, name);
        if (found != NULL) return found;
    }
    return NULL;
}

/* The value is shared, not copied: only the place is the reference's own. */
static enum err parse_variable(struct scan *s, const struct frame *frame, struct bytes word,
                               struct conf_value **value)
{
    must(word.len > 0 && word.data[0] == '$');
    struct bytes name = bytes_of(word.data + 1, word.len - 1);
    if (bytes_starts_with(name, BYTES_LITERAL("2a$"))) return text_value(s, word, value);

    struct conf_value *found = find_in_frames(frame, name);
    struct bytes content;
    if (found != NULL) {
        found->is_used = true;
    } else if (s->p->source != NULL && s->p->source->getenv(s->p->source, name, &content)) {
        enum err e = env_value(s, name, content, &found);
        if (e != ERR_OK) return e;
    } else {
        return variable_error(s, name, " can not be found", bytes_of("", 0));
    }
    if (s->depth + found->depth > CONF_DEPTH_MAX)
        return syntax(s, "maps and arrays are nested too deeply");
    enum err e = count_values(s, found->weight);
    if (e != ERR_OK) return e;
    struct conf_value *v = arena_alloc(s->p->arena, sizeof(*v));
    if (v == NULL) return out_of_memory(s);
    *v = *found;
    v->is_used = false;
    v->place = place_here(s);
    *value = v;
    return ERR_OK;
}

/* A bare word from start on; the cursor may stand behind its first bytes already. A single quote
 * ends it too and is swallowed (nats-server does so). */
static enum err parse_bare(struct scan *s, const struct frame *frame, const char *start,
                           struct conf_value **value)
{
    struct scan opening = *s;
    opening.at = start;
    bool is_escaped = false;
    while (!ends_bare(peek(s)) && peek(s) != '\'') {
        bool is_escape = peek(s) == '\\';
        advance(s);
        enum err e = is_escape ? skip_escape(s) : ERR_OK;
        if (e != ERR_OK) return e;
        is_escaped |= is_escape;
    }
    struct bytes word = bytes_of(start, (size_t)(s->at - start));
    bool is_quote = peek(s) == '\'';
    if (is_quote) advance(s);

    if (is_escaped) {
        struct bytes text;
        enum err e = unescape(&opening, word, &text);
        return e == ERR_OK ? text_value(&opening, text, value) : e;
    }
    if (is_quote) return text_value(&opening, word, value);
    if (is_word(word, "true", "yes", "on")) return bool_value(&opening, true, value);
    if (is_word(word, "false", "no", "off")) return bool_value(&opening, false, value);
    if (word.len > 0 && word.data[0] == '$') return parse_variable(&opening, frame, word, value);
    return text_value(&opening, word, value);
}

/* --- numbers and times ---------------------------------------------------------------------- */

static bool is_unit(int c)
{
    return c != END && c != 0 && strchr("kKmMgGtTpPeE", c) != NULL;
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

static enum err integer_value(struct scan *s, struct bytes digits, struct bytes unit,
                              struct conf_value **value)
{
    int64_t number, factor, product;
    struct bytes whole = bytes_of(digits.data, digits.len + unit.len);
    if (!unit_factor(unit, &factor))
        return syntax_about(s, "'", whole, "' has a unit that does not exist");
    if (bytes_to_i64(digits, &number) != ERR_OK || __builtin_mul_overflow(number, factor, &product))
        return syntax_about(s, "integer '", whole, "' is out of the range");
    enum err e = new_value(s, CONF_INTEGER, value);
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

static enum err float_value(struct scan *s, struct bytes text, struct conf_value **value)
{
    enum { FLOAT_BYTES_MAX = 300 };
    if (text.len > FLOAT_BYTES_MAX) return syntax(s, "a number of too many digits");
    enum err e = new_value(s, CONF_FLOAT, value);
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

static enum err parse_time(struct scan *s, struct scan *opening, struct conf_value **value)
{
    static const char form[] = "0000-00-00T00:00:00Z";
    for (size_t i = 4; i < sizeof(form) - 1; i++) {
        int c = peek(s);
        bool is_right = form[i] == '0' ? is_digit(c) : c == form[i];
        if (!is_right) return syntax(s, "A time must look like 2006-01-02T15:04:05Z");
        advance(s);
    }
    if (!time_is_valid(opening->at))
        return syntax_about(opening, "'", bytes_of(opening->at, sizeof(form) - 1),
                            "' is not a time that exists");
    enum err e = new_value(opening, CONF_TIME, value);
    if (e == ERR_OK) (*value)->text = bytes_of(opening->at, sizeof(form) - 1);
    return e;
}

/* After "digits.": a float, or an address when more dots follow. */
static enum err parse_fraction(struct scan *s, struct scan *opening, struct conf_value **value)
{
    advance(s);
    if (!is_digit(peek(s)))
        return syntax_about(s, "A digit must follow the dot of a number, not '", character(s), "'");
    while (is_digit(peek(s))) advance(s);
    if (peek(s) != '.')
        return float_value(opening, bytes_of(opening->at, (size_t)(s->at - opening->at)), value);
    while (is_digit(peek(s)) || peek(s) == '.' || peek(s) == ':' || peek(s) == '-') advance(s);
    return text_value(opening, bytes_of(opening->at, (size_t)(s->at - opening->at)), value);
}

/* Something that starts with a digit or a minus. */
static enum err parse_number(struct scan *s, const struct frame *frame, struct conf_value **value)
{
    struct scan opening = *s;
    bool is_negative = peek(s) == '-';
    if (is_negative) advance(s);
    if (!is_digit(peek(s)))
        return syntax_about(s, "A digit must follow the minus, not '", character(s), "'");
    while (is_digit(peek(s))) advance(s);

    struct bytes digits = bytes_of(opening.at, (size_t)(s->at - opening.at));
    if (peek(s) == '.') return parse_fraction(s, &opening, value);
    if (peek(s) == '-' && !is_negative) {
        if (digits.len != 4) return syntax(s, "A time must look like 2006-01-02T15:04:05Z");
        return parse_time(s, &opening, value);
    }
    const char *unit = s->at;
    if (is_unit(peek(s))) {
        advance(s);
        while (is_unit_tail(peek(s))) advance(s);
    }
    if (ends_bare(peek(s)) || (is_negative && unit == s->at))
        return integer_value(&opening, digits, bytes_of(unit, (size_t)(s->at - unit)), value);
    /* Not a number after all: 2s, 1h30m, 5e7bcd. A byte directly behind plain digits belongs to
     * the word whatever it is. */
    if (unit == s->at && peek(s) != '\\') advance(s);
    return parse_bare(s, frame, opening.at, value);
}

/* --- arrays, maps, entries ------------------------------------------------------------------ */

static enum err deeper(struct scan *s)
{
    if (s->depth == CONF_DEPTH_MAX) return syntax(s, "maps and arrays are nested too deeply");
    s->depth++;
    return ERR_OK;
}

/* After a value of an array: to the next value or the bracket. A lone slash counts as a comma. */
static enum err array_separator(struct scan *s)
{
    do skip_blanks(s);
    while (skip_comment(s));
    int c = peek(s);
    if (c == ']') return ERR_OK;
    if (c != ',' && c != '/' && !is_newline(c))
        return syntax_about(s, "A comma, a newline or ] must follow a value of an array, not '",
                            character(s), "'");
    advance(s);
    return ERR_OK;
}

static enum err parse_array(struct scan *s, const struct frame *frame, struct conf_value **value)
{
    struct scan opening = *s;
    enum err e = deeper(s);
    if (e == ERR_OK) e = new_value(s, CONF_ARRAY, value);
    if (e != ERR_OK) return e;
    advance(s);
    for (;;) {
        do skip_spaces(s);
        while (skip_comment(s));
        int c = peek(s);
        if (c == ']') break;
        if (c == END) return unclosed(s, "array", &opening);
        if (c == ',' || c == '/')
            return syntax_about(s, "A value must stand here, not '", character(s), "'");
        struct conf_value *item;
        e = parse_value(s, frame, &item);
        if (e == ERR_OK && conf_add(s->p->arena, *value, item) != ERR_OK) e = out_of_memory(s);
        if (e == ERR_OK) e = array_separator(s);
        if (e != ERR_OK) return e;
    }
    advance(s);
    s->depth--;
    return ERR_OK;
}

/* "dir/of/file" and "path" with one slash between, as the reference joins them. */
static enum err join_path(struct scan *s, struct bytes path, struct bytes *joined)
{
    size_t dir = s->file.len;
    while (dir > 0 && s->file.data[dir - 1] != '/') dir--;
    while (path.len > 0 && path.data[0] == '/') {
        path.data++;
        path.len--;
    }
    char *data = arena_alloc(s->p->arena, dir + path.len + 1);
    if (data == NULL) return out_of_memory(s);
    memcpy(data, s->file.data, dir);
    if (path.len > 0) memcpy(data + dir, path.data, path.len);
    *joined = bytes_of(data, dir + path.len);
    return ERR_OK;
}

static enum err read_file(struct scan *s, struct bytes path, struct bytes *content)
{
    struct bytes why = BYTES_LITERAL("no such file or directory");
    enum err e = ERR_IO;
    if (s->p->source != NULL)
        e = s->p->source->read(s->p->source, s->p->arena, path, content, &why);
    if (e == ERR_OK) return ERR_OK;
    if (e == ERR_MEMORY) return out_of_memory(s);
    struct writer w;
    error_begin(s, place_here(s), &w);
    writer_text(&w, "open ");
    writer_bytes(&w, clipped(path));
    writer_text(&w, ": ");
    writer_bytes(&w, clipped(why));
    error_end(s, &w);
    return ERR_IO;
}

/* Every entry of the file becomes one of the map around; places keep naming the file. */
static enum err include_file(struct scan *s, const struct frame *frame, struct bytes path)
{
    if (!s->may_include) return syntax(s, "include may not stand here");
    if (s->include_depth == CONF_INCLUDE_DEPTH_MAX || s->p->include_count == CONF_INCLUDES_MAX)
        return syntax_about(s, "'", path, "' is included through too many files");
    struct bytes joined, content;
    s->p->include_count++;
    enum err e = join_path(s, path, &joined);
    if (e == ERR_OK) e = read_file(s, joined, &content);
    if (e != ERR_OK) return e;

    struct conf_value *map = conf_new_map(s->p->arena);
    if (map == NULL) return out_of_memory(s);
    struct scan inner = {.p = s->p,
                         .file = joined,
                         .at = content.data,
                         .end = content.data + content.len,
                         .line_start = content.data,
                         .line = 1,
                         .depth = s->depth,
                         .include_depth = s->include_depth + 1,
                         .may_include = true};
    e = parse_document(&inner, map);
    if (e != ERR_OK) return e;
    for (struct conf_entry *entry = map->map.first; entry != NULL; entry = entry->next) {
        e = put_entry(s, frame, entry->key, entry->value);
        if (e != ERR_OK) return e;
    }
    return ERR_OK;
}

static enum err parse_include(struct scan *s, const struct frame *frame)
{
    skip_blanks(s);
    struct scan opening = *s;
    int c = peek(s);
    struct bytes path;
    if (c == '\'' || c == '"') {
        enum err e = quoted(s, false, &path);
        return e == ERR_OK ? include_file(&opening, frame, path) : e;
    }
    if (c == '[' || c == '{' || c == '(' || c == '-' || c == '\\' || is_digit(c) || is_newline(c))
        return syntax(s, "A file name must follow include");
    while (!(peek(s) == END || is_newline(peek(s)) || is_blank(peek(s)) || peek(s) == ';' ||
             peek(s) == '}' || peek(s) == '\''))
        advance(s);
    path = bytes_of(opening.at, (size_t)(s->at - opening.at));
    if (peek(s) == '\'') advance(s);
    return include_file(&opening, frame, path);
}

/* At the first byte of a key; stands behind it afterwards. */
static enum err parse_key(struct scan *s, struct bytes *key, bool *is_bare)
{
    int c = peek(s);
    *is_bare = c != '"' && c != '\'';
    if (is_separator(c)) return syntax_about(s, "A key must stand here, not '", character(s), "'");
    if (!*is_bare) return quoted(s, false, key);
    const char *start = s->at;
    do advance(s);
    while (peek(s) != END && !is_separator(peek(s)) && space_bytes(s->at, s->end) == 0);
    *key = bytes_of(start, (size_t)(s->at - start));
    return ERR_OK;
}

/* Between key and value. Newlines may stand before the separator and, inside maps, behind it. */
static enum err key_separator(struct scan *s, enum level level, bool *is_found)
{
    skip_spaces(s);
    *is_found = is_separator(peek(s));
    if (!*is_found) return ERR_OK;
    advance(s);
    if (level == LEVEL_MAP) {
        skip_spaces(s);
        return ERR_OK;
    }
    skip_blanks(s);
    return is_newline(peek(s)) ? syntax(s, "A value must stand here, not a newline") : ERR_OK;
}

static enum err parse_entry(struct scan *s, const struct frame *frame, enum level level)
{
    struct conf_place place = place_here(s);
    struct bytes key;
    bool is_bare, has_separator;
    enum err e = parse_key(s, &key, &is_bare);
    if (e != ERR_OK) return e;
    if (!is_bare) place.column++; /* the reference points behind the quote */
    bool is_include = is_bare && bytes_equal_nocase(key, BYTES_LITERAL("include")) &&
                      space_bytes(s->at, s->end) > 0;
    if (is_include) return parse_include(s, frame);

    e = key_separator(s, level, &has_separator);
    if (e != ERR_OK) return e;
    if (level == LEVEL_TOP && !has_separator && peek(s) == END) {
        /* A brace that closes nothing is forgiven at the very end, as nats-server does. */
        if (bytes_equal(key, BYTES_LITERAL("}"))) return ERR_OK;
        return syntax_about(s, "The key '", key, "' has no value");
    }
    if (level == LEVEL_MAP && (peek(s) == ',' || peek(s) == '}'))
        return syntax_about(s, "The key '", key, "' has no value");
    struct conf_value *value;
    e = parse_value(s, frame, &value);
    if (e != ERR_OK) return e;
    value->place = place;
    return put_entry(s, frame, key, value);
}

/* After an entry of a map: to the next one or the brace. A lone slash counts as a comma. */
static enum err map_separator(struct scan *s)
{
    do skip_blanks(s);
    while (skip_comment(s));
    int c = peek(s);
    if (c == '}') return ERR_OK;
    if (c != ',' && c != ';' && c != '/' && !is_newline(c))
        return syntax_about(s, "A comma, a newline or } must follow an entry of a map, not '",
                            character(s), "'");
    advance(s);
    return ERR_OK;
}

static enum err parse_map(struct scan *s, const struct frame *outer, struct conf_value **value)
{
    struct scan opening = *s;
    enum err e = deeper(s);
    if (e == ERR_OK) e = new_value(s, CONF_MAP, value);
    if (e != ERR_OK) return e;
    struct frame frame = {*value, outer};
    advance(s);
    for (;;) {
        do skip_spaces(s);
        while (skip_comment(s));
        int c = peek(s);
        if (c == '}') break;
        if (c == END) return unclosed(s, "map", &opening);
        if (c == ']') return syntax(s, "A key must stand here, not ']'");
        if (c == '/' && peek_second(s) != END) advance(s);
        e = parse_entry(s, &frame, LEVEL_MAP);
        if (e == ERR_OK) e = map_separator(s);
        if (e != ERR_OK) return e;
    }
    advance(s);
    s->depth--;
    return ERR_OK;
}

/* The recursion is bounded by CONF_DEPTH_MAX (deeper), CONF_INCLUDE_DEPTH_MAX (include_file) and
 * CONF_ENV_DEPTH_MAX (env_value). */
static enum err parse_value(struct scan *s, const struct frame *frame, struct conf_value **value)
{
    must(s->depth <= CONF_DEPTH_MAX);
    int c = peek(s);
    if (c == '[') return parse_array(s, frame, value);
    if (c == '{') return parse_map(s, frame, value);
    if (c == '"' || c == '\'') return parse_quoted(s, value);
    if (c == '(') return parse_block(s, value);
    if (c == '-' || is_digit(c)) return parse_number(s, frame, value);
    if (c == '.') return syntax(s, "A number must start with a digit, not with '.'");
    return parse_bare(s, frame, s->at, value);
}

/* --- documents ------------------------------------------------------------------------------ */

/* After an entry outside of braces. */
static enum err top_separator(struct scan *s)
{
    for (;;) {
        if (skip_comment(s)) return ERR_OK;
        int c = peek(s);
        if (c == END) return ERR_OK;
        bool is_end = is_newline(c) || c == ';' || c == ',' || c == '}';
        if (!is_end && !is_blank(c) && c != '/')
            return syntax_about(s, "The line must end after the value, but '", character(s),
                                "' follows");
        advance(s);
        if (is_end) return ERR_OK;
    }
}

/* Entries in braces that have no key, as in JSON; braces may be doubled. Starts behind the first
 * brace, ends behind the last, or at the end of the text where an entry could start: like the
 * reference we forgive that the last brace is missing. */
static enum err parse_braces(struct scan *s, const struct frame *frame)
{
    enum { AT_ENTRY, AFTER_VALUE, AFTER_BRACE } state = AT_ENTRY;
    uint32_t level = 1;
    for (;;) {
        int c = peek(s);
        if (state == AT_ENTRY && skip_space(s)) continue;
        if (state != AT_ENTRY && is_blank(c)) {
            advance(s);
            continue;
        }
        if (skip_comment(s)) {
            if (state == AFTER_BRACE) state = AT_ENTRY;
            continue;
        }
        if (c == END) return state == AT_ENTRY ? ERR_OK : syntax(s, "A } is missing");
        if (c == '}') {
            advance(s);
            state = AFTER_BRACE;
            if (--level == 0) return ERR_OK;
        } else if (state == AT_ENTRY && c == '{') {
            if (level == CONF_DEPTH_MAX) return syntax(s, "braces are nested too deeply");
            advance(s);
            level++;
        } else if (state == AT_ENTRY) {
            if (c == '/') return syntax(s, "A key must stand here, not '/'");
            enum err e = parse_entry(s, frame, LEVEL_TOP);
            if (e != ERR_OK) return e;
            state = AFTER_VALUE;
        } else if (c == '/' || (state == AFTER_BRACE && is_newline(c))) {
            advance(s);
        } else if (is_newline(c) || c == ';' || c == ',') {
            advance(s);
            state = AT_ENTRY;
        } else {
            return syntax_about(s, "A comma, a newline or } must follow, not '", character(s), "'");
        }
    }
}

static enum err parse_document(struct scan *s, struct conf_value *map)
{
    struct frame frame = {map, NULL};
    const char *zero = s->at == s->end ? NULL : memchr(s->at, 0, (size_t)(s->end - s->at));
    if (zero != NULL) {
        while (s->at < zero) advance(s);
        return syntax(s, "A zero byte is not text");
    }
    for (;;) {
        do skip_spaces(s);
        while (skip_comment(s));
        int c = peek(s);
        if (c == END) return ERR_OK;
        enum err e;
        if (c == '/') return syntax(s, "A key must stand here, not '/'");
        if (c == '{') {
            advance(s);
            e = parse_braces(s, &frame);
        } else {
            e = parse_entry(s, &frame, LEVEL_TOP);
            if (e == ERR_OK) e = top_separator(s);
        }
        if (e != ERR_OK) return e;
    }
}

static struct scan scan_start(struct parse *p, struct bytes name, struct bytes content)
{
    return (struct scan){.p = p,
                         .file = name,
                         .at = content.data,
                         .end = content.data + content.len,
                         .line_start = content.data,
                         .line = 1,
                         .may_include = true};
}

enum err conf_parse_text(struct arena *arena, struct conf_source *source, struct bytes name,
                         struct bytes content, struct conf_value **map, struct conf_error *error)
{
    if (content.len == 0) content.data = "";
    struct parse p = {.arena = arena, .source = source, .error = error};
    struct scan s = scan_start(&p, name, content);
    struct conf_value *m = conf_new_map(arena);
    if (m == NULL) return out_of_memory(&s);
    m->place = place_here(&s);
    enum err e = parse_document(&s, m);
    if (e == ERR_OK) *map = m;
    return e;
}

enum err conf_parse_file(struct arena *arena, struct conf_source *source, struct bytes path,
                         struct conf_value **map, struct conf_error *error)
{
    struct parse p = {.arena = arena, .source = source, .error = error};
    struct scan s = scan_start(&p, path, BYTES_LITERAL(""));
    struct bytes content;
    enum err e = read_file(&s, path, &content);
    if (e != ERR_OK) {
        /* "open <path>: ..." says where already. */
        error->place = (struct conf_place){.line = 0};
        return e;
    }
    return conf_parse_text(arena, source, path, content, map, error);
}

enum err conf_parse_value(struct arena *arena, struct conf_source *source, struct bytes name,
                          struct bytes content, struct conf_value **value, struct conf_error *error)
{
    if (content.len == 0) content.data = "";
    struct parse p = {.arena = arena, .source = source, .error = error};
    struct scan s = scan_start(&p, name, content);
    struct conf_value *map = conf_new_map(arena);
    if (map == NULL) return out_of_memory(&s);
    struct frame frame = {map, NULL};
    s.may_include = false;
    if (memchr(content.data, 0, content.len) != NULL) return syntax(&s, "A zero byte is not text");
    skip_blanks(&s);
    struct conf_value *v;
    enum err e = parse_value(&s, &frame, &v);
    if (e != ERR_OK) return e;
    skip_spaces(&s);
    if (peek(&s) != END)
        return syntax_about(&s, "The text must end after the value, but '", character(&s),
                            "' follows");
    *value = v;
    return ERR_OK;
}
