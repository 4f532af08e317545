/* The driver port on io_uring.
 *
 * 1. Every request carries (operation, slot, generation) in its user_data. A socket's slot is
 *    freed only after all its requests completed, so late completions exist only for listeners
 *    and cancels; they meet a dead generation and are dropped (an accepted socket is closed).
 * 2. Port calls change the slot and put it on the todo list; poll() turns the list into entries
 *    before it enters the kernel, once. What finds no free entry stays on the list.
 * 3. A receive is armed once (multishot) and again whenever a completion says that nothing more
 *    follows, for whatever reason. Suspending cancels it by its user_data, which leaves a send on
 *    the same descriptor alone; a cancel may miss and is repeated while the receive stays armed.
 *    A multishot receive takes at most 32 pieces in one go; if more wait when it is armed, and the
 *    peer's reset behind them, the kernel (6.18) does not see the reset. So an arming that brought
 *    as many looks for one, once, and is armed anew.
 * 4. close(2) neither cancels requests nor sends FIN while they hold the file. So closing is
 *    shutdown(2), cancel whatever is left, wait for the last completion, close(2).
 * 5. Received bytes may lie in a buffer with other sockets' bytes: bufring counts the pieces.
 *
 * Slot of a socket, by its two requests:
 *   idle ─todo_step─► receive armed ─no F_MORE─► idle (suspended, starved, ended: stays idle)
 *   send wanted ─todo_step─► send flying ─CQE─► done, or wanted again after a short one
 *   closing ─nothing flies─► free */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
#include "core/base/must.h"
#include "io/bufring.h"
#include "io/driver.h"
#include "io/driver_slots.h"
#include "io/file_threads.h"
#include "io/ring_check.h"
#include "io/ring_wake.h"
#include "io/uring.h"

enum {
    RING_SQ_ENTRIES = 1024,
    RING_CQ_ENTRIES = 16384,
    RING_GROUP = 0,
    RING_FILE_THREADS = 1, /* names and sizes only; data goes through the ring */
    RING_IOWQ_BOUNDED_MAX = 8,
    RING_IOWQ_UNBOUNDED_MAX = 4,
    RING_ACCEPT_PAUSE_NS = 100 * 1000 * 1000,
    RING_REFUSE_MAX = 64,
    RING_SEND_BYTES_MAX = 1 << 30,
    RING_RECVS_AT_ONCE = 32, /* the kernel's MULTISHOT_MAX_RETRY */
    RING_SETTLED,
    RING_CLOSE_ENTERS_MAX = 200,
    RING_CLOSE_ENTER_NS = 10 * 1000 * 1000,
};

/* Upper byte of user_data; then 24 bits slot, 32 bits generation. OP_FILE: 56 bits of pointer. */
enum ring_op {
    OP_RECV = 1,
    OP_SEND,
    OP_ACCEPT,
    OP_WATCH,
    OP_CANCEL, /* of a receive or a listener */
    OP_CANCEL_SEND,
    OP_WAKE,      /* the multishot poll of wake_fd */
    OP_WAKE_SENT, /* a message from another thread; no request of ours */
    OP_FILE,
};

enum { RING_SLOTS_MAX = 1 << 24 };

struct slot {
    struct driver_slot common;
    bool is_armed;         /* the receive, accept or watch flies */
    bool was_armed;        /* once before */
    bool is_cancel_flying; /* that of the receive */
    bool is_send_flying;
    bool is_shut; /* shutdown was called */
    bool is_send_cancel_flying;
    uint8_t arming; /* receives since it was armed, up to RING_RECVS_AT_ONCE; then RING_SETTLED */
};

struct driver_ring {
    struct driver driver;
    struct uring u;
    struct bufring b;
    struct driver_slots slots;
    uint32_t flying_count; /* requests whose last completion is due */
    struct ring_wake wake;
    int reserve_fd;
    bool is_overflowing;
    atomic_bool has_files;
    uint64_t accept_paused_until_ns;
    struct file_threads *files;
    struct file_op *files_taken;   /* ended on a thread, not reported yet */
    struct file_op *files_waiting; /* for an entry of the ring */
    struct file_op **files_waiting_last;
    struct driver_faults *faults;
};

static struct driver_ring *ring_of(struct driver *d)
{
    return (struct driver_ring *)d;
}

