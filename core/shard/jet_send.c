/* What the server itself publishes for JetStream: answers, deliveries, events.
 *
 * A message leaves at once, inside a fan-out of its own. It waits in `out` if something waits there
 * already (J3: the order stays), if a fan-out is under way, or if it finds no room. */
#include "core/shard/jet.h"

enum { SCRATCH_FIRST = 16384 };
static const uint64_t LOST_LOG_NS = 1000000000u; /* between two lines about lost messages */

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

static enum err add(struct shard *s, const struct jet_parts *p)
{
    struct jet_message head = {.account = p->account, .header_len = (uint32_t)p->headers.len};
    return jet_queue_parts(s, &s->jet->out, &head, p);
}

bool jet_send_later(struct shard *s, const struct jet_parts *p)
{
    struct jet *j = s->jet;
    if (LIKELY(add(s, p) == ERR_OK)) return true;
    s->counts.dropped_msgs++;
    if (j->lost_logged_ns != 0 && s->now.mono_ns - j->lost_logged_ns < LOST_LOG_NS) return false;
    j->lost_logged_ns = s->now.mono_ns;
    session_log(s, NULL, LOG_LEVEL_WRN, "JetStream lost a message on its way out: out of memory");
    return false;
}

void jet_send_refusal(struct shard *s, enum jet_sub_kind kind, const struct message *m)
{
    struct jet_parts p = {.account = m->account->number, .subject = m->reply};
    switch (kind) {
    case JET_SUB_API:
    case JET_SUB_ROUTED: p.body = BYTES_LITERAL(JET_NO_MEMORY); break;
    case JET_SUB_DIRECT: p.headers = BYTES_LITERAL(JET_DIRECT_NO_MEMORY); break;
    case JET_SUB_NEXT: p.headers = BYTES_LITERAL(PULLQ_NO_MEMORY); break;
    default: p.headers = BYTES_LITERAL(DELIVER_NO_ANSWER); break;
    }
    s->counts.dropped_msgs++;
    if (m->reply.len == 0) return;
    if (add(s, &p) != ERR_OK) relay_end_client(s, m->origin_shard, m->origin);
}

bool jet_send_is_full(const struct jet *j)
{
    return j->out.bytes > JET_OUT_BYTES_MAX;
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

static bool send_parts(struct shard *s, const struct jet_parts *p, bool is_in_place)
{
    struct shard_account *a = session_account(s, p->account);
    const char *payload = NULL;
    if (is_in_place) payload = p->headers.len > 0 ? p->headers.data : p->body.data;
    bool waits = s->jet->out.count > 0 || s->is_fanning_out || a == NULL;
    if (!waits && payload == NULL) payload = join(s, p->headers, p->body);
    if (waits || payload == NULL) return jet_send_later(s, p);
    struct message m = {.account = a,
                        .subject = p->subject,
                        .reply = p->reply,
                        .header_bytes = (uint32_t)p->headers.len,
                        .total_bytes = (uint32_t)(p->headers.len + p->body.len),
                        .payload = payload,
                        .origin = p->target.len > 0 ? MESSAGE_OF_STREAM : (struct conn_id){0},
                        .origin_shard = s->index,
                        .target = p->target};
    return publish(s, &m) || jet_send_later(s, p);
}

bool jet_send(struct shard *s, const struct jet_parts *p)
{
    return send_parts(s, p, false);
}

bool jet_send_stored(struct shard *s, const struct jet_parts *p)
{
    /* Mail copies two bytes behind the payload, which here are not CRLF. */
    bool is_whole =
        p->headers.len == 0 || p->body.len == 0 || p->headers.data + p->headers.len == p->body.data;
    bool is_in_place = is_whole && s->shard_count == 1 && p->headers.len + p->body.len > 0;
    s->jet->is_from_store = true;
    bool is_sent = send_parts(s, p, is_in_place);
    s->jet->is_from_store = false;
    return is_sent;
}

void jet_send_waiting(struct shard *s)
{
    struct jet *j = s->jet;
    struct message m;
    const struct jet_message *e;
    /* What these lead to waits behind them until the next time. */
    for (uint64_t left = j->out.count; left > 0; left--) {
        e = jet_queue_first(&j->out);
        if (jet_queue_read(s, e, &m) && !publish(s, &m)) return;
        jet_queue_pop(s, &j->out);
    }
}
