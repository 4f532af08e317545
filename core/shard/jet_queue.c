/* Queues of JetStream: in the inbox, held back by an order of their stream, or on their way out,
 * messages wait as entries (struct jet_message), one behind the other in chunks.
 *
 * An entry does not move, and a queue that grows asks for no more than the entry needs: so what
 * waits is never lost for want of memory. An entry that finds none has the receiver with the most
 * waiting output closed first; with none of those the entry is refused, and the caller sees to it
 * that somebody is told. */
#include "core/base/must.h"
#include "core/shard/jet.h"

enum {
    CHUNK_FIRST = 14336, /* the largest that costs no pages of its own */
    CHUNK_MORE = 65536,
};

struct jet_chunk {
    struct jet_chunk *next;
    size_t bytes;   /* of this block */
    size_t at, len; /* entries lie in [at, len) of data; empty is only the last chunk */
    char data[];
};
_Static_assert(sizeof(struct jet_chunk) % 8 == 0, "entries begin at multiples of 8");

static size_t rounded(size_t bytes)
{
    return (bytes + 7) & ~(size_t)7;
}

static size_t room_in(const struct jet_chunk *c)
{
    return c->bytes - sizeof *c - c->len;
}

static struct jet_chunk *make_chunk(struct shard *s, size_t bytes)
{
    struct jet_chunk *c = mem_alloc(s->mem, MEM_JETSTREAM, bytes);
    while (c == NULL && pressure_shed(s)) c = mem_alloc(s->mem, MEM_JETSTREAM, bytes);
    if (c != NULL) *c = (struct jet_chunk){.bytes = bytes};
    return c;
}

static void free_chunk(struct shard *s, struct jet_chunk *c)
{
    mem_free(s->mem, MEM_JETSTREAM, c, c->bytes);
}

static struct jet_chunk **link_to(struct jet_queue *q, const struct jet_chunk *c)
{
    struct jet_chunk **link = &q->first;
    while (*link != c) link = &(*link)->next;
    return link;
}

/* The last chunk with room for so much; NULL: no memory. */
static struct jet_chunk *chunk_for(struct shard *s, struct jet_queue *q, size_t bytes)
{
    struct jet_chunk *last = q->last;
    if (LIKELY(last != NULL && room_in(last) >= bytes)) return last;
    size_t whole = last == NULL ? CHUNK_FIRST : CHUNK_MORE;
    if (whole < sizeof *last + bytes) whole = sizeof *last + bytes;
    struct jet_chunk *c = make_chunk(s, whole);
    if (c == NULL) return NULL;
    /* One that is empty was too small: nobody came back for its room. It gives its place up. */
    bool is_replaced = last != NULL && last->len == 0;
    struct jet_chunk **link = is_replaced    ? link_to(q, last)
                              : last != NULL ? &last->next
                                             : &q->first;
    if (is_replaced) free_chunk(s, last);
    *link = c;
    q->last = c;
    return c;
}

bool jet_queue_reserve(struct shard *s, struct jet_queue *q, size_t bytes)
{
    return chunk_for(s, q, rounded(sizeof(struct jet_message) + bytes)) != NULL;
}

void *jet_queue_room(struct shard *s, struct jet_queue *q, size_t bytes)
{
    bytes = rounded(bytes);
    if (bytes > UINT32_MAX) return NULL;
    struct jet_chunk *c = chunk_for(s, q, bytes);
    if (c == NULL) return NULL;
    void *entry = c->data + c->len;
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
    struct jet_chunk *c = q->last;
    uint32_t bytes = size_of(c->data + c->len);
    must(bytes <= room_in(c));
    c->len += bytes;
    q->bytes += bytes;
    q->count++;
}

void *jet_queue_first(const struct jet_queue *q)
{
    return q->count == 0 ? NULL : q->first->data + q->first->at;
}

void jet_queue_pop(struct shard *s, struct jet_queue *q)
{
    struct jet_chunk *c = q->first;
    must(q->count > 0);
    uint32_t bytes = size_of(c->data + c->at);
    c->at += bytes;
    q->bytes -= bytes;
    q->count--;
    if (c->at < c->len) return;
    if (c->next == NULL && c->bytes <= CHUNK_MORE) {
        c->at = c->len = 0;
        return;
    }
    q->first = c->next;
    if (q->first == NULL) q->last = NULL;
    free_chunk(s, c);
}

void jet_queue_each(const struct jet_queue *q, void (*look)(void *entry, const void *context),
                    const void *context)
{
    for (struct jet_chunk *c = q->first; c != NULL; c = c->next)
        for (size_t at = c->at; at < c->len; at += size_of(c->data + at))
            look(c->data + at, context);
}

void jet_queue_free(struct shard *s, struct jet_queue *q)
{
    while (q->first != NULL) {
        struct jet_chunk *c = q->first;
        q->first = c->next;
        free_chunk(s, c);
    }
    *q = (struct jet_queue){0};
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
    if (e->origin.bits != 0) { /* who is told, or closed, should there be no answer (J4) */
        m->origin = e->origin;
        m->origin_shard = e->origin_shard;
    }
    at += e->subject_len;
    m->reply = bytes_of(at, e->reply_len);
    m->payload = at + e->reply_len;
    return m->account != NULL;
}
