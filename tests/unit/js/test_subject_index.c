#include <criterion/criterion.h>
#include <stdio.h>
#include "core/js/subject_index_walk.h"
#include "tests/support/mem_heap.h"

static uint32_t add(struct subject_index *x, const char *subject, uint64_t seq)
{
    uint32_t node;
    bool is_new;
    cr_assert_eq(subject_index_intern(x, bytes_from_text(subject), &node, &is_new), ERR_OK);
    subject_index_add(x, node, seq);
    return node;
}

static uint64_t total(const struct subject_index *x, const char *filter)
{
    return subject_index_total(x, bytes_from_text(filter)).msgs;
}

Test(subject_index, a_star_takes_one_token_and_rest_takes_one_or_more)
{
    struct mem_heap heap;
    struct subject_index x;
    mem_heap_init(&heap);
    subject_index_init(&x, &heap.mem, 0);
    const char *subjects[] = {"a", "a.b", "a.b.c", "a.c", "ab.c", "b.c", "*", "a.*"};
    for (uint64_t i = 0; i < 8; i++) add(&x, subjects[i], i + 1);
    cr_assert_eq(total(&x, ">"), 8);
    cr_assert_eq(total(&x, "*"), 2);
    cr_assert_eq(total(&x, "*.*"), 5);
    cr_assert_eq(total(&x, "a.>"), 4);
    cr_assert_eq(total(&x, "a.*"), 3);
    cr_assert_eq(total(&x, "*.c"), 3);
    cr_assert_eq(total(&x, "a.*.c"), 1);
    cr_assert_eq(total(&x, "a.*.>"), 1);
    cr_assert_eq(total(&x, "a"), 1);
    cr_assert_eq(total(&x, "a.b.c.d"), 0);
    subject_index_clear(&x);
    cr_assert_eq(heap.live_count, 0);
}

/* One claim after the other, as at a start: in turn, at random, and some that come to nothing. */
static void fill(struct subject_index *x)
{
    for (uint32_t i = 0; i < 3000; i++) {
        char text[32];
        uint32_t node, number = i < 2000 ? i % 500 : i * 7919 % 701;
        bool is_new;
        struct bytes subject = bytes_of(
            text, (size_t)snprintf(text, sizeof text, "k.%u.%u", number % 7, number / (i % 3 + 1)));
        cr_assert_eq(subject_index_intern(x, subject, &node, &is_new), ERR_OK);
        if (i % 11 == 5)
            subject_index_drop(x, node);
        else
            subject_index_add(x, node, i + 1);
    }
}

Test(subject_index, what_comes_in_bulk_is_there_and_counts_as_if_it_came_otherwise)
{
    struct mem_heap heap;
    struct subject_index bulk, plain;
    mem_heap_init(&heap);
    subject_index_init(&plain, &heap.mem, 3);
    subject_index_init(&bulk, &heap.mem, 3);
    fill(&plain);
    subject_index_bulk_begin(&bulk);
    fill(&bulk);
    subject_index_bulk_end(&bulk);
    cr_assert_eq(bulk.leaf_count, plain.leaf_count);
    cr_assert_eq(bulk.key_count, plain.key_count);
    cr_assert_eq(bulk.msg_count, plain.msg_count);
    cr_assert_eq(bulk.node_end, plain.node_end);
    for (uint32_t node = 0; node < plain.node_end; node++) {
        const struct subject_node *a = subject_index_node(&plain, node);
        const struct subject_node *b = subject_index_node(&bulk, node);
        cr_assert(
            bytes_equal(subject_index_subject(&plain, node), subject_index_subject(&bulk, node)));
        cr_assert(a->first == b->first && a->last == b->last && a->count == b->count);
    }
    const char *filters[] = {">", "k.>", "k.1.*", "k.*.2", "k.3.>", "k.4.44", "*.*", "k"};
    for (uint32_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        struct bytes filter = bytes_from_text(filters[i]);
        cr_assert_eq(subject_index_total(&bulk, filter).msgs,
                     subject_index_total(&plain, filter).msgs);
        cr_assert_eq(subject_index_total(&bulk, filter).keys,
                     subject_index_total(&plain, filter).keys);
    }
    cr_assert_gt(total(&bulk, "k.1.*"), 0);
    subject_index_clear(&bulk);
    subject_index_clear(&plain);
    cr_assert_eq(heap.live_count, 0);
}

