#include <criterion/criterion.h>
#include "core/js/ack.h"
#include "tests/support/mem_heap.h"

static struct mem_heap heap;
static struct arena arena;

static void setup(void)
{
    mem_heap_init(&heap);
    arena_init(&arena, &heap.mem, MEM_JETSTREAM);
}

TestSuite(ack, .init = setup);

static bool is_text(struct bytes b, const char *text)
{
    return bytes_equal(b, bytes_from_text(text));
}

Test(ack, both_forms_of_the_subject_are_understood)
{
    struct ack_subject a;
    cr_assert_eq(ack_parse_subject(BYTES_LITERAL("$JS.ACK.S.C.1.22.333.1700000000000000000.7"), &a),
                 ERR_OK);
    cr_assert(is_text(a.stream, "S") && is_text(a.consumer, "C"));
    cr_assert_eq(a.deliveries, 1);
    cr_assert_eq(a.stream_seq, 22);
    cr_assert_eq(a.consumer_seq, 333);
    cr_assert_eq(a.time_ns, 1700000000000000000u);
    cr_assert_eq(a.pending, 7);
    cr_assert_eq(ack_parse_subject(BYTES_LITERAL("$JS.ACK._.hash.S.C.1.22.333.4.7"), &a), ERR_OK);
    cr_assert(is_text(a.stream, "S") && is_text(a.consumer, "C"));
    cr_assert_eq(a.pending, 7);
    cr_assert_eq(ack_parse_subject(BYTES_LITERAL("$JS.ACK.d.h.S.C.1.22.333.4.7.more.x"), &a),
                 ERR_OK);
    cr_assert_eq(a.stream_seq, 22);
}

Test(ack, other_subjects_are_refused)
{
    struct ack_subject a;
    cr_assert_eq(ack_parse_subject(BYTES_LITERAL(""), &a), ERR_SYNTAX);
    cr_assert_eq(ack_parse_subject(BYTES_LITERAL("$JS.ACK.S.C.1.2.3.4"), &a), ERR_SYNTAX);
    cr_assert_eq(ack_parse_subject(BYTES_LITERAL("$JS.ACK.S.C.1.2.3.4.5.6"), &a), ERR_SYNTAX);
    cr_assert_eq(ack_parse_subject(BYTES_LITERAL("$JS.FC.S.C.1.2.3.4.5"), &a), ERR_SYNTAX);
    cr_assert_eq(ack_parse_subject(BYTES_LITERAL("JS.ACK.S.C.1.2.3.4.5"), &a), ERR_SYNTAX);
}

Test(ack, a_number_that_is_none_is_above_every_sequence)
{
    struct ack_subject a;
    cr_assert_eq(ack_parse_subject(BYTES_LITERAL("$JS.ACK.S.C.x..-3.99999999999999999999.5"), &a),
                 ERR_OK);
    cr_assert_eq(a.deliveries, ACK_NUMBER_BAD);
    cr_assert_eq(a.stream_seq, ACK_NUMBER_BAD);
    cr_assert_eq(a.consumer_seq, ACK_NUMBER_BAD);
    cr_assert_eq(a.time_ns, ACK_NUMBER_BAD);
}

Test(ack, the_subject_that_is_written_reads_back)
{
    char room[100];
    struct writer w;
    struct ack_subject a = {.stream = BYTES_LITERAL("S"),
                            .consumer = BYTES_LITERAL("C"),
                            .deliveries = 2,
                            .stream_seq = UINT64_MAX - 1,
                            .consumer_seq = 3,
                            .time_ns = 4,
                            .pending = 0};
    struct ack_subject b;
    writer_init(&w, room, sizeof room);
    ack_write_subject(&w, &a);
    cr_assert(is_text(writer_written(&w), "$JS.ACK.S.C.2.18446744073709551614.3.4.0"));
    cr_assert_eq(ack_parse_subject(writer_written(&w), &b), ERR_OK);
    cr_assert_eq(b.stream_seq, a.stream_seq);
    cr_assert_eq(b.pending, 0);
}

static void expect_text(struct ack_text *t, const struct ack_subject *a)
{
    char text[ACK_SUBJECT_BYTES_MAX];
    struct writer w;
    writer_init(&w, text, sizeof text);
    ack_write_subject(&w, a);
    ack_text_write(t, a);
    cr_assert(bytes_equal(bytes_of(t->text, t->len), writer_written(&w)), "%.*s not %.*s",
              (int)t->len, t->text, (int)w.len, text);
}

/* Over every place where a number gets or loses a digit, and where a second ends. */
Test(ack, a_run_of_subjects_is_written_as_each_by_itself)
{
    struct ack_text t = {0};
    struct ack_subject a = {.stream = BYTES_LITERAL("S"),
                            .consumer = BYTES_LITERAL("c"),
                            .deliveries = 1,
                            .stream_seq = 95,
                            .consumer_seq = 7,
                            .time_ns = 1700000000999999000u,
                            .pending = 1205};
    for (; a.pending > 0; a.stream_seq++, a.consumer_seq++, a.pending--, a.time_ns += 7)
        expect_text(&t, &a);
    expect_text(&t, &a); /* nothing is left */
    a.pending = 500;
    expect_text(&t, &a);
    a.stream_seq += 2; /* one is missing */
    a.consumer_seq++;
    a.pending--;
    expect_text(&t, &a);
    a.time_ns = 5; /* before 2001 */
    a.stream_seq++;
    a.consumer_seq++;
    a.pending--;
    expect_text(&t, &a);
    a.deliveries = 2;
    expect_text(&t, &a);
    a.consumer = BYTES_LITERAL("another");
    t.is_known = false;
    expect_text(&t, &a);
}

