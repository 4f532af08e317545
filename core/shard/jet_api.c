/* Requests on $JS.API.> and direct gets: they wait for tickets and reads, and are answered. */
#include "core/base/must.h"
#include "core/shard/jet.h"

enum { DIRECT_BATCH_BYTES_MAX = 64 << 20, REPLY_BYTES_MAX = JS_REPLY_BYTES_MAX };

struct jet_request {
    struct jet_reader reader; /* first */
    struct list link;
    struct js_request r;
    struct text out;
    struct bytes reply;
    struct conn_id origin;
    uint32_t origin_shard;
    size_t bytes; /* of this block, texts included */
};

/* --- requests -------------------------------------------------------------------------------- */

static void on_read(struct shard *s, struct jet_reader *reader, enum err e,
                    const struct record *record);

static char *put(char *to, struct bytes *slot, struct bytes from)
{
    if (from.len > 0) memcpy(to, from.data, from.len);
    *slot = bytes_of(to, from.len);
    return to + from.len;
}

static struct jet_request *make_request(struct shard *s, const struct message *m)
{
    struct bytes name = m->account->conf != NULL ? m->account->conf->name : bytes_of(NULL, 0);
    size_t bytes =
        sizeof(struct jet_request) + m->subject.len + m->reply.len + m->total_bytes + name.len;
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
    put(to, &q->r.account_name, name);
    q->origin = m->origin;
    q->origin_shard = m->origin_shard;
    q->r.account = m->account->number;
    q->r.out = &q->out;
    q->r.now_ns = s->now.wall_ns;
    q->r.mono_ns = s->now.mono_ns;
    q->r.context = &q->reader;
    s->jet->request_count++;
    return q;
}

