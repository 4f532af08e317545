#include "core/config/options.h"
#include "core/auth/account.h"
#include "core/base/duration.h"
#include "core/base/must.h"
#include "core/base/time_text.h"
#include "core/config/flags.h"
#include "core/config/load.h"

enum { REPORT_BYTES_MAX = 4 << 20 };

struct options_memory {
    struct arena arena;
    struct account_set *set;
    struct options options;
};

/* --- defaults ------------------------------------------------------------------------------- */

static int64_t default_number(const struct option *o)
{
    int64_t value = 0;
    struct bytes text = bytes_from_text(o->initial);
    enum err e =
        o->type == OPTION_DURATION || o->type == OPTION_DURATION_TEXT || o->type == OPTION_SECONDS
            ? duration_parse(text, &value, NULL)
            : bytes_to_i64(text, &value);
    must(e == ERR_OK);
    return value;
}

static unsigned default_choice(const struct option *o)
{
    struct bytes word;
    const char *at = o->values;
    for (unsigned i = 0; option_next_word(&at, &word); i++)
        if (bytes_equal(word, bytes_from_text(o->initial))) return i;
    must(false);
    return 0;
}

static void set_default(struct options *options, const struct option *o)
{
    void *field = (char *)options + o->offset;
    switch (o->type) {
    case OPTION_BOOL: *(bool *)field = strcmp(o->initial, "true") == 0; break;
    case OPTION_INT32: *(int32_t *)field = (int32_t)default_number(o); break;
    case OPTION_U8: *(uint8_t *)field = (uint8_t)default_number(o); break;
    case OPTION_U32: *(uint32_t *)field = (uint32_t)default_number(o); break;
    case OPTION_INT64:
    case OPTION_SIZE:
    case OPTION_DURATION:
    case OPTION_DURATION_TEXT:
    case OPTION_SECONDS: *(int64_t *)field = default_number(o); break;
    case OPTION_TEXT:
    case OPTION_NAME:
    case OPTION_BASE_PATH: *(struct bytes *)field = bytes_from_text(o->initial); break;
    case OPTION_CHOICE: *(unsigned *)field = default_choice(o); break;
    case OPTION_MEMORY: options->max_process_memory_percent = 80; break;
    case OPTION_TLS_VERSION: *(uint16_t *)field = 0x0303; break;
    default: break; /* lists are empty, all else is off; OPTION_SYNC is always */
    }
}

void options_init(struct options *options)
{
    must(options != NULL);
    struct bytes none = BYTES_LITERAL("");
    *options = (struct options){.config_file = none, .config_digest = none};
    size_t count;
    const struct option *rows = option_rows(&count);
    for (size_t i = 0; i < count; i++)
        if (option_has_field(&rows[i])) set_default(options, &rows[i]);
    options->http_host = options->host;
    options->tls.place = none;
    options->auth_timeout_ns = INT64_C(2000000000);
}

void options_report_init(struct options_report *r, struct mem *mem)
{
    *r = (struct options_report){.error_count = 0};
    text_init(&r->errors, mem, MEM_CONFIG, REPORT_BYTES_MAX);
    text_init(&r->warnings, mem, MEM_CONFIG, REPORT_BYTES_MAX);
    text_init(&r->notices, mem, MEM_CONFIG, REPORT_BYTES_MAX);
}

void options_report_deinit(struct options_report *r)
{
    text_deinit(&r->errors);
    text_deinit(&r->warnings);
    text_deinit(&r->notices);
}

/* --- overlays: environment, --set and flags as trees over the file's ------------------------- */

/* The block that a plain jetstream: true stands for, so that one source may say that and another
 * what stands inside. Anything else stays what it is. NULL: no memory. */
