#include <criterion/criterion.h>
#include <stdio.h>
#include "core/base/must.h"
#include "core/js/publish.h"
#include "core/proto/headers.h"
#include "tests/support/mem_heap.h"

/* What a stream holds beside its messages. Everything else is in tests/model/model_stream.c. */
enum { WINDOW_SECONDS = 120, IDS = 5000 };

static struct {
    struct mem_heap heap;
    struct stream stream;
    int64_t now_ns;
    uint64_t ticket;
    bool is_wanted; /* by a consumer, in an interest stream */
} r;

static bool has_interest(void *context, struct bytes subject)
{
    return r.is_wanted;
}

static const struct stream_watch watch = {.has_interest = has_interest};

static void open_stream(enum stream_retention retention, int64_t marker_ttl)
{
    struct bytes subject = BYTES_LITERAL("s");
    struct stream_config c = {.name = BYTES_LITERAL("S"),
                              .subjects = {.items = &subject, .count = 1},
                              .storage = STREAM_FILE,
                              .num_replicas = 1,
                              .retention = retention,
                              .max_age = marker_ttl,
                              .subject_delete_marker_ttl = marker_ttl,
                              .allow_rollup_hdrs = true,
                              .allow_msg_ttl = true,
                              .duplicate_window = WINDOW_SECONDS * JS_SECOND};
    c.max_consumers = c.max_msgs = c.max_bytes = c.max_msgs_per_subject = c.max_msg_size = -1;
    cr_assert_eq(stream_init(&r.stream, &r.heap.mem, 1, 0, &c, r.now_ns, 5), ERR_OK);
    r.stream.watch = &watch;
}

static void setup(void)
{
    memset(&r, 0, sizeof r);
    mem_heap_init(&r.heap);
    r.now_ns = INT64_C(1795263937500000000);
}

static void teardown(void)
{
    stream_deinit(&r.stream);
    must(r.heap.live_count == 0);
}

TestSuite(stream, .init = setup, .fini = teardown);

static void publish(const char *headers)
{
    char scratch[PUBLISH_SCRATCH_EXTRA + 256];
    struct stream_outcome o;
    struct writer w;
    writer_init(&w, scratch, sizeof scratch);
    publish_check(&r.stream, BYTES_LITERAL("s"), bytes_from_text(headers), BYTES_LITERAL("body"),
                  r.now_ns, &w, &o);
    cr_assert_eq(o.verdict, STREAM_STORE);
    r.ticket++;
    stream_stage(&r.stream, &o, r.ticket, r.ticket);
}

Test(stream, ids_are_forgotten_though_no_more_of_them_come)
{
    open_stream(STREAM_LIMITS, 0);
    for (int i = 0; i < IDS; i++) {
        char headers[64];
        snprintf(headers, sizeof headers, "NATS/1.0\r\nNats-Msg-Id: %d\r\n\r\n", i);
        publish(headers);
        cr_assert_eq(stream_settle(&r.stream, r.ticket), ERR_OK);
    }
    cr_assert_gt(r.stream.dedupe.bytes_taken, IDS * sizeof(struct dedupe_entry));
    int64_t end_ns = r.now_ns + WINDOW_SECONDS * JS_SECOND;
    cr_assert_eq(stream_expire_next_ns(&r.stream), end_ns);
    (void)stream_expire(&r.stream, end_ns - 1);
    cr_assert_eq(r.stream.dedupe.count, IDS);
    while (stream_expire(&r.stream, end_ns)) continue;
    cr_assert_eq(r.stream.dedupe.bytes_taken, 0);
    cr_assert_eq(stream_expire_next_ns(&r.stream), INT64_MAX);
    cr_assert_eq(r.stream.msgs.live_count, IDS);
}

static void replay_with_id(uint64_t seq, int64_t time_ns)
{
    struct record record = {.kind = RECORD_MESSAGE,
                            .stream = 1,
                            .seq = seq,
                            .time_ns = time_ns,
                            .subject = BYTES_LITERAL("s"),
                            .headers = BYTES_LITERAL("NATS/1.0\r\nNats-Msg-Id: a\r\n\r\n"),
                            .body = BYTES_LITERAL("body")};
    cr_assert_eq(stream_replay(&r.stream, &record, seq), ERR_OK);
}

static uint64_t seq_of_id(int64_t now_ns)
{
    const struct dedupe *d = &r.stream.dedupe;
    return dedupe_find(d, dedupe_hash(d, BYTES_LITERAL("a")), now_ns);
}

