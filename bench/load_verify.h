/* Checks each message of one subscriber connection in a verifying run: subject and sid are ours,
 * the content is what that publisher wrote, and the messages of each publisher come in order, for
 * plain subscriptions without a gap. Memory: 8 bytes per (subscription, publisher). */
#ifndef BENCH_LOAD_VERIFY_H
#define BENCH_LOAD_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/load_conn.h"
#include "bench/load_tape.h"

struct load_verify {
    const struct load_tape *tapes; /* of publisher i: tapes[i]; tells the subject of each number */
    uint64_t *next;                /* [sid_count][publisher_count]: lowest number still allowed */
    uint64_t sid_first;
    uint32_t sid_count;
    uint32_t publisher_first; /* publishers that reach this connection */
    uint32_t publisher_count;
    bool is_dense;           /* every message of these publishers arrives here: no gap allowed */
    const char *subject_has; /* the subject begins with this: the filter without its wildcard */
    uint64_t sum;            /* of load_verify_mix over all messages */
};

void load_verify_init(struct load_verify *verify);
void load_verify_deinit(struct load_verify *verify);

/* A load_conn_message_fn; conn->owner is the struct load_verify. Faults go to conn->errors. */
void load_verify_message(struct load_conn *conn, const struct load_message *message);

/* One message as a number; summed up over a queue group it shows what went missing or came twice
 * although the count is right. */
uint64_t load_verify_mix(uint64_t publisher, uint64_t seq);

#endif