static struct conf_value *as_block(struct load *l, struct bytes path, struct conf_value *value)
{
    bool is_on;
    const struct option *o = option_find(path);
    if (o == NULL || o->type != OPTION_JETSTREAM || !load_is_switch(value, &is_on)) return value;
    struct conf_value *block = conf_new_map(l->scratch);
    struct conf_value *on = arena_alloc(l->scratch, sizeof(*on));
    if (block == NULL || on == NULL) return NULL;
    block->place = value->place;
    *on = (struct conf_value){
        .kind = CONF_BOOL, .weight = 1, .place = value->place, .boolean = is_on};
    return conf_set(l->scratch, block, BYTES_LITERAL("enabled"), on) == ERR_OK ? block : NULL;
}

/* Puts value at path, making the maps in between. */
static enum err overlay_put(struct load *l, struct conf_value *tree, struct bytes path,
                            struct conf_value *value)
{
    for (;;) {
        size_t dot = bytes_find(path, '.');
        if (dot == path.len) return conf_set(l->scratch, tree, path, value);
        struct bytes key = bytes_of(path.data, dot);
        struct conf_value *below = conf_get(tree, key);
        if (below != NULL) {
            below = as_block(l, key, below);
            enum err e = below == NULL ? ERR_MEMORY : conf_set(l->scratch, tree, key, below);
            if (e != ERR_OK) return e;
        }
        if (below == NULL || below->kind != CONF_MAP) {
            below = conf_new_map(l->scratch);
            if (below == NULL) return ERR_MEMORY;
            below->place = value->place;
            enum err e = conf_set(l->scratch, tree, key, below);
            if (e != ERR_OK) return e;
        }
        tree = below;
        path = bytes_of(path.data + dot + 1, path.len - dot - 1);
    }
}

/* "a.b" of block and key, for option_find. NULL data: no memory. */
static struct bytes path_of(struct load *l, struct bytes block, struct bytes key)
{
    char *data = arena_alloc(l->scratch, block.len + 1 + key.len);
    if (data == NULL) return bytes_of(NULL, 0);
    memcpy(data, block.data, block.len);
    data[block.len] = '.';
    if (key.len > 0) memcpy(data + block.len + 1, key.data, key.len);
    return block.len == 0 ? bytes_of(data + 1, key.len) : bytes_of(data, block.len + 1 + key.len);
}

static bool same_option(struct bytes path_a, struct bytes path_b)
{
    const struct option *a = option_find(path_a);
    return bytes_equal_nocase(path_a, path_b) || (a != NULL && a == option_find(path_b));
}

/* The entry of map that means the same option as path; names may differ by aliases. */
static enum err find_same(struct load *l, const struct conf_value *map, struct bytes block,
                          struct bytes path, const struct conf_entry **found)
{
    *found = NULL;
    for (const struct conf_entry *e = map->map.first; e != NULL; e = e->next) {
        struct bytes other = path_of(l, block, e->key);
        if (other.data == NULL) return ERR_MEMORY;
        if (same_option(other, path)) *found = e;
    }
    return ERR_OK;
}

/* A new map: base where over says nothing, else over; maps are merged. base is never changed: a
 * variable may share it. Over comes last, so that "port" beats an earlier "listen".
 * Recursion: as deep as over, whose paths come from --set and options.def. */
static enum err merge(struct load *l, const struct conf_value *base, const struct conf_value *over,
                      struct bytes block, uint32_t depth, struct conf_value **out)
{
    must(depth <= CONF_DEPTH_MAX);
    struct conf_value *merged = conf_new_map(l->scratch);
    if (merged == NULL) return ERR_MEMORY;
    merged->place = base->place;
    merged->is_used = base->is_used;
    const struct conf_entry *same;
    for (const struct conf_entry *e = base->map.first; e != NULL; e = e->next) {
        struct bytes path = path_of(l, block, e->key);
        if (path.data == NULL) return ERR_MEMORY;
        enum err failed = find_same(l, over, block, path, &same);
        if (failed == ERR_OK && same == NULL)
            failed = conf_set(l->scratch, merged, e->key, e->value);
        if (failed != ERR_OK) return failed;
    }
    for (const struct conf_entry *o = over->map.first; o != NULL; o = o->next) {
        struct bytes path = path_of(l, block, o->key);
        if (path.data == NULL) return ERR_MEMORY;
        enum err failed = find_same(l, base, block, path, &same);
        struct conf_value *value = o->value, *under = same != NULL ? same->value : NULL;
        if (failed == ERR_OK && under != NULL) {
            value = as_block(l, path, value);
            under = as_block(l, path, under);
            if (value == NULL || under == NULL) return ERR_MEMORY;
        }
        bool is_nested =
            failed == ERR_OK && under != NULL && under->kind == CONF_MAP && value->kind == CONF_MAP;
        if (is_nested) failed = merge(l, under, value, path, depth + 1, &value);
        if (failed == ERR_OK) failed = conf_set(l->scratch, merged, o->key, value);
        if (failed != ERR_OK) return failed;
    }
    *out = merged;
    return ERR_OK;
}

