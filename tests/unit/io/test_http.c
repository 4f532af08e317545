#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "io/http.h"
#include "io/tls.h"

enum { ANSWER_BYTES = 1024 * 1024 };

TestSuite(http, .timeout = 20);

/* --- a server with a few pages --- */

struct pages {
    _Atomic int served;
    sem_t *entered, *gate;
};

static void page_params(const struct http_request *r, struct http_response *out)
{
    char text[2000];
    struct writer w;
    writer_init(&w, text, sizeof text);
    for (uint32_t i = 0; i < r->param_count; i++) {
        writer_bytes(&w, r->params[i].name);
        writer_char(&w, '=');
        writer_bytes(&w, r->params[i].value);
        writer_char(&w, ';');
    }
    writer_text(&w, r->is_tls ? "https" : "http");
    cr_assert_eq(http_response_body(out, writer_written(&w)), ERR_OK);
}

static void serve(void *context, const struct http_request *r, struct http_response *out)
{
    struct pages *p = context;
    p->served++;
    if (bytes_equal(r->path, BYTES_LITERAL("/params"))) {
        page_params(r, out);
    } else if (bytes_equal(r->path, BYTES_LITERAL("/"))) {
        out->content_type = "text/html; charset=utf-8";
        cr_assert_eq(http_response_body(out, BYTES_LITERAL("<html>")), ERR_OK);
    } else if (bytes_equal(r->path, BYTES_LITERAL("/large"))) {
        char *text = malloc(ANSWER_BYTES / 2);
        memset(text, 'z', ANSWER_BYTES / 2);
        out->body = text;
        out->body_bytes = ANSWER_BYTES / 2;
    } else if (bytes_equal(r->path, BYTES_LITERAL("/slow"))) {
        sem_post(p->entered);
        sem_wait(p->gate);
    } else if (bytes_equal(r->path, BYTES_LITERAL("/auth"))) {
        out->status = 401;
        out->extra[0].name = "WWW-Authenticate";
        snprintf(out->extra[0].value, sizeof out->extra[0].value, "Basic realm=\"x\"");
        out->extra_count = 1;
        struct bytes who = http_request_header(r, "authorization");
        if (who.data != NULL) cr_assert_eq(http_response_body(out, who), ERR_OK);
    } else if (bytes_equal(r->path, BYTES_LITERAL("/bad"))) {
        http_response_text(out, 400, "Error decoding boolean for 'subs': invalid");
    } else {
        http_response_not_found(out);
    }
}

struct rig {
    struct http_server *server;
    struct pages pages;
    int listener;
    struct tls_context *tls;
};

static void rig_open(struct rig *r, struct http_options o)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    o.serve = serve;
    o.context = &r->pages;
    cr_assert_eq(http_open(&o, &r->server), ERR_OK);
    r->listener = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(bind(r->listener, (struct sockaddr *)&a, sizeof a), 0);
    cr_assert_eq(listen(r->listener, 100), 0);
}

static void rig_close(struct rig *r)
{
    http_close(r->server);
    close(r->listener);
}

/* A client's socket whose other end the server has. */
static int connection(struct rig *r, enum err *result)
{
    struct sockaddr_in a;
    socklen_t bytes = sizeof a;
    getsockname(r->listener, (struct sockaddr *)&a, &bytes);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(connect(client, (struct sockaddr *)&a, sizeof a), 0);
    bytes = sizeof a;
    int accepted =
        accept4(r->listener, (struct sockaddr *)&a, &bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);
    cr_assert_geq(accepted, 0);
    enum err e = http_take(r->server, accepted, (struct sockaddr *)&a, bytes, r->tls);
    if (result != NULL) *result = e;
    struct timeval wait = {.tv_sec = 10};
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    return client;
}

static char *read_answer(int fd)
{
    char *text = calloc(1, ANSWER_BYTES);
    size_t at = 0;
    ssize_t n;
    while ((n = recv(fd, text + at, ANSWER_BYTES - 1 - at, 0)) > 0) at += (size_t)n;
    return text;
}