static uint64_t user_data_of(enum ring_op op, uint32_t slot, uint32_t generation)
{
    return (uint64_t)op << 56 | (uint64_t)slot << 32 | generation;
}

static struct slot *slot_at(struct driver_ring *p, uint32_t slot)
{
    return (struct slot *)driver_slots_at(&p->slots, slot);
}

static uint64_t slot_user_data(struct driver_ring *p, enum ring_op op, uint32_t slot)
{
    return user_data_of(op, slot, slot_at(p, slot)->common.generation);
}

/* --- making entries: each returns false when the ring has no free one ------------------------ */

static struct io_uring_sqe *entry_take(struct driver_ring *p)
{
    struct io_uring_sqe *sqe = uring_sqe(&p->u);
    if (sqe != NULL) p->flying_count++;
    return sqe;
}

static bool recv_arm(struct driver_ring *p, uint32_t slot)
{
    struct slot *s = slot_at(p, slot);
    struct io_uring_sqe *sqe = entry_take(p);
    if (sqe == NULL) return false;
    io_uring_prep_recv_multishot(sqe, s->common.fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = RING_GROUP;
    sqe->user_data = slot_user_data(p, OP_RECV, slot);
    s->is_armed = true;
    s->arming = 0;
    if (s->was_armed) p->driver.count.recv_rearms++;
    s->was_armed = true;
    return true;
}

static bool recv_cancel(struct driver_ring *p, uint32_t slot)
{
    struct io_uring_sqe *sqe = entry_take(p);
    if (sqe == NULL) return false;
    io_uring_prep_cancel64(sqe, slot_user_data(p, OP_RECV, slot), 0);
    sqe->user_data = slot_user_data(p, OP_CANCEL, slot);
    slot_at(p, slot)->is_cancel_flying = true;
    return true;
}

static bool send_cancel(struct driver_ring *p, uint32_t slot)
{
    struct io_uring_sqe *sqe = entry_take(p);
    if (sqe == NULL) return false;
    io_uring_prep_cancel64(sqe, slot_user_data(p, OP_SEND, slot), 0);
    sqe->user_data = slot_user_data(p, OP_CANCEL_SEND, slot);
    slot_at(p, slot)->is_send_cancel_flying = true;
    return true;
}

/* The kernel compares every request in flight: for listeners, not for a crowd of sockets. 15 000
 * that closed together kept it busy for 35 s. */
static bool fd_cancel(struct driver_ring *p, uint32_t slot)
{
    struct io_uring_sqe *sqe = entry_take(p);
    if (sqe == NULL) return false;
    io_uring_prep_cancel_fd(sqe, slot_at(p, slot)->common.fd, IORING_ASYNC_CANCEL_ALL);
    sqe->user_data = slot_user_data(p, OP_CANCEL, slot);
    return true;
}

static bool accept_arm(struct driver_ring *p, uint32_t slot)
{
    struct io_uring_sqe *sqe = entry_take(p);
    if (sqe == NULL) return false;
    io_uring_prep_multishot_accept(sqe, slot_at(p, slot)->common.fd, NULL, NULL,
                                   SOCK_NONBLOCK | SOCK_CLOEXEC);
    sqe->user_data = slot_user_data(p, OP_ACCEPT, slot);
    slot_at(p, slot)->is_armed = true;
    return true;
}

/* One shot, armed anew at the next poll: so a descriptor that is still readable is seen again. */
static bool watch_arm(struct driver_ring *p, uint32_t slot)
{
    struct io_uring_sqe *sqe = entry_take(p);
    if (sqe == NULL) return false;
    io_uring_prep_poll_add(sqe, slot_at(p, slot)->common.fd, POLLIN);
    sqe->user_data = slot_user_data(p, OP_WATCH, slot);
    slot_at(p, slot)->is_armed = true;
    return true;
}

static bool wake_arm(struct driver_ring *p)
{
    struct io_uring_sqe *sqe = entry_take(p);
    if (sqe == NULL) return false;
    ring_wake_prepare(&p->wake, sqe);
    sqe->user_data = user_data_of(OP_WAKE, 0, 0);
    return true;
}

static bool send_start(struct driver_ring *p, uint32_t slot)
{
    const int flags = MSG_WAITALL | MSG_NOSIGNAL;
    struct slot *s = slot_at(p, slot);
    struct io_uring_sqe *sqe = entry_take(p);
    if (sqe == NULL) return false;
    uint32_t count;
    struct iovec *iov = driver_slots_send_rest(&s->common, &count);
    size_t bytes = driver_slots_send_cap(p->faults, iov->iov_len);
    if (count == 1 || bytes < iov->iov_len) {
        if (bytes > RING_SEND_BYTES_MAX) bytes = RING_SEND_BYTES_MAX;
        io_uring_prep_send(sqe, s->common.fd, iov->iov_base, bytes, flags);
    } else {
        struct msghdr *message = &s->common.send_pieces->message;
        *message = (struct msghdr){.msg_iov = iov, .msg_iovlen = count};
        io_uring_prep_sendmsg(sqe, s->common.fd, message, (unsigned)flags);
    }
    sqe->user_data = slot_user_data(p, OP_SEND, slot);
    s->common.is_send_wanted = false;
    s->is_send_flying = true;
    return true;
}

static bool file_start(struct driver_ring *p, struct file_op *op)
{
    struct io_uring_sqe *sqe = entry_take(p);
    if (sqe == NULL) return false;
    switch (op->kind) {
    case FILE_WRITE:
        io_uring_prep_write(sqe, op->fd, op->data, op->bytes, op->offset);
        sqe->rw_flags = op->is_durable ? RWF_DSYNC : 0;
        break;
    case FILE_READ: io_uring_prep_read(sqe, op->fd, op->data, op->bytes, op->offset); break;
    case FILE_FLUSH: io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC); break;
    default: must(!"goes to a thread");
    }
    sqe->user_data = (uint64_t)OP_FILE << 56 | (uint64_t)(uintptr_t)op;
    return true;
}

