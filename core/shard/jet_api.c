/* Requests on $JS.API.> and direct gets: they wait for tickets and reads, and are answered. */
#include "core/base/must.h"
#include "core/shard/jet.h"

enum { REPLY_BYTES_MAX = JS_REPLY_BYTES_MAX };
static const uint64_t TELL_NS =
    100000000; /* between two advisories of requests that were dropped */
static const uint64_t DELETE_NS = 1000000000; /* for a deletion; one that fails does not say so */
static const uint64_t DRY_NS = 2000000000u;   /* so long an answer waits for memory */

/* --- requests -------------------------------------------------------------------------------- */

static void on_read(struct shard *s, struct jet_reader *reader, enum err e,
                    const struct record *record);

static char *put(char *to, struct bytes *slot, struct bytes from)
{
    if (from.len > 0) memcpy(to, from.data, from.len);
    *slot = bytes_of(to, from.len);
    return to + from.len;
}

/* Those that only read have a queue of their own, as in nats-server. */
static bool is_info(struct bytes subject)
{
    static const char *const reading[] = {"$JS.API.STREAM.INFO.",    "$JS.API.STREAM.NAMES",
                                          "$JS.API.STREAM.LIST",     "$JS.API.CONSUMER.INFO.",
                                          "$JS.API.CONSUMER.NAMES.", "$JS.API.CONSUMER.LIST."};
    if (bytes_equal(subject, BYTES_LITERAL("$JS.API.INFO"))) return true;
    for (size_t i = 0; i < sizeof reading / sizeof reading[0]; i++)
        if (bytes_starts_with(subject, bytes_from_text(reading[i]))) return true;
    return false;
}

/* With this one as many wait as may: it is dropped, as nats-server does. */
static bool is_full(struct shard *s, bool is_reading)
{
    const struct options_jetstream *o = &s->options->jetstream;
    int64_t max = is_reading ? o->info_queue_max : o->request_queue_max;
    return (int64_t)s->jet->request_count[is_reading] + 1 >= max;
}

uint64_t jet_api_tell_ns(const struct jet *j)
{
    if (j->requests_dropped[0] + j->requests_dropped[1] == 0) return UINT64_MAX;
    return j->dropped_told_ns == 0 ? 0 : j->dropped_told_ns + TELL_NS;
}

void jet_api_tell_dropped(struct shard *s)
{
    struct jet *j = s->jet;
    if (s->now.mono_ns < jet_api_tell_ns(j)) return;
    for (int i = 0; i < 2; i++) {
        uint64_t count = j->requests_dropped[i];
        if (count == 0) continue;
        struct writer *w = session_log_open(s, NULL);
        writer_text(w, i == 0 ? "JetStream API queue" : "JetStream API info queue");
        writer_text(w, " limit reached, dropping ");
        writer_u64(w, count);
        writer_text(w, " requests");
        session_log_close(s, LOG_LEVEL_WRN);
        jet_advisory_dropped(s, count);
        j->requests_dropped[i] = 0;
    }
    j->dropped_told_ns = s->now.mono_ns;
}

static struct jet_request *make_request(struct shard *s, const struct message *m)
{
    struct bytes name = m->account->conf != NULL ? m->account->conf->name : bytes_of(NULL, 0);
    size_t bytes =
        sizeof(struct jet_request) + m->subject.len + m->reply.len + m->total_bytes + 2 + name.len;
    struct jet_request *q = mem_alloc_zero(s->mem, MEM_JETSTREAM, bytes);
    if (q == NULL) return NULL;
    q->bytes = bytes;
    q->reader.done = on_read;
    list_init(&q->link);
    text_init(&q->out, s->mem, MEM_JETSTREAM, REPLY_BYTES_MAX);
    char *to = (char *)(q + 1);
    to = put(to, &q->r.subject, m->subject);
    to = put(to, &q->reply, m->reply);
    to = put(to, &q->r.headers, bytes_of(m->payload, m->header_bytes));
    to = put(to, &q->r.body,
             bytes_of(m->payload + m->header_bytes, m->total_bytes - m->header_bytes));
    to += 2; /* headers and body as a payload, should it have to go elsewhere */
    put(to, &q->r.account_name, name);
    q->origin = m->origin;
    q->origin_shard = m->origin_shard;
    q->r.account = m->account->number;
    q->r.out = &q->out;
    q->r.now_ns = s->now.wall_ns;
    q->r.mono_ns = s->now.mono_ns;
    q->r.context = &q->reader;
    q->is_reading = is_info(q->r.subject);
    s->jet->request_count[q->is_reading]++;
    return q;
}

