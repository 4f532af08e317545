/* The blocks authorization, accounts and mappings: from the tree through the builder of core/auth.
 * The builder says what is wrong between users and accounts; here their place is added. */
#include "core/auth/account.h"
#include "core/auth/perms.h"
#include "core/base/must.h"
#include "core/config/load.h"
#include "core/route/mapping.h"
#include "core/route/subject.h"

static bool is_named(struct bytes key, const char *names)
{
    struct bytes word;
    while (option_next_word(&names, &word))
        if (bytes_equal_nocase(word, key)) return true;
    return false;
}

/* A refusal of the builder becomes an error at v; only running out of memory ends the load. */
static enum err reported(struct load *l, const struct conf_value *v, enum err e,
                         const struct account_fault *fault)
{
    if (e == ERR_OK || e == ERR_MEMORY) return e;
    load_error_text(l, v, fault->text);
    return ERR_OK;
}

static bool need_map(struct load *l, const struct conf_value *v, struct bytes name)
{
    if (v->kind == CONF_MAP) return true;
    load_wrong_type(l, v, name, "a map");
    return false;
}

/* --- permissions ---------------------------------------------------------------------------- */

static enum err load_list(struct load *l, const struct conf_value *v, struct bytes name,
                          bool allow_queue, struct perms_list *list, bool *is_valid)
{
    struct options_texts texts;
    struct perms_fault fault;
    enum err e = load_texts(l, v, name, &texts, is_valid);
    if (e != ERR_OK || !*is_valid) return e;
    *list = (struct perms_list){texts.items, texts.count};
    e = perms_check_list(*list, allow_queue, &fault);
    if (e == ERR_OK || e == ERR_MEMORY) return e;
    *is_valid = false;
    load_error_text(l, v, fault.text);
    return ERR_OK;
}

/* A subject, an array of them, or {allow, deny}. */
static enum err load_rights(struct load *l, const struct conf_value *v, struct bytes name,
                            bool allow_queue, struct perms_list *allow, struct perms_list *deny,
                            bool *is_valid)
{
    if (v->kind != CONF_MAP) return load_list(l, v, name, allow_queue, allow, is_valid);
    for (const struct conf_entry *e = v->map.first; e != NULL; e = e->next) {
        bool is_allow = is_named(e->key, "allow"), is_list_valid = true;
        enum err failed = ERR_OK;
        if (is_allow || is_named(e->key, "deny")) {
            failed = load_list(l, e->value, e->key, allow_queue, is_allow ? allow : deny,
                               &is_list_valid);
        } else if (!e->value->is_used) {
            struct text *line = load_error(l, e->value);
            text_string(line, "Unknown field name ");
            load_quoted(line, e->key);
            text_string(line, " parsing subject permissions, only 'allow' or 'deny' are permitted");
            load_end(line);
            is_list_valid = false;
        }
        if (failed != ERR_OK) return failed;
        *is_valid &= is_list_valid;
    }
    return ERR_OK;
}

/* true, or {max, expires}; 0 means the default, below 0 no limit. */
static bool load_responses(struct load *l, const struct conf_value *v, struct perms_spec *spec)
{
    if (v->kind == CONF_BOOL) {
        spec->has_responses = v->boolean;
        return true;
    }
    if (v->kind != CONF_MAP) {
        load_error_text(l, v, "error parsing response permissions, expected a boolean or a map");
        return false;
    }
    spec->has_responses = true;
    for (const struct conf_entry *e = v->map.first; e != NULL; e = e->next) {
        if (is_named(e->key, "max max_msgs max_messages max_responses")) {
            if (!load_integer(l, e->value, e->key, &spec->responses_max)) return false;
        } else if (is_named(e->key, "expires expiration ttl")) {
            if (e->value->kind != CONF_TEXT) {
                load_error_text(l, e->value, "error parsing expires, not a duration string");
                return false;
            }
            if (!load_seconds(l, e->value, e->key, &spec->responses_ttl_ns)) return false;
        } else if (!e->value->is_used) {
            load_unknown(l, e->value, e->key);
            return false;
        }
    }
    return true;
}

