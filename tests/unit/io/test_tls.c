#include <criterion/criterion.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "core/base/must.h"
#include "io/tls.h"

/* --- certificates, made anew for each test --- */

static char directory[64];

struct identity {
    X509 *cert;
    EVP_PKEY *key;
    char cert_file[128], key_file[128];
};

static void setup(void)
{
    strcpy(directory, "/tmp/millrace-tls-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
}

enum { MADE_MAX = 16 };
static struct identity made[MADE_MAX]; /* by make, freed at the end of a test */
static int made_count;

static void teardown(void)
{
    for (int i = 0; i < made_count; i++) {
        X509_free(made[i].cert);
        EVP_PKEY_free(made[i].key);
    }
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    must(system(command) == 0);
}

TestSuite(tls, .init = setup, .fini = teardown, .timeout = 20);

struct recipe {
    const char *file;              /* stem of the two files */
    const char *subject;           /* "TYPE=value/TYPE=value" */
    const char *names;             /* subjectAltName; NULL: none */
    const char *usage;             /* extendedKeyUsage; NULL: none */
    const struct identity *issuer; /* NULL: itself */
    bool is_rsa;
    bool is_expired;
};

static void add_extension(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    cr_assert_not_null(e);
    X509_add_ext(cert, e, -1);
    X509_EXTENSION_free(e);
}

static void add_subject(X509 *cert, const char *subject)
{
    char copy[512], *rest = copy;
    snprintf(copy, sizeof copy, "%s", subject);
    for (char *part = strsep(&rest, "/"); part != NULL; part = strsep(&rest, "/")) {
        char *value = strchr(part, '=');
        /* A '+' in front: part of the relative name before. */
        int set = part[0] == '+' ? -1 : 0;
        *value++ = 0;
        cr_assert_eq(X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), part - set,
                                                MBSTRING_UTF8, (const unsigned char *)value, -1, -1,
                                                set),
                     1, "%s", part);
    }
}

