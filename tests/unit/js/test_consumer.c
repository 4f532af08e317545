#include <criterion/criterion.h>
#include <string.h>
#include "core/base/must.h"
#include "core/js/consumer_state.h"
#include "core/js/sieve.h"
#include "tests/support/mem_heap.h"

/* A stream of ten messages on three subjects, and one consumer on it. */
struct rig {
    struct outlet outlet;
    struct mem_heap heap;
    struct msgs msgs;
    struct subject_index subjects;
    struct consumer_feed feed;
    struct consumer_live idle;
    uint64_t first_seq, last_seq;
    struct consumer consumer;
    struct consumer_config config;
    struct arena arena;
    struct rng rng;
    struct shard_time now;
    struct outlet_event event; /* the last one */
    uint32_t event_count;
};

static struct rig r;

static void ignore_send(struct outlet *o, struct bytes subject, struct bytes reply,
                        struct bytes headers)
{
}

static bool listens(struct outlet *o, struct bytes subject)
{
    return true;
}

static void on_event(struct outlet *o, const struct outlet_event *e)
{
    r.event = *e;
    r.event_count++;
}

static void publish(const char *subject)
{
    uint32_t node;
    bool is_new;
    uint64_t seq = ++r.last_seq;
    cr_assert_eq(subject_index_intern(&r.subjects, bytes_from_text(subject), &node, &is_new),
                 ERR_OK);
    struct msgs_entry entry = {
        .place = seq, .time_ns = (int64_t)seq * 1000000000, .bytes = 10, .node = node};
    cr_assert_eq(msgs_append(&r.msgs, seq, &entry), ERR_OK);
    subject_index_add(&r.subjects, node, seq);
    r.first_seq = msgs_first(&r.msgs);
}

static void setup(void)
{
    static const char *const subjects[] = {"s.a", "s.b", "s.c"};
    r = (struct rig){.outlet = {.send = ignore_send, .has_interest = listens, .event = on_event}};
    mem_heap_init(&r.heap);
    msgs_init(&r.msgs, &r.heap.mem);
    subject_index_init(&r.subjects, &r.heap.mem, 0);
    arena_init(&r.arena, &r.heap.mem, MEM_JETSTREAM);
    rng_init(&r.rng, 1);
    r.now = (struct shard_time){.mono_ns = 1000000000, .wall_ns = INT64_C(1700000000000000000)};
    r.feed = (struct consumer_feed){.msgs = &r.msgs,
                                    .subjects = &r.subjects,
                                    .first_seq = &r.first_seq,
                                    .last_seq = &r.last_seq,
                                    .name = BYTES_LITERAL("S"),
                                    .idle = &r.idle};
    consumer_idle_init(&r.idle, &r.heap.mem);
    for (int i = 0; i < 10; i++) publish(subjects[i % 3]);
    r.config = (struct consumer_config){.durable_name = BYTES_LITERAL("c"),
                                        .name = BYTES_LITERAL("c"),
                                        .ack_policy = CONSUMER_ACK_EXPLICIT,
                                        .ack_wait_ns = 1000000000,
                                        .max_deliver = -1,
                                        .max_ack_pending = 1000,
                                        .deliver_subject = BYTES_LITERAL("d")};
}

static void open_consumer(void)
{
    cr_assert_eq(consumer_open(&r.consumer, &r.heap.mem, &r.feed, 1, &r.config, 1, r.now), ERR_OK);
    consumer_set_bound(&r.consumer, true, r.now);
}

static void close_all(void)
{
    consumer_close(&r.consumer);
    msgs_clear(&r.msgs);
    subject_index_clear(&r.subjects);
    arena_deinit(&r.arena);
    must(r.heap.live_count == 0);
}

TestSuite(consumer, .init = setup, .fini = close_all);

/* Delivers one; 0: there is none now. */
static uint64_t deliver(struct consumer_delivery *d)
{
    struct consumer_pick pick;
    struct consumer_message m = {.subject = 3, .body = 5};
    if (consumer_next(&r.consumer, r.now, &r.outlet, &pick) != CONSUMER_DELIVER) return 0;
    cr_assert(consumer_deliver(&r.consumer, r.now, &pick, &m, &r.outlet, d));
    return d->seq;
}

static void expect_order(const uint64_t *seqs)
{
    struct consumer_delivery d = {0};
    for (; *seqs != 0; seqs++) cr_assert_eq(deliver(&d), *seqs);
    cr_assert_eq(deliver(&d), 0);
    cr_assert_eq(consumer_left(&r.consumer), 0);
}

