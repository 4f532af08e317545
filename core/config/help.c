#include "core/config/help.h"
#include "core/auth/account.h"
#include "core/base/must.h"
#include "core/base/time_text.h"
#include "core/config/load.h"
#include "core/config/option.h"
#include "core/route/mapping.h"

/* --- help ----------------------------------------------------------------------------------- */

enum { FLAG_INDENT = 4, HELP_COLUMN = 38 };

/* Short flags stand in a column of their own: a row of only long ones is indented past it. */
static size_t flag_indent(const struct option *o)
{
    bool is_long = o->flags[1] == '-';
    return is_long ? FLAG_INDENT * 2 : FLAG_INDENT;
}

static void usage_row(struct text *out, const struct option *o)
{
    size_t indent = flag_indent(o), width = indent + strlen(o->flags);
    text_fill(out, ' ', indent);
    text_string(out, o->flags);
    if (width >= HELP_COLUMN) {
        text_char(out, '\n');
        width = 0;
    }
    text_fill(out, ' ', HELP_COLUMN - width);
    text_string(out, o->help);
    bool has_default = option_has_field(o) && o->type != OPTION_BOOL && o->initial[0] != 0 &&
                       strcmp(o->initial, "0") != 0;
    if (has_default) {
        text_string(out, " (default: ");
        text_string(out, o->initial);
        text_char(out, ')');
    }
    text_char(out, '\n');
}

static bool group_has_flags(enum option_group group)
{
    size_t count;
    const struct option *rows = option_rows(&count);
    for (size_t i = 0; i < count; i++)
        if (rows[i].group == group && rows[i].flags[0] != 0) return true;
    return false;
}

void help_usage(struct text *out, struct bytes program)
{
    size_t count;
    const struct option *rows = option_rows(&count);
    text_string(out, "\nUsage: ");
    text_bytes(out, program);
    text_string(out, " [options]\n       ");
    text_bytes(out, program);
    text_string(out, " check [--dump] <store>\n");
    for (int group = 0; group < OPTION_GROUP_COUNT; group++) {
        if (!group_has_flags((enum option_group)group)) continue;
        text_char(out, '\n');
        text_string(out, option_group_text((enum option_group)group));
        text_string(out, " Options:\n");
        for (size_t i = 0; i < count; i++)
            if (rows[i].group == (enum option_group)group && rows[i].flags[0] != 0)
                usage_row(out, &rows[i]);
    }
    text_string(out,
                "\nEvery option can also be set by the environment: MILLRACE_PING_INTERVAL=1m.\n"
                "The manual page (--man) lists those that have no flag.\n\n");
}

void help_tls(struct text *out)
{
    size_t count;
    const struct option *rows = option_rows(&count);
    text_string(out, "\nTLS is switched on by a block of the configuration file:\n\n"
                     "    tls {\n"
                     "        cert_file: \"./server-cert.pem\"\n"
                     "        key_file:  \"./server-key.pem\"\n"
                     "        ca_file:   \"./ca.pem\"\n"
                     "        verify:    true\n"
                     "    }\n\nIts options:\n\n");
    for (size_t i = 0; i < count; i++) {
        struct bytes path = bytes_from_text(rows[i].path);
        if (!bytes_starts_with(path, BYTES_LITERAL("tls.")) || rows[i].type == OPTION_REFUSED)
            continue;
        text_fill(out, ' ', FLAG_INDENT);
        text_string(out, rows[i].path + 4);
        text_fill(out, ' ', path.len < 26 ? 26 - path.len : 1);
        text_string(out, rows[i].help);
        text_char(out, '\n');
    }
    text_char(out, '\n');
    load_tls_names(out);
}

void help_check(struct text *out)
{
    text_string(
        out,
        "\nUsage: millrace check [--dump] <store>\n\n"
        "Reads and verifies everything in a store folder whose server is stopped, and writes\n"
        "nothing. Each damaged range is told with what it cost.\n\n"
        "    --dump  every record is printed, one a line\n\n"
        "Exit code: 0 clean, 1 something is damaged, 2 the store cannot be read (in use, of a\n"
        "newer version, no permission, no store), or these words are wrong.\n\n");
}

