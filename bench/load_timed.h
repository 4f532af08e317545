/* A run whose operations are timed one by one: a warm-up, then the phase that is reported, with the
 * latencies of all workers. For workloads in which each client does one thing after the other. */
#ifndef BENCH_LOAD_TIMED_H
#define BENCH_LOAD_TIMED_H

#include "bench/load_hist.h"
#include "bench/load_loop.h"
#include "bench/load_opts.h"
#include "bench/load_report.h"

/* A phase begins: so many operations of each client; UINT64_MAX: by time. owner: of the loop. */
typedef void (*load_timed_begin_fn)(void *owner, uint64_t per_client);

struct load_timed {
    const struct load_opts *opts;
    struct load_report *report;
    struct load_loop loop;
    struct load_hist *hists; /* one per worker, filled by the workload; emptied before a phase */
};

/* Borrows opts and report, and gives the report an empty latency. The caller sets loop.tick and
 * loop.owner. */
void load_timed_init(struct load_timed *t, const struct load_opts *opts,
                     struct load_report *report);
void load_timed_deinit(struct load_timed *t);

/* The worker of client index: they are dealt out in turn. */
struct load_worker *load_timed_worker(const struct load_timed *t, uint32_t index);

/* Opens a connection that is subscribed to filter (sid 1; "load.svc load": with a queue) and gives
 * it to the worker; its messages go to on_message, with owner. The caller closes it, whatever this
 * returns. False: the report says why. */
bool load_timed_connect(struct load_timed *t, struct load_worker *worker, struct load_conn *conn,
                        const char *filter, load_conn_message_fn on_message, void *owner);

/* Fills the report, failures included. */
void load_timed_run(struct load_timed *t, load_timed_begin_fn begin);

#endif
