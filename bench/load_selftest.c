#include "bench/load_selftest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load_fake.h"
#include "bench/load_flow.h"
#include "bench/load_hist.h"
#include "bench/load_latency.h"
#include "bench/load_report.h"
#include "bench/load_reqrep.h"
#include "core/base/must.h"

static const char *const break_names[LOAD_FAKE_BREAK_COUNT] = {
    [LOAD_FAKE_HONEST] = "honest",         [LOAD_FAKE_DROP] = "drop one",
    [LOAD_FAKE_TWICE] = "one twice",       [LOAD_FAKE_SWAP] = "swap two",
    [LOAD_FAKE_CONTENT] = "flip a bit",    [LOAD_FAKE_SID] = "wrong sid",
    [LOAD_FAKE_SUBJECT] = "wrong subject", [LOAD_FAKE_DROP_AND_COPY] = "drop one, copy one",
    [LOAD_FAKE_HANG_UP] = "hang up",
};

static struct load_opts small_run(enum load_workload workload, bool verify)
{
    return (struct load_opts){
        .workload = workload,
        .host = "127.0.0.1",
        .msgs = 6000,
        .timeout_ns = 400 * 1000 * 1000,
        .rate = 5000,
        .size = 40,
        .pubs = 2,
        .subs = 3,
        .fanout = 2,
        .groups = 2,
        .subjects = 500,
        .conns = 4,
        .threads = 1,
        .verify = verify,
        .quiet = true,
    };
}

/* The report as load_report_print judges it, without printing. */
static bool is_valid(const struct load_report *r)
{
    return r->error[0] == '\0' && r->delivered >= r->expected && r->excess == 0 &&
           r->verify_errors == 0 && r->operations > 0;
}

static int check(const char *what, const struct load_opts *opts, enum load_fake_break breakage,
                 void (*run)(const struct load_opts *, struct load_report *))
{
    struct load_fake *fake = malloc(sizeof(*fake));
    struct load_report report;
    struct load_opts with_port = *opts;
    must(fake != NULL);
    /* Patience with an honest server on a busy machine; a broken one is only waited for. */
    if (breakage == LOAD_FAKE_HONEST) with_port.timeout_ns = UINT64_C(10000000000);
    load_fake_start(fake, breakage);
    snprintf(with_port.port, sizeof(with_port.port), "%s", fake->port);
    load_report_init(&report, &with_port);
    run(&with_port, &report);
    load_fake_stop(fake);
    bool is_right = is_valid(&report) == (breakage == LOAD_FAKE_HONEST);
    if (breakage == LOAD_FAKE_HONEST && fake->pongs == 0) is_right = false;
    fprintf(stderr, "selftest: %-8s threads %u %-18s %s%s%s\n", what, opts->threads,
            break_names[breakage], is_right ? "as expected" : "NOT AS EXPECTED",
            report.error[0] ? ": " : "", report.error);
    load_report_deinit(&report);
    free(fake);
    return is_right ? 0 : 1;
}

static int check_hist(void)
{
    struct load_hist *hist = calloc(1, sizeof(*hist));
    must(hist != NULL);
    for (uint64_t i = 1; i <= 100000; i++) load_hist_record(hist, i * 10);
    load_hist_record(hist, UINT64_MAX);
    uint64_t median = load_hist_quantile(hist, 0.5);
    uint64_t high = load_hist_quantile(hist, 0.99);
    bool is_right = median >= 500000 && median < 505000 && high >= 990000 && high < 1000000 &&
                    load_hist_quantile(hist, 1) == UINT64_MAX;
    free(hist);
    if (!is_right)
        fprintf(stderr, "selftest: histogram wrong: %llu %llu\n", (unsigned long long)median,
                (unsigned long long)high);
    return is_right ? 0 : 1;
}

int load_selftest_run(void)
{
    static const enum load_workload flows[] = {LOAD_WORKLOAD_PUB,      LOAD_WORKLOAD_PUBSUB,
                                               LOAD_WORKLOAD_PAIRS,    LOAD_WORKLOAD_QUEUE,
                                               LOAD_WORKLOAD_SUBJECTS, LOAD_WORKLOAD_CHURN};
    int wrong = check_hist();
    for (uint32_t threads = 1; threads <= 2; threads++) {
        for (size_t i = 0; i < sizeof(flows) / sizeof(flows[0]); i++) {
            struct load_opts opts = small_run(flows[i], flows[i] != LOAD_WORKLOAD_PUB);
            opts.threads = threads;
            const char *name = load_opts_workload_name(flows[i]);
            wrong += check(name, &opts, LOAD_FAKE_HONEST, load_flow_run);
        }
    }
    struct load_opts opts = small_run(LOAD_WORKLOAD_PUBSUB, false);
    wrong += check("counting", &opts, LOAD_FAKE_HONEST, load_flow_run);
    wrong += check("counting", &opts, LOAD_FAKE_DROP, load_flow_run);
    wrong += check("counting", &opts, LOAD_FAKE_TWICE, load_flow_run);
    wrong += check("counting", &opts, LOAD_FAKE_HANG_UP, load_flow_run);
    opts = small_run(LOAD_WORKLOAD_PUBSUB, true);
    for (int b = LOAD_FAKE_DROP; b < LOAD_FAKE_BREAK_COUNT; b++) {
        wrong += check("pubsub", &opts, (enum load_fake_break)b, load_flow_run);
    }
    opts = small_run(LOAD_WORKLOAD_QUEUE, true);
    opts.pubs = 1;
    wrong += check("queue", &opts, LOAD_FAKE_DROP_AND_COPY, load_flow_run);
    opts = small_run(LOAD_WORKLOAD_REQREP, false);
    wrong += check("reqrep", &opts, LOAD_FAKE_HONEST, load_reqrep_run);
    opts = small_run(LOAD_WORKLOAD_LATENCY, false);
    opts.msgs = 2000;
    wrong += check("latency", &opts, LOAD_FAKE_HONEST, load_latency_run);
    opts.stalled = LOAD_STALLED_OTHER;
    wrong += check("latency", &opts, LOAD_FAKE_HONEST, load_latency_run);
    fprintf(stderr, "selftest: %s\n", wrong ? "FAILED" : "passed");
    return wrong ? 1 : 0;
}
