#include "io/http_pump.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "core/base/must.h"
#include "io/log.h"
#include "io/mem_jemalloc.h"
#include "io/tls.h"

enum {
    IN_BYTES = 16 * 1024,
    PLAIN_BYTES = 16 * 1024,
    OUT_BYTES = 20 * 1024,    /* more than one record of PLAIN_BYTES */
    END_WAIT_NS = 1000000000, /* for the last bytes to leave, after the plain side has ended */
    POLLS_PER_CONN = 2,
    CONNECTIONS_SPARE = 64, /* that come while others are on their way out */
};

enum conn_state {
    CONN_HANDSHAKE,
    CONN_OPEN,
    CONN_ENDING, /* only what is in out still goes to the client */
};

/* Ciphertext from the client waits in in, its plaintext in plain until the pair takes it;
 * ciphertext for the client waits in out. */
struct conn {
    enum conn_state state;
    int net_fd, pair_fd; /* pair_fd -1 until the handshake is done */
    struct tls_conn *tls;
    uint64_t deadline_ns; /* of the handshake or of the end; 0: none */
    struct sockaddr_storage address;
    socklen_t address_bytes;
    bool is_deaf; /* the pair takes no more; its last words still go out */
    size_t in_at, in_bytes, plain_at, plain_bytes, out_at, out_bytes;
    char in[IN_BYTES], plain[PLAIN_BYTES], out[OUT_BYTES];
};

struct http_pump {
    struct http_pump_options o;
    pthread_t thread;
    int wake_fd;
    _Atomic bool is_closing;
    pthread_mutex_t lock;
    struct conn **arrived; /* under lock: from take to the thread; room for room connections */
    uint32_t arrived_count;
    uint32_t total;        /* under lock: arrived and running */
    uint32_t room;         /* connections_max and the spare ones */
    struct conn **running; /* the thread's */
    uint32_t running_count;
    struct pollfd *polls;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void wake(struct http_pump *p)
{
    uint64_t one = 1;
    ssize_t n = write(p->wake_fd, &one, sizeof one);
    (void)n;
}

static void conn_free(struct conn *c)
{
    tls_conn_close(c->tls);
    if (c->net_fd >= 0) close(c->net_fd);
    if (c->pair_fd >= 0) close(c->pair_fd);
    free(c);
}

static bool would_wait(ssize_t n)
{
    return n < 0 && (errno == EAGAIN || errno == EINTR);
}

/* --- one connection: each step moves what it can; false means the connection is over --- */

static struct tls_io io_begin(struct conn *c)
{
    return (struct tls_io){.in = bytes_of(c->in + c->in_at, c->in_bytes - c->in_at),
                           .out = c->out,
                           .out_bytes = c->out_bytes,
                           .out_room = OUT_BYTES};
}

static void io_end(struct conn *c, const struct tls_io *io)
{
    c->out_bytes = io->out_bytes;
    c->in_at = c->in_bytes - io->in.len;
    if (c->in_at == c->in_bytes) c->in_at = c->in_bytes = 0;
}

static void end_begin(struct conn *c)
{
    c->state = CONN_ENDING;
    c->deadline_ns = now_ns() + END_WAIT_NS;
}

static bool net_receive(struct conn *c)
{
    if (c->in_bytes > 0 || c->is_deaf || c->state == CONN_ENDING) return true;
    ssize_t n = recv(c->net_fd, c->in, IN_BYTES, 0);
    if (would_wait(n)) return true;
    if (n <= 0) return false;
    c->in_bytes = (size_t)n;
    return true;
}

static bool net_send(struct conn *c)
{
    while (c->out_at < c->out_bytes) {
        ssize_t n = send(c->net_fd, c->out + c->out_at, c->out_bytes - c->out_at, MSG_NOSIGNAL);
        if (would_wait(n)) return true;
        if (n <= 0) return false;
        c->out_at += (size_t)n;
    }
    c->out_at = c->out_bytes = 0;
    return c->state != CONN_ENDING;
}

static bool handshake(struct http_pump *p, struct conn *c)
{
    struct tls_io io = io_begin(c);
    enum err e = tls_conn_handshake(c->tls, &io);
    io_end(c, &io);
    if (e == ERR_INCOMPLETE || e == ERR_FULL) return true;
    if (e != ERR_OK) {
        log_error(p->o.log, "Monitoring TLS handshake error: %s", tls_conn_reason(c->tls));
        end_begin(c);
        return true;
    }
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) return false;
    c->pair_fd = pair[0];
    c->state = CONN_OPEN;
    c->deadline_ns = 0;
    p->o.ready(p->o.context, pair[1], (const struct sockaddr *)&c->address, c->address_bytes);
    return true;
}

