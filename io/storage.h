/* The store of JetStream: its folder, its lock, what a start finds in it, and the logs of each
 * shard as the shard's thread drives them.
 *
 *   main:  storage_open: folder, lock, direct I/O or not, recovery into one struct js per log, and
 *          what they hold into the directory
 *   shard: storage_open_log -> turns (io/turn calls slog_turn) -> storage_stop_log ->
 *          turns until storage_is_stopped -> storage_close_log
 *   main:  storage_close */
#ifndef IO_STORAGE_H
#define IO_STORAGE_H
#include <limits.h>
#include <stdatomic.h>
#include "core/js/js.h"
#include "core/shard/shard.h"
#include "io/helper.h"
#include "io/log.h"
#include "io/mem_jemalloc.h"
#include "io/vfs_blocking.h"
#include "io/vfs_driver.h"
#include "persist/recovery.h"
#include "persist/slog.h"

struct account_numbers;

struct storage;

/* Files of one thread that could not be opened: descriptors were missing. */
struct storage_scarce {
    const struct storage *storage;
    uint64_t told_ns, count;
};

/* Segments that are full are packed by a thread of its own, for all shards one after the other. */
struct storage_packing {
    struct helper_job job;
    struct packer *packer;
    struct vfs_blocking vfs;
    struct blocking files;
    struct storage_scarce scarce;
    struct mem_jemalloc mem;
    struct store_hooks hooks;
    struct slog_helper helper;
    _Atomic bool is_done;
};

/* One log: a shard serves those whose number is its own modulo the number of shards. */
struct storage_log {
    struct js js;
    struct slog log;
    struct storage_packing packing;
    struct storage *storage;
    uint32_t number;
    bool has_js, has_log, has_packing;
    /* Of the recovery, which is of the whole store: log 0 tells it. */
    int64_t recovery_ns;
    uint64_t damaged_ranges, damaged_bytes;
    uint64_t unwiped_told;
};

/* Files of all logs of a shard. */
struct storage_files {
    struct vfs_driver vfs;
    struct storage_scarce scarce;
    uint32_t log_count; /* open ones */
};

struct storage {
    struct log *log; /* the server's, for people */
    struct mem *mem;
    struct account_numbers *numbers;
    const struct options *options;
    char folder[PATH_MAX];
    char domain[256]; /* options go with a reload */
    int lock_fd, folder_fd;
    bool is_direct;
    _Atomic bool is_removed; /* by somebody, while it is in use */
    struct recovery recovery;
    struct storage_log *logs; /* [log_count], and room for PLACE_LOGS_MAX */
    uint32_t log_count;       /* at least one for each shard */
    uint32_t shard_count;
    struct mem **shard_mem;      /* [shard_count], the caller's */
    struct storage_files *files; /* [shard_count] */
    struct directory directory;  /* of shard 0, once it runs */
    bool has_directory;
    uint64_t memory_bytes;
    struct shard_time now;           /* of the start */
    int64_t memory_max, storage_max; /* bytes of streams */
    uint64_t sync_interval_ns;       /* 0: always */
    uint64_t damaged_count, cut_count, skipped_count;
    uint64_t homeless; /* messages of streams that nothing else is left of */
    uint64_t record_count; /* replayed */
    uint64_t told_ns; /* progress was logged last */
    bool is_seeded;
    bool has_refused; /* a stream's own record made no sense: it may be there all the same */
    struct helper_pool *packers;
    struct mem_jemalloc_budget *budget;
};

struct storage_options {
    struct log *log;
    struct mem *mem; /* of the calling thread */
    struct account_numbers *numbers;
    const struct options *options;
    uint32_t shard_count;
    struct mem **shard_mem; /* [shard_count] */
    struct mem_jemalloc_budget *budget;
    struct shard_time now;
};

/* Takes the folder and replays what lies there. On an error reason says why, and nothing is held.
 * ERR_DENIED: another server has it, or it cannot be used. ERR_CLOSED: INT or TERM came meanwhile;
 * what a start changes is what the next one expects. Else as recovery_open. */
NODISCARD enum err storage_open(struct storage *x, const struct storage_options *o, char *reason,
                                size_t reason_bytes);
/* Each second: whether the files are still there. */
void storage_watch(struct storage *x);
/* Every log is closed. */
void storage_close(struct storage *x);

/* On the thread of the log's shard. */
NODISCARD enum err storage_open_log(struct storage *x, uint32_t log, struct driver *d);
/* It takes records, or will not do so soon. */
bool storage_is_ready(const struct storage *x, uint32_t log);
struct shard_store storage_port(struct storage *x, uint32_t log);
void storage_stop_log(struct storage *x, uint32_t log);
bool storage_is_stopped(const struct storage *x, uint32_t log);
/* The log itself has; a job may still run. */
bool storage_is_written(const struct storage *x, uint32_t log);
void storage_close_log(struct storage *x, uint32_t log);

#endif
