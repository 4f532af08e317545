#include <criterion/criterion.h>
#include "io/mailbox.h"
#include "tests/support/mem_heap.h"

enum { RING = 1024, WHO_MAX = 200 };

struct bells {
    uint32_t rung[WHO_MAX];
    uint32_t total;
};

static void bell_ring(void *context, uint32_t who)
{
    struct bells *b = context;
    b->rung[who]++;
    b->total++;
}

struct rig {
    struct mem_heap heap;
    struct bells bells;
    struct mailbox_net *n;
};

static void rig_open(struct rig *r, uint32_t shards, uint32_t senders)
{
    *r = (struct rig){0};
    mem_heap_init(&r->heap);
    cr_assert_eq(mailbox_open(&r->heap.mem, shards, senders, RING, bell_ring, &r->bells, &r->n),
                 ERR_OK);
}

static void rig_close(struct rig *r)
{
    mailbox_close(r->n);
    cr_assert_eq(r->heap.live_count, 0);
    cr_assert_eq(r->heap.mem.used_bytes[MEM_MAIL], 0);
}

static void put(struct rig *r, uint32_t sender, uint32_t receiver, uint64_t value)
{
    struct lane *l = mailbox_lane(r->n, sender, receiver);
    cr_assert(lane_has_room(l, lane_record_bytes(8), lane_record_bytes(8)));
    *(uint64_t *)lane_append(l, 1, 0, 8) = value;
}

/* The first record of a batch; moves b->at past it. */
static uint64_t take(struct mailbox_batch *b)
{
    const struct lane_record *record = lane_next(b->ring, b->ring_bytes, &b->at, b->end);
    cr_assert_not_null(record);
    return *(const uint64_t *)(const void *)(record + 1);
}

Test(mailbox, mail_shows_only_once_published)
{
    struct rig r;
    struct mailbox_batch b;
    rig_open(&r, 2, 3);
    put(&r, 0, 1, 42);
    cr_assert_not(mailbox_next(r.n, 1, &b));
    mailbox_publish(r.n, 0);
    cr_assert_not(mailbox_next(r.n, 0, &b), "it is for the other shard");
    cr_assert(mailbox_next(r.n, 1, &b));
    cr_assert_eq(b.sender, 0);
    cr_assert_eq(take(&b), 42);
    cr_assert_eq(b.at, b.end);
    mailbox_consumed(r.n, 1, 0, b.at);
    cr_assert_not(mailbox_next(r.n, 1, &b));
    cr_assert_eq(r.bells.total, 0, "nobody sleeps");
    rig_close(&r);
}

Test(mailbox, a_stamp_comes_with_the_mail_that_it_was_put_on)
{
    struct rig r;
    struct mailbox_batch b;
    rig_open(&r, 2, 2);
    put(&r, 0, 1, 1);
    put(&r, 0, 1, 2);
    mailbox_publish_at(r.n, 0, 77);
    put(&r, 0, 1, 3);
    mailbox_publish_at(r.n, 0, 99);
    cr_assert(mailbox_next(r.n, 1, &b));
    take(&b);
    cr_assert_eq(mailbox_stamped(r.n, 1, 0, b.at), 0, "half of it was read");
    take(&b);
    cr_assert_eq(mailbox_stamped(r.n, 1, 0, b.at), 77);
    cr_assert_eq(mailbox_stamped(r.n, 1, 0, b.at), 0, "once");
    mailbox_consumed(r.n, 1, 0, b.at);
    rig_close(&r);
}

Test(mailbox, mail_read_in_part_is_offered_again_after_the_other_senders)
{
    struct rig r;
    struct mailbox_batch b;
    rig_open(&r, 1, 3);
    put(&r, 0, 0, 1);
    put(&r, 0, 0, 2);
    put(&r, 2, 0, 3);
    mailbox_publish(r.n, 0);
    mailbox_publish(r.n, 2);
    cr_assert(mailbox_next(r.n, 0, &b));
    cr_assert_eq(take(&b), 1);
    mailbox_consumed(r.n, 0, 0, b.at);
    cr_assert(mailbox_next(r.n, 0, &b));
    cr_assert_eq(take(&b), 3);
    mailbox_consumed(r.n, 0, 2, b.at);
    cr_assert_not(mailbox_may_sleep(r.n, 0));
    mailbox_awake(r.n, 0);
    cr_assert(mailbox_next(r.n, 0, &b));
    cr_assert_eq(b.sender, 0);
    cr_assert_eq(take(&b), 2);
    mailbox_consumed(r.n, 0, 0, b.at);
    cr_assert_not(mailbox_next(r.n, 0, &b));
    rig_close(&r);
}

