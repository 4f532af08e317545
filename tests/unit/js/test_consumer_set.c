#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include "core/base/must.h"
#include "core/js/consumer_set.h"
#include "tests/support/mem_heap.h"

static struct mem_heap heap;
static struct arena arena;
static struct msgs msgs;
static struct subject_index subjects;
static struct consumer_feed feed;
static uint64_t first_seq, last_seq;
static struct consumer_set set;
static struct consumer_set_bounds bounds;
static struct rng rng;
static const struct shard_time now = {.mono_ns = 1, .wall_ns = 1};

static void setup(void)
{
    mem_heap_init(&heap);
    arena_init(&arena, &heap.mem, MEM_JETSTREAM);
    msgs_init(&msgs, &heap.mem);
    subject_index_init(&subjects, &heap.mem, 0);
    rng_init(&rng, 1);
    first_seq = last_seq = 0;
    feed = (struct consumer_feed){.msgs = &msgs,
                                  .subjects = &subjects,
                                  .first_seq = &first_seq,
                                  .last_seq = &last_seq,
                                  .name = BYTES_LITERAL("S")};
    bounds = (struct consumer_set_bounds){.rules = {.replicas = 1}};
    consumer_set_init(&set, &heap.mem, &feed);
}

static void teardown(void)
{
    consumer_set_deinit(&set);
    arena_deinit(&arena);
    must(heap.live_count == 0);
}

TestSuite(consumer_set, .init = setup, .fini = teardown);

/* The error code of a create, 0 when it was done; an update leaves the count as it is. */
static uint32_t create(const char *name, const char *filter, enum consumer_action action)
{
    struct consumer_request r = {.config = {.name = bytes_from_text(name),
                                            .durable_name = bytes_from_text(name),
                                            .ack_policy = CONSUMER_ACK_EXPLICIT,
                                            .filter_subject = bytes_from_text(filter)},
                                 .action = action};
    struct consumer *c;
    struct jsapi_error error;
    if (!consumer_set_check(&set, &arena, &bounds, &r, &rng, &c, &error))
        return jsapi_error_err_code(error.id);
    if (c != NULL)
        cr_assert_eq(consumer_update(c, &r.config, now, NULL), ERR_OK);
    else
        cr_assert_eq(consumer_set_add(&set, &r.config, 0, 1, now, &c), ERR_OK);
    return 0;
}

Test(consumer_set, many_are_asked_by_their_filters_as_they_are_now)
{
    char name[32], filter[32];
    feed.changes = &set.changes;
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "c%d", i);
        snprintf(filter, sizeof filter, i % 2 == 0 ? "a.%d" : "b.*.%d", i);
        cr_assert_eq(create(name, filter, CONSUMER_ACTION_ANY), 0);
    }
    cr_assert(consumer_set_matches(&set, BYTES_LITERAL("a.98")));
    cr_assert(set.wanted != NULL);
    cr_assert_not(consumer_set_matches(&set, BYTES_LITERAL("a.99")));
    cr_assert(consumer_set_matches(&set, BYTES_LITERAL("b.x.99")));
    cr_assert_not(consumer_set_matches(&set, BYTES_LITERAL("b.x.98")));
    cr_assert_not(consumer_set_matches(&set, BYTES_LITERAL("a.*")),
                  "a message's subject is literal");
    cr_assert_eq(create("c98", "z.>", CONSUMER_ACTION_ANY), 0);
    cr_assert_not(consumer_set_matches(&set, BYTES_LITERAL("a.98")));
    cr_assert(consumer_set_matches(&set, BYTES_LITERAL("z.1.2")));
    struct consumer *c98 = consumer_set_find(&set, BYTES_LITERAL("c98"));
    consumer_set_end(&set, c98, true);
    cr_assert_not(consumer_set_matches(&set, BYTES_LITERAL("z.1.2")));
    consumer_set_end(&set, c98, false);
    cr_assert(consumer_set_matches(&set, BYTES_LITERAL("z.1.2")));
    consumer_set_drop(&set, consumer_set_find(&set, BYTES_LITERAL("c98")));
    cr_assert_not(consumer_set_matches(&set, BYTES_LITERAL("z.1.2")));
    cr_assert_eq(create("all", "", CONSUMER_ACTION_ANY), 0);
    cr_assert(consumer_set_matches(&set, BYTES_LITERAL("z.1.2")));
}

Test(consumer_set, actions_say_whether_it_may_exist)
{
    cr_assert_eq(create("a", "", CONSUMER_ACTION_UPDATE), 10149);
    cr_assert_eq(create("a", "", CONSUMER_ACTION_CREATE), 0);
    cr_assert_eq(create("a", "", CONSUMER_ACTION_CREATE), 0); /* the very same */
    cr_assert_eq(create("a", "x", CONSUMER_ACTION_CREATE), 10148);
    cr_assert_eq(create("a", "x", CONSUMER_ACTION_ANY), 0);
    cr_assert_eq(consumer_set_count(&set), 1);
    cr_assert(consumer_set_matches(&set, BYTES_LITERAL("x")));
    cr_assert(!consumer_set_matches(&set, BYTES_LITERAL("y")));
}

Test(consumer_set, a_work_queue_is_divided_between_its_consumers)
{
    bounds.rules.is_workqueue = true;
    cr_assert_eq(create("a", "x.*", CONSUMER_ACTION_ANY), 0);
    cr_assert_eq(create("b", "", CONSUMER_ACTION_ANY), 10099);
    cr_assert_eq(create("b", "x.y", CONSUMER_ACTION_ANY), 10100);
    cr_assert_eq(create("b", "z", CONSUMER_ACTION_ANY), 0);
    cr_assert_eq(create("b", "*.y", CONSUMER_ACTION_ANY), 10100);
}

Test(consumer_set, their_number_is_bounded)
{
    bounds.max_consumers_default = 2;
    cr_assert_eq(create("a", "", CONSUMER_ACTION_ANY), 0);
    cr_assert_eq(create("b", "", CONSUMER_ACTION_ANY), 0);
    cr_assert_eq(create("c", "", CONSUMER_ACTION_ANY), 10026);
    cr_assert_eq(create("b", "x", CONSUMER_ACTION_ANY), 0);
    bounds.max_consumers = 3;
    cr_assert_eq(create("c", "", CONSUMER_ACTION_ANY), 0);
}

Test(consumer_set, one_without_a_name_gets_one)
{
    cr_assert_eq(create("", "", CONSUMER_ACTION_ANY), 0);
    uint32_t at = 0;
    struct consumer *c = consumer_set_each(&set, &at);
    cr_assert_eq(c->name.len, 8);
    cr_assert_eq(consumer_set_find(&set, c->name), c);
    cr_assert_eq(consumer_set_find_number(&set, 1), c);
    consumer_set_drop(&set, c);
    cr_assert_eq(consumer_set_count(&set), 0);
    cr_assert_eq(create("a", "", CONSUMER_ACTION_ANY), 0);
    cr_assert_eq(consumer_set_find(&set, BYTES_LITERAL("a"))->number, 2); /* never used again */
}
