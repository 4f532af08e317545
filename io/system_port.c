#include "io/system_port.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "core/base/text.h"
#include "core/monitor/page.h"
#include "core/monitor/sysevents.h"
#include "core/monitor/sysreq.h"
#include "io/crypto.h"
#include "io/monitor.h"

enum { RELOAD_WAIT_MS = 10000 };

struct system_job {
    struct system_job *next;
    uint32_t shard;
    struct system_request *request; /* a copy, one block */
};

struct system_port {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct system_job *first, *last;
    uint32_t count;
    size_t bytes; /* of the waiting requests */
    _Atomic bool is_ending;
    _Atomic uint64_t dropped;
    bool is_started;
    struct page_counts pages; /* a copy of the monitor's, for varz */
    struct mem_jemalloc mem;
    char failure[SERVER_REASON_BYTES]; /* of the last reload asked for */
    uint64_t statsz_ns, heartbeat_ns,
        statsz_interval_ns; /* when the next periodic events are due */
};

/* --- taking --------------------------------------------------------------------------------------
 */

static struct bytes moved(struct bytes b, const void *from, void *to)
{
    return b.len == 0 ? b : bytes_of((char *)to + (b.data - (const char *)from), b.len);
}

void system_port_take(void *server, uint32_t shard, const struct system_request *r)
{
    struct server *s = server;
    struct system_port *p = s->system_port;
    struct system_job *job = malloc(sizeof *job);
    struct system_request *copy = malloc(r->bytes);
    if (job == NULL || copy == NULL || p->is_ending) {
        if (!p->is_ending) atomic_fetch_add_explicit(&p->dropped, 1, memory_order_relaxed);
        free(job);
        free(copy);
        return;
    }
    memcpy(copy, r, r->bytes);
    copy->subject = moved(r->subject, r, copy);
    copy->reply = moved(r->reply, r, copy);
    copy->body = moved(r->body, r, copy);
    copy->user = moved(r->user, r, copy);
    *job = (struct system_job){.shard = shard, .request = copy};
    pthread_mutex_lock(&p->lock);
    /* One alone may be as large as a message. */
    if (p->count == SYSTEM_PORT_JOBS_MAX ||
        (p->count > 0 && p->bytes + r->bytes > SYSTEM_PORT_BYTES_MAX)) {
        pthread_mutex_unlock(&p->lock);
        atomic_fetch_add_explicit(&p->dropped, 1, memory_order_relaxed);
        free(job);
        free(copy);
        return;
    }
    if (p->last == NULL)
        p->first = job;
    else
        p->last->next = job;
    p->last = job;
    p->count++;
    p->bytes += r->bytes;
    pthread_cond_signal(&p->more);
    pthread_mutex_unlock(&p->lock);
}

uint64_t system_port_dropped(const struct server *s)
{
    const struct system_port *p = s->system_port;
    return p == NULL ? 0 : atomic_load_explicit(&p->dropped, memory_order_relaxed);
}

/* --- publishing ----------------------------------------------------------------------------------
 */

static void publish(struct server *s, uint32_t sender, uint32_t shard, uint32_t account,
                    struct bytes subject, struct bytes payload, uint32_t header_bytes)
{
    if (subject.len == 0) return;
    struct order *o = malloc(sizeof *o + subject.len + payload.len + 2);
    if (o == NULL) {
        atomic_fetch_add_explicit(&s->system_port->dropped, 1, memory_order_relaxed);
        return;
    }
    char *text = (char *)(o + 1);
    memcpy(text, subject.data, subject.len);
    if (payload.len > 0) memcpy(text + subject.len, payload.data, payload.len);
    memcpy(text + subject.len + payload.len, "\r\n", 2);
    *o = (struct order){.kind = ORDER_PUBLISH,
                        .account = account,
                        .subject = bytes_of(text, subject.len),
                        .payload = bytes_of(text + subject.len, payload.len),
                        .header_bytes = header_bytes};
    /* With its texts in one block: a shard that does not answer in time keeps it. */
    if (server_order_one(s, o, shard, sender, ORDER_WAIT_NS))
        free(o);
    else
        server_abandon(s, o);
}

/* mem belongs to the calling thread: the farewell comes from main, while the system thread runs. */
static void publish_event(struct server *s, struct mem *mem, uint32_t sender,
                          enum sysevents_kind kind, struct bytes name, const struct text *body)
{
    struct text subject;
    const struct options *o = atomic_load(&s->options);
    if (body->is_failed || o->accounts->system == UINT32_MAX) return;
    text_init(&subject, mem, MEM_MONITOR, 8192);
    sysevents_subject(&subject, kind, name);
    if (!subject.is_failed)
        publish(s, sender, 0, o->accounts->system, text_written(&subject), text_written(body), 0);
    text_deinit(&subject);
}

