#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "core/route/interest.h"
#include "tests/support/mem_heap.h"

enum { SHARDS = 3 };

struct world {
    struct mem_heap heap;
    struct interest *x;
    struct interest_account *a;
    struct sub_pool *pools[SHARDS];
};

static void open_world(struct world *w)
{
    mem_heap_init(&w->heap);
    cr_assert_eq(interest_open(&w->heap.mem, SHARDS, 42, &w->x), ERR_OK);
    for (uint32_t s = 0; s < SHARDS; s++) {
        cr_assert_eq(sub_pool_open(&w->heap.mem, &w->pools[s]), ERR_OK);
        interest_attach(w->x, s, w->pools[s]);
        interest_online(w->x, s);
    }
    cr_assert_eq(interest_account_of(w->x, 0, &w->a), ERR_OK);
}

static void close_world(struct world *w)
{
    for (uint32_t s = 0; s < SHARDS; s++) {
        interest_offline(w->x, s);
        sub_pool_close(w->pools[s]);
    }
    interest_close(w->x);
    cr_assert_eq(w->heap.live_count, 0);
}

static uint32_t add(struct world *w, uint32_t shard, const char *filter, const char *queue)
{
    uint32_t sub;
    cr_assert_eq(sub_acquire(w->pools[shard], NULL, BYTES_LITERAL("1"), &sub), ERR_OK);
    cr_assert_eq(interest_insert(w->x, w->a, shard, bytes_from_text(filter), bytes_from_text(queue),
                                 sub),
                 ERR_OK);
    return sub;
}

static void drop(struct world *w, uint32_t shard, uint32_t sub)
{
    cr_assert_eq(interest_remove(w->x, w->a, shard, sub), ERR_OK);
    sub_release(w->pools[shard], sub);
}

static struct route *resolve(struct world *w, uint32_t shard, const char *subject)
{
    struct route *r = NULL;
    cr_assert_eq(interest_resolve(w->x, w->a, shard, &w->heap.mem, bytes_from_text(subject), &r),
                 ERR_OK);
    return r;
}

static uint32_t plain_count(struct world *w, uint32_t shard, const char *subject)
{
    struct route *r = resolve(w, shard, subject);
    uint32_t count = r->plain_count;
    route_free(&w->heap.mem, r);
    return count;
}

Test(interest, wildcards_match_as_tokens)
{
    struct world w;
    open_world(&w);
    const char *filters[] = {"foo", "foo.*", "foo.>", "*.bar", ">", "foo.*.baz", "*"};
    uint32_t subs[7];
    for (int i = 0; i < 7; i++) subs[i] = add(&w, 0, filters[i], "");
    cr_assert_eq(plain_count(&w, 0, "foo"), 3);         /* foo > * */
    cr_assert_eq(plain_count(&w, 0, "foo.bar"), 4);     /* foo.* foo.> *.bar > */
    cr_assert_eq(plain_count(&w, 0, "foo.bar.baz"), 3); /* foo.> foo.*.baz > */
    cr_assert_eq(plain_count(&w, 0, "foo.*"), 3, "a published * is an ordinary token");
    cr_assert_eq(plain_count(&w, 0, ">"), 2);
    cr_assert_eq(plain_count(&w, 0, "foo..baz"), 0, "nothing matches an empty token");
    cr_assert_eq(plain_count(&w, 0, "foo."), 0);
    cr_assert_eq(plain_count(&w, 1, "foo.bar"), 0, "the subs are those of the asking shard");
    for (int i = 0; i < 7; i++) drop(&w, 0, subs[i]);
    cr_assert_eq(plain_count(&w, 0, "foo.bar"), 0);
    close_world(&w);
}

Test(interest, subs_of_a_filter_come_oldest_first)
{
    struct world w;
    open_world(&w);
    uint32_t subs[4];
    for (int i = 0; i < 4; i++) subs[i] = add(&w, 1, "a.b", "");
    drop(&w, 1, subs[1]);
    struct route *r = resolve(&w, 1, "a.b");
    cr_assert_eq(r->plain_count, 3);
    cr_assert_eq(r->subs[0]->index, subs[0]);
    cr_assert_eq(r->subs[1]->index, subs[2]);
    cr_assert_eq(r->subs[2]->index, subs[3]);
    route_free(&w.heap.mem, r);
    drop(&w, 1, subs[0]);
    drop(&w, 1, subs[3]);
    drop(&w, 1, subs[2]);
    close_world(&w);
}

