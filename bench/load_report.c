#include "bench/load_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/must.h"

void load_report_init(struct load_report *report, const struct load_opts *opts)
{
    *report = (struct load_report){.opts = opts, .unit = "delivery"};
}

void load_report_deinit(struct load_report *report)
{
    free(report->latency);
    report->latency = NULL;
}

void load_report_add(struct load_report *report, const char *name, double value)
{
    must(report->extra_count < LOAD_REPORT_EXTRAS_MAX);
    report->extras[report->extra_count++] = (struct load_extra){.name = name, .value = value};
}

void load_report_fail(struct load_report *report, const char *text)
{
    if (report->error[0] != '\0') return;
    snprintf(report->error, sizeof(report->error), "%s", text);
}

void load_report_take_server(struct load_report *report, const struct load_conn *conn)
{
    _Static_assert(sizeof(report->server_version) == sizeof(conn->server_version), "the same");
    _Static_assert(sizeof(report->server_name) == sizeof(conn->server_name), "the same");
    memcpy(report->server_version, conn->server_version, sizeof(report->server_version));
    memcpy(report->server_name, conn->server_name, sizeof(report->server_name));
}

void load_report_take_phase(struct load_report *report, const struct load_loop *loop)
{
    report->published = loop->published;
    report->expected = loop->expected;
    report->delivered = loop->delivered;
    report->wall_ns = loop->wall_ns;
    report->busiest_cpu_ns = loop->busiest_cpu_ns;
}

static double per_operation(const struct load_report *r, uint64_t before, uint64_t after)
{
    if (r->operations == 0 || after < before) return 0;
    return (double)(after - before) / (double)r->operations;
}

static double client_share(const struct load_report *r)
{
    return r->wall_ns ? (double)r->busiest_cpu_ns / (double)r->wall_ns : 0;
}

static double rate(const struct load_report *r)
{
    return r->wall_ns ? (double)r->operations * 1e9 / (double)r->wall_ns : 0;
}

static bool is_valid(const struct load_report *r)
{
    return r->error[0] == '\0' && r->delivered >= r->expected && r->excess == 0 &&
           r->verify_errors == 0;
}

static void print_text(const char *name, const char *text)
{
    printf(",\"%s\":\"", name);
    for (const char *c = text; *c; c++) {
        if (*c == '"' || *c == '\\')
            printf("\\%c", *c);
        else if ((unsigned char)*c < 0x20)
            printf("\\u%04x", (unsigned char)*c);
        else
            putchar(*c);
    }
    putchar('"');
}

static void print_count(const char *name, uint64_t value)
{
    printf(",\"%s\":%" PRIu64, name, value);
}

static void print_delta(const char *name, uint64_t before, uint64_t after)
{
    printf(",\"%s\":%" PRId64, name, (int64_t)(after - before));
}

static void print_server(const struct load_report *r)
{
    const struct load_probe *a = &r->before;
    const struct load_probe *b = &r->after;
    printf(",\"server\":{\"pid\":%d", (int)r->opts->server_pid);
    print_delta("cpu_ns", a->cpu_ns, b->cpu_ns);
    print_delta("cpu_clock_ns", a->cpu_clock_ns, b->cpu_clock_ns);
    printf(",\"cpu_ns_per_op\":%.2f", per_operation(r, a->cpu_ns, b->cpu_ns));
    print_delta("minor_faults", a->minor_faults, b->minor_faults);
    print_delta("major_faults", a->major_faults, b->major_faults);
    print_delta("switches_voluntary", a->switches_voluntary, b->switches_voluntary);
    print_delta("switches_forced", a->switches_forced, b->switches_forced);
    print_count("threads", b->threads);
    print_count("rss_before", a->rss_bytes);
    print_count("rss_after", b->rss_bytes);
    print_count("pss_before", a->pss_bytes);
    print_count("pss_after", b->pss_bytes);
    printf("}");
}

static void print_latency(const struct load_hist *h)
{
    printf(",\"latency_ns\":{\"count\":%" PRIu64 ",\"mean\":%.0f", h->count,
           h->count ? h->sum / (double)h->count : 0);
    print_count("p50", load_hist_quantile(h, 0.50));
    print_count("p90", load_hist_quantile(h, 0.90));
    print_count("p99", load_hist_quantile(h, 0.99));
    print_count("p999", load_hist_quantile(h, 0.999));
    print_count("p9999", load_hist_quantile(h, 0.9999));
    print_count("max", h->max);
    printf("}");
}

