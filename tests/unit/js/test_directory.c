#include <criterion/criterion.h>
#include <stdio.h>
#include "core/base/must.h"
#include "core/js/directory.h"
#include "tests/support/mem_heap.h"

static struct mem_heap heap;
static struct directory d;
static const struct directory_limits none = {-1, -1, -1, -1, -1};

static void setup(void)
{
    mem_heap_init(&heap);
    directory_init(&d, &heap.mem, 7);
}

static void teardown(void)
{
    directory_deinit(&d);
    must(heap.live_count == 0);
}

TestSuite(directory, .init = setup, .fini = teardown);

static struct directory_ask ask(uint64_t stream, uint32_t log, const char *name,
                                struct bytes *subject, int64_t max_bytes)
{
    return (struct directory_ask){.log = log,
                                  .stream = stream,
                                  .name = bytes_from_text(name),
                                  .is_new = true,
                                  .max_bytes = max_bytes,
                                  .subjects = {subject, subject->len > 0}};
}

static struct bytes subjects[] = {BYTES_LITERAL("a.*"), BYTES_LITERAL("a.b"), BYTES_LITERAL("c")};

Test(directory, a_claim_stands_until_it_is_settled)
{
    struct directory_ask a = ask(1, 0, "A", &subjects[0], 0), b = ask(2, 1, "B", &subjects[1], 0);
    cr_assert_eq(directory_claim(&d, &a, &none), DIRECTORY_GRANTED);
    cr_assert_not(directory_is_listed(directory_find_id(&d, 1), 0, bytes_of(NULL, 0)));
    cr_assert_eq(directory_claim(&d, &a, &none), DIRECTORY_AGAIN);
    cr_assert_eq(directory_claim(&d, &b, &none), DIRECTORY_OVERLAP);
    directory_settle(&d, 1, false);
    cr_assert_null(directory_find_id(&d, 1));
    cr_assert_eq(directory_claim(&d, &b, &none), DIRECTORY_GRANTED);
    directory_settle(&d, 2, true);
    cr_assert(directory_is_listed(directory_find(&d, 0, b.name), 0, subjects[0]));
    cr_assert_not(directory_is_listed(directory_find(&d, 0, b.name), 0, subjects[2]));
    cr_assert_not(directory_is_listed(directory_find(&d, 0, b.name), 1, subjects[0]));
}

Test(directory, subjects_of_a_stream_that_is_about_to_go_are_to_be_asked_for_again)
{
    struct directory_ask a = ask(1, 0, "A", &subjects[0], 0), b = ask(2, 1, "B", &subjects[1], 0);
    cr_assert_eq(directory_enter(&d, &a), ERR_OK);
    directory_end_soon(&d, 0, BYTES_LITERAL("nobody"), 10);
    directory_end_soon(&d, 0, a.name, 10);
    b.now_ns = 9;
    cr_assert_eq(directory_claim(&d, &b, &none), DIRECTORY_AGAIN);
    cr_assert_null(directory_find_id(&d, 2));
    b.now_ns = 10; /* it failed, and nobody said so */
    cr_assert_eq(directory_claim(&d, &b, &none), DIRECTORY_OVERLAP);
    b.now_ns = 9;
    directory_drop(&d, 1);
    cr_assert_eq(directory_claim(&d, &b, &none), DIRECTORY_GRANTED);
}

Test(directory, the_place_and_the_bytes_of_a_stream_that_is_about_to_go_are_to_be_asked_for_again)
{
    struct directory_ask a = ask(1, 0, "A", &subjects[0], 60), b = ask(2, 1, "B", &subjects[2], 50);
    struct directory_limits one = {1, -1, -1, -1, -1}, bytes = {-1, -1, 100, -1, -1};
    struct directory_limits server = {-1, -1, -1, -1, 100}, little = {-1, -1, 40, -1, -1};
    cr_assert_eq(directory_enter(&d, &a), ERR_OK);
    cr_assert_eq(directory_claim(&d, &b, &one), DIRECTORY_STREAMS);
    directory_end_soon(&d, 0, a.name, 5);
    directory_end_soon(&d, 0, a.name, 10);
    b.now_ns = 9;
    cr_assert_eq(directory_claim(&d, &b, &one), DIRECTORY_AGAIN);
    cr_assert_eq(directory_claim(&d, &b, &bytes), DIRECTORY_AGAIN);
    cr_assert_eq(directory_claim(&d, &b, &server), DIRECTORY_AGAIN);
    cr_assert_eq(directory_claim(&d, &b, &little), DIRECTORY_BYTES); /* not even then */
    b.account = 1;
    cr_assert_eq(directory_claim(&d, &b, &server), DIRECTORY_AGAIN);
    b.account = 0;
    b.now_ns = 10; /* it failed, and nobody said so */
    cr_assert_eq(directory_claim(&d, &b, &one), DIRECTORY_STREAMS);
    cr_assert_eq(directory_claim(&d, &b, &bytes), DIRECTORY_BYTES);
    directory_drop(&d, 1);
    b.now_ns = 9;
    cr_assert_eq(directory_claim(&d, &b, &one), DIRECTORY_GRANTED);
}

