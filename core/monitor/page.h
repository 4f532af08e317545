/* One page from snapshots: the bodies of HTTP answers, with status and content type, and the data
 * part of $SYS replies. */
#ifndef CORE_MONITOR_PAGE_H
#define CORE_MONITOR_PAGE_H
#include "core/base/json_write.h"
#include "core/monitor/snapshot.h"

enum {
    PAGE_INDENT = 2,
    /* A page of 10,000 closed connections with all subscriptions stays far below. */
    PAGE_BYTES_MAX = 256 * 1024 * 1024,
};

struct page_answer {
    unsigned status;
    const char *content_type; /* static */
    bool is_cors;             /* Access-Control-Allow-Origin: * goes with it */
};

/* Writes the page of in->query into body, which is empty. Always answers something: out of memory
 * is a 503 with a short text. */
void page_render(const struct page_input *in, struct text *body, struct page_answer *answer);
/* The answer to a query that did not parse: status 400 with the error's text. */
void page_refuse(const struct text *error, struct text *body, struct page_answer *answer);

/* The page's JSON value alone, under no key or after json_write_key. ERR_INVALID: *error is the
 * text of status 400. ERR_UNKNOWN: a page that has no JSON form. ERR_CLOSED: no answer at all is
 * due (a filter left this server out). ERR_MEMORY: what was written is not complete. */
NODISCARD enum err page_write(const struct page_input *in, struct json_write *w,
                              struct text *error);

#endif