/* --- the todo list ---------------------------------------------------------------------------- */

static void send_done(struct driver_ring *p, uint32_t slot, int32_t result, struct done **at)
{
    struct driver_slot *s = &slot_at(p, slot)->common;
    driver_slots_send_end(&p->slots, s);
    driver_slots_report(at, DONE_SENT, slot, s->tag, result);
}

/* Reports at most two completions. False: no free entry, to be called again. */
static bool close_step(struct driver_ring *p, uint32_t slot, struct done **at)
{
    struct slot *s = slot_at(p, slot);
    if (s->common.is_send_wanted) send_done(p, slot, -ECANCELED, at);
    bool is_flying = s->is_armed || s->is_send_flying;
    if (is_flying && !s->is_shut) {
        p->driver.count.syscalls++;
        shutdown(s->common.fd, SHUT_RDWR);
        s->is_shut = true;
    }
    if (s->is_armed && !s->is_cancel_flying && !recv_cancel(p, slot)) return false;
    if (s->is_send_flying && !s->is_send_cancel_flying && !send_cancel(p, slot)) return false;
    if (is_flying || s->is_cancel_flying || s->is_send_cancel_flying) return true;
    p->driver.count.syscalls++;
    close(s->common.fd);
    driver_slots_free(&p->slots, slot);
    driver_slots_report(at, DONE_CLOSED, slot, s->common.tag, 0);
    return true;
}

static bool is_reset(struct driver_ring *p, int fd)
{
    struct pollfd at = {.fd = fd};
    p->driver.count.syscalls++;
    return poll(&at, 1, 0) == 1 && (at.revents & (POLLERR | POLLHUP)) != 0;
}

/* Rule 3. A reset from now on wakes the receive. */
static bool recv_settle(struct driver_ring *p, uint32_t slot)
{
    struct slot *s = slot_at(p, slot);
    if (is_reset(p, s->common.fd)) return recv_cancel(p, slot);
    s->arming = RING_SETTLED;
    return true;
}

static bool socket_step(struct driver_ring *p, uint32_t slot, struct done **at)
{
    struct slot *s = slot_at(p, slot);
    if (s->common.is_closing) return close_step(p, slot, at);
    if (s->common.is_send_wanted) {
        if (s->common.send_bytes < 0)
            send_done(p, slot, s->common.send_bytes, at);
        else if (!send_start(p, slot))
            return false;
    }
    bool wants_recv = !s->common.is_suspended && !s->common.is_recv_ended;
    if (wants_recv && !s->is_armed && !s->common.is_starved) {
        if (bufring_available(&p->b) == 0)
            driver_slots_starve(&p->slots, slot);
        else
            return recv_arm(p, slot);
    }
    if (!s->is_armed || s->is_cancel_flying) return true;
    if (!wants_recv) return recv_cancel(p, slot);
    return s->arming != RING_RECVS_AT_ONCE || recv_settle(p, slot);
}