static enum err load_permissions(struct load *l, const struct conf_value *v,
                                 const struct perms **out)
{
    struct perms_spec spec = {.has_responses = false};
    bool is_valid = true;
    *out = NULL;
    if (!need_map(l, v, BYTES_LITERAL("permissions"))) return ERR_OK;
    for (const struct conf_entry *e = v->map.first; e != NULL; e = e->next) {
        enum err failed = ERR_OK;
        bool is_part_valid = true;
        if (is_named(e->key, "pub publish import"))
            failed = load_rights(l, e->value, e->key, false, &spec.publish_allow,
                                 &spec.publish_deny, &is_part_valid);
        else if (is_named(e->key, "sub subscribe export"))
            failed = load_rights(l, e->value, e->key, true, &spec.subscribe_allow,
                                 &spec.subscribe_deny, &is_part_valid);
        else if (is_named(e->key, "publish_allow_responses allow_responses"))
            is_part_valid = load_responses(l, e->value, &spec);
        else if (!e->value->is_used) {
            struct text *line = load_error(l, e->value);
            text_string(line, "Unknown field ");
            load_quoted(line, e->key);
            text_string(line, " parsing permissions");
            load_end(line);
            is_part_valid = false;
        }
        if (failed != ERR_OK) return failed;
        is_valid &= is_part_valid;
    }
    struct account_fault fault;
    if (!is_valid) return ERR_OK;
    return reported(l, v, account_set_compile(l->set, &spec, out, &fault), &fault);
}

/* --- users ---------------------------------------------------------------------------------- */

static enum err load_connection_types(struct load *l, const struct conf_value *v, struct bytes name,
                                      uint32_t *bits)
{
    struct options_texts texts;
    bool is_valid;
    enum err e = load_texts(l, v, name, &texts, &is_valid);
    if (e != ERR_OK || !is_valid) return e;
    for (uint32_t i = 0; i < texts.count; i++) {
        uint32_t bit;
        if (account_connection_parse(texts.items[i], &bit) == ERR_OK) {
            *bits |= bit;
            continue;
        }
        struct text *line = load_error(l, v);
        text_string(line, "invalid connection types [");
        load_quoted(line, texts.items[i]);
        text_char(line, ']');
        load_end(line);
    }
    return ERR_OK;
}

static enum err load_user_field(struct load *l, const struct conf_entry *e,
                                struct account_user_spec *spec)
{
    const struct conf_value *v = e->value;
    if (is_named(e->key, "nkey")) {
        (void)load_text(l, v, e->key, &spec->nkey);
    } else if (is_named(e->key, "user username")) {
        (void)load_text(l, v, e->key, &spec->name);
    } else if (is_named(e->key, "pass password")) {
        (void)load_text(l, v, e->key, &spec->password);
    } else if (is_named(e->key, "permission permissions authorization")) {
        return load_permissions(l, v, &spec->permissions);
    } else if (is_named(e->key, "allowed_connection_types connection_types clients")) {
        return load_connection_types(l, v, e->key, &spec->allowed_connections);
    } else if (is_named(e->key, "proxy_required")) {
        if (load_bool(l, v, e->key, &spec->is_proxy_required)) load_refused(l, v, e->key);
    } else {
        load_unknown(l, v, e->key);
    }
    return ERR_OK;
}