static struct identity make(const struct recipe *r)
{
    static long serial = 1;
    struct identity me = {.cert = X509_new()};
    me.key = r->is_rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
    X509_set_version(me.cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(me.cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(me.cert), -7200);
    X509_gmtime_adj(X509_getm_notAfter(me.cert), r->is_expired ? -3600 : 86400);
    X509_set_pubkey(me.cert, me.key);
    add_subject(me.cert, r->subject);
    const struct identity *issuer = r->issuer == NULL ? &me : r->issuer;
    X509_set_issuer_name(me.cert, X509_get_subject_name(issuer->cert));
    if (r->issuer == NULL) add_extension(me.cert, NID_basic_constraints, "critical,CA:TRUE");
    if (r->names != NULL) add_extension(me.cert, NID_subject_alt_name, r->names);
    if (r->usage != NULL) add_extension(me.cert, NID_ext_key_usage, r->usage);
    cr_assert_gt(X509_sign(me.cert, issuer->key, EVP_sha256()), 0);

    snprintf(me.cert_file, sizeof me.cert_file, "%s/%s.pem", directory, r->file);
    snprintf(me.key_file, sizeof me.key_file, "%s/%s.key", directory, r->file);
    cr_assert_lt(made_count, MADE_MAX);
    made[made_count++] = me;
    FILE *f = fopen(me.cert_file, "w");
    PEM_write_X509(f, me.cert);
    fclose(f);
    f = fopen(me.key_file, "w");
    PEM_write_PrivateKey(f, me.key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
    return me;
}

static struct identity make_ca(const char *file)
{
    return make(&(struct recipe){.file = file, .subject = "O=Test/CN=Test CA"});
}

static struct identity make_server(const struct identity *ca)
{
    return make(&(struct recipe){
        .file = "server", .subject = "CN=localhost", .names = "DNS:localhost", .issuer = ca});
}

/* --- a client over memory --- */

struct pipe_pair {
    SSL_CTX *context;
    SSL *client;
    BIO *to_client, *from_client;
    struct tls_conn *server;
    size_t step; /* bytes per call towards the server; 0: all */
    enum err handshake, client_done;
};

static struct tls_context *context_of(const struct tls_options *o)
{
    struct tls_context *t;
    char reason[TLS_REASON_BYTES];
    cr_assert_eq(tls_context_open(o, &t, reason, sizeof reason), ERR_OK, "%s", reason);
    return t;
}

static void client_open(struct pipe_pair *p, struct tls_context *t)
{
    if (p->context == NULL) {
        p->context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_security_level(p->context, 0);
    }
    p->client = SSL_new(p->context);
    p->to_client = BIO_new(BIO_s_mem());
    p->from_client = BIO_new(BIO_s_mem());
    SSL_set_bio(p->client, p->to_client, p->from_client);
    SSL_set_connect_state(p->client);
    cr_assert_eq(tls_conn_open(t, &p->server), ERR_OK);
    p->handshake = ERR_INCOMPLETE;
}

static void client_identity(struct pipe_pair *p, const struct identity *me)
{
    if (p->context == NULL) p->context = SSL_CTX_new(TLS_client_method());
    cr_assert_eq(SSL_CTX_use_certificate(p->context, me->cert), 1);
    cr_assert_eq(SSL_CTX_use_PrivateKey(p->context, me->key), 1);
}

static void client_close(struct pipe_pair *p)
{
    /* Without an orderly end OpenSSL would not use the session again. */
    SSL_set_shutdown(p->client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(p->client);
    p->client = NULL;
    tls_conn_close(p->server);
    p->server = NULL;
}

static void send_out(struct pipe_pair *p, struct tls_io *io)
{
    if (io->out_bytes > 0) BIO_write(p->to_client, io->out, (int)io->out_bytes);
    io->out_bytes = 0;
}

/* Both sides until neither has anything to say. Ciphertext after the handshake stays in the
 * client's BIO. */
static void handshake(struct pipe_pair *p)
{
    char in[70000], out[1000];
    for (int turn = 0; turn < 50; turn++) {
        int client = SSL_do_handshake(p->client);
        p->client_done = client == 1                                               ? ERR_OK
                         : SSL_get_error(p->client, client) == SSL_ERROR_WANT_READ ? ERR_INCOMPLETE
                                                                                   : ERR_DENIED;
        if (p->handshake != ERR_INCOMPLETE && p->handshake != ERR_FULL) break;
        size_t room = p->step == 0 ? sizeof in : p->step;
        int n;
        bool is_fed = false;
        while ((p->handshake == ERR_INCOMPLETE || p->handshake == ERR_FULL) &&
               ((n = BIO_read(p->from_client, in, (int)room)) > 0 || !is_fed)) {
            struct tls_io io = {
                .in = bytes_of(in, n > 0 ? (size_t)n : 0), .out = out, .out_room = sizeof out};
            is_fed = true;
            do {
                p->handshake = tls_conn_handshake(p->server, &io);
                send_out(p, &io);
            } while (p->handshake == ERR_FULL);
            if (p->handshake == ERR_OK) {
                cr_assert_eq(io.in.len, 0);
                break;
            }
        }
    }
    /* TLS 1.3 tells a client of a refusal only when it reads. */
    char byte;
    if (p->handshake == ERR_OK && SSL_version(p->client) == TLS1_3_VERSION) {
        (void)SSL_read(p->client, &byte, 1);
    }
}

static void assert_works(struct pipe_pair *p)
{
    cr_assert_eq(p->handshake, ERR_OK, "%s", tls_conn_reason(p->server));
    cr_assert_eq(p->client_done, ERR_OK);
    char wire[4096], out[4096], plain[64];
    cr_assert_eq(SSL_write(p->client, "PING\r\n", 6), 6);
    int n = BIO_read(p->from_client, wire, sizeof wire);
    struct tls_io io = {.in = bytes_of(wire, (size_t)n), .out = out, .out_room = sizeof out};
    size_t len;
    cr_assert_eq(tls_conn_read(p->server, &io, plain, sizeof plain, &len), ERR_OK);
    cr_assert_eq(len, 6);
    cr_assert_arr_eq(plain, "PING\r\n", 6);
    cr_assert_eq(tls_conn_read(p->server, &io, plain, sizeof plain, &len), ERR_INCOMPLETE);
    size_t taken;
    cr_assert_eq(tls_conn_write(p->server, &io, BYTES_LITERAL("PONG\r\n"), &taken), ERR_OK);
    cr_assert_eq(taken, 6);
    send_out(p, &io);
    cr_assert_eq(SSL_read(p->client, plain, sizeof plain), 6);
    cr_assert_arr_eq(plain, "PONG\r\n", 6);
}

static struct tls_options options_of(const struct identity *server, struct tls_pair *pair)
{
    *pair = (struct tls_pair){server->cert_file, server->key_file};
    return (struct tls_options){.pairs = pair, .pair_count = 1};
}

/* --- versions and suites --- */

Test(tls, both_versions_work_with_any_split_of_the_bytes)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    static const size_t steps[] = {0, 1, 7, 100};
    struct identity ca = make_ca("ca"), server = make_server(&ca);
    struct tls_pair pair;
    struct tls_options o = options_of(&server, &pair);
    struct tls_context *t = context_of(&o);
    for (int v = 0; v < 2; v++) {
        for (int s = 0; s < 4; s++) {
            struct pipe_pair p = {.step = steps[s]};
            client_open(&p, t);
            SSL_set_max_proto_version(p.client, versions[v]);
            handshake(&p);
            assert_works(&p);
            cr_assert_str_eq(tls_conn_version(p.server), v == 0 ? "1.2" : "1.3");
            cr_assert_str_eq(tls_conn_cipher_suite(p.server),
                             v == 0 ? "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
                                    : "TLS_AES_128_GCM_SHA256");
            cr_assert_null(tls_conn_peer(p.server));
            client_close(&p);
            SSL_CTX_free(p.context);
        }
    }
    tls_context_drop(t);
}

Test(tls, old_versions_are_refused)
{
    struct identity ca = make_ca("ca"), server = make_server(&ca);
    struct tls_pair pair;
    struct tls_options o = options_of(&server, &pair);
    struct tls_context *t = context_of(&o);
    struct pipe_pair p = {0};
    client_open(&p, t);
    SSL_set_min_proto_version(p.client, TLS1_VERSION);
    SSL_set_max_proto_version(p.client, TLS1_1_VERSION);
    handshake(&p);
    cr_assert_eq(p.handshake, ERR_DENIED);
    cr_assert_str_eq(tls_conn_reason(p.server), "tls: client offered only unsupported versions");
    client_close(&p);

    o.min_version = TLS_VERSION_1_3;
    struct tls_context *newer = context_of(&o);
    client_open(&p, newer);
    SSL_set_max_proto_version(p.client, TLS1_2_VERSION);
    handshake(&p);
    cr_assert_eq(p.handshake, ERR_DENIED);
    client_close(&p);
    tls_context_drop(newer);
    tls_context_drop(t);
    SSL_CTX_free(p.context);

    char reason[TLS_REASON_BYTES];
    o.min_version = 0x0302;
    cr_assert_eq(tls_context_open(&o, &t, reason, sizeof reason), ERR_INVALID);
    cr_assert_str_eq(reason, "unsupported minimum TLS version: 0x302");
}

/* The suites that a TLS 1.2 client can get, one handshake each, as a set of bits. */
static unsigned suites_accepted(struct tls_context *t)
{
    static const char *const names[] = {
        "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-SHA",
        "ECDHE-RSA-AES256-SHA",        "ECDHE-RSA-AES128-SHA256",
        "AES128-GCM-SHA256",           "AES256-GCM-SHA384"};
    unsigned set = 0;
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct pipe_pair p = {0};
        client_open(&p, t);
        SSL_set_max_proto_version(p.client, TLS1_2_VERSION);
        cr_assert_eq(SSL_set_cipher_list(p.client, names[i]), 1);
        handshake(&p);
        if (p.handshake == ERR_OK) set |= 1u << i;
        client_close(&p);
        SSL_CTX_free(p.context);
    }
    return set;
}

Test(tls, the_configured_suites_are_the_ones_in_force)
{
    struct identity ca = make_ca("ca");
    struct identity server = make(
        &(struct recipe){.file = "rsa", .subject = "CN=localhost", .issuer = &ca, .is_rsa = true});
    struct tls_pair pair;
    struct tls_options o = options_of(&server, &pair);
    struct tls_context *t = context_of(&o);
    cr_assert_eq(suites_accepted(t), 0x1f, "the defaults of Go: no CBC with SHA-256, no plain RSA");
    tls_context_drop(t);

    struct bytes wanted[] = {BYTES_LITERAL("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
                             BYTES_LITERAL("TLS_RSA_WITH_AES_128_GCM_SHA256")};
    o.cipher_suites = wanted;
    o.cipher_suite_count = 1;
    t = context_of(&o);
    cr_assert_eq(suites_accepted(t), 0x02);
    tls_context_drop(t);

    char reason[TLS_REASON_BYTES];
    o.cipher_suite_count = 2;
    cr_assert_eq(tls_context_open(&o, &t, reason, sizeof reason), ERR_INVALID);
    cr_assert_str_eq(reason, "insecure cipher suites configured without "
                             "'allow_insecure_cipher_suites' option set: "
                             "TLS_RSA_WITH_AES_128_GCM_SHA256");
    o.allow_insecure_cipher_suites = true;
    t = context_of(&o);
    cr_assert_eq(suites_accepted(t), 0x42);
    tls_context_drop(t);

    wanted[0] = BYTES_LITERAL("TLS_AES_128_GCM_SHA256");
    o.cipher_suite_count = 1;
    t = context_of(&o);
    cr_assert_eq(suites_accepted(t), 0, "only TLS 1.3 is left");
    tls_context_drop(t);

    wanted[0] = BYTES_LITERAL("ECDHE-RSA-AES256-GCM-SHA384");
    cr_assert_eq(tls_context_open(&o, &t, reason, sizeof reason), ERR_INVALID);
    cr_assert_str_eq(reason, "unrecognized cipher ECDHE-RSA-AES256-GCM-SHA384");
}

Test(tls, the_configured_curves_are_the_ones_in_force)
{
    struct identity ca = make_ca("ca"), server = make_server(&ca);
    struct tls_pair pair;
    struct tls_options o = options_of(&server, &pair);
    struct bytes wanted[] = {BYTES_LITERAL("X25519MLKEM768"), BYTES_LITERAL("CurveP384")};
    o.curves = wanted;
    o.curve_count = 2;
    struct tls_context *t = context_of(&o);
    static const char *const offers[] = {"X25519", "P-384"};
    for (int i = 0; i < 2; i++) {
        struct pipe_pair p = {0};
        client_open(&p, t);
        SSL_set1_groups_list(p.client, offers[i]);
        handshake(&p);
        cr_assert_eq(p.handshake, i == 0 ? ERR_DENIED : ERR_OK);
        client_close(&p);
        SSL_CTX_free(p.context);
    }
    tls_context_drop(t);
    char reason[TLS_REASON_BYTES];
    o.curve_count = 1;
    cr_assert_eq(tls_context_open(&o, &t, reason, sizeof reason), ERR_INVALID);
    wanted[0] = BYTES_LITERAL("P-256");
    cr_assert_eq(tls_context_open(&o, &t, reason, sizeof reason), ERR_INVALID);
    cr_assert_str_eq(reason, "unrecognized curve preference P-256");
}

/* --- files --- */

Test(tls, a_bad_file_is_named)
{
    struct identity ca = make_ca("ca"), server = make_server(&ca);
    struct tls_pair pair = {server.cert_file, ca.key_file};
    struct tls_options o = {.pairs = &pair, .pair_count = 1};
    struct tls_context *t;
    char reason[TLS_REASON_BYTES], expected[TLS_REASON_BYTES];
    cr_assert_eq(tls_context_open(&o, &t, reason, sizeof reason), ERR_INVALID);
    snprintf(expected, sizeof expected,
             "error parsing X509 certificate/key pair: tls: private key does not match public key "
             "(%s, %s)",
             ca.key_file, server.cert_file);
    cr_assert_str_eq(reason, expected);

    pair.cert_file = "/nowhere/cert.pem";
    cr_assert_eq(tls_context_open(&o, &t, reason, sizeof reason), ERR_IO);
    cr_assert_str_eq(reason, "error parsing X509 certificate/key pair: open /nowhere/cert.pem: "
                             "no such file or directory");
    pair.cert_file = ca.key_file;
    cr_assert_eq(tls_context_open(&o, &t, reason, sizeof reason), ERR_INVALID);
    pair = (struct tls_pair){server.cert_file, server.cert_file};
    cr_assert_eq(tls_context_open(&o, &t, reason, sizeof reason), ERR_INVALID);
    pair = (struct tls_pair){server.cert_file, ""};
    cr_assert_eq(tls_context_open(&o, &t, reason, sizeof reason), ERR_INVALID);
    cr_assert_str_eq(reason, "missing 'key_file' in TLS configuration");
    pair.key_file = server.key_file;
    o.ca_file = server.key_file;
    cr_assert_eq(tls_context_open(&o, &t, reason, sizeof reason), ERR_INVALID);
    o.ca_file = "/nowhere/ca.pem";
    cr_assert_eq(tls_context_open(&o, &t, reason, sizeof reason), ERR_IO);
    cr_assert_str_eq(reason, "open /nowhere/ca.pem: no such file or directory");
}

Test(tls, the_certificate_is_picked_by_the_name_the_client_wants)
{
    struct identity ca = make_ca("ca"), first = make_server(&ca);
    struct identity second = make(&(struct recipe){
        .file = "second", .subject = "CN=b", .names = "DNS:*.example.com", .issuer = &ca});
    struct tls_pair pairs[] = {{first.cert_file, first.key_file},
                               {second.cert_file, second.key_file}};
    struct tls_options o = {.pairs = pairs, .pair_count = 2};
    struct tls_context *t = context_of(&o);
    static const struct {
        const char *name;
        int expected;
    } cases[] = {{"a.example.com", 1}, {"localhost", 0}, {"elsewhere.org", 0}, {NULL, 0}};
    for (int i = 0; i < 4; i++) {
        struct pipe_pair p = {0};
        client_open(&p, t);
        if (cases[i].name != NULL) SSL_set_tlsext_host_name(p.client, cases[i].name);
        handshake(&p);
        assert_works(&p);
        cr_assert_eq(X509_cmp(SSL_get0_peer_certificate(p.client),
                              cases[i].expected == 0 ? first.cert : second.cert),
                     0);
        client_close(&p);
        SSL_CTX_free(p.context);
    }
    cr_assert_gt(tls_context_not_after(t), time(NULL) + 80000);
    tls_context_drop(t);
}

/* --- client certificates --- */

Test(tls, only_certificates_of_our_authority_get_in)
{
    struct identity ca = make_ca("ca"), other_ca = make_ca("other"), server = make_server(&ca);
    struct recipe r = {.file = "client", .subject = "CN=client", .issuer = &ca};
    struct identity good = make(&r);
    r.issuer = &other_ca;
    r.file = "foreign";
    struct identity foreign = make(&r);
    r = (struct recipe){.file = "old", .subject = "CN=old", .issuer = &ca, .is_expired = true};
    struct identity expired = make(&r);
    r = (struct recipe){.file = "use", .subject = "CN=use", .issuer = &ca, .usage = "serverAuth"};
    struct identity wrong_use = make(&r);
    const struct {
        const struct identity *client;
        enum err result;
        const char *reason;
    } cases[] = {
        {&good, ERR_OK, ""},
        {NULL, ERR_DENIED, "tls: client didn't provide a certificate"},
        {&foreign, ERR_DENIED,
         "tls: failed to verify certificate: x509: certificate signed by unknown authority"},
        {&expired, ERR_DENIED,
         "tls: failed to verify certificate: x509: certificate has expired or is not yet valid"},
        {&wrong_use, ERR_DENIED,
         "tls: failed to verify certificate: x509: certificate specifies an incompatible key "
         "usage"},
    };
    struct tls_pair pair;
    struct tls_options o = options_of(&server, &pair);
    o.ca_file = ca.cert_file;
    o.verify = true;
    struct tls_context *t = context_of(&o);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            struct pipe_pair p = {0};
            if (cases[i].client != NULL) client_identity(&p, cases[i].client);
            client_open(&p, t);
            SSL_set_max_proto_version(p.client, version);
            handshake(&p);
            cr_assert_eq(p.handshake, cases[i].result, "case %zu: %s", i,
                         tls_conn_reason(p.server));
            if (p.handshake == ERR_OK) assert_works(&p);
            if (p.handshake != ERR_OK) {
                cr_assert_str_eq(tls_conn_reason(p.server), cases[i].reason);
            }
            client_close(&p);
            SSL_CTX_free(p.context);
        }
    }
    tls_context_drop(t);
}

