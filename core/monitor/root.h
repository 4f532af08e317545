/* /: an HTML page with links to the others. */
#ifndef CORE_MONITOR_ROOT_H
#define CORE_MONITOR_ROOT_H
#include "core/base/json_write.h"
#include "core/monitor/snapshot.h"

void root_write(const struct page_input *in, struct text *out);

#endif