enum { ENVIRONMENT_NAME_MAX = 96 };

static bool is_environment_option(const struct option *o)
{
    return o->type != OPTION_FLAG && o->type != OPTION_REFUSED;
}

/* MILLRACE_A_B for a.b. */
static struct bytes environment_name(const struct option *o, char room[ENVIRONMENT_NAME_MAX])
{
    struct writer w;
    writer_init(&w, room, ENVIRONMENT_NAME_MAX);
    writer_text(&w, "MILLRACE_");
    for (const char *c = o->path; *c != 0; c++)
        writer_char(&w, *c == '.' ? '_' : *c >= 'a' && *c <= 'z' ? (char)(*c - 32) : *c);
    must(!w.is_full);
    return writer_written(&w);
}

/* Kubernetes sets MILLRACE_PORT=tcp://10.0.0.1:4222, MILLRACE_PORT_4222_TCP and
 * MILLRACE_SERVICE_HOST in every container beside a service called millrace. */
static bool is_of_service_link(struct bytes name, struct bytes value)
{
    if (bytes_starts_with(name, BYTES_LITERAL("MILLRACE_SERVICE_")) ||
        bytes_starts_with(name, BYTES_LITERAL("MILLRACE_PORT_")))
        return true;
    return bytes_equal(name, BYTES_LITERAL("MILLRACE_PORT")) &&
           (bytes_starts_with(value, BYTES_LITERAL("tcp://")) ||
            bytes_starts_with(value, BYTES_LITERAL("udp://")));
}

/* false: not set. */
static bool environment_of(struct load *l, struct conf_source *source, const struct option *o,
                           struct bytes *name, struct bytes *value)
{
    char room[ENVIRONMENT_NAME_MAX];
    struct bytes written = environment_name(o, room);
    if (!source->getenv(source, written, value) || is_of_service_link(written, *value))
        return false;
    return arena_text(l->scratch, written, name) == ERR_OK;
}

static bool is_environment_known(struct bytes name)
{
    size_t count;
    char room[ENVIRONMENT_NAME_MAX];
    const struct option *rows = option_rows(&count);
    for (size_t i = 0; i < count; i++)
        if (is_environment_option(&rows[i]) && bytes_equal(environment_name(&rows[i], room), name))
            return true;
    return false;
}

/* A mistyped name would do nothing and say nothing. It is no error: what else a container finds in
 * its environment is not always its owner's choice. */
static void warn_of_unknown_environment(struct load *l, struct conf_source *source)
{
    struct bytes name, value = bytes_of(NULL, 0);
    for (size_t at = 0; source->name_at != NULL && source->name_at(source, at, &name); at++) {
        if (!bytes_starts_with(name, BYTES_LITERAL("MILLRACE_")) || is_environment_known(name) ||
            is_of_service_link(name, value))
            continue;
        struct text *line = load_warning(l, NULL);
        text_string(line, "environment variable ");
        text_bytes(line, name);
        text_string(line, " names no option and is not used");
        load_end(line);
    }
}

static bool is_time(const struct option *o)
{
    switch (o->type) {
    case OPTION_DURATION:
    case OPTION_DURATION_TEXT:
    case OPTION_SECONDS:
    case OPTION_SYNC:
    case OPTION_HANDSHAKE: return true;
    default: return o == option_find(BYTES_LITERAL("authorization.timeout"));
    }
}