/* One request on a connection of its own; the whole answer, to be freed. */
static char *ask(struct rig *r, const char *head)
{
    char text[1024];
    int n = snprintf(text, sizeof text, "%s\r\nHost: x\r\nConnection: close\r\n\r\n", head);
    int fd = connection(r, NULL);
    cr_assert_eq(send(fd, text, (size_t)n, MSG_NOSIGNAL), n);
    char *answer = read_answer(fd);
    close(fd);
    return answer;
}

static void expect(struct rig *r, const char *head, const char *const *parts)
{
    char *answer = ask(r, head);
    for (; *parts != NULL; parts++) {
        cr_assert_not_null(strstr(answer, *parts), "%s: no \"%s\" in %s", head, *parts, answer);
    }
    free(answer);
}

#define EXPECT(r, head, ...) expect((r), (head), (const char *const[]){__VA_ARGS__, NULL})

Test(http, pages_parameters_and_errors_look_like_those_of_go)
{
    struct rig r = {0};
    rig_open(&r, (struct http_options){.base_path = "/"});
    EXPECT(&r, "GET /params?a=1&b=x%20y+z&c&d=%3D HTTP/1.1", "HTTP/1.1 200 OK\r\n",
           "Content-Type: application/json\r\n", "Access-Control-Allow-Origin: *\r\n",
           "\r\n\r\na=1;b=x y z;c=;d==;http");
    EXPECT(&r, "GET / HTTP/1.1", "200 OK", "text/html", "<html>");
    EXPECT(&r, "GET /nothing HTTP/1.1", "HTTP/1.1 404 Not Found\r\n",
           "Content-Type: text/plain; charset=utf-8\r\n", "X-Content-Type-Options: nosniff\r\n",
           "\r\n\r\n404 page not found\n");
    EXPECT(&r, "GET /bad HTTP/1.1", "HTTP/1.1 400 Bad Request\r\n",
           "\r\n\r\nError decoding boolean for 'subs': invalid\n");
    EXPECT(&r, "GET /auth HTTP/1.1\r\nAuthorization: Basic abc", "401 Unauthorized",
           "WWW-Authenticate: Basic realm=\"x\"\r\n", "\r\n\r\nBasic abc");
    /* Without a body, and without waiting for one. */
    EXPECT(&r, "POST /params?a=1 HTTP/1.1\r\nContent-Length: 0", "200 OK", "Content-Length: 8\r\n");
    EXPECT(&r, "PUT /params?a=1 HTTP/1.1\r\nContent-Length: 10000000", "200 OK",
           "Content-Length: 8\r\n");

    char *answer = ask(&r, "HEAD /params?a=1 HTTP/1.1");
    cr_assert_not_null(strstr(answer, "Content-Length: 8\r\n"), "%s", answer);
    cr_assert_str_eq(strstr(answer, "\r\n\r\n"), "\r\n\r\n", "no body");
    free(answer);
    struct http_figures f;
    http_figures(r.server, &f);
    cr_assert_eq(f.requests, 8);
    rig_close(&r);
}

Test(http, pages_move_below_a_base_path)
{
    struct rig r = {0};
    rig_open(&r, (struct http_options){.base_path = "/nats/mon"});
    EXPECT(&r, "GET /nats/mon/params?x=1 HTTP/1.1", "200 OK", "x=1;");
    EXPECT(&r, "GET /nats/mon HTTP/1.1", "200 OK", "<html>");
    EXPECT(&r, "GET /nats/mon/ HTTP/1.1", "404 Not Found");
    EXPECT(&r, "GET /nats/monitor HTTP/1.1", "404 Not Found");
    EXPECT(&r, "GET /params HTTP/1.1", "404 Not Found");
    EXPECT(&r, "GET / HTTP/1.1", "404 Not Found");
    rig_close(&r);
}

