/* /varz: the server as a whole, with the fields of nats-server in their order.
 * Blocks of parts that this server does not have (gateway, leaf, mqtt, websocket, jetstream) are
 * there and empty, as in a nats-server where they are not configured. */
#ifndef CORE_MONITOR_VARZ_H
#define CORE_MONITOR_VARZ_H
#include "core/base/json_write.h"
#include "core/monitor/snapshot.h"

/* One object. */
void varz_write(const struct page_input *in, struct json_write *w);
/* The two counts objects that /varz and statsz share. */
void varz_write_kinds(struct json_write *w, const char *key, const struct conn_kind_counts *c);
/* The metadata member of an open object; nothing when there is none. */
/* "feature_flags", as nats-server without a configuration shows them. */
void varz_write_features(struct json_write *w);
void varz_write_metadata(struct json_write *w, const struct options *o);

#endif
