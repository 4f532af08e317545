#include "core/config/reload.h"
#include "core/auth/account.h"
#include "core/base/must.h"
#include "core/config/help.h"
#include "core/config/option.h"
#include "core/route/mapping.h"

enum { REPORT_BYTES_MAX = 1 << 20 };

void reload_report_init(struct reload_report *r, struct mem *mem)
{
    *r = (struct reload_report){.applied_count = 0};
    text_init(&r->applied, mem, MEM_CONFIG, REPORT_BYTES_MAX);
    text_init(&r->refused, mem, MEM_CONFIG, REPORT_BYTES_MAX);
}

void reload_report_deinit(struct reload_report *r)
{
    text_deinit(&r->applied);
    text_deinit(&r->refused);
}

/* --- lines ---------------------------------------------------------------------------------- */

static struct text *applied(struct reload_report *r, const char *what)
{
    r->applied_count++;
    text_string(&r->applied, "Reloaded: ");
    text_string(&r->applied, what);
    return &r->applied;
}

static void applied_alone(struct reload_report *r, const char *what)
{
    text_char(applied(r, what), '\n');
}

/* Values as the log shows them: texts without quotes. */
static void put_plain(struct text *out, const struct option *o, const struct options *options)
{
    size_t start = out->len;
    help_value(out, o, options);
    bool is_quoted = out->len - start >= 2 && !out->is_failed && out->data[start] == '"' &&
                     memchr(out->data + start + 1, '"', out->len - start - 2) == NULL;
    if (!is_quoted) return;
    memmove(out->data + start, out->data + start + 1, out->len - start - 2);
    out->len -= 2;
}

static void refuse(struct reload_report *r, const struct option *o, const struct options *old,
                   const struct options *new)
{
    struct text *line = &r->refused;
    r->refused_count++;
    text_string(line, "config reload not supported for ");
    text_string(line, o->reference);
    text_string(line, ": old=");
    put_plain(line, o, old);
    text_string(line, ", new=");
    put_plain(line, o, new);
    text_char(line, '\n');
}

/* --- equality ------------------------------------------------------------------------------- */

static bool texts_equal(const struct options_texts *a, const struct options_texts *b)
{
    if (a->count != b->count) return false;
    for (uint32_t i = 0; i < a->count; i++)
        if (!bytes_equal(a->items[i], b->items[i])) return false;
    return true;
}

static bool pairs_equal(const struct options_pairs *a, const struct options_pairs *b)
{
    if (a->count != b->count) return false;
    for (uint32_t i = 0; i < a->count; i++)
        if (!bytes_equal(a->items[i].key, b->items[i].key) ||
            !bytes_equal(a->items[i].value, b->items[i].value))
            return false;
    return true;
}

static bool certs_equal(const struct options_tls *a, const struct options_tls *b)
{
    if (a->cert_count != b->cert_count) return false;
    for (uint32_t i = 0; i < a->cert_count; i++)
        if (!bytes_equal(a->certs[i].cert_file, b->certs[i].cert_file) ||
            !bytes_equal(a->certs[i].key_file, b->certs[i].key_file))
            return false;
    return true;
}

static bool pins_equal(const struct options_tls *a, const struct options_tls *b)
{
    return a->pinned_count == b->pinned_count &&
           (a->pinned_count == 0 ||
            memcmp(a->pinned, b->pinned, a->pinned_count * sizeof(a->pinned[0])) == 0);
}

static bool values_equal(const struct option *o, const struct options *a, const struct options *b)
{
    const char *x = (const char *)a + o->offset, *y = (const char *)b + o->offset;
    switch (o->type) {
    case OPTION_BOOL: return *(const bool *)x == *(const bool *)y;
    case OPTION_INT32:
    case OPTION_U32:
    case OPTION_CHOICE: return memcmp(x, y, sizeof(int32_t)) == 0;
    case OPTION_U8: return *x == *y;
    case OPTION_INT64:
    case OPTION_SIZE:
    case OPTION_SYNC:
    case OPTION_DURATION:
    case OPTION_DURATION_TEXT:
    case OPTION_SECONDS: return memcmp(x, y, sizeof(int64_t)) == 0;
    case OPTION_TEXT:
    case OPTION_NAME:
    case OPTION_BASE_PATH: return bytes_equal(*(const struct bytes *)x, *(const struct bytes *)y);
    case OPTION_TEXTS:
    case OPTION_TAGS: return texts_equal((const void *)x, (const void *)y);
    case OPTION_PAIRS: return pairs_equal((const void *)x, (const void *)y);
    case OPTION_MEMORY:
        return a->max_process_memory_bytes == b->max_process_memory_bytes &&
               a->max_process_memory_percent == b->max_process_memory_percent;
    case OPTION_CERTS: return certs_equal(&a->tls, &b->tls);
    case OPTION_PINNED: return pins_equal(&a->tls, &b->tls);
    case OPTION_HANDSHAKE:
        return a->tls.handshake_first == b->tls.handshake_first &&
               a->tls.handshake_first_fallback_ns == b->tls.handshake_first_fallback_ns;
    case OPTION_TLS_VERSION: return a->tls.min_version == b->tls.min_version;
    default: must(false); return true;
    }
}

