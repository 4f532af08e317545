#include <criterion/criterion.h>
#include "core/auth/login.h"
#include "core/base/base64.h"
#include "core/base/json.h"
#include "core/base/must.h"
#include "tests/support/mem_heap.h"

static const char *const user_key = "UAAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB63NN";
#define HASH "$2a$04$abcdefghijklmnopqrstuuHIrMEWpUCQe2YqFR3sXwQ75u4od..9q"

static struct mem_heap heap;
static struct account_numbers *numbers;
static struct account_set *set;
static struct account_fault fault;
static struct login_options options;
static struct login_facts facts;
static struct login login;

static void start(void)
{
    mem_heap_init(&heap);
    json_init(3);
    cr_assert_eq(account_numbers_open(&heap.mem, &numbers), ERR_OK);
    cr_assert_eq(account_set_open(&heap.mem, numbers, &set), ERR_OK);
    login_options_init(&options);
    facts = (struct login_facts){.connection = ACCOUNT_STANDARD, .nonce = BYTES_LITERAL("nonce")};
}

static void finish(void)
{
    login_options_free(&heap.mem, &options);
    account_set_close(set);
    account_numbers_close(numbers);
    must(heap.live_count == 0);
}

TestSuite(login, .init = start, .fini = finish);

static enum err read_text(const char *text)
{
    return login_options_read(&heap.mem, bytes_from_text(text), &options, NULL);
}

static void add_user(const char *name, const char *password, uint32_t connections)
{
    struct account_user_spec spec = {.name = bytes_from_text(name),
                                     .password = bytes_from_text(password),
                                     .allowed_connections = connections};
    cr_assert_eq(account_set_add_user(set, &spec, &fault), ERR_OK);
}

static void add_nkey(uint32_t connections)
{
    struct account_user_spec spec = {.nkey = bytes_from_text(user_key),
                                     .allowed_connections = connections};
    cr_assert_eq(account_set_add_user(set, &spec, &fault), ERR_OK);
}

static void no_auth_user(const char *name)
{
    cr_assert_eq(account_set_no_auth_user(set, bytes_from_text(name)), ERR_OK);
}

static void seal(void)
{
    cr_assert_eq(account_set_seal(set, 5, &fault), ERR_OK, "%s", fault.text);
}

static enum login_verdict begin(const char *text)
{
    cr_assert_eq(read_text(text), ERR_OK);
    login_begin(set, &options, &facts, &login);
    return login.verdict;
}

static bool is_user(const char *name)
{
    return login.verdict == LOGIN_ACCEPTED && login.user != NULL &&
           bytes_equal(login.user->name, bytes_from_text(name));
}

static bool is_zero(const void *p, size_t bytes)
{
    const char *at = p;
    while (bytes > 0 && at[bytes - 1] == 0) bytes--;
    return bytes == 0;
}

/* --- CONNECT --- */

Test(login, missing_fields_keep_the_defaults)
{
    cr_assert_eq(read_text("{}"), ERR_OK);
    cr_assert(options.verbose && options.pedantic && options.echo);
    cr_assert(!options.headers && !options.no_responders && !options.tls_required);
    cr_assert_eq(options.protocol, 0);
    cr_assert(!options.has_credentials);
    cr_assert_eq(read_text("null"), ERR_OK);
}

Test(login, all_fields_are_read)
{
    cr_assert_eq(read_text("{\"verbose\":false,\"pedantic\":false,\"echo\":false,"
                           "\"tls_required\":true,\"headers\":true,"
                           "\"no_responders\":true,\"protocol\":1,\"name\":\"n\","
                           "\"lang\":\"c\",\"version\":\"1.2\",\"USER\":\"u\",\"pass\":\"p\","
                           "\"auth_token\":\"t\",\"nkey\":\"k\",\"sig\":\"s\",\"jwt\":\"j\"}"),
                 ERR_OK);
    cr_assert(!options.verbose && !options.pedantic && !options.echo && options.tls_required);
    cr_assert(options.headers && options.no_responders && options.protocol == 1);
    cr_assert(bytes_equal(options.name, BYTES_LITERAL("n")));
    cr_assert(bytes_equal(options.lang, BYTES_LITERAL("c")));
    cr_assert(bytes_equal(options.version, BYTES_LITERAL("1.2")));
    cr_assert(bytes_equal(options.user, BYTES_LITERAL("u")));
    cr_assert(bytes_equal(options.pass, BYTES_LITERAL("p")));
    cr_assert(bytes_equal(options.auth_token, BYTES_LITERAL("t")));
    cr_assert(options.has_credentials && options.has_token);
    cr_assert_eq(login_options_refusal(&options, true), LOGIN_FINE);
    cr_assert_eq(login_options_refusal(&options, false), LOGIN_NO_RESPONDERS_NEEDS_HEADERS);
}

