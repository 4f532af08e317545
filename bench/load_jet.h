/* The workload jspub: publishers into JetStream streams, each with a bounded number of publishes in
 * flight; one in flight is the synchronous publish. An operation is an acknowledged message; the
 * latency is that of one publish from its send to its acknowledgement, in a closed loop. */
#ifndef BENCH_LOAD_JET_H
#define BENCH_LOAD_JET_H

#include "bench/load_opts.h"
#include "bench/load_report.h"

/* Runs the workload; everything that went wrong is in the report. */
void load_jet_run(const struct load_opts *opts, struct load_report *report);

#endif
