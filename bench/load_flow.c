#include "bench/load_flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/must.h"

/* Undelivered to all subscribers together: what waits for a thousand of them must drain in a part
 * of the time that is measured. */
static const uint64_t WINDOW_BYTES_MAX = UINT64_C(256) << 20;

enum {
    SUBJECT_MAX = 64,
    CHURN_BATCH = 128,    /* SUBs, and as many UNSUBs of the batch before */
    CHURN_SID = 10000000, /* above the sids of the traffic, of one width */
};

/* --- subjects of each workload -------------------------------------------------------------- */

struct naming {
    enum load_workload workload;
    uint32_t owner; /* number of the pair */
    uint32_t subjects;
    uint32_t parts; /* wildcard subscribers that share the subjects */
};

/* A walk over [0, count) in a mixed order: a step that shares no factor with count. */
static uint64_t mixed(uint64_t index, uint64_t count)
{
    uint64_t step = count * 61 / 100 | 1;
    for (;; step += 2) {
        uint64_t a = step;
        uint64_t b = count;
        while (b) {
            uint64_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1) return index * step % count;
    }
}

static size_t name_subject(char *into, uint64_t index, void *context)
{
    const struct naming *n = context;
    int length;
    if (n->workload == LOAD_WORKLOAD_PAIRS) {
        length = snprintf(into, SUBJECT_MAX, "load.pair.%06u", n->owner);
    } else if (n->workload == LOAD_WORKLOAD_SUBJECTS) {
        uint64_t i = mixed(index % n->subjects, n->subjects);
        length = snprintf(into, SUBJECT_MAX, "load.w.%03u.%08u", (unsigned)(i % n->parts),
                          (unsigned)(i / n->parts));
    } else {
        length = snprintf(into, SUBJECT_MAX, "load.%.8s", load_opts_workload_name(n->workload));
    }
    must(length > 0 && length < SUBJECT_MAX);
    return (size_t)length;
}

static uint32_t pub_fan(const struct load_opts *o)
{
    switch (o->workload) {
    case LOAD_WORKLOAD_PUB: return 0;
    case LOAD_WORKLOAD_PUBSUB: return o->subs * o->fanout;
    case LOAD_WORKLOAD_CHURN: return o->subs;
    case LOAD_WORKLOAD_QUEUE: return o->groups;
    default: return 1;
    }
}

static uint32_t count_subs(const struct load_opts *o)
{
    switch (o->workload) {
    case LOAD_WORKLOAD_PUB: return 0;
    case LOAD_WORKLOAD_PAIRS: return o->pubs;
    case LOAD_WORKLOAD_QUEUE: return o->subs * o->groups;
    default: return o->subs;
    }
}

/* --- subscribers ---------------------------------------------------------------------------- */

/* Sids of one connection all have the same width, or the stride would not be constant. */
static uint64_t first_sid(uint32_t count)
{
    uint64_t sid = 1;
    while (sid + count > sid * 10) sid *= 10;
    return sid;
}

static void subscribe(struct load_flow *flow, uint32_t index)
{
    const struct load_opts *o = flow->opts;
    struct load_conn *conn = &flow->subs[index];
    uint32_t sid_count = o->workload == LOAD_WORKLOAD_PUBSUB ? o->fanout : 1;
    uint64_t sid = first_sid(sid_count);
    struct naming naming = {.workload = o->workload, .owner = index, .subjects = 1, .parts = 1};
    char subject[SUBJECT_MAX];
    char filter[SUBJECT_MAX];
    size_t length = name_subject(subject, 0, &naming);
    snprintf(filter, sizeof(filter), "%.*s", (int)length, subject);
    if (o->workload == LOAD_WORKLOAD_SUBJECTS) {
        snprintf(filter, sizeof(filter), "load.w.%03u.*", index);
    }
    for (uint32_t i = 0; i < sid_count; i++) {
        if (o->workload == LOAD_WORKLOAD_QUEUE) {
            load_conn_putf(conn, "SUB %s g%03u %llu\r\n", filter, index / o->subs,
                           (unsigned long long)sid);
        } else {
            load_conn_putf(conn, "SUB %s %llu\r\n", filter, (unsigned long long)(sid + i));
        }
    }
    size_t sid_bytes = (size_t)snprintf(NULL, 0, "%llu", (unsigned long long)sid);
    conn->stride_bytes = load_tape_stride(length, sid_bytes, o->size);
}

