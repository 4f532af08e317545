/* Publishes into streams: checked and appended as they arrive, answered when they are durable. */
#include "core/base/must.h"
#include "core/shard/jet.h"

enum {
    WORK_FIRST = 16384,
    CONGESTED_PERCENT = 75, /* of what the store can take: publishers are slowed down (R5b) */
    STALL_PERCENT = 5,      /* more: four times as slow */
    SHORT_BUFFER = 4096,    /* a limit of fewer publishes is there to refuse a burst at once */
    EXPIRE_ROUNDS = 4,      /* batches of one stream in a step */
    MARKERS_MAX = 64,
    MARKER_RETRY_NS = 250000000, /* behind one that was refused */
};
static const uint64_t FULL_LOG_NS = 1000000000u;

#define FAST_BATCH                                                                                 \
    ".$FI" /* the end of the reply of a message of a fast batch: not supported yet                 \
            */
#define TOO_MANY "NATS/1.0 429 Too Many Requests\r\n\r\n"

/* --- answers -------------------------------------------------------------------------------- */

static void send_ack(struct shard *s, const struct jet_ack *a, struct bytes headers,
                     struct bytes body)
{
    struct jet_parts parts = {.account = a->account,
                              .subject = bytes_of((const char *)(a + 1), a->reply_len),
                              .headers = headers,
                              .body = body};
    jet_send(s, &parts);
}

static void answer(struct shard *s, const struct jet_ack *a)
{
    if (!a->is_success) {
        const char *at = (const char *)(a + 1) + a->reply_len;
        send_ack(s, a, bytes_of(at, a->header_len), bytes_of(at + a->header_len, a->body_len));
        return;
    }
    if (a->stream == NULL) return;
    char room[JET_ACK_BODY_MAX];
    struct writer w;
    writer_init(&w, room, sizeof room);
    writer_bytes(&w, bytes_of(a->stream->ack_head, a->stream->ack_head_len));
    writer_u64(&w, a->seq);
    writer_char(&w, '}');
    must(!w.is_full);
    send_ack(s, a, bytes_of(NULL, 0), writer_written(&w));
}

/* An answer that says what outcome says, for the stream's publisher. */
static void write_error(struct shard *s, struct jet_stream *x, const struct stream_outcome *o,
                        struct text *t)
{
    text_clear(t);
    publish_write_ack(&x->s->stream, o, s->jet->js->domain, t);
}

/* Room for the answer comes before the record, so that what is stored is also answered. */
static struct jet_ack *ack_room(struct shard *s, struct jet_queue *q, const struct message *m)
{
    struct jet_ack *a = jet_queue_room(s, q, sizeof *a + m->reply.len);
    if (a == NULL) return NULL;
    uint32_t bytes = a->bytes;
    *a = (struct jet_ack){.bytes = bytes,
                          .account = m->account->number,
                          .reply_len = (uint16_t)m->reply.len,
                          .is_success = true};
    memcpy(a + 1, m->reply.data, m->reply.len);
    return a;
}

/* Duplicates, refusals, and what the store did not take. */
static void answer_outcome(struct shard *s, struct jet_stream *x, const struct message *m,
                           const struct stream_outcome *o, struct bytes headers)
{
    char room[JET_ACK_BODY_MAX];
    struct text t;
    struct jet *j = s->jet;
    if (m->reply.len == 0 || x->s->stream.config.no_ack) return;
    text_init_in(&t, room, sizeof room);
    write_error(s, x, o, &t);
    bool waits = o->ticket > j->stored_ticket && x->s->stream.config.storage == STREAM_FILE;
    struct jet_queue *q = waits ? &j->acks : &j->ready;
    must(!t.is_failed);
    struct jet_ack *a = jet_queue_room(s, q, sizeof *a + m->reply.len + headers.len + t.len);
    if (a != NULL) {
        uint32_t bytes = a->bytes;
        *a = (struct jet_ack){.bytes = bytes,
                              .account = m->account->number,
                              .ticket = o->ticket,
                              .stream = x,
                              .reply_len = (uint16_t)m->reply.len,
                              .header_len = (uint32_t)headers.len,
                              .body_len = (uint32_t)t.len};
        char *at = (char *)(a + 1);
        memcpy(at, m->reply.data, m->reply.len);
        at += m->reply.len;
        if (headers.len > 0) memcpy(at, headers.data, headers.len);
        memcpy(at + headers.len, t.data, t.len);
        jet_queue_add(q);
    } else {
        s->counts.dropped_msgs++;
        relay_end_client(s, m->origin_shard, m->origin);
    }
}

