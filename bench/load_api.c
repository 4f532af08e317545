#include "bench/load_api.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/load_probe.h"
#include "core/base/must.h"

enum {
    BODY_MAX = 512,
    WAIT_MS = 100,
    REQUESTS_MAX = 64,       /* creates and deletes in flight */
    COUNTED_STREAMS = 16,    /* asked for how much they hold */
    BURST_BYTES = 64 * 1024, /* of output before the socket is looked at */
    SID_ANSWER = 1,
    SID_ACK = 2,
    HEAD_MAX = 160,
    PROGRESS_NS = 500 * 1000 * 1000,
    DRAIN_STEP_NS = 100 * 1000 * 1000,
    DRAIN_STEPS = 10, /* without a byte */
};

/* However long a server packs: a run must end. */
static const uint64_t DRAIN_MAX_NS = UINT64_C(120) * 1000 * 1000 * 1000;

static void take_message(struct load_conn *conn, const struct load_message *m)
{
    struct load_api *api = conn->owner;
    const char *text = (const char *)m->payload;
    if (m->sid > SID_ACK) {
        api->others++;
        api->other_ns = m->now_ns;
        return;
    }
    if (m->header_bytes > 0) {
        load_conn_fail(conn, "JetStream is not enabled, or no stream takes %.*s",
                       (int)m->subject_bytes, m->subject);
    } else if (memmem(text, m->payload_bytes, "\"error\"", 7) != NULL) {
        load_conn_fail(conn, "%.*s", (int)m->payload_bytes, text);
    } else if (m->sid == SID_ACK) {
        if (m->payload_bytes < 10 || memcmp(text, "{\"stream\":", 10) != 0) {
            load_conn_fail(conn, "not stored: %.*s", (int)m->payload_bytes, text);
        }
        api->acks++;
    } else {
        if (m->payload_bytes >= api->answer_size) {
            api->answer_size = (size_t)m->payload_bytes + 1;
            api->answer = realloc(api->answer, api->answer_size);
            must(api->answer != NULL);
        }
        memcpy(api->answer, text, m->payload_bytes);
        api->answer[m->payload_bytes] = '\0';
        api->answers++;
    }
}

bool load_api_open(struct load_api *api, const struct load_opts *opts, struct load_report *report)
{
    *api = (struct load_api){.opts = opts, .report = report};
    api->progress_ns = load_probe_now_ns();
    if (load_conn_open(&api->conn, opts, NULL) != ERR_OK) {
        load_report_fail(report, api->conn.error);
        api->conn.fd = -1;
        return false;
    }
    load_report_take_server(report, &api->conn);
    api->conn.on_message = take_message;
    api->conn.owner = api;
    api->buffer = malloc(LOAD_CONN_READ_BYTES);
    must(api->buffer != NULL);
    load_conn_putf(&api->conn, "SUB _INBOX.api.answer %d\r\nSUB _INBOX.api.ack %d\r\n", SID_ANSWER,
                   SID_ACK);
    return true;
}

void load_api_close(struct load_api *api)
{
    load_conn_close(&api->conn);
    free(api->buffer);
    free(api->answer);
    api->buffer = NULL;
    api->answer = NULL;
}

bool load_api_turn(struct load_api *api)
{
    struct load_conn *conn = &api->conn;
    load_conn_write(conn);
    struct pollfd poll_fd = {.fd = conn->fd, .events = POLLIN};
    if (load_conn_has_output(conn)) poll_fd.events |= POLLOUT;
    (void)poll(&poll_fd, 1, WAIT_MS);
    if (poll_fd.revents & (POLLIN | POLLERR | POLLHUP)) load_conn_read(conn, api->buffer);
    if (conn->failed) load_report_fail(api->report, conn->error);
    return !conn->failed;
}

/* Turns until *count has reached `wanted`; gives up when it stands still for the time-out. */
static bool wait_for(struct load_api *api, const uint64_t *count, uint64_t wanted, const char *what)
{
    uint64_t last = *count;
    uint64_t moved_ns = load_probe_now_ns();
    while (*count < wanted) {
        if (!load_api_turn(api)) return false;
        uint64_t now = load_probe_now_ns();
        if (*count != last) {
            last = *count;
            moved_ns = now;
        } else if (now - moved_ns > api->opts->timeout_ns) {
            load_conn_fail(&api->conn, "no answer to %s", what);
            load_report_fail(api->report, api->conn.error);
            return false;
        }
    }
    return true;
}

