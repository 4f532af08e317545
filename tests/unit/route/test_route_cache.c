#include <criterion/criterion.h>
#include <stdio.h>
#include "core/route/route_cache.h"
#include "tests/support/mem_heap.h"

struct world {
    struct mem_heap heap;
    struct interest *x;
    struct interest_account *a;
    struct sub_pool *subs;
    struct route_cache *cache;
};

static void open_world(struct world *w, uint32_t entries_max, uint64_t bytes_max)
{
    mem_heap_init(&w->heap);
    cr_assert_eq(interest_open(&w->heap.mem, 1, 7, &w->x), ERR_OK);
    cr_assert_eq(sub_pool_open(&w->heap.mem, &w->subs), ERR_OK);
    interest_attach(w->x, 0, w->subs);
    interest_online(w->x, 0);
    cr_assert_eq(interest_account_of(w->x, 0, &w->a), ERR_OK);
    cr_assert_eq(route_cache_open(&w->heap.mem, w->x, 0, entries_max, bytes_max, &w->cache),
                 ERR_OK);
}

static void close_world(struct world *w)
{
    route_cache_close(w->cache);
    interest_offline(w->x, 0);
    interest_close(w->x);
    sub_pool_close(w->subs);
    cr_assert_eq(w->heap.live_count, 0);
}

static uint32_t add(struct world *w, const char *filter)
{
    uint32_t sub;
    cr_assert_eq(sub_acquire(w->subs, NULL, BYTES_LITERAL("1"), &sub), ERR_OK);
    cr_assert_eq(interest_insert(w->x, w->a, 0, bytes_from_text(filter), bytes_of(NULL, 0), sub),
                 ERR_OK);
    return sub;
}

static void drop(struct world *w, uint32_t sub)
{
    cr_assert_eq(interest_remove(w->x, w->a, 0, sub), ERR_OK);
    sub_release(w->subs, sub);
}

static uint32_t find(struct world *w, const char *subject)
{
    const struct route *r = NULL;
    cr_assert_eq(route_cache_find(w->cache, 0, w->a, bytes_from_text(subject), &r), ERR_OK);
    return r->plain_count;
}

Test(route_cache, a_route_enters_at_its_second_miss)
{
    struct world w;
    struct route_cache_counts n;
    open_world(&w, 1024, 1 << 20);
    uint32_t s = add(&w, "a.*"), t = add(&w, "a.z");
    for (int i = 0; i < 5; i++) cr_assert_eq(find(&w, "a.b"), 1);
    route_cache_count(w.cache, &n);
    cr_assert_eq(n.misses, 2);
    cr_assert_eq(n.hits, 3);
    cr_assert_eq(n.entries, 1);
    cr_assert_eq(find(&w, "a.c"), 1);
    route_cache_count(w.cache, &n);
    cr_assert_eq(n.entries, 1, "a subject seen once is not kept");
    drop(&w, s);
    drop(&w, t);
    close_world(&w);
}

Test(route_cache, more_subjects_in_rotation_than_it_remembers_misses_of_all_get_in)
{
    enum { SUBJECTS = 50000, ROUNDS = 40 };
    struct world w;
    struct route_cache_counts before, n;
    open_world(&w, 131072, 64 << 20);
    uint32_t s = add(&w, "a.>"), t = add(&w, "a.subject.x");
    for (int round = 0; round <= ROUNDS; round++) {
        route_cache_count(w.cache, &before);
        for (int i = 0; i < SUBJECTS; i++) {
            char subject[32];
            snprintf(subject, sizeof subject, "a.subject.%d", i);
            cr_assert_eq(find(&w, subject), 1);
        }
    }
    route_cache_count(w.cache, &n);
    cr_assert_gt(n.hits - before.hits, SUBJECTS * 98 / 100, "%lu hits in the last round",
                 n.hits - before.hits);
    drop(&w, s);
    drop(&w, t);
    close_world(&w);
}

Test(route_cache, a_change_makes_routes_of_its_first_token_stale_and_no_others)
{
    struct world w;
    struct route_cache_counts before, after;
    open_world(&w, 1024, 1 << 20);
    uint32_t s = add(&w, "a.b");
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(find(&w, "a.b"), 1);
        cr_assert_eq(find(&w, "zz"), 0);
    }
    uint32_t t = add(&w, "a.>");
    route_cache_count(w.cache, &before);
    cr_assert_eq(find(&w, "a.b"), 2);
    cr_assert_eq(find(&w, "zz"), 0);
    route_cache_count(w.cache, &after);
    cr_assert_eq(after.stale, before.stale + 1);
    cr_assert_eq(after.hits, before.hits + 1);
    drop(&w, s);
    cr_assert_eq(find(&w, "a.b"), 1);
    drop(&w, t);
    cr_assert_eq(find(&w, "a.b"), 0);
    close_world(&w);
}

