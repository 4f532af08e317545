#include "core/config/load.h"
#include "core/base/duration.h"
#include "core/base/must.h"
#include "core/base/time_text.h"

#define SYNC_ALWAYS "always"

/* --- the report ----------------------------------------------------------------------------- */

static struct text *line_begin(struct text *out, uint32_t *count, const struct conf_value *v)
{
    (*count)++;
    if (v != NULL && v->place.file.len > 0) {
        conf_place_print(v->place, out);
        text_string(out, ": ");
    }
    return out;
}

struct text *load_error(struct load *l, const struct conf_value *v)
{
    return line_begin(&l->report->errors, &l->report->error_count, v);
}

struct text *load_warning(struct load *l, const struct conf_value *v)
{
    return line_begin(&l->report->warnings, &l->report->warning_count, v);
}

struct text *load_notice(struct load *l, const struct conf_value *v)
{
    return line_begin(&l->report->notices, &l->report->notice_count, v);
}

void load_end(struct text *line)
{
    text_char(line, '\n');
}

void load_error_text(struct load *l, const struct conf_value *v, const char *text)
{
    struct text *line = load_error(l, v);
    text_string(line, text);
    load_end(line);
}

void load_quoted(struct text *out, struct bytes b)
{
    /* In pieces: one byte becomes at most four, and the quotes are not wanted in between. */
    enum { PIECE_BYTES = 64 };
    char room[PIECE_BYTES * 4 + 2];
    text_char(out, '"');
    for (size_t at = 0; at < b.len; at += PIECE_BYTES) {
        struct writer w;
        size_t len = b.len - at < PIECE_BYTES ? b.len - at : PIECE_BYTES;
        writer_init(&w, room, sizeof(room));
        writer_quoted(&w, bytes_of(b.data + at, len));
        must(!w.is_full);
        text_bytes(out, bytes_of(room + 1, w.len - 2));
    }
    text_char(out, '"');
}

void load_wrong_type(struct load *l, const struct conf_value *v, struct bytes name,
                     const char *wanted)
{
    struct text *line = load_error(l, v);
    load_quoted(line, name);
    text_string(line, " must be ");
    text_string(line, wanted);
    text_string(line, ", not ");
    text_string(line, conf_kind_text(v->kind));
    load_end(line);
}

void load_unknown(struct load *l, const struct conf_value *v, struct bytes name)
{
    if (v->is_used) return;
    struct text *line = load_error(l, v);
    text_string(line, "unknown field ");
    load_quoted(line, name);
    load_end(line);
}

void load_refused(struct load *l, const struct conf_value *v, struct bytes name)
{
    bool is_nothing = (v->kind == CONF_BOOL && !v->boolean) ||
                      (v->kind == CONF_MAP && v->map.count == 0) ||
                      (v->kind == CONF_ARRAY && v->array.count == 0);
    if (is_nothing) return;
    struct text *line = load_error(l, v);
    load_quoted(line, name);
    text_string(line, " is not supported yet");
    load_end(line);
}

void load_idle(struct load *l, const struct conf_value *v, struct bytes name, const char *why)
{
    struct text *line = load_notice(l, v);
    load_quoted(line, name);
    text_string(line, " has no effect: ");
    text_string(line, why);
    load_end(line);
}

/* --- single values -------------------------------------------------------------------------- */

bool load_bool(struct load *l, const struct conf_value *v, struct bytes name, bool *out)
{
    if (v->kind != CONF_BOOL) {
        load_wrong_type(l, v, name, "a boolean");
        return false;
    }
    *out = v->boolean;
    return true;
}

bool load_integer(struct load *l, const struct conf_value *v, struct bytes name, int64_t *out)
{
    if (v->kind != CONF_INTEGER) {
        load_wrong_type(l, v, name, "an integer");
        return false;
    }
    *out = v->integer;
    return true;
}

bool load_text(struct load *l, const struct conf_value *v, struct bytes name, struct bytes *out)
{
    if (v->kind != CONF_TEXT) {
        load_wrong_type(l, v, name, "a string");
        return false;
    }
    if (bytes_find(v->text, 0) < v->text.len) {
        struct text *line = load_error(l, v);
        load_quoted(line, name);
        text_string(line, " must not contain a zero byte");
        load_end(line);
        return false;
    }
    *out = v->text;
    return true;
}

