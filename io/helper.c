#include "io/helper.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include "core/base/must.h"
#include "io/mem_jemalloc.h"

struct helper_thread {
    struct helper_pool *pool;
    uint32_t number;
    pthread_t thread;
};

/* Everything is under one lock: a job costs its helper at least tens of microseconds, so the lock
 * is held for a small part of the time, and only for a few instructions. */
struct helper_pool {
    pthread_mutex_t lock;
    pthread_cond_t has_work;
    struct helper_job *oldest, *newest; /* waiting jobs, linked by next */
    uint32_t waiting, jobs_max, thread_count, sleeping;
    bool is_closing;
    struct helper_figures figures;
    struct helper_thread threads[HELPER_THREADS_MAX];
};

static struct helper_job *job_pop(struct helper_pool *p)
{
    struct helper_job *job = p->oldest;
    if (job == NULL) return NULL;
    p->oldest = job->next;
    if (p->oldest == NULL) p->newest = NULL;
    job->next = NULL;
    p->waiting--;
    return job;
}

static void *thread_main(void *context)
{
    struct helper_thread *t = context;
    struct helper_pool *p = t->pool;
    char name[16];
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    snprintf(name, sizeof name, "helper-%u", t->number);
    pthread_setname_np(pthread_self(), name);

    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (p->oldest == NULL && !p->is_closing) {
            p->sleeping++;
            pthread_cond_wait(&p->has_work, &p->lock);
            p->sleeping--;
        }
        if (p->is_closing) break;
        struct helper_job *job = job_pop(p);
        pthread_mutex_unlock(&p->lock);
        job->run(job, t->number);
        job->done(job, t->number, false); /* the job may be gone after this */
        pthread_mutex_lock(&p->lock);
        p->figures.finished++;
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void join_all(struct helper_pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->is_closing = true;
    pthread_cond_broadcast(&p->has_work);
    pthread_mutex_unlock(&p->lock);
    for (uint32_t i = 0; i < p->thread_count; i++) pthread_join(p->threads[i].thread, NULL);
}

static void pool_free(struct helper_pool *p)
{
    pthread_cond_destroy(&p->has_work);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

enum err helper_open(uint32_t thread_count, uint32_t jobs_max, struct helper_pool **out)
{
    must(thread_count > 0);
    must(thread_count <= HELPER_THREADS_MAX);
    must(jobs_max > 0);
    struct helper_pool *p = calloc(1, sizeof *p);
    if (p == NULL) return ERR_MEMORY;
    p->jobs_max = jobs_max;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->has_work, NULL);
    for (uint32_t i = 0; i < thread_count; i++) {
        struct helper_thread *t = &p->threads[i];
        t->pool = p;
        t->number = i;
        if (mem_jemalloc_thread(&t->thread, thread_main, t) != ERR_OK) {
            join_all(p);
            pool_free(p);
            return ERR_MEMORY;
        }
        p->thread_count++;
    }
    *out = p;
    return ERR_OK;
}

enum err helper_submit(struct helper_pool *p, struct helper_job *job)
{
    enum err e = ERR_OK;
    must(job->run != NULL);
    must(job->done != NULL);
    pthread_mutex_lock(&p->lock);
    if (p->is_closing) {
        e = ERR_CLOSED;
    } else if (p->waiting == p->jobs_max) {
        e = ERR_FULL;
        p->figures.refused++;
    } else {
        job->next = NULL;
        if (p->newest == NULL) {
            p->oldest = job;
        } else {
            p->newest->next = job;
        }
        p->newest = job;
        p->waiting++;
        p->figures.submitted++;
        if (p->waiting > p->figures.waiting_highest) p->figures.waiting_highest = p->waiting;
        /* A helper that is busy looks at the queue by itself before it sleeps. */
        if (p->sleeping > 0) pthread_cond_signal(&p->has_work);
    }
    pthread_mutex_unlock(&p->lock);
    return e;
}

void helper_close(struct helper_pool *p)
{
    if (p == NULL) return;
    join_all(p);
    for (struct helper_job *job = job_pop(p); job != NULL; job = job_pop(p)) {
        job->done(job, 0, true);
    }
    pool_free(p);
}

void helper_figures(struct helper_pool *p, struct helper_figures *out)
{
    pthread_mutex_lock(&p->lock);
    *out = p->figures;
    out->waiting = p->waiting;
    pthread_mutex_unlock(&p->lock);
}
