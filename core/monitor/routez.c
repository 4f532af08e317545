#include "core/monitor/routez.h"

void routez_write(const struct page_input *in, struct json_write *w)
{
    json_write_object(w, NULL);
    json_write_text(w, "server_id", in->server->id);
    json_write_text(w, "server_name", in->server->name);
    json_write_time(w, "now", in->server->now_ns);
    json_write_u64(w, "num_routes", 0);
    json_write_array(w, "routes");
    json_write_end(w);
    json_write_end(w);
}
