/* /metrics: the pages as Prometheus text (version 0.0.4), under the names of the NATS exporter, so
 * that existing dashboards need only a new target; and what only this server knows under the
 * prefix millrace_.
 *
 * Prefix "gnatsd" is the exporter's default spelling: gnatsd_varz_..., jetstream_server_... .
 * Any other prefix P gives P_varz_... and P_server_... ("nats" is what the Helm chart uses).
 *
 * Rules: every family has one HELP and one TYPE line, all its samples in a row, no sample twice.
 * Families of connections one by one only when the query asks for them, at most query.limit. */
#ifndef CORE_MONITOR_METRICS_H
#define CORE_MONITOR_METRICS_H
#include "core/monitor/snapshot.h"

/* ERR_MEMORY: out is not complete. */
NODISCARD enum err metrics_write(const struct page_input *in, struct text *out);

#endif
