/* File operations one at a time, for code that has nothing else to do: recovery, checking a store,
 * helper threads. The caller's pump makes the port go on. */
#ifndef PERSIST_BLOCKING_H
#define PERSIST_BLOCKING_H
#include "persist/vfs.h"

struct blocking {
    struct vfs *vfs;
    /* Carries out, or waits for, at least one operation in flight. False: none will ever end (the
     * simulated power failed); everything is given up at once. */
    bool (*pump)(void *context);
    void *context;
};

/* Runs the operation to its end and gives its result. ERR_CLOSED: the pump gave up.
 * Sets op's done and context. */
NODISCARD enum err blocking_run(const struct blocking *b, struct vfs_op *op);
/* The same in two halves, with other work between. *op and *is_done may not move until the end. */
NODISCARD enum err blocking_begin(const struct blocking *b, struct vfs_op *op, bool *is_done);
NODISCARD enum err blocking_end(const struct blocking *b, const struct vfs_op *op);
/* Names in the folder of the port are durable afterwards. Errors as above. */
NODISCARD enum err blocking_flush_folder(const struct blocking *b);

#endif
