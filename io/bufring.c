#include "io/bufring.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "core/base/must.h"

enum {
    BUFFER_BYTES_PLAIN = 16 * 1024, /* each completion takes a whole one */
    BUFFER_BYTES_INCREMENTAL = 32 * 1024,
    /* Shown to the kernel at a time if incremental; plain ones must be as many as sockets may
     * have something in one turn. Of 16, 32, 64 KiB buffers and windows of 0.5, 1, 4 MiB this
     * pair took the least CPU of a relay and of a sink, counted over both ends. */
    WINDOW_BYTES = 1024 * 1024,
    BUFFERS_MIN = 4,
    BUFFERS_MAX = 32768,
};

void bufring_size(struct bufring_options *o, uint32_t bytes)
{
    o->buffer_bytes = o->is_incremental ? BUFFER_BYTES_INCREMENTAL : BUFFER_BYTES_PLAIN;
    o->count = BUFFERS_MIN;
    while (o->count < BUFFERS_MAX && (uint64_t)o->count * 2 * o->buffer_bytes <= bytes)
        o->count *= 2;
    o->window = o->count;
    if (o->is_incremental && o->window > WINDOW_BYTES / o->buffer_bytes)
        o->window = WINDOW_BYTES / o->buffer_bytes;
}

static void buffer_show(struct bufring *b, uint32_t buffer)
{
    struct io_uring_buf *entry = &b->ring->bufs[b->tail & (b->count - 1)];
    b->buffers[buffer] = (struct bufring_buffer){0};
    /* Field by field: the tail of the ring lies in the last bytes of entry 0. */
    entry->addr = (uint64_t)(uintptr_t)(b->memory + (size_t)buffer * b->buffer_bytes);
    entry->len = b->buffer_bytes;
    entry->bid = (uint16_t)buffer;
    b->tail++;
    b->shown++;
}

enum err bufring_open(struct bufring *b, struct uring *u, const struct bufring_options *o)
{
    must(o->count > 0 && o->count <= 32768);
    must((o->count & (o->count - 1)) == 0);
    must(o->window >= 1 && o->window <= o->count);
    const uint32_t count = o->count;
    const uint32_t buffer_bytes = o->buffer_bytes;
    *b = (struct bufring){.uring = u,
                          .group = o->group,
                          .count = count,
                          .buffer_bytes = buffer_bytes,
                          .window = o->window,
                          .is_incremental = o->is_incremental};
    enum err e = ERR_MEMORY;
    size_t ring_bytes = count * sizeof(struct io_uring_buf);
    void *ring = mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ring == MAP_FAILED) return e;
    /* Faulted in now: no message shall pay for it. */
    void *memory = mmap(NULL, (size_t)count * buffer_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) {
        munmap(ring, ring_bytes);
        return e;
    }
    b->buffers = calloc(count, sizeof *b->buffers);
    b->spares = calloc(count, sizeof *b->spares);
    if (b->buffers == NULL || b->spares == NULL) goto free_buffers;
    b->ring = ring;
    b->memory = memory;
    struct uring_buf_reg reg = {.ring_addr = (uint64_t)(uintptr_t)ring,
                                .ring_entries = count,
                                .bgid = o->group,
                                .flags = o->is_incremental ? IOU_PBUF_RING_INC : 0};
    e = ERR_UNSUPPORTED;
    if (io_uring_register((unsigned)u->ring.ring_fd, IORING_REGISTER_PBUF_RING, &reg, 1) < 0)
        goto free_buffers;
    while (b->spare_count < count) {
        b->spares[b->spare_count] = count - 1 - b->spare_count;
        b->spare_count++;
    }
    bufring_publish(b);
    return ERR_OK;

free_buffers:
    free(b->buffers);
    free(b->spares);
    munmap(memory, (size_t)count * buffer_bytes);
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
    free(b->spares);
}

struct bufring_piece bufring_take(struct bufring *b, uint32_t cqe_flags, uint32_t bytes)
{
    must((cqe_flags & IORING_CQE_F_BUFFER) != 0);
    uint32_t buffer = cqe_flags >> IORING_CQE_BUFFER_SHIFT;
    must(buffer < b->count);
    struct bufring_buffer *f = &b->buffers[buffer];
    must(!f->is_used_up);
    must(bytes <= b->buffer_bytes - f->used_bytes);
    struct bufring_piece piece = {.data =
                                      b->memory + (size_t)buffer * b->buffer_bytes + f->used_bytes,
                                  .bytes = bytes,
                                  .buffer = buffer};
    f->used_bytes += bytes;
    f->piece_count++;
    f->is_used_up = !b->is_incremental || (cqe_flags & IORING_CQE_F_BUF_MORE) == 0;
    if (f->is_used_up) {
        must(b->shown > 0);
        b->shown--;
    }
    return piece;
}

void bufring_release(struct bufring *b, uint32_t buffer)
{
    must(buffer < b->count);
    struct bufring_buffer *f = &b->buffers[buffer];
    must(f->piece_count > 0);
    f->piece_count--;
    if (f->piece_count > 0 || !f->is_used_up) return;
    must(b->spare_count + b->shown < b->count);
    b->spares[b->spare_count++] = buffer;
}

void bufring_publish(struct bufring *b)
{
    while (b->shown < b->window && b->spare_count > 0) buffer_show(b, b->spares[--b->spare_count]);
    io_uring_smp_store_release(&b->ring->tail, b->tail);
}