static bool todo_step(struct driver_ring *p, uint32_t slot, struct done **at)
{
    struct slot *s = slot_at(p, slot);
    switch ((enum driver_slot_kind)s->common.kind) {
    case DRIVER_SLOT_FREE: return true;
    case DRIVER_SLOT_LISTENER:
        return s->is_armed || p->accept_paused_until_ns != 0 || accept_arm(p, slot);
    case DRIVER_SLOT_WATCH: return s->is_armed || watch_arm(p, slot);
    case DRIVER_SLOT_SOCKET: return socket_step(p, slot, at);
    }
    return true;
}

static void todo_work(struct driver_ring *p, struct done **at, struct done *end)
{
    uint32_t last = p->slots.todo.last;
    while (p->slots.todo.first != DRIVER_SLOT_NONE && end - *at >= 2) {
        uint32_t slot = p->slots.todo.first;
        if (!todo_step(p, slot, at)) break;
        driver_slots_todo_pop(&p->slots);
        if (slot == last) break;
    }
    while (p->files_waiting != NULL && file_start(p, p->files_waiting)) {
        p->files_waiting = p->files_waiting->next;
        if (p->files_waiting == NULL) p->files_waiting_last = &p->files_waiting;
    }
    if (!p->wake.is_armed) wake_arm(p);
}

/* --- completions: each reports at most one ---------------------------------------------------- */

static void recv_ended(struct driver_ring *p, uint32_t slot, int32_t result, struct done **at)
{
    struct slot *s = slot_at(p, slot);
    s->common.is_recv_ended = true;
    driver_slots_todo(&p->slots, slot);
    driver_slots_report(at, result == 0 ? DONE_EOF : DONE_ERROR, slot, s->common.tag, result);
}

static void recv_bytes(struct driver_ring *p, uint32_t slot, struct bufring_piece piece,
                       struct done **at)
{
    struct slot *s = slot_at(p, slot);
    p->driver.count.recvs++;
    p->driver.count.recv_bytes += piece.bytes;
    if (s->arming < RING_RECVS_AT_ONCE && ++s->arming == RING_RECVS_AT_ONCE)
        driver_slots_todo(&p->slots, slot);
    struct done *d = driver_slots_report(at, DONE_RECV, slot, s->common.tag, (int32_t)piece.bytes);
    d->buffer = piece.buffer;
    d->data = piece.data;
    d->len = piece.bytes;
}

static void on_recv(struct driver_ring *p, uint32_t slot, const struct io_uring_cqe *cqe,
                    struct done **at)
{
    struct slot *s = slot_at(p, slot);
    int32_t result = cqe->res;
    bool has_buffer = (cqe->flags & IORING_CQE_F_BUFFER) != 0;
    struct bufring_piece piece = {0};
    must(s->common.kind == DRIVER_SLOT_SOCKET && s->is_armed);
    if ((cqe->flags & IORING_CQE_F_MORE) == 0) {
        s->is_armed = false;
        driver_slots_todo(&p->slots, slot);
    }
    if (has_buffer) piece = bufring_take(&p->b, cqe->flags, result > 0 ? (uint32_t)result : 0);
    bool is_wanted = !s->common.is_closing && !s->common.is_recv_ended;
    if (is_wanted && result >= 0 && p->faults != NULL &&
        driver_slots_fault(&p->faults->recvs, p->faults->recv_at))
        result = -p->faults->error;
    if (is_wanted && result > 0) {
        must(has_buffer);
        recv_bytes(p, slot, piece, at);
        return;
    }
    if (has_buffer) bufring_release(&p->b, piece.buffer);
    if (!is_wanted) return;
    if (result == -ENOBUFS) p->driver.count.recv_no_buffers++;
    if (result == -ENOBUFS || result == -ECANCELED || result == -EAGAIN || result == -EINTR)
        return; /* armed anew if it is wanted then */
    recv_ended(p, slot, result, at);
}

