#include "bench/load_timed.h"

#include <string.h>

static bool run_phase(const struct load_timed *t, uint64_t run_ns, uint64_t msgs)
{
    const struct load_opts *o = t->opts;
    struct load_phase phase = {.run_ns = run_ns, .idle_ns = o->timeout_ns};
    uint64_t per_client = UINT64_MAX;
    if (msgs > 0) {
        per_client = msgs > o->pubs ? msgs / o->pubs : 1;
        phase.msgs = per_client; /* only says that no clock ends the phase */
    }
    t->begin(t->run, per_client);
    memset(t->hists, 0, sizeof(t->hists[0]) * o->threads);
    return load_loop_run(t->loop, &phase);
}

void load_timed_run(const struct load_timed *t)
{
    const struct load_opts *o = t->opts;
    struct load_report *report = t->report;
    bool ok = o->warmup_ns == 0 || run_phase(t, o->warmup_ns, 0);
    if (ok && !load_probe_take(&report->before, o->server_pid, true)) {
        load_report_fail(report, "no process with that --server-pid");
        return;
    }
    ok = ok && run_phase(t, o->duration_ns, o->msgs);
    (void)load_probe_take(&report->after, o->server_pid, false);
    load_report_take_phase(report, t->loop);
    if (!ok) {
        const char *error = load_loop_error(t->loop);
        load_report_fail(report, error ? error : "timed out");
    }
    for (uint32_t i = 0; i < o->threads; i++) load_hist_merge(report->latency, &t->hists[i]);
    report->operations = report->latency->count;
}
