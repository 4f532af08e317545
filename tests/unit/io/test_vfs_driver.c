#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "io/vfs_blocking.h"
#include "io/vfs_driver.h"

enum { BLOCK = 4096 };

/* The three ways to carry out the port; one world of the test runs on each. */
enum way { WAY_POLL, WAY_RING, WAY_BLOCKING, WAY_COUNT };

struct world {
    enum way way;
    char folder[64];
    struct driver *d;
    struct driver_faults faults;
    struct vfs_driver on_driver;
    struct vfs_blocking blocking;
    struct vfs *vfs;
    uint32_t done_count;
};

static bool world_open(struct world *w, enum way way)
{
    *w = (struct world){.way = way, .faults.error = 5 /* EIO */};
    struct driver_options o = {.slots_max = 4, .recv_buffer_bytes = 1 << 20, .faults = &w->faults};
    const char *reason;
    strcpy(w->folder, "/tmp/test_vfs_XXXXXX");
    if (way == WAY_POLL)
        cr_assert_eq(driver_poll_open(&o, &w->d, &reason), ERR_OK);
    else if (way == WAY_RING && driver_ring_open(&o, &w->d, &reason) != ERR_OK)
        return false; /* forbidden here */
    cr_assert_not_null(mkdtemp(w->folder));
    if (way == WAY_BLOCKING) {
        cr_assert_eq(vfs_blocking_open(&w->blocking, w->folder), ERR_OK);
        w->vfs = &w->blocking.vfs;
    } else {
        cr_assert_eq(vfs_driver_open(&w->on_driver, w->d, w->folder), ERR_OK);
        w->vfs = &w->on_driver.vfs;
    }
    return true;
}

static void world_close(struct world *w)
{
    if (w->way == WAY_BLOCKING) {
        vfs_blocking_close(&w->blocking);
    } else {
        vfs_driver_close(&w->on_driver);
        w->d->ops->close(w->d);
    }
    cr_assert_eq(rmdir(w->folder), 0);
}

static void op_done(struct vfs_op *op)
{
    ((struct world *)op->context)->done_count++;
}

static void step(struct world *w)
{
    if (w->way == WAY_BLOCKING) {
        cr_assert(vfs_blocking_step(&w->blocking));
        return;
    }
    struct done done[8];
    uint32_t count = w->d->ops->poll(w->d, done, 8, UINT64_MAX);
    for (uint32_t i = 0; i < count; i++) vfs_driver_done(&w->on_driver, &done[i]);
}

static enum err run(struct world *w, struct vfs_op *op)
{
    op->done = op_done;
    op->context = w;
    uint32_t before = w->done_count;
    cr_assert_eq(vfs_submit(w->vfs, op), ERR_OK);
    cr_assert_eq(w->done_count, before, "never from inside submit");
    while (w->done_count == before) step(w);
    return op->result;
}

static enum err run_path(struct world *w, enum vfs_kind kind, const char *path, const char *to)
{
    struct vfs_op op = {.kind = kind, .path = path, .path_to = to};
    return run(w, &op);
}

static void use_a_store(struct world *w)
{
    cr_assert_eq(run_path(w, VFS_MAKE_DIR, "logs", NULL), ERR_OK);
    cr_assert_eq(run_path(w, VFS_MAKE_DIR, "logs", NULL), ERR_OK);
    cr_assert_eq(run_path(w, VFS_FLUSH_DIR, "", NULL), ERR_OK);
    struct vfs_op op = {.kind = VFS_OPEN, .path = "logs/1"};
    cr_assert_eq(run(w, &op), ERR_UNKNOWN);
    op = (struct vfs_op){.kind = VFS_OPEN, .path = "logs/1", .flags = VFS_CREATE | VFS_EXCLUSIVE};
    cr_assert_eq(run(w, &op), ERR_OK);
    struct vfs_file file = op.file;
    cr_assert_eq(run(w, &op), ERR_EXISTS);
    op = (struct vfs_op){.kind = VFS_ALLOCATE, .file = file, .size = 16 * BLOCK};
    cr_assert_eq(run(w, &op), ERR_OK);

    char *block = aligned_alloc(BLOCK, BLOCK);
    memset(block, 'x', BLOCK);
    for (uint32_t i = 0; i < 4; i++) {
        op = (struct vfs_op){.kind = VFS_WRITE,
                             .file = file,
                             .data = block,
                             .bytes = BLOCK,
                             .offset = (uint64_t)i * BLOCK,
                             .is_durable = i % 2 == 0};
        cr_assert_eq(run(w, &op), ERR_OK);
        cr_assert_eq(op.bytes_done, BLOCK);
    }
    op = (struct vfs_op){.kind = VFS_FLUSH, .file = file};
    cr_assert_eq(run(w, &op), ERR_OK);
    op = (struct vfs_op){.kind = VFS_TRUNCATE, .file = file, .size = BLOCK + 100};
    cr_assert_eq(run(w, &op), ERR_OK);
    op = (struct vfs_op){.kind = VFS_SIZE, .file = file};
    cr_assert_eq(run(w, &op), ERR_OK);
    cr_assert_eq(op.size, BLOCK + 100);
    memset(block, 0, BLOCK);
    op = (struct vfs_op){
        .kind = VFS_READ, .file = file, .data = block, .bytes = BLOCK, .offset = BLOCK};
    cr_assert_eq(run(w, &op), ERR_OK);
    cr_assert_eq(op.bytes_done, 100, "the end of file");
    cr_assert_eq(block[99], 'x');
    cr_assert_eq(block[100], 0);
    op = (struct vfs_op){.kind = VFS_CLOSE, .file = file};
    cr_assert_eq(run(w, &op), ERR_OK);

    cr_assert_eq(run_path(w, VFS_RENAME, "logs/1", "logs/two"), ERR_OK);
    cr_assert_eq(run_path(w, VFS_FLUSH_DIR, "logs", NULL), ERR_OK);
    op = (struct vfs_op){.kind = VFS_LIST, .path = "logs", .data = block, .bytes = BLOCK};
    cr_assert_eq(run(w, &op), ERR_OK);
    cr_assert_eq(op.bytes_done, 4);
    cr_assert_str_eq(block, "two");
    op.offset = 1;
    cr_assert_eq(run(w, &op), ERR_OK);
    cr_assert_eq(op.bytes_done, 0);
    op.offset = 0;
    op.bytes = 3;
    cr_assert_eq(run(w, &op), ERR_INVALID, "no room for one name");
    free(block);
    cr_assert_eq(run_path(w, VFS_UNLINK, "logs/1", NULL), ERR_UNKNOWN);
    cr_assert_eq(run_path(w, VFS_UNLINK, "logs/two", NULL), ERR_OK);
    char path[80];
    snprintf(path, sizeof path, "%s/logs", w->folder);
    cr_assert_eq(rmdir(path), 0);
}

