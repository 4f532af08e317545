/* The contract of io/driver.h, run against every driver: poll, ring, ring without new features.
// links: io
 * Each test opens its own driver, must leave no descriptor behind and no thread of its own.
 * Usage: model_driver [poll|ring|plain [name of a test]] */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include "tests/support/driver_rig.h"

/* Polls until kind is reported for slot and returns it; other completions of DONE_RECV kind are
 * released, anything else is a failure. */
static struct done wait_for(struct rig *r, enum done_kind kind, uint32_t slot)
{
    uint64_t until = now_ns() + 10000000000u;
    while (now_ns() < until) {
        rig_poll(r, BATCH_WAIT_NS);
        for (uint32_t i = 0; i < r->count; i++) {
            struct done *d = &r->done[i];
            if (d->kind == kind && d->slot == slot) {
                must(i == r->count - 1); /* tests that use this keep one thing going at a time */
                return *d;
            }
            must(d->kind == DONE_RECV);
            r->d->ops->recv_release(r->d, d->buffer);
        }
    }
    must(!"a completion is missing");
    abort();
}

static void close_and_wait(struct rig *r, uint32_t slot)
{
    r->d->ops->socket_close(r->d, slot);
    wait_for(r, DONE_CLOSED, slot);
}

/* --- echo --------------------------------------------------------------------------------- */

struct echo_slot {
    char *waiting, *flying;
    size_t waiting_bytes, flying_bytes, capacity;
};

struct echo {
    struct rig *r;
    struct echo_slot slots[SLOTS];
    uint32_t open_count;
};

static void echo_flush(struct echo *e, uint32_t slot)
{
    struct echo_slot *s = &e->slots[slot];
    if (s->flying_bytes != 0 || s->waiting_bytes == 0) return;
    char *swap = s->flying;
    s->flying = s->waiting;
    s->flying_bytes = s->waiting_bytes;
    s->waiting = swap;
    s->waiting_bytes = 0;
    /* In up to three pieces, so that both kinds of send are seen. */
    struct iovec iov[3] = {{s->flying, s->flying_bytes}, {NULL, 0}, {NULL, 0}};
    uint32_t count = 1;
    if (s->flying_bytes > 100 && slot % 2 == 0) {
        iov[0].iov_len = 33;
        iov[1] = (struct iovec){s->flying + 33, 50};
        iov[2] = (struct iovec){s->flying + 83, s->flying_bytes - 83};
        count = 3;
    }
    e->r->d->ops->send(e->r->d, slot, iov, count);
}

static void echo_one(struct echo *e, const struct done *d)
{
    struct echo_slot *s = &e->slots[d->slot];
    switch (d->kind) {
    case DONE_RECV:
        must(s->waiting_bytes + d->len <= s->capacity);
        memcpy(s->waiting + s->waiting_bytes, d->data, d->len);
        s->waiting_bytes += d->len;
        e->r->d->ops->recv_release(e->r->d, d->buffer);
        echo_flush(e, d->slot);
        break;
    case DONE_SENT:
        must(d->result == (int32_t)s->flying_bytes);
        s->flying_bytes = 0;
        echo_flush(e, d->slot);
        break;
    case DONE_EOF: e->r->d->ops->socket_close(e->r->d, d->slot); break;
    case DONE_CLOSED: e->open_count--; break;
    default: must(!"unexpected completion");
    }
}

struct echo_client {
    int *fds;
    uint32_t count, rounds;
};

static void *echo_client_main(void *argument)
{
    struct echo_client *c = argument;
    uint64_t *sent = calloc(c->count, sizeof *sent);
    char data[20000];
    unsigned seed = 7;
    for (uint32_t round = 0; round < c->rounds; round++) {
        size_t bytes[SLOTS];
        for (uint32_t i = 0; i < c->count; i++) {
            bytes[i] = 1 + (size_t)rand_r(&seed) % (round % 4 == 0 ? sizeof data : 200);
            pattern_fill(i, sent[i], data, bytes[i]);
            write_all(c->fds[i], data, bytes[i]);
        }
        for (uint32_t i = 0; i < c->count; i++) {
            read_all(c->fds[i], data, bytes[i]);
            pattern_check(i, sent[i], data, bytes[i]);
            sent[i] += bytes[i];
        }
    }
    for (uint32_t i = 0; i < c->count; i++) close(c->fds[i]);
    free(sent);
    return NULL;
}

