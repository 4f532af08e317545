/* One io_uring as the drivers use it: set-up with the best flags that the kernel takes, and one
 * enter call that submits, runs deferred work and waits. Touched by the thread that opened it. */
#ifndef IO_URING_H
#define IO_URING_H
#include <stdbool.h>
#include <stdint.h>
#include "core/base/err.h"
#include "io/uring_extra.h"

struct uring {
    struct io_uring ring;
    bool is_registered; /* its descriptor is: enter saves a look-up */
    bool is_deferred;   /* completions come only out of uring_enter */
};

/* cq_entries: room for completions; the kernel's overflow list beyond it is slow.
 * ERR_UNSUPPORTED: forbidden or too old, *reason says which. */
NODISCARD enum err uring_open(struct uring *u, uint32_t sq_entries, uint32_t cq_entries,
                              const char **reason);
void uring_close(struct uring *u);

/* A zeroed entry to fill, submitted by the next enter. NULL: the kernel takes no more before
 * completions are reaped. */
struct io_uring_sqe *uring_sqe(struct uring *u);

/* Submits what is queued, runs deferred work and waits for wait_count completions or timeout_ns
 * (UINT64_MAX: for ever). Returns 0 or a negative errno, -ETIME after the timeout. */
int uring_enter(struct uring *u, uint32_t wait_count, uint64_t timeout_ns);

static inline uint32_t uring_queued(const struct uring *u)
{
    return u->ring.sq.sqe_tail - io_uring_smp_load_acquire(u->ring.sq.khead);
}

#endif
