/* Groups and records of a log: bytes that somebody wrote with the store's own secret, so that the
 * checksums are right and what lies behind them is looked at. The first byte says whether the
 * checksums are mended. Nothing is read outside of the input; what decodes is encoded to the same
 * bytes; and a replay of a segment with these bytes ends, with each of them accounted for. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"
#include "persist/group.h"
#include "persist/record.h"
#include "persist/replay.h"
#include "persist/wire.h"
#include "tests/support/mem_heap.h"
#include "tests/support/vfs_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SEGMENT_BYTES_MAX = 1 << 16 };

static const struct place_key KEY = {
    .secret = 0x1234567812345678, .log = 0, .segment = 1, .incarnation = 1};

static bool lies_in(struct bytes part, const char *data, size_t len)
{
    return part.len == 0 || (part.data >= data && part.data + part.len <= data + len);
}

/* Puts right checksums where a header or a record may be meant. */
static void mend(char *data, size_t size)
{
    for (size_t at = 0; at + GROUP_HEAD_BYTES <= size; at += PLACE_BLOCK_BYTES) {
        wire_put_u64(data + at + 56, place_checksum(&KEY, at, data + at, 56));
        uint64_t end = at + GROUP_HEAD_BYTES + (uint64_t)wire_u32(data + at + 36);
        uint64_t r = at + GROUP_HEAD_BYTES;
        while (r + RECORD_BYTES_MIN <= size && r < end) {
            uint32_t bytes = wire_u32(data + r);
            if (bytes < RECORD_BYTES_MIN || bytes % PLACE_UNIT_BYTES != 0 || bytes > size - r)
                break;
            char *checksum = data + r + bytes - RECORD_CHECKSUM_BYTES;
            wire_put_u64(checksum,
                         place_checksum(&KEY, r, data + r, bytes - RECORD_CHECKSUM_BYTES));
            r += bytes;
        }
    }
}

static void try_record(const char *data, size_t size, size_t at)
{
    struct record r, again;
    uint32_t bytes = 0, bytes_again;
    size_t len = size - at;
    /* As large as what can be seen and no larger, so that a sanitizer sees a read beyond it. */
    char *copy = malloc(len == 0 ? 1 : len);
    must(copy != NULL);
    if (len > 0) memcpy(copy, data + at, len);
    enum err e = record_decode(copy, len, &KEY, at, &r, &bytes);
    if (e == ERR_INCOMPLETE) must(bytes > len);
    if (e == ERR_OK) {
        must(bytes <= len);
        must(lies_in(r.subject, copy, len));
        must(lies_in(r.headers, copy, len));
        must(lies_in(r.body, copy, len));
        if (record_bytes(&r) > 0) {
            must(record_bytes(&r) == bytes);
            char *out = malloc(bytes);
            must(out != NULL);
            record_encode(&r, &KEY, at, out);
            must(record_decode(out, bytes, &KEY, at, &again, &bytes_again) == ERR_OK);
            must(bytes_again == bytes);
            must(memcmp(out, copy, RECORD_HEAD_BYTES) == 0);
            free(out);
        }
    }
    free(copy);
}

struct sums {
    uint64_t records, lost_bytes;
};

static enum err on_record(void *context, const struct record *r, const struct store_stub *stub)
{
    struct sums *s = context;
    must(r->kind > RECORD_NONE);
    must(r->kind < RECORD_KIND_COUNT);
    must(stub->place != 0);
    s->records++;
    return ERR_OK;
}

static void on_lost(void *context, const struct store_lost *lost)
{
    struct sums *s = context;
    must(lost->segment == KEY.segment);
    must(lost->offset + lost->bytes <= SEGMENT_BYTES_MAX);
    s->lost_bytes += lost->bytes;
}

static void try_replay(const char *data, size_t size, bool is_closed, uint64_t durable)
{
    struct vfs_bytes files;
    struct mem_heap heap;
    struct manifest m;
    struct checkpoints all;
    struct sums sums = {0};
    uint64_t room = place_block_up(size);
    mem_heap_init(&heap);
    vfs_bytes_init(&files);
    vfs_bytes_add(&files, "0000-00000001.log", data, size);
    manifest_init(&m, &heap.mem, 0, 7, KEY.secret);
    m.durable_group = durable;
    m.next_segment = 2;
    struct manifest_segment s = {.number = 1,
                                 .incarnation = 1,
                                 .size = room,
                                 .is_closed = is_closed,
                                 .has_checkpoints = is_closed,
                                 .end = is_closed ? room : 0,
                                 .last_group = is_closed ? durable : 0,
                                 .first_group = 1};
    must(manifest_add(&m, &s) == ERR_OK);
    struct recovery_options o = {
        .blocking = &files.blocking,
        .mem = &heap.mem,
        .is_read_only = true,
        .replay = {.context = &sums, .record = on_record, .lost = on_lost}};
    struct recovery_counts counts = {0};
    struct replay_log l;
    checkpoints_init(&all, &heap.mem);
    replay_init(&l, &o, &counts, &m, &all);
    must(replay_segment(&l, 0) == ERR_OK);
    replay_again(&l);
    must(replay_segment(&l, 0) == ERR_OK);
    must(counts.records == sums.records);
    must(files.write_count == 0);
    checkpoints_deinit(&all);
    manifest_deinit(&m);
    must(heap.live_count == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size - 2 > SEGMENT_BYTES_MAX) return 0;
    size_t len = size - 2;
    char *copy = malloc(len == 0 ? 1 : len);
    must(copy != NULL);
    if (len > 0) memcpy(copy, data + 2, len);
    if ((data[0] & 1) != 0) mend(copy, len);
    try_record(copy, len, 0);
    if (len > GROUP_HEAD_BYTES) try_record(copy, len, GROUP_HEAD_BYTES);
    struct group_head h;
    if (len >= GROUP_HEAD_BYTES && group_decode_head(copy, &KEY, 0, len, &h) == ERR_OK) {
        char out[GROUP_HEAD_BYTES];
        group_encode_head(&h, &KEY, 0, out);
        must(memcmp(out, copy, 6) == 0);
        (void)group_is_whole(&h, copy, &KEY, 0);
    }
    if (len > 0) try_replay(copy, len, (data[0] & 2) != 0, data[1]);
    free(copy);
    return 0;
}