static bool parse_duration(struct load *l, const struct conf_value *v, struct bytes name,
                           int64_t *ns)
{
    struct bytes unit;
    enum err e = duration_parse(v->text, ns, &unit);
    if (e == ERR_OK) return true;
    struct text *line = load_error(l, v);
    text_string(line, "error parsing ");
    text_bytes(line, name);
    text_string(line, ": time: ");
    if (e == ERR_UNKNOWN) {
        text_string(line, "unknown unit ");
        load_quoted(line, unit);
        text_string(line, " in duration ");
    } else {
        text_string(line, e == ERR_INCOMPLETE ? "missing unit in duration " : "invalid duration ");
    }
    load_quoted(line, v->text);
    load_end(line);
    return false;
}

static bool too_big(struct load *l, const struct conf_value *v, struct bytes name)
{
    struct text *line = load_error(l, v);
    text_bytes(line, name);
    text_string(line, " value is too big");
    load_end(line);
    return false;
}

bool load_seconds(struct load *l, const struct conf_value *v, struct bytes name, int64_t *ns)
{
    enum { SECONDS_MAX = INT32_MAX };
    double seconds;
    if (v->kind == CONF_TEXT) return parse_duration(l, v, name, ns);
    if (v->kind == CONF_INTEGER) {
        seconds = (double)v->integer;
    } else if (v->kind == CONF_FLOAT) {
        seconds = v->number;
    } else {
        load_wrong_type(l, v, name, "a number of seconds or a duration");
        return false;
    }
    if (!(seconds >= 0 && seconds <= SECONDS_MAX)) return too_big(l, v, name);
    *ns = (int64_t)(seconds * 1e9);
    return true;
}

/* A bare integer means seconds, as long ago; under -t the warning makes that an error. */
static bool load_duration(struct load *l, const struct conf_value *v, struct bytes name,
                          int64_t *ns)
{
    if (v->kind == CONF_TEXT) return parse_duration(l, v, name, ns);
    if (v->kind != CONF_INTEGER) {
        load_wrong_type(l, v, name, "a duration");
        return false;
    }
    struct text *line = load_warning(l, v);
    text_string(line, "invalid use of field ");
    load_quoted(line, name);
    text_string(line, ": ");
    text_bytes(line, name);
    text_string(line, " should be converted to a duration");
    load_end(line);
    if (__builtin_mul_overflow(v->integer, INT64_C(1000000000), ns)) return too_big(l, v, name);
    return true;
}

enum err load_keep(struct load *l, struct bytes text, struct bytes *kept)
{
    return arena_text(l->arena, text, kept);
}

enum err load_texts(struct load *l, const struct conf_value *v, struct bytes name,
                    struct options_texts *out, bool *is_valid)
{
    *is_valid = false;
    struct conf_item single = {.value = (struct conf_value *)v};
    const struct conf_item *first = &single;
    uint32_t count = 1;
    if (v->kind == CONF_ARRAY) {
        first = v->array.first;
        count = v->array.count;
    } else if (v->kind != CONF_TEXT) {
        load_wrong_type(l, v, name, "a string or an array of strings");
        return ERR_OK;
    }
    struct bytes *items = arena_alloc(l->arena, count * sizeof(*items));
    if (items == NULL) return ERR_MEMORY;
    uint32_t filled = 0;
    for (const struct conf_item *i = first; i != NULL; i = i->next) {
        struct bytes text;
        if (!load_text(l, i->value, name, &text)) return ERR_OK;
        enum err e = load_keep(l, text, &items[filled++]);
        if (e != ERR_OK) return e;
    }
    must(filled == count);
    *out = (struct options_texts){items, count};
    *is_valid = true;
    return ERR_OK;
}

/* --- fields --------------------------------------------------------------------------------- */

static void *field_of(struct load *l, const struct option *o)
{
    must(option_has_field(o));
    return (char *)l->o + o->offset;
}

