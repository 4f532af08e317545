#include "bench/load_tape.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load_opts.h"
#include "core/base/must.h"

enum { BURST_BYTES = 64 * 1024, SUBJECT_MAX = 256, PATTERN_STEP = 31 };

void load_tape_build(struct load_tape *tape, uint64_t frame_count, uint32_t size,
                     load_tape_subject_fn subject, void *context)
{
    char name[SUBJECT_MAX];
    char head[SUBJECT_MAX + 32];
    size_t name_bytes = subject(name, 0, context);
    int head_bytes = snprintf(head, sizeof(head), "PUB %.*s %u\r\n", (int)name_bytes, name, size);
    must(head_bytes > 0 && (size_t)head_bytes < sizeof(head));

    size_t frame_bytes = (size_t)head_bytes + size + 2;
    if (frame_count == 1 && frame_bytes < BURST_BYTES) frame_count = BURST_BYTES / frame_bytes;
    *tape = (struct load_tape){.frame_bytes = frame_bytes,
                               .frame_count = frame_count,
                               .head_bytes = (size_t)head_bytes,
                               .size = size};
    tape->data = malloc(frame_bytes * frame_count);
    must(tape->data != NULL);
    for (uint64_t i = 0; i < frame_count; i++) {
        uint8_t *at = tape->data + i * frame_bytes;
        must(subject(name, i, context) == name_bytes);
        snprintf(head, sizeof(head), "PUB %.*s %u\r\n", (int)name_bytes, name, size);
        memcpy(at, head, (size_t)head_bytes);
        memset(at + head_bytes, 'x', size);
        memcpy(at + head_bytes + size, "\r\n", 2);
    }
}

void load_tape_free(struct load_tape *tape)
{
    free(tape->data);
    *tape = (struct load_tape){0};
}

static uint8_t pattern_first(uint64_t publisher, uint64_t seq)
{
    return (uint8_t)(seq * PATTERN_STEP + publisher);
}

void load_tape_stamp_payload(uint8_t *payload, uint32_t size, uint64_t publisher, uint64_t seq)
{
    must(size >= LOAD_STAMP_BYTES);
    memcpy(payload, &publisher, 8);
    memcpy(payload + 8, &seq, 8);
    uint8_t value = pattern_first(publisher, seq);
    for (uint32_t i = LOAD_STAMP_BYTES; i < size; i++) payload[i] = value++;
}

bool load_tape_check_payload(const uint8_t *payload, uint32_t size, uint64_t *publisher,
                             uint64_t *seq)
{
    if (size < LOAD_STAMP_BYTES) return false;
    memcpy(publisher, payload, 8);
    memcpy(seq, payload + 8, 8);
    uint8_t value = pattern_first(*publisher, *seq);
    for (uint32_t i = LOAD_STAMP_BYTES; i < size; i++) {
        if (payload[i] != value++) return false;
    }
    return true;
}

void load_tape_stamp(const struct load_tape *tape, uint64_t publisher, uint64_t first)
{
    for (uint64_t i = 0; i < tape->frame_count; i++) {
        uint8_t *payload = tape->data + i * tape->frame_bytes + tape->head_bytes;
        load_tape_stamp_payload(payload, tape->size, publisher, first + i);
    }
}

uint64_t load_tape_stride(size_t subject_bytes, size_t sid_bytes, uint32_t size)
{
    int digits = snprintf(NULL, 0, "%u", size);
    must(digits > 0);
    return strlen("MSG ") + subject_bytes + 1 + sid_bytes + 1 + (size_t)digits + 2 + size + 2;
}

uint64_t load_tape_sent(const struct load_pub *pub)
{
    return pub->frames_begun + pub->position / pub->tape->frame_bytes;
}
