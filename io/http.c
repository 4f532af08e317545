#include "io/http.h"
#include <limits.h>
#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "core/base/must.h"
#include "io/http_pump.h"
#include "io/log.h"

enum {
    LOG_TEXT_BYTES = 512,
    /* The library keeps request and response headers of a connection in one pool, in halves. */
    CONNECTION_POOL_BYTES = 2 * HTTP_HEADER_BYTES_MAX,
    /* libmicrohttpd 0.9.75 locks itself out for good when a connection that was handed over meets
     * its limit. So we count, and its own limit lies where it is never reached. The spare places
     * are for those that came while others are on their way out. */
    CONNECTIONS_SPARE = 64,
    PAUSE_NS = 100000,
};
static const uint64_t START_NS = 2000000000u; /* for a thread */

/* A connection that the library has begun and not ended yet: its fd is good to shut down. */
struct http_conn {
    bool is_used, is_tls;
    bool is_leaving; /* shut down by us; the library has not noticed yet */
    bool is_served;  /* its page is being made: not its fault that it waits */
    int fd;
    uint64_t since_ns; /* when it came */
};

struct http_server {
    struct http_options o;
    char *base; /* without a slash at the end: "" for "/" */
    struct MHD_Daemon *daemon;
    struct http_pump *pump;
    pthread_mutex_t lock; /* take against close */
    bool is_closing;      /* under lock */
    pthread_mutex_t conns_lock;
    struct http_conn *conns; /* under conns_lock: connections_max and the spare ones */
    _Atomic uint64_t requests, refused;
    _Atomic uint32_t connections; /* with the daemon, from the hand-over to their end */
};

static const char type_json[] = "application/json";
static const char type_text[] = "text/plain; charset=utf-8";

/* --- requests and responses --- */

struct bytes http_request_param(const struct http_request *r, const char *name)
{
    struct bytes wanted = bytes_from_text(name);
    for (uint32_t i = 0; i < r->param_count; i++) {
        if (bytes_equal(r->params[i].name, wanted)) return r->params[i].value;
    }
    return bytes_of(NULL, 0);
}

struct bytes http_request_header(const struct http_request *r, const char *name)
{
    return bytes_from_text(MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name));
}

enum err http_response_body(struct http_response *r, struct bytes body)
{
    char *copy = malloc(body.len + 1);
    if (copy == NULL) {
        r->status = MHD_HTTP_INTERNAL_SERVER_ERROR;
        r->body_bytes = 0;
        return ERR_MEMORY;
    }
    if (body.len > 0) memcpy(copy, body.data, body.len);
    copy[body.len] = 0;
    free(r->body);
    r->body = copy;
    r->body_bytes = body.len;
    return ERR_OK;
}

void http_response_text(struct http_response *r, unsigned status, const char *text)
{
    char line[1024];
    int n = snprintf(line, sizeof line, "%s\n", text);
    size_t bytes = n < 0 ? 0 : (size_t)n < sizeof line ? (size_t)n : sizeof line - 1;
    r->status = status;
    r->content_type = type_text;
    r->has_cors = false;
    (void)!http_response_body(r, bytes_of(line, bytes));
}

void http_response_not_found(struct http_response *r)
{
    http_response_text(r, MHD_HTTP_NOT_FOUND, "404 page not found");
}

/* --- one request --- */

static enum MHD_Result add_param(void *context, enum MHD_ValueKind kind, const char *name,
                                 size_t name_bytes, const char *value, size_t value_bytes)
{
    struct http_request *r = context;
    if (r->param_count == HTTP_PARAMS_MAX) {
        r->param_count++; /* over the limit: told by the count */
        return MHD_NO;
    }
    if (value == NULL) value = ""; /* "?name" is the same as "?name=" */
    r->params[r->param_count++] =
        (struct http_pair){bytes_of(name, name_bytes), bytes_of(value, value_bytes)};
    return MHD_YES;
}

static struct http_conn *conn_of(struct MHD_Connection *c)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info == NULL ? NULL : info->socket_context;
}

static void set_served(struct http_server *s, struct http_conn *c, bool is_served)
{
    pthread_mutex_lock(&s->conns_lock);
    c->is_served = is_served;
    pthread_mutex_unlock(&s->conns_lock);
}

