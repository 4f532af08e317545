#include <criterion/criterion.h>
#include "core/base/rng.h"
#include "core/js/dedupe.h"
#include "tests/support/mem_heap.h"

enum { IDS = 3000, WINDOW = 1000, STEPS = 60000 };

static struct hash128 hash_of(const struct dedupe *d, uint32_t id)
{
    return dedupe_hash(d, bytes_of((const char *)&id, sizeof id));
}

/* The oracle: when and as what each id was published last. */
struct oracle {
    uint64_t seq[IDS];
    int64_t time[IDS];
};

Test(dedupe, agrees_with_a_time_per_id)
{
    struct mem_heap heap;
    struct dedupe d;
    struct rng r;
    static struct oracle o;
    int64_t now = 5000;
    uint64_t seq = 0, duplicates = 0;
    mem_heap_init(&heap);
    rng_init(&r, 3);
    dedupe_init(&d, &heap.mem, 77, WINDOW, IDS);
    for (int step = 0; step < STEPS; step++) {
        uint32_t phase = (uint32_t)(step * 4 / STEPS);
        uint32_t id = rng_below(&r, phase % 2 == 0 ? IDS : IDS / 50);
        now += rng_below(&r, step % 9000 == 0 ? 3000 : 2);
        struct hash128 hash = hash_of(&d, id);
        uint64_t expected = o.seq[id] != 0 && now - o.time[id] < WINDOW ? o.seq[id] : 0;
        cr_assert_eq(dedupe_find(&d, hash, now), expected);
        duplicates += expected != 0;
        if (expected == 0) {
            heap.fail_at = rng_below(&r, 8) == 0 ? heap.alloc_count + 1 : 0;
            enum err e = dedupe_add(&d, hash, ++seq, now);
            heap.fail_at = 0;
            if (e != ERR_OK) {
                cr_assert_eq(e, ERR_MEMORY);
                cr_assert_eq(dedupe_find(&d, hash, now), 0);
                e = dedupe_add(&d, hash, seq, now);
            }
            cr_assert_eq(e, ERR_OK);
            o.seq[id] = seq;
            o.time[id] = now;
        }
        if (rng_below(&r, 20) == 0) dedupe_expire(&d, now, rng_below(&r, 100));
        if (rng_below(&r, 500) == 0 && seq > 20) {
            uint64_t from = seq - rng_below(&r, 20);
            dedupe_drop_from(&d, from);
            for (uint32_t i = 0; i < IDS; i++)
                if (o.seq[i] >= from) o.seq[i] = 0;
        }
    }
    cr_assert_gt(duplicates, 1000);
    cr_assert_not(dedupe_expire(&d, now + WINDOW, UINT32_MAX));
    cr_assert_eq(d.count, 0);
    dedupe_clear(&d);
    cr_assert_eq(heap.live_count, 0);
}

Test(dedupe, an_id_counts_until_the_window_has_passed_whether_it_was_expired_or_not)
{
    struct mem_heap heap;
    struct dedupe d;
    mem_heap_init(&heap);
    dedupe_init(&d, &heap.mem, 1, 100, 10);
    struct hash128 hash = hash_of(&d, 1);
    cr_assert_eq(dedupe_end_ns(&d), INT64_MAX);
    cr_assert_eq(dedupe_add(&d, hash, 7, 1000), ERR_OK);
    cr_assert_eq(dedupe_end_ns(&d), 1100);
    cr_assert_eq(dedupe_find(&d, hash, 1099), 7);
    cr_assert_eq(dedupe_find(&d, hash, 1100), 0);
    cr_assert_eq(dedupe_add(&d, hash, 8, 1100), ERR_OK);
    cr_assert_eq(dedupe_find(&d, hash, 1150), 8);
    cr_assert_not(dedupe_expire(&d, 1150, 10));
    cr_assert_eq(d.count, 1);
    cr_assert_eq(dedupe_find(&d, hash, 1150), 8);
    dedupe_clear(&d);
}

