#include "io/uring.h"
#include <errno.h>
#include <string.h>
#include "core/base/must.h"

/* From the best to what Linux 5.19 has. */
static const unsigned setup_flags[] = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_SUBMIT_ALL,
};

static const char *reason_of(int error)
{
    switch (error) {
    case EPERM:
    case EACCES: return "io_uring is forbidden (container runtime or kernel.io_uring_disabled)";
    case ENOSYS: return "the kernel has no io_uring";
    case EMFILE:
    case ENFILE: return "out of file descriptors";
    case ENOMEM: return "out of memory for io_uring (RLIMIT_MEMLOCK)";
    default: return "io_uring_setup failed";
    }
}

enum err uring_open(struct uring *u, uint32_t sq_entries, uint32_t cq_entries, const char **reason)
{
    const unsigned features = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP | IORING_FEAT_SINGLE_MMAP;
    int result = -EINVAL;
    *u = (struct uring){0};
    for (size_t i = 0; i < sizeof setup_flags / sizeof setup_flags[0] && result == -EINVAL; i++) {
        struct io_uring_params p = {.flags = setup_flags[i] | IORING_SETUP_CQSIZE,
                                    .cq_entries = cq_entries};
        result = io_uring_queue_init_params(sq_entries, &u->ring, &p);
        u->is_deferred = (setup_flags[i] & IORING_SETUP_DEFER_TASKRUN) != 0;
    }
    if (result < 0) {
        *reason = reason_of(-result);
        return ERR_UNSUPPORTED;
    }
    if ((u->ring.features & features) != features) {
        *reason = "the kernel's io_uring is too old";
        io_uring_queue_exit(&u->ring);
        return ERR_UNSUPPORTED;
    }
    /* uring_enter publishes entries by the tail alone, so the index array stays as it is. */
    for (uint32_t i = 0; i < u->ring.sq.ring_entries; i++) u->ring.sq.array[i] = i;
    u->is_registered = io_uring_register_ring_fd(&u->ring) == 1;
    *reason = "";
    return ERR_OK;
}

void uring_close(struct uring *u)
{
    io_uring_queue_exit(&u->ring);
}

struct io_uring_sqe *uring_sqe(struct uring *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    if (sqe == NULL) {
        uring_enter(u, 0, 0);
        sqe = io_uring_get_sqe(&u->ring);
        if (sqe == NULL) return NULL;
    }
    memset(sqe, 0, sizeof *sqe);
    return sqe;
}

int uring_enter(struct uring *u, uint32_t wait_count, uint64_t timeout_ns)
{
    struct __kernel_timespec t = {.tv_sec = (long long)(timeout_ns / 1000000000u),
                                  .tv_nsec = (long long)(timeout_ns % 1000000000u)};
    struct uring_getevents_arg arg = {.ts = (uint64_t)(uintptr_t)&t};
    bool is_timed = wait_count > 0 && timeout_ns != UINT64_MAX;
    unsigned flags = IORING_ENTER_GETEVENTS | (is_timed ? IORING_ENTER_EXT_ARG : 0) |
                     (u->is_registered ? IORING_ENTER_REGISTERED_RING : 0);
    int fd = u->is_registered ? u->ring.enter_ring_fd : u->ring.ring_fd;
    /* Release: the kernel sees the entries before the tail. */
    io_uring_smp_store_release(u->ring.sq.ktail, u->ring.sq.sqe_tail);
    int result = io_uring_enter2((unsigned)fd, uring_queued(u), wait_count, flags,
                                 is_timed ? (void *)&arg : NULL, is_timed ? sizeof arg : 0);
    /* -EEXIST: another thread than the one that opened the ring. -EBADR: completions were lost,
     * which the feature NODROP rules out. */
    must(result != -EEXIST && result != -EBADR && result != -EFAULT && result != -EBADF);
    return result < 0 ? result : 0;
}
