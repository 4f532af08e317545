#include "io/tls.h"
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "core/base/must.h"
#include "io/sysinfo.h"
#include "io/tls_names.h"
#include "io/tls_peer.h"

enum {
    FILE_BYTES_MAX = 4 * 1024 * 1024, /* a bundle of all public roots is 200 KiB */
    NAMES_BYTES_MAX = 2048,           /* a list of suites or curves in OpenSSL's spelling */
    CERT_MESSAGE_BYTES_MAX = 48 * 1024,
    RECORD_USEFUL_MIN = 1024, /* no smaller record is begun just because room is short */
    BIO_TYPE = BIO_TYPE_SOURCE_SINK | 0x7f,
    /* 1024-bit RSA and SHA-256 at least, which is where Go draws the line; level 2 would refuse
     * certificates that nats-server accepts. */
    SECURITY_LEVEL = 1,
};

struct pair {
    X509 *cert;
    EVP_PKEY *key;
    STACK_OF(X509) * chain;
};

struct tls_context {
    _Atomic uint32_t references;
    SSL_CTX *ssl;
    BIO_METHOD *bio;
    struct pair *pairs;
    uint32_t pair_count;
    int64_t not_after;
    uint8_t (*pinned)[TLS_PIN_BYTES];
    uint32_t pinned_count;
};

struct tls_conn {
    SSL *ssl;
    struct tls_context *context;
    struct tls_io *io; /* of the running call */
    size_t handshake_bytes;
    bool is_failed;
    char *reason; /* NULL until a failure has one that is no constant */
    const char *reason_text;
};

/* --- names --- */

/* --- why something failed --- */

struct reason {
    char *text; /* may be NULL */
    size_t bytes;
};

PRINTF_LIKE(2, 3) static void tell(struct reason *r, const char *format, ...)
{
    if (r->text == NULL || r->bytes == 0) return;
    va_list args;
    va_start(args, format);
    vsnprintf(r->text, r->bytes, format, args);
    va_end(args);
}

static const char *openssl_text(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());
    return text == NULL ? "unknown error" : text;
}

/* --- context --- */

/* A whole file as a readable BIO over *memory, which the caller frees after the BIO. */
static BIO *file_open(const char *path, char **memory, size_t *bytes, struct reason *r,
                      const char *what)
{
    char why[SYSINFO_ERRNO_TEXT_BYTES];
    FILE *f = fopen(path, "re");
    *memory = NULL;
    if (f == NULL) {
        tell(r, "%sopen %s: %s", what, path, sysinfo_errno_text(errno, why));
        return NULL;
    }
    char *text = malloc(FILE_BYTES_MAX);
    size_t n = text == NULL ? 0 : fread(text, 1, FILE_BYTES_MAX, f);
    bool is_bad = text == NULL || ferror(f) || n == FILE_BYTES_MAX;
    if (is_bad) tell(r, "%sread %s: %s", what, path, sysinfo_errno_text(errno, why));
    fclose(f);
    BIO *bio = is_bad ? NULL : BIO_new_mem_buf(text, (int)n);
    if (bio == NULL) {
        free(text);
        return NULL;
    }
    *memory = text;
    *bytes = n;
    return bio;
}

static void file_close(BIO *bio, char *memory, size_t bytes)
{
    BIO_free(bio);
    OPENSSL_cleanse(memory, bytes);
    free(memory);
}

/* An encrypted key must not make the server ask on its terminal. */
static int no_password(char *buffer, int size, int is_writing, void *context)
{
    return 0;
}

/* Handshakes of several helper threads share these certificates. libcrypto reads their extensions
 * at the first use and then looks at what it found without its lock: so the first use is here,
 * where there is one thread. */
static void read_extensions(X509 *cert)
{
    (void)X509_check_purpose(cert, -1, 0); /* -1: no purpose, only read; a bad one fails later */
}

