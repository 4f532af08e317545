/* The parser of conf.h: one pass over the text, no tokens. Here is what has values inside:
 * variables, arrays, maps, included files, whole texts. */
#include "core/config/conf_fault.h"
#include "core/config/conf_value.h"

/* Enclosing maps of one file, innermost first: where variables are looked up. */
struct frame {
    struct conf_value *map;
    const struct frame *outer;
};

/* Names of environment variables whose text is being parsed, to find cycles. */
struct conf_env_link {
    struct bytes name;
    const struct conf_env_link *outer;
};

enum level { LEVEL_TOP, LEVEL_MAP };

static enum err parse_value(struct conf_scan *s, const struct frame *frame,
                            struct conf_value **value);

static bool is_separator(int c)
{
    return c == '=' || c == ':';
}

static enum err put_entry(struct conf_scan *s, const struct frame *frame, struct bytes key,
                          struct conf_value *value)
{
    if (conf_set(s->p->arena, frame->map, key, value) != ERR_OK) return conf_fault_memory(s);
    return ERR_OK;
}

/* --- variables ------------------------------------------------------------------------------ */

static enum err parse_document(struct conf_scan *s, struct conf_value *map);

/* The text of the environment is parsed as what would stand after a key. */
static enum err env_value(struct conf_scan *s, struct bytes name, struct bytes content,
                          struct conf_value **value)
{
    for (const struct conf_env_link *l = s->env; l != NULL; l = l->outer)
        if (bytes_equal(l->name, name))
            return conf_fault_variable(s, name,
                                       " could not be parsed: variable reference cycle for ", name);
    if (s->env_depth == CONF_ENV_DEPTH_MAX)
        return conf_fault_variable(s, name, " could not be parsed: too many variables in variables",
                                   bytes_of("", 0));

    static const char key[] = "value=";
    char *text = arena_alloc(s->p->arena, sizeof(key) - 1 + content.len);
    struct conf_value *map = conf_new_map(s->p->arena);
    if (text == NULL || map == NULL) return conf_fault_memory(s);
    memcpy(text, key, sizeof(key) - 1);
    if (content.len > 0) memcpy(text + sizeof(key) - 1, content.data, content.len);

