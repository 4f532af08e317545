#include "core/monitor/metrics_own.h"
#include "core/monitor/metrics_js.h"
#include "core/monitor/prometheus.h"

/* One count of struct shard_counts as a family with a sample per shard. */
struct row {
    const char *name, *type, *help;
    size_t offset; /* of a uint64_t in struct shard_counts */
    bool is_ns;    /* shown in seconds */
};

#define COUNTER(name, help, field)                                                                 \
    {                                                                                              \
        name, "counter", help, offsetof(struct shard_counts, field), false                         \
    }
#define GAUGE(name, help, field)                                                                   \
    {                                                                                              \
        name, "gauge", help, offsetof(struct shard_counts, field), false                           \
    }

static const struct row rows[] = {
    GAUGE("shard_connections", "Client connections.", connections),
    GAUGE("shard_subscriptions", "Subscriptions of the shard's connections.", subscriptions),
    GAUGE("shard_pending_bytes", "Output not yet handed to the kernel.", pending_bytes),
    GAUGE("shard_parked", "Connections whose receiving is suspended.", parked),
    COUNTER("shard_in_messages_total", "Messages received.", in.msgs),
    COUNTER("shard_in_bytes_total", "Bytes of received messages.", in.bytes),
    COUNTER("shard_out_messages_total", "Messages sent.", out.msgs),
    COUNTER("shard_out_bytes_total", "Bytes of sent messages.", out.bytes),
    COUNTER("shard_turns_total", "Turns of the loop.", turns),
    COUNTER("shard_turns_idle_total", "Turns that found nothing to do.", turns_idle),
    {"shard_busy_seconds_total", "counter", "Time spent in turns that had work.",
     offsetof(struct shard_counts, busy_ns), true},
    COUNTER("auth_failures_total", "Logins refused.", auth_failures),
    COUNTER("auth_timeouts_total", "Connections that did not log in in time.", auth_timeouts),
    COUNTER("dropped_messages_total",
            "Deliveries dropped: a congested receiver with no_fast_producer_stall, or no memory or "
            "room on the way between shards.",
            dropped_msgs),
    COUNTER("no_responders_total", "Requests answered with 503 for lack of a responder.",
            no_responders),
    COUNTER("queue_forwards_total", "Queue messages passed on to another shard.", queue_forwards),
    COUNTER("mail_sent_total", "Mail records sent to other shards.", mail.sent),
    COUNTER("mail_sent_bytes_total", "Bytes of mail sent.", mail.sent_bytes),
    COUNTER("mail_received_total", "Mail records consumed.", mail.received),
    COUNTER("mail_received_bytes_total", "Bytes of mail consumed.", mail.received_bytes),
    COUNTER("mail_ring_full_total", "Publishes that parked for lack of ring space.",
            mail.ring_full),
    COUNTER("mail_spills_total", "Mail records that went to a spill list.", mail.spills),
    COUNTER("mail_spilled_bytes_total", "Bytes that went to a spill list.", mail.spilled_bytes),
    GAUGE("mail_spill_bytes", "Bytes in spill lists.", mail.spill_bytes_now),
    GAUGE("mail_spill_bytes_max", "Most bytes ever in spill lists.", mail.spill_bytes_most),
    COUNTER("route_cache_hits_total", "Routes found in the cache.", route_cache.hits),
    COUNTER("route_cache_misses_total", "Routes not found in the cache.", route_cache.misses),
    COUNTER("route_cache_stale_total", "Cached routes that the index had outdated.",
            route_cache.stale),
    COUNTER("route_cache_evictions_total", "Routes put out of the cache.", route_cache.evictions),
    GAUGE("route_cache_entries", "Routes in the cache.", route_cache.entries),
    GAUGE("route_cache_bytes", "Memory of cached routes.", route_cache.bytes),
    COUNTER("driver_polls_total", "Waits for completions.", driver.polls),
    COUNTER("driver_syscalls_total", "System calls made.", driver.syscalls),
    COUNTER("driver_completions_total", "Completions reaped.", driver.completions),
    COUNTER("driver_recvs_total", "Receives completed.", driver.recvs),
    COUNTER("driver_recv_bytes_total", "Bytes received.", driver.recv_bytes),
    COUNTER("driver_sends_total", "Sends completed.", driver.sends),
    COUNTER("driver_sent_bytes_total", "Bytes sent.", driver.sent_bytes),
    COUNTER("driver_recv_rearms_total", "Receives armed anew.", driver.recv_rearms),
    COUNTER("driver_recv_no_buffers_total", "Receives that found no buffer.",
            driver.recv_no_buffers),
    COUNTER("driver_cq_overflows_total", "Overflows of the completion queue.", driver.cq_overflows),
    COUNTER("driver_wakes_total", "Wakes by other threads.", driver.wakes),
};

static const char *const park_labels[PARK_REASON_COUNT] = {
#define PARK_REASON(name, label) [PARK_##name] = label,
#include "core/monitor/park_reasons.def"
#undef PARK_REASON
};

static const char *const memory_labels[MEM_CLASS_COUNT] = {
    [MEM_CONNECTION] = "connection", [MEM_OUTPUT] = "output",       [MEM_INTEREST] = "interest",
    [MEM_ROUTE] = "route",           [MEM_MAIL] = "mail",           [MEM_CONFIG] = "config",
    [MEM_MONITOR] = "monitor",       [MEM_JETSTREAM] = "jetstream", [MEM_STORE] = "store",
};

