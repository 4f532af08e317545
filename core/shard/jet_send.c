/* What the server itself publishes for JetStream: answers, deliveries, events.
 *
 * A message leaves at once, inside a fan-out of its own. It waits in `out` if something waits there
 * already (J3: the order stays), if a fan-out is under way, or if it finds no room. */
#include "core/shard/jet.h"

enum { SCRATCH_FIRST = 16384 };

/* False: it has to wait. */
static bool publish(struct shard *s, const struct message *m)
{
    enum park_reason reason;
    enum fanout_result result =
        m->target.len > 0 ? fanout_publish_to(s, m, &reason) : fanout_publish(s, m, NULL, &reason);
    if (result == FANOUT_PARK) return false;
    if (UNLIKELY(s->stall != CLIENT_STALL_NONE)) {
        s->jet->is_congested = true;
        s->stall = CLIENT_STALL_NONE;
    }
    return true;
}

void jet_send_later(struct shard *s, const struct jet_parts *p)
{
    struct jet_message head = {.account = p->account, .header_len = (uint32_t)p->headers.len};
    if (jet_queue_parts(s, &s->jet->out, &head, p) != ERR_OK) s->counts.dropped_msgs++;
}

static char *put(char *to, struct bytes b)
{
    if (b.len > 0) memcpy(to, b.data, b.len);
    return to + b.len;
}

/* The bytes of a message one behind the other with CRLF; NULL: no memory. */
static const char *join(struct shard *s, struct bytes headers, struct bytes body)
{
    struct jet *j = s->jet;
    size_t need = headers.len + body.len + 2;
    if (j->scratch_bytes < need) {
        size_t bytes = j->scratch_bytes < SCRATCH_FIRST ? SCRATCH_FIRST : j->scratch_bytes;
        while (bytes < need) bytes *= 2;
        char *fresh = mem_alloc(s->mem, MEM_JETSTREAM, bytes);
        if (fresh == NULL) return NULL;
        mem_free(s->mem, MEM_JETSTREAM, j->scratch, j->scratch_bytes);
        j->scratch = fresh;
        j->scratch_bytes = bytes;
    }
    memcpy(put(put(j->scratch, headers), body), "\r\n", 2);
    return j->scratch;
}

static void send_parts(struct shard *s, const struct jet_parts *p, bool is_in_place)
{
    struct shard_account *a = session_account(s, p->account);
    const char *payload = NULL;
    if (is_in_place) payload = p->headers.len > 0 ? p->headers.data : p->body.data;
    bool waits = s->jet->out.count > 0 || s->is_fanning_out || a == NULL;
    if (!waits && payload == NULL) payload = join(s, p->headers, p->body);
    if (waits || payload == NULL) {
        jet_send_later(s, p);
        return;
    }
    struct message m = {.account = a,
                        .subject = p->subject,
                        .reply = p->reply,
                        .header_bytes = (uint32_t)p->headers.len,
                        .total_bytes = (uint32_t)(p->headers.len + p->body.len),
                        .payload = payload,
                        .origin = p->target.len > 0 ? MESSAGE_OF_STREAM : (struct conn_id){0},
                        .origin_shard = s->index,
                        .target = p->target};
    if (!publish(s, &m)) jet_send_later(s, p);
}

void jet_send(struct shard *s, const struct jet_parts *p)
{
    send_parts(s, p, false);
}

void jet_send_stored(struct shard *s, const struct jet_parts *p)
{
    /* Mail copies two bytes behind the payload, which here are not CRLF. */
    bool is_whole =
        p->headers.len == 0 || p->body.len == 0 || p->headers.data + p->headers.len == p->body.data;
    bool is_in_place = is_whole && s->shard_count == 1 && p->headers.len + p->body.len > 0;
    s->jet->is_from_store = true;
    send_parts(s, p, is_in_place);
    s->jet->is_from_store = false;
}

void jet_send_waiting(struct shard *s)
{
    struct jet *j = s->jet;
    struct message m;
    const struct jet_message *e;
    if (j->out.count == 0) return;
    struct jet_queue batch = jet_queue_detach(&j->out);
    while ((e = jet_queue_first(&batch)) != NULL) {
        if (jet_queue_read(s, e, &m) && !publish(s, &m)) break;
        jet_queue_pop(&batch);
    }
    jet_queue_rejoin(s, &j->out, &batch);
}
