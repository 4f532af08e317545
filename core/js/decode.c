#include "core/js/decode.h"
#include "core/base/float_text.h"
#include "core/base/must.h"

struct decode {
    struct decode_fault *fault;
    enum err e;    /* of the first fault */
    bool is_ended; /* a fault that ends everything */
};

static void fault_begin(struct decode_fault *f, struct writer *w)
{
    writer_init(w, f->text, sizeof f->text);
}

static void fault_end(struct decode_fault *f, const struct writer *w)
{
    f->len = (uint32_t)w->len;
}

static const char *kind_name(enum json_kind kind)
{
    switch (kind) {
    case JSON_KIND_NULL: return "null";
    case JSON_KIND_BOOL: return "bool";
    case JSON_KIND_INTEGER:
    case JSON_KIND_REAL: return "number";
    case JSON_KIND_TEXT: return "string";
    case JSON_KIND_ARRAY: return "array";
    case JSON_KIND_OBJECT: return "object";
    }
    return "?";
}

static const char *type_name(const struct decode_field *f)
{
    switch (f->kind) {
    case DECODE_TEXT: return "string";
    case DECODE_BOOL: return "bool";
    case DECODE_INT: return "int";
    case DECODE_I64: return "int64";
    case DECODE_U64: return "uint64";
    case DECODE_DURATION: return "time.Duration";
    case DECODE_TEXTS: return "[]string";
    case DECODE_DURATIONS: return "[]time.Duration";
    case DECODE_MAP: return "map[string]string";
    case DECODE_OBJECT: return f->shape->type;
    case DECODE_TIME:
    case DECODE_ENUM:
    case DECODE_NODE: break;
    }
    return "?";
}

/* A number as it would stand in JSON; the value of an enumeration too, if it is short. */
static void write_value(struct writer *w, const struct json_node *n)
{
    int64_t integer;
    double real;
    bool flag;
    struct bytes b;
    switch (json_kind_of(n)) {
    case JSON_KIND_INTEGER:
        if (json_as_i64(n, "", &integer, NULL) == ERR_OK) writer_i64(w, integer);
        return;
    case JSON_KIND_REAL:
        if (json_as_double(n, "", &real, NULL) != ERR_OK) return;
        char digits[FLOAT_TEXT_DIGITS_MAX];
        int point = 0;
        if (real < 0) writer_char(w, '-');
        uint32_t count = real == 0 ? 0 : float_text_digits(real < 0 ? -real : real, digits, &point);
        /* Plain where it is short, else with an exponent. */
        bool is_plain = point > -6 && point <= 21;
        if (count == 0) writer_char(w, '0');
        if (count > 0 && is_plain && point <= 0) writer_text(w, "0.");
        for (int i = point; is_plain && count > 0 && i < 0; i++) writer_char(w, '0');
        for (uint32_t i = 0; i < count; i++) {
            if ((is_plain && point > 0 && (int)i == point) || (!is_plain && i == 1))
                writer_char(w, '.');
            writer_char(w, digits[i]);
        }
        for (int i = (int)count; is_plain && count > 0 && i < point; i++) writer_char(w, '0');
        if (!is_plain) {
            writer_char(w, 'e');
            writer_i64(w, point - 1);
        }
        return;
    case JSON_KIND_BOOL:
        if (json_as_bool(n, "", &flag, NULL) == ERR_OK) writer_text(w, flag ? "true" : "false");
        return;
    case JSON_KIND_TEXT:
        if (json_as_text(n, "", &b, NULL) == ERR_OK) writer_quoted(w, b);
        return;
    case JSON_KIND_NULL: writer_text(w, "null"); return;
    case JSON_KIND_ARRAY: writer_text(w, "[]"); return;
    case JSON_KIND_OBJECT: writer_text(w, "{}"); return;
    }
}

static void wrong_type(struct decode *d, const struct json_node *n, const char *where,
                       const char *name, const char *type, bool is_number_wanted)
{
    if (d->e != ERR_OK) return;
    struct writer w;
    d->e = ERR_INVALID;
    fault_begin(d->fault, &w);
    writer_text(&w, "json: cannot unmarshal ");
    writer_text(&w, kind_name(json_kind_of(n)));
    enum json_kind kind = json_kind_of(n);
    if (is_number_wanted && (kind == JSON_KIND_INTEGER || kind == JSON_KIND_REAL)) {
        writer_char(&w, ' ');
        write_value(&w, n);
    }
    writer_text(&w, " into Go struct field ");
    writer_text(&w, where);
    writer_text(&w, name);
    writer_text(&w, " of type ");
    writer_text(&w, type);
    fault_end(d->fault, &w);
}

