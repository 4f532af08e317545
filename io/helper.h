/* A small pool of threads for work that must not run on a shard: TLS handshakes, bcrypt,
 * signatures, pages. Jobs run in the order of submission, on whichever helper is free; idle
 * helpers sleep. The queue is bounded by its length, and memory by the callers: a job is embedded
 * in the object it works for, nothing is allocated here.
 *
 * Ownership: between helper_submit and the call of done the job, and what it works on, belongs to
 * the pool. done runs on the helper's thread; its usual work is to mail the owner and ring it.
 * Who loses interest meanwhile marks that in a generation of its own and lets the job finish. */
#ifndef IO_HELPER_H
#define IO_HELPER_H
#include <stdbool.h>
#include <stdint.h>
#include "core/base/err.h"

struct helper_pool;

struct helper_job {
    /* The work. helper is the number of the thread, from 0. */
    void (*run)(struct helper_job *job, uint32_t helper);
    /* Called after run; or, with is_cancelled, instead of run when the pool closes before the
     * job's turn came (then on the closing thread, helper 0, all helpers being joined). */
    void (*done)(struct helper_job *job, uint32_t helper, bool is_cancelled);
    struct helper_job *next; /* the pool's */
};

enum { HELPER_THREADS_MAX = 16 };

/* ERR_MEMORY: the threads cannot be started; none is left behind. */
NODISCARD enum err helper_open(uint32_t thread_count, uint32_t jobs_max, struct helper_pool **out);
/* From any thread. ERR_FULL: jobs_max jobs wait already. ERR_CLOSED: the pool is closing. */
NODISCARD enum err helper_submit(struct helper_pool *p, struct helper_job *job);
/* Waits for the jobs that run, cancels those that wait, joins the threads. p may be NULL. */
void helper_close(struct helper_pool *p);

struct helper_figures {
    uint64_t submitted, finished, refused;
    uint32_t waiting, waiting_highest;
};
void helper_figures(struct helper_pool *p, struct helper_figures *out);

#endif