Test(interest, groups_of_one_name_are_one_group_over_all_filters)
{
    struct world w;
    open_world(&w);
    uint32_t a = add(&w, 0, "a.b", "q"), b = add(&w, 1, "a.*", "q"), c = add(&w, 1, ">", "q"),
             d = add(&w, 0, "a.b", "other"), e = add(&w, 2, "a.b", "");
    struct route *r = resolve(&w, 1, "a.b");
    cr_assert_eq(r->remote_plain, 4);
    cr_assert_eq(r->plain_count, 0);
    cr_assert_eq(r->group_count, 2);
    cr_assert(bytes_equal(r->groups[0].queue, BYTES_LITERAL("other")));
    cr_assert_eq(r->groups[0].members, 1);
    cr_assert_eq(r->groups[0].local_count, 0);
    const struct route_group *q = &r->groups[1];
    cr_assert(bytes_equal(q->queue, BYTES_LITERAL("q")));
    cr_assert_eq(q->members, 3);
    cr_assert_eq(q->by_shard[0], 1);
    cr_assert_eq(q->by_shard[1], 2);
    cr_assert_eq(q->by_shard[2], 0);
    cr_assert_eq(q->local_count, 2);
    cr_assert_eq(r->subs[q->local_first]->index + r->subs[q->local_first + 1]->index, b + c);
    route_free(&w.heap.mem, r);
    drop(&w, 0, a);
    drop(&w, 1, b);
    drop(&w, 1, c);
    drop(&w, 0, d);
    drop(&w, 2, e);
    close_world(&w);
}

Test(interest, a_change_moves_the_generation_of_its_first_token_and_a_wildcard_all_of_them)
{
    struct world w;
    open_world(&w);
    struct bytes ab = BYTES_LITERAL("a.b"), zz = BYTES_LITERAL("zz");
    uint64_t at_ab = interest_generation(w.a, ab), at_zz = interest_generation(w.a, zz);
    uint32_t s = add(&w, 0, "a.x.y", "");
    cr_assert_neq(interest_generation(w.a, ab), at_ab);
    cr_assert_eq(interest_generation(w.a, zz), at_zz);
    at_ab = interest_generation(w.a, ab);
    uint32_t t = add(&w, 0, "*.x", "");
    cr_assert_neq(interest_generation(w.a, ab), at_ab);
    cr_assert_neq(interest_generation(w.a, zz), at_zz);
    at_zz = interest_generation(w.a, zz);
    drop(&w, 0, t);
    cr_assert_neq(interest_generation(w.a, zz), at_zz);
    at_ab = interest_generation(w.a, ab);
    drop(&w, 0, s);
    cr_assert_neq(interest_generation(w.a, ab), at_ab);
    close_world(&w);
}

Test(interest, the_filter_of_a_sub_can_be_read_back)
{
    struct world w;
    char room[2 * INTEREST_FILTER_BYTES_MAX];
    struct bytes filter, queue;
    open_world(&w);
    uint32_t s = add(&w, 0, "one.*.three.>", "workers"), t = add(&w, 0, "x", "");
    cr_assert_eq(interest_filter_of(w.x, sub_at(w.pools[0], s), room, sizeof room, &filter, &queue),
                 ERR_OK);
    cr_assert(bytes_equal(filter, BYTES_LITERAL("one.*.three.>")));
    cr_assert(bytes_equal(queue, BYTES_LITERAL("workers")));
    cr_assert_eq(interest_filter_of(w.x, sub_at(w.pools[0], s), room, 19, &filter, &queue),
                 ERR_FULL);
    cr_assert_eq(interest_filter_of(w.x, sub_at(w.pools[0], t), room, 1, &filter, &queue), ERR_OK);
    cr_assert(bytes_equal(filter, BYTES_LITERAL("x")));
    cr_assert_eq(queue.len, 0);
    drop(&w, 0, s);
    drop(&w, 0, t);
    close_world(&w);
}

Test(interest, the_longest_filter_works_and_a_longer_one_is_refused)
{
    struct world w;
    char text[INTEREST_FILTER_BYTES_MAX + 2];
    open_world(&w);
    for (int i = 0; i < INTEREST_FILTER_BYTES_MAX + 1; i++) text[i] = i % 2 == 0 ? '*' : '.';
    text[INTEREST_FILTER_BYTES_MAX + 1] = 0;
    uint32_t sub;
    cr_assert_eq(sub_acquire(w.pools[0], NULL, BYTES_LITERAL("1"), &sub), ERR_OK);
    cr_assert_eq(interest_insert(w.x, w.a, 0, bytes_from_text(text), bytes_of("", 0), sub),
                 ERR_TOO_LONG);
    sub_release(w.pools[0], sub);
    text[INTEREST_FILTER_BYTES_MAX - 1] = 0;
    sub = add(&w, 0, text, "");
    for (int i = 0; i < INTEREST_FILTER_BYTES_MAX - 1; i += 2) text[i] = 'x';
    uint32_t literal = add(&w, 0, text, "");
    cr_assert_eq(plain_count(&w, 0, text), 2);
    drop(&w, 0, sub);
    cr_assert_eq(plain_count(&w, 0, text), 1);
    drop(&w, 0, literal);
    for (int i = 0; i < INTEREST_FILTER_BYTES_MAX; i++) text[i] = 'y'; /* one token */
    text[INTEREST_FILTER_BYTES_MAX] = 0;
    sub = add(&w, 0, text, "");
    cr_assert_eq(plain_count(&w, 0, text), 1);
    drop(&w, 0, sub);
    close_world(&w);
}

/* --- scale: figures of product and design ------------------------------------------------ */

