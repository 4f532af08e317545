/* A set of subjects by node number: a bit each. For a verdict over many messages without a look at
 * their subjects. It holds the numbers below node_count; a number beyond is not in it. */
#ifndef CORE_JS_NODE_SET_H
#define CORE_JS_NODE_SET_H
#include <stdbool.h>
#include <stdint.h>
#include "core/base/mem.h"

struct node_set {
    uint64_t *bits; /* NULL when node_count is 0 */
    uint32_t node_count;
};

/* Empty, with room for node_count numbers. ERR_MEMORY: it has room for none. */
NODISCARD enum err node_set_init(struct node_set *s, struct mem *mem, uint32_t node_count);
void node_set_deinit(struct node_set *s, struct mem *mem);

/* node < node_count. */
static inline void node_set_add(struct node_set *s, uint32_t node)
{
    s->bits[node >> 6] |= UINT64_C(1) << (node & 63);
}

/* Any node. */
static inline bool node_set_has(const struct node_set *s, uint32_t node)
{
    return node < s->node_count && (s->bits[node >> 6] >> (node & 63) & 1) != 0;
}

#endif
