/* Times and durations as Go prints them; pages and events must not differ from nats-server's.
 * All times are UTC, from wall clock nanoseconds since 1970. */
#ifndef CORE_BASE_TIME_TEXT_H
#define CORE_BASE_TIME_TEXT_H
#include "core/base/text.h"

struct time_text_civil {
    int64_t year;
    uint32_t month, day; /* from 1 */
    uint32_t hour, minute, second, nanosecond;
};

struct time_text_civil time_text_civil(int64_t wall_ns);

/* RFC 3339 with as many fraction digits as needed: 2026-11-21T09:16:06.12Z. */
void time_text_rfc3339(struct text *t, int64_t wall_ns);
/* The same where 0 means "no time": 0001-01-01T00:00:00Z. */
void time_text_rfc3339_or_zero(struct text *t, int64_t wall_ns);
/* time.Duration's String: 0s, 152µs, 1.2ms, 1h0m0.5s. */
void time_text_duration(struct text *t, int64_t ns);
/* Whole seconds as 1y2d3h4m5s without leading zero units (a year has 365 days); negative is 0s. */
void time_text_uptime(struct text *t, int64_t ns);
/* What a round trip time shows: from 1 µs to 1 ms cut to whole microseconds. */
int64_t time_text_round_trip(int64_t ns);

#endif
