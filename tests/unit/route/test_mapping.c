#include <criterion/criterion.h>
#include "core/route/mapping.h"
#include "tests/support/mem_heap.h"

static struct bytes text(const char *s)
{
    return bytes_from_text(s);
}

/* What nats-server 2.15.2 does with these mappings, taken from the running server. */
static const struct {
    const char *source, *destination, *subject, *mapped;
} VECTORS[] = {
    {"v0.*.*", "r0.$2.$1", "v0.a.b", "r0.b.a"},
    {"v1.*.*", "r1.{{wildcard(2)}}.x.{{Wildcard( 1 )}}", "v1.a.b", "r1.b.x.a"},
    {"v2.*.*", "r2.$1", "v2.a.b", "r2.a"},
    {"v3.*", "r3.$0", "v3.a", "r3.v3"},
    {"v4.*", "r4.$-1", "v4.a", "r4.v4"},
    {"v5.*", "r5.{{wildcard(0)}}", "v5.a", "r5.v5"},
    {"v6.*", "r6.$x.$1", "v6.a", "r6.$x.a"},
    {"v7.*", "r7.{{partition(10,1)}}", "v7.foo", "r7.3"},
    {"v8.*.*", "r8.{{partition(10,1,2)}}", "v8.foo.bar", "r8.0"},
    {"v9.*.*", "r9.{{partition(7, 2)}}", "v9.foo.bar", "r9.2"},
    {"v10.*.*", "r10.{{partition(5)}}", "v10.foo.bar", "r10.1"},
    {"v11.*", "r11.{{partition(0,1)}}", "v11.foo", "r11.0"},
    {"v12.*", "r12.{{partition(-3,1)}}", "v12.foo", "r12.2851307223"},
    {"v13.>", "r13.{{partition(3)}}.>", "v13.a.b.c", "r13.0.a.b.c"},
    {"v14.>", "r14.x.>", "v14.a.b.c", "r14.x.a.b.c"},
    {"v15.*.>", "r15.$1.y.>", "v15.a.b.c", "r15.a.y.b.c"},
    {"v16.a.>", "r16.>", "v16.a.b.c", "r16.b.c"},
    {"v17.*", "r17.{{splitfromleft(1,3)}}", "v17.12345", "r17.123.45"},
    {"v18.*", "r18.{{SplitFromLeft(1,3)}}", "v18.123", "r18.123"},
    {"v19.*", "r19.{{splitFromLeft(1,9)}}", "v19.123", "r19.123"},
    {"v20.*", "r20.{{splitfromleft(1,-1)}}", "v20.123", "r20.123"},
    {"v21.*", "r21.{{splitfromright(1,3)}}", "v21.12345", "r21.12.345"},
    {"v22.*", "r22.{{splitfromright(1,5)}}", "v22.12345", "r22.12345"},
    {"v23.*", "r23.{{slicefromleft(1,3)}}", "v23.1234567890", "r23.123.456.789.0"},
    {"v24.*", "r24.{{slicefromleft(1,5)}}", "v24.1234567890", "r24.12345.67890"},
    {"v25.*", "r25.{{slicefromleft(1,2)}}", "v25.12345", "r25.12.34.5"},
    {"v26.*", "r26.{{slicefromleft(1,10)}}", "v26.12345", "r26.12345"},
    {"v27.*", "r27.{{slicefromleft(1,0)}}", "v27.12345", "r27.12345"},
    {"v28.*", "r28.{{slicefromright(1,3)}}", "v28.1234567890", "r28.1.234.567.890"},
    {"v29.*", "r29.{{SliceFromRight(1,2)}}", "v29.12345", "r29.1.23.45"},
    {"v30.*", "r30.{{slicefromright(1,5)}}", "v30.1234567890", "r30.12345.67890"},
    {"v31.*", "r31.{{split(1,-)}}", "v31.a-b-c", "r31.a.b.c"},
    {"v32.*", "r32.{{split(1,-)}}", "v32.-a--b-", "r32.a.b"},
    {"v33.*", "r33.{{split(1,-)}}", "v33.--a", "r33..a"},
    {"v34.*", "r34.{{split(1,ab)}}", "v34.xabyabz", "r34.x.y.z"},
    {"v35.*", "r35.{{split(1,)}}", "v35.abc", "r35.a.b.c"},
    {"v36.*", "r36.{{split(1,)}}", "v36.a\xc3""\xa9""z", "r36.a.\xc3""\xa9"".z"},
    {"v37.*", "r37.{{split(1,-)}}", "v37.abc", "r37.abc"},
    {"v38.*", "r38.{{split(1,-)}}.x", "v38.a-", "r38.a.x"},
    {"v39.*", "r39.{{left(1,2)}}", "v39.abcd", "r39.ab"},
    {"v40.*", "r40.{{Left(1,9)}}", "v40.abcd", "r40.abcd"},
    {"v41.*", "r41.{{left(1,-2)}}", "v41.abcd", "r41.abcd"},
    {"v42.*", "r42.{{right(1,3)}}", "v42.abcd", "r42.bcd"},
    {"v43.*", "r43.{{right(1,4)}}", "v43.abcd", "r43.abcd"},
    {"v44.*", "r44.{{random(1)}}", "v44.a", "r44.0"},
    {"v45.*", "r45.{{random(0)}}", "v45.a", "r45.0"},
    {"v46.*", "r46.{{random(-1)}}", "v46.a", "r46.0"},
    {"v47.*.*.*", "r47.{{wildcard(3)}}-x.$1", "v47.a.b.c", "r47.{{wildcard(3)}}-x.a"},
    {"v48.*", "r48.{{ wildcard ( 1 ) }}", "v48.q", "r48.q"},
    {"v49.*", "r49.{{x{{wildcard(1)}}", "v49.q", "r49.q"},
    {"v50.lit", "r50.to.{{partition(10)}}", "v50.lit", "r50.to.3"},
    {"v51.lit", "r51.to.{{partition(100,1,2)}}", "v51.lit", "r51.to.36"},
    {"v52.lit", "r52.to", "v52.lit", "r52.to"},
    {"v53.*.b.*", "r53.{{wildcard(2)}}", "v53.a.b.c", "r53.c"},
    {"v54.*", "r54.{{splitfromleft(1,2)}}.{{right(1,1)}}.$1", "v54.abc", "r54.ab.c.c.abc"},
};