/* --- a publish ------------------------------------------------------------------------------- */

/* Room for publish_check to put things together. */
static bool ensure_work(struct shard *s, size_t bytes)
{
    struct writer *w = &s->jet->work;
    w->len = 0;
    w->is_full = false;
    if (w->capacity >= bytes) return true;
    size_t capacity = w->capacity < WORK_FIRST ? WORK_FIRST : w->capacity;
    while (capacity < bytes) capacity *= 2;
    char *fresh = mem_alloc(s->mem, MEM_JETSTREAM, capacity);
    if (fresh == NULL) return false;
    mem_free(s->mem, MEM_JETSTREAM, w->data, w->capacity);
    writer_init(w, fresh, capacity);
    return true;
}

static void log_full(struct shard *s, const struct jet_stream *x, enum err e)
{
    struct jet *j = s->jet;
    if (j->full_logged_ns != 0 && s->now.mono_ns - j->full_logged_ns < FULL_LOG_NS) return;
    j->full_logged_ns = s->now.mono_ns;
    struct writer *w = session_log_open(s, NULL);
    writer_text(w, "JetStream stream '");
    writer_bytes(w, x->s->account_name);
    writer_text(w, " > ");
    writer_bytes(w, x->s->stream.config.name);
    writer_text(w, "' refuses publishes: ");
    writer_text(w, err_text(e));
    session_log_close(s, LOG_LEVEL_WRN);
}

/* A limit of the server or of the account is reached: nats-server's lines, at most one a second of
 * each kind. */
static void log_limit(struct shard *s, const struct jet_stream *x, bool is_account)
{
    struct jet *j = s->jet;
    uint64_t *last = is_account ? &j->account_full_logged_ns : &j->server_full_logged_ns;
    if (*last != 0 && s->now.mono_ns - *last < FULL_LOG_NS) return;
    *last = s->now.mono_ns;
    struct writer *w = session_log_open(s, NULL);
    writer_text(w, "JetStream ");
    writer_text(w, x->s->stream.config.storage == STREAM_MEMORY ? "memory" : "file");
    writer_text(w, " resource limits exceeded for ");
    if (is_account) {
        writer_text(w, "account: ");
        writer_quoted(w, x->s->account_name);
    } else {
        writer_text(w, "server");
    }
    session_log_close(s, is_account ? LOG_LEVEL_WRN : LOG_LEVEL_ERR);
}

/* The code alone does not say it: 10023 is also memory that is short. */
static void log_refusal(struct shard *s, const struct jet_stream *x, const struct jsapi_error *e)
{
    if (e->id == JSAPI_ACCOUNT_RESOURCES_EXCEEDED)
        log_limit(s, x, true);
    else if (e->id == JSAPI_INSUFFICIENT_RESOURCES &&
             !quota_bytes_may_use(x->s->stream.server_bytes, 0))
        log_limit(s, x, false);
}

static void refuse_store(struct shard *s, struct jet_stream *x, const struct message *m,
                         struct stream_outcome *o, enum err e)
{
    o->verdict = STREAM_REFUSED;
    o->ticket = 0;
    struct bytes headers = bytes_of(NULL, 0);
    bool is_memory_full = e == ERR_NO_SPACE && x->s->stream.config.storage == STREAM_MEMORY;
    if (is_memory_full)
        log_limit(s, x, false);
    else
        log_full(s, x, e);
    switch (e) {
    case ERR_FULL:
        jsapi_error_set(&o->error, JSAPI_STREAM_TOO_MANY_REQUESTS);
        headers = BYTES_LITERAL(TOO_MANY);
        break;
    case ERR_NO_SPACE:
        /* Of memory streams all together have no more than max_mem: what publish_check says once it
         * is exceeded. */
        jsapi_error_set(&o->error, is_memory_full ? JSAPI_INSUFFICIENT_RESOURCES
                                                  : JSAPI_STORAGE_RESOURCES_EXCEEDED);
        break;
    case ERR_MEMORY: jsapi_error_set(&o->error, JSAPI_INSUFFICIENT_RESOURCES); break;
    case ERR_TOO_LONG:
        jsapi_error_set_text(&o->error, JSAPI_STREAM_STORE_FAILED,
                             BYTES_LITERAL("message too large"));
        break;
    default:
        jsapi_error_set_text(&o->error, JSAPI_STREAM_STORE_FAILED, bytes_from_text(err_text(e)));
        break;
    }
    answer_outcome(s, x, m, o, headers);
}

