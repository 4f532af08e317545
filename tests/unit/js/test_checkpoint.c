#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include "core/base/must.h"
#include "core/js/checkpoint.h"
#include "tests/support/mem_heap.h"

/* The state of a large stream is written by pieces, and is that of the moment of the first. */

enum { MESSAGES = 6000, CONSUMERS = 60, STEP = 50, PIECE_BYTES_MAX = STEP * 32, ID = 5 };

static const int64_t START = INT64_C(1700000000000000000);
static struct mem_heap heap;
static struct js js;
static uint64_t last;

static void run(struct record r)
{
    r.stream = ID;
    r.time_ns = START + (int64_t)last;
    cr_assert_eq(js_replay(&js, 0, &r, 1000 + last), ERR_OK);
}

static void publish(void)
{
    char headers[128];
    last++;
    int len = snprintf(headers, sizeof headers, "NATS/1.0\r\nNats-Msg-Id: i%d\r\n%s\r\n", (int)last,
                       last % 3 == 0   ? "Nats-TTL: never\r\n"
                       : last % 3 == 1 ? "Nats-TTL: 5h\r\n"
                                       : "");
    run((struct record){.kind = RECORD_MESSAGE,
                        .seq = last,
                        .subject = BYTES_LITERAL("s.x"),
                        .headers = bytes_of(headers, (size_t)len)});
}

static void erase(uint64_t seq)
{
    run((struct record){.kind = RECORD_ERASE, .seq = seq});
}

static void make_consumer(uint64_t number)
{
    char name[16], config[128];
    int name_len = snprintf(name, sizeof name, "c%d", (int)number);
    int len = snprintf(
        config, sizeof config,
        "{\"config\":{\"name\":\"%s\",\"durable_name\":\"%s\",\"ack_policy\":\"explicit\"},"
        "\"created_ns\":%d}",
        name, name, (int)number);
    run((struct record){.kind = RECORD_CONSUMER,
                        .seq = number,
                        .subject = bytes_of(name, (size_t)name_len),
                        .body = bytes_of(config, (size_t)len)});
}

static void end_consumer(uint64_t number)
{
    run((struct record){.kind = RECORD_CONSUMER_GONE, .seq = number});
}

static void setup(void)
{
    mem_heap_init(&heap);
    js_init(&js, &heap.mem, NULL, 7, 1 << 20);
    last = 0;
    run((struct record){
        .kind = RECORD_STREAM,
        .subject = BYTES_LITERAL("$G S"),
        .body = BYTES_LITERAL("{\"config\":{\"name\":\"S\",\"subjects\":[\"s.>\"],\"storage\":"
                              "\"file\",\"num_replicas\":1,\"retention\":\"limits\",\"discard\":"
                              "\"old\",\"allow_msg_ttl\":true,\"max_msgs\":-1,"
                              "\"duplicate_window\":60000000000},\"created_ns\":1}")});
    for (int i = 0; i < MESSAGES; i++) publish();
    for (uint64_t seq = 2; seq < MESSAGES; seq += 2 + seq % 3) erase(seq);
    for (uint64_t number = 1; number <= CONSUMERS; number++) make_consumer(number);
}

static void teardown(void)
{
    js_deinit(&js);
    must(heap.live_count == 0);
}

TestSuite(checkpoint, .init = setup, .fini = teardown);

static struct text empty(void)
{
    struct text t;
    text_init(&t, &heap.mem, MEM_JETSTREAM, 1 << 24);
    return t;
}

static struct text whole(void)
{
    struct text t = empty();
    js.checkpoint_step = 1 << 30;
    cr_assert_eq(checkpoint_write(&js, ID, &t), ERR_OK);
    js.checkpoint_step = STEP;
    return t;
}

/* What a piece looks at and writes is bounded, whatever the stream holds. */
Test(checkpoint, pieces_are_small_and_make_the_state_of_the_first_one)
{
    struct text all = whole(), t = empty();
    size_t before = 0;
    uint64_t pieces = 0, next = 1;
    enum err e;
    while ((e = checkpoint_write(&js, ID, &t)) == ERR_INCOMPLETE) {
        if (pieces > 0) cr_assert_leq(t.len - before, PIECE_BYTES_MAX);
        before = t.len;
        pieces++;
        if (pieces <= CONSUMERS) end_consumer(pieces);
        make_consumer(CONSUMERS + pieces);
        /* In front of what is written, behind it, and what comes. */
        for (int i = 0; i < 9; i++) {
            publish();
            const struct msgs *m = &js_find_id(&js, ID)->stream.msgs;
            while (!msgs_has(m, next)) next = (next + 2347) % 5999 + 1;
            erase(next);
        }
    }
    cr_assert_eq(e, ERR_OK);
    cr_assert_leq(t.len - before, PIECE_BYTES_MAX);
    cr_assert_geq(pieces, MESSAGES / STEP);
    cr_assert(bytes_equal(text_written(&t), text_written(&all)));
    text_deinit(&all);
    text_deinit(&t);
}

