#include <criterion/criterion.h>
#include <stdio.h>
#include "core/client/client.h"
#include "tests/support/mem_heap.h"

/* The bucket of a sid in a table of eight that has nothing else. */
static uint32_t bucket_of(struct mem *mem, struct sub_pool *subs, uint64_t seed, const char *sid)
{
    struct client c = {.sid_seed = seed};
    uint32_t index, bucket = 0;
    cr_assert_eq(sub_acquire(subs, &c, bytes_from_text(sid), &index), ERR_OK);
    cr_assert_eq(client_add_sid(&c, mem, subs, index), ERR_OK);
    cr_assert_eq(client_any_sid(&c, &bucket), index);
    client_remove_sid(&c, subs, index);
    client_free_sids(&c, mem);
    sub_release(subs, index);
    return bucket;
}

Test(client, sids_that_collide_under_one_seed_do_not_under_another)
{
    struct mem_heap heap;
    struct sub_pool *subs;
    mem_heap_init(&heap);
    cr_assert_eq(sub_pool_open(&heap.mem, &subs), ERR_OK);
    int collide = 0, still = 0;
    for (int i = 0; i < 800; i++) {
        char sid[16];
        snprintf(sid, sizeof sid, "%d", i);
        if (bucket_of(&heap.mem, subs, 1, sid) != 3) continue;
        collide++;
        still += bucket_of(&heap.mem, subs, 2, sid) == 3;
    }
    cr_assert(collide > 50 && still < collide / 2, "%d of %d", still, collide);
    sub_pool_close(subs);
    cr_assert_eq(heap.live_count, 0);
}

/* A table that grew all at once would hold its shard for a walk over every subscription. */
Test(client, the_table_of_sids_grows_by_one_chain_at_a_time)
{
    enum { SUBS = 5000 };
    static uint32_t index[SUBS];
    struct mem_heap heap;
    struct sub_pool *subs;
    struct client c = {.sid_seed = 7};
    char sid[16];
    mem_heap_init(&heap);
    cr_assert_eq(sub_pool_open(&heap.mem, &subs), ERR_OK);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < SUBS; i++) {
            uint32_t chains = c.sid_chains;
            snprintf(sid, sizeof sid, "%d", i);
            cr_assert_eq(client_find_sid(&c, subs, bytes_from_text(sid)), 0);
            cr_assert_eq(sub_acquire(subs, &c, bytes_from_text(sid), &index[i]), ERR_OK);
            cr_assert_eq(client_add_sid(&c, &heap.mem, subs, index[i]), ERR_OK);
            cr_assert(c.sid_chains <= chains + 1 || chains == 0);
            cr_assert_geq(c.sid_chains, c.sub_count);
        }
        for (int i = 0; i < SUBS; i++) {
            snprintf(sid, sizeof sid, "%d", i);
            cr_assert_eq(client_find_sid(&c, subs, bytes_from_text(sid)), index[i]);
        }
        for (int i = 0; i < SUBS; i++) {
            client_remove_sid(&c, subs, index[i]);
            sub_release(subs, index[i]);
        }
    }
    cr_assert_eq(c.sub_count, 0);
    client_free_sids(&c, &heap.mem);
    sub_pool_close(subs);
    cr_assert_eq(heap.live_count, 0);
}
