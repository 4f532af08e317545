/* /jsz, and what other pages show of JetStream. */
#ifndef CORE_MONITOR_JSZ_H
#define CORE_MONITOR_JSZ_H
#include "core/base/json_write.h"
#include "core/monitor/js_snapshot.h"

/* One object. ERR_INVALID: only leaders were asked for and there is no JetStream; *error says so on
 * the HTTP page, a $SYS request stays without answer. ERR_MEMORY. */
NODISCARD enum err jsz_write(const struct page_input *in, struct json_write *w, struct text *error);
/* The object of the query's account alone. ERR_INVALID: it has no JetStream. ERR_MEMORY. */
NODISCARD enum err jsz_write_account(const struct page_input *in, struct json_write *w,
                                     struct text *error);
/* The member "jetstream" of /varz and STATSZ: what is configured, held and allowed. */
void jsz_write_server(const struct page_input *in, struct json_write *w, bool with_store_dir);

#endif
