/* The workload reqrep: clients that each have one request in flight against services that share a
 * queue group. A closed loop: the latency is a round trip, not a response time under a fixed load.
 * Each reply subject is used once, as official clients do. */
#ifndef BENCH_LOAD_REQREP_H
#define BENCH_LOAD_REQREP_H

#include "bench/load_opts.h"
#include "bench/load_report.h"

/* Runs the workload; everything that went wrong is in the report. */
void load_reqrep_run(const struct load_opts *opts, struct load_report *report);

#endif