/* A path or a password of the environment is what it is, whatever characters it has. */
static bool is_verbatim(const struct option *o)
{
    return o->type == OPTION_TEXT || o->type == OPTION_NAME ||
           (o->type == OPTION_INSIDE && !is_time(o));
}

/* 2m without quotes is two million to the file's grammar, and so 23 days. There it has to be, for
 * the sake of files of nats-server; here it is a time, as --help writes it. */
static bool is_bare_time(const struct option *o, struct bytes text)
{
    if (o == NULL || !is_time(o)) return false;
    if (text.len == 0 || text.data[0] < '0' || text.data[0] > '9') return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        if ((c < '0' || c > '9') && c != '.') return true;
    }
    return false;
}

static enum err plain_text(struct load *l, struct bytes name, struct bytes text,
                           struct conf_value **value)
{
    *value = arena_alloc(l->scratch, sizeof(**value));
    if (*value == NULL) return ERR_MEMORY;
    **value =
        (struct conf_value){.kind = CONF_TEXT, .weight = 1, .place = {.file = name}, .text = text};
    return ERR_OK;
}

static enum err parsed(struct load *l, struct conf_source *source, const struct option *o,
                       struct bytes name, struct bytes text, struct conf_value **value)
{
    struct conf_error fault;
    if (is_bare_time(o, text)) return plain_text(l, name, text, value);
    enum err e = conf_parse_value(l->scratch, source, name, text, value, &fault);
    if (e == ERR_OK) {
        (*value)->place = (struct conf_place){.file = name};
        return ERR_OK;
    }
    if (e == ERR_MEMORY) return e;
    struct conf_value at = {.place = {.file = name}};
    load_error_text(l, &at, fault.text);
    *value = NULL;
    return ERR_OK;
}

static enum err environment_tree(struct load *l, struct conf_source *source,
                                 struct conf_value *tree)
{
    size_t count;
    const struct option *rows = option_rows(&count);
    for (size_t i = 0; i < count; i++) {
        struct bytes name, text;
        struct conf_value *value;
        if (!is_environment_option(&rows[i])) continue;
        if (!environment_of(l, source, &rows[i], &name, &text)) continue;
        enum err e;
        if (is_verbatim(&rows[i]))
            e = plain_text(l, name, text, &value);
        else
            e = parsed(l, source, &rows[i], name, text, &value);
        if (e == ERR_OK && value != NULL)
            e = overlay_put(l, tree, bytes_from_text(rows[i].path), value);
        if (e != ERR_OK) return e;
    }
    warn_of_unknown_environment(l, source);
    return ERR_OK;
}

/* An option named by --set; unknown ones are found when the tree is loaded. */
static enum err set_tree(struct load *l, struct conf_source *source, const struct flags *flags,
                         struct conf_value *tree)
{
    enum { PATH_WORDS_MAX = 8 };
    for (const struct flags_set *s = flags->sets; s != NULL; s = s->next) {
        struct conf_value *value;
        uint32_t words = 1;
        for (size_t i = 0; i < s->path.len; i++) words += s->path.data[i] == '.';
        struct bytes name = BYTES_LITERAL("--set");
        struct conf_value at = {.place = {.file = name}};
        if (words > PATH_WORDS_MAX) {
            load_unknown(l, &at, s->path);
            continue;
        }
        enum err e = parsed(l, source, option_find(s->path), name, s->value, &value);
        if (e == ERR_OK && value != NULL) e = overlay_put(l, tree, s->path, value);
        if (e != ERR_OK) return e;
    }
    return ERR_OK;
}

static enum err flags_tree(struct load *l, const struct flags *flags, struct conf_value *tree)
{
    for (struct flags_setting *s = flags->settings; s != NULL; s = s->next) {
        struct conf_value *value = arena_alloc(l->scratch, sizeof(*value));
        if (value == NULL) return ERR_MEMORY;
        *value = s->value;
        enum err e = overlay_put(l, tree, bytes_from_text(s->option->path), value);
        if (e != ERR_OK) return e;
    }
    return ERR_OK;
}

