/* `millrace check [--dump] STORE`: looks through a store that no server uses (persist/check) and
 * says what it found, for people; with --dump every record as a line of JSON. Writes nothing into
 * the store. docs/OPERATIONS.md says how its output reads. */
#ifndef IO_CHECKER_H
#define IO_CHECKER_H
#include <stdbool.h>
#include "core/base/mem.h"

enum {
    CHECKER_CLEAN = 0,
    CHECKER_DAMAGED = 1,    /* something is damaged; all else was read */
    CHECKER_UNREADABLE = 2, /* no store, in use, of a newer version, or not to be read at all */
};

struct checker_options {
    const char *program; /* as it was started */
    const char *store;   /* the folder given to the server, or `jetstream` inside of it */
    struct mem *mem;
    bool is_dump;
};

/* Gives the exit code. */
int checker_run(const struct checker_options *o);

#endif
