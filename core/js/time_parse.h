/* Points in time as JetStream's JSON has them: RFC 3339 with any offset, refused in Go's words and
 * printed back with the offset they came with. */
#ifndef CORE_JS_TIME_PARSE_H
#define CORE_JS_TIME_PARSE_H
#include "core/base/text.h"

struct time_stamp {
    int64_t wall_ns;        /* since 1970, UTC; beyond its range: its first or last value */
    int16_t offset_minutes; /* east of UTC, only for printing */
    bool is_set;
    bool is_zero; /* Go's zero time, 0001-01-01T00:00:00Z: set, and no time at all */
};

/* A real point in time. */
static inline bool time_stamp_is_real(const struct time_stamp *t)
{
    return t->is_set && !t->is_zero;
}

/* ERR_SYNTAX: why says so as Go does (without a zero at its end). *t is set on ERR_OK. */
NODISCARD enum err time_parse_rfc3339(struct bytes text, struct time_stamp *t, struct writer *why);
/* t is set. */
void time_parse_write(struct text *out, const struct time_stamp *t);

#endif