Test(checkpoint, what_is_cleared_meanwhile_makes_it_begin_anew)
{
    struct text t = empty();
    js.checkpoint_step = STEP;
    cr_assert_eq(checkpoint_write(&js, ID, &t), ERR_INCOMPLETE);
    run((struct record){.kind = RECORD_PURGE});
    cr_assert_eq(checkpoint_write(&js, ID, &t), ERR_BUSY);
    text_clear(&t);
    cr_assert_eq(checkpoint_write(&js, ID, &t), ERR_INCOMPLETE, "its ids are left");
    text_deinit(&t);
}

Test(checkpoint, ids_that_a_longer_window_does_not_bring_back_are_not_in_it)
{
    const int64_t window_ns = INT64_C(60000000000);
    struct dedupe *ids = &js_find_id(&js, ID)->stream.dedupe;
    dedupe_set_window(ids, 2 * window_ns, START + window_ns + MESSAGES / 2);
    cr_assert_eq(ids->count, MESSAGES);
    struct text t = whole();
    struct js again;
    js_init(&again, &heap.mem, NULL, 7, 1 << 20);
    struct record r = {.kind = RECORD_CHECKPOINT, .flags = RECORD_LAST, .stream = ID, .seq = 1};
    r.body = text_written(&t);
    cr_assert_eq(js_replay(&again, 0, &r, 0), ERR_OK);
    js_replay_end(&again);
    cr_assert_eq(js_find_id(&again, ID)->stream.dedupe.count, MESSAGES / 2);
    js_deinit(&again);
    text_deinit(&t);
}

Test(checkpoint, a_stream_that_goes_meanwhile_is_not_written)
{
    struct text t = empty();
    js.checkpoint_step = STEP;
    cr_assert_eq(checkpoint_write(&js, ID, &t), ERR_INCOMPLETE);
    run((struct record){.kind = RECORD_STREAM_GONE});
    cr_assert_eq(checkpoint_write(&js, ID, &t), ERR_UNKNOWN);
    text_deinit(&t);
}

/* The stream as its checkpoint and its messages make it, all but the last `without`; behind the
 * first `before` of these, so many records of the log are damaged, in this group; the checkpoint's
 * is 10. */
static struct js_stream *load(struct js *again, uint64_t without, uint64_t before, uint64_t group,
                              uint64_t damaged)
{
    struct text t = whole();
    struct record r = {.kind = RECORD_CHECKPOINT,
                       .stream = ID,
                       .seq = 1,
                       .prev_seq = 10,
                       .body = text_written(&t)};
    struct store_lost lost = {.kind = STORE_LOST_DAMAGED,
                              .bytes = 100,
                              .group = group,
                              .record_max = damaged,
                              .end = {1, group}};
    js_init(again, &heap.mem, NULL, 7, 1 << 20);
    cr_assert_eq(js_replay(again, 0, &r, 0), ERR_OK);
    text_deinit(&t);
    for (uint64_t seq = 1; seq <= last - without; seq++) {
        r = (struct record){
            .kind = RECORD_MESSAGE, .stream = ID, .seq = seq, .subject = BYTES_LITERAL("s.x")};
        cr_assert_eq(js_replay(again, 0, &r, 1000 + seq), ERR_OK);
        if (seq != before) continue;
        again->is_damaged = true;
        js_replay_lost(again, &lost);
    }
    js_replay_end(again);
    return js_find_id(again, ID);
}

Test(checkpoint, of_a_damaged_store_what_was_deleted_at_the_end_is_not_lost)
{
    struct js again;
    erase(MESSAGES);
    erase(MESSAGES - 1);
    const struct js_stream *s = load(&again, 0, 100, 9, 1);
    cr_assert_eq(s->messages_lost, 0);
    cr_assert_null(s->stream.lost);
    js_deinit(&again);
}

