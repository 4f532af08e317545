#include <criterion/criterion.h>
#include "core/js/advisory.h"
#include "tests/support/mem_heap.h"

/* 2026-11-21T15:51:35.088715281Z */
#define TIME_NS INT64_C(1795276295088715281)
#define HEAD(type)                                                                                 \
    "{\"type\":\"io.nats.jetstream." type "\",\"id\":\"0HS1Q8Ru9PhDrulnczNz8M\","                  \
    "\"timestamp\":\"2026-11-21T15:51:35.088715281Z\","

static void expect(struct advisory a, const char *subject, const char *body)
{
    struct mem_heap heap;
    struct text text;
    char room[ADVISORY_SUBJECT_BYTES_MAX];
    struct writer w;
    mem_heap_init(&heap);
    a.id = BYTES_LITERAL("0HS1Q8Ru9PhDrulnczNz8M");
    a.time_ns = TIME_NS;
    writer_init(&w, room, sizeof room);
    advisory_subject(&a, &w);
    cr_expect(bytes_equal(writer_written(&w), bytes_from_text(subject)), "%.*s", (int)w.len, room);
    text_init(&text, &heap.mem, MEM_JETSTREAM, 1 << 16);
    advisory_write(&a, &text);
    text_char(&text, 0);
    cr_assert(!text.is_failed);
    cr_expect_str_eq(text.data, body);
    text_deinit(&text);
    cr_assert_eq(heap.live_count, 0);
}

static struct advisory of(enum advisory_kind kind)
{
    return (struct advisory){
        .kind = kind, .stream = BYTES_LITERAL("S"), .consumer = BYTES_LITERAL("D")};
}

/* As nats-server 2.15.2 with request_queue_limit: 1. */
Test(advisory, requests_that_were_dropped)
{
    expect((struct advisory){.kind = ADVISORY_LIMIT_REACHED,
                             .server = BYTES_LITERAL("mill"),
                             .domain = BYTES_LITERAL("hub"),
                             .dropped = 3},
           "$JS.EVENT.ADVISORY.API.LIMIT_REACHED",
           HEAD("advisory.v1.api_limit_reached") "\"server\":\"mill\",\"domain\":\"hub\","
                                                 "\"dropped\":3}");
}

Test(advisory, actions_on_streams_and_consumers)
{
    expect(of(ADVISORY_STREAM_CREATED), "$JS.EVENT.ADVISORY.STREAM.CREATED.S",
           HEAD("advisory.v1.stream_action") "\"stream\":\"S\",\"action\":\"create\"}");
    expect(of(ADVISORY_STREAM_UPDATED), "$JS.EVENT.ADVISORY.STREAM.UPDATED.S",
           HEAD("advisory.v1.stream_action") "\"stream\":\"S\",\"action\":\"modify\"}");
    struct advisory deleted = of(ADVISORY_STREAM_DELETED);
    deleted.domain = BYTES_LITERAL("hub");
    expect(deleted, "$JS.EVENT.ADVISORY.STREAM.DELETED.S",
           HEAD("advisory.v1.stream_action") "\"stream\":\"S\",\"action\":\"delete\","
                                             "\"domain\":\"hub\"}");
    expect(of(ADVISORY_CONSUMER_CREATED), "$JS.EVENT.ADVISORY.CONSUMER.CREATED.S.D",
           HEAD("advisory.v1.consumer_action") "\"stream\":\"S\",\"consumer\":\"D\","
                                               "\"action\":\"create\"}");
    expect(of(ADVISORY_CONSUMER_DELETED), "$JS.EVENT.ADVISORY.CONSUMER.DELETED.S.D",
           HEAD("advisory.v1.consumer_action") "\"stream\":\"S\",\"consumer\":\"D\","
                                               "\"action\":\"delete\"}");
}

Test(advisory, a_pause_says_until_when_and_a_resume_the_zero_time)
{
    struct advisory a = of(ADVISORY_CONSUMER_PAUSE);
    a.is_paused = true;
    a.pause_until = (struct time_stamp){.wall_ns = TIME_NS, .is_set = true};
    expect(a, "$JS.EVENT.ADVISORY.CONSUMER.PAUSE.S.D",
           HEAD("advisory.v1.consumer_pause") "\"stream\":\"S\",\"consumer\":\"D\","
                                              "\"paused\":true,\"pause_until\":"
                                              "\"2026-11-21T15:51:35.088715281Z\"}");
    expect(of(ADVISORY_CONSUMER_PAUSE), "$JS.EVENT.ADVISORY.CONSUMER.PAUSE.S.D",
           HEAD("advisory.v1.consumer_pause") "\"stream\":\"S\",\"consumer\":\"D\","
                                              "\"paused\":false,\"pause_until\":"
                                              "\"0001-01-01T00:00:00Z\"}");
}

