/* The port of the durable log, as core sees it: append records, be told what became durable, read
 * records back. One instance per shard, touched by that shard's thread only. persist/slog
 * implements it on files; a memory stream implements append and read on its own.
 *
 * What core may rely on:
 * 1. Tickets are 1, 2, 3, ... per instance; records become durable in ticket order, and a replay
 *    after any crash yields them in ticket order.
 * 2. STORED {t} is given only when every record up to t survives a power cut (level `always`; with
 *    a sync interval: survives the end of the process). Never two for the same ticket; t only
 * grows.
 * 3. STORE_FAILED {t}: no record from t up to the newest ticket handed out so far was stored and
 *    none of them comes back in a replay, unless the store is read-only from now on (then each
 * may). Later appends may succeed again, with higher tickets.
 * 4. A place names a record for as long as the record is live; it changes only by being told so.
 * 5. A replay yields every record that is not superseded by a checkpoint; what is damaged is
 *    reported as lost, with a bound of the records in it, and the rest comes all the same, in
 *    order. Sequences are never renumbered.
 * 6. Events are handed out in the order in which they became true.
 *
 * Errors are those of core/base/err.h and stand at each call. Times are nanoseconds. */
#ifndef CORE_BASE_STORE_H
#define CORE_BASE_STORE_H
#include <stdbool.h>
#include <stdint.h>
#include "core/base/err.h"
#include "core/base/record.h"
#include "core/base/text.h"

struct store; /* an implementation embeds it first */

/* A read that may have to wait for the disk. The caller keeps it at its address until STORE_READ
 * names it, or until store_read gave something else than ERR_BUSY. */
struct store_read {
    uint64_t place;  /* from append or replay; not 0 */
    uint64_t stream; /* what lies there must be a record of this stream and sequence */
    uint64_t seq;
    uint32_t bytes; /* as append or replay gave it; 0: not known, then it may take two turns */
    void *context;  /* of the caller */
    /* Of the implementation. */
    struct store_read *next;
    enum err result;
    uint8_t state;
};

enum store_event_kind {
    STORE_STORED, /* ticket: everything up to it is durable */
    STORE_FAILED, /* ticket: everything from it on that was appended so far is gone; err says why */
    STORE_READ,   /* read: it ended; err ERR_OK: record is what lies there */
};

struct store_event {
    enum store_event_kind kind;
    /* FAILED: ERR_IO, ERR_NO_SPACE, ERR_DENIED (read-only from now on).
     * READ: ERR_OK, ERR_CORRUPT (damaged: it stays lost), ERR_UNKNOWN (no such segment any more),
     * ERR_IO, ERR_MEMORY (try again later). */
    enum err err;
    uint64_t ticket;
    struct store_read *read;
    struct record record; /* READ with ERR_OK: valid as that of store_read */
};

/* Where a record went. */
struct store_stub {
    uint64_t ticket;
    uint64_t place; /* opaque, never 0 */
    uint32_t bytes; /* it takes on disk */
};

struct store_ops {
    enum err (*append)(struct store *s, const struct record *r, struct store_stub *out);
    enum err (*read)(struct store *s, struct store_read *q, struct record *out);
    uint32_t (*staged_percent)(const struct store *s);
    uint32_t (*behind_percent)(const struct store *s); /* NULL: never */
};

struct store {
    const struct store_ops *ops;
};

/* Copies the record into the open group; the caller's slices are free again afterwards.
 * ERR_FULL: too much waits to be written (10167); it passes. ERR_NO_SPACE: the disk is full: for
 * records of publishers at once, for others when the reserve is used up too; it passes when space
 * returns. ERR_DENIED: the log is read-only until a restart. ERR_TOO_LONG: larger than a record may
 * be. In each case nothing happened and no ticket was used. */
NODISCARD static inline enum err store_append(struct store *s, const struct record *r,
                                              struct store_stub *out)
{
    return s->ops->append(s, r, out);
}

/* ERR_OK: *out is the record; its slices are valid until the next call of store_append or
 * store_read on this store, and at most until the end of the step: copy out at once. Records that
 * are not durable yet can be read too: which ones may be shown is the caller's knowledge. ERR_BUSY:
 * STORE_READ comes for q. ERR_CORRUPT, ERR_UNKNOWN, ERR_MEMORY as of that event; nothing waits
 * then. */
NODISCARD static inline enum err store_read(struct store *s, struct store_read *q,
                                            struct record *out)
{
    return s->ops->read(s, q, out);
}

/* How much of the room for records that are not durable yet is taken: 0 to 100. From 75 on
 * publishers are to be slowed down (R5b). */
static inline uint32_t store_staged_percent(const struct store *s)
{
    return s->ops->staged_percent(s);
}

/* How near the store is to refusing publishes because what is stored is not made room for as fast
 * as it comes: 0 to 100, from 75 on likewise. That passes in seconds, not milliseconds. 0 while it
 * is stuck, since nobody is to wait for that: publishes are refused when its bound is reached. */
