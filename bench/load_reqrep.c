#include "bench/load_reqrep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load_conn.h"
#include "bench/load_loop.h"
#include "bench/load_timed.h"
#include "core/base/must.h"

enum { INBOX_MAX = 64 };

struct reqrep;

struct client {
    struct load_conn conn;
    struct reqrep *run;
    struct load_worker *worker;
    uint64_t sent_ns;
    uint64_t requests; /* in all phases; makes the reply subject unique */
    uint64_t answered; /* in this phase */
    char inbox[INBOX_MAX];
    bool is_waiting;
};

struct reqrep {
    const struct load_opts *opts;
    struct load_timed timed;
    struct client *clients;
    struct load_conn *services;
    uint8_t *payload;
    uint64_t per_client; /* requests of each client in this phase; UINT64_MAX: by time */
};

static void send_request(struct client *c, uint64_t now)
{
    struct reqrep *run = c->run;
    load_conn_putf(&c->conn, "PUB load.svc %s%010llu %u\r\n", c->inbox,
                   (unsigned long long)++c->requests, run->opts->size);
    load_conn_put(&c->conn, run->payload, run->opts->size);
    load_conn_put(&c->conn, "\r\n", 2);
    c->sent_ns = now;
    c->is_waiting = true;
    load_conn_write(&c->conn);
    load_loop_arm(c->worker, &c->conn);
}

static bool may_send(const struct client *c, uint64_t now)
{
    return c->answered < c->run->per_client && now < c->run->timed.loop.phase.end_ns;
}

static void client_message(struct load_conn *conn, const struct load_message *m)
{
    struct client *c = conn->owner;
    uint64_t now = load_probe_now_ns();
    if (m->header_bytes > 0) {
        load_conn_fail(conn, "a request found no service");
        return;
    }
    char wanted[INBOX_MAX];
    int length =
        snprintf(wanted, sizeof(wanted), "%s%010llu", c->inbox, (unsigned long long)c->requests);
    bool is_right = (int)m->subject_bytes == length && c->is_waiting &&
                    memcmp(m->subject, wanted, m->subject_bytes) == 0 &&
                    m->payload_bytes == c->run->opts->size;
    if (!is_right) {
        conn->errors++;
        load_conn_fail(conn, "an answer that nobody waits for");
        return;
    }
    load_hist_record(&c->run->timed.hists[c->worker->index], now - c->sent_ns);
    c->is_waiting = false;
    c->answered++;
    if (may_send(c, now)) send_request(c, now);
}

static void service_message(struct load_conn *conn, const struct load_message *m)
{
    if (!m->reply) return;
    /* Written by the loop when all messages of this read are answered. */
    load_conn_putf(conn, "PUB %.*s %u\r\n", (int)m->reply_bytes, m->reply, m->payload_bytes);
    load_conn_put(conn, m->payload, m->payload_bytes);
    load_conn_put(conn, "\r\n", 2);
}

/* Starts each client at the beginning of a phase; later its answers drive it. */
static uint64_t tick(struct load_worker *worker, uint64_t now)
{
    struct reqrep *run = worker->loop->owner;
    uint64_t busy = 0;
    for (uint32_t i = 0; i < run->opts->pubs; i++) {
        struct client *c = &run->clients[i];
        if (c->worker != worker) continue;
        if (!c->is_waiting && may_send(c, now)) send_request(c, now);
        if (c->is_waiting) busy++;
    }
    worker->busy_extra = busy;
    return UINT64_MAX;
}

/* Services sit on the last workers first, so that a second thread serves while one asks. */
static bool open_all(struct reqrep *run)
{
    const struct load_opts *o = run->opts;
    uint32_t workers = run->timed.loop.worker_count;
    for (uint32_t i = 0; i < o->subs; i++) {
        struct load_worker *worker = load_timed_worker(&run->timed, workers - 1 - i % workers);
        if (!load_timed_connect(&run->timed, worker, &run->services[i], "load.svc load",
                                service_message, NULL))
            return false;
    }
    for (uint32_t i = 0; i < o->pubs; i++) {
        struct client *c = &run->clients[i];
        char filter[INBOX_MAX + 1];
        snprintf(c->inbox, sizeof(c->inbox), "_INBOX.load%018u.", i);
        snprintf(filter, sizeof(filter), "%s*", c->inbox);
        c->run = run;
        c->worker = load_timed_worker(&run->timed, i);
        if (!load_timed_connect(&run->timed, c->worker, &c->conn, filter, client_message, c))
            return false;
    }
    return true;
}

static void begin_phase(void *context, uint64_t per_client)
{
    struct reqrep *run = context;
    run->per_client = per_client;
    for (uint32_t i = 0; i < run->opts->pubs; i++) run->clients[i].answered = 0;
}

void load_reqrep_run(const struct load_opts *o, struct load_report *report)
{
    struct reqrep run = {.opts = o};
    load_timed_init(&run.timed, o, report);
    run.timed.loop.tick = tick;
    run.timed.loop.owner = &run;
    run.clients = calloc(o->pubs, sizeof(run.clients[0]));
    run.services = calloc(o->subs, sizeof(run.services[0]));
    run.payload = malloc(o->size + 1);
    must(run.clients && run.services && run.payload);
    memset(run.payload, 'x', o->size);
    for (uint32_t i = 0; i < o->pubs; i++) run.clients[i].conn.fd = -1;
    for (uint32_t i = 0; i < o->subs; i++) run.services[i].fd = -1;
    report->unit = "request";
    if (open_all(&run)) load_timed_run(&run.timed, begin_phase);
    for (uint32_t i = 0; i < o->pubs; i++) load_conn_close(&run.clients[i].conn);
    for (uint32_t i = 0; i < o->subs; i++) load_conn_close(&run.services[i]);
    load_timed_deinit(&run.timed);
    free(run.clients);
    free(run.services);
    free(run.payload);
}
