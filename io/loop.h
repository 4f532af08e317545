/* A shard's thread: opens its driver, runs turns until the server stops, closes. */
#ifndef IO_LOOP_H
#define IO_LOOP_H
#include <stdatomic.h>
#include "io/spin.h"
#include "io/turn.h"

/* For pthread_create: the argument is the struct server_shard, the result NULL. */
void *loop_run(void *server_shard);

/* One turn that had work, waited for with or without sleep (io/spin decides); it does not sleep
 * once is_stopping, which whoever sets it does before it wakes the shard. */
void loop_turn(struct turn *t, struct spin *spin, const _Atomic bool *is_stopping);

#endif
