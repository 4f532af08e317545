/* The monitoring port: HTTP requests to snapshots of all shards to pages. One thread (of io/http)
 * serves one page at a time; shards only copy counts, the rendering is done here. */
#ifndef IO_MONITOR_H
#define IO_MONITOR_H
#include "io/http.h"
#include "io/server.h"

NODISCARD enum err monitor_open(struct server *s);
/* Once a second: connections that take too long go. */
void monitor_tick(struct server *s);
/* Ends the thread; free comes when the shards have ended. */
void monitor_close(struct server *s);
void monitor_free(struct server *s);
void monitor_copy_counts(struct server *s, struct page_counts *out);
/* Snapshots of all shards for a query; the caller holds options_lock (read). */
struct monitor_pages {
    struct order *order;
    struct shard_snapshot **filled;
    const struct shard_snapshot *const *shards;
};
/* *q is the caller's, from malloc. False: a shard did not answer in time, or had no memory; nothing
 * to release then, and *q is NULL if a shard may still look at it: it stays for good. */
bool monitor_collect(struct server *s, uint32_t sender, struct page_query **q,
                     struct monitor_pages *out);
void monitor_release(struct server *s, uint32_t sender, struct monitor_pages *p);
/* What belongs to no shard, as of now. Borrows from s and o. */
void monitor_describe(struct server *s, const struct options *o, const struct page_query *q,
                      struct server_snapshot *out);

#endif
