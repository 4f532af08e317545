/* TLS in front of a server that speaks plain text over sockets: one thread carries bytes between
 * https clients and socket pairs. Private to io/http.
 *
 * Each connection has one buffer per direction; a side that does not take its bytes stops the
 * other side, never the other connections. The plain end of a pair is handed out only when the
 * handshake is done. */
#ifndef IO_HTTP_PUMP_H
#define IO_HTTP_PUMP_H
#include <stdint.h>
#include <sys/socket.h>
#include "core/base/err.h"

struct http_pump;
struct log;
struct tls_context;

struct http_pump_options {
    /* Takes over fd, a connected socket with plain text; called on the pump's thread. */
    void (*ready)(void *context, int fd, const struct sockaddr *address, socklen_t address_bytes);
    void *context;
    uint32_t connections_max;
    uint32_t handshake_seconds;
    struct log *log; /* may be NULL */
};

NODISCARD enum err http_pump_open(const struct http_pump_options *o, struct http_pump **out);
/* From any thread. Owns fd whatever the result; takes a reference of tls. ERR_FULL, ERR_MEMORY. */
NODISCARD enum err http_pump_take(struct http_pump *p, int fd, const struct sockaddr *address,
                                  socklen_t address_bytes, struct tls_context *tls);
/* Ends all connections at once; ready is not called afterwards. p may be NULL. */
void http_pump_close(struct http_pump *p);

#endif
