/* /connz: connections, open and closed, filtered, sorted and paged.
 * Each shard brings its best offset + limit connections; the page is cut out of all of them. */
#ifndef CORE_MONITOR_CONNZ_H
#define CORE_MONITOR_CONNZ_H
#include "core/base/json_write.h"
#include "core/monitor/snapshot.h"

/* One object. An account that nobody knows gives the empty answer of nats-server: no server id and
 * connections null. ERR_MEMORY. */
NODISCARD enum err connz_write(const struct page_input *in, struct json_write *w);
/* Fields of one subscription, as an element of an array. */
void connz_write_sub(struct json_write *w, const struct sub_snapshot *sub, bool with_account);
/* "Client", ...; "nats", "websocket", "mqtt" or empty. Static text. */
struct bytes connz_kind_text(enum conn_kind kind);
struct bytes connz_type_text(enum conn_type type);

#endif
