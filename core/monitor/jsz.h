/* /jsz: the shape of a server without JetStream. */
#ifndef CORE_MONITOR_JSZ_H
#define CORE_MONITOR_JSZ_H
#include "core/base/json_write.h"
#include "core/monitor/snapshot.h"

/* One object. ERR_INVALID: only leaders were asked for and this server leads nothing; *error says
 * so on the HTTP page, a $SYS request stays without answer. */
NODISCARD enum err jsz_write(const struct page_input *in, struct json_write *w, struct text *error);

#endif