/* --- order -------------------------------------------------------------------------------------
 *
 * Requests about a stream take effect in the order in which they came, also behind one that waits
 * for the directory before the stream is anything here. */

static uint64_t about_of(const struct js_request *r)
{
    struct bytes name = jsapi_stream_of(r->subject);
    return name.len == 0 ? 0 : hash_bytes(name.data, name.len, r->account);
}

static bool has_first(const struct jet *j, uint64_t about)
{
    uint32_t at;
    return about != 0 && table_first(&j->firsts, about, &at) != NULL;
}

/* Without memory for it the order is as it comes. */
static void become_first(struct jet *j, struct jet_request *q)
{
    q->about = about_of(&q->r);
    q->is_first = q->about != 0 && table_insert(&j->firsts, q->about, q) == ERR_OK;
}

static void end_first(struct jet *j, struct jet_request *q)
{
    if (!q->is_first) return;
    must(table_remove(&j->firsts, q->about, q) == ERR_OK);
    q->is_first = false;
    j->has_released = true;
}

/* Whoever is behind has a first: when that one goes on, so do they, in the same step. */
static bool waits_behind(struct jet *j, struct jet_request *q)
{
    uint64_t about = about_of(&q->r);
    if (!has_first(j, about)) return false;
    q->about = about;
    list_push(&j->behind, &q->link);
    return true;
}

static void end_request(struct shard *s, struct jet_request *q)
{
    end_first(s->jet, q);
    jsapi_end(&q->r);
    list_remove(&q->link);
    text_deinit(&q->out);
    s->jet->request_count[q->is_reading]--;
    mem_free(s->mem, MEM_JETSTREAM, q, q->bytes);
}

/* In the order of tickets, and of one ticket in the order of their arrival. */
static void wait_for_ticket(struct shard *s, struct jet_request *q)
{
    struct list *before = s->jet->requests.prev;
    while (before != &s->jet->requests &&
           LIST_OWNER(before, struct jet_request, link)->r.ticket > q->r.ticket)
        before = before->prev;
    list_push(before->next, &q->link);
}

static void reply(struct shard *s, struct jet_request *q)
{
    struct jet_parts parts = {.account = q->r.account,
                              .subject = q->reply,
                              .body = q->out.is_failed ? BYTES_LITERAL(JET_NO_MEMORY)
                                                       : text_written(&q->out)};
    bool is_sent = q->reply.len == 0 || jet_send(s, &parts);
    parts.body = BYTES_LITERAL(JET_NO_MEMORY);
    if (UNLIKELY(!is_sent) && !jet_send(s, &parts)) relay_end_client(s, q->origin_shard, q->origin);
    if (!q->out.is_failed) jet_advisory_request(s, &q->r, q->origin, q->origin_shard);
}

/* The directory has heard of a change before the client does: a list that it asks for next has it,
 * whatever way that comes, and the subjects of a stream that went are free. False: not yet. */
static bool tell(struct shard *s, struct jet_request *q)
{
    if (q->r.notice == JS_NOTICE_NONE) return true;
    if (!q->is_told) q->is_told = jet_mail_notice(s, q);
    if (!q->is_told || !relay_is_clear(s, JET_DIRECTORY_SHARD)) return false;
    if (q->told_until == 0) q->told_until = relay_position(s, JET_DIRECTORY_SHARD);
    return relay_is_reached(s, JET_DIRECTORY_SHARD, q->told_until);
}

/* What it made is reached by what is sent to it: before, that would have no responders. Where
 * another shard was just writing in the index one more step is enough; with no memory for the
 * stream's subscriptions it takes a while, and after a longer one it is answered. */
