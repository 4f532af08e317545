#include "core/base/mem.h"
#include <string.h>
#include "core/base/must.h"

void *mem_alloc(struct mem *m, enum mem_class class, size_t bytes)
{
    must(class < MEM_CLASS_COUNT);
    must(bytes > 0);
    void *p = m->alloc(m, class, bytes);
    if (p != NULL) m->used_bytes[class] += bytes;
    return p;
}

void *mem_alloc_zero(struct mem *m, enum mem_class class, size_t bytes)
{
    if (m->alloc_zero == NULL) {
        void *p = mem_alloc(m, class, bytes);
        if (p != NULL) memset(p, 0, bytes);
        return p;
    }
    must(class < MEM_CLASS_COUNT);
    must(bytes > 0);
    void *p = m->alloc_zero(m, class, bytes);
    if (p != NULL) m->used_bytes[class] += bytes;
    return p;
}

void mem_free(struct mem *m, enum mem_class class, void *p, size_t bytes)
{
    if (p == NULL) return;
    must(class < MEM_CLASS_COUNT);
    must(m->used_bytes[class] >= bytes);
    m->used_bytes[class] -= bytes;
    m->release(m, class, p, bytes);
}

uint32_t mem_percent(const struct mem *m)
{
    return m->percent == NULL ? 0 : m->percent(m);
}

uint64_t mem_jetstream_bytes(const struct mem *m)
{
    if (m->jetstream_bytes != NULL) return m->jetstream_bytes(m);
    return m->used_bytes[MEM_JETSTREAM] + m->used_bytes[MEM_STORE];
}

void *mem_resize(struct mem *m, enum mem_class class, void *p, size_t bytes_old, size_t bytes_new)
{
    void *grown = mem_alloc(m, class, bytes_new);
    if (grown == NULL) return NULL;
    if (p != NULL) memcpy(grown, p, bytes_old < bytes_new ? bytes_old : bytes_new);
    mem_free(m, class, p, bytes_old);
    return grown;
}
