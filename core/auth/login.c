#include "core/auth/login.h"
#include "core/auth/tlsname.h"
#include "core/base/base64.h"
#include "core/base/json.h"
#include "core/base/must.h"

enum {
    CONNECT_DEPTH_MAX = 64,
    CONNECT_MEMORY_MIN = 64 * 1024, /* of the parsed text, beside 64 times its length */
    SUBJECT_NAME_BYTES = 2 * TLSNAME_BYTES_MAX,
};

/* A store that the compiler may not drop because nobody reads it. */
static void wipe(void *p, size_t bytes)
{
    if (bytes == 0) return;
    memset(p, 0, bytes);
    __asm__ volatile("" : : "r"(p) : "memory");
}

/* --- options --- */

void login_options_init(struct login_options *o)
{
    struct bytes empty = bytes_of("", 0);
    *o = (struct login_options){.verbose = true, .pedantic = true, .echo = true,
                                .name = empty, .lang = empty, .version = empty, .user = empty,
                                .nkey = empty, .account = empty, .pass = empty,
                                .auth_token = empty, .sig = empty};
}

/* A field that only its type matters of: Go's decoder would refuse a wrong one. */
static enum err check_unused(const struct json_node *root, struct json_fault *fault)
{
    static const char *const texts[] = {"jwt", "proxy_sig", "remote_account"};
    static const char *const objects[] = {"import", "export"};
    struct bytes text;
    const struct json_node *object;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        enum err e = json_get_text(root, texts[i], &text, fault);
        if (e != ERR_OK) return e;
    }
    for (size_t i = 0; i < sizeof objects / sizeof objects[0]; i++) {
        enum err e = json_get_object(root, objects[i], &object, fault);
        if (e != ERR_OK) return e;
    }
    return ERR_OK;
}

static enum err read_flags(const struct json_node *root, struct login_options *o,
                           struct json_fault *fault)
{
    const struct {
        const char *name;
        bool *value;
    } rows[] = {
        {"verbose", &o->verbose},   {"pedantic", &o->pedantic},
        {"echo", &o->echo},         {"tls_required", &o->tls_required},
        {"headers", &o->headers},   {"no_responders", &o->no_responders},
        {"new_account", &o->new_account},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum err e = json_get_bool(root, rows[i].name, rows[i].value, fault);
        if (e != ERR_OK) return e;
    }
    return json_get_i64(root, "protocol", &o->protocol, fault);
}

/* The texts of o that lie in one block: where each is, for reading and for copying. */
enum { KEPT_COUNT = 6, SECRET_COUNT = 3 };

static void list_kept(struct login_options *o, struct bytes *list[KEPT_COUNT])
{
    struct bytes *all[KEPT_COUNT] = {&o->name, &o->lang, &o->version,
                                     &o->user, &o->nkey, &o->account};
    memcpy(list, all, sizeof all);
}

static void list_secret(struct login_options *o, struct bytes *list[SECRET_COUNT])
{
    struct bytes *all[SECRET_COUNT] = {&o->pass, &o->auth_token, &o->sig};
    memcpy(list, all, sizeof all);
}

static enum err read_texts(const struct json_node *root, struct login_options *o,
                           struct json_fault *fault)
{
    static const char *const kept_names[KEPT_COUNT] = {"name", "lang", "version",
                                                       "user", "nkey", "account"};
    static const char *const secret_names[SECRET_COUNT] = {"pass", "auth_token", "sig"};
    struct bytes *kept[KEPT_COUNT], *secret[SECRET_COUNT];
    list_kept(o, kept);
    list_secret(o, secret);
    for (size_t i = 0; i < KEPT_COUNT; i++) {
        enum err e = json_get_text(root, kept_names[i], kept[i], fault);
        if (e != ERR_OK) return e;
    }
    for (size_t i = 0; i < SECRET_COUNT; i++) {
        enum err e = json_get_text(root, secret_names[i], secret[i], fault);
        if (e != ERR_OK) return e;
    }
    return ERR_OK;
}

static bool names_credentials(const struct json_node *root)
{
    static const char *const names[] = {"user", "pass", "auth_token", "nkey", "sig"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct bytes text = {0};
        if (json_get_text(root, names[i], &text, NULL) == ERR_OK && text.len > 0) return true;
    }
    return false;
}