static enum err load_users(struct load *l, const struct conf_value *v, struct account *account)
{
    if (v->kind != CONF_ARRAY) {
        struct text *line = load_error(l, v);
        text_string(line, "Expected users field to be an array, got ");
        text_string(line, conf_kind_text(v->kind));
        load_end(line);
        return ERR_OK;
    }
    for (const struct conf_item *i = v->array.first; i != NULL; i = i->next) {
        struct account_user_spec spec = {.account = account};
        struct account_fault fault;
        if (i->value->kind != CONF_MAP) {
            struct text *line = load_error(l, i->value);
            text_string(line, "Expected user entry to be a map/struct, got ");
            text_string(line, conf_kind_text(i->value->kind));
            load_end(line);
            continue;
        }
        uint32_t errors = l->report->error_count;
        for (const struct conf_entry *e = i->value->map.first; e != NULL; e = e->next) {
            enum err failed = load_user_field(l, e, &spec);
            if (failed != ERR_OK) return failed;
        }
        if (l->report->error_count > errors) continue;
        enum err e = reported(l, i->value, account_set_add_user(l->set, &spec, &fault), &fault);
        if (e != ERR_OK) return e;
    }
    return ERR_OK;
}

/* --- accounts ------------------------------------------------------------------------------- */

static void load_limits(struct load *l, const struct conf_value *v, struct account *account)
{
    if (!need_map(l, v, BYTES_LITERAL("limits"))) return;
    struct account_limits *limits = &account->limits;
    for (const struct conf_entry *e = v->map.first; e != NULL; e = e->next) {
        if (is_named(e->key, "max_connections max_conn")) {
            (void)load_integer(l, e->value, e->key, &limits->max_connections);
        } else if (is_named(e->key, "max_subscriptions max_subs")) {
            (void)load_integer(l, e->value, e->key, &limits->max_subscriptions);
        } else if (is_named(e->key, "max_payload max_pay")) {
            (void)load_integer(l, e->value, e->key, &limits->max_payload);
        } else if (is_named(e->key, "max_leafnodes max_leafs")) {
            (void)load_integer(l, e->value, e->key, &limits->max_leafnodes);
            load_idle(l, e->value, e->key, "there are no leaf nodes yet");
        } else if (!e->value->is_used) {
            struct text *line = load_error(l, e->value);
            text_string(line, "Unknown field ");
            load_quoted(line, e->key);
            text_string(line, " parsing account limits");
            load_end(line);
        }
    }
}

/* --- JetStream of an account ---------------------------------------------------------------- */

/* R1, R3 ...: tiers come with JWTs, in nats-server too, where they are unknown fields. */
static bool is_tier(struct bytes key)
{
    uint64_t replicas;
    return key.len >= 2 && (key.data[0] == 'R' || key.data[0] == 'r') &&
           bytes_to_u64(bytes_of(key.data + 1, key.len - 1), 2, &replicas) == ERR_OK;
}

static void load_jetstream_field(struct load *l, const struct conf_entry *e,
                                 struct account_jetstream *j)
{
    const struct {
        const char *names;
        int64_t *field;
    } limits[] = {
        {"max_memory max_mem mem memory", &j->max_memory},
        {"max_store max_file max_disk store disk", &j->max_storage},
        {"max_streams streams", &j->max_streams},
        {"max_consumers consumers", &j->max_consumers},
        {"max_ack_pending", &j->max_ack_pending},
        {"mem_max_stream_bytes memory_max_stream_bytes", &j->memory_max_stream_bytes},
        {"disk_max_stream_bytes store_max_stream_bytes", &j->storage_max_stream_bytes},
    };
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        if (!is_named(e->key, limits[i].names)) continue;
        (void)load_integer(l, e->value, e->key, limits[i].field);
        return;
    }
    struct bytes text = BYTES_LITERAL("");
    if (is_named(e->key, "max_bytes_required max_stream_bytes max_bytes")) {
        (void)load_bool(l, e->value, e->key, &j->max_bytes_required);
    } else if (is_named(e->key, "cluster_traffic")) {
        if (!load_text(l, e->value, e->key, &text)) return;
        if (text.len > 0) load_idle(l, e->value, e->key, "there are no clusters yet");
        if (text.len == 0 || is_named(text, "system owner")) return;
        struct text *line = load_error(l, e->value);
        text_string(line, "Expected 'system' or 'owner' string value for ");
        load_quoted(line, e->key);
        text_string(line, ", got ");
        text_bytes(line, text);
        load_end(line);
    } else if (is_tier(e->key)) {
        load_refused(l, e->value, e->key);
    } else {
        load_unknown(l, e->value, e->key);
    }
}