static enum err try_ack(uint64_t seq, uint64_t cseq, const char *text)
{
    struct ack_payload p;
    struct ack_subject a = {.deliveries = 1, .stream_seq = seq, .consumer_seq = cseq};
    ack_parse_payload(&r.arena, bytes_from_text(text), &p);
    return consumer_ack(&r.consumer, r.now, &a, &p, &r.rng, &r.outlet);
}

static bool ack(uint64_t seq, uint64_t cseq, const char *text)
{
    return try_ack(seq, cseq, text) == ERR_OK;
}

Test(consumer, deliver_policies_pick_the_start)
{
    r.config.deliver_policy = CONSUMER_DELIVER_LAST;
    r.config.filter_subject = BYTES_LITERAL("s.b");
    open_consumer();
    cr_assert_eq(consumer_left(&r.consumer), 1);
    cr_assert_eq(r.consumer.delivered_seq, 7);
    expect_order((uint64_t[]){8, 0});
}

Test(consumer, new_means_what_comes_later)
{
    r.config.deliver_policy = CONSUMER_DELIVER_NEW;
    open_consumer();
    struct consumer_delivery d = {0};
    cr_assert_eq(deliver(&d), 0);
    publish("s.a");
    cr_assert_eq(consumer_left(&r.consumer), 1);
    expect_order((uint64_t[]){11, 0});
}

Test(consumer, a_start_time_is_the_first_message_not_before)
{
    r.config.deliver_policy = CONSUMER_DELIVER_BY_START_TIME;
    r.config.opt_start_time = (struct time_stamp){.is_set = true, .wall_ns = 7500000000};
    open_consumer();
    expect_order((uint64_t[]){8, 9, 10, 0});
}

Test(consumer, last_per_subject_skips_what_is_older_then_goes_on)
{
    r.config.deliver_policy = CONSUMER_DELIVER_LAST_PER_SUBJECT;
    r.config.filter_subject = BYTES_LITERAL("s.*");
    open_consumer();
    cr_assert_eq(consumer_left(&r.consumer), 3);
    publish("s.b");
    cr_assert_eq(consumer_left(&r.consumer), 4);
    consumer_removed(&r.consumer, 9, BYTES_LITERAL("s.c"), &r.outlet);
    struct msgs_entry entry;
    cr_assert_eq(msgs_remove(&r.msgs, 9, &entry), ERR_OK);
    (void)subject_index_remove(&r.subjects, entry.node, 9);
    cr_assert_eq(consumer_left(&r.consumer), 3);
    expect_order((uint64_t[]){8, 10, 11, 0});
}

static void remove_untold(uint64_t seq)
{
    struct msgs_entry entry;
    cr_assert_eq(msgs_remove(&r.msgs, seq, &entry), ERR_OK);
    (void)subject_index_remove(&r.subjects, entry.node, seq);
}

/* A purge goes by pieces, and consumers are told at its end: a pull may come between. */
Test(consumer, the_last_of_a_subject_may_go_before_it_is_told)
{
    struct consumer_delivery d = {0};
    r.config.deliver_policy = CONSUMER_DELIVER_LAST_PER_SUBJECT;
    r.config.filter_subject = BYTES_LITERAL("s.*");
    open_consumer();
    cr_assert_eq(consumer_left(&r.consumer), 3);
    remove_untold(8);
    cr_assert_eq(deliver(&d), 9);
    cr_assert_eq(d.left, 1);
    remove_untold(10);
    cr_assert_eq(deliver(&d), 0);
    cr_assert_eq(consumer_left(&r.consumer), 0);
    consumer_purged(&r.consumer, BYTES_LITERAL(""), 11);
    publish("s.a");
    cr_assert_eq(consumer_left(&r.consumer), 1);
    expect_order((uint64_t[]){11, 0});
}

/* As nats-server 2.15.2 has it: to the stream's first message those that get more than what was
 * purged; those that get nothing of it stay where they are. */
