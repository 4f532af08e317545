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
 *    reported as lost and the rest comes all the same. Sequences are never renumbered.
 * 6. Events are handed out in the order in which they became true.
 *
 * Errors are those of core/base/err.h and stand at each call. Times are nanoseconds. */
#ifndef CORE_BASE_STORE_H
#define CORE_BASE_STORE_H
#include <stdbool.h>
#include <stdint.h>
#include "core/base/err.h"
#include "core/base/record.h"

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
    void (*expect)(struct store *s, uint64_t place, uint32_t bytes);
    uint32_t (*staged_percent)(const struct store *s);
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

/* A hint: this place will be read soon. Never fails, may do nothing. */
static inline void store_expect(struct store *s, uint64_t place, uint32_t bytes)
{
    s->ops->expect(s, place, bytes);
}

/* How much of the room for records that are not durable yet is taken: 0 to 100. From 75 on
 * publishers are to be slowed down (R5b). */
static inline uint32_t store_staged_percent(const struct store *s)
{
    return s->ops->staged_percent(s);
}

/* --- what the store asks of core ---------------------------------------------------------- */

enum store_lost_kind {
    STORE_LOST_DAMAGED, /* bytes that were durable cannot be read: rot, or a disk that lied */
    STORE_LOST_CUT,     /* what a crash left unfinished; nothing of it was acknowledged, unless
                           within the last second before the crash, see docs/FORMAT.md */
};

/* A range of one log that a replay had to pass over. */
struct store_lost {
    enum store_lost_kind kind;
    uint32_t log, segment;
    uint64_t offset, bytes; /* in the segment */
    uint64_t group;         /* number; 0: not known */
    uint32_t record_count;  /* how many records were in it, if has_count */
    bool has_count;
    uint64_t place_before; /* of the last good record before it; 0: none in this log */
};

/* Calls of a replay, in log order. A record's slices are valid during the call only. */
struct store_replay {
    void *context;
    /* ERR_OK to go on; anything else ends the replay with that error. */
    enum err (*record)(void *context, const struct record *r, const struct store_stub *stub);
    void (*lost)(void *context, const struct store_lost *lost);
    /* bytes_done of bytes_total read so far; may be NULL. */
    void (*progress)(void *context, uint64_t bytes_done, uint64_t bytes_total);
};

/* Questions while the log is running; all are called from inside slog_turn, never from
 * store_append or store_read. Every member may be NULL: then nothing is packed or recycled. */
struct store_hooks {
    void *context;
    /* Is this record still needed? Asked for records of packed segments, with the fields of the
     * record but without headers and body. MESSAGE: is this sequence, at this place, live. */
    bool (*is_live)(void *context, const struct record *head, uint64_t place);
    /* The live message moved. Called once per message, after the new place is durable. */
    void (*moved)(void *context, uint64_t stream, uint64_t seq, uint64_t place, uint32_t bytes);
    /* Append (now or in later turns) CHECKPOINT records of this stream, and tell by
     * slog_checkpointed when the last of them has its ticket: a segment that is to be recycled
     * holds its records. */
    void (*checkpoint)(void *context, uint64_t stream);
};

#endif
