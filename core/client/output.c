#include "core/client/output.h"
#include "core/base/must.h"

static uint32_t storage_of(uint32_t total)
{
    return total - (uint32_t)sizeof(struct chunk);
}

void output_pool_init(struct output_pool *p, struct mem *mem, uint32_t shard)
{
    *p = (struct output_pool){.mem = mem, .shard = shard};
}

uint64_t output_pool_shrink(struct output_pool *p)
{
    uint64_t freed = p->kept_bytes;
    struct chunk *c;
    while ((c = p->small) != NULL) {
        p->small = c->next;
        mem_free(p->mem, MEM_OUTPUT, c, OUTPUT_SMALL_BYTES);
    }
    while ((c = p->large) != NULL) {
        p->large = c->next;
        mem_free(p->mem, MEM_OUTPUT, c, OUTPUT_LARGE_BYTES);
    }
    p->kept_bytes = 0;
    return freed;
}

void output_pool_deinit(struct output_pool *p)
{
    must(p->pending_bytes == 0);
    output_pool_shrink(p);
}

struct block *block_make(struct output_pool *p, uint32_t capacity)
{
    struct block *b = mem_alloc(p->mem, MEM_OUTPUT, sizeof *b + capacity);
    if (b == NULL) return NULL;
    *b =
        (struct block){.refs = 1, .capacity = capacity, .owner = p->shard, .data = (char *)(b + 1)};
    return b;
}

struct block *block_borrow(struct output_pool *p, uint32_t owner, struct block *origin, char *data,
                           uint32_t len)
{
    must(owner != p->shard && origin != NULL);
    struct block *b = mem_alloc(p->mem, MEM_MAIL, sizeof *b);
    if (b == NULL) return NULL;
    *b = (struct block){.refs = 1, .capacity = len, .owner = owner, .origin = origin, .data = data};
    return b;
}

void block_release(struct output_pool *p, struct block *b)
{
    must(b->refs > 0);
    if (--b->refs > 0) return;
    if (b->origin != NULL)
        p->return_block(p->context, b);
    else
        mem_free(p->mem, MEM_OUTPUT, b, sizeof *b + b->capacity);
}

bool output_pool_ensure(struct output_pool *p, uint64_t bytes)
{
    if (LIKELY(p->kept_bytes >= bytes)) return true;
    if (bytes > OUTPUT_KEPT_BYTES) bytes = OUTPUT_KEPT_BYTES;
    while (p->kept_bytes < bytes) {
        struct chunk *c = mem_alloc(p->mem, MEM_OUTPUT, OUTPUT_LARGE_BYTES);
        if (c == NULL) return false;
        c->next = p->large;
        p->large = c;
        p->kept_bytes += OUTPUT_LARGE_BYTES;
    }
    return true;
}

static struct chunk *chunk_take(struct output_pool *p, uint32_t total)
{
    struct chunk **kept = total == OUTPUT_SMALL_BYTES ? &p->small : &p->large;
    struct chunk *c = NULL;
    if (total <= OUTPUT_LARGE_BYTES && *kept != NULL) {
        c = *kept;
        *kept = c->next;
        p->kept_bytes -= total;
    } else {
        c = mem_alloc(p->mem, MEM_OUTPUT, total);
        /* The last resort for a small one is a large one that is at hand. */
        if (c == NULL && total == OUTPUT_SMALL_BYTES && p->large != NULL)
            return chunk_take(p, OUTPUT_LARGE_BYTES);
        if (c == NULL) return NULL;
    }
    *c = (struct chunk){.data = (char *)(c + 1), .capacity = storage_of(total)};
    return c;
}

static void chunk_free(struct output_pool *p, struct chunk *c)
{
    if (c->block != NULL) {
        block_release(p, c->block);
        mem_free(p->mem, MEM_OUTPUT, c, sizeof *c);
        return;
    }
    uint32_t total = c->capacity + (uint32_t)sizeof *c;
    if (total > OUTPUT_LARGE_BYTES || p->kept_bytes + total > OUTPUT_KEPT_BYTES) {
        mem_free(p->mem, MEM_OUTPUT, c, total);
        return;
    }
    struct chunk **kept = total == OUTPUT_SMALL_BYTES ? &p->small : &p->large;
    must(total == OUTPUT_SMALL_BYTES || total == OUTPUT_LARGE_BYTES);
    c->next = *kept;
    *kept = c;
    p->kept_bytes += total;
}

