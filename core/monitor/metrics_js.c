#include "core/monitor/metrics_js.h"
#include "core/base/must.h"
#include "core/monitor/prometheus.h"

enum {
    SERVER_LABELS = 6,
    ACCOUNT_LABELS = SERVER_LABELS + 3,
    STREAM_LABELS = ACCOUNT_LABELS + 4,
    CONSUMER_LABELS = STREAM_LABELS + 4,
};

struct metrics_js {
    struct text *out;
    const struct page_input *in;
    struct bytes prefix;
    struct prometheus_label
        labels[CONSUMER_LABELS]; /* those of the thing being written, filled from left */
    struct js_stream_list streams;
};

static void set_server(struct metrics_js *m, struct bytes server_id)
{
    const struct server_snapshot *s = m->in->server;
    const struct prometheus_label labels[SERVER_LABELS] = {
        {"cluster", s->cluster},
        {"domain", s->options->jetstream.domain},
        {"is_meta_leader", BYTES_LITERAL("true")},
        {"meta_leader", BYTES_LITERAL("")},
        {"server_id", server_id},
        {"server_name", s->name},
    };
    memcpy(m->labels, labels, sizeof labels);
}

static void set_account(struct metrics_js *m, const struct account *a)
{
    m->labels[SERVER_LABELS] = (struct prometheus_label){"account", a->name};
    m->labels[SERVER_LABELS + 1] = (struct prometheus_label){"account_id", a->name};
    m->labels[SERVER_LABELS + 2] = (struct prometheus_label){"account_name", a->name};
}

/* One server: it leads everything, and there is no group. */
static void set_stream(struct metrics_js *m, const struct js_stream_snapshot *s)
{
    struct prometheus_label *l = &m->labels[ACCOUNT_LABELS];
    l[0] = (struct prometheus_label){"stream_name", s->name};
    l[1] = (struct prometheus_label){"stream_leader", m->in->server->name};
    l[2] = (struct prometheus_label){"is_stream_leader", BYTES_LITERAL("true")};
    l[3] = (struct prometheus_label){"stream_raft_group", BYTES_LITERAL("")};
}

static void set_consumer(struct metrics_js *m, const struct js_consumer_snapshot *c)
{
    struct prometheus_label *l = &m->labels[STREAM_LABELS];
    l[0] = (struct prometheus_label){"consumer_name", c->name};
    l[1] = (struct prometheus_label){"consumer_leader", m->in->server->name};
    l[2] = (struct prometheus_label){"is_consumer_leader", BYTES_LITERAL("true")};
    l[3] = (struct prometheus_label){"consumer_desc", c->config.description};
}

static void sample(struct metrics_js *m, const char *name, size_t labels, double value)
{
    prometheus_float(m->out, m->prefix, name, m->labels, labels, value);
}

/* --- the server and its accounts ------------------------------------------------------------- */

static void write_server(struct metrics_js *m)
{
    struct js_counts c;
    const struct server_jetstream *j = &m->in->server->jetstream;
    js_snapshot_merge(m->in, UINT32_MAX, &c);
    const struct {
        const char *name, *help;
        uint64_t value;
    } rows[] = {
        {"server_jetstream_disabled", "JetStream disabled or not", !j->is_on},
        {"server_total_streams", "Total number of streams in JetStream", c.streams},
        {"server_total_consumers", "Total number of consumers in JetStream", c.consumers},
        {"server_total_messages", "Total number of stored messages in JetStream", c.messages},
        {"server_total_message_bytes", "Total number of bytes stored in JetStream",
         c.memory + c.storage},
        {"server_max_memory", "JetStream Max Memory", (uint64_t)j->memory_max},
        {"server_max_storage", "JetStream Max Storage", (uint64_t)j->storage_max},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        prometheus_family(m->out, m->prefix, rows[i].name, "gauge", rows[i].help);
        prometheus_u64(m->out, m->prefix, rows[i].name, m->labels, SERVER_LABELS, rows[i].value);
    }
}

enum account_row { ACCOUNT_MAX_MEMORY, ACCOUNT_MAX_STORAGE, ACCOUNT_STORAGE, ACCOUNT_MEMORY };

/* -1 is no limit. */
static double account_value(enum account_row row, const struct account *a,
                            const struct js_counts *c)
{
    switch (row) {
    case ACCOUNT_MAX_MEMORY: return (double)a->jetstream.max_memory;
    case ACCOUNT_MAX_STORAGE: return (double)a->jetstream.max_storage;
    case ACCOUNT_STORAGE: return (double)c->storage;
    case ACCOUNT_MEMORY: return (double)c->memory;
    }
    must(false);
    return 0;
}