/* --- the file and its digest ---------------------------------------------------------------- */

static enum err digest_of(struct load *l, const struct options_input *in,
                          const struct conf_value *file)
{
    static const char prefix[] = "sha256:";
    enum { DIGEST_BYTES = 32, CANONICAL_BYTES_MAX = 256 << 20 };
    if (in->sha256 == NULL) return ERR_OK;
    struct text canonical;
    uint8_t digest[DIGEST_BYTES];
    text_init(&canonical, l->mem, MEM_CONFIG, CANONICAL_BYTES_MAX);
    enum err e = conf_canonical(file, l->scratch, &canonical);
    char *text = arena_alloc(l->arena, sizeof(prefix) + DIGEST_BYTES * 2);
    if (text == NULL) e = ERR_MEMORY;
    if (e == ERR_OK) {
        in->sha256(canonical.data, canonical.len, digest);
        memcpy(text, prefix, sizeof(prefix) - 1);
        bytes_to_hex(digest, DIGEST_BYTES, text + sizeof(prefix) - 1);
        l->o->config_digest = bytes_of(text, sizeof(prefix) - 1 + 2 * DIGEST_BYTES);
    }
    text_deinit(&canonical);
    return e;
}

/* The configuration file as a tree, an empty one if there is none. */
static enum err file_tree(struct load *l, const struct options_input *in, struct conf_value **tree)
{
    if (in->flags == NULL || in->flags->config_file.len == 0) {
        *tree = conf_new_map(l->scratch);
        return *tree == NULL ? ERR_MEMORY : ERR_OK;
    }
    struct conf_error fault;
    enum err e = load_keep(l, in->flags->config_file, &l->o->config_file);
    if (e != ERR_OK) return e;
    e = conf_parse_file(l->scratch, in->source, l->o->config_file, tree, &fault);
    if (e != ERR_OK) {
        l->report->error_count++;
        conf_error_print(&fault, &l->report->errors);
        load_end(&l->report->errors);
        return e;
    }
    if ((*tree)->map.count == 0) {
        struct text *line = load_warning(l, NULL);
        text_bytes(line, l->o->config_file);
        text_string(line, ": config has no values or is empty");
        load_end(line);
    }
    return digest_of(l, in, *tree);
}

static enum err merged_tree(struct load *l, const struct options_input *in,
                            struct conf_value **tree)
{
    struct bytes top = BYTES_LITERAL("");
    struct conf_value *environment = conf_new_map(l->scratch), *set = conf_new_map(l->scratch),
                      *flags = conf_new_map(l->scratch);
    if (environment == NULL || set == NULL || flags == NULL) return ERR_MEMORY;
    enum err e = file_tree(l, in, tree);
    if (e == ERR_OK && in->source != NULL) e = environment_tree(l, in->source, environment);
    if (e == ERR_OK && in->flags != NULL) e = set_tree(l, in->source, in->flags, set);
    if (e == ERR_OK && in->flags != NULL) e = flags_tree(l, in->flags, flags);
    if (e == ERR_OK) e = merge(l, *tree, environment, top, 0, tree);
    if (e == ERR_OK) e = merge(l, *tree, set, top, 0, tree);
    if (e == ERR_OK) e = merge(l, *tree, flags, top, 0, tree);
    return e;
}

/* --- what follows from the values together --------------------------------------------------- */

