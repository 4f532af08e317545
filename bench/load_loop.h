/* Runs connections on one or more threads, in phases. A phase sends until its limit, drains, and is
 * over when every publisher has the PONG behind its last message and every expected delivery has
 * arrived (or nothing moved for the time-out). So counts are exact at both ends of a measurement.
 *
 * With one thread the caller's thread does the work: nothing is started. Between phases only the
 * caller touches connections and workers. */
#ifndef BENCH_LOAD_LOOP_H
#define BENCH_LOAD_LOOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench/load_conn.h"
#include "bench/load_opts.h"

struct load_loop;
struct load_worker;

/* A workload's own work, called once per turn of a worker during a phase. Returns when it wants to
 * be called next (monotonic ns), UINT64_MAX if only events matter. */
typedef uint64_t (*load_loop_tick_fn)(struct load_worker *worker, uint64_t now_ns);

/* Counters that the other workers read to see the end of a phase; a pair of cache lines each. */
struct load_share {
    _Alignas(128) _Atomic uint64_t delivered; /* messages received in this phase */
    _Atomic uint64_t expected;                /* deliveries owed for what was sent in this phase */
    _Atomic uint64_t busy;                    /* publishers and clients that have not finished */
};

struct load_worker {
    struct load_loop *loop;
    struct load_conn **conns; /* borrowed connections of this worker */
    struct load_conn **pubs;  /* those of them that publish from a tape */
    uint32_t conn_count;
    uint32_t pub_count;
    uint32_t index;
    int epoll_fd;
    uint8_t *buffer;         /* LOAD_CONN_READ_BYTES */
    uint64_t received;       /* messages its connections have received in this phase */
    uint64_t cpu_ns;         /* of its thread in the last phase */
    uint64_t busy_extra;     /* set by tick: its own reasons why the phase is not over */
    uint64_t expected_extra; /* set by tick: deliveries owed for what it sent in this phase */
    bool failed;             /* one of its connections did */
    bool is_paused;          /* its publishers wait: too much is undelivered */
    pthread_t thread;
    struct load_share share;
};

struct load_phase {
    uint64_t msgs;    /* messages per publisher; 0: until end_ns */
    uint64_t run_ns;  /* how long to send when msgs is 0 */
    uint64_t end_ns;  /* when to stop sending; set by load_loop_run */
    uint64_t idle_ns; /* give up after this long without progress while draining */
};

struct load_loop {
    struct load_worker *workers;
    uint32_t worker_count;
    load_loop_tick_fn tick; /* NULL without */
    void *owner;            /* of tick and of message functions */
    struct load_phase phase;
    uint64_t window; /* undelivered messages at which publishers pause; UINT64_MAX: never */
    bool spin;
    _Atomic bool gave_up; /* a worker saw no progress, or a connection failed */
    uint64_t wall_ns;     /* of the last phase, from its first send to its last delivery */
    uint64_t published;   /* messages sent in the last phase */
    uint64_t expected;
    uint64_t delivered;
    uint64_t busiest_cpu_ns; /* of the busiest worker in the last phase */
};

void load_loop_init(struct load_loop *loop, uint32_t worker_count);
void load_loop_deinit(struct load_loop *loop);

/* Gives a ready connection to a worker for the rest of its life. */
void load_loop_add(struct load_loop *loop, uint32_t worker, struct load_conn *conn);

/* Runs one phase with the msgs or run_ns and idle_ns of *phase. False: it gave up; the figures in
 * the loop then tell how far it came. */
bool load_loop_run(struct load_loop *loop, const struct load_phase *phase);

/* Registers or drops the wish to write, after output was added outside of an event. */
void load_loop_arm(struct load_worker *worker, struct load_conn *conn);

/* True while a publisher of this worker still sends in this phase. */
bool load_loop_is_publishing(const struct load_worker *worker);

/* The first failed connection's text; NULL if none failed. */
const char *load_loop_error(const struct load_loop *loop);

#endif