/* --- manual page ---------------------------------------------------------------------------- */

/* roff takes a leading dot or quote for a request, and a bare minus for a hyphen. */
static void roff(struct text *out, const char *text)
{
    for (const char *c = text; *c != 0; c++) {
        if (*c == '\\' || *c == '-') text_char(out, '\\');
        if ((*c == '.' || *c == '\'') && c == text) text_string(out, "\\&");
        text_char(out, *c);
    }
}

/* Words that spaces part, as a list. */
static void roff_list(struct text *out, const char *words)
{
    struct bytes word;
    for (const char *at = words; option_next_word(&at, &word);) {
        if (word.data != words) text_string(out, ", ");
        text_bytes(out, word); /* names of options: nothing for roff in them */
    }
}

static void man_row(struct text *out, const struct option *o, const char *name, bool is_flag)
{
    text_string(out, ".TP\n.B ");
    roff(out, name);
    text_char(out, '\n');
    roff(out, o->help);
    /* Of the name in the file; all flags stand in name already. */
    if (o->aliases[0] != 0 && !is_flag) {
        text_string(out, "; also ");
        roff_list(out, o->aliases);
    }
    if (option_has_field(o) && o->initial[0] != 0) {
        text_string(out, ". Default: ");
        roff(out, o->initial);
    }
    if (o->traits & OPTION_RELOAD) text_string(out, ". Reloadable");
    if (o->traits & OPTION_IDLE) text_string(out, ". No effect yet");
    text_string(out, ".\n");
}

static void man_options(struct text *out, bool is_flags)
{
    size_t count;
    const struct option *rows = option_rows(&count);
    for (int group = 0; group < OPTION_GROUP_COUNT; group++) {
        bool has_heading = false;
        for (size_t i = 0; i < count; i++) {
            const char *name = is_flags ? rows[i].flags : rows[i].path;
            if (rows[i].group != (enum option_group)group || name[0] == 0 ||
                rows[i].type == OPTION_REFUSED)
                continue;
            if (!has_heading) {
                text_string(out, ".SS ");
                text_string(out, option_group_text((enum option_group)group));
                text_char(out, '\n');
            }
            has_heading = true;
            man_row(out, &rows[i], name, is_flags);
        }
    }
}

void help_man(struct text *out, struct bytes version)
{
    text_string(out, ".TH MILLRACE 1 \"\" \"millrace ");
    text_bytes(out, version);
    text_string(out, "\"\n.SH NAME\nmillrace \\- message broker that speaks the NATS protocol\n"
                     ".SH SYNOPSIS\n.B millrace\n[options]\n.br\n.B millrace check\n"
                     "[\\-\\-dump] <store>\n.SH DESCRIPTION\n"
                     "Takes the place of nats\\-server: the same clients, flags and configuration "
                     "files.\nFlags follow the rules of Go: one dash or two, a value behind a "
                     "space or \\(dq=\\(dq, booleans bare or with =true.\n"
                     "A value on the command line beats \\-\\-set, which beats the environment, "
                     "which beats the file.\n.SH FLAGS\n");
    man_options(out, true);
    text_string(out, ".SH CONFIGURATION FILE\n"
                     "Entries are \\(dqname: value\\(dq, \\(dqname = value\\(dq or "
                     "\\(dqname value\\(dq; a dot stands for a block: a.b is \\(dqa { b: "
                     "value }\\(dq.\nComments start with # or //. "
                     "\\(dqinclude file\\(dq inserts another file. $NAME is an earlier entry or "
                     "an environment variable.\nTimes are texts such as \\(dq2m\\(dq or "
                     "\\(dq500ms\\(dq; sizes take k, m, g (1000) and kb, mb, gb (1024).\n");
    man_options(out, false);
    text_string(out, ".SH ENVIRONMENT\n.TP\n.B MILLRACE_A_B\nthe option a.b, as it would stand in "
                     "the file; times and texts need no quotes here\n.SH SIGNALS\n"
                     "HUP reloads the file, USR1 opens the log anew, USR2 enters lame duck mode, "
                     "INT and TERM stop.\n.SH FILES\n.TP\n.I /etc/millrace/millrace.conf\n"
                     "what the systemd unit reads; without \\-c no file is read\n.TP\n"
                     ".I <store_dir>/jetstream\nthe store of JetStream. Without store_dir it is in "
                     "$STATE_DIRECTORY, else in /var/lib/millrace for root, in "
                     "$XDG_DATA_HOME/millrace or ~/.local/share/millrace for others. Copy it while "
                     "the server is stopped only\n.TP\n"
                     ".I /usr/share/doc/millrace/docs/OPERATIONS.md\nhow to run, watch, back up "
                     "and tune it\n.SH EXIT STATUS\n"
                     "0: as asked. 1: a mistake in flags or configuration, it cannot start, a stop "
                     "could not write the end of a log, or a signal found nobody. Of check: 0 "
                     "clean, 1 something is damaged, 2 nothing can be said of the store, or "
                     "a mistake in the words behind it.\n");
}

