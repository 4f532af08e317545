/* Clients on several threads ask for pages over http and https, some of them rudely, while the
 * certificate is replaced and at last the server is closed under them: every answer that comes is
 * whole and right.
 * links: io */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "io/http.h"
#include "io/tls.h"

enum { CLIENTS = 3, ROUNDS = 60, PAGE_BYTES = 40000, ANSWER_BYTES = 64 * 1024 };

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

struct rig {
    struct http_server *server;
    int listener;
    pthread_mutex_t lock; /* accept belongs to the next connect */
    struct tls_context *tls;
    _Atomic unsigned answers[2], rude;
};

struct client {
    struct rig *rig;
    int number;
};

static void serve(void *context, const struct http_request *r, struct http_response *out)
{
    struct bytes n = http_request_param(r, "n");
    out->body = malloc(PAGE_BYTES);
    out->body_bytes = PAGE_BYTES;
    memset(out->body, n.len == 0 ? '?' : n.data[0], PAGE_BYTES);
}

static struct tls_context *certificate(void)
{
    char cert_file[] = "/tmp/millrace-model-cert-XXXXXX",
         key_file[] = "/tmp/millrace-model-key-XXXXXX";
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_gmtime_adj(X509_getm_notBefore(cert), -10);
    X509_gmtime_adj(X509_getm_notAfter(cert), 1000);
    X509_set_pubkey(cert, key);
    X509_sign(cert, key, EVP_sha256());
    FILE *f = fdopen(mkstemp(cert_file), "w");
    PEM_write_X509(f, cert);
    fclose(f);
    f = fdopen(mkstemp(key_file), "w");
    PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
    X509_free(cert);
    EVP_PKEY_free(key);
    struct tls_pair pair = {cert_file, key_file};
    struct tls_options o = {.pairs = &pair, .pair_count = 1};
    struct tls_context *t;
    char reason[TLS_REASON_BYTES];
    CHECK(tls_context_open(&o, &t, reason, sizeof reason) == ERR_OK);
    unlink(cert_file);
    unlink(key_file);
    return t;
}

static int connection(struct rig *r, bool is_tls)
{
    struct sockaddr_in a;
    socklen_t bytes = sizeof a;
    int client = socket(AF_INET, SOCK_STREAM, 0);
    pthread_mutex_lock(&r->lock);
    getsockname(r->listener, (struct sockaddr *)&a, &bytes);
    CHECK(connect(client, (struct sockaddr *)&a, sizeof a) == 0);
    bytes = sizeof a;
    int accepted =
        accept4(r->listener, (struct sockaddr *)&a, &bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);
    CHECK(accepted >= 0);
    enum err e =
        http_take(r->server, accepted, (struct sockaddr *)&a, bytes, is_tls ? r->tls : NULL);
    pthread_mutex_unlock(&r->lock);
    CHECK(e == ERR_OK || e == ERR_FULL);
    struct timeval wait = {.tv_sec = 20};
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    return client;
}

static void check_answer(struct client *me, const char *text, size_t bytes, bool is_tls)
{
    const char *body = bytes == 0 ? NULL : strstr(text, "\r\n\r\n");
    CHECK(body != NULL);
    CHECK(bytes - (size_t)(body + 4 - text) == PAGE_BYTES);
    for (const char *at = body + 4; at < text + bytes; at++) CHECK(*at == '0' + me->number);
    atomic_fetch_add(&me->rig->answers[is_tls], 1);
}

static void *ask(void *context)
{
    struct client *me = context;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    char *text = malloc(ANSWER_BYTES), request[128];
    int request_bytes =
        snprintf(request, sizeof request,
                 "GET /page?n=%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", me->number);
    for (int i = 0; i < ROUNDS; i++) {
        bool is_tls = i % 2 == 1, is_rude = i % 5 == 4;
        int fd = connection(me->rig, is_tls);
        SSL *ssl = NULL;
        size_t bytes = 0;
        ssize_t n;
        if (is_tls) {
            ssl = SSL_new(ctx);
            SSL_set_fd(ssl, fd);
            CHECK(SSL_connect(ssl) == 1);
            CHECK(SSL_write(ssl, request, request_bytes) == request_bytes);
        } else {
            CHECK(send(fd, request, (size_t)request_bytes, MSG_NOSIGNAL) == request_bytes);
        }
        if (is_rude) {
            atomic_fetch_add(&me->rig->rude, 1);
        } else {
            do {
                size_t room = ANSWER_BYTES - 1 - bytes;
                n = is_tls ? SSL_read(ssl, text + bytes, (int)room)
                           : recv(fd, text + bytes, room, 0);
                if (n > 0) bytes += (size_t)n;
            } while (n > 0);
            text[bytes] = 0;
            check_answer(me, text, bytes, is_tls);
        }
        SSL_free(ssl);
        close(fd);
    }
    SSL_CTX_free(ctx);
    free(text);
    return NULL;
}

int main(void)
{
    struct rig r = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct http_options o = {.serve = serve, .base_path = "/"};
    pthread_t threads[CLIENTS];
    struct client clients[CLIENTS];
    signal(SIGPIPE, SIG_IGN);
    CHECK(http_open(&o, &r.server) == ERR_OK);
    r.listener = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(r.listener, (struct sockaddr *)&a, sizeof a) == 0);
    CHECK(listen(r.listener, 100) == 0);
    r.tls = certificate();
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){&r, i};
        CHECK(pthread_create(&threads[i], NULL, ask, &clients[i]) == 0);
    }
    for (int i = 0; i < 10; i++) {
        struct tls_context *next = certificate();
        pthread_mutex_lock(&r.lock);
        tls_context_drop(r.tls);
        r.tls = next;
        pthread_mutex_unlock(&r.lock);
        usleep(10000);
    }
    for (int i = 0; i < CLIENTS; i++) pthread_join(threads[i], NULL);
    int idle = connection(&r, false), idle_tls = connection(&r, true);
    http_close(r.server);
    close(idle);
    close(idle_tls);
    close(r.listener);
    tls_context_drop(r.tls);
    printf("http: %u answers, https: %u answers, %u left without theirs\n", r.answers[0],
           r.answers[1], r.rude);
    return 0;
}
