/* The workload latency: one publisher, one subscriber, an open loop. Each message carries the time
 * when it was due, not when it could be sent, so that a stall is charged to every message that it
 * held up (no coordinated omission). Beside them, if asked for, a reader that never reads: on the
 * subject of the measured traffic, or on one of its own that another publisher fills. */
#ifndef BENCH_LOAD_LATENCY_H
#define BENCH_LOAD_LATENCY_H

#include "bench/load_opts.h"
#include "bench/load_report.h"

/* Runs the workload; everything that went wrong is in the report. */
void load_latency_run(const struct load_opts *opts, struct load_report *report);

#endif
