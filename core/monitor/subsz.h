/* /subsz: counts of the interest index and, on request, the subscriptions themselves.
 * Subscriptions come shard by shard, in the order in which their shard walks its connections. */
#ifndef CORE_MONITOR_SUBSZ_H
#define CORE_MONITOR_SUBSZ_H
#include "core/base/json_write.h"
#include "core/monitor/snapshot.h"

/* One object. */
void subsz_write(const struct page_input *in, struct json_write *w);
/* The counts alone, as members of an open object. account_only: of the query's account. */
void subsz_write_counts(const struct page_input *in, struct json_write *w, bool account_only);

#endif
