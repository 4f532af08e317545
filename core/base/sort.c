#include "core/base/sort.h"

static void sift_down(const void **heap, size_t count, size_t at, sort_compare_fn compare)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= count) return;
        if (child + 1 < count && compare(heap[child], heap[child + 1]) < 0) child++;
        if (compare(heap[at], heap[child]) >= 0) return;
        const void *t = heap[at];
        heap[at] = heap[child];
        heap[child] = t;
        at = child;
    }
}

void sort_pointers(const void **items, size_t count, sort_compare_fn compare)
{
    for (size_t at = count / 2; at-- > 0;) sift_down(items, count, at, compare);
    while (count > 1) {
        count--;
        const void *largest = items[0];
        items[0] = items[count];
        items[count] = largest;
        sift_down(items, count, 0, compare);
    }
}
