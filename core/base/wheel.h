/* Hierarchical timer wheel: four levels of 64 slots, one tick about a millisecond. "Now" is an
 * argument of every call; the wheel never looks at a clock. Timers fire at or after their
 * deadline, at most one tick late. Deadlines farther than the wheel reaches are re-armed by the
 * wheel itself. Intrusive: a timer is a field of its owner. */
#ifndef CORE_BASE_WHEEL_H
#define CORE_BASE_WHEEL_H
#include <stdbool.h>
#include <stdint.h>
#include "core/base/list.h"

enum { WHEEL_LEVELS = 4, WHEEL_SLOTS = 64, WHEEL_TICK_SHIFT = 20 };

struct wheel_timer {
    struct list link;     /* in a slot, or alone */
    uint64_t deadline_ns; /* monotonic; meaningful while armed */
};

struct wheel {
    struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
    uint64_t occupied[WHEEL_LEVELS]; /* bit per slot that may hold timers */
    struct list expired;             /* due, not yet popped */
    uint64_t tick;                   /* ticks up to here have been looked at */
};

void wheel_init(struct wheel *w, uint64_t now_ns);
void wheel_timer_init(struct wheel_timer *t);
bool wheel_is_armed(const struct wheel_timer *t);
/* Arms or re-arms. */
void wheel_arm(struct wheel *w, struct wheel_timer *t, uint64_t deadline_ns);
void wheel_cancel(struct wheel_timer *t);
/* One timer whose deadline has passed, disarmed; NULL when there is none. Call until NULL. */
struct wheel_timer *wheel_pop(struct wheel *w, uint64_t now_ns);
/* No timer fires before this time; UINT64_MAX when none is armed. May be early, never late. */
uint64_t wheel_next_ns(const struct wheel *w);

#endif