static bool is_served(struct shard *s, struct jet_request *q)
{
    if (q->r.order == JS_ORDER_NONE || list_is_empty(&s->jet->unsubscribed)) return true;
    const struct js_stream *stream = js_find_id(s->jet->js, q->r.stream_id);
    const struct jet_stream *x = stream == NULL ? NULL : stream->owner;
    if (x == NULL || list_is_empty(&x->unsubscribed)) return true;
    if (q->done_ns == 0) q->done_ns = s->now.mono_ns;
    return s->now.mono_ns - q->done_ns > DRY_NS;
}

uint64_t jet_api_awaits(const struct shard *s, uint32_t target)
{
    uint64_t first = 0;
    if (target != JET_DIRECTORY_SHARD) return 0;
    for (uint32_t i = 0; i < s->jet_count; i++) {
        const struct list *telling = &s->jets[i]->telling;
        for (const struct list *link = telling->next; link != telling; link = link->next) {
            uint64_t until = LIST_OWNER(link, const struct jet_request, link)->told_until;
            if (until == 0) continue;
            if (first == 0 || until < first) first = until;
            break; /* those behind it were told later */
        }
    }
    return first;
}

/* The directory says another log than the one that was asked. */
static void send_on(struct shard *s, const struct jet_request *q)
{
    struct message m = {.account = session_account(s, q->r.account),
                        .subject = q->r.subject,
                        .reply = q->reply,
                        .payload = q->r.headers.data,
                        .header_bytes = (uint32_t)q->r.headers.len,
                        .total_bytes = (uint32_t)(q->r.headers.len + q->r.body.len),
                        .origin = q->origin,
                        .origin_shard = q->origin_shard};
    bool is_here = s->index == JET_DIRECTORY_SHARD;
    if (m.account != NULL &&
        (is_here ? jet_queue_message(s, &s->jets[0]->inbox, JET_SUB_API, NULL, &m) != ERR_OK
                 : !jet_mail_request(s, JET_DIRECTORY_SHARD, JET_LOG_ANY, &m)))
        jet_send_refusal(s, JET_SUB_API, &m);
}

/* Asks other shards. Without memory it is refused as anything is. */
static void ask(struct shard *s, struct jet_request *q, enum js_step step)
{
    q->wait = step;
    q->token = ++s->jet->last_token;
    q->owed = 0;
    list_push(&s->jet->asking, &q->link);
    if (step == JS_WAIT_CLAIM) become_first(s->jet, q);
    bool is_asked = step == JS_WAIT_CLAIM ? jet_mail_claim(s, q) : jet_mail_page(s, q);
    if (!is_asked && step == JS_WAIT_CLAIM) q->verdict = DIRECTORY_MEMORY;
    if (q->owed > 0) return;
    list_remove(&q->link);
    list_push(&s->jet->answered, &q->link);
}

/* The directory is asked again in a while: what comes behind it waits on. */
static bool asks_again(const struct jet_request *q)
{
    return q->r.order == JS_ORDER_AGAIN && q->r.ticket == 0;
}

/* Goes on with a request as its last step said. */
static void go_on(struct shard *s, struct jet_request *q, enum js_step step)
{
    list_remove(&q->link);
    switch (step) {
    case JS_WAIT_STORED:
        wait_for_ticket(s, q);
        if (asks_again(q)) become_first(s->jet, q);
        return;
    case JS_WAIT_READ: list_push(&s->jet->reading, &q->link); return;
    case JS_WAIT_CLAIM:
    case JS_WAIT_PAGE: ask(s, q, step); return;
    case JS_ELSEWHERE: send_on(s, q); break;
    case JS_MORE: list_push(&s->jet->working, &q->link); return;
    case JS_SILENT:
    case JS_REPLY:
        if (!is_served(s, q) || !tell(s, q)) {
            q->wait = step;
            list_push(&s->jet->telling, &q->link);
            return;
        }
        if (step == JS_REPLY) reply(s, q);
        break;
    }
    end_request(s, q);
}

static void on_read(struct shard *s, struct jet_reader *reader, enum err e,
                    const struct record *record)
{
    struct jet_request *q = (struct jet_request *)(void *)reader;
    go_on(s, q, jsapi_read(s->jet->js, &q->r, e, record));
}