static void verify_subscriber(struct load_flow *flow, uint32_t index)
{
    const struct load_opts *o = flow->opts;
    struct load_verify *verify = &flow->verifies[index];
    bool is_pairs = o->workload == LOAD_WORKLOAD_PAIRS;
    uint32_t sid_count = o->workload == LOAD_WORKLOAD_PUBSUB ? o->fanout : 1;
    *verify = (struct load_verify){
        .tapes = flow->tapes,
        .sid_first = first_sid(sid_count),
        .sid_count = sid_count,
        .publisher_first = is_pairs ? index : 0,
        .publisher_count = is_pairs ? 1 : flow->pub_count,
        .is_dense = o->workload != LOAD_WORKLOAD_QUEUE && o->workload != LOAD_WORKLOAD_SUBJECTS,
        .subject_has = "load.",
    };
    load_verify_init(verify);
    flow->subs[index].on_message = load_verify_message;
    flow->subs[index].owner = verify;
}

static bool open_subscribers(struct load_flow *flow, struct load_report *report)
{
    const struct load_opts *o = flow->opts;
    for (uint32_t i = 0; i < flow->sub_count; i++) {
        struct load_conn *conn = &flow->subs[i];
        if (load_conn_open(conn, o, NULL) != ERR_OK) {
            load_report_fail(report, conn->error);
            return false;
        }
        subscribe(flow, i);
        if (o->verify) verify_subscriber(flow, i);
        if (load_conn_flush_wait(conn, o->timeout_ns) != ERR_OK) {
            load_report_fail(report, conn->error);
            return false;
        }
        /* From the last worker down: with two threads, publishers and subscribers are apart. */
        load_loop_add(&flow->loop, flow->loop.worker_count - 1 - i % flow->loop.worker_count, conn);
    }
    return true;
}

/* --- publishers ----------------------------------------------------------------------------- */

static void build_tapes(struct load_flow *flow)
{
    const struct load_opts *o = flow->opts;
    bool is_subjects = o->workload == LOAD_WORKLOAD_SUBJECTS;
    flow->tape_count = o->verify || o->workload == LOAD_WORKLOAD_PAIRS ? flow->pub_count : 1;
    flow->tapes = calloc(flow->tape_count, sizeof(flow->tapes[0]));
    must(flow->tapes != NULL);
    for (uint32_t i = 0; i < flow->tape_count; i++) {
        struct naming naming = {.workload = o->workload,
                                .owner = i,
                                .subjects = o->subjects,
                                .parts = o->workload == LOAD_WORKLOAD_SUBJECTS ? o->subs : 1};
        load_tape_build(&flow->tapes[i], is_subjects ? o->subjects : 1, o->size, name_subject,
                        &naming);
        if (o->verify) load_tape_stamp(&flow->tapes[i], i, 0);
    }
}

static bool open_publishers(struct load_flow *flow, struct load_report *report)
{
    const struct load_opts *o = flow->opts;
    for (uint32_t i = 0; i < flow->pub_count; i++) {
        struct load_conn *conn = &flow->pub_conns[i];
        if (load_conn_open(conn, o, NULL) != ERR_OK) {
            load_report_fail(report, conn->error);
            return false;
        }
        flow->pubs[i] = (struct load_pub){
            .tape = &flow->tapes[flow->tape_count > 1 ? i : 0],
            .publisher = i,
            .fan = pub_fan(o),
            .stamps = o->verify,
        };
        conn->pub = &flow->pubs[i];
        load_loop_add(&flow->loop, i, conn);
    }
    load_report_take_server(report, &flow->pub_conns[0]);
    return true;
}

/* --- churn ---------------------------------------------------------------------------------- */

static void churn_subject(const struct load_flow *flow, char *into, uint64_t number)
{
    const char *first = flow->opts->churn_same ? "load" : "_INBOX";
    snprintf(into, SUBJECT_MAX, "%s.churn.%012llu", first, (unsigned long long)number);
}

