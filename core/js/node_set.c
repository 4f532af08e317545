#include "core/js/node_set.h"
#include <string.h>
#include "core/base/must.h"

static size_t bytes_for(uint32_t node_count)
{
    return ((size_t)node_count + 63) / 64 * sizeof(uint64_t);
}

enum err node_set_init(struct node_set *s, struct mem *mem, uint32_t node_count)
{
    *s = (struct node_set){0};
    return node_set_grow(s, mem, node_count);
}

void node_set_deinit(struct node_set *s, struct mem *mem)
{
    mem_free(mem, MEM_JETSTREAM, s->bits, bytes_for(s->node_count));
    *s = (struct node_set){0};
}

enum err node_set_grow(struct node_set *s, struct mem *mem, uint32_t node_count)
{
    if (node_count <= s->node_count) return ERR_OK;
    size_t old = bytes_for(s->node_count), wanted = bytes_for(node_count);
    if (wanted > old) {
        uint64_t *bits = mem_resize(mem, MEM_JETSTREAM, s->bits, old, wanted);
        if (bits == NULL) return ERR_MEMORY;
        memset((char *)bits + old, 0, wanted - old);
        s->bits = bits;
    }
    s->node_count = node_count;
    return ERR_OK;
}

void node_set_clear(struct node_set *s)
{
    if (s->node_count > 0) memset(s->bits, 0, bytes_for(s->node_count));
}
