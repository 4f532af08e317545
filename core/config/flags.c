#include "core/config/flags.h"
#include "core/base/must.h"

struct parse {
    struct flags *f;
    int argc;
    char *const *argv;
    int at;             /* next word */
    struct bytes name;  /* of the flag in hand, without dashes */
    struct bytes value; /* behind its "=", if has_value */
    bool has_value;
    bool is_done; /* an action was found that ends everything */
    bool wants_version, wants_help, wants_help_tls, wants_man, wants_test, wants_print;
};

/* --- messages ------------------------------------------------------------------------------- */

enum { MESSAGE_BYTES_MAX = 512 };

static enum err stop(struct parse *p, enum flags_action action, struct writer *w)
{
    p->is_done = true;
    p->f->action = action;
    return arena_text(&p->f->arena, writer_written(w), &p->f->message);
}

static struct bytes clipped(struct bytes b)
{
    enum { PART_BYTES_MAX = 100 };
    return b.len <= PART_BYTES_MAX ? b : bytes_of(b.data, PART_BYTES_MAX);
}

static enum err usage(struct parse *p, const char *before, struct bytes about, const char *after)
{
    char room[MESSAGE_BYTES_MAX];
    struct writer w;
    writer_init(&w, room, sizeof(room));
    writer_text(&w, before);
    writer_bytes(&w, clipped(about));
    writer_text(&w, after);
    return stop(p, FLAGS_USAGE, &w);
}

/* invalid value "x" for flag -p: parse error */
static enum err bad_value(struct parse *p, const char *kind, struct bytes value, const char *joint,
                          const char *why)
{
    char room[MESSAGE_BYTES_MAX * 2];
    struct writer w;
    writer_init(&w, room, sizeof(room));
    writer_text(&w, kind);
    writer_quoted(&w, clipped(value));
    writer_text(&w, joint);
    writer_bytes(&w, clipped(p->name));
    writer_text(&w, ": ");
    writer_text(&w, why);
    return stop(p, FLAGS_USAGE, &w);
}

static enum err error(struct parse *p, const char *before, struct bytes about, bool is_quoted,
                      const char *after)
{
    char room[MESSAGE_BYTES_MAX * 2];
    struct writer w;
    writer_init(&w, room, sizeof(room));
    writer_text(&w, before);
    if (is_quoted)
        writer_quoted(&w, clipped(about));
    else
        writer_bytes(&w, clipped(about));
    writer_text(&w, after);
    return stop(p, FLAGS_ERROR, &w);
}

/* --- values --------------------------------------------------------------------------------- */

static bool parse_bool(struct bytes text, bool *value)
{
    static const char *const on[] = {"1", "t", "T", "TRUE", "true", "True"};
    static const char *const off[] = {"0", "f", "F", "FALSE", "false", "False"};
    for (int i = 0; i < 6; i++) {
        bool is_on = bytes_equal(text, bytes_from_text(on[i]));
        if (!is_on && !bytes_equal(text, bytes_from_text(off[i]))) continue;
        *value = is_on;
        return true;
    }
    return false;
}

static unsigned digit_value(char c)
{
    if (c >= '0' && c <= '9') return (unsigned)(c - '0');
    if (c >= 'a' && c <= 'z') return (unsigned)(c - 'a' + 10);
    if (c >= 'A' && c <= 'Z') return (unsigned)(c - 'A' + 10);
    return 255;
}

