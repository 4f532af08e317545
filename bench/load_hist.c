#include "bench/load_hist.h"

#include "core/base/must.h"

/* Row 0 holds the values below LOAD_HIST_STEPS one by one; row r > 0 the values whose top bit is
 * r + LOAD_HIST_STEP_BITS - 1, in steps of 2^(r-1). */
static uint32_t row_of(uint64_t value)
{
    if (value < LOAD_HIST_STEPS) return 0;
    return (uint32_t)(64 - __builtin_clzll(value)) - LOAD_HIST_STEP_BITS;
}

static uint32_t step_of(uint64_t value, uint32_t row)
{
    if (row == 0) return (uint32_t)value;
    return (uint32_t)(value >> row) & (LOAD_HIST_STEPS - 1);
}

static uint64_t upper_value(uint32_t row, uint32_t step)
{
    return ((uint64_t)step << row) + ((UINT64_C(1) << row) - 1);
}

void load_hist_record(struct load_hist *hist, uint64_t value)
{
    uint32_t row = row_of(value);
    must(row <= LOAD_HIST_POWERS);
    hist->counts[row][step_of(value, row)]++;
    hist->count++;
    hist->sum += (double)value;
    if (value > hist->max) hist->max = value;
}

void load_hist_merge(struct load_hist *into, const struct load_hist *from)
{
    for (uint32_t row = 0; row <= LOAD_HIST_POWERS; row++) {
        for (uint32_t step = 0; step < LOAD_HIST_STEPS; step++) {
            into->counts[row][step] += from->counts[row][step];
        }
    }
    into->count += from->count;
    into->sum += from->sum;
    if (from->max > into->max) into->max = from->max;
}

uint64_t load_hist_quantile(const struct load_hist *hist, double part)
{
    must(part >= 0 && part <= 1);
    if (hist->count == 0) return 0;
    uint64_t wanted = (uint64_t)(part * (double)hist->count + 0.5);
    if (wanted == 0) wanted = 1;
    uint64_t seen = 0;
    for (uint32_t row = 0; row <= LOAD_HIST_POWERS; row++) {
        for (uint32_t step = 0; step < LOAD_HIST_STEPS; step++) {
            seen += hist->counts[row][step];
            if (seen < wanted) continue;
            uint64_t value = upper_value(row, step);
            return value < hist->max ? value : hist->max;
        }
    }
    return hist->max;
}
