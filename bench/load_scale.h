/* The workloads about numbers of things: subs (a million subscriptions), idle (ten thousand
 * connections that do nothing), storm (connections that come and go). */
#ifndef BENCH_LOAD_SCALE_H
#define BENCH_LOAD_SCALE_H

#include "bench/load_opts.h"
#include "bench/load_report.h"

/* Each runs the workload of opts; everything that went wrong is in the report. */
void load_scale_run_subs(const struct load_opts *opts, struct load_report *report);
void load_scale_run_idle(const struct load_opts *opts, struct load_report *report);

#endif