static void on_send(struct driver_ring *p, uint32_t slot, int32_t result, struct done **at)
{
    struct slot *s = slot_at(p, slot);
    must(s->common.kind == DRIVER_SLOT_SOCKET && s->is_send_flying);
    s->is_send_flying = false;
    if (s->common.is_closing) driver_slots_todo(&p->slots, slot);
    if (p->faults != NULL && driver_slots_fault(&p->faults->sends, p->faults->send_at))
        result = -p->faults->error;
    if (result < 0 && result != -EINTR && result != -EAGAIN) {
        send_done(p, slot, result, at);
        return;
    }
    if (result > 0) {
        p->driver.count.sent_bytes += (uint64_t)result;
        if (driver_slots_send_advance(&s->common, (size_t)result)) {
            p->driver.count.sends++;
            send_done(p, slot, s->common.send_bytes, at);
            return;
        }
    }
    /* A short one: the rest follows, unless the socket is closing. */
    s->common.is_send_wanted = true;
    driver_slots_todo(&p->slots, slot);
}

static void on_accept(struct driver_ring *p, uint32_t slot, const struct io_uring_cqe *cqe,
                      bool is_live, struct done **at)
{
    struct slot *s = slot_at(p, slot);
    int32_t result = cqe->res;
    if (!is_live) {
        if (result >= 0) close(result);
        return;
    }
    if ((cqe->flags & IORING_CQE_F_MORE) == 0) {
        s->is_armed = false;
        driver_slots_todo(&p->slots, slot);
    }
    if (result >= 0 && p->faults != NULL &&
        driver_slots_fault(&p->faults->accepts, p->faults->accept_at)) {
        close(result);
        result = -p->faults->error;
    }
    if (result >= 0) {
        driver_slots_report(at, DONE_ACCEPT, slot, s->common.tag, 0)->fd = result;
        return;
    }
    if (result == -ECANCELED || result == -EAGAIN || result == -EINTR) return;
    if (result == -EMFILE || result == -ENFILE)
        p->driver.count.syscalls +=
            4 * driver_slots_refuse(s->common.fd, &p->reserve_fd, p->wake.fd, RING_REFUSE_MAX);
    /* While descriptors are short arming fails at once, even without a connection. */
    if (!s->is_armed && driver_slots_accept_must_pause(-result))
        p->accept_paused_until_ns = driver_slots_now_ns() + RING_ACCEPT_PAUSE_NS;
    driver_slots_report(at, DONE_ACCEPT, slot, s->common.tag, result);
}

static void on_cancel(struct driver_ring *p, uint32_t slot, const struct io_uring_cqe *cqe,
                      bool is_send)
{
    struct slot *s = slot_at(p, slot);
    if (s->common.kind != DRIVER_SLOT_SOCKET) return;
    *(is_send ? &s->is_send_cancel_flying : &s->is_cancel_flying) = false;
    /* Missed, or closing may go on. */
    if (cqe->res < 0 || s->common.is_closing) driver_slots_todo(&p->slots, slot);
}

static void on_wake(struct driver_ring *p, struct done **at)
{
    if (!ring_wake_taken(&p->wake)) return;
    p->driver.count.wakes++;
    driver_slots_report(at, DONE_WAKE, 0, 0, 0);
}

static void on_file(struct driver_ring *p, struct file_op *op, int32_t result, struct done **at)
{
    if (p->faults != NULL && driver_slots_fault(&p->faults->files, p->faults->file_at))
        result = -p->faults->error;
    driver_slots_report(at, DONE_FILE, 0, 0, result)->user = op->user;
}

static void completion_run(struct driver_ring *p, const struct io_uring_cqe *cqe, struct done **at)
{
    enum ring_op op = (enum ring_op)(cqe->user_data >> 56);
    uint32_t slot = (uint32_t)(cqe->user_data >> 32) & (RING_SLOTS_MAX - 1);
    if (op != OP_WAKE_SENT && (cqe->flags & IORING_CQE_F_MORE) == 0) {
        must(p->flying_count > 0);
        p->flying_count--;
    }
    switch (op) {
    case OP_WAKE:
        if ((cqe->flags & IORING_CQE_F_MORE) == 0) p->wake.is_armed = false;
        on_wake(p, at);
        return;
    case OP_WAKE_SENT: on_wake(p, at); return;
    case OP_FILE:
        on_file(p, (struct file_op *)(uintptr_t)(cqe->user_data << 8 >> 8), cqe->res, at);
        return;
    default: break;
    }
    bool is_live = slot_at(p, slot)->common.generation == (uint32_t)cqe->user_data;
    switch (op) {
    case OP_RECV:
        must(is_live);
        on_recv(p, slot, cqe, at);
        return;
    case OP_SEND:
        must(is_live);
        on_send(p, slot, cqe->res, at);
        return;
    case OP_ACCEPT: on_accept(p, slot, cqe, is_live, at); return;
    case OP_CANCEL:
    case OP_CANCEL_SEND:
        if (is_live) on_cancel(p, slot, cqe, op == OP_CANCEL_SEND);
        return;
    case OP_WATCH:
        must(is_live);
        slot_at(p, slot)->is_armed = false;
        driver_slots_todo(&p->slots, slot);
        driver_slots_report(at, DONE_WATCH, slot, slot_at(p, slot)->common.tag, 0);
        return;
    default: must(!"unknown operation");
    }
}

