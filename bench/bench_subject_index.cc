/* Costs of a stream's indexes at the sizes that are normal: a million subjects, ten million
 * messages. Counters: bytes per key beyond the subject, bytes per message. */
#include "bench/bench_support.h"

extern "C" {
#include "core/base/must.h"
#include "core/base/rng.h"
#include "core/js/dedupe.h"
#include "core/js/sieve.h"
#include "tests/support/mem_heap.h"
}

namespace
{
constexpr uint32_t KEYS = 1000 * 1000;
constexpr uint32_t MESSAGES = 10 * 1000 * 1000;

/* a.<group>.<user>.b: four tokens, 1,000 groups of 1,000 users. */
size_t subject_text(char *out, uint32_t i)
{
    return (size_t)snprintf(out, 40, "a.%u.user-%06u.b", i % 1000, i);
}

struct fixture {
    mem_heap heap;
    msgs messages;
    subject_index index;
    rng random;
    uint64_t key_bytes = 0;
    uint64_t seq = 0;

    explicit fixture(uint32_t list_max)
    {
        mem_heap_init(&heap);
        rng_init(&random, 1);
        msgs_init(&messages, &heap.mem);
        subject_index_init(&index, &heap.mem, list_max);
    }

    void add(uint32_t i)
    {
        char text[40];
        size_t len = subject_text(text, i);
        uint32_t node;
        bool is_new;
        must(subject_index_intern(&index, bytes_of(text, len), &node, &is_new) == ERR_OK);
        if (is_new) key_bytes += len;
        seq++;
        msgs_entry entry = {seq * 200, (int64_t)seq * 3000, 128, node};
        must(msgs_append(&messages, seq, &entry) == ERR_OK);
        subject_index_add(&index, node, seq);
    }

