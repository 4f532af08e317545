/* The workloads that are a flow from publishers to subscribers: pub, pubsub, pairs, queue,
 * subjects and churn; and the second half of subs. */
#ifndef BENCH_LOAD_FLOW_H
#define BENCH_LOAD_FLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/load_conn.h"
#include "bench/load_loop.h"
#include "bench/load_opts.h"
#include "bench/load_report.h"
#include "bench/load_tape.h"
#include "bench/load_verify.h"

struct load_flow {
    const struct load_opts *opts;
    struct load_loop loop;
    struct load_conn *subs; /* sub_count, then churner */
    struct load_conn *pub_conns;
    struct load_pub *pubs;
    struct load_tape *tapes; /* one per publisher in a verifying run or with subjects of its own */
    struct load_verify *verifies;
    uint32_t sub_count;
    uint32_t pub_count;
    uint32_t tape_count;
    struct load_conn *churner; /* workload churn */
    uint64_t churn_done;       /* SUB and UNSUB that the server has taken */
    uint64_t churn_next;       /* number of the next subscription */
    uint64_t churn_due_ns;
    uint64_t churn_pongs;
};

/* Runs the workload of opts; everything that went wrong is in the report. */
void load_flow_run(const struct load_opts *opts, struct load_report *report);

/* The window of a loop with so many subscribers, in messages. It keeps a server that cuts off slow
 * readers from doing so while this client reads as fast as it can, and is far more than what keeps
 * a server busy. */
uint64_t load_flow_window(const struct load_opts *opts, uint32_t sub_count);

/* Warm-up and measurement of a loop whose connections are all in place: fills counts, times and
 * probes of the report. False: it failed, the report says why. */
bool load_flow_measure(struct load_loop *loop, const struct load_opts *opts, uint32_t pub_count,
                       struct load_report *report);

#endif
