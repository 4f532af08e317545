#include <criterion/criterion.h>
#include <string.h>
#include "persist/place.h"
#include "persist/reader.h"
#include "persist/record.h"
#include "tests/support/mem_heap.h"

/* Requests whose records lie across two blocks, more of them than the cache has blocks. */

enum {
    BLOCK = READ_CACHE_BLOCK_BYTES,
    SEGMENTS = 4,
    PER_SEGMENT = 2, /* one behind the first block, one behind the second */
    REQUESTS = SEGMENTS * PER_SEGMENT,
    SEGMENT_BYTES = 4 * BLOCK,
    BODY = 3000,
    BEFORE = 1024, /* of a record, in the block where it begins */
    CACHE_BLOCKS = 4,
    OPS_MAX = 64,
    SECRET = 77,
};

struct disk {
    struct vfs vfs; /* first */
    char *segments[SEGMENTS];
    struct vfs_op *ops[OPS_MAX];
    uint32_t count;
};

static enum err submit(struct vfs *v, struct vfs_op *op)
{
    struct disk *d = (struct disk *)v;
    cr_assert_lt(d->count, OPS_MAX);
    d->ops[d->count++] = op;
    return ERR_OK;
}

static const struct vfs_ops ops = {.submit = submit};

static uint64_t offset_of(uint32_t i)
{
    return (uint64_t)(i % PER_SEGMENT + 1) * BLOCK - BEFORE;
}

/* The oldest operation ends. */
static bool end_one(struct disk *d)
{
    static uint64_t next_handle;
    if (d->count == 0) return false;
    struct vfs_op *op = d->ops[0];
    memmove(d->ops, d->ops + 1, --d->count * sizeof *d->ops);
    op->result = ERR_OK;
    if (op->kind == VFS_OPEN) op->file.handle = next_handle++ % SEGMENTS;
    if (op->kind == VFS_READ) {
        memcpy(op->data, d->segments[op->file.handle] + op->offset, op->bytes);
        op->bytes_done = op->bytes;
    }
    op->done(op);
    return true;
}

Test(reader, serves_more_records_across_two_blocks_than_the_cache_has_room_for)
{
    static struct disk d = {.vfs = {.ops = &ops}};
    static char body[BODY];
    struct mem_heap heap;
    struct reader r;
    mem_heap_init(&heap);
    cr_assert_eq(reader_init(&r, &d.vfs, &heap.mem, SECRET, 0, CACHE_BLOCKS * BLOCK), ERR_OK);
    struct store_read reads[REQUESTS];
    for (uint32_t n = 0; n < SEGMENTS; n++) {
        d.segments[n] = calloc(1, SEGMENT_BYTES);
        cr_assert_eq(reader_add(&r, 0, n + 1, 1, SEGMENT_BYTES, SEGMENT_BYTES), ERR_OK);
    }
    struct store_event e;
    struct record out;
    for (uint32_t i = 0; i < REQUESTS; i++) {
        /* Files are opened in the order of the requests, so handle and segment agree. */
        uint32_t n = i % SEGMENTS, k = i / SEGMENTS;
        uint64_t offset = offset_of(k);
        struct place_key key = {.secret = SECRET, .segment = n + 1, .incarnation = 1};
        struct record m = {.kind = RECORD_MESSAGE,
                           .stream = 9,
                           .seq = i + 1,
                           .subject = BYTES_LITERAL("a"),
                           .body = {body, BODY}};
        record_encode(&m, &key, offset, d.segments[n] + offset);
        reads[i] = (struct store_read){.place = place_of(0, n + 1, offset),
                                       .stream = 9,
                                       .seq = i + 1,
                                       .bytes = record_bytes(&m)};
        cr_assert_eq(reader_read(&r, &reads[i], &out), ERR_BUSY);
    }
    uint32_t told = 0;
    for (uint32_t steps = 0; steps < 1000 && told < REQUESTS; steps++) {
        end_one(&d);
        while (reader_next(&r, &e)) {
            cr_assert_eq(e.err, ERR_OK);
            cr_assert_eq(e.record.seq, e.read->seq);
            told++;
        }
    }
    cr_assert_eq(told, REQUESTS);
    reader_stop(&r);
    while (end_one(&d)) continue;
    for (uint32_t i = 0; i < r.cache.block_count; i++) cr_assert_eq(r.cache.blocks[i].pin_count, 0);
    reader_deinit(&r);
    cr_assert_eq(heap.live_count, 0);
    for (uint32_t n = 0; n < SEGMENTS; n++) free(d.segments[n]);
}

