#include "core/route/transform.h"
#include "core/base/must.h"
#include "core/route/subject.h"

enum kind {
    KIND_TEXT,
    KIND_REST, /* > : what is left of the subject */
    KIND_WILDCARD,
    KIND_PARTITION,
    KIND_SPLIT_FROM_LEFT,
    KIND_SPLIT_FROM_RIGHT,
    KIND_SLICE_FROM_LEFT,
    KIND_SLICE_FROM_RIGHT,
    KIND_LEFT,
    KIND_RIGHT,
    KIND_SPLIT,
    KIND_RANDOM,
    KIND_COUNT
};

/* A token of the destination. */
struct part {
    enum kind kind;
    int32_t number;       /* of the function: size, position, buckets */
    uint32_t index_first; /* its source tokens: transform.indexes[index_first .. + index_count) */
    uint32_t index_count;
    struct bytes text; /* KIND_TEXT: the token; KIND_SPLIT: the delimiter */
};

/* One allocation: this, parts, indexes, source, destination. */
struct transform {
    size_t bytes;
    struct bytes source, destination; /* source is never empty */
    uint32_t source_tokens;
    uint32_t part_count, index_count;
    struct part *parts;
    int64_t *indexes; /* positions of source tokens; while compiling, numbers of wildcards */
};

/* --- texts of refusals ----------------------------------------------------------------------- */

static enum err refuse(struct writer *why, const char *text, struct bytes token)
{
    if (why == NULL) return ERR_INVALID;
    writer_text(why, text);
    if (token.len > 0) {
        writer_text(why, " in ");
        writer_bytes(why, token);
    }
    return ERR_INVALID;
}

static const char BAD_SUBJECT[] = "invalid subject";
static const char BAD_DESTINATION[] = "invalid mapping destination: invalid transform";
static const char NOT_ALL[] = "invalid mapping destination: not using all of the token wildcard(s)";
static const char UNKNOWN[] = "invalid mapping destination: unknown function";
static const char OUT_OF_RANGE[] = "invalid mapping destination: wildcard index out of range";
static const char TOO_FEW[] =
    "invalid mapping destination: not enough arguments passed to the function";
static const char TOO_MANY[] =
    "invalid mapping destination: too many arguments passed to the function";
static const char BAD_ARGUMENT[] =
    "invalid mapping destination: function argument is invalid or in the wrong format";
static const char IMPORT_ONLY[] = "invalid mapping destination: the only mapping function allowed "
                                  "for import transforms is {{Wildcard()}}";

/* --- functions in tokens --------------------------------------------------------------------- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

/* In the order in which they are tried. A capital marks where either case will do. */
static const struct {
    const char *name;
    enum kind kind;
} FUNCTIONS[] = {
    {"Wildcard", KIND_WILDCARD},
    {"Partition", KIND_PARTITION},
    {"SplitFromLeft", KIND_SPLIT_FROM_LEFT},
    {"SplitFromRight", KIND_SPLIT_FROM_RIGHT},
    {"SliceFromLeft", KIND_SLICE_FROM_LEFT},
    {"SliceFromRight", KIND_SLICE_FROM_RIGHT},
    {"Right", KIND_RIGHT},
    {"Left", KIND_LEFT},
    {"Split", KIND_SPLIT},
    {"Random", KIND_RANDOM},
};

/* Length of name at the start of text, 0 if it is not there. */
static size_t match_name(struct bytes text, const char *name)
{
    size_t len = strlen(name);
    if (text.len < len) return 0;
    for (size_t i = 0; i < len; i++) {
        bool is_capital = name[i] >= 'A' && name[i] <= 'Z';
        if (text.data[i] != name[i] && !(is_capital && text.data[i] == name[i] - 'A' + 'a'))
            return 0;
    }
    return len;
}

static size_t skip_blanks(struct bytes text, size_t at)
{
    while (at < text.len && is_blank(text.data[at])) at++;
    return at;
}

/* "{{ name ( arguments ) }}" somewhere in token: the first place where it starts, and the longest
 * arguments there. */