static void completions_reap(struct driver_ring *p, struct done **at, struct done *end)
{
    struct io_uring *ring = &p->u.ring;
    unsigned tail = io_uring_smp_load_acquire(ring->cq.ktail), head = *ring->cq.khead;
    unsigned from = head;
    for (; head != tail && *at < end; head++)
        completion_run(p, &ring->cq.cqes[head & ring->cq.ring_mask], at);
    if (head != from) io_uring_cq_advance(ring, head - from);
    /* The kernel keeps what did not fit on a list, but may end multishot requests: an alarm. */
    bool is_overflowing = io_uring_cq_has_overflow(ring);
    if (is_overflowing && !p->is_overflowing) p->driver.count.cq_overflows++;
    p->is_overflowing = is_overflowing;
}

/* --- port calls ------------------------------------------------------------------------------- */

static enum err ring_listen(struct driver *d, uint32_t slot, uint32_t tag, int fd)
{
    /* For driver_slots_refuse; the ring does not care. */
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) return ERR_INVALID;
    driver_slots_take(&ring_of(d)->slots, slot, tag, fd, DRIVER_SLOT_LISTENER);
    return ERR_OK;
}

static void ring_listen_stop(struct driver *d, uint32_t slot)
{
    struct driver_ring *p = ring_of(d);
    struct slot *s = slot_at(p, slot);
    must(s->common.kind == DRIVER_SLOT_LISTENER);
    /* At once, and with the deferred work that lets go of the file: the caller may close its
     * descriptor and bind the address anew right after this. */
    if (s->is_armed && !fd_cancel(p, slot)) {
        struct io_uring_sync_cancel_reg reg = {.fd = s->common.fd,
                                               .flags =
                                                   IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL,
                                               .timeout = {.tv_sec = -1, .tv_nsec = -1}};
        io_uring_register_sync_cancel(&p->u.ring, &reg);
    }
    if (s->is_armed) uring_enter(&p->u, 0, 0);
    driver_slots_free(&p->slots, slot);
}

static enum err ring_socket_add(struct driver *d, uint32_t slot, uint32_t tag, int fd)
{
    driver_slots_take(&ring_of(d)->slots, slot, tag, fd, DRIVER_SLOT_SOCKET);
    return ERR_OK;
}

static void suspend_set(struct driver_ring *p, uint32_t slot, bool is_suspended)
{
    struct driver_slot *s = &slot_at(p, slot)->common;
    must(s->kind == DRIVER_SLOT_SOCKET);
    s->is_suspended = is_suspended;
    driver_slots_todo(&p->slots, slot);
}

static void ring_recv_suspend(struct driver *d, uint32_t slot)
{
    suspend_set(ring_of(d), slot, true);
}

static void ring_recv_resume(struct driver *d, uint32_t slot)
{
    suspend_set(ring_of(d), slot, false);
}

static void ring_recv_release(struct driver *d, uint32_t buffer)
{
    bufring_release(&ring_of(d)->b, buffer);
}

static void ring_send(struct driver *d, uint32_t slot, const struct iovec *iov, uint32_t count)
{
    driver_slots_send(&ring_of(d)->slots, slot, iov, count);
}

static void ring_socket_close(struct driver *d, uint32_t slot)
{
    struct driver_ring *p = ring_of(d);
    struct slot *s = slot_at(p, slot);
    must(s->common.kind == DRIVER_SLOT_SOCKET);
    s->common.is_closing = true;
    driver_slots_todo(&p->slots, slot);
}

static void ring_watch(struct driver *d, uint32_t slot, int fd)
{
    driver_slots_take(&ring_of(d)->slots, slot, 0, fd, DRIVER_SLOT_WATCH);
}