static void pair_send(struct conn *c)
{
    while (c->plain_at < c->plain_bytes) {
        ssize_t n =
            send(c->pair_fd, c->plain + c->plain_at, c->plain_bytes - c->plain_at, MSG_NOSIGNAL);
        if (would_wait(n)) return;
        if (n <= 0) {
            c->is_deaf = true;
            break;
        }
        c->plain_at += (size_t)n;
    }
    c->plain_at = c->plain_bytes = 0;
}

/* Ciphertext to plaintext to the pair, until one of them has to wait. */
static void inward(struct conn *c)
{
    for (;;) {
        pair_send(c);
        if (c->plain_bytes > 0 || c->is_deaf) return;
        struct tls_io io = io_begin(c);
        size_t n = 0;
        enum err e = tls_conn_read(c->tls, &io, c->plain, PLAIN_BYTES, &n);
        io_end(c, &io);
        c->plain_bytes = n;
        switch (e) {
        case ERR_OK: break;
        case ERR_INCOMPLETE:
        case ERR_FULL: return;
        case ERR_CLOSED:
            /* The client has no more to ask; what is being answered still goes out. */
            (void)shutdown(c->pair_fd, SHUT_WR);
            c->is_deaf = true;
            return;
        default: end_begin(c); return;
        }
    }
}

/* The pair's text into out, when out is empty: so a record always fits. */
static bool outward(struct conn *c)
{
    char text[PLAIN_BYTES];
    if (c->out_bytes > 0) return true;
    ssize_t n = recv(c->pair_fd, text, sizeof text, 0);
    if (would_wait(n)) return true;
    struct tls_io io = io_begin(c);
    if (n <= 0) {
        tls_conn_shutdown(c->tls, &io);
        io_end(c, &io);
        end_begin(c);
        return c->out_bytes > 0;
    }
    size_t taken = 0;
    enum err e = tls_conn_write(c->tls, &io, bytes_of(text, (size_t)n), &taken);
    io_end(c, &io);
    return e == ERR_OK && taken == (size_t)n;
}

static bool step(struct http_pump *p, struct conn *c, uint64_t now)
{
    if (c->deadline_ns != 0 && now >= c->deadline_ns) return false;
    if (!net_receive(c)) return false;
    if (c->state == CONN_HANDSHAKE && !handshake(p, c)) return false;
    if (c->state == CONN_OPEN) inward(c);
    if (c->state == CONN_OPEN && !outward(c)) return false;
    return net_send(c);
}

static void polls_of(const struct conn *c, struct pollfd *net, struct pollfd *pair)
{
    *net = (struct pollfd){.fd = c->net_fd};
    *pair = (struct pollfd){.fd = c->pair_fd};
    if (c->in_bytes == 0 && !c->is_deaf && c->state != CONN_ENDING) net->events |= POLLIN;
    if (c->out_bytes > 0) net->events |= POLLOUT;
    if (c->state == CONN_OPEN && c->plain_bytes > 0) pair->events |= POLLOUT;
    if (c->state == CONN_OPEN && c->out_bytes == 0) pair->events |= POLLIN;
    /* A socket that hung up would wake the loop for ever even if nothing is wanted of it. */
    if (net->events == 0) net->fd = -1;
    if (pair->events == 0) pair->fd = -1;
}

/* --- the thread --- */

static void take_arrived(struct http_pump *p)
{
    uint64_t count;
    ssize_t n = read(p->wake_fd, &count, sizeof count);
    (void)n;
    pthread_mutex_lock(&p->lock);
    for (uint32_t i = 0; i < p->arrived_count; i++) p->running[p->running_count++] = p->arrived[i];
    p->arrived_count = 0;
    pthread_mutex_unlock(&p->lock);
}

static void conn_end(struct http_pump *p, uint32_t index)
{
    conn_free(p->running[index]);
    p->running[index] = p->running[--p->running_count];
    pthread_mutex_lock(&p->lock);
    p->total--;
    pthread_mutex_unlock(&p->lock);
}

/* Handshakes that nobody goes on with must not keep others out: with too many connections the
 * oldest of them goes. Of those behind their handshake io/http chooses. */
