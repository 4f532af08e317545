/* The store of a simulated server: what io/storage and io/vfs_driver are to the real one, on a
 * simulated disk. It outlives the server: a life opens what the last one left.
 *
 * An operation takes a while of simulated time and ends in any order; its shard hears of it from
 * its driver. The power may fail between any two steps of the world, and at any operation of a
 * recovery. */
#ifndef TESTS_SIM_SIMSTORE_H
#define TESTS_SIM_SIMSTORE_H
#include "core/js/js.h"
#include "core/shard/shard.h"
#include "persist/recovery.h"
#include "persist/slog.h"
#include "tests/sim/clock.h"
#include "tests/sim/disk.h"
#include "tests/sim/net.h"

enum { SIMSTORE_LOGS_MAX = NET_SHARDS_MAX };

struct simstore_op { /* of a shard, on its way */
    struct vfs_op op;
    struct vfs_op *of; /* the caller's */
    struct simstore_shard *shard;
    struct simstore_op *next, **place;
};

struct simstore_shard { /* a log of it */
    struct vfs vfs;     /* first */
    struct simstore *store;
    struct net_driver *driver;
    struct js js;
    struct slog log;
    struct simstore_op *ops;
    struct store_hooks hooks;
    bool has_js, has_log;
};

struct simstore_life { /* what a server lends to the store while it runs */
    struct clock *clock;
    struct mem *mem;
    struct account_numbers *numbers;
    uint32_t shard_count;
    struct mem *shard_mem[SIMSTORE_LOGS_MAX];
    uint64_t message_bytes_max;
    struct shard_time now;
    uint64_t steps; /* the power fails at this operation of the recovery; 0: it does not */
};

struct simstore {
    struct disk disk;
    struct rng rng;
    uint32_t segment_bytes, group_bytes;
    bool frees;      /* segments: checkpoints and packs */
    bool is_relaxed; /* with a sync interval; a crash is the end of the process alone */
    uint32_t slow;   /* one operation in so many takes long */
    struct simstore_life life;
    struct simstore_shard shards[SIMSTORE_LOGS_MAX];
    struct directory directory;
    bool has_directory;
    uint32_t twins; /* streams whose names another log has too */
    struct recovery recovery;
    struct blocking blocking, files; /* of recovery; of packing */
    bool is_recovered, is_off;
    uint64_t steps_left;
    uint64_t damaged, skipped, cuts; /* seen by recoveries */
    uint64_t checkpoints, moves;     /* what freeing segments asked for */
    uint64_t pieces;                 /* of checkpoints, that were not the last one */
    uint64_t cut_groups, records, reads, failures, segments;
    uint64_t dropped, rewritten; /* packs */
};

void simstore_init(struct simstore *x, uint64_t seed);
void simstore_deinit(struct simstore *x);
/* Recovers. ERR_CLOSED: the power failed meanwhile. */
NODISCARD enum err simstore_open(struct simstore *x, const struct simstore_life *life);
/* Log n is of shard n modulo their number. */
uint32_t simstore_log_count(const struct simstore *x);
NODISCARD enum err simstore_open_log(struct simstore *x, uint32_t log, struct net_driver *d);
struct js *simstore_js(struct simstore *x, uint32_t shard);
struct slog *simstore_log(struct simstore *x, uint32_t shard);
struct shard_store simstore_port(struct simstore *x, uint32_t shard);
/* Every log takes records. */
bool simstore_is_ready(const struct simstore *x);
/* A log takes none until the next start. */
bool simstore_is_read_only(const struct simstore *x);
/* user is that of DONE_FILE. */
void simstore_done(struct simstore *x, void *user);
void simstore_stop_log(struct simstore *x, uint32_t shard);
bool simstore_is_stopped(const struct simstore *x, uint32_t shard);
void simstore_close_log(struct simstore *x, uint32_t shard);
void simstore_close(struct simstore *x);
/* The power fails, or the process ends: the disk keeps what a throw of the dice says, memory of the
 * life is forgotten, not freed. */
void simstore_crash(struct simstore *x);

#endif
