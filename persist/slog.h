/* The log of one shard, running: the store port of core on segments, groups and a manifest.
 *
 *   OPENING -- the first segment is ready --> RUNNING
 *   RUNNING -- a write failed --> FAILING: nothing is sent or accepted; once nothing flies, the cut
 *       goes into the manifest --> RUNNING in the next segment, STORE_FAILED is told
 *                             \-- that failed too, slog_give_up --> READ_ONLY, STORE_FAILED is
 * told
 *   RUNNING -- slog_stop --> STOPPING: all is written, the manifest says so, files close -->
 * STOPPED
 *
 * 1. A ticket is told as stored only when its group and all before it landed, each by a durable
 *    write (P1). With a sync interval: each by a write that outlives the process; flushes follow in
 *    the background, in the order of the log, and what they covered is durable. A flush that fails
 *    is never repeated: the log goes on in another segment as after a failed write.
 * 2. A segment takes groups only when the manifest that names it is durable (P5, P7).
 * 3. After a failed write nothing more of that segment is told as stored (P3).
 * 4. Messages never take the last ready segment, and stay out of it: it is the reserve of deletes,
 *    acks and configuration while the disk is full (P9). Checkpoints are measured then: those that
 *    would take more than half of what is left are not begun.
 * 5. What was erased for good is off the disk SLOG_SCRUB_NS and one round of freeing later: the
 *    segments that hold it are closed, freed out of turn and overwritten, packs written anew. From
 *    slog_scrub on the manifest says so, before any checkpoint stands for the record that asks for
 * it.
 * 6. behind_percent counts all of the disk that publishers can outrun: segments made ahead,
 *    flushes, segments that wait to be freed. At 100 they are refused.
 * Belongs to one shard. Takes over after recovery_open; everything here is asynchronous. */
#ifndef PERSIST_SLOG_H
#define PERSIST_SLOG_H
#include "core/base/store.h"
#include "persist/commit.h"
#include "persist/compact.h"
#include "persist/manifest.h"
#include "persist/pair.h"
#include "persist/reader.h"
#include "persist/segment.h"

enum {
    SLOG_FLYING_MAX = 4, /* groups */
    SLOG_OLD_MAX = 8,    /* earlier segments whose groups still fly; no move beyond half of it */
    SLOG_READY_MADE = 2, /* segments made ahead: the next one and the reserve */
    SLOG_SMALLEST_PART = 64,  /* of a segment, where the disk has no room for a whole one */
    SLOG_MANIFEST_PART = 256, /* of a segment: room for a copy of the manifest, for 4000 entries */
    SLOG_READY_MAX = 3,       /* with those that come back from freed segments */
    SLOG_SEALED_MAX = 16,     /* that wait to be freed; beyond, publishers wait */
    SLOG_EVENTS_MAX = 4,      /* STORED and FAILED not taken yet; STORED ones merge */
    SLOG_WRITE_BYTES_MAX = 1024 * 1024, /* of one write; a larger group takes several */
    /* Not flushed yet: beyond it the kernel may let a writer wait for the disk, so no write is done
     * by the shard's thread itself. */
    SLOG_DIRTY_BYTES_MAX = 8 * 1024 * 1024,
};

#define SLOG_SCRUB_NS 15000000000u    /* for all that is erased for good meanwhile */
#define SLOG_SCRUB_STEP_NS 5000000u   /* a pass waits for files: it looks again */
#define SLOG_IDLE_NS 1000000000u      /* then an empty group says what is durable */
#define SLOG_RETRY_NS 1000000000u     /* after a segment could not be made */
#define SLOG_MEMORY_RETRY_NS 1000000u /* after a read, or the manifest, found no memory */
/* With a sync interval: from the beginning of one flush to that of the next, at least. What a power
 * cut takes is bounded by it and the time of a flush, what flushes cost by it alone. */
#define SLOG_FLUSH_PAUSE_NS 10000000u