Test(login, a_wrong_type_anywhere_is_an_error_that_changes_nothing)
{
    static const char *const bad[] = {
        "{\"verbose\":\"x\"}", "{\"verbose\":1}",        "{\"echo\":[]}",     "{\"protocol\":1.0}",
        "{\"protocol\":\"1\"}", "{\"name\":1}",          "{\"user\":true}",   "{\"pass\":{}}",
        "{\"jwt\":1}",         "{\"import\":3}",         "{\"proxy_sig\":3}", "[]",
        "3",                   "\"x\"",                  "true",              "{} x",
        "",                    "{\"new_account\":0}",    "{\"sig\":1}",       "{\"account\":1}",
        "{\"protocol\":99999999999999999999}",           "{\"a\":",           "{'a':1}",
    };
    cr_assert_eq(read_text("{\"name\":\"kept\",\"verbose\":false}"), ERR_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert_neq(read_text(bad[i]), ERR_OK, "%s", bad[i]);
        cr_assert(bytes_equal(options.name, BYTES_LITERAL("kept")));
        cr_assert(!options.verbose);
    }
}

Test(login, a_second_connect_changes_only_what_it_names)
{
    cr_assert_eq(read_text("{\"verbose\":false,\"name\":\"a\",\"user\":\"u\",\"pass\":\"p\"}"),
                 ERR_OK);
    login_options_forget(&heap.mem, &options);
    cr_assert_eq(read_text("{\"name\":\"b\"}"), ERR_OK);
    cr_assert(!options.verbose && !options.has_credentials);
    cr_assert(bytes_equal(options.name, BYTES_LITERAL("b")));
    cr_assert(bytes_equal(options.user, BYTES_LITERAL("u")));
    cr_assert_eq(options.pass.len, 0);
}

Test(login, protocol_beyond_one_is_refused)
{
    cr_assert_eq(read_text("{\"protocol\":2}"), ERR_OK);
    cr_assert_eq(login_options_refusal(&options, true), LOGIN_BAD_PROTOCOL);
    cr_assert_eq(read_text("{\"protocol\":-1}"), ERR_OK);
    cr_assert_eq(login_options_refusal(&options, true), LOGIN_BAD_PROTOCOL);
}

Test(login, running_out_of_memory_anywhere_leaves_nothing_behind)
{
    for (uint64_t n = 1; n < 100; n++) {
        uint64_t live = heap.live_count;
        heap.alloc_count = 0;
        heap.fail_at = n;
        enum err e = read_text("{\"name\":\"n\",\"user\":\"u\",\"pass\":\"p\"}");
        heap.fail_at = 0;
        if (e == ERR_OK) {
            cr_assert_gt(n, 3);
            return;
        }
        cr_assert_eq(e, ERR_MEMORY);
        cr_assert_eq(heap.live_count, live);
    }
    cr_assert_fail("never enough memory");
}

Test(login, the_label_never_shows_a_secret)
{
    cr_assert_eq(read_text("{\"auth_token\":\"sesame\"}"), ERR_OK);
    cr_assert(bytes_equal(login_options_label(&options, NULL), BYTES_LITERAL("[REDACTED]")));
    login_options_forget(&heap.mem, &options);
    cr_assert(bytes_equal(login_options_label(&options, NULL), BYTES_LITERAL("[REDACTED]")));
    cr_assert_eq(read_text("{\"user\":\"u\"}"), ERR_OK);
    cr_assert(bytes_equal(login_options_label(&options, NULL), BYTES_LITERAL("u")));
}

/* --- modes --- */

Test(login, without_authorization_everybody_is_in_g)
{
    seal();
    cr_assert_eq(begin("{\"user\":\"who\",\"pass\":\"ever\"}"), LOGIN_ACCEPTED);
    cr_assert_null(login.user);
    cr_assert_eq(login.account, ACCOUNT_GLOBAL);
    login_begin_without_connect(set, &facts, &login);
    cr_assert_eq(login.verdict, LOGIN_ACCEPTED);
}