static void unknown_field(struct decode *d, struct bytes key)
{
    if (d->e != ERR_OK) return;
    struct writer w;
    d->e = ERR_INVALID;
    fault_begin(d->fault, &w);
    writer_text(&w, "json: unknown field ");
    writer_quoted(&w, key);
    if (w.is_full) writer_text(&w, "\"...\""); /* a name of hundreds of bytes */
    fault_end(d->fault, &w);
}

/* --- values --- */

static void decode_enum(struct decode *d, const struct json_node *n, const struct decode_field *f,
                        uint8_t *out)
{
    struct bytes word;
    bool is_text = json_as_text(n, "", &word, NULL) == ERR_OK;
    must(f->words != NULL);
    must(f->words->count <= UINT8_MAX);
    for (uint32_t i = 0; is_text && i < f->words->count; i++) {
        if (f->words->words[i] == NULL) continue;
        if (!bytes_equal(word, bytes_from_text(f->words->words[i]))) continue;
        *out = (uint8_t)i;
        return;
    }
    char raw[DECODE_FAULT_BYTES / 2];
    struct writer value, w;
    writer_init(&value, raw, sizeof raw);
    write_value(&value, n);
    d->e = ERR_INVALID;
    d->is_ended = true;
    fault_begin(d->fault, &w);
    writer_text(&w, f->words->fault);
    if (f->words->is_quoted)
        writer_quoted(&w, writer_written(&value));
    else
        writer_bytes(&w, writer_written(&value));
    fault_end(d->fault, &w);
}

static void decode_time(struct decode *d, const struct json_node *n, struct time_stamp *out)
{
    struct bytes word;
    struct writer w;
    if (json_kind_of(n) == JSON_KIND_NULL) return;
    fault_begin(d->fault, &w);
    if (json_as_text(n, "", &word, NULL) != ERR_OK)
        writer_text(&w, "Time.UnmarshalJSON: input is not a JSON string");
    else if (time_parse_rfc3339(word, out, &w) == ERR_OK)
        return;
    d->e = ERR_INVALID;
    d->is_ended = true;
    fault_end(d->fault, &w);
}

static bool is_integer(const struct json_node *n)
{
    return json_kind_of(n) == JSON_KIND_INTEGER;
}

static void check_elements(struct decode *d, const struct json_node *list, const char *where,
                           const struct decode_field *f)
{
    for (size_t i = 0; i < json_count(list); i++) {
        const struct json_node *n = json_at(list, i);
        if (json_kind_of(n) == JSON_KIND_NULL) continue;
        if (f->kind == DECODE_TEXTS && json_kind_of(n) != JSON_KIND_TEXT)
            wrong_type(d, n, where, f->name, "string", false);
        if (f->kind == DECODE_DURATIONS && !is_integer(n))
            wrong_type(d, n, where, f->name, "time.Duration", true);
    }
}

static void check_pairs(struct decode *d, const struct json_node *map, const char *where,
                        const struct decode_field *f)
{
    const void *at = NULL;
    struct bytes key;
    const struct json_node *n;
    while (json_each(map, &at, &key, &n))
        if (json_kind_of(n) != JSON_KIND_TEXT && json_kind_of(n) != JSON_KIND_NULL)
            wrong_type(d, n, where, f->name, "string", false);
}

static void decode_list(struct decode *d, const struct json_node *n, const char *where,
                        const struct decode_field *f, struct decode_list *out)
{
    enum json_kind wanted = f->kind == DECODE_MAP ? JSON_KIND_OBJECT : JSON_KIND_ARRAY;
    if (json_kind_of(n) != wanted) {
        wrong_type(d, n, where, f->name, type_name(f), false);
        return;
    }
    if (f->kind == DECODE_MAP)
        check_pairs(d, n, where, f);
    else
        check_elements(d, n, where, f);
    out->node = n;
}

static void decode_number(struct decode *d, const struct json_node *n, const char *where,
                          const struct decode_field *f, void *out)
{
    int64_t value;
    bool is_unsigned = f->kind == DECODE_U64;
    if (json_as_i64(n, "", &value, NULL) != ERR_OK || (is_unsigned && value < 0)) {
        wrong_type(d, n, where, f->name, type_name(f), true);
        return;
    }
    /* Both are 64 bits wide; the struct knows which. */
    memcpy(out, &value, sizeof value);
}

static void decode_object(struct decode *d, const struct json_node *n,
                          const struct decode_shape *shape, char *out, uint32_t depth);