static void store_integer(struct load *l, const struct option *o, int64_t value)
{
    void *field = field_of(l, o);
    switch (o->type) {
    case OPTION_INT32: *(int32_t *)field = (int32_t)value; break;
    case OPTION_U32: *(uint32_t *)field = (uint32_t)value; break;
    case OPTION_U8: *(uint8_t *)field = (uint8_t)value; break;
    default: *(int64_t *)field = value; break;
    }
}

/* An integer, or a text that ends in K, M, G or T, the powers of 1024. */
static bool load_size(struct load *l, const struct conf_value *v, struct bytes name, int64_t *out)
{
    static const char units[] = "KMGT";
    if (v->kind == CONF_INTEGER) {
        *out = v->integer;
        return true;
    }
    *out = 0;
    if (v->kind == CONF_TEXT && v->text.len == 0) return true;
    struct bytes number =
        v->kind == CONF_TEXT ? bytes_of(v->text.data, v->text.len - 1) : BYTES_LITERAL("");
    const char *unit =
        number.len > 0 ? memchr(units, number.data[number.len], sizeof(units) - 1) : NULL;
    bool is_valid = unit != NULL && bytes_to_i64(number, out) == ERR_OK &&
                    !__builtin_mul_overflow(*out, INT64_C(1024) << 10 * (unit - units), out);
    if (is_valid) return true;
    struct text *line = load_error(l, v);
    text_bytes(line, name);
    text_string(line, " must be an integer, or a string that ends in K, M, G or T");
    load_end(line);
    return false;
}

static bool load_sync(struct load *l, const struct conf_value *v, struct bytes name, int64_t *ns)
{
    if (v->kind == CONF_TEXT && bytes_equal_nocase(v->text, BYTES_LITERAL(SYNC_ALWAYS))) {
        *ns = 0;
        return true;
    }
    return load_duration(l, v, name, ns);
}

static bool is_duration(const struct option *o)
{
    return o->type == OPTION_DURATION || o->type == OPTION_DURATION_TEXT ||
           o->type == OPTION_SECONDS;
}

static void put_number(struct text *out, const struct option *o, int64_t value)
{
    if (is_duration(o))
        time_text_duration(out, value);
    else
        text_i64(out, value);
}

static void load_number(struct load *l, const struct option *o, const struct conf_value *v,
                        struct bytes name)
{
    int64_t value;
    bool is_read;
    if (o->type == OPTION_DURATION) {
        is_read = load_duration(l, v, name, &value);
    } else if (o->type == OPTION_SECONDS) {
        is_read = load_seconds(l, v, name, &value);
    } else if (o->type == OPTION_DURATION_TEXT) {
        is_read = v->kind == CONF_TEXT && parse_duration(l, v, name, &value);
        if (v->kind != CONF_TEXT) load_wrong_type(l, v, name, "a duration");
    } else if (o->type == OPTION_SIZE) {
        is_read = load_size(l, v, name, &value);
    } else if (o->type == OPTION_SYNC) {
        is_read = load_sync(l, v, name, &value);
    } else {
        is_read = load_integer(l, v, name, &value);
    }
    if (!is_read) return;
    if (value == 0 && (o->traits & OPTION_ZERO)) return;
    if (value == 0 && (o->traits & OPTION_MINUS)) value = -1;
    if (value > o->max) {
        too_big(l, v, name);
    } else if (value < o->min) {
        struct text *line = load_error(l, v);
        text_string(line, "invalid ");
        text_bytes(line, name);
        text_string(line, " of ");
        put_number(line, o, value);
        text_string(line, ", minimum is ");
        text_i64(line, is_duration(o) ? o->min / INT64_C(1000000000) : o->min);
        if (is_duration(o)) text_string(line, " seconds");
        load_end(line);
    } else {
        store_integer(l, o, value);
    }
}

static enum err load_text_field(struct load *l, const struct option *o, const struct conf_value *v,
                                struct bytes name)
{
    struct bytes text;
    if (!load_text(l, v, name, &text)) return ERR_OK;
    if (text.len == 0 && (o->traits & OPTION_ZERO)) return ERR_OK;
    if (o->type == OPTION_NAME && bytes_find(text, ' ') < text.len) {
        /* server_name: "server name cannot contain spaces", as in nats-server. */
        bool is_server = bytes_starts_with(bytes_from_text(o->path), BYTES_LITERAL("server"));
        load_error_text(l, v,
                        is_server ? "server name cannot contain spaces"
                                  : "cluster name cannot contain spaces");
        return ERR_OK;
    }
    if (o->type == OPTION_NAME && bytes_equal(text, BYTES_LITERAL("_"))) {
        bool is_cluster = bytes_starts_with(bytes_from_text(o->path), BYTES_LITERAL("cluster"));
        if (is_cluster) {
            load_error_text(l, v, "cluster name is reserved");
            return ERR_OK;
        }
    }
    return load_keep(l, text, field_of(l, o));
}