static bool find_call(struct bytes token, const char *name, struct bytes *arguments)
{
    for (size_t start = 0; start + 1 < token.len; start++) {
        if (token.data[start] != '{' || token.data[start + 1] != '{') continue;
        size_t at = skip_blanks(token, start + 2);
        size_t len = match_name(bytes_of(token.data + at, token.len - at), name);
        if (len == 0) continue;
        at = skip_blanks(token, at + len);
        if (at == token.len || token.data[at] != '(') continue;
        at++;
        for (size_t end = token.len; end > at; end--) {
            if (token.data[end - 1] != ')') continue;
            size_t close = skip_blanks(token, end);
            if (close + 1 >= token.len || token.data[close] != '}' || token.data[close + 1] != '}')
                continue;
            *arguments = bytes_of(token.data + at, end - 1 - at);
            return true;
        }
    }
    return false;
}

/* True when the token has the shape of a function: {{ ... }} with something inside. */
static bool looks_like_call(struct bytes token)
{
    return token.len > 4 && token.data[0] == '{' && token.data[1] == '{' &&
           token.data[token.len - 1] == '}' && token.data[token.len - 2] == '}';
}

static bool find_function(struct bytes token, enum kind *kind, struct bytes *arguments)
{
    for (size_t i = 0; i < sizeof FUNCTIONS / sizeof *FUNCTIONS; i++) {
        *kind = FUNCTIONS[i].kind;
        if (find_call(token, FUNCTIONS[i].name, arguments)) return true;
    }
    return false;
}

/* Cuts the next argument off: up to a comma and the blanks behind it. *rest is spent when its data
 * becomes NULL; the empty list has one empty argument. */
static struct bytes next_argument(struct bytes *rest)
{
    size_t comma = bytes_find(*rest, ',');
    struct bytes argument = bytes_of(rest->data, comma);
    if (comma == rest->len) {
        *rest = bytes_of(NULL, 0);
        return argument;
    }
    size_t at = skip_blanks(*rest, comma + 1);
    *rest = bytes_of(rest->data + at, rest->len - at);
    return argument;
}

/* A signed decimal number with spaces around it. */
static bool read_number(struct bytes text, int64_t min, int64_t max, int64_t *value)
{
    while (text.len > 0 && text.data[0] == ' ') text = bytes_of(text.data + 1, text.len - 1);
    while (text.len > 0 && text.data[text.len - 1] == ' ') text.len--;
    return bytes_to_i64(text, value) == ERR_OK && *value >= min && *value <= max;
}

/* --- compiling ------------------------------------------------------------------------------- */

/* The first argument of each: which wildcard; the rest into numbers. */
static enum err read_arguments(struct transform *t, struct part *p, struct bytes token,
                               struct bytes arguments, struct writer *why)
{
    struct bytes rest = arguments, first = next_argument(&rest), second = bytes_of("", 0);
    bool has_second = rest.data != NULL;
    int64_t number = 0;
    switch (p->kind) {
    case KIND_WILDCARD:
        if (!has_second && first.len == 0) return refuse(why, TOO_FEW, token);
        if (has_second) return refuse(why, TOO_MANY, token);
        if (!read_number(first, INT64_MIN, INT64_MAX, &t->indexes[t->index_count]))
            return refuse(why, BAD_ARGUMENT, token);
        p->index_count = 1;
        break;
    case KIND_PARTITION:
        if (!read_number(first, INT64_MIN, INT32_MAX, &number))
            return refuse(why, BAD_ARGUMENT, token);
        while (rest.data != NULL) {
            int64_t *index = &t->indexes[t->index_count + p->index_count];
            if (!read_number(next_argument(&rest), INT64_MIN, INT64_MAX, index))
                return refuse(why, BAD_ARGUMENT, token);
            p->index_count++;
        }
        break;
    case KIND_RANDOM:
        if (has_second) return refuse(why, TOO_FEW, token); /* as nats-server has it */
        if (!read_number(first, INT64_MIN, INT32_MAX, &number))
            return refuse(why, BAD_ARGUMENT, token);
        break;
    default:
        if (!has_second) return refuse(why, TOO_FEW, token);
        second = next_argument(&rest);
        if (rest.data != NULL) return refuse(why, TOO_MANY, token);
        if (!read_number(first, INT64_MIN, INT64_MAX, &t->indexes[t->index_count]))
            return refuse(why, BAD_ARGUMENT, token);
        if (p->kind != KIND_SPLIT && !read_number(second, INT32_MIN, INT32_MAX, &number))
            return refuse(why, BAD_ARGUMENT, token);
        if (p->kind == KIND_SPLIT && bytes_find(second, ' ') != second.len)
            return refuse(why, BAD_ARGUMENT, token);
        p->text = second;
        p->index_count = 1;
    }
    p->number = (int32_t)number;
    return ERR_OK;
}