/* --- accounts ------------------------------------------------------------------------------- */

static bool limits_equal(const struct account_limits *a, const struct account_limits *b)
{
    return a->max_connections == b->max_connections &&
           a->max_subscriptions == b->max_subscriptions && a->max_payload == b->max_payload &&
           a->max_leafnodes == b->max_leafnodes;
}

static bool jetstream_equal(const struct account_jetstream *a, const struct account_jetstream *b)
{
    return a->is_on == b->is_on && a->max_memory == b->max_memory &&
           a->max_storage == b->max_storage && a->max_streams == b->max_streams &&
           a->max_consumers == b->max_consumers && a->max_ack_pending == b->max_ack_pending &&
           a->memory_max_stream_bytes == b->memory_max_stream_bytes &&
           a->storage_max_stream_bytes == b->storage_max_stream_bytes &&
           a->max_bytes_required == b->max_bytes_required;
}

static bool users_equal(const struct user *a, const struct user *b)
{
    bool has_same_rights = a->permissions == b->permissions;
    if (a->permissions != NULL && b->permissions != NULL)
        has_same_rights = perms_equal(a->permissions, b->permissions);
    return has_same_rights && bytes_equal(a->name, b->name) &&
           bytes_equal(a->password, b->password) && bytes_equal(a->nkey, b->nkey) &&
           a->account == b->account && a->allowed_connections == b->allowed_connections;
}

static bool users_changed(const struct account_set *a, const struct account_set *b)
{
    if (a->user_count != b->user_count || a->mode != b->mode) return true;
    for (uint32_t i = 0; i < a->user_count; i++)
        if (!users_equal(a->users[i], b->users[i])) return true;
    return false;
}

static uint32_t mapping_count(const struct mapping_set *set)
{
    return set == NULL ? 0 : mapping_set_count(set);
}

static bool entries_equal(const struct mapping_set *a, const struct mapping_set *b, uint32_t at)
{
    if (!bytes_equal(mapping_set_source(a, at), mapping_set_source(b, at))) return false;
    for (uint32_t i = 0;; i++) {
        struct bytes x, y;
        uint32_t x_sum, y_sum;
        bool has_x = mapping_set_destination(a, at, i, &x, &x_sum);
        bool has_y = mapping_set_destination(b, at, i, &y, &y_sum);
        if (!has_x || !has_y) return has_x == has_y;
        if (x_sum != y_sum || !bytes_equal(x, y)) return false;
    }
}

static bool mappings_equal(const struct mapping_set *a, const struct mapping_set *b)
{
    if (mapping_count(a) != mapping_count(b)) return false;
    for (uint32_t at = 0; at < mapping_count(a); at++)
        if (!entries_equal(a, b, at)) return false;
    return true;
}

static bool accounts_changed(const struct account_set *a, const struct account_set *b)
{
    if (a->account_count != b->account_count) return true;
    for (uint32_t i = 0; i < a->account_count; i++) {
        const struct account *x = a->accounts[i], *y = b->accounts[i];
        if (!bytes_equal(x->name, y->name) || !limits_equal(&x->limits, &y->limits) ||
            !bytes_equal(x->nkey, y->nkey) || !jetstream_equal(&x->jetstream, &y->jetstream) ||
            !mappings_equal(x->mappings, y->mappings))
            return true;
    }
    return false;
}

/* Lines in nats-server's words and order: single user, token, users, accounts. */
static void compare_auth(const struct options *old, const struct options *new,
                         struct reload_report *r)
{
    const struct account_set *a = old->accounts, *b = new->accounts;
    uint32_t before = r->applied_count;
    if (old->auth_timeout_ns != new->auth_timeout_ns) {
        struct text *line = applied(r, "authorization timeout = ");
        text_i64(line, new->auth_timeout_ns / INT64_C(1000000000));
        text_char(line, '\n');
        before = r->applied_count;
    }
    if (a == NULL || b == NULL) return;
    if (!bytes_equal(a->single.name, b->single.name)) applied_alone(r, "authorization username");
    if (!bytes_equal(a->single.password, b->single.password))
        applied_alone(r, "authorization password");
    if (!bytes_equal(a->token, b->token)) applied_alone(r, "authorization token");
    if (users_changed(a, b)) applied_alone(r, "authorization users");
    if (accounts_changed(a, b)) applied_alone(r, "accounts");
    r->auth_changed = r->applied_count > before;
}

/* --- rows ----------------------------------------------------------------------------------- */

static bool is_path(const struct option *o, const char *path)
{
    return strcmp(o->path, path) == 0;
}

static void note_consequences(const struct option *o, struct reload_report *r)
{
    if (o->group == OPTION_GROUP_LOGGING) r->log_changed = true;
    if (is_path(o, "max_connections")) r->limits_changed = true;
    if (is_path(o, "max_payload") || is_path(o, "client_advertise")) r->info_changed = true;
    if (is_path(o, "pid_file") || is_path(o, "ports_file_dir")) r->files_changed = true;
    if (is_path(o, "tls.pinned_certs")) r->pinned_changed = true;
}

