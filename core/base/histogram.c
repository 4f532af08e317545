#include "core/base/histogram.h"
#include <string.h>
#include "core/base/must.h"

void histogram_init(struct histogram *h)
{
    memset(h, 0, sizeof *h);
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    into->count += from->count;
    into->sum_ns += from->sum_ns;
    if (from->max_ns > into->max_ns) into->max_ns = from->max_ns;
    for (uint32_t step = 0; step < HISTOGRAM_STEPS; step++) into->steps[step] += from->steps[step];
}

uint64_t histogram_step_first(uint32_t step)
{
    must(step < HISTOGRAM_STEPS);
    if (step < 64) return step;
    uint32_t shift = (step >> HISTOGRAM_STEP_BITS) - 1;
    return (uint64_t)(32 + (step & 31)) << shift;
}

uint64_t histogram_step_last(uint32_t step)
{
    must(step < HISTOGRAM_STEPS);
    return step + 1 == HISTOGRAM_STEPS ? HISTOGRAM_NS_MAX : histogram_step_first(step + 1) - 1;
}

uint64_t histogram_quantile(const struct histogram *h, double part)
{
    must(part >= 0.0);
    must(part <= 1.0);
    if (h->count == 0) return 0;

    double exact = part * (double)h->count;
    uint64_t wanted = (uint64_t)exact;
    if ((double)wanted < exact || wanted == 0) wanted++;
    uint64_t seen = 0;
    for (uint32_t step = 0; step + 1 < HISTOGRAM_STEPS; step++) {
        seen += h->steps[step];
        if (seen < wanted) continue;
        uint64_t last = histogram_step_last(step);
        return last < h->max_ns ? last : h->max_ns;
    }
    /* The last step also holds what lies beyond the range: only the maximum is known of it. */
    return h->max_ns;
}

uint64_t histogram_count_to(const struct histogram *h, uint64_t value_ns)
{
    uint64_t seen = 0;
    for (uint32_t step = 0; step < HISTOGRAM_STEPS; step++) {
        /* Values beyond the range share the last step: it counts only when all of them fit. */
        uint64_t last = step + 1 == HISTOGRAM_STEPS ? UINT64_MAX : histogram_step_last(step);
        if (last > value_ns) break;
        seen += h->steps[step];
    }
    return seen;
}
