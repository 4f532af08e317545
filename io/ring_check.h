/* Trials at start: does this kernel do what it says? Features are used only after they carried a
 * pattern through a loopback connection unharmed; versions are not asked, since distributions
 * backport both features and faults. */
#ifndef IO_RING_CHECK_H
#define IO_RING_CHECK_H
#include <stdbool.h>

/* Receives a pattern of 24 MiB (or what passes in 50 ms) by multishot receives from a provided
 * buffer ring, plain or incremental, that runs empty now and then. True when it arrived whole
 * and in order. */
bool ring_check_recv(bool is_incremental);

#endif
