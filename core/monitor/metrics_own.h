/* The metrics that only this server has, under the prefix millrace_: shards, mail, memory, route
 * cache, interest index, driver, and histograms merged over the shards. */
#ifndef CORE_MONITOR_METRICS_OWN_H
#define CORE_MONITOR_METRICS_OWN_H
#include "core/monitor/snapshot.h"

/* ERR_MEMORY: nothing of the histograms was written. */
NODISCARD enum err metrics_own_write(const struct page_input *in, struct text *out);

#endif
