#include "core/base/rng.h"
#include "core/base/sort.h"
#include "tests/unit/monitor/fixture.h"

static struct fixture f;

static void setup(void)
{
    fixture_open(&f);
}

static void teardown(void)
{
    fixture_close(&f);
}

TestSuite(snapshot, .init = setup, .fini = teardown);

Test(snapshot, holds_much_more_than_one_block_and_frees_it_whole)
{
    struct shard_snapshot *s = f.shards[0];
    char text[100];
    for (uint32_t i = 0; i < 5000; i++) {
        struct sub_snapshot *sub = snapshot_add_sub(s);
        cr_assert_not_null(sub);
        cr_assert_eq((uintptr_t)sub % 16, 0);
        snprintf(text, sizeof text, "subject.%u", i);
        sub->subject = snapshot_text(s, bytes_from_text(text));
        sub->cid = i;
    }
    uint32_t i = 0;
    for (const struct sub_snapshot *sub = s->subs; sub != NULL; sub = sub->next, i++) {
        snprintf(text, sizeof text, "subject.%u", i);
        cr_assert(bytes_equal(sub->subject, bytes_from_text(text)));
        cr_assert_eq(sub->cid, i);
    }
    cr_assert_eq(i, 5000);
}

Test(snapshot, one_text_larger_than_a_block_fits)
{
    static char large[100000];
    memset(large, 'x', sizeof large);
    struct bytes copy = snapshot_text(f.shards[0], bytes_of(large, sizeof large));
    cr_assert_eq(copy.len, sizeof large);
    cr_assert_eq(memcmp(copy.data, large, sizeof large), 0);
    cr_assert_not_null(snapshot_add_conn(f.shards[0]));
}

Test(snapshot, says_when_memory_was_short)
{
    struct shard_snapshot *s = f.shards[0];
    f.heap.fail_at = f.heap.alloc_count + 1;
    f.heap.fail_from = 1;
    uint32_t count = 0;
    while (snapshot_add_conn(s) != NULL) count++;
    cr_assert(s->is_short);
    uint32_t listed = 0;
    for (const struct conn_snapshot *c = s->conns; c != NULL; c = c->next) listed++;
    cr_assert_eq(listed, count);
    struct shard_snapshot *other = NULL;
    cr_assert_eq(snapshot_open(&f.heap.mem, 1, &other), ERR_MEMORY);
    cr_assert_null(other);
    f.heap.fail_at = 0;
    f.heap.fail_from = 0;
}

/* Against sorting everything: the pick holds exactly the first ones. */
Test(snapshot, a_pick_keeps_exactly_the_best)
{
    enum { COUNT = 500 };
    static struct snapshot_choice all[COUNT], best[COUNT];
    struct rng rng;
    rng_init(&rng, 5);
    for (int round = 0; round < 200; round++) {
        fixture_reset(&f);
        uint32_t window = 1 + rng_below(&rng, 80), count = rng_below(&rng, COUNT);
        query_init(&f.query, PAGE_CONNZ);
        f.query.limit = window;
        struct snapshot_pick pick;
        snapshot_pick_init(&pick, f.shards[0], &f.query);
        for (uint32_t i = 0; i < count; i++) {
            all[i] = (struct snapshot_choice){(int64_t)rng_below(&rng, 40), i + 1, NULL};
            snapshot_pick_offer(&pick, all[i].key, all[i].cid, NULL);
        }
        snapshot_sort(all, count);
        cr_assert_eq(pick.offered, count);
        cr_assert_eq(pick.count, count < window ? count : window);
        memcpy(best, pick.best, pick.count * sizeof best[0]);
        snapshot_sort(best, pick.count);
        for (uint64_t i = 0; i < pick.count; i++) {
            cr_assert_eq(best[i].key, all[i].key);
            cr_assert_eq(best[i].cid, all[i].cid);
            if (i > 0) cr_assert_geq(best[i - 1].key, best[i].key);
        }
    }
}

Test(snapshot, a_page_without_entries_picks_none)
{
    struct snapshot_pick pick;
    query_init(&f.query, PAGE_ACCOUNT_NSUBS);
    snapshot_pick_init(&pick, f.shards[0], &f.query);
    snapshot_pick_offer(&pick, 1, 1, NULL);
    cr_assert_eq(pick.count, 0);
    cr_assert_eq(pick.offered, 1);
}

Test(snapshot, counts_add_up_over_all_fields)
{
    struct shard_counts merged;
    /* Every word is a count; the most-value is a maximum, all others are sums. */
    const size_t words = sizeof(struct shard_counts) / sizeof(uint64_t);
    for (size_t i = 0; i < words; i++) {
        ((uint64_t *)&f.shards[0]->counts)[i] = i + 1;
        ((uint64_t *)&f.shards[1]->counts)[i] = 1000;
    }
    snapshot_merge_counts(&f.in, &merged);
    size_t most = offsetof(struct shard_counts, mail.spill_bytes_most) / sizeof(uint64_t);
    for (size_t i = 0; i < words; i++) {
        uint64_t wanted = i == most ? 1000 : i + 1 + 1000;
        cr_expect_eq(((uint64_t *)&merged)[i], wanted, "word %zu", i);
    }
}

Test(snapshot, accounts_add_up_and_sort_by_name)
{
    for (int i = 0; i < 2; i++) {
        struct shard_snapshot *s = f.shards[i];
        s->accounts = snapshot_alloc(s, 2 * sizeof *s->accounts);
        cr_assert_not_null(s->accounts);
        s->account_count = 2;
        s->accounts[0] = (struct account_snapshot){.account = 5, .connections = 1, .sent = {2, 3}};
        s->accounts[1] = (struct account_snapshot){.account = 9, .connections = 7};
    }
    struct account_totals totals;
    cr_assert_eq(snapshot_merge_accounts(&f.in, &totals), ERR_OK);
    cr_assert_eq(totals.count, 10, "also one that the configuration has lost");
    cr_assert_eq(totals.by_number[5].connections, 2);
    cr_assert_eq(totals.by_number[5].sent.bytes, 6);
    cr_assert_eq(totals.by_number[9].connections, 14);
    cr_assert_eq(totals.by_number[0].connections, 0);
    snapshot_totals_free(&f.in, &totals);
    struct account_list list;
    cr_assert_eq(snapshot_accounts_by_name(&f.in, &list), ERR_OK);
    cr_assert_eq(list.count, 3);
    cr_assert(bytes_equal(list.list[0]->name, BYTES_LITERAL("$G")));
    cr_assert(bytes_equal(list.list[1]->name, BYTES_LITERAL("$SYS")));
    cr_assert(bytes_equal(list.list[2]->name, BYTES_LITERAL("A")));
    snapshot_accounts_free(&f.in, &list);
}

Test(snapshot, each_reason_has_a_text_of_its_own)
{
    for (int a = CLOSED_NONE + 1; a < CLOSED_REASON_COUNT; a++) {
        struct bytes text = closed_reason_text((enum closed_reason)a);
        cr_assert_gt(text.len, 0);
        for (int b = CLOSED_NONE + 1; b < a; b++)
            cr_assert_not(bytes_equal(text, closed_reason_text((enum closed_reason)b)));
    }
    cr_assert_eq(closed_reason_text(CLOSED_NONE).len, 0);
    cr_assert(bytes_equal(closed_reason_text(CLOSED_REASON_COUNT), BYTES_LITERAL("Unknown State")));
}