/* The running server had forgotten it between two records. */
Test(stream, an_id_that_was_forgotten_and_stored_again_is_known_after_a_start)
{
    open_stream(STREAM_LIMITS, 0);
    struct stream_config c = r.stream.config;
    int64_t second_ns = r.now_ns + WINDOW_SECONDS * JS_SECOND - 1, third_ns = second_ns + 2;
    replay_with_id(1, r.now_ns);
    c.duplicate_window = 10 * WINDOW_SECONDS * JS_SECOND;
    cr_assert_eq(stream_update(&r.stream, &c), ERR_OK);
    replay_with_id(2, second_ns);
    c = r.stream.config;
    c.duplicate_window = WINDOW_SECONDS * JS_SECOND;
    cr_assert_eq(stream_update(&r.stream, &c), ERR_OK);
    cr_assert_eq(seq_of_id(third_ns), 2);
}

Test(stream, a_longer_window_does_not_bring_back_what_was_forgotten)
{
    open_stream(STREAM_LIMITS, 0);
    struct stream_config c = r.stream.config;
    replay_with_id(1, r.now_ns);
    r.now_ns += WINDOW_SECONDS * JS_SECOND;
    (void)stream_expire_until(&r.stream, r.now_ns);
    c.duplicate_window = 10 * WINDOW_SECONDS * JS_SECOND;
    cr_assert_eq(stream_update(&r.stream, &c), ERR_OK);
    cr_assert_eq(seq_of_id(r.now_ns), 0);
}

Test(stream, a_subject_is_free_when_the_last_message_of_it_went)
{
    open_stream(STREAM_LIMITS, 0);
    publish("");
    publish("");
    cr_assert_eq(stream_settle(&r.stream, 1), ERR_OK);
    cr_assert(stream_remove(&r.stream, 1)); /* the other one is in flight */
    cr_assert_eq(stream_settle(&r.stream, 2), ERR_OK);
    publish("");
    stream_unstage(&r.stream, 3);
    cr_assert_eq(r.stream.subjects.leaf_count, 1);
    cr_assert(stream_remove(&r.stream, 2));
    cr_assert_eq(r.stream.subjects.leaf_count, 0);
}

Test(stream, what_a_burst_took_goes_back)
{
    open_stream(STREAM_LIMITS, 0);
    r.stream.config.max_msgs = 10;
    for (int i = 0; i < 5000; i++) publish("");
    cr_assert_geq(r.stream.staged.op_room, 5000);
    cr_assert_eq(stream_settle(&r.stream, r.ticket), ERR_OK);
    cr_assert_lt(r.stream.staged.op_room, 500);
    cr_assert_lt(r.stream.staged.cell_room, 500);
    publish("");
    cr_assert_eq(stream_settle(&r.stream, r.ticket), ERR_OK);
    cr_assert_eq(r.stream.msgs.live_count, 10);
}

/* The only message is too old: a marker takes its place, and is too old itself later. */
static void expire_with_marker(void)
{
    char scratch[PUBLISH_SCRATCH_EXTRA + 256];
    struct stream_outcome o;
    struct writer w;
    r.now_ns += 2 * JS_SECOND;
    (void)stream_expire(&r.stream, r.now_ns);
    writer_init(&w, scratch, sizeof scratch);
    publish_check_marker(&r.stream, r.now_ns, &w, &o);
    cr_assert_eq(o.verdict, STREAM_STORE);
    r.ticket++;
    stream_stage(&r.stream, &o, r.ticket, r.ticket);
    cr_assert_eq(stream_settle(&r.stream, r.ticket), ERR_OK);
    cr_assert_not(msgs_has(&r.stream.msgs, 1)); /* else it is due again, and so on */
    cr_assert_eq(r.stream.msgs.live_count, 1);
    r.now_ns += 2 * JS_SECOND;
    (void)stream_expire(&r.stream, r.now_ns);
    cr_assert_eq(r.stream.msgs.live_count, 0);
}

Test(stream, a_delete_marker_takes_the_place_of_what_nobody_wants_any_more)
{
    open_stream(STREAM_INTEREST, JS_SECOND);
    r.is_wanted = true;
    publish("");
    cr_assert_eq(stream_settle(&r.stream, r.ticket), ERR_OK);
    r.is_wanted = false; /* a consumer has other filters now */
    expire_with_marker();
}

Test(stream, a_delete_marker_has_room_in_a_full_stream)
{
    open_stream(STREAM_LIMITS, JS_SECOND);
    r.stream.config.discard = STREAM_DISCARD_NEW;
    r.stream.config.max_msgs = 1;
    r.stream.config.max_bytes = 40;
    publish("");
    cr_assert_eq(stream_settle(&r.stream, r.ticket), ERR_OK);
    expire_with_marker();
}

/* Else what is too old would fill the account for good. */
Test(stream, a_delete_marker_has_room_in_a_full_account)
{
    struct quota_bytes account = {.max = -1};
    open_stream(STREAM_LIMITS, JS_SECOND);
    r.stream.account_bytes = &account;
    publish("");
    cr_assert_eq(stream_settle(&r.stream, r.ticket), ERR_OK);
    account.max = (int64_t)account.used;
    expire_with_marker();
    r.stream.account_bytes = NULL;
}