static SSL_SESSION *kept_session;

static int keep_session(SSL *client, SSL_SESSION *session)
{
    SSL_SESSION_free(kept_session);
    kept_session = session;
    return 1;
}

/* Connects twice, the second time with the session of the first; tells whether it was resumed. */
static bool resumes(struct tls_context *t, struct tls_context *second,
                    const struct identity *client, int version, bool *has_peer)
{
    struct pipe_pair p = {0};
    if (client != NULL) client_identity(&p, client);
    kept_session = NULL;
    client_open(&p, t);
    SSL_CTX_set_session_cache_mode(p.context, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(p.context, keep_session);
    client_close(&p);
    client_open(&p, t);
    SSL_set_max_proto_version(p.client, version);
    handshake(&p);
    assert_works(&p);
    client_close(&p);

    client_open(&p, second);
    SSL_set_max_proto_version(p.client, version);
    if (kept_session != NULL) SSL_set_session(p.client, kept_session);
    handshake(&p);
    assert_works(&p);
    bool is_resumed = tls_conn_is_resumed(p.server);
    struct tls_peer *peer = tls_conn_peer(p.server);
    *has_peer = peer != NULL;
    tls_peer_free(peer);
    client_close(&p);
    SSL_SESSION_free(kept_session);
    SSL_CTX_free(p.context);
    return is_resumed;
}

Test(tls, resumption_never_replaces_a_check_of_the_certificate)
{
    struct identity ca = make_ca("ca"), server = make_server(&ca);
    struct identity client =
        make(&(struct recipe){.file = "client", .subject = "CN=client", .issuer = &ca});
    struct tls_pair pair;
    struct tls_options o = options_of(&server, &pair);
    struct tls_context *open = context_of(&o), *reloaded = context_of(&o);
    o.ca_file = ca.cert_file;
    o.verify = true;
    struct tls_context *strict = context_of(&o);
    bool has_peer;
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        cr_assert(resumes(open, open, NULL, version, &has_peer), "cheap reconnects without verify");
        cr_assert_not(has_peer);
        cr_assert_not(resumes(open, reloaded, NULL, version, &has_peer), "another generation");
        cr_assert_not(resumes(strict, strict, &client, version, &has_peer));
        cr_assert(has_peer);
        cr_assert_not(resumes(open, strict, &client, version, &has_peer),
                      "a ticket from elsewhere");
        cr_assert(has_peer);
    }
    tls_context_drop(open);
    tls_context_drop(reloaded);
    tls_context_drop(strict);
}

