/* The memory port of test programs, on malloc: counts, and fails the n-th allocation on demand. */
#ifndef TESTS_SUPPORT_MEM_HEAP_H
#define TESTS_SUPPORT_MEM_HEAP_H
#include "core/base/mem.h"

struct mem_heap {
    struct mem mem;       /* hand this out */
    uint64_t alloc_count; /* calls so far */
    uint64_t live_count;  /* blocks not yet released: must be 0 at the end of a test */
    uint64_t fail_at;     /* this call (from 1; fail_from: all later too) gives NULL; 0 never */
    int fail_from;
    size_t bytes_max; /* a larger block gives NULL; 0: any size is there */
    uint32_t percent; /* of a budget, as mem_percent gives it */
};

void mem_heap_init(struct mem_heap *h);

#endif
