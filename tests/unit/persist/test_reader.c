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

static const char zeros[BLOCK];

/* A reader of SEGMENTS segments, and the disk that they are on. */
struct rig {
    struct vfs vfs; /* first */
    struct mem_heap heap;
    struct reader reader;
    char *segments[SEGMENTS];
    uint64_t opened; /* files, in the order of the segments: handle and index agree */
    struct vfs_op *ops[OPS_MAX];
    uint32_t count;
    uint64_t seq;
};

static enum err submit(struct vfs *v, struct vfs_op *op)
{
    struct rig *r = (struct rig *)v;
    cr_assert_lt(r->count, OPS_MAX);
    r->ops[r->count++] = op;
    return ERR_OK;
}

static const struct vfs_ops ops = {.submit = submit};

/* The oldest operation ends. */
static bool end_one(struct rig *r)
{
    if (r->count == 0) return false;
    struct vfs_op *op = r->ops[0];
    memmove(r->ops, r->ops + 1, --r->count * sizeof *r->ops);
    op->result = ERR_OK;
    if (op->kind == VFS_OPEN) op->file.handle = r->opened++ % SEGMENTS;
    if (op->kind == VFS_READ) {
        memcpy(op->data, r->segments[op->file.handle] + op->offset, op->bytes);
        op->bytes_done = op->bytes;
    }
    op->done(op);
    return true;
}

static struct rig *open_rig(void)
{
    struct rig *r = calloc(1, sizeof *r);
    r->vfs.ops = &ops;
    mem_heap_init(&r->heap);
    cr_assert_eq(reader_init(&r->reader, &r->vfs, &r->heap.mem, SECRET, 0, CACHE_BLOCKS * BLOCK),
                 ERR_OK);
    for (uint32_t n = 0; n < SEGMENTS; n++) {
        r->segments[n] = calloc(1, SEGMENT_BYTES);
        cr_assert_eq(reader_add(&r->reader, 0, n + 1, 1, SEGMENT_BYTES, SEGMENT_BYTES), ERR_OK);
    }
    return r;
}

/* Requests that still wait are told before it ends. */
static void close_rig(struct rig *r)
{
    struct store_event e;
    const struct read_cache *c = &r->reader.cache;
    reader_stop(&r->reader);
    while (end_one(r)) continue;
    while (reader_next(&r->reader, &e)) continue;
    for (uint32_t i = 0; i < c->block_count; i++) cr_assert_eq(c->blocks[i].pin_count, 0);
    reader_deinit(&r->reader);
    cr_assert_eq(r->heap.live_count, 0);
    for (uint32_t n = 0; n < SEGMENTS; n++) free(r->segments[n]);
    free(r);
}

/* A record in a segment, and the request for it. */
static struct store_read put(struct rig *r, uint32_t n, uint64_t offset, struct bytes content)
{
    struct place_key key = {.secret = SECRET, .segment = n + 1, .incarnation = 1};
    struct record m = {.kind = RECORD_MESSAGE,
                       .stream = 9,
                       .seq = ++r->seq,
                       .subject = BYTES_LITERAL("a"),
                       .body = content};
    record_encode(&m, &key, offset, r->segments[n] + offset);
    return (struct store_read){.place = place_of(0, n + 1, offset),
                               .stream = m.stream,
                               .seq = m.seq,
                               .bytes = record_bytes(&m)};
}

static struct store_read small(struct rig *r, uint32_t n, uint64_t offset)
{
    return put(r, n, offset, BYTES_LITERAL("body"));
}

Test(reader, serves_more_records_across_two_blocks_than_the_cache_has_room_for)
{
    struct rig *r = open_rig();
    struct store_read reads[REQUESTS];
    struct store_event e;
    struct record out;
    for (uint32_t i = 0; i < REQUESTS; i++) {
        /* One of each segment before the second of any. */
        uint64_t offset = (uint64_t)(i / SEGMENTS + 1) * BLOCK - BEFORE;
        reads[i] = put(r, i % SEGMENTS, offset, bytes_of(zeros, BODY));
        cr_assert_eq(reader_read(&r->reader, &reads[i], &out), ERR_BUSY);
    }
    uint32_t told = 0;
    for (uint32_t steps = 0; steps < 1000 && told < REQUESTS; steps++) {
        end_one(r);
        while (reader_next(&r->reader, &e)) {
            cr_assert_eq(e.err, ERR_OK);
            cr_assert_eq(e.record.seq, e.read->seq);
            told++;
        }
    }
    cr_assert_eq(told, REQUESTS);
    close_rig(r);
}