/* Each word once, without spaces around it. */
static enum err load_tags(struct load *l, const struct option *o, const struct conf_value *v,
                          struct bytes name)
{
    struct options_texts texts;
    bool is_valid;
    enum err e = load_texts(l, v, name, &texts, &is_valid);
    if (e != ERR_OK || !is_valid) return e;
    struct bytes *tags = (struct bytes *)texts.items; /* our own array, still being made */
    uint32_t count = 0;
    for (uint32_t i = 0; i < texts.count; i++) {
        struct bytes tag = bytes_trim(tags[i]);
        bool is_known = tag.len == 0;
        for (uint32_t k = 0; k < count && !is_known; k++)
            is_known = bytes_equal_nocase(tags[k], tag);
        if (is_known) continue;
        char *data = (char *)tag.data;
        for (size_t k = 0; k < tag.len; k++)
            if (data[k] >= 'A' && data[k] <= 'Z') data[k] = (char)(data[k] - 'A' + 'a');
        data[tag.len] = 0; /* over a trailing space, or the zero that stands there */
        tags[count++] = tag;
    }
    *(struct options_texts *)field_of(l, o) = (struct options_texts){tags, count};
    return ERR_OK;
}

static enum err load_pairs(struct load *l, const struct option *o, const struct conf_value *v,
                           struct bytes name)
{
    if (v->kind != CONF_MAP) {
        load_wrong_type(l, v, name, "a map of strings");
        return ERR_OK;
    }
    struct options_pair *items = arena_alloc(l->arena, v->map.count * sizeof(*items));
    if (items == NULL) return ERR_MEMORY;
    uint32_t count = 0;
    for (const struct conf_entry *e = v->map.first; e != NULL; e = e->next) {
        struct bytes text;
        if (!load_text(l, e->value, e->key, &text)) return ERR_OK;
        enum err failed = load_keep(l, e->key, &items[count].key);
        if (failed == ERR_OK) failed = load_keep(l, text, &items[count].value);
        if (failed != ERR_OK) return failed;
        count++;
    }
    *(struct options_pairs *)field_of(l, o) = (struct options_pairs){items, count};
    return ERR_OK;
}

static void load_choice(struct load *l, const struct option *o, const struct conf_value *v,
                        struct bytes name)
{
    struct bytes text, word;
    if (!load_text(l, v, name, &text)) return;
    const char *at = o->values;
    for (unsigned i = 0; option_next_word(&at, &word); i++) {
        if (!bytes_equal(word, text)) continue;
        *(unsigned *)field_of(l, o) = i;
        return;
    }
    struct text *line = load_error(l, v);
    text_bytes(line, name);
    text_string(line, " must be ");
    at = o->values;
    for (unsigned i = 0; option_next_word(&at, &word); i++) {
        if (i > 0) text_string(line, *at == 0 ? " or " : ", ");
        text_char(line, '\'');
        text_bytes(line, word);
        text_char(line, '\'');
    }
    load_end(line);
}

static void load_memory(struct load *l, const struct conf_value *v, struct bytes name)
{
    uint64_t percent;
    if (v->kind == CONF_INTEGER && v->integer >= 0) {
        l->o->max_process_memory_bytes = (uint64_t)v->integer;
        return;
    }
    bool is_percent =
        v->kind == CONF_TEXT && bytes_ends_with(v->text, BYTES_LITERAL("%")) &&
        bytes_to_u64(bytes_of(v->text.data, v->text.len - 1), 3, &percent) == ERR_OK &&
        percent >= 1 && percent <= 100;
    if (!is_percent) {
        struct text *line = load_error(l, v);
        text_bytes(line, name);
        text_string(line, " must be a number of bytes, such as 2GB, or a percentage, such as 80%");
        load_end(line);
        return;
    }
    l->o->max_process_memory_bytes = 0;
    l->o->max_process_memory_percent = (uint8_t)percent;
}

