/* The provided receive buffers of one ring: one block of memory, cut into buffers of equal size
 * that the kernel fills for whichever socket has bytes.
 *
 * Plain: each completion takes one whole buffer. Incremental (Linux 6.12): completions take
 * pieces of the current buffer, one after the other; so completions must be passed to
 * bufring_take strictly in the order of the completion queue.
 *
 *   in the kernel's ring ─take─► held: pieces given out ─release of the last, buffer used up─► back
 *
 * Touched by the ring's thread only. */
#ifndef IO_BUFRING_H
#define IO_BUFRING_H
#include <stdbool.h>
#include <stdint.h>
#include "core/base/err.h"
#include "io/uring.h"

struct bufring_buffer {
    uint32_t used_bytes; /* given out so far; the next piece begins here */
    uint32_t piece_count; /* given out and not released */
    bool is_used_up;     /* the kernel is through with it */
};

struct bufring {
    struct uring *uring;
    struct io_uring_buf_ring *ring; /* shared with the kernel */
    char *memory;
    struct bufring_buffer *buffers;
    uint32_t count; /* a power of two */
    uint32_t buffer_bytes;
    uint32_t available; /* buffers that the kernel still has, a begun one included */
    uint16_t group;
    uint16_t tail;      /* what the kernel sees after the next publish */
    bool is_incremental;
};

struct bufring_piece {
    char *data;
    uint32_t bytes;
    uint32_t buffer; /* for bufring_release */
};

/* ERR_UNSUPPORTED: the kernel does not know this kind of buffer ring. */
NODISCARD enum err bufring_open(struct bufring *b, struct uring *u, uint16_t group, uint32_t count,
                                uint32_t buffer_bytes, bool is_incremental);
/* No armed request may use the ring any more. */
void bufring_close(struct bufring *b);

/* The bytes of a completion that carries a buffer. bytes may be 0: the piece is released all
 * the same. */
struct bufring_piece bufring_take(struct bufring *b, uint32_t cqe_flags, uint32_t bytes);
void bufring_release(struct bufring *b, uint32_t buffer);
/* Shows returned buffers to the kernel; once per turn, before entering. */
void bufring_publish(struct bufring *b);

#endif