static void slow_down(struct shard *s, const struct message *m, enum client_stall stall)
{
    if (m->origin.bits == 0) return;
    if (m->origin_shard != s->index)
        relay_congested(s, m->origin_shard, m->origin, stall);
    else if (s->stall < stall)
        s->stall = (uint8_t)stall;
}

void jet_publish_slow_down(struct shard *s, const struct message *m)
{
    slow_down(s, m, CLIENT_STALL_RECEIVER);
}

/* The fuller it is the longer they wait, so that what comes in is what the disk takes. */
static enum client_stall stall_of(uint64_t percent, enum client_stall most)
{
    if (LIKELY(percent < CONGESTED_PERCENT)) return CLIENT_STALL_NONE;
    uint64_t stall = CLIENT_STALL_LOG + (percent - CONGESTED_PERCENT) / STALL_PERCENT;
    return stall < most ? (enum client_stall)stall : most;
}

void jet_publish_staged(struct jet_stream *x)
{
    if (list_is_empty(&x->staged)) list_push(&x->jet->staged, &x->staged);
}

/* The log is full of what it writes just now: there is room once it is told what was written. */
static bool is_room_near(const struct store *log)
{
    return store_staged_percent(log) >= CONGESTED_PERCENT;
}

/* Appends what publish_check decided to store. m: without a subject for a marker. False: it has to
 * wait for room; nothing changed. */
static bool append(struct shard *s, struct jet_stream *x, const struct message *m,
                   struct stream_outcome *o)
{
    struct jet *j = s->jet;
    struct stream *stream = &x->s->stream;
    bool is_memory = stream->config.storage == STREAM_MEMORY;
    bool is_answered = m->reply.len > 0 && !stream->config.no_ack;
    struct jet_queue *q = is_memory ? &j->ready : &j->acks;
#ifdef MILLRACE_BREAK_ANSWER_BEFORE_STORED
    q = &j->ready;
#endif
    struct jet_ack *a = is_answered ? ack_room(s, q, m) : NULL;
    struct store_stub stub;
    enum err e = is_answered && a == NULL
                     ? ERR_MEMORY
                     : store_append(js_store_of(j->js, x->s), &o->record, &stub);
    if (e != ERR_OK) {
        stream_cancel(stream, o);
        if (e == ERR_FULL && !is_memory && is_room_near(j->port.store)) {
            j->waits_for_room = true;
            return false;
        }
        if (m->subject.len == 0) return false; /* a marker of our own: the timer tries again */
        refuse_store(s, x, m, o, e);
        return true;
    }
    stream_stage(stream, o, stub.ticket, stub.place);
    if (is_answered) {
        a->ticket = stub.ticket;
        a->seq = o->seq;
        a->stream = x;
        jet_queue_add(q);
    }
    if (!is_memory) {
        jet_publish_staged(x);
        if (j->timed_ticket == 0) {
            j->timed_ticket = stub.ticket;
            j->timed_ns = s->now.mono_ns;
        }
        return true;
    }
    /* Without memory it stays in flight until there is some. */
    if (stream_settle(stream, stub.ticket) != ERR_OK) {
        jet_publish_staged(x);
        j->is_unsettled = true;
    }
    jet_publish_arm(s, x);
    return true;
}