static void write_accounts(struct metrics_js *m)
{
    static const char *const names[][2] = {
        [ACCOUNT_MAX_MEMORY] = {"account_max_memory", "JetStream Account Max Memory in bytes"},
        [ACCOUNT_MAX_STORAGE] = {"account_max_storage", "JetStream Account Max Storage in bytes"},
        [ACCOUNT_STORAGE] = {"account_storage_used",
                             "Total number of bytes used by JetStream storage"},
        [ACCOUNT_MEMORY] = {"account_memory_used",
                            "Total number of bytes used by JetStream memory"},
    };
    const struct account_set *set = m->in->server->options->accounts;
    if (js_snapshot_account_count(m->in->server) == 0) return;
    for (size_t row = 0; row < sizeof names / sizeof names[0]; row++) {
        prometheus_family(m->out, m->prefix, names[row][0], "gauge", names[row][1]);
        for (uint32_t i = 0; i < set->account_count; i++) {
            struct js_counts c;
            if (!js_snapshot_has_account(m->in->server, set->accounts[i])) continue;
            js_snapshot_merge(m->in, set->accounts[i]->number, &c);
            set_account(m, set->accounts[i]);
            sample(m, names[row][0], ACCOUNT_LABELS,
                   account_value((enum account_row)row, set->accounts[i], &c));
        }
    }
}

/* --- streams and consumers ------------------------------------------------------------------- */

struct stream_row {
    const char *name, *help;
    size_t offset; /* of a uint64_t in struct js_stream_snapshot */
};

static const struct stream_row stream_rows[] = {
#define ROW(name, help, field)                                                                     \
    {                                                                                              \
        name, help, offsetof(struct js_stream_snapshot, field)                                     \
    }
    ROW("stream_total_messages", "Total number of messages from a stream", messages),
    ROW("stream_total_bytes", "Total stored bytes from a stream", bytes),
    ROW("stream_first_seq", "First sequence from a stream", seq_first),
    ROW("stream_last_seq", "Last sequence from a stream", seq_last),
    ROW("stream_consumer_count", "Total number of consumers from a stream", consumer_count),
    ROW("stream_subject_count", "Total number of subjects in a stream", subjects),
    ROW("stream_limit_bytes", "The maximum configured storage limit (in bytes) for a stream",
        config.max_bytes),
    ROW("stream_limit_messages", "The maximum number of messages allowed in a stream",
        config.max_msgs),
#undef ROW
};

/* Sets the labels of the stream's account. False: the configuration knows it no more. */
static bool set_account_of(struct metrics_js *m, const struct js_stream_snapshot *s)
{
    const struct account *a = snapshot_account_by_number(m->in->server, s->account);
    if (a == NULL) return false;
    set_account(m, a);
    return true;
}

static void write_streams(struct metrics_js *m)
{
    for (size_t row = 0; row < sizeof stream_rows / sizeof stream_rows[0]; row++) {
        const struct stream_row *r = &stream_rows[row];
        prometheus_family(m->out, m->prefix, r->name, "gauge", r->help);
        for (uint32_t i = 0; i < m->streams.count; i++) {
            const struct js_stream_snapshot *s = m->streams.list[i];
            int64_t value;
            if (!set_account_of(m, s)) continue;
            set_stream(m, s);
            memcpy(&value, (const char *)s + r->offset, sizeof value);
            prometheus_sample(m->out, m->prefix, r->name, m->labels, STREAM_LABELS);
            text_i64(m->out, value);
            text_char(m->out, '\n');
        }
    }
}

enum consumer_row {
    CONSUMER_ROW_DELIVERED_CSEQ,
    CONSUMER_ROW_DELIVERED_SEQ,
    CONSUMER_ROW_LAST_DELIVERY,
    CONSUMER_ROW_LAST_ACK,
    CONSUMER_ROW_ACK_PENDING,
    CONSUMER_ROW_REDELIVERED,
    CONSUMER_ROW_WAITING,
    CONSUMER_ROW_PENDING,
    CONSUMER_ROW_FLOOR_SEQ,
    CONSUMER_ROW_FLOOR_CSEQ,
    CONSUMER_ROW_COUNT
};

