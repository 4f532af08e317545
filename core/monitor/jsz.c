#include "core/monitor/jsz.h"

enum err jsz_write(const struct page_input *in, struct json_write *w, struct text *error)
{
    if (in->query->js_leader_only) {
        text_string(error, "filtered response: not leader");
        return ERR_INVALID;
    }
    json_write_object(w, NULL);
    json_write_u64(w, "memory", 0);
    json_write_u64(w, "storage", 0);
    json_write_u64(w, "reserved_memory", 0);
    json_write_u64(w, "reserved_storage", 0);
    json_write_u64(w, "accounts", 0);
    json_write_u64(w, "ha_assets", 0);
    json_write_object(w, "api");
    json_write_u64(w, "level", 0);
    json_write_u64(w, "total", 0);
    json_write_u64(w, "errors", 0);
    json_write_end(w);
    json_write_text(w, "server_id", in->server->id);
    json_write_time(w, "now", in->server->now_ns);
    json_write_bool(w, "disabled", true);
    json_write_object(w, "config");
    json_write_u64(w, "max_memory", 0);
    json_write_u64(w, "max_storage", 0);
    json_write_end(w);
    json_write_u64(w, "streams", 0);
    json_write_u64(w, "consumers", 0);
    json_write_u64(w, "messages", 0);
    json_write_u64(w, "bytes", 0);
    json_write_u64(w, "total", 0);
    json_write_end(w);
    return ERR_OK;
}