/* A record in a segment, and the request for it. */
static struct store_read put(const struct disk *d, uint32_t n, uint64_t offset,
                             struct bytes content)
{
    struct place_key key = {.secret = SECRET, .segment = n + 1, .incarnation = 1};
    struct record m = {.kind = RECORD_MESSAGE,
                       .stream = 9,
                       .seq = 1,
                       .subject = BYTES_LITERAL("a"),
                       .body = content};
    record_encode(&m, &key, offset, d->segments[n] + offset);
    return (struct store_read){
        .place = place_of(0, n + 1, offset), .stream = 9, .seq = 1, .bytes = record_bytes(&m)};
}

static struct store_read small(const struct disk *d, uint32_t n, uint64_t offset)
{
    return put(d, n, offset, BYTES_LITERAL("body"));
}

/* All other blocks are on their way: none is left but that of the record and the one before it. */
Test(reader, does_not_read_ahead_into_the_record_that_it_answers_with)
{
    static struct disk d = {.vfs = {.ops = &ops}};
    struct mem_heap heap;
    struct reader r;
    mem_heap_init(&heap);
    cr_assert_eq(reader_init(&r, &d.vfs, &heap.mem, SECRET, 0, CACHE_BLOCKS * BLOCK), ERR_OK);
    for (uint32_t n = 0; n < SEGMENTS; n++) {
        d.segments[n] = calloc(1, SEGMENT_BYTES);
        cr_assert_eq(reader_add(&r, 0, n + 1, 1, SEGMENT_BYTES, SEGMENT_BYTES), ERR_OK);
    }
    struct store_event e;
    struct record out;
    struct store_read before = small(&d, 0, 0), at = small(&d, 0, BLOCK);
    struct store_read others[] = {small(&d, 1, 0), small(&d, 2, 0)}, *firsts[] = {&before, &at};
    for (uint32_t i = 0; i < 2; i++) {
        cr_assert_eq(reader_read(&r, firsts[i], &out), ERR_BUSY);
        while (end_one(&d)) continue;
        cr_assert(reader_next(&r, &e));
        cr_assert_eq(e.err, ERR_OK);
    }
    for (uint32_t i = 0; i < 2; i++) cr_assert_eq(reader_read(&r, &others[i], &out), ERR_BUSY);
    for (uint32_t i = 0; i < 2; i++) cr_assert(end_one(&d)); /* their files are open */
    cr_assert_eq(d.count, 2);
    cr_assert_eq(reader_read(&r, &at, &out), ERR_OK);
    for (uint32_t i = 0; i < d.count; i++) {
        const char *to = d.ops[i]->data;
        cr_assert(out.body.data < to || out.body.data >= to + d.ops[i]->bytes);
    }
    reader_stop(&r);
    while (end_one(&d)) continue;
    while (reader_next(&r, &e)) continue;
    for (uint32_t i = 0; i < r.cache.block_count; i++) cr_assert_eq(r.cache.blocks[i].pin_count, 0);
    reader_deinit(&r);
    cr_assert_eq(heap.live_count, 0);
    for (uint32_t n = 0; n < SEGMENTS; n++) free(d.segments[n]);
}