Test(route_cache, long_subjects_and_equal_ones_of_two_accounts_are_told_apart)
{
    struct world w;
    struct interest_account *other;
    const struct route *r;
    struct bytes subject = BYTES_LITERAL("a.subject.that.is.longer.than.one.line.of.the.table");
    open_world(&w, 1024, 1 << 20);
    cr_assert_eq(interest_account_of(w.x, 5, &other), ERR_OK);
    uint32_t s = add(&w, "a.>");
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(route_cache_find(w.cache, 0, w.a, subject, &r), ERR_OK);
        cr_assert_eq(r->plain_count, 1);
        cr_assert_eq(route_cache_find(w.cache, 5, other, subject, &r), ERR_OK);
        cr_assert_eq(r->plain_count, 0);
    }
    drop(&w, s);
    close_world(&w);
}

Test(route_cache, it_grows_to_its_bound_and_then_evicts)
{
    struct world w;
    struct route_cache_counts n;
    char text[32];
    open_world(&w, 2048, 64 << 20);
    uint32_t s = add(&w, ">"), t = add(&w, "s.x");
    for (int i = 0; i < 10000; i++) {
        snprintf(text, sizeof text, "s.%d", i);
        for (int k = 0; k < 3; k++) cr_assert_eq(find(&w, text), 1);
    }
    route_cache_count(w.cache, &n);
    cr_assert_gt(n.entries, 1700);
    cr_assert_leq(n.entries, 2048);
    cr_assert_gt(n.evictions, 7000);
    drop(&w, s);
    drop(&w, t);
    close_world(&w);
}

Test(route_cache, bytes_are_bounded_and_can_be_given_back)
{
    struct world w;
    struct route_cache_counts n;
    char text[32];
    uint32_t subs[100];
    open_world(&w, 1024, 64 << 10);
    uint32_t t = add(&w, "s.x");
    for (int i = 0; i < 100; i++) subs[i] = add(&w, ">"); /* some 850 bytes a route */
    for (int i = 0; i < 500; i++) {
        snprintf(text, sizeof text, "s.%d", i);
        for (int k = 0; k < 3; k++) cr_assert_eq(find(&w, text), 100);
        route_cache_count(w.cache, &n);
        cr_assert_leq(n.bytes, 64 << 10);
    }
    cr_assert_gt(n.entries, 60);
    uint64_t freed = route_cache_shrink(w.cache, 10000);
    cr_assert(freed >= 10000 && freed < 12000);
    cr_assert_eq(route_cache_shrink(w.cache, UINT64_MAX), n.bytes - freed);
    route_cache_count(w.cache, &n);
    cr_assert_eq(n.entries, 0);
    cr_assert_eq(n.bytes, 0);
    for (int i = 0; i < 100; i++) drop(&w, subs[i]);
    drop(&w, t);
    close_world(&w);
}

Test(route_cache, a_route_too_large_to_keep_is_resolved_each_time)
{
    struct world w;
    struct route_cache_counts n;
    uint32_t subs[100];
    open_world(&w, 1024, 2000);
    for (int i = 0; i < 100; i++) subs[i] = add(&w, ">");
    for (int k = 0; k < 5; k++) cr_assert_eq(find(&w, "x"), 100);
    route_cache_count(w.cache, &n);
    cr_assert_eq(n.entries, 0);
    cr_assert_eq(n.misses, 5);
    for (int i = 0; i < 100; i++) drop(&w, subs[i]);
    close_world(&w);
}

Test(route_cache, memory_that_is_short_refuses_the_message_and_nothing_else)
{
    struct world w;
    const struct route *r;
    open_world(&w, 1024, 1 << 20);
    uint32_t s = add(&w, "a");
    cr_assert_eq(find(&w, "a"), 1);
    w.heap.fail_at = w.heap.alloc_count + 1;
    cr_assert_eq(route_cache_find(w.cache, 0, w.a, BYTES_LITERAL("a"), &r), ERR_MEMORY);
    w.heap.fail_at = 0;
    cr_assert_eq(find(&w, "a"), 1);
    drop(&w, s);
    close_world(&w);
}

static const struct route *route_of(struct world *w, const char *subject)
{
    const struct route *r = NULL;
    for (int i = 0; i < 3; i++)
        cr_assert_eq(route_cache_find(w->cache, 0, w->a, bytes_from_text(subject), &r), ERR_OK);
    return r;
}

