/* The memory port (core/base/mem.h) on jemalloc, under one budget for the process.
 *
 * The budget is a pool of slices that all threads share. A shard's mem_jemalloc holds a lease of
 * some slices and allocates against it without touching anything shared; when the lease is used
 * up it takes another slice, and gives slices back when two lie idle. No slice left: NULL, and
 * core refuses or parks. Under sanitizers the same runs on plain malloc. */
#ifndef IO_MEM_JEMALLOC_H
#define IO_MEM_JEMALLOC_H
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/base/mem.h"

enum {
    MEM_JEMALLOC_SLICE_BYTES_MIN = 256 * 1024,
    MEM_JEMALLOC_SLICE_BYTES_MAX = 4 * 1024 * 1024,
    MEM_JEMALLOC_MARGIN_PERCENT = 15, /* of the process: libraries, stacks, fragmentation */
};

/* Shared by all threads; lives longer than every mem_jemalloc on it. */
struct mem_jemalloc_budget {
    uint64_t process_bytes_max; /* what the process may use in all */
    uint32_t slice_bytes;       /* a power of two */
    uint32_t slice_count;       /* what may be leased: process_bytes_max less the margin */
    _Atomic uint32_t leased;
    _Atomic uint32_t withheld; /* slices not to be leased: the process is larger than planned */
    _Atomic uint64_t refused;  /* allocations answered with NULL for want of a slice */
    _Atomic uint64_t jetstream_bytes; /* that the threads told of */
    /* When the process was looked at, was purged, and had no room, last. */
    _Atomic uint64_t looked_ns, purged_ns, full_ns;
};

struct mem_jemalloc {
    struct mem mem; /* hand this out */
    struct mem_jemalloc_budget *budget;
    uint32_t slices;     /* leased */
    uint64_t used_bytes; /* against the lease, in jemalloc's size classes */
    uint64_t told_bytes; /* of JetStream, its part of the budget's sum */
};

/* process_bytes_max 0: no limit. At least one slice is always there. */
void mem_jemalloc_budget_init(struct mem_jemalloc_budget *b, uint64_t process_bytes_max);
/* Once a second: withholds slices when the process is larger than it may be, returns them when it
 * has shrunk. rss_bytes from sysinfo_rss. Returns the bytes over the limit, 0 when all is well. */
uint64_t mem_jemalloc_budget_check(struct mem_jemalloc_budget *b, uint64_t rss_bytes);
/* The same with this process's own figures, and earlier: near the limit unused pages go back to the
 * kernel first, then slices are withheld before the limit is reached. For main, often while
 * memory is short. */
void mem_jemalloc_budget_watch(struct mem_jemalloc_budget *b);
/* For shards, after each turn: with half of the slices leased, and a millisecond after the last
 * look of any of them, unused pages go back if the process is near its limit. What a turn filled
 * may have been leased long before, and main may have to wait for a processor. */
void mem_jemalloc_budget_look(struct mem_jemalloc_budget *b, uint64_t now_ns);
/* 0 to 100: the part of the slices that is leased. */
uint32_t mem_jemalloc_budget_percent(const struct mem_jemalloc_budget *b);

/* The port of one thread. */
void mem_jemalloc_init(struct mem_jemalloc *m, struct mem_jemalloc_budget *b);
/* For its thread, now and then: what JetStream has here, for mem_jetstream_bytes of the others. */
void mem_jemalloc_tell(struct mem_jemalloc *m);
/* Everything must be freed. Gives the lease back. */
void mem_jemalloc_deinit(struct mem_jemalloc *m);

/* pthread_create, but back only when the new thread has allocated for the first time: what jemalloc
 * needs for a thread it makes then, and where the kernel gives nothing any more, it crashes.
 * ERR_MEMORY: there is no such thread. */
NODISCARD enum err mem_jemalloc_thread(pthread_t *thread, void *(*run)(void *), void *argument);

struct mem_jemalloc_figures {
    uint64_t allocated_bytes, active_bytes, resident_bytes, mapped_bytes, retained_bytes;
};
/* jemalloc's own figures; false (and zeros) when built without it. */
bool mem_jemalloc_figures(struct mem_jemalloc_figures *out);
/* Gives unused pages of all arenas back to the kernel now. Milliseconds: not for shards. */
void mem_jemalloc_purge(void);
/* Gives back what has been unused for so long that jemalloc would have done it, had anybody
 * allocated since (10 s): it has no clock of its own, so a server that falls idle would keep it.
 * For main, once a second. */
void mem_jemalloc_decay(void);

#endif