static bool is_of_all_logs(const struct shard *s, const struct js_request *r)
{
    return s->config.log_total > 1 && bytes_equal(r->subject, BYTES_LITERAL("$JS.API.INFO"));
}

void jet_api_request(struct shard *s, const struct message *m)
{
    bool is_reading = is_info(m->subject);
    if (is_full(s, is_reading)) {
        s->counts.dropped_msgs++;
        s->jet->requests_dropped[is_reading]++;
        return;
    }
    struct jet_request *q = make_request(s, m);
    if (q == NULL) {
        jet_send_refusal(s, JET_SUB_API, m);
        return;
    }
    if (UNLIKELY(s->jet->firsts.count > 0) && waits_behind(s->jet, q)) return;
    if (!is_of_all_logs(s, &q->r)) {
        go_on(s, q, jsapi_run(s->jet->js, &q->r));
        return;
    }
    q->token = ++s->jet->last_token;
    q->wait = JS_SILENT; /* it is run when the sums are there */
    list_push(&s->jet->asking, &q->link);
    if (!jet_mail_usage(s, q)) {
        q->out.is_failed = true;
        go_on(s, q, JS_REPLY);
        return;
    }
    if (q->owed > 0) return;
    list_remove(&q->link);
    list_push(&s->jet->answered, &q->link);
}

/* The log that a request goes to. */
static uint32_t log_of(struct shard *s, const struct message *m)
{
    struct bytes name = jsapi_stream_of(m->subject);
    if (name.len == 0 || m->account->conf == NULL) return 0;
    const struct directory_entry *e = directory_find(s->config.directory, m->account->number, name);
    if (e != NULL) return e->log;
    return js_place(m->account->conf->name, name, s->shard_count);
}

/* Requests of one client take effect in their order, also where they are about streams of other
 * logs: who wants the subjects of a stream that is to be deleted does not come too early. */
static void note_delete(struct shard *s, const struct message *m)
{
    struct bytes body = bytes_of(m->payload + m->header_bytes, m->total_bytes - m->header_bytes);
    if (!bytes_starts_with(m->subject, BYTES_LITERAL("$JS.API.STREAM.DELETE."))) return;
    if (request_is_empty(body))
        directory_end_soon(s->config.directory, m->account->number, jsapi_stream_of(m->subject),
                           s->now.mono_ns + DELETE_NS);
}

/* False: not now. */
static bool route(struct shard *s, const struct message *m)
{
    uint32_t log = log_of(s, m), shard = log % s->shard_count;
    note_delete(s, m);
    if (shard != s->index) return jet_mail_request(s, shard, log, m);
    struct jet *before = s->jet;
    s->jet = jet_of_log(s, log);
    must(s->jet != NULL);
    jet_api_request(s, m);
    s->jet = before;
    return true;
}

void jet_api_route(struct shard *s, const struct message *m)
{
    struct jet_queue *q = &s->jet->forwards;
    must(s->config.directory != NULL);
    if (q->count == 0 && route(s, m)) return;
    bool is_all = q->count >= JET_FORWARDS_MAX || q->bytes >= JET_FORWARDS_BYTES_MAX;
    if (is_all || jet_queue_message(s, q, JET_SUB_API, NULL, m) != ERR_OK)
        jet_send_refusal(s, JET_SUB_API, m);
}

static void go_on_answered(struct shard *s, struct jet_request *q)
{
    struct js *js = s->jet->js;
    end_first(s->jet, q);
    switch (q->wait) {
    case JS_WAIT_CLAIM: go_on(s, q, jsapi_claimed(js, &q->r, q->verdict)); return;
    case JS_WAIT_PAGE: go_on(s, q, jsapi_paged(js, &q->r)); return;
    default:
        q->r.usage = &q->usage;
        go_on(s, q, jsapi_run(js, &q->r));
        return;
    }
}