static const struct {
    const char *name, *help;
} histogram_rows[SHARD_HISTOGRAM_COUNT] = {
#define SHARD_HISTOGRAM(name, metric, help) [SHARD_HISTOGRAM_##name] = {metric "_seconds", help},
#include "core/monitor/shard_histograms.def"
#undef SHARD_HISTOGRAM
};

static struct bytes prefix_own(void)
{
    return BYTES_LITERAL("millrace");
}

static uint64_t row_value(const struct row *r, const struct shard_counts *c)
{
    uint64_t value;
    memcpy(&value, (const char *)c + r->offset, sizeof value);
    return value;
}

static struct prometheus_label shard_label(const struct shard_snapshot *s, char *room)
{
    return (struct prometheus_label){"shard", bytes_of(room, bytes_u64_text(room, s->shard))};
}

static void write_rows(const struct page_input *in, struct text *out)
{
    char room[BYTES_U64_TEXT_MAX];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *r = &rows[i];
        prometheus_family(out, prefix_own(), r->name, r->type, r->help);
        for (uint32_t k = 0; k < in->shard_count; k++) {
            struct prometheus_label label = shard_label(in->shards[k], room);
            uint64_t value = row_value(r, &in->shards[k]->counts);
            if (r->is_ns)
                prometheus_float(out, prefix_own(), r->name, &label, 1, (double)value / 1e9);
            else
                prometheus_u64(out, prefix_own(), r->name, &label, 1, value);
        }
    }
}

/* A family with a second label beside the shard, over an array in struct shard_counts. */
static void write_array(const struct page_input *in, struct text *out, const struct row *r,
                        const char *label, const char *const *values, size_t count)
{
    char room[BYTES_U64_TEXT_MAX];
    prometheus_family(out, prefix_own(), r->name, r->type, r->help);
    for (uint32_t k = 0; k < in->shard_count; k++) {
        for (size_t i = 0; i < count; i++) {
            struct row element = *r;
            element.offset += i * sizeof(uint64_t);
            struct prometheus_label labels[] = {shard_label(in->shards[k], room),
                                                {label, bytes_from_text(values[i])}};
            prometheus_u64(out, prefix_own(), r->name, labels, 2,
                           row_value(&element, &in->shards[k]->counts));
        }
    }
}

static void write_server(const struct page_input *in, struct text *out)
{
    const struct server_snapshot *s = in->server;
    struct prometheus_label version = {"version", s->version};
    prometheus_family(out, prefix_own(), "build_info", "gauge", "The running version.");
    prometheus_u64(out, prefix_own(), "build_info", &version, 1, 1);
    const struct {
        const char *name, *type, *help;
        uint64_t value;
    } values[] = {
        {"shards", "gauge", "Number of shards.", in->shard_count},
        {"lame_duck", "gauge", "1 while the server is leaving.", s->is_lame_duck ? 1 : 0},
        {"memory_limit_bytes", "gauge", "Bound of the process memory, 0 for none.",
         (uint64_t)s->memory_limit_bytes},
        {"system_requests_dropped_total", "counter",
         "Requests to the server itself and changes of accounts dropped: too many waited.",
         s->system_dropped},
        {"interest_subscriptions", "gauge", "Subscriptions in the interest index.",
         s->interest.subscriptions},
        {"interest_nodes", "gauge", "Nodes of the interest index.", s->interest.nodes},
        {"interest_bytes", "gauge", "Memory of the interest index.", s->interest.bytes},
        {"interest_inserts_total", "counter", "Subscriptions ever inserted.", s->interest.inserts},
        {"interest_removes_total", "counter", "Subscriptions ever removed.", s->interest.removes},
        {"interest_matches_total", "counter", "Walks of the interest index.", s->interest.matches},
    };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        prometheus_family(out, prefix_own(), values[i].name, values[i].type, values[i].help);
        prometheus_u64(out, prefix_own(), values[i].name, NULL, 0, values[i].value);
    }
}

static enum err write_histograms(const struct page_input *in, struct text *out)
{
    struct histogram *merged = mem_alloc(in->mem, MEM_MONITOR, sizeof *merged);
    if (merged == NULL) return ERR_MEMORY;
    for (int kind = 0; kind < SHARD_HISTOGRAM_COUNT; kind++) {
        bool is_kept = false;
        histogram_init(merged);
        for (uint32_t k = 0; k < in->shard_count; k++) {
            const struct histogram *h = in->shards[k]->histograms[kind];
            if (h == NULL) continue;
            histogram_merge(merged, h);
            is_kept = true;
        }
        if (!is_kept) continue;
        prometheus_histogram(out, prefix_own(), histogram_rows[kind].name,
                             histogram_rows[kind].help, merged);
    }
    mem_free(in->mem, MEM_MONITOR, merged, sizeof *merged);
    return ERR_OK;
}

enum err metrics_own_write(const struct page_input *in, struct text *out)
{
    static const struct row parks = {"parks_total", "counter",
                                     "Times that receiving was suspended, by reason.",
                                     offsetof(struct shard_counts, parks), false};
    static const struct row memory = {"memory_bytes", "gauge", "Memory in use, by purpose.",
                                      offsetof(struct shard_counts, memory_bytes), false};
    write_server(in, out);
    write_rows(in, out);
    write_array(in, out, &parks, "reason", park_labels, PARK_REASON_COUNT);
    write_array(in, out, &memory, "class", memory_labels, MEM_CLASS_COUNT);
    if (metrics_js_write_own(in, out) != ERR_OK) return ERR_MEMORY;
    return write_histograms(in, out);
}