/* All other blocks are on their way: none is left but that of the record and the one before it. */
Test(reader, does_not_read_ahead_into_the_record_that_it_answers_with)
{
    struct rig *r = open_rig();
    struct store_event e;
    struct record out;
    struct store_read before = small(r, 0, 0), at = small(r, 0, BLOCK);
    struct store_read others[] = {small(r, 1, 0), small(r, 2, 0)}, *firsts[] = {&before, &at};
    for (uint32_t i = 0; i < 2; i++) {
        cr_assert_eq(reader_read(&r->reader, firsts[i], &out), ERR_BUSY);
        while (end_one(r)) continue;
        cr_assert(reader_next(&r->reader, &e));
        cr_assert_eq(e.err, ERR_OK);
    }
    for (uint32_t i = 0; i < 2; i++)
        cr_assert_eq(reader_read(&r->reader, &others[i], &out), ERR_BUSY);
    for (uint32_t i = 0; i < 2; i++) cr_assert(end_one(r)); /* their files are open */
    cr_assert_eq(r->count, 2);
    cr_assert_eq(reader_read(&r->reader, &at, &out), ERR_OK);
    for (uint32_t i = 0; i < r->count; i++) {
        const char *to = r->ops[i]->data;
        cr_assert(out.body.data < to || out.body.data >= to + r->ops[i]->bytes);
    }
    close_rig(r);
}

/* The budget is full from the second block on. */
Test(reader, goes_on_with_the_blocks_that_it_has)
{
    struct rig *r = open_rig();
    struct store_event e;
    struct record out;
    for (uint32_t n = 0; n < SEGMENTS; n++) {
        struct store_read q = small(r, n, 0);
        if (n == 1) r->heap.bytes_max = BLOCK;
        cr_assert_eq(reader_read(&r->reader, &q, &out), ERR_BUSY);
        while (end_one(r)) continue;
        cr_assert(reader_next(&r->reader, &e));
        cr_assert_eq(e.err, ERR_OK);
    }
    /* With one block there is no way to have two: it is not asked for over and over. */
    struct store_read q = small(r, 0, BLOCK - RECORD_BYTES_MIN);
    cr_assert_eq(reader_read(&r->reader, &q, &out), ERR_BUSY);
    uint32_t ops_ended = 0;
    for (uint32_t i = 0; i < 100; i++) {
        ops_ended += end_one(r);
        cr_assert(!reader_next(&r->reader, &e));
    }
    cr_assert_leq(ops_ended, 2);
    r->heap.bytes_max = 0;
    bool is_told = false;
    for (uint32_t i = 0; i < 100 && !is_told; i++) {
        end_one(r);
        is_told = reader_next(&r->reader, &e);
    }
    cr_assert(is_told);
    cr_assert_eq(e.err, ERR_OK);
    close_rig(r);
}

/* What is read exactly is handed out where it was read to, and given back at the next call. */
Test(reader, what_is_handed_out_is_not_read_into_meanwhile)
{
    struct rig *r = open_rig();
    struct bytes large = bytes_of(zeros, BLOCK);
    struct store_read reads[] = {put(r, 0, 0, large), put(r, 1, 0, large)};
    struct store_event e;
    struct record out;
    cr_assert_eq(reader_read(&r->reader, &reads[0], &out), ERR_BUSY);
    cr_assert(end_one(r));
    cr_assert_eq(reader_read(&r->reader, &reads[1], &out), ERR_BUSY);
    cr_assert(end_one(r));
    cr_assert(reader_next(&r->reader, &e));
    cr_assert_eq(e.read, &reads[0]);
    cr_assert(end_one(r)); /* the other file is open */
    cr_assert(!reader_next(&r->reader, &e));
    cr_assert(end_one(r));
    cr_assert(reader_next(&r->reader, &e));
    cr_assert_eq(e.read, &reads[1]);
    cr_assert_eq(e.err, ERR_OK);
    close_rig(r);
}