static void load_account_jetstream(struct load *l, const struct conf_value *v,
                                   struct account *account)
{
    struct account_jetstream *j = &account->jetstream;
    *j = account_jetstream_open(true);
    if (v->kind != CONF_MAP) {
        (void)load_switch(l, v, &j->is_on);
        return;
    }
    for (const struct conf_entry *e = v->map.first; e != NULL; e = e->next)
        load_jetstream_field(l, e, j);
}

/* --- mappings ------------------------------------------------------------------------------- */

/* A percentage as an integer or as text with or without its sign. */
static bool load_weight(struct load *l, const struct conf_value *v, uint32_t *weight)
{
    enum { PERCENT_MAX = 100 };
    int64_t number = -1;
    struct bytes text = BYTES_LITERAL("");
    if (v->kind == CONF_INTEGER) {
        number = v->integer;
    } else if (v->kind == CONF_TEXT) {
        text = v->text;
        if (bytes_ends_with(text, BYTES_LITERAL("%"))) text.len--;
        if (bytes_to_i64(text, &number) != ERR_OK) number = -1;
    }
    if (number >= 0 && number <= PERCENT_MAX) {
        *weight = (uint32_t)number;
        return true;
    }
    struct text *line = load_error(l, v);
    text_string(line, "Invalid weight ");
    if (v->kind == CONF_INTEGER)
        text_i64(line, number);
    else
        load_quoted(line, text);
    text_string(line, " for mapping destination");
    load_end(line);
    return false;
}

/* {destination, weight, cluster}; false: an error was reported. */
static bool load_destination(struct load *l, const struct conf_value *v,
                             struct mapping_destination *d)
{
    bool has_weight = false;
    *d = (struct mapping_destination){.subject = BYTES_LITERAL(""), .cluster = BYTES_LITERAL("")};
    if (v->kind != CONF_MAP) {
        load_error_text(l, v, "Expected an entry for the mapping destination");
        return false;
    }
    for (const struct conf_entry *e = v->map.first; e != NULL; e = e->next) {
        if (is_named(e->key, "dest destination")) {
            if (!load_text(l, e->value, e->key, &d->subject)) return false;
        } else if (is_named(e->key, "cluster")) {
            if (!load_text(l, e->value, e->key, &d->cluster)) return false;
        } else if (is_named(e->key, "weight")) {
            if (!load_weight(l, e->value, &d->weight)) return false;
            has_weight = true;
        } else {
            struct text *line = load_error(l, e->value);
            text_string(line, "Unknown field ");
            load_quoted(line, e->key);
            text_string(line, " for mapping destination");
            load_end(line);
            return false;
        }
    }
    if (has_weight) return true;
    struct text *line = load_error(l, v);
    text_string(line, "Missing weight for mapping destination ");
    load_quoted(line, d->subject);
    load_end(line);
    return false;
}

/* subject, {destination ...} or an array of those: all of it weight 100 in the first case. */
static enum err load_destinations(struct load *l, const struct conf_value *v,
                                  struct mapping_destination **out, uint32_t *count)
{
    uint32_t room = v->kind == CONF_ARRAY ? v->array.count : 1;
    struct mapping_destination *d = arena_alloc(l->scratch, room * sizeof(*d));
    if (d == NULL) return ERR_MEMORY;
    *out = d;
    *count = 0;
    if (v->kind == CONF_TEXT) {
        d[0] = (struct mapping_destination){v->text, 100, BYTES_LITERAL("")};
        *count = 1;
    } else if (v->kind != CONF_ARRAY) {
        *count = load_destination(l, v, &d[0]);
    } else {
        for (const struct conf_item *i = v->array.first; i != NULL; i = i->next)
            *count += load_destination(l, i->value, &d[*count]);
    }
    return ERR_OK;
}

