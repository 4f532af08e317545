/* One durable fact, as borrowed slices: what core hands to the store and gets back from it.
 *
 * A state machine is what its records made it, applied in the order of the log. So a record holds
 * all that its application needs, time included, and nothing that follows from earlier records:
 * what a limit evicts or an ack removes is derived when the record is applied.
 *
 * The kind and flag numbers lie on disk (docs/FORMAT.md): append only, never reuse. Which fields a
 * kind uses stands beside it; a field that it does not use is 0 or empty. */
#ifndef CORE_BASE_RECORD_H
#define CORE_BASE_RECORD_H
#include <stdint.h>
#include "core/base/bytes.h"

enum record_kind {
    RECORD_NONE = 0,
    RECORD_MESSAGE = 1, /* seq, prev_seq, subject, headers, body: a stored message */
    RECORD_SKIP = 2,    /* seq: consumed, nothing is kept */
    RECORD_ERASE = 3,   /* seq: removed by request; flag RECORD_SECURE */
    RECORD_PURGE = 4,   /* subject: filter or empty; seq: up to it, exclusive, 0 all; body: keep */
    RECORD_STREAM = 5,  /* created or updated. subject: "account name"; body: JSON */
    RECORD_STREAM_GONE = 6, /* the stream and all that belongs to it */
    RECORD_CONSUMER = 7,    /* created or updated. seq: its number; subject: its name; body: JSON */
    RECORD_CONSUMER_GONE = 8, /* seq: its number */
    /* seq: number of the consumer; prev_seq: number of the record, counted per consumer, 0 none;
     * body: deliveries and acks */
    RECORD_PROGRESS = 9,
    /* Written by persist. seq: part, from 0, flag RECORD_LAST on the last; prev_seq: the group up
     * to which it stands for the records of its stream; body: a part of what core gave. */
    RECORD_CHECKPOINT = 10,
    RECORD_KIND_COUNT
};

enum record_flags {
    RECORD_SECURE = 1, /* ERASE: the bytes are to be overwritten, not just forgotten */
    RECORD_LAST = 2,   /* CHECKPOINT: no further part */
    RECORD_AGAIN = 4,  /* STREAM: what the one before says, once more */
};

enum {
    RECORD_SUBJECT_BYTES_MAX = 65535,
    /* Headers and body of one record. Larger than any max_payload that is served. */
    RECORD_DATA_BYTES_MAX = 64 * 1024 * 1024 - 128 * 1024,
};

struct record {
    enum record_kind kind;
    uint32_t flags;  /* enum record_flags */
    uint64_t stream; /* id of the stream, never reused in a store; 0: of no stream */
    uint64_t seq;
    uint64_t prev_seq; /* MESSAGE: sequence of the previous message of this subject; 0 none */
    int64_t time_ns;   /* since 1970, UTC; never goes back within a stream */
    struct bytes subject, headers, body;
};

/* True for what publishers cause. These are refused first when space ends; deletes, acks and
 * configuration go on out of a reserve. */
static inline bool record_is_publish(enum record_kind kind)
{
    return kind == RECORD_MESSAGE || kind == RECORD_SKIP;
}

#endif
