/* /leafz: the shape of a server without leaf nodes. */
#ifndef CORE_MONITOR_LEAFZ_H
#define CORE_MONITOR_LEAFZ_H
#include "core/base/json_write.h"
#include "core/monitor/snapshot.h"

/* One object. */
void leafz_write(const struct page_input *in, struct json_write *w);

#endif
