#include "core/js/pullq.h"
#include "core/base/must.h"
#include "core/base/time_text.h"

enum {
    STATUS_BYTES_MAX = 512 + JSAPI_ERROR_TEXT_BYTES,
    SWEEP_STEP_NS = 1000000000, /* a full queue is swept no more often for new requests */
    COME_AGAIN_NS = 1000000,
};

struct pullq_request {
    struct list link;
    int64_t batch; /* still to get */
    int64_t bytes; /* still allowed; 0: no limit */
    int64_t delivered;
    int64_t expires_ns;   /* 0: never */
    int64_t heartbeat_ns; /* 0: none */
    int64_t next_heartbeat_ns;
    bool no_wait;
    uint32_t reply_len;
    char reply[];
};

void pullq_init(struct pullq *q, struct mem *mem)
{
    *q = (struct pullq){.mem = mem};
    list_init(&q->requests);
}

static struct pullq_request *request_of(struct list *link)
{
    return LIST_OWNER(link, struct pullq_request, link);
}

static struct bytes reply_of(const struct pullq_request *r)
{
    return bytes_of(r->reply, r->reply_len);
}

static void drop(struct pullq *q, struct pullq_request *r)
{
    must(q->count > 0);
    q->count--;
    list_remove(&r->link);
    mem_free(q->mem, MEM_JETSTREAM, r, sizeof *r + r->reply_len);
}

void pullq_clear(struct pullq *q)
{
    while (!list_is_empty(&q->requests)) drop(q, request_of(q->requests.next));
    must(q->count == 0);
}

/* --- statuses -------------------------------------------------------------------------------- */

static void send_status(struct outlet *o, struct bytes reply, struct bytes status)
{
    char text[STATUS_BYTES_MAX];
    struct writer w;
    writer_init(&w, text, sizeof text);
    writer_text(&w, "NATS/1.0 ");
    writer_bytes(&w, status);
    writer_text(&w, "\r\n\r\n");
    if (!w.is_full) o->send(o, reply, bytes_of("", 0), writer_written(&w));
}

/* With what the request still had to get. */
static void send_left(struct outlet *o, struct bytes reply, const char *status, int64_t batch,
                      int64_t bytes)
{
    char text[160];
    struct writer w;
    writer_init(&w, text, sizeof text);
    writer_text(&w, "NATS/1.0 ");
    writer_text(&w, status);
    writer_text(&w, "\r\nNats-Pending-Messages: ");
    writer_i64(&w, batch);
    writer_text(&w, "\r\nNats-Pending-Bytes: ");
    writer_i64(&w, bytes);
    writer_text(&w, "\r\n\r\n");
    must(!w.is_full);
    o->send(o, reply, bytes_of("", 0), writer_written(&w));
}

static void send_heartbeat(struct outlet *o, struct bytes reply, const struct pullq_facts *facts)
{
    char text[160];
    struct writer w;
    writer_init(&w, text, sizeof text);
    writer_text(&w, "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: ");
    writer_u64(&w, facts->consumer_seq);
    writer_text(&w, "\r\nNats-Last-Stream: ");
    writer_u64(&w, facts->stream_seq);
    writer_text(&w, "\r\n\r\n");
    must(!w.is_full);
    o->send(o, reply, bytes_of("", 0), writer_written(&w));
}

void pullq_close(struct pullq *q, struct outlet *o, const char *status)
{
    while (!list_is_empty(&q->requests)) {
        struct pullq_request *r = request_of(q->requests.next);
        send_status(o, reply_of(r), bytes_from_text(status));
        drop(q, r);
    }
}

void pullq_shutdown(struct pullq *q, struct outlet *o)
{
    while (!list_is_empty(&q->requests)) {
        struct pullq_request *r = request_of(q->requests.next);
        send_left(o, reply_of(r), "409 Server Shutdown", r->batch, r->bytes);
        drop(q, r);
    }
}

/* --- requests arrive ------------------------------------------------------------------------- */

static bool refuse(struct outlet *o, struct bytes reply, const char *status)
{
    send_status(o, reply, bytes_from_text(status));
    return false;
}

/* An amount at the end of the status. */
static bool refuse_above(struct outlet *o, struct bytes reply, const char *status, int64_t limit)
{
    char text[100];
    struct writer w;
    writer_init(&w, text, sizeof text);
    writer_text(&w, status);
    writer_i64(&w, limit);
    send_status(o, reply, writer_written(&w));
    return false;
}