/* CVE-2022-24450: a field of CONNECT could choose any account. */
Test(login, naming_an_account_is_refused_even_without_authorization)
{
    seal();
    cr_assert_eq(begin("{\"account\":\"$SYS\"}"), LOGIN_REFUSED);
    cr_assert_eq(login.reason, LOGIN_REASON_ACCOUNT);
    cr_assert_eq(begin("{\"account\":\"\",\"new_account\":true}"), LOGIN_REFUSED);
}

static void single_user(const char *user, const char *password, const char *token)
{
    struct account_authorization a = {.user = bytes_from_text(user),
                                      .password = bytes_from_text(password),
                                      .token = bytes_from_text(token)};
    cr_assert_eq(account_set_authorize(set, &a, &fault), ERR_OK);
}

Test(login, a_single_user_needs_name_and_password)
{
    single_user("a", "secret", "");
    seal();
    cr_assert_eq(begin("{\"user\":\"a\",\"pass\":\"secret\"}"), LOGIN_ACCEPTED);
    cr_assert(is_user("a"));
    cr_assert_eq(begin("{\"pass\":\"secre\"}"), LOGIN_REFUSED);
    cr_assert_eq(begin("{\"pass\":\"secretsecret\"}"), LOGIN_REFUSED);
    cr_assert_eq(begin("{\"pass\":\"\"}"), LOGIN_REFUSED);
    cr_assert_eq(begin("{\"user\":\"b\",\"pass\":\"secret\"}"), LOGIN_REFUSED);
    cr_assert_eq(login.reason, LOGIN_REASON_CREDENTIALS);
    login_begin_without_connect(set, &facts, &login);
    cr_assert_eq(login.verdict, LOGIN_REFUSED);
}

Test(login, a_token_needs_no_name)
{
    single_user("", "", "sesame");
    seal();
    cr_assert_eq(begin("{\"auth_token\":\"sesame\"}"), LOGIN_ACCEPTED);
    cr_assert_null(login.user);
    cr_assert_eq(begin("{\"auth_token\":\"x\",\"user\":\"sesame\",\"pass\":\"sesame\"}"),
                 LOGIN_REFUSED);
}

Test(login, a_bcrypt_token_is_work_for_a_helper)
{
    single_user("", "", HASH);
    seal();
    cr_assert_eq(begin("{\"auth_token\":\"sesame\"}"), LOGIN_CRYPTO);
    cr_assert_eq(login.job.work, LOGIN_BCRYPT);
    cr_assert(bytes_equal(bytes_of(login.job.hash, login.job.hash_len), BYTES_LITERAL(HASH)));
    cr_assert(bytes_equal(bytes_of(login.job.password, login.job.password_len),
                          BYTES_LITERAL("sesame")));
    login_finish(&login, true);
    cr_assert_eq(login.verdict, LOGIN_ACCEPTED);
    cr_assert(is_zero(&login.job, sizeof login.job));
    cr_assert_eq(begin("{\"auth_token\":\"" HASH "\"}"), LOGIN_CRYPTO, "the hash is no password");
    login_finish(&login, false);
    cr_assert_eq(login.verdict, LOGIN_REFUSED);
}

Test(login, users_are_found_by_name)
{
    struct bytes subject = BYTES_LITERAL("x");
    struct perms_spec perms = {.publish_deny = {&subject, 1}};
    struct account *a;
    struct account_user_spec spec = {.name = BYTES_LITERAL("b"), .password = BYTES_LITERAL("pb")};
    cr_assert_eq(account_add(set, BYTES_LITERAL("A"), &a, &fault), ERR_OK);
    cr_assert_eq(account_set_compile(set, &perms, &spec.permissions, &fault), ERR_OK);
    spec.account = a;
    cr_assert_eq(account_set_add_user(set, &spec, &fault), ERR_OK);
    add_user("a", "pa", 0);
    seal();
    cr_assert_eq(begin("{\"user\":\"b\",\"pass\":\"pb\"}"), LOGIN_ACCEPTED);
    cr_assert_eq(login.account, a->number);
    cr_assert_eq(login.permissions, spec.permissions);
    cr_assert_eq(begin("{\"user\":\"a\",\"pass\":\"pb\"}"), LOGIN_REFUSED);
    cr_assert_null(login.permissions);
    cr_assert_eq(begin("{\"user\":\"c\",\"pass\":\"pb\"}"), LOGIN_REFUSED);
    cr_assert_eq(begin("{\"user\":\"\",\"pass\":\"\"}"), LOGIN_REFUSED);
}

