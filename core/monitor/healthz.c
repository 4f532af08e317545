#include "core/monitor/healthz.h"

struct finding {
    unsigned status;
    const char *type;
    struct bytes text;
};

static struct finding find(const struct page_input *in)
{
    const struct page_query *q = in->query;
    if (q->account.len == 0 && q->stream.len != 0)
        return (struct finding){400, "BAD_REQUEST",
                                BYTES_LITERAL("\"account\" must not be empty when checking stream "
                                              "health")};
    if (q->stream.len == 0 && q->consumer.len != 0)
        return (struct finding){400, "BAD_REQUEST",
                                BYTES_LITERAL("\"stream\" must not be empty when checking consumer "
                                              "health")};
    if (!in->server->is_ready)
        return (struct finding){500, "CONNECTION", in->server->not_ready_reason};
    /* Without JetStream in the configuration nothing else is looked at, whatever was asked. */
    return (struct finding){200, NULL, {NULL, 0}};
}

unsigned healthz_write(const struct page_input *in, struct json_write *w, bool with_code)
{
    struct finding f = find(in);
    bool is_ok = f.status == 200;
    json_write_object(w, NULL);
    json_write_text(w, "status", is_ok ? BYTES_LITERAL("ok") : BYTES_LITERAL("error"));
    if (with_code) json_write_u64(w, "status_code", f.status);
    if (!is_ok && in->query->details) {
        json_write_array(w, "errors");
        json_write_object(w, NULL);
        json_write_text(w, "type", bytes_from_text(f.type));
        json_write_text_if(w, "error", f.text);
        json_write_end(w);
        json_write_end(w);
    } else if (!is_ok) {
        json_write_text_if(w, "error", f.text);
    }
    json_write_end(w);
    return f.status;
}
