#include <criterion/criterion.h>
#include "core/base/rng.h"
#include "core/js/msg_ttl.h"
#include "tests/support/mem_heap.h"

enum { MESSAGES = 5000 };

static void put(struct msgs *msgs, uint64_t seq)
{
    cr_assert_eq(msgs_append(msgs, seq, &(struct msgs_entry){.place = seq, .node = 1}), ERR_OK);
}

Test(msg_ttl, pops_in_the_order_of_deadlines_and_not_before)
{
    struct mem_heap heap;
    struct msgs msgs;
    struct msg_ttl t;
    struct rng r;
    static int64_t deadlines[MESSAGES + 1];
    mem_heap_init(&heap);
    rng_init(&r, 5);
    msgs_init(&msgs, &heap.mem);
    msg_ttl_init(&t, &heap.mem);
    cr_assert_eq(msg_ttl_next_ns(&t), INT64_MAX);
    for (uint64_t seq = 1; seq <= MESSAGES; seq++) {
        put(&msgs, seq);
        deadlines[seq] = rng_below(&r, 1000);
        cr_assert_eq(msg_ttl_add(&t, &msgs, seq, deadlines[seq]), ERR_OK);
    }
    uint32_t popped = 0;
    for (int64_t now = 0; now < 1000; now++) {
        uint64_t before = 0;
        for (uint64_t seq; (seq = msg_ttl_pop(&t, now)) != 0; before = seq, popped++) {
            cr_assert_eq(deadlines[seq], now);
            cr_assert_gt(seq, before);
        }
        cr_assert_gt(msg_ttl_next_ns(&t), now);
    }
    cr_assert_eq(popped, MESSAGES);
    msgs_clear(&msgs);
    msg_ttl_clear(&t);
    cr_assert_eq(heap.live_count, 0);
}

Test(msg_ttl, entries_of_messages_that_went_early_do_not_pile_up)
{
    struct mem_heap heap;
    struct msgs msgs;
    struct msg_ttl t;
    mem_heap_init(&heap);
    msgs_init(&msgs, &heap.mem);
    msg_ttl_init(&t, &heap.mem);
    for (uint64_t seq = 1; seq <= 100000; seq++) {
        put(&msgs, seq);
        cr_assert_eq(msg_ttl_add(&t, &msgs, seq, INT64_MAX - 1 - (int64_t)seq), ERR_OK);
        if (seq > 50) msgs_remove(&msgs, seq - 50, NULL);
    }
    cr_assert_leq(t.room, 128);
    uint32_t live = 0;
    for (uint64_t seq; (seq = msg_ttl_pop(&t, INT64_MAX)) != 0;) live += msgs_has(&msgs, seq);
    cr_assert_eq(live, 50);
    msgs_clear(&msgs);
    msg_ttl_clear(&t);
}

Test(msg_ttl, what_is_reserved_needs_no_memory)
{
    struct mem_heap heap;
    struct msgs msgs;
    struct msg_ttl t;
    mem_heap_init(&heap);
    msgs_init(&msgs, &heap.mem);
    msg_ttl_init(&t, &heap.mem);
    cr_assert_eq(msg_ttl_reserve(&t, &msgs, 100), ERR_OK);
    for (uint64_t seq = 1; seq <= 400; seq++) put(&msgs, seq);
    heap.fail_at = heap.alloc_count + 1;
    heap.fail_from = 1;
    for (uint64_t seq = 1; seq <= 100; seq++) cr_assert_eq(msg_ttl_add(&t, &msgs, seq, 1), ERR_OK);
    enum err e = ERR_OK;
    for (uint64_t seq = 101; seq <= 400 && e == ERR_OK; seq++) e = msg_ttl_add(&t, &msgs, seq, 1);
    cr_assert_eq(e, ERR_MEMORY);
    cr_assert_geq(t.count, 100);
    msgs_clear(&msgs);
    msg_ttl_clear(&t);
}

Test(msg_ttl, says_whether_so_many_are_due)
{
    struct mem_heap heap;
    struct msgs msgs;
    struct msg_ttl t;
    mem_heap_init(&heap);
    msgs_init(&msgs, &heap.mem);
    msg_ttl_init(&t, &heap.mem);
    cr_assert_not(msg_ttl_is_due(&t, INT64_MAX, 1));
    for (uint64_t seq = 1; seq <= 3000; seq++) {
        put(&msgs, seq);
        cr_assert_eq(msg_ttl_add(&t, &msgs, seq, (int64_t)(seq * 7919 % 3001)), ERR_OK);
    }
    for (uint32_t count = 1; count <= MSG_TTL_DUE_MAX; count += 31) {
        cr_assert_not(msg_ttl_is_due(&t, count - 1, count));
        cr_assert(msg_ttl_is_due(&t, count, count));
    }
    msgs_clear(&msgs);
    msg_ttl_clear(&t);
}