/* The path below the base; data NULL when it lies elsewhere. */
static struct bytes path_below(const struct http_server *s, const char *url)
{
    struct bytes path = bytes_from_text(url), base = bytes_from_text(s->base);
    if (!bytes_starts_with(path, base)) return bytes_of(NULL, 0);
    struct bytes rest = bytes_of(path.data + base.len, path.len - base.len);
    if (rest.len == 0) return BYTES_LITERAL("/");
    /* Below a base "/x" only "/x" itself is the index, "/x/" is nothing. */
    if (rest.data[0] != '/' || (rest.len == 1 && base.len > 0)) return bytes_of(NULL, 0);
    return rest;
}

static void serve(struct http_server *s, struct MHD_Connection *c, const char *url,
                  const char *method, struct http_response *response)
{
    struct http_conn *conn = conn_of(c);
    struct http_request request = {
        .path = path_below(s, url), .is_tls = conn->is_tls, .connection = c};
    request.is_head = strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    if (request.path.data == NULL) {
        http_response_not_found(response);
        return;
    }
    MHD_get_connection_values_n(c, MHD_GET_ARGUMENT_KIND, add_param, &request);
    if (request.param_count > HTTP_PARAMS_MAX) {
        http_response_text(response, MHD_HTTP_BAD_REQUEST, "too many parameters");
        return;
    }
    set_served(s, conn, true);
    s->o.serve(s->o.context, &request, response);
    set_served(s, conn, false);
}

