/* /routez: the shape of a server without routes. */
#ifndef CORE_MONITOR_ROUTEZ_H
#define CORE_MONITOR_ROUTEZ_H
#include "core/base/json_write.h"
#include "core/monitor/snapshot.h"

/* One object. */
void routez_write(const struct page_input *in, struct json_write *w);

#endif
