#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include "core/base/must.h"
#include "core/js/pullq.h"
#include "tests/support/mem_heap.h"

/* Remembers what was sent as "subject|headers" with line ends as slashes. */
struct rig {
    struct outlet outlet;
    char sent[8192];
    const char *deaf; /* nobody listens here */
};

static struct rig rig;
static struct mem_heap heap;
static struct arena arena;
static struct pullq q;
static struct pullq_limits limits;
static struct pullq_facts facts;

static void record(struct outlet *o, struct bytes subject, struct bytes reply, struct bytes headers)
{
    struct rig *r = (struct rig *)(void *)o;
    size_t at = strlen(r->sent);
    at += (size_t)snprintf(r->sent + at, sizeof r->sent - at, "%.*s|", (int)subject.len,
                           subject.data);
    for (size_t i = 0; i < headers.len; i++)
        if (headers.data[i] != '\r')
            r->sent[at++] = headers.data[i] == '\n' ? '/' : headers.data[i];
    r->sent[at] = 0;
}

static bool listens(struct outlet *o, struct bytes subject)
{
    struct rig *r = (struct rig *)(void *)o;
    return r->deaf == NULL || !bytes_equal(subject, bytes_from_text(r->deaf));
}

static void setup(void)
{
    rig = (struct rig){.outlet = {.send = record, .has_interest = listens}};
    mem_heap_init(&heap);
    arena_init(&arena, &heap.mem, MEM_JETSTREAM);
    pullq_init(&q, &heap.mem);
    limits = (struct pullq_limits){.max_waiting = 512};
    facts = (struct pullq_facts){.now_ns = 1000};
}

static void teardown(void)
{
    pullq_clear(&q);
    must(heap.live_count == 0);
}

TestSuite(pullq, .init = setup, .fini = teardown);

static bool pull(const char *reply, const char *body)
{
    return pullq_add(&q, &limits, &facts, &arena, bytes_from_text(body), bytes_from_text(reply),
                     &rig.outlet);
}

/* What was sent since the last question. */
static void expect_sent(const char *text)
{
    cr_assert_str_eq(rig.sent, text);
    rig.sent[0] = 0;
}

static const char *take(uint64_t bytes)
{
    static struct pullq_taker t;
    if (!pullq_take(&q, &facts, bytes, &rig.outlet, &t)) return "";
    pullq_finish(&t, &rig.outlet);
    if (t.reply_len < sizeof t.reply) t.reply[t.reply_len] = 0;
    return t.reply;
}

Test(pullq, replies_are_as_long_as_a_line)
{
    static char reply[PULLQ_REPLY_BYTES_MAX + 2];
    memset(reply, 'r', PULLQ_REPLY_BYTES_MAX);
    cr_assert(pull(reply, "2"));
    cr_assert_arr_eq(take(1), reply, PULLQ_REPLY_BYTES_MAX);
    reply[PULLQ_REPLY_BYTES_MAX] = 'r';
    rig.sent[0] = 0;
    cr_assert(!pull(reply, "2"));
}

Test(pullq, requests_take_turns)
{
    cr_assert(pull("a", "2"));
    cr_assert(pull("b", ""));
    cr_assert(pull("c", "{\"batch\":2}"));
    cr_assert_str_eq(take(1), "a");
    cr_assert_str_eq(take(1), "b");
    cr_assert_str_eq(take(1), "c");
    cr_assert_str_eq(take(1), "a");
    cr_assert_str_eq(take(1), "c");
    cr_assert_str_eq(take(1), "");
    expect_sent("");
}

Test(pullq, a_request_expires_with_what_it_had_left)
{
    cr_assert(pull("a", "{\"batch\":3,\"expires\":500,\"max_bytes\":100}"));
    cr_assert_str_eq(take(10), "a");
    cr_assert_eq(pullq_sweep(&q, &facts, false, &rig.outlet, NULL), 1500);
    facts.now_ns = 1500;
    cr_assert_eq(pullq_sweep(&q, &facts, false, &rig.outlet, NULL), INT64_MAX);
    expect_sent("a|NATS/1.0 408 Request Timeout/Nats-Pending-Messages: 2/Nats-Pending-Bytes: 90//");
    cr_assert_eq(q.count, 0);
    cr_assert_eq(q.last_active_ns, 1500);
}

Test(pullq, a_request_that_does_not_wait_is_answered)
{
    cr_assert(!pull("a", "{\"no_wait\":true,\"batch\":1}"));
    expect_sent("a|NATS/1.0 404 No Messages//");
    facts.pending = 2;
    cr_assert(pull("a", "{\"no_wait\":true,\"batch\":5}"));
    expect_sent("");
    cr_assert(!pull("b", "{\"no_wait\":true,\"batch\":1}"));
    expect_sent("b|NATS/1.0 408 Requests Pending//");
    cr_assert_str_eq(take(1), "a");
    (void)pullq_sweep(&q, &facts, true, &rig.outlet, NULL);
    expect_sent("a|NATS/1.0 404 No Messages//");
    facts.pending = 0;
    cr_assert(pull("c", "{\"no_wait\":true,\"batch\":5,\"expires\":100}"));
    (void)pullq_sweep(&q, &facts, true, &rig.outlet, NULL);
    cr_assert_eq(q.count, 1);
    cr_assert_str_eq(take(1), "c");
    (void)pullq_sweep(&q, &facts, true, &rig.outlet, NULL);
    expect_sent("c|NATS/1.0 404 No Messages//");
}