/* What damage before the checkpoint took is known by it. */
Test(checkpoint, damage_that_lies_before_it_moves_no_sequence)
{
    struct js again;
    const struct js_stream *s = load(&again, 3, MESSAGES - 3, 9, 5);
    cr_assert_eq(s->stream.seq_last, MESSAGES);
    cr_assert_gt(s->messages_lost, 0);
    cr_assert_leq(s->messages_lost, 3);
    js_deinit(&again);
}

/* What is live in it and has no place went since then. */
Test(checkpoint, damage_that_lies_behind_it_takes_nothing_of_it)
{
    struct js again;
    const struct js_stream *s = load(&again, 3, MESSAGES - 3, 11, 5);
    cr_assert_eq(s->stream.seq_last, MESSAGES + 5);
    cr_assert_eq(s->messages_lost, 5);
    cr_assert_eq(s->stream.lost->ranges[0].first, MESSAGES + 1);
    js_deinit(&again);
}

Test(checkpoint, a_purge_that_gives_the_next_sequence_is_behind_all_that_was_lost)
{
    struct store_lost lost = {
        .kind = STORE_LOST_DAMAGED, .bytes = 100, .record_max = 5, .end = {1, 9}};
    js.is_damaged = true;
    js_replay_lost(&js, &lost);
    run((struct record){.kind = RECORD_PURGE, .seq = MESSAGES + 10});
    js_replay_end(&js);
    cr_assert_eq(js_find_id(&js, ID)->stream.seq_last, MESSAGES + 9);
}

/* Of what was lost some may lie behind the sequence that a purge names: it was among those that
 * were given. */
Test(checkpoint, a_purge_up_to_a_sequence_that_was_lost_lets_none_be_given_twice)
{
    struct store_lost lost = {
        .kind = STORE_LOST_DAMAGED, .bytes = 100, .record_max = 5, .end = {1, 9}};
    js.is_damaged = true;
    js_replay_lost(&js, &lost);
    run((struct record){.kind = RECORD_PURGE, .seq = MESSAGES + 3});
    cr_assert_eq(js_find_id(&js, ID)->stream.msgs.live_count, 0);
    js_replay_end(&js);
    cr_assert_eq(js_find_id(&js, ID)->stream.seq_last, MESSAGES + 5);
}

/* --- what is over by a limit and by its life ------------------------------------------------ */

#define MARKERS "\"allow_msg_ttl\":true,\"subject_delete_marker_ttl\":1000000000"

enum { MARKED_ID = 6 };

static const int64_t LATER_NS = 2000000000; /* what has an age or a life is over then */

static struct stream *marked(struct js *of)
{
    return &js_find_id(of, MARKED_ID)->stream;
}

static void configure(struct js *of, const char *fields, int64_t at_ns)
{
    char body[400];
    struct record r = {
        .kind = RECORD_STREAM, .stream = MARKED_ID, .subject = BYTES_LITERAL("$G M")};
    snprintf(
        body, sizeof body,
        "{\"config\":{\"name\":\"M\",\"subjects\":[\"m.>\"],\"storage\":\"file\","
        "\"num_replicas\":1,\"retention\":\"limits\",\"discard\":\"old\",%s},\"created_ns\":1}",
        fields);
    r.body = bytes_from_text(body);
    r.time_ns = START + at_ns;
    cr_assert_eq(js_replay(of, 0, &r, 0), ERR_OK);
}

static void store(struct js *of, uint64_t seq, const char *subject, bool has_life, int64_t at_ns)
{
    struct record r = {.kind = RECORD_MESSAGE, .stream = MARKED_ID, .seq = seq};
    r.time_ns = START + at_ns;
    r.subject = bytes_of(subject, strlen(subject));
    if (has_life) r.headers = BYTES_LITERAL("NATS/1.0\r\nNats-TTL: 1s\r\n\r\n");
    cr_assert_eq(js_replay(of, 0, &r, 9000 + seq), ERR_OK);
}

static void erase_marked(struct js *of, uint64_t seq)
{
    struct record r = {.kind = RECORD_ERASE, .stream = MARKED_ID, .seq = seq, .time_ns = START};
    cr_assert_eq(js_replay(of, 0, &r, 0), ERR_OK);
}

