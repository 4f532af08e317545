/* Frees the oldest segment of a log, again and again (P8): what of it is live goes elsewhere, what
 * the streams became by its records goes into checkpoints at the log's end, one manifest write lets
 * go of it, its file becomes a ready segment.
 *
 *   IDLE -- the oldest segment is closed, and too many are --> READING (persist/packer)
 *     --> ASKING: which messages are live, a slice per turn. STORE_KEEP: PINNED until a restart,
 *         as when parts of it do not validate
 *     --> WRITING them into a pack, if there are any (persist/packer)
 *     --> CHECKPOINTING: each stream with records in it has a durable checkpoint behind it; then
 *         each a second one, which never shares a block with the first
 *     --> NAMING: the manifest without the segment, with the pack, with the new start of a replay
 *     --> MOVING: core is told the new places, a slice per turn
 *     --> DRAINING: no read is in the old file any more
 *     --> RENAMING, OPENING, FLUSHING: the file has a new number --> the log names it as ready
 *          \-- enough are ready: UNLINKING --> IDLE
 *   A segment that is to be scrubbed goes first of all, and is overwritten behind DRAINING
 * (WIPING), or unlinked as it is if it takes no write; a pack likewise, behind SHEDDING.
 *   An error before NAMING: PAUSED for a while --> IDLE: nothing happened.
 *   An error after it: the file is left to the next start, which removes it --> IDLE
 *
 * Between two segments, and now and then, one pack is looked at:
 *
 *   IDLE --> LOOKING: its directory is read (persist/packer) --> JUDGING: core is asked how many
 *        messages of each range are needed, a slice per turn
 *        \-- few are: the pack behind it is looked at too, and so on: a run of them
 *        \-- many are, or the run is long enough --> IDLE, without a run
 *
 * A run, or one of small packs side by side, becomes one pack in their place, or none:
 *
 *   READING: what they hold --> ASKING --> WRITING --> CHECKPOINTING of each stream that loses
 *     messages --> NAMING: the manifest with the new pack in their place --> MOVING
 *     --> SHEDDING: no read is in one of them any more --> UNLINKING, one after the other --> IDLE
 *   an error before NAMING: IDLE; they are looked at again after a while, damaged ones never
 *
 * 1. Segments go in the order of the log, so no tombstone leaves before what it kills.
 * 2. A segment is looked at only when everything in it was told as stored.
 * 3. A checkpoint counts when its first part lies behind the segment, all of it is durable, and it
 *    stands for every record in the segment.
 * 4. What core said is not needed goes only when the records that made it so are durable.
 * 5. What is not in a pack any more is not live in any checkpoint that a start may use: else
 * records behind that would be applied to fewer messages than when they were made, and a purge that
 * keeps some would keep others.
 * 6. A pack is rewritten when at most COMPACT_SPARSE_PERCENT of it is needed: so at most two bytes
 *    are written for three that are freed, and packs take at most 2.5 times what is needed of them
 *    once each was looked at. On a full disk more of it may be needed.
 * 7. The log may hold the newest checkpoints twice over before a segment is freed for its length,
 *    or they would be written again and again on a server that has nothing to do.
 * Part of slog, on its thread; only the packer may run elsewhere. */
#ifndef PERSIST_COMPACT_H
#define PERSIST_COMPACT_H
#include "core/base/table.h"
#include "core/base/text.h"
#include "persist/names.h"
#include "persist/packer.h"

enum {
    COMPACT_ASK_SLICE = 4096,      /* messages asked about in a turn */
    COMPACT_JUDGE_SLICE = 1024,    /* indexes of a pack */
    COMPACT_CHECKPOINT_SLICE = 64, /* streams looked at in a turn */
    COMPACT_STAGED_PERCENT = 50,   /* of the room for staged records: no checkpoint above */
    COMPACT_PART_BYTES = 128 * 1024,
    COMPACT_COPIES = 2, /* of each checkpoint, before what they stand for goes */
    COMPACT_SPARSE_PERCENT = 40,
    COMPACT_FULL_PERCENT = 75,      /* likewise, on a full disk */
    COMPACT_RUN_MESSAGES = 1 << 20, /* in a run, unless one pack has more */
    COMPACT_SMALL_PART = 64,        /* of a segment: a pack of that size is small */
    COMPACT_SMALL_RUN = 8,          /* so many side by side become one */
};

#define COMPACT_RETRY_NS 1000000000u      /* after an error; twice as long after each further one */
#define COMPACT_RETRY_MAX_NS 16000000000u /* a full disk is not read for nothing all the time */
#define COMPACT_BUSY_NS 1000000u          /* after core said ERR_BUSY; likewise */
#define COMPACT_BUSY_MAX_NS 512000000u
#define COMPACT_LOOK_NS 1000000000u     /* from one look at a pack to the next */
#define COMPACT_LOOK_SOON_NS 100000000u /* when something was stored since the last one */
#define COMPACT_POLL_NS 2000000u        /* whether the job that runs elsewhere is done */

