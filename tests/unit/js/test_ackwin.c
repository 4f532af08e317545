#include <criterion/criterion.h>
#include <string.h>
#include "core/base/must.h"
#include "core/base/rng.h"
#include "core/js/ackwin.h"
#include "tests/support/mem_heap.h"

static struct mem_heap heap;
static struct ackwin w;
static const struct ackwin_waits waits = {.ack_wait_ns = 1000000000};

static void setup(void)
{
    mem_heap_init(&heap);
    ackwin_init(&w, &heap.mem);
}

static void teardown(void)
{
    ackwin_clear(&w);
    must(heap.live_count == 0);
}

TestSuite(ackwin, .init = setup, .fini = teardown);

static void add(uint64_t seq, uint64_t cseq, int64_t now_ns)
{
    cr_assert_eq(ackwin_add(&w, seq, cseq, now_ns), ERR_OK);
}

Test(ackwin, acks_in_any_order_leave_the_rest)
{
    for (uint64_t i = 1; i <= 100; i++) add(i * 10, i, 0);
    cr_assert_eq(w.pending_count, 100);
    ackwin_settle(&w, ackwin_find(&w, 500));
    cr_assert_null(ackwin_find(&w, 500));
    cr_assert_null(ackwin_find(&w, 505));
    cr_assert_eq(ackwin_lowest(&w)->seq, 10);
    cr_assert_eq(ackwin_next(&w, 491)->seq, 510);
    ackwin_settle_to(&w, 985);
    cr_assert_eq(w.pending_count, 2);
    cr_assert_eq(ackwin_lowest(&w)->cseq, 99);
    ackwin_verify(&w);
}

Test(ackwin, what_expires_is_queued_in_order_and_waits_again_after_delivery)
{
    add(1, 1, 0);
    add(2, 2, 500000000);
    add(3, 3, 0);
    cr_assert_eq(ackwin_expire(&w, &waits, 999999999), 1000999999); /* a step of a millisecond */
    cr_assert_null(ackwin_queue_first(&w));
    cr_assert_eq(ackwin_expire(&w, &waits, 1000000000), 1500000000);
    cr_assert_eq(ackwin_queue_first(&w)->seq, 1);
    ackwin_delivered(&w, ackwin_queue_first(&w), 1000000000);
    cr_assert_eq(ackwin_queue_first(&w)->seq, 3);
    cr_assert_eq(ackwin_find(&w, 1)->deliveries, 2);
    cr_assert_eq(w.redelivered_count, 1);
    ackwin_settle(&w, ackwin_find(&w, 3));
    cr_assert_null(ackwin_queue_first(&w));
    cr_assert_eq(ackwin_expire(&w, &waits, 1500000000), 2000000000);
    cr_assert_eq(ackwin_queue_first(&w)->seq, 2);
    ackwin_verify(&w);
}

Test(ackwin, backoff_goes_by_deliveries)
{
    static const int64_t backoff[] = {10, 20, 30};
    const struct ackwin_waits b = {.ack_wait_ns = 10, .backoff_ns = backoff, .backoff_count = 3};
    cr_assert_eq(ackwin_wait_ns(&b, 1), 10);
    cr_assert_eq(ackwin_wait_ns(&b, 3), 30);
    cr_assert_eq(ackwin_wait_ns(&b, 9), 30);
}

Test(ackwin, an_entry_that_left_the_queue_comes_back_at_its_end)
{
    for (uint64_t i = 1; i <= 3; i++) add(i, i, 0);
    ackwin_queue_all(&w);
    ackwin_wait_from(&w, ackwin_find(&w, 1), 0, true);
    cr_assert_eq(ackwin_queue_first(&w)->seq, 2);
    cr_assert_eq(ackwin_queue(&w, ackwin_find(&w, 1)), ERR_OK);
    cr_assert_eq(ackwin_queue_first(&w)->seq, 2);
    ackwin_give_up(&w, ackwin_find(&w, 2));
    cr_assert_eq(ackwin_queue_first(&w)->seq, 3);
    ackwin_settle(&w, ackwin_find(&w, 3));
    cr_assert_eq(ackwin_queue_first(&w)->seq, 1);
    cr_assert_eq(w.given_up_count, 1);
    cr_assert_eq(w.pending_count, 1);
    ackwin_verify(&w);
}