/* Go's integers with base prefix: 10, 0x1f, 0b1, 0o17, 017; a sign in front. */
static enum err parse_integer(struct bytes text, int64_t *value)
{
    bool is_negative = text.len > 0 && text.data[0] == '-';
    if (is_negative || (text.len > 0 && text.data[0] == '+')) {
        text.data++;
        text.len--;
    }
    unsigned base = 10, skip = 0;
    if (text.len > 1 && text.data[0] == '0') {
        char c = (char)(text.data[1] | 0x20);
        base = c == 'x' ? 16 : c == 'b' ? 2 : 8;
        skip = c == 'x' || c == 'b' || c == 'o' ? 2 : 1;
    }
    if (text.len == skip) return ERR_SYNTAX;
    uint64_t sum = 0;
    bool is_over = false;
    for (size_t i = skip; i < text.len; i++) {
        unsigned digit = digit_value(text.data[i]);
        if (digit >= base) return ERR_SYNTAX;
        is_over |= __builtin_mul_overflow(sum, (uint64_t)base, &sum);
        is_over |= __builtin_add_overflow(sum, (uint64_t)digit, &sum);
    }
    if (is_over || sum > (uint64_t)INT64_MAX + (is_negative ? 1 : 0)) return ERR_RANGE;
    *value = is_negative ? (int64_t)(0 - sum) : (int64_t)sum;
    return ERR_OK;
}

static bool is_integer(const struct option *o)
{
    return o->type == OPTION_INT32 || o->type == OPTION_INT64 || o->type == OPTION_U32 ||
           o->type == OPTION_U8;
}

static bool is_plain_text(const struct option *o)
{
    return o->type == OPTION_TEXT || o->type == OPTION_NAME || o->type == OPTION_INSIDE ||
           o->type == OPTION_CHOICE;
}

/* "flag -p" as the file of the place. */
static enum err flag_place(struct parse *p, struct conf_place *place)
{
    static const char prefix[] = "flag -";
    char *data = arena_alloc(&p->f->arena, sizeof(prefix) + p->name.len);
    if (data == NULL) return ERR_MEMORY;
    memcpy(data, prefix, sizeof(prefix) - 1);
    memcpy(data + sizeof(prefix) - 1, p->name.data, p->name.len);
    *place = (struct conf_place){.file = bytes_of(data, sizeof(prefix) - 1 + p->name.len)};
    return ERR_OK;
}

static enum err add_setting(struct parse *p, const struct option *o, struct conf_value value)
{
    struct flags_setting *s = arena_alloc(&p->f->arena, sizeof(*s));
    if (s == NULL) return ERR_MEMORY;
    s->option = o;
    s->value = value;
    s->value.weight = 1;
    enum err e = flag_place(p, &s->value.place);
    if (e == ERR_OK && value.kind == CONF_TEXT)
        e = arena_text(&p->f->arena, value.text, &s->value.text);
    if (e != ERR_OK) return e;
    if (p->f->settings_last == NULL)
        p->f->settings = s;
    else
        p->f->settings_last->next = s;
    p->f->settings_last = s;
    return ERR_OK;
}

static enum err add_bool(struct parse *p, const char *path, bool boolean)
{
    const struct option *o = option_find(bytes_from_text(path));
    must(o != NULL);
    return add_setting(p, o, (struct conf_value){.kind = CONF_BOOL, .boolean = boolean});
}

/* A text typed as in the file, such as 50% or 2GB. */
static enum err add_parsed(struct parse *p, const struct option *o)
{
    struct conf_value *value;
    struct conf_error fault;
    enum err e =
        conf_parse_value(&p->f->arena, NULL, BYTES_LITERAL("flag"), p->value, &value, &fault);
    if (e == ERR_MEMORY) return e;
    if (e != ERR_OK) return bad_value(p, "invalid value ", p->value, " for flag -", "parse error");
    return add_setting(p, o, *value);
}

static enum err add_text(struct parse *p, const struct option *o)
{
    return add_setting(p, o, (struct conf_value){.kind = CONF_TEXT, .text = p->value});
}

static enum err add_integer(struct parse *p, const struct option *o)
{
    int64_t number = 0;
    enum err e = parse_integer(p->value, &number);
    if (e != ERR_OK)
        return bad_value(p, "invalid value ", p->value, " for flag -",
                         e == ERR_RANGE ? "value out of range" : "parse error");
    return add_setting(p, o, (struct conf_value){.kind = CONF_INTEGER, .integer = number});
}

/* --- secrets -------------------------------------------------------------------------------- */

