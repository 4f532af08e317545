/* Latency counts on a log-linear scale: 128 steps per power of two, so a reported value is at most
 * 0.8 % above the true one. Fixed memory, no allocation; merged by addition. */
#ifndef BENCH_LOAD_HIST_H
#define BENCH_LOAD_HIST_H

#include <stdint.h>

enum {
    LOAD_HIST_STEP_BITS = 8, /* all of row 0; of later rows only the upper half is in use */
    LOAD_HIST_STEPS = 1 << LOAD_HIST_STEP_BITS,
    LOAD_HIST_POWERS = 64 - LOAD_HIST_STEP_BITS, /* every 64-bit value has its place */
};

struct load_hist {
    uint64_t counts[LOAD_HIST_POWERS + 1][LOAD_HIST_STEPS];
    uint64_t count;
    uint64_t max; /* exact */
    double sum;
};

void load_hist_record(struct load_hist *hist, uint64_t value);

void load_hist_merge(struct load_hist *into, const struct load_hist *from);

/* The value that `part` (0..1) of the records do not exceed; 0 for an empty histogram. */
uint64_t load_hist_quantile(const struct load_hist *hist, double part);

#endif