Test(ack, flow_subjects_name_stream_and_consumer)
{
    struct bytes stream, consumer;
    cr_assert_eq(ack_parse_flow(BYTES_LITERAL("$JS.FC.S.C.abcd"), &stream, &consumer), ERR_OK);
    cr_assert(is_text(stream, "S") && is_text(consumer, "C"));
    cr_assert_eq(ack_parse_flow(BYTES_LITERAL("$JS.FC._.h.S.C.abcd"), &stream, &consumer), ERR_OK);
    cr_assert(is_text(stream, "S") && is_text(consumer, "C"));
    cr_assert_eq(ack_parse_flow(BYTES_LITERAL("$JS.FC.S.C"), &stream, &consumer), ERR_SYNTAX);
    cr_assert_eq(ack_parse_flow(BYTES_LITERAL("$JS.ACK.S.C.abcd"), &stream, &consumer), ERR_SYNTAX);
}

static struct ack_payload parse(const char *text)
{
    struct ack_payload p;
    ack_parse_payload(&arena, bytes_from_text(text), &p);
    cr_assert_eq(heap.live_count, 0);
    return p;
}

Test(ack, payloads)
{
    cr_assert_eq(parse("").kind, ACK_DONE);
    cr_assert_eq(parse("+ACK").kind, ACK_DONE);
    cr_assert_eq(parse("+OK").kind, ACK_DONE);
    cr_assert_eq(parse("+ACK ").kind, ACK_UNKNOWN);
    cr_assert_eq(parse("hello").kind, ACK_UNKNOWN);
    cr_assert_eq(parse("+WPI").kind, ACK_PROGRESS);
    cr_assert_eq(parse("+WPI ").kind, ACK_UNKNOWN);
    struct ack_payload p = parse("+TERM  out of stock \n");
    cr_assert_eq(p.kind, ACK_TERM);
    cr_assert(is_text(p.reason, "out of stock"));
    p = parse("+NXT {\"batch\":2}");
    cr_assert_eq(p.kind, ACK_NEXT);
    cr_assert(is_text(p.next, " {\"batch\":2}"));
}

Test(ack, a_nak_may_carry_a_delay_in_two_forms)
{
    struct ack_payload p = parse("-NAK");
    cr_assert(p.kind == ACK_NAK && !p.has_delay && !p.is_delay_bad);
    p = parse("-NAK  ");
    cr_assert(p.kind == ACK_NAK && !p.has_delay && !p.is_delay_bad);
    p = parse("-NAK 1.5s");
    cr_assert(p.has_delay && p.delay_ns == 1500000000);
    p = parse("-NAK {\"delay\": 250, \"other\": true}");
    cr_assert(p.has_delay && p.delay_ns == 250);
    p = parse("-NAK {}");
    cr_assert(p.has_delay && p.delay_ns == 0);
    p = parse("-NAK soon");
    cr_assert(p.kind == ACK_NAK && !p.has_delay && p.is_delay_bad);
    p = parse("-NAK {\"delay\":\"1s\"}");
    cr_assert(p.kind == ACK_NAK && !p.has_delay && p.is_delay_bad);
    p = parse("-NAK {\"delay\":");
    cr_assert(p.kind == ACK_NAK && !p.has_delay && p.is_delay_bad);
}

static struct ack_pull pull(const char *text)
{
    struct ack_pull p;
    char text_of_why[200];
    struct writer why;
    writer_init(&why, text_of_why, sizeof text_of_why);
    cr_assert_eq(ack_parse_pull(&arena, bytes_from_text(text), &p, &why), ERR_OK, "%s", text);
    return p;
}

Test(ack, pull_requests_are_empty_a_number_or_an_object)
{
    cr_assert_eq(pull("").batch, 1);
    cr_assert_eq(pull(" 25 ").batch, 25);
    cr_assert_eq(pull("-3").batch, -3);
    cr_assert_eq(pull("x").batch, 1);
    struct ack_pull p = pull("{}");
    cr_assert_eq(p.batch, 0);
    p = pull("{\"batch\":7,\"expires\":2000,\"max_bytes\":5,\"no_wait\":true,"
             "\"idle_heartbeat\":1000,\"id\":\"i\",\"group\":\"g\",\"new_field\":1}");
    cr_assert(p.batch == 7 && p.expires_ns == 2000 && p.max_bytes == 5 && p.no_wait);
    cr_assert(p.heartbeat_ns == 1000 && is_text(p.id, "i") && is_text(p.group, "g"));
    cr_assert_eq(heap.live_count, 0);
}

static void expect_bad(const char *text, const char *wanted)
{
    struct ack_pull p;
    char text_of_why[200];
    struct writer why;
    writer_init(&why, text_of_why, sizeof text_of_why);
    cr_assert_eq(ack_parse_pull(&arena, bytes_from_text(text), &p, &why), ERR_SYNTAX);
    cr_assert(is_text(writer_written(&why), wanted), "%.*s", (int)why.len, why.data);
}

Test(ack, a_bad_pull_request_says_why)
{
    expect_bad("{\"expires\":1999,\"idle_heartbeat\":1000}", "heartbeat value too large");
    expect_bad("{\"idle_heartbeat\":1}", "heartbeat value too large");
    expect_bad("{\"expires\":9223372036854775807,\"idle_heartbeat\":9223372036854775807}",
               "heartbeat value too large");
    expect_bad("{\"batch\":\"x\"}", "json: cannot unmarshal string into Go struct field "
                                    "JSApiConsumerGetNextRequest.batch of type int");
    expect_bad("{\"batch\":", "unexpected end of JSON input");
}
