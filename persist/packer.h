/* The job behind freeing a segment, or packs of which little is left: reads what they hold, then
 * writes what of it is still needed into a pack. Runs in steps of blocking calls, on the shard's
 * thread in tests and on a helper thread in the server; between any two the shard may be cut off.
 *
 *   IDLE -- packer_begin --> READING -- the whole segment was read --> LISTED
 *   IDLE -- packer_begin_packs --> READING: the indexes of a pack a step --> LISTED
 *   LISTED -- the shard has marked what is live; packer_pack --> LOADING (the segment's bytes, or
 *     the tables of the packs)
 *     --> BLOCKS, one a step --> INDEXES, one a step --> TABLES --> FLUSHING (file, folder)
 *     --> PACKED: the messages know where they lie in the pack
 *   IDLE -- packer_look --> LOOKING -- the directory of a pack was read --> LISTED
 *   IDLE -- packer_wipe --> WIPING: a file is overwritten --> WIPED
 *   LISTED, PACKED -- packer_discard --> DISCARDING: the file that was written goes --> FAILED
 *   any error --> FAILED, and the file that was begun is gone;   packer_end --> IDLE
 *
 * From READING and from LOADING on the job belongs to whoever runs packer_step, until that gives
 * false; else to the shard, who may also end it then. It touches nothing of the shard but what
 * stands here. */
#ifndef PERSIST_PACKER_H
#define PERSIST_PACKER_H
#include "core/base/mem.h"
#include "core/base/table.h"
#include "persist/blocking.h"
#include "persist/manifest.h"
#include "persist/names.h"
#include "persist/pack_index.h"
#include "persist/pack_source.h"
#include "persist/scan.h"

enum { PACKER_SOURCES_MAX = 16 };

enum packer_state {
    PACKER_IDLE,
    PACKER_READING,
    PACKER_LOOKING, /* at a pack */
    PACKER_LISTED,
    PACKER_LOADING,
    PACKER_BLOCKS,
    PACKER_INDEXES,
    PACKER_TABLES,
    PACKER_FLUSHING,
    PACKER_PACKED,
    PACKER_WIPING,
    PACKER_WIPED,
    PACKER_DISCARDING,
    PACKER_FAILED
};

struct packer_message {
    uint64_t seq;
    uint32_t stream;      /* index in streams */
    uint32_t at;          /* offset in the segment, or in its pack, in units of 8 */
    uint32_t to;          /* PACKED: offset among all records of the pack, in units of 8 */
    uint32_t bytes : 31;  /* of the record; PACKED: in the pack */
    uint32_t is_live : 1; /* the shard's word */
};

/* A pack that is rewritten. */
struct packer_source {
    struct manifest_pack pack;
    uint32_t end; /* behind its messages in the list */
    struct pack_source reader;
};

struct packer_stream {
    uint64_t id;
    uint32_t message_count, live_count;
    uint32_t order_at; /* behind its messages in the order of the pack */
};

struct packer {
    const struct blocking *files;
    struct mem *mem; /* of the thread that runs the steps; the shard only frees */
    bool is_direct;
    enum packer_state state;
    enum err result; /* FAILED: why; DISCARDING: why it will */
    uint64_t secret;
    uint32_t log;
    struct manifest_segment segment; /* or number and incarnation of what is written out of packs */
    uint32_t number; /* of the pack: that of the segment, unless the owner sets another one */
    struct manifest_pack pack; /* LOOKING: at this one */
    struct packer_source sources[PACKER_SOURCES_MAX];
    uint32_t source_count;           /* 0: a segment is packed */
    uint32_t source_at;              /* that is read */
    uint32_t source_bad;             /* FAILED with ERR_CORRUPT: which one */
    struct packer_message *messages; /* in the order of the log; of each pack in the pack's */
    uint32_t message_count, message_room;
    struct packer_stream *streams; /* every stream with any record in the segment */
    uint32_t stream_count, stream_room;
    struct table stream_index; /* of streams, by id; the value is the index plus one */
    uint32_t stream_last;      /* of the newest record */
    bool is_damaged;           /* parts of the segment do not validate */
    _Atomic bool is_cancelled; /* by the shard, whose end waits for the job */

    /* The pack. */
    uint32_t live_count;
    uint32_t *order; /* indexes of live messages, by stream, and in a stream by sequence */
    uint32_t order_at;
    struct scan scan; /* holds the whole segment */
    bool is_loaded;
    const char *data;
    struct names_text name;
    struct vfs_file file;
    bool is_open;
    uint64_t file_at;      /* where the next piece goes */
    uint64_t record_bytes; /* of all records so far */
    uint32_t block_count, index_count;
    struct text table, directory;
    struct text raw; /* of the piece that is made */
    char *piece;     /* as it goes to the file */
    size_t piece_room;
    struct pack_index *index;
    struct pack_zstd zstd, unzstd;
};

void packer_init(struct packer *p, const struct blocking *files, struct mem *mem, bool is_direct);
/* IDLE only; the segment is closed. */
void packer_begin(struct packer *p, const struct manifest *m, const struct manifest_segment *s);
/* IDLE only: what is live of count packs, which stand side by side in the manifest, goes into one
 * of this number. ERR_CORRUPT of the job: one of them is damaged. */
void packer_begin_packs(struct packer *p, const struct manifest *m,
                        const struct manifest_pack *packs, uint32_t count, uint32_t number);
/* LISTED: the packs from this one on stay as they are after all. */
void packer_leave_packs(struct packer *p, uint32_t first);
/* The pack that holds the message of this index. */
uint32_t packer_source_of(const struct packer *p, uint32_t message);
/* LISTED only, and some message is live. */
void packer_pack(struct packer *p);
/* LISTED or PACKED: nothing comes of it, for this reason, and no file of it stays. */
void packer_discard(struct packer *p, enum err why);
/* IDLE only: directory becomes that of a pack. */
void packer_look(struct packer *p, const struct manifest *m, const struct manifest_pack *pack);
/* IDLE only: overwrites a file that nobody uses. */
void packer_wipe(struct packer *p, const struct names_text *name);
/* Goes on by a step. False: it is the shard's turn: LISTED, PACKED, WIPED or FAILED. */
bool packer_step(struct packer *p);
/* True while steps are to be run. */
bool packer_is_running(const struct packer *p);
/* The job fails at its next step. On any thread. */
void packer_cancel(struct packer *p);
/* Gives back what it holds; in any state, with nobody inside packer_step. */
void packer_end(struct packer *p);

#endif
