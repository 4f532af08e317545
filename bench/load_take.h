/* The workload jstake: reads --msgs messages of one stream, each exactly once, by --mode
 *   push   an ordered push consumer with flow control, without acknowledgements; one client
 *   fetch  a pull consumer without acknowledgements: each client fetches --batch (500) at a time
 *   ack    the same with explicit acknowledgements, each message acknowledged by itself; the run
 *          ends when the server has counted the last of them
 * --clients share one consumer. An operation is a delivery. */
#ifndef BENCH_LOAD_TAKE_H
#define BENCH_LOAD_TAKE_H

#include "bench/load_opts.h"
#include "bench/load_report.h"

/* Runs the workload; everything that went wrong is in the report. */
void load_take_run(const struct load_opts *opts, struct load_report *report);

#endif