static void keep_within_bounds(struct http_pump *p)
{
    while (p->running_count > p->o.connections_max) {
        uint32_t oldest = UINT32_MAX;
        for (uint32_t i = 0; i < p->running_count; i++)
            if (p->running[i]->state == CONN_HANDSHAKE &&
                (oldest == UINT32_MAX ||
                 p->running[i]->deadline_ns < p->running[oldest]->deadline_ns))
                oldest = i;
        if (oldest == UINT32_MAX) return;
        conn_end(p, oldest);
    }
}

static int wait_ms(const struct http_pump *p, uint64_t now)
{
    uint64_t first = UINT64_MAX;
    for (uint32_t i = 0; i < p->running_count; i++) {
        uint64_t deadline = p->running[i]->deadline_ns;
        if (deadline != 0 && deadline < first) first = deadline;
    }
    if (first == UINT64_MAX) return -1;
    return first <= now ? 0 : (int)((first - now) / 1000000 + 1);
}

static void *pump_main(void *context)
{
    struct http_pump *p = context;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    pthread_setname_np(pthread_self(), "https");
    while (!atomic_load(&p->is_closing)) {
        p->polls[0] = (struct pollfd){.fd = p->wake_fd, .events = POLLIN};
        nfds_t count = 1;
        for (uint32_t i = 0; i < p->running_count; i++, count += POLLS_PER_CONN) {
            polls_of(p->running[i], &p->polls[count], &p->polls[count + 1]);
        }
        (void)poll(p->polls, count, wait_ms(p, now_ns()));
        if (p->polls[0].revents != 0) take_arrived(p);
        uint64_t now = now_ns();
        /* Backwards: an ended connection's place is taken by one that had its turn. */
        for (uint32_t i = p->running_count; i-- > 0;) {
            if (!step(p, p->running[i], now)) conn_end(p, i);
        }
        keep_within_bounds(p);
    }
    return NULL;
}

/* --- life --- */

static void pump_free(struct http_pump *p)
{
    for (uint32_t i = 0; i < p->running_count; i++) conn_free(p->running[i]);
    for (uint32_t i = 0; i < p->arrived_count; i++) conn_free(p->arrived[i]);
    free(p->arrived);
    free(p->running);
    free(p->polls);
    if (p->wake_fd >= 0) close(p->wake_fd);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

enum err http_pump_open(const struct http_pump_options *o, struct http_pump **out)
{
    must(o->connections_max > 0);
    struct http_pump *p = calloc(1, sizeof *p);
    if (p == NULL) return ERR_MEMORY;
    p->o = *o;
    pthread_mutex_init(&p->lock, NULL);
    p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    p->room = o->connections_max + CONNECTIONS_SPARE;
    p->arrived = calloc(p->room, sizeof p->arrived[0]);
    p->running = calloc(p->room, sizeof p->running[0]);
    p->polls = calloc(1 + (size_t)p->room * POLLS_PER_CONN, sizeof p->polls[0]);
    if (p->wake_fd < 0 || p->arrived == NULL || p->running == NULL || p->polls == NULL ||
        mem_jemalloc_thread(&p->thread, pump_main, p) != ERR_OK) {
        pump_free(p);
        return ERR_MEMORY;
    }
    *out = p;
    return ERR_OK;
}

enum err http_pump_take(struct http_pump *p, int fd, const struct sockaddr *address,
                        socklen_t address_bytes, struct tls_context *tls)
{
    struct conn *c = calloc(1, sizeof *c);
    if (c == NULL) {
        close(fd);
        return ERR_MEMORY;
    }
    c->net_fd = fd;
    c->pair_fd = -1;
    c->deadline_ns = now_ns() + (uint64_t)p->o.handshake_seconds * 1000000000u;
    if (address_bytes <= sizeof c->address) {
        memcpy(&c->address, address, address_bytes);
        c->address_bytes = address_bytes;
    }
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    enum err e = tls_conn_open(tls, &c->tls);
    if (e == ERR_OK) {
        pthread_mutex_lock(&p->lock);
        if (p->total == p->room) {
            e = ERR_FULL;
        } else {
            p->arrived[p->arrived_count++] = c;
            p->total++;
        }
        pthread_mutex_unlock(&p->lock);
    }
    if (e != ERR_OK) {
        conn_free(c);
        return e;
    }
    wake(p);
    return ERR_OK;
}

void http_pump_close(struct http_pump *p)
{
    if (p == NULL) return;
    atomic_store(&p->is_closing, true);
    wake(p);
    pthread_join(p->thread, NULL);
    pump_free(p);
}
