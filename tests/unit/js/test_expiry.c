#include <criterion/criterion.h>
#include <stdio.h>
#include "core/js/publish.h"
#include "tests/support/mem_heap.h"

/* What goes with time goes alike in a stream that runs, whose timer fires between records, and at a
 * start, which has the records alone. */
static const int64_t START = INT64_C(1700000000000000000), S = 1000000000;

enum { RAN, STARTED, BOTH, LOOKS_MAX = 1000, BATCH = STREAM_EXPIRE_BATCH };

static struct {
    struct mem_heap heap;
    struct stream streams[BOTH], *at;
    struct stream_config config;
    struct bytes subject;
    uint64_t seq;
} r;

static void removed(void *context, uint64_t seq, const struct msgs_entry *entry)
{
}

static const struct stream_watch watch = {.removed = removed};

static void setup(void)
{
    memset(&r, 0, sizeof r);
    mem_heap_init(&r.heap);
    r.subject = BYTES_LITERAL(">");
    r.config = (struct stream_config){.name = BYTES_LITERAL("S"),
                                      .subjects = {.items = &r.subject, .count = 1},
                                      .storage = STREAM_FILE,
                                      .num_replicas = 1,
                                      .retention = STREAM_LIMITS,
                                      .allow_rollup_hdrs = true,
                                      .allow_msg_ttl = true};
    r.config.max_consumers = r.config.max_msgs = r.config.max_bytes = -1;
    r.config.max_msgs_per_subject = r.config.max_msg_size = -1;
}

static void teardown(void)
{
    for (int i = 0; i < BOTH; i++) stream_deinit(&r.streams[i]);
    cr_expect_eq(r.heap.live_count, 0);
}

TestSuite(expiry, .init = setup, .fini = teardown);

static void begin(int which)
{
    r.at = &r.streams[which];
    r.seq = 0;
    cr_assert_eq(stream_init(r.at, &r.heap.mem, 1, 0, &r.config, START, 5), ERR_OK);
    r.at->watch = &watch;
}

static uint64_t store(const char *subject, const char *life, int64_t at_ns)
{
    char headers[80] = "";
    if (life != NULL) snprintf(headers, sizeof headers, "NATS/1.0\r\nNats-TTL: %s\r\n\r\n", life);
    struct record record = {.kind = RECORD_MESSAGE, .seq = ++r.seq, .time_ns = START + at_ns};
    record.subject = bytes_from_text(subject);
    record.headers = bytes_from_text(headers);
    cr_assert_eq(stream_replay(r.at, &record, r.seq), ERR_OK);
    return r.seq;
}

/* Each of a subject of its own. */
static void store_keys(int count, const char *life, int64_t at_ns)
{
    char subject[20];
    for (int i = 0; i < count; i++) {
        snprintf(subject, sizeof subject, "k.%d", i);
        store(subject, life, at_ns);
    }
}

static void store_of_one(int count, const char *life, int64_t at_ns)
{
    for (int i = 0; i < count; i++) store("n", life, at_ns);
}

static void take_out(enum record_kind kind, const char *filter, uint64_t seq, int64_t at_ns)
{
    struct record record = {.kind = kind, .seq = seq, .time_ns = START + at_ns};
    record.subject = bytes_from_text(filter);
    cr_assert_eq(stream_replay(r.at, &record, 0), ERR_OK);
}

static void configure(int64_t max_age, int64_t at_ns)
{
    struct stream_trim trim = {0};
    while (stream_expire_until(r.at, START + at_ns)) continue; /* as who replays the record does */
    r.config.max_age = max_age;
    cr_assert_eq(stream_update(r.at, &r.config), ERR_OK);
    while (stream_trim(r.at, &trim)) continue;
}

/* The timer, of the one that runs. */
static void look(int64_t at_ns)
{
    if (r.at != &r.streams[RAN]) return;
    int looks = 0;
    while (stream_expire(r.at, START + at_ns)) cr_assert_lt(++looks, LOOKS_MAX, "it gets on");
}