/* What nats-server allows although the option as such cannot be reloaded. */
static bool is_excused(const struct option *o, const struct options *old, const struct options *new)
{
    if (is_path(o, "port")) return new->port == OPTIONS_PORT_RANDOM;
    if (is_path(o, "http_port")) return new->http_port == OPTIONS_PORT_RANDOM;
    if (is_path(o, "https_port")) return new->https_port == OPTIONS_PORT_RANDOM;
    /* Nothing is stored, so nothing of it matters. */
    bool is_stored = is_path(o, "store_dir") ||
                     bytes_starts_with(bytes_from_text(o->path), BYTES_LITERAL("jetstream."));
    if (is_stored && !old->jetstream.is_on && !new->jetstream.is_on) return true;
    /* no_auth_user may go together with its user. */
    if (is_path(o, "no_auth_user"))
        return new->no_auth_user.len == 0 &&
               new->accounts != NULL &&account_set_user(new->accounts, old->no_auth_user) == NULL;
    return false;
}

/* What may be stored can be raised, as long as it was said at all. */
static void compare_store_size(const struct option *o, const struct options *old,
                               const struct options *new, struct reload_report *r)
{
    int64_t was = *(const int64_t *)((const char *)old + o->offset);
    int64_t is = *(const int64_t *)((const char *)new + o->offset);
    const char *why = was < 0    ? "jetstream dynamic max memory and store"
                      : is < 0   ? "jetstream max memory and max store"
                      : is < was ? "decreasing jetstream max memory and store"
                                 : NULL;
    if (why != NULL) {
        r->refused_count++;
        text_string(&r->refused, "config reload not supported for ");
        text_string(&r->refused, why);
        text_char(&r->refused, '\n');
        return;
    }
    bool is_memory = o->offset == offsetof(struct options, jetstream.memory_bytes_max);
    struct text *line =
        applied(r, is_memory ? "JetStream max_mem_store = " : "JetStream max_file_store = ");
    text_i64(line, is);
    text_char(line, '\n');
    r->jetstream_changed = true;
}

static void compare_row(const struct option *o, const struct options *old,
                        const struct options *new, struct reload_report *r)
{
    if (values_equal(o, old, new) || is_excused(o, old, new)) return;
    if (o->type == OPTION_SIZE && (o->traits & OPTION_IDLE) == 0) {
        compare_store_size(o, old, new, r);
        return;
    }
    if (!(o->traits & OPTION_RELOAD)) {
        refuse(r, o, old, new);
        return;
    }
    note_consequences(o, r);
    if (bytes_starts_with(bytes_from_text(o->path), BYTES_LITERAL("jetstream.limits."))) {
        if (!r->jetstream_changed) applied_alone(r, "JetStream limits");
        r->jetstream_changed = true;
    } else if (is_path(o, "server_tags")) {
        applied_alone(r, "tags");
    } else if (is_path(o, "server_metadata")) {
        applied_alone(r, "metadata");
    } else if (is_path(o, "no_fast_producer_stall")) {
        applied_alone(r, new->no_fast_producer_stall ? "fast producers will not be stalled"
                                                     : "fast producers will be stalled");
    } else {
        struct text *line = applied(r, o->path);
        text_string(line, " = ");
        put_plain(line, o, new);
        text_char(line, '\n');
    }
}

/* The block as a whole is one line; certificates are read anew even when no name changed. */
static void compare_tls(const struct options *old, const struct options *new,
                        struct reload_report *r)
{
    const struct options_tls *a = &old->tls, *b = &new->tls;
    if (!a->is_on && !b->is_on) return;
    r->tls_changed = true;
    applied_alone(r, b->is_on ? "tls = enabled" : "tls = disabled");
    if (a->timeout_ns != b->timeout_ns) {
        struct text *line = applied(r, "tls timeout = ");
        text_i64(line, b->timeout_ns / INT64_C(1000000000));
        text_char(line, '\n');
    }
    if (!pins_equal(a, b)) {
        r->pinned_changed = true;
        r->applied_count++;
        text_string(&r->applied, "Reloaded: ");
        text_u64(&r->applied, b->pinned_count);
        text_string(&r->applied, " pinned_certs\n");
    }
    if (a->handshake_first != b->handshake_first)
        applied_alone(r, b->handshake_first ? "Client TLS handshake first: true"
                                            : "Client TLS handshake first: false");
}

enum err reload_compare(const struct options *old, const struct options *new,
                        struct reload_report *r)
{
    size_t count;
    const struct option *rows = option_rows(&count);
    for (size_t i = 0; i < count; i++) {
        bool is_tls = strncmp(rows[i].path, "tls.", 4) == 0;
        if (option_has_field(&rows[i]) && !is_tls) compare_row(&rows[i], old, new, r);
    }
    compare_tls(old, new, r);
    compare_auth(old, new, r);
    if (r->applied.is_failed || r->refused.is_failed) return ERR_MEMORY;
    return r->refused_count > 0 ? ERR_DENIED : ERR_OK;
}
