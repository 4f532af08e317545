#include "bench/load_scale.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/load_conn.h"
#include "bench/load_flow.h"
#include "bench/load_loop.h"
#include "bench/load_tape.h"
#include "core/base/must.h"

enum {
    SUBJECT_BYTES = 22, /* "load.s.nnnnn.nnnnnnnnn" */
    SUBJECTS_PER_TOKEN = 1000,
    SID_FIRST = 10000000, /* sids of one width */
    SID_BYTES = 8,
    MATCH_FRAMES_MAX = 200000, /* random subjects on the tape of the match phase */
    SETTLE_NS = 500 * 1000 * 1000,
};

static void sleep_ns(uint64_t ns)
{
    struct timespec left = {.tv_sec = (time_t)(ns / 1000000000u),
                            .tv_nsec = (long)(ns % 1000000000u)};
    while (nanosleep(&left, &left) != 0) continue;
}

static size_t subject_number(char *into, uint64_t number)
{
    int length =
        snprintf(into, SUBJECT_BYTES + 1, "load.s.%05u.%09u",
                 (unsigned)(number / SUBJECTS_PER_TOKEN), (unsigned)(number % SUBJECTS_PER_TOKEN));
    must(length == SUBJECT_BYTES);
    return SUBJECT_BYTES;
}

/* --- subs ----------------------------------------------------------------------------------- */

struct draw {
    uint64_t state;
    uint64_t count;
};

/* xorshift64*: good enough to spread the subjects of the match phase. */
static size_t draw_subject(char *into, uint64_t index, void *context)
{
    struct draw *draw = context;
    draw->state ^= draw->state >> 12;
    draw->state ^= draw->state << 25;
    draw->state ^= draw->state >> 27;
    uint64_t mixed = draw->state * UINT64_C(0x2545f4914f6cdd1d);
    return subject_number(into, (uint64_t)(((__uint128_t)mixed * draw->count) >> 64));
}

/* All SUB lines are written before the clock starts, so that it shows the server. */
static void put_subscriptions(struct load_conn *conn, uint64_t first, uint64_t count)
{
    char line[SUBJECT_BYTES + 32];
    memcpy(line, "SUB ", 4);
    for (uint64_t i = first; i < first + count; i++) {
        size_t length = 4 + subject_number(line + 4, i);
        int rest = snprintf(line + length, sizeof(line) - length, " %llu\r\n",
                            (unsigned long long)(SID_FIRST + i));
        load_conn_put(conn, line, length + (size_t)rest);
    }
}

static bool insert(struct load_conn *conn, const struct load_opts *o, struct load_report *report)
{
    /* In slices, so that the prepared lines stay within LOAD_CONN_OUT_MAX. */
    const uint64_t slice = 500000;
    uint64_t spent = 0;
    uint64_t cpu = 0;
    uint64_t client = 0;
    uint64_t busy = 0;
    struct load_probe a;
    struct load_probe b;
    if (!load_probe_take(&report->before, o->server_pid, true)) {
        load_report_fail(report, "no process with that --server-pid");
        return false;
    }
    for (uint64_t first = 0; first < o->subjects; first += slice) {
        uint64_t count = o->subjects - first < slice ? o->subjects - first : slice;
        put_subscriptions(conn, first, count);
        (void)load_probe_take(&a, o->server_pid, false);
        if (load_conn_flush_wait(conn, 6 * o->timeout_ns) != ERR_OK) {
            load_report_fail(report, conn->error);
            return false;
        }
        (void)load_probe_take(&b, o->server_pid, false);
        spent += b.at_ns - a.at_ns;
        cpu += b.cpu_ns - a.cpu_ns;
        busy += b.busy_ns - a.busy_ns;
        client += b.client_cpu_ns - a.client_cpu_ns;
    }
    sleep_ns(SETTLE_NS);
    (void)load_probe_take(&b, o->server_pid, true);
    double n = o->subjects;
    load_report_add(report, "insert_cpu_ns", (double)cpu / n);
    load_report_add(report, "insert_machine_ns", (double)busy / n);
    load_report_add(report, "insert_client_ns", (double)client / n);
    load_report_add(report, "insert_per_second", n * 1e9 / (double)spent);
    double rss = ((double)b.rss_bytes - (double)report->before.rss_bytes) / n;
    double pss = ((double)b.pss_bytes - (double)report->before.pss_bytes) / n;
    load_report_add(report, "rss_per_sub", rss);
    load_report_add(report, "pss_per_sub", pss);
    load_report_add(report, "rss_per_sub_beyond_subject", rss - SUBJECT_BYTES);
    return true;
}

