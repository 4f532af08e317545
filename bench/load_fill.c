#include "bench/load_fill.h"

#include <stdio.h>

#include "bench/load_api.h"
#include "bench/load_probe.h"

/* In turn on all streams: both servers bound how many a stream may have. */
static bool make_consumers(struct load_api *api)
{
    const struct load_opts *o = api->opts;
    for (uint32_t i = 0; i < o->consumers; i++) {
        char subject[96], body[256];
        uint32_t stream = i % o->streams;
        snprintf(subject, sizeof(subject), "$JS.API.CONSUMER.DURABLE.CREATE.LOAD%u.IDLE%u", stream,
                 i);
        snprintf(body, sizeof(body),
                 "{\"stream_name\":\"LOAD%u\",\"config\":{\"durable_name\":\"IDLE%u\","
                 "\"ack_policy\":\"explicit\",\"deliver_policy\":\"all\"}}",
                 stream, i);
        if (!load_api_request(api, subject, body)) return false;
        load_api_progress(api, "consumers made", i, o->consumers);
    }
    return true;
}

static void add_figures(struct load_report *report, const struct load_opts *o, uint64_t written)
{
    double n = report->operations ? (double)report->operations : 1;
    double rss = (double)report->after.rss_bytes - (double)report->before.rss_bytes;
    load_report_add(report, "rss_per_op", rss / n);
    if (o->fills) {
        load_report_add(report, "written_per_byte", (double)written / (n * (double)o->size));
    }
}

static bool fill(struct load_api *api, uint64_t *written)
{
    const struct load_opts *o = api->opts;
    struct load_report *report = api->report;
    *written = load_probe_written_bytes(o->server_pid);
    if (!load_probe_take(&report->before, o->server_pid, true)) {
        load_report_fail(report, "no process with that --server-pid");
        return false;
    }
    uint64_t cpu_begin = load_probe_thread_cpu_ns();
    bool ok = load_api_make_streams(api) && make_consumers(api);
    uint64_t begin = load_probe_now_ns();
    ok = ok && (!o->fills || load_api_fill(api, o->msgs));
    report->wall_ns = load_probe_now_ns() - (o->fills ? begin : report->before.at_ns);
    report->busiest_cpu_ns = load_probe_thread_cpu_ns() - cpu_begin;
    uint64_t drain_begin = load_probe_now_ns();
    uint64_t last = o->drains ? load_api_drain(api) : load_probe_written_bytes(o->server_pid);
    load_report_add(report, "drain_seconds", (double)(load_probe_now_ns() - drain_begin) / 1e9);
    (void)load_probe_take(&report->after, o->server_pid, true);
    *written = last - *written;
    return ok;
}

void load_fill_run(const struct load_opts *o, struct load_report *report)
{
    struct load_api api;
    uint64_t written = 0;
    if (!load_api_open(&api, o, report)) return;
    report->unit = o->fills ? "stored message" : o->consumers > 0 ? "consumer" : "stream";
    bool ok = fill(&api, &written);
    if (ok) {
        report->operations = o->fills ? o->msgs : o->consumers > 0 ? o->consumers : o->streams;
        report->published = o->fills ? o->msgs : 0;
        add_figures(report, o, written);
    }
    if (!o->keeps && !api.conn.failed) (void)load_api_delete_streams(&api);
    load_api_close(&api);
}
