#include "core/proto/nats_write.h"

void nats_write_json_text(struct writer *w, struct bytes text)
{
    static const char hex[] = "0123456789abcdef";
    writer_char(w, '"');
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c == '"' || c == '\\') {
            writer_char(w, '\\');
            writer_char(w, (char)c);
        } else if (c < 32) {
            writer_text(w, "\\u00");
            writer_char(w, hex[c >> 4]);
            writer_char(w, hex[c & 15]);
        } else {
            writer_char(w, (char)c);
        }
    }
    writer_char(w, '"');
}

static void text_field(struct writer *w, const char *name, struct bytes text)
{
    writer_text(w, name);
    nats_write_json_text(w, text);
}

static void optional_text(struct writer *w, const char *name, struct bytes text)
{
    if (text.len > 0) text_field(w, name, text);
}

static void optional_flag(struct writer *w, const char *field, bool value)
{
    if (value) writer_text(w, field);
}

void nats_write_info(struct writer *w, const struct nats_info *i)
{
    text_field(w, "INFO {\"server_id\":", i->server_id);
    text_field(w, ",\"server_name\":", i->server_name);
    text_field(w, ",\"version\":", i->version);
    writer_text(w, ",\"proto\":1");
    optional_text(w, ",\"git_commit\":", i->git_commit);
    text_field(w, ",\"go\":", i->go);
    text_field(w, ",\"host\":", i->host);
    writer_text(w, ",\"port\":");
    writer_i64(w, i->port);
    writer_text(w, i->headers ? ",\"headers\":true" : ",\"headers\":false");
    optional_flag(w, ",\"auth_required\":true", i->auth_required);
    optional_flag(w, ",\"tls_required\":true", i->tls_required);
    optional_flag(w, ",\"tls_verify\":true", i->tls_verify);
    optional_flag(w, ",\"tls_available\":true", i->tls_available);
    writer_text(w, ",\"max_payload\":");
    writer_i64(w, i->max_payload);
    optional_flag(w, ",\"jetstream\":true", i->jetstream);
    if (i->client_id > 0) {
        writer_text(w, ",\"client_id\":");
        writer_u64(w, i->client_id);
    }
    optional_text(w, ",\"client_ip\":", i->client_ip);
    optional_text(w, ",\"nonce\":", i->nonce);
    optional_text(w, ",\"cluster\":", i->cluster);
    optional_text(w, ",\"domain\":", i->domain);
    optional_flag(w, ",\"ldm\":true", i->ldm);
    optional_flag(w, ",\"connect_info\":true", i->connect_info);
    optional_text(w, ",\"remote_account\":", i->remote_account);
    optional_flag(w, ",\"acc_is_sys\":true", i->is_system_account);
    writer_text(w, ",\"api_lvl\":5");
    optional_text(w, ",\"xkey\":", i->xkey);
    writer_text(w, "} \r\n");
}
