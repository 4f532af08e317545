/* The names in a client's certificates, in Go's spelling. Private to io/tls. */
#ifndef IO_TLS_PEER_H
#define IO_TLS_PEER_H
#include "io/tls.h"

struct x509_st; /* OpenSSL's X509 */

enum { TLS_PEER_NAMES_MAX = 1024 }; /* in one certificate, of all kinds */

/* chain[0] is the client's own. NULL: memory is short, or the certificate has too many names. */
struct tls_peer *tls_peer_make(struct x509_st *const *chain, uint32_t count);
/* SHA-256 of the public key of a certificate, with its header as in the certificate. */
bool tls_peer_spki(struct x509_st *cert, uint8_t out[TLS_PIN_BYTES]);

#endif