Test(tls, only_pinned_keys_get_in)
{
    struct identity ca = make_ca("ca"), server = make_server(&ca);
    struct identity client =
        make(&(struct recipe){.file = "client", .subject = "CN=client", .issuer = &ca});
    struct tls_pair pair;
    struct tls_options o = options_of(&server, &pair);
    uint8_t pins[1][TLS_PIN_BYTES] = {{0}};
    o.ca_file = ca.cert_file;
    o.verify = true;
    o.pinned = pins;
    o.pinned_count = 1;
    for (int i = 0; i < 2; i++) {
        struct tls_context *t = context_of(&o);
        struct pipe_pair p = {0};
        client_identity(&p, &client);
        client_open(&p, t);
        handshake(&p);
        if (i == 0) {
            cr_assert_eq(p.handshake, ERR_DENIED);
            cr_assert_str_eq(tls_conn_reason(p.server), "certificate not pinned");
            struct tls_peer *peer = tls_conn_peer(p.server);
            memcpy(pins[0], peer->certs[0].spki_sha256, TLS_PIN_BYTES);
            tls_peer_free(peer);
        } else {
            assert_works(&p);
        }
        client_close(&p);
        SSL_CTX_free(p.context);
        tls_context_drop(t);
    }
}

static void assert_text(struct bytes got, const char *expected)
{
    cr_assert(bytes_equal(got, bytes_from_text(expected)), "\"%.*s\" is not \"%s\"", (int)got.len,
              got.data, expected);
}