Test(login, an_unknown_user_takes_as_long_as_a_bcrypt_one)
{
    add_user("a", HASH, 0);
    add_user("plain", "p", ACCOUNT_WEBSOCKET);
    seal();
    static const char *const wrong[] = {"{\"user\":\"nobody\",\"pass\":\"x\"}",
                                        "{\"user\":\"plain\",\"pass\":\"p\"}",
                                        "{\"user\":\"plain\",\"pass\":\"x\"}"};
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(begin(wrong[i]), LOGIN_CRYPTO);
        cr_assert(login.job.is_hopeless);
        login_finish(&login, true);
        cr_assert_eq(login.verdict, LOGIN_REFUSED);
        cr_assert_null(login.user);
    }
    cr_assert_eq(begin("{\"user\":\"a\",\"pass\":\"x\"}"), LOGIN_CRYPTO);
    login_finish(&login, true);
    cr_assert(is_user("a"));
}

Test(login, passwords_beyond_what_bcrypt_reads_are_cut)
{
    char text[200] = "{\"user\":\"a\",\"pass\":\"";
    size_t len = strlen(text);
    add_user("a", HASH, 0);
    seal();
    memset(text + len, 'x', 100);
    memcpy(text + len + 100, "\"}", 3);
    cr_assert_eq(begin(text), LOGIN_CRYPTO);
    cr_assert_eq(login.job.password_len, LOGIN_PASSWORD_BYTES_MAX);
}

Test(login, a_damaged_hash_matches_nothing)
{
    char hash[LOGIN_HASH_BYTES_MAX + 8] = "$2a$04$";
    memset(hash + 7, 'a', sizeof hash - 8);
    add_user("a", hash, 0);
    seal();
    cr_assert_eq(begin("{\"user\":\"a\",\"pass\":\"x\"}"), LOGIN_REFUSED);
}

/* --- nkeys --- */

static const char *connect_with_key(const char *sig)
{
    static char text[400];
    struct writer w;
    writer_init(&w, text, sizeof text - 1);
    writer_text(&w, "{\"nkey\":\"");
    writer_text(&w, user_key);
    writer_text(&w, "\",\"sig\":\"");
    writer_text(&w, sig);
    writer_text(&w, "\"}");
    text[w.len] = 0;
    return text;
}

Test(login, an_nkey_signs_the_nonce)
{
    uint8_t signature[LOGIN_SIGNATURE_BYTES];
    char sig[100] = {0};
    for (size_t i = 0; i < sizeof signature; i++) signature[i] = (uint8_t)(0xf8 + i);
    add_nkey(0);
    seal();
    cr_assert(set->nonce_required);
    for (int kind = BASE64_URL; kind <= BASE64_STD; kind++) {
        memset(sig, 0, sizeof sig);
        base64_encode(kind, signature, sizeof signature, sig);
        cr_assert_eq(begin(connect_with_key(sig)), LOGIN_CRYPTO);
        cr_assert_eq(login.job.work, LOGIN_ED25519);
        cr_assert_eq(login.job.key[31], 31);
        cr_assert_eq(memcmp(login.job.signature, signature, sizeof signature), 0);
        cr_assert(bytes_equal(bytes_of(login.job.nonce, login.job.nonce_len),
                              BYTES_LITERAL("nonce")));
    }
    login_finish(&login, true);
    cr_assert_eq(login.verdict, LOGIN_ACCEPTED);
    cr_assert(bytes_equal(login.user->nkey, bytes_from_text(user_key)));
}

