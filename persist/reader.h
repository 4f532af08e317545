/* Reads records of any log or pack of the store by place, through a bounded cache of blocks. A
 * block of a segment is a stretch of the file; that of a pack is what the pack calls a block,
 * unpacked.
 *
 * A request of store_read that cannot be answered at once waits here:
 *
 *   WAITING -- its blocks are loaded, or its exact range is --> READY -- reader_next --> told
 *
 * Usually the blocks around a record are loaded, and the next one when reading goes forward. A
 * record larger than a block, or in a block that the disk cannot read as a whole, is read exactly.
 * A record that does not validate is read again from the disk once before it is told as lost.
 * Owner: the shard of the log. Never writes. */
#ifndef PERSIST_READER_H
#define PERSIST_READER_H
#include "core/base/store.h"
#include "persist/pack_table.h"
#include "persist/read_cache.h"
#include "persist/vfs.h"

enum {
    READER_LOADS_MAX = 8,   /* blocks in flight */
    READER_DAMAGE_MAX = 64, /* ranges that are told apart */
    READER_EXACT_MAX = 4,   /* exact ranges in flight or not taken yet */
    READER_FILES_MAX = 64,  /* segments open at a time */
};

enum reader_file_state { READER_CLOSED, READER_OPENING, READER_OPEN, READER_CLOSING };

/* Of a pack, once its file is open: where its blocks lie. The second copy first, then the other. */
enum reader_table_state { READER_NO_TABLE, READER_FEET, READER_TABLE, READER_HAS_TABLE };

struct reader_segment {
    struct place_key key; /* segment: the number of the pack */
    bool is_packed;
    uint64_t size;
    uint64_t written; /* bytes that can be read; grows while the segment is written to */
    struct pack_table table;
    enum reader_table_state table_state;
    enum err table_result; /* why it could not be read */
    struct vfs_file file;
    enum reader_file_state state;
    enum err open_result; /* of the last open that failed */
    uint32_t flying;
};

struct reader_load {
    struct vfs_op op;
    struct reader *reader;
    uint64_t order;                 /* of the file */
    struct read_cache_block *block; /* NULL: free, or opens or closes a file */
    uint32_t valid_bytes;
    struct pack_table_entry packed; /* of a pack: the block */
    char *memory;                   /* of a pack: the piece as it lies in the file, and around it */
    uint64_t memory_bytes;
    bool is_busy;
    char name[40]; /* of the file that is opened */
};

struct reader_exact {
    struct vfs_op op;
    struct reader *reader;
    struct store_read *request; /* NULL: free */
    uint64_t order;
    struct pack_table_entry packed; /* of a pack: the block */
    char *raw;                      /* of a pack: the block, unpacked; NULL before */
    char *memory, *data;            /* data: from the block of 4096 that holds the first byte */
    uint64_t memory_bytes;
    bool is_done;
};

/* The table of a pack, on its way; one at a time. */
struct reader_tabling {
    struct vfs_op op;
    uint64_t order;
    uint32_t copy;
    uint64_t offset;
    uint32_t bytes;
    char *memory, *data;
    uint64_t memory_bytes;
    bool is_busy;
};

struct reader_list {
    struct store_read *first, *last;
};

/* Where the last record was found, which mostly holds the next one too. */
struct reader_near {
    const struct read_cache_block *block; /* NULL: nowhere */
    uint64_t key;                         /* of the block, while it holds what it did */
    struct place_key place;               /* of the segment */
};

struct reader_counts {
    uint64_t reads, waits, read_bytes, corrupt, errors;
    uint64_t damaged_ranges, damaged_bytes; /* different ones */
};

/* What could not be read for good: a record of a log, or the block of a pack that holds it. */
struct reader_damage {
    struct store_lost range;
    uint64_t stream, seq; /* that were asked for */
};

struct reader {
    struct vfs *vfs;
    struct mem *mem;
    uint64_t secret;
    uint32_t flags;                  /* VFS_DIRECT or 0 */
    struct reader_segment *segments; /* by (log, segment) */
    uint32_t segment_count, segment_room;
    uint32_t open_count;
    struct read_cache cache;
    struct reader_load loads[READER_LOADS_MAX];
    struct reader_exact exact[READER_EXACT_MAX];
    struct reader_tabling tabling;
    struct pack_zstd zstd;      /* made with the first pack */
    struct reader_exact *given; /* its record was told last; freed at the next call */
    struct reader_list waiting, ready;
    struct read_cache_block *held[2]; /* of the oldest that waits; pinned, so it gets on */
    struct reader_near near;
    uint64_t ahead_at; /* the stretch of the last answer: what follows it was asked for */
    char *scratch;     /* one block: a record that lies across two */
    uint32_t flying;
    bool is_stopping;
    struct reader_counts counts;
    struct reader_damage damage[READER_DAMAGE_MAX];
    uint32_t damage_count, damage_told;
};

/* ERR_MEMORY: nothing to end. */
NODISCARD enum err reader_init(struct reader *r, struct vfs *vfs, struct mem *mem, uint64_t secret,
                               uint32_t flags, uint64_t cache_bytes);
/* Nothing may be in flight, or the port is gone for good. Requests that wait are dropped. */
void reader_deinit(struct reader *r);
/* Makes a segment known. ERR_MEMORY: nothing changed. */
NODISCARD enum err reader_add(struct reader *r, uint32_t log, uint32_t segment,
                              uint32_t incarnation, uint64_t size, uint64_t written);
/* The same for a pack. */
NODISCARD enum err reader_add_pack(struct reader *r, uint32_t log, uint32_t pack,
                                   uint32_t incarnation, uint64_t size);
/* More of it can be read. */
void reader_set_written(struct reader *r, uint32_t log, uint32_t segment, uint64_t written);
/* Nothing is asked of the segment any more: its file is closed, then it is unknown. False: not yet,
 * a read is in it or waits for it; call again. True as well for one that is not known. */
NODISCARD bool reader_retire(struct reader *r, bool is_packed, uint32_t log, uint32_t segment);
/* As store_read, for records that are not in the tail. */
NODISCARD enum err reader_read(struct reader *r, struct store_read *q, struct record *out);
/* The next request that ended; its record is valid until the next call of a reader function. */
bool reader_next(struct reader *r, struct store_event *out);
/* Damage that was met since the last call, each range once. False: none, or more than anybody wants
 * to be told of. */
bool reader_next_damage(struct reader *r, struct reader_damage *out);
/* Lets go of all files; requests that wait end with ERR_CLOSED. Idle once flying is 0. */
void reader_stop(struct reader *r);

#endif