static void test_echo(struct rig *r)
{
    enum { COUNT = 100 };
    rig_open(r);
    struct echo *e = calloc(1, sizeof *e);
    e->r = r;
    e->open_count = COUNT;
    int fds[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) {
        int server;
        pair_open(&fds[i], &server);
        e->slots[i].capacity = 64 * 1024;
        e->slots[i].waiting = malloc(e->slots[i].capacity);
        e->slots[i].flying = malloc(e->slots[i].capacity);
        must(r->d->ops->socket_add(r->d, i, i + 1000, server) == ERR_OK);
    }
    struct echo_client c = {fds, COUNT, 60};
    pthread_t thread;
    must(pthread_create(&thread, NULL, echo_client_main, &c) == 0);
    while (e->open_count > 0) {
        rig_poll(r, UINT64_MAX);
        for (uint32_t i = 0; i < r->count; i++) {
            must(r->done[i].tag == r->done[i].slot + 1000);
            echo_one(e, &r->done[i]);
        }
    }
    pthread_join(thread, NULL);
    for (uint32_t i = 0; i < COUNT; i++) {
        free(e->slots[i].waiting);
        free(e->slots[i].flying);
    }
    free(e);
    rig_close(r);
}

/* --- sends -------------------------------------------------------------------------------- */

struct reader {
    int fd;
    size_t bytes;
    uint64_t pause_ns; /* after each read */
};

static void *reader_main(void *argument)
{
    struct reader *c = argument;
    char data[8192];
    for (size_t at = 0; at < c->bytes;) {
        ssize_t n = recv(c->fd, data, sizeof data, 0);
        must(n > 0);
        pattern_check(5, at, data, (size_t)n);
        at += (size_t)n;
        if (c->pause_ns != 0 && at % (1 << 20) < 8192) sleep_ns(c->pause_ns);
    }
    return NULL;
}

static void send_big(struct rig *r, uint32_t pieces)
{
    enum { BYTES = 12 * 1024 * 1024 };
    int client, server;
    pair_open(&client, &server);
    must(r->d->ops->socket_add(r->d, 3, 9, server) == ERR_OK);
    char *data = malloc(BYTES);
    pattern_fill(5, 0, data, BYTES);
    struct iovec iov[DRIVER_IOV_MAX];
    size_t piece = BYTES / pieces;
    for (uint32_t i = 0; i < pieces; i++)
        iov[i] = (struct iovec){data + i * piece, i == pieces - 1 ? BYTES - i * piece : piece};
    struct reader c = {client, BYTES, 2000000};
    pthread_t thread;
    must(pthread_create(&thread, NULL, reader_main, &c) == 0);
    r->d->ops->send(r->d, 3, iov, pieces);
    memset(iov, 0, sizeof iov); /* the driver has its own copy */
    struct done d = wait_for(r, DONE_SENT, 3);
    must(d.result == BYTES);
    must(d.tag == 9);
    pthread_join(thread, NULL);
    close_and_wait(r, 3);
    close(client);
    free(data);
}

static void test_big_sends_reach_a_slow_reader_whole(struct rig *r)
{
    rig_open(r);
    send_big(r, 1);
    send_big(r, 2);
    send_big(r, DRIVER_IOV_MAX);
    r->faults.send_bytes_max = 70001;
    send_big(r, 1);
    send_big(r, DRIVER_IOV_MAX);
    rig_close(r);
}

static void test_close_joins_a_send_in_flight(struct rig *r)
{
    enum { BYTES = 32 * 1024 * 1024 };
    rig_open(r);
    char *data = calloc(1, BYTES);
    for (uint32_t round = 0; round < 6; round++) {
        int client, server;
        pair_open(&client, &server);
        must(r->d->ops->socket_add(r->d, 0, round, server) == ERR_OK);
        struct iovec iov[2] = {{data, BYTES / 2}, {data, BYTES / 2}};
        r->d->ops->send(r->d, 0, iov, 1 + round % 2);
        for (uint32_t i = 0; i < 3 && round % 3 != 0; i++) {
            rig_poll(r, 1000000);
            must(r->count == 0);
        }
        r->d->ops->socket_close(r->d, 0);
        r->d->ops->socket_close(r->d, 0);
        uint32_t sent_count = 0;
        bool is_closed = false;
        uint64_t until = now_ns() + 5000000000u;
        while (!is_closed) {
            rig_poll(r, BATCH_WAIT_NS);
            must(now_ns() < until);
            for (uint32_t i = 0; i < r->count; i++) {
                must(r->done[i].tag == round);
                must(!is_closed);
                if (r->done[i].kind == DONE_SENT) {
                    must(r->done[i].result < 0);
                    sent_count++;
                } else {
                    must(r->done[i].kind == DONE_CLOSED);
                    is_closed = true;
                }
            }
        }
        must(sent_count == 1);
        close(client);
    }
    free(data);
    rig_close(r);
}

/* --- receives ----------------------------------------------------------------------------- */

struct writer_client {
    int fd;
    uint32_t key;
    size_t bytes;
};

