#include "bench/load_latency.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load_conn.h"
#include "bench/load_loop.h"
#include "core/base/must.h"

enum {
    BATCH_MAX = 512, /* messages that one turn may add, so that reading goes on */
    BACKLOG_BYTES_MAX = 4 * 1024 * 1024, /* unsent bytes at which the sender waits for the socket */
    DRAIN_MAX_NS = 2000 * 1000 * 1000,
    DRAIN_SILENCE_MS = 200,
};

/* One open-loop source. */
struct source {
    struct load_conn conn;
    char head[64]; /* "PUB subject size\r\n" */
    uint32_t head_bytes;
    uint64_t sent; /* in this phase */
    uint64_t behind_max_ns;
};

struct latency {
    const struct load_opts *opts;
    struct load_report *report;
    struct load_loop loop;
    struct source measured;
    struct source other; /* fills the subject of the stalled reader */
    struct load_conn sub;
    struct load_conn stalled;
    uint64_t begin_ns;  /* of this phase */
    uint64_t next_seq;  /* the subscriber's; over all phases */
    uint64_t first_seq; /* of this phase at the sender */
    struct load_hist *hist;
    uint8_t *frame;
};

static void on_message(struct load_conn *conn, const struct load_message *m)
{
    struct latency *run = conn->owner;
    uint64_t due = 0;
    uint64_t seq = 0;
    if (m->payload_bytes != run->opts->size) {
        conn->errors++;
        load_conn_fail(conn, "length differs");
        return;
    }
    memcpy(&due, m->payload, 8);
    memcpy(&seq, m->payload + 8, 8);
    if (seq != run->next_seq) conn->errors++;
    run->next_seq = seq + 1;
    load_hist_record(run->hist, m->now_ns > due ? m->now_ns - due : 0);
}

static uint64_t due_time(const struct latency *run, uint64_t number)
{
    return run->begin_ns + (uint64_t)((__uint128_t)number * 1000000000u / run->opts->rate);
}

/* Adds what is due at a source. A source that does not get rid of its bytes goes on owing them:
 * their due times stay what they were. */
static void feed(struct latency *run, struct source *source, uint64_t now, uint64_t total)
{
    const struct load_opts *o = run->opts;
    uint8_t *payload = run->frame;
    uint64_t due = due_time(run, source->sent);
    for (uint32_t i = 0; i < BATCH_MAX && source->sent < total && due <= now; i++) {
        if (source->conn.out.end - source->conn.out.begin > BACKLOG_BYTES_MAX) break;
        uint64_t seq = run->first_seq + source->sent;
        if (now - due > source->behind_max_ns) source->behind_max_ns = now - due;
        memcpy(payload, &due, 8);
        memcpy(payload + 8, &seq, 8);
        load_conn_put(&source->conn, source->head, source->head_bytes);
        load_conn_put(&source->conn, payload, (size_t)o->size + 2);
        source->sent++;
        due = due_time(run, source->sent);
    }
}

static uint64_t tick(struct load_worker *worker, uint64_t now)
{
    struct latency *run = worker->loop->owner;
    if (worker->index != 0) return UINT64_MAX;
    const uint64_t end = worker->loop->phase.end_ns;
    uint64_t total = (uint64_t)((__uint128_t)(end - run->begin_ns) * run->opts->rate / 1000000000u);
    feed(run, &run->measured, now, total);
    load_conn_write(&run->measured.conn);
    load_loop_arm(worker, &run->measured.conn);
    if (run->opts->stalled == LOAD_STALLED_OTHER) {
        feed(run, &run->other, now, total);
        load_conn_write(&run->other.conn);
        load_loop_arm(worker, &run->other.conn);
    }
    worker->expected_extra = run->measured.sent;
    worker->busy_extra = run->measured.sent < total ? 1 : 0;
    return worker->busy_extra ? due_time(run, run->measured.sent) : UINT64_MAX;
}

static const char *stalled_subject(const struct load_opts *o)
{
    return o->stalled == LOAD_STALLED_SAME ? "load.lat" : "load.stalled";
}

static bool open_source(struct latency *run, struct source *source, const char *subject)
{
    int length =
        snprintf(source->head, sizeof(source->head), "PUB %s %u\r\n", subject, run->opts->size);
    must(length > 0 && (size_t)length < sizeof(source->head));
    source->head_bytes = (uint32_t)length;
    if (load_conn_open(&source->conn, run->opts, NULL) == ERR_OK) {
        load_loop_add(&run->loop, 0, &source->conn);
        return true;
    }
    load_report_fail(run->report, source->conn.error);
    return false;
}

