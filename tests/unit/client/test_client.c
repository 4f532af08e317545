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
