#include <criterion/criterion.h>
#include "core/route/sub.h"
#include "tests/support/mem_heap.h"

enum { MANY = 10000 };

Test(sub, short_and_long_sids_come_back_as_they_were)
{
    struct mem_heap heap;
    struct sub_pool *p;
    char sid[SUB_SID_BYTES_MAX];
    uint32_t lengths[] = {0, 1, 9, 10, 11, 255, 256, 4096}, subs[8];
    mem_heap_init(&heap);
    memset(sid, 's', sizeof sid);
    cr_assert_eq(sub_pool_open(&heap.mem, &p), ERR_OK);
    for (int i = 0; i < 8; i++)
        cr_assert_eq(sub_acquire(p, (struct client *)&heap, bytes_of(sid, lengths[i]), &subs[i]),
                     ERR_OK);
    for (int i = 0; i < 8; i++) {
        const struct sub *s = sub_at(p, subs[i]);
        cr_assert(bytes_equal(sub_sid(s), bytes_of(sid, lengths[i])));
        cr_assert_eq(sub_index(p, s), subs[i]);
        cr_assert_neq(subs[i], 0);
        cr_assert_eq((void *)s->owner, (void *)&heap);
    }
    cr_assert_eq(sub_pool_count(p), 8);
    for (int i = 0; i < 8; i++) sub_release(p, subs[i]);
    sub_pool_close(p);
    cr_assert_eq(heap.live_count, 0);
}

Test(sub, addresses_stay_while_the_pool_grows_and_indexes_are_used_again)
{
    struct mem_heap heap;
    struct sub_pool *p;
    static uint32_t subs[MANY];
    mem_heap_init(&heap);
    cr_assert_eq(sub_pool_open(&heap.mem, &p), ERR_OK);
    cr_assert_eq(sub_acquire(p, NULL, BYTES_LITERAL("first"), &subs[0]), ERR_OK);
    const struct sub *first = sub_at(p, subs[0]);
    for (int i = 1; i < MANY; i++)
        cr_assert_eq(sub_acquire(p, NULL, BYTES_LITERAL("x"), &subs[i]), ERR_OK);
    cr_assert_eq((void *)sub_at(p, subs[0]), (void *)first);
    for (int i = 1; i < MANY; i++) sub_release(p, subs[i]);
    for (int i = 1; i < MANY; i++) {
        cr_assert_eq(sub_acquire(p, NULL, BYTES_LITERAL("x"), &subs[i]), ERR_OK);
        cr_assert_leq(subs[i], MANY);
    }
    for (int i = 0; i < MANY; i++) sub_release(p, subs[(i * 7919) % MANY]);
    cr_assert_null(sub_at(p, subs[0])->owner, "a released sub can be read until the trim");
    sub_pool_trim(p);
    cr_assert_lt(heap.mem.used_bytes[MEM_INTEREST], 300 << 10, "empty chunks go, but for one");
    uint64_t allocs = heap.alloc_count;
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(sub_acquire(p, NULL, BYTES_LITERAL("x"), &subs[0]), ERR_OK);
        sub_release(p, subs[0]);
    }
    cr_assert_eq(heap.alloc_count, allocs);
    sub_pool_close(p);
    cr_assert_eq(heap.live_count, 0);
}

Test(sub, a_refused_sub_changes_nothing)
{
    struct mem_heap heap;
    struct sub_pool *p;
    uint32_t sub;
    mem_heap_init(&heap);
    cr_assert_eq(sub_pool_open(&heap.mem, &p), ERR_OK);
    struct bytes sid = BYTES_LITERAL("a sid that is longer than ten bytes");
    for (uint64_t fail = 1; fail <= 3; fail++) {
        heap.fail_at = heap.alloc_count + fail;
        cr_assert_eq(sub_acquire(p, NULL, sid, &sub), ERR_MEMORY);
        cr_assert_eq(sub_pool_count(p), 0);
    }
    heap.fail_at = 0;
    cr_assert_eq(sub_acquire(p, NULL, sid, &sub), ERR_OK);
    sub_release(p, sub);
    sub_pool_close(p);
    cr_assert_eq(heap.live_count, 0);
}
