#include "io/bufring.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "core/base/must.h"

static void buffer_return(struct bufring *b, uint32_t buffer)
{
    struct io_uring_buf *entry = &b->ring->bufs[b->tail & (b->count - 1)];
    b->buffers[buffer] = (struct bufring_buffer){0};
    /* Field by field: the tail of the ring lies in the last bytes of entry 0. */
    entry->addr = (uint64_t)(uintptr_t)(b->memory + (size_t)buffer * b->buffer_bytes);
    entry->len = b->buffer_bytes;
    entry->bid = (uint16_t)buffer;
    b->tail++;
    b->available++;
    must(b->available <= b->count);
}

enum err bufring_open(struct bufring *b, struct uring *u, uint16_t group, uint32_t count,
                      uint32_t buffer_bytes, bool is_incremental)
{
    must(count > 0 && count <= 32768);
    must((count & (count - 1)) == 0);
    *b = (struct bufring){.uring = u,
                          .group = group,
                          .count = count,
                          .buffer_bytes = buffer_bytes,
                          .is_incremental = is_incremental};
    enum err e = ERR_MEMORY;
    size_t ring_bytes = count * sizeof(struct io_uring_buf);
    void *ring = mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ring == MAP_FAILED) return e;
    /* Faulted in now: no message shall pay for it. */
    void *memory = mmap(NULL, (size_t)count * buffer_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) goto unmap_ring;
    b->buffers = calloc(count, sizeof *b->buffers);
    if (b->buffers == NULL) goto unmap_memory;
    b->ring = ring;
    b->memory = memory;
    struct uring_buf_reg reg = {.ring_addr = (uint64_t)(uintptr_t)ring,
                                .ring_entries = count,
                                .bgid = group,
                                .flags = is_incremental ? IOU_PBUF_RING_INC : 0};
    e = ERR_UNSUPPORTED;
    if (io_uring_register((unsigned)u->ring.ring_fd, IORING_REGISTER_PBUF_RING, &reg, 1) < 0)
        goto free_buffers;
    for (uint32_t i = 0; i < count; i++) buffer_return(b, i);
    bufring_publish(b);
    return ERR_OK;

free_buffers:
    free(b->buffers);
unmap_memory:
    munmap(memory, (size_t)count * buffer_bytes);
unmap_ring:
    munmap(ring, ring_bytes);
    return e;
}

void bufring_close(struct bufring *b)
{
    struct uring_buf_reg reg = {.bgid = b->group};
    io_uring_register((unsigned)b->uring->ring.ring_fd, IORING_UNREGISTER_PBUF_RING, &reg, 1);
    munmap(b->memory, (size_t)b->count * b->buffer_bytes);
    munmap(b->ring, b->count * sizeof(struct io_uring_buf));
    free(b->buffers);
}

struct bufring_piece bufring_take(struct bufring *b, uint32_t cqe_flags, uint32_t bytes)
{
    must((cqe_flags & IORING_CQE_F_BUFFER) != 0);
    uint32_t buffer = cqe_flags >> IORING_CQE_BUFFER_SHIFT;
    must(buffer < b->count);
    struct bufring_buffer *f = &b->buffers[buffer];
    must(!f->is_used_up);
    must(bytes <= b->buffer_bytes - f->used_bytes);
    struct bufring_piece piece = {
        .data = b->memory + (size_t)buffer * b->buffer_bytes + f->used_bytes,
        .bytes = bytes,
        .buffer = buffer};
    f->used_bytes += bytes;
    f->piece_count++;
    f->is_used_up = !b->is_incremental || (cqe_flags & IORING_CQE_F_BUF_MORE) == 0;
    if (f->is_used_up) b->available--;
    return piece;
}

void bufring_release(struct bufring *b, uint32_t buffer)
{
    must(buffer < b->count);
    struct bufring_buffer *f = &b->buffers[buffer];
    must(f->piece_count > 0);
    f->piece_count--;
    if (f->piece_count == 0 && f->is_used_up) buffer_return(b, buffer);
}

void bufring_publish(struct bufring *b)
{
    io_uring_smp_store_release(&b->ring->tail, b->tail);
}
