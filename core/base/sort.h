/* Sorting of pointers in place: heapsort, so no memory, no recursion and no bad case. Not stable.
 * For pages and control work. */
#ifndef CORE_BASE_SORT_H
#define CORE_BASE_SORT_H
#include <stddef.h>

/* <0, 0, >0 as memcmp, for what two of the pointers point to. */
typedef int (*sort_compare_fn)(const void *a, const void *b);

/* Smallest first. */
void sort_pointers(const void **items, size_t count, sort_compare_fn compare);

#endif
