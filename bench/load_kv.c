#include "bench/load_kv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load_api.h"
#include "bench/load_loop.h"
#include "bench/load_probe.h"
#include "bench/load_timed.h"
#include "core/base/must.h"

enum { STEP = 7919 /* a prime: clients walk the keys in an order that no cache likes */ };

struct kv;

struct client {
    struct load_conn conn;
    struct kv *run;
    struct load_worker *worker;
    uint64_t sent_ns;
    uint64_t requests; /* in all phases; numbers the inbox of each */
    uint64_t answered; /* in this phase */
    uint64_t key;      /* of the request under way */
    uint32_t index;
    bool is_waiting;
};

struct kv {
    const struct load_opts *opts;
    struct load_timed timed;
    struct client *clients;
    uint8_t *payload;
    uint64_t per_client; /* requests of each client in this phase; UINT64_MAX: by time */
};

static void send_request(struct client *c, uint64_t now)
{
    const struct load_opts *o = c->run->opts;
    char subject[LOAD_API_SUBJECT_MAX];
    char inbox[48];
    c->key = (c->requests * o->pubs + c->index) * STEP;
    (void)load_api_subject(o, c->key, subject);
    snprintf(inbox, sizeof(inbox), "_INBOX.kv%08u.%010llu", c->index,
             (unsigned long long)++c->requests);
    if (o->workload == LOAD_WORKLOAD_KVPUT) {
        load_conn_putf(&c->conn, "PUB %s %s %u\r\n", subject, inbox, o->size);
        load_conn_put(&c->conn, c->run->payload, o->size);
        load_conn_put(&c->conn, "\r\n", 2);
    } else {
        load_conn_putf(&c->conn, "PUB $JS.API.DIRECT.GET.KV_LOAD.%s %s 0\r\n\r\n", subject, inbox);
    }
    c->sent_ns = now;
    c->is_waiting = true;
    load_conn_write(&c->conn);
    load_loop_arm(c->worker, &c->conn);
}

static bool may_send(const struct client *c, uint64_t now)
{
    return c->answered < c->run->per_client && now < c->run->timed.loop.phase.end_ns;
}

/* A value has its key in its headers and at its start, and the size that was put. */
static bool is_value(const struct client *c, const struct load_message *m)
{
    const struct load_opts *o = c->run->opts;
    char wanted[LOAD_API_SUBJECT_MAX + 32] = "Nats-Subject: ";
    size_t name = strlen(wanted);
    size_t length = name + load_api_subject(o, c->key, wanted + name);
    const char *block = (const char *)m->payload - m->header_bytes;
    if (m->header_bytes == 0 || m->payload_bytes != o->size) return false;
    if (o->size >= LOAD_API_KEY_DIGITS &&
        memcmp(m->payload, wanted + length - LOAD_API_KEY_DIGITS, LOAD_API_KEY_DIGITS) != 0) {
        return false;
    }
    return memmem(block, m->header_bytes, wanted, length) != NULL;
}

static bool is_put(const struct load_message *m)
{
    static const char wanted[] = "{\"stream\":\"KV_LOAD\"";
    size_t length = sizeof(wanted) - 1;
    return m->header_bytes == 0 && m->payload_bytes > length &&
           memcmp(m->payload, wanted, length) == 0;
}

static void take_message(struct load_conn *conn, const struct load_message *m)
{
    struct client *c = conn->owner;
    uint64_t now = load_probe_now_ns();
    char inbox[48];
    int length = snprintf(inbox, sizeof(inbox), "_INBOX.kv%08u.%010llu", c->index,
                          (unsigned long long)c->requests);
    bool is_right = c->is_waiting && (int)m->subject_bytes == length &&
                    memcmp(m->subject, inbox, m->subject_bytes) == 0;
    bool is_get = c->run->opts->workload == LOAD_WORKLOAD_KVGET;
    if (!is_right || !(is_get ? is_value(c, m) : is_put(m))) {
        conn->errors++;
        load_conn_fail(conn, "not the answer: %.*s", (int)(m->header_bytes + m->payload_bytes),
                       (const char *)m->payload - m->header_bytes);
        return;
    }
    load_hist_record(&c->run->timed.hists[c->worker->index], now - c->sent_ns);
    c->is_waiting = false;
    c->answered++;
    if (may_send(c, now)) send_request(c, now);
}

/* Starts each client at the beginning of a phase; later its answers drive it. */
static uint64_t tick(struct load_worker *worker, uint64_t now)
{
    struct kv *run = worker->loop->owner;
    worker->busy_extra = 0;
    for (uint32_t i = 0; i < run->opts->pubs; i++) {
        struct client *c = &run->clients[i];
        if (c->worker != worker) continue;
        if (!c->is_waiting && may_send(c, now)) send_request(c, now);
        if (c->is_waiting) worker->busy_extra++;
    }
    return UINT64_MAX;
}

static bool open_all(struct kv *run)
{
    for (uint32_t i = 0; i < run->opts->pubs; i++) {
        struct client *c = &run->clients[i];
        char filter[32];
        snprintf(filter, sizeof(filter), "_INBOX.kv%08u.*", i);
        c->worker = load_timed_worker(&run->timed, i);
        if (!load_timed_connect(&run->timed, c->worker, &c->conn, filter, take_message, c))
            return false;
    }
    return true;
}

static void begin_phase(void *context, uint64_t per_client)
{
    struct kv *run = context;
    run->per_client = per_client;
    for (uint32_t i = 0; i < run->opts->pubs; i++) run->clients[i].answered = 0;
}

/* A get needs every key; a put finds none, so that its first lap also makes them. */
static bool prepare(struct load_api *api)
{
    const struct load_opts *o = api->opts;
    if (!o->fills) return true;
    if (!load_api_make_streams(api)) return false;
    return o->workload == LOAD_WORKLOAD_KVPUT || load_api_fill(api, o->subjects);
}

void load_kv_run(const struct load_opts *o, struct load_report *report)
{
    struct kv run = {.opts = o};
    struct load_api api;
    if (!load_api_open(&api, o, report)) return;
    load_timed_init(&run.timed, o, report);
    run.timed.loop.tick = tick;
    run.timed.loop.owner = &run;
    run.clients = calloc(o->pubs, sizeof(run.clients[0]));
    run.payload = malloc(o->size + 1);
    must(run.clients && run.payload);
    memset(run.payload, 'x', o->size);
    for (uint32_t i = 0; i < o->pubs; i++)
        run.clients[i] = (struct client){.conn.fd = -1, .run = &run, .index = i};
    report->unit = o->workload == LOAD_WORKLOAD_KVPUT ? "put" : "get";
    if (prepare(&api) && open_all(&run)) load_timed_run(&run.timed, begin_phase);
    if (!o->keeps && !api.conn.failed) (void)load_api_delete_streams(&api);
    for (uint32_t i = 0; i < o->pubs; i++) load_conn_close(&run.clients[i].conn);
    load_timed_deinit(&run.timed);
    load_api_close(&api);
    free(run.clients);
    free(run.payload);
}