/* What is too old goes first, and that behind what is in flight: nothing else helps till then. */
static void wait_for_flights(struct jet *j, const struct jet_stream *x)
{
    const struct stream *stream = &x->s->stream;
    bool is_file = stream->config.storage == STREAM_FILE;
    if (is_file && stream->order_ticket == 0 && stream->staged.op_count > 0)
        j->waits_for_room = true;
}

/* False: it has to wait for an order, for room in the log, or for what is too old to go. */
static bool run(struct shard *s, struct jet_stream *x, const struct message *m)
{
    struct jet *j = s->jet;
    struct stream_outcome *o = &j->outcome;
    size_t room = m->subject.len + 2 * (size_t)m->header_bytes + PUBLISH_SCRATCH_EXTRA;
    struct bytes headers = bytes_of(m->payload, m->header_bytes);
    struct bytes body = bytes_of(m->payload + m->header_bytes, m->total_bytes - m->header_bytes);
    if (UNLIKELY(!ensure_work(s, room))) {
        refuse_store(s, x, m, o, ERR_MEMORY);
        return true;
    }
    if (UNLIKELY(bytes_ends_with(m->reply, BYTES_LITERAL(FAST_BATCH)))) {
        o->verdict = STREAM_REFUSED;
        o->ticket = 0;
        jsapi_error_set(&o->error, JSAPI_BATCH_PUBLISH_DISABLED);
        answer_outcome(s, x, m, o, bytes_of(NULL, 0));
        return true;
    }
    publish_check(&x->s->stream, m->subject, headers, body, s->now.wall_ns, &j->work, o);
    switch (o->verdict) {
    case STREAM_STORE: return append(s, x, m, o);
    case STREAM_WAIT: wait_for_flights(j, x); return false;
    case STREAM_REFUSED:
        log_refusal(s, x, &o->error);
        answer_outcome(s, x, m, o, bytes_of(NULL, 0));
        break;
    case STREAM_DUPLICATE: answer_outcome(s, x, m, o, bytes_of(NULL, 0)); break;
    }
    return true;
}

/* In percent of how many publishes of the stream may wait, to be durable or behind an order. */
static uint64_t buffer_percent(const struct shard *s, const struct jet_stream *x)
{
    const struct options_jetstream *o = &s->options->jetstream;
    const struct staged *staged = &x->s->stream.staged;
    uint64_t count = staged->op_count + x->held.count;
    uint64_t bytes = (uint64_t)staged->bytes_waiting + x->held.bytes;
    uint64_t percent = 0, of_bytes = 0;
    if (o->buffered_messages_max > 0) percent = count * 100 / (uint64_t)o->buffered_messages_max;
    if (o->buffered_bytes_max > 0) of_bytes = bytes * 100 / (uint64_t)o->buffered_bytes_max;
    return percent > of_bytes ? percent : of_bytes;
}

static void take(struct shard *s, struct jet_stream *x, const struct message *m)
{
    /* A message that lies in the store's memory must not be there when an append moves it on. */
    if (LIKELY(x->held.count == 0 && !s->jet->is_from_store) && run(s, x, m)) return;
    bool is_full = x->held.bytes > JET_HELD_BYTES_MAX;
    if (is_full || jet_queue_message(s, &x->held, JET_SUB_PUBLISH, x, m) != ERR_OK) {
        refuse_store(s, x, m, &s->jet->outcome, is_full ? ERR_FULL : ERR_MEMORY);
        return;
    }
    if (list_is_empty(&x->held_link)) list_push(&s->jet->held, &x->held_link);
}

void jet_publish_take(struct shard *s, struct jet_stream *x, const struct message *m)
{
    uint64_t percent = buffer_percent(s, x);
    if (UNLIKELY(percent >= 100))
        refuse_store(s, x, m, &s->jet->outcome, ERR_FULL);
    else if (UNLIKELY(js_is_short(s->jet->js)))
        refuse_store(s, x, m, &s->jet->outcome, ERR_MEMORY);
    else
        take(s, x, m);
    int64_t most = s->options->jetstream.buffered_messages_max;
    bool is_short = most > 0 && most < SHORT_BUFFER;
    enum client_stall stall =
        is_short ? CLIENT_STALL_NONE : stall_of(percent, CLIENT_STALL_LOG_STAGED);
    if (x->s->stream.config.storage == STREAM_FILE) {
        const struct store *log = s->jet->port.store;
        enum client_stall staged = stall_of(store_staged_percent(log), CLIENT_STALL_LOG_STAGED);
        enum client_stall behind = stall_of(store_behind_percent(log), CLIENT_STALL_LOG_BEHIND);
        if (staged > stall) stall = staged;
        if (behind > stall) stall = behind;
    }
    if (UNLIKELY(stall != CLIENT_STALL_NONE)) slow_down(s, m, stall);
}