static struct tls_peer *peer_of(struct tls_context *t, const struct identity *client)
{
    struct pipe_pair p = {0};
    client_identity(&p, client);
    client_open(&p, t);
    handshake(&p);
    cr_assert_eq(p.handshake, ERR_OK, "%s", tls_conn_reason(p.server));
    struct tls_peer *peer = tls_conn_peer(p.server);
    cr_assert_not_null(peer);
    client_close(&p);
    SSL_CTX_free(p.context);
    return peer;
}

Test(tls, the_names_of_a_client_read_as_in_go)
{
    struct identity ca = make_ca("ca"), server = make_server(&ca);
    struct tls_pair pair;
    struct tls_options o = options_of(&server, &pair);
    o.ca_file = ca.cert_file;
    o.verify = true;
    struct tls_context *t = context_of(&o);

    struct identity client = make(&(struct recipe){
        .file = "c1",
        .issuer = &ca,
        .subject = "DC=com/DC=acme/C=US/O=A, Inc./OU=one/OU=two/CN=first/CN= x=#+ ",
        .names =
            "email:derek@nats.io,DNS:localhost,URI:spiffe://test/user,DNS:*.b.org,IP:127.0.0.1"});
    struct tls_peer *peer = peer_of(t, &client);
    cr_assert_eq(peer->cert_count, 1);
    cr_assert_eq(peer->emails.count, 1);
    assert_text(peer->emails.items[0], "derek@nats.io");
    cr_assert_eq(peer->dns.count, 2);
    assert_text(peer->dns.items[0], "localhost");
    assert_text(peer->dns.items[1], "*.b.org");
    cr_assert_eq(peer->uris.count, 1);
    assert_text(peer->uris.items[0], "spiffe://test/user");
    /* Two common names: Go would take the last for the login. Such a name is matched in full (dn)
     * or not at all. */
    assert_text(peer->rdn, "");
    assert_text(peer->certs[0].subject,
                "CN=\\ x=#\\+\\ ,OU=one+OU=two,O=A\\, Inc.,C=US,"
                "0.9.2342.19200300.100.1.25=#130461636d65,0.9.2342.19200300.100.1.25=#1303636f6d");
    assert_text(peer->dcs, "DC=com,DC=acme");
    assert_text(peer->dn,
                "CN=\\ x\\=#\\+\\ ,CN=first,OU=two,OU=one,O=A\\, Inc.,C=US,DC=acme,DC=com");
    tls_peer_free(peer);

    client = make(&(struct recipe){
        .file = "c2", .issuer = &ca, .subject = "O=NATS/CN=alice/+OU=unit/UID=u-1"});
    peer = peer_of(t, &client);
    cr_assert_eq(peer->emails.count + peer->dns.count + peer->uris.count, 0);
    assert_text(peer->rdn, "CN=alice,OU=unit,O=NATS");
    assert_text(peer->certs[0].subject,
                "CN=alice,OU=unit,O=NATS,0.9.2342.19200300.100.1.1=#1303752d31");
    assert_text(peer->dn, "");
    assert_text(peer->dcs, "");
    tls_peer_free(peer);

    client =
        make(&(struct recipe){.file = "c3", .issuer = &ca, .subject = "O=NATS/CN=alice/+OU=u"});
    peer = peer_of(t, &client);
    /* A set is sorted in DER: the order inside one relative name is that of the encoding. */
    cr_assert(bytes_equal(peer->dn, BYTES_LITERAL("OU=u+CN=alice,O=NATS")) ||
              bytes_equal(peer->dn, BYTES_LITERAL("CN=alice+OU=u,O=NATS")));
    tls_peer_free(peer);
    tls_context_drop(t);
}