static enum err load_mapping(struct load *l, const struct conf_entry *e, struct mapping_set *set)
{
    struct mapping_destination *destinations;
    uint32_t count, errors = l->report->error_count;
    enum err failed = load_destinations(l, e->value, &destinations, &count);
    if (failed != ERR_OK || l->report->error_count > errors) return failed;

    char *room = arena_alloc(l->scratch, TRANSFORM_WHY_BYTES_MAX);
    if (room == NULL) return ERR_MEMORY;
    struct writer why;
    writer_init(&why, room, TRANSFORM_WHY_BYTES_MAX);
    failed = mapping_set_add(set, e->key, destinations, count, &why);
    if (failed == ERR_OK || failed == ERR_MEMORY) return failed;
    struct text *line = load_error(l, e->value);
    text_string(line, "Error adding mapping for ");
    load_quoted(line, e->key);
    if (e->value->kind == CONF_TEXT) {
        text_string(line, " to ");
        load_quoted(line, e->value->text);
    }
    text_string(line, " : ");
    text_bytes(line, writer_written(&why));
    load_end(line);
    return ERR_OK;
}

static enum err load_mappings(struct load *l, const struct conf_value *v, struct account *account)
{
    if (!need_map(l, v, BYTES_LITERAL("mappings"))) return ERR_OK;
    if (account->mappings == NULL) {
        enum err e = mapping_set_open(l->mem, l->o->cluster_name, &account->mappings);
        if (e != ERR_OK) return e;
    }
    for (const struct conf_entry *e = v->map.first; e != NULL; e = e->next) {
        if (!subject_is_valid(e->key)) {
            struct text *line = load_error(l, e->value);
            text_string(line, "Subject ");
            load_quoted(line, e->key);
            text_string(line, " is not a valid subject");
            load_end(line);
            continue;
        }
        enum err failed = load_mapping(l, e, account->mappings);
        if (failed != ERR_OK) return failed;
    }
    return ERR_OK;
}

/* --- the fields of an account --------------------------------------------------------------- */

static enum err load_account_field(struct load *l, const struct conf_entry *e,
                                   struct account *account)
{
    const struct conf_value *v = e->value;
    struct account_fault fault;
    struct bytes text;
    if (is_named(e->key, "nkey")) {
        if (!load_text(l, v, e->key, &text)) return ERR_OK;
        return reported(l, v, account_set_nkey(l->set, account, text, &fault), &fault);
    }
    if (is_named(e->key, "users")) return load_users(l, v, account);
    if (is_named(e->key, "mappings maps")) return load_mappings(l, v, account);
    if (is_named(e->key, "default_permissions"))
        return load_permissions(l, v, (const struct perms **)&account->default_permissions);
    if (is_named(e->key, "limits")) {
        load_limits(l, v, account);
    } else if (is_named(e->key, "jetstream")) {
        load_account_jetstream(l, v, account);
    } else if (is_named(e->key, "imports exports msg_trace trace_dest")) {
        load_refused(l, v, e->key);
    } else {
        load_unknown(l, v, e->key);
    }
    return ERR_OK;
}

static enum err load_account(struct load *l, const struct conf_value *v, struct bytes name,
                             struct account **account)
{
    struct account_fault fault;
    *account = NULL;
    enum err e = account_add(l->set, name, account, &fault);
    if (e != ERR_OK) *account = NULL;
    return reported(l, v, e, &fault);
}