/* Copies the listed texts into one new block and lets them point there. */
static enum err own_texts(struct mem *mem, struct bytes **list, size_t count, void **block,
                          size_t *block_bytes)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) bytes += list[i]->len + 1;
    char *to = mem_alloc_zero(mem, MEM_CONNECTION, bytes);
    if (to == NULL) return ERR_MEMORY;
    *block = to;
    *block_bytes = bytes;
    for (size_t i = 0; i < count; i++) {
        if (list[i]->len > 0) memcpy(to, list[i]->data, list[i]->len);
        *list[i] = bytes_of(to, list[i]->len);
        to += list[i]->len + 1;
    }
    return ERR_OK;
}

static enum err own_all(struct mem *mem, struct login_options *o)
{
    struct bytes *kept[KEPT_COUNT], *secret[SECRET_COUNT];
    list_kept(o, kept);
    list_secret(o, secret);
    if (own_texts(mem, kept, KEPT_COUNT, &o->kept, &o->kept_bytes) != ERR_OK) return ERR_MEMORY;
    if (own_texts(mem, secret, SECRET_COUNT, &o->secret, &o->secret_bytes) == ERR_OK)
        return ERR_OK;
    mem_free(mem, MEM_CONNECTION, o->kept, o->kept_bytes);
    return ERR_MEMORY;
}

enum err login_options_read(struct mem *mem, struct bytes text, struct login_options *o,
                            struct json_fault *fault)
{
    struct json_limits limits = {.depth_max = CONNECT_DEPTH_MAX,
                                 .bytes_max = CONNECT_MEMORY_MIN + 64 * text.len};
    struct json_doc *doc;
    enum err e = json_open(mem, MEM_CONNECTION, text, &limits, &doc, fault);
    if (e != ERR_OK) return e;
    const struct json_node *root = json_root(doc);
    enum json_kind kind = json_kind_of(root);
    struct login_options read = *o;
    if (kind != JSON_KIND_OBJECT && kind != JSON_KIND_NULL) {
        e = ERR_INVALID;
        goto close;
    }
    if ((e = read_flags(root, &read, fault)) != ERR_OK) goto close;
    if ((e = read_texts(root, &read, fault)) != ERR_OK) goto close;
    if ((e = check_unused(root, fault)) != ERR_OK) goto close;
    read.has_credentials = names_credentials(root);
    read.has_token = o->has_token || read.auth_token.len > 0;
    if ((e = own_all(mem, &read)) != ERR_OK) goto close;

    /* The new texts are copies, so the old blocks can go. */
    login_options_free(mem, o);
    *o = read;
close:
    json_close(doc);
    return e;
}

void login_options_forget(struct mem *mem, struct login_options *o)
{
    if (o->secret == NULL) return;
    wipe(o->secret, o->secret_bytes);
    mem_free(mem, MEM_CONNECTION, o->secret, o->secret_bytes);
    o->secret = NULL;
    o->secret_bytes = 0;
    o->pass = o->auth_token = o->sig = bytes_of("", 0);
}

void login_options_free(struct mem *mem, struct login_options *o)
{
    login_options_forget(mem, o);
    mem_free(mem, MEM_CONNECTION, o->kept, o->kept_bytes);
    login_options_init(o);
}

enum login_refusal login_options_refusal(const struct login_options *o, bool server_has_headers)
{
    if (o->protocol < 0 || o->protocol > 1) return LOGIN_BAD_PROTOCOL;
    if (o->no_responders && !(o->headers && server_has_headers))
        return LOGIN_NO_RESPONDERS_NEEDS_HEADERS;
    return LOGIN_FINE;
}

#define TOKEN_LABEL BYTES_LITERAL("[REDACTED]")

struct bytes login_options_label(const struct login_options *o, const struct user *user)
{
    if (o->nkey.len > 0) return o->nkey;
    if (user != NULL && user->nkey.len > 0) return user->nkey;
    if (user != NULL && user->name.len > 0) return user->name;
    if (o->user.len > 0) return o->user;
    return o->has_token ? TOKEN_LABEL : bytes_of("", 0);
}