Test(consumer, a_purge_by_filter_moves_those_that_get_some_of_it)
{
    static const struct {
        const char *filter;
        uint64_t delivered;
    } cases[] = {{"s.b", 0}, {"s.a", 3}, {"s.*", 1}, {"", 1}};
    for (int i = 0; i < 4; i++) {
        if (i > 0) {
            close_all();
            setup();
        }
        r.config.filter_subject = bytes_from_text(cases[i].filter);
        open_consumer();
        remove_untold(1);
        r.first_seq = msgs_first(&r.msgs);
        consumer_purged(&r.consumer, BYTES_LITERAL("s.a"), 4);
        cr_assert_eq(r.consumer.delivered_seq, cases[i].delivered, "%s", cases[i].filter);
        cr_assert_eq(r.consumer.floor_seq, cases[i].delivered);
    }
}

Test(consumer, what_is_left_is_counted_without_memory, .timeout = 60)
{
    r.config.filter_subjects.items = (struct bytes[]){BYTES_LITERAL("*.a"), BYTES_LITERAL("s.*")};
    r.config.filter_subjects.count = 2; /* they meet: no index says how many these select */
    r.config.deliver_policy = CONSUMER_DELIVER_NEW;
    open_consumer();
    for (int i = 0; i < 2000; i++) publish(i % 2 == 0 ? "s.a" : "t.b");
    r.heap.fail_at = r.heap.alloc_count + 1;
    r.heap.fail_from = 1;
    cr_assert_eq(consumer_left(&r.consumer), 1000);
    r.heap.fail_at = 0;
}

Test(consumer, an_update_without_memory_changes_nothing)
{
    struct bytes filters[] = {BYTES_LITERAL("s.a"), BYTES_LITERAL("s.b")};
    open_consumer();
    r.config.filter_subjects.items = filters;
    r.config.filter_subjects.count = 2;
    r.config.deliver_subject = BYTES_LITERAL("other");
    struct bytes name = r.consumer.name, target = consumer_deliver_subject(&r.consumer);
    uint64_t fails = 0;
    do {
        /* They lie in the configuration that stands. */
        cr_assert_eq(r.consumer.name.data, name.data);
        cr_assert_eq(consumer_deliver_subject(&r.consumer).data, target.data);
        r.heap.fail_at = r.heap.alloc_count + ++fails;
    } while (consumer_update(&r.consumer, &r.config, r.now, NULL) == ERR_MEMORY);
    cr_assert_gt(fails, 2);
    cr_assert(bytes_equal(consumer_deliver_subject(&r.consumer), BYTES_LITERAL("other")));
}

Test(consumer, a_pull_counts_a_piece_of_what_came_since)
{
    r.config.filter_subjects.items = (struct bytes[]){BYTES_LITERAL("*.a"), BYTES_LITERAL("s.*")};
    r.config.filter_subjects.count = 2;
    r.config.deliver_policy = CONSUMER_DELIVER_NEW;
    r.config.deliver_subject = BYTES_LITERAL("");
    r.config.max_waiting = 10;
    cr_assert_eq(consumer_open(&r.consumer, &r.heap.mem, &r.feed, 1, &r.config, 1, r.now), ERR_OK);
    for (int i = 0; i < SIEVE_STEP + 1000; i++) publish("t.b");
    consumer_pull(&r.consumer, r.now, &r.arena, BYTES_LITERAL("{\"no_wait\":true}"),
                  BYTES_LITERAL("in"), &r.outlet);
    cr_assert_lt(r.consumer.counted_to, r.last_seq);
    cr_assert_eq(r.consumer.live->pulls.count, 1);
    struct consumer_pick pick;
    enum consumer_verdict verdict;
    do verdict = consumer_next(&r.consumer, r.now, &r.outlet, &pick);
    while (verdict == CONSUMER_AGAIN);
    cr_assert_eq(verdict, CONSUMER_IDLE);
    cr_assert_eq(r.consumer.live->pulls.count, 0); /* 404 */
}

Test(consumer, the_ack_subject_tells_the_delivery)
{
    struct consumer_delivery d = {0};
    open_consumer();
    cr_assert_eq(deliver(&d), 1);
    cr_assert(bytes_equal(bytes_of(d.ack.text, d.ack.len),
                          BYTES_LITERAL("$JS.ACK.S.c.1.1.1.1000000000.9")));
    cr_assert(bytes_equal(d.target, BYTES_LITERAL("d")));
}

Test(consumer, the_floor_follows_the_lowest_that_waits)
{
    struct consumer_delivery d = {0};
    open_consumer();
    for (uint64_t i = 1; i <= 3; i++) cr_assert_eq(deliver(&d), i);
    cr_assert(ack(2, 2, ""));
    cr_assert_eq(r.consumer.floor_seq, 0);
    cr_assert(ack(1, 1, ""));
    cr_assert_eq(r.consumer.floor_seq, 2);
    cr_assert(ack(3, 3, ""));
    cr_assert_eq(r.consumer.floor_seq, 3);
    cr_assert(!ack(9, 9, "")); /* never delivered: no answer */
}