/* The value of the flag in hand ends word p->at - 1, behind "=" or as a whole. */
static enum err add_secret(struct parse *p)
{
    size_t word_len = strlen(p->argv[p->at - 1]);
    must(word_len >= p->value.len);
    struct flags_secret *s = arena_alloc(&p->f->arena, sizeof(*s));
    if (s == NULL) return ERR_MEMORY;
    *s = (struct flags_secret){p->f->secrets, p->at - 1, word_len - p->value.len, p->value.len};
    p->f->secrets = s;
    return ERR_OK;
}

void flags_wipe(const struct flags *f, char **argv)
{
    for (const struct flags_secret *s = f->secrets; s != NULL; s = s->next)
        memset(argv[s->index] + s->at, 'x', s->len);
}

static bool is_secret(const struct option *o)
{
    struct bytes path = bytes_from_text(o->path);
    return bytes_equal(path, BYTES_LITERAL("authorization.user")) ||
           bytes_equal(path, BYTES_LITERAL("authorization.password")) ||
           bytes_equal(path, BYTES_LITERAL("authorization.token")) || o->flag == OPTION_FLAG_SET;
}

/* --- single flags --------------------------------------------------------------------------- */

static enum err add_set(struct parse *p)
{
    size_t equals = bytes_find(p->value, '=');
    if (equals == p->value.len || equals == 0)
        return bad_value(p, "invalid value ", bytes_of(p->value.data, equals), " for flag -",
                         "must be name=value");
    struct flags_set *s = arena_alloc(&p->f->arena, sizeof(*s));
    if (s == NULL) return ERR_MEMORY;
    enum err e = arena_text(&p->f->arena, bytes_of(p->value.data, equals), &s->path);
    struct bytes rest = bytes_of(p->value.data + equals + 1, p->value.len - equals - 1);
    if (e == ERR_OK) e = arena_text(&p->f->arena, rest, &s->value);
    if (e != ERR_OK) return e;
    if (p->f->sets_last == NULL)
        p->f->sets = s;
    else
        p->f->sets_last->next = s;
    p->f->sets_last = s;
    return ERR_OK;
}

/* signal[=pid] */
static enum err take_signal(struct parse *p)
{
    size_t equals = bytes_find(p->value, '=');
    struct bytes target = BYTES_LITERAL("");
    if (equals < p->value.len)
        target = bytes_of(p->value.data + equals + 1, p->value.len - equals - 1);
    size_t more = bytes_find(target, '=');
    if (more < target.len)
        return error(p, "invalid signal parameters: [",
                     bytes_of(target.data + more + 1, target.len - more - 1), false, "]");
    enum err e = arena_text(&p->f->arena, bytes_of(p->value.data, equals), &p->f->signal);
    return e == ERR_OK ? arena_text(&p->f->arena, target, &p->f->signal_target) : e;
}

static enum err take_mere_flag(struct parse *p, const struct option *o, bool boolean)
{
    enum err e = ERR_OK;
    switch (o->flag) {
    case OPTION_FLAG_CONFIG: return arena_text(&p->f->arena, p->value, &p->f->config_file);
    case OPTION_FLAG_SET: return add_set(p);
    case OPTION_FLAG_SIGNAL: return take_signal(p);
    case OPTION_FLAG_TEST: p->wants_test = boolean; break;
    case OPTION_FLAG_PRINT_CONFIG: p->wants_print = boolean; break;
    case OPTION_FLAG_HELP: p->wants_help = boolean; break;
    case OPTION_FLAG_VERSION: p->wants_version = boolean; break;
    case OPTION_FLAG_VERBOSE: p->f->is_verbose = boolean; break;
    case OPTION_FLAG_HELP_TLS: p->wants_help_tls = boolean; break;
    case OPTION_FLAG_MAN: p->wants_man = boolean; break;
    case OPTION_FLAG_TLS: p->f->tls = boolean ? FLAGS_TLS_ON : FLAGS_TLS_OFF; break;
    case OPTION_FLAG_VV:
    case OPTION_FLAG_DV:
    case OPTION_FLAG_DVV:
        e = add_bool(p, "trace", boolean);
        if (e == ERR_OK && o->flag != OPTION_FLAG_VV) e = add_bool(p, "debug", boolean);
        if (e == ERR_OK && o->flag != OPTION_FLAG_DV) e = add_bool(p, "trace_verbose", boolean);
        break;
    case OPTION_FLAG_CHECK:
    case OPTION_FLAG_NONE: must(false);
    }
    return e;
}