static enum MHD_Result answer(struct MHD_Connection *c, struct http_response *r)
{
    struct MHD_Response *m = MHD_create_response_from_buffer(
        r->body_bytes, r->body_bytes == 0 ? (void *)(uintptr_t) "" : r->body,
        r->body_bytes == 0 ? MHD_RESPMEM_PERSISTENT : MHD_RESPMEM_MUST_FREE);
    if (m == NULL || r->body_bytes == 0) free(r->body);
    if (m == NULL) return MHD_NO;
    (void)MHD_add_response_header(m, MHD_HTTP_HEADER_CONTENT_TYPE, r->content_type);
    if (r->has_cors) {
        (void)MHD_add_response_header(m, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    }
    if (r->content_type == type_text) {
        (void)MHD_add_response_header(m, "X-Content-Type-Options", "nosniff");
    }
    must(r->extra_count <= HTTP_EXTRA_HEADERS_MAX);
    for (uint32_t i = 0; i < r->extra_count; i++) {
        (void)MHD_add_response_header(m, r->extra[i].name, r->extra[i].value);
    }
    /* The library takes much for a header that a proxy in front may read otherwise (a blank before
     * the colon, folded lines, a lone CR): to us nothing that comes behind is a request. */
    (void)MHD_add_response_header(m, MHD_HTTP_HEADER_CONNECTION, "close");
    enum MHD_Result result = MHD_queue_response(c, r->status, m);
    MHD_destroy_response(m);
    return result;
}

/* Called once when the headers are there and, if that was answered with yes, once more when the
 * body is. A method that may bring a body is answered at the first call: nothing of it is read. */
static enum MHD_Result on_request(void *context, struct MHD_Connection *c, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_bytes, void **request_context)
{
    struct http_server *s = context;
    bool is_first = *request_context == NULL;
    bool has_no_body =
        strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    if (is_first && has_no_body) {
        *request_context = s;
        return MHD_YES;
    }
    if (*upload_bytes > 0) {
        *upload_bytes = 0; /* a body nobody asked for */
        return MHD_YES;
    }
    atomic_fetch_add_explicit(&s->requests, 1, memory_order_relaxed);
    struct http_response response = {
        .status = MHD_HTTP_OK, .content_type = type_json, .has_cors = true};
    serve(s, c, url, method, &response);
    return answer(c, &response);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Under conns_lock. The library sees the end of its socket and closes it. */
static void send_away(struct http_server *s, struct http_conn *c)
{
    c->is_leaving = true;
    (void)shutdown(c->fd, SHUT_RDWR);
    atomic_fetch_add_explicit(&s->refused, 1, memory_order_relaxed);
}

/* Under conns_lock: when there are too many, the one that waits longest goes. A client that asks
 * and reads its answer is gone by itself soon; a crowd that only holds places is not. */
static void keep_within_bounds(struct http_server *s)
{
    struct http_conn *oldest = NULL;
    uint32_t staying = 0;
    for (uint32_t i = 0; i < s->o.connections_max + CONNECTIONS_SPARE; i++) {
        struct http_conn *c = &s->conns[i];
        if (!c->is_used || c->is_leaving) continue;
        staying++;
        if (!c->is_served && (oldest == NULL || c->since_ns < oldest->since_ns)) oldest = c;
    }
    if (staying > s->o.connections_max && oldest != NULL) send_away(s, oldest);
}

void http_expire(struct http_server *s)
{
    uint64_t now = now_ns(), limit = (uint64_t)s->o.request_seconds * 1000000000u;
    pthread_mutex_lock(&s->conns_lock);
    for (uint32_t i = 0; i < s->o.connections_max + CONNECTIONS_SPARE; i++) {
        struct http_conn *c = &s->conns[i];
        if (c->is_used && !c->is_leaving && !c->is_served && now > c->since_ns &&
            now - c->since_ns >= limit)
            send_away(s, c);
    }
    pthread_mutex_unlock(&s->conns_lock);
}

static void conn_begin(struct http_server *s, struct MHD_Connection *c, void **socket_context)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    int domain = AF_UNSPEC;
    socklen_t bytes = sizeof domain;
    must(info != NULL);
    (void)getsockopt(info->connect_fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes);
    pthread_mutex_lock(&s->conns_lock);
    struct http_conn *conn = s->conns; /* add_plain sees to it that there is a place */
    while (conn->is_used) conn++;
    must(conn < s->conns + s->o.connections_max + CONNECTIONS_SPARE);
    /* Connections from the pump are known by their kind of socket. */
    *conn = (struct http_conn){
        .is_used = true, .is_tls = domain == AF_UNIX, .fd = info->connect_fd, .since_ns = now_ns()};
    keep_within_bounds(s);
    pthread_mutex_unlock(&s->conns_lock);
    *socket_context = conn;
}

static void on_connection(void *context, struct MHD_Connection *c, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_server *s = context;
    if (code != MHD_CONNECTION_NOTIFY_CLOSED) {
        conn_begin(s, c, socket_context);
        return;
    }
    struct http_conn *conn = *socket_context;
    pthread_mutex_lock(&s->conns_lock);
    conn->is_used = false; /* before the library closes the fd */
    pthread_mutex_unlock(&s->conns_lock);
    atomic_fetch_sub_explicit(&s->connections, 1, memory_order_relaxed);
}

PRINTF_LIKE(2, 0) static void on_log(void *context, const char *format, va_list args)
{
    struct http_server *s = context;
    char text[LOG_TEXT_BYTES];
    int n = vsnprintf(text, sizeof text, format, args);
    if (n <= 0) return;
    size_t bytes = (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    struct bytes line = bytes_trim(bytes_of(text, bytes));
    log_debug(s->o.log, "http: %.*s", (int)line.len, line.data);
}

/* --- connections --- */

static enum err add_plain(struct http_server *s, int fd, const struct sockaddr *address,
                          socklen_t address_bytes)
{
    uint32_t before = atomic_fetch_add_explicit(&s->connections, 1, memory_order_relaxed);
    enum err e = ERR_OK;
    if (before >= s->o.connections_max + CONNECTIONS_SPARE - 1) {
        close(fd);
        e = ERR_FULL;
    } else if (MHD_add_connection(s->daemon, fd, address, address_bytes) != MHD_YES) {
        e = ERR_FULL; /* the library has closed fd */
    }
    if (e != ERR_OK) {
        atomic_fetch_sub_explicit(&s->connections, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&s->refused, 1, memory_order_relaxed);
    }
    return e;
}

static void on_pump_ready(void *context, int fd, const struct sockaddr *address,
                          socklen_t address_bytes)
{
    enum err e = add_plain(context, fd, address, address_bytes);
    (void)e; /* a refused one is closed; the pump sees that at its end of the pair */
}

enum err http_take(struct http_server *s, int fd, const struct sockaddr *address,
                   socklen_t address_bytes, struct tls_context *tls)
{
    enum err e;
    pthread_mutex_lock(&s->lock);
    if (s->is_closing) {
        close(fd);
        e = ERR_CLOSED;
    } else if (tls != NULL) {
        e = http_pump_take(s->pump, fd, address, address_bytes, tls);
        if (e != ERR_OK) atomic_fetch_add_explicit(&s->refused, 1, memory_order_relaxed);
    } else {
        e = add_plain(s, fd, address, address_bytes);
    }
    pthread_mutex_unlock(&s->lock);
    return e;
}

/* --- life --- */

static enum err daemon_open(struct http_server *s)
{
    sigset_t all, before;
    unsigned limit = s->o.connections_max + CONNECTIONS_SPARE;
    sigfillset(&all);
    /* The library's thread inherits that no signal is for it. */
    pthread_sigmask(SIG_BLOCK, &all, &before);
    s->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL |
                                     MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ITC | MHD_USE_ERROR_LOG,
                                 0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_log,
                                 s, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                                 (size_t)CONNECTION_POOL_BYTES, MHD_OPTION_CONNECTION_LIMIT, limit,
                                 MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)s->o.idle_seconds,
                                 MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return s->daemon == NULL ? ERR_IO : ERR_OK;
}

/* Until the library's thread has allocated for the first time, as io/mem_jemalloc's threads do
 * before they count as started: it serves a connection that ends at once. Nothing depends on it, so
 * nothing is refused if it cannot be made. */
static void await_thread(struct http_server *s)
{
    struct sockaddr_un nobody = {.sun_family = AF_UNIX};
    struct timespec pause = {.tv_nsec = PAUSE_NS};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) return;
    enum err e = add_plain(s, pair[0], (struct sockaddr *)&nobody, sizeof nobody);
    close(pair[1]);
    uint64_t until_ns = now_ns() + START_NS;
    while (e == ERR_OK && atomic_load(&s->connections) > 0 && now_ns() < until_ns)
        nanosleep(&pause, NULL);
}

