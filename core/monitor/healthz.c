#include "core/monitor/healthz.h"
#include "core/monitor/js_snapshot.h"

/* What is wrong; status 200: nothing. The texts that name something are made when it is written. */
enum problem {
    PROBLEM_NONE,
    PROBLEM_NO_ACCOUNT_NAME,
    PROBLEM_NO_STREAM_NAME,
    PROBLEM_NOT_READY,
    PROBLEM_DISABLED,
    PROBLEM_READ_ONLY,
    PROBLEM_ACCOUNT,
    PROBLEM_STREAM,
    PROBLEM_CONSUMER,
    PROBLEM_LOST,
    PROBLEM_DAMAGED,
};

static const struct {
    unsigned status;
    const char *type;
    bool is_unavailable; /* else the status is called an error */
} rows[] = {
    [PROBLEM_NONE] = {200, NULL, false},
    [PROBLEM_NO_ACCOUNT_NAME] = {400, "BAD_REQUEST", false},
    [PROBLEM_NO_STREAM_NAME] = {400, "BAD_REQUEST", false},
    [PROBLEM_NOT_READY] = {500, "CONNECTION", false},
    [PROBLEM_DISABLED] = {503, "JETSTREAM", true},
    [PROBLEM_READ_ONLY] = {503, "JETSTREAM", true},
    [PROBLEM_ACCOUNT] = {404, "ACCOUNT", true},
    [PROBLEM_STREAM] = {404, "STREAM", true},
    [PROBLEM_CONSUMER] = {404, "CONSUMER", true},
    [PROBLEM_LOST] = {503, "STREAM", true},
    [PROBLEM_DAMAGED] = {503, "STREAM", true},
};

struct finding {
    enum problem problem;
    uint64_t count;
};

/* The one shard that has the stream answers for all. */
static struct finding find_asset(const struct page_input *in, const struct page_query *q)
{
    bool has_stream = false, has_consumer = false;
    uint64_t lost = 0;
    for (uint32_t i = 0; i < in->shard_count; i++) {
        const struct js_snapshot *s = in->shards[i]->js;
        if (s == NULL || !s->has_stream) continue;
        has_stream = true;
        has_consumer |= s->has_consumer;
        lost += s->asset_messages_lost;
    }
    if (!has_stream) return (struct finding){PROBLEM_STREAM, 0};
    if (q->consumer.len != 0 && !has_consumer) return (struct finding){PROBLEM_CONSUMER, 0};
    return (struct finding){lost > 0 ? PROBLEM_LOST : PROBLEM_NONE, lost};
}

/* In nats-server's order. A damaged stream is a problem of who asks for it, or for details: it must
 * not keep a server from starting. */
static struct finding find(const struct page_input *in, const struct page_query *q)
{
    const struct server_snapshot *s = in->server;
    struct finding none = {PROBLEM_NONE, 0};
    if (q->account.len == 0 && q->stream.len != 0)
        return (struct finding){PROBLEM_NO_ACCOUNT_NAME, 0};
    if (q->stream.len == 0 && q->consumer.len != 0)
        return (struct finding){PROBLEM_NO_STREAM_NAME, 0};
    if (!s->is_ready) return (struct finding){PROBLEM_NOT_READY, 0};
    /* Without JetStream in the configuration nothing else is looked at, whatever was asked. */
    if (q->js_server_only || !s->options->jetstream.is_on) return none;
    if (!s->jetstream.is_on) return (struct finding){PROBLEM_DISABLED, 0};
    if (q->js_enabled_only || q->js_enabled) return none;
    struct js_store_counts store;
    js_snapshot_merge_store(in, &store);
    if (store.state == JS_STORE_READ_ONLY) return (struct finding){PROBLEM_READ_ONLY, 0};
    const struct account *a = snapshot_account_by_name(s, q->account);
    if (q->account.len != 0 && (a == NULL || !a->jetstream.is_on))
        return (struct finding){PROBLEM_ACCOUNT, 0};
    if (q->stream.len != 0) return find_asset(in, q);
    struct js_counts counts;
    js_snapshot_merge(in, a == NULL ? UINT32_MAX : a->number, &counts);
    if (counts.messages_lost > 0 && q->details)
        return (struct finding){PROBLEM_LOST, counts.messages_lost};
    /* Whole streams may have gone with it: nobody is left who misses anything. */
    if (store.damaged_ranges > 0 && q->details)
        return (struct finding){PROBLEM_DAMAGED, store.damaged_ranges};
    return none;
}

