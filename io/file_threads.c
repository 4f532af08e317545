#include "io/file_threads.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include "core/base/must.h"
#include "io/mem_jemalloc.h"

enum { FILE_THREADS_MAX = 8 };

/* A first-in first-out list through file_op.next. */
struct op_queue {
    struct file_op *first;
    struct file_op **last; /* where the next one is linked */
};

struct file_threads {
    void (*ring)(void *context);
    void *context;
    uint32_t thread_count; /* wanted */
    uint32_t started_count;
    pthread_t threads[FILE_THREADS_MAX];
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t has_work;
    struct op_queue waiting;
    struct op_queue finished;
    bool is_closing;
};

static void op_queue_init(struct op_queue *q)
{
    q->first = NULL;
    q->last = &q->first;
}

static void op_queue_push(struct op_queue *q, struct file_op *op)
{
    op->next = NULL;
    *q->last = op;
    q->last = &op->next;
}

static struct file_op *op_queue_pop(struct op_queue *q)
{
    struct file_op *op = q->first;
    if (op == NULL) return NULL;
    q->first = op->next;
    if (q->first == NULL) q->last = &q->first;
    return op;
}

static int64_t run_size(struct file_op *op)
{
    struct stat st;
    int result = fstat(op->fd, &st);
    if (result == 0) op->size_result = (uint64_t)st.st_size;
    return result;
}

