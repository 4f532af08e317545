/* The store of JetStream: its folder, its lock, what a start finds in it, and the log of each shard
 * as the shard's thread drives it.
 *
 *   main:  storage_open: folder, lock, direct I/O or not, recovery into one struct js per shard
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

/* Segments that are full are packed by a thread of its own, for all shards one after the other. */
struct storage_packing {
    struct helper_job job;
    struct packer *packer;
    struct vfs_blocking vfs;
    struct blocking files;
    struct mem_jemalloc mem;
    struct store_hooks hooks;
    struct slog_helper helper;
    _Atomic bool is_done;
};

/* One shard's part. */
struct storage_shard {
    struct js js;
    struct slog log;
    struct vfs_driver vfs;
    struct storage_packing packing;
    struct storage *storage;
    bool has_js, has_log, has_packing;
    /* Of the recovery, which is of the whole store: shard 0 tells it. */
    int64_t recovery_ns;
    uint64_t damaged_ranges, damaged_bytes;
};

struct storage {
    struct log *log; /* the server's, for people */
    struct mem *mem;
    struct account_numbers *numbers;
    const struct options *options;
    char folder[PATH_MAX];
    char domain[256]; /* options go with a reload */
    int lock_fd;
    bool is_direct;
    struct recovery recovery;
    struct storage_shard *shards;
    uint32_t shard_count;
    int64_t memory_max, storage_max; /* bytes of streams */
    uint64_t sync_interval_ns;       /* 0: always */
    uint64_t damaged_count, cut_count, skipped_count;
    uint64_t told_ns; /* progress was logged last */
    bool is_seeded;
    bool has_refused; /* a stream's own record made no sense: it may be there all the same */
    bool is_mixed;    /* streams have records in logs of other shards: nothing is freed */
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
 * ERR_DENIED: another server has it, or it cannot be used. Else as recovery_open. */
NODISCARD enum err storage_open(struct storage *x, const struct storage_options *o, char *reason,
                                size_t reason_bytes);
/* Every log is closed. */
void storage_close(struct storage *x);

/* On the shard's thread. */
NODISCARD enum err storage_open_log(struct storage *x, uint32_t shard, struct driver *d);
/* It takes records, or will not do so soon. */
bool storage_is_ready(const struct storage *x, uint32_t shard);
struct shard_store storage_port(struct storage *x, uint32_t shard);
void storage_stop_log(struct storage *x, uint32_t shard);
bool storage_is_stopped(const struct storage *x, uint32_t shard);
void storage_close_log(struct storage *x, uint32_t shard);

#endif
