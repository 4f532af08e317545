/* One connection that asks JetStream's API, makes, fills and deletes streams: what the workloads of
 * JetStream need around what they measure. Blocking, on the caller's thread.
 *
 * Streams are LOAD0, LOAD1, ...; the shape of their subjects follows from the options:
 *   several streams, or one subject   load.js.<stream, 6 digits>
 *   one stream, --subjects above 1    a.<5 digits>.<3 digits>, the stream takes a.>
 *   kvput, kvget                      the bucket KV_LOAD with $KV.LOAD.k<8 digits> */
#ifndef BENCH_LOAD_API_H
#define BENCH_LOAD_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/load_conn.h"
#include "bench/load_opts.h"
#include "bench/load_report.h"

enum {
    LOAD_API_SUBJECT_MAX = 64,
    LOAD_API_KEY_DIGITS = 8,          /* of the key in its subject, and at the start of a payload */
    LOAD_API_SUBJECTS_A_TOKEN = 1000, /* a.<token>.<subject> */
};

struct load_api {
    struct load_conn conn;
    const struct load_opts *opts;
    struct load_report *report; /* takes the first failure */
    uint8_t *buffer;            /* LOAD_CONN_READ_BYTES */
    char *answer;               /* text of the last answer */
    size_t answer_size;
    uint64_t answers;     /* to requests */
    uint64_t acks;        /* of filled messages */
    uint64_t others;      /* messages of further subscriptions of the workload (sid from 3 on) */
    uint64_t other_ns;    /* when the last of them came */
    uint64_t progress_ns; /* when a progress line was last printed */
};

/* False: the failure is in the report and nothing is open. */
bool load_api_open(struct load_api *api, const struct load_opts *opts, struct load_report *report);
void load_api_close(struct load_api *api);

/* Sends what waits, and waits for bytes to come, 100 ms at most. False: the connection failed. */
bool load_api_turn(struct load_api *api);

/* One request and its answer, kept in api->answer. False: no answer, or it holds an error. */
bool load_api_request(struct load_api *api, const char *subject, const char *body);

/* The number behind "name": in the last answer; 0 if it is not there. */
uint64_t load_api_number(const struct load_api *api, const char *name);

/* Makes or deletes the streams of the run. One that exists with the same configuration is kept. */
bool load_api_make_streams(struct load_api *api);
bool load_api_delete_streams(struct load_api *api);

/* Messages in the streams of the run: of all up to 16 streams, else of the first and the last. */
bool load_api_count(struct load_api *api, uint64_t *messages);

/* Publishes `count` messages, opts->inflight of them unacknowledged at a time, in turn to all
 * subjects, and checks that each was stored. */
bool load_api_fill(struct load_api *api, uint64_t count);

/* The name of stream `index`, the name of the bucket of kvput and kvget. */
void load_api_stream_name(const struct load_opts *opts, uint32_t index, char *into, size_t size);

/* The subject of message `number`, at most LOAD_API_SUBJECT_MAX; returns its length. All subjects
 * of a run have the same. */
size_t load_api_subject(const struct load_opts *opts, uint64_t number, char *into);

/* A progress line on stderr, twice a second at most, unless --quiet. */
void load_api_progress(struct load_api *api, const char *what, uint64_t done, uint64_t total);

/* Waits until the server has written nothing for a second: packing has drained. Returns the bytes
 * that it has written since it was started; 0 without --server-pid. */
uint64_t load_api_drain(struct load_api *api);

#endif
