/* The workload jsfirst: how long a new consumer takes to its first message, from the request that
 * makes it, on a stream of --msgs messages over --subjects subjects: with a literal filter, with
 * a.> over all, from the middle of the stream, and with a * inside. Each consumer is given one
 * message only, so that what follows the first costs nothing. */
#ifndef BENCH_LOAD_FIRST_H
#define BENCH_LOAD_FIRST_H

#include "bench/load_opts.h"
#include "bench/load_report.h"

/* Runs the workload; everything that went wrong is in the report. */
void load_first_run(const struct load_opts *opts, struct load_report *report);

#endif
