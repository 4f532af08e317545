/* The names that configuration files use for cipher suites and curves (those of Go), and
 * OpenSSL's. Private to io/tls. */
#ifndef IO_TLS_NAMES_H
#define IO_TLS_NAMES_H
#include <stdbool.h>
#include <stdint.h>
#include "core/base/bytes.h"

enum { TLS_NAMES_SUITES = 25, TLS_NAMES_CURVES = 7 };

struct tls_names_suite {
    const char *name;
    const char *openssl; /* NULL: of TLS 1.3, which is always on, or no longer in OpenSSL */
    bool is_insecure;
};

struct tls_names_curve {
    const char *name;
    const char *openssl; /* NULL: not in this OpenSSL */
};

/* NULL: unknown. */
const struct tls_names_suite *tls_names_suite(struct bytes name);
const struct tls_names_curve *tls_names_curve(struct bytes name);
/* All suites, best first; index < TLS_NAMES_SUITES. */
const struct tls_names_suite *tls_names_suite_at(uint32_t index);

/* Lists in OpenSSL's spelling. */
extern const char tls_names_suites_13[];
extern const char tls_names_curves_default[];

#endif