    ~fixture()
    {
        msgs_clear(&messages);
        subject_index_clear(&index);
    }
};

/* Ten messages each of a million subjects, in random order; kept for all benches. */
fixture &full()
{
    static fixture *f = nullptr;
    if (f) return *f;
    f = new fixture(0);
    for (uint32_t i = 0; i < KEYS; i++) f->add(i);
    while (f->seq < MESSAGES) f->add(rng_below(&f->random, KEYS));
    return *f;
}

void insert_new_subject(benchmark::State &state)
{
    fixture *f = new fixture(0);
    uint32_t i = 0;
    for (auto _ : state) {
        if (i == KEYS) {
            state.PauseTiming();
            delete f;
            f = new fixture(0);
            i = 0;
            state.ResumeTiming();
        }
        f->add((uint32_t)((uint64_t)i++ * 617 % KEYS)); /* each once, in no order */
    }
    delete f;
}

void publish_known_subject(benchmark::State &state)
{
    fixture &f = full();
    state.counters["bytes_per_key"] =
        (double)(subject_index_bytes(&f.index) - f.key_bytes) / f.index.key_count;
    state.counters["bytes_per_message"] =
        (double)f.messages.bytes_taken / (double)f.messages.live_count;
    for (auto _ : state) { /* as a limits stream does it: one comes, the oldest goes */
        f.add(rng_below(&f.random, KEYS));
        msgs_entry entry;
        uint64_t first = msgs_first(&f.messages);
        must(msgs_remove(&f.messages, first, &entry) == ERR_OK);
        subject_index_remove(&f.index, entry.node, first);
    }
}

void find_subject(benchmark::State &state)
{
    fixture &f = full();
    char text[40];
    for (auto _ : state) {
        size_t len = subject_text(text, rng_below(&f.random, KEYS));
        uint32_t node = subject_index_find(&f.index, bytes_of(text, len));
        benchmark::DoNotOptimize(node);
    }
}

void get_message(benchmark::State &state)
{
    fixture &f = full();
    uint64_t first = msgs_first(&f.messages);
    for (auto _ : state) {
        msgs_entry entry;
        enum err e = msgs_get(&f.messages, first + rng_below(&f.random, MESSAGES), &entry);
        benchmark::DoNotOptimize(e);
    }
}

void next_messages(benchmark::State &state)
{
    fixture &f = full();
    msgs_cursor cursor;
    msgs_cursor_init(&cursor, &f.messages, 0);
    for (auto _ : state) {
        msgs_entry entry;
        if (msgs_cursor_next(&cursor, &entry) == 0) msgs_cursor_init(&cursor, &f.messages, 0);
        benchmark::DoNotOptimize(entry);
    }
}

/* The first message of a subject goes and the next one is asked for: a search. */
void first_after_removal(benchmark::State &state)
{
    fixture &f = full();
    for (auto _ : state) {
        uint32_t node = rng_below(&f.random, KEYS);
        uint64_t first = subject_index_first(&f.index, &f.messages, node);
        msgs_entry entry;
        must(msgs_remove(&f.messages, first, &entry) == ERR_OK);
        if (!subject_index_remove(&f.index, node, first))
            first = subject_index_first(&f.index, &f.messages, node);
        benchmark::DoNotOptimize(first);
        f.add(node);
    }
}

void total(benchmark::State &state, const char *filter)
{
    fixture &f = full();
    for (auto _ : state) {
        subject_total t = {};
        t = subject_index_total(&f.index, bytes_from_text(filter));
        benchmark::DoNotOptimize(t);
    }
}

void walk(benchmark::State &state, const char *filter)
{
    fixture &f = full();
    for (auto _ : state) {
        subject_index_walk w;
        uint64_t count = 0;
        subject_index_walk_begin(&w, &f.index, bytes_from_text(filter), bytes_of(nullptr, 0));
        while (subject_index_walk_next(&w) != MSGS_NODE_NONE) count++;
        state.counters["subjects"] = (double)count;
    }
}

void pending_from_middle(benchmark::State &state, const char *filter)
{
    fixture &f = full();
    uint64_t middle = msgs_first(&f.messages) + MESSAGES / 2;
    bytes text = bytes_from_text(filter);
    for (auto _ : state) {
        sieve s;
        uint64_t count = 0, at = middle;
        sieve_init(&s, f.index.mem, &f.messages, &f.index, &text, 1);
        while (at != 0) {
            uint32_t left = SIEVE_STEP;
            at = sieve_count(&s, at, UINT64_MAX, &left, &count);
        }
        sieve_deinit(&s);
        state.counters["messages"] = (double)count;
    }
}

void dedupe_publish(benchmark::State &state)
{
    mem_heap heap;
    dedupe d;
    mem_heap_init(&heap);
    dedupe_init(&d, &heap.mem, 5, KEYS, DEDUPE_ENTRIES_MAX); /* a window of a million ids */
    uint64_t seq = 0;
    auto publish = [&] {
        hash128 hash = dedupe_hash(&d, bytes_of((const char *)&seq, sizeof seq));
        seq++;
        must(dedupe_find(&d, hash, (int64_t)seq) == 0);
        must(dedupe_add(&d, hash, seq, (int64_t)seq) == ERR_OK);
        dedupe_expire(&d, (int64_t)seq, 2);
    };
    for (uint32_t i = 0; i < KEYS; i++) publish();
    state.counters["bytes_per_id"] = (double)d.bytes_taken / d.count;
    for (auto _ : state) publish();
    dedupe_clear(&d);
}

BENCHMARK(insert_new_subject)->Iterations(KEYS);
BENCHMARK(publish_known_subject)->Iterations(2 * 1000 * 1000);
BENCHMARK(find_subject);
BENCHMARK(get_message);
BENCHMARK(next_messages);
BENCHMARK(first_after_removal)->Iterations(2000);
BENCHMARK_CAPTURE(total, literal, "a.17.user-000017.b");
BENCHMARK_CAPTURE(total, prefix_of_all, "a.>");
BENCHMARK_CAPTURE(total, prefix_of_one_group, "a.17.>");
BENCHMARK_CAPTURE(total, stars_at_the_end, "a.17.*.*");
BENCHMARK_CAPTURE(total, star_inside, "a.*.user-000017.b")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(total, star_before_last, "a.*.*.b")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(walk, prefix_of_all, "a.>")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(pending_from_middle, literal, "a.17.user-000017.b")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(pending_from_middle, prefix_of_all, "a.>")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(pending_from_middle, prefix_of_one_group, "a.17.>")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(pending_from_middle, star_inside, "a.*.user-000017.b")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(pending_from_middle, star_of_all, "a.*.*.b")->Unit(benchmark::kMillisecond);
BENCHMARK(dedupe_publish)->Iterations(1000 * 1000);
} // namespace
