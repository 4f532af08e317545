#include "core/js/advisory.h"
#include "core/base/json_write.h"
#include "core/base/must.h"

static const struct {
    const char *subject, *type, *action;
} rows[ADVISORY_KIND_COUNT] = {
    [ADVISORY_API] = {"ADVISORY.API", "advisory.v1.api_audit", NULL},
    [ADVISORY_LIMIT_REACHED] = {"ADVISORY.API.LIMIT_REACHED", "advisory.v1.api_limit_reached",
                                NULL},
    [ADVISORY_STREAM_CREATED] = {"ADVISORY.STREAM.CREATED", "advisory.v1.stream_action", "create"},
    [ADVISORY_STREAM_UPDATED] = {"ADVISORY.STREAM.UPDATED", "advisory.v1.stream_action", "modify"},
    [ADVISORY_STREAM_DELETED] = {"ADVISORY.STREAM.DELETED", "advisory.v1.stream_action", "delete"},
    [ADVISORY_CONSUMER_CREATED] = {"ADVISORY.CONSUMER.CREATED", "advisory.v1.consumer_action",
                                   "create"},
    [ADVISORY_CONSUMER_DELETED] = {"ADVISORY.CONSUMER.DELETED", "advisory.v1.consumer_action",
                                   "delete"},
    [ADVISORY_CONSUMER_PAUSE] = {"ADVISORY.CONSUMER.PAUSE", "advisory.v1.consumer_pause", NULL},
    [ADVISORY_MAX_DELIVERIES] = {"ADVISORY.CONSUMER.MAX_DELIVERIES", "advisory.v1.max_deliver",
                                 NULL},
    [ADVISORY_MSG_NAKED] = {"ADVISORY.CONSUMER.MSG_NAKED", "advisory.v1.nak", NULL},
    [ADVISORY_MSG_TERMINATED] = {"ADVISORY.CONSUMER.MSG_TERMINATED", "advisory.v1.terminated",
                                 NULL},
    [ADVISORY_ACK_METRIC] = {"METRIC.CONSUMER.ACK", "metric.v1.consumer_ack", NULL},
};

struct advisory advisory_of_event(const struct outlet_event *e, struct bytes stream,
                                  struct bytes consumer)
{
    static const enum advisory_kind kinds[] = {
        [OUTLET_MAX_DELIVERIES] = ADVISORY_MAX_DELIVERIES,
        [OUTLET_NAK] = ADVISORY_MSG_NAKED,
        [OUTLET_TERMINATED] = ADVISORY_MSG_TERMINATED,
        [OUTLET_ACK_SAMPLE] = ADVISORY_ACK_METRIC,
        [OUTLET_PAUSE_OVER] = ADVISORY_CONSUMER_PAUSE,
    };
    must((size_t)e->kind < sizeof kinds / sizeof kinds[0]);
    return (struct advisory){.kind = kinds[e->kind],
                             .stream = stream,
                             .consumer = consumer,
                             .stream_seq = e->stream_seq,
                             .consumer_seq = e->consumer_seq,
                             .deliveries = e->deliveries,
                             .ack_ns = e->ack_ns,
                             .reason = e->reason,
                             .pause_until = {.wall_ns = e->until_ns, .is_set = e->until_ns != 0}};
}

static bool is_of_consumer(enum advisory_kind kind)
{
    return kind >= ADVISORY_CONSUMER_CREATED;
}

void advisory_subject(const struct advisory *a, struct writer *out)
{
    must(a->kind < ADVISORY_KIND_COUNT);
    writer_text(out, "$JS.EVENT.");
    writer_text(out, rows[a->kind].subject);
    if (a->kind <= ADVISORY_LIMIT_REACHED) return;
    writer_char(out, '.');
    writer_bytes(out, a->stream);
    if (!is_of_consumer(a->kind)) return;
    writer_char(out, '.');
    writer_bytes(out, a->consumer);
}

static void write_client(struct json_write *w, const struct advisory *a)
{
    const struct advisory_client *c = &a->client;
    json_write_object(w, "client");
    json_write_time_if(w, "start", c->start_ns);
    json_write_text_if(w, "host", c->host);
    json_write_u64_if(w, "id", c->id);
    json_write_text_if(w, "acc", c->account);
    json_write_text_if(w, "user", c->user);
    json_write_text_if(w, "name", c->name);
    json_write_text_if(w, "lang", c->lang);
    json_write_text_if(w, "ver", c->version);
    json_write_i64_if(w, "rtt", c->rtt_ns);
    json_write_text_if(w, "server", a->server);
    json_write_text_if(w, "issuer_key", c->issuer_key);
    json_write_text_if(w, "name_tag", c->name_tag);
    json_write_text_if(w, "kind", c->kind);
    json_write_text_if(w, "client_type", c->type);
    json_write_end(w);
}

static void write_pause(struct json_write *w, const struct advisory *a)
{
    json_write_bool(w, "paused", a->is_paused);
    if (!a->pause_until.is_set || a->pause_until.is_zero) {
        json_write_text(w, "pause_until", BYTES_LITERAL("0001-01-01T00:00:00Z"));
        return;
    }
    json_write_time(w, "pause_until", a->pause_until.wall_ns);
}

static void write_delivery(struct json_write *w, const struct advisory *a)
{
    if (a->kind != ADVISORY_MAX_DELIVERIES) json_write_u64(w, "consumer_seq", a->consumer_seq);
    json_write_u64(w, "stream_seq", a->stream_seq);
    if (a->kind == ADVISORY_ACK_METRIC) json_write_i64(w, "ack_time", a->ack_ns);
    json_write_u64(w, "deliveries", a->deliveries);
    if (a->kind == ADVISORY_MSG_TERMINATED) json_write_text_if(w, "reason", a->reason);
}

static void write_type(struct json_write *w, const struct advisory *a)
{
    char room[64];
    struct writer type;
    writer_init(&type, room, sizeof room);
    writer_text(&type, "io.nats.jetstream.");
    writer_text(&type, rows[a->kind].type);
    must(!type.is_full);
    json_write_text(w, "type", writer_written(&type));
}

void advisory_write(const struct advisory *a, struct text *out)
{
    struct json_write w;
    must(a->kind < ADVISORY_KIND_COUNT);
    json_write_init(&w, out, 0);
    json_write_object(&w, NULL);
    write_type(&w, a);
    json_write_text(&w, "id", a->id);
    json_write_time(&w, "timestamp", a->time_ns);
    if (a->kind == ADVISORY_API) {
        json_write_text(&w, "server", a->server);
        write_client(&w, a);
        json_write_text(&w, "subject", a->subject);
        json_write_text_if(&w, "request", a->request);
        json_write_text(&w, "response", a->response);
    } else if (a->kind == ADVISORY_LIMIT_REACHED) {
        json_write_text(&w, "server", a->server);
        json_write_text_if(&w, "domain", a->domain);
        json_write_u64(&w, "dropped", a->dropped);
        json_write_end(&w);
        return;
    } else {
        json_write_text(&w, "stream", a->stream);
        if (is_of_consumer(a->kind)) json_write_text(&w, "consumer", a->consumer);
    }
    if (rows[a->kind].action != NULL)
        json_write_text(&w, "action", bytes_from_text(rows[a->kind].action));
    if (a->kind == ADVISORY_CONSUMER_PAUSE) write_pause(&w, a);
    if (a->kind >= ADVISORY_MAX_DELIVERIES) write_delivery(&w, a);
    json_write_text_if(&w, "domain", a->domain);
    json_write_end(&w);
}
