#include <criterion/criterion.h>
#include "core/base/rng.h"
#include "core/js/msgs.h"
#include "tests/support/mem_heap.h"

static void put(struct msgs *m, uint64_t seq)
{
    struct msgs_entry e = {.place = seq * 100, .time_ns = (int64_t)seq, .bytes = 7, .node = 1};
    cr_assert_eq(msgs_append(m, seq, &e), ERR_OK);
}

Test(msgs, a_message_in_a_stream_without_holes_takes_at_most_24_bytes)
{
    struct mem_heap heap;
    struct msgs m;
    mem_heap_init(&heap);
    msgs_init(&m, &heap.mem);
    for (uint64_t seq = 1; seq <= 200000; seq++) {
        /* Far apart in place and time, so that no column can be narrow. */
        struct msgs_entry e = {
            .place = seq << 40, .time_ns = (int64_t)(seq << 33), .bytes = 7, .node = 1};
        cr_assert_eq(msgs_append(&m, seq, &e), ERR_OK);
    }
    cr_assert_leq(m.bytes_taken, (size_t)(200000 * 24.5), "heads, directory, the open block");
    msgs_clear(&m);
    cr_assert_eq(heap.live_count, 0);
}

Test(msgs, one_survivor_in_a_hundred_does_not_hold_the_memory_of_the_others)
{
    struct mem_heap heap;
    struct msgs m;
    mem_heap_init(&heap);
    msgs_init(&m, &heap.mem);
    for (uint64_t seq = 1; seq <= 200000; seq++) put(&m, seq);
    for (uint64_t seq = 1; seq <= 200000; seq++)
        if (seq % 100 != 0) cr_assert_eq(msgs_remove(&m, seq, NULL), ERR_OK);
    cr_assert_eq(m.live_count, 2000);
    cr_assert_lt(m.bytes_taken, 2000 * 48 + 64 * 1024);
    cr_assert_eq(msgs_first(&m), 100);
    cr_assert_eq(msgs_next(&m, 101), 200);
    uint64_t first = 101, last;
    cr_assert(msgs_gap(&m, 200000, &first, &last));
    cr_assert_eq(first, 101);
    cr_assert_eq(last, 199);
    msgs_clear(&m);
}

Test(msgs, gaps_of_any_size_cost_nothing)
{
    struct mem_heap heap;
    struct msgs m;
    uint64_t far = UINT64_C(1000000000000000000);
    mem_heap_init(&heap);
    msgs_init(&m, &heap.mem);
    put(&m, 5);
    put(&m, far);
    put(&m, far + (UINT64_C(1) << 32));
    cr_assert_lt(m.bytes_taken, 64 * 1024);
    cr_assert_eq(msgs_next(&m, 6), far);
    cr_assert_eq(msgs_prev(&m, far - 1), 5);
    cr_assert_eq(msgs_count(&m, 6, UINT64_MAX), 2);
    cr_assert_eq(msgs_last(&m), far + (UINT64_C(1) << 32));
    msgs_clear(&m);
    cr_assert_eq(m.seq_end, far + (UINT64_C(1) << 32) + 1, "sequences are not used again");
}

Test(msgs, what_is_reserved_is_appended_without_memory)
{
    struct mem_heap heap;
    struct msgs m;
    mem_heap_init(&heap);
    msgs_init(&m, &heap.mem);
    uint64_t seq = 1;
    for (uint32_t round = 0; round < 30; round++) {
        cr_assert_eq(msgs_reserve(&m, 700), ERR_OK);
        heap.fail_at = heap.alloc_count + 1;
        heap.fail_from = 1;
        for (uint32_t i = 0; i < 700; i++, seq += 1 + i % 3) put(&m, seq);
        heap.fail_at = 0;
        heap.fail_from = 0;
    }
    cr_assert_eq(m.live_count, 30 * 700);
    cr_assert_eq(msgs_reserve(&m, 0), ERR_OK);
    cr_assert_eq(m.spare_count, 0);
    msgs_clear(&m);
    cr_assert_eq(heap.live_count, 0);
}

Test(msgs, a_work_queue_that_runs_empty_each_time_takes_no_new_memory)
{
    struct mem_heap heap;
    struct msgs m;
    mem_heap_init(&heap);
    msgs_init(&m, &heap.mem);
    put(&m, 1);
    uint64_t allocs = heap.alloc_count;
    for (uint64_t seq = 2; seq < 5000; seq++) {
        cr_assert_eq(msgs_remove(&m, seq - 1, NULL), ERR_OK);
        put(&m, seq);
    }
    cr_assert_eq(heap.alloc_count, allocs);
    cr_assert_lt(m.bytes_taken, 1024);
    msgs_clear(&m);
}

Test(msgs, messages_that_were_stored_together_take_less_than_half_a_byte)
{
    struct mem_heap heap;
    struct msgs m;
    mem_heap_init(&heap);
    msgs_init(&m, &heap.mem);
    for (uint64_t seq = 1; seq <= 500000; seq++) {
        /* 60 messages of one size in a turn, 128 bytes in a pack. */
        struct msgs_entry e = {.place = UINT64_C(1) << 63 | seq * 22,
                               .time_ns = (int64_t)(seq / 60 * 77777),
                               .bytes = 158,
                               .node = 1};
        cr_assert_eq(msgs_append(&m, seq, &e), ERR_OK);
    }
    cr_assert_leq(m.bytes_taken, 500000 / 2, "%zu bytes", m.bytes_taken);
    msgs_clear(&m);
    cr_assert_eq(heap.live_count, 0);
}

enum { RANDOM_SEQS = 20000 };

/* What the random test knows of each sequence; place 0: there is no message. */
static struct msgs_entry known[RANDOM_SEQS + 2];