/* Whatever the library and a proxy make of the first one: the second is never served. */
Test(http, a_connection_has_one_request)
{
#define FIRST "GET /params HTTP/1.1\r\nHost: x\r\n"
    static const char *const firsts[] = {FIRST "\r\n",
                                         FIRST "Connection: keep-alive\r\n\r\n",
                                         FIRST "Content-Length: 0\r\n\r\n",
                                         FIRST "Content-Length : 39\r\n\r\n",
                                         FIRST "Content-Length\t: 39\r\n\r\n",
                                         FIRST " Content-Length: 39\r\n\r\n",
                                         FIRST "Content-Length:\r\n 39\r\n\r\n",
                                         FIRST "X: a\r\n Content-Length: 39\r\n\r\n",
                                         FIRST "Content-Length\v: 39\r\n\r\n",
                                         FIRST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
                                         FIRST "X: a\n\n",
                                         "POST /params HTTP/1.1\r\nHost: x\r\n\r\n"};
#undef FIRST
    struct rig r = {0};
    rig_open(&r, (struct http_options){.base_path = "/"});
    for (size_t i = 0; i < sizeof firsts / sizeof firsts[0]; i++) {
        char text[512];
        int n = snprintf(text, sizeof text, "%sGET /params?second HTTP/1.1\r\nHost: x\r\n\r\n",
                         firsts[i]);
        int fd = connection(&r, NULL);
        r.pages.served = 0;
        cr_assert_eq(send(fd, text, (size_t)n, MSG_NOSIGNAL), n);
        char *answer = read_answer(fd);
        cr_expect_eq(r.pages.served, 1, "%s", text);
        cr_expect_not_null(strstr(answer, "\r\nConnection: close\r\n"), "%s: %s", text, answer);
        free(answer);
        close(fd);
    }
    rig_close(&r);
}

Test(http, long_headers_and_many_parameters_are_refused)
{
    struct rig r = {0};
    rig_open(&r, (struct http_options){.base_path = "/"});
    int fd = connection(&r, NULL);
    static const char start[] = "GET /params HTTP/1.1\r\nHost: x\r\nX-Long: ";
    char filler[1000];
    memset(filler, 'a', sizeof filler);
    send(fd, start, sizeof start - 1, MSG_NOSIGNAL);
    for (int i = 0; i < 200; i++) {
        if (send(fd, filler, sizeof filler, MSG_NOSIGNAL) < 0) break;
    }
    char *answer = read_answer(fd);
    cr_assert_null(strstr(answer, "200 OK"));
    free(answer);
    close(fd);

    char head[1024] = "GET /params?";
    for (int i = 0; i <= HTTP_PARAMS_MAX; i++) strcat(head, "a=1&");
    strcat(head, "b=2 HTTP/1.1");
    EXPECT(&r, head, "400 Bad Request", "too many parameters");
    cr_assert_eq(r.pages.served, 0);
    rig_close(&r);
}

Test(http, an_idle_connection_is_closed)
{
    struct rig r = {0};
    rig_open(&r, (struct http_options){.base_path = "/", .idle_seconds = 1});
    int fd = connection(&r, NULL);
    send(fd, "GET /par", 8, 0);
    time_t before = time(NULL);
    char *answer = read_answer(fd);
    cr_assert_null(strstr(answer, "200 OK"));
    cr_assert_leq(time(NULL) - before, 9);
    free(answer);
    close(fd);
    rig_close(&r);
}

/* Waits for the end that the server makes: not for the time-out of the socket. */
static bool is_ended(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, 0);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

static void await_connections(struct rig *r, uint32_t count)
{
    struct timespec pause = {.tv_nsec = 1000000};
    struct http_figures f;
    http_figures(r->server, &f);
    for (int i = 0; i < 10000 && f.connections != count; i++) {
        nanosleep(&pause, NULL);
        http_figures(r->server, &f);
    }
    cr_assert_eq(f.connections, count);
}

