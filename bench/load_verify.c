#include "bench/load_verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/must.h"

void load_verify_init(struct load_verify *verify)
{
    must(verify->sid_count > 0 && verify->publisher_count > 0);
    verify->next = calloc((size_t)verify->sid_count * verify->publisher_count, sizeof(uint64_t));
    must(verify->next != NULL);
    verify->sum = 0;
}

void load_verify_deinit(struct load_verify *verify)
{
    free(verify->next);
    verify->next = NULL;
}

uint64_t load_verify_mix(uint64_t publisher, uint64_t seq)
{
    uint64_t x = (seq + 1) * UINT64_C(0x9e3779b97f4a7c15) + publisher;
    x ^= x >> 31;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    return x ^ (x >> 29);
}

/* A fault is counted and the first one is told; the run goes on, so that all are counted. */
static void fault(struct load_conn *conn, const char *what, uint64_t publisher, uint64_t seq)
{
    conn->errors++;
    if (conn->error[0] != '\0') return;
    snprintf(conn->error, sizeof(conn->error), "%s: publisher %llu message %llu", what,
             (unsigned long long)publisher, (unsigned long long)seq);
}

static bool is_subject_right(const struct load_verify *v, const struct load_message *m,
                             uint64_t publisher, uint64_t seq)
{
    const struct load_tape *tape = &v->tapes[publisher];
    const uint8_t *frame = tape->data + (seq % tape->frame_count) * tape->frame_bytes;
    const char *subject = (const char *)frame + strlen("PUB ");
    size_t length = strlen(v->subject_has);
    return m->subject_bytes >= length && memcmp(m->subject, v->subject_has, length) == 0 &&
           memcmp(m->subject, subject, m->subject_bytes) == 0 && subject[m->subject_bytes] == ' ';
}

void load_verify_message(struct load_conn *conn, const struct load_message *m)
{
    struct load_verify *v = conn->owner;
    uint64_t publisher = 0;
    uint64_t seq = 0;
    if (!load_tape_check_payload(m->payload, m->payload_bytes, &publisher, &seq)) {
        fault(conn, "content differs", publisher, seq);
        return;
    }
    if (publisher - v->publisher_first >= v->publisher_count || m->header_bytes > 0 || m->reply) {
        fault(conn, "not for this subscriber", publisher, seq);
        return;
    }
    if (m->payload_bytes != v->tapes[publisher].size) fault(conn, "length differs", publisher, seq);
    if (!is_subject_right(v, m, publisher, seq)) fault(conn, "subject differs", publisher, seq);
    if (m->sid - v->sid_first >= v->sid_count) {
        fault(conn, "unknown sid", publisher, seq);
        return;
    }
    uint64_t row = (m->sid - v->sid_first) * v->publisher_count;
    uint64_t *next = &v->next[row + (publisher - v->publisher_first)];
    if (seq < *next) fault(conn, "late or twice", publisher, seq);
    if (v->is_dense && seq > *next) fault(conn, "gap", publisher, seq);
    *next = seq + 1;
    v->sum += load_verify_mix(publisher, seq);
}