/* --tls and its companions replace the file's certificates as a whole. */
static void apply_tls_flags(struct load *l, const struct flags *flags)
{
    struct options_tls *t = &l->o->tls;
    if (flags == NULL) return;
    if (flags->tls == FLAGS_TLS_OFF) {
        t->is_on = false;
        return;
    }
    if (flags->tls == FLAGS_TLS_UNSAID && !flags->has_tls_flags) return;
    bool has_cert = false, has_key = false, has_ca = false, has_verify = false;
    for (const struct flags_setting *s = flags->settings; s != NULL; s = s->next) {
        struct bytes path = bytes_from_text(s->option->path);
        has_cert |= bytes_equal(path, BYTES_LITERAL("tls.cert_file"));
        has_key |= bytes_equal(path, BYTES_LITERAL("tls.key_file"));
        has_ca |= bytes_equal(path, BYTES_LITERAL("tls.ca_file"));
        has_verify |= bytes_equal(path, BYTES_LITERAL("tls.verify"));
    }
    if (!has_cert)
        load_error_text(l, NULL, "TLS Server certificate must be present and valid");
    else if (!has_key)
        load_error_text(l, NULL, "TLS Server private key must be present and valid");
    t->is_on = true;
    t->cert_count = 0;
    t->certs = NULL;
    if (!has_ca) t->ca_file = BYTES_LITERAL("");
    if (!has_verify) t->verify = false;
}

/* "0,2-5" */
static bool cpus_are_valid(struct bytes list)
{
    enum { CPU_MAX = 4095 };
    while (list.len > 0) {
        struct bytes part = bytes_of(list.data, bytes_find(list, ','));
        size_t dash = bytes_find(part, '-');
        uint64_t first, last;
        if (bytes_to_u64(bytes_of(part.data, dash), 4, &first) != ERR_OK) return false;
        last = first;
        if (dash < part.len &&
            bytes_to_u64(bytes_of(part.data + dash + 1, part.len - dash - 1), 4, &last) != ERR_OK)
            return false;
        if (first > last || last > CPU_MAX) return false;
        size_t used = part.len < list.len ? part.len + 1 : part.len;
        if (used == list.len && part.len < list.len) return false;
        list = bytes_of(list.data + used, list.len - used);
    }
    return true;
}

static void check_limits(struct load *l)
{
    const struct options *o = l->o;
    if (o->lame_duck_grace_period_ns >= o->lame_duck_duration_ns) {
        struct text *line = load_error(l, NULL);
        text_string(line, "lame duck grace period (");
        time_text_duration(line, o->lame_duck_grace_period_ns);
        text_string(line, ") should be strictly lower than lame duck duration (");
        time_text_duration(line, o->lame_duck_duration_ns);
        text_char(line, ')');
        load_end(line);
    }
    if (o->max_payload > o->max_pending) {
        struct text *line = load_error(l, NULL);
        text_string(line, "max_payload (");
        text_i64(line, o->max_payload);
        text_string(line, ") cannot be higher than max_pending (");
        text_i64(line, o->max_pending);
        text_char(line, ')');
        load_end(line);
    }
    if (o->max_payload > 8 * 1024 * 1024) {
        struct text *line = load_notice(l, NULL);
        text_string(line, "Maximum payloads over 8.00 MB are generally discouraged and could lead "
                          "to poor performance");
        load_end(line);
    }
}

static void check_listeners(struct load *l)
{
    const struct options *o = l->o;
    if (o->http_port != OPTIONS_PORT_OFF && o->https_port != OPTIONS_PORT_OFF) {
        struct text *line = load_error(l, NULL);
        text_string(line, "can't specify both HTTP (");
        text_i64(line, o->http_port);
        text_string(line, ") and HTTPs (");
        text_i64(line, o->https_port);
        text_string(line, ") ports");
        load_end(line);
    }
    if (o->https_port != OPTIONS_PORT_OFF && !o->tls.is_on)
        load_error_text(l, NULL, "TLS cert and key required for HTTPS");
    if (!cpus_are_valid(o->cpus)) {
        struct text *line = load_error(l, NULL);
        text_string(line, "cpus must be a list such as 0,2-5, not ");
        load_quoted(line, o->cpus);
        load_end(line);
    }
}

