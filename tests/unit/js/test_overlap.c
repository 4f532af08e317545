#include <criterion/criterion.h>
#include <stdio.h>
#include "core/base/must.h"
#include "core/base/rng.h"
#include "core/js/overlap.h"
#include "core/route/subject.h"
#include "tests/support/mem_heap.h"

static struct mem_heap heap;
static struct overlap overlap;

static void setup(void)
{
    mem_heap_init(&heap);
    overlap_init(&overlap, &heap.mem, 3);
}

static void teardown(void)
{
    overlap_deinit(&overlap);
    must(heap.live_count == 0);
}

TestSuite(overlap, .init = setup, .fini = teardown);

static const char *const filters[] = {
    "a",         "b",         "a.b",       "a.*",       "*.b",       "a.>",       "a.*.c",
    "*",         "*.*",       "a.b.c",     "a.b.>",     ">",         "*.b.>",     "b.a.>",
    "b.a",       "a..b",      ".a",        "a.",        "a.*.b",     "*.*.c",     "*.c",
    "a.*.*",     "a.*.",      "*.*.b.c",   "a.c.b",     "*.*.*",     "a.*.b.*",   "a.*.c.*",
    "a.*.b.>",   "*.b.*",     "*.*.b.*",   "a.*.*.b.*", "a.x.b.y",   "a.*.x.c.*", "a.*..b.*",
    "a.*.*.c.>", "a.*.b.c.>", "*.*.*.b.>", "a.*.b.*.c", "a.*.c.*.c", "*.b.*.c",   "a.x.b.y.c",
    "a.*.b.*.*", "a.*.*.*.c", "a.*.c.*.b", "a.*.b..c",  "a.*.b.c.c"};
enum { FILTERS = sizeof filters / sizeof filters[0] };

Test(overlap, it_agrees_with_asking_one_by_one)
{
    struct overlap_claim *claims[2][FILTERS] = {{NULL}};
    struct rng rng;
    rng_init(&rng, 11);
    for (int round = 0; round < 20000; round++) {
        uint32_t account = rng_below(&rng, 2), i = rng_below(&rng, FILTERS);
        struct overlap_claim **claim = &claims[account][i];
        if (*claim == NULL)
            cr_assert_eq(
                overlap_claim(&overlap, account, bytes_from_text(filters[i]), &filters[i], claim),
                ERR_OK);
        else
            overlap_release(&overlap, *claim), *claim = NULL;
        uint32_t asked = rng_below(&rng, FILTERS), self = rng_below(&rng, FILTERS);
        struct bytes filter = bytes_from_text(filters[asked]);
        bool expected = false;
        for (uint32_t j = 0; j < FILTERS; j++)
            expected |= j != self && claims[account][j] != NULL &&
                        subject_collides(bytes_from_text(filters[j]), filter);
        cr_assert_eq(overlap_meets(&overlap, account, filter, &filters[self]), expected, "%s",
                     filters[asked]);
    }
    for (uint32_t i = 0; i < 2 * FILTERS; i++)
        if (claims[i / FILTERS][i % FILTERS] != NULL)
            overlap_release(&overlap, claims[i / FILTERS][i % FILTERS]);
}

Test(overlap, without_memory_nothing_is_claimed)
{
    struct overlap_claim *claim;
    for (uint64_t at = 1;; at++) {
        heap.fail_at = heap.alloc_count + at;
        struct bytes filter =
            at % 2 == 0 ? BYTES_LITERAL("a.b.c.*.x") : BYTES_LITERAL("a.b.c.*.x.*");
        enum err e = overlap_claim(&overlap, 0, filter, &heap, &claim);
        heap.fail_at = 0;
        if (e == ERR_OK) break;
        cr_assert_eq(e, ERR_MEMORY);
        cr_assert_eq(overlap.claims.count, 0);
        cr_assert_eq(overlap.longer.count, 0);
        cr_assert_eq(overlap.tailed.count, 0);
        cr_assert_eq(overlap.middled.count, 0);
    }
    overlap_release(&overlap, claim);
}

Test(overlap, many_streams_are_not_gone_through)
{
    enum { STREAMS = 20000 };
    static struct overlap_claim *claims[STREAMS];
    char text[30];
    for (int i = 0; i < STREAMS; i++) {
        struct bytes filter = bytes_of(text, (size_t)snprintf(text, sizeof text, "orders.%d.>", i));
        cr_assert_not(overlap_meets(&overlap, 0, filter, NULL));
        cr_assert_eq(overlap_claim(&overlap, 0, filter, &claims[i], &claims[i]), ERR_OK);
    }
    cr_assert(overlap_meets(&overlap, 0, BYTES_LITERAL("orders.77.x"), NULL));
    for (int i = 0; i < STREAMS; i++) overlap_release(&overlap, claims[i]);
}

