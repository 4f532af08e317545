/* Cost of finding the route of a subject: hits over few and over many subjects, and the walk of the
 * index that a miss pays. */
#include "bench/bench_support.h"

extern "C" {
#include "core/base/must.h"
#include "core/route/route_cache.h"
#include "tests/support/mem_heap.h"
}

namespace
{
constexpr uint32_t SHARD = 0;

/* One shard with `subjects` plain subscriptions, each on a subject of its own. */
struct fixture {
    mem_heap heap;
    interest *index = nullptr;
    interest_account *account = nullptr;
    sub_pool *pool = nullptr;
    route_cache *cache = nullptr;
    std::vector<std::string> subjects;
    std::vector<uint32_t> subs;

    explicit fixture(size_t count)
    {
        mem_heap_init(&heap);
        must(interest_open(&heap.mem, 1, 1, &index) == ERR_OK);
        must(sub_pool_open(&heap.mem, &pool) == ERR_OK);
        interest_attach(index, SHARD, pool);
        interest_online(index, SHARD);
        must(interest_account_of(index, 0, &account) == ERR_OK);
        must(route_cache_open(&heap.mem, index, SHARD, 65536, 64u << 20, &cache) == ERR_OK);
        for (size_t i = 0; i < count; i++) {
            char name[64];
            snprintf(name, sizeof(name), "load.s.%05zu.%09zu", i / 1000, i % 1000);
            subjects.push_back(name);
            uint32_t sub;
            must(sub_acquire(pool, nullptr, bytes_of("1", 1), &sub) == ERR_OK);
            must(interest_insert(index, account, SHARD, subject(i), bytes_of(nullptr, 0), sub) ==
                 ERR_OK);
            subs.push_back(sub);
        }
    }

    bytes subject(size_t i) const
    {
        return bytes_of(subjects[i].data(), subjects[i].size());
    }

    ~fixture()
    {
        for (uint32_t sub : subs) {
            must(interest_remove(index, account, SHARD, sub) == ERR_OK);
            sub_release(pool, sub);
        }
        route_cache_close(cache);
        interest_offline(index, SHARD);
        interest_close(index);
        sub_pool_close(pool);
    }
};

void find(benchmark::State &state, size_t count)
{
    fixture f(count);
    const route *found = nullptr;
    for (int round = 0; round < 3; round++) { /* a route enters at its second miss */
        for (size_t i = 0; i < count; i++) {
            must(route_cache_find(f.cache, 0, f.account, f.subject(i), &found) == ERR_OK);
        }
    }
    size_t i = 0;
    for (auto _ : state) {
        enum err e = route_cache_find(f.cache, 0, f.account, f.subject(i), &found);
        benchmark::DoNotOptimize(e);
        benchmark::DoNotOptimize(found);
        if (++i == count) i = 0;
    }
    if (found->plain_count != 1) state.SkipWithError("wrong route");
}

void route_hit(benchmark::State &state)
{
    find(state, 1);
}

void route_hit_of_1000(benchmark::State &state)
{
    find(state, 1000);
}

void route_hit_of_50000(benchmark::State &state)
{
    find(state, 50000);
}

void route_resolve(benchmark::State &state)
{
    fixture f(1000);
    size_t i = 0;
    for (auto _ : state) {
        route *found = nullptr;
        enum err e = interest_resolve(f.index, f.account, SHARD, &f.heap.mem, f.subject(i), &found);
        benchmark::DoNotOptimize(e);
        route_free(&f.heap.mem, found);
        if (++i == 1000) i = 0;
    }
}

BENCHMARK(route_hit)->Apply(bench_iterations);
BENCHMARK(route_hit_of_1000)->Apply(bench_iterations);
BENCHMARK(route_hit_of_50000)->Apply(bench_iterations);
BENCHMARK(route_resolve)->Apply(bench_iterations);
} // namespace
