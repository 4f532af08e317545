/* The simulated disk keeps what it promises and loses what it may: many seeds per claim. */
#include <stdio.h>
#include <string.h>
#include "core/base/must.h"
#include "tests/sim/disk.h"

enum { SEEDS = 300, BYTES = 4096 };

static void on_done(struct vfs_op *op)
{
    *(bool *)op->context = true;
}

static enum err run(struct disk *d, struct vfs_op *op)
{
    bool is_done = false;
    op->done = on_done;
    op->context = &is_done;
    must(vfs_submit(&d->vfs, op) == ERR_OK);
    while (!is_done) must(disk_step(d));
    return op->result;
}

static struct vfs_file open_file(struct disk *d, const char *path, uint32_t flags)
{
    struct vfs_op op = {.kind = VFS_OPEN, .path = path, .flags = flags};
    must(run(d, &op) == ERR_OK);
    return op.file;
}

static enum err write_at(struct disk *d, struct vfs_file f, uint64_t offset, char fill,
                         bool is_durable)
{
    static char data[BYTES];
    memset(data, fill, sizeof data);
    struct vfs_op op = {.kind = VFS_WRITE,
                        .file = f,
                        .data = data,
                        .bytes = BYTES,
                        .offset = offset,
                        .is_durable = is_durable};
    return run(d, &op);
}

static enum err on_file(struct disk *d, struct vfs_file f, enum vfs_kind kind)
{
    struct vfs_op op = {.kind = kind, .file = f};
    return run(d, &op);
}

static enum err on_path(struct disk *d, enum vfs_kind kind, const char *path, const char *to)
{
    struct vfs_op op = {.kind = kind, .path = path, .path_to = to};
    return run(d, &op);
}

/* How many of BYTES at offset are fill; -1: the file is not there. */
static int count_fill(struct disk *d, const char *path, uint64_t offset, char fill)
{
    char data[BYTES];
    struct vfs_op op = {.kind = VFS_OPEN, .path = path};
    if (run(d, &op) != ERR_OK) return -1;
    struct vfs_op r = {
        .kind = VFS_READ, .file = op.file, .data = data, .bytes = BYTES, .offset = offset};
    must(run(d, &r) == ERR_OK);
    int n = 0;
    for (uint32_t i = 0; i < r.bytes_done; i++) n += data[i] == fill;
    must(on_file(d, op.file, VFS_CLOSE) == ERR_OK);
    return n;
}

struct seen {
    int none, whole, part;
};

static void see(struct seen *s, int n)
{
    if (n <= 0)
        s->none++;
    else if (n == BYTES)
        s->whole++;
    else
        s->part++;
}

static void flushed_bytes_survive_others_may_not(void)
{
    struct seen loose = {0};
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct disk d;
        disk_init(&d, seed);
        struct vfs_file f = open_file(&d, "a", VFS_CREATE);
        must(on_path(&d, VFS_FLUSH_DIR, "", NULL) == ERR_OK);
        must(write_at(&d, f, 0, 'x', false) == ERR_OK);
        must(on_file(&d, f, VFS_FLUSH) == ERR_OK);
        must(write_at(&d, f, BYTES, 'y', true) == ERR_OK);
        must(write_at(&d, f, 2 * BYTES, 'z', false) == ERR_OK);
        disk_crash(&d);
        must(count_fill(&d, "a", 0, 'x') == BYTES);
        must(count_fill(&d, "a", BYTES, 'y') == BYTES);
        see(&loose, count_fill(&d, "a", 2 * BYTES, 'z'));
        disk_deinit(&d);
    }
    must(loose.none > 0 && loose.part > 0);
}

static void a_flush_covers_no_write_that_was_in_flight(void)
{
    int lost = 0;
    char data[BYTES];
    memset(data, 'x', sizeof data);
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct disk d;
        bool is_written = false, is_flushed = false;
        disk_init(&d, seed);
        struct vfs_file f = open_file(&d, "a", VFS_CREATE);
        must(on_path(&d, VFS_FLUSH_DIR, "", NULL) == ERR_OK);
        struct vfs_op w = {.kind = VFS_WRITE,
                           .file = f,
                           .data = data,
                           .bytes = BYTES,
                           .done = on_done,
                           .context = &is_written};
        struct vfs_op s = {.kind = VFS_FLUSH, .file = f, .done = on_done, .context = &is_flushed};
        must(vfs_submit(&d.vfs, &w) == ERR_OK && vfs_submit(&d.vfs, &s) == ERR_OK);
        while (disk_step(&d)) continue;
        must(is_written && is_flushed);
        disk_crash(&d);
        if (count_fill(&d, "a", 0, 'x') != BYTES) lost++;
        disk_deinit(&d);
    }
    must(lost > 0);
}