/* Its refusals; NULL: it takes the mapping. */
static const struct {
    const char *source, *destination, *why;
} REFUSALS[] = {
    {"a.*", "b.$2", "invalid mapping destination: wildcard index out of range in $2: [2]"},
    {"a.*", "b.{{wildcard(2)}}",
     "invalid mapping destination: wildcard index out of range in {{wildcard(2)}}: [2]"},
    {"a.*", "b.{{wildcard()}}",
     "invalid mapping destination: not enough arguments passed to the function in {{wildcard()}}"},
    {"a.*", "b.{{wildcard(1,2)}}",
     "invalid mapping destination: too many arguments passed to the function in {{wildcard(1,2)}}"},
    {"a.*", "b.{{wildcard(x)}}",
     "invalid mapping destination: function argument is invalid or in the wrong format"
     " in {{wildcard(x)}}"},
    {"a.*", "b.{{unknown(1)}}", "invalid mapping destination: unknown function in {{unknown(1)}}"},
    {"a.*", "b.{{partition()}}",
     "invalid mapping destination: function argument is invalid or in the wrong format"
     " in {{partition()}}"},
    {"a.*", "b.{{partition(x)}}",
     "invalid mapping destination: function argument is invalid or in the wrong format"
     " in {{partition(x)}}"},
    {"a.*", "b.{{partition(9999999999)}}",
     "invalid mapping destination: function argument is invalid or in the wrong format"
     " in {{partition(9999999999)}}"},
    {"a.*", "b.{{partition(10,5)}}",
     "invalid mapping destination: wildcard index out of range in {{partition(10,5)}}: [5]"},
    {"a.*", "b.{{partition(10,y)}}",
     "invalid mapping destination: function argument is invalid or in the wrong format"
     " in {{partition(10,y)}}"},
    {"a.*", "b.{{partition(10,5,y)}}",
     "invalid mapping destination: function argument is invalid or in the wrong format"
     " in {{partition(10,5,y)}}"},
    {"a.*", "b.{{split(1)}}",
     "invalid mapping destination: not enough arguments passed to the function in {{split(1)}}"},
    {"a.*", "b.{{split(1,a,b)}}",
     "invalid mapping destination: too many arguments passed to the function in {{split(1,a,b)}}"},
    {"a.*", "b.{{split(x,-)}}",
     "invalid mapping destination: function argument is invalid or in the wrong format"
     " in {{split(x,-)}}"},
    {"a.*", "b.{{split(1, -)}}", NULL},
    {"a.*", "b.{{split(1,- )}}",
     "invalid mapping destination: function argument is invalid or in the wrong format"
     " in {{split(1,- )}}"},
    {"a.*", "b.{{split(2,-)}}",
     "invalid mapping destination: wildcard index out of range in {{split(2,-)}}: [2]"},
    {"a.*", "b.{{left(1)}}",
     "invalid mapping destination: not enough arguments passed to the function in {{left(1)}}"},
    {"a.*", "b.{{left(1,2,3)}}",
     "invalid mapping destination: too many arguments passed to the function in {{left(1,2,3)}}"},
    {"a.*", "b.{{left(1,y)}}",
     "invalid mapping destination: function argument is invalid or in the wrong format"
     " in {{left(1,y)}}"},
    {"a.*", "b.{{left(1,99999999999)}}",
     "invalid mapping destination: function argument is invalid or in the wrong format"
     " in {{left(1,99999999999)}}"},
    {"a.*", "b.{{random()}}",
     "invalid mapping destination: function argument is invalid or in the wrong format"
     " in {{random()}}"},
    {"a.*", "b.{{random(1,2)}}",
     "invalid mapping destination: not enough arguments passed to the function in {{random(1,2)}}"},
    {"a.*", "b.{{random(9999999999)}}",
     "invalid mapping destination: function argument is invalid or in the wrong format"
     " in {{random(9999999999)}}"},
    {"a.b", "c.$1", "invalid mapping destination: wildcard index out of range in $1"},
    {"a.b", "c.{{wildcard(1)}}",
     "invalid mapping destination: wildcard index out of range in {{wildcard(1)}}"},
    {"a.b", "c.{{left(1,2)}}",
     "invalid mapping destination: wildcard index out of range in {{left(1,2)}}"},
    {"a.b", "c.{{left(1)}}",
     "invalid mapping destination: not enough arguments passed to the function in {{left(1)}}"},
    {"a.*", "b.*", "invalid subject"},
    {"a.*", "b..c", "invalid mapping destination: invalid transform"},
    {"a.*", "b.c.", "invalid mapping destination: invalid transform"},
    {"a.>", "b", "invalid subject"},
    {"a", "b.>", "invalid subject"},
    {"a.>", "b.>.c", "invalid mapping destination: invalid transform in c"},
    {"a.*", "b. c", "invalid mapping destination: invalid transform"},
    {"a.*", "b c.$1", "invalid mapping destination: invalid transform"},
    {"a.*", "b.{{foo}}", "invalid mapping destination: unknown function in {{foo}}"},
    {"a.*", "b.{{}}", NULL},
    {"a.*", "b.{{ }}", "invalid mapping destination: unknown function in {{ }}"},
    {"a..b", "c", "invalid subject"},
    {"a b", "c", "invalid subject"},
    {"a.>.b", "c", "invalid subject"},
    {"a.*", "b.{{wildcard(1))}}",
     "invalid mapping destination: function argument is invalid or in the wrong format"
     " in {{wildcard(1))}}"},
    {"a.*", "b.{{wildcard(1}}", "invalid mapping destination: unknown function in {{wildcard(1}}"},
    {"a.*", "b.{{wildcard(99999999999999999999)}}",
     "invalid mapping destination: function argument is invalid or in the wrong format"
     " in {{wildcard(99999999999999999999)}}"},
};