/* In their order; one may become a first itself. */
static void run_behind(struct shard *s)
{
    struct jet *j = s->jet;
    struct list *link = j->behind.next;
    while (j->has_released && link != &j->behind) {
        struct jet_request *q = LIST_OWNER(link, struct jet_request, link);
        link = link->next;
        if (has_first(j, q->about)) continue;
        bool is_again = q->r.order == JS_ORDER_AGAIN;
        go_on(s, q, is_again ? jsapi_stored(j->js, &q->r, ERR_OK) : jsapi_run(j->js, &q->r));
    }
    j->has_released = false;
}

/* Those that have to wait on stand at the end again, and are not met twice. */
static void tell_on(struct shard *s)
{
    struct list due, *link;
    list_init(&due);
    while ((link = list_pop(&s->jet->telling)) != NULL) list_push(&due, link);
    while ((link = list_pop(&due)) != NULL) {
        struct jet_request *q = LIST_OWNER(link, struct jet_request, link);
        go_on(s, q, q->wait);
    }
}

void jet_api_step(struct shard *s)
{
    struct jet *j = s->jet;
    const struct jet_message *e;
    struct message m;
    struct list *link;
    while ((e = jet_queue_first(&j->forwards)) != NULL) {
        if (jet_queue_read(s, e, &m) && !route(s, &m)) break;
        jet_queue_pop(s, &j->forwards);
    }
    while ((link = list_pop(&j->answered)) != NULL)
        go_on_answered(s, LIST_OWNER(link, struct jet_request, link));
    run_behind(s);
    tell_on(s);
}

/* Goes on with those that wait for tickets in [from, to]. One that has to wait again, or whose new
 * record got a ticket of this range, is not met again. */
static void end_wait(struct shard *s, uint64_t from, uint64_t to, enum err e)
{
    struct list due, *requests = &s->jet->requests, *link = requests->next;
    list_init(&due);
    while (link != requests) {
        struct jet_request *q = LIST_OWNER(link, struct jet_request, link);
        link = link->next;
        if (q->r.ticket > to) break;
        if (q->r.ticket < from) continue;
        list_remove(&q->link);
        list_push(&due, &q->link);
    }
    while ((link = list_pop(&due)) != NULL) {
        struct jet_request *q = LIST_OWNER(link, struct jet_request, link);
        end_first(s->jet, q);
        if (q->r.order == JS_ORDER_AGAIN && waits_behind(s->jet, q)) continue;
        if (q->r.order == JS_ORDER_AGAIN && e != ERR_OK) {
            q->r.ticket = 0;
            wait_for_ticket(s, q);
            continue;
        }
        /* What consumers settled before an order comes before it, as in the log. */
        if (e == ERR_OK) deliver_store_stored(&s->jet->deliver, q->r.ticket);
        go_on(s, q, jsapi_stored(s->jet->js, &q->r, e));
    }
    run_behind(s);
}

void jet_api_stored(struct shard *s, uint64_t ticket)
{
    end_wait(s, 0, ticket, ERR_OK);
}

/* Who waits for an order that goes by pieces and left no record waits for the first ticket, which
 * nobody tells of in a process that has stored nothing yet: such a request looks again and again.
 */
static bool looks_again(const struct jet *j, const struct jet_request *q)
{
    return j->stored_ticket == 0 && q->r.ticket == STREAM_TICKET_FIRST &&
           q->r.order == JS_ORDER_AGAIN;
}

bool jet_api_is_due(const struct jet *j)
{
    if (list_is_empty(&j->requests)) return false;
    const struct jet_request *q = LIST_OWNER(j->requests.next, struct jet_request, link);
    return q->r.ticket <= j->stored_ticket || looks_again(j, q);
}

void jet_api_run_due(struct shard *s)
{
    if (!jet_api_is_due(s->jet)) return;
    struct jet_request *q = LIST_OWNER(s->jet->requests.next, struct jet_request, link);
    if (looks_again(s->jet, q))
        go_on(s, q, jsapi_stored(s->jet->js, &q->r, ERR_OK));
    else
        jet_api_stored(s, s->jet->stored_ticket);
}

void jet_api_failed(struct shard *s, uint64_t ticket, enum err e)
{
    end_wait(s, ticket, UINT64_MAX, e);
}

void jet_api_go_on(struct shard *s)
{
    end_wait(s, 0, 0, ERR_OK);
}