static void end_request(struct shard *s, struct jet_request *q)
{
    jsapi_end(&q->r);
    list_remove(&q->link);
    text_deinit(&q->out);
    s->jet->request_count--;
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

/* Goes on with a request as its last step said. */
static void go_on(struct shard *s, struct jet_request *q, enum js_step step)
{
    list_remove(&q->link);
    switch (step) {
    case JS_WAIT_STORED: wait_for_ticket(s, q); return;
    case JS_WAIT_READ: list_push(&s->jet->reading, &q->link); return;
    case JS_SILENT: break;
    case JS_REPLY:
        if (q->reply.len > 0 && !q->out.is_failed)
            jet_send(s, q->r.account, q->reply, bytes_of(NULL, 0), bytes_of(NULL, 0),
                     text_written(&q->out));
        if (!q->out.is_failed) jet_advisory_request(s, &q->r, q->origin, q->origin_shard);
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

void jet_api_request(struct shard *s, const struct message *m)
{
    struct jet_request *q = s->jet->request_count < JET_REQUESTS_MAX ? make_request(s, m) : NULL;
    if (q == NULL) {
        s->counts.dropped_msgs++;
        return;
    }
    go_on(s, q, jsapi_run(s->jet->js, &q->r));
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
        go_on(s, q, jsapi_stored(s->jet->js, &q->r, e));
    }
}

void jet_api_stored(struct shard *s, uint64_t ticket)
{
    end_wait(s, 0, ticket, ERR_OK);
}

bool jet_api_is_due(const struct jet *j)
{
    return !list_is_empty(&j->requests) &&
           LIST_OWNER(j->requests.next, struct jet_request, link)->r.ticket <= j->stored_ticket;
}

void jet_api_failed(struct shard *s, uint64_t ticket, enum err e)
{
    end_wait(s, ticket, UINT64_MAX, e);
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
    struct bytes reply, request_headers, request_body, key;
    size_t bytes;
};

static void on_direct_read(struct shard *s, struct jet_reader *reader, enum err e,
                           const struct record *record);

static void end_direct(struct shard *s, struct direct_get *g)
{
    list_remove(&g->link);
    arena_deinit(&g->arena);
    mem_free(s->mem, MEM_JETSTREAM, g, g->bytes);
}

static void send_direct(struct shard *s, struct direct_get *g, const struct record *record)
{
    struct text headers;
    text_init(&headers, s->mem, MEM_JETSTREAM, REPLY_BYTES_MAX);
    direct_write(&g->d, &g->x->s->stream, record, &headers);
    if (!headers.is_failed)
        jet_send_stored(s, g->account, g->reply, bytes_of(NULL, 0),
                        headers.len > 0 ? text_written(&headers) : record->headers, record->body);
    text_deinit(&headers);
}

static void finish_direct(struct shard *s, struct direct_get *g)
{
    struct text headers;
    text_init(&headers, s->mem, MEM_JETSTREAM, REPLY_BYTES_MAX);
    if (direct_write_end(&g->d, &headers) && !headers.is_failed)
        jet_send(s, g->account, g->reply, bytes_of(NULL, 0), text_written(&headers),
                 bytes_of(NULL, 0));
    text_deinit(&headers);
    end_direct(s, g);
}

/* Until a read has to wait, or the end. */
static void run_direct(struct shard *s, struct direct_get *g)
{
    uint64_t seq;
    struct record record;
    struct stream *stream = &g->x->s->stream;
    while ((seq = direct_next(&g->d, stream, &g->entry)) != 0) {
        g->read = (struct store_read){
            .place = g->entry.place, .stream = stream->id, .seq = seq, .context = &g->reader};
        enum err e = store_read(js_store_of(s->jet->js, g->x->s), &g->read, &record);
        if (e == ERR_BUSY) {
            list_remove(&g->link);
            list_push(&s->jet->directs, &g->link);
            return;
        }
        if (e == ERR_OK) send_direct(s, g, &record);
    }
    finish_direct(s, g);
}

static void on_direct_read(struct shard *s, struct jet_reader *reader, enum err e,
                           const struct record *record)
{
    struct direct_get *g = (struct direct_get *)(void *)reader;
    if (g->x == NULL) {
        end_direct(s, g);
        return;
    }
    if (e == ERR_OK) send_direct(s, g, record);
    run_direct(s, g);
}

void jet_api_direct(struct shard *s, struct jet_stream *x, const struct message *m)
{
    if (m->reply.len == 0) return;
    size_t bytes = sizeof(struct direct_get) + m->subject.len + m->reply.len + m->total_bytes;
    struct direct_get *g = mem_alloc_zero(s->mem, MEM_JETSTREAM, bytes);
    if (g == NULL) {
        s->counts.dropped_msgs++;
        return;
    }
    struct bytes subject;
    g->bytes = bytes;
    g->reader.done = on_direct_read;
    list_init(&g->link);
    g->x = x;
    g->account = m->account->number;
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
                                      g->request_body, DIRECT_BATCH_BYTES_MAX);
    if (status != NULL) {
        jet_send(s, g->account, g->reply, bytes_of(NULL, 0), bytes_from_text(status),
                 bytes_of(NULL, 0));
        end_direct(s, g);
        return;
    }
    run_direct(s, g);
}

void jet_api_forget(struct shard *s, const struct jet_stream *x)
{
    for (struct list *l = s->jet->directs.next; l != &s->jet->directs; l = l->next) {
        struct direct_get *g = LIST_OWNER(l, struct direct_get, link);
        if (g->x == x) g->x = NULL;
    }
}

/* The store's reads never end any more. */
void jet_api_close(struct shard *s)
{
    struct jet *j = s->jet;
    while (!list_is_empty(&j->requests))
        end_request(s, LIST_OWNER(j->requests.next, struct jet_request, link));
    while (!list_is_empty(&j->reading))
        end_request(s, LIST_OWNER(j->reading.next, struct jet_request, link));
    while (!list_is_empty(&j->directs))
        end_direct(s, LIST_OWNER(j->directs.next, struct direct_get, link));
}