static enum err tls_place(struct load *l)
{
    struct text place;
    if (l->tls == NULL) return ERR_OK;
    text_init(&place, l->mem, MEM_CONFIG, CONF_ERROR_BYTES * 8);
    conf_place_print(l->tls->place, &place);
    enum err e =
        place.is_failed ? ERR_MEMORY : load_keep(l, text_written(&place), &l->o->tls.place);
    text_deinit(&place);
    return e;
}

static void check_jetstream(struct load *l)
{
    struct options_jetstream *j = &l->o->jetstream;
    struct options plain;
    options_init(&plain);
    if (j->request_queue_max <= 0) j->request_queue_max = plain.jetstream.request_queue_max;
    if (j->info_queue_max <= 0) j->info_queue_max = j->request_queue_max;
    if (!j->is_on && l->store_dir != NULL && !l->has_jetstream)
        load_idle(l, l->store_dir, BYTES_LITERAL("store_dir"), "JetStream is off");
    const struct account *system =
        l->set == NULL ? NULL : account_set_by_number(l->set, l->set->system);
    if (j->is_on && system != NULL && system->jetstream.is_on)
        load_error_text(l, NULL, "jetstream can not be enabled on the system account");
}

static enum err finish(struct load *l, const struct options_input *in)
{
    struct options *o = l->o;
    if (o->http_host.len == 0) o->http_host = o->host;
    if (o->trace_verbose || o->trace_headers) o->trace = true;
    apply_tls_flags(l, in->flags);
    if (!o->tls.is_on) {
        struct options plain;
        options_init(&plain);
        o->tls = plain.tls;
    }
    load_tls_check(l);
    enum err e = tls_place(l);
    if (e == ERR_OK) e = load_auth(l, in->numbers, in->seed);
    if (e != ERR_OK) return e;
    if (!l->has_auth_timeout)
        o->auth_timeout_ns =
            o->tls.is_on ? o->tls.timeout_ns + INT64_C(1000000000) : INT64_C(2000000000);
    check_limits(l);
    check_listeners(l);
    check_jetstream(l);
    return ERR_OK;
}

static bool report_is_failed(const struct options_report *r)
{
    return r->errors.is_failed || r->warnings.is_failed || r->notices.is_failed;
}

/* http_host and system_account stay empty until it is known whether they were given. */
static enum err load_everything(struct load *l, const struct options_input *in)
{
    struct conf_value *tree = NULL;
    options_init(l->o);
    l->o->http_host = l->o->system_account = BYTES_LITERAL("");
    enum err e = merged_tree(l, in, &tree);
    if (e == ERR_OK) e = load_map(l, tree, BYTES_LITERAL(""));
    if (e == ERR_OK) e = finish(l, in);
    if (e != ERR_OK) return e;
    if (report_is_failed(l->report)) return ERR_MEMORY;
    return l->report->error_count > 0 ? ERR_INVALID : ERR_OK;
}

enum err options_load(struct mem *mem, const struct options_input *in, struct options **out,
                      struct options_report *report)
{
    must(in->numbers != NULL);
    struct options_memory *memory = mem_alloc_zero(mem, MEM_CONFIG, sizeof(*memory));
    if (memory == NULL) return ERR_MEMORY;
    arena_init(&memory->arena, mem, MEM_CONFIG);
    struct arena scratch;
    arena_init(&scratch, mem, MEM_CONFIG);
    struct load l = {.mem = mem,
                     .arena = &memory->arena,
                     .scratch = &scratch,
                     .o = &memory->options,
                     .report = report};
    enum err e = load_everything(&l, in);
    arena_deinit(&scratch);
    memory->set = l.set;
    memory->options.memory = memory;
    if (e != ERR_OK) {
        options_free(&memory->options);
        return e;
    }
    *out = &memory->options;
    return ERR_OK;
}

void options_free(struct options *o)
{
    if (o == NULL) return;
    struct options_memory *memory = o->memory;
    must(memory != NULL);
    must(o == &memory->options);
    struct mem *mem = memory->arena.mem;
    account_set_close(memory->set);
    arena_deinit(&memory->arena);
    mem_free(mem, MEM_CONFIG, memory, sizeof(*memory));
}
