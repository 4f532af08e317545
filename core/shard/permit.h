/* How many connections an account may have, over all shards. Connections of an account are counted
 * on shard 0; a login on another shard asks it by mail, and what closes gives its permit back.
 * What finds no memory to go home is owed and goes in a later step. */
#ifndef CORE_SHARD_PERMIT_H
#define CORE_SHARD_PERMIT_H
#include <stdint.h>

struct client;
struct mail_permit;
struct shard;

/* PERMIT_ASKED: entry_permit brings the answer. */
enum permit { PERMIT_GRANTED, PERMIT_REFUSED, PERMIT_ASKED };
enum permit permit_ask(struct shard *s, struct client *c, uint32_t account);
void permit_free(struct shard *s, uint32_t account);
/* A shard asks this one, which is shard 0; the answer goes out (mail_may_answer). */
void permit_asked(struct shard *s, uint32_t sender, const struct mail_permit *asked);
/* The answer: to the login that asked, or back, if that is gone. */
void permit_came(struct shard *s, const struct mail_permit *p);
/* Sends what is owed, as far as there is memory. */
void permit_step(struct shard *s);
void permit_close(struct shard *s);

#endif