/* The flag asks for something that is not built: said by name, unless it is switched off. */
static enum err take_refused(struct parse *p, const struct option *o, bool boolean)
{
    char room[MESSAGE_BYTES_MAX];
    struct writer w;
    bool is_asked = p->has_value && p->value.len == 0 ? false : boolean;
    if (!is_asked) return ERR_OK;
    writer_init(&w, room, sizeof(room));
    writer_text(&w, "flag -");
    writer_bytes(&w, p->name);
    writer_text(&w, " is not supported yet");
    if (o->path[0] != 0) {
        writer_text(&w, " (");
        writer_text(&w, o->path);
        writer_char(&w, ')');
    }
    return stop(p, FLAGS_ERROR, &w);
}

static enum err take_flag(struct parse *p, const struct option *o)
{
    bool boolean = true;
    if (!option_takes_value(o)) {
        if (p->has_value && !parse_bool(p->value, &boolean))
            return bad_value(p, "invalid boolean value ", p->value, " for -", "parse error");
    } else if (!p->has_value) {
        if (p->at == p->argc) return usage(p, "flag needs an argument: -", p->name, "");
        p->value = bytes_from_text(p->argv[p->at++]);
        p->has_value = true;
    }
    if (is_secret(o) && p->value.len > 0) {
        enum err e = add_secret(p);
        if (e != ERR_OK) return e;
    }
    bool is_tls = o->type != OPTION_REFUSED &&
                  bytes_starts_with(bytes_from_text(o->path), BYTES_LITERAL("tls."));
    if (is_tls) p->f->has_tls_flags = true;
    if (o->type == OPTION_FLAG) return take_mere_flag(p, o, boolean);
    if (o->type == OPTION_REFUSED) return take_refused(p, o, boolean);
    if (o->type == OPTION_BOOL)
        return add_setting(p, o, (struct conf_value){.kind = CONF_BOOL, .boolean = boolean});
    if (is_integer(o)) return add_integer(p, o);
    return is_plain_text(o) ? add_text(p, o) : add_parsed(p, o);
}

/* --- the line ------------------------------------------------------------------------------- */

/* At a word that starts with a dash and is no lone dash. */
static enum err take_word(struct parse *p)
{
    struct bytes word = bytes_from_text(p->argv[p->at++]);
    struct bytes name = bytes_of(word.data + 1, word.len - 1);
    if (name.data[0] == '-') name = bytes_of(name.data + 1, name.len - 1);
    if (name.len == 0 || name.data[0] == '-' || name.data[0] == '=')
        return usage(p, "bad flag syntax: ", word, "");
    size_t equals = bytes_find(name, '=');
    p->has_value = equals < name.len;
    p->value =
        p->has_value ? bytes_of(name.data + equals + 1, name.len - equals - 1) : BYTES_LITERAL("");
    p->name = bytes_of(name.data, equals);
    const struct option *o = option_find_flag(p->name);
    if (o == NULL) return usage(p, "flag provided but not defined: -", p->name, "");
    return take_flag(p, o);
}

static bool is_help(struct bytes word)
{
    while (word.len > 0 && word.data[0] == '-') word = bytes_of(word.data + 1, word.len - 1);
    return bytes_equal(word, BYTES_LITERAL("h")) || bytes_equal(word, BYTES_LITERAL("help"));
}