/* A start from the stream as it is now, whose messages are to come. */
static void begin_again(struct js *again)
{
    struct text t = empty();
    struct record r = {.kind = RECORD_CHECKPOINT, .stream = MARKED_ID, .seq = 1, .prev_seq = 10};
    js.checkpoint_step = 1 << 30;
    cr_assert_eq(checkpoint_write(&js, MARKED_ID, &t), ERR_OK);
    r.body = text_written(&t);
    js_init(again, &heap.mem, NULL, 7, 1 << 20);
    cr_assert_eq(js_replay(again, 0, &r, 0), ERR_OK);
    text_deinit(&t);
}

/* And it ends. */
static void expect_same(struct js *again)
{
    js_replay_end(again);
    const struct stream *live = marked(&js), *found = marked(again);
    cr_expect_eq(live->seq_last, found->seq_last);
    for (uint64_t seq = 1; seq <= live->seq_last; seq++)
        cr_expect_eq(msgs_has(&live->msgs, seq), msgs_has(&found->msgs, seq), "%d", (int)seq);
    js_deinit(again);
}

/* A message whose life ended beside an older one of its subject leaves no marker. That one went
 * later by the limit, with its pack: a start must not take the other for the last one, which waits
 * for its marker, and has the limit take what is there. */
Test(checkpoint, the_last_of_a_subject_is_not_known_where_messages_are_missing)
{
    struct js again;
    configure(&js, MARKERS ",\"max_msgs\":3", 0);
    store(&js, 1, "m.x", false, 0);
    store(&js, 2, "m.y", false, 0);
    store(&js, 3, "m.x", true, 0);
    begin_again(&again);
    store(&js, 4, "m.z", false, LATER_NS);
    store(&js, 5, "m.z", false, LATER_NS);
    cr_assert_eq(marked(&js)->msgs.live_count, 3);

    store(&again, 2, "m.y", false, 0);
    store(&again, 3, "m.x", true, 0);
    store(&again, 4, "m.z", false, LATER_NS);
    store(&again, 5, "m.z", false, LATER_NS);
    expect_same(&again);
}

/* What a start finds of the first three messages. */
static void store_found(struct js *of)
{
    store(of, 1, "m.a", false, 0);
    store(of, 2, "m.x", false, 0);
}

static void configure_and_store(const char *fields)
{
    configure(&js, fields, 0);
    store_found(&js);
    store(&js, 3, "m.x", false, 0);
}

/* As many as may be, while one too many of m.x is there. */
static void store_the_rest(struct js *of)
{
    store(of, 4, "m.x", false, 0);
    erase_marked(of, 3);
    store(of, 5, "m.b", false, 0);
    store(of, 6, "m.b", false, 0);
    store(of, 7, "m.c", false, 0);
    erase_marked(of, 7);
    store(of, 8, "m.x", false, 0);
}

/* Of a subject one that is missing let the limit per subject take an older one. That one is there
 * until the next of the subject comes: what lies between does not go for it. */
Test(checkpoint, limits_of_the_whole_wait_where_messages_are_missing)
{
    struct js again;
    configure_and_store("\"max_msgs\":5,\"max_msgs_per_subject\":2");
    begin_again(&again);
    store_the_rest(&js);

    store_found(&again);
    store_the_rest(&again);
    expect_same(&again);
}

/* Messages that end by their age; the start is to find the second. */
static void begin_with_age(struct js *again)
{
    configure(&js, MARKERS ",\"max_age\":1000000000", 0);
    store(&js, 1, "m.x", false, 0);
    store(&js, 2, "m.y", false, 0);
    begin_again(again);
}

/* A message that only waits for its marker is let be by a configuration without an age. */
Test(checkpoint, what_an_older_configuration_let_end_stays_where_messages_are_missing)
{
    static const char no_age[] = MARKERS ",\"max_age\":0";
    struct js again;
    begin_with_age(&again);
    erase_marked(&js, 1);
    configure(&js, no_age, LATER_NS);
    cr_expect_eq(due_count(&marked(&js)->due), 0, "no marker takes its place");

    store(&again, 2, "m.y", false, 0);
    erase_marked(&again, 1);
    configure(&again, no_age, LATER_NS);
    expect_same(&again);
}

static void find_the_second(struct js *again)
{
    begin_with_age(again);
    again->now.wall_ns = START + LATER_NS;
    store(again, 2, "m.y", false, 0);
    erase_marked(again, 1);
}

static void expect_marker(struct js *again)
{
    const struct stream *s = marked(again);
    cr_expect_eq(due_count(&s->due), 1);
    cr_expect(msgs_has(&s->msgs, 2), "its marker takes its place");
    js_deinit(again);
}