Test(login, a_signature_of_another_length_never_reaches_a_helper)
{
    char sig[256];
    uint8_t bytes[128] = {0};
    add_nkey(0);
    seal();
    for (size_t len = 0; len <= sizeof bytes; len++) {
        if (len == LOGIN_SIGNATURE_BYTES) continue;
        sig[base64_encode(BASE64_URL, bytes, len, sig)] = 0;
        cr_assert_eq(begin(connect_with_key(sig)), LOGIN_REFUSED);
        cr_assert_eq(login.reason, LOGIN_REASON_SIGNATURE);
    }
    cr_assert_eq(begin(connect_with_key("!!")), LOGIN_REFUSED);
    cr_assert_eq(begin("{\"nkey\":\"UAAA\",\"sig\":\"\"}"), LOGIN_REFUSED);
    facts.nonce = bytes_of(NULL, 0);
    sig[base64_encode(BASE64_URL, bytes, LOGIN_SIGNATURE_BYTES, sig)] = 0;
    cr_assert_eq(begin(connect_with_key(sig)), LOGIN_REFUSED, "nothing was to be signed");
}

/* --- no_auth_user and connection types --- */

Test(login, no_auth_user_takes_those_without_credentials)
{
    add_user("a", "pa", 0);
    add_user("b", "pb", 0);
    no_auth_user("a");
    seal();
    cr_assert_eq(begin("{}"), LOGIN_ACCEPTED);
    cr_assert(is_user("a"));
    login_begin_without_connect(set, &facts, &login);
    cr_assert(is_user("a"));
    cr_assert_eq(begin("{\"user\":\"b\",\"pass\":\"pb\"}"), LOGIN_ACCEPTED);
    cr_assert(is_user("b"));
    cr_assert_eq(begin("{\"pass\":\"wrong\"}"), LOGIN_REFUSED);
    cr_assert_eq(begin("{\"user\":\"a\",\"pass\":\"\"}"), LOGIN_REFUSED);
}

Test(login, a_bad_password_or_token_is_no_missing_one)
{
    add_user("a", "pa", 0);
    no_auth_user("a");
    seal();
    cr_assert_eq(begin("{\"auth_token\":\"x\"}"), LOGIN_REFUSED);
    cr_assert_eq(begin("{\"auth_token\":\"\",\"pass\":\"x\"}"), LOGIN_REFUSED);
    cr_assert_eq(begin("{\"pass\":\"\",\"user\":\"x\"}"), LOGIN_REFUSED);
}

/* Seen on nats-server 2.15.2. */
Test(login, a_no_auth_user_with_a_bcrypt_password_takes_nobody)
{
    add_user("a", HASH, 0);
    no_auth_user("a");
    seal();
    cr_assert_eq(begin("{}"), LOGIN_REFUSED);
    login_begin_without_connect(set, &facts, &login);
    cr_assert_eq(login.verdict, LOGIN_REFUSED);
}

Test(login, a_no_auth_user_with_an_nkey_needs_a_connect)
{
    add_nkey(0);
    no_auth_user(user_key);
    seal();
    cr_assert_eq(begin("{}"), LOGIN_ACCEPTED);
    cr_assert(bytes_equal(login.user->nkey, bytes_from_text(user_key)));
    login_begin_without_connect(set, &facts, &login);
    cr_assert_eq(login.verdict, LOGIN_REFUSED);
    cr_assert_eq(begin("{\"user\":\"x\"}"), LOGIN_REFUSED);
}

/* GHSA-hmmp: the paths around CONNECT skipped the limits on connection types. */
Test(login, allowed_connection_types_hold_on_every_path)
{
    add_user("ws", "p", ACCOUNT_WEBSOCKET | ACCOUNT_MQTT);
    add_nkey(ACCOUNT_WEBSOCKET);
    no_auth_user("ws");
    seal();
    cr_assert_eq(begin("{}"), LOGIN_REFUSED);
    cr_assert_eq(login.reason, LOGIN_REASON_CONNECTION_TYPE);
    cr_assert_eq(begin("{\"user\":\"ws\",\"pass\":\"p\"}"), LOGIN_REFUSED);
    cr_assert_eq(begin(connect_with_key("")), LOGIN_REFUSED);
    cr_assert_eq(login.reason, LOGIN_REASON_CONNECTION_TYPE);
    login_begin_without_connect(set, &facts, &login);
    cr_assert_eq(login.verdict, LOGIN_REFUSED);
    facts.connection = ACCOUNT_WEBSOCKET;
    login_options_free(&heap.mem, &options);
    cr_assert_eq(begin("{}"), LOGIN_ACCEPTED);
    cr_assert_eq(begin("{\"user\":\"ws\",\"pass\":\"p\"}"), LOGIN_ACCEPTED);
}

