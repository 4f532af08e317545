#include "io/ring_wake.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "core/base/must.h"

enum { MESSAGE_WAIT_NS = 10 * 1000 * 1000 };

enum err ring_wake_open(struct ring_wake *w, struct uring *u, uint64_t user_data)
{
    *w = (struct ring_wake){.u = u, .user_data = user_data};
    w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return w->fd < 0 ? ERR_MEMORY : ERR_OK;
}

void ring_wake_close(struct ring_wake *w)
{
    close(w->fd);
}

/* Each write to the eventfd is a completion; its counter is never read. */
void ring_wake_prepare(struct ring_wake *w, struct io_uring_sqe *sqe)
{
    io_uring_prep_poll_multishot(sqe, w->fd, POLLIN);
    w->is_armed = true;
}

static bool message_send(struct ring_wake *w)
{
    struct io_uring_sqe sqe = {
        .opcode = IORING_OP_MSG_RING, .fd = w->u->ring.ring_fd, .off = w->user_data};
    return io_uring_register((unsigned)-1, URING_REGISTER_SEND_MSG_RING, &sqe, 1) >= 0;
}

/* The message must arrive, not only be taken. */
static bool message_arrives(struct ring_wake *w)
{
    struct io_uring *ring = &w->u->ring;
    if (!message_send(w)) return false;
    uring_enter(w->u, 1, MESSAGE_WAIT_NS);
    if (io_uring_cq_ready(ring) != 1) return false;
    unsigned head = *ring->cq.khead;
    const struct io_uring_cqe *cqe = &ring->cq.cqes[head & ring->cq.ring_mask];
    bool is_right = cqe->user_data == w->user_data;
    io_uring_cq_advance(ring, 1);
    return is_right;
}

void ring_wake_try_messages(struct ring_wake *w)
{
    w->is_message_known = message_arrives(w);
}

void ring_wake_write(struct ring_wake *w)
{
    /* Without kernel memory for the message the eventfd does it, which needs none. */
    if (w->is_message_known && message_send(w)) return;
    uint64_t one = 1;
    ssize_t written = write(w->fd, &one, sizeof one);
    must(written == (ssize_t)sizeof one);
}

void ring_wake_once(struct ring_wake *w)
{
    if (!atomic_exchange(&w->is_woken, true)) ring_wake_write(w);
}

bool ring_wake_taken(struct ring_wake *w)
{
    return atomic_exchange(&w->is_woken, false);
}