static void *writer_main(void *argument)
{
    struct writer_client *c = argument;
    char data[30000];
    unsigned seed = c->key;
    for (size_t at = 0; at < c->bytes;) {
        size_t n = 1 + (size_t)rand_r(&seed) % sizeof data;
        if (n > c->bytes - at) n = c->bytes - at;
        pattern_fill(c->key, at, data, n);
        write_all(c->fd, data, n);
        at += n;
    }
    shutdown(c->fd, SHUT_WR);
    return NULL;
}

static void test_suspend_and_resume_lose_nothing(struct rig *r)
{
    enum { BYTES = 6 * 1024 * 1024 };
    rig_open_bytes(r, 512 * 1024);
    int client, server;
    pair_open(&client, &server);
    must(r->d->ops->socket_add(r->d, 1, 77, server) == ERR_OK);
    struct writer_client c = {client, 11, BYTES};
    pthread_t thread;
    must(pthread_create(&thread, NULL, writer_main, &c) == 0);
    size_t got = 0;
    bool is_ended = false;
    unsigned seed = 3;
    uint32_t quiet_count = 0;
    while (!is_ended) {
        int dice = rand_r(&seed) % 8;
        bool is_suspended = dice < 4;
        if (is_suspended) {
            r->d->ops->recv_suspend(r->d, 1);
            if (dice == 0) r->d->ops->recv_suspend(r->d, 1);
            if (dice == 1) {
                r->d->ops->recv_resume(r->d, 1);
                r->d->ops->recv_suspend(r->d, 1);
            }
        }
        for (uint32_t turn = 0; turn < 6; turn++) {
            rig_poll(r, is_suspended ? 100000 : 2000000);
            if (is_suspended && r->count == 0) quiet_count++;
            for (uint32_t i = 0; i < r->count; i++) {
                struct done *d = &r->done[i];
                must(!is_ended);
                if (d->kind == DONE_EOF) {
                    is_ended = true;
                    continue;
                }
                must(d->kind == DONE_RECV && d->slot == 1 && d->tag == 77);
                pattern_check(11, got, d->data, d->len);
                got += d->len;
                r->d->ops->recv_release(r->d, d->buffer);
            }
        }
        r->d->ops->recv_resume(r->d, 1);
    }
    must(got == BYTES);
    must(quiet_count > 0);
    /* Suspended for good: what arrives stays in the kernel. */
    pthread_join(thread, NULL);
    close_and_wait(r, 1);
    close(client);
    rig_close(r);
}

static void test_a_suspended_socket_is_quiet(struct rig *r)
{
    rig_open(r);
    int client, server;
    pair_open(&client, &server);
    must(r->d->ops->socket_add(r->d, 1, 0, server) == ERR_OK);
    r->d->ops->recv_suspend(r->d, 1);
    rig_poll(r, 1000000);
    char data[1000];
    pattern_fill(1, 0, data, sizeof data);
    write_all(client, data, sizeof data);
    shutdown(client, SHUT_WR);
    uint64_t polls_from = r->d->count.polls;
    uint64_t until = now_ns() + 20000000;
    while (now_ns() < until) {
        rig_poll(r, 5000000);
        must(r->count == 0);
    }
    must(r->d->count.polls - polls_from < 30); /* it slept */
    /* A send still works, and so does its completion. */
    struct iovec iov = {data, sizeof data};
    r->d->ops->send(r->d, 1, &iov, 1);
    must(wait_for(r, DONE_SENT, 1).result == sizeof data);
    r->d->ops->recv_resume(r->d, 1);
    size_t got = 0;
    bool is_ended = false;
    until = now_ns() + 5000000000u;
    while (!is_ended) {
        rig_poll(r, BATCH_WAIT_NS);
        must(now_ns() < until);
        for (uint32_t i = 0; i < r->count; i++) {
            if (r->done[i].kind == DONE_EOF) {
                is_ended = true;
            } else {
                must(r->done[i].kind == DONE_RECV);
                pattern_check(1, got, r->done[i].data, r->done[i].len);
                got += r->done[i].len;
                r->d->ops->recv_release(r->d, r->done[i].buffer);
            }
        }
    }
    must(got == sizeof data);
    close_and_wait(r, 1);
    close(client);
    rig_close(r);
}