/* Its time and its place are its own. */
Test(consumer, what_is_given_up_does_not_lend_its_entry_to_the_next_message)
{
    struct consumer_delivery d = {0};
    struct consumer_pick pick;
    r.config.max_deliver = 1;
    r.config.filter_subject = BYTES_LITERAL("s.b");
    open_consumer();
    cr_assert_eq(deliver(&d), 2);
    cr_assert(ack(2, 1, "-NAK"));
    cr_assert_eq(consumer_next(&r.consumer, r.now, &r.outlet, &pick), CONSUMER_DELIVER);
    cr_assert_eq(pick.seq, 5);
    cr_assert_eq(pick.entry.place, 5);
}

Test(consumer, max_deliver_gives_up_once_and_says_so)
{
    struct consumer_delivery d = {0};
    bool is_gone;
    r.config.max_deliver = 2;
    open_consumer();
    cr_assert_eq(deliver(&d), 1);
    r.now.mono_ns += 1000000000;
    (void)consumer_timer(&r.consumer, r.now, &r.outlet, &is_gone);
    cr_assert_eq(deliver(&d), 1);
    cr_assert_eq(d.deliveries, 2);
    r.now.mono_ns += 1000000000;
    (void)consumer_timer(&r.consumer, r.now, &r.outlet, &is_gone);
    cr_assert_eq(r.event_count, 1);
    cr_assert_eq(r.event.kind, OUTLET_MAX_DELIVERIES);
    cr_assert_eq(r.event.deliveries, 2);
    cr_assert_eq(r.consumer.live->window.pending_count, 0);
    cr_assert(consumer_needs(&r.consumer, 1, BYTES_LITERAL("s.a"))); /* also of a work queue */
    cr_assert_eq(deliver(&d), 2);
    cr_assert(ack(1, 1, "")); /* late, and still welcome */
    cr_assert(!consumer_needs(&r.consumer, 1, BYTES_LITERAL("s.a")));
}

/* As it is found by a start. */
Test(consumer, what_is_given_up_and_goes_lets_the_floor_pass)
{
    struct consumer_delivery d = {0};
    r.config.max_deliver = 1;
    open_consumer();
    cr_assert_eq(deliver(&d), 1);
    cr_assert(ack(1, 1, "-NAK"));
    cr_assert_eq(deliver(&d), 2);
    cr_assert(ack(2, 2, "-NAK"));
    cr_assert_eq(deliver(&d), 3);
    cr_assert_eq(r.consumer.floor_seq, 0);
    cr_assert(!consumer_removed(&r.consumer, 2, BYTES_LITERAL("s.b"), &r.outlet));
    cr_assert_eq(r.consumer.floor_seq, 2);
    cr_assert_eq(r.consumer.floor_cseq, 2);
}

Test(consumer, a_nak_with_delay_comes_back_when_it_is_over)
{
    struct consumer_delivery d = {0};
    bool is_gone;
    open_consumer();
    for (int i = 0; i < 10; i++) (void)deliver(&d);
    cr_assert(ack(3, 3, "-NAK 50ms"));
    cr_assert_eq(r.event.kind, OUTLET_NAK);
    cr_assert_eq(deliver(&d), 0);
    cr_assert_eq(consumer_timer(&r.consumer, r.now, &r.outlet, &is_gone),
                 (int64_t)r.now.mono_ns + 50000000);
    r.now.mono_ns += 50000000;
    (void)consumer_timer(&r.consumer, r.now, &r.outlet, &is_gone);
    cr_assert_eq(deliver(&d), 3);
}

Test(consumer, max_ack_pending_stalls_and_an_ack_frees)
{
    struct consumer_delivery d = {0};
    struct consumer_pick pick;
    r.config.max_ack_pending = 2;
    open_consumer();
    cr_assert_eq(deliver(&d), 1);
    cr_assert_eq(deliver(&d), 2);
    cr_assert_eq(consumer_next(&r.consumer, r.now, &r.outlet, &pick), CONSUMER_FULL);
    cr_assert(ack(1, 1, ""));
    cr_assert_eq(deliver(&d), 3);
}