Test(route_cache, subjects_that_resolve_alike_have_one_route)
{
    struct world w;
    struct route_cache_counts one, many;
    open_world(&w, 1024, 1 << 20);
    uint32_t s = add(&w, "a.*"), t = add(&w, "b.*"), v = add(&w, "a.x");
    const struct route *a = route_of(&w, "a.0");
    route_cache_count(w.cache, &one);
    for (int i = 1; i < 100; i++) {
        char subject[16];
        snprintf(subject, sizeof subject, "a.%d", i);
        cr_assert_eq(route_of(&w, subject), a);
    }
    route_cache_count(w.cache, &many);
    cr_assert_eq(many.entries, 100);
    cr_assert_eq(many.bytes, one.bytes);
    cr_assert_neq(route_of(&w, "b.0"), a);

    /* A subject of its own leaves the others theirs; so does the end of all memory. */
    uint32_t u = add(&w, "a.7");
    cr_assert_eq(find(&w, "a.7"), 2);
    cr_assert_eq(find(&w, "a.8"), 1);
    route_cache_shrink(w.cache, UINT64_MAX);
    route_cache_count(w.cache, &many);
    cr_assert_eq(many.bytes, 0);
    cr_assert_eq(find(&w, "a.7"), 2);
    drop(&w, s);
    drop(&w, t);
    drop(&w, u);
    drop(&w, v);
    close_world(&w);
}

Test(route_cache, subjects_that_differ_where_nothing_looks_share_an_entry)
{
    struct world w;
    struct route_cache_counts before, n;
    char subject[64];
    open_world(&w, 1024, 1 << 20);
    uint32_t s = add(&w, "_INBOX.client.*"), t = add(&w, "$JS.ACK.STREAM.>");
    for (int i = 0; i < 4; i++) {
        snprintf(subject, sizeof subject, "_INBOX.client.%d", i);
        cr_assert_eq(find(&w, subject), 1);
        snprintf(subject, sizeof subject, "$JS.ACK.STREAM.consumer.1.%d.%d.0.0", i, i);
        cr_assert_eq(find(&w, subject), 1);
    }
    route_cache_count(w.cache, &before);
    cr_assert_eq(before.entries, 2);
    for (int i = 100; i < 1000; i++) {
        snprintf(subject, sizeof subject, "_INBOX.client.%d", i);
        cr_assert_eq(find(&w, subject), 1);
        snprintf(subject, sizeof subject, "$JS.ACK.STREAM.consumer.1.%d.%d.0.0", i, i);
        cr_assert_eq(find(&w, subject), 1);
    }
    route_cache_count(w.cache, &n);
    cr_assert_eq(n.misses, before.misses);
    cr_assert_eq(n.entries, 2);
    /* Not what only begins so: one token more, none, an empty one. */
    cr_assert_eq(find(&w, "_INBOX.client.1.2"), 0);
    cr_assert_eq(find(&w, "_INBOX.client."), 0);
    cr_assert_eq(find(&w, "_INBOX.client"), 0);
    cr_assert_eq(find(&w, "$JS.ACK.STREAM"), 0);
    cr_assert_eq(find(&w, "$JS.ACK.STREAM.consumer..5"), 0);
    cr_assert_eq(find(&w, "$JS.ACK.STREAM.consumer.5."), 0);
    cr_assert_eq(find(&w, "$JS.ACK.STREAM.consumer"), 1);
    /* A filter that looks there ends it. */
    uint32_t u = add(&w, "_INBOX.client.7"), v = add(&w, "$JS.ACK.STREAM.*.2.>");
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(find(&w, "_INBOX.client.7"), 2);
        cr_assert_eq(find(&w, "_INBOX.client.8"), 1);
        cr_assert_eq(find(&w, "$JS.ACK.STREAM.consumer.1.3"), 1);
        cr_assert_eq(find(&w, "$JS.ACK.STREAM.consumer.2.3"), 2);
    }
    drop(&w, s);
    drop(&w, t);
    drop(&w, u);
    drop(&w, v);
    cr_assert_eq(find(&w, "_INBOX.client.8"), 0);
    close_world(&w);
}

Test(route_cache, a_cut_subject_that_comes_again_gets_an_entry_of_its_own)
{
    struct world w;
    struct route_cache_counts n;
    open_world(&w, 1024, 1 << 20);
    uint32_t s = add(&w, "metrics.*");
    for (int i = 0; i < 5; i++) cr_assert_eq(find(&w, "metrics.load"), 1);
    route_cache_count(w.cache, &n);
    cr_assert_eq(n.entries, 2);
    cr_assert_eq(n.misses, 2);
    drop(&w, s);
    close_world(&w);
}
