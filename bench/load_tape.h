/* A publisher sends from a tape: whole PUB messages of one length, built before the run, sent over
 * and over in bursts of 64 KiB, so that publishing costs the client little more than send(2).
 * In a verifying run each publisher has a tape of its own and numbers its payloads before each lap:
 *   payload = publisher (8 bytes), sequence from 0 (8 bytes), then a pattern that depends on both.
 */
#ifndef BENCH_LOAD_TAPE_H
#define BENCH_LOAD_TAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct load_tape {
    uint8_t *data;
    size_t frame_bytes; /* each message: "PUB subject size\r\n" payload "\r\n" */
    size_t frame_count;
    size_t head_bytes; /* of each message: what stands before its payload */
    uint32_t size;     /* payload bytes */
};

/* State of one publisher; runs in phases, each ended by a PING whose PONG says that the server has
 * taken all. */
enum load_pub_state { LOAD_PUB_IDLE, LOAD_PUB_SENDING, LOAD_PUB_FLUSHING };

struct load_pub {
    const struct load_tape *tape;
    size_t position;       /* in the tape, bytes */
    uint64_t frames_begun; /* in whole laps before this one, in messages */
    uint64_t phase_begin;  /* messages sent before this phase */
    uint64_t bytes_left;   /* of this phase; UINT64_MAX: until told to stop */
    uint64_t publisher;    /* the number in the payloads of a verifying run */
    uint64_t pongs_wanted;
    uint32_t fan;   /* deliveries per message */
    bool stamps;    /* verifying run: the tape is this publisher's own */
    bool is_paused; /* too much is undelivered: it waits in the middle of its tape */
    enum load_pub_state state;
};

/* The subject of message `index`: writes exactly as many characters for each index and returns
 * their number. */
typedef size_t (*load_tape_subject_fn)(char *into, uint64_t index, void *context);

/* Builds a tape of at least frame_count messages (more, up to 64 KiB, when frame_count is 1). */
void load_tape_build(struct load_tape *tape, uint64_t frame_count, uint32_t size,
                     load_tape_subject_fn subject, void *context);
void load_tape_free(struct load_tape *tape);

/* Numbers the payloads of the whole tape for a publisher, from sequence `first` on. */
void load_tape_stamp(const struct load_tape *tape, uint64_t publisher, uint64_t first);

/* Fills a payload of the verifying run / true if the payload is what stamp wrote. */
void load_tape_stamp_payload(uint8_t *payload, uint32_t size, uint64_t publisher, uint64_t seq);
bool load_tape_check_payload(const uint8_t *payload, uint32_t size, uint64_t *publisher,
                             uint64_t *seq);

/* Length on the wire of a message as the subscriber receives it, without a reply subject. */
uint64_t load_tape_stride(size_t subject_bytes, size_t sid_bytes, uint32_t size);

/* Messages of this publisher that are on the wire as a whole. */
uint64_t load_tape_sent(const struct load_pub *pub);

#endif