static void put_request(struct load_api *api, const char *subject, const char *body)
{
    size_t length = strlen(body);
    load_conn_putf(&api->conn, "PUB %s _INBOX.api.answer %zu\r\n", subject, length);
    load_conn_put(&api->conn, body, length);
    load_conn_put(&api->conn, "\r\n", 2);
}

bool load_api_request(struct load_api *api, const char *subject, const char *body)
{
    uint64_t wanted = api->answers + 1;
    put_request(api, subject, body);
    return wait_for(api, &api->answers, wanted, subject);
}

uint64_t load_api_number(const struct load_api *api, const char *name)
{
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "\"%s\":", name);
    const char *at = api->answer ? strstr(api->answer, wanted) : NULL;
    return at ? strtoull(at + strlen(wanted), NULL, 10) : 0;
}

void load_api_progress(struct load_api *api, const char *what, uint64_t done, uint64_t total)
{
    uint64_t now = load_probe_now_ns();
    if (api->opts->quiet || now - api->progress_ns < PROGRESS_NS) return;
    api->progress_ns = now;
    fprintf(stderr, "%s: %.4g k of %.4g k\n", what, (double)done / 1e3, (double)total / 1e3);
}

/* --- streams -------------------------------------------------------------------------------- */

static bool is_bucket(const struct load_opts *o)
{
    return o->workload == LOAD_WORKLOAD_KVPUT || o->workload == LOAD_WORKLOAD_KVGET;
}

static bool has_keys(const struct load_opts *o)
{
    return o->streams == 1 && o->subjects > 1;
}

void load_api_stream_name(const struct load_opts *o, uint32_t index, char *into, size_t size)
{
    if (is_bucket(o))
        snprintf(into, size, "KV_LOAD");
    else
        snprintf(into, size, "LOAD%u", index);
}

size_t load_api_subject(const struct load_opts *o, uint64_t number, char *into)
{
    uint64_t key = number % o->subjects;
    int length;
    if (is_bucket(o)) {
        length = snprintf(into, LOAD_API_SUBJECT_MAX, "$KV.LOAD.k%0*u", LOAD_API_KEY_DIGITS,
                          (unsigned)key);
    } else if (has_keys(o)) {
        length = snprintf(into, LOAD_API_SUBJECT_MAX, "a.%05u.%03u",
                          (unsigned)(key / LOAD_API_SUBJECTS_A_TOKEN),
                          (unsigned)(key % LOAD_API_SUBJECTS_A_TOKEN));
    } else {
        length =
            snprintf(into, LOAD_API_SUBJECT_MAX, "load.js.%06u", (unsigned)(number % o->streams));
    }
    must(length > 0 && length < LOAD_API_SUBJECT_MAX);
    return (size_t)length;
}

/* A bucket as clients make it. */
static void stream_body(const struct load_opts *o, uint32_t index, const char *name, char *into)
{
    char subject[LOAD_API_SUBJECT_MAX];
    const char *more = "";
    snprintf(subject, sizeof(subject), "a.>");
    if (is_bucket(o)) {
        snprintf(subject, sizeof(subject), "$KV.LOAD.>");
        more = ",\"max_msgs_per_subject\":1,\"discard\":\"new\",\"allow_rollup_hdrs\":true,"
               "\"deny_delete\":true,\"allow_direct\":true";
    } else if (!has_keys(o)) {
        (void)load_api_subject(o, index, subject);
    }
    int length =
        snprintf(into, BODY_MAX, "{\"name\":\"%s\",\"subjects\":[\"%s\"],\"storage\":\"%s\"%s}",
                 name, subject, o->in_memory ? "memory" : "file", more);
    must(length < BODY_MAX);
}

static bool for_streams(struct load_api *api, bool is_make)
{
    const struct load_opts *o = api->opts;
    uint64_t first = api->answers;
    for (uint32_t i = 0; i < o->streams; i++) {
        char name[32], subject[64], body[BODY_MAX] = "";
        load_api_stream_name(o, i, name, sizeof(name));
        snprintf(subject, sizeof(subject), "$JS.API.STREAM.%s.%s", is_make ? "CREATE" : "DELETE",
                 name);
        if (is_make) stream_body(o, i, name, body);
        put_request(api, subject, body);
        uint64_t wanted = i + 1 < REQUESTS_MAX ? 0 : i + 1 - REQUESTS_MAX;
        if (!wait_for(api, &api->answers, first + wanted, subject)) return false;
        load_api_progress(api, is_make ? "streams made" : "streams deleted", i, o->streams);
    }
    return wait_for(api, &api->answers, first + o->streams, "the last stream");
}

bool load_api_make_streams(struct load_api *api)
{
    return for_streams(api, true);
}

