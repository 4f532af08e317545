#include "bench/load_take.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load_api.h"
#include "bench/load_loop.h"
#include "bench/load_probe.h"
#include "core/base/must.h"

enum {
    ACK_TOKENS = 9, /* $JS.ACK.<stream>.<consumer>.<deliveries>.<seq>.<number>.<time>.<pending> */
    TOKEN_DELIVERIES = 4,
    TOKEN_SEQ = 5,
    ACK_PENDING_MAX = 20000,
    CONFIRM_STEP_NS = 1000 * 1000,
};

struct take;

struct taker {
    struct load_conn conn;
    struct take *run;
    uint64_t fetches;  /* made; numbers the inbox of each */
    uint32_t expected; /* of the fetch under way */
};

struct take {
    const struct load_opts *opts;
    struct load_report *report;
    struct load_loop loop;
    struct load_api api;
    struct taker *takers;
    uint8_t *seen; /* a bit for each sequence up to seq_max */
    uint64_t seq_max;
    uint64_t seq_last; /* push: the last one; they come in order */
    uint64_t wanted, taken;
    bool is_begun;
};

/* --- one delivery ---------------------------------------------------------------------------- */

/* Deliveries and sequence out of the reply subject; false: it is no such subject. */
static bool read_reply(const struct load_message *m, uint64_t *deliveries, uint64_t *seq)
{
    const char *at = m->reply;
    const char *end = at + m->reply_bytes;
    if (m->reply_bytes < 8 || memcmp(at, "$JS.ACK.", 8) != 0) return false;
    uint64_t value = 0;
    uint32_t token = 0;
    for (; at < end; at++) {
        if (*at == '.') {
            if (token == TOKEN_DELIVERIES) *deliveries = value;
            if (token == TOKEN_SEQ) *seq = value;
            token++;
            value = 0;
        } else {
            value = value * 10 + (uint64_t)(*at - '0');
        }
    }
    return token == ACK_TOKENS - 1;
}

static void fetch(struct taker *t)
{
    const struct load_opts *o = t->run->opts;
    char body[64];
    int length = snprintf(body, sizeof(body), "{\"batch\":%u,\"expires\":5000000000}", o->batch);
    t->expected = o->batch;
    load_conn_putf(&t->conn,
                   "PUB $JS.API.CONSUMER.MSG.NEXT.LOAD0.TAKE _INBOX.take.%u.%llu %d\r\n%s\r\n",
                   (unsigned)(t - t->run->takers), (unsigned long long)t->fetches++, length, body);
}

/* The value of "name: value" in a block of headers. */
static bool find_header(const struct load_message *m, const char *name, const char **value,
                        int *length)
{
    const char *block = (const char *)m->payload - m->header_bytes;
    const char *at = memmem(block, m->header_bytes, name, strlen(name));
    if (!at) return false;
    at += strlen(name);
    const char *end = memmem(at, (size_t)((const char *)m->payload - at), "\r\n", 2);
    *value = at;
    *length = end ? (int)(end - at) : 0;
    return end != NULL;
}

/* A status: flow control and heartbeats of a push, the end of a fetch. */
static void take_status(struct taker *t, const struct load_message *m)
{
    const char *block = (const char *)m->payload - m->header_bytes;
    const char *stalled;
    int length;
    if (t->run->opts->mode == LOAD_MODE_PUSH) {
        bool is_control = m->header_bytes > 12 && memcmp(block, "NATS/1.0 100", 12) == 0;
        if (!is_control) {
            load_conn_fail(&t->conn, "the consumer ended: %.*s", (int)m->header_bytes, block);
        } else if (m->reply) {
            load_conn_putf(&t->conn, "PUB %.*s 0\r\n\r\n", (int)m->reply_bytes, m->reply);
        } else if (find_header(m, "Nats-Consumer-Stalled: ", &stalled, &length)) {
            load_conn_putf(&t->conn, "PUB %.*s 0\r\n\r\n", length, stalled);
        }
    } else if (m->header_bytes > 12 && memcmp(block, "NATS/1.0 408", 12) == 0) {
        if (t->run->taken < t->run->wanted) fetch(t);
    } else {
        load_conn_fail(&t->conn, "a fetch ended: %.*s", (int)m->header_bytes, block);
    }
}