/* $2. Anything but a number is a token like any other: $JS, $SYS. */
static bool names_star(struct bytes token, int64_t *number)
{
    return token.len > 1 && token.data[0] == '$' &&
           bytes_to_i64(bytes_of(token.data + 1, token.len - 1), number) == ERR_OK;
}

static enum err read_token(struct transform *t, struct part *p, struct bytes token,
                           struct writer *why)
{
    struct bytes arguments;
    *p = (struct part){.kind = KIND_TEXT, .text = token, .index_first = t->index_count};
    if (subject_token_is_rest(token)) {
        p->kind = KIND_REST;
    } else if (names_star(token, &t->indexes[t->index_count])) {
        p->kind = KIND_WILDCARD;
        p->index_count = 1;
    } else if (looks_like_call(token)) {
        if (!find_function(token, &p->kind, &arguments)) return refuse(why, UNKNOWN, token);
        return read_arguments(t, p, token, arguments, why);
    }
    return ERR_OK;
}

static uint32_t star_count(struct bytes filter)
{
    struct subject_walk w;
    struct bytes token;
    uint32_t count = 0;
    subject_walk_init(&w, filter);
    while (subject_walk_next(&w, &token)) count += subject_token_is_star(token);
    return count;
}

/* Position of star number n, from 1. Numbers below name the first token, as in nats-server. */
static uint32_t star_position(struct bytes filter, int64_t n)
{
    struct subject_walk w;
    struct bytes token;
    subject_walk_init(&w, filter);
    for (uint32_t i = 0; n > 0 && subject_walk_next(&w, &token); i++)
        if (subject_token_is_star(token) && --n == 0) return i;
    return 0;
}

/* From numbers of wildcards to positions of tokens. */
static enum err resolve_indexes(struct transform *t, const struct part *p, struct bytes token,
                                struct writer *why)
{
    int64_t stars = star_count(t->source);
    for (uint32_t i = 0; i < p->index_count; i++) {
        int64_t *index = &t->indexes[p->index_first + i];
        if (*index > stars) {
            enum err e = refuse(why, OUT_OF_RANGE, token);
            if (why == NULL) return e;
            writer_text(why, ": [");
            writer_i64(why, *index);
            writer_char(why, ']');
            return e;
        }
        *index = star_position(t->source, *index);
    }
    return ERR_OK;
}

static enum err read_destination(struct transform *t, enum transform_use use, struct writer *why)
{
    struct subject_walk w;
    struct bytes token;
    bool is_literal = !subject_has_wildcard(t->source);
    uint32_t used = 0;
    subject_walk_init(&w, t->destination);
    for (uint32_t i = 0; subject_walk_next(&w, &token); i++) {
        must(i < t->part_count);
        struct part *p = &t->parts[i];
        enum err e = read_token(t, p, token, why);
        if (e != ERR_OK) return e;
        if (p->kind == KIND_TEXT || p->kind == KIND_REST) continue;
        if (is_literal) {
            /* Nothing to pick from: only what needs no wildcard, and its wildcards are ignored. */
            if (p->kind != KIND_RANDOM && p->kind != KIND_PARTITION)
                return refuse(why, OUT_OF_RANGE, token);
            p->index_count = 0;
            continue;
        }
        if (use == TRANSFORM_IMPORT && p->kind != KIND_WILDCARD)
            return refuse(why, IMPORT_ONLY, token);
        e = resolve_indexes(t, p, token, why);
        if (e != ERR_OK) return e;
        t->index_count += p->index_count;
        used += p->index_count;
    }
    if (!is_literal && use == TRANSFORM_IMPORT && used < star_count(t->source))
        return refuse(why, NOT_ALL, t->destination);
    return ERR_OK;
}

/* Tokens are not empty and > is the last; blanks are not looked at. */
static bool has_sound_tokens(struct bytes subject, bool *has_rest)
{
    struct subject_walk w;
    struct bytes token;
    *has_rest = false;
    subject_walk_init(&w, subject);
    while (subject_walk_next(&w, &token)) {
        if (token.len == 0 || *has_rest) return false;
        *has_rest = subject_token_is_rest(token);
    }
    return true;
}

