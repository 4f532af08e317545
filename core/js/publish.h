/* A publish to a stream: its headers, every check in nats-server's order, and the answer. */
#ifndef CORE_JS_PUBLISH_H
#define CORE_JS_PUBLISH_H
#include "core/js/stream.h"

/* Room that scratch needs beyond the subject and twice the headers: without a status, and with
 * another lifetime. */
enum { PUBLISH_SCRATCH_EXTRA = TRANSFORM_DESTINATION_BYTES_MAX + 256 };

/* Looks at a publish in the light of everything in flight. The outcome's slices are the caller's
 * or lie in scratch (empty; room for the subject, twice the headers and PUBLISH_SCRATCH_EXTRA).
 * STREAM_STORE is followed by stream_stage or stream_cancel before the stream is asked again. */
void publish_check(struct stream *s, struct bytes subject, struct bytes headers, struct bytes body,
                   int64_t now_ns, struct writer *scratch, struct stream_outcome *out);
/* The next delete marker that is due: STREAM_STORE, or STREAM_DUPLICATE when there is none. */
void publish_check_marker(struct stream *s, int64_t now_ns, struct writer *scratch,
                          struct stream_outcome *out);
/* The answer to a publish: {"stream":..,"seq":..} or the error. domain may be empty. */
void publish_write_ack(const struct stream *s, const struct stream_outcome *o, struct bytes domain,
                       struct text *out);

#endif