Test(http, of_too_many_connections_the_one_that_waits_longest_goes)
{
    enum { MAX = 4 };
    struct rig r = {0};
    struct http_figures f;
    rig_open(&r, (struct http_options){.base_path = "/", .connections_max = MAX});
    int fds[MAX + 3];
    char byte;
    for (uint32_t i = 0; i < MAX + 3; i++) {
        fds[i] = connection(&r, NULL);
        send(fds[i], "GET /", 5, MSG_NOSIGNAL); /* and never the rest */
        if (i == MAX + 2) break;
        /* Served although all places are held, and then the server has seen the one before. */
        EXPECT(&r, "GET /params HTTP/1.1", "200 OK");
        await_connections(&r, i + 1 < MAX ? i + 1 : MAX - 1);
    }
    for (int i = 0; i < 3; i++) cr_assert(is_ended(fds[i]));
    http_figures(r.server, &f);
    cr_assert_eq(f.refused, 3);
    for (int i = 3; i < MAX + 3; i++) {
        cr_assert_lt(recv(fds[i], &byte, 1, MSG_DONTWAIT), 0);
        cr_assert_eq(errno, EAGAIN);
    }
    for (int i = 0; i < MAX + 3; i++) close(fds[i]);
    await_connections(&r, 0);
    EXPECT(&r, "GET /params HTTP/1.1", "200 OK");
    rig_close(&r);
}

/* One byte now and then is progress, but not for ever. */
Test(http, a_request_has_one_deadline)
{
    struct rig r = {0};
    struct timespec pause = {.tv_nsec = 100000000};
    rig_open(&r, (struct http_options){.base_path = "/", .idle_seconds = 10, .request_seconds = 1});
    int slow = connection(&r, NULL);
    ssize_t n = -1;
    char byte;
    for (int i = 0; i < 100 && n != 0; i++) {
        if (i % 5 == 0) EXPECT(&r, "GET /params HTTP/1.1", "200 OK");
        (void)!send(slow, "G", 1, MSG_NOSIGNAL);
        nanosleep(&pause, NULL);
        http_expire(r.server);
        n = recv(slow, &byte, 1, MSG_DONTWAIT);
        if (n < 0 && errno == ECONNRESET) n = 0;
    }
    cr_assert_eq(n, 0, "it keeps its place");
    close(slow);
    rig_close(&r);
}

Test(http, a_blocked_page_does_not_block_acceptance_and_close_waits_for_it)
{
    struct rig r = {0};
    sem_t entered, gate;
    sem_init(&entered, 0, 0);
    sem_init(&gate, 0, 0);
    r.pages.entered = &entered;
    r.pages.gate = &gate;
    rig_open(&r, (struct http_options){.base_path = "/"});
    int slow = connection(&r, NULL);
    static const char request[] = "GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    send(slow, request, sizeof request - 1, 0);
    sem_wait(&entered);
    enum err e;
    int other = connection(&r, &e);
    cr_assert_eq(e, ERR_OK);
    sem_post(&gate);
    char *answer = read_answer(slow);
    cr_assert_not_null(strstr(answer, "200 OK"));
    free(answer);
    close(slow);
    close(other);
    rig_close(&r);
}

/* --- https --- */

static char directory[64];

