/* A shard's thread: opens its driver, runs turns until the server stops, closes. */
#ifndef IO_LOOP_H
#define IO_LOOP_H

/* For pthread_create: the argument is the struct server_shard, the result NULL. */
void *loop_run(void *server_shard);

#endif