static bool has(uint64_t seq)
{
    return msgs_has(&r.at->msgs, seq);
}

static void expect_same(void)
{
    cr_expect_eq(r.streams[RAN].msgs.live_count, r.streams[STARTED].msgs.live_count);
    for (uint64_t seq = 1; seq <= r.seq; seq++)
        cr_expect_eq(msgs_has(&r.streams[RAN].msgs, seq), msgs_has(&r.streams[STARTED].msgs, seq),
                     "%d", (int)seq);
}

/* More than a piece of messages that stay for ever, before those that are over. */
Test(expiry, a_limit_takes_nothing_that_stays_before_what_is_too_old)
{
    r.config.max_age = 10 * S;
    r.config.max_msgs = 2 * BATCH;
    for (int i = 0; i < BOTH; i++) {
        begin(i);
        store_of_one(BATCH, "never", 0);
        store_of_one(BATCH, NULL, 1);
        look(11 * S);
        store("b", NULL, 20 * S);
        cr_expect(has(1), "%d", i);
        cr_expect_eq(r.at->msgs.live_count, BATCH + 1, "%d", i);
    }
    expect_same();
}

/* More than a piece of lives whose messages a purge took out. */
Test(expiry, what_was_too_old_does_not_come_back_behind_lives_of_what_has_gone)
{
    for (int i = 0; i < BOTH; i++) {
        r.config.max_age = 100 * S;
        begin(i);
        store_keys(2 * BATCH, "60s", 1);
        store_of_one(BATCH, NULL, 2 * S);
        take_out(RECORD_PURGE, "k.>", 0, 5 * S);
        look(61 * S);
        look(103 * S);
        configure(3600 * S, 200 * S);
        cr_expect_eq(r.at->msgs.live_count, 0, "%d", i);
    }
}

static void begin_with_markers(int which)
{
    r.config.max_age = 100 * S;
    r.config.subject_delete_marker_ttl = S;
    begin(which);
}

/* As many bytes as more than a piece of what is over: a limit does not take one that is to have its
 * marker. */
Test(expiry, a_large_message_takes_nothing_that_waits_for_its_marker)
{
    static char subject[40 * BATCH];
    memset(subject, 'l', sizeof subject - 1);
    r.config.max_bytes = sizeof subject + 31 * BATCH;
    for (int i = 0; i < BOTH; i++) {
        begin_with_markers(i);
        store_of_one(BATCH + 200, NULL, 1);
        uint64_t last = store("x", NULL, 1);
        look(101 * S);
        store(subject, NULL, 110 * S);
        cr_expect(has(last), "%d", i);
    }
    expect_same();
}

/* OLD ends by age just before YOUNG, of the same subject, whose life is over then: YOUNG is the
 * last one. By the next record both are over, and what is in front of them as well. */
static void store_and_end_two(void)
{
    uint64_t old = store("x", NULL, 3 * S), young = store("x", "60s", 44 * S);
    look(61 * S);
    look(103 * S + S / 2);
    store("z", NULL, 110 * S);
    cr_expect_not(has(old), "it was not the last");
    cr_expect(has(young), "it waits for its marker");
}

Test(expiry, order_of_ends_behind_lives_of_what_has_gone)
{
    for (int i = 0; i < BOTH; i++) {
        begin_with_markers(i);
        store_keys(2 * BATCH, "60s", 1);
        take_out(RECORD_PURGE, "k.>", 0, 2 * S);
        store_and_end_two();
    }
    expect_same();
}

Test(expiry, order_of_ends_behind_what_stays_for_ever)
{
    for (int i = 0; i < BOTH; i++) {
        begin_with_markers(i);
        store_of_one(BATCH + 100, "never", 1);
        store_and_end_two();
    }
    expect_same();
}