/* What went over while no process ran has its marker, as without a message missing. */
Test(checkpoint, what_ends_behind_the_last_record_leaves_its_marker)
{
    struct js again;
    find_the_second(&again);
    js_replay_end(&again);
    (void)stream_expire(marked(&again), again.now.wall_ns);
    expect_marker(&again);
}

/* Gone without a record it would be back once a later configuration lets it be. */
Test(checkpoint, what_ended_before_the_last_record_leaves_its_marker)
{
    struct js again;
    find_the_second(&again);
    store(&again, 3, "m.z", false, LATER_NS);
    js_replay_end(&again);
    expect_marker(&again);
}

/* --- what ends together at a start --------------------------------------------------------- */

/* An older message is the last of its subject: a younger one had the shorter life. */
Test(checkpoint, a_life_that_ended_before_an_age_left_the_older_message)
{
    static const char no_age[] = MARKERS ",\"max_age\":0";
    struct js both[2];
    for (int i = 0; i < 2; i++) {
        struct js *of = &both[i];
        js_init(of, &heap.mem, NULL, 7, 1 << 20);
        configure(of, MARKERS ",\"max_age\":1500000000", 0);
        store(of, 1, "m.x", false, 0);
        store(of, 2, "m.x", true, 0);
        /* The first runs on, and no record says so; the other starts. */
        if (i == 0) (void)stream_expire(marked(of), START + 1200000000);
        configure(of, no_age, LATER_NS);
        cr_expect(msgs_has(&marked(of)->msgs, 1), "%d: it waited for its marker", i);
        cr_expect_not(msgs_has(&marked(of)->msgs, 2), "%d: it was not the last", i);
        js_deinit(of);
    }
}

/* As above, the other way round, behind more than end in one piece. */
Test(checkpoint, an_age_that_ended_before_a_life_left_the_younger_message)
{
    enum { OLD = STREAM_EXPIRE_BATCH + 1, YOUNG = OLD + 1 };
    struct js both[2];
    for (int i = 0; i < 2; i++) {
        struct js *of = &both[i];
        js_init(of, &heap.mem, NULL, 7, 1 << 20);
        configure(of, MARKERS ",\"max_age\":1000000000", 0);
        for (uint64_t seq = 1; seq < OLD; seq++) store(of, seq, "m.y", false, 0);
        store(of, OLD, "m.x", false, 0);
        store(of, YOUNG, "m.x", true, 100000000);
        while (i == 0 && stream_expire(marked(of), START + 1050000000)) continue;
        store(of, YOUNG + 1, "m.z", false, LATER_NS);
        cr_expect_not(msgs_has(&marked(of)->msgs, OLD), "%d: it was not the last", i);
        cr_expect(msgs_has(&marked(of)->msgs, YOUNG), "%d: it waits for its marker", i);
        js_deinit(of);
    }
}

/* A checkpoint has the life of what waits for its marker: a later configuration may have no age. */
Test(checkpoint, the_life_of_what_waits_for_its_marker_is_kept)
{
    struct js again;
    configure(&js, MARKERS, 0);
    store(&js, 1, "m.x", true, 0);
    store(&js, 2, "m.y", false, 0);
    cr_assert_not(stream_expire(marked(&js), START + LATER_NS));
    cr_assert_eq(due_count(&marked(&js)->due), 1);
    begin_again(&again);
    store(&again, 1, "m.x", true, 0);
    store(&again, 2, "m.y", false, 0);
    js_replay_end(&again);
    cr_expect_eq(due_count(&marked(&again)->due), 0);
    cr_expect_not(stream_expire(marked(&again), START + LATER_NS));
    cr_expect_eq(due_count(&marked(&again)->due), 1);
    js_deinit(&again);
}

/* What waits by age and what a limit is to take instead, at a start without memory to spare. */
Test(checkpoint, a_crowded_start_with_messages_missing_needs_no_memory)
{
    struct js again;
    configure(&js, MARKERS ",\"max_age\":1000000000,\"max_msgs\":2", 0);
    store(&js, 1, "m.w", false, 0);
    store(&js, 2, "m.x", false, 0);
    begin_again(&again);
    store(&again, 2, "m.x", false, 0);
    store(&again, 3, "m.y", false, LATER_NS);
    store(&again, 4, "m.z", false, LATER_NS);
    cr_assert_eq(due_count(&marked(&again)->due), 1);
    cr_assert(marked(&again)->is_partial);
    heap.fail_at = heap.alloc_count + 1;
    heap.fail_from = 1;
    js_replay_end(&again);
    heap.fail_at = 0;
    cr_expect_not(msgs_has(&marked(&again)->msgs, 2), "it is over, and in the way of others");
    cr_expect(msgs_has(&marked(&again)->msgs, 3) && msgs_has(&marked(&again)->msgs, 4));
    js_deinit(&again);
}