enum err transform_compile(struct mem *mem, struct bytes source, struct bytes destination,
                           enum transform_use use, struct writer *why, struct transform **out)
{
    bool source_rest, destination_rest;
    *out = NULL;
    if (destination.len == 0) return ERR_OK;
    if (source.len == 0) source = BYTES_LITERAL(">");
    if (!has_sound_tokens(source, &source_rest) ||
        !has_sound_tokens(destination, &destination_rest) || star_count(destination) > 0 ||
        source_rest != destination_rest || source.len > TRANSFORM_SUBJECT_BYTES_MAX ||
        destination.len > TRANSFORM_DESTINATION_BYTES_MAX)
        return refuse(why, BAD_SUBJECT, bytes_of(NULL, 0));

    uint32_t parts = subject_token_count(destination), indexes = parts;
    for (size_t i = 0; i < destination.len; i++) indexes += destination.data[i] == ',';
    size_t parts_at = sizeof(struct transform), indexes_at = parts_at + parts * sizeof(struct part),
           text_at = indexes_at + indexes * sizeof(int64_t),
           bytes = text_at + source.len + destination.len;
    char *room = mem_alloc_zero(mem, MEM_CONFIG, bytes);
    if (room == NULL) return ERR_MEMORY;
    memcpy(room + text_at, source.data, source.len);
    memcpy(room + text_at + source.len, destination.data, destination.len);
    struct transform *t = (struct transform *)(void *)room;
    *t = (struct transform){
        .bytes = bytes,
        .source = bytes_of(room + text_at, source.len),
        .destination = bytes_of(room + text_at + source.len, destination.len),
        .source_tokens = subject_token_count(source),
        .part_count = parts,
        .parts = (struct part *)(void *)(room + parts_at),
        .indexes = (int64_t *)(void *)(room + indexes_at),
    };
    enum err e = read_destination(t, use, why);
    must(t->index_count <= indexes);
    if (e != ERR_OK)
        transform_free(mem, t);
    else
        *out = t;
    return e;
}

enum err transform_check(struct mem *mem, struct bytes source, struct bytes destination,
                         struct writer *why)
{
    struct subject_walk w;
    struct bytes token, arguments;
    struct transform *t;
    bool has_rest = false;
    if (destination.len == 0) return ERR_OK;
    subject_walk_init(&w, destination);
    while (subject_walk_next(&w, &token)) {
        enum kind kind;
        if (token.len == 0 || has_rest) return refuse(why, BAD_DESTINATION, token);
        if (looks_like_call(token)) {
            if (!find_function(token, &kind, &arguments)) return refuse(why, UNKNOWN, token);
            continue;
        }
        has_rest = subject_token_is_rest(token);
        for (size_t i = 0; i < token.len; i++)
            if (is_blank(token.data[i])) return refuse(why, BAD_DESTINATION, bytes_of(NULL, 0));
    }
    enum err e = transform_compile(mem, source, destination, TRANSFORM_PLAIN, why, &t);
    if (e == ERR_OK) transform_free(mem, t);
    return e;
}

void transform_free(struct mem *mem, struct transform *t)
{
    if (t != NULL) mem_free(mem, MEM_CONFIG, t, t->bytes);
}

struct bytes transform_source(const struct transform *t)
{
    return t->source;
}

struct bytes transform_destination(const struct transform *t)
{
    return t->destination;
}

/* --- applying -------------------------------------------------------------------------------- */

enum err transform_match(const struct transform *t, struct bytes subject)
{
    bool is_all = subject_token_is_rest(t->source);
    if (is_all && subject_token_is_rest(t->destination)) return ERR_OK; /* leaves all as it is */
    if (subject_has_empty_token(subject) || subject_has_wildcard(subject)) return ERR_INVALID;
    return is_all || subject_matches(subject, t->source) ? ERR_OK : ERR_UNKNOWN;
}

/* FNV-1a, 32 bits: the bucket is visible to clients, who may compute it themselves. */
static uint32_t fnv_add(uint32_t hash, struct bytes b)
{
    for (size_t i = 0; i < b.len; i++) hash = (hash ^ (uint8_t)b.data[i]) * 16777619u;
    return hash;
}

