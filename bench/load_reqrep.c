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
    struct load_report *report;
    struct load_loop loop;
    struct client *clients;
    struct load_conn *services;
    struct load_hist *hists; /* one per worker */
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
    return c->answered < c->run->per_client && now < c->run->loop.phase.end_ns;
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
    load_hist_record(&c->run->hists[c->worker->index], now - c->sent_ns);
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

static bool open_all(struct reqrep *run)
{
    const struct load_opts *o = run->opts;
    struct load_loop *loop = &run->loop;
    for (uint32_t i = 0; i < o->subs; i++) {
        struct load_conn *conn = &run->services[i];
        bool ok = load_conn_open(conn, o, NULL) == ERR_OK;
        conn->on_message = service_message;
        if (ok) load_conn_putf(conn, "SUB load.svc load 1\r\n");
        if (!ok || load_conn_flush_wait(conn, o->timeout_ns) != ERR_OK) {
            load_report_fail(run->report, conn->error);
            return false;
        }
        load_loop_add(loop, loop->worker_count - 1 - i % loop->worker_count, conn);
    }
    for (uint32_t i = 0; i < o->pubs; i++) {
        struct client *c = &run->clients[i];
        c->run = run;
        c->worker = &loop->workers[i % loop->worker_count];
        bool ok = load_conn_open(&c->conn, o, NULL) == ERR_OK;
        c->conn.on_message = client_message;
        c->conn.owner = c;
        snprintf(c->inbox, sizeof(c->inbox), "_INBOX.load%018u.", i);
        if (ok) load_conn_putf(&c->conn, "SUB %s* 1\r\n", c->inbox);
        if (!ok || load_conn_flush_wait(&c->conn, o->timeout_ns) != ERR_OK) {
            load_report_fail(run->report, c->conn.error);
            return false;
        }
        load_loop_add(loop, c->worker->index, &c->conn);
    }
    memcpy(run->report->server_version, run->clients[0].conn.server_version,
           sizeof(run->report->server_version));
    memcpy(run->report->server_name, run->clients[0].conn.server_name,
           sizeof(run->report->server_name));
    return true;
}

static void begin_phase(void *context, uint64_t per_client)
{
    struct reqrep *run = context;
    run->per_client = per_client;
    for (uint32_t i = 0; i < run->opts->pubs; i++) run->clients[i].answered = 0;
}

static void measure(struct reqrep *run)
{
    struct load_timed t = {.opts = run->opts,
                           .report = run->report,
                           .loop = &run->loop,
                           .hists = run->hists,
                           .run = run,
                           .begin = begin_phase};
    load_timed_run(&t);
}

void load_reqrep_run(const struct load_opts *o, struct load_report *report)
{
    struct reqrep run = {.opts = o, .report = report};
    run.clients = calloc(o->pubs, sizeof(run.clients[0]));
    run.services = calloc(o->subs, sizeof(run.services[0]));
    run.hists = calloc(o->threads, sizeof(run.hists[0]));
    run.payload = malloc(o->size + 1);
    report->latency = calloc(1, sizeof(*report->latency));
    must(run.clients && run.services && run.hists && run.payload && report->latency);
    memset(run.payload, 'x', o->size);
    for (uint32_t i = 0; i < o->pubs; i++) run.clients[i].conn.fd = -1;
    for (uint32_t i = 0; i < o->subs; i++) run.services[i].fd = -1;
    load_loop_init(&run.loop, o->threads);
    run.loop.tick = tick;
    run.loop.owner = &run;
    run.loop.spin = o->spin;
    report->unit = "request";
    if (open_all(&run)) measure(&run);
    for (uint32_t i = 0; i < o->pubs; i++) load_conn_close(&run.clients[i].conn);
    for (uint32_t i = 0; i < o->subs; i++) load_conn_close(&run.services[i]);
    load_loop_deinit(&run.loop);
    free(run.clients);
    free(run.services);
    free(run.hists);
    free(run.payload);
}
