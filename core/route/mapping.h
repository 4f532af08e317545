/* Subject mappings of one account: the first entry, in the order of the configuration, whose source
 * matches a published subject picks one of its destinations by weight.
 * Rules of spec: NATS protocol, accounts and mappings (1.9). Immutable once built, so every shard
 * may use it; a reload builds another. */
#ifndef CORE_ROUTE_MAPPING_H
#define CORE_ROUTE_MAPPING_H
#include "core/route/transform.h"

struct mapping_set;

struct mapping_destination {
    struct bytes subject;
    uint32_t weight;      /* percent */
    struct bytes cluster; /* empty: any; of another name than ours: checked, but not used */
};

enum mapping_result {
    MAPPING_UNCHANGED, /* no entry matches */
    MAPPING_MAPPED,
    MAPPING_DROPPED, /* the weights say: lost; or the result does not fit */
};

/* cluster: the name of this server's cluster, copied; may be empty. ERR_MEMORY. */
NODISCARD enum err mapping_set_open(struct mem *mem, struct bytes cluster,
                                    struct mapping_set **out);
/* set may be NULL. mem as at open. */
void mapping_set_free(struct mem *mem, struct mapping_set *set);
/* Appends an entry, or replaces the one of the same source where it stands. A weight sum below 100
 * leaves the rest to the original subject, unless the source is among the destinations: then the
 * rest is lost. ERR_INVALID with the text in why, ERR_MEMORY: nothing changed. */
NODISCARD enum err mapping_set_add(struct mapping_set *set, struct bytes source,
                                   const struct mapping_destination *destinations, uint32_t count,
                                   struct writer *why);
uint32_t mapping_set_count(const struct mapping_set *set);
/* For monitoring pages. Source of entry (below the count), and its destination number i with the
 * sum of the weights up to it; false: it has no such destination. */
struct bytes mapping_set_source(const struct mapping_set *set, uint32_t entry);
bool mapping_set_destination(const struct mapping_set *set, uint32_t entry, uint32_t i,
                             struct bytes *destination, uint32_t *weight_sum);
/* subject: of a publish, not empty. Writes into room what it is mapped to. */
enum mapping_result mapping_set_apply(const struct mapping_set *set, struct bytes subject,
                                      struct rng *rng, char *room, size_t room_bytes,
                                      struct bytes *out);

#endif
