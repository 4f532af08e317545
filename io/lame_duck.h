/* Lame duck mode: no new clients, those that are here are told, and after the grace period they
 * are closed one after the other over the configured time (nats-server's SIGUSR2). Main's thread.
 */
#ifndef IO_LAME_DUCK_H
#define IO_LAME_DUCK_H
#include "io/server.h"

struct lame_duck {
    bool is_on;
    bool is_closing;      /* the grace period is over */
    uint64_t next_ns;     /* when the next step is due */
    uint64_t interval_ns; /* between two closes */
    uint32_t batch;       /* clients per close */
};

/* Idempotent. */
void lame_duck_begin(struct lame_duck *d, struct server *s);
/* The shard with the most connections. */
uint32_t lame_duck_fullest(const struct server *s);
/* For poll: -1 while nothing is due. */
int lame_duck_timeout_ms(const struct lame_duck *d);
/* Does what is due. True: the last client is gone, the server ends. */
bool lame_duck_step(struct lame_duck *d, struct server *s);

#endif