enum {
    VECTOR_COUNT = sizeof VECTORS / sizeof *VECTORS,
    REFUSAL_COUNT = sizeof REFUSALS / sizeof *REFUSALS,
};

Test(mapping, subjects_become_what_nats_server_makes_of_them)
{
    struct mem_heap heap;
    struct mapping_set *set;
    struct rng rng;
    char room[256];
    struct bytes out;
    mem_heap_init(&heap);
    rng_init(&rng, 1);
    cr_assert_eq(mapping_set_open(&heap.mem, text(""), &set), ERR_OK);
    for (int i = 0; i < VECTOR_COUNT; i++) {
        struct mapping_destination d = {.subject = text(VECTORS[i].destination), .weight = 100};
        cr_assert_eq(mapping_set_add(set, text(VECTORS[i].source), &d, 1, NULL), ERR_OK, "%s",
                     VECTORS[i].destination);
    }
    for (int i = 0; i < VECTOR_COUNT; i++) {
        cr_assert_eq(
            mapping_set_apply(set, text(VECTORS[i].subject), &rng, room, sizeof room, &out),
            MAPPING_MAPPED);
        cr_assert(bytes_equal(out, text(VECTORS[i].mapped)), "%s %s: %.*s, not %s",
                  VECTORS[i].destination, VECTORS[i].subject, (int)out.len, out.data,
                  VECTORS[i].mapped);
    }
    mapping_set_free(&heap.mem, set);
    cr_assert_eq(heap.live_count, 0);
}