Test(login, allowed_connection_types_hold_for_certificates_and_later_connects)
{
    struct bytes email = BYTES_LITERAL("ws");
    struct login_tls tls = {.emails = &email, .email_count = 1};
    add_user("ws", "", ACCOUNT_WEBSOCKET);
    seal();
    facts.tls_map = true;
    facts.tls = &tls;
    cr_assert_eq(begin("{}"), LOGIN_REFUSED);
    cr_assert_eq(login.reason, LOGIN_REASON_CERTIFICATE);
    facts.tls_map = false;
    facts.is_again = true;
    facts.earlier = account_set_user(set, BYTES_LITERAL("ws"));
    cr_assert_eq(begin("{}"), LOGIN_REFUSED);
}

Test(login, a_user_behind_a_proxy_cannot_come_alone)
{
    struct account_user_spec spec = {.name = BYTES_LITERAL("a"), .password = BYTES_LITERAL("p"),
                                     .is_proxy_required = true};
    cr_assert_eq(account_set_add_user(set, &spec, &fault), ERR_OK);
    no_auth_user("a");
    seal();
    cr_assert_eq(begin("{\"user\":\"a\",\"pass\":\"p\"}"), LOGIN_REFUSED);
    cr_assert_eq(login.reason, LOGIN_REASON_PROXY);
    login_options_free(&heap.mem, &options);
    cr_assert_eq(begin("{}"), LOGIN_REFUSED);
    cr_assert_eq(login.reason, LOGIN_REASON_PROXY);
}

/* --- a further CONNECT --- */

Test(login, a_later_connect_without_credentials_keeps_the_user)
{
    add_user("a", "pa", 0);
    add_user("b", "pb", 0);
    seal();
    cr_assert_eq(begin("{\"user\":\"a\",\"pass\":\"pa\"}"), LOGIN_ACCEPTED);
    login_options_forget(&heap.mem, &options);
    facts.is_again = true;
    facts.earlier = login.user;
    cr_assert_eq(begin("{\"verbose\":false}"), LOGIN_ACCEPTED);
    cr_assert(is_user("a"));
    cr_assert_eq(begin("{\"user\":\"b\",\"pass\":\"pb\"}"), LOGIN_ACCEPTED);
    cr_assert(is_user("b"));
    cr_assert_eq(begin("{\"user\":\"b\",\"pass\":\"x\"}"), LOGIN_REFUSED);
}

/* --- certificates --- */

Test(login, a_certificate_is_tried_name_by_name)
{
    struct bytes emails[] = {BYTES_LITERAL("no@x"), BYTES_LITERAL("m@x")};
    struct bytes dns = BYTES_LITERAL("host"), uri = BYTES_LITERAL("spiffe://x/y");
    struct login_tls tls = {.emails = emails, .email_count = 2, .dns = &dns, .dns_count = 1,
                            .uris = &uri, .uri_count = 1,
                            .dn = BYTES_LITERAL("CN=bob,O=Acme,C=US"),
                            .dcs = BYTES_LITERAL("DC=com,DC=acme"),
                            .rdn = BYTES_LITERAL("CN=bob,O=Acme")};
    add_user("CN=bob,O=Acme", "", 0);
    add_user("CN=bob,O=Acme,DC=com,DC=acme", "", 0);
    add_user("C=US,O=Acme,CN=bob", "", 0);
    add_user("spiffe://x/y", "", 0);
    add_user("host", "", 0);
    add_user("m@x", "", 0);
    seal();
    facts.tls_map = true;
    facts.tls = &tls;
    cr_assert_eq(begin("{}"), LOGIN_ACCEPTED);
    cr_assert(is_user("m@x"));
    tls.email_count = 1;
    begin("{}");
    cr_assert(is_user("host"));
    tls.dns_count = 0;
    begin("{}");
    cr_assert(is_user("spiffe://x/y"));
    tls.uri_count = 0;
    begin("{}");
    cr_assert(is_user("C=US,O=Acme,CN=bob"), "the order of a distinguished name is free");
    tls.dn = bytes_of(NULL, 0);
    begin("{}");
    cr_assert(is_user("CN=bob,O=Acme,DC=com,DC=acme"));
    tls.dcs = bytes_of(NULL, 0);
    begin("{}");
    cr_assert(is_user("CN=bob,O=Acme"));
    tls.rdn = BYTES_LITERAL("CN=bob,O=Acm");
    cr_assert_eq(begin("{}"), LOGIN_REFUSED);
    facts.tls = NULL;
    cr_assert_eq(begin("{\"user\":\"host\"}"), LOGIN_REFUSED, "a name needs its certificate");
    cr_assert_eq(login.reason, LOGIN_REASON_CERTIFICATE);
}