static uint64_t compared;

static bool count_all(const void *context, const struct overlap_claim *c)
{
    compared++;
    return context != c->owner;
}

/* So many of them, told apart by one token. */
static void compare_many(const char *head, const char *tail)
{
    enum { SUBJECTS = 4096 };
    static struct overlap_claim *claims[SUBJECTS];
    char text[30];
    compared = 0;
    for (int i = 0; i < SUBJECTS; i++) {
        struct bytes filter =
            bytes_of(text, (size_t)snprintf(text, sizeof text, "%s%d%s", head, i, tail));
        cr_assert_not(overlap_meets_any(&overlap, 0, filter, count_all, NULL));
        cr_assert_eq(overlap_claim(&overlap, 0, filter, &claims[i], &claims[i]), ERR_OK);
    }
    cr_assert_leq(compared, SUBJECTS);
    struct bytes same =
        bytes_of(text, (size_t)snprintf(text, sizeof text, "%s%d%s", head, 77, tail));
    cr_assert(overlap_meets(&overlap, 0, same, NULL));
    cr_assert(overlap_meets(&overlap, 0, BYTES_LITERAL("m.>"), NULL));
    cr_assert(overlap_meets(&overlap, 0, BYTES_LITERAL("*.x.>"), NULL));
    for (int i = 0; i < SUBJECTS; i++) overlap_release(&overlap, claims[i]);
}

Test(overlap, subjects_that_differ_in_one_token_are_not_compared)
{
    compare_many("m.*.", "");
    compare_many("m.*.", ".*");
    compare_many("m.*.", ".>");
    compare_many("m.*.*.*.i", ".*.>");
    compare_many("m.*.a.", "");
    compare_many("m.*.", ".*.b");
    compare_many("m.*.", ".b");
    compare_many("m.*.b.*.", "");
}

/* Items with wildcards are asked about by what they could meet. */
Test(overlap, many_items_are_compared_the_other_way)
{
    enum { SUBJECTS = 4096, ITEMS = 1024 };
    static struct overlap_claim *claims[SUBJECTS];
    static struct bytes items[ITEMS];
    static char texts[ITEMS][30];
    struct overlap_list list;
    char text[30];
    for (int i = 0; i < SUBJECTS; i++) {
        struct bytes filter = bytes_of(text, (size_t)snprintf(text, sizeof text, "f.a%d.x.y", i));
        cr_assert_eq(overlap_claim(&overlap, 0, filter, &claims[i], &claims[i]), ERR_OK);
    }
    for (int i = 0; i < ITEMS; i++)
        items[i] = bytes_of(texts[i], (size_t)snprintf(texts[i], sizeof texts[i], "f.*.b%d.c", i));
    cr_assert_eq(overlap_list_open(&list, &heap.mem, items, ITEMS), ERR_OK);
    compared = 0;
    cr_assert_not(overlap_list_meets_claims(&list, &overlap, 0, count_all, NULL));
    cr_assert_eq(compared, SUBJECTS);
    overlap_list_close(&list);
    items[77] = BYTES_LITERAL("f.*.x.*");
    cr_assert_eq(overlap_list_open(&list, &heap.mem, items, ITEMS), ERR_OK);
    cr_assert(overlap_list_meets_claims(&list, &overlap, 0, count_all, NULL));
    cr_assert_not(overlap_list_meets_claims(&list, &overlap, 1, count_all, NULL));
    overlap_list_close(&list);
    for (int i = 0; i < SUBJECTS; i++) overlap_release(&overlap, claims[i]);
}

Test(overlap, both_ways_agree)
{
    struct overlap_claim *claims[FILTERS];
    struct bytes items[4];
    struct overlap_list list;
    struct rng rng;
    rng_init(&rng, 12);
    for (int round = 0; round < 2000; round++) {
        bool is_there[FILTERS], expected = false;
        for (uint32_t i = 0; i < FILTERS; i++) {
            is_there[i] = rng_below(&rng, 8) == 0;
            if (is_there[i])
                cr_assert_eq(overlap_claim(&overlap, 0, bytes_from_text(filters[i]), &filters[i],
                                           &claims[i]),
                             ERR_OK);
        }
        for (int i = 0; i < 4; i++) {
            items[i] = bytes_from_text(filters[rng_below(&rng, FILTERS)]);
            expected |= overlap_meets(&overlap, 0, items[i], NULL);
        }
        cr_assert_eq(overlap_list_open(&list, &heap.mem, items, 4), ERR_OK);
        cr_assert_eq(overlap_list_meets_claims(&list, &overlap, 0, count_all, NULL), expected);
        overlap_list_close(&list);
        for (uint32_t i = 0; i < FILTERS; i++)
            if (is_there[i]) overlap_release(&overlap, claims[i]);
    }
}
