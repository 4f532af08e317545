/* Output of connections: a queue of byte runs per connection, a pool of chunks per shard, and
 * payload blocks that several outputs share.
 *
 * Small payloads are copied into chunks, so that one connection's turn is usually one contiguous
 * send; large ones are referenced (rule R8). Chunks come in two sizes: a small one for a
 * connection that says little, large ones under load; freed ones are kept, most recent first, up
 * to a bound, so that the hot path neither allocates nor touches fresh pages (rule R7).
 *
 * Bytes between `sent` and `used` of the head chunks are in flight while a send is; appending
 * behind them is allowed. Used by one shard's thread only. */
#ifndef CORE_CLIENT_OUTPUT_H
#define CORE_CLIENT_OUTPUT_H
#include "core/base/bytes.h"
#include "core/base/mem.h"

enum {
    OUTPUT_SMALL_BYTES = 4096,
    OUTPUT_LARGE_BYTES = 65536,
    OUTPUT_KEPT_BYTES = 32 << 20, /* free chunks that a shard keeps */
    OUTPUT_REFERENCE_MIN = 4096,  /* payloads from here on are referenced, if they lie in a block */
};

/* A payload that outputs refer to. Only its own shard touches it. A block of another shard is
 * seen through a proxy: data is the lender's, origin the lender's block, which goes home by mail
 * with the last reference (rule M3). */
struct block {
    uint32_t refs;
    uint32_t capacity;    /* bytes of data */
    uint32_t owner;       /* shard that made the bytes */
    uint32_t len;         /* of its maker */
    struct block *origin; /* proxy: the lender's block; NULL: this is no proxy */
    struct block *next;   /* of who takes over proxies */
    char *data;
};

struct chunk {
    struct chunk *next;
    struct block *block; /* referenced bytes; NULL: own storage behind this head */
    char *data;
    uint32_t used, sent;
    uint32_t capacity; /* of own storage; 0 with a block */
};

struct output_pool {
    struct mem *mem;
    struct chunk *small, *large; /* free ones */
    uint64_t kept_bytes;
    uint64_t pending_bytes; /* over all outputs */
    /* Takes over a proxy whose last reference is gone: tells the owner, frees it (its head is all
     * that it has). */
    void (*return_block)(void *context, struct block *proxy);
    void *context;
    uint32_t shard;
};

struct output {
    struct chunk *head, *tail;
    uint64_t pending_bytes; /* not yet reported as sent */
    uint32_t flush_bytes;   /* what the last gather took: picks the chunk size */
};

void output_pool_init(struct output_pool *p, struct mem *mem, uint32_t shard);
/* Frees what is kept; every output must be cleared. */
void output_pool_deinit(struct output_pool *p);
/* Frees kept chunks (memory pressure); returns the bytes. */
uint64_t output_pool_shrink(struct output_pool *p);

/* A block with one reference, or NULL. */
struct block *block_make(struct output_pool *p, uint32_t capacity);
/* A proxy for [data, data + len) of origin, lent by shard owner; one reference. NULL: no memory. */
struct block *block_borrow(struct output_pool *p, uint32_t owner, struct block *origin, char *data,
                           uint32_t len);
void block_release(struct output_pool *p, struct block *b);
/* Makes sure that bytes of chunks are at hand, so that a fan-out does not fail in its middle.
 * False: memory is short. */
bool output_pool_ensure(struct output_pool *p, uint64_t bytes);

/* Room for bytes contiguous bytes at the end; write there, then output_commit. NULL: no memory,
 * nothing changed. */
char *output_reserve(struct output_pool *p, struct output *o, uint32_t bytes);
static inline void output_commit(struct output_pool *p, struct output *o, uint32_t bytes)
{
    o->tail->used += bytes;
    o->pending_bytes += bytes;
    p->pending_bytes += bytes;
}
NODISCARD enum err output_append(struct output_pool *p, struct output *o, struct bytes b);
/* Refers to [data, data + len) inside b. */
NODISCARD enum err output_append_block(struct output_pool *p, struct output *o, struct block *b,
                                       const char *data, uint32_t len);

/* The first runs to send, at most runs_max of them and bytes_max bytes; returns how many runs. */
uint32_t output_gather(struct output *o, struct bytes *runs, uint32_t runs_max, uint64_t bytes_max,
                       uint64_t *bytes);
/* The first bytes of the queue have been sent. */
void output_sent(struct output_pool *p, struct output *o, uint64_t bytes);
void output_clear(struct output_pool *p, struct output *o);
/* Drops all but what the last gather took: the rest of a closed connection's output, while io
 * still sends. */
void output_cut(struct output_pool *p, struct output *o);

#endif
