/* The part of the API below $JS.API.CONSUMER: create, list, show, pause, reset and delete. Called
 * from jsapi_run and jsapi_stored only. CONSUMER.MSG.NEXT is no request of this kind: pull requests
 * are consumer_pull's. */
#ifndef CORE_JS_JSAPI_CONSUMER_H
#define CORE_JS_JSAPI_CONSUMER_H
#include "core/js/js.h"

/* The subject begins with $JS.API.CONSUMER. */
bool jsapi_consumer_is_for(struct bytes subject);
/* As jsapi_run; the request's arena is there. */
NODISCARD enum js_step jsapi_consumer_run(struct js *js, struct js_request *r);
/* The same, and the answer is this error whatever is asked for. */
NODISCARD enum js_step jsapi_consumer_refuse(struct js *js, struct js_request *r, enum jsapi_id id);
/* As jsapi_stored, for orders of consumers. */
NODISCARD enum js_step jsapi_consumer_stored(struct js *js, struct js_request *r, enum err result);

#endif