Test(consumer, replay_original_keeps_the_gaps)
{
    struct consumer_delivery d = {0};
    struct consumer_pick pick;
    r.config.replay_policy = CONSUMER_REPLAY_ORIGINAL;
    open_consumer();
    cr_assert_eq(deliver(&d), 1);
    cr_assert_eq(consumer_next(&r.consumer, r.now, &r.outlet, &pick), CONSUMER_LATER);
    cr_assert_eq(pick.at_ns, (int64_t)r.now.mono_ns + 1000000000);
    r.now.mono_ns += 1000000000;
    cr_assert_eq(deliver(&d), 2);
}

Test(consumer, a_pause_ends_by_itself)
{
    struct consumer_delivery d = {0};
    struct consumer_pick pick;
    bool is_gone;
    r.config.pause_until =
        (struct time_stamp){.is_set = true, .wall_ns = r.now.wall_ns + 1000000000};
    open_consumer();
    cr_assert_eq(consumer_next(&r.consumer, r.now, &r.outlet, &pick), CONSUMER_PAUSED);
    cr_assert_eq(consumer_timer(&r.consumer, r.now, &r.outlet, &is_gone), 2000000000);
    r.now.mono_ns += 1000000000;
    r.now.wall_ns += 1000000000;
    cr_assert_eq(deliver(&d), 1);
}

Test(consumer, one_that_nobody_listens_to_goes_after_its_threshold)
{
    bool is_gone;
    r.config.inactive_threshold_ns = 5000000000;
    open_consumer();
    cr_assert_eq(consumer_timer(&r.consumer, r.now, &r.outlet, &is_gone), INT64_MAX);
    consumer_set_bound(&r.consumer, false, r.now);
    cr_assert_eq(consumer_timer(&r.consumer, r.now, &r.outlet, &is_gone), 6000000000);
    cr_assert(!is_gone);
    r.now.mono_ns += 5000000000;
    (void)consumer_timer(&r.consumer, r.now, &r.outlet, &is_gone);
    cr_assert(is_gone);
}

Test(consumer, a_reset_starts_again_where_it_may)
{
    struct consumer_delivery d = {0};
    char text[100];
    struct writer why;
    uint64_t seq;
    writer_init(&why, text, sizeof text);
    r.config.deliver_policy = CONSUMER_DELIVER_BY_START_SEQUENCE;
    r.config.opt_start_seq = 4;
    open_consumer();
    cr_assert_eq(deliver(&d), 4);
    cr_assert_eq(deliver(&d), 5);
    cr_assert(ack(4, 1, ""));
    cr_assert_eq(consumer_reset_seq(&r.consumer, 3, &seq, &r.arena, &why), ERR_DENIED);
    cr_assert(bytes_equal(writer_written(&why), BYTES_LITERAL("below start seq")));
    cr_assert_eq(consumer_reset_seq(&r.consumer, 0, &seq, &r.arena, &why), ERR_OK);
    cr_assert_eq(seq, 5);
    consumer_reset(&r.consumer, seq, false);
    cr_assert_eq(consumer_left(&r.consumer), 6);
    cr_assert_eq(deliver(&d), 5);
    cr_assert_eq(d.consumer_seq, 1);
}

/* Of a message that a reset passed over, in a work queue: whoever sent it is to be told. */
Test(consumer, a_late_ack_without_memory_is_not_taken)
{
    struct consumer_delivery d = {0};
    open_consumer();
    r.feed.is_released = true;
    cr_assert_eq(deliver(&d), 1);
    consumer_reset(&r.consumer, 4, false);
    r.heap.fail_at = r.heap.alloc_count + 1;
    r.heap.fail_from = 1;
    cr_assert_eq(try_ack(1, 1, ""), ERR_MEMORY);
    r.heap.fail_at = 0;
    cr_assert_eq(try_ack(1, 1, ""), ERR_OK);
}