Test(expiry, order_of_ends_behind_what_waits_for_markers)
{
    for (int i = 0; i < BOTH; i++) {
        begin_with_markers(i);
        store_keys(BATCH + 100, NULL, 1);
        store_and_end_two();
        cr_expect_eq(due_count(&r.at->due), BATCH + 101, "%d", i);
    }
    expect_same();
}

/* An erased message was the last of its subject, or not: all that ended before it had gone. */
Test(expiry, an_erasure_finds_what_ended_before_it_gone)
{
    for (int i = 0; i < BOTH; i++) {
        begin_with_markers(i);
        store_of_one(2 * BATCH, NULL, 1);
        uint64_t old = store("x", NULL, 2), young = store("x", "never", S);
        look(101 * S);
        take_out(RECORD_ERASE, "", young, 120 * S);
        cr_expect_not(has(old), "%d", i);
        cr_expect_not(has(young), "%d", i);
    }
    expect_same();
}

/* Another message of its subject comes before the marker: that is not to come any more, and at once
 * what the limits look at is without the one that is over. */
static void expect_replaced(const char *life)
{
    r.config.max_msgs = 3;
    for (int i = 0; i < BOTH; i++) {
        begin_with_markers(i);
        uint64_t kept = store("a", "never", 1), over = store("x", life, 1);
        store("b", "never", 1);
        look(150 * S);
        store("x", NULL, 160 * S);
        cr_expect(has(kept), "%d", i);
        cr_expect_not(has(over), "%d", i);
        cr_expect_eq(due_next(&r.at->due, &r.at->msgs), 0, "%d", i);
    }
    expect_same();
    teardown();
    setup();
}

Test(expiry, another_message_of_the_subject_takes_out_what_waits_for_a_marker)
{
    expect_replaced(NULL);
    expect_replaced("60s");
    for (int i = 0; i < BOTH; i++) begin(i);
}

/* By age it is let be; by its own life it is over whatever the age. */
Test(expiry, a_configuration_without_an_age_lets_be_what_waits_by_age_alone)
{
    for (int i = 0; i < BOTH; i++) {
        begin_with_markers(i);
        uint64_t aged = store("x", NULL, 1), of_life = store("y", "60s", 1);
        uint64_t both = store("z", "120s", 1);
        look(61 * S);
        look(101 * S);
        look(121 * S); /* its life as well */
        cr_expect(i == STARTED || due_count(&r.at->due) == 4, "one of them twice");
        configure(0, 122 * S);
        cr_expect_eq(due_count(&r.at->due), 0, "%d", i);
        (void)stream_expire(r.at, START + 123 * S);
        cr_expect(has(aged) && has(of_life) && has(both), "%d", i);
        cr_expect_eq(due_count(&r.at->due), 2, "%d", i);
        configure(0, 124 * S);
        r.config.subject_delete_marker_ttl = 0;
        configure(0, 125 * S);
        (void)stream_expire(r.at, START + 126 * S);
        cr_expect(has(aged) && !has(of_life) && !has(both), "%d: no marker is to come", i);
    }
}

/* What is over behind many that wait costs a look at each of them once, not with each piece. */
Test(expiry, a_record_looks_once_at_what_waits)
{
    enum { WAIT = BATCH - 4, MORE = 100000 };
    for (int i = 0; i < BOTH; i++) {
        begin_with_markers(i);
        store_keys(WAIT, NULL, 1);
        store_of_one(MORE, NULL, 2);
        uint64_t looks = 0;
        while (stream_expire_until(r.at, START + 110 * S)) looks++;
        cr_expect_leq(looks, (WAIT + MORE) / BATCH + 1);
        cr_expect_eq(r.at->msgs.live_count, WAIT + 1);
    }
}