bool load_api_delete_streams(struct load_api *api)
{
    return for_streams(api, false);
}

bool load_api_count(struct load_api *api, uint64_t *messages)
{
    const struct load_opts *o = api->opts;
    *messages = 0;
    for (uint32_t i = 0; i < o->streams; i++) {
        char name[32], subject[64];
        if (o->streams > COUNTED_STREAMS && i > 0 && i + 1 < o->streams) continue;
        load_api_stream_name(o, i, name, sizeof(name));
        snprintf(subject, sizeof(subject), "$JS.API.STREAM.INFO.%s", name);
        if (!load_api_request(api, subject, "")) return false;
        *messages += load_api_number(api, "messages");
    }
    return true;
}

/* --- filling -------------------------------------------------------------------------------- */

/* How much of `count` messages from `first` on goes to the streams that load_api_count asks. */
static uint64_t counted_part(const struct load_opts *o, uint64_t count)
{
    if (o->streams <= COUNTED_STREAMS) return count;
    uint64_t turns = count / o->streams;
    uint64_t rest = count % o->streams;
    return 2 * turns + (rest > 0 ? 1 : 0);
}

static void put_message(struct load_api *api, uint64_t number, const uint8_t *payload)
{
    const struct load_opts *o = api->opts;
    char head[HEAD_MAX] = "PUB ";
    size_t length = 4 + load_api_subject(o, number, head + 4);
    int rest = snprintf(head + length, sizeof(head) - length, " _INBOX.api.ack %u\r\n", o->size);
    load_conn_put(&api->conn, head, length + (size_t)rest);
    load_conn_put(&api->conn, payload, (size_t)o->size + 2);
}

/* The payload begins with the digits of its key where there is room, so that a get can be checked.
 */
static void stamp(const struct load_opts *o, uint64_t number, uint8_t *payload)
{
    char digits[16]; /* any unsigned, though there are fewer keys than digits for them */
    if (!is_bucket(o) || o->size < LOAD_API_KEY_DIGITS) return;
    snprintf(digits, sizeof(digits), "%0*u", LOAD_API_KEY_DIGITS, (unsigned)(number % o->subjects));
    memcpy(payload, digits, LOAD_API_KEY_DIGITS);
}

static bool publish_all(struct load_api *api, uint64_t count, uint8_t *payload)
{
    const struct load_opts *o = api->opts;
    uint64_t acked_before = api->acks;
    uint64_t moved_ns = load_probe_now_ns();
    for (uint64_t sent = 0, acked = 0; acked < count;) {
        while (sent < count && sent - acked < o->inflight &&
               api->conn.out.end - api->conn.out.begin < BURST_BYTES) {
            stamp(o, sent, payload);
            put_message(api, sent++, payload);
        }
        if (!load_api_turn(api)) return false;
        uint64_t now = load_probe_now_ns();
        if (api->acks - acked_before != acked) moved_ns = now;
        acked = api->acks - acked_before;
        if (load_probe_is_interrupted()) {
            load_report_fail(api->report, "interrupted");
            return false;
        }
        if (now - moved_ns > o->timeout_ns) {
            load_report_fail(api->report, "publishes were not acknowledged");
            return false;
        }
        load_api_progress(api, "messages stored", acked, count);
    }
    return true;
}

bool load_api_fill(struct load_api *api, uint64_t count)
{
    const struct load_opts *o = api->opts;
    uint64_t before, after;
    uint8_t *payload = malloc((size_t)o->size + 2);
    must(payload != NULL);
    memset(payload, 'x', o->size);
    memcpy(payload + o->size, "\r\n", 2);
    bool ok = load_api_count(api, &before) && publish_all(api, count, payload) &&
              load_api_count(api, &after);
    if (ok && !is_bucket(o) && after - before != counted_part(o, count)) {
        load_report_fail(api->report, "the streams do not hold what was acknowledged");
        ok = false;
    }
    free(payload);
    return ok;
}

uint64_t load_api_drain(struct load_api *api)
{
    const struct timespec step = {.tv_nsec = DRAIN_STEP_NS};
    uint64_t begin = load_probe_now_ns();
    uint64_t written = load_probe_written_bytes(api->opts->server_pid);
    for (int still = 0; still < DRAIN_STEPS && load_probe_now_ns() - begin < DRAIN_MAX_NS;) {
        (void)nanosleep(&step, NULL);
        uint64_t now = load_probe_written_bytes(api->opts->server_pid);
        still = now == written ? still + 1 : 0;
        written = now;
    }
    return written;
}
