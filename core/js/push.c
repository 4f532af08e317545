#include "core/js/push.h"
#include "core/base/must.h"

#define NS_PER_SECOND INT64_C(1000000000)

enum {
    BUCKET_MAX = 1 << 30,
    NAME_BYTES_MAX = 255,
    FLOW_SUBJECT_BYTES_MAX = 16 + 2 * (NAME_BYTES_MAX + 1),
};

void push_set_rate(struct push *p, const struct push_setup *setup, int64_t now_ns)
{
    uint64_t bytes = setup->message_bytes_max;
    p->rate = setup->rate_limit_bps == 0 ? 0 : setup->rate_limit_bps / 8;
    /* Below one byte a second the limit means nothing goes; a byte a second comes near to it. */
    if (setup->rate_limit_bps > 0 && p->rate == 0) p->rate = 1;
    p->bucket_max = bytes == 0 || bytes > BUCKET_MAX ? BUCKET_MAX : (int64_t)bytes;
    p->bucket = p->bucket_max;
    p->filled_ns = now_ns;
}

static int64_t beat_behind(const struct push *p, int64_t now_ns)
{
    int64_t next_ns;
    return __builtin_add_overflow(now_ns, p->heartbeat_ns, &next_ns) ? INT64_MAX : next_ns;
}

void push_init(struct push *p, const struct push_setup *setup, int64_t now_ns)
{
    *p = (struct push){.heartbeat_ns = setup->heartbeat_ns,
                       .has_flow = setup->has_flow,
                       .window = PUSH_WINDOW_BYTES_MIN};
    p->next_heartbeat_ns = beat_behind(p, now_ns);
    push_set_rate(p, setup, now_ns);
}

bool push_is_stalled(const struct push *p)
{
    return p->has_flow && p->out_bytes > p->window;
}

/* --- rate ------------------------------------------------------------------------------------ */

/* What flows in during ns, without overflow. */
static int64_t filled(const struct push *p, int64_t ns)
{
    if (ns <= 0) return 0;
    int64_t full_ns =
        (int64_t)((uint64_t)(p->bucket_max - p->bucket) / p->rate + 1) * NS_PER_SECOND;
    if (ns >= full_ns) return p->bucket_max - p->bucket;
    int64_t seconds = ns / NS_PER_SECOND, rest = ns % NS_PER_SECOND;
    /* Rates above this fill any bucket in a second: that case ended above. */
    double part = (double)p->rate * (double)rest / (double)NS_PER_SECOND;
    int64_t bytes = (int64_t)p->rate * seconds + (int64_t)part;
    return bytes > p->bucket_max - p->bucket ? p->bucket_max - p->bucket : bytes;
}

int64_t push_ready_ns(const struct push *p, int64_t now_ns)
{
    if (p->rate == 0 || p->bucket >= 0) return now_ns;
    uint64_t missing = (uint64_t)-p->bucket;
    uint64_t seconds = missing / p->rate, rest = missing % p->rate;
    double part = (double)rest * (double)NS_PER_SECOND / (double)p->rate;
    return p->filled_ns + (int64_t)seconds * NS_PER_SECOND + (int64_t)part + 1;
}

static void take_from_bucket(struct push *p, uint64_t bytes, int64_t now_ns)
{
    if (p->rate == 0) return;
    p->bucket += filled(p, now_ns - p->filled_ns);
    p->filled_ns = now_ns;
    p->bucket -= bytes > BUCKET_MAX ? BUCKET_MAX : (int64_t)bytes;
}

/* --- flow control ---------------------------------------------------------------------------- */

static void write_flow_subject(const struct push *p, const struct push_names *names,
                               struct writer *w)
{
    writer_text(w, "$JS.FC.");
    writer_bytes(w, names->stream);
    writer_char(w, '.');
    writer_bytes(w, names->consumer);
    writer_char(w, '.');
    writer_bytes(w, bytes_of(p->flow_id, PUSH_FLOW_ID_BYTES));
    must(!w->is_full);
}

static void ask(struct push *p, const struct push_names *names, struct rng *rng, struct outlet *o)
{
    char subject[FLOW_SUBJECT_BYTES_MAX];
    struct writer w;
    rng_text(rng, p->flow_id, PUSH_FLOW_ID_BYTES);
    p->asked_bytes = p->out_bytes;
    writer_init(&w, subject, sizeof subject);
    write_flow_subject(p, names, &w);
    o->send(o, names->deliver_subject, writer_written(&w),
            BYTES_LITERAL("NATS/1.0 100 FlowControl Request\r\n\r\n"));
}

void push_delivered(struct push *p, const struct push_names *names, uint64_t bytes, int64_t now_ns,
                    struct rng *rng, struct outlet *o)
{
    take_from_bucket(p, bytes, now_ns);
    p->next_heartbeat_ns = beat_behind(p, now_ns);
    if (!p->has_flow) return;
    uint32_t size = bytes > PUSH_WINDOW_BYTES_MAX ? PUSH_WINDOW_BYTES_MAX : (uint32_t)bytes;
    p->out_bytes += size; /* bounded: a full window stalls */
    if (p->flow_id[0] == 0 && p->out_bytes > p->window / 2)
        ask(p, names, rng, o);
    else if (p->flow_id[0] != 0 && p->out_bytes - p->asked_bytes >= p->window)
        p->asked_bytes += size; /* else the answer could leave a window that stays full */
}

bool push_answered(struct push *p, struct bytes subject)
{
    if (p->flow_id[0] == 0) return false;
    if (!bytes_ends_with(subject, bytes_of(p->flow_id, PUSH_FLOW_ID_BYTES))) return false;
    p->window = p->window >= PUSH_WINDOW_BYTES_MAX / 2 ? PUSH_WINDOW_BYTES_MAX : p->window * 2;
    p->out_bytes = p->out_bytes > p->asked_bytes ? p->out_bytes - p->asked_bytes : 0;
    p->asked_bytes = 0;
    p->flow_id[0] = 0;
    return true;
}

/* --- heartbeats ------------------------------------------------------------------------------ */

int64_t push_beat(struct push *p, const struct push_names *names, uint64_t consumer_seq,
                  uint64_t stream_seq, bool is_bound, int64_t now_ns, struct outlet *o)
{
    char text[200 + FLOW_SUBJECT_BYTES_MAX];
    struct writer w;
    if (p->heartbeat_ns == 0) return INT64_MAX;
    if (now_ns < p->next_heartbeat_ns) return p->next_heartbeat_ns;
    p->next_heartbeat_ns = beat_behind(p, now_ns);
    if (!is_bound) return p->next_heartbeat_ns;
    writer_init(&w, text, sizeof text);
    writer_text(&w, "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: ");
    writer_u64(&w, consumer_seq);
    writer_text(&w, "\r\nNats-Last-Stream: ");
    writer_u64(&w, stream_seq);
    if (p->flow_id[0] != 0) {
        writer_text(&w, "\r\nNats-Consumer-Stalled: ");
        write_flow_subject(p, names, &w);
    }
    writer_text(&w, "\r\n\r\n");
    must(!w.is_full);
    o->send(o, names->deliver_subject, bytes_of("", 0), writer_written(&w));
    return p->next_heartbeat_ns;
}