Test(stream, headers_that_lose_a_status_and_get_another_lifetime_are_whole)
{
    char headers[3000], scratch[PUBLISH_SCRATCH_EXTRA + 8000];
    struct stream_outcome o;
    struct bytes long_one;
    struct writer w;
    open_stream(STREAM_LIMITS, 3600 * JS_SECOND);
    int len = snprintf(headers, sizeof headers,
                       "NATS/1.0 100 Any\r\nNats-TTL: 1m\r\nLong: %02900d\r\n\r\n", 7);
    writer_init(&w, scratch, PUBLISH_SCRATCH_EXTRA + 1 + 2 * (size_t)len);
    publish_check(&r.stream, BYTES_LITERAL("s"), bytes_of(headers, (size_t)len), BYTES_LITERAL(""),
                  r.now_ns, &w, &o);
    cr_assert_eq(o.verdict, STREAM_STORE);
    cr_assert(headers_find(o.record.headers, BYTES_LITERAL("Long"), &long_one));
    cr_assert_eq(long_one.len, 2900);
    cr_assert(bytes_starts_with(o.record.headers, BYTES_LITERAL("NATS/1.0\r\nLong")));
    cr_assert(bytes_ends_with(o.record.headers, BYTES_LITERAL("Nats-TTL: 3600\r\n\r\n")));
    stream_cancel(&r.stream, &o);
}

/* --- what expires, live and at a start ---------------------------------------------------------
 */

/* The records as the log has them, in their order. */
static struct {
    struct record records[8192];
    char texts[8192][64];
    uint32_t count;
} history;

static void send(const char *subject, const char *ttl)
{
    char scratch[PUBLISH_SCRATCH_EXTRA + 256], headers[64] = "";
    struct stream_outcome o;
    struct writer w;
    if (ttl != NULL) snprintf(headers, sizeof headers, "NATS/1.0\r\nNats-TTL: %s\r\n\r\n", ttl);
    writer_init(&w, scratch, sizeof scratch);
    publish_check(&r.stream, bytes_from_text(subject), bytes_from_text(headers),
                  BYTES_LITERAL("body"), r.now_ns, &w, &o);
    cr_assert_eq(o.verdict, STREAM_STORE);
    struct record *kept = &history.records[history.count];
    char *text = history.texts[history.count++];
    *kept = o.record;
    memcpy(text, o.record.headers.data, o.record.headers.len);
    kept->headers = bytes_of(text, o.record.headers.len);
    memcpy(text + kept->headers.len, subject, strlen(subject));
    kept->subject = bytes_of(text + kept->headers.len, strlen(subject));
    kept->body = BYTES_LITERAL("body");
    r.ticket++;
    stream_stage(&r.stream, &o, r.ticket, r.ticket);
}

static void settle(void)
{
    cr_assert_eq(stream_settle(&r.stream, r.ticket), ERR_OK);
}

/* A start finds the messages that were there before it. */
static void check_start(void)
{
    struct stream again;
    cr_assert_eq(stream_init(&again, &r.heap.mem, 1, 0, &r.stream.config, 0, 5), ERR_OK);
    again.watch = &watch;
    for (uint32_t i = 0; i < history.count; i++)
        cr_assert_eq(stream_replay(&again, &history.records[i], i + 1), ERR_OK);
    while (stream_expire(&again, r.now_ns)) continue;
    while (stream_expire(&r.stream, r.now_ns)) continue;
    for (uint64_t seq = 1; seq <= r.stream.seq_last; seq++)
        cr_assert_eq(msgs_has(&again.msgs, seq), msgs_has(&r.stream.msgs, seq));
    stream_deinit(&again);
}

Test(stream, what_expires_while_a_message_is_in_flight_leaves_no_room_for_it)
{
    history.count = 0;
    open_stream(STREAM_LIMITS, 0);
    r.stream.config.max_msgs_per_subject = 2;
    send("a", NULL);
    send("a", "1s");
    settle();
    r.now_ns += JS_SECOND - 1;
    send("a", NULL); /* the second is still there, so this is one too many */
    r.now_ns += JS_SECOND;
    while (stream_expire(&r.stream, r.now_ns)) continue; /* the timer */
    settle();
    check_start();
}

Test(stream, what_expired_long_before_a_message_does_not_push_out_others_at_a_start)
{
    history.count = 0;
    open_stream(STREAM_LIMITS, 0);
    r.stream.config.max_msgs_per_subject = 5;
    send("a", NULL);
    for (int i = 0; i < 4; i++) send("a", "2s");
    for (int i = 0; i < 2 * STREAM_EXPIRE_BATCH; i++) {
        char subject[16];
        snprintf(subject, sizeof subject, "b.%d", i);
        send(subject, "1s");
    }
    settle();
    r.now_ns += 3 * JS_SECOND;
    while (stream_expire(&r.stream, r.now_ns)) continue;
    send("a", NULL);
    settle();
    check_start();
}