static const char *const consumer_rows[CONSUMER_ROW_COUNT][2] = {
    [CONSUMER_ROW_DELIVERED_CSEQ] = {"consumer_delivered_consumer_seq",
                                     "Latest sequence number of a stream consumer"},
    [CONSUMER_ROW_DELIVERED_SEQ] = {"consumer_delivered_stream_seq",
                                    "Latest sequence number of a stream"},
    [CONSUMER_ROW_LAST_DELIVERY] = {"consumer_last_delivery_seconds",
                                    "Number of seconds since the last message was delivered"},
    [CONSUMER_ROW_LAST_ACK] = {"consumer_last_ack_seconds",
                               "Number of seconds since the last acknowledgement"},
    [CONSUMER_ROW_ACK_PENDING] = {"consumer_num_ack_pending", "Number of pending acks"},
    [CONSUMER_ROW_REDELIVERED] = {"consumer_num_redelivered", "Number of redelivered messages"},
    [CONSUMER_ROW_WAITING] = {"consumer_num_waiting", "Number of inflight fetch requests"},
    [CONSUMER_ROW_PENDING] = {"consumer_num_pending", "Number of pending messages"},
    [CONSUMER_ROW_FLOOR_SEQ] = {"consumer_ack_floor_stream_seq",
                                "Number of ack floor stream seq from a consumer"},
    [CONSUMER_ROW_FLOOR_CSEQ] = {"consumer_ack_floor_consumer_seq",
                                 "Number of ack floor consumer seq from a consumer"},
};

/* 0: never. */
static double seconds_since(int64_t now_ns, int64_t wall_ns)
{
    return wall_ns == 0 || wall_ns > now_ns ? 0 : (double)(now_ns - wall_ns) / 1e9;
}

static double consumer_value(enum consumer_row row, const struct js_consumer_snapshot *c,
                             int64_t now_ns)
{
    const uint64_t counts[CONSUMER_ROW_COUNT] = {
        [CONSUMER_ROW_DELIVERED_CSEQ] = c->delivered_cseq,
        [CONSUMER_ROW_DELIVERED_SEQ] = c->delivered_seq,
        [CONSUMER_ROW_ACK_PENDING] = c->ack_pending,
        [CONSUMER_ROW_REDELIVERED] = c->redelivered,
        [CONSUMER_ROW_WAITING] = c->waiting,
        [CONSUMER_ROW_PENDING] = c->pending,
        [CONSUMER_ROW_FLOOR_SEQ] = c->floor_seq,
        [CONSUMER_ROW_FLOOR_CSEQ] = c->floor_cseq,
    };
    if (row == CONSUMER_ROW_LAST_DELIVERY) return seconds_since(now_ns, c->last_delivered_ns);
    if (row == CONSUMER_ROW_LAST_ACK) return seconds_since(now_ns, c->last_ack_ns);
    return (double)counts[row];
}

/* One family over all consumers; row CONSUMER_ROW_COUNT is the lag. */
static void write_consumer_row(struct metrics_js *m, enum consumer_row row, const char *name)
{
    int64_t now_ns = m->in->server->now_ns;
    for (uint32_t i = 0; i < m->streams.count; i++) {
        const struct js_stream_snapshot *s = m->streams.list[i];
        if (!set_account_of(m, s)) continue;
        set_stream(m, s);
        for (const struct js_consumer_snapshot *c = s->consumers; c != NULL; c = c->next) {
            set_consumer(m, c);
            sample(m, name, CONSUMER_LABELS,
                   row == CONSUMER_ROW_COUNT ? seconds_since(now_ns, c->oldest_ns)
                                             : consumer_value(row, c, now_ns));
        }
    }
}

static bool has_consumers(const struct metrics_js *m)
{
    for (uint32_t i = 0; i < m->streams.count; i++)
        if (m->streams.list[i]->consumers != NULL) return true;
    return false;
}

static void write_consumers(struct metrics_js *m)
{
    for (int row = 0; row < CONSUMER_ROW_COUNT; row++) {
        const char *name = consumer_rows[row][0];
        prometheus_family(m->out, m->prefix, name, "gauge", consumer_rows[row][1]);
        write_consumer_row(m, (enum consumer_row)row, name);
    }
}

enum err metrics_js_write(const struct page_input *in, struct bytes prefix, struct bytes server_id,
                          struct text *out)
{
    struct metrics_js m = {.out = out, .in = in, .prefix = prefix};
    if (js_snapshot_streams(in, &m.streams) != ERR_OK) return ERR_MEMORY;
    set_server(&m, server_id);
    write_server(&m);
    write_accounts(&m);
    if (m.streams.count > 0) write_streams(&m);
    if (has_consumers(&m)) write_consumers(&m);
    js_snapshot_streams_free(in, &m.streams);
    return ERR_OK;
}

/* --- our own --------------------------------------------------------------------------------- */

