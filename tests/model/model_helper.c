/* Several threads submit jobs that their own mailbox-like counters get back: each job runs once,
 * on one helper at a time, also when the pool closes in the middle. The same for the shared memory
 * budget: threads that lease slices never have more than there are.
 * links: io */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include "io/helper.h"
#include "io/mem_jemalloc.h"

enum { SUBMITTERS = 2, HELPERS = 3, JOBS = 20000, QUEUE = 64, MIB = 1024 * 1024 };

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

struct job {
    struct helper_job job;
    int runs; /* plain: the hand-over through the pool must order it */
    bool is_cancelled;
    _Atomic int is_back;
};

static void job_run(struct helper_job *j, uint32_t helper)
{
    struct job *me = (struct job *)j;
    CHECK(helper < HELPERS);
    me->runs++;
}

static void job_done(struct helper_job *j, uint32_t helper, bool is_cancelled)
{
    struct job *me = (struct job *)j;
    me->is_cancelled = is_cancelled;
    atomic_store_explicit(&me->is_back, 1, memory_order_release);
}

struct submitter {
    struct helper_pool *pool;
    struct job *jobs;
    int submitted, refused;
};

static void *submit(void *context)
{
    struct submitter *me = context;
    for (int i = 0; i < JOBS; i++) {
        struct job *j = &me->jobs[i];
        j->job = (struct helper_job){.run = job_run, .done = job_done};
        enum err e = helper_submit(me->pool, &j->job);
        if (e == ERR_OK) me->submitted++;
        if (e == ERR_FULL) {
            me->refused++;
            sched_yield();
        }
    }
    return NULL;
}

static void jobs_run_once(void)
{
    struct helper_pool *pool;
    struct submitter submitters[SUBMITTERS] = {{0}};
    pthread_t threads[SUBMITTERS];
    CHECK(helper_open(HELPERS, QUEUE, &pool) == ERR_OK);
    for (int i = 0; i < SUBMITTERS; i++) {
        submitters[i] = (struct submitter){.pool = pool, .jobs = calloc(JOBS, sizeof(struct job))};
        CHECK(pthread_create(&threads[i], NULL, submit, &submitters[i]) == 0);
    }
    for (int i = 0; i < SUBMITTERS; i++) pthread_join(threads[i], NULL);
    helper_close(pool);
    int back = 0, cancelled = 0;
    for (int i = 0; i < SUBMITTERS; i++) {
        for (int k = 0; k < JOBS; k++) {
            struct job *j = &submitters[i].jobs[k];
            int is_back = atomic_load_explicit(&j->is_back, memory_order_acquire);
            back += is_back;
            cancelled += j->is_cancelled;
            CHECK(j->runs == (is_back && !j->is_cancelled));
        }
        back -= submitters[i].submitted;
        free(submitters[i].jobs);
    }
    CHECK(back == 0);
    printf("helper: %d of %d cancelled, %d refused\n", cancelled, SUBMITTERS * JOBS,
           submitters[0].refused + submitters[1].refused);
}

static void *churn(void *context)
{
    struct mem_jemalloc m;
    void *blocks[16] = {NULL};
    mem_jemalloc_init(&m, context);
    for (int i = 0; i < 5000; i++) {
        int at = i % 16;
        mem_free(&m.mem, MEM_OUTPUT, blocks[at], MIB);
        blocks[at] = mem_alloc(&m.mem, MEM_OUTPUT, MIB);
    }
    for (int at = 0; at < 16; at++) mem_free(&m.mem, MEM_OUTPUT, blocks[at], MIB);
    mem_jemalloc_deinit(&m);
    return NULL;
}

static void budget_holds(void)
{
    struct mem_jemalloc_budget b;
    pthread_t threads[HELPERS];
    mem_jemalloc_budget_init(&b, 40 * MIB);
    for (int i = 0; i < HELPERS; i++) CHECK(pthread_create(&threads[i], NULL, churn, &b) == 0);
    for (int i = 0; i < 2000; i++) {
        CHECK(atomic_load(&b.leased) <= b.slice_count);
        if (i % 100 == 0) (void)mem_jemalloc_budget_check(&b, (i % 200 == 0 ? 50 : 10) * MIB);
    }
    for (int i = 0; i < HELPERS; i++) pthread_join(threads[i], NULL);
    CHECK(atomic_load(&b.leased) == 0);
    printf("budget: %lu refused\n", (unsigned long)atomic_load(&b.refused));
}

int main(void)
{
    jobs_run_once();
    budget_holds();
    return 0;
}