static enum err pair_load(struct pair *p, const struct tls_pair *files, const char *what,
                          struct reason *r)
{
    char *memory;
    size_t bytes;
    BIO *bio = file_open(files->cert_file, &memory, &bytes, r, what);
    if (bio == NULL) return ERR_IO;
    p->cert = PEM_read_bio_X509_AUX(bio, NULL, no_password, NULL);
    p->chain = sk_X509_new_null();
    for (X509 *next; p->cert != NULL && p->chain != NULL;) {
        next = PEM_read_bio_X509(bio, NULL, no_password, NULL);
        if (next == NULL || sk_X509_push(p->chain, next) == 0) break;
    }
    file_close(bio, memory, bytes);
    if (p->cert == NULL || p->chain == NULL) {
        tell(r, "%stls: failed to find any certificate in %s: %s", what, files->cert_file,
             openssl_text());
        return ERR_INVALID;
    }
    read_extensions(p->cert);
    for (int i = 0; i < sk_X509_num(p->chain); i++) read_extensions(sk_X509_value(p->chain, i));
    bio = file_open(files->key_file, &memory, &bytes, r, what);
    if (bio == NULL) return ERR_IO;
    p->key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
    file_close(bio, memory, bytes);
    if (p->key == NULL) {
        tell(r, "%stls: failed to find a private key in %s: %s", what, files->key_file,
             openssl_text());
        return ERR_INVALID;
    }
    if (X509_check_private_key(p->cert, p->key) != 1) {
        tell(r, "%stls: private key does not match public key (%s, %s)", what, files->key_file,
             files->cert_file);
        return ERR_INVALID;
    }
    return ERR_OK;
}

static bool is_empty(const char *text)
{
    return text == NULL || text[0] == 0;
}

static enum err load_pairs(struct tls_context *t, const struct tls_options *o, struct reason *r)
{
    char what[128];
    t->pairs = calloc(o->pair_count + 1, sizeof t->pairs[0]);
    if (t->pairs == NULL) return ERR_MEMORY;
    t->pair_count = o->pair_count;
    if (o->pair_count == 0) {
        tell(r, "missing 'cert_file' in TLS configuration");
        return ERR_INVALID;
    }
    for (uint32_t i = 0; i < o->pair_count; i++) {
        const struct tls_pair *files = &o->pairs[i];
        if (is_empty(files->cert_file) || is_empty(files->key_file)) {
            tell(r, "missing '%s' in TLS configuration",
                 is_empty(files->cert_file) ? "cert_file" : "key_file");
            return ERR_INVALID;
        }
        if (o->pair_count == 1) {
            snprintf(what, sizeof what, "error parsing X509 certificate/key pair: ");
        } else {
            snprintf(what, sizeof what, "error parsing X509 certificate/key pair %u/%u: ", i + 1,
                     o->pair_count);
        }
        enum err e = pair_load(&t->pairs[i], files, what, r);
        if (e != ERR_OK) return e;
    }
    struct tm tm;
    if (ASN1_TIME_to_tm(X509_get0_notAfter(t->pairs[0].cert), &tm) == 1) t->not_after = timegm(&tm);
    return ERR_OK;
}

static void names_add(char *list, const char *name)
{
    size_t at = strlen(list);
    must(at + strlen(name) + 2 <= NAMES_BYTES_MAX);
    snprintf(list + at, NAMES_BYTES_MAX - at, "%s%s", at == 0 ? "" : ":", name);
}

/* One way for all: file, flags and reload end up here (an advisory of 2021 was about a list that
 * got lost on one of the ways). */
