#include "bench/load_timed.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/must.h"

void load_timed_init(struct load_timed *t, const struct load_opts *opts, struct load_report *report)
{
    *t = (struct load_timed){.opts = opts, .report = report};
    t->hists = calloc(opts->threads, sizeof(t->hists[0]));
    report->latency = calloc(1, sizeof(*report->latency));
    must(t->hists && report->latency);
    load_loop_init(&t->loop, opts->threads);
    t->loop.spin = opts->spin;
}

void load_timed_deinit(struct load_timed *t)
{
    load_loop_deinit(&t->loop);
    free(t->hists);
}

struct load_worker *load_timed_worker(const struct load_timed *t, uint32_t index)
{
    return &t->loop.workers[index % t->loop.worker_count];
}

bool load_timed_connect(struct load_timed *t, struct load_worker *worker, struct load_conn *conn,
                        const char *filter, load_conn_message_fn on_message, void *owner)
{
    if (load_conn_open(conn, t->opts, NULL) != ERR_OK) {
        load_report_fail(t->report, conn->error);
        return false;
    }
    conn->on_message = on_message;
    conn->owner = owner;
    load_conn_putf(conn, "SUB %s 1\r\n", filter);
    if (load_conn_flush_wait(conn, t->opts->timeout_ns) != ERR_OK) {
        load_report_fail(t->report, conn->error);
        return false;
    }
    load_report_take_server(t->report, conn);
    load_loop_add(&t->loop, worker->index, conn);
    return true;
}

static bool run_phase(struct load_timed *t, load_timed_begin_fn begin, uint64_t run_ns,
                      uint64_t msgs)
{
    const struct load_opts *o = t->opts;
    struct load_phase phase = {.run_ns = run_ns, .idle_ns = o->timeout_ns};
    uint64_t per_client = UINT64_MAX;
    if (msgs > 0) {
        per_client = msgs > o->pubs ? msgs / o->pubs : 1;
        phase.msgs = per_client; /* only says that no clock ends the phase */
    }
    begin(t->loop.owner, per_client);
    memset(t->hists, 0, sizeof(t->hists[0]) * o->threads);
    return load_loop_run(&t->loop, &phase);
}

void load_timed_run(struct load_timed *t, load_timed_begin_fn begin)
{
    const struct load_opts *o = t->opts;
    struct load_report *report = t->report;
    bool ok = o->warmup_ns == 0 || run_phase(t, begin, o->warmup_ns, 0);
    if (ok && !load_probe_take(&report->before, o->server_pid, true)) {
        load_report_fail(report, "no process with that --server-pid");
        return;
    }
    ok = ok && run_phase(t, begin, o->duration_ns, o->msgs);
    (void)load_probe_take(&report->after, o->server_pid, false);
    load_report_take_phase(report, &t->loop);
    if (!ok) {
        const char *error = load_loop_error(&t->loop);
        load_report_fail(report, error ? error : "timed out");
    }
    for (uint32_t i = 0; i < o->threads; i++) load_hist_merge(report->latency, &t->hists[i]);
    report->operations = report->latency->count;
}
