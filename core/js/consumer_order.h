/* The consumers of a stream in the order of their names, for pages of CONSUMER.LIST and NAMES: the
 * one at a place costs a walk over the chunks of 255, one more or less some microseconds. Made by
 * pieces when somebody asks (see consumer_set_order). Owned by the stream's shard; pure. */
#ifndef CORE_JS_CONSUMER_ORDER_H
#define CORE_JS_CONSUMER_ORDER_H
#include "core/js/consumer.h"

enum { CONSUMER_ORDER_CHUNK = 255 };

struct consumer_order_chunk {
    uint64_t count;
    struct consumer *items[CONSUMER_ORDER_CHUNK];
};

struct consumer_order {
    struct mem *mem;
    struct consumer_order_chunk **chunks; /* none is empty */
    uint32_t chunk_count, chunk_room;
    uint32_t count;
    uint64_t number_next; /* consumers with lower numbers are in it */
};

void consumer_order_init(struct consumer_order *o, struct mem *mem);
void consumer_order_deinit(struct consumer_order *o);
/* Its name is not in it. ERR_MEMORY: nothing changed. */
NODISCARD enum err consumer_order_add(struct consumer_order *o, struct consumer *c);
/* Nothing, when it is not there. */
void consumer_order_remove(struct consumer_order *o, const struct consumer *c);
/* place < count. */
struct consumer *consumer_order_at(const struct consumer_order *o, size_t place);

#endif
