#include <criterion/criterion.h>
#include <stdio.h>
#include "core/js/direct.h"
#include "tests/support/mem_heap.h"

static const int64_t now_ns = INT64_C(1795263937500000000);

struct rig {
    struct mem_heap heap;
    struct arena arena;
    struct stream stream;
    struct text out;
    struct record records[5];
};

static void rig_init(struct rig *r)
{
    static const char *const subjects[] = {"", "s.0", "s.1", "s.0", "s.1"};
    struct bytes subject = BYTES_LITERAL("s.*");
    struct stream_config c = {.name = BYTES_LITERAL("S"), .subjects = {&subject, 1}};
    memset(r, 0, sizeof *r);
    c.max_msgs = c.max_bytes = c.max_msgs_per_subject = -1;
    c.storage = STREAM_FILE;
    mem_heap_init(&r->heap);
    arena_init(&r->arena, &r->heap.mem, MEM_JETSTREAM);
    text_init(&r->out, &r->heap.mem, MEM_JETSTREAM, 1 << 16);
    cr_assert_eq(stream_init(&r->stream, &r->heap.mem, 1, 0, &c, now_ns, 1), ERR_OK);
    for (uint64_t i = 1; i <= 4; i++) {
        r->records[i] = (struct record){.kind = RECORD_MESSAGE, .seq = i, .time_ns = now_ns};
        r->records[i].subject = bytes_from_text(subjects[i]);
        r->records[i].body = BYTES_LITERAL("x");
        cr_assert_eq(stream_replay(&r->stream, &r->records[i], i), ERR_OK);
    }
    r->records[4].headers = BYTES_LITERAL("NATS/1.0\r\nA: b\r\n\r\n");
}

/* piece: what a turn may do. */
static void expect_by(struct rig *r, uint32_t piece, const char *key, const char *body,
                      const char *answers)
{
    struct direct d;
    struct msgs_entry entry;
    uint64_t seq;
    text_clear(&r->out);
    const char *status = direct_begin(&d, &r->stream, &r->arena, bytes_from_text(key),
                                      BYTES_LITERAL(""), bytes_from_text(body), 1000);
    if (status != NULL) {
        cr_assert_str_eq(status, answers);
        return;
    }
    enum direct_step step;
    uint32_t left = piece;
    while ((step = direct_next(&d, &r->stream, &left, &seq, &entry)) != DIRECT_OVER) {
        if (step == DIRECT_MESSAGE) direct_write(&d, &r->stream, &r->records[seq], &r->out);
        left = piece;
    }
    (void)direct_write_end(&d, &r->out);
    direct_end(&d);
    cr_assert(bytes_equal(text_written(&r->out), bytes_from_text(answers)), "%s: %.*s", body,
              (int)r->out.len, r->out.data);
}

/* In however many turns. */
static void expect(struct rig *r, const char *key, const char *body, const char *answers)
{
    static const uint32_t pieces[] = {SIEVE_STEP, 5000, 200};
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++)
        expect_by(r, pieces[i], key, body, answers);
}

/* Answers of nats-server 2.15.2. */
Test(direct, answers_as_nats_server_does)
{
#define HEAD(seq, subject)                                                                         \
    "Nats-Stream: S\r\nNats-Subject: " subject "\r\nNats-Sequence: " seq                           \
    "\r\nNats-Time-Stamp: 2026-11-21T12:25:37.5Z\r\n"
    struct rig r;
    rig_init(&r);
    expect(&r, "", "{\"seq\":3}", "NATS/1.0\r\n" HEAD("3", "s.0") "\r\n");
    expect(&r, "s.1", "", "NATS/1.0\r\nA: b\r\n" HEAD("4", "s.1") "\r\n");
    expect(&r, "s.1", "{\"no_hdr\":true}", "");
    expect(&r, "s.9", "", "NATS/1.0 404 Message Not Found\r\n\r\n");
    cr_assert(stream_remove(&r.stream, 1));
    expect(&r, "", "{\"seq\":1}", "NATS/1.0 404 Message Not Found\r\n\r\n");
    expect(&r, "", "{\"seq\":1,\"batch\":5,\"next_by_subj\":\"s.1\"}",
           "NATS/1.0\r\n" HEAD(
               "2", "s.1") "Nats-Num-Pending: 1\r\nNats-Last-Sequence: 0\r\n\r\n"
                           "NATS/1.0\r\nA: b\r\n" HEAD(
                               "4", "s.1") "Nats-Num-Pending: 0\r\nNats-Last-Sequence: 2\r\n\r\n"
                                           "NATS/1.0 204 EOB\r\nNats-Num-Pending: "
                                           "0\r\nNats-Last-Sequence: 4\r\n\r\n");
    expect(&r, "", "{\"seq\":1,\"batch\":-1}",
           "NATS/1.0 204 EOB\r\nNats-Num-Pending: 3\r\nNats-Last-Sequence: 0\r\n\r\n");
    expect(&r, "", "", "NATS/1.0 408 Empty Request\r\n\r\n");
    expect(&r, "", "{}", "NATS/1.0 408 Empty Request\r\n\r\n");
    expect(&r, "", "{", "NATS/1.0 408 Malformed Request\r\n\r\n");
    expect(&r, "", "{\"seq\":1,\"last_by_subj\":\"a\"}", "NATS/1.0 408 Bad Request\r\n\r\n");
    expect(&r, "s.1", "{\"seq\":1}", "NATS/1.0 408 Bad Request\r\n\r\n");
    stream_deinit(&r.stream);
    arena_deinit(&r.arena);
    text_deinit(&r.out);
    cr_assert_eq(r.heap.live_count, 0);
}

