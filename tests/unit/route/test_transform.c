#include <criterion/criterion.h>
#include "core/route/transform.h"
#include "tests/support/mem_heap.h"

/* What transforms do to subjects, and their refusals, is in test_mapping.c, against nats-server. */

static struct bytes text(const char *s)
{
    return bytes_from_text(s);
}

static struct transform *compile(struct mem_heap *h, const char *source, const char *destination,
                                 enum transform_use use)
{
    struct transform *t = NULL;
    if (transform_compile(&h->mem, text(source), text(destination), use, NULL, &t) != ERR_OK)
        return NULL;
    return t;
}

static void expect(struct mem_heap *h, struct transform *t, const char *subject, const char *result)
{
    char room[128];
    struct writer w;
    struct rng rng;
    rng_init(&rng, 1);
    writer_init(&w, room, sizeof room);
    cr_assert_eq(transform_match(t, text(subject)), ERR_OK);
    cr_assert_eq(transform_apply(t, text(subject), &rng, &w), ERR_OK);
    cr_assert(bytes_equal(writer_written(&w), text(result)), "%.*s", (int)w.len, room);
    (void)h;
}

Test(transform, no_source_means_all_and_no_destination_means_no_transform)
{
    struct mem_heap heap;
    struct transform *t = (struct transform *)&heap;
    mem_heap_init(&heap);
    cr_assert_eq(transform_compile(&heap.mem, text("a"), text(""), TRANSFORM_PLAIN, NULL, &t),
                 ERR_OK);
    cr_assert_null(t);
    t = compile(&heap, "", "x.>", TRANSFORM_PLAIN);
    cr_assert(bytes_equal(transform_source(t), text(">")));
    expect(&heap, t, "a.b", "x.a.b");
    transform_free(&heap.mem, t);
    t = compile(&heap, ">", ">", TRANSFORM_PLAIN);
    expect(&heap, t, "a..b", "a..b");
    transform_free(&heap.mem, t);
    cr_assert_eq(heap.live_count, 0);
}

Test(transform, only_literal_subjects_of_the_source_match)
{
    struct mem_heap heap;
    mem_heap_init(&heap);
    struct transform *t = compile(&heap, "a.*", "b.$1", TRANSFORM_PLAIN);
    cr_assert_eq(transform_match(t, text("a.x")), ERR_OK);
    cr_assert_eq(transform_match(t, text("a.x.y")), ERR_UNKNOWN);
    cr_assert_eq(transform_match(t, text("a.*")), ERR_INVALID);
    cr_assert_eq(transform_match(t, text("a.")), ERR_INVALID);
    transform_free(&heap.mem, t);
}

Test(transform, imports_take_only_wildcards_and_all_of_them)
{
    struct mem_heap heap;
    char room[256];
    struct writer why;
    struct transform *t;
    mem_heap_init(&heap);
    writer_init(&why, room, sizeof room);
    cr_assert_eq(transform_compile(&heap.mem, text("a.*.*"), text("b.$2"), TRANSFORM_IMPORT, &why,
                                   &t),
                 ERR_INVALID);
    cr_assert(bytes_equal(writer_written(&why),
                          text("invalid mapping destination: not using all of the token "
                               "wildcard(s) in b.$2")));
    writer_init(&why, room, sizeof room);
    cr_assert_eq(transform_compile(&heap.mem, text("a.*"), text("b.{{left(1,1)}}"),
                                   TRANSFORM_IMPORT, &why, &t),
                 ERR_INVALID);
    cr_assert(bytes_equal(writer_written(&why),
                          text("invalid mapping destination: the only mapping function allowed for "
                               "import transforms is {{Wildcard()}} in {{left(1,1)}}")));
    cr_assert_eq(heap.live_count, 0);
}

Test(transform, an_import_can_be_reversed)
{
    struct mem_heap heap;
    struct transform *t, *back;
    mem_heap_init(&heap);
    t = compile(&heap, "a.*.x.*", "b.$2.{{wildcard(1)}}", TRANSFORM_IMPORT);
    cr_assert_eq(transform_reverse(&heap.mem, t, &back), ERR_OK);
    expect(&heap, t, "a.1.x.2", "b.2.1");
    expect(&heap, back, "b.2.1", "a.1.x.2");
    transform_free(&heap.mem, back);
    transform_free(&heap.mem, t);
    t = compile(&heap, "a.*.>", "$1.b.>", TRANSFORM_IMPORT);
    cr_assert_eq(transform_reverse(&heap.mem, t, &back), ERR_OK);
    expect(&heap, back, "q.b.r.s", "a.q.r.s");
    transform_free(&heap.mem, back);
    transform_free(&heap.mem, t);
    t = compile(&heap, "a.*", "b.{{left(1,1)}}", TRANSFORM_PLAIN);
    cr_assert_eq(transform_reverse(&heap.mem, t, &back), ERR_INVALID);
    transform_free(&heap.mem, t);
    cr_assert_eq(heap.live_count, 0);
}

Test(transform, no_way_back_leads_through_text_that_a_destination_works_out)
{
    const char *sources[] = {"{{partition(0,1)}}.a", "$1.*"};
    const char *destinations[] = {"b", "x.$1"};
    struct mem_heap heap;
    struct transform *t, *back;
    mem_heap_init(&heap);
    for (int i = 0; i < 2; i++) {
        t = compile(&heap, sources[i], destinations[i], TRANSFORM_IMPORT);
        cr_assert_eq(transform_reverse(&heap.mem, t, &back), ERR_INVALID, "%s", sources[i]);
        transform_free(&heap.mem, t);
    }
    cr_assert_eq(heap.live_count, 0);
}

Test(transform, markers_leave_subjects_as_they_are)
{
    char room[64];
    struct writer w;
    writer_init(&w, room, sizeof room);
    transform_write_markers(text("a.*.b.*.>"), &w);
    cr_assert(bytes_equal(writer_written(&w), text("a.$1.b.$2.>")));
}