Test(advisory, what_became_of_a_delivery)
{
    struct bytes s = BYTES_LITERAL("S"), d = BYTES_LITERAL("D");
    struct outlet_event e = {.kind = OUTLET_MAX_DELIVERIES,
                             .stream_seq = 4,
                             .consumer_seq = 5,
                             .deliveries = 2,
                             .ack_ns = 1221994,
                             .reason = BYTES_LITERAL("because <x>")};
    expect(advisory_of_event(&e, s, d), "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.S.D",
           HEAD("advisory.v1.max_deliver") "\"stream\":\"S\",\"consumer\":\"D\","
                                           "\"stream_seq\":4,\"deliveries\":2}");
    e.kind = OUTLET_NAK;
    expect(advisory_of_event(&e, s, d), "$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED.S.D",
           HEAD("advisory.v1.nak") "\"stream\":\"S\",\"consumer\":\"D\",\"consumer_seq\":5,"
                                   "\"stream_seq\":4,\"deliveries\":2}");
    e.kind = OUTLET_TERMINATED;
    expect(advisory_of_event(&e, s, d), "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.D",
           HEAD("advisory.v1.terminated") "\"stream\":\"S\",\"consumer\":\"D\",\"consumer_seq\":5,"
                                          "\"stream_seq\":4,\"deliveries\":2,\"reason\":"
                                          "\"because \\u003cx\\u003e\"}");
    e.kind = OUTLET_ACK_SAMPLE;
    expect(advisory_of_event(&e, s, d), "$JS.EVENT.METRIC.CONSUMER.ACK.S.D",
           HEAD("metric.v1.consumer_ack") "\"stream\":\"S\",\"consumer\":\"D\",\"consumer_seq\":5,"
                                          "\"stream_seq\":4,\"ack_time\":1221994,"
                                          "\"deliveries\":2}");
}

Test(advisory, api_requests_with_who_sent_them)
{
    struct advisory a = {
        .kind = ADVISORY_API,
        .server = BYTES_LITERAL("ref"),
        .client = {.start_ns = TIME_NS,
                   .host = BYTES_LITERAL("127.0.0.1"),
                   .id = 8,
                   .account = BYTES_LITERAL("A"),
                   .user = BYTES_LITERAL("a"),
                   .name = BYTES_LITERAL("adv"),
                   .lang = BYTES_LITERAL("c"),
                   .version = BYTES_LITERAL("1"),
                   .rtt_ns = 1462345,
                   .kind = BYTES_LITERAL("Client"),
                   .type = BYTES_LITERAL("nats")},
        .subject = BYTES_LITERAL("$JS.API.STREAM.DELETE.S"),
        .response = BYTES_LITERAL("{\"success\":true}"),
    };
    expect(a, "$JS.EVENT.ADVISORY.API",
           HEAD("advisory.v1.api_audit") "\"server\":\"ref\",\"client\":{\"start\":"
                                         "\"2026-11-21T15:51:35.088715281Z\",\"host\":"
                                         "\"127.0.0.1\",\"id\":8,\"acc\":\"A\",\"user\":\"a\","
                                         "\"name\":\"adv\",\"lang\":\"c\",\"ver\":\"1\",\"rtt\":"
                                         "1462345,\"server\":\"ref\",\"kind\":\"Client\","
                                         "\"client_type\":\"nats\"},\"subject\":"
                                         "\"$JS.API.STREAM.DELETE.S\",\"response\":"
                                         "\"{\\\"success\\\":true}\"}");
    a.request = BYTES_LITERAL("{}");
    a.client = (struct advisory_client){.account = BYTES_LITERAL("A")};
    expect(a, "$JS.EVENT.ADVISORY.API",
           HEAD("advisory.v1.api_audit") "\"server\":\"ref\",\"client\":{\"acc\":\"A\","
                                         "\"server\":\"ref\"},\"subject\":"
                                         "\"$JS.API.STREAM.DELETE.S\",\"request\":\"{}\","
                                         "\"response\":\"{\\\"success\\\":true}\"}");
}
