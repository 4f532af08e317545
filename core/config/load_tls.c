/* The values of the tls block that are more than a text or a number. */
#include "core/base/duration.h"
#include "core/base/must.h"
#include "core/config/load.h"

enum { FALLBACK_AUTO_NS = 50 * 1000 * 1000 };

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool parse_pin(struct bytes text, uint8_t pin[OPTIONS_PIN_BYTES])
{
    if (text.len != OPTIONS_PIN_BYTES * 2) return false;
    for (size_t i = 0; i < OPTIONS_PIN_BYTES; i++) {
        int high = hex_value(text.data[i * 2]), low = hex_value(text.data[i * 2 + 1]);
        if (high < 0 || low < 0) return false;
        pin[i] = (uint8_t)(high * 16 + low);
    }
    return true;
}

static enum err load_pinned(struct load *l, const struct conf_value *v)
{
    static const char shape[] = "hex-encoded sha256 of DER encoded SubjectPublicKeyInfo";
    if (v->kind != CONF_ARRAY) {
        struct text *line = load_error(l, v);
        text_string(line, "error parsing tls config, expected 'pinned_certs' to be a list of ");
        text_string(line, shape);
        load_end(line);
        return ERR_OK;
    }
    uint8_t(*pins)[OPTIONS_PIN_BYTES] = arena_alloc(l->arena, v->array.count * sizeof(*pins));
    if (pins == NULL) return ERR_MEMORY;
    uint32_t count = 0;
    for (const struct conf_item *i = v->array.first; i != NULL; i = i->next) {
        struct bytes text;
        if (!load_text(l, i->value, BYTES_LITERAL("pinned_certs"), &text)) return ERR_OK;
        if (!parse_pin(text, pins[count++])) {
            struct text *line = load_error(l, i->value);
            text_string(line, "error parsing tls config, 'pinned_certs' key ");
            text_bytes(line, text);
            text_string(line, " does not look like ");
            text_string(line, shape);
            load_end(line);
            return ERR_OK;
        }
    }
    l->o->tls.pinned = count == 0 ? NULL : (const uint8_t(*)[OPTIONS_PIN_BYTES])pins;
    l->o->tls.pinned_count = count;
    return ERR_OK;
}

static void load_handshake(struct load *l, const struct conf_value *v)
{
    struct options_tls *t = &l->o->tls;
    int64_t wait_ns;
    if (v->kind == CONF_BOOL) {
        t->handshake_first = v->boolean;
        t->handshake_first_fallback_ns = 0;
        return;
    }
    if (v->kind != CONF_TEXT) {
        load_wrong_type(l, v, BYTES_LITERAL("handshake_first"), "a boolean or a string");
        return;
    }
    struct bytes text = v->text;
    bool is_on = bytes_equal_nocase(text, BYTES_LITERAL("true")) ||
                 bytes_equal_nocase(text, BYTES_LITERAL("on"));
    bool is_off = bytes_equal_nocase(text, BYTES_LITERAL("false")) ||
                  bytes_equal_nocase(text, BYTES_LITERAL("off"));
    bool is_auto = bytes_equal_nocase(text, BYTES_LITERAL("auto")) ||
                   bytes_equal_nocase(text, BYTES_LITERAL("auto_fallback"));
    wait_ns = is_auto ? FALLBACK_AUTO_NS : 0;
    if (!is_on && !is_off && !is_auto && duration_parse(text, &wait_ns, NULL) != ERR_OK) {
        struct text *line = load_error(l, v);
        text_string(line, "field \"handshake_first\"'s value ");
        load_quoted(line, text);
        text_string(line, " is invalid");
        load_end(line);
        return;
    }
    t->handshake_first = !is_off;
    t->handshake_first_fallback_ns = wait_ns > 0 ? wait_ns : 0;
}

static void load_version(struct load *l, const struct conf_value *v)
{
    static const char *const refused[] = {"1.0", "1.1"};
    /* 1.3 without quotes is a float; the reference wants a string, we take both. */
    bool is_float = v->kind == CONF_FLOAT;
    struct bytes text = v->kind == CONF_TEXT ? v->text : bytes_of("", 0);
    if (bytes_equal(text, BYTES_LITERAL("1.2")) || (is_float && v->number == 1.2)) {
        l->o->tls.min_version = 0x0303;
        return;
    }
    if (bytes_equal(text, BYTES_LITERAL("1.3")) || (is_float && v->number == 1.3)) {
        l->o->tls.min_version = 0x0304;
        return;
    }
    struct text *line = load_error(l, v);
    text_string(line, "error parsing tls config: ");
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        if (!bytes_equal(text, bytes_from_text(refused[i]))) continue;
        text_string(line, "unsupported TLS version: TLS ");
        text_bytes(line, text);
        load_end(line);
        return;
    }
    text_string(line, "'min_version' must be \"1.2\" or \"1.3\"");
    load_end(line);
}

