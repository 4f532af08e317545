/* What streams and consumers that nobody uses take of the machine's memory: many servers have a
 * hundred thousand of them. Blocks count as the allocator rounds them up. */
#include <criterion/criterion.h>
#include "core/js/consumer_request.h"
#include "core/js/js.h"
#include "core/shard/jet.h"
#include "tests/support/mem_heap.h"

enum {
    STREAMS = 300,
    /* Of 4096 bytes of an idle stream; the rest is for its subscriptions in the index, the
     * directory and tables. */
    STREAM_BYTES_MAX = 1792,
    SHARD_STREAM_BYTES_MAX = 224,
    CONSUMER_BYTES_MAX = 416, /* of 512, where each stream has one: more share their tables */
};

static struct {
    struct mem_heap heap;
    struct mem mem; /* counts, and takes from heap */
    uint64_t bytes;
    struct js js;
} r;

/* jemalloc has four sizes per doubling, from 16 bytes on. */
static size_t class_of(size_t bytes)
{
    size_t step = 16;
    while (bytes > step * 8) step *= 2;
    return (bytes + step - 1) / step * step;
}

static void *allocate(struct mem *m, enum mem_class class, size_t bytes)
{
    r.bytes += class_of(bytes);
    return r.heap.mem.alloc(&r.heap.mem, class, bytes);
}

static void give_back(struct mem *m, enum mem_class class, void *p, size_t bytes)
{
    r.bytes -= class_of(bytes);
    r.heap.mem.release(&r.heap.mem, class, p, bytes);
}

static void open_js(void)
{
    mem_heap_init(&r.heap);
    r.mem = (struct mem){.alloc = allocate, .release = give_back};
    js_init(&r.js, &r.mem, NULL, 5, 1 << 20);
}

static void close_js(void)
{
    js_deinit(&r.js);
    cr_assert_eq(r.heap.live_count, 0);
    cr_assert_eq(r.bytes, 0);
}

static struct js_stream *add_stream(uint64_t id)
{
    char name[16], subject[24];
    struct bytes subjects[1];
    struct js_stream *s;
    struct writer w;
    writer_init(&w, name, sizeof name);
    writer_text(&w, "ORDERS");
    writer_u64(&w, id);
    struct stream_config c = {.name = writer_written(&w),
                              .subjects = {.items = subjects, .count = 1},
                              .storage = STREAM_FILE,
                              .num_replicas = 1,
                              .duplicate_window = 120 * JS_SECOND};
    c.max_consumers = c.max_msgs = c.max_bytes = c.max_msgs_per_subject = c.max_msg_size = -1;
    writer_init(&w, subject, sizeof subject);
    writer_text(&w, "orders.");
    writer_u64(&w, id);
    writer_text(&w, ".>");
    subjects[0] = writer_written(&w);
    cr_assert_eq(js_add(&r.js, 1, BYTES_LITERAL("$G"), &c, id, 1, &s), ERR_OK);
    js_show(&r.js, s);
    return s;
}

static void add_consumer(struct js_stream *s)
{
    struct consumer *c;
    struct consumer_config config = {.durable_name = BYTES_LITERAL("WORKER"),
                                     .name = BYTES_LITERAL("WORKER"),
                                     .ack_policy = CONSUMER_ACK_EXPLICIT,
                                     .ack_wait_ns = CONSUMER_ACK_WAIT_DEFAULT_NS,
                                     .max_deliver = -1,
                                     .max_ack_pending = CONSUMER_MAX_ACK_PENDING_DEFAULT,
                                     .max_waiting = CONSUMER_MAX_WAITING_DEFAULT};
    struct shard_time now = {.mono_ns = 1, .wall_ns = 1};
    cr_assert_eq(consumer_set_add(&s->consumers, &config, 0, 1, now, &c), ERR_OK);
}

/* Growing takes twice the memory for a moment, and a table that was just doubled is half empty:
 * what one costs is what many cost together. */
Test(footprint, an_idle_stream_is_small)
{
    open_js();
    for (uint64_t id = 1; id <= STREAMS; id++) (void)add_stream(id);
    cr_assert_leq(r.bytes / STREAMS, STREAM_BYTES_MAX, "%lu bytes",
                  (unsigned long)(r.bytes / STREAMS));
    cr_assert_leq(class_of(sizeof(struct jet_stream)), SHARD_STREAM_BYTES_MAX);
    close_js();
}

Test(footprint, an_idle_consumer_is_small)
{
    struct js_stream *streams[STREAMS];
    open_js();
    for (uint64_t id = 1; id <= STREAMS; id++) streams[id - 1] = add_stream(id);
    uint64_t before = r.bytes;
    for (uint64_t i = 0; i < STREAMS; i++) add_consumer(streams[i]);
    uint64_t each = (r.bytes - before) / STREAMS;
    cr_assert_leq(each, CONSUMER_BYTES_MAX, "%lu bytes", (unsigned long)each);
    close_js();
}

/* What its deliveries and pulls took goes back when there is nothing of them left. */
Test(footprint, a_consumer_that_was_used_is_small_again)
{
    struct consumer *c;
    uint32_t at = 0;
    struct arena arena;
    struct shard_time now = {.mono_ns = 1, .wall_ns = 1};
    open_js();
    struct js_stream *s = add_stream(1);
    add_consumer(s);
    c = consumer_set_each(&s->consumers, &at);
    uint64_t before = r.bytes;
    arena_init(&arena, &r.heap.mem, MEM_JETSTREAM);
    consumer_pull(c, now, &arena, BYTES_LITERAL("1"), BYTES_LITERAL("reply"), s->outlet);
    cr_assert_eq(c->live->pulls.count, 1);
    consumer_rest(c);
    cr_assert_eq(c->live->pulls.count, 1, "somebody waits");
    pullq_close(&c->live->pulls, s->outlet, "409 Consumer Deleted");
    consumer_rest(c);
    cr_assert_eq(r.bytes, before);
    cr_assert_eq(r.js.idle.pulls.count, 0);
    arena_deinit(&arena);
    close_js();
}