/* The budget is full from the second block on. */
Test(reader, goes_on_with_the_blocks_that_it_has)
{
    static struct disk d = {.vfs = {.ops = &ops}};
    struct mem_heap heap;
    struct reader r;
    mem_heap_init(&heap);
    cr_assert_eq(reader_init(&r, &d.vfs, &heap.mem, SECRET, 0, CACHE_BLOCKS * BLOCK), ERR_OK);
    for (uint32_t n = 0; n < SEGMENTS; n++) {
        d.segments[n] = calloc(1, SEGMENT_BYTES);
        cr_assert_eq(reader_add(&r, 0, n + 1, 1, SEGMENT_BYTES, SEGMENT_BYTES), ERR_OK);
    }
    struct store_event e;
    struct record out;
    for (uint32_t n = 0; n < SEGMENTS; n++) {
        struct store_read q = small(&d, n, 0);
        if (n == 1) heap.bytes_max = BLOCK;
        cr_assert_eq(reader_read(&r, &q, &out), ERR_BUSY);
        while (end_one(&d)) continue;
        cr_assert(reader_next(&r, &e));
        cr_assert_eq(e.err, ERR_OK);
    }
    /* With one block there is no way to have two: it is not asked for over and over. */
    struct store_read q = small(&d, 0, BLOCK - RECORD_BYTES_MIN);
    cr_assert_eq(reader_read(&r, &q, &out), ERR_BUSY);
    uint32_t ops_ended = 0;
    for (uint32_t i = 0; i < 100; i++) {
        ops_ended += end_one(&d);
        cr_assert(!reader_next(&r, &e));
    }
    cr_assert_leq(ops_ended, 2);
    heap.bytes_max = 0;
    bool is_told = false;
    for (uint32_t i = 0; i < 100 && !is_told; i++) {
        end_one(&d);
        is_told = reader_next(&r, &e);
    }
    cr_assert(is_told);
    cr_assert_eq(e.err, ERR_OK);
    reader_stop(&r);
    while (end_one(&d)) continue;
    for (uint32_t i = 0; i < r.cache.block_count; i++) cr_assert_eq(r.cache.blocks[i].pin_count, 0);
    reader_deinit(&r);
    cr_assert_eq(heap.live_count, 0);
    for (uint32_t n = 0; n < SEGMENTS; n++) free(d.segments[n]);
}

/* What is read exactly is handed out where it was read to, and given back at the next call. */
Test(reader, what_is_handed_out_is_not_read_into_meanwhile)
{
    static struct disk d = {.vfs = {.ops = &ops}};
    static char large[BLOCK];
    struct mem_heap heap;
    struct reader r;
    mem_heap_init(&heap);
    cr_assert_eq(reader_init(&r, &d.vfs, &heap.mem, SECRET, 0, CACHE_BLOCKS * BLOCK), ERR_OK);
    struct store_read reads[2];
    for (uint32_t n = 0; n < 2; n++) {
        d.segments[n] = calloc(1, SEGMENT_BYTES);
        cr_assert_eq(reader_add(&r, 0, n + 1, 1, SEGMENT_BYTES, SEGMENT_BYTES), ERR_OK);
        reads[n] = put(&d, n, 0, bytes_of(large, sizeof large));
    }
    struct store_event e;
    struct record out;
    cr_assert_eq(reader_read(&r, &reads[0], &out), ERR_BUSY);
    cr_assert(end_one(&d));
    cr_assert_eq(reader_read(&r, &reads[1], &out), ERR_BUSY);
    cr_assert(end_one(&d));
    cr_assert(reader_next(&r, &e));
    cr_assert_eq(e.read, &reads[0]);
    cr_assert(end_one(&d)); /* the other file is open */
    cr_assert(!reader_next(&r, &e));
    cr_assert(end_one(&d));
    cr_assert(reader_next(&r, &e));
    cr_assert_eq(e.read, &reads[1]);
    cr_assert_eq(e.err, ERR_OK);
    reader_stop(&r);
    while (end_one(&d)) continue;
    reader_deinit(&r);
    cr_assert_eq(heap.live_count, 0);
    for (uint32_t n = 0; n < 2; n++) free(d.segments[n]);
}