/* --- hostile and odd --- */

Test(tls, what_is_no_tls_is_told_as_such)
{
    static const char *const openings[] = {"CONNECT {\"verbose\":false}\r\nPING\r\n",
                                           "GET / HTTP/1.1\r\nHost: x\r\n\r\n"};
    struct identity ca = make_ca("ca"), server = make_server(&ca);
    struct tls_pair pair;
    struct tls_options o = options_of(&server, &pair);
    struct tls_context *t = context_of(&o);
    for (int i = 0; i < 2; i++) {
        struct tls_conn *c;
        char out[1000];
        cr_assert_eq(tls_conn_open(t, &c), ERR_OK);
        struct tls_io io = {.in = bytes_from_text(openings[i]), .out = out, .out_room = sizeof out};
        cr_assert_eq(tls_conn_handshake(c, &io), ERR_DENIED);
        cr_assert_str_eq(tls_conn_reason(c),
                         "tls: first record does not look like a TLS handshake");
        cr_assert_eq(tls_conn_handshake(c, &io), ERR_DENIED);
        tls_conn_close(c);
    }
    tls_context_drop(t);
}

Test(tls, an_endless_handshake_ends)
{
    struct identity ca = make_ca("ca"), server = make_server(&ca);
    struct tls_pair pair;
    struct tls_options o = options_of(&server, &pair);
    struct tls_context *t = context_of(&o);
    struct tls_conn *c;
    cr_assert_eq(tls_conn_open(t, &c), ERR_OK);
    enum err e = ERR_INCOMPLETE;
    size_t fed = 0;
    /* A ClientHello of 16 MiB, said to come in records of one byte. */
    char hello[] = {22, 3, 1, 0, 4, 1, (char)0xff, (char)0xff, (char)0xff};
    char more[] = {22, 3, 1, 0, 1, 0}, out[1000];
    struct tls_io io = {.in = bytes_of(hello, sizeof hello), .out = out, .out_room = sizeof out};
    e = tls_conn_handshake(c, &io);
    while (e == ERR_INCOMPLETE && fed < 1024 * 1024) {
        io.in = bytes_of(more, sizeof more);
        io.out_bytes = 0;
        e = tls_conn_handshake(c, &io);
        fed += sizeof more;
    }
    cr_assert_eq(e, ERR_DENIED);
    tls_conn_close(c);
    tls_context_drop(t);
}

