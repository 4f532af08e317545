/* How many messages a consumer has before it (num_pending), from the indexes alone.
 *
 * With T the total of the filters over the whole stream (subject_index_total):
 *   start at or before the first message     T
 *   T is all messages of the stream          live messages from the start on: msgs_count
 *   one literal subject                      its list, or a search between its first and last
 *   anything else                            a set of the nodes, then the smaller side of the
 *                                            start is read, 4 bytes a message */
#ifndef CORE_JS_PENDING_H
#define CORE_JS_PENDING_H
#include "core/js/subject_index.h"

/* Live messages with sequence >= seq that match one of the filters. The filters are valid and do
 * not overlap; none stands for ">". ERR_MEMORY: no memory for the set; nothing changed. */
NODISCARD enum err pending_count(struct subject_index *x, const struct msgs *msgs,
                                 const struct bytes *filters, uint32_t filter_count, uint64_t seq,
                                 uint64_t *count);

#endif
