/* The root of a store as bytes (docs/FORMAT.md, "Root"). */
#ifndef PERSIST_ROOT_H
#define PERSIST_ROOT_H
#include <stdint.h>
#include "core/base/err.h"

enum { ROOT_BYTES = 4096, ROOT_VERSION = 1 };

struct root {
    uint32_t incarnation; /* starts so far; 0: made, never started */
    uint64_t store, secret;
    uint32_t log_count;
    uint64_t generation;
};

void root_encode(const struct root *r, char *out);
/* data: ROOT_BYTES. ERR_CORRUPT: no valid root. ERR_UNSUPPORTED: valid, of a newer format. */
NODISCARD enum err root_decode(const char *data, struct root *out);

#endif