Test(tls, a_flipped_bit_ends_the_connection)
{
    struct identity ca = make_ca("ca"), server = make_server(&ca);
    struct tls_pair pair;
    struct tls_options o = options_of(&server, &pair);
    struct tls_context *t = context_of(&o);
    struct pipe_pair p = {0};
    client_open(&p, t);
    handshake(&p);
    assert_works(&p);
    char wire[4096], out[4096], plain[64];
    size_t len;
    SSL_write(p.client, "PING\r\n", 6);
    int n = BIO_read(p.from_client, wire, sizeof wire);
    wire[n - 1] ^= 1;
    struct tls_io io = {.in = bytes_of(wire, (size_t)n), .out = out, .out_room = sizeof out};
    cr_assert_eq(tls_conn_read(p.server, &io, plain, sizeof plain, &len), ERR_CORRUPT);
    cr_assert_gt(strlen(tls_conn_reason(p.server)), 5);
    cr_assert_gt(io.out_bytes, 0, "an alert");
    io.in = bytes_of(NULL, 0);
    cr_assert_eq(tls_conn_read(p.server, &io, plain, sizeof plain, &len), ERR_CORRUPT);
    size_t taken;
    cr_assert_eq(tls_conn_write(p.server, &io, BYTES_LITERAL("x"), &taken), ERR_CORRUPT);
    client_close(&p);
    SSL_CTX_free(p.context);
    tls_context_drop(t);
}

