/* Log-linear counts of durations in nanoseconds: 32 steps per power of two, so a step is at most
 * 3.2 % wide, up to HISTOGRAM_NS_MAX. Counts are plain integers: a histogram belongs to one
 * thread, others see copies. Merging adds counts, so any number of shards merge without loss.
 *
 *   value 0..63: step = value
 *   above:       step = 32 * (log2(value) - 4) + the five bits after the leading one */
#ifndef CORE_BASE_HISTOGRAM_H
#define CORE_BASE_HISTOGRAM_H
#include <stdint.h>

enum {
    HISTOGRAM_STEP_BITS = 5,
    HISTOGRAM_STEPS = 32 * 32, /* 0 .. 2^36 - 1 ns, 68.7 s */
};

#define HISTOGRAM_NS_MAX ((UINT64_C(1) << 36) - 1)

struct histogram {
    uint64_t count;
    uint64_t sum_ns;
    uint64_t max_ns; /* 0 while empty */
    uint64_t steps[HISTOGRAM_STEPS];
};

/* The step that value falls into; values beyond HISTOGRAM_NS_MAX fall into the last one. */
static inline uint32_t histogram_step_of(uint64_t value_ns)
{
    if (value_ns > HISTOGRAM_NS_MAX) return HISTOGRAM_STEPS - 1;
    if (value_ns < 64) return (uint32_t)value_ns;
    uint32_t top = 63u - (uint32_t)__builtin_clzll(value_ns);
    return ((top - HISTOGRAM_STEP_BITS + 1) << HISTOGRAM_STEP_BITS) +
           (uint32_t)((value_ns >> (top - HISTOGRAM_STEP_BITS)) & 31);
}

/* On the hot path: no division, no branch but for the range. */
static inline void histogram_add(struct histogram *h, uint64_t value_ns)
{
    h->count++;
    h->sum_ns += value_ns;
    if (value_ns > h->max_ns) h->max_ns = value_ns;
    h->steps[histogram_step_of(value_ns)]++;
}

void histogram_init(struct histogram *h);
void histogram_merge(struct histogram *into, const struct histogram *from);
/* First and last value of a step. */
uint64_t histogram_step_first(uint32_t step);
uint64_t histogram_step_last(uint32_t step);
/* The smallest value below or at which at least part (0..1) of the counted values lie, to the
 * width of a step and never above max_ns; 0 while empty. */
uint64_t histogram_quantile(const struct histogram *h, double part);
/* How many counted values are certainly <= value_ns; exact when value_ns is the last of a step. */
uint64_t histogram_count_to(const struct histogram *h, uint64_t value_ns);

#endif