static void ring_wake(struct driver *d)
{
    ring_wake_once(&ring_of(d)->wake);
}

static void files_ring(void *context)
{
    struct driver_ring *p = context;
    atomic_store(&p->has_files, true);
    ring_wake_write(&p->wake);
}

static enum err ring_file_submit(struct driver *d, struct file_op *op)
{
    struct driver_ring *p = ring_of(d);
    if (op->kind != FILE_WRITE && op->kind != FILE_READ && op->kind != FILE_FLUSH)
        return file_threads_submit(p->files, op);
    op->next = NULL;
    *p->files_waiting_last = op;
    p->files_waiting_last = &op->next;
    return ERR_OK;
}

/* --- one poll --------------------------------------------------------------------------------- */

static void files_report(struct driver_ring *p, struct done **at, struct done *end)
{
    if (p->files_taken == NULL && atomic_load_explicit(&p->has_files, memory_order_relaxed) &&
        atomic_exchange(&p->has_files, false))
        p->files_taken = file_threads_take(p->files);
    while (p->files_taken != NULL && *at < end) {
        struct file_op *op = p->files_taken;
        p->files_taken = op->next;
        on_file(p, op, op->result, at);
    }
}

static uint64_t accept_unpause(struct driver_ring *p, uint64_t timeout_ns)
{
    if (p->accept_paused_until_ns == 0) return timeout_ns;
    uint64_t now = driver_slots_now_ns();
    if (now < p->accept_paused_until_ns) {
        uint64_t left = p->accept_paused_until_ns - now;
        return left < timeout_ns ? left : timeout_ns;
    }
    p->accept_paused_until_ns = 0;
    if (p->reserve_fd < 0) p->reserve_fd = fcntl(p->wake.fd, F_DUPFD_CLOEXEC, 0);
    for (uint32_t i = 0; i < p->slots.count; i++)
        if (slot_at(p, i)->common.kind == DRIVER_SLOT_LISTENER) driver_slots_todo(&p->slots, i);
    return timeout_ns;
}

static uint32_t ring_poll(struct driver *d, struct done *done, uint32_t max, uint64_t timeout_ns)
{
    struct driver_ring *p = ring_of(d);
    must(max >= DRIVER_DONE_MIN);
    struct done *at = done, *end = done + max;
    p->driver.count.polls++;
    timeout_ns = accept_unpause(p, timeout_ns);
    files_report(p, &at, end - 2);
    /* As many as buffers are there: arming more would only end in -ENOBUFS again. */
    driver_slots_feed(&p->slots, bufring_available(&p->b));
    todo_work(p, &at, end);
    bufring_publish(&p->b);

    uint32_t ready = io_uring_cq_ready(&p->u.ring);
    bool must_not_wait =
        ready > 0 || at != done || p->slots.todo.first != DRIVER_SLOT_NONE ||
        p->files_taken != NULL || p->files_waiting != NULL || timeout_ns == 0 ||
        (p->slots.starved.first != DRIVER_SLOT_NONE && bufring_available(&p->b) > 0);
    /* Left over from a fuller poll: worked off before the kernel is asked for more. */
    if (ready < max || uring_queued(&p->u) > 0) {
        p->driver.count.syscalls++;
        uring_enter(&p->u, must_not_wait ? 0 : 1, timeout_ns);
    }
    completions_reap(p, &at, end);
    if (at < end) todo_work(p, &at, end);
    files_report(p, &at, end);
    p->driver.count.completions += (uint64_t)(at - done);
    return (uint32_t)(at - done);
}

/* --- open and close --------------------------------------------------------------------------- */

/* Ends every request, so that nothing refers to buffers or callers' memory any more. File
 * operations end by themselves and are waited for however long that takes. */
static void requests_join(struct driver_ring *p)
{
    struct done done[64];
    for (uint32_t i = 0; i < p->slots.count; i++) {
        struct driver_slot *s = &slot_at(p, i)->common;
        if (s->kind != DRIVER_SLOT_SOCKET) continue;
        s->is_closing = true;
        shutdown(s->fd, SHUT_RDWR);
    }
    for (uint32_t i = 0; p->flying_count > 0 && i < RING_CLOSE_ENTERS_MAX; i++) {
        struct io_uring_sqe *sqe = entry_take(p);
        if (sqe != NULL) {
            io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
            sqe->user_data = user_data_of(OP_CANCEL, 0, UINT32_MAX);
        }
        do {
            uring_enter(&p->u, 1, RING_CLOSE_ENTER_NS);
            struct done *at = done;
            completions_reap(p, &at, done + 64);
            for (struct done *d = done; d < at; d++) {
                if (d->kind == DONE_ACCEPT && d->fd >= 0) close(d->fd);
                if (d->kind == DONE_RECV) bufring_release(&p->b, d->buffer);
            }
        } while (io_uring_cq_ready(&p->u.ring) > 0);
    }
}