    struct conf_env_link link = {name, s->env};
    struct conf_scan inner = {.p = s->p,
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
        return conf_fault_variable(s, name,
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
static enum err parse_variable(struct conf_scan *s, const struct frame *frame, struct bytes word,
                               struct conf_value **value)
{
    must(word.len > 0 && word.data[0] == '$');
    struct bytes name = bytes_of(word.data + 1, word.len - 1);
    if (bytes_starts_with(name, BYTES_LITERAL("2a$"))) return conf_value_text(s, word, value);

    struct conf_value *found = find_in_frames(frame, name);
    struct bytes content;
    if (found != NULL) {
        found->is_used = true;
    } else if (s->p->source != NULL && s->p->source->getenv(s->p->source, name, &content)) {
        enum err e = env_value(s, name, content, &found);
        if (e != ERR_OK) return e;
    } else {
        return conf_fault_variable(s, name, " can not be found", bytes_of("", 0));
    }
    if (s->depth + found->depth > CONF_DEPTH_MAX)
        return conf_fault_syntax(s, "maps and arrays are nested too deeply");
    enum err e = conf_value_count(s, found->weight);
    if (e != ERR_OK) return e;
    struct conf_value *v = arena_alloc(s->p->arena, sizeof(*v));
    if (v == NULL) return conf_fault_memory(s);
    *v = *found;
    v->is_used = false;
    v->place = conf_scan_place(s);
    *value = v;
    return ERR_OK;
}

static enum err parse_bare(struct conf_scan *s, const struct frame *frame,
                           struct conf_value **value)
{
    struct conf_scan opening = *s;
    struct bytes variable;
    enum err e = conf_value_parse_bare(s, value, &variable);
    if (e != ERR_OK || variable.len == 0) return e;
    return parse_variable(&opening, frame, variable, value);
}

/* --- arrays, maps, entries ------------------------------------------------------------------ */

static enum err deeper(struct conf_scan *s)
{
    if (s->depth == CONF_DEPTH_MAX)
        return conf_fault_syntax(s, "maps and arrays are nested too deeply");
    s->depth++;
    return ERR_OK;
}

/* After a value of an array: to the next value or the bracket. A lone slash counts as a comma. */
static enum err array_separator(struct conf_scan *s)
{
    do conf_scan_skip_blanks(s);
    while (conf_scan_skip_comment(s));
    int c = conf_scan_peek(s);
    if (c == ']') return ERR_OK;
    if (c != ',' && c != '/' && !conf_scan_is_newline(c))
        return conf_fault_syntax_about(
            s, "A comma, a newline or ] must follow a value of an array, not '",
            conf_scan_character(s), "'");
    conf_scan_advance(s);
    return ERR_OK;
}

static enum err parse_array(struct conf_scan *s, const struct frame *frame,
                            struct conf_value **value)
{
    struct conf_scan opening = *s;
    enum err e = deeper(s);
    if (e == ERR_OK) e = conf_value_new(s, CONF_ARRAY, value);
    if (e != ERR_OK) return e;
    conf_scan_advance(s);
    for (;;) {
        do conf_scan_skip_spaces(s);
        while (conf_scan_skip_comment(s));
        int c = conf_scan_peek(s);
        if (c == ']') break;
        if (c == CONF_SCAN_END) return conf_fault_unclosed(s, "array", &opening);
        if (c == ',' || c == '/')
            return conf_fault_syntax_about(s, "A value must stand here, not '",
                                           conf_scan_character(s), "'");
        struct conf_value *item;
        e = parse_value(s, frame, &item);
        if (e == ERR_OK && conf_add(s->p->arena, *value, item) != ERR_OK) e = conf_fault_memory(s);
        if (e == ERR_OK) e = array_separator(s);
        if (e != ERR_OK) return e;
    }
    conf_scan_advance(s);
    s->depth--;
    return ERR_OK;
}

/* "dir/of/file" and "path" with one slash between, as the reference joins them. */
static enum err join_path(struct conf_scan *s, struct bytes path, struct bytes *joined)
{
    size_t dir = s->file.len;
    while (dir > 0 && s->file.data[dir - 1] != '/') dir--;
    while (path.len > 0 && path.data[0] == '/') {
        path.data++;
        path.len--;
    }
    char *data = arena_alloc(s->p->arena, dir + path.len + 1);
    if (data == NULL) return conf_fault_memory(s);
    memcpy(data, s->file.data, dir);
    if (path.len > 0) memcpy(data + dir, path.data, path.len);
    *joined = bytes_of(data, dir + path.len);
    return ERR_OK;
}

static enum err read_file(struct conf_scan *s, struct bytes path, struct bytes *content)
{
    struct bytes why = BYTES_LITERAL("no such file or directory");
    enum err e = ERR_IO;
    if (s->p->source != NULL)
        e = s->p->source->read(s->p->source, s->p->arena, path, content, &why);
    if (e == ERR_OK) return ERR_OK;
    if (e == ERR_MEMORY) return conf_fault_memory(s);
    return conf_fault_unread(s, path, why);
}

/* Every entry of the file becomes one of the map around; places keep naming the file. */
static enum err include_file(struct conf_scan *s, const struct frame *frame, struct bytes path)
{
    if (!s->may_include) return conf_fault_syntax(s, "include may not stand here");
    if (s->include_depth == CONF_INCLUDE_DEPTH_MAX || s->p->include_count == CONF_INCLUDES_MAX)
        return conf_fault_syntax_about(s, "'", path, "' is included through too many files");
    struct bytes joined, content;
    s->p->include_count++;
    enum err e = join_path(s, path, &joined);
    if (e == ERR_OK) e = read_file(s, joined, &content);
    if (e != ERR_OK) return e;

    struct conf_value *map = conf_new_map(s->p->arena);
    if (map == NULL) return conf_fault_memory(s);
    struct conf_scan inner = {.p = s->p,
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

static enum err parse_include(struct conf_scan *s, const struct frame *frame)
{
    conf_scan_skip_blanks(s);
    struct conf_scan opening = *s;
    int c = conf_scan_peek(s);
    struct bytes path;
    if (c == '\'' || c == '"') {
        enum err e = conf_value_quoted(s, false, &path);
        return e == ERR_OK ? include_file(&opening, frame, path) : e;
    }
    if (c == '[' || c == '{' || c == '(' || c == '-' || c == '\\' || conf_scan_is_digit(c) ||
        conf_scan_is_newline(c))
        return conf_fault_syntax(s, "A file name must follow include");
    while (!(conf_scan_peek(s) == CONF_SCAN_END || conf_scan_is_newline(conf_scan_peek(s)) ||
             conf_scan_is_blank(conf_scan_peek(s)) || conf_scan_peek(s) == ';' ||
             conf_scan_peek(s) == '}' || conf_scan_peek(s) == '\''))
        conf_scan_advance(s);
    path = bytes_of(opening.at, (size_t)(s->at - opening.at));
    if (conf_scan_peek(s) == '\'') conf_scan_advance(s);
    return include_file(&opening, frame, path);
}

/* At the first byte of a key; stands behind it afterwards. */
static enum err parse_key(struct conf_scan *s, struct bytes *key, bool *is_bare)
{
    int c = conf_scan_peek(s);
    *is_bare = c != '"' && c != '\'';
    if (is_separator(c))
        return conf_fault_syntax_about(s, "A key must stand here, not '", conf_scan_character(s),
                                       "'");
    if (!*is_bare) return conf_value_quoted(s, false, key);
    const char *start = s->at;
    do conf_scan_advance(s);
    while (conf_scan_peek(s) != CONF_SCAN_END && !is_separator(conf_scan_peek(s)) &&
           conf_scan_space_bytes(s->at, s->end) == 0);
    *key = bytes_of(start, (size_t)(s->at - start));
    return ERR_OK;
}

/* Between key and value. Newlines may stand before the separator and, inside maps, behind it. */
static enum err key_separator(struct conf_scan *s, enum level level, bool *is_found)
{
    conf_scan_skip_spaces(s);
    *is_found = is_separator(conf_scan_peek(s));
    if (!*is_found) return ERR_OK;
    conf_scan_advance(s);
    if (level == LEVEL_MAP) {
        conf_scan_skip_spaces(s);
        return ERR_OK;
    }
    conf_scan_skip_blanks(s);
    return conf_scan_is_newline(conf_scan_peek(s))
               ? conf_fault_syntax(s, "A value must stand here, not a newline")
               : ERR_OK;
}

static enum err parse_entry(struct conf_scan *s, const struct frame *frame, enum level level)
{
    struct conf_place place = conf_scan_place(s);
    struct bytes key;
    bool is_bare, has_separator;
    enum err e = parse_key(s, &key, &is_bare);
    if (e != ERR_OK) return e;
    if (!is_bare) place.column++; /* the reference points behind the quote */
    bool is_include = is_bare && bytes_equal_nocase(key, BYTES_LITERAL("include")) &&
                      conf_scan_space_bytes(s->at, s->end) > 0;
    if (is_include) return parse_include(s, frame);

    e = key_separator(s, level, &has_separator);
    if (e != ERR_OK) return e;
    if (level == LEVEL_TOP && !has_separator && conf_scan_peek(s) == CONF_SCAN_END) {
        /* A brace that closes nothing is forgiven at the very end, as nats-server does. */
        if (bytes_equal(key, BYTES_LITERAL("}"))) return ERR_OK;
        return conf_fault_syntax_about(s, "The key '", key, "' has no value");
    }
    if (level == LEVEL_MAP && (conf_scan_peek(s) == ',' || conf_scan_peek(s) == '}'))
        return conf_fault_syntax_about(s, "The key '", key, "' has no value");
    struct conf_value *value;
    e = parse_value(s, frame, &value);
    if (e != ERR_OK) return e;
    value->place = place;
    return put_entry(s, frame, key, value);
}

/* After an entry of a map: to the next one or the brace. A lone slash counts as a comma. */
static enum err map_separator(struct conf_scan *s)
{
    do conf_scan_skip_blanks(s);
    while (conf_scan_skip_comment(s));
    int c = conf_scan_peek(s);
    if (c == '}') return ERR_OK;
    if (c != ',' && c != ';' && c != '/' && !conf_scan_is_newline(c))
        return conf_fault_syntax_about(
            s, "A comma, a newline or } must follow an entry of a map, not '",
            conf_scan_character(s), "'");
    conf_scan_advance(s);
    return ERR_OK;
}

static enum err parse_map(struct conf_scan *s, const struct frame *outer, struct conf_value **value)
{
    struct conf_scan opening = *s;
    enum err e = deeper(s);
    if (e == ERR_OK) e = conf_value_new(s, CONF_MAP, value);
    if (e != ERR_OK) return e;
    struct frame frame = {*value, outer};
    conf_scan_advance(s);
    for (;;) {
        do conf_scan_skip_spaces(s);
        while (conf_scan_skip_comment(s));
        int c = conf_scan_peek(s);
        if (c == '}') break;
        if (c == CONF_SCAN_END) return conf_fault_unclosed(s, "map", &opening);
        if (c == ']') return conf_fault_syntax(s, "A key must stand here, not ']'");
        if (c == '/' && conf_scan_peek_second(s) != CONF_SCAN_END) conf_scan_advance(s);
        e = parse_entry(s, &frame, LEVEL_MAP);
        if (e == ERR_OK) e = map_separator(s);
        if (e != ERR_OK) return e;
    }
    conf_scan_advance(s);
    s->depth--;
    return ERR_OK;
}

/* The recursion is bounded by CONF_DEPTH_MAX (deeper), CONF_INCLUDE_DEPTH_MAX (include_file) and
 * CONF_ENV_DEPTH_MAX (env_value). */
static enum err parse_value(struct conf_scan *s, const struct frame *frame,
                            struct conf_value **value)
{
    must(s->depth <= CONF_DEPTH_MAX);
    int c = conf_scan_peek(s);
    if (c == '[') return parse_array(s, frame, value);
    if (c == '{') return parse_map(s, frame, value);
    if (c == '"' || c == '\'') return conf_value_parse_quoted(s, value);
    if (c == '(') return conf_value_parse_block(s, value);
    if (c == '-' || conf_scan_is_digit(c)) return conf_value_parse_number(s, value);
    if (c == '.') return conf_fault_syntax(s, "A number must start with a digit, not with '.'");
    return parse_bare(s, frame, value);
}

/* --- documents ------------------------------------------------------------------------------ */

/* After an entry outside of braces. */
static enum err top_separator(struct conf_scan *s)
{
    for (;;) {
        if (conf_scan_skip_comment(s)) return ERR_OK;
        int c = conf_scan_peek(s);
        if (c == CONF_SCAN_END) return ERR_OK;
        bool is_end = conf_scan_is_newline(c) || c == ';' || c == ',' || c == '}';
        if (!is_end && !conf_scan_is_blank(c) && c != '/')
            return conf_fault_syntax_about(s, "The line must end after the value, but '",
                                           conf_scan_character(s), "' follows");
        conf_scan_advance(s);
        if (is_end) return ERR_OK;
    }
}

/* Entries in braces that have no key, as in JSON; braces may be doubled. Starts behind the first
 * brace, ends behind the last, or at the end of the text where an entry could start: like the
 * reference we forgive that the last brace is missing. */
static enum err parse_braces(struct conf_scan *s, const struct frame *frame)
{
    enum { AT_ENTRY, AFTER_VALUE, AFTER_BRACE } state = AT_ENTRY;
    uint32_t level = 1;
    for (;;) {
        int c = conf_scan_peek(s);
        if (state == AT_ENTRY && conf_scan_skip_space(s)) continue;
        if (state != AT_ENTRY && conf_scan_is_blank(c)) {
            conf_scan_advance(s);
            continue;
        }
        if (conf_scan_skip_comment(s)) {
            if (state == AFTER_BRACE) state = AT_ENTRY;
            continue;
        }
        if (c == CONF_SCAN_END)
            return state == AT_ENTRY ? ERR_OK : conf_fault_syntax(s, "A } is missing");
        if (c == '}') {
            conf_scan_advance(s);
            state = AFTER_BRACE;
            if (--level == 0) return ERR_OK;
        } else if (state == AT_ENTRY && c == '{') {
            if (level == CONF_DEPTH_MAX)
                return conf_fault_syntax(s, "braces are nested too deeply");
            conf_scan_advance(s);
            level++;
        } else if (state == AT_ENTRY) {
            if (c == '/') return conf_fault_syntax(s, "A key must stand here, not '/'");
            enum err e = parse_entry(s, frame, LEVEL_TOP);
            if (e != ERR_OK) return e;
            state = AFTER_VALUE;
        } else if (c == '/' || (state == AFTER_BRACE && conf_scan_is_newline(c))) {
            conf_scan_advance(s);
        } else if (conf_scan_is_newline(c) || c == ';' || c == ',') {
            conf_scan_advance(s);
            state = AT_ENTRY;
        } else {
            return conf_fault_syntax_about(s, "A comma, a newline or } must follow, not '",
                                           conf_scan_character(s), "'");
        }
    }
}

static enum err parse_document(struct conf_scan *s, struct conf_value *map)
{
    struct frame frame = {map, NULL};
    const char *zero = s->at == s->end ? NULL : memchr(s->at, 0, (size_t)(s->end - s->at));
    if (zero != NULL) {
        while (s->at < zero) conf_scan_advance(s);
        return conf_fault_syntax(s, "A zero byte is not text");
    }
    for (;;) {
        do conf_scan_skip_spaces(s);
        while (conf_scan_skip_comment(s));
        int c = conf_scan_peek(s);
        if (c == CONF_SCAN_END) return ERR_OK;
        enum err e;
        if (c == '/') return conf_fault_syntax(s, "A key must stand here, not '/'");
        if (c == '{') {
            conf_scan_advance(s);
            e = parse_braces(s, &frame);
        } else {
            e = parse_entry(s, &frame, LEVEL_TOP);
            if (e == ERR_OK) e = top_separator(s);
        }
        if (e != ERR_OK) return e;
    }
}

static struct conf_scan scan_start(struct conf_parse *p, struct bytes name, struct bytes content)
{
    return (struct conf_scan){.p = p,
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
    struct conf_parse p = {.arena = arena, .source = source, .error = error};
    struct conf_scan s = scan_start(&p, name, content);
    struct conf_value *m = conf_new_map(arena);
    if (m == NULL) return conf_fault_memory(&s);
    m->place = conf_scan_place(&s);
    enum err e = parse_document(&s, m);
    if (e == ERR_OK) *map = m;
    return e;
}

enum err conf_parse_file(struct arena *arena, struct conf_source *source, struct bytes path,
                         struct conf_value **map, struct conf_error *error)
{
    struct conf_parse p = {.arena = arena, .source = source, .error = error};
    struct conf_scan s = scan_start(&p, path, BYTES_LITERAL(""));
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
    struct conf_parse p = {.arena = arena, .source = source, .error = error};
    struct conf_scan s = scan_start(&p, name, content);
    struct conf_value *map = conf_new_map(arena);
    if (map == NULL) return conf_fault_memory(&s);
    struct frame frame = {map, NULL};
    s.may_include = false;
    if (memchr(content.data, 0, content.len) != NULL)
        return conf_fault_syntax(&s, "A zero byte is not text");
    conf_scan_skip_blanks(&s);
    struct conf_value *v;
    enum err e = parse_value(&s, &frame, &v);
    if (e != ERR_OK) return e;
    conf_scan_skip_spaces(&s);
    if (conf_scan_peek(&s) != CONF_SCAN_END)
        return conf_fault_syntax_about(&s, "The text must end after the value, but '",
                                       conf_scan_character(&s), "' follows");
    *value = v;
    return ERR_OK;
}