static enum err load_accounts(struct load *l, const struct conf_value *v)
{
    struct account *account;
    if (v->kind == CONF_ARRAY) {
        for (const struct conf_item *i = v->array.first; i != NULL; i = i->next) {
            struct bytes name;
            if (!load_text(l, i->value, BYTES_LITERAL("accounts"), &name)) continue;
            enum err e = load_account(l, i->value, name, &account);
            if (e != ERR_OK) return e;
        }
        return ERR_OK;
    }
    if (!need_map(l, v, BYTES_LITERAL("accounts"))) return ERR_OK;
    for (const struct conf_entry *a = v->map.first; a != NULL; a = a->next) {
        /* Only there to be used as a variable. */
        if (a->value->is_used) continue;
        if (a->value->kind != CONF_MAP) {
            load_error_text(l, a->value, "Expected map entries for accounts");
            continue;
        }
        enum err e = load_account(l, a->value, a->key, &account);
        if (e != ERR_OK) return e;
        if (account == NULL) continue;
        for (const struct conf_entry *f = a->value->map.first; f != NULL; f = f->next) {
            e = load_account_field(l, f, account);
            if (e != ERR_OK) return e;
        }
    }
    return ERR_OK;
}

/* --- authorization -------------------------------------------------------------------------- */

static void load_timeout(struct load *l, const struct conf_entry *e)
{
    const int64_t high_ns = INT64_C(60000000000);
    int64_t ns;
    if (!load_seconds(l, e->value, e->key, &ns)) return;
    if (ns > high_ns) {
        struct text *line = load_warning(l, e->value);
        text_string(line, "invalid use of field ");
        load_quoted(line, e->key);
        text_string(line, ": a timeout of more than 60 seconds; was an unquoted 1m meant as '1m'?");
        load_end(line);
    }
    if (ns <= 0) return; /* the default, as in nats-server */
    l->o->auth_timeout_ns = ns;
    l->has_auth_timeout = true;
}

static enum err load_authorization(struct load *l, const struct conf_value *v)
{
    struct account_authorization a = {.has_users = false};
    struct account_fault fault;
    const struct conf_value *users = NULL;
    if (!need_map(l, v, BYTES_LITERAL("authorization"))) return ERR_OK;
    for (const struct conf_entry *e = v->map.first; e != NULL; e = e->next) {
        enum err failed = ERR_OK;
        if (is_named(e->key, "user username")) {
            (void)load_text(l, e->value, e->key, &a.user);
        } else if (is_named(e->key, "pass password")) {
            (void)load_text(l, e->value, e->key, &a.password);
        } else if (is_named(e->key, "token")) {
            (void)load_text(l, e->value, e->key, &a.token);
        } else if (is_named(e->key, "timeout")) {
            load_timeout(l, e);
        } else if (is_named(e->key, "users")) {
            users = e->value;
            a.has_users = true;
        } else if (is_named(e->key, "default_permission default_permissions permissions")) {
            failed = load_permissions(l, e->value, &a.default_permissions);
        } else if (is_named(e->key, "auth_callout auth_hook proxy_required")) {
            load_refused(l, e->value, e->key);
        } else {
            load_unknown(l, e->value, e->key);
        }
        if (failed != ERR_OK) return failed;
    }
    enum err e = users == NULL ? ERR_OK : load_users(l, users, NULL);
    if (e != ERR_OK) return e;
    return reported(l, v, account_set_authorize(l->set, &a, &fault), &fault);
}

static enum err load_system(struct load *l)
{
    struct options *o = l->o;
    struct bytes usual = BYTES_LITERAL(ACCOUNT_SYSTEM_NAME);
    l->set->no_system_account = o->no_system_account;
    /* The usual name needs no account of that name in the file, even when it is written out. */
    if (bytes_equal(o->system_account, usual)) o->system_account = BYTES_LITERAL("");
    enum err e = account_set_system(l->set, o->system_account);
    if (o->system_account.len == 0 && !o->no_system_account) o->system_account = usual;
    return e == ERR_OK ? account_set_no_auth_user(l->set, o->no_auth_user) : e;
}

