/* Ack subjects, ack payloads and pull requests: what an ack parser takes apart, written again,
 * reads back the same; nothing is read outside of the input, nothing leaks. The first byte picks
 * what the rest is. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"
#include "core/js/ack.h"
#include "tests/support/mem_heap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool lies_in(struct bytes part, struct bytes whole)
{
    return part.len == 0 ||
           (part.data >= whole.data && part.data + part.len <= whole.data + whole.len);
}

static void try_subject(struct bytes subject)
{
    struct ack_subject a, b;
    struct bytes stream, consumer;
    if (ack_parse_flow(subject, &stream, &consumer) == ERR_OK) {
        must(lies_in(stream, subject));
        must(lies_in(consumer, subject));
    }
    if (ack_parse_subject(subject, &a) != ERR_OK) return;
    must(lies_in(a.stream, subject));
    must(lies_in(a.consumer, subject));
    size_t room = subject.len + 7 * BYTES_U64_TEXT_MAX;
    char *text = malloc(room);
    must(text != NULL);
    struct writer w;
    writer_init(&w, text, room);
    ack_write_subject(&w, &a);
    must(!w.is_full);
    must(ack_parse_subject(writer_written(&w), &b) == ERR_OK);
    must(bytes_equal(a.stream, b.stream));
    must(bytes_equal(a.consumer, b.consumer));
    must(a.stream_seq == b.stream_seq);
    must(a.consumer_seq == b.consumer_seq);
    must(a.pending == b.pending);
    free(text);
}

static void try_payload(struct arena *arena, struct bytes payload)
{
    struct ack_payload p;
    ack_parse_payload(arena, payload, &p);
    must(lies_in(p.reason, payload));
    must(lies_in(p.next, payload));
    must(!(p.has_delay && p.is_delay_bad));
    must(p.kind == ACK_NAK || !p.has_delay);
}

static void try_pull(struct arena *arena, struct bytes body)
{
    struct ack_pull p;
    char text[JSAPI_ERROR_TEXT_BYTES];
    struct writer why;
    writer_init(&why, text, sizeof text);
    if (ack_parse_pull(arena, body, &p, &why) != ERR_OK)
        must(why.len > 0);
    else
        must(p.heartbeat_ns <= 0 || p.heartbeat_ns <= p.expires_ns / 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    struct mem_heap heap;
    struct arena arena;
    mem_heap_init(&heap);
    arena_init(&arena, &heap.mem, MEM_JETSTREAM);
    size_t len = size - 1;
    /* As large as the bytes and no larger, so that a sanitizer sees a read beyond the end. */
    char *copy = malloc(len == 0 ? 1 : len);
    must(copy != NULL);
    if (len > 0) memcpy(copy, data + 1, len);
    struct bytes input = bytes_of(copy, len);
    switch (data[0] % 3) {
    case 0: try_subject(input); break;
    case 1: try_payload(&arena, input); break;
    default: try_pull(&arena, input); break;
    }
    arena_deinit(&arena);
    must(heap.live_count == 0);
    free(copy);
    return 0;
}
