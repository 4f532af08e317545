#include "core/js/get_request.h"

static const struct request_field fields[] = {
    REQUEST_FIELD(struct get_request, seq, "seq", REQUEST_UINT64),
    REQUEST_FIELD(struct get_request, last_by_subj, "last_by_subj", REQUEST_TEXT),
    REQUEST_FIELD(struct get_request, next_by_subj, "next_by_subj", REQUEST_TEXT),
    REQUEST_FIELD(struct get_request, batch, "batch", REQUEST_INT),
    REQUEST_FIELD(struct get_request, max_bytes, "max_bytes", REQUEST_INT),
    REQUEST_FIELD(struct get_request, start_time, "start_time", REQUEST_TIME),
    REQUEST_FIELD(struct get_request, multi_last, "multi_last", REQUEST_TEXTS),
    REQUEST_FIELD(struct get_request, up_to_seq, "up_to_seq", REQUEST_UINT64),
    REQUEST_FIELD(struct get_request, up_to_time, "up_to_time", REQUEST_TIME),
    REQUEST_FIELD(struct get_request, no_hdr, "no_hdr", REQUEST_BOOL),
};

const struct request_type get_request_type = {
    "JSApiMsgGetRequest", fields, sizeof fields / sizeof fields[0], sizeof(struct get_request)};