Test(tls, much_data_passes_in_both_directions)
{
    enum { TOTAL = 300000 };
    struct identity ca = make_ca("ca"), server = make_server(&ca);
    struct tls_pair pair;
    struct tls_options o = options_of(&server, &pair);
    struct tls_context *t = context_of(&o);
    char *data = malloc(TOTAL), *got = malloc(TOTAL), wire[20000], out[20000];
    for (int i = 0; i < TOTAL; i++) data[i] = (char)(i * 7 + i / 251);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct pipe_pair p = {0};
        client_open(&p, t);
        SSL_set_max_proto_version(p.client, version);
        handshake(&p);
        assert_works(&p);

        /* To the client; output room for a record and a bit. */
        size_t sent = 0, received = 0, taken;
        while (sent < TOTAL) {
            struct tls_io io = {.out = out, .out_room = sizeof out};
            cr_assert_eq(tls_conn_write(p.server, &io, bytes_of(data + sent, TOTAL - sent), &taken),
                         ERR_OK);
            cr_assert_gt(taken, 0);
            sent += taken;
            send_out(&p, &io);
            int n;
            while ((n = SSL_read(p.client, got + received, (int)(TOTAL - received))) > 0) {
                received += (size_t)n;
            }
        }
        cr_assert_eq(received, TOTAL);
        cr_assert_eq(memcmp(data, got, TOTAL), 0);

        /* From the client, with small room for the plaintext. */
        cr_assert_eq(SSL_write(p.client, data, TOTAL), TOTAL);
        received = 0;
        int n;
        while ((n = BIO_read(p.from_client, wire, sizeof wire)) > 0) {
            struct tls_io io = {
                .in = bytes_of(wire, (size_t)n), .out = out, .out_room = sizeof out};
            enum err e;
            do {
                size_t len = 0, room = TOTAL - received < 5000 ? TOTAL - received : 5000;
                char byte;
                e = room == 0 ? tls_conn_read(p.server, &io, &byte, 1, &len)
                              : tls_conn_read(p.server, &io, got + received, room, &len);
                received += len;
            } while (e == ERR_OK);
            cr_assert_eq(e, ERR_INCOMPLETE);
            cr_assert_eq(io.in.len, 0);
        }
        cr_assert_eq(received, TOTAL);
        cr_assert_eq(memcmp(data, got, TOTAL), 0);

        struct tls_io io = {.out = out, .out_room = sizeof out};
        tls_conn_shutdown(p.server, &io);
        cr_assert_gt(io.out_bytes, 0);
        send_out(&p, &io);
        cr_assert_eq(SSL_read(p.client, wire, 1), 0);
        cr_assert_eq(SSL_get_error(p.client, 0), SSL_ERROR_ZERO_RETURN);
        SSL_shutdown(p.client);
        n = BIO_read(p.from_client, wire, sizeof wire);
        io.in = bytes_of(wire, (size_t)n);
        size_t len;
        cr_assert_eq(tls_conn_read(p.server, &io, got, TOTAL, &len), ERR_CLOSED);
        client_close(&p);
        SSL_CTX_free(p.context);
    }
    free(data);
    free(got);
    tls_context_drop(t);
}

Test(tls, a_key_update_without_room_for_the_answer_is_not_lost)
{
    struct identity ca = make_ca("ca"), server = make_server(&ca);
    struct tls_pair pair;
    struct tls_options o = options_of(&server, &pair);
    struct tls_context *t = context_of(&o);
    struct pipe_pair p = {0};
    client_open(&p, t);
    handshake(&p);
    assert_works(&p);
    cr_assert_eq(SSL_key_update(p.client, SSL_KEY_UPDATE_REQUESTED), 1);
    cr_assert_eq(SSL_write(p.client, "x", 1), 1);
    char wire[4096], out[4096], plain[64];
    int n = BIO_read(p.from_client, wire, sizeof wire);
    struct tls_io io = {.in = bytes_of(wire, (size_t)n), .out = out, .out_room = 0};
    size_t len;
    enum err e = tls_conn_read(p.server, &io, plain, sizeof plain, &len);
    if (e == ERR_FULL) {
        io.out_room = sizeof out;
        e = tls_conn_read(p.server, &io, plain, sizeof plain, &len);
    }
    cr_assert_eq(e, ERR_OK);
    cr_assert_eq(plain[0], 'x');
    io.out_room = sizeof out;
    size_t taken;
    cr_assert_eq(tls_conn_write(p.server, &io, BYTES_LITERAL("yz"), &taken), ERR_OK);
    send_out(&p, &io);
    cr_assert_eq(SSL_read(p.client, plain, sizeof plain), 2);
    client_close(&p);
    SSL_CTX_free(p.context);
    tls_context_drop(t);
}

Test(tls, a_connection_keeps_its_context_alive)
{
    struct identity ca = make_ca("ca"), server = make_server(&ca);
    struct tls_pair pair;
    struct tls_options o = options_of(&server, &pair);
    struct tls_context *t = context_of(&o);
    struct pipe_pair p = {0};
    client_open(&p, t);
    tls_context_drop(t);
    handshake(&p);
    assert_works(&p);
    client_close(&p);
    SSL_CTX_free(p.context);
}

/* --- rate --- */

Test(tls, the_rate_limit_counts_per_second)
{
    enum { SECOND = 1000000000 };
    struct tls_rate r;
    tls_rate_init(&r, 3);
    for (int i = 0; i < 3; i++) cr_assert(tls_rate_allow(&r, 100));
    cr_assert_not(tls_rate_allow(&r, 100));
    cr_assert_not(tls_rate_allow(&r, SECOND + 99));
    cr_assert_eq(tls_rate_blocked(&r), 2);
    cr_assert_eq(tls_rate_blocked(&r), 0);
    for (int i = 0; i < 3; i++) cr_assert(tls_rate_allow(&r, SECOND + 100));
    cr_assert_not(tls_rate_allow(&r, SECOND + 101));
    tls_rate_init(&r, 0);
    for (int i = 0; i < 1000; i++) cr_assert(tls_rate_allow(&r, 1));
}
