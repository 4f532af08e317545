/* The monitoring port: HTTP requests to snapshots of all shards to pages. One thread (of io/http)
 * serves one page at a time; shards only copy counts, the rendering is done here. */
#ifndef IO_MONITOR_H
#define IO_MONITOR_H
#include "io/http.h"
#include "io/server.h"

NODISCARD enum err monitor_open(struct server *s);
void monitor_close(struct server *s);
/* A page's JSON or text for any thread with a sender number of its own. q is parsed. */
struct text;
struct page_answer;
struct page_query;
void monitor_render(struct server *s, uint32_t sender, struct page_query *q, struct mem *mem,
                    struct text *body, struct page_answer *answer);

#endif