static void take_message(struct load_conn *conn, const struct load_message *m)
{
    struct taker *t = conn->owner;
    struct take *run = t->run;
    uint64_t deliveries = 0, seq = 0;
    if (m->header_bytes > 0) {
        take_status(t, m);
        return;
    }
    if (!m->reply) { /* the answer to the request that made the consumer */
        if (memmem(m->payload, m->payload_bytes, "\"error\"", 7) != NULL) {
            load_conn_fail(conn, "%.*s", (int)m->payload_bytes, (const char *)m->payload);
        }
        return;
    }
    bool is_right = read_reply(m, &deliveries, &seq) && deliveries == 1 && seq > 0 &&
                    seq <= run->seq_max && m->payload_bytes == run->opts->size &&
                    !(run->seen[seq / 8] & (1u << (seq % 8)));
    if (run->opts->mode == LOAD_MODE_PUSH && seq != run->seq_last + 1) is_right = false;
    if (!is_right) {
        conn->errors++;
        load_conn_fail(conn, "a delivery that nobody waits for: %.*s", (int)m->reply_bytes,
                       m->reply);
        return;
    }
    run->seen[seq / 8] |= (uint8_t)(1u << (seq % 8));
    run->seq_last = seq;
    run->taken++;
    if (run->opts->mode == LOAD_MODE_ACK) {
        load_conn_putf(conn, "PUB %.*s 4\r\n+ACK\r\n", (int)m->reply_bytes, m->reply);
    }
    if (run->opts->mode != LOAD_MODE_PUSH && --t->expected == 0 && run->taken < run->wanted) {
        fetch(t);
    }
}

/* --- the run --------------------------------------------------------------------------------- */

static bool make_pull_consumer(struct take *run)
{
    char body[256];
    snprintf(
        body, sizeof(body),
        "{\"stream_name\":\"LOAD0\",\"config\":{\"durable_name\":\"TAKE\",\"ack_policy\":\"%s\""
        ",\"deliver_policy\":\"all\",\"max_ack_pending\":%d}}",
        run->opts->mode == LOAD_MODE_ACK ? "explicit" : "none",
        run->opts->mode == LOAD_MODE_ACK ? ACK_PENDING_MAX : -1);
    return load_api_request(&run->api, "$JS.API.CONSUMER.DURABLE.CREATE.LOAD0.TAKE", body);
}

/* As a client's ordered consumer. What the request costs is part of what is measured. */
static void begin_push(struct taker *t)
{
    static const char body[] =
        "{\"stream_name\":\"LOAD0\",\"config\":{\"name\":\"TAKE\",\"deliver_policy\":\"all\","
        "\"ack_policy\":\"none\",\"max_deliver\":1,\"ack_wait\":79200000000000,\"flow_control\":"
        "true,\"idle_heartbeat\":5000000000,\"mem_storage\":true,\"num_replicas\":1,"
        "\"deliver_subject\":\"_INBOX.take.0.data\"}}";
    load_conn_putf(&t->conn,
                   "PUB $JS.API.CONSUMER.CREATE.LOAD0.TAKE _INBOX.take.0.made %zu\r\n%s\r\n",
                   sizeof(body) - 1, body);
}

static uint64_t tick(struct load_worker *worker, uint64_t now)
{
    struct take *run = worker->loop->owner;
    (void)now;
    for (uint32_t i = 0; !run->is_begun && i < run->opts->pubs; i++) {
        if (run->opts->mode == LOAD_MODE_PUSH)
            begin_push(&run->takers[i]);
        else
            fetch(&run->takers[i]);
        load_conn_write(&run->takers[i].conn);
        load_loop_arm(worker, &run->takers[i].conn);
    }
    run->is_begun = true;
    load_api_progress(&run->api, "deliveries", run->taken, run->wanted);
    worker->busy_extra = run->taken < run->wanted;
    for (uint32_t i = 0; i < run->opts->pubs; i++) {
        if (load_conn_has_output(&run->takers[i].conn)) worker->busy_extra++;
    }
    return UINT64_MAX;
}

