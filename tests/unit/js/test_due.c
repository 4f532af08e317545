#include <criterion/criterion.h>
#include "core/js/due.h"
#include "tests/support/mem_heap.h"

/* The queue of messages that wait for delete markers. */
enum { COUNT = 1000 };

static struct {
    struct mem_heap heap;
    struct msgs msgs;
    struct due due;
} r;

static void setup(void)
{
    mem_heap_init(&r.heap);
    msgs_init(&r.msgs, &r.heap.mem);
    due_init(&r.due, &r.heap.mem);
}

static void teardown(void)
{
    due_clear(&r.due);
    msgs_clear(&r.msgs);
    cr_expect_eq(r.heap.live_count, 0);
}

TestSuite(due, .init = setup, .fini = teardown);

static void add(uint64_t first, uint64_t last)
{
    for (uint64_t seq = first; seq <= last; seq++) {
        cr_assert_eq(msgs_append(&r.msgs, seq, &(struct msgs_entry){.node = 1}), ERR_OK);
        cr_assert_eq(due_reserve(&r.due), ERR_OK);
        due_add(&r.due, seq, (int64_t)seq);
    }
}

static void end(uint64_t seq)
{
    struct msgs_entry entry;
    cr_assert_eq(msgs_remove(&r.msgs, seq, &entry), ERR_OK);
}

Test(due, each_is_asked_for_once_while_that_is_in_flight)
{
    add(1, 3);
    for (uint64_t seq = 1; seq <= 3; seq++) cr_expect_eq(due_next(&r.due, &r.msgs), seq);
    cr_expect_eq(due_next(&r.due, &r.msgs), 0);
    cr_expect_eq(due_count(&r.due), 3, "none has gone");
    add(4, 4);
    cr_expect_eq(due_next(&r.due, &r.msgs), 4);
}

Test(due, what_is_still_there_is_asked_for_again_behind_the_others)
{
    add(1, 3);
    cr_expect_eq(due_next(&r.due, &r.msgs), 1);
    due_again(&r.due);
    cr_expect_eq(due_next(&r.due, &r.msgs), 2, "not before all were");
    cr_expect_eq(due_next(&r.due, &r.msgs), 3);
    end(1);
    end(3);
    due_again(&r.due);
    cr_expect_eq(due_next(&r.due, &r.msgs), 2);
    end(2);
    cr_expect_eq(due_next(&r.due, &r.msgs), 0);
    cr_expect_eq(due_count(&r.due), 0);
}

Test(due, one_that_was_put_back_is_the_next)
{
    add(1, 2);
    cr_expect_eq(due_next(&r.due, &r.msgs), 1);
    due_put_back(&r.due);
    cr_expect_eq(due_next(&r.due, &r.msgs), 1);
    cr_expect_eq(due_next(&r.due, &r.msgs), 2);
    due_put_back(&r.due);
    end(1);
    end(2);
    cr_expect_eq(due_next(&r.due, &r.msgs), 0);
    due_put_back(&r.due);
    cr_expect_eq(due_count(&r.due), 0);
}

/* A queue that moves on needs no more room than what is in it. */
Test(due, room_of_what_has_gone_is_used_again)
{
    add(1, COUNT);
    uint32_t room = r.due.room;
    for (uint64_t seq = 1; seq <= 10 * COUNT; seq++) {
        cr_assert_eq(due_next(&r.due, &r.msgs), seq);
        end(seq);
        add(seq + COUNT, seq + COUNT);
    }
    cr_expect_eq(due_count(&r.due), COUNT + 1, "the last one that has gone is not looked at yet");
    cr_expect_leq(r.due.room, 2 * room);
    for (uint64_t seq = 10 * COUNT + 1; seq <= 11 * COUNT; seq++) end(seq);
    cr_expect_eq(due_next(&r.due, &r.msgs), 0);
    cr_expect_eq(r.due.room, 0, "memory of many goes back");
}

Test(due, without_memory_nothing_is_lost)
{
    add(1, 64);
    r.heap.fail_at = r.heap.alloc_count + 1;
    enum err e = due_reserve(&r.due);
    r.heap.fail_at = 0;
    cr_expect_eq(e, ERR_MEMORY);
    for (uint64_t seq = 1; seq <= 64; seq++) cr_expect_eq(due_next(&r.due, &r.msgs), seq);
    add(65, 65);
    cr_expect_eq(due_next(&r.due, &r.msgs), 65);
}