/* --- direct gets ------------------------------------------------------------------------------ */

/* A batch under way. */
struct direct_get {
    struct jet_reader reader; /* first */
    struct list link;         /* in jet->directs while it waits for a read */
    struct jet_stream *x;     /* NULL: the stream has gone */
    struct direct d;
    struct arena arena;
    struct store_read read;
    struct msgs_entry entry;
    uint32_t account;
    uint32_t origin_shard;
    struct conn_id origin; /* who asked */
    bool has_sent;
    uint32_t rest_ms; /* the last rest for a congested receiver (R5b); 0: that was none */
    uint64_t rest_ns; /* nothing is sent before */
    uint64_t dry_ns;  /* since when it waits for memory */
    struct bytes reply, request_headers, request_body, key;
    size_t bytes;
};

static void on_direct_read(struct shard *s, struct jet_reader *reader, enum err e,
                           const struct record *record);

static void end_direct(struct shard *s, struct direct_get *g)
{
    list_remove(&g->link);
    direct_end(&g->d);
    arena_deinit(&g->arena);
    mem_free(s->mem, MEM_JETSTREAM, g, g->bytes);
}

/* Who reads slowly is to get the rest of a batch, and not to be closed for it. */
static void rest_direct(const struct shard *s, struct direct_get *g)
{
    uint32_t rest_ms = g->rest_ms == 0 ? DELIVER_CONGESTED_MS : g->rest_ms * 2;
    if (rest_ms > DELIVER_CONGESTED_MS_MAX) rest_ms = DELIVER_CONGESTED_MS_MAX;
    g->rest_ms = s->jet->is_congested ? rest_ms : 0;
    g->rest_ns = s->now.mono_ns + g->rest_ms * UINT64_C(1000000);
}

static bool rests(const struct shard *s, const struct direct_get *g)
{
    return g->rest_ns > s->now.mono_ns && g->d.left > 0;
}

/* False: no memory. */
static bool send_direct(struct shard *s, struct direct_get *g, const struct record *record)
{
    struct text headers;
    text_init(&headers, s->mem, MEM_JETSTREAM, REPLY_BYTES_MAX);
    direct_write(&g->d, &g->x->s->stream, record, &headers);
    struct jet_parts parts = {.account = g->account,
                              .subject = g->reply,
                              .headers = text_written(&headers),
                              .body = record->body};
    bool is_whole = !headers.is_failed;
    s->jet->is_congested = false;
    if (is_whole && !jet_send_stored(s, &parts)) relay_end_client(s, g->origin_shard, g->origin);
    rest_direct(s, g);
    text_deinit(&headers);
    g->has_sent |= is_whole;
    return is_whole;
}

/* An answer that is nothing but headers. */
static void send_status(struct shard *s, const struct direct_get *g, struct bytes headers)
{
    struct jet_parts parts = {.account = g->account, .subject = g->reply, .headers = headers};
    /* While the stream is being freed nothing is to look at it. */
    bool is_sent = g->x == NULL ? jet_send_later(s, &parts) : jet_send(s, &parts);
    if (UNLIKELY(!is_sent)) relay_end_client(s, g->origin_shard, g->origin);
}

static void finish_direct(struct shard *s, struct direct_get *g)
{
    struct text headers;
    text_init(&headers, s->mem, MEM_JETSTREAM, REPLY_BYTES_MAX);
    bool has_end = direct_write_end(&g->d, &headers);
    if (headers.is_failed)
        send_status(s, g, BYTES_LITERAL(JET_DIRECT_NO_MEMORY));
    else if (has_end)
        send_status(s, g, text_written(&headers));
    else if (!g->has_sent) /* it is there, but cannot be read any more */
        send_status(s, g, BYTES_LITERAL(DIRECT_NOT_FOUND));
    text_deinit(&headers);
    end_direct(s, g);
}

/* The stream was deleted meanwhile: there is no message more. */
static void gone_direct(struct shard *s, struct direct_get *g)
{
    if (g->has_sent && g->d.multi == NULL) {
        finish_direct(s, g);
        return;
    }
    send_status(s, g, BYTES_LITERAL(DIRECT_NOT_FOUND));
    end_direct(s, g);
}

