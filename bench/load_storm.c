#include "bench/load_storm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/load_conn.h"
#include "core/base/must.h"

enum { EVENTS_MAX = 256, WAIT_MS = 20, FAILURES_MAX = 1000, SOURCES = 200, TRIES_PER_SOURCE = 97 };

/* One attempt in flight: dialing -> (INFO) -> logging in -> (PONG) -> closed, and the next begins.
 */
struct attempt {
    struct load_conn conn;
    uint64_t begin_ns;
    bool logged_in; /* CONNECT and PING are on their way */
};

struct storm {
    const struct load_opts *opts;
    struct load_report *report;
    struct attempt *attempts;
    uint8_t *buffer;
    int epoll_fd;
    uint32_t live;
    uint64_t begun;
    uint64_t done;
    uint64_t failures;
};

/* Ports of one source address run out when they wait in TIME_WAIT, so the source moves on. */
static const char *source_address(const struct storm *s, char *into, size_t size)
{
    if (strncmp(s->opts->host, "127.", 4) != 0) return NULL;
    snprintf(into, size, "127.1.0.%u", (unsigned)(2 + s->begun / TRIES_PER_SOURCE % SOURCES));
    return into;
}

static void begin_attempt(struct storm *s, struct attempt *attempt)
{
    char source[32];
    s->begun++;
    attempt->begin_ns = load_probe_now_ns();
    attempt->logged_in = false;
    const char *from = source_address(s, source, sizeof(source));
    if (load_conn_begin(&attempt->conn, s->opts, from) != ERR_OK) {
        s->failures++;
        if (s->failures == 1) load_report_fail(s->report, attempt->conn.error);
        return;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = attempt};
    must(epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, attempt->conn.fd, &event) == 0);
    s->live++;
}

static void end_attempt(struct storm *s, struct attempt *attempt)
{
    if (attempt->conn.failed) {
        s->failures++;
        load_report_fail(s->report, attempt->conn.error);
    } else {
        s->done++;
        load_hist_record(s->report->latency, load_probe_now_ns() - attempt->begin_ns);
        if (s->report->server_version[0] == '\0')
            load_report_take_server(s->report, &attempt->conn);
    }
    load_conn_close(&attempt->conn);
    s->live--;
}

static void serve(struct storm *s, struct attempt *attempt)
{
    struct load_conn *conn = &attempt->conn;
    load_conn_read(conn, s->buffer);
    if (!conn->failed && conn->infos > 0 && !attempt->logged_in) {
        load_conn_login(conn, s->opts);
        load_conn_write(conn); /* an empty socket takes these bytes whole */
        attempt->logged_in = true;
    }
    if (conn->failed || conn->pongs > 0) end_attempt(s, attempt);
}

static void run_phase(struct storm *s, uint64_t end_ns, uint64_t attempts_max)
{
    uint64_t begun_before = s->begun;
    uint64_t deadline = load_probe_now_ns();
    bool is_open = true;
    while (is_open || s->live > 0) {
        struct epoll_event events[EVENTS_MAX];
        uint64_t now = load_probe_now_ns();
        is_open =
            now < end_ns && s->begun - begun_before < attempts_max && s->failures < FAILURES_MAX;
        for (uint32_t i = 0; is_open && i < s->opts->conns; i++) {
            if (s->attempts[i].conn.fd < 0) begin_attempt(s, &s->attempts[i]);
        }
        int count = epoll_wait(s->epoll_fd, events, EVENTS_MAX, WAIT_MS);
        for (int i = 0; i < count; i++) serve(s, events[i].data.ptr);
        if (count > 0)
            deadline = now + s->opts->timeout_ns;
        else if (now > deadline + s->opts->timeout_ns) {
            load_report_fail(s->report, "timed out");
            break;
        }
    }
}

void load_storm_run(const struct load_opts *o, struct load_report *report)
{
    struct storm s = {.opts = o, .report = report};
    s.attempts = calloc(o->conns, sizeof(s.attempts[0]));
    s.buffer = malloc(LOAD_CONN_READ_BYTES);
    s.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    report->latency = calloc(1, sizeof(*report->latency));
    must(s.attempts && s.buffer && report->latency && s.epoll_fd >= 0);
    for (uint32_t i = 0; i < o->conns; i++) s.attempts[i].conn.fd = -1;
    report->unit = "connection";

    if (o->warmup_ns > 0) run_phase(&s, load_probe_now_ns() + o->warmup_ns, UINT64_MAX);
    memset(report->latency, 0, sizeof(*report->latency));
    uint64_t done = s.done;
    if (!load_probe_take(&report->before, o->server_pid, true)) {
        load_report_fail(report, "no process with that --server-pid");
    }
    uint64_t cpu = load_probe_thread_cpu_ns();
    uint64_t end = o->msgs ? UINT64_MAX : report->before.at_ns + o->duration_ns;
    if (report->error[0] == '\0') run_phase(&s, end, o->msgs ? o->msgs : UINT64_MAX);
    (void)load_probe_take(&report->after, o->server_pid, false);
    report->busiest_cpu_ns = load_probe_thread_cpu_ns() - cpu;
    report->wall_ns = report->after.at_ns - report->before.at_ns;
    report->operations = report->delivered = report->expected = s.done - done;
    load_report_add(report, "failures", (double)s.failures);

    for (uint32_t i = 0; i < o->conns; i++) load_conn_close(&s.attempts[i].conn);
    close(s.epoll_fd);
    free(s.buffer);
    free(s.attempts);
}
