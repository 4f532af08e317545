/* TLS of client connections for io/turn: buffers around io/tls, handshakes on helper threads,
 * the current certificate context, the handshake rate limit. */
#ifndef IO_CONN_TLS_H
#define IO_CONN_TLS_H
#include "io/turn.h"

struct server;

/* NULL while the options have no tls block. */
const struct turn_tls_ops *conn_tls_ops(struct server *s);
/* Reads certificates anew; connections keep what they have. On failure the old context stays and
 * reason names the file. */
NODISCARD enum err conn_tls_load(struct server *s, const struct options *o, char *reason,
                                 size_t reason_bytes);
/* Whether conn_tls_load would succeed: for -t. */
NODISCARD enum err conn_tls_check(const struct options *o, char *reason, size_t reason_bytes);
void conn_tls_unload(struct server *s);
/* Once a second: says how many handshakes connection_rate_limit kept out since the last time. */
void conn_tls_tick(struct server *s);
/* The current context with a reference for the caller; NULL: no TLS. */
struct tls_context *conn_tls_context(struct server *s);

#endif