enum err http_open(const struct http_options *o, struct http_server **out)
{
    must(o->serve != NULL);
    struct http_server *s = calloc(1, sizeof *s);
    if (s == NULL) return ERR_MEMORY;
    s->o = *o;
    if (s->o.connections_max == 0) s->o.connections_max = HTTP_CONNECTIONS_MAX;
    if (s->o.idle_seconds == 0) s->o.idle_seconds = HTTP_IDLE_SECONDS;
    if (s->o.request_seconds == 0) s->o.request_seconds = HTTP_REQUEST_SECONDS;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->conns_lock, NULL);
    enum err e = ERR_MEMORY;
    s->conns = calloc(s->o.connections_max + CONNECTIONS_SPARE, sizeof *s->conns);
    if (s->conns == NULL) goto free_server;
    struct bytes base = bytes_from_text(o->base_path == NULL ? "/" : o->base_path);
    while (base.len > 0 && base.data[base.len - 1] == '/') base.len--;
    s->base = strndup(base.len == 0 ? "" : base.data, base.len);
    if (s->base == NULL) goto free_server;
    s->o.base_path = s->base;
    e = daemon_open(s);
    if (e != ERR_OK) goto free_base;
    struct http_pump_options pump = {.ready = on_pump_ready,
                                     .context = s,
                                     .connections_max = s->o.connections_max,
                                     .handshake_seconds = s->o.idle_seconds,
                                     .log = o->log};
    e = http_pump_open(&pump, &s->pump);
    if (e != ERR_OK) goto stop_daemon;
    await_thread(s);
    *out = s;
    return ERR_OK;

stop_daemon:
    MHD_stop_daemon(s->daemon);
free_base:
    free(s->base);
free_server:
    free(s->conns);
    pthread_mutex_destroy(&s->conns_lock);
    pthread_mutex_destroy(&s->lock);
    free(s);
    return e;
}

void http_close(struct http_server *s)
{
    if (s == NULL) return;
    pthread_mutex_lock(&s->lock);
    s->is_closing = true;
    pthread_mutex_unlock(&s->lock);
    /* The pump first: it hands connections to the daemon. */
    http_pump_close(s->pump);
    MHD_stop_daemon(s->daemon);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->conns_lock);
    free(s->conns);
    free(s->base);
    free(s);
}

void http_figures(struct http_server *s, struct http_figures *out)
{
    *out = (struct http_figures){
        .requests = atomic_load_explicit(&s->requests, memory_order_relaxed),
        .refused = atomic_load_explicit(&s->refused, memory_order_relaxed),
        .connections = atomic_load_explicit(&s->connections, memory_order_relaxed)};
}
