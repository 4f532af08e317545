/* A very small NATS server for the self-test of the load generator: plain and queue subscriptions,
 * exact subjects or a trailing ".*", one thread, this process. It can be told to break one rule,
 * once. Not meant to be fast, safe or complete. */
#ifndef BENCH_LOAD_FAKE_H
#define BENCH_LOAD_FAKE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench/load_conn.h"

enum {
    LOAD_FAKE_CONNS_MAX = 64,
    LOAD_FAKE_SUBS_MAX = 1024,
    LOAD_FAKE_BREAK_AT = 1000, /* the delivery that the break hits */
};

enum load_fake_break {
    LOAD_FAKE_HONEST,
    LOAD_FAKE_DROP,          /* one delivery is left out */
    LOAD_FAKE_TWICE,         /* one comes twice */
    LOAD_FAKE_SWAP,          /* two neighbours change places */
    LOAD_FAKE_CONTENT,       /* one bit of a payload flips */
    LOAD_FAKE_SID,           /* an unknown sid */
    LOAD_FAKE_SUBJECT,       /* another subject */
    LOAD_FAKE_DROP_AND_COPY, /* one is lost and another comes twice: the count is right */
    LOAD_FAKE_HANG_UP,       /* the connection is closed */
    LOAD_FAKE_BREAK_COUNT
};

struct load_fake_sub {
    uint32_t conn;
    uint64_t sid;
    char filter[64];
    char queue[32];
};

struct load_fake_conn {
    int fd; /* -1: free */
    struct load_bytes in;
    struct load_bytes out;
};

struct load_fake {
    pthread_t thread;
    _Atomic bool stop;
    enum load_fake_break breakage;
    int listen_fd;
    char port[8];
    struct load_fake_conn conns[LOAD_FAKE_CONNS_MAX];
    struct load_fake_sub subs[LOAD_FAKE_SUBS_MAX];
    uint32_t sub_count;
    uint64_t deliveries;
    uint64_t turn;          /* of queue groups */
    uint64_t pongs;         /* answers to its own PINGs */
    struct load_bytes held; /* the message that SWAP and DROP_AND_COPY keep back */
};

/* Listens on a loopback port of the system's choice and serves in a thread of its own. */
void load_fake_start(struct load_fake *fake, enum load_fake_break breakage);

/* Stops and joins. */
void load_fake_stop(struct load_fake *fake);

#endif
