/* The request of CONSUMER.CREATE in its three forms, up to where the stream is asked for:
 *
 *   CONSUMER.CREATE.<stream>                        an ephemeral one, perhaps without a name
 *   CONSUMER.CREATE.<stream>.<name>[.<filter ...>]  any
 *   CONSUMER.DURABLE.CREATE.<stream>.<name>         a durable one
 *
 * Subjects come without the prefix $JS.API. and belong to one of these forms. */
#ifndef CORE_JS_CONSUMER_REQUEST_H
#define CORE_JS_CONSUMER_REQUEST_H
#include "core/js/consumer_config.h"

enum consumer_action {
    CONSUMER_ACTION_ANY, /* create, or update what exists */
    CONSUMER_ACTION_UPDATE,
    CONSUMER_ACTION_CREATE,
};

struct consumer_request {
    struct bytes stream_name; /* as in the subject */
    struct consumer_config config;
    uint32_t action; /* enum consumer_action */
    bool pedantic;
};

/* Decodes body and checks it against the subject, in the order of nats-server. config.name is the
 * name that the consumer gets; empty: the server picks one. False: refused. */
NODISCARD bool consumer_request_read(struct arena *arena, struct bytes subject, struct bytes body,
                                     enum request_mode mode, struct consumer_request *r,
                                     struct jsapi_error *error);

#endif