Test(subject_index, a_claimed_number_outlives_its_last_message_and_a_purge)
{
    struct mem_heap heap;
    struct subject_index x;
    uint32_t claimed;
    bool is_new;
    mem_heap_init(&heap);
    subject_index_init(&x, &heap.mem, 0);
    uint32_t node = add(&x, "a.b", 1);
    add(&x, "a.c", 2);
    cr_assert_eq(subject_index_intern(&x, BYTES_LITERAL("a.b"), &claimed, &is_new), ERR_OK);
    cr_assert_eq(claimed, node);
    cr_assert_not(is_new);
    cr_assert(subject_index_remove(&x, node, 1));
    cr_assert_eq(subject_index_find(&x, BYTES_LITERAL("a.b")), node);
    cr_assert_eq(subject_index_total(&x, BYTES_LITERAL(">")).keys, 1, "a claim is no subject yet");
    subject_index_purge(&x);
    cr_assert_eq(subject_index_find(&x, BYTES_LITERAL("a.b")), node);
    cr_assert_eq(subject_index_find(&x, BYTES_LITERAL("a.c")), MSGS_NODE_NONE);
    subject_index_drop(&x, node);
    cr_assert_eq(subject_index_find(&x, BYTES_LITERAL("a.b")), MSGS_NODE_NONE);
    subject_index_clear(&x);
    cr_assert_eq(heap.live_count, 0);
}

Test(subject_index, missing_memory_refuses_a_subject_and_changes_nothing)
{
    struct mem_heap heap;
    struct subject_index x;
    uint32_t node;
    bool is_new;
    mem_heap_init(&heap);
    subject_index_init(&x, &heap.mem, 0);
    for (uint64_t i = 1; i <= 5000; i++) {
        char text[32];
        struct bytes subject = bytes_of(
            text, (size_t)snprintf(text, sizeof text, "k.%llu", (unsigned long long)(i * 7919)));
        for (uint64_t n = 1;; n++) {
            heap.fail_at = heap.alloc_count + n;
            enum err e = subject_index_intern(&x, subject, &node, &is_new);
            heap.fail_at = 0;
            if (e == ERR_OK) break;
            cr_assert_eq(e, ERR_MEMORY);
            cr_assert_eq(subject_index_find(&x, subject), MSGS_NODE_NONE);
            cr_assert_eq(x.leaf_count, i - 1);
        }
        cr_assert(is_new);
        subject_index_add(&x, node, i);
    }
    cr_assert_eq(total(&x, "k.*"), 5000);
    subject_index_clear(&x);
    cr_assert_eq(heap.live_count, 0);
}

Test(subject_index, a_list_that_grows_too_long_is_given_up_and_the_bounds_stay_right)
{
    struct mem_heap heap;
    struct subject_index x;
    struct msgs msgs;
    uint32_t node = 0;
    mem_heap_init(&heap);
    subject_index_init(&x, &heap.mem, 3);
    msgs_init(&msgs, &heap.mem);
    for (uint64_t seq = 1; seq <= 300; seq++) {
        node = add(&x, "a", seq);
        cr_assert_eq(msgs_append(&msgs, seq, &(struct msgs_entry){.node = node}), ERR_OK);
    }
    for (uint64_t seq = 1; seq < 300; seq++) {
        cr_assert_eq(msgs_remove(&msgs, seq, NULL), ERR_OK);
        cr_assert_not(subject_index_remove(&x, node, seq));
        cr_assert_eq(subject_index_first(&x, &msgs, node), seq + 1);
    }
    cr_assert_eq(subject_index_last(&x, &msgs, node), 300);
    msgs_clear(&msgs);
    subject_index_clear(&x);
    cr_assert_eq(heap.live_count, 0);
}

Test(subject_index, a_hundred_thousand_keys_take_at_most_80_bytes_each_beside_the_key)
{
    enum { KEYS = 100000 };
    struct mem_heap heap;
    struct subject_index x;
    size_t key_bytes = 0;
    mem_heap_init(&heap);
    subject_index_init(&x, &heap.mem, 1);
    for (uint32_t i = 0; i < KEYS; i++) {
        char text[40];
        key_bytes += (size_t)snprintf(text, sizeof text, "$KV.b.%08x", i * 2654435761u);
        add(&x, text, i + 1);
    }
    cr_assert_leq(subject_index_bytes(&x), key_bytes + (size_t)KEYS * 80);
    cr_assert_eq(total(&x, "$KV.b.*"), KEYS);
    subject_index_clear(&x);
}
