/* The headers of a stored message that leaves its stream by a direct get or a republish: those it
 * was published with, and where it lies. */
#ifndef CORE_JS_MSG_HEADERS_H
#define CORE_JS_MSG_HEADERS_H
#include "core/js/stream.h"

/* Appends the block up to the value of Nats-Time-Stamp: the caller's own fields follow, each with a
 * line end in front, and the two line ends of the block. */
void msg_headers_write(const struct stream *s, const struct record *r, struct text *out);

#endif