/* Buffers are held until nothing comes any more, then returned in a random order. */
static void test_held_buffers_only_delay(struct rig *r)
{
    enum { COUNT = 12, BYTES = 400 * 1024, HELD_MAX = 4096 };
    rig_open_bytes(r, 256 * 1024);
    int fds[COUNT];
    struct writer_client clients[COUNT];
    pthread_t threads[COUNT];
    size_t got[COUNT] = {0};
    for (uint32_t i = 0; i < COUNT; i++) {
        int server;
        pair_open(&fds[i], &server);
        must(r->d->ops->socket_add(r->d, i, i, server) == ERR_OK);
        clients[i] = (struct writer_client){fds[i], i, BYTES};
        must(pthread_create(&threads[i], NULL, writer_main, &clients[i]) == 0);
    }
    uint32_t held[HELD_MAX], held_count = 0, ended_count = 0, quiet_count = 0;
    unsigned seed = 5;
    while (ended_count < COUNT) {
        rig_poll(r, 3000000);
        if (r->count == 0) quiet_count++;
        for (uint32_t i = 0; i < r->count; i++) {
            struct done *d = &r->done[i];
            if (d->kind == DONE_EOF) {
                ended_count++;
                continue;
            }
            must(d->kind == DONE_RECV);
            pattern_check(d->slot, got[d->slot], d->data, d->len);
            got[d->slot] += d->len;
            must(held_count < HELD_MAX);
            held[held_count++] = d->buffer;
        }
        if (r->count != 0 && rand_r(&seed) % 16 != 0) continue;
        /* A suspended socket must not keep the place of one that waits for buffers. */
        for (uint32_t i = 0; i < COUNT; i++)
            if (rand_r(&seed) % 3 == 0) r->d->ops->recv_suspend(r->d, i);
        while (held_count > 0) {
            uint32_t at = (uint32_t)rand_r(&seed) % held_count;
            r->d->ops->recv_release(r->d, held[at]);
            held[at] = held[--held_count];
        }
        if (rand_r(&seed) % 2 == 0)
            rig_poll(r, 0);
        else
            r->count = 0;
        for (uint32_t i = 0; i < r->count; i++) {
            struct done *d = &r->done[i];
            if (d->kind == DONE_EOF) {
                ended_count++;
                continue;
            }
            pattern_check(d->slot, got[d->slot], d->data, d->len);
            got[d->slot] += d->len;
            r->d->ops->recv_release(r->d, d->buffer);
        }
        for (uint32_t i = 0; i < COUNT; i++) r->d->ops->recv_resume(r->d, i);
    }
    must(quiet_count > 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        must(got[i] == BYTES);
        pthread_join(threads[i], NULL);
        close_and_wait(r, i);
        close(fds[i]);
    }
    rig_close(r);
}