enum slog_state {
    SLOG_OPENING,
    SLOG_RUNNING,
    SLOG_FAILING,
    SLOG_READ_ONLY,
    SLOG_STOPPING,
    SLOG_STOPPED
};

/* Where jobs run that would take a shard's thread too long. Both are called from slog_turn. */
struct slog_helper {
    void *context;
    /* Calls packer_step on another thread until it gives false. False: not now. */
    bool (*start)(void *context, struct packer *p);
    /* It has: nobody touches the packer any more. */
    bool (*is_done)(void *context);
};

struct slog_options {
    struct vfs *vfs;
    struct mem *mem;
    uint32_t segment_bytes; /* PLACE_SEGMENT_BYTES_MAX, or less in tests; multiple of 4096 */
    uint32_t group_bytes;   /* COMMIT_GROUP_BYTES, or less in tests */
    uint64_t staging_bytes; /* groups on their way, and the tail that stays readable */
    uint64_t cache_bytes;   /* of blocks read back */
    bool is_direct;         /* the file system can do direct I/O */
    /* 0: a group is durable when it landed. Else what is stored outlives the process, and is
     * durable after so long at the latest. */
    uint64_t sync_interval_ns;
    /* Freeing segments; without hooks or files nothing is freed. */
    const struct store_hooks *hooks;
    const struct blocking *files;     /* for the job: of the thread that runs it */
    struct mem *files_mem;            /* likewise */
    const struct slog_helper *helper; /* runs the job elsewhere; NULL: slog_turn does, in steps */
    uint32_t sealed_wait;             /* closed segments that are left as they are */
    uint64_t scrub_wait_ns;           /* SLOG_SCRUB_NS, or less in tests; 0: that */
};

struct slog_ready {
    uint32_t number;
    uint64_t size;
    struct vfs_file file;
    bool is_open;     /* false: of an earlier start, opened when its turn comes */
    bool is_small;    /* there was no room for a whole one: publishers stay out of it */
    bool is_scrubbed; /* something of an earlier life is to be overwritten */
};

struct slog_flight {
    struct vfs_op op;
    struct slog *log;
    struct commit_group *group; /* NULL: free */
    uint32_t sent;              /* bytes of it */
};

/* A segment before the current one whose file is still open: groups of it fly, or are not durable.
 */
struct slog_old {
    uint32_t segment;
    struct vfs_file file;
    uint64_t group_last, ticket_last; /* no group behind it is in this segment */
};

struct slog_counts {
    uint64_t records, record_bytes, groups, group_bytes, failures, manifests, segments, flushes;
};

struct slog {
    struct store store; /* hand this out */
    struct slog_options options;
    enum slog_state state;
    struct manifest manifest; /* as it is to be on disk */
    struct pair pair;
    char *manifest_data;
    uint32_t manifest_bytes;
    uint64_t manifest_wanted, manifest_writing, manifest_written; /* count changes */
    struct commit commit;
    struct reader reader;
    struct segment maker;
    bool is_making;
    uint64_t small_bytes; /* of the next one to be made, on a full disk; 0: a whole one */
    uint64_t make_wanted; /* manifest change that makes the newest segment usable; 0 none */
    uint64_t retry_ns;    /* no new segment is tried before */
    bool has_no_space;
    struct slog_ready made; /* waits for the manifest */
    struct slog_ready ready[SLOG_READY_MAX];
    uint32_t ready_count;
    uint32_t current; /* segment that takes groups; 0 none */
    struct vfs_file current_file;
    struct slog_old olds[SLOG_OLD_MAX];
    uint32_t old_count;
    struct slog_flight flights[SLOG_FLYING_MAX];
    uint32_t flying; /* operations of flights and closes */
    struct vfs_op close_op;
    bool is_closing;
    bool is_stop_wanted; /* by slog_stop, while a failure is settled */
    /* With a sync interval. */
    struct vfs_op flush_op;
    bool is_flushing;
    bool has_lost_flush; /* one failed: what it was to cover may be on disk or not */
    uint64_t flush_group, flush_ticket, flush_bytes; /* that it covers */
    uint64_t flush_ns;                               /* it began, or the last one did */
    uint64_t dirty_bytes;                            /* that landed and no flush covered */
    enum err failure;
    uint64_t fail_wanted; /* manifest change that holds the cut; 0 none yet */
    uint64_t announced;   /* durable group that the newest sent header names */
    uint64_t last_group_with_records;
    uint64_t now_ns, last_append_ns;
    uint64_t told_group, told_ticket; /* everything up to them was told as stored */
    uint64_t scrub_ns;   /* the next pass over what is to be overwritten begins; 0: there is none */
    bool is_scrubbing;   /* a pass is on its way: */
    uint32_t scrub_last; /* through segments up to this one */
    uint64_t scrub_wanted; /* manifest change that says what is to be overwritten */
    struct compact compact;
    struct store_event events[SLOG_EVENTS_MAX];
    uint64_t event_groups[SLOG_EVENTS_MAX]; /* of STORED */
    uint32_t untold_count; /* failures whose event was not followed by another call for events */
    bool is_telling;       /* the last event handed out was one */
    uint32_t event_count;
    struct slog_counts counts;
};