/* --- the options in effect ------------------------------------------------------------------ */

static void put_texts(struct text *out, const struct bytes *items, uint32_t count)
{
    text_char(out, '[');
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) text_string(out, ", ");
        load_quoted(out, items[i]);
    }
    text_char(out, ']');
}

static void put_pins(struct text *out, const struct options_tls *t)
{
    char hex[2 * OPTIONS_PIN_BYTES];
    text_char(out, '[');
    for (uint32_t i = 0; i < t->pinned_count; i++) {
        text_string(out, i > 0 ? ", \"" : "\"");
        bytes_to_hex(t->pinned[i], OPTIONS_PIN_BYTES, hex);
        text_bytes(out, bytes_of(hex, sizeof hex));
        text_char(out, '"');
    }
    text_char(out, ']');
}

static void put_handshake(struct text *out, const struct options_tls *t)
{
    if (!t->handshake_first || t->handshake_first_fallback_ns == 0) {
        text_string(out, t->handshake_first ? "true" : "false");
        return;
    }
    text_char(out, '"');
    time_text_duration(out, t->handshake_first_fallback_ns);
    text_char(out, '"');
}

static void put_choice(struct text *out, const struct option *o, unsigned chosen)
{
    const char *at = o->values;
    struct bytes word = BYTES_LITERAL("");
    for (unsigned i = 0; i <= chosen; i++) {
        bool has_word = option_next_word(&at, &word);
        must(has_word);
    }
    load_quoted(out, word);
}

static void put_duration(struct text *out, const struct option *o, int64_t ns)
{
    text_char(out, '"');
    if (o->type == OPTION_SYNC && ns == 0)
        text_string(out, "always");
    else
        time_text_duration(out, ns);
    text_char(out, '"');
}