static int64_t run_flush_dir(struct file_op *op)
{
    int fd = openat(op->fd, op->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -1;
    /* Not fdatasync: new names need not change what it counts as data of a directory. */
    int result = fsync(fd), error = errno;
    close(fd);
    errno = error;
    return result;
}

static int64_t run_list(struct file_op *op)
{
    int fd = openat(op->fd, op->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -1;
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        close(fd);
        errno = ENOMEM;
        return -1;
    }
    uint32_t used_bytes = 0;
    uint64_t index = 0;
    bool is_full = false;
    errno = 0;
    for (struct dirent *e = readdir(dir); e != NULL && !is_full; e = readdir(dir)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (index++ < op->offset) continue;
        size_t bytes = strlen(e->d_name) + 1;
        is_full = bytes > op->bytes - used_bytes;
        if (is_full) break;
        memcpy((char *)op->data + used_bytes, e->d_name, bytes);
        used_bytes += (uint32_t)bytes;
    }
    int error = errno;
    closedir(dir);
    errno = is_full && used_bytes == 0 ? ENAMETOOLONG : error;
    return errno != 0 ? -1 : (int64_t)used_bytes;
}

/* What has the name may be anything: a FIFO would be waited for, a folder could be opened. Neither
 * is a file of the store. */
static int64_t run_open(const struct file_op *op)
{
    struct stat st;
    if (fstatat(op->fd, op->path, &st, 0) == 0 && !S_ISREG(st.st_mode)) {
        errno = (op->open_flags & O_CREAT) != 0 ? EISDIR : ENOENT;
        return -1;
    }
    return openat(op->fd, op->path, op->open_flags | O_CLOEXEC, 0640);
}

/* NFS before 4.2 and some others cannot reserve space. The store can do without: a segment is
 * written through before it is used, and what a manifest has ahead only helps on a full disk. */
static int64_t run_allocate(const struct file_op *op)
{
    struct stat st;
    off_t offset = (off_t)op->offset, bytes = (off_t)op->bytes_total;
    int result = fallocate(op->fd, op->keeps_size ? FALLOC_FL_KEEP_SIZE : 0, offset, bytes);
    if (result == 0 || (errno != EOPNOTSUPP && errno != ENOSYS)) return result;
    if (op->keeps_size) return 0;
    if (fstat(op->fd, &st) != 0) return -1;
    return st.st_size >= offset + bytes ? 0 : ftruncate(op->fd, offset + bytes);
}

int32_t file_threads_run(struct file_op *op)
{
    struct iovec iov = {op->data, op->bytes};
    int64_t result = -1;
    off_t offset = (off_t)op->offset;
    do {
        errno = 0;
        switch (op->kind) {
        case FILE_WRITE:
            result = pwritev2(op->fd, &iov, 1, offset, op->is_durable ? RWF_DSYNC : 0);
            break;
        case FILE_READ: result = preadv(op->fd, &iov, 1, offset); break;
        /* A flush is never retried, not even after a signal: a second one could report success
         * for data that the first one lost. Workers block all signals. */
        case FILE_FLUSH: result = fdatasync(op->fd); break;
        case FILE_FLUSH_DIR: result = run_flush_dir(op); break;
        case FILE_OPEN: result = run_open(op); break;
        case FILE_CLOSE: result = close(op->fd); break;
        case FILE_ALLOCATE: result = run_allocate(op); break;
        case FILE_TRUNCATE: result = ftruncate(op->fd, offset); break;
        case FILE_SIZE: result = run_size(op); break;
        case FILE_RENAME: result = renameat(op->fd, op->path, op->fd, op->path_to); break;
        case FILE_UNLINK: result = unlinkat(op->fd, op->path, 0); break;
        case FILE_MKDIR:
            result = mkdirat(op->fd, op->path, 0750);
            if (result < 0 && errno == EEXIST) result = 0;
            break;
        case FILE_LIST: result = run_list(op); break;
        }
    } while (result < 0 && errno == EINTR && (op->kind == FILE_WRITE || op->kind == FILE_READ));
    if (result < 0) return errno != 0 ? -errno : -EIO;
    return (int32_t)result;
}

static void *worker_main(void *argument)
{
    struct file_threads *f = argument;
    pthread_mutex_lock(&f->lock);
    for (;;) {
        struct file_op *op = op_queue_pop(&f->waiting);
        if (op == NULL) {
            if (f->is_closing) break;
            pthread_cond_wait(&f->has_work, &f->lock);
            continue;
        }
        pthread_mutex_unlock(&f->lock);
        int32_t result = file_threads_run(op);
        pthread_mutex_lock(&f->lock);
        op->result = result;
        bool was_empty = f->finished.first == NULL;
        op_queue_push(&f->finished, op);
        /* Under the lock, so that file_threads_close cannot free context before ring returns. */
        if (was_empty) f->ring(f->context);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* Signals belong to the main thread: workers inherit a mask that blocks them all. */
static bool thread_start(struct file_threads *f)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    enum err e = mem_jemalloc_thread(&f->threads[f->started_count], worker_main, f);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (e != ERR_OK) return false;
    f->started_count++;
    return true;
}

enum err file_threads_open(uint32_t thread_count, void (*ring)(void *context), void *context,
                           struct file_threads **out)
{
    must(thread_count >= 1);
    must(thread_count <= FILE_THREADS_MAX);
    struct file_threads *f = calloc(1, sizeof *f);
    if (f == NULL) return ERR_MEMORY;
    f->ring = ring;
    f->context = context;
    f->thread_count = thread_count;
    op_queue_init(&f->waiting);
    op_queue_init(&f->finished);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->has_work, NULL);
    *out = f;
    return ERR_OK;
}

void file_threads_close(struct file_threads *f)
{
    pthread_mutex_lock(&f->lock);
    f->is_closing = true;
    pthread_cond_broadcast(&f->has_work);
    pthread_mutex_unlock(&f->lock);
    for (uint32_t i = 0; i < f->started_count; i++) pthread_join(f->threads[i], NULL);
    pthread_cond_destroy(&f->has_work);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

enum err file_threads_submit(struct file_threads *f, struct file_op *op)
{
    while (f->started_count < f->thread_count && thread_start(f)) continue;
    if (f->started_count == 0) return ERR_MEMORY;
    pthread_mutex_lock(&f->lock);
    must(!f->is_closing);
    op_queue_push(&f->waiting, op);
    pthread_cond_signal(&f->has_work);
    pthread_mutex_unlock(&f->lock);
    return ERR_OK;
}

struct file_op *file_threads_take(struct file_threads *f)
{
    pthread_mutex_lock(&f->lock);
    struct file_op *first = f->finished.first;
    op_queue_init(&f->finished);
    pthread_mutex_unlock(&f->lock);
    return first;
}