/* Without memory for what waits it ends later; nothing goes without its marker. */
Test(expiry, what_is_to_wait_is_there_while_there_is_no_memory)
{
    for (int i = 0; i < BOTH; i++) {
        begin_with_markers(i);
        store_keys(10, NULL, 1);
        store_of_one(10, NULL, 2);
        r.heap.fail_at = r.heap.alloc_count + 1;
        r.heap.fail_from = 1;
        cr_expect_not(stream_expire_until(r.at, START + 110 * S),
                      "it does not turn round for ever");
        cr_expect_eq(r.at->msgs.live_count, 20);
        r.heap.fail_at = 0;
        cr_expect_not(stream_expire_until(r.at, START + 110 * S));
        cr_expect_eq(r.at->msgs.live_count, 11);
        cr_expect_eq(due_count(&r.at->due), 11);
    }
}

static void look_at(const char *subject, const char *headers, struct stream_outcome *o)
{
    static char room[PUBLISH_SCRATCH_EXTRA + 4096];
    struct writer w;
    writer_init(&w, room, sizeof room);
    publish_check(r.at, bytes_from_text(subject), bytes_from_text(headers), BYTES_LITERAL(""),
                  START + 110 * S, &w, o);
}

/* What is decided while a publish is in flight stands when it is stored. */
Test(expiry, a_publish_in_flight_takes_out_what_waits_and_not_another)
{
    static const char is_first[] = "NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 0\r\n\r\n";
    struct stream_outcome o;
    r.config.max_msgs = 3;
    for (int i = 0; i < BOTH; i++) {
        begin_with_markers(i);
        uint64_t kept = store("x", "never", 1), over = store("a", NULL, 1);
        store("c", "never", 1);
        cr_expect_not(stream_expire(r.at, START + 109 * S));
        look_at("a", "", &o);
        cr_assert_eq(o.verdict, STREAM_STORE);
        stream_stage(r.at, &o, 1, 1);
        look_at("x", is_first, &o);
        cr_expect_eq(o.verdict, STREAM_REFUSED, "x is there, and stays");
        cr_assert_eq(stream_settle(r.at, 1), ERR_OK);
        cr_expect(has(kept) && !has(over));
        look_at("x", is_first, &o);
        cr_expect_eq(o.verdict, STREAM_REFUSED);
    }
}

/* No message may be let go of without its marker, but publishes do not wait for memory. */
Test(expiry, without_memory_for_what_waits_publishes_go_on)
{
    struct stream_outcome o;
    for (int i = 0; i < BOTH; i++) {
        begin_with_markers(i);
        store_keys(2 * BATCH, "60s", 1);
        look_at("u", "", &o);
        if (o.verdict == STREAM_STORE) stream_cancel(r.at, &o);
        r.heap.fail_at = r.heap.alloc_count + 1;
        r.heap.fail_from = 1;
        while (stream_expire(r.at, START + 110 * S)) continue;
        r.heap.fail_at = 0;
        cr_expect(stream_is_overdue(r.at, START + 110 * S) || due_count(&r.at->due) > 0);
        look_at("u", "", &o);
        cr_expect_neq(o.verdict, STREAM_REFUSED);
        if (o.verdict == STREAM_STORE) stream_cancel(r.at, &o);
    }
}

/* A publish, or a marker, waits while there is more: what it is settled with is a piece. */
Test(expiry, a_publish_waits_for_all_that_is_over_where_that_decides)
{
    char room[PUBLISH_SCRATCH_EXTRA + 4096];
    struct stream_outcome o;
    struct writer w;
    for (int i = 0; i < BOTH; i++) {
        begin_with_markers(i);
        store("first", NULL, 0);
        store_of_one(4 * BATCH, NULL, 1);
        uint64_t looks = 0;
        do {
            writer_init(&w, room, sizeof room);
            publish_check(r.at, BYTES_LITERAL("u"), BYTES_LITERAL(""), BYTES_LITERAL(""),
                          START + 110 * S, &w, &o);
        } while (o.verdict == STREAM_WAIT && ++looks < LOOKS_MAX);
        cr_expect_eq(o.verdict, STREAM_STORE);
        cr_expect_geq(looks, 4);
        cr_expect_eq(r.at->msgs.live_count, 2, "the last of each subject");
        stream_cancel(r.at, &o);
    }
}
