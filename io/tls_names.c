#include "io/tls_names.h"

/* Go's names of suites up to TLS 1.2, best first, and OpenSSL's. openssl NULL: a suite of TLS 1.3,
 * which is always on, or one that this OpenSSL has no more. */
static const struct tls_names_suite suites[] = {
    {"TLS_AES_128_GCM_SHA256", NULL, false},
    {"TLS_AES_256_GCM_SHA384", NULL, false},
    {"TLS_CHACHA20_POLY1305_SHA256", NULL, false},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256", false},
    {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256", false},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384", false},
    {"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384", false},
    {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305", false},
    {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305", false},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "ECDHE-ECDSA-AES128-SHA", false},
    {"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "ECDHE-RSA-AES128-SHA", false},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "ECDHE-ECDSA-AES256-SHA", false},
    {"TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "ECDHE-RSA-AES256-SHA", false},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "ECDHE-ECDSA-AES128-SHA256", true},
    {"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", "ECDHE-RSA-AES128-SHA256", true},
    {"TLS_RSA_WITH_AES_128_GCM_SHA256", "AES128-GCM-SHA256", true},
    {"TLS_RSA_WITH_AES_256_GCM_SHA384", "AES256-GCM-SHA384", true},
    {"TLS_RSA_WITH_AES_128_CBC_SHA256", "AES128-SHA256", true},
    {"TLS_RSA_WITH_AES_128_CBC_SHA", "AES128-SHA", true},
    {"TLS_RSA_WITH_AES_256_CBC_SHA", "AES256-SHA", true},
    {"TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", NULL, true},
    {"TLS_RSA_WITH_3DES_EDE_CBC_SHA", NULL, true},
    {"TLS_ECDHE_ECDSA_WITH_RC4_128_SHA", NULL, true},
    {"TLS_ECDHE_RSA_WITH_RC4_128_SHA", NULL, true},
    {"TLS_RSA_WITH_RC4_128_SHA", NULL, true},
};

/* openssl NULL: a curve of the future, ignored as long as another one is there. */
static const struct tls_names_curve curves[] = {
    {"SecP384r1MLKEM1024", NULL}, {"SecP256r1MLKEM768", NULL}, {"X25519MLKEM768", NULL},
    {"X25519", "X25519"},         {"CurveP256", "P-256"},      {"CurveP384", "P-384"},
    {"CurveP521", "P-521"},
};

_Static_assert(sizeof suites / sizeof suites[0] == TLS_NAMES_SUITES, "as declared");
_Static_assert(sizeof curves / sizeof curves[0] == TLS_NAMES_CURVES, "as declared");

const char tls_names_suites_13[] =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
const char tls_names_curves_default[] = "X25519:P-256:P-384:P-521";

const struct tls_names_suite *tls_names_suite(struct bytes name)
{
    for (int i = 0; i < TLS_NAMES_SUITES; i++) {
        if (bytes_equal(name, bytes_from_text(suites[i].name))) return &suites[i];
    }
    return NULL;
}

const struct tls_names_curve *tls_names_curve(struct bytes name)
{
    for (int i = 0; i < TLS_NAMES_CURVES; i++) {
        if (bytes_equal(name, bytes_from_text(curves[i].name))) return &curves[i];
    }
    return NULL;
}

const struct tls_names_suite *tls_names_suite_at(uint32_t index)
{
    return &suites[index];
}