Test(directory, an_update_holds_old_and_new_subjects_until_it_is_settled)
{
    struct directory_ask a = ask(1, 0, "A", &subjects[0], 0), b = ask(2, 0, "B", &subjects[1], 0);
    struct directory_ask c = ask(3, 0, "C", &subjects[2], 0);
    cr_assert_eq(directory_enter(&d, &a), ERR_OK);
    a.is_new = false;
    a.subjects.items = &subjects[2];
    cr_assert_eq(directory_claim(&d, &a, &none), DIRECTORY_GRANTED);
    cr_assert_eq(directory_claim(&d, &b, &none), DIRECTORY_OVERLAP);
    cr_assert_eq(directory_claim(&d, &c, &none), DIRECTORY_OVERLAP);
    directory_settle(&d, 1, true);
    cr_assert_eq(directory_claim(&d, &b, &none), DIRECTORY_GRANTED);
    cr_assert_eq(directory_claim(&d, &c, &none), DIRECTORY_OVERLAP);
    directory_drop(&d, 1);
    directory_settle(&d, 1, false); /* came late: nothing */
    cr_assert_eq(directory_claim(&d, &c, &none), DIRECTORY_GRANTED);
}

Test(directory, a_name_lives_in_one_log)
{
    struct directory_ask a = ask(1, 0, "A", &subjects[0], 0), b = ask(2, 1, "A", &subjects[2], 0);
    cr_assert_eq(directory_enter(&d, &a), ERR_OK);
    cr_assert_eq(directory_enter(&d, &b), ERR_EXISTS);
    cr_assert_eq(directory_claim(&d, &b, &none), DIRECTORY_ELSEWHERE);
    /* Its own log says that there is none: then it is so. */
    b.log = 0;
    cr_assert_eq(directory_claim(&d, &b, &none), DIRECTORY_GRANTED);
    cr_assert_null(directory_find_id(&d, 1));
}

Test(directory, streams_and_promised_bytes_are_counted_with_what_is_in_flight)
{
    struct directory_limits l = {2, -1, 100, -1, -1};
    struct directory_ask a = ask(1, 0, "A", &subjects[0], 60), b = ask(2, 0, "B", &subjects[2], 50);
    struct directory_ask c = ask(3, 0, "C", &(struct bytes){NULL, 0}, 0);
    cr_assert_eq(directory_claim(&d, &a, &l), DIRECTORY_GRANTED);
    cr_assert_eq(directory_claim(&d, &b, &l), DIRECTORY_BYTES);
    directory_settle(&d, 1, true);
    a.is_new = false;
    a.max_bytes = 40;
    cr_assert_eq(directory_claim(&d, &a, &l), DIRECTORY_GRANTED);
    cr_assert_eq(directory_claim(&d, &b, &l), DIRECTORY_BYTES); /* it may still stay at 60 */
    directory_settle(&d, 1, true);
    cr_assert_eq(directory_claim(&d, &b, &l), DIRECTORY_GRANTED);
    cr_assert_eq(directory_claim(&d, &c, &l), DIRECTORY_STREAMS);
    directory_settle(&d, 2, false);
    cr_assert_eq(d.total.storage.reserved, 40);
    cr_assert_eq(d.total.streams, 1);
}

/* Entries move in their table as others go; teardown finds what was left behind. */
Test(directory, all_of_many_go_at_the_end)
{
    enum { COUNT = 5000 };
    static char names[COUNT][16];
    struct bytes subject = bytes_of(NULL, 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "S%u", i);
        struct directory_ask a = ask(i + 1, 0, names[i], &subject, 0);
        cr_assert_eq(directory_enter(&d, &a), ERR_OK);
    }
    uint32_t at = 0, count = 0;
    while (directory_each(&d, &at) != NULL) count++;
    cr_assert_eq(count, COUNT);
}

/* Enough of both that they are compared the other way: the verdicts are the same, also where there
 * is no memory for it. */
