#include "bench/load_jet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load_api.h"
#include "bench/load_conn.h"
#include "bench/load_loop.h"
#include "bench/load_timed.h"
#include "core/base/must.h"

enum {
    HEAD_MAX = 128,     /* "PUB subject inbox size\r\n" */
    NUMBER_DIGITS = 10, /* of a reply subject, behind its inbox */
    BURST_MAX = 64,     /* publishes between two looks at the socket */
};

struct jet;

struct publisher {
    struct load_conn conn;
    struct jet *run;
    struct load_worker *worker;
    uint64_t *sent_ns; /* [inflight]; by number of the publish */
    uint64_t sent;     /* in all phases */
    uint64_t acked;    /* in all phases */
    uint64_t phase_begin;
    uint8_t *frame;
    size_t frame_bytes, number_at;
    char inbox[32];
};

struct jet {
    const struct load_opts *opts;
    struct load_timed timed;
    struct publisher *pubs;
    uint64_t per_pub; /* publishes of each in this phase; UINT64_MAX: by time */
};

/* --- publishing ----------------------------------------------------------------------------- */

static void build_frame(struct publisher *p, uint32_t index, const struct load_opts *o)
{
    char head[HEAD_MAX], subject[LOAD_API_SUBJECT_MAX];
    snprintf(p->inbox, sizeof(p->inbox), "_INBOX.jet%08u.", index);
    (void)load_api_subject(o, index, subject);
    int before = snprintf(head, sizeof(head), "PUB %s %s", subject, p->inbox);
    int length = before + snprintf(head + before, sizeof(head) - (size_t)before, "%0*u %u\r\n",
                                   NUMBER_DIGITS, 0u, o->size);
    must((size_t)length < sizeof(head));
    p->frame_bytes = (size_t)length + o->size + 2;
    p->number_at = (size_t)before;
    p->frame = malloc(p->frame_bytes);
    p->sent_ns = calloc(o->inflight, sizeof(p->sent_ns[0]));
    must(p->frame && p->sent_ns);
    memcpy(p->frame, head, (size_t)length);
    memset(p->frame + length, 'x', o->size);
    memcpy(p->frame + p->frame_bytes - 2, "\r\n", 2);
}

static void put_number(uint8_t *at, uint64_t number)
{
    for (int i = NUMBER_DIGITS; i-- > 0; number /= 10) at[i] = (uint8_t)('0' + number % 10);
}

static bool may_send(const struct publisher *p, uint64_t now)
{
    return p->sent - p->phase_begin < p->run->per_pub && now < p->run->timed.loop.phase.end_ns &&
           p->sent - p->acked < p->run->opts->inflight;
}

/* Fills the window; what is put is written by the loop behind the messages of this read. */
static void send_more(struct publisher *p, uint64_t now)
{
    for (int i = 0; i < BURST_MAX && may_send(p, now); i++) {
        put_number(p->frame + p->number_at, p->sent);
        load_conn_put(&p->conn, p->frame, p->frame_bytes);
        p->sent_ns[p->sent % p->run->opts->inflight] = now;
        p->sent++;
    }
}

/* Acknowledgements of one publisher come in the order of its publishes. */
static void take_ack(struct load_conn *conn, const struct load_message *m)
{
    struct publisher *p = conn->owner;
    uint8_t wanted[NUMBER_DIGITS];
    size_t inbox_bytes = strlen(p->inbox);
    put_number(wanted, p->acked);
    bool is_right = p->acked < p->sent && m->subject_bytes == inbox_bytes + NUMBER_DIGITS &&
                    memcmp(m->subject + inbox_bytes, wanted, NUMBER_DIGITS) == 0;
    bool is_stored = m->payload_bytes > 10 && memcmp(m->payload, "{\"stream\":", 10) == 0;
    if (!is_right || !is_stored) {
        conn->errors++;
        load_conn_fail(conn, "%s: %.*s", is_right ? "not stored" : "an answer out of order",
                       (int)m->payload_bytes, m->payload);
        return;
    }
    uint64_t now = m->now_ns;
    load_hist_record(&p->run->timed.hists[p->worker->index],
                     now - p->sent_ns[p->acked % p->run->opts->inflight]);
    p->acked++;
    send_more(p, now);
}

static uint64_t tick(struct load_worker *worker, uint64_t now)
{
    struct jet *run = worker->loop->owner;
    uint64_t busy = 0;
    for (uint32_t i = 0; i < run->opts->pubs; i++) {
        struct publisher *p = &run->pubs[i];
        if (p->worker != worker) continue;
        uint64_t before = p->sent;
        send_more(p, now);
        if (p->sent != before) {
            load_conn_write(&p->conn);
            load_loop_arm(worker, &p->conn);
        }
        if (p->acked < p->sent || may_send(p, now)) busy++;
    }
    worker->busy_extra = busy;
    return UINT64_MAX;
}

/* --- the run -------------------------------------------------------------------------------- */

static bool open_all(struct jet *run)
{
    for (uint32_t i = 0; i < run->opts->pubs; i++) {
        struct publisher *p = &run->pubs[i];
        char filter[sizeof(p->inbox) + 1];
        p->run = run;
        p->worker = load_timed_worker(&run->timed, i);
        build_frame(p, i, run->opts);
        snprintf(filter, sizeof(filter), "%s*", p->inbox);
        if (!load_timed_connect(&run->timed, p->worker, &p->conn, filter, take_ack, p))
            return false;
    }
    return true;
}

static void begin_phase(void *context, uint64_t per_pub)
{
    struct jet *run = context;
    run->per_pub = per_pub;
    for (uint32_t i = 0; i < run->opts->pubs; i++) run->pubs[i].phase_begin = run->pubs[i].sent;
}

void load_jet_run(const struct load_opts *o, struct load_report *report)
{
    struct jet run = {.opts = o};
    struct load_api api;
    load_timed_init(&run.timed, o, report);
    run.timed.loop.tick = tick;
    run.timed.loop.owner = &run;
    run.pubs = calloc(o->pubs, sizeof(run.pubs[0]));
    must(run.pubs != NULL);
    for (uint32_t i = 0; i < o->pubs; i++) run.pubs[i].conn.fd = -1;
    report->unit = "acked publish";
    bool ok = load_api_open(&api, o, report);
    if (ok && (!o->fills || load_api_make_streams(&api))) {
        if (open_all(&run)) load_timed_run(&run.timed, begin_phase);
        if (!o->keeps && !api.conn.failed) (void)load_api_delete_streams(&api);
    }
    if (ok) load_api_close(&api);
    for (uint32_t i = 0; i < o->pubs; i++) {
        load_conn_close(&run.pubs[i].conn);
        free(run.pubs[i].frame);
        free(run.pubs[i].sent_ns);
    }
    load_timed_deinit(&run.timed);
    free(run.pubs);
}