static void wait_direct(struct direct_get *g, struct list *in)
{
    list_remove(&g->link);
    list_push(in, &g->link);
}

/* What the read of its next message gave. False: that is to be read once more, when there is
 * memory, or a descriptor. */
static bool take_direct(struct shard *s, struct direct_get *g, enum err e,
                        const struct record *record)
{
    bool passes = e == ERR_MEMORY || e == ERR_IO;
    if (LIKELY(!passes) && (e != ERR_OK || send_direct(s, g, record))) {
        g->dry_ns = 0;
        return true;
    }
    if (g->dry_ns == 0) g->dry_ns = s->now.mono_ns;
    wait_direct(g, &s->jet->direct_dry);
    return false;
}

/* False: it has to wait. */
static bool fetch_direct(struct shard *s, struct direct_get *g, uint32_t *left)
{
    struct record record;
    enum err e = store_read(js_store_of(s->jet->js, g->x->s), &g->read, &record);
    if (e == ERR_BUSY) {
        wait_direct(g, &s->jet->directs);
        return false;
    }
    if (!take_direct(s, g, e, &record)) return false;
    uint32_t bytes = e == ERR_OK ? (uint32_t)record.body.len : 0;
    *left -= *left < bytes ? *left : bytes;
    return true;
}

/* Until a read has to wait, a piece is done, or the end. */
static void run_direct(struct shard *s, struct direct_get *g, uint32_t *left)
{
    uint64_t seq;
    enum direct_step step = DIRECT_AGAIN;
    struct stream *stream = &g->x->s->stream;
    while (!jet_send_is_full(s->jet) && !rests(s, g) &&
           (step = direct_next(&g->d, stream, left, &seq, &g->entry)) == DIRECT_MESSAGE) {
        g->read = (struct store_read){
            .place = g->entry.place, .stream = stream->id, .seq = seq, .context = &g->reader};
        if (!fetch_direct(s, g, left)) return;
        step = DIRECT_AGAIN;
    }
    if (step == DIRECT_AGAIN)
        wait_direct(g, rests(s, g) ? &s->jet->direct_rest : &s->jet->direct_work);
    else
        finish_direct(s, g);
}

static void on_direct_read(struct shard *s, struct jet_reader *reader, enum err e,
                           const struct record *record)
{
    struct direct_get *g = (struct direct_get *)(void *)reader;
    if (g->x == NULL) {
        gone_direct(s, g);
        return;
    }
    uint32_t left = SIEVE_STEP;
    if (take_direct(s, g, e, record)) run_direct(s, g, &left);
}

/* Its message may lie elsewhere by now, or have gone. */
static bool find_again(struct direct_get *g)
{
    if (msgs_get(&g->x->s->stream.msgs, g->read.seq, &g->entry) != ERR_OK) {
        g->dry_ns = 0;
        direct_gone(&g->d);
        return false;
    }
    g->read.place = g->entry.place;
    return true;
}

/* Those that found no memory try again; after a while they say so. */
static void retry_direct(struct shard *s)
{
    struct list due, *link;
    if (LIKELY(list_is_empty(&s->jet->direct_dry))) return;
    list_init(&due);
    while ((link = list_pop(&s->jet->direct_dry)) != NULL) list_push(&due, link);
    while ((link = list_pop(&due)) != NULL) {
        struct direct_get *g = LIST_OWNER(link, struct direct_get, link);
        uint32_t left = SIEVE_STEP;
        if (s->now.mono_ns - g->dry_ns > DRY_NS) {
            send_status(s, g, BYTES_LITERAL(JET_DIRECT_NO_MEMORY));
            end_direct(s, g);
        } else if (!find_again(g) || fetch_direct(s, g, &left)) {
            run_direct(s, g, &left);
        }
    }
}