Test(directory, many_subjects_with_wildcards)
{
    enum { SUBJECTS = 1024 };
    static struct bytes literal[SUBJECTS], wild[SUBJECTS];
    static char texts[2][SUBJECTS][24];
    for (int i = 0; i < SUBJECTS; i++) {
        char *a = texts[0][i], *b = texts[1][i];
        literal[i] = bytes_of(a, (size_t)snprintf(a, sizeof texts[0][i], "f.a%d.x.y", i));
        wild[i] = bytes_of(b, (size_t)snprintf(b, sizeof texts[1][i], "f.*.b%d.c", i));
    }
    struct directory_ask one = ask(1, 0, "ONE", literal, 0);
    struct directory_ask two = ask(2, 0, "TWO", wild, 0);
    one.subjects = (struct request_texts){literal, SUBJECTS};
    two.subjects = (struct request_texts){wild, SUBJECTS};
    cr_assert_eq(directory_claim(&d, &one, &none), DIRECTORY_GRANTED);
    directory_settle(&d, 1, true);
    for (int is_short = 0; is_short < 2; is_short++) {
        wild[5] = BYTES_LITERAL("f.a7.*.y");
        if (is_short) heap.fail_at = heap.alloc_count + 1;
        cr_assert_eq(directory_claim(&d, &two, &none), DIRECTORY_OVERLAP);
        wild[5] = BYTES_LITERAL("f.a7.x.y");
        cr_assert_eq(directory_claim(&d, &two, &none), DIRECTORY_OVERLAP);
    }
    wild[5] = BYTES_LITERAL("f.*.b5.c");
    cr_assert_eq(directory_claim(&d, &two, &none), DIRECTORY_GRANTED);
    directory_settle(&d, 2, true);
    directory_drop(&d, 1);
    directory_drop(&d, 2);
}

/* What a list says is what a look at every stream says, and in order, while streams come, change
 * and go. */
static void expect_list(struct bytes filter)
{
    struct directory_list l;
    struct arena arena;
    uint32_t at = 0, count = 0;
    const struct directory_entry *e;
    arena_init(&arena, &heap.mem, MEM_JETSTREAM);
    cr_assert_eq(directory_list(&d, &arena, 1, filter, &l), ERR_OK);
    while ((e = directory_each(&d, &at)) != NULL) count += directory_is_listed(e, 1, filter);
    cr_assert_eq(l.count, count, "%.*s: %u of %u", (int)filter.len, filter.data, l.count, count);
    for (uint32_t i = 0; i < l.count; i++) {
        e = l.entries[i];
        cr_assert(directory_is_listed(e, 1, filter));
        if (i == 0) continue;
        cr_assert_lt(bytes_compare(directory_name(l.entries[i - 1]), directory_name(e)), 0);
    }
    arena_deinit(&arena);
}

Test(directory, a_list_is_what_every_stream_says)
{
    enum { STEPS = 9000, PLACES = 600 };
    static const char *const filters[] = {"",        ">",     "*",      "s.>", "s.*",     "s.7",
                                          "s.7.x",   "s.7.*", "s.*.x",  "*.7", "*.7.>",   "s.7.y.>",
                                          "s..7",    ".",     "s.>.x",  "t",   "s.*.*.z", "*.*",
                                          "s.7.y.z", "u.9",   "*.*.x.>"};
    static const char *const fronts[] = {"s.", "s.", "u.", "s.", "*.", "*.*."};
    static const char *const ends[] = {"", ".x", ".*", ".y.>", ".w", ".z"};
    uint64_t number = 7;
    for (int i = 0; i < STEPS; i++) {
        char name[32], text[2][32];
        struct bytes wanted[2];
        number = number * 6364136223846793005u + 1442695040888963407u;
        int place = (int)(number >> 33) % PLACES;
        (void)snprintf(name, sizeof name, "%s%d", place % 5 == 0 ? "n" : "n1234567890", place);
        for (int k = 0; k < 2; k++) {
            int shape = (place + k * 5) % 6;
            (void)snprintf(text[k], sizeof text[k], "%s%d%s", fronts[shape], place, ends[shape]);
            wanted[k] = bytes_from_text(text[k]);
        }
        struct directory_ask a = ask((uint64_t)place + 1, 0, name, wanted, 0);
        a.account = place % 3 == 2 ? 2 : 1;
        a.subjects.count = 1 + (uint32_t)(number >> 20) % 2;
        bool is_there = directory_find(&d, a.account, a.name) != NULL;
        a.is_new = !is_there;
        if (is_there && (number >> 60) % 2 == 0)
            directory_drop(&d, a.stream);
        else if (directory_claim(&d, &a, &none) == DIRECTORY_GRANTED && (number >> 58) % 8 != 0)
            directory_settle(&d, a.stream, (number >> 50) % 8 != 0);
        if (i % 50 != 0 || i / 2000 == 1) continue; /* for a while nobody asks */
        for (size_t k = 0; k < sizeof filters / sizeof *filters; k++)
            expect_list(bytes_from_text(filters[k]));
    }
}
