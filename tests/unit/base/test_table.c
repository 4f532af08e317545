#include <criterion/criterion.h>
#include "core/base/rng.h"
#include "core/base/table.h"
#include "tests/support/mem_heap.h"

enum { KEYS = 512 };

static uint64_t *find(const struct table *t, uint64_t hash, uint64_t key)
{
    uint32_t at;
    for (uint64_t *v = table_first(t, hash, &at); v != NULL; v = table_next(t, hash, &at))
        if (*v == key) return v;
    return NULL;
}

/* A poor hash on purpose: long clusters, equal hashes of different keys. */
static uint64_t poor_hash(uint64_t key)
{
    return key % 37 * 3;
}

Test(table, random_inserts_and_removes_agree_with_a_flag_per_key)
{
    struct mem_heap heap;
    struct table t;
    struct rng r;
    static uint64_t keys[KEYS];
    static bool is_in[KEYS];
    uint32_t count = 0;
    mem_heap_init(&heap);
    rng_init(&r, 11);
    table_init(&t, &heap.mem, MEM_CONFIG);
    cr_assert_null(find(&t, 5, 5));
    for (uint64_t i = 0; i < KEYS; i++) keys[i] = i;
    for (int step = 0; step < 60000; step++) {
        uint32_t k = rng_below(&r, step % 20000 < 10000 ? KEYS : KEYS / 16);
        if (is_in[k]) {
            cr_assert_eq(table_remove(&t, poor_hash(k), &keys[k]), ERR_OK);
            count--;
        } else {
            cr_assert_eq(table_remove(&t, poor_hash(k), &keys[k]), ERR_UNKNOWN);
            cr_assert_eq(table_insert(&t, poor_hash(k), &keys[k]), ERR_OK);
            count++;
        }
        is_in[k] = !is_in[k];
        uint32_t probe = rng_below(&r, KEYS);
        cr_assert_eq(find(&t, poor_hash(probe), probe), is_in[probe] ? &keys[probe] : NULL);
        cr_assert_eq(t.count, count);
    }
    uint32_t at = 0, seen = 0;
    for (uint64_t *v; (v = table_each(&t, &at)) != NULL; seen++) cr_assert(is_in[*v]);
    cr_assert_eq(seen, count);
    table_deinit(&t);
    cr_assert_eq(heap.live_count, 0);
}

Test(table, reserved_room_needs_no_memory_and_a_failure_changes_nothing)
{
    struct mem_heap heap;
    struct table t;
    static uint64_t keys[100];
    mem_heap_init(&heap);
    table_init(&t, &heap.mem, MEM_CONFIG);
    heap.fail_at = 1;
    cr_assert_eq(table_insert(&t, 1, &keys[0]), ERR_MEMORY);
    cr_assert_eq(t.count, 0);
    heap.fail_at = 0;
    cr_assert_eq(table_reserve(&t, 100), ERR_OK);
    heap.fail_at = heap.alloc_count + 1;
    heap.fail_from = 1;
    for (int i = 0; i < 100; i++) cr_assert_eq(table_insert(&t, (uint64_t)i, &keys[i]), ERR_OK);
    for (int i = 0; i < 100; i++) cr_assert_eq(table_remove(&t, (uint64_t)i, &keys[i]), ERR_OK);
    table_deinit(&t);
    cr_assert_eq(heap.live_count, 0);
}

Test(table, hashes_depend_on_bytes_and_seed)
{
    cr_assert_eq(hash_bytes("abc", 3, 1), hash_bytes("abcd", 3, 1));
    cr_assert_neq(hash_bytes("abc", 3, 1), hash_bytes("abc", 3, 2));
    cr_assert_neq(hash_bytes("abc", 3, 1), hash_bytes("abd", 3, 1));
    cr_assert_eq(hash_bytes(NULL, 0, 9), hash_bytes("", 0, 9));
}
