/* The body of STREAM.MSG.GET and of DIRECT.GET requests (spec: JSApiMsgGetRequest, ADR-31). Each of
 * the two has rules of its own of what goes together. */
#ifndef CORE_JS_GET_REQUEST_H
#define CORE_JS_GET_REQUEST_H
#include "core/js/request.h"

struct get_request {
    uint64_t seq, up_to_seq;
    struct bytes last_by_subj, next_by_subj;
    int64_t batch, max_bytes;
    struct time_stamp start_time, up_to_time;
    struct request_texts multi_last;
    bool no_hdr;
};

extern const struct request_type get_request_type;

#endif