Test(mapping, refusals_have_the_texts_of_nats_server)
{
    struct mem_heap heap;
    struct mapping_set *set;
    char room[512];
    struct writer why;
    mem_heap_init(&heap);
    cr_assert_eq(mapping_set_open(&heap.mem, text("C"), &set), ERR_OK);
    for (int i = 0; i < REFUSAL_COUNT; i++) {
        struct mapping_destination d = {.subject = text(REFUSALS[i].destination), .weight = 100};
        writer_init(&why, room, sizeof room);
        enum err e = mapping_set_add(set, text(REFUSALS[i].source), &d, 1, &why);
        const char *expected = REFUSALS[i].why == NULL ? "" : REFUSALS[i].why;
        cr_assert_eq(e, REFUSALS[i].why == NULL ? ERR_OK : ERR_INVALID, "%s %s",
                     REFUSALS[i].source, REFUSALS[i].destination);
        cr_assert(bytes_equal(writer_written(&why), text(expected)), "%s %s: %.*s",
                  REFUSALS[i].source, REFUSALS[i].destination, (int)why.len, room);
    }
    mapping_set_free(&heap.mem, set);
    cr_assert_eq(heap.live_count, 0);
}

static enum mapping_result apply(struct mapping_set *set, const char *subject, struct rng *rng,
                                 char *room, size_t size)
{
    struct bytes out;
    enum mapping_result r = mapping_set_apply(set, text(subject), rng, room, size - 1, &out);
    room[r == MAPPING_MAPPED ? out.len : 0] = 0;
    return r;
}

struct world {
    struct mem_heap heap;
    struct mapping_set *set;
    struct rng rng;
    char room[128];
};

static void open_world(struct world *w, const char *cluster)
{
    mem_heap_init(&w->heap);
    rng_init(&w->rng, 3);
    cr_assert_eq(mapping_set_open(&w->heap.mem, text(cluster), &w->set), ERR_OK);
}