void help_value(struct text *out, const struct option *o, const struct options *options)
{
    const void *field = (const char *)options + o->offset;
    const struct options_pairs *pairs = field;
    switch (o->type) {
    case OPTION_BOOL: text_string(out, *(const bool *)field ? "true" : "false"); break;
    case OPTION_INT32: text_i64(out, *(const int32_t *)field); break;
    case OPTION_SIZE:
    case OPTION_INT64: text_i64(out, *(const int64_t *)field); break;
    case OPTION_U8: text_u64(out, *(const uint8_t *)field); break;
    case OPTION_U32: text_u64(out, *(const uint32_t *)field); break;
    case OPTION_SYNC:
    case OPTION_DURATION:
    case OPTION_DURATION_TEXT:
    case OPTION_SECONDS: put_duration(out, o, *(const int64_t *)field); break;
    case OPTION_TEXT:
    case OPTION_NAME:
    case OPTION_BASE_PATH: load_quoted(out, *(const struct bytes *)field); break;
    case OPTION_TEXTS:
    case OPTION_TAGS:
        put_texts(out, ((const struct options_texts *)field)->items,
                  ((const struct options_texts *)field)->count);
        break;
    case OPTION_PAIRS:
        text_char(out, '{');
        for (uint32_t i = 0; i < pairs->count; i++) {
            if (i > 0) text_string(out, ", ");
            load_quoted(out, pairs->items[i].key);
            text_string(out, ": ");
            load_quoted(out, pairs->items[i].value);
        }
        text_char(out, '}');
        break;
    case OPTION_CHOICE: put_choice(out, o, *(const unsigned *)field); break;
    case OPTION_MEMORY:
        if (options->max_process_memory_bytes > 0) {
            text_u64(out, options->max_process_memory_bytes);
        } else {
            text_char(out, '"');
            text_u64(out, options->max_process_memory_percent);
            text_string(out, "%\"");
        }
        break;
    case OPTION_CERTS:
        text_char(out, '[');
        for (uint32_t i = 0; i < options->tls.cert_count; i++) {
            text_string(out, i > 0 ? ", {cert_file: " : "{cert_file: ");
            load_quoted(out, options->tls.certs[i].cert_file);
            text_string(out, ", key_file: ");
            load_quoted(out, options->tls.certs[i].key_file);
            text_char(out, '}');
        }
        text_char(out, ']');
        break;
    case OPTION_PINNED: put_pins(out, &options->tls); break;
    case OPTION_HANDSHAKE: put_handshake(out, &options->tls); break;
    case OPTION_TLS_VERSION:
        text_string(out, *(const uint16_t *)field == 0x0304 ? "\"1.3\"" : "\"1.2\"");
        break;
    default: must(false);
    }
}

static void put_secret(struct text *out, const char *key)
{
    text_string(out, key);
    text_string(out, ": \"[REDACTED]\"");
}

static void put_list(struct text *out, const char *name, struct perms_list list, bool *has_any)
{
    if (list.count == 0) return;
    text_string(out, *has_any ? ", " : "");
    *has_any = true;
    text_string(out, name);
    text_string(out, ": ");
    put_texts(out, list.entries, list.count);
}

static void put_rights(struct text *out, const char *name, struct perms_list allow,
                       struct perms_list deny, bool *has_any)
{
    bool has_list = false;
    if (allow.count == 0 && deny.count == 0) return;
    text_string(out, *has_any ? ", " : "");
    *has_any = true;
    text_string(out, name);
    text_string(out, ": {");
    put_list(out, "allow", allow, &has_list);
    put_list(out, "deny", deny, &has_list);
    text_char(out, '}');
}

static void put_permissions(struct text *out, const char *name, const struct perms *p)
{
    if (p == NULL) return;
    const struct perms_spec *spec = perms_spec_of(p);
    bool has_any = false;
    text_string(out, name);
    text_string(out, ": {");
    put_rights(out, "publish", spec->publish_allow, spec->publish_deny, &has_any);
    put_rights(out, "subscribe", spec->subscribe_allow, spec->subscribe_deny, &has_any);
    if (spec->has_responses) {
        text_string(out, has_any ? ", allow_responses: {max: " : "allow_responses: {max: ");
        text_i64(out, spec->responses_max);
        text_string(out, ", expires: \"");
        time_text_duration(out, spec->responses_ttl_ns);
        text_string(out, "\"}");
    }
    text_char(out, '}');
}

static void put_default_permissions(struct text *out, const char *indent, const struct perms *p)
{
    if (p == NULL) return;
    text_string(out, indent);
    put_permissions(out, "default_permissions", p);
    text_char(out, '\n');
}

static void put_connections(struct text *out, uint32_t bits)
{
    static const char *const names[] = {"STANDARD", "WEBSOCKET", "LEAFNODE",  "LEAFNODE_WS",
                                        "MQTT",     "MQTT_WS",   "IN_PROCESS"};
    if (bits == 0) return;
    bool has_any = false;
    text_string(out, ", allowed_connection_types: [");
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!(bits & 1u << i)) continue;
        text_string(out, has_any ? ", " : "");
        text_string(out, names[i]);
        has_any = true;
    }
    text_char(out, ']');
}

