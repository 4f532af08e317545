#include "core/monitor/closed.h"

struct bytes closed_reason_text(enum closed_reason reason)
{
    switch (reason) {
    case CLOSED_NONE:
        return BYTES_LITERAL("");
#define CLOSED(name, text) \
    case CLOSED_##name: \
        return BYTES_LITERAL(text);
#include "core/monitor/closed.def"
#undef CLOSED
    case CLOSED_REASON_COUNT:
        break;
    }
    return BYTES_LITERAL("Unknown State");
}
