/* The provided receive buffers of one ring: one block of memory, cut into buffers of equal size
 * that the kernel fills for whichever socket has bytes.
 *
 * Plain: each completion takes one whole buffer. Incremental (Linux 6.12): completions take
 * pieces of the current buffer, one after the other; so completions must be passed to
 * bufring_take strictly in the order of the completion queue.
 *
 *   spare ─publish─► in the kernel's ring ─take─► held: pieces given out ─last release─► spare
 *
 * Only a window of the buffers is shown to the kernel at a time, and the ones released last come
 * first: so bytes land in memory that is still in the cache, and no socket can fill more than the
 * window between two turns. The rest of the memory is there for what is held longer.
 *
 * Touched by the ring's thread only. */
#ifndef IO_BUFRING_H
#define IO_BUFRING_H
#include <stdbool.h>
#include <stdint.h>
#include "core/base/err.h"
#include "io/uring.h"

struct bufring_buffer {
    uint32_t used_bytes;  /* given out so far; the next piece begins here */
    uint32_t piece_count; /* given out and not released */
    bool is_used_up;      /* the kernel is through with it */
};

struct bufring {
    struct uring *uring;
    struct io_uring_buf_ring *ring; /* shared with the kernel */
    char *memory;
    struct bufring_buffer *buffers;
    uint32_t count; /* a power of two */
    uint32_t buffer_bytes;
    uint32_t *spares; /* a stack of buffers that nobody has */
    uint32_t spare_count;
    uint32_t window; /* most buffers shown to the kernel */
    uint32_t shown;  /* buffers that the kernel has, a begun one included */
    uint16_t group;
    uint16_t tail; /* what the kernel sees after the next publish */
    bool is_incremental;
};

struct bufring_piece {
    char *data;
    uint32_t bytes;
    uint32_t buffer; /* for bufring_release */
};

struct bufring_options {
    uint32_t count; /* a power of two, at most 32768 */
    uint32_t buffer_bytes;
    uint32_t window; /* 1 to count */
    uint16_t group;
    bool is_incremental;
};

/* For received bytes of sockets: o->is_incremental is set, about bytes of memory are to be had. */
void bufring_size(struct bufring_options *o, uint32_t bytes);
/* ERR_UNSUPPORTED: the kernel does not know this kind of buffer ring. */
NODISCARD enum err bufring_open(struct bufring *b, struct uring *u,
                                const struct bufring_options *o);
/* No armed request may use the ring any more. */
void bufring_close(struct bufring *b);

/* The bytes of a completion that carries a buffer. bytes may be 0: the piece is released all
 * the same. */
struct bufring_piece bufring_take(struct bufring *b, uint32_t cqe_flags, uint32_t bytes);
void bufring_release(struct bufring *b, uint32_t buffer);
/* Fills the window with spare buffers; once per turn, before entering. */
void bufring_publish(struct bufring *b);

/* Buffers that the next receive can find after a publish. */
static inline uint32_t bufring_available(const struct bufring *b)
{
    return b->shown + b->spare_count;
}

#endif
