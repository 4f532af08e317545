/* The HTTP server of the monitoring pages, on libmicrohttpd and its own thread. Listening is not
 * done here: the listener accepts and hands the sockets over. https connections pass through our
 * own TLS and a socket pair, so that there is one TLS stack and one reload for all.
 *
 * Bounds: connections_max connections at once (for a further one the one that waits longest goes),
 * HTTP_HEADER_BYTES_MAX of request line and headers, HTTP_IDLE_SECONDS without progress, and
 * HTTP_REQUEST_SECONDS for a request and its answer, so that nobody keeps a place by a byte now and
 * then. Every method but HEAD is taken for
 * GET, as nats-server does, and its body is not read. A connection has one request: what follows
 * it, a body or what somebody takes for one, is never served (a proxy in front may let some pages
 * through only). Nothing of a request reaches a shard but what serve makes of it. */
#ifndef IO_HTTP_H
#define IO_HTTP_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include "core/base/bytes.h"
#include "core/base/err.h"

struct tls_context;
struct log;

enum {
    HTTP_CONNECTIONS_MAX = 64,
    HTTP_HEADER_BYTES_MAX = 16 * 1024,
    HTTP_IDLE_SECONDS = 5,
    HTTP_REQUEST_SECONDS = 30, /* a page of megabytes over a slow line takes its time */
    HTTP_PARAMS_MAX = 32,
    HTTP_EXTRA_HEADERS_MAX = 4,
};

struct http_pair {
    struct bytes name, value;
};

/* Valid during the call of serve. Texts are decoded. */
struct http_request {
    struct bytes path; /* without the base path: "/varz"; the base path alone is "/" */
    struct http_pair params[HTTP_PARAMS_MAX]; /* of the query, in its order; more: 400 */
    uint32_t param_count;
    bool is_head;
    bool is_tls;
    void *connection; /* for http_request_header */
};

/* The value of a parameter, the first of that name; data NULL when it is not there. */
struct bytes http_request_param(const struct http_request *r, const char *name);
/* The value of a header, any case; data NULL when it is not there. */
struct bytes http_request_header(const struct http_request *r, const char *name);

struct http_response {
    unsigned status;          /* 200 as set before serve */
    const char *content_type; /* "application/json" as set before serve; static */
    char *body;               /* from malloc, freed by the server; NULL: empty */
    size_t body_bytes;
    struct {
        const char *name;     /* static */
        char value[128];
    } extra[HTTP_EXTRA_HEADERS_MAX];
    uint32_t extra_count;
    bool has_cors; /* Access-Control-Allow-Origin: *; true as set before serve */
};

/* The answer of Go to an unknown page: 404, "404 page not found\n", text/plain. */
void http_response_not_found(struct http_response *r);
/* A plain text with a status, as Go's http.Error: text and a newline. */
void http_response_text(struct http_response *r, unsigned status, const char *text);
/* A copy of body. ERR_MEMORY: the response is an empty 500 then. */
NODISCARD enum err http_response_body(struct http_response *r, struct bytes body);

struct http_options {
    /* Runs on the server's thread. It may wait for the shards' answers, with a deadline of its
     * own; the other pages wait meanwhile. */
    void (*serve)(void *context, const struct http_request *request,
                  struct http_response *response);
    void *context;
    const char *base_path;    /* "/" or "/x/y"; copied */
    uint32_t connections_max; /* 0: HTTP_CONNECTIONS_MAX */
    uint32_t idle_seconds;    /* 0: HTTP_IDLE_SECONDS */
    uint32_t request_seconds; /* 0: HTTP_REQUEST_SECONDS */
    struct log *log;          /* may be NULL */
};

struct http_server;

NODISCARD enum err http_open(const struct http_options *o, struct http_server **out);
/* Hands over a connected socket, from any thread; the server owns fd whatever the result. With tls
 * (a reference is taken) the connection speaks https.
 * ERR_FULL: too many connections, fd is closed. ERR_CLOSED: the server is closing. */
NODISCARD enum err http_take(struct http_server *s, int fd, const struct sockaddr *address,
                             socklen_t address_bytes, struct tls_context *tls);
/* Ends connections whose request or answer takes too long; call it about once a second. */
void http_expire(struct http_server *s);
/* Ends all connections and the threads. serve is not called afterwards. s may be NULL. */
void http_close(struct http_server *s);

struct http_figures {
    uint64_t requests, refused;
    uint32_t connections;
};
void http_figures(struct http_server *s, struct http_figures *out);

#endif