static void make_id(char id[22])
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint8_t random[22];
    crypto_random(random, sizeof random);
    for (int i = 0; i < 22; i++) id[i] = digits[random[i] % 62];
}

/* --- requests ------------------------------------------------------------------------------------
 */

/* *is_lost: the order was not done in time, shards still look at it. */
static struct bytes act(struct server *s, const struct sysreq *r, enum sysreq_verdict verdict,
                        struct order *o, bool *is_lost)
{
    struct system_port *p = s->system_port;
    if (verdict == SYSREQ_RELOAD) {
        uint64_t before = atomic_load(&s->reload_count);
        kill(getpid(), SIGHUP);
        for (int ms = 0; ms < RELOAD_WAIT_MS && atomic_load(&s->reload_count) == before; ms += 10) {
            struct timespec pause = {.tv_nsec = 10000000};
            nanosleep(&pause, NULL);
        }
        if (atomic_load(&s->reload_count) == before) return BYTES_LITERAL("the reload did not end");
        pthread_mutex_lock(&s->figures_lock);
        snprintf(p->failure, sizeof p->failure, "%s", s->reload_failure);
        pthread_mutex_unlock(&s->figures_lock);
        return bytes_from_text(p->failure);
    }
    *o = (struct order){.kind = verdict == SYSREQ_KICK ? ORDER_KICK : ORDER_LDM_ONE, .cid = r->cid};
    *is_lost = !server_order(s, o, server_sender_system(s), ORDER_WAIT_NS);
    if (*is_lost) return BYTES_LITERAL("timeout");
    if (o->found) return bytes_of(NULL, 0);
    return verdict == SYSREQ_KICK ? BYTES_LITERAL("no such client or leafnode id")
                                  : BYTES_LITERAL("no such client id");
}

static void write_user(struct server *s, const struct system_request *r,
                       const struct server_snapshot *server, struct text *out)
{
    const struct options *o = atomic_load(&s->options);
    const struct account *a = account_set_by_number(o->accounts, r->account);
    const struct user *u = account_set_user(o->accounts, r->user);
    if (u == NULL) u = account_set_user_by_nkey(o->accounts, r->user);
    if (u == NULL && bytes_equal(o->accounts->single.name, r->user)) u = &o->accounts->single;
    struct sysreq_user user = {
        .user = r->user,
        .account = a == NULL ? bytes_of(NULL, 0) : a->name,
        .account_name = a == NULL ? bytes_of(NULL, 0) : a->name,
        .permissions = u == NULL || u->permissions == NULL ? NULL : perms_spec_of(u->permissions)};
    sysreq_write_user(out, server, &user);
}

static void answer(struct server *s, const struct system_job *job)
{
    struct system_port *p = s->system_port;
    const struct system_request *r = job->request;
    struct page_query *q = malloc(sizeof *q);
    struct order *o = calloc(1, sizeof *o);
    struct text error, out;
    text_init(&error, &p->mem.mem, MEM_MONITOR, 4096);
    text_init(&out, &p->mem.mem, MEM_MONITOR, PAGE_BYTES_MAX);
    pthread_rwlock_rdlock(&s->options_lock);
    const struct options *options = atomic_load(&s->options);
    const struct account *account = account_set_by_number(options->accounts, r->account);
    struct server_snapshot server;
    bool is_lost = false, is_short = q == NULL || o == NULL;
    if (q != NULL && o != NULL && account != NULL) {
        query_init(q, PAGE_VARZ);
        monitor_describe(s, options, q, &server);
        monitor_copy_counts(s, &p->pages);
        server.pages = &p->pages;
        struct sysreq_from from = {.account = account->name,
                                   .is_system = r->account == options->accounts->system};
        struct sysreq request = {0};
        char id[22];
        make_id(id);
        enum sysreq_verdict verdict =
            sysreq_parse(&p->mem.mem, &server, &from, r->subject, r->body, q, &request, &error);
        struct monitor_pages pages;
        switch (verdict) {
        case SYSREQ_SILENT: break;
        case SYSREQ_REFUSED:
            sysreq_write_error(&out, &server, 400, bytes_of(error.data, error.len));
            break;
        case SYSREQ_USER: write_user(s, r, &server, &out); break;
        case SYSREQ_COLLECT:
            if (monitor_collect(s, server_sender_system(s), &q, &pages)) {
                struct page_input in = {.query = q,
                                        .server = &server,
                                        .shards = pages.shards,
                                        .shard_count = s->shard_count,
                                        .mem = &p->mem.mem};
                monitor_describe(s, options, q, &server);
                server.pages = &p->pages;
                enum err e =
                    sysreq_write_reply(&in, &request, bytes_of(id, sizeof id), &error, &out);
                if (e != ERR_OK) text_clear(&out);
                is_short = e == ERR_MEMORY;
                monitor_release(s, server_sender_system(s), &pages);
            }
            break;
        case SYSREQ_RELOAD:
        case SYSREQ_KICK:
        case SYSREQ_LDM:
            /* A reload takes the lock for itself. */
            pthread_rwlock_unlock(&s->options_lock);
            struct bytes failure = act(s, &request, verdict, o, &is_lost);
            pthread_rwlock_rdlock(&s->options_lock);
            /* The options of before may be gone. */
            monitor_describe(s, atomic_load(&s->options), q, &server);
            sysreq_write_done(&out, &server, failure);
            break;
        }
    }
    /* Without memory for an answer: as if nobody had taken the request, so that nobody waits. */
    struct bytes no_answer = BYTES_LITERAL("NATS/1.0 503\r\n\r\n"), said = text_written(&out);
    if (is_short || out.is_failed) said = no_answer;
    if (said.len > 0)
        publish(s, server_sender_system(s), job->shard, r->account, r->reply, said,
                said.data == no_answer.data ? (uint32_t)no_answer.len : 0);
    pthread_rwlock_unlock(&s->options_lock);
    text_deinit(&out);
    text_deinit(&error);
    free(q);
    if (is_lost)
        server_abandon(s, o);
    else
        free(o);
}