Test(stream, a_message_waits_until_what_is_too_old_has_gone)
{
    char scratch[PUBLISH_SCRATCH_EXTRA + 256];
    struct stream_outcome o;
    struct writer w;
    history.count = 0;
    open_stream(STREAM_LIMITS, 0);
    for (int i = 0; i < 3 * STREAM_EXPIRE_BATCH; i++) send("a", "1s");
    settle();
    r.now_ns += 2 * JS_SECOND;
    writer_init(&w, scratch, sizeof scratch);
    publish_check(&r.stream, BYTES_LITERAL("a"), BYTES_LITERAL(""), BYTES_LITERAL(""), r.now_ns, &w,
                  &o);
    cr_assert_eq(o.verdict, STREAM_WAIT);
    cr_assert_eq(r.stream.msgs.live_count, 2 * STREAM_EXPIRE_BATCH);
    (void)stream_expire(&r.stream, r.now_ns);
    send("a", NULL);
    settle();
    cr_assert_eq(r.stream.msgs.live_count, 1);
}

/* What is given back may be what it needs. */
Test(stream, a_message_that_finds_no_memory_does_not_keep_others_from_expiring)
{
    history.count = 0;
    open_stream(STREAM_LIMITS, 0);
    send("a", "2s");
    settle();
    r.now_ns += JS_SECOND;
    send("a", "9s");
    r.heap.fail_at = r.heap.alloc_count + 1;
    r.heap.fail_from = 1;
    /* Room of the indexes may be left, so it is used up. */
    while (stream_settle(&r.stream, r.ticket) == ERR_OK) {
        r.heap.fail_at = 0;
        send("a", "9s");
        r.heap.fail_at = r.heap.alloc_count + 1;
    }
    uint64_t before = r.stream.msgs.live_count;
    (void)stream_expire(&r.stream, r.now_ns + 2 * JS_SECOND);
    cr_assert_eq(r.stream.msgs.live_count, before - 1);
    r.heap.fail_at = 0;
    settle();
    cr_assert_eq(r.stream.msgs.live_count, history.count - 1);
}

static void expect_last(const char *filter, uint64_t last)
{
    char scratch[PUBLISH_SCRATCH_EXTRA + 512], headers[256];
    struct stream_outcome o;
    struct writer w;
    snprintf(headers, sizeof headers,
             "NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: %lu\r\n"
             "Nats-Expected-Last-Subject-Sequence-Subject: %s\r\n\r\n",
             (unsigned long)last, filter);
    writer_init(&w, scratch, sizeof scratch);
    publish_check(&r.stream, BYTES_LITERAL("other"), bytes_from_text(headers), BYTES_LITERAL(""),
                  r.now_ns, &w, &o);
    cr_assert_eq(o.verdict, STREAM_STORE, "%s is not at %lu", filter, (unsigned long)last);
    stream_cancel(&r.stream, &o);
}

Test(stream, the_last_of_a_filter_is_found_wherever_it_lies)
{
    history.count = 0;
    open_stream(STREAM_LIMITS, 0);
    r.stream.config.max_msgs_per_subject = 1;
    send("a.1", NULL);
    for (int i = 0; i < 200; i++) {
        char subject[16];
        snprintf(subject, sizeof subject, "b.%d", i);
        send(subject, NULL);
    }
    settle();
    expect_last("a.*", 1);
    expect_last("b.*", 201);
    expect_last("*.150", 152);
    expect_last("*.7", 9);
    expect_last("c.*", 0);
    send("b.199", NULL); /* takes the place of the last one */
    expect_last("b.*", 202);
    settle();
    expect_last("b.*", 202);
    cr_assert(stream_remove(&r.stream, 202));
    expect_last("b.*", 200);
}

Test(stream, what_never_expires_is_not_pushed_out_at_a_start_by_what_did)
{
    history.count = 0;
    open_stream(STREAM_LIMITS, 0);
    r.stream.config.max_msgs_per_subject = 5;
    r.stream.config.max_age = 2 * JS_SECOND;
    send("a", "never");
    for (int i = 0; i < 2 * STREAM_EXPIRE_BATCH; i++) {
        char subject[16];
        snprintf(subject, sizeof subject, "b.%d", i);
        send(subject, NULL);
    }
    for (int i = 0; i < 4; i++) send("a", NULL);
    settle();
    r.now_ns += 3 * JS_SECOND;
    while (stream_expire(&r.stream, r.now_ns)) continue;
    send("a", NULL);
    settle();
    cr_assert_eq(r.stream.msgs.live_count, 2);
    check_start();
}