static bool refuse_expires(struct outlet *o, struct bytes reply, int64_t limit_ns)
{
    char room[100];
    struct text out = {.data = room, .capacity = sizeof room, .bytes_max = sizeof room};
    text_string(&out, "409 Exceeded MaxRequestExpires of ");
    time_text_duration(&out, limit_ns);
    must(!out.is_failed);
    send_status(o, reply, text_written(&out));
    return false;
}

static bool check_request(const struct pullq_limits *limits, const struct ack_pull *p,
                          struct bytes reply, struct outlet *o)
{
    if (limits->max_batch > 0 && p->batch > limits->max_batch)
        return refuse_above(o, reply, "409 Exceeded MaxRequestBatch of ", limits->max_batch);
    if (limits->max_expires_ns > 0 && p->expires_ns > limits->max_expires_ns)
        return refuse_expires(o, reply, limits->max_expires_ns);
    if (limits->max_bytes > 0 && p->max_bytes > limits->max_bytes)
        return refuse_above(o, reply, "409 Exceeded MaxRequestMaxBytes of ", limits->max_bytes);
    /* No consumer has priority groups. */
    if (p->min_pending != 0 || p->min_ack_pending != 0)
        return refuse(o, reply, "400 Bad Request - Not a Overflow Priority consumer");
    if (p->id.len > 0)
        return refuse(o, reply, "400 Bad Request - Not a Pinned Client Priority consumer");
    if (p->priority < 0 || p->priority > 9)
        return refuse(o, reply, "400 Bad Request - Priority must be between 0 and 9");
    return true;
}

/* A request that does not wait, or waits only when there is nothing at all. */
static bool check_no_wait(struct pullq *q, const struct pullq_facts *facts,
                          const struct ack_pull *p, struct bytes reply, struct outlet *o)
{
    if (!p->no_wait) return true;
    if (facts->pending == 0 && p->expires_ns == 0) {
        q->last_active_ns = facts->now_ns;
        return refuse(o, reply, "404 No Messages");
    }
    if (facts->pending == 0) return true;
    uint64_t batch;
    (void)pullq_sweep(q, facts, false, o, &batch);
    if (facts->pending >= batch) return true;
    q->last_active_ns = facts->now_ns;
    return refuse(o, reply, "408 Requests Pending");
}

bool pullq_add(struct pullq *q, const struct pullq_limits *limits, const struct pullq_facts *facts,
               struct arena *arena, struct bytes body, struct bytes reply, struct outlet *o)
{
    struct ack_pull p;
    char text[JSAPI_ERROR_TEXT_BYTES];
    struct writer why;
    if (reply.len == 0) return false;
    if (reply.len > PULLQ_REPLY_BYTES_MAX)
        return refuse(o, reply, "400 Bad Request - Reply subject too long");
    writer_init(&why, text, sizeof text);
    writer_text(&why, "400 Bad Request - ");
    enum err e = ack_parse_pull(arena, body, &p, &why);
    if (e == ERR_MEMORY) {
        o->send(o, reply, bytes_of("", 0), BYTES_LITERAL(PULLQ_NO_MEMORY));
        return false;
    }
    if (e != ERR_OK) {
        send_status(o, reply, writer_written(&why));
        return false;
    }
    if (!check_request(limits, &p, reply, o)) return false;
    if ((int64_t)q->count >= limits->max_waiting && facts->now_ns - q->swept_ns > SWEEP_STEP_NS)
        (void)pullq_sweep(q, facts, false, o, NULL);
    if (!check_no_wait(q, facts, &p, reply, o)) return false;

    struct pullq_request *r = NULL;
    if ((int64_t)q->count < limits->max_waiting)
        r = mem_alloc(q->mem, MEM_JETSTREAM, sizeof *r + reply.len);
    if (r == NULL) {
        /* One with a heartbeat misses that and asks again; an answer would make it ask at once. */
        return p.heartbeat_ns == 0 ? refuse(o, reply, "409 Exceeded MaxWaiting") : false;
    }
    *r = (struct pullq_request){.batch = p.batch,
                                .bytes = p.max_bytes > 0 ? p.max_bytes : 0,
                                .no_wait = p.no_wait,
                                .heartbeat_ns = p.heartbeat_ns > 0 ? p.heartbeat_ns : 0,
                                .reply_len = (uint32_t)reply.len};
    memcpy(r->reply, reply.data, reply.len);
    if (p.expires_ns != 0 && __builtin_add_overflow(facts->now_ns, p.expires_ns, &r->expires_ns))
        r->expires_ns = INT64_MAX;
    r->next_heartbeat_ns = facts->now_ns + r->heartbeat_ns;
    list_init(&r->link);
    list_push(&q->requests, &r->link);
    q->count++;
    q->last_active_ns = facts->now_ns;
    return true;
}

/* --- messages -------------------------------------------------------------------------------- */

