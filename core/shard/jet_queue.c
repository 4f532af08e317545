/* Queues of JetStream in one piece of memory each, and messages as entries of them: in the inbox,
 * held back by an order of their stream, or on their way out (struct jet_message).
 *
 * An entry moves when its queue grows or is rejoined; nobody keeps a pointer to one. A queue that
 * finds no memory refuses the entry, and the caller counts what is lost by that. */
#include "core/base/must.h"
#include "core/shard/jet.h"

enum {
    QUEUE_FIRST = 16384,
    QUEUE_KEPT = 1 << 20, /* an empty queue above this gives its memory back */
};

static size_t rounded(size_t bytes)
{
    return (bytes + 7) & ~(size_t)7;
}

static bool make_room(struct shard *s, struct jet_queue *q, size_t bytes)
{
    if (q->capacity - q->len >= bytes) return true;
    if (q->at > q->capacity / 2) {
        memmove(q->data, q->data + q->at, q->len - q->at);
        q->len -= q->at;
        q->at = 0;
        if (q->capacity - q->len >= bytes) return true;
    }
    size_t capacity = q->capacity < QUEUE_FIRST ? QUEUE_FIRST : q->capacity * 2;
    while (capacity - q->len < bytes) capacity *= 2;
    char *grown = mem_resize(s->mem, MEM_JETSTREAM, q->data, q->capacity, capacity);
    if (grown == NULL) return false;
    q->data = grown;
    q->capacity = capacity;
    return true;
}

void *jet_queue_room(struct shard *s, struct jet_queue *q, size_t bytes)
{
    bytes = rounded(bytes);
    if (bytes > UINT32_MAX || !make_room(s, q, bytes)) return NULL;
    void *entry = q->data + q->len;
    uint32_t size = (uint32_t)bytes;
    memcpy(entry, &size, sizeof size);
    return entry;
}

static uint32_t size_of(const void *entry)
{
    uint32_t size;
    memcpy(&size, entry, sizeof size);
    return size;
}

void jet_queue_add(struct jet_queue *q)
{
    q->len += size_of(q->data + q->len);
    must(q->len <= q->capacity);
    q->count++;
}

void *jet_queue_first(const struct jet_queue *q)
{
    return q->count == 0 ? NULL : q->data + q->at;
}

void jet_queue_pop(struct jet_queue *q)
{
    must(q->count > 0);
    q->at += size_of(q->data + q->at);
    q->count--;
    if (q->count == 0) q->at = q->len = 0;
}

void jet_queue_free(struct shard *s, struct jet_queue *q)
{
    mem_free(s->mem, MEM_JETSTREAM, q->data, q->capacity);
    *q = (struct jet_queue){0};
}

struct jet_queue jet_queue_detach(struct jet_queue *q)
{
    struct jet_queue batch = *q;
    *q = (struct jet_queue){0};
    return batch;
}

void jet_queue_rejoin(struct shard *s, struct jet_queue *q, struct jet_queue *batch)
{
    size_t more = q->len - q->at;
    if (batch->count == 0 && (q->count > 0 || batch->capacity > QUEUE_KEPT)) {
        jet_queue_free(s, batch);
        return;
    }
    if (more > 0 && !make_room(s, batch, more)) {
        /* Without memory one of both is lost: what came last. */
        s->counts.dropped_msgs += q->count;
    } else if (more > 0) {
        memcpy(batch->data + batch->len, q->data + q->at, more);
        batch->len += more;
        batch->count += q->count;
    }
    jet_queue_free(s, q);
    *q = *batch;
}

static char *put(char *to, struct bytes b)
{
    if (b.len > 0) memcpy(to, b.data, b.len);
    return to + b.len;
}

enum err jet_queue_parts(struct shard *s, struct jet_queue *q, const struct jet_message *head,
                         const struct jet_parts *p)
{
    size_t texts = p->target.len + p->subject.len + p->reply.len + p->headers.len + p->body.len + 2;
    struct jet_message *e = jet_queue_room(s, q, sizeof *e + texts);
    if (e == NULL) return ERR_MEMORY;
    uint32_t bytes = e->bytes;
    *e = *head;
    e->bytes = bytes;
    e->target_len = (uint16_t)p->target.len;
    e->subject_len = (uint16_t)p->subject.len;
    e->reply_len = (uint16_t)p->reply.len;
    e->total_len = (uint32_t)(p->headers.len + p->body.len);
    char *to = put(put(put((char *)(e + 1), p->target), p->subject), p->reply);
    memcpy(put(put(to, p->headers), p->body), "\r\n", 2);
    jet_queue_add(q);
    return ERR_OK;
}

enum err jet_queue_message(struct shard *s, struct jet_queue *q, uint8_t kind,
                           struct jet_stream *stream, const struct message *m)
{
    struct jet_message head = {.account = m->account->number,
                               .stream = stream,
                               .kind = kind,
                               .is_no_echo = m->is_no_echo,
                               .header_len = m->header_bytes,
                               .origin_shard = m->origin_shard,
                               .origin = m->origin};
    struct jet_parts parts = {
        .subject = m->subject, .reply = m->reply, .body = bytes_of(m->payload, m->total_bytes)};
    return jet_queue_parts(s, q, &head, &parts);
}

bool jet_queue_read(struct shard *s, const struct jet_message *e, struct message *m)
{
    const char *at = (const char *)(e + 1) + e->target_len;
    *m = (struct message){.account = session_account(s, e->account),
                          .subject = bytes_of(at, e->subject_len),
                          .header_bytes = e->header_len,
                          .total_bytes = e->total_len,
                          .is_no_echo = e->is_no_echo,
                          .origin_shard = s->index,
                          .target = bytes_of((const char *)(e + 1), e->target_len)};
    if (e->target_len > 0) m->origin = MESSAGE_OF_STREAM;
    if (e->kind == JET_SUB_API || e->kind == JET_SUB_ROUTED) {
        m->origin = e->origin;
        m->origin_shard = e->origin_shard;
    }
    at += e->subject_len;
    m->reply = bytes_of(at, e->reply_len);
    m->payload = at + e->reply_len;
    return m->account != NULL;
}