static void names_need_a_flush_of_their_folder(void)
{
    int old = 0, new = 0, undone = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct disk d;
        disk_init(&d, seed);
        struct vfs_file f = open_file(&d, "a", VFS_CREATE);
        must(write_at(&d, f, 0, '1', true) == ERR_OK);
        must(on_path(&d, VFS_FLUSH_DIR, "", NULL) == ERR_OK);
        f = open_file(&d, "b", VFS_CREATE | VFS_EXCLUSIVE);
        must(write_at(&d, f, 0, '2', true) == ERR_OK);
        must(on_path(&d, VFS_RENAME, "b", "a") == ERR_OK);
        must(count_fill(&d, "a", 0, '2') == BYTES && count_fill(&d, "b", 0, '2') == -1);
        disk_crash(&d);
        /* The old or the new file is whole under the name; never none. */
        if (count_fill(&d, "a", 0, '1') == BYTES)
            old++;
        else if (count_fill(&d, "a", 0, '2') == BYTES)
            new ++;
        else
            must(false);
        disk_deinit(&d);

        disk_init(&d, seed);
        f = open_file(&d, "a", VFS_CREATE);
        must(write_at(&d, f, 0, '1', true) == ERR_OK);
        must(on_path(&d, VFS_FLUSH_DIR, "", NULL) == ERR_OK);
        must(on_path(&d, VFS_UNLINK, "a", NULL) == ERR_OK);
        disk_crash(&d);
        bool is_back = count_fill(&d, "a", 0, '1') == BYTES;
        undone += is_back;
        must(on_path(&d, VFS_UNLINK, "a", NULL) == (is_back ? ERR_OK : ERR_UNKNOWN));
        must(on_path(&d, VFS_FLUSH_DIR, "", NULL) == ERR_OK);
        disk_crash(&d);
        must(count_fill(&d, "a", 0, '1') == -1);
        disk_deinit(&d);
    }
    must(old > 0 && new > 0 && undone > 0 && undone < SEEDS);
}

static void faults_come_when_asked_for(void)
{
    struct disk d;
    disk_init(&d, 5);
    d.capacity_bytes = 4 * BYTES;
    d.faults = (struct disk_faults){
        .write_error_at = 2, .write_lost_at = 3, .read_flip_at = 2, .flush_error_at = 2};
    struct vfs_file f = open_file(&d, "a", VFS_CREATE);
    must(write_at(&d, f, 0, 'a', false) == ERR_OK);
    must(write_at(&d, f, BYTES, 'b', false) == ERR_IO);
    must(write_at(&d, f, 2 * BYTES, 'c', false) == ERR_OK);
    must(count_fill(&d, "a", 2 * BYTES, 'c') == 0); /* lost without a word */
    must(count_fill(&d, "a", 0, 'a') == BYTES - 1); /* one bit flipped */
    must(count_fill(&d, "a", 0, 'a') == BYTES);
    must(on_file(&d, f, VFS_FLUSH) == ERR_OK);
    must(on_file(&d, f, VFS_FLUSH) == ERR_IO);
    must(write_at(&d, f, 4 * BYTES, 'd', false) == ERR_NO_SPACE);
    must(on_path(&d, VFS_UNLINK, "none", NULL) == ERR_UNKNOWN);
    disk_rot(&d, "a", 7);
    must(count_fill(&d, "a", 0, 'a') == BYTES - 1);
    struct vfs_op list = {.kind = VFS_LIST, .path = "", .data = (char[64]){0}, .bytes = 64};
    must(run(&d, &list) == ERR_OK && list.bytes_done == 2 && strcmp(list.data, "a") == 0);
    disk_deinit(&d);
}

static void a_seed_replays(void)
{
    int first[8], again[8];
    for (int round = 0; round < 2; round++) {
        int *out = round == 0 ? first : again;
        struct disk d;
        disk_init(&d, 99);
        struct vfs_file f = open_file(&d, "a", VFS_CREATE);
        must(on_path(&d, VFS_FLUSH_DIR, "", NULL) == ERR_OK);
        for (int i = 0; i < 8; i++)
            must(write_at(&d, f, (uint64_t)i * BYTES, 'q', false) == ERR_OK);
        disk_crash(&d);
        for (int i = 0; i < 8; i++) out[i] = count_fill(&d, "a", (uint64_t)i * BYTES, 'q');
        disk_deinit(&d);
    }
    must(memcmp(first, again, sizeof first) == 0);
}

int main(void)
{
    flushed_bytes_survive_others_may_not();
    a_flush_covers_no_write_that_was_in_flight();
    names_need_a_flush_of_their_folder();
    faults_come_when_asked_for();
    a_seed_replays();
    puts("disk: ok");
    return 0;
}