static void write_partition(const struct transform *t, const struct part *p, struct bytes subject,
                            bool is_key_empty, struct writer *out)
{
    uint32_t hash = 2166136261u;
    for (uint32_t i = 0; i < p->index_count; i++)
        hash = fnv_add(hash, subject_token(subject, (uint32_t)t->indexes[p->index_first + i]));
    if (p->index_count == 0 && !is_key_empty) hash = fnv_add(hash, subject);
    writer_u64(out, p->number == 0 ? 0 : hash % (uint32_t)p->number);
}

static void write_random(const struct part *p, struct rng *rng, struct writer *out)
{
    int64_t ceiling = p->number < 0 ? -(int64_t)p->number : p->number;
    writer_u64(out, ceiling == 0 ? 0 : rng_below(rng, (uint32_t)ceiling));
}

static struct bytes part_of(struct bytes b, size_t from, size_t to)
{
    return bytes_of(b.data + from, to - from);
}

/* Pieces of size bytes; the odd one is the last from the left, the first from the right. */
static void write_slices(struct bytes token, size_t size, bool from_left, struct writer *out)
{
    size_t odd = token.len % size, at = 0;
    while (at < token.len) {
        size_t step = at == 0 && !from_left && odd > 0 ? odd : size;
        if (step > token.len - at) step = token.len - at;
        if (at > 0) writer_char(out, '.');
        writer_bytes(out, part_of(token, at, at + step));
        at += step;
    }
}

/* Bytes up to the next place where the delimiter stands. An empty one stands between any two
 * characters of UTF-8, as strings.Split of Go has it. */
static size_t piece_length(struct bytes rest, struct bytes delimiter)
{
    if (delimiter.len == 0) {
        size_t len = 1;
        while (len < rest.len && len < 4 && ((uint8_t)rest.data[len] & 0xc0) == 0x80) len++;
        return len;
    }
    for (size_t i = 0; i + delimiter.len <= rest.len; i++)
        if (memcmp(rest.data + i, delimiter.data, delimiter.len) == 0) return i;
    return rest.len;
}

/* Each piece becomes a token; empty pieces leave none. */
static void write_split(struct bytes token, struct bytes delimiter, struct writer *out)
{
    struct bytes rest = token;
    bool is_first = true, is_last = false;
    while (!is_last) {
        size_t len = piece_length(rest, delimiter);
        is_last = delimiter.len == 0 ? len == rest.len : len + delimiter.len > rest.len;
        struct bytes piece = part_of(rest, 0, is_last && delimiter.len > 0 ? rest.len : len);
        writer_bytes(out, piece);
        if (is_last) break;
        rest = part_of(rest, len + delimiter.len, rest.len);
        bool next_is_empty =
            delimiter.len == 0 ? rest.len == 0 : piece_length(rest, delimiter) == 0;
        /* A dot before each piece that is not empty, but not where an empty one came first. */
        if (!next_is_empty && !(is_first && piece.len == 0)) writer_char(out, '.');
        is_first = false;
    }
}

/* A function of one source token and a number. Where the number does not fit, the token stays. */
static void write_cut(const struct part *p, struct bytes token, struct writer *out)
{
    size_t n = p->number > 0 ? (size_t)p->number : 0;
    if (n == 0 || n >= token.len) {
        writer_bytes(out, token);
        return;
    }
    size_t cut = p->kind == KIND_SPLIT_FROM_RIGHT || p->kind == KIND_RIGHT ? token.len - n : n;
    switch (p->kind) {
    case KIND_SPLIT_FROM_LEFT:
    case KIND_SPLIT_FROM_RIGHT:
        writer_bytes(out, part_of(token, 0, cut));
        writer_char(out, '.');
        writer_bytes(out, part_of(token, cut, token.len));
        break;
    case KIND_SLICE_FROM_LEFT:
    case KIND_SLICE_FROM_RIGHT: write_slices(token, n, p->kind == KIND_SLICE_FROM_LEFT, out); break;
    case KIND_LEFT: writer_bytes(out, part_of(token, 0, cut)); break;
    default: must(p->kind == KIND_RIGHT); writer_bytes(out, part_of(token, cut, token.len));
    }
}

