/* Why a connection ended, in the words that nats-server's /connz uses. */
#ifndef CORE_MONITOR_CLOSED_H
#define CORE_MONITOR_CLOSED_H
#include "core/base/bytes.h"

enum closed_reason {
    CLOSED_NONE, /* still open */
#define CLOSED(name, text) CLOSED_##name,
#include "core/monitor/closed.def"
#undef CLOSED
    CLOSED_REASON_COUNT
};

/* Static text; empty for CLOSED_NONE, "Unknown State" for a value that is none of ours. */
struct bytes closed_reason_text(enum closed_reason reason);

#endif