/* The words behind "check". */
static enum err take_check(struct parse *p)
{
    enum flags_action action = FLAGS_CHECK;
    for (p->at++; p->at < p->argc && action == FLAGS_CHECK; p->at++) {
        struct bytes word = bytes_from_text(p->argv[p->at]);
        if (bytes_equal(word, BYTES_LITERAL("--dump")) || bytes_equal(word, BYTES_LITERAL("-dump")))
            p->f->is_dump = true;
        else if (word.len > 0 && word.data[0] == '-' && is_help(word))
            action = FLAGS_HELP_CHECK;
        else if (word.len == 0 || word.data[0] == '-' || p->f->store.len > 0)
            action = FLAGS_CHECK_ERROR;
        else if (arena_text(&p->f->arena, word, &p->f->store) != ERR_OK)
            return ERR_MEMORY;
    }
    if (action == FLAGS_CHECK_ERROR || (action == FLAGS_CHECK && p->f->store.len == 0)) {
        struct writer w;
        char room[MESSAGE_BYTES_MAX];
        writer_init(&w, room, sizeof room);
        writer_text(&w, "check takes the folder of one store, and --dump");
        return stop(p, FLAGS_CHECK_ERROR, &w);
    }
    p->is_done = true;
    p->f->action = action;
    return ERR_OK;
}

/* Words without a dash. */
static enum err take_command(struct parse *p)
{
    struct bytes word = bytes_from_text(p->argv[p->at]);
    if (bytes_equal_nocase(word, BYTES_LITERAL("version")))
        p->wants_version = true;
    else if (bytes_equal_nocase(word, BYTES_LITERAL("help")))
        p->wants_help = true;
    else if (bytes_equal(word, BYTES_LITERAL("check")))
        return take_check(p);
    else
        return error(p, "unrecognized command: ", word, true, "");
    return ERR_OK;
}

/* In the order in which nats-server looks at them. */
static enum err decide(struct parse *p)
{
    struct flags *f = p->f;
    if (p->wants_version) {
        f->action = FLAGS_VERSION;
    } else if (p->wants_help) {
        f->action = FLAGS_HELP;
    } else if (p->wants_help_tls) {
        f->action = FLAGS_HELP_TLS;
    } else if (p->wants_man) {
        f->action = FLAGS_MAN;
    } else if (f->signal.len > 0) {
        f->action = FLAGS_SIGNAL;
    } else if (p->wants_test) {
        f->action = FLAGS_TEST;
        if (f->config_file.len == 0)
            return error(p, "must specify [-c, --config] option to check configuration file syntax",
                         BYTES_LITERAL(""), false, "");
    } else if (p->wants_print) {
        f->action = FLAGS_PRINT_CONFIG;
    }
    return ERR_OK;
}

/* Refusals of single flags wait until it is known that no help was asked for: nats-server prints
 * the version for "-js -v" too. */
static enum err parse_words(struct parse *p)
{
    enum err e = ERR_OK;
    while (e == ERR_OK && p->at < p->argc) {
        const char *word = p->argv[p->at];
        if (word[0] != '-' || word[1] == 0) break;
        if (word[1] == '-' && word[2] == 0) {
            p->at++;
            break;
        }
        e = take_word(p);
        if (p->is_done && p->f->action == FLAGS_USAGE) return e;
    }
    if (e != ERR_OK) return e;
    bool is_refused = p->is_done;
    bool is_information = p->wants_version || p->wants_help || p->wants_help_tls || p->wants_man;
    if (p->at < p->argc && !is_information && !is_refused) e = take_command(p);
    is_information = p->wants_version || p->wants_help || p->wants_help_tls || p->wants_man;
    if (e != ERR_OK || (p->is_done && !is_information)) return e;
    p->f->message = BYTES_LITERAL("");
    return decide(p);
}

enum err flags_parse(struct flags *f, struct mem *mem, int argc, char *const *argv)
{
    struct bytes none = BYTES_LITERAL("");
    *f = (struct flags){
        .message = none, .config_file = none, .signal = none, .signal_target = none, .store = none};
    arena_init(&f->arena, mem, MEM_CONFIG);
    struct parse p = {.f = f, .argc = argc, .argv = argv, .at = argc > 0 ? 1 : 0};
    enum err e = parse_words(&p);
    if (e != ERR_OK) arena_deinit(&f->arena);
    return e;
}

void flags_deinit(struct flags *f)
{
    arena_deinit(&f->arena);
}
