/* The workload storm: connections that are opened, logged in (INFO, CONNECT, PING, PONG) and
 * closed, with a fixed number of attempts in flight. Closed loop: its latency is that of one
 * attempt. */
#ifndef BENCH_LOAD_STORM_H
#define BENCH_LOAD_STORM_H

#include "bench/load_opts.h"
#include "bench/load_report.h"

/* Runs the workload; everything that went wrong is in the report. */
void load_storm_run(const struct load_opts *opts, struct load_report *report);

#endif
