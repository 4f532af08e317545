/* Cost of a message through the whole core: parsed, routed, formatted into the output of its
 * subscribers. One iteration is one message published; the step gets 100 at a time, as from one
 * read. No sockets: what a driver adds is not in here. */
#include "bench/bench_support.h"

extern "C" {
#include "core/auth/account.h"
#include "core/base/json.h"
#include "core/base/must.h"
#include "core/config/conf.h"
#include "core/shard/shard.h"
#include "tests/support/mem_heap.h"
}

namespace
{
constexpr uint32_t MESSAGES_PER_READ = 100;
constexpr uint32_t SLOTS_MAX = 64;
constexpr uint64_t STEP_NS =
    100; /* short: a bench of billions of messages stays within a ping interval */

struct fixture {
    mem_heap heap;
    options *configured = nullptr;
    server_facts facts = {};
    interest *index = nullptr;
    shard *s = nullptr;
    std::vector<effect> effects = std::vector<effect>(OUTBOX_EFFECTS_MAX);
    std::string text = std::string(OUTBOX_TEXT_BYTES, '\0');
    lane *lanes[1] = {nullptr};
    outbox box = {};
    shard_time now = {1, 1700000000000000000};

    fixture()
    {
        mem_heap_init(&heap);
        json_init(1); /* the same in each bench of the process */
        load_options();
        facts.id = facts.name = bytes_from_text("N");
        facts.version = facts.go = bytes_from_text("0");
        facts.host = bytes_from_text("127.0.0.1");
        must(interest_open(&heap.mem, 1, 1, &index) == ERR_OK);
        shard_config config = {};
        config.shard_count = 1;
        config.mem = &heap.mem;
        config.interest = index;
        config.options = configured;
        config.server = &facts;
        config.seed = 1;
        config.slots_max = SLOTS_MAX;
        config.now = now;
        must(shard_open(&config, &s) == ERR_OK);
        interest_online(index, 0);
        box.effects = effects.data();
        box.lanes = lanes;
        box.lane_count = 1;
    }

    /* The defaults of a server without a file, an environment and flags. */
    void load_options()
    {
        account_numbers *numbers = nullptr;
        options_report report;
        conf_source nothing = {};
        nothing.getenv = [](conf_source *, bytes, bytes *) { return false; };
        options_input in = {};
        in.source = &nothing;
        in.seed = 1;
        must(account_numbers_open(&heap.mem, &numbers) == ERR_OK);
        in.numbers = numbers;
        options_report_init(&report, &heap.mem);
        must(options_load(&heap.mem, &in, &configured, &report) == ERR_OK);
        options_report_deinit(&report);
    }

    /* One step with one event; effects are dropped, but connections may ask to be resumed. */
    void step(event *e)
    {
        box.count = 0;
        writer_init(&box.text, &text[0], text.size());
        now.mono_ns += STEP_NS;
        must(shard_step(s, e, e ? 1 : 0, now, &box) == (e ? 1u : 0u));
    }

    /* Takes all output as sent; returns its bytes. */
    uint64_t drain()
    {
        uint64_t sum = 0;
        while (client *c = shard_next_dirty(s)) {
            bytes runs[64];
            event sent = {};
            sent.kind = EVENT_SENT;
            sent.conn = c->id;
            (void)output_gather(&c->output, runs, 64, UINT64_MAX, &sent.sent.bytes);
            sum += sent.sent.bytes;
            step(&sent);
        }
        return sum;
    }

    void receive(conn_id id, const std::string &data)
    {
        event e = {};
        e.kind = EVENT_BYTES;
        e.conn = id;
        e.bytes.data = data.data();
        e.bytes.len = data.size();
        step(&e);
        must(e.bytes.used == data.size());
    }

    conn_id connect(uint32_t slot, const std::string &commands)
    {
        event e = {};
        e.kind = EVENT_OPENED;
        e.conn = conn_id_of(slot, 1);
        e.opened.cid = slot + 1;
        e.opened.ip = bytes_from_text("127.0.0.1");
        step(&e);
        drain();
        receive(e.conn,
                "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\nPING\r\n");
        drain();
        if (!commands.empty()) receive(e.conn, commands);
        drain();
        return e.conn;
    }
};

/* A burst of messages to so many subscribers on one subject, all in one queue group unless queue is
 * empty. expected: deliveries of each message. */
void publish(benchmark::State &state, size_t size, uint32_t subscribers, const char *queue,
             uint32_t expected)
{
    fixture f;
    for (uint32_t i = 0; i < subscribers; i++) {
        f.connect(i + 1, std::string("SUB load.pubsub ") + queue + " 1\r\n");
    }
    conn_id publisher = f.connect(0, "");
    std::string burst;
    for (uint32_t i = 0; i < MESSAGES_PER_READ; i++) {
        burst +=
            "PUB load.pubsub " + std::to_string(size) + "\r\n" + std::string(size, 'x') + "\r\n";
    }
    uint64_t least = MESSAGES_PER_READ * expected * size;
    while (state.KeepRunningBatch(MESSAGES_PER_READ)) {
        f.receive(publisher, burst);
        if (f.drain() < least) {
            state.SkipWithError("not delivered");
            break;
        }
    }
    state.SetItemsProcessed(state.iterations());
    /* The process ends with the bench: the shard is not closed, its connections are still open. */
}

void publish_to_nobody_128(benchmark::State &state)
{
    publish(state, 128, 0, "", 0);
}

void publish_to_one_16(benchmark::State &state)
{
    publish(state, 16, 1, "", 1);
}

void publish_to_one_128(benchmark::State &state)
{
    publish(state, 128, 1, "", 1);
}

void publish_to_ten_128(benchmark::State &state)
{
    publish(state, 128, 10, "", 10);
}

void publish_to_group_of_ten_128(benchmark::State &state)
{
    publish(state, 128, 10, "group", 1);
}

BENCHMARK(publish_to_nobody_128)->Apply(bench_iterations);
BENCHMARK(publish_to_one_16)->Apply(bench_iterations);
BENCHMARK(publish_to_one_128)->Apply(bench_iterations);
BENCHMARK(publish_to_ten_128)->Apply(bench_iterations);
BENCHMARK(publish_to_group_of_ten_128)->Apply(bench_iterations);
} // namespace