static void close_world(struct world *w)
{
    mapping_set_free(&w->heap.mem, w->set);
    cr_assert_eq(w->heap.live_count, 0);
}

static enum err add(struct world *w, const char *source, const struct mapping_destination *d,
                    uint32_t count, struct writer *why)
{
    return mapping_set_add(w->set, text(source), d, count, why);
}

Test(mapping, the_first_entry_that_matches_wins_and_a_source_given_again_is_replaced)
{
    struct world w;
    open_world(&w, "");
    struct mapping_destination x = {text("x"), 100, text("")}, y = {text("y"), 100, text("")},
                               z = {text("z"), 100, text("")};
    cr_assert_eq(add(&w, "a.*", &x, 1, NULL), ERR_OK);
    cr_assert_eq(add(&w, "a.b", &y, 1, NULL), ERR_OK);
    cr_assert_eq(apply(w.set, "a.b", &w.rng, w.room, sizeof w.room), MAPPING_MAPPED);
    cr_assert_str_eq(w.room, "x");
    cr_assert_eq(apply(w.set, "a", &w.rng, w.room, sizeof w.room), MAPPING_UNCHANGED);
    cr_assert_eq(apply(w.set, "a.", &w.rng, w.room, sizeof w.room), MAPPING_UNCHANGED);
    cr_assert_eq(add(&w, "a.*", &z, 1, NULL), ERR_OK);
    cr_assert_eq(mapping_set_count(w.set), 2);
    cr_assert_eq(apply(w.set, "a.b", &w.rng, w.room, sizeof w.room), MAPPING_MAPPED);
    cr_assert_str_eq(w.room, "z");
    close_world(&w);
}

Test(mapping, weights_share_and_the_rest_stays_or_is_lost)
{
    struct world w;
    enum { ROUNDS = 20000 };
    uint32_t b = 0, c = 0, same = 0, lost = 0;
    open_world(&w, "");
    struct mapping_destination d[] = {{text("b.$1"), 20, text("")}, {text("c.$1"), 50, text("")}};
    cr_assert_eq(add(&w, "a.*", d, 2, NULL), ERR_OK);
    for (int i = 0; i < ROUNDS; i++) {
        cr_assert_eq(apply(w.set, "a.x", &w.rng, w.room, sizeof w.room), MAPPING_MAPPED);
        b += strcmp(w.room, "b.x") == 0;
        c += strcmp(w.room, "c.x") == 0;
        same += strcmp(w.room, "a.x") == 0;
    }
    cr_assert_eq(b + c + same, ROUNDS);
    cr_assert(b > ROUNDS * 18 / 100 && b < ROUNDS * 22 / 100);
    cr_assert(c > ROUNDS * 48 / 100 && c < ROUNDS * 52 / 100);
    struct mapping_destination loss = {text("l"), 40, text("")};
    cr_assert_eq(add(&w, "l", &loss, 1, NULL), ERR_OK);
    for (int i = 0; i < ROUNDS; i++)
        lost += apply(w.set, "l", &w.rng, w.room, sizeof w.room) == MAPPING_DROPPED;
    cr_assert(lost > ROUNDS * 58 / 100 && lost < ROUNDS * 62 / 100);
    close_world(&w);
}

Test(mapping, destinations_of_our_cluster_take_the_place_of_the_common_ones)
{
    struct world w;
    struct mapping_destination d[] = {{text("common"), 100, text("")},
                                      {text("ours"), 100, text("us")},
                                      {text("theirs"), 100, text("them")}};
    const char *expected[] = {"ours", "common"}, *cluster[] = {"us", "elsewhere"};
    for (int i = 0; i < 2; i++) {
        open_world(&w, cluster[i]);
        cr_assert_eq(add(&w, "s", d, 3, NULL), ERR_OK);
        cr_assert_eq(apply(w.set, "s", &w.rng, w.room, sizeof w.room), MAPPING_MAPPED);
        cr_assert_str_eq(w.room, expected[i]);
        cr_assert_eq(add(&w, "t", &d[2], 1, NULL), ERR_OK);
        cr_assert_eq(apply(w.set, "t", &w.rng, w.room, sizeof w.room), MAPPING_MAPPED);
        cr_assert_str_eq(w.room, "t", "destinations of other clusters leave the subject alone");
        close_world(&w);
    }
}