bool login_options_is_token(const struct login_options *o, struct bytes label)
{
    return o->has_token && bytes_equal(label, TOKEN_LABEL);
}

/* --- verdicts --- */

static void accept(struct login *l, const struct user *user)
{
    l->verdict = LOGIN_ACCEPTED;
    l->reason = LOGIN_REASON_NONE;
    l->user = user;
    l->account = user == NULL ? ACCOUNT_GLOBAL : user->account;
    l->permissions = user == NULL ? NULL : user->permissions;
}

static void refuse(struct login *l, enum login_reason reason)
{
    l->verdict = LOGIN_REFUSED;
    l->reason = reason;
    l->user = NULL;
    l->account = ACCOUNT_GLOBAL;
    l->permissions = NULL;
}

static void ask_bcrypt(struct login *l, struct bytes hash, struct bytes password, bool is_hopeless)
{
    /* bcrypt looks at the first 72 bytes of a password only. */
    size_t len = password.len < LOGIN_PASSWORD_BYTES_MAX ? password.len : LOGIN_PASSWORD_BYTES_MAX;
    must(hash.len <= LOGIN_HASH_BYTES_MAX);
    l->verdict = LOGIN_CRYPTO;
    l->job.work = LOGIN_BCRYPT;
    l->job.is_hopeless = is_hopeless;
    l->job.hash_len = (uint8_t)hash.len;
    memcpy(l->job.hash, hash.data, hash.len);
    l->job.password_len = (uint8_t)len;
    if (len > 0) memcpy(l->job.password, password.data, len);
}

/* No by name and password. Where users have bcrypt passwords, every such no takes as long as
 * one of them, so that its time does not tell which names exist. */
static void refuse_slowly(const struct account_set *set, struct login *l, struct bytes password,
                          enum login_reason reason)
{
    refuse(l, reason);
    if (set->decoy_bcrypt.len > 0 && set->decoy_bcrypt.len <= LOGIN_HASH_BYTES_MAX)
        ask_bcrypt(l, set->decoy_bcrypt, password, true);
}

/* Looks at every byte of given, so that the time tells nothing about wanted but its length. */
static bool equal_in_constant_time(struct bytes wanted, struct bytes given)
{
    unsigned difference = wanted.len != given.len;
    for (size_t i = 0; i < given.len; i++) {
        unsigned char w = wanted.len == 0 ? 0 : (unsigned char)wanted.data[i % wanted.len];
        difference |= (unsigned)(w ^ (unsigned char)given.data[i]);
    }
    return difference == 0;
}

static void check_password(const struct account_set *set, struct login *l,
                           const struct user *user, struct bytes wanted, bool is_bcrypt,
                           struct bytes given)
{
    accept(l, user);
    if (is_bcrypt && wanted.len <= LOGIN_HASH_BYTES_MAX)
        ask_bcrypt(l, wanted, given, false);
    else if (is_bcrypt || !equal_in_constant_time(wanted, given))
        refuse_slowly(set, l, given, LOGIN_REASON_CREDENTIALS);
}

static bool is_connection_allowed(const struct user *u, const struct login_facts *facts)
{
    return u->allowed_connections == 0 || (u->allowed_connections & facts->connection) != 0;
}

/* --- nkeys --- */

static void check_nkey(const struct account_set *set, const struct login_options *o,
                       const struct login_facts *facts, const struct user *user, struct login *l)
{
    size_t len;
    if (user->is_proxy_required) {
        refuse(l, LOGIN_REASON_PROXY);
        return;
    }
    if (user == set->no_auth) { /* it proves nothing, be it named or not */
        accept(l, user);
        return;
    }
    bool is_readable =
        base64_decode(BASE64_URL, o->sig, l->job.signature, LOGIN_SIGNATURE_BYTES, &len) ==
            ERR_OK ||
        base64_decode(BASE64_STD, o->sig, l->job.signature, LOGIN_SIGNATURE_BYTES, &len) == ERR_OK;
    if (!is_readable || len != LOGIN_SIGNATURE_BYTES || facts->nonce.len == 0 ||
        facts->nonce.len > LOGIN_NONCE_BYTES_MAX) {
        refuse(l, LOGIN_REASON_SIGNATURE);
        return;
    }
    accept(l, user);
    l->verdict = LOGIN_CRYPTO;
    l->job.work = LOGIN_ED25519;
    memcpy(l->job.key, user->nkey_raw, NKEY_RAW_BYTES);
    l->job.nonce_len = (uint8_t)facts->nonce.len;
    memcpy(l->job.nonce, facts->nonce.data, facts->nonce.len);
}