static void put_users(struct text *out, const struct account_set *set, uint32_t account)
{
    bool has_any = false;
    for (uint32_t i = 0; i < set->user_count; i++) {
        const struct user *u = set->users[i];
        if (u->account != account || u->is_internal) continue;
        text_string(out, has_any ? "" : "        users: [\n");
        has_any = true;
        text_string(out, u->nkey.len > 0 ? "            {nkey: " : "            {user: ");
        load_quoted(out, u->nkey.len > 0 ? u->nkey : u->name);
        if (u->nkey.len == 0) put_secret(out, ", password");
        put_permissions(out, ", permissions", u->permissions);
        put_connections(out, u->allowed_connections);
        text_string(out, "}\n");
    }
    if (has_any) text_string(out, "        ]\n");
}

static void put_limit(struct text *out, const char *name, int64_t limit, bool *has_any)
{
    if (limit < 0) return;
    text_string(out, *has_any ? ", " : "        limits: {");
    *has_any = true;
    text_string(out, name);
    text_string(out, ": ");
    text_i64(out, limit);
}

static void put_mappings(struct text *out, const char *indent, const struct mapping_set *set)
{
    if (set == NULL || mapping_set_count(set) == 0) return;
    text_string(out, indent);
    text_string(out, "mappings {\n");
    for (uint32_t at = 0; at < mapping_set_count(set); at++) {
        struct bytes destination;
        uint32_t sum, before = 0;
        text_string(out, indent);
        text_string(out, "    ");
        load_quoted(out, mapping_set_source(set, at));
        text_string(out, ": [");
        for (uint32_t i = 0; mapping_set_destination(set, at, i, &destination, &sum); i++) {
            text_string(out, i > 0 ? ", {destination: " : "{destination: ");
            load_quoted(out, destination);
            text_string(out, ", weight: ");
            text_u64(out, sum - before);
            text_string(out, "%}");
            before = sum;
        }
        text_string(out, "]\n");
    }
    text_string(out, indent);
    text_string(out, "}\n");
}

static void put_account_jetstream(struct text *out, const struct account *a)
{
    const struct account_jetstream *j = &a->jetstream;
    const struct {
        const char *name;
        int64_t value;
    } limits[] = {
        {"max_memory", j->max_memory},
        {"max_store", j->max_storage},
        {"max_streams", j->max_streams},
        {"max_consumers", j->max_consumers},
        {"max_ack_pending", j->max_ack_pending},
        {"memory_max_stream_bytes", j->memory_max_stream_bytes},
        {"disk_max_stream_bytes", j->storage_max_stream_bytes},
    };
    if (!j->is_on) return;
    text_string(out, "        jetstream: {");
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        if (limits[i].value == -1) continue;
        text_string(out, limits[i].name);
        text_string(out, ": ");
        text_i64(out, limits[i].value);
        text_string(out, ", ");
    }
    text_string(out, j->max_bytes_required ? "max_bytes_required: true}\n"
                                           : "max_bytes_required: false}\n");
}

static void put_account(struct text *out, const struct account_set *set, const struct account *a)
{
    bool has_limit = false;
    text_string(out, "    ");
    load_quoted(out, a->name);
    text_string(out, " {\n");
    if (a->nkey.len > 0) {
        text_string(out, "        nkey: ");
        load_quoted(out, a->nkey);
        text_char(out, '\n');
    }
    put_limit(out, "max_connections", a->limits.max_connections, &has_limit);
    put_limit(out, "max_subscriptions", a->limits.max_subscriptions, &has_limit);
    put_limit(out, "max_payload", a->limits.max_payload, &has_limit);
    put_limit(out, "max_leafnodes", a->limits.max_leafnodes, &has_limit);
    if (has_limit) text_string(out, "}\n");
    put_account_jetstream(out, a);
    put_default_permissions(out, "        ", a->default_permissions);
    put_users(out, set, a->number);
    put_mappings(out, "        ", a->mappings);
    text_string(out, "    }\n");
}