/* --- what became of them ---------------------------------------------------------------------- */

static void settle_all(struct shard *s, uint64_t ticket)
{
    struct jet *j = s->jet;
    struct list *link = j->staged.next;
    j->is_unsettled = false;
    while (link != &j->staged) {
        struct jet_stream *x = LIST_OWNER(link, struct jet_stream, staged);
        link = link->next;
        struct stream *stream = &x->s->stream;
        bool is_memory = stream->config.storage == STREAM_MEMORY;
        enum err e = stream_settle(stream, is_memory ? UINT64_MAX : ticket);
        if (e != ERR_OK) j->is_unsettled = true;
        if (e == ERR_OK && stream->staged.op_count == 0) list_remove(&x->staged);
        jet_publish_arm(s, x);
    }
}

void jet_publish_stored(struct shard *s, uint64_t ticket)
{
    struct jet *j = s->jet;
    const struct jet_ack *a;
    while ((a = jet_queue_first(&j->acks)) != NULL && a->ticket <= ticket) {
        answer(s, a);
        jet_queue_pop(s, &j->acks);
    }
}

void jet_publish_settle(struct shard *s, uint64_t ticket)
{
    s->jet->waits_for_room = false;
    if (!list_is_empty(&s->jet->staged)) settle_all(s, ticket);
}

void jet_publish_settle_again(struct shard *s)
{
    if (LIKELY(!s->jet->is_unsettled)) return;
    s->jet->waits_for_room = false; /* it may have been for what found no memory */
    settle_all(s, s->jet->stored_ticket);
}

void jet_publish_failed(struct shard *s, uint64_t ticket, enum err e)
{
    struct jet *j = s->jet;
    struct stream_outcome o = {.verdict = STREAM_REFUSED}; /* j->outcome serves those answers */
    char room[JET_ACK_BODY_MAX];
    struct text t;
    text_init_in(&t, room, sizeof room);
    j->waits_for_room = false;
    /* Before any answer: what those lead into a stream is appended behind the failure. */
    struct list *link = j->staged.next;
    while (link != &j->staged) {
        struct jet_stream *x = LIST_OWNER(link, struct jet_stream, staged);
        link = link->next;
        if (x->s->stream.config.storage == STREAM_MEMORY) continue;
        stream_unstage(&x->s->stream, ticket);
        if (x->s->stream.staged.op_count == 0) list_remove(&x->staged);
    }
    if (e == ERR_NO_SPACE)
        jsapi_error_set(&o.error, JSAPI_STORAGE_RESOURCES_EXCEEDED);
    else
        jsapi_error_set_text(&o.error, JSAPI_STREAM_STORE_FAILED, bytes_from_text(err_text(e)));
    jet_publish_stored(s, ticket - 1);
    for (const struct jet_ack *a; (a = jet_queue_first(&j->acks)) != NULL;) {
        if (a->stream != NULL) {
            write_error(s, a->stream, &o, &t);
            must(!t.is_failed);
            send_ack(s, a, bytes_of(NULL, 0), text_written(&t));
        }
        jet_queue_pop(s, &j->acks);
    }
}

/* --- time ------------------------------------------------------------------------------------- */

void jet_publish_arm(struct shard *s, struct jet_stream *x)
{
    int64_t at = stream_expire_next_ns(&x->s->stream);
    if (at == INT64_MAX) {
        wheel_cancel(&x->timer);
        return;
    }
    /* What is due and stays (its marker is in flight) is looked at again, but not in this turn. */
    uint64_t wait = at > s->now.wall_ns ? (uint64_t)(at - s->now.wall_ns) : JET_RETRY_NS;
    uint64_t deadline = s->now.mono_ns + wait;
    if (at == 0 && deadline < x->marker_ns) deadline = x->marker_ns;
    if (wheel_is_armed(&x->timer) && x->timer.deadline_ns <= deadline) return;
    wheel_arm(&s->jet->wheel, &x->timer, deadline);
}

