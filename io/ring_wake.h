/* How other threads get the thread of a ring out of its sleep: a message to the ring, which costs
 * the sender half of what a write to an eventfd does, where the kernel takes one from a thread
 * without a ring; else that write, which a multishot poll of the ring sees.
 *
 * Of the many wakes before one is taken only the first enters the kernel. The flag is cleared when
 * its completion is reaped, so a wake that sees it set is answered by that completion. */
#ifndef IO_RING_WAKE_H
#define IO_RING_WAKE_H
#include <stdatomic.h>
#include "io/uring.h"

struct ring_wake {
    struct uring *u;
    uint64_t user_data;    /* of the completion that a message makes */
    int fd;                /* the eventfd */
    bool is_armed;         /* its poll flies; the owner clears it with its last completion */
    bool is_message_known; /* the kernel takes messages from threads without a ring */
    atomic_bool is_woken;
};

/* u may be opened later. ERR_MEMORY: no descriptor. */
NODISCARD enum err ring_wake_open(struct ring_wake *w, struct uring *u, uint64_t user_data);
void ring_wake_close(struct ring_wake *w);
/* By the thread of the ring, before anything else flies in it: messages are used if one arrives. */
void ring_wake_try_messages(struct ring_wake *w);
/* The poll of the eventfd; the caller sets the user_data. */
void ring_wake_prepare(struct ring_wake *w, struct io_uring_sqe *sqe);

/* From any thread: a completion follows, whatever came before. */
void ring_wake_write(struct ring_wake *w);
/* From any thread: ring_wake_taken will be true once more, at least. */
void ring_wake_once(struct ring_wake *w);
/* By the thread of the ring, for each completion: somebody called ring_wake_once since. */
bool ring_wake_taken(struct ring_wake *w);

#endif
