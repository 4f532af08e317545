/* Cost of parsing what clients send most: one operation per iteration, from a burst in cache. */
#include "bench/bench_support.h"

extern "C" {
#include "core/base/must.h"
#include "core/proto/nats_parse.h"
}

namespace
{
const nats_limits limits = {4096, 1048576, true};

/* Walks over a burst of equal operations, as a shard walks over received bytes. */
void parse(benchmark::State &state, const std::string &operation)
{
    const size_t count = 65536 / operation.size() + 1;
    std::string burst;
    for (size_t i = 0; i < count; i++) burst += operation;
    size_t at = 0;
    nats_op op;
    for (auto _ : state) {
        size_t used = 0;
        nats_status status = nats_parse(&limits, burst.data() + at, burst.size() - at, &op, &used);
        if (status != NATS_DONE) {
            state.SkipWithError("not parsed");
            break;
        }
        benchmark::DoNotOptimize(op);
        at += used;
        if (at == burst.size()) at = 0;
    }
}

std::string pub(size_t size)
{
    return "PUB load.pubsub " + std::to_string(size) + "\r\n" + std::string(size, 'x') + "\r\n";
}

void parse_pub_16(benchmark::State &state)
{
    parse(state, pub(16));
}

void parse_pub_128(benchmark::State &state)
{
    parse(state, pub(128));
}

void parse_pub_reply(benchmark::State &state)
{
    parse(state, "PUB load.svc _INBOX.load000000000000000001.0000000001 16\r\n"
                 "0123456789abcdef\r\n");
}

void parse_hpub(benchmark::State &state)
{
    parse(state, "HPUB load.pubsub 24 40\r\nNATS/1.0\r\nKey: Value\r\n\r\n0123456789abcdef\r\n");
}

void parse_sub(benchmark::State &state)
{
    parse(state, "SUB load.s.00001.000000002 10000002\r\n");
}

void parse_ping(benchmark::State &state)
{
    parse(state, "PING\r\n");
}

BENCHMARK(parse_pub_16)->Apply(bench_iterations);
BENCHMARK(parse_pub_128)->Apply(bench_iterations);
BENCHMARK(parse_pub_reply)->Apply(bench_iterations);
BENCHMARK(parse_hpub)->Apply(bench_iterations);
BENCHMARK(parse_sub)->Apply(bench_iterations);
BENCHMARK(parse_ping)->Apply(bench_iterations);
} // namespace