static enum err set_suites(struct tls_context *t, const struct tls_options *o, struct reason *r)
{
    char list[NAMES_BYTES_MAX] = "";
    if (o->cipher_suite_count > TLS_NAMES_SUITES) {
        tell(r, "too many cipher suites");
        return ERR_INVALID;
    }
    for (uint32_t i = 0; i < o->cipher_suite_count; i++) {
        struct bytes name = o->cipher_suites[i];
        const struct tls_names_suite *s = tls_names_suite(name);
        if (s == NULL) {
            tell(r, "unrecognized cipher %.*s", (int)name.len, name.data);
            return ERR_INVALID;
        }
        if (s->is_insecure && !o->allow_insecure_cipher_suites) {
            tell(r,
                 "insecure cipher suites configured without 'allow_insecure_cipher_suites' "
                 "option set: %s",
                 s->name);
            return ERR_INVALID;
        }
        if (s->openssl != NULL) names_add(list, s->openssl);
    }
    for (uint32_t i = 0; o->cipher_suite_count == 0 && i < TLS_NAMES_SUITES; i++) {
        const struct tls_names_suite *s = tls_names_suite_at(i);
        if (s->openssl != NULL && !s->is_insecure) names_add(list, s->openssl);
    }
    if (SSL_CTX_set_ciphersuites(t->ssl, tls_names_suites_13) != 1) return ERR_INVALID;
    if (list[0] == 0) {
        /* Only suites of TLS 1.3 are left: then nothing older is offered. */
        return SSL_CTX_set_min_proto_version(t->ssl, TLS1_3_VERSION) == 1 ? ERR_OK : ERR_INVALID;
    }
    if (SSL_CTX_set_cipher_list(t->ssl, list) != 1) {
        tell(r, "no usable cipher suite in %s: %s", list, openssl_text());
        return ERR_INVALID;
    }
    return ERR_OK;
}

static enum err set_curves(struct tls_context *t, const struct tls_options *o, struct reason *r)
{
    char list[NAMES_BYTES_MAX] = "";
    if (o->curve_count > TLS_NAMES_CURVES) {
        tell(r, "too many curve preferences");
        return ERR_INVALID;
    }
    for (uint32_t i = 0; i < o->curve_count; i++) {
        struct bytes name = o->curves[i];
        const struct tls_names_curve *c = tls_names_curve(name);
        if (c == NULL) {
            tell(r, "unrecognized curve preference %.*s", (int)name.len, name.data);
            return ERR_INVALID;
        }
        if (c->openssl != NULL) names_add(list, c->openssl);
    }
    if (o->curve_count > 0 && list[0] == 0) {
        tell(r, "none of the curve preferences is supported");
        return ERR_INVALID;
    }
    if (SSL_CTX_set1_groups_list(t->ssl, list[0] == 0 ? tls_names_curves_default : list) != 1) {
        tell(r, "unusable curve preferences: %s", openssl_text());
        return ERR_INVALID;
    }
    return ERR_OK;
}

/* Each certificate of ca_file is a root of trust, as in Go, also one that is no self-signed root.
 */