static void write_markers(struct shard *s, struct jet_stream *x)
{
    struct jet *j = s->jet;
    struct message m = {.account = session_account(s, x->s->stream.account)};
    if (s->now.mono_ns < x->marker_ns) return;
    for (int i = 0; i < MARKERS_MAX && due_count(&x->s->stream.due) > 0; i++) {
        if (m.account == NULL || !ensure_work(s, SUBJECT_INDEX_BYTES_MAX + PUBLISH_SCRATCH_EXTRA))
            return;
        publish_check_marker(&x->s->stream, s->now.wall_ns, &j->work, &j->outcome);
        if (j->outcome.verdict == STREAM_WAIT || j->outcome.verdict == STREAM_DUPLICATE) return;
        if (j->outcome.verdict == STREAM_STORE && append(s, x, &m, &j->outcome)) continue;
        due_put_back(&x->s->stream.due);
        x->marker_ns = s->now.mono_ns + MARKER_RETRY_NS;
        return;
    }
}

void jet_publish_expire(struct shard *s, struct jet_stream *x)
{
    bool has_more = true;
    for (int i = 0; i < EXPIRE_ROUNDS && has_more; i++) {
        has_more = stream_expire(&x->s->stream, s->now.wall_ns);
        /* As a publish: before it is stored all that is over has gone. */
        if (!has_more) write_markers(s, x);
    }
    if (has_more)
        wheel_arm(&s->jet->wheel, &x->timer, s->now.mono_ns + JET_RETRY_NS);
    else
        jet_publish_arm(s, x);
}

static void run_held(struct shard *s, struct jet_stream *x)
{
    const struct jet_message *e;
    struct message m;
    while (x->s->stream.order_ticket == 0 && (e = jet_queue_first(&x->held)) != NULL) {
        if (jet_queue_read(s, e, &m) && !run(s, x, &m)) return;
        jet_queue_pop(s, &x->held);
    }
    if (x->held.count > 0) return;
    jet_queue_free(s, &x->held);
    list_remove(&x->held_link);
}

void jet_publish_step(struct shard *s)
{
    struct jet *j = s->jet;
    struct list *link = j->held.next;
    while (link != &j->held && !j->waits_for_room) {
        struct jet_stream *x = LIST_OWNER(link, struct jet_stream, held_link);
        link = link->next;
        run_held(s, x);
    }
    const struct jet_ack *a;
    while ((a = jet_queue_first(&j->ready)) != NULL) {
        answer(s, a);
        jet_queue_pop(s, &j->ready);
    }
}

/* What a delivery led into a stream waits here, since that came behind jet_publish_step. */
bool jet_publish_is_due(const struct jet *j)
{
    for (struct list *link = j->held.next; link != &j->held && !j->waits_for_room;
         link = link->next)
        if (LIST_OWNER(link, struct jet_stream, held_link)->s->stream.order_ticket == 0)
            return true;
    return j->ready.count > 0;
}

static void forget(void *entry, const void *x)
{
    struct jet_ack *a = entry;
    if (a->stream == x) a->stream = NULL;
}

/* What waited for an order that was its stream's end reached nobody. */
static void refuse_held(struct shard *s, struct jet_stream *x)
{
    const struct jet_message *e;
    struct message m;
    while ((e = jet_queue_first(&x->held)) != NULL) {
        if (jet_queue_read(s, e, &m)) jet_send_refusal(s, JET_SUB_PUBLISH, &m);
        jet_queue_pop(s, &x->held);
    }
}

void jet_publish_forget(struct shard *s, struct jet_stream *x)
{
    if (s->jet->js->hooks != NULL) refuse_held(s, x); /* else the server stops */
    jet_queue_each(&s->jet->acks, forget, x);
    jet_queue_each(&s->jet->ready, forget, x);
}
