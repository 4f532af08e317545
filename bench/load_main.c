/* The load generator: one workload against any NATS server, one JSON object as the answer.
 * Exit status: 0 the run is valid, 1 it is not (lost, doubled, wrong, timed out), 2 usage. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "bench/load_fill.h"
#include "bench/load_first.h"
#include "bench/load_flow.h"
#include "bench/load_jet.h"
#include "bench/load_kv.h"
#include "bench/load_latency.h"
#include "bench/load_opts.h"
#include "bench/load_probe.h"
#include "bench/load_report.h"
#include "bench/load_reqrep.h"
#include "bench/load_scale.h"
#include "bench/load_selftest.h"
#include "bench/load_storm.h"
#include "bench/load_take.h"
#include "core/base/must.h"

_Noreturn void must_fail(const char *file, int line, const char *condition)
{
    fprintf(stderr, "load: %s:%d: broken: %s\n", file, line, condition);
    abort();
}

static void run(const struct load_opts *opts, struct load_report *report)
{
    switch (opts->workload) {
    case LOAD_WORKLOAD_SUBS: load_scale_run_subs(opts, report); break;
    case LOAD_WORKLOAD_IDLE: load_scale_run_idle(opts, report); break;
    case LOAD_WORKLOAD_STORM: load_storm_run(opts, report); break;
    case LOAD_WORKLOAD_REQREP: load_reqrep_run(opts, report); break;
    case LOAD_WORKLOAD_JSPUB: load_jet_run(opts, report); break;
    case LOAD_WORKLOAD_JSFILL: load_fill_run(opts, report); break;
    case LOAD_WORKLOAD_JSTAKE: load_take_run(opts, report); break;
    case LOAD_WORKLOAD_JSFIRST: load_first_run(opts, report); break;
    case LOAD_WORKLOAD_KVPUT:
    case LOAD_WORKLOAD_KVGET: load_kv_run(opts, report); break;
    case LOAD_WORKLOAD_LATENCY: load_latency_run(opts, report); break;
    default: load_flow_run(opts, report); break;
    }
}

/* Who makes streams has to delete them: it looks for these signals itself. */
static void block_interrupts(const struct load_opts *opts)
{
    sigset_t set;
    if (opts->workload < LOAD_WORKLOAD_JSPUB || opts->workload > LOAD_WORKLOAD_KVGET) return;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
}

int main(int argc, char **argv)
{
    struct load_opts opts;
    struct load_report report;
    load_opts_parse(&opts, argc, argv);
    (void)load_probe_raise_files();
    /* A sleep for an open loop at 100,000/s must not be rounded up by the default 50 us. */
    (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    (void)signal(SIGPIPE, SIG_IGN);
    block_interrupts(&opts);
    if (opts.workload == LOAD_WORKLOAD_SELFTEST) return load_selftest_run();
    load_report_init(&report, &opts);
    run(&opts, &report);
    bool ok = load_report_print(&report);
    load_report_deinit(&report);
    return ok ? 0 : 1;
}