static inline uint32_t store_behind_percent(const struct store *s)
{
    return s->ops->behind_percent == NULL ? 0 : s->ops->behind_percent(s);
}

/* --- what the store asks of core ---------------------------------------------------------- */

enum store_lost_kind {
    STORE_LOST_DAMAGED, /* bytes that were durable cannot be read: rot, or a disk that lied */
    STORE_LOST_CUT,     /* what a crash left unfinished; nothing of it was acknowledged, unless
                           within the last second before the crash, see docs/FORMAT.md */
};

/* How far a log had been written: up to which group in which life of the store. */
struct store_point {
    uint32_t incarnation;
    uint64_t group;
};

/* A range of one log that a replay had to pass over. */
struct store_lost {
    enum store_lost_kind kind;
    uint32_t log, segment;
    bool is_packed;         /* segment is the number of a pack */
    uint64_t offset, bytes; /* in the file */
    uint64_t group;         /* number; 0: not known */
    uint32_t record_count;  /* how many records were in it, if has_count */
    bool has_count;
    /* No more records can have been in it, and in what was told of the same group before. */
    uint64_t record_max;
    struct store_point end; /* none of them lies behind it; group 0: not known */
    /* What stands where a single record had them (record_count is 1); one may be the damage. */
    uint64_t stream_hint, seq_hint;
    uint8_t kind_hint;
    uint64_t place_before; /* of the last good record before it; 0: none in this log */
};

/* How soon a record comes in a replay: behind some two dozen others, half as many, or a few. */
enum store_nearness { STORE_FAR, STORE_NEAR, STORE_NEXT, STORE_NEARNESS_COUNT };

/* Calls of a replay. A record's slices are valid during the call only. In this order:
 *
 * 1. CHECKPOINT of every stream that has one, the newest, its body in one piece. It stands for all
 *    records of the stream up to some point of the log: seq is its incarnation, prev_seq its group.
 *    Its place only says of which log.
 * 2. MESSAGE records of packs: their headers and body have a length, but data is NULL.
 * 3. The records of the log. What a checkpoint stands for is left out, except MESSAGE records.
 *
 * So a MESSAGE with a sequence up to the last one that the stream's checkpoint knows is no news: if
 * the checkpoint has it as live, this is where it lies, else it is to be ignored. A MESSAGE of a
 * stream that nobody knows belongs to one that is gone. Everything else is news, in order. */
struct store_replay {
    void *context;
    /* ERR_OK to go on; anything else ends the replay with that error. */
    enum err (*record)(void *context, const struct record *r, const struct store_stub *stub);
    void (*lost)(void *context, const struct store_lost *lost);
    /* bytes_done of bytes_total read so far, after each group; may be NULL. As record: anything but
     * ERR_OK ends the replay. */
    enum err (*progress)(void *context, uint64_t bytes_done, uint64_t bytes_total);
    /* Records of the log that come soon, so that what they need is fetched from memory by then:
     * each of a hundred thousand streams lies elsewhere. No promise: a record may come without, or
     * be left out. May be NULL. */
    void (*expect)(void *context, uint32_t log, uint64_t stream, enum store_nearness nearness);
};

enum store_fate {
    STORE_DEAD, /* nobody needs it any more */
    STORE_LIVE,
    STORE_KEEP, /* not for this shard to say: the stream is another's, or was damaged */
};

/* Questions while the log is running; all are asked from inside slog_turn, never from store_append
 * or store_read. What slog_next_event gave before that turn has been applied: the answers speak of
 * exactly the records that were told as stored, and of nothing in flight. */
struct store_hooks {
    void *context;
    /* Is the message of this sequence, at this place, still needed? Asked for every message of a
     * segment that is to be packed, or of packs. STORE_KEEP leaves it as it is until a restart. */
    enum store_fate (*fate)(void *context, uint64_t stream, uint64_t seq, uint64_t place);
    /* The message lies elsewhere from now on, if it is still there; bytes for store_read. The old
     * place goes. ERR_MEMORY: it still stands; asked again later. */
    enum err (*moved)(void *context, uint64_t stream, uint64_t seq, uint64_t from, uint64_t to,
                      uint32_t bytes);
    /* Writes all that the stream is, but for headers, body and place of its messages, to out, which
     * is empty: a replay gives it back as the body of a CHECKPOINT. Configuration, consumers,
     * dedup, which sequences are live, time. ERR_INCOMPLETE: this was a piece; asked again in
     * another turn, for more of the same state, unless the store gives it up. ERR_UNKNOWN: there is
     * no such stream any more. ERR_BUSY, ERR_MEMORY: asked again later, from the beginning.
     * ERR_DENIED: as STORE_KEEP. */
    enum err (*checkpoint)(void *context, uint64_t stream, struct text *out);
    /* How many messages of the stream from seq_first to seq_last are still needed, wherever they
     * lie? A pack of which few are is written anew. NULL: packs stay as they are. */
    uint64_t (*count)(void *context, uint64_t stream, uint64_t seq_first, uint64_t seq_last);
};

#endif