/* One slash at the start, none at the end, no "." or ".." or doubled slash inside. */
static enum err load_base_path(struct load *l, const struct conf_value *v, struct bytes name)
{
    struct bytes text;
    if (!load_text(l, v, name, &text)) return ERR_OK;
    char *out = arena_alloc(l->arena, text.len + 2);
    if (out == NULL) return ERR_MEMORY;
    size_t len = 0;
    for (size_t at = 0; at < text.len;) {
        struct bytes rest = bytes_of(text.data + at, text.len - at);
        struct bytes part = bytes_of(rest.data, bytes_find(rest, '/'));
        at += part.len + 1;
        if (part.len == 0 || bytes_equal(part, BYTES_LITERAL("."))) continue;
        if (bytes_equal(part, BYTES_LITERAL(".."))) {
            while (len > 0 && out[--len] != '/') {
            }
            continue;
        }
        out[len++] = '/';
        memcpy(out + len, part.data, part.len);
        len += part.len;
    }
    if (len == 0) out[len++] = '/';
    out[len] = 0;
    l->o->http_base_path = bytes_of(out, len);
    return ERR_OK;
}

/* "host:port", "[::1]:port", ":port" or an integer. */
static enum err load_address(struct load *l, const struct conf_value *v, struct bytes *host,
                             int32_t *port)
{
    struct bytes text = BYTES_LITERAL(""), host_text = BYTES_LITERAL("");
    int64_t number = 0;
    if (v->kind == CONF_INTEGER) {
        number = v->integer;
    } else if (v->kind != CONF_TEXT) {
        struct text *line = load_error(l, v);
        text_string(line, "expected port or host:port, got ");
        text_string(line, conf_kind_text(v->kind));
        load_end(line);
        return ERR_OK;
    } else {
        text = v->text;
        size_t colon = text.len;
        while (colon > 0 && text.data[colon - 1] != ':') colon--;
        bool is_split = colon > 0;
        host_text = bytes_of(text.data, is_split ? colon - 1 : 0);
        bool is_bracketed = host_text.len >= 2 && host_text.data[0] == '[' &&
                            host_text.data[host_text.len - 1] == ']';
        if (is_bracketed) host_text = bytes_of(host_text.data + 1, host_text.len - 2);
        /* More colons need brackets around the host. */
        if (!is_bracketed && bytes_find(host_text, ':') < host_text.len) is_split = false;
        if (!is_split) {
            struct text *line = load_error(l, v);
            text_string(line, "could not parse address string ");
            load_quoted(line, text);
            load_end(line);
            return ERR_OK;
        }
        struct bytes port_text = bytes_of(text.data + colon, text.len - colon);
        if (bytes_to_i64(port_text, &number) != ERR_OK) {
            struct text *line = load_error(l, v);
            text_string(line, "could not parse port ");
            load_quoted(line, port_text);
            load_end(line);
            return ERR_OK;
        }
    }
    if (number < -1 || number > 65535) {
        struct text *line = load_error(l, v);
        text_string(line, "port ");
        text_i64(line, number);
        text_string(line, " is out of range");
        load_end(line);
        return ERR_OK;
    }
    *port = (int32_t)number;
    return load_keep(l, host_text, host);
}

static enum err load_listen(struct load *l, const struct conf_value *v)
{
    struct bytes host = l->o->host;
    int32_t port = l->o->port;
    enum err e = load_address(l, v, &host, &port);
    if (e != ERR_OK) return e;
    l->o->host = host.len == 0 ? BYTES_LITERAL("0.0.0.0") : host;
    l->o->port = port == 0 ? 4222 : port;
    return ERR_OK;
}

bool load_switch(struct load *l, const struct conf_value *v, bool *is_on)
{
    if (load_is_switch(v, is_on)) return true;
    struct text *line = load_error(l, v);
    if (v->kind == CONF_TEXT) {
        text_string(line, "Expected 'enabled' or 'disabled' for string value, got '");
        text_bytes(line, v->text);
        text_char(line, '\'');
    } else {
        text_string(line, "Expected map, bool or string to define JetStream, got ");
        text_string(line, conf_kind_text(v->kind));
    }
    load_end(line);
    return false;
}

