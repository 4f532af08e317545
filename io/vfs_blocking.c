#include "io/vfs_blocking.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "core/base/must.h"
#include "io/file_threads.h"

enum { AHEAD_THREADS = 3 };

/* The operation's own words link it to the next one while it waits. */
static struct vfs_op *next_of(const struct vfs_op *op)
{
    struct vfs_op *next;
    memcpy(&next, op->port, sizeof next);
    return next;
}

static void set_next(struct vfs_op *op, struct vfs_op *next)
{
    memcpy(op->port, &next, sizeof next);
}

/* On a thread of the pool. */
static void on_read(void *context)
{
    struct vfs_blocking *v = context;
    sem_post(&v->has_read);
}

/* False: no thread could be started. */
static bool read_ahead(struct vfs_blocking *v, struct vfs_op *op)
{
    if (v->threads == NULL && file_threads_open(AHEAD_THREADS, on_read, v, &v->threads) != ERR_OK)
        return false;
    struct file_op *file_op = (struct file_op *)op->port;
    vfs_driver_to_file_op(op, v->folder_fd, file_op);
    file_op->user = op;
    if (file_threads_submit(v->threads, file_op) != ERR_OK) return false;
    v->flying_count++;
    return true;
}

static enum err blocking_submit(struct vfs *vfs, struct vfs_op *op)
{
    struct vfs_blocking *v = (struct vfs_blocking *)vfs;
    if (op->kind == VFS_READ && (op->flags & VFS_AHEAD) != 0 && read_ahead(v, op)) return ERR_OK;
    set_next(op, NULL);
    if (v->last == NULL)
        v->first = op;
    else
        set_next(v->last, op);
    v->last = op;
    return ERR_OK;
}

static const struct vfs_ops blocking_ops = {.submit = blocking_submit};

enum err vfs_blocking_open(struct vfs_blocking *v, const char *folder)
{
    struct vfs_driver of_folder;
    enum err e = vfs_driver_open(&of_folder, NULL, folder);
    if (e != ERR_OK) return e;
    *v = (struct vfs_blocking){.vfs.ops = &blocking_ops, .folder_fd = of_folder.folder_fd};
    sem_init(&v->has_read, 0, 0);
    return ERR_OK;
}

void vfs_blocking_close(struct vfs_blocking *v)
{
    must(v->first == NULL);
    if (v->threads != NULL) file_threads_close(v->threads);
    sem_destroy(&v->has_read);
    close(v->folder_fd);
}

static bool take_reads(struct vfs_blocking *v)
{
    if (v->flying_count == 0) return false;
    while (sem_wait(&v->has_read) != 0) continue; /* a signal */
    struct file_op *file_op = file_threads_take(v->threads);
    while (file_op != NULL) {
        struct file_op *next = file_op->next;
        struct vfs_op *op = file_op->user;
        v->flying_count--;
        vfs_driver_set_result(op, file_op, file_op->result, &v->scarce);
        op->done(op);
        file_op = next;
    }
    return true;
}

bool vfs_blocking_step(struct vfs_blocking *v)
{
    struct vfs_op *op = v->first;
    if (op == NULL) return take_reads(v);
    v->first = next_of(op);
    if (v->first == NULL) v->last = NULL;
    if (op->path != NULL && op->path[0] != 0) snprintf(v->file, sizeof v->file, "%s", op->path);
    struct file_op file_op;
    vfs_driver_to_file_op(op, v->folder_fd, &file_op);
    int32_t result = file_threads_run(&file_op);
    vfs_driver_set_result(op, &file_op, result, &v->scarce);
    op->done(op);
    return true;
}
