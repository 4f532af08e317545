/* The workloads kvput and kvget: --clients in a closed loop, each with one put or get in flight, on
 * a bucket of --subjects keys. An operation is a confirmed put or a value that was checked. */
#ifndef BENCH_LOAD_KV_H
#define BENCH_LOAD_KV_H

#include "bench/load_opts.h"
#include "bench/load_report.h"

/* Runs the workload; everything that went wrong is in the report. */
void load_kv_run(const struct load_opts *opts, struct load_report *report);

#endif