Test(mapping, weights_and_duplicates_are_refused_and_change_nothing)
{
    struct world w;
    char room[256];
    struct writer why;
    open_world(&w, "");
    struct mapping_destination heavy = {text("b"), 101, text("")},
                               sum[] = {{text("b"), 60, text("")}, {text("c"), 60, text("")}},
                               apart[] = {{text("b"), 60, text("")}, {text("c"), 60, text("x")}},
                               twice[] = {{text("b"), 10, text("")}, {text("b"), 10, text("x")}},
                               empty = {text(""), 100, text("")};
    struct {
        struct mapping_destination *d;
        uint32_t count;
        const char *why;
    } cases[] = {{&heavy, 1, "individual weights need to be <= 100"},
                 {sum, 2, "total weight needs to be <= 100"},
                 {twice, 2, "duplicate entry for \"b\""},
                 {&empty, 1, "invalid subject"}};
    for (int i = 0; i < 4; i++) {
        writer_init(&why, room, sizeof room);
        cr_assert_eq(add(&w, "a", cases[i].d, cases[i].count, &why), ERR_INVALID);
        cr_assert(bytes_equal(writer_written(&why), text(cases[i].why)));
    }
    cr_assert_eq(mapping_set_count(w.set), 0);
    cr_assert_eq(add(&w, "a", apart, 2, NULL), ERR_OK);
    close_world(&w);
}

Test(mapping, what_does_not_fit_the_room_is_dropped)
{
    struct world w;
    open_world(&w, "");
    struct mapping_destination d = {text("long.$1.$1"), 100, text("")};
    cr_assert_eq(add(&w, "a.*", &d, 1, NULL), ERR_OK);
    cr_assert_eq(apply(w.set, "a.xyz", &w.rng, w.room, 13), MAPPING_MAPPED);
    cr_assert_eq(apply(w.set, "a.xyz", &w.rng, w.room, 12), MAPPING_DROPPED);
    close_world(&w);
}

/* Seen on the running server: {{partition(10)}} of the only, literal mapping gives 1 for any
 * subject, the bucket of the empty key. */
Test(mapping, the_partition_of_a_literal_first_entry_is_that_of_the_empty_key)
{
    struct world w;
    open_world(&w, "");
    struct mapping_destination d = {text("lit.{{partition(10)}}"), 100, text("")};
    cr_assert_eq(add(&w, "lit", &d, 1, NULL), ERR_OK);
    cr_assert_eq(apply(w.set, "lit", &w.rng, w.room, sizeof w.room), MAPPING_MAPPED);
    cr_assert_str_eq(w.room, "lit.1");
    close_world(&w);
}

Test(mapping, a_failed_allocation_leaves_the_set_as_it_was)
{
    struct world w;
    open_world(&w, "");
    struct mapping_destination d[] = {{text("b.$1"), 20, text("")}, {text("c.$1"), 50, text("")}};
    cr_assert_eq(add(&w, "z.*", d, 2, NULL), ERR_OK);
    for (uint64_t n = 1;; n++) {
        w.heap.fail_at = w.heap.alloc_count + n;
        enum err e = add(&w, "a.*", d, 2, NULL);
        if (e == ERR_OK) break;
        cr_assert_eq(e, ERR_MEMORY);
        cr_assert_eq(mapping_set_count(w.set), 1);
        cr_assert_lt(n, 30);
    }
    cr_assert_eq(mapping_set_count(w.set), 2);
    close_world(&w);
}
