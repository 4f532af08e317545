#include "tests/support/mem_heap.h"
#include <stdlib.h>

static void *heap_alloc(struct mem *m, enum mem_class class, size_t bytes)
{
    struct mem_heap *h = m->context;
    uint64_t call = __atomic_add_fetch(&h->alloc_count, 1, __ATOMIC_RELAXED);
    (void)class;
    if (h->fail_at != 0 && (call == h->fail_at || (h->fail_from && call > h->fail_at))) return NULL;
    if (h->bytes_max != 0 && bytes > h->bytes_max) return NULL;
    void *p = malloc(bytes);
    if (p != NULL) __atomic_add_fetch(&h->live_count, 1, __ATOMIC_RELAXED);
    return p;
}

static void heap_release(struct mem *m, enum mem_class class, void *p, size_t bytes)
{
    struct mem_heap *h = m->context;
    (void)class;
    (void)bytes;
    __atomic_sub_fetch(&h->live_count, 1, __ATOMIC_RELAXED);
    free(p);
}

static uint32_t heap_percent(const struct mem *m)
{
    const struct mem_heap *h = m->context;
    return h->percent;
}

void mem_heap_init(struct mem_heap *h)
{
    *h = (struct mem_heap){
        .mem = {.alloc = heap_alloc, .release = heap_release, .percent = heap_percent}};
    h->mem.context = h;
}