static bool open_all(struct take *run)
{
    for (uint32_t i = 0; i < run->opts->pubs; i++) {
        struct taker *t = &run->takers[i];
        t->run = run;
        bool ok = load_conn_open(&t->conn, run->opts, NULL) == ERR_OK;
        t->conn.on_message = take_message;
        t->conn.owner = t;
        if (ok && run->opts->mode == LOAD_MODE_PUSH) {
            /* nats-server 2.15.2 holds a push back whose subject only a wildcard takes. */
            load_conn_putf(&t->conn, "SUB _INBOX.take.0.data 1\r\nSUB _INBOX.take.0.made 2\r\n");
        } else if (ok) {
            load_conn_putf(&t->conn, "SUB _INBOX.take.%u.* 1\r\n", i);
        }
        if (!ok || load_conn_flush_wait(&t->conn, run->opts->timeout_ns) != ERR_OK) {
            load_report_fail(run->report, t->conn.error);
            return false;
        }
        load_loop_add(&run->loop, 0, &t->conn);
    }
    return true;
}

/* Until the server has counted every acknowledgement: its work is not done before. */
static bool confirm(struct take *run)
{
    const struct timespec step = {.tv_nsec = CONFIRM_STEP_NS};
    uint64_t begin = load_probe_now_ns();
    do {
        if (!load_api_request(&run->api, "$JS.API.CONSUMER.INFO.LOAD0.TAKE", "")) return false;
        if (load_api_number(&run->api, "num_ack_pending") == 0) return true;
        (void)nanosleep(&step, NULL);
    } while (load_probe_now_ns() - begin < run->opts->timeout_ns);
    load_report_fail(run->report, "not every acknowledgement was counted");
    return false;
}

static void measure(struct take *run)
{
    struct load_report *report = run->report;
    const struct load_opts *o = run->opts;
    struct load_phase phase = {.msgs = run->wanted, .idle_ns = o->timeout_ns};
    if (!load_probe_take(&report->before, o->server_pid, true)) {
        load_report_fail(report, "no process with that --server-pid");
        return;
    }
    bool ok = load_loop_run(&run->loop, &phase);
    if (!ok) {
        const char *error = load_loop_error(&run->loop);
        load_report_fail(report, error ? error : "timed out");
    }
    if (ok && o->mode == LOAD_MODE_ACK) ok = confirm(run);
    (void)load_probe_take(&report->after, o->server_pid, true);
    load_report_take_phase(report, &run->loop);
    report->wall_ns = report->after.at_ns - report->before.at_ns;
    report->operations = report->delivered = run->taken;
    report->expected = run->wanted;
}

/* How much there is to read; the sequences of the stream begin anywhere. */
static bool look(struct take *run)
{
    uint64_t messages;
    if (!load_api_count(&run->api, &messages)) return false;
    uint64_t first = load_api_number(&run->api, "first_seq");
    run->seq_max = load_api_number(&run->api, "last_seq");
    run->seq_last = first > 0 ? first - 1 : 0;
    run->wanted = messages;
    run->seen = calloc(run->seq_max / 8 + 1, 1);
    must(run->seen != NULL);
    if (messages == 0) load_report_fail(run->report, "the stream holds nothing");
    return messages > 0;
}

void load_take_run(const struct load_opts *o, struct load_report *report)
{
    struct take run = {.opts = o, .report = report};
    report->unit = "delivery";
    if (!load_api_open(&run.api, o, report)) return;
    run.takers = calloc(o->pubs, sizeof(run.takers[0]));
    must(run.takers != NULL);
    for (uint32_t i = 0; i < o->pubs; i++) run.takers[i].conn.fd = -1;
    load_loop_init(&run.loop, 1);
    run.loop.tick = tick;
    run.loop.owner = &run;
    bool ok = !o->fills || (load_api_make_streams(&run.api) && load_api_fill(&run.api, o->msgs));
    ok = ok && look(&run) && (o->mode == LOAD_MODE_PUSH || make_pull_consumer(&run));
    ok = ok && open_all(&run);
    if (ok) measure(&run);
    ok = ok && load_api_request(&run.api, "$JS.API.CONSUMER.DELETE.LOAD0.TAKE", "");
    if (!o->keeps && !run.api.conn.failed) (void)load_api_delete_streams(&run.api);
    for (uint32_t i = 0; i < o->pubs; i++) load_conn_close(&run.takers[i].conn);
    load_loop_deinit(&run.loop);
    load_api_close(&run.api);
    free(run.takers);
    free(run.seen);
}
