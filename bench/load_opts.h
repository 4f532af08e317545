/* What one run of the load generator shall do: the command line as a struct.
 * Every number has a bound, so that every run stops by itself. */
#ifndef BENCH_LOAD_OPTS_H
#define BENCH_LOAD_OPTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    LOAD_TEXT_MAX = 256,         /* host, user, password, token */
    LOAD_THREADS_MAX = 64,       /* workers; each has its own epoll */
    LOAD_CONNS_MAX = 200000,     /* connections of one run, all roles together */
    LOAD_SUBJECTS_MAX = 8000000, /* distinct subjects, or subscriptions of workload subs */
    LOAD_STREAMS_MAX = 100000,
    LOAD_INFLIGHT_MAX = 1000000,
    LOAD_BATCH_MAX = 10000,
    LOAD_SIZE_MAX = 64 * 1024 * 1024,
    LOAD_SECONDS_MAX = 3600,
    LOAD_STAMP_BYTES = 16, /* publisher and sequence, or send time and sequence, in a payload */
};

enum load_workload {
    LOAD_WORKLOAD_PUB,
    LOAD_WORKLOAD_PUBSUB,
    LOAD_WORKLOAD_PAIRS,
    LOAD_WORKLOAD_QUEUE,
    LOAD_WORKLOAD_SUBJECTS,
    LOAD_WORKLOAD_SUBS,
    LOAD_WORKLOAD_REQREP,
    LOAD_WORKLOAD_LATENCY,
    LOAD_WORKLOAD_STORM,
    LOAD_WORKLOAD_IDLE,
    LOAD_WORKLOAD_CHURN,
    LOAD_WORKLOAD_JSPUB,
    LOAD_WORKLOAD_JSFILL,
    LOAD_WORKLOAD_JSTAKE,
    LOAD_WORKLOAD_JSFIRST,
    LOAD_WORKLOAD_KVPUT,
    LOAD_WORKLOAD_KVGET,
    LOAD_WORKLOAD_SELFTEST,
    LOAD_WORKLOAD_COUNT
};

enum load_mode { LOAD_MODE_PUSH, LOAD_MODE_FETCH, LOAD_MODE_ACK };

enum load_stalled { LOAD_STALLED_NONE, LOAD_STALLED_OTHER, LOAD_STALLED_SAME };

struct load_opts {
    enum load_workload workload;
    char host[LOAD_TEXT_MAX];
    char port[8];
    char user[LOAD_TEXT_MAX]; /* empty: none */
    char pass[LOAD_TEXT_MAX];
    char token[LOAD_TEXT_MAX];
    uint64_t msgs;        /* measured messages of all publishers together; 0: by duration */
    uint64_t duration_ns; /* measured time when msgs is 0 */
    uint64_t warmup_ns;   /* traffic before the measured part, drained before it begins */
    uint64_t timeout_ns;  /* a drain without progress for this long ends the run */
    uint64_t rate;        /* latency: messages per second */
    uint64_t
        window_bytes;    /* undelivered bytes per subscriber at which publishers pause; 0: never */
    uint64_t churn_rate; /* churn: SUB plus UNSUB per second; 0: as fast as the server answers */
    uint32_t size;       /* payload bytes */
    uint32_t pubs;       /* publishers; clients of reqrep; pairs */
    uint32_t subs;       /* subscriber connections; services of reqrep; members of each group */
    uint32_t fanout;     /* subscriptions on each subscriber connection of pubsub */
    uint32_t groups;     /* queue groups */
    uint32_t subjects;   /* distinct subjects; subscriptions of workload subs */
    uint32_t conns;      /* idle: connections; storm: attempts in flight */
    uint32_t threads;
    uint32_t streams;          /* of JetStream */
    uint32_t consumers;        /* jsfill: made on all streams in turn */
    uint32_t inflight;         /* JetStream: unacknowledged publishes of each publisher */
    uint32_t batch;            /* jstake: messages of one fetch */
    enum load_mode mode;       /* jstake */
    enum load_stalled stalled; /* latency: where the reader that never reads sits */
    pid_t server_pid;          /* 0: the server's own figures are not taken */
    uint64_t seed;
    bool verify;     /* parse each message; check order, content, subject and sid */
    bool spin;       /* poll without sleeping: latency without the client's own wake-up */
    bool churn_same; /* churn below the first token of the traffic */
    bool in_memory;  /* memory streams */
    bool fills;      /* JetStream: stores --msgs before it measures */
    bool keeps;      /* JetStream: leaves its streams there */
    bool drains;     /* jsfill: waits until packing has drained */
    bool quiet;      /* no line for people on stderr */
};

/* Fills *opts from the command line. On a mistake, or for --help, prints and leaves the process. */
void load_opts_parse(struct load_opts *opts, int argc, char **argv);

/* The name of a workload as on the command line. */
const char *load_opts_workload_name(enum load_workload workload);

#endif