Test(vfs_driver, a_store_can_live_on_each_implementation)
{
    for (int way = 0; way < WAY_COUNT; way++) {
        struct world w;
        if (!world_open(&w, (enum way)way)) continue;
        use_a_store(&w);
        world_close(&w);
    }
}

Test(vfs_driver, a_failed_operation_is_an_error_of_the_store)
{
    for (int way = WAY_POLL; way <= WAY_RING; way++) {
        struct world w;
        if (!world_open(&w, (enum way)way)) continue;
        w.faults.file_at = 2;
        cr_assert_eq(run_path(&w, VFS_FLUSH_DIR, "", NULL), ERR_OK);
        cr_assert_eq(run_path(&w, VFS_FLUSH_DIR, "", NULL), ERR_IO);
        cr_assert_eq(run_path(&w, VFS_FLUSH_DIR, "", NULL), ERR_OK);
        world_close(&w);
    }
}

Test(vfs_driver, a_long_listing_comes_in_parts)
{
    struct world w;
    world_open(&w, WAY_BLOCKING);
    char name[16];
    for (int i = 0; i < 30; i++) {
        snprintf(name, sizeof name, "file%02d", i);
        cr_assert_eq(run_path(&w, VFS_MAKE_DIR, name, NULL), ERR_OK);
    }
    char names[40];
    bool has_seen[30] = {false};
    uint32_t count = 0;
    struct vfs_op op = {.kind = VFS_LIST, .path = "", .data = names, .bytes = sizeof names};
    while (run(&w, &op) == ERR_OK && op.bytes_done > 0) {
        for (uint32_t at = 0; at < op.bytes_done; at += (uint32_t)strlen(names + at) + 1) {
            int i = (int)strtol(names + at + 4, NULL, 10);
            cr_assert_not(has_seen[i]);
            has_seen[i] = true;
            count++;
            op.offset++;
        }
    }
    cr_assert_eq(count, 30);
    for (int i = 0; i < 30; i++) {
        char path[90];
        snprintf(path, sizeof path, "%s/file%02d", w.folder, i);
        rmdir(path);
    }
    world_close(&w);
}

Test(vfs_driver, a_store_without_folder_is_refused)
{
    struct vfs_blocking v;
    cr_assert_eq(vfs_blocking_open(&v, "/nonexistent/store"), ERR_UNKNOWN);
}

Test(vfs_driver, reads_ahead_go_on_beside_other_operations_of_the_blocking_port)
{
    struct world w;
    char data[4][8];
    bool is_open = world_open(&w, WAY_BLOCKING);
    cr_assert(is_open);
    struct vfs_op op = {.kind = VFS_OPEN, .path = "f", .flags = VFS_CREATE};
    cr_assert_eq(run(&w, &op), ERR_OK);
    struct vfs_op write = {.kind = VFS_WRITE, .file = op.file, .data = "0123456789", .bytes = 10};
    cr_assert_eq(run(&w, &write), ERR_OK);
    struct vfs_op reads[4];
    for (uint32_t i = 0; i < 4; i++) {
        reads[i] = (struct vfs_op){.kind = VFS_READ,
                                   .file = op.file,
                                   .data = data[i],
                                   .bytes = 8,
                                   .offset = i * 2,
                                   .flags = VFS_AHEAD,
                                   .done = op_done,
                                   .context = &w};
        cr_assert_eq(vfs_submit(w.vfs, &reads[i]), ERR_OK);
    }
    uint32_t before = w.done_count;
    struct vfs_op size = {.kind = VFS_SIZE, .file = op.file};
    cr_assert_eq(run(&w, &size), ERR_OK, "it does not wait for them");
    cr_assert_eq(w.done_count, before + 1);
    while (w.done_count < before + 5) step(&w);
    cr_assert_not(vfs_blocking_step(&w.blocking), "nothing is on its way");
    for (uint32_t i = 0; i < 4; i++) {
        cr_assert_eq(reads[i].result, ERR_OK);
        cr_assert_eq(reads[i].bytes_done, i < 2 ? 8 : 10 - 2 * i);
        cr_assert_eq(memcmp(data[i], "0123456789" + i * 2, reads[i].bytes_done), 0);
    }
    struct vfs_op close = {.kind = VFS_CLOSE, .file = op.file};
    cr_assert_eq(run(&w, &close), ERR_OK);
    struct vfs_op unlink = {.kind = VFS_UNLINK, .path = "f"};
    cr_assert_eq(run(&w, &unlink), ERR_OK);
    world_close(&w);
}