static void print_json(const struct load_report *r)
{
    const struct load_opts *o = r->opts;
    printf("{\"tool\":\"load\",\"ok\":%s", is_valid(r) ? "true" : "false");
    print_text("workload", load_opts_workload_name(o->workload));
    print_text("server_name", r->server_name);
    print_text("server_version", r->server_version);
    print_text("unit", r->unit);
    printf(",\"size\":%u,\"pubs\":%u,\"subs\":%u,\"fanout\":%u,\"groups\":%u,\"threads\":%u",
           o->size, o->pubs, o->subs, o->fanout, o->groups, o->threads);
    printf(",\"verify\":%s", o->verify ? "true" : "false");
    print_count("operations", r->operations);
    print_count("published", r->published);
    print_count("expected", r->expected);
    print_count("delivered", r->delivered);
    print_count("shortfall", r->expected > r->delivered ? r->expected - r->delivered : 0);
    print_count("excess", r->excess);
    print_count("verify_errors", r->verify_errors);
    print_count("wall_ns", r->wall_ns);
    printf(",\"per_second\":%.1f", rate(r));
    if (o->server_pid > 0) print_server(r);
    printf(",\"machine\":{\"busy_ns_per_op\":%.2f",
           per_operation(r, r->before.busy_ns, r->after.busy_ns));
    print_delta("busy_ns", r->before.busy_ns, r->after.busy_ns);
    print_delta("steal_ns", r->before.steal_ns, r->after.steal_ns);
    printf("},\"client\":{\"cpu_ns_per_op\":%.2f,\"busiest_share\":%.3f,\"client_bound\":%s}",
           per_operation(r, r->before.client_cpu_ns, r->after.client_cpu_ns), client_share(r),
           client_share(r) * 100 > LOAD_REPORT_CLIENT_BOUND_PERCENT ? "true" : "false");
    if (r->latency) print_latency(r->latency);
    for (uint32_t i = 0; i < r->extra_count; i++) {
        printf(",\"%s\":%.6g", r->extras[i].name, r->extras[i].value);
    }
    if (r->error[0] != '\0') print_text("error", r->error);
    printf("}\n");
    fflush(stdout);
}

static void print_line(const struct load_report *r)
{
    const struct load_opts *o = r->opts;
    fprintf(stderr, "%-8s %u B %u:%u  %.0f %s/s", load_opts_workload_name(o->workload), o->size,
            o->pubs, o->subs, rate(r), r->unit);
    if (o->server_pid > 0) {
        fprintf(stderr, "  server %.1f ns", per_operation(r, r->before.cpu_ns, r->after.cpu_ns));
    }
    fprintf(stderr, "  machine %.0f ns", per_operation(r, r->before.busy_ns, r->after.busy_ns));
    fprintf(stderr, "  client %.1f ns%s",
            per_operation(r, r->before.client_cpu_ns, r->after.client_cpu_ns),
            client_share(r) * 100 > LOAD_REPORT_CLIENT_BOUND_PERCENT ? " (client-bound)" : "");
    if (r->latency) {
        fprintf(stderr, "  p50 %.1f p99 %.1f p99.9 %.1f max %.0f us",
                (double)load_hist_quantile(r->latency, 0.5) / 1e3,
                (double)load_hist_quantile(r->latency, 0.99) / 1e3,
                (double)load_hist_quantile(r->latency, 0.999) / 1e3, (double)r->latency->max / 1e3);
    }
    for (uint32_t i = 0; i < r->extra_count; i++) {
        fprintf(stderr, "  %s %.4g", r->extras[i].name, r->extras[i].value);
    }
    if (r->delivered < r->expected) {
        fprintf(stderr, "  SHORT by %" PRIu64 " of %" PRIu64, r->expected - r->delivered,
                r->expected);
    }
    if (r->excess > 0) fprintf(stderr, "  EXCESS %" PRIu64, r->excess);
    if (r->verify_errors > 0) fprintf(stderr, "  WRONG %" PRIu64, r->verify_errors);
    if (r->error[0] != '\0') fprintf(stderr, "  FAILED: %s", r->error);
    fprintf(stderr, "\n");
}

bool load_report_print(const struct load_report *report)
{
    print_json(report);
    if (!report->opts->quiet) print_line(report);
    return is_valid(report);
}