#define EOB(pending, last, up_to)                                                                  \
    "NATS/1.0 204 EOB\r\nNats-Num-Pending: " pending "\r\nNats-Last-Sequence: " last               \
    "\r\nNats-UpTo-Sequence: " up_to "\r\n\r\n"
#define PENDING(pending, last)                                                                     \
    "Nats-Num-Pending: " pending "\r\nNats-Last-Sequence: " last "\r\n\r\n"

Test(direct, the_last_messages_of_many_subjects_come_in_order)
{
    struct rig r;
    rig_init(&r);
    expect(&r, "", "{\"multi_last\":[\"s.*\",\"s.1\"]}",
           "NATS/1.0\r\n" HEAD("3", "s.0") PENDING("1", "0") "NATS/1.0\r\nA: b\r\n" HEAD("4", "s.1")
               PENDING("0", "3") EOB("0", "4", "4"));
    expect(&r, "", "{\"multi_last\":[\">\"],\"up_to_seq\":3,\"batch\":1}",
           "NATS/1.0\r\n" HEAD("2", "s.1") PENDING("1", "0") EOB("1", "2", "3"));
    expect(&r, "", "{\"multi_last\":[\">\"],\"max_bytes\":1}",
           "NATS/1.0\r\n" HEAD("3", "s.0") PENDING("1", "0") EOB("1", "3", "4"));
    expect(&r, "", "{\"multi_last\":[\">\"],\"seq\":40}", EOB("0", "0", "4"));
    expect(&r, "", "{\"multi_last\":[\"q\",\"a..b\"]}", "NATS/1.0 404 No Results\r\n\r\n");
    expect(&r, "", "{\"multi_last\":[\"s.0\"],\"up_to_time\":\"2020-01-01T00:00:00Z\"}",
           "NATS/1.0 404 No Results\r\n\r\n");
    expect(&r, "", "{\"multi_last\":[\"s.0\"],\"last_by_subj\":\"s.0\"}",
           "NATS/1.0 408 Bad Request\r\n\r\n");
    for (uint64_t seq = 5; seq < 5 + DIRECT_MULTI_MAX; seq++) {
        char subject[20];
        size_t len = bytes_u64_text(subject, seq);
        struct record record = {.kind = RECORD_MESSAGE, .seq = seq, .time_ns = now_ns};
        record.subject = bytes_of(subject, len);
        cr_assert_eq(stream_replay(&r.stream, &record, seq), ERR_OK);
    }
    expect(&r, "", "{\"multi_last\":[\">\",\"*\"]}", "NATS/1.0 413 Too Many Results\r\n\r\n");
    stream_deinit(&r.stream);
    arena_deinit(&r.arena);
    text_deinit(&r.out);
    cr_assert_eq(r.heap.live_count, 0);
}

static void store(struct rig *r, uint64_t seq, const char *subject)
{
    struct record record = {.kind = RECORD_MESSAGE, .seq = seq, .time_ns = now_ns};
    record.subject = bytes_from_text(subject);
    cr_assert_eq(stream_replay(&r->stream, &record, seq), ERR_OK);
}

Test(direct, a_filter_over_many_subjects_takes_many_turns_and_misses_no_key_that_changes_meanwhile)
{
    enum { COUNT = 20000 };
    struct rig r;
    struct direct d;
    struct msgs_entry entry;
    uint64_t seq = 4, found, last_a = 0;
    uint32_t turns = 0, count = 0, left;
    enum direct_step step;
    rig_init(&r);
    r.stream.config.max_msgs_per_subject = 1;
    store(&r, ++seq, "k.0.a");
    for (int i = 0; i < COUNT; i++) {
        char subject[32];
        snprintf(subject, sizeof subject, "k.%d.b", i);
        store(&r, ++seq, subject);
    }
    const char *status = direct_begin(&d, &r.stream, &r.arena, BYTES_LITERAL(""), BYTES_LITERAL(""),
                                      BYTES_LITERAL("{\"multi_last\":[\"k.*.a\"]}"), 1000);
    cr_assert_null(status);
    do {
        left = SIEVE_STEP / 4;
        step = direct_next(&d, &r.stream, &left, &found, &entry);
        if (step == DIRECT_MESSAGE) last_a = found;
        count += step == DIRECT_MESSAGE;
        if (turns++ == 2) store(&r, ++seq, "k.0.a");
    } while (step != DIRECT_OVER);
    cr_assert_gt(turns, 10);
    cr_assert_eq(count, 1);
    cr_assert_eq(last_a, seq);
    direct_end(&d);
    stream_deinit(&r.stream);
    arena_deinit(&r.arena);
    text_deinit(&r.out);
    cr_assert_eq(r.heap.live_count, 0);
}
