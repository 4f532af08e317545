#include <criterion/criterion.h>
#include "core/base/must.h"
#include "core/js/wake.h"
#include "core/base/rng.h"
#include "core/route/subject.h"
#include "tests/support/mem_heap.h"

static struct mem_heap heap;
static struct wake wake;

static void setup(void)
{
    mem_heap_init(&heap);
    wake_init(&wake, &heap.mem);
}

static void teardown(void)
{
    wake_deinit(&wake);
    must(heap.live_count == 0);
}

TestSuite(wake, .init = setup, .fini = teardown);

static uint32_t stored(const char *subject)
{
    struct list out;
    uint32_t count = 0;
    list_init(&out);
    wake_stored(&wake, bytes_from_text(subject), &out);
    while (list_pop(&out) != NULL) count++;
    return count;
}

Test(wake, only_those_that_wait_are_woken_and_once)
{
    struct wake_entry a, b;
    cr_assert_eq(wake_join(&wake, BYTES_LITERAL(""), &a, &a), ERR_OK);
    cr_assert_eq(wake_join(&wake, BYTES_LITERAL(">"), &b, &b), ERR_OK);
    cr_assert_eq(stored("x"), 0);
    wake_wait(&wake, &a);
    wake_wait(&wake, &a);
    cr_assert_eq(wake.waiting_count, 1);
    cr_assert_eq(stored("x"), 1);
    cr_assert_eq(stored("x"), 0);
    wake_wait(&wake, &a);
    wake_wait(&wake, &b);
    wake_stop(&wake, &a);
    wake_stop(&wake, &a);
    cr_assert_eq(stored("x.y"), 1);
    wake_wait(&wake, &b);
    wake_leave(&wake, &a);
    wake_leave(&wake, &b);
    cr_assert_eq(wake.waiting_count, 0);
}

Test(wake, it_agrees_with_matching_one_by_one)
{
    static const char *const filters[] = {"a",     "b", "a.b", "a.*",   "*.b", "a.>",
                                          "a.*.c", "*", "*.*", "a.b.c", ">",   "*.b.>"};
    static const char *const subjects[] = {"a",   "b",     "a.b",   "a.c",
                                           "b.b", "a.b.c", "a.x.c", "c.b.a.b"};
    enum { FILTERS = sizeof filters / sizeof filters[0], SUBJECTS = 8 };
    struct wake_entry entries[FILTERS];
    bool waits[FILTERS] = {false};
    struct rng rng;
    rng_init(&rng, 7);
    for (int i = 0; i < FILTERS; i++)
        cr_assert_eq(wake_join(&wake, bytes_from_text(filters[i]), &entries[i], &entries[i]),
                     ERR_OK);
    for (int round = 0; round < 2000; round++) {
        uint32_t i = rng_below(&rng, FILTERS), expected = 0;
        wake_wait(&wake, &entries[i]);
        waits[i] = true;
        const char *subject = subjects[rng_below(&rng, SUBJECTS)];
        for (int j = 0; j < FILTERS; j++)
            if (waits[j] &&
                subject_matches(bytes_from_text(subject), bytes_from_text(filters[j]))) {
                waits[j] = false;
                expected++;
            }
        cr_assert_eq(stored(subject), expected, "%s", subject);
    }
    for (int i = 0; i < FILTERS; i++) wake_leave(&wake, &entries[i]);
}

Test(wake, a_failed_join_leaves_nothing)
{
    struct wake_entry e;
    for (uint64_t at = 1; at <= 2; at++) {
        heap.fail_at = heap.alloc_count + at;
        cr_assert_eq(wake_join(&wake, BYTES_LITERAL("a"), &e, &e), ERR_MEMORY);
    }
    heap.fail_at = 0;
    cr_assert_eq(wake_join(&wake, BYTES_LITERAL("a"), &e, &e), ERR_OK);
    wake_leave(&wake, &e);
}
