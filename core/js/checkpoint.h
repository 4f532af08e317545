/* All that a stream is, as the body of a CHECKPOINT record, and back (P8): so that older records of
 * it need not be kept. What a message is but for its place comes from the message's own record, or
 * from the index of a pack.
 *
 * Body; numbers are varints (core/base/varint), signed ones folded, texts with their length:
 *
 *   version 1 · "account name" · the body of its STREAM record
 *   first, last sequence · time of the last message, clock (signed) · live messages · last id
 *   number of the next consumer
 *   ranges of sequences from the first on that are not live: (from - end of the one before, count)
 *     until count 0
 *   messages with flags: (sequence - the one before, flags) until difference 0
 *   lives of their own: count, (sequence, deadline (signed))
 *   ids: count, (hash 16 bytes, sequence - the one before, time - the one before (signed))
 *   consumers: count, (number, number of its newest PROGRESS record, time, name, body of its
 *     CONSUMER record, body of a whole PROGRESS record)
 *
 * Loading goes on while messages come that the stream knew: each finds its place. It ends with the
 * first record that is news, or with the log. What has no place by then is lost, or is removed by
 * the records that follow: a pack goes when nothing in it is live.
 * Of memory streams nothing is written: they end with the process. */
#ifndef CORE_JS_CHECKPOINT_H
#define CORE_JS_CHECKPOINT_H
#include "core/js/js.h"

/* The stream as it is now, when out is empty. A large one goes by pieces: ERR_INCOMPLETE, and the
 * next call, with what out holds by then, goes on with the state as it was at the first. So that it
 * can, what goes from the stream in between is noted until it is written. Each piece looks at about
 * js->checkpoint_step messages, gaps and ids; the first one also copies what it needs of all
 * consumers, and of all messages that have a life of their own.
 * ERR_UNKNOWN: there is no such stream (any more), nothing needs to be kept of it. ERR_BUSY:
 * something that was told as stored has not happened yet, or too much has gone since the first
 * piece. ERR_MEMORY. After an error the next call begins anew, with an empty out; so does one for
 * another stream. */
NODISCARD enum err checkpoint_write(struct js *js, uint64_t stream, struct text *out);
/* A message of the stream went, with these flags (of msgs_entry.bytes); all of them; the stream
 * goes (NULL: js does): for the state that is being written. */
void checkpoint_removed(struct js *js, const struct js_stream *s, uint64_t seq, uint32_t flags);
void checkpoint_cleared(struct js *js, const struct js_stream *s);
void checkpoint_stop_writing(struct js *js, const struct js_stream *s);

/* Whose it is, for finding the account's number and the shard. ERR_CORRUPT. */
NODISCARD enum err checkpoint_name(struct bytes body, struct bytes *account_and_name);
/* Makes the stream. ERR_CORRUPT: it makes no sense; ERR_MEMORY. */
NODISCARD enum err checkpoint_load(struct js *js, uint32_t account, const struct record *r);
/* The stream still waits for places, and this record is of a message that it knew. */
bool checkpoint_knows(const struct js_stream *s, const struct record *r);
/* Fetches from memory what checkpoint_place needs; s->restore is there. */
static inline void checkpoint_expect(const struct js_stream *s)
{
    __builtin_prefetch(s->restore);
}
NODISCARD enum err checkpoint_place(struct js_stream *s, const struct record *r, uint64_t place);
/* No more of them come. ERR_MEMORY, ERR_CORRUPT: parts of it (consumers, ids) are missing. */
NODISCARD enum err checkpoint_end(struct js_stream *s);
/* Frees what a load holds. */
void checkpoint_drop(struct js_stream *s);

/* The answers to struct store_hooks. keeps_unknown: messages of streams that are not here may be
 * somebody's. */
enum store_fate checkpoint_fate(const struct js *js, bool keeps_unknown, uint64_t stream,
                                uint64_t seq, uint64_t place);
uint64_t checkpoint_count(const struct js *js, bool keeps_unknown, uint64_t stream,
                          uint64_t seq_first, uint64_t seq_last);
enum err checkpoint_moved(struct js *js, uint64_t stream, uint64_t seq, uint64_t from, uint64_t to);

#endif