static bool open_reader(struct latency *run, struct load_conn *conn, const char *subject)
{
    bool ok = load_conn_open(conn, run->opts, NULL) == ERR_OK;
    if (ok) {
        load_conn_putf(conn, "SUB %s 1\r\n", subject);
        ok = load_conn_flush_wait(conn, run->opts->timeout_ns) == ERR_OK;
    }
    if (!ok) load_report_fail(run->report, conn->error);
    return ok;
}

static bool open_all(struct latency *run)
{
    const struct load_opts *o = run->opts;
    if (!open_reader(run, &run->sub, "load.lat")) return false;
    run->sub.on_message = on_message;
    run->sub.owner = run;
    load_loop_add(&run->loop, run->loop.worker_count - 1, &run->sub);
    if (!open_source(run, &run->measured, "load.lat")) return false;
    if (o->stalled == LOAD_STALLED_NONE) return true;

    bool is_same = o->stalled == LOAD_STALLED_SAME;
    if (!open_reader(run, &run->stalled, stalled_subject(o))) return false;
    return is_same || open_source(run, &run->other, "load.stalled");
}

static bool run_phase(struct latency *run, uint64_t run_ns)
{
    struct load_phase phase = {.run_ns = run_ns, .idle_ns = run->opts->timeout_ns};
    memset(run->hist, 0, sizeof(*run->hist));
    run->first_seq += run->measured.sent;
    run->measured.sent = run->other.sent = 0;
    run->measured.behind_max_ns = 0;
    run->begin_ns = load_probe_now_ns();
    return load_loop_run(&run->loop, &phase);
}

/* The server may cut off the reader that never reads; then it was stalled only for a part. The end
 * of the connection stands behind all that is buffered, so that has to be read first. */
static bool is_cut_off(struct latency *run)
{
    struct load_conn *conn = &run->stalled;
    uint64_t end_ns = load_probe_now_ns() + DRAIN_MAX_NS;
    conn->stride_bytes = load_tape_stride(strlen(stalled_subject(run->opts)), 1, run->opts->size);
    while (!conn->failed && load_probe_now_ns() < end_ns) {
        struct pollfd poll_fd = {.fd = conn->fd, .events = POLLIN};
        if (poll(&poll_fd, 1, DRAIN_SILENCE_MS) == 0) break;
        load_conn_read(conn, run->loop.workers[0].buffer);
    }
    return conn->failed;
}

static void measure(struct latency *run)
{
    const struct load_opts *o = run->opts;
    struct load_report *report = run->report;
    uint64_t run_ns = o->msgs ? o->msgs * UINT64_C(1000000000) / o->rate : o->duration_ns;
    bool ok = o->warmup_ns == 0 || run_phase(run, o->warmup_ns);
    if (ok && !load_probe_take(&report->before, o->server_pid, true)) {
        load_report_fail(report, "no process with that --server-pid");
        return;
    }
    ok = ok && run_phase(run, run_ns);
    (void)load_probe_take(&report->after, o->server_pid, false);
    load_report_take_phase(report, &run->loop);
    if (!ok) {
        const char *error = load_loop_error(&run->loop);
        load_report_fail(report, error ? error : "timed out");
    }
    report->published = run->measured.sent;
    report->operations = run->hist->count;
    report->verify_errors = run->sub.errors;
    load_report_add(report, "rate", (double)o->rate);
    load_report_add(report, "sender_behind_max_us", (double)run->measured.behind_max_ns / 1e3);
    if (o->stalled == LOAD_STALLED_NONE) return;
    load_report_add(report, "stalled_cut_off", is_cut_off(run));
    if (o->stalled == LOAD_STALLED_OTHER) {
        load_report_add(report, "stalled_published", (double)run->other.sent);
    }
}

void load_latency_run(const struct load_opts *o, struct load_report *report)
{
    struct latency run = {.opts = o,
                          .report = report,
                          .measured.conn.fd = -1,
                          .other.conn.fd = -1,
                          .sub.fd = -1,
                          .stalled.fd = -1};
    run.frame = malloc((size_t)o->size + 2);
    run.hist = report->latency = calloc(1, sizeof(*report->latency));
    must(run.frame && run.hist);
    memset(run.frame, 'x', o->size);
    memcpy(run.frame + o->size, "\r\n", 2);
    load_loop_init(&run.loop, o->threads);
    run.loop.tick = tick;
    run.loop.owner = &run;
    run.loop.spin = o->spin;
    if (open_all(&run)) {
        load_report_take_server(report, &run.sub);
        measure(&run);
    }
    load_conn_close(&run.sub);
    load_conn_close(&run.stalled);
    load_conn_close(&run.measured.conn);
    load_conn_close(&run.other.conn);
    load_loop_deinit(&run.loop);
    free(run.frame);
}
