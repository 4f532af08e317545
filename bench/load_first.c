#include "bench/load_first.h"

#include <stdio.h>
#include <stdlib.h>

#include "bench/load_api.h"
#include "bench/load_probe.h"
#include "core/base/must.h"

enum {
    ROUNDS = 11,
    SID_FIRST = 3,
    STEP = 104729 /* a prime: the rounds meet different subjects */
};

enum kind { KIND_LITERAL, KIND_ALL, KIND_MIDDLE, KIND_STAR, KIND_COUNT };

static const char *const figures[KIND_COUNT] = {"literal_us", "all_us", "middle_us", "star_us"};
static const char *const worst[KIND_COUNT] = {"literal_max_us", "all_max_us", "middle_max_us",
                                              "star_max_us"};

static void config_of(const struct load_opts *o, enum kind kind, uint64_t number, uint64_t messages,
                      char *into, size_t size)
{
    char subject[LOAD_API_SUBJECT_MAX];
    (void)load_api_subject(o, number, subject);
    switch (kind) {
    case KIND_LITERAL:
        snprintf(into, size, "\"deliver_policy\":\"all\",\"filter_subject\":\"%s\"", subject);
        break;
    case KIND_ALL:
        snprintf(into, size, "\"deliver_policy\":\"all\",\"filter_subject\":\"%s\"",
                 o->subjects > 1 ? "a.>" : "load.js.>");
        break;
    case KIND_MIDDLE:
        snprintf(into, size, "\"deliver_policy\":\"by_start_sequence\",\"opt_start_seq\":%llu",
                 (unsigned long long)(messages / 2 + 1 + number % (messages / 4 + 1)));
        break;
    default:
        snprintf(into, size, "\"deliver_policy\":\"all\",\"filter_subject\":\"%s.*.%03u\"",
                 o->subjects > 1 ? "a" : "load",
                 (unsigned)(number % o->subjects % LOAD_API_SUBJECTS_A_TOKEN));
        break;
    }
}

/* Makes a consumer, waits for its first message, deletes it. Both leave nothing behind. */
static bool once(struct load_api *api, enum kind kind, uint32_t round, uint64_t messages,
                 uint64_t *took_ns)
{
    const struct load_opts *o = api->opts;
    char subject[96], body[512], config[256];
    config_of(o, kind, (uint64_t)(round + 1) * STEP, messages, config, sizeof(config));
    int length =
        snprintf(body, sizeof(body),
                 "{\"stream_name\":\"LOAD0\",\"config\":{\"name\":\"F%d_%u\",\"ack_policy\":"
                 "\"explicit\",\"max_ack_pending\":1,\"deliver_subject\":\"_INBOX.first\","
                 "\"mem_storage\":true,\"inactive_threshold\":5000000000,%s}}",
                 (int)kind, round, config);
    must(length < (int)sizeof(body));
    snprintf(subject, sizeof(subject), "$JS.API.CONSUMER.CREATE.LOAD0.F%d_%u", (int)kind, round);
    uint64_t before = api->others;
    uint64_t begin = load_probe_now_ns();
    if (!load_api_request(api, subject, body)) return false;
    while (api->others == before) {
        if (load_probe_now_ns() - begin > o->timeout_ns) {
            load_report_fail(api->report, "a consumer got no message");
            return false;
        }
        if (!load_api_turn(api)) return false;
    }
    *took_ns = api->other_ns - begin;
    snprintf(subject, sizeof(subject), "$JS.API.CONSUMER.DELETE.LOAD0.F%d_%u", (int)kind, round);
    if (!load_api_request(api, subject, "")) return false;
    if (api->others != before + 1) {
        load_report_fail(api->report, "a consumer got more than it may have unacknowledged");
        return false;
    }
    return true;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool measure(struct load_api *api, uint64_t messages)
{
    for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
        uint64_t took[ROUNDS];
        uint64_t wall = load_probe_now_ns();
        uint32_t count = 0;
        /* A server that needs seconds for one shows that in three rounds. */
        while (count < ROUNDS && (count < 3 || load_probe_now_ns() - wall < UINT64_C(2000000000))) {
            if (!once(api, kind, count, messages, &took[count])) return false;
            count++;
        }
        qsort(took, count, sizeof(took[0]), compare);
        load_report_add(api->report, figures[kind], (double)took[count / 2] / 1e3);
        load_report_add(api->report, worst[kind], (double)took[count - 1] / 1e3);
        api->report->operations += count;
    }
    return true;
}

void load_first_run(const struct load_opts *o, struct load_report *report)
{
    struct load_api api;
    uint64_t messages = 0;
    report->unit = "consumer";
    if (!load_api_open(&api, o, report)) return;
    bool ok = !o->fills || (load_api_make_streams(&api) && load_api_fill(&api, o->msgs));
    ok = ok && load_api_count(&api, &messages);
    load_conn_putf(&api.conn, "SUB _INBOX.first %d\r\n", SID_FIRST);
    if (ok && !load_probe_take(&report->before, o->server_pid, false)) {
        load_report_fail(report, "no process with that --server-pid");
        ok = false;
    }
    ok = ok && measure(&api, messages);
    (void)load_probe_take(&report->after, o->server_pid, false);
    report->wall_ns = report->after.at_ns - report->before.at_ns;
    if (!o->keeps && !api.conn.failed) (void)load_api_delete_streams(&api);
    load_api_close(&api);
}
