/* Simulated time: a number that only the scheduler moves, and what is due at which moment.
 *
 * Alarms of one moment go off in the order in which they were set, so that a run depends on its
 * seed alone. */
#ifndef TESTS_SIM_CLOCK_H
#define TESTS_SIM_CLOCK_H
#include <stdbool.h>
#include <stdint.h>

struct clock_alarm {
    uint64_t at_ns, order;
    void (*ring)(void *context, uint64_t detail);
    void *context;
    uint64_t detail;
};

struct clock {
    uint64_t now_ns, next_order;
    struct clock_alarm *heap; /* the earliest first */
    uint32_t count, capacity;
};

enum { CLOCK_WALL_START_S = 1700000000 };

void clock_init(struct clock *c);
void clock_deinit(struct clock *c);
/* ring(context, detail) in after_ns. Context must live until then. */
void clock_set(struct clock *c, uint64_t after_ns, void (*ring)(void *context, uint64_t detail),
               void *context, uint64_t detail);
/* When the next alarm goes off; UINT64_MAX: none is set. */
uint64_t clock_next_ns(const struct clock *c);
/* Moves to at_ns and rings everything due on the way, at its own moment. */
void clock_advance(struct clock *c, uint64_t at_ns);

#endif