bool load_is_switch(const struct conf_value *v, bool *is_on)
{
    static const struct {
        const char *word;
        bool is_on;
    } words[] = {{"enabled", true}, {"enable", true}, {"disabled", false}, {"disable", false}};
    if (v->kind == CONF_BOOL) {
        *is_on = v->boolean;
        return true;
    }
    for (size_t i = 0; v->kind == CONF_TEXT && i < sizeof(words) / sizeof(words[0]); i++) {
        if (!bytes_equal_nocase(v->text, bytes_from_text(words[i].word))) continue;
        *is_on = words[i].is_on;
        return true;
    }
    return false;
}

/* A block is on unless it says that it is not. */
static enum err load_jetstream(struct load *l, const struct option *o, const struct conf_value *v)
{
    struct options_jetstream *j = &l->o->jetstream;
    l->has_jetstream = true;
    if (v->kind != CONF_MAP) {
        (void)load_switch(l, v, &j->is_on);
        return ERR_OK;
    }
    j->is_on = true;
    return load_map(l, v, bytes_from_text(o->path));
}

static void check_domain(struct load *l, const struct conf_value *v)
{
    bool is_name = true;
    for (size_t i = 0; v->kind == CONF_TEXT && i < v->text.len; i++)
        is_name &= memchr(" \t\r\n\f.*>", v->text.data[i], 8) == NULL;
    if (!is_name) load_error_text(l, v, "invalid domain name: may not contain ., * or >");
}

/* store_dir stands at the top or in the block, not in both places of the file; what the command
 * line or the environment says (it has no line) beats the file in either. */
static enum err load_store_dir(struct load *l, const struct conf_value *v, struct bytes name)
{
    struct bytes text;
    if (!load_text(l, v, name, &text)) return ERR_OK;
    bool is_of_file = v->place.line > 0;
    if (l->store_dir != NULL && is_of_file && l->store_dir->place.line > 0) {
        load_error_text(l, v, "Duplicate 'store_dir' configuration");
        return ERR_OK;
    }
    if (l->store_dir != NULL && is_of_file) return ERR_OK;
    l->store_dir = v;
    return load_keep(l, text, &l->o->store_dir);
}

/* What asks for nothing (0, no, an empty text, always) needs no answer. */
static void load_remark(struct load *l, const struct option *o, const struct conf_value *v)
{
    bool is_nothing = (v->kind == CONF_BOOL && !v->boolean) ||
                      (v->kind == CONF_INTEGER && v->integer == 0) ||
                      (v->kind == CONF_TEXT && v->text.len == 0) ||
                      (o->type == OPTION_SYNC && v->kind == CONF_TEXT &&
                       bytes_equal_nocase(v->text, BYTES_LITERAL(SYNC_ALWAYS)));
    bool is_idle = o->type == OPTION_IGNORED || (o->traits & OPTION_IDLE);
    if (is_nothing || (!is_idle && !(o->traits & OPTION_HALF))) return;
    if (is_idle) {
        load_idle(l, v, bytes_from_text(o->path), o->help);
        return;
    }
    struct text *line = load_notice(l, v);
    load_quoted(line, bytes_from_text(o->path));
    text_string(line, " has less effect than on nats-server: ");
    text_string(line, o->help);
    load_end(line);
}

static enum err load_tls_block(struct load *l, const struct option *o, const struct conf_value *v,
                               struct bytes name)
{
    if (v->kind == CONF_BOOL && !v->boolean) return ERR_OK;
    if (v->kind != CONF_MAP) {
        load_wrong_type(l, v, name, "a map");
        return ERR_OK;
    }
    l->tls = v;
    l->o->tls.is_on = true;
    return load_map(l, v, bytes_from_text(o->path));
}

/* --- one entry ------------------------------------------------------------------------------ */

