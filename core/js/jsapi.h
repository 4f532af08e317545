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
/* Its read ended; record is void after an error. */
NODISCARD enum js_step jsapi_read(struct js *js, struct js_request *r, enum err result,
                                  const struct record *record);
/* Gives its memory back. out stays. */
void jsapi_end(struct js_request *r);

#endif