void load_scale_run_subs(const struct load_opts *o, struct load_report *report)
{
    struct load_loop loop;
    struct load_tape tape = {0};
    struct load_conn sub = {.fd = -1};
    struct load_conn pub_conn = {.fd = -1};
    struct draw draw = {.state = o->seed * 2 + 1, .count = o->subjects};
    load_loop_init(&loop, o->threads);
    loop.window = load_flow_window(o, 1);
    load_tape_build(&tape, o->subjects < MATCH_FRAMES_MAX ? o->subjects : MATCH_FRAMES_MAX, o->size,
                    draw_subject, &draw);
    struct load_pub pub = {.tape = &tape, .fan = 1};
    if (load_conn_open(&sub, o, NULL) != ERR_OK) {
        load_report_fail(report, sub.error);
        goto close;
    }
    load_report_take_server(report, &sub);
    if (load_conn_open(&pub_conn, o, NULL) != ERR_OK) {
        load_report_fail(report, pub_conn.error);
        goto close;
    }
    if (!insert(&sub, o, report)) goto close;
    load_report_add(report, "subscriptions", o->subjects);
    sub.stride_bytes = load_tape_stride(SUBJECT_BYTES, SID_BYTES, o->size);
    pub_conn.pub = &pub;
    load_loop_add(&loop, o->threads - 1, &sub);
    load_loop_add(&loop, 0, &pub_conn);
    (void)load_flow_measure(&loop, o, 1, report);
    report->operations = report->delivered;
close:
    load_conn_close(&sub);
    load_conn_close(&pub_conn);
    load_tape_free(&tape);
    load_loop_deinit(&loop);
}

/* --- idle ----------------------------------------------------------------------------------- */

/* One source address has some 28,000 ports; loopback has many addresses. */
static const char *source_address(const struct load_opts *o, uint32_t index, char *into,
                                  size_t size)
{
    if (strncmp(o->host, "127.", 4) != 0) return NULL;
    snprintf(into, size, "127.0.%u.%u", index / 10000 / 250 % 250, 2 + index / 10000 % 250);
    return into;
}

void load_scale_run_idle(const struct load_opts *o, struct load_report *report)
{
    char source[32];
    uint32_t opened = 0;
    struct load_conn *conns = calloc(o->conns, sizeof(conns[0]));
    must(conns != NULL);
    report->unit = "connection";
    if (!load_probe_take(&report->before, o->server_pid, true)) {
        load_report_fail(report, "no process with that --server-pid");
    }
    uint64_t cpu_begin = load_probe_thread_cpu_ns();
    while (opened < o->conns && report->error[0] == '\0') {
        struct load_conn *conn = &conns[opened];
        const char *from = source_address(o, opened, source, sizeof(source));
        if (load_conn_open(conn, o, from) == ERR_OK)
            opened++;
        else
            load_report_fail(report, conn->error);
    }
    report->busiest_cpu_ns = load_probe_thread_cpu_ns() - cpu_begin;
    report->wall_ns = load_probe_now_ns() - report->before.at_ns;
    sleep_ns(2 * SETTLE_NS);
    (void)load_probe_take(&report->after, o->server_pid, true);
    report->operations = opened;
    report->expected = o->conns;
    report->delivered = opened;
    if (opened > 0) {
        load_report_take_server(report, &conns[0]);
        double rss = (double)report->after.rss_bytes - (double)report->before.rss_bytes;
        double pss = (double)report->after.pss_bytes - (double)report->before.pss_bytes;
        load_report_add(report, "rss_per_conn", rss / opened);
        load_report_add(report, "pss_per_conn", pss / opened);
    }
    for (uint32_t i = 0; i < opened; i++) load_conn_close(&conns[i]);
    free(conns);
}
