/* Trials at start: does this kernel do what it says? Features are used only after they carried a
 * pattern through a loopback connection unharmed; versions are not asked, since distributions
 * backport both features and faults. */
#ifndef IO_RING_CHECK_H
#define IO_RING_CHECK_H
#include <stdbool.h>

struct uring;

/* Receives a pattern by multishot receives from a provided buffer ring that runs empty now and
 * then. True when it arrived whole and in order: 24 MiB incremental, 2 MiB plain, or what passes
 * in 50 ms. */
bool ring_check_recv(bool is_incremental);

/* The kernel has every operation that io/driver_ring uses. */
bool ring_check_operations(struct uring *u);

#endif