/* One batch at a time: the next follows the PONG of the one before, not faster than asked for. */
static uint64_t churn_tick(struct load_worker *worker, uint64_t now)
{
    struct load_flow *flow = worker->loop->owner;
    struct load_conn *conn = flow->churner;
    const uint64_t rate = flow->opts->churn_rate;
    if (worker->index != 0) return UINT64_MAX;
    bool is_waiting = conn->pongs < flow->churn_pongs;
    worker->busy_extra = is_waiting ? 1 : 0;
    if (is_waiting || !load_loop_is_publishing(worker)) return UINT64_MAX;
    if (now < flow->churn_due_ns) return flow->churn_due_ns;

    char subject[SUBJECT_MAX];
    for (uint32_t i = 0; i < CHURN_BATCH; i++) {
        uint64_t number = flow->churn_next++;
        churn_subject(flow, subject, number);
        load_conn_putf(conn, "SUB %s %llu\r\n", subject, (unsigned long long)(CHURN_SID + number));
        if (number < CHURN_BATCH) continue;
        load_conn_putf(conn, "UNSUB %llu\r\n",
                       (unsigned long long)(CHURN_SID + number - CHURN_BATCH));
    }
    load_conn_putf(conn, "PING\r\n");
    flow->churn_pongs = conn->pongs + 1;
    flow->churn_done += 2 * CHURN_BATCH;
    if (rate > 0) flow->churn_due_ns = now + 2 * CHURN_BATCH * UINT64_C(1000000000) / rate;
    worker->busy_extra = 1;
    load_conn_write(conn);
    load_loop_arm(worker, conn);
    return UINT64_MAX;
}

static bool open_churner(struct load_flow *flow, struct load_report *report)
{
    if (flow->opts->workload != LOAD_WORKLOAD_CHURN) return true;
    flow->churner = &flow->subs[flow->sub_count];
    if (load_conn_open(flow->churner, flow->opts, NULL) != ERR_OK) {
        load_report_fail(report, flow->churner->error);
        return false;
    }
    load_loop_add(&flow->loop, 0, flow->churner);
    flow->loop.tick = churn_tick;
    flow->loop.owner = flow;
    return true;
}

/* --- measuring ------------------------------------------------------------------------------ */

uint64_t load_flow_window(const struct load_opts *o, uint32_t sub_count)
{
    if (o->window_bytes == 0 || sub_count == 0) return UINT64_MAX;
    uint64_t bytes = o->window_bytes * sub_count;
    if (bytes > WINDOW_BYTES_MAX) bytes = WINDOW_BYTES_MAX;
    uint64_t window = bytes / ((uint64_t)o->size + 64);
    return window > 0 ? window : 1;
}

bool load_flow_measure(struct load_loop *loop, const struct load_opts *o, uint32_t pub_count,
                       struct load_report *report)
{
    struct load_phase phase = {.run_ns = o->warmup_ns, .idle_ns = o->timeout_ns};
    bool ok = o->warmup_ns == 0 || load_loop_run(loop, &phase);
    if (ok) {
        phase.run_ns = o->duration_ns;
        if (o->msgs) phase.msgs = o->msgs > pub_count ? o->msgs / pub_count : 1;
        if (!load_probe_take(&report->before, o->server_pid, true)) {
            load_report_fail(report, "no process with that --server-pid");
            return false;
        }
        ok = load_loop_run(loop, &phase);
        (void)load_probe_take(&report->after, o->server_pid, false);
    }
    load_report_take_phase(report, loop);
    if (!ok) {
        const char *error = load_loop_error(loop);
        load_report_fail(report, error ? error : "timed out");
    }
    return ok;
}

/* What arrives behind a PONG that follows the last delivery was never owed. */
static void look_for_excess(struct load_flow *flow, struct load_report *report)
{
    for (uint32_t i = 0; i < flow->sub_count; i++) {
        struct load_conn *conn = &flow->subs[i];
        uint64_t before = conn->messages;
        if (load_conn_flush_wait(conn, flow->opts->timeout_ns) != ERR_OK) {
            load_report_fail(report, conn->error);
        }
        report->excess += conn->messages - before;
    }
    report->excess += report->delivered - report->expected;
}

