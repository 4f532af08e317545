#include <criterion/criterion.h>
#include <semaphore.h>
#include <stdatomic.h>
#include "io/helper.h"

struct job {
    struct helper_job job;
    sem_t *started, *gate;
    _Atomic int runs, dones, cancels;
};

static void job_run(struct helper_job *j, uint32_t helper)
{
    struct job *me = (struct job *)j;
    cr_assert_lt(helper, 4);
    me->runs++;
    if (me->started != NULL) sem_post(me->started);
    if (me->gate != NULL) sem_wait(me->gate);
}

static void job_done(struct helper_job *j, uint32_t helper, bool is_cancelled)
{
    struct job *me = (struct job *)j;
    if (is_cancelled) me->cancels++;
    me->dones++;
}

TestSuite(helper, .timeout = 10);

Test(helper, every_job_runs_once)
{
    enum { COUNT = 2000 };
    static struct job jobs[COUNT];
    struct helper_pool *p;
    struct helper_figures f;
    cr_assert_eq(helper_open(4, COUNT, &p), ERR_OK);
    for (int i = 0; i < COUNT; i++) {
        jobs[i].job = (struct helper_job){.run = job_run, .done = job_done};
        cr_assert_eq(helper_submit(p, &jobs[i].job), ERR_OK);
    }
    do {
        helper_figures(p, &f);
    } while (f.finished < COUNT);
    helper_close(p);
    for (int i = 0; i < COUNT; i++) {
        cr_assert_eq(jobs[i].runs, 1);
        cr_assert_eq(jobs[i].dones, 1);
        cr_assert_eq(jobs[i].cancels, 0);
    }
}

Test(helper, a_full_queue_refuses_and_close_cancels_what_waits)
{
    sem_t started, gate;
    struct helper_pool *p;
    sem_init(&started, 0, 0);
    sem_init(&gate, 0, 0);
    struct job running = {
        .job = {.run = job_run, .done = job_done}, .started = &started, .gate = &gate};
    struct job waiting[2] = {{.job = {.run = job_run, .done = job_done}},
                             {.job = {.run = job_run, .done = job_done}}};
    struct job refused = {.job = {.run = job_run, .done = job_done}};
    cr_assert_eq(helper_open(1, 2, &p), ERR_OK);
    cr_assert_eq(helper_submit(p, &running.job), ERR_OK);
    sem_wait(&started);
    cr_assert_eq(helper_submit(p, &waiting[0].job), ERR_OK);
    cr_assert_eq(helper_submit(p, &waiting[1].job), ERR_OK);
    cr_assert_eq(helper_submit(p, &refused.job), ERR_FULL);
    cr_assert_eq(refused.runs + refused.dones, 0);
    sem_post(&gate);
    helper_close(p);
    cr_assert_eq(running.dones, 1);
    cr_assert_eq(running.cancels, 0);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(waiting[i].dones, 1);
        cr_assert_eq(waiting[i].runs + waiting[i].cancels, 1);
    }
}
