/* Streams on other shards hear of subscriptions that come and go here, as long as the account has
 * push consumers there (interest_watch). */
#ifndef CORE_SHARD_JET_INTEREST_H
#define CORE_SHARD_JET_INTEREST_H
#include "core/base/bytes.h"

struct shard;

/* To the shards of the set, this one apart: subscriptions that filter names (empty: some) came or
 * went. */
void jet_interest_tell(struct shard *s, uint64_t shards, uint32_t account, struct bytes filter);
/* Mail of another shard that says so. */
void jet_interest_came(struct shard *s, const char *body, uint32_t bytes);
/* Sends what found no memory before, as far as there is some now. */
void jet_interest_step(struct shard *s);

#endif