static void write_reason(const struct page_input *in, const struct finding *f, struct text *out)
{
    const struct page_query *q = in->query;
    switch (f->problem) {
    case PROBLEM_NONE: break;
    case PROBLEM_NO_ACCOUNT_NAME:
        text_string(out, "\"account\" must not be empty when checking stream health");
        break;
    case PROBLEM_NO_STREAM_NAME:
        text_string(out, "\"stream\" must not be empty when checking consumer health");
        break;
    case PROBLEM_NOT_READY: text_bytes(out, in->server->not_ready_reason); break;
    case PROBLEM_DISABLED:
        text_string(out, "JetStream not enabled (10076)");
        if (in->server->jetstream.failure.len > 0) {
            text_string(out, ": ");
            text_bytes(out, in->server->jetstream.failure);
        }
        break;
    case PROBLEM_READ_ONLY:
        text_string(out, "JetStream store is read-only until a restart: a write failed");
        break;
    case PROBLEM_ACCOUNT:
        text_string(out, "JetStream account ");
        json_write_quote(out, q->account);
        text_string(out, " not found");
        break;
    case PROBLEM_STREAM:
        text_string(out, "JetStream stream ");
        json_write_quote(out, q->stream);
        text_string(out, " not found on account ");
        json_write_quote(out, q->account);
        break;
    case PROBLEM_CONSUMER:
        text_string(out, "JetStream consumer ");
        json_write_quote(out, q->consumer);
        text_string(out, " not found for stream ");
        json_write_quote(out, q->stream);
        text_string(out, " on account ");
        json_write_quote(out, q->account);
        break;
    case PROBLEM_LOST:
        text_u64(out, f->count);
        text_string(out, " messages were lost to damage of the JetStream store");
        break;
    case PROBLEM_DAMAGED:
        text_u64(out, f->count);
        text_string(out, " damaged ranges in the JetStream store");
        break;
    }
}

static void write_problem(const struct page_input *in, struct json_write *w,
                          const struct finding *f, struct bytes reason)
{
    const struct page_query *q = in->query;
    if (!q->details) {
        json_write_text_if(w, "error", reason);
        return;
    }
    json_write_array(w, "errors");
    json_write_object(w, NULL);
    json_write_text(w, "type", bytes_from_text(rows[f->problem].type));
    /* Of what was asked for, as far as it was looked at. */
    if (f->problem >= PROBLEM_ACCOUNT) json_write_text_if(w, "account", q->account);
    if (f->problem >= PROBLEM_STREAM) json_write_text_if(w, "stream", q->stream);
    if (f->problem >= PROBLEM_CONSUMER) json_write_text_if(w, "consumer", q->consumer);
    json_write_text_if(w, "error", reason);
    json_write_end(w);
    json_write_end(w);
}

static struct bytes status_of(enum problem problem, bool has_details)
{
    if (problem == PROBLEM_NONE) return BYTES_LITERAL("ok");
    bool is_error = !rows[problem].is_unavailable || has_details;
    return is_error ? BYTES_LITERAL("error") : BYTES_LITERAL("unavailable");
}

struct bytes healthz_status(const struct page_input *in, bool js_enabled_only, bool js_server_only)
{
    struct page_query q;
    query_init(&q, PAGE_HEALTHZ);
    q.js_enabled_only = js_enabled_only;
    q.js_server_only = js_server_only;
    return status_of(find(in, &q).problem, false);
}

unsigned healthz_write(const struct page_input *in, struct json_write *w, bool with_code)
{
    enum { REASON_BYTES_MAX = 64 * 1024 };
    struct finding f = find(in, in->query);
    struct text reason;
    text_init(&reason, in->mem, MEM_MONITOR, REASON_BYTES_MAX);
    write_reason(in, &f, &reason);
    if (reason.is_failed) w->out->is_failed = true;
    json_write_object(w, NULL);
    json_write_text(w, "status", status_of(f.problem, in->query->details));
    if (with_code) json_write_u64(w, "status_code", rows[f.problem].status);
    if (f.problem != PROBLEM_NONE) write_problem(in, w, &f, text_written(&reason));
    json_write_end(w);
    text_deinit(&reason);
    return rows[f.problem].status;
}

void healthz_write_failure(const struct page_input *in, struct text *line)
{
    enum { REASON_BYTES_MAX = 2 * 1024 };
    char room[REASON_BYTES_MAX], quoted_room[2 * REASON_BYTES_MAX + 2];
    struct finding f = find(in, in->query);
    struct text reason;
    struct writer quoted;
    if (f.problem == PROBLEM_NONE) return;
    text_string(line, "Healthcheck failed: ");
    if (in->query->details) {
        text_string(line, "1 errors"); /* so nats-server says it */
        return;
    }
    /* Names out of the query may be as long as it likes: the log has what comes before such one. */
    text_init_in(&reason, room, sizeof room);
    write_reason(in, &f, &reason);
    writer_init(&quoted, quoted_room, sizeof quoted_room);
    writer_quoted(&quoted, text_written(&reason));
    text_bytes(line, writer_written(&quoted));
}