enum {
#ifdef MILLRACE_SANITIZED
    MANY = 50000, /* a sanitizer makes it slow, and the figures mean nothing there */
#else
    MANY = 1000000,
#endif
    BYTES_PER_SUB_MAX = 110,
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

Test(interest, a_million_subscriptions_fit_their_memory_and_time)
{
    struct world w;
    static uint32_t subs[MANY];
    char text[32];
    open_world(&w);
    uint64_t before = w.heap.mem.used_bytes[MEM_INTEREST], subject_bytes = 0, start = now_ns();
    for (uint32_t i = 0; i < MANY; i++) {
        subject_bytes += (uint64_t)snprintf(text, sizeof text, "foo.bar.%06u", i);
        subs[i] = add(&w, 0, text, "");
        for (uint32_t s = 0; i % 1024 == 0 && s < SHARDS; s++) interest_quiesce(w.x, s);
    }
    for (uint32_t s = 0; s < SHARDS; s++) interest_quiesce(w.x, s);
    interest_quiesce(w.x, 0);
    uint64_t insert_ns = (now_ns() - start) / MANY;
    uint64_t used = w.heap.mem.used_bytes[MEM_INTEREST] - before - subject_bytes;
    start = now_ns();
    for (uint32_t i = 0; i < MANY / 4; i++) {
        snprintf(text, sizeof text, "foo.bar.%06u", (i * 7919u) % MANY);
        cr_assert_eq(plain_count(&w, 0, text), 1);
    }
    uint64_t resolve_ns = (now_ns() - start) / (MANY / 4);
    printf("%d subscriptions: %.1f bytes each beyond the subject, insert %llu, resolve %llu ns\n",
           MANY, (double)used / MANY, (unsigned long long)insert_ns,
           (unsigned long long)resolve_ns);
    cr_assert_leq(used / MANY, BYTES_PER_SUB_MAX);
#if defined(NDEBUG) && !defined(MILLRACE_SANITIZED)
    cr_assert_leq(insert_ns, 3000, "aim: 1000, with room for a busy machine");
    cr_assert_leq(resolve_ns, 3000, "aim: 1000");
#endif
    for (uint32_t i = 0; i < MANY; i++) {
        drop(&w, 0, subs[(i * 7919ull) % MANY]);
        for (uint32_t s = 0; i % 1024 == 0 && s < SHARDS; s++) interest_quiesce(w.x, s);
    }
    cr_assert_eq(plain_count(&w, 0, "foo.bar.000001"), 0);
    for (int turn = 0; turn < 4; turn++)
        for (uint32_t s = 0; s < SHARDS; s++) interest_quiesce(w.x, s);
    cr_assert_lt(w.heap.mem.used_bytes[MEM_INTEREST] - before, 1 << 20, "the memory comes back");
    close_world(&w);
}

/* Quadratic behaviour would take minutes here. */
Test(interest, a_million_members_at_one_filter_or_in_one_group_are_fine)
{
    struct world w;
    static uint32_t subs[MANY];
    char queue[16] = "";
    open_world(&w);
    for (int kind = 0; kind < 3; kind++) {
        for (uint32_t i = 0; i < MANY / (kind == 2 ? 8 : 1); i++) {
            if (kind == 1) strcpy(queue, "q");
            if (kind == 2) snprintf(queue, sizeof queue, "q%u", i);
            subs[i] = add(&w, i % SHARDS, "a.b", queue);
        }
        struct route *r = resolve(&w, 1, "a.b");
        if (kind == 0) cr_assert_eq(r->plain_count, (MANY + 1) / SHARDS);
        if (kind == 1) cr_assert_eq(r->groups[0].members, MANY);
        if (kind == 2) cr_assert_eq(r->group_count, MANY / 8);
        route_free(&w.heap.mem, r);
        for (uint32_t i = 0; i < MANY / (kind == 2 ? 8 : 1); i++) drop(&w, i % SHARDS, subs[i]);
    }
    close_world(&w);
}

Test(interest, star_branches_cost_no_more_than_the_trie_has_nodes)
{
    struct world w;
    enum { DEPTH = 12 };
    static uint32_t subs[1 << DEPTH];
    char text[2 * DEPTH + 1];
    open_world(&w);
    /* Every filter of DEPTH tokens over { a, * }: all of them match a.a.a. ... */
    for (uint32_t n = 0; n < 1 << DEPTH; n++) {
        for (uint32_t i = 0; i < DEPTH; i++) {
            text[2 * i] = n >> i & 1 ? 'a' : '*';
            text[2 * i + 1] = i == DEPTH - 1 ? 0 : '.';
        }
        subs[n] = add(&w, 0, text, "");
    }
    cr_assert_eq(plain_count(&w, 0, "a.a.a.a.a.a.a.a.a.a.a.a"), 1 << DEPTH);
    cr_assert_eq(plain_count(&w, 0, "a.a.a.a.a.a.a.a.a.a.a.b"), 1 << (DEPTH - 1));
    for (uint32_t n = 0; n < 1 << DEPTH; n++) drop(&w, 0, subs[n]);
    close_world(&w);
}