void jet_api_direct(struct shard *s, struct jet_stream *x, const struct message *m, uint32_t *left)
{
    if (m->reply.len == 0) return;
    size_t bytes = sizeof(struct direct_get) + m->subject.len + m->reply.len + m->total_bytes;
    struct direct_get *g = mem_alloc_zero(s->mem, MEM_JETSTREAM, bytes);
    if (g == NULL) {
        jet_send_refusal(s, JET_SUB_DIRECT, m);
        return;
    }
    struct bytes subject;
    g->bytes = bytes;
    g->reader.done = on_direct_read;
    list_init(&g->link);
    g->x = x;
    g->account = m->account->number;
    g->origin = m->origin;
    g->origin_shard = m->origin_shard;
    arena_init(&g->arena, s->mem, MEM_JETSTREAM);
    char *to = (char *)(g + 1);
    to = put(to, &subject, m->subject);
    to = put(to, &g->reply, m->reply);
    to = put(to, &g->request_headers, bytes_of(m->payload, m->header_bytes));
    put(to, &g->request_body,
        bytes_of(m->payload + m->header_bytes, m->total_bytes - m->header_bytes));
    size_t prefix = sizeof "$JS.API.DIRECT.GET." - 1 + x->s->stream.config.name.len;
    if (subject.len > prefix + 1)
        g->key = bytes_of(subject.data + prefix + 1, subject.len - prefix - 1);
    const char *status = direct_begin(&g->d, &x->s->stream, &g->arena, g->key, g->request_headers,
                                      g->request_body, (uint64_t)s->options->max_pending);
    if (status != NULL) {
        send_status(s, g, bytes_from_text(status));
        arena_deinit(&g->arena);
        mem_free(s->mem, MEM_JETSTREAM, g, g->bytes);
        return;
    }
    run_direct(s, g, left);
}

/* In a turn one piece, of whichever waits longest. */
static void work_direct(struct shard *s)
{
    uint32_t left = SIEVE_STEP;
    struct list *link = s->jet->direct_rest.next;
    while (link != &s->jet->direct_rest) {
        struct direct_get *g = LIST_OWNER(link, struct direct_get, link);
        link = link->next;
        if (!rests(s, g)) wait_direct(g, &s->jet->direct_work);
    }
    if (jet_send_is_full(s->jet)) return;
    link = list_pop(&s->jet->direct_work);
    if (link != NULL) run_direct(s, LIST_OWNER(link, struct direct_get, link), &left);
}

void jet_api_work(struct shard *s)
{
    struct list *link = list_pop(&s->jet->working);
    retry_direct(s);
    work_direct(s);
    if (link == NULL) return;
    struct jet_request *q = LIST_OWNER(link, struct jet_request, link);
    go_on(s, q, jsapi_stored(s->jet->js, &q->r, ERR_OK));
}

void jet_api_forget(struct shard *s, const struct jet_stream *x)
{
    struct jet *j = s->jet;
    struct list *link;
    for (link = j->directs.next; link != &j->directs; link = link->next) {
        struct direct_get *g = LIST_OWNER(link, struct direct_get, link);
        if (g->x == x) g->x = NULL;
    }
    struct list *idle[] = {&j->direct_work, &j->direct_rest, &j->direct_dry};
    for (int i = 0; i < 3; i++)
        for (link = idle[i]->next; link != idle[i];) {
            struct direct_get *g = LIST_OWNER(link, struct direct_get, link);
            link = link->next;
            if (g->x != x) continue;
            g->x = NULL;
            gone_direct(s, g);
        }
}

/* The store's reads never end any more. */
void jet_api_close(struct shard *s)
{
    struct jet *j = s->jet;
    struct list *waiting[] = {&j->requests, &j->working, &j->reading, &j->asking,
                              &j->answered, &j->behind,  &j->telling};
    for (size_t i = 0; i < sizeof waiting / sizeof waiting[0]; i++)
        while (!list_is_empty(waiting[i]))
            end_request(s, LIST_OWNER(waiting[i]->next, struct jet_request, link));
    table_deinit(&j->firsts);
    struct list *link;
    while ((link = list_pop(&j->directs)) != NULL || (link = list_pop(&j->direct_work)) != NULL ||
           (link = list_pop(&j->direct_rest)) != NULL || (link = list_pop(&j->direct_dry)) != NULL)
        end_direct(s, LIST_OWNER(link, struct direct_get, link));
}