static struct bytes prefix_own(void)
{
    return BYTES_LITERAL("millrace_jetstream");
}

static void write_value(struct text *out, const char *name, const char *type, const char *help,
                        double value)
{
    prometheus_family(out, prefix_own(), name, type, help);
    prometheus_float(out, prefix_own(), name, NULL, 0, value);
}

static void write_states(struct text *out, enum js_store_state state)
{
    static const char *const names[] = {
        [JS_STORE_OK] = "ok", [JS_STORE_FULL] = "full", [JS_STORE_READ_ONLY] = "read_only"};
    prometheus_family(out, prefix_own(), "store_state", "gauge",
                      "1 at the state that the store of the worst shard is in.");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct prometheus_label label = {"state", bytes_from_text(names[i])};
        prometheus_u64(out, prefix_own(), "store_state", &label, 1, i == (size_t)state);
    }
}

static void write_store(const struct page_input *in, struct text *out)
{
    struct js_store_counts s;
    struct js_counts c;
    js_snapshot_merge_store(in, &s);
    js_snapshot_merge(in, UINT32_MAX, &c);
    int64_t interval_ns = in->server->jetstream.sync_interval_ns;
    uint64_t streams_left_out = 0, consumers_left_out = 0;
    for (uint32_t i = 0; i < in->shard_count; i++) {
        const struct js_snapshot *shard = in->shards[i]->js;
        if (shard == NULL) continue;
        streams_left_out += shard->streams_left_out;
        consumers_left_out += shard->consumers_left_out;
    }
    write_value(out, "sync_always", "gauge",
                "1: messages are acknowledged once they are on disk; 0: once they outlive the "
                "process.",
                interval_ns == 0);
    write_value(out, "sync_interval_seconds", "gauge",
                "Longest time to the next flush; 0 where each group is durable.",
                (double)interval_ns / 1e9);
    write_value(out, "flushes_total", "counter", "Flushes of groups, with a sync_interval.",
                (double)s.flushes);
    write_states(out, s.state);
    write_value(out, "records_total", "counter", "Records appended to the log.", (double)s.records);
    write_value(out, "groups_total", "counter", "Groups of records written to the log.",
                (double)s.groups);
    write_value(out, "group_records_mean", "gauge", "Records of a group, on average.",
                s.groups == 0 ? 0 : (double)s.records / (double)s.groups);
    write_value(out, "published_bytes_total", "counter", "Bytes of the records appended.",
                (double)s.published_bytes);
    write_value(out, "written_bytes_total", "counter", "Bytes written to the disk.",
                (double)s.written_bytes);
    write_value(out, "written_bytes_per_byte", "gauge",
                "Bytes written to the disk for each byte appended.",
                s.published_bytes == 0 ? 0 : (double)s.written_bytes / (double)s.published_bytes);
    write_value(out, "write_failures_total", "counter", "Writes or flushes that failed.",
                (double)s.failures);
    write_value(out, "staged_ratio", "gauge",
                "How much of the room for records that are not durable yet is taken.",
                (double)s.staged_percent / 100);
    write_value(out, "recovery_seconds", "gauge", "Time that opening the store took.",
                (double)s.recovery_ns / 1e9);
    write_value(out, "damaged_ranges", "gauge",
                "Damaged ranges found in the store, at the start or since.",
                (double)s.damaged_ranges);
    write_value(out, "damaged_bytes", "gauge", "Their bytes.", (double)s.damaged_bytes);
    write_value(out, "lost_messages", "gauge", "Messages that were lost to damage.",
                (double)c.messages_lost);
    write_value(out, "left_out_streams", "gauge",
                "Streams that this page does not show one by one since they are too many.",
                (double)streams_left_out);
    write_value(out, "left_out_consumers", "gauge",
                "Consumers that this page does not show one by one since they are too many.",
                (double)consumers_left_out);
}

enum err metrics_js_write_own(const struct page_input *in, struct text *out)
{
    struct metrics_js m = {.out = out, .in = in, .prefix = prefix_own()};
    if (!in->server->jetstream.is_on) return ERR_OK;
    write_store(in, out);
    if (js_snapshot_streams(in, &m.streams) != ERR_OK) return ERR_MEMORY;
    set_server(&m, in->server->id);
    if (has_consumers(&m)) {
        prometheus_family(out, m.prefix, "consumer_lag_seconds", "gauge",
                          "Age of the first message that the consumer has not settled.");
        write_consumer_row(&m, CONSUMER_ROW_COUNT, "consumer_lag_seconds");
    }
    js_snapshot_streams_free(in, &m.streams);
    return ERR_OK;
}