enum compact_state {
    COMPACT_IDLE,
    COMPACT_READING,
    COMPACT_ASKING,
    COMPACT_WRITING,
    COMPACT_CHECKPOINTING,
    COMPACT_NAMING,
    COMPACT_MOVING,
    COMPACT_DRAINING,
    COMPACT_RENAMING,
    COMPACT_OPENING,
    COMPACT_FLUSHING,
    COMPACT_UNLINKING,
    COMPACT_LOOKING,
    COMPACT_JUDGING,
    COMPACT_SHEDDING,
    COMPACT_WIPING,
    COMPACT_PAUSED,
    COMPACT_PINNED
};

/* A checkpoint that this log wrote. */
struct compact_copy {
    uint64_t group;   /* it stands for all records up to it */
    uint64_t ticket;  /* of its last part; 0: not all parts are appended */
    uint32_t segment; /* of its first part */
};

/* The two newest of a stream: if parts of one rot, the other one is there. */
struct compact_done {
    uint64_t stream;
    struct compact_copy copies[COMPACT_COPIES];
    uint32_t newest;
    uint64_t bytes;      /* of the records of the newest */
    uint64_t end_ticket; /* of the stream's STREAM_GONE, in flight or told; 0: it lives */
};

struct compact_counts {
    uint64_t segments, recycled, packs, pack_bytes, messages, live, checkpoints;
    uint64_t pieces; /* of checkpoints, that were not the last one */
    uint64_t checkpoint_bytes, errors;
    uint64_t wiped;              /* files */
    uint64_t unwiped;            /* likewise: removed as they were, since they take no write */
    uint64_t rewritten, dropped; /* packs: something of their run is left, or nothing */
    uint64_t freed_bytes;        /* of files of packs, beyond what was written for them */
};

struct slog;

struct compact {
    enum compact_state state;
    struct packer packer;
    bool is_job_out; /* somebody else runs the packer */
    uint64_t resume_ns;
    uint64_t retry_ns, busy_ns; /* the next pause */
    uint32_t ask_at, move_at, stream_at;
    uint32_t copies;   /* that each stream is to have now */
    bool is_measuring; /* on a full disk: what the job's checkpoints would take, before any is */
    bool is_measured;  /* written; they may be */
    uint64_t measured_bytes;
    uint64_t ticket_last; /* of any checkpoint */
    uint64_t held_bytes;  /* of the newest checkpoint of each stream */
    bool has_pack;
    struct manifest_pack run[PACKER_SOURCES_MAX]; /* packs to be rewritten, side by side */
    uint32_t run_count;
    bool is_run;        /* they are what the job is about, not segment */
    uint64_t run_bytes; /* needed of them, about */
    uint64_t run_messages;
    uint32_t shed_at;
    bool scrubs_output;        /* what is written may hold what was erased for good meanwhile */
    bool is_wiped;             /* the file that goes */
    bool is_unwipeable;        /* it takes no write: it goes as it is */
    struct manifest_pack pack; /* that is looked at */
    size_t judge_at;           /* in its directory */
    uint64_t judge_bytes;      /* that are needed, so far */
    uint64_t look_ns;          /* the next look */
    uint64_t looked_ticket;    /* told_ticket at the last one */
    uint64_t look_retry_ns;    /* the next pause after a rewrite that failed */
    bool looks_at_oldest;      /* in turns with the one behind look_after */
    uint32_t look_after;       /* index of the pack */
    struct table done;         /* of struct compact_done, by stream */
    struct text body;          /* of the checkpoint that is being appended */
    size_t body_at;
    struct compact_done *writing; /* whose it is; NULL none */
    bool is_collecting;           /* core has given a part of it, of the state as of this group: */
    uint64_t collect_group;
    uint32_t part, slot;
    uint64_t part_bytes;
    uint64_t asked_group; /* core's answers stand on records up to this group */
    uint64_t wanted;      /* manifest change that lets go of the segment, or of the run */
    struct manifest_segment segment; /* that is freed; of a run: what its checkpoints stand for */
    uint32_t pack_number;            /* of the pack, once it is named */
    enum err packer_result;          /* of the last job, if it failed */
    uint32_t number;                 /* that its file gets */
    struct names_text from, to;
    struct vfs_op op;
    bool is_flying;
    struct vfs_file file;
    struct compact_counts counts;
};

/* So many closed segments more may wait, since checkpoints take so much of the log. */
uint32_t compact_extra(const struct slog *l);
void compact_init(struct slog *l);
void compact_deinit(struct slog *l);
/* Once a turn: goes on by a slice while the log is RUNNING. */
void compact_turn(struct slog *l);
/* When compact_turn has something to do without any completion; UINT64_MAX: never. */
uint64_t compact_deadline_ns(const struct slog *l);
/* The end of a stream is appended next: no checkpoint of it may begin behind that, since it would
 * outlive the record of the end. ERR_MEMORY. */
NODISCARD enum err compact_prepare_end(struct slog *l, uint64_t stream);
void compact_end(struct slog *l, uint64_t stream, uint64_t ticket);
/* No record from this ticket on was stored. */
void compact_unstage(struct slog *l, uint64_t ticket);
/* What lies at this place was erased for good: the job at hand is told. */
void compact_scrub(struct slog *l, uint64_t place);
/* Packs are to be scrubbed, or a file is being. */
bool compact_is_scrubbing(const struct slog *l);
/* True when the log may stop: nothing of it is in flight here, and nothing will be begun. A job
 * that is out is told to end, and goes on for as long as the disk takes. */
bool compact_stop(struct slog *l);

#endif