/* own: the log's manifest as recovery left it on disk; all[count]: those of every log of the store,
 * own among them, whose closed segments can be read. They stay the caller's.
 * ERR_MEMORY: nothing to close. */
NODISCARD enum err slog_open(struct slog *l, const struct slog_options *o,
                             const struct manifest *own, const struct manifest *all,
                             uint32_t count);
/* Once at the end of each turn: sends what is open, makes segments, goes on after failures. */
void slog_turn(struct slog *l, uint64_t now_ns);
/* Time at which slog_turn has something to do without any completion; UINT64_MAX: never. */
uint64_t slog_deadline_ns(const struct slog *l);
/* The next event; its slices are valid until the next call on this log. False: none now. */
bool slog_next_event(struct slog *l, struct store_event *out);
/* Records were stored, or failed, and nobody has asked yet. */
static inline bool slog_has_event(const struct slog *l)
{
    return l->event_count > 0;
}
/* Goes on in the next segment, so that this one can be freed. ERR_FULL: none is ready, or the open
 * one is empty. */
NODISCARD enum err slog_seal(struct slog *l);
/* What lies at this place was erased for good: its bytes are to be off the disk soon. Once the
 * erasure was told as stored, or before. */
void slog_scrub(struct slog *l, uint64_t place);
/* Somebody else runs the job still: files_mem, files and the log must stay, though the log may have
 * stopped by then. */
bool slog_is_helped(const struct slog *l);
/* Its files are not there any more: as when a write and the next attempt failed. */
void slog_give_up(struct slog *l);
/* Begins a clean stop; go on with turns until the state is STOPPED. */
void slog_stop(struct slog *l);
/* Frees everything. STOPPED, or the port is gone for good. */
void slog_close(struct slog *l);

/* --- for persist/compact ------------------------------------------------------------------ */

/* How files of segments are opened. */
uint32_t slog_file_flags(const struct slog *l);
/* As store_append, for records of the log itself. */
NODISCARD enum err slog_append_own(struct slog *l, const struct record *r, struct store_stub *out);
/* Bytes that are left for groups in the current segment and those that are ready. */
uint64_t slog_room(const struct slog *l);
/* The number of a pack that is written out of others. False: a segment is being made. */
NODISCARD bool slog_take_number(struct slog *l, uint32_t *number);
/* A freed file may become the segment of this number. False: another is being made. */
NODISCARD bool slog_begin_recycling(struct slog *l, uint32_t *number);
/* It has, or could not (NULL). is_wiped: nothing of its earlier life is left in it. */
void slog_end_recycling(struct slog *l, const struct slog_ready *ready, bool is_wiped);

#endif