static struct tls_context *certificate(void)
{
    char cert_file[128], key_file[128], reason[TLS_REASON_BYTES];
    strcpy(directory, "/tmp/millrace-https-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    snprintf(cert_file, sizeof cert_file, "%s/c", directory);
    snprintf(key_file, sizeof key_file, "%s/k", directory);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_gmtime_adj(X509_getm_notBefore(cert), -10);
    X509_gmtime_adj(X509_getm_notAfter(cert), 1000);
    X509_set_pubkey(cert, key);
    X509_sign(cert, key, EVP_sha256());
    FILE *f = fopen(cert_file, "w");
    PEM_write_X509(f, cert);
    fclose(f);
    f = fopen(key_file, "w");
    PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
    X509_free(cert);
    EVP_PKEY_free(key);
    struct tls_pair pair = {cert_file, key_file};
    struct tls_options o = {.pairs = &pair, .pair_count = 1};
    struct tls_context *t;
    cr_assert_eq(tls_context_open(&o, &t, reason, sizeof reason), ERR_OK, "%s", reason);
    unlink(cert_file);
    unlink(key_file);
    rmdir(directory);
    return t;
}

static char *ask_tls(SSL_CTX *context, int fd, const char *request)
{
    SSL *ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    cr_assert_eq(SSL_connect(ssl), 1);
    cr_assert_eq(SSL_write(ssl, request, (int)strlen(request)), (int)strlen(request));
    char *text = calloc(1, ANSWER_BYTES);
    size_t at = 0;
    int n;
    while ((n = SSL_read(ssl, text + at, (int)(ANSWER_BYTES - 1 - at))) > 0) at += (size_t)n;
    cr_assert_eq(SSL_get_error(ssl, n), SSL_ERROR_ZERO_RETURN, "an orderly end");
    SSL_free(ssl);
    return text;
}

Test(http, https_serves_the_same_pages)
{
    struct rig r = {0};
    rig_open(&r, (struct http_options){.base_path = "/"});
    r.tls = certificate();
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    for (int i = 0; i < 3; i++) {
        int fd = connection(&r, NULL);
        char *answer = ask_tls(context, fd,
                               "GET /params?q=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        cr_assert_not_null(strstr(answer, "HTTP/1.1 200 OK\r\n"));
        cr_assert_not_null(strstr(answer, "q=1;https"));
        free(answer);
        close(fd);
    }
    int fd = connection(&r, NULL);
    char *answer =
        ask_tls(context, fd, "GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    char *body = strstr(answer, "\r\n\r\n");
    cr_assert_not_null(body);
    cr_assert_eq(strlen(body + 4), ANSWER_BYTES / 2);
    free(answer);
    close(fd);
    SSL_CTX_free(context);
    rig_close(&r);
    tls_context_drop(r.tls);
}

Test(http, what_is_no_tls_is_closed_and_silence_times_out)
{
    struct rig r = {0};
    rig_open(&r, (struct http_options){.base_path = "/", .idle_seconds = 1, .connections_max = 2});
    r.tls = certificate();
    int plain = connection(&r, NULL);
    send(plain, "GET / HTTP/1.1\r\n\r\n", 18, 0);
    char *answer = read_answer(plain);
    cr_assert_null(strstr(answer, "HTTP/1.1 200"));
    free(answer);
    close(plain);
    time_t before = time(NULL);
    int silent = connection(&r, NULL);
    free(read_answer(silent));
    cr_assert_leq(time(NULL) - before, 9);
    close(silent);
    rig_close(&r);
    tls_context_drop(r.tls);
}

Test(http, of_too_many_handshakes_the_oldest_goes)
{
    enum { MAX = 2, SECONDS = 60 };
    struct rig r = {0};
    char byte;
    rig_open(&r, (struct http_options){
                     .base_path = "/", .idle_seconds = SECONDS, .connections_max = MAX});
    r.tls = certificate();
    int fds[MAX + 2];
    for (int i = 0; i < MAX + 2; i++) fds[i] = connection(&r, NULL);
    for (int i = 0; i < 2; i++) cr_assert(is_ended(fds[i]));
    cr_assert_lt(recv(fds[MAX + 1], &byte, 1, MSG_DONTWAIT), 0);
    cr_assert_eq(errno, EAGAIN);
    for (int i = 0; i < MAX + 2; i++) close(fds[i]);
    rig_close(&r);
    tls_context_drop(r.tls);
}

Test(http, close_ends_open_connections)
{
    struct rig r = {0};
    rig_open(&r, (struct http_options){.base_path = "/"});
    int idle = connection(&r, NULL);
    r.tls = certificate();
    int idle_tls = connection(&r, NULL);
    http_close(r.server);
    free(read_answer(idle));
    free(read_answer(idle_tls));
    close(idle);
    close(idle_tls);
    close(r.listener);
    tls_context_drop(r.tls);
}