static void put_accounts(struct text *out, const struct options *o)
{
    const struct account_set *set = o->accounts;
    text_string(out, "authorization {\n    timeout: \"");
    time_text_duration(out, o->auth_timeout_ns);
    text_string(out, "\"\n");
    if (set == NULL) {
        text_string(out, "}\n");
        return;
    }
    if (set->mode == ACCOUNT_MODE_SINGLE) {
        text_string(out, "    user: ");
        load_quoted(out, set->single.name);
        put_secret(out, "\n    password");
        text_char(out, '\n');
    }
    if (set->mode == ACCOUNT_MODE_TOKEN) {
        put_secret(out, "    token");
        text_char(out, '\n');
    }
    put_default_permissions(out, "    ", set->default_permissions);
    put_users(out, set, ACCOUNT_GLOBAL);
    text_string(out, "}\n");
    put_mappings(out, "", set->accounts[ACCOUNT_GLOBAL]->mappings);
    text_string(out, "accounts {\n");
    for (uint32_t i = 0; i < set->account_count; i++)
        if (set->accounts[i]->is_configured && set->accounts[i]->number != ACCOUNT_GLOBAL)
            put_account(out, set, set->accounts[i]);
    text_string(out, "}\n");
}

static bool is_empty_list(const struct option *row, const struct options *o)
{
    if (row->type != OPTION_TEXTS) return false;
    const struct options_texts *texts = (const void *)((const char *)o + row->offset);
    return texts->count == 0;
}

/* A path without its last word: the block an option stands in; empty for the file itself. */
static struct bytes block_of(struct bytes path)
{
    size_t len = path.len;
    while (len > 0 && path.data[len - 1] != '.') len--;
    return bytes_of(path.data, len > 0 ? len - 1 : 0);
}

static bool is_within(struct bytes block, struct bytes outer)
{
    return outer.len == 0 || (bytes_starts_with(block, outer) &&
                              (block.len == outer.len || block.data[outer.len] == '.'));
}

static void put_indent(struct text *out, struct bytes block)
{
    if (block.len == 0) return;
    text_fill(out, ' ', 4);
    for (size_t i = 0; i < block.len; i++)
        if (block.data[i] == '.') text_fill(out, ' ', 4);
}

/* Ends the blocks that do not hold the next option, and begins those that do. */
static void move_to(struct text *out, struct bytes *open, struct bytes block)
{
    while (!is_within(block, *open)) {
        *open = block_of(*open);
        put_indent(out, *open);
        text_string(out, "}\n");
    }
    while (open->len < block.len) {
        size_t start = open->len > 0 ? open->len + 1 : 0;
        struct bytes rest = bytes_of(block.data + start, block.len - start);
        put_indent(out, *open);
        *open = bytes_of(block.data, start + bytes_find(rest, '.'));
        text_bytes(out, bytes_of(open->data + start, open->len - start));
        text_string(out, " {\n");
    }
}

void help_config(struct text *out, const struct options *o)
{
    size_t count;
    struct bytes open = BYTES_LITERAL("");
    const struct option *rows = option_rows(&count);
    for (size_t i = 0; i < count; i++) {
        struct bytes path = bytes_from_text(rows[i].path);
        bool is_tls = bytes_starts_with(path, BYTES_LITERAL("tls."));
        if (!option_has_field(&rows[i]) || (is_tls && !o->tls.is_on)) continue;
        if (is_tls && is_empty_list(&rows[i], o)) continue; /* an empty one would be refused */
        struct bytes block = block_of(path);
        move_to(out, &open, block);
        put_indent(out, block);
        text_string(out, path.data + (block.len > 0 ? block.len + 1 : 0));
        text_string(out, ": ");
        help_value(out, &rows[i], o);
        text_char(out, '\n');
    }
    move_to(out, &open, BYTES_LITERAL(""));
    put_accounts(out, o);
}