static enum err load_entry(struct load *l, const struct option *o, const struct conf_value *v,
                           struct bytes name)
{
    enum err e = ERR_OK;
    bool is_valid;
    load_remark(l, o, v);
    switch (o->type) {
    case OPTION_BOOL: (void)load_bool(l, v, name, field_of(l, o)); break;
    case OPTION_INT32:
    case OPTION_INT64:
    case OPTION_SIZE:
    case OPTION_SYNC:
    case OPTION_U8:
    case OPTION_U32:
    case OPTION_DURATION:
    case OPTION_DURATION_TEXT:
    case OPTION_SECONDS: load_number(l, o, v, name); break;
    case OPTION_TEXT:
        if (o->offset == offsetof(struct options, jetstream.domain)) check_domain(l, v);
        if (o->offset == offsetof(struct options, store_dir)) {
            e = load_store_dir(l, v, name);
            break;
        }
        e = load_text_field(l, o, v, name);
        break;
    case OPTION_NAME: e = load_text_field(l, o, v, name); break;
    case OPTION_TEXTS: e = load_texts(l, v, name, field_of(l, o), &is_valid); break;
    case OPTION_TAGS: e = load_tags(l, o, v, name); break;
    case OPTION_PAIRS: e = load_pairs(l, o, v, name); break;
    case OPTION_CHOICE: load_choice(l, o, v, name); break;
    case OPTION_MEMORY: load_memory(l, v, name); break;
    case OPTION_BASE_PATH: e = load_base_path(l, v, name); break;
    case OPTION_CERTS:
    case OPTION_PINNED:
    case OPTION_HANDSHAKE:
    case OPTION_TLS_VERSION: e = load_tls_value(l, o, v); break;
    case OPTION_LISTEN: e = load_listen(l, v); break;
    case OPTION_HTTP: e = load_address(l, v, &l->o->http_host, &l->o->http_port); break;
    case OPTION_HTTPS: e = load_address(l, v, &l->o->http_host, &l->o->https_port); break;
    case OPTION_JETSTREAM: e = load_jetstream(l, o, v); break;
    case OPTION_STORE_DIR: e = load_store_dir(l, v, name); break;
    case OPTION_AUTHORIZATION: l->authorization = v; break;
    case OPTION_ACCOUNTS: l->accounts = v; break;
    case OPTION_MAPPINGS: l->mappings = v; break;
    case OPTION_TLS: e = load_tls_block(l, o, v, name); break;
    case OPTION_IGNORED: break; /* load_remark has said so */
    case OPTION_REFUSED: load_refused(l, v, bytes_from_text(o->path)); break;
    case OPTION_INSIDE:
    case OPTION_FLAG: must(false);
    }
    return e;
}

static struct bytes join(struct load *l, struct bytes block, struct bytes key)
{
    char *data = arena_alloc(l->scratch, block.len + 1 + key.len);
    if (data == NULL) return bytes_of(NULL, 0);
    size_t len = 0;
    if (block.len > 0) {
        memcpy(data, block.data, block.len);
        len = block.len;
        data[len++] = '.';
    }
    if (key.len > 0) memcpy(data + len, key.data, key.len);
    return bytes_of(data, len + key.len);
}

/* Recursion: as deep as blocks stand in options.def, since only those lead further down. */
enum err load_map(struct load *l, const struct conf_value *map, struct bytes block)
{
    must(map->kind == CONF_MAP);
    for (const struct conf_entry *entry = map->map.first; entry != NULL; entry = entry->next) {
        struct bytes path = join(l, block, entry->key);
        if (path.data == NULL) return ERR_MEMORY;
        /* A dot in a key is no way into a block. */
        bool is_plain = bytes_find(entry->key, '.') == entry->key.len;
        const struct option *o = is_plain ? option_find(path) : NULL;
        enum err e = ERR_OK;
        if (o != NULL && o->type == OPTION_INSIDE)
            must(false);
        else if (o != NULL)
            e = load_entry(l, o, entry->value, entry->key);
        else if (is_plain && option_is_block(path) && entry->value->kind == CONF_MAP)
            e = load_map(l, entry->value, path);
        else if (is_plain && option_is_block(path) && !entry->value->is_used)
            load_wrong_type(l, entry->value, entry->key, "a map");
        else
            load_unknown(l, entry->value, entry->key);
        if (e != ERR_OK) return e;
    }
    return ERR_OK;
}