static enum err load_pair(struct load *l, const struct conf_value *v,
                          struct options_cert_pair *pair)
{
    *pair = (struct options_cert_pair){BYTES_LITERAL(""), BYTES_LITERAL("")};
    if (v->kind != CONF_MAP) {
        load_wrong_type(l, v, BYTES_LITERAL("certs"), "an array of {cert_file, key_file}");
        return ERR_OK;
    }
    for (const struct conf_entry *e = v->map.first; e != NULL; e = e->next) {
        bool is_cert = bytes_equal_nocase(e->key, BYTES_LITERAL("cert_file"));
        bool is_key = bytes_equal_nocase(e->key, BYTES_LITERAL("key_file"));
        struct bytes text;
        if (!is_cert && !is_key) {
            load_unknown(l, e->value, e->key);
        } else if (load_text(l, e->value, e->key, &text)) {
            enum err failed = load_keep(l, text, is_cert ? &pair->cert_file : &pair->key_file);
            if (failed != ERR_OK) return failed;
        }
    }
    if (pair->cert_file.len == 0 || pair->key_file.len == 0)
        load_error_text(l, v,
                        "error parsing certificates config: both 'cert_file' and 'key_file' "
                        "options are required");
    return ERR_OK;
}

static enum err load_certs(struct load *l, const struct conf_value *v)
{
    if (v->kind != CONF_ARRAY) {
        load_wrong_type(l, v, BYTES_LITERAL("certs"), "an array of {cert_file, key_file}");
        return ERR_OK;
    }
    struct options_cert_pair *pairs = arena_alloc(l->arena, v->array.count * sizeof(*pairs));
    if (pairs == NULL) return ERR_MEMORY;
    uint32_t count = 0;
    for (const struct conf_item *i = v->array.first; i != NULL; i = i->next) {
        enum err e = load_pair(l, i->value, &pairs[count++]);
        if (e != ERR_OK) return e;
    }
    l->o->tls.certs = pairs;
    l->o->tls.cert_count = count;
    return ERR_OK;
}

enum err load_tls_value(struct load *l, const struct option *o, const struct conf_value *v)
{
    switch (o->type) {
    case OPTION_PINNED: return load_pinned(l, v);
    case OPTION_CERTS: return load_certs(l, v);
    case OPTION_HANDSHAKE: load_handshake(l, v); return ERR_OK;
    case OPTION_TLS_VERSION: load_version(l, v); return ERR_OK;
    default: must(false); return ERR_OK;
    }
}

/* What Go's TLS offers and calls secure; nats-server refuses other names. */
static const char *const suites[] = {
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
};

static const char *const curves[] = {
    "SecP384r1MLKEM1024", "SecP256r1MLKEM768", "X25519MLKEM768", "X25519",
    "CurveP256",          "CurveP384",         "CurveP521",
};

void load_tls_names(struct text *out)
{
    text_string(out, "Cipher suites:\n\n");
    for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++) {
        text_string(out, "    ");
        text_string(out, suites[i]);
        text_char(out, '\n');
    }
    text_string(out, "\nCurve preferences (as far as the OpenSSL of the machine has them):\n\n");
    for (size_t i = 0; i < sizeof(curves) / sizeof(curves[0]); i++) {
        text_string(out, "    ");
        text_string(out, curves[i]);
        text_char(out, '\n');
    }
    text_char(out, '\n');
}

static void check_names(struct load *l, const struct options_texts *texts, const char *const *known,
                        size_t known_count, const char *what)
{
    for (uint32_t i = 0; i < texts->count; i++) {
        bool is_known = false;
        for (size_t k = 0; k < known_count && !is_known; k++)
            is_known = bytes_equal(texts->items[i], bytes_from_text(known[k]));
        if (is_known) continue;
        struct text *line = load_error(l, l->tls);
        text_string(line, "unrecognized ");
        text_string(line, what);
        text_char(line, ' ');
        text_bytes(line, texts->items[i]);
        load_end(line);
    }
}

/* A list that is there but empty would switch every choice off. */
static void check_not_empty(struct load *l, const char *name)
{
    if (l->tls == NULL) return; /* TLS by flags alone */
    const struct conf_value *v = conf_get(l->tls, bytes_from_text(name));
    if (v == NULL || v->kind != CONF_ARRAY || v->array.count > 0) return;
    struct text *line = load_error(l, v);
    text_string(line, "error parsing tls config, '");
    text_string(line, name);
    text_string(line, "' cannot be empty");
    load_end(line);
}

void load_tls_check(struct load *l)
{
    struct options_tls *t = &l->o->tls;
    if (!t->is_on) return;
    if (t->verify_and_map) t->verify = true;
    check_not_empty(l, "cipher_suites");
    check_not_empty(l, "curve_preferences");
    check_names(l, &t->cipher_suites, suites, sizeof(suites) / sizeof(suites[0]), "cipher");
    check_names(l, &t->curve_preferences, curves, sizeof(curves) / sizeof(curves[0]),
                "curve preference");
    if (t->cert_count > 0 && t->cert_file.len > 0)
        load_error_text(l, l->tls,
                        "error parsing tls config, cannot combine 'cert_file' option "
                        "with 'certs' option");
    else if (t->cert_file.len > 0 && t->key_file.len == 0)
        load_error_text(l, l->tls, "missing 'key_file' in TLS configuration");
    else if (t->cert_file.len == 0 && t->key_file.len > 0)
        load_error_text(l, l->tls, "missing 'cert_file' in TLS configuration");
    else if (t->cert_file.len == 0 && t->cert_count == 0)
        load_error_text(l, l->tls, "missing 'cert_file' and 'key_file' in TLS configuration");
}