static void ring_close(struct driver *d)
{
    struct driver_ring *p = ring_of(d);
    file_threads_close(p->files);
    requests_join(p);
    driver_slots_close(&p->slots);
    bufring_close(&p->b);
    uring_close(&p->u);
    close(p->reserve_fd);
    ring_wake_close(&p->wake);
    free(p);
}

static const struct driver_ops ring_ops = {
    .name = "ring",
    .listen = ring_listen,
    .listen_stop = ring_listen_stop,
    .socket_add = ring_socket_add,
    .recv_suspend = ring_recv_suspend,
    .recv_resume = ring_recv_resume,
    .recv_release = ring_recv_release,
    .send = ring_send,
    .socket_close = ring_socket_close,
    .watch = ring_watch,
    .file_submit = ring_file_submit,
    .poll = ring_poll,
    .wake = ring_wake,
    .close = ring_close,
};

/* Kernel workers carry out what would block; without a bound a slow disk makes hundreds. */
static void workers_limit(struct driver_ring *p)
{
    unsigned most[2] = {RING_IOWQ_BOUNDED_MAX, RING_IOWQ_UNBOUNDED_MAX};
    io_uring_register_iowq_max_workers(&p->u.ring, most);
}

enum err driver_ring_open(const struct driver_options *o, struct driver **out, const char **reason)
{
    must(o->slots_max <= RING_SLOTS_MAX);
    bool is_incremental = o->use_io_features && ring_check_recv(true);
    if (!is_incremental && !ring_check_recv(false)) {
        struct uring trial;
        if (uring_open(&trial, 8, 16, reason) != ERR_OK) return ERR_UNSUPPORTED;
        uring_close(&trial);
        *reason = "the kernel's multishot receive failed its trial";
        return ERR_UNSUPPORTED;
    }
    struct driver_ring *p = calloc(1, sizeof *p);
    *reason = "out of memory or descriptors";
    if (p == NULL) return ERR_MEMORY;
    enum err e = ERR_MEMORY;
    p->driver.ops = &ring_ops;
    p->faults = o->faults;
    p->files_waiting_last = &p->files_waiting;
    if (driver_slots_open(&p->slots, o->slots_max, sizeof(struct slot)) != ERR_OK) goto free_driver;
    if (ring_wake_open(&p->wake, &p->u, user_data_of(OP_WAKE_SENT, 0, 0)) != ERR_OK)
        goto free_slots;
    p->reserve_fd = fcntl(p->wake.fd, F_DUPFD_CLOEXEC, 0);
    if (p->reserve_fd < 0) goto close_wake;
    if (file_threads_open(RING_FILE_THREADS, files_ring, p, &p->files) != ERR_OK)
        goto close_reserve;
    e = uring_open(&p->u, RING_SQ_ENTRIES, RING_CQ_ENTRIES, reason);
    if (e != ERR_OK) goto close_files;
    e = ERR_UNSUPPORTED;
    *reason = "the kernel's io_uring lacks operations";
    if (!ring_check_operations(&p->u)) goto close_uring;
    struct bufring_options buffers = {.group = RING_GROUP, .is_incremental = is_incremental};
    bufring_size(&buffers, o->recv_buffer_bytes);
    e = bufring_open(&p->b, &p->u, &buffers);
    *reason = "no receive buffers";
    if (e != ERR_OK) goto close_uring;
    workers_limit(p);
    if (o->use_io_features) ring_wake_try_messages(&p->wake);
    *out = &p->driver;
    *reason = "";
    return ERR_OK;

close_uring:
    uring_close(&p->u);
close_files:
    file_threads_close(p->files);
close_reserve:
    close(p->reserve_fd);
close_wake:
    ring_wake_close(&p->wake);
free_slots:
    driver_slots_close(&p->slots);
free_driver:
    free(p);
    return e;
}
