/* /gatewayz: the shape of a server without gateways. */
#ifndef CORE_MONITOR_GATEWAYZ_H
#define CORE_MONITOR_GATEWAYZ_H
#include "core/base/json_write.h"
#include "core/monitor/snapshot.h"

/* One object. */
void gatewayz_write(const struct page_input *in, struct json_write *w);

#endif
