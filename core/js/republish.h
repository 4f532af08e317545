/* Messages that streams send on after they are stored (republish), in the order in which they
 * became visible. A queue of places: bodies are read when it is their turn. A message of a memory
 * stream is retained until then, since a limit may evict it at once.
 *
 *   republish_add   a message became visible
 *   while (republish_next(...) == REPUBLISH_SEND) { send it; republish_done }
 *   republish_read  a read that was busy ended: REPUBLISH_SEND or go on with republish_next
 *
 * At most once, as in nats-server: what finds no memory, or cannot be read, is not sent. Owned by
 * the shard; pure. */
#ifndef CORE_JS_REPUBLISH_H
#define CORE_JS_REPUBLISH_H
#include "core/js/js.h"

enum { REPUBLISH_WAITING_MAX = 1 << 20 };

struct republish_item {
    uint64_t stream, seq, place;
    bool is_memory; /* the place is one of js->memory, and retained */
};

struct republish {
    struct js *js;
    struct republish_item *items; /* a ring */
    uint32_t room, head, count;
    bool is_reading;
    bool is_short;          /* the one at the head is to be tried again a little later */
    struct store_read read; /* of the item at the head; context is the owner's */
    uint64_t dropped; /* that had to go out and did not; the owner counts them, and sets it to 0 */
    struct text headers;
    char subject[TRANSFORM_DESTINATION_BYTES_MAX];
};

enum republish_step {
    REPUBLISH_NONE, /* nothing waits, or a read has to end first */
    REPUBLISH_SEND,
};

/* Slices are valid until republish_done. */
struct republish_message {
    struct js_stream *stream;
    struct bytes subject, headers, body;
};

/* context: of its reads. */
void republish_init(struct republish *r, struct js *js, void *context);
void republish_deinit(struct republish *r);
/* Message seq of the stream is visible now; it may be evicted right after. */
void republish_add(struct republish *r, struct js_stream *s, uint64_t seq, uint32_t node);
NODISCARD enum republish_step republish_next(struct republish *r, struct republish_message *m);
/* The read ended; record is void after an error. */
NODISCARD enum republish_step republish_read(struct republish *r, enum err result,
                                             const struct record *record,
                                             struct republish_message *m);
/* The message was sent. */
void republish_done(struct republish *r);

#endif
