/* Where a consumer's own messages go (statuses, heartbeats, flow control), and whom it asks whether
 * somebody listens. The shard implements it; tests record it. */
#ifndef CORE_JS_OUTLET_H
#define CORE_JS_OUTLET_H
#include <stdbool.h>
#include "core/base/bytes.h"

struct outlet {
    /* Copies what it sends. reply may be empty; headers is a whole header block; no payload. */
    void (*send)(struct outlet *o, struct bytes subject, struct bytes reply, struct bytes headers);
    /* Whether a subscription of the consumer's account matches the literal subject now. */
    bool (*has_interest)(struct outlet *o, struct bytes subject);
};

#endif