static void expect_same(const struct msgs *m, uint64_t seq)
{
    struct msgs_entry e;
    if (known[seq].place == 0) {
        cr_assert_eq(msgs_get(m, seq, &e), ERR_UNKNOWN, "%lu", (unsigned long)seq);
        return;
    }
    cr_assert_eq(msgs_get(m, seq, &e), ERR_OK, "%lu", (unsigned long)seq);
    cr_assert(e.place == known[seq].place && e.time_ns == known[seq].time_ns &&
              e.bytes == known[seq].bytes && e.node == known[seq].node);
}

static void expect_all_same(const struct msgs *m, uint32_t nodes)
{
    uint64_t counts[4] = {0}, next[4] = {0}, next_live = 0, total = 0;
    for (uint64_t seq = RANDOM_SEQS; seq > 0; seq--) {
        expect_same(m, seq);
        if (known[seq].place != 0) {
            next_live = seq;
            next[known[seq].node] = seq;
            counts[known[seq].node]++;
            total++;
        }
        struct msgs_entry e;
        cr_assert_eq(msgs_next_entry(m, seq, &e), next_live);
        cr_assert(next_live == 0 ||
                  (e.place == known[next_live].place && e.time_ns == known[next_live].time_ns));
        if (seq % 97 != 0) continue;
        cr_assert_eq(msgs_next(m, seq), next_live);
        for (uint32_t node = 0; node < nodes; node++) {
            cr_assert_eq(msgs_next_of_node(m, seq, node), next[node]);
            cr_assert_eq(msgs_count_of_node(m, seq, UINT64_MAX, node), counts[node]);
        }
        cr_assert_eq(msgs_count(m, seq, UINT64_MAX), total);
    }
    cr_assert_eq(m->live_count, total);
    uint64_t last = 0, last_of[4] = {0};
    for (uint64_t seq = 1; seq <= RANDOM_SEQS; seq++) {
        if (known[seq].place != 0) last = last_of[known[seq].node] = seq;
        if (seq % 101 != 0) continue;
        cr_assert_eq(msgs_prev(m, seq), last);
        for (uint32_t node = 0; node < nodes; node++)
            cr_assert_eq(msgs_prev_of_node(m, seq, node), last_of[node]);
    }
    struct msgs_cursor c;
    struct msgs_entry e;
    uint64_t seq;
    msgs_cursor_init(&c, m, 1);
    for (uint64_t n = 0; n < total; n++) {
        cr_assert_neq(seq = msgs_cursor_next(&c, &e), 0);
        cr_assert_eq(e.place, known[seq].place);
    }
    cr_assert_eq(msgs_cursor_next(&c, &e), 0);
}

/* Appends, removals from the front and anywhere, places that change one after the other and
 * anywhere, with memory and without. Some sequences were never used, or none: then messages lie
 * where they can be had without a search. */
static void run_random(uint64_t seed, uint32_t nodes)
{
    struct mem_heap heap;
    struct msgs m;
    struct rng rng;
    rng_init(&rng, seed);
    mem_heap_init(&heap);
    msgs_init(&m, &heap.mem);
    memset(known, 0, sizeof known);
    uint64_t seq = 0, time = 1, moved = 1;
    while (seq < RANDOM_SEQS) {
        for (uint64_t n = rng_below(&rng, 400); n > 0 && seq < RANDOM_SEQS; n--) {
            bool is_left_out = seed % 3 != 0 && rng_below(&rng, 50) == 0;
            seq += is_left_out && seq + 1 < RANDOM_SEQS ? 2 : 1;
            if (rng_below(&rng, 20) == 0) time += rng_below(&rng, 1000000);
            struct msgs_entry e = {.place = 1 + (seq / 30 * 512 + seq % 30 * 16),
                                   .time_ns = (int64_t)time,
                                   .bytes = seed % 2 == 0 ? 100 : (uint32_t)rng_below(&rng, 300),
                                   .node = (uint32_t)rng_below(&rng, nodes)};
            cr_assert_eq(msgs_append(&m, seq, &e), ERR_OK);
            known[seq] = e;
        }
        for (uint64_t n = rng_below(&rng, 250); n > 0; n--) {
            uint64_t gone =
                rng_below(&rng, 2) == 0 ? msgs_first(&m) : 1 + rng_below(&rng, (uint32_t)seq);
            heap.fail_at = rng_below(&rng, 5) == 0 ? heap.alloc_count + 1 : 0;
            cr_assert_eq(msgs_remove(&m, gone, NULL),
                         known[gone].place == 0 ? ERR_UNKNOWN : ERR_OK);
            known[gone].place = 0;
        }
        bool is_pack = rng_below(&rng, 2) == 0;
        for (uint64_t n = rng_below(&rng, 600); n > 0 && moved <= seq; n--, moved++) {
            uint64_t at = is_pack ? moved : 1 + rng_below(&rng, (uint32_t)seq);
            uint64_t place = UINT64_C(1) << 63 | at * 16;
            heap.fail_at = rng_below(&rng, 9) == 0 ? heap.alloc_count + 1 : 0;
            enum err e = msgs_set_place(&m, at, place);
            cr_assert(e == ERR_OK || (known[at].place == 0 && e == ERR_UNKNOWN) ||
                      (heap.fail_at != 0 && e == ERR_MEMORY));
            if (e == ERR_OK) known[at].place = place;
        }
        heap.fail_at = 0;
    }
    expect_all_same(&m, nodes);
    msgs_clear(&m);
    cr_assert_eq(heap.live_count, 0);
}

Test(msgs, anything_in_any_order_is_found_again)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        run_random(seed, 1);
        run_random(seed, 3);
    }
}