/* The members of a group together must have had each message once. */
static void verify_groups(struct load_flow *flow, struct load_report *report)
{
    const struct load_opts *o = flow->opts;
    uint64_t wanted = 0;
    for (uint32_t p = 0; p < flow->pub_count; p++) {
        uint64_t sent = load_tape_sent(&flow->pubs[p]);
        for (uint64_t seq = 0; seq < sent; seq++) wanted += load_verify_mix(p, seq);
    }
    for (uint32_t group = 0; group < o->groups; group++) {
        uint64_t sum = 0;
        for (uint32_t i = 0; i < o->subs; i++) sum += flow->verifies[group * o->subs + i].sum;
        if (sum == wanted) continue;
        report->verify_errors++;
        load_report_fail(report, "a queue group lost one message and had another twice");
    }
}

/* How far the busiest and the idlest member are from the mean of their group, in percent. */
static void report_spread(const struct load_flow *flow, struct load_report *report)
{
    const struct load_opts *o = flow->opts;
    double worst = 0;
    for (uint32_t group = 0; group < o->groups; group++) {
        double total = 0;
        for (uint32_t i = 0; i < o->subs; i++) {
            total += (double)flow->subs[group * o->subs + i].messages;
        }
        double mean = total / o->subs;
        for (uint32_t i = 0; i < o->subs && mean > 0; i++) {
            double off = (double)flow->subs[group * o->subs + i].messages / mean - 1;
            if (off < 0) off = -off;
            if (off > worst) worst = off;
        }
    }
    load_report_add(report, "spread_percent", worst * 100);
}

static void finish(struct load_flow *flow, struct load_report *report)
{
    const struct load_opts *o = flow->opts;
    report->operations = pub_fan(o) > 0 ? report->delivered : report->published;
    if (pub_fan(o) == 0) report->unit = "publish";
    look_for_excess(flow, report);
    for (uint32_t i = 0; i < flow->sub_count; i++) {
        report->verify_errors += flow->subs[i].errors;
        if (flow->subs[i].errors > 0) load_report_fail(report, flow->subs[i].error);
    }
    if (o->workload == LOAD_WORKLOAD_QUEUE) {
        report_spread(flow, report);
        if (o->verify) verify_groups(flow, report);
    }
    if (o->workload == LOAD_WORKLOAD_SUBJECTS) load_report_add(report, "subjects", o->subjects);
}

static void close_all(struct load_flow *flow)
{
    for (uint32_t i = 0; i < flow->sub_count + 1; i++) load_conn_close(&flow->subs[i]);
    for (uint32_t i = 0; i < flow->pub_count; i++) load_conn_close(&flow->pub_conns[i]);
    for (uint32_t i = 0; i < flow->tape_count; i++) load_tape_free(&flow->tapes[i]);
    for (uint32_t i = 0; i < flow->sub_count; i++) load_verify_deinit(&flow->verifies[i]);
    load_loop_deinit(&flow->loop);
    free(flow->subs);
    free(flow->pub_conns);
    free(flow->pubs);
    free(flow->tapes);
    free(flow->verifies);
}

void load_flow_run(const struct load_opts *opts, struct load_report *report)
{
    struct load_flow flow = {.opts = opts, .sub_count = count_subs(opts), .pub_count = opts->pubs};
    flow.subs = calloc(flow.sub_count + 1, sizeof(flow.subs[0]));
    flow.pub_conns = calloc(flow.pub_count, sizeof(flow.pub_conns[0]));
    flow.pubs = calloc(flow.pub_count, sizeof(flow.pubs[0]));
    flow.verifies = calloc(flow.sub_count + 1, sizeof(flow.verifies[0]));
    must(flow.subs && flow.pub_conns && flow.pubs && flow.verifies);
    for (uint32_t i = 0; i <= flow.sub_count; i++) flow.subs[i].fd = -1;
    for (uint32_t i = 0; i < flow.pub_count; i++) flow.pub_conns[i].fd = -1;
    load_loop_init(&flow.loop, opts->threads);
    flow.loop.spin = opts->spin;
    build_tapes(&flow);
    flow.loop.window = load_flow_window(opts, flow.sub_count);
    bool ready = open_subscribers(&flow, report) && open_publishers(&flow, report) &&
                 open_churner(&flow, report);
    if (ready) {
        uint64_t churned = flow.churn_done;
        if (load_flow_measure(&flow.loop, opts, flow.pub_count, report)) finish(&flow, report);
        if (flow.churner)
            load_report_add(report, "churn_operations", (double)(flow.churn_done - churned));
    }
    close_all(&flow);
}
