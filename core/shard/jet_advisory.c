/* Advisories of JetStream: made only where somebody listens, in the account they are about. They
 * leave when `out` is drained next, so they may come up in the middle of anything. */
#include "core/js/advisory.h"
#include "core/shard/jet.h"

enum { ADVISORY_BYTES_MAX = 2 * JS_REPLY_BYTES_MAX, ADVISORY_ID_BYTES = 22 };

/* Writes its subject; false: nobody listens there. */
static bool is_wanted(struct shard *s, uint32_t account, const struct advisory *a,
                      struct writer *subject)
{
    struct shard_account *of = session_account(s, account);
    advisory_subject(a, subject);
    return of != NULL && interest_exists(s->interest, of->trie, writer_written(subject));
}

static void send(struct shard *s, uint32_t account, struct advisory *a)
{
    char room[ADVISORY_SUBJECT_BYTES_MAX], id[ADVISORY_ID_BYTES];
    struct writer subject;
    struct text body;
    writer_init(&subject, room, sizeof room);
    if (!is_wanted(s, account, a, &subject)) return;
    rng_text(&s->rng, id, sizeof id);
    a->id = bytes_of(id, sizeof id);
    a->time_ns = s->now.wall_ns;
    a->domain = s->jet->js->domain;
    text_init(&body, s->mem, MEM_JETSTREAM, ADVISORY_BYTES_MAX);
    advisory_write(a, &body);
    struct jet_parts parts = {
        .account = account, .subject = writer_written(&subject), .body = text_written(&body)};
    if (!body.is_failed) jet_send_later(s, &parts);
    text_deinit(&body);
}

void jet_advisory_event(struct jet_stream *x, const struct outlet_event *e)
{
    struct advisory a = advisory_of_event(e, e->stream, e->consumer);
    send(x->jet->shard, x->s->stream.account, &a);
}

void jet_advisory_consumer_gone(struct shard *s, const struct js_stream *stream,
                                const struct consumer *c)
{
    struct advisory a = {.kind = ADVISORY_CONSUMER_DELETED,
                         .stream = stream->stream.config.name,
                         .consumer = c->name};
    if (!c->is_hidden) send(s, stream->stream.account, &a);
}

void jet_advisory_dropped(struct shard *s, uint64_t count)
{
    struct advisory a = {
        .kind = ADVISORY_LIMIT_REACHED, .server = s->server->name, .dropped = count};
    if (s->options->accounts->system != UINT32_MAX) send(s, s->options->accounts->system, &a);
}

static void send_pause(struct shard *s, const struct js_request *r)
{
    struct advisory a = {
        .kind = ADVISORY_CONSUMER_PAUSE,
        .stream = r->stream_name,
        .consumer = r->consumer_name,
        .is_paused = r->pause_until_ns > r->now_ns,
        .pause_until = {.wall_ns = r->pause_until_ns, .is_set = r->pause_until_ns != 0}};
    send(s, r->account, &a);
}

static void send_action(struct shard *s, const struct js_request *r)
{
    static const enum advisory_kind kinds[] = {
        [JS_ACTION_CREATED] = ADVISORY_STREAM_CREATED,
        [JS_ACTION_UPDATED] = ADVISORY_STREAM_UPDATED,
        [JS_ACTION_DELETED] = ADVISORY_STREAM_DELETED,
        [JS_ACTION_CONSUMER_CREATED] = ADVISORY_CONSUMER_CREATED,
    };
    struct advisory a = {.stream = r->stream_name, .consumer = r->consumer_name};
    switch (r->action) {
    case JS_ACTION_NONE:
    case JS_ACTION_CONSUMER_PAUSED:
    /* Consumers go without a request too: jet_advisory_consumer_gone tells of all. */
    case JS_ACTION_CONSUMER_DELETED: break;
    default: a.kind = kinds[r->action]; send(s, r->account, &a);
    }
    /* One may be made with a pause, or asked for again while it has one. */
    if (r->action == JS_ACTION_CONSUMER_PAUSED || r->pause_until_ns > r->now_ns) send_pause(s, r);
}

/* Who asked, where it is a client of this shard that is still there. */
static void describe(const struct shard *s, struct conn_id origin, uint32_t origin_shard,
                     struct advisory_client *out)
{
    struct conn_snapshot d = {0};
    const struct client *c = NULL;
    if (origin_shard == s->index && origin.bits != 0) c = shard_client(s, origin);
    if (c == NULL) return;
    collect_describe(s, c, &d);
    out->start_ns = d.start_ns;
    out->host = d.ip;
    out->id = d.cid;
    out->user = d.user;
    out->name = d.name;
    out->lang = d.lang;
    out->version = d.version;
    out->rtt_ns = d.rtt_ns;
    out->kind = BYTES_LITERAL("Client");
    out->type = BYTES_LITERAL("nats");
}

void jet_advisory_audit(struct shard *s, const struct jet_audit *audit)
{
    const struct shard_account *of = session_account(s, audit->account);
    struct advisory a = {.kind = ADVISORY_API,
                         .server = s->server->name,
                         .subject = audit->subject,
                         .request = audit->request,
                         .response = audit->response};
    if (of != NULL && of->conf != NULL) a.client.account = of->conf->name;
    describe(s, audit->origin, audit->origin_shard, &a.client);
    send(s, audit->account, &a);
}

void jet_advisory_request(struct shard *s, const struct js_request *r, struct conn_id origin,
                          uint32_t origin_shard)
{
    const struct advisory a = {.kind = ADVISORY_API};
    const struct jet_audit audit = {.account = r->account,
                                    .subject = r->subject,
                                    .request = r->body,
                                    .response = text_written(r->out),
                                    .origin = origin,
                                    .origin_shard = origin_shard};
    char room[ADVISORY_SUBJECT_BYTES_MAX];
    struct writer subject;
    if (!r->is_error) send_action(s, r);
    writer_init(&subject, room, sizeof room);
    if (!is_wanted(s, r->account, &a, &subject)) return;
    /* Only its own shard can name the client. Where that cannot be asked it is told without. */
    bool is_elsewhere = origin.bits != 0 && origin_shard != s->index;
    if (!is_elsewhere || !jet_mail_audit(s, &audit)) jet_advisory_audit(s, &audit);
}