/* What a limit took does not come back since a later configuration has a higher one. */
Test(checkpoint, what_a_lower_limit_took_stays_gone_where_messages_are_missing)
{
    struct js again;
    static const char higher[] = "\"max_msgs\":100,\"max_msgs_per_subject\":2";
    configure(&js, "\"max_msgs\":2,\"max_msgs_per_subject\":2", 0);
    store(&js, 1, "m.a", false, 0);
    begin_again(&again);
    store(&js, 2, "m.b", false, 0);
    store(&js, 3, "m.c", false, 0);
    store(&js, 4, "m.d", false, 0);
    configure(&js, higher, 0);

    store(&again, 2, "m.b", false, 0);
    store(&again, 3, "m.c", false, 0);
    store(&again, 4, "m.d", false, 0);
    configure(&again, higher, 0);
    expect_same(&again);
}

static void store_and_lower(struct js *of)
{
    store(of, 4, "m.x", false, 0);
    erase_marked(of, 3);
    store(of, 5, "m.b", false, 0);
    store(of, 6, "m.b", false, 0);
    configure(of, "\"max_msgs\":4,\"max_msgs_per_subject\":2", 0);
    erase_marked(of, 5);
    store(of, 7, "m.x", false, 0);
}

/* A lower limit waits like the one before it: what is there in place of what is missing goes. */
Test(checkpoint, a_limit_that_is_lowered_waits_where_messages_are_missing)
{
    struct js again;
    configure_and_store("\"max_msgs\":5,\"max_msgs_per_subject\":2");
    begin_again(&again);
    store_and_lower(&js);

    store_found(&again);
    store_and_lower(&again);
    expect_same(&again);
}

static void store_of(struct js *of, uint64_t first, uint64_t last_of, char kind)
{
    char subject[24];
    for (uint64_t seq = first; seq <= last_of; seq++) {
        snprintf(subject, sizeof subject, "m.%c.%d", kind, (int)seq);
        store(of, seq, subject, false, 0);
    }
}

enum { MOST = STREAM_PARTIAL_MORE + 1000 };

/* What fills the limit goes, and as much comes after it. */
static void purge_and_store(struct js *of)
{
    struct record purge = {.kind = RECORD_PURGE,
                           .stream = MARKED_ID,
                           .subject = BYTES_LITERAL("m.f.>"),
                           .time_ns = START};
    cr_assert_eq(js_replay(of, 0, &purge, 0), ERR_OK);
    store(of, MOST + 1, "m.x", false, 0);
    erase_marked(of, 3);
    store_of(of, MOST + 2, MOST + MOST - 1, 'g');
    erase_marked(of, MOST + 2);
    store(of, MOST + MOST, "m.x", false, 0);
}

/* However many are missing: as many as the checkpoint has are no more than were there. */
Test(checkpoint, limits_wait_where_most_messages_are_missing)
{
    struct js again;
    char fields[80];
    snprintf(fields, sizeof fields, "\"max_msgs\":%d,\"max_msgs_per_subject\":2", MOST);
    configure_and_store(fields);
    store_of(&js, 4, MOST, 'f');
    begin_again(&again);
    purge_and_store(&js);

    store_found(&again);
    purge_and_store(&again);
    expect_same(&again);
}

/* A start finds the memory that the process before it had: what waits beyond that goes first. */
Test(checkpoint, limits_wait_no_longer_than_there_is_memory)
{
    struct js again;
    configure(&js, "\"max_msgs\":2,\"max_msgs_per_subject\":2", 0);
    store(&js, 1, "m.a", false, 0);
    begin_again(&again);
    store_of(&again, 2, 100, 'b');
    const struct stream *s = marked(&again);
    cr_expect_eq(s->msgs.live_count, 99);
    heap.fail_at = heap.alloc_count + 1;
    for (uint64_t seq = 101; heap.alloc_count < heap.fail_at; seq++)
        store_of(&again, seq, seq, 'c');
    cr_expect_eq(s->msgs.live_count, 2);
    js_deinit(&again);
}