Test(login, a_distinguished_name_in_its_own_order_goes_first)
{
    struct login_tls tls = {.dn = BYTES_LITERAL("CN=bob,O=Acme")};
    add_user("O=Acme,CN=bob", "", 0);
    add_user("CN=bob, O=Acme", "", 0);
    seal();
    facts.tls_map = true;
    facts.tls = &tls;
    begin("{}");
    cr_assert(is_user("CN=bob, O=Acme"));
}

Test(login, a_password_beside_a_certificate_must_match_too)
{
    struct bytes dns = BYTES_LITERAL("host");
    struct login_tls tls = {.dns = &dns, .dns_count = 1};
    add_user("host", "secret", 0);
    seal();
    facts.tls_map = true;
    facts.tls = &tls;
    cr_assert_eq(begin("{}"), LOGIN_REFUSED);
    cr_assert_eq(begin("{\"pass\":\"secret\"}"), LOGIN_ACCEPTED);
}

/* --- CVE-2023-47090 --- */

/* What nats-server 2.15.2 does for a client without credentials, one row per configuration. */
Test(login, anonymous_clients_over_authorization_accounts_and_no_auth_user)
{
    enum { NO, YES };
    static const struct {
        bool has_block, has_sys, has_sys_user, has_other, has_no_auth, is_let_in;
    } rows[] = {
        {NO, NO, NO, NO, NO, YES},   {YES, NO, NO, NO, NO, YES},  {NO, YES, NO, NO, NO, YES},
        {NO, YES, YES, NO, NO, YES}, {YES, YES, YES, NO, NO, NO}, {NO, YES, YES, YES, NO, NO},
        {NO, YES, YES, NO, YES, YES}, {YES, YES, YES, NO, YES, YES},
        {YES, YES, NO, NO, NO, YES}, {NO, YES, NO, YES, NO, YES},
        {YES, YES, YES, YES, YES, YES},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct account_set *s;
        struct account *a;
        struct account_user_spec admin = {.name = BYTES_LITERAL("admin"),
                                          .password = BYTES_LITERAL("x")};
        struct account_authorization none = {0};
        cr_assert_eq(account_set_open(&heap.mem, numbers, &s), ERR_OK);
        s->is_authorization_defined = rows[i].has_block;
        if (rows[i].has_block) cr_assert_eq(account_set_authorize(s, &none, &fault), ERR_OK);
        if (rows[i].has_sys) {
            cr_assert_eq(account_add(s, BYTES_LITERAL("SYS"), &a, &fault), ERR_OK);
            cr_assert_eq(account_set_system(s, BYTES_LITERAL("SYS")), ERR_OK);
            admin.account = a;
            if (rows[i].has_sys_user)
                cr_assert_eq(account_set_add_user(s, &admin, &fault), ERR_OK);
        }
        if (rows[i].has_other) cr_assert_eq(account_add(s, BYTES_LITERAL("A"), &a, &fault), ERR_OK);
        if (rows[i].has_no_auth)
            cr_assert_eq(account_set_no_auth_user(s, BYTES_LITERAL("admin")), ERR_OK);
        cr_assert_eq(account_set_seal(s, 5, &fault), ERR_OK);
        login_begin(s, &options, &facts, &login);
        cr_assert_eq(login.verdict == LOGIN_ACCEPTED, rows[i].is_let_in, "row %zu", i);
        bool is_admin = rows[i].has_no_auth;
        if (rows[i].is_let_in && !is_admin) cr_assert_eq(login.account, ACCOUNT_GLOBAL);
        /* Credentials are never waved through where some are configured. */
        cr_assert_eq(read_text("{\"user\":\"x\",\"pass\":\"y\"}"), ERR_OK);
        login_begin(s, &options, &facts, &login);
        cr_assert_eq(login.verdict == LOGIN_ACCEPTED, !s->auth_required, "row %zu", i);
        login_options_free(&heap.mem, &options);
        account_set_close(s);
    }
}
