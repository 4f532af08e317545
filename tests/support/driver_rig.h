/* For tests of the drivers: one of three variants, loopback connections, a checkable pattern. */
#ifndef TESTS_SUPPORT_DRIVER_RIG_H
#define TESTS_SUPPORT_DRIVER_RIG_H
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "core/base/must.h"
#include "io/driver.h"

enum { SLOTS = 2048, DONES = 64, BATCH_WAIT_NS = 200 * 1000 * 1000 };

enum variant { VARIANT_POLL, VARIANT_RING, VARIANT_PLAIN, VARIANT_COUNT };
static const char *const variant_names[] = {"poll", "ring", "plain"};

struct rig {
    enum variant variant;
    struct driver *d;
    struct driver_faults faults;
    struct done done[DONES];
    uint32_t count; /* of the last poll */
};

static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void sleep_ns(uint64_t ns)
{
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    nanosleep(&t, NULL);
}

static inline enum err variant_open(enum variant v, const struct driver_options *o,
                                    struct driver **out, const char **reason)
{
    if (v == VARIANT_POLL) return driver_poll_open(o, out, reason);
    return driver_ring_open(o, out, reason);
}

static inline void rig_open_bytes(struct rig *r, uint32_t recv_buffer_bytes)
{
    struct driver_options o = {.slots_max = SLOTS,
                               .recv_buffer_bytes = recv_buffer_bytes,
                               .use_io_features = r->variant == VARIANT_RING,
                               .faults = &r->faults};
    const char *reason;
    r->faults = (struct driver_faults){.error = EIO};
    must(variant_open(r->variant, &o, &r->d, &reason) == ERR_OK);
}

static inline void rig_open(struct rig *r)
{
    rig_open_bytes(r, 4 * 1024 * 1024);
}

static inline void rig_close(struct rig *r)
{
    must(r->d->count.cq_overflows == 0);
    r->d->ops->close(r->d);
    r->d = NULL;
}

static inline void rig_poll(struct rig *r, uint64_t timeout_ns)
{
    r->count = r->d->ops->poll(r->d, r->done, DONES, timeout_ns);
    must(r->count <= DONES);
}

/* Byte i of the stream of connection number key. */
static inline uint8_t pattern(uint32_t key, uint64_t i)
{
    return (uint8_t)((i * 131 + (i >> 8) * 17 + (i >> 16) * 3 + key * 29) & 0xff);
}

static inline void pattern_fill(uint32_t key, uint64_t from, void *out, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) ((uint8_t *)out)[i] = pattern(key, from + i);
}

static inline void pattern_check(uint32_t key, uint64_t from, const void *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) must(((const uint8_t *)data)[i] == pattern(key, from + i));
}

/* A listening TCP socket on loopback; *address is where it is. */
static inline int listener_open(struct sockaddr_in *address, int backlog)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(fd >= 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    must(bind(fd, (struct sockaddr *)address, sizeof *address) == 0);
    socklen_t len = sizeof *address;
    must(getsockname(fd, (struct sockaddr *)address, &len) == 0);
    must(listen(fd, backlog) == 0);
    return fd;
}

static inline int client_open(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    must(connect(fd, (const struct sockaddr *)address, sizeof *address) == 0);
    return fd;
}

/* A connected TCP pair: a plain blocking client end and a non-blocking server end. */
static inline void pair_open(int *client, int *server)
{
    struct sockaddr_in address;
    int fd = listener_open(&address, 4);
    *client = client_open(&address);
    must(*client >= 0);
    *server = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    must(*server >= 0);
    int one = 1;
    setsockopt(*client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(*server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    close(fd);
}

static inline void write_all(int fd, const void *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = send(fd, data, bytes, MSG_NOSIGNAL);
        must(n > 0);
        data = (const char *)data + n;
        bytes -= (size_t)n;
    }
}

static inline void read_all(int fd, void *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = recv(fd, data, bytes, 0);
        must(n > 0);
        data = (char *)data + n;
        bytes -= (size_t)n;
    }
}

/* --- for main --------------------------------------------------------------------------- */

static inline uint32_t descriptors_open(void)
{
    uint32_t count = 0;
    for (int fd = 0; fd < 4096; fd++) count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static inline bool variant_is_there(enum variant v)
{
    struct driver_options o = {.slots_max = 8, .recv_buffer_bytes = 1 << 20};
    struct driver *d;
    const char *reason;
    enum err e = variant_open(v, &o, &d, &reason);
    if (e == ERR_OK) d->ops->close(d);
    else printf("%s: left out, %s: %s\n", variant_names[v], err_text(e), reason);
    return e == ERR_OK;
}

struct rig_test {
    const char *name;
    void (*run)(struct rig *r);
};

/* Runs the tests on all variants, or on argv[1], and there only the one named argv[2]. Each must
 * leave no descriptor behind. */
static inline int rig_main(int argc, char **argv, const struct rig_test *tests, size_t count)
{
    for (int v = 0; v < VARIANT_COUNT; v++) {
        if (argc > 1 && strcmp(argv[1], variant_names[v]) != 0) continue;
#ifdef MILLRACE_SANITIZED
        /* Sanitizers cannot see what the kernel writes through a ring. */
        if (v != VARIANT_POLL && argc <= 1) continue;
#endif
        if (!variant_is_there((enum variant)v)) continue;
        for (size_t i = 0; i < count; i++) {
            if (argc > 2 && strcmp(argv[2], tests[i].name) != 0) continue;
            uint32_t before = descriptors_open();
            uint64_t from = now_ns();
            struct rig r = {.variant = (enum variant)v};
            tests[i].run(&r);
            must(descriptors_open() == before);
            printf("%s %s: %u ms\n", variant_names[v], tests[i].name,
                   (unsigned)((now_ns() - from) / 1000000));
            fflush(stdout);
        }
    }
    return 0;
}

#endif