/* --- names in certificates --- */

static const struct user *user_called(const struct account_set *set,
                                      const struct login_facts *facts, struct bytes name)
{
    const struct user *u = name.len == 0 ? NULL : account_set_user(set, name);
    return u != NULL && is_connection_allowed(u, facts) ? u : NULL;
}

static const struct user *user_among(const struct account_set *set,
                                     const struct login_facts *facts, const struct bytes *names,
                                     uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct user *u = user_called(set, facts, names[i]);
        if (u != NULL) return u;
    }
    return NULL;
}

/* The user whose name is this distinguished name: in its own order, else in any order. */
static const struct user *user_by_dn(const struct account_set *set,
                                     const struct login_facts *facts)
{
    struct tlsname wanted, own;
    const struct user *reordered = NULL;
    if (facts->tls->dn.len == 0 || tlsname_parse(facts->tls->dn, &wanted) != ERR_OK) return NULL;
    for (uint32_t i = 0; i < set->user_count; i++) {
        const struct user *u = set->users[i];
        if (u->name.len == 0 || !is_connection_allowed(u, facts)) continue;
        if (bytes_find(u->name, '=') == u->name.len) continue; /* the most are plain names */
        if (tlsname_parse(u->name, &own) != ERR_OK) continue;
        if (tlsname_equal(&own, &wanted)) return u;
        if (reordered == NULL && tlsname_equal_unordered(&own, &wanted)) reordered = u;
    }
    return reordered;
}

static const struct user *user_by_certificate(const struct account_set *set,
                                              const struct login_facts *facts)
{
    const struct login_tls *t = facts->tls;
    const struct user *u;
    if (t == NULL) return NULL;
    if ((u = user_among(set, facts, t->emails, t->email_count)) != NULL) return u;
    if ((u = user_among(set, facts, t->dns, t->dns_count)) != NULL) return u;
    if ((u = user_among(set, facts, t->uris, t->uri_count)) != NULL) return u;
    if ((u = user_by_dn(set, facts)) != NULL) return u;
    if (t->dcs.len > 0) {
        char room[SUBJECT_NAME_BYTES];
        struct writer w;
        writer_init(&w, room, sizeof room);
        writer_bytes(&w, t->rdn);
        writer_char(&w, ',');
        writer_bytes(&w, t->dcs);
        if (!w.is_full && (u = user_called(set, facts, writer_written(&w))) != NULL) return u;
    }
    return user_called(set, facts, t->rdn);
}

/* --- login --- */

static void check_user(const struct account_set *set, const struct login_options *o,
                       const struct user *user, struct login *l)
{
    if (user->is_proxy_required)
        refuse(l, LOGIN_REASON_PROXY);
    else
        check_password(set, l, user, user->password, user->is_bcrypt, o->pass);
}

/* no_auth_user stands in for a client that names nobody. nats-server puts its configured
 * password in the place of the missing one and compares, which a bcrypt hash does not survive:
 * such a user never gets in without credentials. */
static void take_no_auth(const struct account_set *set, struct login *l)
{
    if (set->no_auth->is_proxy_required)
        refuse(l, LOGIN_REASON_PROXY);
    else if (set->no_auth->is_bcrypt)
        refuse(l, LOGIN_REASON_CREDENTIALS);
    else
        accept(l, set->no_auth);
}

static void login_named(const struct account_set *set, const struct login_options *o,
                        const struct login_facts *facts, struct login *l)
{
    const struct user *u = account_set_user(set, o->user);
    if (u == NULL)
        refuse_slowly(set, l, o->pass, LOGIN_REASON_CREDENTIALS);
    else if (!is_connection_allowed(u, facts))
        refuse_slowly(set, l, o->pass, LOGIN_REASON_CONNECTION_TYPE);
    else
        check_user(set, o, u, l);
}

