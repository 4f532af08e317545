#include "core/js/msg_headers.h"
#include "core/base/time_text.h"

void msg_headers_write(const struct stream *s, const struct record *r, struct text *out)
{
    if (r->headers.len > 2)
        text_bytes(out, bytes_of(r->headers.data, r->headers.len - 2));
    else
        text_string(out, "NATS/1.0\r\n");
    text_string(out, "Nats-Stream: ");
    text_bytes(out, s->config.name);
    text_string(out, "\r\nNats-Subject: ");
    text_bytes(out, r->subject);
    text_string(out, "\r\nNats-Sequence: ");
    text_u64(out, r->seq);
    text_string(out, "\r\nNats-Time-Stamp: ");
    time_text_rfc3339(out, r->time_ns);
}
