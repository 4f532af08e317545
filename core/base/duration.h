/* Lengths of time as Go reads them: "300ms", "-1.5h", "2h45m", "0". */
#ifndef CORE_BASE_DURATION_H
#define CORE_BASE_DURATION_H
#include "core/base/bytes.h"

/* ERR_SYNTAX: no duration. ERR_INCOMPLETE: a number without a unit. ERR_UNKNOWN: a unit that does
 * not exist, which is *unit then (unit may be NULL). ERR_RANGE: more than 64 bits of nanoseconds.
 */
NODISCARD enum err duration_parse(struct bytes text, int64_t *ns, struct bytes *unit);

#endif