Test(ackwin, queued_ones_are_met_in_order_while_they_are_given_up)
{
    uint32_t at = 0;
    struct ackwin_entry *e;
    for (uint64_t i = 1; i <= 5; i++) add(i, i, 0);
    cr_assert_null(ackwin_each_queued(&w, &at));
    cr_assert_eq(at, 0);
    for (uint64_t i = 5; i <= 5; i -= 2) cr_assert_eq(ackwin_queue(&w, ackwin_find(&w, i)), ERR_OK);
    for (uint64_t i = 1; (e = ackwin_each_queued(&w, &at)) != NULL; i += 2) {
        cr_assert_eq(e->seq, i);
        ackwin_give_up(&w, e);
    }
    cr_assert_eq(at, 5);
    cr_assert_eq(w.given_up_count, 3);
    ackwin_verify(&w);
}

/* At each millisecond in which something expires. */
Test(ackwin, a_million_pending_ones_are_looked_through_in_a_moment, .timeout = 10)
{
    for (uint64_t i = 1; i <= 1000000; i++) add(i, i, 0);
    cr_assert_eq(ackwin_queue(&w, ackwin_find(&w, 1)), ERR_OK);
    for (int i = 0; i < 200; i++) {
        uint32_t at = 0;
        cr_assert_eq(ackwin_each_queued(&w, &at)->seq, 1);
        cr_assert_null(ackwin_each_queued(&w, &at));
    }
}

Test(ackwin, out_of_memory_changes_nothing)
{
    for (uint64_t i = 1; i <= 16; i++) add(i, i, 0);
    heap.fail_at = heap.alloc_count + 1;
    cr_assert_eq(ackwin_add(&w, 17, 17, 0), ERR_MEMORY);
    cr_assert_eq(w.pending_count, 16);
    add(17, 17, 0);
    ackwin_verify(&w);
}

/* Random operations; what records tell builds a second window that must be the same. */
Test(ackwin, records_build_the_same_window)
{
    struct ackwin copy;
    struct rng rng;
    uint64_t seq = 0;
    ackwin_init(&copy, &heap.mem);
    rng_init(&rng, 3);
    for (int step = 0; step < 20000; step++) {
        struct ackwin_entry *e = ackwin_next(&w, seq < 40 ? 1 : seq - rng_below(&rng, 40));
        switch (rng_below(&rng, 8)) {
        case 0:
        case 1:
        case 2: add(seq += 1 + rng_below(&rng, 3), (uint64_t)step, step); break;
        case 3:
        case 4:
            if (e != NULL) ackwin_settle(&w, e);
            break;
        case 5:
            if (e != NULL && e->state == ACKWIN_PENDING) ackwin_delivered(&w, e, step);
            break;
        case 6:
            if (e != NULL && e->state == ACKWIN_PENDING && rng_below(&rng, 4) == 0)
                ackwin_give_up(&w, e);
            if (rng_below(&rng, 50) == 0 && seq > 20) ackwin_settle_to(&w, seq - 20);
            break;
        default:
            for (uint64_t at = 0; (e = ackwin_next_dirty(&w, at)) != NULL; at = e->seq + 1)
                cr_assert_eq(ackwin_restore(&copy, e), ERR_OK);
            ackwin_set_saved(&w);
            ackwin_verify(&w);
            ackwin_verify(&copy);
            cr_assert_eq(copy.pending_count, w.pending_count);
            cr_assert_eq(copy.given_up_count, w.given_up_count);
            cr_assert_eq(copy.redelivered_count, w.redelivered_count);
            for (uint64_t at = 0; (e = ackwin_next(&w, at)) != NULL; at = e->seq + 1) {
                const struct ackwin_entry *f = ackwin_find(&copy, e->seq);
                cr_assert_not_null(f);
                cr_assert(f->cseq == e->cseq && f->deliveries == e->deliveries &&
                          f->state == e->state);
            }
            break;
        }
    }
    ackwin_clear(&copy);
}