/* The whole reply as nats-server gives it, but for the times. */
Test(consumer, info_has_the_fields_of_nats_server)
{
    struct text text;
    struct json_write w;
    struct consumer_delivery d = {0};
    r.config.filter_subject = BYTES_LITERAL("s.a");
    open_consumer();
    cr_assert_eq(deliver(&d), 1);
    text_init(&text, &r.heap.mem, MEM_JETSTREAM, 4096);
    json_write_init(&w, &text, 0);
    json_write_object(&w, NULL);
    cr_assert_eq(consumer_write_info(&r.consumer, &r.arena, r.now, &r.outlet, false, &w), ERR_OK);
    json_write_end(&w);
    static const char wanted[] =
        "{\"stream_name\":\"S\",\"name\":\"c\",\"created\":\"1970-01-01T00:00:00.000000001Z\","
        "\"config\":{\"durable_name\":\"c\",\"name\":\"c\",\"deliver_policy\":\"all\","
        "\"ack_policy\":\"explicit\",\"ack_wait\":1000000000,\"max_deliver\":-1,"
        "\"filter_subject\":\"s.a\",\"replay_policy\":\"instant\",\"max_ack_pending\":1000,"
        "\"deliver_subject\":\"d\",\"num_replicas\":0,\"metadata\":{\"_nats.level\":\"5\","
        "\"_nats.req.level\":\"0\",\"_nats.ver\":\"2.15.2\"}},"
        "\"delivered\":{\"consumer_seq\":1,\"stream_seq\":1,"
        "\"last_active\":\"2023-11-14T22:13:20Z\"},"
        "\"ack_floor\":{\"consumer_seq\":0,\"stream_seq\":0},\"num_ack_pending\":1,"
        "\"num_redelivered\":0,\"num_waiting\":0,\"num_pending\":3,\"push_bound\":true,"
        "\"ts\":\"2023-11-14T22:13:20Z\"}";
    cr_assert(bytes_equal(text_written(&text), bytes_from_text(wanted)), "%.*s", (int)text.len,
              text.data);
    text_deinit(&text);
}

/* What a client put off is not there again at once because the server was started anew. */
static void expect_put_off(const char *payload, int64_t wait_ns)
{
    struct text body;
    bool is_gone;
    struct consumer_delivery d = {0};
    open_consumer();
    cr_assert_eq(deliver(&d), 1);
    text_init(&body, &r.heap.mem, MEM_JETSTREAM, 4096);
    consumer_encode(&r.consumer, r.now, false, &body);
    r.now.mono_ns += 900000000;
    (void)ack(1, 1, payload);
    cr_assert(consumer_is_unsaved(&r.consumer));
    text_clear(&body);
    consumer_encode(&r.consumer, r.now, false, &body);
    consumer_close(&r.consumer);
    open_consumer();
    cr_assert_eq(consumer_apply(&r.consumer, text_written(&body), r.now.wall_ns, r.now), ERR_OK);
    text_deinit(&body);
    cr_assert_eq(consumer_timer(&r.consumer, r.now, &r.outlet, &is_gone),
                 (int64_t)r.now.mono_ns + wait_ns);
}

Test(consumer, a_delay_of_a_nak_is_on_record)
{
    expect_put_off("-NAK 1h", INT64_C(3600000000000));
}

Test(consumer, progress_is_on_record)
{
    expect_put_off("+WPI", 1000000000);
}

static void reopen(struct bytes copy, struct bytes record)
{
    consumer_close(&r.consumer);
    open_consumer();
    cr_assert_eq(consumer_apply_copy(&r.consumer, copy, r.now.wall_ns, r.now), ERR_OK);
    if (record.len == 0) return;
    cr_assert_eq(consumer_apply(&r.consumer, record, r.now.wall_ns, r.now), ERR_OK);
}

/* A record may tell that a message waits which went before the record was written. */
Test(consumer, a_start_drops_deliveries_of_messages_that_are_gone)
{
    struct consumer_delivery d = {0};
    struct text body;
    open_consumer();
    cr_assert_eq(deliver(&d), 1);
    cr_assert_eq(deliver(&d), 2);
    text_init(&body, &r.heap.mem, MEM_JETSTREAM, 4096);
    consumer_encode(&r.consumer, r.now, false, &body);
    text_deinit(&body);
    remove_untold(1);
    consumer_replayed(&r.consumer);
    cr_assert_eq(r.consumer.live->window.pending_count, 1);
    cr_assert_eq(r.consumer.floor_seq, 1);
    cr_assert(consumer_is_unsaved(&r.consumer));
}