static void test_a_reset_is_reported_once(struct rig *r)
{
    rig_open(r);
    for (uint32_t round = 0; round < 4; round++) {
        int client, server;
        pair_open(&client, &server);
        must(r->d->ops->socket_add(r->d, 2, round, server) == ERR_OK);
        rig_poll(r, 1000000);
        if (round % 2 == 1) r->d->ops->recv_suspend(r->d, 2);
        rig_poll(r, 1000000);
        struct linger hard = {1, 0};
        setsockopt(client, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        close(client);
        if (round % 2 == 1) {
            uint64_t polls_from = r->d->count.polls;
            uint64_t until = now_ns() + 5000000;
            while (now_ns() < until) rig_poll(r, 5000000);
            must(r->d->count.polls - polls_from < 10);
            r->d->ops->recv_resume(r->d, 2);
        }
        struct done d = wait_for(r, DONE_ERROR, 2);
        must(d.result == -ECONNRESET);
        rig_poll(r, 2000000);
        must(r->count == 0);
        char text[] = "x";
        struct iovec iov = {text, 1};
        r->d->ops->send(r->d, 2, &iov, 1);
        must(wait_for(r, DONE_SENT, 2).result < 0);
        close_and_wait(r, 2);
    }
    rig_close(r);
}

/* Linux 6.18: a multishot receive that finds more than 32 pieces when it is armed, and a reset
 * behind them, takes the pieces and waits for ever. */
static void test_a_reset_behind_a_backlog_is_reported(struct rig *r)
{
    enum { BACKLOG = 2 * 1024 * 1024 };
    rig_open(r);
    char *data = calloc(1, BACKLOG);
    for (uint32_t round = 0; round < 8; round++) {
        int client, server, room = BACKLOG;
        pair_open(&client, &server);
        setsockopt(server, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
        setsockopt(client, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
        must(r->d->ops->socket_add(r->d, 2, round, server) == ERR_OK);
        r->d->ops->recv_suspend(r->d, 2);
        rig_poll(r, 0);
        for (uint32_t i = 0; i < 20; i++) {
            if (send(client, data, BACKLOG, MSG_DONTWAIT) < 0) sleep_ns(100000);
        }
        struct linger hard = {1, 0};
        setsockopt(client, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        close(client);
        r->d->ops->recv_resume(r->d, 2);
        bool is_ended = false;
        uint64_t until = now_ns() + 5000000000u;
        while (!is_ended) {
            must(now_ns() < until);
            rig_poll(r, BATCH_WAIT_NS);
            for (uint32_t i = 0; i < r->count; i++) {
                struct done *d = &r->done[i];
                if (d->kind == DONE_RECV) r->d->ops->recv_release(r->d, d->buffer);
                if (d->kind != DONE_RECV) must(d->kind == DONE_ERROR && d->result == -ECONNRESET);
                is_ended = d->kind == DONE_ERROR;
            }
        }
        close_and_wait(r, 2);
    }
    free(data);
    rig_close(r);
}

/* --- accepting ---------------------------------------------------------------------------- */

static void *connect_main(void *argument)
{
    const struct sockaddr_in *address = argument;
    for (uint32_t i = 0; i < 400; i++) close(client_open(address));
    return NULL;
}

static void test_an_accept_storm_is_taken_whole(struct rig *r)
{
    rig_open(r);
    struct sockaddr_in address;
    int listener = listener_open(&address, 1024); /* no request is dropped and repeated */
    must(r->d->ops->listen(r->d, 10, 4, listener) == ERR_OK);
    pthread_t thread;
    must(pthread_create(&thread, NULL, connect_main, &address) == 0);
    uint64_t until = now_ns() + 20000000000u;
    for (uint32_t accepted = 0; accepted < 400;) {
        rig_poll(r, BATCH_WAIT_NS);
        must(now_ns() < until);
        for (uint32_t i = 0; i < r->count; i++) {
            struct done *d = &r->done[i];
            must(d->kind == DONE_ACCEPT && d->slot == 10 && d->tag == 4 && d->result >= 0);
            must(fcntl(d->fd, F_GETFD) == FD_CLOEXEC);
            must((fcntl(d->fd, F_GETFL) & O_NONBLOCK) != 0);
            close(d->fd);
            accepted++;
        }
    }
    pthread_join(thread, NULL);
    /* After the stop nothing is reported, and the slot serves again at once. */
    int late = client_open(&address);
    r->d->ops->listen_stop(r->d, 10);
    close(listener);
    listener = listener_open(&address, 128);
    must(r->d->ops->listen(r->d, 10, 5, listener) == ERR_OK);
    int client = client_open(&address);
    struct done d = wait_for(r, DONE_ACCEPT, 10);
    must(d.tag == 5);
    close(d.fd);
    close(client);
    close(late);
    r->d->ops->listen_stop(r->d, 10);
    for (uint32_t i = 0; i < 3; i++) {
        rig_poll(r, 1000000);
        must(r->count == 0);
    }
    close(listener);
    rig_close(r);
}

static void test_no_descriptors_left_does_not_spin(struct rig *r)
{
    rig_open(r);
    struct sockaddr_in address;
    int listener = listener_open(&address, 16);
    struct rlimit before, tight;
    getrlimit(RLIMIT_NOFILE, &before);
    int clients[4];
    for (uint32_t i = 0; i < 4; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        must(clients[i] >= 0);
    }
    tight = before;
    tight.rlim_cur = (rlim_t)clients[3] + 1;
    must(setrlimit(RLIMIT_NOFILE, &tight) == 0);
    /* The ring keeps the limit that held when the accept was armed. */
    must(r->d->ops->listen(r->d, 0, 0, listener) == ERR_OK);
    for (uint32_t i = 0; i < 4; i++)
        must(connect(clients[i], (struct sockaddr *)&address, sizeof address) == 0);
    uint32_t refused_count = 0;
    uint64_t polls_from = r->d->count.polls;
    uint64_t until = now_ns() + 300000000;
    while (now_ns() < until) {
        rig_poll(r, 50000000);
        for (uint32_t i = 0; i < r->count; i++) {
            must(r->done[i].kind == DONE_ACCEPT);
            must(r->done[i].result == -EMFILE);
            refused_count++;
        }
    }
    must(refused_count >= 1);
    must(r->d->count.polls - polls_from < 60);
    must(setrlimit(RLIMIT_NOFILE, &before) == 0);
    int client = client_open(&address);
    uint32_t accepted_count = 0;
    until = now_ns() + 5000000000;
    while (accepted_count < 1 && now_ns() < until) {
        rig_poll(r, BATCH_WAIT_NS);
        for (uint32_t i = 0; i < r->count; i++) {
            if (r->done[i].result < 0) {
                refused_count++;
                continue;
            }
            accepted_count++;
            close(r->done[i].fd);
        }
    }
    must(accepted_count >= 1);
    r->d->ops->listen_stop(r->d, 0);
    for (uint32_t i = 0; i < 4; i++) close(clients[i]);
    close(client);
    close(listener);
    rig_close(r);
}

/* --- waking and waiting ------------------------------------------------------------------- */

struct waker {
    struct driver *d;
    atomic_uint asked, answered;
    uint32_t rounds;
};

static void *waker_main(void *argument)
{
    struct waker *w = argument;
    for (uint32_t i = 1; i <= w->rounds; i++) {
        atomic_fetch_add(&w->asked, 1);
        w->d->ops->wake(w->d);
        /* Now and then several in a row, and then one that must be answered. */
        if (i % 5 != 0) continue;
        while (atomic_load(&w->answered) != i) sched_yield();
    }
    return NULL;
}

static void test_no_wake_is_lost(struct rig *r)
{
    enum { THREADS = 2, ROUNDS = 50000 };
    rig_open(r);
    struct waker wakers[THREADS];
    pthread_t threads[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        wakers[i] = (struct waker){.d = r->d, .rounds = ROUNDS};
        must(pthread_create(&threads[i], NULL, waker_main, &wakers[i]) == 0);
    }
    for (;;) {
        uint32_t answered = 0;
        for (uint32_t i = 0; i < THREADS; i++) {
            uint32_t asked = atomic_load(&wakers[i].asked);
            atomic_store(&wakers[i].answered, asked);
            answered += asked;
        }
        if (answered == THREADS * ROUNDS) break;
        rig_poll(r, 5000000000u);
        must(r->count == 1); /* a lost wake would end in the timeout */
        must(r->done[0].kind == DONE_WAKE);
    }
    for (uint32_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    rig_close(r);
}

static void test_timeouts_are_kept(struct rig *r)
{
    rig_open(r);
    rig_poll(r, 0);
    const uint64_t timeouts_ns[] = {0, 50000, 1000000, 20000000};
    for (uint32_t i = 0; i < 4; i++) {
        uint64_t best_ns = UINT64_MAX;
        for (uint32_t again = 0; again < 5; again++) {
            uint64_t from = now_ns();
            rig_poll(r, timeouts_ns[i]);
            uint64_t took_ns = now_ns() - from;
            must(r->count == 0);
            must(took_ns >= timeouts_ns[i]);
            if (took_ns < best_ns) best_ns = took_ns;
        }
        must(best_ns < timeouts_ns[i] + 5000000);
    }
    rig_close(r);
}

static void test_a_watched_descriptor_is_reported(struct rig *r)
{
    rig_open(r);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->d->ops->watch(r->d, 8, fd);
    rig_poll(r, 1000000);
    must(r->count == 0);
    uint64_t value = 1;
    for (uint32_t i = 0; i < 3; i++) {
        must(write(fd, &value, sizeof value) == sizeof value);
        must(wait_for(r, DONE_WATCH, 8).kind == DONE_WATCH);
        must(wait_for(r, DONE_WATCH, 8).kind == DONE_WATCH); /* not drained: again */
        must(read(fd, &value, sizeof value) == sizeof value);
        rig_poll(r, 1000000);
        if (r->count != 0) rig_poll(r, 1000000); /* one may have been on its way */
        must(r->count == 0);
        value = 1;
    }
    rig_close(r);
    close(fd);
}

/* --- files -------------------------------------------------------------------------------- */

static int32_t file_run(struct rig *r, struct file_op *op)
{
    op->user = op;
    must(r->d->ops->file_submit(r->d, op) == ERR_OK);
    struct done d = wait_for(r, DONE_FILE, 0);
    must(d.user == op);
    return d.result;
}

static void test_files_can_be_written_and_read(struct rig *r)
{
    rig_open(r);
    char folder[] = "/tmp/model_driver_XXXXXX";
    must(mkdtemp(folder) != NULL);
    int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct file_op make = {.kind = FILE_MKDIR, .fd = dir, .path = "sub"};
    must(file_run(r, &make) == 0);
    must(file_run(r, &make) == 0);
    struct file_op open_op = {
        .kind = FILE_OPEN, .fd = dir, .path = "a", .open_flags = O_RDWR | O_CREAT | O_EXCL};
    int fd = file_run(r, &open_op);
    must(fd >= 0);
    must(file_run(r, &open_op) == -EEXIST);
    struct file_op grow = {.kind = FILE_ALLOCATE, .fd = fd, .bytes_total = 1 << 20};
    must(file_run(r, &grow) == 0);
    struct file_op size = {.kind = FILE_SIZE, .fd = fd};
    must(file_run(r, &size) == 0);
    must(size.size_result == 1 << 20);

    enum { COUNT = 20, BLOCK = 4096 };
    struct file_op ops[COUNT] = {0};
    uint8_t *blocks = malloc(COUNT * BLOCK);
    pattern_fill(1, 0, blocks, COUNT * BLOCK);
    for (uint32_t i = 0; i < COUNT; i++) {
        ops[i] = (struct file_op){.kind = FILE_WRITE,
                                  .fd = fd,
                                  .is_durable = i % 2 == 0,
                                  .data = blocks + i * BLOCK,
                                  .bytes = BLOCK,
                                  .offset = i * BLOCK,
                                  .user = &ops[i]};
        must(r->d->ops->file_submit(r->d, &ops[i]) == ERR_OK);
    }
    for (uint32_t ended = 0; ended < COUNT;) {
        rig_poll(r, UINT64_MAX);
        for (uint32_t i = 0; i < r->count; i++) {
            must(r->done[i].kind == DONE_FILE && r->done[i].result == BLOCK);
            struct file_op *op = r->done[i].user;
            must(op->bytes == BLOCK);
            op->bytes = 0; /* each once */
            ended++;
        }
    }
    struct file_op flush = {.kind = FILE_FLUSH, .fd = fd};
    must(file_run(r, &flush) == 0);
    memset(blocks, 0, COUNT * BLOCK);
    struct file_op read_op = {.kind = FILE_READ, .fd = fd, .data = blocks, .bytes = COUNT * BLOCK};
    must(file_run(r, &read_op) == COUNT * BLOCK);
    pattern_check(1, 0, blocks, COUNT * BLOCK);
    free(blocks);
    struct file_op cut = {.kind = FILE_TRUNCATE, .fd = fd, .offset = 100};
    must(file_run(r, &cut) == 0);
    must(file_run(r, &size) == 0 && size.size_result == 100);
    struct file_op rename_op = {.kind = FILE_RENAME, .fd = dir, .path = "a", .path_to = "b"};
    must(file_run(r, &rename_op) == 0);
    struct file_op sync_op = {.kind = FILE_FLUSH_DIR, .fd = dir, .path = "."};
    must(file_run(r, &sync_op) == 0);
    struct file_op gone = {.kind = FILE_UNLINK, .fd = dir, .path = "a"};
    must(file_run(r, &gone) == -ENOENT);
    gone.path = "b";
    must(file_run(r, &gone) == 0);
    struct file_op close_op = {.kind = FILE_CLOSE, .fd = fd};
    must(file_run(r, &close_op) == 0);
    must(unlinkat(dir, "sub", AT_REMOVEDIR) == 0);
    close(dir);
    must(rmdir(folder) == 0);
    rig_close(r);
}

/* --- injected failures and the end ------------------------------------------------------------ */

static void test_injected_failures_are_reported(struct rig *r)
{
    for (uint64_t n = 1; n <= 3; n++) {
        rig_open(r);
        r->faults.recv_at = n;
        r->faults.send_at = n;
        int client, server;
        pair_open(&client, &server);
        must(r->d->ops->socket_add(r->d, 0, 0, server) == ERR_OK);
        char text[] = "hello";
        struct iovec iov = {text, 5};
        for (uint64_t i = 1; i <= n; i++) {
            r->d->ops->send(r->d, 0, &iov, 1);
            struct done d = wait_for(r, DONE_SENT, 0);
            must(d.result == (i == n ? -EIO : 5));
        }
        for (uint64_t i = 1; i <= n; i++) {
            write_all(client, text, 5);
            struct done d = wait_for(r, i == n ? DONE_ERROR : DONE_RECV, 0);
            if (i == n)
                must(d.result == -EIO);
            else
                r->d->ops->recv_release(r->d, d.buffer);
        }
        write_all(client, text, 5);
        rig_poll(r, 2000000);
        must(r->count == 0);
        close_and_wait(r, 0);
        close(client);

        r->faults.accept_at = n;
        struct sockaddr_in address;
        int listener = listener_open(&address, 16);
        must(r->d->ops->listen(r->d, 1, 0, listener) == ERR_OK);
        for (uint64_t i = 1; i <= n + 1; i++) {
            client = client_open(&address);
            struct done d = wait_for(r, DONE_ACCEPT, 1);
            if (i == n)
                must(d.result == -EIO && d.fd == -1);
            else
                close(d.fd);
            close(client);
        }
        r->d->ops->listen_stop(r->d, 1);
        close(listener);
        rig_close(r);
    }
}

static void test_a_slot_serves_its_next_holder(struct rig *r)
{
    rig_open(r);
    for (uint32_t round = 0; round < 300; round++) {
        int client, server;
        pair_open(&client, &server);
        must(r->d->ops->socket_add(r->d, 5, round, server) == ERR_OK);
        char text[40];
        pattern_fill(round, 0, text, sizeof text);
        write_all(client, text, sizeof text);
        if (round % 3 == 0) {
            struct done d = wait_for(r, DONE_RECV, 5);
            must(d.tag == round && d.len == sizeof text);
            pattern_check(round, 0, d.data, d.len);
            r->d->ops->recv_release(r->d, d.buffer);
        }
        if (round % 4 == 0) r->d->ops->recv_suspend(r->d, 5);
        r->d->ops->socket_close(r->d, 5);
        must(wait_for(r, DONE_CLOSED, 5).tag == round);
        close(client);
    }
    rig_close(r);
}

/* More at once than the submission queue of a ring has entries. */
static void test_many_operations_at_once(struct rig *r)
{
    enum { COUNT = 1500 };
    rig_open(r);
    int *clients = malloc(COUNT * sizeof *clients);
    struct file_op *ops = calloc(COUNT, sizeof *ops);
    char text[] = "abc", back[COUNT][4];
    int file = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    for (uint32_t i = 0; i < COUNT; i++) {
        int server;
        pair_open(&clients[i], &server);
        must(r->d->ops->socket_add(r->d, i, i, server) == ERR_OK);
        struct iovec iov = {text, 3};
        r->d->ops->send(r->d, i, &iov, 1);
        ops[i] = (struct file_op){.kind = FILE_READ, .fd = file, .data = back[i], .bytes = 4};
        must(r->d->ops->file_submit(r->d, &ops[i]) == ERR_OK);
        write_all(clients[i], text, 3);
    }
    uint32_t sent_count = 0, read_count = 0, recv_count = 0, closed_count = 0;
    uint64_t until = now_ns() + 20000000000u;
    while (closed_count < COUNT) {
        must(now_ns() < until);
        rig_poll(r, BATCH_WAIT_NS);
        for (uint32_t i = 0; i < r->count; i++) {
            struct done *d = &r->done[i];
            switch (d->kind) {
            case DONE_SENT: sent_count += d->result == 3; break;
            case DONE_FILE: read_count += d->result == 4; break;
            case DONE_CLOSED: closed_count++; break;
            default:
                must(d->kind == DONE_RECV && d->len == 3);
                recv_count++;
                r->d->ops->recv_release(r->d, d->buffer);
            }
        }
        if (sent_count != COUNT || read_count != COUNT || recv_count != COUNT) continue;
        sent_count = 0;
        for (uint32_t i = 0; i < COUNT; i++) r->d->ops->socket_close(r->d, i);
    }
    for (uint32_t i = 0; i < COUNT; i++) close(clients[i]);
    close(file);
    free(ops);
    free(clients);
    rig_close(r);
}

static void test_close_with_everything_open(struct rig *r)
{
    enum { COUNT = 8, BYTES = 8 * 1024 * 1024 };
    rig_open(r);
    struct sockaddr_in address;
    int listener = listener_open(&address, 16);
    must(r->d->ops->listen(r->d, 100, 0, listener) == ERR_OK);
    int watched = eventfd(1, EFD_CLOEXEC);
    r->d->ops->watch(r->d, 101, watched);
    char *data = calloc(1, BYTES);
    int clients[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) {
        int server;
        pair_open(&clients[i], &server);
        must(r->d->ops->socket_add(r->d, i, 0, server) == ERR_OK);
        write_all(clients[i], "12345", 5);
        struct iovec iov[2] = {{data, BYTES / 2}, {data, BYTES / 2}};
        r->d->ops->send(r->d, i, iov, 1 + i % 2);
    }
    rig_poll(r, 1000000);
    rig_close(r);
    for (uint32_t i = 0; i < COUNT; i++) close(clients[i]);
    close(watched);
    close(listener);
    free(data);
}

static const struct rig_test tests[] = {
    {"echo", test_echo},
    {"big_sends", test_big_sends_reach_a_slow_reader_whole},
    {"close_joins", test_close_joins_a_send_in_flight},
    {"suspend", test_suspend_and_resume_lose_nothing},
    {"quiet", test_a_suspended_socket_is_quiet},
    {"held", test_held_buffers_only_delay},
    {"reset", test_a_reset_is_reported_once},
    {"reset_backlog", test_a_reset_behind_a_backlog_is_reported},
    {"storm", test_an_accept_storm_is_taken_whole},
    {"emfile", test_no_descriptors_left_does_not_spin},
    {"wake", test_no_wake_is_lost},
    {"timeout", test_timeouts_are_kept},
    {"watch", test_a_watched_descriptor_is_reported},
    {"files", test_files_can_be_written_and_read},
    {"faults", test_injected_failures_are_reported},
    {"reuse", test_a_slot_serves_its_next_holder},
    {"many", test_many_operations_at_once},
    {"close", test_close_with_everything_open},
};

int main(int argc, char **argv)
{
    return rig_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
