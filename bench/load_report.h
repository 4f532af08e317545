/* The outcome of one run: one JSON object on stdout, one line for people on stderr. */
#ifndef BENCH_LOAD_REPORT_H
#define BENCH_LOAD_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/load_hist.h"
#include "bench/load_loop.h"
#include "bench/load_opts.h"
#include "bench/load_probe.h"

enum { LOAD_REPORT_EXTRAS_MAX = 32, LOAD_REPORT_CLIENT_BOUND_PERCENT = 80 };

struct load_extra {
    const char *name;
    double value;
};

struct load_report {
    const struct load_opts *opts;
    char server_version[32];
    char server_name[64];
    const char *unit; /* what `operations` counts: delivery, publish, request, ... */
    uint64_t operations;
    uint64_t published;
    uint64_t expected;
    uint64_t delivered;
    uint64_t excess;        /* arrived although nobody owed it */
    uint64_t verify_errors; /* order, content, subject, sid */
    uint64_t wall_ns;
    uint64_t busiest_cpu_ns; /* of the busiest thread of this process */
    struct load_probe before;
    struct load_probe after;
    struct load_hist *latency; /* NULL without; owned by the report */
    struct load_extra extras[LOAD_REPORT_EXTRAS_MAX];
    uint32_t extra_count;
    char error[160]; /* empty: none */
};

void load_report_init(struct load_report *report, const struct load_opts *opts);
void load_report_deinit(struct load_report *report);

/* Adds a figure of this workload; name must live as long as the report. */
void load_report_add(struct load_report *report, const char *name, double value);

/* Keeps the first failure. */
void load_report_fail(struct load_report *report, const char *text);

/* Takes name and version of the server that the open connection leads to. */
void load_report_take_server(struct load_report *report, const struct load_conn *conn);

/* Takes counts and times of the loop's last phase. */
void load_report_take_phase(struct load_report *report, const struct load_loop *loop);

/* Prints; true if the run is valid: no failure, nothing missing, nothing too much. */
bool load_report_print(const struct load_report *report);

#endif