/* --- periodic events
 * ------------------------------------------------------------------------------ */

static void write_accounts(struct server *s, const struct page_input *in, uint32_t only,
                           bool is_change)
{
    struct system_port *p = s->system_port;
    const struct account_set *set = in->server->options->accounts;
    for (uint32_t i = 0; i < set->account_count; i++) {
        const struct account *a = set->accounts[i];
        struct account_snapshot sums;
        if (is_change ? a->number != only : a->number == ACCOUNT_GLOBAL) continue;
        snapshot_merge_account(in, a->number, &sums);
        if (!is_change && sums.connections == 0) continue;
        char id[22];
        make_id(id);
        struct sysevents_head head = {bytes_of(id, sizeof id), in->server->now_ns};
        struct text body;
        text_init(&body, &p->mem.mem, MEM_MONITOR, 65536);
        sysevents_write_account(&body, in->server, &head, a, &sums);
        publish_event(s, &p->mem.mem, server_sender_system(s), SYSEVENTS_ACCOUNT_CONNS, a->name,
                      &body);
        publish_event(s, &p->mem.mem, server_sender_system(s), SYSEVENTS_ACCOUNT_CONNS_LEGACY,
                      a->name, &body);
        text_deinit(&body);
    }
}

enum periodic { PERIODIC_STATSZ, PERIODIC_ACCOUNTS, ACCOUNT_CHANGE };

static void tell(struct server *s, enum periodic what, uint32_t account)
{
    struct system_port *p = s->system_port;
    struct page_query *q = malloc(sizeof *q);
    struct monitor_pages pages;
    struct text body;
    if (q == NULL) return;
    query_init(q, PAGE_STATSZ);
    q->collect = COLLECT_ACCOUNTS;
    text_init(&body, &p->mem.mem, MEM_MONITOR, 1 << 20);
    pthread_rwlock_rdlock(&s->options_lock);
    const struct options *o = atomic_load(&s->options);
    if (o->accounts->system != UINT32_MAX &&
        monitor_collect(s, server_sender_system(s), &q, &pages)) {
        struct server_snapshot server;
        monitor_describe(s, o, q, &server);
        struct page_input in = {.query = q,
                                .server = &server,
                                .shards = pages.shards,
                                .shard_count = s->shard_count,
                                .mem = &p->mem.mem};
        if (what != PERIODIC_STATSZ)
            write_accounts(s, &in, account, what == ACCOUNT_CHANGE);
        else if (sysevents_write_statsz(&in, &body) == ERR_OK)
            publish_event(s, &p->mem.mem, server_sender_system(s), SYSEVENTS_STATSZ, s->facts.id,
                          &body);
        monitor_release(s, server_sender_system(s), &pages);
    }
    pthread_rwlock_unlock(&s->options_lock);
    text_deinit(&body);
    free(q);
}

