#include "core/js/request.h"
#include "core/base/must.h"
#include "core/base/sort.h"
#include "core/base/utf8.h"
#include "core/js/stream_config.h"
#include "core/proto/headers.h"

enum {
    DEPTH_MAX = 10000, /* as in Go */
    PATH_MAX = 12,     /* names of the fields around a value: the types are not deep */
};

/* --- syntax: Go's scanner, with its texts ---------------------------------------------------- */

struct scan {
    const char *data;
    size_t len;
    size_t at;
    struct writer *why;
    bool has_offset;                      /* syntax errors end in " at offset n" */
    uint8_t is_object[DEPTH_MAX / 8 + 1]; /* a bit per open container */
    uint32_t depth;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void skip_blanks(struct scan *s)
{
    while (s->at < s->len && is_blank(s->data[s->at])) s->at++;
}

static void write_hex(struct writer *w, uint32_t value, unsigned digits)
{
    while (digits-- > 0) writer_char(w, "0123456789abcdef"[value >> (4 * digits) & 15]);
}

/* A byte as the rune of that number, in single quotes. */
static void write_quoted_byte(struct writer *w, uint8_t c)
{
    static const char *const short_escapes = "\aa\bb\ff\nn\rr\tt\vv\\\\''";
    writer_char(w, '\'');
    const char *e = NULL;
    for (const char *p = short_escapes; *p != 0; p += 2)
        if ((uint8_t)*p == c) e = p + 1;
    if (e != NULL) {
        writer_char(w, '\\');
        writer_char(w, *e);
    } else if (c < 0x20 || c == 0x7f) {
        writer_text(w, "\\x");
        write_hex(w, c, 2);
    } else if (c < 0x80) {
        writer_char(w, (char)c);
    } else if (c <= 0xa0 || c == 0xad) {
        writer_text(w, "\\u");
        write_hex(w, c, 4);
    } else {
        writer_char(w, (char)(0xc0 | c >> 6));
        writer_char(w, (char)(0x80 | (c & 0x3f)));
    }
    writer_char(w, '\'');
}

/* The byte at s->at is wrong there. */
static bool refuse_byte(struct scan *s, const char *context)
{
    writer_text(s->why, "invalid character ");
    write_quoted_byte(s->why, (uint8_t)s->data[s->at]);
    writer_char(s->why, ' ');
    writer_text(s->why, context);
    if (s->has_offset) {
        writer_text(s->why, " at offset ");
        writer_u64(s->why, s->at + 1);
    }
    return false;
}

static bool refuse_end(struct scan *s)
{
    writer_text(s->why, s->has_offset ? "unexpected EOF" : "unexpected end of JSON input");
    return false;
}

static bool scan_string(struct scan *s)
{
    for (s->at++; s->at < s->len; s->at++) {
        uint8_t c = (uint8_t)s->data[s->at];
        if (c == '"') {
            s->at++;
            return true;
        }
        if (c < 0x20) return refuse_byte(s, "in string literal");
        if (c != '\\') continue;
        if (++s->at == s->len) break;
        c = (uint8_t)s->data[s->at];
        if (c == 'u') {
            for (int i = 0; i < 4; i++) {
                if (++s->at == s->len) return refuse_end(s);
                c = (uint8_t)s->data[s->at];
                if (!(is_digit((char)c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
                    return refuse_byte(s, "in \\u hexadecimal character escape");
            }
        } else if (memchr("bfnrt\\/\"", c, 8) == NULL) {
            return refuse_byte(s, "in string escape code");
        }
    }
    return refuse_end(s);
}

static bool scan_digits(struct scan *s, const char *context)
{
    if (s->at == s->len) return refuse_end(s);
    if (!is_digit(s->data[s->at])) return refuse_byte(s, context);
    while (s->at < s->len && is_digit(s->data[s->at])) s->at++;
    return true;
}

static bool scan_number(struct scan *s)
{
    if (s->data[s->at] == '-') s->at++;
    if (s->at < s->len && s->data[s->at] == '0')
        s->at++;
    else if (!scan_digits(s, "in numeric literal"))
        return false;
    if (s->at < s->len && s->data[s->at] == '.') {
        s->at++;
        if (!scan_digits(s, "after decimal point in numeric literal")) return false;
    }
    if (s->at < s->len && (s->data[s->at] == 'e' || s->data[s->at] == 'E')) {
        s->at++;
        if (s->at < s->len && (s->data[s->at] == '+' || s->data[s->at] == '-')) s->at++;
        if (!scan_digits(s, "in exponent of numeric literal")) return false;
    }
    return true;
}

static bool scan_word(struct scan *s, const char *word)
{
    char context[] = "in literal ?????? (expecting '?')";
    for (size_t i = 0; word[i] != 0; i++, s->at++) {
        if (s->at == s->len) return refuse_end(s);
        if (s->data[s->at] == word[i]) continue;
        struct writer w;
        writer_init(&w, context, sizeof context - 1);
        writer_text(&w, "in literal ");
        writer_text(&w, word);
        writer_text(&w, " (expecting '");
        writer_char(&w, word[i]);
        writer_text(&w, "')");
        context[w.len] = 0;
        return refuse_byte(s, context);
    }
    return true;
}

static bool open_container(struct scan *s, bool is_object)
{
    if (s->depth == DEPTH_MAX) return refuse_byte(s, "exceeded max depth");
    uint8_t bit = (uint8_t)(1u << (s->depth & 7));
    if (is_object)
        s->is_object[s->depth >> 3] |= bit;
    else
        s->is_object[s->depth >> 3] &= (uint8_t)~bit;
    s->depth++;
    s->at++;
    return true;
}

static bool in_object(const struct scan *s)
{
    return (s->is_object[(s->depth - 1) >> 3] >> ((s->depth - 1) & 7) & 1) != 0;
}

enum want { WANT_VALUE, WANT_VALUE_OR_END, WANT_KEY, WANT_KEY_OR_END, WANT_COLON, WANT_MORE };

/* Takes the value at s->at (blanks before it are skipped already); s->at is behind it then. */
static bool scan_value(struct scan *s)
{
    enum want want = WANT_VALUE;
    s->depth = 0;
    for (;;) {
        skip_blanks(s);
        if (s->at == s->len) return refuse_end(s);
        char c = s->data[s->at];
        bool is_ended = false; /* a value or container is complete */
        switch (want) {
        case WANT_VALUE:
        case WANT_VALUE_OR_END:
            if (c == '{' || c == '[') {
                if (!open_container(s, c == '{')) return false;
                want = c == '{' ? WANT_KEY_OR_END : WANT_VALUE_OR_END;
                continue;
            }
            if (c == ']' && want == WANT_VALUE_OR_END) {
                s->at++;
                s->depth--;
            } else if (c == '"') {
                if (!scan_string(s)) return false;
            } else if (c == '-' || is_digit(c)) {
                if (!scan_number(s)) return false;
            } else if (c == 't' || c == 'f' || c == 'n') {
                if (!scan_word(s, c == 't' ? "true" : c == 'f' ? "false" : "null")) return false;
            } else {
                return refuse_byte(s, "looking for beginning of value");
            }
            is_ended = true;
            break;
        case WANT_KEY:
        case WANT_KEY_OR_END:
            if (c == '"') {
                if (!scan_string(s)) return false;
                want = WANT_COLON;
            } else if (c == '}' && want == WANT_KEY_OR_END) {
                s->at++;
                s->depth--;
                is_ended = true;
            } else {
                return refuse_byte(s, "looking for beginning of object key string");
            }
            break;
        case WANT_COLON:
            if (c != ':') return refuse_byte(s, "after object key");
            s->at++;
            want = WANT_VALUE;
            break;
        case WANT_MORE:
            if (c == ',') {
                s->at++;
                want = in_object(s) ? WANT_KEY : WANT_VALUE;
            } else if (c == (in_object(s) ? '}' : ']')) {
                s->at++;
                s->depth--;
                is_ended = true;
            } else {
                return refuse_byte(s, in_object(s) ? "after object key:value pair"
                                                   : "after array element");
            }
            break;
        }
        if (!is_ended) continue;
        if (s->depth == 0) return true;
        want = WANT_MORE;
    }
}

/* --- decoding of text that the scanner has passed -------------------------------------------- */

struct decode {
    struct arena *arena;
    const char *at;
    const char *end; /* of the text; only a number at the top can reach it */
    bool is_strict;
    bool is_refused; /* why holds the first field that did not fit */
    struct writer *why;
    const struct request_type *top;
    const struct request_type *around; /* innermost object type that is being filled */
    const char *path[PATH_MAX];
    uint32_t path_count;
    struct request_map **map; /* to be sorted at the end; NULL: none yet */
};

static void pass_blanks(struct decode *d)
{
    while (is_blank(*d->at)) d->at++;
}

static void pass_string(struct decode *d)
{
    for (d->at++; *d->at != '"'; d->at++)
        if (*d->at == '\\') d->at++;
    d->at++;
}

/* Behind the value at d->at. No more checks: the scanner has made them. */
static struct bytes pass_value(struct decode *d)
{
    const char *start = d->at;
    uint32_t depth = 0;
    do {
        pass_blanks(d);
        char c = *d->at;
        if (c == '"') {
            pass_string(d);
        } else if (c == '{' || c == '[') {
            depth++;
            d->at++;
        } else if (c == '}' || c == ']') {
            depth--;
            d->at++;
        } else if (c == ',' || c == ':') {
            d->at++;
        } else if (c == 't' || c == 'n') {
            d->at += 4;
        } else if (c == 'f') {
            d->at += 5;
        } else {
            /* The scanner ends a number by what it cannot take; so does this. */
            while (d->at < d->end && (is_digit(*d->at) || memchr("+-.eE", *d->at, 5) != NULL))
                d->at++;
        }
    } while (depth > 0);
    return bytes_of(start, (size_t)(d->at - start));
}

static uint32_t hex_value(const char *digits)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = digits[i];
        value = value << 4 | (uint32_t)(is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return value;
}

static size_t put_rune(char *out, uint32_t rune)
{
    if (rune < 0x80) {
        out[0] = (char)rune;
        return 1;
    }
    if (rune < 0x800) {
        out[0] = (char)(0xc0 | rune >> 6);
        out[1] = (char)(0x80 | (rune & 0x3f));
        return 2;
    }
    if (rune < 0x10000) {
        out[0] = (char)(0xe0 | rune >> 12);
        out[1] = (char)(0x80 | (rune >> 6 & 0x3f));
        out[2] = (char)(0x80 | (rune & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | rune >> 18);
    out[1] = (char)(0x80 | (rune >> 12 & 0x3f));
    out[2] = (char)(0x80 | (rune >> 6 & 0x3f));
    out[3] = (char)(0x80 | (rune & 0x3f));
    return 4;
}

enum { RUNE_BAD = 0xfffd };

/* One escape at in (its backslash); moves in behind it. Lone surrogates become U+FFFD. */
static size_t put_escape(char *out, const char **in)
{
    const char *p = *in + 1;
    static const char *const pairs = "b\bf\fn\nr\rt\t";
    if (*p != 'u') {
        *in = p + 1;
        out[0] = *p;
        for (const char *e = pairs; *e != 0; e += 2)
            if (*e == *p) out[0] = e[1];
        return 1;
    }
    uint32_t rune = hex_value(p + 1);
    p += 5;
    if (rune >= 0xd800 && rune < 0xe000) {
        uint32_t low = p[0] == '\\' && p[1] == 'u' ? hex_value(p + 2) : 0;
        if (rune < 0xdc00 && low >= 0xdc00 && low < 0xe000) {
            rune = 0x10000 + ((rune & 0x3ff) << 10 | (low & 0x3ff));
            p += 6;
        } else {
            rune = RUNE_BAD;
        }
    }
    *in = p;
    return put_rune(out, rune);
}

/* The text of the string at d->at. A slice of the request when nothing in it changes. */
static enum err take_text(struct decode *d, struct bytes *text)
{
    const char *start = d->at + 1;
    pass_string(d);
    struct bytes raw = bytes_of(start, (size_t)(d->at - 1 - start));
    size_t plain = 0;
    while (plain < raw.len && raw.data[plain] != '\\') {
        size_t len = utf8_length(bytes_of(raw.data + plain, raw.len - plain));
        if (len == 0) break;
        plain += len;
    }
    if (plain == raw.len) {
        *text = raw;
        return ERR_OK;
    }
    /* A bad byte becomes three; an escape never grows. */
    char *out = arena_alloc(d->arena, 3 * raw.len);
    if (out == NULL) return ERR_MEMORY;
    size_t len = 0;
    const char *in = raw.data, *end = raw.data + raw.len;
    while (in < end) {
        if (*in == '\\') {
            len += put_escape(out + len, &in);
            continue;
        }
        size_t sequence = utf8_length(bytes_of(in, (size_t)(end - in)));
        if (sequence == 0) {
            len += put_rune(out + len, RUNE_BAD);
            in++;
            continue;
        }
        memcpy(out + len, in, sequence);
        len += sequence;
        in += sequence;
    }
    *text = bytes_of(out, len);
    return ERR_OK;
}

/* --- what does not fit ----------------------------------------------------------------------- */

/* "json: cannot unmarshal <value> into Go struct field <path> of type <type>". The first such
 * error of a text is the one that is reported. */
static void note_type(struct decode *d, const char *value, struct bytes raw, const char *before,
                      const char *go_type)
{
    if (d->is_refused) return;
    d->is_refused = true;
    struct writer *w = d->why;
    writer_text(w, "json: cannot unmarshal ");
    writer_text(w, value);
    writer_bytes(w, raw);
    writer_text(w, " into Go ");
    if (d->path_count == 0) {
        writer_text(w, "value");
    } else {
        writer_text(w, "struct field ");
        writer_text(w, d->around->go_name);
        for (uint32_t i = 0; i < d->path_count; i++) {
            writer_char(w, '.');
            writer_text(w, d->path[i]);
        }
    }
    writer_text(w, " of type ");
    writer_text(w, before);
    writer_text(w, go_type);
}

static const char *kind_at(const char *at)
{
    switch (*at) {
    case '{': return "object";
    case '[': return "array";
    case '"': return "string";
    case 't':
    case 'f': return "bool";
    default: return "number";
    }
}

/* Passes the value at d->at, which is of another JSON type than its field. */
static enum err refuse_kind(struct decode *d, const char *before, const char *go_type)
{
    note_type(d, kind_at(d->at), BYTES_LITERAL(""), before, go_type);
    pass_value(d);
    return ERR_OK;
}

/* A value that its own parser refuses ends the decoding and wins over what was noted before. */
static struct writer *refuse_now(struct decode *d)
{
    d->why->len = 0;
    d->why->is_full = false;
    return d->why;
}

/* --- values ---------------------------------------------------------------------------------- */

static enum err decode_field(struct decode *d, const struct request_field *f, void *out);

/* Whoever writes such an object from a struct writes it in about the order of the fields: *next is
 * where to look first. */
static const struct request_field *find_field(const struct request_type *t, struct bytes name,
                                              uint32_t *next)
{
    for (uint32_t i = 0, at = *next; i < t->field_count; i++, at++) {
        if (at >= t->field_count) at = 0;
        if (!bytes_equal(bytes_from_text(t->fields[at].name), name)) continue;
        *next = at + 1;
        return &t->fields[at];
    }
    for (uint32_t i = 0; i < t->field_count; i++)
        if (bytes_equal_nocase(bytes_from_text(t->fields[i].name), name)) return &t->fields[i];
    return NULL;
}

static void note_unknown(struct decode *d, struct bytes name)
{
    if (!d->is_strict || d->is_refused) return;
    d->is_refused = true;
    writer_text(d->why, "json: unknown field ");
    writer_quoted(d->why, name);
}

static enum err decode_object(struct decode *d, const struct request_type *t, void *out)
{
    const struct request_type *around = d->around;
    uint32_t path_count = d->path_count, next = 0;
    must(path_count + 2 <= PATH_MAX);
    d->around = t;
    d->at++;
    pass_blanks(d);
    while (*d->at != '}') {
        struct bytes name;
        enum err e = take_text(d, &name);
        if (e != ERR_OK) return e;
        pass_blanks(d);
        d->at++; /* the colon */
        pass_blanks(d);
        const struct request_field *f = find_field(t, name, &next);
        if (f == NULL) {
            note_unknown(d, name);
            pass_value(d);
        } else {
            if (f->embedded != NULL) d->path[d->path_count++] = f->embedded;
            d->path[d->path_count++] = f->name;
            e = decode_field(d, f, (char *)out + f->offset);
            if (e != ERR_OK) return e;
            d->path_count = path_count;
        }
        pass_blanks(d);
        if (*d->at == ',') d->at++;
        pass_blanks(d);
    }
    d->at++;
    d->around = around;
    return ERR_OK;
}

/* How many elements the array at d->at has. */
static uint32_t count_elements(struct decode *d)
{
    const char *start = d->at;
    uint32_t count = 0;
    d->at++;
    pass_blanks(d);
    while (*d->at != ']') {
        pass_value(d);
        count++;
        pass_blanks(d);
        if (*d->at == ',') d->at++;
        pass_blanks(d);
    }
    d->at = start;
    return count;
}

/* At the first element or the end; then after each element. False at the end, which is passed. */
static bool next_element(struct decode *d, bool is_first)
{
    if (is_first) d->at++;
    pass_blanks(d);
    if (!is_first && *d->at == ',') d->at++;
    pass_blanks(d);
    if (*d->at != ']') return true;
    d->at++;
    return false;
}

static const struct {
    const char *go_type;
    bool is_signed;
    int64_t low;
    uint64_t high;
} integers[] = {
    [REQUEST_INT] = {"int", true, INT64_MIN, INT64_MAX},
    [REQUEST_INT32] = {"int32", true, INT32_MIN, INT32_MAX},
    [REQUEST_INT64] = {"int64", true, INT64_MIN, INT64_MAX},
    [REQUEST_UINT64] = {"uint64", false, 0, UINT64_MAX},
    [REQUEST_DURATION] = {"time.Duration", true, INT64_MIN, INT64_MAX},
};

static enum err decode_integer(struct decode *d, enum request_kind kind, void *out)
{
    if (*d->at != '-' && !is_digit(*d->at)) return refuse_kind(d, "", integers[kind].go_type);
    struct bytes raw = pass_value(d);
    bool is_negative = raw.data[0] == '-';
    struct bytes digits = bytes_of(raw.data + is_negative, raw.len - is_negative);
    uint64_t magnitude;
    bool is_fit = bytes_to_u64(digits, BYTES_U64_TEXT_MAX, &magnitude) == ERR_OK;
    if (is_fit && is_negative)
        is_fit =
            integers[kind].is_signed && magnitude <= (uint64_t)0 - (uint64_t)integers[kind].low;
    else if (is_fit)
        is_fit = magnitude <= integers[kind].high;
    if (!is_fit) {
        note_type(d, "number ", raw, "", integers[kind].go_type);
        return ERR_OK;
    }
    uint64_t value = is_negative ? (uint64_t)0 - magnitude : magnitude;
    if (kind == REQUEST_INT32)
        *(int32_t *)out = (int32_t)(int64_t)value;
    else
        memcpy(out, &value, sizeof value);
    return ERR_OK;
}

static enum err decode_bool(struct decode *d, bool *out)
{
    if (*d->at != 't' && *d->at != 'f') return refuse_kind(d, "", "bool");
    *out = *d->at == 't';
    pass_value(d);
    return ERR_OK;
}

static enum err decode_text(struct decode *d, struct bytes *out)
{
    if (*d->at != '"') return refuse_kind(d, "", "string");
    return take_text(d, out);
}

static enum err decode_enum(struct decode *d, const struct request_enum *values, void *out)
{
    const char *start = d->at;
    struct bytes raw = pass_value(d);
    if (raw.data[0] == '"') {
        struct bytes inner = bytes_of(raw.data + 1, raw.len - 2);
        for (uint32_t i = 0; values->values[i].text != NULL; i++) {
            if (!bytes_equal(bytes_from_text(values->values[i].text), inner)) continue;
            memcpy(out, &values->values[i].value, sizeof(uint32_t));
            return ERR_OK;
        }
    }
    struct writer *w = refuse_now(d);
    if (values->is_text_first && *start != '"' && *start != 'n') {
        d->is_refused = false;
        note_type(d, kind_at(start), BYTES_LITERAL(""), "", "string");
        return ERR_SYNTAX;
    }
    if (values->refusal == NULL) {
        writer_text(w, "can not unmarshal ");
        writer_quoted(w, raw);
        return ERR_SYNTAX;
    }
    writer_text(w, values->refusal);
    if (bytes_ends_with(bytes_from_text(values->refusal), BYTES_LITERAL(" "))) writer_bytes(w, raw);
    return ERR_SYNTAX;
}

static enum err decode_time(struct decode *d, struct time_stamp *out)
{
    struct bytes raw = pass_value(d);
    struct writer *w = d->why;
    if (raw.data[0] != '"') {
        writer_text(refuse_now(d), "Time.UnmarshalJSON: input is not a JSON string");
        return ERR_SYNTAX;
    }
    char text[JSAPI_ERROR_TEXT_BYTES];
    struct writer why;
    writer_init(&why, text, sizeof text);
    if (time_parse_rfc3339(bytes_of(raw.data + 1, raw.len - 2), out, &why) != ERR_OK) {
        w = refuse_now(d);
        writer_bytes(w, writer_written(&why));
        return ERR_SYNTAX;
    }
    return ERR_OK;
}

static enum err decode_texts(struct decode *d, struct request_texts *out)
{
    if (*d->at != '[') return refuse_kind(d, "[]", "string");
    uint32_t count = count_elements(d);
    struct bytes *items = arena_alloc(d->arena, count * sizeof *items);
    if (items == NULL) return ERR_MEMORY;
    for (uint32_t i = 0; next_element(d, i == 0); i++) {
        if (*d->at == 'n') {
            pass_value(d);
            items[i] = BYTES_LITERAL("");
            continue;
        }
        enum err e = decode_text(d, &items[i]);
        if (e != ERR_OK) return e;
    }
    *out = (struct request_texts){items, count};
    return ERR_OK;
}

static enum err decode_durations(struct decode *d, struct request_durations *out)
{
    if (*d->at != '[') return refuse_kind(d, "[]", "time.Duration");
    uint32_t count = count_elements(d);
    int64_t *items = arena_alloc(d->arena, count * sizeof *items);
    if (items == NULL) return ERR_MEMORY;
    for (uint32_t i = 0; next_element(d, i == 0); i++) {
        if (*d->at == 'n') {
            pass_value(d);
            continue;
        }
        enum err e = decode_integer(d, REQUEST_DURATION, &items[i]);
        if (e != ERR_OK) return e;
    }
    *out = (struct request_durations){items, count};
    return ERR_OK;
}

/* Behind those that are there: they are sorted once, at the end of the text. */
static enum err map_add(struct decode *d, struct request_map *m, struct request_pair pair)
{
    if (m->count == REQUEST_PAIRS_MAX) {
        writer_text(refuse_now(d), "json: too many pairs in a map");
        return ERR_SYNTAX;
    }
    if (m->count >= m->room) {
        uint32_t room = m->count < 8 ? 16 : 2 * m->count;
        struct request_pair *items = arena_alloc(d->arena, room * sizeof *items);
        if (items == NULL) return ERR_MEMORY;
        if (m->count > 0) memcpy(items, m->items, m->count * sizeof *items);
        m->items = items;
        m->room = room;
    }
    m->items[m->count++] = pair;
    return ERR_OK;
}

/* Of the same key the last one comes last. */
static int by_key(const void *a, const void *b)
{
    const struct request_pair *x = a, *y = b;
    int order = bytes_compare(x->key, y->key);
    return order != 0 ? order : x < y ? -1 : x > y;
}

/* The last pair of each key. */
static enum err map_sort(struct arena *arena, struct request_map *m)
{
    const void **order = arena_alloc(arena, m->count * sizeof *order);
    struct request_pair *items = arena_alloc(arena, m->count * sizeof *items);
    if (order == NULL || items == NULL) return ERR_MEMORY;
    for (uint32_t i = 0; i < m->count; i++) order[i] = &m->items[i];
    sort_pointers(order, m->count, by_key);
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->count; i++) {
        const struct request_pair *pair = order[i];
        if (count > 0 && bytes_equal(items[count - 1].key, pair->key)) count--;
        items[count++] = *pair;
    }
    *m = (struct request_map){.items = items, .count = count};
    return ERR_OK;
}

static enum err decode_map(struct decode *d, struct request_map *out)
{
    if (*d->at != '{') return refuse_kind(d, "map[string]", "string");
    must(*d->map == NULL || *d->map == out);
    *d->map = out;
    d->at++;
    pass_blanks(d);
    while (*d->at != '}') {
        struct request_pair pair = {.value = BYTES_LITERAL("")};
        enum err e = take_text(d, &pair.key);
        if (e != ERR_OK) return e;
        pass_blanks(d);
        d->at++;
        pass_blanks(d);
        if (*d->at == 'n')
            pass_value(d);
        else
            e = decode_text(d, &pair.value);
        if (e == ERR_OK) e = map_add(d, out, pair);
        if (e != ERR_OK) return e;
        pass_blanks(d);
        if (*d->at == ',') d->at++;
        pass_blanks(d);
    }
    d->at++;
    return ERR_OK;
}

static enum err decode_objects(struct decode *d, const struct request_field *f,
                               struct request_objects *out)
{
    bool is_pointers = f->kind == REQUEST_POINTERS;
    if (*d->at != '[')
        return refuse_kind(d, is_pointers ? "[]*server." : "[]server.", f->type->go_name);
    uint32_t count = count_elements(d);
    void **pointers = is_pointers ? arena_alloc(d->arena, count * sizeof *pointers) : NULL;
    char *structs = arena_alloc(d->arena, (size_t)count * f->type->bytes);
    if (structs == NULL || (is_pointers && pointers == NULL)) return ERR_MEMORY;
    for (uint32_t i = 0; next_element(d, i == 0); i++) {
        void *element = structs + (size_t)i * f->type->bytes;
        enum err e = ERR_OK;
        if (is_pointers && *d->at != 'n') pointers[i] = element;
        if (*d->at == '{')
            e = decode_object(d, f->type, element);
        else if (*d->at == 'n')
            pass_value(d);
        else
            e = refuse_kind(d, "server.", f->type->go_name);
        if (e != ERR_OK) return e;
    }
    *out = (struct request_objects){is_pointers ? (void *)pointers : structs, count};
    return ERR_OK;
}

static enum err decode_struct(struct decode *d, const struct request_field *f, void *out)
{
    if (*d->at != '{') return refuse_kind(d, "server.", f->type->go_name);
    if (f->kind == REQUEST_OBJECT) return decode_object(d, f->type, out);
    void **pointer = out;
    if (*pointer == NULL) {
        *pointer = arena_alloc(d->arena, f->type->bytes);
        if (*pointer == NULL) return ERR_MEMORY;
    }
    return decode_object(d, f->type, *pointer);
}

static void set_null(const struct request_field *f, void *out)
{
    switch (f->kind) {
    case REQUEST_TIME: *(struct time_stamp *)out = (struct time_stamp){0}; break;
    case REQUEST_TEXTS: *(struct request_texts *)out = (struct request_texts){0}; break;
    case REQUEST_DURATIONS: *(struct request_durations *)out = (struct request_durations){0}; break;
    case REQUEST_MAP: *(struct request_map *)out = (struct request_map){0}; break;
    case REQUEST_POINTER: *(void **)out = NULL; break;
    case REQUEST_POINTERS:
    case REQUEST_OBJECTS: *(struct request_objects *)out = (struct request_objects){0}; break;
    default: break;
    }
}

static enum err decode_field(struct decode *d, const struct request_field *f, void *out)
{
    if (*d->at == 'n' && f->kind != REQUEST_ENUM) {
        set_null(f, out);
        pass_value(d);
        return ERR_OK;
    }
    switch (f->kind) {
    case REQUEST_BOOL: return decode_bool(d, out);
    case REQUEST_INT:
    case REQUEST_INT32:
    case REQUEST_INT64:
    case REQUEST_UINT64:
    case REQUEST_DURATION: return decode_integer(d, f->kind, out);
    case REQUEST_TEXT: return decode_text(d, out);
    case REQUEST_TIME: return decode_time(d, out);
    case REQUEST_TEXTS: return decode_texts(d, out);
    case REQUEST_DURATIONS: return decode_durations(d, out);
    case REQUEST_MAP: return decode_map(d, out);
    case REQUEST_ENUM: return decode_enum(d, f->values, out);
    case REQUEST_OBJECT:
    case REQUEST_POINTER: return decode_struct(d, f, out);
    case REQUEST_POINTERS:
    case REQUEST_OBJECTS: return decode_objects(d, f, out);
    }
    must(false);
    return ERR_SYNTAX;
}

static enum err decode_top(struct decode *d, void *out)
{
    if (*d->at == '{') return decode_object(d, d->top, out);
    if (*d->at == 'n') {
        pass_value(d);
        return ERR_OK;
    }
    return refuse_kind(d, "server.", d->top->go_name);
}

/* --- entry points ---------------------------------------------------------------------------- */

enum err request_decode(struct arena *arena, struct bytes text, const struct request_type *type,
                        enum request_mode mode, void *out, struct writer *why)
{
    struct scan s = {.data = text.data, .len = text.len, .why = why};
    struct request_map *map = NULL;
    s.has_offset = mode == REQUEST_STRICT;
    for (;;) {
        skip_blanks(&s);
        if (s.at == s.len) return map == NULL ? ERR_OK : map_sort(arena, map);
        size_t start = s.at;
        if (!scan_value(&s)) return ERR_SYNTAX;
        size_t end = s.at;
        if (mode == REQUEST_LENIENT) {
            skip_blanks(&s);
            if (s.at < s.len) {
                (void)refuse_byte(&s, "after top-level value");
                return ERR_SYNTAX;
            }
        }
        struct decode d = {.arena = arena, .at = text.data + start, .end = text.data + end};
        d.is_strict = mode == REQUEST_STRICT;
        d.why = why;
        d.top = type;
        d.map = &map;
        enum err e = decode_top(&d, out);
        if (e == ERR_OK && d.is_refused) e = ERR_SYNTAX;
        if (e != ERR_OK) return e;
        must(d.at == d.end);
    }
}

bool request_read(struct arena *arena, struct bytes text, const struct request_type *type,
                  enum request_mode mode, void *out, struct jsapi_error *error)
{
    char buffer[JSAPI_ERROR_TEXT_BYTES];
    struct writer why;
    writer_init(&why, buffer, sizeof buffer);
    switch (request_decode(arena, text, type, mode, out, &why)) {
    case ERR_OK: return true;
    case ERR_MEMORY: return jsapi_error_refuse(error, JSAPI_INSUFFICIENT_RESOURCES);
    default: return jsapi_error_refuse_text(error, JSAPI_INVALID_JSON, writer_written(&why));
    }
}

bool request_is_container(struct bytes text)
{
    size_t i = 0;
    while (i < text.len && is_blank(text.data[i])) i++;
    return i < text.len && (text.data[i] == '{' || text.data[i] == '[');
}

bool request_is_empty(struct bytes text)
{
    if (text.len == 0) return true;
    text = bytes_trim(text);
    return text.len >= 2 && text.data[0] == '{' && text.data[text.len - 1] == '}' &&
           bytes_trim(bytes_of(text.data + 1, text.len - 2)).len == 0;
}

bool request_needs_higher_level(struct bytes headers)
{
    struct bytes value;
    uint64_t level;
    if (!headers_find(headers, BYTES_LITERAL("Nats-Required-Api-Level"), &value)) return false;
    if (value.len == 0) return false;
    return bytes_to_u64(value, BYTES_U64_TEXT_MAX, &level) != ERR_OK || level > JS_API_LEVEL;
}