static void push(struct output *o, struct chunk *c)
{
    if (o->tail == NULL)
        o->head = c;
    else
        o->tail->next = c;
    o->tail = c;
}

/* A connection that lately sent little starts with a small chunk, so that a crowd of quiet
 * receivers costs 4 KiB each while a send is in flight, not 64. */
static uint32_t chunk_total(const struct output *o, uint32_t bytes)
{
    if (bytes > storage_of(OUTPUT_LARGE_BYTES)) return bytes + (uint32_t)sizeof(struct chunk);
    bool is_quiet = o->head == NULL && o->flush_bytes < OUTPUT_SMALL_BYTES / 2;
    return is_quiet && bytes <= storage_of(OUTPUT_SMALL_BYTES) ? OUTPUT_SMALL_BYTES
                                                               : OUTPUT_LARGE_BYTES;
}

char *output_reserve(struct output_pool *p, struct output *o, uint32_t bytes)
{
    struct chunk *t = o->tail;
    if (LIKELY(t != NULL && t->capacity - t->used >= bytes && t->block == NULL))
        return t->data + t->used;
    struct chunk *c = chunk_take(p, chunk_total(o, bytes));
    if (c == NULL) return NULL;
    push(o, c);
    return c->data;
}

enum err output_append(struct output_pool *p, struct output *o, struct bytes b)
{
    char *to = output_reserve(p, o, (uint32_t)b.len);
    if (to == NULL) return ERR_MEMORY;
    memcpy(to, b.data, b.len);
    output_commit(p, o, (uint32_t)b.len);
    return ERR_OK;
}

enum err output_append_block(struct output_pool *p, struct output *o, struct block *b,
                             const char *data, uint32_t len)
{
    must(data >= b->data && data + len <= b->data + b->capacity);
    struct chunk *c = mem_alloc(p->mem, MEM_OUTPUT, sizeof *c);
    if (c == NULL) return ERR_MEMORY;
    *c = (struct chunk){.block = b, .data = b->data + (data - b->data), .used = len};
    b->refs++;
    push(o, c);
    o->pending_bytes += len;
    p->pending_bytes += len;
    return ERR_OK;
}

uint32_t output_gather(struct output *o, struct bytes *runs, uint32_t runs_max, uint64_t bytes_max,
                       uint64_t *bytes)
{
    uint32_t count = 0;
    *bytes = 0;
    for (struct chunk *c = o->head; c != NULL && count < runs_max && *bytes < bytes_max;
         c = c->next) {
        if (c->used == c->sent) continue;
        runs[count++] = bytes_of(c->data + c->sent, c->used - c->sent);
        *bytes += c->used - c->sent;
    }
    o->flush_bytes = *bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)*bytes;
    return count;
}

void output_sent(struct output_pool *p, struct output *o, uint64_t bytes)
{
    must(bytes <= o->pending_bytes);
    o->pending_bytes -= bytes;
    p->pending_bytes -= bytes;
    while (bytes > 0 || (o->head != NULL && o->head->sent == o->head->used)) {
        struct chunk *c = o->head;
        must(c != NULL);
        uint64_t left = c->used - c->sent;
        if (bytes < left) {
            c->sent += (uint32_t)bytes;
            return;
        }
        bytes -= left;
        o->head = c->next;
        if (o->head == NULL) o->tail = NULL;
        chunk_free(p, c);
    }
}

void output_cut(struct output_pool *p, struct output *o)
{
    uint64_t taken = o->flush_bytes;
    struct chunk *c = o->head;
    if (o->pending_bytes <= taken || c == NULL) return;
    while (c->next != NULL && taken > c->used - c->sent) {
        taken -= c->used - c->sent;
        c = c->next;
    }
    o->tail = c;
    while ((c = o->tail->next) != NULL) {
        o->tail->next = c->next;
        o->pending_bytes -= c->used - c->sent;
        p->pending_bytes -= c->used - c->sent;
        chunk_free(p, c);
    }
}

void output_clear(struct output_pool *p, struct output *o)
{
    p->pending_bytes -= o->pending_bytes;
    o->pending_bytes = 0;
    while (o->head != NULL) {
        struct chunk *c = o->head;
        o->head = c->next;
        chunk_free(p, c);
    }
    o->tail = NULL;
}