void system_port_farewell(struct server *s, bool is_shutdown)
{
    struct text body;
    struct server_snapshot server;
    struct page_query *q = malloc(sizeof *q);
    if (q == NULL || s->system_port == NULL) {
        free(q);
        return;
    }
    query_init(q, PAGE_VARZ);
    text_init(&body, &s->main_mem.mem, MEM_MONITOR, 65536);
    pthread_rwlock_rdlock(&s->options_lock);
    monitor_describe(s, atomic_load(&s->options), q, &server);
    sysevents_write_farewell(&body, &server);
    publish_event(s, &s->main_mem.mem, server_sender_main(s),
                  is_shutdown ? SYSEVENTS_SHUTDOWN : SYSEVENTS_LAMEDUCK, s->facts.id, &body);
    pthread_rwlock_unlock(&s->options_lock);
    text_deinit(&body);
    free(q);
}

/* --- the thread
 * ------------------------------------------------------------------------------------ */

static struct system_job *next_job(struct system_port *p, uint64_t until_ns)
{
    struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u),
                             .tv_nsec = (long)(until_ns % 1000000000u)};
    pthread_mutex_lock(&p->lock);
    while (p->first == NULL && !p->is_ending &&
           pthread_cond_timedwait(&p->more, &p->lock, &until) != ETIMEDOUT)
        continue;
    struct system_job *job = p->first;
    if (job != NULL) {
        p->first = job->next;
        if (p->first == NULL) p->last = NULL;
        p->count--;
        p->bytes -= job->request->bytes;
    }
    pthread_mutex_unlock(&p->lock);
    return job;
}

static void run_periodic(struct server *s, struct system_port *p)
{
    uint64_t now = server_now(NULL).mono_ns;
    if (now >= p->statsz_ns) {
        tell(s, PERIODIC_STATSZ, 0);
        p->statsz_ns = now + p->statsz_interval_ns;
        p->statsz_interval_ns *= 2;
        if (p->statsz_interval_ns > (uint64_t)SYSEVENTS_STATSZ_NS)
            p->statsz_interval_ns = (uint64_t)SYSEVENTS_STATSZ_NS;
    }
    if (now >= p->heartbeat_ns) {
        tell(s, PERIODIC_ACCOUNTS, 0);
        p->heartbeat_ns = now + (uint64_t)SYSEVENTS_HEARTBEAT_NS;
    }
}

static void *run(void *server)
{
    struct server *s = server;
    struct system_port *p = s->system_port;
    pthread_setname_np(pthread_self(), "system");
    p->statsz_ns = server_now(NULL).mono_ns + (uint64_t)SYSEVENTS_STATSZ_FIRST_NS;
    p->statsz_interval_ns = 2 * (uint64_t)SYSEVENTS_STATSZ_FIRST_NS;
    p->heartbeat_ns = server_now(NULL).mono_ns + (uint64_t)SYSEVENTS_HEARTBEAT_NS;
    for (;;) {
        uint64_t until = p->statsz_ns < p->heartbeat_ns ? p->statsz_ns : p->heartbeat_ns;
        struct system_job *job = next_job(p, until);
        if (job != NULL && !p->is_ending) {
            if (job->request->is_change)
                tell(s, ACCOUNT_CHANGE, job->request->account);
            else
                answer(s, job);
        }
        if (job != NULL) {
            free(job->request);
            free(job);
        }
        if (job == NULL && p->is_ending) return NULL;
        if (!p->is_ending) run_periodic(s, p);
    }
}

enum err system_port_open(struct server *s)
{
    struct system_port *p = calloc(1, sizeof *p);
    if (p == NULL) return ERR_MEMORY;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->more, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&p->lock, NULL);
    mem_jemalloc_init(&p->mem, &s->budget);
    s->system_port = p;
    return ERR_OK;
}

enum err system_port_start(struct server *s)
{
    struct system_port *p = s->system_port;
    if (mem_jemalloc_thread(&p->thread, run, s) != ERR_OK) return ERR_MEMORY;
    p->is_started = true;
    return ERR_OK;
}

void system_port_close(struct server *s)
{
    struct system_port *p = s->system_port;
    if (p == NULL) return;
    pthread_mutex_lock(&p->lock);
    p->is_ending = true;
    pthread_cond_signal(&p->more);
    pthread_mutex_unlock(&p->lock);
    if (p->is_started) pthread_join(p->thread, NULL);
}

void system_port_free(struct server *s)
{
    struct system_port *p = s->system_port;
    if (p == NULL) return;
    while (p->first != NULL) {
        struct system_job *job = p->first;
        p->first = job->next;
        free(job->request);
        free(job);
    }
    s->system_port = NULL;
    mem_jemalloc_deinit(&p->mem);
    pthread_cond_destroy(&p->more);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