Test(pullq, bytes_are_bounded)
{
    cr_assert(pull("a", "{\"batch\":10,\"max_bytes\":100}"));
    cr_assert_str_eq(take(60), "a");
    cr_assert_str_eq(take(60), "");
    expect_sent("a|NATS/1.0 409 Message Size Exceeds MaxBytes/Nats-Pending-Messages: 9/"
                "Nats-Pending-Bytes: 40//");
    cr_assert(pull("a", "{\"batch\":10,\"max_bytes\":100}"));
    cr_assert_str_eq(take(60), "a");
    cr_assert_str_eq(take(40), "a"); /* filled to the byte: it ends without a word */
    cr_assert_eq(q.count, 0);
    expect_sent("");
    cr_assert(pull("b", "{\"batch\":1,\"max_bytes\":100}"));
    cr_assert_str_eq(take(60), "b");
    expect_sent("b|NATS/1.0 409 Batch Completed/Nats-Pending-Messages: 0/Nats-Pending-Bytes: 40//");
}

Test(pullq, limits_of_the_consumer_are_told)
{
    limits = (struct pullq_limits){
        .max_waiting = 1, .max_batch = 5, .max_expires_ns = 1500000000, .max_bytes = 10};
    cr_assert(!pull("a", "6"));
    expect_sent("a|NATS/1.0 409 Exceeded MaxRequestBatch of 5//");
    cr_assert(!pull("a", "{\"expires\":1500000001}"));
    expect_sent("a|NATS/1.0 409 Exceeded MaxRequestExpires of 1.5s//");
    cr_assert(!pull("a", "{\"max_bytes\":11}"));
    expect_sent("a|NATS/1.0 409 Exceeded MaxRequestMaxBytes of 10//");
    cr_assert(pull("a", ""));
    cr_assert(!pull("b", ""));
    expect_sent("b|NATS/1.0 409 Exceeded MaxWaiting//");
    cr_assert(!pull("b", "{\"expires\":20,\"idle_heartbeat\":10}"));
    expect_sent("");
}

Test(pullq, bad_requests_are_told_why)
{
    cr_assert(!pull("a", "{\"idle_heartbeat\":5}"));
    expect_sent("a|NATS/1.0 400 Bad Request - heartbeat value too large//");
    cr_assert(!pull("a", "{\"min_pending\":5}"));
    expect_sent("a|NATS/1.0 400 Bad Request - Not a Overflow Priority consumer//");
    cr_assert(!pull("a", "{\"id\":\"x\"}"));
    expect_sent("a|NATS/1.0 400 Bad Request - Not a Pinned Client Priority consumer//");
    cr_assert(!pull("a", "{\"priority\":10}"));
    expect_sent("a|NATS/1.0 400 Bad Request - Priority must be between 0 and 9//");
}

Test(pullq, heartbeats_come_while_nothing_does)
{
    cr_assert(pull("a", "{\"expires\":10000000000,\"idle_heartbeat\":1000000000,\"batch\":9}"));
    facts.now_ns += 999999999;
    (void)pullq_sweep(&q, &facts, false, &rig.outlet, NULL);
    expect_sent("");
    facts.now_ns++;
    facts.stream_seq = 7;
    facts.consumer_seq = 3;
    cr_assert_eq(pullq_sweep(&q, &facts, false, &rig.outlet, NULL), facts.now_ns + 1000000000);
    expect_sent("a|NATS/1.0 100 Idle Heartbeat/Nats-Last-Consumer: 3/Nats-Last-Stream: 7//");
    facts.now_ns += 500000000;
    cr_assert_str_eq(take(1), "a"); /* which is a sign of life too */
    cr_assert_eq(pullq_sweep(&q, &facts, false, &rig.outlet, NULL), facts.now_ns + 1000000000);
}

Test(pullq, with_too_much_unacked_what_does_not_wait_ends_when_anything_is_due)
{
    facts.pending = 9;
    cr_assert(pull("a", "{\"no_wait\":true}"));
    cr_assert(pull("b", "{\"no_wait\":true,\"expires\":9000000000}"));
    cr_assert(pull("c", "{\"expires\":1000000000}"));
    facts.is_stalled = true;
    facts.now_ns += 999999999;
    (void)pullq_sweep(&q, &facts, false, &rig.outlet, NULL);
    expect_sent("");
    facts.now_ns++;
    (void)pullq_sweep(&q, &facts, false, &rig.outlet, NULL);
    expect_sent("a|NATS/1.0 404 No Messages//"
                "c|NATS/1.0 408 Request Timeout/Nats-Pending-Messages: 0/Nats-Pending-Bytes: 0//");
    cr_assert_eq(q.count, 1);
}

Test(pullq, requests_that_nobody_listens_for_go_quietly)
{
    cr_assert(pull("a", "5"));
    cr_assert(pull("b", "5"));
    rig.deaf = "a";
    cr_assert_str_eq(take(1), "b");
    cr_assert_eq(q.count, 1);
    rig.deaf = "b";
    (void)pullq_sweep(&q, &facts, false, &rig.outlet, NULL);
    cr_assert_eq(q.count, 0);
    expect_sent("");
}

Test(pullq, a_consumer_that_goes_away_says_so)
{
    cr_assert(pull("a", "5"));
    pullq_close(&q, &rig.outlet, "409 Consumer Deleted");
    expect_sent("a|NATS/1.0 409 Consumer Deleted//");
    cr_assert_eq(q.count, 0);
}
