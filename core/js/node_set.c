#include "core/js/node_set.h"

static size_t bytes_for(uint32_t node_count)
{
    return ((size_t)node_count + 63) / 64 * sizeof(uint64_t);
}

enum err node_set_init(struct node_set *s, struct mem *mem, uint32_t node_count)
{
    *s = (struct node_set){0};
    if (node_count == 0) return ERR_OK;
    uint64_t *bits = mem_alloc_zero(mem, MEM_JETSTREAM, bytes_for(node_count));
    if (bits == NULL) return ERR_MEMORY;
    *s = (struct node_set){.bits = bits, .node_count = node_count};
    return ERR_OK;
}

void node_set_deinit(struct node_set *s, struct mem *mem)
{
    mem_free(mem, MEM_JETSTREAM, s->bits, bytes_for(s->node_count));
    *s = (struct node_set){0};
}