Test(mailbox, a_sleeper_is_rung_once)
{
    struct rig r;
    struct mailbox_batch b;
    rig_open(&r, 2, 4);
    cr_assert(mailbox_may_sleep(r.n, 1));
    for (uint32_t sender = 0; sender < 4; sender++) {
        put(&r, sender, 1, sender);
        mailbox_publish(r.n, sender);
        mailbox_publish(r.n, sender);
    }
    cr_assert_eq(r.bells.rung[1], 1);
    cr_assert_eq(r.bells.total, 1);
    mailbox_awake(r.n, 1);
    cr_assert_not(mailbox_may_sleep(r.n, 1), "mail waits");
    mailbox_awake(r.n, 1);
    for (uint32_t sender = 0; sender < 4; sender++) {
        cr_assert(mailbox_next(r.n, 1, &b));
        cr_assert_eq(b.sender, sender);
        cr_assert_eq(take(&b), sender);
        mailbox_consumed(r.n, 1, sender, b.at);
    }
    cr_assert_not(mailbox_next(r.n, 1, &b));
    cr_assert(mailbox_may_sleep(r.n, 1));
    rig_close(&r);
}

Test(mailbox, a_full_ring_has_room_after_its_reader_moved_on)
{
    struct rig r;
    struct mailbox_batch b;
    rig_open(&r, 2, 2);
    struct lane *l = mailbox_lane(r.n, 0, 1);
    uint32_t count = 0;
    while (lane_has_room(l, 16, 16)) put(&r, 0, 1, count++);
    cr_assert_eq(count, RING / 16 - 1);
    mailbox_publish(r.n, 0);
    cr_assert_not(mailbox_await(r.n, 0, 1, 32));
    cr_assert(mailbox_next(r.n, 1, &b));
    take(&b);
    mailbox_consumed(r.n, 1, 0, b.at);
    cr_assert_eq(r.bells.total, 0, "not there yet");
    take(&b);
    mailbox_consumed(r.n, 1, 0, b.at);
    cr_assert_eq(r.bells.rung[0], 1);
    take(&b);
    mailbox_consumed(r.n, 1, 0, b.at);
    cr_assert_eq(r.bells.rung[0], 1, "asked once, rung once");
    cr_assert(lane_has_room(l, 32, 16));
    cr_assert(mailbox_await(r.n, 0, 1, 48), "reached already");
    rig_close(&r);
}

Test(mailbox, of_two_awaited_positions_the_smaller_rings)
{
    struct rig r;
    struct mailbox_batch b;
    rig_open(&r, 1, 1);
    for (uint64_t i = 0; i < 4; i++) put(&r, 0, 0, i);
    mailbox_publish(r.n, 0);
    cr_assert_not(mailbox_await(r.n, 0, 0, 64));
    cr_assert_not(mailbox_await(r.n, 0, 0, 16));
    cr_assert_not(mailbox_await(r.n, 0, 0, 32));
    cr_assert(mailbox_next(r.n, 0, &b));
    take(&b);
    mailbox_consumed(r.n, 0, 0, b.at);
    cr_assert_eq(r.bells.rung[0], 1);
    cr_assert_not(mailbox_await(r.n, 0, 0, 64));
    mailbox_consumed(r.n, 0, 0, b.end);
    cr_assert_eq(r.bells.rung[0], 2);
    rig_close(&r);
}

Test(mailbox, more_than_sixty_four_senders_are_heard)
{
    struct rig r;
    struct mailbox_batch b;
    rig_open(&r, 2, 150);
    for (uint32_t sender = 0; sender < 150; sender++) {
        put(&r, sender, 1, sender);
        mailbox_publish(r.n, sender);
    }
    for (uint32_t i = 0; i < 150; i++) {
        cr_assert(mailbox_next(r.n, 1, &b));
        cr_assert_eq(b.sender, i);
        cr_assert_eq(take(&b), i);
        mailbox_consumed(r.n, 1, i, b.at);
    }
    cr_assert_not(mailbox_next(r.n, 1, &b));
    rig_close(&r);
}

Test(mailbox, without_memory_nothing_is_left_behind)
{
    for (uint64_t n = 1; n <= 2; n++) {
        struct mem_heap heap;
        struct mailbox_net *net = NULL;
        mem_heap_init(&heap);
        heap.fail_at = n;
        cr_assert_eq(mailbox_open(&heap.mem, 2, 3, RING, bell_ring, NULL, &net), ERR_MEMORY);
        cr_assert_null(net);
        cr_assert_eq(heap.live_count, 0);
        cr_assert_eq(heap.mem.used_bytes[MEM_MAIL], 0);
    }
}
