#include "core/monitor/gatewayz.h"

void gatewayz_write(const struct page_input *in, struct json_write *w)
{
    json_write_object(w, NULL);
    json_write_text(w, "server_id", in->server->id);
    json_write_time(w, "now", in->server->now_ns);
    json_write_object(w, "outbound_gateways");
    json_write_end(w);
    json_write_object(w, "inbound_gateways");
    json_write_end(w);
    json_write_end(w);
}