static bool has_mapping(const struct mapping_set *set, struct bytes source)
{
    for (uint32_t i = 0; i < mapping_set_count(set); i++)
        if (bytes_equal(mapping_set_source(set, i), source)) return true;
    return false;
}

/* $JS.<domain>.API.X is $JS.API.X of the account; Key-Value and Object Store clients put the same
 * prefix before their own subjects. A mapping of the file wins. An account without JetStream is
 * told so, whichever way it asks. */
static enum err map_domain(struct load *l, struct account *a)
{
    static const struct {
        const char *suffix, *to;
    } rows[] = {
        {"INFO", "$JS.API.INFO"},
        {"STREAM.>", "$JS.API.STREAM.>"},
        {"CONSUMER.>", "$JS.API.CONSUMER.>"},
        {"DIRECT.>", "$JS.API.DIRECT.>"},
        {"META.>", "$JS.API.META.>"},
        {"SERVER.>", "$JS.API.SERVER.>"},
        {"ACCOUNT.>", "$JS.API.ACCOUNT.>"},
        {"$KV.>", "$KV.>"},
        {"$OBJ.>", "$OBJ.>"},
    };
    const struct options_jetstream *j = &l->o->jetstream;
    if (!j->is_on || j->domain.len == 0 || a->number == l->set->system) return ERR_OK;
    size_t bytes = j->domain.len + sizeof "$JS..API.CONSUMER.>";
    char *room = arena_alloc(l->scratch, bytes + TRANSFORM_WHY_BYTES_MAX);
    if (room == NULL) return ERR_MEMORY;
    if (a->mappings == NULL) {
        enum err e = mapping_set_open(l->mem, l->o->cluster_name, &a->mappings);
        if (e != ERR_OK) return e;
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct writer source, why;
        writer_init(&source, room, bytes);
        writer_init(&why, room + bytes, TRANSFORM_WHY_BYTES_MAX);
        writer_text(&source, "$JS.");
        writer_bytes(&source, j->domain);
        writer_text(&source, ".API.");
        writer_text(&source, rows[i].suffix);
        must(!source.is_full);
        struct mapping_destination d = {bytes_from_text(rows[i].to), 100, BYTES_LITERAL("")};
        if (has_mapping(a->mappings, writer_written(&source))) continue;
        enum err e = mapping_set_add(a->mappings, writer_written(&source), &d, 1, &why);
        if (e == ERR_MEMORY) return e;
        if (e != ERR_OK) return ERR_OK; /* a bad domain: check_jetstream says so */
    }
    return ERR_OK;
}

enum err load_auth(struct load *l, struct account_numbers *numbers, uint64_t seed)
{
    struct account_fault fault;
    must(l->set == NULL);
    enum err e = account_set_open(l->mem, numbers, &l->set);
    if (e != ERR_OK) return e;
    account_set_own_mappings(l->set, mapping_set_free);
    if (l->accounts != NULL) e = load_accounts(l, l->accounts);
    l->set->is_authorization_defined = l->authorization != NULL;
    if (e == ERR_OK && l->authorization != NULL) e = load_authorization(l, l->authorization);
    if (e == ERR_OK && l->mappings != NULL) e = load_mappings(l, l->mappings, l->set->accounts[0]);
    if (e == ERR_OK) e = load_system(l);
    if (e != ERR_OK || l->report->error_count > 0) return e;

    e = reported(l, NULL, account_set_seal(l->set, seed, &fault), &fault);
    for (uint32_t i = 0; e == ERR_OK && i < l->set->account_count; i++)
        e = map_domain(l, l->set->accounts[i]);
    if (e != ERR_OK || l->report->error_count > 0) return e;
    l->o->accounts = l->set;
    l->o->auth_required = l->set->auth_required;
    return ERR_OK;
}
