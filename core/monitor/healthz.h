/* /healthz: is the server fit for clients? */
#ifndef CORE_MONITOR_HEALTHZ_H
#define CORE_MONITOR_HEALTHZ_H
#include "core/base/json_write.h"
#include "core/monitor/snapshot.h"

/* One object; returns the HTTP status. with_code: with a status_code member ($SYS replies). */
unsigned healthz_write(const struct page_input *in, struct json_write *w, bool with_code);
/* What the log says of a check that failed: `Healthcheck failed: "<why>"`, with details the number
 * of errors. Nothing of one that did not. */
void healthz_write_failure(const struct page_input *in, struct text *line);
/* Its "status" alone, for the parameters of these names. in may be of another page. */
struct bytes healthz_status(const struct page_input *in, bool js_enabled_only, bool js_server_only);

#endif