Test(dedupe, a_full_window_refuses_and_forgets_nobody)
{
    struct mem_heap heap;
    struct dedupe d;
    mem_heap_init(&heap);
    dedupe_init(&d, &heap.mem, 1, 100, 2);
    cr_assert_eq(dedupe_add(&d, hash_of(&d, 1), 1, 10), ERR_OK);
    cr_assert_eq(dedupe_add(&d, hash_of(&d, 2), 2, 5), ERR_OK);
    cr_assert_eq(dedupe_at(&d, 1)->time_ns, 10, "times do not go back");
    cr_assert_eq(dedupe_add(&d, hash_of(&d, 3), 3, 20), ERR_FULL);
    cr_assert_eq(dedupe_find(&d, hash_of(&d, 1), 20), 1);
    cr_assert(dedupe_expire(&d, 200, 1), "one more is due");
    cr_assert_eq(dedupe_add(&d, hash_of(&d, 3), 3, 200), ERR_OK);
    dedupe_clear(&d);
}

Test(dedupe, many_ids_take_some_44_bytes_each_and_give_them_back)
{
    enum { MANY = 200000 };
    struct mem_heap heap;
    struct dedupe d;
    mem_heap_init(&heap);
    dedupe_init(&d, &heap.mem, 9, 1000, MANY);
    for (uint32_t i = 1; i <= MANY; i++)
        cr_assert_eq(dedupe_add(&d, hash_of(&d, i), i, i / 1000), ERR_OK);
    for (uint32_t i = 1; i <= MANY; i++) cr_assert_eq(dedupe_find(&d, hash_of(&d, i), 500), i);
    for (uint32_t i = MANY + 1; i <= 2 * MANY; i++)
        cr_assert_eq(dedupe_find(&d, hash_of(&d, i), 500), 0);
    cr_assert_lt(d.bytes_taken, (size_t)MANY * 50);
    dedupe_expire(&d, 5000, MANY);
    cr_assert_eq(d.bytes_taken, 0);
    cr_assert_eq(heap.live_count, 0);
}

/* A stream that is changed does not stop for a million of them. */
Test(dedupe, a_longer_window_brings_nothing_back_and_looks_at_nothing)
{
    struct mem_heap heap;
    struct dedupe d;
    mem_heap_init(&heap);
    dedupe_init(&d, &heap.mem, 1, 100, 10);
    for (uint32_t i = 1; i <= 3; i++) cr_assert_eq(dedupe_add(&d, hash_of(&d, i), i, i), ERR_OK);
    dedupe_set_window(&d, 1000, 102);
    cr_assert_eq(d.count, 3);
    cr_assert_eq(dedupe_find(&d, hash_of(&d, 2), 102), 0);
    cr_assert_eq(dedupe_find(&d, hash_of(&d, 3), 102), 3);
    cr_assert_not(dedupe_expire(&d, 102, 10));
    cr_assert_eq(d.count, 1);
    cr_assert_eq(dedupe_end_ns(&d), 1003);
    dedupe_set_window(&d, 100, 103);
    dedupe_set_window(&d, 1000, 103);
    cr_assert_eq(dedupe_find(&d, hash_of(&d, 3), 103), 0);
    cr_assert_leq(dedupe_end_ns(&d), 103);
    cr_assert_eq(dedupe_add(&d, hash_of(&d, 3), 4, 103), ERR_OK);
    cr_assert_eq(dedupe_find(&d, hash_of(&d, 3), 1102), 4);
    dedupe_clear(&d);
    cr_assert_eq(heap.live_count, 0);
}

Test(dedupe, a_window_of_nothing_keeps_nothing)
{
    struct mem_heap heap;
    struct dedupe d;
    mem_heap_init(&heap);
    dedupe_init(&d, &heap.mem, 1, 0, 2);
    cr_assert_eq(dedupe_add(&d, hash_of(&d, 1), 1, 10), ERR_OK);
    cr_assert_eq(dedupe_find(&d, hash_of(&d, 1), 10), 0);
    cr_assert_eq(heap.live_count, 0);
}
