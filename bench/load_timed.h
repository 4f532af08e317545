/* A run whose operations are timed one by one: a warm-up, then the phase that is reported, with the
 * latencies of all workers. For workloads in which each client does one thing after the other. */
#ifndef BENCH_LOAD_TIMED_H
#define BENCH_LOAD_TIMED_H

#include "bench/load_hist.h"
#include "bench/load_loop.h"
#include "bench/load_opts.h"
#include "bench/load_report.h"

struct load_timed {
    const struct load_opts *opts;
    struct load_report *report; /* its latency is there, and empty */
    struct load_loop *loop;     /* with all its connections */
    struct load_hist *hists; /* [opts->threads], filled by the workload; emptied before a phase */
    void *run;               /* the workload's, for begin */
    /* A phase begins: so many operations of each client; UINT64_MAX: by time. */
    void (*begin)(void *run, uint64_t per_client);
};

/* Fills the report, failures included. */
void load_timed_run(const struct load_timed *t);

#endif
