/* Requests on $JS.API.>: request bytes in, reply bytes out, over the registry of core/js/js (which
 * shows how a request waits). Streams, their messages, the account; jsapi_consumer has the others.
 * Direct gets, whose answers are messages and not JSON, are not here. */
#ifndef CORE_JS_JSAPI_H
#define CORE_JS_JSAPI_H
#include "core/js/js.h"

/* The caller's members of r are set, the others zero; out is empty. */
NODISCARD enum js_step jsapi_run(struct js *js, struct js_request *r);
/* Its ticket is durable (ERR_OK) or failed. */
NODISCARD enum js_step jsapi_stored(struct js *js, struct js_request *r, enum err result);
/* What the directory said to its claim. */
NODISCARD enum js_step jsapi_claimed(struct js *js, struct js_request *r, enum directory_verdict v);
/* The texts of its page are there. */
NODISCARD enum js_step jsapi_paged(struct js *js, struct js_request *r);
/* What jsapi_paged wants of a stream that lives here; nothing when it has gone. */
void jsapi_write_item(struct js *js, int64_t now_ns, uint64_t stream, struct text *out);
/* The stream that a request is about; empty: none, or no request that there is. */
struct bytes jsapi_stream_of(struct bytes subject);
/* Its read ended; record is void after an error. */
NODISCARD enum js_step jsapi_read(struct js *js, struct js_request *r, enum err result,
                                  const struct record *record);
/* Gives its memory back. out stays. */
void jsapi_end(struct js_request *r);

#endif