/* And its floor is then not below what went. */
Test(consumer, a_start_moves_the_floor_past_what_went_before_a_record)
{
    struct consumer_delivery d = {0};
    struct text first, second;
    open_consumer();
    text_init(&first, &r.heap.mem, MEM_JETSTREAM, 4096);
    text_init(&second, &r.heap.mem, MEM_JETSTREAM, 4096);
    cr_assert_eq(deliver(&d), 1);
    cr_assert_eq(deliver(&d), 2);
    consumer_encode(&r.consumer, r.now, false, &first);
    cr_assert_eq(deliver(&d), 3);
    consumer_encode(&r.consumer, r.now, false, &second);
    consumer_close(&r.consumer);
    open_consumer();
    cr_assert_eq(consumer_apply(&r.consumer, text_written(&first), r.now.wall_ns, r.now), ERR_OK);
    consumer_removed(&r.consumer, 1, BYTES_LITERAL("s.a"), &r.outlet);
    remove_untold(1);
    cr_assert_eq(consumer_apply(&r.consumer, text_written(&second), r.now.wall_ns, r.now), ERR_OK);
    consumer_replayed(&r.consumer);
    cr_assert_eq(r.consumer.live->window.pending_count, 2);
    cr_assert_eq(r.consumer.floor_seq, 1);
    text_deinit(&first);
    text_deinit(&second);
}

/* Deliveries that only a checkpoint knows go on waiting for their acks behind later records. */
Test(consumer, what_a_checkpoint_knows_first_stays_pending)
{
    struct text copy, body;
    struct consumer_delivery d = {0};
    open_consumer();
    text_init(&copy, &r.heap.mem, MEM_JETSTREAM, 4096);
    text_init(&body, &r.heap.mem, MEM_JETSTREAM, 4096);
    cr_assert_eq(deliver(&d), 1);
    consumer_encode_copy(&r.consumer, r.now, &copy);
    reopen(text_written(&copy), BYTES_LITERAL(""));
    cr_assert_eq(deliver(&d), 2);
    consumer_encode(&r.consumer, r.now, false, &body);
    reopen(text_written(&copy), text_written(&body));
    cr_assert_eq(r.consumer.live->window.pending_count, 2);
    text_deinit(&copy);
    text_deinit(&body);
}

/* What only the checkpoint knows, and went before the next record, moves no floor at the end of the
 * start that did not move before. */
Test(consumer, a_record_tells_of_what_went_between_a_checkpoint_and_it)
{
    struct text copy, gone, given_up;
    struct consumer_delivery d = {0};
    bool is_gone;
    r.config.max_deliver = 1;
    open_consumer();
    text_init(&copy, &r.heap.mem, MEM_JETSTREAM, 4096);
    text_init(&gone, &r.heap.mem, MEM_JETSTREAM, 4096);
    text_init(&given_up, &r.heap.mem, MEM_JETSTREAM, 4096);
    cr_assert_eq(deliver(&d), 1);
    consumer_encode(&r.consumer, r.now, false, &gone);
    text_clear(&gone);
    cr_assert_eq(deliver(&d), 2);
    consumer_encode_copy(&r.consumer, r.now, &copy);
    consumer_removed(&r.consumer, 2, BYTES_LITERAL("s.b"), &r.outlet);
    consumer_encode(&r.consumer, r.now, false, &gone);
    r.now.mono_ns += 1000000000;
    (void)consumer_timer(&r.consumer, r.now, &r.outlet, &is_gone);
    cr_assert_eq(r.consumer.live->window.given_up_count, 1);
    cr_assert_eq(r.consumer.floor_seq, 0);
    consumer_encode(&r.consumer, r.now, false, &given_up);
    reopen(text_written(&copy), BYTES_LITERAL(""));
    consumer_removed(&r.consumer, 2, BYTES_LITERAL("s.b"), &r.outlet);
    cr_assert_eq(consumer_apply(&r.consumer, text_written(&gone), r.now.wall_ns, r.now), ERR_OK);
    cr_assert_eq(consumer_apply(&r.consumer, text_written(&given_up), r.now.wall_ns, r.now),
                 ERR_OK);
    consumer_replayed(&r.consumer);
    cr_assert_eq(r.consumer.floor_seq, 0);
    cr_assert(!consumer_is_unsaved(&r.consumer));
    text_deinit(&copy);
    text_deinit(&gone);
    text_deinit(&given_up);
}

