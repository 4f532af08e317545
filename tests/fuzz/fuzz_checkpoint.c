/* Bodies of CHECKPOINT and PROGRESS records, as a start reads them: whatever they say, the stream
 * is refused or makes sense. What was taken can be written again, and that loads to the same.
 *
 *   a byte: 0 CHECKPOINT, 1 PROGRESS · u16 bytes of the body · the body · then a byte for each
 *   message: the difference to the sequence before */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"
#include "core/js/checkpoint.h"
#include "persist/wire.h"
#include "tests/support/mem_heap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STREAM = 5, MEMORY_BYTES = 1 << 20, PROGRESS_STEPS_MAX = 64 };

static void open_js(struct js *js, struct mem_heap *heap)
{
    mem_heap_init(heap);
    js_init(js, &heap->mem, NULL, 7, MEMORY_BYTES);
    js->now = js->clock =
        (struct shard_time){.wall_ns = 1700000100000000000, .mono_ns = 100000000000};
}

static void close_js(struct js *js, const struct mem_heap *heap)
{
    js_deinit(js);
    must(heap->live_count == 0);
}

static bool is_answer(enum err e)
{
    return e == ERR_OK || e == ERR_CORRUPT || e == ERR_UNKNOWN || e == ERR_MEMORY;
}

static void replay_messages(struct js *js, const uint8_t *steps, size_t count)
{
    uint64_t seq = 0;
    for (size_t i = 0; i < count; i++) {
        char subject[] = "s.0";
        subject[2] = (char)('0' + steps[i] % 10);
        seq += (uint64_t)steps[i] + 1;
        struct record r = {.kind = RECORD_MESSAGE,
                           .stream = STREAM,
                           .seq = seq,
                           .time_ns = 1700000000000000000 + (int64_t)i,
                           .subject = bytes_from_text(subject),
                           .body = BYTES_LITERAL("x")};
        must(is_answer(js_replay(js, 0, &r, 1000 + seq)));
    }
}

static enum err replay_checkpoint(struct js *js, struct bytes body, const uint8_t *steps,
                                  size_t count)
{
    struct record r = {
        .kind = RECORD_CHECKPOINT, .flags = RECORD_LAST, .stream = STREAM, .body = body};
    enum err e = js_replay(js, 0, &r, 0);
    must(is_answer(e));
    if (e != ERR_OK) return e;
    replay_messages(js, steps, count);
    js_replay_end(js);
    return ERR_OK;
}

/* Writes the stream and loads that into a fresh one. False: there is none, or not yet. */
static bool copy(struct js *from, struct js *to, struct text *body, const uint8_t *steps,
                 size_t count)
{
    if (js_find_id(from, STREAM) == NULL) return false;
    enum err e;
    from->checkpoint_step = 1 + (uint32_t)(count % 7);
    do e = checkpoint_write(from, STREAM, body);
    while (e == ERR_INCOMPLETE);
    if (e != ERR_OK) return false;
    must(replay_checkpoint(to, text_written(body), steps, count) == ERR_OK);
    return true;
}

/* The first copy leaves out what was settled and told of; from then on nothing changes. */
static void try_again(struct js *js, const uint8_t *steps, size_t count)
{
    struct js second, third;
    struct mem_heap heap_2, heap_3;
    struct text bodies[3];
    open_js(&second, &heap_2);
    open_js(&third, &heap_3);
    for (int i = 0; i < 3; i++) text_init(&bodies[i], js->mem, MEM_JETSTREAM, JS_REPLY_BYTES_MAX);
    if (copy(js, &second, &bodies[0], steps, count) &&
        copy(&second, &third, &bodies[1], steps, count)) {
        must(checkpoint_write(&third, STREAM, &bodies[2]) == ERR_OK);
        must(bytes_equal(text_written(&bodies[1]), text_written(&bodies[2])));
    }
    for (int i = 0; i < 3; i++) text_deinit(&bodies[i]);
    close_js(&second, &heap_2);
    close_js(&third, &heap_3);
}

static void try_checkpoint(struct bytes body, const uint8_t *steps, size_t count)
{
    struct js js;
    struct mem_heap heap;
    struct bytes name;
    if (checkpoint_name(body, &name) == ERR_OK) must(name.len <= body.len);
    open_js(&js, &heap);
    if (replay_checkpoint(&js, body, steps, count) == ERR_OK) try_again(&js, steps, count);
    close_js(&js, &heap);
}

static void try_progress(struct bytes body, const uint8_t *steps, size_t count)
{
    struct js js;
    struct mem_heap heap;
    open_js(&js, &heap);
    struct record stream = {
        .kind = RECORD_STREAM,
        .stream = STREAM,
        .subject = BYTES_LITERAL("$G S"),
        .body =
            BYTES_LITERAL("{\"config\":{\"name\":\"S\",\"subjects\":[\"s.>\"],\"storage\":\"file\","
                          "\"num_replicas\":1,\"retention\":\"workqueue\",\"discard\":\"old\"},"
                          "\"created_ns\":1700000000000000000}")};
    struct record consumer = {
        .kind = RECORD_CONSUMER,
        .stream = STREAM,
        .seq = 1,
        .subject = BYTES_LITERAL("c"),
        .body =
            BYTES_LITERAL("{\"config\":{\"durable_name\":\"c\",\"ack_policy\":\"explicit\","
                          "\"deliver_policy\":\"all\",\"ack_wait\":30000000000,"
                          "\"max_deliver\":-1,\"max_ack_pending\":1000,\"max_waiting\":512,"
                          "\"replay_policy\":\"instant\"},\"created_ns\":1700000000000000000}")};
    must(js_replay(&js, 0, &stream, 0) == ERR_OK);
    must(js_replay(&js, 0, &consumer, 0) == ERR_OK);
    if (count > PROGRESS_STEPS_MAX) count = PROGRESS_STEPS_MAX;
    replay_messages(&js, steps, count);
    struct record progress = {.kind = RECORD_PROGRESS,
                              .stream = STREAM,
                              .seq = 1,
                              .prev_seq = 1,
                              .time_ns = 1700000050000000000,
                              .body = body};
    must(is_answer(js_replay(&js, 0, &progress, 0)));
    js_replay_end(&js);
    try_again(&js, steps, count);
    close_js(&js, &heap);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { FIXED = 3 };
    if (size < FIXED) return 0;
    size_t body = data[1] | (size_t)data[2] << 8, rest = size - FIXED;
    if (body > rest) body = rest;
    /* As large as the body and no larger, so that a sanitizer sees a read beyond the end. */
    char *copy = malloc(body == 0 ? 1 : body);
    must(copy != NULL);
    if (body > 0) memcpy(copy, data + FIXED, body);
    const uint8_t *steps = data + FIXED + body;
    if (data[0] % 2 == 0)
        try_checkpoint(bytes_of(copy, body), steps, rest - body);
    else
        try_progress(bytes_of(copy, body), steps, rest - body);
    free(copy);
    return 0;
}
