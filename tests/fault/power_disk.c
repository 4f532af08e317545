/* A disk with a volatile write cache, for nbdkit: what is written is there until the power goes;
 * then only what a flush covered is, and a share of the rest, sector by sector.
 *
 *   nbdkit -f -U SOCKET power_disk.so file=IMAGE control=PATH
 *
 * A line "SHARE SEED" to the socket at PATH cuts the power: of the sectors that no flush covered
 * each is written to the image with SHARE percent, every later call fails, and the answer is
 * "VOLATILE KEPT FLUSHES". */
#define NBDKIT_API_VERSION 2
#include <errno.h>
#include <fcntl.h>
#include <nbdkit-plugin.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS

enum { SECTOR_BYTES = 512 };

/* One disk a process: nbdkit's plugins have no other place for it. */
static struct {
    const char *image, *control;
    char *now, *stable; /* the same file: private, shared */
    uint64_t bytes;
    bool *is_dirty; /* by sector */
    uint64_t *dirty, dirty_count;
    uint64_t flushes;
    bool is_off;
    pthread_mutex_t lock; /* against the cut */
    int listener;
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void keep(uint64_t sector)
{
    memcpy(disk.stable + sector * SECTOR_BYTES, disk.now + sector * SECTOR_BYTES, SECTOR_BYTES);
}

static uint64_t cut(unsigned share, unsigned seed)
{
    uint64_t kept = 0;
    disk.is_off = true;
    for (uint64_t i = 0; i < disk.dirty_count; i++) {
        if ((unsigned)rand_r(&seed) % 100 >= share) continue;
        keep(disk.dirty[i]);
        kept++;
    }
    return kept;
}

static void *wait_for_cut(void *unused)
{
    char line[100] = "";
    unsigned share = 0, seed = 0;
    (void)unused;
    int from = accept(disk.listener, NULL, NULL);
    if (from < 0 || read(from, line, sizeof line - 1) <= 0 ||
        sscanf(line, "%u %u", &share, &seed) != 2)
        return NULL;
    pthread_mutex_lock(&disk.lock);
    uint64_t kept = cut(share, seed);
    int n = snprintf(line, sizeof line, "%llu %llu %llu\n", (unsigned long long)disk.dirty_count,
                     (unsigned long long)kept, (unsigned long long)disk.flushes);
    pthread_mutex_unlock(&disk.lock);
    if (write(from, line, (size_t)n) != n) perror("control");
    close(from);
    return NULL;
}

static int power_config(const char *key, const char *value)
{
    if (strcmp(key, "file") == 0)
        disk.image = nbdkit_absolute_path(value);
    else if (strcmp(key, "control") == 0)
        disk.control = nbdkit_absolute_path(value);
    else {
        nbdkit_error("unknown parameter %s", key);
        return -1;
    }
    return 0;
}

static int power_get_ready(void)
{
    struct stat s;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = open(disk.image, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &s) != 0) {
        nbdkit_error("%s: %m", disk.image);
        return -1;
    }
    disk.bytes = (uint64_t)s.st_size;
    disk.now = mmap(NULL, disk.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
    disk.stable = mmap(NULL, disk.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    disk.is_dirty = calloc(disk.bytes / SECTOR_BYTES, sizeof *disk.is_dirty);
    disk.dirty = calloc(disk.bytes / SECTOR_BYTES, sizeof *disk.dirty);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", disk.control);
    disk.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (disk.now == MAP_FAILED || disk.stable == MAP_FAILED || disk.is_dirty == NULL ||
        disk.dirty == NULL || disk.listener < 0 ||
        bind(disk.listener, (struct sockaddr *)&a, sizeof a) != 0 ||
        listen(disk.listener, 1) != 0) {
        nbdkit_error("no memory or no socket: %m");
        return -1;
    }
    return 0;
}

static int power_after_fork(void)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, wait_for_cut, NULL) == 0 ? 0 : -1;
}

static void *power_open(int is_read_only)
{
    (void)is_read_only;
    return &disk;
}

static int64_t power_get_size(void *handle)
{
    (void)handle;
    return (int64_t)disk.bytes;
}

/* 0, or -1 with the error of a disk without power; the lock is held then or not at all. */
static int enter(void)
{
    pthread_mutex_lock(&disk.lock);
    if (!disk.is_off) return 0;
    pthread_mutex_unlock(&disk.lock);
    nbdkit_set_error(EIO);
    return -1;
}

static int power_pread(void *handle, void *out, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle;
    (void)flags;
    if (enter() != 0) return -1;
    memcpy(out, disk.now + offset, count);
    pthread_mutex_unlock(&disk.lock);
    return 0;
}

static int power_pwrite(void *handle, const void *data, uint32_t count, uint64_t offset,
                        uint32_t flags)
{
    (void)handle;
    (void)flags;
    if (enter() != 0) return -1;
    memcpy(disk.now + offset, data, count);
    for (uint64_t s = offset / SECTOR_BYTES; s * SECTOR_BYTES < offset + count; s++) {
        if (disk.is_dirty[s]) continue;
        disk.is_dirty[s] = true;
        disk.dirty[disk.dirty_count++] = s;
    }
    pthread_mutex_unlock(&disk.lock);
    return 0;
}

static int power_flush(void *handle, uint32_t flags)
{
    (void)handle;
    (void)flags;
    if (enter() != 0) return -1;
    for (uint64_t i = 0; i < disk.dirty_count; i++) {
        keep(disk.dirty[i]);
        disk.is_dirty[disk.dirty[i]] = false;
    }
    disk.dirty_count = 0;
    disk.flushes++;
    pthread_mutex_unlock(&disk.lock);
    return 0;
}

static int power_can_multi_conn(void *handle)
{
    (void)handle;
    return 1; /* one cache for all */
}

static struct nbdkit_plugin plugin = {
    .name = "power-disk",
    .config = power_config,
    .get_ready = power_get_ready,
    .after_fork = power_after_fork,
    .open = power_open,
    .get_size = power_get_size,
    .pread = power_pread,
    .pwrite = power_pwrite,
    .flush = power_flush,
    .can_multi_conn = power_can_multi_conn,
};

NBDKIT_REGISTER_PLUGIN(plugin)
