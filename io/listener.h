/* Listening sockets, and who may come in: accepted on shard 0, given to the shard with the fewest
 * connections. Limits that span shards (max_connections, connections before login in total and
 * per address) are kept here, in one table under a lock that is held for nanoseconds. */
#ifndef IO_LISTENER_H
#define IO_LISTENER_H
#include "io/server.h"

/* All TCP sockets of the options, with their slots in shard 0's driver: bound, so that a port that
 * is taken is known before a store is opened, but refusing connections. On failure reason says
 * which and why; listener_close closes what was opened until then. */
NODISCARD enum err listener_open(struct server *s, char *reason, size_t reason_bytes);
/* From now on they take connections, on shard 0's thread; the Unix socket is made. Called when all
 * shards run: who connects to a server that still reads its store would wait for INFO until it
 * gives up, and be told nothing of why. */
NODISCARD enum err listener_listen(struct server *s, char *reason, size_t reason_bytes);
void listener_stop(struct server *s); /* stops accepting, from main */
void listener_close(struct server *s);

/* Hooks of the turns. */
void listener_on_done(void *server, struct turn *t, const struct done *d);
void listener_gone(void *server, uint32_t shard, struct turn_conn *c);
void listener_logged_in(void *server, struct turn_conn *c);
void listener_refused(void *server, uint32_t shard, const struct turn_socket *socket);

#endif