static enum err set_verify(struct tls_context *t, const struct tls_options *o, struct reason *r)
{
    if (!is_empty(o->ca_file)) {
        char *memory;
        size_t bytes;
        X509_STORE *store = SSL_CTX_get_cert_store(t->ssl);
        BIO *bio = file_open(o->ca_file, &memory, &bytes, r, "");
        unsigned count = 0;
        if (bio == NULL) return ERR_IO;
        for (X509 *ca; (ca = PEM_read_bio_X509_AUX(bio, NULL, no_password, NULL)) != NULL;
             count++) {
            read_extensions(ca);
            (void)X509_STORE_add_cert(store, ca); /* a duplicate is no error */
            if (o->verify) (void)SSL_CTX_add_client_CA(t->ssl, ca);
            X509_free(ca);
        }
        file_close(bio, memory, bytes);
        if (count == 0) {
            tell(r, "failed to parse root ca certificate (%s)", o->ca_file);
            return ERR_INVALID;
        }
    } else if (o->verify && SSL_CTX_set_default_verify_paths(t->ssl) != 1) {
        tell(r, "the machine's root certificates cannot be loaded");
        return ERR_IO;
    }
    if (!o->verify) return ERR_OK;

    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(t->ssl), X509_V_FLAG_PARTIAL_CHAIN);
    SSL_CTX_set_verify(t->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_verify_depth(t->ssl, TLS_PEER_CERTS_MAX);
    /* No resumption: a ticket would carry an identity past its check. */
    SSL_CTX_set_options(t->ssl, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(t->ssl, 0);
    return ERR_OK;
}

static bool pair_fits_name(const struct pair *p, const char *name)
{
    const unsigned flags =
        X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS;
    return name == NULL || X509_check_host(p->cert, name, 0, flags, NULL) == 1;
}

/* The first pair whose name and kind of key suit the client, else whose name suits, else the
 * first. */
static int choose_pair(SSL *ssl, void *context)
{
    const struct tls_context *t = context;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    const struct pair *best = NULL;
    for (uint32_t i = 0; i < t->pair_count; i++) {
        const struct pair *p = &t->pairs[i];
        if (!pair_fits_name(p, name)) continue;
        bool is_usable = (SSL_check_chain(ssl, p->cert, p->key, p->chain) & CERT_PKEY_VALID) != 0;
        if (is_usable || best == NULL) best = p;
        if (is_usable) break;
    }
    if (best == NULL) best = &t->pairs[0];
    return SSL_use_cert_and_key(ssl, best->cert, best->key, best->chain, 1) == 1;
}

static int bio_read(BIO *bio, char *out, int room)
{
    struct tls_conn *c = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    struct bytes *in = c->io == NULL ? NULL : &c->io->in;
    if (in == NULL || in->len == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t n = in->len < (size_t)room ? in->len : (size_t)room;
    memcpy(out, in->data, n);
    *in = bytes_of(in->data + n, in->len - n);
    return (int)n;
}

static int bio_write(BIO *bio, const char *data, int bytes)
{
    struct tls_conn *c = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    size_t room = c->io == NULL ? 0 : c->io->out_room - c->io->out_bytes;
    if (room == 0) {
        BIO_set_retry_write(bio);
        return -1;
    }
    size_t n = (size_t)bytes < room ? (size_t)bytes : room;
    memcpy(c->io->out + c->io->out_bytes, data, n);
    c->io->out_bytes += n;
    return (int)n;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    return command == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static enum err context_ssl(struct tls_context *t, const struct tls_options *o)
{
    t->bio = BIO_meth_new(BIO_TYPE, "caller's memory");
    t->ssl = SSL_CTX_new(TLS_server_method());
    if (t->bio == NULL || t->ssl == NULL) return ERR_MEMORY;
    BIO_meth_set_read(t->bio, bio_read);
    BIO_meth_set_write(t->bio, bio_write);
    BIO_meth_set_ctrl(t->bio, bio_ctrl);
    BIO_meth_set_create(t->bio, bio_create);

    SSL_CTX_set_security_level(t->ssl, SECURITY_LEVEL);
    SSL_CTX_set_options(t->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                    SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(t->ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* Sessions live in tickets, never here; the keys of the tickets die with the context. */
    SSL_CTX_set_session_cache_mode(t->ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(t->ssl, 1);
    SSL_CTX_set_session_id_context(t->ssl, (const unsigned char *)"nats", 4);
    SSL_CTX_set_max_cert_list(t->ssl, CERT_MESSAGE_BYTES_MAX);
    SSL_CTX_set_cert_cb(t->ssl, choose_pair, t);
    return ERR_OK;
}

static enum err set_versions(struct tls_context *t, const struct tls_options *o, struct reason *r)
{
    uint16_t version = o->min_version == 0 ? TLS_VERSION_1_2 : o->min_version;
    if (version != TLS_VERSION_1_2 && version != TLS_VERSION_1_3) {
        tell(r, "unsupported minimum TLS version: 0x%x", version);
        return ERR_INVALID;
    }
    return SSL_CTX_set_min_proto_version(t->ssl, version) == 1 ? ERR_OK : ERR_INVALID;
}

static void context_free(struct tls_context *t)
{
    for (uint32_t i = 0; t->pairs != NULL && i < t->pair_count; i++) {
        X509_free(t->pairs[i].cert);
        EVP_PKEY_free(t->pairs[i].key);
        sk_X509_pop_free(t->pairs[i].chain, X509_free);
    }
    free(t->pairs);
    free(t->pinned);
    SSL_CTX_free(t->ssl);
    BIO_meth_free(t->bio);
    free(t);
}

enum err tls_context_open(const struct tls_options *o, struct tls_context **out, char *reason,
                          size_t reason_bytes)
{
    struct reason r = {reason, reason_bytes};
    struct tls_context *t = calloc(1, sizeof *t);
    if (t == NULL) return ERR_MEMORY;
    atomic_init(&t->references, 1);
    tell(&r, "out of memory");
    ERR_clear_error();
    enum err e = context_ssl(t, o);
    if (e == ERR_OK) e = set_versions(t, o, &r);
    if (e == ERR_OK) e = set_suites(t, o, &r);
    if (e == ERR_OK) e = set_curves(t, o, &r);
    if (e == ERR_OK) e = load_pairs(t, o, &r);
    if (e == ERR_OK) e = set_verify(t, o, &r);
    if (e == ERR_OK && o->pinned_count > 0) {
        t->pinned = calloc(o->pinned_count, sizeof t->pinned[0]);
        e = t->pinned == NULL ? ERR_MEMORY : ERR_OK;
    }
    ERR_clear_error();
    if (e != ERR_OK) {
        context_free(t);
        return e;
    }
    if (o->pinned_count > 0) memcpy(t->pinned, o->pinned, o->pinned_count * sizeof t->pinned[0]);
    t->pinned_count = o->pinned_count;
    tell(&r, "%s", "");
    *out = t;
    return ERR_OK;
}

struct tls_context *tls_context_hold(struct tls_context *t)
{
    atomic_fetch_add_explicit(&t->references, 1, memory_order_relaxed);
    return t;
}

void tls_context_drop(struct tls_context *t)
{
    if (t == NULL) return;
    /* acq_rel: the last one sees what the others did with it before they let go. */
    if (atomic_fetch_sub_explicit(&t->references, 1, memory_order_acq_rel) == 1) context_free(t);
}

int64_t tls_context_not_after(const struct tls_context *t)
{
    return t->not_after;
}

bool tls_context_allows_pin(const struct tls_context *t, const uint8_t spki_sha256[TLS_PIN_BYTES])
{
    for (uint32_t i = 0; i < t->pinned_count; i++) {
        if (memcmp(t->pinned[i], spki_sha256, TLS_PIN_BYTES) == 0) return true;
    }
    return t->pinned_count == 0;
}

/* --- connection --- */

enum err tls_conn_open(struct tls_context *t, struct tls_conn **out)
{
    struct tls_conn *c = calloc(1, sizeof *c);
    if (c == NULL) return ERR_MEMORY;
    c->reason_text = "";
    c->ssl = SSL_new(t->ssl);
    BIO *bio = BIO_new(t->bio);
    if (c->ssl == NULL || bio == NULL) {
        SSL_free(c->ssl);
        BIO_free(bio);
        free(c);
        return ERR_MEMORY;
    }
    BIO_set_data(bio, c);
    SSL_set_bio(c->ssl, bio, bio);
    SSL_set_accept_state(c->ssl);
    c->context = tls_context_hold(t);
    *out = c;
    return ERR_OK;
}

void tls_conn_close(struct tls_conn *c)
{
    if (c == NULL) return;
    SSL_free(c->ssl);
    tls_context_drop(c->context);
    free(c->reason);
    free(c);
}

static const char *alert_text(int alert)
{
    switch (alert) {
    case SSL_AD_UNEXPECTED_MESSAGE: return "remote error: tls: unexpected message";
    case SSL_AD_BAD_RECORD_MAC: return "remote error: tls: bad record MAC";
    case SSL_AD_HANDSHAKE_FAILURE: return "remote error: tls: handshake failure";
    case SSL_AD_BAD_CERTIFICATE: return "remote error: tls: bad certificate";
    case SSL_AD_UNSUPPORTED_CERTIFICATE: return "remote error: tls: unsupported certificate";
    case SSL_AD_CERTIFICATE_REVOKED: return "remote error: tls: revoked certificate";
    case SSL_AD_CERTIFICATE_EXPIRED: return "remote error: tls: expired certificate";
    case SSL_AD_CERTIFICATE_UNKNOWN: return "remote error: tls: unknown certificate";
    case SSL_AD_UNKNOWN_CA: return "remote error: tls: unknown certificate authority";
    case SSL_AD_PROTOCOL_VERSION: return "remote error: tls: protocol version not supported";
    case SSL_AD_INTERNAL_ERROR: return "remote error: tls: internal error";
    case SSL_AD_USER_CANCELLED: return "remote error: tls: user canceled";
    default: return NULL;
    }
}

static const char *verify_text(long result)
{
    switch (result) {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE: /* an issuer of the same name */
        return "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return "tls: failed to verify certificate: x509: certificate has expired or is not yet "
               "valid";
    case X509_V_ERR_INVALID_PURPOSE:
        return "tls: failed to verify certificate: x509: certificate specifies an incompatible key "
               "usage";
    default: return NULL;
    }
}

/* The text Go has for the failure, when it has one. */
static const char *known_reason(struct tls_conn *c, unsigned long error)
{
    int reason = ERR_GET_REASON(error);
    if (ERR_GET_LIB(error) != ERR_LIB_SSL) return NULL;
    if (reason >= SSL_AD_REASON_OFFSET) return alert_text(reason - SSL_AD_REASON_OFFSET);
    switch (reason) {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: return "tls: client didn't provide a certificate";
    case SSL_R_CERTIFICATE_VERIFY_FAILED: return verify_text(SSL_get_verify_result(c->ssl));
    case SSL_R_NO_SHARED_CIPHER: return "tls: no cipher suite supported by both client and server";
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW: return "tls: client offered only unsupported versions";
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_WRONG_VERSION_NUMBER:
        if (SSL_in_before(c->ssl) || SSL_get_state(c->ssl) == TLS_ST_BEFORE) {
            return "tls: first record does not look like a TLS handshake";
        }
        return NULL;
    default: return NULL;
    }
}

static enum err fail(struct tls_conn *c, enum err e, const char *text)
{
    unsigned long error = ERR_peek_last_error();
    c->is_failed = true;
    if (text == NULL) text = known_reason(c, error);
    if (text == NULL && (c->reason != NULL || (c->reason = malloc(TLS_REASON_BYTES)) != NULL)) {
        const char *why = ERR_reason_error_string(error);
        long result = SSL_get_verify_result(c->ssl);
        bool is_verify = ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED;
        snprintf(c->reason, TLS_REASON_BYTES, "tls: %s",
                 is_verify     ? X509_verify_cert_error_string(result)
                 : why == NULL ? "unexpected end"
                               : why);
        text = c->reason;
    }
    c->reason_text = text == NULL ? "tls: failure" : text;
    ERR_clear_error();
    return e;
}

static bool pin_is_allowed(const struct tls_conn *c)
{
    uint8_t spki[TLS_PIN_BYTES];
    X509 *cert = SSL_get0_peer_certificate(c->ssl);
    if (c->context->pinned_count == 0) return true;
    return cert != NULL && tls_peer_spki(cert, spki) && tls_context_allows_pin(c->context, spki);
}

enum err tls_conn_handshake(struct tls_conn *c, struct tls_io *io)
{
    if (c->is_failed) return ERR_DENIED;
    size_t before = io->in.len;
    ERR_clear_error();
    c->io = io;
    int result = SSL_do_handshake(c->ssl);
    c->io = NULL;
    c->handshake_bytes += before - io->in.len;
    int error = SSL_get_error(c->ssl, result);
    if (result == 1) {
        if (!pin_is_allowed(c)) return fail(c, ERR_DENIED, "certificate not pinned");
        return ERR_OK;
    }
    if (error == SSL_ERROR_WANT_WRITE) return ERR_FULL;
    if (error != SSL_ERROR_WANT_READ) return fail(c, ERR_DENIED, NULL);
    if (c->handshake_bytes > TLS_HANDSHAKE_BYTES_MAX) {
        return fail(c, ERR_DENIED, "tls: handshake messages are too long");
    }
    return ERR_INCOMPLETE;
}

enum err tls_conn_read(struct tls_conn *c, struct tls_io *io, char *plain, size_t room, size_t *len)
{
    size_t n = 0;
    must(room > 0);
    if (c->is_failed) return ERR_CORRUPT;
    ERR_clear_error();
    c->io = io;
    int result = SSL_read_ex(c->ssl, plain, room, &n);
    c->io = NULL;
    if (result == 1) {
        *len = n;
        return ERR_OK;
    }
    switch (SSL_get_error(c->ssl, result)) {
    case SSL_ERROR_WANT_READ: return ERR_INCOMPLETE;
    case SSL_ERROR_WANT_WRITE: return ERR_FULL;
    case SSL_ERROR_ZERO_RETURN: return ERR_CLOSED;
    default: return fail(c, ERR_CORRUPT, NULL);
    }
}

enum err tls_conn_write(struct tls_conn *c, struct tls_io *io, struct bytes plain, size_t *taken)
{
    size_t at = 0;
    if (c->is_failed) return ERR_CORRUPT;
    ERR_clear_error();
    while (at < plain.len) {
        size_t room = io->out_room - io->out_bytes;
        size_t left = plain.len - at, chunk = left, n = 0;
        if (chunk > TLS_RECORD_BYTES_MAX) chunk = TLS_RECORD_BYTES_MAX;
        if (room < chunk + TLS_RECORD_OVERHEAD_MAX) {
            if (room < RECORD_USEFUL_MIN + TLS_RECORD_OVERHEAD_MAX) break;
            chunk = room - TLS_RECORD_OVERHEAD_MAX;
        }
        /* With the room checked, the record and an answer that waits inside go out as a whole:
         * so no call ever has to be repeated with the same bytes. */
        c->io = io;
        int result = SSL_write_ex(c->ssl, plain.data + at, chunk, &n);
        c->io = NULL;
        if (result != 1) return fail(c, ERR_CORRUPT, NULL);
        at += n;
    }
    *taken = at;
    return ERR_OK;
}

void tls_conn_shutdown(struct tls_conn *c, struct tls_io *io)
{
    if (c->is_failed || !SSL_is_init_finished(c->ssl)) return;
    ERR_clear_error();
    c->io = io;
    (void)SSL_shutdown(c->ssl);
    c->io = NULL;
    ERR_clear_error();
}

const char *tls_conn_reason(const struct tls_conn *c)
{
    return c->reason_text;
}

const char *tls_conn_version(const struct tls_conn *c)
{
    switch (SSL_version(c->ssl)) {
    case TLS1_2_VERSION: return "1.2";
    case TLS1_3_VERSION: return "1.3";
    default: return "Unknown";
    }
}

const char *tls_conn_cipher_suite(const struct tls_conn *c)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(c->ssl);
    return cipher == NULL ? "" : SSL_CIPHER_standard_name(cipher);
}

bool tls_conn_is_resumed(const struct tls_conn *c)
{
    return SSL_session_reused(c->ssl) == 1;
}

struct tls_peer *tls_conn_peer(const struct tls_conn *c)
{
    X509 *chain[TLS_PEER_CERTS_MAX];
    uint32_t count = 0;
    chain[0] = SSL_get0_peer_certificate(c->ssl);
    if (chain[0] == NULL) return NULL;
    count++;
    /* A server's view of the chain lacks the client's own certificate. */
    STACK_OF(X509) *rest = SSL_get_peer_cert_chain(c->ssl);
    for (int i = 0; i < sk_X509_num(rest) && count < TLS_PEER_CERTS_MAX; i++) {
        chain[count++] = sk_X509_value(rest, i);
    }
    return tls_peer_make(chain, count);
}

/* --- rate --- */

void tls_rate_init(struct tls_rate *r, int64_t limit)
{
    *r = (struct tls_rate){.limit = limit};
}

bool tls_rate_allow(struct tls_rate *r, uint64_t now_ns)
{
    if (r->limit <= 0) return true;
    if (now_ns >= r->window_end_ns) {
        r->count = 0;
        r->window_end_ns = now_ns + UINT64_C(1000000000);
    }
    if (r->count >= r->limit) {
        r->blocked++;
        return false;
    }
    r->count++;
    return true;
}

uint64_t tls_rate_blocked(struct tls_rate *r)
{
    uint64_t blocked = r->blocked;
    r->blocked = 0;
    return blocked;
}
