/* JetStream at /metrics: the exporter's names, and our own about the store. */
#ifndef CORE_MONITOR_METRICS_JS_H
#define CORE_MONITOR_METRICS_JS_H
#include "core/base/text.h"
#include "core/monitor/js_snapshot.h"

/* Under prefix: the server, its accounts, and the streams and consumers of the snapshots.
 * server_id: the label's value. ERR_MEMORY. */
NODISCARD enum err metrics_js_write(const struct page_input *in, struct bytes prefix,
                                    struct bytes server_id, struct text *out);
/* Under millrace_jetstream_. ERR_MEMORY. */
NODISCARD enum err metrics_js_write_own(const struct page_input *in, struct text *out);

#endif