static void expire(struct pullq *q, struct pullq_request *r, struct outlet *o)
{
    send_left(o, reply_of(r), "408 Request Timeout", r->batch, r->bytes);
    if (r->expires_ns > q->last_active_ns) q->last_active_ns = r->expires_ns;
    drop(q, r);
}

static bool is_expired(const struct pullq_request *r, int64_t now_ns)
{
    return r->expires_ns != 0 && now_ns >= r->expires_ns;
}

static void serve(struct pullq *q, struct pullq_request *r, const struct pullq_facts *facts,
                  uint64_t bytes, struct pullq_taker *taker)
{
    if (r->bytes > 0) {
        r->bytes -= (int64_t)bytes;
        if (r->bytes == 0) r->batch = 1; /* this one fills it */
    }
    r->batch--;
    r->delivered++;
    if (r->heartbeat_ns > 0) r->next_heartbeat_ns = facts->now_ns + r->heartbeat_ns;
    memcpy(taker->reply, r->reply, r->reply_len);
    taker->reply_len = r->reply_len;
    taker->is_done = r->batch <= 0;
    taker->batch_left = r->batch;
    taker->bytes_left = r->bytes;
    if (taker->is_done) {
        drop(q, r);
    } else {
        list_remove(&r->link);
        list_push(&q->requests, &r->link);
    }
    q->last_active_ns = facts->now_ns;
}

bool pullq_take(struct pullq *q, const struct pullq_facts *facts, uint64_t bytes, struct outlet *o,
                struct pullq_taker *taker)
{
    while (!list_is_empty(&q->requests)) {
        struct pullq_request *r = request_of(q->requests.next);
        if (is_expired(r, facts->now_ns)) {
            expire(q, r, o);
        } else if (r->bytes > 0 && bytes > (uint64_t)r->bytes) {
            send_left(o, reply_of(r), "409 Message Size Exceeds MaxBytes", r->batch, r->bytes);
            drop(q, r);
        } else if (!o->has_interest(o, reply_of(r))) {
            drop(q, r);
        } else {
            serve(q, r, facts, bytes, taker);
            return true;
        }
    }
    return false;
}

void pullq_finish(const struct pullq_taker *taker, struct outlet *o)
{
    if (taker->batch_left <= 0 && taker->bytes_left > 0)
        send_left(o, bytes_of(taker->reply, taker->reply_len), "409 Batch Completed",
                  taker->batch_left, taker->bytes_left);
}

/* Something is due that was asked for: a heartbeat, or the end of a request. */
static bool is_due(const struct pullq *q, int64_t now_ns)
{
    for (const struct list *l = q->requests.next; l != &q->requests; l = l->next) {
        const struct pullq_request *r = LIST_OWNER(l, const struct pullq_request, link);
        if (is_expired(r, now_ns) || (r->heartbeat_ns > 0 && now_ns >= r->next_heartbeat_ns))
            return true;
    }
    return false;
}

int64_t pullq_sweep(struct pullq *q, const struct pullq_facts *facts, bool is_end, struct outlet *o,
                    uint64_t *batch)
{
    int64_t now = facts->now_ns, next_ns = INT64_MAX;
    uint64_t sum = 0;
    q->swept_ns = now;
    if (facts->is_stalled && is_due(q, now)) is_end = true;
    for (struct list *l = q->requests.next, *next; l != &q->requests; l = next) {
        struct pullq_request *r = request_of(l);
        next = l->next;
        if (is_expired(r, now)) {
            expire(q, r, o);
            continue;
        }
        /* One that waits for its first message only while there is none goes on waiting. */
        if (is_end && r->no_wait && (r->expires_ns == 0 || r->delivered > 0)) {
            send_status(o, reply_of(r), BYTES_LITERAL("404 No Messages"));
            if (now > q->last_active_ns) q->last_active_ns = now;
            drop(q, r);
            continue;
        }
        if (!o->has_interest(o, reply_of(r))) {
            drop(q, r);
            continue;
        }
        if (r->batch > 0) sum += (uint64_t)r->batch;
        if (r->heartbeat_ns > 0) {
            if (now >= r->next_heartbeat_ns) {
                send_heartbeat(o, reply_of(r), facts);
                r->next_heartbeat_ns = now + r->heartbeat_ns;
            }
            if (r->next_heartbeat_ns < next_ns) next_ns = r->next_heartbeat_ns;
        }
        if (r->expires_ns != 0 && r->expires_ns < next_ns) next_ns = r->expires_ns;
    }
    if (batch != NULL) *batch = sum;
    return next_ns <= now ? now + COME_AGAIN_NS : next_ns;
}