/* What > stands for: the tokens from the source's > on. */
static struct bytes rest_of(const struct transform *t, struct bytes subject)
{
    struct subject_walk w;
    struct bytes token;
    subject_walk_init(&w, subject);
    for (uint32_t i = 0; subject_walk_next(&w, &token); i++)
        if (i + 1 == t->source_tokens)
            return bytes_of(token.data, subject.len - (size_t)(token.data - subject.data));
    return bytes_of(NULL, 0);
}

enum err transform_apply_with_key(const struct transform *t, struct bytes subject,
                                  bool is_key_empty, struct rng *rng, struct writer *out)
{
    for (uint32_t i = 0; i < t->part_count; i++) {
        const struct part *p = &t->parts[i];
        struct bytes token = bytes_of(NULL, 0);
        if (p->index_count > 0)
            token = subject_token(subject, (uint32_t)t->indexes[p->index_first]);
        if (i > 0) writer_char(out, '.');
        if (p->kind == KIND_TEXT)
            writer_bytes(out, p->text);
        else if (p->kind == KIND_REST)
            writer_bytes(out, rest_of(t, subject));
        else if (p->kind == KIND_WILDCARD)
            writer_bytes(out, token);
        else if (p->kind == KIND_PARTITION)
            write_partition(t, p, subject, is_key_empty, out);
        else if (p->kind == KIND_RANDOM)
            write_random(p, rng, out);
        else if (p->kind == KIND_SPLIT)
            write_split(token, p->text, out);
        else
            write_cut(p, token, out);
    }
    return out->is_full ? ERR_TOO_LONG : ERR_OK;
}

enum err transform_apply(const struct transform *t, struct bytes subject, struct rng *rng,
                         struct writer *out)
{
    return transform_apply_with_key(t, subject, false, rng, out);
}

/* --- the way back ---------------------------------------------------------------------------- */

void transform_write_markers(struct bytes filter, struct writer *out)
{
    struct subject_walk w;
    struct bytes token;
    uint32_t stars = 0;
    subject_walk_init(&w, filter);
    for (bool is_first = true; subject_walk_next(&w, &token); is_first = false) {
        if (!is_first) writer_char(out, '.');
        if (subject_token_is_star(token)) {
            writer_char(out, '$');
            writer_u64(out, ++stars);
        } else {
            writer_bytes(out, token);
        }
    }
}

enum err transform_reverse(struct mem *mem, const struct transform *t, struct transform **out)
{
    char source_room[TRANSFORM_SUBJECT_BYTES_MAX], room[TRANSFORM_SUBJECT_BYTES_MAX + 64];
    struct writer source, destination;
    struct subject_walk w;
    struct bytes token;
    int64_t unused;
    writer_init(&source, source_room, sizeof source_room);
    writer_init(&destination, room, sizeof room);
    for (uint32_t i = 0; i < t->part_count; i++) {
        const struct part *p = &t->parts[i];
        if (p->kind != KIND_TEXT && p->kind != KIND_REST && p->kind != KIND_WILDCARD)
            return ERR_INVALID;
        if (i > 0) writer_char(&source, '.');
        if (p->kind == KIND_WILDCARD)
            writer_char(&source, '*');
        else if (p->kind == KIND_REST)
            writer_char(&source, '>');
        else
            writer_bytes(&source, p->text);
    }
    /* Star k of the new source is the k-th wildcard of the old destination: each star of the old
     * source becomes the first of those that name it. */
    subject_walk_init(&w, t->source);
    for (uint32_t at = 0; subject_walk_next(&w, &token); at++) {
        if (at > 0) writer_char(&destination, '.');
        if (!subject_token_is_star(token)) {
            /* What is plain text in a source would be worked out in a destination. */
            if (looks_like_call(token) || names_star(token, &unused)) return ERR_INVALID;
            writer_bytes(&destination, token);
            continue;
        }
        uint32_t star = 0, found = 0;
        for (uint32_t i = 0; i < t->part_count && found == 0; i++) {
            if (t->parts[i].kind != KIND_WILDCARD) continue;
            star++;
            if (t->indexes[t->parts[i].index_first] == at) found = star;
        }
        if (found == 0) return ERR_INVALID;
        writer_char(&destination, '$');
        writer_u64(&destination, found);
    }
    if (source.is_full || destination.is_full) return ERR_INVALID;
    return transform_compile(mem, writer_written(&source), writer_written(&destination),
                             TRANSFORM_PLAIN, NULL, out);
}
