/* Opens a store after anything: keeps what is valid, replays it, reports what is missing and why,
 * and leaves every log ready for appending. Runs once at each start, before any log is opened, by
 * blocking calls on one thread. The rules are those of docs/FORMAT.md, "What is valid".
 *
 *   root read -> manifests of new logs made -> root written with the next incarnation
 *     -> segments that were in use flushed: what is found in them is going to count as durable
 *     -> segments scanned in the order (incarnation, log, segment): cuts and checkpoints
 *     -> checkpoints given -> segments in that order: records given
 *     -> manifest of each log written with the cut -> files that no manifest names removed, unless
 *        they may be needed after all (persist/orphans.h)
 *
 * Every step may be cut off by a crash; the next start does it again and comes to the same end.
 * Nothing that holds a record is written or removed here. */
#ifndef PERSIST_RECOVERY_H
#define PERSIST_RECOVERY_H
#include "core/base/mem.h"
#include "core/base/store.h"
#include "persist/blocking.h"
#include "persist/manifest.h"
#include "persist/root.h"

/* What `check` wants to know beside what a start does. */
struct recovery_watch {
    /* A part of a pack is damaged of which nothing is lost: what it says is said elsewhere too. */
    void (*copy)(void *context, const char *what, const struct store_lost *range);
    /* This message was in the range that was told as lost just before. */
    void (*message)(void *context, uint64_t stream, uint64_t seq);
    /* Packed messages are given by their blocks, headers and body included. */
    bool is_whole;
};

struct recovery_options {
    const struct blocking *blocking;
    struct mem *mem;
    uint32_t log_count; /* shards of this start; more logs may be there already */
    uint64_t new_store; /* random, used if there is no store yet */
    uint64_t new_secret;
    bool is_direct;                     /* the file system can do direct I/O */
    bool is_read_only;                  /* `check`: nothing is created, written or removed */
    bool is_thorough;                   /* `check`: every block of every pack is read too */
    struct store_replay replay;         /* record may be NULL: nobody wants them */
    const struct recovery_watch *watch; /* NULL, or with the context of replay; is_thorough */
    /* This file is kept though no manifest names it; with the context of replay; may be NULL. */
    void (*kept)(void *context, const char *name);
};

struct recovery_counts {
    uint64_t bytes_read, bytes_total;
    uint64_t groups, records;
    uint64_t damaged_ranges, damaged_bytes;
    uint64_t cut_groups; /* valid ones that were cut */
    uint64_t read_errors;
    uint64_t damaged_indexes; /* of packs; what they say was found elsewhere */
    uint64_t unwiped;         /* files that were to be overwritten: removed as they were */
    uint64_t left;            /* files that no manifest names, and that cannot be removed */
    uint64_t kept;            /* such that may be needed after all */
};

struct recovery {
    struct recovery_options options;
    struct root root;
    struct manifest *logs; /* [log_count]: as they are on disk when ERR_OK was given */
    uint32_t log_count;
    uint32_t log_room;
    bool is_new;         /* there was no store */
    bool keeps_all;      /* a file that is newer than its manifest could not be renamed */
    uint64_t stream_max; /* no new stream may have this id or a lower one */
    struct recovery_counts counts;
};

/* ERR_OK: the store is open; end it with recovery_close once the logs took their manifests.
 * ERR_UNSUPPORTED: a newer format; untouched. ERR_CORRUPT: root or a manifest has no valid copy;
 * untouched. ERR_IO: something that decides about a cut cannot be read now; nothing was cut.
 * ERR_NO_SPACE, ERR_DENIED, ERR_FULL, ERR_MEMORY; ERR_CLOSED: the pump gave up. What a replay
 * callback returned. After an error nothing is to be closed. */
NODISCARD enum err recovery_open(struct recovery *r, const struct recovery_options *o);
void recovery_close(struct recovery *r);

#endif