/* The first one waits, so what goes behind it stays as holes for the time being. */
Test(consumer, a_record_passes_many_that_a_checkpoint_knows_once, .timeout = 10)
{
    enum { COUNT = 200000 };
    struct text copy, record;
    struct consumer_delivery d = {0};
    r.config.max_ack_pending = -1;
    open_consumer();
    text_init(&copy, &r.heap.mem, MEM_JETSTREAM, SIZE_MAX / 4);
    text_init(&record, &r.heap.mem, MEM_JETSTREAM, SIZE_MAX / 4);
    while (r.last_seq < COUNT) publish("s.a");
    cr_assert_eq(deliver(&d), 1);
    consumer_encode(&r.consumer, r.now, false, &record);
    text_clear(&record);
    while (deliver(&d) != 0) continue;
    consumer_encode_copy(&r.consumer, r.now, &copy);
    for (uint64_t seq = COUNT; seq > 1; seq--) cr_assert(ack(seq, seq, ""));
    consumer_encode(&r.consumer, r.now, false, &record);
    reopen(text_written(&copy), text_written(&record));
    cr_assert_eq(r.consumer.live->window.pending_count, 1);
    text_deinit(&copy);
    text_deinit(&record);
}

Test(consumer, the_end_of_a_pause_is_told_once_unless_a_request_ended_it)
{
    bool is_gone;
    struct time_stamp *until = &r.config.pause_until;
    *until = (struct time_stamp){.wall_ns = r.now.wall_ns + 5, .is_set = true};
    open_consumer();
    (void)consumer_timer(&r.consumer, r.now, &r.outlet, &is_gone);
    cr_assert_eq(r.event_count, 0);
    r.now.wall_ns += 5;
    for (int i = 0; i < 2; i++) (void)consumer_timer(&r.consumer, r.now, &r.outlet, &is_gone);
    cr_assert_eq(r.event_count, 1);
    cr_assert_eq(r.event.kind, OUTLET_PAUSE_OVER);
    cr_assert_eq(r.event.until_ns, until->wall_ns);
    until->wall_ns = r.now.wall_ns + 5;
    cr_assert_eq(consumer_update(&r.consumer, &r.config, r.now, NULL), ERR_OK);
    (void)consumer_timer(&r.consumer, r.now, &r.outlet, &is_gone);
    until->is_set = false;
    cr_assert_eq(consumer_update(&r.consumer, &r.config, r.now, NULL), ERR_OK);
    r.now.wall_ns += 5;
    (void)consumer_timer(&r.consumer, r.now, &r.outlet, &is_gone);
    cr_assert_eq(r.event_count, 1);
}

/* As a checkpoint has it, while others of them are being delivered. With a search for the next
 * unsaved one behind each entry it took a minute. */
Test(consumer, the_whole_state_of_many_pending_ones_takes_a_moment, .timeout = 10)
{
    enum { COUNT = 150000 };
    struct text out;
    open_consumer();
    cr_assert_eq(consumer_state_wake(&r.consumer), ERR_OK);
    struct ackwin *w = &r.consumer.live->window;
    for (uint64_t seq = 1; seq <= COUNT; seq++) cr_assert_eq(ackwin_add(w, seq, seq, 0), ERR_OK);
    ackwin_set_saved(w);
    cr_assert_eq(ackwin_add(w, COUNT + 1, COUNT + 1, 0), ERR_OK);
    text_init(&out, &r.heap.mem, MEM_JETSTREAM, SIZE_MAX / 4);
    consumer_encode_copy(&r.consumer, r.now, &out);
    cr_assert_not(out.is_failed);
    cr_assert_gt(out.len, COUNT);
    text_deinit(&out);
}

Test(consumer, a_foreign_record_is_refused)
{
    open_consumer();
    static const char *const bodies[] = {"", "\x02", "\x01", "\x01\x01\x01\x01\x01\x01\x01\x01"};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++)
        cr_assert_eq(consumer_apply(&r.consumer, bytes_from_text(bodies[i]), 0, r.now),
                     ERR_CORRUPT);
}

/* The target for an idle durable pull consumer is 512 bytes, with its configuration. It takes 402:
 * whoever adds to struct consumer is to know that each of 100,000 grows. */
Test(consumer, an_idle_one_is_small)
{
    uint64_t before = r.heap.mem.used_bytes[MEM_JETSTREAM];
    r.config.durable_name = r.config.name = BYTES_LITERAL("orders-processor-12345");
    r.config.filter_subject = BYTES_LITERAL("orders.12345.>");
    r.config.deliver_subject = bytes_of("", 0);
    r.config.max_waiting = 512;
    open_consumer();
    uint64_t bytes = sizeof r.consumer + r.heap.mem.used_bytes[MEM_JETSTREAM] - before;
    cr_assert_leq(bytes, 408, "%lu bytes", (unsigned long)bytes);
    cr_log_info("%lu bytes, %zu of them the struct", (unsigned long)bytes, sizeof r.consumer);
}
