/* The workload jsfill: makes --streams streams with --consumers consumers on them, and stores
 * --msgs messages in them. With --drain it waits until the server has packed what it packs. Tells
 * what that cost: CPU, memory and bytes written. It deletes the streams again unless --keep. */
#ifndef BENCH_LOAD_FILL_H
#define BENCH_LOAD_FILL_H

#include "bench/load_opts.h"
#include "bench/load_report.h"

/* Runs the workload; everything that went wrong is in the report. */
void load_fill_run(const struct load_opts *opts, struct load_report *report);

#endif
