/* Answers to $SYS requests and the server's periodic events: one thread that takes requests from
 * the shards, collects snapshots, renders, and has the reply published by the asking shard. */
#ifndef IO_SYSTEM_PORT_H
#define IO_SYSTEM_PORT_H
#include "io/server.h"

/* open comes before the shards, start after them; close ends the thread, and free, after the shards
 * have ended, the rest. */
NODISCARD enum err system_port_open(struct server *s);
NODISCARD enum err system_port_start(struct server *s);
void system_port_close(struct server *s);
void system_port_free(struct server *s);
/* Hook of the shards: copies r and returns at once. Over SYSTEM_PORT_JOBS_MAX, or over
 * SYSTEM_PORT_BYTES_MAX behind others, it is dropped. */
void system_port_take(void *server, uint32_t shard, const struct system_request *r);
/* How many of those found no room. */
uint64_t system_port_dropped(const struct server *s);
/* Lame duck and shutdown are told to the system account; waits until the shards have it. */
void system_port_farewell(struct server *s, bool is_shutdown);

enum { SYSTEM_PORT_JOBS_MAX = 4096, SYSTEM_PORT_BYTES_MAX = 4 << 20 };

#endif
