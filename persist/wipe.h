/* Overwrites a file that nobody uses any more, before it is removed or used again. */
#ifndef PERSIST_WIPE_H
#define PERSIST_WIPE_H
#include "core/base/mem.h"
#include "persist/blocking.h"

/* All of it with zeros, durably. A file that is not there is wiped. */
NODISCARD enum err wipe_file(const struct blocking *b, struct mem *mem, const char *path);

#endif