static void decode_value(struct decode *d, const struct json_node *n, const char *where,
                         const struct decode_field *f, char *out, uint32_t depth)
{
    if (f->kind == DECODE_ENUM) {
        decode_enum(d, n, f, (uint8_t *)out);
        return;
    }
    if (json_kind_of(n) == JSON_KIND_NULL) return;
    enum err e = ERR_OK;
    switch (f->kind) {
    case DECODE_TEXT: e = json_as_text(n, f->name, (struct bytes *)(void *)out, NULL); break;
    case DECODE_BOOL: e = json_as_bool(n, f->name, (bool *)out, NULL); break;
    case DECODE_INT:
    case DECODE_I64:
    case DECODE_U64:
    case DECODE_DURATION: decode_number(d, n, where, f, out); return;
    case DECODE_TIME: decode_time(d, n, (struct time_stamp *)(void *)out); return;
    case DECODE_TEXTS:
    case DECODE_DURATIONS:
    case DECODE_MAP: decode_list(d, n, where, f, (struct decode_list *)(void *)out); return;
    case DECODE_OBJECT:
        if (json_kind_of(n) == JSON_KIND_OBJECT) {
            decode_object(d, n, f->shape, out, depth + 1);
            return;
        }
        e = ERR_INVALID;
        break;
    case DECODE_NODE: *(const struct json_node **)(void *)out = n; return;
    case DECODE_ENUM: break;
    }
    if (e != ERR_OK) wrong_type(d, n, where, f->name, type_name(f), false);
}

static const struct decode_field *find_field(const struct decode_shape *shape, struct bytes key)
{
    for (uint32_t i = 0; i < shape->count; i++)
        if (bytes_equal_nocase(key, bytes_from_text(shape->fields[i].name)))
            return &shape->fields[i];
    return NULL;
}

static void decode_object(struct decode *d, const struct json_node *n,
                          const struct decode_shape *shape, char *out, uint32_t depth)
{
    const void *at = NULL;
    struct bytes key;
    const struct json_node *value;
    must(depth <= DECODE_DEPTH_MAX);
    while (!d->is_ended && json_each(n, &at, &key, &value)) {
        const struct decode_field *f = find_field(shape, key);
        if (f == NULL && !shape->is_lenient)
            unknown_field(d, key);
        else if (f != NULL)
            decode_value(d, value, shape->where, f, out + f->offset, depth);
    }
}

/* --- entry --- */

enum err decode_node(const struct json_node *n, const struct decode_shape *shape, void *out,
                     struct decode_fault *fault)
{
    struct decode d = {.fault = fault};
    fault->len = 0;
    if (json_kind_of(n) == JSON_KIND_NULL) return ERR_OK;
    if (json_kind_of(n) == JSON_KIND_OBJECT) {
        decode_object(&d, n, shape, out, 1);
        return d.e;
    }
    struct writer w;
    fault_begin(fault, &w);
    writer_text(&w, "json: cannot unmarshal ");
    writer_text(&w, kind_name(json_kind_of(n)));
    writer_text(&w, " into Go value of type ");
    writer_text(&w, shape->type);
    fault_end(fault, &w);
    return ERR_INVALID;
}

/* Whether the text ends inside of its value. */
static bool is_cut(struct bytes text)
{
    bool is_string = false;
    int64_t depth = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        if (is_string && c == '\\')
            i++;
        else if (c == '"')
            is_string = !is_string;
        else if (!is_string && (c == '{' || c == '['))
            depth++;
        else if (!is_string && (c == '}' || c == ']'))
            depth--;
    }
    return is_string || depth > 0;
}

enum err decode_text(struct mem *mem, struct bytes text, const struct decode_shape *shape,
                     void *out, struct json_doc **doc, struct decode_fault *fault)
{
    struct json_fault json_fault = {{0}};
    *doc = NULL;
    fault->len = 0;
    if (bytes_trim(text).len == 0) return ERR_OK;
    enum err e = json_open(mem, MEM_JETSTREAM, text, NULL, doc, &json_fault);
    if (e == ERR_OK) {
        e = decode_node(json_root(*doc), shape, out, fault);
        if (e == ERR_OK) return ERR_OK;
        json_close(*doc);
        *doc = NULL;
        return e;
    }
    struct writer w;
    fault_begin(fault, &w);
    writer_text(&w, e == ERR_SYNTAX && is_cut(text) ? "unexpected EOF" : json_fault.text);
    fault_end(fault, &w);
    *doc = NULL;
    return e;
}

/* --- lists --- */

size_t decode_count(struct decode_list l)
{
    return l.node == NULL ? 0 : json_count(l.node);
}

struct bytes decode_text_at(struct decode_list l, size_t index)
{
    struct bytes b = {0};
    const struct json_node *n = json_at(l.node, index);
    return json_as_text(n, "", &b, NULL) == ERR_OK ? b : bytes_of("", 0);
}

int64_t decode_i64_at(struct decode_list l, size_t index)
{
    int64_t value = 0;
    return json_as_i64(json_at(l.node, index), "", &value, NULL) == ERR_OK ? value : 0;
}

bool decode_each(struct decode_list l, const void **at, struct bytes *key, struct bytes *value)
{
    const struct json_node *n;
    if (l.node == NULL || !json_each(l.node, at, key, &n)) return false;
    if (json_as_text(n, "", value, NULL) != ERR_OK) *value = bytes_of("", 0);
    return true;
}