/* Users and nkeys. A user is looked for in this order: nkey, certificate, name, no_auth_user. */
static void login_users(const struct account_set *set, const struct login_options *o,
                        const struct login_facts *facts, struct login *l)
{
    const struct user *no_auth = set->no_auth;
    bool is_bare = o->user.len == 0 && o->pass.len == 0 && o->auth_token.len == 0;
    bool is_no_auth_nkey = no_auth != NULL && no_auth->nkey.len > 0;
    /* nonce_required: there are nkey users; without any, nkey in CONNECT is not looked at. */
    if (set->nonce_required) {
        const struct user *u = account_set_user_by_nkey(set, o->nkey);
        if (is_bare && o->nkey.len == 0 && is_no_auth_nkey) u = no_auth;
        if (u == NULL && o->nkey.len > 0) {
            refuse(l, LOGIN_REASON_CREDENTIALS);
            return;
        }
        if (u != NULL && !is_connection_allowed(u, facts)) {
            refuse(l, LOGIN_REASON_CONNECTION_TYPE);
            return;
        }
        if (u != NULL) {
            check_nkey(set, o, facts, u, l);
            return;
        }
    }
    if (facts->tls_map && set->name_user_count > 0) {
        const struct user *u = user_by_certificate(set, facts);
        if (u == NULL)
            refuse(l, LOGIN_REASON_CERTIFICATE);
        else
            check_user(set, o, u, l);
        return;
    }
    if (is_bare && no_auth != NULL && !is_no_auth_nkey) {
        if (!is_connection_allowed(no_auth, facts))
            refuse(l, LOGIN_REASON_CONNECTION_TYPE);
        else
            take_no_auth(set, l);
        return;
    }
    if (o->user.len > 0)
        login_named(set, o, facts, l);
    else
        refuse(l, LOGIN_REASON_CREDENTIALS);
}

void login_begin(const struct account_set *set, const struct login_options *o,
                 const struct login_facts *facts, struct login *l)
{
    must(set->is_sealed);
    wipe(l, sizeof *l);
    if (o->account.len > 0 || o->new_account) {
        refuse(l, LOGIN_REASON_ACCOUNT);
        return;
    }
    if (facts->is_again && !o->has_credentials && !facts->tls_map &&
        (facts->earlier == NULL || is_connection_allowed(facts->earlier, facts))) {
        accept(l, facts->earlier);
        return;
    }
    switch (set->mode) {
    case ACCOUNT_MODE_NONE: accept(l, NULL); return;
    case ACCOUNT_MODE_USERS: login_users(set, o, facts, l); return;
    case ACCOUNT_MODE_TOKEN:
        check_password(set, l, NULL, set->token, set->is_token_bcrypt, o->auth_token);
        return;
    case ACCOUNT_MODE_SINGLE:
        if (!bytes_equal(set->single.name, o->user))
            refuse_slowly(set, l, o->pass, LOGIN_REASON_CREDENTIALS);
        else
            check_password(set, l, &set->single, set->single.password, set->single.is_bcrypt,
                           o->pass);
        return;
    }
    must(false);
}

void login_begin_without_connect(const struct account_set *set, const struct login_facts *facts,
                                 struct login *l)
{
    struct login_options none;
    must(set->is_sealed);
    wipe(l, sizeof *l);
    /* Only a user with a name stands in here; one with an nkey needs a CONNECT. */
    if (set->auth_required && (set->no_auth == NULL || set->no_auth->nkey.len > 0)) {
        refuse(l, LOGIN_REASON_CREDENTIALS);
        return;
    }
    login_options_init(&none);
    login_begin(set, &none, facts, l);
}

void login_finish(struct login *l, bool is_match)
{
    must(l->verdict == LOGIN_CRYPTO);
    bool is_hopeless = l->job.is_hopeless;
    enum login_reason reason = is_hopeless                      ? l->reason
                               : l->job.work == LOGIN_ED25519 ? LOGIN_REASON_SIGNATURE
                                                                : LOGIN_REASON_CREDENTIALS;
    wipe(&l->job, sizeof l->job);
    if (is_match && !is_hopeless)
        l->verdict = LOGIN_ACCEPTED;
    else
        refuse(l, reason);
}
