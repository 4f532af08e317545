/* A simulated disk behind persist/vfs.h: what a crash leaves is decided by its seed.
 *
 * Bytes written are volatile until a flush of the file, or a durable write of those very bytes,
 * ended; names (create, rename, unlink) until their folder is flushed. A crash takes each volatile
 * 512-byte sector as old, new or torn (a part of each), each by its own throw, and each folder's
 * names since its flush as far as a random point in their order. Two files of one name are
 * two files: what a crash undoes by name keeps the bytes it had. The end of the process takes only
 * what was in flight: all else stays, as volatile as it was.
 *
 * Faults on request: errors and no space at the n-th call of a kind; a write that reports success
 * and never reaches the disk (lost), reaches another place (misdirected), or half of it (torn); a
 * read that finds old bytes (stale) or a flipped bit. Operations end in random order. */
#ifndef TESTS_SIM_DISK_H
#define TESTS_SIM_DISK_H
#include "core/base/rng.h"
#include "persist/vfs.h"

enum {
    DISK_SECTOR_BYTES = 512,
    DISK_FILES_MAX = 2048,
    DISK_HANDLES_MAX = 256,
    DISK_NAMES_MAX = 512,
    DISK_CHANGES_MAX = 1024,
    DISK_OPS_MAX = 256,
    DISK_PATH_BYTES = 128
};

struct disk_faults { /* the n-th from 1; 0 never */
    uint64_t write_error_at, flush_error_at, read_error_at, space_error_at;
    uint64_t write_errors;  /* so many in a row fail; 0: one */
    bool is_space_late;     /* no space is found out when half of it is written */
    uint64_t short_read_at; /* half of it comes, as at the end of a file */
    uint64_t call_error_at; /* of all others: open, rename, unlink, truncate, list ... */
    uint64_t write_lost_at, write_misdirected_at, write_torn_at, read_stale_at, read_flip_at;
    uint64_t writes, flushes, reads, allocations, calls; /* so far */
};

struct disk_file { /* bytes without a name */
    char *now, *stable;
    uint64_t now_bytes, stable_bytes; /* sizes */
    uint64_t reserved;                /* bytes that it has on the disk, at least */
    uint64_t capacity;
    uint64_t used;      /* behind it both have zeros only; who changes now himself sets it */
    uint64_t *is_dirty; /* by sector: number of its first change since it was stable; 0 none */
    uint64_t dirty_first, dirty_end; /* of them: outside none is dirty */
    bool is_touched;                 /* since the last crash, after which now and stable are one */
    uint64_t stable_hash;
    bool is_hashed;
    bool is_bad; /* every write of it fails */
};

struct disk_name {
    char path[DISK_PATH_BYTES]; /* empty: free */
    int32_t file;               /* -1: a folder */
};

struct disk_change { /* of names, not flushed yet */
    char path[DISK_PATH_BYTES];
    char path_from[DISK_PATH_BYTES]; /* rename: the name that went; else empty */
    int32_t file;                    /* -1: a folder; -2: unlinked */
};

/* What of the volatile things survives a crash, chosen instead of thrown. They stand in a row:
 * changes of names in their order, files with bytes that no flush covers, writes in flight in the
 * order of their submission. A name after one that was lost is lost too. */
enum disk_fate_kind {
    DISK_FATE_RANDOM,
    DISK_FATE_NONE, /* survives */
    DISK_FATE_ALL,
    DISK_FATE_PREFIX,     /* those before index */
    DISK_FATE_MISSING,    /* all but index */
    DISK_FATE_TORN,       /* all, but of index a part only */
    DISK_FATE_TORN_ALONE, /* none, but of index a part */
    DISK_FATE_EACH,       /* by the digits of index in base 3: none, a part, all of it */
};

struct disk_fate {
    enum disk_fate_kind kind;
    uint32_t index;
};

struct disk {
    struct vfs vfs;        /* hand this out */
    struct disk_fate fate; /* of the next crash */
    bool is_in_order;      /* operations end in the order of their submission */
    bool is_bad_sector;    /* every read fails */
    struct rng rng;
    struct disk_file files[DISK_FILES_MAX];
    uint32_t file_count;
    struct disk_name names[DISK_NAMES_MAX], stable_names[DISK_NAMES_MAX];
    struct disk_change changes[DISK_CHANGES_MAX];
    uint32_t change_count;
    int32_t handles[DISK_HANDLES_MAX]; /* file + 1; 0 free */
    struct vfs_op *ops[DISK_OPS_MAX];
    uint32_t op_count;
    uint64_t capacity_bytes; /* of all files; 0: no limit */
    struct disk_faults faults;
    uint64_t crashes, ended;
};

void disk_init(struct disk *d, uint64_t seed);
void disk_deinit(struct disk *d);
/* By all files that have names. */
uint64_t disk_used_bytes(const struct disk *d);
/* Ends one operation in flight, any of them. False: none is. */
bool disk_step(struct disk *d);
/* The power fails: operations in flight are forgotten (done is not called; each may have reached
 * the disk in part), handles are gone, the rest is as the head of this file says. */
void disk_crash(struct disk *d);
/* The process is killed, the machine goes on. */
void disk_kill(struct disk *d);
/* How many things the next crash decides about. */
uint32_t disk_volatile_count(const struct disk *d);
/* Stands for all that a crash now would leave, with a fate that is not random: disks of one hash
 * are one disk to whoever starts on it. */
uint64_t disk_hash_after(struct disk *d, struct disk_fate fate);
/* Flips one bit of what is stored under path, beneath every checksum. */
void disk_rot(struct disk *d, const char *path, uint64_t offset);

#endif
